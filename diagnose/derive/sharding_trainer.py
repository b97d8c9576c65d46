"""The trainer's side of a sharded training: who trains, what it is told, and what it takes where it is told nothing."""

from __future__ import annotations

from collections.abc import Sequence

from diagnose.derive.known import Known
from diagnose.derive.settled import WITH_DEFAULTS
from diagnose.sources.training.given import number as as_number

TRAINERS = (*WITH_DEFAULTS, "axolotl")
"""Frameworks whose training loop is transformers' Trainer; Axolotl has defaults of its own."""


def number(known: Known, name: str) -> float | None:
    """A number that stands in a text (`1e-5`, `4`); None for `auto` and for what is none."""
    value = known.value(name)
    found = as_number(value) if not isinstance(value, bool) else None
    return None if found is None else float(found)


def whole(known: Known, name: str) -> int | None:
    value = number(known, name)
    return int(value) if value is not None and value == int(value) else None


def trained_by(known: Known, kinds: Sequence[str] = TRAINERS) -> bool:
    return known.text("training.framework") in kinds


def trainers(known: Known, name: str, default: float, kinds: Sequence[str] = WITH_DEFAULTS) -> float | None:
    """The trainer's value, or its default where the arguments are all known and leave it out."""
    value = number(known, name)
    if value is not None or known.value(name) is not None:
        return value
    return default if trained_by(known, kinds) and all_known(known) else None


def all_known(known: Known) -> bool:
    """Whether what is not among the settings is surely left out: a script or a placeholder may set it all the same."""
    if known.text("training.script") or known.yes("launch.more_words"):
        return False
    return not any(name.startswith("training.file.") and name.endswith(".placeholder") for name in known.names())


def precisions(known: Known) -> tuple[bool | None, bool | None]:
    """Whether the trainer is told bf16 and fp16; TRL takes bf16 where it is told neither."""
    given: dict[str, bool | None] = {}
    for kind in ("bf16", "fp16"):
        value = known.value(f"training.{kind}")
        full = known.text("training.full_eval_dtype") == kind
        given[kind] = True if full else value if isinstance(value, bool) else None
    if not trained_by(known, WITH_DEFAULTS) or not all_known(known):
        return given["bf16"], given["fp16"]
    fp16 = bool(given["fp16"])
    by_trl = known.text("training.framework") == "trl" and not known.older("trl", (0, 19))
    unset = not fp16 if by_trl else False
    return (unset if given["bf16"] is None else given["bf16"]), fp16
