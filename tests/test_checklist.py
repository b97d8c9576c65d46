"""The checklist: a line per area that was looked at, its worst finding, and never "fine" for what nobody could see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diagnose.causes import diagnose
from diagnose.collect import case_of_text
from diagnose.facts import AREAS, CATALOGUE
from diagnose.match import match
from diagnose.model import Area, Case, Unchecked
from diagnose.ruleset import RuleSet
from tests.support import facts_of, rule, ruleset_of

HEALTHY: dict[str, Any] = {
    "driver.version": "580.65.06",
    "driver.cuda": "13.0",
    "gpu.count": 2,
    "gpu.0.name": "NVIDIA H100 80GB HBM3",
    "gpu.0.memory": 80 << 30,
    "gpu.1.name": "NVIDIA H100 80GB HBM3",
    "gpu.1.memory": 80 << 30,
    "storage.models.free": 5 << 30,
    "storage.models.total": 100 << 30,
    "storage.work.free": 5 << 30,
    "storage.work.total": 100 << 30,
    "torch.version": "2.9.0",
    "torch.cuda": "12.8",
    "unmet.count": 0,
    "packages.count": 212,
}


def lines(rules: RuleSet, case: Case) -> dict[str, Area]:
    """The checklist of a case, by area."""
    return {area.name: area for area in diagnose(rules, case, match(rules, case)).areas}


def test_what_was_found_is_told_in_a_few_words(tmp_path: Path) -> None:
    """GPUs of one kind are counted, folders of one file system are told together, sizes are sizes."""
    found = lines(ruleset_of(tmp_path), Case(facts_of(HEALTHY), machine=True))

    assert "580.65.06, up to CUDA 13.0" == found["driver"].summary
    assert "2 × NVIDIA H100 80GB HBM3 (80 GiB)" == found["GPUs"].summary
    assert "5 GiB free for model cache, working directory" == found["storage"].summary
    assert "212 distributions, all requirements met" == found["packages"].summary
    assert "torch 2.9.0 for CUDA 12.8" == found["CUDA libraries"].summary
    assert {"ok"} == {area.status for area in found.values()}


def test_a_script_or_data_with_nothing_to_look_at_has_a_line(tmp_path: Path) -> None:
    """Somebody named it: silence would say that it was checked."""
    facts = {"training.script": "train.py", "data.file.0.path": "numbers.json", "data.file.0.examples": 0}
    found = lines(ruleset_of(tmp_path), Case(facts_of(facts), machine=True))

    assert "no settings that are known here in train.py" == found["training"].summary
    assert "no examples in numbers.json" == found["data"].summary


def test_the_lines_come_from_the_bottom_of_the_stack_upwards(tmp_path: Path) -> None:
    """The driver stands first, and only areas that were looked at have a line."""
    found = list(lines(ruleset_of(tmp_path), Case(facts_of(HEALTHY), machine=True)))

    assert found == [area for area in AREAS if area in found]
    assert "kernel log" not in found


def test_a_finding_marks_the_line_of_its_area(tmp_path: Path) -> None:
    """The worst finding of an area is its status, also where it is told as another one's symptom."""
    rules = ruleset_of(
        tmp_path,
        rule("old-driver", match={"facts": ["driver.version < 600"]}, leads_to=["few-gpus"]),
        rule("few-gpus", match={"facts": ["gpu.count < 8"]}, severity="warning"),
        rule("a-note", match={"facts": ["gpu.count < 8"]}, severity="note"),
    )
    found = lines(rules, Case(facts_of(HEALTHY), machine=True))

    assert ("error", ("old-driver",)) == (found["driver"].status, found["driver"].rules)
    assert ("warning", {"few-gpus", "a-note"}) == (found["GPUs"].status, set(found["GPUs"].rules))


def test_what_could_not_be_read_is_not_fine(tmp_path: Path) -> None:
    """An area whose source failed says that it was not checked, and why."""
    case = Case(unchecked=(Unchecked("kernel log", "reading it needs root"),), machine=True)

    assert {"kernel log": Area("kernel log", "unchecked", "not checked, because reading it needs root")} == lines(
        ruleset_of(tmp_path), case
    )


def test_no_gpu_is_a_normal_machine(tmp_path: Path) -> None:
    """It is said what that rules out, and nothing is marked."""
    found = lines(ruleset_of(tmp_path), Case(facts_of({"gpu.count": 0, "gpu.vendor": "none"}), machine=True))

    assert {"ok"} == {area.status for area in found.values()}
    assert "CPU" in found["GPUs"].summary


def test_a_log_has_no_checklist(tmp_path: Path) -> None:
    """Neither a pasted text nor a log with the facts of a machine is a check of the machine."""
    rules = ruleset_of(tmp_path)
    text = case_of_text(rules, "torch==2.9.0\n")
    joined = Case(facts_of(HEALTHY), origins=("a.log",), machine=True)

    assert [(), ()] == [diagnose(rules, case, []).areas for case in (text, joined)]


def test_every_fact_has_a_line() -> None:
    """The area of each fact in the catalogue is a line of the checklist."""
    assert [] == [kind.name for kind in CATALOGUE if kind.area not in AREAS]
