"""Faults that happen: each is planted in a copy of a healthy tiny model, and has to be the first thing that is told."""

from __future__ import annotations

from tests.models.faults import adapters, configs, ggufs, launches, tokenizers, weights
from tests.models.faults.fault import Fault

FAULTS: tuple[Fault, ...] = (
    *configs.FAULTS,
    *weights.FAULTS,
    *ggufs.FAULTS,
    *tokenizers.FAULTS,
    *adapters.FAULTS,
    *launches.FAULTS,
)

__all__ = ["FAULTS", "Fault"]
