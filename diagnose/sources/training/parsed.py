"""What a reader of one kind of configuration gives: its settings, what they mean, and the files it refers to."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from diagnose.model import Fact
from diagnose.sources.training.given import Setting


class Reference(Struct, frozen=True):
    """Another file that a setting names. `kind` is what it has to be: deepspeed, accelerate, fsdp, peft, data, unknown."""

    path: str
    kind: str
    setting: Setting


class Parsed(Struct, frozen=True):
    """One configuration. `settings` are all its keys, `facts` the common ones (training.*, zero.*, fsdp.*) that follow."""

    settings: tuple[Setting, ...] = ()
    facts: tuple[Fact, ...] = ()
    refers: tuple[Reference, ...] = ()


def joined(parts: Iterable[Parsed]) -> Parsed:
    """Several parts of one configuration as one, in their order."""
    all_ = list(parts)
    return Parsed(
        tuple(item for part in all_ for item in part.settings),
        tuple(item for part in all_ for item in part.facts),
        tuple(item for part in all_ for item in part.refers),
    )
