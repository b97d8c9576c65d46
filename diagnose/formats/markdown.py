"""Markdown, ready for a GitHub issue or a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterator

from diagnose.formats.layout import MARKS, MOST_WHOLE, accepted_told, origin_of, ranges, ranks_told, visible
from diagnose.model import Area, Cause, Diagnosis, Evidence

_CODE_SPAN = re.compile(r"((?<!`)(`{1,20})(?!`).{1,2000}?(?<!`)\2(?!`))")
_MARKUP = re.compile(r"[\\*`\[\]~]|(?<![^\W_])_|_(?![^\W_])")


def write(diagnosis: Diagnosis) -> str:
    """The report as GitHub-flavoured Markdown."""
    return "\n".join(_document(diagnosis)).rstrip() + "\n"


def _document(diagnosis: Diagnosis) -> Iterator[str]:
    if diagnosis.areas:
        yield from _checklist(diagnosis.areas)
    whole = [cause for cause in diagnosis.diagnoses if cause.severity != "note"] if diagnosis.areas else []
    whole = whole[:MOST_WHOLE] or list(diagnosis.diagnoses[:1])
    for cause in whole:
        yield from _cause(cause)
    others = [cause for cause in diagnosis.diagnoses if cause not in whole]
    if others:
        yield "#### Also found"
        yield ""
        for cause in others:
            place = f", line {cause.evidence[0].line}" if cause.evidence and cause.evidence[0].line else ""
            yield f"- **{plain(cause.title)}** (`{cause.rule}`, {cause.certainty}{place})"
        yield ""
    if not whole and not diagnosis.areas:
        yield f"### No known failure in {diagnosis.lines:,} lines"
        yield ""
        for item in diagnosis.recognised:
            where = f", raised at {_code(item.frame)}" if item.frame else ""
            yield f"- line {item.line}: {_code(item.text)}{where}"
        yield ""
    if diagnosis.accepted:
        yield plain(accepted_told(diagnosis))
        yield ""
    if diagnosis.advice:
        yield "#### What would settle it"
        yield ""
        for advice in diagnosis.advice:
            yield f"- {plain(advice.what)}" + (f": {_code(advice.run)}" if advice.run else "")
        yield ""
    for unchecked in diagnosis.unchecked:
        yield f"- not checked: {plain(unchecked.what)}: {plain(unchecked.why)}"
    yield ""
    read = f", {diagnosis.lines:,} lines read" if diagnosis.origins else ""
    yield f"<sub>llmdoctor {diagnosis.tool}{read}</sub>"


def _checklist(areas: tuple[Area, ...]) -> Iterator[str]:
    yield "| | | |"
    yield "|---|---|---|"
    for area in areas:
        yield f"| {MARKS[area.status]} | {area.name} | {plain(area.summary).replace('|', '&#124;')} |"
    yield ""


def _cause(cause: Cause) -> Iterator[str]:
    yield f"### {plain(cause.title)}"
    yield ""
    ranks = f", ranks {visible(ranges(cause.ranks))}" if cause.ranks else ""
    yield f"`{cause.rule}` · {cause.severity} · {cause.certainty}{ranks}"
    yield ""
    yield from _evidence(cause.evidence[:3])
    yield "**Why.** " + plain(" ".join(cause.why.split()))
    yield ""
    yield "**Fix**"
    yield ""
    for number, fix in enumerate(cause.fix, start=1):
        yield f"{number}. {plain(fix.do)}"
        for command in (fix.run, fix.verify):
            if command:
                yield from (f"   {row}" for row in _fenced(command, "sh"))
        if fix.expect:
            yield f"   Expect: {plain(fix.expect)}"
    if cause.restart and any(item.role != "fact" for item in cause.evidence):
        yield ""
        yield "A restart may help." if cause.restart == "may-help" else "A restart cannot help."
    yield ""
    if cause.symptoms:
        yield "**This explains**"
        yield ""
        for symptom in cause.symptoms:
            places = [f"line {item.line}" for item in symptom.evidence[:1]] + ranks_told(symptom.ranks)
            yield f"- {plain(symptom.title)}" + (f" ({', '.join(places)})" if places else "")
        yield ""
    if cause.study:
        shares = ", ".join(f"{share.count} {share.name.split(' - ')[-1]}" for share in cause.study.causes[:4])
        yield f"Of {cause.study.count} studied failures with this symptom the cause was most often: {shares}."
        yield ""


def _evidence(evidence: tuple[Evidence, ...]) -> Iterator[str]:
    for item in evidence:
        yield (
            f"{plain(item.origin) if item.origin != '-' else 'input'}, line {item.line}:"
            if item.role != "fact"
            else f"{plain(origin_of(item))}:"
            if item.column
            else "known:"
        )
        yield from _fenced(item.text, "")
        yield ""


def _fenced(text: str, language: str) -> list[str]:
    """A code block whose fence is longer than any run of backquotes in the text."""
    fence = "```"
    while fence in text:
        fence += "`"
    return [fence + language, *map(visible, text.split("\n")), fence]


def _code(text: str) -> str:
    mark = "`"
    while mark in text:
        mark += "`"
    pad = " " if "`" in text else ""
    return f"{mark}{pad}{visible(' '.join(text.split()))}{pad}{mark}"


def plain(text: str) -> str:
    """Text that Markdown shows as it is: no HTML, no links, no mentions of people. Code between backquotes stays code."""
    parts = _CODE_SPAN.split(visible(" ".join(text.split())))
    for index in range(0, len(parts), 3):
        words = _MARKUP.sub(r"\\\g<0>", parts[index]).replace("&", "&amp;").replace("<", "&lt;").replace("@", "@\u200b")
        parts[index] = words
    # Each split gives the words, the whole span, and its backquotes; the span holds the backquotes already.
    return "".join(part for index, part in enumerate(parts) if index % 3 < 2)
