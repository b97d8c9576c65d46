"""Flags, environment variables, architectures and parsers of the serving engines, release by release, from dataset/engines/.

A table is decoded when a command or a fact is about its engine. Of a release that a table does not reach nothing is said.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache

import msgspec
from msgspec import Struct

from diagnose.model import Fact
from diagnose.places import bundled


class Flag(Struct, frozen=True, omit_defaults=True):
    """A flag of a program: its long spelling, the others, what it takes, and the releases that have it.

    `type` is flag (no value), switch (`--x` and `--no-x`), int, float, size (`16k`), text or json. `many` is argparse's
    nargs. `choices` maps each value to the releases that take it ("" for all that have the flag). Empty `since` and
    `until`: it is there in the oldest, and in the newest release of the table. `dotted`: parts of its JSON value may be
    given as `--flag.key`.
    """

    flag: str
    also: tuple[str, ...] = ()
    type: str = "text"
    many: str = ""
    choices: dict[str, str] = {}
    since: str = ""
    until: str = ""
    gaps: tuple[str, ...] = ()
    instead: str = ""
    deprecated: str = ""
    dotted: bool = False
    programs: str = ""

    @property
    def name(self) -> str:
        """The canonical name in facts: `max_model_len`."""
        return self.flag.lstrip("-").replace("-", "_").replace(".", "_")

    @property
    def takes(self) -> str:
        """How many words it takes: 0, 1, a number, ?, * or +."""
        return self.many or ("0" if self.type in ("flag", "switch") else "1")


class Hit(Struct, frozen=True):
    """A flag that was found by its spelling. `off`: as `--no-x`; `short`: by the beginning of its name."""

    flag: Flag
    off: bool = False
    short: bool = False


class _Document(Struct, frozen=True):
    """A file of dataset/engines."""

    engine: str
    read: str
    source: str
    style: str = "argparse"
    releases: tuple[str, ...] = ()
    rows: tuple[Flag, ...] = ()


class Table:
    """The flags of one engine, by their spellings."""

    def __init__(self, document: _Document) -> None:
        self.engine = document.engine
        self.style = document.style
        self.releases = document.releases
        self.flags = document.rows
        self._spelled: dict[str, Hit] = {}
        for row in document.rows:
            for spelling in (row.flag, *row.also):
                self._spelled.setdefault(self._key(spelling), Hit(row))
                if row.type == "switch" and spelling.startswith("--"):
                    self._spelled.setdefault(self._key(f"--no-{spelling[2:]}"), Hit(row, off=True))

    def _key(self, spelling: str) -> str:
        return spelling.replace("_", "-") if spelling.startswith("--") and self.style == "flexible" else spelling

    def find(self, written: str, program: str = "") -> Hit | None:
        """The flag with this spelling, or the only one that begins so where the program's parser allows that."""
        return self._spelled.get(self._key(written))


@cache
def table(engine: str) -> Table | None:
    """The table of an engine; None if there is none or it cannot be read."""
    try:
        with open(os.path.join(bundled("dataset"), "engines", f"{engine}.json"), "rb") as file:
            return Table(msgspec.json.decode(file.read(), type=_Document))
    except (OSError, msgspec.MsgspecError):
        return None


def complete(facts: Iterable[Fact]) -> tuple[Fact, ...]:
    """What the tables say of the command, model and environment that the facts tell of; none that is there already."""
    return ()
