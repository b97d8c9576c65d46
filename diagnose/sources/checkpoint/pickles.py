"""A PyTorch file (.bin, .pt, .pth) → what its archive lists and which names its pickle would import; it is never loaded.

Two kinds are written: a zip archive (since torch 1.6) with `data.pkl` and a member for each storage, and before that a row of
pickles. What a pickle imports is asked of picklescan: on ordinary checkpoints with optimizer states, written by torch 2.13,
it raised no alarm, and it named `os.system` and `eval` in both kinds; fickling called each of these checkpoints unsafe for
importing torch, took 15 s and 270 MB where picklescan took 4 s and 108 MB (20,000 tensors), and is made to tell what a
pickle does rather than what it may do. Its own reading of archives (7z, members of any size) is not used: only data.pkl is.
"""

from __future__ import annotations

import io
import logging
import os
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct

from diagnose.model import Fact, Reading, Step, Unchecked
from diagnose.sources import files
from diagnose.sources.checkpoint.listing import Entry, is_safetensors

MOST_PICKLE = 2 << 20
"""The longest pickle that is scanned: one of 20,000 tensors has 1.8 MB."""
MOST_LISTING = 64 << 20
"""How much of an archive's list is read: 64 bytes and a name for each storage."""
MOST_MEMBERS = 200_000
LONGEST = 300

STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16", "LongStorage": "I64",
    "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8", "BoolStorage": "BOOL",
}  # fmt: skip
"""torch's classes of storage, by the dtype as safetensors spells it."""
_PLAIN_MODULES = ("torch", "collections", "builtins", "__builtin__", "_codecs", "copyreg", "copy_reg")
_CODE = ("torch.nn.", "torch.optim.", "torch.distributed.", "torch.fx", "torch.jit")
_ZIP = b"PK\x03\x04"


class Scan(Struct, frozen=True):
    """What a file holds. `archive`: zip, torchscript, legacy or unknown. `size`: bytes of its storages (-1: not known).

    `dangerous`: names that run code when they are loaded; `refused`: names that torch.load(weights_only=True), the default
    since torch 2.6, does not allow; `dtypes` of the storages. `problem` and `why` as for other files; `unread` says why
    the pickle was not looked into.
    """

    archive: str = "unknown"
    size: int = -1
    dangerous: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    problem: str = ""
    why: str = ""
    unread: str = ""


class _Bounded(io.FileIO):
    """A file that never gives more than MOST_LISTING at once, whatever an archive claims of its list."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = max(os.fstat(self.fileno()).st_size - self.tell(), 0)
        if size > MOST_LISTING:
            raise zipfile.BadZipFile("its list is longer than what is read")
        return super().read(size)


def facts(entry: Entry, number: int, origin: str) -> Iterator[Reading | Scan]:
    """`pickle.N.*` of a file; the scan itself comes last."""
    yield Step(f"listing {entry.path[:LONGEST]}")
    found = scan(entry.path)
    label = f"pickle.{number}"
    if found.unread:
        yield Unchecked(f"the pickle in {entry.name[:LONGEST]}", found.unread)
    yield Fact(f"{label}.file", entry.name.encode("utf-8", "replace").decode()[:LONGEST], origin)
    yield Fact(f"{label}.archive", found.archive, origin)
    if not found.problem and not found.unread:
        yield Fact(f"{label}.dangerous", ", ".join(found.dangerous)[:LONGEST] or "none", origin)
        yield Fact(f"{label}.refused", ", ".join(found.refused)[:LONGEST] or "none", origin)
    yield found


def scan(path: str) -> Scan:
    """Look at one file. Nothing is raised, nothing is loaded."""
    try:
        with _Bounded(path) as file:
            head = file.read(16)
            if not head:
                return Scan(problem="empty", why="the file is empty")
            if head.startswith(_ZIP):
                return _zip(file)
            if head[:1] == b"\x80" and not is_safetensors(head):
                return _legacy(file)
    except ImportError as error:
        return Scan(unread=f"picklescan cannot be imported: {error}")
    except (OSError, ValueError) as error:
        return Scan(problem="unreadable", why=files.reason(error))
    return Scan(problem="bad-header", why="it begins neither like a zip archive nor like a pickle")


def _zip(file: _Bounded) -> Scan:
    size = os.fstat(file.fileno()).st_size
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if len(members) > MOST_MEMBERS:
                return Scan("zip", unread=f"its archive lists {len(members):,} members")
            return _members(archive, members)
    except zipfile.BadZipFile as error:
        if "longer than" in str(error):
            return Scan("zip", unread=str(error))
        why = f"its archive has no list at the end: it is cut short or damaged ({size:,} bytes)"
        return Scan("zip", problem="truncated", why=why)
    except (NotImplementedError, RuntimeError, OverflowError, EOFError, UnicodeError) as error:
        return Scan("zip", problem="bad-header", why=f"its archive cannot be read: {error}")


def _members(archive: zipfile.ZipFile, members: Sequence[zipfile.ZipInfo]) -> Scan:
    storages = sum(one.file_size for one in members if "/data/" in one.filename)
    kind = "torchscript" if any(one.filename.endswith("/constants.pkl") for one in members) else "zip"
    pickles = [one for one in members if one.filename.endswith("/data.pkl") or one.filename == "data.pkl"]
    if not pickles:
        return Scan(kind, problem="other-format", why="it is a zip archive without data.pkl: not written by torch.save")
    data = []
    for one in pickles:
        if one.file_size > MOST_PICKLE:
            return Scan(
                kind, storages, unread=f"{one.filename[:99]} has {one.file_size:,} bytes; {MOST_PICKLE:,} are read"
            )
        data.append(_member(archive, one))
    return _scanned(kind, storages, data, 1)


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The bytes of a member, as torch reads it: what the archive's list says counts, not the name before the bytes."""
    from picklescan.relaxed_zipfile import RelaxedZipFile  # type: ignore[import-untyped, unused-ignore]

    with RelaxedZipFile.open(archive, member) as file:
        return bytes(file.read(MOST_PICKLE + 1))


def _legacy(file: _Bounded) -> Scan:
    file.seek(0)
    # number, version, description of the system, the object itself, names of the storages: the bytes of these follow
    return _scanned("legacy", -1, [file.read(MOST_PICKLE)], 5)


def _scanned(archive: str, size: int, texts: Sequence[bytes], pickles: int) -> Scan:
    """The names that these import, each of them up to `pickles` pickles in a row."""
    from picklescan.scanner import (  # type: ignore[import-untyped, unused-ignore]
        SafetyLevel,
        scan_pickle_bytes,
    )

    logging.getLogger("picklescan").setLevel(logging.CRITICAL)
    named: dict[str, Any] = {}
    try:
        for data in texts:
            stream = io.BytesIO(data)
            for _ in range(pickles):
                if stream.tell() < len(data):
                    result = scan_pickle_bytes(stream, "", multiple_pickles=False)
                    named |= {f"{one.module}.{one.name}": one for one in result.globals}
    except MemoryError:
        return Scan(archive, size, unread="there is not enough memory to look into its pickle")
    except Exception as error:  # the scanner meets bytes of any kind
        return Scan(archive, size, unread=f"its pickle cannot be followed: {type(error).__name__}: {str(error)[:120]}")
    dangerous = sorted(name for name, one in named.items() if one.safety is SafetyLevel.Dangerous)
    refused = sorted(name for name, one in named.items() if name not in dangerous and _is_refused(one.module))
    dtypes = sorted(STORAGES[one.name] for one in named.values() if one.module == "torch" and one.name in STORAGES)
    return Scan(archive, size, tuple(_plain(dangerous)), tuple(_plain(refused)), tuple(dtypes))


def _is_refused(module: str) -> bool:
    return module.partition(".")[0] not in _PLAIN_MODULES or module.startswith(_CODE)


def _plain(names: Sequence[str]) -> list[str]:
    return [name.encode("ascii", "backslashreplace").decode()[:100] for name in names]
