"""The reader of GGUF files: it says what llama.cpp's and the gguf package's readers say, within bounds."""

from __future__ import annotations

import os
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diagnose.sources.checkpoint import gguf
from tests.sources.checkpoint import ggufs


def read(path: Path, data: bytes) -> gguf.Header:
    """The header of these bytes as a file."""
    file = path / "model.gguf"
    file.write_bytes(data)
    return gguf.read_header(str(file))


def test_a_good_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Metadata of every type, lists and tensors come back."""
    metadata = {
        "general.architecture": "llama", "a.u8": ("u8", 200), "a.i8": ("i8", -3), "a.u16": ("u16", 65535),
        "a.i16": ("i16", -9), "a.u32": ("u32", 1 << 31), "a.i32": ("i32", -1), "a.f32": ("f32", 0.5), "a.bool": ("bool", 1),
        "a.u64": ("u64", 1 << 63), "a.i64": ("i64", -1), "a.f64": ("f64", 0.25), "a.text": "häuser",
        "a.list": ("[i32]", [1, -2, 3]), "a.texts": ("[str]", ["x", ""]), "a.flags": ("[bool]", [1, 0]),
    }  # fmt: skip
    header = read(tmp_path, ggufs.gguf(metadata, {"t": ("Q8_0", (64, 3)), "u": ("F32", (5,))}))
    assert not header.problem, header.why
    plain = {key: value.items if isinstance(value, gguf.Array) else value for key, value in header.metadata.items()}
    assert plain == {
        "general.architecture": "llama", "a.u8": 200, "a.i8": -3, "a.u16": 65535, "a.i16": -9, "a.u32": 1 << 31,
        "a.i32": -1, "a.f32": 0.5, "a.bool": True, "a.u64": 1 << 63, "a.i64": -1, "a.f64": 0.25, "a.text": "häuser",
        "a.list": (1, -2, 3), "a.texts": ("x", ""), "a.flags": (True, False),
    }  # fmt: skip
    assert [(one.name, one.dtype, one.shape, one.size) for one in header.tensors] == [
        ("t", "Q8_0", (64, 3), 204), ("u", "F32", (5,), 20),
    ]  # fmt: skip


def test_long_lists_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    """A vocabulary is not kept with the header, and comes back whole."""
    tokens = [f"töken {n}" * (n % 5) for n in range(5000)]
    scores = [n / 2 for n in range(5000)]
    metadata = {"t": ("[str]", tokens), "s": ("[f32]", scores), "general.architecture": "llama"}
    header = read(tmp_path, ggufs.gguf(metadata, {}))
    assert header.metadata["t"].items == ()  # type: ignore[union-attr]
    assert gguf.items(str(tmp_path / "model.gguf"), header, "t") == tokens
    assert gguf.items(str(tmp_path / "model.gguf"), header, "s") == scores
    assert gguf.items(str(tmp_path / "model.gguf"), header, "absent") == []


def test_windows_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read does not depend on how much is read at once."""
    data = ggufs.gguf({**ggufs.LLAMA, "t": ("[str]", [f"{n}" * (n % 90) for n in range(3000)])})
    whole = read(tmp_path, data)
    monkeypatch.setattr(gguf, "WINDOW", 61)
    assert read(tmp_path, data) == whole


def test_both_byte_orders_are_read(tmp_path: Path) -> None:
    """A big-endian file gives the same metadata, and says that it is one."""
    little, big = read(tmp_path, ggufs.gguf()), read(tmp_path, ggufs.gguf(order=">"))
    assert (little.big_endian, big.big_endian) == (False, True)
    assert little.metadata == big.metadata
    assert little.tensors == big.tensors


def _patched(data: bytes, at: int, form: str, value: int) -> bytes:
    return data[:at] + struct.pack(form, value) + data[at + struct.calcsize(form) :]


FILE = ggufs.gguf()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "empty"),
        (b"GG", "truncated"),
        (b"ggjt" + FILE[4:], "bad-magic"),
        (b"<html>", "bad-magic"),
        (ggufs.gguf(version=1), "version"),
        (ggufs.gguf(version=4), "version"),
        (ggufs.gguf(version=0), "version"),
        (FILE[:-40], "truncated"),
        (FILE[:200], "truncated"),
        (FILE[:20], "truncated"),
        (_patched(FILE, 8, "<Q", 1 << 63), "bad-header"),
        (_patched(FILE, 16, "<Q", 1 << 63), "bad-header"),
        (_patched(FILE, 24, "<Q", 1 << 63), "bad-header"),
        (ggufs.gguf({"a": "x", "general.alignment": ("u32", 33)}), "bad-header"),
        (ggufs.gguf({"a": "x", "general.alignment": ("u32", 0)}), "bad-header"),
        (ggufs.gguf({"": "x"}), "bad-header"),
        (ggufs.gguf(tensors={"x" * 64: ("F32", (4,))}), "bad-header"),
        (ggufs.gguf(tensors={"x": ("F32", (1, 1, 1, 1, 1))}), "bad-header"),
        (ggufs.gguf(tensors={"x": ("Q8_0", (33,))}), "bad-header"),
    ],
)
def test_each_kind_of_damage_has_its_word(tmp_path: Path, data: bytes, problem: str) -> None:
    """What is wrong is told by a word and a sentence; nothing is raised."""
    header = read(tmp_path, data)
    assert header.problem == problem
    assert header.why


def test_types_that_llama_cpp_gave_up_are_named(tmp_path: Path) -> None:
    """Q4_0_4_4 is told by its name, a number that nobody gave by the number."""
    data = ggufs.gguf({"a": "x"}, {"weight": ("F32", (32,))})
    place = data.index(b"weight") + len("weight") + 4 + 8
    for number, told in ((31, "Q4_0_4_4"), (999, "999")):
        header = read(tmp_path, _patched(data, place, "<I", number))
        assert header.problem == "unknown-type"
        assert told in header.why


def test_tensors_that_do_not_follow_each_other_are_found(tmp_path: Path) -> None:
    """A wrong offset is told with the tensor."""
    data = ggufs.gguf({"a": "x"}, {"one": ("F32", (32,)), "two": ("F32", (32,))})
    place = data.index(b"two") + 3 + 4 + 8 + 4
    header = read(tmp_path, _patched(data, place, "<Q", 64))
    assert (header.problem, header.subject) == ("overlap", "two")


def test_a_name_that_is_there_twice_is_found(tmp_path: Path) -> None:
    """Of keys and of tensors."""
    data = ggufs.gguf({"aa": "x", "ab": "y"}, {})
    assert read(tmp_path, data.replace(b"ab", b"aa")).problem == "bad-header"
    data = ggufs.gguf({"k": "x"}, {"aa": ("F32", (8,)), "ab": ("F32", (8,))})
    assert read(tmp_path, data.replace(b"ab", b"aa")).problem == "bad-header"


def test_a_list_in_a_list_is_refused(tmp_path: Path) -> None:
    """As ggml refuses it: a bomb of nested lists is not followed."""
    front = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + ggufs.text("a") + struct.pack("<I", 9)
    assert read(tmp_path, front + struct.pack("<IQ", 9, 2) * 1000).problem == "bad-header"


def test_claims_take_no_memory(tmp_path: Path) -> None:
    """A list of 2^40 items and a text of 2^50 bytes are found to be too long before anything is made for them."""
    front = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + ggufs.text("a")
    tracemalloc.start()
    for rest in (
        struct.pack("<IIQ", 9, 8, 1 << 40),
        struct.pack("<IIQ", 9, 6, 1 << 61),
        struct.pack("<IQ", 8, 1 << 50),
    ):
        assert read(tmp_path, front + rest + b"\0" * 4096).problem == "bad-header"
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_a_sparse_file_of_zeros_is_given_up_early(tmp_path: Path) -> None:
    """Counts that the size of a file would allow, and that nobody can need, are not followed."""
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1 << 30, 0))
    os.truncate(file, 1 << 40)
    assert gguf.read_header(str(file)).problem == "unread"


def test_what_is_no_plain_file_is_not_opened(tmp_path: Path) -> None:
    """A pipe would hang, a folder has no bytes, a missing file is told."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "missing"):
        assert gguf.read_header(str(path)).problem == "unreadable"


values = (
    st.text(max_size=8)
    | st.tuples(st.just("u32"), st.integers(0, 2**32 - 1))
    | st.tuples(st.just("i64"), st.integers(-(2**63), 2**63 - 1))
    | st.tuples(st.just("bool"), st.integers(0, 1))
    | st.tuples(st.just("f64"), st.floats(allow_nan=False))
    | st.tuples(st.just("[i32]"), st.lists(st.integers(-9, 9), min_size=1, max_size=4))
    | st.tuples(st.just("[str]"), st.lists(st.text(max_size=4), min_size=1, max_size=4))
)
keys = st.text("abc.", min_size=1, max_size=6)
shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(lambda shape: (32 * shape[0], *shape[1:]))
tables = st.dictionaries(st.text("xyz.", min_size=1, max_size=9), st.tuples(st.sampled_from(["F32", "F16", "Q8_0"]), shapes), max_size=4)  # fmt: skip


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.dictionaries(keys, values, min_size=1, max_size=5), tables)
def test_any_file_is_read_as_the_gguf_package_reads_it(
    tmp_path: Path, metadata: dict[str, Any], tensors: dict[str, Any]
) -> None:
    """Metadata and tensors, types, shapes, sizes and places."""
    package = pytest.importorskip("gguf")
    header = read(tmp_path, ggufs.gguf(metadata, tensors))
    assert not header.problem, header.why
    other = package.GGUFReader(tmp_path / "model.gguf")
    theirs = {key: field.contents() for key, field in other.fields.items() if not key.startswith("GGUF.")}
    ours = {k: list(v.items) if isinstance(v, gguf.Array) else v for k, v in header.metadata.items()}
    assert ours == theirs
    assert [(one.name, one.kind, list(one.shape), one.size, header.data + one.offset) for one in header.tensors] == [
        (one.name, int(one.tensor_type), one.shape.tolist(), one.n_bytes, one.data_offset) for one in other.tensors
    ]


def test_types_and_blocks_are_those_of_the_gguf_package() -> None:
    """Every type that the package knows is known here with the same block and size.

    But for Q8_1, which is in no file: ggml's block has two numbers of 16 bits before its 32 bytes, the package counts 32.
    """
    constants = pytest.importorskip("gguf.constants")
    theirs = {
        int(kind): (kind.name, *sizes) for kind, sizes in constants.GGML_QUANT_SIZES.items() if kind.name != "Q8_1"
    }
    assert {number: gguf.TYPES[number] for number in theirs} == theirs


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(FILE) - 1), st.binary(min_size=1, max_size=9))
def test_no_change_of_bytes_raises(tmp_path: Path, at: int, new: bytes) -> None:
    """Any damage gives a header or a problem."""
    read(tmp_path, FILE[:at] + new + FILE[at + len(new) :])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=80))
def test_no_bytes_raise(tmp_path: Path, data: bytes) -> None:
    """Any bytes after the magic give a header or a problem."""
    read(tmp_path, b"GGUF\x03\0\0\0" + data)
