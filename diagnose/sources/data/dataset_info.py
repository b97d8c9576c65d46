"""LLaMA-Factory's dataset_info.json → the files of the datasets that the settings name, and what is odd about their entries."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from diagnose.model import Fact, Reading
from diagnose.sources import files, jsonfile
from diagnose.sources.data.layout import Asked
from diagnose.sources.data.training import Dataset, dataset_settings, place_of, text, written

INFO = "dataset_info.json"
_ELSEWHERE = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")
"""Keys of an entry whose data is not on this machine."""
_TAGS = ("role_tag", "content_tag", "user_tag", "assistant_tag")


def datasets(
    environ: Mapping[str, str], folder: str, known: Mapping[str, Fact], readings: list[Reading]
) -> Iterator[Dataset]:
    """The datasets whose entries lead to a file; what is to be told of the entries is added to `readings`."""
    there = next(written(known, "dataset_dir"), "") or "data"
    if there == "ONLINE" or there.startswith("REMOTE:") or "training.dataset.0.path" not in known:
        return
    where = files.absolute(there, environ, folder)
    shown = os.path.join(there, INFO)
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
    for item, head in dataset_settings(known):
        entry = info.get(str(item.value))
        if not isinstance(entry, dict):
            readings += _absent(item, info)
            continue
        readings += _odd(entry, item, where, there)
        file = entry.get("file_name")
        if isinstance(file, str) and not any(key in entry for key in _ELSEWHERE):
            place = (*place_of(item)[:3], "")
            asked = Asked("llamafactory", text(known, "training.task"), entry=dict(entry), place=place)
            yield Dataset(os.path.realpath(os.path.join(where, file)), text(known, f"{head}role"), asked)


def _absent(item: Fact, info: Mapping[str, Any]) -> Iterator[Reading]:
    """A dataset that has no entry."""
    name = str(item.value)
    yield Fact("data.info.absent", name, *place_of(item))
    for near in get_close_matches(name, [str(key) for key in info][:5000], 1, 0.6):
        yield Fact("data.info.nearest", near, *place_of(item))


def _odd(entry: Mapping[str, Any], item: Fact, where: str, there: str) -> Iterator[Reading]:
    """What is odd about an entry: no file, one that is not there, or only some of the tags."""
    if any(key in entry for key in _ELSEWHERE):
        return
    name, origin = str(item.value), os.path.join(there, INFO)
    file = entry.get("file_name")
    if not isinstance(file, str):
        yield Fact("data.info.without_file", name, origin)
        return
    if not os.path.lexists(os.path.realpath(os.path.join(where, file))):
        yield Fact("data.info.file_missing", os.path.join(there, file), origin)
        yield Fact("data.info.file_missing_of", name, *place_of(item))
    tags = entry.get("tags")
    if isinstance(tags, dict) and entry.get("formatting") in ("sharegpt", "openai"):
        without = [tag for tag in _TAGS if not tags.get(tag)]
        if without:
            yield Fact("data.info.tags_absent", ", ".join(without), origin)
            yield Fact("data.info.tags_absent_of", name, *place_of(item))
