"""The classes that hold a training's settings, by the tables in dataset/training: which arguments each has, in any release."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from msgspec import Struct

from diagnose.places import table

TRAINER = "transformers.TrainingArguments"
SEQ2SEQ = "transformers.Seq2SeqTrainingArguments"
_NOT_OF_TRAINERS = ("ModelConfig", "ScriptArguments", "DatasetMixtureConfig", "DatasetConfig")


class Reads(Struct, frozen=True):
    """What a mapping of arguments is read into, where a command, a call or a script tells it.

    `owner` is the class, `others` are the arguments that are read beside it, with their owners (None: those that usually
    are). `sure`: nothing else is taken, so that a key that is not known is a mistake.
    """

    owner: str
    others: Mapping[str, str] | None = None
    sure: bool = True


@cache
def _classes(package: str) -> dict[str, Any]:
    found = table("training", f"{package}.json").get("classes")
    return found if isinstance(found, dict) else {}


@cache
def own(owner: str) -> frozenset[str]:
    """The arguments of a class (`trl.SFTConfig`) without those that it has from another package; none of one not known."""
    package, _, name = owner.partition(".")
    return frozenset(_classes(package).get(name, {}).get("keys", ()))


@cache
def fields(owner: str) -> frozenset[str]:
    """All arguments of a class."""
    package, _, name = owner.partition(".")
    base = _classes(package).get(name, {}).get("base", "")
    return own(owner) | (fields(base) if base and base != owner else frozenset())


@cache
def trainers() -> dict[str, frozenset[str]]:
    """TRL's classes whose arguments are a trainer's, each with those that transformers' trainer has not."""
    return {
        f"trl.{name}": own(f"trl.{name}") - fields(TRAINER)
        for name, row in _classes("trl").items()
        if row.get("base") == TRAINER and name not in _NOT_OF_TRAINERS and not name.startswith(("_", "Base"))
    }
