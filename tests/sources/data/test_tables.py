"""Tables: rows as pandas reads them, with the lines of what it refuses."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.sources.data import blocks, tables
from diagnose.sources.data.tables import EMPTY, Table, texts
from diagnose.sources.data.tally import Tally
from tests.sources.data.test_blocks import SIZES, Bytes

CELLS = st.text(alphabet='ab ,"\n;é', min_size=1, max_size=6).filter(lambda cell: cell not in EMPTY)


def rows_of(data: bytes, sizes: Sequence[int] = (), delimiter: str = "") -> tuple[list[tuple[int, Any]], Tally, Table]:
    """The rows with their lines, what was counted, and the table."""
    tally = Tally()
    table = Table(blocks.blocks(Bytes(data, list(sizes))), tally, delimiter)
    return [row for batch in table.batches() for row in batch.rows], tally, table


@given(st.lists(st.tuples(CELLS, CELLS), max_size=10), SIZES)
def test_what_a_csv_library_wrote_is_read(rows: list[tuple[str, str]], sizes: list[int]) -> None:
    """Line ends and quotation marks inside cells and all."""
    text = io.StringIO()
    csv.writer(text).writerows([("one", "two"), *rows])
    found, tally, _ = rows_of(text.getvalue().encode(), sizes)

    assert [{"one": one, "two": two} for one, two in rows] == [row for _, row in found]
    assert not tally.counts


@given(st.binary(max_size=200), SIZES)
def test_any_bytes_are_read(data: bytes, sizes: list[int]) -> None:
    """Nothing is raised."""
    rows_of(data, sizes)


@pytest.mark.parametrize(
    ("data", "kind", "line"),
    [
        (b"a,b\n1,2\n3,4,5\n", "too_many_cells", 3),
        (b"a,b\n1,2\n3\n", "too_few_cells", 3),
        (b'a,b\n1,"2\n3,4\n', "quote_open", 2),
        (b"a,b\n1,2\n3,caf\xe9\n", "not_utf8", 3),
        (b"\xef\xbb\xbfa,b\n1,2\n", "byte_order_mark", 1),
        (b"a,b\r1,2\r3\r", "too_few_cells", 3),
    ],
)
def test_what_is_wrong_is_told_with_its_line(data: bytes, kind: str, line: int) -> None:
    """The first row with it is named."""
    assert [line] == rows_of(data)[1].counts[kind].lines


def test_cells_that_mean_nothing_are_nothing() -> None:
    """pandas reads None, NA and an empty cell alike."""
    assert [{"a": None, "b": "x"}] * 3 == [row for _, row in rows_of(b"a,b\nNone,x\n,x\nNA,x\n")[0]]


def test_a_line_number_counts_the_lines_inside_cells() -> None:
    """As an editor shows them."""
    assert [2, 4] == [line for line, _ in rows_of(b'a,b\n"x\ny",1\nz,2\n')[0]]


def test_thousands_of_columns_are_not_too_many_cells() -> None:
    """Only the first of them are looked into."""
    names = ",".join(f"c{n}" for n in range(3000))
    rows, tally, _ = rows_of(f"{names}\n{names}\n".encode())
    assert not tally.counts
    assert len(rows[0][1]) == tables.MOST_COLUMNS


def test_a_carriage_return_alone_ends_a_row() -> None:
    """As pandas has it; inside quotation marks it is part of the cell."""
    expected = [{"a": "1", "b": "x\ry"}, {"a": "2", "b": "z"}]
    assert expected == [row for _, row in rows_of(b'a,b\r1,"x\ry"\r2,z\r')[0]]


@pytest.mark.parametrize(("data", "kind"), [(b"x" * 40, "huge_lines"), (b'"x\n' + b"y\n" * 40, "quote_open")])
def test_a_cell_without_end_is_told_as_what_it_is(data: bytes, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over many lines it is a quotation mark that was left open."""
    monkeypatch.setattr(tables, "MOST_LINE", 20)
    assert [kind] == list(rows_of(b"a\n" + data + b"\n")[1].counts)


@pytest.mark.parametrize(("data", "delimiter"), [(b"a;b\n1;2\n", ";"), (b"a\tb\n1\t2\n", "\t"), (b"a;b,c\n1,2\n", ",")])
def test_another_delimiter_is_seen_in_the_first_row(data: bytes, delimiter: str) -> None:
    """A comma goes before all others."""
    assert delimiter == rows_of(data)[2].delimiter


def test_a_plain_text_gives_its_lines() -> None:
    """Empty ones part paragraphs."""
    found = list(texts(blocks.blocks(Bytes(b"one\n\ntwo\r\n", [])), Tally()))

    assert [(1, {"text": "one"}), (3, {"text": "two"})] == [row for batch in found for row in batch.rows]
