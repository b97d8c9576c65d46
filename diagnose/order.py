"""Which of several findings is told first.

From the top: specific findings before general ones, those before what is only possible, wrappers ("see root cause above")
last among the errors; warnings and notes follow. Among equals the first in time, then in the text, leads; on one line the
rule with more conditions, then the one whose pattern names more of the line. Findings on facts alone follow the stack
upwards: driver, GPUs, memory, … packages, model, launch. Beside a log, one that explains nothing of it stands below all
that the log itself tells; not so what was witnessed of the run itself, which is certain where its log is not, nor, where
the log names no specific cause, a setting that surely ends a training.
"""

from __future__ import annotations

import re

from msgspec import Struct

from diagnose.checklist import area_of_finding
from diagnose.facts import AREAS
from diagnose.model import Case, Finding


class Node(Struct, eq=False):
    """A finding on its way into the diagnosis."""

    finding: Finding
    symptoms: list[Node] = []
    same_line: list[Finding] = []

    @property
    def rule_id(self) -> str:
        return self.finding.rule.id


def tier(finding: Finding) -> int:
    """How far up a finding is told: 0 first.

    What the program itself only warned of did not end it, so it stands with the warnings.
    """
    rule = finding.rule
    if rule.severity == "error" and finding.lines and all(line.level in ("warning", "info") for line in finding.lines):
        return 4 + (finding.certainty == "possible")
    if rule.severity == "error":
        if rule.kind == "wrapper":
            return 3
        if finding.certainty == "possible":
            return 2
        return 0 if rule.kind == "specific" else 1
    return (4 if rule.severity == "warning" else 6) + (finding.certainty == "possible")


def order(node: Node, case: Case, named: bool) -> tuple[float, ...]:
    """A key to sort root causes by. `named`: whether the log itself names a specific cause."""
    finding = node.finding
    explained = [child.finding for child in node.symptoms if child.finding.events]
    if is_aside(node, case) and (named or not _is_fatal(finding)):
        return (1, tier(finding), _depth(finding))
    if on_facts(finding) and explained:
        own = [finding] if is_witnessed(finding) else []
        return (0, *min(_place(item, case) for item in (*own, *explained)))
    return (0, *_place(finding, case))


def is_aside(node: Node, case: Case) -> bool:
    """Whether a finding on facts alone stands beside a log, and explains nothing of what the log says."""
    said = any(child.finding.events for child in node.symptoms)
    return bool(case.origins) and on_facts(node.finding) and not said and not is_witnessed(node.finding)


def _is_fatal(finding: Finding) -> bool:
    """Whether a setting or the data surely ends the training that the log is of."""
    return finding.rule.severity == "error" and area_of_finding(finding) in ("training", "data")


def names_cause(finding: Finding) -> bool:
    """Whether a log names a specific cause in this finding."""
    return not on_facts(finding) and tier(finding) == 0


def is_witnessed(finding: Finding) -> bool:
    """Whether a finding is on what was seen of the run that the log is of: how it ended, and what went on meanwhile."""
    return on_facts(finding) and area_of_finding(finding) == "run"


def _place(finding: Finding, case: Case) -> tuple[float, ...]:
    """Where a finding stands among those that a text tells, or among those of a machine."""
    if on_facts(finding):
        # their rules are general, so that each setting that is not taken is a finding of its own: it tells as much as a specific one
        told = 0 if tier(finding) == 1 and _trouble_with_key(finding) else tier(finding)
        return (told, -1 if is_witnessed(finding) else _depth(finding))
    origin = (
        case.origins.index(finding.events[0].origin)
        if finding.events and finding.events[0].origin in case.origins
        else -1
    )
    times = [event.time for event in finding.events if event.time is not None]
    several = len(case.origins) > 1
    first = min(times) if several and times else float("inf") if several else 0.0
    line = min((line.number for line in finding.lines), default=0)
    # of wrappers the one that names what failed comes first
    named = -len(finding.captures) if finding.rule.kind == "wrapper" else 0
    return (tier(finding), named, first, origin, line, -len(finding.rule.match.where), -finding.pinned)


def on_facts(finding: Finding) -> bool:
    """Whether a finding comes from facts alone, and not from what a log says."""
    return not finding.rule.match.log


def _depth(finding: Finding) -> float:
    """How far down the stack a finding on facts stands: its area's place in AREAS, 0 at the bottom.

    A misspelt setting stands below all that is judged by the settings: without it they say something else.
    """
    if _trouble_with_key(finding) == "unknown":
        return AREAS.index("model") - 0.5
    area = area_of_finding(finding)
    return AREAS.index(area) if area in AREAS else len(AREAS)


def _trouble_with_key(finding: Finding) -> str:
    """What is wrong with the key of a training's setting that a finding is about; empty for any other finding."""
    names = (fact for fact in finding.facts if re.fullmatch(r"training\.key\.\d+\.trouble", fact.name))
    return next((str(fact.value) for fact in names), "")
