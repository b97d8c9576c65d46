"""The settings of a LoRA adapter against the modules of its model: which targets are there, which PEFT refuses, what is left out.

Names are matched as peft 0.21 does (`tuners/tuners_utils.py`, check_target_module_exists): a listed name by its end, one text
as a pattern for the whole name. The modules of a model are those of its class (dataset/training/modules.json, made from
transformers) and those that its files hold: what neither has is not there.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

from msgspec import Struct

from diagnose.derive.known import Known, Told
from diagnose.places import table

MOST_TARGETS = 400
MOST_PATHS = 40_000
ADAPTERS = ("lora", "qlora")
HEADS = ("score", "classifier", "v_head", "qa_outputs", "summary", "pooler")
"""Modules that a class for another task than writing has beside those of the table."""
_OF_ANOTHER_KIND = ("torchtune",)
"""Frameworks with model code, and names, of their own."""
_OWN_LINEAR = ("llamafactory", "axolotl")
"""Frameworks that look for all linear modules themselves, where PEFT would take experts too."""
_OTHER_TOWER = re.compile(r"(?:^|\.)(?:vision|visual|vit|audio|speech|image|embed_vision|multi_modal|mm_)")
_INNER = ("model.language_model.", "language_model.model.", "model.text_model.", "text_model.", "model.")
_INDEX = re.compile(r"(?:(?<=\.)|(?<=^))\d{1,6}(?=\.|$)", re.ASCII)
_PATTERN_LIKE = re.compile(r"[*\\()\[\]|+^$?]")
_PLAIN_NAME = re.compile(r"[A-Za-z_]\w{0,99}(?:\.\w{1,99}){0,9}", re.ASCII)


class Modules(Struct, frozen=True):
    """Names of a model's modules, `#` for numbers. `linear` also has embeddings and convolutions: all that LoRA can adapt.

    `others` are those that it cannot; `stacked` the parameters that hold all experts of a layer at once, `renamed` what
    these were called as modules. `whole` says whether the class of the model is known, so that `others` can be trusted.
    """

    linear: frozenset[str]
    others: frozenset[str] = frozenset()
    stored: frozenset[str] = frozenset()
    stacked: frozenset[str] = frozenset()
    renamed: frozenset[str] = frozenset()
    output: frozenset[str] = frozenset()
    embedding: frozenset[str] = frozenset()
    defaults: tuple[str, ...] = ()
    whole: bool = False

    @property
    def every(self) -> frozenset[str]:
        return self.linear | self.others | self.stored

    def ends(self, target: str, paths: Iterable[str]) -> bool:
        """Whether a listed target means one of these modules."""
        return any(path == target or path.endswith("." + target) for path in paths)


def rows_of(known: Known) -> list[dict[str, Any]]:
    """The rows of the table for a model: of its own class, and of the language model inside."""
    kinds = [known.text("model.type"), known.text("model.text_type")]
    return [row for kind in dict.fromkeys(kinds) if kind for row in _rows().get(kind, ())]


@cache
def _rows() -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in table("training", "modules.json").get("rows", ()):
        if isinstance(row, dict) and isinstance(row.get("type"), str):
            found.setdefault(row["type"], []).append(row)
    return found


@cache
def table_release() -> str:
    """The release of transformers that the table was made with; empty without a table."""
    found = re.search(r"/transformers/([\d.]+)/", str(table("training", "modules.json").get("source", "")))
    return found[1] if found else ""


def modules_of(known: Known) -> Modules | None:
    """What is known of the model's modules; None if neither its class nor its files tell."""
    rows = rows_of(known)
    stored = frozenset(name for name in known.text("weights.modules").split(",") if name)
    if not rows and not stored:
        return None

    def union(*keys: str) -> frozenset[str]:
        return frozenset(name for row in rows for key in keys for name in row.get(key, ()) if isinstance(name, str))

    renamed = frozenset(name for row in rows for name in row.get("renamed", {}))
    own = [row for row in rows if row.get("type") == known.text("model.type")]
    return Modules(
        linear=union("linear", "embeddings", "convolutions"),
        others=union("others"),
        stored=stored,
        stacked=union("stacked"),
        renamed=renamed,
        output=frozenset(row["output"] for row in rows if row.get("output")),
        embedding=frozenset(row["embedding"] for row in rows if row.get("embedding")),
        defaults=tuple(next((row["default_targets"] for row in own if row.get("default_targets")), ())),
        whole=bool(rows) and known.value("model.remote_code") is not True,
    )


def listed(text: str) -> list[str]:
    """The names of a list, as a fact writes it."""
    return [name for part in text.split(",")[:MOST_TARGETS] if (name := part.strip())]


def complete(known: Known) -> Told:
    """`tuning.lora.*`: nothing without an adapter, or where the model's modules are not known."""
    if known.text("training.method") not in ADAPTERS or known.text("training.framework") in _OF_ANOTHER_KIND:
        return
    yield from _sizes(known)
    modules = modules_of(known)
    if modules is None:
        return
    targets = known.text("training.lora.targets")
    if known.yes("training.lora.targets_pattern") and targets:
        yield from _pattern(targets, modules, known)
    elif targets:
        yield from _listed(listed(targets), modules, known)
    elif modules.whole and _without_targets(known):
        yield "tuning.lora.default_targets", ",".join(modules.defaults) or "none"
    yield from _saved(modules, known)
    names = _language_names(modules)
    if names:
        yield "tuning.lora.names", ", ".join(names)[:300]


def _without_targets(known: Known) -> bool:
    """Whether no targets are given for sure: a script may compute what is not read here."""
    keys = (
        "target_modules",
        "lora_target_modules",
        "target_parameters",
        "lora_target_parameters",
        "lora_target_linear",
    )
    plain = known.text("training.framework") in ("trl", "trainer", "")
    return plain and not known.text("training.script") and not known.has_setting(*keys)


def _language_names(modules: Modules) -> list[str]:
    """What the linear modules of the language model are called, its output layer and embeddings aside."""
    paths = modules.linear or modules.stored
    inner = [path for path in paths if "#" in path and not _OTHER_TOWER.search(path) and not path.endswith("#")]
    names = {path.rpartition(".")[2] for path in inner}
    return sorted(name for name in names if "norm" not in name and not name.startswith("ln_"))


# --- sizes


def _sizes(known: Known) -> Told:
    rank, alpha = _number(known, "training.lora.rank"), _number(known, "training.lora.alpha")
    if rank and alpha is not None and 0 < rank < 1 << 20:
        scale = alpha / math.sqrt(rank) if known.yes("training.lora.rslora") else alpha / rank
        yield "tuning.lora.scale", int(scale) if scale.is_integer() else round(scale, 4)
    smallest = _smallest(known)
    if rank and smallest:
        yield "tuning.lora.smallest_width", smallest
        yield "tuning.lora.rank_over", rank > smallest


def _smallest(known: Known) -> int:
    """The smallest width of a matrix that every adapter goes beside: the keys' and values', else the model's; 0: not known."""
    hidden, heads, size = (known.whole(f"model.{name}") or 0 for name in ("hidden_size", "kv_heads", "head_dim"))
    targets = known.text("training.lora.targets")
    keys = heads * size
    if (
        keys
        and known.text("model.attention") in ("mha", "gqa", "mqa")
        and re.search(r"\b[kv]_proj\b|all-linear", targets)
    ):
        return min(hidden, keys) if hidden else keys
    return hidden


def _number(known: Known, name: str) -> float | None:
    value = known.value(name)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


# --- targets in a list


def _listed(targets: Sequence[str], modules: Modules, known: Known) -> Told:
    everything = "all-linear" in targets
    names = [_INDEX.sub("#", name) for name in targets if name != "all-linear"]
    missing = [name for name in names if not _is_there(name, modules)]
    if names:
        yield "tuning.lora.targets_missing", len(missing)
        yield "tuning.lora.targets_all_missing", len(missing) == len(names) and not everything
    if missing:
        yield "tuning.lora.target_missing", ", ".join(missing)[:200]
        yield "tuning.lora.target_is_pattern", any(_PATTERN_LIKE.search(name) for name in missing)
        near = difflib.get_close_matches(missing[0], _language_names(modules), 1, 0.6)
        if near:
            yield "tuning.lora.target_nearest", near[0]
    refused = [name for name in names if _is_refused(name, modules, known)]
    if refused:
        yield "tuning.lora.target_refused", ", ".join(refused)[:200]
    if modules.output:
        yield "tuning.lora.head_targeted", any(modules.ends(target, modules.output) for target in names)
    yield from _experts(names, everything, modules, known)
    if known.yes("model.multimodal") and modules.whole:
        towers = [path for path in modules.linear if _OTHER_TOWER.search(path)]
        yield "tuning.lora.towers_adapted", everything or any(modules.ends(name, towers) for name in names)


def _is_there(name: str, modules: Modules) -> bool:
    """Whether a target names a module, or one that an older release of transformers had in the experts' place."""
    if modules.ends(name, modules.every) or name.rpartition(".")[2] in (*modules.renamed, *HEADS):
        return True
    told = re.search(r"(?:^|\.)(?:(w[123]|experts|gate|router|\w+_linear)|(gate|up|down|gate_up)_proj)$", name)
    if not modules.stacked or not told:
        return False
    return bool(told[1]) or any(told[2] in path.rpartition(".")[2] for path in modules.stacked)


def _is_refused(name: str, modules: Modules, known: Known) -> bool:
    """Whether a target is a module that is no matrix: PEFT refuses the whole adapter."""
    if not modules.whole or not modules.ends(name, modules.others) or name.rpartition(".")[2] in modules.renamed:
        return False
    if modules.ends(name, modules.linear):
        return False
    part = name.rpartition(".")[2]
    if part in _CONTAINERS or "norm" in part:
        return True
    return known.text("transformers.version").startswith("5.")  # routers were matrices in releases before


_CONTAINERS = (
    "mlp",
    "self_attn",
    "attn",
    "attention",
    "layers",
    "h",
    "experts",
    "model",
    "feed_forward",
    "block_sparse_moe",
)


def _experts(names: Sequence[str], everything: bool, modules: Modules, known: Known) -> Told:
    """Of a mixture of experts whose layers hold their experts stacked, as transformers 5 does: what PEFT makes of the targets."""
    if not modules.stacked or not modules.whole or known.text("adapter.type") not in ("", "LORA"):
        return
    own = everything and known.text("training.framework") in _OWN_LINEAR
    aimed = [name for name in names if name.rpartition(".")[2] in modules.renamed]
    converts = bool(modules.renamed) and (bool(aimed) or (everything and not own))
    yield "tuning.lora.experts_adapted", converts or known.has_setting("target_parameters")
    if not modules.renamed:
        return
    dropout = _number(known, "training.lora.dropout")
    if dropout is not None:
        yield "tuning.lora.experts_with_dropout", converts and dropout > 0
    ends = {name.rpartition(".")[2] for name in aimed}
    for pair in (("w1", "w3"), ("gate_proj", "up_proj")):
        if set(pair) <= modules.renamed and not everything:
            lacking = set(pair) - ends
            yield "tuning.lora.experts_half", len(lacking) == 1
            if len(lacking) == 1:
                yield "tuning.lora.experts_other_half", lacking.pop()


# --- targets as a pattern


def _pattern(text: str, modules: Modules, known: Known) -> Told:
    """One text, which has to match the whole name of a module."""
    if text.strip().lower() in ("all-linear", "all"):
        yield from _listed(["all-linear"], modules, known)
        return
    compiled = _compiled(text)
    if compiled is None:
        return
    if any(compiled.fullmatch(path) for path in _spelt_out(modules.every, known)):
        yield "tuning.lora.pattern_matches", True
        refused = [path for path in _spelt_out(modules.others, known, as_now=True) if compiled.fullmatch(path)]
        ends = sorted({end for path in refused if _is_refused(end := path.rpartition(".")[2], modules, known)})
        if ends:
            yield "tuning.lora.target_refused", ", ".join(ends)[:200]
        return
    if modules.stacked and re.search(r"expert|w[123]|gate|up_proj|down_proj", text):
        return  # PEFT also tries the names that experts had
    yield "tuning.lora.pattern_matches", False
    name = _INDEX.sub("#", text.strip())
    yield "tuning.lora.pattern_is_name", bool(_PLAIN_NAME.fullmatch(text.strip())) and modules.ends(name, modules.every)


def _compiled(text: str) -> Any:
    """The pattern in linear time; None if it is none, or of a kind that RE2 does not know."""
    import re2

    options = re2.Options()
    options.log_errors = False
    options.max_mem = 8 << 20
    try:
        return re2.compile(text, options) if len(text) <= 4000 else None
    except re2.error:
        return None


def _spelt_out(paths: Iterable[str], known: Known, as_now: bool = False) -> Iterator[str]:
    """Modules with their layers' numbers, and unless `as_now` with the beginnings that older releases of transformers gave them."""
    layers = max(1, min(known.whole("model.layers") or 2, 200))
    count = 0
    for path in paths:
        for name in [path] if as_now else _beginnings(path):
            whole = layers if name.count("#") == 1 else min(layers, 2)
            for number in range(whole):
                count += 1
                if count > MOST_PATHS:
                    return
                first = name.replace("#", str(number), 1)
                yield first.replace("#", "0")
            if "#" in name and layers > 2 and name.count("#") > 1:
                yield name.replace("#", str(layers - 1), 1).replace("#", "1")


def _beginnings(path: str) -> list[str]:
    start = next((one for one in _INNER if path.startswith(one)), "")
    if not start:
        return [path]
    rest = path[len(start) :]
    return [path, *(one + rest for one in (*_INNER, ""))] if rest else [path]


# --- modules that are trained whole


def _saved(modules: Modules, known: Known) -> Told:
    names = listed(known.text("training.lora.saved_modules"))
    if not names:
        return
    every = modules.every
    missing = [
        name
        for name in names
        if name not in HEADS and not any(_INDEX.sub("#", path).endswith(_INDEX.sub("#", name)) for path in every)
    ]
    # a tied output layer has no weight in the files, and is a module all the same
    missing = [name for name in missing if modules.whole or name not in ("lm_head", "output")]
    yield "tuning.lora.saved_missing", len(missing)
    if missing:
        yield "tuning.lora.saved_missing_names", ", ".join(missing)[:200]
        ends = sorted({path.rpartition(".")[2] for path in (*modules.embedding, *modules.output)})
        if ends:
            yield "tuning.lora.ends", ", ".join(ends)
    if modules.embedding and modules.output:
        parts = [
            any(path.endswith(name) for path in paths for name in names)
            for paths in (modules.embedding, modules.output)
        ]
        yield "tuning.lora.embedding_saved", parts[0]
        yield "tuning.lora.head_saved", parts[1]
    targets = listed(known.text("training.lora.targets"))
    if targets and not known.yes("training.lora.targets_pattern"):
        yield "tuning.lora.targets_only_saved", set(targets) <= set(names)
