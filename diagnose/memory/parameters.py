"""How many parameters a language model has, counted from its config.json: exact, for the architectures listed here.

The counts equal those of transformers' model classes on the meta device (tests/real/test_parameters.py). For any other
architecture nothing is told. Sizes of weights are better read from the files' headers where there are files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

from diagnose.memory.cache import cache_groups
from diagnose.memory.layers import layer_types
from diagnose.memory.shape import Shape, shape

Flag = bool | str


class Traits(Struct, frozen=True):
    """How an architecture's decoder layer is built. A flag that is a text names the key that tells it.

    `norm_values`: parameters of a norm per channel (weight, or weight and bias; 0: a norm without any). `norms`: norms of
    the hidden size per layer. `qk`: norms of queries and keys, per head's dimension or over all heads.
    """

    qkv_bias: Flag = False
    out_bias: Flag = False
    mlp_bias: Flag = False
    gated: bool = True
    norm_values: int = 1
    norms: int = 2
    qk: Literal["none", "head", "all"] = "none"
    moe: str = ""
    positions: int = -1
    head_bias: Flag = False
    embedding_norm: bool = False
    sinks: bool = False
    inner: int = 0


_BIASED = Traits(True, True, True, gated=False, norm_values=2)

TRAITS: dict[str, Traits] = {
    "llama": Traits("attention_bias", "attention_bias", "mlp_bias"),
    "granite": Traits("attention_bias", "attention_bias", "mlp_bias"),
    "smollm3": Traits("attention_bias", "attention_bias", "mlp_bias"),
    "helium": Traits("attention_bias", False, "mlp_bias"),
    "ernie4_5": Traits("use_bias", "use_bias", "use_bias"),
    "seed_oss": Traits("attention_bias", "attention_out_bias", "mlp_bias"),
    "mistral": Traits(),
    "ministral": Traits(),
    "ministral3": Traits(),
    "phi3": Traits(),
    "gemma": Traits("attention_bias", "attention_bias"),
    "gemma2": Traits("attention_bias", "attention_bias", norms=4),
    "gemma3_text": Traits("attention_bias", "attention_bias", norms=4, qk="head"),
    "vaultgemma": Traits("attention_bias", "attention_bias"),
    "qwen2": Traits(True),
    "qwen3": Traits("attention_bias", "attention_bias", qk="head"),
    "olmo": Traits("attention_bias", "attention_bias", norm_values=0),
    "olmo2": Traits("attention_bias", "attention_bias", qk="all"),
    "olmo3": Traits("attention_bias", "attention_bias", qk="all"),
    "cohere": Traits("attention_bias", "attention_bias", norms=1),
    "cohere2": Traits("attention_bias", "attention_bias", norms=1),
    "glm": Traits("attention_bias"),
    "glm4": Traits("attention_bias", norms=4),
    "exaone4": Traits(qk="head"),
    "arcee": Traits("attention_bias", "attention_bias", "mlp_bias", gated=False),
    "nemotron": Traits("attention_bias", "attention_bias", "mlp_bias", gated=False, norm_values=2),
    "starcoder2": Traits("use_bias", "use_bias", "use_bias", gated=False, norm_values=2),
    "stablelm": Traits("use_qkv_bias", norm_values=2),
    "phi": Traits(True, True, True, gated=False, norm_values=2, norms=1, head_bias=True),
    "gpt2": Traits(True, True, True, gated=False, norm_values=2, positions=0, inner=4),
    "gpt_bigcode": Traits(True, True, True, gated=False, norm_values=2, positions=0, inner=4),
    "gpt_neox": Traits("attention_bias", "attention_bias", True, gated=False, norm_values=2),
    "gptj": Traits(False, False, True, gated=False, norm_values=2, norms=1, head_bias=True, inner=4),
    "codegen": Traits(False, False, True, gated=False, norm_values=2, norms=1, head_bias=True, inner=4),
    "bloom": Traits(True, True, True, gated=False, norm_values=2, embedding_norm=True, inner=4),
    "opt": Traits(True, True, True, gated=False, norm_values=2, positions=2),
    "falcon": Traits("bias", "bias", "bias", gated=False, norm_values=2, inner=4),
    "mixtral": Traits(moe="mixtral"),
    "phimoe": Traits("attention_bias", "attention_bias", norm_values=2, moe="mixtral", head_bias="lm_head_bias"),
    "olmoe": Traits("attention_bias", "attention_bias", qk="all", moe="every"),
    "granitemoe": Traits("attention_bias", "attention_bias", moe="mixtral"),
    "qwen2_moe": Traits(True, moe="qwen"),
    "qwen3_moe": Traits("attention_bias", "attention_bias", qk="head", moe="qwen"),
    "gpt_oss": Traits("attention_bias", "attention_bias", moe="gpt_oss", sinks=True),
    "deepseek_v2": Traits("attention_bias", "attention_bias", moe="deepseek"),
    "deepseek_v3": Traits("attention_bias", "attention_bias", moe="deepseek"),
    "kimi_k2": Traits("attention_bias", "attention_bias", moe="deepseek"),
    "glm4_moe": Traits("attention_bias", moe="deepseek"),
    "glm4_moe_lite": Traits("attention_bias", "attention_bias", moe="deepseek"),
    "minicpm3": Traits("attention_bias", "attention_bias"),
    "youtu": Traits("attention_bias", "attention_bias"),
    "minimax_m2": Traits(qk="all", moe="mixtral"),
    "hunyuan_v1_dense": Traits("attention_bias", "attention_bias", qk="head"),
    "apertus": Traits("attention_bias", "attention_bias", "mlp_bias", gated=False, qk="head"),
    "cwm": Traits(),
    "dots1": Traits("attention_bias", "attention_bias", qk="head", moe="deepseek"),
    "llama4_text": Traits("attention_bias", "attention_bias", moe="llama4"),
    "jamba": Traits(moe="jamba"),
    "bamba": Traits("attention_bias", "attention_bias", "mlp_bias"),
    "falcon_h1": Traits("attention_bias", "attention_bias", "mlp_bias"),
    "granitemoehybrid": Traits("attention_bias", "attention_bias", moe="granite"),
    "qwen3_next": Traits("attention_bias", "attention_bias", qk="head", moe="qwen"),
    "qwen3_5_text": Traits("attention_bias", "attention_bias", qk="head"),
    "qwen3_5_moe_text": Traits("attention_bias", "attention_bias", qk="head", moe="qwen"),
    "mamba": Traits(),
    "falcon_mamba": Traits(),
    "mamba2": Traits(),
    "lfm2": Traits(qk="head"),
    # written by other code than transformers' own, with standard shapes
    "internlm2": Traits("bias", "bias"),
    "baichuan": Traits(),
}
"""Architectures whose parameters are counted, by model type."""


def parameters(config: Mapping[str, Any]) -> int | None:
    """The parameters of a config.json's language model, tied embeddings once; None where the architecture is not listed."""
    found = shape(config)
    traits = TRAITS.get(found.type) if found else None
    if found is None or traits is None:
        return None
    try:
        return _count(found, traits, config)
    except _UnknownError:
        return None


class _UnknownError(Exception):
    """A key that is needed is missing or makes no sense."""


def _size(found: Shape, name: str, fallback: int | None = None) -> int:
    value = found.number(name, fallback)
    if value is None:
        raise _UnknownError
    return value


def _flag(found: Shape, flag: Flag) -> bool:
    return found.flag(flag) if isinstance(flag, str) else flag


def _inner(found: Shape, traits: Traits) -> int:
    """The width of the feed-forward layer."""
    if traits.inner:
        own = found.number("n_inner") or found.number("ffn_hidden_size") or found.number("intermediate_size")
        return own or traits.inner * _size(found, "hidden_size")
    return _size(found, "ffn_dim") if found.type == "opt" else _size(found, "intermediate_size")


def _count(found: Shape, traits: Traits, config: Mapping[str, Any]) -> int:
    hidden, vocab = _size(found, "hidden_size"), _size(found, "vocab_size")
    count = found.layers()
    if count is None:
        raise _UnknownError
    tied = found.flag("tie_word_embeddings", found.flag("tie_embedding"))
    width = _size(found, "word_embed_proj_dim", hidden) if found.type == "opt" else hidden
    total = vocab * width * (1 if tied else 2)
    if width != hidden:
        total += 2 * width * hidden
    total += vocab if _flag(found, traits.head_bias) else 0
    if traits.positions >= 0:
        total += (_size(found, "max_position_embeddings") + traits.positions) * hidden
    total += traits.norm_values * hidden * (2 if traits.embedding_norm else 1)
    if found.type == "opt" and not found.flag("do_layer_norm_before", True):
        total -= traits.norm_values * hidden
    kinds = layer_types(found) if found.type in _WITH_STATES else None
    if found.type in _WITH_STATES and (kinds is None or len(kinds) < count):
        raise _UnknownError
    for index in range(count):
        total += _layer(found, traits, index, kinds[index] if kinds else "full_attention", config)
    return total


_GATED = ("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text")
_WITH_STATES = frozenset(
    {"mamba", "mamba2", "falcon_mamba", "jamba", "bamba", "falcon_h1", "granitemoehybrid", "lfm2", *_GATED}
)


def _layer(found: Shape, traits: Traits, index: int, kind: str, config: Mapping[str, Any]) -> int:
    hidden = _size(found, "hidden_size")
    if found.type in ("mamba", "falcon_mamba", "mamba2"):
        return _mixer(found, config) + hidden
    total = traits.norm_values * hidden * _norms(found, traits)
    if kind in ("full_attention", "sliding_attention", "chunked_attention", "hybrid"):
        total += _attention(found, traits)
    if kind in ("linear_attention", "conv", "hybrid"):
        total += _mixer(found, config)
    return total + _feed_forward(found, traits, index)


def _norms(found: Shape, traits: Traits) -> int:
    if found.type == "falcon" and not found.flag("new_decoder_architecture"):
        return 1 if found.flag("parallel_attn", True) else 2
    if found.type == "falcon":
        return _size(found, "num_ln_in_parallel_attn", 2)
    if found.type == "stablelm" and found.flag("use_parallel_residual"):
        return 1
    return traits.norms


# --- attention


def _attention(found: Shape, traits: Traits) -> int:
    if found.values.get("kv_lora_rank") is not None:
        return _latent(found, traits)
    hidden, heads, kv, size = _size(found, "hidden_size"), found.heads(), found.kv_heads(), found.head_dim()
    if not heads or not kv or not size:
        raise _UnknownError
    queries, keys = heads * size, kv * size
    if found.type in _GATED:
        queries *= 2  # with a gate for each
    total = hidden * (queries + 2 * keys) + heads * size * hidden
    if _flag(found, traits.qkv_bias):
        total += queries + 2 * keys
    if _flag(found, traits.out_bias):
        total += hidden
    if traits.qk == "head":
        total += 2 * size
    elif traits.qk == "all":
        total += heads * size + keys
    if (found.type == "glm4_moe" and found.flag("use_qk_norm")) or (
        found.type in ("cohere",) and found.flag("use_qk_norm")
    ):
        total += 2 * size if found.type == "glm4_moe" else heads * size + keys
    if found.type == "phi" and found.flag("qk_layernorm"):
        total += 4 * size
    if found.type == "stablelm" and found.flag("qk_layernorm"):
        total += heads * size + keys
    return total + (heads if traits.sinks else 0)


def _latent(found: Shape, traits: Traits) -> int:
    """Multi-head latent attention: low-rank projections with a norm between their halves."""
    hidden, heads = _size(found, "hidden_size"), found.heads()
    if not heads:
        raise _UnknownError
    rank, rope = _size(found, "kv_lora_rank"), _size(found, "qk_rope_head_dim")
    nope, value = _size(found, "qk_nope_head_dim"), found.value_dim()
    if value is None:
        raise _UnknownError
    low = found.values.get("q_lora_rank")
    queries = heads * (nope + rope)
    if found.given and "q_lora_rank" in found.given and low is None:
        low = 0
    low = _size(found, "q_lora_rank", 0)
    total = hidden * low + low + low * queries if low else hidden * queries
    total += hidden * (rank + rope) + rank + rank * heads * (nope + value) + heads * value * hidden
    if _flag(found, traits.qkv_bias):
        total += rank + rope + hidden + low
    return total


# --- feed forward


def _mlp(found: Shape, traits: Traits, inner: int) -> int:
    hidden = _size(found, "hidden_size")
    bias = _flag(found, traits.mlp_bias)
    if traits.gated:
        return 3 * hidden * inner + (2 * inner + hidden if bias else 0)
    return 2 * hidden * inner + (inner + hidden if bias else 0)


def _feed_forward(found: Shape, traits: Traits, index: int) -> int:
    if found.type == "lfm2":
        return 3 * _size(found, "hidden_size") * _lfm2_inner(found)
    if not traits.moe:
        learnt = 2 if found.type == "apertus" else 0  # its activation has two parameters
        return learnt + _mlp(found, traits, _inner(found, traits))
    return _EXPERTS[traits.moe](found, traits, index)


def _lfm2_inner(found: Shape) -> int:
    """LFM2 shrinks its feed-forward width to two thirds, rounded up to a multiple."""
    inner = _size(found, "block_ff_dim", _size(found, "intermediate_size"))
    if not found.flag("block_auto_adjust_ff_dim", True):
        return inner
    inner = int(2 * inner / 3)
    factor = found.values.get("block_ffn_dim_multiplier", 1.0)
    if isinstance(factor, (int, float)) and not isinstance(factor, bool) and 0 < factor < 100:
        inner = int(factor * inner)
    step = _size(found, "block_multiple_of", 256)
    return step * -(-inner // step) if step else inner


def _experts(found: Shape, count: int, inner: int) -> int:
    return 3 * count * inner * _size(found, "hidden_size")


def _mixtral(found: Shape, traits: Traits, index: int) -> int:
    count = _size(found, "num_local_experts")
    return _experts(found, count, _size(found, "intermediate_size")) + count * _size(found, "hidden_size")


def _every(found: Shape, traits: Traits, index: int) -> int:
    count = _size(found, "num_experts")
    return _experts(found, count, _size(found, "intermediate_size")) + count * _size(found, "hidden_size")


def _qwen(found: Shape, traits: Traits, index: int) -> int:
    """Qwen's mixture: every decoder_sparse_step-th layer, but those of mlp_only_layers; a gated shared expert beside it."""
    hidden, count, step = (
        _size(found, "hidden_size"),
        _size(found, "num_experts"),
        _size(found, "decoder_sparse_step", 1),
    )
    dense = found.indices("mlp_only_layers")
    if not step or dense is None:
        raise _UnknownError
    if index in dense or not count or (index + 1) % step:
        return _mlp(found, traits, _size(found, "intermediate_size"))
    total = _experts(found, count, _size(found, "moe_intermediate_size")) + count * hidden
    if found.type != "qwen3_moe":
        total += 3 * hidden * _size(found, "shared_expert_intermediate_size") + hidden
    return total


def _gpt_oss(found: Shape, traits: Traits, index: int) -> int:
    hidden, count, inner = (
        _size(found, "hidden_size"),
        _size(found, "num_local_experts"),
        _size(found, "intermediate_size"),
    )
    return _experts(found, count, inner) + count * (2 * inner + hidden) + count * hidden + count


def _deepseek(found: Shape, traits: Traits, index: int) -> int:
    """DeepSeek's mixture: dense in the first layers, then routed and shared experts; V3's router has a bias per expert.

    That bias is a buffer for transformers and is not counted, though it stands in the files.
    """
    hidden, count = _size(found, "hidden_size"), _size(found, "n_routed_experts")
    first = _size(found, "first_k_dense_replace", 1 if found.type == "glm4_moe_lite" else 0)
    if index < first or not count:
        return _mlp(found, traits, _size(found, "intermediate_size"))
    inner = _size(found, "moe_intermediate_size")
    shared = found.number("n_shared_experts") or 0
    return _experts(found, count, inner) + count * hidden + 3 * hidden * inner * shared


def _llama4(found: Shape, traits: Traits, index: int) -> int:
    """Llama 4: every interleave_moe_layer_step-th layer has experts and one that all tokens pass."""
    hidden, step = _size(found, "hidden_size"), _size(found, "interleave_moe_layer_step", 1)
    listed = found.indices("moe_layers")
    if not step or listed is None:
        raise _UnknownError
    given = found.values.get("moe_layers") is not None
    sparse = index in listed if given else (index + 1) % step == 0
    if not sparse:
        return 3 * hidden * _size(found, "intermediate_size_mlp")
    count, inner = _size(found, "num_local_experts"), _size(found, "intermediate_size")
    return _experts(found, count, inner) + 3 * hidden * inner + count * hidden


def _jamba(found: Shape, traits: Traits, index: int) -> int:
    period, offset = _size(found, "expert_layer_period", 2), _size(found, "expert_layer_offset", 1)
    count = _size(found, "num_experts")
    if not period:
        raise _UnknownError
    if index % period != offset or count <= 1:
        return _mlp(found, traits, _size(found, "intermediate_size"))
    return _experts(found, count, _size(found, "intermediate_size")) + count * _size(found, "hidden_size")


def _granite(found: Shape, traits: Traits, index: int) -> int:
    """Granite 4: a shared expert in every layer, and experts where there are any."""
    hidden, count = _size(found, "hidden_size"), _size(found, "num_local_experts", 0)
    total = 3 * hidden * _size(found, "shared_intermediate_size")
    return total + (_experts(found, count, _size(found, "intermediate_size")) + count * hidden if count else 0)


_EXPERTS = {
    "mixtral": _mixtral,
    "every": _every,
    "qwen": _qwen,
    "gpt_oss": _gpt_oss,
    "deepseek": _deepseek,
    "llama4": _llama4,
    "jamba": _jamba,
    "granite": _granite,
}


# --- mixers with a state


def _mixer(found: Shape, config: Mapping[str, Any]) -> int:
    """Parameters of a layer's state space model, linear attention or convolution."""
    group = next((item for item in cache_groups(config) if item.kind == "linear"), None)
    if group is None:
        raise _UnknownError
    hidden, channels, kernel = _size(found, "hidden_size"), group.conv_channels, group.conv_kernel
    if found.type == "lfm2":
        bias = found.flag("conv_bias")
        return hidden * 3 * hidden + hidden * kernel + hidden * hidden + (5 * hidden if bias else 0)
    if found.type in ("mamba", "falcon_mamba", "jamba"):
        return _mamba1(found, channels, kernel)
    heads = group.state_heads
    if found.type in _GATED:
        values = heads * _size(found, "linear_value_head_dim")
        total = hidden * (channels + values) + 2 * heads * hidden + channels * kernel
        return total + 2 * heads + _size(found, "linear_value_head_dim") + values * hidden
    return _mamba2(found, heads, channels, kernel)


def _mamba1(found: Shape, inner: int, kernel: int) -> int:
    hidden = _size(found, "hidden_size")
    jamba = found.type == "jamba"
    state = _size(found, "mamba_d_state" if jamba else "state_size")
    given = found.values.get("mamba_dt_rank" if jamba else "time_step_rank", "auto")
    rank = -(-hidden // 16) if given == "auto" else given
    if not isinstance(rank, int) or isinstance(rank, bool):
        raise _UnknownError
    conv_bias = found.flag("mamba_conv_bias" if jamba else "use_conv_bias", True)
    bias = found.flag("mamba_proj_bias" if jamba else "use_bias")
    total = hidden * 2 * inner + inner * kernel + (inner if conv_bias else 0) + inner * (rank + 2 * state)
    total += rank * inner + inner + inner * state + inner + inner * hidden
    total += 2 * inner + hidden if bias else 0
    return total + (rank + 2 * state if jamba else 0)


def _mamba2(found: Shape, heads: int, channels: int, kernel: int) -> int:
    hidden = _size(found, "hidden_size")
    plain = found.type == "mamba2"
    groups, state = (
        _size(found, name) for name in (("n_groups", "state_size") if plain else ("mamba_n_groups", "mamba_d_state"))
    )
    inner = channels - 2 * groups * state
    projected = inner + channels + heads
    conv_bias = found.flag("use_conv_bias" if plain else "mamba_conv_bias", True)
    bias = found.flag("use_bias" if plain else "mamba_proj_bias")
    total = hidden * projected + channels * kernel + (channels if conv_bias else 0) + 3 * heads + inner * hidden
    total += projected if bias else 0
    out = found.flag("projectors_bias") if found.type == "falcon_h1" else bias
    total += hidden if out else 0
    if found.type == "falcon_h1" and not found.flag("mamba_rms_norm"):
        return total
    return total + inner
