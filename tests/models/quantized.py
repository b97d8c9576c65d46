"""Makes quantized copies of a tiny llama: tensors of the names, types and shapes that GPTQ and FP8 checkpoints have."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]


def build_gptq(source: Path, folder: Path, bits: int = 4, group: int = 32) -> None:
    """A GPTQ checkpoint: four-bit weights packed into int32, with zeros, scales and the order of the groups."""

    def quantize(name: str, weight: torch.Tensor) -> Tensors:
        rows, columns = weight.shape
        torch.manual_seed(rows * 1000 + columns)
        packed = 32 // bits
        stem = name.removesuffix(".weight")
        return {
            f"{stem}.qweight": torch.randint(-(2**31), 2**31 - 1, (columns // packed, rows), dtype=torch.int32),
            f"{stem}.qzeros": torch.full((columns // group, rows // packed), 0x77777777, dtype=torch.int32),
            f"{stem}.scales": torch.full((columns // group, rows), 0.002, dtype=torch.float16),
            f"{stem}.g_idx": torch.arange(columns, dtype=torch.int32) // group,
        }

    settings = {
        "bits": bits,
        "checkpoint_format": "gptq",
        "damp_percent": 0.01,
        "desc_act": False,
        "group_size": group,
        "lm_head": False,
        "quant_method": "gptq",
        "sym": True,
        "true_sequential": True,
    }
    _build(source, folder, quantize, settings)
    (folder / "quantize_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def build_fp8(source: Path, folder: Path) -> None:
    """A compressed-tensors checkpoint with FP8 weights, a scale for each output channel, and activations scaled as they come."""

    def quantize(name: str, weight: torch.Tensor) -> Tensors:
        scale = weight.float().abs().amax(dim=1, keepdim=True) / 448.0
        return {
            name: (weight.float() / scale).to(torch.float8_e4m3fn),
            name.replace(".weight", ".weight_scale"): scale.to(torch.bfloat16),
        }

    numbers = {
        "actorder": None,
        "block_structure": None,
        "group_size": None,
        "num_bits": 8,
        "symmetric": True,
        "type": "float",
    }
    settings = {
        "config_groups": {
            "group_0": {
                "input_activations": {**numbers, "dynamic": True, "observer": None, "observer_kwargs": {}, "strategy": "token"},
                "output_activations": None,
                "targets": ["Linear"],
                "weights": {**numbers, "dynamic": False, "observer": "minmax", "observer_kwargs": {}, "strategy": "channel"},
            }
        },
        "format": "float-quantized",
        "global_compression_ratio": None,
        "ignore": ["lm_head"],
        "kv_cache_scheme": None,
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
    }  # fmt: skip
    _build(source, folder, quantize, settings)


def _build(
    source: Path, folder: Path, quantize: Callable[[str, torch.Tensor], Tensors], settings: dict[str, Any]
) -> None:
    shutil.copytree(source, folder)
    tensors: Tensors = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        linear = name.endswith("_proj.weight")
        tensors |= quantize(name, tensor) if linear else {name: tensor}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["quantization_config"] = settings
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
