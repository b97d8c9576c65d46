"""What was collected of real environments is judged again: a planted fault first, and nothing untrue of healthy ones."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from diagnose import bundle, ruleset
from diagnose.causes import diagnose
from diagnose.collect import completed
from diagnose.match import match
from diagnose.model import Diagnosis
from tests.environments.build import of_environment
from tests.environments.recipes import RECIPES, Recipe

CASES = Path(__file__).parent / "environments" / "cases"
RECORDED = [recipe for recipe in RECIPES if (CASES / f"{recipe.name}.json.gz").exists()]
HEALTHY = [recipe for recipe in RECORDED if not recipe.first]
BROKEN = [recipe for recipe in RECORDED if recipe.first]


def name_of(recipe: Recipe) -> str:
    return recipe.name


def diagnosis_of(recipe: Recipe) -> Diagnosis:
    """The recorded facts of an environment, judged with the rules and tables of today."""
    case = bundle.read(str(CASES / f"{recipe.name}.json.gz"))
    case = completed(case)
    rules = ruleset.load([])
    return diagnose(rules, case, match(rules, case))


@pytest.mark.parametrize("recipe", BROKEN, ids=name_of)
def test_the_planted_fault_is_the_first_diagnosis(recipe: Recipe) -> None:
    """Whatever else follows from it, the fault that was planted is told first."""
    assert next((cause.rule for cause in diagnosis_of(recipe).diagnoses), "nothing") in recipe.first


@pytest.mark.parametrize("recipe", HEALTHY, ids=name_of)
def test_a_healthy_environment_has_no_error_and_no_warning(recipe: Recipe) -> None:
    """What works is not complained about, but for what is true of it."""
    judged = [cause.rule for cause in diagnosis_of(recipe).diagnoses if cause.severity != "note"]
    assert [name for name in judged if name not in recipe.also] == []


def test_every_recipe_is_recorded() -> None:
    """No environment is left out of the quick suite."""
    assert [recipe.name for recipe in RECIPES] == [recipe.name for recipe in RECORDED]


@pytest.mark.parametrize("recipe", RECORDED, ids=name_of)
def test_a_recorded_case_does_not_tell_where_it_was_made(recipe: Recipe) -> None:
    """No folder of the machine on which it was built, and no fact that tells of that machine."""
    text = gzip.decompress((CASES / f"{recipe.name}.json.gz").read_bytes()).decode()
    assert not [word for word in ("/tmp/", "/root/", "/home/", "/opt/", ".pyenv") if word in text]
    assert [fact["name"] for fact in json.loads(text)["facts"] if not of_environment(fact["name"])] == []
