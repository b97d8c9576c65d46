"""What DeepSpeed, FSDP, accelerate and the trainer say of one and the same thing: values that differ, `auto` resolved, classes and sizes."""

from __future__ import annotations

from collections.abc import Sequence

from diagnose.model import Fact


def complete(facts: Sequence[Fact]) -> tuple[Fact, ...]:
    """The facts that follow; none where something needed is not known."""
    return ()
