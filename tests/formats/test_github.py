"""Annotations of GitHub Actions: one line each, whatever the text holds."""

from __future__ import annotations

import re
from pathlib import Path

from msgspec.structs import replace

from diagnose.formats.github import write
from tests.formats.pipelines import HOSTILE, diagnosis

COMMAND = re.compile(r"::(error|warning|notice) (file=[^,:]*(?:,line=\d+)?(?:,col=\d+)?,title=[^,:]*)::(.*)")


def test_an_annotation_has_file_line_and_column(tmp_path: Path) -> None:
    """As the runner reads it."""
    first = write(diagnosis(tmp_path)).split("\n")[0]

    assert first.startswith(
        "::error file=conf/train.yaml,line=12,col=3,title=llmdoctor%3A rate-too-high::optimizer.lr is 0.5"
    )
    assert "%0A" in first


def test_every_line_is_a_command_but_the_last(tmp_path: Path) -> None:
    """Nothing in a file can end a command early or start another one."""
    *lines, count, end = write(diagnosis(tmp_path, "a,b:c.yaml", HOSTILE)).split("\n")

    assert all(COMMAND.fullmatch(line) for line in lines)
    assert (count, end) == ("llmdoctor: 1 error, 2 warnings, 1 note", "")


def test_nothing_found_is_said(tmp_path: Path) -> None:
    """A log without a word would look like a step that did not run."""
    assert write(replace(diagnosis(tmp_path), diagnoses=())) == "llmdoctor: nothing found that stands in the way\n"
