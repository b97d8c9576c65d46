"""How a model folder is written, by the names in it: for transformers, by Mistral or Meta, as GGUF, ONNX, an adapter, ..."""

from __future__ import annotations

import os
import re

WEIGHTS = re.compile(
    r"(?:^(?:model|pytorch_model|consolidated|diffusion_pytorch_model|weights).*\.(?:safetensors|bin|pth|pt|npz)$)|\.safetensors$"
    r"|^(?:model\.safetensors|pytorch_model\.bin)\.index\.json$|^tf_model\.h5$|^flax_model\.msgpack$"
)
"""Files that hold the weights of a whole model, or list them."""
_CHECKPOINT = re.compile(r"^(?:checkpoint|global_step|step|iter|epoch)[-_]?(\d+)$")


def layout_of(path: str, names: tuple[str, ...]) -> str:
    """A word for how a folder is written.

    transformers, adapter, mistral, meta, gguf, diffusers, onnx, openvino, coreml, tensorrt-llm, deepspeed, distributed
    (torch's sharded checkpoints), megatron, training-output (only folders checkpoint-N), tokenizer-only, nested (the
    model is in the only folder inside), weights-only (no config.json), other, empty.
    """
    here = set(names)
    if not here:
        return "empty"
    if "model_index.json" in here:
        return "diffusers"
    if "adapter_config.json" in here and not _has_model_weights(here):
        return "adapter"
    if any(name.endswith(".engine") for name in here):
        return "tensorrt-llm"
    if "config.json" in here:
        return "transformers"
    return _without_config(path, names, here)


def _without_config(path: str, names: tuple[str, ...], here: set[str]) -> str:
    if "params.json" in here:
        return "meta" if any(re.match(r"consolidated.*\.pth$", name) for name in here) else "mistral"
    if any(name.lower().endswith(".gguf") for name in here):
        return "gguf"
    if any(name.startswith("adapter_model.") for name in here):
        return "adapter"
    if any(_CHECKPOINT.match(name) and os.path.isdir(os.path.join(path, name)) for name in here):
        inner = [name for name in names if _CHECKPOINT.match(name)]
        if any(name.startswith("global_step") for name in inner) and "zero_to_fp32.py" in here:
            return "deepspeed"
        return "training-output"
    for word, told in (
        ("distributed", lambda name: name.endswith(".distcp") or name == ".metadata"),
        ("megatron", lambda name: name == "latest_checkpointed_iteration.txt" or name.startswith("mp_rank_")),
        ("openvino", lambda name: name.startswith("openvino_") and name.endswith(".xml")),
        ("coreml", lambda name: name.endswith((".mlpackage", ".mlmodelc", ".mlmodel"))),
        ("onnx", lambda name: name.endswith(".onnx")),
        ("weights-only", lambda name: WEIGHTS.search(name) is not None),
    ):
        if any(told(name) for name in here):
            return word
    if here & {"tokenizer.json", "tokenizer_config.json", "tokenizer.model"}:
        return "tokenizer-only"
    return "nested" if inner_model(path, names) else "other"


def _has_model_weights(here: set[str]) -> bool:
    return "config.json" in here and any(
        WEIGHTS.search(name) and not name.startswith(("adapter_", "training_args", "optimizer")) for name in here
    )


def newest_checkpoint(path: str, names: tuple[str, ...]) -> str:
    """The path of the folder checkpoint-N with the largest N; empty if there is none."""
    numbered = [(int(told[1][:18]), name) for name in names if (told := _CHECKPOINT.match(name))]
    return os.path.join(path, max(numbered)[1]) if numbered else ""


def inner_model(path: str, names: tuple[str, ...]) -> str:
    """The folder inside that holds a config.json, if exactly one does; else empty."""
    found = []
    for name in names[:100]:
        inside = os.path.join(path, name)
        if name.startswith(".") or os.path.islink(inside):
            continue
        if any(os.path.isfile(os.path.join(inside, file)) for file in ("config.json", "adapter_config.json")):
            found.append(inside)
    return found[0] if len(found) == 1 else ""
