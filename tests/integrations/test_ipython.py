"""`%load_ext diagnose`: with a shell that answers like IPython's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import diagnose
from diagnose.integrations import ipython, process


class Shell:
    """IPython's shell, as far as an extension uses it."""

    def __init__(self) -> None:
        self.handlers: list[Any] = []
        self.magics: dict[str, Any] = {}
        self.events = self

    def register(self, event: str, handler: Any) -> None:
        assert event == "post_run_cell"
        self.handlers.append(handler)

    def unregister(self, event: str, handler: Any) -> None:
        self.handlers.remove(handler)

    def register_magic_function(self, function: Any, kind: str, name: str) -> None:
        self.magics[name] = function

    def run(self, error: BaseException | None) -> None:
        """What IPython does after a cell."""
        for handler in self.handlers:
            handler(SimpleNamespace(error_in_exec=error))


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A shell with the extension loaded; what would be asked is shown instead."""
    monkeypatch.setattr(process, "of_exception", lambda raised, *rest: f"asked of {raised[1]}")
    monkeypatch.delattr("sys.last_value", raising=False)
    made = Shell()
    diagnose.load_ipython_extension(made)
    yield made
    diagnose.unload_ipython_extension(made)
    assert made.handlers == []


def test_the_exception_of_a_cell_is_diagnosed(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    """And a cell that went well, or was interrupted, is left alone."""
    shell.run(ValueError("bad"))
    shell.run(None)
    shell.run(KeyboardInterrupt())

    assert capsys.readouterr().out == "asked of bad\n"


def test_the_magic_asks_once_more(
    shell: Shell, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the last exception, if there was one."""
    shell.magics["diagnose"]("")
    monkeypatch.setattr("sys.last_value", ValueError("earlier"), raising=False)
    shell.magics["diagnose"]("")

    assert capsys.readouterr().out == "llmdoctor: no exception was raised yet\nasked of earlier\n"


def test_loading_after_an_exception_diagnoses_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line that one adds when something went wrong."""
    monkeypatch.setattr(process, "of_exception", lambda raised, *rest: f"asked of {raised[1]}")
    monkeypatch.setattr("sys.last_value", ValueError("before"), raising=False)
    made = Shell()
    ipython.load(made)
    ipython.unload(made)

    assert capsys.readouterr().out == "asked of before\n"
