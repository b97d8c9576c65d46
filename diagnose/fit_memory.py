"""Model, launch command and GPUs → whether the memory suffices, as facts under fit.memory."""

from __future__ import annotations

from collections.abc import Sequence

from diagnose.model import Fact


def complete(facts: Sequence[Fact]) -> tuple[Fact, ...]:
    """The facts that follow from `facts` by arithmetic; none where something needed is not known."""
    return ()
