"""Text made to hurt: it may cost time in proportion to its size, and nothing else.

The sizes are such that a search which backtracks, or work that grows with the square of the text, would not end.
"""

from __future__ import annotations

import random
from contextlib import suppress
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose import ruleset
from diagnose.causes import diagnose
from diagnose.collect import case_of_files
from diagnose.errors import InputError
from diagnose.formats import FORMATS, formatter
from diagnose.match import match
from diagnose.model import Diagnosis
from diagnose.pattern import plain
from diagnose.ruleset import RuleSet
from diagnose.sources.prefix import read_prefix
from diagnose.sources.stack import frame, kind
from tests.support import findings_in, rule, ruleset_of

MEGABYTE = 1 << 20
ERROR = b"RuntimeError: CUDA error: out of memory\n"


@lru_cache(maxsize=1)
def bundled() -> RuleSet:
    return ruleset.load()


def report(data: bytes) -> Diagnosis:
    """The diagnosis by all bundled rules; every format can write it."""
    case = case_of_files(bundled(), ["-"], BytesIO(data))
    diagnosis = diagnose(bundled(), case, match(bundled(), case))
    for name in FORMATS:
        assert formatter(name)(diagnosis)
    return diagnosis


REDOS = {
    "many a": b"a" * MEGABYTE,
    "many a and a mark": b"a" * MEGABYTE + b"!",
    "spaces": b" " * MEGABYTE + b"x",
    "digits and dots": b"1." * (MEGABYTE // 2),
    "open brackets": b"([{" * (MEGABYTE // 3),
    "quotes": b"'\"" * (MEGABYTE // 2),
    "slashes": b"/a" * (MEGABYTE // 2),
    "equals": b"a=" * (MEGABYTE // 2),
    "colons": b"a: " * (MEGABYTE // 3),
    "commas": b"x, " * (MEGABYTE // 3),
    "an unfinished frame": b'  File "' + b"a/" * (MEGABYTE // 2),
    "unfinished escapes": b"\x1b[" * (MEGABYTE // 2),
    "an unfinished title": b"\x1b]0;" + b"a" * MEGABYTE,
    "dotted names": b"a." * (MEGABYTE // 2) + b"Error",
    "exception names": b"Error" * (MEGABYTE // 5),
    "versions": b"torch==" + b"1" * MEGABYTE,
    "boxes": ("╭" * (MEGABYTE // 3)).encode(),
    "bars": ("│ │" * (MEGABYTE // 7)).encode(),
}


@pytest.mark.parametrize("name", sorted(REDOS))
def test_texts_that_make_searches_backtrack(name: str) -> None:
    """A megabyte of each of the classic texts is read by all rules to its end."""
    assert (
        tuple(
            cause for cause in report(REDOS[name]).diagnoses if cause.kind == "specific" and cause.severity == "error"
        )
        == ()
    )


def test_every_bundled_pattern_on_long_near_matches() -> None:
    """Each pattern meets a line that holds its own plain text over and over, with long runs of other text between."""
    lines = [
        f"{plain(pattern.text).texts[0]} " * 20 + "a" * 3000 + " " * 3000 + "1." * 500 for pattern in bundled().patterns
    ]
    assert len(lines) == report("\n".join(lines).encode()).lines


@pytest.mark.parametrize(
    "unit", ["a ", "1.", "::", "[a]", "(a ", "> ", "| ", "0: ", "[rank0]: ", "a.b/", "-", "=", '"', "   File "]
)
def test_prefixes_and_frames_of_long_lines(unit: str) -> None:
    """The readers of one line stay linear: sixty thousand characters of the same are read."""
    text = unit * (60_000 // len(unit))
    assert 0 <= read_prefix(text).length <= len(text)
    assert kind(text) in ("header", "frame", "code", "chain", "blank", "exception", "other")
    assert frame(f'  File "{text}') is None


def test_a_chain_of_ten_thousand_exceptions() -> None:
    """Followed as far as is sensible; the text at both of its ends is still diagnosed."""
    link = b'Traceback (most recent call last):\n  File "/a/b.py", line 1, in f\n    g()\nValueError: link %d\n\nDuring handling of the above exception, another exception occurred:\n\n'
    data = b"".join(link % number for number in range(10_000)) + b"Traceback (most recent call last):\n" + ERROR
    found = report(data)
    assert found.lines == data.count(b"\n")
    assert found.diagnoses


def test_a_traceback_of_a_hundred_thousand_frames() -> None:
    """The innermost frames are enough."""
    data = b"Traceback (most recent call last):\n" + b'  File "/a/b.py", line 1, in f\n    f()\n' * 100_000 + ERROR
    assert any(item.line == data.count(b"\n") for item in report(data).diagnoses[0].evidence)


def test_a_million_lines_of_one_error() -> None:
    """Told once, with how often it was seen."""
    found = report(ERROR * 1_000_000)
    assert found.lines == 1_000_000
    assert found.diagnoses[0].seen == 1_000_000


def test_a_million_lines_that_differ(tmp_path: Path) -> None:
    """The same error with other words each time: some are kept, the others counted."""
    rules = ruleset_of(tmp_path, rule("a-cause", r"words of the (?P<what>\w+)"))
    source = random.Random(1)
    data = b"".join(b"words of the %s\n" % "".join(source.choices("abcdefgh", k=9)).encode() for _ in range(200_000))
    case = case_of_files(rules, ["-"], BytesIO(data))
    assert (case.lines, len(case.events) <= 4000) == (200_000, True)
    assert case.unchecked


def test_a_line_of_fifty_megabytes() -> None:
    """One line with the error at its very end: it is found there."""
    data = b"x" * (50 * MEGABYTE) + b" " + ERROR
    found = report(data)
    assert found.lines == 1
    assert found.diagnoses[0].evidence[0].line == 1


def test_a_line_of_errors_without_end() -> None:
    """Megabytes of errors that never end their line."""
    assert report(ERROR.replace(b"\n", b" ") * (4 * MEGABYTE // len(ERROR))).lines == 1


@pytest.mark.parametrize(
    "line",
    [
        b"[rank0]: ",
        b"(EngineCore_DP0 pid=41) ERROR 11-02 09:15:07 [core.py:708] ",
        b"> > > > ",
        b"2026-01-02 03:04:05,678 ",
        b"web-1  | ",
        b"0: ",
    ],
)
def test_text_that_is_all_prefixes(line: bytes) -> None:
    """Prefixes with nothing behind them, on many lines and many times on one line: nothing is found, all is read."""
    assert ((found := report(line * 20 + b"\n" + (line + b"\n") * 19_999)).lines, found.diagnoses) == (20_000, ())


@pytest.mark.parametrize(
    "unit",
    [
        b"```\n",
        b"> ```\n",
        b"~~~\n",
        b"<details>\n",
        b"Traceback (most recent call last):\n",
        b"\n",
        b"\r",
        b"\r\n",
        b"    ^^^^\n",
    ],
)
def test_text_that_is_all_frame_work(unit: bytes) -> None:
    """Only fences, headers, carriage returns or blank lines: read, and nothing found."""
    assert report(unit * 50_000).diagnoses == ()


@pytest.mark.parametrize("data", [b"\0" * MEGABYTE, b"\0", b"\0\n" * 1000])
def test_only_nuls(data: bytes) -> None:
    """NULs alone are no text: a sentence, or nothing found; never a finding."""
    with suppress(InputError):
        assert report(data).diagnoses == ()


def test_nuls_do_not_hide_an_error() -> None:
    """A log with a hole of NULs in it (a file that was cut while it was written) is read on behind the hole."""
    assert report(b"fine\n" + b"\0" * MEGABYTE + b"\n" + ERROR).diagnoses


@given(data=st.one_of(st.binary(max_size=400), st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace"))))
@settings(deadline=None, max_examples=150)
def test_any_bytes_are_diagnosed_or_refused(data: bytes) -> None:
    """Whatever a log holds: a report, or a sentence that says why not."""
    with suppress(InputError):
        assert report(data).lines <= data.count(b"\n") + 1


tokens = st.sampled_from(
    [
        b"Traceback (most recent call last):\n",
        b'  File "/a/site-packages/vllm/x.py", line 3, in load_model\n',
        b"    code()\n",
        b"ValueError: something\n",
        b"\nDuring handling of the above exception, another exception occurred:\n\n",
        b"[rank3]: ",
        b"(EngineCore_DP0 pid=4) ",
        b"ERROR 11-02 09:15:07 [core.py:7] ",
        b"torch==2.4.0\n",
        b"\x1b[31m",
        b"\r",
        b"\0",
        b"\xff",
        b"```\n",
        b"> ",
        b"\n",
        ERROR,
    ]
)


@given(parts=st.lists(tokens, max_size=60))
@settings(deadline=None, max_examples=150)
def test_any_mix_of_what_logs_are_made_of(parts: list[bytes]) -> None:
    """Pieces of real logs in any order: a report whose evidence lies within the text."""
    data = b"".join(parts)
    if not data.replace(b"\0", b"").replace(b"\x1b[31m", b""):
        return
    found = report(data)
    for cause in found.diagnoses:
        for item in cause.evidence:
            assert item.role == "fact" or 1 <= item.line <= item.end_line <= found.lines


def test_a_rule_cannot_be_made_slow(tmp_path: Path) -> None:
    """Patterns of the kind that other engines choke on are as quick as any."""
    rules = ruleset_of(tmp_path, rule("a-cause", r"words: (?:a+)+b", r"words: (?:a|aa)+$", r"words: (?P<x>.*)*c"))
    assert findings_in(rules, "words: " + "a" * 8000 + "!\n") == []
