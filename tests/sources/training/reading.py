"""What the tests of a training's settings share: a text read as a file of it, and its facts by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from diagnose.facts import describe
from diagnose.model import Fact, Reading
from diagnose.sources import launch, training, yamlfile
from diagnose.sources.training.parsed import Parsed
from diagnose.sources.yamlfile import Node

TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
"""Whatever may stand behind a key of a YAML file."""


def node(text: str) -> Node:
    """A YAML text as a mapping with places."""
    found: Node = yamlfile.parse(text.encode()).documents[0]
    return found


def raises_nothing(read: Callable[[Node, str], Parsed], config: dict[str, Any]) -> None:
    """A reader takes a mapping, whatever it holds, and gives plain values under names of the catalogue."""
    found = yamlfile.parse(yaml.safe_dump(config, allow_unicode=True).encode("utf-8", "replace")).documents
    for fact in read(found[0], "x.yaml").facts if found else ():
        assert isinstance(fact.value, (str, int, float, bool))
        assert fact.name.startswith(("training.", "fsdp."))
        assert describe(fact.name), fact


def facts(parsed: Parsed) -> dict[str, Fact]:
    """The common facts by name."""
    return named(parsed.facts)


def values(parsed: Parsed) -> dict[str, Any]:
    """The common facts' values by name."""
    return {name: fact.value for name, fact in facts(parsed).items()}


def owners(parsed: Parsed) -> dict[str, str]:
    """Whose each key is."""
    return {item.key: item.owner for item in parsed.settings}


def read(folder: Path, *names: str, launched: Mapping[str, Fact] | None = None) -> dict[str, Fact]:
    """Files in a folder read as `--config` names them: the facts by name."""
    return named(training.read(names, {}, str(folder), launched))


def command(folder: Path, *words: str, configs: tuple[str, ...] = ()) -> dict[str, Fact]:
    """A command, and what its training is told: the facts by name."""
    launched = named(launch.read(words, [], {}, str(folder)))
    return {**read(folder, *configs, launched=launched), **launched}


def named(readings: Iterable[Reading]) -> dict[str, Fact]:
    """The facts by name, of two with one name the first; each of them has to be in the catalogue."""
    found: dict[str, Fact] = {}
    for reading in readings:
        if isinstance(reading, Fact):
            assert describe(reading.name), reading
            found.setdefault(reading.name, reading)
    return found


def owner_of(found: Mapping[str, Fact], key: str) -> str:
    """Whose a setting is, among facts."""
    number = next(name.split(".")[2] for name, fact in found.items() if name.endswith(".key") and fact.value == key and ".given." in name)  # fmt: skip
    return str(found[f"training.given.{number}.owner"].value)
