"""The packages that train → the classes that their settings are read into: one function per package, from the texts of a release."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

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


def _modules(tree: Tree, pattern: str) -> Iterator[Module]:
    """The modules whose path matches, in order of their paths; those that do not parse are left out."""
    for path in sorted(tree.texts):
        if path.endswith(".py") and re.fullmatch(pattern, path):
            name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            module = tree.module(name)
            if module is not None:
                yield module


def _named(tree: Tree, pattern: str, name: str) -> tuple[Module, ast.ClassDef] | None:
    """The first class with a name."""
    for module in _modules(tree, pattern):
        if name in module.classes:
            return module, module.classes[name]
    return None


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


# --- TRL and PEFT


def trl(tree: Tree) -> dict[str, Schema]:
    """Every configuration class, experimental ones too; of two with one name the one with more keys."""
    reader = Reader(tree)
    found: dict[str, Schema] = {}
    for module in _modules(tree, r"trl/.*"):
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
    for module in _modules(tree, r"peft/.*"):
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


# --- accelerate

PREFIXES = {
    "fsdp_config": "fsdp_",
    "fp8_config": "fp8_",
    "dynamo_config": "dynamo_",
    "megatron_lm_config": "megatron_lm_",
    "mpirun_config": "mpirun_",
    "parallelism_config": "parallelism_config_",
}
_DEEPSPEED = ("deepspeed_", "zero", "offload_", "gradient_")


def accelerate(tree: Tree) -> dict[str, Schema]:
    """The keys of its YAML (ClusterConfig, SageMakerConfig, and old ones that are converted) and of the mappings below.

    Of those mappings every key becomes an attribute of the launch command's arguments: it knows what its parser and its code name.
    """
    module = tree.module("accelerate.commands.config.config_args")
    if module is None:
        return {}
    reader = Reader(tree)
    fields: dict[str, Field] = {}
    for name in ("SageMakerConfig", "ClusterConfig"):
        if name in module.classes:
            fields |= reader.schema(module, module.classes[name]).fields
    if "BaseConfig" in module.classes:
        for key in keys_read(module.classes["BaseConfig"], tree, module, {"config_dict"}):
            fields.setdefault(key, Field(key))
    found = {"accelerate": Schema("accelerate", fields)}
    texts = [
        re.sub(r"(?m)(?:^|\s)#.*$", "", tree.texts.get(f"accelerate/{name}.py", ""))
        for name in ("commands/launch", "utils/launch")
    ]
    names = {flag.replace("-", "_") for flag in re.findall(r"[\"']--(\w[\w-]*)[\"']", texts[0])}
    names |= {name for text in texts for name in re.findall(r"\bargs\.([a-z]\w*)|getattr\(args, [\"'](\w+)", text) for name in name if name}  # fmt: skip
    told = _asked(tree)
    for mapping, prefix in PREFIXES.items():
        keys = {name for name in names if name.startswith(prefix)} | told.get(mapping, set())
        keys = {key if key.startswith(prefix) else prefix + key for key in keys}
        found[mapping] = Schema(mapping, {key: Field(key) for key in sorted(keys)}, "", "ignores")
    keys = {name for name in names if name.startswith(_DEEPSPEED)} | told.get("deepspeed_config", set())
    keys.discard("deepspeed_fields_from_accelerate_config")
    found["deepspeed_config"] = Schema("deepspeed_config", {key: Field(key) for key in sorted(keys)}, "", "ignores")
    return {name: schema for name, schema in found.items() if schema.fields}


def _asked(tree: Tree) -> dict[str, set[str]]:
    """What `accelerate config` itself writes into each mapping."""
    found: dict[str, set[str]] = {}
    for path, text in tree.texts.items():
        if "/commands/config/" in path:
            for mapping, key in re.findall(r"\b(\w+_config)\[\s*[\"'](\w+)[\"']\s*\]", text):
                found.setdefault(mapping, set()).add(key)
    return found


# --- DeepSpeed

_BLOCKS = {
    "zero_optimization": "DeepSpeedZeroConfig",
    "fp16": "DeepSpeedFP16Config",
    "bf16": "DeepSpeedBF16Config",
    "bfloat16": "DeepSpeedBF16Config",
    "flops_profiler": "DeepSpeedFlopsProfilerConfig",
    "tensorboard": "TensorBoardConfig",
    "wandb": "WandbConfig",
    "csv_monitor": "CSVConfig",
    "comet": "CometConfig",
    "hybrid_engine": "HybridEngineConfig",
    "compile": "CompileConfig",
    "comms_logger": "CommsLoggerConfig",
}
_CLASSES = "DeepSpeed\\w+Config|TensorBoardConfig|WandbConfig|CSVConfig|CometConfig|HybridEngineConfig|CompileConfig|CommsLoggerConfig|ZenFlowConfig"
_ROOTS = ("param_dict", "_param_dict")
_PARTS = ("config", "parameter_dict", "config_dict", "ds_config")
_OF_THE_WHOLE = re.compile(
    r"deepspeed\.(?:runtime\.(?:config|precision_config|activation_checkpointing\.config|swap_tensor\.aio_config|compiler|tensor_parallel\.config"
    r"|bf16_optimizer|model_checkpointing\.config)|(?:monitor|comm|profiling|autotuning|nebula|compile|datastates)\.config)"
)
"""The modules that are given the whole configuration; others read parts of it."""


def deepspeed(tree: Tree) -> dict[str, Schema]:
    """The keys that DeepSpeed's code reads of the whole configuration, and its pydantic models for the blocks."""
    reader = Reader(tree)
    models: dict[str, Schema] = {}
    top: dict[str, Field] = {}
    constants = _constants(tree)
    for module in _modules(
        tree, r"deepspeed/(?!module_inject|inference|linear|ops/).*(?:config|constants|compiler).*\.py"
    ):
        loose = _OF_THE_WHOLE.fullmatch(module.name) is None
        for key in keys_read(module.tree, tree, module, _PARTS, constants):
            top.setdefault(key, Field(key, loose=True))
        for key in [*keys_read(module.tree, tree, module, _ROOTS, constants), *_defaults(module, constants)]:
            if key not in top or (top[key].loose and not loose):
                top[key] = Field(key, loose=loose)
        for node in module.classes.values():
            if re.fullmatch(_CLASSES, node.name) and _is_model(tree, module, node):
                models[node.name] = reader.schema(module, node, "ignores")
    for name in ("FP16", "BFLOAT16", "AMP", "DATA_EFFICIENCY", "ELASTICITY", "TENSOR_PARALLEL"):
        if name in constants:
            top[constants[name]] = Field(constants[name])
    for name in ("OPTIMIZER", "SCHEDULER"):
        block = _of_block(name, constants)
        if name in constants and block.fields:
            models[block.name] = block
            models[f"{block.name}Params"] = _parameters(tree, f"{block.name}Params")
            top[constants[name]] = Field(constants[name], "mapping", schema=block.name)
    for key in {
        value for module in _modules(tree, r"deepspeed/runtime/constants\.py") for value in _texts(tree, module)
    }:
        top.setdefault(key, Field(key, loose=True))
    for key in _removed(tree, "_REMOVED_TOP_LEVEL_CONFIG_KEYS"):
        top[key] = Field(key, deprecated=True, refused=True)
    zero = models.get("DeepSpeedZeroConfig")
    for key in _removed(tree, "_REMOVED_ZERO_CONFIG_KEYS") if zero else ():
        zero.fields[key] = Field(key, deprecated=True, refused=True)
    for key, name in _BLOCKS.items():
        if models.get(name) is not None and models[name].fields:
            top[key] = Field(key, "mapping", schema=name)
    found = {"deepspeed": Schema("deepspeed", dict(sorted(top.items())), "", "ignores")}
    wanted = [field.schema for field in top.values() if field.schema]
    while wanted:
        name = wanted.pop()
        if name in models and name not in found:
            found[name] = models[name]
            wanted += [field.schema for field in models[name].fields.values() if field.schema]
    return found


def _constants(tree: Tree) -> dict[str, str]:
    """The texts that DeepSpeed's modules give a name; they come to others by `import *`."""
    found: dict[str, str] = {}
    for module in _modules(tree, r"deepspeed/.*(?:config|constants).*\.py"):
        for name in module.assigned:
            value = tree.value(module, module.assigned[name])
            if isinstance(value, str) and name.isupper() and re.fullmatch(r"[a-z]\w*", value):
                found.setdefault(name, value)
    return found


def _texts(tree: Tree, module: Module) -> set[str]:
    """The names of keys that a module of constants gives."""
    values = [tree.value(module, node) for name, node in module.assigned.items() if not name.endswith("_DEFAULT")]
    return {value for value in values if isinstance(value, str) and re.fullmatch(r"[a-z]\w{3,}", value)}


def _defaults(module: Module, constants: Mapping[str, str]) -> list[str]:
    """`def get_communication_data_type(param_dict, comm_type=COMMUNICATION_DATA_TYPE)`: keys that are the default of a parameter."""
    found = []
    for node in module.functions.values():
        if node.args.args and node.args.args[0].arg in _ROOTS:
            names = [default.id for default in node.args.defaults if isinstance(default, ast.Name)]
            found += [constants[name] for name in names if name in constants and not name.endswith("_DEFAULT")]
    return found


def _of_block(name: str, constants: Mapping[str, str]) -> Schema:
    """The keys that DeepSpeed reads of its optimizer and scheduler: type, params, legacy_fusion. Others it passes over."""
    parts = ["TYPE", "LEGACY_FUSION", *(f"{block}_PARAMS" for block in (name, "OPTIMIZER", "SCHEDULER"))]
    keys = dict.fromkeys(constants[part] for part in parts if part in constants)
    fields = {
        key: Field(key, "mapping", schema=f"{name.capitalize()}Params") if key == "params" else Field(key)
        for key in keys
    }
    return Schema(name.capitalize(), fields, "", "ignores")


_OPTIMIZERS = {
    "OptimizerParams": r"deepspeed/ops/(?:adam|lamb|lion|adagrad)/\w+\.py|deepspeed/runtime/fp16/onebit/\w+\.py",
    "SchedulerParams": r"deepspeed/runtime/lr_schedules\.py",
}
_NOT_WRITTEN = (
    "model_params",
    "params",
    "optimizer",
    "deepspeed",
    "last_batch_iteration",
    "adamw_mode",
    "fp32_optimizer_states",
)


def _parameters(tree: Tree, name: str) -> Schema:
    """The arguments of DeepSpeed's own optimizers, or schedulers."""
    reader = Reader(tree)
    fields: dict[str, Field] = {}
    for module in _modules(tree, _OPTIMIZERS[name]):
        for node in module.classes.values():
            fields |= {key: Field(key) for key in reader.signature(module, node, "refuses").fields}
    return Schema(name, {key: field for key, field in fields.items() if key not in _NOT_WRITTEN}, "", "refuses")


def _is_model(tree: Tree, module: Module, node: ast.ClassDef) -> bool:
    names = {last_name(base) for _, one in tree.bases(module, node) for base in one.bases}
    return bool(names & {"DeepSpeedConfigModel", "BaseModel"}) and node.name != "DeepSpeedConfigModel"


def _removed(tree: Tree, table: str) -> list[str]:
    """The keys that DeepSpeed refuses by name."""
    module = tree.module("deepspeed.runtime.config")
    node = module.assigned.get(table) if module else None
    told = tree.value(module, node) if module and node is not None else {}
    return [str(key) for key in told] if isinstance(told, dict) else []


# --- Axolotl


def axolotl(tree: Tree) -> dict[str, Schema]:
    """AxolotlInputConfig with the models of its mappings; keys of its plugins, and those that its validators read, are known too."""
    reader = Reader(tree)
    root = _named(tree, r"axolotl/utils/.*", "AxolotlInputConfig")
    if root is None:
        return {}
    schema = reader.schema(*root, "ignores")
    fields = dict(schema.fields)
    for module in _modules(tree, r"axolotl/integrations/.*"):
        for node in module.classes.values():
            if "BaseModel" in {last_name(base) for _, one in tree.bases(module, node) for base in one.bases}:
                for key, field in reader.schema(module, node, "ignores").fields.items():
                    fields.setdefault(key, field._replace(schema="", type="any", choices=(), checked=""))
    for module in _modules(tree, r"axolotl/utils/(?:schemas|config)/.*"):
        for key in keys_read(module.tree, tree, module, {"data", "cfg", "config", "values"}):
            fields.setdefault(key, Field(key))
    for text in tree.texts.values():
        for key in re.findall(r"\bcfg\.([a-z]\w*)|\bcfg\.get\([\"'](\w+)", text):
            fields.setdefault(key[0] or key[1], Field(key[0] or key[1], loose=True))
    _refused(tree, fields)
    found = {"axolotl": Schema("axolotl", fields, "", schema.unknown)}
    wanted = [field.schema for field in fields.values() if field.schema]
    while wanted:
        name = wanted.pop()
        inner = _named(tree, r"axolotl/.*", name)
        if inner is not None and name not in found:
            found[name] = reader.schema(*inner, "ignores")
            wanted += [field.schema for field in found[name].fields.values() if field.schema]
    return found


def _refused(tree: Tree, fields: dict[str, Field]) -> None:
    """Marks the keys of DeprecatedParameters: those whose validator raises are refused, others warned of."""
    found = _named(tree, r"axolotl/utils/.*", "DeprecatedParameters")
    if found is None:
        return
    for method in found[1].body:
        if not isinstance(method, ast.FunctionDef):
            continue
        texts = [node.value for node in ast.walk(method) if isinstance(node, ast.Constant) and isinstance(node.value, str)]  # fmt: skip
        key = next((text for text in texts if text in fields), "")
        if key:
            raises = any(isinstance(node, ast.Raise) for node in ast.walk(method))
            instead = re.search(r"(?:[Uu]se|in favor of)\s+[`']?(\w+_\w+)", " ".join(texts))
            fields[key] = fields[key]._replace(
                deprecated=True, refused=raises, instead=instead[1] if instead and instead[1] != key else ""
            )


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
    for module in _modules(tree, pattern):
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
