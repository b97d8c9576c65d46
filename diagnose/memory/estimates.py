"""What serving takes besides weights and cache: stated estimates, since they depend on kernels and allocators.

Where they come from stands with each; how far totals are from published logs stands in docs/memory.md.
"""

from __future__ import annotations

from fractions import Fraction

from msgspec import Struct

MIB, GIB = 1 << 20, 1 << 30

LOGIT_BYTES = 12
"""vLLM's profiling run samples from logits of max_num_seqs rows: float32 values, their sorted copy, and the order as
int32 or int64 (vllm/v1/sample/ops): about 12 bytes for each entry of the vocabulary and row."""
RUNTIME = 600 * MIB
"""CUDA context, cuBLAS and kernel workspaces of a process that are no tensors; vLLM's logs tell 0.1 to 1.8 GiB as
non-torch memory, depending on what it counts as having been there before."""
COLLECTIVES = 1200 * MIB
"""Buffers of NCCL and the custom all-reduce per card where several work together (some 1 to 2 GiB in vLLM's logs)."""
GRAPH_BYTES_PER_LAYER = 12 * MIB
"""CUDA graphs of vLLM's default sizes: 0.3 to 0.9 GiB in its logs for 24 to 80 layers."""


class Widths(Struct, frozen=True):
    """What activations follow from: sizes of the language model. 0 where one is not known."""

    hidden: int = 0
    inner: int = 0
    heads: int = 0
    kv_heads: int = 0
    head_dim: int = 0
    vocab: int = 0
    layers: int = 0
    experts_per_token: int = 0
    expert_inner: int = 0


def activations(widths: Widths, tokens: int, shards: int = 1, value: int = 2) -> int:
    """The largest moment of a forward pass of `tokens` at once, without logits, on one of `shards` cards.

    The residual stream with its copy, and beside it either the feed-forward part (gate, up and their product) or the
    attention part (queries, keys, values and the result). Experts work on experts_per_token copies of each token.
    """
    stream = 2 * widths.hidden
    inner = 3 * widths.inner / shards
    if widths.experts_per_token and widths.expert_inner:
        inner = widths.experts_per_token * (3 * widths.expert_inner / shards + widths.hidden)
    attending = (2 * widths.heads + 2 * widths.kv_heads) * widths.head_dim / shards
    return int(tokens * value * (stream + max(inner, attending)))


def logits(widths: Widths, rows: int, each: int = LOGIT_BYTES) -> int:
    """What sampling takes for `rows` sequences at once."""
    return rows * widths.vocab * each


def runtime(cards: int) -> int:
    """CUDA context, workspaces and communication buffers on one of `cards` cards."""
    return RUNTIME + (COLLECTIVES if cards > 1 else 0)


def vllm_batched_tokens(memory: int, name: str = "") -> int:
    """vLLM's max_num_batched_tokens for a server if none is given (0.33: EngineArgs.get_batch_defaults)."""
    if memory >= 160 * GIB:
        return 16384
    return 8192 if memory >= 70 * GIB and "a100" not in name.lower() else 2048


def vllm_sequences(memory: int, name: str = "") -> int:
    """vLLM's max_num_seqs for a server if none is given (0.33: EngineArgs.get_batch_defaults)."""
    return 1024 if memory >= 70 * GIB and "a100" not in name.lower() else 256


def sglang_static_share(memory: int, cards: int) -> float:
    """SGLang's mem_fraction_static if none is given: what its reserve leaves (0.5.23, arg_groups/memory_hook.py).

    512 MiB, 1.5 MiB per token of the largest prefill chunk (2k below 20 GiB, 4k below 60, 8k below 160, 16k above), an
    eighth of a GiB per card that works along, 2 MiB per sequence of a decode graph; at least 10 GiB above 60 GiB.
    """
    size = memory // MIB
    chunk = 2048 if size < 20480 else 4096 if size < 61440 else 8192 if size < 163840 else 16384
    most = 8 if size < 20480 else 48 if size < 35840 else 32 if size < 61440 else 256 if size < 163840 else 512
    if cards >= 4 and size >= 20480:
        most = 160 if size < 61440 else 512
    reserve = 512 + max(chunk, 2048) * 1.5 + cards / 8 * 1024 + 2 * most
    if size > 61440:
        reserve = max(reserve, 10240.0)
    return round(max(0.05, (size - reserve) / size), 3)


def llama_cpp_compute(widths: Widths, batch: int, context: int, flash: bool = True) -> int:
    """llama.cpp's compute buffer: float32 logits of one batch (n_ubatch, 512) beside its stream; without flash attention scores too.

    Llama 3 8B: 512 × 128,256 × 4 bytes = 250.5 MiB, of 258.5 MiB in its logs.
    """
    scores = 0 if flash else batch * widths.heads * context * 4
    return batch * (widths.vocab + 4 * widths.hidden) * 4 + scores


def share(total: int, parts: int) -> int:
    """A part of bytes that are split evenly, rounded up."""
    return -(-total // max(1, parts))


def quantized_weights(parameters: int, embeddings: int, bits: Fraction) -> int:
    """Weights in another precision: `bits` per parameter with its scales, embeddings and output layer in 16 bits."""
    linear = max(0, parameters - embeddings)
    return int(linear * bits / 8) + 2 * min(parameters, embeddings)
