"""One data file, read from its begin to its end (or in part) → its facts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from diagnose.model import Fact, Reading, Step, Unchecked
from diagnose.sources import files
from diagnose.sources.data import blocks, columnar, jsonlines, kinds, tables
from diagnose.sources.data.batch import Batch
from diagnose.sources.data.contents import Contents
from diagnose.sources.data.documents import Document
from diagnose.sources.data.examples import Examples
from diagnose.sources.data.layout import Layout, layout_of, listed
from diagnose.sources.data.media import Media
from diagnose.sources.data.named import DataFile
from diagnose.sources.data.prompts import Kept
from diagnose.sources.data.repeats import Repeats, mark_of
from diagnose.sources.data.shapes import FIRST_PART, Shapes
from diagnose.sources.data.tally import Tally, percent

_IN_TURNS = ("messages", "sharegpt", "alpaca")
"""Forms whose texts are put into a chat template."""


class Around(Struct, frozen=True):
    """What is known beside the file: how many ids the model has (0: not known), the token that its tokenizer puts before
    texts (empty: none), its control tokens, where paths of images may begin, interpreters that may have pyarrow.

    `sample`: only a part of the file is read.
    """

    vocabulary: int = 0
    begin: str = ""
    special: Sequence[str] = ()
    folders: Sequence[str] = ()
    interpreters: Sequence[str] = ()
    environ: Mapping[str, str] = {}
    sample: bool = False


class Parts(Struct, frozen=True):
    """What looks at each example, once it is known in which form they are."""

    examples: Examples
    kept: Kept
    contents: Contents
    media: Media


class Read:
    """A file that is read. After `run`: how many examples it has, its form, its columns, and what is kept of it.

    `head` is what the names of its facts begin with.
    """

    def __init__(self, file: DataFile, number: int, around: Around) -> None:
        self.file, self.around = file, around
        self.head = f"data.file.{number}"
        self.format, self.size, self.count, self.about = "", 0, 0, 0
        self.tokens = 0
        self.partial = False
        self.layout, self.columns = Layout("unknown"), [""]
        self.parts: Parts | None = None
        self.repeats = Repeats()
        self._tally, self._shapes = Tally(), Shapes()
        self._longest = self._longest_count = 0
        self._told = -1
        self._rows = self._characters = 0
        self._more: dict[str, str] = {}

    def run(self) -> Iterator[Reading]:
        """Read it."""
        head, path = self.head, self.file.shown
        try:
            with files.opened(self.file.path) as (handle, size):
                self.size = size
                yield Fact(f"{head}.bytes", size, path)
                stream = blocks.stream_of(self.file.path, handle, size)
                first = _head(self.file.path, handle, size)
                kind = kinds.kind_of(self.file.path, first, size)
                if kind.problem:
                    yield Fact(f"{head}.problem", kind.problem, path)
                    yield Fact(f"{head}.detail", kind.detail, path)
                    if kind.problem in _NOT_READ:
                        yield Unchecked("training data", f"{path}: {kind.detail}")
                    return
                self.format = kind.format
                yield from self._all(self._batches(handle, size, stream))
        except columnar.NoReaderError:
            yield Fact(f"{head}.format", self.format, path)
            yield Unchecked(path, _WITHOUT_PYARROW)
            return
        except (OSError, ValueError) as error:
            self._tally.add("broken_off", 0, files.reason(error))
        yield from self._facts()

    def _batches(self, handle: int, size: int, stream: blocks.Stream) -> Iterator[Batch]:
        plain = isinstance(stream, blocks.Plain)
        if self.format in ("parquet", "arrow"):
            yield from self._columnar()
            return
        if self.format == "json":
            document = Document(stream, self._tally)
            yield from self._limited(document.batches())
            if document.field:
                self._more["field"] = document.field
            if document.top == "object" and not document.field and self._rows > 1:
                self.format = "json-objects"
            return
        seekable = plain and self.format in ("jsonl", "text")
        if self.around.sample and seekable:
            self.partial = size > 3 * blocks.SAMPLE
            parts = blocks.sampled_blocks(handle, size, blocks.SAMPLE)
        else:
            parts = blocks.blocks(stream)
        if self.format == "jsonl":
            batches = jsonlines.batches(parts, self._tally)
        elif self.format == "text":
            batches = tables.texts(parts, self._tally)
        else:
            yield from self._table(parts)
            return
        yield from batches if self.around.sample and seekable else self._limited(batches)

    def _table(self, parts: Iterator[blocks.Block]) -> Iterator[Batch]:
        table = tables.Table(parts, self._tally, "\t" if self.format == "tsv" else "")
        yield from self._limited(table.batches())
        if self.format == "csv" and table.delimiter != "," and table.columns:
            self._more["delimiter"] = tables.DELIMITERS[table.delimiter]

    def _limited(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """All batches; with --sample those of the first part, where a file cannot be entered in the middle."""
        for batch in batches:
            yield batch
            if (
                self.around.sample
                and self._rows
                and (batch.offset > blocks.SAMPLE or self._characters > 2 * blocks.SAMPLE)
            ):
                self.partial = True
                return

    def _columnar(self) -> Iterator[Batch]:
        total = 0
        parts = columnar.lines(self.file.path, self.around.interpreters, self.around.environ, self.around.sample)
        first = True
        number = 0
        for batch in jsonlines.batches(parts, Tally()):
            rows = batch.rows
            if first and rows:
                first = False
                total = int(rows[0][1].get("rows", -1))
                rows = rows[1:]
            numbered = [(number + at, row) for at, (_, row) in enumerate(rows, start=1)]
            number += len(rows)
            yield Batch(numbered, 0, number / total if total > 0 else 0.0)
        self.partial = self.around.sample and (total > number or (total < 0 and number >= columnar.SAMPLE_ROWS))
        self.about = max(total, number)

    def _all(self, batches: Iterator[Batch]) -> Iterator[Reading]:
        for batch in batches:
            if batch.rows:
                self.parts = self.parts or self._begin(batch)
                self._take(batch, self.parts)
            share = int(100 * batch.done)
            if share != self._told and share:
                self._told = share
                yield Step(f"{self.file.shown} {share}%")

    def _begin(self, batch: Batch) -> Parts:
        """Decide from the first examples in which form they are."""
        rows = [row for _, row in batch.rows[:500]]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        self.layout = layout_of(rows, columns, self.file.asked)
        return Parts(
            Examples(self.layout, self._tally, self.around.vocabulary, self.around.begin),
            Kept(),
            Contents(self._tally, self.around.special, self.layout.name in _IN_TURNS),
            Media(self._tally, [os.path.dirname(self.file.path), *self.around.folders], columns),
        )

    def _take(self, batch: Batch, parts: Parts) -> None:
        """Take in the examples of a batch: this is what runs a million times."""
        self._shapes.note(batch)
        parts.examples.late = batch.offset >= FIRST_PART and self.format == "jsonl"
        texts_of, keep, repeats, media = parts.examples.texts, parts.kept.note, self.repeats, parts.media
        column = self.layout.column
        texts: list[bytes] = []
        lines: list[int] = []
        for line, row in batch.rows:
            text = texts_of(row, line)
            size = len(text)
            shown = b""
            if media.columns or self._tally.of("content_parts"):
                turns = row.get(column("messages"))
                media.look(row, turns, text, line)
                shown = media.shown(row, turns or row.get(column("prompt")) or row.get(column("chosen")))
            if size:
                data = text.encode("utf-8", "replace")
                texts.append(data)
                lines.append(line)
                repeats.add(mark_of(data + shown), line)
                if size >= self._longest:
                    self._longest_count = self._longest_count + 1 if size == self._longest else 1
                    self._longest = size
            keep(line, row, size)
            self._characters += size
        self._rows += len(batch.rows)
        parts.contents.look(texts, lines)

    def _facts(self) -> Iterator[Reading]:
        head, path = self.head, self.file.shown
        self.count = self._rows
        self.columns = self._shapes.columns()
        yield Fact(f"{head}.format", self.format, path)
        yield Fact(f"{head}.examples", self.count, path)
        if self.count:
            yield Fact(f"{head}.layout", self.layout.name, path)
            yield Fact(f"{head}.columns", listed(self.columns) or "none", path)
        if self.partial:
            self.about = self.about or self._estimate()
            yield Fact(f"{head}.sampled", True, path)
        for name, value in self._more.items():
            yield Fact(f"{head}.{name}", value, path)
        yield from self._columns()
        self._shapes.findings(self._tally, self.format == "jsonl")
        if not self.count and not self._tally.counts:
            yield Fact(f"{head}.problem", "no-examples", path)
            yield Fact(f"{head}.detail", _NONE.get(self.format, "there is nothing in it that is one"), path)
        for line, first in self.repeats.twice():
            self._tally.add("duplicates", line, f"line {line} repeats line {first}")
        yield from self._of_examples()
        yield from self._tally.facts(head, path, self.count)

    def _estimate(self) -> int:
        """How many examples the whole file has, if the rest is like the part that was read."""
        read = min(3 * blocks.SAMPLE, self.size)
        return round(self.count * self.size / read) if read else self.count

    def _columns(self) -> Iterator[Reading]:
        head, path, layout = self.head, self.file.shown, self.layout
        if layout.absent and self.count:
            yield Fact(f"{head}.column_absent", layout.absent, *(self.file.asked.place or (path, 0, 0, "")))
        if layout.misnamed and self.count:
            yield Fact(f"{head}.column_misnamed", layout.misnamed, path)
            yield Fact(f"{head}.column_meant", layout.meant, path)

    def _of_examples(self) -> Iterator[Reading]:
        head, path = self.head, self.file.shown
        if self.parts is None:
            return
        roles, labels = self.parts.examples.turns.roles, self.parts.examples.labels
        if roles:
            yield Fact(f"{head}.roles", ", ".join(list(roles)[:12]), path)
        yes, no = labels[True], labels[False]
        if yes or no:
            yield Fact(f"{head}.labels_true", yes, path)
            yield Fact(f"{head}.labels_false", no, path)
        if self._longest:
            yield Fact(f"{head}.longest_characters", self._longest, path)
            yield Fact(f"{head}.longest_count", self._longest_count, path)
            yield Fact(f"{head}.longest_percent", percent(self._longest_count, self.count), path)


_NOT_READ = ("other", "unknown")
"""Problems of files that nobody here knows how to read."""
_NONE = {
    "csv": "below the names of its columns stands no row",
    "tsv": "below the names of its columns stands no row",
    "json": "its list is empty",
    "parquet": "it has no rows",
    "arrow": "it has no rows",
}
_WITHOUT_PYARROW = (
    "reading Parquet and Arrow files needs pyarrow: name the environment that trains with --python, "
    "or install pyarrow beside llmdoctor"
)


def _head(path: str, handle: int, size: int) -> bytes:
    """The first bytes, unpacked."""
    try:
        return blocks.stream_of(path, handle, size).read(kinds.HEAD)
    except (OSError, ValueError):
        return b"?"
