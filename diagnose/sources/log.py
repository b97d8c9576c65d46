"""A log → events: the records around the places that the first pass found, tracebacks and chains joined.

The text is read in windows, so memory does not grow with the log. An event is built only where a rule might match; the
same record said again (by other ranks, or later) is counted and not kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from msgspec import Struct
from msgspec.structs import replace

from diagnose.model import Event, Line
from diagnose.scan import Scanner
from diagnose.sources import stack
from diagnose.sources.prefix import Prefix, level_of, read_prefix, repeats
from diagnose.sources.record import Record, read_record
from diagnose.sources.text import LONGEST_LINE, Window, windows

KEEP_SHAPES = 200
"""How many different lines are kept of those that contain one plain text."""
KEEP_EVENTS = 4000
"""How many events are kept of one input."""
REACH = 400
"""How many lines a traceback is followed backwards and forwards."""
EXCERPT = 8192
"""How many bytes of a line are read around a place."""
MOST_RANKS = 4096
NEAR_ABOVE, NEAR_BELOW = 15, 8

_DIGITS = b"0123456789"


class _Seen(Struct, eq=False):
    """A record that was kept: its event, how often it was said again, and by which ranks."""

    event: Event
    again: dict[bytes, int] = {}
    ranks: dict[str, None] = {}
    deepened: bool = False


class _Row(Struct, frozen=True):
    """A line of a window: byte offsets, number, text, prefixes, and what it is in a traceback."""

    start: int
    end: int
    number: int
    text: str
    prefix: Prefix
    body: str
    kind: str
    told: tuple[_Row, ...] = ()
    """The lines of a JSON record with several of them; all have its number."""


class LogReader:
    """Reads one input. `read` gives the windows' hits to the caller's readers; `events` are what was found."""

    def __init__(self, origin: str, scanner: Scanner) -> None:
        self.origin = origin
        self.lines = 0
        self.size = 0
        self.skipped = 0
        self._scanner = scanner
        self._by_start: dict[tuple[int, int], _Seen] = {}
        self._by_shape: dict[bytes, _Seen] = {}
        self._covered: dict[tuple[int, str], _Seen] = {}
        self._shapes = [0] * len(scanner.owners)

    def read(self, stream: BinaryIO) -> Iterator[Window]:
        """Read to the end; yields each window after its events were taken, for readers of other things in it."""
        for window in windows(self.origin, stream):
            self._take(window)
            yield window

    def events(self) -> tuple[Event, ...]:
        """The events in the order of their lines."""
        kept = sorted(self._by_start.values(), key=lambda seen: seen.event.line)
        return tuple(
            replace(
                seen.event, repeats=seen.event.repeats + max(seen.again.values(), default=0), ranks=tuple(seen.ranks)
            )
            for seen in kept
        )

    def _take(self, window: Window) -> None:
        view = _View(window)
        taken = 0
        for text, end in self._scanner.find(memoryview(window.data)[window.start : window.end]):
            at = window.start + end
            if at > taken:
                taken = self._take_place(view, text, at)
        self.lines = window.line + window.data.count(b"\n") if window.last else self.lines
        if window.last and window.data.endswith(b"\n"):
            self.lines -= 1
        self.size += window.end - window.start

    def _take_place(self, view: _View, text: int, at: int) -> int:
        """Keep or count the record that a place is in, unless there are too many of its kind; to where it was looked at."""
        if self._shapes[text] >= KEEP_SHAPES or len(self._by_start) >= KEEP_EVENTS:
            self.skipped += 1
            return 0
        start, stop = view.bounds(at)
        shape = view.data[start:stop].translate(None, _DIGITS)
        seen = self._by_shape.get(shape)
        if seen is not None and not self._tells_more_here(view, seen, start, stop):
            self._again(view, seen, shape, start, stop)
            return stop
        self._shapes[text] += 1
        row = view.row(start, stop)
        self._by_shape[shape] = self._covered.get((row.number, row.text)) or self._keep(view, row)
        return stop

    def _tells_more_here(self, view: _View, seen: _Seen, start: int, stop: int) -> bool:
        """Whether a line that stood alone before (a title, a summary) now ends a traceback, which says more."""
        if seen.deepened or any(item.frames for item in seen.event.raised):
            return False
        seen.deepened = True  # looked at once: the same line a million times must not cost a million looks
        row = view.row(start, stop)
        if (row.number, row.text) in self._covered:
            return False
        return any(item.kind == "frame" for item in _above(view, row))

    def _keep(self, view: _View, row: _Row) -> _Seen:
        """Keep the record that a row belongs to."""
        rows = _event_rows(view, row)
        key = (rows[0].number, rows[0].start)
        seen = self._by_start.get(key)
        if seen is None:
            event = _event(self.origin, rows, view.around(rows[0].start, rows[-1].end))
            seen = self._by_start[key] = _Seen(event)
            if event.rank:
                seen.ranks[event.rank] = None
        elif rows[-1].number > seen.event.end_line:  # seen from its end, a record can be longer than from its start
            seen.event = _event(self.origin, rows, view.around(rows[0].start, rows[-1].end))
        for item in rows:
            self._covered[item.number, item.text] = seen
        return seen

    def _again(self, view: _View, seen: _Seen, shape: bytes, start: int, stop: int) -> None:
        """Count a line said again. A record of several such lines was said as often as the commonest of them."""
        again = seen.again[shape] = seen.again.get(shape, 0) + 1
        if (
            seen.event.rank and len(seen.ranks) < MOST_RANKS and again < 20 * MOST_RANKS
        ):  # of one shape all tell a rank, or none
            rank = read_prefix(view.data[start : min(stop, start + 400)].decode("utf-8", "replace")).rank
            if rank:
                seen.ranks[rank] = None


class _View:
    """The lines of a window, by offset."""

    def __init__(self, window: Window) -> None:
        self.data = window.data
        self._anchor = (0, window.line)

    def bounds(self, at: int) -> tuple[int, int]:
        """Start and end of the piece of line around `at`: between carriage returns, and EXCERPT bytes at most."""
        least, most = max(0, at - EXCERPT), min(len(self.data), at + EXCERPT)
        start = max(self.data.rfind(b"\n", least, at) + 1, least)
        stop = self.data.find(b"\n", at, most)
        stop = most if stop < 0 else stop
        returned = self.data.rfind(b"\r", start, at) + 1
        start = max(start, returned)
        next_return = self.data.find(b"\r", at, stop)
        return start, next_return if next_return >= 0 else stop

    def number(self, offset: int) -> int:
        """The number of the line that an offset lies in."""
        anchor, line = self._anchor
        if offset >= anchor:
            line += self.data.count(b"\n", anchor, offset)
        else:
            line -= self.data.count(b"\n", offset, anchor)
        self._anchor = (offset, line)
        return line

    def row(self, start: int, stop: int) -> _Row:
        text = self.data[start:stop].decode("utf-8", "replace").rstrip("\r")
        text = text[text.rfind("\r") + 1 :]  # a terminal shows what was written last
        row = _row(start, stop, self.number(start), text)
        return self._record(row) or row

    def _record(self, row: _Row) -> _Row | None:
        """The row of a JSON record: its one line instead of the JSON, or the row with all lines in `told`; else None."""
        first = self.data.rfind(b"\n", max(0, row.start - LONGEST_LINE), row.start) + 1
        if not row.body.startswith('{"') and not self.data.startswith(b'{"', first):
            return None
        last = self.data.find(b"\n", row.start, row.start + LONGEST_LINE)
        text = self.data[first : last if last >= 0 else row.start + LONGEST_LINE].decode("utf-8", "replace")
        record = read_record(text if text.startswith("{") else text[read_prefix(text).length :])
        if record is None:
            return None
        told = tuple(
            _from_record(_row(row.start, row.end, row.number, line), record, row.prefix) for line in record.lines
        )
        return told[0] if len(told) == 1 else replace(told[0], kind="other", told=told)

    def around(self, start: int, stop: int) -> str:
        """The text around a place: NEAR_ABOVE lines above it and NEAR_BELOW below."""
        first, last = start, stop
        for _ in range(NEAR_ABOVE + 1):
            first = self.data.rfind(b"\n", max(0, start - EXCERPT), max(first, 0))
            if first < 0:
                break
        for _ in range(NEAR_BELOW + 1):
            last = self.data.find(b"\n", last + 1, stop + EXCERPT)
            if last < 0:
                break
        first = max(first, start - EXCERPT, 0)
        return self.data[first : last if last >= 0 else stop + EXCERPT].decode("utf-8", "replace")

    def before(self, row: _Row) -> _Row | None:
        line_start = self.data.rfind(b"\n", 0, row.start) + 1
        if line_start == 0:
            return None
        stop = line_start - 1
        start = self.data.rfind(b"\n", 0, stop) + 1
        return self.row(max(start, stop - EXCERPT), stop)

    def after(self, row: _Row) -> _Row | None:
        start = self.data.find(b"\n", row.end) + 1
        if start == 0 or start >= len(self.data):
            return None
        stop = self.data.find(b"\n", start)
        stop = len(self.data) if stop < 0 else stop
        return self.row(start, min(stop, start + EXCERPT))


def _row(start: int, end: int, number: int, text: str) -> _Row:
    prefix = read_prefix(text)
    body = text[prefix.length :]
    return _Row(start, end, number, text, prefix, body, stack.kind(body))


def _from_record(row: _Row, record: Record, outer: Prefix) -> _Row:
    """A line of a JSON record, with what the record and the prefixes in front of it tell."""
    own = row.prefix
    level = level_of(record.level.upper()) if record.level else ""
    prefix = replace(
        own,
        stream=" ".join(part for part in (outer.stream, own.stream) if part),
        rank=own.rank or record.rank or outer.rank,
        process=own.process or outer.process,
        level=own.level or level,
        logged=own.logged or bool(level),
    )
    return replace(row, prefix=prefix)


def _event_rows(view: _View, row: _Row) -> list[_Row]:
    """The rows of the event that a row belongs to."""
    if row.told:
        return list(row.told)
    following = view.after(row)
    if following is not None and _announces(row, following):
        return [row, following, *_below(view, following)]
    above = _above(view, row)
    joined = [*above, row]
    if any(item.kind in ("frame", "header") for item in joined):
        before = view.before(joined[0])
        announced = [before] if before is not None and _announces(before, joined[0]) else []
        return announced + joined + _below(view, row)
    if row.kind in ("frame", "header", "code"):
        below = _below(view, row)
        if any(item.kind == "frame" for item in [row, *below]):
            return [row, *below]
    return _single(view, row)


def _announces(row: _Row, header: _Row) -> bool:
    """Whether a row is the message that a logger wrote above an exception's traceback."""
    return (
        header.kind == "header"
        and not row.told
        and row.kind == "other"
        and row.prefix.level == "error"
        and row.prefix.stream == header.prefix.stream
    )


def _above(view: _View, row: _Row) -> list[_Row]:
    """The rows of a traceback above a row, or nothing."""
    found: list[_Row] = []
    foreign = loose = 0
    complete = row.kind == "header"
    chained = row.kind == "chain"
    current = view.before(row)
    while current is not None and not current.told and len(found) + foreign < REACH:
        if current.prefix.stream != row.prefix.stream:
            foreign += 1
            if foreign > REACH // 2 or not (current.prefix.stream or row.prefix.stream):
                break
            current = view.before(current)
            continue
        if complete and current.kind not in ("chain", "blank"):
            break
        if current.kind == "other":
            loose += 1
            if not _may_be_message(current, row) or loose > (30 if chained else 10) or current.body.startswith("```"):
                break
        elif current.kind in ("frame", "header", "exception"):
            loose = 0
            chained = False
        elif current.kind == "chain":
            complete, chained, loose = False, True, 0
        if current.kind == "header":
            complete = True
        found.append(current)
        current = view.before(current)
    return _trim(found)


def _may_be_message(current: _Row, row: _Row) -> bool:
    """Whether a line can be part of an exception's message: it has prefixes like those of the event's line."""
    return current.prefix.logged == row.prefix.logged and current.prefix.level == row.prefix.level


def _trim(found: list[_Row]) -> list[_Row]:
    """Reverse, and drop what stands above the first header or frame."""
    rows = found[::-1]
    for index, item in enumerate(rows):
        if item.kind in ("header", "frame"):
            return rows[index:]
    return []


def _below(view: _View, row: _Row) -> list[_Row]:
    """The rows of a traceback below a row: to the end of the last exception of the chain."""
    found: list[_Row] = []
    foreign = loose = 0
    ended = row.kind in ("exception", "other")
    current = view.after(row)
    while current is not None and not current.told and len(found) + foreign < REACH:
        if current.prefix.stream != row.prefix.stream:
            foreign += 1
            if foreign > REACH // 2 or not (current.prefix.stream or row.prefix.stream):
                break
            current = view.after(current)
            continue
        if current.kind == "header" and ended and not (found and _chained(found)):
            break
        if current.kind == "other" and found and found[-1].kind == "frame":
            pass  # a line of source whose indentation was lost
        elif current.kind in ("other", "exception"):
            if ended and (current.kind == "exception" or not _may_be_message(current, row) or _blank_before(found)):
                break
            loose = loose + 1 if ended else 0
            if loose > 12 or current.body.startswith("```"):
                break
            ended = True
        elif current.kind in ("chain", "header"):
            ended, loose = False, 0
        elif current.kind == "frame":
            if _blank_before(found) and not _chained(found):
                break
            ended, loose = False, 0
        found.append(current)
        current = view.after(current)
    while found and found[-1].kind in ("blank", "chain"):
        found.pop()
    return found


def _blank_before(found: list[_Row]) -> bool:
    return bool(found) and found[-1].kind == "blank"


def _chained(found: list[_Row]) -> bool:
    """Whether the last lines that are not blank announce a chained exception."""
    for item in reversed(found):
        if item.kind != "blank":
            return item.kind == "chain"
    return False


def _single(view: _View, row: _Row) -> list[_Row]:
    """A line that is no traceback, with what continues it: indented lines, and what a C++ abort says."""
    rows = [row]
    if row.body.lstrip().startswith("what():"):
        before = view.before(row)
        if before is not None and "terminate called" in before.body:
            rows.insert(0, before)
    current = view.after(row)
    while current is not None and not current.told and len(rows) < 8:
        if (
            current.prefix.stream != row.prefix.stream
            or current.prefix.logged
            or current.kind != "code"
            or row.body.startswith((" ", "\t"))
        ):
            break
        rows.append(current)
        current = view.after(current)
    return rows


def _event(origin: str, rows: list[_Row], near: str) -> Event:
    lines = tuple(Line(row.number, row.text, row.body, row.prefix.level) for row in rows)
    exceptions = stack.raised(lines)
    frames = [frame for item in exceptions for frame in item.frames]
    prefixes = [row.prefix for row in rows]
    return Event(
        origin=origin,
        line=rows[0].number,
        end_line=rows[-1].number,
        lines=lines,
        raised=exceptions,
        phase=stack.phase(frames),
        rank=next((p.rank for p in prefixes if p.rank), ""),
        process=next((p.process for p in prefixes if p.process), ""),
        host=next((p.host for p in prefixes if p.host), ""),
        time=next((p.time for p in prefixes if p.time is not None), None),
        repeats=sum(repeats(row.text) for row in rows),
        near=near,
    )
