"""Follows a command from its start to its end: hands output, keys and signals through, and keeps what the witnesses tell.

All of it is one loop over what is ready. Nothing is read of the command's output while its reader has not taken what was
read before, so a slow reader slows the command down as it would without us.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import stat
import termios
import time
from collections.abc import Callable

import msgspec
from msgspec import Struct

from diagnose.run import tree
from diagnose.run.curve import Curve
from diagnose.run.kept import Kept, Line
from diagnose.run.messages import Ended, Gpus, Interpreter, KernelMark, Looked, Message, Rank, Said, Sample
from diagnose.run.progress import Progress
from diagnose.run.signals import TO_HAND_ON, Arrived, Signals, name_of, process_name
from diagnose.run.start import Route, Started
from diagnose.run.terminal import Terminal, key_of, makes_signals, set_size
from diagnose.run.witness import Witness

CHUNK = 1 << 16
AT_ONCE = 4096
"""How many bytes a pipe or terminal that is ready takes without making us wait (PIPE_BUF)."""
QUIET_GOOD, QUIET_BAD, LONGEST = 0.05, 0.4, 3.0
"""Seconds without output after which a command that has ended said its last, though others hold its output: after a good
end, after a bad one, and at most."""
FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)
MOST_TEXTS = 64
SUSPENDED = 30.0
"""A pause of our own so long is not counted as a hang of the command."""


class Passed(Struct, frozen=True):
    """A signal that was handed on: its name, who sent it (empty: not to be seen), and when in seconds since the start."""

    name: str
    sender: str
    pid: int
    at: float


class Followed(Struct, eq=False):
    """What came of a command: its wait status (None: it is still there), how long it ran, and what was seen of it."""

    status: int | None = None
    seconds: float = 0.0
    curve: Curve = msgspec.field(default_factory=Curve)
    passed: list[Passed] = []
    interrupted_at: float | None = None
    ended_by_us: bool = False
    output_lost: bool = False
    reader_gone: bool = False
    ranks: dict[int, Rank] = {}
    ended: list[Ended] = []
    said: list[Said] = []
    hang: Looked | None = None
    kernel_mark: float | None = None
    python: Interpreter | None = None


class Hang(Struct, frozen=True):
    """What is to be done where a command does not get on: after how many seconds, whether to end it, and with what grace."""

    seconds: float
    end: bool
    grace: float


class _Pipe(Struct, eq=False):
    """A stream of the command on its way to ours."""

    route: Route
    line: Line
    plain: bool
    ready: select.poll
    waiting: memoryview = memoryview(b"")
    open: bool = True
    gone: bool = False


class Follow:
    """The loop. `report_hang` starts to look into a hang and gives back a witness whose end says that it is done."""

    def __init__(
        self,
        started: Started,
        kept: Kept,
        signals: Signals,
        began: float,
        progress: Progress,
        hang: Hang | None = None,
        report_hang: Callable[[Followed], Witness] | None = None,
        looked: Callable[[Looked], None] = lambda looked: None,
    ) -> None:
        self.seen = Followed()
        self._started, self._kept, self._signals, self._began = started, kept, signals, began
        self._pipes = [
            _Pipe(route, Line(), stat.S_ISREG(os.fstat(route.target).st_mode), _poll_of(route.target))
            for route in started.routes
        ]
        shown = next((route.target for route in started.routes if route.terminal), 0)
        self._terminal = Terminal(0 if started.typed else shown)
        self._keys = b""
        self._typing = started.typed
        self._witnesses: list[Witness] = []
        self._progress, self._hang, self._report_hang, self._looked = progress, hang, report_hang, looked
        self._reporter: Witness | None = None
        self._reported = False
        self._kill_at = 0.0
        self._ticked = 0.0
        self._last_output = began
        self.left_open: list[Route] = []
        """Streams that others still hold when the command has ended."""

    def witness(self, witness: Witness) -> None:
        """Read what a witness tells."""
        self._witnesses.append(witness)

    @property
    def raw(self) -> bool:
        """Whether the terminal is raw at the moment, so that lines need a return before their end."""
        return self._terminal.raw

    def run(self) -> Followed:
        """Follow to the end. The terminal is given back whatever happens."""
        try:
            if self._typing:
                self._terminal.make_raw()
                self._typing = self._terminal.raw
            self._loop()
        finally:
            self._terminal.give_back()
        for pipe in self._pipes:
            self._kept.finish(pipe.line)
        return self.seen

    def _now(self) -> float:
        return time.monotonic() - self._began

    # -- the loop ------------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        ended_at = 0.0
        self._reap()
        while True:
            over = self.seen.status is not None
            if over and not ended_at:
                ended_at = time.monotonic()
                self._last_output = ended_at
            if over and not any(pipe.waiting for pipe in self._pipes) and self._is_quiet(ended_at):
                self.left_open = [pipe.route for pipe in self._pipes if pipe.open]
                return
            for handle in self._ready(0.02 if over else self._pause()):
                self._take(handle)
            if not over:
                self._tick()

    def _is_quiet(self, ended_at: float) -> bool:
        """Whether the command that has ended said its last."""
        if not any(pipe.open for pipe in self._pipes):
            return True
        now = time.monotonic()
        quiet = QUIET_GOOD if self.seen.status == 0 else QUIET_BAD
        return now - self._last_output >= quiet or now - ended_at >= LONGEST

    def _pause(self) -> float | None:
        """How long to wait at most; for ever where nothing is due."""
        if self._hang is None and not self._kill_at:
            return None
        return 0.5 if self._kill_at or (self._hang and self._hang.seconds < 10) else 1.0

    def _ready(self, pause: float | None) -> list[int]:
        poll = select.poll()
        poll.register(self._signals.handle, select.POLLIN)
        for pipe in self._pipes:
            if pipe.waiting:
                poll.register(pipe.route.target, select.POLLOUT)
            elif pipe.open:
                poll.register(pipe.route.source, select.POLLIN)
        for witness in self._all_witnesses():
            poll.register(witness.pipe, select.POLLIN)
        if self._typing and not self._keys:
            poll.register(0, select.POLLIN)
        if self._keys and self._started.master >= 0:
            poll.register(self._started.master, select.POLLIN | select.POLLOUT)
        return [handle for handle, _ in poll.poll(None if pause is None else pause * 1000)]

    def _all_witnesses(self) -> list[Witness]:
        more = [self._reporter] if self._reporter is not None else []
        return [witness for witness in (*self._witnesses, *more) if not witness.done]

    def _take(self, handle: int) -> None:
        if handle == self._signals.handle:
            for arrived in self._signals.arrived():
                self._signal(arrived)
            return
        if handle == 0 and self._typing:
            self._read_keys()
            return
        if handle == self._started.master and self._keys:
            self._send_keys()
        for witness in self._all_witnesses():
            if handle == witness.pipe:
                self._hear(witness)
                return
        for pipe in self._pipes:
            if pipe.waiting and handle == pipe.route.target:
                self._write(pipe)
            elif not pipe.waiting and pipe.open and handle == pipe.route.source:
                self._read(pipe)

    # -- output --------------------------------------------------------------------------------------------------------

    def _read(self, pipe: _Pipe) -> None:
        try:
            data = os.read(pipe.route.source, CHUNK)
        except BlockingIOError:
            return
        except OSError as error:  # EIO: nobody has the terminal open any more
            if error.errno == errno.EINTR:
                return
            data = b""
        if not data:
            pipe.open = False
            return
        self._last_output = time.monotonic()
        self._kept.take(data, pipe.line)
        if self._hang is not None:
            self._progress.said(data)
        if not pipe.gone:
            pipe.waiting = memoryview(data)
            self._write(pipe)

    def _write(self, pipe: _Pipe) -> None:
        """Write as much as the reader takes without making us wait."""
        while pipe.waiting and (pipe.plain or pipe.ready.poll(0)):
            try:
                done = os.write(pipe.route.target, pipe.waiting if pipe.plain else pipe.waiting[:AT_ONCE])
            except BlockingIOError:
                return
            except OSError as error:
                pipe.waiting = memoryview(b"")
                self._lost(pipe, error)
                return
            pipe.waiting = pipe.waiting[done:]

    def _lost(self, pipe: _Pipe, error: OSError) -> None:
        """Our reader has gone: so has the command's, who is told as it would be without us. Else only output is lost."""
        if error.errno in (errno.EPIPE, errno.EIO, errno.ENXIO) and not pipe.route.terminal:
            pipe.open, pipe.gone = False, True
            os.close(pipe.route.source)
            self.seen.reader_gone = True
        elif error.errno in (errno.EIO, errno.ENXIO):
            pipe.gone = True
            self.seen.reader_gone = True
            self._send(signal.SIGHUP, True)
        else:
            self.seen.output_lost = True

    # -- keys ----------------------------------------------------------------------------------------------------------

    def _read_keys(self) -> None:
        try:
            data = os.read(0, AT_ONCE)
        except OSError:
            data = b""
        if not data:
            self._typing = False
            return
        master = self._started.master
        if makes_signals(master, termios.VINTR) and key_of(master, termios.VINTR) in data:
            self.seen.interrupted_at = self._now()
        stop = key_of(master, termios.VSUSP)
        if stop and stop in data and makes_signals(master, termios.VSUSP):
            data = data.replace(stop, b"")
            self._stop_all()
        self._keys += data
        self._send_keys()

    def _send_keys(self) -> None:
        if not self._keys:
            return
        try:
            done = os.write(self._started.master, self._keys)
        except BlockingIOError:
            return
        except OSError:
            done = len(self._keys)
        self._keys = self._keys[done:]

    def _stop_all(self) -> None:
        """Ctrl-Z: the command stops, then we do; our shell goes on with both. Without a shell nobody could."""
        if not _has_shell():
            return
        self._send(signal.SIGTSTP, True)
        self._send(signal.SIGSTOP, True)
        self._stop_ourselves()

    def _stop_ourselves(self) -> None:
        """Stop with the command until our shell goes on; that time is no hang."""
        raw = self._terminal.raw
        self._terminal.give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        if raw:  # we are back in the foreground, or in the background
            self._terminal.make_raw()
            self._typing = self._terminal.raw
        self._resize()
        self._send(signal.SIGCONT, True)
        self._progress.at = self._now()

    # -- signals -------------------------------------------------------------------------------------------------------

    def _signal(self, arrived: Arrived) -> None:
        number = arrived.number
        if number == signal.SIGCHLD:
            self._reap()
        elif number == signal.SIGWINCH:
            self._resize()
        elif number == signal.SIGTSTP:
            if not (self._started.in_group and not arrived.by_process):
                self._send(signal.SIGTSTP, True)
            if _has_shell():
                self._stop_ourselves()
        elif number == signal.SIGCONT:
            if self._started.typed and not self._terminal.raw:
                self._terminal.make_raw()
                self._typing = self._terminal.raw
            self._send(signal.SIGCONT, True)
        elif number in TO_HAND_ON:
            if number == signal.SIGINT:
                self.seen.interrupted_at = self._now()
            sender = arrived.sender if arrived.by_process else 0
            if len(self.seen.passed) < MOST_TEXTS and number not in self._signals.ignored:
                self.seen.passed.append(Passed(name_of(number), process_name(sender), sender, round(self._now(), 3)))
            if arrived.by_process or not self._started.in_group:  # else it has had it, as all of our group
                self._send(number, number in FROM_TERMINAL and not arrived.by_process)

    def _send(self, number: int, to_group: bool) -> None:
        """To the command; to its whole group what a terminal sends to a group."""
        if self.seen.status is not None:
            return
        try:
            (os.killpg if to_group and not self._started.in_group else os.kill)(self._started.pid, number)
        except (ProcessLookupError, PermissionError):
            pass

    def _resize(self) -> None:
        if self._started.master >= 0:
            set_size(self._started.master, self._terminal.size())

    def _reap(self) -> None:
        """Take the ends of all processes that are ours to take: the command, and what it left to us."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid != self._started.pid:
                continue
            self.seen.status = status
            self.seen.seconds = round(self._now(), 3)

    # -- witnesses and hangs -------------------------------------------------------------------------------------------

    def _hear(self, witness: Witness) -> None:
        try:
            for message in witness.messages():
                self.hear(message)
        except Exception:  # whatever is wrong with a witness: the command is not to feel it
            witness.end()

    def hear(self, message: Message) -> None:
        """Keep what a witness tells."""
        if isinstance(message, Looked):
            self.seen.hang = message
            self._looked(message)
        elif isinstance(message, Sample):
            self.seen.curve.take(message)
            self._progress.saw(message)
        elif isinstance(message, Interpreter):
            if self.seen.python is None or (message.of_rank and not self.seen.python.of_rank):
                self.seen.python = message
        elif isinstance(message, KernelMark):
            self.seen.kernel_mark = message.time
        elif isinstance(message, Gpus):
            self.seen.curve.take_gpus(message)
        elif isinstance(message, Rank):
            self.seen.ranks.pop(message.pid, None)
            if message.rank:
                self.seen.ranks[message.pid] = message
        elif isinstance(message, Said):
            if len(self.seen.said) < MOST_TEXTS:
                self.seen.said.append(message)
        elif isinstance(message, Ended):
            telling = message.main or message.rank or (message.status and os.WIFSIGNALED(message.status))
            if telling and len(self.seen.ended) < tree.MOST_PROCESSES:
                self.seen.ended.append(message)

    def _tick(self) -> None:
        """What is due: a hang to be looked into, a command to be ended."""
        now = self._now()
        if now - self._ticked > SUSPENDED:  # a scheduler stopped all of us, or the machine was busy beyond measure
            self._progress.at += now - self._ticked
        self._ticked = now
        if self._kill_at and now >= self._kill_at:
            self._kill_all()
            self._kill_at = now + 1.0
        if self._hang is None:
            return
        still = self._progress.look(now)
        if self._reporter is not None and self._reporter.done:
            self._reporter.end()
            self._reporter = None
            if self._hang.end:
                self.end_command()
        if still < self._hang.seconds:
            if self._reported and self._reporter is None and not self.seen.ended_by_us:
                self._reported = False
                self._report_hang = None  # once a run: it was slow, and did not hang
                self.seen.hang = None
        elif not self._reported and self._report_hang is not None:
            self._reported = True
            self._reporter = self._report_hang(self.seen)

    def end_command(self) -> None:
        """End the command by our own wish: SIGTERM, and SIGKILL to all that is left of it when the grace is over."""
        if self.seen.status is None and not self.seen.ended_by_us:
            self.seen.ended_by_us = True
            self._send(signal.SIGCONT, True)
            self._send(signal.SIGTERM, True)
            self._kill_at = self._now() + (self._hang.grace if self._hang else 0.0)

    def _kill_all(self) -> None:
        for one in reversed(tree.descendants(tree.processes(), [self._started.pid])):
            try:
                os.kill(one.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass


def _poll_of(handle: int) -> select.poll:
    poll = select.poll()
    poll.register(handle, select.POLLOUT)
    return poll


def _has_shell() -> bool:
    """Whether somebody with job control started us, who can wake us up again: our group is not an orphan."""
    try:
        return os.getpgid(os.getppid()) != os.getpgrp() and os.getsid(os.getppid()) == os.getsid(0)
    except OSError:
        return False
