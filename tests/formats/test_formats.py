"""The map of formats."""

from __future__ import annotations

from pathlib import Path

import pytest

from diagnose.formats import FORMATS, formatter
from tests.support import diagnosis_of, rule, ruleset_of


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_format_writes_every_diagnosis(tmp_path: Path, name: str) -> None:
    """A finding and no finding are both written, ending in one newline."""
    rules = ruleset_of(tmp_path, rule("a-cause"))
    for text in ("the words of a-cause\n", "nothing\n"):
        written = formatter(name)(diagnosis_of(rules, text))
        assert (written.endswith("\n"), written.endswith("\n\n")) == (True, False)


def test_an_unknown_format() -> None:
    """A name that is not listed is no format."""
    with pytest.raises(KeyError):
        formatter("docx")
