"""Planted faults: each of them is the first thing that is told; the healthy folders and launches stay without a warning."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from diagnose.model import Cause
from tests.models.faults import FAULTS, Fault
from tests.models.faults.launches import COMPOSE, POD
from tests.models.healthy import LAUNCHES, Launch
from tests.models.judging import case_of, case_of_fault, diagnosis_of
from tests.models.machines import A100_X4
from tests.models.planting import FOLDERS, plant
from tests.support import run_doctor, whole_installation
from tests.test_bundled_rules import RULES

MODELS = sorted(folder.name for folder in FOLDERS.iterdir() if folder.name != "gguf")
FILES = ("gguf/tiny-q8.gguf", "gguf/tiny-spm.gguf", "gguf/tiny-split-00001-of-00002.gguf")
MANIFESTS = (Launch("compose", manifest=COMPOSE, facts=A100_X4), Launch("pod", manifest=POD))


def loud(causes: tuple[Cause, ...]) -> list[str]:
    """What is told above a note."""
    return [f"{cause.severity}: {cause.rule}: {cause.title}" for cause in causes if cause.severity != "note"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of every healthy model."""
    place = tmp_path_factory.mktemp("models")
    for folder in FOLDERS.iterdir():
        shutil.copytree(folder, place / folder.name)
    return place


FOUND = [fault for fault in FAULTS if fault.rule]


@pytest.mark.parametrize("fault", FOUND, ids=lambda fault: fault.name)
def test_a_planted_fault_is_told_first(fault: Fault, tmp_path: Path) -> None:
    """The rule of the fault is the first diagnosis."""
    plant(fault, tmp_path)
    told = [cause.rule for cause in diagnosis_of(case_of_fault(fault, tmp_path)).diagnoses]
    assert told[:1] == [fault.rule], told


@pytest.mark.parametrize("model", [*MODELS, *FILES])
def test_a_healthy_model_is_told_healthy(model: str, world: Path) -> None:
    """No error, no warning, and nothing that could not be read."""
    case = case_of(world, model)
    assert not loud(diagnosis_of(case).diagnoses)
    assert not case.unchecked


@pytest.mark.parametrize("launch", [*LAUNCHES, *MANIFESTS], ids=lambda launch: launch.name)
def test_a_healthy_launch_is_told_healthy(launch: Launch, world: Path, tmp_path: Path) -> None:
    """No error, no warning of a command or manifest that is right."""
    files = []
    if launch.manifest:
        files = [f"{launch.name}.yaml"]
        (world / files[0]).write_text(launch.manifest, encoding="utf-8")
    case = case_of(world, command=launch.command, files=files, facts=launch.facts)
    assert not loud(diagnosis_of(case).diagnoses)


def test_there_are_enough_faults_of_every_kind() -> None:
    """More than a hundred, of different names, each with a rule that exists, from many rules."""
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) > 200
    assert len(FOUND) > 200
    assert {fault.rule for fault in FOUND} <= set(RULES.ids)
    assert len({fault.rule for fault in FOUND}) > 100


LOGS = {
    "a-shard-is-cut-off": "safetensors_rust.SafetensorError: Error while deserializing header: incomplete metadata, file not fully covered",
    "weights-are-an-lfs-pointer": "safetensors_rust.SafetensorError: Error while deserializing header: header too large",
    "tokenizer-of-a-larger-model": "IndexError: index out of range in self",
    "kv-heads-differ-from-the-weights": "RuntimeError: You set `ignore_mismatched_sizes` to `False`, thus raising an error. For details look at the above report!",
    "gguf-part-is-missing": "llama_model_load: error loading model: llama_model_loader: failed to load GGUF split from tiny-split-00002-of-00002.gguf",
    "config-is-cut-off": "OSError: It looks like the config file at 'config.json' is not a valid JSON file.",
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation with all rules."""
    return whole_installation(tmp_path_factory.mktemp("home"))


@pytest.mark.parametrize("name", list(LOGS))
def test_a_log_with_the_model_is_told_to_come_of_the_fault(name: str, home: Path, tmp_path: Path) -> None:
    """`diagnose LOG --model MODEL`: the fault stands first, and explains what the log says."""
    [fault] = [fault for fault in FAULTS if fault.name == name]
    place = tmp_path / "place"
    target = plant(fault, place)
    (place / "crash.log").write_text(LOGS[name] + "\n", encoding="utf-8")
    run = run_doctor(home, "diagnose", str(place / "crash.log"), "--model", str(target), "--format", "json")
    first = json.loads(run.stdout)["diagnoses"][0]
    assert (run.returncode, first["rule"]) == (1, fault.rule)
    assert any(piece["origin"].endswith("crash.log") for one in first["symptoms"] for piece in one["evidence"])
