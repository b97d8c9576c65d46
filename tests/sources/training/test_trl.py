"""Configurations of TRL: whose each key is, and what it means."""

from __future__ import annotations

import pytest

from diagnose.sources.training import trl
from diagnose.sources.training.classes import Reads
from tests.sources.training.reading import node, owners, values


@pytest.mark.parametrize(
    ("text", "owner", "task"),
    [
        ("packing: true", "trl.SFTConfig", "sft"),
        ("max_seq_length: 512\ndataset_text_field: text", "trl.SFTConfig", "sft"),
        ("assistant_only_loss: true", "trl.SFTConfig", "sft"),
        ("beta: 0.1\nloss_type: sigmoid\nmax_prompt_length: 64", "trl.DPOConfig", "dpo"),
        ("beta: 0.1\nloss_type: [ipo]\nrpo_alpha: 1.0", "trl.DPOConfig", "ipo"),
        ("desirable_weight: 1.0\nundesirable_weight: 1.0", "trl.KTOConfig", "kto"),
        ("num_generations: 8\nmax_completion_length: 128\nscale_rewards: group", "trl.GRPOConfig", "grpo"),
        ("rloo_k: 4", "trl.RLOOConfig", "rloo"),
        ("center_rewards_coefficient: 0.01", "trl.RewardConfig", "reward"),
        ("cpo_alpha: 1.0\nloss_type: simpo", "trl.CPOConfig", "simpo"),
        ("beta: 0.1\nmax_prompt_length: 64\nrun_name: zephyr-orpo", "trl.ORPOConfig", "orpo"),
    ],
)
def test_the_class_is_told_by_its_own_arguments(text: str, owner: str, task: str) -> None:
    """Arguments that one class has and others have not decide."""
    found = trl.read(node("output_dir: out\nlearning_rate: 0.0001\n" + text), "t.yaml")
    assert owners(found)["output_dir"] == owner
    assert values(found)["training.task"] == task
    assert values(found)["training.framework"] == "trl"


def test_no_task_is_told_where_several_fit() -> None:
    """`max_length` is an argument of many classes."""
    found = trl.read(node("output_dir: out\nmax_length: 64\nuse_peft: true\n"), "t.yaml")
    assert "training.task" not in values(found)


def test_model_and_data_have_classes_of_their_own() -> None:
    """TRL's scripts read three classes from one file, and variables below `env`."""
    text = "output_dir: o\npacking: true\nmodel_name_or_path: a/b\nlora_r: 4\ndataset_name: d\ndatasets: [{path: x}]\nenv: {A: 1}\n"
    found = owners(trl.read(node(text), "t.yaml"))
    assert found["lora_r"] == found["model_name_or_path"] == "trl.ModelConfig"
    assert found["dataset_name"] == "trl.ScriptArguments"
    assert found["datasets"] == "trl.DatasetMixtureConfig"
    assert found["env"] == found["env.A"] == "unknown"


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("max_seq_length: 128", "training.max_length", 128),
        ("completion_only_loss: false", "training.loss_on", "all"),
        ("completion_only_loss: true", "training.loss_on", "completion"),
        ("assistant_only_loss: true", "training.loss_on", "assistant"),
        ("model_init_kwargs: {attn_implementation: sdpa}", "training.attention", "sdpa"),
        ("use_peft: true\nlora_r: 8", "training.method", "lora"),
        ("use_peft: false\nlora_r: 8", "training.method", "full"),
        ("use_peft: true\nlora_target_modules: [all-linear]", "training.lora.targets_pattern", False),
        ("use_peft: true\nlora_target_modules: 'q_proj,v_proj'", "training.lora.targets_pattern", True),
        ("use_peft: true\nlora_target_modules: [q_proj, v_proj]", "training.lora.targets", "q_proj,v_proj"),
        ("use_vllm: true\nvllm_mode: colocate", "training.vllm", "colocate"),
        ("datasets:\n- {path: a}\n- {path: b}", "training.dataset.1.path", "b"),
        ("dataset_name: d", "training.dataset.0.path", "d"),
        ("pad_to_multiple_of: 8", "training.pad_to_multiple_of", 8),
        ("load_in_4bit: true", "training.quantization", "4bit"),
        ("use_bnb_nested_quant: true\nload_in_4bit: true", "training.quantization_double", True),
    ],
)
def test_arguments_are_told_under_the_common_name(text: str, name: str, value: object) -> None:
    """Those of old releases among them."""
    found = values(trl.read(node("output_dir: out\npacking: false\n" + text), "t.yaml"))
    assert found[name] == value


def test_lora_without_use_peft_is_unused_where_trl_reads_it() -> None:
    """Under `trl sft` nothing of LoRA holds unless use_peft is set; in a file of one's own that is not known."""
    text = node("output_dir: o\npacking: true\nlora_r: 8\n")
    sure = values(trl.read(text, "t.yaml", Reads("trl.SFTConfig")))
    assert sure["training.lora.unused"] is True
    assert sure["training.method"] == "full"
    assert "training.lora.unused" not in values(trl.read(text, "t.yaml"))


def test_every_other_key_is_the_class_s_where_the_command_tells_it() -> None:
    """`trl sft` takes nothing else."""
    found = trl.read(node("output_dir: o\nanything: 1\n"), "t.yaml", Reads("trl.SFTConfig"))
    assert owners(found)["anything"] == "trl.SFTConfig"
