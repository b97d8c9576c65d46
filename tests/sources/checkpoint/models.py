"""Small model folders, written byte by byte: no library is needed, and every byte can be wrong."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from diagnose.model import Fact, Reading, Unchecked
from diagnose.sources import checkpoint

BYTES = {"F32": 4, "BF16": 2, "F16": 2, "I8": 1, "U8": 1, "I32": 4, "F8_E4M3": 1}
LLAMA: Mapping[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8, "intermediate_size": 12,
    "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "vocab_size": 16,
    "max_position_embeddings": 64, "tie_word_embeddings": False, "dtype": "bfloat16",
}  # fmt: skip


def header(tensors: Mapping[str, tuple[str, Sequence[int]]], metadata: Mapping[str, str] | None) -> tuple[bytes, int]:
    """The JSON of a safetensors header for these tensors (dtype and shape), and how many bytes they have."""
    value: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    at = 0
    for name, (dtype, shape) in tensors.items():
        size = BYTES[dtype]
        for dimension in shape:
            size *= dimension
        value[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    return json.dumps(value).encode(), at


def framed(text: bytes, data: bytes) -> bytes:
    """A safetensors file: the header's length, the header, the data."""
    return struct.pack("<Q", len(text)) + text + data


def safetensors(
    tensors: Mapping[str, tuple[str, Sequence[int]]], metadata: Mapping[str, str] | None = {"format": "pt"}
) -> bytes:
    """The bytes of a safetensors file, its tensors filled with ones."""
    text, size = header(tensors, metadata)
    return framed(text, b"\1" * size)


def llama(layers: int = 2, dtype: str = "BF16", **changed: tuple[int, ...]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Names and shapes of a Llama of the size of LLAMA. `changed`: shapes of embed, head, q, k or gate."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {
        "model.embed_tokens.weight": (dtype, changed.get("embed", (16, 8)))
    }
    for n in range(layers):
        base = f"model.layers.{n}."
        for name, shape in (
            ("self_attn.q_proj", changed.get("q", (8, 8))), ("self_attn.k_proj", changed.get("k", (4, 8))),
            ("self_attn.v_proj", (4, 8)), ("self_attn.o_proj", (8, 8)), ("mlp.gate_proj", changed.get("gate", (12, 8))),
            ("mlp.up_proj", (12, 8)), ("mlp.down_proj", (8, 12)), ("input_layernorm", (8,)),
            ("post_attention_layernorm", (8,)),
        ):  # fmt: skip
            found[f"{base}{name}.weight"] = (dtype, shape)
    found["model.norm.weight"] = (dtype, (8,))
    found["lm_head.weight"] = (dtype, changed.get("head", (16, 8)))
    return found


def folder(
    path: Path,
    tensors: Mapping[str, tuple[str, Sequence[int]]],
    parts: int = 1,
    config: Mapping[str, Any] | None = LLAMA,
    index: bool = True,
) -> Path:
    """A model folder in the layout of transformers: one file, or parts with an index."""
    path.mkdir(parents=True, exist_ok=True)
    if config is not None:
        (path / "config.json").write_text(json.dumps(config))
    if parts == 1:
        (path / "model.safetensors").write_bytes(safetensors(tensors))
        return path
    names = list(tensors)
    share = -(-len(names) // parts)
    weight_map, total = {}, 0
    for n in range(parts):
        file = f"model-{n + 1:05d}-of-{parts:05d}.safetensors"
        mine = {name: tensors[name] for name in names[n * share : (n + 1) * share]}
        total += header(mine, None)[1]
        weight_map.update(dict.fromkeys(mine, file))
        (path / file).write_bytes(safetensors(mine))
    if index:
        value = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (path / "model.safetensors.index.json").write_text(json.dumps(value))
    return path


def readings(path: Path) -> list[Reading]:
    """All that the source says of a folder or file."""
    return list(checkpoint.read(str(path), {}, "/"))


def facts(path: Path) -> dict[str, Any]:
    """The facts that it yields, by name."""
    return {one.name: one.value for one in readings(path) if isinstance(one, Fact)}


def unchecked(path: Path) -> list[Unchecked]:
    """What it could not look at."""
    return [one for one in readings(path) if isinstance(one, Unchecked)]


def problems(path: Path) -> dict[str, tuple[str, bool]]:
    """The faulty files: for each name the word, and whether a loader would take the file."""
    return dict(_problems(facts(path)))


def _problems(known: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, bool]]]:
    for name, value in known.items():
        if name.startswith("weight.") and name.endswith(".file"):
            label = name.removesuffix(".file")
            yield value, (known[f"{label}.problem"], known[f"{label}.used"])
