"""PEFT's configuration of an adapter, in a file of its own, as a block of another one, or as a call → its common meaning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from diagnose.model import Fact
from diagnose.sources.training import alike
from diagnose.sources.training.given import Meaning, Setting, by_table, read_as, settings, told
from diagnose.sources.training.parsed import Parsed
from diagnose.sources.yamlfile import Node

LORA = "peft.LoraConfig"
CLASSES: Mapping[str, str] = {
    "LORA": "LoraConfig", "ADALORA": "AdaLoraConfig", "IA3": "IA3Config", "LOHA": "LoHaConfig", "LOKR": "LoKrConfig", "OFT": "OFTConfig",
    "BOFT": "BOFTConfig", "VERA": "VeraConfig", "FOURIERFT": "FourierFTConfig", "HRA": "HRAConfig", "VBLORA": "VBLoRAConfig",
    "PROMPT_TUNING": "PromptTuningConfig", "PREFIX_TUNING": "PrefixTuningConfig", "P_TUNING": "PromptEncoderConfig",
    "MULTITASK_PROMPT_TUNING": "MultitaskPromptTuningConfig", "ADAPTION_PROMPT": "AdaptionPromptConfig", "LN_TUNING": "LNTuningConfig",
    "POLY": "PolyConfig", "XLORA": "XLoraConfig", "BONE": "BoneConfig", "MISS": "MissConfig", "CPT": "CPTConfig", "RANDLORA": "RandLoraConfig",
    "SHIRA": "ShiraConfig", "C3A": "C3AConfig", "TRAINABLE_TOKENS": "TrainableTokensConfig", "ROAD": "RoadConfig",
}  # fmt: skip
"""Classes of the types that `peft_type` may name."""
_SURE = ("lora_alpha", "lora_dropout", "init_lora_weights", "use_rslora", "use_dora")
_TYPICAL = ("target_modules", "task_type", "modules_to_save", "bias", "layers_to_transform", *_SURE)

TABLE: Mapping[str, Meaning] = {
    **alike.LORA,
    **alike.LORA_SWITCHES,
    "r": ("training.lora.rank", "number"),
    "bias": ("training.lora.bias", "text"),
    "task_type": ("training.lora.task_type", "text"),
    "init_lora_weights": ("training.lora.init", "text"),
    "modules_to_save": ("training.lora.saved_modules", "list"),
    "base_model_name_or_path": ("training.model", "text"),
}


def is_kind(document: Node) -> bool:
    """Whether a mapping configures an adapter: it names its type, or holds a rank beside what else LoRA has."""
    keys = dict(document.items())
    if "peft_type" in keys:
        return True
    return "r" in keys and any(key in keys for key in _TYPICAL) and len(keys) < 60


def read(document: Node, file: str) -> Parsed:
    """A configuration in a file of its own. Nothing is raised."""
    return inside(document, file, "")


def inside(document: Node, file: str, above: str, owner: str = "") -> Parsed:
    """One that stands below the key `above` of another mapping. `owner` is its class, where that is known."""
    kind = document.get("peft_type").word().upper().rpartition(".")[2]
    owner = owner or (f"peft.{CLASSES[kind]}" if kind in CLASSES else LORA if not kind else "unknown")
    items = tuple(settings(document, owner, file, above))
    head = f"{above}." if above else ""
    return Parsed(items, tuple(facts({item.key.removeprefix(head): item for item in items}, owner)))


def facts(by_key: Mapping[str, Setting], owner: str = LORA) -> Iterator[Fact]:
    """What the settings of an adapter mean; of other adapters than LoRA's only that it is one."""
    if not by_key:
        return
    first = next(iter(by_key.values()))
    if owner != LORA:
        yield told("training.method", "other-adapter", by_key.get("peft_type", first))
        yield from _targets(by_key.get("target_modules"))
        return
    yield told("training.method", "lora", by_key.get("r", first))
    yield from by_table(by_key, TABLE)
    yield from _targets(by_key.get("target_modules"))
    tokens = by_key.get("trainable_token_indices")
    if tokens is not None:
        yield told("training.lora.trainable_tokens", bool(tokens.value), tokens)


def _targets(item: Setting | None) -> Iterator[Fact]:
    """`training.lora.targets`: a list of names, or one text, which PEFT takes for a pattern unless it is all-linear."""
    value = read_as("list", item.value) if item is not None else None
    if item is None or not value:
        return
    yield told("training.lora.targets", str(value), item)
    if isinstance(item.value, str):
        yield told("training.lora.targets_pattern", item.value != "all-linear", item)
