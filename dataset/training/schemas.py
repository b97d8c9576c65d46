"""Classes that hold settings → their keys: dataclasses, pydantic models, and the parameters of `__init__`, read from the text.

Nothing is imported or run. What the text does not tell (a default that is computed, a type from another package) is left out.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from source_tree import UNKNOWN, Module, Tree, last_name

ENUMS = ("Enum", "ExplicitEnum", "StrEnum", "IntEnum", "BaseEnum", "EnumWithContains")
_WORDS = {"int": "number", "float": "number", "bool": "flag", "str": "text", "dict": "mapping"}
_DEPRECATED = re.compile(
    # `using X for `key` is deprecated` is about a value
    r"(?<!for )(?<!in )[`'\"](?:--)?(\w+)[`'\"]?\s+(?:(?:argument|parameter|option|keyword|flag|config|field)s?\s+)?(?:is|are|was|has been)\s+(?:now\s+)?deprecated"
)
_INSTEAD = re.compile(
    r"(?:[Uu]se|in favou?r of|[Rr]eplaced by|[Rr]enamed to|superseded by)\s+(?:the\s+)?(?:[`'\"])?(?:--)?([a-z]\w*_\w+|[a-z]\w+(?=[`'\"]))(?![.(\w])"
)


class Field(NamedTuple):
    """A key of a schema.

    `type` in words: number, flag, text, list, mapping, any, joined by `|`, with `?` behind where None is taken. `choices` are
    the values taken; `checked` tells by whom: always, or parser (only on a command line). `schema` is the class of a mapping.
    `refused`: the framework stops at a value that is set. `default`: None where it is none or not told. `loose`: some code of the
    package reads a key of this name, perhaps of another mapping.
    """

    key: str
    type: str = "any"
    choices: tuple[str, ...] = ()
    checked: str = ""
    default: str | int | float | bool | None = None
    deprecated: bool = False
    refused: bool = False
    instead: str = ""
    schema: str = ""
    loose: bool = False


class Schema(NamedTuple):
    """A class with its keys, those of bases in the same package included. `base` is one of another package.

    `unknown`: what happens to a key that it does not have: refuses, ignores, warns.
    """

    name: str
    fields: dict[str, Field]
    base: str = ""
    unknown: str = "refuses"


class Reader:
    """Reads the classes of one release."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree

    def schema(self, module: Module, node: ast.ClassDef, unknown: str = "refuses") -> Schema:
        """A dataclass or pydantic model with all that it inherits inside the package."""
        fields: dict[str, Field] = {}
        base, extra = "", ""
        by_name = any(
            re.search("populat(?:e|ion)_by_(?:field_)?name", ast.dump(one)) for _, one in self.tree.bases(module, node)
        )
        for inner, one in self.tree.bases(module, node):
            extra = _extra(one) or extra
            base = self._foreign(inner, one) or base
            for statement in one.body:
                field = self._field(inner, statement)
                if field is not None:
                    fields[field.key] = field
                    if by_name and isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                        fields[statement.target.id] = field._replace(key=statement.target.id)
                elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                    fields.pop(statement.target.id, None)
        for inner, one in self.tree.bases(module, node):
            self._converted(inner, one, fields)
            for name in _prepared(one) & fields.keys():
                fields[name] = fields[name]._replace(choices=(), checked="")
            _messages(self.tree, inner, one, fields)
        return Schema(node.name, fields, base, {"forbid": "refuses", "allow": "ignores"}.get(extra, unknown))

    def signature(self, module: Module, node: ast.ClassDef, unknown: str) -> Schema:
        """A class whose keys are the parameters of its `__init__`."""
        fields: dict[str, Field] = {}
        for inner, one in self.tree.bases(module, node):
            for statement in one.body:
                if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
                    fields = {field.key: field for field in self._parameters(inner, statement)}
        return Schema(node.name, fields, "", unknown)

    def _parameters(self, module: Module, node: ast.FunctionDef) -> Iterator[Field]:
        arguments = [*node.args.posonlyargs, *node.args.args][1:]
        defaults: list[ast.expr | None] = [None] * (len(arguments) - len(node.args.defaults)) + list(node.args.defaults)
        pairs = [
            *zip(arguments, defaults, strict=False),
            *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=False),
        ]
        for argument, default in pairs:
            type_, choices, _ = self._type(module, argument.annotation) if argument.annotation else ("any", (), "")
            yield Field(
                argument.arg, type_, choices, "always" if choices else "", _plain(self.tree.value(module, default))
            )

    # --- fields

    def _field(self, module: Module, node: ast.stmt) -> Field | None:
        """What an annotated assignment of a class declares; None for what is no key (ClassVar, `init=False`, private)."""
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            return None
        name = node.target.id
        if name.startswith("_") or "ClassVar" in ast.dump(node.annotation)[:60] or name == "model_config":
            return None
        call = node.value if isinstance(node.value, ast.Call) else None
        given = {word.arg: word.value for word in call.keywords if word.arg} if call else {}
        if call is not None and self.tree.value(module, given.get("init")) is False:
            return None
        type_, choices, schema = self._type(module, node.annotation)
        checked = "always" if choices else ""
        default = given.get("default", call.args[0] if call and call.args else None) if call else node.value
        field = Field(name, type_, choices, checked, _plain(self._default(module, default)), schema=schema)
        return self._marked(module, field, given)

    def _default(self, module: Module, node: ast.expr | None) -> Any:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found = self.tree.find(module, node.value.id)
            if found is not None and isinstance(found[1], ast.ClassDef):
                return self.enum(found[0], found[1]).get(node.attr, UNKNOWN)
        return self.tree.value(module, node)

    def _marked(self, module: Module, field: Field, given: dict[str, ast.expr]) -> Field:
        """A field with what its metadata, aliases and notes of deprecation tell."""
        metadata = given.get("metadata") or given.get("json_schema_extra")
        told = self.tree.value(module, metadata) if metadata is not None else {}
        told = told if isinstance(told, dict) else {}
        listed = told.get("choices")
        if isinstance(listed, list) and listed and not field.choices:
            field = field._replace(choices=tuple(str(item) for item in listed), checked="parser")
        help_ = str(told.get("help") or told.get("description") or self.tree.value(module, given.get("description")))
        if self.tree.value(module, given.get("deprecated")) or told.get("deprecated"):
            instead = self.tree.value(module, given.get("new_param")) or told.get("new_param") or ""
            message = self.tree.value(module, given.get("deprecated"))
            if not instead and isinstance(message, str):
                instead = _instead(message, field.key)
            field = field._replace(deprecated=True, instead=str(instead))
        elif re.match(r"(?i)[\s(\[]*(?:this (?:argument|parameter|option|flag)[^.]{0,30}is |\W*)?deprecated", help_):
            field = field._replace(deprecated=True, instead=_instead(help_, field.key))
        alias = self.tree.value(module, given.get("alias"))
        return field._replace(key=alias) if isinstance(alias, str) else field

    def _type(self, module: Module, node: ast.expr | None) -> tuple[str, tuple[str, ...], str]:
        """The type in words, the values it takes, and the class of a mapping."""
        words: dict[str, None] = {}
        values: dict[str, None] = {}
        schema, optional, open_ = "", False, False
        for hint in sorted(self.tree.hints(module, node), key=str):
            if hint == "None":
                optional = True
            elif hint in _WORDS:
                words[_WORDS[hint]] = None
                open_ = True
            elif hint[0] == "Literal":
                for value in hint[1]:
                    optional |= value is None
                    words[_word(value)] = None
                    values |= {} if value is None else {_told(value): None}
            elif hint[0] in ("list", "tuple", "set"):
                words["list"] = None
                open_ = True
            elif hint[0] == "class":
                found = self._class(hint[1])
                listed = self.enum(*found) if found else {}
                if listed:
                    words |= {_word(value): None for value in listed.values()}
                    values |= {_told(value): None for value in listed.values()}
                else:
                    words["mapping"] = None
                    schema = str(hint[1]).rpartition(":")[2]
                    open_ = True
            else:
                words["any"] = None
                open_ = True
        order = ("number", "flag", "text", "list", "mapping")
        type_ = "any" if "any" in words or not words else "|".join(word for word in order if word in words)
        if open_ or (node is not None and "Validator" in ast.dump(node)):
            values = {}
        return type_ + ("?" if optional else ""), tuple(values), schema

    def _class(self, name: str) -> tuple[Module, ast.ClassDef] | None:
        module, _, inner = name.partition(":")
        found = self.tree.module(module)
        node = found.classes.get(inner) if found else None
        return (found, node) if found is not None and node is not None else None

    def enum(self, module: Module, node: ast.ClassDef) -> dict[str, Any]:
        """The members of an Enum with their values; empty for any other class."""
        names = {last_name(base) for _, one in self.tree.bases(module, node) for base in one.bases}
        if not names & set(ENUMS):
            return {}
        found = {}
        for statement in node.body:
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                value = self.tree.value(module, statement.value)
                if isinstance(value, list) and value:
                    value = value[0]
                if isinstance(value, (str, int)):
                    found[statement.targets[0].id] = value
        return found

    def _converted(self, module: Module, node: ast.ClassDef, fields: dict[str, Field]) -> None:
        """`self.eval_strategy = IntervalStrategy(self.eval_strategy)`: the values of that Enum are the only ones taken."""
        for inner in ast.walk(node):
            if not (isinstance(inner, ast.Assign) and isinstance(inner.value, ast.Call) and len(inner.value.args) == 1):
                continue
            target, argument = inner.targets[0], inner.value.args[0]
            if not (isinstance(target, ast.Attribute) and isinstance(argument, ast.Attribute)):
                continue
            found = self.tree.find(module, last_name(inner.value.func))
            if target.attr != argument.attr or found is None or not isinstance(found[1], ast.ClassDef):
                continue
            listed = self.enum(found[0], found[1])
            if listed and target.attr in fields:
                choices = tuple(_told(value) for value in listed.values())
                fields[target.attr] = fields[target.attr]._replace(choices=choices, checked="always")

    def _foreign(self, module: Module, node: ast.ClassDef) -> str:
        """A base class of another package: `transformers.TrainingArguments`."""
        for base in node.bases:
            name = base.id if isinstance(base, ast.Name) else ""
            source = module.imported.get(name, ("", ""))[0]
            top = source.partition(".")[0]
            if top == "transformers" and top != module.name.partition(".")[0] and name.endswith("Arguments"):
                return f"{top}.{module.imported[name][1]}"
        return ""


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "flag"
    return "number" if isinstance(value, (int, float)) else "text"


def _told(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _plain(value: Any) -> str | int | float | bool | None:
    return value if isinstance(value, (str, int, float, bool)) and len(str(value)) <= 60 else None


def _extra(node: ast.ClassDef) -> str:
    """What a pydantic class does with keys that it does not have, where it says so: forbid, ignore, allow."""
    for statement in node.body:
        if isinstance(statement, ast.Assign) and last_name(statement.targets[0]) == "model_config":
            for inner in ast.walk(statement.value):
                if isinstance(inner, ast.keyword) and inner.arg == "extra" and isinstance(inner.value, ast.Constant):
                    return str(inner.value.value)
                if isinstance(inner, ast.Dict):
                    for key, value in zip(inner.keys, inner.values, strict=False):
                        if isinstance(key, ast.Constant) and key.value == "extra" and isinstance(value, ast.Constant):
                            return str(value.value)
        if isinstance(statement, ast.ClassDef) and statement.name == "Config":
            for inner in statement.body:
                if isinstance(inner, ast.Assign) and last_name(inner.targets[0]) == "extra":
                    value = inner.value
                    return str(value.value) if isinstance(value, ast.Constant) else last_name(value)
    return ""


def _prepared(node: ast.ClassDef) -> set[str]:
    """The keys whose values a pydantic validator changes before they are looked at."""
    found: set[str] = set()
    for method in node.body:
        for call in method.decorator_list if isinstance(method, ast.FunctionDef) else ():
            if isinstance(call, ast.Call) and last_name(call.func) in ("field_validator", "validator"):
                words = {word.arg: word.value for word in call.keywords}
                mode = words.get("mode") or words.get("pre")
                if isinstance(mode, ast.Constant) and mode.value in ("before", "wrap", True):
                    found |= {str(item.value) for item in call.args if isinstance(item, ast.Constant)}
    return found


def _messages(tree: Tree, module: Module, node: ast.ClassDef, fields: dict[str, Field]) -> None:
    """Marks the keys that the class's own code calls deprecated, with what it says to use instead."""
    for method in node.body:
        if not isinstance(method, ast.FunctionDef):
            continue
        raised = {id(inner) for one in ast.walk(method) if isinstance(one, ast.Raise) for inner in ast.walk(one)}
        for inner in ast.walk(method):
            if isinstance(inner, ast.For):
                _pairs(tree, module, inner, fields)
            if not isinstance(inner, (ast.Constant, ast.JoinedStr)):
                continue
            text = tree.value(module, inner)
            for name in _DEPRECATED.findall(text) if isinstance(text, str) and "deprecated" in text else ():
                if name in fields:
                    instead = _instead(text, name) or fields[name].instead
                    refused = id(inner) in raised or fields[name].refused
                    fields[name] = fields[name]._replace(deprecated=True, instead=instead, refused=refused)


def _pairs(tree: Tree, module: Module, node: ast.For, fields: dict[str, Field]) -> None:
    """`for old, new in (("a", "b"), …): … deprecated …`."""
    if "deprecated" not in ast.dump(ast.Module(node.body, [])):
        return
    for pair in tree.value(module, node.iter) or ():
        if isinstance(pair, list) and len(pair) == 2 and pair[0] in fields and pair[1] in fields:
            fields[pair[0]] = fields[pair[0]]._replace(deprecated=True, instead=pair[1])


def _instead(text: str, key: str) -> str:
    found = [name for name in _INSTEAD.findall(text) if name != key]
    return found[0] if found else ""
