"""SARIF 2.1.0, as code scanning of GitHub and others reads it: rules with help, places in files, fingerprints."""

from __future__ import annotations

import json
import posixpath
from typing import Any
from urllib.parse import quote

from diagnose.accept import fingerprint
from diagnose.formats.layout import visible
from diagnose.formats.located import Place, message, place_of, place_of_evidence
from diagnose.formats.markdown import plain
from diagnose.model import Cause, Diagnosis

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
HOME = "https://pypi.org/project/llmdoctor-cli/"
_PRECISION = {"confirmed": "very-high", "likely": "high", "possible": "medium"}
_PROBLEM = {"error": "error", "warning": "warning", "note": "recommendation"}
MOST_RESULTS = 5000


def write(diagnosis: Diagnosis) -> str:
    """One SARIF log with one run. What was not checked is told among the run's notifications."""
    causes = diagnosis.diagnoses[:MOST_RESULTS]
    rules: dict[str, Cause] = {}
    for cause in causes:
        rules.setdefault(cause.rule, cause)
    numbers = {name: number for number, name in enumerate(rules)}
    run = {
        "tool": {
            "driver": {
                "name": "llmdoctor",
                "version": diagnosis.tool,
                "semanticVersion": diagnosis.tool,
                "informationUri": HOME,
                "rules": [_rule(cause) for cause in rules.values()],
            }
        },
        "originalUriBaseIds": {"%SRCROOT%": {"description": {"text": "The working folder"}}},
        "columnKind": "unicodeCodePoints",
        "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": _notifications(diagnosis)}],
        "results": [_result(cause, numbers[cause.rule], diagnosis) for cause in causes],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False) + "\n"


def _notifications(diagnosis: Diagnosis) -> list[dict[str, Any]]:
    return [
        {"level": "note", "message": {"text": visible(f"Not checked: {item.what}: {item.why}")}}
        for item in diagnosis.unchecked
    ]


def _rule(cause: Cause) -> dict[str, Any]:
    text = visible(cause.about or cause.title)
    made: dict[str, Any] = {
        "id": cause.rule,
        "name": "".join(part.capitalize() for part in cause.rule.split("-")),
        "shortDescription": {"text": text},
        "fullDescription": {"text": visible(" ".join(cause.why.split()))},
        "help": {"text": message(cause), "markdown": _help(cause)},
        "defaultConfiguration": {"level": cause.severity},
        "properties": {
            "precision": _PRECISION[cause.certainty],
            "problem.severity": _PROBLEM[cause.severity],
            "tags": sorted(
                {cause.stage or "any stage", cause.cause.partition("/")[0], cause.symptom.partition("/")[0]}
            ),
        },
    }
    if cause.references:
        made["helpUri"] = cause.references[0]
    return made


def _help(cause: Cause) -> str:
    """The page of a rule in Markdown: why, the ways out, references."""
    lines = [plain(" ".join(cause.why.split())), ""]
    for number, fix in enumerate(cause.fix, start=1):
        lines.append(f"{number}. {plain(fix.do)}")
        lines += ["", "   ```sh", *(f"   {visible(row)}" for row in fix.run.split("\n")), "   ```"] if fix.run else []
    lines += ["", *(f"- <{link}>" for link in cause.references)] if cause.references else []
    return "\n".join(lines)


def _result(cause: Cause, number: int, diagnosis: Diagnosis) -> dict[str, Any]:
    mark = fingerprint(cause)
    first = place_of(cause, diagnosis)
    others = [place for item in cause.evidence if (place := place_of_evidence(item)) is not None and place != first]
    made: dict[str, Any] = {
        "ruleId": cause.rule,
        "ruleIndex": number,
        "level": cause.severity,
        "message": {"text": message(cause)},
        "locations": [_location(first)],
        "partialFingerprints": {"llmdoctor/v1": mark, "primaryLocationLineHash": f"{mark[:16]}:1"},
    }
    if others:
        made["relatedLocations"] = [
            {**_location(place), "id": at, "message": {"text": f"{place.path}, line {place.line or 1}"}}
            for at, place in enumerate(dict.fromkeys(others), start=1)
        ]
    return made


def _location(place: Place) -> dict[str, Any]:
    region: dict[str, int] = {"startLine": max(place.line, 1)}
    if place.column:
        region["startColumn"] = place.column
    if place.end_line > region["startLine"]:
        region["endLine"] = place.end_line
    return {"physicalLocation": {"artifactLocation": _artifact(place.path), "region": region}}


def _artifact(path: str) -> dict[str, Any]:
    """A relative path is one below the working folder; one that leaves it, or is absolute, is told as it is."""
    if path.startswith("/"):
        return {"uri": "file://" + quote(path)}
    return {"uri": quote(posixpath.normpath(path)), "uriBaseId": "%SRCROOT%"}
