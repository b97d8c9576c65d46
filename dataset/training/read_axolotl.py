"""Axolotl → the keys of its YAML: its pydantic models, those of its plugins, and what its code reads of them."""

from __future__ import annotations

import ast
import re

from read_code import keys_read, modules, named, reached
from schemas import Field, Reader, Schema
from source_tree import Tree, last_name


def axolotl(tree: Tree) -> dict[str, Schema]:
    """AxolotlInputConfig with the models of its mappings; keys of its plugins, and those that its validators read, are known too."""
    reader = Reader(tree)
    root = named(tree, r"axolotl/utils/.*", "AxolotlInputConfig")
    if root is None:
        return {}
    schema = reader.schema(*root, "ignores")
    fields = dict(schema.fields)
    for module in modules(tree, r"axolotl/integrations/.*"):
        for node in module.classes.values():
            if "BaseModel" in {last_name(base) for _, one in tree.bases(module, node) for base in one.bases}:
                for key, field in reader.schema(module, node, "ignores").fields.items():
                    fields.setdefault(key, field._replace(schema="", type="any", choices=(), checked=""))
    for module in modules(tree, r"axolotl/utils/(?:schemas|config)/.*"):
        for key in keys_read(module.tree, tree, module, {"data", "cfg", "config", "values"}):
            fields.setdefault(key, Field(key))
    for text in tree.texts.values():
        for key in re.findall(r"\bcfg\.([a-z]\w*)|\bcfg\.get\([\"'](\w+)", text):
            fields.setdefault(key[0] or key[1], Field(key[0] or key[1], loose=True))
    _refused(tree, fields)

    def model(name: str) -> Schema | None:
        inner = named(tree, r"axolotl/.*", name)
        return reader.schema(*inner, "ignores") if inner is not None else None

    return {"axolotl": Schema("axolotl", fields, "", schema.unknown), **reached(fields, model)}


def _refused(tree: Tree, fields: dict[str, Field]) -> None:
    """Marks the keys of DeprecatedParameters: those whose validator raises are refused, others warned of."""
    found = named(tree, r"axolotl/utils/.*", "DeprecatedParameters")
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
