"""The first pass: one Hyperscan automaton over the raw bytes, which says where a rule might match.

It looks for the plain text of every pattern at once. What it finds is a candidate and no more: `match.py` decides on
the event around it. The automaton is small, compiles in milliseconds and is kept in the compiled form of the rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diagnose.pattern import Plain


class Scanner:
    """Finds the plain texts of patterns in bytes.

    `owners[i]` are the indices (into the sequence given to `compile`) of the patterns that text `i` belongs to.
    """

    def __init__(self, database: bytes, owners: Sequence[Sequence[int]]) -> None:
        import hyperscan

        self.owners = owners
        self.stored = database
        self._database: Any = None
        if owners:
            self._database = hyperscan.loadb(database, hyperscan.HS_MODE_BLOCK)
            self._database.scratch = hyperscan.Scratch(self._database)

    def find(self, data: bytes | memoryview) -> list[tuple[int, int]]:
        """All places: (text, offset just behind it), in the order of their ends."""
        places: list[tuple[int, int]] = []
        if self._database is None or not len(data):
            return places

        def note(text: int, start: int, end: int, flags: int, context: object) -> None:
            places.append((text, end))

        self._database.scan(data, match_event_handler=note)
        return places


def compile_scanner(plains: Sequence[Plain]) -> Scanner:
    """One automaton for the plain texts of many patterns; equal texts are looked for once."""
    import hyperscan

    owners: dict[tuple[str, bool], list[int]] = {}
    for index, plain in enumerate(plains):
        for text in plain.texts:
            key = (text.lower() if plain.caseless else text, plain.caseless)
            owners.setdefault(key, []).append(index)
    if not owners:
        return Scanner(b"", ())
    expressions = [text.encode("utf-8", "replace") for text, _ in owners]
    flags = [hyperscan.HS_FLAG_CASELESS if caseless else 0 for _, caseless in owners]
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    database.compile(
        expressions=expressions, ids=list(range(len(owners))), elements=len(owners), flags=flags, literal=True
    )
    return Scanner(hyperscan.dumpb(database), [tuple(found) for found in owners.values()])
