"""Faults of safetensors files, their index, and pickled weights."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

from tests.models.edits import (
    alter,
    append,
    bring,
    copy,
    cut,
    header,
    names,
    page,
    pointer,
    remove,
    rename,
    without_tensors,
    write,
)  # fmt: skip
from tests.models.faults.fault import Fault

SECOND = "model-00002-of-00003.safetensors"
INDEX = "model.safetensors.index.json"
SAFE = "model.safetensors"
BIN = "pytorch_model.bin"


class _Command:
    """Pickled, it is a call of os.system."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, ("echo not run",)


def _pickle_with_a_call(folder: Path) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("pytorch_model/data.pkl", pickle.dumps({"model.norm.weight": _Command()}, protocol=2))
        archive.writestr("pytorch_model/version", "3\n")
    (folder / BIN).write_bytes(data.getvalue())


def _overlap(value: dict[str, Any]) -> None:
    """The second tensor's bytes start inside the first's."""
    spans = sorted((name for name in value if name != "__metadata__"), key=lambda name: value[name]["data_offsets"][0])
    value[spans[1]]["data_offsets"] = [one - 2 for one in value[spans[1]]["data_offsets"]]


def _dtype(word: str) -> Any:
    def by(value: dict[str, Any]) -> None:
        value["model.norm.weight"]["dtype"] = word

    return by


def _shape(name: str, shape: list[int]) -> Any:
    def by(value: dict[str, Any]) -> None:
        value[name]["shape"] = shape

    return by


def _moved(value: dict[str, Any]) -> None:
    name = "model.layers.0.self_attn.q_proj.weight"
    others = sorted(set(value["weight_map"].values()) - {value["weight_map"][name]})
    value["weight_map"][name] = others[-1]


def _renumbered(value: dict[str, Any]) -> None:
    value["weight_map"] = {name: file.replace("of-00003", "of-00004") for name, file in value["weight_map"].items()}


def _forgotten(value: dict[str, Any]) -> None:
    del value["weight_map"]["model.layers.1.mlp.up_proj.weight"]


FAULTS: tuple[Fault, ...] = (
    Fault("a-shard-is-missing", "llama", "weights-shard-missing", (remove(SECOND),), real="transformers", follows="FileNotFoundError: No such file or directory"),
    Fault("two-shards-are-missing", "llama", "weights-shard-missing", (remove(SECOND, "model-00003-of-00003.safetensors"),), real="transformers", follows="FileNotFoundError: No such file or directory"),
    Fault("a-shard-is-cut-off", "llama", "weights-file-cut-short", (cut(SECOND, 0.7),), real="transformers", follows="incomplete metadata, file not fully covered"),
    Fault("the-only-file-is-cut-off", "qwen2", "weights-file-cut-short", (cut(SAFE, 0.5),), real="transformers", follows="incomplete metadata, file not fully covered"),
    Fault("cut-off-inside-the-header", "qwen3", "weights-file-cut-short", (cut(SAFE, 400),), real="transformers", follows="invalid header length"),
    Fault("weights-are-empty", "mistral", "weights-file-empty", (write(SAFE, ""),), real="transformers", follows="header too small"),
    Fault("a-shard-is-empty", "llama", "weights-file-empty", (write(SECOND, ""),), real="transformers", follows="header too small"),
    Fault("weights-are-an-lfs-pointer", "qwen2", "weights-file-is-pointer", (pointer(SAFE),), real="transformers", follows="header too large"),
    Fault("one-shard-is-an-lfs-pointer", "llama", "weights-file-is-pointer", (pointer(SECOND),), real="transformers", follows="header too large"),
    Fault("weights-are-a-web-page", "gemma3", "weights-file-is-web-page", (page(SAFE),), real="transformers", follows="header too large"),
    Fault("index-is-missing", "llama", "weights-parts-without-index", (remove(INDEX),), real="transformers", follows="Error no file named model.safetensors"),
    Fault("index-is-broken", "llama", "weights-index-broken", (cut(INDEX, 0.5),), real="transformers", follows="json.decoder.JSONDecodeError"),
    Fault("index-is-an-lfs-pointer", "llama", "weights-index-broken", (pointer(INDEX),), real="transformers", follows="json.decoder.JSONDecodeError"),
    Fault("index-names-the-wrong-shard", "llama", "weights-index-points-to-wrong-part", (alter(INDEX, _moved),)),
    Fault("index-of-another-split", "llama", "weights-shard-missing", (alter(INDEX, _renumbered),), real="transformers", follows="FileNotFoundError: No such file or directory"),
    Fault("index-has-no-map", "llama", "weights-index-broken", (write(INDEX, '{"metadata": {"total_size": 77888}}\n'),), real="transformers", follows="KeyError: 'weight_map'"),
    Fault("shards-without-one-tensor-in-the-index", "llama", "weights-index-incomplete", (alter(INDEX, _forgotten),)),
    Fault("no-weights-at-all", "qwen3", "weights-none-in-folder", (remove(SAFE),), real="transformers", follows="Error no file named model.safetensors"),
    Fault("weights-under-a-strange-name", "qwen3", "weights-not-named-as-looked-for", (rename(SAFE, "qwen3-final.safetensors"),), real="transformers", follows="Error no file named model.safetensors"),
    Fault("tensors-overlap", "qwen2", "weights-header-broken", (header(SAFE, _overlap),), real="transformers", follows="invalid offset for tensor"),
    Fault("dtype-in-the-header-is-unknown", "qwen2", "safetensors-dtype-unknown", (header(SAFE, _dtype("BF17")),), real="transformers", follows="unknown variant `BF17`"),
    Fault("shape-in-the-header-is-too-large", "qwen2", "weights-header-broken", (header(SAFE, _shape("model.norm.weight", [64])),), real="transformers", follows="invalid shape, data type, or offset"),
    Fault("bytes-behind-the-last-tensor", "mistral", "weights-file-too-long", (append(SAFE, b"\0" * 64),), real="transformers", follows="incomplete metadata, file not fully covered"),
    Fault("names-of-a-wrapped-model", "qwen3", "weights-saved-through-wrapper", (header(SAFE, names("model.", "module.model.")),), real="transformers", follows="| MISSING"),
    Fault("names-of-a-compiled-model", "llama2-chat", "weights-saved-through-wrapper", (header(SAFE, names("", "_orig_mod.")),), real="transformers", follows="| MISSING"),
    Fault("a-projection-is-missing", "mistral", "tensors-lacking-in-a-layer", (without_tensors(SAFE, "layers.1.self_attn.q_proj.weight"),), real="transformers", follows="| MISSING"),
    Fault("the-output-layer-is-missing", "llama2-chat", "output-layer-missing", (without_tensors(SAFE, "lm_head.weight"),), real="transformers", follows="| MISSING"),
    Fault("the-embedding-is-missing", "mistral", "embedding-missing", (without_tensors(SAFE, "embed_tokens.weight"),), real="transformers", follows="| MISSING"),
    Fault("an-expert-is-missing", "qwen3-moe", "tensors-lacking-in-a-layer", (without_tensors(SAFE, "layers.1.mlp.experts.3.up_proj.weight"),), real="transformers", follows="issues during automatic conversion of the weights"),
    Fault("one-shard-twice", "llama", "weights-index-names-absent-tensors", (copy("model-00001-of-00003.safetensors", SECOND),), real="transformers", follows="| MISSING"),
    Fault("weights-of-another-model", "mistral", "attention-heads-of-weights-differ", (bring("gemma3", SAFE),), real="transformers", follows="| MISSING"),
    Fault("pickle-renamed-to-safetensors", "pickled-base", "weights-file-of-another-kind", (rename(BIN, SAFE),), chat=False, real="transformers", follows="header too large"),
    Fault("safetensors-renamed-to-bin", "qwen2", "weights-file-of-another-kind", (rename(SAFE, BIN),), real="transformers", follows="Weights only load failed"),
    Fault("pickle-is-cut-off", "pickled-base", "weights-file-cut-short", (cut(BIN, 0.8),), chat=False, real="transformers", follows="Invalid argument"),
    Fault("pickle-is-an-lfs-pointer", "pickled-base", "weights-file-is-pointer", (pointer(BIN),), chat=False, real="transformers", follows="Unsupported operand 118"),
    Fault("pickle-calls-the-shell", "pickled-base", "pickle-runs-code", (_pickle_with_a_call,), chat=False, real="transformers", follows="Trying to load unsupported GLOBAL posix.system"),
    Fault("pickle-is-empty", "pickled-base", "weights-file-empty", (write(BIN, ""),), chat=False, real="transformers", follows="EOFError"),
)  # fmt: skip
