"""A command under `llmdoctor run` is as it would be without: streams, signals, environment, exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.run.conftest import Ran, command, facts_in, line_of

Doctor = Callable[..., Ran]
Start = Callable[..., subprocess.Popen[bytes]]

ENDS = {
    "exit 0": 0,
    "exit 1": 1,
    "exit 3": 3,
    "exit 77": 77,
    "exit 255": 255,
    "kill -9 $$": 137,
    "kill -15 $$": 143,
    "kill -11 $$": 139,
    "kill -6 $$": 134,
    "kill -1 $$": 129,
    "no-such-program-here": 127,
}


@pytest.mark.parametrize("line", ENDS)
def test_the_exit_code_is_that_of_a_shell(line: str, doctor: Doctor) -> None:
    """Its own, or 128 and the number of the signal that ended it."""
    assert doctor("sh", "-c", line).returncode == ENDS[line]


def test_output_and_errors_stay_apart(doctor: Doctor) -> None:
    """What is written to one stream does not come out of the other, byte for byte."""
    ran = doctor("sh", "-c", "printf 'out\\r\\0\\377'; printf err >&2")

    assert (ran.stdout, ran.stderr) == (b"out\r\0\xff", b"err")


def test_output_and_errors_in_one_file_keep_their_order(doctor: Doctor, tmp_path: Path) -> None:
    """With 2>&1 they come as they were written."""
    file = tmp_path / "both"
    with file.open("wb") as both:
        doctor(
            "sh",
            "-c",
            "for n in 1 2 3 4; do echo o$n; echo e$n >&2; done",
            capture_output=False,
            stdout=both,
            stderr=both,
        )

    assert file.read_text().split() == [f"{kind}{n}" for n in range(1, 5) for kind in "oe"]


def test_a_good_run_says_nothing(doctor: Doctor) -> None:
    """Nothing is printed beside what the command says."""
    ran = doctor("sh", "-c", "echo fine")

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"fine\n", b"")


def test_standard_input_is_handed_through(doctor: Doctor) -> None:
    """What is piped in reaches the command, to its end."""
    assert doctor("cat", text=b"x" * 300_000).stdout == b"x" * 300_000


def test_environment_and_folder_are_untouched(doctor: Doctor, environ: dict[str, str], tmp_path: Path) -> None:
    """The command sees what it would see without us."""
    ran = doctor(sys.executable, "-c", "import os; print(sorted(os.environ.items())); print(os.getcwd())")
    plain = subprocess.run(
        [sys.executable, "-c", "import os; print(sorted(os.environ.items())); print(os.getcwd())"],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )

    assert ran.stdout == plain.stdout


def test_no_file_of_ours_is_left_open_in_the_command(doctor: Doctor) -> None:
    """Beside its three streams it has none, as without us."""
    ran = doctor(sys.executable, "-c", "import os; print(sorted(int(n) for n in os.listdir('/proc/self/fd'))[:-1])")

    assert ran.stdout == b"[0, 1, 2]\n"


def test_signals_mean_what_they_meant(doctor: Doctor) -> None:
    """None more is blocked or ignored than without us: not SIGPIPE, which Python would hand down."""
    words = ["sh", "-c", "grep -E 'SigBlk|SigIgn' /proc/self/status"]
    plain = subprocess.run(words, capture_output=True, check=True)

    assert doctor(*words).stdout == plain.stdout


def test_a_closed_output_stays_closed(environ: dict[str, str], tmp_path: Path) -> None:
    """A command that was to have no standard output has none, and its exit code is kept."""
    ran = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *command("sh", "-c", "echo lost 2>/dev/null; exit 4")],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        timeout=300,
    )

    assert ran.returncode == 4


def test_who_reads_no_further_ends_the_command_as_ever(environ: dict[str, str], tmp_path: Path) -> None:
    """With `| head -1` an endless command gets SIGPIPE."""
    ran = subprocess.run(
        ["bash", "-c", '"$@" 2>/dev/null | head -1; echo ${PIPESTATUS[0]}', "bash", *command("yes")],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        timeout=300,
    )

    assert ran.stdout == b"y\n141\n"


WAITS = """
import signal, sys, time
def told(number, frame):
    print("got", signal.Signals(number).name, flush=True)
    if number == signal.SIGTERM:
        sys.exit(9)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH):
    signal.signal(number, told)
print("ready", flush=True)
while True:
    time.sleep(0.05)
"""


def test_signals_are_handed_on(start: Start, script: Callable[[str], tuple[str, str]]) -> None:
    """SIGINT twice too: we do not go before the command does."""
    process = start(*script(WAITS))
    assert line_of(process) == "ready"
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGINT, signal.SIGINT, signal.SIGTERM):
        process.send_signal(number)
        assert line_of(process) == f"got {number.name}"
    process.communicate(timeout=300)

    assert process.returncode == 9


def test_a_signal_that_was_ignored_before_is_no_reason(start: Start, tmp_path: Path) -> None:
    """Under nohup a window may be closed hours before the command fails of something else."""
    line = "echo ready; while ! test -e go; do sleep 0.05; done; exit 3"
    ignore = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731
    process = start("sh", "-c", line, options=("--report", "r"), preexec_fn=ignore)
    assert line_of(process) == "ready"
    process.send_signal(signal.SIGHUP)
    (tmp_path / "go").touch()
    process.communicate(timeout=300)

    assert process.returncode == 3
    assert "run.stopped.signal" not in facts_in(tmp_path / "r")


def test_a_signal_goes_to_the_command_and_not_to_its_helpers(start: Start, tmp_path: Path) -> None:
    """As without us: a data-loader worker does not die of the SIGTERM on which its trainer saves."""
    os.mkfifo(tmp_path / "wait")
    worker = "(echo ready; read line < wait; echo worker lives)"
    process = start("bash", "-c", f"trap 'echo stopping' TERM; {worker} & while ! wait $!; do :; done")
    assert line_of(process) == "ready"
    process.send_signal(signal.SIGTERM)
    assert line_of(process) == "stopping"
    (tmp_path / "wait").write_text("go on\n")

    assert line_of(process) == "worker lives"


def test_a_command_that_ignores_sigterm_goes_on(start: Start, tmp_path: Path) -> None:
    """What comes from outside is handed on and nothing more."""
    process = start("sh", "-c", "trap '' TERM; echo ready; read line < wait; echo still here")
    os.mkfifo(tmp_path / "wait")
    assert line_of(process) == "ready"
    process.send_signal(signal.SIGTERM)
    (tmp_path / "wait").write_text("go on\n")

    assert line_of(process) == "still here"
    assert process.wait(timeout=300) == 0


def test_what_the_command_leaves_behind_still_writes(start: Start, tmp_path: Path) -> None:
    """A daemon holds the output: we end when the command does, and its output still comes."""
    os.mkfifo(tmp_path / "wait")
    process = start("sh", "-c", "setsid sh -c 'read line < wait; echo late' & echo first; exit 3")
    assert line_of(process) == "first"
    assert process.wait(timeout=300) == 3
    (tmp_path / "wait").write_text("now\n")

    assert line_of(process) == "late"


def test_a_flood_comes_out_whole_and_is_kept_in_part(doctor: Doctor, tmp_path: Path) -> None:
    """200 MB: not one byte is lost on the way, the kept log stays small, with beginning and end."""
    size = 200 << 20
    ran = doctor(
        "sh",
        "-c",
        f"echo first; head -c {size} /dev/zero | tr '\\0' '\\nx'; echo; echo last; exit 1",
        options=("--report", "reports"),
    )
    (log,) = (tmp_path / "reports").glob("*.output.log")

    assert len(ran.stdout) == len("first\n\nlast\n") + size
    assert log.stat().st_size < 6 << 20
    text = log.read_text()
    assert text.startswith("first\n")
    assert text.endswith("last\n")


def test_a_full_disk_under_the_output_does_not_end_the_command(doctor: Doctor, tmp_path: Path) -> None:
    """What cannot be written is lost, which is told; the command goes on."""
    with open("/dev/full", "wb") as full:
        ran = doctor("sh", "-c", "echo lost; exit 0", capture_output=False, stdout=full, stderr=subprocess.PIPE)

    assert ran.returncode == 0
    assert b"could not be written" in ran.stderr


def test_an_unwritable_temporary_folder_does_no_harm(doctor: Doctor, environ: dict[str, str]) -> None:
    """The output is then kept in memory."""
    ran = doctor("sh", "-c", "echo fine; exit 5", env=environ | {"TMPDIR": "/nonexistent"})

    assert (ran.returncode, ran.stdout) == (5, b"fine\n")


def test_started_in_the_background_of_a_script_ctrl_c_stays_ignored(environ: dict[str, str], tmp_path: Path) -> None:
    """A shell starts `command &` with SIGINT ignored; so is the command under us."""
    ran = subprocess.run(
        ["sh", "-c", '"$@" & wait $!', "sh", *command("sh", "-c", "grep SigIgn /proc/self/status")],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        timeout=300,
    )

    assert int(ran.stdout.split()[1], 16) >> (signal.SIGINT - 1) & 1


BAD = {
    ("--",): "nothing to run",
    ("python", "train.py"): "stands after --, as in: llmdoctor run -- python train.py",
    ("--no-such-option", "--", "true"): "No such option",
    ("--hang", "soon", "--", "true"): "is no time",
    ("--hang", "0", "--", "true"): "at least a second",
    ("--hang", "-5m", "--", "true"): "is no time",
    ("--grace", "x", "--", "true"): "is no time",
    ("--report", "file", "--", "true"): "is a file; name a folder",
    ("--report", "file/below", "--", "true"): "a part of this path is a file",
    ("--config", "no.yaml", "--", "true"): "no such file",
    ("--rules", "nowhere", "--", "true"): "nowhere",
}


@pytest.mark.parametrize("words", BAD)
def test_bad_input_is_a_sentence_and_exit_code_2(
    words: tuple[str, ...], environ: dict[str, str], tmp_path: Path
) -> None:
    """Before anything is started."""
    (tmp_path / "file").touch()
    ran = subprocess.run(
        [sys.executable, "-m", "diagnose", "run", *words], env=environ, cwd=tmp_path, capture_output=True, timeout=300
    )

    assert ran.returncode == 2
    assert BAD[words] in ran.stderr.decode()
    assert b"Traceback" not in ran.stderr


REFUSED = {
    "no-such-program": (127, "command not found", "run-command-not-found"),
    "./missing": (127, "no such file", "run-command-not-found"),
    "./folder": (126, "is a folder", "run-command-not-executable"),
    "./plain": (126, "permission denied", "run-command-not-executable"),
    "./without": (126, "is no program", "run-command-not-executable"),
    "./gone": (127, "interpreter", "run-command-not-found"),
    "": (127, "empty word", "run-command-not-found"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_started_is_told_as_a_shell_would(name: str, doctor: Doctor, tmp_path: Path) -> None:
    """The exit codes 127 and 126, a sentence, and the rule."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "plain").write_text("echo hi\n")
    for file, text in (("without", "echo hi\n"), ("gone", "#!/no/such/python\nprint()\n")):
        (tmp_path / file).write_text(text)
        (tmp_path / file).chmod(0o755)
    ran = doctor(name)
    code, sentence, rule = REFUSED[name]

    assert ran.returncode == code
    assert sentence in ran.stderr.decode()
    assert rule in ran.stderr.decode()


def test_the_report_of_a_good_run_is_written_where_it_is_asked_for(doctor: Doctor, tmp_path: Path) -> None:
    """All files, and the exit code 0."""
    ran = doctor("sh", "-c", "echo fine", options=("--report", "reports"))

    assert ran.returncode == 0
    endings = sorted(path.name.partition(".")[2] for path in (tmp_path / "reports").iterdir())
    assert endings == ["case.json", "memory.json", "output.log", "report.json", "report.md"]
    assert facts_in(tmp_path / "reports")["run.exit_code"] == 0
