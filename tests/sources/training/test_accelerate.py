"""accelerate's configuration: who shards, over how many processes, and the DeepSpeed file that it names."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.sources.training import accelerate
from diagnose.sources.training.parsed import Parsed
from tests.sources.training import reading


def parsed(text: str) -> Parsed:
    return accelerate.read(reading.node(textwrap.dedent(text)), "acc.yaml")


def values(text: str) -> dict[str, Any]:
    return reading.values(parsed(text))


def test_processes_and_machines_are_told() -> None:
    """With the lines of their keys."""
    facts = {
        fact.name: fact for fact in parsed("distributed_type: MULTI_GPU\nnum_processes: 8\nnum_machines: 2\n").facts
    }
    assert (facts["training.processes"].value, facts["training.processes"].line) == (8, 2)
    assert (facts["training.nodes"].value, facts["training.nodes"].key) == (2, "num_machines")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("distributed_type: 'NO'\n", 1),  # accelerate puts 1
        ("distributed_type: NO\n", None),  # the flag false: it does not
        ("distributed_type: FSDP\n", None),
        ("distributed_type: FSDP\nnum_processes: -1\n", None),
        ("distributed_type: FSDP\nnum_processes: '4'\n", 4),
    ],
)
def test_processes_that_are_not_told(text: str, expected: int | None) -> None:
    """Only where the file says it, or accelerate's own default does."""
    assert values(text).get("training.processes") == expected


def test_only_the_kind_that_runs_is_read() -> None:
    """A block that is left over from another kind says nothing."""
    text = """
        distributed_type: {}
        num_processes: 2
        deepspeed_config: {{zero_stage: 3, deepspeed_config_file: ds.json}}
        fsdp_config: {{fsdp_version: 2}}
    """
    assert not {"zero.stage", "fsdp.version"} & set(values(text.format("MULTI_GPU")))
    assert values(text.format("FSDP"))["fsdp.version"] == 2
    assert not parsed(text.format("FSDP")).refers
    assert [refers.path for refers in parsed(text.format("DEEPSPEED")).refers] == ["ds.json"]


def test_a_deepspeed_block_says_what_a_file_says() -> None:
    """Its keys have other names; the file beside it is named as a reference, and then it alone counts."""
    found = values("distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: 3, gradient_accumulation_steps: 1}\n")
    assert (found["zero.stage"], found["zero.accumulation"], found["zero.file"]) == (3, "1", "inline")
    found = values(
        "distributed_type: DEEPSPEED\nmixed_precision: bf16\ndeepspeed_config: {deepspeed_config_file: d.json, zero_stage: 3}\n"
    )
    assert "zero.stage" not in found
    assert found["deploy.config_fields_twice"] == "zero_stage, mixed_precision"


def test_settings_belong_to_their_block() -> None:
    """The owner is the block, the key as it stands in the file."""
    items = {
        item.key: item.owner for item in parsed("distributed_type: FSDP\nfsdp_config: {fsdp_version: 2}\n").settings
    }
    assert items == {
        "distributed_type": "accelerate",
        "fsdp_config": "accelerate",
        "fsdp_config.fsdp_version": "accelerate.fsdp_config",
    }


def test_flags_and_numbers_where_accelerate_wants_a_text() -> None:
    """An unquoted `no` is a flag to YAML, an unquoted 0 a number."""
    found = values("distributed_type: MULTI_GPU\nmixed_precision: no\ngpu_ids: 0\n")
    assert found["accelerate.mixed_precision_flag"] == "no"
    assert found["accelerate.gpus_number"] is True
    assert "accelerate.mixed_precision_flag" not in values("distributed_type: MULTI_GPU\nmixed_precision: 'no'\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("distributed_type: FSDP\n", True),
        ("compute_environment: LOCAL_MACHINE\n", True),
        ("num_processes: 2\nnum_machines: 1\nmachine_rank: 0\n", True),
        ("num_processes: 2\nlearning_rate: 1\n", False),
        ("fsdp_config: {}\nlearning_rate: 1\n", False),
        ("distribted_type: FSDP\nfsdp_config: {fsdp_version: 2}\n", True),
        ("distribted_type: FSDP\nlearning_rate: 1\n", False),
        ("distribution_types: a\nfsdp_config: {}\n", False),
    ],
)
def test_its_keys_tell_it_from_other_files(text: str, expected: bool) -> None:
    """One key that only accelerate has, or three of its own."""
    assert accelerate.is_kind(reading.node(text)) is expected


_VALUE = st.none() | st.booleans() | st.integers() | st.text("ab01'", max_size=4)


@given(
    st.dictionaries(
        st.sampled_from(
            ["distributed_type", "num_processes", "deepspeed_config", "fsdp_config", "gpu_ids", "mixed_precision"]
        ),
        _VALUE | st.sampled_from(["FSDP", "DEEPSPEED"]) | st.dictionaries(st.sampled_from(["zero_stage", "a"]), _VALUE),
    )
)
def test_nothing_is_raised_whatever_it_holds(source: dict[str, Any]) -> None:
    """Whatever stands behind its keys."""
    import json

    values(json.dumps(source))
