"""Rotary positions in a config: their kind, factor and original length, however the release that wrote it spells them.

transformers up to 4 writes `rope_scaling` with `type`, later `rope_type`, beside `rope_theta`; transformers 5 writes all
in `rope_parameters`, which may hold one object for each kind of layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from diagnose.model import Fact

SCALED_ALREADY = frozenset(("su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling"))
"""Kinds whose factor vLLM does not apply to the longest context: max_position_embeddings holds it already."""
_RENAMED = {"su": "longrope", "mrope": "default"}


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


def facts(text: Mapping[str, Any], origin: str) -> Iterator[Fact]:
    """`model.rope_*`, and `model.context`: the longest context that engines derive from the config."""
    values = parameters(text)
    told = kind(values)
    if values and told:
        yield Fact("model.rope_type", told[:40], origin)
        if (times := factor(values)) is not None:
            yield Fact("model.rope_factor", times, origin)
        if (before := original(text, values)) is not None:
            yield Fact("model.rope_original", before, origin)
    longest = context(text, values)
    if longest:
        yield Fact("model.context", longest, origin)


def context(text: Mapping[str, Any], values: Mapping[str, Any]) -> int | None:
    """The longest context in tokens, as vLLM derives it (config/model.py, _get_and_verify_max_len).

    Up to 0.20 vLLM took the original length times the factor for YaRN, newer releases take max_position_embeddings as
    it stands: the longer of both is told, as some engine allows it.
    """
    from diagnose.sources.checkpoint.config import POSITIONS, number

    known = [value for key in POSITIONS if (value := number(text, key)) is not None and value > 0]
    if not known:
        return None
    longest = number(text, "model_max_length") or min(known)
    told, times = kind(values), factor(values)
    if not times or text.get("model_type", "").startswith("gemma3") or told in ("default", ""):
        return longest
    if told in ("yarn", "deepseek_yarn"):
        before = original(text, values)
        return max(longest, int(before * times)) if before else longest
    return longest if told in SCALED_ALREADY else int(longest * times)
