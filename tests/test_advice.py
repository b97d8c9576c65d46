"""Which further evidence would settle an open question."""

from __future__ import annotations

from pathlib import Path

import pytest

from diagnose.facts import CATALOGUE
from tests.support import diagnosis_of, rule, ruleset_of


@pytest.mark.parametrize(
    ("fact", "run"),
    [
        ("gpu.0.memory", "nvidia-smi --query-gpu"),
        ("torch.version", "collect_env"),
        ("flash-attn.version", "pip show flash-attn"),
        ("glibc.version", "ldd --version"),
    ],
)
def test_an_unknown_fact_comes_with_the_command_that_tells_it(tmp_path: Path, fact: str, run: str) -> None:
    """For each fact that a rule asked for and nobody told, there is a command."""
    made = rule("a-cause", match={"log": ["words of the cause"], "facts": [f"{fact} < 1"]})
    advice = diagnosis_of(ruleset_of(tmp_path, made), "words of the cause\n").advice
    assert any(run in item.run for item in advice)


def test_a_settled_case_needs_no_more(tmp_path: Path) -> None:
    """A confirmed or likely cause without open questions asks for nothing."""
    assert (
        diagnosis_of(ruleset_of(tmp_path, rule("a-cause", "words of the cause")), "words of the cause\n").advice == ()
    )


def test_what_is_in_the_text_is_not_asked_for(tmp_path: Path) -> None:
    """Packages are asked for only where the text does not list them."""
    rules = ruleset_of(tmp_path, rule("a-cause", "words of the cause"))
    assert any("pip list" in item.run for item in diagnosis_of(rules, "nothing\n").advice)
    assert not any("pip list" in item.run for item in diagnosis_of(rules, "torch==2.4.0\nnothing\n").advice)


def test_every_fact_can_be_asked_for(tmp_path: Path) -> None:
    """Whatever fact of the catalogue is open: the advice has words for it."""
    for kind in CATALOGUE:
        made = rule(
            "a-cause", match={"log": ["words of the cause"], "facts": [f"{kind.name.replace('*', 'some')} == x"]}
        )
        first, *_ = diagnosis_of(ruleset_of(tmp_path, made), "words of the cause\n").advice
        assert first.what
