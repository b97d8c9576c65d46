"""A file, pipe or folder → windows of clean UTF-8 text, read in bounded memory.

A window carries what came before it (so that a traceback can be followed backwards) and leaves its last part to the
next one (so that it can be followed forwards). Clean means: decompressed, UTF-8, without colour codes and NULs. Line
numbers are those of the input.
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from msgspec import Struct

from diagnose.errors import InputError

CHUNK = 1 << 20
BEHIND = 64 << 10
AHEAD = 32 << 10
LONGEST_LINE = 256 << 10

_ANSI = re.compile(
    rb"(?:\x1b|#033)(?:\[[0-9;:?]{0,64}[ -/]{0,4}[@-~]|\][^\x07\x1b\n]{0,2048}(?:\x07|\x1b\\)|[()][0-9A-Za-z]|[=>78cDEHM])"
)
_MAGIC = {
    b"\x7fELF": "a program or library (ELF)",
    b"PK\x03\x04": "a zip archive (a wheel, or a PyTorch checkpoint)",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"%PDF": "a PDF",
    b"GGUF": "a GGUF model",
    b"\xca\xfe\xba\xbe": "a program",
    b"SQLite format 3": "a database",
    b"ustar": "a tar archive",
    b"BZh91AY&SY": "a bzip2 archive; decompress it first",
    b"\xfd7zXZ\0": "an xz archive; decompress it first",
    b"\x80\x02": "pickled Python data (an old PyTorch checkpoint)",
}
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_LOG_NAMES = (".log", ".txt", ".out", ".err", ".md", ".json", ".jsonl", ".gz", ".zst", "")
_CORNER, _BAR, _END = "╭".encode(), "│".encode(), "╰".encode()


class Window(Struct, frozen=True):
    """A piece of clean text. Only `data[start:end]` is new; what is around it is context.

    `line` is the number of the first line of `data`; `last` says that the input ends here.
    """

    data: bytes
    start: int
    end: int
    line: int
    last: bool


def expand(paths: list[str]) -> list[str]:
    """The files that were meant: a folder stands for the logs in it. Raises InputError if there is nothing to read."""
    found: list[str] = []
    for path in paths:
        if path == "-" or not os.path.isdir(path):
            found.append(path)
            continue
        inside = sorted(_walk(path))
        if not inside:
            raise InputError(f"{path}: no log files in this folder (looked for {' '.join(n for n in _LOG_NAMES if n)})")
        found += inside
    return found


def _walk(folder: str) -> Iterator[str]:
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = os.path.join(root, name)
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in _LOG_NAMES and os.path.isfile(path):
                yield path


def open_input(path: str) -> BinaryIO:
    """Open a file for reading, decompressed. Raises InputError with a sentence for a person."""
    try:
        if not os.path.isfile(path) and os.path.exists(path) and not os.path.isdir(path):
            return open(path, "rb")  # a pipe or device: a look at its first bytes would take them away
        with open(path, "rb") as file:
            head = file.read(512)
        _refuse_binary(path, head)
        return _decompressed(path, head)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except PermissionError:
        raise InputError(f"{path}: not allowed to read it; copy it, or run as a user who may") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except ValueError:
        raise InputError(f"{path!r}: no file can have this name") from None


def _decompressed(path: str, head: bytes) -> BinaryIO:
    if head.startswith(_GZIP):
        import gzip

        return gzip.open(path, "rb")  # type: ignore[return-value]
    if head.startswith(_ZSTD):
        import zstandard

        return zstandard.ZstdDecompressor().stream_reader(open(path, "rb"), read_across_frames=True)
    return open(path, "rb")


def _refuse_binary(name: str, head: bytes) -> None:
    for magic, meaning in _MAGIC.items():
        if head.startswith(magic) or (magic == b"ustar" and head[257:262] == magic):
            raise InputError(f"{name}: this is {meaning}, not a log")
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, _GZIP, _ZSTD)) or _utf16_without_bom(head):
        return
    if _is_binary(head):
        raise InputError(f"{name}: this is binary data, not a log")


def _is_binary(head: bytes) -> bool:
    """Many control characters, or some beside much that is no UTF-8. NULs alone are no sign: a log cut short has them."""
    odd = sum(byte < 9 or 13 < byte < 27 or 27 < byte < 32 for byte in head)
    if odd == head.count(0):
        return False
    broken = len(head) - len(head.decode("utf-8", "ignore").encode("utf-8"))
    return odd > len(head) * 0.3 or (len(head) >= 64 and odd > len(head) * 0.04 and broken > len(head) * 0.2)


def _utf16_without_bom(head: bytes) -> str:
    """The byte order of UTF-16 text that lost its mark (PowerShell's `>>`), or nothing."""
    if len(head) >= 8 and not head.startswith(codecs.BOM_UTF8):
        even, odd = head[0:64:2], head[1:64:2]
        if odd.count(0) > len(odd) * 0.8 and not even.count(0):
            return "utf-16-le"
        if even.count(0) > len(even) * 0.8 and not odd.count(0):
            return "utf-16-be"
    return ""


def windows(name: str, stream: BinaryIO) -> Iterator[Window]:
    """Read a stream to its end as it was when reading began. Raises InputError if it breaks off or is binary."""
    limit = _size_now(stream)
    pending = b""
    line = 1
    start = 0
    decoder: codecs.IncrementalDecoder | None = None
    first = True
    some = False
    taken = 0
    while True:
        try:
            room = CHUNK if limit is None else min(CHUNK, limit - taken)
            chunk = stream.read(room) if room > 0 else b""
        except (OSError, EOFError, ValueError) as error:
            raise InputError(f"{name}: reading broke off after {taken:,} bytes: {error}") from None
        except Exception as error:  # zlib.error, ZstdError: they share no base class
            raise InputError(f"{name}: damaged compressed data after {taken:,} bytes: {error}") from None
        taken += len(chunk)
        last = not chunk
        if first:
            if chunk.startswith((_GZIP, _ZSTD)):
                raise InputError(f"{name}: this is compressed; decompress it first (zcat, zstdcat), or name the file")
            _refuse_binary(name, chunk[:512])
            decoder = _decoder(chunk)
            first = False
            if decoder is None and chunk.startswith(codecs.BOM_UTF8):
                chunk = chunk[3:]
        if decoder is not None:
            chunk = decoder.decode(chunk, final=last).encode("utf-8", "replace")
        data = pending + chunk
        cut = len(data) if last else _cut(data, start)
        if not last and cut <= start:
            pending = data
            continue
        window = _window(data, start, cut, line, last)
        if window.data or some:
            some = True
            yield window
        if last:
            return
        keep = _keep_from(data, cut)
        line += data.count(b"\n", 0, keep)
        pending, start = data[keep:], cut - keep


def _size_now(stream: BinaryIO) -> int | None:
    """The size of a plain file, so that a log which grows while it is read is read to where it ended; else None."""
    try:
        import stat

        info = os.fstat(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return None
    plain = stat.S_ISREG(info.st_mode) and type(stream).__module__ in ("_io", "io")
    return info.st_size if plain and info.st_size else None  # files of /proc call themselves empty


def _decoder(head: bytes) -> codecs.IncrementalDecoder | None:
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return codecs.getincrementaldecoder("utf-16")("replace")
    bare = _utf16_without_bom(head)
    return codecs.getincrementaldecoder(bare)("replace") if bare else None


def _cut(data: bytes, start: int) -> int:
    """Where this window ends: at a line end, with AHEAD bytes of context behind it; within a line only if it is huge."""
    if len(data) - start <= AHEAD:
        return start
    cut = data.rfind(b"\n", start, len(data) - AHEAD) + 1
    if cut <= start and len(data) - start > LONGEST_LINE + AHEAD:
        return len(data) - AHEAD
    return cut


def _keep_from(data: bytes, cut: int) -> int:
    """From where to keep text as context for the next window: the start of a line, if lines are of common length."""
    if cut <= BEHIND:
        return 0
    keep = data.find(b"\n", cut - BEHIND, cut) + 1
    return keep if keep else cut - min(BEHIND, 1024)


def _window(data: bytes, start: int, cut: int, line: int, last: bool) -> Window:
    """Clean the text; `start` and `cut` are moved to where their lines are then."""
    parts = [_clean(data)]
    if len(parts[0]) != len(data):
        parts = [_clean(data[:start]), _clean(data[start:cut]), _clean(data[cut:])]
        start, cut = len(parts[0]), len(parts[0]) + len(parts[1])
    clean = b"".join(parts)
    if b"\xe2" in clean and (_BAR in clean or _CORNER in clean):
        clean, (start, cut) = unbox(clean, (start, cut))
    return Window(clean, start, cut, line, last)


def _clean(data: bytes) -> bytes:
    """Without colour codes and NULs; nothing is taken that reaches over a line end."""
    if b"\x1b" in data or b"#033[" in data:
        data = _ANSI.sub(b"", data)
    if b"\0" in data:
        data = data.replace(b"\0", b"")
    return data


def unbox(data: bytes, places: Sequence[int] = ()) -> tuple[bytes, list[int]]:
    """Take Rich's boxes off tracebacks; lines keep their numbers, and what Rich wrapped behind the box is joined again.

    `places` are offsets; they come back as offsets of the same line (or of the same distance to its end).
    """
    old = data.split(b"\n")
    lines = old.copy()
    for index, line in enumerate(lines):
        head = line.lstrip()
        if head.startswith(_BAR) and line.rstrip().endswith(_BAR):
            inner = line.rstrip()[: -len(_BAR)]
            place = inner.find(_BAR) + len(_BAR)
            lines[index] = (inner[: place - len(_BAR)] + inner[place + 1 :]).rstrip()
        elif head.startswith(_END):
            lines[index] = b""
            _join_wrapped(lines, index + 1)
        elif head.startswith(_CORNER) and b"Traceback" in line:
            lines[index] = b"Traceback (most recent call last):"
    return b"\n".join(lines), [_moved(place, old, lines) for place in places]


def _moved(place: int, old: list[bytes], new: list[bytes]) -> int:
    """Where an offset of the old lines is in the new ones."""
    before = after = 0
    for was, now in zip(old, new, strict=True):
        if place <= before + len(was):
            return after + (len(now) if place == before + len(was) else min(place - before, len(now)))
        before += len(was) + 1
        after += len(now) + 1
    return after - 1


def _join_wrapped(lines: list[bytes], first: int) -> None:
    """Join the lines of a message that was wrapped at the console's width into its first line."""
    if first >= len(lines) or not re.match(rb"[A-Za-z_][\w.]*: ", lines[first]):
        return
    width = len(lines[first])
    for index in range(first + 1, min(first + 40, len(lines))):
        text = lines[index]
        if not text.strip() or width < 40 or text[:1] in b" \t[(" or re.match(rb"[A-Z]+ |\d{4}-|[\w.]+Error: ", text):
            return
        lines[first] = lines[first].rstrip() + b" " + text
        lines[index] = b""
        width = len(text)
