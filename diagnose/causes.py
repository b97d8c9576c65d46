"""Findings → diagnosis: root causes first, each with the symptoms that it explains.

A finding that another one explains (`leads_to`, or a chained exception) stands under it as a symptom. One on facts alone
that explains what a log says is its root cause, whatever its own severity. `order` says what is told first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from diagnose import __version__
from diagnose.advice import advise
from diagnose.checklist import areas
from diagnose.model import Case, Diagnosis, Event, Fact, Finding, Recognised, Unchecked
from diagnose.order import Node, names_cause, on_facts, order, tier
from diagnose.ruleset import RuleSet
from diagnose.sources.stack import culprit
from diagnose.told import ranks_of, told

SCHEMA_VERSION = "1"
COMMUNICATION = "crash/cuda-error/communication-error"
"""The symptom of a rank that lost another one, or waits for it."""


def diagnose(rules: RuleSet, case: Case, findings: Sequence[Finding]) -> Diagnosis:
    """Put the findings of a case in order and say what could not be checked."""
    nodes = _roots(rules, [Node(finding) for finding in findings])
    named = any(names_cause(node.finding) for node in nodes)
    nodes.sort(key=lambda node: order(node, case, named))
    _put_wrappers_below(nodes)
    causes = tuple(told(rules, case, node) for node in nodes)
    recognised = () if causes else _recognised(case.events)
    return Diagnosis(
        version=SCHEMA_VERSION,
        tool=__version__,
        origins=case.origins,
        lines=case.lines,
        diagnoses=causes,
        facts=case.facts,
        recognised=recognised,
        advice=advise(causes, case),
        unchecked=case.unchecked + _open_questions(nodes),
        areas=areas(case, findings),
    )


def _roots(rules: RuleSet, nodes: list[Node]) -> list[Node]:
    """Take out what is said better by another finding, and hang what is explained under what explains it."""
    nodes = _most_telling(rules, nodes)
    parents: dict[int, Node] = {}
    near = _Neighbours(rules, nodes)
    for node in nodes:
        parent = next((other for other in near.of(node) if _explains(rules, other, node)), None)
        if parent is not None:
            parents[id(node)] = parent
    roots = []
    for node in nodes:
        top = node
        walked = {id(node)}
        while id(top) in parents and id(parents[id(top)]) not in walked:
            top = parents[id(top)]
            walked.add(id(top))
        if top is node:
            roots.append(node)
        else:
            top.symptoms.append(node)
    return roots


class _Neighbours:
    """Finds the findings that can explain another one, without a look at every pair."""

    def __init__(self, rules: RuleSet, nodes: list[Node]) -> None:
        self._order = {id(node): index for index, node in enumerate(nodes)}
        self._all = nodes
        self._by_record: dict[tuple[str, int], list[Node]] = {}
        self._by_target: dict[str, list[Node]] = {}
        for node in nodes:
            for record in {(event.origin, event.line) for event in node.finding.events}:
                self._by_record.setdefault(record, []).append(node)
            for target in rules.consequences(node.rule_id):
                self._by_target.setdefault(target, []).append(node)

    def of(self, node: Node) -> list[Node]:
        """Findings of the same records, or whose rule leads to this one's; all others for a rank that lost its peer."""
        if node.finding.rule.labels.symptom == COMMUNICATION:
            return [other for other in self._all if other is not node]
        found = {id(other): other for other in self._by_target.get(node.rule_id, ())}
        for event in node.finding.events:
            found.update((id(other), other) for other in self._by_record[event.origin, event.line])
        found.pop(id(node), None)
        return sorted(found.values(), key=lambda other: self._order[id(other)])


def _most_telling(rules: RuleSet, nodes: list[Node]) -> list[Node]:
    """Without the general and wrapping findings all of whose lines are told better by others, which remember them."""
    by_place: dict[tuple[str, int], list[Node]] = {}
    for node in nodes:
        for place in _places(node.finding):
            by_place.setdefault(place, []).append(node)
    kept: list[Node] = []
    for node in nodes:
        mine = _places(node.finding)
        there = {id(other): other for place in mine for other in by_place[place] if other is not node}
        better = [other for other in there.values() if _tells_more(rules, other.finding, node.finding)]
        said = {place for other in better for place in _places(other.finding)}
        if node.finding.rule.kind == "specific" or not mine or not mine <= said:
            kept.append(node)
            continue
        for other in better:
            other.same_line.append(node.finding)
    return kept


def _tells_more(rules: RuleSet, one: Finding, other: Finding) -> bool:
    """Whether a finding says more of a line than another: specific before wrapping before general rules.

    Among general ones the rule that leads to the other one does, then the pattern that names more of the line.
    """
    kinds = ("specific", "wrapper", "general")
    if one.rule.kind != other.rule.kind:
        return kinds.index(one.rule.kind) < kinds.index(other.rule.kind)
    if (tier(one) < 4) != (tier(other) < 4):
        return tier(one) < 4
    if other.rule.id in one.rule.leads_to or one.rule.id in other.rule.leads_to:
        return other.rule.id in one.rule.leads_to
    if one.pinned != other.pinned:
        return one.pinned > other.pinned
    if one.rule.id in rules.consequences(other.rule.id):
        return False
    return other.rule.id in rules.consequences(one.rule.id) or one.rule.id < other.rule.id


def _places(finding: Finding) -> set[tuple[str, int]]:
    return {(event.origin, line.number) for event, line in zip(finding.events, finding.lines, strict=True)}


def _explains(rules: RuleSet, cause: Node, symptom: Node) -> bool:
    """Whether one finding explains another: by `leads_to`, or as the better-known part of the same event."""
    a, b = cause.finding, symptom.finding
    if symptom.rule_id in rules.consequences(cause.rule_id):
        if on_facts(a):
            hides = a.rule.severity == "note" and b.rule.severity != "note" and not b.events
            # what a wrapper wraps stands in the log: it is no sign of what would have led to it by way of others
            far = b.rule.kind == "wrapper" and b.rule.id not in a.rule.leads_to
            return not hides and not far and _is_named_in(a, b)
        return tier(a) <= max(tier(b), 1) or b.rule.kind == "wrapper"
    if _lost_its_peer(a, b):
        return True
    shared = {(e.origin, e.line) for e in a.events} & {(e.origin, e.line) for e in b.events}
    if not shared or len(shared) < len({(e.origin, e.line) for e in b.events}):
        return False
    return tier(a) < tier(b) or (tier(a) == tier(b) and _earlier(a, b))


_OF_ONE_PACKAGE = ("extension.", "package.", "unmet.", "overlap.", "duplicate.", "user_site.", "conda.", "break.")


def _is_named_in(cause: Finding, symptom: Finding) -> bool:
    """Whether what a log says can be about the package that a finding on facts is about: the text names it somewhere.

    True for a cause that is about no package, and for a symptom that is not said in a text.
    """
    words = {word for fact in cause.facts if fact.name.startswith(_OF_ONE_PACKAGE) for word in _names(fact)}
    if not words or not symptom.events:
        return True
    said = "\n".join(line.text for event in symptom.events for line in event.lines).lower().replace("-", "_")
    return any(word in said for word in words)


def _names(fact: Fact) -> set[str]:
    """How a text may name what a fact is about: the distribution of its name, and names of packages and files in its value."""
    instance = fact.name.split(".")[1]
    told = re.findall(r"[A-Za-z][\w-]{2,}", str(fact.value)) if isinstance(fact.value, str) else []
    words = {*told, *(() if instance.isdecimal() else (instance,))}
    short = {word.removesuffix("-python").removesuffix("-kernel") for word in words}
    plain = {word.lower().replace("-", "_") for word in words | short}
    return plain - _OF_ANY_PACKAGE


_OF_ANY_PACKAGE = frozenset(
    ("conflict", "missing", "import", "use", "unknown", "none", "false", "true", "any", "version", "python", "init", "lib_so", "metadata")
)  # fmt: skip


def _lost_its_peer(cause: Finding, waiting: Finding) -> bool:
    """Whether a rank that failed by itself explains that other ranks waited for it, or lost it, afterwards."""
    if waiting.rule.labels.symptom != COMMUNICATION or cause.rule.labels.symptom == COMMUNICATION:
        return False
    if cause.rule.severity != "error" or cause.rule.kind == "wrapper" or not any(cause.raised):
        return False
    failed, lost = set(ranks_of(cause)), set(ranks_of(waiting))
    return bool(failed and lost) and not failed & lost and _moment(cause) <= _moment(waiting)


def _moment(finding: Finding) -> tuple[float, int]:
    """When a finding was said first: its time where lines tell it, and its line."""
    times = [event.time for event in finding.events if event.time is not None]
    return (min(times, default=0.0), min((line.number for line in finding.lines), default=0))


def _earlier(a: Finding, b: Finding) -> bool:
    """Whether a's exception was raised before b's, in the chain that they share."""
    return min(line.number for line in a.lines) < min(line.number for line in b.lines)


def _put_wrappers_below(nodes: list[Node]) -> None:
    """A wrapper says that something else failed: if a cause is known, it is that cause's symptom."""
    for node in [node for node in nodes if node.finding.rule.kind == "wrapper"]:
        cause = _wrapped(nodes, node)
        if cause is not None:
            nodes.remove(node)
            cause.symptoms += [node, *node.symptoms]
            node.symptoms = []


def _wrapped(nodes: list[Node], wrapper: Node) -> Node | None:
    """What a wrapper is the symptom of: in a log the first cause; for a failed probe what its own output tells, if anything."""
    causes = [node for node in nodes if node.finding.rule.kind != "wrapper" and _is_error(node)]
    if not on_facts(wrapper.finding):
        return nodes[0] if nodes[0] in causes else None
    origins = {fact.origin for fact in wrapper.finding.facts}
    return next((node for node in causes if origins & _origins(node)), None)


def _is_error(node: Node) -> bool:
    """Whether a cause, or what it led to, is an error."""
    explained = node.symptoms if on_facts(node.finding) else []
    return any(part.finding.rule.severity == "error" for part in (node, *explained))


def _origins(node: Node) -> set[str]:
    """The texts in which a cause or a symptom of it was said."""
    return {event.origin for part in (node, *node.symptoms) for event in part.finding.events}


def _recognised(events: Sequence[Event]) -> tuple[Recognised, ...]:
    found = []
    for event in events:
        for raised in event.raised[-1:]:
            blamed = culprit(raised.frames)
            found.append(
                Recognised(
                    event.origin,
                    raised.line,
                    f"{raised.exception}: {raised.message}"[:500],
                    raised.exception,
                    blamed.package if blamed else "",
                    blamed.place if blamed else "",
                )
            )
    return tuple(found[:5])


def _open_questions(nodes: Sequence[Node]) -> tuple[Unchecked, ...]:
    names = dict.fromkeys(name for node in nodes for name in node.finding.unknown)
    return tuple(Unchecked(name, "the text does not tell") for name in names)
