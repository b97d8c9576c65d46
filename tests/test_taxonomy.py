"""The failure taxonomy and the study's counts."""

from __future__ import annotations

import re

from tests.support import TAXONOMY

LEAF = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*(/[a-z0-9]+(-[a-z0-9]+)*)+")


def test_the_study_is_whole() -> None:
    """37 symptoms and 26 causes, and no record is lost between them: 706 in the study's data."""
    assert (len(TAXONOMY.symptoms), len(TAXONOMY.causes)) == (37, 26)
    assert sum(study.count for study in TAXONOMY.symptoms.values()) == 706


def test_the_causes_of_a_symptom_add_up() -> None:
    """The shares are of known causes, the most frequent first, and together the symptom's count."""
    for study in TAXONOMY.symptoms.values():
        counts = [share.count for share in study.causes]
        assert (study.count, sorted(counts, reverse=True)) == (sum(counts), counts)
        assert {share.cause for share in study.causes} <= set(TAXONOMY.causes)


def test_paths_are_the_names_in_kebab_case() -> None:
    """A path is the study's name, every part in kebab-case, joined by slashes."""
    names = {path: study.name for path, study in TAXONOMY.symptoms.items()} | TAXONOMY.causes
    for path, name in names.items():
        assert LEAF.fullmatch(path)
        assert path == "/".join(re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in name.split(" - "))


def test_every_exception_has_a_symptom() -> None:
    """Classes map to leaves of the taxonomy, and any other class has one too."""
    assert "*" in TAXONOMY.exceptions
    assert set(TAXONOMY.exceptions.values()) <= set(TAXONOMY.symptoms)
