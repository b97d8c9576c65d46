"""What a project sets for itself: found from any folder of it, and every slip told with its place."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose import project
from diagnose.errors import InputError
from diagnose.project import Project

WHOLE = """\
[project]
name = "mine"

[tool.llmdoctor]
select = ["training-*", "launch-engine"]
fail-on = "warning"
engines = ["trl"]
paths = ["conf/*.yaml"]
baseline = "known.json"

[tool.llmdoctor.ignore]
"learning-rate-high" = "a sweep goes through all rates"
"""


def put(folder: Path, text: str, name: str = "pyproject.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_settings_are_found_from_a_folder_below(tmp_path: Path) -> None:
    """The nearest file at or above counts, and its paths are told from where one stands."""
    put(tmp_path, WHOLE)
    (tmp_path / "a" / "b").mkdir(parents=True)
    found = project.find(str(tmp_path / "a" / "b"))

    assert found.select == ("training-*", "launch-engine")
    assert found.ignore == {"learning-rate-high": "a sweep goes through all rates"}
    assert (found.fail_on, found.engines, found.paths) == ("warning", ("trl",), ("conf/*.yaml",))
    assert found.inside(found.baseline) == "../../known.json"


def test_its_own_file_goes_before_pyproject(tmp_path: Path) -> None:
    """llmdoctor.toml has the keys at its top."""
    put(tmp_path, WHOLE)
    put(tmp_path, 'fail-on = "note"\n', "llmdoctor.toml")

    assert project.find(str(tmp_path)).fail_on == "note"


def test_a_pyproject_without_a_word_of_it_is_passed_over(tmp_path: Path) -> None:
    """The one above counts then; none at all is no error."""
    put(tmp_path, WHOLE)
    put(tmp_path / "sub", '[project]\nname = "llmdoctor-plugin"\n')

    assert project.find(str(tmp_path / "sub")).fail_on == "warning"
    assert project.find("/") == Project()


def test_the_search_ends_at_the_repository(tmp_path: Path) -> None:
    """What lies above the checkout is another project's."""
    put(tmp_path, WHOLE)
    (tmp_path / "repo" / ".git").mkdir(parents=True)

    assert project.find(str(tmp_path / "repo")) == Project()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[tool.llmdoctor]\nfail_on = "error"\n', "pyproject.toml:2:1: llmdoctor has no setting fail_on; did you mean fail-on?"),
        ('[tool.llmdoctor]\n  fail-on = "bad"\n', "pyproject.toml:2:3: fail-on must be one of error, warning, note, never"),
        ('[tool.llmdoctor]\nignore = ["a-rule"]\n', "pyproject.toml:2:1: ignore wants a reason for each rule"),
        ('[tool.llmdoctor.ignore]\na-rule = ""\n', "pyproject.toml:1:1: ignore wants a reason"),
        ('[tool.llmdoctor]\nselect = "a"\n', "pyproject.toml:2:1: select must be a list of texts"),
        ("[tool.llmdoctor]\nbaseline = 3\n", "pyproject.toml:2:1: baseline must be the path of a file"),
        ("[tool]\nllmdoctor = 1\n", "tool.llmdoctor must be a table"),
        ("[tool.llmdoctor\n", "it is no TOML"),
    ],
)  # fmt: skip
def test_a_slip_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    """File, line and column, and what to write instead."""
    path = put(tmp_path, text)
    with pytest.raises(InputError) as caught:
        project.read(str(path), "pyproject.toml")

    assert told in str(caught.value)


@given(st.binary(max_size=300))
def test_any_bytes_are_settings_or_an_error_for_a_person(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Nothing but InputError is raised."""
    path = tmp_path_factory.mktemp("any") / "llmdoctor.toml"
    path.write_bytes(data)
    with contextlib.suppress(InputError):
        project.read(str(path))


def test_a_list_of_reasons_does_as_well(tmp_path: Path) -> None:
    """`[[tool.llmdoctor.ignore]]` with rule and reason."""
    text = '[[tool.llmdoctor.ignore]]\nrule = "a-rule"\nreason = "known"\n'
    found = project.read(str(put(tmp_path, text)))

    assert found is not None
    assert found.ignore == {"a-rule": "known"}


def test_rules_are_named_by_id_family_or_star() -> None:
    """And a name that no rule has is told."""
    assert project.matches(("training-data",), "rows-broken", "training-data")
    assert project.matches(("rows-*",), "rows-broken", "training-data")
    assert not project.matches(("rows",), "rows-broken", "training-data")
    assert project.unknown(("rows-*", "cows-*"), {"rows-broken": "training-data"}) == ["cows-*"]
