"""torchtune's configurations: components, ${…}, and what they mean under common names."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.sources import yamlfile
from diagnose.sources.training import torchtune
from diagnose.sources.training.parsed import Parsed
from tests.sources.training import reading

TEXT = """\
output_dir: /runs/one
base: /models/llama
model:
  _component_: torchtune.models.llama3_1.qlora_llama3_1_8b
  lora_attn_modules: [q_proj, output_proj]
  lora_rank: 8
  lora_alpha: 16
tokenizer:
  _component_: torchtune.models.llama3.llama3_tokenizer
  path: ${base}/tokenizer.model
  max_seq_len: 2048
checkpointer:
  _component_: torchtune.training.FullModelHFCheckpointer
  checkpoint_dir: ${base}
  checkpoint_files: [model-1.safetensors, model-2.safetensors]
  output_dir: ${output_dir}
  model_type: LLAMA3
resume_from_checkpoint: False
dataset:
  _component_: torchtune.datasets.chat_dataset
  source: json
  data_files: data/chats.jsonl
  packed: True
batch_size: 2
epochs: 1
optimizer:
  _component_: torch.optim.AdamW
  lr: 3e-4
lr_scheduler:
  _component_: torchtune.training.lr_schedulers.get_cosine_schedule_with_warmup
  num_warmup_steps: 100
loss:
  _component_: torchtune.modules.loss.CEWithChunkedOutputLoss
dtype: bf16
device: cuda
enable_activation_checkpointing: True
"""


def parsed(text: str) -> Parsed:
    return torchtune.read(reading.node(text), "t.yaml")


def values(text: str) -> dict[str, Any]:
    return reading.values(parsed(text))


def test_settings_under_common_names() -> None:
    """The method follows from the builder of the model, 16-bit training is of everything, places are filled in."""
    found = values(TEXT)
    expected = {
        "training.framework": "torchtune",
        "training.task": "sft",
        "training.method": "qlora",
        "training.quantization": "4bit",
        "training.model": "/models/llama",
        "training.tokenizer": "/models/llama/tokenizer.model",
        "training.max_length": 2048,
        "training.packing": True,
        "training.batch": 2,
        "training.learning_rate": 0.0003,
        "training.scheduler": "cosine",
        "training.warmup_steps": 100,
        "training.optimizer": "AdamW",
        "training.precision": "bf16",
        "training.load_dtype": "bfloat16",
        "training.on_cpu": False,
        "training.accumulation": 1,
        "training.dataset.0.path": "data/chats.jsonl",
        "training.dataset.0.format": "chat_dataset",
        "training.torchtune.checkpointer_output_dir": "/runs/one",
        "training.torchtune.checkpoint_file_count": "2",
    }
    assert {name: found.get(name) for name in expected} == expected
    assert [(item.path, item.kind) for item in parsed(TEXT).refers] == [("data/chats.jsonl", "data")]


def test_its_module_names_are_not_those_of_transformers() -> None:
    """torchtune calls a layer output_proj, so nothing is told of target modules under the common name."""
    assert "training.lora.targets" not in values(TEXT)


@pytest.mark.parametrize(
    ("given_", "found"),
    [
        ("a: ${b}\nb: ${c}\nc: 4\n", 4),
        ("a: ${b}/x\nb: y\n", "y/x"),
        ("a: ${a}\n", "${a}"),
        ("a: ${b}\nb: ${a}\n", "${b}"),
        ("a: ${missing}\n", "${missing}"),
        ("a: ${oc.env:HOME}\n", "${oc.env:HOME}"),
    ],
)
def test_places_are_filled_in(given_: str, found: object) -> None:
    """A place takes the value of the key that it names, through others too; a circle or an unknown name stays as it is."""
    text = f"model:\n  _component_: torchtune.models.llama3.llama3_8b\n{given_}"
    assert next(item.value for item in parsed(text).settings if item.key == "a") == found


def test_places_that_grow_stay_small() -> None:
    """Each place names two others: the text is cut."""
    lines = ["model:", "  _component_: torchtune.models.llama3.llama3_8b"]
    lines += [f"a{number}: ${{a{number + 1}}}${{a{number + 1}}}${{a{number + 1}}}" for number in range(40)]
    lines.append("a40: " + "x" * 300)
    assert all(len(str(item.value)) <= torchtune.LONGEST for item in parsed("\n".join(lines)).settings)


def test_a_configuration_for_generation_is_no_training() -> None:
    """Without an optimizer nothing is trained."""
    found = values("model:\n  _component_: torchtune.models.llama3.llama3_8b\ndtype: bf16\n")
    assert found["training.task"] == "inference"
    assert "training.method" not in found


def test_what_is_a_configuration_of_torchtune() -> None:
    """A part that names its component."""
    assert torchtune.is_kind(yamlfile.parse(TEXT.encode()).documents[0])
    assert not torchtune.is_kind(yamlfile.parse(b"model: m\noptimizer: adamw\n").documents[0])
    assert not torchtune.is_kind(yamlfile.parse(b"- 1\n").documents[0])


TREES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["${a}", "${dtype}", "${model.a}"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=8) | st.sampled_from(["_component_", "lr", "data_files", "source"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
KEYS = st.sampled_from(
    ["model", "tokenizer", "dataset", "optimizer", "loss", "lr_scheduler", "checkpointer", "dtype", "device", "a"]
)


@given(st.dictionaries(KEYS, TREES, max_size=10))
def test_nothing_is_raised(config: dict[str, Any]) -> None:
    """Whatever the values are: facts are plain values with names of their own."""
    reading.raises_nothing(torchtune.read, config)
