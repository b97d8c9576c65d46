"""The files of a tokenizer: which are there, and which hold something else than they should."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.sources.tokenizer import files
from tests.sources.tokenizer.made import facts, folder

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12807982\n"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (POINTER, "pointer"),
        (b"<!DOCTYPE html>\n<html><head><title>Sign in</title>", "html"),
        (b"", "empty"),
        (b" \n ", "empty"),
        (b"\0" * 5000, "zeros"),
        (b"../base/tokenizer.json", "link-text"),
        (b'{"version": "1.0", "model": {"type": "BPE", "vo', "broken"),
        (b"[1, 2]", "broken"),
        (b"\xff\xfe\x00", "broken"),
    ],
)
def test_what_is_in_place_of_a_tokenizer_json_is_named(tmp_path: Path, content: bytes, problem: str) -> None:
    """Pointers, web pages, links stored as text, cut JSON: each has its word, and loaders need this file."""
    told = facts(folder(tmp_path, tokenizer_json=content))
    assert told["tokenizer.file.0.name"] == "tokenizer.json"
    assert told["tokenizer.file.0.problem"] == problem
    assert told["tokenizer.file.0.needed"] is True
    assert told["tokenizer.kind"] == "none"


def test_the_line_of_a_mistake_in_tokenizer_config_is_told(tmp_path: Path) -> None:
    """A comma that is missing after an edit by hand is found by its line."""
    told = facts(folder(tmp_path, tokenizer_config_json=b'{\n "eos_token": "</s>"\n "pad_token": "x"\n}'))
    assert told["tokenizer.file.0.problem"] == "broken"
    assert "line 3" in str(told["tokenizer.file.0.detail"])


def test_a_link_to_nothing_and_a_file_without_permission_are_told(tmp_path: Path) -> None:
    """A snapshot of the Hub's cache whose blobs are gone has links that lead nowhere."""
    made = folder(tmp_path, tokenizer_json=None)
    (made / "tokenizer.json").symlink_to("../../blobs/abc")
    told = facts(made)
    assert told["tokenizer.file.0.problem"] == "dangling"
    assert "../../blobs/abc" in str(told["tokenizer.file.0.detail"])


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    """Opening a pipe would wait for a writer for ever."""
    made = folder(tmp_path, tokenizer_json=None)
    os.mkfifo(made / "tokenizer.json")
    assert facts(made)["tokenizer.file.0.problem"] == "unreadable"


def test_an_older_file_is_not_needed_beside_tokenizer_json(tmp_path: Path) -> None:
    """transformers passes over tokenizer.model where tokenizer.json is, and over the map where the tokens are listed."""
    decoder = {"added_tokens_decoder": {"0": {"content": "<unk>"}}}
    told = facts(folder(tmp_path, tokenizer_model=POINTER, special_tokens_map_json=b"", tokenizer_config_json=decoder))
    assert {told[f"tokenizer.file.{at}.name"] for at in (0, 1)} == {"tokenizer.model", "special_tokens_map.json"}
    assert told["tokenizer.file.0.needed"] is False
    assert told["tokenizer.file.1.needed"] is False


def test_a_whole_folder_has_no_faulty_file(tmp_path: Path) -> None:
    """Nothing is said of files that are as they should be."""
    assert not [name for name in facts(folder(tmp_path)) if name.startswith("tokenizer.file.")]


def test_a_folder_that_is_not_there_yields_no_file() -> None:
    """Nothing is raised where nothing is."""
    assert files.look("/nowhere/at/all", "x").states == {}


@given(st.binary(max_size=600), st.sampled_from(files.KNOWN))
def test_any_bytes_in_any_file_are_read_without_an_exception(data: bytes, name: str) -> None:
    """Whatever a file holds, it gets a state."""
    problem, detail = files._problem(data[: files.HEAD], len(data), name)
    assert bool(problem) == bool(detail)
