"""JSON Lines → examples; a line that cannot be read is counted with its reason, and the rest goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from diagnose.sources.data.batch import Batch, Example, word_for
from diagnose.sources.data.blocks import Block
from diagnose.sources.data.tally import Tally

_EVERY, _ALL = 97, 500
"""Of how many lines one is looked at for keys that stand twice, and up to which line every one."""


def batches(blocks: Iterable[Block], tally: Tally) -> Iterator[Batch]:
    """The objects of all lines. Raises what the blocks raise."""
    decode = msgspec.json.Decoder().decode
    seen = 0
    for block in blocks:
        if block.huge:
            tally.add("huge_lines", block.line, f"{block.huge:,} bytes")
            continue
        rows: list[tuple[int, Example]] = []
        step = 1 if block.line else 0
        line = block.line - step
        for raw in block.data.split(b"\n"):
            line += step
            if not raw or raw == b"\r":
                continue
            try:
                value = decode(raw)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                value = _again(raw, line, tally, block.open_end)
                if value is _NOTHING:
                    continue
            if type(value) is not dict:
                tally.add("not_objects", line, word_for(type(value)))
                continue
            seen += 1
            if seen % _EVERY == 0 or seen < _ALL:
                _twice(raw, line, tally)
            rows.append((line, value))
        yield Batch(rows, block.offset, block.done)


_NOTHING = object()


def _again(raw: bytes, line: int, tally: Tally, last: bool) -> Any:
    """A line that is no plain JSON: what Python still reads of it, or `_NOTHING` with the reason counted."""
    if not raw.strip():
        return _NOTHING
    if not raw.strip(b"\0\r\n \t"):
        tally.add("nul_bytes", line, f"{len(raw):,} bytes, all zero")
        return _NOTHING
    text = decoded(raw, line, tally)
    try:
        value = json.loads(text, parse_constant=lambda word: constant(word, line, tally))
    except json.JSONDecodeError as error:
        if 0 <= raw.find(b"\0") < 64 << 10:
            tally.add("nul_bytes", line, "a byte that is zero stands in the text")
        elif last:
            tally.add("cut_off", line, _reason(error))
        else:
            tally.add(*_unreadable(error, text, line))
        return _NOTHING
    except RecursionError:
        tally.add("too_deep", line, "lists or objects within each other, hundreds deep")
        return _NOTHING
    except ValueError as error:
        tally.add("unreadable", line, str(error))
        return _NOTHING
    if _has_half_characters(value):
        tally.add("half_characters", line, "an escape such as \\ud83d without its other half")
    return value


def constant(word: str, line: int, tally: Tally) -> float:
    """The value of NaN or Infinity, which Python writes and JSON does not have; it is counted."""
    tally.add("constants", line, word)
    return float(word.replace("Infinity", "inf"))


def _unreadable(error: json.JSONDecodeError, text: str, line: int) -> tuple[str, int, str]:
    """Which kind of broken line it is: one with several objects, one that Python's repr wrote, or another."""
    if error.msg == "Extra data" and text[error.pos : error.pos + 1] in ("{", ","):
        return "several_on_line", line, f"column {error.colno}"
    if text.lstrip().startswith("{'"):
        return "python_repr", line, "keys in single quotes"
    if "control character" in error.msg:
        return "raw_controls", line, f"column {error.colno}: {ord(text[error.pos]):#04x}"
    return "unreadable", line, _reason(error)


def _reason(error: json.JSONDecodeError) -> str:
    return f"{error.msg} (column {error.colno})"


def decoded(raw: bytes, line: int, tally: Tally) -> str:
    """The text of a line; a byte order mark, and what is not UTF-8, are counted."""
    if line == 1 and raw.startswith(b"\xef\xbb\xbf"):
        tally.add("byte_order_mark", line)
        raw = raw[3:]
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        tally.add("not_utf8", line, not_utf8(raw, error.start))
        return raw.decode("cp1252", "replace")


def not_utf8(raw: bytes, at: int) -> str:
    """Which byte is not UTF-8, and what it would be in the encoding that Windows uses."""
    byte = raw[at]
    letter = bytes((byte,)).decode("cp1252", "ignore")
    meant = f"; in Windows-1252 it is {letter}" if letter.isalpha() else ""
    return f"byte 0x{byte:02x} at column {at + 1}{meant}"


def _has_half_characters(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return True
    except RecursionError:  # writing takes a step more than reading did
        return False
    return False


def _twice(raw: bytes, line: int, tally: Tally) -> None:
    """Whether an object has a key twice: decoders take the last one and say nothing, pyarrow refuses it."""
    try:
        json.loads(raw, object_pairs_hook=_pairs(line, tally))
    except (ValueError, RecursionError):
        return


def _pairs(line: int, tally: Tally) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    def made(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) < len(items):
            names = [name for name, _ in items]
            tally.add("keys_twice", line, next(name for name in names if names.count(name) > 1))
        return found

    return made
