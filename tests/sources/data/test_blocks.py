"""A file becomes blocks of whole lines, whatever its size, its compression and the length of its lines."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from diagnose.sources import files
from diagnose.sources.data import blocks
from diagnose.sources.data.blocks import Block


class Bytes:
    """A stream that gives its bytes in pieces of given sizes."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self._data, self._sizes, self._at = data, sizes or [1 << 20], 0

    def read(self, most: int) -> bytes:
        size = self._sizes[self._at % len(self._sizes)]
        self._at += 1
        found, self._data = self._data[:size], self._data[size:]
        return found

    def done(self) -> float:
        return 0.5


SIZES = st.lists(st.integers(1, 9), max_size=5)


@given(st.binary(max_size=200), SIZES)
def test_blocks_hold_every_byte_once_with_its_place(data: bytes, sizes: list[int]) -> None:
    """Joined they are the file; each begins with a line whose number and offset it tells."""
    found = list(blocks.blocks(Bytes(data, sizes)))

    assert data == b"".join(block.data for block in found)
    for block in found:
        before = data[: block.offset]
        assert block.line == before.count(b"\n") + 1
        assert not before or before.endswith(b"\n")
    assert all(block.data.endswith(b"\n") for block in found[:-1])


@given(st.lists(st.integers(0, 40), max_size=8), SIZES)
def test_a_line_that_is_too_long_is_passed_over(lengths: list[int], sizes: list[int]) -> None:
    """The others come with their numbers; of the long one its length is told."""
    lines = [bytes([97 + n % 26]) * length for n, length in enumerate(lengths)]
    with patch.object(blocks, "MOST_LINE", 20):
        found = list(blocks.blocks(Bytes(b"".join(line + b"\n" for line in lines), sizes or [9])))
    seen = {number: line for block in found if not block.huge for number, line in _numbered(block)}
    huge = {block.line: block.huge for block in found if block.huge}

    assert {n: line for n, line in enumerate(lines, 1) if n not in huge} == seen
    assert all(len(lines[n - 1]) + 1 == size for n, size in huge.items())
    assert all(n in huge for n, line in enumerate(lines, 1) if len(line) > 30)


def _numbered(block: Block) -> Iterator[tuple[int, bytes]]:
    parts = block.data.split(b"\n")
    yield from enumerate(parts if parts[-1] else parts[:-1], block.line)


@pytest.mark.parametrize("pack", [lambda data: data, gzip.compress, zstandard.compress])
def test_compressed_files_read_alike(tmp_path: Path, pack: object) -> None:
    """gzip and Zstandard files are known by their first bytes."""
    data = b"".join(b"line %d\n" % n for n in range(50_000))
    path = tmp_path / "data.jsonl"
    path.write_bytes(pack(data))  # type: ignore[operator]
    with files.opened(str(path)) as (handle, size):
        found = list(blocks.blocks(blocks.stream_of("data.jsonl", handle, size)))

    assert data == b"".join(block.data for block in found)
    assert 1.0 == found[-1].done


def test_several_gzip_members_are_one_text(tmp_path: Path) -> None:
    """Files that were compressed apart and joined are read to their end."""
    path = tmp_path / "data.jsonl.gz"
    path.write_bytes(gzip.compress(b"one\n") + gzip.compress(b"two\n") + b"\0" * 100)
    with files.opened(str(path)) as (handle, size):
        found = list(blocks.blocks(blocks.stream_of("x", handle, size)))

    assert b"one\ntwo\n" == b"".join(block.data for block in found)


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
@given(cut=st.integers(10, 60), flip=st.integers(0, 60))
def test_damaged_compression_is_a_plain_error(pack: object, cut: int, flip: int) -> None:
    """A file that is cut off or has a wrong byte gives some lines, then ValueError; never another exception."""
    data = bytearray(pack(b"".join(b"line %d\n" % (n * 7919) for n in range(300))))  # type: ignore[operator]
    data[flip] ^= 0xFF
    handle = os.memfd_create("data")
    try:
        os.write(handle, bytes(data[: len(data) - cut]))
        for _ in blocks.blocks(blocks.stream_of("x", handle, os.fstat(handle).st_size)):
            pass
    except ValueError:
        pass
    finally:
        os.close(handle)


def test_a_sample_is_the_first_the_middle_and_the_last_lines(tmp_path: Path) -> None:
    """Only whole lines, from three parts of the file; a small file is read whole."""
    lines = [b"%07d" % n + b"x" * (n % 13) for n in range(5000)]
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    with files.opened(str(path)) as (handle, size), patch.object(blocks, "BLOCK", 512):
        found = list(blocks.sampled_blocks(handle, size, 3000))
        whole = list(blocks.sampled_blocks(handle, size, size))
    seen = [line for block in found for line in block.data.splitlines()]

    assert set(seen) <= set(lines)
    assert lines[0] == seen[0]
    assert lines[-1] == seen[-1]
    assert lines[2500] in seen
    assert len(seen) < 1000
    assert path.read_bytes() == b"".join(block.data for block in whole)
    assert {0} == {block.line for block in found if block.offset > size // 3}


@pytest.mark.parametrize("level", [1, 19])
@pytest.mark.parametrize("checksum", [False, True])
def test_zstandard_that_was_cut_off_is_told(tmp_path: Path, level: int, checksum: bool) -> None:
    """Wherever it was cut; several frames and such that are passed over are whole."""
    text = os.urandom(300_000) + b"line\n" * 50_000
    packed = zstandard.ZstdCompressor(level=level, write_checksum=checksum).compress(text)
    whole = packed + b"\x50\x2a\x4d\x18\x03\0\0\0abc" + packed
    assert text + text == unpacked(tmp_path, whole)
    for cut in (5, 9, 40, len(packed) // 2, len(packed) - 1):
        with pytest.raises(ValueError, match=r"in the middle|does not unpack"):
            unpacked(tmp_path, packed[:cut])


def unpacked(folder: Path, data: bytes) -> bytes:
    """All that a file with these bytes unpacks to."""
    path = folder / "a.zst"
    path.write_bytes(data)
    with path.open("rb") as file:
        stream = blocks.stream_of(str(path), file.fileno(), len(data))
        return b"".join(iter(lambda: stream.read(1 << 20), b""))
