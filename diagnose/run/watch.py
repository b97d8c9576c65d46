"""What the witness of a command does: looks at its processes and their memory now and then, and sees who ends first."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from diagnose.run import tree
from diagnose.run.messages import Ended, Interpreter, KernelMark, Rank, Said, Sample, Tell, least
from diagnose.run.results import files_in
from diagnose.run.tree import Process
from diagnose.run.witness import NAME
from diagnose.sources import cgroup, files, kernel, proc

FIRST, SLOWEST, TIGHT = 0.1, 5.0, 0.5
"""Seconds between two looks: at first, in the long run, and when memory runs short."""
SHARE = 100
"""A look costs at most one part in so many of the time until the next; ten times that while a command starts."""
STARTING = 10.0
MOST_HANDLES = 512
"""How many processes are waited for, so that their end is seen when it comes."""
MOST_GROUPS = 8
FILES_EVERY = 10.0
"""Seconds between two looks at the files of the results."""
MOST_ERROR_FILE = 1 << 18


class Watch:
    """Looks at the processes of a command. Runs in the witness."""

    def __init__(
        self, command: int, started: float, parent: int, folders: Sequence[str], results: Sequence[str] = ()
    ) -> None:
        """`folders` are those whose room is looked at, `results` those whose files are."""
        self._command, self._started, self._parent = command, started, parent
        self._folders, self._results = folders, results
        self._files_at = -FILES_EVERY
        self._results_before: dict[str, tuple[int, float]] | None = None
        self._known: dict[tuple[int, int], _Known] = {}
        self._handles: dict[int, _Known] = {}
        self._groups: dict[str, cgroup.Group] = {}
        self._interpreters: set[tuple[str, bool]] = set()
        self._before: dict[str, tuple[int, int]] = {}
        self._per_second = tree.ticks_per_second()
        self._cpu_at = 0.0
        self._space_limit = self._size_limit = -1

    def look(self, asked: int, tell: Tell) -> None:
        """Look until asked to end; tell what is seen."""
        newest = kernel.newest()
        if newest is not None:
            tell(KernelMark(newest))
        poll = select.poll()
        poll.register(asked, select.POLLIN | select.POLLHUP)
        pause = FIRST
        following = time.monotonic()
        while True:
            left = max(following - time.monotonic(), 0)
            for handle, _ in poll.poll(left * 1000):
                if handle == asked:
                    self._take_ends(tell)
                    tell(self._sample(poll, tell))
                    return
                self._ended(handle, poll, tell)
            if time.monotonic() >= following:
                began = time.monotonic()
                sample = self._sample(poll, tell)
                tell(sample)
                pause = min(pause * 1.25, SLOWEST)
                wanted = min(pause, TIGHT) if is_tight(sample) else pause
                cost = time.monotonic() - began
                following = time.monotonic() + max(wanted, cost * (SHARE if sample.at > STARTING else SHARE / 10))

    def _now(self) -> float:
        return round(time.monotonic() - self._started, 3)

    def _take_ends(self, tell: Tell) -> None:
        """Those that have ended and were not told yet."""
        if self._handles:
            poll = select.poll()
            for handle in self._handles:
                poll.register(handle, select.POLLIN)
            for handle, _ in poll.poll(0):
                self._ended(handle, None, tell)

    def _ended(self, handle: int, poll: select.poll | None, tell: Tell) -> None:
        known = self._handles.pop(handle)
        status = tree.how_it_ended(handle, known.pid)
        if poll is not None:
            poll.unregister(handle)
        os.close(handle)
        last = tree.process(known.pid)  # still there, until its parent has asked
        name = last.name if last is not None and last.state == "Z" else known.name
        tell(Ended(known.pid, name, self._now(), status, known.rank, known.pid == self._command))
        if known.error_file:
            text = _error_file(known.error_file)
            if text:
                tell(Said(known.rank, text))

    def _sample(self, poll: select.poll, tell: Tell) -> Sample:
        all_of_them = tree.processes()
        orphans = [
            one.pid
            for one in all_of_them.values()
            if one.parent == self._parent and one.pid != self._command and not self._is_ours(one)
        ]
        found = tree.descendants(all_of_them, [self._command, *orphans])
        sample = Sample(self._now(), len(found))
        self._meet(found, poll, tell)
        own = shared = ticks = 0
        for one in found:
            mine, common = tree.resident(one.pid)
            own, shared = own + mine, max(shared, common)
            known = self._known.get((one.pid, one.start))
            if known is None:
                continue
            ticks += one.ticks - known.ticks
            known.ticks = one.ticks
            written, read = tree.written_and_read(one.pid)
            sample.written += max(written - known.written, 0)
            sample.read += max(read - known.read, 0)
            known.written, known.read = max(written, known.written), max(read, known.read)
            self._files(one, known, sample)
        sample.memory = own + shared
        passed = sample.at - self._cpu_at
        sample.cpu = round(max(ticks, 0) / self._per_second / passed, 2) if passed > 0 else 0.0
        self._cpu_at = sample.at
        sample.space_limit, sample.size_limit = self._space_limit, self._size_limit
        self._machine(sample)
        self._control_groups(found, sample)
        if self._results and sample.at - self._files_at >= FILES_EVERY:
            self._files_at = sample.at
            files = files_in(self._results)
            sample.changed = self._results_before is not None and files != self._results_before
            self._results_before = files
        return sample

    def _is_ours(self, one: Process) -> bool:
        """Whether a child of who started us is a witness, and no process that the command left behind."""
        return one.pid == os.getpid() or one.name == NAME.decode()

    def _meet(self, found: Sequence[Process], poll: select.poll, tell: Tell) -> None:
        """Get to know the processes that are new, and wait for their end."""
        for one in found:
            key = (one.pid, one.start)
            known = self._known.get(key)
            if known is None:
                known = self._known[key] = _Known(one.pid, one.name)
                self._wait_for(known, poll)
            known.name = one.name
            if known.looks < 3:  # what has just been forked still has its parent's name and variables
                known.looks += 1
                known.environ = tree.variables(one.pid) or known.environ
                self._read_limits(one.pid)
                self._tell_interpreter(one.pid, bool(known.rank), tell)
        self._find_ranks(found, tell)
        if len(self._known) > 4 * tree.MOST_PROCESSES:
            there = {(one.pid, one.start) for one in found}
            self._known = {key: known for key, known in self._known.items() if key in there}

    def _wait_for(self, known: _Known, poll: select.poll) -> None:
        if len(self._handles) >= MOST_HANDLES:
            return
        try:
            handle = os.pidfd_open(known.pid)
        except OSError:  # it has ended, or the kernel is older than 5.3
            return
        self._handles[handle] = known
        poll.register(handle, select.POLLIN)

    def _tell_interpreter(self, pid: int, of_rank: bool, tell: Tell) -> None:
        called = tree.interpreter(pid)
        if called and (called, of_rank) not in self._interpreters and len(self._interpreters) < MOST_GROUPS:
            self._interpreters.add((called, of_rank))
            tell(Interpreter(called, of_rank))

    def _read_limits(self, pid: int) -> None:
        limits = tree.limits(pid)
        self._space_limit = least(self._space_limit, limits.get("as", -1))
        self._size_limit = least(self._size_limit, limits.get("fsize", -1))

    def _find_ranks(self, found: Sequence[Process], tell: Tell) -> None:
        """Of the processes that carry a rank in their variables, the topmost are the ranks; others are their helpers.

        Where launchers number the processes of a machine (LOCAL_RANK), a bare RANK is the number of the machine.
        """
        known = {one.pid: self._known[one.pid, one.start] for one in found}
        local = any("LOCAL_RANK" in item.environ for item in known.values())
        for one in found:
            item = known[one.pid]
            rank = tree.rank_of(item.environ)
            if item.rank and local and "LOCAL_RANK" not in item.environ:
                item.rank = ""  # it is the launcher: the ranks have come now
                tell(Rank(one.pid, ""))
                continue
            if item.rank or not rank or (local and "LOCAL_RANK" not in item.environ):
                continue
            above = known.get(one.parent)
            if above is not None and _same_rank(above.environ, item.environ, local):
                continue
            item.rank = rank
            item.error_file = item.environ.get("TORCHELASTIC_ERROR_FILE", "")
            world = item.environ.get("WORLD_SIZE", "")
            tell(Rank(one.pid, rank, item.environ.get("LOCAL_RANK", ""), int(world) if world.isdigit() else 0))

    def _files(self, one: Process, known: _Known, sample: Sample) -> None:
        """Every fourth look: open files are counted one by one."""
        known.turns += 1
        if known.turns % 4 == 1 or known.files_percent > 80:
            if not known.files_limit or known.files_percent > 50:
                known.files_limit = tree.limits(one.pid).get("nofile", 0)
            known.files = tree.open_files(one.pid)
            known.files_percent = 100 * known.files / known.files_limit if known.files_limit else 0.0
        best = 100 * sample.files / sample.files_limit if sample.files_limit else -1.0
        if known.files_percent > best:
            sample.files, sample.files_limit = known.files, known.files_limit

    def _machine(self, sample: Sample) -> None:
        from diagnose.sources.host import sizes

        known = sizes(proc.text("/", "/proc/meminfo") or "")
        sample.available, sample.total = known.get("MemAvailable", -1), known.get("MemTotal", -1)
        room = _room("/dev/shm") if os.path.ismount("/dev/shm") else None
        if room is not None:
            sample.shm_free, sample.shm_total = room
        for folder in self._folders:
            room = _room(folder)
            if room is not None:
                sample.disks[folder] = room

    def _control_groups(self, found: Sequence[Process], sample: Sample) -> None:
        """The control groups that the processes are in: the one with the least room, and what the killer did in all."""
        for one in (*found[:MOST_GROUPS], *found[-MOST_GROUPS:]):
            if len(self._groups) >= MOST_GROUPS:
                break
            known = self._known.get((one.pid, one.start))
            if known is None or known.grouped >= 3:
                continue
            known.grouped += 1
            group = cgroup.find("/", "memory", str(one.pid))
            if group is not None and group.folders[0] not in self._groups:
                self._groups[group.folders[0]] = group
                told = cgroup.memory_in("/", group)
                self._before[group.folders[0]] = (told.kills or 0, told.hits or 0)
        for folder, group in self._groups.items():
            told = cgroup.memory_in("/", group)
            kills, hits = self._before[folder]
            if told.kills is not None:
                sample.kills = max(sample.kills, 0) + max(told.kills - kills, 0)
            if told.hits is not None:
                sample.hits = max(sample.hits, 0) + max(told.hits - hits, 0)
            if told.limit is not None and told.free is not None and (sample.free < 0 or told.free < sample.free):
                sample.limit, sample.free = told.limit, told.free
                sample.used = told.limit - told.free


class _Known(Struct, eq=False):
    """A process that was met, and what was last seen of it."""

    pid: int
    name: str
    environ: dict[str, str] = {}
    looks: int = 0
    grouped: int = 0
    turns: int = 0
    ticks: int = 0
    written: int = 0
    read: int = 0
    files: int = 0
    files_limit: int = 0
    files_percent: float = 0.0
    rank: str = ""
    error_file: str = ""


def is_tight(sample: Sample) -> bool:
    """Whether memory runs short, of the machine or of the control group."""
    return (0 <= sample.available * 8 < sample.total) or (0 <= sample.free * 8 < sample.limit)


def _same_rank(above: dict[str, str], below: dict[str, str], local: bool) -> bool:
    if local:
        return above.get("LOCAL_RANK") == below.get("LOCAL_RANK")
    return tree.rank_of(above) == tree.rank_of(below)


def _room(folder: str) -> tuple[int, int] | None:
    """Free bytes that an ordinary user can take, and the size of the file system."""
    try:
        told = os.statvfs(folder)
    except OSError:
        return None
    return told.f_bavail * told.f_frsize, told.f_blocks * told.f_frsize


def _error_file(path: str) -> str:
    """The text that torchrun has a rank leave in its error file: the traceback, else the message."""
    try:
        told = msgspec.json.decode(files.read_bytes(path, MOST_ERROR_FILE) or b"")
    except ValueError:
        return ""
    message = told.get("message") if isinstance(told, dict) else None
    if isinstance(message, str):
        return message
    if not isinstance(message, dict):
        return ""
    extra = message.get("extraInfo")
    stack = extra.get("py_callstack") if isinstance(extra, dict) else None
    return str(stack or message.get("message") or "")
