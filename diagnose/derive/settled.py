"""What a training's settings say, and what the framework takes where they say nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from diagnose.derive.known import Known, by_name
from diagnose.model import Fact
from diagnose.sources.training.documents import is_placeholder
from diagnose.sources.training.given import number

WITH_DEFAULTS = ("trainer", "trl", "llamafactory")
"""Frameworks whose arguments are those of transformers' Trainer, with its defaults."""
KEYS: Mapping[str, tuple[str, ...]] = {
    "training.batch": ("per_device_train_batch_size",),
    "training.eval_batch": ("per_device_eval_batch_size",),
    "training.accumulation": ("gradient_accumulation_steps",),
    "training.epochs": ("num_train_epochs",),
    "training.max_steps": ("max_steps",),
    "training.eval": ("eval_strategy", "evaluation_strategy"),
    "training.save": ("save_strategy",),
    "training.save_steps": ("save_steps",),
    "training.workers": ("dataloader_num_workers",),
    "training.on_cpu": ("use_cpu", "no_cuda"),
    "training.bf16": ("bf16", "fp16"),
    "training.optimizer": ("optim", "optim_args", "adafactor"),
    "training.generations": ("num_generations",),
    "training.best_by": ("metric_for_best_model", "load_best_model_at_end", "lr_scheduler_type"),
    "training.ddp_timeout": ("ddp_timeout",),
    "training.preprocessing_workers": ("dataset_num_proc",),
    "tuning.sharded_by": ("deepspeed", "fsdp", "fsdp_config"),
    "tuning.logging": ("logging_strategy", "logging_steps"),
}
"""Facts whose default counts → the arguments that would set them."""
_MOST = 1 << 40


class Settled(Known):
    """What is known by name, the settings as they were written, and the defaults of a configuration that is known as a whole."""

    def __init__(self, facts: Sequence[Fact]) -> None:
        super().__init__(by_name(facts))
        self.framework = self.text("training.framework")
        self._computed = frozenset(self.text("training.arguments_computed").split(","))
        seen = not self.text("training.script") or bool(self.text("training.arguments_computed"))
        self.settled = self.framework in WITH_DEFAULTS and seen
        """Whether a key that is absent has its default: a script that is not seen whole could set it otherwise."""

    def number(self, name: str) -> float | None:
        """A finite number; None for anything else."""
        value = self.value(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        return float(value) if abs(value) < float("inf") else None

    def number_or(self, name: str, default: float | None) -> float | None:
        """A number, or its default where it is not set; None where it is something else."""
        return (default if self.absent(name) else None) if self.value(name) is None else self.number(name)

    def count(self, name: str) -> int | None:
        """A whole number from 1 on; None for anything else."""
        value = self.number(name)
        return int(value) if value is not None and 1 <= value < _MOST**2 and value == int(value) else None

    def count_or(self, name: str, default: int) -> int | None:
        return (default if self.absent(name) else None) if self.value(name) is None else self.count(name)

    def text_or(self, name: str, default: str) -> str:
        """A text, or its default where it is not set; empty where neither is known."""
        return self.text(name) or (default if self.absent(name) else "")

    def absent(self, name: str) -> bool:
        """Whether a setting surely is not made."""
        return self.settled and self.value(name) is None and not any(self.is_open(key) for key in KEYS.get(name, ()))

    def is_open(self, key: str) -> bool:
        """Whether an argument is given a value that is not known: one that a script computes, or a placeholder in a file."""
        return key in self._computed or is_placeholder(key, self.given(key))

    def set_by_user(self, name: str) -> bool:
        """Whether a file says it, rather than a default."""
        fact = self._told.get(name)
        return fact is not None and not fact.origin.endswith("default")

    def given_number(self, key: str) -> float | None:
        return number(self.given(key)) if self.given(key) else None

    def given_count(self, key: str) -> int | None:
        value = self.given_number(key)
        return int(value) if value is not None and 1 <= value < _MOST and value == int(value) else None

    def variable(self, name: str) -> int | None:
        """A number from 1 on in a variable of the command or of the shell."""
        text = self.text(f"launch.env.{name}") or self.text(f"env.{name}")
        return int(text) if re.fullmatch(r"[1-9]\d{0,5}", text) else None

    def given_flag(self, key: str) -> bool | None:
        return {"true": True, "false": False}.get(self.given(key).lower())
