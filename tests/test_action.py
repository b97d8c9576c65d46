"""The composite action and the pre-commit hook: their steps, run in a shell as they are written."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import ROOT

ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
FOLDERS = ROOT / "tests" / "models" / "folders"


@pytest.fixture
def runner(tmp_path: Path) -> Path:
    """A runner's folders, with llmdoctor where the first step would install it."""
    home = tmp_path / "temp" / "llmdoctor" / "bin"
    home.mkdir(parents=True)
    command = home / "llmdoctor"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m diagnose "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    (tmp_path / "work").mkdir()
    return tmp_path


def step(runner: Path, inputs: dict[str, str]) -> tuple[int, str, dict[str, str]]:
    """Run the step that checks: its exit code, what it printed, and its outputs."""
    (found,) = (item for item in ACTION["runs"]["steps"] if item.get("id") == "check")
    given = {name: str(item.get("default", "")) for name, item in ACTION["inputs"].items()} | inputs
    environ = {
        name: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda match: given[match[1]], value)
        for name, value in found["env"].items()
    }
    output = runner / "output"
    output.write_text("", encoding="utf-8")
    environ |= {"RUNNER_TEMP": str(runner / "temp"), "GITHUB_OUTPUT": str(output), "PYTHONPATH": str(ROOT)}
    environ |= {"GITHUB_STEP_SUMMARY": str(runner / "summary.md"), "HOME": str(runner), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", found["run"]],
        cwd=runner / "work",
        env=environ,
        capture_output=True,
        text=True,
        timeout=200,
    )
    told = dict(line.split("=", 1) for line in output.read_text(encoding="utf-8").splitlines())
    return done.returncode, done.stdout + done.stderr, told


def test_a_model_that_is_broken_fails_the_job(runner: Path) -> None:
    """With an annotation, a job summary, SARIF and the exit code among the outputs."""
    shutil.copytree(FOLDERS / "qwen2", runner / "work" / "my model")
    weights = runner / "work" / "my model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    code, text, outputs = step(runner, {"model": "my model", "sarif": "found.sarif"})

    assert code == 1
    assert "::error file=" in text
    assert outputs == {"exit-code": "1", "sarif": "found.sarif"}
    assert json.loads((runner / "work" / "found.sarif").read_text(encoding="utf-8"))["version"] == "2.1.0"
    assert "## llmdoctor" in (runner / "summary.md").read_text(encoding="utf-8")


def test_what_is_whole_passes(runner: Path) -> None:
    """A command is one text, as it stands in a workflow."""
    shutil.copytree(FOLDERS / "qwen2", runner / "work" / "qwen2")
    code, text, outputs = step(runner, {"command": "vllm serve ./qwen2 --max-model-len 1024"})

    assert (code, outputs) == (0, {"exit-code": "0"}), text


def test_inputs_never_become_a_part_of_the_script(runner: Path) -> None:
    """What a pull request can set is handed over as a value."""
    assert not any("${{" in item["run"] for item in ACTION["runs"]["steps"])
    code, _, _ = step(runner, {"paths": "$(touch gone)\n`touch gone`\n"})

    assert code == 2
    assert not (runner / "work" / "gone").exists()


def test_every_input_is_used() -> None:
    """None is described and then forgotten."""
    used = set(re.findall(r"inputs\.([\w-]+)", json.dumps(ACTION["runs"])))

    assert used == set(ACTION["inputs"])


def test_the_hook_judges_each_file_by_itself(tmp_path: Path) -> None:
    """pre-commit hands over file names behind the entry."""
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    (tmp_path / "a.json").write_text('{"name": "of something else"}', encoding="utf-8")
    (tmp_path / "b.yaml").write_text("some: thing\n", encoding="utf-8")
    words = [sys.executable, "-m", "diagnose", *hook["entry"].split()[1:], "a.json", "b.yaml"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=200)

    assert done.returncode == 0, done.stdout + done.stderr
