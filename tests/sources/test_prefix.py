"""What stands before the text of a log line is read and taken off."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.sources.prefix import read_prefix, repeats


def body(text: str) -> str:
    return text[read_prefix(text).length :]


def moment(month: int, day: int, hour: int, minute: int, second: float) -> float:
    """Seconds since the start of a year of months with 31 days, as prefixes tell it: for order only."""
    return ((month * 31 + day) * 24 + hour) * 3600 + minute * 60 + second


# --- what is left

PREFIXES = [
    "[rank3]: ",
    "[rank2]:[E218 06:32:24.8 ProcessGroupNCCL.cpp:1595] ",
    "[rank0]:[W1127 09:10:11.123456789 ProcessGroupNCCL.cpp:1250] ",
    "[rank2]:[E ProcessGroupNCCL.cpp:563] [Rank 2] ",
    "(EngineCore_DP0 pid=41) ERROR 04-05 01:00:00 [core.py:390] ",
    "(EngineCore_0 pid=41) ERROR 04-05 01:00:00 [core.py:390] ",
    "(Worker_TP1 pid=77) ERROR 04-05 01:00:00 [v1/executor/multiproc_executor.py:559] ",
    "(VllmWorker rank=1 pid=77) ERROR 04-05 01:00:00 [multiproc_executor.py:559] ",
    "(VllmWorkerProcess pid=76) ERROR 07-11 06:04:42 multiproc_worker_utils.py:226] ",
    "(APIServer pid=9) INFO:     ",
    "ERROR 07-11 06:04:42 async_llm_engine.py:57] ",
    "ERROR 07-11 06:04:42 [core.py:57] ",
    "[2025-03-05 14:28:45 TP0] ",
    "[2025-03-05 14:28:45 DP1 TP3] ",
    "[2025-03-05 14:28:45] ",
    "(RayWorkerWrapper pid=123, ip=10.0.0.2) ",
    "(RayWorkerWrapper pid=123, ip=10.0.0.2) ERROR 04-05 01:00:00 worker_base.py:390] ",
    "[2024-05-01 10:11:12,345] [ERROR] [engine.py:123:forward] ",
    "[2024-05-01 10:11:12,345] [INFO] [logging.py:96:log_dist] [Rank 0] ",
    "E0501 10:11:12.123000 139 torch/distributed/elastic/multiprocessing/api.py:874] ",
    "3: ",
    " 3: ",
    "vllm-1  | ",
    "vllm-server_1  | ERROR 04-05 01:00:00 [core.py:390] ",
    "[pod/llm-0/server] ",
    "[pod/llm-0/server] 2024-05-01T10:11:12.123456789Z ",
    "2024-05-01T10:11:12.123456789Z stderr F ",
    "> ",
    "> > ",
    "E       ",
    "Jan 12 10:11:12 node3 kernel: ",
    "Jan 12 10:11:12 node3 kernel: [12345.678901] ",
    "[Mon Jan 12 10:11:12 2025] ",
    "0.01.234.567 E ",
    "2024-05-01 10:11:12.123 | ERROR    | axolotl.cli:main:12 - ",
    "2024-05-01 10:11:12,123 - root - ERROR - ",
    "05/01/2024 10:11:12 - ERROR - __main__ - ",
    "[ERROR|trainer.py:12] 2024-05-01 10:11:12,123 >> ",
    "ERROR:root:",
    "ERROR: ",
    "[ERROR] ",
    "[1,3]<stderr>:",
    "[default3]:",
]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_text_begins_behind_the_prefixes(prefix: str) -> None:
    """Every way to begin a line that engines, launchers and containers have is taken off."""
    assert body(f"{prefix}RuntimeError: no GPU") == "RuntimeError: no GPU"


@pytest.mark.parametrize(
    "prefix", ["[rank3]: ", "3: ", "vllm-1  | ", "(EngineCore_DP0 pid=41) ERROR 04-05 01:00:00 [core.py:390] ", "> "]
)
def test_the_indentation_of_a_frame_is_left(prefix: str) -> None:
    """What distinguishes a frame from its source line is not taken for a part of the prefix."""
    assert body(f'{prefix}  File "/app/a.py", line 3, in go') == '  File "/app/a.py", line 3, in go'


@pytest.mark.parametrize(
    "text",
    [
        "RuntimeError: no GPU",
        "ValueError: 3: is no rank",
        "12:30: the clock says",
        '  File "/app/a.py", line 3, in go',
        "node01:123:456 [3] NCCL WARN Cuda failure",
        "| 0  NVIDIA A100 |",
        "Error in the message",
        "    3: a line of Rust's backtrace",
        "",
    ],
)
def test_a_line_without_prefix_is_left_as_it_is(text: str) -> None:
    """Nothing that belongs to the message is taken off."""
    assert text == body(text)


def test_a_line_of_prefixes_only_is_empty() -> None:
    """A logger's empty line has no text."""
    assert body("(EngineCore_DP0 pid=41) ERROR 04-05 01:00:00 [core.py:390] ") == ""


def test_exception_group_margin_is_taken_off() -> None:
    """The tree that an exception group is printed as is a prefix too."""
    assert [
        body(text)
        for text in (
            "  + Exception Group Traceback (most recent call last):",
            '  |   File "a.py", line 1, in f',
            "    | ValueError: x",
        )
    ] == ["Exception Group Traceback (most recent call last):", '  File "a.py", line 1, in f', "ValueError: x"]


# --- what the prefixes tell


@pytest.mark.parametrize(
    ("text", "rank"),
    [
        ("[rank3]: x", "3"),
        ("[default5]:x", "5"),
        ("[1,7]<stderr>:x", "7"),
        ("3: x", "3"),
        ("[2025-03-05 14:28:45 TP2] x", "2"),
        ("[2025-03-05 14:28:45 DP1 TP3] x", "3"),
        ("(VllmWorker rank=4 pid=7) x", "4"),
        ("(Worker_TP6 pid=7) x", "6"),
        ("(Worker_DP0_TP1_EP1 pid=7) x", "1"),
        ("(EngineCore_DP2 pid=7) x", "2"),
        ("[2024-05-01 10:11:12,345] [INFO] [logging.py:96:log_dist] [Rank 1] x", "1"),
        ("[rank2]:[E218 06:32:24.8 ProcessGroupNCCL.cpp:1595] [Rank 2] x", "2"),
        ("(EngineCore pid=7) x", ""),
        ("RuntimeError: x", ""),
    ],
)
def test_the_rank(text: str, rank: str) -> None:
    """The rank is read wherever it stands; of several parallelisms the tensor parallel one tells the worker."""
    assert rank == read_prefix(text).rank


@pytest.mark.parametrize(
    ("text", "process", "host"),
    [
        ("(EngineCore_DP0 pid=41) x", "EngineCore_DP0 pid=41", ""),
        ("(VllmWorker rank=1 pid=77) x", "VllmWorker pid=77", ""),
        ("(RayWorkerWrapper pid=123, ip=10.0.0.2) x", "RayWorkerWrapper pid=123", "10.0.0.2"),
        ("vllm-1  | x", "vllm-1", ""),
        ("[pod/llm-0/server] x", "llm-0/server", ""),
        ("vllm-1  | (EngineCore pid=41) x", "EngineCore pid=41", ""),
        ("Jan 12 10:11:12 node3 kernel: x", "", "node3"),
        ("[2025-03-05 14:28:45 DP1 TP3] x", "DP1 TP3", ""),
    ],
)
def test_process_and_host(text: str, process: str, host: str) -> None:
    """Who wrote the line, and where it ran."""
    prefix = read_prefix(text)
    assert (process, host) == (prefix.process, prefix.host)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("ERROR 04-05 01:02:03 [core.py:390] x", moment(4, 5, 1, 2, 3)),
        ("[2025-04-05 01:02:03 TP0] x", moment(4, 5, 1, 2, 3)),
        ("2025-04-05T01:02:03.500Z x", moment(4, 5, 1, 2, 3.5)),
        ("[2024-04-05 01:02:03,250] [INFO] x", moment(4, 5, 1, 2, 3.25)),
        ("[rank2]:[E405 01:02:03.5 ProcessGroupNCCL.cpp:1] x", moment(4, 5, 1, 2, 3.5)),
        ("E1105 01:02:03.5 12 torch/a.py:1] x", moment(11, 5, 1, 2, 3.5)),
        ("Apr  5 01:02:03 node3 kernel: x", moment(4, 5, 1, 2, 3)),
        ("[Sat Apr  5 01:02:03 2025] x", moment(4, 5, 1, 2, 3)),
        ("04/05/2025 01:02:03 - INFO - __main__ - x", moment(4, 5, 1, 2, 3)),
        ("[INFO|trainer.py:12] 2025-04-05 01:02:03,000 >> x", moment(4, 5, 1, 2, 3)),
        ("[rank3]: x", None),
    ],
)
def test_the_time(text: str, time: float | None) -> None:
    """All spellings of one moment give one number, so that lines of different writers can be ordered."""
    assert time == read_prefix(text).time


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("ERROR 04-05 01:00:00 [core.py:390] x", "error"),
        ("WARNING 04-05 01:00:00 [core.py:390] x", "warning"),
        ("INFO 04-05 01:00:00 [core.py:390] x", "info"),
        ("[rank0]:[W1127 09:10:11.1 ProcessGroupNCCL.cpp:1250] x", "warning"),
        ("[2024-05-01 10:11:12,345] [WARNING] [runner.py:202:fetch] x", "warning"),
        ("2024-05-01 10:11:12.123 | INFO     | axolotl.cli:main:12 - x", "info"),
        ("2024-05-01 10:11:12,123 - root - WARNING - x", "warning"),
        ("05/01/2024 10:11:12 - INFO - __main__ - x", "info"),
        ("CRITICAL:root:x", "error"),
        ("0.01.234.567 W x", "warning"),
        ("[rank3]: x", ""),
    ],
)
def test_the_level(text: str, level: str) -> None:
    """What the program calls its line; empty where it does not say."""
    assert level == read_prefix(text).level


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("[rank3]: x", "[rank3]:[E218 06:32:24.8 ProcessGroupNCCL.cpp:1595] [Rank 3] y"),
        ("(EngineCore pid=4) ERROR 04-05 01:00:00 [core.py:390] x", "(EngineCore pid=4) y"),
        ("[2025-03-05 14:28:45 TP0] x", "[2025-03-05 14:28:46 TP0] y"),
        ("vllm-1  | x", "vllm-1  | INFO 04-05 01:00:00 [core.py:390] y"),
    ],
)
def test_lines_of_one_process_are_of_one_stream(one: str, other: str) -> None:
    """Time and level do not part what one process wrote."""
    assert read_prefix(one).stream == read_prefix(other).stream != ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("[rank3]: x", "[rank4]: x"),
        ("(EngineCore pid=4) x", "(EngineCore pid=5) x"),
        ("[2025-03-05 14:28:45 DP0 TP1] x", "[2025-03-05 14:28:45 DP1 TP1] x"),
        ("vllm-1  | x", "vllm-2  | x"),
        ("[pod/a/b] x", "[pod/c/b] x"),
        ("3: x", "x"),
    ],
)
def test_lines_of_different_processes_are_of_different_streams(one: str, other: str) -> None:
    """Interleaved writers can be told apart."""
    assert read_prefix(one).stream != read_prefix(other).stream


# --- Ray's counts


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("(W pid=1) ValueError: x [repeated 3x across cluster]", 3),
        ("x \x1b[32m [repeated 15x across cluster] (Ray deduplicates logs by default.)\x1b[0m", 15),
        ("x [repeated 7x across all nodes]", 7),
        ("x [repeated across cluster]", 0),
        ("x", 0),
    ],
)
def test_ray_tells_how_often_a_line_was_said_by_others(text: str, count: int) -> None:
    """Ray prints a line once and a number."""
    assert count == repeats(text)


def test_a_count_is_looked_for_in_linear_time() -> None:
    """A line of a million blanks has no count, and is read through once."""
    assert repeats("ValueError" + "\t" * 1_000_000) == 0


# --- any text


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=300) | st.lists(st.sampled_from(PREFIXES) | st.text(max_size=12), max_size=12).map("".join))
def test_any_text_can_be_read(text: str) -> None:
    """No text stops the reader, and what it takes off is within the text."""
    prefix = read_prefix(text)
    assert 0 <= prefix.length <= len(text)
    assert prefix.level in ("", "error", "warning", "info")


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(PREFIXES), st.text("abc xyz", min_size=1, max_size=20).map(lambda text: f"told {text}"))
def test_taking_off_is_done_once_and_wholly(prefix: str, text: str) -> None:
    """What is left has no prefix any more."""
    assert read_prefix(body(prefix + text)).length == 0


def test_a_hostile_line_of_prefixes_ends() -> None:
    """A line of thousands of prefixes is read for a bounded part only."""
    assert read_prefix("[rank1]:" * 100_000).length <= 500
