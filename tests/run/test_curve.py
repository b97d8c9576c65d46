"""The memory curve: small however long the run, true at its peaks, and honest about what creeps up."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from diagnose.run.curve import MOST_POINTS, Curve, Point, rise_of
from diagnose.run.messages import Sample

GIB = 1 << 30


def points(memory: list[float], apart: float = 30.0) -> list[Point]:
    """A curve in GiB, a point each `apart` seconds."""
    return [Point(n * apart, int(value * GIB)) for n, value in enumerate(memory)]


@given(st.lists(st.integers(0, 1 << 40), min_size=1, max_size=3000))
def test_a_curve_of_any_length_is_small_and_keeps_its_peak(memory: list[int]) -> None:
    """Of points that become one the worst stays."""
    curve = Curve()
    for number, value in enumerate(memory):
        curve.take(Sample(at=float(number), processes=1, memory=value, available=(1 << 41) - value))

    assert len(curve.points) <= MOST_POINTS
    assert max(point.memory for point in curve.points) == max(memory) == curve.peak
    assert min(point.available for point in curve.points) == (1 << 41) - max(memory)
    assert [point.seconds for point in curve.points] == sorted(point.seconds for point in curve.points)


def test_a_leak_is_seen_with_its_pace() -> None:
    """Two GiB an hour over two hours, with noise."""
    noise = random.Random(3)
    rise = rise_of(points([10 + 2 * n / 120 + noise.uniform(-0.1, 0.1) for n in range(240)]))

    assert rise is not None
    assert 1.8 * GIB < rise.per_hour < 2.2 * GIB


def test_a_training_that_fills_up_and_stays_is_no_leak() -> None:
    """Loading, then a plateau with waves."""
    noise = random.Random(3)

    assert rise_of(points([min(n, 40) + noise.uniform(-0.5, 0.5) for n in range(240)])) is None


def test_a_step_is_no_leak() -> None:
    """An evaluation that takes its room once."""
    assert rise_of(points([20.0] * 150 + [30.0] * 90)) is None


def test_a_rise_that_slows_down_is_no_leak() -> None:
    """A cache that fills up."""
    assert rise_of(points([10 + 20 * (1 - 0.97**n) for n in range(240)])) is None


def test_a_saw_is_no_leak() -> None:
    """What is freed with every checkpoint."""
    assert rise_of(points([20 + (n % 40) / 4 for n in range(240)])) is None


def test_minutes_are_not_enough() -> None:
    """What rises for ten minutes may be warming up."""
    assert rise_of(points([10 + n for n in range(20)])) is None


def test_nothing_seen_is_nothing_told() -> None:
    """Without a point there is no rise."""
    assert rise_of([]) is None
