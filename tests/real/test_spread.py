"""Faults of how a training is spread: what the rules call an error stops the real libraries, with the words foretold; sound ones run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from diagnose.collect import completed
from diagnose.derive.known import by_name
from diagnose.match import match
from diagnose.model import Case, Fact
from tests.support import facts_of_files
from tests.test_bundled_rules import RULES

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
AUTO = {"train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": "auto"}
ADAM = {"type": "AdamW", "params": {"lr": "auto", "torch_adam": True}}
NOT_MATCHED = "mismatch TrainingArguments values"


def zero(stage: Any = 2, **more: Any) -> dict[str, Any]:
    """A DeepSpeed configuration that fits any trainer, and what a case changes."""
    block = {"stage": stage, **more.pop("zero", {})}
    return {**AUTO, "gradient_clipping": "auto", "zero_optimization": block, **more}


def without(source: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in source.items() if name not in names}


def case(
    rule: str, words: str, ds: dict[str, Any] | None = None, acc: dict[str, Any] | str | None = None, **train: Any
) -> Any:
    """One fault: the rule that names it, what the library says, and the files."""
    files: dict[str, str] = {}
    given = dict(train)
    kind = given.pop("class_", "transformers.TrainingArguments")
    evaluate = given.pop("evaluate", False)
    alone = given.pop("alone", False)  # DeepSpeed's file without a trainer that reads it
    if ds is not None:
        files["ds.json"] = json.dumps(ds, indent=1)
    if ds is not None and not alone:
        given["deepspeed"] = "ds.json"
    if acc is not None:
        files["acc.yaml"] = acc if isinstance(acc, str) else json.dumps(acc, indent=1)
    if given:
        files["train.json"] = json.dumps({"output_dir": "out", "per_device_train_batch_size": 2, **given}, indent=1)
    return pytest.param(rule, words, {"files": files, "class": kind, "evaluate": evaluate}, id=rule or words)


def sharded(**block: Any) -> dict[str, Any]:
    block = {f"fsdp_{name}": value for name, value in block.items()}
    policy = {"fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP"}
    return {
        "distributed_type": "FSDP",
        "mixed_precision": "bf16",
        "num_machines": 1,
        "num_processes": 2,
        "fsdp_config": policy | block,
    }


def zeroed(precision: str = "no", **block: Any) -> dict[str, Any]:
    return {
        "distributed_type": "DEEPSPEED",
        "mixed_precision": precision,
        "num_machines": 1,
        "num_processes": 1,
        "deepspeed_config": {"zero_stage": 2, **block},
    }


FAULTS = [
    case("deepspeed-batch-not-the-trainers", NOT_MATCHED, zero(train_micro_batch_size_per_gpu=4)),
    case("deepspeed-accumulation-not-the-trainers", NOT_MATCHED, zero(gradient_accumulation_steps=1), gradient_accumulation_steps=4),
    case("deepspeed-accumulation-not-the-trainers", NOT_MATCHED, None, zeroed(gradient_accumulation_steps=1), gradient_accumulation_steps=4),
    case("deepspeed-clipping-not-the-trainers", NOT_MATCHED, zero(gradient_clipping=0.5)),
    case("deepspeed-learning-rate-not-the-trainers", NOT_MATCHED, zero(optimizer={"type": "AdamW", "params": {"lr": 3e-5}}), learning_rate=1e-5),
    case("deepspeed-warmup-peak-not-the-trainers", NOT_MATCHED, zero(optimizer=ADAM, scheduler={"type": "WarmupLR", "params": {"warmup_max_lr": 0.001}}), learning_rate=1e-5),
    case("deepspeed-decay-not-the-trainers", NOT_MATCHED, zero(optimizer={"type": "AdamW", "params": {"lr": "auto", "weight_decay": 0.1}})),
    case("deepspeed-betas-not-the-trainers", NOT_MATCHED, zero(optimizer={"type": "AdamW", "params": {"lr": "auto", "betas": [0.8, 0.99]}})),
    case("deepspeed-epsilon-not-the-trainers", NOT_MATCHED, zero(optimizer={"type": "AdamW", "params": {"lr": "auto", "eps": 1e-6}})),
    case("deepspeed-steps-not-the-trainers", NOT_MATCHED, zero(optimizer=ADAM, scheduler={"type": "WarmupDecayLR", "params": {"total_num_steps": 90}}), max_steps=2),
    case("deepspeed-warmup-not-the-trainers", NOT_MATCHED, zero(optimizer=ADAM, scheduler={"type": "WarmupLR", "params": {"warmup_num_steps": 7}}), warmup_steps=1),
    case("deepspeed-precision-not-the-trainers", NOT_MATCHED, zero(bf16={"enabled": True})),
    case("deepspeed-precision-not-the-trainers", "cannot be set to `bf16`", zero(fp16={"enabled": True}), class_="trl.SFTConfig", learning_rate=1e-5),
    case("deepspeed-both-precisions", "cannot be simultaneously enabled", without(zero(bf16={"enabled": True}, fp16={"enabled": True}), *AUTO, "gradient_clipping") | {"train_batch_size": 1}, alone=True),
    case("accelerate-precision-unknown-to-trainer", NOT_MATCHED, None, zeroed("bf16"), learning_rate=1e-5),
    case("deepspeed-file-without-batch", "needs to be provided", without(zero(), "train_batch_size", "train_micro_batch_size_per_gpu")),
    case("deepspeed-file-without-accumulation", "Check batch related parameters", without(zero(), "gradient_accumulation_steps"), gradient_accumulation_steps=2),
    case("deepspeed-auto-that-nobody-fills", "not found in kwargs", zero(3, zero={"sub_group_size": "auto"})),
    case("deepspeed-file-without-zero", "Please specify the ZeRO optimization config", without(zero(), "zero_optimization")),
    case("zero-stage-unknown", "Input should be 0, 1, 2", zero(4)),
    case("zero-offload-to-unknown-device", "Input should be 'none', 'cpu' or 'nvme'", zero(zero={"offload_optimizer": {"device": "gpu"}})),
    case("zero-nvme-without-path", "cannot be None", zero(3, zero={"offload_param": {"device": "nvme"}})),
    case("zero-part-offload-below-stage-3", "only supported for ZeRO Stage 3", zero(zero={"offload_optimizer": {"device": "cpu", "ratio": 0.5}})),
    case("zero-3-gradients-summed", "not supported with ZeRO stage 3", zero(3, gradient_allreduce_op="sum")),
    case("zero-master-weights-without-stage", "is only supported with ZeRO Stage", zero(0, bf16={"enabled": True, "bf16_master_weights_and_grads": True}), bf16=True),
    case("zero-states-in-bf16-alone", "requires bf16_master_weights_and_grads", zero(3, bf16={"enabled": True, "bf16_optimizer_states": True}), bf16=True),
    case("deepspeed-optimizer-unknown", "is not a supported DeepSpeed Optimizer", zero(optimizer={"type": "PagedAdamW", "params": {"lr": "auto"}})),
    case("deepspeed-scheduler-unknown", "does not recognize LR scheduler", zero(optimizer=ADAM, scheduler={"type": "WarmupCosine", "params": {}})),
    case("deepspeed-clipping-in-optimizer", "not supported as an optimizer parameter", zero(optimizer={"type": "AdamW", "params": {"lr": "auto", "torch_adam": True, "max_grad_norm": 1.0}})),
    case("zero-offload-fails-with-optimizer", "incompatible function arguments", zero(zero={"offload_optimizer": {"device": "cpu"}}), optim="adafactor"),
    case("zero-offload-fails-with-optimizer", "adamw_mode", zero(zero={"offload_optimizer": {"device": "cpu"}}), optim="adagrad"),
    case("zero-3-looks-for-batch-size", "isn't supported yet with DeepSpeed Zero-3", zero(3), auto_find_batch_size=True),
    case("zero-best-model-without-states", "can't be used with `save_only_model`", zero(), save_only_model=True, load_best_model_at_end=True, eval_strategy="steps", save_strategy="steps", eval_steps=1, save_steps=1),
    case("accelerate-fields-beside-deepspeed-file", "will be ignored", zero(), zeroed(deepspeed_config_file="ds.json"), alone=True, learning_rate=1e-5),
    case("deepspeed-batches-do-not-add-up", "Check batch related parameters", {"train_batch_size": 30, "train_micro_batch_size_per_gpu": 4}, alone=True),
    case("fsdp-loads-on-one-rank-and-does-not-send", "set `--fsdp_sync_module_states` to `True`", None, sharded(sync_module_states=False)),
    case("fsdp-loads-on-one-rank-and-does-not-send", "set `--fsdp_sync_module_states` to `True`", None, sharded(sync_module_states=False, version=2)),
    case("fsdp-wrap-policy-unknown", "Invalid auto wrap policy", None, sharded(auto_wrap_policy="TRANSFORMER_WRAP")),
    case("fsdp-strategy-unknown", "KeyError: 'FULL'", None, sharded(sharding_strategy="FULL")),
    case("fsdp-state-dict-unknown", "KeyError: 'SHARDED'", None, sharded(state_dict_type="SHARDED")),
    case("fsdp-prefetch-unknown", "KeyError: 'PRE'", None, sharded(backward_prefetch="PRE")),
    case("fsdp-version-unknown", "KeyError", None, sharded(version=3)),
    case("fsdp2-local-state-dict", "does not support LOCAL_STATE_DICT", None, sharded(version=2, state_dict_type="LOCAL_STATE_DICT")),
    case("fsdp2-reshard-is-a-flag", "invalid truth value full_shard", None, sharded(version=2, reshard_after_forward="FULL_SHARD")),
    case("fsdp-checkpoint-offload-alone", "requires `activation_checkpointing=True`", None, sharded(version=2, activation_checkpointing_offload=True)),
    case("fsdp-checkpoint-offload-of-version-1", "requires `fsdp_version=2`", None, sharded(activation_checkpointing=True, activation_checkpointing_offload=True)),
    case("fsdp-option-of-version-1", "is only available with FSDP1", fsdp="hybrid_shard auto_wrap"),
    case("fsdp-option-unknown", "Unknown `fsdp` option: autowrap", fsdp="full_shard autowrap"),
    case("fsdp2-reshard-is-a-flag", "invalid truth value", fsdp=True, fsdp_config={"reshard_after_forward": "full_shard"}),
    case("accelerate-precision-is-a-flag", "has no attribute 'lower'", None, "distributed_type: MULTI_GPU\nnum_processes: 2\nnum_machines: 1\nmixed_precision: no\n"),
    case("accelerate-precision-unknown", "Unknown mixed_precision mode", None, sharded() | {"distributed_type": "MULTI_GPU", "mixed_precision": "bfloat16"}),
    case("accelerate-gpu-ids-is-a-number", "has no attribute 'split'", None, "distributed_type: MULTI_GPU\nnum_processes: 2\nnum_machines: 1\ngpu_ids: 0\n"),
    case("accelerate-one-gpu-for-many", "Less than two GPU ids", None, sharded() | {"distributed_type": "MULTI_GPU", "gpu_ids": "0"}),
    case("accelerate-kind-unknown", "is not a valid DistributedType", None, sharded() | {"distributed_type": "DDP"}),
    case("accelerate-kind-missing", "`distributed_type` must be specified", None, without(sharded(), "distributed_type")),
]  # fmt: skip
SOUND = [
    case("", "auto throughout", zero(bf16={"enabled": "auto"}, fp16={"enabled": "auto"}), bf16=True),
    case("", "the same values", zero(train_micro_batch_size_per_gpu=2, gradient_accumulation_steps=3, gradient_clipping=1), gradient_accumulation_steps=3),
    case("", "its own optimizer and schedule", zero(optimizer=ADAM, scheduler={"type": "WarmupLR", "params": {"warmup_num_steps": "auto", "warmup_max_lr": "auto"}}), learning_rate=1e-5),
    case("", "only the batch of a process", without(zero(), "train_batch_size", "gradient_accumulation_steps"), gradient_accumulation_steps=2),
    case("", "offload", zero(zero={"offload_optimizer": {"device": "cpu"}})),
    case("", "stage 3", zero(3, zero={"stage3_gather_16bit_weights_on_model_save": True, "reduce_bucket_size": "auto"})),
    case("", "accelerate and the trainer in bf16", None, zeroed("bf16"), bf16=True),
    case("", "TRL's own bf16", None, zeroed("bf16"), class_="trl.SFTConfig", learning_rate=1e-5),
    case("", "FSDP 1", None, sharded(state_dict_type="FULL_STATE_DICT", sharding_strategy="FULL_SHARD")),
    case("", "FSDP 2", None, sharded(version=2, reshard_after_forward=True, state_dict_type="SHARDED_STATE_DICT")),
    case("", "several processes", None, without(sharded() | {"distributed_type": "MULTI_GPU"}, "fsdp_config")),
]  # fmt: skip


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str]:
    """What the real libraries in LLMDOCTOR_REAL_PYTHON (else this interpreter) say of each request."""
    python = os.environ.get("LLMDOCTOR_REAL_PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import deepspeed, trl, transformers"], capture_output=True).returncode:
        pytest.skip("no interpreter with deepspeed, trl and transformers: name one in LLMDOCTOR_REAL_PYTHON")
    requests = [one.values[2] for one in FAULTS + SOUND]
    run = subprocess.run(
        [python, "-m", "tests.real.spread"],
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=1200,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    problems = [json.loads(line)["problem"] for line in run.stdout.splitlines() if line.startswith('{"problem"')]
    assert len(problems) == len(requests), run.stderr[-2000:]
    return {json.dumps(request): problem for request, problem in zip(requests, problems, strict=True)}


def errors(request: dict[str, Any], folder: Path) -> set[str]:
    """The rules that call it an error."""
    for name, content in request["files"].items():
        (folder / name).write_text(content)
    named = [name for name in ("train.json", "acc.yaml") if name in request["files"]] or ["ds.json"]
    facts = by_name(facts_of_files(folder, *named))
    if request["class"].startswith("trl"):
        facts["training.framework"] = Fact("training.framework", "trl", "train.json", 1)
    found = match(RULES, completed(Case(tuple(facts.values()), machine=True)))
    return {finding.rule.id for finding in found if finding.rule.severity == "error"}


@pytest.mark.timeout(1300)
@pytest.mark.parametrize(("rule", "words", "request_"), FAULTS)
def test_what_a_rule_calls_an_error_stops_the_library(
    rule: str, words: str, request_: dict[str, Any], outcomes: dict[str, str], tmp_path: Path
) -> None:
    """With the words that the library uses, and foretold by the rule."""
    assert words in outcomes[json.dumps(request_)]
    assert rule in errors(request_, tmp_path)


@pytest.mark.timeout(1300)
@pytest.mark.parametrize(("rule", "words", "request_"), SOUND)
def test_what_runs_is_called_no_error(
    rule: str, words: str, request_: dict[str, Any], outcomes: dict[str, str], tmp_path: Path
) -> None:
    """Healthy ones train, and no rule says otherwise."""
    assert outcomes[json.dumps(request_)] == ""
    assert errors(request_, tmp_path) == set()
