"""Findings → diagnosis: root causes first, each with the symptoms that it explains.

Order, from the top: specific findings before general ones, those before what is only possible, wrappers ("see root
cause above") last among the errors; warnings and notes follow. Among equals the first in time, then in the text, leads; on one
line the rule with more conditions, then the one whose pattern names more of the line.
A finding that another one explains (`leads_to`, or a chained exception) stands under it as a symptom.

Findings on facts alone follow the stack upwards: driver, GPUs, memory, … packages. One that explains what a log says
(`leads_to`) is its root cause, whatever its own severity. Beside a log, one that explains nothing of it stands below all
that the log itself tells.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct

from diagnose import __version__
from diagnose.advice import advise
from diagnose.checklist import area_of_finding, areas
from diagnose.commands import for_environment
from diagnose.facts import AREAS, shown
from diagnose.match import event_values
from diagnose.model import (
    SEVERITIES,
    Case,
    Cause,
    Diagnosis,
    Event,
    Evidence,
    Fact,
    Finding,
    Fix,
    Line,
    Raised,
    Recognised,
    Severity,
    Symptom,
    Unchecked,
)
from diagnose.predicate import Value, answer, parse
from diagnose.ruleset import RuleSet
from diagnose.sources.stack import culprit
from diagnose.taxonomy import Taxonomy
from diagnose.template import render, render_command

SCHEMA_VERSION = "1"
COMMUNICATION = "crash/cuda-error/communication-error"
"""The symptom of a rank that lost another one, or waits for it."""
MOST_EVIDENCE = 6
MOST_SYMPTOMS = 20


class _Node(Struct, eq=False):
    """A finding on its way into the diagnosis."""

    finding: Finding
    symptoms: list[_Node] = []
    same_line: list[Finding] = []

    @property
    def rule_id(self) -> str:
        return self.finding.rule.id


def diagnose(rules: RuleSet, case: Case, findings: Sequence[Finding]) -> Diagnosis:
    """Put the findings of a case in order and say what could not be checked."""
    nodes = _roots(rules, [_Node(finding) for finding in findings])
    nodes.sort(key=lambda node: _order(node, case))
    _put_wrappers_below(nodes)
    causes = tuple(_cause(rules, case, node) for node in nodes)
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


def _tier(finding: Finding) -> int:
    """0 is told first. See the module's docstring for the order.

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


def _order(node: _Node, case: Case) -> tuple[float, ...]:
    finding = node.finding
    explained = [child.finding for child in node.symptoms if child.finding.events]
    if _is_aside(node, case):
        return (1, _tier(finding), _depth(finding))
    if _on_facts(finding) and explained:
        return (0, *min(_place(item, case) for item in explained))
    return (0, *_place(finding, case))


def _is_aside(node: _Node, case: Case) -> bool:
    """Whether a finding on facts alone stands beside a log, and explains nothing of what the log says."""
    said = any(child.finding.events for child in node.symptoms)
    return bool(case.origins) and _on_facts(node.finding) and not said


def _place(finding: Finding, case: Case) -> tuple[float, ...]:
    """Where a finding stands among those that a text tells, or among those of a machine."""
    if _on_facts(finding):
        return (_tier(finding), _depth(finding))
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
    return (_tier(finding), named, first, origin, line, -len(finding.rule.match.where), -finding.pinned)


def _on_facts(finding: Finding) -> bool:
    """Whether a finding comes from facts alone, and not from what a log says."""
    return not finding.rule.match.log


def _depth(finding: Finding) -> int:
    """How far down the stack a finding on facts stands: its area's place in AREAS, 0 at the bottom."""
    area = area_of_finding(finding)
    return AREAS.index(area) if area in AREAS else len(AREAS)


def _roots(rules: RuleSet, nodes: list[_Node]) -> list[_Node]:
    """Take out what is said better by another finding, and hang what is explained under what explains it."""
    nodes = _most_telling(rules, nodes)
    parents: dict[int, _Node] = {}
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

    def __init__(self, rules: RuleSet, nodes: list[_Node]) -> None:
        self._order = {id(node): index for index, node in enumerate(nodes)}
        self._all = nodes
        self._by_record: dict[tuple[str, int], list[_Node]] = {}
        self._by_target: dict[str, list[_Node]] = {}
        for node in nodes:
            for record in {(event.origin, event.line) for event in node.finding.events}:
                self._by_record.setdefault(record, []).append(node)
            for target in rules.consequences(node.rule_id):
                self._by_target.setdefault(target, []).append(node)

    def of(self, node: _Node) -> list[_Node]:
        """Findings of the same records, or whose rule leads to this one's; all others for a rank that lost its peer."""
        if node.finding.rule.labels.symptom == COMMUNICATION:
            return [other for other in self._all if other is not node]
        found = {id(other): other for other in self._by_target.get(node.rule_id, ())}
        for event in node.finding.events:
            found.update((id(other), other) for other in self._by_record[event.origin, event.line])
        found.pop(id(node), None)
        return sorted(found.values(), key=lambda other: self._order[id(other)])


def _most_telling(rules: RuleSet, nodes: list[_Node]) -> list[_Node]:
    """Without the general and wrapping findings all of whose lines are told better by others, which remember them."""
    by_place: dict[tuple[str, int], list[_Node]] = {}
    for node in nodes:
        for place in _places(node.finding):
            by_place.setdefault(place, []).append(node)
    kept: list[_Node] = []
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
    if (_tier(one) < 4) != (_tier(other) < 4):
        return _tier(one) < 4
    if other.rule.id in one.rule.leads_to or one.rule.id in other.rule.leads_to:
        return other.rule.id in one.rule.leads_to
    if one.pinned != other.pinned:
        return one.pinned > other.pinned
    if one.rule.id in rules.consequences(other.rule.id):
        return False
    return other.rule.id in rules.consequences(one.rule.id) or one.rule.id < other.rule.id


def _places(finding: Finding) -> set[tuple[str, int]]:
    return {(event.origin, line.number) for event, line in zip(finding.events, finding.lines, strict=True)}


def _explains(rules: RuleSet, cause: _Node, symptom: _Node) -> bool:
    """Whether one finding explains another: by `leads_to`, or as the better-known part of the same event."""
    a, b = cause.finding, symptom.finding
    if symptom.rule_id in rules.consequences(cause.rule_id):
        if _on_facts(a):
            hides = a.rule.severity == "note" and b.rule.severity != "note" and not b.events
            return not hides and _is_named_in(a, b)
        return _tier(a) <= max(_tier(b), 1) or b.rule.kind == "wrapper"
    if _lost_its_peer(a, b):
        return True
    shared = {(e.origin, e.line) for e in a.events} & {(e.origin, e.line) for e in b.events}
    if not shared or len(shared) < len({(e.origin, e.line) for e in b.events}):
        return False
    return _tier(a) < _tier(b) or (_tier(a) == _tier(b) and _earlier(a, b))


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
    failed, lost = set(_ranks(cause)), set(_ranks(waiting))
    return bool(failed and lost) and not failed & lost and _moment(cause) <= _moment(waiting)


def _moment(finding: Finding) -> tuple[float, int]:
    """When a finding was said first: its time where lines tell it, and its line."""
    times = [event.time for event in finding.events if event.time is not None]
    return (min(times, default=0.0), min((line.number for line in finding.lines), default=0))


def _earlier(a: Finding, b: Finding) -> bool:
    """Whether a's exception was raised before b's, in the chain that they share."""
    return min(line.number for line in a.lines) < min(line.number for line in b.lines)


def _put_wrappers_below(nodes: list[_Node]) -> None:
    """A wrapper says that something else failed: if a cause is known, it is that cause's symptom."""
    for node in [node for node in nodes if node.finding.rule.kind == "wrapper"]:
        cause = _wrapped(nodes, node)
        if cause is not None:
            nodes.remove(node)
            cause.symptoms += [node, *node.symptoms]
            node.symptoms = []


def _wrapped(nodes: list[_Node], wrapper: _Node) -> _Node | None:
    """What a wrapper is the symptom of: in a log the first cause; for a failed probe what its own output tells, if anything."""
    causes = [node for node in nodes if node.finding.rule.kind != "wrapper" and _is_error(node)]
    if not _on_facts(wrapper.finding):
        return nodes[0] if nodes[0] in causes else None
    origins = {fact.origin for fact in wrapper.finding.facts}
    return next((node for node in causes if origins & _origins(node)), None)


def _is_error(node: _Node) -> bool:
    """Whether a cause, or what it led to, is an error."""
    explained = node.symptoms if _on_facts(node.finding) else []
    return any(part.finding.rule.severity == "error" for part in (node, *explained))


def _origins(node: _Node) -> set[str]:
    """The texts in which a cause or a symptom of it was said."""
    return {event.origin for part in (node, *node.symptoms) for event in part.finding.events}


def _cause(rules: RuleSet, case: Case, node: _Node) -> Cause:
    finding = node.finding
    rule = finding.rule
    values = _values(finding, case)
    symptom = _symptom_leaf(rules, node)
    return Cause(
        rule=rule.id,
        title=render(rule.title, values) + _further(finding),
        severity=_severity(node, case),
        certainty="possible" if _is_aside(node, case) and not case.machine else finding.certainty,
        kind=rule.kind,
        symptom=symptom,
        cause=rule.labels.cause,
        stage=rule.labels.stage,
        evidence=_explained(node) + _evidence(finding),
        why=render(rule.why, values),
        fix=_fixes(rule.fix, _raw_values(finding, case), values),
        restart=rule.restart,
        captures=finding.captures,
        symptoms=tuple(_symptom(child, case) for child in node.symptoms[:MOST_SYMPTOMS]),
        seen=_times(finding),
        ranks=_ranks(finding),
        unknown=finding.unknown,
        study=rules.study(symptom) if finding.certainty == "possible" or rule.symptom_only else None,
        references=rule.references,
    )


def _symptom_leaf(rules: RuleSet, node: _Node) -> str:
    """The rule's symptom; for `of-the-exception` what another rule makes of the same line, else the class's symptom."""
    finding = node.finding
    told = [item.rule.labels.symptom for item in (finding, *node.same_line)]
    known = [symptom for symptom in told if symptom != Taxonomy.OF_THE_EXCEPTION]
    if known:
        return known[0]
    raised = finding.raised[0] if finding.raised else None
    return rules.symptom_of(raised.exception if raised else finding.captures.get("exception", ""))


def _severity(node: _Node, case: Case) -> Severity:
    """A cause in the machine is as severe as what it led to: an error that it explains makes an error of a warning.

    What a pasted text tells of its machine, and the text itself shows no trouble of, is a warning at most.
    """
    if _is_aside(node, case) and not case.machine and node.finding.rule.severity == "error":
        return "warning"
    told = [node.finding.rule.severity]
    if _on_facts(node.finding):
        told += [child.finding.rule.severity for child in node.symptoms if _tier(child.finding) < 4]
    return min(told, key=SEVERITIES.index)


def _further(finding: Finding) -> str:
    """What a title that names an instance adds when the same holds of others: other GPUs, other packages."""
    others = finding.instances[1:]
    if not others or "{{instance" not in finding.rule.title.replace(" ", ""):
        return ""
    return f" (and the same of {', '.join(others[:7])}{', …' if len(others) > 7 else ''})"


def _explained(node: _Node) -> tuple[Evidence, ...]:
    """For a cause in the machine: the lines of a log that it explains, before the facts that prove it."""
    if not _on_facts(node.finding):
        return ()
    said = [child.finding for child in node.symptoms if child.finding.events]
    said.sort(key=lambda finding: (_tier(finding), min(line.number for line in finding.lines)))
    return _evidence(said[0])[:2] if said else ()


def _values(finding: Finding, case: Case) -> dict[str, Value]:
    """What the texts of a rule may show: facts as a reader reads them, the event's values, captures."""
    values: dict[str, Value] = {name: shown(name, value) for name, value in _raw_values(finding, case).items()}
    model = values.get("launch.arg.model") or values.get("launch.arg.model_path")
    if model and "model" not in values:
        values["model"] = model
    return values


def _raw_values(finding: Finding, case: Case) -> dict[str, Value]:
    """Facts, the event's values and captures, as conditions compare them. A `*` in a name stands for the instance."""
    values: dict[str, Value] = {fact.name: fact.value for fact in case.facts}
    for instance in finding.instances[:1]:
        mark = f".{instance}."
        values |= {name.replace(mark, ".*.", 1): value for name, value in values.items() if mark in name}
    if finding.events:
        values |= event_values(finding.events[0], finding.raised[0], finding.captures)
    if "model_type" in finding.captures:
        values = _of_model_type(finding.captures["model_type"]) | values
    return values | finding.captures


def _of_model_type(name: str) -> dict[str, Value]:
    """Which releases of transformers know the model type that a text names."""
    from diagnose import compat

    asked = (Fact("wanted.kind", "model-type", ""), Fact("wanted.name", name, ""))
    return {fact.name: fact.value for fact in compat.complete(asked)}


def _fixes(fixes: Sequence[Fix], known: dict[str, Value], values: dict[str, Value]) -> tuple[Fix, ...]:
    """The alternatives that apply to what is `known`, with `values` filled in; if none does, those that apply anywhere."""
    applying = [fix for fix in fixes if all(answer(parse(condition), known) is True for condition in fix.when)]
    return tuple(
        Fix(
            render(fix.do, values),
            for_environment(render_command(fix.run, values), known),
            for_environment(render_command(fix.verify, values), known),
            render(fix.expect, values),
        )
        for fix in applying or [fix for fix in fixes if not fix.when] or fixes
    )


def _evidence(finding: Finding) -> tuple[Evidence, ...]:
    found: list[Evidence] = []
    said = list(zip(finding.events, finding.lines, finding.raised, strict=True))
    for event, line, raised in sorted(said, key=lambda item: not (item[2] and item[2].frames)):
        found.append(Evidence(event.origin, line.number, line.number, line.body.strip()[:1000]))
        if len(found) == 1 and raised is not None:
            found += _raised_evidence(event, line, raised) + _frame_evidence(event, raised)
            found += _raised_evidence(event, line, event.raised[-1]) if event.raised[-1] is not raised else []
        if len(found) >= MOST_EVIDENCE:
            break
    found += [
        Evidence(fact.origin, fact.line, fact.line, f"{fact.name} = {shown(fact.name, fact.value)}", "fact")
        for fact in finding.facts[: 2 * MOST_EVIDENCE]
    ]
    return tuple(found)


def _raised_evidence(event: Event, line: Line, raised: Raised) -> list[Evidence]:
    """An exception's own line, if another line of its event matched: what was raised, or what the chain ended with."""
    own = [item for item in event.lines if item.number == raised.line and item.number != line.number]
    return [Evidence(event.origin, item.number, item.number, item.body.strip()[:1000], "raised") for item in own[:1]]


def _frame_evidence(event: Event, raised: Raised) -> list[Evidence]:
    """The lines of the frame to blame: where it is, and its code."""
    blamed = culprit(raised.frames)
    if blamed is None:
        return []
    for index, line in enumerate(event.lines):
        if (
            blamed.file in line.text
            and blamed.function in line.text
            and (not blamed.line or str(blamed.line) in line.text)
        ):
            code = event.lines[index + 1 : index + 2]
            text = "\n".join(item.body.rstrip()[:500] for item in (line, *code))
            return [Evidence(event.origin, line.number, code[0].number if code else line.number, text, "frame")]
    return []


def _symptom(node: _Node, case: Case) -> Symptom:
    title = render(node.finding.rule.title, _values(node.finding, case)) + _further(node.finding)
    return Symptom(node.rule_id, title, _evidence(node.finding)[:2], _ranks(node.finding))


def _times(finding: Finding) -> int:
    """How many records said it; a record that says it on several lines counts once."""
    records = {(event.origin, event.line): event for event in finding.events}
    return max(len(records) + sum(event.repeats for event in records.values()), 1)


def _ranks(finding: Finding) -> tuple[str, ...]:
    ranks: dict[str, None] = {}
    for event in finding.events:
        ranks.update(dict.fromkeys((event.rank, *event.ranks)))
    ranks.pop("", None)
    return tuple(sorted(ranks, key=lambda rank: (len(rank), rank)))


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


def _open_questions(nodes: Sequence[_Node]) -> tuple[Unchecked, ...]:
    names = dict.fromkeys(name for node in nodes for name in node.finding.unknown)
    return tuple(Unchecked(name, "the text does not tell") for name in names)
