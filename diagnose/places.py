"""Where things lie: the bundled data (beside the package in a checkout, inside it in a wheel), and the user's own folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

_PACKAGE = os.path.dirname(os.path.abspath(__file__))


def bundled(name: str) -> str:
    """Path of a bundled folder, `rules` or `dataset`."""
    inside = os.path.join(_PACKAGE, "bundled", name)
    return inside if os.path.isdir(inside) else os.path.join(os.path.dirname(_PACKAGE), name)


def is_installed(path: str) -> bool:
    """Whether a path is a folder of bundled data that an installer put inside the package, where nobody edits it."""
    return path.startswith(os.path.join(_PACKAGE, "bundled", "")) and os.path.isdir(path)


def table(*path: str) -> dict[str, Any]:
    """A table of `dataset/` by its path there, `table("compat", "torch.json")`; empty if it is not there or is none."""
    import msgspec

    try:
        with open(os.path.join(bundled("dataset"), *path), "rb") as file:
            return msgspec.json.decode(file.read(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError):
        return {}


def rule_folders(extra: Sequence[str] = ()) -> list[str]:
    """The folders that rules come from: the bundled ones, then the user's."""
    return [bundled("rules"), *extra]


def taxonomy_file() -> str:
    """Path of the bundled taxonomy."""
    return os.path.join(bundled("dataset"), "taxonomy.yaml")


def working_folder() -> str:
    """The folder that is worked in; where it has been removed meanwhile, the name that it had."""
    try:
        return os.getcwd()
    except OSError:
        return os.environ.get("PWD") or os.sep
