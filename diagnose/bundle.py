"""A case ⇄ a file: versioned JSON that a person can read, pack (.gz, .zst), send and diagnose elsewhere.

What is written is masked on its way out, whoever calls. What is read may come from anybody: it is bounded in size and
number, and a file that is damaged, too new or no case file at all is refused with a sentence.
"""

from __future__ import annotations

import codecs
import io
import json
import math
import os
import stat
from collections.abc import Callable
from typing import Annotated, BinaryIO, NoReturn

import msgspec
from msgspec import Meta, Struct

from diagnose import __version__, redact, written
from diagnose.errors import CaseError
from diagnose.facts import describe
from diagnose.model import Case, Event, Fact, Frame, Line, Raised, Unchecked

VERSION = 1
"""The version of the file's form. A newer form is refused; whatever is only added needs no new version."""
MOST_BYTES = 64 << 20
"""How large a case file may be, unpacked."""
MOST_WRITTEN = 48 << 20
"""How many bytes of events are written; the others are counted. Leaves room for the facts."""
LONGEST_NAME = 500
LONGEST_TEXT = 64 << 10
"""How many characters of one text are kept. The readers of logs keep fewer."""
ABOUT = "A case file of llmdoctor, secrets masked. Read it before you send it. To see what it says: llmdoctor check --case FILE"

_Number = Annotated[int, Meta(ge=0, le=1 << 53)]


class _Fact(Struct, omit_defaults=True):
    """A fact as it stands in the file."""

    name: str
    value: str | int | float | bool
    origin: str = ""
    line: _Number = 0
    column: _Number = 0
    key: str = ""


class _Frame(Struct, omit_defaults=True):
    """A frame as it stands in the file."""

    file: str = ""
    line: _Number = 0
    function: str = ""
    package: str = ""
    place: str = ""


class _Raised(Struct, omit_defaults=True):
    """An exception as it stands in the file."""

    line: _Number = 0
    exception: str = ""
    message: str = ""
    frames: Annotated[tuple[_Frame, ...], Meta(max_length=5000)] = ()


class _Line(Struct, omit_defaults=True):
    """A line as it stands in the file. Without `body` it is the text."""

    number: _Number = 0
    text: str = ""
    body: str | None = None
    level: str = ""


class _Event(Struct, omit_defaults=True):
    """An event as it stands in the file."""

    origin: str = ""
    line: _Number = 0
    end_line: _Number = 0
    lines: Annotated[tuple[_Line, ...], Meta(max_length=20_000)] = ()
    raised: Annotated[tuple[_Raised, ...], Meta(max_length=5000)] = ()
    phase: str = ""
    rank: str = ""
    process: str = ""
    host: str = ""
    time: float | None = None
    repeats: _Number = 0
    ranks: Annotated[tuple[str, ...], Meta(max_length=100_000)] = ()
    near: str = ""


class _Unchecked(Struct, omit_defaults=True):
    """What was not checked, as it stands in the file."""

    what: str = ""
    why: str = ""


class _File(Struct, omit_defaults=True):
    """The whole file. `tool` is the version of llmdoctor that wrote it."""

    llmdoctor_case: int
    tool: str = ""
    about: str = ""
    machine: bool = False
    origins: Annotated[tuple[str, ...], Meta(max_length=100_000)] = ()
    lines: _Number = 0
    facts: Annotated[tuple[_Fact, ...], Meta(max_length=100_000)] = ()
    unchecked: Annotated[tuple[_Unchecked, ...], Meta(max_length=100_000)] = ()
    events: Annotated[tuple[_Event, ...], Meta(max_length=100_000)] = ()


class _Head(Struct):
    """What must be known before the rest of a file is read."""

    llmdoctor_case: int | None = None
    tool: str = ""


# -- writing ----------------------------------------------------------------------------------------------------------


def write(case: Case, path: str) -> None:
    """Write a case, masked, to a file that is replaced as a whole; `.gz` and `.zst` are packed.

    Raises CaseError if it cannot be written, or if something other than a plain file is there.
    """
    data = dumps(case).encode()
    if path.endswith(".gz"):
        import gzip

        data = gzip.compress(data, mtime=0)
    elif path.endswith(".zst"):
        import zstandard

        data = zstandard.ZstdCompressor().compress(data)
    try:
        target = os.path.realpath(path)
        if os.path.lexists(target) and not stat.S_ISREG(os.lstat(target).st_mode):
            raise CaseError(f"{_shown(path)}: this is no plain file; name another one, or `-` to print the case")
        written.whole(target, data, private=True)
    except OSError as error:
        raise CaseError(f"{_shown(path)}: cannot write it: {error.strerror or error}") from None
    except ValueError:
        raise CaseError(f"{path!r}: no file can have this name") from None


def dumps(case: Case) -> str:
    """A case, masked, as the text of a case file. Events beyond MOST_WRITTEN bytes are counted, not written."""
    case = redact.case(case)
    events: list[_Event] = []
    size = 0
    for event in case.events:
        made = _of_event(event)
        size += 2 * len(msgspec.json.encode(made))  # indented, it takes up to twice the room
        if size > MOST_WRITTEN:
            break
        events.append(made)
    unchecked = case.unchecked
    if len(events) < len(case.events):
        left = len(case.events) - len(events)
        unchecked += (Unchecked(f"{left:,} further events", "more of them than a case file holds"),)
    file = _File(
        VERSION,
        __version__,
        ABOUT,
        case.machine,
        tuple(_text(origin) for origin in case.origins),
        case.lines,
        tuple(_written(fact) for fact in case.facts),
        tuple(_Unchecked(_text(item.what), _text(item.why)) for item in unchecked),
        tuple(events),
    )
    return msgspec.json.format(msgspec.json.encode(file), indent=2).decode() + "\n"


def _of_event(event: Event) -> _Event:
    return _Event(
        _text(event.origin),
        event.line,
        event.end_line,
        tuple(
            _Line(
                line.number,
                _text(line.text),
                None if line.body == line.text else _text(line.body),
                _word(_text(line.level)),
            )
            for line in event.lines
        ),
        tuple(
            _Raised(
                item.line,
                _text(item.exception),
                _text(item.message),
                tuple(
                    _Frame(
                        _text(frame.file), frame.line, _text(frame.function), _text(frame.package), _text(frame.place)
                    )
                    for frame in item.frames
                ),
            )
            for item in event.raised
        ),
        _word(_text(event.phase)),
        _word(_text(event.rank)),
        _word(_text(event.process)),
        _word(_text(event.host)),
        event.time if event.time is not None and math.isfinite(event.time) else None,
        event.repeats,
        tuple(_word(_text(rank)) for rank in event.ranks),
        _text(event.near),
    )


def _text(text: str) -> str:
    """A text that UTF-8 can hold, and no longer than is read."""
    text = _cut(text)
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def _value(value: str | int | float | bool) -> str | int | float | bool:
    """A fact's value that JSON can hold."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


# -- reading ----------------------------------------------------------------------------------------------------------


def read(path: str) -> Case:
    """Read a case file, packed or not. Raises CaseError with a sentence if it is none, damaged, too new or too large."""
    name = _shown(path)
    try:
        with _open(path, name) as file:
            data = _unpacked(file, name)
    except FileNotFoundError:
        raise CaseError(f"{name}: no such file") from None
    except PermissionError:
        raise CaseError(f"{name}: not allowed to read it; copy it, or run as a user who may") from None
    except OSError as error:
        raise CaseError(f"{name}: {error.strerror or error}") from None
    except ValueError:
        raise CaseError(f"{path!r}: no file can have this name") from None
    return loads(data, name)


def loads(data: bytes, name: str = "the case file") -> Case:
    """Read what `write` wrote. `name` stands in what is told of mistakes. Raises CaseError."""
    if len(data) > MOST_BYTES:
        _refuse_size(name)
    text = _decoded(data, name)
    del data
    _refuse_odd_json(text, name)
    plain = text.encode()
    del text
    try:
        head = msgspec.json.decode(plain, type=_Head)
    except msgspec.ValidationError:
        _refuse_other(name)
    except (msgspec.DecodeError, RecursionError) as error:
        raise CaseError(f"{name}: is damaged: {str(error)[:300]}") from None
    if head.llmdoctor_case is None:
        _refuse_other(name)
    if head.llmdoctor_case > VERSION:
        by = f" ({head.tool[:40]})" if head.tool else ""
        raise CaseError(
            f"{name}: was made by a newer llmdoctor{by}; update this one: pip install --upgrade llmdoctor-cli"
        )
    if head.llmdoctor_case < 1:
        raise CaseError(f"{name}: no llmdoctor writes case files of version {head.llmdoctor_case}")
    try:
        return _case(msgspec.json.decode(plain, type=_File))
    except msgspec.ValidationError as error:
        raise CaseError(f"{name}: is no valid case file: {str(error)[:300]}") from None
    except (msgspec.DecodeError, RecursionError, OverflowError) as error:
        raise CaseError(f"{name}: is damaged: {str(error)[:300]}") from None


def _open(path: str, name: str) -> BinaryIO:
    """Open a plain file: a pipe without a writer would be waited for, a device never ends."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or device"
        raise CaseError(f"{name}: this is {kind}, not a case file; save the case to a file and name that")
    return os.fdopen(handle, "rb")


def _unpacked(file: BinaryIO, name: str) -> bytes:
    head = file.read(4)
    file.seek(0)
    stream: BinaryIO = file
    try:
        if head.startswith(b"\x1f\x8b"):
            import gzip

            stream = gzip.GzipFile(fileobj=file)  # type: ignore[assignment]
        elif head == b"\x28\xb5\x2f\xfd":
            import zstandard

            stream = zstandard.ZstdDecompressor(max_window_size=8 << 20).stream_reader(file, read_across_frames=True)
        data = _at_most(stream, MOST_BYTES + 1)
    except (OSError, EOFError) as error:
        if stream is file:
            raise
        raise CaseError(f"{name}: damaged compressed data: {error}") from None
    except Exception as error:  # zlib.error, ZstdError: they share no base class
        raise CaseError(f"{name}: damaged compressed data: {error}") from None
    if len(data) > MOST_BYTES:
        _refuse_size(name)
    return data


def _at_most(stream: BinaryIO, most: int) -> bytes:
    """What a stream holds, up to a number of bytes; it is asked for little at a time, as packed zeros unfold to much."""
    made = io.BytesIO()
    while made.tell() < most:
        chunk = stream.read(min(1 << 20, most - made.tell()))
        if not chunk:
            break
        made.write(chunk)
    return made.getvalue()


def _decoded(data: bytes, name: str) -> str:
    """The text; PowerShell's `>` writes UTF-16."""
    if not data.strip(b"\0 \t\r\n"):
        raise CaseError(f"{name}: is empty")
    encoding = "utf-8-sig"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        if b"llmdoctor_case" not in data[:200]:
            _refuse_other(name)
        raise CaseError(
            f"{name}: is damaged: byte {error.start:,} is no {encoding.removesuffix('-sig').upper()}"
        ) from None


class _OddJSONError(ValueError):
    """JSON that readers understand differently."""


def _refuse_odd_json(text: str, name: str) -> None:
    """Refuse what is no JSON, and what other readers would take for something else: a key twice, NaN, half characters.

    Nothing of what is read here is kept, so that this takes no memory.
    """

    def pairs(items: list[tuple[str, object]]) -> None:
        if len(items) != len({key for key, _ in items}):
            seen: set[str] = set()
            twice = next(key for key, _ in items if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise _OddJSONError(f"the key {twice[:60]!r} stands twice in one object")

    def constant(word: str) -> NoReturn:
        raise _OddJSONError(f"{word} is no number")

    def number(convert: Callable[[str], object]) -> Callable[[str], None]:
        def read_number(digits: str) -> None:
            if len(digits) > 400:
                raise _OddJSONError("a number of more than 400 digits")
            convert(digits)

        return read_number

    try:
        json.loads(
            text, object_pairs_hook=pairs, parse_constant=constant, parse_int=number(int), parse_float=number(float)
        )
    except _OddJSONError as error:
        raise CaseError(f"{name}: is damaged: {error}") from None
    except json.JSONDecodeError as error:
        if "llmdoctor_case" not in text[:200]:
            _refuse_other(name)
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
            raise CaseError(f"{name}: is cut off at line {error.lineno:,}; send or copy it again") from None
        raise CaseError(f"{name}: is damaged at line {error.lineno:,}: {error.msg}") from None
    except RecursionError:
        raise CaseError(f"{name}: is nested too deeply for a case file") from None
    try:
        text.encode()
    except UnicodeEncodeError:  # pragma: no cover - decoding does not make these
        raise CaseError(f"{name}: is damaged: it holds half of a surrogate pair") from None


def _refuse_other(name: str) -> NoReturn:
    raise CaseError(
        f"{name}: is not a case file (`llmdoctor collect -o case.json` makes one). A log is read by `llmdoctor diagnose LOG`"
    )


def _refuse_size(name: str) -> NoReturn:
    raise CaseError(f"{name}: is larger than {MOST_BYTES >> 20} MiB; no case file of ours is")


def _case(file: _File) -> Case:
    """The case in a file. Texts longer than any of ours are cut; an event without lines says nothing."""
    facts = tuple(made for fact in file.facts if (made := _fact(fact)) is not None)
    unchecked = tuple(Unchecked(_cut(item.what), _cut(item.why)) for item in file.unchecked)
    if len(facts) < len(file.facts):
        left = len(file.facts) - len(facts)
        unchecked += (
            Unchecked(f"{left:,} facts of the case file", "their names or values are none that facts can have"),
        )
    return Case(
        facts=facts,
        events=tuple(_event(event) for event in file.events if event.lines),
        unchecked=unchecked,
        origins=tuple(_cut(origin) for origin in file.origins),
        lines=file.lines,
        machine=file.machine,
    )


def _written(fact: Fact) -> _Fact:
    """A fact as it is written."""
    return _Fact(_text(fact.name), _value(fact.value), _text(fact.origin), fact.line, fact.column, _text(fact.key))


def _fact(fact: _Fact) -> Fact | None:
    """The fact, or None if its name is none (`*` stands for any instance) or its value is not of the catalogue's type."""
    if not fact.name or len(fact.name) > LONGEST_NAME or "*" in fact.name.split("."):
        return None
    value = _cut(fact.value) if isinstance(fact.value, str) else fact.value
    kind = describe(fact.name)
    if kind is not None:
        if kind.type == "flag" and not isinstance(value, bool):
            return None
        if kind.type in ("number", "bytes") and (isinstance(value, bool) or not isinstance(value, (int, float))):
            return None
        if kind.type in ("version", "text") and not isinstance(value, str):
            value = str(value)
    return Fact(fact.name, value, _cut(fact.origin), fact.line, fact.column, _cut(fact.key))


def _event(event: _Event) -> Event:
    return Event(
        _cut(event.origin),
        event.line,
        event.end_line,
        tuple(
            Line(line.number, _cut(line.text), _cut(line.text if line.body is None else line.body), _word(line.level))
            for line in event.lines
        ),
        tuple(_raised(item) for item in event.raised),
        _word(event.phase),
        _word(event.rank),
        _word(event.process),
        _word(event.host),
        event.time,
        event.repeats,
        tuple(_word(rank) for rank in event.ranks),
        _cut(event.near),
    )


def _raised(item: _Raised) -> Raised:
    frames = tuple(
        Frame(_cut(frame.file), frame.line, _cut(frame.function), _cut(frame.package), _cut(frame.place))
        for frame in item.frames
    )
    return Raised(item.line, _cut(item.exception), _cut(item.message), frames)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 2] + " …"


def _word(text: str) -> str:
    """A short text of one line, as the readers of logs make them: a rank, a process, a phase."""
    return "".join(char if char.isprintable() else "�" for char in text[:200])


def _shown(path: str) -> str:
    """A path as it can be written: bytes that are not UTF-8 are marked."""
    return os.fsencode(path).decode("utf-8", "replace")
