"""Control groups → what this process is allowed: memory, CPU time and tasks, in version 1 and 2, through all levels."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from msgspec import Struct

from diagnose.sources import proc

UNLIMITED = 1 << 60
"""Version 1 writes a huge number where there is no limit."""
DEEPEST = 32


class Group(Struct, frozen=True):
    """One controller's place: the folders from the process's own group up to what can be seen, and the version."""

    folders: tuple[str, ...]
    version: int


class Memory(Struct, frozen=True):
    """The memory limits that hold for this process, in bytes; None where there is none or it is not told.

    `limit` is the smallest of all levels, `free` the least room that a level has left (what the kernel can take back
    from its file cache counts as free), `kills` how often the out-of-memory killer struck in the group, `hits` how often
    a limit was met, of all levels together.
    """

    limit: int | None = None
    used: int | None = None
    free: int | None = None
    kills: int | None = None
    hits: int | None = None


def version(root: str) -> str:
    """`1`, `2`, or `none`: the version that manages memory here."""
    group = find(root, "memory")
    return str(group.version) if group else "none"


def find(root: str, controller: str, process: str = "self") -> Group | None:
    """Where a controller's files for a process (by its number; else this one) lie, or None if there are none."""
    paths = _paths(proc.text(root, f"/proc/{process}/cgroup") or "")
    mounts = list(_mounts(proc.text(root, "/proc/self/mountinfo") or ""))
    for kind, options, top, point in mounts:
        if kind == "cgroup" and controller in options and controller in paths:
            return Group(_levels(root, top, point, paths[controller]), 1)
    for kind, _, top, point in mounts:
        if kind == "cgroup2" and "" in paths:
            group = Group(_levels(root, top, point, paths[""]), 2)
            if any(controller in _controllers(root, folder) for folder in group.folders):
                return group
    return None


def _controllers(root: str, folder: str) -> list[str]:
    return proc.word(root, f"{folder}/cgroup.controllers").split()


def _paths(listing: str) -> dict[str, str]:
    """Controller → path of this process in its hierarchy; version 2 has the empty name."""
    found: dict[str, str] = {}
    for line in listing.splitlines():
        _, _, rest = line.partition(":")
        controllers, told, path = rest.partition(":")
        if told:
            for controller in controllers.split(","):
                found.setdefault(controller, path.strip())
    return found


def _mounts(mountinfo: str) -> Iterator[tuple[str, list[str], str, str]]:
    """(type, options of the file system, root within it, mount point) of each mount of control groups."""
    for line in mountinfo.splitlines():
        left, told, right = line.partition(" - ")
        if told and right.startswith("cgroup"):
            before, after = left.split(), right.split()
            if len(before) >= 5 and len(after) >= 3:
                yield after[0], after[2].split(","), unescape(before[3]), unescape(before[4])


def unescape(path: str) -> str:
    r"""A path of the mount table, where blanks are written as \040."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def _levels(root: str, top: str, point: str, path: str) -> tuple[str, ...]:
    """The folders from the process's group up to the mount point.

    In a container the path may be told as the host sees it: then what is mounted is the group itself.
    """
    inner = path[len(top) :] if top != "/" and path.startswith(top) else path
    folder = os.path.normpath(f"{point}/{inner.lstrip('/')}") if ".." not in inner.split("/") else point
    if not os.path.isdir(proc.at(root, folder)):
        folder = point
    levels = [folder]
    while levels[-1] != point and len(levels) < DEEPEST and levels[-1].startswith(point):
        levels.append(os.path.dirname(levels[-1]))
    return tuple(levels)


def memory(root: str) -> Memory | None:
    """What the memory controller says, or None if there is none."""
    group = find(root, "memory")
    return memory_in(root, group) if group is not None else None


def memory_in(root: str, group: Group) -> Memory:
    """What the memory controller says of one group."""
    limits: list[int] = []
    room: list[int] = []
    for folder in group.folders:
        limit = _limit(root, folder, group.version)
        if limit is not None:
            limits.append(limit)
            used = _used(root, folder, group.version)
            if used is not None:
                room.append(max(limit - used, 0))
    own = group.folders[0]
    return Memory(
        min(limits) if limits else None,
        _used(root, own, group.version),
        min(room) if room else None,
        _kills(root, own, group.version),
        _hits(root, group),
    )


def _limit(root: str, folder: str, version: int) -> int | None:
    told = [proc.number(root, f"{folder}/{'memory.max' if version == 2 else 'memory.limit_in_bytes'}")]
    if version == 1:  # the limit of levels that cannot be seen from inside a container
        stat = proc.fields(proc.text(root, f"{folder}/memory.stat") or "", " ")
        told.append(proc.whole(stat.get("hierarchical_memory_limit", "")))
    limits = [limit for limit in told if limit is not None and 0 <= limit < UNLIMITED]
    return min(limits) if limits else None


def _used(root: str, folder: str, version: int) -> int | None:
    """What is in use and cannot simply be taken back: without the cache of files (weights that were read count there)."""
    used = proc.number(root, f"{folder}/{'memory.current' if version == 2 else 'memory.usage_in_bytes'}")
    if used is None:
        return None
    stat = proc.fields(proc.text(root, f"{folder}/memory.stat") or "", " ")
    head = "" if version == 2 else "total_"
    cache = sum(proc.whole(stat.get(f"{head}{part}_file", "")) or 0 for part in ("inactive", "active"))
    return max(used - cache, 0)


def _kills(root: str, folder: str, version: int) -> int | None:
    name = "memory.events" if version == 2 else "memory.oom_control"
    return proc.whole(proc.fields(proc.text(root, f"{folder}/{name}") or "", " ").get("oom_kill", ""))


def _hits(root: str, group: Group) -> int | None:
    """How often a limit of any level was met: each level counts its own."""
    found = [_hits_at(root, folder, group.version) for folder in group.folders]
    known = [hits for hits in found if hits is not None]
    return sum(known) if known else None


def _hits_at(root: str, folder: str, version: int) -> int | None:
    if version == 1:
        return proc.number(root, f"{folder}/memory.failcnt")
    return proc.whole(proc.fields(proc.text(root, f"{folder}/memory.events") or "", " ").get("max", ""))


def cpu_quota(root: str) -> float | None:
    """How many CPUs' worth of time the group may use, the smallest of all levels; None without a limit."""
    group = find(root, "cpu")
    if group is None:
        return None
    found = [quota for folder in group.folders if (quota := _quota(root, folder, group.version)) is not None]
    return min(found) if found else None


def _quota(root: str, folder: str, version: int) -> float | None:
    if version == 2:
        return quota_of(proc.word(root, f"{folder}/cpu.max"))
    return quota_of(f"{proc.word(root, f'{folder}/cpu.cfs_quota_us')} {proc.word(root, f'{folder}/cpu.cfs_period_us')}")


def quota_of(line: str) -> float | None:
    """`150000 100000` → 1.5; None for `max`, -1, or anything else."""
    parts = line.split()
    if len(parts) != 2:
        return None
    quota, period = proc.whole(parts[0]), proc.whole(parts[1])
    return round(quota / period, 2) if quota is not None and period and quota > 0 and period > 0 else None


def tasks(root: str) -> tuple[int, int] | None:
    """(most, now) of the level that has the fewest tasks left; None if tasks are not limited."""
    group = find(root, "pids")
    found = []
    for folder in group.folders if group else ():
        most, now = proc.number(root, f"{folder}/pids.max"), proc.number(root, f"{folder}/pids.current")
        if most is not None and now is not None:
            found.append((most, now))
    return min(found, key=lambda pair: pair[0] - pair[1]) if found else None
