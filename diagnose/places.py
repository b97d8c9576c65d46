"""Where the bundled data lies: beside the package in a checkout, inside it in a wheel."""

from __future__ import annotations

import os

_PACKAGE = os.path.dirname(os.path.abspath(__file__))


def bundled(name: str) -> str:
    """Path of a bundled folder, `rules` or `dataset`."""
    inside = os.path.join(_PACKAGE, "bundled", name)
    return inside if os.path.isdir(inside) else os.path.join(os.path.dirname(_PACKAGE), name)
