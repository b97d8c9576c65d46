"""A Python text → its calls and the literals in them, with places. It is parsed and never run; what is computed stays unknown.

A name stands for a literal where it is given one, once, in its scope: a constant of the module, or of the function.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator

from msgspec import Struct

from diagnose.sources.yamlfile import Node

MOST_CALLS = 5000
DEEPEST = 12
"""How deep a literal may be nested, and how many names may stand one for the other."""
_ENUMS = ("IntervalStrategy", "SaveStrategy", "SchedulerType", "OptimizerNames", "HubStrategy", "EvaluationStrategy")


class Scope:
    """The names of a module, a function or a class: each with the expression that it is given, or None where that is not told."""

    __slots__ = ("above", "is_class", "names")

    def __init__(self, above: Scope | None, is_class: bool = False) -> None:
        self.above = above
        self.is_class = is_class
        self.names: dict[str, ast.expr | None] = {}

    def give(self, name: str, value: ast.expr | None) -> None:
        """A name is given something; the second time nothing is known of it any more."""
        self.names[name] = None if name in self.names else value

    def find(self, name: str) -> ast.expr | None:
        """What a name stands for."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names and (scope is self or not scope.is_class):
                return scope.names[name]
            scope = scope.above
        return None


class Call(Struct, frozen=True):
    """A call: the last part of its name (`from_pretrained`), what stands before that, its arguments, and the name it is given to."""

    name: str
    before: str
    node: ast.Call
    scope: Scope
    target: str = ""


class Assigned(Struct, frozen=True):
    """`a.b.c = value`: the dotted name on the left, the value, and the scope."""

    name: str
    value: ast.expr
    scope: Scope


class Text(Struct, frozen=True):
    """A script: its calls and assignments in order, what its names were imported as, its classes, or why it cannot be read."""

    calls: tuple[Call, ...] = ()
    assigned: tuple[Assigned, ...] = ()
    imported: dict[str, str] = {}
    classes: tuple[ast.ClassDef, ...] = ()
    problem: str = ""
    line: int = 0


def parse(data: bytes) -> Text:
    """Read a script. Nothing is raised."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(data)
    except SyntaxError as error:
        return Text(problem=f"it is not Python that is understood here: {error.msg}", line=error.lineno or 1)
    except ValueError as error:
        return Text(problem=f"it cannot be parsed: {error}", line=1)
    except (RecursionError, MemoryError):
        return Text(problem="an expression in it is nested too deeply to be parsed", line=1)
    return _Walk().of(tree)


class _Walk:
    """One pass over a tree, with a stack of our own: a long sum is a deep tree."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.assigned: list[Assigned] = []
        self.imported: dict[str, str] = {}
        self.classes: list[ast.ClassDef] = []
        self.targets: dict[int, str] = {}
        self.taken: set[int] = set()
        """Names on the left of assignments that were taken down with their values."""

    def of(self, tree: ast.Module) -> Text:
        stack: list[tuple[ast.AST, Scope]] = [(tree, Scope(None))]
        while stack and len(self.calls) < MOST_CALLS:
            node, scope = stack.pop()
            inner = self._one(node, scope)
            stack += [(child, inner) for child in reversed(list(ast.iter_child_nodes(node)))]
        calls = sorted(self.calls, key=lambda call: (call.node.lineno, call.node.col_offset))
        return Text(tuple(calls), tuple(self.assigned), self.imported, tuple(self.classes))

    def _one(self, node: ast.AST, scope: Scope) -> Scope:
        """Take down what a node says; the scope of what stands in it."""
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            return self._function(node, scope)
        if isinstance(node, ast.ClassDef):
            scope.give(node.name, None)
            self.classes.append(node)
            return Scope(scope, True)
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            self._import(node, scope)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                self._assign(target, node.value, scope)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            self._assign(node.target, node.value, scope)
        elif isinstance(node, (ast.Name, ast.ExceptHandler)):
            self._other(node, scope)
        elif isinstance(node, ast.Call):
            self._call(node, scope)
        return scope

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, scope: Scope) -> Scope:
        if not isinstance(node, ast.Lambda):
            scope.give(node.name, None)
        inner = Scope(scope)
        given = node.args
        for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg):
            if argument is not None:
                inner.give(argument.arg, None)
        return inner

    def _import(self, node: ast.Import | ast.ImportFrom, scope: Scope) -> None:
        head = "." * node.level + (node.module or "") if isinstance(node, ast.ImportFrom) else ""
        for name in node.names:
            self.imported[name.asname or name.name] = f"{head}.{name.name}" if head else name.name
            scope.give(name.asname or name.name.partition(".")[0], None)

    def _assign(self, target: ast.expr, value: ast.expr, scope: Scope) -> None:
        if isinstance(target, ast.Name):
            scope.give(target.id, value)
            self.taken.add(id(target))
        name = dotted(target)
        if isinstance(value, ast.Call) and name:
            self.targets[id(value)] = name
        if isinstance(target, ast.Attribute) and name:
            self.assigned.append(Assigned(name, value, scope))

    def _other(self, node: ast.Name | ast.ExceptHandler, scope: Scope) -> None:
        """A name that is given something in another way: a loop, a with, a deletion, an assignment within an expression."""
        if isinstance(node, ast.ExceptHandler):
            scope.names[node.name or ""] = None
        elif not isinstance(node.ctx, ast.Load) and id(node) not in self.taken:
            scope.names[node.id] = None

    def _call(self, node: ast.Call, scope: Scope) -> None:
        name = dotted(node.func)
        before, _, last = name.rpartition(".")
        if last:
            self.calls.append(Call(last, before, node, scope, self.targets.get(id(node), "")))


def dotted(node: ast.AST) -> str:
    """`a.b.c` as a text; of what is called or indexed before the first dot only that there is something: `?.c`."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        parts.append(node.id)
    elif parts:
        parts.append("?")
    return ".".join(reversed(parts))


def arguments(call: Call, first: str = "") -> Node:
    """The keyword arguments of a call as a mapping, those of a literal mapping that is put in with ** among them.

    `first` is the name of the first argument, where it is given without one. What is computed is left out.
    """
    node = call.node
    made = Node({}, node.lineno, column=node.col_offset + 1)
    if first and node.args and not isinstance(node.args[0], ast.Starred):
        _put(made, first, node.args[0], call.scope, (node.args[0].lineno, node.args[0].col_offset + 1))
    for keyword in node.keywords:
        if keyword.arg is not None:
            _put(made, keyword.arg, keyword.value, call.scope, (keyword.lineno, keyword.col_offset + 1))
            continue
        more = literal(keyword.value, call.scope)
        for key, value in more.items() if more is not None else ():
            made.value[key] = value
            made.keys[key] = more.keys.get(key, (value.line, value.column)) if more is not None else (0, 0)
    return made


def is_whole(call: Call) -> bool:
    """Whether all arguments of a call are seen: nothing is put in with * or ** but literal mappings."""
    starred = any(isinstance(item, ast.Starred) for item in call.node.args)
    return not starred and all(
        keyword.arg is not None or literal(keyword.value, call.scope) is not None for keyword in call.node.keywords
    )


def _put(made: Node, key: str, value: ast.expr, scope: Scope, place: tuple[int, int]) -> None:
    found = literal(value, scope)
    if found is not None:
        made.value[key] = found
        made.keys[key] = place


def literal(node: ast.expr, scope: Scope, deep: int = 0) -> Node | None:
    """The value of an expression that is written out; None for one that is computed."""
    line, column = node.lineno, node.col_offset + 1
    if deep > DEEPEST:
        return None
    if isinstance(node, ast.Constant):
        return _constant(node.value, line, column)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        number = node.operand.value
        plain = isinstance(number, (int, float)) and not isinstance(number, bool)
        return _constant(-number, line, column) if plain else None  # type: ignore[operator]
    if isinstance(node, ast.Name):
        found = scope.find(node.id)
        return literal(found, scope, deep + 1) if found is not None else None
    if isinstance(node, ast.Attribute):
        return _named(dotted(node), line, column)
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        items = [literal(item, scope, deep + 1) for item in node.elts[:2000]]
        return None if any(item is None for item in items) else Node(items, line, column=column)
    if isinstance(node, ast.Dict):
        return _dict(zip(node.keys, node.values, strict=True), node, scope, deep)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args:
        made = Node({}, line, column=column)
        for keyword in node.keywords:
            if keyword.arg is None:
                return None
            _put(made, keyword.arg, keyword.value, scope, (keyword.lineno, keyword.col_offset + 1))
        return made
    return None


def _constant(value: object, line: int, column: int) -> Node | None:
    if value is not None and not isinstance(value, (str, int, float, bool)):
        return None
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**18:
        return None
    return Node(value, line, "" if value is None else str(value), isinstance(value, str), column)


def _named(name: str, line: int, column: int) -> Node | None:
    """The few names of libraries that stand for a plain value: torch.bfloat16, TaskType.CAUSAL_LM."""
    head, _, last = name.rpartition(".")
    kind = head.rpartition(".")[2]
    if kind == "torch" or kind == "TaskType":
        return Node(last, line, last, True, column)
    return Node(last.lower(), line, last.lower(), True, column) if kind in _ENUMS else None


def _dict(pairs: Iterator[tuple[ast.expr | None, ast.expr]], node: ast.expr, scope: Scope, deep: int) -> Node | None:
    made = Node({}, node.lineno, column=node.col_offset + 1)
    for key, value in pairs:
        found = literal(value, scope, deep + 1)
        if key is None:
            if found is None or not isinstance(found.value, dict):
                return None
            made.value.update(found.value)
            made.keys.update(found.keys)
        elif isinstance(key, ast.Constant) and isinstance(key.value, str) and found is not None:
            made.value[key.value] = found
            made.keys[key.value] = (key.lineno, key.col_offset + 1)
    return made
