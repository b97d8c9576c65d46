"""The command that starts a training → its own arguments as settings, and what reads them; from the facts of the launch."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from diagnose.derive import engines
from diagnose.model import Fact
from diagnose.sources import jsonnodes
from diagnose.sources.training import classes, kinds, trl
from diagnose.sources.training.classes import Reads
from diagnose.sources.training.given import UNKNOWN, Setting, number
from diagnose.sources.training.parsed import Parsed, Reference
from diagnose.sources.training.script import Script
from diagnose.sources.yamlfile import Node

ORIGIN = "command line"
MOST = 400
_DEEPEST = 8
_OVERLAID = ("trl", "axolotl", "llamafactory", "torchtune")
"""Programs that put their arguments over the configuration that they are given."""
_NAMES = {"deepspeed_config": "deepspeed"}
"""Arguments by which people's scripts call one of the trainer's."""


class Command(Struct, frozen=True):
    """The command of a training.

    `kind` is what it reads (trl, axolotl …, script), `task` what it is told to do, `script` the script that it starts.
    `configs` are the files that it names, `arguments` its own, as a mapping, and `flags` how each of those is written.
    `contained`: its files are in a container. `origin` is the script that it stands in, or `command line`.
    """

    kind: str
    task: str = ""
    script: str = ""
    configs: tuple[Reference, ...] = ()
    arguments: Node = Node({}, 0)
    flags: Mapping[str, str] = {}
    contained: bool = False
    origin: str = ORIGIN


def of(launched: Mapping[str, Fact]) -> Command | None:
    """The training that the facts of a launch tell; None where they tell none."""
    kind = launched.get("training.command_kind")
    if kind is None:
        return None
    task, script = launched.get("training.command_task"), launched.get("training.command_script")
    configs = []
    for place in range(8):
        fact = launched.get(f"training.command_config.{place}")
        if fact is not None:
            setting = Setting(UNKNOWN, fact.key or "configuration", fact.value, fact.origin, fact.line, fact.column)
            configs.append(Reference(str(fact.value), UNKNOWN, setting))
    contained = launched.get("launch.contained")
    return Command(
        str(kind.value),
        str(task.value) if task is not None else "",
        str(script.value) if script is not None else "",
        tuple(configs),
        _arguments(launched, kind),
        {
            str(fact.value): fact.key
            for name, fact in launched.items()
            if name.startswith("training.argument.") and name.endswith(".key")
        },
        contained is not None and contained.value is True,
        kind.origin,
    )


def _arguments(launched: Mapping[str, Fact], kind: Fact) -> Node:
    made = Node({}, kind.line)
    for place in range(MOST):
        fact = launched.get(f"training.argument.{place}.key")
        value = launched.get(f"training.argument.{place}.value") or launched.get(f"training.argument.{place}.values")
        if fact is None or value is None:
            continue
        key = _NAMES.get(str(fact.value), str(fact.value))
        found = _value(str(value.value), fact, value.name.endswith(".values"))
        if key.startswith("no_") and key[3:] in classes.fields(classes.SEQ2SEQ) and found.value is True:
            key, found = key[3:], Node(False, fact.line, "false")
        path = key.split(".") if kind.value in ("torchtune", "llamafactory") else [key]
        put(made, path[:_DEEPEST], found, (fact.line, fact.column))
    return made


def _value(text: str, fact: Fact, several: bool) -> Node:
    """A word of the command as a value: numbers and switches as such, JSON taken apart."""
    if several:
        try:
            return Node([Node(str(item), fact.line, str(item), True) for item in json.loads(text)], fact.line)
        except ValueError:
            return Node(text, fact.line, text, True)
    if text[:1] in ("{", "["):
        found = jsonnodes.parse(text.encode("utf-8", "replace"))
        if found.documents:
            return _at(found.documents[0], fact)
    if text.lower() in ("true", "false"):
        return Node(text.lower() == "true", fact.line, text)
    value = number(text) if re.fullmatch(r"[-+\d.eE_]+", text) else None
    return Node(text if value is None else value, fact.line, text, value is None)


def _at(node: Node, fact: Fact) -> Node:
    """A value with the place of its argument, since lines are counted from the start of the command."""
    value = node.value
    if isinstance(value, dict):
        made = Node({key: _at(inner, fact) for key, inner in value.items()}, fact.line)
        made.keys = dict.fromkeys(value, (fact.line, fact.column))
        return made
    if isinstance(value, list):
        return Node([_at(inner, fact) for inner in value], fact.line)
    return Node(value, fact.line, node.text, node.quoted)


def put(node: Node, path: list[str], value: Node, place: tuple[int, int]) -> None:
    """Set the value below a path of keys, over what is there."""
    for key in path[:-1]:
        inner = node.value.get(key)
        if inner is None or not isinstance(inner.value, dict):
            inner = Node({}, place[0])
            node.value[key] = inner
            node.keys[key] = place
        node = inner
    node.value[path[-1]] = value
    node.keys[path[-1]] = place


def reads(command: Command, script: Script) -> Reads | None:
    """What the command's arguments and configurations are read into; None where nothing tells it."""
    if command.kind == "trl" and command.task in trl.COMMANDS:
        others = {**dict.fromkeys(_of_accelerate(), UNKNOWN), **trl.beside_trainer()}
        return Reads(trl.COMMANDS[command.task], others)
    if command.kind != "script" or not script.parser:
        return None
    trainers = [owner for owner in script.parser if owner.endswith("TrainingArguments") or owner in classes.trainers()]
    beside = [owner for owner in script.parser if owner not in trainers]
    if not trainers:
        return None
    others = dict.fromkeys(script.fields, UNKNOWN)
    for owner in beside:
        others.update(dict.fromkeys(classes.own(owner) - classes.fields(trainers[0]), owner))
    return Reads(trainers[0], others, script.closed)


def _of_accelerate() -> frozenset[str]:
    """Options of `accelerate launch`, which `trl sft` hands on."""
    table = engines.table("accelerate")
    spelled = table.spellings() if table is not None else ()
    names = {text.lstrip("-").replace("-", "_") for text in spelled if text.startswith("--")}
    return frozenset({*names, "accelerate_config"})


def alone(command: Command, read_into: Reads | None) -> Parsed | None:
    """The command's arguments by themselves, where no configuration took them."""
    node = command.arguments
    if not node.value or command.kind in ("axolotl", "torchtune"):
        return None
    kind = command.kind
    if kind != "llamafactory":
        kind = "trl" if read_into is None or read_into.owner.startswith("trl.") else "trainer"
        read_into = read_into or Reads(UNKNOWN, {})
    parsed = kinds.read(node, command.origin, kind, read_into)
    return Parsed(parsed.settings, tuple(_as_written(fact, command) for fact in parsed.facts), parsed.refers)


def _as_written(fact: Fact, command: Command) -> Fact:
    """A fact with its setting called as in the command: --learning_rate."""
    return replace(fact, key=command.flags.get(fact.key, fact.key)) if fact.key in command.flags else fact


def over(command: Command, mapping: Node, file: str, kind: str, read_into: Reads | None) -> Parsed:
    """A configuration with the command's arguments put over it; those keep their own place."""
    changed: dict[str, tuple[int, int]] = {}
    _overlay(mapping, command.arguments, "", changed)
    parsed = kinds.read(mapping, file, kind, read_into)
    settings = tuple(
        replace(item, file=command.origin, line=changed[item.key][0], column=changed[item.key][1])
        if item.key in changed
        else item
        for item in parsed.settings
    )
    facts = tuple(
        _as_written(
            replace(fact, origin=command.origin, line=changed[fact.key][0], column=changed[fact.key][1]), command
        )
        if fact.key in changed
        else fact
        for fact in parsed.facts
    )
    return Parsed(settings, facts, parsed.refers)


def _overlay(mapping: Node, more: Node, above: str, changed: dict[str, tuple[int, int]]) -> None:
    for key, value in more.items():
        name = f"{above}.{key}" if above else key
        there = mapping.value.get(key)
        if isinstance(value.value, dict) and there is not None and isinstance(there.value, dict):
            _overlay(there, value, name, changed)
            continue
        mapping.value[key] = value
        mapping.keys[key] = more.keys.get(key, (value.line, value.column))
        changed[name] = mapping.keys[key]


def is_overlaid(command: Command, kind: str) -> bool:
    """Whether the program puts its arguments over a configuration of this kind."""
    same = kind == command.kind or (command.kind == "trl" and kind in kinds.BY_CLASS)
    return command.kind in _OVERLAID and same and bool(command.arguments.value)
