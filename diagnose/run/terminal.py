"""The terminal that we were started on: handed through to the command raw, with its size, and always given back."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
import tty
from typing import Any

_NOBODY = b"\0" * 8


class Terminal:
    """One of our own streams that is a terminal. `raw` is whether it hands every key on."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.raw = False
        self._before: list[Any] | None = None

    def make_raw(self) -> None:
        """Hand every key on to the command's terminal, which makes signals of Ctrl-C and the like; nothing in the background."""
        try:
            if os.tcgetpgrp(self.handle) != os.getpgrp():
                return
            if self._before is None:
                self._before = termios.tcgetattr(self.handle)
            tty.setraw(self.handle, termios.TCSADRAIN)
        except (OSError, termios.error):
            return
        self.raw = True

    def give_back(self) -> None:
        """As it was before."""
        if self.raw and self._before is not None:
            try:
                termios.tcsetattr(self.handle, termios.TCSADRAIN, self._before)
            except (OSError, termios.error):
                pass  # it has been closed meanwhile
        self.raw = False

    def size(self) -> bytes:
        """Rows and columns as the kernel packs them."""
        try:
            return fcntl.ioctl(self.handle, termios.TIOCGWINSZ, _NOBODY)
        except OSError:
            return _NOBODY

    def settings(self) -> list[Any] | None:
        """What the terminal is set to, for one that shall be alike; None if it does not tell."""
        try:
            return termios.tcgetattr(self.handle)
        except (OSError, termios.error):
            return None


def set_size(handle: int, size: bytes) -> None:
    """Give a terminal a size; its programs are told by SIGWINCH. One without a size stays as it is."""
    if any(struct.unpack("4H", size)):
        try:
            fcntl.ioctl(handle, termios.TIOCSWINSZ, size)
        except OSError:
            pass


def makes_signals(master: int, key: int) -> bool:
    """Whether a terminal's settings make a signal of a key, where `key` is termios.VINTR, VSUSP …"""
    try:
        settings = termios.tcgetattr(master)
    except (OSError, termios.error):
        return False
    return bool(settings[3] & termios.ISIG) and settings[6][key] != b"\0"


def key_of(master: int, key: int) -> bytes:
    """The byte of a key, as the command's terminal is set."""
    try:
        found = termios.tcgetattr(master)[6][key]
    except (OSError, termios.error):
        return b""
    return found if isinstance(found, bytes) else b""
