"""Model, launch command and machine taken together: facts that follow from others."""

from __future__ import annotations

from collections.abc import Sequence

from diagnose.model import Fact


def complete(facts: Sequence[Fact]) -> tuple[Fact, ...]:
    """The facts that follow from `facts`."""
    return ()
