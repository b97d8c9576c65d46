"""What does not count: rules that a project did not select or ignores, and causes that its baseline knows.

A baseline is a JSON file with a line per cause that was there when it was written. A cause is the same one wherever it moves in
its file, and whatever numbers its text has today.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from diagnose import project
from diagnose.errors import InputError
from diagnose.model import SEVERITIES, Accepted, Area, Cause, Diagnosis, Finding
from diagnose.project import Project

VERSION = 1
MOST_BYTES = 16 << 20
_MOVING = re.compile(r"0x[0-9a-fA-F]+|\d+")


def fingerprint(cause: Cause) -> str:
    """What makes two causes the same: the rule, the file and key (or the words of a log without numbers), the instance."""
    first = cause.evidence[0] if cause.evidence else None
    parts = [cause.rule]
    if first is not None and first.role == "fact":
        parts += [_posix(first.origin), first.key or first.text.partition(" = ")[0]]
    elif first is not None:
        parts += [_posix(first.origin), _MOVING.sub("#", first.text)]
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:32]


def _posix(path: str) -> str:
    return os.path.normpath(path).replace("\\", "/") if path else ""


def selected(findings: Sequence[Finding], settings: Project) -> list[Finding]:
    """The findings of those rules that a project selects; all of them where it selects none."""
    if not settings.select:
        return list(findings)
    return [finding for finding in findings if project.matches(settings.select, finding.rule.id, finding.rule.family)]


def apply(
    diagnosis: Diagnosis,
    families: Mapping[str, str],
    settings: Project,
    baseline: Mapping[str, Sequence[str]],
) -> Diagnosis:
    """The diagnosis with the causes that a project ignores, or its baseline knows, put aside.

    `families` tells the family of each rule; `baseline` has the severities under which each fingerprint is known.
    """
    left = {key: Counter(severities) for key, severities in baseline.items()}
    kept: list[Cause] = []
    accepted: list[Accepted] = []
    for cause in diagnosis.diagnoses:
        pattern = project.matches(settings.ignore, cause.rule, families.get(cause.rule, ""))
        if pattern:
            accepted.append(Accepted(cause, "ignore", settings.ignore[pattern]))
        elif _known(cause, left):
            accepted.append(Accepted(cause, "baseline"))
        else:
            kept.append(cause)
    if not accepted:
        return diagnosis
    return replace(
        diagnosis,
        diagnoses=tuple(kept),
        accepted=tuple(accepted),
        areas=tuple(_without(area, kept, accepted) for area in diagnosis.areas),
    )


def _known(cause: Cause, left: Mapping[str, Counter[str]]) -> bool:
    """Whether the baseline knows a cause, no less severe than it is now; each entry stands for one cause."""
    known = left.get(fingerprint(cause))
    if known is None:
        return False
    for severity in SEVERITIES[: SEVERITIES.index(cause.severity) + 1]:
        if known[severity] > 0:
            known[severity] -= 1
            return True
    return False


def _without(area: Area, kept: Sequence[Cause], accepted: Sequence[Accepted]) -> Area:
    """A line of the checklist as it stands without what was accepted: nothing is hidden that another cause still tells."""
    gone = {name for item in accepted for name in _rules_of(item.cause)} - {
        name for cause in kept for name in _rules_of(cause)
    }
    rules = tuple(name for name in area.rules if name not in gone)
    if rules == area.rules:
        return area
    worst = min((cause.severity for cause in kept if cause.rule in rules), key=SEVERITIES.index, default=None)
    return replace(area, status=worst or "ok", rules=rules)


def _rules_of(cause: Cause) -> set[str]:
    return {cause.rule, *(symptom.rule for symptom in cause.symptoms)}


def read_baseline(path: str) -> dict[str, list[str]]:
    """Severities by fingerprint, from a baseline file. Raises InputError, with what to do."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe into which nobody writes is not waited for
        os.set_blocking(handle, True)
        with open(handle, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such baseline; --update-baseline writes it") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    try:
        document: Any = json.loads(data)
        version = document["version"]
        if version != VERSION:
            raise InputError(f"{path}: a baseline of version {version}; this llmdoctor reads version {VERSION}")
        found: dict[str, list[str]] = {}
        for item in document["accepted"]:
            if item["severity"] not in SEVERITIES:
                raise ValueError(item["severity"])
            found.setdefault(str(item["fingerprint"]), []).append(item["severity"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"{path}: this is no baseline of llmdoctor; --update-baseline writes one") from None
    return found


def baseline_text(diagnosis: Diagnosis) -> str:
    """A baseline that accepts every cause of a diagnosis, and those that it accepts already; for people to read in a diff."""
    causes = [*diagnosis.diagnoses, *(item.cause for item in diagnosis.accepted if item.by == "baseline")]
    rows = [
        {
            "rule": cause.rule,
            "file": cause.evidence[0].origin if cause.evidence else "",
            "key": cause.evidence[0].key if cause.evidence else "",
            "severity": cause.severity,
            "title": cause.title,
            "fingerprint": fingerprint(cause),
        }
        for cause in causes
    ]
    rows.sort(key=lambda row: (row["file"], row["rule"], row["fingerprint"]))
    return json.dumps({"version": VERSION, "accepted": rows}, indent=2, ensure_ascii=False) + "\n"
