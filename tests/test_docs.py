"""What the documentation says is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from diagnose.collect import case_of_files
from diagnose.facts import EVENT_NAMES, describe
from diagnose.rules import _OPTIONAL, _REQUIRED
from tests.support import ROOT, TAXONOMY, mistakes_in, ruleset_of

GUIDE = (ROOT / "docs" / "writing-rules.md").read_text(encoding="utf-8")


def example() -> str:
    """The rule that the guide shows."""
    found = re.search(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_guide_shows_every_key() -> None:
    """The example has each key that a rule may have, but for `retired`."""
    assert set(_REQUIRED + _OPTIONAL) - {"retired"} == set(yaml.safe_load(example()))


def test_the_guides_rule_is_right(tmp_path: Path) -> None:
    """It can be copied: only the rule that it leads to is missing."""
    said = [mistake.message for mistake in mistakes_in(tmp_path, example(), "kv-cache-too-small.yaml")]
    assert said == ["leads_to 'engine-core-failed': no such rule"]


def test_the_guide_names_what_where_can_ask() -> None:
    """Each name of an event stands in the table."""
    assert [name for name in EVENT_NAMES if f"`{name}`" not in GUIDE] == []


def test_the_guide_names_facts_that_there_are() -> None:
    """Each fact that the guide lists is in the catalogue."""
    section = GUIDE.split("## Facts\n")[1].split("##")[0]
    names = [name for name in re.findall(r"`([a-z][\w*.-]*\.[\w*.-]+)`", section) if name != "launch.arg.*"]
    assert names
    assert [name for name in names if describe(name) is None] == []


def test_the_labels_of_the_guide_are_in_the_taxonomy() -> None:
    """The example's symptom and cause exist."""
    labels = yaml.safe_load(example())["labels"]
    assert (labels["symptom"] in TAXONOMY.symptoms, labels["cause"] in TAXONOMY.causes) == (True, True)


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "examples").iterdir()), ids=lambda path: path.name)
def test_the_example_logs_are_logs(tmp_path: Path, path: Path) -> None:
    """Each example log can be read, and tells facts of itself."""
    case = case_of_files(ruleset_of(tmp_path), [str(path)], None)  # type: ignore[arg-type]
    assert (case.lines > 0, bool(case.facts)) == (True, True)


def test_links_within_the_documentation_lead_somewhere() -> None:
    """A relative link in a Markdown file names a file that is there."""
    broken = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8")):
            if not (page.parent / link).exists():
                broken.append(f"{page.name}: {link}")
    assert broken == []
