"""What Axolotl, LLaMA-Factory and torchtune refuse is told with its key and line before they are started."""

from __future__ import annotations

from pathlib import Path

import pytest

from diagnose import places
from diagnose.derive import complete
from diagnose.match import match
from diagnose.model import Case, Fact, Finding
from diagnose.rules import bundled_taxonomy, read_rules
from diagnose.ruleset import RuleSet, compile_rules
from diagnose.sources import training
from tests.sources.training.refused import Pair, pairs, text

PAIRS = pairs()
ZERO = '{{"zero_optimization": {{"stage": {stage}}}, "train_micro_batch_size_per_gpu": "auto"}}'


@pytest.fixture(scope="module")
def rules() -> RuleSet:
    taxonomy = bundled_taxonomy()
    return compile_rules(read_rules(places.rule_folders(), taxonomy), taxonomy)


def findings(rules: RuleSet, config: dict[str, object], release: str, folder: Path) -> list[Finding]:
    """What is told of a configuration that lies in a folder, beside DeepSpeed's of stages 2 and 3."""
    (folder / "config.yaml").write_text(text(config))
    for stage in (2, 3):
        (folder / f"ds{stage}.json").write_text(ZERO.format(stage=stage))
    (folder / "ds.json").write_text(ZERO.format(stage=2))
    facts = [item for item in training.read(["config.yaml"], {}, str(folder)) if isinstance(item, Fact)]
    if release:
        facts.append(Fact("axolotl.version", release, "environment"))
    return match(rules, Case(complete(tuple(facts)), ()))


@pytest.mark.parametrize("pair", PAIRS, ids=[pair.rule for pair in PAIRS])
def test_each_fault_is_told_where_it_stands(pair: Pair, rules: RuleSet, tmp_path: Path) -> None:
    """The rule finds the fault, its first evidence is the setting at fault with its line, and it is silent on the fine one."""
    found = [item for item in findings(rules, pair.refused, pair.release, tmp_path) if item.rule.id == pair.rule]
    assert len(found) == 1
    first = found[0].facts[0]
    assert first.origin == "config.yaml"
    assert first.key == pair.key
    assert first.line > 0
    assert pair.rule not in {item.rule.id for item in findings(rules, pair.fine, pair.release, tmp_path)}


@pytest.mark.parametrize("framework", ["axolotl", "llamafactory", "torchtune"])
def test_what_starts_is_not_called_an_error(framework: str, rules: RuleSet, tmp_path: Path) -> None:
    """No fine configuration has an error of its own framework's rules."""
    for pair in pairs(framework):
        wrong = {
            item.rule.id
            for item in findings(rules, pair.fine, pair.release, tmp_path)
            if item.rule.severity == "error" and item.rule.id.startswith(framework)
        }
        assert not wrong, (pair.rule, wrong)
