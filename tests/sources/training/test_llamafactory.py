"""LLaMA-Factory's configurations, old and v1: what is its own, and what it means under common names."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.model import Fact
from diagnose.sources.training import llamafactory
from diagnose.sources.training.parsed import Parsed
from tests.sources.training import reading

TEXT = """\
model_name_or_path: org/model-7b
stage: dpo
do_train: true
finetuning_type: lora
lora_rank: 16
lora_target: all
quantization_bit: 4
pref_beta: 0.1
pref_loss: simpo
dataset: one, two
template: qwen
cutoff_len: 1024
flash_attn: fa2
deepspeed: ds.json
per_device_train_batch_size: 1
learning_rate: 5e-6
bf16: true
add_special_tokens: <a>,<b>
"""
V1 = """\
model: org/model
peft_config:
  name: lora
  r: 16
  lora_alpha: 32
  target_modules: all
quant_config:
  name: bnb
  quantization_bit: 4
dist_config:
  name: deepspeed
  config_file: zero.json
train_dataset: data/mine.jsonl
micro_batch_size: 2
learning_rate: 1e-4
"""


def parsed(text: str) -> Parsed:
    return llamafactory.read(reading.node(text), "l.yaml")


def facts(text: str) -> dict[str, Fact]:
    return reading.facts(parsed(text))


def values(text: str) -> dict[str, Any]:
    return reading.values(parsed(text))


def test_settings_under_common_names() -> None:
    """Model, method, task by the loss, data sets by their names, and the defaults that a training has."""
    found = values(TEXT)
    expected = {
        "training.framework": "llamafactory",
        "training.task": "simpo",
        "training.method": "qlora",
        "training.quantization": "4bit",
        "training.quantization_type": "nf4",
        "training.lora.rank": 16,
        "training.lora.alpha": 32,
        "training.lora.targets": "all-linear",
        "training.max_length": 1024,
        "training.attention": "flash_attention_2",
        "training.deepspeed": "ds.json",
        "training.learning_rate": 5e-6,
        "training.load_dtype": "bfloat16",
        "training.chat_template": "qwen",
        "training.gradient_checkpointing": True,
        "training.new_tokens": 2,
        "training.dataset.0.path": "one",
        "training.dataset.1.path": "two",
    }
    assert {name: found.get(name) for name in expected} == expected
    assert [(item.path, item.kind) for item in parsed(TEXT).refers] == [("ds.json", "deepspeed")]


def test_exponents_are_numbers() -> None:
    """OmegaConf reads an unquoted 5e-6 as a number, so nothing is told of a text."""
    rate = next(item for item in parsed(TEXT).settings if item.key == "learning_rate")
    assert rate.value == 5e-6
    assert "training.learning_rate_text" not in facts(TEXT)


def test_places_are_those_of_the_keys() -> None:
    """A fact says where its key stands; a default stands nowhere."""
    found = facts(TEXT)
    assert (found["training.max_length"].line, found["training.max_length"].key) == (12, "cutoff_len")
    assert found["training.lora.alpha"].line == 0


def test_a_full_training_keeps_its_weights_in_32_bits() -> None:
    """Trained weights are raised to float32, unless pure_bf16 is set."""
    whole = "model_name_or_path: org/m\nfinetuning_type: full\ndo_train: true\n"
    assert values(whole + "bf16: true\n")["training.load_dtype"] == "float32"
    assert values(whole + "pure_bf16: true\n")["training.load_dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("model_name_or_path: m\nexport_dir: out\n", "merge"),
        ("model_name_or_path: m\ntemplate: qwen\ninfer_backend: vllm\n", "inference"),
        ("model_name_or_path: m\ndo_train: true\ncutoff_len: 8\n", "sft"),
        ("model_name_or_path: m\ndo_train: true\nstage: rm\n", "reward"),
        ("model_name_or_path: m\nstage: sft\n", None),
    ],
)
def test_task(text: str, task: str | None) -> None:
    """A stage is trained only where do_train says so."""
    assert values(text).get("training.task") == task


def test_a_configuration_of_v1() -> None:
    """Plugins by their names; its keys are of an owner of their own, since the old form has others."""
    found = values(V1)
    expected = {
        "training.framework": "llamafactory",
        "training.method": "qlora",
        "training.quantization": "4bit",
        "training.lora.rank": 16,
        "training.lora.targets": "all-linear",
        "training.deepspeed": "zero.json",
        "training.batch": 2,
        "training.learning_rate": 0.0001,
        "training.dataset.0.path": "data/mine.jsonl",
    }
    assert {name: found.get(name) for name in expected} == expected
    assert {item.owner for item in parsed(V1).settings} == {"llamafactory.v1"}
    assert [(item.path, item.kind) for item in parsed(V1).refers] == [
        ("data/mine.jsonl", "data"),
        ("zero.json", "deepspeed"),
    ]


def test_what_is_a_configuration_of_llamafactory() -> None:
    """By its own keys; a trainer's or TRL's file is none."""

    def kind(text: str) -> bool:
        return llamafactory.is_kind(reading.node(text))

    assert kind(TEXT)
    assert kind(V1)
    assert kind("model_name_or_path: m\ntemplate: qwen\n")
    assert not kind("model_name_or_path: m\ndataset_name: d\nlearning_rate: 1e-5\n")
    assert not kind("model: m\nlearning_rate: 1e-5\n")
    assert not kind("[]\n")


KEYS = st.sampled_from(
    [
        *llamafactory._COMMON,
        *llamafactory._V1_KEYS,
        "model",
        "stage",
        "do_train",
        "finetuning_type",
        "quantization_bit",
        "quantization_method",
        "dataset",
        "eval_dataset",
        "deepspeed",
        "lora_target",
        "report_to",
        "flash_attn",
        "packing",
    ]
)


@given(st.dictionaries(KEYS, reading.TREES, max_size=12))
def test_nothing_is_raised(config: dict[str, Any]) -> None:
    """Whatever the values are: facts are plain values with names of their own."""
    reading.raises_nothing(llamafactory.read, config)
