"""The tokenizer inside a GGUF file."""

from __future__ import annotations

from pathlib import Path

import pytest

from diagnose.model import Fact
from diagnose.sources import tokenizer
from tests.sources.tokenizer.made import CHATML, Value

gguf = pytest.importorskip("gguf", reason="the gguf library, which writes the files, is not installed")

TEXTS = ["<unk>", "<s>", "</s>", "a", "b", "<|im_start|>", "<|im_end|>", "<|fin|>"]
TYPES = [2, 3, 3, 1, 1, 3, 3, 3]


def _file(path: Path, template: str | None = CHATML, eos: int = 6) -> Path:
    made = path / "Tiny-Chat-Q8_0.gguf"
    writer = gguf.GGUFWriter(str(made), "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list(TEXTS)
    writer.add_token_types(TYPES)
    writer.add_eos_token_id(eos)
    writer.add_bos_token_id(1)
    if template is not None:
        writer.add_chat_template(template)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return made


def _facts(path: Path) -> dict[str, Value]:
    return {fact.name: fact.value for fact in tokenizer.read(str(path), {}, "/") if isinstance(fact, Fact)}


def test_tokens_and_template_of_a_gguf_file_are_told(tmp_path: Path) -> None:
    """Special tokens by name, and what the template does with conversations."""
    told = _facts(_file(tmp_path))
    assert told["tokenizer.kind"] == "gguf"
    assert told["tokenizer.vocab_size"] == len(TEXTS)
    assert (told["special.eos.text"], told["special.eos.id"]) == ("<|im_end|>", 6)
    assert told["template.source"] == "tokenizer.chat_template"
    assert told["template.system"] == "used"
    assert told["template.turn_end"] == "<|im_end|>"
    assert told["template.turn_end_stops"] == "everywhere"
    assert told["template.model_tuned"] == "yes"


def test_llama_cpp_stops_at_known_ends_whatever_the_file_says(tmp_path: Path) -> None:
    """<|im_end|> ends an answer there also where another token is named; a token of one's own does not."""
    assert _facts(_file(tmp_path, eos=2))["template.turn_end_stops"] == "everywhere"
    own = CHATML.replace("<|im_end|>", "<|fin|>")
    assert _facts(_file(tmp_path, own, eos=2))["template.turn_end_stops"] == "nowhere"
    assert _facts(_file(tmp_path, own, eos=7))["template.turn_end_stops"] == "everywhere"


def test_a_file_without_a_template_has_no_fault(tmp_path: Path) -> None:
    """llama.cpp takes ChatML then."""
    assert "template.source" not in _facts(_file(tmp_path, None))


def test_a_file_that_is_cut_or_no_gguf_breaks_nothing(tmp_path: Path) -> None:
    """Its own source tells what is wrong with it."""
    made = _file(tmp_path)
    data = made.read_bytes()
    for size in range(0, len(data), 97):
        made.write_bytes(data[:size])
        _facts(made)
