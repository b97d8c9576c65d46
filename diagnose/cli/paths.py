"""What a list of paths is of: models, training data, manifests and training configurations, told apart by name and content."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from glob import glob

from msgspec import Struct

from diagnose.errors import InputError
from diagnose.sources.files import read_text

_DATA = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow")
_MODEL = (".gguf", ".safetensors")
_CONFIG = (".yaml", ".yml", ".json", ".py")
_MANIFEST = re.compile(r"(?m)^(?:services|apiVersion)\s*:")
HEAD = 64 << 10


class Sorted(Struct, frozen=True):
    """Paths by what they are; at most one model."""

    model: str = ""
    files: tuple[str, ...] = ()
    configs: tuple[str, ...] = ()
    data: tuple[str, ...] = ()


def sort_out(patterns: Sequence[str], named_in: str) -> Sorted:
    """Sort paths, which may have `*` in them. Raises InputError for one that leads to nothing, or that nobody knows."""
    found: dict[str, list[str]] = {"model": [], "files": [], "configs": [], "data": []}
    for pattern in patterns:
        there = sorted(glob(pattern, recursive=True))
        if not there:
            raise InputError(f"{named_in}: paths: there is no {pattern}")
        for path in there:
            found[_kind(path, named_in)].append(path)
    if len(found["model"]) > 1:
        raise InputError(f"{named_in}: paths: {' and '.join(found['model'][:2])} are two models; check looks at one")
    return Sorted("".join(found["model"]), tuple(found["files"]), tuple(found["configs"]), tuple(found["data"]))


def _kind(path: str, named_in: str) -> str:
    suffix = os.path.splitext(path.lower().removesuffix(".gz").removesuffix(".zst"))[1]
    if suffix in _DATA:
        return "data"
    if suffix in _MODEL or (os.path.isdir(path) and os.path.exists(os.path.join(path, "config.json"))):
        return "model"
    if suffix in (".yaml", ".yml") and _MANIFEST.search(read_text(path, HEAD) or ""):
        return "files"
    if suffix in _CONFIG:
        return "configs"
    raise InputError(f"{named_in}: paths: {path} is neither a configuration, training data, a manifest nor a model")
