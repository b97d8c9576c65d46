"""The conversations that a chat template is tried with, each with words in it that must come out again."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

Message = dict[str, Any]

SYSTEM, USER, ANSWER, AGAIN = "Sysmarkword seven", "Usermarkword nine", "Answermarkword four", "Againmarkword two"
TOOL, RESULT = "toolmarkname", "Resultmarkword eight"


class Conversation(Struct, frozen=True):
    """A name, the messages, the tools, and the words that the prompt must hold: what they are → the word."""

    name: str
    messages: tuple[Message, ...]
    words: dict[str, str]
    tools: tuple[dict[str, Any], ...] = ()


def _said(role: str, content: Any) -> Message:
    return {"role": role, "content": content}


TOOLS: tuple[dict[str, Any], ...] = (
    {
        "type": "function",
        "function": {
            "name": TOOL,
            "description": "Tells the weather of a city",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "description": "Name of the city"}},
                "required": ["city"],
            },
        },
    },
)
_CALL: Message = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {"id": "call00001", "type": "function", "function": {"name": TOOL, "arguments": {"city": "Citymarkword"}}}
    ],
}
_RESULT: Message = {"role": "tool", "name": TOOL, "tool_call_id": "call00001", "content": RESULT}
_PARTS = [{"type": "text", "text": USER}]

CONVERSATIONS: tuple[Conversation, ...] = (
    Conversation("plain", (_said("user", USER),), {"user": USER}),
    Conversation("system", (_said("system", SYSTEM), _said("user", USER)), {"system": SYSTEM, "user": USER}),
    Conversation(
        "turns",
        (_said("user", USER), _said("assistant", ANSWER), _said("user", AGAIN)),
        {"first-user": USER, "assistant": ANSWER, "last-user": AGAIN},
    ),
    Conversation("tools", (_said("user", USER),), {"user": USER, "tools": TOOL}, TOOLS),
    Conversation(
        "tool-result",
        (_said("user", USER), _CALL, _RESULT),
        {"user": USER, "tool-call": "Citymarkword", "tool-result": RESULT},
        TOOLS,
    ),
    Conversation("empty", (_said("user", ""),), {}),
    Conversation("two-users", (_said("user", USER), _said("user", AGAIN)), {"first-user": USER, "last-user": AGAIN}),
    Conversation(
        "assistant-first", (_said("assistant", ANSWER), _said("user", USER)), {"assistant": ANSWER, "user": USER}
    ),
    Conversation("parts", (_said("user", _PARTS),), {"user": USER}),
    Conversation("chinese", (_said("user", "今天天气怎么样"),), {"user": "今天天气怎么样"}),
    Conversation("emoji", (_said("user", "👩🏽‍🚀 naïve 𝔘"),), {"user": "👩🏽‍🚀 naïve 𝔘"}),
)
"""In the order in which they are tried: the plainest first."""
