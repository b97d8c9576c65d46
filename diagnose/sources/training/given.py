"""Settings as a file, a command or a script gives them, each with its place; and what they mean under common names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from diagnose.model import Fact
from diagnose.sources.settings import shown
from diagnose.sources.yamlfile import Node

LONGEST = 400
MOST = 600
"""How many settings of one file are told."""
_SECRET = re.compile(
    r"(?:^|_)(?:token|key|secret|password|passwd|passphrase|pwd|credentials?|bearer|authorization|cookie)$"
    r"|(?:api|access|private|secret)key$"
    r"|^(?:hub|hf|hugging_?face|wandb|api|access|auth)_?(?:to?k|key)\w{0,4}$"
)
"""What a key is called whose value is a secret, also where the name is misspelt."""
_NEW_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])|-")


UNKNOWN = "unknown"
"""The owner of a key that may be of the user's own program, and the kind of a file that is."""
COMPUTED = object()
"""The value of an argument that a script computes: only its name is known."""


class Setting(Struct, frozen=True):
    """One setting: whose it is (`trl.SFTConfig`), its key (nested ones with dots), its value, and where the key stands.

    `value` is plain: text, number, flag, None, a list or a dict. `text` is a scalar as it was written, `quoted` whether it
    stood in quotes: in YAML 1.1 an unquoted 1e-5 is a text.
    """

    owner: str
    key: str
    value: Any
    file: str
    line: int
    column: int = 0
    text: str = ""
    quoted: bool = False

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition(".")[2]


def plain(node: Node) -> Any:
    """A node's value without places."""
    if isinstance(node.value, dict):
        return {key: plain(value) for key, value in node.value.items()}
    if isinstance(node.value, list):
        return [plain(item) for item in node.value]
    return node.value


def settings(document: Node, owner: str, file: str, above: str = "") -> Iterator[Setting]:
    """Every key of a mapping as a setting, and every key of the mappings below it; lists are values.

    Raises nothing. `above` is put before the keys: `peft_config`.
    """
    for key, node in document.items():
        line, column = document.keys.get(key, (node.line, node.column))
        name = f"{above}.{key}" if above else key
        yield Setting(owner, name, plain(node), file, line, column, node.word(), node.quoted)
        if isinstance(node.value, dict):
            yield from settings(node, owner, file, name)


def given(items: Sequence[Setting], first: int = 0) -> Iterator[Fact]:
    """`training.given.N.*` of each setting, counted from `first`; values that may be secrets are only said to be set."""
    for number, item in enumerate(items[:MOST], start=first):
        key = f"training.given.{number}"
        place = (item.file, item.line, item.column, item.key)
        yield Fact(f"{key}.owner", item.owner, *place)
        yield Fact(f"{key}.key", item.key[:LONGEST], *place)
        yield Fact(f"{key}.type", type_of(item.value), *place)
        if not isinstance(item.value, (dict, list)) and item.value is not COMPUTED:
            yield Fact(f"{key}.value", _value(item), *place)


def is_secret(key: str) -> bool:
    """Whether a key, or a mapping that it stands in, is called like a secret."""
    return any(_SECRET.search(_NEW_WORD.sub("_", part).lower()) for part in key.split("."))


def _value(item: Setting) -> str:
    if isinstance(item.value, str) and is_secret(item.key):
        return "set" if item.value else ""
    return shown("", item.text or ("" if item.value is None else str(item.value)))[:LONGEST]


def type_of(value: Any) -> str:
    """The kind of a value, as `training.given.*.type` tells it."""
    if value is None:
        return "null"
    if value is COMPUTED:
        return "computed"
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, (int, float)):
        return "number"
    return "list" if isinstance(value, list) else "mapping" if isinstance(value, dict) else "text"


Meaning = tuple[str, str]
"""A common fact and how its value is read: number, flag, text, list (joined by commas)."""


def meant(items: Iterable[Setting], table: Mapping[str, Meaning]) -> Iterator[Fact]:
    """The common facts of those settings that the table has. A value that is not of the wanted kind tells nothing."""
    for item in items:
        found = table.get(item.key)
        if found is None:
            continue
        value = read_as(found[1], item.value)
        if value is not None:
            yield told(found[0], value, item)


def by_table(known: Mapping[str, Setting], table: Mapping[str, Meaning]) -> Iterator[Fact]:
    """The same in the order of the table: of several keys that tell one fact the first one counts.

    An empty text tells nothing; `torch.bfloat16` is bfloat16.
    """
    for key, (name, kind) in table.items():
        value = read_as(kind, known[key].value) if key in known else None
        if value is not None and value != "":
            yield told(name, value.removeprefix("torch.") if isinstance(value, str) else value, known[key])


def told(name: str, value: str | int | float | bool, item: Setting) -> Fact:
    """A common fact with the place and key of the setting that says it."""
    if isinstance(value, str):
        value = value[:LONGEST]
    return Fact(name, value, item.file, item.line, item.column, item.key)


def read_as(kind: str, value: Any) -> str | int | float | bool | None:
    """A value as number, flag, text or list; None where it cannot be read so. `1e-5` as a text is a number too."""
    if kind == "flag":
        return _flag(value)
    if kind == "number":
        return number(value)
    if kind == "list" and isinstance(value, list):
        return ",".join(str(item) for item in value if not isinstance(item, (dict, list)))
    if isinstance(value, (dict, list)) or value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


def _flag(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False, "yes": True, "no": False}.get(str(value).lower())


def number(value: Any) -> int | float | None:
    """A number, or a text that is one; None for anything else, for NaN, and for what is beyond every setting."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        try:
            value = float(value) if any(mark in value for mark in ".eE") else int(value)
        except ValueError:
            return None
    if not isinstance(value, (int, float)) or value != value or abs(value) > 1e18:
        return None
    return value
