"""What the tests of launch commands share: readings by kind."""

from __future__ import annotations

from collections.abc import Iterable

from diagnose.model import Fact, Reading, Unchecked


def facts(readings: Iterable[Reading]) -> dict[str, Fact]:
    """The facts by name; the first of a name counts."""
    found: dict[str, Fact] = {}
    for reading in readings:
        if isinstance(reading, Fact):
            found.setdefault(reading.name, reading)
    return found


def unchecked(readings: Iterable[Reading]) -> list[Unchecked]:
    """What could not be looked at."""
    return [reading for reading in readings if isinstance(reading, Unchecked)]
