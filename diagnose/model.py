"""The nouns of llmdoctor: fact, event, case, rule, finding, cause, diagnosis.

Everything that flows from the sources to the report is one of these frozen structs (msgspec's: made in a
tenth of a dataclass's time, which start-up feels, and encoded without further code). This module imports nothing
of ours, so that every other module can speak in its terms.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Severity = Literal["error", "warning", "note"]
Certainty = Literal["confirmed", "likely", "possible"]
Kind = Literal["specific", "general", "wrapper"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
CERTAINTIES: tuple[Certainty, ...] = ("confirmed", "likely", "possible")


class Fact(Struct, frozen=True):
    """One thing that is known: `torch.version = 2.4.0`, and where it was read.

    `value` is text, a number (sizes in bytes) or a truth value; `origin` names the source, `line` and `column` the place
    in it (from 1; 0: none). `key` is what the file calls it, where that is another name: `micro_batch_size`.
    """

    name: str
    value: str | int | float | bool
    origin: str
    line: int = 0
    column: int = 0
    key: str = ""


class Frame(Struct, frozen=True):
    """One frame of a stack: the file as printed, the package it belongs to, and the path from that package on.

    `package` is `user` for a script and `stdlib` for the standard library; `place` reads `vllm/worker.py:load_model`.
    """

    file: str
    line: int
    function: str
    package: str
    place: str


class Raised(Struct, frozen=True):
    """An exception as a traceback prints it, with the frames above it (outermost first) and its line number."""

    line: int
    exception: str
    message: str
    frames: tuple[Frame, ...] = ()


class Line(Struct, frozen=True):
    """One line of an event: its number in the input, the text without colour, and without prefixes (`body`).

    `level` is what the program that wrote it called it: warning, info, error; empty where the line does not tell.
    """

    number: int
    text: str
    body: str
    level: str = ""


class Event(Struct, frozen=True):
    """One record of a log: a whole traceback with the exceptions chained to it, or a line and what continues it.

    `line` and `end_line` are 1-based lines of `origin`. `time` is seconds since the start of the year, for order only.
    `repeats` counts the same record seen again (other ranks, other times); `ranks` are all ranks that said it. `near`
    is the text around it, some lines above and below.
    """

    origin: str
    line: int
    end_line: int
    lines: tuple[Line, ...]
    raised: tuple[Raised, ...] = ()
    phase: str = ""
    rank: str = ""
    process: str = ""
    host: str = ""
    time: float | None = None
    repeats: int = 0
    ranks: tuple[str, ...] = ()
    near: str = ""


class Unchecked(Struct, frozen=True):
    """Something that could not be looked at, and why: the third answer beside yes and no."""

    what: str
    why: str


class Output(Struct, frozen=True):
    """What a probe or a system log printed: a text that becomes events. `origin` says who printed it."""

    origin: str
    text: str


class Step(Struct, frozen=True):
    """What a source is about to do, so that the report can say where it stopped answering."""

    doing: str


Reading = Fact | Unchecked | Output | Step
"""What a source yields, one after the other: what came before a crash or a hang is kept."""


class Case(Struct, frozen=True):
    """All that was collected: facts and events. Judging reads a case and never the machine.

    `machine` says that facts of a machine were collected (`check`), not only what a text told of itself.
    """

    facts: tuple[Fact, ...] = ()
    events: tuple[Event, ...] = ()
    unchecked: tuple[Unchecked, ...] = ()
    origins: tuple[str, ...] = ()
    lines: int = 0
    machine: bool = False


class Fix(Struct, frozen=True):
    """One way out: what to do, the command, how to see that it worked, and when this alternative applies."""

    do: str
    run: str = ""
    verify: str = ""
    expect: str = ""
    when: tuple[str, ...] = ()


class Labels(Struct, frozen=True):
    """Where a rule stands in the taxonomy: paths of its leaves, and the stage if it belongs to one."""

    symptom: str
    cause: str
    stage: str = ""


class Match(Struct, frozen=True):
    """What a rule looks for. `log`: any one, within a line. `where` and `facts`: all. `unless`: none, in the event."""

    log: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()


class Example(Struct, frozen=True):
    """A case that a rule must match (or must not): a log text, facts, and the captures expected."""

    log: str = ""
    facts: dict[str, str | int | float | bool] = {}
    captures: dict[str, str] = {}
    seen: str = ""


class Rule(Struct, frozen=True):
    """One kind of trouble: how to recognise it, what it means, how to fix it. `file` is where it was read.

    `symptom_only`: the text tells this symptom for certain, and not which of several causes is behind it.
    """

    id: str
    title: str
    severity: Severity
    labels: Labels
    match: Match
    why: str
    fix: tuple[Fix, ...]
    kind: Kind = "specific"
    certainty: Certainty = "likely"
    symptom_only: bool = False
    leads_to: tuple[str, ...] = ()
    restart: str = ""
    references: tuple[str, ...] = ()
    retired: str = ""
    family: str = ""
    file: str = ""


class Evidence(Struct, frozen=True):
    """The lines that prove a finding: 1-based, of `origin`, with their text and what they show.

    `column` (0: none) and `key` are those of a fact that was read from a setting in a file.
    """

    origin: str
    line: int
    end_line: int
    text: str
    role: Literal["match", "raised", "frame", "fact"] = "match"
    column: int = 0
    key: str = ""


class Finding(Struct, frozen=True):
    """A rule that matched, with its captures and the events and facts that are its evidence.

    `pinned` is how many characters of the line the pattern names word for word. `instances` is what `*` stood for, in
    each case in which the conditions of an environment rule hold.
    """

    rule: Rule
    certainty: Certainty
    captures: dict[str, str]
    events: tuple[Event, ...] = ()
    lines: tuple[Line, ...] = ()
    raised: tuple[Raised | None, ...] = ()
    facts: tuple[Fact, ...] = ()
    unknown: tuple[str, ...] = ()
    pinned: int = 0
    instances: tuple[str, ...] = ()


class Share(Struct, frozen=True):
    """How often a cause was behind a symptom among the studied failures."""

    cause: str
    name: str
    count: int


class Study(Struct, frozen=True):
    """What the study of 705 failures says of a symptom: how often it was seen and which causes were behind it."""

    symptom: str
    name: str
    count: int
    causes: tuple[Share, ...]


class Symptom(Struct, frozen=True):
    """A finding that another one explains, and the ranks that said it."""

    rule: str
    title: str
    evidence: tuple[Evidence, ...]
    ranks: tuple[str, ...] = ()


class Cause(Struct, frozen=True):
    """One diagnosis: a cause in plain words, its proof, why it happens, the ways out, and what it explains.

    `about` is the title without the values of this case, the same wherever the rule is told.
    """

    rule: str
    title: str
    severity: Severity
    certainty: Certainty
    kind: Kind
    symptom: str
    cause: str
    stage: str
    evidence: tuple[Evidence, ...]
    why: str
    fix: tuple[Fix, ...]
    restart: str
    captures: dict[str, str]
    symptoms: tuple[Symptom, ...] = ()
    seen: int = 1
    ranks: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    study: Study | None = None
    references: tuple[str, ...] = ()
    about: str = ""


class Recognised(Struct, frozen=True):
    """What an unmatched text was recognised as: the exception, the library and the frame that raised it."""

    origin: str
    line: int
    text: str
    exception: str = ""
    library: str = ""
    frame: str = ""


class Advice(Struct, frozen=True):
    """A piece of evidence that would settle an open question, and how to get it."""

    what: str
    run: str = ""


class Area(Struct, frozen=True):
    """A line of the checklist: a part of the machine or environment, what was found there, and how it stands.

    `status` is the worst finding there (error, warning, note), ok without one, or unchecked.
    """

    name: str
    status: Literal["ok", "note", "warning", "error", "unchecked"]
    summary: str
    rules: tuple[str, ...] = ()


class Accepted(Struct, frozen=True):
    """A cause that a project knows of and accepts: by its baseline, or by its settings, which give a reason."""

    cause: Cause
    by: Literal["baseline", "ignore"]
    reason: str = ""


class Diagnosis(Struct, frozen=True):
    """The answer: causes in order (the first is the root cause), facts read, what was not checked, what to get next.

    `areas` is the checklist of a machine; empty if only texts were read. `accepted` are causes that do not count.
    """

    version: str
    tool: str
    origins: tuple[str, ...]
    lines: int
    diagnoses: tuple[Cause, ...]
    facts: tuple[Fact, ...] = ()
    recognised: tuple[Recognised, ...] = ()
    advice: tuple[Advice, ...] = ()
    unchecked: tuple[Unchecked, ...] = ()
    areas: tuple[Area, ...] = ()
    accepted: tuple[Accepted, ...] = ()
