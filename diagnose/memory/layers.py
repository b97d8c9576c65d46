"""Which layer of a model is cached in which way: from the list in its config, or by the rule of its model type.

The rules are those by which transformers' configuration classes fill in `layer_types` where a file has none
(transformers 5.24, models/*/configuration_*.py).
"""

from __future__ import annotations

from collections.abc import Callable

from diagnose.memory.shape import MOST_LAYERS, Shape, whole

Rule = Callable[[Shape, int], "list[str] | None"]
DELTA = frozenset({"qwen3_next", "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text", "olmo_hybrid"})
"""Types with gated delta nets."""
CONV = frozenset({"lfm2", "lfm2_moe"})
"""Types with short convolutions."""


def layer_types(found: Shape) -> list[str] | None:
    """The kind of every layer, as transformers names them; None where it is not known.

    A list in the file goes first, then the rule of the type's configuration class, then what all of them fall back to:
    a window or chunk that is given holds for every layer.
    """
    listed = found.values.get("layer_types")
    if listed is None:
        listed = found.values.get("layers_block_type")
    if listed is not None:
        names = found.texts("layer_types") or found.texts("layers_block_type")
        return [_KINDS.get(name, name) for name in names] if names else None
    count = found.layers() if found.type != "nemotron_h" else 0  # its pattern has as many letters as layers
    if count is None:
        return None
    rule = _RULES.get(found.type)
    if rule is not None:
        return rule(found, count)
    if found.values.get("use_sliding_window") is False:
        return ["full_attention"] * count
    if found.number("sliding_window"):
        return ["sliding_attention"] * count
    if found.number("attention_chunk_size"):
        return ["chunked_attention"] * count
    return ["full_attention"] * count


_KINDS = {
    "attention": "full_attention",
    "mamba": "linear_attention",
    "deepseek_sparse_attention": "indexed_attention",
    "global_attention": "full_attention",
    "local_attention": "sliding_attention",
}


def _every(nth: int, rest: str = "sliding_attention", own: str = "full_attention") -> Rule:
    """A rule: every nth layer, counted from one, is `own`, the others `rest`."""

    def rule(found: Shape, count: int) -> list[str] | None:
        step = found.number("sliding_window_pattern", nth) if rest.startswith("sliding") else nth
        if not step:
            return None
        return [own if (index + 1) % step == 0 else rest for index in range(count)]

    return rule


def _later(found: Shape, count: int) -> list[str] | None:
    """Qwen2's rule: layers from max_window_layers on have a window, if use_sliding_window says so."""
    window = found.number("sliding_window") if found.flag("use_sliding_window", found.type == "dots1") else None
    first = found.number("max_window_layers", count)
    if first is None:
        return None
    return ["sliding_attention" if window and index >= first else "full_attention" for index in range(count)]


def _qwen2_moe(found: Shape, count: int) -> list[str] | None:
    """Qwen2's mixture: every other one of the layers before max_window_layers has a window, if use_sliding_window says so."""
    window = found.number("sliding_window") if found.flag("use_sliding_window") else None
    before = found.number("max_window_layers", count)
    if before is None:
        return None
    has = [bool(window) and index % 2 == 0 and index < before for index in range(count)]
    return ["sliding_attention" if windowed else "full_attention" for windowed in has]


def _llama4(found: Shape, count: int) -> list[str] | None:
    """Layers with rotary positions attend within a chunk, the others (every fourth) to everything."""
    chunk = found.number("attention_chunk_size")
    listed = found.values.get("no_rope_layers")
    step = found.number("no_rope_layer_interval", 4)
    if not step or (listed and (not isinstance(listed, list) or len(listed) < count)):
        return None
    rotary = [bool(listed[index]) if listed else (index + 1) % step != 0 for index in range(count)]
    return ["chunked_attention" if has and chunk else "full_attention" for has in rotary]


def _smollm3(found: Shape, count: int) -> list[str] | None:
    """All layers attend to everything, unless use_sliding_window gives a window to those without rotary positions."""
    if not (found.flag("use_sliding_window") and found.number("sliding_window")):
        return ["full_attention"] * count
    listed, step = found.values.get("no_rope_layers"), found.number("no_rope_layer_interval", 4)
    if not step or (listed and (not isinstance(listed, list) or len(listed) < count)):
        return None
    rotary = [bool(listed[index]) if listed else (index + 1) % step != 0 for index in range(count)]
    return ["full_attention" if has else "sliding_attention" for has in rotary]


def _exaone4(found: Shape, count: int) -> list[str] | None:
    if not found.number("sliding_window"):
        return ["full_attention"] * count
    pattern = found.values.get("sliding_window_pattern", 4)
    if isinstance(pattern, str) and pattern:  # "LLLG"
        return ["full_attention" if pattern[i % len(pattern)] == "G" else "sliding_attention" for i in range(count)]
    step = whole(pattern)
    return [("full_attention" if (i + 1) % step == 0 else "sliding_attention") for i in range(count)] if step else None


def _last_full(found: Shape, count: int) -> list[str] | None:
    made = _every(6)(found, count)
    return [*made[:-1], "full_attention"] if made else made


def _afmoe(found: Shape, count: int) -> list[str] | None:
    step = found.number("global_attn_every_n_layers", 4)
    return [("full_attention" if (i + 1) % step == 0 else "sliding_attention") for i in range(count)] if step else None


def _cwm(found: Shape, count: int) -> list[str]:
    return ["full_attention" if index % 4 == 0 else "sliding_attention" for index in range(count)]


def _intervals(found: Shape, count: int) -> list[str] | None:
    """Qwen3-Next: every fourth layer attends to everything, the others are linear."""
    step = found.number("full_attention_interval", 4)
    return [("full_attention" if (i + 1) % step == 0 else "linear_attention") for i in range(count)] if step else None


def _jamba(found: Shape, count: int) -> list[str] | None:
    period, offset = found.number("attn_layer_period", 8), found.number("attn_layer_offset", 4)
    if not period or offset is None:
        return None
    return ["full_attention" if index % period == offset else "linear_attention" for index in range(count)]


def _bamba(found: Shape, count: int) -> list[str] | None:
    own = found.indices("attn_layer_indices")
    if own is None:
        return None
    return ["full_attention" if index in own else "linear_attention" for index in range(count)]


def _lfm2(found: Shape, count: int) -> list[str] | None:
    own = found.indices("full_attn_idxs")
    if own is None:
        return None
    whole_model = found.values.get("full_attn_idxs") is None
    return ["full_attention" if whole_model or index in own else "conv" for index in range(count)]


def _nemotron_h(found: Shape, count: int) -> list[str] | None:
    pattern = found.values.get("hybrid_override_pattern")
    letters = {"M": "linear_attention", "*": "full_attention", "-": "mlp", "E": "moe"}
    if not isinstance(pattern, str) or not pattern or len(pattern) > MOST_LAYERS or set(pattern) - set(letters):
        return None
    return [letters[letter] for letter in pattern]


def _recurrent_gemma(found: Shape, count: int) -> list[str] | None:
    listed = found.texts("block_types") or ["recurrent", "recurrent", "attention"]
    if set(listed) - {"recurrent", "attention"}:
        return None
    kinds = {"recurrent": "linear_attention", "attention": "sliding_attention"}
    return [kinds[listed[index % len(listed)]] for index in range(count)]


_RULES: dict[str, Rule] = {
    **dict.fromkeys(("qwen2", "qwen3", "dots1", "qwen2_vl_text", "qwen2_5_vl_text"), _later),
    **dict.fromkeys(("gemma2", "vaultgemma"), _every(2)),
    **dict.fromkeys(("gemma3_text", "gemma3"), _every(6)),
    "gemma3n_text": _every(5),
    **dict.fromkeys(("gemma4_text", "gemma4_unified_text"), _last_full),
    "cohere2": _every(4),
    "gpt_oss": _every(2),
    "olmo3": _every(4),
    **dict.fromkeys(("exaone4", "exaone_moe"), _exaone4),
    **dict.fromkeys(("llama4_text", "llama4"), _llama4),
    "qwen2_moe": _qwen2_moe,
    "smollm3": _smollm3,
    "afmoe": _afmoe,
    "cwm": _cwm,
    **dict.fromkeys(DELTA, _intervals),
    "jamba": _jamba,
    "bamba": _bamba,
    **dict.fromkeys(CONV, _lfm2),
    "nemotron_h": _nemotron_h,
    "recurrent_gemma": _recurrent_gemma,
    "minimax": _every(2, "full_attention", "linear_attention"),
    "granitemoehybrid": lambda found, count: ["linear_attention"] * count,
    "falcon_h1": lambda found, count: ["hybrid"] * count,
    **dict.fromkeys(("mamba", "mamba2", "falcon_mamba"), lambda found, count: ["linear_attention"] * count),
}
"""How the configuration classes fill in layer_types where the file has none (transformers 5.24, models/*/configuration_*.py)."""
