"""How much memory a model needs, by part: exact where arithmetic is exact, stated estimates elsewhere.

`shape` reads a config.json, `cache` tells what is kept per token and sequence, `stored` how libraries lay that out,
`parameters` counts weights, `tuning` what training adds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from diagnose.memory.cache import CacheGroup, cache_groups
from diagnose.memory.parameters import parameters
from diagnose.memory.shape import shape
from diagnose.memory.stored import PLAIN, sequence_bytes, value_bytes
from diagnose.model import Fact

__all__ = ["CacheGroup", "cache_groups", "facts"]


def facts(config: Mapping[str, Any], origin: str) -> Iterator[Fact]:
    """What a config.json tells of the cache and the parameters, as facts. Nothing is raised; what is not known is left out."""
    groups = cache_groups(config)
    found = shape(config)
    seen: dict[str, int] = {}
    for group in groups:
        seen[group.kind] = seen.get(group.kind, 0) + 1
        name = group.kind if seen[group.kind] == 1 else f"{group.kind}-{seen[group.kind]}"
        yield from _group_facts(group, f"model.cache.{name}", origin)
        fixed = _fixed(group, value_bytes(dtype_of(config)) or Fraction(2))
        if fixed:
            yield Fact(f"model.cache.{name}.fixed_bytes", fixed, origin)
    count = parameters(config)
    if count is not None:
        yield Fact("model.parameters", count, origin)
    width = found.number("moe_intermediate_size") or found.number("intermediate_size") if found else None
    if found is not None and width and found.number("num_experts_per_tok"):
        yield Fact("model.expert_width", width, origin)
    if groups and found is not None:
        value = value_bytes(dtype_of(config)) or Fraction(2)
        yield Fact("model.cache.assumed", any(group.assumed for group in groups), origin)
        per_token = sum(
            group.layers * (group.values_per_token + group.index_per_token) for group in groups if group.kind != "cross"
        )
        yield Fact("model.cache.values_per_token", per_token, origin)
        state = sum(_fixed(group, value) for group in groups)
        if state:
            yield Fact("model.cache.state_bytes", state, origin)


def _fixed(group: CacheGroup, value: Fraction) -> int:
    """What all layers of a group keep of one sequence however long it is, in bytes."""
    return sequence_bytes([group], 0, value, PLAIN)


def dtype_of(config: Mapping[str, Any]) -> str:
    """The dtype that the config names for the weights; bfloat16 if it names none that is known."""
    parts = [config, *(config[name] for name in ("text_config",) if isinstance(config.get(name), Mapping))]
    for part in parts:
        for key in ("dtype", "torch_dtype"):
            name = part.get(key)
            if isinstance(name, str) and value_bytes(name) is not None:
                return name.removeprefix("torch.")
    return "bfloat16"


def _group_facts(group: CacheGroup, name: str, origin: str) -> Iterator[Fact]:
    yield Fact(f"{name}.layers", group.layers, origin)
    if group.values_per_token:
        yield Fact(f"{name}.values_per_token", group.values_per_token, origin)
        yield Fact(f"{name}.heads", group.heads, origin)
    if group.window:
        yield Fact(f"{name}.window", group.window, origin)
    if group.expanded_per_token:
        yield Fact(f"{name}.expanded_per_token", group.expanded_per_token, origin)
    if group.index_per_token:
        yield Fact(f"{name}.index_per_token", group.index_per_token, origin)
    if group.conv_channels:
        yield Fact(f"{name}.conv_channels", group.conv_channels, origin)
        yield Fact(f"{name}.conv_kernel", group.conv_kernel, origin)
    if group.state_values:
        yield Fact(f"{name}.state_values", group.state_values, origin)
        yield Fact(f"{name}.state_heads", group.state_heads, origin)
        if group.state_float:
            yield Fact(f"{name}.state_float", True, origin)
        if group.state_bytes:
            yield Fact(f"{name}.state_value_bytes", group.state_bytes, origin)
