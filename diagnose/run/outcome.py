"""What was seen of a run → the facts run.*: how it ended, who ended first, and what memory, disks and GPUs did meanwhile."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence

from diagnose.model import Fact
from diagnose.run.curve import Curve
from diagnose.run.follow import Followed, Passed
from diagnose.run.messages import Ended, Rank
from diagnose.run.signals import name_of
from diagnose.sources import kernel

ORIGIN = "the run"
SHELL = 128
"""What a shell adds to the number of the signal that ended a command."""
OVER_BY_TIME = 124
"""Our exit code where we ended a command that hung, as `timeout` has it."""
TIDY_SECONDS = 60.0
"""How long a command may take to end after Ctrl-C."""
NEARLY_FULL = 1 << 20
_LOCAL_ENDERS = ("SIGTERM", "SIGKILL", "SIGINT")


def exit_code(seen: Followed) -> int:
    """The exit code that a shell would give: 128 and the signal's number for one that was ended by a signal."""
    if seen.ended_by_us:
        return OVER_BY_TIME
    status = seen.status or 0
    return SHELL + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def was_interrupted(seen: Followed) -> bool:
    """Whether somebody at the keyboard ended it (it may have tidied up first): there is nothing to explain."""
    return seen.interrupted_at is not None and seen.seconds - seen.interrupted_at <= TIDY_SECONDS


def facts(seen: Followed, command: Sequence[str], environ: Mapping[str, str]) -> list[Fact]:
    """All facts of a run that is over, or hangs (no status)."""
    kernel_told = kernel.since(seen.kernel_mark) if seen.kernel_mark is not None else None
    made = {
        name: value
        for part in (
            [("run.program", os.path.basename(command[0]) if command else "")],
            _end(seen),
            _killed(seen),
            _stopped(seen, environ),
            _ranks(seen),
            _memory(seen.curve),
            _room(seen.curve),
            _gpus(seen.curve),
            _kernel(seen, kernel_told),
            _killed_by(seen, kernel_told),
            (seen.hang.facts.items() if seen.hang is not None else ()),
        )
        for name, value in part
    }
    return [Fact(name, value, ORIGIN) for name, value in made.items()]


_Told = Iterator[tuple[str, str | int | float | bool]]


def _end(seen: Followed) -> _Told:
    yield "run.seconds", round(seen.seconds, 1)
    yield "run.ended_by_us", seen.ended_by_us
    if seen.output_lost:
        yield "run.output_lost", True
    if seen.reader_gone:
        yield "run.reader_gone", True
    if seen.status is None:
        return
    yield "run.exit_code", exit_code(seen)
    if os.WIFSIGNALED(seen.status):
        yield "run.signal", name_of(os.WTERMSIG(seen.status))
    elif _inner_signal(seen.status) and not seen.ended_by_us:
        yield "run.inner_signal", _inner_signal(seen.status)


def _killed(seen: Followed) -> _Told:
    """The signal that counts: that of the rank that ended first, of the command, or the one that its exit code stands for.

    What ended otherwise may have been ended by the command itself, when it tidied up after a failure of its own.
    """
    if seen.status is None or exit_code(seen) == 0 or seen.ended_by_us:
        return
    first = first_dead(seen.ended, seen.ranks)
    if first is not None and _signal(first) != "SIGTERM":
        if _signal(first):
            yield "run.killed_signal", _signal(first)
            yield "run.killed_process", f"Rank {first.rank}"
        return
    if os.WIFSIGNALED(seen.status):
        yield "run.killed_signal", name_of(os.WTERMSIG(seen.status))
        return
    signal = _inner_signal(seen.status)
    inside = next((one for one in _by_signal(seen) if _signal(one) == signal), None)
    if inside is not None:
        yield "run.killed_signal", signal
        yield "run.killed_process", f"{inside.name} (process {inside.pid})"


def _inner_signal(status: int) -> str:
    """The signal that an exit code above 128 stands for; empty for another one."""
    number = os.WEXITSTATUS(status) - SHELL
    return name_of(number) if 0 < number <= 64 else ""


def _by_signal(seen: Followed) -> list[Ended]:
    """The processes that a signal ended before the command itself ended, in order."""
    return [one for one in seen.ended if _signal(one) and one.at <= seen.seconds + 0.5]


def _signal(one: Ended) -> str:
    return name_of(os.WTERMSIG(one.status)) if one.status is not None and os.WIFSIGNALED(one.status) else ""


def _stopped(seen: Followed, environ: Mapping[str, str]) -> _Told:
    """The signal that came from outside, if the command ended after it."""
    first = next(
        (one for one in seen.passed if one.name in ("SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGINT")),
        None,
    )
    if seen.interrupted_at is not None:
        yield "run.interrupted", True
    ending = next((one for one in seen.passed if one.name in ("SIGTERM", "SIGHUP", "SIGQUIT")), first)
    if ending is not None and not seen.ended_by_us:
        yield "run.stopped.signal", ending.name
        yield "run.stopped.by", _sender(ending, environ)
        yield "run.stopped.seconds", round(ending.at, 1)
        yield "run.stopped.took", round(max(seen.seconds - ending.at, 0.0), 1)
    left = _seconds_left(environ)
    if left is not None:
        yield "run.scheduler_seconds_left", left


def _sender(passed: Passed, environ: Mapping[str, str]) -> str:
    if passed.sender:
        return passed.sender
    if passed.pid == 0 and environ.get("KUBERNETES_SERVICE_HOST"):
        return "the kubelet"
    return "a process that cannot be seen from here"


def _seconds_left(environ: Mapping[str, str]) -> int | None:
    """Seconds until Slurm's limit of the job's time, as it tells since 22.05; None if it does not."""
    end = environ.get("SLURM_JOB_END_TIME", "")
    return int(end) - int(time.time()) if re.fullmatch(r"\d{9,11}", end) else None


def _ranks(seen: Followed) -> _Told:
    if not seen.ranks:
        return
    yield "run.ranks", len({one.rank for one in seen.ranks.values()})
    world = max((one.world for one in seen.ranks.values()), default=0)
    if world:
        yield "run.world_size", world
    first = first_dead(seen.ended, seen.ranks)
    if first is None or seen.ended_by_us or _went_on(seen, first):
        return
    yield "run.first_dead.rank", first.rank
    yield "run.first_dead.pid", first.pid
    yield "run.first_dead.seconds", round(first.at, 1)
    if first.status is not None:
        signal = _signal(first)
        if signal:
            yield "run.first_dead.signal", signal
        else:
            yield "run.first_dead.exit_code", os.WEXITSTATUS(first.status)
    others = [one for one in seen.ended if one.rank and one.pid != first.pid]
    yield "run.first_dead.others", len(others)
    later = min((one.at for one in others), default=None)
    if later is not None:
        yield "run.first_dead.ahead", round(later - first.at, 2)
    followed = bool(others) and all(one.at > first.at or _signal(one) in _LOCAL_ENDERS for one in others)
    yield "run.first_dead.others_followed", followed


def _went_on(seen: Followed, first: Ended) -> bool:
    """Whether the job lived on all the same: it ended well, or a launcher has started that rank again."""
    if seen.status is not None:
        return exit_code(seen) == 0
    over = {one.pid for one in seen.ended}
    return any(one.rank == first.rank for pid, one in seen.ranks.items() if pid not in over)


def first_dead(ended: Sequence[Ended], ranks: Mapping[int, Rank]) -> Ended | None:
    """The rank that ended first, and badly; None if it cannot be told. Of equally early ones a rank that was stopped counts last."""
    of_ranks = [one for one in ended if one.rank and one.pid in ranks]
    bad = [one for one in of_ranks if one.status != 0]
    if not bad:
        return None
    earliest = min(one.at for one in bad)
    near = [one for one in bad if one.at - earliest < 0.01]
    return min(near, key=lambda one: (one.status is None, _signal(one) == "SIGTERM", one.at))


def _memory(curve: Curve) -> _Told:
    if curve.peak:
        yield "run.memory.peak", curve.peak
    if curve.available_least >= 0:
        yield "run.memory.available_least", curve.available_least
    if curve.limit >= 0:
        yield "run.memory.limit", curve.limit
        yield "run.memory.limit_used", curve.used_most
    left = _left_least(curve)
    if left is not None:
        yield "run.memory.left_least_percent", left
    if curve.kills >= 0:
        yield "run.memory.kills", curve.kills
    if curve.hits >= 0:
        yield "run.memory.limit_hits", curve.hits
    rise = curve.rise()
    yield "run.memory.creeps", rise is not None
    if rise is not None:
        yield "run.memory.creep_per_hour", rise.per_hour
        yield "run.memory.creep_seconds", round(rise.seconds)
        room = _room_left(curve)
        if room >= 0 and rise.per_hour > 0:
            yield "run.memory.hours_left", round(room / rise.per_hour, 1)


def _left_least(curve: Curve) -> float | None:
    """The least share of memory that was left, of the machine's or of the limit's, in percent; None if neither is known."""
    total = curve.last.total if curve.last is not None else -1
    known = [
        round(100 * left / whole, 1)
        for left, whole in ((curve.available_least, total), (curve.free_least, curve.limit))
        if left >= 0 and whole > 0
    ]
    return min(known, default=None)


def _room_left(curve: Curve) -> int:
    """What is left to the machine or the control group, the smaller one; -1 if not known."""
    last = curve.last
    if last is None:
        return -1
    known = [room for room in (last.available, last.free) if room >= 0]
    return min(known, default=-1)


def _room(curve: Curve) -> _Told:
    if curve.shm_total > 0:
        yield "run.shm.total", curve.shm_total
        yield "run.shm.free_least", curve.shm_least
        yield "run.shm.full", curve.shm_least < max(NEARLY_FULL, curve.shm_total // 200)
    full = [
        (free, folder) for folder, (free, total) in curve.disks.items() if free < max(NEARLY_FULL, total // 100_000)
    ]
    if curve.disks:
        folder = min(curve.disks, key=lambda name: curve.disks[name][0])
        yield "run.disk.free_least", curve.disks[folder][0]
        yield "run.disk.folder", min(full)[1] if full else folder
        yield "run.disk.full", bool(full)
    if curve.files_limit:
        yield "run.files.most", curve.files
        yield "run.files.limit", curve.files_limit
        yield "run.files.percent", round(100 * curve.files / curve.files_limit, 1)
    if curve.space_limit >= 0:
        yield "run.limit.address_space", curve.space_limit
    if curve.size_limit >= 0:
        yield "run.limit.file_size", curve.size_limit


def _gpus(curve: Curve) -> _Told:
    for index, peak in curve.gpu_peak.items():
        yield f"run.gpu.{index}.memory_peak", peak
        total = curve.gpu_total.get(index, 0)
        if total:
            yield f"run.gpu.{index}.memory_total", total
            yield f"run.gpu.{index}.memory_peak_percent", round(100 * peak / total, 1)


_KernelTold = tuple[list[kernel.Kill], list[kernel.Fault]] | None


def _kernel(seen: Followed, told: _KernelTold) -> _Told:
    """What the kernel's log told since the start, of the processes of this command and of GPUs."""
    if told is None:
        return
    kills, faults = told
    ours = _our_kills(seen, kills)
    yield "run.kernel.kills", len(ours)
    yield "run.kernel.other_kills", len(kills) - len(ours)
    if ours:
        yield "run.kernel.killed", ours[0].process
        if ours[0].memory is not None:
            yield "run.kernel.killed_memory", ours[0].memory
    yield "run.xids", len(faults)
    for fault in faults[:1]:
        about = kernel.xid(fault.code)
        yield "run.xid.code", int(fault.code)
        yield "run.xid.gpu", fault.gpu
        yield "run.xid.action", about.get("action", "unknown")
        yield "run.xid.meaning", about.get("meaning", "a code that is not in the catalogue")


def _our_kills(seen: Followed, kills: Sequence[kernel.Kill]) -> list[kernel.Kill]:
    """The kills of processes of this command. In a container the log has other numbers: there the group's counter decides."""
    mine = {one.pid for one in seen.ended} | set(seen.ranks)
    return [kill for kill in kills if kill.pid in mine] or (list(kills[:1]) if seen.curve.kills > 0 else [])


def _killed_by(seen: Followed, told: _KernelTold) -> _Told:
    """Whose memory ran out where the out-of-memory killer ended a process: the control group's (limit), or the machine's."""
    ours = _our_kills(seen, told[0]) if told is not None else []
    curve = seen.curve
    if not ours and curve.kills <= 0:
        if curve.kills == 0 or told is not None:
            yield "run.memory.killed_by", "nobody"
        return
    if ours:
        yield "run.memory.killed_by", "limit" if ours[0].scope == "cgroup" else "machine"
    else:
        yield "run.memory.killed_by", "limit" if curve.limit >= 0 and curve.hits != 0 else "machine"
