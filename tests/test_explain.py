"""A rule's page."""

from __future__ import annotations

from pathlib import Path

from diagnose.explain import page
from tests.support import OUT_OF_MEMORY, rule, ruleset_of


def page_of(tmp_path: Path, **changes: object) -> str:
    rules = ruleset_of(tmp_path, rule("a-cause", **changes), rule("an-effect"))
    found = rules.find("a-cause")
    assert found is not None
    return page(found, rules)


def test_the_page_says_all_that_the_rule_knows(tmp_path: Path) -> None:
    """What, why, fix, how to verify it, how it is recognised, what it leads to, and where to read on."""
    fix = [
        {
            "do": "Do this",
            "run": "some command",
            "verify": "another one",
            "expect": "it works",
            "when": ["capture.what == x"],
        }
    ]
    text = page_of(
        tmp_path,
        match={
            "log": ["words of (?P<what>the cause)"],
            "where": ["event.caller == vllm"],
            "unless": ["some excuse"],
            "facts": ["torch.version < 2"],
        },
        fix=fix,
        leads_to=["an-effect"],
        restart="cannot-help",
        references=["https://example.org/page"],
    )
    told = [
        "Do this (when capture.what == x)",
        "some command",
        "another one",
        "expect: it works",
        "words of (?P<what>the cause)",
    ]
    told += [
        "event.caller == vllm",
        "some excuse",
        "torch.version < 2",
        "an-effect",
        "A restart cannot help.",
        "https://example.org/page",
    ]
    assert [part for part in told if part not in text] == []


def test_the_page_tells_how_often_the_study_saw_it(tmp_path: Path) -> None:
    """The symptom's count, this cause's share, and the commonest others."""
    labels = {"symptom": OUT_OF_MEMORY, "cause": "hardware-and-resource-limitations/gpu-memory-insufficiency"}
    text = " ".join(page_of(tmp_path, labels=labels).split())
    assert "studied failures with this symptom" in text
    assert "others had" in text


def test_values_are_shown_by_name(tmp_path: Path) -> None:
    """A page has no case: a value is its fallback or its name."""
    text = page_of(tmp_path, match={"log": ["words of (?P<what>x+)"]}, title="Lacks {{what}} and {{what|more}}")
    assert text.splitlines()[0] == "Lacks <what> and more"


def test_a_retired_rule_says_what_took_over(tmp_path: Path) -> None:
    """The page of a retired rule begins with why it is retired."""
    assert "Retired: other-rule took over" in page_of(tmp_path, retired="other-rule took over")


def test_prose_fits_80_columns(tmp_path: Path) -> None:
    """Long sentences are wrapped."""
    long = "many words in a row " * 30
    text = page_of(tmp_path, why=long, fix=[{"do": long, "expect": long}])
    assert max(map(len, text.splitlines())) <= 80
