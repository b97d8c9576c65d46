"""A JSON file of somebody else's → the same nodes as of YAML, with the line and column of every key and value."""

from __future__ import annotations

import json.decoder
import re
from bisect import bisect_right
from typing import Any

from diagnose.sources.yamlfile import MOST_DEPTH, MOST_EVENTS, Documents, Node

_BLANK = re.compile(r"[ \t\r\n]*")
_COMMENT = re.compile(r"//|/\*|#")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")
_WORD = re.compile(r"[^\s,:\]}\"]+")
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None, "NaN": float("nan"), "Infinity": float("inf")}
_PLACEHOLDER = re.compile(r"\{\{|\{%|\$\{")


def parse(data: bytes) -> Documents:
    """Read a JSON text; nothing is raised. What Python's json refuses is refused here too, with a reason that a person understands."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return Documents(error=f"it is not UTF-8 (byte {error.start})", line=data[: error.start].count(b"\n") + 1)
    reader = _Reader(text)
    try:
        node = reader.whole()
    except _BadError as error:
        line, column = reader.place(error.at)
        return Documents(error=f"{error.args[0]} (line {line}, column {column})", line=line)
    return Documents((node,), duplicates=tuple(reader.duplicates))


class _BadError(Exception):
    """What is wrong with the text, and where in it."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.at = at


class _Reader:
    """One text. Each method takes the place where something begins and gives it with the place behind it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts = [0, *(found.end() for found in re.finditer("\n", text))]
        self._entries = 0
        self.duplicates: list[tuple[str, int, int]] = []

    def place(self, at: int) -> tuple[int, int]:
        """Line and column, from 1."""
        line = bisect_right(self._starts, at)
        return line, at - self._starts[line - 1] + 1

    def whole(self) -> Node:
        node, at = self._value(self._blank(0), 0)
        at = self._blank(at)
        if at < len(self._text):
            raise _BadError("something follows behind the end of the object", at)
        return node

    def _blank(self, at: int) -> int:
        found = _BLANK.match(self._text, at)
        at = found.end() if found else at
        if _COMMENT.match(self._text, at):
            raise _BadError("it has a comment, and JSON has none: Python's json stops there", at)
        return at

    def _value(self, at: int, depth: int) -> tuple[Node, int]:
        self._entries += 1
        if depth > MOST_DEPTH:
            raise _BadError(f"it is nested deeper than {MOST_DEPTH} levels", at)
        if self._entries > MOST_EVENTS:
            raise _BadError(f"it has more than {MOST_EVENTS:,} entries", at)
        first = self._text[at : at + 1]
        if first == "{":
            return self._object(at, depth)
        if first == "[":
            return self._list(at, depth)
        line, column = self.place(at)
        if first == '"':
            value, end = self._string(at)
            return Node(value, line, value, True, column), end
        return self._plain(at, line, column)

    def _plain(self, at: int, line: int, column: int) -> tuple[Node, int]:
        """A number, or one of JSON's words."""
        found = _WORD.match(self._text, at)
        if not found:
            raise _BadError("a value is missing" if at < len(self._text) else "it ends in the middle", at)
        word = found[0]
        if word.lstrip("-") in _WORDS and (word in _WORDS or word == "-Infinity"):
            value = float("-inf") if word == "-Infinity" else _WORDS[word]
            return Node(value, line, word, False, column), found.end()
        number = _NUMBER.fullmatch(word)
        if not number:
            raise _BadError(_about(word), at)
        whole = not (number[1] or number[2])
        try:
            return Node(int(word) if whole else float(word), line, word, False, column), found.end()
        except ValueError as error:  # more digits than Python reads
            raise _BadError(str(error), at) from None

    def _string(self, at: int) -> tuple[str, int]:
        try:
            value, end = json.decoder.scanstring(self._text, at + 1, True)  # type: ignore[attr-defined]
        except json.JSONDecodeError as error:
            raise _BadError(error.msg[:1].lower() + error.msg[1:], error.pos) from None
        return value, end

    def _list(self, at: int, depth: int) -> tuple[Node, int]:
        line, column = self.place(at)
        items: list[Node] = []
        at = self._blank(at + 1)
        while self._text[at : at + 1] != "]" or items:
            value, at = self._value(at, depth + 1)
            items.append(value)
            at, more = self._comma(at, "]")
            if not more:
                break
        else:
            at += 1
        return Node(items, line, column=column), at

    def _object(self, at: int, depth: int) -> tuple[Node, int]:
        line, column = self.place(at)
        entries: dict[str, Node] = {}
        keys: dict[str, tuple[int, int]] = {}
        at = self._blank(at + 1)
        while self._text[at : at + 1] != "}" or entries:
            if self._text[at : at + 1] != '"':
                raise _BadError(self._no_key(at), at)
            start = at
            name, at = self._string(at)
            at = self._blank(at)
            if self._text[at : at + 1] != ":":
                raise _BadError("a colon is missing behind the key", at)
            value, at = self._value(self._blank(at + 1), depth + 1)
            if name in entries:
                self.duplicates.append((name, *self.place(start)))
            entries[name] = value
            keys[name] = self.place(start)
            at, more = self._comma(at, "}")
            if not more:
                break
        else:
            at += 1
        node = Node(entries, line, column=column)
        node.keys = keys
        return node, at

    def _comma(self, at: int, closing: str) -> tuple[int, bool]:
        """What stands behind an entry: a comma (and more entries), or the end."""
        at = self._blank(at)
        mark = self._text[at : at + 1]
        if mark == closing:
            return at + 1, False
        if mark != ",":
            raise _BadError("a comma is missing" if mark else "it ends in the middle", at)
        behind = self._blank(at + 1)
        if self._text[behind : behind + 1] == closing:
            raise _BadError("a comma stands behind the last entry", at)
        return behind, True

    def _no_key(self, at: int) -> str:
        if _PLACEHOLDER.match(self._text, at) or _PLACEHOLDER.match(self._text, max(0, at - 1)):
            return "it is a template, not JSON: render it first"
        return "it ends in the middle" if at >= len(self._text) else "a key in double quotes is missing"


def _about(word: str) -> str:
    """Why a bare word is no value."""
    if _PLACEHOLDER.match(word):
        return f"`{word[:40]}` is a placeholder: it is a template, not JSON; render it first"
    if word in ("True", "False", "None"):
        return f"`{word}` is Python's word; JSON has true, false and null"
    if word.startswith("'"):
        return "a text stands in single quotes; JSON wants double ones"
    if re.fullmatch(r"[A-Z][A-Z0-9_]+", word):
        return f"`{word[:40]}` is a placeholder: it is a template, not JSON; put a value there"
    return f"`{word[:40]}` is no JSON value"
