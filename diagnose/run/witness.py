"""A process beside the command that looks at something and tells of it, whatever makes it wait.

It is a process of its own, so that nothing which makes it wait (a dead file server, a process stuck in the kernel, a driver
that does not answer) makes the command's output wait. What it sees comes through a pipe at once: who kills it takes nothing
back.
"""

from __future__ import annotations

import ctypes
import gc
import os
import select
import signal
import sys
import time
import warnings

import msgspec

from diagnose.run.messages import Look, Message

NAME = b"llmdoctor"
"""What a witness is called, so that it is not taken for something that the command left behind."""
_DEATH = 1
"""PR_SET_PDEATHSIG: ends the witness with whom it is a witness for."""
_NAME = 15
"""PR_SET_NAME"""
_DECODER = msgspec.json.Decoder(Message)


class Witness:
    """A witness as who started it sees it: the pipe to read, and the way to end it."""

    def __init__(self, look: Look) -> None:
        """`look` runs in the witness."""
        self.pipe, told = os.pipe()
        asked, self._asking = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            os.close(self._asking)
            _be_witness(look, asked, told)
        os.close(told)
        os.close(asked)
        os.set_blocking(self.pipe, False)
        self._rest = b""
        self.done = False

    def messages(self) -> list[Message]:
        """What it has told since the last time. `done` says that nothing more will come."""
        try:
            data = os.read(self.pipe, 1 << 16)
        except BlockingIOError:
            return []
        self.done = self.done or not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [_DECODER.decode(line) for line in lines]

    def finish(self, seconds: float) -> list[Message]:
        """Ask it for a last look, wait for that so long at most, and end it."""
        self._ask()
        found: list[Message] = []
        until = time.monotonic() + seconds
        while not self.done and (left := until - time.monotonic()) > 0:
            if select.select([self.pipe], [], [], left)[0]:
                found += self.messages()
        self.end()
        return found

    def end(self) -> None:
        """End it at once."""
        self._ask()
        self.done = True
        try:
            os.kill(self.pid, signal.SIGKILL)
            for _ in range(100):  # else whoever is process 1 of a container would have to take its end
                if os.waitpid(self.pid, os.WNOHANG)[0]:
                    break
                time.sleep(0.005)
        except (ProcessLookupError, ChildProcessError):
            pass
        if self.pipe >= 0:
            os.close(self.pipe)
            self.pipe = -1

    def _ask(self) -> None:
        if self._asking >= 0:
            os.close(self._asking)
            self._asking = -1


def _be_witness(look: Look, asked: int, told: int) -> None:
    """Never returns. Signals that are meant for the command stay blocked here; it ends with whom it is a witness for."""
    try:
        gc.enable()
        libc = ctypes.CDLL(None)
        libc.prctl(_DEATH, signal.SIGKILL, 0, 0, 0)
        libc.prctl(_NAME, NAME, 0, 0, 0)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        os.closerange(3, min(asked, told))
        os.closerange(min(asked, told) + 1, max(asked, told))
        os.closerange(max(asked, told) + 1, 4096)
        sys.stdout = sys.stderr = None
        os.nice(5)

        def tell(message: Message) -> None:
            data = memoryview(msgspec.json.encode(message) + b"\n")
            while data:
                data = data[os.write(told, data) :]

        look(asked, tell)
    except BaseException:  # whatever it meets: the command goes on without a witness
        pass
    finally:
        os._exit(0)
