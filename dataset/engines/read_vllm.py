"""vLLM's own sources of one release → its flags, environment variables, architectures and parsers."""

from __future__ import annotations

import ast
import re
from typing import Any

from parsers import Flag, Reader, flag_of, opposites
from source_tree import UNKNOWN, Module, Tree, last_name

WANTED = re.compile(
    r"vllm/(?:engine/arg_utils|entrypoints/(?:[a-z_]+/)*cli_args|entrypoints/cli/serve|config|config/[^/]+|envs|"
    r"utils(?:/[^/]+)?|model_executor/models/registry|reasoning/[^/]+|tool_parsers/[^/]+|entrypoints/openai/tool_parsers/[^/]+|"
    r"model_executor/layers/quantization/__init__|model_executor/model_loader/__init__|v1/attention/backends/registry|"
    r"attention/backends/registry|platforms/interface|lora/request|parser/[^/]+|renderers/[^/]+|entrypoints/chat_utils|entrypoints/anthropic/protocol)\.py"
)
"""The members of a wheel that are read."""


class VllmReader:
    """Reads one release."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.tree = Tree(texts)
        self.reader = Reader(self.tree)
        self._kinds: dict[str, dict[str, dict[str, Any]]] = {}
        arguments = texts.get("vllm/engine/arg_utils.py", "")
        self._switches = "BooleanOptionalAction" in arguments
        self._sizes = self._size_fields(arguments)

    @staticmethod
    def _size_fields(source: str) -> set[str]:
        """Fields whose value may be written as 16k: names that stand beside the parser of such numbers."""
        if "human_readable_int" not in source:
            return set()
        found: set[str] = set()
        beside = r"human_readable_int\w* ?= ?\{([^}]*)\}|name in \{([^}]*)\}|name in \(([^)]*)\)|name == (\"\w+\")"
        for part in re.findall(beside, source):
            found |= set(re.findall(r'"(\w+)"', " ".join(part)))
        return found

    def flags(self) -> list[Flag]:
        """The flags of `vllm serve`."""
        found: list[Flag] = []
        for path in sorted(path for path in self.tree.texts if path.endswith("/cli_args.py")):
            module = self.tree.module(path.removesuffix(".py").replace("/", "."))
            if module is not None and "make_arg_parser" in module.functions:
                found += self._frontend(module)
        module = self.tree.module("vllm.engine.arg_utils")
        if module is not None:
            for name in ("EngineArgs", "AsyncEngineArgs"):
                node = module.classes.get(name)
                method = _method(node, "add_cli_args") if node else None
                if method is not None:
                    found += self.reader.function(module, method, self._given(module, method))
        found += self._serve_command()
        paired = any("class EnableDisableAction" in text for text in self.tree.texts.values())
        return _unique([self._paired(flag) for flag in found] if paired else found)

    @staticmethod
    def _paired(flag: Flag) -> Flag:
        """A switch `--enable-x` that is also switched off by `--disable-x`, and the other way round."""
        if flag.type != "switch":
            return flag
        return flag._replace(off=tuple(opposites(flag.spellings, both=True)))

    def _serve_command(self) -> list[Flag]:
        """Flags that `vllm serve` adds to those of the server in releases where it does."""
        module = self.tree.module("vllm.entrypoints.cli.serve")
        if module is None:
            return []
        node = module.classes.get("ServeSubcommand")
        method = _method(node, "subparser_init") if node else None
        return self.reader.function(module, method) if method else []

    def _frontend(self, module: Module) -> list[Flag]:
        found = self.reader.function(module, module.functions["make_arg_parser"])
        node = module.classes.get("FrontendArgs")
        if node is None:
            return found
        kwargs: dict[str, dict[str, Any]] = {}
        for owner, base in self.tree.bases(module, node):
            kwargs |= self._fields(owner, base)
        for owner, base in self.tree.bases(module, node):
            for method in ("_customize_cli_kwargs", "add_cli_args"):
                function = _method(base, method)
                if function is not None:
                    _apply(self.tree, owner, function, {"frontend_kwargs": kwargs})
                    found += self.reader.function(owner, function, {"frontend_kwargs": kwargs})
        for field, told in kwargs.items():
            spellings = [f"--{field.replace('_', '-')}", *[s for s in told.get("flags") or [] if isinstance(s, str)]]
            found.append(flag_of(tuple(spellings), told))
        return found

    def _given(self, module: Module, function: ast.FunctionDef) -> dict[str, dict[str, dict[str, Any]]]:
        """The names in a function that hold what a class's fields give: `model_kwargs = get_kwargs(ModelConfig)`."""
        given: dict[str, dict[str, dict[str, Any]]] = {}
        for node in ast.walk(function):
            if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)):
                continue
            if last_name(node.value.func) != "get_kwargs" or not node.value.args:
                continue
            named = node.value.args[0]
            found = self.tree.find(module, named.id) if isinstance(named, ast.Name) else None
            if found is None or not isinstance(found[1], ast.ClassDef):
                self.reader.missed.append(f"class {ast.unparse(named)}")
                continue
            kwargs: dict[str, dict[str, Any]] = {}
            for owner, base in self.tree.bases(found[0], found[1]):
                kwargs |= self._fields(owner, base)
            for target in node.targets:
                if isinstance(target, ast.Name):
                    given[target.id] = kwargs
        _apply(self.tree, module, function, given)
        return given

    def _fields(self, module: Module, node: ast.ClassDef) -> dict[str, dict[str, Any]]:
        """What each field of a configuration class gives for its flag: vLLM's `_compute_kwargs`, from the annotation."""
        key = f"{module.name}:{node.name}"
        if key not in self._kinds:
            fields: dict[str, dict[str, Any]] = {}
            for item, text in _with_docs(node):
                hints = self.tree.hints(module, item.annotation)
                told = self._kwargs(item.target.id, hints)  # type: ignore[union-attr]
                told["help"] = text
                fields[item.target.id] = told  # type: ignore[union-attr]
            self._kinds[key] = fields
        return {name: dict(told) for name, told in self._kinds[key].items()}

    def _kwargs(self, name: str, hints: set[Any]) -> dict[str, Any]:
        kinds = {hint[0] if isinstance(hint, tuple) else hint for hint in hints}
        optional = "?" if "None" in kinds else ""
        classes = [hint for hint in hints if isinstance(hint, tuple) and hint[0] == "class"]
        if any(self._is_config(hint[1]) for hint in classes):
            return {"type": "json"}
        if kinds == {"bool", "str", "None"} and self._switches:
            return {"type": "text", "nargs": "?"}
        if "bool" in kinds:
            return {"action": "BooleanOptionalAction"} if self._switches else {"action": "store_true"}
        if "Literal" in kinds:
            values = next(hint for hint in hints if isinstance(hint, tuple) and hint[0] == "Literal")[1]
            number = "int" if values and isinstance(values[0], int) else "text"
            return {"type": number} | ({} if "str" in kinds else {"choices": sorted(values, key=str)})
        for kind in ("tuple", "list", "set"):
            if kind in kinds:
                return self._several(next(hint for hint in hints if isinstance(hint, tuple) and hint[0] == kind))
        if "int" in kinds:
            return {"type": ("size" if name in self._sizes else "int") + optional}
        if "float" in kinds:
            return {"type": "float" + optional}
        if "dict" in kinds and ("str" in kinds or classes or "other" in kinds):
            return {"type": "text"}
        if "dict" in kinds:
            return {"type": "json"}
        return {"type": "text"}

    @staticmethod
    def _several(hint: Any) -> dict[str, Any]:
        kind, elements, count = hint
        number = next((item for item in elements if item in ("int", "float")), "text")
        literal = next((item for item in elements if isinstance(item, tuple) and item[0] == "Literal"), None)
        many = str(count) if kind == "tuple" and count else "+"
        told: dict[str, Any] = {"type": number if len(elements) == 1 else "text", "nargs": many}
        if literal is not None:
            told["choices"] = sorted(literal[1], key=str)
            told["type"] = "text"
        return told

    def _is_config(self, name: str) -> bool:
        """Whether a class is a dataclass, so that its flag takes JSON."""
        module_name, _, class_name = name.partition(":")
        module = self.tree.module(module_name)
        node = module.classes.get(class_name) if module else None
        if node is None:
            return False
        return any("dataclass" in ast.unparse(d) or "config" in ast.unparse(d).lower() for d in node.decorator_list)

    # --- what is not a flag

    def environment(self) -> set[str]:
        """The environment variables that vLLM declares."""
        module = self.tree.module("vllm.envs")
        if module is None:
            return set()
        found = module.assigned.get("environment_variables")
        names = self.tree.value(module, found) if found is not None else UNKNOWN
        listed = {str(name) for name in names} if isinstance(names, dict) else set()
        source = self.tree.texts.get("vllm/envs.py", "")
        return listed | set(re.findall(r"(?:os\.(?:getenv|environ\.get)\(|environ\[)\s*[\"'](VLLM_\w+)", source))

    def lists(self) -> dict[str, set[str]]:
        """Names that are valid in this release: architectures, parsers, quantization methods, load formats."""
        return {
            "architectures": self._architectures(),
            "tool_parsers": self._parsers(
                ("vllm/tool_parsers/", "vllm/entrypoints/openai/tool_parsers/"), "_TOOL_PARSERS_TO_REGISTER"
            ),
            "reasoning_parsers": self._parsers(("vllm/reasoning/",), "_REASONING_PARSERS_TO_REGISTER"),
            "quantization": self._quantization(),
            "kv_cache_dtypes": self._literal("vllm.config.cache", "CacheDType"),
            "attention_backends": self._members(),
            "load_formats": self._literal("vllm.model_executor.model_loader", "_LOAD_FORMAT_TO_MODEL_LOADER"),
            **self._keys(),
        }

    def _literal(self, module_name: str, name: str) -> set[str]:
        """The values of a Literal, or the keys of a dictionary."""
        module = self.tree.module(module_name)
        value = self.tree.value(module, module.assigned.get(name)) if module else UNKNOWN
        return {str(item) for item in value} if isinstance(value, (list, dict)) else set()

    def _members(self) -> set[str]:
        """The names of the attention backends: the members of their enumeration."""
        for module_name in ("vllm.v1.attention.backends.registry", "vllm.attention.backends.registry"):
            module = self.tree.module(module_name)
            node = module.classes.get("AttentionBackendEnum") if module else None
            if node is not None:
                names = [
                    t.id
                    for item in node.body
                    if isinstance(item, ast.Assign)
                    for t in item.targets
                    if isinstance(t, ast.Name)
                ]
                return {name for name in names if name.isupper() and not name.startswith("_")}
        return set()

    def _keys(self) -> dict[str, set[str]]:
        """The keys of each flag that takes a configuration as JSON, where the release refuses any other.

        The speculative configuration is made with `SpeculativeConfig(**keys)`, which refuses others in every release.
        """
        module = next(
            (
                m
                for m in (self.tree.module("vllm.config.vllm"), self.tree.module("vllm.config"))
                if m and "VllmConfig" in m.classes
            ),
            None,
        )
        if module is None:
            return {}
        strict = 'extra="forbid"' in self.tree.texts.get("vllm/config/utils.py", "")
        found: dict[str, set[str]] = {}
        for item, _ in _with_docs(module.classes["VllmConfig"]):
            name = item.target.id  # type: ignore[union-attr]
            told = next(
                (
                    hint[1]
                    for hint in self.tree.hints(module, item.annotation)
                    if isinstance(hint, tuple) and hint[0] == "class"
                ),
                "",
            )
            if not name.endswith("_config") or not told or not (strict or name == "speculative_config"):
                continue
            owner = self.tree.module(told.partition(":")[0])
            node = owner.classes.get(told.partition(":")[2]) if owner else None
            if owner is not None and node is not None:
                found[f"keys_{name}"] = {
                    field.target.id  # type: ignore[union-attr]
                    for _, base in self.tree.bases(owner, node)
                    for field, _ in _with_docs(base)
                    if "ClassVar" not in ast.unparse(field.annotation)
                }
        return found

    def _architectures(self) -> set[str]:
        module = self.tree.module("vllm.model_executor.models.registry")
        found: set[str] = set()
        for name, node in module.assigned.items() if module else ():
            if (
                re.fullmatch(r"_[A-Z_]*MODELS", name)
                and isinstance(node, ast.Dict)
                and "PREVIOUSLY" not in name
                and "UNSUPPORTED" not in name
                and "PARTIALLY" not in name
            ):
                value = self.tree.value(module, node)
                found |= {str(key) for key in value} if isinstance(value, dict) else set()
        return found

    def _parsers(self, folders: tuple[str, ...], table: str) -> set[str]:
        """Names that parsers are registered under: by a decorator, or in a table of the package."""
        found: set[str] = set()
        for path, text in self.tree.texts.items():
            if not path.startswith(folders):
                continue
            for inside in re.findall(r"register_module\(\s*(?:name=)?(\[[^\]]*\]|\"[^\"]+\"|'[^']+')", text):
                found |= set(re.findall(r"[\"']([\w.-]+)[\"']", inside))
            if table in text:
                module = self.tree.module(path.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
                value = self.tree.value(module, module.assigned.get(table)) if module else UNKNOWN
                found |= {str(key) for key in value} if isinstance(value, dict) else set()
        return found

    def _quantization(self) -> set[str]:
        module = self.tree.module("vllm.model_executor.layers.quantization")
        if module is None:
            return set()
        for name in ("QuantizationMethods", "QUANTIZATION_METHODS"):
            value = self.tree.value(module, module.assigned.get(name))
            if isinstance(value, (list, dict)) and value:
                more = self.tree.value(module, module.assigned.get("DEPRECATED_QUANTIZATION_METHODS"))
                return {str(item) for item in value} | ({str(m) for m in more} if isinstance(more, list) else set())
        return set()


def _method(node: ast.ClassDef | None, name: str) -> ast.FunctionDef | None:
    return (
        next((item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == name), None)
        if node
        else None
    )


def _with_docs(node: ast.ClassDef) -> list[tuple[ast.AnnAssign, str]]:
    """The annotated fields of a class, each with the text below it."""
    found = []
    for index, item in enumerate(node.body):
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            following = node.body[index + 1] if index + 1 < len(node.body) else None
            text = ""
            if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                text = str(following.value.value)
            found.append((item, text))
    return found


def _apply(tree: Tree, module: Module, function: ast.FunctionDef, given: dict[str, dict[str, dict[str, Any]]]) -> None:
    """What a function changes of the fields' arguments before it adds the flags: `kwargs["x"]["type"] = json.loads`."""
    from parsers import type_name

    def place(node: ast.AST) -> tuple[dict[str, Any], str] | None:
        if not (isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant)):
            return None
        inner = node.value
        if (
            isinstance(inner, ast.Subscript)
            and isinstance(inner.value, ast.Name)
            and isinstance(inner.slice, ast.Constant)
        ):
            fields = given.get(inner.value.id, {}).get(str(inner.slice.value))
            return (fields, str(node.slice.value)) if fields is not None else None
        return None

    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                found = place(target)
                if found is not None:
                    fields, key = found
                    if key == "type":
                        fields[key] = type_name(node.value)
                    elif key == "action":
                        value = tree.value(module, node.value)
                        fields[key] = value if isinstance(value, str) else last_name(node.value)
                    else:
                        fields[key] = tree.value(module, node.value)
        elif isinstance(node, ast.Delete):
            for target in node.targets:
                found = place(target)
                if found is not None:
                    found[0].pop(found[1], None)
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("remove", "append")
        ):
            found = place(node.func.value)
            listed = found[0].get(found[1]) if found else None
            if isinstance(listed, list) and node.args:
                value = tree.value(module, node.args[0])
                if value is UNKNOWN:
                    found[0][found[1]] = UNKNOWN  # type: ignore[index]
                elif node.func.attr == "remove":
                    found[0][found[1]] = [item for item in listed if item != value]  # type: ignore[index]
                else:
                    found[0][found[1]] = [*listed, value]  # type: ignore[index]


def _unique(flags: list[Flag]) -> list[Flag]:
    """Flags without those whose first spelling was told before."""
    found: dict[str, Flag] = {}
    for flag in flags:
        found.setdefault(flag.primary, flag)
    return list(found.values())
