"""Rules on Axolotl and LLaMA-Factory beside the validators of the real packages."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.sources.training.refused import Pair, pairs

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
STAGE = '{"zero_optimization": {"stage": %d}, "train_micro_batch_size_per_gpu": "auto"}'


def said(framework: str, configs: list[dict[str, object]], folder: Path) -> list[str]:
    """What the package says of each configuration: the exception, or nothing."""
    python = os.environ.get(f"LLMDOCTOR_{framework.upper()}_PYTHON", "")
    if not python:
        pytest.skip(f"name an interpreter with {framework} in LLMDOCTOR_{framework.upper()}_PYTHON")
    for name, stage in (("ds.json", 2), ("ds2.json", 2), ("ds3.json", 3)):
        (folder / name).write_text(STAGE % stage)
    run = subprocess.run(
        [python, "-m", "tests.real.frameworks", framework],
        input=json.dumps(configs),
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=1200,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return [json.loads(line) for line in run.stdout.splitlines()]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("framework", ["axolotl", "llamafactory"])
def test_the_package_says_what_the_rules_say(framework: str, tmp_path: Path) -> None:
    """It refuses each faulty configuration in the words that we foretell, and takes every fine one."""
    every: list[Pair] = [pair for pair in pairs(framework) if pair.release in ("", "0.19.0")]
    refused = said(framework, [pair.refused for pair in every], tmp_path)
    fine = said(framework, [pair.fine for pair in every], tmp_path)
    wrong = []
    for pair, bad, good in zip(every, refused, fine, strict=True):
        if (pair.says not in bad) if pair.says else bad:
            wrong.append((pair.rule, "refused", bad[:300]))
        if good and not (pair.needs and pair.needs.replace("_", "-") in good.replace("_", "-")):
            wrong.append((pair.rule, "fine", good[:300]))
    assert not wrong
