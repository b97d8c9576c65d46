"""Reading files that others wrote: never more than asked for, never a device or a pipe, never an exception for bad text."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

HEAD = 64 << 10
MOST = 8 << 20
MOST_AT_ONCE = 1 << 20


@contextmanager
def opened(path: str) -> Iterator[tuple[int, int]]:
    """The handle and the size in bytes of a plain file. Raises OSError, also for a pipe or device, which is not waited for."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:  # a NUL in the name
        raise OSError(str(error)) from None
    try:
        state = os.fstat(handle)
        if not stat.S_ISREG(state.st_mode):
            raise OSError("it is not a regular file")
        yield handle, state.st_size
    finally:
        os.close(handle)


def reason(error: Exception) -> str:
    """What the system says was wrong, as it stands within a sentence."""
    return (getattr(error, "strerror", None) or str(error)).lower()


def read_bytes(path: str, most: int = MOST) -> bytes | None:
    """The first `most` bytes of a plain file; None if there is none, or it cannot be read."""
    try:
        with opened(path) as (handle, size):
            if 0 < size < most:  # /proc and /sys say 0 also of files that have something in them
                most = size
            parts = []
            while most > 0:
                part = os.read(handle, min(most, MOST_AT_ONCE))
                if not part:
                    break
                parts.append(part)
                most -= len(part)
            return b"".join(parts)
    except OSError:
        return None


def read_text(path: str, most: int = MOST) -> str | None:
    """As `read_bytes`, decoded as UTF-8 with what is not UTF-8 replaced."""
    data = read_bytes(path, most)
    return None if data is None else data.decode("utf-8", "replace")


def absolute(path: str, environ: Mapping[str, str], folder: str) -> str:
    """A path as it is meant in a folder, with the home folder of that environment for `~`."""
    home = environ.get("HOME", "")
    if home and (path == "~" or path.startswith("~/")):
        path = home + path[1:]
    return os.path.normpath(os.path.join(folder or os.sep, path))


def names_in(folder: str) -> list[str] | None:
    """The names in a folder, sorted; None if it is no folder or cannot be read."""
    try:
        return sorted(os.listdir(folder))
    except (OSError, ValueError):
        return None


def why_unreadable(path: str) -> str:
    """In words, why a file or folder cannot be read; nothing if it can."""
    try:
        if os.path.isdir(path):
            os.listdir(path)
        else:
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return error.strerror or type(error).__name__
    except ValueError as error:
        return str(error)
    return ""
