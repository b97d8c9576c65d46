"""`add_argument` calls of a Python source → the flags of its parser: spellings, type, what they take, choices.

Two ways of declaring flags are read: calls with everything written out, and classes whose fields become flags (vLLM's
configuration classes, SGLang's annotated fields). A call whose spelling is not told by the text is counted in `missed`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from source_tree import UNKNOWN, Module, Tree, last_name


class Flag(NamedTuple):
    """A flag as one release has it. `choices` is None where every value is taken, or where the text does not tell them."""

    spellings: tuple[str, ...]
    type: str = "text"
    many: str = ""
    choices: tuple[str, ...] | None = None
    deprecated: bool = False
    instead: str = ""
    off: tuple[str, ...] = ()
    refused: bool = False
    elsewhere: bool = False

    @property
    def primary(self) -> str:
        """The first long spelling."""
        return next((s for s in self.spellings if s.startswith("--")), self.spellings[0])


TYPES = {
    "int": "int",
    "float": "float",
    "str": "text",
    "loads": "json",
    "json_list_type": "json",
    "human_readable_int": "size",
    "human_readable_int_or_auto": "size",
    "bool": "text",
}
"""What `type=` may be; any other callable is told as text, of which nothing is checked."""
_FLAGS = {"store_true", "store_false", "store_const", "version", "help", "count"}
_SWITCHES = {"BooleanOptionalAction", "EnableDisableAction"}


def calls(node: ast.AST) -> Iterator[ast.Call]:
    """The `add_argument` calls inside a function, in the order of the text."""
    found = [
        inner
        for inner in ast.walk(node)
        if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute) and inner.func.attr == "add_argument"
    ]
    return iter(sorted(found, key=lambda call: (call.lineno, call.col_offset)))


class Reader:
    """Reads the calls of functions of one release. `given` are the arguments that a class's fields give: name → field → arguments."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.missed: list[str] = []

    def function(
        self, module: Module, node: ast.AST, given: dict[str, dict[str, dict[str, Any]]] | None = None
    ) -> list[Flag]:
        """The flags that a function adds to its parser."""
        found = []
        for call in calls(node):
            looped = self._loop(module, node, call)
            flags = (
                [flag_of((name,), told) for name, told in looped] if looped else [self._call(module, call, given or {})]
            )
            found += [flag for flag in flags if flag is not None]
        return found

    def _loop(self, module: Module, function: ast.AST, call: ast.Call) -> list[tuple[str, dict[str, Any]]]:
        """`for arg, type in [("--x", str), …]: add_argument(arg, …)`: the flags by name."""
        if len(call.args) != 1 or not isinstance(call.args[0], ast.Name):
            return []
        for loop in ast.walk(function):
            if not (
                isinstance(loop, ast.For) and isinstance(loop.iter, (ast.List, ast.Tuple)) and call in ast.walk(loop)
            ):
                continue
            names = [t.id for t in ast.walk(loop.target) if isinstance(t, ast.Name)]
            told: dict[str, Any] = {
                k.arg: self._argument(module, k.arg, k.value) for k in call.keywords if k.arg not in (None, "type")
            }
            rows = [item.elts if isinstance(item, ast.Tuple) else [item] for item in loop.iter.elts]
            place = names.index(call.args[0].id) if call.args[0].id in names else -1
            values = [self.tree.value(module, row[place]) for row in rows if 0 <= place < len(row)]
            return [(str(value), told) for value in values if isinstance(value, str)]
        return []

    def _call(self, module: Module, call: ast.Call, given: dict[str, dict[str, dict[str, Any]]]) -> Flag | None:
        spellings = []
        for argument in call.args:
            value = self.tree.value(module, argument)
            if isinstance(value, str):
                spellings.append(value)
            elif not isinstance(argument, ast.Starred):
                self.missed.append(f"{module.name}:{call.lineno}")
                return None
            else:
                return None  # a loop over fields: `fields` reads those
        if not spellings or not all(s.startswith("-") for s in spellings):
            return None
        arguments: dict[str, Any] = {}
        for keyword in call.keywords:
            if keyword.arg is None:
                arguments |= self._spread(module, keyword.value, given)
            else:
                arguments[keyword.arg] = self._argument(module, keyword.arg, keyword.value)
        return flag_of(tuple(spellings), arguments)

    def _argument(self, module: Module, name: str, node: ast.expr) -> Any:
        if name == "type":
            return type_name(node)
        if name == "action":
            value = self.tree.value(module, node)
            return value if isinstance(value, str) else last_name(node)
        return self.tree.value(module, node)

    def _spread(self, module: Module, node: ast.expr, given: dict[str, dict[str, dict[str, Any]]]) -> dict[str, Any]:
        """`**model_kwargs["dtype"]` and `**{**model_kwargs["dtype"], "default": None}`."""
        if (
            isinstance(node, ast.Subscript)
            and isinstance(node.value, ast.Name)
            and isinstance(node.slice, ast.Constant)
        ):
            fields = given.get(node.value.id)
            if fields is None or str(node.slice.value) not in fields:
                self.missed.append(f"{module.name}:{node.lineno} **{node.value.id}[{node.slice.value!r}]")
                return {}
            return dict(fields[str(node.slice.value)])
        if isinstance(node, ast.Dict):
            told: dict[str, Any] = {}
            for key, value in zip(node.keys, node.values, strict=False):
                if key is None:
                    told |= self._spread(module, value, given)
                elif isinstance(key, ast.Constant):
                    told[str(key.value)] = self._argument(module, str(key.value), value)
            return told
        value = self.tree.value(module, node)
        return value if isinstance(value, dict) else {}


def type_name(node: ast.expr) -> str:
    """The kind of a `type=`: `optional_type(int)` is an int that may be None."""
    if isinstance(node, ast.Call) and last_name(node.func) in ("optional_type", "nullable", "parse_type") and node.args:
        inner = type_name(node.args[0])
        return f"{inner}?" if inner in ("int", "float", "size") else inner
    if isinstance(node, ast.Lambda):
        return "text"
    return TYPES.get(last_name(node), "text")


def flag_of(spellings: tuple[str, ...], told: dict[str, Any]) -> Flag:
    """A flag from the arguments of its call."""
    action = told.get("action") or ""
    kind = told.get("type") or "text"
    many = told.get("nargs")
    many = "" if many in (None, UNKNOWN) else str(many)
    off: tuple[str, ...] = ()
    if action in _FLAGS or str(action).endswith(("StoreTrueAction", "StoreFalseAction")):
        kind, many = "flag", ""
    elif action in _SWITCHES:
        kind, many = "switch", ""
        off = tuple(opposites(spellings, action == "EnableDisableAction"))
    elif str(action) in ("DeprecatedAction", "DeprecatedStoreConstAction") and "nargs" not in told:
        kind, many = "flag", ""
    choices = told.get("choices")
    listed = tuple(str(c) for c in choices if c is not None) if isinstance(choices, list) else None
    help_ = str(told.get("help") or "")
    deprecated, instead = deprecation(help_, told)
    refused = str(action) == "DeprecatedAction" and bool(told.get("error_message"))
    return Flag(spellings, kind, many, listed, deprecated, instead, off, refused)


def opposites(spellings: Iterable[str], both: bool) -> Iterator[str]:
    """`--no-x` for `--x`; and `--disable-x` for `--enable-x` where the parser pairs them."""
    for spelling in spellings:
        if spelling.startswith("--"):
            yield f"--no-{spelling[2:]}"
        for one, other in (("--enable-", "--disable-"), ("--disable-", "--enable-")):
            if both and spelling.startswith(one):
                yield other + spelling[len(one) :]


_DEPRECATED = re.compile(
    r"(?i)^\W*(?:note: )?\W*deprecated\b|\b(?:is|this (?:argument|flag|option) is|are) (?:now )?deprecated\b|^\W*\[deprecated|\(deprecated\b"
)
_INSTEAD = re.compile(
    r"(?i)(?:use|prefer|replaced by|in favou?r of|instead of this,? use|please use)\s+(?:the\s+)?[`'\"]?(--[a-z][\w.-]*)"
)


def deprecation(help_: str, told: dict[str, Any]) -> tuple[bool, str]:
    """Whether a flag is on its way out, as its source says, and what to use in its place."""
    action = str(told.get("action") or "")
    declared = told.get("deprecated") is True or action.startswith("Deprecated") or bool(_DEPRECATED.search(help_))
    if not declared:
        return False, ""
    named = told.get("new_flag")
    if isinstance(named, str):
        return True, named.replace("…", "")
    found = _INSTEAD.search(help_) or _INSTEAD.search(str(told.get("error_message") or ""))
    return True, found[1].rstrip(".-") if found else ""
