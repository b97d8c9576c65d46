"""`llmdoctor diagnose`: read logs, with the facts of a machine where they belong to one, and name the cause."""

from __future__ import annotations

import sys
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO

from diagnose import ruleset
from diagnose.causes import diagnose
from diagnose.cli.terminal import in_colour, show
from diagnose.collect import case_of_files
from diagnose.errors import InputError
from diagnose.formats import formatter
from diagnose.match import match
from diagnose.model import SEVERITIES, Diagnosis

if TYPE_CHECKING:
    from diagnose.cli.check import Target
    from diagnose.cli.report import Wanted


def run(logs: list[str], report: Wanted | None, rule_folders: list[str], machine: Target | None = None) -> int:
    """Diagnose and report; the exit code tells whether something at or above the threshold was found.

    Without `report` it is the text, on standard output. `machine` is this machine (`--here`) or a case file: its facts join
    what the log tells.
    """
    rules = ruleset.load(rule_folders)
    wanted = logs or ["-"]
    case = case_of_files(rules, wanted, _standard_input(logs) if "-" in wanted else BytesIO())
    if machine is not None:
        from diagnose.cli.check import case_of
        from diagnose.machine import joined

        case = joined(case, case_of(lambda: rules, machine))
    diagnosis = diagnose(rules, case, match(rules, case))
    if report is None:
        print_diagnosis(diagnosis, "text")
        return exit_code(diagnosis, "error")
    from diagnose.cli.report import finish
    from diagnose.project import Project

    return finish(diagnosis, report, Project())


def exit_code(diagnosis: Diagnosis, fail_on: str) -> int:
    """1 if something as severe as the threshold was found, else 0."""
    if fail_on == "never":
        return 0
    counted = SEVERITIES[: SEVERITIES.index(fail_on) + 1]
    return int(any(cause.severity in counted for cause in diagnosis.diagnoses))


def _standard_input(logs: list[str]) -> BinaryIO:
    if sys.stdin is None:
        raise InputError("standard input is closed; name a log file, or pipe one in")
    if not logs and sys.stdin.isatty():
        print("Paste the log, then press Ctrl-D on an empty line (Ctrl-Z, Enter on Windows):", file=sys.stderr)
    if sys.stdin.isatty():
        return BytesIO(sys.stdin.buffer.read())  # at once: a terminal would ask for its Ctrl-D again
    return sys.stdin.buffer


def print_diagnosis(diagnosis: Diagnosis, format_name: str) -> None:
    """Write the report to standard output, in colour on a terminal."""
    format_name = format_name or "text"
    if format_name == "text" and in_colour(sys.stdout):
        from diagnose.formats.layout import lines

        show(lines(diagnosis))
        return
    if sys.stdout is None:  # closed by who started us: the exit code alone is wanted
        return
    sys.stdout.buffer.write(formatter(format_name)(diagnosis).encode("utf-8", "replace"))
    sys.stdout.buffer.flush()
