"""Runs something in a process of its own and says how it ended: bounded in time and output, with nothing left behind.

What is tried may hang, crash, print without end, or start processes that outlive it and keep its output open. So the
time limit is ours, of the output a head and a tail are kept, and every process that was started is found again by a
mark in its environment, even one that left its group.
"""

from __future__ import annotations

import os
import resource
import selectors
import signal
import subprocess
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

HEAD, TAIL = 64 << 10, 192 << 10
"""How many bytes are kept of an output: its beginning and its end."""
MOST_TOLD = 64 << 10
"""How many bytes of answers a process may give."""
MARK = "LLMDOCTOR_PROBE"
TOLD_FD = "LLMDOCTOR_TOLD_FD"

_DRAIN = 0.3
"""How many seconds the output is still read after its process ended: somebody else may hold it open."""
_LAST_WORDS = 3.0
"""How many seconds a process has to print its stack before it is killed."""
_POLL = 0.05

Told = dict[str, str | int | float | bool]


class Command(Struct, frozen=True):
    """What to start: the words of the command, and the whole environment."""

    words: tuple[str, ...]
    environ: dict[str, str]


class Attempt(Struct, frozen=True):
    """How a process ended. `result` is ok, failed, hang or signal; `refused` says why it could not be started at all.

    `text` is what it printed, `told` the answers that it gave, `seconds` how long it ran, `signal` what ended it. In the
    text of a hang is the stack of the place where it hung, if the process could still print it.
    """

    result: str
    seconds: float
    text: str = ""
    told: Told = {}
    signal: str = ""
    refused: str = ""


class _Child(Struct, eq=False):
    """A process that is running, and what has come from it so far."""

    process: subprocess.Popen[bytes]
    output: int
    told: int
    started: float
    head: bytearray
    tail: bytearray
    answers: bytearray
    dropped: int = 0
    ended: float = 0.0
    late: bool = False


@contextmanager
def supervised(mark: str) -> Iterator[None]:
    """While this lasts, everything with this mark dies should we be killed ourselves (Ctrl-C, a limit of our caller)."""
    read_end, write_end = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child takes no lock: it waits, kills, and leaves
        pid = os.fork()
    if pid == 0:
        _watch(read_end, mark)
    os.close(read_end)
    try:
        yield
    finally:
        os.close(write_end)
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            pass


def _watch(pipe: int, mark: str) -> None:
    """Never returns. Wait until the other end of the pipe is gone, then end all that has the mark."""
    try:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        os.dup2(pipe, 3)
        os.closerange(4, 65536)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.read(3, 1)
        sweep(mark)
    finally:
        os._exit(0)


def attempt(command: Command, folder: str, seconds: float, mark: str) -> Attempt:
    """Run one command in a folder for at most `seconds`."""
    return attempt_all([command], folder, seconds, mark)[0]


def attempt_all(commands: Sequence[Command], folder: str, seconds: float, mark: str) -> list[Attempt]:
    """Run commands side by side. Once one of them failed, the others get some seconds more: they may wait for it."""
    started = time.monotonic()
    children: list[_Child] = []
    try:
        for command in commands:
            try:
                children.append(_start(command, folder, mark))
            except (OSError, ValueError) as error:
                return [Attempt("failed", 0.0, refused=getattr(error, "strerror", None) or str(error))] * len(commands)
        _follow(children, started + seconds)
        return [_outcome(child) for child in children]
    finally:
        for child in children:
            _end(child)
        sweep(mark)


def _start(command: Command, folder: str, mark: str) -> _Child:
    output, output_end = os.pipe()
    told, told_end = os.pipe()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            process = subprocess.Popen(
                command.words,
                stdin=subprocess.DEVNULL,
                stdout=output_end,
                stderr=output_end,
                cwd=folder,
                env={**command.environ, MARK: mark, TOLD_FD: str(told_end)},
                pass_fds=(told_end,),
                start_new_session=True,
                preexec_fn=_no_core_file,
            )
    except BaseException:
        os.close(output)
        os.close(told)
        raise
    finally:
        os.close(output_end)
        os.close(told_end)
    os.set_blocking(output, False)
    os.set_blocking(told, False)
    return _Child(process, output, told, time.monotonic(), bytearray(), bytearray(), bytearray())


def _no_core_file() -> None:
    """A crash must leave no file. One byte rather than none: only that keeps a dump handler from being called."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (1 if hard in (-1, resource.RLIM_INFINITY) or hard >= 1 else 0, hard))


def _follow(children: Sequence[_Child], deadline: float) -> None:
    """Read what the children print until all have ended; those that are late are asked for their stack first."""
    selector = selectors.DefaultSelector()
    for child in children:
        selector.register(child.output, selectors.EVENT_READ, child)
        selector.register(child.told, selectors.EVENT_READ, child)
    try:
        _read_until(children, selector, deadline)
        late = [child for child in children if not child.ended]
        for child in late:
            child.late = True
            _kill(child.process.pid, signal.SIGABRT)  # faulthandler then prints every thread's stack
        if late:
            _read_until(children, selector, time.monotonic() + _LAST_WORDS)
        until = time.monotonic() + _DRAIN
        while selector.get_map() and time.monotonic() < until:
            _pump(selector)
    finally:
        selector.close()


def _read_until(children: Sequence[_Child], selector: selectors.BaseSelector, deadline: float) -> None:
    """Read until all have ended or the time is over; it is over soon after one of them failed."""
    while True:
        _pump(selector)
        now = time.monotonic()
        for child in children:
            if not child.ended and _has_ended(child.process.pid):
                child.ended = now
                if not _told_done(child):
                    deadline = min(deadline, now + _LAST_WORDS)
        if now > deadline or all(child.ended for child in children):
            return


def _pump(selector: selectors.BaseSelector) -> None:
    """Take what the pipes hold; waits a moment for something to come."""
    if not selector.get_map():
        time.sleep(_POLL)
        return
    for key, _ in selector.select(_POLL):
        pipe = key.fd
        try:
            data = os.read(pipe, 1 << 16)
        except BlockingIOError:
            continue
        if not data:
            selector.unregister(pipe)
        elif pipe == key.data.told:
            key.data.answers += data[: MOST_TOLD - len(key.data.answers)]
        else:
            _keep(key.data, data)


def _keep(child: _Child, data: bytes) -> None:
    """Keep the beginning and the end of an output."""
    room = HEAD - len(child.head)
    child.head += data[:room]
    child.tail += data[room:] if room > 0 else data
    if len(child.tail) > 2 * TAIL:
        child.dropped += len(child.tail) - TAIL
        del child.tail[:-TAIL]


def _has_ended(pid: int) -> bool:
    """Whether a child has ended. It is not reaped yet: as long as it is not, its group's number is nobody else's."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _end(child: _Child) -> None:
    """End a child with its group, and reap it. One that waits inside the kernel dies when the kernel lets it."""
    for pipe in (child.output, child.told):
        os.close(pipe)
    try:
        os.killpg(child.process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    try:
        child.process.wait(1.0)
    except subprocess.TimeoutExpired:
        child.process.returncode = -signal.SIGKILL  # nobody is left to wait for it


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def sweep(mark: str) -> None:
    """Kill every process of ours whose environment has the mark, also those that left their session."""
    wanted = f"{MARK}={mark}".encode()
    for _ in range(5):  # one that is killed may have started another a moment before
        found = [pid for pid in _processes() if wanted in _environ_of(pid)]
        for pid in found:
            _kill(pid, signal.SIGKILL)
        if not found:
            return
        time.sleep(0.02)


def _processes() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]
    except OSError:
        return []


def _environ_of(pid: int) -> bytes:
    try:
        with Path(f"/proc/{pid}/environ").open("rb") as stream:
            return stream.read(1 << 20)
    except OSError:
        return b""


def _told_done(child: _Child) -> bool:
    return b"done\tf\tTrue\n" in child.answers


def _outcome(child: _Child) -> Attempt:
    """Read how a child ended. Only one that said so itself has got to its end: leaving early is no success."""
    ended = child.ended or time.monotonic()
    status = _status(child.process.pid)
    name = _signal_name(status.si_status) if status and status.si_code in (os.CLD_KILLED, os.CLD_DUMPED) else ""
    told = _answers(bytes(child.answers))
    if child.late:
        result, name = "hang", ""
    elif name:
        result = "signal"
    else:
        result = "ok" if told.pop("done", False) is True and status and not status.si_status else "failed"
    told.pop("done", None)
    text = _text(child)
    return Attempt(result, round(ended - child.started, 2), _of_a_hang(text) if child.late else text, told, name)


def _status(pid: int) -> os.waitid_result | None:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _text(child: _Child) -> str:
    tail = bytes(child.tail[-TAIL:])
    dropped = child.dropped + len(child.tail) - len(tail)
    between = f"\n[{dropped:,} bytes left out]\n".encode() if dropped else b""
    return (bytes(child.head) + between + tail).replace(b"\0", b"").decode("utf-8", "replace")


_ABORTED = "Fatal Python error: Aborted"


def _of_a_hang(text: str) -> str:
    """The text of a hang: it was we who ended it, so it must not read as if the program had aborted itself."""
    return text.replace(_ABORTED, "No end within the time limit; where it was:")


def _answers(data: bytes) -> Told:
    """Read `name TAB kind TAB value` lines; what cannot be read is left out."""
    told: Told = {}
    for line in data.decode("utf-8", "replace").split("\n"):
        name, _, rest = line.partition("\t")
        kind, separator, value = rest.partition("\t")
        if not separator or not name:
            continue
        try:
            if kind == "f":
                told[name] = value == "True"
            elif kind == "n":
                told[name] = float(value) if not value.lstrip("-").isdigit() else int(value)
            else:
                told[name] = value
        except ValueError:
            continue
    return told
