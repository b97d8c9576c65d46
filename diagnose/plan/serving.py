"""A plan for serving: what one arrangement of cards holds, and what is the most that fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from msgspec.structs import replace

from diagnose.cards import Card
from diagnose.memory import estimates
from diagnose.memory.stored import LLAMA_CPP, TRANSFORMERS, Layout, sequence_bytes, value_bytes, vllm
from diagnose.plan.structs import QUANTIZED_BITS, Load, Part, Weights, Wish

VLLM_SHARE = 0.92
"""vLLM's gpu_memory_utilization if none is given (0.33, config/cache.py)."""
MOST_CONTEXT = 1 << 26
MOST_SEQUENCES = 1 << 20
LLAMA_CPP_BATCH = 512
"""llama.cpp's physical batch (-ub) if none is given."""


def cache_value(model: Weights, wish: Wish) -> Fraction:
    """Bytes of a cached value: of the dtype wished for, else of the model's (float16 for llama.cpp)."""
    if wish.cache_dtype and wish.cache_dtype != "auto":
        return value_bytes(wish.cache_dtype) or Fraction(2)
    if wish.engine in ("llama-cpp", "ollama"):
        return Fraction(2)
    size = value_bytes(model.dtype) or Fraction(2)
    return Fraction(2) if size < 2 or wish.engine in ("vllm", "sglang") else size  # which take 16 bits for float32


def weights_of(model: Weights, wish: Wish) -> tuple[int, bool, str]:
    """Bytes of all weights as they are loaded, whether that is exact, and how it was reckoned."""
    bits = QUANTIZED_BITS.get(wish.quantization.lower())
    already = bool(model.quantization) or model.kind == "gguf"
    if bits is not None and model.parameters and not already:
        if wish.quantization in ("q8_0", "q4_k_m"):  # which quantize embeddings too
            return int(model.parameters * bits / 8), False, f"{float(bits):.2f} bits per weight"
        made = estimates.quantized_weights(model.parameters, model.embeddings, bits)
        return made, False, f"{float(bits):.2f} bits for each weight of a linear layer, 16 for embeddings"
    wide = (model.stored or model.dtype) in ("F32", "float32") and not already
    if wide and wish.engine in ("vllm", "sglang"):
        return model.weights // 2, False, "float32 in the files, 16 bits when loaded"
    if model.exact:
        return model.weights, True, "sum of the tensors by the files' headers"
    return model.weights, False, f"{model.parameters:,} parameters in {model.dtype}"


def split(model: Weights, wish: Wish, cards: int) -> tuple[int, int]:
    """Tensor and pipeline parallel sizes for so many cards: as wished, else heads are split as far as they can be."""
    if wish.engine in ("llama-cpp", "ollama", "transformers"):
        return 1, cards
    if wish.tensor_parallel:
        return wish.tensor_parallel, wish.pipeline_parallel or max(1, cards // wish.tensor_parallel)
    stages = wish.pipeline_parallel or 1
    each = max(1, cards // stages)
    heads = model.widths.heads
    fitting = [size for size in range(1, each + 1) if each % size == 0 and (not heads or heads % size == 0)]
    tensor = max(fitting)
    return tensor, stages * (each // tensor)


def usable(card: Card, wish: Wish, cards: int) -> int:
    """How much of a card the engine may fill. SGLang's share is of what is free once the processes have found each other."""
    if wish.engine == "vllm":
        return int(card.offered * (wish.utilization or VLLM_SHARE))
    if wish.engine == "sglang":
        share = wish.utilization or estimates.sglang_static_share(card.memory, cards)
        return int(max(0, card.offered - estimates.runtime(cards)) * share)
    return int(card.offered * wish.utilization) if wish.utilization else card.offered


def layout(card: Card, wish: Wish) -> Layout:
    """How the engine keeps its cache."""
    if wish.engine == "vllm":
        return vllm(2 * batched(card, wish))  # two batches are in flight with asynchronous scheduling
    if wish.engine == "transformers":
        return TRANSFORMERS
    return LLAMA_CPP


def batched(card: Card, wish: Wish) -> int:
    """Tokens of one forward pass."""
    if wish.batched_tokens:
        return wish.batched_tokens
    if wish.engine == "vllm":
        return estimates.vllm_batched_tokens(card.memory, card.name)
    if wish.engine == "sglang":
        return 8192 if card.memory >= 60 * estimates.GIB else 4096 if card.memory >= 20 * estimates.GIB else 2048
    if wish.engine == "transformers":
        return max(1, wish.context) * max(1, wish.concurrency)
    return LLAMA_CPP_BATCH


def sequences(card: Card, wish: Wish) -> int:
    """Rows of logits that the engine makes room for."""
    if wish.engine == "vllm":
        most = wish.sequences or estimates.vllm_sequences(card.memory, card.name)
        return min(most, max(wish.concurrency, 1)) if wish.concurrency and not wish.sequences else most
    return max(1, wish.concurrency)


def loads(model: Weights, wish: Wish, cards: Sequence[Card]) -> tuple[Load, ...]:
    """What every card holds, if the model is split as wished and the cache holds the sequences wished for."""
    tensor, stages = split(model, wish, len(cards))
    return tuple(_load(model, wish, card, tensor, stages, len(cards)) for card in cards[: max(1, tensor * stages)])


def _load(model: Weights, wish: Wish, card: Card, tensor: int, stages: int, cards: int) -> Load:
    whole, exact, how = weights_of(model, wish)
    ranks = tensor * stages
    divided = f", shared among {ranks} cards" if ranks > 1 else ""
    parts = [Part("weights", estimates.share(whole, ranks), exact and ranks == 1, how + divided)]
    each = cache_of_sequence(model, wish, card, tensor, stages)
    count = max(1, wish.concurrency)
    told = f"{count} × {each:,} bytes for {wish.context:,} tokens"
    parts.append(Part("KV cache", each * count, _cache_is_exact(model, wish, stages), told))
    parts += _working(model, wish, card, tensor, ranks)
    return Load(card.name, card.memory, card.offered, usable(card, wish, cards), tuple(parts))


def _cache_is_exact(model: Weights, wish: Wish, stages: int) -> bool:
    """Whether the cache is counted rather than estimated: vLLM pads layers of several kinds to pages of one size."""
    mixed = wish.engine == "vllm" and len({group.kind for group in model.groups}) > 1
    return bool(model.groups) and not model.assumed and stages == 1 and not mixed


def cache_of_sequence(model: Weights, wish: Wish, card: Card, tensor: int, stages: int) -> int:
    """Cache of one sequence on one card. llama.cpp and Ollama split layers; vLLM and SGLang heads, then layers."""
    groups = model.groups
    if stages > 1:
        layers = sum(group.layers for group in groups)
        most = -(-layers // stages)
        groups = (
            tuple(replace(group, layers=-(-group.layers * most // layers)) for group in groups) if layers else groups
        )
    return sequence_bytes(
        groups,
        wish.context,
        cache_value(model, wish),
        layout(card, wish),
        shards=tensor,
        encoder_tokens=wish.context,
        state=2,
    )


def _working(model: Weights, wish: Wish, card: Card, tensor: int, ranks: int) -> list[Part]:
    """Activations, logits, graphs and what the runtime takes. SGLang's lie in what its share leaves."""
    widths = model.widths
    tokens = batched(card, wish)
    if wish.engine == "sglang":
        return []
    if wish.engine in ("llama-cpp", "ollama"):
        compute = estimates.llama_cpp_compute(widths, tokens, wish.context)
        return [
            Part("compute buffer", compute, False, f"float32 logits and stream of {tokens} tokens"),
            Part("runtime", estimates.RUNTIME, False, "CUDA context and workspaces"),
        ]
    rows = sequences(card, wish)
    working = estimates.activations(widths, tokens, tensor) + estimates.logits(widths, rows)
    parts = [Part("activations", working, False, f"{tokens:,} tokens at once, logits of {rows:,} sequences")]
    if wish.engine == "vllm" and not wish.eager:
        graphs = widths.layers * estimates.GRAPH_BYTES_PER_LAYER // max(1, ranks // max(1, tensor))
        parts.append(Part("CUDA graphs", graphs, False, "some 12 MiB per layer"))
    parts.append(Part("runtime", estimates.runtime(ranks), False, "CUDA context, workspaces and communication"))
    return parts


def fits(model: Weights, wish: Wish, cards: Sequence[Card]) -> bool:
    """Whether every card holds its load."""
    return all(load.free >= 0 for load in loads(model, wish, cards))


def largest_context(model: Weights, wish: Wish, cards: Sequence[Card]) -> int:
    """The longest sequences that fit, as many as wished for: in whole blocks of 16; 0: none."""
    found = largest(lambda blocks: fits(model, replace(wish, context=16 * blocks), cards), MOST_CONTEXT // 16)
    return 16 * found


def largest_concurrency(model: Weights, wish: Wish, cards: Sequence[Card]) -> int:
    """The most sequences of the wished length that fit; logits are reckoned for as many as are wished for."""
    rows = wish.sequences or max(1, wish.concurrency)
    kept = replace(wish, sequences=rows) if wish.engine == "vllm" else wish
    return largest(lambda count: fits(model, replace(kept, concurrency=count), cards), MOST_SEQUENCES)


def largest(holds: Callable[[int], bool], most: int) -> int:
    """The largest number up to `most` for which something holds that holds for all smaller ones; 0 if for none."""
    if not holds(1):
        return 0
    low, high = 1, 2
    while high <= most and holds(high):
        low, high = high, high * 2
    if high > most:
        return most if holds(most) else _between(holds, low, most)
    return _between(holds, low, high)


def _between(holds: Callable[[int], bool], low: int, high: int) -> int:
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
