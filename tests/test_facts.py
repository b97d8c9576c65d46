"""The catalogue of facts."""

from __future__ import annotations

import pytest

from diagnose.facts import CATALOGUE, describe


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        ("torch.version", "version"),
        ("flash-attn.version", "version"),
        ("gpu.count", "number"),
        ("gpu.0.memory", "bytes"),
        ("gpu.*.compute_capability", "version"),
        ("launch.arg.tensor_parallel_size", "text"),
        ("cuda.available", "flag"),
    ],
)
def test_a_fact_has_a_type(name: str, type_: str) -> None:
    """Names with an instance or a distribution in them are found by their pattern."""
    found = describe(name)
    assert found is not None
    assert type_ == found.type


@pytest.mark.parametrize(
    "name",
    [
        "",
        "torch",
        "torch.colour",
        "gpu.0",
        "gpu.0.colour",
        "gpu.0.1.name",
        "launch.arg.",
        "version",
        ".version",
        "a b.version",
    ],
)
def test_what_nobody_defines_is_unknown(name: str) -> None:
    """A name outside the catalogue is no fact."""
    assert describe(name) is None


def test_the_catalogue_is_complete() -> None:
    """Each line has a type, an owner and a meaning, and each name stands once."""
    assert len(CATALOGUE) == len({kind.name for kind in CATALOGUE})
    assert {kind.type for kind in CATALOGUE} <= {"version", "text", "number", "bytes", "flag"}
    assert all(kind.owner and kind.meaning for kind in CATALOGUE)
