"""Model, launch command and GPUs → whether the memory suffices, as facts under fit.memory.

Two kinds: what is sure, since it leaves out every estimate and takes the most that a card can have, and what is likely,
reckoned like a plan. Nothing is told where a flag changes the sums in a way that is not followed here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

from msgspec.structs import replace

from diagnose import cards
from diagnose.cards import Card
from diagnose.derive.known import Known, by_name
from diagnose.memory.stored import PLAIN, sequence_bytes, value_bytes
from diagnose.model import Fact
from diagnose.plan import serving
from diagnose.plan.structs import Value, Weights, Wish, model_of

ORIGIN = "arithmetic"
SURE = Fraction(95, 100)
"""What part of the weights is surely loaded: some files hold layers for drafting that an engine leaves out."""
_ENGINES = {"vllm": "vllm", "sglang": "sglang", "llama.cpp": "llama-cpp"}
_WANTED = {"llama-cpp": "llama.cpp", "llama-server": "llama.cpp"}
_UNFOLLOWED = frozenset(
    """cpu_offload_gb kv_cache_memory_bytes num_gpu_blocks_override block_size speculative_config
    draft_model model_loader_extra_config pipeline_parallel_layer_partition max_total_tokens
    enable_hierarchical_cache offload_group_size offload_num_in_group disable_hybrid_kv_cache_manager
    nnodes distributed_executor_backend headless enable_dp_attention moe_dense_tp_size
    n_cpu_moe cpu_moe override_tensor tensor_split fit split_mode hf_repo mmproj
    quantize_and_serve kv_offloading_size dp_size data_parallel_size language_model_only""".split()  # noqa: SIM905
)
"""Arguments that change what lies on a card in ways that the sums here do not follow."""
_DECIDING = frozenset(
    """tensor_parallel_size tp_size pipeline_parallel_size pp_size gpu_memory_utilization mem_fraction_static max_model_len
    context_length quantization dtype kv_cache_dtype max_num_batched_tokens max_num_seqs ctx_size gpu_layers n_gpu_layers
    cache_type_k cache_type_v parallel""".split()  # noqa: SIM905
)
"""Arguments that the sums follow: with one that only the shell knows nothing is told."""


def complete(facts: Sequence[Fact]) -> tuple[Fact, ...]:
    """The facts that follow from `facts` by arithmetic; none where something needed is not known."""
    told: dict[str, Value] = {}
    for fact in facts:
        told.setdefault(fact.name, fact.value)
    if "model.kind" not in told and "weights.bytes" not in told:
        return ()
    found = dict(_host(told))
    if not Known(by_name(facts)).unsure(*_DECIDING, *_UNFOLLOWED):
        found |= dict(_tell(told))
    return tuple(Fact(name, value, ORIGIN) for name, value in found.items() if name not in told)


Told = Iterator[tuple[str, Value]]


def _tell(told: Mapping[str, Value]) -> Told:
    engine = str(told.get("engine.name") or "") or str(told.get("wanted.name") or "")
    engine = _WANTED.get(engine, engine)
    there = cards_of(told)
    model = model_of(told)
    if engine not in _ENGINES or not there or not model.weights or not model.exact:
        return
    if any(f"launch.arg.{name}" in told for name in _UNFOLLOWED):
        return
    share = _loaded(told, model)
    if share is None:
        return
    launched = bool(told.get("launch.program"))
    ranks = _ranks(told, engine) if launched else len(there)
    if engine == "llama.cpp":
        yield from _for_llama_cpp(told, model, there)
    elif ranks and 0 < ranks <= len(there):
        yield from _for_server(told, model, there, engine, ranks, share, launched)


def cards_of(told: Mapping[str, Value]) -> tuple[Card, ...]:
    """The GPUs of this machine, the largest first; none if the engine runs elsewhere, or they are divided or shared."""
    if told.get("deploy.kind") == "kubernetes" or told.get("deploy.slurm_nodes"):
        return ()
    found = []
    for name, memory in told.items():
        at = re.fullmatch(r"gpu\.(\d+)\.memory", name)
        if not at or not isinstance(memory, int) or isinstance(memory, bool) or memory <= 0:
            continue
        own = f"gpu.{at[1]}"
        if told.get(f"{own}.mig") is True or told.get(f"{own}.memory_shared") is True:
            return ()
        found.append(cards.of_machine(str(told.get(f"{own}.name", "GPU")), memory))
    return tuple(sorted(found, key=lambda card: card.memory, reverse=True))


def _whole(told: Mapping[str, Value], name: str) -> int | None:
    value = told.get(name)
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, (int, float)):
        return int(value) if abs(value) < 1 << 40 else None
    return int(value) if re.fullmatch(r"\d{1,12}", value) else None


def _ranks(told: Mapping[str, Value], engine: str) -> int | None:
    """Cards that the weights are shared among; None if copies run beside each other or the sizes are not told."""
    data = _whole(told, "launch.data_parallel")
    if data is not None and data > 1:
        return None
    sizes = [_whole(told, f"launch.{name}_parallel") or 1 for name in ("tensor", "pipeline")]
    return sizes[0] * sizes[1]


def _loaded(told: Mapping[str, Value], model: Weights) -> Fraction | None:
    """What part of the files' bytes is loaded at least: all, half of float32, a part if the engine quantizes; None: not known."""
    asked = str(told.get("launch.quantization") or "").lower()
    dtype = str(told.get("launch.dtype") or told.get("launch.arg.dtype") or "auto").lower()
    part = Fraction(1)
    stored = str(told.get("weights.dtype") or "")
    if stored not in ("F32", "F64", "BF16", "F16") and not model.quantization and model.kind != "gguf":
        return None
    if stored in ("F32", "F64") and dtype not in ("float32", "float"):
        part = Fraction(1, 2) if stored == "F32" else Fraction(1, 4)
    if not asked or model.quantization or model.kind == "gguf":
        return part
    return part * Fraction(1, 2) if asked == "fp8" else None


# --- vLLM and SGLang


def _for_server(
    told: Mapping[str, Value],
    model: Weights,
    there: Sequence[Card],
    engine: str,
    ranks: int,
    part: Fraction,
    launched: bool,
) -> Told:
    card = there[0]
    least = int(model.weights * part * SURE / ranks)
    likely = int(model.weights * part / ranks)
    share = _share(told, engine)
    yield "fit.memory.weights_all", int(model.weights * part)
    yield "fit.memory.weights", likely
    yield "fit.memory.card", card.memory
    yield "fit.memory.card_name", card.name
    yield "fit.memory.cards_used", ranks
    yield "fit.memory.cards_there", len(there)
    over = least > card.memory
    yield "fit.memory.weights_over", over
    free = [told.get(name) for name in told if re.fullmatch(r"gpu\.\d+\.memory_free", name)]
    known = [item for item in free if isinstance(item, int) and not isinstance(item, bool)]
    if known and len(known) == len(there) and not over and launched:
        yield "fit.memory.free", max(known)
        yield "fit.memory.free_short", least > max(known)
    needed = next((count for count in (1, 2, 4, 8, 16) if model.weights * part / count < card.offered * 0.85), 32)
    yield "fit.memory.cards_needed", needed
    yield "fit.memory.enough_cards", needed <= len(there)
    yield from _repeated(told, model)
    if share is None or not launched:
        return
    most = int(card.memory * share)
    yield "fit.memory.usable", most
    yield "fit.memory.weights_over_share", not over and least > most
    if not over and least <= most:
        yield from _cache(told, model, card, engine, ranks, least, most)


def _repeated(told: Mapping[str, Value], model: Weights) -> Told:
    """What tensor parallelism keeps on several cards although it could be there once."""
    tensor = _whole(told, "launch.tensor_parallel") or 1
    kinds = {group.kind for group in model.groups}
    heads = max((group.heads for group in model.groups if group.kind in ("full", "sliding", "chunked")), default=0)
    if tensor > 1 and heads:
        yield "fit.memory.heads_repeated", heads < tensor
        yield "fit.memory.kv_heads", heads
    if tensor > 1 and "mla" in kinds:
        yield "fit.memory.latent_repeated", True


def _share(told: Mapping[str, Value], engine: str) -> float | None:
    """The part of a card that the engine fills: as the command says; vLLM's default; SGLang's depends on more."""
    given = told.get("launch.memory_share")
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        return float(given) if 0 < given <= 1 else None
    named = {"vllm": "gpu_memory_utilization", "sglang": "mem_fraction_static"}[engine]
    if f"launch.arg.{named}" in told:
        return None  # written in a way that was not understood
    return serving.VLLM_SHARE if engine == "vllm" else 0.98


def _cache(
    told: Mapping[str, Value], model: Weights, card: Card, engine: str, ranks: int, least: int, most: int
) -> Told:
    """Whether one request of the longest context has room, surely and likely, and how many have."""
    context = _context(told, model)
    if context is None or not model.groups or model.assumed:
        return
    wish = Wish(
        engine=_ENGINES[engine],
        context=context,
        concurrency=1,
        cache_dtype=str(told.get("launch.kv_cache_dtype") or ""),
        tensor_parallel=_whole(told, "launch.tensor_parallel") or 1,
        pipeline_parallel=_whole(told, "launch.pipeline_parallel") or 1,
        utilization=_given_share(told),
        batched_tokens=_whole(told, "launch.batched_tokens") or 0,
        sequences=_whole(told, "launch.sequences") or 0,
        eager=str(told.get("launch.arg.enforce_eager", "")).lower() == "true",
    )
    if wish.cache_dtype not in ("", "auto") and value_bytes(wish.cache_dtype) is None:
        return
    one = serving.cache_of_sequence(model, wish, card, wish.tensor_parallel, wish.pipeline_parallel)
    surely = _surely(model, wish, ranks)
    yield "fit.memory.context", context
    yield "fit.memory.cache_one", one
    yield "fit.memory.cache_over", engine == "vllm" and least + surely > most
    if engine != "vllm" or least + surely > most:
        return
    likely = replace(model, weights=int(least / SURE * ranks), stored="BF16")
    there = [card] * ranks
    yield "fit.memory.cache_tight", not serving.fits(likely, wish, there)
    yield "fit.memory.context_fits", serving.largest_context(likely, wish, there)
    many = serving.largest_concurrency(likely, replace(wish, sequences=wish.sequences or 256), there)
    if many < serving.MOST_SEQUENCES:
        yield "fit.memory.requests", many


def _surely(model: Weights, wish: Wish, ranks: int) -> int:
    """The cache of one request without anything that blocks, windows in flight or uneven stages add."""
    plain = PLAIN
    value = serving.cache_value(model, wish)
    whole = sequence_bytes(model.groups, wish.context, value, plain, shards=wish.tensor_parallel, state=2)
    return whole // wish.pipeline_parallel


def _given_share(told: Mapping[str, Value]) -> float:
    given = told.get("launch.memory_share")
    return float(given) if isinstance(given, (int, float)) and not isinstance(given, bool) and 0 < given <= 1 else 0.0


def _context(told: Mapping[str, Value], model: Weights) -> int | None:
    """The longest request: as asked, else the model's own; None where the engine is to choose it."""
    asked = told.get("launch.context")
    if isinstance(asked, int) and not isinstance(asked, bool):
        return asked if asked > 0 else None
    if any(f"launch.arg.{name}" in told for name in ("max_model_len", "context_length")):
        return None
    return model.context or None


# --- llama.cpp


def _for_llama_cpp(told: Mapping[str, Value], model: Weights, there: Sequence[Card]) -> Told:
    """Whether all layers go to the cards, and what they and the cache take; only where the command asks for that."""
    layers = _whole(told, "launch.gpu_layers")
    if layers is None or not model.widths.layers or layers <= model.widths.layers or not told.get("launch.program"):
        return
    offered = sum(card.memory for card in there)
    yield "fit.memory.weights_all", model.weights
    yield "fit.memory.card", offered
    yield "fit.memory.card_name", there[0].name
    yield "fit.memory.cards_there", len(there)
    over = model.weights * SURE - 4 * model.embeddings > offered  # the input embedding stays in main memory
    yield "fit.memory.offload_over", over
    context = _context_of_llama_cpp(told)
    if over or context is None or not model.groups or model.assumed:
        return
    kinds = [str(told.get(f"launch.arg.cache_type_{name}") or "f16") for name in ("k", "v")]
    sizes = [value_bytes(kind) for kind in kinds]
    if None in sizes or any(group.kind == "mla" for group in model.groups):
        return
    value = sum((size for size in sizes if size is not None), Fraction(0)) / 2
    cache = sequence_bytes(model.groups, context, value, PLAIN)
    yield "fit.memory.context", context
    yield "fit.memory.cache_one", cache
    yield "fit.memory.offload_cache_over", model.weights * SURE - 4 * model.embeddings + cache > offered


def _context_of_llama_cpp(told: Mapping[str, Value]) -> int | None:
    """Tokens of all slots together, as the command asks; None if llama.cpp is to choose them."""
    return _whole(told, "launch.context_all") or None


# --- main memory


def _host(told: Mapping[str, Value]) -> Told:
    """Main memory beside the weights, where there is no GPU and everything lies there."""
    weights, usable = told.get("weights.bytes"), told.get("memory.usable")
    if not isinstance(weights, int) or not isinstance(usable, int) or isinstance(weights, bool) or not usable:
        return
    if told.get("deploy.kind") == "kubernetes":
        return
    vendor = str(told.get("gpu.vendor") or "")
    count = told.get("gpu.count")
    if count == 0 or (vendor == "none" and count is None):
        yield "fit.memory.weights_all", weights
        yield "fit.memory.host_over", weights * SURE > usable
