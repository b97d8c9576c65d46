"""A model folder, a file or an id in a cache → facts of its config, weights, adapter, quantization and cache.

Nothing of it is executed or unpickled, weights are read by their headers, and nothing goes over the network unless
`online` says so.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from diagnose.model import Fact, Reading, Step
from diagnose.sources import jsonfile
from diagnose.sources.checkpoint import config as configs
from diagnose.sources.checkpoint import where
from diagnose.sources.checkpoint.where import Found

MOST_CONFIG = 16 << 20
"""The largest config.json that is read: published ones have a few kilobytes, with long lists some hundred."""


def read(
    model: str, environ: Mapping[str, str], folder: str, online: bool = False, revision: str = ""
) -> Iterator[Reading]:
    """Facts of the model that a text means. `folder` is what relative paths start from; `online` may ask the Hub."""
    yield Step(f"looking for {model[:300]}")
    found = where.find(model, environ, folder, revision)
    yield from _place(found)
    if found.kind == "missing" or not found.path:
        return
    yield Step(f"reading {found.folder[:300]}/config.json")
    config = _config(found)
    if config is not None:
        yield from configs.facts(config, found.origin("config.json"))
    yield from _weights(found, config)
    if config is not None:
        yield from _cache_groups(found, config)


def _place(found: Found) -> Iterator[Reading]:
    origin = found.path or "command line"
    yield Fact("model.asked", found.asked[:400], "command line")
    yield Fact("model.name", found.name[:200], "command line")
    yield Fact("model.kind", found.kind, "command line")
    for name, value in (
        ("path", found.path),
        ("id", found.id),
        ("revision", found.revision),
        ("layout", found.layout),
        ("problem", found.problem),
        ("nearest", found.nearest),
    ):
        if value:
            yield Fact(f"model.{name}", value[:400], origin[:400])


def _config(found: Found) -> Mapping[str, Any] | None:
    """The value of config.json; None if there is none that can be read."""
    if found.kind not in ("folder", "adapter", "safetensors"):
        return None
    value = jsonfile.load(os.path.join(found.folder, "config.json"), MOST_CONFIG).value
    return value if isinstance(value, dict) else None


def _weights(found: Found, config: Mapping[str, Any] | None) -> Iterator[Reading]:
    read_weights = _function("diagnose.sources.checkpoint.weights", "read")
    if read_weights is not None:
        yield from read_weights(found, config)


def _cache_groups(found: Found, config: Mapping[str, Any]) -> Iterator[Reading]:
    tell = _function("diagnose.memory", "facts")
    if tell is not None:
        yield from tell(config, found.origin("config.json"))


def _function(module: str, name: str) -> Callable[..., Iterator[Reading]] | None:
    """A function of a module that is only loaded when it is needed; None if there is none."""
    try:
        return getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError:
        return None
