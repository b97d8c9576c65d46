"""Signals to us as things to read: which one came, and who sent it. Nothing interrupts us, and nothing is lost.

A signalfd tells the sender, which a handler in Python does not: what Slurm sends reaches the command by itself, and must
not be handed on a second time.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from collections.abc import Iterator

from msgspec import Struct

from diagnose.errors import InputError

TO_HAND_ON = frozenset(
    {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGURG}
)  # fmt: skip
"""What is handed on to the command as it came."""
TO_READ = TO_HAND_ON | {signal.SIGCHLD, signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT, signal.SIGTTIN, signal.SIGTTOU}

_SIZE = 128
"""Bytes of the kernel's struct signalfd_siginfo, and of a set of signals."""
_NONBLOCK, _CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
_LONGEST = 60


class Arrived(Struct, frozen=True):
    """A signal that came: its number, and the process that sent it (0: the kernel, or one that cannot be seen from here)."""

    number: int
    sender: int
    by_process: bool


class Signals:
    """Takes the signals for the length of a run. Raises InputError where the system has no signalfd (it is Linux's)."""

    def __init__(self) -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            make = libc.signalfd
        except (OSError, AttributeError):
            raise InputError(
                "`llmdoctor run` needs Linux; elsewhere run the command and give its log to diagnose"
            ) from None
        self.ignored = frozenset(one for one in TO_HAND_ON if signal.getsignal(one) == signal.SIG_IGN)
        """Those that were ignored before us, and so by the command: nohup has SIGHUP ignored."""
        self.before = signal.pthread_sigmask(signal.SIG_BLOCK, TO_READ)
        wanted = bytearray(_SIZE)
        for number in TO_READ:
            wanted[(number - 1) // 8] |= 1 << ((number - 1) % 8)
        self.handle: int = make(-1, (ctypes.c_char * _SIZE).from_buffer(wanted), _NONBLOCK | _CLOEXEC)
        if self.handle < 0:
            self.give_back()
            raise InputError(f"signals cannot be read here: {os.strerror(ctypes.get_errno())}")

    def arrived(self) -> Iterator[Arrived]:
        """What has come since the last time, in order."""
        try:
            data = os.read(self.handle, _SIZE * 32)
        except BlockingIOError:
            return
        for at in range(0, len(data) - _SIZE + 1, _SIZE):
            number, _, code, sender = struct.unpack_from("IiiI", data, at)
            yield Arrived(number, sender, code <= 0)

    def give_back(self) -> None:
        """As it was before: signals mean again what they did."""
        signal.pthread_sigmask(signal.SIG_SETMASK, self.before)
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1


def name_of(number: int) -> str:
    """SIGKILL; `signal 70` for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return (
            f"SIGRTMIN+{number - signal.SIGRTMIN}"
            if signal.SIGRTMIN <= number <= signal.SIGRTMAX
            else f"signal {number}"
        )


def process_name(pid: int) -> str:
    """What a process calls itself: slurmstepd; empty if it cannot be seen from here."""
    if pid <= 0:
        return ""
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            return file.read(_LONGEST).decode("utf-8", "replace").strip()
    except OSError:
        return ""
