"""Which columns the examples have and of which types, and what comes anew behind the part that decides it for datasets.

`datasets` reads JSON Lines in parts of 10 MiB. The first part decides the columns and types of the whole file
(`packaged_modules/json/json.py`): a column or a key that comes only later, or a number where a text stood, ends the loading.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from diagnose.sources.data.batch import Batch, Example, word_for
from diagnose.sources.data.tally import Tally

FIRST_PART = 10 << 20
"""Bytes that decide (`JsonConfig.chunksize`)."""
MOST_SHAPES = 3000

Shape = tuple[tuple[str, ...], tuple[Any, ...]]


class Seen(Struct):
    """Examples of one shape: how many, and the first line; of those behind the first part the same."""

    count: int = 0
    line: int = 0
    late: int = 0
    late_line: int = 0


class Shapes:
    """The shapes of a file's examples."""

    def __init__(self) -> None:
        self.seen: dict[Shape, Seen] = {}
        self.full = False

    def note(self, batch: Batch) -> None:
        """Take in the examples of a batch."""
        if batch.offset < FIRST_PART:
            for line, row in batch.rows:
                found = self._of(row)
                found.count += 1
                found.line = found.line or line
        else:
            for line, row in batch.rows:
                found = self._of(row)
                found.late += 1
                found.late_line = found.late_line or line

    def _of(self, row: Example) -> Seen:
        kinds = tuple(map(type, row.values()))
        shape: Shape = (tuple(row), kinds if dict not in kinds else tuple(map(_kind, row.values())))
        found = self.seen.get(shape)
        if found is None:
            found = Seen()
            if len(self.seen) < MOST_SHAPES:
                self.seen[shape] = found
            else:
                self.full = True
        return found

    def columns(self) -> list[str]:
        """All columns, the most frequent order first."""
        ordered = sorted(self.seen.items(), key=lambda item: -(item[1].count + item[1].late))
        return list(dict.fromkeys(name for shape, _ in ordered for name in shape[0]))

    def findings(self, tally: Tally, by_parts: bool) -> None:
        """Count examples whose columns are of another type than in most, or come too late."""
        if self.full:
            return
        for column in self.columns():
            self._mixed(column, tally)
        if by_parts:
            self._late(tally)

    def _mixed(self, column: str, tally: Tally) -> None:
        counts: dict[str, list[int]] = {}
        for (names, kinds), seen in self.seen.items():
            if column not in names:
                continue
            kind = _name(kinds[names.index(column)])
            if kind != "null":
                known = counts.setdefault(kind, [0, 0])
                known[0] += seen.count + seen.late
                known[1] = min(filter(None, (known[1], seen.line or seen.late_line)), default=0)
        if len(counts) < 2:
            return
        ordered = sorted(counts.items(), key=lambda item: -item[1][0])
        most, (rarer, (count, line)) = ordered[0][0], ordered[-1]
        others = sum(count for _, (count, _) in ordered[1:])
        tally.add("types_mixed", line, f"{column} is {most} in most examples and {rarer} in {count:,}", others)

    def _late(self, tally: Tally) -> None:
        first: dict[str, set[str]] = {}
        keys: dict[str, set[str]] = {}
        sets: dict[str, set[frozenset[str]]] = {}
        for (names, kinds), seen in self.seen.items():
            for name, kind in zip(names, kinds, strict=True):
                if seen.count:
                    first.setdefault(name, set()).add(_name(kind))
                    keys.setdefault(name, set()).update(_keys(kind))
                    sets.setdefault(name, set()).add(_keys(kind))
        if not first:
            return
        for (names, kinds), seen in self.seen.items():
            if not seen.late:
                continue
            for name, kind in zip(names, kinds, strict=True):
                if name not in first:
                    tally.add("late_columns", seen.late_line, name, seen.late)
                elif first[name] == {"null"} and _name(kind) != "null":
                    tally.add("late_types", seen.late_line, name, seen.late)
                elif len(sets[name]) == 1 and (new := sorted(_keys(kind) - keys[name])):
                    tally.add("late_keys", seen.late_line, new[0], seen.late)
                elif first[name] == {"a number"} and _name(kind) == "a text":
                    tally.add("late_types", seen.late_line, name, seen.late)


def _kind(value: Any) -> Any:
    """The type of a value; of an object its keys."""
    return tuple(value) if type(value) is dict else type(value)


def _name(kind: Any) -> str:
    return word_for(dict if isinstance(kind, tuple) else kind)


def _keys(kind: Any) -> frozenset[str]:
    return frozenset(kind) if isinstance(kind, tuple) else frozenset()
