"""JSON log records are read as the lines that they tell."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.sources.record import Record, read_record

TRACEBACK = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\nValueError: no such model\n'


def test_message_and_exception_are_the_lines() -> None:
    """The message comes first, then the traceback with its escaped newlines as lines."""
    record = read_record(json.dumps({"level": "error", "exc_info": TRACEBACK, "message": "request failed"}))
    assert Record(("request failed", *TRACEBACK.splitlines()), "error") == record


@pytest.mark.parametrize("key", ["message", "msg", "log", "event", "exception", "stack_trace", "error"])
def test_each_key_that_loggers_use_for_the_text(key: str) -> None:
    """Every common logger's key is known."""
    assert Record(("CUDA out of memory",), "ERROR") == read_record(
        json.dumps({"severity": "ERROR", key: "CUDA out of memory"})
    )


def test_docker_writes_a_line_per_record() -> None:
    """Docker's json-file holds one line of output; its newline is not part of it, its indentation is."""
    assert Record(('  File "a.py", line 1, in f',)) == read_record(
        '{"log":"  File \\"a.py\\", line 1, in f\\n","stream":"stderr","time":"2025-01-01T00:00:00Z"}'
    )


def test_a_record_within_a_record_is_read() -> None:
    """Docker wraps what a JSON logger wrote; the innermost text counts."""
    inner = json.dumps({"level": "warning", "msg": "port in use"})
    assert Record(("port in use",), "warning") == read_record(json.dumps({"log": inner + "\n", "stream": "stderr"}))


def test_an_exception_that_is_an_object_is_read() -> None:
    """Loggers that write the exception as an object hold its text in the same keys."""
    assert Record(("failed", "no such model", "at f"), "error") == read_record(
        json.dumps(
            {"level": "error", "msg": "failed", "error": {"message": "no such model", "stack": "at f", "code": 5}}
        )
    )


def test_a_list_of_lines_is_read() -> None:
    """A traceback written as a list of strings is joined."""
    assert Record(("failed", "one", "two"), "error") == read_record(
        json.dumps({"level": "error", "msg": "failed", "exc_info": ["one", "two", 3]})
    )


def test_the_same_text_twice_is_told_once() -> None:
    """Some loggers repeat the message as the error."""
    assert Record(("failed",), "error") == read_record(
        json.dumps({"level": "error", "msg": "failed", "error": "failed"})
    )


def test_the_rank_is_read() -> None:
    """A rank of 0 is a rank."""
    assert (read_record('{"level":"info","rank":0,"msg":"x"}') or Record(())).rank == "0"


@pytest.mark.parametrize(
    "text",
    [
        '{"object":"error","message":"The model does not exist","code":404}',
        '{"error":{"code":500,"message":"context too long"}}',
        '{"level":"error"}',
        '{"level":"error","msg":"  "}',
        '{"level":"error","msg":3}',
        '{"level":"error","msg":"cut of',
        '{"level": error}',
        "{'level': 'error', 'msg': 'python, not JSON'}",
        '["level","msg"]',
        "{}",
        "RuntimeError: no GPU",
        "",
        '{"level":' + "[" * 100_000 + "]" * 100_000 + "}",
    ],
)
def test_what_is_no_record_is_left_alone(text: str) -> None:
    """An API's answer, a broken or empty object and plain text stay what they are."""
    assert read_record(text) is None


@settings(deadline=None, max_examples=200)
@given(
    st.dictionaries(
        st.sampled_from(["level", "time", "msg", "message", "log", "event", "error", "exc_info", "rank", "stream"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
            max_leaves=6,
        ),
    )
)
def test_any_object_can_be_read(told: dict[str, object]) -> None:
    """No object stops the reader, and a record always has a line."""
    record = read_record(json.dumps(told))
    assert record is None or record.lines


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=80))
def test_any_text_can_be_read(text: str) -> None:
    """Nor does any text in braces."""
    assert read_record('{"' + text + "}") is None or '"' in text
