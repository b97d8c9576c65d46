"""FSDP's settings are read under one name each, whoever writes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.model import Fact
from diagnose.sources.training import fsdp
from diagnose.sources.training.given import Setting
from tests.sources.training.reading import named, node


def values(facts: Iterable[Fact]) -> dict[str, Any]:
    return {name: fact.value for name, fact in named(facts).items()}


def setting(key: str, value: Any) -> Setting:
    return Setting("x", key, value, "a.yaml", 1)


@pytest.mark.parametrize("prefix", ["", "fsdp_"])
def test_keys_with_and_without_their_prefix_say_the_same(prefix: str) -> None:
    """accelerate writes `fsdp_`, transformers takes both."""
    text = f"{prefix}sharding_strategy: full_shard\n{prefix}transformer_layer_cls_to_wrap: [ALayer, ' BLayer']\n"
    found = values(fsdp.read(node(text), "f.json").facts)
    assert (found["fsdp.strategy"], found["fsdp.wrap_classes"]) == ("FULL_SHARD", "ALayer,BLayer")


@pytest.mark.parametrize(("number", "name"), [(1, "FULL_SHARD"), (4, "HYBRID_SHARD"), (9, "9")])
def test_a_strategy_may_be_a_number(number: int, name: str) -> None:
    """1 to 5 name strategies in their order."""
    assert values(fsdp.meaning([setting("fsdp_sharding_strategy", number)]))["fsdp.strategy"] == name


def test_who_reads_a_key_decides_what_it_means() -> None:
    """offload_params is accelerate's word; transformers' fsdp_config passes over it."""
    item = setting("fsdp_config.offload_params", True)
    assert values(fsdp.meaning([item], "accelerate"))["fsdp.offload"] is True
    found = values(fsdp.meaning([item], "transformers"))
    assert found["fsdp.offload_unread"] is True
    assert "fsdp.offload" not in found


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("full_shard auto_wrap offload", {"fsdp.strategy": "FULL_SHARD", "fsdp.offload": True}),
        (["hybrid_shard", "auto_wrap"], {"fsdp.strategy": "HYBRID_SHARD"}),
        ("full_shard autowrap", {"fsdp.option_unknown": "autowrap"}),
        (True, {"fsdp.asked": True}),
        ("true", {"fsdp.asked": True}),
    ],
)
def test_options_that_the_trainer_is_given(value: Any, expected: dict[str, Any]) -> None:
    """Names as a text or a list, or just true."""
    found = values(fsdp.options(setting("fsdp", value)))
    assert expected.items() <= found.items()
    assert found["fsdp.asked"] is True


@pytest.mark.parametrize("value", ["", None, False, [], "false"])
def test_options_that_turn_nothing_on(value: Any) -> None:
    """An empty text is the default: no FSDP."""
    assert values(fsdp.options(setting("fsdp", value))) == {}


def test_a_file_of_its_own_is_told_by_its_keys() -> None:
    """Nothing but FSDP's keys; one common word alone is not enough."""
    assert fsdp.is_kind(node("transformer_layer_cls_to_wrap: [A]\n"))
    assert fsdp.is_kind(node("min_num_params: 0\nxla: false\n"))
    assert not fsdp.is_kind(node("version: 2\n"))
    assert not fsdp.is_kind(node("fsdp_version: 2\nlearning_rate: 1\n"))


@given(
    st.dictionaries(
        st.sampled_from(
            ["version", "fsdp_version", "sharding_strategy", "transformer_layer_cls_to_wrap", "cpu_offload", "xla"]
        ),
        st.none()
        | st.booleans()
        | st.integers()
        | st.text(max_size=5)
        | st.lists(st.integers() | st.text(max_size=3), max_size=3),
    )
)
def test_nothing_is_raised_whatever_it_holds(source: dict[str, Any]) -> None:
    """Values of other types tell nothing, and what is told is in the catalogue."""
    items = [setting(key, value) for key, value in source.items()]
    values(fsdp.meaning(items, "accelerate"))
    for item in items:
        values(fsdp.options(item))
