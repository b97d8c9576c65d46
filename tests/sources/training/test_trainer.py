"""Arguments of transformers' Trainer, of old releases and new, mean the same under one name."""

from __future__ import annotations

import pytest

from diagnose.sources.training import trainer
from tests.sources.training.reading import facts, node, owners, values


def told(text: str) -> dict[str, object]:
    return values(trainer.read(node("output_dir: out\nsave_total_limit: 2\n" + text), "train.yaml"))


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("eval_strategy: steps", "training.eval", "steps"),
        ("evaluation_strategy: epoch", "training.eval", "epoch"),
        ("eval_strategy: no", "training.eval", "no"),
        ("per_gpu_train_batch_size: 3", "training.batch", 3),
        ("per_device_train_batch_size: 4", "training.batch", 4),
        ("no_cuda: true", "training.on_cpu", True),
        ("use_cpu: true", "training.on_cpu", True),
        ("warmup_ratio: 0.1", "training.warmup_ratio", 0.1),
        ("warmup_steps: 0.1", "training.warmup_ratio", 0.1),
        ("warmup_steps: 100", "training.warmup_steps", 100),
        ("activation_checkpointing: true", "training.gradient_checkpointing", True),
        ("gradient_checkpointing: true", "training.gradient_checkpointing", True),
        ("gradient_checkpointing_kwargs: {use_reentrant: false}", "training.reentrant", False),
        ("torch_compile_backend: inductor", "training.compile", True),
        ("adafactor: true", "training.optimizer", "adafactor"),
        ("group_by_length: true", "training.group_by_length", True),
        ("train_sampling_strategy: group_by_length", "training.group_by_length", True),
        ("report_to: [wandb, tensorboard]", "training.report_to", "wandb,tensorboard"),
        ("report_to: none", "training.report_to", "none"),
        ("resume_from_checkpoint: true", "training.resume", "newest"),
        ("resume_from_checkpoint: out/checkpoint-5", "training.resume", "out/checkpoint-5"),
        ("deepspeed: zero3.json", "training.deepspeed", "zero3.json"),
        ("deepspeed: {zero_optimization: {stage: 3}}", "training.deepspeed", "inline"),
        ("deepspeed: {zero_optimization: {stage: 3}}", "zero.stage", 3),
        ("fsdp: full_shard auto_wrap", "training.fsdp", "full_shard auto_wrap"),
        ("fsdp_config: {version: 2}", "fsdp.version", 2),
        ("bf16: true", "training.precision", "bf16"),
        ("fp16_full_eval: true", "training.full_eval_dtype", "fp16"),
        ("max_steps: 10", "training.max_steps", 10),
        ("hub_token: hf_abc", "training.hub_token", True),
        ("torch_dtype: torch.bfloat16", "training.load_dtype", "bfloat16"),
        ("learning_rate: 1e-5", "training.learning_rate", 1e-5),
        ("learning_rate: 1e-5", "training.learning_rate_text", "1e-5"),
        ("lr_scheduler_kwargs: {min_lr: 1.0e-6}", "training.min_learning_rate", 1e-6),
        ("peft_config: {r: 8, lora_alpha: 16}", "training.lora.rank", 8),
        ("quantization_config: {load_in_4bit: true}", "training.quantization", "4bit"),
    ],
)
def test_an_argument_is_told_under_the_common_name(text: str, name: str, value: object) -> None:
    """What a release calls it does not matter."""
    assert told(text)[name] == value


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("max_steps: -1", "training.max_steps"),
        ("bf16: false", "training.precision"),
        ("learning_rate: 1.0e-5", "training.learning_rate_text"),
        ("learning_rate: fast", "training.learning_rate"),
        ("deepspeed: null", "training.deepspeed"),
        ("resume_from_checkpoint: false", "training.resume"),
        ("fsdp: ''", "training.fsdp"),
    ],
)
def test_nothing_is_told_where_nothing_is_said(text: str, name: str) -> None:
    """Values that stand for none, and those that cannot be read, tell nothing."""
    assert name not in told(text)


def test_arguments_in_a_mapping_of_ones_own_are_found() -> None:
    """`training:` of somebody's own program holds them under a longer key."""
    found = trainer.read(node("seed: 1\ntraining:\n  output_dir: out\n  num_train_epochs: 3\n"), "mine.yaml")
    assert facts(found)["training.epochs"].key == "training.num_train_epochs"
    assert owners(found)["training.output_dir"] == "transformers.TrainingArguments"
    assert owners(found)["seed"] == "unknown"


def test_keys_of_nobody_are_not_laid_to_the_class() -> None:
    """A key that is spelled nearly like an argument was meant as one; another may be of the user's own script."""
    found = owners(trainer.read(node("output_dir: o\nsave_strategy: epoch\nlearning_rte: 1\nmy_flag: 2\n"), "t.yaml"))
    assert found["learning_rte"] == "transformers.TrainingArguments"
    assert found["my_flag"] == "unknown"


def test_seq2seq_arguments_have_their_class() -> None:
    """`predict_with_generate` is only there."""
    found = trainer.read(node("output_dir: o\npredict_with_generate: true\n"), "t.yaml")
    assert set(owners(found).values()) == {"transformers.Seq2SeqTrainingArguments"}


def test_files_that_are_named_are_referred_to() -> None:
    """DeepSpeed's and FSDP's files; JSON in the place of a path is none."""
    text = "output_dir: o\nsave_strategy: epoch\ndeepspeed: ds.json\nfsdp_config: fsdp.json\n"
    found = trainer.read(node(text), "t.yaml")
    assert [(item.path, item.kind) for item in found.refers] == [("ds.json", "deepspeed"), ("fsdp.json", "fsdp")]
    inline = trainer.read(node("output_dir: o\nsave_strategy: epoch\ndeepspeed: '{}'\n"), "t.yaml")
    assert inline.refers == ()
