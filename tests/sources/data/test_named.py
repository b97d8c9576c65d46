"""Which files are meant, whether they are for training or evaluation, and what LLaMA-Factory's dataset_info.json says."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from diagnose.model import Fact, Unchecked
from diagnose.sources.data.named import DataFile, data_files
from tests.sources.data.support import chats, jsonl
from tests.support import facts_of


def found(tmp_path: Path, paths: list[str], known: Mapping[str, Any] = {}) -> tuple[list[DataFile], list[Any]]:
    """The data files and readings of paths below a folder."""
    facts = {fact.name: fact for fact in facts_of(dict(known))}
    return data_files(paths, {"HOME": str(tmp_path)}, str(tmp_path), facts)


def roles(files: list[DataFile]) -> dict[str, str]:
    """What each file is for."""
    return {file.shown: file.role for file in files}


def test_the_first_is_for_training_and_names_tell_the_others(tmp_path: Path) -> None:
    """Unless a word before the path says it."""
    for name in ("test_set.jsonl", "dev.jsonl", "latest.jsonl"):
        jsonl(tmp_path / name, [])

    assert {"test_set.jsonl": "train", "dev.jsonl": "eval", "latest.jsonl": "train"} == roles(
        found(tmp_path, ["test_set.jsonl", "dev.jsonl", "latest.jsonl"])[0]
    )
    assert {"dev.jsonl": "train", "latest.jsonl": "eval"} == roles(
        found(tmp_path, ["train=dev.jsonl", "eval=latest.jsonl"])[0]
    )


def test_a_folder_means_its_data_files(tmp_path: Path) -> None:
    """Those below it too; other files are left out, and so are hidden folders and those that name datasets."""
    for name in (
        "d/train/a.jsonl",
        "d/test/b.parquet",
        "d/readme.md",
        "d/dataset_info.json",
        "d/.cache/x.json",
        "d/c.csv.gz",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")

    assert {"d/c.csv.gz": "train", "d/test/b.parquet": "eval", "d/train/a.jsonl": "train"} == roles(
        found(tmp_path, ["d"])[0]
    )


def test_a_pattern_means_what_it_finds(tmp_path: Path) -> None:
    """As a shell that was given quotes leaves it."""
    for name in ("a-1.jsonl", "a-2.jsonl", "b.jsonl"):
        jsonl(tmp_path / name, [])

    assert ["a-1.jsonl", "a-2.jsonl"] == [file.shown for file in found(tmp_path, ["a-*.jsonl"])[0]]


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    """Also a link that leads nowhere is no reason to stop."""
    os.symlink("nowhere", tmp_path / "link.jsonl")
    jsonl(tmp_path / "here.jsonl", [])

    assert 2 == len(found(tmp_path, ["", "a\0b"])[1])

    assert [Unchecked("training data", "none.jsonl: there is no such file or folder")] == found(
        tmp_path, ["none.jsonl"]
    )[1]
    assert ["link.jsonl"] == [file.shown for file in found(tmp_path, ["link.jsonl"])[0]]


def test_a_folder_without_data_is_told_as_one(tmp_path: Path) -> None:
    """It is there; only nothing in it is called like data."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.md").write_text("hello")

    (why,) = found(tmp_path, ["notes"])[1]
    assert isinstance(why, Unchecked)
    assert why.why.startswith("notes: the folder holds no file that is called like data")


def test_the_settings_tell_what_a_file_is_for(tmp_path: Path) -> None:
    """By its path, with the form and field of its dataset."""
    jsonl(tmp_path / "one.jsonl", [])
    jsonl(tmp_path / "two.jsonl", [])
    known = {
        "training.framework": "axolotl",
        "training.dataset.0.path": "./one.jsonl",
        "training.dataset.0.format": "completion",
        "training.dataset.0.field": "body",
        "training.dataset.1.path": "two.jsonl",
        "training.dataset.1.role": "eval",
    }
    one, two = found(tmp_path, ["one.jsonl", "two.jsonl"], known)[0]

    assert ("train", "completion", "body") == (one.role, one.asked.format, one.asked.field)
    assert "eval" == two.role


LLAMA: dict[str, Any] = {
    "training.framework": "llamafactory",
    "training.dataset.0.path": "mine",
    "training.given.3.key": "dataset_dir",
    "training.given.3.value": "sets",
}


def info(tmp_path: Path, entries: Any) -> None:
    """Write a dataset_info.json."""
    (tmp_path / "sets").mkdir(exist_ok=True)
    (tmp_path / "sets" / "dataset_info.json").write_text(
        json.dumps(entries) if not isinstance(entries, str) else entries
    )


def told(readings: list[Any]) -> dict[str, Any]:
    """Facts by name."""
    return {reading.name: reading.value for reading in readings if isinstance(reading, Fact)}


def test_an_entry_leads_to_its_file(tmp_path: Path) -> None:
    """And says how it is written."""
    info(tmp_path, {"mine": {"file_name": "a.jsonl", "formatting": "sharegpt"}})
    jsonl(tmp_path / "sets" / "a.jsonl", chats(2))
    files, readings = found(tmp_path, ["sets/a.jsonl"], LLAMA)

    assert {"file_name": "a.jsonl", "formatting": "sharegpt"} == files[0].asked.entry
    assert {"data.info.path": "sets/dataset_info.json"} == told(readings)


@pytest.mark.parametrize(
    ("entries", "facts"),
    [
        ({"mines": {}}, {"data.info.absent": "mine", "data.info.nearest": "mines"}),
        ({"other": {}}, {"data.info.absent": "mine"}),
        ({"mine": {}}, {"data.info.without_file": "mine"}),
        ({"mine": {"hf_hub_url": "a/b"}}, {}),
        (
            {"mine": {"file_name": "a.jsonl"}},
            {"data.info.file_missing": "sets/a.jsonl", "data.info.file_missing_of": "mine"},
        ),
        (
            {
                "mine": {
                    "file_name": "../here.jsonl",
                    "formatting": "sharegpt",
                    "tags": {"role_tag": "role", "content_tag": "c"},
                }
            },
            {"data.info.tags_absent": "user_tag, assistant_tag", "data.info.tags_absent_of": "mine"},
        ),
    ],
)
def test_what_is_wrong_with_an_entry_is_told(tmp_path: Path, entries: Any, facts: dict[str, Any]) -> None:
    """With the name that was probably meant."""
    jsonl(tmp_path / "here.jsonl", [])
    info(tmp_path, entries)

    assert {"data.info.path": "sets/dataset_info.json", **facts} == told(found(tmp_path, [], LLAMA)[1])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[]", "its top level is not an object"),
        ("{", "Expecting property name enclosed in double quotes (line 1, column 2)"),
    ],
)
def test_an_unreadable_one_is_told(tmp_path: Path, text: str, why: str) -> None:
    """In words."""
    info(tmp_path, text)

    assert {"data.info.problem": why} == told(found(tmp_path, [], LLAMA)[1])
