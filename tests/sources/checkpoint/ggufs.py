"""GGUF files, written byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

KINDS = {"u8": (0, "B"), "i8": (1, "b"), "u16": (2, "H"), "i16": (3, "h"), "u32": (4, "I"), "i32": (5, "i"), "f32": (6, "f"), "bool": (7, "B"), "u64": (10, "Q"), "i64": (11, "q"), "f64": (12, "d")}  # fmt: skip
TENSORS = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q8_0": (8, 32, 34), "Q4_K": (12, 256, 144)}

TOKENS = ["<unk>", "<s>", "</s>", *(f"token{n}" for n in range(13))]
LLAMA: Mapping[str, Any] = {
    "general.architecture": "llama",
    "llama.context_length": ("u32", 64),
    "llama.embedding_length": ("u32", 8),
    "llama.block_count": ("u32", 2),
    "llama.feed_forward_length": ("u32", 12),
    "llama.attention.head_count": ("u32", 2),
    "llama.attention.head_count_kv": ("u32", 1),
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": ("[str]", TOKENS),
    "tokenizer.ggml.scores": ("[f32]", [0.5] * len(TOKENS)),
    "tokenizer.ggml.token_type": ("[i32]", [1] * len(TOKENS)),
    "tokenizer.ggml.bos_token_id": ("u32", 1),
    "tokenizer.ggml.eos_token_id": ("u32", 2),
}


def text(value: str, order: str = "<") -> bytes:
    """A text with its length."""
    raw = value.encode()
    return struct.pack(f"{order}Q", len(raw)) + raw


def value_bytes(value: Any, order: str = "<") -> bytes:
    """The type and the bytes of a value: a text, or a pair of type and value; lists have the type in brackets."""
    if isinstance(value, str):
        return struct.pack(f"{order}I", 8) + text(value, order)
    kind, content = value
    if kind.startswith("["):
        inner = kind[1:-1]
        number, letter = (8, "") if inner == "str" else KINDS[inner]
        front = struct.pack(f"{order}IIQ", 9, number, len(content))
        if inner == "str":
            return front + b"".join(text(one, order) for one in content)
        return front + struct.pack(f"{order}{len(content)}{letter}", *content)
    number, letter = KINDS[kind]
    return struct.pack(f"{order}I{letter}", number, content)


def gguf(
    metadata: Mapping[str, Any] = LLAMA,
    tensors: Mapping[str, tuple[str, Sequence[int]]] | None = None,
    version: int = 3,
    order: str = "<",
    magic: bytes = b"GGUF",
) -> bytes:
    """A whole file; the tensors' data are ones. `tensors`: type and shape as ggml has it, the row's length first."""
    tensors = llama() if tensors is None else tensors
    front = magic + struct.pack(f"{order}IQQ", version, len(tensors), len(metadata))
    for key, value in metadata.items():
        front += text(key, order) + value_bytes(value, order)
    at, sizes = 0, []
    for name, (kind, shape) in tensors.items():
        number, block, size = TENSORS[kind]
        count = 1
        for dimension in shape:
            count *= dimension
        front += text(name, order) + struct.pack(f"{order}I{len(shape)}QIQ", len(shape), *shape, number, at)
        sizes.append(count // block * size)
        at += -(-sizes[-1] // 32) * 32
    front += b"\0" * (-len(front) % 32)
    return front + b"".join(b"\1" * size + b"\0" * (-size % 32) for size in sizes)


def llama(layers: int = 2, rows: int = len(TOKENS), width: int = 8) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The tensors of a small Llama."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {"token_embd.weight": ("F32", (width, rows))}
    for n in range(layers):
        found[f"blk.{n}.attn_norm.weight"] = ("F32", (width,))
        found[f"blk.{n}.attn_q.weight"] = ("F16", (width, width))
    found["output_norm.weight"] = ("F32", (width,))
    return found
