"""Real launchers under `llmdoctor run`: torchrun with two ranks (gloo), of which one dies, raises or hangs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.run.conftest import command, facts_in, rules_in
from tests.support import ROOT

pytestmark = pytest.mark.real
PYTHON = os.environ.get("LLMDOCTOR_REAL_PYTHON", sys.executable)

TRAIN = """
import os, sys, time
import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import record

def never_comes_back():
    while True:
        time.sleep(0.1)

def train_step(x, step):
    dist.all_reduce(x)

@record
def main(how):
    dist.init_process_group("gloo")
    rank, x = dist.get_rank(), torch.ones(4)
    for step in range(60):
        if rank == 1 and step == 40:
            if how.isdigit():
                os.kill(os.getpid(), int(how))
            if how == "raise":
                raise ValueError("a batch without tokens")
            if how == "hang":
                never_comes_back()
            if how == "twice":
                dist.barrier()
        train_step(x, step)
        if rank == 0:
            print("step", step, flush=True)
        time.sleep(0.1)
    if how == "twice" and rank == 0:
        dist.all_reduce(torch.ones(1))
    dist.destroy_process_group()

main(sys.argv[1])
"""


def run(how: str, folder: Path, *options: str) -> subprocess.CompletedProcess[bytes]:
    """Two ranks under torchrun; rank 1 does something at step 40."""
    (folder / "train.py").write_text(TRAIN)
    words = (PYTHON, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "train.py", how)
    environ = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command(*words, options=("--report", "reports", *options)),
        cwd=folder,
        env=environ,
        capture_output=True,
        timeout=120,
    )


def test_a_healthy_run_is_silent(tmp_path: Path) -> None:
    """Two ranks are seen, nothing is said."""
    ran = run("well", tmp_path)

    assert ran.returncode == 0
    assert ran.stdout.count(b"step") == 60
    assert facts_in(tmp_path / "reports")["run.ranks"] == 2
    assert b"looking for the reason" not in ran.stderr


@pytest.mark.parametrize(
    ("number", "name", "rule"), [("9", "SIGKILL", "run-killed-by-somebody"), ("11", "SIGSEGV", "run-ended-by-signal")]
)
def test_the_rank_that_a_signal_ended_is_named(number: str, name: str, rule: str, tmp_path: Path) -> None:
    """With its signal, above the connections that the other one lost."""
    ran = run(number, tmp_path)
    told = facts_in(tmp_path / "reports")

    assert ran.returncode == 1
    assert (told["run.first_dead.rank"], told["run.first_dead.signal"]) == ("1", name)
    assert rules_in(tmp_path / "reports")[0] == rule


def test_the_rank_that_raised_is_named_under_its_exception(tmp_path: Path) -> None:
    """Its traceback is first, that it was rank 1 is told."""
    run("raise", tmp_path)
    told = facts_in(tmp_path / "reports")

    assert told["run.first_dead.rank"] == "1"
    assert rules_in(tmp_path / "reports")[0] == "uncaught-exception"


def test_the_rank_that_hangs_is_named(tmp_path: Path) -> None:
    """The other one waits for it in all_reduce."""
    ran = run("hang", tmp_path, "--hang", "15s", "--on-hang", "end", "--grace", "5s")
    told = facts_in(tmp_path / "reports")

    assert ran.returncode == 124
    assert told["run.hang.odd_ranks"] == "1"
    assert told["run.hang.odd_where"].startswith("never_comes_back (train.py:")
    assert told["run.hang.where"].startswith("all_reduce, called from train_step (train.py:")
    assert rules_in(tmp_path / "reports")[0] == "run-hang-of-one-rank"


def test_different_collectives_are_named(tmp_path: Path) -> None:
    """Rank 1 waits in a barrier that rank 0 never reaches."""
    run("twice", tmp_path, "--hang", "15s", "--on-hang", "end", "--grace", "5s")
    found = rules_in(tmp_path / "reports")

    assert found[0] in (
        "run-hang-in-different-collectives",
        "uncaught-exception",
        "gloo-connection-failed",
        "collective-mismatch",
    )
