"""Faults of a training against its model, really run: each dies, or fails to learn, as its rule foretells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from diagnose import ruleset
from diagnose.collect import case_of_text
from diagnose.match import match
from diagnose.memory import tuning
from diagnose.memory.estimates import Widths
from diagnose.ruleset import RuleSet

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
FOLDERS = ROOT / "tests" / "models" / "folders"
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

DIES: tuple[tuple[str, dict[str, Any], str, str], ...] = (
    ("lora-targets-not-in-model", {"model": "qwen2", "lora": {"target_modules": ["c_attn"]}}, "not found in the base model", "lora-target-modules-not-found"),
    ("lora-target-is-one-name", {"model": "qwen2", "lora": {"target_modules": "q_proj"}}, "not found in the base model", "lora-target-modules-not-found"),
    ("lora-pattern-matches-nothing", {"model": "qwen2", "lora": {"target_modules": r".*\.attention\.q_proj"}}, "not found in the base model", "lora-target-modules-not-found"),
    ("lora-target-is-no-matrix", {"model": "qwen2", "lora": {"target_modules": ["q_proj", "mlp"]}}, "is not supported", "lora-target-module-unsupported"),
    ("lora-target-is-no-matrix", {"model": "gpt-oss", "lora": {"target_modules": ["q_proj", "router"]}}, "is not supported", "lora-target-module-unsupported"),
    ("lora-targets-are-all-saved-whole", {"model": "qwen2", "lora": {"target_modules": ["lm_head"], "modules_to_save": ["lm_head"]}}, "No modules were targeted", "lora-target-modules-not-found"),
    ("lora-has-no-default-targets", {"model": "phi3", "lora": {"r": 8}}, "Please specify `target_modules`", "lora-target-modules-not-found"),
    ("lora-dropout-on-stacked-experts", {"model": "qwen3-moe", "lora": {"target_modules": "all-linear", "lora_dropout": 0.05}}, "does not work with lora_dropout", "lora-on-stacked-parameter-refused"),
    ("lora-dropout-on-stacked-experts", {"model": "deepseek", "lora": {"target_modules": ALL, "lora_dropout": 0.05}}, "does not work with lora_dropout", "lora-on-stacked-parameter-refused"),
    ("lora-targets-half-of-fused-experts", {"model": "qwen3-moe", "lora": {"target_modules": ["q_proj", "gate_proj"]}}, "without also targeting up_proj", "lora-experts-half-targeted"),
    ("lora-rank-is-zero", {"model": "qwen2", "lora": {"target_modules": ["q_proj"], "r": 0}}, "should be a positive integer", "lora-rank-not-positive"),
    ("lora-dropout-out-of-range", {"model": "qwen2", "lora": {"target_modules": ["q_proj"], "lora_dropout": 5}}, "between 0 and 1", ""),
    ("pissa-on-quantized-base", {"model": "qwen2", "load": {"load_in_4bit": True, "device_map": "cpu"}, "lora": {"target_modules": ["q_proj"], "init_lora_weights": "pissa"}}, "Please initialize PiSSA", "adapter-made-of-quantized-weights"),
    ("quantized-base-quantized-again", {"model": "gptq", "load": {"load_in_4bit": True}}, "but you are passing a BitsAndBytesConfig", "quantization-settings-conflict"),
    ("quantized-weights-trained-whole", {"model": "qwen2", "load": {"load_in_4bit": True, "device_map": "cpu"}, "trainer": {}}, "purely quantized models", "training-purely-quantized-model"),
    ("attention-not-in-model-class", {"model": "gpt-oss", "load": {"attn_implementation": "sdpa"}}, "does not support an attention implementation", "attention-implementation-unsupported"),
    ("flash-attention-asked-and-not-installed", {"model": "qwen2", "load": {"attn_implementation": "flash_attention_2"}}, "has been toggled on", "flash-attn-not-installed"),
    ("float16-weights-under-scaler", {"model": "qwen2", "load": {"dtype": "float16"}, "scaled": True}, "Attempting to unscale FP16", "fp16-parameters-with-grad-scaler"),
    ("length-beyond-position-table-packed", {"model": "gpt2", "sft": {"packing": True, "packing_strategy": "wrapped", "max_length": 256}}, "index out of range", "index-out-of-range-in-embedding"),
    ("lora-on-output-layer", {"model": "qwen2", "sft": {}, "lora": {"target_modules": ["q_proj", "lm_head"]}}, "to `lm_head` is not supported", "adapter-on-output-layer-refused"),
    ("end-token-set-not-in-vocabulary", {"model": "qwen2", "sft": {"eos_token": "<|eot_id|>"}}, "not found in the vocabulary", "eos-token-not-in-vocabulary"),
    ("pad-token-set-not-in-vocabulary", {"model": "qwen2", "sft": {"pad_token": "<|pad|>"}}, "not found in the vocabulary", "eos-token-not-in-vocabulary"),
    ("messages-without-chat-template", {"model": "gpt2", "sft": {}, "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "chat_template is not set", "tokenizer-chat-template-missing"),
    ("adapter-as-base-of-trl", {"model": "qwen2-lora", "sft": {}}, "Unrecognized model", "config-file-missing"),
)  # fmt: skip
"""The rule that foretells it, what is run, words of the exception, and the rule that knows the exception."""
LEARNS_NOTHING = (
    {"model": "qwen2", "lora": {"target_modules": ["q_proj"], "lora_alpha": 0}},
    {"model": "qwen2", "lora": {"target_modules": ["q_proj"], "lora_dropout": 1.0}},
)
HEALTHY = (
    {"model": "qwen2", "lora": {"target_modules": "all-linear"}},
    {"model": "qwen2", "lora": {"target_modules": ["q_proj", "no_such"]}},
    {"model": "qwen3-moe", "lora": {"target_modules": "all-linear", "lora_dropout": 0.0}},
    {"model": "qwen2", "sft": {"packing": True, "max_length": 64}},
)
COUNTED = (
    {"model": "qwen2", "load": {"dtype": "float32"}},
    {"model": "qwen2", "load": {"dtype": "bfloat16"}},
    {"model": "qwen2", "load": {"dtype": "bfloat16"}, "lora": {"target_modules": ALL, "r": 4}},
)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What became of everything, by the request's own text."""
    python = os.environ.get("LLMDOCTOR_REAL_PYTHON", sys.executable)
    if subprocess.run(
        [python, "-c", "import torch, transformers, trl, peft, bitsandbytes"], capture_output=True
    ).returncode:
        pytest.skip(
            "no interpreter with torch, transformers, trl, peft and bitsandbytes: name one in LLMDOCTOR_REAL_PYTHON"
        )
    out = str(tmp_path_factory.mktemp("out"))
    wanted = [*(one[1] for one in DIES), *LEARNS_NOTHING, *HEALTHY, *COUNTED]
    asked = [one | {"model": str(FOLDERS / one["model"]), "out": out, "name": json.dumps(one)} for one in wanted]
    environ = os.environ | {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    run = subprocess.run(
        [python, "-m", "tests.real.tuned"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=800,
        env=environ,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    told = [json.loads(line.removeprefix("told:")) for line in run.stdout.splitlines() if line.startswith("told:")]
    return {report["name"]: report for report in told}


@cache
def rules() -> RuleSet:
    """All rules, compiled once."""
    return ruleset.load([])


@pytest.mark.parametrize(
    ("rule", "request_", "words", "log_rule"), DIES, ids=[f"{index}-{one[0]}" for index, one in enumerate(DIES)]
)
def test_it_dies_as_foretold(
    reports: dict[str, dict[str, Any]], rule: str, request_: dict[str, Any], words: str, log_rule: str
) -> None:
    """The exception is the one that the rule's text names; its log rule knows it, and the rule leads to that."""
    problem = reports[json.dumps(request_)]["problem"]
    assert words in problem
    made = rules().find(rule)
    assert made is not None
    if log_rule:
        found = {one.rule.id for one in match(rules(), case_of_text(rules(), problem + "\n", "a.log"))}
        assert log_rule in found
        assert log_rule in made.leads_to


@pytest.mark.parametrize("request_", LEARNS_NOTHING)
def test_an_adapter_that_is_multiplied_by_nothing_gets_no_gradient(
    reports: dict[str, dict[str, Any]], request_: dict[str, Any]
) -> None:
    """Alpha 0, or dropout 1: it runs, and learns nothing."""
    report = reports[json.dumps(request_)]
    assert (report["problem"], report["gradients"]) == ("", 0)


@pytest.mark.parametrize("request_", HEALTHY)
def test_what_no_error_is_told_of_runs(reports: dict[str, dict[str, Any]], request_: dict[str, Any]) -> None:
    """Also a target that is not there, beside one that is: PEFT says nothing."""
    assert reports[json.dumps(request_)]["problem"] == ""


def test_bytes_are_those_that_are_reckoned(reports: dict[str, dict[str, Any]]) -> None:
    """Weights, gradients and AdamW's states of a real step: equal to the sums that a case is told."""
    whole, half, adapter = (reports[json.dumps(one)]["bytes"] for one in COUNTED)
    count = whole["trained"]
    made = tuning.full_states(count, "adamw", 0, 1)
    assert (whole["weights"], whole["gradients"], whole["optimizer"]) == (made.weights, made.gradients, made.optimizer)
    assert (half["weights"], half["gradients"], half["optimizer"]) == (2 * count, 2 * count, 4 * count)
    config = json.loads((FOLDERS / "qwen2" / "config.json").read_text())
    heads = config["num_attention_heads"]
    widths = Widths(
        config["hidden_size"], config["intermediate_size"], heads, config["num_key_value_heads"],
        config["hidden_size"] // heads, config["vocab_size"], config["num_hidden_layers"],
    )  # fmt: skip
    trained = tuning.adapter_parameters(widths, 4)
    assert adapter["trained"] == trained
    own = tuning.adapter_states(adapter["trained"], "adamw", 0, 1)
    assert (adapter["gradients"], adapter["optimizer"]) == (own.gradients, own.optimizer)
    assert adapter["weights"] == 2 * count + own.weights
