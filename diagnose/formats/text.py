"""Plain text for people, good in 80 columns."""

from __future__ import annotations

from diagnose.formats.layout import lines
from diagnose.model import Diagnosis


def write(diagnosis: Diagnosis) -> str:
    """The report without colour."""
    return "\n".join(line.text for line in lines(diagnosis)).rstrip() + "\n"
