"""What a training logs → facts: what is odd is seen, memory does not grow, and no log breaks it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.integrations.losses import KEPT, Series, generates, number


def facts_of(series: Series) -> dict[str, Any]:
    return {fact.name.removeprefix("live."): fact.value for fact in series.facts()}


def logged(losses: list[float], norm: float = 1.0, rate: float = 1e-5) -> Series:
    series = Series(1e-5)
    for step, loss in enumerate(losses):
        series.add(step, {"loss": loss, "grad_norm": norm, "learning_rate": rate})
    return series


def test_a_loss_that_falls_is_not_odd() -> None:
    """Nothing but the usual looks after some logs."""
    series = logged([5 - step / 10 for step in range(39)])

    assert series.odd() == frozenset()
    assert facts_of(series)["loss.change"] > 0.3


def test_the_first_bad_step_is_kept() -> None:
    """NaN and infinity, as numbers or as texts."""
    series = logged([2.0, 1.9, float("nan"), 1.8])

    assert facts_of(series)["loss.bad_step"] == 2
    assert "loss.bad_step" in series.odd()


def test_zeros_count_only_in_a_row() -> None:
    """One log with a loss or norm of 0 says nothing."""
    found = facts_of(logged([0.0, 0.0, 1.0, 0.0]))

    assert found["loss.zeros"] == 1


def test_a_loss_that_stands_still_is_told() -> None:
    """By the means of its first and last quarter."""
    assert facts_of(logged([2.3 + (step % 2) / 1000 for step in range(40)]))["loss.change"] < 0.002


def test_a_rate_above_the_set_one_is_told() -> None:
    """As a multiple of it."""
    series = logged([1.0], rate=5e-5)

    assert facts_of(series)["rate.over"] == 5.0
    assert "rate.over" in series.odd()


def test_memory_does_not_grow_with_the_training() -> None:
    """A long series is thinned out, and still tells its course."""
    series = logged([1000 / (1 + step) for step in range(20 * KEPT)])

    assert len(series._losses) <= KEPT + 1
    assert facts_of(series)["loss.logs"] == 20 * KEPT
    assert facts_of(series)["loss.change"] > 0.5


@given(st.lists(st.fixed_dictionaries({}, optional={name: st.floats() | st.text() | st.none() | st.booleans() | st.lists(st.integers()) for name in ("loss", "grad_norm", "learning_rate")}), max_size=80))  # fmt: skip
def test_any_log_is_taken(logs: list[dict[str, Any]]) -> None:
    """Nothing is raised, and every fact is a finite number."""
    series = Series(0.1)
    for step, log in enumerate(logs):
        series.add(step, log)
        series.odd()
    assert all(fact.value == fact.value for fact in series.facts())


def test_a_trainer_that_samples_is_known_whatever_its_settings_are_called() -> None:
    """A class of the user's own, made from GRPOConfig, too."""

    class GRPOConfig:
        temperature = 1.0

    class Own(GRPOConfig):
        pass

    assert generates(Own())
    assert not generates(object())


@pytest.mark.parametrize(("value", "expected"), [("0.5", 0.5), (3, 3.0), (None, None), ("x", None), (True, None)])
def test_numbers_of_a_log(value: Any, expected: float | None) -> None:
    """transformers 5 logs texts."""
    assert number(value) == expected
