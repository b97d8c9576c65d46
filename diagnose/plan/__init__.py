"""What fits: a model, cards and a wish → what each card holds, the most that fits, and the flags to use. Nothing is printed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from diagnose.cards import Card
from diagnose.memory import estimates
from diagnose.plan import commands, serving, training
from diagnose.plan.structs import ENGINES, TUNES, Change, Load, Part, Plan, Weights, Wish, model_of

__all__ = ["ENGINES", "TUNES", "Change", "Load", "Part", "Plan", "Weights", "Wish", "model_of", "plan"]

DEFAULT_CONTEXT = 8192
"""Tokens of a sequence if neither the wish nor the model names any; and the most that is planned for unasked."""
DEFAULT_LENGTH = 2048
"""Tokens of a training sequence if the wish names none."""
WORTHWHILE = 1024
"""A context below is no help."""


def plan(model: Weights, wish: Wish, cards: Sequence[Card]) -> Plan:
    """Plan `wish` for `model` on `cards`. What is not known is named in `unknown`, and the plan then has no verdict."""
    wish = _completed(model, wish)
    if model.kind == "gguf" and wish.engine in ("vllm", "sglang") and not wish.tune:
        wish = replace(wish, engine="llama-cpp")  # which such files are made for
    unknown = tuple(_unknown(model, wish, cards))
    if unknown:
        return _without_verdict(model, wish, unknown)
    return _for_tuning(model, wish, cards) if wish.tune else _for_serving(model, wish, cards)


def _completed(model: Weights, wish: Wish) -> Wish:
    """The wish with what it leaves open: a context and a number of sequences."""
    most = DEFAULT_LENGTH if wish.tune else DEFAULT_CONTEXT
    context = wish.context or min(model.context or most, most)
    return replace(wish, context=context, concurrency=wish.concurrency or 1)


def _unknown(model: Weights, wish: Wish, cards: Sequence[Card]) -> Iterator[str]:
    if not cards:
        yield "the GPUs: name them with --gpu, for example --gpu H100-80GB --gpus 2"
    if wish.tune == "full" and not model.parameters:
        yield "the number of parameters: neither the weights nor the config tell it"
    elif not model.weights:
        yield "the size of the weights: there are no weight files, and the config's architecture is not one that is counted"
    if not wish.tune and not model.groups:
        yield "how the model keeps its cache: no config.json was found, or it has keys that are not understood"
    if not model.widths.hidden or not model.widths.layers:
        yield "the model's width and layers, which activations follow from"


def _without_verdict(model: Weights, wish: Wish, unknown: tuple[str, ...]) -> Plan:
    return Plan(
        model=model.name,
        engine=wish.engine,
        tune=wish.tune,
        fits=None,
        cards=(),
        tensor_parallel=0,
        pipeline_parallel=0,
        context=wish.context,
        concurrency=wish.concurrency,
        largest_context=0,
        largest_concurrency=0,
        command="",
        flags=(),
        unknown=unknown,
    )


# --- serving


def _for_serving(model: Weights, wish: Wish, cards: Sequence[Card]) -> Plan:
    tensor, stages = serving.split(model, wish, len(cards))
    held = serving.loads(model, wish, cards)
    fits = all(load.free >= 0 for load in held)
    largest = serving.largest_context(model, wish, cards)
    many = serving.largest_concurrency(model, wish, cards)
    changes = () if fits else tuple(_changes(model, wish, cards, largest, many))
    flags = commands.serving(model, wish, cards, tensor, stages)
    return Plan(
        model=model.name,
        engine=wish.engine,
        tune="",
        fits=fits,
        cards=held,
        tensor_parallel=tensor,
        pipeline_parallel=stages,
        context=wish.context,
        concurrency=wish.concurrency,
        largest_context=min(largest, model.context) if model.context and largest else largest,
        largest_concurrency=-1 if many >= serving.MOST_SEQUENCES else many,
        command=commands.command(model, wish, flags),
        flags=flags,
        changes=changes,
        notes=tuple(_serving_notes(model, wish, cards, tensor, stages, largest)),
    )


def _changes(model: Weights, wish: Wish, cards: Sequence[Card], largest: int, many: int) -> Iterator[Change]:
    """What would make it fit, the smallest change first; each was reckoned through."""
    if many >= 1:
        yield Change(
            f"serve {many} sequence{'s' * (many > 1)} at once rather than {wish.concurrency}",
            commands.at_once(wish, many),
        )
    if largest >= WORTHWHILE:
        yield Change(f"use {largest:,} tokens rather than {wish.context:,}", commands.of_length(wish, largest))
    if not many and largest < WORTHWHILE:
        alone = replace(wish, concurrency=1)
        most = serving.largest_context(model, alone, cards)
        if most >= WORTHWHILE and wish.concurrency > 1:
            flags = f"{commands.at_once(wish, 1)} {commands.of_length(alone, most)}".strip()
            yield Change(f"serve one sequence at a time, of {most:,} tokens", flags)
    small = commands.small_cache(wish)
    if small and not wish.cache_dtype and (wish.engine not in ("vllm", "sglang") or _has_fp8(cards)):
        smaller = replace(wish, cache_dtype=small)
        flag = commands.cache_flag(wish, small)
        if serving.fits(model, smaller, cards):
            yield Change("keep the cache in 8 bits", flag)
        elif largest < WORTHWHILE and (most := serving.largest_context(model, smaller, cards)) >= WORTHWHILE:
            yield Change(
                f"keep the cache in 8 bits, and use {most:,} tokens", f"{flag} {commands.of_length(wish, most)}"
            )
    yield from _other_weights(model, wish, cards)
    yield from _more_cards(model, wish, cards)


def _other_weights(model: Weights, wish: Wish, cards: Sequence[Card]) -> Iterator[Change]:
    """The model with quantized weights, where it is in 16 bits now."""
    if model.quantization or model.kind == "gguf" or wish.quantization or not model.parameters:
        return
    for name, words in commands.quantizations(wish):
        if name == "fp8" and not _has_fp8(cards):
            continue
        other = replace(wish, quantization=name)
        size = serving.weights_of(model, other)[0]
        if serving.fits(model, other, cards):
            flag = commands.quantization_flag(wish, name)
            yield Change(f"use weights in {words}: {size / estimates.GIB:.1f} GiB", flag)
            return


def _has_fp8(cards: Sequence[Card]) -> bool:
    """Whether the cards calculate in 8-bit floats, as far as their names tell: NVIDIA's from 8.9 on."""
    return all(not card.capability or float(card.capability) >= 8.9 for card in cards)


def _more_cards(model: Weights, wish: Wish, cards: Sequence[Card]) -> Iterator[Change]:
    """The smallest number of cards of the same kind that holds it; one that shares the heads before one in stages."""
    free = replace(wish, tensor_parallel=0, pipeline_parallel=0)
    counts = [count for count in (2, 3, 4, 6, 8, 12, 16, 24, 32, 64) if count > len(cards)]
    if wish.engine in ("vllm", "sglang"):
        counts.sort(key=lambda count: serving.split(model, free, count)[1] > 1)
    for count in counts:
        if serving.fits(model, free, [cards[0]] * count):
            tensor, stages = serving.split(model, free, count)
            yield Change(f"use {count} × {cards[0].name}", " ".join(commands.parallel(wish, tensor, stages)))
            return


def _serving_notes(
    model: Weights, wish: Wish, cards: Sequence[Card], tensor: int, stages: int, largest: int
) -> Iterator[str]:
    if model.assumed:
        yield "the model type is not known: its cache was reckoned by the common formula for its keys"
    if model.context and wish.context > model.context:
        yield f"the model is for {model.context:,} tokens at most"
    elif model.context and largest > model.context:
        yield f"memory would do for {largest:,} tokens; the model is for {model.context:,}"
    if len({card.name for card in cards}) > 1:
        yield "the cards differ: work is split evenly, so the smallest one limits"
    if 0 < tensor * stages < len(cards):
        yield f"{tensor * stages} of {len(cards)} cards are used"
    heads = model.widths.kv_heads
    if tensor > 1 and heads and heads < tensor and any(group.kind in ("full", "sliding") for group in model.groups):
        yield f"with {heads} key-value heads on {tensor} cards, heads are kept several times"
    if tensor > 1 and any(group.kind == "mla" for group in model.groups):
        yield "MLA's cache is kept whole on every card of a tensor parallel group"
    if wish.engine in ("llama-cpp", "ollama") and model.kind not in ("gguf", ""):
        yield "llama.cpp and Ollama read GGUF files: convert the model (convert_hf_to_gguf.py, llama-quantize) or fetch one"
    if wish.engine == "sglang":
        yield "SGLang keeps activations and graphs in what mem-fraction-static leaves free"
    if model.quantization == "" and model.weights and not model.exact:
        yield "the size of the weights was reckoned from the config; the files may differ"


# --- tuning


def _for_tuning(model: Weights, wish: Wish, cards: Sequence[Card]) -> Plan:
    held = training.loads(model, wish, cards)
    fits = all(load.free >= 0 for load in held)
    longest = _longest(model, wish, cards)
    largest = _largest_batch(model, wish, cards)
    flags = commands.tuning(model, wish, cards, training.zero_stage(wish, len(cards)))
    return Plan(
        model=model.name,
        engine="",
        tune=wish.tune,
        fits=fits,
        cards=held,
        tensor_parallel=1,
        pipeline_parallel=1,
        context=wish.context,
        concurrency=wish.batch,
        largest_context=longest,
        largest_concurrency=largest,
        command="",
        flags=flags,
        changes=() if fits else tuple(_tuning_changes(model, wish, cards)),
        notes=tuple(_tuning_notes(model, wish, cards)),
        settings=commands.settings(wish, training.zero_stage(wish, len(cards))),
    )


def _holds(model: Weights, wish: Wish, cards: Sequence[Card]) -> bool:
    return all(load.free >= 0 for load in training.loads(model, wish, cards))


def _longest(model: Weights, wish: Wish, cards: Sequence[Card]) -> int:
    """The longest training sequences that fit, in steps of 128."""
    found = serving.largest(lambda steps: _holds(model, replace(wish, context=128 * steps), cards), 1 << 16)
    return 128 * found


def _largest_batch(model: Weights, wish: Wish, cards: Sequence[Card]) -> int:
    return serving.largest(lambda count: _holds(model, replace(wish, batch=count), cards), 1 << 12)


def _tuning_changes(model: Weights, wish: Wish, cards: Sequence[Card]) -> Iterator[Change]:
    """What would make it fit, from the mildest on; each was reckoned through."""
    steps: list[tuple[str, Wish]] = []
    if not wish.checkpointing:
        steps.append(("recompute activations (gradient checkpointing)", replace(wish, checkpointing=True)))
    if wish.batch > 1:
        steps.append(("take one sequence per card and accumulate", replace(wish, batch=1)))
    shorter = _longest(model, replace(wish, batch=1, checkpointing=True), cards)
    if WORTHWHILE // 2 <= shorter < wish.context:
        steps.append(
            (f"cut sequences to {shorter:,} tokens", replace(wish, batch=1, checkpointing=True, context=shorter))
        )
    if wish.optimizer in ("adamw", "paged_adamw"):
        steps.append(("keep the optimizer's states in 8 bits", replace(wish, optimizer="paged_adamw_8bit")))
    if len(cards) > 1 and training.zero_stage(wish, len(cards)) < 3 and wish.tune != "qlora":
        steps.append(("split weights, gradients and states over the cards (ZeRO 3 or FSDP)", replace(wish, zero=3)))
    if wish.tune == "full":
        steps.append(("tune an adapter instead (LoRA)", replace(wish, tune="lora", zero=-1)))
    if wish.tune != "qlora" and not model.quantization:
        steps.append(("tune an adapter over a base in 4 bits (QLoRA)", replace(wish, tune="qlora", zero=-1)))
    many = (
        next(
            (
                count
                for count in (2, 4, 8, 16, 32, 64)
                if count > len(cards) and _holds(model, replace(wish, zero=3), [cards[0]] * count)
            ),
            0,
        )
        if cards
        else 0
    )
    for words, other in steps:
        if _holds(model, other, cards):
            settings = commands.settings(other, training.zero_stage(other, len(cards)))
            before = commands.settings(wish, training.zero_stage(wish, len(cards)))
            yield Change(
                words, ", ".join(f"{key}: {value}" for key, value in settings.items() if before.get(key) != value)
            )
    if many:
        yield Change(f"use {many} × {cards[0].name} with ZeRO 3 or FSDP", "")


def _tuning_notes(model: Weights, wish: Wish, cards: Sequence[Card]) -> Iterator[str]:
    if wish.tune != "full" and not training.adapter(model, wish):
        yield "the adapter's parameters could not be counted for these target modules; they are left out"
    if wish.tune == "qlora" and model.quantization:
        yield f"the base is quantized already ({model.quantization}) and is taken as it is in the files"
    if wish.optimizer.startswith("paged"):
        yield "a paged optimizer moves its states to host memory where the card is full"
    if wish.tune == "qlora" and training.zero_stage(wish, len(cards)) >= 3:
        yield "ZeRO 3 with a 4-bit base needs bnb_4bit_quant_storage in the dtype of training"
    if model.widths.experts_per_token and wish.tune != "full":
        yield "the adapter is counted for attention and one feed-forward part per layer, not for each expert"
