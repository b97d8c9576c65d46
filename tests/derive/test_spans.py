"""Which releases a span holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.derive.spans import runs, within

RELEASES = {release: place for place, release in enumerate(("0.9.0", "0.10.0", "0.11.2", "0.12.0", "0.13.0"))}


@pytest.mark.parametrize(
    ("span", "held"),
    [
        ("", [0, 1, 2, 3, 4]),
        ("all", [0, 1, 2, 3, 4]),
        ("0.11.2:", [2, 3, 4]),
        (":0.10.0", [0, 1]),
        ("0.10.0:0.10.0", [1]),
        ("0.9.0:0.11.2,0.13.0:", [0, 1, 2, 4]),
    ],
)
def test_a_span_holds_its_runs_with_both_their_ends(span: str, held: list[int]) -> None:
    """An end that is left open is that of the table."""
    assert [at for at in RELEASES.values() if within(span, at, RELEASES)] == held


@given(st.text(":,0.913all", max_size=20))
def test_whatever_a_span_is_its_runs_are_places_of_the_table(span: str) -> None:
    """A table that was written by hand raises nothing."""
    assert all({first, last} <= set(RELEASES.values()) for first, last in runs(span, RELEASES))
