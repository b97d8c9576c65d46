"""`llmdoctor explain RULE`."""

from __future__ import annotations

from difflib import get_close_matches

import typer

from diagnose import ruleset
from diagnose.errors import DoctorError
from diagnose.explain import page


def run(rule_id: str, rule_folders: list[str]) -> int:
    """Print a rule's page."""
    rules = ruleset.load(rule_folders)
    rule = rules.find(rule_id)
    if rule is None:
        close = get_close_matches(rule_id, rules.ids, 3) or [name for name in rules.ids if rule_id in name][:3]
        hint = f"; did you mean {' or '.join(close)}?" if close else "; `llmdoctor rules list` names them all"
        raise DoctorError(f"no rule {rule_id!r}{hint}")
    typer.echo(page(rule, rules), nl=False)
    return 0
