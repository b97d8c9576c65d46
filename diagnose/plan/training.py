"""A plan for fine-tuning: what one card holds of weights, gradients, optimizer states and activations."""

from __future__ import annotations

from collections.abc import Sequence

from diagnose.cards import Card
from diagnose.memory import estimates, tuning
from diagnose.plan.structs import Load, Part, Weights, Wish


def zero_stage(wish: Wish, cards: int) -> int:
    """The ZeRO stage: as wished, else none for one card or an adapter, and 3 for full tuning on several."""
    if wish.zero >= 0:
        return wish.zero
    return 3 if cards > 1 and wish.tune == "full" else 0


def loads(model: Weights, wish: Wish, cards: Sequence[Card]) -> tuple[Load, ...]:
    """What every card holds: each takes a batch of its own."""
    return tuple(_load(model, wish, card, len(cards)) for card in cards)


def _load(model: Weights, wish: Wish, card: Card, cards: int) -> Load:
    parts = [*_states(model, wish, cards), *_working(model, wish, cards)]
    gaps = int(sum(part.bytes for part in parts) * tuning.GAPS)
    parts.append(Part("allocator", gaps, False, "rounding and gaps, 5% of all above"))
    parts.append(Part("runtime", estimates.runtime(cards), False, "CUDA context, workspaces and communication"))
    return Load(card.name, card.memory, card.offered, card.offered, tuple(parts))


def _states(model: Weights, wish: Wish, cards: int) -> list[Part]:
    zero = zero_stage(wish, cards)
    shared = f", ZeRO stage {zero} over {cards} cards" if zero and cards > 1 else ""
    if wish.tune == "full":
        made = tuning.full_states(model.parameters, wish.optimizer, zero, cards)
        return [
            Part("weights", made.weights, True, f"{2 if zero else 4} bytes per parameter{shared if zero > 2 else ''}"),
            Part(
                "gradients", made.gradients, True, f"{2 if zero else 4} bytes per parameter{shared if zero > 1 else ''}"
            ),
            Part(
                "optimizer", made.optimizer, True, f"{wish.optimizer}{' and float32 weights' if zero else ''}{shared}"
            ),
        ]
    trained = adapter(model, wish)
    own = tuning.adapter_states(trained, wish.optimizer, zero, cards)
    frozen, exact, how = frozen_weights(model, wish)
    if zero >= 3:
        frozen, how = estimates.share(frozen, cards), how + shared
    return [
        Part("weights", frozen, exact and zero < 3, how),
        Part("adapter", own.weights, True, f"{trained:,} parameters in float32"),
        Part("gradients", own.gradients, True, "float32, of the adapter only"),
        Part("optimizer", own.optimizer, True, f"{wish.optimizer}, of the adapter only"),
    ]


def adapter(model: Weights, wish: Wish) -> int:
    """Trained parameters of the adapter; 0 if they cannot be counted."""
    return tuning.adapter_parameters(model.widths, wish.rank, tuning.targets_of(wish.targets)) or 0


def frozen_weights(model: Weights, wish: Wish) -> tuple[int, bool, str]:
    """The base model below an adapter: as in its files, or in NF4 for QLoRA."""
    if wish.tune == "qlora" and not model.quantization and model.parameters:
        made = tuning.frozen_nf4(model.parameters, model.embeddings)
        return made, False, "NF4 with double quantization, 4.13 bits per weight; embeddings in float32"
    return model.weights, model.exact, "frozen, as in the files" if model.exact else f"frozen, in {model.dtype}"


def _working(model: Weights, wish: Wish, cards: int) -> list[Part]:
    kept = tuning.activations(model.widths, wish.batch, wish.context, wish.checkpointing)
    how = "layer inputs and one layer made anew" if wish.checkpointing else "of all layers"
    parts = [
        Part("activations", kept, False, f"{wish.batch} × {wish.context:,} tokens, {how}"),
        Part(
            "logits", tuning.loss(model.widths, wish.batch, wish.context), False, "with their float32 copy and gradient"
        ),
    ]
    if zero_stage(wish, cards) >= 3:
        layer = 2 * 2 * model.parameters // max(1, model.widths.layers)
        parts.append(Part("gathered weights", layer, False, "two layers in 16 bits at a time"))
    return parts
