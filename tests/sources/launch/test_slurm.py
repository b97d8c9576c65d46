"""srun, sbatch and #SBATCH lines are read as Slurm reads them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.model import Fact
from diagnose.sources import launch
from diagnose.sources.launch import slurm
from diagnose.sources.launch.shell import Word


def told(command: str, folder: str = "/nowhere") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for reading in launch.read(shlex.split(command), [], {}, folder):
        if isinstance(reading, Fact):
            found.setdefault(reading.name, reading.value)
    return found


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("-N 2 -n 16", (2, 16, 8)),
        ("-N2 -n16", (2, 16, 8)),
        ("--nodes=2 --ntasks-per-node=8", (2, 16, 8)),
        ("--nodes 2-4 --ntasks-per-node 1", (4, 4, 1)),
        ("--nodes=2", (2, 2, 1)),
        ("--ntasks=4 --cpu-bind=none -l", (None, 4, None)),
        ("--exclusive --label", (None, None, None)),
        ("--nodes=$N", (None, None, None)),
    ],
)
def test_machines_and_tasks(options: str, expected: tuple[int | None, ...]) -> None:
    """Short and long, with and without `=`; what is not told follows where it must."""
    given_, _ = slurm.options([Word(word, 1) for word in options.split()])
    assert slurm.shape(given_) == expected


def test_a_launcher_behind_srun_is_the_launcher() -> None:
    """srun carries it to the machines; its own counts stand beside those of the launcher."""
    found = told("srun --nodes=2 --gpus-per-node a100:8 torchrun --nnodes 2 --nproc-per-node 8 train.py")
    assert (found["deploy.launcher"], found["deploy.processes"], found["deploy.slurm_nodes"]) == ("torchrun", 8, 2)
    assert (found["deploy.slurm_gpus"], found["deploy.slurm_srun"]) == (8, True)


def test_srun_alone_is_the_launcher_of_a_training() -> None:
    """Every task is a process; an engine behind it is no training."""
    found = told("srun -N2 --ntasks-per-node 4 python train.py --learning_rate 1")
    assert (found["deploy.launcher"], found["deploy.processes_all"], found["deploy.nodes"]) == ("srun", 8, 2)
    assert "deploy.launcher" not in told("srun -n 1 vllm serve a/b")


def test_a_job_is_read_with_its_directives(tmp_path: Path) -> None:
    """Lines above the first command count; sbatch's own options go before them, srun's before both."""
    (tmp_path / "job.sh").write_text(
        "#!/bin/bash\n#SBATCH --nodes=4 --ntasks-per-node=1  # all\n#SBATCH --gres=gpu:8\n\n"
        "srun torchrun --nnodes 4 --nproc-per-node 8 train.py\n#SBATCH --nodes=9\n"
    )
    found = told("sbatch job.sh", str(tmp_path))
    assert (found["deploy.slurm_nodes"], found["deploy.slurm_gpus"], found["deploy.launcher"]) == (4, 8, "torchrun")
    assert told("sbatch -N 2 job.sh", str(tmp_path))["deploy.slurm_nodes"] == 2


def test_a_job_that_is_not_there_is_said() -> None:
    """No traceback for a missing script, and none for a missing word."""
    for command in (["sbatch", "gone.sh"], ["sbatch"]):
        readings = list(launch.read(command, [], {}, "/nowhere"))
        assert readings
        assert not any(isinstance(reading, Fact) for reading in readings)


@given(st.lists(st.text("-=Nn12 abN:", max_size=6), max_size=6))
def test_nothing_is_raised_whatever_the_words(words: list[str]) -> None:
    """Options end somewhere, and counts are whole and bounded."""
    given_, at = slurm.options([Word(word, 1) for word in words])
    assert 0 <= at <= len(words)
    assert all(value is None or 0 < value for value in slurm.shape(given_)[:1])
    slurm.directives("#SBATCH " + " ".join(words))
