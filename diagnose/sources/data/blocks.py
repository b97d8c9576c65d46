"""A data file, plain or compressed → blocks of whole lines, within bounded memory and with the place of each."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from typing import Protocol

from msgspec import Struct

BLOCK = 1 << 20
"""Bytes that are read at once."""
MOST_LINE = 16 << 20
"""The longest line that is looked into: longer ones are counted and passed over."""
SAMPLE = 8 << 20
"""Bytes of each part that --sample reads: the first, the middle and the last of a file."""
_ENDS_SEARCHED = MOST_LINE


class Block(Struct, frozen=True):
    """Whole lines with their ends. `line` is the number of the first (0: not known, after a jump), `offset` where it begins.

    `done` is the share of the file that is behind it, from 0 to 1. Where a line is too long, `data` is empty and `huge`
    its length in bytes. `open_end` says that the file ends here, without a line end.
    """

    data: bytes
    line: int
    offset: int
    done: float = 0.0
    huge: int = 0
    open_end: bool = False


class Stream(Protocol):
    """What bytes come from."""

    def read(self, most: int) -> bytes:
        """At most so many bytes; none at the end. Raises OSError and ValueError for what is broken."""

    def done(self) -> float:
        """The share of the file that was read."""


class Plain:
    """The bytes as they are; `begin` and `end` bound the part that is read."""

    def __init__(self, handle: int, size: int, begin: int = 0, end: int = -1) -> None:
        self._handle, self._size, self.at = handle, size, begin
        self._end = size if end < 0 else end

    def read(self, most: int) -> bytes:
        data = os.pread(self._handle, min(most, max(self._end - self.at, 0)), self.at)
        self.at += len(data)
        return data

    def done(self) -> float:
        return self.at / self._size if self._size else 1.0


class Gzip:
    """What a gzip file unpacks to; several members in one file are one text."""

    def __init__(self, handle: int, size: int) -> None:
        self._plain = Plain(handle, size)
        self._unpacker = zlib.decompressobj(31)
        self._rest = b""

    def read(self, most: int) -> bytes:
        while True:
            if self._unpacker.eof:
                if not self._rest.strip(b"\0"):
                    self._rest = self._plain.read(BLOCK)
                    if not self._rest.strip(b"\0"):
                        return b""
                self._unpacker = zlib.decompressobj(31)
            if not self._rest:
                self._rest = self._plain.read(BLOCK)
                if not self._rest:
                    raise ValueError("its compressed data ends in the middle")
            try:
                data = self._unpacker.decompress(self._rest, most)
            except zlib.error as error:
                raise ValueError(f"it does not unpack: {error}") from None
            self._rest = self._unpacker.unconsumed_tail or self._unpacker.unused_data
            if data:
                return data

    def done(self) -> float:
        return self._plain.done()


class Zstandard:
    """What a Zstandard file unpacks to."""

    def __init__(self, handle: int, size: int) -> None:
        import zstandard

        self._plain, self._handle, self._size = Plain(handle, size), handle, size
        self._error = zstandard.ZstdError
        unpacker = zstandard.ZstdDecompressor(max_window_size=1 << 27)
        self._reader = unpacker.stream_reader(self._plain, read_size=BLOCK, read_across_frames=True)  # type: ignore[arg-type]

    def read(self, most: int) -> bytes:
        try:
            data = self._reader.read(most)
        except self._error as error:
            raise ValueError(f"it does not unpack: {error}") from None
        if not data and not _is_whole(self._handle, self._size):
            raise ValueError("its compressed data ends in the middle")
        return data

    def done(self) -> float:
        return self._plain.done()


def _is_whole(handle: int, size: int) -> bool:
    """Whether the last frame of a Zstandard file (RFC 8878) has its last block: the library ends in silence where it has not."""
    at = 0
    while at < size:
        head = os.pread(handle, 8, at)
        if len(head) == 8 and head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5:  # a frame that is passed over
            at += 8 + int.from_bytes(head[4:8], "little")
            continue
        if head[:4] != b"\x28\xb5\x2f\xfd":
            return True  # what stands behind the frames is not of them
        if len(head) < 5:
            return False
        one = head[4] >> 5 & 1
        at += 6 - one + (0, 1, 2, 4)[head[4] & 3] + (one, 2, 4, 8)[head[4] >> 6]
        last = False
        while not last:
            block = os.pread(handle, 3, at)
            if len(block) < 3:
                return False
            number = int.from_bytes(block, "little")
            last = bool(number & 1)
            at += 3 + (1 if number >> 1 & 3 == 1 else number >> 3)
        at += 4 * (head[4] >> 2 & 1)
    return at == size


def stream_of(name: str, handle: int, size: int) -> Stream:
    """The stream of a file by its first bytes: a gzip file need not be called so."""
    head = os.pread(handle, 4, 0)
    if head.startswith(b"\x1f\x8b"):
        return Gzip(handle, size)
    if head == b"\x28\xb5\x2f\xfd":
        return Zstandard(handle, size)
    return Plain(handle, size)


def blocks(stream: Stream, line: int = 1, offset: int = 0, most: int = -1) -> Iterator[Block]:
    """Cut a stream into blocks of whole lines; `most` is how many bytes to read at most, then the last line is left out.

    Raises what the stream raises, after the lines before.
    """
    rest = b""
    read = 0
    while True:
        data = stream.read(BLOCK)
        read += len(data)
        end = data.rfind(b"\n") + 1
        if end:
            whole = rest + data[:end]
            yield Block(whole, line, offset, stream.done())
            line, offset = (line + whole.count(b"\n") if line else 0), offset + len(whole)
            rest = data[end:]
        else:
            rest += data
        if len(rest) > MOST_LINE:
            size, rest = _skip(stream, len(rest))
            yield Block(b"", line, offset, stream.done(), size)
            line, offset = (line + 1 if line else 0), offset + size
            end = rest.rfind(b"\n") + 1
            if end:
                yield Block(rest[:end], line, offset, stream.done())
                line, offset = (line + rest.count(b"\n") if line else 0), offset + end
                rest = rest[end:]
        if not data or 0 <= most <= read:
            break
    if rest and not data:
        yield Block(rest, line, offset, 1.0, open_end=True)


def _skip(stream: Stream, size: int) -> tuple[int, bytes]:
    """Pass over the rest of a line: its whole length with its end, and what was read behind it."""
    while True:
        data = stream.read(BLOCK)
        end = data.find(b"\n") + 1
        if end or not data:
            return size + end, data[end:]
        size += len(data)


def sampled_blocks(handle: int, size: int, part: int) -> Iterator[Block]:
    """Blocks of the first, the middle and the last part of a plain file, each from one line's begin on."""
    if size <= 3 * part:
        yield from blocks(Plain(handle, size))
        return
    yield from blocks(Plain(handle, size, 0, part), most=part)
    for begin in (size // 2 - part // 2, size - part):
        start = _line_begin(handle, begin, size)
        end = size if begin + part >= size else begin + part
        if start < end:
            whole = end == size
            yield from blocks(Plain(handle, size, start, end), 0, start, -1 if whole else end - start)


def _line_begin(handle: int, at: int, size: int) -> int:
    """Where the first line begins at or behind a place; the file's end if there is none near."""
    until = min(at + _ENDS_SEARCHED, size)
    while at < until:
        data = os.pread(handle, BLOCK, at)
        end = data.find(b"\n")
        if end >= 0:
            return at + end + 1
        at += len(data)
        if not data:
            break
    return size
