"""FSDP's settings, as accelerate's YAML and as transformers' `fsdp` and `fsdp_config` write them → facts under one name each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from diagnose.model import Fact
from diagnose.sources.settings import words
from diagnose.sources.training.given import Meaning, Setting, read_as, settings, told
from diagnose.sources.training.parsed import Parsed
from diagnose.sources.yamlfile import Node

OWNER = "transformers.fsdp_config"
STRATEGIES = ("FULL_SHARD", "SHARD_GRAD_OP", "NO_SHARD", "HYBRID_SHARD", "HYBRID_SHARD_ZERO2")
"""Their order: a number from 1 names one too (accelerate 1.15: utils/constants.py)."""

_MEANT: dict[str, Meaning] = {
    "version": ("fsdp.version", "number"),
    "sharding_strategy": ("fsdp.strategy", "text"),
    "reshard_after_forward": ("fsdp.reshard", "text"),
    "auto_wrap_policy": ("fsdp.wrap_policy", "text"),
    "transformer_layer_cls_to_wrap": ("fsdp.wrap_classes", "text"),
    "min_num_params": ("fsdp.min_params", "number"),
    "state_dict_type": ("fsdp.state_dict", "text"),
    "offload_params": ("fsdp.offload", "flag"),
    "cpu_offload": ("fsdp.offload", "flag"),
    "cpu_ram_efficient_loading": ("fsdp.ram_efficient", "flag"),
    "sync_module_states": ("fsdp.sync_states", "flag"),
    "activation_checkpointing": ("fsdp.checkpointing", "flag"),
    "activation_checkpointing_offload": ("fsdp.checkpointing_offload", "flag"),
    "use_orig_params": ("fsdp.original_params", "flag"),
    "backward_prefetch": ("fsdp.backward_prefetch", "text"),
    "forward_prefetch": ("fsdp.forward_prefetch", "flag"),
    "ignored_modules": ("fsdp.ignored", "text"),
    "xla": ("fsdp.xla", "flag"),
}
"""Keys without `fsdp_`, which may stand before each of them."""
_OTHERS = words("limit_all_gathers xla_fsdp_v2 xla_fsdp_settings xla_fsdp_grad_ckpt mixed_precision_policy")
_UPPER = ("fsdp.strategy", "fsdp.wrap_policy", "fsdp.state_dict", "fsdp.backward_prefetch")
_NAMED = ("fsdp.wrap_classes", "fsdp.ignored")


def is_kind(document: Node) -> bool:
    """Whether a mapping is an fsdp_config that stands in a file of its own: nothing but FSDP's keys, two or one with its prefix."""
    keys = [key for key, _ in document.items()]
    known = [key for key in keys if bare(key) in _MEANT or bare(key) in _OTHERS]
    marked = any(key.startswith("fsdp_") or bare(key) == "transformer_layer_cls_to_wrap" for key in known)
    return bool(keys) and len(known) == len(keys) and (len(keys) > 1 or marked)


def read(document: Node, file: str) -> Parsed:
    """An fsdp_config in a file of its own. Nothing is raised."""
    items = tuple(settings(document, OWNER, file))
    return Parsed(items, tuple(meaning(items, "transformers")))


def bare(key: str) -> str:
    """A key without what stands before it: the mappings that it is in, and `fsdp_`."""
    return key.rpartition(".")[2].removeprefix("fsdp_")


def meaning(items: Iterable[Setting], by: str = "") -> Iterator[Fact]:
    """`fsdp.*` of the settings of one block, with or without `fsdp_` before their keys.

    `by` is who reads it, and so whose defaults count, where that is told: accelerate or transformers.
    """
    seen = False
    for item in items:
        if isinstance(item.value, dict):
            continue
        if by and not seen:
            seen = True
            yield told("fsdp.by", by, item)
        found = _MEANT.get(bare(item.key))
        if by == "transformers" and bare(item.key) == "offload_params":
            if read_as("flag", item.value):  # its own key is cpu_offload; this one it does not read
                yield told("fsdp.offload_unread", True, item)
        elif found is not None:
            yield from _meant(found, item)


def _meant(found: Meaning, item: Setting) -> Iterator[Fact]:
    name, kind = found
    value = read_as("list" if isinstance(item.value, list) and name in _NAMED else kind, item.value)
    if value is None:
        return
    if name in _UPPER:
        value = str(value).upper().rpartition(".")[2]
    if name == "fsdp.strategy":
        value = _strategy(str(value))
    if name == "fsdp.wrap_classes":
        value = ",".join(part.strip() for part in str(value).split(",") if part.strip())
    yield told(name, value, item)


def _strategy(word: str) -> str:
    return STRATEGIES[int(word) - 1] if word.isdigit() and 0 < int(word) <= len(STRATEGIES) else word


def options(item: Setting) -> Iterator[Fact]:
    """What transformers' `fsdp` says: true, or names as a text or list (`full_shard auto_wrap offload`). Empty: none."""
    if isinstance(item.value, bool) or item.value is None:
        if item.value:
            yield told("fsdp.asked", True, item)
        return
    names = item.value if isinstance(item.value, list) else str(item.value).split()
    names = [str(name) for name in names if not isinstance(name, (dict, list))]
    if not names or names[0].lower() in ("false", "true"):
        if names and names[0].lower() == "true":
            yield told("fsdp.asked", True, item)
        return
    yield told("fsdp.asked", True, item)
    yield told("fsdp.options", " ".join(names), item)
    for name in names:
        if name.upper() in STRATEGIES:
            yield told("fsdp.strategy", name.upper(), item)
        elif name == "offload":
            yield told("fsdp.offload", True, item)
    unknown = [name for name in names if name.upper() not in STRATEGIES and name not in ("offload", "auto_wrap")]
    if unknown:
        yield told("fsdp.option_unknown", unknown[0], item)
