"""Installed distributions are read from their dist-info, whole or broken, and their files are missed when they are gone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diagnose.sources.distributions import (
    Distribution,
    missing_files,
    read_metadata,
    read_record,
    read_site,
    read_wheel,
    wrong_tags,
)
from tests.sources.environments import install


def only(site: Path) -> Distribution:
    found = read_site(str(site)).distributions
    assert len(found) == 1
    return found[0]


def test_a_distribution_is_read(tmp_path: Path) -> None:
    """Name in canonical form, version, requirements, installer; the description is not taken for fields."""
    install(tmp_path, "Flash_Attn", "2.8.3+cu12torch2.8", requires=["torch", 'ninja; extra == "dev"'], python=">=3.9")
    dist = only(tmp_path)
    assert (dist.name, dist.version) == ("flash-attn", "2.8.3+cu12torch2.8")
    assert dist.requires == ("torch", 'ninja; extra == "dev"')
    assert (dist.requires_python, dist.installer, dist.broken) == (">=3.9", "pip", "")


def test_fields_may_be_folded_and_written_in_any_case(tmp_path: Path) -> None:
    """A long requirement may go on in the next line; carriage returns are no part of a value."""
    path = tmp_path / "METADATA"
    path.write_bytes(b"NAME: x\r\nversion: 1.0\r\nRequires-Dist: torch\r\n  (>=2.0)\r\n\r\nName: y\r\n")
    fields, broken = read_metadata(str(path))
    assert fields == {"name": ["x"], "version": ["1.0"], "requires-dist": ["torch (>=2.0)"], "requires-python": []}
    assert not broken


def test_what_is_wrong_with_metadata_is_told(tmp_path: Path) -> None:
    """Missing, empty, without version, not UTF-8, and a dist-info that is a file; the version of the folder's name remains."""
    for name, data, broken in (
        ("empty", b"", "METADATA is empty"),
        ("blank", b"\n\n", "METADATA is empty"),
        ("unversioned", b"Name: unversioned\n\n", "no Version in METADATA"),
        ("nameless", b"Version: 1.0\n\n", "no Name in METADATA"),
        ("latin", "Name: latin\nVersion: 1.0\nAuthor: José\n\n".encode("latin-1"), "METADATA is not UTF-8"),
    ):
        site = tmp_path / name
        install(site, name, metadata=data)
        dist = only(site)
        assert (dist.name, dist.version, dist.broken) == (name, "1.0", broken)
    site = tmp_path / "missing"
    (install(site, "missing") / "METADATA").unlink()
    assert only(site).broken == "METADATA is missing"
    site = tmp_path / "file"
    site.mkdir()
    (site / "odd-2.0.dist-info").write_text("not a folder")
    assert only(site).broken == "the dist-info is not a folder"


def test_a_huge_metadata_is_read_in_part(tmp_path: Path) -> None:
    """The header is at the beginning; a gigabyte behind it costs nothing."""
    info = install(tmp_path, "huge", "3.1")
    with (info / "METADATA").open("r+b") as file:
        file.truncate(1 << 30)
    dist = only(tmp_path)
    assert (dist.version, dist.broken) == ("3.1", "")


def test_a_pipe_in_place_of_metadata_is_not_waited_for(tmp_path: Path) -> None:
    """Nothing but a plain file is read."""
    info = install(tmp_path, "pipe")
    (info / "METADATA").unlink()
    os.mkfifo(info / "METADATA")
    assert only(tmp_path).broken == "METADATA is not a file"


def test_links_in_a_circle_are_no_trouble(tmp_path: Path) -> None:
    """A dist-info that links to itself is broken, and the others are read."""
    (tmp_path / "loop-1.0.dist-info").symlink_to(tmp_path / "loop-1.0.dist-info")
    install(tmp_path, "sound")
    assert {dist.name: dist.broken for dist in read_site(str(tmp_path)).distributions} == {
        "loop": "the dist-info is not a folder",
        "sound": "",
    }


def test_legacy_metadata_is_read(tmp_path: Path) -> None:
    """An egg-info, folder or file, is a distribution too."""
    (tmp_path / "old-1.2-py3.11.egg-info").write_text("Name: old\nVersion: 1.2\n")
    (tmp_path / "older.egg-info").mkdir()
    (tmp_path / "older.egg-info" / "PKG-INFO").write_text("Name: older\nVersion: 0.9\n")
    found = {dist.name: (dist.version, dist.legacy) for dist in read_site(str(tmp_path)).distributions}
    assert found == {"old": ("1.2", True), "older": ("0.9", True)}


def test_leftovers_and_added_folders_are_told(tmp_path: Path) -> None:
    """pip's half-removed folders, and the folders that .pth files add; lines of code in them are not run."""
    sources = tmp_path / "sources"
    sources.mkdir()
    site = tmp_path / "site"
    (site / "~orch").mkdir(parents=True)
    (site / "~orch-2.4.0.dist-info").mkdir()
    (site / "mine.pth").write_text(f"# comment\nimport sys; sys.exit(1)\n{sources}\n/nonexistent\n\0\n")
    (site / "garbage.pth").write_bytes(bytes(range(256)))
    read = read_site(str(site))
    assert sorted(read.leftovers) == ["~orch", "~orch-2.4.0.dist-info"]
    assert read.added == (str(sources),)
    assert read.distributions == ()


def test_an_unreadable_folder_is_unchecked(tmp_path: Path) -> None:
    """No packages is not the same as packages that could not be read."""
    read = read_site(str(tmp_path / "absent"))
    assert read.distributions == ()
    assert "absent" in read.unchecked[0].what


def test_editable_installs_tell_their_folder(tmp_path: Path) -> None:
    """direct_url.json says where the sources are; garbage in it says nothing."""
    info = install(tmp_path, "vllm", "0.11.0", editable="/work/my%20vllm")
    assert only(tmp_path).editable == "/work/my vllm"
    (info / "direct_url.json").write_bytes(b'{"url": ' + b"[" * 100_000)
    assert only(tmp_path).editable == ""


def test_a_record_lists_main_files_only(tmp_path: Path) -> None:
    """Top-level modules and shared libraries; deep files, paths out of the folder and quoted lines do not disturb."""
    install(
        tmp_path,
        "pack",
        files={"pack/__init__.py": "", "pack/deep/__init__.py": "", "single.py": "", "pack/_C.so": b"x"},
    )
    record_file = tmp_path / "pack-1.0.dist-info" / "RECORD"
    record_file.write_text(
        record_file.read_text() + '../../bin/pack,,\n"pack/a,b.so",,\n../evil.so,,\n/abs.so,,\n,,,\n\0\n'
    )
    record = read_record(only(tmp_path))
    assert record is not None
    assert record.modules == ("pack/__init__.py", "single.py")
    assert record.libraries == ("pack/_C.so",)


def test_missing_files_are_missed(tmp_path: Path) -> None:
    """What RECORD lists and the folder does not have."""
    install(tmp_path, "gone", files={"gone/__init__.py": "", "gone/_C.so": b"x"})
    record = read_record(only(tmp_path))
    assert record is not None
    entries = read_site(str(tmp_path)).entries
    assert missing_files(only(tmp_path), record, entries) == []
    (tmp_path / "gone" / "__init__.py").unlink()
    assert missing_files(only(tmp_path), record, entries) == ["gone/__init__.py"]


def test_no_record_is_not_an_empty_one(tmp_path: Path) -> None:
    """Where nothing is listed nothing can be missed."""
    info = install(tmp_path, "bare")
    (info / "RECORD").unlink()
    assert read_record(only(tmp_path)) is None
    (info / "RECORD").write_text("\n")
    assert read_record(only(tmp_path)) is None


@pytest.mark.parametrize(
    ("tag", "why"),
    [
        ("py3-none-any", ""),
        ("py2.py3-none-any", ""),
        ("cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64", ""),
        ("cp38-abi3-manylinux1_x86_64", ""),
        ("cp310-cp310-linux_x86_64", "python"),
        ("cp312-abi3-linux_x86_64", "python"),
        ("cp311-cp311t-linux_x86_64", "abi"),
        ("pp310-pypy310_pp73-linux_x86_64", "python"),
        ("cp311-cp311-manylinux_2_17_aarch64", "machine"),
        ("cp311-cp311-win_amd64", "platform"),
        ("py3-none-macosx_11_0_arm64", "platform"),
        ("py312-none-any", "python"),
        ("py311-none-any", ""),
        ("cp311-none-any", ""),
    ],
)
def test_a_wheel_tag_fits_or_does_not(tag: str, why: str) -> None:
    """Judged for CPython 3.11 on x86_64 Linux, as pip judges it before it installs."""
    assert wrong_tags([tag], "cp311", "x86_64") == why


def test_one_fitting_tag_is_enough() -> None:
    """A wheel may carry several tags; and without a known interpreter nothing is said."""
    assert wrong_tags(["cp310-cp310-linux_x86_64", "cp311-cp311-linux_x86_64"], "cp311", "x86_64") == ""
    assert wrong_tags(["cp310-cp310-linux_x86_64"], "", "x86_64") == ""
    assert wrong_tags([], "cp311", "x86_64") == ""


def test_abi3_is_not_for_free_threaded_builds() -> None:
    """The stable ABI is that of the usual build only."""
    assert wrong_tags(["cp38-abi3-linux_x86_64"], "cp313t", "x86_64") == "abi"
    assert wrong_tags(["cp313-cp313t-linux_x86_64"], "cp313t", "x86_64") == ""
    assert wrong_tags(["cp315-abi3t-linux_x86_64"], "cp316t", "x86_64") == ""
    assert wrong_tags(["cp315-abi3.abi3t-linux_x86_64"], "cp315t", "x86_64") == ""
    assert wrong_tags(["cp315-abi3.abi3t-linux_x86_64"], "cp315", "x86_64") == ""
    assert wrong_tags(["cp315-abi3t-linux_x86_64"], "cp314t", "x86_64") == "python"


NOISE = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@NOISE
@given(st.binary(max_size=500), st.binary(max_size=500), st.binary(max_size=300), st.binary(max_size=200))
def test_any_bytes_in_a_dist_info_are_survived(
    tmp_path: Path, metadata: bytes, record: bytes, wheel: bytes, url: bytes
) -> None:
    """Whatever a damaged disk or a hostile package writes there, the site is read and names stay plain."""
    info = install(tmp_path, "noise", metadata=b"Name: " + metadata)
    (info / "RECORD").write_bytes(record)
    (info / "WHEEL").write_bytes(b"Tag: " + wheel)
    (info / "direct_url.json").write_bytes(url)
    dist = only(tmp_path)
    assert all(char.isalnum() or char == "-" for char in dist.name)
    listed = read_record(dist)
    if listed is not None:
        missing_files(dist, listed, read_site(str(tmp_path)).entries)
    wrong_tags(read_wheel(dist), "cp311", "x86_64")


@given(st.from_regex(r"[a-z]{2,3}\d{1,4}(\.[a-z]{2}\d{1,3})?-[a-z0-9_.]{1,12}-[a-z0-9_.]{1,30}", fullmatch=True))
def test_any_tag_is_judged(tag: str) -> None:
    """Every tag that can be written gets one of the known answers."""
    assert wrong_tags([tag], "cp312", "aarch64") in ("", "python", "abi", "platform", "machine")
