"""A diagnosis → a string; a module per format, listed here."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from diagnose.model import Diagnosis

FORMATS = {
    name: f"diagnose.formats.{name}" for name in ("text", "json", "markdown", "sarif", "junit", "github", "gitlab")
}


def formatter(name: str) -> Callable[[Diagnosis], str]:
    """The function that writes a diagnosis in this format. Raises KeyError for a name that is not in FORMATS."""
    written: Callable[[Diagnosis], str] = import_module(FORMATS[name]).write
    return written
