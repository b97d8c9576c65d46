"""Small model folders with a tokenizer, as the tests need them."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from diagnose.model import Fact, Reading, Unchecked
from diagnose.sources import tokenizer

Value = str | int | float | bool

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def byte_letters() -> dict[int, str]:
    """The letter that stands for each byte in byte-level vocabularies."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [number for number in range(256) if number not in plain]
    return {number: chr(number) for number in plain} | {number: chr(256 + at) for at, number in enumerate(others)}


def byte_level(merges: Iterable[str] = ("t h", "th e"), added: Iterable[str] = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")) -> dict[str, Any]:  # fmt: skip
    """A tokenizer.json as Qwen and Llama 3 have one: every text can be written with it."""
    vocab = {letter: number for number, letter in enumerate(byte_letters().values())}
    listed = list(merges)
    for merge in listed:
        vocab.setdefault(merge.replace(" ", ""), len(vocab))
    step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [token(text, len(vocab) + at) for at, text in enumerate(added)],
        "normalizer": None,
        "pre_tokenizer": step,
        "post_processor": None,
        "decoder": step,
        "model": {"type": "BPE", "vocab": vocab, "merges": listed, "unk_token": None, "byte_fallback": False},
    }


def token(text: str, number: int, special: bool = True) -> dict[str, Any]:
    """An entry of `added_tokens`."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": special}
    return {"id": number, "content": text, **flags}


def config(**others: Any) -> dict[str, Any]:
    """A tokenizer_config.json of a chat model."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "chat_template": CHATML,
        **others,
    }


def folder(path: Path, **files: Any) -> Path:
    """A folder `Tiny-Chat` with a whole model's small files; `files` replaces some (`None` leaves one out).

    A name is a file's with `_` for the dot: `tokenizer_json`, `merges_txt`.
    """
    made = path / "Tiny-Chat"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    contents: dict[str, Any] = {
        "tokenizer_json": byte_level(),
        "tokenizer_config_json": config(),
        "config_json": {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 320, "eos_token_id": 260},
        "generation_config_json": {"eos_token_id": [260, 258]},
        **files,
    }  # fmt: skip
    for name, content in contents.items():
        if content is None:
            continue
        head, _, ending = name.rpartition("_")
        data = content if isinstance(content, (str, bytes)) else json.dumps(content, ensure_ascii=False)
        (made / f"{head}.{ending}").write_bytes(data if isinstance(data, bytes) else data.encode())
    return made


def facts(path: Path) -> dict[str, Value]:
    """What is known of a folder, by name."""
    return {reading.name: reading.value for reading in read(path) if isinstance(reading, Fact)}


def read(path: Path) -> list[Reading]:
    """All that is said of a folder."""
    return list(tokenizer.read_folder(str(path), path.name, path.name))


def unchecked(path: Path) -> list[Unchecked]:
    """What could not be looked at."""
    return [reading for reading in read(path) if isinstance(reading, Unchecked)]


def sentencepiece(pieces: Iterable[tuple[str, int]], algorithm: int = 1) -> bytes:
    """A SentencePiece model: pieces with their types (1 normal, 2 unknown, 3 control, 6 byte)."""
    out = b""
    for number, (text, kind) in enumerate(pieces):
        entry = _field(1, text.encode()) + b"\x15" + struct.pack("<f", -float(number))
        if kind != 1:
            entry += b"\x18" + bytes([kind])
        out += _field(1, entry)
    return out + _field(2, b"\x18" + bytes([algorithm]))


def _field(number: int, data: bytes) -> bytes:
    size, length = len(data), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + data
