"""Lengths of time as container systems write them (`1m30s`, `500ms`, `90`) → seconds."""

from __future__ import annotations

import re

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)(us|ms|s|m|h|d)")


def seconds(text: str) -> float | None:
    """The seconds of a length of time; a bare number is seconds. None for what is none."""
    text = text.strip()
    if re.fullmatch(r"\d{1,12}(?:\.\d{1,6})?", text):
        return float(text)
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
