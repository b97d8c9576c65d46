"""What a model says of its quantization is held against its tensors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.sources.checkpoint.folders import llama, plain, told, write_json, write_tensors

Shapes = dict[str, tuple[str, Sequence[int]]]
HEAD = "model.layers.0.self_attn.q_proj"
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False}


def gptq(bits: int = 4, group: int = 32, deep: int = 64, wide: int = 64) -> Shapes:
    groups = deep // group
    return {
        f"{HEAD}.qweight": ("I32", (deep * bits // 32, wide)),
        f"{HEAD}.qzeros": ("I32", (groups, wide * bits // 32)),
        f"{HEAD}.scales": ("F16", (groups, wide)),
        f"{HEAD}.g_idx": ("I32", (deep,)),
    }


def awq(group: int = 32, deep: int = 64, wide: int = 64) -> Shapes:
    return {
        f"{HEAD}.qweight": ("I32", (deep, wide // 8)),
        f"{HEAD}.qzeros": ("I32", (deep // group, wide // 8)),
        f"{HEAD}.scales": ("F16", (deep // group, wide)),
    }


BNB: Shapes = {
    f"{HEAD}.weight": ("U8", (2048, 1)),
    f"{HEAD}.weight.absmax": ("F32", (64,)),
    f"{HEAD}.weight.quant_state.bitsandbytes__nf4": ("U8", (80,)),
}
FP8: Shapes = {f"{HEAD}.weight": ("F8_E4M3", (64, 64)), f"{HEAD}.weight_scale_inv": ("F32", (1, 1))}
MXFP4: Shapes = {
    "model.layers.0.mlp.experts.gate_up_proj_blocks": ("U8", (4, 64, 2, 16)),
    "model.layers.0.mlp.experts.gate_up_proj_scales": ("U8", (4, 64, 2)),
}
MLX: Shapes = {
    f"{HEAD}.weight": ("U32", (64, 8)),
    f"{HEAD}.scales": ("F16", (64, 1)),
    f"{HEAD}.biases": ("F16", (64, 1)),
}
PACKED: Shapes = {f"{HEAD}.weight_packed": ("I32", (64, 8)), f"{HEAD}.weight_scale": ("BF16", (64, 1))}


def look(folder: Path, tensors: Shapes, **changes: Any) -> dict[str, Any]:
    write_json(folder / "config.json", llama(**changes))
    write_tensors(folder / "model.safetensors", tensors)
    return told(folder)


@pytest.mark.parametrize(
    ("tensors", "kind"),
    [(gptq(), "gptq"), (awq(), "awq"), (BNB, "bitsandbytes-4bit"), (FP8, "fp8"), (MXFP4, "mxfp4"), (MLX, "mlx"),
     (PACKED, "compressed-tensors"), (plain(), "none")],
)  # fmt: skip
def test_the_kind_of_tensors_is_seen(tmp_path: Path, tensors: Shapes, kind: str) -> None:
    """By names, dtypes and shapes of the headers."""
    found = look(tmp_path, tensors)
    assert found["quantization.tensors"] == kind
    assert found.get("quantization.told") == (None if kind == "none" else False)


@pytest.mark.parametrize(
    ("tensors", "config", "fits"),
    [
        (gptq(), GPTQ, True),
        (plain(), GPTQ, False),
        (awq(), GPTQ, False),
        (awq(), {"quant_method": "awq", "bits": 4, "group_size": 32}, True),
        (BNB, {"load_in_4bit": True}, True),
        (plain(), {"quant_method": "bitsandbytes", "load_in_4bit": True}, False),
        (FP8, {"quant_method": "fp8"}, True),
        (FP8, {"quant_method": "compressed-tensors", "quantization_status": "compressed"}, True),
        (plain(), {"quant_method": "compressed-tensors", "quantization_status": "frozen"}, None),
        (plain(), {"quant_method": "quark"}, None),
    ],
)
def test_a_method_has_its_own_tensors(
    tmp_path: Path, tensors: Shapes, config: dict[str, Any], fits: bool | None
) -> None:
    """Of methods that write several kinds nothing is said."""
    assert look(tmp_path, tensors, quantization_config=config).get("quantization.fits_tensors") is fits


@pytest.mark.parametrize(("bits", "group"), [(4, 32), (8, 64), (2, 16), (3, 32)])
def test_bits_and_group_follow_from_the_shapes(tmp_path: Path, bits: int, group: int) -> None:
    """Of GPTQ: the zeros tell the bits, the scales the groups."""
    found = look(tmp_path, gptq(bits, group), quantization_config=GPTQ)
    assert (found["quantization.bits_of_tensors"], found["quantization.group_of_tensors"]) == (bits, group)
    assert found["quantization.bits_fit"] is (bits == 4)
    assert found["quantization.group_fits"] is (group == 32)


def test_group_minus_one_is_a_whole_row(tmp_path: Path) -> None:
    """Whatever its length."""
    found = look(tmp_path, gptq(group=64), quantization_config={**GPTQ, "group_size": -1})
    assert found["quantization.group_fits"] is True


def test_weights_without_their_scales_are_counted(tmp_path: Path) -> None:
    """A packed number says nothing without."""
    tensors = gptq()
    del tensors[f"{HEAD}.scales"]
    found = look(tmp_path, tensors, quantization_config=GPTQ)
    assert (found["quantization.scales_missing"], found["quantization.scale_missing"]) == (1, HEAD)
    assert look(tmp_path, gptq(), quantization_config=GPTQ)["quantization.scales_missing"] == 0


@pytest.mark.parametrize(
    ("changes", "method"),
    [
        ({"quantization_config": {"quant_method": "compressed_tensors"}}, "compressed-tensors"),
        ({"compression_config": {"quant_method": "compressed-tensors"}}, "compressed-tensors"),
        ({"quantization_config": {"bits": 4}}, None),
        ({"quantization_config": {"producer": {"name": "modelopt"}, "quantization": {}}}, "modelopt"),
        ({"quantization": {"bits": 4, "group_size": 64}, "quantization_config": {"bits": 4, "group_size": 64}}, "mlx"),
        ({"text_config": llama(quantization_config=GPTQ)}, "gptq"),
        ({}, "none"),
    ],
)
def test_the_method_is_named_as_engines_know_it(tmp_path: Path, changes: dict[str, Any], method: str | None) -> None:
    """Wherever it is written; of plain weights none."""
    found = look(tmp_path, plain(), **changes)
    assert found.get("model.quantization") == method
    assert found.get("quantization.method_missing", False) is (method is None)


def test_a_file_beside_the_config_is_not_what_loaders_read(tmp_path: Path) -> None:
    """But for the one of ModelOpt, which vLLM reads."""
    write_json(tmp_path / "quantize_config.json", {"bits": 4, "group_size": 32})
    found = look(tmp_path, gptq())
    assert (found["model.quantization"], found["quantization.source"]) == ("gptq", "quantize_config.json")
    assert found["quantization.told"] is False
    write_json(tmp_path / "quantize_config.json", {"per_channel": True, "reduce_range": True, "per_model_config": {}})
    assert look(tmp_path, plain())["model.quantization"] == "none"  # ONNX files lie beside the weights
