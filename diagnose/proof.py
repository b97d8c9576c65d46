"""A rule's examples, run: each positive must match (with its captures), no negative may."""

from __future__ import annotations

from diagnose.collect import case_of_text, completed
from diagnose.errors import Mistake
from diagnose.match import match
from diagnose.model import Case, Example, Fact, Finding
from diagnose.rules import RuleFile
from diagnose.ruleset import RuleSet


def prove_rule(rules: RuleSet, item: RuleFile) -> list[Mistake]:
    """The examples of one rule."""
    mistakes: list[Mistake] = []
    line = item.lines.get("examples", 1)
    for number, example in enumerate(item.positive, start=1):
        found = own_findings(rules, item, example)
        if not found:
            mistakes.append(Mistake(item.rule.file, line, f"positive example {number} does not match"))
            continue
        for name, value in example.captures.items():
            if all(finding.captures.get(name) != value for finding in found):
                mistakes.append(
                    Mistake(
                        item.rule.file,
                        line,
                        f"positive example {number}: captured {name} = {found[0].captures.get(name)!r}, not {value!r}",
                    )
                )
    for number, example in enumerate(item.negative, start=1):
        if own_findings(rules, item, example):
            mistakes.append(Mistake(item.rule.file, line, f"negative example {number} matches"))
    return mistakes


def own_findings(rules: RuleSet, item: RuleFile, example: Example) -> list[Finding]:
    """What the rule itself finds in an example."""
    return [finding for finding in match(rules, example_case(rules, example)) if finding.rule.id == item.rule.id]


def example_case(rules: RuleSet, example: Example) -> Case:
    """The case that an example describes."""
    case = case_of_text(rules, example.log, "example") if example.log else Case(origins=("example",))
    given = tuple(Fact(name, value, "example") for name, value in example.facts.items())
    named = {fact.name for fact in given}
    told = given + tuple(fact for fact in case.facts if fact.name not in named)
    return completed(Case(told, case.events, (), case.origins, case.lines))
