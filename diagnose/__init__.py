"""llmdoctor: why an open-source LLM will not load, run, train or answer properly, and what to do about it."""

from __future__ import annotations

from typing import Any

__all__ = ["__version__", "install", "load_ipython_extension", "uninstall", "unload_ipython_extension"]
__version__ = "0.1.0"


def install() -> None:
    """From now on an exception that ends this program is diagnosed, below its traceback."""
    from diagnose.integrations import excepthook

    excepthook.install()


def uninstall() -> None:
    """Put back what showed exceptions before `install`."""
    from diagnose.integrations import excepthook

    excepthook.uninstall()


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext diagnose`: the exception of a cell is diagnosed below its traceback, and the last one at once."""
    from diagnose.integrations import ipython

    ipython.load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """`%unload_ext diagnose`."""
    from diagnose.integrations import ipython

    ipython.unload(shell)
