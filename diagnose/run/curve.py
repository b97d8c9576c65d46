"""What the witness saw over time, kept small: the memory curve, its peaks, and whether memory crept up all along."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from diagnose.run.messages import Gpus, Sample, least

MOST_POINTS = 512
"""Above so many points of the curve each two become one."""
LEAST_SECONDS = 900.0
"""A rise is told of no shorter time: a training fills its caches first."""
LEAST_GROWTH = 1 << 30
_STRAIGHT = 0.9
"""Least share of the variance that a straight line explains."""


class Point(Struct, frozen=True):
    """A piece of the curve: what was worst in it. Bytes; -1 for what is not known."""

    seconds: float
    memory: int
    available: int = -1
    limit_used: int = -1
    gpu_used: int = -1
    shm_free: int = -1


class Rise(Struct, frozen=True):
    """Memory that creeps up: bytes per hour, and over how many seconds."""

    per_hour: int
    seconds: float
    growth: int


class Curve:
    """Takes samples as they come."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self._least_apart = 0.0
        self._gpu = -1
        self.last: Sample | None = None
        self.peak = 0
        self.available_least = -1
        self.free_least = -1
        self.limit = -1
        self.used_most = -1
        self.kills = -1
        self.hits = -1
        self.shm_least = -1
        self.shm_total = -1
        self.disks: dict[str, tuple[int, int]] = {}
        self.files = 0
        self.files_limit = 0
        self.space_limit = -1
        self.size_limit = -1
        self.gpu_peak: dict[str, int] = {}
        self.gpu_total: dict[str, int] = {}

    def take(self, sample: Sample) -> None:
        """A look at the processes and the machine."""
        if sample.processes or self.last is None:
            self.last = sample
        self.peak = max(self.peak, sample.memory)
        self.available_least = least(self.available_least, sample.available)
        if sample.limit >= 0 and (self.free_least < 0 or sample.free < self.free_least):
            self.limit, self.free_least, self.used_most = sample.limit, sample.free, sample.used
        self.kills, self.hits = max(self.kills, sample.kills), max(self.hits, sample.hits)
        self.shm_least = least(self.shm_least, sample.shm_free)
        self.shm_total = max(self.shm_total, sample.shm_total)
        for folder, (free, total) in sample.disks.items():
            if folder not in self.disks or free < self.disks[folder][0]:
                self.disks[folder] = (free, total)
        if sample.files_limit and sample.files * max(self.files_limit, 1) >= self.files * sample.files_limit:
            self.files, self.files_limit = sample.files, sample.files_limit
        self.space_limit = least(self.space_limit, sample.space_limit)
        self.size_limit = least(self.size_limit, sample.size_limit)
        self._add(Point(sample.at, sample.memory, sample.available, sample.used, self._gpu, sample.shm_free))

    def take_gpus(self, gpus: Gpus) -> None:
        """A look at the GPUs."""
        self._gpu = sum(gpus.used.values())
        for index, used in gpus.used.items():
            self.gpu_peak[index] = max(self.gpu_peak.get(index, 0), used)
            self.gpu_total[index] = gpus.total.get(index, 0)

    def _add(self, point: Point) -> None:
        last = self.points[-1] if self.points else None
        if last is not None and len(self.points) > 1 and point.seconds - self.points[-2].seconds < self._least_apart:
            self.points[-1] = _worse(last, point)
            return
        self.points.append(point)
        if len(self.points) >= MOST_POINTS:
            pairs = zip(self.points[::2], self.points[1::2], strict=False)
            self.points = [_worse(one, other) for one, other in pairs]
            self._least_apart = (self.points[-1].seconds - self.points[0].seconds) / MOST_POINTS * 2

    def rise(self) -> Rise | None:
        """Whether memory crept up steadily in the last two thirds of the run, and how fast; None if it did not."""
        return rise_of(self.points)


def rise_of(points: Sequence[Point]) -> Rise | None:
    """Whether memory rose steadily: along a straight line, in each half, by a fifth of what there was and a GiB at least.

    The first third of a run, in which it loads and warms up, and its end, in which it dies, do not count.
    """
    if not points:
        return None
    whole = points[-1].seconds
    kept = [point for point in points if point.seconds >= whole / 3 and point.memory > 0]
    if len(kept) < 20:
        return None
    seconds = kept[-1].seconds - kept[0].seconds
    if seconds < LEAST_SECONDS:
        return None
    slope, straight = _line(kept)
    growth = int(slope * seconds)
    middle = len(kept) // 2
    halves = (_line(kept[:middle])[0], _line(kept[middle:])[0])
    steady = straight >= _STRAIGHT and min(halves) > 0.5 * slope
    if not steady or growth < LEAST_GROWTH or growth < kept[0].memory / 5:
        return None
    return Rise(int(slope * 3600), seconds, growth)


def _line(points: Sequence[Point]) -> tuple[float, float]:
    """Slope of the best straight line in bytes per second, and the share of the variance that it explains."""
    count = len(points)
    mean_x = sum(point.seconds for point in points) / count
    mean_y = sum(point.memory for point in points) / count
    xx = sum((point.seconds - mean_x) ** 2 for point in points)
    yy = sum((point.memory - mean_y) ** 2 for point in points)
    xy = sum((point.seconds - mean_x) * (point.memory - mean_y) for point in points)
    if not xx or not yy:
        return 0.0, 0.0
    return xy / xx, xy * xy / (xx * yy)


def _worse(one: Point, other: Point) -> Point:
    """Two points as one: the most that was used and the least that was left."""
    return replace(
        other,
        memory=max(one.memory, other.memory),
        available=least(one.available, other.available),
        limit_used=max(one.limit_used, other.limit_used),
        gpu_used=max(one.gpu_used, other.gpu_used),
        shm_free=least(one.shm_free, other.shm_free),
    )
