"""The header of a .safetensors file → its tensors, or what is wrong with it: as the library checks it, without reading a tensor.

The checks are those of the safetensors crate, in its order: the length, the text, each tensor's place and size, the end
of the file. A header is read in one piece, as the format limits it to 100 MB; ours stops at a third of that.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from diagnose.sources import files, jsonfile

if TYPE_CHECKING:
    from typing import TypeGuard

FORMAT_LIMIT = 100_000_000
"""The longest header in bytes that the library reads."""
MOST_BYTES = 32 << 20
"""The longest header that is read here: some 400,000 tensors."""
MOST_OF_ODD = 4 << 20
"""The longest header that is looked at again for the words of what is wrong with it."""
FIRST_READ = 32 << 10

BITS: dict[str, int] = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
"""Bits of one element, for each dtype that safetensors 0.8 knows."""
_MAX = 2**64


class Tensor(Struct, frozen=True, gc=False):
    """One tensor: its shape as torch has it, and where its bytes lie, counted from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class Header(Struct, frozen=True):
    """What the front of a file says. `size` of the file and `length` of the header's JSON in bytes.

    `problem` is a word, empty if the library would open the file: unreadable, empty, bad-header, unknown-dtype, overlap,
    gap, wrong-size, truncated, trailing, or unread (not looked at here). `why` is a sentence about it, `tensor` the one that
    shows it, `expected` the size in bytes that the file should have (0: not known). `tensors` are in the order of their
    bytes; with most problems there are none.
    """

    size: int = 0
    length: int = 0
    tensors: tuple[Tensor, ...] = ()
    metadata: dict[str, str] = {}
    problem: str = ""
    why: str = ""
    tensor: str = ""
    expected: int = 0


class _Entry(Struct, gc=False):
    """A tensor as JSON has it. All may be missing, as in `__metadata__`, which stands between them."""

    dtype: str = ""
    shape: tuple[int, ...] | None = None
    data_offsets: tuple[int, int] | None = None


class _Front(Struct):
    """The one key of the header that is no tensor."""

    metadata: dict[str, str] | None = msgspec.field(default=None, name="__metadata__")


class _HeaderError(ValueError):
    """The header's text is not what the format asks for; the text says how."""


_ENTRIES = msgspec.json.Decoder(dict[str, _Entry])
_FRONT = msgspec.json.Decoder(_Front)


def read_header(path: str) -> Header:
    """The header of a file. Nothing is raised; a pipe or device is not opened."""
    try:
        with files.opened(path) as (handle, size):
            return _read(handle, size)
    except OSError as error:
        return Header(problem="unreadable", why=files.reason(error))


def _read(handle: int, size: int) -> Header:
    data = os.pread(handle, min(FIRST_READ, size), 0)
    if not data:
        return Header(size, problem="empty", why="the file is empty")
    if len(data) < 8:
        return Header(size, problem="truncated", why=f"the file has only {len(data)} bytes")
    (length,) = struct.unpack("<Q", data[:8])
    if length > FORMAT_LIMIT:
        why = f"the first 8 bytes claim a header of {length:,} bytes; the format allows {FORMAT_LIMIT:,}"
        return Header(size, length, problem="bad-header", why=why)
    if 8 + length > size:
        why = f"the header alone should have {length:,} bytes; the file has {size:,}"
        word = "truncated" if data[8:9] == b"{" else "bad-header"
        return Header(size, length, problem=word, why=why)
    if length > MOST_BYTES:
        why = f"its header has {length:,} bytes; more than {MOST_BYTES:,} are not read"
        return Header(size, length, problem="unread", why=why)
    while len(data) < 8 + length:
        more = os.pread(handle, 8 + length - len(data), len(data))
        if not more:
            return Header(size, length, problem="unreadable", why="the file ended while it was read")
        data += more
    return parse(data[8 : 8 + length], size)


def parse(text: bytes, size: int) -> Header:
    """Judge the JSON text of a header that stands in a file of `size` bytes."""
    length = len(text)
    try:
        entries, metadata = _decoded(text)
    except _HeaderError as error:
        return Header(size, length, problem="bad-header", why=str(error))
    except MemoryError:
        return Header(size, length, problem="unread", why="there is not enough memory to read its header")
    if metadata is None:
        why = "its header is long and full of things that are no tensors; it is not read"
        return Header(size, length, problem="unread", why=why)
    return _checked(entries, metadata, size, length)


def _decoded(text: bytes) -> tuple[dict[str, _Entry], dict[str, str] | None]:
    """The entries and the metadata; None for these if the text is too odd to be read. Raises _HeaderError."""
    claimed = text.count(b'"data_offsets"')
    if len(text) > MOST_OF_ODD and text.count(b"{") > claimed + 64:
        return {}, None
    try:
        text.decode()
        entries = _ENTRIES.decode(text)
        metadata = (_FRONT.decode(text).metadata or {}) if entries.pop("__metadata__", None) is not None else {}
    except UnicodeDecodeError as error:
        raise _HeaderError(f"its header is not UTF-8 (byte {8 + error.start})") from None
    except (msgspec.DecodeError, RecursionError) as error:
        if len(text) > MOST_OF_ODD:
            raise _HeaderError(f"its header is not the JSON that the format asks for: {error}") from None
        return _decoded_with_care(text)
    if len(entries) == claimed == text.count(b'"dtype"') == text.count(b'"shape"'):
        return entries, metadata
    return _decoded_with_care(text) if len(text) <= MOST_OF_ODD else ({}, None)


def _decoded_with_care(text: bytes) -> tuple[dict[str, _Entry], dict[str, str]]:
    """The same, slowly, with words for what is wrong. Of two entries of one name the library takes the last."""
    loaded = jsonfile.parse(text)
    if loaded.error or loaded.byte_order_mark or loaded.constants:
        what = loaded.error or (loaded.constants[0] if loaded.constants else "a byte order mark stands before it")
        raise _HeaderError(f"its header is not JSON: {what}")
    if not isinstance(loaded.value, dict):
        raise _HeaderError("its header is JSON, but not an object")
    twice = {"dtype", "shape", "data_offsets", "__metadata__"}.intersection(loaded.duplicates)
    if twice:
        raise _HeaderError(f"its header has {min(twice)} twice in one object")
    metadata = loaded.value.pop("__metadata__", None)
    metadata = {} if metadata is None else metadata
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _HeaderError("__metadata__ is not an object of texts")
    return {name: _entry(name, value) for name, value in loaded.value.items()}, metadata


def _entry(name: str, value: Any) -> _Entry:
    if isinstance(value, list) and len(value) == 3:  # the library takes these too
        value = dict(zip(("dtype", "shape", "data_offsets"), value, strict=True))
    if not isinstance(value, dict):
        raise _HeaderError(f"{name!r} is no object with dtype, shape and data_offsets")
    dtype, shape, offsets = value.get("dtype"), value.get("shape"), value.get("data_offsets")
    if not isinstance(dtype, str):
        raise _HeaderError(f"{name!r} has no dtype")
    if not _are_counts(shape):
        raise _HeaderError(f"the shape of {name!r} is no list of whole numbers")
    if not _are_counts(offsets) or len(offsets) != 2:
        raise _HeaderError(f"data_offsets of {name!r} are not two whole numbers")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise _HeaderError(f"the name {name!r} is no text") from None
    return _Entry(dtype, tuple(shape), (offsets[0], offsets[1]))


def _are_counts(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < _MAX for item in value)


def _checked(entries: dict[str, _Entry], metadata: dict[str, str], size: int, length: int) -> Header:
    """The header if its tensors follow each other without a gap up to the end of the file, else what is wrong."""
    tensors: list[Tensor] = []
    shapes: dict[tuple[int, ...], tuple[int, ...]] = {}
    for name, entry in entries.items():
        if entry.shape is None or entry.data_offsets is None:
            why = f"{name!r} is no object with dtype, shape and data_offsets"
            return Header(size, length, (), metadata, "bad-header", why, name)
        shape = shapes.setdefault(entry.shape, entry.shape)
        tensors.append(Tensor(name, entry.dtype, shape, *entry.data_offsets))
    tensors.sort(key=lambda tensor: (tensor.start, tensor.end))
    at = 0
    sizes: dict[tuple[str, tuple[int, ...]], int] = {}  # many tensors, few shapes
    for tensor in tensors:
        kind = (tensor.dtype, tensor.shape)
        if tensor.start != at or sizes.get(kind) != tensor.end - at:
            problem = _problem(tensor, at)
            if problem is not None:
                return Header(size, length, (), metadata, *problem, tensor.name)
            sizes[kind] = tensor.end - at
        at = tensor.end
    return _ended(tuple(tensors), metadata, size, length, 8 + length + at)


def _problem(tensor: Tensor, at: int) -> tuple[str, str] | None:
    """What is wrong with a tensor, where the one before it ends at `at`: a word and a sentence."""
    bits = BITS.get(tensor.dtype)
    name = repr(tensor.name)
    if bits is None:
        return "unknown-dtype", f"{name} has the dtype {tensor.dtype[:80]!r}, which the library does not know"
    if tensor.shape and not (0 <= min(tensor.shape) <= max(tensor.shape) < _MAX):
        return "bad-header", f"the shape of {name} is no list of whole numbers"
    if tensor.start < at or tensor.end < tensor.start:
        return "overlap", f"{name} begins at byte {tensor.start:,} of the data and the tensor before it ends at {at:,}"
    if tensor.start > at:
        return "gap", f"between byte {at:,} and {tensor.start:,} of the data, before {name}, no tensor lies"
    for dimension in tensor.shape:
        bits *= dimension
        if bits >= _MAX * 8:
            return "wrong-size", f"{name} would have more bytes than a number of 64 bits counts"
    if bits % 8 or bits // 8 != tensor.end - tensor.start:
        needed = f"{bits // 8:,}" if bits % 8 == 0 else f"{bits / 8:,}"
        return "wrong-size", f"{name} needs {needed} bytes by its shape and dtype and has {tensor.end - tensor.start:,}"
    return None


def _ended(tensors: tuple[Tensor, ...], metadata: dict[str, str], size: int, length: int, expected: int) -> Header:
    problem = why = ""
    if size < expected:
        problem, why = "truncated", f"the file has {size:,} of the {expected:,} bytes that its header tells"
    elif size > expected:
        problem, why = "trailing", f"{size - expected:,} bytes follow the last tensor"
    return Header(size, length, tensors, metadata, problem, why, "", expected)
