"""Special tokens in every place where they are written: do the files agree, and has the model a row for each?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from diagnose.model import Fact, Reading
from diagnose.sources.tokenizer.document import Added
from diagnose.sources.tokenizer.files import Files
from diagnose.sources.tokenizer.vocabulary import Vocabulary, decoder_entries, rows_of

NAMES = ("eos", "bos", "pad", "unk")
_END = re.compile(r"^(?=.*[<\[|])(?:</s>|.*(?:end|eo[stdm]|im_sep|return|stop).*)$", re.IGNORECASE)
"""What tokens that end something look like: </s>, <|endoftext|>, <|im_end|>, <eos>, <|eot_id|>, [EOS], <|return|>."""
_CONFIGS = (("generation_config.json", "generation"), ("config.json", "model"))


class Written(Struct, frozen=True):
    """A special token by name, as a loader takes it: its text, and the file that says so."""

    text: str
    file: str


def named(known: Files, vocabulary: Vocabulary) -> dict[str, Written]:
    """Special tokens by name (eos, bos, pad, unk), as transformers takes them.

    special_tokens_map.json counts only where tokenizer_config.json has no `added_tokens_decoder`.
    """
    found: dict[str, Written] = {}
    for name in NAMES:
        key = f"{name}_token"
        text, file = text_of(known.tokenizer_config.get(key)), "tokenizer_config.json"
        if "added_tokens_decoder" not in known.tokenizer_config and key in known.special_map:
            text, file = text_of(known.special_map[key]), "special_tokens_map.json"
        if text:
            found[name] = Written(text, file)
    return found


def text_of(value: Any) -> str:
    """The text of a token that is written as a text or as an object with `content`; empty for anything else."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else ""


def ids_of(value: Any) -> list[int]:
    """Ids that are written as a number or a list."""
    listed = value if isinstance(value, list) else [value]
    return [number for number in listed[:64] if isinstance(number, int) and not isinstance(number, bool)]


def stop_ids(known: Files) -> tuple[list[int], str]:
    """The ids at which `generate()` stops, and the file that says so: generation_config.json before config.json."""
    for file, part in _CONFIGS:
        value = getattr(known, part).get("eos_token_id")
        if part == "model" and value is None:
            value = known.language_model.get("eos_token_id")
        if value is not None:
            return ids_of(value), file
        if part == "generation" and known.generation:
            return [], file
    return [], ""


def facts(known: Files, vocabulary: Vocabulary) -> Iterator[Reading]:
    """The facts about the tokens with a name, then about all."""
    names = named(known, vocabulary)
    rows = rows_of(known)
    for name, written in names.items():
        yield from _one(name, written, known, vocabulary, rows)
    if vocabulary.ordinary or known.tokenizer_config:
        for name in ("eos", "bos", "pad"):
            if name not in names:
                yield Fact(f"special.{name}.missing", True, known.origin("tokenizer_config.json"))
    for name in ("bos", "pad"):
        yield from _in_config(name, names, known, vocabulary)
    if "pad" in names and "eos" in names:
        yield Fact("special.pad.is_eos", names["pad"].text == names["eos"].text, known.origin(names["pad"].file))
    yield from _stops(known, vocabulary, rows, names)
    yield from _conflicts(known, vocabulary)


def _one(name: str, written: Written, known: Files, vocabulary: Vocabulary, rows: int | None) -> Iterator[Reading]:
    origin = known.origin(written.file)
    yield Fact(f"special.{name}.text", written.text[:100], origin)
    number = vocabulary.id_of(written.text)
    if number is not None:
        yield Fact(f"special.{name}.id", min(number, 1 << 40), vocabulary.origin or origin)
        if rows is not None:
            where = vocabulary.origin or origin
            yield Fact("special.pad_outside" if name == "pad" else f"special.{name}.outside", number >= rows, where)
    elif vocabulary.ordinary and vocabulary.holds_all():
        yield Fact(f"special.{name}.not_in_vocabulary", True, origin)
    token = vocabulary.added.get(written.text)
    if token is not None and vocabulary.document is not None:
        yield Fact(f"special.{name}.marked", token.special, vocabulary.origin)
    other = text_of(known.special_map.get(f"{name}_token"))
    mine = text_of(known.tokenizer_config.get(f"{name}_token"))
    if other and mine and other != mine:
        yield Fact(f"special.{name}.other_text", other[:100], known.origin("special_tokens_map.json"))


def _in_config(name: str, names: dict[str, Written], known: Files, vocabulary: Vocabulary) -> Iterator[Reading]:
    """The id that config.json has for a token, where it is not the tokenizer's."""
    written = names.get(name)
    mine = vocabulary.id_of(written.text) if written is not None else None
    theirs = ids_of(known.language_model.get(f"{name}_token_id", known.model.get(f"{name}_token_id")))
    if mine is not None and theirs and mine not in theirs and vocabulary.document is not None:
        yield Fact(f"special.{name}.config_id", min(theirs[0], 1 << 40), known.origin("config.json"))


def _stops(known: Files, vocabulary: Vocabulary, rows: int | None, names: dict[str, Written]) -> Iterator[Reading]:
    """The ids that end an answer: is each one a token that can end it?"""
    ids, file = stop_ids(known)
    if not ids:
        return
    origin = known.origin(file)
    yield Fact("special.eos.stop_ids", ", ".join(map(str, ids))[:200], origin)
    if vocabulary.document is None and not (vocabulary.kind == "sentencepiece" and vocabulary.holds_all()):
        return
    by_id = {number: text for text, number in vocabulary.ordinary.items()}
    marks = {token.id: token.text for token in vocabulary.added.values()}
    texts = [marks.get(number, by_id.get(number, "?")) for number in ids]
    yield Fact("special.eos.stop_texts", ", ".join(texts)[:200], origin)
    for name in ("bos", "unk"):
        written = names.get(name)
        if written is not None and written.text in texts and not ends_something(written.text, names):
            yield Fact("special.eos.stop_is_other", written.text[:100], origin)
    for number in ids:
        if rows is not None and number >= rows:
            if any(other < rows for other in ids):  # the model stops at another one, and cannot write this one
                continue
            yield Fact("special.eos.stop_outside", number if number < 1 << 40 else 1 << 40, origin)
        elif number in by_id and not vocabulary.is_marked(number) and not ends_something(by_id[number], names):
            yield Fact("special.eos.stop_is_text", by_id[number][:60], origin)
            yield Fact("special.eos.stop_is_text_id", number, origin)


def ends_something(text: str, names: dict[str, Written]) -> bool:
    """Whether a token ends a text or turn, by its name or its looks: <|endoftext|> may be the unk or bos token as well."""
    return text == getattr(names.get("eos"), "text", "") or _END.search(text) is not None


def _conflicts(known: Files, vocabulary: Vocabulary) -> Iterator[Reading]:
    """Texts that have one id here and another there; the first five are told."""
    if vocabulary.document is None:
        return
    ids = {token.text: token.id for token in vocabulary.document.added()}
    told = 0
    places: list[tuple[str, list[Added]]] = [
        ("tokenizer_config.json", decoder_entries(known.tokenizer_config)),
        ("added_tokens.json", [Added(text, number, False) for text, number in known.added.items() if isinstance(number, int)]),
    ]  # fmt: skip
    by_id = {number: text for text, number in ids.items()}
    end = max(max(ids.values(), default=-1), max(vocabulary.ordinary.values(), default=-1)) + 1
    for file, tokens in places:
        for token in sorted(tokens, key=lambda token: token.id):
            here = ids.get(token.text, vocabulary.ordinary.get(token.text))
            if here is None and file == "tokenizer_config.json":  # a loader puts it behind the last one
                here = end
                end += 1
            if here is None or here == token.id or told >= 5:
                continue
            yield Fact(f"conflict.{told}.token", token.text[:100], known.origin(file))
            yield Fact(f"conflict.{told}.id", min(token.id, 1 << 40), known.origin(file))
            yield Fact(f"conflict.{told}.other_id", here, vocabulary.origin)
            taken = by_id.get(token.id)
            if taken is not None and taken != token.text:
                yield Fact(f"conflict.{told}.taken_by", taken[:100], vocabulary.origin)
            told += 1
