"""Objects that configure a training → the Python text that would make them, which llmdoctor reads like a script."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

LONGEST = 20_000


def call(settings: Any) -> str:
    """`SFTConfig(learning_rate=0.5, …)`: the fields of a dataclass that differ from their defaults, as literals.

    A field whose value has no literal is left out, and so are secrets. Raises nothing.
    """
    lines = [f"    {name}={text}," for name, text in _fields(settings)]
    return "\n".join([f"{type(settings).__name__}(", *lines, ")", ""])


def _fields(settings: Any) -> Iterable[tuple[str, str]]:
    for field in dataclasses.fields(settings) if dataclasses.is_dataclass(settings) else ():
        value = getattr(settings, field.name, None)
        if not field.init or field.name.endswith(("token", "key")) or field.name.startswith("_"):
            continue
        if _plain(value) == _plain(_default(field)):
            continue
        text = literal(value)
        if text is not None and len(text) <= LONGEST:
            yield field.name, text


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        try:
            return field.default_factory()
        except Exception:  # whatever it is: it is the other program's
            return None
    return None


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def literal(value: Any) -> str | None:
    """A value as Python writes it: texts, numbers, flags, None, lists, tuples, sets and dicts of these; else None."""
    value = _plain(value)
    if type(value).__module__ == "torch" and type(value).__name__ == "dtype":
        return repr(str(value).removeprefix("torch."))
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (str, int, float, bool)):
        return repr(value)
    if isinstance(value, Mapping):
        items = [(literal(key), literal(item)) for key, item in value.items()]
        return None if any(None in pair for pair in items) else "{" + ", ".join(f"{k}: {v}" for k, v in items) + "}"
    if isinstance(value, (list, tuple, set, frozenset)):
        parts = [literal(item) for item in (sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value)]
        return None if None in parts else "[" + ", ".join(filter(None, parts)) + "]"
    return None
