"""The processes of a command, as /proc tells them."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from diagnose.run import tree
from tests.run.conftest import Ran


def test_who_descends_from_whom() -> None:
    """Parents before children; a process that is no descendant is none."""
    with subprocess.Popen(["sh", "-c", "cat; :"], stdin=subprocess.PIPE) as child:
        while not (found := [one for one in tree.descendants(tree.processes(), [child.pid]) if one.name == "cat"]):
            pass
        below = tree.descendants(tree.processes(), [child.pid])
        child.communicate()

    assert [one.pid for one in below] == [child.pid, found[0].pid]


def test_a_name_with_brackets_and_blanks_is_read(tmp_path: Path) -> None:
    """The kernel's format has the name in brackets."""
    program = tmp_path / "a) S (b c"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([str(program), "100"]) as child:
        while (one := tree.process(child.pid)) is None or one.name == "python":
            pass
        child.kill()

    assert one.parent == os.getpid()


@pytest.mark.parametrize(
    ("line", "status"), [("kill -9 $$", 9), ("kill -11 $$", 11), ("exit 3", 3 << 8), ("exit 0", 0)]
)
def test_how_a_process_ended_is_seen_before_its_parent_asks(line: str, status: int) -> None:
    """By its pidfd, though it is somebody else's to ask."""
    child = subprocess.Popen(["sh", "-c", f"read line; {line}"], stdin=subprocess.PIPE)
    handle = os.pidfd_open(child.pid)
    assert child.stdin is not None
    child.stdin.write(b"go\n")
    child.stdin.close()
    select.select([handle], [], [])
    told = tree.how_it_ended(handle, child.pid)
    os.close(handle)
    child.wait()

    assert told is not None
    assert told & 0x7F7F == status & 0x7F7F or told == status


def test_an_older_kernel_tells_it_while_the_parent_has_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Linux 6.15 there is nothing but /proc."""

    def unknown(*arguments: object) -> int:
        raise OSError(25, "Inappropriate ioctl for device")

    monkeypatch.setattr(tree.fcntl, "ioctl", unknown)
    child = subprocess.Popen(["sh", "-c", "kill -9 $$"])
    handle = os.pidfd_open(child.pid)
    select.select([handle], [], [])
    told = tree.how_it_ended(handle, child.pid)
    child.wait()

    assert told is not None
    assert os.WTERMSIG(told) == 9
    assert tree.how_it_ended(handle, child.pid) is None
    os.close(handle)


def test_only_variables_of_the_list_are_read() -> None:
    """What else stands in the environment of another process is not looked at."""
    environ = {"RANK": "3", "LOCAL_RANK": "1", "HF_TOKEN": "hf_secret", "PATH": os.environ["PATH"]}
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, env=environ) as child:
        while not (told := tree.variables(child.pid)):
            pass  # the program has begun, its variables are not in place yet
        child.communicate()

    assert told == {"RANK": "3", "LOCAL_RANK": "1"}
    assert tree.rank_of(told) == "3"


def test_a_process_that_is_gone_tells_nothing() -> None:
    """No error, whatever is asked."""
    child = subprocess.Popen(["true"])
    child.wait()

    assert tree.process(child.pid) is None
    assert tree.variables(child.pid) == {}
    assert tree.resident(child.pid) == (0, 0)
    assert tree.written_and_read(child.pid) == (0, 0)
    assert tree.open_files(child.pid) == 0
    assert tree.limits(child.pid) == {}
    assert tree.interpreter(child.pid) == ""


def test_limits_are_those_that_are_set() -> None:
    """Unlimited ones are absent."""
    with subprocess.Popen(["sh", "-c", "ulimit -n 77; exec cat"], stdin=subprocess.PIPE) as child:
        while tree.limits(child.pid).get("nofile") != 77:
            pass
        told = tree.limits(child.pid)
        child.communicate()

    assert "as" not in told


def test_the_environment_of_the_command_is_the_one_that_is_looked_at(
    doctor: Callable[..., Ran], script: Callable[..., tuple[str, str]], tmp_path: Path
) -> None:
    """The Python that was seen, though a script hides it."""
    link = tmp_path / "env" / "bin" / "python"
    link.parent.mkdir(parents=True)
    link.symlink_to(sys.executable)
    _, path = script("import time; time.sleep(1); raise SystemExit(3)")
    doctor("bash", "-c", f"{link} {path}; exit $?", options=("--report", "reports"))
    (case,) = (tmp_path / "reports").glob("*.case.json")

    assert f'"{link}"' in case.read_text()
