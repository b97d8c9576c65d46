"""Builds every environment from real wheels and asks `llmdoctor check`: `pytest -m slow tests/environments`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.environments.build import installer, try_out
from tests.environments.recipes import RECIPES, Recipe


@pytest.fixture(scope="module")
def uv(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return installer(Path(tmp_path_factory.mktemp("uv")))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_real_environment_is_judged_rightly(recipe: Recipe, uv: list[str]) -> None:
    """The planted fault is the first diagnosis; what is healthy has no error and no warning that is not true."""
    result = try_out(uv, recipe)
    assert result.trouble == ""
    assert not result.provoked.startswith(("FAILS", "NOT AS PLANTED"))
    assert result.told, result.found
