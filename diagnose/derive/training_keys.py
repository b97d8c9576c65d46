"""Keys of a training's settings against the tables in dataset/training: unknown, renamed, removed, of another type."""

from __future__ import annotations

from collections.abc import Sequence

from diagnose.model import Fact


def complete(facts: Sequence[Fact]) -> tuple[Fact, ...]:
    """The facts that follow; none where something needed is not known."""
    return ()
