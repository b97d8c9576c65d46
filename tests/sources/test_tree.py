"""Small files below a root: every question has an answer, and none of them waits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from diagnose.sources.tree import Tree


def test_names_lie_below_the_root(tmp_path: Path) -> None:
    """An absolute name is looked for below the root."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/version").write_text(" Linux \n")
    tree = Tree(str(tmp_path))
    assert tree.text("/proc/version") == "Linux"
    assert tree.names("/proc") == ["version"]
    assert tree.exists("/proc/version")


def test_what_is_not_there_is_nothing(tmp_path: Path) -> None:
    """A missing file, folder or link is an answer, not an error."""
    tree = Tree(str(tmp_path))
    assert tree.text("/no/such/file") is None
    assert tree.bytes("/") is None
    assert tree.names("/no/such/folder") == []
    assert tree.link("/no/such/link") == ""
    assert not tree.exists("/no/such/file")
    assert not tree.usable("/no/such/file")


def test_only_so_much_is_read(tmp_path: Path) -> None:
    """A file without end costs no more than was asked for."""
    (tmp_path / "large").write_bytes(b"x" * 300_000)
    assert len(Tree(str(tmp_path)).bytes("/large", 70_000) or b"") == 70_000


def test_pipes_and_devices_are_not_read(tmp_path: Path) -> None:
    """A pipe that nobody writes to would be waited for."""
    os.mkfifo(tmp_path / "pipe")
    assert Tree(str(tmp_path)).bytes("/pipe") is None
    assert Tree().bytes("/dev/null") is None


def test_bytes_that_are_no_text_are_shown(tmp_path: Path) -> None:
    """Undecodable bytes do not hide the rest."""
    (tmp_path / "file").write_bytes(b"a\xffb")
    assert Tree(str(tmp_path)).text("/file") == "a\ufffdb"


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is denied to root")
def test_a_file_without_rights_is_not_usable(tmp_path: Path) -> None:
    """What this user may not open is there, and not usable."""
    (tmp_path / "file").touch(mode=0o400)
    assert Tree(str(tmp_path)).exists("/file")
    assert not Tree(str(tmp_path)).usable("/file")
