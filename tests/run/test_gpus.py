"""The witness for GPUs tells what is in use, and one that hangs or dies takes nothing with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.stubs.nvml import stub_environment
from tests.support import ROOT

PROGRAM = """
import json, sys, time
from diagnose.run import gpus
from diagnose.run.messages import Gpus
from diagnose.run.witness import Witness
witness = Witness(gpus.look(time.monotonic()))
time.sleep(float(sys.argv[1]))
found = [one for one in witness.finish(3.0) if isinstance(one, Gpus)]
print(json.dumps([[one.used, one.total] for one in found]))
"""


def seen(scenario: dict[str, object], folder: Path, seconds: float = 1.5) -> list[Any]:
    """What the witness tells of a driver that answers like this."""
    environ = {**os.environ, **stub_environment(scenario, folder / "stub"), "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(seconds)], env=environ, capture_output=True, check=True, timeout=60
    )
    told: list[Any] = json.loads(ran.stdout)
    return told


def test_memory_in_use_is_told_for_each_gpu(tmp_path: Path) -> None:
    """Once at least: when it is asked to end it looks a last time."""
    told = seen({"devices": 2, "*.memory": 85899345920, "0.used": 1073741824, "1.used": 2147483648}, tmp_path)

    assert told[-1][0] == {"0": 1073741824, "1": 2147483648}
    assert told[-1][1] == {"0": 85899345920, "1": 85899345920}


def test_without_a_driver_nothing_is_told(tmp_path: Path) -> None:
    """A library that does not start."""
    assert seen({"error nvmlInitWithFlags": 9}, tmp_path) == []


def test_a_driver_that_never_answers_is_given_up(tmp_path: Path) -> None:
    """The last look ends when its time is over, whatever the driver does."""
    assert seen({"hang nvmlDeviceGetMemoryInfo": ""}, tmp_path, 0.1) == []
