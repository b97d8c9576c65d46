"""What a project sets for itself: `[tool.llmdoctor]` in pyproject.toml, or llmdoctor.toml.

The nearest of the two at or above the working folder counts. Flags of the command line go before it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from msgspec import Struct

from diagnose.errors import InputError
from diagnose.model import SEVERITIES

NAMES = ("llmdoctor.toml", "pyproject.toml")
MOST_BYTES = 1 << 20
MOST_FOLDERS = 64
FAIL_ON = (*SEVERITIES, "never")
_LISTS = ("select", "engines", "paths", "rules")
_KEYS = (*_LISTS, "ignore", "fail-on", "baseline")


class Project(Struct, frozen=True):
    """A project's settings. `file` is where they stand (empty: nowhere); all paths are relative to its folder.

    `select` and `ignore` name rules by id, by family (`training-data`) or with `*`; `ignore` has a reason for each. `engines`
    are what will be used (`--for`), `paths` what `check` looks at when it is told nothing, `rules` folders with rules.
    """

    file: str = ""
    select: tuple[str, ...] = ()
    ignore: dict[str, str] = {}
    fail_on: str = ""
    engines: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    baseline: str = ""
    rules: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """The folder that the settings lie in."""
        return os.path.dirname(self.file)

    def inside(self, path: str) -> str:
        """A path of the settings as it is seen from the working folder."""
        return path if os.path.isabs(path) else os.path.join(self.folder, path)


def find(folder: str) -> Project:
    """The settings that hold in a folder; empty ones if there are none. Raises InputError for what is wrong in them."""
    here = os.path.abspath(folder)
    shown = ""
    for _ in range(MOST_FOLDERS):
        for name in NAMES:
            path = os.path.join(here, name)
            if os.path.isfile(path):
                made = read(path, os.path.join(shown, name))
                if made is not None:
                    return made
        above = os.path.dirname(here)
        if above == here or os.path.exists(os.path.join(here, ".git")):
            break
        here, shown = above, os.path.join("..", shown)
    return Project()


def read(path: str, shown: str = "") -> Project | None:
    """The settings of a file, None if it has none. Raises InputError with file, line and what to write instead."""
    shown = shown or path
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"{shown}: {error.strerror}") from None
    own = os.path.basename(path) == "llmdoctor.toml"
    if not own and b"llmdoctor" not in data:
        return None
    text, whole = _parsed(data, shown)
    tool = whole.get("tool", {})
    table = whole if own else tool.get("llmdoctor") if isinstance(tool, dict) else None
    if table is None:
        return None
    if not isinstance(table, dict):
        raise InputError(f"{shown}: tool.llmdoctor must be a table")
    return _made(table, shown, text)


def _parsed(data: bytes, shown: str) -> tuple[str, dict[str, Any]]:
    if len(data) > MOST_BYTES:
        raise InputError(f"{shown}: it has more than {MOST_BYTES >> 20} MiB; that is no settings file")
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        text = data.decode("utf-8")
        return text, tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise InputError(f"{shown}: it is not UTF-8 (byte {error.start})") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{shown}: it is no TOML: {error}") from None
    except RecursionError:
        raise InputError(f"{shown}: it is nested too deeply to be read") from None


def _made(table: Mapping[str, Any], shown: str, text: str) -> Project:
    for key in table:
        if key not in _KEYS:
            close = get_close_matches(key.replace("_", "-"), _KEYS, 1, 0.6)
            hint = f"; did you mean {close[0]}?" if close else f"; there are {', '.join(sorted(_KEYS))}"
            raise InputError(f"{_place(shown, text, key)}: llmdoctor has no setting {key}{hint}")
    lists = {key: _list(table, key, shown, text) for key in _LISTS}
    fail_on = table.get("fail-on", "")
    if fail_on and fail_on not in FAIL_ON:
        raise InputError(f"{_place(shown, text, 'fail-on')}: fail-on must be one of {', '.join(FAIL_ON)}")
    baseline = table.get("baseline", "")
    if not isinstance(baseline, str):
        raise InputError(f"{_place(shown, text, 'baseline')}: baseline must be the path of a file")
    return Project(
        shown,
        lists["select"],
        _ignored(table, shown, text),
        fail_on,
        lists["engines"],
        lists["paths"],
        baseline,
        lists["rules"],
    )


def _list(table: Mapping[str, Any], key: str, shown: str, text: str) -> tuple[str, ...]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise InputError(f"{_place(shown, text, key)}: {key} must be a list of texts")
    return tuple(value)


def _ignored(table: Mapping[str, Any], shown: str, text: str) -> dict[str, str]:
    """`ignore = {rule = "reason"}`, or a list of such tables with `rule` and `reason`. A reason is asked for."""
    value = table.get("ignore", {})
    place = _place(shown, text, "ignore")
    wanted = f'{place}: ignore wants a reason for each rule: ignore = {{"rule-id" = "why it is accepted"}}'
    if isinstance(value, list):
        if not all(isinstance(item, dict) and {"rule", "reason"} >= set(item) and "rule" in item for item in value):
            raise InputError(wanted)
        value = {item["rule"]: item.get("reason") for item in value}
    if not isinstance(value, dict) or not all(isinstance(why, str) and why.strip() for why in value.values()):
        raise InputError(wanted)
    return {str(rule): why.strip() for rule, why in value.items()}


def _place(shown: str, text: str, key: str) -> str:
    """File, line and column of a key: the first line behind the table's head that begins with it."""
    inside = os.path.basename(shown) == "llmdoctor.toml"
    wanted = re.compile(rf"""\s*["']?{re.escape(key)}["']?\s*(?:=|\.)""")
    for number, line in enumerate(text.split("\n"), start=1):
        head = re.match(r"\s*\[+\s*([^\]]+?)\s*\]+", line)
        if head:
            name = head[1].replace('"', "").replace("'", "").replace(" ", "")
            inside = name == "tool.llmdoctor" if not shown.endswith("llmdoctor.toml") else False
            if name.removeprefix("tool.llmdoctor.") == key:
                return f"{shown}:{number}:{len(line) - len(line.lstrip()) + 1}"
        elif inside and wanted.match(line):
            return f"{shown}:{number}:{len(line) - len(line.lstrip()) + 1}"
    return shown


def matches(patterns: Mapping[str, str] | tuple[str, ...], rule: str, family: str) -> str:
    """The first of the patterns that names a rule: by its id, its family, or with `*`; empty if none does."""
    return next((item for item in patterns if item in (rule, family) or fnmatchcase(rule, item)), "")


def unknown(patterns: Mapping[str, str] | tuple[str, ...], rules: Mapping[str, str]) -> list[str]:
    """The patterns that name no rule at all; `rules` are families by rule id."""
    return [item for item in patterns if not any(matches((item,), rule, family) for rule, family in rules.items())]
