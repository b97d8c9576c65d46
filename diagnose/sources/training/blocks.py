"""A mapping of a trainer's arguments, with the blocks of other libraries in it: DeepSpeed, FSDP, PEFT, quantization.

The arguments may stand at the top, or in a mapping of somebody's own (`training:`, `trainer_args:`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches

from msgspec import Struct

from diagnose.model import Fact
from diagnose.sources.training import deepspeed, fsdp, peft, quantization
from diagnose.sources.training.given import UNKNOWN, Setting, plain, settings
from diagnose.sources.training.parsed import Parsed, Reference, joined
from diagnose.sources.yamlfile import Node

DEEPEST = 3
"""How deep a mapping may stand that is looked into for arguments."""
_NEAR = 0.85
_MOST_NEAR = 40
"""How many unknown keys of one mapping are compared with the known ones."""

By = Mapping[str, Setting]
"""Settings by their keys, nested ones with dots, below the mapping that holds the arguments."""


class Schema(Struct, frozen=True):
    """What the arguments of a mapping are of.

    `owner` is the class, `fields` its arguments, `others` those of other classes beside it with their owners. `sure`: the
    parser takes nothing else, so that an unknown key is the class's too. `facts` is what the settings mean, `refers` which
    files they name.
    """

    owner: str
    fields: frozenset[str]
    others: Mapping[str, str]
    facts: Callable[[By], Iterator[Fact]]
    refers: Callable[[By], Iterator[Reference]]
    sure: bool = False


SchemaOf = Callable[[Node], Schema | None]


def read(document: Node, file: str, schema_of: SchemaOf, above: str = "", deep: int = 0) -> Parsed:
    """The settings of a mapping and of those in it, each under its owner; `schema_of` tells what a mapping's arguments are of."""
    schema = schema_of(document)
    owner_of = _Owners(schema)
    here: list[Setting] = []
    free: list[Setting] = []
    parts: list[Parsed] = []
    for key, node in document.items():
        name = f"{above}.{key}" if above else key
        line, column = document.keys.get(key, (node.line, node.column))
        here.append(Setting(owner_of.key(key), name, plain(node), file, line, column, node.word(), node.quoted))
        block = _block(key, node, file, name)
        if block is not None:
            parts.append(block)
        elif isinstance(node.value, dict) and schema is None and deep < DEEPEST:
            parts.append(read(node, file, schema_of, name, deep + 1))
        elif isinstance(node.value, dict):
            free += settings(node, UNKNOWN, file, name)
            parts += _blocks_in(node, file, name)
    if schema is None:
        return joined([Parsed(tuple(here)), *parts])
    here += free
    known = by_key(here, above)
    own = Parsed(tuple(here), tuple(schema.facts(known)), tuple(schema.refers(known)))
    return joined([own, *parts])


class _Owners:
    """Whose a key is: an argument's, or one that is spelled nearly like it; others may be of the user's own program."""

    def __init__(self, schema: Schema | None) -> None:
        self._schema = schema
        self._compared = 0

    def key(self, key: str) -> str:
        schema = self._schema
        if schema is None:
            return UNKNOWN
        if key in schema.others:
            return schema.others[key]
        if key in schema.fields or schema.sure:
            return schema.owner
        self._compared += 1
        if len(key) < 6 or self._compared > _MOST_NEAR:
            return UNKNOWN
        near = get_close_matches(key, [*schema.fields, *schema.others], 1, _NEAR)
        return schema.others.get(near[0], schema.owner) if near else UNKNOWN


def by_key(items: list[Setting], above: str) -> dict[str, Setting]:
    """Settings by their keys below `above`."""
    head = f"{above}." if above else ""
    return {item.key.removeprefix(head): item for item in items}


def _block(key: str, node: Node, file: str, name: str) -> Parsed | None:
    """What a mapping of another library holds; None for any other value."""
    if not isinstance(node.value, dict) or not node.value:
        return None
    if key == "deepspeed":
        return deepspeed.inside(node, file, name)
    if key in ("fsdp_config", "fsdp"):
        items = tuple(settings(node, fsdp.OWNER, file, name))
        return Parsed(items, tuple(fsdp.meaning(items, "transformers")))
    if peft.is_kind(node):
        return peft.inside(node, file, name)
    return quantization.inside(node, file, name) if quantization.is_kind(node) else None


def _blocks_in(node: Node, file: str, name: str) -> Iterator[Parsed]:
    """The blocks that stand in a mapping of free keys: model_init_kwargs may hold a quantization_config."""
    for key, inner in node.items():
        block = _block(key, inner, file, f"{name}.{key}")
        if block is not None:
            yield block
