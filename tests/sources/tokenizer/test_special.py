"""Special tokens in every place where they are written."""

from __future__ import annotations

from pathlib import Path

from tests.sources.tokenizer.made import byte_level, config, facts, folder, token


def test_tokens_with_a_name_are_told_with_their_ids(tmp_path: Path) -> None:
    """By text, by id, and whether tokenizer.json marks them."""
    told = facts(folder(tmp_path))
    assert (told["special.eos.text"], told["special.eos.id"]) == ("<|im_end|>", 260)
    assert told["special.eos.marked"] is True
    assert told["special.pad.is_eos"] is False
    assert told["special.bos.missing"] is True
    assert told["special.eos.stop_ids"] == "260, 258"


def test_the_map_counts_only_without_a_list_of_added_tokens(tmp_path: Path) -> None:
    """As transformers reads them; the difference is told in both cases."""
    other = {"eos_token": {"content": "<|endoftext|>", "lstrip": False}}
    told = facts(folder(tmp_path, special_tokens_map_json=other))
    assert told["special.eos.text"] == "<|endoftext|>"
    decoder = {"260": {"content": "<|im_end|>", "special": True}}
    told = facts(
        folder(tmp_path, special_tokens_map_json=other, tokenizer_config_json=config(added_tokens_decoder=decoder))
    )
    assert told["special.eos.text"] == "<|im_end|>"
    assert told["special.eos.other_text"] == "<|endoftext|>"


def test_a_token_that_no_file_gives_an_id_is_told(tmp_path: Path) -> None:
    """A misspelt end token."""
    told = facts(folder(tmp_path, tokenizer_config_json=config(eos_token="<|im_ends|>")))
    assert told["special.eos.not_in_vocabulary"] is True
    assert "special.eos.id" not in told


def test_stop_ids_that_cannot_end_an_answer_are_told(tmp_path: Path) -> None:
    """A piece of ordinary text, and an id that the model does not have."""
    told = facts(folder(tmp_path, generation_config_json={"eos_token_id": [2, 260]}))
    assert (told["special.eos.stop_is_text"], told["special.eos.stop_is_text_id"]) == ("#", 2)
    told = facts(folder(tmp_path, generation_config_json={"eos_token_id": 5000}))
    assert told["special.eos.stop_outside"] == 5000
    assert "special.eos.stop_outside" not in facts(
        folder(tmp_path, generation_config_json={"eos_token_id": [260, 5000]})
    )
    healthy = facts(folder(tmp_path))
    assert not {"special.eos.stop_is_text", "special.eos.stop_outside"} & healthy.keys()


def test_without_a_generation_config_the_model_config_counts(tmp_path: Path) -> None:
    """As generate() takes its settings."""
    told = facts(folder(tmp_path, generation_config_json=None))
    assert told["special.eos.stop_ids"] == "260"


def test_a_token_with_two_ids_is_told_with_what_has_the_other(tmp_path: Path) -> None:
    """tokenizer_config.json and tokenizer.json of different models."""
    decoder = {"258": {"content": "<|im_end|>", "special": True}, "259": {"content": "<|im_start|>", "special": True}}
    told = facts(folder(tmp_path, tokenizer_config_json=config(added_tokens_decoder=decoder)))
    assert told["conflict.0.token"] == "<|im_end|>"
    assert (told["conflict.0.id"], told["conflict.0.other_id"]) == (258, 260)
    assert told["conflict.0.taken_by"] == "<|endoftext|>"
    assert "conflict.1.token" not in told


def test_odd_values_are_passed_over(tmp_path: Path) -> None:
    """Numbers, lists and nulls where a token should be."""
    odd = config(
        eos_token=5, pad_token=["x"], bos_token={"content": None}, added_tokens_decoder={"x": 1, "²": {}, "3": None}
    )
    told = facts(
        folder(tmp_path, tokenizer_config_json=odd, generation_config_json={"eos_token_id": ["a", True, None]})
    )
    assert told["special.eos.missing"] is True
    assert "special.eos.stop_ids" not in told


def test_a_token_that_is_not_marked_as_special_is_told(tmp_path: Path) -> None:
    """It would be written into answers."""
    document = byte_level()
    document["added_tokens"][2] = token("<|im_end|>", 260, special=False)
    told = facts(folder(tmp_path, tokenizer_json=document))
    assert told["special.eos.marked"] is False
    assert told["template.turn_end_marked"] is False


def test_a_stop_token_that_begins_a_text_is_told(tmp_path: Path) -> None:
    """The ids of another model: its end is the beginning here. One token for both is in order."""
    begins = config(bos_token="<|im_start|>")
    files = {"tokenizer_config_json": begins, "generation_config_json": {"eos_token_id": [259, 258]}}
    told = facts(folder(tmp_path, **files))
    assert told["special.eos.stop_is_other"] == "<|im_start|>"
    assert told["special.eos.stop_texts"] == "<|im_start|>, <|endoftext|>"
    same = config(bos_token="<|im_end|>")
    assert "special.eos.stop_is_other" not in facts(folder(tmp_path, tokenizer_config_json=same))


def test_another_id_in_config_json_is_told(tmp_path: Path) -> None:
    """Where a program starts or fills up a text by itself, it takes that one."""
    model = {"architectures": ["LlamaForCausalLM"], "vocab_size": 320, "pad_token_id": 0}
    assert facts(folder(tmp_path, config_json=model))["special.pad.config_id"] == 0
    assert "special.pad.config_id" not in facts(folder(tmp_path, config_json={**model, "pad_token_id": 258}))


def test_tokens_of_the_config_alone_get_the_next_ids(tmp_path: Path) -> None:
    """A loader puts them behind the last one: with that id all is well, with another it is not."""
    fits = config(added_tokens_decoder={"261": {"content": "<|new|>", "special": True}})
    assert "conflict.0.token" not in facts(folder(tmp_path, tokenizer_config_json=fits))
    not_there = config(added_tokens_decoder={"300": {"content": "<|new|>", "special": True}})
    told = facts(folder(tmp_path, tokenizer_config_json=not_there))
    assert (told["conflict.0.id"], told["conflict.0.other_id"]) == (300, 261)


def test_a_token_that_ends_a_text_may_have_another_name_too(tmp_path: Path) -> None:
    """Several families call <|endoftext|> their first or unknown token, and stop at it; <|im_start|> ends nothing."""
    setup = config(bos_token="<|endoftext|>", unk_token="<|endoftext|>")
    assert "special.eos.stop_is_other" not in facts(folder(tmp_path, tokenizer_config_json=setup))
    files = {"tokenizer_config_json": config(bos_token="<|im_start|>"), "generation_config_json": {"eos_token_id": 259}}
    assert facts(folder(tmp_path, **files))["special.eos.stop_is_other"] == "<|im_start|>"


def test_a_pad_token_without_a_row_is_told_apart(tmp_path: Path) -> None:
    """It does no harm until a batch is padded."""
    document = byte_level(added=("<|endoftext|>", "<|im_start|>", "<|im_end|>", "[PAD]"))
    files = {"tokenizer_json": document, "tokenizer_config_json": config(pad_token="[PAD]")}
    told = facts(folder(tmp_path, **files, config_json={"model_type": "llama", "vocab_size": 261}))
    assert (told["special.pad_outside"], told["special.eos.outside"]) == (True, False)
