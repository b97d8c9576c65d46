"""A model folder, a file or an id in a cache → facts of its config, weights, adapter, quantization and cache.

Nothing of it is executed or unpickled, weights are read by their headers, and nothing goes over the network unless
`online` says so.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

from diagnose.model import Fact, Reading, Step, Unchecked
from diagnose.sources import files, jsonfile
from diagnose.sources.checkpoint import adapter, cache, consistency, generation, quantization, remote, rope, where
from diagnose.sources.checkpoint import config as configs
from diagnose.sources.checkpoint.layout import inner_model
from diagnose.sources.checkpoint.lines import lines_of, placed
from diagnose.sources.checkpoint.where import Found

MOST_CONFIG = 16 << 20
"""The largest config.json that is read: published ones have a few kilobytes, with long lists some hundred."""


def read(
    model: str, environ: Mapping[str, str], folder: str, online: bool = False, revision: str = ""
) -> Iterator[Reading]:
    """Facts of the model that a text means. `folder` is what relative paths start from; `online` may ask the Hub.

    What cannot be looked at is told as Unchecked; what is broken is told by facts.
    """
    for reading in _read(model, environ, folder, online, revision):
        yield _plain(reading)


def _plain(reading: Reading) -> Reading:
    """A reading that can be written as UTF-8: names of files and JSON's escapes can hold halves of a character."""
    if isinstance(reading, Fact):
        value = _utf8(reading.value) if isinstance(reading.value, str) else reading.value
        return Fact(reading.name, value, _utf8(reading.origin), reading.line)
    if isinstance(reading, Unchecked):
        return Unchecked(_utf8(reading.what), _utf8(reading.why))
    return Step(_utf8(reading.doing)) if isinstance(reading, Step) else reading


def _utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _read(model: str, environ: Mapping[str, str], folder: str, online: bool, revision: str) -> Iterator[Reading]:
    yield Step(f"looking for {model[:300]}")
    found = where.find(model, environ, folder, revision)
    yield from _place(found, environ)
    yield from cache.facts(found, environ)
    if found.kind not in ("missing", "remote") and found.path and found.problem != "unreadable":
        yield from _of_files(found, environ, folder)
    if online:
        from diagnose.sources.checkpoint import hub

        yield from hub.read(found, environ)


def _of_files(found: Found, environ: Mapping[str, str], folder: str) -> Iterator[Reading]:
    yield Step(f"reading {found.folder[:300]}/config.json")
    config = yield from _config(found)
    text = configs.text_part(config) if config is not None else None
    if config is not None and text is not None:
        yield from _of_config(found, config, text)
    yield from _generation(found, config, text)
    if found.kind == "adapter" or "adapter_config.json" in found.names:
        yield Step(f"reading the adapter in {found.folder[:300]}")
        yield from adapter.read(found, environ, folder)
    if config is not None and text is not None:
        yield Step(f"looking at the tensors in {found.folder[:300]}")
        lines = lines_of(os.path.join(found.folder, "config.json"))
        told = quantization.facts(found, config, text, found.origin("config.json"))
        yield from (one if one.origin != found.origin("config.json") else next(placed([one], lines)) for one in told)
    yield from _weights(found, config)
    if config is not None:
        yield from _cache_groups(found, config)


def _place(found: Found, environ: Mapping[str, str]) -> Iterator[Reading]:
    origin = (found.path or found.cache or "command line")[:400]
    yield Fact("model.asked", found.asked[:400], "command line")
    yield Fact("model.name", found.name[:200], "command line")
    yield Fact("model.kind", found.kind, origin)
    for name, value in (
        ("path", found.path),
        ("id", found.id),
        ("revision", found.revision),
        ("layout", found.layout),
        ("tag", found.tag),
        ("problem", found.problem or "none"),
        ("why", found.why),
        ("nearest", found.nearest),
    ):
        if value:
            yield Fact(f"model.{name}", value[:400], origin)
    if found.kind == "folder" and found.layout == "nested":
        yield Fact("model.inner", inner_model(found.path, found.names)[:400], origin)
    if found.problem in ("remote", "not-cached"):
        yield Unchecked("model files", found.why or f"{found.id} is not in the cache {found.cache}")
    elif found.problem == "unreadable":
        yield Unchecked("model files", f"{found.path}: {found.why}")
    if found.kind == "folder" and "/" in found.asked and found.id != found.asked:
        # only an id has one slash and no ./ before it; of a bare word nobody knows which was meant
        named = where.is_id(found.asked) and not where.looks_like_a_path(found.asked)
        yield Fact("model.folder_named_as_id", named, origin)


def _config(found: Found) -> Generator[Reading, None, Mapping[str, Any] | None]:
    """What config.json is as a text; returns its value, or None if there is none that can be read."""
    if found.kind not in ("folder", "adapter", "safetensors"):
        return None
    origin = found.origin("config.json")
    loaded = jsonfile.load(os.path.join(found.folder, "config.json"), MOST_CONFIG)
    yield Fact("config.found", not loaded.missing, origin)
    if loaded.missing:
        return None
    if loaded.error:
        instead = _instead(os.path.join(found.folder, "config.json"))
        if instead:  # which the weights' reader tells, of this file as of others
            yield Fact("config.instead", instead, origin)
        else:
            yield Fact("config.error", loaded.error[:300], origin, loaded.line)
        return None
    if not isinstance(loaded.value, dict):
        yield Fact("config.error", "it holds no object", origin)
        return None
    yield Fact("config.has_model_type", isinstance(loaded.value.get("model_type"), str), origin)
    if loaded.duplicates:
        yield Fact("config.duplicates", ", ".join(loaded.duplicates)[:200], origin)
    if loaded.constants:
        yield Fact("config.constants", ", ".join(loaded.constants), origin)
    return loaded.value


def _instead(path: str) -> str:
    """What stands in place of a file that is no JSON: a pointer of Git LFS, a web page; empty for anything else."""
    head = (files.read_bytes(path, 200) or b"").lstrip()
    if head.startswith(b"version https://git-lfs"):
        return "pointer"
    return "page" if head[:1] == b"<" else ""


def _of_config(found: Found, config: Mapping[str, Any], text: configs.Text) -> Iterator[Reading]:
    origin = found.origin("config.json")
    merged = configs.with_defaults(config, text)
    lines = lines_of(os.path.join(found.folder, "config.json"))
    yield from placed(configs.facts(config, origin), lines)
    yield from placed(rope.facts(text.value, merged, origin), lines)
    yield from placed(consistency.facts(config, text, merged, origin), lines)
    yield from placed(remote.facts(config, found, origin), lines)


def _generation(found: Found, config: Mapping[str, Any] | None, text: configs.Text | None) -> Iterator[Reading]:
    if "generation_config.json" not in found.names:
        return
    origin = found.origin("generation_config.json")
    loaded = jsonfile.load(os.path.join(found.folder, "generation_config.json"), MOST_CONFIG)
    if loaded.error and not loaded.missing:
        yield Fact("generation.error", loaded.error[:300], origin, loaded.line)
    if isinstance(loaded.value, dict):
        path = os.path.join(found.folder, "generation_config.json")
        yield from placed(generation.facts(loaded.value, config, text, origin), lines_of(path))


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
