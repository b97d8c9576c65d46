"""The command's output, kept for the diagnosis: its beginning and its end, within bounds however much comes.

It lies in a file without a name, which is gone when we are; where none can be made or its disk is full, in memory. Progress
bars, which write one line over and over, leave their last state.
"""

from __future__ import annotations

import os
import re
import tempfile

HEAD = 1 << 20
"""How many bytes are kept from the beginning, where a program says what it is and what it was told."""
TAIL = 4 << 20
"""How many bytes are kept from the end, where the reason stands."""
LONGEST_LINE = 1 << 16
"""Bytes of a line that has not ended, after which it is kept as it is."""


class Line:
    """The line of one stream that has not ended yet."""

    def __init__(self) -> None:
        self.text = b""


class Kept:
    """Takes output as it comes. `size` counts what was to be kept of it, `lost` says whether a file had to be given up."""

    def __init__(self, head: int = HEAD, tail: int = TAIL) -> None:
        self._head, self._tail = head, tail
        self.size = 0
        self.lost = False
        self._file = _nameless_file()
        self._memory: bytearray | None = None if self._file >= 0 else bytearray()

    def take(self, data: bytes, line: Line) -> None:
        """Keep what came of a stream; `line` is what has come of its last line."""
        whole = line.text + data
        end = whole.rfind(b"\n") + 1
        if end:
            self._keep(without_overwritten(whole[:end]))
        rest = whole[end:]
        if b"\r" in rest:
            rest = _last_state(rest)
        if len(rest) > LONGEST_LINE:
            self._keep(rest)
            rest = b""
        line.text = rest

    def finish(self, line: Line) -> None:
        """A stream has ended: its last line too."""
        if line.text:
            self._keep(_last_state(line.text).rstrip(b"\r") + b"\n")
            line.text = b""

    def text(self) -> bytes:
        """What was kept, with a line that says how much was left out."""
        if self.size <= self._head + self._tail:
            return self._read(0, self.size)
        left_out = self.size - self._head - self._tail
        at = (self.size - self._head) % self._tail
        head = self._read(0, self._head)
        tail = self._read(self._head + at, self._tail - at) + self._read(self._head, at)
        head, tail = head[: head.rfind(b"\n") + 1 or None], tail[tail.find(b"\n") + 1 :]
        return b"%s[llmdoctor: about %d bytes are left out here]\n%s" % (head, left_out, tail)

    def close(self) -> None:
        """Let go of it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _keep(self, data: bytes) -> None:
        """Put bytes into the head while there is room, then into the ring behind it."""
        if self.size < self._head:
            part, data = data[: self._head - self.size], data[self._head - self.size :]
            self._write(self.size, part)
            self.size += len(part)
        if len(data) > self._tail:
            self.size += len(data) - self._tail
            data = data[-self._tail :]
        while data:
            at = (self.size - self._head) % self._tail
            part, data = data[: self._tail - at], data[self._tail - at :]
            self._write(self._head + at, part)
            self.size += len(part)

    def _write(self, at: int, data: bytes) -> None:
        if self._memory is None:
            try:
                done = os.pwrite(self._file, data, at)
                if done == len(data):
                    return
            except OSError:
                pass
            self._give_up_file()
        memory = self._memory if self._memory is not None else bytearray()
        if len(memory) < at + len(data):
            memory.extend(bytes(at + len(data) - len(memory)))
        memory[at : at + len(data)] = data

    def _give_up_file(self) -> None:
        """The disk is full, or its server is gone: what was written so far goes on in memory."""
        self.lost = True
        try:
            written = os.pread(self._file, self._head + self._tail, 0)
        except OSError:
            written = b""
        self._memory = bytearray(written)
        os.close(self._file)
        self._file = -1

    def _read(self, at: int, size: int) -> bytes:
        if self._memory is not None:
            return bytes(self._memory[at : at + size])
        try:
            return os.pread(self._file, size, at)
        except OSError:
            return b""


def _nameless_file() -> int:
    """A file of ours alone that has no name; -1 if none can be made."""
    try:
        folder = tempfile.gettempdir()
    except OSError:
        return -1
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except (OSError, AttributeError):
        pass
    try:
        handle, path = tempfile.mkstemp(prefix="llmdoctor-", dir=folder)
        os.unlink(path)
    except OSError:
        return -1
    return handle


def without_overwritten(lines: bytes) -> bytes:
    """Whole lines, of which those that were written over and over leave what was to be seen last."""
    if b"\r" not in lines:
        return lines
    lines = re.sub(rb"\r+\n", b"\n", lines)
    if b"\r" not in lines:
        return lines
    return b"\n".join(_last_state(line) if b"\r" in line else line for line in lines.split(b"\n"))


def _last_state(line: bytes) -> bytes:
    """What was written last of a line that was written over; what stands behind its last return may still be empty."""
    body = line.rstrip(b"\r")
    return body[body.rfind(b"\r") + 1 :] + line[len(body) :][:1]
