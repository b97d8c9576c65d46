"""A training's settings against model, tokenizer and GPUs: modules that are not there, memory, precision."""

from __future__ import annotations

from collections.abc import Sequence

from diagnose.model import Fact


def complete(facts: Sequence[Fact]) -> tuple[Fact, ...]:
    """The facts that follow; none where something needed is not known."""
    return ()
