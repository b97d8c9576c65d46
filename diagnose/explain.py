"""A rule → its page: what, why, fix, verify, how often in the study, references."""

from __future__ import annotations

import re
import textwrap

from diagnose.model import Rule
from diagnose.ruleset import RuleSet

_TEMPLATE = re.compile(r"\{\{\s*([\w.*-]+)\s*(?:\|([^}]*))?\}\}")


def page(rule: Rule, rules: RuleSet) -> str:
    """The page as plain text; values that only a case has are shown as `<name>`."""
    parts = [_general(rule.title), "=" * min(len(_general(rule.title)), 80), ""]
    if rule.retired:
        parts += [f"Retired: {rule.retired}", ""]
    parts += [f"{rule.id} · {rule.family} · {rule.severity} · {rule.kind}", ""]
    parts += ["Why", *_indented(_general(rule.why)), ""]
    parts += ["Fix"]
    for number, fix in enumerate(rule.fix, start=1):
        condition = f" (when {' and '.join(fix.when)})" if fix.when else ""
        parts += textwrap.wrap(
            f"{number}. {_general(fix.do)}{condition}",
            80,
            initial_indent="  ",
            subsequent_indent="     ",
            break_long_words=False,
        )
        parts += [f"       {row}" for row in _general(fix.run).splitlines()]
        parts += (
            ["     to verify:", *(f"       {row}" for row in _general(fix.verify).splitlines())] if fix.verify else []
        )
        parts += (
            textwrap.wrap(f"expect: {_general(fix.expect)}", 80, initial_indent="     ", subsequent_indent="       ")
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


def _general(text: str) -> str:
    return _TEMPLATE.sub(lambda found: (found[2] or "").strip() or f"<{found[1].rsplit('.', 1)[-1]}>", text)


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
