"""The table of modules holds what its command writes: names with `#` for numbers, of the model types that people tune."""

from __future__ import annotations

import re
from typing import Any

from diagnose.places import table
from diagnose.sources.settings import words

COMMON = words(
    """
    llama mistral mixtral qwen2 qwen2_moe qwen3 qwen3_moe qwen3_next qwen3_5 qwen2_vl qwen2_5_vl qwen3_vl gemma gemma2 gemma3
    gemma3_text phi phi3 gpt2 gpt_neox gpt_oss gptj opt bloom falcon mpt starcoder2 granite granitemoe olmo olmo2 olmoe cohere
    cohere2 glm glm4 glm4_moe deepseek_v2 deepseek_v3 llama4 llama4_text nemotron stablelm smollm3 exaone4 seed_oss ernie4_5
    jamba mamba mamba2 falcon_h1 lfm2 minimax_m2 mistral3 llava idefics3 mllama bamba helium arcee apertus t5 bart
    """
)


def rows() -> dict[str, list[dict[str, Any]]]:
    """The rows by model type."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in table("training", "modules.json")["rows"]:
        found.setdefault(row["type"], []).append(row)
    return found


def test_the_table_has_the_types_that_people_tune() -> None:
    """Sixty model types and more, each with linear modules and the class that they are of."""
    found = rows()
    assert [kind for kind in sorted(COMMON) if kind not in found] == []
    assert all(row["class"] and row["linear"] for some in found.values() for row in some)


def test_numbers_stand_as_a_sign() -> None:
    """No layer or expert is listed one by one."""
    numbered = re.compile(r"(?:^|\.)\d+(?:\.|$)")
    names = [
        name
        for some in rows().values()
        for row in some
        for part in ("linear", "others", "stacked")
        for name in row.get(part, ())
    ]
    assert [name for name in names if numbered.search(name)] == []


def test_a_known_model_is_told_as_it_is() -> None:
    """Llama's seven projections, its ends and its layer class."""
    (llama,) = rows()["llama"]
    ends = {name.rpartition(".")[2] for name in llama["linear"]}
    assert ends == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"}
    assert (llama["output"], llama["embedding"]) == ("lm_head", "model.embed_tokens")
    assert (llama["unsplit"], llama["default_targets"]) == (["LlamaDecoderLayer"], ["q_proj", "v_proj"])
    assert "LlamaDecoderLayer" in llama["classes"]
