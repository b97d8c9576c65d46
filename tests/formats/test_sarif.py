"""SARIF: what code scanning accepts, with true places, rules that explain themselves, and fingerprints that stay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from sarif_pydantic import Sarif

from diagnose.formats.sarif import write
from diagnose.model import Diagnosis
from tests.formats.pipelines import HOSTILE, diagnosis


def run_of(found: Diagnosis) -> dict[str, Any]:
    """The one run of a report that a SARIF library reads."""
    text = write(found)
    Sarif.model_validate_json(text)
    run: dict[str, Any] = json.loads(text)["runs"][0]
    return run


def by_rule(run: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {result["ruleId"]: result for result in run["results"]}


def test_a_result_stands_at_its_key_in_the_file(tmp_path: Path) -> None:
    """File, line and column of the setting, below the root of the sources."""
    found = by_rule(run_of(diagnosis(tmp_path)))["rate-too-high"]["locations"][0]["physicalLocation"]

    assert found == {
        "artifactLocation": {"uri": "conf/train.yaml", "uriBaseId": "%SRCROOT%"},
        "region": {"startLine": 12, "startColumn": 3},
    }


def test_every_result_has_a_rule_with_help(tmp_path: Path) -> None:
    """The index leads to the rule of the same id, which says why and what to do, in text and in Markdown."""
    run = run_of(diagnosis(tmp_path))
    rules = run["tool"]["driver"]["rules"]

    for result in run["results"]:
        rule = rules[result["ruleIndex"]]
        assert rule["id"] == result["ruleId"]
        assert rule["help"]["text"]
        assert rule["help"]["markdown"]
    assert [rule["helpUri"] for rule in rules if rule["id"] == "rate-too-high"] == ["https://example.org/rates"]


def test_the_rule_is_named_without_the_values_of_the_case(tmp_path: Path) -> None:
    """So that an alert keeps its name; the message has the values."""
    run = run_of(diagnosis(tmp_path))
    rule = next(rule for rule in run["tool"]["driver"]["rules"] if rule["id"] == "rate-too-high")

    assert "0.5" not in rule["shortDescription"]["text"]
    assert by_rule(run)["rate-too-high"]["message"]["text"].startswith("optimizer.lr is 0.5 at conf/train.yaml:12.")


def test_severities_are_levels(tmp_path: Path) -> None:
    """error, warning and note are SARIF's own words."""
    found = {name: result["level"] for name, result in by_rule(run_of(diagnosis(tmp_path))).items()}

    assert found == {
        "rate-too-high": "error",
        "scheduler-odd": "warning",
        "seed-set": "note",
        "memory-small": "warning",
    }


def test_a_finding_of_no_file_points_at_the_configuration(tmp_path: Path) -> None:
    """Code scanning wants a file for each result."""
    found = by_rule(run_of(diagnosis(tmp_path)))["memory-small"]["locations"][0]["physicalLocation"]

    assert found["artifactLocation"]["uri"] == "conf/train.yaml"
    assert found["region"] == {"startLine": 1}


def test_fingerprints_stay_when_lines_move(tmp_path: Path) -> None:
    """A setting that moved in its file is the same alert; another file is another one."""
    first, other = diagnosis(tmp_path / "a"), diagnosis(tmp_path / "b", "other.yaml")
    moved = replace(
        first,
        diagnoses=tuple(
            replace(cause, evidence=tuple(replace(item, line=item.line + 7) for item in cause.evidence))
            for cause in first.diagnoses
        ),
    )
    marks = [
        by_rule(run_of(item))["rate-too-high"]["partialFingerprints"]["llmdoctor/v1"] for item in (first, moved, other)
    ]

    assert marks[0] == marks[1] != marks[2]


def test_what_was_not_checked_is_a_notification(tmp_path: Path) -> None:
    """It is told, and is no result."""
    run = run_of(diagnosis(tmp_path))

    told = [item["message"]["text"] for item in run["invocations"][0]["toolExecutionNotifications"]]
    assert told == ["Not checked: training data: there is none"]


def test_hostile_text_is_shown_and_steers_nothing(tmp_path: Path) -> None:
    """Control characters are spelled out, odd paths are quoted."""
    text = write(diagnosis(tmp_path, "conf/my file#1.yaml", HOSTILE))

    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "my%20file%231.yaml" in text


def test_a_name_with_blanks_keeps_its_place(tmp_path: Path) -> None:
    """What has a column is a file, whatever it is called."""
    found = by_rule(run_of(diagnosis(tmp_path, "my conf/a b.yaml")))["rate-too-high"]["locations"][0]

    assert found["physicalLocation"]["region"]["startLine"] == 12
