"""Examples as the model's chat template and tokenizer make them: what is refused or lost, how many tokens, what is cut off.

Both run in child processes of their own, bounded in memory and time, as `sources/tokenizer` does.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from diagnose.model import Fact, Reading, Step
from diagnose.sources import child
from diagnose.sources.data.batch import Example
from diagnose.sources.data.layout import Layout
from diagnose.sources.data.tally import Tally
from diagnose.sources.data.turns import Turns, functions_of, texts_of
from diagnose.sources.tokenizer import files, sandbox, template
from diagnose.sources.tokenizer.files import Files
from diagnose.sources.tokenizer.special import NAMES, text_of

if TYPE_CHECKING:
    from jinja2 import Template
    from tokenizers import Tokenizer

    from diagnose.sources.data.reading import Parts, Read

SECONDS = 40.0
MEMORY = 3 << 30
MOST_KEPT = 1000
MOST_CHARACTERS = 2_000_000
"""How many examples, and how long texts together, are kept to be counted in tokens."""
_OTHER = re.compile(
    r"image|img|video|audio|vision|speech|object_ref|box_|quad_|fim|repo_name|file_sep|extra_id|<unk>|\bpad\b",
    re.IGNORECASE,
)
"""Special tokens that data may well hold as text, as places of images do."""
_IN_TEMPLATE = ("messages", "sharegpt", "prompt-completion", "preference", "unpaired-preference")
_LONGEST = 400_000
"""Characters of one example that are made into tokens; the rest is reckoned at the same rate."""


class Model(Struct, frozen=True):
    """What is known of the model: its tokenizer's files, the special tokens by name, the chat template (empty: none)."""

    known: Files
    special: dict[str, str]
    template: str = ""

    def control_tokens(self) -> list[str]:
        """The tokens of tokenizer.json that are marked as special, but for places of images and the like."""
        from diagnose.sources.tokenizer import document

        found = list(self.special.values())
        if self.known.good("tokenizer.json"):
            read = document.read(self.known.path("tokenizer.json"))
            if read.document is not None:
                found += [token.text for token in read.document.added() if token.special]
        return [text for text in dict.fromkeys(found) if not _OTHER.search(text)]


class Limits(Struct, frozen=True):
    """How examples are cut: at how many tokens (0: not known), and whether that is the trainer's own default.

    `names` is what the framework calls the roles of messages in the template, where they are called otherwise in the data.
    """

    tokens: int = 0
    default: bool = False
    names: dict[str, str] = {}


class _Chat(Struct, frozen=True):
    """The chat template (None: there is none), the special tokens that it is given, and what roles are called in it."""

    layout: Layout
    compiled: Template | None
    values: dict[str, Any]
    names: dict[str, str]

    def messages(self, messages: list[Any]) -> list[dict[str, Any]]:
        """Messages with the keys `role` and `content`, and with the roles that the settings map theirs to."""
        role, content, names = self.layout.role, self.layout.content, {**self.names, **self.layout.names}
        if (role, content) == ("role", "content") and not names:
            return [message for message in messages if isinstance(message, dict)]
        made = []
        for message in messages:
            if isinstance(message, dict):
                others = {key: value for key, value in message.items() if key not in (role, content)}
                name = message.get(role)
                made.append({"role": names.get(str(name), name), "content": message.get(content), **others})
        return made

    def text(self, messages: Any, **more: Any) -> str:
        """A conversation as the template makes it; without one, or where it refuses, its texts."""
        if not isinstance(messages, list):
            return ""
        whole = self.messages(messages)
        if self.compiled is not None:
            made = sandbox.render(self.compiled, whole, **self.values, **more)
            if not made.problem:
                return made.text
        return "\n".join(text for message in whole for text in texts_of(message.get("content")))


class Kept:
    """Some examples of a file, evenly spread over it: every one at first, then every second, every fourth …"""

    def __init__(self) -> None:
        self.rows: list[tuple[int, Example, int]] = []
        self.seen = self.characters = 0
        self._step = 1

    def note(self, line: int, row: Example, size: int) -> None:
        """Take in an example of `size` characters, if it is one of those that are kept."""
        self.seen += 1
        if self.seen % self._step:
            return
        self.rows.append((line, row, size))
        self.characters += size
        while len(self.rows) > 1 and (len(self.rows) > MOST_KEPT or self.characters > MOST_CHARACTERS):
            self.rows = self.rows[1::2]
            self.characters = sum(size for _, _, size in self.rows)
            self._step *= 2


def of_folder(path: str, own_template: str | None) -> Model:
    """The model in a folder. `own_template` is the training's own, `None` where it takes the model's."""
    known = files.look(path, os.path.basename(path))
    written = {
        name: known.tokenizer_config.get(f"{name}_token") or known.special_map.get(f"{name}_token") for name in NAMES
    }
    special = {name: text_of(value) for name, value in written.items() if text_of(value)}
    if own_template is not None:
        return Model(known, special, own_template)
    chosen = template.find(known).chosen
    return Model(known, special, chosen.text if chosen is not None else "")


def facts(one: Read, model: Model, limits: Limits) -> Iterator[Reading]:
    """What becomes of the examples of a file that was read."""
    if one.parts is None:
        return
    readings = _facts(one, one.parts, model, limits)

    def bounded() -> Iterator[Reading]:
        sandbox.limit_this_process(MEMORY, int(SECONDS) + 1)
        yield from readings

    yield from child.read_all([child.Source("tokens of the training data", bounded, SECONDS)])


def _facts(one: Read, parts: Parts, model: Model, limits: Limits) -> Iterator[Reading]:
    compiled = sandbox.compiled(model.template)[0] if model.template.strip() else None
    values = {f"{name}_token": text for name, text in model.special.items()}
    chat = _Chat(one.layout, compiled, values, limits.names)
    whole = one.about or one.count
    if compiled is not None and one.layout.name in _IN_TEMPLATE:
        yield Step("putting conversations into the chat template")
        tally = Tally()
        _rendered(parts.examples.turns, compiled, chat, tally)
        yield from tally.facts(one.head, one.file.shown, whole)
    if not model.known.good("tokenizer.json"):
        return
    yield Step("loading tokenizer.json")
    tokenizer = _tokenizer(model.known.path("tokenizer.json"))
    if tokenizer is None:
        return
    yield Step("counting tokens")
    counts, tally = _counted(parts.kept, chat, tokenizer, limits)
    if counts:
        yield from _sums(counts, limits, one.head, one.file.shown, whole)
        yield from tally.facts(one.head, one.file.shown, len(counts))


def _rendered(turns: Turns, compiled: Template, chat: _Chat, tally: Tally) -> None:
    """The first conversation of every sequence of roles in the template: whether it is refused, and whether texts are lost."""
    for known in turns.sequences.values():
        if not known.messages:
            continue
        messages = chat.messages(known.messages)
        made = sandbox.render(compiled, messages, **chat.values)
        if made.problem:
            tally.add("template_refuses", known.line, made.message, known.count)
            continue
        for message in messages:
            texts = [text.strip() for text in texts_of(message.get("content"))]
            if any(not _is_in(text, made.text) for text in texts) and not _thoughts(message):
                tally.add("template_loses", known.line, f"a message of the role {message.get('role')}", known.count)
                break
        if any(f"{json.dumps(text)}" in made.text for text in _arguments(messages)):
            tally.add("arguments_quoted", known.line, "", known.count)


def _is_in(text: str, prompt: str) -> bool:
    """Whether a text is in a prompt, as it stands or as JSON, which some templates make of a tool's answer."""
    return text in prompt or any(json.dumps(text, ensure_ascii=wide)[1:-1] in prompt for wide in (False, True))


def _thoughts(message: dict[str, Any]) -> bool:
    """Whether a template may leave out a part of a message on purpose: the thoughts of an answer further up."""
    return "</think>" in str(message.get("content"))


def _arguments(messages: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The arguments of calls that are texts with JSON in them."""
    for message in messages:
        calls = message.get("tool_calls")
        for function in functions_of(calls) if isinstance(calls, list) else ():
            given = function.get("arguments") if isinstance(function, dict) else None
            if isinstance(given, str) and '"' in given:
                yield given


def _tokenizer(path: str) -> Tokenizer | None:
    from tokenizers import Tokenizer

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        made = Tokenizer.from_file(path)
        made.no_truncation()
        made.no_padding()
        return made
    except BaseException as error:  # a panic in the library's Rust is no Exception
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        return None


def _counted(kept: Kept, chat: _Chat, tokenizer: Tokenizer, limits: Limits) -> tuple[list[tuple[int, int]], Tally]:
    """The tokens of each example that is kept, with its line; and how many of them are longer than what is kept of one."""
    tally = Tally()
    counts = []
    for line, row, _ in kept.rows:
        prompt, whole = _texts(row, chat)
        if chat.layout.name == "tokens":
            size = len(row["input_ids"]) if isinstance(row.get("input_ids"), list) else 0
        else:
            size = _size(tokenizer, whole)
        if not size:
            continue
        counts.append((size, line))
        if limits.tokens and size > limits.tokens:
            tally.add("over_length", line, f"{size:,} tokens")
            if prompt and _size(tokenizer, prompt) >= limits.tokens:
                tally.add("answers_cut_away", line, f"the prompt has more than {limits.tokens:,} tokens")
    return counts, tally


def _sums(counts: list[tuple[int, int]], limits: Limits, head: str, path: str, examples: int) -> Iterator[Reading]:
    """What the tokens of the examples that were counted tell of the whole file."""
    total = sum(size for size, _ in counts)
    most, line = max(counts, key=lambda item: item[0])
    yield Fact(f"{head}.tokens_counted_in", len(counts), path)
    yield Fact(f"{head}.tokens_mean", round(total / len(counts)), path)
    yield Fact(f"{head}.tokens_longest", most, path, line)
    yield Fact(f"{head}.tokens", round(total / len(counts) * examples), path)
    if limits.tokens:
        yield Fact(f"{head}.cut_at", limits.tokens, path)
        yield Fact(f"{head}.cut_at_default", limits.default, path)
        cut = sum(max(size - limits.tokens, 0) for size, _ in counts)
        yield Fact(f"{head}.tokens_beyond_percent", round(100 * cut / total, 1), path)


def _size(tokenizer: Tokenizer, text: str) -> int:
    if not text:
        return 0
    part = text[:_LONGEST]
    return round(len(tokenizer.encode(part, add_special_tokens=False).ids) * len(text) / len(part))


def _texts(row: Example, chat: _Chat) -> tuple[str, str]:
    """An example's prompt (empty where it has none of its own) and its whole text."""
    form, column = chat.layout.name, chat.layout.column
    if form in ("messages", "sharegpt"):
        return "", chat.text(row.get(column("messages")))
    if form == "alpaca":
        parts = [str(row.get(name) or "") for name in chat.layout.columns.values()]
        return "", "\n".join(filter(None, parts))
    if form == "text":
        return "", str(row.get(column("text")) or "")
    if form in ("prompt-completion", "unpaired-preference", "preference"):
        answer = row.get(column("chosen" if form == "preference" else "completion"))
        prompt = row.get(column("prompt"))
        if isinstance(answer, list):
            before = prompt if isinstance(prompt, list) else []
            asked = chat.text(before, add_generation_prompt=True) if before else ""
            return asked, chat.text(before + answer)
        return str(prompt or ""), str(prompt or "") + str(answer or "")
    return "", ""
