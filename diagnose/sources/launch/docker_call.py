"""The words of `docker run …`, `podman run …`, `apptainer exec …` → options, image, and the words behind it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from msgspec import Struct

from diagnose.sources.launch.shell import Word
from diagnose.sources.settings import words as names

PROGRAMS = ("docker", "podman", "nerdctl")
SANDBOXES = ("apptainer", "singularity")
_FLAGS = names(
    """
    detach interactive tty rm init privileged read-only publish-all no-healthcheck oom-kill-disable
    disable-content-trust sig-proxy help quiet use-api-socket replace tls-verify rmi no-hosts http-proxy env-host
    no-hostname passwd unsetenv-all no-session
    """
)
"""Options of `run` that take no value; all others take one."""
_SHORT_FLAGS = frozenset("ditPqh")
_SHORT = {
    "e": "env", "v": "volume", "p": "publish", "m": "memory", "u": "user", "w": "workdir", "h": "hostname", "l": "label",
    "a": "attach", "c": "cpu-shares",
}  # fmt: skip
_SANDBOX_VALUES = names(
    """
    bind env env-file pwd cwd home overlay scratch workdir app mount hostname dns network network-args security
    add-caps drop-caps apply-cgroups cpus cpuset-cpus memory memory-swap pids-limit docker-host pem-path fakerootuid
    fusemount blkio-weight cpu-shares
    """
)
_SANDBOX_SHORT = {"B": "bind", "H": "home", "o": "overlay", "S": "scratch", "W": "workdir"}


class Option(Struct, frozen=True):
    """One option as it was given: its long name, its value (empty for a flag), and the word that it stands in."""

    name: str
    value: str
    word: Word


_One = Callable[[Sequence[Word], int, list[Option]], int]
"""Reads the option at a place into the list, and tells where the next one begins."""


class Call(Struct, frozen=True):
    """A container command taken apart: the program, its options, the image, and the words behind it."""

    program: str
    options: tuple[Option, ...]
    image: Word | None
    rest: tuple[Word, ...] = ()

    def last(self, *names: str) -> Option | None:
        """The option of one of these names that counts: the last one."""
        found = [option for option in self.options if option.name in names]
        return found[-1] if found else None

    def all(self, *names: str) -> list[Option]:
        return [option for option in self.options if option.name in names]


def is_container(words: Sequence[Word]) -> bool:
    """Whether these words start a container."""
    return taken_apart(words) is not None


def taken_apart(words: Sequence[Word]) -> Call | None:
    """The parts of a container command; None if it is not one that runs something."""
    at = 1 if words and os.path.basename(words[0].text) in ("sudo", "doas") else 0
    while at and at < len(words) and words[at].text.startswith("-"):
        at += 1
    program = os.path.basename(words[at].text) if at < len(words) else ""
    if program in PROGRAMS:
        start = _past_verb(words, at + 1)
        return _options(program, words, start, _one_docker) if start else None
    if program in SANDBOXES:
        start = next((i + 1 for i in range(at + 1, len(words)) if not words[i].text.startswith("-")), 0)
        known = start and words[start - 1].text in ("exec", "run", "shell")
        return _options(program, words, start, _one_sandbox) if known else None
    return None


def _past_verb(words: Sequence[Word], at: int) -> int:
    """Where the options of `run` begin: behind `run` or `container run`; 0 if it is another command (`compose`, `ps`)."""
    while at < len(words):
        text = words[at].text
        if text in ("--context", "-c", "--host", "-H", "--config", "--log-level", "-l", "-n", "--namespace"):
            at += 2
        elif text.startswith("-") or text == "container":
            at += 1
        else:
            return at + 1 if text in ("run", "create") else 0
    return 0


def _options(program: str, words: Sequence[Word], at: int, one: _One) -> Call:
    """Options up to the image; what follows is the command inside."""
    options: list[Option] = []
    while at < len(words) and words[at].text.startswith("-") and len(words[at].text) > 1:
        if words[at].text == "--":
            at += 1
            break
        at = one(words, at, options)
    image = words[at] if at < len(words) else None
    return Call(program, tuple(options), image, tuple(words[at + 1 :]))


def _one_docker(words: Sequence[Word], at: int, options: list[Option]) -> int:
    word = words[at]
    if word.text.startswith("--"):
        return _long(words, at, options, word.text[2:].partition("=")[0] not in _FLAGS)
    for position, letter in enumerate(word.text[1:], 1):
        rest = word.text[position + 1 :]
        if letter in _SHORT_FLAGS and letter != "h":
            options.append(Option({"d": "detach", "i": "interactive", "t": "tty"}.get(letter, letter), "", word))
            continue
        name = _SHORT.get(letter, letter)
        if rest:
            options.append(Option(name, rest.removeprefix("="), word))
            return at + 1
        return _with_next(words, at, name, options)
    return at + 1


def _one_sandbox(words: Sequence[Word], at: int, options: list[Option]) -> int:
    word = words[at]
    if word.text.startswith("--"):
        return _long(words, at, options, word.text[2:].partition("=")[0] in _SANDBOX_VALUES)
    name = _SANDBOX_SHORT.get(word.text[1:2])
    if name is None:
        options.append(Option(word.text[1:], "", word))
        return at + 1
    if len(word.text) > 2:
        options.append(Option(name, word.text[2:].removeprefix("="), word))
        return at + 1
    return _with_next(words, at, name, options)


def _long(words: Sequence[Word], at: int, options: list[Option], takes_value: bool) -> int:
    name, given, value = words[at].text[2:].partition("=")
    if given or not takes_value:
        options.append(Option(name, value, words[at]))
        return at + 1
    return _with_next(words, at, name, options)


def _with_next(words: Sequence[Word], at: int, name: str, options: list[Option]) -> int:
    value = words[at + 1].text if at + 1 < len(words) else ""
    options.append(Option(name, value, words[at + 1] if at + 1 < len(words) else words[at]))
    return at + 2
