"""Arguments of a program → the flags that were given, with their values and places, and the words that belong to no flag.

What a flag takes is read from the table of its engine. A flag that no table knows takes the next word, unless that looks
like a flag too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct

from diagnose.engines import Flag, Table
from diagnose.sources.launch.shell import Word

MOST_FLAGS = 500


class Given(Struct, frozen=True):
    """A flag as it was given. `flag` is as written, `name` the canonical long name with underscores.

    `values` are its words, `attached` whether the value came with `=`; `known` is false where the shell would have to tell
    the value; `off` says that it was given as `--no-…`. `table` is the row, where a table knows the flag.
    """

    flag: str
    name: str
    values: tuple[str, ...] = ()
    line: int = 0
    known: bool = True
    attached: bool = False
    off: bool = False
    key: str = ""
    table: Flag | None = None

    @property
    def value(self) -> str:
        """The value as one text: `true` for a flag that takes none, `false` for one that was switched off."""
        return " ".join(self.values) if self.values else ("false" if self.off else "true")


class Arguments(Struct, frozen=True):
    """The flags of a command and its other words. `rest` is what stands behind a program to be started, or `--`."""

    given: tuple[Given, ...] = ()
    others: tuple[Word, ...] = ()


_NEGATIVE = re.compile(r"-\d+|-\d*\.\d+")
DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
"""Characters that look like hyphens and are none: chats and word processors put them in the place of two hyphens."""


def is_flag(word: Word) -> bool:
    """Whether a word looks like a flag: a hyphen in front, no number, and no blank in it (as argparse sees it)."""
    text = word.text
    return len(text) > 1 and text[0] == "-" and not _NEGATIVE.fullmatch(text) and " " not in text.partition("=")[0]


def read(words: Sequence[Word], table: Table | None, program: str = "", first: str = "") -> Arguments:
    """Read the arguments of a program. With `first`, reading stops at the first word that belongs to no flag."""
    given: list[Given] = []
    others: list[Word] = []
    at = 0
    while at < len(words) and len(given) < MOST_FLAGS:
        word = words[at]
        if word.text == "--" or (first and not is_flag(word)):
            others += words[at + (word.text == "--") :]
            break
        if not is_flag(word):
            others.append(word)
            at += 1
            continue
        one, at = _flag(words, at, table, program)
        given.append(one)
    return Arguments(tuple(given), tuple(others))


def _flag(words: Sequence[Word], at: int, table: Table | None, program: str) -> tuple[Given, int]:
    """The flag at a place, and the place behind it."""
    word = words[at]
    written, equals, attached = word.text.partition("=")
    found = table.find(written, program) if table else None
    key = ""
    if found is None and table is not None and not written.startswith("--") and len(written) > 2:
        found = table.find(written[:2], program)  # -O3, -j4
        if found is not None and not equals:
            written, equals, attached = written[:2], "=", word.text[2:]
    if found is None and table is not None and "." in written:
        written_head, _, key = written.partition(".")
        found = table.find(written_head, program)
        if found is None or not found.flag.dotted:
            found, key = None, ""
    row, off = (found.flag, found.off) if found else (None, False)
    name = row.name if row else plain(written)
    at += 1
    if equals:
        return Given(written, name, (attached,), word.line, word.known, True, off, key, row), at
    takes = row.takes if row and not key else "1" if row else "unknown"
    if off:
        takes = "0"
    values, at = _values(words, at, takes)
    known = all(value.known for value in values)
    return Given(written, name, tuple(v.text for v in values), word.line, known, False, off, key, row), at


def plain(written: str) -> str:
    """`--max-model-len` → `max_model_len`, for a flag that no table knows."""
    return re.sub(r"[^\w]+", "_", written.lstrip("-" + DASHES)).strip("_").lower() or "empty"


def _values(words: Sequence[Word], at: int, takes: str) -> tuple[list[Word], int]:
    """The words that a flag takes: `0`, `1`, a number, `?`, `*`, `+`, or `unknown`."""
    if takes == "0":
        return [], at
    most = {"1": 1, "?": 1, "unknown": 1, "*": 1000, "+": 1000}.get(takes) or int(takes)
    start = at
    while at < len(words) and at - start < most and not is_flag(words[at]):
        at += 1
    return list(words[start:at]), at
