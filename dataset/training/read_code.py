"""The modules of a release, a class in them by its name, the keys of a mapping that code reads, and the schemas that fields lead to."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from schemas import Field, Schema
from source_tree import Module, Tree, last_name


def modules(tree: Tree, pattern: str) -> Iterator[Module]:
    """The modules whose path matches, in order of their paths; those that do not parse are left out."""
    for path in sorted(tree.texts):
        if path.endswith(".py") and re.fullmatch(pattern, path):
            name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            module = tree.module(name)
            if module is not None:
                yield module


def named(tree: Tree, pattern: str, name: str) -> tuple[Module, ast.ClassDef] | None:
    """The first class with a name."""
    for module in modules(tree, pattern):
        if name in module.classes:
            return module, module.classes[name]
    return None


def keys_read(
    body: ast.AST, tree: Tree, module: Module, names: Iterable[str], constants: Mapping[str, str] | None = None
) -> list[str]:
    """The keys that code reads of a mapping with one of these names: `m["x"]`, `m.get("x")`, `"x" in m`, `get_scalar_param(m, "x")`.

    `constants` are names that come from an `import *`.
    """
    names = frozenset(names)
    found: dict[str, None] = {}

    def is_mapping(node: ast.AST) -> bool:
        if isinstance(node, ast.Call) and last_name(node.func) == "keys" and isinstance(node.func, ast.Attribute):
            node = node.func.value
        return isinstance(node, (ast.Name, ast.Attribute)) and last_name(node) in names

    def take(node: ast.AST) -> None:
        value = tree.value(module, node) if isinstance(node, ast.expr) else None
        if not isinstance(value, str) and isinstance(node, ast.Name):
            value = (constants or {}).get(node.id)
        if isinstance(value, str) and re.fullmatch(r"[A-Za-z]\w*", value):
            found[value] = None

    for node in ast.walk(body):
        if isinstance(node, ast.Subscript) and is_mapping(node.value):
            take(node.slice)
        elif isinstance(node, ast.Compare) and len(node.comparators) == 1 and is_mapping(node.comparators[0]):
            take(node.left)
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute) and node.func.attr in ("get", "pop", "setdefault") and node.args:
                if is_mapping(node.func.value):
                    take(node.args[0])
            elif len(node.args) >= 2 and is_mapping(node.args[0]):
                take(node.args[1])
    return list(found)


def reached(fields: Mapping[str, Field], schema_of: Callable[[str], Schema | None]) -> dict[str, Schema]:
    """The schemas that fields name, and those that the fields of these name, by their names."""
    found: dict[str, Schema] = {}
    wanted = [field.schema for field in fields.values() if field.schema]
    while wanted:
        name = wanted.pop()
        schema = schema_of(name) if name not in found else None
        if schema is not None:
            found[name] = schema
            wanted += [field.schema for field in schema.fields.values() if field.schema]
    return found
