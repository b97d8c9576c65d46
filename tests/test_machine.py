"""A machine → a case: sources side by side, masked as they come in, and what could not be read is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from diagnose import machine
from diagnose.collect import case_of_text
from diagnose.machine import Request, case_of_machine, joined
from diagnose.model import Case, Fact, Output, Reading, Unchecked
from diagnose.sources.child import Source
from tests.support import facts_of, rule, ruleset_of

TOKEN = "hf_" + "aB3dE6gH9jK2mN5pQ8sT1vW4xY7zA0cD3f"  # not a real one
ENVIRONMENT = {"packages.count": 2, "transformers.version": "5.20.0", "torch.version": "2.9.0"}


def read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *readings: Reading, **request: Any) -> Case:
    """The case of a machine whose only source yields some readings."""
    source = Source("a source", lambda: iter(readings), 30)
    monkeypatch.setattr(machine, "_sources", lambda request, interpreter: [source])
    monkeypatch.setattr(
        machine, "_interpreter", lambda request: iter([Fact("python.path", "/usr/bin/python3", "test")])
    )
    rules = ruleset_of(tmp_path / "rules", rule("a-cause", "the words of a-cause"))
    return case_of_machine(
        lambda: rules, Request(**{"environ": {"PATH": "/nowhere"}, "folder": str(tmp_path)} | request)
    )


def wanted(case: Case) -> dict[str, Any]:
    return {fact.name: fact.value for fact in case.facts if fact.name.startswith("wanted.")}


def test_facts_outputs_and_what_was_not_checked_make_a_case(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a probe printed meets the log rules; the case knows that it is a machine's."""
    gap = Unchecked("a part", "no right to read it")
    case = read(monkeypatch, tmp_path, *facts_of({"gpu.count": 1}), Output("deep: it", "the words of a-cause\n"), gap)

    assert (True, (), (gap,)) == (case.machine, case.origins, case.unchecked)
    assert [("deep: it", 1)] == [(event.origin, event.line) for event in case.events]
    assert [1] == [fact.value for fact in case.facts if fact.name == "gpu.count"]


def test_of_two_facts_with_one_name_the_first_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A second opinion does not overrule what was read first."""
    case = read(monkeypatch, tmp_path, Fact("driver.version", "580", "NVML"), Fact("driver.version", "570", "other"))

    assert ["580"] == [fact.value for fact in case.facts if fact.name == "driver.version"]


def test_secrets_never_enter_the_case(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A token in a fact, in what a probe printed, and in a reason is masked on its way in."""
    case = read(
        monkeypatch,
        tmp_path,
        Fact("env.HF_HOME", f"/data/{TOKEN}", "environment"),
        Output("deep: it", f"the words of a-cause, with {TOKEN}\n"),
        Unchecked("a part", f"refused {TOKEN}"),
    )

    assert TOKEN not in repr(case)
    assert [True, True] == ["hf_***" in repr(part) for part in (case.events, case.unchecked)]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("transformers", {"kind": "package", "installed": True, "torch": True}),
        ("vLLM", {"name": "vllm", "kind": "package", "installed": False, "torch": True}),
        ("flash_attn", {"name": "flash-attn", "kind": "package", "installed": False, "torch": True}),
        ("llama.cpp", {"name": "llama-cpp", "kind": "program", "installed": False, "torch": True}),
        ("qwen3_moe", {"kind": "model-type", "loader": True}),
        ("GPT-OSS", {"name": "gpt_oss", "kind": "model-type", "loader": True}),
        ("open_llama", {"name": "open-llama", "kind": "model-type"}),
        ("trl[vllm]", {"name": "trl", "kind": "package", "installed": False}),
        ("transformers==5.20.0", {"name": "transformers", "kind": "package", "installed": True}),
    ],
)
def test_what_is_wanted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, found: dict[str, Any]) -> None:
    """`--for` may be a package however it is spelt, a program, or a model type of the tables."""
    case = read(monkeypatch, tmp_path, *facts_of(ENVIRONMENT), wanted=name)
    told = wanted(case)

    assert {f"wanted.{key}": value for key, value in ({"name": name} | found).items()}.items() <= told.items()
    assert ("wanted.installed" in told) == ("installed" in found)


def test_a_wish_that_nobody_knows_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A misspelt name is no missing package: nobody should be told to install it."""
    case = read(monkeypatch, tmp_path, *facts_of(ENVIRONMENT), wanted="transfromers")

    assert {} == wanted(case)
    assert ["--for transfromers"] == [item.what for item in case.unchecked]
    assert "did you mean transformers?" in case.unchecked[0].why


@pytest.mark.parametrize("name", ["tgi", "deepseek-r1", "Qwen/Qwen3-8B", "text-generation-inference"])
def test_a_wish_that_resembles_nothing_gets_no_guess(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """A far-fetched suggestion is worse than none; where a model may be meant, how its type is found is told."""
    case = read(monkeypatch, tmp_path, *facts_of(ENVIRONMENT), wanted=name)

    assert [False] == ["did you mean" in item.why for item in case.unchecked]
    assert "config.json" in case.unchecked[0].why


def test_a_package_lost_in_an_upgrade_is_not_told_a_second_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """That its removal broke off says more than that it is not installed."""
    lost = {"leftover.0.package": "peft", "leftover.0.package_gone": True}
    case = read(monkeypatch, tmp_path, *facts_of(ENVIRONMENT | lost), wanted="peft")

    assert {"wanted.name": "peft", "wanted.kind": "package"} == wanted(case)


def test_a_model_type_without_anything_to_load_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing found that stands in the way would be untrue."""
    case = read(monkeypatch, tmp_path, *facts_of({"packages.count": 3}), wanted="gemma3")

    assert wanted(case)["wanted.loader"] is False


def test_without_an_environment_nothing_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Packages that could not be looked at are unknown, not absent."""
    assert "wanted.installed" not in wanted(read(monkeypatch, tmp_path, wanted="vllm"))


def test_a_path_that_is_no_interpreter_leaves_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is read all the same, and the reason is told."""
    asked: list[str] = []

    def sources(request: Request, interpreter: str) -> list[Source]:
        asked.append(interpreter)
        return [Source("a source", lambda: iter(facts_of({"gpu.count": 0})), 30)]

    monkeypatch.setattr(machine, "_sources", sources)
    request = Request({}, str(tmp_path), python=str(tmp_path / "nothing"))
    case = case_of_machine(lambda: ruleset_of(tmp_path / "rules"), request)

    assert [""] == asked
    assert ["gpu.count"] == [fact.name for fact in case.facts if fact.origin == "test"]
    assert ["the Python environment"] == [item.what for item in case.unchecked]


def test_a_source_that_hangs_costs_only_its_own_facts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The others are whole, and the report says who did not answer."""
    monkeypatch.setattr(machine, "SECONDS", 1.0)

    def hanging() -> Iterator[Reading]:
        yield Fact("gpu.vendor", "nvidia", "test")
        import time

        time.sleep(600)

    sources = [Source("GPU driver", hanging, 60), Source("host", lambda: iter(facts_of({"cpu.cores": 2})), 60)]
    monkeypatch.setattr(machine, "_sources", lambda request, interpreter: sources)
    monkeypatch.setattr(machine, "_interpreter", lambda request: iter([]))
    case = case_of_machine(lambda: ruleset_of(tmp_path / "rules"), Request({}, str(tmp_path)))

    assert {"gpu.vendor", "cpu.cores"} <= {fact.name for fact in case.facts}
    assert ["GPU driver"] == [item.what for item in case.unchecked]


@pytest.mark.parametrize(
    ("machine", "model", "told"), [(False, "", False), (True, "", True), (False, "/data/models/llm", True)]
)
def test_a_model_that_lies_where_the_training_runs(tmp_path: Path, machine: bool, model: str, told: bool) -> None:
    """Settings that are checked apart from the machine that trains name paths of that one; a model that is asked for is looked at."""
    (tmp_path / "train.yaml").write_text(
        "model_name_or_path: /data/models/llm\nmax_length: 512\npacking: false\nuse_peft: true\n"
    )
    asked = Request({}, str(tmp_path), model=model, configs=("train.yaml",), machine=machine)
    case = case_of_machine(lambda: ruleset_of(tmp_path / "rules"), asked)

    assert (("model.problem", "no-such-path") in {(fact.name, fact.value) for fact in case.facts}) is told
    assert ("the model" in {item.what for item in case.unchecked}) is not told


def test_a_log_keeps_its_own_facts_beside_a_machines(tmp_path: Path) -> None:
    """What the log tells of itself goes first; what follows from it is worked out anew."""
    rules = ruleset_of(tmp_path)
    log = case_of_text(rules, "torch==2.1.0\n", "a.log")
    both = joined(log, Case(facts_of({"torch.version": "2.9.0", "gpu.count": 4}), machine=True))
    values = {fact.name: fact.value for fact in both.facts}

    assert ("2.1.0", 4) == (values["torch.version"], values["gpu.count"])
    assert (("a.log",), 1, True) == (both.origins, both.lines, both.machine)


def test_another_environment_than_the_logs_is_told(tmp_path: Path) -> None:
    """Versions that differ are named, so that nobody trusts the packages of the wrong environment; equal ones are not."""
    rules = ruleset_of(tmp_path)
    log = case_of_text(rules, "torch==2.1.0\nvllm==0.9.0\n", "a.log")
    other = joined(log, Case(facts_of({"torch.version": "2.9.0", "vllm.version": "0.9.0"}), machine=True))
    same = joined(log, Case(facts_of({"torch.version": "2.1.0+cu121", "vllm.version": "0.9"}), machine=True))

    assert ["the log tells torch 2.1.0 (here 2.9.0); if it is another one, name it with --python"] == [
        item.why for item in other.unchecked
    ]
    assert () == same.unchecked
