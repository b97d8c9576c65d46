"""A YAML file of somebody else's → its documents with the line of every value: it may be huge, broken, deep or a bomb."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from diagnose.sources import jsonfile

MOST_BYTES = 2 << 20
"""The largest file that is read: manifests and compose files have some kB, a rendered chart some hundred."""
MOST_DEPTH = 60
MOST_EVENTS = 60_000


class Node:
    """A value with the line it starts on. `value` is text, number, flag, None, a list of nodes, or a dict of nodes by key.

    `text` is a scalar as it was written, `keys` where each key of a mapping stands: line and column, from 1. `anchors` make
    one node stand in several places; nothing is copied for it.
    """

    __slots__ = ("column", "keys", "line", "quoted", "text", "value")

    def __init__(self, value: Any, line: int, text: str = "", quoted: bool = False, column: int = 0) -> None:
        self.value = value
        self.line = line
        self.column = column
        self.text = text
        self.quoted = quoted
        self.keys: dict[str, tuple[int, int]] = {}

    def get(self, *path: str) -> Node:
        """The node below these keys; an empty one (value None) if it is not there."""
        node = self
        for key in path:
            found = node.value.get(key) if isinstance(node.value, dict) else None
            if not isinstance(found, Node):
                return Node(None, node.line)
            node = found
        return node

    def items(self) -> list[tuple[str, Node]]:
        """The entries of a mapping; none of anything else."""
        return list(self.value.items()) if isinstance(self.value, dict) else []

    def list(self) -> list[Node]:
        """The entries of a list; none of anything else."""
        return self.value if isinstance(self.value, list) else []

    def word(self) -> str:
        """A scalar as text; empty for a list, a mapping or nothing."""
        return self.text if self.value is not None and not isinstance(self.value, (list, dict)) else ""

    def __bool__(self) -> bool:
        return self.value is not None


class Documents(Struct, frozen=True):
    """What a file holds. `error` says why it cannot be read, in a sentence, and `line` where; `missing`: no such file.

    `duplicates` are keys that stand twice in one mapping (the last one counts), `tags` those that only a program of its own
    reads: it would make an object (`!!python/object:os.system`) or put something in (`!include`). Nothing is made of them.
    Each has its line and column.
    """

    documents: tuple[Any, ...] = ()
    error: str = ""
    line: int = 0
    missing: bool = False
    duplicates: tuple[tuple[str, int, int], ...] = ()
    tags: tuple[tuple[str, int, int], ...] = ()


def load(path: str, most_bytes: int = MOST_BYTES) -> Documents:
    """Read a YAML file. Nothing is raised; a pipe or device is not opened."""
    data = jsonfile.read_bytes(path, most_bytes)
    return parse(data) if isinstance(data, bytes) else Documents(error=data.error, missing=data.missing)


def parse(data: bytes) -> Documents:
    """Read a YAML text of one or several documents."""
    import yaml

    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return Documents(error=f"it is not UTF-8 (byte {error.start})", line=data[: error.start].count(b"\n") + 1)
    loader_class = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        problem, line = _beyond_limits(yaml.parse(text, loader_class))
        if problem:
            return Documents(error=problem, line=line)
        loader = loader_class(text)
        converter = _Converter(loader)
        try:
            documents = []
            while loader.check_node():
                documents.append(converter.document(loader.get_node()))
        finally:
            loader.dispose()
    except _RefusedError as error:
        message = error.args[0]
        if message == _ODD_KEY and "{{" in text:
            message = _TEMPLATE
        return Documents(error=f"{message} (line {error.line})", line=error.line)
    except yaml.YAMLError as error:
        return Documents(error=_problem(error, text), line=_line_of(error, text))
    except (RecursionError, ValueError):
        return Documents(error="it is nested too deeply, or holds a number or date that cannot be one")
    return Documents(tuple(documents), duplicates=tuple(converter.duplicates), tags=tuple(converter.tags))


class _RefusedError(Exception):
    """Something that no such file holds; `line` is where."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def _beyond_limits(events: Any) -> tuple[str, int]:
    """What of the file is beyond the limits, before a tree is made of it; empty if nothing is."""
    depth = 0
    for number, event in enumerate(events):
        kind = type(event).__name__
        depth += {"SequenceStartEvent": 1, "MappingStartEvent": 1, "SequenceEndEvent": -1, "MappingEndEvent": -1}.get(
            kind, 0
        )
        if depth > MOST_DEPTH:
            return f"it is nested deeper than {MOST_DEPTH} levels", event.start_mark.line + 1
        if number > MOST_EVENTS:
            return f"it has more than {MOST_EVENTS:,} entries", event.start_mark.line + 1
    return "", 0


_TEMPLATE = "it is a template ({{ … }}), not YAML: render it first, as `helm template` does"
_ODD_KEY = "a list or mapping stands for a key"


class _Converter:
    """PyYAML's tree → nodes; each anchor is converted once, however often it is named."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._made: dict[int, Node] = {}
        self._open: set[int] = set()
        self._merged = 0
        self.duplicates: list[tuple[str, int, int]] = []
        self.tags: list[tuple[str, int, int]] = []

    def document(self, source: Any) -> Node:
        """One document; ids of the tree before it may be given again."""
        self._made.clear()
        return self.node(source)

    def node(self, source: Any) -> Node:
        key = id(source)
        line = source.start_mark.line + 1
        if key in self._made:
            return self._made[key]
        if key in self._open:
            raise _RefusedError("an anchor in it refers to itself", line)
        self._open.add(key)
        made = self._convert(source, line)
        self._open.discard(key)
        self._made[key] = made
        return made

    def _convert(self, source: Any, line: int) -> Node:
        import yaml

        column = source.start_mark.column + 1
        if source.tag.startswith("tag:yaml.org,2002:python/"):
            self.tags.append(("!!" + source.tag.removeprefix("tag:yaml.org,2002:"), line, column))
        elif source.tag.startswith("!") and len(source.tag) > 1:
            self.tags.append((source.tag, line, column))
        if isinstance(source, yaml.MappingNode):
            return self._mapping(source, line)
        if isinstance(source, yaml.SequenceNode):
            return Node([self.node(item) for item in source.value], line, column=column)
        quoted = source.style in ("'", '"', "|", ">")
        return Node(self._scalar(source), line, source.value, quoted, column)

    def _mapping(self, source: Any, line: int) -> Node:
        import yaml

        entries: dict[str, Node] = {}
        merged: list[Node] = []
        keys: dict[str, tuple[int, int]] = {}
        for key_node, value_node in source.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _RefusedError(_ODD_KEY, key_node.start_mark.line + 1)
            value = self.node(value_node)
            name = key_node.value
            if name == "<<" and key_node.tag.endswith(":merge"):
                merged += value.list() or [value]
                continue
            place = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if name in entries:
                self.duplicates.append((name, *place))
            entries[name] = value
            keys[name] = place
        for other in merged:
            self._merged += len(other.items())
            if self._merged > MOST_EVENTS:
                raise _RefusedError(f"its merge keys bring more than {MOST_EVENTS:,} entries", line)
            for name, value in other.items():
                entries.setdefault(name, value)
                keys.setdefault(name, other.keys.get(name, (value.line, value.column)))
        made = Node(entries, line, column=source.start_mark.column + 1)
        made.keys = keys
        return made

    def _scalar(self, source: Any) -> Any:
        if not source.tag.startswith("tag:yaml.org,2002:") or ":python/" in source.tag:
            return source.value  # a tag of somebody's (`!reset`, `!Ref`): its text
        if source.tag.endswith((":str", ":timestamp", ":binary", ":value")):
            return source.value
        try:
            return self._loader.construct_object(source)
        except (ValueError, OverflowError, TypeError):
            return source.value


def _line_of(error: Any, text: str) -> int:
    mark = getattr(error, "problem_mark", None)
    if mark:
        return int(mark.line) + 1
    position = getattr(error, "position", None)
    return text.count("\n", 0, position) + 1 if isinstance(position, int) else 1


def _problem(error: Any, text: str) -> str:
    problem = " ".join(str(getattr(error, "problem", None) or getattr(error, "reason", None) or error).split())
    line = _line_of(error, text)
    if "{{" in text:
        return f"{_TEMPLATE} (line {line})"
    return f"{problem} (line {line})"
