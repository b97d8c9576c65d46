"""accelerate → the keys of its YAML, and of the mappings below."""

from __future__ import annotations

import re

from read_code import keys_read
from schemas import Field, Reader, Schema
from source_tree import Tree

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
