"""x."""

from __future__ import annotations

from collections.abc import Iterable

from diagnose.model import Fact


def complete(facts: Iterable[Fact]) -> tuple[Fact, ...]:
    """x."""
    return ()
