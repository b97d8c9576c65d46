"""Values of a wrong type, and numbers that do not go together."""

from __future__ import annotations

from typing import Any

import pytest

from diagnose.sources.checkpoint import config as configs
from diagnose.sources.checkpoint import consistency
from tests.sources.checkpoint.folders import llama


def facts(value: dict[str, Any]) -> dict[str, Any]:
    text = configs.text_part(value)
    merged = configs.with_defaults(value, text)
    return {fact.name: fact.value for fact in consistency.facts(value, text, merged, "x/config.json")}


def wrong(value: dict[str, Any]) -> dict[str, str]:
    """Key → what it wants."""
    found = facts(value)
    return {
        str(key): str(found[name.replace(".key", ".wants")])
        for name, key in found.items()
        if name.startswith("config.wrong.") and name.endswith(".key")
    }


@pytest.mark.parametrize(
    ("key", "value", "wants"),
    [
        ("hidden_size", "64", "a whole number"),
        ("hidden_size", 64.0, "a whole number"),
        ("num_hidden_layers", None, "a whole number"),
        ("num_hidden_layers", 0, "a number above 0"),
        ("vocab_size", -1, "a number above 0"),
        ("num_key_value_heads", True, "a whole number"),
        ("max_position_embeddings", "4096", "a whole number"),
        ("rms_norm_eps", "1e-5", "a number"),
        ("tie_word_embeddings", "false", "true or false"),
        ("eos_token_id", "2", "a whole number, or a list of them"),
        ("eos_token_id", [2, "3"], "a whole number, or a list of them"),
        ("bos_token_id", "1", "a whole number"),
        ("architectures", "LlamaForCausalLM", "a list of class names"),
        ("torch_dtype", 16, "the name of a dtype"),
        ("rope_scaling", "linear", "an object"),
    ],
)
def test_a_value_of_a_wrong_type_is_told(key: str, value: Any, wants: str) -> None:
    """With what it should be."""
    assert wrong(llama(**{key: value})) == {key: wants}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_key_value_heads", None),
        ("num_key_value_heads", [2, 2]),
        ("eos_token_id", [1, 2]),
        ("eos_token_id", None),
        ("max_position_embeddings", 1e6),
        ("rope_theta", 1000000),
        ("rms_norm_eps", {"__float__": "Infinity"}),
        ("rope_scaling", None),
        ("architectures", None),
        ("head_dim", None),
        ("torch_dtype", None),
    ],
)
def test_what_published_models_write_is_not(key: str, value: Any) -> None:
    """Lists a layer, nulls, whole numbers where a fraction may stand."""
    assert wrong(llama(**{key: value})) == {}


def test_a_wrong_value_inside_says_where() -> None:
    """The keys that lead to it stand before it; beside it numbers may be empty."""
    outer = {"model_type": "llava", "text_config": llama(hidden_size="64"), "hidden_size": None}
    assert wrong(outer) == {"text_config.hidden_size": "a whole number"}


@pytest.mark.parametrize(
    ("changes", "name", "value"),
    [
        ({"num_attention_heads": 5, "num_key_value_heads": 5}, "model.heads_divide", False),
        ({}, "model.heads_divide", True),
        ({"num_attention_heads": 5, "num_key_value_heads": 5, "head_dim": 16}, "model.heads_divide", None),
        ({"num_key_value_heads": 3}, "model.kv_heads_divide", False),
        ({"num_key_value_heads": 8}, "model.kv_heads_divide", False),
        ({"num_key_value_heads": 0}, "model.kv_heads_divide", False),
        ({}, "model.kv_heads_divide", True),
        ({"layer_types": ["full_attention"]}, "model.layer_types_fit", False),
        ({"layer_types": ["full_attention"] * 2}, "model.layer_types_fit", True),
        ({"layer_types": ["full", "full_attention"]}, "model.layer_type_unknown", "full"),
        ({"num_local_experts": 2, "num_experts_per_tok": 4}, "model.experts_fit", False),
        ({"n_routed_experts": 8, "n_group": 3}, "model.expert_groups_divide", False),
        ({"hidden_act": "silux"}, "model.activation_known", False),
        ({"hidden_act": "swiglu"}, "model.activation_known", None),
        ({"torch_dtype": "bf16"}, "model.dtype_known", False),
        ({"torch_dtype": "torch.bfloat16"}, "model.dtype_known", False),
        ({"torch_dtype": "int8"}, "model.dtype_known", False),
        ({"architectures": []}, "model.architectures", 0),
        ({"architectures": ["MistralForCausalLM"]}, "model.architecture_fits", False),
        ({"architectures": ["MllamaForCausalLM"], "model_type": "mllama_text_model"}, "model.architecture_fits", True),
        (
            {"architectures": ["Qwen3_5MoeForConditionalGeneration"], "model_type": "qwen3_5_moe_text"},
            "model.architecture_fits",
            False,
        ),
        ({"architectures": ["MistralForCausalLM"]}, "model.architecture_type", "mistral"),
        ({"architectures": ["OwnForCausalLM"]}, "model.architecture_fits", None),
        ({"quantization_config": None}, "model.quantization_null", True),
        ({"pad_token_id": 128}, "token_id.config-pad.beyond", 1),
        ({"pad_token_id": 128}, "token_id.config-pad.first_beyond", 128),
        ({"pad_token_id": -1}, "token_id.config-pad.beyond", 0),
        ({"pad_token_id": -1}, "token_id.config-pad.negative", 1),
        ({"eos_token_id": [2, 500, 600]}, "token_id.config-eos.beyond", 2),
    ],
)
def test_numbers_are_held_against_each_other(changes: dict[str, Any], name: str, value: Any) -> None:
    """And nothing is told where a rule of the architecture may be another."""
    assert facts(llama(**changes)).get(name) == value


def test_latent_attention_has_no_such_heads() -> None:
    """DeepSeek's heads do not divide its width, and need not."""
    value = llama(model_type="deepseek_v3", num_attention_heads=5, kv_lora_rank=16, num_key_value_heads=5)
    assert "model.heads_divide" not in facts(value)
    assert "model.kv_heads_divide" not in facts(value)


def test_a_config_with_many_wrong_values_stays_short() -> None:
    """Twenty are enough to see."""
    value = llama(**dict.fromkeys(consistency.WHOLE, "x"))
    assert len(wrong(value)) == consistency.MOST_WRONG
