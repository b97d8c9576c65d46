"""The front of a GGUF file → its metadata and tensor table, or what is wrong with it: as llama.cpp judges, in one bounded pass.

The file is read in windows and nothing is allocated by what it claims: long lists are walked, not kept, and read when they
are asked for (`items`). The checks are those of ggml's own reader (ggml/src/gguf.cpp) in its order. The gguf package is not
used: it makes an array of every token and merge. For 150,000 of each it took 616 MB and 70 times as long as this, which took
18 MB and a tenth of a second; it knows no bounds; and it reads files that llama.cpp refuses. The tests compare the two.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from diagnose.sources import files

ARRAY, STRING, BOOL = 9, 8, 7
SCALARS: dict[int, tuple[str, str]] = {
    0: ("u8", "B"), 1: ("i8", "b"), 2: ("u16", "H"), 3: ("i16", "h"), 4: ("u32", "I"), 5: ("i32", "i"),
    6: ("f32", "f"), 7: ("bool", "B"), 10: ("u64", "Q"), 11: ("i64", "q"), 12: ("f64", "d"),
}  # fmt: skip
"""Types of metadata by their number: a name, and the letter for struct."""

TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1),
    25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8), 29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18), 42: ("Q2_0", 64, 18),
}  # fmt: skip
"""Types of tensors by their number: a name, the elements of a block, and its bytes (ggml/include/ggml.h, Oct 2026)."""
REMOVED = {4: "Q4_2", 5: "Q4_3", 31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8", 36: "IQ4_NL_4_4", 37: "IQ4_NL_4_8", 38: "IQ4_NL_8_8"}  # fmt: skip
"""Types that llama.cpp no longer reads."""

NEWEST = 3
DEFAULT_ALIGNMENT = 32
LONGEST_NAME = 63
MOST_DIMENSIONS = 4
MOST_KEYS = 1 << 16
MOST_TENSORS = 1 << 18
MOST_ITEMS = 1 << 23
"""How many items of lists are walked in all: the largest vocabularies need some 900,000."""
MOST_TEXT = 16 << 20
"""The longest text that is read: a chat template has some kilobytes."""
KEPT = 1024
"""Lists up to this length are kept, of numbers and of texts alike, if these have no more than KEPT_BYTES."""
KEPT_BYTES = 1 << 20
WINDOW = 1 << 20

Scalar = str | int | float | bool


class Array(Struct, frozen=True):
    """A list in the metadata: the type of its items, how many, where its first byte lies, how many bytes it has.

    `items` are there for a short list only; `items(path, header, key)` reads a long one.
    """

    kind: int
    count: int
    start: int
    size: int
    items: tuple[Scalar, ...] = ()

    @property
    def of(self) -> str:
        """The type of its items as a word: string, u32, f32 …"""
        return "string" if self.kind == STRING else SCALARS[self.kind][0]


class Tensor(Struct, frozen=True, gc=False):
    """One tensor: its shape as ggml has it (the first is the row's length), and where its bytes lie in the data."""

    name: str
    kind: int
    shape: tuple[int, ...]
    offset: int
    size: int

    @property
    def dtype(self) -> str:
        """The name of its type: Q4_K."""
        return TYPES[self.kind][0]


class Header(Struct, frozen=True):
    """What the front of a file says. Sizes in bytes; `data` is where the tensors' bytes begin.

    `problem` is a word, empty if llama.cpp would read the file: unreadable, empty, bad-magic, version (too new or too old),
    big-endian, bad-header, truncated, unknown-type (of a tensor), overlap (offsets that do not follow each other), or unread
    (not judged here). `why` is a sentence about it, `subject` the key or tensor, `expected` the size that the file should
    have (0: not known). What was read before the problem is there.
    """

    size: int = 0
    version: int = 0
    big_endian: bool = False
    metadata: dict[str, Scalar | Array] = {}
    tensors: tuple[Tensor, ...] = ()
    tensor_count: int = 0
    alignment: int = DEFAULT_ALIGNMENT
    data: int = 0
    problem: str = ""
    why: str = ""
    subject: str = ""
    expected: int = 0

    def text(self, key: str) -> str:
        """The text that stands under a key; empty if there is none."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else ""

    def number(self, key: str) -> int | None:
        """The whole number that stands under a key."""
        value = self.metadata.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def array(self, key: str) -> Array | None:
        """The list that stands under a key."""
        value = self.metadata.get(key)
        return value if isinstance(value, Array) else None


class _BrokenError(Exception):
    """Reading cannot go on: a word, a sentence, and what it is about."""

    def __init__(self, problem: str, why: str, subject: str = "") -> None:
        super().__init__(why)
        self.problem, self.why, self.subject = problem, why, subject


class _Window:
    """A file read from front to back in large pieces; `at` is the place that comes next."""

    def __init__(self, handle: int, size: int, order: str = "<") -> None:
        self.handle, self.size, self.order = handle, size, order
        self.data, self.base, self.at = b"", 0, 0

    def take(self, count: int, what: str) -> bytes:
        """The next bytes. Raises _BrokenError (truncated) if the file ends before."""
        if self.at + count > self.size:
            raise _BrokenError("truncated", f"the file ends within {what}", what)
        start = self.at - self.base
        if start < 0 or start + count > len(self.data):
            self.load(count)
            start = 0
        self.at += count
        return self.data[start : start + count]

    def load(self, count: int) -> None:
        """Make the window begin here and hold at least `count` bytes."""
        wanted = min(max(count, WINDOW), self.size - self.at)
        pieces, got = [], 0
        while got < wanted:
            piece = os.pread(self.handle, wanted - got, self.at + got)
            if not piece:
                raise _BrokenError("unreadable", "the file ended while it was read")
            pieces.append(piece)
            got += len(piece)
        self.data, self.base = b"".join(pieces), self.at

    def number(self, letter: str, what: str) -> Any:
        """One number of the type that `letter` names for struct."""
        form = self.order + letter
        return struct.unpack(form, self.take(struct.calcsize(form), what))[0]

    def text(self, what: str) -> str:
        """A text with its length before it."""
        return self.take(self.length(what), what).decode("utf-8", "replace")

    def length(self, what: str) -> int:
        """A length of a text that the file has room for and that is not too long to be read."""
        length: int = self.number("Q", what)
        if length > self.size - self.at:
            word = "truncated" if length <= MOST_TEXT else "bad-header"
            raise _BrokenError(word, f"{what} claims a text of {length:,} bytes; {self.size - self.at:,} follow", what)
        if length > MOST_TEXT:
            raise _BrokenError(
                "unread", f"{what} has a text of {length:,} bytes; more than {MOST_TEXT:,} are not read", what
            )
        return length


def read_header(path: str) -> Header:
    """The header of a file. Nothing is raised; a pipe or device is not opened."""
    try:
        with files.opened(path) as (handle, size):
            return _Reader(_Window(handle, size)).header()
    except OSError as error:
        return Header(problem="unreadable", why=files.reason(error))


class _Reader:
    """One pass over the front of a file; what was read before a problem is kept."""

    def __init__(self, window: _Window) -> None:
        self.window = window
        self.version = self.tensor_count = self.key_count = self.data = self.expected = self.walked = 0
        self.alignment = DEFAULT_ALIGNMENT
        self.metadata: dict[str, Scalar | Array] = {}
        self.tensors: list[Tensor] = []

    def header(self) -> Header:
        """All of it."""
        problem = why = subject = ""
        try:
            self._front()
            self._metadata()
            self._align()
            self._tensors()
            self._places()
        except _BrokenError as error:
            problem, why, subject = error.problem, error.why, error.subject
        return Header(
            self.window.size, self.version, self.window.order == ">", self.metadata, tuple(self.tensors),
            self.tensor_count, self.alignment, self.data, problem, why, subject, self.expected,
        )  # fmt: skip

    def _front(self) -> None:
        window = self.window
        if window.size == 0:
            raise _BrokenError("empty", "the file is empty")
        magic = window.take(min(4, window.size), "its first bytes")
        if magic != b"GGUF":
            word = "truncated" if b"GGUF".startswith(magic) else "bad-magic"
            raise _BrokenError(word, f"it begins with {magic!r} and not with GGUF")
        self.version = window.number("I", "its version")
        if self.version & 0xFFFF == 0 and self.version:
            window.order = ">"
            self.version = struct.unpack(">I", struct.pack("<I", self.version))[0]
        if not 2 <= self.version <= NEWEST:
            raise _BrokenError(
                "version", f"it is of version {self.version}; llama.cpp reads 2 and 3", str(self.version)
            )
        self.tensor_count = window.number("Q", "the number of its tensors")
        self.key_count = window.number("Q", "the number of its keys")
        # a key takes 13 bytes at least, a tensor 24
        if 13 * self.key_count + 24 * self.tensor_count > window.size:
            why = f"it claims {self.key_count:,} keys and {self.tensor_count:,} tensors and has {window.size:,} bytes"
            raise _BrokenError("truncated" if max(self.key_count, self.tensor_count) < MOST_KEYS else "bad-header", why)
        if self.key_count > MOST_KEYS or self.tensor_count > MOST_TENSORS:
            raise _BrokenError("unread", f"it has {self.key_count:,} keys and {self.tensor_count:,} tensors")

    def _metadata(self) -> None:
        window = self.window
        for index in range(self.key_count):
            key = window.text(f"key {index}")
            if not key:
                raise _BrokenError("bad-header", f"key {index} has no name")
            if key in self.metadata:
                raise _BrokenError("bad-header", f"the key {key!r} is there twice", key)
            self.metadata[key] = self._value(key, window.number("I", repr(key)))

    def _value(self, key: str, kind: int) -> Scalar | Array:
        if kind == STRING:
            return self.window.text(repr(key))
        if kind == ARRAY:
            return self._array(key, self.window.number("I", repr(key)), self.window.number("Q", repr(key)))
        if kind not in SCALARS:
            raise _BrokenError("bad-header", f"the key {key!r} has the unknown type {kind}", key)
        value: Scalar = self.window.number(SCALARS[kind][1], repr(key))
        return bool(value) if kind == BOOL else value

    def _array(self, key: str, kind: int, count: int) -> Array:
        window = self.window
        if kind != STRING and kind not in SCALARS:
            raise _BrokenError(
                "bad-header", f"the list {key!r} has items of type {kind}, which cannot be in a list", key
            )
        least = count * (8 if kind == STRING else struct.calcsize(SCALARS[kind][1]))
        if window.at + least > window.size:
            word = "truncated" if count < MOST_ITEMS else "bad-header"
            raise _BrokenError(
                word, f"the list {key!r} claims {count:,} items; the file has {window.size:,} bytes", key
            )
        self.walked += count if kind == STRING else 0
        if self.walked > MOST_ITEMS:
            raise _BrokenError("unread", f"its lists have more than {MOST_ITEMS:,} items", key)
        start = window.at
        if kind == STRING:
            self._skip_texts(count, key)
        else:
            window.at += least
        array = Array(kind, count, start, window.at - start)
        if count > KEPT or array.size > KEPT_BYTES:
            return array
        window.at = start
        return Array(kind, count, start, array.size, tuple(_items(window, array)))

    def _skip_texts(self, count: int, key: str) -> None:
        """Walk over texts, mostly within the window: a vocabulary has hundreds of thousands."""
        window = self.window
        unpack = struct.Struct(window.order + "Q").unpack_from
        while count:
            window.take(8, key)
            window.at -= 8
            data, at = window.data, window.at - window.base
            last = len(data) - 8
            while count and at <= last:
                at += 8 + unpack(data, at)[0]
                count -= 1
            window.at = window.base + at
            if window.at > window.size:
                raise _BrokenError("truncated", f"the file ends within the list {key!r}", key)

    def _align(self) -> None:
        value = self.metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if not isinstance(value, int) or value <= 0 or value & (value - 1):
            raise _BrokenError("bad-header", "general.alignment is not a power of two", "general.alignment")
        self.alignment = value

    def _tensors(self) -> None:
        names: set[str] = set()
        for index in range(self.tensor_count):
            tensor = self._tensor(index)
            if tensor.name in names:
                raise _BrokenError("bad-header", f"the tensor {tensor.name!r} is there twice", tensor.name)
            names.add(tensor.name)
            self.tensors.append(tensor)

    def _tensor(self, index: int) -> Tensor:
        window = self.window
        raw = window.take(window.length(f"tensor {index}"), f"tensor {index}")
        name = raw.decode("utf-8", "replace")
        if len(raw) > LONGEST_NAME:
            raise _BrokenError(
                "bad-header", f"the name of tensor {index} has {len(raw)} bytes; {LONGEST_NAME} are allowed", name[:99]
            )
        dimensions = window.number("I", repr(name))
        if dimensions > MOST_DIMENSIONS:
            raise _BrokenError("bad-header", f"the tensor {name!r} has {dimensions} dimensions; 4 are allowed", name)
        shape = struct.unpack(f"{window.order}{dimensions}Q", window.take(8 * dimensions, repr(name)))
        kind, offset = window.number("I", repr(name)), window.number("Q", repr(name))
        return Tensor(name, kind, shape, offset, _size(name, kind, shape))

    def _places(self) -> None:
        """Whether the tensors follow each other in the data, each at its alignment, and the file holds them all."""
        pad = self.alignment
        self.data = -(-self.window.at // pad) * pad
        at = end = 0
        for tensor in self.tensors:
            if tensor.offset != at:
                why = f"the tensor {tensor.name!r} lies at {tensor.offset:,} of the data and should at {at:,}"
                raise _BrokenError("overlap", why, tensor.name)
            end = at + tensor.size
            at = -(-end // pad) * pad
        self.expected = self.data + end if self.tensors else self.window.at
        if self.expected > self.window.size:
            why = f"the file has {self.window.size:,} of the {self.expected:,} bytes that its header tells"
            raise _BrokenError("truncated", why)


def _size(name: str, kind: int, shape: tuple[int, ...]) -> int:
    """The bytes of a tensor. Raises _BrokenError for a type or shape that cannot be."""
    if kind not in TYPES:
        word = f"{REMOVED[kind]}, which llama.cpp no longer reads" if kind in REMOVED else f"{kind}, which is not known"
        raise _BrokenError("unknown-type", f"the tensor {name!r} is of the type {word}", name)
    _, block, size = TYPES[kind]
    count = 1
    for dimension in shape:
        count *= dimension
    if any(dimension >= 2**63 for dimension in shape) or count >= 2**63 or count // block * size >= 2**63:
        raise _BrokenError(
            "bad-header", f"the shape of the tensor {name!r} has more elements than can be counted", name
        )
    row = shape[0] if shape else 1
    if row % block:
        raise _BrokenError(
            "bad-header", f"a row of the tensor {name!r} has {row} elements, which {block} does not divide", name
        )
    return count // block * size


def items(path: str, header: Header, key: str, most: int = MOST_ITEMS) -> list[Scalar]:
    """The items of a list of the metadata, read anew if it is long; none if there is no such list or it cannot be read.

    Texts that are no UTF-8 are read with replacement characters.
    """
    array = header.array(key)
    if array is None or array.count > most:
        return []
    if len(array.items) == array.count:
        return list(array.items)
    try:
        with files.opened(path) as (handle, size):
            window = _Window(handle, min(size, array.start + array.size), ">" if header.big_endian else "<")
            window.at = array.start
            return list(_items(window, array))
    except (_BrokenError, OSError):
        return []


def _items(window: _Window, array: Array) -> Iterator[Scalar]:
    if array.kind == STRING:
        for _ in range(array.count):
            yield window.text("a list")
        return
    letter = SCALARS[array.kind][1]
    step = struct.calcsize(letter)
    left = array.count
    while left:
        part = min(left, WINDOW // step)
        values = struct.unpack(f"{window.order}{part}{letter}", window.take(part * step, "a list"))
        yield from (map(bool, values) if array.kind == BOOL else values)
        left -= part
