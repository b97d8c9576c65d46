"""A training's settings, data and launch → what follows by arithmetic: batch, steps, warm-up, saves."""

from __future__ import annotations

from collections.abc import Sequence

from diagnose.model import Fact


def complete(facts: Sequence[Fact]) -> tuple[Fact, ...]:
    """The facts that follow; none where something needed is not known."""
    return ()
