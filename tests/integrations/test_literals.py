"""Settings as Python text: what a parser reads back is what was set, and nothing secret or computed."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from diagnose.integrations.literals import call, literal


class Strategy(Enum):
    STEPS = "steps"


@dataclass
class SFTConfig:
    output_dir: str = "out"
    learning_rate: float = 2e-5
    save_strategy: Strategy = Strategy.STEPS
    kwargs: dict[str, Any] = field(default_factory=dict)
    hub_token: str = ""
    made: Any = None


def test_only_what_differs_from_the_defaults_is_written() -> None:
    """As a call of the class by its own name."""
    assert call(SFTConfig(learning_rate=0.5, save_strategy=Strategy.STEPS)) == "SFTConfig(\n    learning_rate=0.5,\n)\n"


def test_secrets_and_objects_are_left_out() -> None:
    """A token is nobody's business, an object has no literal."""
    text = call(SFTConfig(hub_token="hf_" + "a" * 30, made=object(), kwargs={"a": object()}))

    assert text == "SFTConfig(\n)\n"


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8))  # fmt: skip
def test_a_literal_reads_back_as_it_was(value: Any) -> None:
    """By Python's own reader of literals."""
    text = literal(value)

    assert text is not None
    assert ast.literal_eval(text) == value


def test_what_is_no_dataclass_gives_an_empty_call() -> None:
    """Nothing is raised."""
    assert call(object()) == "object(\n)\n"
