"""`{{name}}` in the texts of a rule → the values of this case."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from diagnose.predicate import Value

NAME = re.compile(r"\{\{\s*([\w.*-]+)\s*(?:\|([^}]*))?\}\}")
ASIDE = ("key.", "place.")
"""`{{key.NAME}}` is what the user's file calls the setting of a fact, `{{place.NAME}}` where it stands there: file and line."""
_SAFE = re.compile(r"[\w./:@%+=,~-]+")
_SAFE_IN_QUOTES = re.compile(r"[\w./:@%+=,~ -]+")


def render(text: str, values: Mapping[str, Value]) -> str:
    """A sentence with its values; what is not known is shown by its fallback, or as `<name>`."""

    def fill(found: re.Match[str]) -> str:
        value = values.get(found[1])
        return _missing(found) if value is None or value == "" else str(value)

    return NAME.sub(fill, text) if "{{" in text else text


def render_general(text: str) -> str:
    """A sentence without a case: each value is shown by its fallback, or as `<name>`."""
    return NAME.sub(_missing, text)


def render_command(text: str, values: Mapping[str, Value]) -> str:
    """A command with its values. A value that a shell could take for more than a word is quoted.

    Where the command has quotes of its own around a value, such a value is shown as if it were missing: a log can hold
    any text, and must not write the command that its reader will run.
    """

    def fill(found: re.Match[str]) -> str:
        value = values.get(found[1])
        if value is None or value == "":
            return _missing(found)
        return _word(found, str(value), _within(NAME.sub("x", text[: found.start()])))

    return NAME.sub(fill, text) if "{{" in text else text


def fact_of(name: str) -> str:
    """The fact that a name in a text is about."""
    return next((name.removeprefix(head) for head in ASIDE if name.startswith(head)), name)


def _missing(found: re.Match[str]) -> str:
    return found[2].strip() if found[2] is not None else f"<{found[1].rsplit('.', 1)[-1]}>"


def _word(found: re.Match[str], value: str, quote: str) -> str:
    if _SAFE.fullmatch(value):
        return value
    if not quote:
        return shlex.quote(value)
    return value if _SAFE_IN_QUOTES.fullmatch(value) else _missing(found)


def _within(text: str) -> str:
    """What is open at the end of a part of a command: a quote mark, a comment (`#`), or nothing."""
    state, before, escaped = "", "\n", False
    for char in text:
        if escaped:
            escaped = False
        elif state == "#":
            state = "" if char == "\n" else "#"
        elif char == "\\" and state != "'":
            escaped = True
        elif char == state:
            state = ""
        elif not state and (char in "'\"" or (char == "#" and before.isspace())):
            state = char
        before = char
    return state
