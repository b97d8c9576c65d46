"""GitLab's code quality report: a JSON list, which merge requests show."""

from __future__ import annotations

import json
import posixpath

from diagnose.accept import fingerprint
from diagnose.formats.layout import visible
from diagnose.formats.located import place_of
from diagnose.model import Diagnosis

_SEVERITIES = {"error": "critical", "warning": "minor", "note": "info"}


def write(diagnosis: Diagnosis) -> str:
    """One entry per cause; fingerprints differ, as GitLab asks."""
    rows = []
    seen: dict[str, int] = {}
    for cause in diagnosis.diagnoses:
        place = place_of(cause, diagnosis)
        mark = fingerprint(cause)
        seen[mark] = seen.get(mark, 0) + 1
        fix = f" {cause.fix[0].do}." if cause.fix else ""
        rows.append(
            {
                "description": visible(f"{cause.title}.{fix}"),
                "check_name": cause.rule,
                "fingerprint": mark if seen[mark] == 1 else f"{mark}-{seen[mark]}",
                "severity": _SEVERITIES[cause.severity],
                "location": {"path": posixpath.normpath(place.path), "lines": {"begin": max(place.line, 1)}},
            }
        )
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"
