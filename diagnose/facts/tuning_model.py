"""Facts of a fine-tuning against its model, tokenizer and GPUs."""

from __future__ import annotations

from diagnose.facts.kinds import FactKind, kinds

TUNING_MODEL: tuple[FactKind, ...] = ()
