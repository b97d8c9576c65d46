"""Arguments of a program → the flags that were given, with their values and places, and the words that belong to no flag.

What a flag takes is read from the table of its engine. A flag that no table knows takes the next word, unless that looks
like a flag too. A dash that a chat or word processor put in the place of two hyphens is read as if it were they.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from diagnose.derive.engines import Flag, Hit, Table
from diagnose.sources.launch.shell import Word

MOST_FLAGS = 500
DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d"
"""Characters that look like hyphens and are none."""


class Given(Struct, frozen=True):
    """A flag as it was given. `flag` is as written, `name` the canonical long name with underscores.

    `values` are its words, `attached` whether the value came with `=`; `known` is false where the shell would have to tell
    the value; `off` says that it switches something off. `key` is the part behind a dot (`--config.key`). `row` is the
    table's, where a table knows the flag. `origin` is the file that it stands in, if that is not the command.
    """

    flag: str
    name: str
    values: tuple[str, ...] = ()
    line: int = 0
    known: bool = True
    attached: bool = False
    off: bool = False
    key: str = ""
    row: Flag | None = None
    origin: str = ""

    @property
    def value(self) -> str:
        """The value as one text: `true` for a flag that takes none, `false` for one that was switched off."""
        return " ".join(self.values) if self.values else ("false" if self.off else "true")


class Stray(Struct, frozen=True):
    """A word that belongs to no flag, and the flag that stands before it."""

    word: Word
    after: str = ""


class Arguments(Struct, frozen=True):
    """The flags of a command and its other words."""

    given: tuple[Given, ...] = ()
    others: tuple[Stray, ...] = ()


_NEGATIVE = re.compile(r"-\d+|-\d*\.\d+")


def is_flag(word: Word) -> bool:
    """Whether a word looks like a flag: a hyphen in front, no number, and no blank in it (as argparse sees it)."""
    text = straight(word.text)
    return len(text) > 1 and text[0] == "-" and not _NEGATIVE.fullmatch(text) and " " not in text.partition("=")[0]


def straight(text: str) -> str:
    """A word with typographic dashes at its start made into hyphens: `–tp` and `—tp` were `--tp`."""
    bare = text.lstrip(DASHES + "-")
    dashes = text[: len(text) - len(bare)]
    if not any(dash in DASHES for dash in dashes) or not bare[:1].isalpha():
        return text
    return ("--" if len(bare) > 1 else "-") + bare


def read(words: Sequence[Word], table: Table | None) -> Arguments:
    """Read the arguments of a program."""
    given: list[Given] = []
    others: list[Stray] = []
    at = 0
    while at < len(words) and len(given) < MOST_FLAGS:
        word = words[at]
        if word.text == "--":
            others += [Stray(rest) for rest in words[at + 1 :]]
            break
        if not is_flag(word):
            others.append(Stray(word, given[-1].flag if given else ""))
            at += 1
            continue
        one, at = _flag(words, at, table)
        given.append(one)
    return Arguments(tuple(given), tuple(others))


def _flag(words: Sequence[Word], at: int, table: Table | None) -> tuple[Given, int]:
    """The flag at a place, and the place behind it."""
    word = replace(words[at], text=straight(words[at].text))
    if table is not None and table.style == "llama":
        written, equals, attached = word.text, "", ""
    else:
        written, equals, attached = word.text.partition("=")
    found, key = _look_up(written, table)
    if found is None and table is not None and not written.startswith("--") and len(written) > 2:
        found = table.find(written[:2])  # -O3, -j4
        if found is not None and not equals:
            written, equals, attached = written[:2], "=", word.text[2:]
    row, off = (found.flag, found.off) if found else (None, False)
    name = row.name if row else plain(written)
    at += 1
    if equals:
        return Given(written, name, (attached,), word.line, word.known, True, off, key, row), at
    takes = "0" if off else "1" if key else row.takes if row else "unknown"
    values, at = _values(words, at, takes, table)
    known = all(value.known for value in values)
    return Given(written, name, tuple(v.text for v in values), word.line, known, False, off, key, row), at


def _look_up(written: str, table: Table | None) -> tuple[Hit | None, str]:
    """The flag with this spelling, and the key of `--flag.key` where vLLM's parser takes that for a part of its JSON."""
    if table is None:
        return None, ""
    found = table.find(written)
    if found is None and table.style == "flexible" and "." in written:
        head, _, key = written.partition(".")
        found = table.find(head)
        return found, key if found else ""
    return found, ""


def plain(written: str) -> str:
    """`--max-model-len` → `max_model_len`, for a flag that no table knows."""
    return re.sub(r"\W+", "_", written.lstrip("-" + DASHES)).strip("_").lower()[:80] or "empty"


def _values(words: Sequence[Word], at: int, takes: str, table: Table | None) -> tuple[list[Word], int]:
    """The words that a flag takes: `0`, `1`, a number, `?`, `*`, `+`, or `unknown`.

    llama.cpp takes whatever follows. A word that is one of its flags was not meant as a value all the same.
    """
    if takes == "0":
        return [], at
    anything = table is not None and table.style == "llama" and takes != "unknown"
    most = {"1": 1, "?": 1, "unknown": 1, "*": 1000, "+": 1000, "...": 1000}.get(takes) or int(takes)
    start = at
    while at < len(words) and at - start < most:
        if is_flag(words[at]) and not (anything and table is not None and table.find(words[at].text) is None):
            break
        at += 1
    return list(words[start:at]), at
