"""A diagnosis of a training's settings, as the formats of pipelines are tested with: errors, a warning, a note, hostile text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diagnose.causes import diagnose
from diagnose.match import match
from diagnose.model import Case, Diagnosis, Fact, Unchecked
from tests.support import rule, ruleset_of

HOSTILE = "a, b: 100% <x> & \x00\x1b[31m\n\u202e]]> ::error::"
"""What a file can hold: marks of workflow commands, of XML, of terminals."""


def environment_rule(name: str, condition: str, **changes: Any) -> dict[str, Any]:
    """A rule on facts alone."""
    return rule(name, match={"facts": [condition]}, **changes)


def diagnosis(tmp_path: Path, path: str = "conf/train.yaml", value: str = "auto") -> Diagnosis:
    """What three rules say of a training's settings."""
    rules = ruleset_of(
        tmp_path,
        environment_rule(
            "rate-too-high",
            "training.learning_rate > 0.01",
            title="{{key.training.learning_rate}} is {{training.learning_rate}} at {{place.training.learning_rate}}",
            fix=[{"do": "Write {{key.training.learning_rate}}: 2e-5", "run": "sed -i s/1/2/ x"}],
            references=["https://example.org/rates"],
        ),
        environment_rule("scheduler-odd", 'training.scheduler matches "."', severity="warning"),
        environment_rule("seed-set", "training.seed == 1", severity="note"),
        environment_rule("memory-small", "memory.usable < 100", severity="warning"),
    )
    facts = (
        Fact("training.file.0.path", path, path),
        Fact("training.learning_rate", 0.5, path, 12, 3, "optimizer.lr"),
        Fact("training.scheduler", value, path, 14, 1, "lr_scheduler_type"),
        Fact("training.seed", 1, path, 15, 1, "seed"),
        Fact("memory.usable", 10, "host"),
    )
    case = Case(facts, unchecked=(Unchecked("training data", "there is none"),), machine=True)
    return diagnose(rules, case, match(rules, case))
