"""`diagnose.install()` in a program of its own: the traceback as ever, the diagnosis below, the exit code kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support import ROOT

PROGRAM = """\
import diagnose
diagnose.install()
{lines}
"""


def run(tmp_path: Path, lines: str) -> subprocess.CompletedProcess[str]:
    """Run a program with the hook."""
    file = tmp_path / "train.py"
    file.write_text(PROGRAM.format(lines=lines), encoding="utf-8")
    return subprocess.run(
        [sys.executable, str(file)],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )


def test_an_exception_is_shown_and_diagnosed(tmp_path: Path) -> None:
    """The traceback stands first, then the cause with its fix."""
    done = run(tmp_path, "raise ValueError('Asking to pad but the tokenizer does not have a padding token.')")

    traceback, _, report = done.stderr.partition("ValueError: Asking to pad")
    assert traceback.startswith("Traceback")
    assert "Fix" in report
    assert done.returncode == 1


def test_an_end_that_is_no_failure_is_left_alone(tmp_path: Path) -> None:
    """sys.exit and Ctrl-C are nobody's failure."""
    assert run(tmp_path, "raise SystemExit(3)").returncode == 3
    assert "Fix" not in run(tmp_path, "raise KeyboardInterrupt").stderr


def test_the_hook_before_is_kept_and_put_back(tmp_path: Path) -> None:
    """Also where install is called twice."""
    lines = "import sys; diagnose.install(); diagnose.uninstall(); assert sys.excepthook is sys.__excepthook__; print('back')"

    assert run(tmp_path, lines).stdout == "back\n"
