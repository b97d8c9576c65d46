"""The reader of safetensors headers: it says what the library says, and never reads more than a header."""

from __future__ import annotations

import json
import os
import struct
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from diagnose.sources.checkpoint import safetensors
from tests.sources.checkpoint import models

GOOD = models.safetensors({"a": ("F32", (2, 3)), "b": ("BF16", (4,)), "c": ("I8", ())})


def judged(data: bytes) -> safetensors.Header:
    """What is said of these bytes as a file."""
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        file.write(data)
        file.flush()
        return safetensors.read_header(file.name)


def library_opens(data: bytes) -> bool:
    """Whether the library opens them."""
    library = pytest.importorskip("safetensors")
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        file.write(data)
        file.flush()
        try:
            with library.safe_open(file.name, "np") as opened:
                list(opened.keys())
        except library.SafetensorError:
            return False
        return True


def agrees(data: bytes) -> None:
    """The verdict is the library's."""
    header = judged(data)
    assert header.problem != "unread"
    assert library_opens(data) == (not header.problem), header.why


def test_a_good_file_is_read_as_it_was_written() -> None:
    """Names, dtypes, shapes, places and metadata come back."""
    header = judged(GOOD)
    assert not header.problem
    assert [(one.name, one.dtype, one.shape) for one in header.tensors] == [
        ("a", "F32", (2, 3)), ("b", "BF16", (4,)), ("c", "I8", ()),
    ]  # fmt: skip
    assert header.metadata == {"format": "pt"}
    assert header.expected == header.size == len(GOOD)


@pytest.mark.parametrize("dtype", sorted(safetensors.BITS))
def test_every_dtype_has_the_size_that_the_library_gives_it(dtype: str) -> None:
    """Eight elements of each dtype are accepted with as many bytes as one has bits, and with no other number."""
    bits = safetensors.BITS[dtype]
    for size in {bits, bits + 1}:
        text = json.dumps({"a": {"dtype": dtype, "shape": [8], "data_offsets": [0, size]}}).encode()
        data = models.framed(text, b"\0" * size)
        assert library_opens(data) == (size == bits)
        agrees(data)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "empty"),
        (b"abc", "truncated"),
        (GOOD[:-1], "truncated"),
        (GOOD[:30], "truncated"),
        (GOOD + b"x", "trailing"),
        (struct.pack("<Q", 1 << 63) + b"{}", "bad-header"),
        (struct.pack("<Q", 100_000_001) + b"{}", "bad-header"),
        (struct.pack("<Q", 0), "bad-header"),
        (b"<!DOCTYPE html><html></html>", "bad-header"),
        (models.framed(b"{" * 5000, b""), "bad-header"),
        (models.framed(b"[" * 100_000, b""), "bad-header"),
        (models.framed(b'{"a":NaN}', b""), "bad-header"),
        (models.framed(b'{"\xff":{}}', b""), "bad-header"),
        (models.framed(b"[]", b""), "bad-header"),
        (models.framed(b"null", b""), "bad-header"),
        (models.framed(b'{"__metadata__":{"a":1}}', b""), "bad-header"),
        (models.framed(b'{"a":{"dtype":"F32","shape":[1]}}', b"1234"), "bad-header"),
        (models.framed(b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', b"1234"), "bad-header"),
        (models.framed(b'{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}', b"1234"), "bad-header"),
        (models.framed(b'{"a":{"dtype":"U4","shape":[2],"data_offsets":[0,1]}}', b"1"), "unknown-dtype"),
        (models.framed(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', b"12345678"), "gap"),
        (models.framed(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}', b"1234"), "wrong-size"),
        (models.framed(b'{"a":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}}', b"1"), "wrong-size"),
        (
            models.framed(
                b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
                b'"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
                b"1234",
            ),
            "overlap",
        ),
        (
            models.framed(
                b'{"a":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,4]}}', b"1234"
            ),
            "wrong-size",
        ),
    ],
)
def test_each_kind_of_damage_has_its_word(data: bytes, problem: str) -> None:
    """What is wrong is told by a word and a sentence, and the library refuses the file too."""
    header = judged(data)
    assert header.problem == problem
    assert header.why
    assert not library_opens(data)


def test_a_file_that_is_cut_within_its_data_still_tells_its_tensors() -> None:
    """Names and shapes are known from the header, and so is the size that the file should have."""
    header = judged(GOOD[:-5])
    assert (header.problem, header.expected, len(header.tensors)) == ("truncated", len(GOOD), 3)


def test_what_is_no_plain_file_is_not_opened(tmp_path: Path) -> None:
    """A pipe would hang, a folder has no bytes, a missing file is told."""
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "", "missing", "a\0b"):
        assert safetensors.read_header(str(tmp_path / name) if name else str(tmp_path)).problem == "unreadable"


def test_a_long_header_full_of_other_things_is_not_unfolded() -> None:
    """A header that would take many times its length in memory is left unread, and so said."""
    text = b'{"a":[' + b"{}," * 2_000_000 + b"{}]}"
    header = judged(models.framed(text, b""))
    assert header.problem in ("unread", "bad-header")


names = st.text(max_size=5)
numbers = st.integers(-1, 9) | st.sampled_from([2**31, 2**53, 2**63, 2**64 - 1, 2**64, 1.0])
entries = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "BF16", "F4", "U8", "F6_E2M3", "U4", "", "f32"]) | st.none(),
        "shape": st.lists(numbers, max_size=3) | st.none(),
        "data_offsets": st.lists(numbers, max_size=3),
        "more": st.integers() | names,
    },
)
headers = st.dictionaries(names, entries, max_size=3) | st.fixed_dictionaries(
    {"__metadata__": st.dictionaries(names, names | st.integers(), max_size=2) | st.none() | st.just([])}
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(headers, st.integers(0, 12))
@example({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, 4)
@example({"a": {"dtype": "F32", "shape": [0, 5], "data_offsets": [0, 0]}}, 0)
def test_the_verdict_on_any_header_is_the_librarys(value: dict[str, Any], size: int) -> None:
    """Valid for the one is valid for the other, whatever stands in the header."""
    agrees(models.framed(json.dumps(value).encode(), b"\0" * size))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["F32", "BF16", "I8"]), st.lists(st.integers(0, 3), max_size=3)), max_size=4),
    st.integers(-3, 3),
)
def test_the_verdict_on_any_size_is_the_librarys(tensors: list[tuple[str, list[int]]], more: int) -> None:
    """A well-formed file is valid with its own size and with no other."""
    data = models.safetensors({f"t{n}": one for n, one in enumerate(tensors)})
    agrees(data + b"\0" * more if more >= 0 else data[:more])


@settings(max_examples=150, deadline=None)
@given(st.integers(8, len(GOOD) - 1), st.integers(0, 255))
def test_the_verdict_on_a_changed_byte_is_the_librarys(at: int, value: int) -> None:
    """One byte of header or data is another."""
    agrees(GOOD[:at] + bytes([value]) + GOOD[at + 1 :])


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=64))
def test_no_bytes_raise(data: bytes) -> None:
    """Any file gives a header or a problem."""
    agrees(data)
