"""Reads small files, folders and links below a root: the machine's own, or a copy of its /proc, /sys and /dev."""

from __future__ import annotations

import os

from msgspec import Struct

from diagnose.sources.files import names_in, read_bytes

MOST = 1 << 20
"""How much of one file is read."""


class Tree(Struct, frozen=True):
    """A file system's root. Every question is answered; what is not there or not allowed is empty, False or None."""

    root: str = "/"

    def path(self, name: str) -> str:
        """Where an absolute name lies below the root."""
        return name if self.root == "/" else os.path.join(self.root, name.lstrip("/"))

    def bytes(self, name: str, most: int = MOST) -> bytes | None:
        """The first bytes of a plain file, or None if it cannot be read. Never waits for a pipe or a device."""
        return read_bytes(self.path(name), most)

    def text(self, name: str, most: int = 1 << 16) -> str | None:
        """A file's text without the space around it, or None if it cannot be read."""
        data = self.bytes(name, most)
        return data.decode("utf-8", "replace").strip() if data is not None else None

    def names(self, folder: str) -> list[str]:
        """The names in a folder, sorted; none if it cannot be read."""
        return names_in(self.path(folder)) or []

    def exists(self, name: str) -> bool:
        """Whether something is there (links are followed)."""
        return os.path.exists(self.path(name))

    def link(self, name: str) -> str:
        """The last part of what a link points to; empty if it is no link."""
        try:
            return os.path.basename(os.readlink(self.path(name)))
        except OSError:
            return ""

    def usable(self, name: str) -> bool:
        """Whether this user may read and write it."""
        return os.access(self.path(name), os.R_OK | os.W_OK)
