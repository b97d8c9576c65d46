"""What a training's settings take on the cards of this machine: sure where it says so, silent where something is not known."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.derive import tuning_memory
from diagnose.derive.known import Known
from diagnose.facts import describe
from tests.derive.test_fit_memory import GIB, H100, RTX4090, facts_of
from tests.test_memory import LLAMA_3_8B
from tests.test_plan import LLAMA_3_70B

PARAMETERS = 8_030_261_248
TRAINING = {
    "training.framework": "trl",
    "training.task": "sft",
    "training.method": "full",
    "training.max_length": 2048,
    "training.batch": 2,
    "training.gradient_checkpointing": True,
}
QLORA = {
    "training.method": "qlora",
    "training.quantization": "4bit",
    "training.lora.rank": 16,
    "training.lora.targets": "all-linear",
}
EIGHT = {f"gpu.{index}.{key.split('.')[2]}": value for index in range(8) for key, value in H100.items()}


def told(config: dict[str, Any], *more: dict[str, Any]) -> dict[str, Any]:
    """What follows, by the last part of the names."""
    facts = {fact.name: fact for fact in facts_of(config, TRAINING, *more)}
    return {name.rpartition(".")[2]: value for name, value in tuning_memory.complete(Known(facts))}


def test_the_least_of_a_full_tuning_is_8_bytes_a_parameter() -> None:
    """Weights, gradients and AdamW's moments in 16 bits: what is left open is taken for the smallest."""
    found = told(LLAMA_3_8B, H100)
    assert found["states"] == 8 * PARAMETERS
    assert (found["weights_over"], found["states_over"], found["likely_over"]) == (False, False, False)


def test_float32_states_are_sure_to_be_beyond_a_card() -> None:
    """16 bytes a parameter where the load type says float32; an adapter fits."""
    found = told(LLAMA_3_8B, H100, {"training.load_dtype": "float32", "training.processes": 1})
    assert found["states"] == 16 * PARAMETERS
    assert (found["states_over"], found["fits_lora"], found["fits_qlora"]) == (True, True, True)
    assert "likely_over" not in found


def test_a_launcher_that_is_not_seen_may_offload() -> None:
    """Without launch command, processes or sharding the same sum is no certainty."""
    found = told(LLAMA_3_8B, H100, {"training.load_dtype": "float32", "launch.program": None})
    assert (found["states_over"], found["over_unless_offloaded"]) == (False, True)


def test_several_cards_may_share_one_copy_unless_processes_are_told() -> None:
    """Without a launcher the model may be laid out over all cards; with 8 processes each has a copy."""
    spread = told(LLAMA_3_8B, EIGHT, {"training.load_dtype": "float32"})
    assert spread["states_over"] is False
    copies = told(LLAMA_3_8B, EIGHT, {"training.load_dtype": "float32", "training.processes": 8})
    assert (copies["states_over"], copies["fits_sharded"]) == (True, True)


@pytest.mark.parametrize(
    ("stage", "each"),
    [(1, 2 + 2 + 12 / 8), (2, 2 + (2 + 12) / 8), (3, (2 + 2 + 12) / 8)],
)
def test_zero_splits_states_then_gradients_then_weights(stage: int, each: float) -> None:
    """16 bytes a parameter, of which each stage splits more (arXiv 1910.02054)."""
    found = told(LLAMA_3_8B, EIGHT, {"zero.stage": stage, "training.processes": 8})
    assert found["states"] == pytest.approx(each * PARAMETERS, rel=1e-6)


def test_seventy_billion_parameters_on_eight_cards() -> None:
    """Not with stage 3; in 4 bits under an adapter, and with offloading only where main memory has a terabyte."""
    found = told(LLAMA_3_70B, EIGHT, {"zero.stage": 3, "training.processes": 8})
    assert (found["states_over"], found["fits_lora"], found["fits_qlora"]) == (True, False, True)
    offloaded = {
        "zero.stage": 3,
        "training.processes": 8,
        "zero.offload_optimizer": "cpu",
        "zero.offload_param": "cpu",
        "gpu.count": 8,
    }
    small = told(LLAMA_3_70B, EIGHT, offloaded, {"memory.usable": 500 * GIB})
    assert (small["host_over"], small["states_over"]) == (True, False)
    assert told(LLAMA_3_70B, EIGHT, offloaded, {"memory.usable": 1500 * GIB})["host_over"] is False
    two_machines = {"training.processes": 16, "memory.usable": 500 * GIB}
    assert told(LLAMA_3_70B, EIGHT, offloaded, two_machines)["host"] == small["host"] // 2


def test_an_adapter_in_4_bits_fits_where_one_in_16_does_not() -> None:
    """8B on a card of 16 GB: told as likely, since estimates are in it."""
    small = {"gpu.0.name": "Tesla T4", "gpu.0.memory": 15360 << 20}
    found = told(LLAMA_3_8B, small, QLORA, {"training.method": "lora", "training.quantization": "none"})
    assert (found["likely_over"], found["fits_qlora"]) == (True, True)
    assert told(LLAMA_3_8B, small, QLORA)["likely_over"] is False


def test_long_examples_are_likely_too_much() -> None:
    """A batch of 16 with 16,384 tokens: fewer, or shorter ones, fit."""
    found = told(LLAMA_3_8B, RTX4090, QLORA, {"training.batch": 16, "training.max_length": 16384})
    assert found["likely_over"] is True
    assert 0 < found["fits_batch"] < 16


def test_a_batch_that_is_left_open_tells_no_likely_total() -> None:
    """`${BATCH}`, or a number that a script computes, is not the framework's default."""
    assert "total" in told(LLAMA_3_8B, RTX4090, QLORA, {"training.batch": None})
    open_ = {"training.batch": None, "training.given.0.key": "per_device_train_batch_size"}
    found = told(LLAMA_3_8B, RTX4090, QLORA, open_)
    assert "total" not in found
    assert "states" in found


def test_logits_count_where_the_framework_keeps_them() -> None:
    """Axolotl without a plugin: 10 bytes a token and entry; none with Liger, and none where TRL's release is not known."""
    axolotl = {"training.framework": "axolotl"}
    assert told(LLAMA_3_8B, H100, axolotl)["logits"] == 2 * 2048 * 128256 * 10
    assert "logits" not in told(LLAMA_3_8B, H100, axolotl, {"training.liger": True})
    assert "logits" not in told(LLAMA_3_8B, H100)


@pytest.mark.parametrize(
    "facts",
    [
        {"training.framework": "torchtune"},
        {"training.method": "freeze"},
        {"training.given.0.key": "use_galore", "training.given.0.owner": "llamafactory"},
        {"training.given.0.key": "model.context_parallel_size", "training.given.0.owner": "axolotl"},
        {"training.deepspeed": "missing.json"},
        {"fsdp.strategy": "SOMETHING"},
        {"model.quantization": "gptq"},
        {"training.on_cpu": True},
        {"gpu.0.mig": True},
        {"deploy.kind": "kubernetes"},
    ],
)
def test_what_is_not_followed_is_not_told(facts: dict[str, Any]) -> None:
    """Other frameworks, optimizers that split work, parallelism within the model, files that cannot be read, divided cards."""
    found = told(LLAMA_3_8B, H100, facts)
    assert "states" not in found


@pytest.mark.parametrize(
    ("name", "kind"),
    [("adamw_torch_fused", "adamw"), ("adamw_bnb_8bit", "adamw_8bit"), ("paged_adamw_8bit", ""), ("adafactor", "adafactor"),
     ("", "adamw"), ("muon", ""), ("galore_adamw", ""), ("adam_mini", ""), ("adamw_torch_4bit", ""), ("sgd", "sgd")],
)  # fmt: skip
def test_optimizers_by_their_states(name: str, kind: str) -> None:
    """One that is not known, or whose states may leave the card, counts for nothing."""
    assert tuning_memory.optimizer_of(name) == kind


def test_every_fact_is_in_the_catalogue() -> None:
    """Each name that is told can be asked for by a rule."""
    facts = {
        fact.name: fact
        for fact in facts_of(
            LLAMA_3_8B, TRAINING, H100, {"training.batch": 64, "training.task": "dpo", "trl.version": "0.24.0"}
        )
    }
    names = [name for name, _ in tuning_memory.complete(Known(facts))]
    assert len(names) > 15
    assert [name for name in names if describe(name) is None] == []


@given(
    st.dictionaries(
        st.sampled_from(
            ["training.batch", "training.max_length", "training.lora.rank", "zero.stage", "fsdp.strategy", "training.optimizer",
             "training.processes", "model.layers", "model.hidden_size", "weights.bytes", "gpu.0.memory", "training.lora.targets",
             "memory.usable", "zero.offload_optimizer", "training.quantization", "model.parameters", "tuning.world"]
        ),
        st.one_of(st.text(max_size=20), st.integers(-(1 << 80), 1 << 80), st.floats(), st.booleans()),
    )
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_whatever_is_set_raises_nothing(facts: dict[str, Any]) -> None:
    """A case file may hold any number."""
    told(LLAMA_3_8B, H100, QLORA, facts)
