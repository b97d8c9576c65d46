"""A JSON file of somebody else's → its value, and what is odd about the text: it may be huge, broken, deep or no JSON at all."""

from __future__ import annotations

import json
from typing import Any

from msgspec import Struct

from diagnose.sources import files

MOST_BYTES = 64 << 20
"""The largest file that is read: the largest tokenizer.json of a published model has some 35 MB."""


class Loaded(Struct, frozen=True):
    """What a file holds. `value` is None if it cannot be read: `error` says why, in a sentence, and `line` where.

    `missing`: there is no such file. `duplicates`: keys that one object has twice (the last one counts, as for Python's
    json). `constants`: NaN or Infinity, which Python reads and other readers refuse.
    """

    value: Any = None
    error: str = ""
    line: int = 0
    missing: bool = False
    duplicates: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()
    byte_order_mark: bool = False


def load(path: str, most_bytes: int = MOST_BYTES) -> Loaded:
    """Read a JSON file. Nothing is raised; a pipe or device is not opened."""
    data = read_bytes(path, most_bytes)
    return data if isinstance(data, Loaded) else parse(data)


def read_bytes(path: str, most_bytes: int = MOST_BYTES) -> bytes | Loaded:
    """The bytes of a regular file, or why there are none."""
    try:
        with files.opened(path) as (handle, size):
            if size > most_bytes:
                return Loaded(error=f"it has {size:,} bytes; more than {most_bytes:,} are not read")
            with open(handle, "rb", closefd=False) as file:
                return file.read(most_bytes + 1)
    except FileNotFoundError:
        return Loaded(error="there is no such file", missing=True)
    except OSError as error:
        return Loaded(error=files.reason(error))


def parse(data: bytes) -> Loaded:
    """Read a JSON text."""
    mark = data.startswith(b"\xef\xbb\xbf")
    duplicates: dict[str, None] = {}
    constants: dict[str, None] = {}

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) < len(items):
            seen: set[str] = set()
            for key, _ in items:
                if key in seen:
                    duplicates[key] = None
                seen.add(key)
        return found

    def constant(word: str) -> float:
        constants[word] = None
        return float(word.replace("Infinity", "inf"))

    try:
        text = data.decode("utf-8-sig")
        value = json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except UnicodeDecodeError as error:
        return Loaded(error=f"it is not UTF-8 (byte {error.start})", line=data[: error.start].count(b"\n") + 1)
    except json.JSONDecodeError as error:
        return Loaded(error=f"{error.msg} (line {error.lineno}, column {error.colno})", line=error.lineno)
    except RecursionError:
        return Loaded(error="its lists or objects are nested too deeply to be read")
    except ValueError as error:  # a number of more digits than Python reads
        return Loaded(error=str(error))
    return Loaded(value, "", 0, False, tuple(duplicates), tuple(constants), mark)
