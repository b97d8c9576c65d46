"""Files of others are read within limits, and what is no plain file is not read at all."""

from __future__ import annotations

import os
from pathlib import Path

from diagnose.sources.files import names_in, read_bytes, read_text, why_unreadable


def test_no_more_than_asked_for_is_read(tmp_path: Path) -> None:
    """A file of any size costs what the limit allows."""
    path = tmp_path / "large"
    path.write_bytes(b"x" * 1000)
    assert read_bytes(str(path), 10) == b"x" * 10
    assert read_bytes(str(path)) == b"x" * 1000
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    assert len(read_bytes(str(path), 1 << 20) or b"") == 1 << 20


def test_pipes_devices_and_folders_are_not_read(tmp_path: Path) -> None:
    """None of them is waited for."""
    os.mkfifo(tmp_path / "pipe")
    for path in (str(tmp_path / "pipe"), "/dev/zero", str(tmp_path), str(tmp_path / "absent"), "a\0b"):
        assert read_bytes(path) is None


def test_text_is_decoded_whatever_it_is(tmp_path: Path) -> None:
    """What is not UTF-8 is replaced."""
    path = tmp_path / "text"
    path.write_bytes("José".encode("latin-1"))
    assert read_text(str(path)) == "Jos\ufffd"


def test_files_of_the_kernel_are_read_though_they_say_they_are_empty() -> None:
    """/proc says that a file has no bytes, and has some."""
    if os.path.exists("/proc/self/status"):
        assert "Name:" in (read_text("/proc/self/status") or "")


def test_names_are_sorted_or_none(tmp_path: Path) -> None:
    """An empty folder is not the same as none."""
    assert names_in(str(tmp_path)) == []
    (tmp_path / "b").touch()
    (tmp_path / "a").touch()
    assert names_in(str(tmp_path)) == ["a", "b"]
    assert names_in(str(tmp_path / "c")) is None
    assert names_in("a\0b") is None


def test_why_something_cannot_be_read_is_said_in_words(tmp_path: Path) -> None:
    """The system's own words; nothing for what can be read."""
    assert "No such file" in why_unreadable(str(tmp_path / "absent"))
    assert why_unreadable(str(tmp_path)) == ""
