"""Real ends: memory limits, full disks, hangs, stubborn and killed processes, each named first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.run.conftest import Ran, facts_in, line_of, rules_in

Doctor = Callable[..., Ran]
Start = Callable[..., subprocess.Popen[bytes]]
Script = Callable[..., tuple[str, str]]
REPORT = ("--report", "reports")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        mounted = os.geteuid() == 0 and subprocess.run(words, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group that may use 60 MiB of memory; a process joins it by its number in cgroup.procs."""
    name = f"llmdoctor-test-{uuid.uuid4().hex[:8]}"
    for top, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        folder = Path(top) / name
        try:
            folder.mkdir()
            (folder / limit).write_text(str(60 << 20))
            swap = folder / "memory.swap.max"
            if swap.exists():
                swap.write_text("0")
        except OSError:
            if folder.exists():
                folder.rmdir()
            continue
        yield folder
        folder.rmdir()
        return
    pytest.skip("no control group can be made here")


EATS = """
import os, sys, time
if len(sys.argv) > 1:
    open(sys.argv[1], "w").write(str(os.getpid()))
print("start", flush=True)
time.sleep(1.5)
kept = []
while True:
    kept.append(bytearray(4 << 20))
    time.sleep(0.01)
"""


def test_a_memory_limit_is_named(doctor: Doctor, script: Script, small_group: Path, tmp_path: Path) -> None:
    """The kernel's killer in a control group."""
    ran = doctor(*script(EATS), str(small_group / "cgroup.procs"), options=REPORT)
    told = facts_in(tmp_path / "reports")

    assert ran.returncode == 137
    assert rules_in(tmp_path / "reports")[0] == "run-killed-at-memory-limit"
    assert told["run.memory.killed_by"] == "limit"
    assert told["run.memory.limit"] == 60 << 20


def test_a_memory_limit_is_named_behind_a_script(
    doctor: Doctor, script: Script, small_group: Path, tmp_path: Path
) -> None:
    """Only the child of a shell is killed: the shell says 137."""
    python, path = script(EATS)
    ran = doctor("bash", "-c", f"{python} {path} {small_group}/cgroup.procs; exit $?", options=REPORT)

    assert ran.returncode == 137
    assert rules_in(tmp_path / "reports")[0] == "run-killed-at-memory-limit"


def test_a_kill_from_outside_is_not_taken_for_memory(doctor: Doctor, tmp_path: Path) -> None:
    """SIGKILL by somebody, while the counters stand still."""
    ran = doctor("sh", "-c", "sleep 0.3; kill -9 $$", options=REPORT)

    assert ran.returncode == 137
    first = rules_in(tmp_path / "reports")[:1]
    if "run.memory.killed_by" in facts_in(tmp_path / "reports"):
        assert first == ["run-killed-by-somebody"]
    else:
        assert first == []


def test_a_full_disk_is_named(doctor: Doctor, script: Script, small_disk: Path, tmp_path: Path) -> None:
    """A checkpoint that does not fit."""
    text = """
import sys
with open(sys.argv[2] + "/model.bin", "wb", buffering=0) as file:
    for n in range(100):
        file.write(bytes(100_000))
"""
    doctor(*script(text), "--output_dir", str(small_disk), options=REPORT)

    assert rules_in(tmp_path / "reports")[0] in ("run-disk-filled-up", "disk-full")
    assert facts_in(tmp_path / "reports")["run.disk.full"] is True


def test_an_address_space_limit_is_named(doctor: Doctor, script: Script, tmp_path: Path) -> None:
    """MemoryError under ulimit -v."""
    python, path = script("import time; time.sleep(0.5); x = bytearray(4 << 30)")
    ran = doctor("bash", "-c", f"ulimit -v 2000000; exec {python} {path}", options=REPORT)

    assert ran.returncode == 1
    assert rules_in(tmp_path / "reports")[0] == "run-address-space-limited"


def test_open_files_that_run_out_are_named(doctor: Doctor, script: Script, tmp_path: Path) -> None:
    """Too many open files under ulimit -n."""
    text = """
import os, time
kept = []
try:
    while True:
        kept.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    time.sleep(3)
    raise
"""
    python, path = script(text)
    doctor("bash", "-c", f"ulimit -n 64; exec {python} {path}", options=REPORT)

    assert rules_in(tmp_path / "reports")[0] in ("run-open-files-used-up", "open-files-limit")


def test_a_port_that_is_taken_is_named(doctor: Doctor, script: Script, tmp_path: Path) -> None:
    """By the rule for the log."""
    text = """
import socket
one = socket.create_server(("127.0.0.1", 0))
socket.create_server(("127.0.0.1", one.getsockname()[1]))
"""
    doctor(*script(text), options=REPORT)

    assert "server-port-in-use" in rules_in(tmp_path / "reports")


RANKS = """
import os, subprocess, sys, time
rank = os.environ.get("RANK")
if rank is None:
    started = [
        subprocess.Popen([sys.executable, __file__, *sys.argv[1:]], env=os.environ | {"RANK": str(n), "LOCAL_RANK": str(n), "WORLD_SIZE": "2"})
        for n in (0, 1)
    ]
    while not (codes := [one.poll() for one in started]) or all(code is None for code in codes):
        time.sleep(0.05)
    for one in started:
        if one.poll() is None:
            one.terminate()
    sys.exit(1)

def stands_in_all_reduce():
    while True:
        time.sleep(0.05)

def stands_elsewhere():
    while True:
        time.sleep(0.05)

print("rank", rank, flush=True)
if rank == "1":
    if sys.argv[1] == "hang":
        stands_elsewhere()
    time.sleep(2)
    if sys.argv[1] == "kill":
        os.kill(os.getpid(), 9)
    if sys.argv[1] == "segv":
        os.kill(os.getpid(), 11)
    if sys.argv[1] == "raise":
        raise ValueError("bad batch")
stands_in_all_reduce()
"""


@pytest.mark.parametrize(("how", "signal_name"), [("kill", "SIGKILL"), ("segv", "SIGSEGV")])
def test_the_rank_that_died_first_is_named(
    how: str, signal_name: str, doctor: Doctor, script: Script, tmp_path: Path
) -> None:
    """And not the one that its launcher stopped."""
    doctor(*script(RANKS), how, options=REPORT)
    told = facts_in(tmp_path / "reports")

    assert (told["run.first_dead.rank"], told["run.first_dead.signal"]) == ("1", signal_name)
    assert told["run.ranks"] == 2


def test_the_rank_that_raised_first_is_named_under_its_exception(
    doctor: Doctor, script: Script, tmp_path: Path
) -> None:
    """The traceback is the cause."""
    doctor(*script(RANKS), "raise", options=REPORT)
    told = facts_in(tmp_path / "reports")

    assert (told["run.first_dead.rank"], told["run.first_dead.exit_code"]) == ("1", 1)
    assert rules_in(tmp_path / "reports")[0] == "uncaught-exception"


def may_read_stacks() -> bool:
    """Whether py-spy is there and may read another process."""
    from diagnose.run import stacks

    return bool(stacks.spy()) and not stacks.allowed()


@pytest.mark.skipif(not may_read_stacks(), reason="stacks of other processes may not be read here")
def test_a_hang_is_reported_and_left(start: Start, script: Script, environ: dict[str, str], tmp_path: Path) -> None:
    """Both ranks are told with their places, and not the launcher, whose number is that of the machine; the command goes on."""
    process = start(*script(RANKS), "hang", options=("--hang", "3s", *REPORT), env=environ | {"SLURM_PROCID": "0"})
    assert process.stderr is not None
    while b"left as it is" not in process.stderr.readline():
        assert process.poll() is None
    told = facts_in(tmp_path / "reports")
    (stacks,) = (tmp_path / "reports").glob("*.stacks.txt")

    assert process.poll() is None
    assert told["run.hung"] is True
    assert told["run.hang.ranks"] == 2
    assert told["run.hang.differ"] is True
    assert {"stands_in_all_reduce", "stands_elsewhere"} <= set(stacks.read_text().replace("(", " ").split())
    assert rules_in(tmp_path / "reports")[0] == "run-hang"


def test_a_hang_that_is_to_be_ended_is_even_if_it_ignores_sigterm(
    doctor: Doctor, script: Script, tmp_path: Path
) -> None:
    """SIGTERM, the grace, SIGKILL for it and all below; exit code 124."""
    text = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if len(sys.argv) == 1:
    child = subprocess.Popen([sys.executable, __file__, "child"], start_new_session=True)
    print(child.pid, flush=True)
time.sleep(1000)
"""
    ran = doctor(*script(text), options=("--hang", "1s", "--on-hang", "end", "--grace", "1s"))

    assert ran.returncode == 124
    assert is_over(int(ran.stdout))


def is_over(pid: int) -> bool:
    """Whether a killed process has ended; whose end nobody has taken yet (a container's first process may not) has too."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.skipif(not may_read_stacks(), reason="stacks of other processes may not be read here")
def test_a_hang_that_no_rule_knows_shows_the_stacks(doctor: Doctor) -> None:
    """They are what there is to go by."""
    text = "import time\ndef waits_for_something():\n    time.sleep(1000)\nwaits_for_something()\n"
    ran = doctor(sys.executable, "-c", text, options=("--hang", "2s", "--on-hang", "end", "--grace", "1s"))

    assert ran.returncode == 124
    assert b"waits_for_something" in ran.stderr


def test_a_command_that_says_the_same_again_and_again_hangs(doctor: Doctor) -> None:
    """A heartbeat with a clock is no progress."""
    line = "while :; do echo still waiting, $(date +%H:%M:%S); sleep 0.2; done"

    assert doctor("bash", "-c", line, options=("--hang", "2s", "--on-hang", "end", "--grace", "1s")).returncode == 124


def test_a_command_that_counts_does_not_hang(doctor: Doctor) -> None:
    """However little it says."""
    line = "for n in 1 2 3 4 5 6 7 8; do echo step $n; sleep 0.5; done"

    assert doctor("bash", "-c", line, options=("--hang", "2s", "--on-hang", "end")).returncode == 0


def test_a_stop_from_outside_is_named(start: Start, tmp_path: Path) -> None:
    """SIGTERM, and by whom."""
    process = start("sh", "-c", "echo ready; exec sleep 1000", options=REPORT)
    assert line_of(process) == "ready"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=300)
    told = facts_in(tmp_path / "reports")

    assert process.returncode == 143
    assert rules_in(tmp_path / "reports")[0] == "run-stopped-from-outside"
    assert told["run.stopped.signal"] == "SIGTERM"
    assert told["run.stopped.by"].startswith(("python", "pytest")), told


def test_what_was_left_in_an_error_file_is_read(doctor: Doctor, script: Script, tmp_path: Path) -> None:
    """torchrun's error file of a rank, which says what its output does not."""
    text = """
import json, os, subprocess, sys, time
if "RANK" not in os.environ:
    environ = os.environ | {"RANK": "0", "LOCAL_RANK": "0", "TORCHELASTIC_ERROR_FILE": os.path.abspath("error.json")}
    sys.exit(subprocess.run([sys.executable, __file__], env=environ).returncode)
time.sleep(1.5)
stack = "Traceback (most recent call last):\\n  File \\"train.py\\", line 3, in <module>\\nOSError: [Errno 28] No space left on device\\n"
json.dump({"message": {"message": "OSError", "extraInfo": {"py_callstack": stack}}}, open(os.environ["TORCHELASTIC_ERROR_FILE"], "w"))
sys.exit(1)
"""
    doctor(*script(text), options=REPORT)

    assert rules_in(tmp_path / "reports")[0] == "disk-full"


def test_a_report_that_cannot_be_made_does_not_take_the_exit_code(doctor: Doctor, script: Script) -> None:
    """The folder is removed while it runs."""
    ran = doctor("sh", "-c", "rm -r reports; exit 6", options=REPORT)

    assert ran.returncode == 6
    assert b"cannot write it" in ran.stderr
    assert b"report in" not in ran.stderr
