"""The files that an engine's command names for its settings: YAML for vLLM's and SGLang's --config, an Ollama Modelfile."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from diagnose.derive.engines import Table
from diagnose.model import Fact, Reading, Step, Unchecked
from diagnose.sources import yamlfile
from diagnose.sources.jsonfile import Loaded, read_bytes
from diagnose.sources.launch import arguments
from diagnose.sources.launch.arguments import Given
from diagnose.sources.launch.shell import Word

MOST_BYTES = 1 << 20
LONGEST = 400
WITH_YAML = ("vllm", "sglang")
"""Engines whose --config is a YAML file of flags (vLLM: FlexibleArgumentParser, SGLang: ConfigArgumentMerger)."""


def yaml_words(path: str, folder: str, table: Table | None, origin: str, line: int) -> Iterator[Reading | Given]:
    """The flags of a --config file, and what is wrong with the file."""
    whole = os.path.join(folder, os.path.expanduser(path))
    yield Step(f"reading {path[:LONGEST]}")
    if not path.endswith((".yaml", ".yml")):
        yield Fact("launch.config_problem", "not-yaml-by-name", origin, line)
    loaded = yamlfile.load(whole, MOST_BYTES)
    if loaded.missing:
        yield Fact("launch.config_problem", "missing", origin, line)
        return
    if loaded.error:
        yield Fact("launch.config_problem", "unreadable", path[:LONGEST], loaded.line)
        yield Fact("launch.config_error", loaded.error[:LONGEST], path[:LONGEST], loaded.line)
        return
    document = loaded.documents[0] if loaded.documents else None
    if document is None or not document.items():
        yield Fact(
            "launch.config_problem",
            "empty" if document is None or document.value is None else "not-a-mapping",
            path[:LONGEST],
        )
        return
    words: list[Word] = []
    for key, node in document.items():
        words += _words(key, node, table)
    for one in arguments.read(words, table).given:
        yield replace(one, origin=path[:LONGEST])


def _words(key: str, node: yamlfile.Node, table: Table | None) -> list[Word]:
    """A key of the file as the words that vLLM and SGLang make of it."""
    flag = Word(f"--{key}", node.line)
    value = node.value
    if isinstance(value, bool):
        if value:
            return [flag]
        off = Word(f"--no-{key}", node.line)
        return [off] if table is not None and table.find(off.text) is not None and table.style == "flexible" else []
    if isinstance(value, list):
        return [flag, *[Word(item.word(), item.line) for item in value]] if value else []
    if isinstance(value, dict):
        return [flag, Word(json.dumps(_plain(node), default=str)[:20_000], node.line)]
    return [flag, Word(node.word() if value is not None else "None", node.line)]


def _plain(node: yamlfile.Node, deep: int = 0) -> Any:
    """A node as plain values; what lies too deep is left out."""
    if deep > 20:
        return None
    if isinstance(node.value, dict):
        return {str(key)[:LONGEST]: _plain(inner, deep + 1) for key, inner in list(node.value.items())[:1000]}
    if isinstance(node.value, list):
        return [_plain(inner, deep + 1) for inner in node.value[:1000]]
    return node.value


# --- Ollama


INSTRUCTIONS = (
    "FROM",
    "PARAMETER",
    "TEMPLATE",
    "SYSTEM",
    "ADAPTER",
    "LICENSE",
    "MESSAGE",
    "REQUIRES",
    "DRAFT",
    "RENDERER",
    "PARSER",
)
"""What ollama's parser/parser.go takes, whatever its case."""


def modelfile(path: str, folder: str, table: Table | None) -> Iterator[Reading | Given]:
    """The instructions of a Modelfile: its FROM as `launch.model`, its parameters as flags."""
    data = read_bytes(os.path.join(folder, os.path.expanduser(path)), MOST_BYTES)
    shown = path[:LONGEST]
    if isinstance(data, Loaded):
        if data.missing:
            yield Fact("launch.modelfile_problem", "missing", shown)
        else:
            yield Unchecked("launch command", f"{shown}: {data.error}")
        return
    number, named, adapters = 0, False, 0
    for line, name, value in instructions(data.decode("utf-8", "replace")):
        if name not in INSTRUCTIONS:
            yield Fact(f"launch.instruction.{number}.word", name[:80], shown, line)
            number += 1
        elif name == "FROM" and not named:
            named = True
            yield Fact("launch.model", value[:LONGEST], shown, line)
        elif name == "ADAPTER":
            yield Fact(f"launch.adapter.{adapters}.path", value[:LONGEST], shown, line)
            adapters += 1
        elif name == "PARAMETER":
            yield _parameter(value, line, table, shown)
        elif name == "TEMPLATE":
            yield Fact("launch.chat_template", value[:1000], shown, line)
    if not named:
        yield Fact("launch.modelfile_problem", "no-from", shown)


def instructions(text: str) -> list[tuple[int, str, str]]:
    """Line, name in capitals and value of each instruction; a value may stand in quotes or triple quotes over lines."""
    found: list[tuple[int, str, str]] = []
    lines = text.splitlines()[:20_000]
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, _, value = line.strip().partition(" ")
        start = at
        for quote in ('"""', '"'):
            mark = value.find(quote)
            if mark >= 0 and not value[:mark].strip().count(" ") and value.count(quote) == 1:
                while at < len(lines) and quote not in lines[at]:
                    value += "\n" + lines[at]
                    at += 1
                if at < len(lines):
                    value += "\n" + lines[at]
                    at += 1
                break
        found.append((start, name.upper(), value.strip().strip('"')))
    return found


def _parameter(value: str, line: int, table: Table | None, origin: str) -> Given:
    name, _, rest = value.strip().partition(" ")
    found = table.find(name) if table else None
    row = found.flag if found else None
    return Given(
        name,
        re.sub(r"\W+", "_", name)[:80] or "empty",
        (rest.strip().strip('"'),),
        line,
        True,
        True,
        False,
        "",
        row,
        origin,
    )
