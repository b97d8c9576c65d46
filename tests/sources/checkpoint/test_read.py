"""A model is read whole: broken files, odd places, and nothing of it executed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.sources.checkpoint.folders import LLAMA, in_cache, llama, plain, told, unchecked, write_json, write_tensors


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "Expecting value"),
        (b'{"a": 1,}', "Expecting property name"),
        (b"\xff\xfe", "it is not UTF-8"),
        (b"[1]", "it holds no object"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "digits"),
    ],
)
def test_a_broken_config_is_told(tmp_path: Path, data: bytes, words: str) -> None:
    """In the reader's words, and the rest is looked at all the same."""
    (tmp_path / "config.json").write_bytes(data)
    write_tensors(tmp_path / "model.safetensors", plain())
    found = told(tmp_path)
    assert words in found["config.error"]
    assert found["weights.format"] == "safetensors"


@pytest.mark.parametrize(
    ("data", "what"), [(b"version https://git-lfs.github.com/spec/v1\n", "pointer"), (b"<!DOCTYPE html>", "page")]
)
def test_what_stands_in_its_place_is_told(tmp_path: Path, data: bytes, what: str) -> None:
    """That says more than where the JSON ends."""
    (tmp_path / "config.json").write_bytes(data)
    found = told(tmp_path)
    assert found["config.instead"] == what
    assert "config.error" not in found


def test_a_huge_config_is_not_read(tmp_path: Path) -> None:
    """And that is told."""
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(1 << 30)
    assert "are not read" in told(tmp_path)["config.error"]


def test_a_pipe_in_place_of_a_config_does_not_hang(tmp_path: Path) -> None:
    """It is not opened."""
    os.mkfifo(tmp_path / "config.json")
    assert told(tmp_path)["config.error"] == "it is not a regular file"


def test_odd_json_is_told(tmp_path: Path) -> None:
    """Keys twice, and words that are no JSON."""
    (tmp_path / "config.json").write_text('{"model_type": "llama", "model_type": "qwen2", "x": NaN}')
    found = told(tmp_path)
    assert (found["config.duplicates"], found["config.constants"], found["model.type"]) == (
        "model_type",
        "NaN",
        "qwen2",
    )


def test_a_model_inside_is_named(tmp_path: Path) -> None:
    """Loaders do not look there."""
    write_json(tmp_path / "x" / "x" / "config.json", LLAMA)
    found = told(tmp_path / "x")
    assert (found["model.layout"], found["model.inner"]) == ("nested", str(tmp_path / "x" / "x"))


def test_a_folder_that_bears_an_id_is_told(tmp_path: Path) -> None:
    """Not where the path says that a folder is meant."""
    write_json(tmp_path / "owner" / "name" / "notes.json", {})
    assert told("owner/name", folder=tmp_path)["model.folder_named_as_id"] is True
    assert told("./owner/name", folder=tmp_path)["model.folder_named_as_id"] is False
    assert "model.folder_named_as_id" not in told("owner", folder=tmp_path)


def test_a_name_with_a_newline_is_a_name(tmp_path: Path) -> None:
    """Folders may be called anything."""
    write_json(tmp_path / "a\nb" / "config.json", LLAMA)
    assert told("./a\nb", folder=tmp_path)["model.hidden_size"] == 64


def test_halves_of_characters_can_be_sent_on(tmp_path: Path) -> None:
    """In names that are no UTF-8, and in JSON's escapes."""
    import msgspec

    from diagnose.sources import checkpoint

    folder = tmp_path / os.fsdecode(b"m\xff")
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "\\ud800", "torch_dtype": "\\udfff"}')
    (folder / os.fsdecode(b"model\xfe.safetensors")).write_bytes(b"")
    for reading in checkpoint.read(str(folder), {}, "/"):
        assert msgspec.msgpack.encode(reading)


def test_what_cannot_be_found_is_told_once(tmp_path: Path) -> None:
    """As a problem where it is one, as not checked where nobody can know."""
    assert told("./nothing", folder=tmp_path)["model.problem"] == "no-such-path"
    assert unchecked("./nothing", folder=tmp_path) == []
    assert unchecked("s3://bucket/x") == ["model files"]


def test_a_cached_model_names_its_files_by_its_id(tmp_path: Path) -> None:
    """Not by the commit's folder."""
    from diagnose.model import Fact
    from diagnose.sources import checkpoint

    in_cache(tmp_path)
    readings = checkpoint.read("tiny/llama", {"HF_HUB_CACHE": str(tmp_path)}, "/")
    assert {r.origin for r in readings if isinstance(r, Fact) and r.name == "model.type"} == {"llama/config.json"}


def test_a_lone_safetensors_file_is_read_with_the_config_beside_it(tmp_path: Path) -> None:
    """Its folder is the model's."""
    write_json(tmp_path / "x" / "config.json", llama())
    write_tensors(tmp_path / "x" / "model.safetensors", plain())
    found = told("x/model.safetensors", folder=tmp_path)
    assert (found["model.kind"], found["model.type"], found["quantization.tensors"]) == ("safetensors", "llama", "none")
