"""`llmdoctor rules list | facts | lint | new`."""

from __future__ import annotations

import os

import typer

from diagnose import facts, places, ruleset
from diagnose.errors import DoctorError, Mistake
from diagnose.proof import prove_rule
from diagnose.rules import ID, bundled_taxonomy, rule_paths, survey_rules
from diagnose.template import render_general

TEMPLATE = """\
id: {id}
title: 'What the reader should hear, with a value: {{{{value}}}}'
severity: error
labels:
  symptom: crash/other-crashes
  cause: environment-compatibility-issues/dependency-library-compatibility
match:
  log:
    - 'the exact words of the message: (?P<value>\\S+)'
why: |
  What is going on, for someone who has not met it.
fix:
  - do: What to do
    run: 'the command to copy'
    verify: 'how to see that it worked'
examples:
  positive:
    - |
      SomeError: the exact words of the message: 42
  negative:
    - |
      INFO a healthy line that looks alike
"""


def list_rules(family: str | None, extra: list[str]) -> int:
    """Print id, severity and title of each rule, by family."""
    rules = ruleset.load(extra)
    shown = [rule for rule in map(rules.rule, range(len(rules.ids))) if family in (None, rule.family)]
    if not shown:
        raise DoctorError(
            f"no rules in family {family!r}; families: {', '.join(sorted({rules.rule(i).family for i in range(len(rules.ids))}))}"
        )
    last = None
    for rule in sorted(shown, key=lambda rule: (rule.family, rule.id)):
        if rule.family != last:
            typer.echo(f"{'' if last is None else chr(10)}{rule.family}")
            last = rule.family
        mark = " (retired)" if rule.retired else ""
        typer.echo(f"  {rule.id:<48} {rule.severity:<8} {render_general(rule.title)}{mark}")
    typer.echo(f"\n{len(shown)} rules", err=True)
    return 0


def list_facts(part: str) -> int:
    """Print the facts that a rule may ask for, by the line of the checklist that they belong to."""
    chosen = [kind for kind in facts.CATALOGUE if part.lower() in f"{kind.name} {kind.area} {kind.meaning}".lower()]
    if not chosen:
        raise DoctorError(f"no fact has {part!r} in its name, area or meaning; `llmdoctor rules facts` lists them all")
    for area in dict.fromkeys(kind.area for kind in chosen):
        typer.echo(f"{area}")
        for kind in chosen:
            if kind.area == area:
                typer.echo(f"  {kind.name:<36} {kind.type:<8} {kind.meaning}")
    typer.echo(f"\n{len(chosen)} facts", err=True)
    return 0


def lint(paths: list[str]) -> int:
    """Check rule files and their examples. 0: all is well, 1: mistakes, each on a line of its own."""
    taxonomy = bundled_taxonomy()
    wanted = {os.path.abspath(path) for path in rule_paths(paths)} if paths else None
    bundled = {os.path.abspath(path) for path in rule_paths(places.rule_folders())}
    together = places.rule_folders(
        [path for path in paths if not {os.path.abspath(p) for p in rule_paths([path])} <= bundled]
    )
    files, found = survey_rules(together, taxonomy)
    rules = ruleset.compile_rules(files, taxonomy)
    chosen = [item for item in files if wanted is None or os.path.abspath(item.rule.file) in wanted]
    mistakes = [mistake for mistake in found if wanted is None or os.path.abspath(mistake.file) in wanted]
    mistakes += [mistake for item in chosen if not item.rule.retired for mistake in prove_rule(rules, item)]
    if mistakes:
        return _report(mistakes)
    typer.echo(
        f"{len(chosen)} rules, {sum(len(i.positive) + len(i.negative) for i in chosen)} examples: all hold", err=True
    )
    return 0


def _report(mistakes: list[Mistake]) -> int:
    for mistake in mistakes:
        typer.echo(str(mistake))
    typer.echo(f"{len(mistakes)} mistakes", err=True)
    return 1


def new(rule: str, family: str, into: str) -> int:
    """Write a rule file with every required key."""
    if not ID.fullmatch(rule):
        raise DoctorError(f"id {rule!r} must be kebab-case: lower case letters, digits and hyphens")
    folder = os.path.join(into, family) if family else into
    path = os.path.join(folder, f"{rule}.yaml")
    if os.path.exists(path):
        raise DoctorError(f"{path} is already there")
    try:
        os.makedirs(folder, exist_ok=True)
        with open(path, "x", encoding="utf-8") as file:
            file.write(TEMPLATE.format(id=rule))
    except OSError as error:
        raise DoctorError(f"{path}: {error.strerror}") from None
    typer.echo(path)
    typer.echo(f"Fill it in, then: llmdoctor rules lint {path}", err=True)
    return 0
