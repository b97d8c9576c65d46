"""YAML of somebody else's: documents with lines, and no crash, hang or unbounded memory whatever the text is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from diagnose.sources import yamlfile
from diagnose.sources.launch.durations import seconds
from diagnose.sources.yamlfile import Node


def plain(node: Node) -> Any:
    """The value of a node as YAML's own loader would give it."""
    if isinstance(node.value, dict):
        return {name: plain(value) for name, value in node.value.items()}
    if isinstance(node.value, list):
        return [plain(item) for item in node.value]
    return node.value


_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**6), 10**6), st.text(max_size=12)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(st.characters(categories=["L"]), min_size=1, max_size=8), inner, max_size=4),
    ),
    max_leaves=20,
)


@given(st.lists(_VALUES, min_size=1, max_size=3))
def test_it_reads_what_the_library_reads(values: list[Any]) -> None:
    """The same values from the same text, document by document."""
    text = yaml.safe_dump_all(values, allow_unicode=True)
    expected = list(yaml.safe_load_all(text))
    loaded = yamlfile.parse(text.encode())
    assert loaded.error == ""
    assert [plain(document) for document in loaded.documents] == expected


@given(st.binary(max_size=300))
def test_any_bytes_give_documents_or_a_reason(data: bytes) -> None:
    """Nothing is raised."""
    loaded = yamlfile.parse(data)
    assert loaded.error or isinstance(loaded.documents, tuple)


@given(st.text(alphabet="{}[]&*a:-,?!|>'\"#\n <%@`", max_size=60))
def test_any_marks_give_documents_or_a_reason(text: str) -> None:
    """YAML's own characters in any order."""
    yamlfile.parse(text.encode())


def test_lines_of_keys_and_values() -> None:
    """A value stands on its own line, and scalars keep their text."""
    loaded = yamlfile.parse(b"a: 1\nb:\n  - 0x10\n  - 'on'\nc: &x {d: 2}\ne: *x\n")
    root = loaded.documents[0]
    assert root.get("b").list()[1].line == 4
    assert root.get("b").list()[0].text == "0x10"
    assert root.get("b").list()[1].quoted
    assert root.get("e", "d").line == root.get("c", "d").line == 5
    assert root.keys == {"a": (1, 1), "b": (2, 1), "c": (5, 1), "e": (6, 1)}


def test_merge_keys() -> None:
    """What is merged gives way to what is written, and an earlier merge to nothing."""
    root = yamlfile.parse(b"one: &one {a: 1, b: 1}\ntwo: &two {b: 2, c: 2}\nall: {<<: [*one, *two], a: 9}\n").documents[
        0
    ]
    assert plain(root.get("all")) == {"a": 9, "b": 1, "c": 2}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: [1\n", "line"),
        ("a: &a [*a]\n", "refers to itself"),
        ("[" * 100, "deeper"),
        ("a:\n" + "- x\n" * 70_000, "entries"),
        ("{[a]: b}\n", "stands for a key"),
        ("a: {{ .Values.x }}\n", "helm template"),
    ],
)
def test_what_is_refused(text: str, why: str) -> None:
    """Each with its reason, and where there is one its line."""
    assert why in yamlfile.parse(text.encode()).error


def test_files_that_are_none(tmp_path: Path) -> None:
    """Missing, a folder, a pipe, too large, not UTF-8, a name with a NUL."""
    assert yamlfile.load(str(tmp_path / "no")).missing
    assert yamlfile.load(str(tmp_path)).error
    os.mkfifo(tmp_path / "pipe")
    assert "regular file" in yamlfile.load(str(tmp_path / "pipe")).error
    (tmp_path / "big").write_bytes(b"a" * 2000)
    assert "more than" in yamlfile.load(str(tmp_path / "big"), 1000).error
    (tmp_path / "latin").write_bytes(b"a: \xe9\n")
    assert "not UTF-8" in yamlfile.load(str(tmp_path / "latin")).error
    assert yamlfile.load("a\0b").error


def test_a_node_that_is_not_there() -> None:
    """Asking below a text, or for a key that is missing, gives an empty node."""
    root = yamlfile.parse(b"a: text\n").documents[0]
    assert not root.get("a", "b", "c")
    assert root.get("x").word() == ""
    assert root.get("x").list() == []
    assert root.get("x").items() == []


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90", 90.0),
        ("90s", 90.0),
        ("1m30s", 90.0),
        ("500ms", 0.5),
        ("1h", 3600.0),
        ("1d", 86400.0),
        ("", None),
        ("s", None),
        ("1x", None),
        ("-1s", None),
        ("1m 30s", None),
    ],
)
def test_lengths_of_time(text: str, length: float | None) -> None:
    """As Compose writes them; anything else is none."""
    assert seconds(text) == length
