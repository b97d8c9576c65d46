"""Data files made for tests, and what the sources and the rules say of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from diagnose.causes import diagnose
from diagnose.collect import completed
from diagnose.match import match
from diagnose.model import Case, Fact, Unchecked
from diagnose.sources import data
from tests.support import ROOT, facts_of
from tests.test_bundled_rules import RULES

MODELS = ROOT / "tests" / "models" / "folders"
TRL: Mapping[str, Any] = {"training.framework": "trl", "training.task": "sft"}
Row = Mapping[str, Any]


def user(text: Any) -> dict[str, Any]:
    """A message of the user."""
    return {"role": "user", "content": text}


def answer(text: Any, **more: Any) -> dict[str, Any]:
    """A message of the assistant."""
    return {"role": "assistant", "content": text, **more}


def system(text: str) -> dict[str, Any]:
    """A system message."""
    return {"role": "system", "content": text}


def chats(count: int = 20) -> list[dict[str, Any]]:
    """Healthy conversations."""
    return [{"messages": [user(f"What is {n} and {n}?"), answer(f"It is {2 * n}.")]} for n in range(count)]


def jsonl(path: Path, rows: Iterable[Row | str | bytes]) -> Path:
    """Write rows a line each; texts and bytes as they are."""
    with path.open("wb") as file:
        for row in rows:
            line = row if isinstance(row, bytes) else (row if isinstance(row, str) else json.dumps(row)).encode()
            file.write(line + b"\n")
    return path


def read(
    paths: Sequence[Path | str], known: Mapping[str, Any] = {}, sample: bool = False, folder: Path | None = None
) -> tuple[dict[str, Fact], list[Unchecked]]:
    """The facts of data files by name, and what could not be read."""
    where = folder or (Path(paths[0]).parent if paths else Path.cwd())
    given = {fact.name: fact for fact in facts_of(dict(known))}
    facts: dict[str, Fact] = {}
    unchecked = []
    for reading in data.read([str(path) for path in paths], {"HOME": str(where)}, str(where), given, sample):
        if isinstance(reading, Fact):
            assert reading.name not in facts, reading
            facts[reading.name] = reading
        elif isinstance(reading, Unchecked):
            unchecked.append(reading)
    return facts, unchecked


def values(facts: Mapping[str, Fact], number: int = 0) -> dict[str, Any]:
    """The values of one file's facts, by the last part of their names."""
    head = f"data.file.{number}."
    return {name.removeprefix(head): fact.value for name, fact in facts.items() if name.startswith(head)}


def kinds(path: Path, known: Mapping[str, Any] = {}) -> dict[str, tuple[int, str]]:
    """What was counted in a file: how often, and where."""
    found = values(read([path], known)[0])
    return {name: (found[name], found[f"{name}_lines"]) for name in found if f"{name}_lines" in found}


def rules_on(paths: Sequence[Path], known: Mapping[str, Any] = TRL, folder: Path | None = None) -> list[str]:
    """The ids of the rules that find something in data files, the first cause first."""
    facts, unchecked = read(paths, known, folder=folder)
    case = completed(Case((*facts_of(dict(known)), *facts.values()), unchecked=tuple(unchecked), machine=True))
    return [
        cause.rule for cause in diagnose(RULES, case, match(RULES, case)).diagnoses if cause.rule.startswith("data-")
    ]
