"""From a planted fault to its diagnosis, by way of the real sources in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diagnose.causes import diagnose
from diagnose.collect import completed
from diagnose.match import match
from diagnose.model import Case, Diagnosis, Fact, Unchecked
from diagnose.sources import checkpoint, launch, tokenizer
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

    if command or files:
        take(launch.read([command] if command else [], [str(folder / file) for file in files], environ, str(folder)))
        model = model or _launched(found)
    take(facts_of(dict(facts)))
    if model:
        take(checkpoint.read(model, environ, str(folder)))
        take(tokenizer.read(model, environ, str(folder)))
    return completed(Case(tuple(found.values()), unchecked=tuple(unchecked), machine=True))


def _launched(found: Mapping[str, Fact]) -> str:
    """The model of a command, where it lies on this machine: a path inside a container may lie nowhere here."""
    if "deploy.model_path" in found:
        return str(found["deploy.model_path"].value)
    named = str(found["launch.model"].value) if "launch.model" in found else ""
    inside = "launch.contained" in found and found["launch.contained"].value
    return "" if inside and named.startswith("/") else named


def diagnosis_of(case: Case) -> Diagnosis:
    """What all rules say of a case."""
    return diagnose(RULES, case, match(RULES, case))


def case_of_fault(fault: Fault, world: Path) -> Case:
    """The case of a planted fault."""
    environ = {name: str(world / value) if name == "HF_HUB_CACHE" else value for name, value in fault.environ.items()}
    launched = bool(fault.command or fault.files)
    model = fault.target or fault.model
    return case_of(world, "" if launched else model, fault.command, fault.files, environ, fault.facts)
