"""The catalogue of facts: every name, its type and unit, the source that owns it, what it means, and its area.

A rule may only ask for a name that stands here. `*` in a name stands for one part (`gpu.0.name`); a distribution's
version is `<distribution>.version` with the name in lower case and hyphens (`flash-attn.version`). The area is the
line of the checklist that a finding about this fact belongs to. Each module here has the facts of one part of the world.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache

from diagnose.facts.data import DATA
from diagnose.facts.environment import CHECK, COMPAT, DEEP, PYTHON
from diagnose.facts.kinds import AREAS, FactKind
from diagnose.facts.launch import DEPLOY, FIT, LAUNCH
from diagnose.facts.live import LIVE
from diagnose.facts.machine import BANNER, GPU, HOST, KERNEL
from diagnose.facts.model import MEMORY, MODEL, TOKENIZER, WEIGHTS
from diagnose.facts.run import RUN
from diagnose.facts.sharding import SHARDING
from diagnose.facts.training import TRAINING
from diagnose.facts.training_keys import TRAINING_KEYS
from diagnose.facts.tuning import TUNING
from diagnose.facts.tuning_model import TUNING_MODEL

__all__ = ["AREAS", "CATALOGUE", "EVENT_NAMES", "HEADS", "FactKind", "area_of", "describe", "shown"]

CATALOGUE: tuple[FactKind, ...] = (
    BANNER + GPU + HOST + KERNEL + PYTHON + COMPAT + DEEP + CHECK
    + MODEL + WEIGHTS + TOKENIZER + LAUNCH + DEPLOY + FIT + MEMORY
    + TRAINING + TRAINING_KEYS + SHARDING + DATA + TUNING + TUNING_MODEL + RUN + LIVE
)  # fmt: skip

EVENT_NAMES: tuple[str, ...] = (
    "event.exception",
    "event.message",
    "event.library",
    "event.caller",
    "event.frame",
    "event.frames",
    "event.phase",
    "event.text",
    "event.near",
    "event.rank",
    "event.process",
)


HEADS: frozenset[str] = frozenset(kind.name.partition(".")[0] for kind in CATALOGUE) - {"*"}
"""The first parts of fact names: a value such as `torch.capability_min` in a condition is a name, not a text."""


@lru_cache(maxsize=4096)
def describe(name: str) -> FactKind | None:
    """The catalogue's line for a fact name, or None if nobody defines it. `*` in `name` stands for itself.

    An exact name goes before one with `*`, and one with more parts before one with fewer.
    """
    exact = _EXACT.get(name)
    if exact is not None:
        return exact
    return next((kind for pattern, kind in _starred() if pattern.fullmatch(name)), None)


_EXACT = {kind.name: kind for kind in CATALOGUE}


@cache
def _starred() -> list[tuple[re.Pattern[str], FactKind]]:
    """Names with `*` as patterns, `*.version` last; made on first use, since start-up does not need them."""
    kinds = [kind for kind in CATALOGUE if "*" in kind.name]
    kinds.sort(key=lambda kind: kind.name.startswith("*"))
    return [(re.compile(re.escape(kind.name).replace(r"\*", r"[\w*+-]+")), kind) for kind in kinds]


def shown(name: str, value: str | int | float | bool) -> str:
    """A fact's value for a reader: bytes in GiB or MiB, flags as yes and no, the rest as it is."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    kind = describe(name)
    if kind is None or kind.type != "bytes" or isinstance(value, str):
        return str(value)
    for unit, power in (("TiB", 4), ("GiB", 3), ("MiB", 2), ("KiB", 1)):
        if abs(value) >= 1024**power:
            return f"{value / 1024**power:.1f}".removesuffix(".0") + f" {unit}"
    return f"{value} bytes"


def area_of(name: str) -> str:
    """The line of the checklist that a fact belongs to; empty for a name that nobody defines."""
    kind = describe(name)
    return kind.area if kind else ""
