"""The configurations in refused.yaml: for each rule one that its framework refuses, or misreads, and one that is fine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from msgspec import Struct

FILE = Path(__file__).with_suffix(".yaml")


class Pair(Struct, frozen=True):
    """A faulty configuration and a fine one, for the rule that has to tell the fault at `key`.

    `says` is what the package's own validators say of it, empty where they say nothing; `release` the one where this holds,
    where it does not hold for all; `needs` a package without which the fine one is refused too.
    """

    rule: str
    framework: str
    key: str
    refused: dict[str, Any]
    fine: dict[str, Any]
    says: str = ""
    release: str = ""
    needs: str = ""


def text(config: dict[str, Any]) -> str:
    """A configuration as a file."""
    written: str = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    return written


def pairs(framework: str = "") -> list[Pair]:
    """The pairs of one framework, or of all."""
    read = yaml.safe_load(FILE.read_text())
    return [
        _pair(name, rule, part["base"], case)
        for name, part in read.items()
        if framework in ("", name)
        for rule, case in part["cases"].items()
    ]


def _pair(framework: str, rule: str, base: dict[str, Any], case: dict[str, Any]) -> Pair:
    def whole(change: dict[str, Any]) -> dict[str, Any]:
        merged = {**base, **change}
        return merged if case.get("emptied") else {key: value for key, value in merged.items() if value is not None}

    return Pair(
        rule,
        framework,
        case["key"] or "",
        whole(case["refused"]),
        whole(case["fine"]),
        case.get("says", ""),
        case.get("release", ""),
        case.get("needs", ""),
    )
