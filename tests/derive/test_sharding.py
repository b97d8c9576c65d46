"""What DeepSpeed, FSDP, accelerate and the trainer say of the same thing, taken together."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.collect import completed
from diagnose.derive import fit, sharding
from diagnose.facts import describe
from diagnose.model import Case
from tests.support import CORPUS, facts_of, facts_of_files

ZERO = {"zero.file": "ds.json", "zero.block": True, "zero.stage": 2, "zero.batch": "auto", "zero.clipping": "auto"}
TRAINER = {"training.framework": "trainer"}
TRL = {"training.framework": "trl"}
FSDP = {"accelerate.distributed": "FSDP", "fsdp.by": "accelerate", "fsdp.wrap_policy": "TRANSFORMER_BASED_WRAP"}


def told(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What follows of facts (`zero__stage` stands for `zero.stage`)."""
    known: dict[str, Any] = {}
    for part in parts:
        known |= part
    known |= {name.replace("__", "."): value for name, value in more.items()}
    return {fact.name: fact.value for fact in sharding.complete(facts_of(known))}


def fit_of(facts: dict[str, Any]) -> dict[str, Any]:
    return {fact.name: fact.value for fact in fit.complete(facts_of(facts))}


# --- batch sizes


@pytest.mark.parametrize(
    ("train", "batch", "steps", "world", "fits"),
    [
        (32, 4, 2, 4, True),
        (32, 4, 2, 8, False),
        (30, 4, 2, None, False),
        (32, 4, 2, None, True),
        (7, None, None, 2, False),
        (8, None, None, 2, True),
        (8, None, 2, 4, True),
        (2, 4, None, 1, False),
    ],
)
def test_deepspeeds_own_sum(train: int, batch: int | None, steps: int | None, world: int | None, fits: bool) -> None:
    """train = micro × accumulation × processes; what is left out is worked out, and must come out even."""
    facts: dict[str, Any] = {"zero.file": "ds.json", "zero.train_batch": str(train)}
    facts |= {"zero.batch": str(batch)} if batch else {}
    facts |= {"zero.accumulation": str(steps)} if steps else {}
    facts |= {"training.processes": world} if world else {}
    assert ("zero.batch_sum" in told(facts)) is not fits


@given(st.integers(1, 64), st.none() | st.integers(1, 9), st.none() | st.integers(1, 9), st.none() | st.integers(1, 9))
def test_the_sum_is_deepspeeds(train: int, batch: int | None, steps: int | None, size: int | None) -> None:
    """As DeepSpeed 0.19.8 works it out (_set_batch_related_parameters, _batch_assertion); without a world any that fits."""

    def holds(world: int) -> bool:
        micro, accumulation = batch, steps
        if micro is not None and accumulation is None:
            accumulation = train // micro // world
        elif micro is None:
            micro = train // world // (accumulation or 1)
        accumulation = accumulation or (1 if batch is None and steps is None else 0)
        return micro is not None and micro > 0 and accumulation > 0 and train == micro * accumulation * world

    facts: dict[str, Any] = {"zero.file": "ds.json", "zero.train_batch": str(train)}
    facts |= {"zero.batch": str(batch)} if batch else {}
    facts |= {"zero.accumulation": str(steps)} if steps else {}
    facts |= {"training.processes": size} if size else {}
    worlds = [size] if size else range(1, 65)
    assert ("zero.batch_sum" in told(facts)) is not any(holds(world) for world in worlds)


def test_a_file_needs_one_of_two_batch_sizes() -> None:
    """Nobody fills in a key that is not there; accelerate's own block has them all."""
    assert told(zero__file="ds.json", zero__stage=2)["zero.batch_missing"] is True
    assert "zero.batch_missing" not in told(zero__file="ds.json", zero__train_batch="auto")
    assert "zero.batch_missing" not in told(zero__file="inline", accelerate__distributed="DEEPSPEED", zero__stage=2)


# --- DeepSpeed against the trainer


@pytest.mark.parametrize(
    ("zero", "trainer", "other"),
    [
        ({"zero.batch": "4"}, {"training.batch": 4}, {"training.batch": 2}),
        ({"zero.batch": "8"}, {}, {"training.batch": 2}),
        ({"zero.accumulation": "1"}, {}, {"training.accumulation": 2}),
        ({"zero.clipping": "1"}, {"training.max_grad_norm": 1.0}, {"training.max_grad_norm": 0.3}),
        ({"zero.learning_rate": "5e-5"}, {}, {"training.learning_rate": 1e-5}),
        ({"zero.weight_decay": "0"}, {}, {"training.weight_decay": 0.1}),
        ({"zero.epsilon": "1e-08"}, {}, {"training.adam_epsilon": 1e-6}),
    ],
)
def test_values_are_compared_as_numbers(zero: dict[str, Any], trainer: dict[str, Any], other: dict[str, Any]) -> None:
    """With the trainer's defaults for what it is not told; 1 is 1.0, and 1e-08 is 1e-8."""
    name = next(iter(zero))
    assert f"{name}_differs" not in told(TRAINER, ZERO, zero, trainer)
    found = told(TRAINER, ZERO, zero, other)
    assert found[f"{name}_differs"] is True
    assert found[f"{name}_from"] == next(iter(other.values()))


@pytest.mark.parametrize(
    "unsure",
    [{"training.script": "train.py"}, {"training.file.0.placeholder": "${BATCH}"}, {"launch.more_words": True}],
)
def test_defaults_count_only_where_all_is_known(unsure: dict[str, Any]) -> None:
    """A script or a placeholder may set what nobody can read."""
    assert "zero.batch_differs" in told(TRAINER, ZERO, zero__batch="4")
    assert "zero.batch_differs" not in told(TRAINER, ZERO, unsure, zero__batch="4")


@pytest.mark.parametrize(
    ("framework", "zero", "training_", "differs"),
    [
        ("trainer", {"zero.bf16": "true"}, {}, "bf16"),
        ("trainer", {"zero.bf16": "true"}, {"training.bf16": True}, None),
        ("trainer", {"zero.bf16": "auto", "zero.fp16": "auto"}, {"training.fp16": True}, None),
        ("trl", {"zero.bf16": "true"}, {}, None),
        ("trl", {"zero.fp16": "true"}, {}, "bf16 or fp16"),
        ("trl", {"zero.fp16": "true"}, {"training.fp16": True}, None),
        ("axolotl", {"zero.bf16": "true"}, {}, None),
        ("trainer", {"zero.bf16": "true"}, {"training.full_eval_dtype": "bf16"}, None),
    ],
)
def test_precision_of_both_sides(
    framework: str, zero: dict[str, Any], training_: dict[str, Any], differs: str | None
) -> None:
    """TRL takes bf16 by itself, the plain trainer neither; what Axolotl takes is not known here."""
    found = told(ZERO, zero, training_, training__framework=framework).get("zero.precision_differs")
    assert (found is None) if differs is None else str(found) in differs


def test_accelerates_precision_and_the_trainers() -> None:
    """Under DeepSpeed the trainer has to be told too; elsewhere its own word goes before accelerate's."""
    block = {
        "accelerate.distributed": "DEEPSPEED",
        "zero.file": "inline",
        "zero.stage": 2,
        "accelerate.mixed_precision": "bf16",
    }
    assert told(TRAINER, block)["accelerate.precision_not_trainers"] is True
    assert "accelerate.precision_not_trainers" not in told(TRL, block)
    assert "accelerate.precision_not_trainers" not in told(TRAINER, block, training__bf16=True)
    found = told(TRAINER, training__bf16=True, accelerate__mixed_precision="fp16", accelerate__distributed="MULTI_GPU")
    assert found["accelerate.precision_overruled"] == "bf16"


@pytest.mark.parametrize(
    ("optimizer", "fact"),
    [
        ("adamw_torch", None),
        ("paged_adamw_32bit", None),
        ("adafactor", "zero.optimizer_fails"),
        ("adamw_bnb_8bit", "zero.optimizer_replaced"),
        ("sgd", "zero.optimizer_replaced"),
    ],
)
def test_what_becomes_of_an_offloaded_optimizer(optimizer: str, fact: str | None) -> None:
    """accelerate exchanges it for one on the CPU, unless that is switched off or the file brings an optimizer."""
    found = told(TRAINER, ZERO, zero__offload_optimizer="cpu", training__optimizer=optimizer)
    assert {name for name in found if name.startswith("zero.optimizer")} == ({fact} if fact else set())
    kept = told(
        TRAINER, ZERO, zero__offload_optimizer="cpu", zero__force_cpu_optimizer=False, training__optimizer=optimizer
    )
    assert not {name for name in kept if name.startswith("zero.optimizer")}


# --- FSDP and accelerate


@pytest.mark.parametrize(
    ("facts", "version"),
    [
        (FSDP, 1),
        (FSDP | {"fsdp.version": 2}, 2),
        ({"fsdp.asked": True}, 2),
        ({"fsdp.asked": True, "transformers.version": "5.4.0"}, 1),
        ({"fsdp.asked": True, "transformers.version": "5.10.1"}, 2),
        ({"fsdp.by": "axolotl"}, None),
        ({"fsdp.by": "transformers", "fsdp.version": 2}, None),
        ({"fsdp.by": "transformers", "fsdp.version": 2, "fsdp.asked": True}, 2),
    ],
)
def test_which_version_of_fsdp_runs(facts: dict[str, Any], version: int | None) -> None:
    """accelerate runs 1 unless told otherwise, transformers 2 from 5.10 on, and none where only an fsdp_config is left over."""
    assert told(TRAINER, facts).get("fsdp.runs") == version


def test_activations_made_anew_twice() -> None:
    """TRL switches the trainer's own on, so that FSDP's has to be the only one said."""
    both = FSDP | {"fsdp.checkpointing": True}
    assert "fsdp.checkpointed_twice" in told(TRL, both)
    assert "fsdp.checkpointed_twice" not in told(TRL, both, training__gradient_checkpointing=False)
    assert "fsdp.checkpointed_twice" not in told(TRL, both, training__script="train.py")
    assert "fsdp.checkpointed_twice" not in told(TRL, both, trl__version="0.20.0")
    assert "fsdp.checkpointed_twice" not in told(TRAINER, both)
    assert "fsdp.checkpointed_twice" in told(TRAINER, both, training__gradient_checkpointing=True)


def test_layers_that_nothing_wraps() -> None:
    """With adapters the Trainer wraps layers by itself."""
    bare = {"accelerate.distributed": "FSDP", "fsdp.by": "accelerate"}
    assert told(bare)["fsdp.unwrapped"] is True
    assert "fsdp.unwrapped" not in told(bare, training__method="lora")
    assert "fsdp.unwrapped" not in told(FSDP)


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ({"accelerate.processes": 7, "accelerate.nodes": 2, "accelerate.address": "a"}, "accelerate.uneven"),
        ({"accelerate.processes": 1, "accelerate.nodes": 2, "accelerate.address": "a"}, "accelerate.too_few"),
        ({"accelerate.processes": 8, "accelerate.nodes": 2}, "accelerate.no_address"),
        (
            {"accelerate.processes": 8, "accelerate.nodes": 2, "accelerate.address": "127.0.0.1"},
            "accelerate.own_address",
        ),
        ({"accelerate.processes": 8, "accelerate.nodes": 2, "accelerate.address": "a"}, None),
        ({"accelerate.processes": 8, "accelerate.nodes": 2, "deploy.rendezvous": "a:29500"}, None),
    ],
)
def test_processes_and_machines(facts: dict[str, Any], name: str | None) -> None:
    """They have to come out even, and meet somewhere."""
    found = {key for key in told(facts, accelerate__distributed="MULTI_GPU") if key.startswith("accelerate.")}
    assert found == ({name} if name else set())


@pytest.mark.parametrize(
    ("sizes", "fault", "differs"),
    [
        ({"dp_shard": 2, "tp": 2}, None, False),
        ({"dp_shard": 2, "tp": 4}, None, True),
        ({"dp_replicate": 2, "tp": 2}, "dp_shard_size", False),
        ({"cp": 2, "sp": 2}, "cp_size", False),
    ],
)
def test_sizes_of_a_mesh(sizes: dict[str, int], fault: str | None, differs: bool) -> None:
    """Their product is the number of processes, and some do not go together."""
    facts = {f"accelerate.{name}": size for name, size in sizes.items()} | {
        "accelerate.processes": 4,
        "fsdp.version": 2,
    }
    found = told(FSDP, facts)
    assert ("accelerate.mesh_differs" in found) is differs
    assert (fault or "") in str(found.get("accelerate.mesh_fault", ""))
    assert (fault is None) is ("accelerate.mesh_fault" not in found)


@pytest.mark.parametrize(
    ("kind", "classes", "missing"),
    [
        ("qwen2", "Qwen2DecoderLayer", None),
        ("qwen2", "Qwen2DecoderLayer, LlamaDecoderLayer", "LlamaDecoderLayer"),
        ("gemma3", "Gemma3DecoderLayer,SiglipEncoderLayer", None),
        ("of-nobody", "LlamaDecoderLayer", None),
    ],
)
def test_layer_classes_of_the_model(kind: str, classes: str, missing: str | None) -> None:
    """Compared with the classes of transformers' own model; of code of its own, and of unknown types, nothing is said."""
    found = told(FSDP, fsdp__wrap_classes=classes, model__type=kind)
    assert found.get("fsdp.class_missing") == missing
    assert "fsdp.class_missing" not in told(FSDP, fsdp__wrap_classes=classes, model__type=kind, model__remote_code=True)
    if missing:
        assert found["fsdp.class_right"] == "Qwen2DecoderLayer"


def test_the_command_goes_before_the_file() -> None:
    """A flag of accelerate launch is read in place of the file's value."""
    flag = {"accelerate.distributed": "MULTI_GPU", "accelerate.mixed_precision_flag": "no"}
    assert told(flag)["accelerate.precision_flag_read"] is True
    assert "accelerate.precision_flag_read" not in told(flag, launch__arg__mixed_precision="bf16")
    sync = FSDP | {"fsdp.sync_states": False}
    assert "fsdp.sync_refused" in told(sync)
    assert "fsdp.sync_refused" not in told(sync, launch__arg__fsdp_sync_module_states="true")


_NAMES = [
    "zero.file", "zero.stage", "zero.batch", "zero.train_batch", "zero.accumulation", "zero.betas", "zero.optimizer",
    "training.framework", "training.batch", "training.processes", "fsdp.by", "fsdp.version", "fsdp.reshard",
    "accelerate.distributed", "accelerate.processes", "accelerate.nodes", "accelerate.tp", "training.given.0.key",
]  # fmt: skip


@given(
    st.dictionaries(
        st.sampled_from(_NAMES),
        st.booleans()
        | st.integers()
        | st.floats()
        | st.sampled_from(["auto", "FSDP", "trainer", "1e-5", "0", "device_map"]),
    )
)
def test_nothing_is_raised_whatever_is_told(facts: dict[str, Any]) -> None:
    """And what follows is in the catalogue."""
    assert all(describe(name) for name in told(facts))


_FAULTS = ("_differs", "_fails", "_refused", "_missing", "_sum", "_fault", "_flag", "too_few", "both_precisions")


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the published configurations are not there")
def test_published_configurations_have_no_fault() -> None:
    """Configurations of accelerate, DeepSpeed, LLaMA-Factory and Axolotl, each by itself, are not at odds with themselves."""
    told_of = 0
    for path in sorted(CORPUS.glob("*/*")):
        found = completed(Case(facts_of_files(path.parent, path.name), machine=True)).facts
        ours = {fact.name for fact in found if fact.name.startswith(("zero.", "fsdp.", "accelerate."))}
        told_of += bool(ours)
        assert not {name for name in ours if name.endswith(_FAULTS)}, path.name
    assert told_of > 20


def test_gpus_of_a_login_node_are_not_those_of_the_job() -> None:
    """Slurm gives a job machines of its own: what this one has says nothing of them."""
    facts = {"deploy.launcher": "torchrun", "deploy.processes": 8, "gpu.count": 1, "gpu.vendor": "nvidia"}
    assert fit_of(facts).get("fit.processes_over") is True
    assert "fit.processes_over" not in fit_of(facts | {"deploy.slurm_nodes": 2})
