"""How many processes a training has: one answer, for all that is reckoned with it."""

from __future__ import annotations

from typing import Any

import pytest

from diagnose.derive import processes, sharding, tuning
from diagnose.derive.known import Known, by_name
from tests.support import facts_of


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"deploy.processes_all": 16, "training.processes": 2}, 16),
        ({"deploy.processes": 8, "deploy.nodes": 2}, 16),
        ({"deploy.processes": 8}, 8),
        ({"deploy.processes": 8, "training.processes": 2}, 8),
        ({"deploy.processes_by": "gpu", "training.processes": 2}, None),
        ({"deploy.launcher": "accelerate", "accelerate.distributed": "NO", "deploy.processes_all": 4}, 1),
        ({"deploy.launcher": "accelerate", "accelerate.distributed": "NO", "deploy.distributed": "MULTI_GPU", "deploy.processes_all": 4}, 4),
        ({"deploy.launcher": "torchrun", "accelerate.distributed": "NO", "deploy.processes": 4}, 4),
        ({"training.processes": 4}, 4),
        ({"training.processes": 0}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_the_command_tells_of_processes_before_the_settings(facts: dict[str, Any], expected: int | None) -> None:
    """All of them, or those of a machine times the machines; accelerate starts one where its kind is NO, whatever the number."""
    assert processes.world(Known(by_name(facts_of(facts)))) == expected


def test_batches_are_summed_over_the_processes_of_the_command() -> None:
    """`accelerate launch --num_processes 8` with a file that says 2: the settings and DeepSpeed's sum see eight."""
    told = {"deploy.launcher": "accelerate", "deploy.processes_all": 8, "training.processes": 2}
    batch = {"training.framework": "trainer", "training.batch": 4, "training.accumulation": 2}
    found = {fact.name: fact.value for fact in tuning.complete(facts_of(told | batch))}
    assert (found["tuning.world"], found["tuning.global_batch"]) == (8, 64)
    zero = {"zero.file": "ds.json", "zero.train_batch": "16", "zero.batch": "4", "zero.accumulation": "2"}
    assert "8 processes is 64" in str({fact.name: fact.value for fact in sharding.complete(facts_of(told | zero))})
