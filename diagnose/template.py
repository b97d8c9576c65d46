"""`{{name}}` in the texts of a rule → the values of this case."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from diagnose.predicate import Value

_TEMPLATE = re.compile(r"\{\{\s*([\w.*-]+)\s*(?:\|([^}]*))?\}\}")
_SAFE = re.compile(r"[\w./:@%+=,~-]+")
_SAFE_IN_QUOTES = re.compile(r"[\w./:@%+=,~ -]+")
_QUOTING = re.compile(r"""\\.|(?:^|(?<=\s))\#[^\n]*|["']""", re.DOTALL)


def render(text: str, values: Mapping[str, Value]) -> str:
    """A sentence with its values; what is not known is shown by its fallback, or as `<name>`."""

    def fill(found: re.Match[str]) -> str:
        value = values.get(found[1])
        return _missing(found) if value is None or value == "" else str(value)

    return _TEMPLATE.sub(fill, text) if "{{" in text else text


def render_command(text: str, values: Mapping[str, Value]) -> str:
    """A command with its values. A value that a shell could take for more than a word is quoted.

    Where the command has quotes of its own around a value, such a value is shown as if it were missing: a log can hold
    any text, and must not write the command that its reader will run.
    """
    parts: list[str] = []
    at, quote = 0, ""
    for found in _TEMPLATE.finditer(text):
        literal = text[at : found.start()]
        quote = _open_quote(literal, quote)
        value = values.get(found[1])
        parts += [literal, _missing(found) if value is None or value == "" else _word(found, str(value), quote)]
        at = found.end()
    return "".join(parts) + text[at:]


def _missing(found: re.Match[str]) -> str:
    return found[2].strip() if found[2] is not None else f"<{found[1].rsplit('.', 1)[-1]}>"


def _word(found: re.Match[str], value: str, quote: str) -> str:
    if _SAFE.fullmatch(value):
        return value
    if not quote:
        return shlex.quote(value)
    return value if _SAFE_IN_QUOTES.fullmatch(value) else _missing(found)


def _open_quote(text: str, quote: str) -> str:
    """The shell's quote that is open behind a text, given the one that was open before it."""
    at = 0
    while found := _QUOTING.search(text, at):
        mark, at = found[0], found.end()
        if quote == "'" and mark.startswith("\\"):
            at = found.start() + 1  # between single quotes a backslash is a backslash
        elif quote and mark.startswith("#"):
            at = found.start() + 1
        elif mark in ("'", '"') and quote in ("", mark):
            quote = "" if quote else mark
    return quote
