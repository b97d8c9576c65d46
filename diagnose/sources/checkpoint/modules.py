"""The modules of a model by the headers of its safetensors files: names and shapes of their weights, for its adapters."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from msgspec import Struct

from diagnose.sources.checkpoint.safetensors import read_header
from diagnose.sources.checkpoint.where import Found

MOST_FILES = 400
MOST_NAMES = 12_000
"""Letters that the names of a model's modules may have together: a text model has some hundred, one with pictures two thousand."""
_NUMBER = re.compile(r"(?<![^.])\d{1,6}(?![^.])", re.ASCII)
_PACKED = frozenset(("U8", "I8", "I32", "U32", "F4", "F8_E4M3", "F8_E5M2"))
"""Dtypes of weights that may be packed: their shape is not that of the layer."""
_SUFFIXES = (".weight", ".qweight", ".weight_packed")
_FUSED = re.compile(r"(?:qkv_proj|gate_up_proj|c_attn|query_key_value|Wqkv|W_pack|dense_h_to_4h)$")


class Modules(Struct, frozen=True):
    """Modules that have a weight, by name without what stands before `layers.` or `h.`. `why`: why there are none."""

    names: dict[str, tuple[int, ...] | None] = {}
    why: str = ""

    def shape_of(self, module: str) -> tuple[int, ...] | None:
        """The shape of a module's weight; empty if it is packed, None if there is no such module."""
        key = short(module)
        return (self.names[key] or ()) if key in self.names else None

    def has_target(self, target: str) -> bool:
        """Whether a module ends with a target's name, as peft looks for it."""
        return any(name == target or name.endswith("." + target) for name in self.names)

    def holds_experts(self, module: str) -> bool:
        """Whether a module is an expert's, which newer releases keep fused in one tensor."""
        return ".experts." in module or module.endswith(".experts")

    def is_transposed(self, module: str) -> bool:
        """Whether a module is one of GPT-2's, whose weights lie the other way round."""
        return module.rpartition(".")[2] in ("c_attn", "c_proj", "c_fc")

    @property
    def is_fused(self) -> bool:
        """Whether the file keeps several projections in one tensor: releases of transformers differ in taking them apart."""
        return any(_FUSED.search(name) for name in self.names)


def short(name: str) -> str:
    """A module's name from its layer on: `layers.3.mlp.up_proj`; outside of layers the last part."""
    told = re.search(r"(?:^|\.)((?:layers|h|blocks|layer)\.\d+\..*)$", name)
    return told[1] if told else name.rpartition(".")[2]


def told_names(tensors: Iterable[str]) -> str:
    """The distinct modules that have a weight, `#` for numbers, separated by commas; empty if there are too many to tell."""
    named = (_module(name)[0] for name in tensors)
    names = sorted({_NUMBER.sub("#", module) for module in named if module})
    text = ",".join(names)
    return text if len(text) <= MOST_NAMES else ""


def modules_of(found: Found) -> Modules:
    """The modules of the model in a folder; none if its weights are not in safetensors."""
    files = [name for name in found.names if name.endswith(".safetensors") and not name.startswith("adapter_")]
    if len(files) > MOST_FILES:
        return Modules(why=f"its weights are in {len(files)} files")
    names: dict[str, tuple[int, ...] | None] = {}
    for file in files:
        header = read_header(os.path.join(found.folder, file))
        if header.problem:
            return Modules(why=f"{file[:100]} cannot be read: {header.problem}")
        for tensor in header.tensors:
            module, suffix = _module(tensor.name)
            if module:
                packed = suffix != ".weight" or tensor.dtype in _PACKED
                names[short(module)] = None if packed else tensor.shape
    return Modules(names)


def _module(name: str) -> tuple[str, str]:
    suffix = next((one for one in _SUFFIXES if name.endswith(one)), "")
    return (name.removesuffix(suffix), suffix) if suffix else ("", "")
