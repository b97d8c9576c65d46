"""Files are written whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from diagnose import written


def test_what_was_there_stays_if_there_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is left beside it."""
    (tmp_path / "a").write_text("before", encoding="utf-8")

    def fail(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        written.whole(str(tmp_path / "a"), b"after")

    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == {"a": "before"}


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_a_new_file_has_the_mode_that_others_have(tmp_path: Path, mask: int, mode: int) -> None:
    """As the umask says, which is left as it was."""
    before = os.umask(mask)
    try:
        written.whole(str(tmp_path / "a"), b"x")
    finally:
        assert os.umask(before) == mask

    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


def test_the_mode_of_a_file_is_kept(tmp_path: Path) -> None:
    """Whatever new ones would have."""
    (tmp_path / "a").write_text("before", encoding="utf-8")
    (tmp_path / "a").chmod(0o640)
    written.whole(str(tmp_path / "a"), b"after")

    assert (tmp_path / "a").read_bytes() == b"after"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_a_private_file_is_the_owners_alone(tmp_path: Path) -> None:
    """What tells of a machine is read by others when its owner sends it."""
    written.whole(str(tmp_path / "a"), b"x", private=True)

    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
