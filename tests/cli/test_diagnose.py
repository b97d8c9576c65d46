"""`llmdoctor diagnose` as a user runs it: real processes, pipes, terminals and exit codes."""

from __future__ import annotations

import gzip
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import environment, installation, rule, run_doctor, write_rules

TEXT = b"INFO fine\nthe words of a-cause\n"
COMMAND = [sys.executable, "-m", "diagnose", "diagnose"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    severities = (rule("a-warning", severity="warning"), rule("a-note", severity="note"))
    return installation(tmp_path_factory.mktemp("diagnose") / "home", rule("a-cause"), *severities)


def rules_in(output: bytes) -> list[str]:
    return [cause["rule"] for cause in json.loads(output)["diagnoses"]]


@pytest.mark.parametrize(
    ("text", "threshold", "code"),
    [
        (b"the words of a-cause\n", None, 1),
        (b"the words of a-warning\n", None, 0),
        (b"the words of a-warning\n", "warning", 1),
        (b"the words of a-note\n", "warning", 0),
        (b"the words of a-note\n", "note", 1),
        (b"the words of a-cause\n", "note", 1),
        (b"the words of a-cause\n", "never", 0),
        (b"nothing\n", "note", 0),
    ],
)
def test_the_exit_code(home: Path, text: bytes, threshold: str | None, code: int) -> None:
    """0 if nothing at or above the threshold was found, else 1; the report on stdout, nothing on stderr."""
    done = run_doctor(home, "diagnose", *(("--fail-on", threshold) if threshold else ()), text=text)
    assert (code, b"", True) == (done.returncode, done.stderr, bool(done.stdout))


def refuse(home: Path, *arguments: str | bytes, text: bytes = b"") -> str:
    """A run that cannot do anything: exit 2, nothing on stdout, one sentence on stderr, which is given back."""
    done = run_doctor(home, *arguments, text=text)
    assert (done.returncode, done.stdout) == (2, b"")
    [line] = done.stderr.decode().splitlines()
    assert line.startswith("llmdoctor: ")
    return line


@pytest.mark.parametrize(
    "text", [b"", b"\x7fELF\x02\x01\x01\x00", b"GGUF\x03\x00\x00\x00", bytes(range(9)) * 40, b"\x1f\x8b\x08\x00broken"]
)
def test_what_is_no_log(home: Path, tmp_path: Path, text: bytes) -> None:
    """Empty and binary input, by file: a sentence that names it."""
    (tmp_path / "a.log").write_bytes(text)
    assert "a.log" in refuse(home, "diagnose", str(tmp_path / "a.log"))


def test_nothing_on_standard_input(home: Path) -> None:
    """An empty pipe is told what to do."""
    assert "empty" in refuse(home, "diagnose")
    assert "empty" in refuse(home, "diagnose", "-")


def test_a_file_or_folder_that_is_not_there(home: Path, tmp_path: Path) -> None:
    """A missing file, and a folder without logs."""
    assert "no such file" in refuse(home, "diagnose", "nowhere.log")
    assert "no log files" in refuse(home, "diagnose", str(tmp_path))


def test_a_name_cannot_steer_the_terminal(home: Path) -> None:
    """Escapes in a file's name are spelled out in the sentence."""
    assert "\\x1b[2J" in refuse(home, "diagnose", "\x1b[2J.log")


@pytest.mark.parametrize("arguments", [["--format", "docx"], ["--fail-on", "always"], ["--nonsense"], ["--rules"]])
def test_wrong_arguments(home: Path, arguments: list[str]) -> None:
    """What is no option is told on stderr, with exit 2 and no traceback."""
    done = run_doctor(home, "diagnose", *arguments, text=TEXT)
    assert (done.returncode, done.stdout, b"Traceback" in done.stderr) == (2, b"", False)


def test_the_same_log_by_every_way(home: Path, tmp_path: Path) -> None:
    """A file, a pipe, `-`, .gz, a folder and a named pipe give the same answer."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a.log").write_bytes(TEXT)
    (tmp_path / "a.gz").write_bytes(gzip.compress(TEXT))
    os.mkfifo(tmp_path / "pipe")
    if not os.fork():  # pragma: no cover
        signal.alarm(120)  # where nobody comes to read, it does not wait for ever
        (tmp_path / "pipe").write_bytes(TEXT)
        os._exit(0)
    for arguments in (["-"], [], *([str(tmp_path / name)] for name in ("logs", "logs/a.log", "a.gz", "pipe"))):
        done = run_doctor(home, "diagnose", "--format", "json", *arguments, text=TEXT)
        assert (rules_in(done.stdout), json.loads(done.stdout)["lines"]) == (["a-cause"], 2)
    os.wait()


def test_several_files_at_once(home: Path, tmp_path: Path) -> None:
    """All are read, each finding names its file, and one that cannot be read is told among what was not checked."""
    (tmp_path / "a.log").write_bytes(b"the words of a-cause\n")
    (tmp_path / "b.log").write_bytes(b"the words of a-warning\n")
    done = run_doctor(home, "diagnose", str(tmp_path / "a.log"), str(tmp_path / "b.log"), str(tmp_path / "c.log"))
    report = " ".join(done.stdout.decode().split())  # a long path moves the line breaks
    assert (done.returncode, done.stderr) == (1, b"")
    assert [part for part in ("a.log:1", "b.log:1", "Not checked", "no such file") if part not in report] == []


def test_rules_of_ones_own(home: Path, tmp_path: Path) -> None:
    """`--rules DIR` adds to the bundled rules, and may be given twice."""
    one = write_rules(tmp_path / "one", [rule("my-trouble")])
    two = write_rules(tmp_path / "two", [rule("your-trouble")])
    text = b"the words of my-trouble\n\nINFO 11-02 09:14:02 fine\nthe words of your-trouble\nINFO 11-02 09:14:02 fine\nthe words of a-cause\n"
    done = run_doctor(home, "diagnose", "--format", "json", "--rules", str(one), "--rules", str(two), text=text)
    assert rules_in(done.stdout) == ["my-trouble", "your-trouble", "a-cause"]
    assert rules_in(run_doctor(home, "diagnose", "--format", "json", text=text).stdout) == ["a-cause"]


def test_a_mistake_in_a_rule_of_ones_own(home: Path, tmp_path: Path) -> None:
    """The file, the line and the mistake; and no diagnosis by half of the rules."""
    mine = write_rules(tmp_path / "mine", [rule("my-trouble", severity="fatal")])
    assert re.search(
        r"my-trouble\.yaml:\d+: severity 'fatal' must be one of",
        refuse(home, "diagnose", "--rules", str(mine), text=TEXT),
    )
    assert "no such file or folder" in refuse(home, "diagnose", "--rules", str(tmp_path / "nowhere"), text=TEXT)


def test_plain_when_piped(home: Path) -> None:
    """Through a pipe there is no colour, and lines of prose fit 80 columns."""
    report = run_doctor(home, "diagnose", text=TEXT).stdout.decode()
    assert "\x1b" not in report
    assert max(map(len, report.splitlines())) <= 80


def on_terminal(home: Path, *arguments: str, typed: bytes = b"", **changes: str) -> tuple[bytes, int]:
    """Run with a pseudo-terminal for everything: what it showed, and the exit code."""
    master, slave = pty.openpty()
    run = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=home,
        env=environment(home, **changes),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        close_fds=True,
    )
    os.close(slave)
    shown = b""
    while select.select([master], [], [], 60)[0]:
        try:
            part = os.read(master, 65536)
        except OSError:
            break
        shown += part
        if typed and b"Ctrl-D" in shown:
            os.write(master, typed)
            typed = b""
        if not part:
            break
    os.close(master)
    return shown, run.wait(60)


@pytest.fixture
def log(tmp_path: Path) -> str:
    (tmp_path / "a.log").write_bytes(TEXT)
    return str(tmp_path / "a.log")


def test_colour_on_a_terminal(home: Path, log: str) -> None:
    """On a terminal the report is coloured, and says the same."""
    shown, code = on_terminal(home, log)
    assert (code, b"\x1b[1;31m" in shown) == (1, True)
    bare = re.sub(rb"\x1b\[[0-9;]*m", b"", shown).replace(b"\r\n", b"\n").rstrip()
    assert run_doctor(home, "diagnose", log).stdout.rstrip() == bare


@pytest.mark.parametrize("changes", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_it_is_not_wanted(home: Path, log: str, changes: dict[str, str]) -> None:
    """NO_COLOR and a dumb terminal are honoured."""
    shown, code = on_terminal(home, log, **changes)
    assert (code, b"\x1b" in shown) == (1, False)


def test_a_hostile_log_on_a_terminal(home: Path, tmp_path: Path) -> None:
    """The only escapes that reach the terminal are the report's own colours."""
    (tmp_path / "a.log").write_bytes("\x1b]0;owned\x07the words of a-cause \x1b \x07 \x08\x08 \u202e \x9b2J\n".encode())
    shown, _ = on_terminal(home, str(tmp_path / "a.log"))
    bare = re.sub(rb"\x1b\[[0-9;]*m", b"", shown).decode().replace("\r\n", "\n")
    assert "the words of a-cause" in bare
    assert re.findall("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", bare) == []


def test_a_terminal_without_input_asks_for_the_paste(home: Path) -> None:
    """Without a file and on a terminal it says what it waits for; Ctrl-D ends the paste."""
    shown, code = on_terminal(home, typed=b"the words of a-cause\r\x04")
    assert (code, b"Paste the log" in shown and b"The title of a-cause" in shown) == (1, True)


def test_a_reader_that_goes_away(home: Path) -> None:
    """`| head -1` gets its line, and nobody complains."""
    text = "".join(f"the words of a-cause\nINFO 11-02 09:14:02 {n}\n" for n in range(5000))
    command = f"'{sys.executable}' -m diagnose diagnose --format json | head -c 1"
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=home,
        env=environment(home),
        input=text.encode(),
        capture_output=True,
        timeout=120,
    )
    assert (done.stdout, done.stderr) == (b"{", b"")


def test_a_reader_that_was_never_there(home: Path) -> None:
    """A closed pipe from the start is silent too."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        COMMAND, cwd=home, env=environment(home), input=TEXT, stdout=writing, stderr=subprocess.PIPE, timeout=120
    )
    os.close(writing)
    assert done.stderr == b""


def test_closed_standard_streams(home: Path, log: str) -> None:
    """Started without standard streams, as some supervisors do: files are diagnosed all the same."""
    for redirect, code in (("<&-", 1), (">&-", 1), ("<&- >&- 2>&-", 1)):
        command = f"'{sys.executable}' -m diagnose diagnose '{log}' {redirect}"
        done = subprocess.run(
            ["/bin/sh", "-c", command], cwd=home, env=environment(home), capture_output=True, timeout=120
        )
        assert (code, b"") == (done.returncode, done.stderr)
    done = subprocess.run(
        ["/bin/sh", "-c", f"'{sys.executable}' -m diagnose diagnose <&-"],
        cwd=home,
        env=environment(home),
        capture_output=True,
        timeout=120,
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_ctrl_c_is_told_and_is_no_finding(home: Path) -> None:
    """Interrupted while it waits for input: a word on stderr and exit 2, not 1."""
    run = subprocess.Popen(
        COMMAND, cwd=home, env=environment(home), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert run.stdin is not None
    run.stdin.write(b"x" * (1 << 20))  # more than a pipe holds: once this is written, the log is being read
    run.send_signal(signal.SIGINT)
    output, errors = run.communicate(timeout=60)
    assert (run.returncode, output, errors) == (2, b"", b"llmdoctor: stopped\n")


def test_any_locale(home: Path) -> None:
    """Where the terminal knows no UTF-8, nothing breaks."""
    for command in (["diagnose"], ["explain", "a-cause"], ["rules", "list"]):
        done = run_doctor(home, *command, text=TEXT, PYTHONIOENCODING="ascii", LC_ALL="C", PYTHONUTF8="0")
        assert (done.returncode in (0, 1), b"Traceback" in done.stderr) == (True, False)


def test_formats(home: Path) -> None:
    """Each format is written as asked for."""
    assert run_doctor(home, "diagnose", "--format", "markdown", text=TEXT).stdout.startswith(
        b"### The title of a-cause"
    )
    assert rules_in(run_doctor(home, "diagnose", "--format", "json", text=TEXT).stdout) == ["a-cause"]
    assert (
        run_doctor(home, "diagnose", "--format", "text", text=TEXT).stdout.decode().startswith("✗ The title of a-cause")
    )


def test_version_and_help(home: Path) -> None:
    """The version is one line; without a command the help is shown."""
    assert re.fullmatch(rb"llmdoctor \d+\.\d+\.\d+\S*\n", run_doctor(home, "--version").stdout)
    for arguments in (["--help"], ["diagnose", "--help"], ["rules", "--help"]):
        assert ((done := run_doctor(home, *arguments)).returncode, done.stderr) == (0, b"")
