"""The arithmetic of memory: equal to what was measured of real models, and unknown rather than wrong."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose import facts as catalogue
from diagnose import memory
from diagnose.memory.cache import cache_groups
from diagnose.memory.parameters import TRAITS, parameters
from diagnose.memory.stored import LLAMA_CPP, PLAIN, STATIC, TRANSFORMERS, sequence_bytes, value_bytes, vllm

_FILE = json.loads((Path(__file__).parent / "real" / "measured.json").read_text())
MEASURED, WHOLE = _FILE["rows"], _FILE["full"]
DEEPSEEK_V3 = {
    "model_type": "deepseek_v3",
    "hidden_size": 7168,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
}
LLAMA_3_8B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


def differences(row: dict[str, Any]) -> list[str]:
    """Where our arithmetic differs from a row that tests/real/measure.py measured."""
    groups, size = cache_groups(row["given"]), row["value_bytes"]
    if not groups:
        return [f"{row['type']}: no cache groups"]
    found = []
    for length, real in row["dynamic"]:
        ours = sequence_bytes(groups, length, size, TRANSFORMERS, encoder_tokens=row["encoder"])
        found += [f"{row['type']}: {length} tokens take {real} bytes, not {ours}"] if ours != real else []
    for length, real in row["half"]:
        ours = sequence_bytes(groups, length, 2, TRANSFORMERS, encoder_tokens=row["encoder"])
        found += [f"{row['type']}: {length} tokens in bfloat16 take {real} bytes, not {ours}"] if ours != real else []
    for length, real in row["static"]:
        ours = sequence_bytes(groups, length, size, STATIC)
        found += [f"{row['type']}: room for {length} tokens takes {real} bytes, not {ours}"] if ours != real else []
    count = parameters(row["given"])
    if count is not None and count != row["parameters"]:
        found.append(f"{row['type']}: {row['parameters']} parameters, not {count}")
    return found


@pytest.mark.parametrize("row", MEASURED, ids=lambda row: f"{row['type']}{'-text-to-text' * bool(row['encoder'])}")
def test_equals_what_was_measured_of_the_real_library(row: dict[str, Any]) -> None:
    """Cache bytes at several lengths within and beyond windows, and parameters, are those of the real tiny model."""
    assert differences(row) == []


@pytest.mark.parametrize("row", WHOLE, ids=lambda row: row["given"]["model_type"])
def test_parameters_of_models_of_full_size_are_the_librarys(row: dict[str, Any]) -> None:
    """In the size that a configuration class has as default, counted on the meta device."""
    assert parameters(row["given"]) == row["parameters"]


_LLAMA = {"model_type": "llama", "vocab_size": 128256, "num_key_value_heads": 8}
_QWEN2 = {"model_type": "qwen2", "vocab_size": 152064, "tie_word_embeddings": False}
_QWEN3 = {"model_type": "qwen3", "vocab_size": 151936, "tie_word_embeddings": True, "num_key_value_heads": 8}


def _shapes(hidden: int, inner: int, layers: int, heads: int, **more: Any) -> dict[str, Any]:
    sizes = {"hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers}
    return sizes | {"num_attention_heads": heads} | more


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (_LLAMA | _shapes(4096, 14336, 32, 32), 8_030_261_248),
        (_LLAMA | _shapes(8192, 28672, 80, 64), 70_553_706_496),
        (_QWEN2 | _shapes(1024, 2816, 24, 16, vocab_size=151936, tie_word_embeddings=True), 463_987_712),
        (_QWEN2 | _shapes(2048, 5504, 24, 16, vocab_size=151936), 1_836_828_672),
        (_QWEN2 | _shapes(2560, 6912, 40, 20, vocab_size=151936, num_key_value_heads=20), 3_950_369_280),
        (_QWEN2 | _shapes(5120, 13824, 48, 40, num_key_value_heads=8), 14_770_033_664),
        (_QWEN2 | _shapes(8192, 24576, 80, 64, num_key_value_heads=64), 72_287_920_128),
        (_QWEN3 | _shapes(1024, 3072, 28, 16, head_dim=128), 596_049_920),
        (_QWEN3 | _shapes(2048, 6144, 28, 16, head_dim=128), 1_720_574_976),
        (_QWEN3 | _shapes(2560, 9728, 36, 32, head_dim=128), 4_022_468_096),
    ],
)
def test_parameters_of_published_models(config: dict[str, Any], count: int) -> None:
    """Llama 3, Qwen 1.5 and Qwen 3 in several sizes: as transformers counts them on the meta device."""
    assert (
        parameters({**config, "num_key_value_heads": config.get("num_key_value_heads", config["num_attention_heads"])})
        == count
    )


def test_at_least_ninety_caches_and_sixty_parameter_counts_are_proved() -> None:
    """The proof does not shrink unnoticed."""
    assert len(MEASURED) >= 124
    assert sum(parameters(row["given"]) is not None for row in MEASURED) >= 65
    assert len(WHOLE) >= 60


def test_llama_3_8b_keeps_128_kib_of_a_token() -> None:
    """2 × 8 heads × 128 values × 32 layers × 2 bytes; and it has 8,030,261,248 parameters, as its files have."""
    groups = cache_groups(LLAMA_3_8B)
    assert sequence_bytes(groups, 1, 2, PLAIN) == 128 * 1024
    assert parameters(LLAMA_3_8B) == 8_030_261_248


def test_mla_is_kept_compressed_or_expanded() -> None:
    """DeepSeek-V3: 512 + 64 values per token and layer compressed; 128 × (192 + 128) as transformers 4 kept it."""
    (group,) = cache_groups(DEEPSEEK_V3)
    assert (group.kind, group.values_per_token, group.expanded_per_token) == ("mla", 576, 128 * 320)
    whole = sequence_bytes([group], 1000, 2, PLAIN)
    assert whole == 1000 * 61 * 576 * 2
    assert sequence_bytes([group], 1000, 2, PLAIN, shards=8) == whole


def test_heads_are_shared_among_cards_and_repeated_beyond() -> None:
    """Eight key-value heads on 4 cards are two each; on 16 cards every card still keeps one."""
    groups = cache_groups(LLAMA_3_8B)
    whole = sequence_bytes(groups, 100, 2, PLAIN)
    shares = [sequence_bytes(groups, 100, 2, PLAIN, shards=count) for count in (1, 2, 4, 8, 16)]
    assert shares == [whole, whole // 2, whole // 4, whole // 8, whole // 8]


def test_blocks_and_windows_of_vllm() -> None:
    """17 tokens take two blocks of 16; a window keeps window − 1, the tokens in flight and one block more."""
    groups = cache_groups(LLAMA_3_8B)
    assert sequence_bytes(groups, 17, 2, vllm(2048)) == 32 * 128 * 1024
    mistral = {**LLAMA_3_8B, "model_type": "mistral", "sliding_window": 4096}
    kept = sequence_bytes(cache_groups(mistral), 32768, 2, vllm(2048))
    assert kept == (-(-(4096 + 2047) // 16) + 1) * 16 * 128 * 1024


@pytest.mark.parametrize(
    ("name", "size"),
    [("q8_0", Fraction(34, 32)), ("q4_0", Fraction(18, 32)), ("fp8_e4m3", 1), ("torch.bfloat16", 2), ("half", 2)],
)
def test_cache_dtypes_have_the_sizes_of_their_blocks(name: str, size: Fraction) -> None:
    """llama.cpp's quantized types carry their scales; engines' spellings mean the same."""
    assert value_bytes(name) == size


def test_a_dtype_that_nobody_knows_has_no_size() -> None:
    """Nothing is assumed for it."""
    assert value_bytes("turbo9") is None


def test_a_plain_decoder_of_an_unknown_type_gets_the_common_formula_marked_so() -> None:
    """Standard keys are enough, and the facts say that it was assumed."""
    config = {**LLAMA_3_8B, "model_type": "newllm"}
    assert sequence_bytes(cache_groups(config), 1, 2, PLAIN) == 128 * 1024
    assert all(group.assumed for group in cache_groups(config))
    told = {fact.name: fact.value for fact in memory.facts(config, "config.json")}
    assert told["model.cache.assumed"] is True
    assert "model.parameters" not in told


@pytest.mark.parametrize(
    "keys",
    [
        {"ssm_cfg": {"d_state": 16}},
        {"mamba_d_state": 64},
        {"cross_attention_layers": [3, 8]},
        {"num_kv_shared_layers": 10},
        {"layer_types": ["full_attention", "quantum_attention"]},
        {"linear_num_value_heads": 32},
        {"sliding_window": 4096},
        {"attention_chunk_size": 8192},
        {"interleaved_local_layers": 3},
    ],
)
def test_an_unknown_type_with_unusual_keys_stays_unknown(keys: dict[str, Any]) -> None:
    """No number rather than a wrong one."""
    assert cache_groups({**LLAMA_3_8B, "model_type": "newllm", **keys}) == ()


def test_a_window_of_a_type_whose_rule_was_not_measured_stays_unknown() -> None:
    """Unless the file lists the layers, or says that there is none."""
    beam = {**LLAMA_3_8B, "model_type": "beam", "sliding_window": 4096}
    assert cache_groups(beam) == ()
    assert len(cache_groups({**beam, "layer_types": ["full_attention", "sliding_attention"] * 16})) == 2
    assert len(cache_groups({**beam, "use_sliding_window": False})) == 1


def test_every_fact_stands_in_the_catalogue() -> None:
    """Names and types of all facts of all measured configs are those that rules may ask for."""
    kinds = {"number": (int,), "bytes": (int,), "flag": (bool,), "text": (str,)}
    for row in MEASURED:
        for fact in memory.facts(row["given"], "config.json"):
            kind = catalogue.describe(fact.name)
            assert kind is not None, fact.name
            assert type(fact.value) in kinds[kind.type], fact


def test_the_defaults_of_a_config_that_leaves_keys_out_are_its_classs() -> None:
    """Gemma 3 writes neither its heads nor their size: 5 of 6 layers keep a window of 1,024."""
    config = {
        "model_type": "gemma3",
        "text_config": {
            "model_type": "gemma3_text",
            "hidden_size": 2560,
            "num_hidden_layers": 34,
            "sliding_window": 1024,
        },
    }
    full, sliding = cache_groups(config)
    assert (full.layers, sliding.layers, sliding.window) == (5, 29, 1024)
    assert full.values_per_token == 2 * 4 * 256


_VALUES = st.none() | st.booleans() | st.integers(-5, 1 << 70) | st.floats() | st.text(max_size=5)
_NESTED = _VALUES | st.lists(_VALUES, max_size=3) | st.dictionaries(st.text(max_size=5), _VALUES, max_size=3)


@given(
    st.sampled_from(MEASURED),
    st.dictionaries(st.sampled_from(sorted({k for r in MEASURED for k in r["given"]})), _NESTED),
)
def test_nonsense_in_a_config_never_raises(row: dict[str, Any], keys: dict[str, Any]) -> None:
    """Whatever a key holds, the answer is numbers that make sense or nothing."""
    config = {**row["given"], **keys}
    for group in cache_groups(config):
        assert group.layers > 0
        assert group.values_per_token >= 0
        assert sequence_bytes([group], 100, 2, PLAIN) >= 0
    list(memory.facts(config, "x"))
    parameters(config)


@given(st.sampled_from(MEASURED), st.integers(1, 4000), st.integers(1, 300), st.sampled_from([1, 2, 4, 8]))
def test_more_tokens_never_take_less_and_more_cards_never_more(
    row: dict[str, Any], tokens: int, more: int, cards: int
) -> None:
    """Of any architecture, in any layout."""
    groups = cache_groups(row["given"])
    for layout in (TRANSFORMERS, STATIC, PLAIN, LLAMA_CPP, vllm(64)):
        whole = sequence_bytes(groups, tokens, 2, layout)
        assert sequence_bytes(groups, tokens + more, 2, layout) >= whole
        assert sequence_bytes(groups, tokens, 2, layout, shards=cards) <= whole


def test_counted_architectures_are_named_once_each() -> None:
    """The table of traits is not empty and its keys are model types."""
    assert len(TRAITS) > 55


def test_lists_and_counts_beyond_all_models_give_no_numbers() -> None:
    """And take no time: a million indices, a million layers."""
    assert cache_groups({"model_type": "lfm2", "full_attn_idxs": list(range(1_000_000))}) == ()
    assert cache_groups({**LLAMA_3_8B, "num_hidden_layers": 1_000_000}) == ()
    assert cache_groups({**LLAMA_3_8B, "layer_types": ["full_attention"] * 1_000_000}) == ()
