"""The files of a report: none is overwritten, none holds a secret, and several machines may share a folder."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from diagnose.errors import InputError
from diagnose.model import Case, Fact
from diagnose.run.curve import Point
from diagnose.run.follow import Followed
from diagnose.run.report import case_of as case_of_run
from diagnose.run.report import judged, keep, prepare, stem_of, tells_why, write
from tests.support import facts_of, rule, ruleset_of


def test_names_begin_with_host_and_rank() -> None:
    """So that the nodes of a job do not meet in a folder."""
    assert stem_of("gpu-07.cluster.example.org", {}) == "gpu-07"
    assert stem_of("gpu-07", {"SLURM_PROCID": "3"}) == "gpu-07.rank3"
    assert stem_of("pod", {"JOB_COMPLETION_INDEX": "2"}) == "pod.rank2"
    assert stem_of("../a b", {"RANK": "../x"}) == "host"


def test_many_who_start_at_once_get_names_of_their_own(tmp_path: Path) -> None:
    """On one machine, in one folder."""
    stems: list[str] = []
    threads = [
        threading.Thread(target=lambda: stems.append(prepare(str(tmp_path / "reports"), {}).stem)) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(stems)) == 20


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    """A file where a folder should be."""
    (tmp_path / "file").touch()
    for path in ("file", "file/below"):
        with pytest.raises(InputError, match="name a folder"):
            prepare(str(tmp_path / path), {})


def test_no_secret_reaches_a_file(tmp_path: Path) -> None:
    """Neither the output nor a fact."""
    rules = ruleset_of(tmp_path / "rules", rule("some-trouble", "the words of trouble"))
    secret = "hf_" + "abcDEFghiJKLmnoPQRstuVWXyz0123456789"
    text = f"export HF_TOKEN={secret}\nthe words of trouble {secret}\n"
    case = case_of_run(rules, text, Followed(), [Fact("run.program", secret, "the run")], Case(machine=True))
    files = prepare(str(tmp_path / "reports"), {})

    assert keep(files, text, []) + write(files, case, judged(rules, case), f"stack of {secret}\n") == []
    written = [path.read_text() for path in (tmp_path / "reports").iterdir()]
    assert len(written) == 6
    assert not any(secret in part for part in written)
    assert any("the words of trouble" in part for part in written)


def test_the_curve_is_columns_of_numbers(tmp_path: Path) -> None:
    """What was not known is null."""
    files = prepare(str(tmp_path), {})
    keep(files, "", [Point(0.5, 100), Point(1.0, 200, 300)])

    assert json.loads(Path(files.path("memory.json")).read_text()) == {
        "seconds": [0.5, 1.0],
        "memory": [100, 200],
        "available": [None, 300],
        "limit_used": [None, None],
        "gpu_used": [None, None],
        "shm_free": [None, None],
    }


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    """The folder is gone: a sentence for each file, and nothing raised."""
    rules = ruleset_of(tmp_path / "rules", rule("some-trouble"))
    files = prepare(str(tmp_path / "reports"), {})
    Path(files.path("output.log")).unlink()
    (tmp_path / "reports").rmdir()

    assert len(keep(files, "", []) + write(files, Case(), judged(rules, Case()))) == 5


def test_notes_on_the_machine_are_no_reason(tmp_path: Path) -> None:
    """They are left out of a run's report; a warning stays, and is said to be beside the matter."""
    rules = ruleset_of(
        tmp_path / "rules",
        rule("a-note", severity="note", match={"facts": ["os.name == Linux"]}),
        rule("a-warning", severity="warning", match={"facts": ["os.name == Linux"]}),
        rule("an-end", match={"facts": ["run.signal == SIGKILL"]}),
    )
    machine = Case(facts_of({"os.name": "Linux"}), origins=("the output",), machine=True)
    both = Case((*machine.facts, *facts_of({"run.signal": "SIGKILL"})), origins=("the output",), machine=True)

    assert [cause.rule for cause in judged(rules, machine).diagnoses] == ["a-warning"]
    assert not tells_why(judged(rules, machine))
    assert [cause.rule for cause in judged(rules, both).diagnoses] == ["an-end", "a-warning"]
    assert tells_why(judged(rules, both))
