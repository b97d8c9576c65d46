"""The tokenizer inside a GGUF file: its special tokens, its chat template, and where llama.cpp ends an answer."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from diagnose.model import Fact, Reading
from diagnose.sources.checkpoint import gguf
from diagnose.sources.tokenizer.template import Source

NAMES = (("eos", "eos_token_id"), ("bos", "bos_token_id"), ("pad", "padding_token_id"), ("unk", "unknown_token_id"))
"""Special tokens, and the last part of the key that holds their id."""
ENDS = frozenset(
    (
        "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>",
        "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>",
        "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>", "<｜end▁of▁sentence｜>", "[e~[",
    )
)  # fmt: skip
"""Tokens at which llama.cpp stops whatever the file says of them (src/llama-vocab.cpp, read in 2026)."""
_CONTROL = (3, 4)
"""Token types that are no ordinary text: control, user defined."""
_TEMPLATE = "tokenizer.chat_template"


class Embedded(Struct, frozen=True):
    """What a GGUF file holds of a tokenizer. `special` are texts by name, `tokens` those that are no ordinary text."""

    special: dict[str, str]
    ids: dict[str, int]
    tokens: tuple[str, ...]
    count: int
    ends: frozenset[str]
    template: Source | None
    others: tuple[Source, ...]


def read(path: str) -> Embedded | None:
    """Read it; None if the file holds none, or what holds it cannot be read (its own source tells why)."""
    header = gguf.read_header(path)
    texts = [str(item) for item in gguf.items(path, header, "tokenizer.ggml.tokens")]
    types = gguf.items(path, header, "tokenizer.ggml.token_type")
    marked = {text: number for number, (text, kind) in enumerate(zip(texts, types, strict=False)) if kind in _CONTROL}
    special: dict[str, str] = {}
    for name, key in NAMES:
        number = header.number(f"tokenizer.ggml.{key}")
        if number is not None and 0 <= number < len(texts):
            special[name] = texts[number]
            marked.setdefault(texts[number], number)
    ends = {special["eos"]} if "eos" in special else set()
    for key in ("eot_token_id", "eom_token_id"):
        number = header.number(f"tokenizer.ggml.{key}")
        if number is not None and 0 <= number < len(texts):
            ends.add(texts[number])
    text = header.text(_TEMPLATE)
    named = [
        key for key, value in header.metadata.items() if key.startswith(f"{_TEMPLATE}.") and isinstance(value, str)
    ]
    others = tuple(Source(key.removeprefix(f"{_TEMPLATE}."), header.text(key), key) for key in named[:16])
    if not texts and not text:
        return None
    chosen = Source("default", text, _TEMPLATE) if text else None
    return Embedded(special, marked, tuple(marked), len(texts), frozenset(ends), chosen, others)


def facts(found: Embedded, origin: str) -> Iterator[Reading]:
    """The facts about tokens. That a file has no template is no fault: llama.cpp then takes ChatML."""
    yield Fact("tokenizer.kind", "gguf", origin)
    if found.count:
        yield Fact("tokenizer.vocab_size", found.count, origin)
    for name, text in found.special.items():
        yield Fact(f"special.{name}.text", text[:100], origin)
        yield Fact(f"special.{name}.id", found.ids[text], origin)
    if found.template is not None:
        yield Fact("template.source", found.template.file, origin)


def stops(end: str, found: Embedded, origin: str) -> Iterator[Reading]:
    """Whether llama.cpp stops at the token that ends a turn."""
    number = found.ids.get(end)
    if number is None:
        return
    yield Fact("template.turn_end_id", number, origin)
    yield Fact("template.turn_end_stops", "everywhere" if end in found.ends or end in ENDS else "nowhere", origin)
