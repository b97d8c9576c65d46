"""Several diagnoses as one: nothing lost, nothing told twice, the worst first."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from diagnose.merge import merged
from diagnose.model import Area
from tests.formats.pipelines import diagnosis


def test_one_diagnosis_stays_as_it_is(tmp_path: Path) -> None:
    """Nothing is put in another order."""
    found = diagnosis(tmp_path)

    assert merged([found]) is found


def test_the_same_finding_is_told_once_and_those_of_two_files_twice(tmp_path: Path) -> None:
    """A finding about the machine is the same for both."""
    one, other = diagnosis(tmp_path / "a", "a.yaml"), diagnosis(tmp_path / "b", "b.yaml")
    rules = [cause.rule for cause in merged([one, other]).diagnoses]

    assert rules.count("rate-too-high") == 2
    assert rules.count("memory-small") == 1


def test_errors_come_first(tmp_path: Path) -> None:
    """Whichever file they are of."""
    one, other = diagnosis(tmp_path / "a", "a.yaml"), diagnosis(tmp_path / "b", "b.yaml")
    severities = [cause.severity for cause in merged([one, other]).diagnoses]

    assert severities == sorted(severities, key=("error", "warning", "note").index)


def test_a_line_of_the_checklist_has_the_worst_state(tmp_path: Path) -> None:
    """And the rules of both."""
    one, other = diagnosis(tmp_path / "a"), diagnosis(tmp_path / "b")
    one = replace(one, areas=(Area("training", "ok", "sft"), Area("memory", "warning", "small", ("memory-small",))))
    other = replace(other, areas=(Area("training", "error", "dpo", ("rate-too-high",)),))
    areas = {area.name: area for area in merged([one, other]).areas}

    assert areas["training"] == Area("training", "error", "2 looked at: sft; …", ("rate-too-high",))
    assert areas["memory"].status == "warning"


def test_what_was_not_checked_is_told_once(tmp_path: Path) -> None:
    """The same reason for the same thing."""
    assert len(merged([diagnosis(tmp_path / "a"), diagnosis(tmp_path / "b")]).unchecked) == 1
