"""On a terminal the command has one too: size, keys, Ctrl-C and Ctrl-Z, and ours is given back."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.run.conftest import command

PATIENCE = 60.0


class Screen:
    """A terminal with `llmdoctor run` on it, as a user sees and types."""

    def __init__(self, words: list[str], environ: dict[str, str], folder: Path) -> None:
        self.pid, self.handle = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execve(words[0], words, environ)
        self.seen = b""

    def wait_for(self, text: str) -> None:
        """Read until a text has come."""
        until = time.monotonic() + PATIENCE
        while text.encode() not in self.seen:
            assert time.monotonic() < until, self.seen
            if not select.select([self.handle], [], [], 1)[0]:
                continue
            try:
                data = os.read(self.handle, 4096)
            except OSError:
                data = b""
            if not data:
                break
            self.seen += data
        assert text.encode() in self.seen

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.handle, keys)

    def resize(self, rows: int, columns: int) -> None:
        """Pull at the window's corner."""
        fcntl.ioctl(self.handle, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def end(self) -> int:
        """Read to the end; the exit code."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if select.select([self.handle], [], [], 0.1)[0]:
                try:
                    data = os.read(self.handle, 4096)
                except OSError:
                    data = b""
                if not data:
                    break
                self.seen += data
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def screen(environ: dict[str, str], tmp_path: Path) -> Iterator[list[Screen]]:
    """Screens that are closed in the end."""
    opened: list[Screen] = []
    yield opened
    for one in opened:
        os.close(one.handle)
        try:
            os.kill(one.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def python_on(screens: list[Screen], text: str, environ: dict[str, str], folder: Path) -> Screen:
    """A Python program on a screen."""
    screens.append(Screen(command(sys.executable, "-c", text), environ, folder))
    return screens[-1]


def test_the_command_is_on_a_terminal_of_the_same_size(
    screen: list[Screen], environ: dict[str, str], tmp_path: Path
) -> None:
    """All three streams are; what is typed comes in; a new size is told by SIGWINCH."""
    program = """
import os, shutil, signal, time
seen = []
def size(*_):
    print("size", *os.get_terminal_size(), flush=True)
    seen.append(1)
print("terminal", os.isatty(0), os.isatty(1), os.isatty(2), open("/dev/tty").name, flush=True)
signal.signal(signal.SIGWINCH, size)
print("hello", input("name? "), flush=True)
while not seen:  # not input(): a signal between its prompt and its read is heard after the next line only
    time.sleep(0.05)
input("again? ")
"""
    one = python_on(screen, program, environ, tmp_path)
    one.wait_for("terminal True True True /dev/tty")
    one.wait_for("name? ")
    one.type(b"world\n")
    one.wait_for("hello world")
    one.resize(37, 111)
    one.wait_for("size 111 37")
    one.wait_for("again? ")
    one.type(b"\n")

    assert one.end() == 0


def test_ctrl_c_interrupts_the_command_and_nothing_is_diagnosed(
    screen: list[Screen], environ: dict[str, str], tmp_path: Path
) -> None:
    """It may take its time, a second Ctrl-C does not end us before it, and who pressed it wants no report."""
    program = """
import sys
for n in (1, 2):
    try:
        print("ready", n, flush=True)
        input()
    except KeyboardInterrupt:
        print("interrupt", n, flush=True)
sys.exit(7)
"""
    one = python_on(screen, program, environ, tmp_path)
    for number in (1, 2):
        one.wait_for(f"ready {number}")
        one.type(b"\x03")
        one.wait_for(f"interrupt {number}")

    assert one.end() == 7
    assert b"llmdoctor:" not in one.seen


def test_a_command_that_reads_single_keys_gets_them(
    screen: list[Screen], environ: dict[str, str], tmp_path: Path
) -> None:
    """A raw terminal inside is raw: Ctrl-C is then a key like others."""
    program = """
import sys, tty
tty.setraw(0)
print("ready", end="", flush=True)
print(repr(sys.stdin.buffer.raw.read(1)), end="", flush=True)
"""
    one = python_on(screen, program, environ, tmp_path)
    one.wait_for("ready")
    one.type(b"\x03")
    one.wait_for(r"b'\x03'")

    assert one.end() == 0


def test_our_terminal_is_given_back(screen: list[Screen], environ: dict[str, str], tmp_path: Path) -> None:
    """After the end, also after a crash of the command, it is set as before."""
    script = tmp_path / "shell"
    words = " ".join(f"'{word}'" for word in command("sh", "-c", "kill -9 $$"))
    script.write_text(f"before=$(stty -g); {words}; echo code $?; [ $before = $(stty -g) ] && echo same settings\n")
    screen.append(Screen(["/bin/bash", str(script)], environ, tmp_path))
    screen[0].wait_for("code 137")
    screen[0].wait_for("same settings")


def test_the_report_on_a_raw_terminal_begins_each_line_at_its_left(
    screen: list[Screen], environ: dict[str, str], tmp_path: Path
) -> None:
    """No line stands where the one above ended."""
    one = python_on(screen, "raise SystemExit(3)", environ, tmp_path)

    assert one.end() == 3
    assert b"ended with exit code 3" in one.seen
    assert one.seen.count(b"\n") == one.seen.count(b"\r\n")


def test_ctrl_z_stops_the_command_and_us(screen: list[Screen], environ: dict[str, str], tmp_path: Path) -> None:
    """The shell has the terminal again; `fg` goes on where it was."""
    screen.append(Screen(["/bin/bash", "--norc", "-i"], environ | {"PS1": "prompt> "}, tmp_path))
    one = screen[0]
    one.wait_for("prompt> ")
    words = " ".join(f"'{word}'" for word in command("sh", "-c", 'echo "be""gun"; read line; echo "got"":$line"'))
    one.type(words.encode() + b"\n")
    one.wait_for("begun")
    one.type(b"\x1a")
    one.wait_for("Stopped")
    one.type(b"fg\n")
    one.seen = b""
    one.wait_for("diagnose")
    one.type(b"on\n")
    one.wait_for("got:on")
    one.type(b"exit\n")


def test_errors_that_go_elsewhere_still_do(screen: list[Screen], environ: dict[str, str], tmp_path: Path) -> None:
    """With 2> only what is not redirected is a terminal."""
    script = tmp_path / "shell"
    program = "import os,sys; print(os.isatty(1), os.isatty(2)); print('error', file=sys.stderr)"
    words = " ".join(f'"{word}"' for word in command(sys.executable, "-c", program))
    script.write_text(f"{words} 2> errors; echo code $?\n")
    screen.append(Screen(["/bin/bash", str(script)], environ, tmp_path))
    screen[0].wait_for("code 0")

    assert b"True False" in screen[0].seen
    assert (tmp_path / "errors").read_text() == "error\n"


def test_in_a_pipeline_keys_and_ctrl_c_are_as_ever(
    screen: list[Screen], environ: dict[str, str], tmp_path: Path
) -> None:
    """`… | cat`: input and errors are the terminal, output is none, Ctrl-C comes once, and lines begin at the left."""
    program = tmp_path / "program.py"
    program.write_text("""
import os, signal, sys
said = []
signal.signal(signal.SIGINT, lambda *_: said.append("interrupt"))
print(os.isatty(0), os.isatty(1), os.isatty(2), flush=True)
input()
print("errors too", file=sys.stderr, flush=True)
print("hello", input(), flush=True)
input()
print(said, flush=True)
sys.exit(3)
""")
    script = tmp_path / "shell"
    words = " ".join(f"'{word}'" for word in command(sys.executable, str(program)))
    script.write_text(f"{words} | (trap '' INT; exec cat); echo code ${{PIPESTATUS[0]}}\n")
    screen.append(Screen(["/bin/bash", str(script)], environ, tmp_path))
    one = screen[0]
    one.wait_for("True False True")  # what comes by two ways at once is mixed by the terminal
    one.type(b"\n")
    one.wait_for("errors too")
    one.type(b"world\n")
    one.wait_for("hello world")
    one.type(b"\x03")
    one.wait_for("^C")
    one.type(b"\n")
    one.wait_for("['interrupt']")
    one.wait_for("code 3")

    assert one.seen.count(b"\n") == one.seen.count(b"\r\n")
    assert b"\r\r" not in one.seen


def test_output_that_is_piped_is_no_terminal(environ: dict[str, str], tmp_path: Path) -> None:
    """As without us, so that no colours and bars go into files."""
    ran = subprocess.run(
        command(sys.executable, "-c", "import os; print(os.isatty(1), os.isatty(2))"),
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
    )

    assert ran.stdout == b"False False\n"
