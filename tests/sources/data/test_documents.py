"""A JSON document larger than memory: the examples of its list, one after the other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.sources.data import documents
from diagnose.sources.data.documents import Document
from diagnose.sources.data.tally import Tally
from tests.sources.data.test_blocks import SIZES, Bytes
from tests.sources.data.test_jsonlines import ROWS


def rows_of(data: bytes, sizes: Sequence[int] = ()) -> tuple[list[tuple[int, Any]], Tally, Document]:
    """The examples with their lines, what was counted, and the document."""
    tally = Tally()
    with patch.object(documents, "BLOCK", 8):
        document = Document(Bytes(data, list(sizes)), tally)
        return [row for batch in document.batches() for row in batch.rows], tally, document


@given(ROWS, SIZES, st.none() | st.integers(0, 2), st.booleans())
def test_a_list_gives_its_objects(rows: list[dict[str, Any]], sizes: list[int], indent: int | None, wide: bool) -> None:
    """Whatever the indentation and the size of the pieces that it is read in."""
    found, tally, _ = rows_of(
        json.dumps(rows, indent=indent, ensure_ascii=wide).encode("utf-8", "surrogatepass"), sizes
    )

    if not tally.of("not_utf8"):
        assert rows == [row for _, row in found]
        assert not tally.counts


@given(ROWS, SIZES, st.none() | st.integers(0, 2))
def test_a_field_of_an_object_gives_its_objects(
    rows: list[dict[str, Any]], sizes: list[int], indent: int | None
) -> None:
    """What stands before it is passed over."""
    whole = {"version": "1", "note": {"data": 3}, "data": rows, "more": 1}
    found, _, document = rows_of(json.dumps(whole, indent=indent).encode(), sizes)

    assert rows == [row for _, row in found]
    assert "data" == document.field


def test_a_list_in_a_field_of_another_name_is_none_of_examples() -> None:
    """Nor are texts under a usual name."""
    data = json.dumps({"mine": [{"a": 2}], "train": ["a"], "data": [{"a": 1}]}).encode()

    assert [{"a": 1}] == [row for _, row in rows_of(data)[0]]


def test_objects_one_behind_the_other_are_examples() -> None:
    """As when every example was printed over several lines."""
    data = "\n".join(json.dumps({"a": n}, indent=1) for n in range(3)).encode()

    assert [(1, {"a": 0}), (4, {"a": 1}), (7, {"a": 2})] == rows_of(data)[0]


@given(st.binary(max_size=120) | st.text(alphabet='{}[]":,\\ \nadt0é', max_size=60).map(str.encode), SIZES)
def test_any_bytes_are_read(data: bytes, sizes: list[int]) -> None:
    """Nothing is raised, nothing goes on for ever."""
    for start in (b"", b"[", b'{"data": ['):
        rows_of(start + data, sizes)


@pytest.mark.parametrize(
    ("data", "kind", "line", "why"),
    [
        (b'[\n{"a": 1},\n{"a": 2},\n]', "unreadable", 4, "a comma stands behind the last example"),
        (b'[\n{"a": 1}\n{"a": 2}\n]', "unreadable", 3, "a comma is missing before {"),
        (b'[\n{"a": 1},\n{"a": tru}\n]' + b" " * 40, "unreadable", 3, "Expecting value (column 7)"),
        (b'[\n{"a": 1},\n{"a": "b', "cut_off", 3, "Unterminated string starting at (column 7)"),
        (b'[\n{"a": 1}', "cut_off", 2, "the list does not end"),
        (b'[\n{"a": 1},\n5]', "not_objects", 3, "a number"),
        (b'[\n{"a": 1},\n{"a": "\xe9"}]', "not_utf8", 3, "byte 0xe9 at column 8; in Windows-1252 it is é"),
        (b"[" * 200_000, "unreadable", 1, "lists or objects within each other, hundreds deep"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(data: bytes, kind: str, line: int, why: str) -> None:
    """The examples before it are read."""
    found, tally, _ = rows_of(data)

    assert ([line], why) == (tally.counts[kind].lines, tally.counts[kind].example)
    assert data.startswith(b"[[") or (2, {"a": 1}) == found[0]
