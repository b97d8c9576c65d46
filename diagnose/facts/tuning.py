"""Facts of a fine-tuning that follow from its settings, data and launch by arithmetic."""

from __future__ import annotations

from diagnose.facts.kinds import FactKind, kinds

# tuning: derive/tuning.py, arithmetic over settings
TUNING: tuple[FactKind, ...] = (
    *kinds("tuning", "training",
        ("tuning.world", "number", "processes of the whole training"),
        ("tuning.global_batch", "number", "sequences per optimizer step, over all processes"),
        ("tuning.steps_per_epoch", "number", "optimizer steps of one pass over the data"),
        ("tuning.total_steps", "number", "optimizer steps of the whole training"),
    ),
)  # fmt: skip
