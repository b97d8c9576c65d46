"""The checklist of a machine: a line per area, with what was found there and how it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from diagnose.facts import AREAS, area_of, shown
from diagnose.model import SEVERITIES, Area, Case, Fact, Finding, Severity, Unchecked
from diagnose.predicate import Value, parse

SOURCES: Mapping[str, tuple[str, ...]] = {
    "GPU driver": ("driver", "GPUs"),
    "host": ("memory", "storage", "limits", "system", "network"),
    "kernel log": ("kernel log",),
    "Python packages": ("interpreter", "packages", "CUDA libraries", "extensions", "engine"),
    "the Python environment": ("interpreter", "packages", "CUDA libraries", "extensions", "engine"),
    "imports": ("imports",),
}
"""The areas that stay empty when a source (by its name, or by what it says it could not look at) yields nothing."""

ENGINES = ("vllm", "sglang", "transformers", "trl", "peft", "accelerate", "deepspeed", "llama-cpp-python", "lmdeploy")


def areas(case: Case, findings: Sequence[Finding]) -> tuple[Area, ...]:
    """The lines of the checklist; none for a case without a machine. Areas that nobody looked at are left out."""
    if not case.machine or case.origins:
        return ()
    values: dict[str, Value] = {fact.name: fact.value for fact in case.facts}
    found: dict[str, list[Finding]] = {}
    for finding in findings:
        found.setdefault(area_of_finding(finding), []).append(finding)
    lines = [_line(name, values, found.get(name, ()), _why_not(name, case)) for name in AREAS]
    return tuple(line for line in lines if line is not None)


def _line(name: str, values: Mapping[str, Value], findings: Sequence[Finding], why_not: str) -> Area | None:
    summary = _SUMMARIES[name](values)
    rules = tuple(dict.fromkeys(finding.rule.id for finding in findings))
    if findings:
        worst: Severity = min((finding.rule.severity for finding in findings), key=SEVERITIES.index)
        return Area(name, worst, summary or f"{len(rules)} findings", rules)
    if why_not and not summary:
        return Area(name, "unchecked", f"not checked, because {why_not}")
    return Area(name, "ok", summary) if summary else None


def area_of_finding(finding: Finding) -> str:
    """Where a finding belongs: the area of the fact that its rule asks for first, or of the probe whose text it is in."""
    if finding.events:
        return "kernel log" if finding.events[0].origin == "kernel log" else "imports"
    return next((area for text in finding.rule.match.facts if (area := area_of(parse(text).name))), "")


def _why_not(name: str, case: Case) -> str:
    return next((item.why for item in case.unchecked if name in SOURCES.get(item.what, ())), "")


def _driver(values: Mapping[str, Value]) -> str:
    return ""


_SUMMARIES: Mapping[str, Callable[[Mapping[str, Value]], str]] = dict.fromkeys(AREAS, _driver)
