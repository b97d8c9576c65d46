"""Examples in their forms: what a trainer would stumble over is counted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.sources.data.examples import Examples
from diagnose.sources.data.layout import Asked, layout_of
from diagnose.sources.data.tally import Tally
from diagnose.sources.data.turns import SEPARATOR
from tests.sources.data.support import answer, user
from tests.sources.data.test_jsonlines import VALUES

PAIR = {"prompt": "q", "chosen": "a", "rejected": "b"}
JUDGED = {"prompt": "q", "completion": "a", "label": True}
FORMS: dict[str, dict[str, Any]] = {
    "messages": {"messages": [user("a"), answer("b")]},
    "sharegpt": {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
    "prompt-completion": {"prompt": "q", "completion": "a"},
    "unpaired-preference": JUDGED,
    "preference": PAIR,
    "prompt-only": {"prompt": "q", "solution": "a"},
    "alpaca": {"instruction": "q", "input": "", "output": "a"},
    "text": {"text": "a"},
    "tokens": {"input_ids": [1, 2], "labels": [-100, 2]},
    "unknown": {"x": "a"},
}


def counted(first: dict[str, Any], row: dict[str, Any], **how: Any) -> set[str]:
    """What is counted in a row of a file that begins with `first`."""
    tally = Tally()
    Examples(layout_of([first], list(first), Asked()), tally, **how).texts(row, 1)
    return set(tally.counts)


@pytest.mark.parametrize("name", FORMS)
def test_each_form_is_seen_by_its_columns(name: str) -> None:
    """And a healthy example of it gives nothing but what its roles are."""
    row = FORMS[name]

    assert name == layout_of([row], list(row), Asked()).name
    assert counted(row, row) <= {"roles_foreign"}


@pytest.mark.parametrize(
    ("first", "row", "kinds"),
    [
        (FORMS["text"], {"text": None}, {"text_missing"}),
        (FORMS["text"], {"text": " \n"}, {"text_empty"}),
        (FORMS["text"], {"text": 5}, {"text_no_text"}),
        (FORMS["prompt-completion"], {"prompt": "q", "completion": ""}, {"completion_empty"}),
        (FORMS["prompt-completion"], {"prompt": "q", "completion": None}, {"completion_missing"}),
        (FORMS["prompt-completion"], {"prompt": [user("q")], "completion": "a"}, {"kinds_differ"}),
        (PAIR, {**PAIR, "rejected": "a"}, {"pair_same"}),
        (PAIR, {**PAIR, "rejected": None}, {"rejected_missing"}),
        (PAIR, {**PAIR, "chosen": ""}, {"chosen_empty"}),
        (
            PAIR,
            {**PAIR, "chosen": [user("q"), answer("a")], "rejected": [user("q"), answer("b")]},
            {"prompt_beside_turns"},
        ),
        (PAIR, {**PAIR, "chosen": [answer("a")], "rejected": [answer("b")]}, {"kinds_differ"}),
        (PAIR, {"chosen": [user("q"), answer("a")], "rejected": [user("p"), answer("b")]}, {"prompts_differ"}),
        (PAIR, {"prompt": user("q"), "chosen": [answer("a")], "rejected": [answer("b")]}, {"prompt_no_text"}),
        (JUDGED, {**JUDGED, "label": "true"}, {"label_text"}),
        (JUDGED, {**JUDGED, "label": -1}, {"label_no_flag"}),
        (JUDGED, {**JUDGED, "label": None}, {"label_missing"}),
        (JUDGED, {**JUDGED, "label": 0}, set()),
        (FORMS["alpaca"], {"instruction": "", "input": "", "output": "a"}, {"prompt_empty"}),
        (FORMS["alpaca"], {"instruction": "", "input": "x", "output": " "}, {"completion_empty"}),
        (FORMS["tokens"], {"input_ids": []}, {"ids_missing"}),
        (FORMS["tokens"], {"input_ids": ["a"]}, {"ids_no_numbers"}),
        (FORMS["tokens"], {"input_ids": [1, 99]}, {"ids_outside"}),
        (FORMS["tokens"], {"input_ids": [1, 2], "labels": [1]}, {"lengths_differ"}),
        (FORMS["tokens"], {"input_ids": [1, 2], "labels": [-100, -100]}, {"all_masked"}),
    ],
)
def test_what_a_trainer_stumbles_over_is_counted(first: dict[str, Any], row: dict[str, Any], kinds: set[str]) -> None:
    """In a file whose first example is healthy."""
    assert kinds == counted(first, row, vocabulary=50)


def test_a_text_that_begins_with_the_token_that_is_added_anyway() -> None:
    """Only where the tokenizer adds it."""
    row = {"text": "<s>hello"}

    assert {"begins_twice"} == counted(row, row, begin="<s>")
    assert set() == counted(row, row)


@given(st.sampled_from(sorted(FORMS)), st.data())
def test_anything_may_stand_in_a_column(name: str, data: st.DataObject) -> None:
    """Nothing is raised."""
    row = {column: data.draw(VALUES) for column in FORMS[name]}
    counted(FORMS[name], row, vocabulary=50)
    counted(row, row)


@pytest.mark.parametrize(
    ("row", "misnamed", "meant"),
    [
        ({"mesages": [user("a"), answer("b")]}, "mesages", "messages"),
        ({"dialog": [user("a"), answer("b")]}, "dialog", "messages"),
        ({"prompt": "a", "response": "b"}, "response", "completion"),
        ({"prompt": "a", "chosen": "b", "reject": "c"}, "reject", "rejected"),
        ({"texts": "a"}, "texts", "text"),
        ({"question": "a", "foo": "b"}, "question", "prompt"),
    ],
)
def test_a_column_under_another_name_is_told(row: dict[str, Any], misnamed: str, meant: str) -> None:
    """With the name that trainers know."""
    layout = layout_of([row], list(row), Asked())

    assert (misnamed, meant) == (layout.misnamed, layout.meant)


def test_a_ranked_conversation_of_llamafactory_ends_with_its_question() -> None:
    """Its two answers stand in columns of their own, each a message."""
    row = {
        "conversations": [{"from": "human", "value": "q"}],
        "chosen": {"from": "gpt", "value": "a"},
        "rejected": {"from": "gpt", "value": "b"},
    }
    asked = Asked("llamafactory", "dpo", entry={"ranking": True, "formatting": "sharegpt"})
    tally = Tally()
    texts = Examples(layout_of([row], list(row), asked), tally).texts(row, 1)
    assert ["q", "a", "b"] == texts.split(SEPARATOR)
    assert not tally.counts


def test_the_texts_of_prompts_and_answers_are_those_of_their_parts() -> None:
    """As they are read, not as Python prints them."""
    parts = [{"type": "text", "text": "a\nb"}, {"type": "image"}]
    pair = {"prompt": [user(parts)], "chosen": [answer("c")], "rejected": [answer(parts)]}
    for row, texts in (({"prompt": [user(parts)]}, ["a\nb"]), (pair, ["a\nb", "c", "a\nb"])):
        found = Examples(layout_of([row], list(row), Asked()), Tally()).texts(row, 1)
        assert texts == found.split(SEPARATOR)


@pytest.mark.parametrize(
    ("asked", "columns", "name", "absent"),
    [
        (Asked("axolotl", "sft", "chat_template"), ["messages"], "messages", ""),
        (Asked("axolotl", "sft", "chat_template"), ["conversations"], "messages", "messages"),
        (Asked("axolotl", "sft", "chat_template", "chats"), ["chats"], "messages", ""),
        (Asked("axolotl", "sft", "completion"), ["text"], "text", ""),
        (Asked("axolotl", "sft", "completion", "body"), ["text"], "text", "body"),
        (Asked("axolotl", "sft", "alpaca"), ["instruction", "output"], "alpaca", ""),
        (Asked("axolotl", "sft", "alpaca"), ["prompt", "response"], "alpaca", "instruction"),
        (Asked("trl", "sft", "", "body"), ["body"], "text", ""),
        (Asked("llamafactory", "sft", entry={}), ["instruction", "input", "output"], "alpaca", ""),
        (Asked("llamafactory", "sft", entry={"columns": {"prompt": "q", "response": "a"}}), ["q", "a"], "alpaca", ""),
        (Asked("llamafactory", "sft", entry={"columns": {"prompt": "q"}}), ["question"], "alpaca", "q"),
        (Asked("llamafactory", "sft", entry={"formatting": "sharegpt"}), ["messages"], "sharegpt", "conversations"),
        (
            Asked(
                "llamafactory",
                "dpo",
                entry={"ranking": True, "columns": {"prompt": "q", "chosen": "c", "rejected": "r"}},
            ),
            ["q", "c", "r"],
            "preference",
            "",
        ),
        (
            Asked("llamafactory", "dpo", entry={"ranking": True, "formatting": "sharegpt"}),
            ["conversations", "chosen", "rejected"],
            "preference",
            "",
        ),
    ],
)
def test_the_form_that_the_settings_tell_is_taken(asked: Asked, columns: list[str], name: str, absent: str) -> None:
    """With the column that they name and the file does not have."""
    layout = layout_of([dict.fromkeys(columns, "x")], columns, asked)

    assert (name, absent) == (layout.name, layout.absent)
