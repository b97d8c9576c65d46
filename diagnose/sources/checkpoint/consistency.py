"""Values of a config that are of the wrong type, or do not go together: heads and width, layers and their kinds, ids.

What each kind of mistake does was tried with transformers 4.57 and 5.24: the rules tell it. Lists, one value a layer,
are left alone: models with layers of different sizes write them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache

from diagnose.model import Fact
from diagnose.places import table
from diagnose.sources.checkpoint import config as configs
from diagnose.sources.checkpoint.config import Config, Text, number

WHOLE: frozenset[str] = frozenset(
    (*(key for keys in configs.ALIASES.values() for key in keys), "max_position_embeddings", "moe_intermediate_size")
)
"""Keys that hold a whole number, as text in no release."""
MUST_BE_POSITIVE = frozenset(("hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size"))
NEVER_NULL = frozenset(("hidden_size", "num_attention_heads", "num_hidden_layers"))
"""Of text models; speech models have no vocabulary until they are tuned, and some have no heads of one size."""
FRACTIONS = frozenset(
    ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "rope_theta", "initializer_range", "attention_dropout")
)
FLAGS = frozenset(("tie_word_embeddings", "use_cache", "is_encoder_decoder", "attention_bias", "mlp_bias"))
TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")

TORCH_DTYPES = frozenset(
    """float32 float float16 half bfloat16 float64 double float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz
    float8_e8m0fnu float4_e2m1fn_x2""".split()  # noqa: SIM905
)
"""Names that are dtypes of torch and that a model may be made in."""

ACTIVATIONS = frozenset(
    """gelu gelu_10 gelu_fast gelu_new gelu_python gelu_pytorch_tanh gelu_python_tanh gelu_accurate hardswish laplace
    leaky_relu linear mish quick_gelu relu relu2 relu6 sigmoid silu sqrtsoftplus swish tanh prelu xielu""".split()  # noqa: SIM905
)
"""Keys of ACT2CLS in transformers/activations.py; what is called otherwise is not found there."""

WHOLE_HEADS = frozenset(
    """altclip_text_model arcee aria_text canary_decoder chinese_clip_text_model clip_text_model cosmos3_edge_text cwm
    deepseek_ocr2_text deepseek_v2 esmc eurobert exaone gemma2 gemma3_text gemma3n_text gpt_neox higgs_audio_v2
    hrm_text hyperclovax internlm3 iquestcoder jais2 llama minicpm3 muse_glimmer_text muse_spark_text t5gemma2_text
    ultrabert vaultgemma gpt2 gptj bloom opt bert roberta gpt_neo falcon stablelm persimmon""".split()  # noqa: SIM905
)
"""Model types that refuse a width that is no multiple of their heads; others round down (tried with 4.57 and 5.24)."""
NO_PADDING_ROW = frozenset(
    """csm csm_depth_decoder_model musicgen musicgen_decoder musicgen_melody musicgen_melody_decoder gpt2 gpt_neo gptj
    gpt_neox gpt_neox_japanese bloom falcon mpt codegen gpt_bigcode mamba mamba2 falcon_mamba rwkv ctrl openai-gpt""".split()  # noqa: SIM905
)
"""Model types whose embedding is made without pad_token_id, so that one beyond it does no harm while they are loaded."""
LAYER_TYPES = frozenset(
    """full_attention sliding_attention chunked_attention window_attention indexed_attention minimax_m3_sparse conv moe
    compressed_sparse_attention heavily_compressed_attention hybrid hybrid_sliding linear_attention sparse dense mamba
    reference_sliding_attention attention deepseek_sparse_attention qwen_sparse_attention mlp""".split()  # noqa: SIM905
)
"""Kinds of layers that transformers 5.24 takes, with the older names that it renames (configuration_utils.py)."""
OTHER_ACTIVATIONS = frozenset(("swiglu", "geglu", "reglu", "glu", "squared_relu", "situ", "fused_swiglu", "gelu_tanh"))
"""Names that models with code of their own write; nothing is said of them."""

MOST_WRONG = 20


def facts(config: Config, text: Text, merged: Config, origin: str) -> Iterator[Fact]:
    """What is odd about the values of a config, and whether its sizes go together."""
    yield from _wrong_values(config, text, origin)
    yield from _architecture(config, origin)
    yield from _sizes(text.value, merged, origin)
    yield from _words(config, text, origin)
    yield from token_ids(config, text, "config", origin)


# --- values of a wrong type


def _wrong_values(config: Config, text: Text, origin: str) -> Iterator[Fact]:
    index = 0
    for prefix, part in _parts(config, text):
        for key, value in part.items():
            wants = _wanted(key, value, part is text.value)
            if not wants or index >= MOST_WRONG:
                continue
            label = f"config.wrong.{index}"
            yield Fact(f"{label}.key", f"{prefix}{key}"[:120], origin)
            yield Fact(f"{label}.value", json.dumps(value)[:80], origin)
            yield Fact(f"{label}.wants", wants, origin)
            index += 1


def _parts(config: Config, text: Text) -> list[tuple[str, Config]]:
    """The config itself and the language model's part of it, with what stands before their keys."""
    whole = [("", config)]
    return [*whole, (".".join(text.path) + ".", text.value)] if text.path else whole


def _wanted(key: str, value: object, of_text: bool) -> str:
    """What a key should hold instead; empty if its value is of the right type, or nobody knows.

    Beside a language model's own part the whole config may leave its numbers empty.
    """
    if key in WHOLE:
        return "" if value is None and not of_text else _wanted_number(key, value)
    if key in FRACTIONS and isinstance(value, (str, bool, dict)) and not _is_tagged(value):
        return "a number"
    if key in FLAGS and isinstance(value, (str, list, dict)):
        return "true or false"
    if key in TOKEN_IDS and not _is_ids(value):
        return "a whole number, or a list of them" if key == "eos_token_id" else "a whole number"
    if key == "architectures" and value is not None and not _is_texts(value):
        return "a list of class names"
    if key == "model_type" and value is not None and not isinstance(value, str):
        return "a text"
    if key in ("dtype", "torch_dtype") and value is not None and not isinstance(value, (str, dict)):
        return "the name of a dtype"
    if key in ("rope_scaling", "rope_parameters") and value is not None and not isinstance(value, dict):
        return "an object"
    return ""


def _wanted_number(key: str, value: object) -> str:
    if isinstance(value, (list, dict)):
        return ""
    if value is None:
        return "a whole number" if key in NEVER_NULL else ""
    if isinstance(value, (bool, str)) or (isinstance(value, float) and not _is_fine_float(key, value)):
        return "a whole number"
    if isinstance(value, int) and value <= 0 and key in MUST_BE_POSITIVE:
        return "a number above 0"
    return ""


def _is_fine_float(key: str, value: float) -> bool:
    """Some published configs write 1e6 where a length is meant; sizes of layers are never written so."""
    return key not in MUST_BE_POSITIVE and value.is_integer()


def _is_tagged(value: object) -> bool:
    """How transformers 5 writes an infinite number: {"__float__": "Infinity"}."""
    return isinstance(value, dict) and "__float__" in value


def _is_ids(value: object) -> bool:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return True
    return isinstance(value, list) and all(isinstance(one, int) and not isinstance(one, bool) for one in value)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


# --- the class


def _architecture(config: Config, origin: str) -> Iterator[Fact]:
    """Whether the class that a config names is one of its model type's, by the table of transformers' auto classes."""
    told = config.get("architectures")
    yield Fact("model.architectures", len(told) if isinstance(told, list) else 0, origin)
    if not isinstance(told, list) or not told or not isinstance(told[0], str):
        return
    owners, kind = types_of(told[0]), config.get("model_type")
    if owners and isinstance(kind, str) and kind in _classes():
        # a language model saved out of a larger one has the type of that part: MllamaForCausalLM, mllama_text_model
        part = told[0].endswith("ForCausalLM") and any(kind.startswith(owner + "_") for owner in owners)
        yield Fact("model.architecture_fits", kind in owners or part, origin)
        if kind not in owners and not part:
            yield Fact("model.architecture_type", ", ".join(owners)[:200], origin)


def types_of(architecture: str) -> tuple[str, ...]:
    """The model types that a class of transformers is for; none if it is not one of the auto classes."""
    return tuple(kind for kind, classes in _classes().items() if architecture in classes)


@cache
def _classes() -> Mapping[str, frozenset[str]]:
    """The classes of each model type; empty if the table is not there."""
    return {row["type"]: frozenset(row["classes"]) for row in table("models", "architectures.json").get("rows", ())}


# --- sizes


def _sizes(text: Config, merged: Config, origin: str) -> Iterator[Fact]:
    hidden, heads = number(merged, "hidden_size"), number(merged, "heads")
    kind = configs.attention(merged)
    ordinary = kind in ("mha", "gqa", "mqa") and heads is not None and heads > 0
    whole = str(merged.get("model_type")) in WHOLE_HEADS
    if ordinary and heads and hidden and hidden > 0 and whole and number(merged, "head_dim") is None:
        yield Fact("model.heads_divide", hidden % heads == 0, origin)
    kv = configs.kv_heads(merged)
    if heads and kv is not None and (ordinary or (kv == 0 and kind == "")):
        yield Fact("model.kv_heads_divide", kv > 0 and heads % kv == 0, origin)
    yield from _layer_types(text, origin)
    experts, used = number(text, "experts"), number(text, "experts_per_token")
    if experts and used and experts > 0:
        yield Fact("model.experts_fit", used <= experts, origin)
    groups = number(text, "n_group")
    if experts and groups and experts > 0 and groups > 0:
        yield Fact("model.expert_groups", groups, origin)
        yield Fact("model.expert_groups_divide", experts % groups == 0, origin)


def _layer_types(text: Config, origin: str) -> Iterator[Fact]:
    """Of a list that names kinds of attention; backbones of vision models have a list of the same name for other things."""
    listed, layers = text.get("layer_types"), number(text, "layers")
    if not isinstance(listed, list) or not any(isinstance(one, str) and one in LAYER_TYPES for one in listed[:10_000]):
        return
    yield Fact("model.layer_types", len(listed), origin)
    if layers is not None:
        yield Fact("model.layer_types_fit", len(listed) == layers, origin)
    unknown = sorted({one for one in listed[:10_000] if isinstance(one, str) and one not in LAYER_TYPES})
    if unknown:
        yield Fact("model.layer_type_unknown", ", ".join(unknown)[:200], origin)


# --- words


def _words(config: Config, text: Text, origin: str) -> Iterator[Fact]:
    for part in (config, text.value):
        key = next((name for name in ("dtype", "torch_dtype") if isinstance(part.get(name), str)), "")
        if key:
            yield Fact("model.dtype_key", key, origin)
            yield Fact("model.dtype_written", str(part[key])[:60], origin)
            yield Fact("model.dtype_known", part[key] in TORCH_DTYPES, origin)
            break
    activation = text.value.get(
        "hidden_act", text.value.get("activation_function", text.value.get("hidden_activation"))
    )
    if isinstance(activation, str) and activation and activation not in OTHER_ACTIVATIONS:
        yield Fact("model.activation", activation[:60], origin)
        yield Fact("model.activation_known", activation in ACTIVATIONS, origin)
    if "quantization_config" in config:
        yield Fact("model.quantization_null", config["quantization_config"] is None, origin)


def token_ids(config: Config, text: Text, file: str, origin: str) -> Iterator[Fact]:
    """`token_id.FILE-NAME.*` of the special tokens that a file gives ids for, against the vocabulary of the config."""
    vocabulary = number(text.value, "vocab_size")
    for key in TOKEN_IDS:
        value = config.get(key, text.value.get(key) if file == "config" else None)
        if key == "pad_token_id" and file == "config":
            # the language model's own embedding goes by its own part, whatever the whole says
            value = None if str(text.value.get("model_type")) in NO_PADDING_ROW else text.value.get(key)
        every = value if isinstance(value, list) else [value]
        ids = [one for one in every if isinstance(one, int) and not isinstance(one, bool) and abs(one) < 1 << 62]
        if not ids:
            continue
        label = f"token_id.{file}-{key.removesuffix('_token_id').replace('_', '-')}"
        yield Fact(f"{label}.key", key, origin)
        yield Fact(f"{label}.ids", ", ".join(str(one) for one in ids[:20]), origin)
        if vocabulary is None or vocabulary <= 0:
            continue
        beyond = [one for one in ids if one >= vocabulary]
        yield Fact(f"{label}.beyond", len(beyond), origin)
        yield Fact(f"{label}.negative", sum(1 for one in ids if one < 0), origin)
        if beyond:
            yield Fact(f"{label}.first_beyond", beyond[0], origin)
