"""The numbers that a config.json tells, under any spelling, of the language model in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.sources.checkpoint import config as configs
from tests.sources.checkpoint.folders import LLAMA, llama, told, write_json


def facts(value: dict[str, Any]) -> dict[str, Any]:
    return {fact.name: fact.value for fact in configs.facts(value, "x/config.json")}


def test_a_plain_config_tells_its_numbers() -> None:
    """Each under the name that others rely on."""
    found = facts(LLAMA)
    assert {
        "model.type": "llama",
        "model.architecture": "LlamaForCausalLM",
        "model.hidden_size": 64,
        "model.layers": 2,
        "model.heads": 4,
        "model.kv_heads": 2,
        "model.head_dim": 16,
        "model.vocab_size": 128,
        "model.positions": 4096,
        "model.dtype": "bfloat16",
        "model.tied": False,
        "model.attention": "gqa",
        "model.remote_code": False,
    }.items() <= found.items()


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ({"model_type": "gpt2", "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}, {"hidden_size": 32, "layers": 3, "heads": 4, "kv_heads": 4, "positions": 64, "attention": "mha"}),
        ({"model_type": "bloom", "n_embed": 14336, "n_layer": 70, "num_attention_heads": 112}, {"hidden_size": 14336, "layers": 70, "heads": 112, "head_dim": 128}),
        ({"model_type": "falcon", "hidden_size": 64, "num_attention_heads": 8, "num_hidden_layers": 2, "multi_query": True}, {"kv_heads": 1, "attention": "mqa"}),
        ({"model_type": "chatglm", "hidden_size": 64, "num_attention_heads": 8, "num_layers": 2, "multi_query_attention": True, "multi_query_group_num": 2, "kv_channels": 8, "padded_vocab_size": 99}, {"kv_heads": 2, "head_dim": 8, "vocab_size": 99, "layers": 2}),
        ({"model_type": "deepseek_v3", "hidden_size": 64, "num_attention_heads": 8, "num_hidden_layers": 2, "kv_lora_rank": 16}, {"attention": "mla"}),
        ({"model_type": "qwen3_next", "hidden_size": 64, "num_attention_heads": 8, "num_hidden_layers": 2, "layer_types": ["linear_attention", "full_attention"]}, {"attention": "hybrid"}),
        ({"model_type": "mixtral", "hidden_size": 64, "num_attention_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2}, {"experts": 8, "experts_per_token": 2}),
        ({"model_type": "qwen2", "hidden_size": 64, "num_attention_heads": 8, "sliding_window": 128, "use_sliding_window": False}, {"sliding_window": None}),
    ],
)  # fmt: skip
def test_other_spellings_tell_the_same(value: dict[str, Any], wanted: dict[str, Any]) -> None:
    """GPT-2, Falcon, ChatGLM, DeepSeek, hybrids and mixtures each write their own keys."""
    found = facts(value)
    assert {name: found.get(f"model.{name}") for name in wanted} == wanted


def test_what_is_left_out_is_its_class_s_default() -> None:
    """Gemma's heads have 256 dimensions, and its embeddings are tied, unless the file says otherwise."""
    found = facts({"model_type": "gemma", "hidden_size": 2048, "num_attention_heads": 8, "num_hidden_layers": 18})
    assert (found["model.head_dim"], found["model.tied"]) == (256, True)


@pytest.mark.parametrize("path", [("text_config",), ("llm_config",), ("thinker_config", "text_config")])
def test_the_language_model_inside_is_told(path: tuple[str, ...]) -> None:
    """Of a model that sees or hears too."""
    inner: dict[str, Any] = LLAMA
    for key in reversed(path):
        inner = {key: inner, "model_type": "outer"}
    found = facts({**inner, "vision_config": {"hidden_size": 8}, "architectures": ["OuterForConditionalGeneration"]})
    assert found["model.hidden_size"] == 64
    assert found["model.text_type"] == "llama"
    assert (found["model.type"], found["model.multimodal"]) == ("outer", True)


@pytest.mark.parametrize(("key", "value"), [("dtype", "float16"), ("torch_dtype", "torch.float16")])
def test_dtype_is_read_from_either_key(key: str, value: str) -> None:
    """transformers writes `dtype` since 4.56."""
    assert facts({**llama(torch_dtype=...), key: value})["model.dtype"] == "float16"


def test_the_whole_way_from_a_folder(tmp_path: Path) -> None:
    """The origin names the file below the model's folder."""
    from diagnose.model import Fact
    from diagnose.sources import checkpoint

    write_json(tmp_path / "x" / "config.json", LLAMA)
    origins = {r.name: r.origin for r in checkpoint.read("x", {}, str(tmp_path)) if isinstance(r, Fact)}
    assert origins["model.hidden_size"] == "x/config.json"
    assert told("x", folder=tmp_path)["config.found"] is True


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    sorted(
        {
            *LLAMA, "text_config", "thinker_config", "rope_scaling", "rope_parameters", "layer_types", "quantization_config",
            "auto_map", "num_experts", "num_experts_per_tok", "n_group", "kv_lora_rank", "sliding_window", "head_dim", "dtype",
            "multi_query", "attn_config", "original_max_position_embeddings", "partial_rotary_factor", "model_max_length",
            "pad_token_id", "quantization", "compression_config", "vision_config",
        }
    )
)  # fmt: skip


@given(st.dictionaries(KEYS, JSON, max_size=8))
def test_any_value_anywhere_gives_facts(tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any]) -> None:
    """No value of a key ends in an exception, and every fact is in the catalogue with a plain value."""
    from diagnose.facts import describe

    folder = tmp_path_factory.mktemp("odd")
    write_json(folder / "config.json", {**LLAMA, **changes})
    write_json(folder / "generation_config.json", changes)
    write_json(folder / "adapter_config.json", changes)
    for name, value in told(folder).items():
        assert describe(name) is not None, name
        assert isinstance(value, (str, int, float, bool)), name


@given(st.dictionaries(KEYS, st.dictionaries(KEYS, JSON, max_size=4), max_size=4))
def test_any_nesting_gives_facts(value: dict[str, Any]) -> None:
    """Also where the language model's part is anything."""
    from diagnose.sources.checkpoint import consistency, rope

    text = configs.text_part(value)
    merged = configs.with_defaults(value, text)
    assert list(configs.facts(value, "x"))
    list(rope.facts(text.value, merged, "x"))
    list(consistency.facts(value, text, merged, "x"))
