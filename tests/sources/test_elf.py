"""The header of a compiled library is read as the loader reads it, and a damaged one is refused, never worse."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from contextlib import suppress
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diagnose.sources.elf import Elf, ElfError, gnu_hash
from tests.sources.environments import elf

ANY = re.compile(rb"[^\0]+")


def write(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def test_needed_libraries_and_search_folders_are_read(tmp_path: Path) -> None:
    """What a library needs, its name, and where it says to look come out in order."""
    data = elf(needed=["libc10.so", "libcudart.so.12"], soname="libx.so.1", runpath="$ORIGIN:/opt/lib")
    with Elf(write(tmp_path / "x.so", data)) as file:
        assert file.needed == ("libc10.so", "libcudart.so.12")
        assert file.soname == "libx.so.1"
        assert file.runpath == ("$ORIGIN", "/opt/lib")
        assert file.has_runpath
        assert file.header.machine == "x86_64"
        assert file.header.bits == 64


def test_an_rpath_does_not_count_beside_a_runpath(tmp_path: Path) -> None:
    """The loader ignores DT_RPATH where there is a DT_RUNPATH."""
    with Elf(write(tmp_path / "both.so", elf(rpath="/a", runpath="/b"))) as file:
        assert file.rpath == ()
        assert file.runpath == ("/b",)
    with Elf(write(tmp_path / "old.so", elf(rpath="/a:/c"))) as file:
        assert file.rpath == ("/a", "/c")
        assert not file.has_runpath


def test_undefined_symbols_leave_out_weak_ones(tmp_path: Path) -> None:
    """A weak symbol may stay open; only the others must be found."""
    data = elf(undefined=["_ZN3c105ErrorE", "puts"], weak=["__gmon_start__"], exports=["PyInit_x"])
    with Elf(write(tmp_path / "x.so", data)) as file:
        assert file.undefined(ANY) == [b"_ZN3c105ErrorE", b"puts"]
        assert file.undefined(re.compile(rb"_ZN\w+")) == [b"_ZN3c105ErrorE"]


def test_a_pattern_must_match_the_whole_name(tmp_path: Path) -> None:
    """`puts` does not match `puts_unlocked`."""
    with Elf(write(tmp_path / "x.so", elf(undefined=["puts_unlocked"]))) as file:
        assert file.undefined(re.compile(rb"puts")) == []


def test_exports_are_found_through_the_hash_table(tmp_path: Path) -> None:
    """What is defined is found by name, what is only asked for or absent is not."""
    data = elf(undefined=["asked"], exports=["one", "two", "three"])
    with Elf(write(tmp_path / "x.so", data)) as file:
        assert [
            name for name in (b"one", b"two", b"three", b"asked", b"four") if file.exports(name, gnu_hash(name))
        ] == [
            b"one",
            b"two",
            b"three",
        ]


def test_versions_of_symbols_are_read(tmp_path: Path) -> None:
    """The versions that a library asks of others, and those that it brings."""
    data = elf(
        versions_needed={"libc.so.6": ["GLIBC_2.2.5", "GLIBC_2.34"], "libstdc++.so.6": ["GLIBCXX_3.4.30"]},
        versions_defined=["libx.so.1", "X_1.0"],
    )
    with Elf(write(tmp_path / "x.so", data)) as file:
        assert file.versions_needed() == {
            "libc.so.6": ["GLIBC_2.2.5", "GLIBC_2.34"],
            "libstdc++.so.6": ["GLIBCXX_3.4.30"],
        }
        assert file.versions_defined() == ("libx.so.1", "X_1.0")


def test_32_bit_files_of_other_machines_are_read(tmp_path: Path) -> None:
    """The architecture is told for files that this machine cannot run, and their tables are read as well."""
    path = write(
        tmp_path / "x.so", elf(needed=["libm.so.6"], undefined=["sin"], exports=["f"], machine="i386", wide=False)
    )
    with Elf(path) as file:
        assert (file.header.machine, file.header.bits) == ("i386", 32)
        assert file.needed == ("libm.so.6",)
        assert file.undefined(ANY) == [b"sin"]
        assert file.exports(b"f", gnu_hash(b"f"))


@pytest.mark.parametrize(
    ("data", "why"),
    [(b"", "empty"), (b"version https://git-lfs.github.com/spec/v1\n", "no ELF"), (b"\x7fELF\x02\x01", "cut off")],
)
def test_what_is_no_library_is_refused_with_a_reason(tmp_path: Path, data: bytes, why: str) -> None:
    """An empty file, a text and a stump each say what they are."""
    with pytest.raises(ElfError, match=why):
        Elf(write(tmp_path / "x.so", data))


def test_a_folder_a_pipe_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    """Nothing that is not a plain file is waited for."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "absent", "nul\0byte"):
        with pytest.raises(ElfError):
            Elf(str(path))


def read_all(path: str) -> None:
    with Elf(path) as file:
        _ = (file.needed, file.soname, file.rpath, file.runpath, file.names())
        file.undefined(ANY)
        file.exports(b"one", gnu_hash(b"one"))
        file.versions_needed()
        file.versions_defined()


GOOD = elf(
    needed=["libc.so.6"], exports=["one", "two"], undefined=["three"], versions_needed={"libc.so.6": ["GLIBC_2.17"]}
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=400), st.integers(0, len(GOOD)))
def test_any_bytes_are_read_or_refused(tmp_path: Path, noise: bytes, at: int) -> None:
    """Garbage in any place gives an ElfError or some answer, and nothing else."""
    path = write(tmp_path / "x.so", GOOD[:at] + noise + GOOD[at + len(noise) :])
    with suppress(ElfError):
        read_all(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(GOOD) - 1))
def test_a_file_cut_off_anywhere_is_read_or_refused(tmp_path: Path, size: int) -> None:
    """A download that broke off is an ElfError, not an exception of its own."""
    path = write(tmp_path / "x.so", GOOD[:size])
    with suppress(ElfError):
        read_all(path)


@settings(max_examples=100)
@given(st.binary(max_size=5000))
def test_the_hash_is_that_of_the_loader(name: bytes) -> None:
    """The fast way to the hash gives what its definition gives."""
    value = 5381
    for byte in name:
        value = (value * 33 + byte) % 2**32
    assert gnu_hash(name) == value


def modules_of_python() -> list[str]:
    folder = Path(sysconfig.get_path("stdlib")) / "lib-dynload"
    return [str(path) for path in sorted(folder.glob("*.so"))[:5]]


@pytest.mark.parametrize("path", modules_of_python(), ids=os.path.basename)
def test_real_modules_read_as_pyelftools_reads_them(path: str) -> None:
    """Needed libraries, undefined and exported symbols agree with an independent reader."""
    with open(path, "rb") as stream:
        other = ELFFile(stream)
        symbols = list(other.get_section_by_name(".dynsym").iter_symbols())
        needed = [
            tag.needed for tag in other.get_section_by_name(".dynamic").iter_tags() if tag.entry.d_tag == "DT_NEEDED"
        ]
    undefined = {
        s.name for s in symbols if s["st_shndx"] == "SHN_UNDEF" and s["st_info"]["bind"] == "STB_GLOBAL" and s.name
    }
    defined = {s.name for s in symbols if s["st_shndx"] != "SHN_UNDEF" and s["st_info"]["bind"] == "STB_GLOBAL"}
    with Elf(path) as file:
        assert list(file.needed) == needed
        assert {name.decode() for name in file.undefined(ANY)} == undefined
        assert all(file.exports(name.encode(), gnu_hash(name.encode())) for name in defined)
        assert not any(file.exports(name.encode(), gnu_hash(name.encode())) for name in undefined)


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no compiler")
def test_a_library_that_exports_nothing_still_tells_what_it_needs(tmp_path: Path) -> None:
    """Without exports the hash table does not tell how many symbols there are; the section headers do."""
    source = tmp_path / "x.c"
    source.write_text(
        'extern int puts(const char*);\nstatic void __attribute__((constructor)) f(void) { puts("x"); }\n'
    )
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "x.so", source], check=True)
    with Elf(str(tmp_path / "x.so")) as file:
        assert b"puts" in file.undefined(ANY)
