"""The command that starts an engine, and the manifests around it → facts; nothing is run.

`read` takes a command as a shell hands it over (or its text) and manifests; `command_words` one command whose words are
known, for what has commands inside it: a container, a pod, a launcher.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from diagnose.model import Fact, Reading, Unchecked
from diagnose.sources.jsonfile import read_bytes
from diagnose.sources.launch import programs, shell, slurm
from diagnose.sources.launch.programs import Launch
from diagnose.sources.launch.shell import Problem, Word

ORIGIN = "command line"
LONGEST = 200
_SHELLS = ("bash", "sh", "zsh", "dash")
MOST_SCRIPT = 1 << 20
"""The largest script that sbatch is looked into for."""


def read(command: Sequence[str], files: Sequence[str], environ: Mapping[str, str], folder: str) -> Iterator[Reading]:
    """Read a launch command (words, or one text for a shell) and manifests. Of two facts with one name the first counts."""
    from diagnose.sources.launch import around

    if len(command) == 1 and any(blank in command[0].strip() for blank in " \n\t"):
        yield from text(command[0], environ, folder)
    elif command:
        yield from command_words(shell.words_of(list(command)), {}, environ, folder)
    for path in files:
        yield from around.file(path, environ, folder)


def text(source: str, environ: Mapping[str, str], folder: str, origin: str = ORIGIN) -> Iterator[Reading]:
    """Read a text for a shell: the first command in it that starts an engine, or something that starts one; else a training."""
    from diagnose.sources.launch import around, trainings

    script = shell.parse(source, environ)
    yield from _problems(script.problems, origin)
    known: dict[str, Word] = {}
    found: list[tuple[int, dict[str, Word]]] = []
    for number, one in enumerate(script.commands):
        known.update(programs.exported(one))
        assigned = {**known, **dict(one.assigned)}
        words = programs.unwrapped(one.words, assigned)
        if programs.resolve(one.words, assigned, environ) is not None or around.is_around(words):
            found = [(number, assigned)]
            break
        if trainings.resolve(one.words, dict(assigned), environ) is not None:
            found.append((number, assigned))
    for number, assigned in found[-1:]:
        one = script.commands[number]
        yield from _cut_off(script.commands[number + 1 : number + 2], one, origin)
        yield from _batch(slurm.directives(source), one.words, assigned, environ, origin)
        yield from command_words(one.words, assigned, environ, folder, origin)
        return
    yield Unchecked("launch command", "no command of an engine or launcher that is known stands in it")


def _batch(
    job: Mapping[str, Word],
    words: Sequence[Word],
    assigned: Mapping[str, Word],
    environ: Mapping[str, str],
    origin: str,
) -> Iterator[Reading]:
    """What a job's #SBATCH lines and the `srun` before its command tell together."""
    if job:
        yield from _tasks(job, words, assigned, environ, origin)


def _tasks(
    job: Mapping[str, Word],
    words: Sequence[Word],
    assigned: Mapping[str, Word],
    environ: Mapping[str, str],
    origin: str,
) -> Iterator[Reading]:
    """On how many machines how many tasks run the command; srun's own options go before those of the job."""
    from diagnose.sources.launch import around, trainings

    bare = programs.unwrapped(words, dict(assigned))
    step = slurm.srun(words[: len(words) - len(bare)])
    if step is None and not job:
        return
    given = {**job, **(step or {})}
    yield from slurm.facts(given, step is not None, origin)
    starts_training = trainings.resolve(words, dict(assigned), environ) is not None
    if step is not None and starts_training and not around.is_around(bare):
        yield from slurm.alone(given, origin)


def _job(words: Sequence[Word], environ: Mapping[str, str], folder: str) -> Iterator[Reading]:
    """`sbatch [options] script`: the script, as Slurm runs it on the first machine of the job."""
    given, at = slurm.options(words[1:])
    named = words[1 + at].text if 1 + at < len(words) else ""
    data = read_bytes(os.path.join(folder, named), MOST_SCRIPT) if named else None
    if not isinstance(data, bytes):
        why = f"{named[:LONGEST]}: {data.error}" if data is not None else "sbatch is given no script"
        yield Unchecked("launch command", why)
        return
    source = data.decode("utf-8", "replace")
    if given:
        yield from slurm.facts({**slurm.directives(source), **given}, "srun " in source, named[:LONGEST])
    yield from text(source, environ, folder, named[:LONGEST])


def _shell_script(words: Sequence[Word], folder: str) -> str:
    """The shell script that words start, where it is here: `bash [-x] run.sh`, `./run.sh`."""
    rest = list(words)
    if rest and programs.base(rest[0].text) in _SHELLS:
        rest = rest[1:]
        while rest and rest[0].text.startswith("-"):
            if "c" in rest[0].text.lstrip("-") and not rest[0].text.startswith("--"):
                return ""
            rest = rest[1:]
    elif not rest or not rest[0].text.endswith(".sh"):
        return ""
    name = rest[0].text if rest else ""
    return name if name and os.path.isfile(os.path.join(folder, name)) else ""


def _told(given: Mapping[str, Word]) -> dict[str, str]:
    return {name: word.text for name, word in given.items() if word.known}


def _problems(problems: Sequence[Problem], origin: str) -> Iterator[Reading]:
    for number, problem in enumerate(problems):
        yield Fact(f"launch.shell.{number}.problem", problem.kind, origin, problem.line)
        yield Fact(f"launch.shell.{number}.line", problem.line, origin, problem.line)
        if problem.text:
            yield Fact(f"launch.shell.{number}.text", problem.text[:LONGEST], origin, problem.line)


def _cut_off(following: Sequence[shell.Simple], before: shell.Simple, origin: str) -> Iterator[Reading]:
    """A command that begins with a flag: the line above lacks its backslash."""
    for one in following:
        if before.after == "\n" and one.words and one.words[0].text.startswith("-") and not one.words[0].quoted:
            first = one.words[0]
            yield Fact("launch.cut_off", first.text[:LONGEST], origin, first.line)
            yield Fact("launch.cut_off_line", first.line - 1, origin, first.line - 1)


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
    from diagnose.sources.launch import around, engine, trainings

    given = dict(assigned)
    bare = programs.unwrapped(words, given)
    if bare and programs.base(bare[0].text) == "sbatch":
        yield from _job(bare, environ, folder)
        return
    shell_script = "" if inside else _shell_script(bare, folder)
    if shell_script:
        data = read_bytes(os.path.join(folder, shell_script), MOST_SCRIPT)
        source = data.decode("utf-8", "replace") if isinstance(data, bytes) else ""
        yield from text(source, {**environ, **_told(given)}, folder, shell_script[:LONGEST])
        return
    yield from _tasks({}, words, assigned, environ, origin)
    if around.is_around(bare):
        yield from around.command(bare, given, environ, folder, origin)
        return
    launch: Launch | None = programs.resolve(words, assigned, environ)
    if launch is None:
        training = trainings.resolve(words, given, environ)
        if training is not None:
            yield from trainings.read(training, given, environ, folder, origin, inside)
            return
        named = words[0].text[:80] if words else ""
        yield Unchecked("launch command", f"{named or 'an empty command'} starts no engine or launcher that is known")
        return
    yield from engine.read(launch, environ, folder, origin, inside)
