"""Plans: sums that are right, limits that are the limits, and nothing told where something is unknown."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from diagnose import memory
from diagnose.cards import GIB, parse
from diagnose.derive import engines
from diagnose.memory.stored import LLAMA_CPP, sequence_bytes
from diagnose.memory.tuning import adapter_parameters, full_states
from diagnose.model import Fact
from diagnose.plan import Plan, Weights, Wish, model_of, plan
from diagnose.sources import launch
from tests.test_memory import LLAMA_3_8B

LLAMA_3_70B = {**LLAMA_3_8B, "hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64}
LLAMA_3_70B["num_hidden_layers"] = 80
GEMMA_3_4B = {
    "model_type": "gemma3_text",
    "hidden_size": 2560,
    "intermediate_size": 10240,
    "num_hidden_layers": 34,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "vocab_size": 262208,
    "sliding_window": 1024,
    "tie_word_embeddings": True,
}


def model(config: dict[str, Any] = LLAMA_3_8B, **more: Any) -> Weights:
    """A model as the checkpoint's facts tell it."""
    told: dict[str, Any] = {fact.name: fact.value for fact in memory.facts(config, "config.json")}
    told |= {
        "model.name": "model",
        "model.kind": "folder",
        "model.hidden_size": config["hidden_size"],
        "model.intermediate_size": config["intermediate_size"],
        "model.heads": config["num_attention_heads"],
        "model.kv_heads": config["num_key_value_heads"],
        "model.head_dim": config.get("head_dim", config["hidden_size"] // config["num_attention_heads"]),
        "model.layers": config["num_hidden_layers"],
        "model.vocab_size": config["vocab_size"],
        "model.dtype": "bfloat16",
        "model.tied": config["tie_word_embeddings"],
        "model.context": 131072,
    }
    return model_of(told | more)


SMALL, LARGE, WINDOWED = model(), model(LLAMA_3_70B), model(GEMMA_3_4B)
MODELS = st.sampled_from([SMALL, LARGE, WINDOWED])
CARDS = st.sampled_from(["H100", "2xH100", "RTX4090", "4xRTX 3090", "T4", "8xA100-80GB"])
ENGINES = st.sampled_from(["vllm", "sglang", "llama-cpp", "transformers"])


def test_llama_3_8b_on_an_h100_for_vllm() -> None:
    """16 sequences of 8,192 tokens take 16 GiB beside 14.96 GiB of weights, and fit."""
    made = plan(SMALL, Wish(context=8192, concurrency=16), parse("H100"))
    parts = {part.name: part.bytes for part in made.cards[0].parts}
    assert made.fits is True
    assert parts["KV cache"] == 16 * GIB
    assert parts["weights"] == 2 * 8_030_261_248
    assert made.command == "vllm serve model --max-model-len 8192 --max-num-seqs 16"


def test_llama_3_70b_needs_two_cards() -> None:
    """It does not fit on one H100; quantized weights or more cards are proposed, and each proposal fits."""
    made = plan(LARGE, Wish(context=4096, concurrency=1), parse("H100"))
    assert made.fits is False
    told = " ".join(change.what for change in made.changes)
    assert "fp8: 67.7 GiB" in told
    assert "× H100" in told
    two = plan(LARGE, Wish(context=4096, concurrency=1), parse("2xH100"))
    assert (two.fits, two.tensor_parallel) == (True, 2)
    assert "--tensor-parallel-size 2" in two.command


def test_an_8_bit_cache_is_not_proposed_to_cards_without_8_bit_floats() -> None:
    """An A100 has none."""
    wish = Wish(context=65536, concurrency=12)
    for card, has in (("A100-80GB", False), ("H100", True)):
        made = plan(SMALL, wish, parse(card))
        assert made.fits is False
        assert ("--kv-cache-dtype fp8" in [change.flags for change in made.changes]) is has


def test_heads_limit_the_tensor_parallel_size() -> None:
    """32 heads on six cards: two by tensor and three stages, or three and two do not divide."""
    made = plan(SMALL, Wish(context=1024), parse("6xL4"))
    assert (made.tensor_parallel, made.pipeline_parallel) == (2, 3)


def test_llama_cpp_shares_its_context_among_slots() -> None:
    """-c is for all of them."""
    made = plan(SMALL, Wish(engine="llama-cpp", context=4096, concurrency=2, cache_dtype="q8_0"), parse("RTX4090"))
    assert "-c 8192 -np 2 -fa on -ctk q8_0 -ctv q8_0" in made.command
    cache = next(part.bytes for part in made.cards[0].parts if part.name == "KV cache")
    assert cache == 2 * 4096 * 32 * 2048 * 34 // 32


def test_full_tuning_takes_16_bytes_per_parameter() -> None:
    """With AdamW: 112 GB for 7 billion parameters, as the ZeRO paper says; stage 3 shares all of them."""
    for zero, cards in ((0, 1), (1, 1), (2, 1), (3, 1)):
        states = full_states(7_000_000_000, "adamw", zero, cards)
        assert states.weights + states.gradients + states.optimizer == 112_000_000_000
    shared = full_states(7_500_000_000, "adamw", 3, 64)
    assert round((shared.weights + shared.gradients + shared.optimizer) / 1e9, 1) == 1.9


def test_zero_stages_of_the_papers_example() -> None:
    """7.5 billion parameters on 64 cards: 31.4, 16.6 and 1.9 GB (arXiv 1910.02054, figure 1)."""
    found = []
    for stage in (1, 2, 3):
        states = full_states(7_500_000_000, "adamw", stage, 64)
        found.append(round((states.weights + states.gradients + states.optimizer) / 1e9, 1))
    assert found == [31.4, 16.6, 1.9]


def test_an_adapter_of_rank_16_on_all_layers_of_llama_3_8b() -> None:
    """41,943,040 parameters, as PEFT prints them."""
    assert adapter_parameters(SMALL.widths, 16) == 41_943_040


def test_qlora_takes_less_than_lora_and_lora_less_than_full() -> None:
    """On one card, of the same model."""
    needed = [
        max(load.needed for load in plan(SMALL, Wish(tune=tune), parse("H100")).cards)
        for tune in ("qlora", "lora", "full")
    ]
    assert needed == sorted(needed)
    assert needed[0] < needed[1] < needed[2]


def test_full_tuning_that_does_not_fit_is_led_to_what_does() -> None:
    """LoRA, QLoRA, more cards."""
    made = plan(SMALL, Wish(tune="full"), parse("H100"))
    assert made.fits is False
    told = " ".join(change.what for change in made.changes)
    assert "LoRA" in told
    assert "QLoRA" in told
    assert "ZeRO 3" in told


def test_without_weights_or_cache_there_is_no_verdict() -> None:
    """Unknown is a third answer, and says what is missing."""
    for broken in (replace(SMALL, weights=0, parameters=0), replace(SMALL, groups=())):
        made = plan(broken, Wish(context=1024), parse("H100"))
        assert made.fits is None
        assert made.unknown
    assert plan(SMALL, Wish(), ()).fits is None


def test_facts_of_a_gguf_file_are_enough_for_plain_attention() -> None:
    """Its metadata gives layers, heads and their size."""
    told = {
        "model.kind": "gguf",
        "gguf.architecture": "llama",
        "model.layers": 32,
        "model.kv_heads": 8,
        "model.heads": 32,
        "model.head_dim": 128,
        "model.hidden_size": 4096,
        "weights.bytes": 4_900_000_000,
    }
    found = model_of(told)
    assert sequence_bytes(found.groups, 1024, 2, LLAMA_CPP) == 1024 * 128 * 1024
    assert found.exact
    assert model_of({**told, "gguf.architecture": "mamba"}).groups == ()
    full, sliding = model_of({**told, "gguf.architecture": "gemma3", "model.sliding_window": 1024}).groups
    assert (full.layers, sliding.layers, sliding.window) == (5, 27, 1024)


def _needed(made: Plan) -> int:
    return max(load.needed for load in made.cards)


@settings(deadline=None, max_examples=25)
@given(MODELS, ENGINES, CARDS, st.integers(16, 40000), st.integers(1, 40), st.integers(0, 4000), st.integers(0, 5))
def test_more_never_needs_less(
    found: Weights, engine: str, cards: str, context: int, count: int, longer: int, more: int
) -> None:
    """More tokens, or more sequences, need at least as much on every card."""
    wish = Wish(engine=engine, context=context, concurrency=count)
    least = _needed(plan(found, wish, parse(cards)))
    assert _needed(plan(found, replace(wish, context=context + longer), parse(cards))) >= least
    assert _needed(plan(found, replace(wish, concurrency=count + more), parse(cards))) >= least


@settings(deadline=None, max_examples=25)
@given(MODELS, ENGINES, CARDS, st.integers(16, 100_000), st.integers(1, 64))
def test_the_largest_fits_and_one_step_more_does_not(
    found: Weights, engine: str, cards: str, context: int, count: int
) -> None:
    """Of sequences at once; and of tokens, in blocks of 16, where the model's own limit is not nearer."""
    wish = Wish(engine=engine, context=context, concurrency=count, sequences=count)
    made = plan(found, wish, parse(cards))
    if made.largest_concurrency > 0:
        most = made.largest_concurrency
        assert plan(found, replace(wish, concurrency=most), parse(cards)).fits
        assert not plan(found, replace(wish, concurrency=most + 1), parse(cards)).fits
    if 0 < made.largest_context < found.context:
        most = made.largest_context
        assert plan(found, replace(wish, context=most), parse(cards)).fits
        assert not plan(found, replace(wish, context=most + 16), parse(cards)).fits


@settings(deadline=None, max_examples=25)
@given(MODELS, CARDS, st.sampled_from(["full", "lora", "qlora"]), st.integers(1, 8), st.integers(64, 16384))
def test_parts_are_not_negative_and_sum_up(found: Weights, cards: str, tune: str, batch: int, context: int) -> None:
    """What is needed is the sum of the parts, what is free the rest; it fits if nothing is missing."""
    made = plan(found, Wish(tune=tune, batch=batch, context=context), parse(cards))
    for load in made.cards:
        assert all(part.bytes >= 0 for part in load.parts)
        assert load.needed == sum(part.bytes for part in load.parts)
        assert load.free == load.usable - load.needed
    assert made.fits == all(load.free >= 0 for load in made.cards)


OPTIONS = [
    {},
    {"cache_dtype": "fp8"},
    {"utilization": 0.8, "batched_tokens": 1024},
    {"quantization": "fp8", "concurrency": 3},
    {"eager": True, "sequences": 7},
]


@pytest.mark.parametrize("engine", ["vllm", "sglang", "llama-cpp", "transformers"])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda item: ",".join(item) or "none")
def test_the_flags_of_a_command_are_the_engines_own(engine: str, options: dict[str, Any]) -> None:
    """Read like any launch command, by the tables of the engines' flags: none is unknown."""
    if engine == "llama-cpp" and "cache_dtype" in options:
        options = {"cache_dtype": "q8_0"}
    made = plan(SMALL, Wish(engine=engine, context=2048, **options), parse("2xH100"))
    read = [item for item in launch.read(shlex.split(made.command), [], {}, "/") if isinstance(item, Fact)]
    told = {fact.name: fact.value for fact in (*read, *engines.complete(read))}
    assert told["launch.program"]
    assert str(told.get("launch.model")).startswith("model")
    wrong = [name for name in told if name.startswith(("launch.unknown.", "launch.gone.", "launch.stray"))]
    assert wrong == []


def test_ollama_is_told_by_its_environment() -> None:
    """Context and slots are variables of its server."""
    made = plan(SMALL, Wish(engine="ollama", context=2048, concurrency=2), parse("H100"))
    assert made.command == "OLLAMA_CONTEXT_LENGTH=2048 OLLAMA_NUM_PARALLEL=2 ollama serve"
