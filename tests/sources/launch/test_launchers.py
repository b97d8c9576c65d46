"""Launchers of training are read as they read their own options: processes, machines, meeting place, config files."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.model import Fact
from diagnose.sources.launch import around, launchers, shell
from tests.sources.launch.support import facts, unchecked


def told(command: str, folder: str = "/work", environ: Mapping[str, str] | None = None) -> dict[str, Fact]:
    words = shell.parse(command).commands[-1]
    return facts(around.command(words.words, dict(words.assigned), environ or {}, folder))


def values(found: Mapping[str, Fact], *names: str) -> list[object]:
    return [found[name].value if name in found else None for name in names]


@pytest.mark.parametrize(
    "command",
    [
        "torchrun --nproc_per_node=4 train.py --lr 1",
        "torchrun --nproc-per-node 4 train.py --lr 1",
        "python -m torch.distributed.run --nproc-per-node 4 train.py",
        "python3 -u -m torch.distributed.launch --nproc_per_node 4 train.py",
    ],
)
def test_torchrun_in_its_spellings(command: str) -> None:
    """Hyphens and underscores, with and without `=`, as a program and as a module."""
    found = told(command)
    assert values(found, "deploy.launcher", "deploy.processes", "deploy.script") == ["torchrun", 4, "train.py"]
    assert "deploy.processes_default" not in found


def test_torchrun_starts_one_process_unless_told(tmp_path: Path) -> None:
    """The default is one, and that it is the default is told; `gpu` counts by itself."""
    assert values(told("torchrun train.py"), "deploy.processes", "deploy.processes_default") == [1, True]
    assert values(told("torchrun --nproc-per-node gpu train.py"), "deploy.processes", "deploy.processes_by") == [
        None,
        "gpu",
    ]


def test_where_machines_meet() -> None:
    """A place is named, or there is none."""
    assert values(told("torchrun --nnodes 2 train.py"), "deploy.nodes", "deploy.rendezvous") == [2, "none"]
    assert told("torchrun --nnodes=1:4 --rdzv-endpoint=a:29400 train.py")["deploy.master_port"].value == 29400
    assert told("torchrun --nnodes 2 --master_addr a --master_port 1234 train.py")["deploy.rendezvous"].value == "a"
    assert "deploy.rendezvous" not in told("torchrun --standalone --nproc-per-node 2 train.py")


def test_torchrun_takes_the_rest_from_variables() -> None:
    """Where PET_ variables are set, nothing is taken for its default."""
    found = told("PET_MASTER_ADDR=a torchrun --nnodes 2 train.py")
    assert values(found, "deploy.nodes", "deploy.rendezvous", "deploy.processes") == [2, None, None]


def test_a_script_of_ones_own_leaves_the_launchers_options() -> None:
    """The program, its flags and variables are told; what the script takes is not."""
    found = told("CUDA_VISIBLE_DEVICES=0,1 torchrun --nproc-per-node 4 train.py --lr 1")
    assert values(found, "launch.program", "launch.env.CUDA_VISIBLE_DEVICES") == ["torchrun", "0,1"]
    flags = [
        str(fact.value) for name, fact in found.items() if name.startswith("launch.given.") and name.endswith(".flag")
    ]
    assert flags == ["--nproc-per-node"]


@pytest.mark.parametrize(
    ("command", "unknown", "nearest"),
    [
        ("torchrun --nproc-per-nodes 4 train.py", "--nproc-per-nodes", "--nproc-per-node"),
        (
            "accelerate launch --num_processes 4 --mixed_presicion bf16 train.py",
            "--mixed_presicion",
            "--mixed-precision",
        ),
        ("accelerate launch --num_process 4 train.py", "--num_process", "--num-processes"),
        ("deepspeed --num_gpu 4 --hostfiles x train.py", "--hostfiles", "--hostfile"),
        ("torchrun --nproc_per_node 4 --max-restarts=3 --tee 3 train.py --nproc-per-nodes 1", None, None),
    ],
)
def test_options_that_no_release_has(command: str, unknown: str | None, nearest: str | None) -> None:
    """With the one that was meant; the beginning of an option and the script's own options are none of them."""
    assert values(told(command), "deploy.unknown_option", "deploy.nearest_option") == [unknown, nearest]


def test_accelerates_config_and_options(tmp_path: Path) -> None:
    """The command's options go before those of the file; processes are shared out to machines."""
    (tmp_path / "c.yaml").write_text(
        textwrap.dedent(
            """
            compute_environment: LOCAL_MACHINE
            distributed_type: FSDP
            mixed_precision: bf16
            num_machines: 2
            num_processes: 16
            gpu_ids: 0,1
            main_process_port: 29501
            """
        )
    )
    found = told("accelerate launch --config_file c.yaml train.py", str(tmp_path))
    names = (
        "deploy.distributed",
        "deploy.mixed_precision",
        "deploy.processes_all",
        "deploy.processes",
        "deploy.nodes",
        "deploy.gpus",
        "deploy.master_port",
    )
    assert values(found, *names) == ["FSDP", "bf16", 16, 8, 2, 2, 29501]
    assert found["deploy.processes_all"].origin == "c.yaml"
    over = told(
        "accelerate launch --config_file c.yaml --num_processes=4 --num_machines 1 --mixed_precision no train.py",
        str(tmp_path),
    )
    assert values(over, "deploy.processes_all", "deploy.processes", "deploy.mixed_precision") == [4, 4, "no"]


def test_accelerates_config_that_is_not_there(tmp_path: Path) -> None:
    """A named file has to be there; the default one need not."""
    named = told("accelerate launch --config_file no.yaml train.py", str(tmp_path))
    assert named["deploy.config_missing"].value == "no.yaml"
    plain = told("accelerate launch train.py", str(tmp_path), {"HF_HOME": str(tmp_path)})
    assert values(plain, "deploy.config_missing", "deploy.config_there") == [None, False]


def test_accelerates_default_config_is_read(tmp_path: Path) -> None:
    """It lies in the Hub client's folder."""
    (tmp_path / "accelerate").mkdir()
    (tmp_path / "accelerate" / "default_config.yaml").write_text("num_processes: 2\ndistributed_type: MULTI_GPU\n")
    found = told("accelerate launch train.py", "/work", {"HF_HOME": str(tmp_path)})
    assert values(found, "deploy.processes", "deploy.distributed", "deploy.config_there") == [2, "MULTI_GPU", True]


def test_fields_beside_a_deepspeed_file(tmp_path: Path) -> None:
    """What only the DeepSpeed file may tell is named; fields that go beside it are not."""
    (tmp_path / "c.yaml").write_text(
        "distributed_type: DEEPSPEED\nmixed_precision: bf16\ndeepspeed_config: {deepspeed_config_file: ds.json, zero_stage: 3, zero3_init_flag: true}\n"
    )
    found = told("accelerate launch --config_file c.yaml train.py", str(tmp_path))
    assert found["deploy.config_fields_twice"].value == "zero_stage, mixed_precision"
    (tmp_path / "c.yaml").write_text(
        "distributed_type: DEEPSPEED\ndeepspeed_config: {deepspeed_config_file: ds.json, zero3_init_flag: true}\n"
    )
    assert "deploy.config_fields_twice" not in told("accelerate launch --config_file c.yaml train.py", str(tmp_path))


def test_deepspeeds_choice_of_gpus() -> None:
    """--include counts and names; with a count beside it both are told."""
    found = told("deepspeed --include localhost:0,3 train.py --deepspeed ds.json")
    assert values(found, "deploy.processes", "deploy.gpu_highest", "deploy.include_and_count") == [2, 3, None]
    both = told("deepspeed --include localhost:0 --num_gpus 2 train.py")
    assert both["deploy.include_and_count"].value is True
    assert told("deepspeed --num_gpus=8 train.py")["deploy.processes"].value == 8


def test_hostfiles(tmp_path: Path) -> None:
    """Machines are counted, a line of another form is told, and so is a file that is not there."""
    (tmp_path / "good").write_text("# machines\na slots=8\nb slots=8\n\n")
    (tmp_path / "bad").write_text("a slots=8\nb\n")
    assert told("deepspeed --hostfile good train.py", str(tmp_path))["deploy.nodes"].value == 2
    assert told("deepspeed --hostfile bad train.py", str(tmp_path))["deploy.hostfile_line"].value == "b"
    assert told("deepspeed --hostfile no train.py", str(tmp_path))["deploy.hostfile_missing"].value == "no"


def test_the_engine_behind_a_launcher_is_read() -> None:
    """A launcher inside a container, and an engine behind a launcher."""
    found = told("docker run --gpus all pytorch/pytorch torchrun --nproc-per-node 2 train.py")
    assert values(found, "deploy.kind", "deploy.launcher", "deploy.processes") == ["docker", "torchrun", 2]
    behind = told("mpirun -np 2 --mca btl tcp vllm serve a/b")
    assert values(behind, "deploy.processes_all", "engine.name", "launch.model") == [2, "vllm", "a/b"]


def test_a_launcher_without_a_script_is_said_to_be() -> None:
    """Nothing is made up."""
    words = shell.words_of(["torchrun", "--nproc-per-node", "2"])
    assert any("no script" in item.why for item in unchecked(around.command(words, {}, {}, "/")))


@given(
    st.sampled_from(["torchrun", "accelerate launch", "deepspeed", "mpirun"]),
    st.lists(st.text(max_size=10), max_size=10),
)
def test_no_words_break_the_reader(name: str, words: list[str]) -> None:
    """Whatever follows the launcher's name."""
    list(around.command(shell.words_of([*name.split(), *words]), {}, {}, "/nowhere"))


@given(st.lists(st.text(max_size=6), max_size=4))
def test_only_known_launchers_are_taken_for_one(words: list[str]) -> None:
    """An unknown program is none."""
    assert not launchers.is_launcher(shell.words_of(["python", "train.py", *words]))


def test_the_slots_of_a_hostfile_are_the_processes(tmp_path: Path) -> None:
    """All of them, unless another option leaves some out or a line is not understood."""
    (tmp_path / "hosts").write_text("a slots=4\nb slots=8  # the larger one\n")
    found = told("deepspeed --hostfile hosts train.py", str(tmp_path))
    assert values(found, "deploy.nodes", "deploy.processes_all") == [2, 12]
    for option in ("--num_gpus 2", "--include a:0", "--exclude b"):
        assert "deploy.processes_all" not in told(f"deepspeed --hostfile hosts {option} train.py", str(tmp_path))
    (tmp_path / "hosts").write_text("a slots=4\nb\n")
    assert "deploy.processes_all" not in told("deepspeed --hostfile hosts train.py", str(tmp_path))
