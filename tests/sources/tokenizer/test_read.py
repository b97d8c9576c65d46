"""A model is named; what is read of its tokenizer, and what is not."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diagnose import facts as catalogue
from diagnose.model import Fact, Unchecked
from diagnose.sources import tokenizer
from tests.sources.tokenizer.made import byte_level, config, facts, folder, read


def test_a_folder_is_found_by_a_relative_path(tmp_path: Path) -> None:
    """Origins are files as the reader knows them."""
    folder(tmp_path)
    told = [fact for fact in tokenizer.read("./Tiny-Chat", {}, str(tmp_path)) if isinstance(fact, Fact)]
    origins = {fact.name: fact.origin for fact in told}
    assert origins["special.eos.id"] == "Tiny-Chat/tokenizer.json"
    assert origins["template.system"] == "Tiny-Chat/tokenizer_config.json"


def test_what_has_no_tokenizer_yields_nothing(tmp_path: Path) -> None:
    """A lone file of weights, a path that leads nowhere."""
    (tmp_path / "x.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    for name in ("x.safetensors", "./nothing", ""):
        assert not [fact for fact in tokenizer.read(name, {}, str(tmp_path)) if isinstance(fact, Fact)]


def test_every_fact_stands_in_the_catalogue(tmp_path: Path) -> None:
    """Of a whole folder and of a faulty one, with the type that is written there."""
    faulty = folder(
        tmp_path / ".", chat_template_jinja="{{ x }", vocab_json={"a": 1}, merges_txt="a", special_tokens_map_json=b"{"
    )
    kinds = {"number": int, "bytes": int, "flag": bool, "text": str, "version": str}
    for made in (folder(tmp_path), faulty):
        for reading in read(made):
            if isinstance(reading, Fact):
                kind = catalogue.describe(reading.name)
                assert kind is not None, reading.name
                assert kind.owner == "tokenizer"
                wanted = kinds[kind.type]
                assert isinstance(reading.value, (int, float) if wanted is int else wanted), reading
                assert isinstance(reading.value, bool) == (kind.type == "flag"), reading


def test_nothing_of_the_model_is_run(tmp_path: Path) -> None:
    """Python files beside the tokenizer are never imported."""
    made = folder(tmp_path, tokenizer_config_json=config(auto_map={"AutoTokenizer": ["tokenization_x.X", None]}))
    (made / "tokenization_x.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    facts(made)
    assert not (tmp_path / "ran").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission_breaks_nothing(tmp_path: Path) -> None:
    """It is as if nothing were there."""
    made = folder(tmp_path)
    made.chmod(0)
    try:
        facts(made)
    finally:
        made.chmod(0o700)


def test_links_in_a_circle_and_odd_names_break_nothing(tmp_path: Path) -> None:
    """A name with a line end, a link to itself, a folder where a file should be."""
    made = folder(tmp_path, tokenizer_json=None)
    (made / "tokenizer.json").symlink_to("tokenizer.json")
    (made / "x\ny.tiktoken").write_text("a b c")
    (made / "merges.txt").mkdir()
    told = facts(made)
    assert told["tokenizer.file.0.problem"] in ("dangling", "unreadable", "broken")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_KEYS = ["tokenizer_class", "auto_map", "chat_template", "added_tokens_decoder", "eos_token", "bos_token", "pad_token",
         "model_max_length", "extra_special_tokens", "padding_side"]  # fmt: skip
_PARTS = ["added_tokens", "model", "pre_tokenizer", "truncation", "padding", "post_processor", "normalizer"]


@given(st.sampled_from(_KEYS), _JSON, st.sampled_from(_PARTS), _JSON, _JSON)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_value_under_any_key_is_read(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: Any, part: str, other: Any, generation: Any
) -> None:
    """Whatever stands where a token, a list or a name should be: facts, and no failure of our own."""
    made = folder(
        tmp_path_factory.mktemp("any"),
        tokenizer_config_json=json.dumps(config(**{key: value})),
        tokenizer_json=json.dumps({**byte_level(), part: other}),
        generation_config_json=json.dumps({"eos_token_id": generation}),
    )
    assert not [reading for reading in read(made) if isinstance(reading, Unchecked) and "failed" in reading.why]


def test_control_characters_of_a_file_do_not_reach_the_terminal(tmp_path: Path) -> None:
    """A token or a name may hold what moves a cursor or clears a screen."""
    made = folder(
        tmp_path, tokenizer_config_json=config(eos_token="\x1b[2Jx", chat_template="{{ raise_exception('\x1b]0;') }}")
    )
    values = [reading.value for reading in read(made) if isinstance(reading, Fact)]
    assert not [value for value in values if isinstance(value, str) and "\x1b" in value]


def test_half_a_surrogate_pair_breaks_nothing(tmp_path: Path) -> None:
    """JSON can hold one; a report cannot."""
    half = (
        json.dumps(config(eos_token="X", chat_template="{% for m in messages %}{{ m.content }}Y{% endfor %}"))
        .replace('"X"', '"\\ud800"')
        .replace("Y", "\\udc00")
    )
    told = read(folder(tmp_path, tokenizer_config_json=half))
    values = {reading.name: reading.value for reading in told if isinstance(reading, Fact)}
    assert values["special.eos.text"] == "?"
    assert values["template.loses"] == "nothing"
    assert not [reading for reading in told if isinstance(reading, Unchecked)]
