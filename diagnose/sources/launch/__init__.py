"""The command that starts an engine, and the manifests around it → facts; nothing is run.

`read` takes a command as a shell hands it over (or its text) and manifests; `command` one command whose words are known,
for what has commands inside it: a container, a pod, a launcher.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from diagnose.model import Fact, Reading, Unchecked
from diagnose.sources.launch import arguments, programs, shell
from diagnose.sources.launch.arguments import Given
from diagnose.sources.launch.programs import Launch
from diagnose.sources.launch.shell import Word
from diagnose.sources.settings import shown

ORIGIN = "command line"
CONTAINERS = ("docker", "podman", "nerdctl", "docker-compose", "kubectl")
LAUNCHERS = ("torchrun", "torch.distributed.launch", "accelerate launch", "deepspeed")


def read(command: Sequence[str], files: Sequence[str], environ: Mapping[str, str], folder: str) -> Iterator[Reading]:
    """Read a launch command (words, or one text for a shell) and manifests. Of two facts with one name the first counts."""
    if len(command) == 1 and any(blank in command[0].strip() for blank in " \n\t"):
        yield from text(command[0], environ, folder)
    elif command:
        yield from command_words(shell.words_of(list(command)), {}, environ, folder)


def text(source: str, environ: Mapping[str, str], folder: str, origin: str = ORIGIN) -> Iterator[Reading]:
    """Read a text for a shell: the first command in it that starts an engine."""
    script = shell.parse(source, environ)
    found = programs.launches(script, environ)
    for number, problem in enumerate(script.problems):
        yield Fact(f"launch.shell.{number}.problem", problem.kind, origin, problem.line)
        if problem.text:
            yield Fact(f"launch.shell.{number}.text", problem.text, origin, problem.line)
    if not found:
        yield Unchecked("launch command", "no command of an engine or launcher that is known stands in it")
        return
    best = next((launch for launch in found if launch.engine), found[0])
    yield from launched(best, environ, folder, origin)


def command(
    argv: Sequence[str],
    assigned: Mapping[str, str],
    folder: str,
    *,
    environ: Mapping[str, str] | None = None,
    origin: str = ORIGIN,
    line: int = 0,
    inside: bool = False,
) -> Iterator[Reading]:
    """Read one command whose words are known: `argv` with the program, `assigned` the variables set for it.

    `origin` and `line` are where it stands. `inside`: it runs in a container, so that its paths are not looked for here.
    """
    words = [Word(item, line) for item in argv]
    given = {name: Word(value, line) for name, value in assigned.items()}
    yield from command_words(words, given, environ or {}, folder, origin, inside)


def command_words(
    words: Sequence[Word],
    assigned: Mapping[str, Word],
    environ: Mapping[str, str],
    folder: str,
    origin: str = ORIGIN,
    inside: bool = False,
) -> Iterator[Reading]:
    """Like `command`, for words that know their places."""
    launch = programs.resolve(words, assigned, environ)
    if launch is None:
        named = words[0].text[:80] if words else ""
        yield Unchecked("launch command", f"{named or 'an empty command'} starts no engine or launcher that is known")
        return
    yield from launched(launch, environ, folder, origin, inside)


def launched(
    launch: Launch, environ: Mapping[str, str], folder: str, origin: str = ORIGIN, inside: bool = False
) -> Iterator[Reading]:
    """The facts of a command that starts a known program."""
    yield Fact("launch.program", launch.program, origin)
    if launch.engine:
        yield Fact("engine.name", launch.engine, origin)
    for name, word in sorted(launch.assigned.items()):
        if word.known:
            yield Fact(f"launch.env.{name}", shown(name, word.text), origin, word.line)
    from diagnose import engines

    read_ = arguments.read(launch.words, engines.table(launch.engine), launch.program)
    yield from _given(read_.given, origin)
    model = _model(launch, read_)
    if model is not None:
        yield Fact("launch.model", model.text, origin, model.line)


def _given(given: Sequence[Given], origin: str) -> Iterator[Reading]:
    for number, flag in enumerate(given):
        yield Fact(f"launch.given.{number}.flag", flag.flag, origin, flag.line)
        if flag.known:
            yield Fact(f"launch.arg.{flag.name}", shown(flag.name, flag.value), origin, flag.line)


def _model(launch: Launch, told: arguments.Arguments) -> Word | None:
    """The model that a command names: its flag, or the first word that belongs to no flag."""
    for flag in told.given:
        if flag.name in ("model", "model_path", "model_id", "hf_repo") and flag.values and flag.known:
            return Word(flag.values[0], flag.line)
    if launch.program.endswith(" serve") and told.others and told.others[0].known:
        return told.others[0]
    return None
