"""A finding with what it explains → a cause as a report tells it: title, evidence, why, fix, symptoms."""

from __future__ import annotations

from collections.abc import Sequence

from diagnose.commands import for_environment
from diagnose.derive import is_derived
from diagnose.facts import shown
from diagnose.match import event_values
from diagnose.model import SEVERITIES, Case, Cause, Event, Evidence, Fact, Finding, Fix, Line, Raised, Severity, Symptom
from diagnose.order import Node, is_aside, on_facts, tier
from diagnose.predicate import Value, answer, parse
from diagnose.ruleset import RuleSet
from diagnose.sources.stack import culprit
from diagnose.taxonomy import Taxonomy
from diagnose.template import render, render_command, render_general

MOST_EVIDENCE = 6
MOST_SYMPTOMS = 20


def told(rules: RuleSet, case: Case, node: Node) -> Cause:
    """What a report tells of a root cause."""
    finding = node.finding
    rule = finding.rule
    values = _values(finding, case)
    symptom = _symptom_leaf(rules, node)
    return Cause(
        rule=rule.id,
        title=render(rule.title, values) + _further(finding),
        severity=_severity(node, case),
        certainty="possible" if is_aside(node, case) and not case.machine else finding.certainty,
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
        ranks=ranks_of(finding),
        unknown=finding.unknown,
        study=rules.study(symptom) if finding.certainty == "possible" or rule.symptom_only else None,
        references=rule.references,
        about=render_general(rule.title),
    )


def _symptom_leaf(rules: RuleSet, node: Node) -> str:
    """The rule's symptom; for `of-the-exception` what another rule makes of the same line, else the class's symptom."""
    finding = node.finding
    labels = [item.rule.labels.symptom for item in (finding, *node.same_line)]
    known = [symptom for symptom in labels if symptom != Taxonomy.OF_THE_EXCEPTION]
    if known:
        return known[0]
    raised = finding.raised[0] if finding.raised else None
    return rules.symptom_of(raised.exception if raised else finding.captures.get("exception", ""))


def _severity(node: Node, case: Case) -> Severity:
    """A cause in the machine is as severe as what it led to: an error that it explains makes an error of a warning.

    What a pasted text tells of its machine, and the text itself shows no trouble of, is a warning at most.
    """
    if is_aside(node, case) and not case.machine and node.finding.rule.severity == "error":
        return "warning"
    all_of_it = [node.finding.rule.severity]
    if on_facts(node.finding):
        all_of_it += [child.finding.rule.severity for child in node.symptoms if tier(child.finding) < 4]
    return min(all_of_it, key=SEVERITIES.index)


def _further(finding: Finding) -> str:
    """What a title that names an instance adds when the same holds of others: other GPUs, other packages."""
    others = finding.instances[1:]
    if not others or "{{instance" not in finding.rule.title.replace(" ", ""):
        return ""
    return f" (and the same of {', '.join(others[:7])}{', …' if len(others) > 7 else ''})"


def _explained(node: Node) -> tuple[Evidence, ...]:
    """For a cause in the machine: the lines of a log that it explains, before the facts that prove it."""
    if not on_facts(node.finding):
        return ()
    said = [child.finding for child in node.symptoms if child.finding.events]
    said.sort(key=lambda finding: (tier(finding), min(line.number for line in finding.lines)))
    return _evidence(said[0])[:2] if said else ()


def _values(finding: Finding, case: Case) -> dict[str, Value]:
    """What the texts of a rule may show: facts as a reader reads them, the event's values, captures."""
    values: dict[str, Value] = {name: shown(name, value) for name, value in _raw_values(finding, case).items()}
    values |= _written(finding, case)
    model = values.get("launch.arg.model") or values.get("launch.arg.model_path")
    if model and "model" not in values:
        values["model"] = model
    return values


def _written(finding: Finding, case: Case) -> dict[str, Value]:
    """How the user's files call the settings that facts were read from (`key.NAME`), and where they stand (`place.NAME`)."""
    told: dict[str, Value] = {}
    for fact in case.facts:
        if fact.line:
            told[f"place.{fact.name}"] = f"{fact.origin}:{fact.line}"
        told[f"key.{fact.name}"] = fact.key or fact.name.rpartition(".")[2]
    for instance in finding.instances[:1]:
        mark = f".{instance}."
        told |= {name.replace(mark, ".*.", 1): value for name, value in told.items() if mark in name}
    return told


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
    from diagnose.derive import compat

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
        Evidence(
            fact.origin,
            fact.line,
            fact.line,
            _fact_text(fact),
            "fact",
            fact.column,
            fact.key,
        )
        for fact in finding.facts[: 2 * MOST_EVIDENCE]
    ]
    return tuple(found)


def _fact_text(fact: Fact) -> str:
    """`learning_rate = 0.5` as the user's file has it; a fact of our own by its own name."""
    value = shown(fact.name, fact.value)
    name = fact.name if is_derived(fact) else fact.key or fact.name
    return name if name == value else f"{name} = {value}"


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


def _symptom(node: Node, case: Case) -> Symptom:
    title = render(node.finding.rule.title, _values(node.finding, case)) + _further(node.finding)
    return Symptom(node.rule_id, title, _evidence(node.finding)[:2], ranks_of(node.finding))


def _times(finding: Finding) -> int:
    """How many records said it; a record that says it on several lines counts once."""
    records = {(event.origin, event.line): event for event in finding.events}
    return max(len(records) + sum(event.repeats for event in records.values()), 1)


def ranks_of(finding: Finding) -> tuple[str, ...]:
    """The ranks that said it, in order."""
    ranks: dict[str, None] = {}
    for event in finding.events:
        ranks.update(dict.fromkeys((event.rank, *event.ranks)))
    ranks.pop("", None)
    return tuple(sorted(ranks, key=lambda rank: (len(rank), rank)))
