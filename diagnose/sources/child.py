"""Runs sources in child processes, each with a time limit: a hang, a crash or garbage in one never reaches the others.

A driver can hang in the kernel, a file system can be dead, a library can abort: none of that can be caught in our own
process. So a source is a generator of readings that runs in a forked child; each reading comes through a pipe as soon as
it is known. What came before a hang or a crash is kept, and the rest becomes *unknown, because …*.
"""

from __future__ import annotations

import os
import selectors
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
from msgspec import Struct

from diagnose.model import Fact, Output, Reading, Step, Unchecked

MOST_BYTES = 32 << 20
"""How much one source may say."""


class Source(Struct, frozen=True):
    """A source to be read: what it looks at (in words), how to read it, and for how many seconds at most."""

    name: str
    read: Callable[[], Iterable[Reading]]
    seconds: float


class _Message(Struct, array_like=True, omit_defaults=True):
    """One reading on its way through the pipe: exactly one field is set."""

    fact: Fact | None = None
    unchecked: Unchecked | None = None
    output: Output | None = None
    step: Step | None = None


class _Running(Struct, eq=False):
    """A child that is being read."""

    source: Source
    pid: int
    pipe: int
    started: float
    deadline: float
    buffer: bytearray
    said: int = 0
    doing: str = ""
    done: bool = False

    @property
    def shown(self) -> str:
        """What a reader is told that is being read: the source's name, or its step where that tells how far it is."""
        return self.doing if self.doing.endswith("%") else self.source.name


def read_all(
    sources: Sequence[Source], progress: Callable[[list[str]], None] = lambda names: None, clock: float | None = None
) -> Iterator[Reading]:
    """Read all sources side by side; what they yield, as it comes, and an Unchecked for each that broke or was late.

    `progress` is told the names of those that are still being read; a step that ends with `%` stands in place of its
    source's name. `clock` is the longest time in seconds that all of them together may take.
    """
    started = time.monotonic()
    latest = started + clock if clock is not None else float("inf")
    running = [_start(source, started, min(started + source.seconds, latest)) for source in sources]
    selector = selectors.DefaultSelector()
    for child in running:
        selector.register(child.pipe, selectors.EVENT_READ, child)
    try:
        told = [child.shown for child in running]
        progress(told)
        while selector.get_map():
            nearest = min(key.data.deadline for key in selector.get_map().values())
            for key, _ in selector.select(max(nearest - time.monotonic(), 0)):
                yield from _take(key.data)
            for key in list(selector.get_map().values()):
                one: _Running = key.data
                late = time.monotonic() >= one.deadline
                if one.done or late:
                    selector.unregister(one.pipe)
                    yield from _finish(one, late and not one.done)
            now = [key.data.shown for key in selector.get_map().values()]
            if now != told:
                told = now
                progress(told)
    finally:
        for key in list(selector.get_map().values()):
            _end(key.data)
        selector.close()


def _start(source: Source, started: float, deadline: float) -> _Running:
    read_end, write_end = os.pipe()
    with warnings.catch_warnings():
        # The child never takes a lock that another thread could hold: it reads, writes to its pipe, and leaves.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        os.close(read_end)
        _be_child(source, write_end)
    os.close(write_end)
    os.set_blocking(read_end, False)
    return _Running(source, pid, read_end, started, deadline, bytearray())


def _be_child(source: Source, pipe: int) -> None:
    """Never returns. What the source prints by itself goes nowhere; its readings go through the pipe."""
    status = 1
    try:
        os.setsid()  # so that its own children end with it
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        sys.stdout = sys.stderr = None
        if "faulthandler" in sys.modules:  # it writes to a stream of its own; a crash is told in the report
            sys.modules["faulthandler"].disable()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        try:
            for reading in source.read():
                _send(pipe, reading)
        except Exception as error:  # whatever a source meets is told, never raised
            _send(pipe, Unchecked(source.name, f"reading it failed: {type(error).__name__}: {error}"[:500]))
        status = 0
    finally:
        os._exit(status)


def _send(pipe: int, reading: Reading) -> None:
    if isinstance(reading, Fact):
        message = _Message(fact=reading)
    elif isinstance(reading, Unchecked):
        message = _Message(unchecked=reading)
    elif isinstance(reading, Output):
        message = _Message(output=reading)
    else:
        message = _Message(step=reading)
    payload = _encoded(message)
    data = memoryview(len(payload).to_bytes(4, "big") + payload)
    while data:
        data = data[os.write(pipe, data) :]


def _encoded(message: _Message) -> bytes:
    """The bytes of a reading. Names that are not UTF-8, and lone halves of characters, are marked with `?`."""
    try:
        return msgspec.msgpack.encode(message)
    except UnicodeEncodeError:
        whole = msgspec.to_builtins(message)
        return msgspec.msgpack.encode([one and {name: _writable(part) for name, part in one.items()} for one in whole])


def _writable(part: object) -> object:
    return part.encode("utf-8", "replace").decode() if isinstance(part, str) else part


def _take(child: _Running) -> Iterator[Reading]:
    """Read what is in the pipe; yields the readings that are complete."""
    try:
        data = os.read(child.pipe, 1 << 16)
    except BlockingIOError:
        return
    child.done = not data
    child.buffer += data
    child.said += len(data)
    if child.said > MOST_BYTES:
        child.done = True
        yield Unchecked(child.source.name, "it says more than can be kept")
        return
    at = 0
    while len(child.buffer) - at >= 4:
        size = int.from_bytes(child.buffer[at : at + 4], "big")
        if len(child.buffer) - at - 4 < size:
            break
        message = msgspec.msgpack.decode(bytes(child.buffer[at + 4 : at + 4 + size]), type=_Message)
        at += 4 + size
        if message.step is not None:
            child.doing = message.step.doing
            continue
        for reading in (message.fact, message.unchecked, message.output):
            if reading is not None:
                yield reading
    del child.buffer[:at]


def _finish(child: _Running, late: bool) -> Iterator[Reading]:
    """End a child; an Unchecked if it was late or died."""
    status = _end(child)
    where = f", while {child.doing}" if child.doing else ""
    if late:
        yield Unchecked(child.source.name, f"no answer within {child.deadline - child.started:g} s{where}")
    elif status is not None and os.WIFSIGNALED(status) and child.said <= MOST_BYTES:
        name = signal.Signals(os.WTERMSIG(status)).name
        yield Unchecked(child.source.name, f"reading it crashed ({name}){where}")
    elif status is not None and os.WIFEXITED(status) and os.WEXITSTATUS(status):
        yield Unchecked(child.source.name, f"reading it ended early{where}")


def _end(child: _Running) -> int | None:
    """Kill the child with all that it started, and reap it; its status, or None if it cannot even be killed.

    A process that waits inside the kernel (a dead file server, a wedged driver) dies only when the kernel lets it: we
    do not wait for that.
    """
    os.close(child.pipe)
    if not child.done:
        for kill in (os.killpg, os.kill):
            try:
                kill(child.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
    until = time.monotonic() + 0.5
    while True:
        try:
            pid, status = os.waitpid(child.pid, os.WNOHANG)
        except ChildProcessError:
            return None
        if pid:
            return status
        if time.monotonic() > until:
            return None
        time.sleep(0.002)
