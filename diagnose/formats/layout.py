"""What a report for people says and in which order, as styled lines; `text` and the terminal render them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

from msgspec import Struct

from diagnose.model import Advice, Area, Cause, Diagnosis, Evidence, Fix, Study, Symptom

WIDTH = 80
MARKS = {"error": "✗", "warning": "!", "note": "·", "ok": "✓", "unchecked": "?"}
_CERTAINTY = {"confirmed": "confirmed by facts", "likely": "likely", "possible": "possible"}
_RESTART = {
    "may-help": "Restarting may help.",
    "cannot-help": "Restarting cannot help: it will fail again in the same way.",
}
_UNSEEN = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
MOST_OTHERS = 8
MOST_WHOLE = 6
"""How many findings of a machine are told whole; those of a log are one cause and others in short."""
MOST_SHARES = 4


class Styled(Struct, frozen=True):
    """A line of the report and its role: title, error, warning, note, ok, head, quote, command, prose, faint."""

    role: str
    text: str


def visible(text: str) -> str:
    """One line with what steers a terminal (escapes, carriage returns, marks that turn text around) spelled out."""
    return _UNSEEN.sub(
        lambda found: f"\\x{ord(found[0]):02x}" if found[0] < "\x80" else f"\\u{ord(found[0]):04x}", text
    )


def lines(diagnosis: Diagnosis) -> Iterator[Styled]:
    """The whole report, safe to print on a terminal."""
    return (Styled(line.role, visible(line.text)) for line in _report(diagnosis))


def _report(diagnosis: Diagnosis) -> Iterator[Styled]:
    several = len(diagnosis.origins) > 1
    if diagnosis.areas:
        yield from _checklist(diagnosis.areas)
        whole = [cause for cause in diagnosis.diagnoses if cause.severity != "note"][:MOST_WHOLE]
        for cause in whole:
            yield from _cause(cause, several)
        others = [cause for cause in diagnosis.diagnoses if cause not in whole]
        if not whole:
            yield Styled("title", "Nothing found that stands in the way.")
            yield Styled("prose", "")
        if others:
            yield from _others(others, several, "Also found" if whole else "Worth knowing")
    elif not diagnosis.diagnoses:
        yield from _nothing_found(diagnosis)
    else:
        first, *rest = diagnosis.diagnoses
        yield from _cause(first, several)
        if rest:
            yield from _others(rest, several, "Also found")
    if diagnosis.accepted:
        yield from wrapped("faint", accepted_told(diagnosis), "", "  ")
        yield Styled("prose", "")
    yield from _next(diagnosis.advice)
    if diagnosis.unchecked:
        yield Styled("head", "Not checked")
        for item in diagnosis.unchecked:
            yield from wrapped("prose", f"{item.what}: {item.why}", "  - ", "    ")
        yield Styled("prose", "")


def _checklist(areas: tuple[Area, ...]) -> Iterator[Styled]:
    width = max(len(area.name) for area in areas)
    for area in areas:
        first = f"{MARKS[area.status]} {area.name:<{width}}  "
        role = "faint" if area.status == "unchecked" else area.status
        yield from wrapped(role, area.summary, first, " " * len(first))
    yield Styled("prose", "")


def _cause(cause: Cause, several: bool) -> Iterator[Styled]:
    yield from wrapped(cause.severity, cause.title, f"{MARKS[cause.severity]} ", "  ")
    about = [
        cause.rule,
        cause.severity,
        _CERTAINTY[cause.certainty],
        *([cause.stage] if cause.stage else []),
        *_counted(cause),
    ]
    yield Styled("faint", f"  {' · '.join(about)}")
    yield Styled("prose", "")
    for item, following in zip(cause.evidence[:3], (*cause.evidence[1:3], None), strict=False):
        yield from _quote(item, following, several)
    yield Styled("prose", "")
    yield Styled("head", "Why")
    for paragraph in _paragraphs(cause.why):
        yield from wrapped("prose", paragraph, "  ", "  ")
    yield Styled("prose", "")
    yield Styled("head", "Fix")
    for number, fix in enumerate(cause.fix, start=1):
        yield from _fix(number, fix)
    if cause.restart and any(item.role != "fact" for item in cause.evidence):
        yield Styled("prose", f"  {_RESTART[cause.restart]}")
    yield Styled("prose", "")
    if cause.symptoms:
        yield Styled("head", "This explains")
        for symptom in cause.symptoms[:MOST_OTHERS]:
            yield from wrapped("prose", f"{symptom.title}{_where(symptom, several)}", "  - ", "    ")
        yield Styled("prose", "")
    if cause.study:
        yield from _study(cause.study)


def accepted_told(diagnosis: Diagnosis) -> str:
    """What the project accepts, in a sentence: how much by its baseline, and each rule that it ignores with the reason."""
    known = sum(item.by == "baseline" for item in diagnosis.accepted)
    told = [f"{known} known to the baseline"] if known else []
    reasons = {item.cause.rule: item.reason for item in diagnosis.accepted if item.by == "ignore"}
    told += [f"{rule} ignored ({reason})" for rule, reason in reasons.items()]
    return f"Accepted: {'; '.join(told)}"


def _counted(cause: Cause) -> list[str]:
    return [*([f"seen {cause.seen:,} times"] if cause.seen > 1 else []), *ranks_told(cause.ranks)]


def _where(symptom: Symptom, several: bool) -> str:
    """Where a symptom was said, in brackets: its first line, and its ranks."""
    first = symptom.evidence[:1]
    places = [f"{item.origin}:{item.line}" if several else f"line {item.line}" for item in first if item.role != "fact"]
    told = places + ranks_told(symptom.ranks)
    return f" ({', '.join(told)})" if told else ""


def ranks_told(ranks: tuple[str, ...]) -> list[str]:
    """Ranks in words, unless it is rank 0 alone, which tells nothing."""
    if not ranks or ranks == ("0",):
        return []
    return [f"rank {ranks[0]}" if len(ranks) == 1 else f"{len(ranks)} ranks: {ranges(ranks)}"]


def ranges(ranks: tuple[str, ...]) -> str:
    """Ranks in short: `0-7, 12`."""
    numbers = sorted({int(rank) for rank in ranks if rank.isdigit()})
    if not numbers:
        return ", ".join(ranks[:8])
    parts: list[str] = []
    start = last = numbers[0]
    for number in [*numbers[1:], -1]:
        if number == last + 1:
            last = number
            continue
        parts.append(str(start) if start == last else f"{start}-{last}")
        start = last = number
    return ", ".join(parts[:12]) + (", …" if len(parts) > 12 else "")


def _quote(item: Evidence, following: Evidence | None, several: bool) -> Iterator[Styled]:
    """A piece of evidence and where it was read; of facts that were read in one place that is said once."""
    if item.role == "fact":
        yield Styled("quote", f"  {_shorten(item.text, 300)}")
        source = (item.origin, item.line)
        if item.origin and (following is None or source != (following.origin, following.line)):
            yield Styled("faint", f"    from {origin_of(item)}")
        return
    place = f"{item.origin}:{item.line}" if several or item.origin != "-" else f"line {item.line}"
    yield Styled("faint", f"  {place}")
    for row in item.text.split("\n")[:3]:
        yield Styled("quote", f"    {_shorten(row.strip(), 300)}")


def origin_of(item: Evidence) -> str:
    """Where a fact was read: a setting's place as an editor opens it (file:line:column), or the file and line in words."""
    if item.column:
        return f"{item.origin}:{item.line}:{item.column}"
    return f"{item.origin}, line {item.line}" if item.line else item.origin


def _shorten(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _fix(number: int, fix: Fix) -> Iterator[Styled]:
    yield from wrapped("prose", fix.do, f"  {number}. ", "     ")
    for row in fix.run.split("\n") if fix.run else ():
        yield Styled("command", f"       {row}")
    if fix.verify:
        yield Styled("prose", "     to verify:")
        for row in fix.verify.split("\n"):
            yield Styled("command", f"       {row}")
    if fix.expect:
        yield from wrapped("prose", f"expect: {fix.expect}", "     ", "       ")


def _study(study: Study) -> Iterator[Styled]:
    shares = [f"{share.count} {share.name.split(' - ')[-1]}" for share in study.causes[:MOST_SHARES]]
    rest = study.count - sum(share.count for share in study.causes[:MOST_SHARES])
    tail = f", {rest} other" if rest else ""
    yield Styled("head", "How often")
    text = f"Only the symptom is certain. Of {study.count} studied failures with it ({study.name.split(' - ')[-1]}), the cause was: {', '.join(shares)}{tail}."
    yield from wrapped("prose", text, "  ", "  ")
    yield Styled("prose", "")


def _others(others: list[Cause], several: bool, head: str) -> Iterator[Styled]:
    yield Styled("head", head)
    for cause in others[:MOST_OTHERS]:
        yield from wrapped(cause.severity, cause.title, f"{MARKS[cause.severity]} ", "  ")
        place = ""
        if cause.evidence and cause.evidence[0].role != "fact":
            first = cause.evidence[0]
            place = f" · {first.origin}:{first.line}" if several else f" · line {first.line}"
        yield Styled("faint", f"  {cause.rule} · {_CERTAINTY[cause.certainty]}{place}")
        if cause.fix and cause.severity != "note":
            yield from wrapped("prose", f"{cause.fix[0].do}", "  → ", "    ")
    if len(others) > MOST_OTHERS:
        yield Styled("faint", f"  and {len(others) - MOST_OTHERS} more (all of them: --format json)")
    yield Styled("faint", "  llmdoctor explain RULE tells more of each")
    yield Styled("prose", "")


def _nothing_found(diagnosis: Diagnosis) -> Iterator[Styled]:
    yield Styled("title", f"No known failure in {diagnosis.lines:,} lines.")
    yield Styled("prose", "")
    if diagnosis.recognised:
        yield Styled("head", "Recognised")
        for item in diagnosis.recognised:
            yield Styled("quote", f"  line {item.line}: {_shorten(item.text, 200)}")
            if item.frame:
                yield Styled("prose", f"    raised in {item.library}, at {item.frame}")
        yield Styled("prose", "")


def _next(advice: tuple[Advice, ...]) -> Iterator[Styled]:
    if not advice:
        return
    yield Styled("head", "What would settle it")
    for item in advice:
        yield from wrapped("prose", item.what, "  - ", "    ")
        if item.run:
            yield Styled("command", f"      {item.run}")
    yield Styled("prose", "")


def _paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in text.strip().split("\n\n") if part.strip()]


def wrapped(role: str, text: str, first: str, rest: str) -> Iterator[Styled]:
    for row in textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    ):
        yield Styled(role, row)
