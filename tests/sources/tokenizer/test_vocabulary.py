"""Which text has which id, and where files and model disagree about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.sources.tokenizer.made import byte_letters, byte_level, config, facts, folder, sentencepiece, token


def test_sizes_are_told_with_the_rows_of_the_model(tmp_path: Path) -> None:
    """Ids are counted once, added tokens among them, and compared with vocab_size."""
    told = facts(folder(tmp_path))
    assert told["tokenizer.kind"] == "tokenizer.json"
    assert told["tokenizer.vocab_size"] == 261
    assert told["tokenizer.last_id"] == 260
    assert told["tokenizer.embedding_rows"] == 320
    assert told["tokenizer.ids_outside"] == 0
    assert told["tokenizer.percent_of_rows"] == 81
    assert told["tokenizer.algorithm"] == "BPE"


def test_ids_beyond_the_model_are_told_apart_by_what_they_are(tmp_path: Path) -> None:
    """An added token without a row is another fault than a piece of ordinary text without one."""
    model = {"architectures": ["LlamaForCausalLM"], "vocab_size": 259}
    told = facts(folder(tmp_path, config_json=model))
    assert (told["tokenizer.ids_outside"], told["tokenizer.ordinary_outside"]) == (2, 0)
    assert told["tokenizer.tokens_outside"] == "<|im_start|>, <|im_end|>"
    assert told["special.eos.outside"] is True
    told = facts(folder(tmp_path, config_json={**model, "vocab_size": 200}))
    assert told["tokenizer.ordinary_outside"] == 58


def test_marks_are_told_where_the_vocabulary_holds_all(tmp_path: Path) -> None:
    """Tokens that are written like marks; reserved ones and bytes stand for nothing."""
    assert facts(folder(tmp_path))["tokenizer.marks"] == "<|endoftext|> <|im_end|> <|im_start|>"


def test_the_vocabulary_of_the_language_model_counts(tmp_path: Path) -> None:
    """Models with images keep the language model's numbers in a part of config.json."""
    told = facts(folder(tmp_path, config_json={"text_config": {"vocab_size": 300}}))
    assert told["tokenizer.embedding_rows"] == 300


def test_a_second_file_with_other_ids_is_told(tmp_path: Path) -> None:
    """vocab.json and tokenizer.json have to agree, and the first difference is shown."""
    document = byte_level()
    other = dict(document["model"]["vocab"])
    other["th"], other["the"] = other["the"], other["th"]
    told = facts(folder(tmp_path, tokenizer_json=document, vocab_json=other, merges_txt="#version: 0.2\nt h\nth e\n"))
    assert told["tokenizer.vocab_json_differs"] == 2
    assert told["tokenizer.vocab_json_example"] == "'th' is 257 there and 256 in tokenizer.json"
    told = facts(folder(tmp_path, tokenizer_json=document, vocab_json=document["model"]["vocab"]))
    assert told["tokenizer.vocab_json_differs"] == 0


def _metaspace(vocab: dict[str, int]) -> dict[str, Any]:
    step = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": False}
    model = {"type": "BPE", "vocab": vocab, "merges": [], "unk_token": "<unk>", "byte_fallback": True}
    return {**byte_level(), "pre_tokenizer": step, "decoder": step, "model": model, "added_tokens": [token("<unk>", 0)]}


def test_a_sentencepiece_model_of_another_tokenizer_is_told(tmp_path: Path) -> None:
    """A percentage says how much of it differs."""
    vocab = {"<unk>": 0, "▁": 1, "a": 2, "b": 3}
    same = sentencepiece([("<unk>", 2), ("▁", 1), ("a", 1), ("b", 1)])
    other = sentencepiece([("<unk>", 2), ("b", 1), ("a", 1), ("▁", 1)])
    told = facts(folder(tmp_path, tokenizer_json=_metaspace(vocab), tokenizer_model=same))
    assert told["tokenizer.sentencepiece_percent"] == 0
    told = facts(folder(tmp_path, tokenizer_json=_metaspace(vocab), tokenizer_model=other))
    assert told["tokenizer.sentencepiece_differs"] == 2
    assert told["tokenizer.sentencepiece_percent"] == 50


def test_without_tokenizer_json_the_older_files_count(tmp_path: Path) -> None:
    """SentencePiece, vocab.json with its merges, and what has to be installed to read them."""
    model = sentencepiece([("<unk>", 2), ("<s>", 3), ("</s>", 3), ("a", 1)])
    setup = {"eos_token": "</s>"}
    told = facts(folder(tmp_path, tokenizer_json=None, tokenizer_model=model, tokenizer_config_json=setup))
    assert told["tokenizer.kind"] == "sentencepiece"
    assert told["tokenizer.needs_sentencepiece"] is True
    assert told["special.eos.id"] == 2


def test_vocab_json_without_merges_is_told(tmp_path: Path) -> None:
    """A byte-pair vocabulary is two files."""
    vocab = byte_level()["model"]["vocab"]
    told = facts(folder(tmp_path, tokenizer_json=None, vocab_json=vocab))
    assert told["tokenizer.kind"] == "vocab"
    assert told["tokenizer.merges_missing"] is True


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config_json": config(tokenizer_class="Wav2Vec2CTCTokenizer", eos_token="</s>")},
        {"config_json": {"model_type": "marian", "architectures": ["MarianMTModel"]}, "tokenizer_config_json": config(eos_token="</s>")},
        {"sentencepiece.bpe_model": b"x", "tokenizer_config_json": config(tokenizer_class="M2M100Tokenizer", eos_token="</s>")},
    ],
)  # fmt: skip
def test_vocab_json_of_a_class_without_merges_is_whole(tmp_path: Path, files: dict[str, Any]) -> None:
    """Letters of speech models stand alone, Marian and M2M100 have SentencePiece models; their classes add tokens."""
    told = facts(folder(tmp_path, tokenizer_json=None, vocab_json={"a": 0, "b": 1}, **files))
    assert told["tokenizer.kind"] == "vocab"
    assert not {"tokenizer.merges_missing", "special.eos.not_in_vocabulary"} & told.keys()


def test_tokens_that_a_class_adds_to_its_file_are_not_missed(tmp_path: Path) -> None:
    """XLM-R's and NLLB's classes put <pad> in front of the pieces of sentencepiece.bpe.model; BERTweet's does so too."""
    model = sentencepiece([("<unk>", 2), ("<s>", 3), ("</s>", 3), ("a", 1)])
    setup = {"eos_token": "</s>", "pad_token": "<pad>"}
    files = {"tokenizer_json": None, "tokenizer_config_json": setup}
    told = facts(folder(tmp_path, **files, **{"sentencepiece.bpe_model": model}))
    assert (told["tokenizer.kind"], "special.pad.not_in_vocabulary" in told) == ("sentencepiece", False)
    assert facts(folder(tmp_path, **files, tokenizer_model=model))["special.pad.not_in_vocabulary"] is True
    told = facts(folder(tmp_path, **files, vocab_txt="a\nb\n", bpe_codes="a b 1\n"))
    assert (told["tokenizer.kind"], "special.pad.not_in_vocabulary" in told) == ("vocab", False)


@pytest.mark.parametrize("merges", ["#version: 0.2\nt h\nth e x\n", "#version: 0.2\nt h\nth"])
def test_a_damaged_list_of_merges_is_told(tmp_path: Path, merges: str) -> None:
    """A line with three pieces, or a last line that is cut off."""
    told = facts(folder(tmp_path, tokenizer_json=None, vocab_json=byte_level()["model"]["vocab"], merges_txt=merges))
    assert told["tokenizer.file.0.name"] == "merges.txt"


def test_a_language_model_without_any_vocabulary_is_told(tmp_path: Path) -> None:
    """The weights and the settings were copied, the vocabulary was not."""
    told = facts(folder(tmp_path, tokenizer_json=None))
    assert told["tokenizer.vocabulary_missing"] is True
    byte_model = config(tokenizer_class="ByT5Tokenizer")
    assert "tokenizer.vocabulary_missing" not in facts(
        folder(tmp_path, tokenizer_json=None, tokenizer_config_json=byte_model)
    )


def test_settings_that_were_saved_into_tokenizer_json_are_told(tmp_path: Path) -> None:
    """Truncation and padding stay in the file after a training that used them."""
    document = byte_level()
    document["truncation"] = {"direction": "Right", "max_length": 512, "strategy": "LongestFirst", "stride": 0}
    document["padding"] = {
        "strategy": {"Fixed": 512}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 258,
        "pad_type_id": 0, "pad_token": "<|endoftext|>",
    }  # fmt: skip
    told = facts(folder(tmp_path, tokenizer_json=document))
    assert told["tokenizer.truncates_at"] == 512
    assert (told["tokenizer.pads"], told["tokenizer.pads_to"]) == ("fixed", 512)


def test_how_merges_are_written_is_told(tmp_path: Path) -> None:
    """Pairs need tokenizers 0.20."""
    document = byte_level()
    assert facts(folder(tmp_path))["tokenizer.merges_written_as"] == "texts"
    document["model"]["merges"] = [["t", "h"], ["th", "e"]]
    assert facts(folder(tmp_path, tokenizer_json=document))["tokenizer.merges_written_as"] == "pairs"


@pytest.mark.parametrize(("pattern", "expected"), [(r"\p{N}{1,3}| ?x", "wrong"), (r"\p{N}| ?x", "right")])
def test_the_pattern_of_mistral_models_is_looked_at(tmp_path: Path, pattern: str, expected: str) -> None:
    """Only for their model types and large vocabularies, and by the pattern itself."""
    document = byte_level(added=["[INST]"])
    document["added_tokens"][0]["id"] = 100_500
    for number in range(100_001):
        document["model"]["vocab"][f"piece{number}"] = len(document["model"]["vocab"])
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    document["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split]}
    setup = {"chat_template": None}
    files = {"tokenizer_json": document, "tokenizer_config_json": setup, "generation_config_json": None}
    assert (
        facts(folder(tmp_path, config_json={"model_type": "mistral3"}, **files))["tokenizer.mistral_pattern"]
        == expected
    )
    assert "tokenizer.mistral_pattern" not in facts(folder(tmp_path, config_json={"model_type": "llama"}, **files))


def test_one_id_for_two_tokens_is_told(tmp_path: Path) -> None:
    """tokenizer.json that was edited by hand."""
    document = byte_level()
    document["added_tokens"].append(token("<extra>", 260))
    told = facts(folder(tmp_path, tokenizer_json=document))
    assert told["tokenizer.id_given_twice"] == 260
    assert told["tokenizer.id_given_twice_to"] == "<|im_end|> and <extra>"


def test_deeply_nested_and_huge_numbers_break_nothing(tmp_path: Path) -> None:
    """Hostile JSON gives a broken file, or is passed over."""
    assert facts(folder(tmp_path, tokenizer_json=b"[" * 200_000))["tokenizer.file.0.problem"] == "broken"
    document = byte_level()
    document["added_tokens"].append(token("<big>", 1 << 62))
    document["truncation"] = {"max_length": 1 << 80}
    assert facts(folder(tmp_path, tokenizer_json=json.dumps(document)))["tokenizer.kind"] in ("tokenizer.json", "none")


def test_a_byte_that_is_not_there_is_told(tmp_path: Path) -> None:
    """Texts with it would lose it; a vocabulary of another kind is not meant."""
    vocab = dict(byte_level()["model"]["vocab"])
    del vocab["!"]
    files = {"tokenizer_json": None, "merges_txt": "#version: 0.2\nt h\n"}
    told = facts(folder(tmp_path, vocab_json=vocab, **files))
    assert (told["tokenizer.bytes_missing"], told["tokenizer.bytes_missing_example"]) == (1, "!")
    assert facts(folder(tmp_path))["tokenizer.bytes_missing"] == 0
    for number in (0x03, 0x1E, 0x7F, 0xC0, 0xC1, 0xF1, 0xF2, *range(0xF5, 0x100)):  # as Falcon's and StarCoder's
        del vocab[byte_letters()[number]]
    told = facts(folder(tmp_path, vocab_json=vocab, **files))
    assert (told["tokenizer.bytes_missing"], told["tokenizer.bytes_missing_example"]) == (1, "!")
    assert "tokenizer.bytes_missing" not in facts(folder(tmp_path, vocab_json={"<unk>": 0, "hello": 1}, **files))


def test_merges_of_another_vocabulary_are_told(tmp_path: Path) -> None:
    """What a merge makes has to be a piece."""
    vocab = byte_level()["model"]["vocab"]
    told = facts(folder(tmp_path, tokenizer_json=None, vocab_json=vocab, merges_txt="#version: 0.2\nt h\nq u\n"))
    assert (told["tokenizer.merges_unknown"], told["tokenizer.merges_example"]) == (1, "q u")


def test_rows_beside_the_vocabulary_s_count(tmp_path: Path) -> None:
    """Idefics, Molmo and Llama 3.2 Vision have further rows for added tokens."""
    model = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 259}
    assert facts(folder(tmp_path, config_json=model))["tokenizer.ids_outside"] == 2
    for more in (
        {"model_type": "idefics", "additional_vocab_size": 2},
        {"model_type": "molmo"},
        {"model_type": "mllama"},
    ):
        assert facts(folder(tmp_path, config_json={**model, **more}))["tokenizer.ids_outside"] == 0
