"""Where a cause stands in a file, and how it is told in one message: what the formats of pipelines share."""

from __future__ import annotations

import os
import posixpath
import re

from msgspec import Struct

from diagnose.formats.layout import visible
from diagnose.model import SEVERITIES, Cause, Diagnosis, Evidence

NO_FILES = frozenset({"", "-", "environment", "command line", "arithmetic", "--for", "kernel log", "the environment"})
FALLBACK = "pyproject.toml"
"""What a finding points at that is about no file: code scanning wants some file for each."""
_PATH = re.compile(r"[^\s:*?\"<>|]+")
"""What the origin of a fact without a column has to look like, to be taken for a path: others are words."""


class Place(Struct, frozen=True):
    """A file with slashes, and line and column from 1 (0: none)."""

    path: str
    line: int = 0
    column: int = 0
    end_line: int = 0


def place_of(cause: Cause, diagnosis: Diagnosis) -> Place:
    """The file that a cause is about: the first of its evidence that stands in one, else the first configuration named."""
    found = next((place for item in cause.evidence if (place := place_of_evidence(item)) is not None), None)
    if found is not None:
        return found
    named = next((fact.value for fact in diagnosis.facts if fact.name == "training.file.0.path"), FALLBACK)
    return Place(_slashes(str(named)))


def place_of_evidence(item: Evidence) -> Place | None:
    """Where a piece of evidence stands, if that is a file of the user's."""
    if item.origin in NO_FILES or item.origin.startswith(("dataset/", "/proc/", "/sys/")):
        return None
    if item.role == "fact" and not item.column and not _may_be_file(item):
        return None
    return Place(_slashes(item.origin), item.line, item.column, max(item.end_line, item.line))


def _may_be_file(item: Evidence) -> bool:
    """Whether a fact's origin, of which no column is known, is a file of the project, and not one of the machine."""
    if not _PATH.fullmatch(item.origin.replace("\\", "/")):
        return False
    return bool(item.line) or not (os.path.isabs(item.origin) or "." not in posixpath.basename(item.origin))


def _slashes(path: str) -> str:
    path = path.replace("\\", "/")
    return path[2:] if path.startswith("./") else path


def counted(diagnosis: Diagnosis) -> str:
    """How much was found, in words: 2 errors, 1 warning; empty for nothing."""
    counts = [(name, sum(cause.severity == name for cause in diagnosis.diagnoses)) for name in SEVERITIES]
    return ", ".join(f"{number} {name}{'s' if number != 1 else ''}" for name, number in counts if number)


def message(cause: Cause) -> str:
    """The title, why, and what to do first, as lines of plain text that steer no terminal."""
    lines = [cause.title + ".", "", " ".join(cause.why.split())]
    for fix in cause.fix[:2]:
        lines += ["", f"Fix: {fix.do}"]
        lines += [f"  {row}" for row in fix.run.split("\n")] if fix.run else []
    return "\n".join(visible(row) for line in lines for row in line.split("\n"))
