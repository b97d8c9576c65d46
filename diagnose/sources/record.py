"""A log record written as a JSON object on one line → the lines of text that it tells.

Docker's json-file, structlog, python-json-logger and the logging agents of clouds write such lines. An API's answer is
JSON too, but no record: it says neither when nor how severe, and is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

_MARKS = (
    "level",
    "levelname",
    "severity",
    "lvl",
    "time",
    "timestamp",
    "@timestamp",
    "ts",
    "asctime",
    "stream",
    "logger",
    "exc_info",
    "stack_trace",
)
_MESSAGE = ("message", "msg", "log", "event")
_EXCEPTION = ("exc_info", "exception", "stack_trace", "error", "traceback", "stack")
_LEVELS = ("level", "levelname", "severity", "lvl")
_DEEPEST = 3


class Record(Struct, frozen=True):
    """What a JSON record says: its lines, its level as it names it (empty: not told), and the rank that wrote it."""

    lines: tuple[str, ...]
    level: str = ""
    rank: str = ""


def read_record(text: str, depth: int = 0) -> Record | None:
    """The record in a line of text, or None if the text is no JSON record that says something."""
    text = text.strip()
    if not (text.startswith('{"') and text.endswith("}")):
        return None
    import msgspec

    try:
        told = msgspec.json.decode(text.encode("utf-8", "replace"))
    except (msgspec.DecodeError, RecursionError):
        return None
    if not any(key in told for key in _MARKS):
        return None
    lines = tuple(dict.fromkeys(_texts(told)))
    split = tuple(line for item in lines for line in item.rstrip().splitlines())
    if not split:
        return None
    inner = read_record(split[0], depth + 1) if len(split) == 1 and depth < _DEEPEST else None
    return inner or Record(split, _word(told, _LEVELS), _word(told, ("rank",)))


def _texts(told: Mapping[str, object]) -> Iterator[str]:
    """The message, then the exception: texts, lists of texts, or objects that hold them."""
    for key in (*_MESSAGE, *_EXCEPTION):
        value = told.get(key)
        if isinstance(value, dict):
            yield from (
                text for inner in (*_MESSAGE, *_EXCEPTION) if isinstance(text := value.get(inner), str) and text.strip()
            )
        elif isinstance(value, list):
            yield "\n".join(item for item in value if isinstance(item, str))
        elif isinstance(value, str) and value.strip():
            yield value


def _word(told: Mapping[str, object], keys: tuple[str, ...]) -> str:
    return next((str(told[key]) for key in keys if isinstance(told.get(key), (str, int))), "")
