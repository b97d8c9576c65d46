"""tokenizer.json → its parts: decoded only as far as they are asked for, since the vocabulary and the merges are long."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from diagnose.sources import jsonfile

_NULL = Raw(b"null")


class Model(Struct):
    """The algorithm: its name, its vocabulary and what it does with text that it has no piece for."""

    type: Any = None
    vocab: Raw = _NULL
    merges: Raw = _NULL
    unk_token: Any = None
    unk_id: Any = None


class Added(Struct, frozen=True):
    """A token that is found in a text before the algorithm sees it."""

    text: str
    id: int
    special: bool


class Document(Struct):
    """The top level of tokenizer.json."""

    version: Any = None
    truncation: Any = None
    padding: Any = None
    added_tokens: Any = None
    pre_tokenizer: Any = None
    model: Model = msgspec.field(default_factory=Model)

    def added(self) -> list[Added]:
        """The added tokens that are written as they should be."""
        found = []
        for entry in self.added_tokens if isinstance(self.added_tokens, list) else ():
            if isinstance(entry, dict):
                text, number = entry.get("content"), entry.get("id")
                if isinstance(text, str) and isinstance(number, int) and not isinstance(number, bool):
                    found.append(Added(text, number, entry.get("special") is True))
        return found

    def vocabulary(self) -> dict[str, int]:
        """Every piece of the algorithm with its id. Raises ValueError if it is no vocabulary."""
        raw = bytes(self.model.vocab)
        if raw[:1] == b"[":
            pairs = msgspec.json.decode(raw, type=list[tuple[str, float]])
            return {piece: number for number, (piece, _) in enumerate(pairs)}
        return msgspec.json.decode(raw, type=dict[str, int])

    def first_merge(self) -> Any:
        """The first merge as it is written: a text with a blank, or a pair."""
        raw = bytes(self.model.merges)[:4096].lstrip()
        if not raw.startswith(b"["):
            return None
        inner = raw[1:].lstrip()
        return [] if inner.startswith(b"[") else "" if inner.startswith(b'"') else None

    def kind(self) -> str:
        """The algorithm's name, also where an old file leaves it out."""
        if isinstance(self.model.type, str):
            return self.model.type
        if self.first_merge() is not None:
            return "BPE"
        return "Unigram" if bytes(self.model.vocab)[:1] == b"[" else "WordPiece"


class Read(Struct, frozen=True):
    """What came of reading tokenizer.json: the document, its bytes, or why there is none."""

    document: Document | None = None
    data: bytes = b""
    error: str = ""
    line: int = 0


def read(path: str, most_bytes: int = jsonfile.MOST_BYTES) -> Read:
    """Read the file. Nothing is raised."""
    data = jsonfile.read_bytes(path, most_bytes)
    if not isinstance(data, bytes):
        return Read(error=data.error)
    try:
        return Read(msgspec.json.decode(data, type=Document), data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        told = jsonfile.parse(data)  # slower, and tells the line
        return Read(error=told.error or f"it is not written like a tokenizer.json: {error}", line=told.line)


def mentions(value: Any, key: str, wanted: str, depth: int = 0) -> bool:
    """Whether some object inside `value` has `wanted` under `key`: the steps of a pipeline can be nested."""
    if depth > 8:
        return False
    if isinstance(value, dict):
        return value.get(key) == wanted or any(mentions(item, key, wanted, depth + 1) for item in value.values())
    return isinstance(value, list) and any(mentions(item, key, wanted, depth + 1) for item in value[:64])


def texts_under(value: Any, key: str, depth: int = 0) -> list[str]:
    """Every text that stands under `key` in an object inside `value`."""
    if depth > 8:
        return []
    found: list[str] = []
    if isinstance(value, dict):
        if isinstance(value.get(key), str):
            found.append(value[key])
        for item in value.values():
            found += texts_under(item, key, depth + 1)
    elif isinstance(value, list):
        for item in value[:64]:
            found += texts_under(item, key, depth + 1)
    return found
