"""Conversations: which roles follow each other. What is peculiar is found once for each sequence, and counted for all alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

from msgspec import Struct

from diagnose.sources.data.batch import word_for
from diagnose.sources.data.tally import Tally

MEANT = {
    "human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "bing": "assistant", "bard": "assistant",
    "model": "assistant", "ai": "assistant", "function_call": "assistant", "observation": "tool", "function_response": "tool",
    "function": "tool", "ipython": "tool", "developer": "system",
}  # fmt: skip
"""Other names of the four roles, in ShareGPT's and other collections."""
ROLES = ("system", "user", "assistant", "tool")
OWN = frozenset((*ROLES, "developer"))
"""Roles that chat templates know by name."""
CALLS = ("tool_calls", "function_call")
EXTRAS = ("reasoning_content", "reasoning", "thinking", *CALLS)
SEPARATOR = "\x1f"
MOST_SEQUENCES = 5000
MOST_KEPT = 300
"""Of how many sequences the first conversation is kept, to be put into the chat template."""
_SHORT = 16

Messages = list[dict[str, Any]]


class Sequence(Struct):
    """One sequence of roles: what is peculiar in it, how many conversations have it, and the first of them."""

    kinds: tuple[tuple[str, str], ...]
    plain: bool
    count: int = 0
    line: int = 0
    messages: Messages | None = None


class Turns:
    """The conversations of a file. `role` and `content` are the keys of a message, `names` what its roles mean there."""

    def __init__(
        self, tally: Tally, role: str = "role", content: str = "content", names: dict[str, str] | None = None
    ) -> None:
        self.tally, self.role, self.content = tally, role, content
        self.names = {**MEANT, **(names or {})}
        self.own = names or {}
        self.sequences: dict[Any, Sequence] = {}
        self.keys: dict[str, int] = {}
        self.roles: dict[str, int] = {}
        self._calls: dict[tuple[tuple[str, ...], ...], bool] = {}
        self._key_sets: set[frozenset[str]] = set()

    def note(self, messages: Any, line: int, late: bool = False) -> str:
        """Take in a conversation; all its texts, one behind the other."""
        role, content = self.role, self.content
        try:
            roles = tuple([message[role] for message in messages])
            contents = [message[content] for message in messages]
            keys = tuple(map(tuple, messages))
            calls = self._calls.get(keys)
            if calls is None:
                calls = self._new_keys(keys, line, late)
            extra = tuple([_calls_of(message) for message in messages]) if calls else ()
            shape = (roles, keys, tuple(map(type, contents)), extra)
            known = self.sequences.get(shape)
        except (KeyError, TypeError, AttributeError, ValueError):
            return self._odd(messages, line, late)
        if known is None:
            known = self._first(shape, roles, contents, extra, messages, line)
        known.count += 1
        for kind, example in known.kinds:
            self.tally.add(kind, line, example)
        if not known.plain:
            return self._texts(messages, line)
        if len(min(contents, key=len, default="")) < _SHORT:
            self._empty(roles, contents, line)
        return SEPARATOR.join(contents)

    def _new_keys(self, keys: tuple[tuple[str, ...], ...], line: int, late: bool) -> bool:
        if any(type(name) is not str for part in keys for name in part):
            raise TypeError
        found = any(name in EXTRAS for part in keys for name in part)
        self._note_keys(keys, line, late)
        if len(self._calls) < MOST_SEQUENCES:
            self._calls[keys] = found
        return found

    def _note_keys(self, keys: Iterable[tuple[str, ...]], line: int, late: bool) -> None:
        """Keys that come only late matter where all messages before have the same: then datasets took them for all there are."""
        for part in keys:
            if not late and len(self._key_sets) < 2:
                self._key_sets.add(frozenset(part))
            for name in part:
                if name not in self.keys:
                    self.keys[name] = line
                    if late and len(self._key_sets) == 1:
                        self.tally.add("late_keys", line, name)

    def _first(
        self,
        shape: Any,
        roles: tuple[str, ...],
        contents: list[Any],
        calls: tuple[str, ...],
        messages: Messages,
        line: int,
    ) -> Sequence:
        plain = all(type(text) is str for text in contents) and not calls
        made = Sequence(tuple(self._kinds(roles, calls or ("",) * len(roles), contents)), plain, 0, line)
        for role in set(roles):
            self.roles.setdefault(str(role)[:40], line)
        if len(self.sequences) < MOST_KEPT and sum(len(text) for text in contents if type(text) is str) < 1 << 16:
            made.messages = messages
        if len(self.sequences) < MOST_SEQUENCES:
            self.sequences[shape] = made
        return made

    def _kinds(self, roles: tuple[Any, ...], calls: tuple[str, ...], contents: list[Any]) -> list[tuple[str, str]]:
        """The peculiarities of a sequence of roles, with an example each."""
        if not roles:
            return [("messages_empty", "")]
        meant = [self.names.get(str(role), str(role)) for role in roles]
        found = []
        foreign = [
            str(role) for role in roles if str(role) not in OWN and str(role) in MEANT and str(role) not in self.own
        ]
        unknown = [str(role) for role, name in zip(roles, meant, strict=True) if name not in ROLES]
        if foreign:
            found.append(("roles_foreign", ", ".join(dict.fromkeys(foreign))))
        if unknown:
            found.append(("roles_unknown", ", ".join(dict.fromkeys(unknown))[:100] or "an empty text"))
        found += self._order(meant, calls)
        if "odd" in calls:
            found.append(("calls_no_list", ""))
        for name, text, call in zip(meant, contents, calls, strict=True):
            if text is None and not call:
                found.append(("content_missing", name))
            elif isinstance(text, list):
                found.append(("content_parts", name))
            elif text is not None and type(text) is not str:
                found.append(("content_no_text", name))
        return list(dict(found).items())

    def _order(self, meant: list[str], calls: tuple[str, ...]) -> list[tuple[str, str]]:
        found = []
        order = ", ".join(meant[:6])
        if "system" in meant[1:]:
            found.append(("system_not_first", order))
        spoken = [(name, call) for name, call in zip(meant, calls, strict=True) if name != "system"]
        if spoken and spoken[0][0] == "assistant":
            found.append(("assistant_begins", order))
        for (one, called), (other, _) in pairwise(spoken):
            if one == other == "user":
                found.append(("users_in_row", order))
            elif one == other == "assistant":
                found.append(("assistants_in_row", order))
            elif called and other == "user":
                found.append(("calls_unanswered", order))
        sides = ["user" if name == "tool" else name for name, _ in spoken]
        if sides != ["user", "assistant"] * (len(sides) // 2) or "system" in meant[1:]:
            found.append(("not_alternating", order))
        if any(name not in ROLES for name in meant):
            return found  # one of them may be the assistant under another name
        if "assistant" not in meant:
            found.append(("no_assistant", order))
        elif meant[-1] != "assistant":
            found.append(("ends_without_assistant", order))
        if "user" not in meant and "tool" not in meant:
            found.append(("no_user", order))
        return found

    def _odd(self, messages: Any, line: int, late: bool) -> str:
        """A conversation that is not written like one: what is wrong is counted, what can be read is taken in."""
        if messages is None:
            self.tally.add("messages_missing", line)
            return ""
        if not isinstance(messages, list):
            self.tally.add("messages_no_list", line, word_for(type(messages)))
            return str(messages) if isinstance(messages, str) else ""
        good: Messages = []
        for message in messages:
            if not isinstance(message, dict):
                self.tally.add("messages_no_objects", line, word_for(type(message)))
                return ""
            role, text = message.get(self.role), message.get(self.content)
            if not isinstance(role, str):
                self.tally.add("role_missing", line, f"a message without {self.role}")
                return ""
            good.append({**message, self.role: role, self.content: text})
        calls = tuple([_calls_of(message) for message in good])
        roles = tuple([message[self.role] for message in good])
        contents = [message[self.content] for message in good]
        self._note_keys([tuple(message) for message in messages], line, late)
        shape = (roles, "odd", tuple(map(type, contents)), calls)
        known = self.sequences.get(shape) or self._first(shape, roles, contents, calls, messages, line)
        known.plain = False
        known.count += 1
        for kind, example in known.kinds:
            self.tally.add(kind, line, example)
        return self._texts(good, line)

    def _texts(self, messages: Messages, line: int) -> str:
        """The texts of messages with parts, or with calls and thoughts beside the content."""
        texts: list[str] = []
        empty: set[str] = set()
        for message in messages:
            content = message.get(self.content)
            own = texts_of(content)
            others = [str(message[key]) for key in EXTRAS if message.get(key)]
            texts += own + others
            told = isinstance(content, str) or (isinstance(content, list) and not _media(content))
            if told and not others and not any(map(str.strip, own)):
                empty.add(self.names.get(str(message.get(self.role)), str(message.get(self.role))))
        self._count_empty(empty, line)
        return SEPARATOR.join(texts)

    def _empty(self, roles: tuple[str, ...], contents: list[str], line: int) -> None:
        short = {role for role, text in zip(roles, contents, strict=True) if len(text) < _SHORT and not text.strip()}
        self._count_empty({self.names.get(role, role) for role in short}, line)

    def _count_empty(self, roles: set[str], line: int) -> None:
        if "assistant" in roles:
            self.tally.add("answers_empty", line)
        if "user" in roles:
            self.tally.add("questions_empty", line)


def texts_of(content: Any) -> list[str]:
    """The texts of a content: a text, or the parts of a list that have one."""
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        return []
    found = []
    for part in content:
        text = part.get("text") if isinstance(part, dict) else part
        if isinstance(text, str):
            found.append(text)
    return found


def _media(content: list[Any]) -> bool:
    """Whether a content has parts that are no texts."""
    return any(isinstance(part, dict) and "text" not in part for part in content)


def _calls_of(message: dict[str, Any]) -> str:
    """How a message calls tools: not at all (empty), `called`, `text` (arguments as JSON inside a text), `odd` (no list)."""
    calls = message.get("tool_calls")
    if not calls:
        return "called" if message.get("function_call") else ""
    if not isinstance(calls, list):
        return "odd"
    for function in functions_of(calls):
        if not isinstance(function, dict):
            return "odd"
        if isinstance(function.get("arguments"), str):
            return "text"
    return "called"


def functions_of(calls: list[Any]) -> Iterator[Any]:
    """What each call of tools calls, an object with name and arguments; None for a call that is no object."""
    for call in calls:
        yield call.get("function", call) if isinstance(call, dict) else None
