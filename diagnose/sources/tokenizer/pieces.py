"""Older vocabulary files: SentencePiece models and tiktoken's ranks, read within bounds."""

from __future__ import annotations

import base64
import binascii

from msgspec import Struct

from diagnose.sources import files

MOST_BYTES = 32 << 20
"""The largest such file that is read; published ones have up to 8 MB."""
MOST_PIECES = 2_000_000
_CONTROL = (2, 3, 4, 5)
"""Types of pieces that are no ordinary text in sentencepiece_model.proto: unknown, control, user defined, unused."""


class Pieces(Struct, frozen=True):
    """Text → id; `control` are ids that stand for no ordinary text; `error` says why there is nothing, `line` where."""

    ids: dict[str, int] = {}
    control: frozenset[int] = frozenset()
    algorithm: str = ""
    error: str = ""
    line: int = 0


def sentencepiece(path: str) -> Pieces:
    """Read a SentencePiece model: a protocol buffer whose field 1 is the list of pieces."""
    data = files.read_bytes(path, MOST_BYTES + 1)
    if data is None:
        return Pieces(error="it cannot be read")
    if len(data) > MOST_BYTES:
        return Pieces(error=f"it has more than {MOST_BYTES:,} bytes")
    try:
        return _model(data)
    except (ValueError, IndexError) as error:
        return Pieces(error=f"it is no SentencePiece model: {error}")


def _model(data: bytes) -> Pieces:
    ids: dict[str, int] = {}
    control: set[int] = set()
    algorithm, at, number = "", 0, 0
    while at < len(data):
        key, at = _number(data, at)
        start, at = _skip(data, at, key & 7)
        if key == 10:  # field 1, a piece
            text, kind = _usual(data[start:at]) or _piece(data, start, at)
            ids.setdefault(text, number)
            if kind in _CONTROL:
                control.add(number)
            number += 1
            if number > MOST_PIECES:
                raise ValueError("it has too many pieces")
        elif key == 18:  # field 2, how it was trained
            algorithm = {1: "Unigram", 2: "BPE"}.get(_inner_number(data, start, at, 3, 1), "")
    if not ids:
        raise ValueError("it has no pieces")
    return Pieces(ids, frozenset(control), algorithm)


def _usual(entry: bytes) -> tuple[str, int] | None:
    """A piece as the trainer writes it: its text, its score, perhaps its type. There are a quarter of a million."""
    if entry[:1] == b"\n" and len(entry) > 6 and (size := entry[1]) < 128 and entry[size + 2 : size + 3] == b"\x15":
        rest = len(entry) - size
        if rest == 7:
            return entry[2 : size + 2].decode("utf-8", "replace"), 1
        if rest == 9 and entry[size + 7] == 24 and entry[size + 8] < 128:
            return entry[2 : size + 2].decode("utf-8", "replace"), entry[size + 8]
    return None


def _piece(data: bytes, at: int, end: int) -> tuple[str, int]:
    """Text and type of a piece; 1 is the type of one that does not say it."""
    text, kind = "", 1
    while at < end:
        key, at = _number(data, at)
        if key == 10:
            size, at = _number(data, at)
            if at + size > end:
                raise ValueError("a piece reaches beyond its end")
            text, at = data[at : at + size].decode("utf-8", "replace"), at + size
        elif key == 24:
            kind, at = _number(data, at)
        else:
            _, at = _skip(data, at, key & 7)
    return text, kind


def _inner_number(data: bytes, at: int, end: int, field: int, default: int) -> int:
    while at < end:
        key, at = _number(data, at)
        if key == field << 3:
            return _number(data, at)[0]
        _, at = _skip(data, at, key & 7)
    return default


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A number of variable length, and where it ends."""
    byte = data[at]
    if byte < 128:
        return byte, at + 1
    value, shift = byte & 127, 7
    while True:
        at += 1
        byte = data[at]
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at + 1
        shift += 7
        if shift > 63:
            raise ValueError("a number has too many bytes")


def _skip(data: bytes, at: int, wire: int) -> tuple[int, int]:
    """Where a field's content begins and ends."""
    if wire == 2:
        size, at = _number(data, at)
        end = at + size
    elif wire == 0:
        end = _number(data, at)[1]
    elif wire == 5:
        end = at + 4
    elif wire == 1:
        end = at + 8
    else:
        raise ValueError("it has a field of unknown kind")
    if end > len(data):
        raise ValueError("it is cut off")
    return at, end


def tiktoken(path: str) -> Pieces:
    """Read tiktoken's list: on each line a piece in base64 and its rank. Bytes that are no text are kept as Latin-1."""
    data = files.read_bytes(path, MOST_BYTES + 1)
    if data is None:
        return Pieces(error="it cannot be read")
    if len(data) > MOST_BYTES:
        return Pieces(error=f"it has more than {MOST_BYTES:,} bytes")
    ids: dict[str, int] = {}
    for line, row in enumerate(data.split(b"\n"), 1):
        if not row.strip():
            continue
        parts = row.split()
        try:
            if len(parts) != 2:
                raise ValueError
            text, number = base64.b64decode(parts[0], validate=True), int(parts[1])
        except (ValueError, binascii.Error):
            return Pieces(error="a line is not a piece in base64 and a number", line=line)
        ids[text.decode("latin-1")] = number
    return Pieces(ids, algorithm="BPE") if ids else Pieces(error="it has no pieces")
