"""SGLang's own sources of one release → its flags, environment variables, architectures and parsers."""

from __future__ import annotations

import ast
import re
from typing import Any

from parsers import Flag, Reader, flag_of, type_name
from source_tree import UNKNOWN, Module, Tree, last_name

WANTED = re.compile(
    r"sglang/(?:srt/(?:server_args|environ|reasoning_parser|arg_groups/.+|function_call/[^/]+|parser/[^/]+|function_call_parser|"
    r"models/[^/]+|utils|utils/(?:common|__init__)|layers/quantization/__init__|configs/model_config|hf_transformers_utils|"
    r"mem_cache/[^/]+|speculative/[^/]+|lora/[^/]+)|cli/[^/]+|launch_server)\.py"
)
"""The members of a wheel that are read."""


class SglangReader:
    """Reads one release."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.tree = Tree(texts)
        self.reader = Reader(self.tree)

    def flags(self) -> list[Flag]:
        """The flags of `python -m sglang.launch_server` and `sglang serve`."""
        found: dict[str, Flag] = {}
        module = self.tree.module("sglang.srt.server_args")
        if module is None:
            return []
        for owner, node in self._holders(module):
            for flag in self._fields(owner, node):
                found.setdefault(flag.primary, flag)
        node = module.classes.get("ServerArgs")
        method = (
            next((i for i in node.body if isinstance(i, ast.FunctionDef) and i.name == "add_cli_args"), None)
            if node
            else None
        )
        if method is not None:
            for flag in self.reader.function(module, method):
                found[flag.primary] = self._with_parsers(flag)
        if any(path == "sglang/cli/serve.py" for path in self.tree.texts):
            found.setdefault("--model-type", Flag(("--model-type",)))
        return list(found.values())

    def _with_parsers(self, flag: Flag) -> Flag:
        """The parsers' choices are made when the program starts, from a table that is read here too."""
        key = {"--tool-call-parser": "tool_parsers", "--reasoning-parser": "reasoning_parsers"}.get(flag.primary)
        names = self.lists()[key] if key else set()
        return (
            flag._replace(choices=tuple(sorted({*names, "auto"})))
            if names and self._has_auto()
            else (flag._replace(choices=tuple(sorted(names))) if names else flag)
        )

    def _has_auto(self) -> bool:
        return '["auto"] +' in self.tree.texts.get("sglang/srt/server_args.py", "")

    def _holders(self, module: Module) -> list[tuple[Module, ast.ClassDef]]:
        """The classes whose annotated fields become flags."""
        found = []
        for path in sorted(self.tree.texts):
            if path.startswith("sglang/srt/arg_groups/fields/"):
                other = self.tree.module(path.removesuffix(".py").replace("/", "."))
                found += [(other, node) for node in other.classes.values()] if other else []
        node = module.classes.get("ServerArgs")
        return [*found, *([(module, node)] if node else [])]

    def _fields(self, module: Module, node: ast.ClassDef) -> list[Flag]:
        found = []
        for item in node.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                annotation = item.annotation
                if isinstance(annotation, ast.Subscript) and last_name(annotation.value) in ("A", "Annotated"):
                    flag = self._field(module, item.target.id, annotation)
                    if flag is not None:
                        found.append(flag)
        return found

    def _field(self, module: Module, name: str, annotation: ast.Subscript) -> Flag | None:
        """A field as SGLang's `add_cli_args_from_dataclass` turns it into a flag."""
        parts = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        told: dict[str, Any] | None = None
        for part in parts[1:]:
            if isinstance(part, ast.Call) and last_name(part.func) == "Arg":
                told = self._arguments(module, part)
                break
            if isinstance(self.tree.value(module, part), str):
                told = {"help": self.tree.value(module, part)}
                break
        if told is None or told.get("no_cli") is True:
            return None
        spellings = [told.get("cli_name") or f"--{name.replace('_', '-')}", *(told.get("aliases") or [])]
        if told.get("action"):
            more = told.get("action_kwargs")
            return flag_of(tuple(spellings), told | (more if isinstance(more, dict) else {}))
        hints = self.tree.hints(module, parts[0])
        return flag_of(tuple(str(s) for s in spellings), told | self._inferred(hints, told))

    def _arguments(self, module: Module, call: ast.Call) -> dict[str, Any]:
        told: dict[str, Any] = {}
        for keyword in call.keywords:
            if keyword.arg == "type_parser":
                told["type"] = type_name(keyword.value)
            elif keyword.arg == "action":
                value = self.tree.value(module, keyword.value)
                told["action"] = value if isinstance(value, str) else last_name(keyword.value)
            elif keyword.arg is not None:
                told[keyword.arg] = self.tree.value(module, keyword.value)
        if call.args and "help" not in told:
            told["help"] = self.tree.value(module, call.args[0])
        return told

    @staticmethod
    def _inferred(hints: set[Any], told: dict[str, Any]) -> dict[str, Any]:
        """What the type of a field gives, where nothing else does."""
        literal = next((hint for hint in hints if isinstance(hint, tuple) and hint[0] == "Literal"), None)
        if literal is not None:
            return {"choices": told.get("choices") or list(literal[1])}
        listed = next((hint for hint in hints if isinstance(hint, tuple) and hint[0] == "list"), None)
        if listed is not None and "type" not in told:
            number = next((item for item in listed[1] if item in ("int", "float")), "text")
            return {"type": number, "nargs": told.get("nargs") or "+"}
        if "bool" in hints and "type" not in told and hints <= {"bool", "None"}:
            return {"action": "store_true"}
        if "type" in told:
            return {}
        plain = hints - {"None"}
        return {"type": "int" if plain == {"int"} else "float" if plain == {"float"} else "text"}

    # --- what is not a flag

    def environment(self) -> set[str]:
        """The environment variables that SGLang declares, with the old names that it still reads."""
        found: set[str] = set()
        module = self.tree.module("sglang.srt.environ")
        node = module.classes.get("Envs") if module else None
        for item in node.body if node else ():
            if isinstance(item, ast.Assign) and isinstance(item.targets[0], ast.Name):
                found.add(item.targets[0].id)
        text = self.tree.texts.get("sglang/srt/environ.py", "")
        found |= set(re.findall(r"[\"']((?:SGLANG|SGL)_[A-Z0-9_]+)[\"']", text)) if found else set()
        return {name for name in found if name.startswith(("SGLANG_", "SGL_"))}

    def lists(self) -> dict[str, set[str]]:
        """Names that are valid in this release."""
        return {
            "architectures": self._architectures(),
            "tool_parsers": self._names("sglang.srt.function_call.parser_names", "TOOL_CALL_PARSER_NAMES")
            or self._in_class(
                ("sglang.srt.function_call.function_call_parser", "sglang.srt.function_call_parser"),
                "FunctionCallParser",
                "ToolCallParserEnum",
            ),
            "reasoning_parsers": self._names("sglang.srt.parser.reasoning_parser_names", "REASONING_PARSER_NAMES")
            or self._in_class(
                ("sglang.srt.parser.reasoning_parser", "sglang.srt.reasoning_parser"), "ReasoningParser", "DetectorMap"
            ),
        }

    def _names(self, module_name: str, name: str) -> set[str]:
        module = self.tree.module(module_name)
        value = self.tree.value(module, module.assigned.get(name)) if module else UNKNOWN
        return {str(item) for item in value} if isinstance(value, (list, dict)) else set()

    def _in_class(self, modules: tuple[str, ...], class_name: str, name: str) -> set[str]:
        for module_name in modules:
            module = self.tree.module(module_name)
            node = module.classes.get(class_name) if module else None
            for item in node.body if node else ():
                target = (
                    item.targets[0]
                    if isinstance(item, ast.Assign)
                    else item.target
                    if isinstance(item, ast.AnnAssign)
                    else None
                )
                if isinstance(target, ast.Name) and target.id == name and module is not None:
                    value = self.tree.value(module, item.value)  # type: ignore[union-attr]
                    return {str(key) for key in value} if isinstance(value, dict) else set()
        return set()

    def _architectures(self) -> set[str]:
        """The classes named by `EntryClass` in each model's module."""
        found: set[str] = set()
        for path, text in self.tree.texts.items():
            if not path.startswith("sglang/srt/models/") or "EntryClass" not in text:
                continue
            for told in re.findall(r"^EntryClass(?:\s*:[^=]+)?\s*=\s*(\[[^\]]*\]|\(?\s*[\w.]+)", text, re.MULTILINE):
                found |= set(re.findall(r"\b[A-Za-z_]\w+\b", re.sub(r"#.*", "", told)))
        return found
