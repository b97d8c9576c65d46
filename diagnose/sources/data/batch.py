"""What every reader of a format yields: some examples together, each with its line; and what their values are called."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

Example = dict[str, Any]
_WORDS: dict[type, str] = {
    str: "a text", bool: "a flag", int: "a number", float: "a number", list: "a list", dict: "an object", type(None): "null",
}  # fmt: skip


def word_for(kind: type) -> str:
    """What a value of a type is called, with its article."""
    return _WORDS.get(kind, "a text")  # dates and the like are written as texts


class Batch(Struct, frozen=True):
    """Examples that stand near each other. `offset` is where the first begins, in bytes of the unpacked file.

    `done` is the share of the file that is behind them.
    """

    rows: list[tuple[int, Example]]
    offset: int = 0
    done: float = 0.0
