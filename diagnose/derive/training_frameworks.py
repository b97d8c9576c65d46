"""What follows from settings that only one framework has: LLaMA-Factory's templates, torchtune's components, Axolotl's early stopping."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any

from diagnose import places
from diagnose.derive.known import ORIGIN, by_name
from diagnose.model import Fact

FILE = "llamafactory_templates.json"
COMPONENTS = "torchtune_components.json"
_NAMED = "training.torchtune.component."
NO_THINKING = "_nothink"
"""The end of a template's name that is for models, or trainings, without thoughts."""
FREE = ("empty", "default", "alpaca", "vicuna", "fewshot")
"""Templates that belong to no model."""


def complete(facts: Sequence[Fact]) -> tuple[Fact, ...]:
    """The facts that follow; none where something needed is not known."""
    known = {name: fact.value for name, fact in by_name(facts).items()}
    return (*_templates(known), *_components(facts, known), *_early_stopping(known))


def _templates(known: dict[str, Any]) -> Iterator[Fact]:
    """Whether LLaMA-Factory has the template, the nearest one that it has, and the one that its list has for the model."""
    name = known.get("training.llamafactory.template")
    if not isinstance(name, str) or not name:
        return
    names, models = _table()
    origin = f"dataset/training/{FILE}"
    if not names:
        return
    if name not in names:
        yield Fact("training.llamafactory.template_unknown", name, origin)
        if near := get_close_matches(name.lower(), names, 1, 0.6):
            yield Fact("training.llamafactory.template_nearest", near[0], origin)
        return
    paired = models.get(str(known.get("training.model", "")).lower())
    if paired is None or name == paired or name in FREE:
        return
    if name.removesuffix(NO_THINKING) != paired.removesuffix(NO_THINKING):
        yield Fact("training.llamafactory.template_of_model", paired, origin)
    elif paired.endswith(NO_THINKING):
        yield Fact("training.llamafactory.template_without_thinking", paired, origin)


@cache
def _table() -> tuple[tuple[str, ...], dict[str, str]]:
    read = places.table("training", FILE)
    return tuple(read.get("templates", ())), dict(read.get("models", {}))


def _components(facts: Sequence[Fact], known: dict[str, Any]) -> Iterator[Fact]:
    """Names of torchtune's that its last release has not, each with where its last part is, or the most similar name."""
    if known.get("training.framework") != "torchtune":
        return
    named = [fact for fact in facts if fact.name.startswith(_NAMED) and fact.name.endswith(".name")]
    table = _modules() if named else {}
    for fact in named:
        module, _, last = str(fact.value).rpartition(".")
        if not table or not str(fact.value).startswith("torchtune.") or last in table.get(module, ()):
            continue
        key = fact.name.removesuffix(".name")
        yield Fact(f"{key}.unknown", True, f"dataset/training/{COMPONENTS}")
        near = _nearest(str(fact.value), last, table)
        if near:
            yield Fact(f"{key}.nearest", near, f"dataset/training/{COMPONENTS}")


def _nearest(whole: str, last: str, table: dict[str, frozenset[str]]) -> str:
    """The name under which the last part is found elsewhere, the shortest one, or else a similar one."""
    elsewhere = [f"{module}.{last}" for module, names in table.items() if last in names and "._" not in module]
    if elsewhere:
        return min(elsewhere, key=lambda name: (name.count("."), len(name), name))
    every = [f"{module}.{name}" for module, names in table.items() if "._" not in module for name in names]
    return next(iter(get_close_matches(whole, every, 1, 0.85)), "")


@cache
def _modules() -> dict[str, frozenset[str]]:
    read = places.table("training", COMPONENTS).get("components", {})
    return {module: frozenset(names) for module, names in read.items()}


def _early_stopping(known: dict[str, Any]) -> Iterator[Fact]:
    """Whether Axolotl's checkpoints do not fall on its evaluations, where it is to stop early."""
    evaluated, saved = known.get("training.eval_steps"), known.get("training.save_steps")
    patience = known.get("training.early_stopping")
    if known.get("training.framework") != "axolotl" or not patience:
        return
    if not (isinstance(evaluated, (int, float)) and isinstance(saved, (int, float)) and evaluated > 0 and saved > 0):
        return
    if saved % evaluated:
        yield Fact("training.axolotl.saves_between_evaluations", True, ORIGIN)
