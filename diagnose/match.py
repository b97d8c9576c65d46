"""Rules × case → findings. Sees a case only: a live machine, a file from elsewhere and a test are the same to it."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping

from msgspec import Struct
from msgspec.structs import replace

from diagnose import predicate
from diagnose.model import Case, Certainty, Event, Fact, Finding, Line, Raised, Rule
from diagnose.pattern import pinned, regex
from diagnose.predicate import Value
from diagnose.ruleset import Pattern, RuleSet
from diagnose.sources.stack import culprit, kind

_ADVICE = re.compile(
    r"\bif you(?:'re| are)? (?:see|seeing|get|getting|encounter|encountering|run into|running into|hit)\b.{0,60}\b(?:error|message|exception|warning)",
    re.IGNORECASE,
)

KEEP = 50
"""How many events are kept as evidence of one finding."""


class _Hit(Struct, frozen=True):
    """One line of one event that a pattern of a rule matched."""

    order: int
    event: Event
    line: Line
    raised: Raised | None
    captures: dict[str, str]
    pinned: int


def match(rules: RuleSet, case: Case) -> list[Finding]:
    """All rules that match, in the order of their first line. One rule gives one finding, a general one per text."""
    facts = {fact.name: fact for fact in case.facts}
    values: dict[str, Value] = {name: fact.value for name, fact in facts.items()}
    found: dict[tuple[str, ...], Finding] = {}
    for event in case.events:
        for rule, hit in _hits(rules, event):
            finding = _judge(rule, hit, values, facts)
            if finding is None:
                continue
            key = _key(rule, hit)
            found[key] = _merge(found[key], finding) if key in found else finding
    for finding in _environment_findings(rules, values, facts):
        found[(finding.rule.id, " ".join(finding.instances))] = finding
    return list(found.values())


def _hits(rules: RuleSet, event: Event) -> Iterator[tuple[Rule, _Hit]]:
    """The hits of an event: for a specific rule its most telling one, for a general rule one per line."""
    best: dict[tuple[int, int], _Hit] = {}
    for pattern, line in _candidates(rules, event):
        rule = rules.rule(pattern.rule)
        captures = _search(pattern.text, line)
        if captures is None:
            continue
        raised = _raised_at(event, line)
        hit = _Hit(pattern.order, event, line, raised, captures, pinned(pattern.text))
        if not _holds(rule, hit):
            continue
        key = (pattern.rule, line.number if rule.kind == "general" else -1)
        best[key] = _better(best[key], hit) if key in best else hit
    for (index, _), hit in best.items():
        rule = rules.rule(index)
        if not _excused(rule, event):
            yield rule, hit


def _better(one: _Hit, other: _Hit) -> _Hit:
    """The more telling of two hits of a rule in one event, with what the other one captured besides."""
    first, second = (one, other) if _rank(one) <= _rank(other) else (other, one)
    return replace(first, captures={**second.captures, **first.captures})


def _rank(hit: _Hit) -> tuple[bool, int]:
    """What was said stands before the source line that says it, and a more telling pattern before another."""
    body = hit.line.body.lstrip()
    continued = kind(hit.line.body) == "code" and body.startswith(('f"', "f'", '"'))
    return (continued or body.startswith("raise "), hit.order)


def _candidates(rules: RuleSet, event: Event) -> Iterator[tuple[Pattern, Line]]:
    texts = [line.text.encode("utf-8", "replace") for line in event.lines]
    starts: list[int] = []
    at = 0
    for text in texts:
        starts.append(at)
        at += len(text) + 1
    seen: set[tuple[int, int]] = set()
    for plain, end in rules.scanner.find(b"\n".join(texts)):
        index = bisect_right(starts, end - 1) - 1
        for owner in rules.scanner.owners[plain]:
            if (owner, index) not in seen:
                seen.add((owner, index))
                yield rules.patterns[owner], event.lines[index]


def _search(pattern: str, line: Line) -> dict[str, str] | None:
    compiled = regex(pattern)
    body = line.body.strip()
    found = compiled.search(body) or (compiled.search(line.text) if line.text != body else None)
    if not found:
        return None
    return {name: value for name, value in found.groupdict().items() if value}


def _raised_at(event: Event, line: Line) -> Raised | None:
    """The exception that a line belongs to: its own, or the one whose message it continues; none for code and frames."""
    before = [item for item in event.raised if item.line <= line.number]
    if before and (before[-1].line == line.number or kind(line.body) not in ("frame", "code", "header")):
        return before[-1]
    after = [item for item in event.raised if item.line >= line.number]
    return after[0] if after else None


def _excused(rule: Rule, event: Event) -> bool:
    return any(regex(pattern).search(line.text) for pattern in rule.match.unless for line in event.lines)


def _holds(rule: Rule, hit: _Hit) -> bool:
    if not rule.match.where:
        return True
    values = event_values(hit.event, hit.raised, hit.captures)
    return all(predicate.answer(predicate.parse(condition), values) is True for condition in rule.match.where)


def event_values(event: Event, raised: Raised | None, captures: Mapping[str, str]) -> dict[str, Value]:
    """What `where` and templates may ask of an event: see the list in docs/writing-rules.md."""
    own = raised.frames if raised else ()
    frames = [frame for item in event.raised for frame in item.frames]
    blamed = culprit(own or frames)
    inner = (own or tuple(frames))[-1:]
    values: dict[str, Value] = {f"capture.{name}": value for name, value in captures.items()}
    values |= {
        "event.exception": raised.exception if raised else "",
        "event.message": raised.message if raised else "",
        "event.library": inner[0].package if inner else "",
        "event.caller": blamed.package if blamed else "",
        "event.frame": blamed.place if blamed else "",
        "event.frames": "\n".join(frame.place for frame in frames),
        "event.phase": event.phase,
        "event.text": "\n".join(line.text for line in event.lines),
        "event.near": event.near,
        "event.rank": event.rank,
        "event.process": event.process,
    }
    return values


def _judge(rule: Rule, hit: _Hit, values: Mapping[str, Value], facts: Mapping[str, Fact]) -> Finding | None:
    certainty: Certainty = "possible" if _is_advice(hit.event) or _is_warned(rule, hit.line) else rule.certainty
    used: tuple[Fact, ...] = ()
    missing: tuple[str, ...] = ()
    if rule.match.facts:
        local = {**values, **{f"capture.{name}": value for name, value in hit.captures.items()}}
        verdict, names, missing = predicate.solve([predicate.parse(text) for text in rule.match.facts], local)
        if verdict is False:
            return None
        if verdict is True:
            certainty = "confirmed"
        used = tuple(facts[name] for name in names if name in facts)
    return Finding(rule, certainty, hit.captures, (hit.event,), (hit.line,), (hit.raised,), used, missing, hit.pinned)


def _is_warned(rule: Rule, line: Line) -> bool:
    """Whether the program that wrote a line called it less than an error: it went on."""
    return rule.severity == "error" and line.level in ("warning", "info")


def _is_advice(event: Event) -> bool:
    """Whether the lines above an event announce it as an example: a guide that quotes an error reports no failure."""
    above, _, _ = event.near.partition(event.lines[0].text[:200])
    return _ADVICE.search("\n".join(above.splitlines()[-4:])) is not None


def _environment_findings(rules: RuleSet, values: Mapping[str, Value], facts: Mapping[str, Fact]) -> Iterator[Finding]:
    """What rules on facts alone find: a specific rule once with all its instances, others once for each."""
    if not values:
        return
    heads = predicate.by_head(values)
    known = {f"{head}." for head in heads} | values.keys()
    for entry in rules.environment:
        if not known.issuperset(entry.needs):
            continue
        rule = rules.rule(entry.rule)
        conditions = [predicate.parse(text) for text in rule.match.facts]
        solved = predicate.solutions(conditions, values, heads)
        for group in ([solved] if solved else []) if rule.kind == "specific" else [[one] for one in solved]:
            used = dict.fromkeys(name for one in group for name in one.used)
            yield Finding(
                rule,
                "confirmed" if rule.certainty == "likely" else rule.certainty,
                {"instance": group[0].instance} if group[0].instance else {},
                facts=tuple(facts[name] for name in used if name in facts),
                instances=tuple(one.instance for one in group if one.instance),
            )


def _key(rule: Rule, hit: _Hit) -> tuple[str, ...]:
    """What makes two hits one finding: the rule, and for a general one the text without its numbers."""
    if rule.kind != "general":
        return (rule.id,)
    return (rule.id, re.sub(r"\d+|0x[0-9a-f]+", "#", hit.line.body.strip())[:300])


def _merge(known: Finding, new: Finding) -> Finding:
    if len(known.events) >= KEEP:
        return replace(known, events=(_counting(known.events[0], new.events[0]), *known.events[1:]))
    return replace(
        known,
        events=known.events + new.events,
        lines=known.lines + new.lines,
        raised=known.raised + new.raised,
        captures={**new.captures, **known.captures},
    )


def _counting(kept: Event, other: Event) -> Event:
    """An event that also counts another one, which is not kept, and its ranks."""
    ranks = dict.fromkeys((*kept.ranks, *other.ranks, other.rank))
    ranks.pop("", None)
    return replace(kept, repeats=kept.repeats + 1 + other.repeats, ranks=tuple(ranks))
