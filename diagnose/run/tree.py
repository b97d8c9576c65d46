"""The processes of a command, read from /proc: who descends from whom, what they hold, and which rank they are."""

from __future__ import annotations

import fcntl
import os
import re
import struct
from collections.abc import Iterable, Mapping
from functools import cache

from msgspec import Struct

MOST_PROCESSES = 4096
"""How many processes of one command are looked at."""
MOST_ENVIRON = 1 << 20
VARIABLES = (
    "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID",
    "TORCHELASTIC_ERROR_FILE", "TORCHELASTIC_RESTART_COUNT",
)  # fmt: skip
"""The only variables of other processes that are looked at."""
RANKS = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")

_PYTHON = re.compile(r"python[\d.]*")
_GET_INFO = 0xC0000000 | (64 << 16) | (0xFF << 8) | 11
_EXIT = 1 << 3
"""PIDFD_GET_INFO with PIDFD_INFO_EXIT, of Linux 6.15: how a process ended, even after its parent was told."""


class Process(Struct, frozen=True):
    """A process at one moment. `start` is when it started, in ticks: with the pid it names one process for good."""

    pid: int
    parent: int
    name: str
    state: str
    ticks: int
    start: int


def processes() -> dict[int, Process]:
    """All processes that are to be seen from here, by their number."""
    found: dict[int, Process] = {}
    try:
        with os.scandir("/proc") as entries:
            names = [entry.name for entry in entries if entry.name.isdigit()]
    except OSError:
        return found
    for name in names:
        one = process(int(name))
        if one is not None:
            found[one.pid] = one
    return found


def process(pid: int) -> Process | None:
    """One process, or None if it is gone. A process that was ended and not yet asked for by its parent has state Z."""
    text = _read(f"/proc/{pid}/stat", 4096)
    before, told, after = text.rpartition(b")")
    fields = after.split()
    if not told or len(fields) < 20:
        return None
    name = before.partition(b"(")[2].decode("utf-8", "replace")
    return Process(
        pid,
        int(fields[1]),
        name,
        fields[0].decode("ascii", "replace"),
        int(fields[11]) + int(fields[12]),
        int(fields[19]),
    )


def descendants(all_of_them: Mapping[int, Process], roots: Iterable[int]) -> list[Process]:
    """The roots and all that descends from them, parents before children."""
    children: dict[int, list[int]] = {}
    for one in all_of_them.values():
        children.setdefault(one.parent, []).append(one.pid)
    found: list[Process] = []
    seen: set[int] = set()
    waiting = [pid for pid in roots if pid in all_of_them]
    while waiting and len(found) < MOST_PROCESSES:
        pid = waiting.pop(0)
        if pid in seen:
            continue
        seen.add(pid)
        found.append(all_of_them[pid])
        waiting += children.get(pid, ())
    return found


def variables(pid: int) -> dict[str, str]:
    """The variables of VARIABLES with which a process was started; empty if they may not be read."""
    found: dict[str, str] = {}
    for entry in _read(f"/proc/{pid}/environ", MOST_ENVIRON).split(b"\0"):
        name, told, value = entry.partition(b"=")
        if told and name.decode("ascii", "replace") in VARIABLES:
            found[name.decode()] = value.decode("utf-8", "replace")[:4096]
    return found


def interpreter(pid: int) -> str:
    """The Python that a process runs in, as it was called: `/env/bin/python`, or `python`; empty for another program.

    Not where its link leads: a virtual environment's Python is a link.
    """
    called = _read(f"/proc/{pid}/cmdline", 4096).partition(b"\0")[0].decode("utf-8", "replace")
    return called if _PYTHON.fullmatch(os.path.basename(called)) else ""


def rank_of(environ: Mapping[str, str]) -> str:
    """The rank that a process's variables tell; empty if none."""
    return next((environ[name] for name in RANKS if environ.get(name, "").isdigit()), "")


def resident(pid: int) -> tuple[int, int]:
    """What a process has in memory of its own, and what it may share with others (files, shared memory), in bytes."""
    fields = _read(f"/proc/{pid}/statm", 256).split()
    if len(fields) < 3:
        return 0, 0
    whole, shared = int(fields[1]), int(fields[2])
    return max(whole - shared, 0) * _page(), shared * _page()


def written_and_read(pid: int) -> tuple[int, int]:
    """Bytes that a process has had written to disks and read from them; 0 where that may not be read."""
    told = {"write_bytes": 0, "read_bytes": 0}
    for line in _read(f"/proc/{pid}/io", 1024).split(b"\n"):
        name, _, value = line.partition(b":")
        key = name.decode("ascii", "replace")
        if key in told and value.strip().isdigit():
            told[key] = int(value)
    return told["write_bytes"], told["read_bytes"]


def open_files(pid: int) -> int:
    """How many files a process has open; 0 if that may not be read."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def limits(pid: int) -> dict[str, int]:
    """The soft limits of a process that are set, by their short names: nofile, as, fsize …"""
    from diagnose.sources.host import limits_of

    listing = _read(f"/proc/{pid}/limits", 8192).decode("ascii", "replace")
    return {name: soft for name, (soft, _) in limits_of(listing).items() if soft is not None}


def how_it_ended(handle: int, pid: int) -> int | None:
    """The wait status of a process that has ended, by its pidfd; None if nobody tells it.

    Linux tells it since 6.15; before, only until its parent has asked.
    """
    told = bytearray(64)
    struct.pack_into("Q", told, 0, _EXIT)
    try:
        fcntl.ioctl(handle, _GET_INFO, told)
        if struct.unpack_from("Q", told)[0] & _EXIT:
            return int(struct.unpack_from("i", told, 60)[0])
    except OSError:
        pass
    fields = _read(f"/proc/{pid}/stat", 4096).rpartition(b")")[2].split()
    if len(fields) > 49 and fields[0] in (b"Z", b"X"):
        return int(fields[49])
    return None


def ticks_per_second() -> int:
    """In what unit the kernel counts the time of processes."""
    return os.sysconf("SC_CLK_TCK")


@cache
def _page() -> int:
    return os.sysconf("SC_PAGE_SIZE")


def _read(path: str, most: int) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        parts = []
        while most > 0:
            part = os.read(handle, min(most, 1 << 16))
            if not part:
                break
            parts.append(part)
            most -= len(part)
        return b"".join(parts)
    except OSError:  # it has ended meanwhile
        return b""
    finally:
        os.close(handle)
