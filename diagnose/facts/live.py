"""Facts that a training tells while it runs, through its callback."""

from __future__ import annotations

from diagnose.facts.kinds import FactKind, kinds

# live: integrations/transformers.py
LIVE: tuple[FactKind, ...] = (
    *kinds("live", "training",
        ("live.trainer", "text", "class of the trainer's arguments: TrainingArguments, SFTConfig, DPOConfig …"),
        ("live.generates", "flag", "whether it learns from completions that it generates itself, so that its loss means little"),
        ("live.parameters", "number", "parameters of the model"),
        ("live.trainable", "number", "parameters that are trained"),
        ("live.step", "number", "step of the last log"),
        ("live.loss.logs", "number", "how many losses were logged"),
        ("live.loss.last", "number", "the last loss"),
        ("live.loss.lowest", "number", "the lowest loss"),
        ("live.loss.bad_step", "number", "first step whose loss was no finite number"),
        ("live.loss.zeros", "number", "how many of the last logs, without a gap, had a loss of exactly 0"),
        ("live.loss.change", "number", "by what share the mean of the last quarter of the losses differs from that of the first"),
        ("live.loss.rise", "number", "how many times the lowest loss the last ones are"),
        ("live.gradient.bad_step", "number", "first step whose gradient norm was no finite number"),
        ("live.gradient.bad_logs", "number", "how many of the last logs, without a gap, had such a norm"),
        ("live.gradient.zeros", "number", "how many of the last logs, without a gap, had a gradient norm of exactly 0"),
        ("live.rate.zeros", "number", "how many of the last logs, without a gap, had a learning rate of 0"),
        ("live.rate.highest", "number", "highest learning rate that was logged"),
        ("live.rate.over", "number", "how many times the learning rate that was set that is"),
    ),
)  # fmt: skip
