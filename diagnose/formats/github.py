"""Annotations of GitHub Actions: a line per finding, which the runner shows at its place in the file."""

from __future__ import annotations

from diagnose.formats.layout import visible
from diagnose.formats.located import counted, message, place_of
from diagnose.model import Cause, Diagnosis

_COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}


def write(diagnosis: Diagnosis) -> str:
    """Workflow commands, the worst first; the runner shows ten of each kind per step."""
    lines = [_annotation(cause, diagnosis) for cause in diagnosis.diagnoses]
    return "\n".join([*lines, f"llmdoctor: {counted(diagnosis) or 'nothing found that stands in the way'}"]) + "\n"


def _annotation(cause: Cause, diagnosis: Diagnosis) -> str:
    place = place_of(cause, diagnosis)
    properties = {"file": place.path}
    if place.line:
        properties["line"] = str(place.line)
    if place.column:
        properties["col"] = str(place.column)
    properties["title"] = f"llmdoctor: {cause.rule}"
    told = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::{_COMMANDS[cause.severity]} {told}::{_data(message(cause))}"


def _data(text: str) -> str:
    """What stands behind the command: a line end would end it."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(visible(text)).replace(":", "%3A").replace(",", "%2C")
