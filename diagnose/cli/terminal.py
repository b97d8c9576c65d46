"""The report in colour, through Rich."""

from __future__ import annotations

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
