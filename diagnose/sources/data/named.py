"""Which data files are meant: those on the command line, what a folder holds, and what the training's settings say of each."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import islice
from typing import Any

from msgspec import Struct

from diagnose.model import Fact, Reading, Unchecked
from diagnose.sources import files, jsonfile
from diagnose.sources.data.layout import Asked

ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".feather", ".txt")
PACKED = ("", ".gz", ".zst")
BESIDES = ("dataset_info.json", "state.json", "dataset_dict.json", "dataset_infos.json", "config.json", "package.json")
"""JSON files in folders of data that hold no examples."""
INFO = "dataset_info.json"
MOST_FILES = 200
MOST_NAMED = 8
"""How many datasets of the settings are looked into without being asked."""
MOST_LISTED = 20_000
MOST_DEPTH = 4
_EVAL = re.compile(r"(?:^|[^a-z])(?:test|valid|validation|val|eval|evaluation|dev|heldout|holdout)(?:[^a-z]|$)")


class DataFile(Struct, frozen=True):
    """A file: its path, the path as the user should see it, whether it is train or eval, and what the settings say of it."""

    path: str
    shown: str
    role: str
    asked: Asked = Asked()


class _Told(Struct, frozen=True):
    """A dataset that the settings name: its paths on this machine, its role, and what they say of it."""

    path: str
    role: str
    asked: Asked


def data_files(
    paths: Sequence[str], environ: Mapping[str, str], folder: str, known: Mapping[str, Fact]
) -> tuple[list[DataFile], list[Reading]]:
    """The files to read, and what is to be told of the settings' datasets; an Unchecked for a path that leads to none."""
    readings: list[Reading] = []
    told = list(_told(environ, folder, known, readings))
    found: list[DataFile] = []
    for given in paths or _here(told):
        role, _, path = given.partition("=") if given.startswith(("train=", "eval=", "test=")) else ("", "", given)
        shown = _expanded(path, environ, folder)
        if not shown:
            readings.append(Unchecked("training data", f"{path or '(no name)'}: {_why_none(path, environ, folder)}"))
        for name, inner in shown:
            if len(found) >= MOST_FILES:
                readings.append(Unchecked(path, f"only the first {MOST_FILES} data files are read"))
                break
            found.append(
                _file(name, inner, {"": "", "train": "train"}.get(role, "eval"), told, known, folder, not found)
            )
    return found, readings


def _here(told: Sequence[_Told]) -> list[str]:
    """The datasets of the settings that are files on this machine, as they could be given on the command line."""
    there = [one for one in told if _holds_data(one.path)]
    return [f"{one.role or 'train'}={one.path}" for one in there[:MOST_NAMED]]


def _holds_data(path: str) -> bool:
    """Whether a path is a data file, or a folder with some."""
    if os.path.isdir(path):
        return next(_inside(path), None) is not None
    return os.path.isfile(path) and is_data(os.path.basename(path))


def _file(
    path: str, inner: str, role: str, told: Sequence[_Told], known: Mapping[str, Fact], folder: str, first: bool
) -> DataFile:
    real = os.path.realpath(path)
    match = next((one for one in told if real == one.path or real.startswith(one.path + os.sep)), None)
    named = "eval" if _EVAL.search(inner.lower()) and not first else "train"
    asked = (
        match.asked if match is not None else Asked(_text(known, "training.framework"), _text(known, "training.task"))
    )
    if match is None and len(told) == 1:
        asked = told[0].asked  # the one dataset of the settings may lie elsewhere, on the Hub or another machine
    shown = os.path.relpath(path, folder) if path.startswith(folder + os.sep) else path
    return DataFile(path, shown, role or (match.role if match is not None and match.role else named), asked)


def _text(known: Mapping[str, Fact], name: str) -> str:
    return str(known[name].value) if name in known else ""


def absolute(path: str, environ: Mapping[str, str], folder: str) -> str:
    """A path as it is meant in the working folder."""
    home = environ.get("HOME", "")
    if path.startswith("~/") and home:
        path = home + path[1:]
    return os.path.normpath(os.path.join(folder, path))


def _expanded(path: str, environ: Mapping[str, str], folder: str) -> list[tuple[str, str]]:
    """The files that a path means: itself, the data files of a folder, what a pattern finds; each with its name inside it."""
    if not path or "\0" in path:
        return []
    whole = absolute(path, environ, folder)
    if os.path.isdir(whole):
        return [(name, os.path.relpath(name, whole)) for name in sorted(islice(_inside(whole), MOST_LISTED))][
            : MOST_FILES + 1
        ]
    if os.path.lexists(whole):
        return [(whole, os.path.basename(whole))]
    if any(mark in path for mark in "*?["):
        return [(name, os.path.basename(name)) for name in sorted(glob.glob(whole))[: MOST_FILES + 1]]
    return []


def _why_none(path: str, environ: Mapping[str, str], folder: str) -> str:
    """Why a path leads to no data file."""
    whole = absolute(path, environ, folder)
    if not path or not os.path.isdir(whole):
        return "there is no such file or folder"
    if files.names_in(whole) is None:
        return "the folder cannot be read"
    return f"the folder holds no file that is called like data: {', '.join(ENDINGS)}"


def _inside(folder: str, depth: int = 0) -> Iterator[str]:
    for name in files.names_in(folder) or ():
        path = os.path.join(folder, name)
        if os.path.isdir(path):
            if depth < MOST_DEPTH and not name.startswith("."):
                yield from _inside(path, depth + 1)
        elif is_data(name):
            yield path


def is_data(name: str) -> bool:
    """Whether a file is called like one with examples."""
    lower = name.lower()
    if lower in BESIDES or lower.startswith("."):
        return False
    return any(lower.endswith(ending + packed) for ending in ENDINGS for packed in PACKED)


def _told(
    environ: Mapping[str, str], folder: str, known: Mapping[str, Fact], readings: list[Reading]
) -> Iterator[_Told]:
    """The datasets that the settings name. LLaMA-Factory's are entries of dataset_info.json."""
    framework, task = _text(known, "training.framework"), _text(known, "training.task")
    if framework == "llamafactory":
        yield from _of_info(environ, folder, known, readings)
        return
    for number in range(64):
        path = _text(known, f"training.dataset.{number}.path")
        if not path:
            break
        form, field = (_text(known, f"training.dataset.{number}.{name}") for name in ("format", "field"))
        item = known[f"training.dataset.{number}.path"]
        keys, roles = _mapped(known, f"training.axolotl.dataset.{number}.")
        asked = Asked(framework, task, form, field, None, keys, roles, (item.origin, item.line, item.column, ""))
        yield _Told(
            os.path.realpath(absolute(path, environ, folder)), _text(known, f"training.dataset.{number}.role"), asked
        )


def _mapped(known: Mapping[str, Fact], head: str) -> tuple[tuple[str, str], dict[str, str]]:
    """What Axolotl's message_property_mappings and roles say of the keys and roles of a dataset's messages."""
    role, content = (
        next(
            (text for name in (f"message_property_mappings_{part}", old) if (text := _text(known, head + name))),
            "",
        )
        for part, old in (("role", "message_field_role"), ("content", "message_field_content"))
    )
    meant = ("system", "user", "assistant", "tool")
    return (role, content), {
        name.strip(): one for one in meant for name in _text(known, f"{head}roles_{one}").split(",") if name.strip()
    }


def as_files(environ: Mapping[str, str], folder: str, known: Mapping[str, Fact]) -> Iterator[Reading]:
    """A file that stands as `dataset_name`, which load_dataset takes for a folder or an id of the Hub."""
    item = known.get("training.dataset.0.path")
    if item is None or item.key != "dataset_name" or _text(known, "training.framework") != "trl":
        return
    path = absolute(str(item.value), environ, folder)
    if os.path.isfile(path) and is_data(os.path.basename(path)):
        yield Fact("data.named_as_file", str(item.value), *_place(item))


def _setting(known: Mapping[str, Fact], key: str) -> str:
    """The value of a setting as it was written."""
    for name, fact in known.items():
        if name.startswith("training.given.") and name.endswith(".key") and fact.value == key:
            return _text(known, name.removesuffix("key") + "value")
    return ""


def _of_info(
    environ: Mapping[str, str], folder: str, known: Mapping[str, Fact], readings: list[Reading]
) -> Iterator[_Told]:
    named = _setting(known, "dataset_dir") or "data"
    if named == "ONLINE" or named.startswith("REMOTE:") or "training.dataset.0.path" not in known:
        return
    where = absolute(named, environ, folder)
    shown = os.path.join(named, INFO)
    loaded = jsonfile.load(os.path.join(where, INFO))
    if loaded.missing:
        if os.path.isdir(where):  # else the training may start in another folder
            readings.append(Fact("data.info.problem", "missing", shown))
        return
    info = loaded.value
    if loaded.error or not isinstance(info, dict):
        why = loaded.error or "its top level is not an object"
        readings.append(Fact("data.info.problem", why, shown, loaded.line))
        return
    readings.append(Fact("data.info.path", shown, shown))
    for number in range(64):
        item = known.get(f"training.dataset.{number}.path")
        if item is None:
            return
        entry = info.get(str(item.value))
        if not isinstance(entry, dict):
            readings += _absent(item, info)
            continue
        yield from _entry(entry, item, where, named, known, number, readings)


def _place(item: Fact) -> tuple[str, int, int, str]:
    return item.origin, item.line, item.column, item.key


def _absent(item: Fact, info: Mapping[str, Any]) -> list[Reading]:
    """A dataset that has no entry."""
    name = str(item.value)
    place = _place(item)
    near = get_close_matches(name, [str(key) for key in info][:5000], 1, 0.6)
    return [
        Fact("data.info.absent", name, *place),
        *([Fact("data.info.nearest", near[0], *place)] if near else []),
    ]


def _entry(
    entry: Mapping[str, Any],
    item: Fact,
    where: str,
    named: str,
    known: Mapping[str, Fact],
    number: int,
    readings: list[Reading],
) -> Iterator[_Told]:
    if any(key in entry for key in ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")):
        return
    file = entry.get("file_name")
    if not isinstance(file, str):
        readings.append(Fact("data.info.without_file", str(item.value), os.path.join(named, INFO)))
        return
    path = os.path.realpath(os.path.join(where, file))
    if not os.path.lexists(path):
        readings.append(Fact("data.info.file_missing", os.path.join(named, file), os.path.join(named, INFO)))
        readings.append(
            Fact("data.info.file_missing_of", str(item.value), item.origin, item.line, item.column, item.key)
        )
    tags = entry.get("tags")
    if isinstance(tags, dict) and entry.get("formatting") in ("sharegpt", "openai"):
        without = [tag for tag in ("role_tag", "content_tag", "user_tag", "assistant_tag") if not tags.get(tag)]
        if without:
            readings.append(Fact("data.info.tags_absent", ", ".join(without), os.path.join(named, INFO)))
            readings.append(
                Fact("data.info.tags_absent_of", str(item.value), item.origin, item.line, item.column, item.key)
            )
    asked = Asked(
        "llamafactory",
        _text(known, "training.task"),
        entry=dict(entry),
        place=(item.origin, item.line, item.column, ""),
    )
    yield _Told(path, _text(known, f"training.dataset.{number}.role"), asked)
