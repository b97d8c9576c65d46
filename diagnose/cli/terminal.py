"""The report in colour, through Rich."""

from __future__ import annotations

from io import StringIO

from rich.console import Console
from rich.text import Text

from diagnose.formats.layout import lines
from diagnose.model import Diagnosis

STYLES = {
    "title": "bold",
    "error": "bold red",
    "warning": "bold yellow",
    "note": "cyan",
    "ok": "green",
    "head": "bold",
    "quote": "magenta",
    "command": "green",
    "prose": "",
    "faint": "dim",
}


def show(diagnosis: Diagnosis) -> None:
    """Print the report to the terminal."""
    console = Console(highlight=False, soft_wrap=True)
    for line in lines(diagnosis):
        console.print(Text(line.text, style=STYLES[line.role]))


def coloured(diagnosis: Diagnosis) -> str:
    """The report as a text with the marks of colours, for a terminal that is not standard output."""
    made = StringIO()
    console = Console(file=made, force_terminal=True, highlight=False, soft_wrap=True)
    for line in lines(diagnosis):
        console.print(Text(line.text, style=STYLES[line.role]))
    return made.getvalue()
