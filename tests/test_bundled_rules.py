"""The bundled rules: each is found by itself, holds its examples, keeps out of others' way, and is quiet on healthy logs."""

from __future__ import annotations

from pathlib import Path

import pytest

from diagnose import places
from diagnose.causes import diagnose
from diagnose.collect import case_of_files, case_of_text
from diagnose.match import match
from diagnose.model import Diagnosis, Example
from diagnose.proof import example_case, prove_rule
from diagnose.rules import RuleFile, bundled_taxonomy, read_rules, rule_paths
from diagnose.ruleset import RuleSet, compile_rules
from tests.healthy import HEALTHY

TAXONOMY = bundled_taxonomy()
FILES = read_rules(places.rule_folders(), TAXONOMY)
RULES = compile_rules(FILES, TAXONOMY)
CORPUS = Path(places.bundled("rules")).parents[1] / "shared" / "corpus"


def told(rules: RuleSet, example: Example) -> Diagnosis:
    """The diagnosis of an example."""
    case = example_case(rules, example)
    return diagnose(rules, case, match(rules, case))


@pytest.mark.parametrize("item", FILES, ids=[item.rule.id for item in FILES])
def test_a_rule_holds_its_examples(item: RuleFile) -> None:
    """Every positive example is matched with its captures, and no near miss is."""
    assert [] == prove_rule(RULES, item)


def test_every_rule_file_is_found() -> None:
    """A file below rules/ is a rule without being named anywhere."""
    assert len(rule_paths(places.rule_folders())) == len(FILES)


@pytest.mark.parametrize(
    "item",
    [item for item in FILES if item.rule.kind == "specific" and item.rule.severity != "note"],
    ids=lambda item: item.rule.id,
)
def test_a_specific_rule_comes_first_on_its_own_examples(item: RuleFile) -> None:
    """On a rule's own positive example the first diagnosis is that rule, one that explains it, or one of the same cause."""
    for example in item.positive:
        first = told(RULES, example).diagnoses[0]

        assert (
            first.rule == item.rule.id
            or first.cause == item.rule.labels.cause
            or item.rule.id in RULES.consequences(first.rule)
        ), f"{first.rule} is told first for: {example.log}"


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_log_has_nothing_above_a_note(name: str) -> None:
    """What engines, trainers, builds and kernels write while all is well is not diagnosed."""
    case = case_of_text(RULES, HEALTHY[name])
    found = diagnose(RULES, case, match(RULES, case)).diagnoses

    assert [] == [(cause.rule, cause.evidence[0].text) for cause in found if cause.severity != "note"]


@pytest.mark.parametrize("leaf", sorted(TAXONOMY.symptoms))
def test_every_symptom_leaf_has_a_rule(leaf: str) -> None:
    """Each symptom of the study is told by a rule, of its own or through the class of an exception."""
    assert leaf in {item.rule.labels.symptom for item in FILES} | set(TAXONOMY.exceptions.values())


@pytest.mark.parametrize("leaf", sorted(TAXONOMY.causes))
def test_every_cause_leaf_has_a_rule(leaf: str) -> None:
    """Each cause of the study is named by a rule."""
    assert leaf in {item.rule.labels.cause for item in FILES}


def test_wrappers_are_never_first_while_the_cause_is_there() -> None:
    """A wrapper above or below a known cause stands under it as a symptom."""
    example = Path(places.bundled("rules")).parent / "docs" / "examples" / "kv-cache.log"
    found = diagnose(RULES, case := case_of_text(RULES, example.read_text()), match(RULES, case)).diagnoses

    assert ["kv-cache-too-small"] == [cause.rule for cause in found if cause.severity == "error"]
    assert "engine-core-failed" in {symptom.rule for symptom in found[0].symptoms}


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of real logs is not there")
def test_real_quiet_logs_have_nothing_above_a_note_but_time_limits() -> None:
    """Long real training logs and a kernel log without a fault stay quiet, but for the limit that ended some."""
    loud = []
    for path in sorted((CORPUS / "quiet_logs").iterdir()):
        case = case_of_files(RULES, [str(path)], None)  # type: ignore[arg-type]
        found = diagnose(RULES, case, match(RULES, case)).diagnoses
        loud += [
            (path.name, cause.rule) for cause in found if cause.severity != "note" and cause.rule != "slurm-time-limit"
        ]

    assert [] == loud


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of real logs is not there")
def test_most_engine_outputs_get_a_specific_rule() -> None:
    """At least 85% of the outputs of mismatched engines are named by a specific rule."""
    paths = sorted((CORPUS / "engine_outputs").iterdir())
    specific = 0
    for path in paths:
        case = case_of_files(RULES, [str(path)], None)  # type: ignore[arg-type]
        found = diagnose(RULES, case, match(RULES, case)).diagnoses
        specific += bool(found) and found[0].kind == "specific"

    assert specific >= 0.85 * len(paths)
