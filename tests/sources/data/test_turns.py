"""Conversations: what is peculiar in the order of roles and in the messages is counted, healthy ones give nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.sources.data.tally import Tally
from diagnose.sources.data.turns import SEPARATOR, Turns
from tests.sources.data.support import answer, system, user
from tests.sources.data.test_jsonlines import VALUES

CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
TOOL = {"role": "tool", "content": "7", "tool_call_id": "1"}


def counted(*conversations: Any, **how: Any) -> dict[str, int]:
    """What was counted in conversations."""
    tally = Tally()
    turns = Turns(tally, **how)
    for line, messages in enumerate(conversations, 1):
        turns.note(messages, line)
    return {kind: known.count for kind, known in tally.counts.items()}


@pytest.mark.parametrize(
    "messages",
    [
        [user("a"), answer("b")],
        [system("s"), user("a"), answer("b"), user("c"), answer("d")],
        [user("a"), answer(None, tool_calls=[CALL]), TOOL, answer("b")],
        [user("a"), answer("", tool_calls=[CALL]), TOOL, answer("b")],
        [{"role": "developer", "content": "s"}, user("a"), answer("b", reasoning_content="hm")],
    ],
)
def test_healthy_conversations_give_nothing(messages: Any) -> None:
    """Neither once nor many times."""
    assert {} == counted(messages, messages)


@pytest.mark.parametrize(
    ("messages", "kinds"),
    [
        ([], {"messages_empty"}),
        (None, {"messages_missing"}),
        ("hello", {"messages_no_list"}),
        ({"role": "user"}, {"messages_no_list"}),
        (["hello"], {"messages_no_objects"}),
        ([{"content": "x"}], {"role_missing"}),
        ([user("a"), {"role": "assistant"}], {"content_missing"}),
        ([user("a"), answer(None)], {"content_missing"}),
        ([user("a"), answer(5)], {"content_no_text"}),
        ([user("a"), answer("  ")], {"answers_empty"}),
        ([user(""), answer("b")], {"questions_empty"}),
        ([user([{"type": "text", "text": "a"}]), answer("b")], {"content_parts"}),
        ([user("a"), system("s"), answer("b")], {"system_not_first", "not_alternating"}),
        ([answer("b")], {"assistant_begins", "no_user", "not_alternating"}),
        ([user("a"), user("b"), answer("c")], {"users_in_row", "not_alternating"}),
        ([user("a"), answer("b"), answer("c")], {"assistants_in_row", "not_alternating"}),
        ([user("a")], {"no_assistant", "not_alternating"}),
        ([user("a"), answer("b"), user("c")], {"ends_without_assistant", "not_alternating"}),
        ([user("a"), answer("b", tool_calls=[CALL]), user("c"), answer("d")], {"calls_unanswered"}),
        ([user("a"), answer("b", tool_calls="[]")], {"calls_no_list"}),
        ([{"role": "human", "content": "a"}, {"role": "gpt", "content": "b"}], {"roles_foreign"}),
        ([user("a"), {"role": "Assistant", "content": "b"}], {"roles_unknown", "not_alternating"}),
    ],
)
def test_what_is_peculiar_is_counted(messages: Any, kinds: set[str]) -> None:
    """Once for every conversation that has it."""
    assert dict.fromkeys(kinds, 2) == counted(messages, messages)


def test_roles_that_the_settings_map_are_known() -> None:
    """Then human and gpt are user and assistant."""
    messages = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]

    assert {} == counted(messages, role="from", content="value", names={"human": "user", "gpt": "assistant"})


@given(
    st.lists(VALUES, max_size=4)
    | VALUES
    | st.lists(st.dictionaries(st.sampled_from(["role", "content", "tool_calls"]), VALUES), max_size=4)
)
def test_anything_may_stand_where_a_conversation_should(messages: Any) -> None:
    """Nothing is raised, and the same one is counted alike each time."""
    once, twice = counted(messages), counted(messages, messages)

    assert {kind: 2 * count for kind, count in once.items()} == twice


def test_the_texts_of_a_conversation_are_all_that_a_model_learns() -> None:
    """Contents, parts, thoughts and calls."""
    turns = Turns(Tally())
    text = turns.note(
        [user([{"type": "text", "text": "a"}]), answer("b", reasoning_content="hm", tool_calls=[CALL])], 1
    )

    assert ["a", "b", "hm", str([CALL])] == text.split(SEPARATOR)


def test_a_key_that_comes_late_is_told_once_all_before_have_the_same() -> None:
    """Where keys differ from the beginning, datasets keeps messages as JSON, and any key may come."""
    for early, expected in ((answer("b"), ["late_keys"]), (answer("b", weight=1), [])):
        tally = Tally()
        turns = Turns(tally)
        turns.note([user("a"), early], 1)
        turns.note([user("a"), answer("b", name="x")], 2, late=True)

        assert expected == [kind for kind in tally.counts if kind == "late_keys"]
