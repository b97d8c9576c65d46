"""Rotary positions in a config: their kind, factor and original length, however the release that wrote it spells them.

transformers up to 4 writes `rope_scaling` with `type`, later `rope_type`, beside `rope_theta`; transformers 5 writes all
in `rope_parameters`, which may hold one object for each kind of layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from diagnose.model import Fact
from diagnose.sources.checkpoint.config import POSITIONS, head_dim, number

SCALED_ALREADY = frozenset(("su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling"))
"""Kinds whose factor vLLM does not apply to the longest context: max_position_embeddings holds it already."""
KNOWN = frozenset(("default", "linear", "dynamic", "yarn", "longrope", "llama3", "proportional", "axial"))
"""The kinds that the newest transformers computes itself; models with code of their own bring others."""
OWN = frozenset(("su", "mrope", "deepseek_yarn", "deepseek_llama_scaling", "ntk", "xdrope", "ernie", "telechat3-yarn"))
"""Further kinds that published configs write: an engine or the model's own code reads them."""
BASES_OF_4: Mapping[str, float] = {
    "apertus": 12e6, "bitnet": 5e5, "blt": 5e5, "ernie4_5": 5e5, "ernie4_5_moe": 5e5, "falcon_h1": 1e5,
    "flex_olmo": 5e5, "fuyu": 25e3, "gemma3_text": 1e6, "gemma3n_text": 1e6, "gpt_oss": 15e4, "helium": 1e5,
    "lfm2": 1e6, "llama4_text": 5e5, "longcat_flash": 1e7, "minimax": 1e6, "mixtral": 1e6, "persimmon": 25e3,
    "phimoe": 1e6, "qwen2_vl": 1e6, "qwen2_vl_text": 1e6, "qwen2_5_vl": 1e6, "qwen2_5_vl_text": 1e6,
    "qwen3_vl_text": 5e6, "qwen3_vl_moe_text": 5e6, "smollm3": 2e6,
}  # fmt: skip
"""The base that a type's class has in transformers 4.57 where config.json names none; of all others 10,000."""
NEEDED: Mapping[str, tuple[str, ...]] = {
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": ("factor",),
    "longrope": ("short_factor", "long_factor"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
}
"""Keys without which transformers refuses a kind (modeling_rope_utils.py); `original_max_position_embeddings` it fills in."""


def parameters(text: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of rotary positions: those of the full layers where each kind of layer has its own; empty if none."""
    for key in ("rope_parameters", "rope_scaling"):
        value = text.get(key)
        if not isinstance(value, dict) or not value:
            continue
        if "rope_type" in value or "type" in value or not any(isinstance(one, dict) for one in value.values()):
            return value
        nested = {name: one for name, one in value.items() if isinstance(one, dict)}
        return nested.get("full_attention") or next(iter(nested.values()), {})
    return {}


def kind(values: Mapping[str, Any]) -> str:
    """`default`, `linear`, `yarn`, ...; empty if it is no text."""
    told = values.get("rope_type", values.get("type", "default"))
    return told if isinstance(told, str) else ""


def factor(values: Mapping[str, Any]) -> float | None:
    """The scaling factor, if it is a number."""
    told = values.get("factor")
    if isinstance(told, bool) or not isinstance(told, (int, float)) or told != told or abs(told) > 1e9:
        return None
    return float(told)


def original(text: Mapping[str, Any], values: Mapping[str, Any]) -> int | None:
    """The context that the model was trained with before its positions were stretched."""
    for told in (values.get("original_max_position_embeddings"), text.get("original_max_position_embeddings")):
        if isinstance(told, int) and not isinstance(told, bool) and told > 0:
            return told
    return None


def facts(text: Mapping[str, Any], merged: Mapping[str, Any], origin: str) -> Iterator[Fact]:
    """`model.rope_*`, `rope.*`, and `model.context`: the longest context that engines derive from the config."""
    values = parameters(text)
    told = kind(values)
    if values:
        yield from _kind(values, told, origin)
        if (times := factor(values)) is not None:
            yield Fact("model.rope_factor", times, origin)
        if (before := original(text, values)) is not None:
            yield Fact("model.rope_original", before, origin)
        yield from _of_kind(text, merged, values, told, origin)
    yield from _form(text, origin)
    longest = context(merged, values)
    if longest:
        yield Fact("model.context", longest, origin)


def _kind(values: Mapping[str, Any], told: str, origin: str) -> Iterator[Fact]:
    if told:
        yield Fact("model.rope_type", told[:40], origin)
    yield Fact("rope.kind_known", told in KNOWN or told in OWN, origin)
    both = [values[key] for key in ("type", "rope_type") if isinstance(values.get(key), str)]
    if len(both) == 2:
        yield Fact("rope.kinds_agree", both[0] == both[1] or {*both} <= {"su", "longrope", "mrope", "default"}, origin)


def _of_kind(
    text: Mapping[str, Any], merged: Mapping[str, Any], values: Mapping[str, Any], told: str, origin: str
) -> Iterator[Fact]:
    """Whether the keys that a kind needs are there and of use, as transformers validates and computes them."""
    missing = [key for key in NEEDED.get(told, ()) if key not in values]
    if told in NEEDED:
        yield Fact("rope.missing", ", ".join(missing) or "none", origin)
    if "factor" in values and told not in ("default", "longrope", ""):
        times = values["factor"]
        yield Fact("rope.factor_written", str(times)[:40], origin)
        yield Fact("rope.factor_is_number", factor(values) is not None, origin)
        yield Fact("rope.factor_below_one", (factor(values) or 1.0) < 1.0, origin)
    yield from _longrope(merged, values, told, origin)
    before, longest = original(text, values), _positions(merged)
    given = values.get("original_max_position_embeddings")
    if given is not None and (isinstance(given, bool) or not isinstance(given, int)):
        yield Fact("rope.original_is_number", False, origin)
    if before and longest and told == "yarn" and (times := factor(values)):
        # transformers warns where the lengths tell another factor than the one given
        yield Fact("rope.implied_factor", round(longest / before, 4), origin)
        yield Fact("rope.factor_agrees", longest == before or abs(longest / before - times) < 1e-6, origin)
    if before and longest and told == "llama3":
        yield Fact("rope.original_below_longest", before < longest, origin)


def _longrope(merged: Mapping[str, Any], values: Mapping[str, Any], told: str, origin: str) -> Iterator[Fact]:
    """The lists of longrope have a number for each pair of rotated dimensions."""
    size = head_dim(merged)
    partial = values.get("partial_rotary_factor", merged.get("partial_rotary_factor", 1.0))
    if told not in ("longrope", "su") or not size or isinstance(partial, bool) or not isinstance(partial, (int, float)):
        return
    wanted = int(size * partial) // 2
    lengths = [len(values[key]) for key in ("short_factor", "long_factor") if isinstance(values.get(key), list)]
    if lengths and wanted:
        yield Fact("rope.list_wanted", wanted, origin)
        yield Fact("rope.list_length", next((one for one in lengths if one != wanted), wanted), origin)


def _form(text: Mapping[str, Any], origin: str) -> Iterator[Fact]:
    """Which releases read the base: transformers 5 finds it in rope_parameters, earlier ones only beside it."""
    new, old = text.get("rope_parameters"), text.get("rope_scaling")
    if isinstance(new, dict) and new:
        yield Fact("rope.form", "both" if isinstance(old, dict) and old else "rope_parameters", origin)
        base = _theta(new)
        if isinstance(base, (int, float)) and text.get("rope_theta") is None:
            own = BASES_OF_4.get(str(text.get("model_type")), 10_000.0)
            yield Fact("rope.theta_lost_before_5", base != own, origin)
            yield Fact("rope.theta_before_5", own, origin)
    elif isinstance(old, dict):
        yield Fact("rope.form", "rope_scaling" if old else "empty", origin)
    theta = text.get("rope_theta")
    if theta is None and isinstance(new, dict):
        theta = _theta(new)
    if isinstance(theta, (int, float)) and not isinstance(theta, bool) and theta == theta and abs(theta) < 1e18:
        yield Fact("rope.theta", theta, origin)


def _theta(values: Mapping[str, Any]) -> object:
    inner = parameters({"rope_parameters": values})
    return values.get("rope_theta", inner.get("rope_theta"))


def _positions(merged: Mapping[str, Any]) -> int | None:
    value = merged.get("max_position_embeddings")
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def context(text: Mapping[str, Any], values: Mapping[str, Any]) -> int | None:
    """The longest context in tokens, as vLLM derives it (config/model.py, _get_and_verify_max_len).

    Earlier releases of vLLM took the original length times the factor for YaRN, 0.33 takes max_position_embeddings as
    it stands: the longer of both is told, as some engine allows it.
    """
    known = [value for key in POSITIONS if (value := number(text, key)) is not None and value > 0]
    if not known:
        return None
    longest = number(text, "model_max_length") or min(known)
    told, times = kind(values), factor(values)
    if not times or times <= 0 or str(text.get("model_type")).startswith("gemma3") or told in ("default", ""):
        return longest
    if told in ("yarn", "deepseek_yarn"):
        before = original(text, values)
        return max(longest, int(before * times)) if before else longest
    return longest if told in SCALED_ALREADY else int(longest * times)
