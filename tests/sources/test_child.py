"""Sources in child processes: what one of them does never reaches the others, and what it said before is kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.model import Fact, Output, Reading, Step, Unchecked
from diagnose.sources import child
from diagnose.sources.child import Source, read_all

SAID = Fact("gpu.count", 2, "a test")


def healthy() -> Iterator[Reading]:
    yield SAID


def hanging() -> Iterator[Reading]:
    yield Fact("driver.version", "580.65", "a test")
    yield Step("asking GPU 3 for its ECC counters")
    time.sleep(600)


def crashing() -> Iterator[Reading]:
    yield Step("asking the driver for its version")
    os.kill(os.getpid(), signal.SIGSEGV)
    yield SAID


def failing() -> Iterator[Reading]:
    yield SAID
    raise ValueError("a value that nobody expected")


def leaving() -> Iterator[Reading]:
    yield SAID
    os._exit(3)


def test_readings_of_every_kind_arrive() -> None:
    """Facts, outputs and what was not checked come through as they were given; steps are not told."""
    given_ = [SAID, Step("looking"), Output("a probe", "text\nof it"), Unchecked("a part", "no right to read it")]
    read = list(read_all([Source("a source", lambda: iter(given_), 20)]))

    assert [SAID, given_[2], given_[3]] == read


def test_a_hang_is_ended_and_told_with_what_was_being_done() -> None:
    """What came before is kept, and the other source is whole."""
    read = list(read_all([Source("driver", hanging, 0.5), Source("host", healthy, 20)]))

    assert SAID in read
    assert Fact("driver.version", "580.65", "a test") in read
    assert [Unchecked("driver", "no answer within 0.5 s, while asking GPU 3 for its ECC counters")] == [
        item for item in read if isinstance(item, Unchecked)
    ]


def test_all_sources_together_end_at_the_common_limit() -> None:
    """However long each may take, the limit of the whole holds for every one of them, and is what is told."""
    read = list(read_all([Source("one", hanging, 600), Source("other", hanging, 600)], clock=0.5))
    late = [item for item in read if isinstance(item, Unchecked)]

    assert ["one", "other"] == sorted(item.what for item in late)
    assert [True, True] == [item.why.startswith("no answer within 0.5 s") for item in late]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (crashing, "reading it crashed (SIGSEGV), while asking the driver for its version"),
        (failing, "reading it failed: ValueError: a value that nobody expected"),
        (leaving, "reading it ended early"),
    ],
)
def test_a_source_that_breaks_is_told_and_nothing_else(source: object, said: str) -> None:
    """A crash, an exception and a silent exit each have their sentence; nothing is raised."""
    read = list(read_all([Source("a source", source, 20)]))  # type: ignore[arg-type]

    assert [Unchecked("a source", said)] == [item for item in read if isinstance(item, Unchecked)]


def test_what_a_source_started_ends_with_it(tmp_path: Path) -> None:
    """A process that a late source had started does not stay behind."""

    def starting() -> Iterator[Reading]:
        started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (tmp_path / "pid").write_text(str(started.pid))
        yield Step("waiting for it")
        started.wait()

    list(read_all([Source("a source", starting, 3)]))
    pid = int((tmp_path / "pid").read_text())

    for _ in range(200):
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} still runs")


def test_a_source_that_never_stops_talking_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its readings are kept up to a bound, and the report says that there were more."""
    monkeypatch.setattr(child, "MOST_BYTES", 100_000)

    def endless() -> Iterator[Reading]:
        while True:
            yield Output("a probe", "x" * 1000)

    read = list(read_all([Source("a source", endless, 60)]))

    assert Unchecked("a source", "it says more than can be kept") in read
    assert len(read) < 300


def test_what_a_source_prints_does_not_reach_the_report(capfd: pytest.CaptureFixture[str]) -> None:
    """A driver's library may print: only readings count."""

    def printing() -> Iterator[Reading]:
        sys.stdout.write("to stdout") if sys.stdout else None
        os.write(1, b"to stdout")
        os.write(2, b"to stderr")
        yield SAID

    assert [SAID] == list(read_all([Source("a source", printing, 20)]))
    assert ("", "") == tuple(capfd.readouterr())


def test_progress_is_told_what_is_still_being_read() -> None:
    """First all names, at last none."""
    told: list[list[str]] = []
    list(read_all([Source("one", healthy, 20), Source("other", healthy, 20)], told.append))

    assert ["one", "other"] == told[0]
    assert [] == told[-1]


def test_a_step_that_tells_how_far_it_is_stands_in_place_of_the_name() -> None:
    """A source that takes long says how far it is, and its reader sees it; other steps stay unseen."""

    def far() -> Iterator[Reading]:
        yield Step("opening it")
        yield Step("train.jsonl 37%")
        yield SAID

    told: list[list[str]] = []
    list(read_all([Source("data", far, 20)], told.append))

    assert [["data"], ["train.jsonl 37%"], []] == told


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.text(), st.one_of(st.text(), st.integers(-(2**63), 2**63 - 1), st.booleans())), max_size=20)
)
def test_any_fact_arrives_as_it_was(pairs: list[tuple[str, str | int | bool]]) -> None:
    """Whatever text or number a fact holds, it comes through the pipe unchanged and in order."""
    facts = [Fact(name.encode("utf-8", "replace").decode(), _clean(value), "a test") for name, value in pairs]

    assert facts == list(read_all([Source("a source", lambda: iter(facts), 60)]))


def _clean(value: str | int | bool) -> str | int | bool:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
