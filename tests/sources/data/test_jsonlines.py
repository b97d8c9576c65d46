"""JSON Lines: every good line is an example, every bad one is counted with its reason, and nothing is raised."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.sources.data import blocks, jsonlines
from diagnose.sources.data.tally import Tally
from tests.sources.data.test_blocks import SIZES, Bytes

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
ROWS = st.lists(st.dictionaries(st.text(max_size=5), VALUES, max_size=4), max_size=12)


def rows_of(data: bytes, sizes: Sequence[int] = ()) -> tuple[list[tuple[int, Any]], Tally]:
    """The examples with their lines, and what was counted."""
    tally = Tally()
    found = list(jsonlines.batches(blocks.blocks(Bytes(data, list(sizes))), tally))
    return [row for batch in found for row in batch.rows], tally


@given(ROWS, SIZES, st.booleans(), st.booleans())
def test_the_examples_are_those_of_json_loads_line_by_line(
    rows: list[dict[str, Any]], sizes: list[int], escaped: bool, carriage: bool
) -> None:
    """Whatever the size of the pieces that the file is read in, whatever the line ends."""
    end = "\r\n" if carriage else "\n"
    lines = [json.dumps(row, ensure_ascii=escaped) for row in rows]
    found, _ = rows_of(end.join(["", *lines, ""]).encode("utf-8", "surrogatepass"), sizes)

    assert [(n, json.loads(line)) for n, line in enumerate(lines, 2)] == found


@given(st.binary(max_size=300) | st.text(alphabet='{}[]":,\\ \nabc0\0é', max_size=60).map(str.encode), SIZES)
def test_any_bytes_are_read(data: bytes, sizes: list[int]) -> None:
    """Nothing is raised, and every line with something in it is an example or is counted."""
    found, tally = rows_of(data, sizes)
    counted = sum(known.count for kind, known in tally.counts.items() if kind not in _BESIDES)
    written = sum(bool(line.strip()) for line in data.split(b"\n"))

    assert len(found) + counted >= written


_BESIDES = ("byte_order_mark", "keys_twice")


@pytest.mark.parametrize(
    ("line", "kind", "example"),
    [
        (b'{"a": "b" "c"}', "unreadable", "Expecting ',' delimiter (column 11)"),
        (b'{"a": 1}{"a": 2}', "several_on_line", "column 9"),
        (b"{'a': None}", "python_repr", "keys in single quotes"),
        (b'{"a": "b\tc"}', "raw_controls", "column 9: 0x09"),
        (b'{"a": "b\0c"}', "nul_bytes", "a byte that is zero stands in the text"),
        (b"\0\0\0\0", "nul_bytes", "4 bytes, all zero"),
        (b'{"a": "caf\xe9"}', "not_utf8", "byte 0xe9 at column 11; in Windows-1252 it is é"),
        (b'{"a": "\\ud83d"}', "half_characters", "an escape such as \\ud83d without its other half"),
        (b'{"a": 1, "a": 2}', "keys_twice", "a"),
        (b'{"a": NaN}', "constants", "NaN"),
        (b"[1, 2]", "not_objects", "a list"),
        (b'"a"', "not_objects", "a text"),
        (b"7", "not_objects", "a number"),
        (b"null", "not_objects", "null"),
        (b'{"a": ' + b"[" * 200_000, "too_deep", "lists or objects within each other, hundreds deep"),
    ],
)
def test_what_is_wrong_with_a_line_is_told_with_its_number(line: bytes, kind: str, example: str) -> None:
    """The lines around it are read all the same."""
    found, tally = rows_of(b'{"a": 1}\n' + line + b'\n{"a": 3}\n')

    assert (1, [2], example) == _told(tally, kind)
    assert [1, 3] == [number for number, _ in found if number != 2]


def _told(tally: Tally, kind: str) -> tuple[int, list[int], str]:
    known = tally.counts[kind]
    return known.count, known.lines, known.example


def test_a_last_line_without_end_that_breaks_off_is_told_apart() -> None:
    """A file that is cut off is not one with a mistake in the last line."""
    assert (1, [2], "Unterminated string starting at (column 7)") == _told(rows_of(b'{"a": 1}\n{"a": "b')[1], "cut_off")
    assert (1, [2]) == _told(rows_of(b'{"a": 1}\n{"a": "b\n')[1], "unreadable")[:2]


def test_a_byte_order_mark_hides_no_example() -> None:
    """It is told, and the first line is read."""
    found, tally = rows_of(b'\xef\xbb\xbf{"a": 1}\n{"a": 2}\n')

    assert [{"a": 1}, {"a": 2}] == [row for _, row in found]
    assert ["byte_order_mark"] == list(tally.counts)


@pytest.mark.parametrize(
    ("line", "kinds"),
    [
        (b'{"a": NaN, "b": "\\ud83d\\ude00"}', ["constants"]),
        (b'{"a": "caf\xe9", "b": "\\ud83d\\ude00"}', ["not_utf8"]),
        (b'{"a": NaN, "b": "\\uD83D"}', ["constants", "half_characters"]),
    ],
)
def test_both_halves_of_a_character_are_whole(line: bytes, kinds: list[str]) -> None:
    """Whatever else is odd about their line."""
    assert kinds == list(rows_of(line + b"\n")[1].counts)


def test_numbers_beyond_64_bits_are_read() -> None:
    """As Python reads them."""
    assert [(1, {"a": 10**40})] == rows_of(b'{"a": %d}\n' % 10**40)[0]
