"""What a list of paths is of: models, training data, manifests and training configurations, told apart by name and content."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from glob import glob

from msgspec import Struct

from diagnose.errors import InputError
from diagnose.sources.files import read_bytes, read_text

_DATA = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow")
_MODEL = (".gguf", ".safetensors")
_WEIGHTS = (*_MODEL, ".bin", ".pt", ".pth", ".ckpt", ".ggml", ".h5", ".msgpack", ".onnx", ".pkl")
_CONFIG = (".yaml", ".yml", ".json", ".py")
_MANIFEST = re.compile(r"(?m)^(?:services|apiVersion)\s*:")
HEAD = 64 << 10


class Sorted(Struct, frozen=True):
    """Paths by what they are; at most one model."""

    model: str = ""
    files: tuple[str, ...] = ()
    configs: tuple[str, ...] = ()
    data: tuple[str, ...] = ()


def named(words: Sequence[str]) -> Sorted:
    """What the words of a command line name. One that is no file of a kind that is known is a model's path or id."""
    found: dict[str, list[str]] = {"model": [], "files": [], "configs": [], "data": []}
    for word in words:
        kind = _kind(word) or "model"
        if kind == "model" and os.path.exists(word) and not os.path.isdir(word) and not _may_be_model(word):
            raise InputError(f"check: {word} is neither a configuration, training data, a manifest nor a model")
        found[kind].append(word)
    return _sorted(found, "check")


def _may_be_model(path: str) -> bool:
    """Whether a file has weights in it, by its name or its first bytes: the names in a cache of the Hub have no ending."""
    if os.path.splitext(path.lower())[1] in _WEIGHTS:
        return True
    head = read_bytes(path, 16) or b""
    return head.startswith((b"GGUF", b"PK\x03\x04", b"\x80\x02")) or head[5:9] == b"\0\0\0{"


def sort_out(patterns: Sequence[str], named_in: str) -> Sorted:
    """Sort paths, which may have `*` in them. Raises InputError for one that leads to nothing, or that nobody knows."""
    found: dict[str, list[str]] = {"model": [], "files": [], "configs": [], "data": []}
    for pattern in patterns:
        there = sorted(glob(pattern, recursive=True))
        if not there:
            raise InputError(f"{named_in}: paths: there is no {pattern}")
        for path in there:
            kind = _kind(path)
            if not kind:
                raise InputError(
                    f"{named_in}: paths: {path} is neither a configuration, training data, a manifest nor a model"
                )
            found[kind].append(path)
    return _sorted(found, f"{named_in}: paths")


def _sorted(found: dict[str, list[str]], named_in: str) -> Sorted:
    if len(found["model"]) > 1:
        raise InputError(f"{named_in}: {' and '.join(found['model'][:2])} are two models; check looks at one at a time")
    return Sorted("".join(found["model"]), tuple(found["files"]), tuple(found["configs"]), tuple(found["data"]))


def _kind(path: str) -> str:
    """What a path is of; empty for what cannot be told, or is not there."""
    if not os.path.exists(path):
        return ""
    suffix = os.path.splitext(path.lower().removesuffix(".gz").removesuffix(".zst"))[1]
    if suffix in _DATA:
        return "data"
    if suffix in _MODEL or (os.path.isdir(path) and os.path.exists(os.path.join(path, "config.json"))):
        return "model"
    if suffix in (".yaml", ".yml") and _MANIFEST.search(read_text(path, HEAD) or ""):
        return "files"
    return "configs" if suffix in _CONFIG and os.path.isfile(path) else ""
