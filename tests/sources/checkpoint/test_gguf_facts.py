"""Facts of GGUF models: metadata as `model.*`, tokenizer, parts, and files that are no models."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.sources.checkpoint import ggufs, models


def facts_of(path: Path, data: bytes, name: str = "model.gguf") -> dict[str, Any]:
    """The facts of these bytes as a file."""
    path.mkdir(exist_ok=True)
    (path / name).write_bytes(data)
    return models.facts(path / name)


def test_a_good_model_is_quiet_and_told_like_one_with_a_config(tmp_path: Path) -> None:
    """Numbers of the model come from the metadata, sums from the tensor table."""
    known = facts_of(tmp_path, ggufs.gguf())
    wanted = {
        "weights.format": "gguf", "weights.problems": 0, "model.layers": 2, "model.hidden_size": 8, "model.heads": 2,
        "model.kv_heads": 1, "model.head_dim": 4, "model.positions": 64, "model.context": 64, "model.vocab_size": 16,
        "gguf.architecture_known": True, "gguf.kind": "model", "gguf.keys_missing": "none", "gguf.layers_missing": 0,
        "gguf.special_outside": "none", "gguf.tokens": 16, "gguf.embedding_rows": 16, "gguf.embedding_columns": 8,
        "weights.tensors": 6, "weights.bytes": 16 * 8 * 4 + 2 * (8 * 4 + 64 * 2) + 8 * 4,
    }  # fmt: skip
    assert {name: known.get(name) for name in wanted} == wanted
    assert not models.problems(tmp_path / "model.gguf")


@pytest.mark.parametrize(
    ("change", "name", "value"),
    [
        ({"general.architecture": "lama"}, "gguf.architecture_known", False),
        ({"general.architecture": "lama"}, "gguf.architecture_nearest", "llama"),
        ({"llama.block_count": None}, "gguf.keys_missing", "llama.block_count"),
        ({"tokenizer.ggml.model": None}, "gguf.tokenizer", "missing"),
        ({"tokenizer.ggml.model": "gpt-9"}, "gguf.tokenizer_known", False),
        ({"tokenizer.ggml.model": "gpt2"}, "gguf.merges", False),
        ({"tokenizer.ggml.model": "gpt2"}, "gguf.pre_tokenizer", "none"),
        ({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen99"}, "gguf.pre_tokenizer_known", False),
        ({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen2"}, "gguf.pre_tokenizer_known", True),
        ({"tokenizer.ggml.tokens": ("[str]", ggufs.TOKENS[:9])}, "gguf.tokens", 9),
        ({"tokenizer.ggml.scores": ("[f32]", [1.0])}, "gguf.scores", 1),
        ({"tokenizer.ggml.eos_token_id": ("u32", 16)}, "gguf.special_outside", "tokenizer.ggml.eos_token_id = 16"),
        ({"tokenizer.ggml.eos_token_id": ("u32", 2**32 - 1)}, "gguf.special_outside", "none"),
        ({"tokenizer.ggml.eos_token_id": None}, "gguf.eos_id", -1),
        ({"llama.block_count": ("u32", 4)}, "gguf.layers_missing_numbers", "2, 3"),
        ({"llama.block_count": ("u32", 1)}, "gguf.layers_extra", 1),
        ({"general.architecture": "clip"}, "gguf.kind", "mmproj"),
        ({"general.type": "imatrix"}, "gguf.kind", "imatrix"),
        ({"general.architecture": None}, "gguf.architecture", "none"),
    ],
)
def test_what_llama_cpp_would_stumble_over_is_told(
    tmp_path: Path, change: dict[str, Any], name: str, value: Any
) -> None:
    """Each lack or fault of the metadata has its fact."""
    metadata = {key: one for key, one in {**ggufs.LLAMA, **change}.items() if one is not None}
    assert facts_of(tmp_path, ggufs.gguf(metadata))[name] == value


def test_an_adapter_is_known_by_its_tensors(tmp_path: Path) -> None:
    """They come in pairs, a and b."""
    tensors = {"blk.0.attn_q.weight.lora_a": ("F32", (8, 2)), "blk.0.attn_q.weight.lora_b": ("F32", (2, 8))}
    metadata = {"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora"}
    assert facts_of(tmp_path, ggufs.gguf(metadata, tensors))["gguf.kind"] == "adapter"


def test_a_file_of_the_other_byte_order_says_so(tmp_path: Path) -> None:
    """llama.cpp turns no bytes around."""
    assert facts_of(tmp_path, ggufs.gguf(order=">"))["gguf.foreign_order"] is (sys.byteorder == "little")


def test_what_a_file_that_breaks_off_does_not_show_is_not_told(tmp_path: Path) -> None:
    """Keys and tokens behind the end are not called missing."""
    known = facts_of(tmp_path, ggufs.gguf()[:200])
    assert models.problems(tmp_path / "model.gguf") == {"model.gguf": ("truncated", True)}
    assert not known.keys() & {"gguf.keys_missing", "gguf.tokenizer", "gguf.layers_missing", "weights.bytes"}


def test_a_file_cut_within_its_tensors_keeps_its_facts(tmp_path: Path) -> None:
    """Only the size is wrong, and it is told with the right one."""
    data = ggufs.gguf()
    known = facts_of(tmp_path, data[:-64])
    assert known["weight.0.problem"] == "truncated"
    assert known["weight.0.expected"] == len(data)
    assert known["model.layers"] == 2


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"tjgg\x01\0\0\0", "old-ggml"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4920739232\n", "pointer"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "page"),
        (models.safetensors(models.llama()), "other-format"),
        (b"\0" * 4096, "zeros"),
        (b"", "empty"),
    ],
)
def test_other_things_under_the_name_are_recognised(tmp_path: Path, data: bytes, problem: str) -> None:
    """A pointer, a page, an old format, another format."""
    facts_of(tmp_path, data)
    assert models.problems(tmp_path / "model.gguf") == {"model.gguf": (problem, True)}


def _parts(path: Path, count: int = 3, total: int = 6) -> list[Path]:
    """A model in parts: the first holds the metadata."""
    tensors = list(ggufs.llama().items())
    found = []
    for n in range(count):
        split = {"split.no": ("u16", n), "split.count": ("u16", count), "split.tensors.count": ("i32", total)}
        metadata = {**ggufs.LLAMA, **split} if n == 0 else split
        share = -(-len(tensors) // count)
        file = path / f"m-{n + 1:05d}-of-{count:05d}.gguf"
        file.write_bytes(ggufs.gguf(metadata, dict(tensors[n * share : (n + 1) * share])))
        found.append(file)
    return found


def test_parts_are_read_together(tmp_path: Path) -> None:
    """The sums are over all parts, and their number of tensors is the promised one."""
    first = _parts(tmp_path)[0]
    known = models.facts(first)
    assert (known["weights.files"], known["weights.tensors"], known["gguf.split_missing"]) == (3, 6, 0)
    assert known["gguf.split_tensors"] == known["gguf.split_tensors_there"] == 6
    assert known["gguf.layers_missing"] == 0
    assert not models.problems(first)


def test_faults_of_parts_are_told(tmp_path: Path) -> None:
    """One that is missing, one that is another, a first one with another name, one that is not the first."""
    first, second, third = _parts(tmp_path)
    assert models.facts(second)["gguf.split_number"] == 1
    second.write_bytes(third.read_bytes())
    assert models.problems(first) == {second.name: ("wrong-part", True)}
    third.unlink()
    assert models.problems(first)[third.name] == ("missing", True)
    renamed = first.rename(tmp_path / "renamed.gguf")
    assert models.facts(renamed)["gguf.split_name_right"] is False


def test_a_folder_of_several_models_tells_what_is_wrong_with_each(tmp_path: Path) -> None:
    """No model is chosen, and a broken file is found."""
    (tmp_path / "m-Q4_0.gguf").write_bytes(ggufs.gguf())
    (tmp_path / "m-Q8_0.gguf").write_bytes(ggufs.gguf()[:-64])
    assert models.problems(tmp_path) == {"m-Q8_0.gguf": ("truncated", True)}
    assert "model.layers" not in models.facts(tmp_path)
