"""Several diagnoses of one call → one: what they all say is told once, the worst first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from msgspec.structs import replace

from diagnose.accept import fingerprint
from diagnose.model import SEVERITIES, Area, Cause, Diagnosis

_STATUSES = ("error", "warning", "note", "ok", "unchecked")
_T = TypeVar("_T")


def merged(diagnoses: Sequence[Diagnosis]) -> Diagnosis:
    """One diagnosis of several, which must not be none. Of facts with one name the first is kept."""
    first, *rest = diagnoses
    if not rest:
        return first
    causes: dict[tuple[str, str], Cause] = {}
    for one in diagnoses:
        for cause in one.diagnoses:
            causes.setdefault((fingerprint(cause), cause.title), cause)
    facts = {fact.name: fact for one in reversed(diagnoses) for fact in one.facts}
    return replace(
        first,
        origins=_once(item for one in diagnoses for item in one.origins),
        lines=sum(one.lines for one in diagnoses),
        diagnoses=tuple(sorted(causes.values(), key=lambda cause: SEVERITIES.index(cause.severity))),
        facts=tuple(facts.values()),
        recognised=_once(item for one in diagnoses for item in one.recognised),
        advice=_once(item for one in diagnoses for item in one.advice),
        unchecked=_once(item for one in diagnoses for item in one.unchecked),
        areas=_areas(diagnoses),
    )


def _areas(diagnoses: Sequence[Diagnosis]) -> tuple[Area, ...]:
    """The lines of all checklists: of those with one name the worst state, and the words of each that differ."""
    found: dict[str, list[Area]] = {}
    for one in diagnoses:
        for area in one.areas:
            found.setdefault(area.name, []).append(area)
    return tuple(_area(areas) for areas in found.values())


def _area(areas: Sequence[Area]) -> Area:
    words = _once(area.summary for area in areas)
    summary = words[0] if len(words) == 1 else f"{len(areas)} looked at: {words[0]}; …"
    status = min((area.status for area in areas), key=_STATUSES.index)
    return Area(areas[0].name, status, summary, _once(rule for area in areas for rule in area.rules))


def _once(items: Iterable[_T]) -> tuple[_T, ...]:
    return tuple(dict.fromkeys(items))
