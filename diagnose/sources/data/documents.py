"""One JSON document, a list or an object with a list, → examples one after the other: it may be larger than memory."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any

from diagnose.sources.data.batch import Batch, Example, word_for
from diagnose.sources.data.blocks import BLOCK, MOST_LINE, Stream
from diagnose.sources.data.jsonlines import constant, not_utf8
from diagnose.sources.data.tally import Tally

FIELDS = ("data", "train", "rows", "examples", "items", "instances")
"""Names of a field that examples are in."""
MOST_ROWS = 4000


class BrokenError(Exception):
    """The document cannot be read on: the line, the reason in words, and whether its text ends too early."""

    def __init__(self, line: int, why: str, cut: bool = False) -> None:
        super().__init__(why)
        self.line, self.why, self.cut = line, why, cut


class _Text:
    """The text of a stream, as far as it is needed, and the line of the place that was reached."""

    def __init__(self, stream: Stream, tally: Tally) -> None:
        self.stream, self.tally = stream, tally
        self.text, self.at, self.line = "", 0, 1
        self.ended = False
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")
        self._decode = json.JSONDecoder(parse_constant=lambda word: constant(word, self.line, tally)).raw_decode

    def more(self, at_least: int = BLOCK) -> bool:
        """Read on; whether there was something."""
        parts = [self.text[self.at :]]
        got = 0
        while got < at_least and not self.ended:
            data = self.stream.read(BLOCK)
            self.ended = not data
            got += len(data)
            parts.append(self._decoded(data))
        self.text, self.at = "".join(parts), 0
        return got > 0

    def _decoded(self, data: bytes) -> str:
        try:
            return self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            whole = bytes(error.object)
            line = self.line + self.text.count("\n", self.at) + whole[: error.start].count(b"\n")
            column = error.start - (whole.rfind(b"\n", 0, error.start) + 1)
            self.tally.add("not_utf8", line, not_utf8(whole[error.start - column :], column))
            self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
            return self._decoder.decode(whole, final=not data)

    def _column(self, place: int) -> int:
        """The column of a place in the text that is at hand; from the begin of that text where its line begins before."""
        return place - self.text.rfind("\n", 0, place)

    def peek(self) -> str:
        """The next character that is no blank, which is not taken; empty at the end."""
        while True:
            begin = self.at
            while self.at < len(self.text) and self.text[self.at] in " \t\r\n\ufeff":
                self.at += 1
            self.line += self.text.count("\n", begin, self.at)
            if self.at < len(self.text):
                return self.text[self.at]
            if self.ended or not self.more():
                return ""

    def take(self) -> str:
        """The next character that is no blank."""
        found = self.peek()
        self.at += 1
        return found

    def value(self) -> Any:
        """The next value. Raises BrokenError."""
        self.peek()
        while True:
            size = len(self.text) - self.at
            try:
                value, end = self._decode(self.text, self.at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos >= len(self.text.rstrip())
                if not self.ended and (cut or error.pos >= len(self.text) - 16) and size <= MOST_LINE:
                    self.more(max(size, BLOCK))
                    continue
                self.line += self.text.count("\n", self.at, min(error.pos, len(self.text)))
                if size > MOST_LINE and not self.ended:
                    raise BrokenError(self.line, f"an example of more than {MOST_LINE >> 20} MiB") from None
                raise BrokenError(self.line, f"{error.msg} (column {self._column(error.pos)})", cut) from None
            except RecursionError:
                raise BrokenError(self.line, "lists or objects within each other, hundreds deep") from None
            except ValueError as error:
                raise BrokenError(self.line, str(error)) from None
            if end == len(self.text) and not self.ended:
                self.more(max(size, BLOCK))
                continue
            self.line += self.text.count("\n", self.at, end)
            self.at = end
            return value


class Document:
    """A JSON document; `field` is the one whose list holds the examples, `top` whether it is a list or an object, once read."""

    def __init__(self, stream: Stream, tally: Tally) -> None:
        self.field, self.top = "", ""
        self._text = _Text(stream, tally)
        self._tally = tally
        self._rows: list[tuple[int, Example]] = []

    def batches(self) -> Iterator[Batch]:
        """The examples. What cannot be read ends it and is counted."""
        try:
            for line, value in self._values():
                if type(value) is not dict:
                    self._tally.add("not_objects", line, word_for(type(value)))
                    continue
                self._rows.append((line, value))
                if len(self._rows) >= MOST_ROWS or self._text.at > BLOCK // 2:
                    yield self._batch()
        except BrokenError as error:
            self._tally.add("cut_off" if error.cut else "unreadable", error.line, error.why)
        except ValueError as error:
            self._tally.add("unreadable", self._text.line, str(error))
        yield self._batch()

    def _batch(self) -> Batch:
        rows, self._rows = self._rows, []
        return Batch(rows, 0, self._text.stream.done())

    def _values(self) -> Iterator[tuple[int, Any]]:
        first = self._text.peek()
        if first == "[":
            self.top = "list"
            yield from self._list()
            return
        self.top = "object"
        if first == "{" and self._enter():
            yield from self._list()
            return
        while self._text.peek():
            line = self._text.line
            yield line, self._text.value()

    def _list(self) -> Iterator[tuple[int, Any]]:
        text = self._text
        text.take()
        if text.peek() == "]":
            text.take()
            return
        while True:
            text.peek()
            line = text.line
            yield line, text.value()
            mark = text.take()
            if mark == "]":
                return
            if mark != ",":
                why = f"a comma is missing before {mark}" if mark else "the list does not end"
                raise BrokenError(text.line, why, not mark)
            if text.peek() == "]":
                raise BrokenError(text.line, "a comma stands behind the last example")

    def _enter(self) -> bool:
        """Go into an object up to the list of examples in it; whether there is one. Else all is as it was."""
        text = self._text
        if not text.text and not text.more():
            return False
        begun, line = text.at, text.line
        start = text.text
        text.take()
        while text.peek() == '"':
            try:
                key = text.value()
                if text.take() != ":":
                    break
                if key in FIELDS and text.peek() == "[" and self._of_objects():
                    self.field = key
                    return True
                text.value()
            except BrokenError:
                break
            if text.take() != ",":
                break
        if text.text is not start and text.text != start:  # what was read is gone: it is one large object
            raise BrokenError(text.line, "no list of examples in it")
        text.text, text.at, text.line = start, begun, line
        return False

    def _of_objects(self) -> bool:
        """Whether the list that begins here holds objects."""
        text = self._text
        if len(text.text) - text.at < 64 and not text.ended:
            text.more()
        return text.text[text.at + 1 : text.at + 64].lstrip()[:1] in ("{", "]", "")
