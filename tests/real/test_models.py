"""The tiny folders of tests/models are real models: transformers loads them, builds their prompts and lets them answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.models.judging import case_of, diagnosis_of

pytestmark = pytest.mark.real

FOLDERS = Path(__file__).parent.parent / "models" / "folders"
TRIAL = Path(__file__).with_name("trial.py")
BASES = ("gpt2", "pickled-base")
ENGINES_ONLY = ("gptq", "gguf", "qwen2-lora")
"""Read by other libraries, or no model by itself."""


@pytest.fixture(scope="session")
def real_python() -> str:
    """The interpreter that has torch and transformers."""
    named = os.environ.get("LLMDOCTOR_REAL_PYTHON", sys.executable)
    found = subprocess.run([named, "-c", "import torch, transformers"], capture_output=True)
    if found.returncode:
        pytest.skip("no interpreter with torch and transformers: name one in LLMDOCTOR_REAL_PYTHON")
    return named


def tried(python: str, *requests: dict[str, Any]) -> list[dict[str, Any]]:
    """What became of loading models and asking them, in one process of the real interpreter."""
    run = subprocess.run([python, str(TRIAL)], input=json.dumps(requests), text=True, capture_output=True, timeout=600)
    assert not run.returncode, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_every_folder_loads_and_answers(real_python: str) -> None:
    """All of them but those for other engines: tokenizer, prompt, weights without a missing name, tokens."""
    names = sorted(folder.name for folder in FOLDERS.iterdir() if folder.name not in ENGINES_ONLY)
    if subprocess.run([real_python, "-c", "import compressed_tensors"], capture_output=True).returncode:
        names.remove("fp8")
    reports = tried(real_python, *({"model": str(FOLDERS / name), "chat": name not in BASES} for name in names))
    troubles = {name: report["problem"] or report["loading"] for name, report in zip(names, reports, strict=True)}
    assert not {name: trouble for name, trouble in troubles.items() if trouble}
    assert len(names) >= 12
    assert all(report["stage"] == "done" and report["answer"] for report in reports)


def test_the_adapter_changes_the_answer(real_python: str) -> None:
    """The adapter folder loads with peft onto its base."""
    [report] = tried(
        real_python, {"model": str(FOLDERS / "qwen2"), "adapter": str(FOLDERS / "qwen2-lora"), "chat": True}
    )
    assert not report["problem"]
    assert report["answer"]


def test_what_transformers_saves_anew_is_told_healthy(real_python: str, tmp_path: Path) -> None:
    """Model and tokenizer, loaded and saved by the installed release, give no error and no warning."""
    names = sorted(folder.name for folder in FOLDERS.iterdir() if folder.name not in (*ENGINES_ONLY, "fp8"))
    script = (
        "import sys\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "for name in sys.argv[3:]:\n"
        "    for kind in (AutoModelForCausalLM, AutoTokenizer):\n"
        "        kind.from_pretrained(f'{sys.argv[1]}/{name}').save_pretrained(f'{sys.argv[2]}/{name}')\n"
    )
    command = [real_python, "-c", script, str(FOLDERS), str(tmp_path), *names]
    run = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    assert not run.returncode, run.stderr
    for name in names:
        told = diagnosis_of(case_of(tmp_path, name)).diagnoses
        assert not [(name, cause.rule, cause.title) for cause in told if cause.severity != "note"]
