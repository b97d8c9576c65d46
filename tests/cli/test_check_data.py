"""`llmdoctor check --data`, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diagnose.cli.check import _bar
from tests.sources.data.support import answer, chats, jsonl, user
from tests.support import run_doctor, whole_installation

CONFIG = "model_name_or_path: none/here\nlearning_rate: 2.0e-5\nmax_length: 2048\ndataset_name: data\ndataset_text_field: text\npacking: false\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation with all bundled rules."""
    return whole_installation(tmp_path_factory.mktemp("check-data") / "home")


def told(home: Path, folder: Path, *words: str, code: int = 0) -> dict[str, Any]:
    """What a check without the machine says of files in a folder, as JSON."""
    done = run_doctor(home, "check", *words, "--no-machine", "--format", "json", folder=folder)
    assert done.returncode == code, done.stderr.decode()
    report: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
    return report


def data_rules(report: dict[str, Any]) -> list[str]:
    """The rules on data that found something."""
    return [cause["rule"] for cause in report["diagnoses"] if cause["rule"].startswith("data-")]


def test_healthy_data_is_quiet(home: Path, tmp_path: Path) -> None:
    """The checklist tells how much it is and in which form."""
    jsonl(tmp_path / "train.jsonl", chats(30))
    report = told(home, tmp_path, "--data", "train.jsonl")

    assert [] == report["diagnoses"]
    assert ["30 examples, messages"] == [
        area["summary"].rpartition(",")[0] for area in report["areas"] if area["name"] == "data"
    ]


def test_a_fault_is_told_with_its_file_and_line(home: Path, tmp_path: Path) -> None:
    """The first evidence points at it, and the exit code says so."""
    jsonl(tmp_path / "train.jsonl", [*chats(30), '{"messages": ['])
    report = told(home, tmp_path, "--data", "train.jsonl", code=1)

    assert ["data-lines-unreadable"] == data_rules(report)
    evidence = report["diagnoses"][0]["evidence"][0]
    assert ("train.jsonl", 31) == (evidence["origin"], evidence["line"])


def test_what_is_not_there_is_bad_input(home: Path, tmp_path: Path) -> None:
    """Exit code 2, with the path."""
    done = run_doctor(home, "check", "--data", "none.jsonl", "--no-machine", folder=tmp_path)

    assert 2 == done.returncode
    assert b"none.jsonl: there is no such file or folder" in done.stderr


def test_data_that_the_settings_name_is_looked_into_without_being_asked(home: Path, tmp_path: Path) -> None:
    """A folder as `dataset_name`: what is wrong in it is told with the settings alone."""
    (tmp_path / "train.yaml").write_text(CONFIG)
    (tmp_path / "data").mkdir()
    jsonl(tmp_path / "data" / "train.jsonl", [*chats(30), {"messages": [user("q"), answer("")]}])
    report = told(home, tmp_path, "--config", "train.yaml")

    assert ["data-answers-empty"] == data_rules(report)


def test_a_part_is_enough_where_it_is_asked_for(home: Path, tmp_path: Path) -> None:
    """A small file is read whole all the same."""
    jsonl(tmp_path / "train.jsonl", chats(30))
    report = told(home, tmp_path, "--data", "train.jsonl", "--sample")

    assert 30 == next(fact["value"] for fact in report["facts"] if fact["name"] == "data.examples")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a b.jsonl 37%", "a b.jsonl ━━━╌╌╌╌╌╌╌ 37%"),
        ("x 100%", "x ━━━━━━━━━━ 100%"),
        ("GPU driver", "GPU driver"),
        ("50%", "50%"),
    ],
)
def test_a_percentage_is_shown_as_a_bar(name: str, shown: str) -> None:
    """Other names stay as they are."""
    assert shown == _bar(name)
