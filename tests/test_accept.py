"""What a project accepts does not count, stays visible, and hides nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from diagnose import accept
from diagnose.errors import InputError
from diagnose.model import Area, Diagnosis
from diagnose.project import Project
from tests.formats.pipelines import diagnosis

FAMILIES = {"rate-too-high": "training-settings", "scheduler-odd": "training-settings", "seed-set": "other"}


def names(found: Diagnosis) -> list[str]:
    return [cause.rule for cause in found.diagnoses]


def known(found: Diagnosis, tmp_path: Path) -> dict[str, list[str]]:
    path = tmp_path / "known.json"
    path.write_text(accept.baseline_text(found), encoding="utf-8")
    return accept.read_baseline(str(path))


def test_what_is_ignored_is_put_aside_with_its_reason(tmp_path: Path) -> None:
    """By id or by family; the others stay."""
    settings = Project(ignore={"training-settings": "a sweep"})
    found = accept.apply(diagnosis(tmp_path), FAMILIES, settings, {})

    assert set(names(found)) == {"seed-set", "memory-small"}
    assert {(item.cause.rule, item.by, item.reason) for item in found.accepted} == {
        ("rate-too-high", "ignore", "a sweep"),
        ("scheduler-odd", "ignore", "a sweep"),
    }


def test_a_baseline_accepts_what_it_knows_and_nothing_new(tmp_path: Path) -> None:
    """The same key in another file is new."""
    first, other = diagnosis(tmp_path / "a"), diagnosis(tmp_path / "b", "other.yaml")
    baseline = known(first, tmp_path)

    assert names(accept.apply(first, {}, Project(), baseline)) == []
    assert "rate-too-high" in names(accept.apply(other, {}, Project(), baseline))


def test_a_finding_that_became_worse_is_new(tmp_path: Path) -> None:
    """A warning of the baseline does not accept an error."""
    found = diagnosis(tmp_path)
    milder = replace(found, diagnoses=tuple(replace(cause, severity="note") for cause in found.diagnoses))

    assert names(accept.apply(found, {}, Project(), known(milder, tmp_path))) == [
        name for name in names(found) if name != "seed-set"
    ]


def test_an_entry_stands_for_one_finding(tmp_path: Path) -> None:
    """A second one like it is new."""
    found = diagnosis(tmp_path)
    twice = replace(found, diagnoses=(*found.diagnoses, found.diagnoses[0]))

    assert names(accept.apply(twice, {}, Project(), known(found, tmp_path))) == [found.diagnoses[0].rule]


def test_writing_a_baseline_again_keeps_what_it_accepts(tmp_path: Path) -> None:
    """So that an update does not forget what was put aside."""
    found = diagnosis(tmp_path)
    text = accept.baseline_text(found)
    aside = accept.apply(found, {}, Project(), known(found, tmp_path))

    assert accept.baseline_text(aside) == text


def test_the_checklist_shows_what_still_counts(tmp_path: Path) -> None:
    """A line whose findings are accepted is fine; one with another finding is not."""
    found = replace(
        diagnosis(tmp_path),
        areas=(
            Area("training", "error", "", ("rate-too-high", "scheduler-odd")),
            Area("memory", "warning", "", ("memory-small",)),
        ),
    )
    left = accept.apply(found, {}, Project(ignore={"rate-too-high": "x", "memory-small": "y"}), {})

    assert [(area.status, area.rules) for area in left.areas] == [("warning", ("scheduler-odd",)), ("ok", ())]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": 2, "accepted": []}', '{"version": 1, "accepted": [1]}', "[" * 5000]
)
def test_a_file_that_is_no_baseline_is_told(tmp_path: Path, text: str) -> None:
    """With its name and what to do."""
    path = tmp_path / "known.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"known\.json"):
        accept.read_baseline(str(path))


def test_a_baseline_that_is_not_there_is_told(tmp_path: Path) -> None:
    """And how it is made."""
    with pytest.raises(InputError, match="--update-baseline"):
        accept.read_baseline(str(tmp_path / "none.json"))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """Nobody writes into it."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="no baseline of llmdoctor"):
        accept.read_baseline(str(tmp_path / "pipe"))
