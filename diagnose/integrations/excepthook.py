"""`diagnose.install()`: an exception that ends the program is shown as ever, and diagnosed below."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

from diagnose.integrations import process

_Hook = Callable[[type[BaseException], BaseException, "TracebackType | None"], Any]
_before: list[_Hook] = []
_case: list[str] = []


def install(case: str = "") -> None:
    """Diagnose what ends the program; `case` is a case file whose facts join, else this machine is looked at."""
    _case[:] = [case]
    if not _before:
        _before.append(sys.excepthook)
        sys.excepthook = _hook


def uninstall() -> None:
    """Put back the hook that was there. One that somebody put over ours meanwhile stays."""
    if _before and sys.excepthook is _hook:
        sys.excepthook = _before[0]
    _before.clear()


def _hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    earlier = _before[0] if _before else sys.__excepthook__
    earlier(kind, error, trace)
    if not issubclass(kind, Exception) or sys.stderr is None:  # Ctrl-C and SystemExit are nobody's failure
        return
    report = process.of_exception((kind, error, trace), _case[0] if _case else "")
    if report:
        process.show(f"\n{report}", sys.stderr)
