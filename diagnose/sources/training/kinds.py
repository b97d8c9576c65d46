"""Which kind of configuration a mapping is, by its keys, and the module that reads it."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from diagnose.sources.training.given import settings
from diagnose.sources.training.parsed import Parsed
from diagnose.sources.yamlfile import Node

ORDER = ("axolotl", "llamafactory", "torchtune", "accelerate", "deepspeed", "peft", "quantization", "trl", "trainer")
"""Kinds in the order in which they are asked: the first that knows the keys for its own reads the mapping."""
UNKNOWN = "unknown"
_ONLY_NAMED = ("fsdp",)
"""Kinds whose keys tell too little: read where a setting names the file as such."""


def kind_of(document: Node) -> str:
    """The kind of a mapping; `unknown` where no reader knows its keys."""
    for kind in ORDER:
        module = reader(kind)
        if module is not None and module.is_kind(document):
            return kind
    return UNKNOWN


def reader(kind: str) -> ModuleType | None:
    """The module that reads a kind; None for one that has none."""
    if kind not in ORDER and kind not in _ONLY_NAMED:
        return None
    name = f"diagnose.sources.training.{kind}"
    return import_module(name) if find_spec(name) else None


def read(document: Node, file: str, kind: str) -> Parsed:
    """The settings of a mapping of a known kind; of an unknown one all keys, which may be of the user's own program."""
    module = reader(kind)
    if module is None:
        return Parsed(tuple(settings(document, UNKNOWN, file)))
    parsed: Parsed = module.read(document, file)
    return parsed
