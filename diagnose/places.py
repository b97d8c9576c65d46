"""Where the bundled data lies: beside the package in a checkout, inside it in a wheel."""

from __future__ import annotations

import os
from collections.abc import Sequence

_PACKAGE = os.path.dirname(os.path.abspath(__file__))


def bundled(name: str) -> str:
    """Path of a bundled folder, `rules` or `dataset`."""
    inside = os.path.join(_PACKAGE, "bundled", name)
    return inside if os.path.isdir(inside) else os.path.join(os.path.dirname(_PACKAGE), name)


def rule_folders(extra: Sequence[str] = ()) -> list[str]:
    """The folders that rules come from: the bundled ones, then the user's."""
    return [bundled("rules"), *extra]


def taxonomy_file() -> str:
    """Path of the bundled taxonomy."""
    return os.path.join(bundled("dataset"), "taxonomy.yaml")
