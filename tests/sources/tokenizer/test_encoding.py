"""What a tokenizer does with text, tried with the tokenizers library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.sources.tokenizer.made import byte_level, config, facts, folder, read, sentencepiece, token, unchecked


def _processor(before: list[str], behind: list[str], ids: dict[str, int]) -> dict[str, Any]:
    parts = [{"SpecialToken": {"id": text, "type_id": 0}} for text in before]
    parts += [{"Sequence": {"id": "A", "type_id": 0}}]
    parts += [{"SpecialToken": {"id": text, "type_id": 0}} for text in behind]
    special = {text: {"id": text, "ids": [ids[text]], "tokens": [text]} for text in ids}
    return {"type": "TemplateProcessing", "single": parts, "pair": [*parts, {"Sequence": {"id": "B", "type_id": 0}}], "special_tokens": special}  # fmt: skip


def test_a_byte_level_tokenizer_gives_every_text_back(tmp_path: Path) -> None:
    """Ten kinds of text, nothing unknown, nothing altered."""
    told = facts(folder(tmp_path))
    assert told["tokenizer.unknown_in"] == "none"
    assert told["tokenizer.altered"] == "none"
    assert told["tokenizer.added_shifted"] == 0
    assert told["template.marks_split"] == 0


def test_what_is_put_around_a_prompt_is_told(tmp_path: Path) -> None:
    """Before and behind, by name, and whether that doubles what the template prints."""
    document = byte_level()
    document["post_processor"] = _processor(
        ["<|endoftext|>"], ["<|im_end|>"], {"<|endoftext|>": 258, "<|im_end|>": 260}
    )
    setup = config(bos_token="<|endoftext|>", chat_template="{{ bos_token }}" + str(config()["chat_template"]))
    told = facts(folder(tmp_path, tokenizer_json=document, tokenizer_config_json=setup))
    assert (told["tokenizer.adds_before"], told["tokenizer.adds_behind"]) == ("<|endoftext|>", "<|im_end|>")
    assert (told["tokenizer.adds_bos"], told["tokenizer.adds_eos"]) == (True, True)
    assert told["template.bos_twice_when_encoded"] is True
    assert told["template.bos_twice"] is False


def test_unknown_and_altered_texts_are_told_by_kind(tmp_path: Path) -> None:
    """A vocabulary without bytes, a normalizer that loses capitals."""
    document = byte_level()
    model = document["model"]
    model["vocab"] = {"<unk>": 0} | {letter: n for n, letter in enumerate("abcdefghijklmnopqrstuvwxyzĠ", 1)}
    model.update(merges=[], unk_token="<unk>")
    document["added_tokens"] = [token("<unk>", 0)]
    told = facts(folder(tmp_path, tokenizer_json=document))
    assert "english" in str(told["tokenizer.unknown_in"])
    document = byte_level()
    document["normalizer"] = {"type": "Lowercase"}
    told = facts(folder(tmp_path, tokenizer_json=document))
    assert "english" in str(told["tokenizer.altered"])
    assert "chinese" not in str(told["tokenizer.altered"])


def test_ids_that_the_library_gives_anew_are_told(tmp_path: Path) -> None:
    """A gap among added tokens is closed when the file is loaded."""
    document = byte_level()
    document["added_tokens"][2] = token("<|im_end|>", 300)
    told = facts(folder(tmp_path, tokenizer_json=document))
    if "tokenizer.load_error" in told:  # releases of the library that refuse it
        return
    assert told["tokenizer.added_shifted"] == 1
    assert "<|im_end|> is 300 in the file and 260 when loaded" == told["tokenizer.added_shifted_example"]


def test_control_tokens_that_the_vocabulary_lacks_are_told(tmp_path: Path) -> None:
    """ChatML on a tokenizer that was never given its tokens."""
    setup = config(eos_token="<|endoftext|>")
    told = facts(folder(tmp_path, tokenizer_json=byte_level(added=["<|endoftext|>"]), tokenizer_config_json=setup))
    assert told["template.marks_split"] == 2
    assert told["template.split_marks"] == "<|im_start|>, <|im_end|>"


def test_what_the_library_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    """A merge of pieces that are not there, a step of an unknown name."""
    document = byte_level()
    document["model"]["merges"] = ["q z", "qz q"]
    assert "tokenizer.load_error" in facts(folder(tmp_path, tokenizer_json=document))
    document = byte_level()
    document["pre_tokenizer"] = {"type": "OfTheFuture"}
    assert "tokenizer.load_error" in facts(folder(tmp_path, tokenizer_json=document))


def test_a_library_that_dies_takes_nothing_with_it(tmp_path: Path) -> None:
    """What was known before stays known; what could not be looked at is told, or why it does not load."""
    document = byte_level()
    document["pre_tokenizer"] = {
        "type": "Split",
        "pattern": {"Regex": "(" * 5000},
        "behavior": "Isolated",
        "invert": False,
    }
    made = folder(tmp_path, tokenizer_json=document)
    told = facts(made)
    assert told["template.system"] == "used"
    assert "tokenizer.load_error" in told or unchecked(made)


def test_nothing_that_hands_the_prompt_on_is_told(tmp_path: Path) -> None:
    """The rendered prompt goes from the template to the tokenizer, and no further."""
    assert not [reading for reading in read(folder(tmp_path)) if type(reading).__name__ == "Output"]


def test_a_sentencepiece_model_alone_is_tried_too(tmp_path: Path) -> None:
    """A vocabulary of a few letters cannot write other scripts; one that its library refuses is told in its words."""
    letters = [
        ("<unk>", 2),
        ("<s>", 3),
        ("</s>", 3),
        ("▁", 1),
        *((letter, 1) for letter in "abcdefghijklmnopqrstuvwxyz"),
    ]
    files: dict[str, Any] = {"tokenizer_json": None, "tokenizer_config_json": {"eos_token": "</s>"}}
    told = facts(folder(tmp_path, tokenizer_model=sentencepiece(letters), **files))
    assert "chinese" in str(told["tokenizer.unknown_in"])
    told = facts(folder(tmp_path, tokenizer_model=sentencepiece([("a", 1), ("a", 1)]), **files))
    assert "tokenizer.load_error" in told
