"""A rule → its page: what, why, fix, verify, how often in the study, references."""

from __future__ import annotations

import textwrap

from diagnose.model import Rule
from diagnose.ruleset import RuleSet
from diagnose.template import render_general


def page(rule: Rule, rules: RuleSet) -> str:
    """The page as plain text; values that only a case has are shown as `<name>`."""
    parts = [render_general(rule.title), "=" * min(len(render_general(rule.title)), 80), ""]
    if rule.retired:
        parts += [f"Retired: {rule.retired}", ""]
    parts += [f"{rule.id} · {rule.family} · {rule.severity} · {rule.kind}", ""]
    parts += ["Why", *_indented(render_general(rule.why)), ""]
    parts += ["Fix"]
    for number, fix in enumerate(rule.fix, start=1):
        condition = f" (when {' and '.join(fix.when)})" if fix.when else ""
        parts += textwrap.wrap(
            f"{number}. {render_general(fix.do)}{condition}",
            80,
            initial_indent="  ",
            subsequent_indent="     ",
            break_long_words=False,
        )
        parts += [f"       {row}" for row in render_general(fix.run).splitlines()]
        parts += (
            ["     to verify:", *(f"       {row}" for row in render_general(fix.verify).splitlines())]
            if fix.verify
            else []
        )
        parts += (
            textwrap.wrap(
                f"expect: {render_general(fix.expect)}", 80, initial_indent="     ", subsequent_indent="       "
            )
            if fix.expect
            else []
        )
    if rule.restart:
        parts += ["", "A restart may help." if rule.restart == "may-help" else "A restart cannot help."]
    parts += ["", "Recognised by"]
    parts += [f"  any of   {pattern}" for pattern in rule.match.log]
    parts += [f"  where    {condition}" for condition in (*rule.match.where, *rule.match.facts)]
    parts += [f"  but not  {pattern}" for pattern in rule.match.unless]
    if rule.leads_to:
        parts += ["", f"Leads to  {', '.join(rule.leads_to)}"]
    parts += ["", *_study(rule, rules)]
    if rule.references:
        parts += ["", "References", *(f"  {link}" for link in rule.references)]
    return "\n".join(parts).rstrip() + "\n"


def _study(rule: Rule, rules: RuleSet) -> list[str]:
    study = rules.study(rule.labels.symptom)
    if study is None:
        return []
    cause = rules.causes.get(rule.labels.cause, "")
    own = next((share.count for share in study.causes if share.cause == rule.labels.cause), 0)
    text = f"Symptom: {study.name}. Cause: {cause}. Of {study.count} studied failures with this symptom, {own} had this cause"
    top = [share for share in study.causes if share.cause != rule.labels.cause][:3]
    text += (
        "; others had " + ", ".join(f"{share.name.split(' - ')[-1]} ({share.count})" for share in top) + "."
        if top
        else "."
    )
    return ["In the study", *_indented(text)]


def _indented(text: str) -> list[str]:
    found: list[str] = []
    for paragraph in text.strip().split("\n\n"):
        found += textwrap.wrap(
            " ".join(paragraph.split()),
            80,
            initial_indent="  ",
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return found
