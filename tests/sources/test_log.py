"""A log is read as events: whole tracebacks and records, with their lines, ranks and repeats."""

from __future__ import annotations

import json
import tracemalloc
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.errors import InputError
from diagnose.model import Event
from diagnose.pattern import Plain
from diagnose.scan import Scanner, compile_scanner
from diagnose.sources import text
from diagnose.sources.log import KEEP_SHAPES, LogReader
from diagnose.sources.text import open_input

TRACEBACK = """\
Traceback (most recent call last):
  File "/app/serve.py", line 12, in <module>
    main()
  File "/venv/lib/python3.11/site-packages/vllm/worker/worker.py", line 183, in load_model
    raise ValueError(reason)
ValueError: the weights do not fit
"""


def scanner(*plains: str) -> Scanner:
    return compile_scanner([Plain((plain,)) for plain in plains])


def read(data: str | bytes, *plains: str) -> LogReader:
    reader = LogReader("the.log", scanner(*plains))
    for _ in reader.read(BytesIO(data.encode() if isinstance(data, str) else data)):
        pass
    return reader


def events(data: str | bytes, *plains: str) -> tuple[Event, ...]:
    return read(data, *plains).events()


def only(data: str | bytes, *plains: str) -> Event:
    (event,) = events(data, *plains)
    return event


def bodies(event: Event) -> list[str]:
    return [line.body for line in event.lines]


def span(event: Event) -> tuple[int, int]:
    return event.line, event.end_line


def raised(event: Event) -> list[tuple[int, str, str]]:
    return [(item.line, item.exception, item.message) for item in event.raised]


def prefixed(prefix: str, said: str = TRACEBACK) -> str:
    return "".join(f"{prefix}{line}\n" for line in said.splitlines())


# --- Python's tracebacks


@pytest.mark.parametrize("place", ["weights do not fit", "raise ValueError(reason)", "site-packages/vllm", "main()"])
def test_a_traceback_is_one_event_wherever_it_was_hit(place: str) -> None:
    """The event reaches from the header to the exception, whichever of its lines a rule looks for."""
    event = only("INFO starting\n" + TRACEBACK + "INFO next\n", place)
    assert TRACEBACK.splitlines() == bodies(event)
    assert span(event) == (2, 7)
    assert raised(event) == [(7, "ValueError", "the weights do not fit")]
    assert event.phase == "load"


def test_places_in_one_traceback_are_one_event() -> None:
    """Several hits in a record do not multiply it, and are no repeats."""
    event = only(TRACEBACK, "weights do not fit", "raise ValueError", "load_model")
    assert event.repeats == 0


@pytest.mark.parametrize(
    "sentence",
    [
        "The above exception was the direct cause of the following exception:",
        "During handling of the above exception, another exception occurred:",
    ],
)
@pytest.mark.parametrize("place", ["weights do not fit", "engine is dead"])
def test_chained_exceptions_are_one_event(sentence: str, place: str) -> None:
    """A chain is followed in both directions."""
    second = TRACEBACK.replace("ValueError: the weights do not fit", "RuntimeError: engine is dead")
    event = only(f"{TRACEBACK}\n{sentence}\n\n{second}INFO next\n", place)
    assert raised(event) == [(6, "ValueError", "the weights do not fit"), (15, "RuntimeError", "engine is dead")]
    assert span(event) == (1, 15)


def test_an_exception_group_is_one_event() -> None:
    """The group and its exceptions belong together; the tree around them is taken off."""
    event = only(
        """\
  + Exception Group Traceback (most recent call last):
  |   File "/app/main.py", line 4, in <module>
  |     raise ExceptionGroup("many", found)
  | ExceptionGroup: many (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "/app/main.py", line 2, in load
    |     check()
    | ValueError: first is bad
    +---------------- 2 ----------------
    | Traceback (most recent call last):
    |   File "/app/main.py", line 3, in load
    |     check()
    | KeyError: 'second is bad'
    +------------------------------------
INFO next
""",
        "first is bad",
        "second is bad",
    )
    assert span(event) == (1, 14)
    assert [item.exception for item in event.raised] == ["ExceptionGroup", "ValueError", "KeyError"]


def test_a_message_of_several_lines_belongs_to_the_exception() -> None:
    """What follows the exception's line up to the next record is its message."""
    event = only(
        TRACEBACK + "Try a smaller model\nor more cards\n2025-01-01 00:00:00 INFO next\n", "weights do not fit"
    )
    assert bodies(event)[-2:] == ["Try a smaller model", "or more cards"]


def test_a_traceback_without_its_beginning() -> None:
    """A paste that begins in the middle is followed as far as it goes."""
    event = only("\n".join(TRACEBACK.splitlines()[2:]), "weights do not fit")
    assert span(event) == (2, 4)
    assert [frame.package for frame in event.raised[0].frames] == ["vllm"]


def test_a_traceback_without_its_end() -> None:
    """A paste that ends before the exception still is one event."""
    event = only("\n".join(TRACEBACK.splitlines()[:5]), "site-packages/vllm")
    assert span(event) == (1, 5)
    assert event.raised == ()


def test_two_tracebacks_are_two_events() -> None:
    """A traceback ends where the next begins."""
    second = TRACEBACK.replace("ValueError: the weights", "KeyError: the names")
    assert [span(event) for event in events(TRACEBACK + second, "do not fit")] == [(1, 6), (7, 12)]


def test_deeply_chained_exceptions_are_bounded() -> None:
    """A chain of thousands of exceptions costs a bounded event, at the end that was hit."""
    link = TRACEBACK + "\nDuring handling of the above exception, another exception occurred:\n\n"
    event = only(link * 2000 + TRACEBACK.replace("the weights", "the last ones"), "the last ones do not fit")
    assert bodies(event)[-1] == "ValueError: the last ones do not fit"
    assert len(event.lines) <= 1000


def test_a_boxed_traceback_has_frames() -> None:
    """Rich's box is read like a plain traceback, its wrapped message joined."""
    event = only(
        """\
╭───────────── Traceback (most recent call last) ──────────────╮
│ /venv/lib/python3.10/site-packages/axolotl/train.py:38 in go │
│                                                              │
│   37 │   cfg = load()                                        │
│ ❱ 38 │   return run(cfg)                                     │
╰──────────────────────────────────────────────────────────────╯
ValueError: the tokenizer of this model has no padding token and
none was given.
""",
        "no padding token",
    )
    assert raised(event) == [(7, "ValueError", "the tokenizer of this model has no padding token and none was given.")]
    assert [frame.place for frame in event.raised[0].frames] == ["axolotl/train.py:go"]


def test_a_traceback_of_jupyter_has_frames() -> None:
    """Cells and the arrows of IPython are frames and source lines."""
    event = only(
        """\
---------------------------------------------------------------------------
RuntimeError                              Traceback (most recent call last)
Cell In[3], line 1
----> 1 model = load("x")

File /venv/lib/python3.11/site-packages/peft/model.py:277, in load(name)
    275 def load(name):
--> 277     raise RuntimeError("no adapter there")

RuntimeError: no adapter there
""",
        "RuntimeError: no adapter",
    )
    assert span(event) == (2, 10)
    assert [frame.place for frame in event.raised[0].frames] == ["cell 3:<module>", "peft/model.py:load"]


# --- prefixes, ranks and containers


@pytest.mark.parametrize(
    ("prefix", "rank", "process", "host"),
    [
        ("[rank3]: ", "3", "", ""),
        ("3: ", "3", "", ""),
        ("(EngineCore_DP0 pid=41) ERROR 04-05 01:00:00 [core.py:390] ", "0", "EngineCore_DP0 pid=41", ""),
        (
            "(VllmWorkerProcess pid=76) ERROR 07-11 06:04:42 multiproc_worker_utils.py:226] ",
            "",
            "VllmWorkerProcess pid=76",
            "",
        ),
        ("[2025-03-05 14:28:45 TP2] ", "2", "TP2", ""),
        ("(RayWorkerWrapper pid=123, ip=10.0.0.2) ", "", "RayWorkerWrapper pid=123", "10.0.0.2"),
        ("vllm-1  | ", "", "vllm-1", ""),
        ("[pod/llm-0/server] ", "", "llm-0/server", ""),
        ("2025-03-05T14:28:45.123Z stderr F ", "", "", ""),
        ("> ", "", "", ""),
    ],
)
def test_a_prefixed_traceback_is_joined(prefix: str, rank: str, process: str, host: str) -> None:
    """Prefixes are taken off each line; who wrote it is kept."""
    event = only("INFO starting\n" + prefixed(prefix) + "INFO next\n", "weights do not fit")
    assert TRACEBACK.splitlines() == bodies(event)
    assert (rank, process, host) == (event.rank, event.process, event.host)
    assert [frame.place for frame in event.raised[0].frames] == [
        "serve.py:<module>",
        "vllm/worker/worker.py:load_model",
    ]


def test_interleaved_ranks_are_told_apart() -> None:
    """Two ranks whose tracebacks are printed line by line in turn give two whole events."""
    one = prefixed("[rank0]: ").splitlines()
    other = prefixed("[rank1]: ", TRACEBACK.replace("ValueError", "KeyError")).splitlines()
    found = events("\n".join(line for pair in zip(one, other, strict=True) for line in pair), "weights do not fit")
    assert [(event.rank, [line.number for line in event.lines]) for event in found] == [
        ("0", [1, 3, 5, 7, 9, 11]),
        ("1", [2, 4, 6, 8, 10, 12]),
    ]
    assert [[item.exception for item in event.raised] for event in found] == [["ValueError"], ["KeyError"]]


def test_what_all_ranks_say_is_one_event() -> None:
    """The same traceback of 64 ranks is kept once, with all ranks and how often it was said again."""
    event = only("".join(prefixed(f"[rank{rank}]: ") for rank in range(64)), "weights do not fit", "load_model")
    assert tuple(str(rank) for rank in range(64)) == event.ranks
    assert event.repeats == 63
    assert span(event) == (1, 6)


def test_a_record_said_again_later_is_counted() -> None:
    """Numbers and times do not make a record a new one."""
    event = only(
        "".join(
            f"ERROR 04-05 01:00:{second:02} [a.py:{second}] step {second} has lost its peer\n" for second in range(50)
        ),
        "lost its peer",
    )
    assert (event.line, event.repeats) == (1, 49)


def test_rays_count_is_a_number_of_repeats() -> None:
    """Ray prints a repeated line once and how often it was said elsewhere."""
    assert only("(W pid=1) ValueError: no card left [repeated 3x across cluster]\n", "no card left").repeats == 3


def test_too_many_records_of_a_kind_are_counted_and_not_kept() -> None:
    """A log of endless different errors costs bounded memory; what was skipped is known."""
    words = [f"{chr(97 + n % 26)}{chr(97 + n // 26 % 26)}{chr(97 + n // 676)}" for n in range(KEEP_SHAPES + 50)]
    reader = read("".join(f"error at {word}: peer lost\n" for word in words), "peer lost")
    assert (len(reader.events()), reader.skipped) == (KEEP_SHAPES, 50)


# --- other writers


def test_a_cxx_abort_is_one_event() -> None:
    """What an uncaught C++ exception says stands with the line that announces it."""
    event = only(
        "starting\nterminate called after throwing an instance of 'c10::Error'\n  what():  CUDA error: an illegal memory access\n",
        "illegal memory access",
    )
    assert bodies(event) == [
        "terminate called after throwing an instance of 'c10::Error'",
        "  what():  CUDA error: an illegal memory access",
    ]


def test_a_ggml_error_with_what_continues_it() -> None:
    """Indented lines below a line belong to it; the assertion after them does not."""
    first, second = events(
        "CUDA error: out of memory\n  current device: 0, in function alloc\n  cudaMalloc(ptr)\n/src/ggml.c:123: GGML_ASSERT(n >= 0) failed\n[New LWP 5]\n",
        "CUDA error",
        "GGML_ASSERT(",
    )
    assert bodies(first) == ["CUDA error: out of memory", "  current device: 0, in function alloc", "  cudaMalloc(ptr)"]
    assert bodies(second) == ["/src/ggml.c:123: GGML_ASSERT(n >= 0) failed"]


def test_an_elastic_summary_is_found_line_by_line() -> None:
    """torchrun's table of failures names the rank that failed first; its lines are events of their own."""
    found = events(
        """\
============================================================
train.py FAILED
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2025-05-01_10:11:12
  rank      : 1 (local_rank: 1)
  exitcode  : -9 (pid: 4242)
  traceback : Signal 9 (SIGKILL) received by PID 4242
============================================================
""",
        "train.py FAILED",
        "Signal 9 (SIGKILL)",
    )
    assert [(event.line, event.lines[0].body) for event in found] == [
        (2, "train.py FAILED"),
        (9, "  traceback : Signal 9 (SIGKILL) received by PID 4242"),
    ]


@pytest.mark.parametrize(
    ("said", "body", "rank"),
    [
        (
            "[rank2]:[E218 06:32:24.8 ProcessGroupNCCL.cpp:1595] [PG ID 0] watchdog got stuck",
            "[PG ID 0] watchdog got stuck",
            "2",
        ),
        ("node1:11:22 [3] NCCL WARN watchdog got stuck", "node1:11:22 [3] NCCL WARN watchdog got stuck", ""),
        ("Apr  5 01:02:03 node3 kernel: NVRM: Xid 79, watchdog got stuck", "NVRM: Xid 79, watchdog got stuck", ""),
        ("[2024-05-01 10:11:12,345] [ERROR] [engine.py:1:f] watchdog got stuck", "watchdog got stuck", ""),
    ],
)
def test_a_line_without_traceback_is_an_event(said: str, body: str, rank: str) -> None:
    """NCCL, the kernel and DeepSpeed say it in a line."""
    event = only(f"before\n{said}\nafter\n", "watchdog got stuck")
    assert (2, [body], rank) == (event.line, bodies(event), event.rank)


def test_the_level_of_a_line_is_kept() -> None:
    """What a program calls a warning can be told from an error."""
    assert only("WARNING 04-05 01:00:00 [a.py:1] cache is small\n", "cache is small").lines[0].level == "warning"


def test_an_issue_in_markdown_is_read_through_its_marks() -> None:
    """Fences, details and quote marks do not belong to the traceback."""
    event = only(f"<details>\n\n```\n{prefixed('> ')}```\n</details>\n", "weights do not fit")
    assert TRACEBACK.splitlines() == bodies(event)
    assert span(event) == (4, 9)


# --- JSON


def test_a_json_record_is_read_as_its_message_and_traceback() -> None:
    """All lines of a JSON record have the record's number; the exception in it has its frames."""
    event = only(
        "first\n" + json.dumps({"level": "error", "message": "start failed", "exc_info": TRACEBACK}) + "\nlast\n",
        "weights do not fit",
    )
    assert ["start failed", *TRACEBACK.splitlines()] == bodies(event)
    assert ({2}, {"error"}) == ({line.number for line in event.lines}, {line.level for line in event.lines})
    assert raised(event) == [(2, "ValueError", "the weights do not fit")]
    assert [frame.place.rpartition(":")[0] for frame in event.raised[0].frames] == ["serve.py", "vllm/worker/worker.py"]


def test_a_json_record_longer_than_an_excerpt_is_read() -> None:
    """A traceback of tens of kilobytes within one line is decoded whole."""
    long = TRACEBACK.replace("    main()\n", "    main()\n" + '  File "/app/deep.py", line 1, in go\n    go()\n' * 500)
    assert (
        len(only(json.dumps({"level": "error", "msg": "x", "exception": long}), "weights do not fit").raised[0].frames)
        == 502
    )


def test_dockers_json_lines_are_joined() -> None:
    """A traceback that Docker wrote line by line as JSON is one event."""
    said = "".join(
        json.dumps({"log": line + "\n", "stream": "stderr", "time": "2025-01-01T00:00:00Z"}) + "\n"
        for line in TRACEBACK.splitlines()
    )
    event = only(said, "weights do not fit")
    assert (TRACEBACK.splitlines(), (1, 6)) == (bodies(event), span(event))


def test_a_json_record_behind_a_prefix_is_read() -> None:
    """docker compose stands in front of what a JSON logger wrote."""
    event = only('svc-1  | {"level":"warning","rank":3,"msg":"cache is small"}\n', "cache is small")
    assert (
        bodies(event),
        event.rank,
        event.process,
        event.lines[0].level,
    ) == (["cache is small"], "3", "svc-1", "warning")


def test_an_answer_in_json_is_left_as_it_is() -> None:
    """An API's error object is evidence as it stands."""
    said = '{"error":{"code":500,"message":"context too long"}}'
    assert [said] == bodies(only(said + "\n", "context too long"))


# --- bytes


def test_colour_in_the_middle_of_a_message_does_not_hide_it() -> None:
    """A text is found though a colour code stood inside it."""
    assert bodies(only("Val\x1b[31mueError: the wei\x1b[0mghts do not fit\n", "the weights do not fit")) == [
        "ValueError: the weights do not fit"
    ]


def test_progress_bars_are_cut_at_carriage_returns() -> None:
    """Of a line that was rewritten, the piece that matters is taken."""
    event = only("Loading:  10%|#\rLoading:  90%|#########\rRuntimeError: disk is full\nnext\n", "disk is full")
    assert (event.line, bodies(event)) == (1, ["RuntimeError: disk is full"])


def test_each_piece_of_a_rewritten_line_can_be_an_event() -> None:
    """Two things said on one line are both found."""
    found = events("warning: cache is small\r 50%\rRuntimeError: disk is full\n", "cache is small", "disk is full")
    assert [bodies(event) for event in found] == [["warning: cache is small"], ["RuntimeError: disk is full"]]


def test_a_progress_bar_between_the_lines_of_a_traceback() -> None:
    """What a bar left in front of a traceback's line does not break the traceback."""
    said = TRACEBACK.replace("Traceback", " 50%|####\rTraceback").replace("ValueError:", " 50%|####\rValueError:")
    assert TRACEBACK.splitlines() == bodies(only(said, "weights do not fit"))


@pytest.mark.parametrize(
    "data",
    [
        TRACEBACK.replace("\n", "\r\n").encode(),
        TRACEBACK.encode("utf-16"),
        TRACEBACK.encode("utf-16-le"),
        TRACEBACK.replace("main()", "main()\0\0").encode(),
        TRACEBACK.rstrip().encode(),
        b"\xef\xbb\xbf" + TRACEBACK.encode(),
    ],
    ids=["crlf", "utf-16", "utf-16 without mark", "nuls", "no last newline", "utf-8 mark"],
)
def test_a_traceback_in_other_clothes(data: bytes) -> None:
    """Line ends, encodings and NULs make no difference."""
    event = only(data, "weights do not fit")
    assert (TRACEBACK.splitlines(), (1, 6)) == (bodies(event), span(event))


def test_invalid_bytes_are_shown_as_such() -> None:
    """A byte that is no UTF-8 costs one character of the line."""
    assert bodies(only(b"ValueError: caf\xe9 is closed\n", "is closed")) == ["ValueError: caf\ufffd is closed"]


def test_chinese_is_found() -> None:
    """The first pass works on bytes, the event on text."""
    assert bodies(only("开始\n运行错误：显存不足\n", "显存不足")) == ["运行错误：显存不足"]


def test_a_huge_line_is_excerpted_in_bounded_memory() -> None:
    """Of a line of many megabytes the part around the place is kept."""
    data = b"x" * (20 << 20) + b" disk is full " + b"y" * (20 << 20)
    tracemalloc.start()
    try:
        event = only(data, "disk is full")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert " disk is full " in event.lines[0].body
    assert (event.line, len(event.lines[0].body) < 20_000) == (1, True)
    assert peak < 16 << 20


def test_several_places_of_a_huge_line_are_found() -> None:
    """A log on a single line (a dump, a minified JSON) does not end at its first error."""
    data = "x" * 50_000 + " disk is full " + "y" * 50_000 + " peer is gone " + "z" * 50_000
    assert [
        any(word in event.lines[0].body for word in ("disk is full", "peer is gone"))
        for event in events(data, "disk is full", "peer is gone")
    ] == [True, True]


# --- windows and sizes


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("CHUNK", 1024), ("BEHIND", 2048), ("AHEAD", 1024), ("LONGEST_LINE", 4096)):
        monkeypatch.setattr(text, name, value)


@pytest.mark.parametrize("before", range(0, 1300, 97))
def test_an_event_that_straddles_windows_is_whole(small_windows: None, before: int) -> None:
    """Wherever a window ends, an event has all its lines and their numbers."""
    filler = "INFO an ordinary line\n" * before
    event = only(filler + TRACEBACK + "INFO an ordinary line\n" * 100, "weights do not fit", "load_model")
    assert (before + 1, before + 6) == span(event)
    assert TRACEBACK.splitlines() == bodies(event)
    assert event.repeats == 0


PIECES = [
    *TRACEBACK.splitlines(),
    "",
    "The above exception was the direct cause of the following exception:",
    "[rank0]: Traceback (most recent call last):",
    '[rank0]:   File "/app/serve.py", line 12, in <module>',
    "[rank0]: ValueError: the weights do not fit",
    "[rank1]: ValueError: the weights do not fit",
    "ERROR 04-05 01:00:00 [core.py:390] the weights do not fit",
    "\x1b[31mINFO\x1b[0m plain line",
    "  10%|#\r  20%|##\rthe weights do not fit",
    '{"level":"error","msg":"the weights do not fit","exc_info":"one\\ntwo"}',
    "│ in a box                 │",
    "显存不足",
]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(PIECES), max_size=80), st.integers(64, 3000))
def test_windows_of_any_size_give_the_same_events(lines: list[str], size: int) -> None:
    """How a log is split into windows never shows, as long as an event fits in what is kept around them."""
    data = "\n".join(lines)
    whole = read(data, "do not fit", "load_model", "显存不足")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "CHUNK", size)
        patch.setattr(text, "AHEAD", 6000)
        split = read(data, "do not fit", "load_model", "显存不足")
    assert whole.events() == split.events()
    assert (whole.lines, whole.skipped) == (split.lines, split.skipped)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.sampled_from(PIECES).filter(lambda piece: not piece.startswith(("{", "  10%", "│")))
        | st.text("abc:\t ./", max_size=20),
        max_size=60,
    )
)
def test_evidence_is_what_stands_in_the_log(lines: list[str]) -> None:
    """Each line of an event is the line of that number in the log, without its colours."""
    for event in events("\n".join(lines), "do not fit", "load_model", "显存不足"):
        assert event.line == event.lines[0].number <= event.lines[-1].number == event.end_line
        for line in event.lines:
            assert lines[line.number - 1].replace("\x1b[31m", "").replace("\x1b[0m", "") == line.text
            assert line.text.endswith(line.body)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.sampled_from([piece.encode() + b"\n" for piece in PIECES]) | st.binary(max_size=40), max_size=40).map(
        b"".join
    )
)
def test_arbitrary_bytes_raise_nothing_but_input_error(data: bytes) -> None:
    """Whatever is in the file, it is read or refused, and line numbers are within it."""
    try:
        reader = read(data, "do not fit", "load_model", "\ufffd")
    except InputError:
        return
    for event in reader.events():
        assert 1 <= event.line <= event.end_line <= max(reader.lines, 1)
        assert event.lines


@pytest.mark.parametrize(
    ("data", "count"), [("", 0), ("one", 1), ("one\n", 1), ("one\ntwo", 2), ("\n\n", 2), ("x\n" * 5000, 5000)]
)
def test_lines_are_counted(small_windows: None, data: str, count: int) -> None:
    """The number of lines is that of the file, with or without a last newline."""
    assert count == read(data, "nothing").lines


@pytest.mark.parametrize("tail", ["\0" * 9000, "\x1b[0m" * 3000])
def test_lines_are_counted_where_nothing_follows_the_last_window(small_windows: None, tail: str) -> None:
    """A tail of NULs or colour codes does not lose the count of the lines before it."""
    assert read("line\n" * 3000 + tail, "nothing").lines == 3001


def test_prefixes_only_are_no_event() -> None:
    """A log of empty records gives nothing."""
    assert events("(EngineCore pid=1) ERROR 04-05 01:00:00 [core.py:390] \n" * 100, "weights do not fit") == ()


def test_a_place_in_a_prefix_is_an_event_of_its_line() -> None:
    """A text found in a line that is all prefix gives that line, with an empty body."""
    assert bodies(only("(EngineCore pid=1) ERROR 04-05 01:00:00 [core.py:390] \n", "EngineCore pid")) == [""]


def test_what_stands_around_an_event_is_near() -> None:
    """Rules can ask for what was said just before and after."""
    event = only(
        "".join(f"line {n}.\n" for n in range(50)) + TRACEBACK + "".join(f"INFO after {n}.\n" for n in range(50)),
        "weights do not fit",
    )
    assert all(
        said in event.near for said in ("line 36.", "line 49.", "weights do not fit", "INFO after 0.", "INFO after 6.")
    )
    assert not any(said in event.near for said in ("line 30.", "after 20."))


def test_the_corpus_of_quiet_logs_can_be_read() -> None:
    """Real logs, if they are at hand, are read without a hitch and their events are lines of theirs."""
    for path in sorted(Path(__file__).parents[2].joinpath("../shared/corpus/quiet_logs").glob("*"))[:5]:
        reader = LogReader(str(path), scanner("ERROR", "WARNING", "Traceback"))
        with open_input(str(path)) as stream:
            sizes = [window.end - window.start for window in reader.read(stream)]
        assert sum(sizes) == reader.size > 0
        assert all(1 <= event.line <= event.end_line <= reader.lines for event in reader.events())


def test_the_message_above_a_logged_traceback_belongs_to_it() -> None:
    """What a logger says with an exception is the first line of the exception's event, wherever the hit was."""
    head = "ERROR 11-02 09:14:02 [serving.py:108] "
    log = f"{head}Could not finish the blue request.\n" + "".join(f"{head}{line}\n" for line in TRACEBACK.splitlines())

    assert (1, 7) == span(only(log, "the blue request"))
    assert (1, 7) == span(only(log, "weights do not fit"))


def test_an_ordinary_line_above_a_traceback_is_not_part_of_it() -> None:
    """A line that is no error of the logger stands apart from the traceback below it."""
    log = "INFO 11-02 09:14:02 [serving.py:1] the blue request has come\n" + TRACEBACK

    assert [(1, 1), (2, 7)] == [span(event) for event in events(log, "the blue request", "weights do not fit")]
