"""The sources of llama.cpp, text-generation-inference, transformers, torch, accelerate, DeepSpeed and Ollama → their flags."""

from __future__ import annotations

import ast
import re
from typing import Any

from parsers import Flag, Reader, calls, flag_of
from source_tree import UNKNOWN, Tree, last_name


class _Plain:
    """What all of these share: a tree, and nothing but flags."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.tree = Tree(texts)
        self.reader = Reader(self.tree)

    def environment(self) -> set[str]:
        return set()

    def lists(self) -> dict[str, set[str]]:
        return {}


# --- llama.cpp


LLAMA = re.compile(r"vendor/llama\.cpp/(?:common/arg\.cpp|src/llama-arch\.cpp|src/llama\.cpp)")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')


class LlamaReader(_Plain):
    """common/arg.cpp: `add_opt(common_arg({"-c", "--ctx-size"}, "N", "…", [](common_params & params, int value) {…}).set_env(…))`."""

    def __init__(self, texts: dict[str, str]) -> None:
        super().__init__(texts)
        self.source = texts.get("vendor/llama.cpp/common/arg.cpp", "")
        self.architecture_source = texts.get("vendor/llama.cpp/src/llama-arch.cpp", "") or texts.get(
            "vendor/llama.cpp/src/llama.cpp", ""
        )

    def flags(self) -> list[Flag]:
        """The flags of llama-server and llama-cli (and of programs that share their reader)."""
        found: dict[str, Flag] = {}
        for block in blocks(self.source, "add_opt("):
            flag = self._flag(block)
            if flag is not None:
                found.setdefault(flag.primary, flag)
        return list(found.values())

    def _flag(self, block: str) -> Flag | None:
        excluded = re.search(r"\.set_preset_only\(", block)
        lists = re.match(r"\s*(?:common_arg|llama_arg)\s*\(\s*\{([^}]*)\}\s*,?\s*(?:\{([^}]*)\})?", block)
        if not lists or excluded:
            return None
        spellings, negative = tuple(_TEXT.findall(lists[1])), tuple(_TEXT.findall(lists[2] or ""))
        if not spellings:
            return None
        parameters = re.search(r"\[[^\]]*\]\s*\(([^)]*)\)", block)
        taken = list(parameters[1].split(",") if parameters else [])[1:]
        kind, many = "flag", ""
        if len(taken) == 2:
            kind, many = "text", "2"
        elif taken and re.search(r"\bint\b", taken[0]):
            kind = "int"
        elif taken and "bool" in taken[0]:
            kind = "flag"
        elif taken:
            kind = "text"
        help_ = " ".join(_TEXT.findall(block[lists.end() :])[:3])
        deprecated = bool(re.search(r"(?i)\bdeprecated\b", help_[:120]))
        instead = re.search(r"(?i)(?:in favou?r of|use)\s+(--[a-z][\w-]*)", help_)
        examples = re.search(r"\.set_examples\(\s*\{([^}]*)\}", block)
        elsewhere = examples is not None and not re.search(r"LLAMA_EXAMPLE_(?:SERVER|COMMON)\b", examples[1])
        elsewhere |= re.search(r"\.set_excludes\(\s*\{[^}]*LLAMA_EXAMPLE_SERVER\b", block) is not None
        named = instead[1] if deprecated and instead else ""
        return Flag(spellings, kind, many, None, deprecated, named, off=negative, elsewhere=elsewhere)

    def environment(self) -> set[str]:
        """The variables that stand for flags, and the `NO_` form that llama.cpp reads for those with a negative."""
        named = set(re.findall(r"\.set_env\(\s*\"([A-Z][A-Z0-9_]+)\"", self.source))
        negative = {name.replace("LLAMA_ARG_", "LLAMA_ARG_NO_", 1) for name in named if name.startswith("LLAMA_ARG_")}
        return (
            named
            | negative
            | {
                "LLAMA_CACHE",
                "LLAMA_LOG_COLORS",
                "LLAMA_LOG_VERBOSITY",
                "LLAMA_ARG_HF_REPO",
                "LLAMA_API_KEY",
                "LLAMA_ARG_HF_REPO_FILE",
            }
        )

    def lists(self) -> dict[str, set[str]]:
        """The architectures of GGUF files."""
        told = re.search(r"LLM_ARCH_NAMES\s*=\s*\{(.*?)\n\};", self.architecture_source, re.DOTALL)
        return {
            "architectures": set(re.findall(r"\{\s*LLM_ARCH_\w+\s*,\s*\"([^\"]+)\"", told[1])) - {"(unknown)"}
            if told
            else set()
        }


def blocks(source: str, opening: str) -> list[str]:
    """The insides of calls in a C++ text; brackets in strings, characters and comments do not count."""
    found = []
    for start in (m.end() for m in re.finditer(re.escape(opening), source)):
        depth = 1
        for token in re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)\'|//[^\n]*|/\*.*?\*/|[()]', re.DOTALL).finditer(
            source, start
        ):
            if token[0] == "(":
                depth += 1
            elif token[0] == ")":
                depth -= 1
                if depth == 0:
                    found.append(re.sub(r"//[^\n]*", "", source[start : token.start()]))
                    break
    return found


# --- text-generation-inference


TGI = re.compile(r"launcher/src/main\.rs")
_RUST = {"usize": "int", "u16": "int", "u32": "int", "u64": "int", "f32": "float", "bool": "flag"}


class TgiReader(_Plain):
    """launcher/src/main.rs: the fields of `struct Args`, as clap makes flags of them."""

    def __init__(self, texts: dict[str, str]) -> None:
        super().__init__(texts)
        self.source = texts.get("launcher/src/main.rs", "")

    def flags(self) -> list[Flag]:
        """The flags of text-generation-launcher."""
        body = re.search(r"\nstruct Args \{\n(.*?)\n\}", self.source, re.DOTALL)
        found = []
        for told in re.finditer(
            r"((?:\s*#\[clap\([^\]]*\)\])+)\s*(\w+): ([^\n]+),", re.sub(r"///[^\n]*", "", body[1]) if body else ""
        ):
            found.append(self._flag(told[1], told[2], told[3].strip()))
        return found

    def _flag(self, attributes: str, name: str, type_: str) -> Flag:
        inner = re.fullmatch(r"(?:Option|Vec)<(?:Vec<)?(\w+)>?>", type_)
        bare = inner[1] if inner else type_
        kind = _RUST.get(bare, "text")
        if inner and bare == "bool":
            kind, choices = "text", ("true", "false")
        else:
            choices = self._choices(bare) if "value_enum" in attributes and bare != "bool" else None
        if "Vec<" in type_:
            kind = "text"
        short = (f"-{name[0]}",) if re.search(r"\bshort\b", attributes) else ()
        return Flag((f"--{name.replace('_', '-')}", *short), kind, "", choices)

    def _choices(self, name: str) -> tuple[str, ...] | None:
        body = re.search(rf"enum {name} \{{\n(.*?)\n\}}", self.source, re.DOTALL)
        if not body:
            return None
        found = []
        for told in re.finditer(
            r"(?:#\[clap\(name = \"([^\"]+)\"\)\]\s*)?(?:#\[[^\]]*\]\s*)*\b([A-Z]\w+)\s*,",
            re.sub(r"//[^\n]*", "", body[1]),
        ):
            found.append(told[1] or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", told[2]).lower())
        return tuple(found)


# --- transformers serve


TRANSFORMERS = re.compile(r"transformers/(?:cli/serve|commands/serving)\.py")


class TransformersReader(_Plain):
    """`transformers serve`: typer's options since transformers 5, a dataclass for HfArgumentParser before."""

    def flags(self) -> list[Flag]:
        """The flags of `transformers serve`."""
        module = self.tree.module("transformers.cli.serve")
        node = module.classes.get("Serve") if module else None
        if module is not None and node is not None:
            method = next((i for i in node.body if isinstance(i, ast.FunctionDef) and i.name == "__init__"), None)
            return self._typer(module, method) if method else []
        module = self.tree.module("transformers.commands.serving")
        node = module.classes.get("ServeArguments") if module else None
        found = self._dataclass(module, node) if module and node else []
        if not found and module is not None:
            for function in ast.walk(module.tree):
                if isinstance(function, ast.FunctionDef) and function.name == "register_subcommand":
                    found += self.reader.function(module, function)
        return found

    def _typer(self, module: Any, method: ast.FunctionDef) -> list[Flag]:
        # typer_factory of huggingface_hub takes these out of the words of any command before typer sees them
        found = [
            Flag(("--format",)),
            Flag(("--json",), "flag"),
            Flag(("--quiet", "-q"), "flag"),
            Flag(("--no-truncate",), "flag"),
        ]
        for argument in method.args.args[1:]:
            annotation = argument.annotation
            if not (isinstance(annotation, ast.Subscript) and isinstance(annotation.slice, ast.Tuple)):
                continue
            type_, call = annotation.slice.elts[0], annotation.slice.elts[-1]
            if not (isinstance(call, ast.Call) and last_name(call.func) == "Option"):
                continue
            named = [
                v for v in (self.tree.value(module, a) for a in call.args) if isinstance(v, str) and v.startswith("-")
            ]
            hints = self.tree.hints(module, type_)
            base = named or [f"--{argument.arg.replace('_', '-')}"]
            if "bool" in hints:
                long = next(s for s in base if s.startswith("--"))
                found.append(Flag(tuple(base), "switch", off=(f"--no-{long[2:]}",)))
                continue
            enum = next((h for h in hints if isinstance(h, tuple) and h[0] == "class"), None)
            kind = "int" if "int" in hints else "float" if "float" in hints else "text"
            found.append(Flag(tuple(base), kind, "", self._enum(enum[1]) if enum else None))
        return found

    def _enum(self, name: str) -> tuple[str, ...] | None:
        module_name, _, class_name = name.partition(":")
        module = self.tree.module(module_name)
        node = module.classes.get(class_name) if module else None
        values = (
            [i.value.value for i in node.body if isinstance(i, ast.Assign) and isinstance(i.value, ast.Constant)]
            if node
            else []
        )
        return tuple(str(value) for value in values) or None

    def _dataclass(self, module: Any, node: ast.ClassDef) -> list[Flag]:
        """HfArgumentParser takes a field with hyphens or underscores; a bool may have a value."""
        found = []
        for item in node.body:
            if not (isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)):
                continue
            hints = self.tree.hints(module, item.annotation)
            name = item.target.id
            both = tuple(dict.fromkeys((f"--{name.replace('_', '-')}", f"--{name}")))
            if "bool" in hints:
                found.append(Flag(both, "text", "?"))
            elif "int" in hints or "float" in hints:
                found.append(Flag(both, "int" if "int" in hints else "float"))
            else:
                found.append(Flag(both))
        return found


# --- launchers


TORCHRUN = re.compile(r"torch/distributed/run\.py")
ACCELERATE = re.compile(r"accelerate/commands/launch\.py")
DEEPSPEED = re.compile(r"deepspeed/launcher/runner\.py")


class TorchrunReader(_Plain):
    """torch/distributed/run.py; `action=env` takes a value, `action=check_env` does not."""

    def flags(self) -> list[Flag]:
        module = self.tree.module("torch.distributed.run")
        function = module.functions.get("get_args_parser") if module else None
        if module is None or function is None:
            return []
        found = []
        for flag, call in zip(
            self.reader.function(module, function), _optional(self.tree, module, function), strict=False
        ):
            action = next((last_name(k.value) for k in call.keywords if k.arg == "action"), "")
            found.append(flag._replace(type="flag") if action == "check_env" else flag)
        return found


def _optional(tree: Tree, module: Any, function: ast.AST) -> list[ast.Call]:
    """The calls that add an option."""
    return [
        call for call in calls(function) if call.args and str(tree.value(module, call.args[0]) or "").startswith("-")
    ]


class AccelerateReader(_Plain):
    """accelerate/commands/launch.py; its parser takes hyphens and underscores alike."""

    def flags(self) -> list[Flag]:
        module = self.tree.module("accelerate.commands.launch")
        function = module.functions.get("launch_command_parser") if module else None
        if module is None or function is None:
            return []
        found = []
        for flag in self.reader.function(module, function):
            spellings = tuple(dict.fromkeys(s.replace("_", "-") if s.startswith("--") else s for s in flag.spellings))
            found.append(flag._replace(spellings=spellings))
        return found


class DeepspeedReader(_Plain):
    """deepspeed/launcher/runner.py."""

    def flags(self) -> list[Flag]:
        module = self.tree.module("deepspeed.launcher.runner")
        function = module.functions.get("parse_args") if module else None
        return self.reader.function(module, function) if module and function else []


ENGINES: dict[str, tuple[Any, ...]] = {
    "llama-cpp": (
        "llama-cpp-python",
        "0.2.90",
        LLAMA,
        LlamaReader,
        "llama",
        r"^(?:0\.2\.90|0\.3\.(?:1|2|5|8|9|12|16|20|24|28|32))$",
        True,
        ("LLAMA_ARG_",),
    ),
    "transformers": (
        "transformers",
        "4.52.1",
        TRANSFORMERS,
        TransformersReader,
        "typer",
        r"^(?:4\.5\d\.\d+|5\.\d+\.\d+)$",
    ),
    "torchrun": ("torch", "2.0.0", TORCHRUN, TorchrunReader, "argparse", r"^2\.\d+\.0$"),
    "accelerate": ("accelerate", "0.27.0", ACCELERATE, AccelerateReader, "dashes", r"\.0$"),
    "deepspeed": ("deepspeed", "0.13.0", DEEPSPEED, DeepspeedReader, "argparse", r"\.0$", True),
}
"""package, first release, members, reader, style, releases kept, source archive rather than wheel, prefixes of variables."""

__all__ = ["ENGINES", "TGI", "UNKNOWN", "TgiReader", "flag_of"]
