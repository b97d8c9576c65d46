"""Progress: a new line, results, bytes written; no clock, no heartbeat, no busy processor."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.run.messages import Sample
from diagnose.run.progress import Progress, essence
from diagnose.run.results import files_in

SAME = [
    (b"still waiting for rank 3 (120 s)\n", b"still waiting for rank 3 (180 s)\n"),
    (b"2026-11-27 08:12:01 INFO waiting\n", b"2026-11-27 09:14:55 INFO waiting\n"),
    (b"[1873.22] no answer\n", b"[2011.07] no answer\n"),
    ("⠋ Loading 0:00:12".encode(), "⠙ Loading 0:00:13".encode()),
    (b"\r 45%|####5  | 45/100 [01:10<01:20, 1.45s/it]", b"\r 45%|####5  | 45/100 [09:10<11:20, 12.45s/it]"),
]
NEW = [
    (b"step 45 loss 2.1\n", b"step 46 loss 2.1\n"),
    (b"\r 45%|####5  | 45/100 [01:10<01:20, 1.45s/it]", b"\r 46%|####6  | 46/100 [01:12<01:18, 1.45s/it]"),
    (b"{'loss': 1.21, 'epoch': 0.1}\n", b"{'loss': 1.19, 'epoch': 0.2}\n"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_a_heartbeat_is_no_progress(one: bytes, other: bytes) -> None:
    """What differs only in clocks and durations is the same line."""
    assert essence(one) == essence(other)


@pytest.mark.parametrize(("one", "other"), NEW)
def test_a_step_is_progress(one: bytes, other: bytes) -> None:
    """A number that counts is new."""
    assert essence(one) != essence(other)


@given(st.binary(max_size=300))
def test_any_bytes_have_an_essence(data: bytes) -> None:
    """Nothing is raised for what a program says."""
    assert b"\n" not in essence(data)


def test_lines_that_come_again_are_no_progress() -> None:
    """Two heartbeats in turn too."""
    progress = Progress()
    for now, line in enumerate((b"a\n", b"b\n", b"a\n", b"b\n", b"a\n")):
        progress.said(line)
        progress.look(float(now))

    assert progress.look(10.0) == 9.0


def test_what_is_written_and_read_is_progress_and_work_is_not() -> None:
    """A checkpoint of gigabytes without a word; spinning processors."""
    progress = Progress()
    progress.saw(Sample(at=100.0, processes=8, cpu=8.0))
    assert progress.look(200.0) == 200.0
    progress.saw(Sample(at=300.0, written=5 << 20))
    assert progress.look(310.0) == 10.0
    progress.saw(Sample(at=400.0, read=5 << 20))
    progress.saw(Sample(at=500.0, written=2000))
    assert progress.look(510.0) == 110.0
    progress.saw(Sample(at=600.0, changed=True))
    assert progress.look(600.0) == 0.0


def test_results_are_seen_and_logs_of_trackers_are_not(tmp_path: Path) -> None:
    """A new checkpoint changes the files, wandb's and TensorBoard's logs do not."""
    before = files_in([str(tmp_path)])
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "debug.txt").write_text("x")
    (tmp_path / "events.out.tfevents.1").write_text("x")
    (tmp_path / "train.log").write_text("x")
    assert files_in([str(tmp_path)]) == before
    (tmp_path / "checkpoint-5").mkdir()
    (tmp_path / "checkpoint-5" / "model.safetensors").write_text("x")

    assert files_in([str(tmp_path)]) != before
