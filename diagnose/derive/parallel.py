"""Over how many GPUs a model's layers can be split (tensor parallel), as vLLM, SGLang and TGI demand it.

vLLM (0.33: config/model.py verify_with_parallel_config, model_executor/layers/linear.py, layers/quantization/) and SGLang
(0.5.23: srt/layers/linear.py, layers/quantization/fp8.py) give every GPU the same number of attention heads and of columns.
Heads of keys and values are repeated where there are fewer than GPUs, and must divide one way or the other. The vocabulary
is padded, so it never stands in the way. Quantized weights are cut only between their groups or blocks.
"""

from __future__ import annotations

from msgspec import Struct

SPLITTING = ("vllm", "sglang", "tgi")
"""Engines that split every layer by heads. llama.cpp and Ollama hand whole layers, or rows, to GPUs."""
MOST = 64
"""The largest number of GPUs that is tried."""
_BY_GROUP = ("gptq", "awq", "gptq_marlin", "awq_marlin", "auto-round", "auto_round", "compressed-tensors", "auto-gptq")


class Shape(Struct, frozen=True):
    """What of a model decides it; 0 for what is not known or not there.

    `intermediate` is the width of the dense feed-forward part (0 for a mixture of experts), `expert` that of an expert.
    `group` is how many weights share a scale along a row (0: whole rows), `block` the side of a square FP8 block.
    """

    heads: int
    kv_heads: int = 0
    head_dim: int = 0
    intermediate: int = 0
    expert: int = 0
    attention: str = ""
    group: int = 0
    block: int = 0


def grouped(quantization: str, group: int) -> int:
    """The group that a split must keep whole: of the methods that pack weights with a scale for each group."""
    return group if quantization.lower() in _BY_GROUP and group > 0 else 0


def fault(
    shape: Shape, size: int, engine: str = "vllm", *, attention_size: int = 0, whole_experts: bool = False
) -> str:
    """What stands in the way of `size` GPUs: heads, kv-heads, intermediate, experts, group, block; empty if nothing does.

    `attention_size` is over how many GPUs the attention is split, where that is another number (SGLang's data-parallel
    attention); `whole_experts`: experts are shared out and not cut (expert parallel).
    """
    if size <= 1:
        return ""
    across = attention_size or size
    if across > 1 and (found := _attention(shape, across, engine)):
        return found
    if engine == "tgi":
        return ""
    if shape.intermediate and shape.intermediate % size:
        return "intermediate"
    expert = 0 if whole_experts else shape.expert
    if expert and expert % size:
        return "experts"
    return _quantized(shape, size, across, expert, engine)


def _attention(shape: Shape, size: int, engine: str) -> str:
    if shape.heads % size:
        return "heads"
    if engine == "tgi" or shape.attention in ("mla", "none") or not shape.kv_heads:
        return ""
    larger, smaller = max(size, shape.kv_heads), min(size, shape.kv_heads)
    return "kv-heads" if larger % smaller else ""


def _quantized(shape: Shape, size: int, across: int, expert: int, engine: str) -> str:
    """Whether a cut falls between groups or blocks, in the layers whose inputs are split and in the experts."""
    projected = shape.heads * shape.head_dim if across > 1 and shape.attention != "mla" else 0
    for length, parts in ((shape.intermediate, size), (expert, size), (projected, across)):
        if shape.group and length and length > shape.group and (length // parts) % shape.group:
            return "group"
        if shape.block and length and (length // parts) % shape.block:
            return "block"
    if shape.block and engine == "sglang" and projected and shape.kv_heads:
        mine = max(shape.kv_heads // across, 1) * shape.head_dim
        return "block" if mine % shape.block else ""
    return ""


def possible(shape: Shape, engine: str = "vllm", *, whole_experts: bool = False, most: int = MOST) -> list[int]:
    """The numbers of GPUs that nothing stands in the way of."""
    return [size for size in range(1, most + 1) if not fault(shape, size, engine, whole_experts=whole_experts)]
