"""What lies around a training is told by the names of its files: nothing is unpickled, nothing is raised."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.model import Fact
from diagnose.sources.training import around


def told(known: dict[str, str], folder: Path, environ: dict[str, str] | None = None) -> dict[str, Any]:
    """The facts of a training with these settings, started in `folder`."""
    facts = {f"training.{name}": Fact(f"training.{name}", value, "x") for name, value in known.items()}
    readings = around.read(facts, {"HOME": str(folder)} | (environ or {}), str(folder))
    return {item.name: item.value for item in readings if isinstance(item, Fact)}


def checkpoint(folder: Path, step: int, *names: str, **files: Any) -> Path:
    """A checkpoint with empty files, and JSON files."""
    made = folder / f"checkpoint-{step}"
    made.mkdir(parents=True)
    for name in names:
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(b"")
    for name, value in files.items():
        (made / f"{name}.json").write_text(json.dumps(value))
    return made


PLAIN = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin")


def test_an_output_folder_tells_room_and_checkpoints(tmp_path: Path) -> None:
    """The highest number is the newest, whatever the order of the names."""
    for step in (90, 500, 1000):
        checkpoint(tmp_path / "out", step, *PLAIN)
    found = told({"output": "out"}, tmp_path)
    assert (found["saved.exists"], found["saved.checkpoints"], found["saved.newest_step"]) == (True, 3, 1000)
    assert found["saved.weights"] is False
    assert found["saved.free"] > 0


def test_an_output_folder_that_is_not_there_tells_the_room_above_it(tmp_path: Path) -> None:
    """It will be made; its disk is that of the nearest folder there is."""
    found = told({"output": "a/b/c"}, tmp_path)
    assert found["saved.exists"] is False
    assert found["saved.free"] > 0


def test_the_newest_checkpoint_is_resumed_from(tmp_path: Path) -> None:
    """Its steps, batch and highest logged rate are read from trainer_state.json."""
    state = {
        "global_step": 20,
        "max_steps": 40,
        "train_batch_size": 2,
        "log_history": [{"learning_rate": 1e-4}, {"learning_rate": 2e-4}, {"eval_loss": 1}],
    }
    checkpoint(tmp_path / "out", 10, *PLAIN)
    checkpoint(tmp_path / "out", 20, *PLAIN, trainer_state=state)
    found = told({"output": "out", "resume": "newest"}, tmp_path)
    assert found["resume.path"] == "out/checkpoint-20"
    assert (found["resume.step"], found["resume.max_steps"], found["resume.batch"], found["resume.learning_rate"]) == (
        20,
        40,
        2,
        2e-4,
    )
    assert (found["resume.kind"], found["resume.processes"], found["resume.optimizer"], found["resume.whole"]) == (
        "plain",
        1,
        True,
        True,
    )


@pytest.mark.parametrize(
    ("resume", "problem"),
    [("newest", "none-found"), ("out/checkpoint-5", "missing"), ("out/checkpoint-7", "no-weights")],
)
def test_a_checkpoint_that_cannot_be_resumed_from(tmp_path: Path, resume: str, problem: str) -> None:
    """No folder of that name, none at all, and one without weights."""
    if resume != "newest":
        checkpoint(tmp_path / "out", 7, "trainer_state.json")
    else:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "checkpoint-3").write_text("a file is no checkpoint")
    assert told({"output": "out", "resume": resume}, tmp_path)["resume.problem"] == problem


def test_an_adapter_tells_rank_and_modules(tmp_path: Path) -> None:
    """As its adapter_config.json has them; a rank of its own for some modules leaves the rank open."""
    config: dict[str, Any] = {"r": 16, "target_modules": ["v_proj", "q_proj"], "rank_pattern": {}}
    one = checkpoint(tmp_path, 1, "adapter_model.safetensors", "optimizer.pt", adapter_config=config)
    found = told({"resume": str(one)}, tmp_path)
    assert (found["resume.rank"], found["resume.targets"], found["resume.adapter"], found["resume.whole"]) == (
        16,
        "q_proj,v_proj",
        True,
        False,
    )
    two = checkpoint(tmp_path, 2, "adapter_model.safetensors", adapter_config=config | {"rank_pattern": {"v_proj": 8}})
    found = told({"resume": str(two)}, tmp_path)
    assert "resume.rank" not in found
    assert found["resume.optimizer"] is False


def test_adapters_in_folders_of_their_own_are_weights(tmp_path: Path) -> None:
    """Several adapters of one model are saved so."""
    made = checkpoint(tmp_path, 4, "default/adapter_model.safetensors", "other/adapter_model.bin", "optimizer.pt")
    assert told({"resume": str(made)}, tmp_path)["resume.problem"] == "none"


@pytest.mark.parametrize(
    "part", ["bf16_zero_pp_rank_{}_mp_rank_00_optim_states.pt", "zero_pp_rank_{}_mp_rank_00_optim_states.pt"]
)
def test_shards_of_zero_tell_how_many_processes_wrote_them(tmp_path: Path, part: str) -> None:
    """Each rank writes its part of the optimizer."""
    parts = [f"global_step10/{part.format(rank)}" for rank in range(4)]
    made = checkpoint(
        tmp_path,
        10,
        *parts,
        "global_step10/mp_rank_00_model_states.pt",
        "zero_to_fp32.py",
        "latest",
        "model.safetensors",
    )
    found = told({"resume": str(made)}, tmp_path)
    assert (found["resume.kind"], found["resume.processes"], found["resume.optimizer"], found["resume.problem"]) == (
        "deepspeed",
        4,
        True,
        "none",
    )


def test_shards_of_fsdp_are_weights(tmp_path: Path) -> None:
    """They lie in folders of their own; the random states tell the processes."""
    names = ("pytorch_model_fsdp_0/.metadata", "optimizer_0/.metadata", "rng_state_0.pth", "rng_state_1.pth")
    found = told({"resume": str(checkpoint(tmp_path, 3, *names))}, tmp_path)
    assert (found["resume.kind"], found["resume.processes"], found["resume.problem"]) == ("fsdp", 2, "none")


@given(
    st.one_of(
        st.none(),
        st.integers(),
        st.text(),
        st.recursive(
            st.integers() | st.text() | st.booleans(),
            lambda x: (
                st.lists(x)
                | st.dictionaries(st.sampled_from(["global_step", "log_history", "learning_rate", "max_steps"]), x)
            ),
        ),
    )
)
def test_any_state_is_borne(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    """Whatever trainer_state.json and adapter_config.json hold, nothing is raised."""
    made = checkpoint(
        tmp_path_factory.mktemp("x"), 1, "adapter_model.safetensors", trainer_state=value, adapter_config=value
    )
    assert told({"resume": str(made)}, made)["resume.problem"] == "none"


@pytest.mark.parametrize(
    ("environ", "answer"),
    [
        ({"WANDB_API_KEY": "0" * 40}, "variable"),
        ({"WANDB_MODE": "offline"}, "offline"),
        ({"WANDB_MODE": "disabled"}, "disabled"),
        ({"WANDB_DISABLED": "true"}, "disabled"),
        ({"WANDB_BASE_URL": "https://wandb.example.org:8443/x"}, "none"),
        ({}, "file"),
    ],
)
def test_a_login_at_weights_and_biases(tmp_path: Path, environ: dict[str, str], answer: str) -> None:
    """A variable, its mode, or a line for its host in ~/.netrc; no key is ever told."""
    (tmp_path / ".netrc").write_text("machine api.wandb.ai\n  login user\n  password 1234567890\n")
    found = told({"report_to": "tensorboard,wandb"}, tmp_path, environ)
    assert found == {"tracker.wandb_login": answer}


def test_no_tracker_asks_for_no_login(tmp_path: Path) -> None:
    """~/.netrc is not looked at unless wandb is to be reported to."""
    assert told({"report_to": "tensorboard"}, tmp_path) == {}
