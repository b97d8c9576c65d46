"""Patterns: linear ones only, with plain text that every match contains."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from diagnose.pattern import MOST_PLAIN, PatternError, plain, regex


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(?=out of memory)", "invalid perl operator"),
        ("(?<!not )found here", "."),
        (r"(\w+) is \1 again", "invalid escape"),
        ("out of (memory", "missing"),
        ("out of memory)", "unexpected"),
        ("\ud800 out of memory", "surrogate"),
        ("a{2000}", "."),
    ],
)
def test_what_could_backtrack_or_does_not_compile_is_refused(pattern: str, said: str) -> None:
    """Look-around, back-references and broken syntax are refused with a reason."""
    with pytest.raises(PatternError, match=said):
        regex(pattern)


@pytest.mark.parametrize(
    ("pattern", "texts", "caseless"),
    [
        ("out of memory", ("out of memory",), False),
        (r"^CUDA out of memory\. Tried", ("CUDA out of memory. Tried",), False),
        (r"(?P<name>\w+) is not defined", (" is not defined",), False),
        ("(?i)Out Of Memory", ("Out Of Memory",), True),
        ("short .* much longer text", (" much longer text",), False),
        ("(?:first choice|other choice)x?", ("first choice", "other choice"), False),
        ("(?:optional text)? but this stays", (" but this stays",), False),
        ("(?:text that repeats)+", ("text that repeats",), False),
        ("joined (?:by a group) here", ("joined by a group here",), False),
        ("half (?i:caseless words)", ("half caseless words",), True),
        ("(?i)Größe of the tensor", ("e of the tensor",), True),
        ("显存不足", ("显存不足",), False),
    ],
)
def test_the_plain_text_of_a_pattern(pattern: str, texts: tuple[str, ...], caseless: bool) -> None:
    """The longest run of plain text is looked for; a choice gives one text for each of its branches."""
    found = plain(pattern)
    assert (texts, caseless) == (found.texts, found.caseless)


@pytest.mark.parametrize(
    "pattern", ["error", r"\d+ \w+", "(?:out of memory|oom)", "(?:optional text)?", ".*", "", "a|"]
)
def test_a_pattern_without_plain_text_is_refused(pattern: str) -> None:
    """Less than six plain characters in a row would be tried on every line of every log."""
    with pytest.raises(PatternError, match="plain characters"):
        plain(pattern)


@pytest.mark.parametrize(
    "pattern", ["[[:alpha:]] is not defined", "tensor (?i) of size", "(" * 900 + "some text" + ")" * 900]
)
def test_what_cannot_be_walked_is_refused(pattern: str) -> None:
    """What Python's parser reads differently from RE2, or cannot read, is a mistake and no wrong plain text."""
    with pytest.raises(PatternError):
        plain(pattern)


def test_plain_text_is_kept_short() -> None:
    """A very long text is cut for the first pass, which refuses texts of many thousand bytes."""
    assert plain("x" * 100_000).texts == ("x" * MOST_PLAIN,)


letters = st.text("abcxyz é", min_size=1, max_size=8)
atoms = st.one_of(
    letters.map(re.escape),
    letters.map(lambda text: f"(?:{re.escape(text)})"),
    letters.map(lambda text: f"(?P<g>{re.escape(text)})?"),
    st.tuples(letters, letters).map(lambda pair: f"(?:{re.escape(pair[0])}|{re.escape(pair[1])})"),
    letters.map(lambda text: f"(?:{re.escape(text)})+"),
    letters.map(lambda text: f"(?:{re.escape(text)}){{2}}"),
    st.sampled_from([r"\d+", ".", r"\b", "[abc]"]),
)


@given(parts=st.lists(atoms, min_size=1, max_size=5), caseless=st.booleans(), data=st.data())
@settings(deadline=None, max_examples=150)
def test_every_match_contains_a_plain_text(parts: list[str], caseless: bool, data: st.DataObject) -> None:
    """What a pattern matches contains one of its plain texts: the first pass misses nothing."""
    numbered = [part.replace("(?P<g>", f"(?P<g{index}>") for index, part in enumerate(parts)]
    pattern = "(?i)" * caseless + "".join(numbered)
    try:
        found = plain(pattern)
    except PatternError:
        assume(False)
    text = data.draw(st.from_regex(pattern, fullmatch=True))
    assume(regex(pattern).search(text))
    if found.caseless:
        assert any(wanted.encode().lower() in text.encode().lower() for wanted in found.texts)
    else:
        assert any(wanted in text for wanted in found.texts)
