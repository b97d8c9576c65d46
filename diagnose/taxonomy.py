"""The failure taxonomy and the study's counts, read from `dataset/taxonomy.yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec import Struct

from diagnose.model import Share, Study


class Taxonomy(Struct, frozen=True):
    """`causes` maps a path to the study's name for it; `symptoms` maps a path to what the study saw.

    `exceptions` maps the class of an uncaught exception to its symptom leaf; `*` stands for any other class.
    """

    causes: dict[str, str]
    symptoms: dict[str, Study]
    exceptions: dict[str, str]

    STAGES = ("inference", "fine-tuning")
    OF_THE_EXCEPTION = "of-the-exception"


def read_taxonomy(path: Path) -> Taxonomy:
    """Read the taxonomy file. The symptom leaves carry their causes, most frequent first."""
    import yaml

    data: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))["first_mile"]
    causes = {leaf: str(entry["name"]) for leaf, entry in data["causes"].items()}
    symptoms = {
        leaf: Study(
            symptom=leaf,
            name=str(entry["name"]),
            count=int(entry["count"]),
            causes=tuple(Share(cause, causes[cause], int(count)) for cause, count in entry["causes"].items()),
        )
        for leaf, entry in data["symptoms"].items()
    }
    return Taxonomy(causes, symptoms, dict(data["exceptions"]))
