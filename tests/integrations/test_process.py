"""What is shown in another program's streams, whatever they are."""

from __future__ import annotations

from io import BytesIO, StringIO, TextIOWrapper

from diagnose.integrations.process import show


def test_a_report_is_shown_on_a_stream_that_knows_no_utf_8() -> None:
    """What it cannot write is written as Python names it."""
    kept = BytesIO()
    stream = TextIOWrapper(kept, encoding="ascii")
    show("looking … 5 % · done", stream)

    assert kept.getvalue() == b"looking \\u2026 5 % \\xb7 done\n"


def test_a_stream_that_is_closed_or_not_there_is_left_alone() -> None:
    """A program without standard error, as under pythonw or a daemon, ends as it would without us."""
    closed = StringIO()
    closed.close()
    show("report", closed)
    show("report", None)
