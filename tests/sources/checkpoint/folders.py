"""Model folders and caches for the tests: small configs, safetensors headers over sparse files, the Hub client's layout."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diagnose.model import Fact, Unchecked
from diagnose.sources import checkpoint

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 128,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "torch_dtype": "bfloat16",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "transformers_version": "4.51.0",
}
COMMIT = "a" * 40
OTHER = "b" * 40


def llama(**changes: Any) -> dict[str, Any]:
    """LLAMA with other values; `...` takes a key out."""
    return {key: value for key, value in {**LLAMA, **changes}.items() if value is not ...}


def write_json(path: Path, value: Any) -> Path:
    """Write JSON, with NaN and Infinity as Python does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def write_tensors(path: Path, tensors: Mapping[str, tuple[str, Sequence[int]]]) -> Path:
    """A safetensors file of a true header over nothing: name → (dtype, shape)."""
    bits = {"I8": 8, "U8": 8, "F8_E4M3": 8, "F16": 16, "BF16": 16, "F32": 32, "I32": 32, "U32": 32}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, (dtype, shape) in tensors.items():
        size = bits[dtype] // 8
        for length in shape:
            size *= length
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + at)
    return path


def plain(layers: int = 2, hidden: int = 64, vocabulary: int = 128) -> dict[str, tuple[str, Sequence[int]]]:
    """Tensors of LLAMA, unquantized."""
    found: dict[str, tuple[str, Sequence[int]]] = {
        "model.embed_tokens.weight": ("BF16", (vocabulary, hidden)),
        "lm_head.weight": ("BF16", (vocabulary, hidden)),
    }
    for layer in range(layers):
        head = f"model.layers.{layer}"
        found |= {
            f"{head}.self_attn.q_proj.weight": ("BF16", (hidden, hidden)),
            f"{head}.self_attn.k_proj.weight": ("BF16", (hidden // 2, hidden)),
            f"{head}.self_attn.v_proj.weight": ("BF16", (hidden // 2, hidden)),
            f"{head}.self_attn.o_proj.weight": ("BF16", (hidden, hidden)),
            f"{head}.mlp.up_proj.weight": ("BF16", (2 * hidden, hidden)),
            f"{head}.mlp.gate_proj.weight": ("BF16", (2 * hidden, hidden)),
            f"{head}.mlp.down_proj.weight": ("BF16", (hidden, 2 * hidden)),
        }
    return found


def in_cache(
    cache: Path, name: str = "tiny/llama", commit: str = COMMIT, files: Mapping[str, bytes] | None = None
) -> Path:
    """A model in the Hub client's cache: blobs, a snapshot of links, refs/main. The snapshot's folder."""
    top = cache / f"models--{name.replace('/', '--')}"
    snapshot = top / "snapshots" / commit
    for folder in (top / "refs", top / "blobs", snapshot):
        folder.mkdir(parents=True, exist_ok=True)
    (top / "refs" / "main").write_text(commit, encoding="utf-8")
    files = files if files is not None else {"config.json": json.dumps(LLAMA).encode()}
    for number, (file, data) in enumerate(files.items()):
        blob = top / "blobs" / f"{number:064x}"
        blob.write_bytes(data)
        (snapshot / file).symlink_to(os.path.relpath(blob, snapshot))
    return snapshot


def told(model: str | Path, environ: Mapping[str, str] = {}, folder: str | Path = "/", **given: Any) -> dict[str, Any]:
    """The facts of a model, by name."""
    readings = checkpoint.read(str(model), environ, str(folder), **given)
    return {reading.name: reading.value for reading in readings if isinstance(reading, Fact)}


def unchecked(model: str | Path, environ: Mapping[str, str] = {}, folder: str | Path = "/") -> list[str]:
    """What could not be looked at."""
    return [
        reading.what for reading in checkpoint.read(str(model), environ, str(folder)) if isinstance(reading, Unchecked)
    ]
