"""A machine, a Python environment, a launch command and a model's files → a case: the sources side by side, with time limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from diagnose import redact
from diagnose.collect import case_of_text, completed
from diagnose.errors import InputError
from diagnose.model import Case, Event, Fact, Output, Reading, Unchecked
from diagnose.ruleset import RuleSet
from diagnose.sources.child import Source, read_all

SECONDS = 22.0
"""How long all sources together may take, whatever hangs. `--deep` comes on top: its probes have limits of their own."""
FIND_SECONDS = 3.0
"""How long it may take to find the interpreter, and what `--for` names: a folder may lie on a file server that is gone."""
DEEP_SECONDS = 600.0
DATA_SECONDS = 3600.0
"""Training data may have any size: it is read to its end, with a progress bar, unless --sample is given."""


class Request(Struct, frozen=True):
    """What to look at. `python` is an interpreter or an environment's folder (empty: find it); `wanted` is `--for`.

    `model` is a path or Hub id (empty: the one that `command` or `files` name), `revision` its branch, tag or commit,
    `draft` a draft model, `command` the arguments that start an engine or a training, `files` manifests that do. `configs`
    are the settings of a training, `data` what it learns from; with `sample` only a part of that is read. `online` asks the
    Hub too. Without `machine` only what is named is looked at.
    """

    environ: Mapping[str, str]
    folder: str
    python: str = ""
    wanted: str = ""
    deep: bool = False
    model: str = ""
    revision: str = ""
    draft: str = ""
    command: Sequence[str] = ()
    files: Sequence[str] = ()
    configs: Sequence[str] = ()
    data: Sequence[str] = ()
    sample: bool = False
    online: bool = False
    machine: bool = True


def case_of_machine(
    rules: Callable[[], RuleSet], request: Request, progress: Callable[[list[str]], None] = lambda names: None
) -> Case:
    """Read the machine and the environment. What cannot be read is told among the unchecked; nothing is raised for it.

    `rules` are loaded when all is read: the children that read are then small. `progress` is told the names of the parts
    that are still being read.
    """
    collected = _Collected()
    if request.command or request.files:
        collected.take(read_all([_launch(request)]))
    if request.machine and _is_elsewhere(collected.facts):
        collected.take([Unchecked("the machine", "a pod runs on a node of its cluster; check there what it has")])
    if request.configs or request.command:
        collected.take(read_all([_training(request, collected.facts)]))
    away = _model_elsewhere(request, collected.facts)
    collected.take(away)
    request = _as_launched(request, collected.facts, bool(away))
    if request.machine and _is_training_here(collected.facts):
        collected.take(read_all([_around(request, collected.facts)]))
    if request.machine:
        collected.take(_environment(request, collected.facts))
    interpreter = _text(collected.facts, "python.path")
    collected.take(read_all(_sources(request, interpreter), progress, SECONDS))
    if request.data or "training.dataset.0.path" in collected.facts:
        collected.take(read_all([_data(request, collected.facts)], progress))
    if request.wanted:
        collected.take(read_all([_wanted(request, collected.facts)]))
    if request.deep and interpreter:
        collected.take(read_all([_deep(request, interpreter, collected.facts)], progress, DEEP_SECONDS))
    return collected.case(rules())


class _Collected:
    """The readings of all sources, masked as they come in. Of two facts with one name the first is kept."""

    def __init__(self) -> None:
        self.facts: dict[str, Fact] = {}
        self._outputs: list[Output] = []
        self._unchecked: list[Unchecked] = []

    def take(self, readings: Iterable[Reading]) -> None:
        for reading in readings:
            masked = redact.reading(reading)
            if isinstance(masked, Fact):
                self.facts.setdefault(masked.name, masked)
            elif isinstance(masked, Output):
                self._outputs.append(masked)
            elif isinstance(masked, Unchecked):
                self._unchecked.append(masked)

    def case(self, rules: RuleSet) -> Case:
        events: list[Event] = []
        for output in self._outputs:
            if output.text.strip():
                events += case_of_text(rules, output.text, output.origin).events
        unchecked = tuple(dict.fromkeys(self._unchecked))
        return completed(Case(tuple(self.facts.values()), tuple(events), unchecked, machine=True))


def _launch(request: Request) -> Source:
    from diagnose.sources import launch

    return Source(
        "launch command",
        lambda: launch.read(request.command, request.files, request.environ, request.folder),
        FIND_SECONDS,
    )


def _training(request: Request, facts: Mapping[str, Fact]) -> Source:
    from diagnose.sources import training

    return Source(
        "training configuration",
        lambda: training.read(request.configs, request.environ, request.folder, facts),
        FIND_SECONDS,
    )


def _is_training_here(facts: Mapping[str, Fact]) -> bool:
    """Whether settings of a training are known that counts with this machine's folders, not with those of a container."""
    return _text(facts, "launch.contained") != "True" and any(name.startswith("training.") for name in facts)


def _around(request: Request, facts: Mapping[str, Fact]) -> Source:
    from diagnose.sources.training import around

    return Source("training output", lambda: around.read(facts, request.environ, request.folder), FIND_SECONDS)


def _data(request: Request, facts: Mapping[str, Fact]) -> Source:
    from diagnose.sources import data

    return Source(
        "training data",
        lambda: data.read(request.data, request.environ, request.folder, facts, request.sample),
        DATA_SECONDS,
    )


def _model_elsewhere(request: Request, facts: Mapping[str, Fact]) -> list[Reading]:
    """Why the model of a training is not looked at: the machine that trains is another one, and the path is not on this one."""
    named = _text(facts, "training.model")
    if request.machine or request.model or not named or _text(facts, "training.started") == "True":
        return []
    return list(read_all([Source("the model", lambda: _missing(named, request), FIND_SECONDS)]))


def _missing(model: str, request: Request) -> Iterator[Reading]:
    from diagnose.sources.checkpoint import where

    if where.find(model, request.environ, request.folder).problem == "no-such-path":
        yield Unchecked("the model", f"{model} is not here: the settings name it for where the training runs")


def _as_launched(request: Request, facts: Mapping[str, Fact], away: bool = False) -> Request:
    """The request with what the launch command says of it: the model and the interpreter, where none were named.

    `away`: the model that the settings name is on another machine.
    """
    trained = "" if away else _text(facts, "training.model")
    return replace(
        request,
        environ=_environ(request.environ, facts),
        revision=_text(facts, "launch.revision"),
        model=request.model or _launched(facts, "launch.model", "deploy.model_path") or trained,
        draft=_launched(facts, "launch.draft_model"),
        python=request.python or _text(facts, "launch.python"),
        machine=request.machine and not _is_elsewhere(facts),
    )


def _environ(environ: Mapping[str, str], facts: Mapping[str, Fact]) -> Mapping[str, str]:
    """The variables with which a model is looked for: those of the command go before those of the shell.

    Of a container only the cache that is mounted into it counts: its own paths are not those of this machine.
    """
    if _text(facts, "launch.contained") == "True":
        cache = _text(facts, "deploy.cache_path")
        return {**environ, "HF_HUB_CACHE": cache} if cache else environ
    head, secret = "launch.env.", "set"  # a secret's value is not told
    told = {name[len(head) :]: str(fact.value) for name, fact in facts.items() if name.startswith(head)}
    return {**environ, **{name: value for name, value in told.items() if value != secret}}


def _is_elsewhere(facts: Mapping[str, Fact]) -> bool:
    """Whether the engine runs on a machine that is not this one: a pod's node."""
    return _text(facts, "deploy.kind") == "kubernetes"


def _launched(facts: Mapping[str, Fact], name: str, here: str = "") -> str:
    """A model that a command names: where it lies on this machine (the fact `here`), or its id.

    A path inside a container says nothing on this machine.
    """
    named = _text(facts, name)
    inside = _text(facts, "launch.contained") == "True" and named.startswith(("/", ".", "~"))
    return _text(facts, here) or ("" if inside else named)


def _environment(request: Request, facts: Mapping[str, Fact]) -> Iterable[Reading]:
    """Which interpreter to look at; that of this machine says nothing of an engine that is started in a container."""
    image = _text(facts, "deploy.image")
    if image and not request.python:
        return [Unchecked("Python packages", f"they are in the image {image}")]
    return read_all([Source("the Python environment", lambda: _interpreter(request), FIND_SECONDS)])


def _text(facts: Mapping[str, Fact], name: str) -> str:
    return str(facts[name].value) if name in facts else ""


def _interpreter(request: Request) -> Iterator[Reading]:
    """The interpreter to look at, or why there is none."""
    from diagnose.sources.interpreter import find_interpreter

    try:
        yield Fact("python.path", find_interpreter(request.python or None, request.environ), "the environment")
    except InputError as error:
        yield Unchecked("the Python environment", str(error))


def _sources(request: Request, interpreter: str) -> list[Source]:
    """All that can be read side by side."""
    return [
        *(_of_machine(request, interpreter) if request.machine else []),
        *(_of_model(request) if request.model else []),
        *(_of_draft(request) if request.draft else []),
    ]


def _of_model(request: Request) -> list[Source]:
    from diagnose.sources import checkpoint, tokenizer

    model, environ, folder = request.model, request.environ, request.folder
    return [
        Source("model files", lambda: checkpoint.read(model, environ, folder, request.online, request.revision), 20),
        Source("tokenizer", lambda: tokenizer.read(model, environ, folder), 20),
    ]


def _of_draft(request: Request) -> list[Source]:
    from diagnose.sources import draft

    return [Source("the draft model", lambda: draft.read(request.draft, request.environ, request.folder), FIND_SECONDS)]


def _of_machine(request: Request, interpreter: str) -> list[Source]:
    from diagnose.sources import gpu, host, kernel, python

    environ = request.environ
    packages = Source("Python packages", lambda: python.read(interpreter, environ, request.folder), 15)
    return [
        *([packages] if interpreter else []),  # first: it takes longest
        Source("GPU driver", lambda: gpu.read(environ), 15),
        Source("host", lambda: host.read(environ, folders=[request.folder]), 8),
        Source("kernel log", lambda: kernel.read(environ=environ), 8),
    ]


def _wanted(request: Request, facts: Mapping[str, Fact]) -> Source:
    from diagnose.sources import wanted

    return Source("--for", lambda: wanted.read(request.wanted, request.environ, facts), FIND_SECONDS)


def _deep(request: Request, interpreter: str, facts: Mapping[str, Fact]) -> Source:
    from diagnose.sources import deep

    installed = {
        name.removesuffix(".version"): str(fact.value) for name, fact in facts.items() if name.endswith(".version")
    }
    count = facts.get("gpu.count")
    gpus = count.value if count is not None and isinstance(count.value, int) else 0
    return Source(
        "imports", lambda: deep.read(interpreter, request.environ, installed, gpus, request.folder), DEEP_SECONDS
    )


def joined(log: Case, machine: Case) -> Case:
    """A log's case with the facts of the machine that it comes from. What the log tells of itself goes first.

    Where both tell another version of a package, it may not be the environment that failed: that is told.
    """
    first: dict[str, Fact] = {}
    for fact in log.facts + machine.facts:
        first.setdefault(fact.name, fact)
    return completed(
        Case(
            facts=tuple(first.values()),
            events=log.events + machine.events,
            unchecked=log.unchecked + _differences(log, machine) + machine.unchecked,
            origins=log.origins,
            lines=log.lines,
            machine=True,
        )
    )


def _differences(log: Case, machine: Case) -> tuple[Unchecked, ...]:
    """That a log tells other versions than the environment has, if so."""
    here = {fact.name: fact.value for fact in machine.facts}
    others = [
        f"{fact.name.removesuffix('.version')} {fact.value} (here {here[fact.name]})"
        for fact in log.facts
        if fact.name.endswith(".version") and not _agree(str(here.get(fact.name, fact.value)), str(fact.value))
    ]
    if not others:
        return ()
    told = ", ".join(others[:4]) + (" …" if len(others) > 4 else "")
    why = f"the log tells {told}; if it is another one, name it with --python"
    return (Unchecked("whether this is the environment that the log comes from", why),)


def _agree(one: str, other: str) -> bool:
    """Whether two versions can be the same: a text may leave out the local part, or tell 3.11 for 3.11.7."""
    a, b = one.partition("+")[0].split("."), other.partition("+")[0].split(".")
    least = min(len(a), len(b))
    return a[:least] == b[:least]
