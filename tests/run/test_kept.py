"""The kept output: bounded, whole where it is short, and without the earlier states of progress bars."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.run.kept import Kept, Line, without_overwritten


def kept_of(text: bytes, cuts: list[int], head: int = 1000, tail: int = 1000) -> bytes:
    """What is kept of a text that comes in pieces."""
    kept, line = Kept(head, tail), Line()
    places = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    for start, end in itertools.pairwise(places):
        kept.take(text[start:end], line)
    kept.finish(line)
    whole = kept.text()
    kept.close()
    return whole


LINES = st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"").replace(b"\r", b"")), max_size=20)


@given(LINES, st.lists(st.integers(0, 10_000), max_size=8))
def test_a_short_output_is_kept_as_it_is(lines: list[bytes], cuts: list[int]) -> None:
    """However it comes in pieces."""
    text = b"".join(line + b"\n" for line in lines)

    assert kept_of(text, cuts) == text


@given(
    st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"ab", b"10%", b"x"]), max_size=40), st.lists(st.integers(0, 99))
)
def test_pieces_do_not_change_what_is_left_of_a_progress_bar(parts: list[bytes], cuts: list[int]) -> None:
    """A piece that ends within a line, or between return and line end, makes no difference."""
    text = b"".join(parts)

    assert kept_of(text, cuts) == kept_of(text, [])


@given(st.integers(0, 3000), st.integers(1, 60))
def test_head_and_tail_of_a_long_output_are_kept_within_bounds(count: int, size: int) -> None:
    """First and last lines are whole; what is left out is told."""
    text = b"".join(b"%d %s\n" % (n, b"x" * size) for n in range(count))
    whole = kept_of(text, [1, 7, 50])

    assert len(whole) <= 2000 + 100
    assert whole.startswith(text[:500].rpartition(b"\n")[0])
    assert whole.endswith(text[-500:].partition(b"\n")[2])
    assert (b"bytes are left out here" in whole) == (len(text) > 2000)


def test_progress_bars_leave_their_last_state() -> None:
    """A bar that is drawn a thousand times is one line; what follows it stays."""
    bar = b"".join(b"\r%3d%%|####" % percent for percent in range(101))

    assert kept_of(b"start\n" + bar + b"\nTraceback\r\nend", [3, 200, 333]) == b"start\n100%|####\nTraceback\nend\n"


def test_a_bar_that_ends_with_its_return_is_not_lost() -> None:
    """Some write `text\\r`: the line on the screen is the text."""
    assert without_overwritten(b"1%\r2%\r\n") == b"2%\n"


def test_memory_takes_over_where_the_disk_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails loses nothing of what is to be kept."""
    kept, line = Kept(100, 100), Line()
    kept.take(b"one\n", line)

    def full(handle: int, data: bytes, at: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    kept.take(b"two\n", line)

    assert kept.text() == b"one\ntwo\n"
    assert kept.lost


def test_without_a_temporary_folder_memory_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A TMPDIR that is not there does no harm."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    kept, line = Kept(), Line()
    kept.take(b"one\n", line)

    assert kept.text() == b"one\n"
