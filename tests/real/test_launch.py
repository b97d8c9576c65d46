"""Planted faults launched for real: the failure that was foretold follows, and its log is told to come of the same cause."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.models.faults import FAULTS, Fault
from tests.real.launches import SERVED, Outcome, faults_tried_with, llama_server, loaded, served

pytestmark = pytest.mark.real

ALSO_SERVED = [fault for fault in FAULTS if fault.name in SERVED]


@pytest.fixture(scope="session")
def real_python() -> str:
    """The interpreter that has torch, transformers and peft."""
    named = os.environ.get("LLMDOCTOR_REAL_PYTHON", "")
    if not named:
        pytest.skip("LLMDOCTOR_REAL_PYTHON does not name an interpreter with torch, transformers and peft")
    if subprocess.run([named, "-c", "import torch, transformers, peft"], capture_output=True).returncode:
        pytest.skip(f"{named} lacks torch, transformers or peft")
    return named


@pytest.fixture(scope="session")
def real_server() -> str:
    """llama.cpp's server."""
    named = os.environ.get("LLMDOCTOR_LLAMA_SERVER", "")
    if not os.access(named, os.X_OK):
        pytest.skip("LLMDOCTOR_LLAMA_SERVER does not name llama.cpp's llama-server")
    return named


def came_as_foretold(outcome: Outcome) -> None:
    """What a launch has to show."""
    assert outcome.followed, outcome.log[-3000:]
    assert outcome.explained == outcome.foretold, outcome.log[-3000:]


@pytest.mark.parametrize("fault", faults_tried_with("llama-server"), ids=lambda fault: fault.name)
def test_llama_server_fails_as_foretold(fault: Fault, real_server: str, tmp_path: Path) -> None:
    """The server ends with the expected words; joined with the model's facts its log has the fault as the cause."""
    came_as_foretold(llama_server(real_server, fault, tmp_path))


@pytest.mark.parametrize(
    "fault", [*faults_tried_with("transformers serve"), *ALSO_SERVED], ids=lambda fault: fault.name
)
def test_transformers_serve_fails_as_foretold(fault: Fault, real_python: str, tmp_path: Path) -> None:
    """One conversation asked of the server fails with the expected words, and its log has the fault as the cause."""
    came_as_foretold(served(real_python, fault, tmp_path))


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("real", ["transformers", "peft"])
def test_loading_fails_as_foretold(real: str, real_python: str, tmp_path: Path) -> None:
    """transformers and peft fail, or complain, with the expected words; the log has the fault as the cause."""
    troubles = {}
    for outcome in loaded(real_python, faults_tried_with(real), tmp_path):
        if not outcome.followed or outcome.explained != outcome.foretold:
            troubles[outcome.fault] = (outcome.foretold, outcome.explained, outcome.line)
    assert not troubles
