"""generation_config.json → what generation is told by default, what of it has no effect, and what no release accepts.

The limits are those of transformers' GenerationConfig.validate and of its logits processors (generation/logits_process.py).
vLLM takes temperature, top_p, top_k, min_p, repetition_penalty and max_new_tokens from this file too, and the end tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from diagnose.model import Fact
from diagnose.sources.checkpoint import consistency
from diagnose.sources.checkpoint.config import Config, Text

_SAMPLING: Mapping[str, Any] = {
    "temperature": 1.0,
    "top_p": 1.0,
    "min_p": None,
    "typical_p": 1.0,
    "top_k": 50,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
}
"""Flags that count only with do_sample, and the value that says nothing."""


def facts(value: Mapping[str, Any], config: Config | None, text: Text | None, origin: str) -> Iterator[Fact]:
    """`generation.*` and `token_id.generation-*` of the file's value."""
    for key in ("max_new_tokens", "max_length"):
        if isinstance(value.get(key), int) and not isinstance(value[key], bool):
            yield Fact(f"generation.{key}", value[key], origin)
    sampled = value.get("do_sample")
    if isinstance(sampled, bool):
        yield Fact("generation.do_sample", sampled, origin)
    if sampled is not True:
        yield Fact("generation.without_effect", ", ".join(without_effect(value)) or "none", origin)
    if sampled is True and _takes_all(value):
        yield Fact("generation.top_k_all", True, origin)
    for index, (key, wants) in enumerate(wrong(value)):
        yield Fact(f"generation.wrong.{index}.key", key, origin)
        yield Fact(f"generation.wrong.{index}.value", str(value[key])[:80], origin)
        yield Fact(f"generation.wrong.{index}.wants", wants, origin)
    if config is None or text is None:
        return
    yield from consistency.token_ids(value, text, "generation", origin)
    yield from _end(value, config, text, origin)


def _end(value: Mapping[str, Any], config: Config, text: Text, origin: str) -> Iterator[Fact]:
    """Whether the end tokens of the config are among those that generation stops at: only this file's count there."""
    of_config = _ids(config.get("eos_token_id", text.value.get("eos_token_id")))
    own = _ids(value.get("eos_token_id"))
    if of_config:
        yield Fact("generation.has_eos", bool(own), origin)
    if of_config and own:
        yield Fact("generation.eos_of_config", of_config <= own, origin)


def _ids(value: object) -> frozenset[int]:
    every = value if isinstance(value, list) else [value]
    return frozenset(one for one in every if isinstance(one, int) and not isinstance(one, bool))


def without_effect(value: Mapping[str, Any]) -> list[str]:
    """The flags that are set and count only when sampling, which is off."""
    return [key for key, nothing in _SAMPLING.items() if value.get(key) is not None and value[key] != nothing]


def wrong(value: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Keys whose value generation refuses, and what it wants instead."""
    found = []
    for key, wants in (
        ("temperature", _temperature(value)),
        ("top_p", _within(value.get("top_p"), 0, 1)),
        ("min_p", _within(value.get("min_p"), 0, 1)),
        ("top_k", _whole(value.get("top_k"), 0) if value.get("do_sample") is True and not _takes_all(value) else ""),
        ("repetition_penalty", _above(value.get("repetition_penalty"), 0)),
        ("max_new_tokens", _whole(value.get("max_new_tokens"), 1)),
        ("num_beams", _whole(value.get("num_beams"), 1)),
        ("num_return_sequences", _sequences(value)),
        ("eos_token_id", _id(value.get("eos_token_id"))),
        ("bos_token_id", _id(value.get("bos_token_id"))),
        ("pad_token_id", _id(value.get("pad_token_id"))),
    ):
        if wants:
            found.append((key, wants))
    return found


def _takes_all(value: Mapping[str, Any]) -> bool:
    """Whether top_k is vLLM's -1, which means all tokens there, as 0 does for both."""
    return value.get("top_k") == -1 and not isinstance(value["top_k"], bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _temperature(value: Mapping[str, Any]) -> str:
    """Zero is refused when sampling; without it the value is not looked at."""
    told = value.get("temperature")
    if told is None:
        return ""
    if not _is_number(told) or told != told or told < 0:
        return "a number above 0"
    return "a number above 0, or do_sample false" if told == 0 and value.get("do_sample") is True else ""


def _within(value: Any, least: float, most: float) -> str:
    if value is None:
        return ""
    return "" if _is_number(value) and least <= value <= most else f"a number between {least:g} and {most:g}"


def _above(value: Any, least: float) -> str:
    if value is None:
        return ""
    return "" if _is_number(value) and value > least else f"a number above {least:g}"


def _whole(value: Any, least: int) -> str:
    if value is None:
        return ""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return "" if whole and value >= least else f"a whole number of at least {least}"


def _sequences(value: Mapping[str, Any]) -> str:
    count, beams = value.get("num_return_sequences"), value.get("num_beams") or 1
    if not isinstance(count, int) or isinstance(count, bool) or count <= 1 or not isinstance(beams, int):
        return ""
    if beams == 1:
        return "" if value.get("do_sample") is True else "1, unless it samples or searches with beams"
    return f"at most num_beams ({beams})" if count > beams else ""


def _id(value: Any) -> str:
    every = value if isinstance(value, list) else [value]
    good = all(one is None or (isinstance(one, int) and not isinstance(one, bool)) for one in every)
    return "" if good else "whole numbers"
