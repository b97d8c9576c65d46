"""llmdoctor in a process of its own: what a program tells it goes in, a report comes out and is shown; nothing is ever raised."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Literal, TextIO

SECONDS = 120
"""How long a report may take: a machine whose driver hangs is told so well before."""
MOST = 4 << 20
"""How many characters of a traceback are handed on: its end."""

Raised = tuple[type[BaseException], BaseException, TracebackType | None]


def of_exception(raised: Raised, case: str = "", form: Literal["text", "markdown"] = "text") -> str:
    """The report on an exception, with the facts of this machine and interpreter, or of a case file; empty if there is none."""
    import traceback

    text = "".join(traceback.format_exception(*raised))
    joined = ["--case", case] if case else ["--here", "--python", sys.executable]
    code, report = run(["diagnose", "-", *joined, "--format", form], text[-MOST:])
    return report if code in (0, 1) else ""


def run(words: Sequence[str], text: str) -> tuple[int, str]:
    """Run llmdoctor with `text` on its standard input: its exit code, and what it said; 2 where it cannot run."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "diagnose", *words],
            input=text.encode("utf-8", "replace"),
            capture_output=True,
            timeout=SECONDS,
            env=_environ(),
        )
    except (OSError, subprocess.SubprocessError, ValueError):
        return 2, ""
    return done.returncode, done.stdout.decode("utf-8", "replace")


def show(text: str, stream: TextIO | None) -> None:
    """Write a text, and a line's end, to a stream of the program that we are in; one that is closed is left alone."""
    if stream is None:
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        stream.flush()
    except (OSError, ValueError):
        pass


def _environ() -> dict[str, str]:
    """The environment, with the folder that this package was imported from."""
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    known = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (package, known))), "NO_COLOR": "1"}
