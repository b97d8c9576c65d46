"""The keys of a training's settings, release by release, from dataset/training/: what each class takes, and what it does with others.

A table is decoded when a setting of its package is judged. Of a release that a table does not reach nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import msgspec
from msgspec import Struct

from diagnose import places
from diagnose.derive import spans
from diagnose.derive.spans import Span

PACKAGES = ("transformers", "trl", "peft", "accelerate", "deepspeed", "axolotl", "llamafactory", "torchtune")


class Key(Struct, frozen=True, omit_defaults=True, rename={"within": "in"}):
    """A key of a class.

    `within` are the releases that have it; `type` in words (number, flag, text, list, mapping, joined by `|`; `?`: None too),
    `was` those of older releases. `choices` are the values taken, in the releases `choices_in`; `checked`: parser, where only a
    command line is held to them. `refused`: the framework stops at it. `schema` is the class of its mapping, `loose`: code
    reads a key of this name, perhaps of another mapping.
    """

    within: Span = ""
    type: str = "any"
    was: dict[str, Span] = {}
    choices: dict[str, Span] = {}
    choices_in: Span = ""
    checked: str = ""
    deprecated: Span = ""
    refused: Span = ""
    instead: str = ""
    schema: str = ""
    loose: bool = False
    default: str | int | float | bool | None = None


class Class(Struct, frozen=True, omit_defaults=True, rename={"within": "in"}):
    """A class of settings. `base` is one of another package; `prefix` is put before keys that lack it; `unknown`: see the tables."""

    keys: dict[str, Key]
    unknown: dict[str, Span]
    within: Span = ""
    base: str = ""
    prefix: str = ""


class _Document(Struct, frozen=True):
    package: str
    read: str
    source: str
    releases: tuple[str, ...]
    classes: dict[str, Class]
    every: bool = False
    dates: tuple[str, ...] = ()


class Relation(Struct, frozen=True):
    """What a class does not say of a key itself: the name that it came under, the values that are taken.

    `values_of`: the key that the value is handed to, whose values are taken as well. `refused`: the release from which the
    framework stops at it. `told_by`: a rule that tells it where the release is known, so
    that it is not told twice.
    """

    package: str
    key: str
    instead: str = ""
    refused: str = ""
    values: tuple[str, ...] = ()
    values_of: str = ""
    told_by: str = ""
    source: str = ""
    class_: str = msgspec.field(default="", name="class")


class Table:
    """What is known of one package. Releases are told by their place in `releases`."""

    def __init__(self, document: _Document) -> None:
        self.package = document.package
        self.releases = document.releases
        self.classes = document.classes
        self.every = document.every
        self._places = {release: place for place, release in enumerate(document.releases)}
        self._numbers = [_numbers(release) for release in document.releases]

    @property
    def newest(self) -> int:
        return len(self.releases) - 1

    def place(self, version: str) -> int | None:
        """The place of the release that stands for a version; None before the oldest, and beyond the newest minor version.

        A table with one release per minor version tells of all of it; one with every release tells of those between two.
        """
        told = _numbers(version)
        if not told or not self._numbers or told < self._numbers[0][:2]:
            return None
        if told[:2] > self._numbers[-1][:2] or (self.every and told > self._numbers[-1]):
            return None
        if self.every:
            held = [place for place, number in enumerate(self._numbers) if number <= told]
            return held[-1] if held else next((p for p, n in enumerate(self._numbers) if n[:2] == told[:2]), None)
        return next((place for place, number in enumerate(self._numbers) if number[:2] == told[:2]), None)

    def is_beyond(self, version: str) -> bool:
        """Whether a version is newer than all that the table knows."""
        told = _numbers(version)
        return bool(told and self._numbers and self.place(version) is None and told > self._numbers[-1])

    def within(self, span: Span, at: int) -> bool:
        """Whether a span holds the release at a place; an empty one holds all."""
        return spans.within(span, at, self._places)

    def runs(self, span: Span) -> list[tuple[int, int]]:
        """A span as places of first and last releases."""
        return spans.runs(span, self._places)

    def told(self, at: int) -> str:
        """A release as it is told: the minor version, where a table has only the last of each."""
        release = self.releases[at]
        return release if self.every else ".".join(release.split(".")[:2])


class Layer(Struct, frozen=True):
    """A class that a setting may be of, with the release that is judged by (`at`) and whether it is the one installed."""

    table: Table
    name: str
    class_: Class
    at: int
    installed: bool
    beyond: bool = False

    def has(self, key: Key) -> bool:
        """Whether the release has a key."""
        return self.table.within(key.within, self.at)

    @property
    def there(self) -> bool:
        """Whether the release has the class."""
        return self.table.within(self.class_.within, self.at)

    def unknown(self) -> str:
        """What the release does with a key that it does not know."""
        return next((mode for mode, span in self.class_.unknown.items() if self.table.within(span, self.at)), "refuses")

    def type_of(self, key: Key) -> str:
        """The type of a key in the release."""
        return next((kind for kind, span in key.was.items() if self.table.within(span, self.at)), key.type)

    def choices(self, key: Key) -> tuple[str, ...]:
        """The values that the release takes; empty where it takes any."""
        if not key.choices or not self.table.within(key.choices_in, self.at):
            return ()
        return tuple(value for value, span in key.choices.items() if self.table.within(span, self.at))

    def names(self) -> Iterator[str]:
        """The keys that the release has; where none is installed, those of all."""
        return (
            name for name, key in self.class_.keys.items() if not key.loose and (not self.installed or self.has(key))
        )

    def began(self, key: Key, span: Span) -> str:
        """The release in which a mark of a key began to hold; empty where that is before the table."""
        held = key.within if span == "all" else span
        first = max((first for first, _ in self.table.runs(held) if first <= self.at), default=0)
        return self.table.told(first) if first else ""

    def changed(self, key: Key) -> tuple[str, bool]:
        """The release in which a key came or went that this one lacks, and whether it came later."""
        runs = self.table.runs(key.within)
        if self.at < runs[0][0]:
            return self.table.told(runs[0][0]), True
        last = max(last for _, last in runs if last < self.at)
        return self.table.told(min(last + 1, self.table.newest)), False


@cache
def table(package: str) -> Table | None:
    """The table of a package; None if there is none or it cannot be read."""
    if package not in PACKAGES:
        return None
    try:
        return Table(msgspec.convert(places.table("training", f"{package}.json"), _Document))
    except msgspec.ValidationError:
        return None


@cache
def relations() -> dict[tuple[str, str, str], Relation]:
    """What came under another name, by package, class and key."""
    try:
        rows = msgspec.convert(places.table("training", "relations.json").get("rows", []), list[Relation])
    except msgspec.ValidationError:
        return {}
    return {(row.package, row.class_, row.key): row for row in rows}


@cache
def names_of(kind: str) -> tuple[str, ...]:
    """Keys of a kind that no class tells, of any package: deciding, well_known, another_trainer, scripts."""
    return tuple(places.table("training", "relations.json").get("names", {}).get(kind, {}).get("keys", ()))


def layers(owner: str, versions: dict[str, str]) -> list[Layer]:
    """The class of an owner and those that it inherits from, each by the release installed, else the newest; none if not known.

    `versions` are those installed, by package. A release older than the table leaves nothing to judge by.
    """
    package, _, name = owner.partition(".")
    found: list[Layer] = []
    while True:
        told = table(package)
        class_ = told.classes.get(name or package) if told else None
        if told is None or class_ is None:
            return found
        version = versions.get(package, "")
        at = told.place(version) if version else None
        beyond = bool(version) and told.is_beyond(version)
        if version and at is None and not beyond:
            return []
        found.append(Layer(told, name or package, class_, told.newest if at is None else at, at is not None, beyond))
        if not class_.base:
            return found
        package, _, name = class_.base.partition(".")


def _numbers(version: str) -> tuple[int, ...]:
    """`4.57.6.post1+cu121` → (4, 57, 6); empty for what is no version."""
    parts = []
    for part in version.strip().removeprefix("v").partition("+")[0].split("."):
        if not part.isascii() or not part.isdigit() or len(part) > 9:
            break
        parts.append(int(part))
    return tuple(parts) if len(parts) >= 2 else ()
