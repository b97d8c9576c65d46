"""What each release has → one row per flag with the releases that have it, and the same for names.

A span is text: empty for all releases of the table (or all in which the row's flag is there), else runs such as
`0.9.0:0.11.2,0.13.0:`; an open end is the oldest or newest release.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from parsers import Flag

Row = dict[str, Any]


def span(present: Sequence[bool], base: Sequence[bool], releases: Sequence[str]) -> str:
    """The releases in `present` as text; empty if they are those of `base`."""
    if list(present) == list(base):
        return ""
    runs = []
    start = -1
    for index, there in enumerate([*present, False]):
        if there and start < 0:
            start = index
        elif not there and start >= 0:
            if index < len(base) and not any(base[start:index]):
                start = -1
                continue
            first = "" if start == 0 else releases[start]
            last = "" if index == len(releases) else releases[index - 1]
            runs.append(f"{first}:{last}")
            start = -1
    return ",".join(runs)


def flag_rows(releases: Sequence[str], told: Sequence[Sequence[Flag]]) -> list[Row]:
    """One row per flag over all releases, by its newest first spelling."""
    groups = _groups(told)
    everywhere = [True] * len(releases)
    rows = []
    for per_release in groups:
        present = [flag is not None for flag in per_release]
        newest = next(flag for flag in reversed(per_release) if flag is not None)
        row: Row = {"flag": newest.primary}
        _put(row, "in", span(present, everywhere, releases))
        spellings = _spans(
            per_release, present, releases, lambda flag, first=newest.primary: [s for s in flag.spellings if s != first]
        )
        if any(f is not None and newest.primary not in f.spellings for f in per_release):
            there = [f is not None and newest.primary in f.spellings for f in per_release]
            row["spelled"] = span(there, present, releases)
        _put(row, "also", spellings)
        _put(row, "off", _spans(per_release, present, releases, lambda flag: flag.off))
        _kinds(row, newest, per_release, present, releases)
        _choices(row, per_release, present, releases)
        _marks(row, newest, per_release, present, releases)
        rows.append(row)
    return sorted(rows, key=lambda row: row["flag"].lstrip("-"))


def _put(row: Row, key: str, value: Any) -> None:
    if value:
        row[key] = value


def _groups(told: Sequence[Sequence[Flag]]) -> list[list[Flag | None]]:
    """The flags of all releases, those that share their first spelling or a later one's together."""
    count = len(told)
    groups: list[list[Flag | None]] = []
    owner: dict[str, int] = {}
    for index in range(count - 1, -1, -1):
        for flag in told[index]:
            found = owner.get(flag.primary)
            if found is None:
                found = next((owner[s] for s in flag.spellings if s.startswith("--") and s in owner), None)
            if found is None or groups[found][index] is not None:
                found = len(groups)
                groups.append([None] * count)
            groups[found][index] = flag
            for spelling in flag.spellings:
                if spelling.startswith("--"):
                    owner.setdefault(spelling, found)
    return groups


def _spans(per: Sequence[Flag | None], present: Sequence[bool], releases: Sequence[str], get: Any) -> dict[str, str]:
    names = dict.fromkeys(name for flag in reversed(per) if flag is not None for name in get(flag))
    return {name: span([flag is not None and name in get(flag) for flag in per], present, releases) for name in names}


def _kind(flag: Flag) -> str:
    return f"{flag.type} {flag.many}".strip()


def _kinds(
    row: Row, newest: Flag, per: Sequence[Flag | None], present: Sequence[bool], releases: Sequence[str]
) -> None:
    """The type and what it takes, and what they were in releases where they were others."""
    if _kind(newest) != "text":
        row["type"] = newest.type
        _put(row, "many", newest.many)
    others = dict.fromkeys(_kind(flag) for flag in per if flag is not None and _kind(flag) != _kind(newest))
    _put(row, "was", {k: span([f is not None and _kind(f) == k for f in per], present, releases) for k in others})


def _choices(row: Row, per: Sequence[Flag | None], present: Sequence[bool], releases: Sequence[str]) -> None:
    """The values it takes, where the parser refuses others."""
    checked = [flag is not None and flag.choices is not None for flag in per]
    if not any(checked):
        return
    names = dict.fromkeys(name for flag in reversed(per) if flag is not None for name in flag.choices or ())
    row["choices"] = {
        name: span([flag is not None and name in (flag.choices or ()) for flag in per], checked, releases)
        for name in names
    }
    _put(row, "checked", span(checked, present, releases))


def _marks(
    row: Row, newest: Flag, per: Sequence[Flag | None], present: Sequence[bool], releases: Sequence[str]
) -> None:
    for key in ("deprecated", "refused", "elsewhere"):
        there = [flag is not None and bool(getattr(flag, key)) for flag in per]
        if any(there):
            row[key] = span(there, present, releases) or "all"
    instead = next((flag.instead for flag in reversed(per) if flag is not None and flag.instead), "")
    _put(row, "instead", instead)


def name_rows(releases: Sequence[str], told: Sequence[Iterable[str]], known: Sequence[bool]) -> dict[str, str]:
    """Names with the releases that have them. `known`: releases of which the list could be read at all."""
    sets = [set(names) for names in told]
    every = list(known)
    return {name: span([name in names for names in sets], every, releases) for name in sorted(set().union(*sets))}
