"""What a report for people says, and that a terminal can show it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.formats.layout import lines, ranges, visible
from diagnose.formats.text import write
from diagnose.model import Diagnosis
from tests.support import OUT_OF_MEMORY, diagnosis_of, rule, ruleset_of

LONG = "many plain words in a row " * 20
PROSE = ("prose", "error", "warning", "note", "head", "title")
CONTROLS = "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"


def long_diagnosis(tmp_path: Path) -> Diagnosis:
    """A report in which everything that can be long is long."""
    fix = [{"do": LONG, "run": "some command", "verify": "another", "expect": LONG}]
    labels = {"symptom": OUT_OF_MEMORY, "cause": "hardware-and-resource-limitations/gpu-memory-insufficiency"}
    same: dict[str, object] = {"title": LONG.strip(), "why": LONG, "fix": fix, "labels": labels}
    rules = ruleset_of(
        tmp_path,
        rule(
            "a-cause",
            match={"log": ["words of the cause"], "facts": ["driver.version < 5"]},
            certainty="possible",
            leads_to=["an-effect"],
            **same,
        ),
        rule("an-effect", "words of the effect", certainty="possible", **same),
        rule("a-warning", "words of the warning", severity="warning", **same),
        rule("a-note", "words of the note", severity="note", **same),
    )
    gap = "INFO 11-02 09:14:02 fine\n"
    return diagnosis_of(rules, gap.join(f"words of the {name}\n" for name in ("cause", "effect", "warning", "note")))


def test_prose_fits_80_columns(tmp_path: Path) -> None:
    """Titles, reasons, fixes, symptoms, the study and the advice are wrapped."""
    found = list(lines(long_diagnosis(tmp_path)))
    assert max(len(line.text) for line in found if line.role in PROSE) <= 80
    assert {"Why", "Fix", "This explains", "How often", "Also found", "What would settle it", "Not checked"} <= {
        line.text for line in found
    }


def test_the_report_in_order(tmp_path: Path) -> None:
    """The cause first, then its proof, why, the fix to copy, how to verify it, and what it explains."""
    fix = [{"do": "Do this", "run": "some command\nand another", "verify": "look at it", "expect": "it works"}]
    rules = ruleset_of(
        tmp_path,
        rule(
            "a-cause",
            "words of the (?P<what>cause)",
            title="Lacks a {{what}}",
            fix=fix,
            restart="cannot-help",
            leads_to=["an-effect"],
        ),
        rule("an-effect", "words of the effect"),
    )
    text = write(diagnosis_of(rules, "INFO fine\nwords of the cause\nINFO 11-02 09:14:02 fine\nwords of the effect\n"))
    wanted = [
        "✗ Lacks a cause",
        "a-cause · error · likely",
        "a.log:2",
        "words of the cause",
        "Why",
        "It happens",
        "Fix",
        "1. Do this",
    ]
    wanted += [
        "       some command\n       and another\n",
        "to verify:",
        "look at it",
        "expect: it works",
        "Restarting cannot help",
    ]
    wanted += ["This explains", "The title of an-effect (line 4)"]
    places = [text.find(part) for part in wanted]
    assert (True, sorted(places)) == (min(places) >= 0, places)


def test_nothing_found_is_an_answer(tmp_path: Path) -> None:
    """What was read, and what would settle it."""
    text = write(diagnosis_of(ruleset_of(tmp_path, rule("a-cause")), "one\ntwo\n"))
    assert text.splitlines()[0] == "No known failure in 2 lines."
    assert "What would settle it" in text


HOSTILE = [
    "\x1b]0;owned\x07",
    "\x1b[2J",
    "\x1b",
    "\x9b31m",
    "a\rb",
    "a\x08\x08b",
    "\x07",
    "\x0b\x0c",
    "\u202eevil\u202c",
    "\u2066evil\u2069",
    "\u2028evil",
    "\x85evil",
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_hostile_log_does_not_steer_the_terminal(tmp_path: Path, hostile: str) -> None:
    """Escapes, bells, returns and marks that turn text around never reach the terminal, wherever the value is shown."""
    fix = [{"do": "Do {{what}}", "run": "echo {{what}}", "verify": "echo '{{what}}'", "expect": "{{what}}"}]
    made = rule("a-cause", "words of (?P<what>.*) here", title="Lacks {{what}}", why="For {{what}}", fix=fix)
    text = write(
        diagnosis_of(ruleset_of(tmp_path, made), f"words of [{hostile}] here\nStrangeError: {hostile} again\n")
    )
    assert re.findall(CONTROLS, text) == []


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_was_only_recognised_does_not_steer_it_either(tmp_path: Path, hostile: str) -> None:
    """The same holds for a text that no rule knows."""
    made = rule(
        "a-cause", "words of the cause", match={"log": ["words of the cause"], "where": ["event.caller == nobody"]}
    )
    log = f'Traceback (most recent call last):\n  File "/a.py", line 1, in {hostile}\nStrangeError: words of the cause {hostile}\n'
    text = write(diagnosis_of(ruleset_of(tmp_path, made), log))
    assert "Recognised" in text
    assert re.findall(CONTROLS, text) == []


@given(text=st.text(max_size=60))
@settings(deadline=None, max_examples=200)
def test_visible_text_is_safe_and_the_rest_is_kept(text: str) -> None:
    """Only what steers a terminal is spelled out; all other text stays as it is."""
    assert re.findall(CONTROLS.replace("\x09", "\x08"), visible(text).replace("\t", "")) == []
    assert visible(text) == text or re.search(f"{CONTROLS}|\n", text)
    visible(text).encode()


@pytest.mark.parametrize(
    ("ranks", "expected"),
    [(("0", "1", "2", "3"), "0-3"), (("0", "2", "3", "9"), "0, 2-3, 9"), (("5",), "5"), (("a", "b"), "a, b"), ((), "")],
)
def test_ranks_in_short(ranks: tuple[str, ...], expected: str) -> None:
    """Ranks in a row are told by their ends."""
    assert expected == ranges(ranks)
