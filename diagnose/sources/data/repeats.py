"""Examples that stand twice, in a file or in both splits: by a hash of their texts and images, a dozen bytes each."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

MOST = 6_000_000
"""Of how many examples of a file a hash is kept."""
_PARTS = 64
_BLANKS = b" \t\r\n"


def mark_of(text: bytes) -> int:
    """A hash of a text, blanks aside."""
    return hash(text.translate(None, _BLANKS))


class Repeats:
    """The hashes of a file's examples with their lines."""

    def __init__(self) -> None:
        self._marks = [array("q") for _ in range(_PARTS)]
        self._lines = [array("Q") for _ in range(_PARTS)]
        self.count = 0

    def add(self, mark: int, line: int) -> None:
        """Take in one example."""
        if self.count < MOST:
            part = mark & (_PARTS - 1)
            self._marks[part].append(mark)
            self._lines[part].append(line)
            self.count += 1

    def twice(self) -> Iterator[tuple[int, int]]:
        """The lines of examples that stand further up too, each with the line where it stands first."""
        for marks, lines in zip(self._marks, self._lines, strict=True):
            if len(set(marks)) == len(marks):
                continue
            first: dict[int, int] = {}
            for mark, line in zip(marks, lines, strict=True):
                if mark in first:
                    yield line, first[mark]
                else:
                    first[mark] = line

    def found_in(self, others: Iterable[Repeats]) -> Iterator[int]:
        """The lines of examples that some of the others have too."""
        others = list(others)
        for number, (marks, lines) in enumerate(zip(self._marks, self._lines, strict=True)):
            wanted = set(marks)
            there: set[int] = set()
            for other in others:
                there.update(wanted.intersection(other._marks[number]))
            if there:
                yield from (line for mark, line in zip(marks, lines, strict=True) if mark in there)
