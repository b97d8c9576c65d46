"""What a training logs, step by step → facts: losses, gradient norms and learning rates that are odd."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from diagnose.model import Fact

ORIGIN = "the trainer"
KEPT = 400
"""How many losses are kept to compare; of more, every other one is dropped."""


class Series:
    """Losses, norms and rates as they are logged. Memory does not grow with the training."""

    def __init__(self, rate: float | None = None) -> None:
        self._rate = rate
        self._losses: list[float] = []
        self._every = 1
        self._recent: deque[float] = deque(maxlen=5)
        self._counts: dict[str, int] = {}
        self._first: dict[str, int] = {}
        self._highest = 0.0
        self.step = 0
        self.logs = 0

    def add(self, step: int, logged: Mapping[str, Any]) -> None:
        """Take one log: `loss`, `grad_norm` and `learning_rate` of it, where they are there."""
        self.step = step
        loss, norm, rate = (number(logged.get(name)) for name in ("loss", "grad_norm", "learning_rate"))
        if loss is not None:
            self._loss(step, loss)
        if norm is not None:
            self._note("gradient.bad", step, not math.isfinite(norm))
            self._count("gradient.zeros", norm == 0)
        if rate is not None:
            self._count("rate.zeros", rate == 0)
            self._highest = max(self._highest, rate if math.isfinite(rate) else 0.0)

    def _loss(self, step: int, loss: float) -> None:
        self._note("loss.bad", step, not math.isfinite(loss))
        self._count("loss.zeros", loss == 0)
        if math.isfinite(loss):
            self.logs += 1
            self._recent.append(loss)
            if self.logs % self._every == 0:
                self._losses.append(loss)
            if len(self._losses) > KEPT:
                self._losses = self._losses[::2]
                self._every *= 2

    def _note(self, name: str, step: int, bad: bool) -> None:
        self._count(f"{name}_logs", bad)
        if bad:
            self._first.setdefault(f"{name}_step", step)

    def _count(self, name: str, holds: bool) -> None:
        """How often in a row something held, up to now."""
        self._counts[name] = self._counts.get(name, 0) + 1 if holds else 0

    def facts(self) -> Iterator[Fact]:
        """What was logged so far."""
        told: dict[str, float | int] = {"step": self.step, "loss.logs": self.logs}
        told |= {name: count for name, count in self._counts.items() if name != "loss.bad_logs"}
        told |= self._first
        if self._recent:
            told |= {"loss.last": self._recent[-1], "loss.lowest": min(self._losses or self._recent)}
            told |= _compared(self._losses, self._recent)
        if self._highest:
            told["rate.highest"] = self._highest
            if self._rate:
                told["rate.over"] = self._highest / self._rate
        for name, value in told.items():
            yield Fact(f"live.{name}", value if isinstance(value, int) else _rounded(value), ORIGIN)

    def odd(self) -> frozenset[str]:
        """What may be worth a look, by name: only then the rules are asked."""
        found = {name for name, count in self._counts.items() if count in (3, 10)} | set(self._first)
        if self.logs in (40, 160, 640):
            found.add(f"after {self.logs} logs")
        if self._rate and self._highest > 1.5 * self._rate:
            found.add("rate.over")
        return frozenset(found)


def _compared(losses: Sequence[float], recent: Sequence[float]) -> dict[str, float]:
    """How the last losses stand beside the first ones, and beside the lowest."""
    quarter = len(losses) // 4
    if quarter < 5:
        return {}
    first, last = sum(losses[:quarter]) / quarter, sum(losses[-quarter:]) / quarter
    found = {"loss.change": abs(last - first) / abs(first)} if first else {}
    lowest = min(losses)
    if lowest > 0 and len(recent) == 5:
        found["loss.rise"] = min(recent) / lowest
    return found


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def generates(settings: Any) -> bool:
    """Whether a trainer learns from completions that it samples itself, so that its loss need not fall: GRPO, RLOO, PPO, online
    DPO and what is made from them.

    TRL's settings have a temperature for that, and those of other trainers have none (0.11 to 1.16).
    """
    return hasattr(settings, "temperature")


def number(value: Any) -> float | None:
    """A number that was logged, also as a text; None for anything else."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
