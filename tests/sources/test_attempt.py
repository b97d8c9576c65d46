"""Running something in a process of its own: limits of time and output, and nothing left behind."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.sources import attempt as module
from diagnose.sources.attempt import Attempt, Command, attempt, attempt_all
from tests.support import ROOT

DONE = "import os; os.write(int(os.environ['LLMDOCTOR_TOLD_FD']), b'done\\tf\\tTrue\\n')"


def command(code: str) -> Command:
    """A Python program that runs with a stack on a crash."""
    return Command((sys.executable, "-X", "faulthandler", "-c", code), dict(os.environ))


def run(code: str, folder: Path, seconds: float = 30.0) -> Attempt:
    return attempt(command(code), str(folder), seconds, secrets.token_hex(8))


def is_running(pid: int) -> bool:
    """Whether a process runs; one that ended and was not reaped by its parent does not."""
    try:
        return b"\nState:\tZ" not in Path(f"/proc/{pid}/status").read_bytes()
    except FileNotFoundError:
        return False


def ends_soon(pid: int) -> bool:
    until = time.monotonic() + 20
    while is_running(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not is_running(pid)


def pid_in(file: Path) -> int:
    until = time.monotonic() + 20
    while not (file.exists() and file.read_text().strip()) and time.monotonic() < until:
        time.sleep(0.02)
    return int(file.read_text())


def test_what_says_that_it_is_done_is_ok_and_its_words_are_kept(tmp_path: Path) -> None:
    """A process that ends well is ok, with what it printed on both streams."""
    tried = run(f"import sys; print('out'); print('err', file=sys.stderr); {DONE}", tmp_path)
    assert tried.result == "ok"
    assert "out" in tried.text
    assert "err" in tried.text


@pytest.mark.parametrize("code", ["import os; os._exit(0)", "raise SystemExit", "1/0", f"{DONE}; os._exit(3)"])
def test_leaving_early_is_no_success(tmp_path: Path, code: str) -> None:
    """Exit code 0 alone proves nothing: a library that leaves the process in the middle is a failure."""
    assert run(code, tmp_path).result == "failed"


def test_a_hang_ends_at_its_limit_and_tells_where_it_was(tmp_path: Path) -> None:
    """A process that hangs is ended, and the stack of the place is in the text, not as an abort of its own."""
    tried = run("import time\ndef waits(): time.sleep(600)\nwaits()", tmp_path, 1.0)
    assert tried.result == "hang"
    assert tried.seconds < 60
    assert " in waits" in tried.text
    assert "Fatal Python error: Aborted" not in tried.text


def test_a_hang_that_cannot_be_asked_is_killed(tmp_path: Path) -> None:
    """A process that ignores every signal it can ignore does not outlive its limit."""
    file = tmp_path / "pid"
    code = f"""
import os, signal, time
for number in (signal.SIGABRT, signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(number, signal.SIG_IGN)
open({str(file)!r}, "w").write(str(os.getpid()))
while True: time.sleep(1)
"""
    assert run(code, tmp_path, 2.0).result == "hang"
    assert ends_soon(pid_in(file))


@pytest.mark.parametrize("leaves", ["pass", "os.setsid()"], ids=["same session", "session of its own"])
@pytest.mark.parametrize("end", [DONE, "time.sleep(600)", "os.kill(os.getpid(), 11)"], ids=["ok", "hang", "crash"])
def test_what_it_started_ends_with_it(tmp_path: Path, leaves: str, end: str) -> None:
    """A grandchild that keeps the output open neither delays the answer to its own end nor stays."""
    file = tmp_path / "pid"
    code = f"""
import os, time
if os.fork() == 0:
    {leaves}
    if os.fork() == 0:
        open({str(file)!r}, "w").write(str(os.getpid()))
        time.sleep(600)
    time.sleep(600)
while not os.path.exists({str(file)!r}) or not os.path.getsize({str(file)!r}): time.sleep(0.01)
{end}
"""
    tried = run(code, tmp_path, 3.0)
    assert tried.seconds < 60
    assert ends_soon(pid_in(file))


def test_output_without_end_is_bounded(tmp_path: Path) -> None:
    """Of 100 MB the beginning and the end are kept, and how much was left out is said."""
    tried = run(
        f"print('first')\nfor _ in range(100): print('x' * (1 << 20))\nprint('last', flush=True)\n{DONE}", tmp_path
    )
    assert tried.result == "ok"
    assert tried.text.startswith("first")
    assert tried.text.endswith("last\n")
    assert "bytes left out" in tried.text
    assert len(tried.text) < 512 << 10


def test_a_crash_names_its_signal_and_leaves_no_file(tmp_path: Path) -> None:
    """SIGSEGV is told by name, with the Python stack; no core file lies in the folder."""
    tried = run("import os, signal\ndef crashes(): os.kill(os.getpid(), signal.SIGSEGV)\ncrashes()", tmp_path)
    assert (tried.result, tried.signal) == ("signal", "SIGSEGV")
    assert " in crashes" in tried.text
    assert list(tmp_path.iterdir()) == []


def test_nobody_is_asked_for_input(tmp_path: Path) -> None:
    """A program that asks a question gets the end of the input at once."""
    tried = run("input('Do you accept? ')", tmp_path)
    assert tried.result == "failed"
    assert "EOFError" in tried.text


@pytest.mark.parametrize(
    ("mode", "content"), [(0o755, b"\x7fELF nothing"), (0o644, b"#!/bin/sh\n"), (0o755, b"#!/no/such\n")]
)
def test_what_cannot_be_executed_is_refused_with_the_reason(tmp_path: Path, mode: int, content: bytes) -> None:
    """A file that is no program, not executable, or whose interpreter is gone: the system's reason, no exception."""
    file = tmp_path / "python"
    file.write_bytes(content)
    file.chmod(mode)
    tried = attempt(Command((str(file),), {}), str(tmp_path), 5.0, "mark")
    assert tried.result == "failed"
    assert tried.refused


def test_those_that_wait_for_a_failed_one_are_not_waited_for(tmp_path: Path) -> None:
    """When one of several processes fails, the others get seconds, not their whole limit."""
    tried = attempt_all(
        [command("1/0"), command("import time; time.sleep(600)")], str(tmp_path), 300.0, secrets.token_hex(8)
    )
    assert [item.result for item in tried] == ["failed", "hang"]
    assert tried[1].seconds < 200


def test_a_killed_caller_leaves_nothing_running(tmp_path: Path) -> None:
    """When llmdoctor itself is killed in the middle, what it tried ends all the same."""
    file = tmp_path / "pid"
    inner = f"import os, time; open({str(file)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    outer = f"""
import os, sys
from diagnose.sources.attempt import Command, attempt, supervised
mark = "{secrets.token_hex(8)}"
with supervised(mark):
    attempt(Command((sys.executable, "-c", {inner!r}), dict(os.environ)), {str(tmp_path)!r}, 300.0, mark)
"""
    with subprocess.Popen([sys.executable, "-c", outer], cwd=ROOT) as caller:
        pid = pid_in(file)
        assert is_running(pid)
        caller.send_signal(signal.SIGKILL)
    assert ends_soon(pid)


@given(st.binary(max_size=300))
def test_garbage_among_the_answers_is_passed_over(data: bytes) -> None:
    """Whatever comes through the pipe of answers, reading it never fails."""
    for value in module._answers(data + b"\ngood\tn\t3\n").values():
        assert isinstance(value, (str, int, float, bool))
    assert module._answers(data + b"\ngood\tn\t3\n")["good"] == 3
