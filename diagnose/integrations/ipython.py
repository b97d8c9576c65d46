"""`%load_ext diagnose`: in a notebook or IPython, an exception of a cell is diagnosed below its traceback."""

from __future__ import annotations

import sys
from typing import Any

from diagnose.integrations import process

_loaded: list[Any] = []


def load(shell: Any) -> None:
    """Diagnose the last exception, if there was one, and those of cells to come. `%diagnose` does it once more."""
    if _loaded:
        return
    _loaded.append(shell)
    shell.events.register("post_run_cell", _after_cell)
    shell.register_magic_function(_magic, "line", "diagnose")
    error = getattr(sys, "last_value", None)
    if error is not None:
        _show(error)


def unload(shell: Any) -> None:
    """Leave exceptions alone again."""
    if _loaded:
        shell.events.unregister("post_run_cell", _after_cell)
        _loaded.clear()


def _magic(line: str = "") -> None:
    """Diagnose the last exception."""
    error = getattr(sys, "last_value", None)
    if error is None:
        process.show("llmdoctor: no exception was raised yet", sys.stdout)
    else:
        _show(error)


def _after_cell(result: Any) -> None:
    error = getattr(result, "error_in_exec", None)
    if isinstance(error, Exception):
        _show(error)


def _show(error: BaseException) -> None:
    report = process.of_exception((type(error), error, error.__traceback__))
    if report:
        process.show(report, sys.stdout)
