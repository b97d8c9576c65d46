"""JSON of somebody else's: nodes with their places, and a reason in words for what is no JSON."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.sources import jsonnodes
from tests.sources.test_yamlfile import plain

_VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**20), 10**20),
        st.floats(allow_nan=False),
        st.text(max_size=12),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=25,
)


@given(_VALUES, st.sampled_from([None, 1, 4, "\t"]))
def test_it_reads_what_pythons_json_writes(value: Any, indent: Any) -> None:
    """The same values, however it is laid out."""
    loaded = jsonnodes.parse(json.dumps(value, indent=indent).encode())
    assert loaded.error == ""
    assert plain(loaded.documents[0]) == value


@given(st.text(alphabet='{}[]",: \n-0.eE1tfnu\\/#x', max_size=60))
def test_it_refuses_what_pythons_json_refuses(text: str) -> None:
    """Neither more nor less is taken for JSON, and nothing is raised."""
    try:
        expected = json.loads(text)
    except ValueError:
        assert jsonnodes.parse(text.encode()).error
    else:
        assert plain(jsonnodes.parse(text.encode()).documents[0]) == expected


@given(st.binary(max_size=200))
def test_any_bytes_give_a_document_or_a_reason(data: bytes) -> None:
    """Nothing is raised."""
    loaded = jsonnodes.parse(data)
    assert loaded.error or len(loaded.documents) == 1


def test_keys_and_values_know_their_places() -> None:
    """Line and column from 1, as an editor counts them."""
    text = '{\n  "zero_optimization": {\n    "stage": 3\n  }\n}'
    top = jsonnodes.parse(text.encode()).documents[0]
    assert top.keys == {"zero_optimization": (2, 3)}
    inner = top.get("zero_optimization")
    assert inner.keys == {"stage": (3, 5)}
    assert (inner.get("stage").line, inner.get("stage").column) == (3, 14)


def test_a_key_that_stands_twice_is_told() -> None:
    """With the place of the second; its value counts."""
    loaded = jsonnodes.parse(b'{"a": 1,\n "a": 2}')
    assert loaded.duplicates == (("a", 2, 2),)
    assert loaded.documents[0].get("a").value == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, // the stage\n "b": 2}', "it has a comment"),
        ('{"a": 1,}', "a comma stands behind the last entry"),
        ('{"a": True}', "Python's word"),
        ("{'a': 1}", "a key in double quotes is missing"),
        ("{\"a\": 'b'}", "single quotes"),
        ('{"a": 1 "b": 2}', "a comma is missing"),
        ('{"a": 1', "it ends in the middle"),
        ('{"a": {{ batch }}}', "template"),
        ('{"a": CONFIG_BATCH_SIZE}', "placeholder"),
        ('{"a": 1} {"b": 2}', "something follows"),
        ("[" * 100, "nested deeper"),
    ],
)
def test_what_is_wrong_is_said_in_words(text: str, reason: str) -> None:
    """With line and column."""
    loaded = jsonnodes.parse(text.encode())
    assert reason in loaded.error
    assert "(line 1, column" in loaded.error


def test_words_that_python_reads_are_read() -> None:
    """NaN and Infinity are no JSON, but Python's json takes them."""
    values = [node.value for node in jsonnodes.parse(b"[NaN, -Infinity]").documents[0].list()]
    assert math.isnan(values[0])
    assert values[1] == -math.inf
