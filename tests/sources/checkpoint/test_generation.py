"""What generation_config.json tells generation."""

from __future__ import annotations

from typing import Any

import pytest

from diagnose.sources.checkpoint import config as configs
from diagnose.sources.checkpoint import generation
from tests.sources.checkpoint.folders import llama


def facts(**changes: Any) -> dict[str, Any]:
    config = llama()
    value = {"eos_token_id": 2, **changes}
    told = generation.facts(value, config, configs.text_part(config), "x/generation_config.json")
    return {fact.name: fact.value for fact in told}


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ({"do_sample": True, "temperature": 0}, "temperature"),
        ({"do_sample": True, "temperature": "0.7"}, "temperature"),
        ({"temperature": -1.0}, "temperature"),
        ({"top_p": 90}, "top_p"),
        ({"do_sample": True, "top_k": -2}, "top_k"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"num_return_sequences": 3}, "num_return_sequences"),
        ({"num_return_sequences": 3, "num_beams": 2}, "num_return_sequences"),
        ({"eos_token_id": "2"}, "eos_token_id"),
    ],
)
def test_a_value_that_generation_refuses_is_told(value: dict[str, Any], key: str) -> None:
    """By transformers or by vLLM."""
    assert facts(**value)["generation.wrong.0.key"] == key


@pytest.mark.parametrize(
    "value",
    [
        {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95},
        {"temperature": 0.0},
        {"top_k": 0},
        {"do_sample": True, "num_return_sequences": 3},
        {"num_beams": 4, "num_return_sequences": 2},
        {"pad_token_id": None, "eos_token_id": [1, 2]},
    ],
)
def test_a_value_that_it_takes_is_not(value: dict[str, Any]) -> None:
    """Published files write all of these."""
    assert not [name for name in facts(**value) if name.startswith("generation.wrong")]


def test_sampling_flags_without_sampling_have_no_effect() -> None:
    """Their neutral values do not count."""
    assert facts(temperature=0.9, top_p=0.6)["generation.without_effect"] == "temperature, top_p"
    assert facts(temperature=1.0, top_k=50)["generation.without_effect"] == "none"
    assert "generation.without_effect" not in facts(do_sample=True, temperature=0.9)


def test_end_tokens_are_held_against_the_config() -> None:
    """generate() takes them from this file alone."""
    assert facts(eos_token_id=None)["generation.has_eos"] is False
    assert facts()["generation.eos_of_config"] is True
    assert facts(eos_token_id=[7, 8])["generation.eos_of_config"] is False
    assert facts(eos_token_id=[2, 500])["token_id.generation-eos.beyond"] == 1


def test_vllm_s_word_for_all_tokens_is_told_apart() -> None:
    """generate() refuses it, vLLM takes it; 0 is right for both."""
    assert facts(do_sample=True, top_k=-1)["generation.top_k_all"] is True
    assert "generation.wrong.0.key" not in facts(do_sample=True, top_k=-1)
    assert "generation.top_k_all" not in facts(do_sample=True, top_k=0) | facts(do_sample=False, top_k=-1)
