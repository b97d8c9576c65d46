"""What a model keeps per token and per sequence while it generates: its layers in groups that are cached alike.

Each formula was compared with the cache tensors of transformers (tests/real/test_cache.py); the layouts are those of
transformers' modeling and configuration classes, and of vLLM's `vllm/v1/kv_cache_interface.py`. What is not known is
not computed: an architecture with keys that are not understood has no groups.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from diagnose.memory.layers import CONV, DELTA, layer_types
from diagnose.memory.shape import MOST_LAYERS, Shape, shape, whole

Kind = Literal["full", "sliding", "chunked", "mla", "linear", "cross"]


class CacheGroup(Struct, frozen=True):
    """Layers that are cached alike. Numbers are of one layer, and count values, not bytes, unless they say so.

    `values_per_token`: keys and values of one token (0 for a layer that only has a state). `heads`: how many key-value
    heads these belong to, which is what tensor parallelism divides; 1 for MLA, whose latent every rank keeps whole.
    `window`: of how many tokens at most; 0 for all. `expanded_per_token`: the same without MLA's compression, as
    transformers stored it before 5. `index_per_token`: keys of a sparse attention's indexer.
    `conv_channels` × `conv_kernel`, `state_values`: what one sequence keeps however long it is; `state_bytes` is the
    size of one value of the state where every library takes another than the model's dtype (0: none), `state_float`
    says that those take float32 which do not choose otherwise. `state_heads` is what tensor parallelism divides.
    `sequence`: the tokens are those of the encoder (cross attention).
    """

    kind: Kind
    layers: int
    heads: int = 0
    values_per_token: int = 0
    window: int = 0
    expanded_per_token: int = 0
    index_per_token: int = 0
    conv_channels: int = 0
    conv_kernel: int = 0
    state_values: int = 0
    state_bytes: int = 0
    state_float: bool = False
    state_heads: int = 0
    assumed: bool = False


_UNUSUAL = re.compile(
    r"ssm|mamba|state_size|conv_|_conv|linear_(?!bias)|lru_|recurrent|rwkv|retention|latent|cross_att|hybrid|block_type|"
    r"kv_shared|share_kv|kv_sharing|cla_|per_layer_config|swa_|^index_|compress|attn_layer|attention_types|memory|"
    r"loop|chunk_size|attn_type|interval|pattern|interleav|no_rope|local_layers|global_layers|local_att|global_att|head_dims|num_kv_heads_per|_per_layer|heterogen|dsa|k_eq_v|sparse_att|mlp_layers_only"
)
"""Keys that say that a layer is cached in some way of its own; a type that is not known and has one stays unknown."""
_USUAL = frozenset(
    {
        "chunk_size_feed_forward",
        "cross_attention_hidden_size",
        "add_cross_attention",
        "index_topk",
        "attention_chunk_size",
    }
)

_MAMBA1 = frozenset({"mamba", "falcon_mamba", "jamba"})
_MAMBA2 = frozenset({"mamba2", "bamba", "falcon_h1", "granitemoehybrid", "nemotron_h"})
_ENCODER_DECODER = frozenset(
    """t5 mt5 umt5 longt5 switch_transformers bart mbart plbart pegasus pegasus_x marian m2m_100 nllb-moe blenderbot
    blenderbot-small whisper speech_to_text bigbird_pegasus""".split()  # noqa: SIM905
)
_OWN_WAYS = frozenset(
    """mllama mllama_text_model deepseek_v4 minimax_m3_vl unlimited_ocr zamba zamba2 zaya kimi_linear bailing_hybrid
    glm5_next inkling inkling2 inkling2_loop lara_mini lfm3 qwen4_exp rwkv xlstm blt step3p7 dots3_note hrm_text
    embedding_gemma2 diffusion_gemma gemma4_assistant muse_glimmer_assistant reformer xlnet evolla gpt_neo axk2 hy_v4
    hy_v4_vl mimi csm moshi kyutai_speech_to_text dia t5gemma t5gemma2 mimo_v2_flash doge prophetnet
    inkling_text inkling2_text inkling2_loop_text musicgen musicgen_melody bark cpmant openai-gpt xlm fsmt git""".split()  # noqa: SIM905
)
"""Types that cache in a way that no formula here is for."""
_PROVED = frozenset(
    """afmoe apertus arcee aria_text axk1 bamba bart biogpt bitnet blenderbot bloom codegen cohere cohere2 ctrl
    cwm deepseek_v2 deepseek_v3 deepseek_v32 diffllama ernie4_5 ernie4_5_moe exaone exaone4 exaone_moe falcon
    falcon_h1 falcon_mamba flex_olmo gemma gemma2 gemma3 gemma3_text gemma3n_text gemma4_text glm glm4
    glm4_moe glm4_moe_lite glm4v_moe_text glm4v_text glm_moe_dsa gpt2 gpt_bigcode gpt_neox gpt_neox_japanese
    gpt_oss gptj granite granitemoe granitemoehybrid granitemoeshared helium hunyuan_v1_dense hunyuan_v1_moe
    hy_v3 hyperclovax internlm3 iquestcoder jais2 jamba jetmoe kimi_k2 lfm2 lfm2_moe llama llama4 llama4_text
    longcat_flash longt5 m2m_100 mamba mamba2 marian mbart minicpm3 minimax minimax_m2 ministral ministral3
    mistral mistral4 mixtral modernbert-decoder mpt mt5 nanochat nemotron nemotron_h olmo olmo2 olmo3
    olmo_hybrid olmoe opt pegasus persimmon phi phi3 phimoe plbart qwen2 qwen2_5_vl_text qwen2_moe
    qwen2_vl_text qwen3 qwen3_5_moe_text qwen3_5_text qwen3_moe qwen3_next qwen3_vl_moe_text qwen3_vl_text
    recurrent_gemma sarvam_mla sarvam_moe seed_oss smollm3 solar_open stablelm starcoder2 t5 trocr umt5
    vaultgemma whisper xglm youtu""".split()  # noqa: SIM905
)
"""Types whose groups were measured of real models (tests/real/measured.json), or whose code is one of these."""
_ENCODERS = frozenset(
    """albert bert bert-generation big_bird camembert canine convbert data2vec-text deberta deberta-v2 distilbert electra
    ernie eurobert longformer megatron-bert modernbert mpnet nomic_bert rembert roberta roberta-prelayernorm roc_bert
    roformer xlm-roberta xlm-roberta-xl xmod esm clip siglip layoutlm layoutlmv2 layoutlmv3""".split()  # noqa: SIM905
)
"""Encoders: nothing is kept of what was read."""


def cache_groups(config: Mapping[str, Any]) -> tuple[CacheGroup, ...]:
    """The groups of a config.json's language model; none if its way of caching is not known or a key makes no sense."""
    found = shape(config)
    if found is None:
        return ()
    if found.type in _OWN_WAYS | _ENCODERS:
        return ()
    groups = _groups(found)
    return tuple(group for group in groups if group.layers) if groups else ()


def _groups(found: Shape) -> list[CacheGroup] | None:
    proved = found.type in _PROVED
    if not proved and (_is_unusual(found) or _is_ambiguous(found)):
        return None
    groups = _by_type(found)
    return [replace(group, assumed=True) for group in groups] if groups and not proved else groups


def _by_type(found: Shape) -> list[CacheGroup] | None:
    if found.type in _ENCODER_DECODER:
        return _encoder_decoder(found)
    if found.type in _MAMBA1 | _MAMBA2 | DELTA | CONV | {"minimax", "recurrent_gemma"}:
        return _hybrid(found)
    layers = found.layers()
    if layers is None:
        return None
    if found.values.get("kv_lora_rank") is not None:
        return _latent(found, layers)
    types = layer_types(found)
    return _attention(found, types) if types is not None else None


def _is_unusual(found: Shape) -> bool:
    """Whether a key says that layers are cached in some way of their own. Latent attention is understood."""
    latent = {"index_head_dim", "index_n_heads"} if found.values.get("kv_lora_rank") is not None else set()
    return any(
        _UNUSUAL.search(key) and found.values.get(key) not in (None, False, 0, "", [], {})
        for key in set(found.values) - _USUAL - latent
    )


def _is_ambiguous(found: Shape) -> bool:
    """Whether there is a window or chunk, and nothing says in which layers: each type has a rule of its own."""
    if found.values.get("layer_types") is not None or found.values.get("use_sliding_window") is False:
        return False
    return bool(found.values.get("sliding_window") or found.values.get("attention_chunk_size"))


# --- attention


def _attention(found: Shape, types: Sequence[str]) -> list[CacheGroup] | None:
    """Keys and values: two × heads × head_dim per token and layer, of all tokens, a window of them, or a chunk."""
    known = {"full_attention", "sliding_attention", "chunked_attention", "dummy", "moe", "mlp"}
    if set(types) - known or len(types) > MOST_LAYERS:
        return None
    shared = found.number("num_kv_shared_layers", 0)
    if shared is None or shared > len(types):
        return None
    own = types[: len(types) - shared] if shared else types  # the last layers read what earlier ones stored
    heads, size = found.kv_heads(), found.head_dim()
    if not heads or not size:
        return None
    window, chunk = found.number("sliding_window"), found.number("attention_chunk_size")
    whole_heads, whole_size = _global(found, heads, size)
    groups = []
    if "full_attention" in own:
        count = sum(kind == "full_attention" for kind in own)
        groups.append(CacheGroup("full", count, whole_heads, 2 * whole_heads * whole_size))
    if "sliding_attention" in own:
        if not window:
            return None
        count = sum(kind == "sliding_attention" for kind in own)
        groups.append(CacheGroup("sliding", count, heads, 2 * heads * size, window))
    if "chunked_attention" in own:
        if not chunk:
            return None
        count = sum(kind == "chunked_attention" for kind in own)
        groups.append(CacheGroup("chunked", count, heads, 2 * heads * size, chunk))
    return groups


def _global(found: Shape, heads: int, size: int) -> tuple[int, int]:
    """Heads and their size in layers that attend to everything: Gemma 4 has others there."""
    if found.type not in ("gemma4_text", "gemma4_unified_text"):
        return heads, size
    own = found.number("num_global_key_value_heads")
    if own and (found.flag("attention_k_eq_v") or found.type == "gemma4_unified_text"):
        heads = own
    return heads, found.number("global_head_dim", 512) or size


def _latent(found: Shape, layers: int) -> list[CacheGroup] | None:
    """Multi-head latent attention: per token and layer one latent of kv_lora_rank and one key of qk_rope_head_dim.

    DeepSeek-V2 (arXiv 2405.04434, 2.1.2). vLLM, SGLang and transformers since 5 store this; transformers 4 stored
    expanded keys and values: heads × (qk_nope_head_dim + qk_rope_head_dim + v_head_dim).
    """
    types = found.texts("layer_types") or []
    if set(types) - {"full_attention", "deepseek_sparse_attention", "indexed_attention"}:
        return None
    rank, rope = found.number("kv_lora_rank"), found.number("qk_rope_head_dim")
    nope, value, heads = found.number("qk_nope_head_dim"), found.value_dim(), found.heads()
    if not rank or rope is None or nope is None or not value or not heads:
        return None
    index = found.number("index_head_dim", 0) or 0
    times = 2 if found.type == "longcat_flash" else 1  # two attentions per layer
    return [CacheGroup("mla", layers * times, 1, rank + rope, 0, heads * (nope + rope + value), index)]


def _encoder_decoder(found: Shape) -> list[CacheGroup] | None:
    """Keys and values of the decoder's own tokens, and once those of the encoder's, in every decoder layer."""
    layers = found.number("num_decoder_layers") or found.number("decoder_layers") or found.layers()
    heads = found.number("decoder_attention_heads") or found.heads()
    hidden = found.number("hidden_size")
    if not layers or layers > MOST_LAYERS or not heads or not hidden:
        return None
    size = found.number("head_dim") or hidden // heads
    values = 2 * heads * size
    return [CacheGroup("full", layers, heads, values), CacheGroup("cross", layers, heads, values)]


# --- states


def _hybrid(found: Shape) -> list[CacheGroup] | None:
    """Layers with a state per sequence, beside layers that attend, or both in one layer (Falcon-H1)."""
    types = layer_types(found)
    if types is None or len(types) > MOST_LAYERS:
        return None
    stateful = sum(kind in ("linear_attention", "conv", "hybrid") for kind in types)
    rest = [
        "full_attention" if kind == "hybrid" else kind for kind in types if kind not in ("linear_attention", "conv")
    ]
    groups: list[CacheGroup] = []
    if any(kind not in ("moe", "mlp") for kind in rest):
        attending = _attention(_window_named(found), rest)
        if attending is None:
            return None
        groups += attending
    if stateful:
        state = _state(found)
        if state is None:
            return None
        kept = found.type == "nemotron_h" and found.values.get("mamba_ssm_cache_dtype", "float32") == "float32"
        plain = found.type in {"minimax", *CONV} or state.state_bytes > 0
        groups.append(
            replace(state, layers=stateful, state_bytes=4 if kept else state.state_bytes, state_float=not plain)
        )
    return groups


def _window_named(found: Shape) -> Shape:
    """RecurrentGemma calls its window attention_window_size."""
    if found.type != "recurrent_gemma":
        return found
    return replace(found, values={**found.values, "sliding_window": found.values.get("attention_window_size")})


def _state(found: Shape) -> CacheGroup | None:
    """What one layer keeps per sequence."""
    if found.type in _MAMBA1:
        return _mamba1(found)
    if found.type in _MAMBA2:
        return _mamba2(found)
    if found.type in DELTA:
        return _delta(found)
    hidden, heads, size = found.number("hidden_size"), found.heads(), found.head_dim()
    if not hidden or not heads or not size:
        return None
    if found.type == "minimax":  # lightning attention: one square per head
        return CacheGroup("linear", 0, state_values=heads * size * size, state_heads=heads)
    width, kernel = found.number("lru_width", hidden), found.number("conv1d_width", 4)
    if found.type == "recurrent_gemma":  # one column less than the kernel's width; the state is kept in float32
        if not width or not kernel:
            return None
        return CacheGroup(
            "linear", 0, conv_channels=width, conv_kernel=kernel - 1, state_values=width, state_bytes=4, state_heads=1
        )
    kernel = found.number("conv_L_cache", 3)
    return CacheGroup("linear", 0, conv_channels=hidden, conv_kernel=kernel, state_heads=1) if kernel else None


def _mamba1(found: Shape) -> CacheGroup | None:
    """Mamba (arXiv 2312.00752): a convolution over the inner channels and a state of state_size for each of them."""
    hidden = found.number("hidden_size")
    names = (
        ("mamba_expand", "mamba_d_conv", "mamba_d_state")
        if found.type == "jamba"
        else ("expand", "conv_kernel", "state_size")
    )
    expand, kernel, state = (found.number(name) for name in names)
    if not hidden or not expand or not kernel or not state:
        return None
    inner = expand * hidden
    return CacheGroup(
        "linear", 0, conv_channels=inner, conv_kernel=kernel, state_values=inner * state, state_heads=inner
    )


def _mamba2(found: Shape) -> CacheGroup | None:
    """Mamba-2 (arXiv 2405.21060): a convolution over x, B and C, and per head a state of head_dim × state_size."""
    hidden = found.number("hidden_size")
    if found.type == "nemotron_h":
        heads, size = found.number("mamba_num_heads"), found.number("mamba_head_dim")
        inner = heads * size if heads and size else None
        groups, state, kernel = (found.number(name) for name in ("n_groups", "ssm_state_size", "conv_kernel"))
        groups = found.number("mamba_n_groups", groups)
        kernel = found.number("mamba_d_conv", kernel)
    elif found.type == "mamba2":
        heads, size, expand = found.number("num_heads"), found.number("head_dim"), found.number("expand")
        inner = expand * hidden if expand and hidden else None
        groups, state, kernel = (found.number(name) for name in ("n_groups", "state_size", "conv_kernel"))
    else:
        heads, expand = found.number("mamba_n_heads"), found.number("mamba_expand")
        inner = expand * hidden if expand and hidden else None
        if found.type == "falcon_h1" and found.number("mamba_d_ssm"):
            inner = found.number("mamba_d_ssm")
        groups, state, kernel = (found.number(name) for name in ("mamba_n_groups", "mamba_d_state", "mamba_d_conv"))
        size = inner // heads if inner and heads else None
        given = found.values.get("mamba_d_head")
        size = whole(given) if given not in (None, "auto") else size
    if not heads or not size or not inner or groups is None or not state or not kernel:
        return None
    channels = inner + 2 * groups * state
    return CacheGroup(
        "linear", 0, conv_channels=channels, conv_kernel=kernel, state_values=heads * size * state, state_heads=heads
    )


def _delta(found: Shape) -> CacheGroup | None:
    """Gated delta net (Qwen3-Next): a convolution over queries, keys and values, and per value head a key × value square."""
    keys, values = found.number("linear_num_key_heads"), found.number("linear_num_value_heads")
    key, value = found.number("linear_key_head_dim"), found.number("linear_value_head_dim")
    if found.type == "olmo_hybrid":
        keys, values = keys or found.heads(), values or found.heads()
        hidden = found.number("hidden_size")
        key = key or (int(0.75 * hidden / keys) if hidden and keys else None)
        value = value or (2 * key if key else None)
    kernel = found.number("linear_conv_kernel_dim", 4)
    if not keys or not values or not key or not value or not kernel:
        return None
    channels = 2 * keys * key + values * value
    return CacheGroup(
        "linear", 0, conv_channels=channels, conv_kernel=kernel, state_values=values * key * value, state_heads=values
    )
