"""Python sources as text → what their names stand for, without running them: constants, lists, annotations, classes.

Only what a module would have at run time counts: the `else` of `if TYPE_CHECKING`, not its body. What cannot be told from
the text alone (a call, a comprehension over something unknown) is UNKNOWN, and whoever asks leaves it out.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any


class _Unknown:
    """The answer for what the text does not tell."""

    def __repr__(self) -> str:
        return "UNKNOWN"

    def __bool__(self) -> bool:
        return False


UNKNOWN = _Unknown()
MOST_DEEP = 24


class Module:
    """One module: what its top level assigns, imports and defines, at run time."""

    def __init__(self, name: str, tree: ast.Module, is_package: bool) -> None:
        self.name = name
        self.tree = tree
        self.package = name if is_package else name.rpartition(".")[0]
        self.assigned: dict[str, ast.expr] = {}
        self.classes: dict[str, ast.ClassDef] = {}
        self.functions: dict[str, ast.FunctionDef] = {}
        self.imported: dict[str, tuple[str, str]] = {}
        self.updates: list[tuple[str, ast.expr, str]] = []
        for node in _statements(tree.body):
            self._take(node)

    def _take(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    self.assigned[target.id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            self.assigned[node.target.id] = node.value
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            self.updates.append((node.target.id, node.value, "+="))
        elif isinstance(node, ast.ClassDef):
            self.classes[node.name] = node
        elif isinstance(node, ast.FunctionDef):
            self.functions[node.name] = node
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                self.imported[alias.asname or alias.name] = (self._absolute(node), alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                self.imported[alias.asname or alias.name.partition(".")[0]] = (alias.name, "")

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.package.split(".")
        base = parts[: len(parts) - node.level + 1]
        return ".".join([*base, *([node.module] if node.module else [])])


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of a top level, with those of the branches that run."""
    for node in body:
        if isinstance(node, ast.If):
            if _names(node.test) & {"TYPE_CHECKING"}:
                yield from _statements(node.orelse)
            else:
                yield from _statements([*node.orelse, *node.body])
        elif isinstance(node, ast.Try):
            yield from _statements(
                [*node.body, *(s for h in node.handlers for s in h.body if not node.body), *node.orelse]
            )
        elif isinstance(node, ast.With):
            yield from _statements(node.body)
        else:
            yield node


def _names(node: ast.AST) -> set[str]:
    found = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
    return found | {inner.attr for inner in ast.walk(node) if isinstance(inner, ast.Attribute)}


class Tree:
    """The modules of one release, read on demand from their texts (path in the archive → text)."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = texts
        self._modules: dict[str, Module | None] = {}

    def module(self, name: str) -> Module | None:
        """A module by its dotted name; None if its text is not there or does not parse."""
        if name not in self._modules:
            self._modules[name] = None
            for path, is_package in (
                (name.replace(".", "/") + ".py", False),
                (name.replace(".", "/") + "/__init__.py", True),
            ):
                if path in self.texts:
                    try:
                        self._modules[name] = Module(name, ast.parse(self.texts[path]), is_package)
                    except (SyntaxError, RecursionError, ValueError):
                        continue
                    break
        return self._modules[name]

    def find(self, module: Module, name: str, deep: int = 0) -> tuple[Module, ast.AST] | None:
        """What a name of a module stands for: the expression, class or function, with the module it is in."""
        if name in module.assigned:
            return module, module.assigned[name]
        if name in module.classes:
            return module, module.classes[name]
        if name in module.functions:
            return module, module.functions[name]
        if name in module.imported and deep < MOST_DEEP:
            source, original = module.imported[name]
            other = self.module(source)
            if other is not None and other is not module:
                return self.find(other, original, deep + 1) if original else None
        return None

    def value(self, module: Module, node: ast.AST | None, deep: int = 0) -> Any:
        """The constant, list or dictionary that an expression stands for, or UNKNOWN."""
        if node is None or deep > MOST_DEEP:
            return UNKNOWN
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            return self._items(module, node.elts, deep)
        if isinstance(node, ast.Dict):
            return self._dictionary(module, node, deep)
        if isinstance(node, ast.Name):
            return self._named(module, node.id, deep)
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.BitOr)):
            left, right = self.value(module, node.left, deep + 1), self.value(module, node.right, deep + 1)
            if isinstance(left, list) and isinstance(right, list):
                return left + right
            if isinstance(left, str) and isinstance(right, str):
                return left + right
            return UNKNOWN
        if isinstance(node, ast.Subscript) and _name(node.value) == "Literal":
            return self._literal(module, node, deep)
        if isinstance(node, ast.Call):
            return self._call(module, node, deep)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            inner = self.value(module, node.operand, deep + 1)
            return -inner if isinstance(inner, (int, float)) else UNKNOWN
        if isinstance(node, ast.JoinedStr):
            return self._text(module, node, deep)
        return UNKNOWN

    def _items(self, module: Module, nodes: list[ast.expr], deep: int) -> Any:
        found: list[Any] = []
        for item in nodes:
            if isinstance(item, ast.Starred):
                inner = self.value(module, item.value, deep + 1)
                if isinstance(inner, dict):
                    inner = list(inner)
                if not isinstance(inner, list):
                    return UNKNOWN
                found += inner
                continue
            found.append(self.value(module, item, deep + 1))
        return found if UNKNOWN not in found else UNKNOWN

    def _dictionary(self, module: Module, node: ast.Dict, deep: int) -> Any:
        """A dictionary with its keys; a value that is not known stays UNKNOWN."""
        found: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values, strict=False):
            if key is None:
                inner = self.value(module, value, deep + 1)
                if not isinstance(inner, dict):
                    return UNKNOWN
                found |= inner
                continue
            name = self.value(module, key, deep + 1)
            if isinstance(name, (str, int)):
                found[name] = self.value(module, value, deep + 1)
        return found

    def _named(self, module: Module, name: str, deep: int) -> Any:
        found = self.find(module, name)
        if found is None:
            return UNKNOWN
        inner, node = found
        value = self.value(inner, node, deep + 1) if isinstance(node, ast.expr) else UNKNOWN
        for target, more, _ in inner.updates:
            if target == name and isinstance(value, list):
                extra = self.value(inner, more, deep + 1)
                value = value + extra if isinstance(extra, list) else UNKNOWN
        return value

    def _literal(self, module: Module, node: ast.Subscript, deep: int) -> Any:
        inner = node.slice
        items = inner.elts if isinstance(inner, ast.Tuple) else [inner]
        found: list[Any] = []
        for item in items:
            value = self.value(module, item, deep + 1)
            if value is UNKNOWN:
                return UNKNOWN
            found += value if isinstance(value, list) else [value]
        return found

    def _call(self, module: Module, node: ast.Call, deep: int) -> Any:
        name = _name(node.func)
        if name in ("list", "tuple", "set", "frozenset", "sorted") and len(node.args) == 1:
            inner = self.value(module, node.args[0], deep + 1)
            return list(inner) if isinstance(inner, (list, dict)) else UNKNOWN
        if name == "get_args" and node.args:
            return self.value(module, node.args[0], deep + 1)
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("keys", "copy") and not node.args:
            inner = self.value(module, node.func.value, deep + 1)
            return list(inner) if isinstance(inner, dict) and node.func.attr == "keys" else inner
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("removeprefix", "lower", "upper", "strip"):
            return UNKNOWN
        return UNKNOWN

    def _text(self, module: Module, node: ast.JoinedStr, deep: int) -> Any:
        """A formatted text; what is not known in it becomes an ellipsis."""
        parts = []
        for part in node.values:
            if isinstance(part, ast.Constant):
                parts.append(str(part.value))
            else:
                inner = self.value(module, part.value, deep + 1) if isinstance(part, ast.FormattedValue) else UNKNOWN
                parts.append(str(inner) if isinstance(inner, (str, int, float)) else "…")
        return "".join(parts)

    # --- annotations

    def hints(self, module: Module, node: ast.AST | None, deep: int = 0) -> set[Any]:
        """The types that an annotation allows: `int`, `None`, `('Literal', (…))`, `('list', {…})`, `('class', name)`."""
        if node is None or deep > MOST_DEEP:
            return set()
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                try:
                    return self.hints(module, ast.parse(node.value, mode="eval").body, deep + 1)
                except SyntaxError:
                    return {"other"}
            return {"None"} if node.value is None else {"other"}
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return self.hints(module, node.left, deep + 1) | self.hints(module, node.right, deep + 1)
        if isinstance(node, ast.Subscript):
            return self._subscript(module, node, deep)
        return self._plain_hint(module, node, deep)

    def _subscript(self, module: Module, node: ast.Subscript, deep: int) -> set[Any]:
        name = _name(node.value)
        inner = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
        if name in ("Optional", "Annotated", "A", "SkipValidation", "ClassVar", "Required", "NotRequired", "InitVar"):
            found = self.hints(module, inner[0], deep + 1)
            return found | {"None"} if name == "Optional" else found
        if name == "Union":
            return set().union(*(self.hints(module, item, deep + 1) for item in inner))
        if name == "Literal":
            values = self._literal(module, node, deep)
            return {("Literal", tuple(values))} if values is not UNKNOWN else {"other"}
        if name in ("list", "List", "Sequence", "tuple", "Tuple", "set", "Set", "frozenset"):
            kind = {"List": "list", "Sequence": "list", "Tuple": "tuple", "Set": "set"}.get(name, name)
            items = [i for i in inner if not (isinstance(i, ast.Constant) and i.value is Ellipsis)]
            elements = frozenset(self.hints(module, items[0], deep + 1)) if items else frozenset()
            ellipsis = len(items) < len(inner)
            return {(kind, elements, len(items) if kind == "tuple" and not ellipsis else 0)}
        if name in ("dict", "Dict", "Mapping", "OrderedDict", "Counter"):
            return {"dict"}
        if name in ("type", "Type", "Callable"):
            return {"other"}
        return {"other"}

    def _plain_hint(self, module: Module, node: ast.AST, deep: int) -> set[Any]:
        name = _name(node)
        if name in ("int", "float", "bool", "str", "dict", "None"):
            return {name}
        if name in ("list", "tuple", "set"):
            return {(name, frozenset({"str"}), 0)}
        if name in ("Any", "object", "type"):
            return {"other"}
        found = self.find(module, name) if isinstance(node, ast.Name) else self._attribute(module, node)
        if found is None:
            return {"other"}
        inner, target = found
        if isinstance(target, ast.ClassDef):
            return {("class", f"{inner.name}:{target.name}")}
        return self.hints(inner, target, deep + 1) if isinstance(target, ast.expr) else {"other"}

    def _attribute(self, module: Module, node: ast.AST) -> tuple[Module, ast.AST] | None:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            source = module.imported.get(node.value.id)
            other = self.module(".".join(part for part in source if part)) if source else None
            return self.find(other, node.attr) if other else None
        return None

    def bases(self, module: Module, node: ast.ClassDef) -> Iterator[tuple[Module, ast.ClassDef]]:
        """The classes that a class is made of, the most basic first, itself last."""
        for base in node.bases:
            found = self.find(module, base.id) if isinstance(base, ast.Name) else None
            if found is not None and isinstance(found[1], ast.ClassDef) and found[1] is not node:
                yield from self.bases(found[0], found[1])
        yield module, node


def _name(node: ast.AST) -> str:
    """The last part of a name: `json.loads` → `loads`."""
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


last_name = _name
