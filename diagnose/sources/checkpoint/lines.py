"""Where in a JSON file of a model a fact stands: the line of the key that it was read from, for the report."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from diagnose.model import Fact
from diagnose.sources import files
from diagnose.sources.checkpoint.config import ALIASES, POSITIONS

MOST_BYTES = 1 << 20
_KEY = re.compile(r'"([^"\\\n]{1,100})"\s{0,8}:')
_KEYS: Mapping[str, tuple[str, ...]] = {
    **{f"model.{name}": keys for name, keys in ALIASES.items()},
    "model.type": ("model_type",),
    "model.architecture": ("architectures",),
    "model.architecture_fits": ("architectures",),
    "model.architecture_type": ("architectures",),
    "model.transformers_version": ("transformers_version",),
    "model.positions": POSITIONS,
    "model.context": POSITIONS,
    "model.sliding_window": ("sliding_window",),
    "model.tied": ("tie_word_embeddings",),
    "model.dtype": ("dtype", "torch_dtype"),
    "model.dtype_known": ("dtype", "torch_dtype"),
    "model.dtype_written": ("dtype", "torch_dtype"),
    "model.activation": ("hidden_act", "hidden_activation", "activation_function"),
    "model.activation_known": ("hidden_act", "hidden_activation", "activation_function"),
    "model.heads_divide": ("num_attention_heads", "n_head"),
    "model.kv_heads_divide": ("num_key_value_heads", "num_kv_heads", "n_head_kv"),
    "model.layer_types": ("layer_types",),
    "model.layer_types_fit": ("layer_types",),
    "model.layer_type_unknown": ("layer_types",),
    "model.experts_fit": ALIASES["experts_per_token"],
    "model.expert_groups": ("n_group",),
    "model.expert_groups_divide": ("n_group",),
    "model.remote_code": ("auto_map",),
    "remote_code.missing": ("auto_map",),
    "model.quantization": ("quant_method", "quantization_config"),
    "model.quantization_bits": ("bits", "w_bit"),
    "model.quantization_group": ("group_size", "q_group_size"),
    "model.quantization_null": ("quantization_config",),
    "quantization.method_missing": ("quantization_config",),
    "quantization.method_known": ("quant_method",),
    "quantization.fits_tensors": ("quant_method", "quantization_config"),
    "quantization.bits_fit": ("bits", "w_bit"),
    "quantization.group_fits": ("group_size", "q_group_size"),
    "generation.without_effect": ("temperature", "top_p", "top_k", "min_p"),
    "generation.max_new_tokens": ("max_new_tokens",),
    "adapter.type": ("peft_type",),
    "adapter.type_known": ("peft_type",),
    "adapter.rank": ("r",),
    "adapter.rank_fits": ("r",),
    "adapter.base": ("base_model_name_or_path",),
    "adapter.base_found": ("base_model_name_or_path",),
    "adapter.base_is_path": ("base_model_name_or_path",),
    "adapter.targets": ("target_modules",),
}
"""The keys that a fact may be read from; the first that the file has counts."""


def lines_of(path: str) -> dict[str, int]:
    """The first line of each key in a JSON file; nothing of a file that is long, or is written on one line."""
    return lines_in(files.read_text(path, MOST_BYTES) or "")


def lines_in(text: str) -> dict[str, int]:
    """The first line of each key in a text."""
    found: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > 10_000:
            return {}
        for key in _KEY.findall(line):
            found.setdefault(key, number)
    return found if text.count("\n") > 1 else {}


def placed(facts: Iterable[Fact], lines: Mapping[str, int]) -> Iterator[Fact]:
    """The facts, with the lines of the keys that they were read from."""
    for fact in facts:
        line = fact.line or _line(fact, lines)
        yield Fact(fact.name, fact.value, fact.origin, line) if line else fact


def _line(fact: Fact, lines: Mapping[str, int]) -> int:
    if fact.name.startswith("rope."):
        keys: tuple[str, ...] = ("rope_parameters", "rope_scaling", "rope_theta")
    elif fact.name.startswith("model.rope_"):
        keys = ("rope_parameters", "rope_scaling")
    elif fact.name.endswith(".key") and isinstance(fact.value, str):
        keys = (fact.value.rpartition(".")[2],)
    else:
        keys = _KEYS.get(fact.name, ())
    return next((lines[key] for key in keys if key in lines), 0)
