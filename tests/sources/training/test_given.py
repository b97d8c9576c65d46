"""Settings with their places, and their meaning under common names."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given as given_
from hypothesis import strategies as st

from diagnose.model import Fact
from diagnose.sources import yamlfile
from diagnose.sources.training.given import Setting, by_table, given, meant, number, read_as, settings

TEXT = b"""\
learning_rate: 1e-5
lora:
  r: 16
  targets: [q_proj, v_proj]
hub_token: hf_abcdefghijklmnop
"""


def read(text: bytes) -> list[Setting]:
    return list(settings(yamlfile.parse(text).documents[0], "trl.SFTConfig", "train.yaml"))


def test_every_key_has_its_place() -> None:
    """Nested keys are joined by dots and stand where they are written."""
    found = {item.key: (item.line, item.column) for item in read(TEXT)}

    assert found == {
        "learning_rate": (1, 1),
        "lora": (2, 1),
        "lora.r": (3, 3),
        "lora.targets": (4, 3),
        "hub_token": (5, 1),
    }


def test_a_secret_is_only_said_to_be_set() -> None:
    """The value of a key that names a secret is not told."""
    values = {fact.name: fact.value for fact in given(read(TEXT))}

    assert values["training.given.4.value"] == "set"
    assert "hf_abcdefghijklmnop" not in values.values()


@pytest.mark.parametrize("key", ["hub_tokenn", "hub_tokem", "hfTok", "apikey", "accessToken", "wandb-api-key", "passwd", "credentials", "bearer"])  # fmt: skip
def test_a_secret_is_known_by_any_name_of_it(key: str) -> None:
    """In one word, in camel case, and misspelt: what is refused for its name is not shown either."""
    assert ["set"] == [
        fact.value for fact in given(read(f"{key}: plain123\n".encode())) if fact.name.endswith(".value")
    ]


@pytest.mark.parametrize("key", ["tokenizer", "special_tokens", "keys_to_ignore", "authors", "monkey", "hub_strategy"])
def test_what_only_sounds_like_a_secret_is_told(key: str) -> None:
    """Tokens of a tokenizer are none."""
    assert ["plain123"] == [
        fact.value for fact in given(read(f"{key}: plain123\n".encode())) if fact.name.endswith(".value")
    ]


def test_what_stands_in_a_secret_is_one() -> None:
    """A mapping under the name of one."""
    told = [fact.value for fact in given(read(b"hub_token: {a: plain123}\n")) if fact.name.endswith(".value")]

    assert ["set"] == told


def test_a_number_that_yaml_takes_for_a_text_is_one() -> None:
    """1e-5 without a dot is a text for YAML 1.1; both are told."""
    found = list(meant(read(TEXT), {"learning_rate": ("training.learning_rate", "number")}))

    assert found == [Fact("training.learning_rate", 1e-5, "train.yaml", 1, 1, "learning_rate")]
    assert [fact.value for fact in given(read(TEXT)) if fact.name == "training.given.0.type"] == ["text"]


def test_of_several_keys_the_tables_first_tells_the_fact() -> None:
    """Wherever it stands in the file; torch's names are told without torch, and an empty text tells nothing."""
    table = dict.fromkeys(("dtype", "torch_dtype"), ("training.load_dtype", "text"))
    known = {item.key: item for item in read(b"torch_dtype: torch.float16\ndtype: torch.bfloat16\n")}
    assert [fact.value for fact in by_table(known, table)] == ["bfloat16", "float16"]
    assert not list(by_table({item.key: item for item in read(b"dtype: ''\n")}, table))


@given_(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists, max_leaves=4))
def test_any_value_is_read_or_told_nothing_of(value: Any) -> None:
    """Nothing is raised, and a number is finite."""
    for kind in ("number", "flag", "text", "list"):
        read_as(kind, value)
    found = number(value)
    assert found is None or abs(found) <= 1e18


@pytest.mark.parametrize(("value", "flag"), [(True, True), ("false", False), ("yes", True), ("auto", None), (1, None)])
def test_flags_are_only_what_says_yes_or_no(value: Any, flag: bool | None) -> None:
    """Numbers and other words are no flags."""
    assert read_as("flag", value) is flag
