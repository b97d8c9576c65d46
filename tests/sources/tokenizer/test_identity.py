"""Which class reads a tokenizer, whose code that is, which packages it needs, and what the model was tuned for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from diagnose.sources.tokenizer.identity import tuned_for_chat
from tests.sources.tokenizer.made import config, facts, folder


@pytest.mark.parametrize(
    ("name", "generation", "answer"),
    [
        ("Qwen2.5-7B-Instruct", {}, "yes"),
        ("Llama-2-7b-chat-hf", {}, "yes"),
        ("gemma-2-9b-it", {}, "yes"),
        ("Qwen3-8B-Base", {"do_sample": True}, "no"),
        ("gemma-3-4b-pt", {}, "no"),
        ("Qwen3-8B", {"do_sample": True, "temperature": 0.6}, "yes"),
        ("Qwen2.5-7B", {"do_sample": False, "max_new_tokens": 2048}, "no"),
        ("Mistral-7B-v0.1", {}, "unknown"),
        ("bitnet", {}, "unknown"),
        ("pt", {}, "unknown"),
        ("database-7b", {}, "unknown"),
    ],
)
def test_what_a_model_was_tuned_for(name: str, generation: dict[str, Any], answer: str) -> None:
    """By whole words of its name, else by its sampling settings; else it is not known."""
    assert tuned_for_chat(name, generation) == answer


def test_code_that_is_not_there_is_told(tmp_path: Path) -> None:
    """Only where transformers has no class of that name, and the file is meant to lie in this folder."""
    own = config(tokenizer_class="QWenTokenizer", auto_map={"AutoTokenizer": ["tokenization_qwen.QWenTokenizer", None]})
    told = facts(folder(tmp_path, tokenizer_config_json=own))
    assert told["tokenizer.remote_code"] is True
    assert told["tokenizer.remote_code_missing"] == "tokenization_qwen.py"
    elsewhere = {**own, "auto_map": {"AutoTokenizer": ["other/repo--tokenization_qwen.QWenTokenizer", None]}}
    assert "tokenizer.remote_code_missing" not in facts(folder(tmp_path, tokenizer_config_json=elsewhere))
    known = {**own, "tokenizer_class": "Qwen2TokenizerFast"}
    assert "tokenizer.remote_code_missing" not in facts(folder(tmp_path, tokenizer_config_json=known))
    made = folder(tmp_path, tokenizer_config_json=own)
    (made / "tokenization_qwen.py").write_text("raise SystemExit  # never run")
    assert "tokenizer.remote_code_missing" not in facts(made)


def test_what_only_transformers_5_writes_is_told(tmp_path: Path) -> None:
    """Its generic class, and further special tokens as a list."""
    new = config(tokenizer_class="TokenizersBackend", extra_special_tokens=["<a>"])
    told = facts(folder(tmp_path, tokenizer_config_json=new))
    assert told["tokenizer.class_since"] == "5.0.0"
    assert told["tokenizer.extra_special_tokens"] == "list"
    assert "tokenizer.extra_special_tokens" not in facts(
        folder(tmp_path, tokenizer_config_json=config(extra_special_tokens={}))
    )


def test_a_number_that_stands_for_no_limit_is_none(tmp_path: Path) -> None:
    """transformers writes 10^30 where there is no limit; a number that the report can hold is a limit."""
    endless = config(model_max_length=1000000000000000019884624838656)
    assert "tokenizer.model_max_length" not in facts(folder(tmp_path, tokenizer_config_json=endless))
    assert (
        facts(folder(tmp_path, tokenizer_config_json=config(model_max_length=4096)))["tokenizer.model_max_length"]
        == 4096
    )


def test_a_model_for_embeddings_is_known_by_its_files(tmp_path: Path) -> None:
    """sentence-transformers keeps modules.json beside the model."""
    assert facts(folder(tmp_path))["tokenizer.pooling"] is False
    told = facts(folder(tmp_path, modules_json=[]))
    assert told["tokenizer.pooling"] is True
    assert told["template.model_tuned"] == "embedding"


def test_a_class_that_no_release_has_is_told(tmp_path: Path) -> None:
    """With the ending Fast or without."""
    assert facts(folder(tmp_path))["tokenizer.class_known"] is True
    for name, known in (("Qwen9Tokenizer", False), ("LlamaTokenizerFast", True), ("TokenizersBackend", True)):
        assert (
            facts(folder(tmp_path, tokenizer_config_json=config(tokenizer_class=name)))["tokenizer.class_known"]
            is known
        )


def test_a_folder_without_tokenizer_config_is_told(tmp_path: Path) -> None:
    """And a limit that is no number."""
    told = facts(folder(tmp_path, tokenizer_config_json=None))
    assert told["tokenizer.config_missing"] is True
    assert told["template.source"] == "none"
    told = facts(folder(tmp_path, tokenizer_config_json=config(model_max_length="32k")))
    assert told["tokenizer.model_max_length_text"] == "32k"
