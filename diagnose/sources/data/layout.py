"""In which form the examples are: by what the training's settings say of the dataset, else by its columns and first values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from diagnose.sources.data.batch import Example

COLUMNS = ("messages", "conversations", "prompt", "completion", "chosen", "rejected", "label", "text", "instruction", "output", "input_ids")  # fmt: skip
"""Columns that trainers know by name."""
OTHER_NAMES = {
    "response": "completion", "answer": "completion", "target": "completion", "question": "prompt", "query": "prompt",
    "conversation": "messages", "dialogue": "messages", "dialog": "messages", "chat": "messages", "turns": "messages",
    "accepted": "chosen", "preferred": "chosen", "dispreferred": "rejected", "content": "text", "document": "text",
}  # fmt: skip
"""What the same is called in other collections."""
ALPACA = {"prompt": "instruction", "query": "input", "response": "output"}


MOST_LISTED = 300


def listed(columns: Sequence[str]) -> str:
    """The names of columns, separated by commas; of very many those first that trainers know, which are never left out."""
    whole = ", ".join(columns)
    if len(whole) > MOST_LISTED:
        whole = ", ".join(sorted(columns, key=lambda name: name not in COLUMNS))
    return whole[:MOST_LISTED]


class Layout(Struct, frozen=True):
    """A form: its name, and which column has which part (messages, prompt, completion, text …).

    `role` and `content` are the keys of a message, `names` what its roles mean where the settings say so. `absent` is a column
    that the settings name and no example has; `misnamed` one that stands for `meant`.
    """

    name: str
    columns: dict[str, str] = {}
    role: str = "role"
    content: str = "content"
    names: dict[str, str] = {}
    absent: str = ""
    misnamed: str = ""
    meant: str = ""

    def column(self, part: str) -> str:
        """The column of a part; the part's own name where none is told."""
        return self.columns.get(part, part)


class Asked(Struct, frozen=True):
    """What the settings say of a dataset: the framework, its word for the form, the field, an entry of dataset_info.json.

    `keys` are those of a message that hold its role and its text, `roles` what its roles mean, where the settings map them.
    `place` is the setting that names the dataset: file, line, column and key.
    """

    framework: str = ""
    task: str = ""
    format: str = ""
    field: str = ""
    entry: dict[str, Any] | None = None
    keys: tuple[str, str] = ("", "")
    roles: dict[str, str] = {}
    place: tuple[str, int, int, str] | None = None


def layout_of(rows: Sequence[Example], columns: Sequence[str], asked: Asked) -> Layout:
    """The form of the first examples. Where the settings tell one, that is taken, whether the columns are there or not."""
    first = {name: _first(rows, name) for name in columns}
    told = _told(first, asked)
    return told if told is not None else _seen(first)


def _first(rows: Sequence[Example], column: str) -> Any:
    return next((row[column] for row in rows if row.get(column) not in (None, "", [])), None)


def _told(first: Mapping[str, Any], asked: Asked) -> Layout | None:
    if asked.entry is not None:
        return _of_entry(first, asked.entry)
    if asked.framework == "axolotl":
        return _of_axolotl(first, asked)
    if asked.framework == "trl" and asked.field and "messages" not in first and "prompt" not in first:
        return _with(first, Layout("text", {"text": asked.field}), asked.field)
    return None


def _of_axolotl(first: Mapping[str, Any], asked: Asked) -> Layout | None:
    kind = asked.format.partition(":")[0].partition(".")[0]
    if kind == "completion":
        field = asked.field or "text"
        return _with(first, Layout("text", {"text": field}), field)
    if kind == "chat_template" and asked.task in ("", "sft"):
        field = asked.field or "messages"
        seen = _keys(first.get(field))
        role, content = asked.keys[0] or seen[0], asked.keys[1] or seen[1]
        names = {"human": "user", "gpt": "assistant", **asked.roles}
        return _with(first, Layout("messages", {"messages": field}, role, content, names), field)
    if asked.format in ("alpaca", "alpaca_chat.load_qa") or asked.format.startswith("alpaca:"):
        made = Layout("alpaca", dict(ALPACA))
        return _with(first, made, "instruction", "output")
    return None


def _of_entry(first: Mapping[str, Any], entry: Mapping[str, Any]) -> Layout:
    """The form that an entry of LLaMA-Factory's dataset_info.json tells (`data/parser.py`, `DatasetAttr.join`)."""
    given, tags = _mapping(entry.get("columns")), _mapping(entry.get("tags"))
    form = entry.get("formatting", "alpaca")
    ranking = entry.get("ranking") is True
    if form == "alpaca":
        columns = (
            {part: given.get(part, "") for part in ("prompt", "query", "response", "system", "history")}
            if given
            else dict(ALPACA)
        )
        columns = {part: name for part, name in columns.items() if name}
        if ranking:
            columns |= {"chosen": given.get("chosen", "chosen"), "rejected": given.get("rejected", "rejected")}
            made = Layout("preference", {**columns, "prompt": columns.get("prompt", "prompt")})
            return _with(first, made, columns["chosen"], columns["rejected"])
        return _with(first, Layout("alpaca", columns), *columns.values())
    messages = given.get("messages", "") or "conversations"
    names = {
        tags.get("user_tag", "human"): "user",
        tags.get("assistant_tag", "gpt"): "assistant",
        tags.get("observation_tag", "observation"): "tool",
        tags.get("function_tag", "function_call"): "assistant",
        tags.get("system_tag", "system"): "system",
    }
    role, content = tags.get("role_tag", "from"), tags.get("content_tag", "value")
    if ranking:  # the conversation ends with a question: its two answers stand in columns of their own
        answers = given.get("chosen", "chosen"), given.get("rejected", "rejected")
        columns = {"prompt": messages, "chosen": answers[0], "rejected": answers[1]}
        return _with(first, Layout("preference", columns, role, content, names), messages, *answers)
    made = Layout("messages" if role == "role" else "sharegpt", {"messages": messages}, role, content, names)
    return _with(first, made, messages)


def _mapping(value: Any) -> dict[str, str]:
    return {key: name for key, name in value.items() if isinstance(name, str)} if isinstance(value, dict) else {}


def _with(first: Mapping[str, Any], made: Layout, *wanted: str) -> Layout:
    """The layout with the first wanted column that is not there, and the column that was probably meant by it."""
    absent = next((name for name in wanted if name and name not in first), "")
    if not absent or not first:
        return made
    return replace(made, absent=absent, misnamed=nearest(absent, first), meant=absent)


def nearest(wanted: str, names: Mapping[str, Any]) -> str:
    """The column that may stand for another: spelt nearly alike, or what the same is called elsewhere."""
    if wanted in ("messages", "conversations") and (other := {"messages", "conversations"} & names.keys()):
        return other.pop()
    close = get_close_matches(wanted, [name for name in names if name not in COLUMNS], 1, 0.75)
    if close:
        return close[0]
    return next((name for name in names if OTHER_NAMES.get(name.lower()) == wanted), "")


def _keys(value: Any) -> tuple[str, str]:
    """The keys of a message that hold its role and its text."""
    message = value[0] if isinstance(value, list) and value else None
    if isinstance(message, dict) and "role" not in message and "from" in message:
        return "from", "value"
    return "role", "content"


def _is_turns(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and isinstance(value[0], dict)
        and ("role" in value[0] or "from" in value[0])
    )


def _seen(first: Mapping[str, Any]) -> Layout:
    """The form that the columns and values show."""
    if "input_ids" in first:
        return Layout("tokens")
    if "chosen" in first and "rejected" in first:
        return Layout("preference")
    if "messages" in first:
        role, content = _keys(first["messages"])
        return Layout("sharegpt" if role == "from" else "messages", {}, role, content)
    if "conversations" in first:
        role, content = _keys(first["conversations"])
        return Layout("sharegpt" if role == "from" else "messages", {"messages": "conversations"}, role, content)
    if "prompt" in first and "completion" in first:
        return Layout("unpaired-preference" if "label" in first else "prompt-completion")
    if "instruction" in first and "output" in first:
        return Layout("alpaca", dict(ALPACA))
    if "text" in first:
        return Layout("text")
    turns = next((name for name, value in first.items() if _is_turns(value)), "")
    if turns and "prompt" not in first:
        role, content = _keys(first[turns])
        form = "sharegpt" if role == "from" else "messages"
        return Layout(form, {"messages": turns}, role, content, misnamed=turns, meant="messages")
    if "prompt" in first:
        other = nearest("completion", first) or nearest("rejected", first) or nearest("chosen", first)
        meant = next(
            (name for name in ("completion", "chosen", "rejected") if other and nearest(name, first) == other), ""
        )
        return Layout("prompt-only", misnamed=other if meant else "", meant=meant)
    for wanted in ("messages", "text", "prompt", "completion", "chosen", "rejected"):
        found = nearest(wanted, first)
        if found:
            return Layout("unknown", misnamed=found, meant=wanted)
    return Layout("unknown")
