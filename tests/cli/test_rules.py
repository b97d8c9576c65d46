"""`llmdoctor rules list | lint | new`."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from diagnose.cli.app import app
from diagnose.errors import DoctorError
from tests.support import rule, write_rules

PROOF = {"positive": ["here are the words of my-trouble"], "negative": ["here are none of them"]}


def test_list_names_every_rule_by_family(runner: CliRunner) -> None:
    """Family, id, severity and title; retired ones are marked."""
    done = runner.invoke(app, ["rules", "list"])
    family, first, second = done.stdout.splitlines()
    assert (family, done.stderr.strip()) == ("family", "2 rules")
    assert first.split() == ["first-trouble", "error", "The", "title", "of", "first-trouble"]
    assert second.endswith("(retired)")


def test_list_of_a_family(runner: CliRunner, tmp_path: Path) -> None:
    """Only that family's rules; an unknown family is told which there are."""
    mine = write_rules(tmp_path / "mine", [rule("my-trouble")])
    done = runner.invoke(app, ["rules", "list", "--family", "mine", "--rules", str(mine)])
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["mine", "my-trouble"]
    unknown = runner.invoke(app, ["rules", "list", "--family", "none"])
    assert str(unknown.exception) == "no rules in family 'none'; families: family"


def test_lint_runs_the_examples(runner: CliRunner, tmp_path: Path) -> None:
    """A positive that does not match, a negative that does and a wrong capture are mistakes with file and line."""
    words = r"the words of (?P<what>my-\w+)"
    examples = {
        "positive": ["nothing of it", {"log": "the words of my-trouble", "captures": {"what": "yours"}}],
        "negative": ["the words of my-own"],
    }
    mine = write_rules(tmp_path / "mine", [rule("my-trouble", words, examples=examples)])
    done = runner.invoke(app, ["rules", "lint", str(mine)])
    assert (done.exit_code, done.stderr.strip()) == (1, "3 mistakes")
    said = [line.split(": ", 1)[1] for line in done.stdout.splitlines()]
    assert said == [
        "positive example 1 does not match",
        "positive example 2: captured what = 'my-trouble', not 'yours'",
        "negative example 1 matches",
    ]
    assert all(line.startswith(f"{mine / 'my-trouble.yaml'}:") for line in done.stdout.splitlines())


def test_lint_of_good_rules(runner: CliRunner, tmp_path: Path) -> None:
    """All is well: exit 0, nothing on stdout, and a count."""
    mine = write_rules(tmp_path / "mine", [rule("my-trouble", examples=PROOF)])
    for path in (mine, mine / "my-trouble.yaml"):
        done = runner.invoke(app, ["rules", "lint", str(path)])
        assert (done.exit_code, done.stdout, done.stderr.strip()) == (0, "", "1 rules, 2 examples: all hold")


def test_lint_tells_all_mistakes_at_once(runner: CliRunner, tmp_path: Path) -> None:
    """Mistakes of reading and of the examples, in all files, in one run."""
    bad = rule("bad-trouble", severity="fatal", colour="red")
    unproven = rule("my-trouble", examples={"positive": ["nothing"], "negative": ["nothing"]})
    done = runner.invoke(app, ["rules", "lint", str(write_rules(tmp_path / "mine", [bad, unproven]))])
    assert (
        done.exit_code,
        [Path(line.split(":")[0]).stem for line in done.stdout.splitlines()],
    ) == (1, ["bad-trouble", "bad-trouble", "my-trouble"])


def test_lint_knows_the_bundled_rules(runner: CliRunner, tmp_path: Path) -> None:
    """A rule of one's own may lead to a bundled one, and may not take its id."""
    leading = rule("my-trouble", leads_to=["first-trouble"], examples=PROOF)
    assert runner.invoke(app, ["rules", "lint", str(write_rules(tmp_path / "a", [leading]))]).exit_code == 0
    taken = write_rules(tmp_path / "b", [rule("first-trouble")])
    assert "is already used by" in runner.invoke(app, ["rules", "lint", str(taken)]).stdout


def test_lint_of_nothing(runner: CliRunner) -> None:
    """A path that is not there is told."""
    done = runner.invoke(app, ["rules", "lint", "nowhere"])
    assert str(done.exception) == "nowhere: no such file or folder"


def test_a_new_rule_is_a_file_to_start_from(runner: CliRunner, tmp_path: Path) -> None:
    """It lies in its family, its path is told, and its linter finds no mistake but what is to be filled in."""
    done = runner.invoke(app, ["rules", "new", "my-trouble", "--family", "vllm", "--into", "mine"])
    assert (done.exit_code, done.stdout.strip()) == (0, "mine/vllm/my-trouble.yaml")
    assert runner.invoke(app, ["rules", "lint", "mine"]).exit_code == 0


def test_a_new_rule_replaces_nothing(runner: CliRunner) -> None:
    """A file that is there stays as it is."""
    arguments = ["rules", "new", "my-trouble", "--into", "mine"]
    runner.invoke(app, arguments)
    assert str(runner.invoke(app, arguments).exception) == "mine/my-trouble.yaml is already there"


@pytest.mark.parametrize("name", ["My Trouble", "my_trouble", "../my-trouble", "my-trouble\n", "-x-", ""])
def test_a_new_rule_has_a_good_id(runner: CliRunner, tmp_path: Path, name: str) -> None:
    """What is not kebab-case is refused, and nothing is written."""
    done = runner.invoke(app, ["rules", "new", "--into", "mine", "--", name])
    assert isinstance(done.exception, DoctorError)
    assert not (tmp_path / "mine").exists()


def test_a_new_rule_where_nothing_can_be_written(runner: CliRunner, tmp_path: Path) -> None:
    """A folder that cannot be made is told."""
    (tmp_path / "file").write_text("")
    done = runner.invoke(app, ["rules", "new", "my-trouble", "--into", "file/below"])
    assert str(done.exception) == "file/below/my-trouble.yaml: Not a directory"


def test_the_facts_are_listed_by_area(runner: CliRunner) -> None:
    """A word narrows the list; one that nothing has is told."""
    done = runner.invoke(app, ["rules", "facts", "compute_capability"])
    assert (done.exit_code, "GPUs\n  gpu.*.compute_capability" in done.output) == (0, True)
    missing = runner.invoke(app, ["rules", "facts", "no-such-fact"])
    assert "no fact has 'no-such-fact'" in str(missing.exception)
