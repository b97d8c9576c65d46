"""Axolotl's configurations: what is its own, and what it means under common names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.model import Fact
from diagnose.sources import yamlfile
from diagnose.sources.training import axolotl
from diagnose.sources.training.parsed import Parsed
from diagnose.sources.yamlfile import Node
from tests.sources.training import reading

TEXT = """\
base_model: org/model-7b
load_in_4bit: true
adapter: qlora
lora_r: 32
lora_alpha: 16
lora_target_modules: [q_proj, v_proj]
lora_modules_to_save: [embed_tokens, lm_head]
datasets:
  - path: ./data/chats.jsonl
    type: chat_template
    field_messages: turns
  - path: json
    data_files: [more.jsonl]
    type: alpaca
test_datasets:
  - path: org/held-out
    split: test
    type: chat_template
sequence_len: 4096
sample_packing: true
attn_implementation: flash_attention_2
micro_batch_size: 2
num_epochs: 3
learning_rate: 1e-4
bf16: auto
gradient_checkpointing: true
gradient_checkpointing_kwargs:
  use_reentrant: false
evals_per_epoch: 4
saves_per_epoch: 1
wandb_project: mine
special_tokens:
  pad_token: <|pad|>
tokens: [<a>, <b>]
deepspeed: zero3.json
fsdp_config:
  fsdp_version: 2
  fsdp_offload_params: true
  transformer_layer_cls_to_wrap: LlamaDecoderLayer
"""


def parsed(text: str) -> Parsed:
    return axolotl.read(reading.node(text), "a.yaml")


def facts(text: str) -> dict[str, Fact]:
    return reading.facts(parsed(text))


def values(text: str) -> dict[str, Any]:
    return reading.values(parsed(text))


def test_settings_under_common_names() -> None:
    """Model, method, data, lengths, batches, precision, sharding and trackers have the names that every framework has."""
    found = values(TEXT)
    expected = {
        "training.framework": "axolotl",
        "training.task": "sft",
        "training.method": "qlora",
        "training.model": "org/model-7b",
        "training.quantization": "4bit",
        "training.quantization_type": "nf4",
        "training.quantization_double": True,
        "training.lora.rank": 32,
        "training.lora.targets": "q_proj,v_proj",
        "training.lora.saved_modules": "embed_tokens,lm_head",
        "training.max_length": 4096,
        "training.packing": True,
        "training.attention": "flash_attention_2",
        "training.batch": 2,
        "training.epochs": 3,
        "training.learning_rate": 0.0001,
        "training.precision": "auto",
        "training.gradient_checkpointing": True,
        "training.reentrant": False,
        "training.eval": "steps",
        "training.eval_data": True,
        "training.save": "steps",
        "training.report_to": "wandb",
        "training.pad_token": "<|pad|>",
        "training.new_tokens": 2,
        "training.new_tokens_listed": "<a>,<b>",
        "training.deepspeed": "zero3.json",
        "fsdp.version": 2,
        "fsdp.offload": True,
        "fsdp.wrap_classes": "LlamaDecoderLayer",
        "training.dataset.0.path": "./data/chats.jsonl",
        "training.dataset.0.format": "chat_template",
        "training.dataset.0.field": "turns",
        "training.dataset.1.path": "more.jsonl",
        "training.dataset.1.format": "alpaca",
        "training.dataset.2.role": "eval",
    }
    assert {name: found.get(name) for name in expected} == expected


def test_fsdp_is_read_as_everywhere() -> None:
    """With its prefix and without, and in the spelling that rules ask for."""
    found = values(
        "base_model: org/m\nsequence_len: 512\nfsdp_config:\n  fsdp_sharding_strategy: no_shard\n  reshard_after_forward: true\n"
    )
    assert (found["fsdp.strategy"], found["fsdp.reshard"]) == ("NO_SHARD", "true")


def test_places_are_those_of_the_keys() -> None:
    """A fact says where its key stands, and what the file calls it; what holds by default stands nowhere."""
    found = facts(TEXT)
    assert (found["training.batch"].line, found["training.batch"].column, found["training.batch"].key) == (
        22,
        1,
        "micro_batch_size",
    )
    assert (found["training.dataset.0.path"].line, found["training.dataset.0.path"].key) == (9, "datasets[0].path")
    assert (found["training.accumulation"].value, found["training.accumulation"].line) == (1, 0)
    assert found["training.accumulation"].origin == axolotl.DEFAULT


def test_files_that_it_names() -> None:
    """DeepSpeed's configuration and files of data are named; data of the Hub is not a file."""
    assert [(item.path, item.kind) for item in parsed(TEXT).refers] == [
        ("zero3.json", "deepspeed"),
        ("./data/chats.jsonl", "data"),
        ("more.jsonl", "data"),
    ]


@pytest.mark.parametrize(
    ("change", "method", "quantization"),
    [
        ("adapter: qlora\nload_in_4bit: true", "qlora", "4bit"),
        ("adapter: lora\nload_in_8bit: true", "lora", "8bit"),
        ("adapter: lora\nload_in_4bit: true", "lora", None),
        ("adapter: lora", "lora", None),
        ("adapter:", "full", None),
        ("unfrozen_parameters: [lm_head]", "freeze", None),
    ],
)
def test_how_the_base_is_quantized(change: str, method: str, quantization: str | None) -> None:
    """Axolotl quantizes for qlora in 4 bits and for lora in 8 bits, and not for a pair in between."""
    found = values(f"base_model: org/m\nsequence_len: 512\n{change}\n")
    assert (found["training.method"], found.get("training.quantization")) == (method, quantization)


@pytest.mark.parametrize(
    ("change", "precision"),
    [
        ("bf16: true", "bf16"),
        ("bf16: auto", "auto"),
        ("bf16: false\nfp16: true", "fp16"),
        ("bf16: false", "fp32"),
        ("bf16:", "fp32"),
        ("bf16:\nfp16: true", "fp16"),
        ("seed: 1", "auto"),
        ("fp16: true", "fp16"),
    ],
)
def test_precision(change: str, precision: str) -> None:
    """bf16 is `auto` where the key is absent, and off where it stands without a value."""
    assert values(f"base_model: org/m\nsequence_len: 512\n{change}\n")["training.precision"] == precision


@pytest.mark.parametrize(
    ("change", "eval_"),
    [
        ("val_set_size: 0.1\nevals_per_epoch: 2", "steps"),
        ("val_set_size: 0.1\nevals_per_epoch: 1", "no"),
        ("val_set_size: 0.1\nevals_per_epoch: 1\nnum_epochs: 2", "steps"),
        ("val_set_size: 0.1\neval_strategy: epoch", "epoch"),
        ("val_set_size: 0\nevals_per_epoch: 2", "no"),
        ("eval_steps: 10", "no"),
    ],
)
def test_when_it_evaluates(change: str, eval_: str) -> None:
    """Without data it never does, and once in one epoch is never too."""
    assert values(f"base_model: org/m\nsequence_len: 512\n{change}\n")["training.eval"] == eval_


def test_absent_keys_are_told_as_unset() -> None:
    """Rules can ask for the absence of a key."""
    found = values("base_model: org/m\nsequence_len: 512\n")
    assert (found["training.axolotl.learning_rate"], found["training.axolotl.base_model"]) == ("unset", "org/m")


def test_empty_values_are_told_as_unset() -> None:
    """An empty text or list is to Axolotl what an absent key is."""
    found = values('base_model: org/m\nsequence_len: 512\nadapter: ""\nlora_target_parameters: []\n')
    assert (found["training.axolotl.adapter"], found["training.axolotl.lora_target_parameters"]) == ("unset", "unset")


def test_a_key_without_a_name_is_no_fact() -> None:
    """It would have a name that ends in a dot."""
    found = values('base_model: org/m\nsequence_len: 512\n"": 1\ndatasets: {"": false, path: org/data}\n')
    assert not [name for name in found if name.endswith(".")]
    assert found["training.axolotl.dataset.0.path"] == "org/data"


def test_what_is_an_axolotl_configuration() -> None:
    """Two keys of its own make it one; those of other frameworks do not."""

    def kind(text: str) -> bool:
        return axolotl.is_kind(reading.node(text))

    assert kind("base_model: org/m\nmicro_batch_size: 1\n")
    assert kind("sequence_len: 512\nsample_packing: true\n")
    assert not kind("base_model: org/m\n")
    assert not kind("model_name_or_path: org/m\nnum_epochs: 1\nsequence_len: 5\n")
    assert not kind("- a\n- b\n")
    assert not kind("text\n")


KEYS = st.sampled_from(
    [
        *axolotl._COMMON,
        "datasets",
        "test_datasets",
        "pretraining_dataset",
        "fsdp_config",
        "fsdp",
        "deepspeed",
        "special_tokens",
        "tokens",
        "adapter",
        "load_in_4bit",
        "bf16",
        "fp16",
        "rl",
        "trl",
        "lora_target_modules",
        "gradient_checkpointing",
        "evals_per_epoch",
        "max_steps",
    ]
)


@given(st.dictionaries(KEYS, reading.TREES, max_size=12))
def test_nothing_is_raised(config: dict[str, Any]) -> None:
    """Whatever the values are: facts are plain values with names of their own."""
    reading.raises_nothing(axolotl.read, config)


def test_anything_but_a_mapping() -> None:
    """A list or a text gives no settings."""
    assert axolotl.read(Node([], 1), "a.yaml").settings == ()
    assert not axolotl.is_kind(Node(None, 1))


def test_secrets_are_left_out() -> None:
    """A token that stands in the file is not repeated."""
    found = values("base_model: org/m\nsequence_len: 512\nhub_token: hf_abcdefghijklmnopqrstuvwxyz\n")
    assert not [name for name, value in found.items() if "hf_abc" in str(value)]


@pytest.mark.parametrize("flag", ["true", "false"])
def test_a_flag_is_no_secret(flag: str) -> None:
    """A rule asks whether the login is to be used."""
    found = values(f"base_model: org/m\nsequence_len: 512\nhf_use_auth_token: {flag}\n")
    assert found["training.axolotl.hf_use_auth_token"] == flag


def test_published_configurations_are_known() -> None:
    """Where the published configurations are: every one but that of a cloud is taken for Axolotl's."""
    folder = Path(__file__).parents[4] / "shared" / "corpus" / "training_configs" / "axolotl"
    if not folder.is_dir():
        pytest.skip("the published configurations are not here")
    other = [
        path.name
        for path in sorted(folder.glob("*.y*ml"))
        if not axolotl.is_kind(yamlfile.load(str(path)).documents[0])
    ]
    assert other == ["examples__cloud__modal.yaml"]
