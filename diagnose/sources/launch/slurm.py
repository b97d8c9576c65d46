"""Slurm's `srun` before a command, `sbatch` and the #SBATCH lines of its script → on how many machines how many tasks start it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

from diagnose.model import Fact, Reading
from diagnose.sources.launch.programs import base
from diagnose.sources.launch.shell import Word
from diagnose.sources.settings import words as names

MOST = 100_000
_DIRECTIVE = re.compile(r"#SBATCH\s+(\S.*)")
_SHORT = {"N": "nodes", "n": "ntasks", "G": "gpus", "c": "cpus-per-task"}
FLAGS = names(
    """
    label unbuffered overcommit oversubscribe preserve-env quiet verbose exclusive kill-on-bad-exit pty no-kill immediate
    contiguous spread-job multi-prog disable-status no-allocate hold overlap exact whole requeue no-requeue reboot
    propagate x11 nice resv-ports use-min-nodes test-only parsable get-user-env ignore-pbs wait help usage version
    l u O s E Q v K X Z k H h V I
    """
)
"""Options that take no further word; `--exclusive=user` and the like bring theirs with them."""


def srun(before: Sequence[Word]) -> dict[str, Word] | None:
    """The options of `srun` among the words before a command; None where it is not started by srun."""
    at = next((number for number, word in enumerate(before) if base(word.text) == "srun"), None)
    return None if at is None else options(before[at + 1 :])[0]


def options(words: Sequence[Word]) -> tuple[dict[str, Word], int]:
    """Options by their long names, and the place of the first word that belongs to none."""
    found: dict[str, Word] = {}
    at = 0
    while at < len(words) and words[at].text.startswith("-") and len(words[at].text) > 1:
        text, line = words[at].text, words[at].line
        at += 1
        if text == "--":
            break
        name, given, value = text.lstrip("-").partition("=")
        if not text.startswith("--") and len(name) > 1 and name[0] not in FLAGS:  # -N2, -n=8
            name, value, given = name[0], name[1:] + (f"={value}" if given else ""), "="
        name = _SHORT.get(name, name)
        if given:
            found[name] = Word(value.lstrip("="), line)
        elif name in FLAGS or (not text.startswith("--") and name[:1] in FLAGS):
            found[name] = Word("true", line)
        elif at < len(words):
            found[name] = words[at]
            at += 1
    return found, at


def directives(source: str) -> dict[str, Word]:
    """The options on the #SBATCH lines of a script: those above its first command."""
    found: dict[str, Word] = {}
    for number, line in enumerate(source.splitlines(), start=1):
        told = _DIRECTIVE.match(line)
        if told:
            try:
                parts = shlex.split(told[1], comments=True)
            except ValueError:
                continue
            given, _ = options([Word(part, number) for part in parts])
            found.update(given)
        elif line.strip() and not line.startswith("#"):
            break
    return found


def facts(given: Mapping[str, Word], by_srun: bool, origin: str) -> Iterator[Reading]:
    """`deploy.slurm_*`: machines, tasks and GPUs, as far as the options tell. srun takes from the job what it is not told."""
    places = {name: word.line for name, word in given.items()}
    line = min(places.values(), default=0)
    nodes, tasks, each = shape(given)
    yield Fact("deploy.slurm_srun", by_srun, origin, line)
    for name, value, option in (
        ("deploy.slurm_nodes", nodes, "nodes"),
        ("deploy.slurm_tasks", tasks, "ntasks"),
        ("deploy.slurm_tasks_per_node", each, "ntasks-per-node"),
        ("deploy.slurm_gpus", _gpus(given), "gres"),
    ):
        if value is not None:
            yield Fact(name, value, origin, places.get(option, line))


def alone(given: Mapping[str, Word], origin: str) -> Iterator[Reading]:
    """`deploy.launcher` and its counts, where srun starts the training itself and no launcher stands between."""
    nodes, tasks, each = shape(given)
    line = min((word.line for word in given.values()), default=0)
    if tasks is None:
        return
    yield Fact("deploy.launcher", "srun", origin, line)
    yield Fact("deploy.processes_all", tasks, origin, line)
    if nodes is not None:
        yield Fact("deploy.nodes", nodes, origin, line)
    if each is not None:
        yield Fact("deploy.processes", each, origin, line)


def shape(given: Mapping[str, Word]) -> tuple[int | None, int | None, int | None]:
    """Machines, tasks of all of them, and tasks of each; None for what is not told. Without a count each machine has one."""
    nodes, tasks, each = _count(given, "nodes"), _count(given, "ntasks"), _count(given, "ntasks-per-node")
    if tasks is None and nodes is not None:
        tasks = nodes * (each or 1)
    if each is None and tasks is not None and nodes:
        each = -(-tasks // nodes)
    return nodes, tasks, each


def _count(given: Mapping[str, Word], name: str) -> int | None:
    """A whole number; of a range of machines (`2-4`) the highest."""
    word = given.get(name)
    told = re.fullmatch(r"(?:\d+-)?(\d{1,6})", word.text) if word is not None and word.known else None
    value = int(told[1]) if told else None
    return value if value is not None and 0 < value <= MOST else None


def _gpus(given: Mapping[str, Word]) -> int | None:
    """GPUs of each machine: `--gpus-per-node=a100:4`, `--gres=gpu:4`."""
    for name, pattern in (
        ("gpus-per-node", r"(?:[\w.-]+:)?(\d{1,3})"),
        ("gres", r"(?:.*,)?gpu(?::[\w.-]+)?:(\d{1,3})(?:,.*)?"),
    ):
        word = given.get(name)
        told = re.fullmatch(pattern, word.text) if word is not None and word.known else None
        if told:
            return int(told[1])
    return None
