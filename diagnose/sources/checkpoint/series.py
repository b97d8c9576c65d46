"""Which files of a folder are the model's weights, as transformers and vLLM choose them, and whether the list is whole.

A series is what one model's weights are in: a single file, or numbered parts (`model-00001-of-00004.safetensors`) with
an index (`model.safetensors.index.json`) that says which tensor lies in which part.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from msgspec import Struct

from diagnose.sources import jsonfile
from diagnose.sources.checkpoint.listing import Entry

NUMBERED = re.compile(r"^(?P<stem>.+?)-?(?P<part>\d{5})-of-(?P<count>\d{5,6})(?P<suffix>(?:\.\w+)*\.\w+)$", re.ASCII)
"""The name of a part: stem, number, how many, ending."""
MOST_INDEX = 64 << 20
"""The largest index that is read: one of 90,000 tensors has 9 MB."""

_ENDINGS = {"safetensors": (".safetensors",), "pytorch": (".bin", ".pt", ".pth", ".ckpt")}
_NO_WEIGHTS = re.compile(
    r"^(?:training_args|optimizer|scheduler|rng_state|scaler|random_states|adapter_|trainer_state|tokenizer"
    r"|.*_optim_states|.*optimizer.*|.*_states?)\b|^(?:global_step|mp_rank|zero_pp)",
    re.IGNORECASE,
)
"""Files with the endings of weights that no engine takes for them."""
_FIRST = ("model", "pytorch_model", "consolidated")


class Index(Struct, frozen=True):
    """An index: its file, which tensor is in which file, the bytes it claims in all (-1: none claimed).

    `error` says why it cannot be used; `line` where. `has_metadata`: transformers 5 demands that key.
    """

    name: str
    weight_map: dict[str, str] = {}
    total_size: int = -1
    has_metadata: bool = True
    error: str = ""
    line: int = 0


class Series(Struct, frozen=True):
    """The files that a loader takes, by name, and what is odd about the choice.

    `format`: safetensors, pytorch or none. `missing`: names that the index or the numbers demand and that are not there.
    `outside`: names of the index that lead out of the folder. `leftover`: numbered parts of another count, or parts that
    the index does not name. `variant`: fp16 in `model.fp16.safetensors`, if there is nothing without one. `unnamed`: the
    parts are numbered and no index lists them. `both`: formats that are there. `single_too`: one file and an index.
    """

    format: str = "none"
    files: tuple[str, ...] = ()
    index: Index | None = None
    missing: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    leftover: tuple[str, ...] = ()
    variant: str = ""
    unnamed: bool = False
    both: bool = False
    single_too: bool = False
    standard: bool = True


def choose(folder: str, entries: Sequence[Entry], mistral: bool = False) -> Series:
    """The series of a folder. `mistral`: `consolidated` goes before `model`, as vLLM takes it for that layout."""
    names = {entry.name for entry in entries}
    here = {kind: _weights(names, endings) for kind, endings in _ENDINGS.items()}
    kind = "safetensors" if here["safetensors"] or "model.safetensors.index.json" in names else "pytorch"
    if kind == "pytorch" and not here["pytorch"] and "pytorch_model.bin.index.json" not in names:
        return Series()
    found = _series(folder, kind, here[kind], names, mistral)
    both = bool(here["safetensors"]) and any(name.startswith("pytorch_model") for name in here["pytorch"])
    return _with(found, both=both)


def _weights(names: set[str], endings: tuple[str, ...]) -> list[str]:
    return sorted(name for name in names if name.endswith(endings) and not _NO_WEIGHTS.search(name))


def _series(folder: str, kind: str, here: list[str], names: set[str], mistral: bool) -> Series:
    stem, ending = ("model", ".safetensors") if kind == "safetensors" else ("pytorch_model", ".bin")
    if mistral and any(name.startswith("consolidated") for name in here):
        stem = "consolidated"
    index_name = f"{stem}{ending}.index.json"
    single = f"{stem}{ending}"
    if single in here:
        return Series(kind, (single,), leftover=_leftover(here, single), single_too=index_name in names)
    if index_name in names:
        return _indexed(folder, kind, read_index(folder, index_name), here, names)
    if stem != "consolidated" and "consolidated.safetensors.index.json" in names and kind == "safetensors":
        return _indexed(folder, kind, read_index(folder, "consolidated.safetensors.index.json"), here, names)
    return _without_index(kind, stem, here)


def _leftover(here: list[str], single: str) -> tuple[str, ...]:
    stem = single.partition(".")[0]
    return tuple(name for name in here if (told := NUMBERED.match(name)) and told["stem"] == stem)


def read_index(folder: str, name: str) -> Index:
    """An index file; what cannot be used is told in `error`."""
    loaded = jsonfile.load(os.path.join(folder, name), MOST_INDEX)
    if loaded.error:
        return Index(name, error=loaded.error, line=loaded.line)
    value = loaded.value
    if not isinstance(value, dict) or not isinstance(value.get("weight_map"), dict) or not value["weight_map"]:
        return Index(name, error="it has no weight_map that lists the tensors")
    weight_map = value["weight_map"]
    odd = next((key for key, file in weight_map.items() if not isinstance(file, str) or not file), None)
    if odd is not None:
        return Index(name, error=f"its weight_map names no file for {odd[:100]!r}")
    metadata = value.get("metadata")
    total = metadata.get("total_size") if isinstance(metadata, dict) else None
    size = int(total) if isinstance(total, (int, float)) and 0 <= total < 1 << 60 else -1
    return Index(name, weight_map, size, isinstance(metadata, dict))


def _indexed(folder: str, kind: str, index: Index, here: list[str], names: set[str]) -> Series:
    if index.error:
        return _with(_without_index(kind, index.name.partition(".")[0], here), index=index)
    wanted = sorted(set(index.weight_map.values()))
    outside = tuple(name for name in wanted if leads_out(name))
    inside = [name for name in wanted if not leads_out(name)]
    missing = tuple(name for name in inside if not _is_there(folder, name, names))
    gone = set(missing)
    stems = {told["stem"] for name in wanted if (told := NUMBERED.match(name))}
    leftover = tuple(
        name for name in here if name not in wanted and (told := NUMBERED.match(name)) and told["stem"] in stems
    )
    used = tuple(name for name in inside if name not in gone)
    return Series(kind, used, index, missing, outside, leftover)


def leads_out(name: str) -> bool:
    """Whether a name of the index leads out of the model's folder."""
    return os.path.isabs(name) or os.path.normpath(name).split(os.sep)[0] == ".." or "\0" in name


def _is_there(folder: str, name: str, names: set[str]) -> bool:
    return name in names or (os.sep in name and os.path.isfile(os.path.join(folder, name)))


def _without_index(kind: str, stem: str, here: list[str]) -> Series:
    """Numbered parts by their numbers; else the one file of its kind; else all that are there (vLLM takes them all)."""
    groups: dict[tuple[str, str, str], dict[int, str]] = {}
    for name in here:
        told = NUMBERED.match(name)
        if told:
            groups.setdefault((told["stem"], told["count"], told["suffix"]), {})[int(told["part"])] = name
    if groups:
        return _numbered(kind, stem, here, groups)
    for first in (stem, *_FIRST):
        of_kind = [name for name in here if name.partition(".")[0] == first]
        variants = {name.split(".")[1] for name in of_kind if name.count(".") == 2}
        if len(of_kind) == 1 and variants and not next(iter(variants)).isdigit():
            return Series(kind, tuple(of_kind), variant=next(iter(variants)), standard=False)
        if of_kind:
            return Series(kind, tuple(of_kind), standard=False)
    return Series(kind, tuple(here), standard=False) if here else Series()


def _numbered(kind: str, stem: str, here: list[str], groups: dict[tuple[str, str, str], dict[int, str]]) -> Series:
    """The fullest group of the wanted stem; the parts of others are left over."""

    def rank(one: tuple[str, str, str]) -> tuple[bool, float, int]:
        return one[0] == stem, len(groups[one]) / max(int(one[1]), 1), len(groups[one])

    key = max(groups, key=rank)
    parts = groups[key]
    first = 0 if 0 in parts else 1
    end = f"-of-{key[1]}{key[2]}"
    prefix = next(iter(parts.values())).removesuffix(end)[:-5]
    # a name can claim any count: of thousands the first gaps are enough
    missing = [n for n in range(first, min(first + int(key[1]), 2000)) if n not in parts]
    others = [name for other, group in groups.items() if other[0] == key[0] and other != key for name in group.values()]
    used = tuple(parts[n] for n in sorted(parts))
    return Series(kind, used, None, tuple(f"{prefix}{n:05d}{end}" for n in missing), (), tuple(others), unnamed=True)


def _with(series: Series, **values: object) -> Series:
    from msgspec.structs import replace

    return replace(series, **values)
