"""A command that trains → its program, its script, the configurations that it names and its own arguments.

What the arguments mean is told by `sources/training`: here they are only taken apart.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from itertools import pairwise

from msgspec import Struct

from diagnose.model import Fact, Reading
from diagnose.sources.launch import arguments, engine, launchers, programs, shell, words
from diagnose.sources.launch.arguments import Given
from diagnose.sources.launch.shell import Word

LONGEST = 400
LONGEST_VALUE = 4000
MOST = 300
_PYTHON = re.compile(r"(?:python|pypy)(?:\d+(?:\.\d+)*)?(?:\.exe)?|py(?:\.exe)?")
_TRAINERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "trl": ("trl", ("sft", "dpo", "kto", "grpo", "rloo", "reward", "distillation")),
    "axolotl": ("axolotl", ("train", "preprocess", "evaluate", "merge-lora", "inference", "quantize")),
    "llamafactory-cli": ("llamafactory", ("train", "export", "chat", "api", "webchat")),
    "lmf": ("llamafactory", ("train", "export", "chat", "api", "webchat")),
    "tune": ("torchtune", ("run",)),
}
"""Programs that read a training's configuration, with the kind of it, and which of their commands do."""
_MODULES: Mapping[str, tuple[str, str, str]] = {
    "axolotl.cli.train": ("axolotl", "axolotl", "train"),
    "axolotl.cli.preprocess": ("axolotl", "axolotl", "preprocess"),
    "axolotl.cli.evaluate": ("axolotl", "axolotl", "evaluate"),
    "axolotl.cli.merge_lora": ("axolotl", "axolotl", "merge-lora"),
    "axolotl.cli.inference": ("axolotl", "axolotl", "inference"),
    "llamafactory.launcher": ("llamafactory-cli", "llamafactory", "train"),
    "trl.scripts.sft": ("trl", "trl", "sft"),
    "trl.scripts.dpo": ("trl", "trl", "dpo"),
    "trl.scripts.kto": ("trl", "trl", "kto"),
    "trl.scripts.grpo": ("trl", "trl", "grpo"),
    "trl.scripts.rloo": ("trl", "trl", "rloo"),
    "trl.scripts.reward": ("trl", "trl", "reward"),
}
"""What `python -m MODULE` starts: program, kind and command."""
_CONFIG_FLAGS = ("config", "config_file", "config_path", "cfg", "yaml", "yaml_file", "config_yaml")
_SHELL_TEXT = re.compile(r"-[a-z]*c[a-z]*")
_CONFIG = re.compile(r"[^=\s]+\.(?:ya?ml|json)")
_ASSIGNED = re.compile(r"[A-Za-z_][\w.+~]*=.*", re.ASCII | re.DOTALL)


class Training(Struct, frozen=True):
    """A command that trains: the program as people say it, the kind of its configuration, what it is told to do, its script.

    `words` are its own arguments, `path` the program or interpreter as it was written.
    """

    program: str
    kind: str
    task: str = ""
    script: Word | None = None
    words: tuple[Word, ...] = ()
    path: str = ""


def resolve(
    given: Sequence[Word], assigned: dict[str, Word], environ: Mapping[str, str], deep: int = 0
) -> Training | None:
    """The training that words start; None where they start something else. What `env` sets is added to `assigned`."""
    rest = programs.unwrapped(given, assigned)
    if not rest:
        return None
    name = programs.base(rest[0].text)
    if name in ("bash", "sh", "zsh", "dash") and deep < 4:
        return _in_shell(rest, assigned, environ, deep)
    if _PYTHON.fullmatch(name):
        return _python(rest)
    return _program(name, rest)


def _program(name: str, rest: Sequence[Word]) -> Training | None:
    if name in _TRAINERS and len(rest) > 1:
        kind, commands = _TRAINERS[name]
        if rest[1].text in commands:
            return Training(f"{name} {rest[1].text}", kind, rest[1].text, None, tuple(rest[2:]), rest[0].text)
        return None
    if name.endswith((".py", ".ipynb")):
        return Training(name, "script", "", rest[0], tuple(rest[1:]))
    return None


def _python(rest: Sequence[Word]) -> Training | None:
    """`python [-u …] train.py …` and `python -m MODULE …`; not what is given with -c."""
    at = 1
    while at < len(rest) and rest[at].text.startswith("-"):
        text = rest[at].text
        if text == "-c":
            return None
        if text.startswith("-m"):
            module = text[2:] or (rest[at + 1].text if at + 1 < len(rest) else "")
            return _module(module, rest[at + (1 if text[2:] else 2) :], rest[0].text, rest[at])
        at += 2 if text in ("-W", "-X", "-Q") else 1
    if at >= len(rest):
        return None
    found = _program(programs.base(rest[at].text), rest[at:])
    if found is not None:
        return Training(found.program, found.kind, found.task, found.script, found.words, rest[0].text)
    return None


def _module(name: str, rest: Sequence[Word], path: str, place: Word) -> Training | None:
    if name in _MODULES:
        program, kind, task = _MODULES[name]
        return Training(f"{program} {task}", kind, task, None, tuple(rest), path)
    if name in ("llamafactory.cli", "axolotl.cli.main", "trl.cli", "trl.cli.main"):
        program = {"llamafactory": "llamafactory-cli"}.get(name.partition(".")[0], name.partition(".")[0])
        return _program(program, (Word(program, place.line), *rest))
    if not re.fullmatch(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", name, re.ASCII) or name in programs.MODULES:
        return None
    script = Word(name.replace(".", "/") + ".py", place.line, place.column)
    return Training(name, "script", "", script, tuple(rest), path)


def _in_shell(
    rest: Sequence[Word], assigned: dict[str, Word], environ: Mapping[str, str], deep: int
) -> Training | None:
    """`bash -c "…"`: the first training in the text."""
    text = next((word.text for before, word in pairwise(rest) if _SHELL_TEXT.fullmatch(before.text)), None)
    if text is None:
        return None
    known = {**environ, **{name: value.text for name, value in assigned.items() if value.known}}
    for command in shell.parse(text, known).commands:
        assigned.update({**dict(programs.exported(command)), **dict(command.assigned)})
        found = resolve(command.words, assigned, environ, deep + 1)
        if found is not None:
            return found
    return None


def read(
    training: Training, assigned: Mapping[str, Word], environ: Mapping[str, str], folder: str, origin: str, inside: bool,
    launched: bool = False,
) -> Iterator[Reading]:  # fmt: skip
    """The facts of a training's command. `inside`: it runs in a container; `launched`: the facts of its launcher are told."""
    place = training.words[0] if training.words else Word("")
    if not launched:
        launch = programs.Launch(training.program, "", training.words, dict(assigned), (), training.path)
        yield Fact("launch.program", training.program[:LONGEST], origin)
        yield Fact("launch.contained", inside, origin)
        yield from engine.assigned(launch, origin)
        if not inside:
            yield from engine.interpreter(launch, folder, origin)
    own = tuple(training.words)
    if training.kind == "torchtune":
        own = yield from _tune(training.words, assigned, environ, folder, origin)
    yield Fact("training.command", training.program[:LONGEST], origin, place.line)
    yield Fact("training.command_kind", training.kind, origin, place.line)
    if training.task:
        yield Fact("training.command_task", training.task, origin, place.line)
    if training.script is not None and training.script.known and _is_started(training, training.script, folder):
        yield Fact("training.command_script", training.script.text[:LONGEST], origin, training.script.line)
    told = arguments.read(own, None)
    if not launched:
        yield from words.read(own, told.given, origin)
    yield from _arguments(training, told, origin)


def _is_started(training: Training, script: Word, folder: str) -> bool:
    """Whether it is known which file starts: a module (`-m a.b`) may be one of a package that is installed."""
    is_module = f"{training.program.replace('.', '/')}.py" == script.text
    return not is_module or os.path.lexists(os.path.join(folder, script.text))


def _tune(
    own: Sequence[Word], assigned: Mapping[str, Word], environ: Mapping[str, str], folder: str, origin: str
) -> Generator[Reading, None, tuple[Word, ...]]:
    """torchtune's own options are torchrun's; behind them the recipe."""
    rest = tuple(own)
    if any("nproc" in word.text for word in own):
        inside = yield from launchers.read((Word("torchrun"), *own), assigned, environ, folder, origin)
        rest = inside.words if inside is not None else ()
    while rest and rest[0].text.startswith("-"):
        rest = rest[1:] if "=" in rest[0].text else rest[2:]
    return rest[1:]


def _arguments(training: Training, told: arguments.Arguments, origin: str) -> Iterator[Reading]:
    """`training.command_config.*` and `training.argument.*`."""
    given = _with_more(told)
    configs: list[tuple[str, str, int]] = []
    others = [stray.word for stray in told.others if not stray.after and stray.word.known]
    taken: set[int] = set()
    for number, flag in enumerate(given):
        if flag.name in _CONFIG_FLAGS and flag.values and flag.known and training.kind != "axolotl":
            configs.append((flag.values[0], flag.flag, flag.line))
            taken.add(number)
        elif training.kind in ("axolotl", "llamafactory") and len(flag.values) == 1 and _CONFIG.fullmatch(flag.values[0]) and not others and flag.name in ("debug", "resume", "prepare_ds_accelerator"):  # fmt: skip
            configs.append((flag.values[0], "", flag.line))
    for word in told.others:
        if _CONFIG.fullmatch(word.word.text) and word.word.known and (not word.after or training.kind != "script"):
            configs.append((word.word.text, "", word.word.line))
    for number, (path, key, line) in enumerate(configs[:8]):
        yield Fact(f"training.command_config.{number}", path[:LONGEST], origin, line, 0, key)
    number = 0
    for at, flag in enumerate(given[:MOST]):
        if at not in taken and flag.known:
            yield from _argument(number, flag, origin)
            number += 1
    for stray in told.others:
        if _ASSIGNED.fullmatch(stray.word.text) and stray.word.known and number < MOST and training.kind != "script":
            key, _, value = stray.word.text.partition("=")
            yield from _argument(number, Given(key, key.lstrip("+~"), (value,), stray.word.line), origin)
            number += 1


def _with_more(told: arguments.Arguments) -> list[Given]:
    """The flags, each with the words behind its value that belong to nothing else: `--lora_target_modules q_proj v_proj`."""
    made: list[Given] = []
    for flag in told.given:
        more = [
            stray.word for stray in told.others if stray.after == flag.flag and not _ASSIGNED.fullmatch(stray.word.text)
        ]
        last = flag is next((one for one in reversed(told.given) if one.flag == flag.flag), None)
        if more and flag.values and last and not any(_CONFIG.fullmatch(word.text) for word in more):
            flag = Given(flag.flag, flag.name, (*flag.values, *(word.text for word in more)), flag.line, flag.known)
        made.append(flag)
    return made


def _argument(number: int, flag: Given, origin: str) -> Iterator[Reading]:
    """One argument: its name, and its value as text; several words as a list in JSON."""
    key = f"training.argument.{number}"
    yield Fact(
        f"{key}.key",
        (flag.name if flag.flag.startswith("-") else flag.flag)[:LONGEST],
        origin,
        flag.line,
        0,
        flag.flag[:LONGEST],
    )
    if len(flag.values) > 1:
        yield Fact(f"{key}.values", json.dumps(flag.values)[:LONGEST_VALUE], origin, flag.line, 0, flag.flag[:LONGEST])
    else:
        value = engine.told(flag.name, flag.value)
        yield Fact(f"{key}.value", value[:LONGEST_VALUE], origin, flag.line, 0, flag.flag[:LONGEST])
