"""A YAML file with the line of every key, and with limits: what a hostile or broken file says is told as mistakes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from diagnose.errors import Mistake

MOST_BYTES = 256 << 10
"""How large a rule file may be."""
_TOO_DEEP = "is nested deeper than a rule can be"
MOST_DEPTH = 20

_PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq")
)


class Node:
    """A YAML value with the line it starts on, and the lines of its keys."""

    def __init__(self, value: Any, line: int, keys: dict[str, int] | None = None) -> None:
        self.value = value
        self.line = line
        self.keys = keys or {}


class File:
    """One file being read: `compose` gives its values, `mistakes` collects what is wrong with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mistakes: list[Mistake] = []

    def wrong(self, line: int, message: str) -> None:
        self.mistakes.append(Mistake(os.fsencode(self.path).decode("utf-8", "replace"), line, message))

    def compose(self) -> Node | None:
        import yaml

        text = self._text()
        if text is None:
            return None
        loader_class = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            if not self._is_plain(yaml.parse(text, loader_class)):
                return None
            loader = loader_class(text)
            try:
                root = loader.get_single_node()
                if root is None:
                    self.wrong(1, "is empty; `llmdoctor rules new` writes a file to start from")
                    return None
                return self._convert(root, loader)
            finally:
                loader.dispose()
        except yaml.YAMLError as error:
            self.wrong(_line_of(error, text), _problem(error))
            return None

    def _text(self) -> str | None:
        """The file's text, or None with a mistake that says why it cannot be read."""
        try:
            with open(self.path, "rb") as file:
                data = file.read(MOST_BYTES + 1)
            if len(data) > MOST_BYTES:
                self.wrong(0, f"is larger than {MOST_BYTES >> 10} KiB, so it is not a rule")
                return None
            return data.decode("utf-8-sig")
        except OSError as error:
            self.wrong(0, f"cannot be read: {error.strerror or error}")
        except UnicodeDecodeError as error:
            self.wrong(data.count(b"\n", 0, error.start) + 1, "is not UTF-8 text")
        return None

    def _is_plain(self, events: Iterable[Any]) -> bool:
        """Whether the YAML is what a rule can be; else a mistake says why. Comes first: YAML's own tree knows no limits."""
        depth = 0
        for event in events:
            depth += {
                "SequenceStartEvent": 1,
                "MappingStartEvent": 1,
                "SequenceEndEvent": -1,
                "MappingEndEvent": -1,
            }.get(type(event).__name__, 0)
            problem = _TOO_DEEP if depth > MOST_DEPTH else ""
            if getattr(event, "anchor", None):
                problem = f"anchors and aliases ({event.anchor}) are not allowed in a rule"
            if problem:
                self.wrong(event.start_mark.line + 1, problem)
                return False
        return True

    def _convert(self, node: Any, loader: Any) -> Node:
        import yaml

        line = node.start_mark.line + 1
        if node.tag not in _PLAIN_TAGS:
            self.wrong(line, f"tag {node.tag} is not allowed in a rule")
            return Node("", line)
        if isinstance(node, yaml.MappingNode):
            entries: dict[str, Node] = {}
            keys: dict[str, int] = {}
            for key_node, value_node in node.value:
                key = key_node.value if isinstance(key_node, yaml.ScalarNode) else "?"
                at = key_node.start_mark.line + 1
                if key in entries:
                    self.wrong(at, f"key {key!r} is written twice (first on line {keys[key]})")
                entries[key] = self._convert(value_node, loader)
                keys[key] = at
            return Node(entries, line, keys)
        if isinstance(node, yaml.SequenceNode):
            return Node([self._convert(item, loader) for item in node.value], line)
        if node.tag.endswith((":str", ":timestamp")):
            if any("\ud800" <= char <= "\udfff" for char in node.value):
                self.wrong(line, "has half of a surrogate pair, which is no character")
            return Node(node.value, line)
        try:
            return Node(loader.construct_object(node), line)
        except (ValueError, OverflowError):
            self.wrong(line, f"{shown(node.value)} is not a value that can be read (quote it, if it is text)")
            return Node("", line)


def _line_of(error: Any, text: str) -> int:
    mark = getattr(error, "problem_mark", None)
    if mark:
        return int(mark.line) + 1
    position = getattr(error, "position", None)
    return text.count("\n", 0, position) + 1 if isinstance(position, int) else 1


def _problem(error: Any) -> str:
    problem = " ".join(str(getattr(error, "problem", None) or getattr(error, "reason", None) or error).split())
    return f"is not valid YAML: {problem}" if "nesting depth" not in problem else _TOO_DEEP  # PyYAML's own limit


def shown(value: object) -> str:
    """A value as a message shows it: short, and on one line."""
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "a mapping"
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
