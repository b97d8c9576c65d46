"""Where a report goes: files, the job summary, baselines, a project's settings; the tiny model has a planted fault."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT, run_doctor, whole_installation

FOLDERS = ROOT / "tests" / "models" / "folders"
FAULT = "weights-file-cut-short"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation with all bundled rules."""
    return whole_installation(tmp_path_factory.mktemp("report") / "home")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A working folder with a model whose weights were cut short."""
    shutil.copytree(FOLDERS / "qwen2", tmp_path / "qwen2")
    weights = tmp_path / "qwen2" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    (tmp_path / ".git").mkdir()
    return tmp_path


def check(home: Path, work: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
    return run_doctor(home, "check", *words, "--no-machine", folder=work, **environ)


@pytest.mark.parametrize(
    ("name", "begins"), [("a.sarif", "{"), ("a.xml", "<?xml"), ("a.json", "{"), ("a.md", "|"), ("a.txt", "✓")]
)
def test_the_name_of_the_file_tells_its_format(home: Path, work: Path, name: str, begins: str) -> None:
    """The text still goes to standard output, for who reads the log of the job."""
    done = check(home, work, "qwen2", "--output", name)

    assert done.returncode == 1
    assert (work / name).read_text(encoding="utf-8").startswith(begins)
    assert FAULT in done.stdout.decode()
    assert f"{name}: 1 error" in done.stderr.decode()


def test_a_report_that_cannot_be_written_is_told_before_anything_is_read(home: Path, work: Path) -> None:
    """The folder is named, and nothing is left behind."""
    done = check(home, work, "qwen2", "--output", "none/a.sarif")

    assert (done.returncode, done.stdout) == (2, b"")
    assert "there is no folder none" in done.stderr.decode()


def test_a_link_and_a_pipe_stay_what_they_are(home: Path, work: Path) -> None:
    """The report goes where they lead; neither is replaced by a file."""
    (work / "real.json").write_text("old")
    (work / "real.json").chmod(0o600)
    (work / "link.json").symlink_to("real.json")
    os.mkfifo(work / "pipe.json")
    reader = os.open(work / "pipe.json", os.O_RDONLY | os.O_NONBLOCK)
    done = check(home, work, "qwen2", "--output", "link.json", "--output", "pipe.json", "--output", "/dev/stdout")
    os.close(reader)

    assert done.returncode == 1
    assert (work / "link.json").is_symlink()
    assert (work / "real.json").read_text(encoding="utf-8").startswith("{")
    assert (work / "real.json").stat().st_mode & 0o777 == 0o600
    assert (work / "pipe.json").is_fifo()
    assert done.stdout.decode().count(FAULT) >= 2


def test_a_report_does_not_take_the_place_of_what_is_checked(home: Path, work: Path) -> None:
    """A slip of the hand loses nobody's configuration."""
    (work / "train.yaml").write_text("learning_rate: 2.0e-5\noutput_dir: out\n")
    done = check(home, work, "--config", "train.yaml", "--output", "./train.yaml")

    assert done.returncode == 2
    assert "this check reads it" in done.stderr.decode()
    assert (work / "train.yaml").read_text().startswith("learning_rate")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_that_may_not_be_written_stays(home: Path, work: Path) -> None:
    """Though its folder would let another file take its place."""
    (work / "a.json").write_text("old")
    (work / "a.json").chmod(0o444)
    done = check(home, work, "qwen2", "--output", "a.json")

    assert done.returncode == 2
    assert "a.json: cannot be written: Permission denied" in done.stderr.decode()
    assert (work / "a.json").read_text() == "old"


@pytest.mark.parametrize("option", ["--config", "--data", "-f"])
def test_an_empty_name_is_told(home: Path, work: Path, option: str) -> None:
    """As a variable of the shell that is not set leaves it."""
    done = check(home, work, option, "")

    assert done.returncode == 2
    assert "empty word" in done.stderr.decode()


def test_a_device_that_is_full_is_told(home: Path, work: Path) -> None:
    """In a sentence with exit code 2."""
    done = check(home, work, "qwen2", "--output", "/dev/full")

    assert done.returncode == 2
    assert "/dev/full: cannot be written: No space left on device" in done.stderr.decode()


def test_the_job_summary_is_written_with_annotations(home: Path, work: Path) -> None:
    """Only in GitHub's format, and where the runner names a file; what stands there stays."""
    summary = work / "summary.md"
    summary.write_text("before\n", encoding="utf-8")
    done = check(home, work, "qwen2", "--format", "github", GITHUB_STEP_SUMMARY=str(summary))

    assert done.stdout.decode().startswith("::error ")
    assert summary.read_text(encoding="utf-8").startswith("before\n## llmdoctor\n")


def test_a_baseline_accepts_what_was_there(home: Path, work: Path) -> None:
    """Written once, it lets the same fault pass, and says so; a new one fails."""
    assert check(home, work, "qwen2", "--baseline", "known.json").returncode == 2
    assert check(home, work, "qwen2", "--baseline", "known.json", "--update-baseline").returncode == 0

    again = check(home, work, "qwen2", "--baseline", "known.json")
    assert again.returncode == 0
    assert "1 known to the baseline" in again.stdout.decode()

    (work / "qwen2" / "config.json").write_text("{", encoding="utf-8")
    assert check(home, work, "qwen2", "--baseline", "known.json").returncode == 1


def test_a_project_says_what_counts(home: Path, work: Path) -> None:
    """What it ignores is told with the reason; a flag goes before its threshold."""
    (work / "llmdoctor.toml").write_text(
        f'fail-on = "never"\n[ignore]\n{FAULT} = "a copy for tests"\nno-such-rule = "x"\n', encoding="utf-8"
    )
    done = check(home, work, "qwen2", "--fail-on", "note")

    assert f"{FAULT} ignored (a copy for tests)" in " ".join(done.stdout.decode().split())
    assert "ignore: no rule or family is named no-such-rule" in done.stderr.decode()


def test_a_project_names_what_is_checked(home: Path, work: Path) -> None:
    """`paths` count where the command line names nothing; one that leads nowhere is bad input."""
    settings = work / "llmdoctor.toml"
    settings.write_text('paths = ["qwen2"]\n', encoding="utf-8")
    done = check(home, work, "--format", "json")
    assert [cause["rule"] for cause in json.loads(done.stdout)["diagnoses"]][:1] == [FAULT]

    settings.write_text('paths = ["conf/*.yaml"]\n', encoding="utf-8")
    gone = check(home, work)
    assert gone.returncode == 2
    assert "llmdoctor.toml: paths: there is no conf/*.yaml" in gone.stderr.decode()


def test_a_slip_in_the_settings_is_bad_input(home: Path, work: Path) -> None:
    """Also on the quick way past the option parser."""
    (work / "llmdoctor.toml").write_text('fail_on = "error"\n', encoding="utf-8")
    done = run_doctor(home, "check", folder=work)

    assert done.returncode == 2
    assert "llmdoctor.toml:1:1: llmdoctor has no setting fail_on" in done.stderr.decode()


def test_each_engine_of_a_project_is_asked_for(home: Path, work: Path) -> None:
    """A name that nobody knows is told with its own name, beside one that is known."""
    (work / "llmdoctor.toml").write_text('engines = ["trl", "no-such-engine"]\n', encoding="utf-8")
    done = run_doctor(home, "check", "qwen2", "--no-machine", folder=work)

    assert done.returncode == 2
    assert "--for no-such-engine" in done.stderr.decode()
