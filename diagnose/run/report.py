"""A run → its case and diagnosis, and the files of `--report`: the case, the report, the output and the memory curve.

Several machines and ranks may write into one folder: the names begin with host and rank, and nothing is overwritten.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from diagnose import bundle, redact, written
from diagnose.causes import diagnose
from diagnose.checklist import area_of_finding
from diagnose.collect import case_of_text
from diagnose.errors import InputError
from diagnose.match import match
from diagnose.model import Case, Diagnosis, Fact, Finding, Unchecked
from diagnose.order import on_facts
from diagnose.ruleset import RuleSet
from diagnose.run import tree
from diagnose.run.curve import Point
from diagnose.run.follow import Followed

OUTPUT = "the output"
"""How the report calls what the command said."""
MOST_NAMES = 1000
_HOST_LENGTH = 64


def case_of(
    rules: RuleSet,
    text: str,
    seen: Followed,
    facts: Sequence[Fact],
    machine: Case,
) -> Case:
    """All that is known of a run: what it said, what was seen of it, and the machine that it ran on."""
    from diagnose.machine import joined

    said = _case_of_output(rules, text)
    events = said.events
    for one in seen.said:
        events += case_of_text(rules, one.text + "\n", f"the error file of rank {one.rank}").events
    unchecked = said.unchecked + tuple(Unchecked(what, why) for what, why in (seen.hang.unchecked if seen.hang else ()))
    log = Case((*facts, *said.facts), events, unchecked, said.origins, said.lines, machine=True)
    return redact.case(joined(log, _told_once(machine)))


def _told_once(machine: Case) -> Case:
    """The machine's case, without that the command is none that is known: a training script is what it likes."""
    unchecked = tuple(
        item for item in machine.unchecked if item.what != "launch command" or "starts no engine" not in item.why
    )
    return replace(machine, unchecked=unchecked)


def judged(rules: RuleSet, case: Case) -> Diagnosis:
    """What the rules say of a run. Notes on the machine that explain nothing of it are left out."""
    found = match(rules, case)
    kept = [finding for finding in found if not _is_beside(finding)]
    diagnosis = diagnose(rules, case, found)
    explaining = {cause.rule for cause in diagnosis.diagnoses if cause.symptoms}
    if len(kept) != len(found):
        telling = [finding for finding in found if finding in kept or finding.rule.id in explaining]
        diagnosis = diagnose(rules, case, telling)
    return replace(diagnosis, advice=())  # it asks for what was there to be read: the whole log, the environment


def _is_beside(finding: Finding) -> bool:
    return finding.rule.severity == "note" and on_facts(finding) and area_of_finding(finding) != "run"


def tells_why(diagnosis: Diagnosis) -> bool:
    """Whether something of what the command said or of what was seen of it is explained, and not only the machine judged."""
    return not diagnosis.diagnoses or any(
        item.role != "fact" or item.text.startswith("run.") for item in diagnosis.diagnoses[0].evidence
    )


def _case_of_output(rules: RuleSet, text: str) -> Case:
    try:
        return case_of_text(rules, text, OUTPUT)
    except InputError:  # it said nothing at all
        return Case(origins=(OUTPUT,))


class Files(Struct, frozen=True):
    """Where the files of a report go: `stem` is the beginning of their names."""

    folder: str
    stem: str

    def path(self, ending: str) -> str:
        """The path of one of them."""
        return os.path.join(self.folder, f"{self.stem}.{ending}")


def prepare(folder: str, environ: Mapping[str, str]) -> Files:
    """Make the folder and take a name in it that nobody has. Raises InputError if that cannot be."""
    try:
        os.makedirs(folder, exist_ok=True)
    except FileExistsError:
        raise InputError(f"--report {folder}: is a file; name a folder") from None
    except NotADirectoryError:
        raise InputError(f"--report {folder}: a part of this path is a file; name a folder") from None
    except (OSError, ValueError) as error:
        raise InputError(f"--report {folder}: cannot be made: {getattr(error, 'strerror', None) or error}") from None
    first = stem_of(socket.gethostname(), environ)
    for number in range(1, MOST_NAMES):
        files = Files(folder, first if number == 1 else f"{first}.{number}")
        try:
            os.close(os.open(files.path("output.log"), os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666))
        except FileExistsError:
            continue
        except OSError as error:
            raise InputError(f"--report {folder}: nothing can be written there: {error.strerror}") from None
        return files
    raise InputError(f"--report {folder}: holds {MOST_NAMES} reports of {first}; remove some")


def stem_of(host: str, environ: Mapping[str, str]) -> str:
    """How the files of this process's report begin: `gpu-07`, with the rank where several run: `gpu-07.rank3`."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", host.partition(".")[0])[:_HOST_LENGTH].strip("-") or "host"
    ranks = (*tree.RANKS, "JOB_COMPLETION_INDEX", "NODE_RANK")
    rank = next((environ[variable] for variable in ranks if environ.get(variable, "").isdigit()), "")
    return f"{name}.rank{rank}" if rank else name


def keep(files: Files, text: str, points: Sequence[Point]) -> list[str]:
    """Write what was seen, before anything is looked up; what could not be written, in sentences."""
    made: dict[str, Callable[[], str]] = {
        "output.log": lambda: redact.mask(text),
        "memory.json": lambda: curve_text(points),
    }
    return _written(files, made)


def write(files: Files, case: Case, diagnosis: Diagnosis, stacks: str = "") -> list[str]:
    """Write the case and the diagnosis; what could not be written, in sentences."""
    from diagnose.formats import formatter
    from diagnose.identity import of_this_machine

    made: dict[str, Callable[[], str]] = {
        "case.json": lambda: bundle.dumps(redact.case(case, of_this_machine())),
        "report.md": lambda: formatter("markdown")(diagnosis),
        "report.json": lambda: formatter("json")(diagnosis),
    }
    if stacks:
        made["stacks.txt"] = lambda: redact.mask(stacks)
    return _written(files, made)


def _written(files: Files, made: Mapping[str, Callable[[], str]]) -> list[str]:
    wrong: list[str] = []
    for ending, text in made.items():
        try:
            written.whole(files.path(ending), text().encode("utf-8", "replace"))
        except OSError as error:
            wrong.append(f"{files.path(ending)}: cannot write it: {error.strerror}")
    return wrong


def curve_text(points: Sequence[Point]) -> str:
    """The memory curve as JSON, a list per quantity; null for what was not known. Bytes, and seconds since the start."""
    names = ("seconds", "memory", "available", "limit_used", "gpu_used", "shm_free")
    columns = {name: [_known(getattr(point, name)) for point in points] for name in names}
    return msgspec.json.encode(columns).decode() + "\n"


def _known(value: float) -> float | None:
    return value if value >= 0 else None
