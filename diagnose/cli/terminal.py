"""Reports in colour, through Rich, on terminals that show it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from diagnose.formats.layout import Styled

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


def in_colour(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal that shows colour, and wants it."""
    return (
        stream is not None and stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )


def show(lines: Iterable[Styled], file: TextIO | None = None) -> None:
    """Print lines to standard output; with the marks of colours to a file, for a terminal that is another stream."""
    from rich.console import Console
    from rich.text import Text

    console = Console(file=file, force_terminal=True if file is not None else None, highlight=False, soft_wrap=True)
    for line in lines:
        console.print(Text(line.text, style=STYLES[line.role]))
