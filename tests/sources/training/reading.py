"""What the tests of a training's settings share: a text read as a file of it, and its facts by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from diagnose.model import Fact, Reading
from diagnose.sources import launch, training, yamlfile
from diagnose.sources.training.parsed import Parsed
from diagnose.sources.yamlfile import Node


def node(text: str) -> Node:
    """A YAML text as a mapping with places."""
    found: Node = yamlfile.parse(text.encode()).documents[0]
    return found


def facts(parsed: Parsed) -> dict[str, Fact]:
    """The common facts by name; of two with one name the first."""
    found: dict[str, Fact] = {}
    for fact in parsed.facts:
        found.setdefault(fact.name, fact)
    return found


def values(parsed: Parsed) -> dict[str, object]:
    """The common facts' values by name."""
    return {name: fact.value for name, fact in facts(parsed).items()}


def owners(parsed: Parsed) -> dict[str, str]:
    """Whose each key is."""
    return {item.key: item.owner for item in parsed.settings}


def read(folder: Path, *names: str, launched: Mapping[str, Fact] | None = None) -> dict[str, Fact]:
    """Files in a folder read as `--config` names them: the facts by name."""
    return named(list(training.read(names, {}, str(folder), launched)))


def command(folder: Path, *words: str, configs: tuple[str, ...] = ()) -> dict[str, Fact]:
    """A command, and what its training is told: the facts by name."""
    launched = named(list(launch.read(words, [], {}, str(folder))))
    return {**read(folder, *configs, launched=launched), **launched}


def named(readings: list[Reading]) -> dict[str, Fact]:
    found: dict[str, Fact] = {}
    for reading in readings:
        if isinstance(reading, Fact):
            found.setdefault(reading.name, reading)
    return found


def owner_of(found: Mapping[str, Fact], key: str) -> str:
    """Whose a setting is, among facts."""
    number = next(name.split(".")[2] for name, fact in found.items() if name.endswith(".key") and fact.value == key and ".given." in name)  # fmt: skip
    return str(found[f"training.given.{number}.owner"].value)
