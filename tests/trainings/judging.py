"""From the text of a configuration to its diagnosis, by way of the real sources in this process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diagnose.causes import diagnose
from diagnose.collect import completed
from diagnose.derive.known import by_name
from diagnose.match import match
from diagnose.model import Case, Diagnosis
from tests.support import facts_of, facts_of_files
from tests.test_bundled_rules import RULES


def case_of(folder: Path, name: str, text: str, facts: Mapping[str, Any] = {}) -> Case:
    """What `check --config NAME --no-machine` would collect in a folder, where `facts` are known besides."""
    (folder / name).write_text(text, encoding="utf-8")
    found = by_name((*facts_of_files(folder, name), *facts_of(dict(facts))))
    return completed(Case(tuple(found.values()), machine=True))


def diagnosis_of(case: Case) -> Diagnosis:
    """What all rules say of a case."""
    return diagnose(RULES, case, match(RULES, case))
