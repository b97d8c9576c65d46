"""What several tests need: small rules to start from, and the whole way from a text to a diagnosis."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from diagnose.causes import diagnose
from diagnose.collect import case_of_text
from diagnose.derive.known import by_name
from diagnose.errors import Mistake
from diagnose.match import match
from diagnose.model import Case, Diagnosis, Fact, Finding
from diagnose.rules import RuleFile, bundled_taxonomy, read_rules, survey_rules
from diagnose.ruleset import RuleSet, compile_rules
from diagnose.sources import training

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT.parent / "shared" / "corpus" / "training_configs"
"""Configurations of trainings that people published, where they are there."""
TAXONOMY = bundled_taxonomy()
OUT_OF_MEMORY = "crash/cuda-error/out-of-memory"
LIBRARY = "environment-compatibility-issues/dependency-library-compatibility"


def rule(name: str, *patterns: str, **changes: Any) -> dict[str, Any]:
    """A correct rule as its YAML would be read; `changes` replace top keys, None takes one out."""
    made: dict[str, Any] = {
        "id": name,
        "title": f"The title of {name}",
        "severity": "error",
        "labels": {"symptom": "crash/other-crashes", "cause": LIBRARY},
        "match": {"log": list(patterns) or [f"the words of {name}"]},
        "why": "It happens because of something.",
        "fix": [{"do": "Do something about it"}],
        "examples": {"positive": ["not run here"], "negative": ["not run here"]},
    }
    return {key: value for key, value in (made | changes).items() if value is not None}


def write_rules(folder: Path, rules: Iterable[dict[str, Any]]) -> Path:
    """Write each rule to a file of its own below a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for item in rules:
        (folder / f"{item['id']}.yaml").write_text(yaml.safe_dump(item, allow_unicode=True), encoding="utf-8")
    return folder


def ruleset_of(folder: Path, *rules: dict[str, Any]) -> RuleSet:
    """The compiled form of some rules, by way of their files."""
    return compile_rules(read_rules([write_rules(folder, rules)], TAXONOMY), TAXONOMY)


def mistakes_in(path: Path, text: str | bytes, name: str = "some-trouble.yaml") -> list[Mistake]:
    """Write one rule file and read it: its mistakes."""
    file = path / name
    file.write_bytes(text if isinstance(text, bytes) else textwrap.dedent(text).encode())
    return survey_rules([file], TAXONOMY)[1]


def survey(path: Path, *rules: dict[str, Any]) -> tuple[list[RuleFile], list[Mistake]]:
    """Write some rules and read them: what was read, and all mistakes."""
    return survey_rules([write_rules(path, rules)], TAXONOMY)


def facts_of(values: dict[str, Any]) -> tuple[Fact, ...]:
    """Facts as a source would give them."""
    return tuple(Fact(name, value, "test", 1) for name, value in values.items())


def facts_of_files(folder: Path, *names: str) -> tuple[Fact, ...]:
    """The facts that configurations of a training in a folder tell; of several with one name the first."""
    readings = training.read(names, {}, str(folder))
    return tuple(by_name(one for one in readings if isinstance(one, Fact)).values())


def case_of(rules: RuleSet, text: str, **facts: Any) -> Case:
    """The case of a text, with facts besides (`torch__version` stands for `torch.version`)."""
    case = case_of_text(rules, text, "a.log")
    given = facts_of({name.replace("__", "."): value for name, value in facts.items()})
    return Case(given + case.facts, case.events, case.unchecked, case.origins, case.lines)


def findings_in(rules: RuleSet, text: str, **facts: Any) -> list[Finding]:
    """What matches in a text."""
    return match(rules, case_of(rules, text, **facts))


def diagnosis_of(rules: RuleSet, text: str, **facts: Any) -> Diagnosis:
    """The whole way from a text to its diagnosis."""
    case = case_of(rules, text, **facts)
    return diagnose(rules, case, match(rules, case))


def installation(folder: Path, *rules: dict[str, Any]) -> Path:
    """A checkout with rules of its own: `run_doctor` runs it as a user would run llmdoctor."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("diagnose", "dataset"):
        (folder / name).symlink_to(ROOT / name)
    write_rules(folder / "rules" / "family", rules)
    return folder


def whole_installation(folder: Path) -> Path:
    """A checkout with all bundled rules, for `run_doctor`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("diagnose", "dataset", "rules"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def environment(home: Path, **changes: str) -> dict[str, str]:
    """The environment of such a run: a cache of its own, and nothing that changes how a report looks."""
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "PYTHONPATH")}
    return kept | {"XDG_CACHE_HOME": str(home / "cache"), "TERM": "xterm", "PYTHONWARNINGS": "error"} | changes


def run_doctor(
    home: Path, *arguments: str | bytes, text: bytes = b"", folder: Path | None = None, **changes: str
) -> subprocess.CompletedProcess[bytes]:
    """Run `llmdoctor` of an installation in a process of its own, in the installation's folder or another one."""
    command = [sys.executable, "-m", "diagnose", *arguments]
    environ = environment(home, **changes)
    if folder is not None:
        environ["PYTHONPATH"] = str(home)
    return subprocess.run(command, cwd=folder or home, env=environ, input=text, capture_output=True, timeout=300)
