"""Facts that follow from other facts: by the tables in dataset/, and by arithmetic.

`complete` takes the steps in their order; each sees what the ones before found. A step is a module with a pure function
`complete(facts)`. What follows is made anew whenever a case is read, so that a case file is judged by the tables of today.
"""

from __future__ import annotations

from diagnose.model import Fact

DERIVED = ("dataset/compat/", "dataset/engines/", "dataset/training/", "arithmetic")
"""How the origins of such facts begin."""


def is_derived(fact: Fact) -> bool:
    """Whether a fact follows from others."""
    return fact.origin.startswith(DERIVED)


def complete(facts: tuple[Fact, ...]) -> tuple[Fact, ...]:
    """The facts that were read, with all that follows from them; what followed before is taken out."""
    from diagnose.derive import compat

    read = tuple(fact for fact in facts if not is_derived(fact))
    known = read + compat.complete(read)
    if any(fact.name.startswith(("model.", "launch.program", "launch.given.", "deploy.")) for fact in read):
        known = _of_a_model(known)
    if any(fact.name.startswith(("training.", "zero.", "fsdp.")) for fact in read):
        known = _of_a_training(known)
    return known


def _of_a_model(facts: tuple[Fact, ...]) -> tuple[Fact, ...]:
    """The facts with what follows from a model's and a launch command's."""
    from diagnose.derive import engines, fit, fit_memory, tokenizer

    for step in (engines.complete, tokenizer.complete, fit.complete, fit_memory.complete):
        facts += step(facts)
    return facts


def _of_a_training(facts: tuple[Fact, ...]) -> tuple[Fact, ...]:
    """The facts with what follows from a training's settings."""
    from diagnose.derive import sharding, training_frameworks, training_keys, tuning, tuning_model

    for step in (
        training_keys.complete,
        training_frameworks.complete,
        sharding.complete,
        tuning.complete,
        tuning_model.complete,
    ):
        facts += step(facts)
    return facts
