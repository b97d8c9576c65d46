"""What follows for the cards of this machine: sure where it says so, silent where something is not known."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from diagnose import facts as catalogue
from diagnose import memory, ruleset
from diagnose.causes import diagnose
from diagnose.collect import completed
from diagnose.derive import fit_memory
from diagnose.match import match
from diagnose.model import Case, Fact
from tests.test_memory import LLAMA_3_8B
from tests.test_plan import LLAMA_3_70B

GIB = 1 << 30
H100 = {"gpu.0.name": "NVIDIA H100 80GB HBM3", "gpu.0.memory": 81559 << 20}
RTX4090 = {"gpu.0.name": "NVIDIA GeForce RTX 4090", "gpu.0.memory": 24564 << 20}


def facts_of(config: dict[str, Any], *more: dict[str, Any]) -> tuple[Fact, ...]:
    """A model with 16-bit weights, a vLLM command, and what else is given."""
    known: dict[str, Any] = {fact.name: fact.value for fact in memory.facts(config, "config.json")}
    known |= {
        "model.kind": "folder",
        "model.hidden_size": config["hidden_size"],
        "model.intermediate_size": config["intermediate_size"],
        "model.heads": config["num_attention_heads"],
        "model.kv_heads": config["num_key_value_heads"],
        "model.layers": config["num_hidden_layers"],
        "model.vocab_size": config["vocab_size"],
        "model.dtype": "bfloat16",
        "model.context": 131072,
        "weights.bytes": 2 * known["model.parameters"],
        "weights.dtype": "BF16",
        "engine.name": "vllm",
        "launch.program": "vllm serve",
    }
    for item in more:
        known |= item
    return tuple(Fact(name, value, "x") for name, value in known.items() if value is not None)


def told(config: dict[str, Any], *more: dict[str, Any]) -> dict[str, Any]:
    """What follows for such a model and command."""
    return {fact.name: fact.value for fact in fit_memory.complete(facts_of(config, *more))}


def test_a_model_that_fits_raises_no_flag() -> None:
    """Llama 3 8B with 8,192 tokens on an H100."""
    found = told(LLAMA_3_8B, H100, {"launch.context": 8192})
    flags = {name: value for name, value in found.items() if value is True}
    assert flags == {"fit.memory.enough_cards": True}
    assert found["fit.memory.cache_one"] == GIB
    assert found["fit.memory.requests"] > 30


def test_weights_larger_than_a_card_are_sure() -> None:
    """Llama 3 70B on one of four H100: more cards would do; on one alone they would not."""
    four = {f"gpu.{index}.{key.split('.')[2]}": value for index in range(4) for key, value in H100.items()}
    found = told(LLAMA_3_70B, four)
    assert (found["fit.memory.weights_over"], found["fit.memory.enough_cards"]) == (True, True)
    assert found["fit.memory.cards_needed"] == 2
    assert told(LLAMA_3_70B, H100)["fit.memory.enough_cards"] is False
    assert told(LLAMA_3_70B, four, {"launch.tensor_parallel": 4})["fit.memory.weights_over"] is False


def test_a_request_of_the_models_whole_context_may_be_too_large() -> None:
    """131,072 tokens of Llama 3 8B are 16 GiB: not beside 15 GiB of weights on a card of 24."""
    found = told(LLAMA_3_8B, RTX4090)
    assert found["fit.memory.cache_over"] is True
    assert "fit.memory.cache_tight" not in found


def test_what_only_an_estimate_says_is_no_certainty() -> None:
    """48,000 tokens fit beside the weights, but hardly beside what running takes."""
    found = told(LLAMA_3_8B, RTX4090, {"launch.context": 48000})
    assert found["fit.memory.cache_over"] is False
    assert found["fit.memory.cache_tight"] is True
    assert 0 < found["fit.memory.context_fits"] < 48000


def test_a_small_share_is_filled_by_the_weights() -> None:
    """Half of a card of 24 GiB."""
    found = told(LLAMA_3_8B, RTX4090, {"launch.memory_share": 0.5})
    assert (found["fit.memory.weights_over"], found["fit.memory.weights_over_share"]) == (False, True)


def test_a_card_that_others_hold() -> None:
    """It has the memory, but not free."""
    found = told(LLAMA_3_8B, RTX4090, {"gpu.0.memory_free": 4 * GIB})
    assert found["fit.memory.free_short"] is True


@pytest.mark.parametrize(
    "more",
    [
        {"launch.arg.cpu_offload_gb": "20"},
        {"launch.data_parallel": 2},
        {"launch.quantization": "bitsandbytes"},
        {"gpu.0.mig": True},
        {"gpu.0.memory_shared": True},
        {"deploy.kind": "kubernetes"},
        {"weights.bytes": None},
        {"launch.tensor_parallel": 8},
        {"launch.more_words": True},
        {"launch.config_problem": "missing"},
        {"deploy.kind": "docker", "launch.arg.config": "/etc/vllm.yaml"},
        {"launch.given.0.name": "tensor_parallel_size", "launch.given.0.for_shell": True},
        {"launch.given.0.name": "max_model_len", "launch.given.0.for_shell": True},
    ],
)
def test_nothing_is_told_where_the_sums_do_not_follow(more: dict[str, Any]) -> None:
    """Offloading, copies, quantization at load, divided cards, another machine, broken files, cards that are not there,
    and what only the shell or a file that was not read could tell.
    """
    assert told(LLAMA_3_70B, H100, more) == {}


def test_float32_files_are_not_taken_for_what_is_loaded() -> None:
    """vLLM loads them in 16 bits."""
    found = told(
        LLAMA_3_8B, RTX4090, {"weights.bytes": 4 * 8_030_261_248, "weights.dtype": "F32", "launch.context": 1024}
    )
    assert found["fit.memory.weights_over"] is False
    assert found["fit.memory.weights_over_share"] is False


def test_without_a_command_all_cards_are_counted() -> None:
    """`check MODEL --for vllm` on two cards."""
    two = {f"gpu.{index}.{key.split('.')[2]}": value for index in range(2) for key, value in RTX4090.items()}
    found = told(LLAMA_3_70B, two, {"launch.program": None, "engine.name": None, "wanted.name": "vllm"})
    assert (found["fit.memory.weights_over"], found["fit.memory.enough_cards"]) == (True, False)
    assert "fit.memory.cache_over" not in found


GGUF = {
    "model.kind": "gguf",
    "gguf.architecture": "llama",
    "model.head_dim": 128,
    "engine.name": "llama.cpp",
    "launch.program": "llama-server",
    "weights.bytes": 8_540_770_304,
}


def test_llama_cpp_is_only_judged_where_all_layers_are_forced_onto_the_cards() -> None:
    """-ngl 99 with a long context is; without the flag llama.cpp sees for itself."""
    card = {"gpu.0.name": "NVIDIA GeForce RTX 3060", "gpu.0.memory": 12288 << 20}
    asked = {**GGUF, "launch.context_all": 131072}
    assert told(LLAMA_3_8B, card, asked) == {}
    found = told(LLAMA_3_8B, card, asked, {"launch.gpu_layers": 99})
    assert (found["fit.memory.offload_over"], found["fit.memory.offload_cache_over"]) == (False, True)
    assert found["fit.memory.cache_one"] == 16 * GIB
    halved = {"launch.arg.cache_type_k": "q8_0", "launch.arg.cache_type_v": "q8_0", "launch.gpu_layers": 99}
    assert told(LLAMA_3_8B, card, asked, halved)["fit.memory.cache_one"] == 16 * GIB * 34 // 64


def test_a_machine_without_gpus_is_judged_by_its_main_memory() -> None:
    """140 GB of weights and 32 GB of memory."""
    found = told(LLAMA_3_70B, {"gpu.count": 0, "memory.usable": 32 * GIB})
    assert found["fit.memory.host_over"] is True
    assert told(LLAMA_3_8B, {"gpu.count": 0, "memory.usable": 32 * GIB})["fit.memory.host_over"] is False


def test_heads_and_latents_that_are_kept_several_times() -> None:
    """Eight key-value heads on sixteen cards."""
    many = {f"gpu.{index}.{key.split('.')[2]}": value for index in range(16) for key, value in H100.items()}
    assert told(LLAMA_3_8B, many, {"launch.tensor_parallel": 16})["fit.memory.heads_repeated"] is True
    assert told(LLAMA_3_8B, many, {"launch.tensor_parallel": 8})["fit.memory.heads_repeated"] is False


def test_every_fact_stands_in_the_catalogue() -> None:
    """With its type."""
    kinds = {"number": (int,), "bytes": (int,), "flag": (bool,), "text": (str,)}
    for config in (LLAMA_3_8B, LLAMA_3_70B):
        for name, value in told(config, RTX4090, {"launch.context": 48000, "gpu.0.memory_free": 1}).items():
            kind = catalogue.describe(name)
            assert kind is not None, name
            assert type(value) in kinds[kind.type], name


_ODD = st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats() | st.text(max_size=8)
_NAMES = st.sampled_from(
    """gpu.0.memory gpu.1.memory launch.context launch.tensor_parallel launch.pipeline_parallel launch.memory_share
    launch.sequences launch.batched_tokens launch.kv_cache_dtype model.heads model.layers model.hidden_size weights.bytes
    model.cache.full.layers model.cache.full.values_per_token model.cache.full.window model.cache.full.heads
    memory.usable gpu.count launch.gpu_layers launch.context_all model.context model.vocab_size""".split()  # noqa: SIM905
)


@given(st.dictionaries(_NAMES, _ODD), st.sampled_from(["vllm", "sglang", "llama.cpp"]))
@example(more={"model.heads": float("inf")}, engine="vllm")
def test_odd_facts_never_raise(more: dict[str, Any], engine: str) -> None:
    """Case files come from anywhere."""
    told(LLAMA_3_8B, RTX4090, {"engine.name": engine}, more)


def _first(config: dict[str, Any], *more: dict[str, Any]) -> str:
    """The rule that is told first of such a case; empty if there is no error and no warning."""
    case = completed(Case(facts_of(config, {"model.context": 8192}, *more), machine=True))
    rules = ruleset.load([])
    found = diagnose(rules, case, match(rules, case)).diagnoses
    return next((cause.rule for cause in found if cause.severity != "note"), "")


@pytest.mark.parametrize(
    ("config", "more", "rule"),
    [
        (LLAMA_3_8B, {}, ""),
        (LLAMA_3_8B, {"launch.context": 131072, "model.context": 131072}, "request-larger-than-kv-cache"),
        (LLAMA_3_8B, {"launch.context": 48000, "model.context": 131072}, "kv-cache-likely-too-small"),
        (LLAMA_3_8B, {"launch.memory_share": 0.5}, "weights-fill-the-share"),
        (LLAMA_3_8B, {"gpu.0.memory_free": 4 * GIB}, "card-held-by-others"),
        (LLAMA_3_70B, {}, "weights-larger-than-the-cards"),
        (
            LLAMA_3_70B,
            {f"gpu.{index}.memory": 24564 << 20 for index in range(8)} | {"gpu.count": 8},
            "weights-need-more-cards",
        ),
    ],
)
def test_one_fault_is_one_diagnosis(config: dict[str, Any], more: dict[str, Any], rule: str) -> None:
    """What is told first names it; a command that fits is not complained of."""
    assert _first(config, RTX4090, more) == rule
