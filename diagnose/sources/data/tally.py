"""How many examples have one peculiarity, and where the first of them are."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from diagnose.model import Fact

MOST_LINES = 5
"""How many places of one peculiarity are told."""
MOST_TEXT = 200


class Count(Struct):
    """Examples with one peculiarity: how many, the first lines (0: not known), and what the first of them shows."""

    count: int
    lines: list[int]
    example: str = ""


class Tally:
    """Counts of one file, by the word for what was counted."""

    def __init__(self) -> None:
        self.counts: dict[str, Count] = {}

    def add(self, kind: str, line: int, example: str = "", count: int = 1) -> None:
        """Count an example; `line` is where it stands."""
        known = self.counts.get(kind)
        if known is None:
            self.counts[kind] = Count(count, [line] if line else [], example[:MOST_TEXT])
            return
        known.count += count
        if len(known.lines) < MOST_LINES and line and line not in known.lines:
            known.lines.append(line)

    def of(self, kind: str) -> int:
        """How many there are of a kind."""
        return self.counts[kind].count if kind in self.counts else 0

    def facts(self, head: str, path: str, examples: int) -> Iterator[Fact]:
        """`<head>.<kind>` and what belongs to it, for each kind that was seen; `examples` is what the share is of."""
        for kind, known in self.counts.items():
            lines = sorted(known.lines)
            first = lines[0] if lines else 0
            yield Fact(f"{head}.{kind}", known.count, path, first)
            yield Fact(f"{head}.{kind}_lines", places(lines, known.count), path, first)
            yield Fact(f"{head}.{kind}_percent", percent(known.count, examples), path, first)
            if known.example:
                yield Fact(f"{head}.{kind}_example", known.example, path, first)


def places(lines: list[int], count: int) -> str:
    """The first lines in words: `line 3`, `lines 3, 17, 204, …`."""
    if not lines:
        return "lines that a sample does not number"
    more = ", …" if count > len(lines) else ""
    return ("line " if count == 1 else "lines ") + ", ".join(map(str, lines)) + more


def percent(count: int, examples: int) -> float:
    """A share in percent, of at least one example; small ones with more digits."""
    share = 100 * count / max(examples, 1)
    return round(share, 1 if share >= 1 else 3)
