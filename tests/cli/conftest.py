"""An installation with rules of its own, for the commands that are run in this process."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from diagnose import places
from tests.support import installation, rule


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """Runs commands as if llmdoctor were installed with two rules in the family `family`."""
    home = installation(tmp_path / "home", rule("first-trouble"), rule("second-trouble", retired="it went away"))
    monkeypatch.setattr(places, "_PACKAGE", str(home / "diagnose"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return CliRunner()
