"""The files of a model folder: which are taken, which are not what they should be, and sums over them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diagnose import facts as catalogue
from diagnose.model import Fact
from diagnose.sources.checkpoint import listing
from tests.sources.checkpoint import ggufs, models

FIRST, SECOND, THIRD = (f"model-{n:05d}-of-00003.safetensors" for n in (1, 2, 3))
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4932307584\n"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A good model in three parts."""
    return models.folder(tmp_path / "model", models.llama(), 3)


def test_a_good_model_is_quiet(model: Path) -> None:
    """No problem, and the sums are those of the tensors."""
    known = models.facts(model)
    elements = 16 * 8 * 2 + 2 * (64 + 32 + 32 + 64 + 3 * 96 + 16) + 8
    wanted = {
        "weights.format": "safetensors", "weights.files": 3, "weights.problems": 0, "weights.missing": 0,
        "weights.parameters": elements, "weights.bytes": 2 * elements, "weights.dtype": "BF16", "weights.tensors": 21,
        "weights.metadata_format": "pt", "weights.index": "model.safetensors.index.json", "weights.index_absent": 0,
        "weights.index_unnamed": 0, "weights.index_moved": 0, "weights.index_twice": 0, "weights.index_total_right": True,
        "weights.single_and_index": False, "weights.numbered_without_index": False, "weights.lora_tensors": 0,
        "shape.head_missing": False, "shape.lacking": 0,
    }  # fmt: skip
    assert {name: known.get(name) for name in wanted} == wanted
    assert not models.problems(model)


def _change(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda data: data[:-10], "truncated"),
        (lambda data: data[:4], "truncated"),
        (lambda data: b"", "empty"),
        (lambda data: data + b"x", "trailing"),
        (lambda data: POINTER, "pointer"),
        (lambda data: b"# xet version 0\nfilesize = 4932307584\nhash = 'ab'\n", "pointer"),
        (lambda data: b"/annex/objects/SHA256E-s4932307584--ab.safetensors\n", "pointer"),
        (lambda data: b"<!doctype html>\n<html><head><title>Hub</title></head></html>", "page"),
        (lambda data: b'{"error":"Repository not found"}', "page"),
        (lambda data: b"Entry not found", "page"),
        (lambda data: b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "page"),
        (lambda data: b"PK\x03\x04" + data, "other-format"),
        (lambda data: b"GGUF" + data, "other-format"),
        (lambda data: b"\0" * len(data), "zeros"),
        (lambda data: b"some words\n", "text"),
        (lambda data: data.replace(b"BF16", b"XF16"), "unknown-dtype"),
        (lambda data: data[:8] + b"?" + data[9:], "bad-header"),
    ],
)
def test_a_part_that_is_not_what_it_should_be_is_told(
    model: Path, change: Callable[[bytes], bytes], problem: str
) -> None:
    """One word for one fault, and no sum that it would make wrong."""
    _change(model / SECOND, change)
    known = models.facts(model)
    assert models.problems(model) == {SECOND: (problem, True)}
    assert "shape.lacking" not in known or problem == "trailing"
    assert known.get("weights.index_absent", 0) == 0


def test_a_header_whose_length_begins_like_a_pickle_is_still_one(tmp_path: Path) -> None:
    """A pickle begins with the byte 128, and so does a header of 128 bytes."""
    text = models.header({"a": ("F32", (4,))}, None)[0]
    text += b" " * (128 - len(text))
    model = models.folder(tmp_path / "m", {})
    (model / "model.safetensors").write_bytes(models.framed(text, b"\0" * 16)[:100])
    assert models.problems(model) == {"model.safetensors": ("truncated", True)}
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    assert models.problems(model) == {"pytorch_model.bin": ("other-format", True)}


def test_a_pointer_tells_the_size_of_the_file_that_it_stands_for(model: Path) -> None:
    """So that the reader sees how much there is to fetch."""
    (model / SECOND).write_bytes(POINTER)
    known = models.facts(model)
    assert known["weight.0.expected"] == 4932307584
    assert known["weight.0.size"] == len(POINTER)


def test_a_file_whose_end_was_never_written_is_told_unless_it_is_sparse(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room that was set aside and not filled; of a sparse file nobody knows what it should hold."""
    monkeypatch.setattr(listing, "LARGE", 1 << 20)
    size = 2 * (1 << 20)
    text = models.header({"a": ("U8", (size,))}, {"format": "pt"})[0]
    file = models.folder(model.parent / "hollow", {}) / "model.safetensors"
    file.write_bytes(models.framed(text, b"\1" * size))
    assert not models.problems(file.parent)
    file.write_bytes(models.framed(text, b"\1" * (size // 2) + b"\0" * (size // 2)))
    with file.open("rb+") as written:
        os.fsync(written.fileno())  # a file system may give room only then
    assert models.problems(file.parent) == {"model.safetensors": ("hollow", True)}
    file.write_bytes(models.framed(text, b""))
    os.truncate(file, 8 + len(text) + size)
    assert not models.problems(file.parent)


def test_a_missing_part_is_named(model: Path) -> None:
    """By the index, and without one by the numbers."""
    (model / SECOND).unlink()
    assert models.problems(model) == {SECOND: ("missing", True)}
    (model / "model.safetensors.index.json").unlink()
    assert models.problems(model) == {SECOND: ("missing", True)}
    assert models.facts(model)["weights.numbered_without_index"] is True


def test_links_are_followed_and_broken_ones_told(model: Path, tmp_path: Path) -> None:
    """As the hub client's cache keeps them; loops and links to nowhere are problems."""
    blob = tmp_path / "blob"
    (model / FIRST).rename(blob)
    (model / FIRST).symlink_to(blob)
    assert not models.problems(model)
    blob.unlink()
    assert models.problems(model) == {FIRST: ("broken-link", True)}
    (model / FIRST).unlink()
    (model / FIRST).symlink_to(model / FIRST)
    assert models.problems(model) == {FIRST: ("loop", True)}


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_rights_is_told(model: Path) -> None:
    """It is unreadable, which is not broken."""
    (model / FIRST).chmod(0)
    assert models.problems(model) == {FIRST: ("unreadable", True)}


def test_a_pipe_in_place_of_a_file_does_not_hang(model: Path) -> None:
    """It is told and not opened."""
    (model / FIRST).unlink()
    os.mkfifo(model / FIRST)
    assert models.problems(model)[FIRST][0] == "not-a-file"


@pytest.mark.parametrize(
    ("name", "used"),
    [
        (f"{SECOND}.aria2", True),
        (f"{SECOND}.part", True),
        (f"{SECOND}.crdownload", True),
        ("notes.txt.part", False),
    ],
)
def test_unfinished_downloads_are_told(model: Path, name: str, used: bool) -> None:
    """What the model needs is a problem, other things are only told."""
    (model / name).write_bytes(b"x" * 2000)
    assert models.problems(model) == {name: ("partial", used)}


def test_what_the_hub_client_left_is_told_only_where_a_file_is_missing(model: Path) -> None:
    """Its parts stay behind also when another try brought the file."""
    place = model / ".cache" / "huggingface" / "download"
    place.mkdir(parents=True)
    (place / "x1Ab-_=.0123456789abcdef.incomplete").write_bytes(b"x" * 2000)
    assert not models.problems(model)
    (model / SECOND).unlink()
    found = models.problems(model)
    assert found[SECOND] == ("missing", True)
    assert ("partial", False) in found.values()


def test_pointers_beside_the_weights_are_told_too(model: Path) -> None:
    """With their sizes; what they do to the tokenizer its own source says."""
    (model / "tokenizer.json").write_bytes(POINTER)
    (model / "flax_model.msgpack").write_bytes(POINTER)
    (model / "preprocessor_config.json").write_bytes(POINTER)
    assert models.problems(model) == {
        "tokenizer.json": ("pointer", False), "flax_model.msgpack": ("pointer", False),
        "preprocessor_config.json": ("pointer", True),
    }  # fmt: skip
    (model / "config.json").write_bytes(POINTER)
    assert models.problems(model)["config.json"] == ("pointer", True)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "bad-index"),
        ("[]", "bad-index"),
        ('{"weight_map": {}}', "bad-index"),
        ('{"weight_map": {"a": 1}}', "bad-index"),
    ],
)
def test_an_index_that_cannot_be_used_is_told(model: Path, text: str, problem: str) -> None:
    """The parts are then found by their numbers."""
    (model / "model.safetensors.index.json").write_text(text)
    assert models.problems(model) == {"model.safetensors.index.json": (problem, True)}
    assert models.facts(model)["weights.files"] == 3


def _index(model: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = model / "model.safetensors.index.json"
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_the_index_is_compared_with_the_headers(model: Path) -> None:
    """Tensors that are nowhere, in another part, or not listed; a wrong sum; no metadata."""
    tensor = "model.norm.weight"
    _index(model, lambda value: value["weight_map"].update({"model.layers.9.x": FIRST}))
    assert models.facts(model)["weights.index_absent_example"] == "model.layers.9.x"
    _index(model, lambda value: value["weight_map"].pop("model.layers.9.x"))
    _index(model, lambda value: value["weight_map"].update({tensor: FIRST}))
    assert models.facts(model)["weights.index_moved"] == 1
    _index(model, lambda value: value["weight_map"].pop(tensor))
    assert models.facts(model)["weights.index_unnamed_example"] == tensor
    _index(model, lambda value: value["metadata"].update(total_size=10**9))
    assert models.facts(model)["weights.index_total_right"] is False
    _index(model, lambda value: value.pop("metadata"))
    assert models.facts(model)["weights.index_has_metadata"] is False


@pytest.mark.parametrize("name", ["/etc/model.safetensors", "../other/model.safetensors", "a/../../x.safetensors"])
def test_an_index_that_leads_out_of_the_folder_is_not_followed(model: Path, name: str) -> None:
    """The file is told and not opened."""
    _index(model, lambda value: value["weight_map"].update({"x": name}))
    assert models.problems(model)[name] == ("outside", True)


def test_parts_of_another_save_are_told(model: Path) -> None:
    """Two sets of parts in one folder; and one file beside parts with an index."""
    (model / "model-00001-of-00002.safetensors").write_bytes(models.safetensors({"a": ("BF16", (4,))}))
    assert models.facts(model)["weights.leftover_names"] == "model-00001-of-00002.safetensors"
    (model / "model.safetensors").write_bytes(models.safetensors(models.llama()))
    known = models.facts(model)
    assert known["weights.single_and_index"] is True
    assert known["weights.used"] == "model.safetensors"


def test_a_variant_is_told_if_it_is_all_there_is(tmp_path: Path) -> None:
    """transformers does not find it without being told the word."""
    model = models.folder(tmp_path / "m", models.llama())
    (model / "model.safetensors").rename(model / "model.fp16.safetensors")
    assert models.facts(model)["weights.variant"] == "fp16"


def test_the_consolidated_file_of_mistral_is_looked_at_too(model: Path) -> None:
    """vLLM takes it where it is there."""
    path = model / "consolidated.safetensors"
    path.write_bytes(models.safetensors(models.llama()))
    assert not models.problems(model)
    _change(path, lambda data: data[:-1])
    assert models.problems(model) == {"consolidated.safetensors": ("truncated", True)}


def test_a_folder_without_weights_says_so(tmp_path: Path) -> None:
    """The format is none; an empty index folder or other formats make no weights."""
    (tmp_path / "config.json").write_text(json.dumps(models.LLAMA))
    (tmp_path / "tf_model.h5").write_bytes(b"x" * 2000)
    known = models.facts(tmp_path)
    assert (known["weights.format"], known["weights.files"], known["weights.problems"]) == ("none", 0, 0)


def test_a_single_file_is_judged_alone(model: Path) -> None:
    """Its neighbours are not looked at."""
    (model / "tokenizer.json").write_bytes(POINTER)
    assert not models.problems(model / FIRST)
    _change(model / FIRST, lambda data: data[:-1])
    assert models.problems(model / FIRST) == {FIRST: ("truncated", True)}


@pytest.mark.parametrize(("metadata", "told"), [({"format": "pt"}, "pt"), ({"a": "b"}, "none"), (None, "none")])
def test_the_format_in_the_metadata_is_told(tmp_path: Path, metadata: dict[str, str] | None, told: str) -> None:
    """transformers 4 looks at it."""
    model = models.folder(tmp_path / "m", models.llama())
    (model / "model.safetensors").write_bytes(models.safetensors(models.llama(), metadata))
    known = models.facts(model)
    assert known["weights.metadata_format"] == told
    assert known["weights.metadata"] is (metadata is not None)


def test_odd_names_do_no_harm(model: Path) -> None:
    """Line breaks, bytes that are no text, very long names, a folder with a file's name."""
    (model / "a\nb.safetensors").write_bytes(b"x")
    (model / os.fsdecode(b"\xff\xfe.safetensors")).write_bytes(b"x")
    (model / ("n" * 250 + ".bin")).write_bytes(b"x")
    (model / "pytorch_model.bin").mkdir()
    (model / "self").symlink_to(model)
    for one in models.readings(model):
        if isinstance(one, Fact):
            str(one.value).encode()
    assert models.facts(model)["weights.files"] == 3


def test_parts_are_counted_as_their_names_write_it(tmp_path: Path) -> None:
    """From 0 or 1, with five or six digits."""
    (tmp_path / "config.json").write_text("{}")
    for n in (0, 2):
        name = f"model-{n:05d}-of-000003.safetensors"
        (tmp_path / name).write_bytes(models.safetensors({f"t{n}": ("F32", (1,))}))
    assert models.problems(tmp_path) == {"model-00001-of-000003.safetensors": ("missing", True)}


def test_numbers_in_names_are_not_believed(tmp_path: Path) -> None:
    """A part that says it is one of 99999 does not make as many facts."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model-00001-of-99999.safetensors").write_bytes(models.safetensors({"a": ("F32", (1,))}))
    assert len(models.readings(tmp_path)) < 500


def test_every_fact_stands_in_the_catalogue(model: Path, tmp_path: Path) -> None:
    """With the owner that yields it."""
    _index(model, lambda value: value["weight_map"].update({"x": "../x", "model.layers.9.x": FIRST}))
    _change(model / SECOND, lambda data: data[:-1])
    (model / "model.fp16.safetensors").write_bytes(POINTER)
    lora = models.folder(
        tmp_path / "lora", {f"base_model.model.{name}.lora_A.weight": one for name, one in models.llama().items()}
    )
    (tmp_path / "m.gguf").write_bytes(ggufs.gguf())
    for path in (model, lora, tmp_path / "m.gguf", models.folder(tmp_path / "good", models.llama(3, embed=(17, 8)))):
        for one in models.readings(path):
            if isinstance(one, Fact):
                kind = catalogue.describe(one.name)
                assert kind is not None, one.name
                wanted = {"flag": bool, "number": (int, float), "bytes": int}.get(kind.type, str)
                assert isinstance(one.value, wanted), one


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.sampled_from(["model.safetensors", "pytorch_model.bin", "model.safetensors.index.json", "config.json", "m.gguf"]))  # fmt: skip
def test_no_file_raises(tmp_path: Path, data: bytes, name: str) -> None:
    """Whatever a folder's files hold, facts come and nothing is raised."""
    model = models.folder(tmp_path / "m", models.llama(), 2)
    for other in ("model.safetensors", "pytorch_model.bin", "m.gguf"):
        (model / other).unlink(missing_ok=True)
    (model / name).write_bytes(data)
    models.readings(model)
    models.readings(model / name)
