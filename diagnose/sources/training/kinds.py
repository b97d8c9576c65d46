"""Which kind of configuration a mapping is, by its keys, and the module that reads it."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from diagnose.sources.settings import words
from diagnose.sources.training.classes import Reads
from diagnose.sources.training.given import UNKNOWN, settings
from diagnose.sources.training.parsed import Parsed
from diagnose.sources.yamlfile import Node

ORDER = (
    "axolotl",
    "llamafactory",
    "torchtune",
    "accelerate",
    "deepspeed",
    "fsdp",
    "peft",
    "quantization",
    "trl",
    "trainer",
)
"""Kinds in the order in which they are asked: the first that knows the keys for its own reads the mapping."""
OF_OTHERS = words(
    """
    rlhf_type tuner_type split_dataset_ratio with_tracking checkpointing_steps dataset_mixer_list gamma_beta_ratio
    """
)
"""Keys of programs with classes of their own, whose other keys are those of the frameworks: ms-swift, open-instruct and
transformers' scripts without a Trainer, SimPO."""
BY_CLASS = ("trl", "trainer")
"""Kinds whose class a command may name."""


def kind_of(document: Node) -> str:
    """The kind of a mapping; `unknown` where no reader knows its keys, or they are another program's."""
    if not OF_OTHERS.isdisjoint(key for key, _ in document.items()):
        return UNKNOWN
    for kind in ORDER:
        module = reader(kind)
        if module is not None and module.is_kind(document):
            return kind
    return UNKNOWN


def reader(kind: str) -> ModuleType | None:
    """The module that reads a kind; None for one that has none."""
    if kind not in ORDER:
        return None
    return import_module(f"diagnose.sources.training.{kind}")


def read(document: Node, file: str, kind: str, reads: Reads | None = None) -> Parsed:
    """The settings of a mapping of a known kind; of an unknown one all keys, which may be of the user's own program.

    `reads` is the class that reads the file, where a command or a script tells it.
    """
    module = reader(kind)
    if module is None:
        return Parsed(tuple(settings(document, UNKNOWN, file)))
    parsed: Parsed = module.read(document, file, reads) if kind in BY_CLASS else module.read(document, file)
    return parsed
