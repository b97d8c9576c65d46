"""Tables (CSV, TSV) and plain text → examples, as pandas and datasets read them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator

from diagnose.sources.data.batch import Batch, Example
from diagnose.sources.data.blocks import MOST_LINE, Block
from diagnose.sources.data.jsonlines import decoded
from diagnose.sources.data.tally import Tally

MOST_ROWS = 2000
MOST_COLUMNS = 2000
EMPTY = frozenset(("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"))  # fmt: skip
"""Cells that pandas takes for nothing at all (`STR_NA_VALUES`)."""
DELIMITERS = {";": "a semicolon", "\t": "a tab", "|": "a bar"}
_END = "\x00the end"


class Table:
    """A table. `columns` are those of its first row, `delimiter` what stands between its cells, once it was read."""

    def __init__(self, blocks: Iterable[Block], tally: Tally, delimiter: str = "") -> None:
        self.columns: list[str] = []
        self.delimiter = delimiter
        self._blocks, self._tally = blocks, tally
        self._done, self._offset, self._width = 0.0, 0, 0

    def batches(self) -> Iterator[Batch]:
        """The rows. Raises what the blocks raise."""
        lines = self._lines()
        first = next(lines, "")
        self.delimiter = self.delimiter or _delimiter(first)
        rows: list[tuple[int, Example]] = []
        known = csv.field_size_limit(MOST_LINE)
        try:
            reader = csv.reader(self._all(first, lines), delimiter=self.delimiter)
            begun = 1
            for cells in reader:
                line, begun = begun, reader.line_num + 1
                if cells and cells[-1].endswith(_END):
                    if cells != [_END]:
                        self._tally.add("quote_open", line, "a quotation mark that is never closed")
                    break
                if not cells:
                    continue
                if not self.columns:
                    self.columns, self._width = cells[:MOST_COLUMNS], len(cells)
                    continue
                rows.append((line, self._row(cells, line)))
                if len(rows) >= MOST_ROWS:
                    yield Batch(rows, self._offset, self._done)
                    rows = []
        except csv.Error as error:
            if "field larger" not in str(error):
                self._tally.add("unreadable", begun, str(error))
            elif reader.line_num > begun:
                self._tally.add("quote_open", begun, f"a quotation mark that is not closed in {MOST_LINE >> 20} MiB")
            else:
                self._tally.add("huge_lines", begun, f"more than {MOST_LINE:,} bytes")
        finally:
            csv.field_size_limit(known)
        yield Batch(rows, self._offset, 1.0)

    def _row(self, cells: list[str], line: int) -> Example:
        wanted = self._width
        if len(cells) > wanted:
            self._tally.add("too_many_cells", line, f"{len(cells)} cells under {wanted} columns")
        elif len(cells) < wanted:
            self._tally.add("too_few_cells", line, f"{len(cells)} cells under {wanted} columns")
        row: Example = dict.fromkeys(self.columns)
        row.update((name, cell) for name, cell in zip(self.columns, cells, strict=False) if cell not in EMPTY)
        return row

    def _all(self, first: str, lines: Iterator[str]) -> Iterator[str]:
        if first:
            yield first
        yield from lines
        yield _END

    def _lines(self) -> Iterator[str]:
        for line, _ in text_lines(self._noted(), self._tally):
            if "\r" not in line:
                yield line + "\n"
                continue
            *parts, last = line.split("\r")  # pandas ends a row there too, outside of quotation marks
            yield from (part + "\r" for part in parts)
            yield last + "\n"

    def _noted(self) -> Iterator[Block]:
        for block in self._blocks:
            self._done, self._offset = block.done, block.offset
            yield block


def _delimiter(line: str) -> str:
    """What stands between the cells: a comma, unless the first row has none and one of the others."""
    if "," in line:
        return ","
    return max(DELIMITERS, key=line.count) if any(mark in line for mark in DELIMITERS) else ","


def text_lines(blocks: Iterable[Block], tally: Tally) -> Iterator[tuple[str, int]]:
    """The lines of a text without their ends, with their numbers; what is not UTF-8 is counted and replaced."""
    for block in blocks:
        if block.huge:
            tally.add("huge_lines", block.line, f"{block.huge:,} bytes")
            continue
        parts = block.data.split(b"\n")
        if not parts[-1]:
            parts.pop()
        step = 1 if block.line else 0
        line = block.line - step
        for raw in parts:
            line += step
            yield decoded(raw, line, tally).removesuffix("\r"), line


def texts(blocks: Iterable[Block], tally: Tally) -> Iterator[Batch]:
    """Every line of a plain text as an example with the column `text`; empty lines part paragraphs and are none."""
    for block in blocks:
        rows = [(line, {"text": text}) for text, line in text_lines([block], tally) if text.strip()]
        yield Batch(rows, block.offset, block.done)
