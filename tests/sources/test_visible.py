"""CUDA_VISIBLE_DEVICES is read as the CUDA runtime reads it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.sources.visible import Device, Seen, see

TWO = [Device("GPU-aaaa1111"), Device("GPU-bbbb2222")]
DIVIDED = [Device("GPU-aaaa1111", ("MIG-1111", "MIG-2222")), Device("GPU-bbbb2222")]


def test_without_the_variable_all_are_seen() -> None:
    """Not set is not the same as empty."""
    assert see(None, TWO) == Seen(2, (0, 1))
    assert see("", TWO).count == 0


def test_without_the_variable_mig_leaves_the_number_open() -> None:
    """Which of cards and instances the runtime takes is not said to be known."""
    assert see(None, DIVIDED).count is None


@pytest.mark.parametrize(
    ("setting", "seen"),
    [
        (" 1 , 0 ", Seen(2, (1, 0))),
        ("1gpu,0x", Seen(2, (1, 0))),
        ("0,-1,1", Seen(1, (0,), "none", "-1")),
        ("0,,1", Seen(1, (0,), "not-a-number", "")),
        ("1,all", Seen(1, (1,), "not-a-number", "all")),
        ("0,GPU-bbbb2222", Seen(1, (0,), "mixed", "GPU-bbbb2222")),
        ("5,0", Seen(0, (), "missing-index", "5")),
        ("0,1,0", Seen(0, (), "duplicate", "0")),
        ("GPU-BBBB", Seen(1, (1,))),
        ("GPU-aaaa1111,GPU-aaaa", Seen(0, (), "duplicate", "GPU-aaaa")),
        ("MIG-1111", Seen(0, (), "unknown-uuid", "MIG-1111")),
    ],
)
def test_reading_stops_at_the_first_wrong_entry(setting: str, seen: Seen) -> None:
    """What stands before it is seen, what stands after it is not."""
    assert see(setting, TWO) == seen


@pytest.mark.parametrize(
    ("setting", "count", "problem"),
    [
        ("MIG-1111", 1, "none"),
        ("MIG-GPU-aaaa1111/1/0", 1, "none"),
        ("MIG-GPU-bbbb2222/1/0", 0, "unknown-uuid"),
        ("MIG-1111,MIG-2222", None, "several-mig"),
        ("MIG-1111,0", 1, "mixed"),
        ("0", None, "none"),
        ("GPU-aaaa", None, "none"),
        ("GPU-bbbb", 1, "none"),
    ],
)
def test_instances_are_named_by_themselves(setting: str, count: int | None, problem: str) -> None:
    """A MIG instance by its UUID or the older form; a divided card by its number leaves the count open."""
    seen = see(setting, DIVIDED)
    assert (seen.count, seen.problem) == (count, problem)


def test_without_uuids_names_cannot_be_judged() -> None:
    """A driver that does not tell its UUIDs makes no entry wrong."""
    assert see("GPU-aaaa", [Device(), Device()]) == Seen(None)
    assert see("MIG-1111", [Device()]) == Seen(None)


@given(st.text(max_size=60), st.integers(0, 4))
def test_any_text_is_read(setting: str, number: int) -> None:
    """Whatever the variable holds, what is seen is among the devices, and each once."""
    seen = see(setting, [Device(f"GPU-{index}") for index in range(number)])
    assert len(set(seen.devices)) == len(seen.devices)
    assert all(0 <= index < number for index in seen.devices)
    assert seen.count is None or seen.count == len(seen.devices)
