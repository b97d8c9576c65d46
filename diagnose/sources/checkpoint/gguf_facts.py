"""A GGUF model → facts: its file or its parts, what its metadata say of the model, and whether its tokenizer and tensors fit them.

`model.*` are the facts that config.json gives for other models. What llama.cpp knows is in dataset/gguf.json.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from diagnose.model import Fact, Reading, Step, Unchecked
from diagnose.places import table
from diagnose.sources.checkpoint import gguf, weights
from diagnose.sources.checkpoint.gguf import Header
from diagnose.sources.checkpoint.listing import UNFINISHED, Entry, entry_at, meant
from diagnose.sources.checkpoint.weights import Problem
from diagnose.sources.settings import words

if TYPE_CHECKING:
    from diagnose.sources.checkpoint.where import Found

MOST_PARTS = 999
MOST_FILES = 16
"""How many GGUF files of a folder that holds several are looked at."""
_PART = re.compile(r"^(?P<prefix>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf$", re.ASCII)
_OLD_MAGIC = {
    b"lmgg": "ggml",
    b"fmgg": "ggmf",
    b"tjgg": "ggjt",
    b"algg": "ggla",
    b"ggml": "ggml",
    b"ggmf": "ggmf",
    b"ggjt": "ggjt",
    b"ggla": "ggla",
}
"""As the number lies in a file, and as it is spelt."""
_ALIKE = words("llama qwen2 qwen3 qwen3moe qwen2moe gemma gemma2 gemma3 phi3 olmo2 granite starcoder2 mistral3")
"""Architectures of which every layer has the same tensors."""
_UNLIKE = words("deci eagle3 dflash gemma4-assistant wavtokenizer-dec qwen3tts pockettts t5 t5encoder")
"""Architectures whose layers are counted in another way, or may be empty (pruned)."""
_ATTENTION = ("attn_q.weight", "attn_k.weight", "attn_v.weight")
_SPECIAL = ("bos", "eos", "eot", "unknown", "padding")
_NUMBERS = (
    ("hidden_size", "embedding_length"),
    ("layers", "block_count"),
    ("positions", "context_length"),
    ("heads", "attention.head_count"),
    ("kv_heads", "attention.head_count_kv"),
    ("head_dim", "attention.key_length"),
    ("intermediate_size", "feed_forward_length"),
    ("experts", "expert_count"),
    ("experts_per_token", "expert_used_count"),
    ("sliding_window", "attention.sliding_window"),
    ("rope_factor", "rope.scaling.factor"),
    ("rope_original", "rope.scaling.original_context_length"),
)
"""Facts of the model and the keys behind the architecture's name that hold them."""
_NEEDED = ("context_length", "embedding_length", "block_count")
"""Keys that llama.cpp demands of every architecture (llama_model_base::load_hparams)."""


@cache
def known() -> dict[str, Any]:
    """The table of what llama.cpp knows."""
    return table("gguf.json")


def read(found: Found) -> Iterator[Reading]:
    """Facts of a GGUF file with its further parts, or of a folder of several models (of these only what is wrong)."""
    yield Fact("weights.format", "gguf", found.path)
    if found.kind == "gguf":
        yield from _model(found)
        return
    problems: list[Problem] = []
    names = [name for name in found.names if name.lower().endswith(".gguf")]
    yield Fact("weights.files", len(names), found.path)
    for name in names[:MOST_FILES]:
        entry = entry_at(found.folder, name)
        if entry is not None:
            _, problem = yield from _header(entry)
            problems.extend([problem] if problem else [])
    problems.extend(_unfinished(found, used=False))
    yield from weights.told(found, problems)


def _model(found: Found) -> Iterator[Reading]:
    name = os.path.basename(found.path)
    entry = entry_at(os.path.dirname(found.path), name)
    if entry is None:
        return
    header, problem = yield from _header(entry)
    problems = [problem] if problem else []
    parts = [(name, header)] if header is not None else []
    if header is not None:
        yield from _split(found, name, header, parts, problems)
    problems.extend(_unfinished(found, used=False))
    yield Fact("weights.files", len(parts), found.path)
    yield from weights.told(found, problems)
    if header is None:
        return
    if header.number("split.no"):  # a later part: the metadata of the model are in the first
        return
    yield from _identity(header, name)
    yield from _numbers(header, name)
    if (
        len(header.tensors) < header.tensor_count
    ):  # it breaks off within the metadata or the table: what is not there is not known
        return
    yield from _keys(header, name)
    yield from _tokenizer(header, name)
    if not any(one.used and one.problem != "truncated" for one in problems):
        yield from _tensors(parts, header, name)


def _header(entry: Entry) -> Generator[Reading, None, tuple[Header | None, Problem | None]]:
    """The header (None if nothing of it can be read) and what is wrong with the file; returned to `yield from`."""
    yield Step(f"reading the header of {entry.path[: weights.LONGEST]}")
    if entry.problem:
        return None, Problem(entry.name, entry.problem, entry.why, says=entry.target)
    header = gguf.read_header(entry.path)
    if header.problem == "unread":
        yield Unchecked(f"the header of {entry.name[: weights.LONGEST]}", header.why)
        return (header if header.metadata else None), None
    if header.problem == "bad-magic" or (header.problem == "truncated" and not header.version):
        return None, _no_gguf(entry, header)
    if not header.problem:
        return header, None
    problem = Problem(
        entry.name, header.problem, header.why, True, header.size, header.expected, says=header.subject[:300]
    )
    return (header if header.metadata else None), problem


def _no_gguf(entry: Entry, header: Header) -> Problem:
    from diagnose.sources import files

    magic = (files.read_bytes(entry.path, 8) or b"")[:4]
    if magic in _OLD_MAGIC:
        why = f"it is in the format {_OLD_MAGIC[magic]}, which llama.cpp read before GGUF (August 2023)"
        return Problem(entry.name, "old-ggml", why, True, header.size, says=_OLD_MAGIC[magic])
    told = weights.disguised(entry)
    if told is not None:
        return told
    return Problem(entry.name, header.problem, header.why, True, header.size)


def _unfinished(found: Found, used: bool) -> Iterator[Problem]:
    """Downloads of GGUF files in the same folder that are not done."""
    here = found.names if found.kind != "gguf" else _names(os.path.dirname(found.path))
    for name in here:
        if UNFINISHED.search(name) and ".gguf" in name.lower():
            whole = meant(name) == os.path.basename(found.path)
            yield Problem(
                name, "partial", f"it is the part of a download of {meant(name)}", whole or used, says=meant(name)
            )


def _names(folder: str) -> tuple[str, ...]:
    from diagnose.sources.checkpoint.where import names_of

    return names_of(folder) or ()


def _split(
    found: Found, name: str, first: Header, parts: list[tuple[str, Header]], problems: list[Problem]
) -> Iterator[Reading]:
    """The further parts of a split model, found by the name as llama.cpp finds them."""
    count, number = first.number("split.count"), first.number("split.no")
    told = _PART.match(name)
    if not count or count < 2:
        return
    yield Fact("gguf.split_count", count, name)
    if number is None:
        return
    yield Fact("gguf.split_number", number, name)
    right = told is not None and int(told["number"]) == number + 1 and int(told["count"]) == count
    yield Fact("gguf.split_name_right", right, name)
    if told is None or not right or number != 0:
        return
    missing = []
    folder = os.path.dirname(found.path)
    for index in range(1, min(count, MOST_PARTS)):
        other = f"{told['prefix']}-{index + 1:05d}-of-{count:05d}.gguf"
        entry = entry_at(folder, other)
        if entry is None:
            missing.append(other)
            continue
        header, problem = yield from _header(entry)
        problems.extend([problem] if problem else [])
        if header is not None:
            parts.append((other, header))
            if header.number("split.no") != index:
                why = f"it says that it is part {header.number('split.no')} (counted from 0), and its name says {index}"
                problems.append(Problem(other, "wrong-part", why, size=header.size))
    yield Fact("gguf.split_missing", len(missing), name)
    problems.extend(
        Problem(one, "missing", f"the model has {count} parts and this one is not there") for one in missing
    )
    total = first.number("split.tensors.count")
    if total is not None and not problems:
        yield Fact("gguf.split_tensors", total, name)
        yield Fact("gguf.split_tensors_there", sum(header.tensor_count for _, header in parts), name)


def _identity(header: Header, name: str) -> Iterator[Fact]:
    yield Fact("gguf.format_version", header.version, name)
    yield Fact("gguf.big_endian", header.big_endian, name)
    yield Fact("gguf.foreign_order", header.big_endian != (sys.byteorder == "big"), name)
    yield Fact("gguf.kind", _kind(header), name)
    architecture = header.text("general.architecture")
    yield Fact("gguf.architecture", architecture[:100] or "none", name)
    if _kind(header) != "model" or not architecture:
        return
    table = known()
    yield Fact("gguf.architecture_known", architecture in table["architectures"], name)
    if architecture not in table["architectures"]:
        from difflib import get_close_matches

        close = get_close_matches(architecture[:100], table["architectures"], 1, 0.6)
        yield Fact("gguf.architecture_nearest", close[0] if close else "none", name)


def _keys(header: Header, name: str) -> Iterator[Fact]:
    """Keys that llama.cpp demands and the file lacks."""
    architecture = header.text("general.architecture")
    if _kind(header) != "model" or architecture not in known()["architectures"]:
        return
    needed = list(_NEEDED)
    if any(tensor.name == "blk.0.attn_q.weight" for tensor in header.tensors):
        needed.append("attention.head_count")
    missing = [key for key in needed if f"{architecture}.{key}" not in header.metadata]
    yield Fact("gguf.keys_missing", ", ".join(f"{architecture}.{key}" for key in missing) or "none", name)


def _kind(header: Header) -> str:
    """What a GGUF file is: model, mmproj, adapter, imatrix or vocabulary (no tensors; a first part may have none too)."""
    told = header.text("general.type")
    if told in ("imatrix", "mmproj"):
        return told
    if header.text("general.architecture") == "clip":
        return "mmproj"
    if header.array("imatrix.datasets") is not None or "imatrix.chunk_count" in header.metadata:
        return "imatrix"
    if any(tensor.name.endswith((".lora_a", ".lora_b")) for tensor in header.tensors):
        return "adapter"
    return "vocabulary" if not header.tensor_count and not header.number("split.count") else "model"


def _numbers(header: Header, name: str) -> Iterator[Fact]:
    """`model.*` of the metadata; a number that differs from layer to layer is not told."""
    architecture = header.text("general.architecture")
    if not architecture or _kind(header) != "model":
        return
    for fact, key in _NUMBERS:
        value = _uniform(header, f"{architecture}.{key}")
        if value is not None and (value or fact != "experts"):
            yield Fact(f"model.{fact}", value, name)
    heads, width = (
        _uniform(header, f"{architecture}.attention.head_count"),
        header.number(f"{architecture}.embedding_length"),
    )
    if f"{architecture}.attention.key_length" not in header.metadata and heads and width and width % heads == 0:
        yield Fact("model.head_dim", width // heads, name)
    if f"{architecture}.attention.head_count_kv" not in header.metadata and heads:
        yield Fact("model.kv_heads", heads, name)
    context = header.number(f"{architecture}.context_length")
    if context is not None:
        yield Fact("model.context", context, name)
    scaling = header.text(f"{architecture}.rope.scaling.type")
    if scaling:
        yield Fact("model.rope_type", scaling[:40], name)
    yield Fact("model.quantization", "gguf", name)


def _uniform(header: Header, key: str) -> int | float | None:
    value = header.metadata.get(key)
    if isinstance(value, gguf.Array):
        items = set(value.items)
        value = items.pop() if len(items) == 1 else None
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _tokenizer(header: Header, name: str) -> Iterator[Fact]:
    """What llama.cpp needs of the tokenizer (src/llama-vocab.cpp)."""
    if _kind(header) not in ("model", "vocabulary"):
        return
    kind = header.text("tokenizer.ggml.model")
    yield Fact("gguf.tokenizer", kind[:60] or "missing", name)
    if not kind:
        return
    yield Fact("gguf.tokenizer_known", kind in known()["tokenizers"], name)
    yield Fact("gguf.chat_template", bool(header.text("tokenizer.chat_template")), name)
    if kind in ("gpt2", "gemma4"):
        yield Fact("gguf.merges", header.array("tokenizer.ggml.merges") is not None, name)
    if kind == "gpt2":
        pre = header.text("tokenizer.ggml.pre")
        yield Fact("gguf.pre_tokenizer", pre[:60] or "none", name)
        if pre:
            yield Fact("gguf.pre_tokenizer_known", pre in known()["pre_tokenizers"], name)
    tokens = header.array("tokenizer.ggml.tokens")
    if kind not in ("none", "no_vocab"):
        yield Fact("gguf.tokens", tokens.count if tokens is not None else 0, name)
    if tokens is None:
        return
    for fact, key in (("scores", "scores"), ("token_types", "token_type")):
        array = header.array(f"tokenizer.ggml.{key}")
        if array is not None:
            yield Fact(f"gguf.{fact}", array.count, name)
    yield from _special(header, tokens.count, name)


def _special(header: Header, count: int, name: str) -> Iterator[Fact]:
    outside = []
    for word in _SPECIAL:
        value = header.number(f"tokenizer.ggml.{word}_token_id")
        if word in ("bos", "eos"):
            yield Fact(f"gguf.{word}_id", -1 if value is None else value, name)
        # 2^32 - 1 is how "none" is written
        if value is not None and value >= count and value != 0xFFFFFFFF:
            outside.append(f"tokenizer.ggml.{word}_token_id = {value}")
    yield Fact("gguf.special_outside", ", ".join(outside) or "none", name)


def _tensors(parts: Sequence[tuple[str, Header]], first: Header, name: str) -> Iterator[Fact]:
    """Sums over all parts, and the embedding and layers against the metadata."""
    tensors = {tensor.name: tensor for _, header in parts for tensor in header.tensors}
    sizes: Counter[str] = Counter()
    elements = 0
    for tensor in tensors.values():
        sizes[tensor.dtype] += tensor.size
        count = 1
        for dimension in tensor.shape:
            count *= dimension
        elements += count
    yield Fact("weights.tensors", len(tensors), name)
    yield Fact("weights.bytes", sizes.total(), name)
    if sizes:
        yield Fact("weights.dtype", sizes.most_common(1)[0][0], name)
        yield Fact("weights.dtypes", ", ".join(dtype for dtype, _ in sizes.most_common(8)), name)
        yield Fact("weights.parameters", elements, name)
    architecture = first.text("general.architecture")
    if _kind(first) != "model" or architecture not in known()["architectures"]:
        return
    embedding = tensors.get("token_embd.weight")
    if embedding is not None and len(embedding.shape) == 2:
        yield Fact("gguf.embedding_rows", embedding.shape[1], name)
        if architecture in _ALIKE:  # drafts may take the embedding of a wider model
            yield Fact("gguf.embedding_columns", embedding.shape[0], name)
        yield Fact("model.vocab_size", embedding.shape[1], name)
    if architecture in _ALIKE:
        yield from _lacking(set(tensors), name)
    if architecture not in _UNLIKE:
        yield from _layers(set(tensors), first.number(f"{architecture}.block_count"), name, architecture in _ALIKE)


def _lacking(names: set[str], name: str) -> Iterator[Fact]:
    """Tensors that a layer must have in these architectures, or that all other layers have, and that one lacks."""
    layers: dict[int, set[str]] = {}
    for one in names:
        told = re.match(r"blk\.(\d{1,5})\.(.+)", one)
        if told:
            layers.setdefault(int(told[1]), set()).add(told[2])
    if not layers:
        return
    common = {
        rest for rest in max(layers.values(), key=len) if sum(rest in one for one in layers.values()) > len(layers) / 2
    }
    lacking = []
    for number, rests in sorted(layers.items()):
        needed = common | ({"attn_output.weight", *_ATTENTION} if "attn_qkv.weight" not in rests else set())
        lacking += [f"blk.{number}.{rest}" for rest in sorted(needed - rests)]
    yield Fact("gguf.lacking", len(lacking), name)
    if lacking:
        yield Fact("gguf.lacking_example", lacking[0][:100], name)


def _layers(names: set[str], count: int | None, name: str, alike: bool) -> Iterator[Fact]:
    there = {int(told[1]) for one in names if (told := re.match(r"blk\.(\d{1,5})\.", one))}
    if not there or not count or count > 10_000:
        return
    missing = [number for number in range(count) if number not in there]
    yield Fact("gguf.layers_missing", len(missing), name)
    if missing:
        yield Fact("gguf.layers_missing_numbers", ", ".join(map(str, missing[:20])), name)
    if alike:  # others may have layers besides that predict ahead
        yield Fact("gguf.layers_extra", sum(number >= count for number in there), name)
