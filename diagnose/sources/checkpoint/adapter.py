"""A PEFT adapter: its config, its tensors by their headers, and whether both fit its base model, if that is on this machine.

An adapter names its base model; that is looked up as a loader would do it, without the network. Modules are compared by
the last parts of their names (`layers.3.self_attn.q_proj`), since releases of transformers put other parts in front.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from diagnose.model import Fact, Reading, Step, Unchecked
from diagnose.places import table
from diagnose.sources import jsonfile
from diagnose.sources.checkpoint import where
from diagnose.sources.checkpoint.lines import lines_of, placed
from diagnose.sources.checkpoint.modules import Modules, modules_of
from diagnose.sources.checkpoint.safetensors import Tensor, read_header
from diagnose.sources.checkpoint.where import Found

WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_LORA = re.compile(r"^(?:base_model\.model\.)?(?P<module>.+?)\.lora_(?P<part>[AB])(?:\.\w+)?\.weight$")
_SAVED = re.compile(r"(?:^|\.)(?P<module>embed_tokens|lm_head|wte|embed_in|embed_out)(?:\.\w+)?\.weight$")
_PARTLY = frozenset(("gaussian", "eva", "orthogonal", "mica", "lora_ga"))
"""Ways to begin that leave a plain adapter behind (vllm/lora/peft_helper.py)."""


def read(found: Found, environ: Mapping[str, str], folder: str) -> Iterator[Reading]:
    """`adapter.*` of a folder with an adapter_config.json or adapter weights.

    `folder` is what a relative path of the base model starts from: where the loader is started, as for any model.
    """
    origin = found.origin("adapter_config.json")
    loaded = jsonfile.load(os.path.join(found.folder, "adapter_config.json"), 4 << 20)
    yield Fact("adapter.has_config", not loaded.missing, origin)
    if loaded.error and not loaded.missing:
        yield Fact("adapter.error", loaded.error, origin, loaded.line)
    weights = next((name for name in WEIGHTS if name in found.names), "")
    yield Fact("adapter.weights", weights or "none", found.origin(weights) if weights else found.name)
    value = loaded.value
    if not isinstance(value, dict):
        return
    lines = lines_of(os.path.join(found.folder, "adapter_config.json"))
    yield from placed(config_facts(value, origin), lines)
    tensors = _tensors(found, weights)
    yield from tensor_facts(value, tensors, found.origin(weights))
    yield from _against_base(value, tensors, found, environ, folder)


def config_facts(value: Mapping[str, Any], origin: str) -> Iterator[Fact]:
    """What adapter_config.json says, and which release of peft knows all of it."""
    kind = value.get("peft_type")
    yield Fact("adapter.type", kind[:60] if isinstance(kind, str) else "none", origin)
    table = _table()
    if isinstance(kind, str) and table:
        known = table["types"].get(kind)
        yield Fact("adapter.type_known", known is not None, origin)
        if known and known != table["releases"][0]:
            yield Fact("adapter.type_since", known, "dataset/models/adapters.json")
    for key, name in (("r", "rank"), ("lora_alpha", "alpha")):
        told = value.get(key)
        if isinstance(told, (int, float)) and not isinstance(told, bool) and told == told:
            yield Fact(f"adapter.{name}", told, origin)
    if isinstance(value.get("peft_version"), str):
        yield Fact("adapter.peft_version", value["peft_version"].partition("@")[0][:40], origin)
    targets = value.get("target_modules")
    if isinstance(targets, str) or (isinstance(targets, list) and all(isinstance(one, str) for one in targets)):
        yield Fact(
            "adapter.targets", targets[:300] if isinstance(targets, str) else ", ".join(sorted(targets))[:300], origin
        )
    if kind == "LORA":
        yield from _newest_keys(value, origin)
        yield Fact("adapter.vllm_refuses", ", ".join(vllm_refuses(value)) or "none", origin)
        largest = max(
            [one for one in (value.get("r"), *_values(value.get("rank_pattern"))) if _is_rank(one)], default=0
        )
        if largest:
            yield Fact("adapter.largest_rank", largest, origin)


def _newest_keys(value: Mapping[str, Any], origin: str) -> Iterator[Fact]:
    """The keys that only newer releases of peft know; before 0.14 one unknown key was enough to refuse the adapter."""
    from packaging.version import Version

    table = _table()
    if not table:
        return
    since = {key: table["lora_keys"][key] for key in value if key in table["lora_keys"]}
    newest = max(since.values(), key=Version, default="")
    if newest and newest != table["releases"][0]:
        yield Fact("adapter.keys_since", newest, "dataset/models/adapters.json")
        keys = sorted(key for key, release in since.items() if release == newest)
        yield Fact("adapter.newest_keys", ", ".join(keys)[:200], origin)
    told = [key for key, release in since.items() if Version(release) > Version("0.7") and _counts(value[key])]
    if told:
        needed = max((since[key] for key in told), key=Version)
        yield Fact("adapter.settings_since", needed, "dataset/models/adapters.json")
        yield Fact("adapter.newest_settings", ", ".join(key for key in told if since[key] == needed)[:200], origin)
    unknown = sorted(key for key in value if key not in table["lora_keys"])
    if unknown:
        yield Fact("adapter.unknown_keys", ", ".join(str(key) for key in unknown)[:200], origin)


def _counts(value: object) -> bool:
    """Whether a setting says something: its default is nothing, false or empty. The version of peft is no setting."""
    return bool(value) and not (isinstance(value, str) and re.match(r"\d+\.", value))


def vllm_refuses(value: Mapping[str, Any]) -> list[str]:
    """The settings for which vLLM refuses to load a LoRA adapter (vllm/lora/peft_helper.py, 0.33)."""
    found = []
    saved = value.get("modules_to_save")
    if isinstance(saved, list) and any(one not in ("classifier", "score") for one in saved):
        found.append("modules_to_save")
    found += [
        key for key in ("use_dora", "lora_bias", "alora_invocation_tokens", "layer_replication") if value.get(key)
    ]
    found += [key for key in ("use_bdlora", "use_qalora") if value.get(key)]
    if value.get("bias") not in (None, "none"):
        found.append("bias")
    begins = value.get("init_lora_weights")
    if isinstance(begins, str) and begins.lower() not in _PARTLY:
        found.append("init_lora_weights")
    return found


def _values(pattern: object) -> list[Any]:
    return list(pattern.values())[:10_000] if isinstance(pattern, dict) else []


def _is_rank(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 20


# --- tensors


def _tensors(found: Found, weights: str) -> tuple[Tensor, ...]:
    if not weights.endswith(".safetensors"):
        return ()
    return read_header(os.path.join(found.folder, weights)).tensors


def tensor_facts(value: Mapping[str, Any], tensors: tuple[Tensor, ...], origin: str) -> Iterator[Fact]:
    """Whether the ranks of the tensors are those of the config."""
    ranks: dict[int, str] = {}
    for tensor in tensors:
        told = _LORA.match(tensor.name)
        if told and len(tensor.shape) == 2:
            ranks.setdefault(tensor.shape[0 if told["part"] == "A" else 1], told["module"])
    if not ranks:
        return
    written = {one for one in (value.get("r"), *_values(value.get("rank_pattern"))) if _is_rank(one)}
    odd = sorted(rank for rank in ranks if rank not in written)
    yield Fact("adapter.lora_tensors", sum(1 for tensor in tensors if _LORA.match(tensor.name)), origin)
    if not written or value.get("target_parameters"):
        return  # adapters of fused experts hold the ranks of all experts in one tensor
    yield Fact("adapter.rank_fits", not odd, origin)
    if odd:
        yield Fact("adapter.rank_of_tensors", odd[0], origin)
        yield Fact("adapter.rank_module", ranks[odd[0]][:200], origin)


# --- the base model


def _against_base(
    value: Mapping[str, Any], tensors: tuple[Tensor, ...], found: Found, environ: Mapping[str, str], folder: str
) -> Iterator[Reading]:
    origin = found.origin("adapter_config.json")
    base = value.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        yield Fact("adapter.base", "none", origin)
        return
    yield Fact("adapter.base", base[:400], origin)
    if isinstance(value.get("revision"), str):
        yield Fact("adapter.base_revision", value["revision"][:100], origin)
    yield Step(f"looking for the adapter's base model {base[:200]}")
    revision = value["revision"] if isinstance(value.get("revision"), str) else ""
    place = where.find(base, environ, folder, revision)
    yield Fact("adapter.base_is_path", where.looks_like_a_path(base), origin)
    yield Fact("adapter.base_found", place.kind == "folder" and not place.problem, origin)
    if place.kind != "folder" or place.problem:
        if not where.looks_like_a_path(base):
            yield Unchecked("the adapter against its base model", f"{base[:200]} is not on this machine")
        return
    yield Fact("adapter.base_path", place.path[:400], origin)
    yield Fact("adapter.is_own_base", os.path.realpath(place.path) == os.path.realpath(found.folder), origin)
    yield from _compared(value, tensors, modules_of(place), found)


def _compared(value: Mapping[str, Any], tensors: tuple[Tensor, ...], base: Modules, found: Found) -> Iterator[Reading]:
    if not base.names:
        yield Unchecked("the adapter against its base model", base.why or "its weights are not there in safetensors")
        return
    weights = found.origin(WEIGHTS[0])
    adapted = {told["module"] for tensor in tensors if (told := _LORA.match(tensor.name))}
    absent = sorted(one for one in adapted if base.shape_of(one) is None and not base.holds_experts(one))
    if adapted:
        yield Fact("adapter.modules_absent", len(absent), weights)
    if absent:
        yield Fact("adapter.module_absent", absent[0][:200], weights)
    yield from _targets(value, base, found)
    yield from _shapes(value, tensors, base, weights)
    for tensor in tensors:
        told = _SAVED.search(tensor.name)
        own = base.shape_of(told["module"]) if told and len(tensor.shape) == 2 else None
        if told and own and len(own) == 2 and own[1] == tensor.shape[1] and own[0] != tensor.shape[0]:
            yield Fact("adapter.vocab_rows", tensor.shape[0], weights)
            yield Fact("adapter.base_vocab_rows", own[0], weights)
            break


def _targets(value: Mapping[str, Any], base: Modules, found: Found) -> Iterator[Fact]:
    """Whether the target modules of the config are modules of the base; a pattern in one text is not judged."""
    targets = value.get("target_modules")
    if not isinstance(targets, list) or not all(isinstance(one, str) for one in targets) or base.is_fused:
        return
    missing = sorted(one for one in targets if not base.has_target(one))
    yield Fact("adapter.targets_missing", len(missing), found.origin("adapter_config.json"))
    yield Fact(
        "adapter.targets_all_missing",
        bool(targets) and len(missing) == len(targets),
        found.origin("adapter_config.json"),
    )
    if missing:
        yield Fact("adapter.target_missing", ", ".join(missing)[:200], found.origin("adapter_config.json"))


def _shapes(value: Mapping[str, Any], tensors: tuple[Tensor, ...], base: Modules, origin: str) -> Iterator[Fact]:
    """The first adapted module whose width is not that of the base; transposed weights (GPT-2) and packed ones aside."""
    if value.get("fan_in_fan_out") is True or value.get("target_parameters"):
        return
    checked = False
    for tensor in tensors:
        told = _LORA.match(tensor.name)
        shape = base.shape_of(told["module"]) if told else None
        if told is None or shape is None or len(shape) != 2 or len(tensor.shape) != 2:
            continue
        checked = True
        own, wanted = (tensor.shape[1], shape[1]) if told["part"] == "A" else (tensor.shape[0], shape[0])
        if own != wanted and not base.is_transposed(told["module"]):
            yield Fact("adapter.widths_fit", False, origin)
            yield Fact("adapter.misfit_module", told["module"][:200], origin)
            yield Fact("adapter.misfit_width", own, origin)
            yield Fact("adapter.base_width", wanted, origin)
            return
    if checked:
        yield Fact("adapter.widths_fit", True, origin)


@cache
def _table() -> Mapping[str, Any]:
    """What releases of peft know; empty if the table is not there."""
    return table("models", "adapters.json")
