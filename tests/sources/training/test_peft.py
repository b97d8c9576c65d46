"""Adapters and quantization as blocks and files of their own."""

from __future__ import annotations

import pytest

from diagnose.sources.training import peft, quantization
from tests.sources.training.reading import node, owners, values


def test_lora_is_told_under_the_common_names() -> None:
    """A LoraConfig in a file."""
    text = "peft_type: LORA\nr: 16\nlora_alpha: 32\nlora_dropout: 0.1\ntarget_modules: [q, v]\nuse_dora: true\nmodules_to_save: [lm_head]\n"
    found = peft.read(node(text), "a.json")
    assert values(found) == {
        "training.method": "lora",
        "training.lora.rank": 16,
        "training.lora.alpha": 32,
        "training.lora.dropout": 0.1,
        "training.lora.dora": True,
        "training.lora.saved_modules": "lm_head",
        "training.lora.targets": "q,v",
    }
    assert set(owners(found).values()) == {"peft.LoraConfig"}


@pytest.mark.parametrize(("targets", "pattern"), [("all-linear", False), ("q_proj", True), ("'.*_proj'", True)])
def test_one_text_is_a_pattern(targets: str, pattern: bool) -> None:
    """PEFT takes a text for a regular expression, but for one word."""
    assert (
        values(peft.read(node(f"r: 1\ntarget_modules: {targets}\n"), "a"))["training.lora.targets_pattern"] is pattern
    )


def test_other_adapters_are_told_as_such() -> None:
    """Of IA3 only that it is no LoRA."""
    found = peft.read(node("peft_type: IA3\ntarget_modules: [k]\n"), "a")
    assert values(found) == {"training.method": "other-adapter", "training.lora.targets": "k"}
    assert owners(found)["target_modules"] == "peft.IA3Config"


def test_tokens_that_are_trained_are_told() -> None:
    """A list of ids, or of ids by module."""
    assert (
        values(peft.read(node("r: 1\nbias: none\ntrainable_token_indices: [1, 2]\n"), "a"))[
            "training.lora.trainable_tokens"
        ]
        is True
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("load_in_4bit: true", "4bit"),
        ("load_in_8bit: true", "8bit"),
        ("load_in_4bit: false", "none"),
        ("quant_method: gptq\nbits: 4", "gptq"),
        ("quant_method: bitsandbytes\nload_in_8bit: true", "8bit"),
    ],
)
def test_quantization_is_told(text: str, value: str) -> None:
    """How the base is quantized, in one word."""
    assert values(quantization.read(node(text), "q"))["training.quantization"] == value


def test_its_details_are_told() -> None:
    """Type, double quantization, and the type that is computed in."""
    text = "load_in_4bit: true\nbnb_4bit_quant_type: nf4\nbnb_4bit_use_double_quant: true\nbnb_4bit_compute_dtype: bfloat16\n"
    found = quantization.read(node(text), "q")
    assert values(found)["training.quantization_type"] == "nf4"
    assert values(found)["training.quantization_double"] is True
    assert values(found)["training.quantization_compute"] == "bfloat16"
    assert set(owners(found).values()) == {"transformers.BitsAndBytesConfig"}
