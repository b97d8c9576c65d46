"""`${NAME}` in a Compose file → its value, from the shell or the file `.env` beside it; and what nobody sets."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from diagnose.sources.launch.docker import env_file
from diagnose.sources.launch.shell import Word

_FORM = re.compile(r"\$(?:(\$)|\{([A-Za-z_]\w*)(?:(:?[-?+])((?:[^{}$]|\$\{[^{}]*\})*))?\}|([A-Za-z_]\w*))", re.ASCII)


_OPEN, _CLOSE = "\ue000", "\ue001"
_MARKED = re.compile(f"{_OPEN}([^{_CLOSE}]*){_CLOSE}")
"""Characters of private use around the name of a variable that nobody sets."""


def as_word(word: Word) -> Word:
    """A word with a marked variable is not known; it is told as it was written."""
    if _OPEN not in word.text:
        return word
    return Word(_MARKED.sub(r"${\1}", word.text), word.line, word.column, False, word.quoted)


class Variables:
    """What `${NAME}` in a Compose file stands for: a variable of the shell, or of the file `.env` beside it.

    `unset`: names that nobody gives, for which Compose puts nothing; `unset_variables` those that only become another
    variable, which may well be empty. `required`: those of `${NAME:?…}`.
    """

    def __init__(self, environ: Mapping[str, str], folder: str) -> None:
        beside, _ = env_file(os.path.join(folder, ".env"))
        self._known = {name: unquoted(value) for name, value, _ in beside} | dict(environ)
        self.unset: set[str] = set()
        self.unset_variables: set[str] = set()
        self.required: set[str] = set()

    def fill(self, text: str) -> str:
        return _MARKED.sub("", self._filled(text, self.unset))

    def fill_marked(self, text: str) -> str:
        """The same, with what nobody sets marked, so that a word with it is known to be not known."""
        return self._filled(text, self.unset)

    def fill_variable(self, text: str) -> str:
        """The same for the value of another variable."""
        return self._filled(text, self.unset_variables)

    def peek(self, text: str) -> str:
        """The same, without keeping in mind what was not set: for services that are only looked at."""
        return self._filled(text, None)

    def _filled(self, text: str, unset: set[str] | None) -> str:
        return _FORM.sub(lambda found: self._one(found, unset), text) if "$" in text else text

    def _one(self, found: re.Match[str], unset: set[str] | None) -> str:
        if found[1]:
            return "$"
        name, operator, default = found[2] or found[5], found[3] or "", found[4] or ""
        value = self._known.get(name)
        there = value is not None and (value != "" or not operator.startswith(":"))
        if operator.endswith("+"):
            return default if there else ""
        if there:
            return value or ""
        if operator.endswith("-"):
            return _FORM.sub(lambda inner: self._one(inner, unset), default)
        if unset is not None:
            (self.required if operator.endswith("?") else unset).add(name)
        return f"{_OPEN}{name}{_CLOSE}" if unset is self.unset else ""


def unquoted(value: str) -> str:
    value = value.strip()
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value
