"""Words of a command line, sorted by what they are of."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from diagnose.cli.paths import Sorted, named, sort_out
from diagnose.errors import InputError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file of each kind."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    for name, text in {
        "sft.yaml": "learning_rate: 1e-5\n",
        "ds.json": "{}",
        "train.py": "",
        "train.jsonl.zst": "",
        "compose.yaml": "services:\n  a: {}\n",
        "pod.yml": "apiVersion: v1\nkind: Pod\n",
        "notes.txt": "",
        "blob": "GGUF\3\0\0\0",
        "adapter.bin": "",
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files_are_sorted_by_name_and_content(here: Path) -> None:
    """A manifest is told by its keys."""
    words = ["model", "sft.yaml", "ds.json", "train.py", "train.jsonl.zst", "compose.yaml", "pod.yml"]

    assert named(words) == Sorted(
        "model", ("compose.yaml", "pod.yml"), ("sft.yaml", "ds.json", "train.py"), ("train.jsonl.zst",)
    )


@pytest.mark.parametrize("word", ["Qwen/Qwen3-8B", "empty", "gone.yaml", "blob", "adapter.bin"])
def test_what_is_nothing_else_is_a_model(here: Path, word: str) -> None:
    """An id of the Hub; or a path, of which the model's source says what is wrong."""
    assert named([word]) == Sorted(word)


def test_what_is_surely_no_model_is_told(here: Path) -> None:
    """A pipe, a device, a text: nothing of it would be looked at."""
    os.mkfifo("pipe.yaml")
    for word in ("notes.txt", "pipe.yaml", "/dev/zero"):
        with pytest.raises(InputError, match=f"{word} is neither a configuration"):
            named([word])


def test_two_models_are_one_too_many(here: Path) -> None:
    """Both are named."""
    with pytest.raises(InputError, match="model and Qwen/Qwen3-8B are two models"):
        named(["model", "Qwen/Qwen3-8B"])


def test_patterns_of_a_project(here: Path) -> None:
    """What a project's settings name has to be there, and be something."""
    assert sort_out(["*.yaml", "model"], "pyproject.toml").configs == ("sft.yaml",)
    with pytest.raises(InputError, match=r"pyproject\.toml: paths: there is no conf/\*"):
        sort_out(["conf/*"], "pyproject.toml")
    with pytest.raises(InputError, match=r"notes\.txt is neither"):
        sort_out(["notes.txt"], "pyproject.toml")
