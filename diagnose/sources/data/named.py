"""Which data files are meant: those on the command line, what a folder holds, and what the training's settings say of each."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from msgspec import Struct

from diagnose.model import Fact, Reading, Unchecked
from diagnose.sources import files
from diagnose.sources.data import dataset_info
from diagnose.sources.data.kinds import ENDINGS, PACKED
from diagnose.sources.data.layout import Asked
from diagnose.sources.data.training import Dataset, datasets, place_of, text

BESIDES = (dataset_info.INFO, "state.json", "dataset_dict.json", "dataset_infos.json", "config.json", "package.json")
"""JSON files in folders of data that hold no examples."""
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


def data_files(
    paths: Sequence[str], environ: Mapping[str, str], folder: str, known: Mapping[str, Fact]
) -> tuple[list[DataFile], list[Reading]]:
    """The files to read, and what is to be told of the settings' datasets; an Unchecked for a path that leads to none."""
    readings: list[Reading] = []
    if text(known, "training.framework") == "llamafactory":
        told = list(dataset_info.datasets(environ, folder, known, readings))
    else:
        told = list(datasets(environ, folder, known))
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


def _here(told: Sequence[Dataset]) -> list[str]:
    """The datasets of the settings that are files on this machine, as they could be given on the command line."""
    there = [one for one in told if _holds_data(one.path)]
    return [f"{one.role or 'train'}={one.path}" for one in there[:MOST_NAMED]]


def _holds_data(path: str) -> bool:
    """Whether a path is a data file, or a folder with some."""
    if os.path.isdir(path):
        return next(_inside(path), None) is not None
    return os.path.isfile(path) and is_data(os.path.basename(path))


def _file(
    path: str, inner: str, role: str, told: Sequence[Dataset], known: Mapping[str, Fact], folder: str, first: bool
) -> DataFile:
    real = os.path.realpath(path)
    match = next((one for one in told if real == one.path or real.startswith(one.path + os.sep)), None)
    named = "eval" if _EVAL.search(inner.lower()) and not first else "train"
    asked = match.asked if match is not None else Asked(text(known, "training.framework"), text(known, "training.task"))
    if match is None and len(told) == 1:
        asked = told[0].asked  # the one dataset of the settings may lie elsewhere, on the Hub or another machine
    shown = os.path.relpath(path, folder) if path.startswith(folder + os.sep) else path
    return DataFile(path, shown, role or (match.role if match is not None and match.role else named), asked)


def _expanded(path: str, environ: Mapping[str, str], folder: str) -> list[tuple[str, str]]:
    """The files that a path means: itself, the data files of a folder, what a pattern finds; each with its name inside it."""
    if not path or "\0" in path:
        return []
    whole = files.absolute(path, environ, folder)
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
    whole = files.absolute(path, environ, folder)
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
    return any(lower.endswith(ending + packed) for ending in ENDINGS for packed in ("", *PACKED))


def as_files(environ: Mapping[str, str], folder: str, known: Mapping[str, Fact]) -> Iterator[Reading]:
    """A file that stands as `dataset_name`, which load_dataset takes for a folder or an id of the Hub."""
    item = known.get("training.dataset.0.path")
    if item is None or item.key != "dataset_name" or text(known, "training.framework") != "trl":
        return
    path = files.absolute(str(item.value), environ, folder)
    if os.path.isfile(path) and is_data(os.path.basename(path)):
        yield Fact("data.named_as_file", str(item.value), *place_of(item))
