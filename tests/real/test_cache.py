"""Cache bytes and parameter counts beside those of real models: tiny random ones of transformers, after a forward pass."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from diagnose.memory.parameters import parameters
from tests.test_memory import differences

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def measured() -> dict[str, list[dict[str, Any]]]:
    """What the library in LLMDOCTOR_REAL_PYTHON (else this interpreter) makes of the tiny models."""
    python = os.environ.get("LLMDOCTOR_REAL_PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import torch, transformers"], capture_output=True).returncode:
        pytest.skip("no interpreter with torch and transformers: name one in LLMDOCTOR_REAL_PYTHON")
    run = subprocess.run(
        [python, "-m", "tests.real.measure", "-"], capture_output=True, text=True, cwd=ROOT, timeout=1800
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert not run.stderr.strip(), run.stderr[-2000:]
    found: dict[str, list[dict[str, Any]]] = json.loads(run.stdout)
    return found


@pytest.mark.timeout(1800)
def test_cache_and_parameters_equal_the_real_ones(measured: dict[str, list[dict[str, Any]]]) -> None:
    """For every type measured: bytes of the dynamic and the static cache, and where we count them the parameters."""
    assert len(measured["rows"]) >= 120
    assert [item for row in measured["rows"] for item in differences(row)] == []
    assert len(measured["full"]) >= 60
    assert [row["given"] for row in measured["full"] if parameters(row["given"]) != row["parameters"]] == []
