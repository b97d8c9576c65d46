"""Edits of a configuration's text that keep its layout, and tell the line on which the fault then stands."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple


class Edited(NamedTuple):
    """The text with its fault, and where that stands: the line from 1."""

    text: str
    line: int


Edit = Callable[[str], Edited]


def put(key: str, value: str) -> Edit:
    """Give a key (the first of this name) another value; where it is not there, write it at the end, or first in an object."""

    def edit(text: str) -> Edited:
        if text.lstrip().startswith("{"):
            return _put_json(text, key, value)
        found = re.search(rf"(?m)^([ ]*(?:- )?){re.escape(key)}:.*$", text)
        if found is None:
            text = text.rstrip("\n") + "\n"
            return Edited(f"{text}{key}: {value}\n", text.count("\n") + 1)
        head, tail = text[: found.start()], text[found.end() :]
        inside = rf"(?:\n(?:{found[1]}[ ]+\S|{found[1] or '(?=-)'}- ).*)*"  # a mapping or list below it
        inner = re.match(inside, tail)
        tail = tail[inner.end() :] if inner else tail
        return Edited(f"{head}{found[1]}{key}: {value}{tail}", head.count("\n") + 1)

    return edit


def _put_json(text: str, key: str, value: str) -> Edited:
    found = re.search(rf'"{re.escape(key)}"\s*:\s*("(?:[^"\\]|\\.)*"|[-\w.+]+)', text)
    if found is None:
        at = text.index("{") + 1
        return Edited(f'{text[:at]}\n  "{key}": {value},{text[at:]}', text.count("\n", 0, at) + 2)
    made = f'{text[: found.start()]}"{key}": {value}{text[found.end() :]}'
    return Edited(made, text.count("\n", 0, found.start()) + 1)


def below(parent: str, key: str, value: str) -> Edit:
    """Write a key first in the mapping of another key, two or four columns further in."""

    def edit(text: str) -> Edited:
        if text.lstrip().startswith("{"):
            found = re.search(rf'"{re.escape(parent)}"\s*:\s*\{{', text)
            assert found is not None, parent
            made = f'{text[: found.end()]}\n    "{key}": {value},{text[found.end() :]}'
            return Edited(made, text.count("\n", 0, found.end()) + 2)
        found = re.search(rf"(?m)^([ ]*){re.escape(parent)}:[ ]*\n([ ]+)", text)
        assert found is not None, parent
        at = text.index("\n", found.start()) + 1
        return Edited(f"{text[:at]}{found[2]}{key}: {value}\n{text[at:]}", text.count("\n", 0, at) + 1)

    return edit


def rename(key: str, new: str) -> Edit:
    """Write a key in another way."""

    def edit(text: str) -> Edited:
        found = re.search(rf'(?m)(?<![\w.]){re.escape(key)}(?="?\s*:)', text)
        assert found is not None, key
        return Edited(f"{text[: found.start()]}{new}{text[found.end() :]}", text.count("\n", 0, found.start()) + 1)

    return edit


def both(first: Edit, second: Edit) -> Edit:
    """Two edits; the fault stands where the second is."""

    def edit(text: str) -> Edited:
        return second(first(text).text)

    return edit


def keyword(name: str, value: str, call: str = "") -> Edit:
    """Give a keyword argument of a Python script another value; where it is not there, write it first in a call."""

    def edit(text: str) -> Edited:
        found = re.search(rf"(?m)^([ ]+){re.escape(name)}=.*$", text)
        if found is not None:
            made = f"{text[: found.start()]}{found[1]}{name}={value},{text[found.end() :]}"
            return Edited(made, text.count("\n", 0, found.start()) + 1)
        at = text.index(f"{call}(\n") + len(call) + 2
        return Edited(f"{text[:at]}    {name}={value},\n{text[at:]}", text.count("\n", 0, at) + 1)

    return edit
