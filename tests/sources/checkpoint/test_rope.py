"""Rotary positions in a config, in the forms of all releases."""

from __future__ import annotations

from typing import Any

import pytest

from diagnose.sources.checkpoint import config as configs
from diagnose.sources.checkpoint import rope
from tests.sources.checkpoint.folders import llama


def facts(**changes: Any) -> dict[str, Any]:
    value = llama(**changes)
    text = configs.text_part(value)
    return {fact.name: fact.value for fact in rope.facts(text.value, configs.with_defaults(value, text), "x")}


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}


@pytest.mark.parametrize(
    ("changes", "kind", "context"),
    [
        ({}, None, 4096),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "linear", 8192),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "dynamic", 8192),
        ({"rope_scaling": YARN}, "yarn", 4096),
        ({"rope_scaling": {**YARN, "original_max_position_embeddings": 4096}}, "yarn", 16384),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 512}}, "llama3", 4096),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e6}}, "linear", 8192),
        ({"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2.0}, "sliding_attention": {"rope_type": "default"}}}, "linear", 8192),
        ({"model_type": "gemma3_text", "rope_scaling": {"rope_type": "linear", "factor": 8.0}}, "linear", 4096),
        ({"model_max_length": 8192}, None, 8192),
        ({"seq_length": 1024}, None, 1024),
    ],
)  # fmt: skip
def test_kind_and_longest_context(changes: dict[str, Any], kind: str | None, context: int) -> None:
    """As vLLM derives it, of the longer one where its releases differ."""
    found = facts(**changes)
    assert (found.get("model.rope_type"), found["model.context"]) == (kind, context)


@pytest.mark.parametrize(
    ("values", "name", "value"),
    [
        ({"type": "linear"}, "rope.missing", "factor"),
        ({"rope_type": "llama3", "factor": 8.0}, "rope.missing", "low_freq_factor, high_freq_factor"),
        ({"rope_type": "longrope", "short_factor": [1.0] * 8}, "rope.missing", "long_factor"),
        (YARN, "rope.missing", "none"),
        ({"rope_type": "yarnn", "factor": 2.0}, "rope.kind_known", False),
        ({"type": "mrope", "mrope_section": [2, 3, 3]}, "rope.kind_known", True),
        ({"type": "linear", "factor": "2.0"}, "rope.factor_is_number", False),
        ({"type": "linear", "factor": 0.5}, "rope.factor_below_one", True),
        ({"type": "linear", "rope_type": "dynamic", "factor": 2.0}, "rope.kinds_agree", False),
        ({"type": "su", "rope_type": "longrope"}, "rope.kinds_agree", True),
        ({"rope_type": "longrope", "short_factor": [1.0] * 3, "long_factor": [1.0] * 8}, "rope.list_length", 3),
        ({"rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [1.0] * 8}, "rope.list_length", 8),
        ({**YARN, "original_max_position_embeddings": "1024"}, "rope.original_is_number", False),
        ({**YARN, "factor": 8.0}, "rope.factor_agrees", False),
        (YARN, "rope.factor_agrees", True),
        ({**YARN, "original_max_position_embeddings": 4096}, "rope.factor_agrees", True),
    ],
)
def test_what_is_wrong_with_the_parameters_is_told(values: dict[str, Any], name: str, value: Any) -> None:
    """As transformers validates and computes them."""
    assert facts(rope_scaling=values)[name] == value


def test_a_base_that_transformers_4_does_not_see_is_told() -> None:
    """It looks beside rope_parameters only; its class's own base does no harm."""
    new = {"rope_type": "default", "rope_theta": 1e6}
    lost = facts(rope_theta=..., rope_parameters=new)
    assert (lost["rope.theta_lost_before_5"], lost["rope.theta_before_5"], lost["rope.theta"]) == (True, 10000.0, 1e6)
    assert facts(rope_theta=..., model_type="mixtral", rope_parameters=new)["rope.theta_lost_before_5"] is False
    assert "rope.theta_lost_before_5" not in facts(rope_theta=1e6, rope_parameters=new)
    assert facts(rope_scaling=YARN)["rope.form"] == "rope_scaling"
