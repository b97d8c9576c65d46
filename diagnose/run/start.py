"""Starts the command as a shell would: streams that are terminals stay terminals, others stay apart, and signals mean the same.

Where both input and output are our terminal, the command gets a terminal and a session of its own, and we hand keys through.
In a pipeline (`… | tee log`) keys may be meant for others: there it stays in our process group and keeps our terminal as its
input; a terminal without a session stands for those of its outputs that are one. Without any terminal it gets a process group
of its own.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import struct
import termios
import warnings
from collections.abc import Sequence

from msgspec import Struct

from diagnose.run.terminal import Terminal, set_size

NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""The exit codes with which a shell says that it could not start a command."""
_FIRST_FREE = 3


class Streams(Struct, frozen=True):
    """What our own three streams are: closed, a terminal, or something else; and whether output and errors go to one place."""

    closed: tuple[bool, bool, bool]
    terminal: tuple[bool, bool, bool]
    together: bool

    @property
    def has_keys(self) -> bool:
        """Whether what is typed is for the command, and nobody else in a pipeline reads it."""
        return self.terminal[0] and self.terminal[1]

    @property
    def shows(self) -> bool:
        """Whether something is shown on a terminal."""
        return self.terminal[1] or self.terminal[2]

    @property
    def in_group(self) -> bool:
        """Whether the command stays in our process group: what the terminal sends to the group reaches it by itself."""
        return any(self.terminal) and not self.has_keys


class Route(Struct, frozen=True):
    """A stream of the command: our end of it, which of our own streams it goes to, and whether it is the terminal."""

    source: int
    target: int
    terminal: bool = False


class Started(Struct, frozen=True):
    """A command that runs: its process (also its group), its streams, and its terminal (-1: none).

    `typed` says that our standard input is a terminal, whose keys are handed on; `in_group` that it is in our process group.
    """

    pid: int
    routes: tuple[Route, ...]
    master: int = -1
    typed: bool = False
    in_group: bool = False


class StartError(Exception):
    """The command could not be started: the exit code that a shell would give, why in a word, and in a sentence."""

    def __init__(self, code: int, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code, self.reason, self.sentence = code, reason, sentence


def streams() -> Streams:
    """Look at our own streams. Those that are closed are opened on nothing, so that no file of ours gets their numbers."""
    closed: list[bool] = []
    places: list[tuple[int, int] | None] = []
    for handle in range(_FIRST_FREE):
        try:
            told = os.fstat(handle)
            places.append((told.st_dev, told.st_ino))
            closed.append(False)
        except OSError:
            places.append(None)
            closed.append(True)
            os.dup2(os.open(os.devnull, os.O_RDWR), handle)
    terminal = tuple(not closed[handle] and os.isatty(handle) for handle in range(_FIRST_FREE))
    together = places[1] is not None and places[1] == places[2]
    return Streams((closed[0], closed[1], closed[2]), (terminal[0], terminal[1], terminal[2]), together)


def path_of(command: str, path: str | None) -> str:
    """The file that a command names, looked for as a shell does. Raises StartError if there is none that can be run."""
    if not command:
        raise StartError(NOT_FOUND, "not-found", "the command is an empty word")
    if "/" in command:
        candidates = [command]
    else:
        folders = (path if path is not None else os.defpath).split(os.pathsep)
        candidates = [os.path.join(folder or ".", command) for folder in folders]
    refused = ""
    for candidate in candidates:
        try:
            mode = os.stat(candidate).st_mode
        except (OSError, ValueError):
            continue
        if stat.S_ISDIR(mode):
            if "/" in command:
                raise StartError(NOT_EXECUTABLE, "folder", f"{command}: is a folder")
        elif os.access(candidate, os.X_OK):
            return candidate
        else:
            refused = refused or candidate
    if refused:
        raise StartError(
            NOT_EXECUTABLE, "not-executable", f"{refused}: permission denied; it is not executable (chmod +x)"
        )
    where = "no such file" if "/" in command else "command not found; is the environment that has it activated?"
    raise StartError(NOT_FOUND, "not-found", f"{command}: {where}")


def start(
    file: str, command: Sequence[str], ours: Streams, mask: set[int | signal.Signals], interrupts_ignored: bool
) -> Started:
    """Start the command. Raises StartError with a sentence if the system refuses it.

    `mask` are the signals that were blocked before we took them; `interrupts_ignored` whether we were started with SIGINT
    ignored, as what a script puts into the background is.
    """
    master, slave = _terminal(ours) if ours.shows else (-1, -1)
    output = errors = (-1, -1)
    if not ours.closed[1] and not ours.terminal[1]:
        output = os.pipe()
    if not ours.closed[2] and not ours.terminal[2]:
        errors = output if ours.together and output[1] >= 0 else os.pipe()
    told = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        inside = (
            _end(ours, 0, slave, -1),
            _end(ours, 1, slave, output[1]),
            _end(ours, 2, slave, errors[1]),
        )
        _become(file, command, inside, ours, slave, told[1], mask, interrupts_ignored)
    for handle in {slave, output[1], errors[1], told[1]} - {-1}:
        os.close(handle)
    refused = _refused(told[0])
    if refused:
        os.waitpid(pid, 0)
        for handle in {master, output[0], errors[0]} - {-1}:
            os.close(handle)
        raise _why(refused, file)
    routes = [Route(output[0], 1)] if output[0] >= 0 else []
    routes += [Route(errors[0], 2)] if errors[0] >= 0 and errors != output else []
    if master >= 0:
        shown = next(handle for handle in (1, 2) if ours.terminal[handle])
        routes.append(Route(master, shown, True))
    for route in routes:
        os.set_blocking(route.source, False)
    return Started(pid, tuple(routes), master, ours.has_keys, ours.in_group)


def _terminal(ours: Streams) -> tuple[int, int]:
    """A terminal for the command, set and sized like ours; the ends that we and it hold."""
    mine = Terminal(1 if ours.terminal[1] else 2)
    master, slave = os.openpty()
    settings = mine.settings()
    if settings is not None:
        if not ours.has_keys:  # ours is not raw then, and does itself what is done to output
            settings[1] &= ~termios.OPOST
        try:
            termios.tcsetattr(slave, termios.TCSANOW, settings)
        except (OSError, termios.error):
            pass
    set_size(slave, mine.size())
    return master, slave


def _end(ours: Streams, handle: int, slave: int, pipe: int) -> int:
    """What becomes the command's stream: the terminal, a pipe, our own (-1), or nothing (-2)."""
    if ours.closed[handle]:
        return -2
    if handle == 0:
        return slave if ours.has_keys else -1
    return slave if ours.terminal[handle] else pipe


def _become(
    file: str,
    command: Sequence[str],
    inside: tuple[int, int, int],
    ours: Streams,
    slave: int,
    told: int,
    mask: set[int | signal.Signals],
    interrupts_ignored: bool,
) -> None:
    """In the child: take the streams, and become the command. Never returns."""
    number = errno.EINVAL
    try:
        if ours.has_keys:
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        elif not ours.in_group:
            os.setpgid(0, 0)
        kept = [
            os.dup(handle) if handle >= 0 else handle for handle in inside
        ]  # above the three, before those are taken
        for handle, source in enumerate(kept):
            if source >= 0:
                os.dup2(source, handle)
            elif source == -2:
                os.close(handle)
        for number_ in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores, and a shell does not
            signal.signal(number_, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN if interrupts_ignored else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.execv(file, list(command))
    except OSError as error:
        number = error.errno or errno.EINVAL
    except ValueError:  # a NUL in a word
        number = errno.EINVAL
    finally:
        os.write(told, struct.pack("i", number))
        os._exit(NOT_FOUND)


def _refused(told: int) -> int:
    """The number of the error with which the command did not start; 0 if it did. The pipe closes when it starts."""
    try:
        data = os.read(told, 4)
    finally:
        os.close(told)
    return struct.unpack("i", data)[0] if len(data) == 4 else 0


def _why(number: int, file: str) -> StartError:
    if number == errno.ENOENT:  # the file is there: the interpreter that it names is not
        return StartError(
            NOT_FOUND,
            "no-interpreter",
            f"{file}: the interpreter that its first line (#!) or its header names is not there",
        )
    if number == errno.ENOEXEC:
        return StartError(
            NOT_EXECUTABLE, "no-format", f"{file}: is no program; a script needs a first line such as #!/bin/bash"
        )
    if number == errno.E2BIG:
        return StartError(NOT_EXECUTABLE, "too-long", f"{file}: arguments and environment are too long together")
    return StartError(NOT_EXECUTABLE, "refused", f"{file}: {os.strerror(number)}")
