"""Our figures beside published ones: close, and those that docs/memory.md shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.published import Published, off, rows, table

DOCUMENT = Path(__file__).parent.parent / "docs" / "memory.md"


@pytest.mark.parametrize("row", list(rows()), ids=lambda row: f"{row.model}: {row.setting}")
def test_ours_is_within_15_percent_of_what_was_published(row: Published) -> None:
    """For every model and setting of the table."""
    assert abs(off(row)) < 0.15


def test_at_least_six_models_are_compared() -> None:
    """Served and tuned."""
    assert len({row.model for row in rows()}) >= 8


def test_the_document_shows_the_table_as_it_is_now() -> None:
    """It is made anew with `python -m tests.published`."""
    assert table() in DOCUMENT.read_text(encoding="utf-8")
