"""How a model says it is quantized, how its tensors are, and whether the two agree: by names, dtypes and shapes in headers.

Where it says so: quantization_config (or compression_config) in config.json, else a file of the tool that made it. The
kinds of tensors are those that the tools write: GPTQ and AWQ pack into qweight, bitsandbytes adds quant_state or SCB,
compressed-tensors weight_packed, FP8 a weight_scale, MXFP4 blocks and scales, MLX scales and biases of 32-bit words.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from diagnose.model import Fact
from diagnose.sources import jsonfile
from diagnose.sources.checkpoint.config import Config, Text
from diagnose.sources.checkpoint.safetensors import Tensor, read_header
from diagnose.sources.checkpoint.where import Found

BESIDE: Mapping[str, str] = {
    "quantize_config.json": "gptq",
    "quant_config.json": "awq",
    "hf_quant_config.json": "modelopt",
    "quantization_config.json": "auto-round",
}
"""Files of tools beside config.json, and the method that they are of."""
IN_TRANSFORMERS = frozenset(
    """awq bitsandbytes bitsandbytes_4bit bitsandbytes_8bit gptq aqlm quanto quark fouroversix fp_quant eetq higgs hqq
    compressed-tensors fbgemm_fp8 torchao bitnet vptq spqr fp8 gguf nvfp4 mxfp8 auto-round mxfp4 metal sinq gemma""".split()  # noqa: SIM905
)
"""Methods of transformers 5.24 (quantizers/auto.py)."""
IN_ENGINES = frozenset(
    """modelopt modelopt_fp4 modelopt_mxfp8 modelopt_mixed gptq_marlin awq_marlin auto_awq auto_gptq humming experts_int8
    moe_wna16 inc gpt_oss_mxfp4 deepseek_v4_fp8 intel/auto-round marlin deepspeedfp ipex petit_nvfp4 rtn bitblas
    gptq_bitblas tpu_int8 ptpc_fp8 w8a8_int8 w8a8_fp8 w4afp8 qoq mlx ascend gptq_marlin_24 qqq squeezellm neuron_quant
    modelopt_fp8 auto-round-int8 modelslim mxfp_w4a8 mxfp8 nvfp4_online quark_int4fp8_moe quark_mxfp4 blockwise_int8
    mlx_q4 mlx_q8 exl2 exl3""".split()  # noqa: SIM905
)
"""Further methods, of vLLM and SGLang in one release or another, and those of ExLlama, which TGI and its own server read."""
FITTING: Mapping[str, frozenset[str]] = {
    "gptq": frozenset(("gptq",)),
    "awq": frozenset(("awq",)),
    "bitsandbytes": frozenset(("bitsandbytes-4bit", "bitsandbytes-8bit")),
    "compressed-tensors": frozenset(("compressed-tensors", "fp8", "nvfp4")),
    "fp8": frozenset(("fp8",)),
    "mxfp4": frozenset(("mxfp4",)),
}
"""Which kinds of tensors belong to a method; of other methods nothing is said."""
MOST_FILES = 64
_FIRST_LOOK = 4
_ALL_LOOKED_AT = 8


class Seen(Struct):
    """What the headers showed: the kind of the quantized tensors (none if all linear layers are plain), bits and group."""

    kind: str = ""
    bits: int = 0
    group: int = 0
    linear: int = 0


def facts(found: Found, config: Config, text: Text, origin: str) -> Iterator[Fact]:
    """`model.quantization*` and `quantization.*`; nothing is told of a model that neither says it is nor looks it."""
    told, source = declared(found, config, text)
    method = method_of(told)
    if told is not None:
        where = origin if source == "config.json" else found.origin(source)
        if method:
            yield Fact("model.quantization", method, where)
        yield Fact("quantization.method_missing", not method, where)
        yield Fact("quantization.source", source, where)
        yield from _settings(told, method, where)
    seen = look(found, every=told is not None)
    if not seen.kind:
        return
    yield Fact("quantization.tensors", seen.kind, found.name)
    if told is None and seen.kind == "none":
        yield Fact("model.quantization", "none", origin)
    in_config = source == "config.json"
    if seen.kind != "none":
        # vLLM reads this file beside config.json too, others do not
        yield Fact("quantization.told", in_config or source == "hf_quant_config.json", origin)
        yield from _scales(found, seen)
    if in_config and method in FITTING:
        fitting = seen.kind in FITTING[method]
        waits = method == "compressed-tensors" and (told or {}).get("quantization_status") != "compressed"
        if not (seen.kind == "none" and waits):
            yield Fact("quantization.fits_tensors", fitting, origin)
    if in_config and method == seen.kind:
        yield from _against_shapes(told or {}, seen, origin)


def declared(found: Found, config: Config, text: Text) -> tuple[Mapping[str, Any] | None, str]:
    """The quantization config and the file that it is in; None where there is none."""
    for part in (config, text.value):
        for key in ("quantization_config", "compression_config"):
            told = part.get(key)
            if isinstance(told, dict) and not (
                isinstance(config.get("quantization"), dict) and "quant_method" not in told
            ):
                return told, "config.json"
    own = config.get("quantization")
    if isinstance(own, dict) and "group_size" in own and "bits" in own:
        return {"quant_method": "mlx"} | own, "config.json"
    for name in BESIDE:
        if name in found.names:
            value = jsonfile.load(os.path.join(found.folder, name), 4 << 20).value
            if isinstance(value, dict) and not _of_onnx(value):
                return ({"quant_method": BESIDE[name]} | value), name
    return None, ""


def _of_onnx(value: Mapping[str, Any]) -> bool:
    """Whether a quantize_config.json tells how ONNX files were made, as the converter of transformers.js writes it."""
    return "per_channel" in value or "per_model_config" in value


def method_of(told: Mapping[str, Any] | None) -> str:
    """The method under the name that engines know it by; empty if none is written."""
    if told is None:
        return ""
    method = told.get("quant_method")
    if not isinstance(method, str) or not method:
        if told.get("load_in_4bit") is True or told.get("load_in_8bit") is True:
            return "bitsandbytes"
        producer = told.get("producer")
        return "modelopt" if isinstance(producer, dict) and producer.get("name") == "modelopt" else ""
    return method.lower().replace("compressed_tensors", "compressed-tensors")[:60]


def _settings(told: Mapping[str, Any], method: str, origin: str) -> Iterator[Fact]:
    if method:
        yield Fact("quantization.method_known", method in IN_TRANSFORMERS or method in IN_ENGINES, origin)
    yield Fact("quantization.in_transformers", method in IN_TRANSFORMERS, origin)
    bits = _whole(told.get("bits", told.get("w_bit")))
    if bits is None and method == "bitsandbytes":
        bits = 4 if told.get("load_in_4bit") is True else (8 if told.get("load_in_8bit") is True else None)
    if bits is not None:
        yield Fact("model.quantization_bits", bits, origin)
    group = _whole(told.get("group_size", told.get("q_group_size")))
    if group is not None:
        yield Fact("model.quantization_group", group, origin)
    block = told.get("weight_block_size")
    if isinstance(block, list) and len(block) == 2 and block[0] == block[1] and (side := _whole(block[0])):
        yield Fact("model.quantization_block", side, origin)
    if isinstance(told.get("desc_act"), bool):
        yield Fact("quantization.act_order", told["desc_act"], origin)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 31 else None


def _against_shapes(told: Mapping[str, Any], seen: Seen, origin: str) -> Iterator[Fact]:
    bits, group = _whole(told.get("bits", told.get("w_bit"))), _whole(told.get("group_size", told.get("q_group_size")))
    if seen.bits and bits is not None:
        yield Fact("quantization.bits_fit", seen.bits == bits, origin)
        yield Fact("quantization.bits_of_tensors", seen.bits, origin)
    if seen.group and group is not None:
        yield Fact("quantization.group_fits", group in (seen.group, 0) or group == -1, origin)
        yield Fact("quantization.group_of_tensors", seen.group, origin)


def _scales(found: Found, seen: Seen) -> Iterator[Fact]:
    """Packed weights without their scales; told where all files could be looked at."""
    names = _files(found)
    if seen.kind not in ("gptq", "awq", "fp8", "compressed-tensors") or len(names) > _ALL_LOOKED_AT:
        return
    packed: dict[str, None] = {}
    scaled: set[str] = set()
    for name in names:
        header = read_header(os.path.join(found.folder, name))
        if header.problem:
            return
        for tensor in header.tensors:
            head, _, last = tensor.name.rpartition(".")
            if "scale" in last:  # scales, weight_scale_inv, scale (DeepSeek V4), qscale_weight (Mistral's own form)
                scaled.add(head)
            elif last in ("qweight", "weight_packed") or (last == "weight" and tensor.dtype.startswith("F8_E4M3")):
                packed[head] = None
    lacking = [head for head in packed if head not in scaled]
    yield Fact("quantization.scales_missing", len(lacking), found.name)
    if lacking:
        yield Fact("quantization.scale_missing", lacking[0][:200], found.name)


# --- the tensors


def look(found: Found, every: bool = True) -> Seen:
    """What the headers of a folder show: of some files first, and where those hold no quantized tensor of `every` one."""
    names = _files(found)
    first = [*names[: _FIRST_LOOK - 1], *names[-1:]] if len(names) > _FIRST_LOOK else names
    seen = Seen()
    for group in (first, names[:MOST_FILES]):
        for name in group:
            _add(seen, read_header(os.path.join(found.folder, name)).tensors)
            if seen.kind:
                return seen
        if len(names) <= _FIRST_LOOK or (seen.linear and not every):
            break
    if seen.linear and (len(names) <= MOST_FILES or not every):
        seen.kind = "none"
    return seen


def _files(found: Found) -> list[str]:
    if found.kind == "safetensors":
        return [os.path.basename(found.path)]
    return [name for name in found.names if name.endswith(".safetensors") and not name.startswith("adapter_")]


_LINEAR = re.compile(r"(?:layers|h|blocks|layer)\.\d+\..*\.weight$")


def _add(seen: Seen, tensors: Iterable[Tensor]) -> None:
    """Take in the tensors of one file."""
    every = {tensor.name: tensor for tensor in tensors}
    for name, tensor in every.items():
        kind = _kind(name, tensor, every)
        if kind:
            seen.kind = kind
            if kind in ("gptq", "awq"):
                seen.bits, seen.group = _packing(kind, name, every)
            return
        if len(tensor.shape) == 2 and tensor.dtype in ("F16", "BF16", "F32") and _LINEAR.search(name):
            seen.linear += 1


def _kind(name: str, tensor: Tensor, every: Mapping[str, Tensor]) -> str:
    """The kind of quantization that a tensor shows; empty for a plain one, or one that says nothing by itself."""
    head, _, last = name.rpartition(".")
    if last == "qweight" and tensor.dtype in ("I32", "U32"):
        return _gptq_or_awq(head, tensor, every)
    if last == "weight_packed":
        return "compressed-tensors" if tensor.dtype != "U8" else "nvfp4"
    if "quant_state.bitsandbytes__" in name:
        return "bitsandbytes-4bit"
    if last == "SCB":
        return "bitsandbytes-8bit"
    if last.endswith("_blocks") and f"{name.removesuffix('_blocks')}_scales" in every and tensor.dtype == "U8":
        return "mxfp4"
    if last != "weight":
        return ""
    if tensor.dtype == "U32" and f"{head}.scales" in every and f"{head}.biases" in every:
        return "mlx"
    if tensor.dtype == "U8" and f"{head}.weight_scale_2" in every:
        return "nvfp4"
    if tensor.dtype.startswith("F8_E4M3") and len(tensor.shape) == 2:
        return "fp8"
    if tensor.dtype == "I8" and f"{head}.weight_scale" in every:
        return "compressed-tensors"
    return ""


def _gptq_or_awq(head: str, tensor: Tensor, every: Mapping[str, Tensor]) -> str:
    """GPTQ packs along the input, so that scales and qweight are equally wide; AWQ along the output."""
    scales = every.get(f"{head}.scales")
    if scales is None or len(scales.shape) != 2 or len(tensor.shape) != 2 or not tensor.shape[1]:
        return "gptq" if f"{head}.g_idx" in every else ""
    if scales.shape[1] == tensor.shape[1]:
        return "gptq"
    return "awq" if scales.shape[1] % tensor.shape[1] == 0 else ""


def _packing(kind: str, name: str, every: Mapping[str, Tensor]) -> tuple[int, int]:
    """Bits of a weight and weights that share a scale, by the shapes of one layer; zeros if they cannot be told."""
    head = name.removesuffix(".qweight")
    packed, scales, zeros = (every.get(f"{head}.{part}") for part in ("qweight", "scales", "qzeros"))
    if packed is None or scales is None or len(packed.shape) != 2 or len(scales.shape) != 2:
        return 0, 0
    groups, wide = scales.shape
    if not groups or not wide:
        return 0, 0
    if kind == "awq":
        bits, deep = packed.shape[1] * 32 // wide, packed.shape[0]
    else:
        if zeros is None or len(zeros.shape) != 2 or zeros.shape[1] * 32 % wide:
            return 0, 0
        bits = zeros.shape[1] * 32 // wide
        deep = packed.shape[0] * 32 // bits if bits else 0
    if bits not in (2, 3, 4, 8) or deep % groups:
        return 0, 0
    return bits, deep // groups
