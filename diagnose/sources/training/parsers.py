"""What a script reads from its command line: the classes that its parser fills, and arguments of its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from diagnose.sources.training import literals
from diagnose.sources.training.imports import Imports
from diagnose.sources.training.literals import Call


def arguments(calls: Sequence[Call], imports: Imports) -> tuple[tuple[str, ...], frozenset[str], bool]:
    """The classes that the script's arguments are parsed into, the names of its own, and whether that is all."""
    owners: list[str] = []
    own: set[str] = set()
    closed = False
    for call in calls:
        if call.name in ("HfArgumentParser", "TrlParser"):
            names = _parsed_into(call)
            closed = bool(names)
            for name in names:
                owner = imports.owner(name)[0]
                if owner:
                    owners.append(owner)
                if name in imports.defined:
                    own |= set(_annotated(imports.defined[name]))
                    closed = closed and _is_plain(imports.defined[name], owner)
                closed = closed and (bool(owner) or name in imports.defined)
        elif call.name == "add_argument":
            own |= set(_flags(call))
    return tuple(dict.fromkeys(owners)), frozenset(own), closed


def _parsed_into(call: Call) -> list[str]:
    """The names of the classes that a parser is given."""
    keyword = next((item.value for item in call.node.keywords if item.arg == "dataclass_types"), None)
    value = call.node.args[0] if call.node.args else keyword
    if isinstance(value, ast.Name) and (found := call.scope.find(value.id)) is not None:
        value = found
    items = value.elts if isinstance(value, (ast.Tuple, ast.List)) else [value] if value is not None else []
    names = [literals.dotted(item).rpartition(".")[2] for item in items]
    return names if all(names) else []


def _annotated(node: ast.ClassDef) -> Iterator[str]:
    """The fields that a dataclass defines."""
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            yield item.target.id


def _is_plain(node: ast.ClassDef, owner: str) -> bool:
    """Whether all fields of a class are known: those that it defines, and those of one base that is known here."""
    bases = [literals.dotted(base) for base in node.bases]
    return not bases or (len(bases) == 1 and bool(owner))


def _flags(call: Call) -> Iterator[str]:
    """The name under which `add_argument("--learning-rate")` puts its value."""
    for item in call.node.args:
        if isinstance(item, ast.Constant) and isinstance(item.value, str):
            yield item.value.lstrip("-").replace("-", "_")
