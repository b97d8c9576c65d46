"""Findings → diagnosis: the cause first, its consequences under it, and what was not known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from diagnose.causes import diagnose
from diagnose.collect import case_of_files, case_of_text
from diagnose.match import match
from diagnose.model import Case, Diagnosis, Fact
from tests.support import LIBRARY, OUT_OF_MEMORY, TAXONOMY, diagnosis_of, facts_of, rule, ruleset_of

GAP = "INFO 11-02 09:14:02 [core.py:1] all is well so far\n"
FRAME = '  File "/opt/venv/lib/python3.12/site-packages/{0}.py", line 7, in run\n    work()\n'


def order(diagnosis: Diagnosis) -> list[str]:
    return [cause.rule for cause in diagnosis.diagnoses]


def under(diagnosis: Diagnosis) -> list[list[str]]:
    return [[symptom.rule for symptom in cause.symptoms] for cause in diagnosis.diagnoses]


def traceback(message: str, package: str = "vllm/a") -> str:
    return f"Traceback (most recent call last):\n{FRAME.format(package)}{message}\n"


def several(tmp_path: Path, *rules: dict[str, Any], **logs: str) -> Diagnosis:
    """The diagnosis of several files."""
    compiled = ruleset_of(tmp_path / "rules", *rules)
    paths = []
    for name, text in logs.items():
        (tmp_path / f"{name}.log").write_text(text, encoding="utf-8")
        paths.append(str(tmp_path / f"{name}.log"))
    case = case_of_files(compiled, paths, None)  # type: ignore[arg-type]
    return diagnose(compiled, case, match(compiled, case))


def test_specific_above_general_above_warning_above_note(tmp_path: Path) -> None:
    """Whatever stands first in the log: the specific cause leads, the note comes last."""
    rules = ruleset_of(
        tmp_path,
        rule("a-note", "words of the note", severity="note"),
        rule("a-warning", "words of the warning", severity="warning"),
        rule("a-general", "words of the general one", kind="general"),
        rule("a-possible", "words of the possible one", certainty="possible"),
        rule("a-cause", "words of the cause"),
    )
    parts = ("note", "warning", "possible one", "general one", "cause")
    text = GAP.join(f"words of the {part}\n" for part in parts)
    assert order(diagnosis_of(rules, text)) == ["a-cause", "a-general", "a-possible", "a-warning", "a-note"]


def test_a_general_finding_on_the_line_of_a_specific_one_is_not_said(tmp_path: Path) -> None:
    """One line is told once, by the rule that knows it best."""
    rules = ruleset_of(
        tmp_path, rule("a-general", "No module named", kind="general"), rule("a-cause", "No module named 'flash_attn'")
    )
    assert order(diagnosis_of(rules, "ModuleNotFoundError: No module named 'flash_attn'\n")) == ["a-cause"]


def test_a_wrapper_is_a_symptom_of_the_cause(tmp_path: Path) -> None:
    """ "See root cause above" stands under the cause, even where it comes first."""
    rules = ruleset_of(
        tmp_path, rule("a-wrapper", "See root cause above", kind="wrapper"), rule("a-cause", "words of the cause")
    )
    for text in (
        f"See root cause above\n{GAP}words of the cause\n",
        f"words of the cause\n{GAP}See root cause above\n",
    ):
        found = diagnosis_of(rules, text)
        assert (order(found), under(found)) == (["a-cause"], [["a-wrapper"]])


def test_a_wrapper_alone_says_where_to_look(tmp_path: Path) -> None:
    """Without the cause in the text the wrapper is told, with advice to bring the other logs."""
    rules = ruleset_of(tmp_path, rule("a-wrapper", "See root cause above", kind="wrapper"))
    found = diagnosis_of(rules, "See root cause above\n")
    assert order(found) == ["a-wrapper"]
    assert any("logs of all ranks" in advice.what for advice in found.advice)


def test_leads_to_puts_the_consequence_under_its_cause(tmp_path: Path) -> None:
    """What one rule leads to is its symptom, directly or by way of rules that did not match."""
    rules = ruleset_of(
        tmp_path,
        rule("a-cause", "words of the cause", leads_to=["a-link"]),
        rule("a-link", "words of the link", leads_to=["an-effect"]),
        rule("an-effect", "words of the effect"),
    )
    found = diagnosis_of(rules, f"words of the effect\n{GAP}words of the cause\n")
    assert (order(found), under(found)) == (["a-cause"], [["an-effect"]])


def test_the_first_exception_of_a_chain_is_the_cause(tmp_path: Path) -> None:
    """Of exceptions chained to one event the first raised leads; the others are its symptoms."""
    rules = ruleset_of(tmp_path, rule("an-effect", "words of the effect"), rule("a-cause", "words of the cause"))
    chain = "\nThe above exception was the direct cause of the following exception:\n\n"
    found = diagnosis_of(
        rules, traceback("OSError: words of the cause") + chain + traceback("RuntimeError: words of the effect")
    )
    assert (order(found), under(found)) == (["a-cause"], [["an-effect"]])


def test_among_equals_the_first_in_the_text_leads(tmp_path: Path) -> None:
    """Two independent causes stand in the order of their lines."""
    rules = ruleset_of(tmp_path, rule("b-cause", "words of the second"), rule("a-cause", "words of the first"))
    assert order(diagnosis_of(rules, f"words of the first\n{GAP}words of the second\n")) == ["a-cause", "b-cause"]


def test_several_files_are_ordered_by_time(tmp_path: Path) -> None:
    """The rank that failed first leads, wherever its file stands."""
    first, second = rule("first-cause", "words of the first"), rule("second-cause", "words of the second")
    late = "ERROR 11-02 09:15:07 [core.py:1] words of the second\n"
    early = "ERROR 11-02 09:15:01 [core.py:1] words of the first\n"
    assert order(several(tmp_path, first, second, a=late, b=early)) == ["first-cause", "second-cause"]


def test_one_of_several_files_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """The others are diagnosed, and the report says which was not looked at and why."""
    found = several(tmp_path, rule("a-cause", "words of the cause"), a="words of the cause\n", b="")
    assert order(found) == ["a-cause"]
    assert [(str(tmp_path / "b.log"), True)] == [(item.what, "is empty" in item.why) for item in found.unchecked]


def test_a_possible_finding_brings_the_study(tmp_path: Path) -> None:
    """Where only the symptom is certain, it says how often each cause was behind it; else it does not."""
    labels = {"symptom": OUT_OF_MEMORY, "cause": "hardware-and-resource-limitations/gpu-memory-insufficiency"}
    rules = ruleset_of(
        tmp_path,
        rule("a-possible", "words of the possible one", certainty="possible", labels=labels),
        rule("a-cause", "words of the cause", labels=labels),
    )
    [possible] = diagnosis_of(rules, "words of the possible one\n").diagnoses
    assert TAXONOMY.symptoms[OUT_OF_MEMORY] == possible.study
    [likely] = diagnosis_of(rules, "words of the cause\n").diagnoses
    assert likely.study is None


def test_the_symptom_of_the_exception(tmp_path: Path) -> None:
    """`of-the-exception` becomes the leaf of the class that was raised."""
    labels = {"symptom": "of-the-exception", "cause": "api-usage-and-interface-issues/function-call-parameter-error"}
    rules = ruleset_of(tmp_path, rule("a-cause", "words of the cause", labels=labels))
    for name, leaf in (("TypeError", "crash/value-related-error/typeerror"), ("StrangeError", "crash/other-crashes")):
        [cause] = diagnosis_of(rules, traceback(f"{name}: words of the cause")).diagnoses
        assert leaf == cause.symptom


def test_fixes_are_chosen_by_what_was_captured(tmp_path: Path) -> None:
    """An alternative with `when` is shown where it holds; one without always; and never none at all."""
    fix = [
        {"do": "Move it", "when": ["capture.free >= 1 GiB"]},
        {"do": "Shrink {{asked}}", "when": ["capture.free < 1 GiB"]},
        {"do": "Wait"},
    ]
    made = rule("a-cause", r"asked for (?P<asked>\d+ \w+), free: (?P<free>\d+ \w+)", fix=fix)
    rules = ruleset_of(tmp_path / "a", made)
    for text, expected in (
        ("asked for 9 GiB, free: 2 GiB", ["Move it", "Wait"]),
        ("asked for 9 GiB, free: 2 MiB", ["Shrink 9 GiB", "Wait"]),
    ):
        [cause] = diagnosis_of(rules, text).diagnoses
        assert expected == [fix.do for fix in cause.fix]
    rules = ruleset_of(
        tmp_path / "b", rule("a-cause", fix=fix[:1], match={"log": ["words of the cause(?P<free>\\d+)?"]})
    )
    assert [fix.do for fix in diagnosis_of(rules, "words of the cause").diagnoses[0].fix] == ["Move it"]


def test_texts_carry_the_values_of_the_log(tmp_path: Path) -> None:
    """Title, why, fix and expectation are told with what was captured, known and launched."""
    fix = [
        {
            "do": "Give {{what}} to {{model}}",
            "run": "serve {{model}} --by '{{what}}'",
            "verify": "see {{what}}",
            "expect": "{{torch.version}}",
        }
    ]
    made = rule("a-cause", "lack of (?P<what>[^.]+) here", title="Lacks {{what}}", why="Because of {{what}}", fix=fix)
    text = "torch==2.3.1\nnon-default args: {'model': '/data/my-model', 'port': 8000}\n(APIServer pid=1) lack of $(reboot) here\n"
    [cause] = diagnosis_of(ruleset_of(tmp_path, made), text, launch__arg__model="/data/my-model").diagnoses
    assert (cause.title, cause.why) == ("Lacks $(reboot)", "Because of $(reboot)")
    assert (
        cause.fix[0].do,
        cause.fix[0].run,
    ) == ("Give $(reboot) to /data/my-model", "serve /data/my-model --by '<what>'")
    assert (cause.fix[0].verify, cause.fix[0].expect) == ("see '$(reboot)'", "2.3.1")


def test_the_evidence_is_the_line_and_the_frame_to_blame(tmp_path: Path) -> None:
    """First the line that proves it, then the frame of the library at fault with its code, each with its numbers."""
    text = (
        GAP
        + "Traceback (most recent call last):\n"
        + FRAME.format("vllm/a")
        + FRAME.format("torch/b")
        + "OSError: words of the cause\n"
    )
    [cause] = diagnosis_of(ruleset_of(tmp_path, rule("a-cause", "words of the cause")), text).diagnoses
    assert [(item.line, item.end_line, item.role) for item in cause.evidence] == [(7, 7, "match"), (3, 4, "frame")]
    assert cause.evidence[0].text == "OSError: words of the cause"
    assert "vllm/a.py" in cause.evidence[1].text


def test_the_same_on_all_ranks_is_told_once(tmp_path: Path) -> None:
    """Eight ranks with one trouble are one cause, seen eight times, with the ranks that said it."""
    text = "".join(f"[rank{rank}]: RuntimeError: words of the cause\n" for rank in range(8))
    [cause] = diagnosis_of(ruleset_of(tmp_path, rule("a-cause", "words of the cause")), text).diagnoses
    assert (8, tuple("01234567")) == (cause.seen, cause.ranks)


def test_no_match_is_an_answer(tmp_path: Path) -> None:
    """Nothing known: no cause, the number of lines read, and what would settle it."""
    found = diagnosis_of(ruleset_of(tmp_path, rule("a-cause", "words of the cause")), "one\ntwo\n")
    assert (found.diagnoses, found.lines) == ((), 2)
    assert found.advice


def test_what_the_text_does_not_tell_is_unchecked(tmp_path: Path) -> None:
    """An unknown fact of a finding is listed, with how to get it."""
    made = rule("a-cause", match={"log": ["words of the cause"], "facts": ["driver.version < 500"]})
    found = diagnosis_of(ruleset_of(tmp_path, made), "words of the cause\n")
    assert [item.what for item in found.unchecked] == ["driver.version"]
    assert "nvidia-smi" in [advice.run for advice in found.advice]


def test_a_message_above_a_traceback_shows_the_exception_too(tmp_path: Path) -> None:
    """When the line that matched only announces an exception, the exception's own line is evidence as well."""
    head = "ERROR 11-02 09:14:02 [a.py:1] "
    log = f"{head}the words of announced\n" + "".join(
        f"{head}{row}\n" for row in traceback("KeyError: 'x'").splitlines()
    )
    evidence = diagnosis_of(ruleset_of(tmp_path, rule("announced")), log).diagnoses[0].evidence

    assert [("match", 1), ("raised", 5), ("frame", 3)] == [(item.role, item.line) for item in evidence]


def test_the_rank_that_failed_explains_those_that_waited(tmp_path: Path) -> None:
    """Of many ranks that time out in a collective, the one that failed before them by itself is the cause, in any order."""
    rules = [
        rule("failed-alone", kind="general"),
        rule("waited", labels={"symptom": "crash/cuda-error/communication-error", "cause": LIBRARY}),
    ]
    failed = "".join(f"[rank17]: {row}\n" for row in traceback("OSError: the words of failed-alone").splitlines())
    waiting = "".join(
        f"[rank{n}]:[E1102 10:11:00.0{n:02d} x.cpp:1] [Rank {n}] the words of waited\n" for n in range(64) if n != 17
    )
    found = several(tmp_path, *rules, a=waiting, b=failed)

    assert ["failed-alone"] == order(found)
    assert [("waited", 63)] == [(item.rule, len(item.ranks)) for item in found.diagnoses[0].symptoms]


FULL = rule("disk-full", match={"facts": ["os.version == 1"]}, severity="warning", leads_to=["write-failed"])
FAILED = rule("write-failed", "no space left on device")


def test_a_cause_in_the_machine_stands_above_what_the_log_says_of_it(tmp_path: Path) -> None:
    """It is told first, as severe as what it led to, and points at the line of the log."""
    found = diagnosis_of(ruleset_of(tmp_path, FULL, FAILED), GAP + "no space left on device\n", os__version="1")

    assert [["write-failed"]] == under(found)
    assert [("disk-full", "error", "confirmed")] == [(c.rule, c.severity, c.certainty) for c in found.diagnoses]
    assert [("match", 2), ("fact", 1)] == [(item.role, item.line) for item in found.diagnoses[0].evidence]


def test_a_machines_trouble_that_explains_nothing_stands_below_the_log(tmp_path: Path) -> None:
    """Even an error of the machine does not push aside what the log itself tells, however general."""
    rules = ruleset_of(
        tmp_path,
        rule("no-driver", match={"facts": ["os.version == 1"]}),
        rule("a-possible", "words of the possible one", certainty="possible"),
        rule("a-wrapper", "see root cause above", kind="wrapper"),
    )
    text = "words of the possible one\nsee root cause above\n"

    assert ["a-possible", "no-driver"] == order(diagnosis_of(rules, text, os__version="1"))


def test_a_machines_trouble_explains_a_wrapper_only_if_it_says_so(tmp_path: Path) -> None:
    """ "A child failed" is no sign of what could have made it fail by way of something that nobody saw."""
    rules = ruleset_of(
        tmp_path,
        rule("no-gpu", match={"facts": ["gpu.count == 0"]}, leads_to=["a-cause"], severity="note"),
        rule("a-cause", "words of the cause", leads_to=["a-wrapper"]),
        rule("a-wrapper", "a child of it failed", kind="wrapper"),
    )
    found = diagnosis_of(rules, "RuntimeError: a child of it failed\n", gpu__count=0)

    assert (order(found)[:1], under(found)[:1]) == (["a-wrapper"], [[]])


def test_a_setting_that_ends_a_training_stands_above_a_log_without_a_cause(tmp_path: Path) -> None:
    """Beside an exception of a class alone it is the answer; beside a log that names its cause it is not."""
    rules = ruleset_of(
        tmp_path,
        rule("no-batch", match={"facts": ["training.batch == 0"]}),
        rule("an-exception", "Error: something", kind="general"),
        rule("a-cause", "words of the cause"),
    )

    assert order(diagnosis_of(rules, "Error: something\n", training__batch=0)) == ["no-batch", "an-exception"]
    assert order(diagnosis_of(rules, "words of the cause\n", training__batch=0)) == ["a-cause", "no-batch"]


def test_a_note_on_the_machine_explains_what_a_log_says_and_no_error_of_the_machine(tmp_path: Path) -> None:
    """What is only worth knowing becomes the cause where the log shows what it led to; it hides no other finding."""
    note = {**FULL, "severity": "note", "leads_to": ["write-failed", "no-driver"]}
    rules = ruleset_of(tmp_path, note, FAILED, rule("no-driver", match={"facts": ["os.name == a"]}))
    found = diagnosis_of(rules, "no space left on device\n", os__version="1")
    live = Case(facts_of({"os.version": "1", "os.name": "a"}), machine=True)

    assert [("disk-full", "error")] == [(cause.rule, cause.severity) for cause in found.diagnoses]
    assert ["no-driver", "disk-full"] == order(diagnose(rules, live, match(rules, live)))


def test_a_machine_is_told_from_the_bottom_of_its_stack(tmp_path: Path) -> None:
    """Of equally severe troubles the driver comes before the packages, and an error before a warning."""
    rules = ruleset_of(
        tmp_path,
        rule("package", match={"facts": ["torch.version == 2.1"]}),
        rule("driver", match={"facts": ["driver.version == 470"]}),
        rule("gpu", match={"facts": ["gpu.count == 0"]}, severity="warning"),
    )
    facts = facts_of({"torch.version": "2.1", "driver.version": "470", "gpu.count": 0})
    case = Case(facts, machine=True)

    assert ["driver", "package", "gpu"] == order(diagnose(rules, case, match(rules, case)))


def test_a_title_names_the_other_instances(tmp_path: Path) -> None:
    """The first instance fills the sentence, the others are listed."""
    rules = ruleset_of(
        tmp_path,
        rule("small", match={"facts": ["gpu.*.memory < 8 GiB"]}, title="GPU {{instance}} has {{gpu.*.memory}}"),
    )
    case = Case(facts_of({"gpu.0.memory": 4 << 30, "gpu.1.memory": 16 << 30, "gpu.2.memory": 6 << 30}), machine=True)

    assert ["GPU 0 has 4 GiB (and the same of 2)"] == [
        cause.title for cause in diagnose(rules, case, match(rules, case)).diagnoses
    ]


def test_what_a_pasted_text_tells_of_its_machine_is_no_failure(tmp_path: Path) -> None:
    """A version list in a text that shows no trouble of it is a possible warning; on the machine itself it is an error."""
    rules = ruleset_of(tmp_path, rule("no-driver", match={"facts": ["os.version == 1"]}))
    pasted = diagnosis_of(rules, "all is well\n", os__version="1")
    live = Case(facts_of({"os.version": "1"}), machine=True)
    checked = diagnose(rules, live, match(rules, live))

    assert [("warning", "possible")] == [(cause.severity, cause.certainty) for cause in pasted.diagnoses]
    assert [("error", "confirmed")] == [(cause.severity, cause.certainty) for cause in checked.diagnoses]


def test_a_failed_probe_stands_under_what_it_printed(tmp_path: Path) -> None:
    """Each probe that failed is the symptom of what explains its own output; one without such a cause stands alone."""
    rules = ruleset_of(
        tmp_path,
        rule("other-cuda", match={"facts": ["torch.cuda == 12.8"]}, severity="warning", leads_to=["a-library"]),
        rule(
            "probe-failed", match={"facts": ["probe.*.result == failed"]}, kind="wrapper", title="{{instance}} failed"
        ),
        rule("a-library", "libcudart is missing"),
    )
    facts = (
        Fact("probe.torch.result", "failed", "deep: import torch"),
        Fact("probe.peft.result", "failed", "deep: import peft"),
        Fact("torch.cuda", "12.8", "torch/version.py"),
    )
    events = case_of_text(rules, "libcudart is missing\n", "deep: import torch").events
    case = Case(facts, events, machine=True)
    found = diagnose(rules, case, match(rules, case))

    assert ["other-cuda", "probe-failed"] == order(found)
    assert [["The title of a-library", "torch failed"], []] == [
        [symptom.title for symptom in cause.symptoms] for cause in found.diagnoses
    ]


@pytest.mark.parametrize(
    ("text", "explained"),
    [
        ("OSError: libcudart.so.12: cannot open shared object file", True),  # the fact names the library
        ("ImportError: /venv/site-packages/xformers/_C.so: cannot open shared object file", True),
        ("ImportError: flash_attn_2_cuda.so: cannot open shared object file", False),
    ],
)
def test_a_fault_of_one_package_explains_what_is_said_of_that_package(
    tmp_path: Path, text: str, explained: bool
) -> None:
    """The log must name the package, or what the fact tells of it: another package's message has another cause."""
    rules = ruleset_of(
        tmp_path,
        rule("other-cuda", match={"facts": ["extension.*.missing_library matches cudart"]}, leads_to=["not-opened"]),
        rule("not-opened", "cannot open shared object file"),
    )
    case = case_of_text(rules, f"{text}\n", "a.log")
    facts = facts_of({"extension.xformers.missing_library": "libcudart.so.12"})
    case = Case(facts, case.events, origins=case.origins, lines=case.lines, machine=True)
    found = diagnose(rules, case, match(rules, case))

    assert ("other-cuda" if explained else "not-opened") == order(found)[0]
