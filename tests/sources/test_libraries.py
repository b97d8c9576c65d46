"""The loader's choice among several files of one name is worked out in the loader's own order."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.sources.libraries import Loader, library_path, read_cache, unresolved
from tests.sources.environments import elf


class World:
    """A folder of libraries and a program that loads them."""

    def __init__(self, folder: Path, **program: object) -> None:
        self.folder = folder
        self.program = self.add("bin/python", exports=["Py_BytesMain"], **program)

    def add(self, path: str, **parts: object) -> str:
        """A library; its soname is its file's name."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(elf(**{"soname": target.name, **parts}))  # type: ignore[arg-type]
        return str(target)

    def load(self, path: str, **environ: str) -> tuple[dict[str, str], list[str]]:
        """Load a library: the files by name (relative to the folder), and what is missing."""
        loader = Loader(self.program, environ)
        try:
            loaded = loader.start()
            loader.load(path, loaded)
            files = {
                name: os.path.relpath(os.path.realpath(lib.path), self.folder) for name, lib in loaded.libraries.items()
            }
            return files, [miss.name for miss in loaded.missing]
        finally:
            loader.close()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_library_beside_the_one_that_asks_is_found_through_its_runpath(world: World) -> None:
    """$ORIGIN is the folder of the library that has the runpath."""
    world.add("lib/libx.so.1")
    files, missing = world.load(world.add("lib/ext.so", needed=["libx.so.1", "libnone.so.7"], runpath="$ORIGIN"))
    assert files["libx.so.1"] == "lib/libx.so.1"
    assert missing == ["libnone.so.7"]


def test_library_path_wins_over_a_runpath_and_loses_to_an_rpath(world: World) -> None:
    """That is why it matters which of the two torch's wheels have."""
    world.add("wheel/libx.so.1")
    world.add("system/libx.so.1")
    environ = {"LD_LIBRARY_PATH": str(world.folder / "system")}
    new = world.add("a/new.so", needed=["libx.so.1"], runpath="$ORIGIN/../wheel")
    old = world.add("a/old.so", needed=["libx.so.1"], rpath="$ORIGIN/../wheel")
    assert world.load(new, **environ)[0]["libx.so.1"] == "system/libx.so.1"
    assert world.load(old, **environ)[0]["libx.so.1"] == "wheel/libx.so.1"
    assert world.load(new)[0]["libx.so.1"] == "wheel/libx.so.1"


def test_an_rpath_holds_for_what_is_loaded_through_it_and_a_runpath_does_not(world: World) -> None:
    """libcusparse finds libnvJitLink through torch's rpath; with a runpath it would not."""
    world.add("wheel/libinner.so.1")
    world.add("wheel/libouter.so.1", needed=["libinner.so.1"])
    old = world.add("a/old.so", needed=["libouter.so.1"], rpath="$ORIGIN/../wheel")
    new = world.add("a/new.so", needed=["libouter.so.1"], runpath="$ORIGIN/../wheel")
    assert world.load(old)[1] == []
    assert world.load(new)[1] == ["libinner.so.1"]


def test_what_has_a_runpath_does_not_look_into_the_rpath_of_its_loader(world: World) -> None:
    """A runpath of its own, even a useless one, switches all rpaths off."""
    world.add("wheel/libinner.so.1")
    world.add("wheel/libouter.so.1", needed=["libinner.so.1"], runpath="/nonexistent")
    assert world.load(world.add("a/x.so", needed=["libouter.so.1"], rpath="$ORIGIN/../wheel"))[1] == ["libinner.so.1"]


def test_the_programs_own_rpath_serves_its_extensions(tmp_path: Path) -> None:
    """conda's python has an rpath to its lib folder, so extensions get conda's libraries."""
    world = World(tmp_path, rpath="$ORIGIN/../lib")
    world.add("lib/libconda.so.1")
    assert world.load(world.add("site/ext.so", needed=["libconda.so.1"]))[0]["libconda.so.1"] == "lib/libconda.so.1"


def test_a_name_that_is_loaded_already_is_not_looked_for(world: World) -> None:
    """What came first under a soname serves everybody after it."""
    world.add("first/libx.so.1")
    world.add("second/libx.so.1")
    loader = Loader(world.program, {})
    loaded = loader.start()
    loader.load(str(world.folder / "first/libx.so.1"), loaded)
    loader.load(world.add("a/ext.so", needed=["libx.so.1"], runpath="$ORIGIN/../second"), loaded)
    loader.close()
    assert loaded.libraries["libx.so.1"].path.endswith("first/libx.so.1")


def test_a_file_of_another_machine_is_passed_over(world: World) -> None:
    """The loader goes on looking when it meets one."""
    world.add("wrong/libx.so.1", machine="aarch64")
    world.add("right/libx.so.1")
    path = world.add("a/ext.so", needed=["libx.so.1"], runpath="$ORIGIN/../wrong:$ORIGIN/../right")
    assert world.load(path)[0]["libx.so.1"] == "right/libx.so.1"


def test_a_damaged_library_is_told(world: World) -> None:
    """It is found and cannot be read, which is not the same as missing."""
    (world.folder / "lib").mkdir()
    (world.folder / "lib" / "libx.so.1").write_bytes(b"\x7fELF")
    loader = Loader(world.program, {})
    loaded = loader.start()
    loader.load(world.add("a/ext.so", needed=["libx.so.1"], runpath="$ORIGIN/../lib"), loaded)
    loader.close()
    assert [os.path.basename(path) for path in loaded.damaged] == ["libx.so.1"]
    assert not loaded.missing


def test_libraries_that_need_each_other_are_loaded_once(world: World) -> None:
    """A circle of needs comes to an end."""
    world.add("lib/liba.so.1", needed=["libb.so.1"], runpath="$ORIGIN")
    world.add("lib/libb.so.1", needed=["liba.so.1"], runpath="$ORIGIN")
    files, missing = world.load(str(world.folder / "lib" / "liba.so.1"))
    assert set(files) >= {"liba.so.1", "libb.so.1"}
    assert not missing


def test_unresolved_names_are_those_that_nobody_exports(world: World) -> None:
    """Each library is asked through its hash table."""
    loader = Loader(world.program, {})
    loaded = loader.start()
    loader.load(world.add("lib/libc10.so", exports=["one", "two"]), loaded)
    loader.load(world.add("lib/libtorch.so", exports=["three"]), loaded)
    assert list(unresolved([b"one", b"three", b"four"], loaded.libraries.values())) == [b"four"]
    loader.close()


def test_the_library_path_is_split_as_the_loader_splits_it() -> None:
    """Colons and semicolons; an empty part is the working directory."""
    assert library_path({}) == ()
    assert library_path({"LD_LIBRARY_PATH": "/a:/b;/c"}) == ("/a", "/b", "/c")
    assert library_path({"LD_LIBRARY_PATH": "/a:"}) == ("/a", ".")


def cache_file(entries: list[tuple[str, str]]) -> bytes:
    texts, rows, at = b"", b"", 48 + 24 * len(entries)
    for key, value in entries:
        rows += struct.pack("=iIIIQ", 0x303, at + len(texts), at + len(texts) + len(key) + 1, 0, 0)
        texts += key.encode() + b"\0" + value.encode() + b"\0"
    return b"glibc-ld.so.cache1.1" + struct.pack("=II", len(entries), len(texts)) + b"\0" * 20 + rows + texts


def test_the_systems_cache_is_read(tmp_path: Path) -> None:
    """All files of a name, in order; the old form in front of the new one is skipped."""
    path = tmp_path / "ld.so.cache"
    data = cache_file([("libx.so.1", "/a/libx.so.1"), ("libx.so.1", "/b/libx.so.1"), ("liby.so", "/a/liby.so")])
    path.write_bytes(data)
    expected = {"libx.so.1": ["/a/libx.so.1", "/b/libx.so.1"], "liby.so": ["/a/liby.so"]}
    assert read_cache(str(path)) == expected
    path.write_bytes(b"ld.so-1.7.0\0" + b"\0" * 36 + data)
    assert read_cache(str(path)) == expected
    assert read_cache(str(tmp_path / "absent")) == {}


@given(st.binary(max_size=300), st.integers(0, 120))
def test_a_damaged_cache_is_read_as_far_as_it_goes(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int
) -> None:
    """Whatever stands in it, nothing raises."""
    path = tmp_path_factory.getbasetemp() / "noise.cache"
    data = cache_file([("libx.so.1", "/a/libx.so.1")])
    path.write_bytes(data[:at] + noise)
    assert isinstance(read_cache(str(path)), dict)


def test_the_real_loader_agrees_about_a_real_program() -> None:
    """The libraries predicted for this interpreter are those that it has mapped."""
    if not os.path.exists("/proc/self/maps"):
        pytest.skip("no /proc")
    program = os.path.realpath(sys.executable)
    loader = Loader(program, os.environ)
    predicted = {os.path.realpath(lib.path) for lib in loader.start().libraries.values()}
    loader.close()
    with open("/proc/self/maps") as maps:
        mapped = {os.path.realpath(line.split()[-1]) for line in maps if ".so" in line}
    assert predicted <= mapped


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no compiler")
@pytest.mark.parametrize("tags", ["--enable-new-dtags", "--disable-new-dtags"])
def test_the_real_loader_agrees_about_search_order(tmp_path: Path, tags: str) -> None:
    """Two libraries of one name, one through the search path of the extension and one through LD_LIBRARY_PATH."""
    for folder, answer in (("wheel", 1), ("system", 2)):
        (tmp_path / folder).mkdir()
        source = tmp_path / folder / "x.c"
        source.write_text(f"int which(void) {{ return {answer}; }}\n")
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-Wl,-soname,libwhich.so.1", "-o", tmp_path / folder / "libwhich.so.1", source],
            check=True,
        )
    ext = tmp_path / "ext.so"
    source = tmp_path / "ext.c"
    source.write_text("extern int which(void); int ask(void) { return which(); }\n")
    subprocess.run(
        [
            "cc",
            "-shared",
            "-fPIC",
            "-o",
            ext,
            source,
            tmp_path / "wheel" / "libwhich.so.1",
            f"-Wl,{tags}",
            "-Wl,-rpath,$ORIGIN/wheel",
        ],
        check=True,
    )
    environ = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path / "system")}
    script = f"import ctypes; print(ctypes.CDLL({str(ext)!r}).ask())"
    real = subprocess.run(
        [sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True
    ).stdout
    loader = Loader(os.path.realpath(sys.executable), environ)
    loaded = loader.start()
    loader.load(str(ext), loaded)
    chosen = loaded.libraries["libwhich.so.1"].path
    loader.close()
    assert os.path.basename(os.path.dirname(chosen)) == {"1": "wheel", "2": "system"}[real.strip()]
