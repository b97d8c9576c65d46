"""`llmdoctor check` with a model, a launch command or a manifest, as a user runs it; the models are tiny real ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT, run_doctor, whole_installation

FOLDERS = ROOT / "tests" / "models" / "folders"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation with all bundled rules."""
    return whole_installation(tmp_path_factory.mktemp("check-model") / "home")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of a tiny Qwen model that loads."""
    return Path(shutil.copytree(FOLDERS / "qwen2", tmp_path / "qwen2"))


def told(home: Path, *words: str, code: int = 0) -> dict[str, Any]:
    """What a check without the machine says as JSON."""
    cut = words.index("--") if "--" in words else len(words)
    done = run_doctor(home, "check", *words[:cut], "--no-machine", "--format", "json", *words[cut:])
    assert done.returncode == code, done.stderr.decode()
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def rules(report: dict[str, Any], severity: str = "error") -> list[str]:
    return [cause["rule"] for cause in report["diagnoses"] if cause["severity"] == severity]


def test_a_whole_model_is_quiet(home: Path, model: Path) -> None:
    """Nothing above a note is said of it, and the checklist tells what it is."""
    report = told(home, str(model))

    assert ([], []) == (rules(report), rules(report, "warning"))
    lines = {area["name"]: area for area in report["areas"]}
    assert {"model", "weights", "tokenizer", "chat template"} == set(lines)
    assert "qwen2" in lines["model"]["summary"]


def test_a_fault_of_the_model_is_told_and_counts(home: Path, model: Path) -> None:
    """A weights file that was cut short is the first diagnosis, and the exit code is 1."""
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])

    assert rules(told(home, str(model), code=1))[:1] == ["weights-file-cut-short"]


def test_a_command_is_judged_with_the_model_that_it_names(home: Path, model: Path) -> None:
    """What stands after -- is no option of ours: a flag that no release has, and heads that cannot be shared."""
    command = ["vllm", "serve", str(model), "--tensor-paralel-size", "2", "--format", "x", "-tp", "3"]
    report = told(home, "--", *command, code=1)

    assert {"flag-unknown-to-engine", "heads-do-not-divide"} <= set(rules(report))
    assert {"model.type", "launch.program", "fit.tensor_parallel_fault"} <= {fact["name"] for fact in report["facts"]}


def test_a_command_can_be_one_text(home: Path, model: Path) -> None:
    """Quoted as a whole, with assignments, it is read as a shell reads it."""
    report = told(home, "--", f"VLLM_USE_V1=1 vllm serve '{model}' --max-model-len 1k")

    values = {fact["name"]: fact["value"] for fact in report["facts"]}
    assert (str(model), 1000) == (values["launch.model"], values["launch.context"])


def test_a_manifest_leads_to_the_model(home: Path, model: Path, tmp_path: Path) -> None:
    """Of a Compose file the service with the engine is judged, and its mounted model on this machine."""
    manifest = tmp_path / "compose.yaml"
    manifest.write_text(
        "services:\n  llm:\n    image: vllm/vllm-openai:v0.12.0\n    gpus: all\n    ipc: host\n"
        "    command: ['/models/qwen2', '--tensor-parallel-size', '3']\n    volumes: ['./:/models']\n"
        "    ports: ['8000:8000']\n"
    )
    report = told(home, "-f", str(manifest), code=1)

    assert rules(report) == ["heads-do-not-divide"]


def test_what_is_no_command_is_bad_input(home: Path) -> None:
    """The rest was checked, the sentence says what is wrong, and the exit code is 2."""
    done = run_doctor(home, "check", "--no-machine", "--", "cat", "file")

    assert done.returncode == 2
    assert b"launch command:" in done.stderr
    assert b"Traceback" not in done.stderr


def test_nothing_to_look_at_is_bad_input(home: Path) -> None:
    """Without the machine and without a model or command there is nothing to be judged fine."""
    done = run_doctor(home, "check", "--no-machine")

    assert (2, b"") == (done.returncode, done.stdout)
    assert b"nothing to look at" in done.stderr


def test_a_model_that_is_not_there_is_told(home: Path, model: Path) -> None:
    """With the name that was probably meant."""
    report = told(home, str(model)[:-1] + "3", code=1)

    assert rules(report) == ["model-path-not-there"]
    assert "qwen2" in json.dumps(report["diagnoses"])


def test_a_case_file_holds_model_and_command(home: Path, model: Path, tmp_path: Path) -> None:
    """What `collect` writes is judged elsewhere as it would have been here."""
    words = [str(model), "--no-machine"]
    command = ["--", "vllm", "serve", str(model), "--tensor-parallel-size", "3"]
    here = told(home, str(model), *command, code=1)
    done = run_doctor(home, "collect", *words, "-o", str(tmp_path / "case.json"), *command)
    there = run_doctor(home, "check", "--case", str(tmp_path / "case.json"), "--format", "json")

    assert (0, 1) == (done.returncode, there.returncode)
    assert [cause["rule"] for cause in json.loads(there.stdout)["diagnoses"]] == [
        cause["rule"] for cause in here["diagnoses"]
    ]


def test_a_log_is_joined_with_its_model(home: Path, model: Path, tmp_path: Path) -> None:
    """The fault of the file is the root cause, and what the log says is its symptom."""
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    log = tmp_path / "crash.log"
    log.write_text(
        "Traceback (most recent call last):\n"
        '  File "serve.py", line 3, in <module>\n    load()\n'
        "safetensors_rust.SafetensorError: Error while deserializing header: incomplete metadata, file not fully covered\n"
    )
    done = run_doctor(home, "diagnose", str(log), "--model", str(model), "--format", "json")
    report = json.loads(done.stdout)

    first = report["diagnoses"][0]
    assert (first["rule"], [symptom["rule"] for symptom in first["symptoms"]]) == (
        "weights-file-cut-short",
        ["safetensors-file-broken"],
    )
