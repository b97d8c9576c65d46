"""Runs `llmdoctor run` in a process of its own, as a user would."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support import ROOT

Ran = subprocess.CompletedProcess[bytes]


@pytest.fixture(scope="session")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of the runs: a cache that they share, so that rules are compiled once."""
    aside = ("NO_COLOR", "FORCE_COLOR", "RANK", "LOCAL_RANK", "WORLD_SIZE", "SLURM_JOB_ID", "SLURM_PROCID")
    kept = {name: value for name, value in os.environ.items() if name not in aside}
    cache = tmp_path_factory.getbasetemp() / "run-cache"
    return kept | {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT), "TERM": "xterm", "PYTHONWARNINGS": "error"}


def command(*words: str, options: tuple[str, ...] = ()) -> list[str]:
    """The words of a run."""
    return [sys.executable, "-m", "diagnose", "run", *options, "--", *words]


@pytest.fixture
def doctor(environ: dict[str, str], tmp_path: Path) -> Callable[..., Ran]:
    """Runs a command to its end; `options` are those of `llmdoctor run`."""

    def run(*words: str, options: tuple[str, ...] = (), text: bytes = b"", **changes: Any) -> Ran:
        more = {"cwd": tmp_path, "env": environ, "input": text, "capture_output": True, "timeout": 300} | changes
        return subprocess.run(command(*words, options=options), **more)

    return run


@pytest.fixture
def start(environ: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a command whose output is read line by line; what still runs in the end is killed."""
    running: list[subprocess.Popen[bytes]] = []

    def begin(*words: str, options: tuple[str, ...] = (), **changes: Any) -> subprocess.Popen[bytes]:
        more = {"cwd": tmp_path, "env": environ, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | changes
        process = subprocess.Popen(command(*words, options=options), **more)
        running.append(process)
        return process

    yield begin
    for process in running:
        with process:
            if process.poll() is None:
                with contextlib.suppress(psutil.NoSuchProcess):
                    _kill(psutil.Process(process.pid))
                process.wait()


def _kill(whole: psutil.Process) -> None:
    """A process with all below it; those that have gone meanwhile are no matter."""
    for one in (*whole.children(recursive=True), whole):
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()


def line_of(process: subprocess.Popen[bytes]) -> str:
    """The next line of its output."""
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], tuple[str, str]]:
    """Writes a Python script, and gives the words that run it."""

    def write(text: str, name: str = "train.py") -> tuple[str, str]:
        path = tmp_path / name
        path.write_text(text)
        return sys.executable, str(path)

    return write


def facts_in(folder: Path) -> dict[str, Any]:
    """The facts of the run in the one report of a folder."""
    (path,) = folder.glob("*.case.json")
    case = json.loads(path.read_text())
    return {fact["name"]: fact["value"] for fact in case["facts"] if fact["name"].startswith("run.")}


def rules_in(folder: Path) -> list[str]:
    """What the one report of a folder found, in order."""
    (path,) = folder.glob("*.report.json")
    return [cause["rule"] for cause in json.loads(path.read_text())["diagnoses"]]
