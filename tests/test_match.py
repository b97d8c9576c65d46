"""Rules × case → findings: which rules match, with what certainty, captures and evidence."""

from __future__ import annotations

from pathlib import Path

import pytest

from diagnose.match import KEEP, match
from diagnose.model import Case
from tests.support import case_of, facts_of, findings_in, rule, ruleset_of

TRACEBACK = """\
Traceback (most recent call last):
  File "/opt/venv/lib/python3.12/site-packages/vllm/worker.py", line 10, in load_model
    run()
  File "/opt/venv/lib/python3.12/site-packages/torch/cuda.py", line 20, in init
    raise RuntimeError("the device went away")
RuntimeError: the device went away: card 3
"""


def log_rule(
    name: str = "some-trouble", pattern: str = "the device went away", **parts: list[str]
) -> dict[str, object]:
    return rule(name, match={"log": [pattern], **parts})


def test_a_pattern_matches_a_line_and_captures(tmp_path: Path) -> None:
    """A finding knows the line, the exception raised there, and the named groups."""
    rules = ruleset_of(tmp_path, log_rule(pattern=r"went away: card (?P<card>\d+)"))
    [found] = findings_in(rules, TRACEBACK)
    assert (found.rule.id, found.certainty, found.captures) == ("some-trouble", "likely", {"card": "3"})
    assert [line.number for line in found.lines] == [6]
    assert [raised.exception for raised in found.raised if raised] == ["RuntimeError"]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [({"torch__version": "2.3.1"}, ["confirmed"]), ({"torch__version": "2.5.0"}, []), ({}, ["likely"]), ({"driver__version": "550"}, ["likely"])],
)  # fmt: skip
def test_facts_confirm_contradict_or_leave_open(tmp_path: Path, facts: dict[str, str], expected: list[str]) -> None:
    """A true condition confirms the finding, a false one drops it, an unknown one leaves it as likely."""
    rules = ruleset_of(tmp_path, log_rule(facts=["torch.version < 2.4"]))
    assert expected == [found.certainty for found in findings_in(rules, TRACEBACK, **facts)]


def test_what_was_used_and_what_was_missing_is_told(tmp_path: Path) -> None:
    """A finding names the facts that confirm it, and those that nobody told."""
    rules = ruleset_of(tmp_path, log_rule(facts=["torch.version < 2.4", "driver.version < 500"]))
    [found] = findings_in(rules, TRACEBACK, torch__version="2.3.1")
    assert ([fact.name for fact in found.facts], found.unknown) == (["torch.version"], ("driver.version",))
    [found] = findings_in(rules, TRACEBACK, torch__version="2.3.1", driver__version="470.1")
    assert [fact.name for fact in found.facts] == ["torch.version", "driver.version"]


def test_facts_may_ask_for_captures(tmp_path: Path) -> None:
    """A condition can set a captured value against the machine."""
    made = rule(
        "some-trouble",
        match={"log": [r"asked for (?P<asked>\d+ GiB) of memory"], "facts": ["capture.asked > gpu.0.memory"]},
    )
    rules = ruleset_of(tmp_path, made)
    assert [found.certainty for found in findings_in(rules, "asked for 90 GiB of memory", gpu__0__memory=80 << 30)] == [
        "confirmed"
    ]
    assert findings_in(rules, "asked for 9 GiB of memory", gpu__0__memory=80 << 30) == []


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("event.exception == RuntimeError", True),
        ("event.message matches 'card \\d'", True),
        ("event.library == torch", True),
        ("event.caller == vllm", True),
        ("event.frame == 'vllm/worker.py:load_model'", True),
        ("event.frames matches 'torch/cuda.py:init$'", True),
        ("event.phase == load", True),
        ("event.text matches 'run\\(\\)'", True),
        ("event.near matches 'line before it'", True),
        ("event.caller in [sglang, user]", False),
        ("event.exception != RuntimeError", False),
    ],
)
def test_where_asks_for_the_event(tmp_path: Path, condition: str, expected: bool) -> None:
    """Each name of an event that `where` may ask for has its value."""
    rules = ruleset_of(tmp_path, log_rule(where=[condition]))
    assert expected == bool(findings_in(rules, f"the line before it\n{TRACEBACK}"))


def test_where_must_hold_for_certain(tmp_path: Path) -> None:
    """A condition on a group that captured nothing does not hold."""
    made = rule(
        "some-trouble", match={"log": [r"the device went away(?:: slot (?P<slot>\d+))?"], "where": ["capture.slot < 5"]}
    )
    rules = ruleset_of(tmp_path, made)
    assert findings_in(rules, TRACEBACK) == []
    assert len(findings_in(rules, "the device went away: slot 4\n")) == 1


def test_unless_excuses_the_whole_event(tmp_path: Path) -> None:
    """A pattern of `unless` is looked for in every line of the event, and in no other event."""
    rules = ruleset_of(tmp_path, log_rule(unless=[r"run\(\)"]))
    assert findings_in(rules, TRACEBACK) == []
    assert (
        len(findings_in(rules, "run()\n\nINFO 11-02 09:14:02 a healthy line\nRuntimeError: the device went away\n"))
        == 1
    )


def test_the_most_telling_pattern_leads(tmp_path: Path) -> None:
    """In one event the first pattern of a rule wins the line, and what the others captured is kept besides."""
    made = rule("some-trouble", r"went away: card (?P<card>\d+)", r"/(?P<file>worker\.py).{0,40}in load_model")
    [found] = findings_in(ruleset_of(tmp_path, made), TRACEBACK)
    assert ([line.number for line in found.lines], found.captures) == ([6], {"card": "3", "file": "worker.py"})


def test_one_rule_gives_one_finding(tmp_path: Path) -> None:
    """The same trouble at several places is one finding with all of them as evidence, up to a limit."""
    rules = ruleset_of(tmp_path, log_rule(pattern=r"the device (?P<name>\w+) went away"))
    words = ["".join(chr(97 + int(digit)) for digit in f"{n:02}") for n in range(KEEP + 20)]
    text = "".join(f"the device {word} went away\nINFO 11-02 09:14:02 fine\n" for word in words)
    [found] = findings_in(rules, text)
    assert (len(found.events), found.captures["name"]) == (KEEP, "aa")


def test_a_general_rule_gives_a_finding_for_each_text(tmp_path: Path) -> None:
    """`kind: general` reads what the text tells, so two modules are two findings; numbers make no difference."""
    made = rule("general-trouble", r"No module named '(?P<module>\w+)'", kind="general")
    text = "ModuleNotFoundError: No module named 'aaa'\n\nModuleNotFoundError: No module named 'bbb'\n"
    assert [found.captures for found in findings_in(ruleset_of(tmp_path, made), text)] == [
        {"module": "aaa"},
        {"module": "bbb"},
    ]


def test_prefixes_and_colour_do_not_hide_a_line(tmp_path: Path) -> None:
    """`^` is the start of what was said, behind colour, process, level and time."""
    rules = ruleset_of(tmp_path, log_rule(pattern="^RuntimeError: the device went away$"))
    text = "\x1b[1;36m(EngineCore_DP0 pid=41)\x1b[0;0m ERROR 11-02 09:15:07 [core.py:708] RuntimeError: the device went away\n"
    assert len(findings_in(rules, text)) == 1


def test_a_pattern_never_spans_lines(tmp_path: Path) -> None:
    """What stands on two lines does not match as one."""
    rules = ruleset_of(tmp_path, log_rule(pattern=r"the device\s+went away"))
    assert findings_in(rules, "RuntimeError: the device\nwent away\n") == []


def test_facts_alone_are_an_environment_check(tmp_path: Path) -> None:
    """A rule without patterns needs no event: it is confirmed by the facts, and silent unless all are known."""
    rules = ruleset_of(tmp_path, rule("old-torch", match={"facts": ["torch.version < 2.4", "driver.version < 500"]}))
    case = case_of(rules, "nothing happened\n", torch__version="2.3", driver__version="470")
    assert [(found.rule.id, found.certainty) for found in match(rules, case)] == [("old-torch", "confirmed")]
    assert findings_in(rules, "nothing happened\n", torch__version="2.3") == []


def test_facts_of_the_text_itself_count(tmp_path: Path) -> None:
    """A pasted package list confirms a rule as a live machine would."""
    rules = ruleset_of(tmp_path, log_rule(facts=["torch.version < 2.4"]))
    assert [found.certainty for found in findings_in(rules, f"torch==2.3.1\n{TRACEBACK}")] == ["confirmed"]
    assert (facts_of({"torch.version": "2.3.1"})[0].name, "2.3.1") == ("torch.version", "2.3.1")


CHECK = {
    "match": {"facts": ["gpu.*.memory_used > 1 GiB"]},
    "title": "GPU {{instance}} ({{gpu.*.name|?}}) holds {{gpu.*.memory_used}}",
}
GPUS = {
    "gpu.0.name": "A",
    "gpu.0.memory_used": 2 << 30,
    "gpu.1.name": "B",
    "gpu.1.memory_used": 1 << 20,
    "gpu.10.name": "C",
    "gpu.10.memory_used": 3 << 30,
}


def test_a_rule_on_several_instances_is_one_finding(tmp_path: Path) -> None:
    """All instances for which the conditions hold are told together, the first of them fills the templates."""
    found = match(ruleset_of(tmp_path, rule("busy", **CHECK)), Case(facts_of(GPUS)))

    assert [("0", "10")] == [finding.instances for finding in found]
    assert [{"instance": "0"}] == [finding.captures for finding in found]
    assert [2 << 30, 3 << 30] == [fact.value for fact in found[0].facts]


def test_a_general_rule_on_several_instances_is_a_finding_for_each(tmp_path: Path) -> None:
    """Each unmet requirement, say, is a trouble of its own."""
    found = match(ruleset_of(tmp_path, rule("busy", kind="general", **CHECK)), Case(facts_of(GPUS)))

    assert [("0",), ("10",)] == [finding.instances for finding in found]


def test_conditions_of_a_rule_mean_one_and_the_same_instance(tmp_path: Path) -> None:
    """Nothing is found if one GPU fulfils the one condition and another GPU the other."""
    both = {"match": {"facts": ["gpu.*.memory_used > 1 GiB", "gpu.*.name == B"]}}
    assert [] == match(ruleset_of(tmp_path, rule("busy", **both)), Case(facts_of(GPUS)))


def test_a_fact_is_compared_with_another_fact(tmp_path: Path) -> None:
    """A name on the right is looked up; both facts are evidence, and an unknown one keeps the rule silent."""
    rules = ruleset_of(tmp_path, rule("old", match={"facts": ["driver.version < torch.version"]}))
    found = match(rules, Case(facts_of({"driver.version": "1.9", "torch.version": "1.10"})))

    assert [["driver.version", "torch.version"]] == [[fact.name for fact in finding.facts] for finding in found]
    assert [] == match(rules, Case(facts_of({"driver.version": "1.9"})))
