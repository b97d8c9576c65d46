"""Repeats, shapes, contents and media: what is counted over a whole file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.sources.data.batch import Batch
from diagnose.sources.data.contents import Contents
from diagnose.sources.data.media import Media
from diagnose.sources.data.repeats import Repeats, mark_of
from diagnose.sources.data.shapes import FIRST_PART, Shapes
from diagnose.sources.data.tally import Tally, percent, places
from tests.sources.data.support import user


@given(st.lists(st.integers(0, 9), max_size=30))
def test_every_repeat_is_found_with_its_first_line(numbers: list[int]) -> None:
    """Blanks aside."""
    repeats = Repeats()
    for line, number in enumerate(numbers, 1):
        repeats.add(mark_of(b"text %d" % number if line % 2 else b"text\t%d\n" % number), line)
    expected = {
        (line, numbers.index(number) + 1) for line, number in enumerate(numbers, 1) if number in numbers[: line - 1]
    }

    assert expected == set(repeats.twice())


@given(st.lists(st.integers(0, 30), max_size=20), st.lists(st.integers(0, 30), max_size=20))
def test_examples_of_both_splits_are_found(one: list[int], other: list[int]) -> None:
    """By their lines in the first."""
    first, second = Repeats(), Repeats()
    for repeats, numbers in ((first, one), (second, other)):
        for line, number in enumerate(numbers, 1):
            repeats.add(mark_of(b"%d" % number), line)

    assert {line for line, number in enumerate(one, 1) if number in other} == set(first.found_in([second]))


def shaped(early: list[dict[str, Any]], late: Sequence[dict[str, Any]] = ()) -> dict[str, tuple[int, str]]:
    """What is counted of the shapes of examples."""
    shapes, tally = Shapes(), Tally()
    shapes.note(Batch(list(enumerate(early, 1)), 0))
    shapes.note(Batch(list(enumerate(late, 1000)), FIRST_PART))
    shapes.findings(tally, True)
    return {kind: (known.count, known.example) for kind, known in tally.counts.items()}


@pytest.mark.parametrize(
    ("early", "late", "expected"),
    [
        ([{"a": 1}, {"a": 2.5}, {"a": None}, {}], [{"a": 3}], {}),
        ([{"a": 1}, {"a": 2}, {"a": "x"}], [], {"types_mixed": (1, "a is a number in most examples and a text in 1")}),
        ([{"a": "x"}], [{"a": "y", "b": 1}], {"late_columns": (1, "b")}),
        ([{"a": None}], [{"a": "y"}], {"late_types": (1, "a")}),
        ([{"a": {"x": 1}}], [{"a": {"x": 1, "y": 2}}], {"late_keys": (1, "y")}),
        ([{"a": {"x": 1}}, {"a": {"z": 1}}], [{"a": {"x": 1, "y": 2}}], {}),
        ([{"a": 1, "b": 1}], [{"a": 1}], {}),
    ],
)
def test_shapes_that_datasets_refuses(
    early: list[dict[str, Any]], late: list[dict[str, Any]], expected: dict[str, tuple[int, str]]
) -> None:
    """What was really tried with datasets 5.2: missing columns do no harm, new ones behind the first 10 MiB do."""
    assert expected == shaped(early, late)


def seen(text: str, special: Sequence[str] = (), turns: bool = True) -> set[str]:
    """What is counted in a text."""
    tally = Tally()
    Contents(tally, special, turns).look([b"a healthy text", text.encode("utf-8", "replace")], [1, 2])
    assert all([2] == known.lines for known in tally.counts.values())
    return set(tally.counts)


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("Grüße, naïve café – “quotes” ’ … 你好 👩🏽‍🚀 SÃO PAULO, Â", set()),
        ("x < 3 && y > 2; a<b>c; R&D; \\newline, \\nabla", set()),
        ("First.\\nThen the second.", {"escaped_newlines"}),
        ("a\\nB and\nmore", set()),
        ('{"code": "a\\nB"}', set()),
        ('q\x1f [{"code": "a\\nB"}]\x1fa', set()),
        ('{"code": 1}\x1fFirst.\\nThen the second.', {"escaped_newlines"}),
        ("fÃ¼r dich", {"mojibake"}),
        ("itâ€™s", {"mojibake"}),
        ("broken \ufffd", {"replacement_characters"}),
        ("bell \x07", {"control_characters"}),
        ("tab\tand\r\nline\x0c", set()),
        ("a &amp; b", {"html_entities"}),
        ("<p>a</p>", {"html_tags"}),
        ("ends<|im_end|>", {"special_tokens"}),
        ("[INST] a [/INST]", {"template_markup"}),
    ],
)
def test_what_is_in_a_text(text: str, kinds: set[str]) -> None:
    """And what only looks like it."""
    assert kinds == seen(text, ["<|im_end|>"])


def test_marks_are_right_in_texts_that_go_into_no_template() -> None:
    """A finished prompt has them."""
    assert set() == seen("<|im_start|>user\nhi<|im_end|>", ["<|im_end|>"], turns=False)


@given(st.lists(st.text(), max_size=6))
def test_any_texts_can_be_looked_at(texts: list[str]) -> None:
    """Nothing is raised, and no line is told that was not given."""
    tally = Tally()
    Contents(tally, ["<|x|>", "\\"], True).look(
        [text.encode("utf-8", "replace") for text in texts], range(1, len(texts) + 1)
    )

    assert all(1 <= line <= len(texts) for known in tally.counts.values() for line in known.lines)


def test_files_that_are_not_there_are_counted(tmp_path: Path) -> None:
    """Beside the data and in the working folder; addresses are not looked at."""
    (tmp_path / "a.png").write_bytes(b"x")
    tally = Tally()
    media = Media(tally, [str(tmp_path)], ["images", "text"])
    media.look({"images": ["a.png", "https://x/y.png"]}, None, "<image> <image>", 1)
    media.look({"images": ["b.png"]}, None, "<image>", 2)
    media.look({"images": ["a.png"]}, None, "<image> <image>", 3)
    media.look({}, [user([{"type": "image", "image": "c.png"}])], "", 4)
    media.look({"images": ["a.png"]}, [user([{"type": "image"}, {"type": "text", "text": "?"}])], "?", 5)

    assert {"media_missing": [2, 4], "media_places_differ": [3]} == {
        k: known.lines for k, known in tally.counts.items()
    }


def test_places_and_shares_are_told_in_words() -> None:
    """As they stand in a title."""
    assert ["line 3", "lines 3, 9", "lines 3, 9, …"] == [places([3], 1), places([3, 9], 2), places([3, 9], 7)]
    assert [50.0, 0.001, 33.3] == [percent(1, 2), percent(1, 100_000), percent(1, 3)]
    assert json.dumps(percent(0, 0)) == "0.0"
