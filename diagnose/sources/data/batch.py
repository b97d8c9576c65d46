"""What every reader of a format yields: some examples together, each with its line."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

Example = dict[str, Any]


class Batch(Struct, frozen=True):
    """Examples that stand near each other. `offset` is where the first begins, in bytes of the unpacked file.

    `done` is the share of the file that is behind them.
    """

    rows: list[tuple[int, Example]]
    offset: int = 0
    done: float = 0.0
