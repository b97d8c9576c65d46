"""Releases as the tables in dataset/ write them, and whether one of them is among them."""

from __future__ import annotations

from collections.abc import Mapping

Span = str
"""Releases as text: empty, or `all`, for every one that the row above is there in, else runs such as `0.9.0:0.11.2,0.13.0:`, open at an end of the table."""


def within(span: Span, at: int, places: Mapping[str, int]) -> bool:
    """Whether a span holds the release at a place; `places` are those of all releases of the table, by their names."""
    return not span or span == "all" or any(first <= at <= last for first, last in runs(span, places))


def runs(span: Span, places: Mapping[str, int]) -> list[tuple[int, int]]:
    """A span as places of first and last releases."""
    newest = len(places) - 1
    if not span or span == "all":
        return [(0, newest)]
    parts = (run.partition(":") for run in span.split(","))
    return [(places.get(first, 0), places.get(last, newest)) for first, _, last in parts]
