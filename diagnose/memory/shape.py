"""A config.json → the keys that shapes follow from: of the language model, under one name each, with the type's defaults.

A published config.json leaves out what its class has as default, writes `n_embd` for `hidden_size`, and keeps the
language model of a multimodal one in `text_config`. The defaults and names by model type are in
dataset/models/defaults.json, read from transformers' configuration classes by dataset/models/refresh.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

from msgspec import Struct

from diagnose.places import table

MOST_LAYERS = 1_000
MOST_SIZE = 1 << 40
"""Numbers beyond are no sizes of a model; nothing is computed from them."""

_PARTS = ("text_config", "thinker_config", "llm_config", "language_config", "language_model_config")
_NAMES: dict[str, tuple[str, ...]] = {
    "hidden_size": ("n_embd", "d_model", "dim"),
    "num_hidden_layers": ("n_layer", "num_layers", "n_layers", "decoder_layers"),
    "num_attention_heads": ("n_head", "num_heads", "n_heads", "decoder_attention_heads"),
    "num_key_value_heads": ("num_kv_heads", "n_head_kv", "multi_query_group_num", "num_query_groups", "n_kv_heads"),
    "head_dim": ("kv_channels", "d_kv", "attention_head_dim"),
    "vocab_size": ("padded_vocab_size",),
}
"""Other names of keys; a type's own names from the table go before them."""


class Shape(Struct, frozen=True):
    """The language model of a config.json. `known`: its type stands in the table; `values` are its keys, by common name."""

    type: str
    values: dict[str, Any]
    known: bool
    nested: bool = False
    given: frozenset[str] = frozenset()

    def number(self, name: str, fallback: int | None = None) -> int | None:
        """A key as a whole number that can be a size; `fallback` where it is not given, None where it is nonsense."""
        value = self.values.get(name)
        if value is None:
            return fallback
        return whole(value)

    def flag(self, name: str, fallback: bool = False) -> bool:
        """A key as truth value."""
        value = self.values.get(name)
        return fallback if value is None else bool(value)

    def texts(self, name: str) -> list[str] | None:
        """A key as list of words; None if it is not one."""
        value = self.values.get(name)
        if not isinstance(value, (list, tuple)) or len(value) > MOST_LAYERS:
            return None
        return [item for item in value if isinstance(item, str)] if all(isinstance(i, str) for i in value) else None

    def indices(self, name: str) -> frozenset[int] | None:
        """A key as a set of layers' indices; empty where it is not given, None if it is none."""
        value = self.values.get(name)
        if value is None:
            return frozenset()
        if not isinstance(value, (list, tuple)) or len(value) > MOST_LAYERS:
            return None
        return frozenset(item for item in value if isinstance(item, int) and not isinstance(item, bool))

    def layers(self) -> int | None:
        """Number of layers."""
        count = self.number("num_hidden_layers")
        return count if count is not None and count <= MOST_LAYERS else None

    def heads(self) -> int | None:
        """Number of query heads."""
        return self.number("num_attention_heads") or None

    def kv_heads(self) -> int | None:
        """Heads that keys and values have: as given, one for multi-query attention, else as many as query heads."""
        if self.values.get("multi_query") is True and not self.flag("new_decoder_architecture"):
            return 1
        if self.values.get("multi_query_attention") is False:
            return self.heads()
        if self.type == "falcon" and not self.flag("new_decoder_architecture"):
            return self.heads()  # num_kv_heads counts only with the new architecture
        value = self.values.get("num_key_value_heads")
        return self.heads() if value is None else whole(value)

    def value_dim(self) -> int | None:
        """Values of one head of latent attention: as given, else the hidden size shared among the heads (MiniCPM3)."""
        if self.values.get("v_head_dim") is not None or self.type != "minicpm3":
            return self.number("v_head_dim")
        hidden, heads = self.number("hidden_size"), self.heads()
        return hidden // heads if hidden and heads else None

    def head_dim(self) -> int | None:
        """Values of one head: as given, else the hidden size shared among the heads."""
        if self.values.get("head_dim") is not None:
            return self.number("head_dim") or None
        hidden, heads = self.number("hidden_size"), self.heads()
        return hidden // heads if hidden and heads else None


def whole(value: Any) -> int | None:
    """A number that can be a size, or None: no flags, no fractions, nothing negative or beyond all sizes."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, float) and (not math.isfinite(value) or value != int(value)):
        return None
    return int(value) if 0 <= value <= MOST_SIZE else None


def shape(config: Mapping[str, Any]) -> Shape | None:
    """The language model's keys; None if there are none to go by."""
    outer = _text(config.get("model_type"))
    table = _table()
    part, kind, nested = config, outer, False
    for _ in range(4):
        row = table.get(kind, {})
        names = [name for name in (row.get("decoder"), *_PARTS) if name]
        inner = next((part[name] for name in names if isinstance(part.get(name), Mapping) and part[name]), None)
        if inner is None:
            if not nested and row.get("decoder_type") and "hidden_size" in part:
                kind = row["decoder_type"]  # written before the type had a part of its own
            break
        nested = True
        kind = _text(inner.get("model_type")) or row.get("decoder_type", "")
        part = inner
    if not isinstance(part, Mapping):
        return None
    entry = table.get(kind)
    values = dict(entry["defaults"]) if entry else {}
    own = {key: value for key, value in part.items() if isinstance(key, str)}
    values |= {key: value for key, value in own.items() if value is not None or key in ("sliding_window",)}
    _rename(values, own, entry.get("names", {}) if entry else {})
    if (
        kind == "bloom" and own.get("n_embed") is not None
    ):  # it goes before hidden_size, whose default is no published one
        values["hidden_size"] = own["n_embed"]
    if nested and isinstance(config.get("tie_word_embeddings"), bool) and "tie_word_embeddings" not in own:
        values["tie_word_embeddings"] = config["tie_word_embeddings"]
    elif nested and "tie_word_embeddings" not in own and outer in table:
        values["tie_word_embeddings"] = table[outer]["defaults"].get("tie_word_embeddings", False)
    if values.get("hidden_size") is None:
        return None
    return Shape(kind, values, entry is not None, nested, frozenset(own))


def _rename(values: dict[str, Any], own: Mapping[str, Any], names: Mapping[str, str]) -> None:
    """Put every key under its common name; what the file says goes before what the type has as default."""
    for common, other in names.items():
        if own.get(common) is None and values.get(other) is not None:
            values[common] = values[other]
    for common, others in _NAMES.items():
        if values.get(common) is None:
            found = next((values[name] for name in others if values.get(name) is not None), None)
            if found is not None:
                values[common] = found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


@cache
def _table() -> dict[str, dict[str, Any]]:
    """The rows of the table by model type; none if it is not there."""
    return {row["type"]: row for row in table("models", "defaults.json").get("rows", ())}
