"""A training's settings against its model: PEFT's matching of targets, and what a healthy training on a real folder is told."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose import ruleset
from diagnose.collect import completed
from diagnose.derive import tuning_lora, tuning_model
from diagnose.derive.known import Known, by_name
from diagnose.facts import describe
from diagnose.match import match
from diagnose.model import Case, Fact
from diagnose.ruleset import RuleSet
from diagnose.sources import checkpoint, tokenizer
from tests.support import CORPUS, ROOT, facts_of, facts_of_files

FOLDERS = ROOT / "tests" / "models" / "folders"
LORA = {"training.framework": "trl", "training.method": "lora", "training.task": "sft"}


def told(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What follows from facts (`model__type` stands for `model.type`)."""
    known: dict[str, Any] = dict(LORA)
    for part in parts:
        known |= part
    known |= {name.replace("__", "."): value for name, value in more.items()}
    return {fact.name: fact.value for fact in tuning_model.complete(facts_of(known))}


def lora(kind: str, targets: str, **more: Any) -> dict[str, Any]:
    """The same of an adapter with these targets on a model type."""
    return told({"model.type": kind, "training.lora.targets": targets, "model.layers": 4}, **more)


# --- targets


@pytest.mark.parametrize(
    ("kind", "targets", "missing"),
    [
        ("llama", "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj", ""),
        ("llama", "self_attn.q_proj, layers.3.mlp.up_proj", ""),
        ("llama", "model.layers.0.self_attn.q_proj", ""),
        ("llama", "roj", "roj"),  # an ending of a name is no name
        ("gpt2", "c_attn,c_proj,c_fc", ""),
        ("gpt2", "q_proj", "q_proj"),
        ("phi3", "qkv_proj,gate_up_proj", ""),
        ("phi3", "q_proj,gate_up_proj", "q_proj"),
        ("mixtral", "w1,w2,w3,q_proj,gate", ""),
        ("deepseek_v3", "q_a_proj,kv_a_proj_with_mqa,kv_b_proj,gate_proj", ""),
        ("llama", "q_proj,score", ""),
        ("nemotron_h", "q_proj,gate_proj,up_proj", "gate_proj"),
        ("granitemoehybrid", "q_proj,in_proj", ""),
        ("deepseek_v3", "q_proj", ""),  # where the config has no q_lora_rank
    ],
)
def test_a_listed_target_is_looked_for_at_the_end_of_names(kind: str, targets: str, missing: str) -> None:
    """As PEFT does: whole parts of a name, from its end; experts of before transformers 5 count as there."""
    assert lora(kind, targets).get("tuning.lora.target_missing", "") == missing


@pytest.mark.parametrize(
    ("pattern", "matches", "is_name"),
    [
        (r".*\.self_attn\.(q|v)_proj", True, False),
        (r"model\.layers\.[0-2]\.mlp\..*", True, False),
        (r"model\.layers\.3\.mlp\.up_proj", True, False),
        (r"model\.layers\.9\.mlp\.up_proj", False, False),
        (r"q_proj", False, True),
        (r"self_attn.q_proj", False, True),
        (r".*\.attention\..*", False, False),
    ],
)
def test_one_text_has_to_match_the_whole_name(pattern: str, matches: bool, is_name: bool) -> None:
    """re.fullmatch over the names of all layers; a bare name is the common mistake."""
    found = lora("llama", pattern, training__lora__targets_pattern=True)
    assert found["tuning.lora.pattern_matches"] is matches
    if not matches:
        assert found["tuning.lora.pattern_is_name"] is is_name


@pytest.mark.parametrize("pattern", [r"(?!.*vision).*q_proj", r"(", r"(.+)+\1", "a{99999}", "x" * 5000])
def test_a_pattern_that_cannot_be_followed_says_nothing(pattern: str) -> None:
    """Look-around, broken patterns and such that would not end: unknown, and no time lost."""
    found = lora("llama", pattern, training__lora__targets_pattern=True)
    assert "tuning.lora.pattern_matches" not in found


def test_names_of_releases_before_are_known_to_patterns() -> None:
    """Vision models had the language model in another place until transformers 4.52."""
    pattern = r"language_model\.model\.layers\.\d+\.self_attn\.q_proj"
    found = lora("qwen2_5_vl", pattern, training__lora__targets_pattern=True)
    assert found["tuning.lora.pattern_matches"] is True


def test_files_tell_of_a_model_that_no_table_has() -> None:
    """Names of a model of its own code come from its safetensors headers."""
    stored = "transformer.layers.#.attn.in_proj,transformer.layers.#.attn.out_proj,lm_head"
    found = lora("acme_own", "Wqkv,out_proj", weights__modules=stored)
    assert found["tuning.lora.target_missing"] == "Wqkv"
    assert not [name for name in lora("acme_own", "Wqkv") if "target" in name]


def test_another_task_than_training_tells_nothing() -> None:
    """A merge or an inference configuration repeats settings that nobody trains with."""
    assert told(training__task="merge", model__type="llama", training__lora__targets="c_attn") == {}
    assert told({"training.framework": "torchtune"}, model__type="llama", training__lora__targets="output_proj") == {}


MOE = {"model.type": "qwen3_moe", "model.layers": 4}


def test_stacked_experts_take_no_dropout() -> None:
    """PEFT makes LoRA on the stacked parameter of gate_proj, up_proj, down_proj and all-linear: tried with peft 0.21."""
    every = told(MOE, training__lora__targets="all-linear", training__lora__dropout=0.05)
    assert every["tuning.lora.experts_with_dropout"] is True
    attention = told(MOE, training__lora__targets="q_proj,v_proj", training__lora__dropout=0.05)
    assert attention["tuning.lora.experts_with_dropout"] is False
    own = told(
        MOE, {"training.framework": "axolotl"}, training__lora__targets="all-linear", training__lora__dropout=0.05
    )
    assert own["tuning.lora.experts_with_dropout"] is False
    half = told(MOE, training__lora__targets="gate_proj,down_proj")
    assert (half["tuning.lora.experts_half"], half["tuning.lora.experts_other_half"]) == (True, "up_proj")


def test_what_is_no_matrix_is_refused() -> None:
    """Containers and norms in any release; routers only where they are known to be classes of their own."""
    assert lora("llama", "q_proj,mlp,input_layernorm")["tuning.lora.target_refused"] == "mlp, input_layernorm"
    assert "tuning.lora.target_refused" not in lora("gpt_oss", "q_proj,router")
    assert lora("gpt_oss", "q_proj,router", transformers__version="5.24.0")["tuning.lora.target_refused"] == "router"
    assert "tuning.lora.target_refused" not in lora("mixtral", "gate", transformers__version="5.24.0")


def test_a_pattern_that_also_takes_in_a_norm_is_refused() -> None:
    """PEFT stops at the first module that it has no adapter for."""
    found = lora("llama", ".*attention.*", training__lora__targets_pattern=True)
    assert found["tuning.lora.target_refused"] == "post_attention_layernorm"
    fine = lora("llama", r".*(q|k)_proj", training__lora__targets_pattern=True)
    assert "tuning.lora.target_refused" not in fine


def test_saved_modules_end_with_their_names() -> None:
    """PEFT compares letters here, not parts of names."""
    found = lora("gpt2", "c_attn", training__lora__saved_modules="embed_tokens,lm_head,wte,te")
    assert (found["tuning.lora.saved_missing"], found["tuning.lora.saved_missing_names"]) == (1, "embed_tokens")
    assert found["tuning.lora.ends"] == "lm_head, wte"


def test_the_scale_of_an_adapter() -> None:
    """Alpha by rank, and by its root with rank-stabilised LoRA."""
    assert told(training__lora__rank=16, training__lora__alpha=32)["tuning.lora.scale"] == 2
    stable = told(training__lora__rank=16, training__lora__alpha=32, training__lora__rslora=True)
    assert stable["tuning.lora.scale"] == 8


# --- tokens, attention


def test_a_token_that_is_set_is_looked_for_among_the_marks() -> None:
    """Known only where all marks of the vocabulary are, and for a token that is written like one."""
    marks = {"tokenizer.marks": "<s> </s> <unk>"}
    assert told(marks, training__eos_token="<|im_end|>")["tuning.tokens.eos_unknown"] is True
    assert told(marks, training__eos_token="</s>")["tuning.tokens.eos_unknown"] is False
    assert "tuning.tokens.eos_unknown" not in told(marks, training__eos_token="END")
    assert "tuning.tokens.eos_unknown" not in told(training__eos_token="<|im_end|>")
    other = told(marks, training__eos_token="<|im_end|>", training__tokenizer="other", training__model="this")
    assert "tuning.tokens.eos_unknown" not in other


def test_what_a_class_supports_is_told_for_the_tables_release_alone() -> None:
    """Gemma 3 had FlashAttention in releases before: nothing is said of these."""
    asked = {"model.type": "gpt_oss", "training.attention": "sdpa"}
    release = tuning_lora.table_release()
    assert told(asked, transformers__version=release)["tuning.attention.supported"] is False
    assert "tuning.attention.supported" not in told(asked, transformers__version="4.57.1")
    assert "tuning.attention.supported" not in told(asked)


def test_every_fact_is_in_the_catalogue() -> None:
    """Each name that is told can be asked for by a rule."""
    facts = told(
        MOE, {"tokenizer.marks": "<s>", "template.turn_end": "<e>", "template.turn_end_stops": "nowhere", "special.eos.text": "</s>"},
        training__lora__targets="all-linear,foo", training__lora__saved_modules="wte", training__lora__dropout=0.1,
        training__lora__rank=8, training__lora__alpha=8, model__hidden_size=64, training__attention="flash_attention_2",
        packages__count=3, transformers__version=tuning_lora.table_release(), model__head_dim=64, training__quantization="4bit",
        training__fp16=True, model__dtype="bfloat16", training__new_tokens=1, training__eos_token="<x>", model__quantization="gptq",
        training__gradient_checkpointing=True, model__experts=4, zero__stage=3, training__learning_rate=0.1,
    )  # fmt: skip
    assert len(facts) > 25
    assert [name for name in facts if describe(name) is None] == []


@given(
    st.dictionaries(
        st.sampled_from(
            ["training.lora.targets", "training.lora.saved_modules", "training.lora.rank", "training.lora.alpha", "model.type",
             "training.lora.targets_pattern", "model.layers", "weights.modules", "training.attention", "training.chat_template",
             "training.new_tokens", "training.max_length", "model.positions", "training.eos_token", "tokenizer.marks",
             "transformers.version", "training.lora.dropout", "model.experts", "zero.stage", "training.load_dtype"]
        ),
        st.one_of(st.text(max_size=60), st.integers(-5, 1 << 70), st.floats(), st.booleans(), st.sampled_from(["llama", "qwen3_moe"])),
    )
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_whatever_is_set_raises_nothing(facts: dict[str, Any]) -> None:
    """Settings are somebody else's: values of any kind give facts or silence."""
    told({"model.type": "llama"}, facts)


# --- real folders

HEALTHY: tuple[tuple[str, str], ...] = (
    ("llama", "lora_target_modules: [q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj]"),
    ("llama2-chat", "lora_target_modules: all-linear"),
    ("qwen2", "lora_target_modules: [q_proj, v_proj]\nlora_modules_to_save: [embed_tokens, lm_head]"),
    ("qwen3", "lora_target_modules: all-linear\neos_token: '<|im_end|>'"),
    ("mistral", "lora_target_modules: [q_proj, o_proj]"),
    ("phi3", "lora_target_modules: [qkv_proj, o_proj, gate_up_proj, down_proj]"),
    ("gpt2", "lora_target_modules: [c_attn, c_proj, c_fc]\nmax_length: 128"),
    ("gemma3", "lora_target_modules: all-linear\nattn_implementation: eager"),
    ("deepseek", "lora_target_modules: [q_a_proj, q_b_proj, kv_a_proj_with_mqa, kv_b_proj, o_proj]"),
    ("qwen3-moe", "lora_target_modules: [q_proj, k_proj, v_proj, o_proj]\nlora_dropout: 0.05"),
    ("qwen3-moe", "lora_target_modules: all-linear\nlora_dropout: 0.0"),
    ("gpt-oss", "lora_target_modules: [q_proj, k_proj, v_proj, o_proj]\nattn_implementation: eager"),
)
HEAD = "output_dir: out\nper_device_train_batch_size: 2\nlearning_rate: 2.0e-4\nbf16: true\nuse_peft: true\nlora_r: 8\nlora_alpha: 16\n"
VERSIONS = {"transformers.version": "5.24.0", "peft.version": "0.21.2", "trl.version": "1.16.0", "packages.count": 90}


def findings(folder: str, text: str, where: Path) -> dict[str, str]:
    """Rules of this family on a configuration of TRL for a model of tests/models/folders, with their severity."""
    file = where / "train.yaml"
    file.write_text(f"model_name_or_path: {FOLDERS / folder}\n{HEAD}{text}\n", encoding="utf-8")
    model = str(FOLDERS / folder)
    of_model = (*checkpoint.read(model, {}, "/"), *tokenizer.read(model, {}, "/"))
    facts = by_name(
        (*facts_of(VERSIONS), *facts_of_files(where, "train.yaml"), *(one for one in of_model if isinstance(one, Fact)))
    )
    case = completed(Case(tuple(facts.values()), (), (), machine=True))
    own = {path.stem for path in (ROOT / "rules" / "training-model").glob("*.yaml")}
    return {one.rule.id: one.rule.severity for one in match(rules(), case) if one.rule.id in own}


@cache
def rules() -> RuleSet:
    """All rules, compiled once."""
    return ruleset.load([])


@pytest.mark.parametrize(("folder", "text"), HEALTHY)
def test_a_healthy_training_of_a_real_folder_is_told_nothing(folder: str, text: str, tmp_path: Path) -> None:
    """No error and no warning; a note may be."""
    found = findings(folder, text, tmp_path)
    assert {name for name, severity in found.items() if severity != "note"} == set()


@pytest.mark.parametrize(
    ("folder", "text", "rule"),
    [
        ("qwen2", "lora_target_modules: [c_attn, query_key_value]", "lora-targets-not-in-model"),
        ("qwen2", "lora_target_modules: [q_proj, k_porj]", "lora-targets-partly-not-in-model"),
        ("qwen2", "lora_target_modules: q_proj", "lora-target-is-one-name"),
        ("qwen2", r"lora_target_modules: '.*\.attention\.q_proj'", "lora-pattern-matches-nothing"),
        ("qwen2", "lora_target_modules: [q_proj, mlp]", "lora-target-is-no-matrix"),
        ("qwen2", "lora_target_modules: [q_proj, lm_head]\ncompletion_only_loss: false", "lora-on-output-layer"),
        ("qwen2", "lora_target_modules: [q_proj, v_proj]\nlora_modules_to_save: [wte]", "lora-saved-module-not-in-model"),
        ("qwen2", "lora_target_modules: [q_proj, v_proj]\neos_token: '<|eot_id|>'", "end-token-set-not-in-vocabulary"),
        ("qwen2", "lora_target_modules: [q_proj, v_proj]\npad_token: '<|finetune_right_pad_id|>'", "pad-token-set-not-in-vocabulary"),
        ("qwen3-moe", "lora_target_modules: all-linear\nlora_dropout: 0.05", "lora-dropout-on-stacked-experts"),
        ("qwen3-moe", "lora_target_modules: [q_proj, gate_proj]", "lora-targets-half-of-fused-experts"),
        ("gpt-oss", "lora_target_modules: [q_proj, v_proj]\nattn_implementation: sdpa", "attention-not-in-model-class"),
        ("gptq", "lora_target_modules: [q_proj, v_proj]\nload_in_4bit: true", "quantized-base-quantized-again"),
        ("gpt2", "lora_target_modules: [c_attn, c_fc]\nmax_length: 512", "length-beyond-position-table"),
        ("gpt2", "lora_target_modules: [c_attn, c_fc]\nmax_length: 512\npacking: true\npacking_strategy: wrapped", "length-beyond-position-table-packed"),
    ],
)  # fmt: skip
def test_a_planted_fault_is_found(folder: str, text: str, rule: str, tmp_path: Path) -> None:
    """Each of them was run with transformers 5.24, peft 0.21 and trl 1.16 (tests/real), and died as it is told."""
    assert rule in findings(folder, text, tmp_path)


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the published configurations are not here")
def test_published_configurations_name_modules_that_their_models_have() -> None:
    """LoRA targets of published configurations, for the model type that their model's name tells: none is missing."""
    types = (
        ("qwen3-vl", ""),
        (r"qwen3-\d+b$", "qwen3"),
        (r"qwen2\.5-\d+", "qwen2"),
        (r"llama-3", "llama"),
        ("mistral-7b", "mistral"),
    )
    wrong, compared = [], 0
    for file in sorted(CORPUS.rglob("*.y*ml")):
        facts = by_name(facts_of_files(file.parent, file.name))
        name = str(facts["training.model"].value).lower() if "training.model" in facts else ""
        kind = next((kind for pattern, kind in types if re.search(pattern, name)), "")
        if kind:
            compared += "training.lora.targets" in facts
            known = Known({**facts, "model.type": Fact("model.type", kind, "x")})
            wrong += [
                (file.name, name)
                for name, value in tuning_lora.complete(known)
                if name.endswith("target_missing") and value
            ]
    assert wrong == []
    assert compared > 0
