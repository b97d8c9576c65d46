"""`llmdoctor explain RULE`."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from diagnose.cli.app import app
from diagnose.errors import DoctorError
from tests.support import rule, write_rules


def test_the_page_of_a_rule(runner: CliRunner) -> None:
    """The page is on stdout, and nothing else is."""
    done = runner.invoke(app, ["explain", "first-trouble"])
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith("The title of first-trouble\n===")


def test_a_retired_rule_still_answers(runner: CliRunner) -> None:
    """Its page says why it is retired."""
    assert "Retired: it went away" in runner.invoke(app, ["explain", "second-trouble"]).stdout


def test_a_rule_of_ones_own(runner: CliRunner, tmp_path: Path) -> None:
    """`--rules` counts here too."""
    mine = write_rules(tmp_path / "mine", [rule("my-trouble")])
    assert "The title of my-trouble" in runner.invoke(app, ["explain", "my-trouble", "--rules", str(mine)]).stdout


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("first-truoble", "did you mean first-trouble"),
        ("FIRST-TROUBLE", "no rule"),
        ("zzzzzzzz", "`llmdoctor rules list` names them all"),
    ],
)
def test_an_unknown_rule_suggests_the_nearest(runner: CliRunner, name: str, hint: str) -> None:
    """A slip of the keyboard gets the rule that was meant; nonsense gets the list."""
    done = runner.invoke(app, ["explain", name])
    assert isinstance(done.exception, DoctorError)
    assert hint in str(done.exception)
