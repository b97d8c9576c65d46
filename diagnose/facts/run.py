"""Facts of a command that ran under `llmdoctor run`."""

from __future__ import annotations

from diagnose.facts.kinds import FactKind, kinds

# run: run/
RUN: tuple[FactKind, ...] = (
    *kinds("run", "run",
        ("run.exit_code", "number", "exit code of the command"),
        ("run.signal", "text", "the signal that ended it: SIGKILL, SIGSEGV …"),
        ("run.seconds", "number", "seconds that it ran"),
    ),
)  # fmt: skip
