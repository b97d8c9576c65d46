"""The first pass: where the plain texts of patterns stand in raw bytes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.pattern import Plain
from diagnose.scan import Scanner, compile_scanner


def test_every_place_is_found_in_order() -> None:
    """Each place is told by its text and the offset behind it, in the order of the ends."""
    scanner = compile_scanner([Plain(("memory",)), Plain(("out of",))])
    assert scanner.find(b"out of memory memory") == [(1, 6), (0, 13), (0, 20)]


def test_case_matters_unless_it_does_not() -> None:
    """Only a caseless text is found in another case."""
    scanner = compile_scanner([Plain(("Killed",)), Plain(("Killed",), caseless=True)])
    assert [scanner.owners[text] for text, _ in scanner.find(b"KILLED")] == [(1,)]
    assert sorted(scanner.owners[text] for text, _ in scanner.find(b"Killed")) == [(0,), (1,)]


def test_equal_texts_are_looked_for_once() -> None:
    """Two patterns with one text share its place, and a pattern with two texts owns both."""
    scanner = compile_scanner([Plain(("same text",)), Plain(("same text", "other text"))])
    assert list(scanner.owners) == [(0, 1), (1,)]


def test_the_compiled_form_finds_the_same() -> None:
    """An automaton that was stored and read again finds what the first one found."""
    made = compile_scanner([Plain(("内存不足",)), Plain(("a+b(c",))])
    again = Scanner(made.stored, made.owners)
    data = "x 内存不足 a+b(c".encode()
    assert made.find(data) == again.find(memoryview(data))
    assert len(again.find(data)) == 2


def test_nothing_to_look_for() -> None:
    """Without patterns, or without text, nothing is found."""
    assert compile_scanner([]).find(b"anything") == []
    assert compile_scanner([Plain(("memory",))]).find(b"") == []


@given(
    texts=st.lists(st.text("ab.*\\é", min_size=1, max_size=4), min_size=1, max_size=5),
    data=st.text("ab.*\\é", max_size=60),
)
@settings(deadline=None, max_examples=80)
def test_it_finds_what_a_plain_search_finds(texts: list[str], data: str) -> None:
    """The automaton agrees with looking for each text by itself; nothing in a text is special to it."""
    raw = data.encode()
    scanner = compile_scanner([Plain((text,)) for text in texts])
    found = {(owner, end) for text, end in scanner.find(raw) for owner in scanner.owners[text]}
    wanted = {
        (owner, at + len(text.encode()))
        for owner, text in enumerate(texts)
        for at in range(len(raw))
        if raw.startswith(text.encode(), at)
    }
    assert wanted == found
