"""Small text files of the kernel (/proc, /sys) and of the system, and what its commands print: bounded, without errors."""

from __future__ import annotations

import os
from collections.abc import Sequence

from diagnose.sources.files import names_in, read_text

MOST = 1 << 20
"""How many bytes of one file are read."""


def at(root: str, path: str) -> str:
    """Where an absolute path lies below `root` (`/` on a live machine, another folder in a copy of one)."""
    return path if root == "/" else os.path.join(root, path.lstrip("/"))


def text(root: str, path: str, most: int = MOST) -> str | None:
    """The text of a plain file, or None if it is not there or may not be read. Bad bytes become replacement characters."""
    return read_text(at(root, path), most)


def word(root: str, path: str) -> str:
    """The first line of a file without white space around it; empty if there is none."""
    found = text(root, path, 4096)
    return found.strip().partition("\n")[0].strip() if found else ""


def number(root: str, path: str) -> int | None:
    """The whole number that a file holds, or None."""
    return whole(word(root, path))


def whole(value: str) -> int | None:
    """A text as a whole number, or None if it is none."""
    value = value.strip()
    digits = value[1:] if value.startswith("-") else value
    return int(value) if digits.isascii() and digits.isdigit() and len(digits) < 25 else None


def names(root: str, path: str, most: int = 4096) -> list[str]:
    """What a folder holds, sorted; empty if it is not there."""
    return (names_in(at(root, path)) or [])[:most]


def output(command: Sequence[str], most: int = 8 << 20) -> str | None:
    """What a command of the system prints, the last `most` bytes of it; None if it fails or takes longer than 2.5 s."""
    import subprocess

    try:
        done = subprocess.run(command, capture_output=True, timeout=2.5, check=False, stdin=subprocess.DEVNULL)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout[-most:].decode("utf-8", "replace") if done.returncode == 0 else None


def fields(source: str, separator: str = ":") -> dict[str, str]:
    """`Name: value` lines as a mapping; the first of equal names counts."""
    found: dict[str, str] = {}
    for line in source.splitlines():
        name, told, value = line.partition(separator)
        if told:
            found.setdefault(name.strip(), value.strip())
    return found
