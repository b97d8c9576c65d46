"""What fine-tuning takes: weights, gradients, optimizer states, activations, and how ZeRO and FSDP split them.

Exact where it is counting (adapters, states by bytes per parameter); activations are by the formula of Korthikanti et
al. (arXiv 2205.05198, section 4), with attention that keeps no scores.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from msgspec import Struct

from diagnose.memory.estimates import Widths

NF4_BITS = Fraction(4) + Fraction(8, 64) + Fraction(32, 64 * 256)
"""Bits per quantized weight with double quantization: 4, an 8-bit scale per 64, a float32 one per 256 of these (arXiv 2305.14314, 3)."""
NF4_BITS_SINGLE = Fraction(4) + Fraction(32, 64)
"""The same without double quantization: a float32 scale per 64."""

OPTIMIZERS: dict[str, Fraction] = {
    "adamw": Fraction(8),
    "paged_adamw": Fraction(8),
    "adamw_8bit": Fraction(2) + Fraction(8, 256),
    "paged_adamw_8bit": Fraction(2) + Fraction(8, 256),
    "adafactor": Fraction(1, 16),
    "sgd": Fraction(0),
    "sgd_momentum": Fraction(4),
    "muon": Fraction(4),
    "lion": Fraction(4),
}
"""Bytes of state per trained parameter: AdamW two float32 moments; in 8 bits two bytes and two float32 scales per block
of 256 (arXiv 2110.02861); Adafactor a row and a column per matrix (arXiv 1804.04235); Muon and Lion one moment."""

LOSS_BYTES = 2 + 4 + 4
"""Bytes per token and entry of the vocabulary at the end of a forward pass; a fused loss takes far less."""
GAPS = Fraction(1, 20)
"""What the allocator's rounding and gaps add to all that a training holds: some 5%, by published peaks (docs/memory.md)."""

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")


class States(Struct, frozen=True):
    """Bytes on one card."""

    weights: int
    gradients: int
    optimizer: int


def adapter_parameters(widths: Widths, rank: int, targets: tuple[str, ...] = (*ATTENTION, *MLP)) -> int | None:
    """Parameters of a LoRA adapter: rank × (inputs + outputs) of each matrix it goes beside. None where a width is unknown."""
    if not (widths.hidden and widths.heads and widths.kv_heads and widths.head_dim and widths.inner and widths.layers):
        return None
    queries, keys = widths.heads * widths.head_dim, widths.kv_heads * widths.head_dim
    shapes = {
        "q_proj": (widths.hidden, queries),
        "k_proj": (widths.hidden, keys),
        "v_proj": (widths.hidden, keys),
        "o_proj": (queries, widths.hidden),
        "gate_proj": (widths.hidden, widths.inner),
        "up_proj": (widths.hidden, widths.inner),
        "down_proj": (widths.inner, widths.hidden),
    }
    if set(targets) - set(shapes):
        return None
    return sum(rank * sum(shapes[name]) for name in targets) * widths.layers


def full_states(parameters: int, optimizer: str, zero: int, cards: int) -> States:
    """Full tuning in mixed precision: 16 bytes per parameter with AdamW, however they are shared (ZeRO, arXiv 1910.02054).

    Without ZeRO: float32 weights and gradients, and the states (Trainer with bf16). With it: 16-bit weights and
    gradients, and a float32 copy beside the states; stage 1 splits these, 2 the gradients too, 3 the weights too.
    """
    state = OPTIMIZERS[optimizer]
    if not zero:
        return States(4 * parameters, 4 * parameters, _up(parameters * state))
    whole = _up(parameters * (state + 4))
    return States(
        _split(2 * parameters, cards if zero >= 3 else 1),
        _split(2 * parameters, cards if zero >= 2 else 1),
        _split(whole, cards),
    )


def adapter_states(trained: int, optimizer: str, zero: int, cards: int) -> States:
    """An adapter's own: float32 weights (PEFT casts them), gradients and states; ZeRO splits the states from stage 1 on."""
    parts = cards if zero else 1
    return States(
        _split(4 * trained, cards if zero >= 3 else 1),
        _split(4 * trained, cards if zero >= 2 else 1),
        _split(_up(trained * OPTIMIZERS[optimizer]), parts),
    )


def frozen_nf4(parameters: int, embeddings: int, double: bool = True) -> int:
    """A frozen base in NF4: linear layers quantized, embeddings and output layer in float32 as PEFT prepares them."""
    linear = max(0, parameters - embeddings)
    return _up(linear * (NF4_BITS if double else NF4_BITS_SINGLE) / 8) + 4 * min(parameters, embeddings)


def activations(widths: Widths, batch: int, length: int, checkpointing: bool) -> int:
    """What the backward pass keeps of a forward pass, in 16 bits.

    Per layer and token: 11 × hidden for attention, 8 × hidden for norms in float32, and the feed-forward part's gate, up,
    activation and product (8 × inner) with its input. With checkpointing only each layer's input is kept, and one
    layer's whole is made anew at a time.
    """
    tokens = batch * length
    inner = widths.inner
    if widths.experts_per_token and widths.expert_inner:
        inner = widths.experts_per_token * widths.expert_inner
    layer = tokens * (11 * widths.hidden + 8 * widths.hidden + 2 * widths.hidden + 8 * inner)
    if checkpointing:
        return widths.layers * tokens * widths.hidden * 2 + layer
    return widths.layers * layer


def loss(widths: Widths, batch: int, length: int) -> int:
    """Logits and their gradient: 16-bit logits, a float32 copy, and one float32 more for log-probabilities or gradient."""
    return batch * length * widths.vocab * LOSS_BYTES


def _up(value: Fraction | int) -> int:
    value = Fraction(value)
    return -(-value.numerator // value.denominator)


def _split(total: int, parts: int) -> int:
    return -(-total // max(1, parts))


def targets_of(names: str) -> tuple[str, ...]:
    """Target modules as a text tells them: all-linear, attention, or names with commas."""
    plain = names.strip().lower()
    known: dict[str, Any] = {"all-linear": (*ATTENTION, *MLP), "": (*ATTENTION, *MLP), "attention": ATTENTION}
    if plain in known:
        found: tuple[str, ...] = known[plain]
        return found
    return tuple(item.strip() for item in plain.split(",") if item.strip())
