"""DeepSpeed → the keys of its JSON: what its code reads by name, and its models of the blocks in it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

from read_code import keys_read, modules, reached
from schemas import Field, Reader, Schema
from source_tree import Module, Tree, last_name

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
    constants = _constants(tree)
    top, models = _keys(tree, constants), _models(tree)
    for name in ("FP16", "BFLOAT16", "AMP", "DATA_EFFICIENCY", "ELASTICITY", "TENSOR_PARALLEL"):
        if name in constants:
            top[constants[name]] = Field(constants[name])
    for name in ("OPTIMIZER", "SCHEDULER"):
        block = _of_block(name, constants)
        if name in constants and block.fields:
            models[block.name] = block
            models[f"{block.name}Params"] = _parameters(tree, f"{block.name}Params")
            top[constants[name]] = Field(constants[name], "mapping", schema=block.name)
    for module in modules(tree, r"deepspeed/runtime/constants\.py"):
        for key in _texts(tree, module):
            top.setdefault(key, Field(key, loose=True))
    _refuse(tree, top, models)
    for key, name in _BLOCKS.items():
        if models.get(name) is not None and models[name].fields:
            top[key] = Field(key, "mapping", schema=name)
    return {"deepspeed": Schema("deepspeed", dict(sorted(top.items())), "", "ignores"), **reached(top, models.get)}


def _configurations(tree: Tree) -> Iterator[Module]:
    """The modules that read a training's configuration."""
    return modules(tree, r"deepspeed/(?!module_inject|inference|linear|ops/).*(?:config|constants|compiler).*\.py")


def _keys(tree: Tree, constants: Mapping[str, str]) -> dict[str, Field]:
    """The keys that code reads by name; loose where it is not told whether of the whole configuration or of a part."""
    top: dict[str, Field] = {}
    for module in _configurations(tree):
        loose = _OF_THE_WHOLE.fullmatch(module.name) is None
        for key in keys_read(module.tree, tree, module, _PARTS, constants):
            top.setdefault(key, Field(key, loose=True))
        for key in [*keys_read(module.tree, tree, module, _ROOTS, constants), *_defaults(module, constants)]:
            if key not in top or (top[key].loose and not loose):
                top[key] = Field(key, loose=loose)
    return top


def _models(tree: Tree) -> dict[str, Schema]:
    """The pydantic models of the blocks, by the names of their classes."""
    reader = Reader(tree)
    return {
        node.name: reader.schema(module, node, "ignores")
        for module in _configurations(tree)
        for node in module.classes.values()
        if re.fullmatch(_CLASSES, node.name) and _is_model(tree, module, node)
    }


def _refuse(tree: Tree, top: dict[str, Field], models: Mapping[str, Schema]) -> None:
    """Marks the keys that newer releases refuse by name, at the top and in zero_optimization."""
    for key in _removed(tree, "_REMOVED_TOP_LEVEL_CONFIG_KEYS"):
        top[key] = Field(key, deprecated=True, refused=True)
    zero = models.get("DeepSpeedZeroConfig")
    if zero is not None:
        for key in _removed(tree, "_REMOVED_ZERO_CONFIG_KEYS"):
            zero.fields[key] = Field(key, deprecated=True, refused=True)


def _constants(tree: Tree) -> dict[str, str]:
    """The texts that DeepSpeed's modules give a name; they come to others by `import *`."""
    found: dict[str, str] = {}
    for module in modules(tree, r"deepspeed/.*(?:config|constants).*\.py"):
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
    for module in modules(tree, _OPTIMIZERS[name]):
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
