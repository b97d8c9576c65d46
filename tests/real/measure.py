"""Tiny random models of transformers → what their caches really take, and how many parameters they have.

`python -m tests.real.measure` writes tests/real/measured.json, which the quick suite compares our arithmetic with.
Each row holds only the keys that were given, so that the defaults of the configuration classes are proved too.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import warnings
from typing import Any

PLACE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "measured.json")
LENGTHS = (5, 8, 9, 21, 40)
ENCODED = 13

TINY: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "embedding_size", "word_embed_proj_dim", "lru_width"), 64),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers", "n_layers"), 6),
    **dict.fromkeys(("decoder_layers", "num_decoder_layers"), 4),
    "encoder_layers": 3,
    **dict.fromkeys(("num_attention_heads", "n_head", "num_heads", "n_heads"), 4),
    **dict.fromkeys(("decoder_attention_heads", "encoder_attention_heads"), 4),
    "num_key_value_heads": 2,
    "head_dim": 16,
    "d_kv": 16,
    "intermediate_size": 96,
    **dict.fromkeys(("decoder_ffn_dim", "encoder_ffn_dim", "ffn_dim", "d_ff"), 64),
    **dict.fromkeys(("n_inner", "ffn_hidden_size"), 128),
    "intermediate_size_mlp": 80,
    "moe_intermediate_size": 32,
    "moe_shared_expert_intermediate_size": 32,
    "shared_intermediate_size": 32,
    "shared_expert_intermediate_size": 48,
    "vocab_size": 100,
    "max_position_embeddings": 512,
    "n_positions": 512,
    "sliding_window": 8,
    "attention_window_size": 8,
    "attention_chunk_size": 8,
    "use_sliding_window": True,
    "max_window_layers": 2,
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    "num_experts_per_tok": 2,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
    "kv_lora_rank": 24,
    "q_lora_rank": 32,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    "index_head_dim": 16,
    "index_n_heads": 2,
    "index_topk": 8,
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_d_state": 16,
    "mamba_n_groups": 1,
    "mamba_d_ssm": 128,
    "mamba_num_heads": 8,
    "mamba_head_dim": 16,
    "ssm_state_size": 16,
    "state_size": 16,
    "n_groups": 1,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "hidden_size_per_layer_input": 16,
    "vocab_size_per_layer_input": 100,
    "laurel_rank": 8,
    "num_kv_shared_layers": 2,
    "global_head_dim": 32,
    "rotary_dim": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""Small values of keys; a type is given those of them that its configuration class has."""


def _rope(*sections: int) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": list(sections)}


_LATENT = {"head_dim": 8, "num_key_value_heads": 4}
OWN: dict[str, dict[str, Any]] = {
    "mamba2": {"num_heads": 8},
    "gptj": {"rotary_dim": 4},
    "codegen": {"rotary_dim": 4},
    "gemma3n_text": {"num_hidden_layers": 7},
    "gemma4_text": {"num_hidden_layers": 8},
    "jamba": {"num_hidden_layers": 9},
    "bamba": {"attn_layer_indices": [1, 3]},
    "lfm2": {"full_attn_idxs": [1, 3], "layer_types": None},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 3},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 3},
    "nemotron_h": {"hybrid_override_pattern": "M*M-E*"},
    "falcon": {"multi_query": True},
    **dict.fromkeys(
        (
            "deepseek_v2",
            "deepseek_v3",
            "deepseek_v32",
            "minicpm3",
            "glm4_moe_lite",
            "youtu",
            "axk1",
            "glm_moe_dsa",
            "mistral4",
            "sarvam_mla",
        ),
        _LATENT,
    ),
    **{key: {"rope_parameters": _rope(2, 3, 3)} for key in ("qwen2_vl_text", "qwen2_5_vl_text")},
    **{
        key: {"rope_parameters": _rope(2, 1, 1) | {"partial_rotary_factor": 0.5}}
        for key in ("glm4v_text", "glm4v_moe_text")
    },
    "longcat_flash": {
        **_LATENT,
        "num_layers": 3,
        "ffn_hidden_size": 64,
        "expert_ffn_hidden_size": 32,
        "zero_expert_num": 2,
        "moe_topk": 2,
    },
}
"""What a type needs besides, or otherwise."""

CAUSAL = """afmoe apertus arcee bamba bloom codegen cohere cohere2 cwm deepseek_v2 deepseek_v3 deepseek_v32
diffllama ernie4_5 ernie4_5_moe exaone4 falcon falcon_h1 falcon_mamba gemma gemma2 gemma3_text gemma3n_text
gemma4_text glm glm4 glm4_moe glm4_moe_lite gpt2 gpt_bigcode gpt_neox gpt_oss gptj granite granitemoe granitemoehybrid
helium hunyuan_v1_dense jamba lfm2 lfm2_moe llama llama4_text longcat_flash mamba mamba2 minicpm3 minimax minimax_m2
ministral mistral mixtral mpt nemotron nemotron_h olmo olmo2 olmo3 olmo_hybrid olmoe opt persimmon phi phi3 phimoe qwen2
qwen2_moe qwen3 qwen3_5_text qwen3_5_moe_text qwen3_moe qwen3_next recurrent_gemma seed_oss smollm3 stablelm starcoder2
vaultgemma whisper xglm youtu
aria_text axk1 biogpt bitnet ctrl exaone exaone_moe flex_olmo glm4v_text glm4v_moe_text glm_moe_dsa gpt_neox_japanese
granitemoeshared hunyuan_v1_moe hy_v3 hyperclovax internlm3 iquestcoder jais2 jetmoe ministral3 mistral4
modernbert-decoder nanochat qwen2_5_vl_text qwen2_vl_text qwen3_vl_moe_text qwen3_vl_text sarvam_mla sarvam_moe
solar_open trocr""".split()  # noqa: SIM905
WHOLE = """apertus arcee bamba bloom codegen cohere cohere2 cwm deepseek_v2 deepseek_v3 ernie4_5 exaone4 falcon falcon_h1
falcon_mamba gemma gemma2 gemma3_text glm glm4 glm4_moe gpt2 gpt_bigcode gpt_neox gpt_oss gptj granite granitemoe
granitemoehybrid helium jamba lfm2 llama llama4_text mamba mamba2 minicpm3 minimax_m2 ministral3 mistral
mixtral olmo olmo2 olmo3 olmoe opt phi phi3 phimoe qwen2 qwen2_moe qwen3 qwen3_5_text qwen3_5_moe_text qwen3_moe
qwen3_next seed_oss smollm3 stablelm starcoder2 vaultgemma youtu""".split()  # noqa: SIM905
"""Types whose models are also made in the size that their classes have as default."""
TEXT_TO_TEXT = "t5 mt5 umt5 bart mbart pegasus marian m2m_100 blenderbot longt5 plbart".split()  # noqa: SIM905


def given(kind: str) -> dict[str, Any]:
    """The keys that a tiny model of this type is made with."""
    from transformers import CONFIG_MAPPING

    names = {field.name for field in dataclasses.fields(CONFIG_MAPPING[kind])}
    keys = {name: value for name, value in TINY.items() if name in names} | OWN.get(kind, {})
    return {name: value for name, value in keys.items() if value is not None}


def measure(kind: str, text_to_text: bool = False) -> dict[str, Any]:
    """One type: its keys, parameters, and the bytes of its caches after a forward pass over texts of each length."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    keys = given(kind)
    config = CONFIG_MAPPING[kind](**keys)
    torch.manual_seed(0)
    makers = (AutoModelForSeq2SeqLM,) if text_to_text else (AutoModelForCausalLM, AutoModel)
    maker = next((maker for maker in makers if type(config) in maker._model_mapping), makers[0])
    made = maker.from_config(config).eval()
    row: dict[str, Any] = {
        "type": kind,
        "encoder": ENCODED if text_to_text else 0,
        "given": {"model_type": kind, **keys},
    }
    row["value_bytes"] = next(made.parameters()).element_size()
    row["parameters"] = sum(item.numel() for item in made.parameters())
    row["dynamic"] = [[length, _after(made, length, text_to_text)] for length in LENGTHS]
    made.to(torch.bfloat16)
    row["half"] = [[length, _after(made, length, text_to_text)] for length in LENGTHS[2:4]]
    made.to(torch.float32)
    static = [[length, _static(made, config, length)] for length in LENGTHS] if not text_to_text else []
    row["static"] = [pair for pair in static if pair[1]]
    return row


def whole(kind: str) -> dict[str, Any]:
    """A model of the size that its configuration class has as default, but eight layers, on the meta device."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    names = {field.name for field in dataclasses.fields(CONFIG_MAPPING[kind])}
    layers = next((name for name in ("num_hidden_layers", "n_layer", "n_layers") if name in names), "")
    keys = {layers: 8} if layers else {}
    keys |= {"layer_types": ["mamba", "attention"] * 4} if kind == "granitemoehybrid" else {}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**keys))
    return {"given": {"model_type": kind, **keys}, "parameters": sum(item.numel() for item in model.parameters())}


def _after(model: Any, length: int, text_to_text: bool) -> int:
    import torch

    ids = torch.randint(3, 90, (1, length))
    more = (
        {"input_ids": torch.randint(3, 90, (1, ENCODED)), "decoder_input_ids": ids}
        if text_to_text
        else {"input_ids": ids}
    )
    kept: Any = None
    if model.config.model_type == "recurrent_gemma":
        from transformers import DynamicCache

        kept = DynamicCache(config=model.config)
        more["cache"] = kept
    with torch.no_grad():
        out = model(use_cache=True, **more)
    found = [getattr(out, name, None) for name in ("cache", "past_key_values", "cache_params")]
    total = _bytes(next((item for item in found if item is not None), kept), set())
    if model.config.model_type == "recurrent_gemma":
        total += sum(_bytes(getattr(part, "conv1d_state", None), set()) for part in model.modules())
        total += sum(_bytes(getattr(part, "recurrent_states", None), set()) for part in model.modules())
    return total


def _static(model: Any, config: Any, length: int) -> int:
    """Bytes of a StaticCache for `length` tokens; 0 where the architecture cannot have one."""
    import inspect

    import torch
    from transformers import StaticCache

    name = next((n for n in ("cache", "past_key_values") if n in inspect.signature(model.forward).parameters), "")
    if not name or config.model_type in ("recurrent_gemma", "minimax"):
        return 0
    try:
        kept = StaticCache(config=config, max_cache_len=length)
        with torch.no_grad():
            model(input_ids=torch.randint(3, 90, (1, min(4, length))), use_cache=True, **{name: kept})
        return _bytes(kept, set())
    except (NotImplementedError, ValueError, RuntimeError, AttributeError, TypeError, KeyError, IndexError):
        return 0


def _bytes(found: Any, seen: set[int], depth: int = 0) -> int:
    """The bytes of all floating tensors below an object, each once."""
    import torch

    if found is None or id(found) in seen or depth > 6:
        return 0
    seen.add(id(found))
    if isinstance(found, torch.Tensor):
        return found.numel() * found.element_size() if found.is_floating_point() else 0
    if isinstance(found, (list, tuple)):
        return sum(_bytes(item, seen, depth + 1) for item in found)
    if isinstance(found, dict):
        return sum(_bytes(item, seen, depth + 1) for item in found.values())
    if hasattr(found, "__dict__"):
        return sum(_bytes(item, seen, depth + 1) for key, item in vars(found).items() if key != "config")
    return 0


def main(kinds: list[str]) -> None:
    """Measure the types named, or all, and write the rows down; with `-` all are printed instead."""
    import torch
    import transformers

    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    named = [kind for kind in kinds if kind != "-"]
    rows, full = [], []
    for kind, text_to_text in [(kind, False) for kind in CAUSAL] + [(kind, True) for kind in TEXT_TO_TEXT]:
        if named and kind not in named:
            continue
        try:
            rows.append(measure(kind, text_to_text))
        except Exception as error:
            sys.stderr.write(f"{kind}: {error!r}"[:300] + "\n")
    for kind in () if named else WHOLE:
        try:
            full.append(whole(kind))
        except Exception as error:
            sys.stderr.write(f"{kind}: {error!r}"[:300] + "\n")
    text = f'{{"transformers": "{transformers.__version__}", "torch": "{torch.__version__}", "rows": [\n'
    text += ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows) + '\n], "full": [\n'
    text += ",\n".join(json.dumps(row, separators=(",", ":")) for row in full) + "\n]}\n"
    if kinds:
        sys.stdout.write(text)
        return
    with open(PLACE, "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    main(sys.argv[1:])
