"""What becomes of data in the training, as far as its settings and its script tell: the datasets, their form, the length."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from diagnose.model import Fact
from diagnose.sources import files
from diagnose.sources.data.layout import Asked

if TYPE_CHECKING:
    from diagnose.sources.data.prompts import Limits

_MOST_SCRIPT = 1 << 20
_CHANGES = re.compile(
    r"\.(?:map|filter|\w*_columns?|with_transform|set_transform|with_format|set_format|cast\w*)\("
    r"|Dataset\.from_|formatting_func|collat|__getitem__|\bjson\.load|\bread_\w+\(|\b(?:pd|pandas|pl|polars)\."
)
"""What a script changes data with, or makes it of, or how it reads it in its own way."""
_IMPORTED = re.compile(r"^[ \t]*(?:from|import)[ \t]+([\w., \t]+)", re.MULTILINE)
DEFAULT_CUT = 1024
"""Tokens that TRL's trainers cut examples to where nothing is set (`max_length` of SFTConfig and DPOConfig, TRL 0.13 and later)."""
_CUT_BY_DEFAULT = ("sft", "dpo", "kto", "reward", "orpo", "cpo")
MOST_DATASETS = 64


class Dataset(Struct, frozen=True):
    """A dataset that the settings name: its path on this machine, its role, and what they say of it."""

    path: str
    role: str
    asked: Asked


def text(known: Mapping[str, Fact], name: str) -> str:
    """The value of a fact as a text; empty where it is not known."""
    return str(known[name].value) if name in known else ""


def number(known: Mapping[str, Fact], name: str) -> int:
    """The value of a fact as a whole number; 0 where it is not known."""
    value = known[name].value if name in known else 0
    return int(value) if isinstance(value, (int, float)) else 0


def written(known: Mapping[str, Fact], ending: str) -> Iterator[str]:
    """The values of settings whose key ends so, as they were written."""
    for name, fact in known.items():
        if name.startswith("training.given.") and name.endswith(".key") and str(fact.value).endswith(ending):
            yield text(known, name.removesuffix("key") + "value")


def place_of(item: Fact) -> tuple[str, int, int, str]:
    """Where a setting stands: file, line, column and key."""
    return item.origin, item.line, item.column, item.key


def dataset_settings(known: Mapping[str, Fact]) -> Iterator[tuple[Fact, str]]:
    """The settings that name a dataset, each with the beginning of the names of what else is told of it."""
    for number in range(MOST_DATASETS):
        item = known.get(f"training.dataset.{number}.path")
        if item is None:
            return
        yield item, f"training.dataset.{number}."


def datasets(environ: Mapping[str, str], folder: str, known: Mapping[str, Fact]) -> Iterator[Dataset]:
    """The datasets that the settings name by their paths."""
    framework, task = text(known, "training.framework"), text(known, "training.task")
    for item, head in dataset_settings(known):
        if not item.value:
            return
        form, field = text(known, f"{head}format"), text(known, f"{head}field")
        keys, roles = _mapped(known, head.replace("training.", "training.axolotl.", 1))
        asked = Asked(framework, task, form, field, None, keys, roles, (*place_of(item)[:3], ""))
        path = os.path.realpath(files.absolute(str(item.value), environ, folder))
        yield Dataset(path, text(known, f"{head}role"), asked)


def _mapped(known: Mapping[str, Fact], head: str) -> tuple[tuple[str, str], dict[str, str]]:
    """What Axolotl's message_property_mappings and roles say of the keys and roles of a dataset's messages."""
    role, content = (
        next(
            (key for name in (f"message_property_mappings_{part}", old) if (key := text(known, head + name))),
            "",
        )
        for part, old in (("role", "message_field_role"), ("content", "message_field_content"))
    )
    meant = ("system", "user", "assistant", "tool")
    return (role, content), {
        name.strip(): one for one in meant for name in text(known, f"{head}roles_{one}").split(",") if name.strip()
    }


def is_mapped(environ: Mapping[str, str], folder: str, known: Mapping[str, Fact]) -> bool:
    """Whether a script may change the data before the trainer sees it: it does, or it is not seen that it does not."""
    if "training.script" not in known:
        return False
    path = files.absolute(text(known, "training.script"), environ, folder)
    script = files.read_text(path, _MOST_SCRIPT) or ""
    if "load_dataset(" not in script or len(script) >= _MOST_SCRIPT or _CHANGES.search(script):
        return True
    names = (name for line in _IMPORTED.findall(script) for name in line.partition(" import")[0].split(","))
    modules = (os.path.join(os.path.dirname(path), name.strip().partition(".")[0]) for name in names)
    return any(name.endswith(os.sep) or os.path.isdir(name) or os.path.isfile(f"{name}.py") for name in modules)


def own_template(environ: Mapping[str, str], folder: str, known: Mapping[str, Fact]) -> str | None:
    """The template that the training takes instead of the model's: its text, or nothing where it is only named."""
    told = text(known, "training.chat_template")
    framework = text(known, "training.framework")
    if framework == "llamafactory":
        return ""
    if framework == "axolotl":
        told = next(iter(written(known, ".chat_template")), told)
    if not told or told in ("tokenizer_default", "tokenizer_default_fallback_chatml"):
        return None
    if "{%" in told or "{{" in told:
        return told
    return files.read_text(files.absolute(told, environ, folder), 1 << 20) or ""


def beyond(known: Mapping[str, Fact]) -> str:
    """What becomes of examples that are too long: Axolotl drops them, the others cut them."""
    default = "drop" if text(known, "training.framework") == "axolotl" else "truncate"
    return text(known, "training.truncation") or default


def limits(known: Mapping[str, Fact]) -> Limits:
    """How examples are cut: by the settings, else by TRL's own default."""
    from diagnose.sources.data import prompts
    from diagnose.sources.data.turns import MEANT

    trl = text(known, "training.framework") == "trl"
    names = {} if trl else MEANT  # TRL puts the roles into the template as they are; others map human and gpt
    tokens = number(known, "training.max_length")
    if not tokens and trl and text(known, "training.task") in _CUT_BY_DEFAULT:
        return prompts.Limits(DEFAULT_CUT, True, names)
    return prompts.Limits(tokens, False, names)
