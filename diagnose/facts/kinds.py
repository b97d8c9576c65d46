"""What a line of the catalogue is, and the lines of the checklist that facts belong to."""

from __future__ import annotations

from msgspec import Struct


class FactKind(Struct, frozen=True):
    """A line of the catalogue. `type` is version, text, number, bytes or flag."""

    name: str
    type: str
    owner: str
    meaning: str
    area: str = ""


AREAS: tuple[str, ...] = (
    "driver",
    "GPUs",
    "memory",
    "storage",
    "limits",
    "system",
    "network",
    "kernel log",
    "interpreter",
    "packages",
    "CUDA libraries",
    "extensions",
    "engine",
    "imports",
    "model",
    "weights",
    "tokenizer",
    "chat template",
    "launch",
    "training",
    "data",
    "fit",
    "run",
)
"""The lines of the checklist, from the bottom of the stack upwards: of two causes the lower one is told first."""


def kinds(owner: str, area: str, *rows: tuple[str, str, str]) -> tuple[FactKind, ...]:
    """Catalogue lines (name, type, meaning) of one source and area."""
    return tuple(FactKind(name, type_, owner, meaning, area) for name, type_, meaning in rows)
