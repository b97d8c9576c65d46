"""config.json → the numbers of the language model in it: sizes, heads, layers, positions, experts, dtype.

Models spell these in many ways (n_embd, d_model, hidden_size) and nest the language model's part (text_config,
llm_config, thinker_config.text_config): what is told is of the language model. A number that neither the file nor the
defaults of the library's class hold is not told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from diagnose.model import Fact

NESTED: tuple[str, ...] = (
    "text_config", "llm_config", "language_config", "text_model_config", "thinker_config", "talker_config", "decoder",
    "text_encoder", "generator", "lm_config", "language_model_config",
)  # fmt: skip
"""Keys under which a multimodal config holds that of its language model."""

ALIASES: Mapping[str, tuple[str, ...]] = {
    "hidden_size": ("hidden_size", "n_embd", "n_embed", "d_model", "model_dim", "dim"),
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_transformer_layers", "decoder_layers"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads", "num_query_heads", "decoder_attention_heads"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads", "n_head_kv", "n_kv_heads", "num_attention_groups"),
    "head_dim": ("head_dim", "kv_channels", "hidden_size_per_head", "d_kv", "attention_head_dim"),
    "intermediate_size": ("intermediate_size", "ffn_hidden_size", "ffn_dim", "d_ff", "n_inner", "feed_forward_length"),
    "vocab_size": ("vocab_size", "padded_vocab_size"),
    "experts": ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"),
    "experts_per_token": ("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk", "moe_top_k"),
}
"""How published models spell each number; the first that is there counts."""

POSITIONS: tuple[str, ...] = (
    "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length", "max_target_positions",
    "max_sequence_length", "max_seq_length", "seq_len",
)  # fmt: skip
"""Where vLLM looks for the longest context (transformers_utils/model_arch_config_convertor.py): the smallest counts."""

Config = Mapping[str, Any]


class Text(Struct, frozen=True):
    """The part of a config that describes the language model, and the keys that lead to it (empty: the whole)."""

    value: Config
    path: tuple[str, ...] = ()


def text_part(config: Config) -> Text:
    """The language model's part of a config, as get_text_config of transformers finds it; at most three levels down."""
    value = config
    path: tuple[str, ...] = ()
    for _ in range(3):
        key = next((name for name in NESTED if _is_model(value.get(name))), "")
        if not key:
            break
        value, path = value[key], (*path, key)
    return Text(value, path)


def _is_model(value: object) -> bool:
    """Whether a value is a config of a model: an object with layers or heads, or with one nested in it."""
    if not isinstance(value, dict):
        return False
    spelt = (*ALIASES["layers"], *ALIASES["heads"], *ALIASES["hidden_size"], "model_type")
    return any(name in value for name in spelt)


def number(config: Config, name: str) -> int | None:
    """A whole number of the config under any of its spellings; None if it is missing, no number, or a list of several."""
    for key in ALIASES.get(name, (name,)):
        value = config.get(key)
        if isinstance(value, list) and value and all(item == value[0] for item in value):
            value = value[0]
        if isinstance(value, bool) or value is None:
            continue
        if isinstance(value, int) and abs(value) < 1 << 53:
            return value
        if isinstance(value, float) and abs(value) < 1 << 53 and value.is_integer():
            return int(value)
    return None


def facts(config: Config, origin: str) -> Iterator[Fact]:
    """`model.*`: what a config says of the language model in it."""
    text = text_part(config)
    merged = with_defaults(config, text)
    yield from _identity(config, text, merged, origin)
    yield from _numbers(text.value, merged, origin)


def with_defaults(config: Config, text: Text) -> Config:
    """The language model's keys, with what its class takes for those that are left out, under their common names too."""
    from diagnose.memory.shape import shape

    told = shape(config)
    return {**told.values, **text.value} if told is not None else text.value


def _identity(config: Config, text: Text, merged: Config, origin: str) -> Iterator[Fact]:
    model_type = config.get("model_type")
    if isinstance(model_type, str) and model_type:
        yield Fact("model.type", model_type[:100], origin)
    inner = text.value.get("model_type")
    if text.path and isinstance(inner, str) and inner:
        yield Fact("model.text_type", inner[:100], origin)
    architectures = config.get("architectures")
    if isinstance(architectures, list) and architectures and isinstance(architectures[0], str):
        yield Fact("model.architecture", architectures[0][:200], origin)
    version = config.get("transformers_version")
    if isinstance(version, str) and version:
        yield Fact("model.transformers_version", version[:50], origin)
    dtype = dtype_of(config, text)
    if dtype:
        yield Fact("model.dtype", dtype, origin)
    yield Fact("model.remote_code", isinstance(config.get("auto_map"), dict) and bool(config["auto_map"]), origin)
    yield Fact("model.is_encoder_decoder", config.get("is_encoder_decoder") is True, origin)
    yield Fact("model.multimodal", is_multimodal(config), origin)
    tied = config.get("tie_word_embeddings", merged.get("tie_word_embeddings"))
    if isinstance(tied, bool):
        yield Fact("model.tied", tied, origin)


def is_multimodal(config: Config) -> bool:
    """Whether a config has a part for pictures or sound beside the language model."""
    marks = (
        "vision_config",
        "audio_config",
        "vision_tower",
        "mm_vision_tower",
        "visual",
        "thinker_config",
        "vit_config",
    )
    return any(isinstance(config.get(name), (dict, str)) for name in marks)


def dtype_of(config: Config, text: Text) -> str:
    """The dtype that the weights are to be loaded in: `dtype` since transformers 4.56, `torch_dtype` before."""
    for part in (config, text.value):
        for key in ("dtype", "torch_dtype"):
            value = part.get(key)
            if isinstance(value, str) and value:
                return value.removeprefix("torch.")[:40]
    return ""


def _numbers(text: Config, merged: Config, origin: str) -> Iterator[Fact]:
    told = {name: number(merged, name) for name in ALIASES}
    told["kv_heads"] = kv_heads(merged)
    told["head_dim"] = head_dim(merged)
    for name, value in told.items():
        if value is not None:
            yield Fact(f"model.{name}", value, origin)
    positions = [value for key in POSITIONS if (value := number(merged, key)) is not None]
    if positions:
        yield Fact("model.positions", min(positions), origin)
    window = number(merged, "sliding_window")
    if window and merged.get("use_sliding_window") is not False:
        yield Fact("model.sliding_window", window, origin)
    kind = attention(merged)
    if kind:
        yield Fact("model.attention", kind, origin)


def kv_heads(text: Config) -> int | None:
    """Heads of keys and values: as written; one under Falcon's and GPT-BigCode's multi_query; else as many as heads."""
    if text.get("multi_query") is True and not text.get("new_decoder_architecture"):
        return 1
    if text.get("model_type") == "falcon" and not text.get("new_decoder_architecture"):
        return number(text, "heads")  # its num_kv_heads counts only with the new architecture
    if text.get("multi_query_attention") is True:  # ChatGLM
        return number(text, "multi_query_group_num")
    told = number(text, "kv_heads")
    if told is not None:
        return told
    inner = text.get("attn_config")
    if isinstance(inner, dict):  # DBRX, MPT
        return number(inner, "kv_n_heads") or number(text, "heads")
    return number(text, "heads")


def head_dim(text: Config) -> int | None:
    """Size of a head: as written, else the hidden size divided by the heads."""
    told = number(text, "head_dim")
    if told:
        return told
    hidden, heads = number(text, "hidden_size"), number(text, "heads")
    return hidden // heads if hidden and heads and heads > 0 and hidden % heads == 0 else None


def attention(text: Config) -> str:
    """mha, gqa, mqa, mla, hybrid (attention and other layers), none; empty if it cannot be told."""
    layers = text.get("layer_types")
    linear = ("linear", "mamba", "conv", "recurrent", "delta")
    if isinstance(layers, list) and any(isinstance(one, str) and any(word in one for word in linear) for one in layers):
        return "hybrid"
    if isinstance(text.get("layers_block_type"), list) or isinstance(text.get("hybrid_override_pattern"), str):
        return "hybrid"
    if number(text, "kv_lora_rank"):
        return "mla"
    if text.get("model_type") in ("mamba", "mamba2", "falcon_mamba", "rwkv"):
        return "none"
    heads, kv = number(text, "heads"), kv_heads(text)
    if not heads or not kv:
        return ""
    return "mha" if heads == kv else ("mqa" if kv == 1 else "gqa")
