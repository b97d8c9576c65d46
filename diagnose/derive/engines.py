"""Flags, environment variables, architectures and parsers of the engines, release by release, from dataset/engines/.

A table is decoded when a command or a fact is about its engine. Of a release that a table does not reach nothing is said,
and of a build between two releases only what holds for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from diagnose import places
from diagnose.derive import spans
from diagnose.derive.spans import Span
from diagnose.model import Fact

if TYPE_CHECKING:
    from packaging.version import Version

FILES = {"llama.cpp": "llama-cpp"}
"""Engines whose table has another name."""


class Flag(Struct, frozen=True, omit_defaults=True, rename={"within": "in"}):
    """A flag of an engine.

    `within` are the releases that have it. `also` are other spellings, `off` those that switch it off, each with its span;
    `spelled` is the span of the first spelling where it is younger than the flag. `type` is flag (no value), switch, int,
    float, size (`16k`), text or json, with `?` behind where None is taken too; `many` is argparse's nargs; `was` tells both
    for older releases. `choices` are the values taken, in the releases `checked`. `refused`: the parser stops at it.
    `elsewhere`: other programs of the engine have it, and the server does not.
    """

    flag: str
    within: Span = ""
    spelled: Span = ""
    also: dict[str, Span] = {}
    off: dict[str, Span] = {}
    type: str = "text"
    many: str = ""
    was: dict[str, Span] = {}
    choices: dict[str, Span] = {}
    checked: Span = ""
    deprecated: Span = ""
    refused: Span = ""
    elsewhere: Span = ""
    instead: str = ""

    @property
    def name(self) -> str:
        """The canonical name in facts: `max_model_len`."""
        return self.flag.lstrip("-").replace("-", "_").replace(".", "_")

    @property
    def takes(self) -> str:
        """How many words it takes: 0, 1, a number, ?, * or +."""
        return self.many or ("0" if self.type in ("flag", "switch") else "1")


class Hit(Struct, frozen=True):
    """A flag that was found by its spelling. `off`: as `--no-x`; `short`: by the beginning of its name; `span`: of the spelling."""

    flag: Flag
    off: bool = False
    short: bool = False
    span: Span = ""


class _Document(Struct, frozen=True):
    """A file of dataset/engines.

    `declared_late`: the engine's modules read variables before they were declared in one place, so that the first release
    with a declaration says nothing of the ones before. `read_elsewhere`: variables that other modules read.
    """

    engine: str
    read: str
    source: str
    releases: tuple[str, ...]
    style: str = "argparse"
    programs: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    names: dict[str, dict[str, Span]] = {}
    names_since: dict[str, str] = {}
    environment: dict[str, Span] = {}
    environment_since: str = ""
    declared_late: bool = False
    read_elsewhere: tuple[str, ...] = ()
    flags_elsewhere: tuple[str, ...] = ()
    rows: tuple[Flag, ...] = ()


class Table:
    """What is known of one engine. Releases are told by their place in `releases`."""

    def __init__(self, document: _Document) -> None:
        self.document = document
        self.engine = document.engine
        self.style = document.style
        self.releases = document.releases
        self.flags = document.rows
        self._spelled: dict[str, list[Hit]] = {}
        for row in document.rows:
            self._add(row.flag, Hit(row, span=row.spelled))
            for spelling, span in row.also.items():
                self._add(spelling, Hit(row, span=span))
            for spelling, span in row.off.items():
                self._add(spelling, Hit(row, off=True, span=span))

    def _add(self, spelling: str, hit: Hit) -> None:
        self._spelled.setdefault(self._key(spelling), []).append(hit)

    def _key(self, spelling: str) -> str:
        """A spelling as the engine's parser compares it: vLLM, llama.cpp and accelerate take `_` for `-`."""
        if spelling.startswith("--") and self.style in ("flexible", "llama", "dashes"):
            head, dot, rest = spelling.partition(".")
            return head.replace("_", "-") + dot + rest
        return spelling

    @property
    def abbreviates(self) -> bool:
        """Whether the parser takes the beginning of a long flag for the flag, as argparse does unless told otherwise."""
        return self.style in ("flexible", "argparse")

    def spellings(self) -> list[str]:
        """Every spelling of every flag."""
        return list(self._spelled)

    def find(self, written: str, at: int | None = None) -> Hit | None:
        """The flag with this spelling, or the only one that begins so. With a release: one that has it is preferred."""
        exact = self._spelled.get(self._key(written))
        if exact:
            there = [hit for hit in exact if at is not None and self.has(hit, at)]
            return (there or exact)[0]
        return self._begun(written, at)

    def _begun(self, written: str, at: int | None) -> Hit | None:
        if not self.abbreviates or not written.startswith("--") or len(written) < 4:
            return None
        key = self._key(written)
        found = {
            id(hit.flag): hit
            for spelling, hits in self._spelled.items()
            if spelling.startswith(key) and spelling.startswith("--")
            for hit in hits
            if at is None or self.has(hit, at)
        }
        if len(found) != 1:
            return None
        hit = next(iter(found.values()))
        return Hit(hit.flag, hit.off, True, hit.span)

    def beginnings(self, written: str, at: int) -> list[str]:
        """The flags of a release that begin like this, where the parser takes a beginning: more than one is ambiguous."""
        key = self._key(written)
        if not self.abbreviates or not written.startswith("--") or len(written) < 4:
            return []
        return [s for s, hits in self._spelled.items() if s.startswith(key) and any(self.has(hit, at) for hit in hits)]

    # --- releases

    def place(self, version: str) -> int | None:
        """The place of a release; None for one that the table does not have: a build of its own, or a newer one."""
        places, plain = _places(self.releases), _plain(version)
        return places.get(plain, places.get(f"{plain}.0"))

    def is_beyond(self, version: str) -> bool:
        """Whether a version is newer than all that the table knows."""
        found, newest = _version(_plain(version)), _version(self.releases[-1]) if self.releases else None
        return found is not None and newest is not None and found > newest

    def within(self, span: Span, at: int) -> bool:
        """Whether a span holds the release at a place; an empty one holds all."""
        return spans.within(span, at, _places(self.releases))

    def has(self, hit: Hit, at: int) -> bool:
        """Whether a release has a flag in this spelling."""
        return self.within(hit.flag.within, at) and self.within(hit.span, at)

    def since(self, *told: Span) -> str:
        """The first release of a span that is not the table's oldest, for `added in`; empty if it was there before."""
        first = max((spans.runs(span, _places(self.releases))[0][0] for span in told), default=0)
        return self.releases[first] if first else ""

    def until(self, *told: Span) -> str:
        """The last release of a span that is not the table's newest, for `gone after`; empty if it is still there."""
        newest = len(self.releases) - 1
        last = min((spans.runs(span, _places(self.releases))[-1][1] for span in told), default=newest)
        return self.releases[last] if last < newest else ""

    def kind(self, flag: Flag, at: int) -> tuple[str, str]:
        """The type of a flag and how many words it takes in a release."""
        for told, span in flag.was.items():
            if self.within(span, at):
                type_, _, many = told.partition(" ")
                return type_, many or ("0" if type_ in ("flag", "switch") else "1")
        return flag.type, flag.takes

    def choices(self, flag: Flag, at: int) -> tuple[str, ...]:
        """The values that the parser takes in a release; empty where it takes any."""
        if not flag.choices or not self.within(flag.checked, at):
            return ()
        return tuple(value for value, span in flag.choices.items() if self.within(span, at))

    def names(self, kind: str, at: int) -> tuple[str, ...]:
        """Names that a release has: architectures, tool_parsers …; empty where its list is not known."""
        since = self.document.names_since.get(kind)
        if since is None or at < _places(self.releases).get(since, 0):
            return ()
        return tuple(name for name, span in self.document.names.get(kind, {}).items() if self.within(span, at))

    def span_of(self, kind: str, name: str) -> Span | None:
        """The releases that have a name, or None if none has."""
        return self.document.names.get(kind, {}).get(name)


def _plain(version: str) -> str:
    """A version without `v` and local part."""
    return version.strip().removeprefix("v").partition("+")[0]


@lru_cache(maxsize=64)
def _places(releases: tuple[str, ...]) -> dict[str, int]:
    return {release: place for place, release in enumerate(releases)}


@lru_cache(maxsize=512)
def _version(text: str) -> Version | None:
    from packaging.version import Version

    try:
        return Version(text)
    except ValueError:
        return None


@cache
def table(engine: str) -> Table | None:
    """The table of an engine; None if there is none or it cannot be read."""
    if not engine.replace(".", "").replace("-", "").replace("_", "").isalnum():
        return None
    name = FILES.get(engine, engine)
    try:
        return Table(msgspec.convert(places.table("engines", f"{name}.json"), _Document))
    except msgspec.ValidationError:
        return None


def complete(facts: Iterable[Fact]) -> tuple[Fact, ...]:
    """What the tables say of the command, the model and the environment that the facts tell of; nothing that is there already."""
    from diagnose.derive import engine_facts

    return engine_facts.complete(facts)
