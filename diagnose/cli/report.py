"""Where a report goes and what the exit code says: formats, files, the job summary, baseline and threshold."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from msgspec import Struct

from diagnose import accept, project, written
from diagnose.causes import diagnose
from diagnose.cli.diagnose import exit_code, print_diagnosis
from diagnose.errors import InputError
from diagnose.formats import formatter
from diagnose.formats.located import counted
from diagnose.match import match
from diagnose.model import Case, Diagnosis
from diagnose.project import Project
from diagnose.ruleset import RuleSet

SUFFIXES = {".sarif": "sarif", ".xml": "junit", ".md": "markdown", ".json": "json", ".txt": "text"}
"""The format of a file, where none is named."""


class Wanted(Struct, frozen=True):
    """What the command line says of the report; empty texts leave it to the project's settings, or to the defaults.

    Each of `outputs` is a file, written in `format`, or else in the one that its name tells; GitHub's annotations are for
    standard output only. `update` writes the baseline rather than to hold the findings against it.
    """

    format: str = ""
    outputs: tuple[str, ...] = ()
    fail_on: str = ""
    baseline: str = ""
    update: bool = False


def check_wanted(wanted: Wanted, settings: Project, inputs: Sequence[str] = ()) -> Mapping[str, Sequence[str]]:
    """The baseline that holds. Raises InputError before anything is read, if the report cannot be written as wanted.

    `inputs` are the files that are to be checked: a report does not take the place of one of them.
    """
    read = {os.path.realpath(name) for name in (*inputs, baseline_path(wanted, settings)) if os.path.isfile(name)}
    for path in wanted.outputs:
        if not path:
            raise InputError("--output: the name of the file is empty")
        if os.path.realpath(path) in read:
            raise InputError(f"--output {path}: this check reads it; name another file")
        folder = os.path.dirname(path) or "."
        if os.path.isdir(path) or not os.path.isdir(folder):
            why = "it is a folder" if os.path.isdir(path) else f"there is no folder {folder}"
            raise InputError(f"--output {path}: {why}")
    path = baseline_path(wanted, settings)
    if wanted.update and not path:
        raise InputError("--update-baseline: name the file with --baseline, or in the project's settings")
    if not path or (wanted.update and not os.path.exists(path)):
        return {}
    return accept.read_baseline(path)


def baseline_path(wanted: Wanted, settings: Project) -> str:
    """The baseline that the command line names, else the project's."""
    return wanted.baseline or (settings.inside(settings.baseline) if settings.baseline else "")


def judged(rules: RuleSet, case: Case, settings: Project) -> Diagnosis:
    """What those rules say of a case that the project selects."""
    return diagnose(rules, case, accept.selected(match(rules, case), settings))


def accepted(
    rules: RuleSet, diagnosis: Diagnosis, settings: Project, baseline: Mapping[str, Sequence[str]]
) -> Diagnosis:
    """The diagnosis without what the project does not count."""
    found = {cause.rule: rules.find(cause.rule) for cause in diagnosis.diagnoses}
    families = {name: rule.family for name, rule in found.items() if rule is not None}
    return accept.apply(diagnosis, families, settings, baseline)


def warn_of_unknown(rules: RuleSet, settings: Project) -> None:
    """Say which names in select and ignore no rule has: a rule was renamed, or the name is misspelt."""
    if not settings.select and not settings.ignore:
        return
    known = {rule_id: rule.family for rule_id in rules.ids if (rule := rules.find(rule_id)) is not None}
    for key, patterns in (("select", settings.select), ("ignore", settings.ignore)):
        for name in project.unknown(patterns, known):
            print(f"llmdoctor: {settings.file}: {key}: no rule or family is named {name}", file=sys.stderr)


def finish(diagnosis: Diagnosis, wanted: Wanted, settings: Project) -> int:
    """Write the report where it is wanted; the exit code. Raises InputError if a file cannot be written."""
    if wanted.update:
        _write(baseline_path(wanted, settings), accept.baseline_text(diagnosis))
        print(f"{baseline_path(wanted, settings)}: {len(diagnosis.diagnoses)} findings accepted", file=sys.stderr)
    annotated = wanted.format == "github"
    print_diagnosis(diagnosis, wanted.format if annotated or not wanted.outputs else "text")
    for path in wanted.outputs:
        by_name = SUFFIXES.get(os.path.splitext(path)[1].lower(), "text")
        _write(path, formatter(by_name if annotated else wanted.format or by_name)(diagnosis))
        print(f"{path}: {counted(diagnosis) or 'nothing'}", file=sys.stderr)
    if annotated:
        _summarise(diagnosis)
    if wanted.update:
        return 0
    return exit_code(diagnosis, wanted.fail_on or settings.fail_on or "error")


def _summarise(diagnosis: Diagnosis) -> None:
    """The job summary of GitHub Actions: the report in Markdown, where the runner names a file for it."""
    path = os.environ.get("GITHUB_STEP_SUMMARY", "")
    if not path:
        return
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write("## llmdoctor\n\n" + formatter("markdown")(diagnosis))
    except OSError as error:
        print(f"llmdoctor: the job summary cannot be written: {path}: {error.strerror}", file=sys.stderr)


def _write(path: str, text: str) -> None:
    """Write a file whole or not at all: one that is there stays as it was, if there is no room.

    A link stays a link, and what is no plain file (/dev/stdout, a pipe) is written to as it stands.
    """
    data = text.encode("utf-8", "replace")
    target = os.path.realpath(path)
    try:
        if path.startswith(("/dev/", "/proc/")) or (os.path.exists(target) and not os.path.isfile(target)):
            sys.stdout.flush()
            handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)  # a pipe that nobody reads is an error
            os.set_blocking(handle, True)
            with open(handle, "wb") as file:
                file.write(data)
            return
        written.whole(target, data)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}") from None
