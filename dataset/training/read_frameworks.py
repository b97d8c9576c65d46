"""The packages that train → the classes that their settings are read into: one function per package, from the texts of a release."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from read_accelerate import accelerate
from read_axolotl import axolotl
from read_code import keys_read, modules
from read_deepspeed import deepspeed
from schemas import Field, Reader, Schema
from source_tree import Module, Tree, last_name


class Package(NamedTuple):
    """How a package is read: the first release, the members wanted, the function, and what the source is in words.

    `every`: all releases are read, where their last numbers are those of minor versions.
    """

    first: str
    wanted: re.Pattern[str]
    read: Callable[[Tree], dict[str, Schema]]
    source: str
    every: bool = False


# --- transformers


def transformers(tree: Tree) -> dict[str, Schema]:
    """TrainingArguments, Seq2SeqTrainingArguments, the quantization configs, and the keys of `fsdp_config`."""
    reader = Reader(tree)
    found: dict[str, Schema] = {}
    for name in ("training_args", "training_args_seq2seq"):
        module = tree.module(f"transformers.{name}")
        for node in module.classes.values() if module else ():
            if node.name in ("TrainingArguments", "Seq2SeqTrainingArguments") and module is not None:
                found[node.name] = reader.schema(module, node)
    if len(found) == 2:
        own = {k: f for k, f in found["Seq2SeqTrainingArguments"].fields.items() if found["TrainingArguments"].fields.get(k) != f}  # fmt: skip
        found["Seq2SeqTrainingArguments"] = Schema("Seq2SeqTrainingArguments", own, "transformers.TrainingArguments")
    module = tree.module("transformers.utils.quantization_config")
    for node in module.classes.values() if module else ():
        if node.name.endswith("Config") and module is not None:
            schema = reader.signature(module, node, "ignores" if _takes_more(node) else "refuses")
            found[node.name] = schema._replace(fields={k: f for k, f in schema.fields.items() if k != "quant_method"})
    arguments = tree.module("transformers.training_args")
    if arguments is not None:
        keys = keys_read(ast.Module(list(arguments.tree.body), []), tree, arguments, {"fsdp_config"})
        names = {key.removeprefix("fsdp_") for key in keys if len(key) > 2}
        found["fsdp_config"] = Schema("fsdp_config", {name: Field(name) for name in sorted(names)}, "", "ignores")
    return found


def _takes_more(node: ast.ClassDef) -> bool:
    """Whether `__init__` takes any other keyword."""
    return any(isinstance(s, ast.FunctionDef) and s.name == "__init__" and s.args.kwarg for s in node.body)


# --- TRL and PEFT


def trl(tree: Tree) -> dict[str, Schema]:
    """Every configuration class, experimental ones too; of two with one name the one with more keys."""
    reader = Reader(tree)
    found: dict[str, Schema] = {}
    for module in modules(tree, r"trl/.*"):
        for node in module.classes.values():
            if node.name.endswith(("Config", "Arguments")) and _is_dataclass(node):
                schema = _by_parser(reader.schema(module, node))
                if len(schema.fields) > len(found[node.name].fields if node.name in found else ()):
                    found[node.name] = schema
    return found


def peft(tree: Tree) -> dict[str, Schema]:
    """Every tuner's configuration."""
    reader = Reader(tree)
    found: dict[str, Schema] = {}
    for module in modules(tree, r"peft/.*"):
        for node in module.classes.values():
            if node.name.endswith("Config") and (_is_dataclass(node) or _is_dataclass_by_base(reader, module, node)):
                schema = _by_parser(reader.schema(module, node))
                if schema.fields and len(schema.fields) > len(found[node.name].fields if node.name in found else ()):
                    found[node.name] = schema
    types = tree.module("peft.utils.peft_types")
    config = tree.texts.get("peft/config.py", "")
    if types is not None and "TaskType" in types.classes and "not in list(TaskType)" in config:
        values = tuple(str(value) for value in reader.enum(types, types.classes["TaskType"]).values())
        for schema in found.values():
            if "task_type" in schema.fields:
                field = schema.fields["task_type"]
                schema.fields["task_type"] = field._replace(type="text?", choices=values, checked="always")
    return found


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any(last_name(d.func if isinstance(d, ast.Call) else d) == "dataclass" for d in node.decorator_list)


def _is_dataclass_by_base(reader: Reader, module: Module, node: ast.ClassDef) -> bool:
    return any(_is_dataclass(one) for _, one in reader.tree.bases(module, node))


def _by_parser(schema: Schema) -> Schema:
    """A plain dataclass checks no types: the values of a Literal are refused on a command line only."""
    typed = {
        key: field._replace(checked="parser") if field.checked == "always" and key not in _CONVERTED else field
        for key, field in schema.fields.items()
    }
    return schema._replace(fields=typed)


_CONVERTED = frozenset({"eval_strategy", "logging_strategy", "save_strategy", "hub_strategy", "lr_scheduler_type", "optim"})  # fmt: skip


# --- LLaMA-Factory


def llamafactory(tree: Tree) -> dict[str, Schema]:
    """All classes that its parser fills, as one: a YAML holds keys of all of them. `v1` are those of its second trainer."""
    fields, base = _arguments(tree, r"(?:llamafactory|llmtuner)/hparams/.*")
    found: dict[str, Schema] = {}
    if fields:
        found["llamafactory"] = Schema("llamafactory", fields, base or "transformers.Seq2SeqTrainingArguments")
    second, _ = _arguments(tree, r"llamafactory/v1/config/.*")
    if second:
        found["v1"] = Schema("v1", second)
    return found


def _arguments(tree: Tree, pattern: str) -> tuple[dict[str, Field], str]:
    """The fields of all classes of arguments in some modules, and the class of another package that one of them inherits from."""
    reader = Reader(tree)
    fields: dict[str, Field] = {}
    base = ""
    for module in modules(tree, pattern):
        for node in module.classes.values():
            if node.name.endswith("Arguments") and _is_dataclass(node):
                schema = _by_parser(reader.schema(module, node))
                base = schema.base or base
                fields |= schema.fields
                for key, values in _asserted(tree, module, node).items():
                    if key in fields:
                        fields[key] = fields[key]._replace(choices=values, checked="always")
    return fields, base


def _asserted(tree: Tree, module: Module, node: ast.ClassDef) -> dict[str, tuple[str, ...]]:
    """`assert self.finetuning_type in ["lora", …]`: the values of a key that are taken."""
    found: dict[str, tuple[str, ...]] = {}
    for inner in ast.walk(node):
        test = inner.test if isinstance(inner, ast.Assert) else None
        if isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.In) and isinstance(test.left, ast.Attribute):
            values: Any = tree.value(module, test.comparators[0])
            if isinstance(values, list) and values and all(isinstance(v, str) for v in values):
                found[test.left.attr] = tuple(values)
    return found


# --- torchtune


def torchtune(tree: Tree) -> dict[str, Schema]:
    """The keys that stand at the top of at least three of its recipes' configurations; a recipe takes any other."""
    counted: dict[str, int] = {}
    for path, text in tree.texts.items():
        if path.endswith((".yaml", ".yml")):
            for key in set(re.findall(r"^([a-z_]\w*):", text, re.MULTILINE)):
                counted[key] = counted.get(key, 0) + 1
    keys = sorted(key for key, count in counted.items() if count >= 3)
    return {"torchtune": Schema("torchtune", {key: Field(key) for key in keys}, "", "ignores")} if keys else {}


PACKAGES: dict[str, Package] = {
    "transformers": Package(
        "4.36.0",
        re.compile(
            r"transformers/(?:training_args(?:_seq2seq)?|trainer_utils|trainer|trainer_seq2seq|debug_utils|hf_argparser|trainer_pt_utils|utils/quantization_config|utils/generic|integrations/deepspeed|integrations/fsdp|data/datasets/.*)\.py"
        ),
        transformers,
        "training_args.py, training_args_seq2seq.py, utils/quantization_config.py",
    ),
    "trl": Package(
        "0.7.11",
        re.compile(r"trl/.*(?:config|utils|arg|import)[^/]*\.py"),
        trl,
        "the dataclasses of trainer, scripts, experimental",
    ),
    "peft": Package(
        "0.7.1",
        re.compile(
            r"peft/(?:config|tuners/.*config|tuners/[^/]+|tuners/[^/]+/__init__|utils/(?:peft_types|other|constants)|mapping)\.py"
        ),
        peft,
        "config.py, tuners/*/config.py",
    ),
    "accelerate": Package(
        "0.26.1",
        re.compile(
            r"accelerate/(?:commands/(?:launch|config/.*)|utils/(?:__init__|dataclasses|launch|constants|deepspeed))\.py"
        ),
        accelerate,
        "commands/config/*.py, commands/launch.py, utils/launch.py",
    ),
    "deepspeed": Package(
        "0.13.5",
        re.compile(
            r"deepspeed/(?:.*config.*|.*constants.*|runtime/(?:compiler|lr_schedules|fp16/onebit/\w+)|ops/(?:adam|lamb|lion|adagrad)/\w+)\.py"
        ),
        deepspeed,
        "runtime/config.py, runtime/constants.py, */config.py",
        True,
    ),
    "axolotl": Package(
        "0.4.0",
        re.compile(r"(?:src/)?axolotl/.*\.py"),
        axolotl,
        "utils/schemas/*.py, utils/config/models/input/*, integrations/*/args.py; what its code reads of cfg",
        True,
    ),
    "llamafactory": Package(
        "0.7.0",
        re.compile(r"(?:src/)?(?:llamafactory|llmtuner)/(?:hparams/.*|v1/config/.*)\.py"),
        llamafactory,
        "hparams/*.py",
        True,
    ),
    "torchtune": Package("0.0.1", re.compile(r"recipes/(?:configs/.*\.yaml|.*\.py)"), torchtune, "recipes/configs"),
}
