"""DeepSpeed's JSON is told from other files and read with the place of each key."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.facts import describe
from diagnose.model import Fact
from diagnose.sources import jsonnodes
from diagnose.sources.training import deepspeed
from diagnose.sources.yamlfile import Node
from tests.sources.training import reading


def node(source: Any) -> Node:
    text = source if isinstance(source, str) else json.dumps(source, indent=1)
    document = jsonnodes.parse(text.encode()).documents[0]
    assert isinstance(document, Node)
    return document


def told(source: Any) -> dict[str, Fact]:
    return reading.facts(deepspeed.read(node(source), "ds.json"))


def values(source: Any) -> dict[str, Any]:
    return {name: fact.value for name, fact in told(source).items()}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"zero_optimization": {"stage": 2}}, True),
        ({"zero_optimizatoin": {"stage": 2}}, True),
        ({"train_micro_batch_size_per_gpu": 1}, True),
        ({"train_batch_size": 8, "fp16": {"enabled": True}}, True),
        ({"optimizer": {"type": "Adam", "params": {}}, "bf16": {"enabled": True}}, True),
        ({"compression_training": {}}, True),
        ({"train_batch_size": 8, "gradient_accumulation_steps": 2}, False),
        ({"optimizer": {"_component_": "torch.optim.AdamW"}, "compile": False}, False),
        ({"fp16": True, "bf16": False, "gradient_accumulation_steps": 2}, False),
        ({"distributed_type": "DEEPSPEED", "zero_optimization": {}}, False),
        ([1], False),
        ("null", False),
    ],
)
def test_its_keys_tell_it_from_other_files(source: Any, expected: bool) -> None:
    """One key of its own is enough; keys that others have too need a block as DeepSpeed writes it beside them."""
    assert deepspeed.is_kind(node(source)) is expected


def test_each_setting_has_its_place_and_its_own_name() -> None:
    """A fact points at the key, nested ones with dots."""
    fact = told('{\n "bf16": {"enabled": "auto"},\n "zero_optimization": {\n   "stage": 3}}')["zero.stage"]
    assert (fact.value, fact.origin, fact.line, fact.column, fact.key) == (
        3,
        "ds.json",
        4,
        4,
        "zero_optimization.stage",
    )


def test_without_a_block_the_stage_is_none_of_the_three() -> None:
    """DeepSpeed then trains at stage 0; that the block is missing is told too."""
    found = values({"train_batch_size": 8, "fp16": {"enabled": False}})
    assert (found["zero.stage"], found["zero.block"]) == (0, False)
    assert values({"zero_optimization": {"stage": 1}})["zero.block"] is True


def test_a_stage_that_is_a_word_is_told_as_one() -> None:
    """`auto` is no stage; a number in quotes is one."""
    assert values({"zero_optimization": {"stage": "auto"}})["zero.stage_text"] == "auto"
    found = values({"zero_optimization": {"stage": "3"}})
    assert found["zero.stage"] == 3
    assert "zero.stage_text" not in found


def test_auto_is_told_by_who_fills_it_in() -> None:
    """Some keys the Trainer fills in, some from the model's hidden size, the rest nobody."""
    found = values(
        {
            "train_batch_size": "auto",
            "zero_optimization": {"stage": 3, "reduce_bucket_size": "auto", "sub_group_size": "auto"},
        }
    )
    assert found["zero.auto"] == "train_batch_size"
    assert found["zero.auto_by_hidden_size"] == "zero_optimization.reduce_bucket_size"
    assert found["zero.auto_unfilled"] == "zero_optimization.sub_group_size"


@pytest.mark.parametrize(("path", "expected"), [("/nvme", "/nvme"), (None, None), ("auto", None)])
def test_offload_to_nvme_needs_a_folder(path: str | None, expected: str | None) -> None:
    """The folder of the offload that uses NVMe, or that there is none."""
    found = values({"zero_optimization": {"stage": 3, "offload_param": {"device": "nvme", "nvme_path": path}}})
    assert found.get("zero.nvme_path") == expected
    assert ("zero.nvme_without_path" in found) is (expected is None)


def test_inside_another_file_its_keys_are_its_own() -> None:
    """Told without the mapping that it stands in, and as `inline`."""
    document = node({"deepspeed": {"zero_optimization": {"stage": 2}}}).get("deepspeed")
    parsed = deepspeed.inside(document, "train.yaml", "deepspeed")
    assert {fact.name: fact.value for fact in parsed.facts}["zero.file"] == "inline"
    assert [item.key for item in parsed.settings] == ["zero_optimization", "zero_optimization.stage"]


def test_every_fact_is_in_the_catalogue() -> None:
    """Nothing is told that no rule could ask for."""
    source = dict.fromkeys(("train_batch_size", "gradient_clipping"), "auto") | {
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-5, "betas": [0.9, 0.95], "eps": 1e-8}},
        "scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 3}},
        "zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu", "ratio": 0.5}},
    }
    assert all(describe(name) for name in told(source))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("auto"),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "zero_optimization",
                        "stage",
                        "optimizer",
                        "params",
                        "lr",
                        "betas",
                        "type",
                        "offload_param",
                        "device",
                        "x",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_nothing_is_raised_whatever_it_holds(source: Any) -> None:
    """Values of other types than DeepSpeed's tell nothing."""
    document = node(json.dumps(source))
    deepspeed.is_kind(document)
    assert all(describe(fact.name) for fact in deepspeed.read(document, "ds.json").facts)
