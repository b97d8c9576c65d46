"""From a planted fault to its diagnosis, by way of the real sources in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diagnose import machine
from diagnose.causes import diagnose
from diagnose.collect import completed
from diagnose.match import match
from diagnose.model import Case, Diagnosis, Fact, Unchecked
from diagnose.sources import launch
from tests.models.faults.fault import Fault
from tests.support import facts_of
from tests.test_bundled_rules import RULES


def case_of(
    folder: Path,
    model: str = "",
    command: str = "",
    files: Sequence[str] = (),
    environ: Mapping[str, str] = {},
    facts: Mapping[str, Any] = {},
) -> Case:
    """What `check` would collect of a model and a launch below `folder`, where `facts` are known of the machine."""
    environ = {"HOME": str(folder), "PWD": str(folder), **environ}
    found: dict[str, Fact] = {}
    unchecked: list[Unchecked] = []

    def take(readings: Any) -> None:
        for reading in readings:
            if isinstance(reading, Fact):
                found.setdefault(reading.name, reading)
            elif isinstance(reading, Unchecked):
                unchecked.append(reading)

    request = machine.Request(environ, str(folder), model=model, machine=False)
    if command or files:
        words = [command] if command else []
        take(launch.read(words, [str(folder / file) for file in files], environ, str(folder)))
        request = machine._as_launched(request, found)
    take(facts_of(dict(facts)))
    for source in machine._sources(request, ""):
        take(source.read())
    return completed(Case(tuple(found.values()), unchecked=tuple(unchecked), machine=True))


def diagnosis_of(case: Case) -> Diagnosis:
    """What all rules say of a case."""
    return diagnose(RULES, case, match(RULES, case))


def case_of_fault(fault: Fault, world: Path) -> Case:
    """The case of a planted fault."""
    environ = {name: str(world / value) if name == "HF_HUB_CACHE" else value for name, value in fault.environ.items()}
    launched = bool(fault.command or fault.files)
    model = fault.target or fault.model
    return case_of(world, "" if launched else model, fault.command, fault.files, environ, fault.facts)
