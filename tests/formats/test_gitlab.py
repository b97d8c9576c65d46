"""GitLab's code quality report: the keys that it asks for, each fingerprint once."""

from __future__ import annotations

import json
from pathlib import Path

from msgspec.structs import replace

from diagnose.formats.gitlab import write
from tests.formats.pipelines import diagnosis


def test_an_entry_has_what_gitlab_asks_for(tmp_path: Path) -> None:
    """description, check_name, fingerprint, severity, and the place."""
    first = json.loads(write(diagnosis(tmp_path)))[0]

    assert first["check_name"] == "rate-too-high"
    assert first["severity"] == "critical"
    assert first["location"] == {"path": "conf/train.yaml", "lines": {"begin": 12}}
    assert first["description"].endswith("Write optimizer.lr: 2e-5.")


def test_severities_are_those_that_gitlab_knows(tmp_path: Path) -> None:
    """Of info, minor, major, critical and blocker."""
    found = {item["check_name"]: item["severity"] for item in json.loads(write(diagnosis(tmp_path)))}

    assert (found["scheduler-odd"], found["seed-set"]) == ("minor", "info")


def test_fingerprints_differ(tmp_path: Path) -> None:
    """Two findings that would be one are told apart."""
    found = diagnosis(tmp_path)
    twice = replace(found, diagnoses=(*found.diagnoses, found.diagnoses[0]))
    marks = [item["fingerprint"] for item in json.loads(write(twice))]

    assert len(set(marks)) == len(marks)
