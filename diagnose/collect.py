"""Logs → a case: each input is read once, by the log reader and the banner reader together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from io import BytesIO
from typing import BinaryIO

from msgspec.structs import replace

from diagnose.errors import InputError
from diagnose.model import Case, Event, Fact, Unchecked
from diagnose.ruleset import RuleSet
from diagnose.sources.banner import BannerReader
from diagnose.sources.log import LogReader
from diagnose.sources.text import expand, open_input


def case_of_files(rules: RuleSet, paths: Sequence[str], standard_input: BinaryIO) -> Case:
    """Read files, folders and `-`. One that cannot be read is told among the unchecked, unless it is the only one.

    Secrets are masked: a report is pasted in public.
    """
    inputs = expand(list(paths))
    parts: list[Case] = []
    failed: list[Unchecked] = []
    for path in inputs:
        try:
            parts.append(_read(rules, path, standard_input))
        except InputError as error:
            if len(inputs) == 1:
                raise
            failed.append(Unchecked(_name(path), _name(str(error))))
    if failed and not parts:
        raise InputError("\n".join(item.why for item in failed))
    case = _join(parts, failed)
    if case.events or case.facts:
        from diagnose import redact

        case = redact.case(case)
    return completed(case)


def case_of_text(rules: RuleSet, text: str, origin: str = "text") -> Case:
    """Read a text that is in memory."""
    return completed(_read_stream(rules, origin, BytesIO(text.encode("utf-8", "replace"))))


def completed(case: Case) -> Case:
    """A case with what follows from its facts."""
    if not case.facts:
        return case
    from diagnose import derive

    return replace(case, facts=derive.complete(case.facts))


def _read(rules: RuleSet, path: str, standard_input: BinaryIO) -> Case:
    if path == "-":
        return _read_stream(rules, "-", standard_input)
    with open_input(path) as stream:
        return _read_stream(rules, _name(path), stream)


def _name(path: str) -> str:
    """A path as it can be written: bytes that are not UTF-8 are marked."""
    return os.fsencode(path).decode("utf-8", "replace")


def _read_stream(rules: RuleSet, origin: str, stream: BinaryIO) -> Case:
    log = LogReader(origin, rules.scanner)
    banner = BannerReader(origin, rules.fact_scanner)
    for window in log.read(stream):
        banner.take(window)
    if not log.size:
        raise InputError(
            f"{'the input' if origin == '-' else origin}: is empty; paste the log from its first error to its end"
        )
    unchecked: tuple[Unchecked, ...] = ()
    if log.skipped:
        unchecked = (
            Unchecked(f"{log.skipped:,} further lines like those reported", "more of them than are kept of one log"),
        )
    return Case(banner.facts(), log.events(), unchecked, (origin,), log.lines)


def _join(parts: Sequence[Case], failed: Sequence[Unchecked]) -> Case:
    """One case of several inputs. A fact that two inputs tell differently is kept from the first."""
    facts: dict[str, Fact] = {}
    events: list[Event] = []
    for part in parts:
        for fact in part.facts:
            facts.setdefault(fact.name, fact)
        events += part.events
    return Case(
        facts=tuple(facts.values()),
        events=tuple(events),
        unchecked=tuple(item for part in parts for item in part.unchecked) + tuple(failed),
        origins=tuple(origin for part in parts for origin in part.origins),
        lines=sum(part.lines for part in parts),
    )
