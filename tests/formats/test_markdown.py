"""Markdown: safe to paste into an issue, whatever the log holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.formats.markdown import _code, _fenced, plain, write
from tests.support import diagnosis_of, rule, ruleset_of

HOSTILE = (
    "<img src=x onerror=alert(1)> @someone [a](https://evil.example) ![b](https://evil.example/c.png) \\`<b>` **bold**"
)


def report(tmp_path: Path, text: str, **changes: object) -> str:
    rules = ruleset_of(
        tmp_path, rule("a-cause", "words of (?P<what>.*) here", **changes), rule("an-effect", "words of the effect")
    )
    return write(diagnosis_of(rules, text))


def outside_code(text: str) -> str:
    """What a Markdown reader takes for more than code: fences, then spans, are taken out as CommonMark does."""
    kept = []
    fence = ""
    for line in text.split("\n"):
        mark = re.match(r" *(`{3,})", line)
        if fence:
            fence = "" if line.strip() == fence else fence
        elif mark:
            fence = mark[1]
        else:
            kept.append(
                re.sub(r"\\.|(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)", lambda found: "" if found[1] else found[0], line)
            )
    assert fence == ""
    return "\n".join(kept)


def test_a_report_says_it_all(tmp_path: Path) -> None:
    """Title, evidence in a fence, why, fix as a command, and which version read how much."""
    fix = [{"do": "Do this", "run": "some command", "expect": "it works"}]
    text = report(tmp_path, "words of a cause here\n", title="Lacks {{what}}", fix=fix, restart="cannot-help")
    wanted = [
        "### Lacks a cause",
        "words of a cause here",
        "**Why.** It happens",
        "1. Do this",
        "   some command",
        "Expect: it works",
    ]
    assert [part for part in [*wanted, "A restart cannot help.", "1 lines read"] if part not in text] == []


@pytest.mark.parametrize("where", ["title", "why", "fix"])
def test_nothing_of_a_log_becomes_markup(tmp_path: Path, where: str) -> None:
    """HTML, mentions, links and pictures from a log are shown as the text that they are."""
    hostile = "x {{what}} y"
    changes = {where: [{"do": hostile, "run": "echo {{what}}", "expect": hostile}] if where == "fix" else hostile}
    bare = outside_code(report(tmp_path, f"words of {HOSTILE} here\n", **changes))
    assert re.findall(r"<(?!/?sub>)|@(?!\u200b)|(?<!\\)\[|(?<!\\)\]", bare) == []


def test_the_fence_is_longer_than_any_in_the_evidence(tmp_path: Path) -> None:
    """A log with fences of its own cannot end the fence of the report."""
    text = report(tmp_path, "words of ``` ````` ``` here\n")
    assert "``````\nwords of ``` ````` ``` here\n``````" in text


def test_what_was_recognised_is_code(tmp_path: Path) -> None:
    """An unmatched exception and its frame stand between backquotes, longer ones than they hold."""
    made = rule("a-cause", match={"log": ["words of the cause"], "where": ["event.caller == nobody"]})
    frame = '  File "/a/`<img>`.py", line 3, in `@someone`\n    run()\n'
    log = f"Traceback (most recent call last):\n{frame}StrangeError: `<b>` @someone words of the cause\n"
    text = write(diagnosis_of(ruleset_of(tmp_path, made), log))
    assert "StrangeError" in text
    assert re.findall(r"<(?!/?sub>)|@(?!\u200b)", outside_code(text)) == []


def test_code_in_a_rule_stays_code() -> None:
    """Between backquotes nothing is escaped: the command can be copied."""
    assert plain("use `pip install 'vllm<0.9' @x *` now*") == "use `pip install 'vllm<0.9' @x *` now\\*"


def test_names_stay_readable() -> None:
    """Underscores within a name are no markup; those around it are."""
    assert plain("max_model_len __init__") == "max_model_len \\_\\_init\\_\\_"


def test_terminal_controls_are_spelled_out(tmp_path: Path) -> None:
    """Escape sequences and marks that turn text around reach no reader."""
    text = report(tmp_path, "words of \x07\x08 \u202e\u2066 here\n", title="Lacks {{what}}")
    assert re.findall("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text) == []


markup = st.text("`\\<@[]a_* \n", max_size=40)


@given(text=markup)
@settings(deadline=None, max_examples=300)
def test_plain_text_has_no_markup(text: str) -> None:
    """Whatever mix of backquotes, backslashes and brackets: outside of code nothing is left that means something."""
    assert re.findall(r"<|@(?!\u200b)|(?<!\\)\[", outside_code(f"x {plain(text)}")) == []


@given(text=markup)
@settings(deadline=None, max_examples=200)
def test_a_fence_holds_any_text(text: str) -> None:
    """No line within a fence is its end."""
    opening, *inside, closing = _fenced(text, "")
    assert opening == closing
    assert all(closing not in line for line in inside)


@given(text=markup.filter(lambda text: text.strip("` \n") != ""))
@settings(deadline=None, max_examples=200)
def test_a_code_span_holds_any_text(text: str) -> None:
    """Nothing of the text gets out of its backquotes."""
    assert outside_code(f"x {_code(text)} y") == "x  y"
