"""The chat template: where it is, and what becomes of conversations in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct, structs

from diagnose.model import Fact, Output, Reading, Step
from diagnose.sources import files as plain
from diagnose.sources.tokenizer import files, sandbox
from diagnose.sources.tokenizer.conversations import ANSWER, CONVERSATIONS, SYSTEM, USER, Conversation
from diagnose.sources.tokenizer.files import Files
from diagnose.sources.tokenizer.formats import reasoning_format, tool_format
from diagnose.sources.tokenizer.sandbox import Rendered
from diagnose.sources.tokenizer.special import text_of

if TYPE_CHECKING:
    from jinja2 import Template

_BASIC = ("plain", "turns", "chinese", "emoji")
"""Conversations that every chat template is made for."""
MOST_ENDLESS = 2
"""After so many conversations without an end the others are not tried."""
PROMPT, TURNS = "rendered", "rendered turns"
"""The origins of Outputs that hand two prompts on to the tokenizer; they go no further."""


class Source(Struct, frozen=True):
    """A chat template: its name among several (default, tool_use, …), its text, and the file that it is in."""

    name: str
    text: str
    file: str


class Found(Struct, frozen=True):
    """The template that counts, others of the same place by name, and one that an older loader would take instead."""

    chosen: Source | None = None
    others: tuple[Source, ...] = ()
    older: Source | None = None


class Marks(Struct, frozen=True):
    """What a template needs to know of the tokenizer: the special tokens by name, and all tokens that end a turn."""

    special: dict[str, str]
    tokens: tuple[str, ...]


def find(known: Files) -> Found:
    """The template as transformers takes it: chat_template.jinja goes before tokenizer_config.json."""
    here = _of_files(known)
    configured = _of_value(known.tokenizer_config.get("chat_template"), "tokenizer_config.json")
    processor = _processor(known)
    listed = here or configured or processor
    if not listed:
        return Found()
    chosen = next((source for source in listed if source.name == "default"), None)
    older = next((source for source in (configured or processor) if source.name == "default"), None) if here else None
    return Found(chosen, tuple(source for source in listed if source is not chosen), older)


def _of_files(known: Files) -> list[Source]:
    found = []
    if known.good("chat_template.jinja"):
        found.append(Source("default", _text(known.path("chat_template.jinja")), "chat_template.jinja"))
    if files.TEMPLATES in known.names:
        inside = plain.names_in(known.path(files.TEMPLATES)) or []
        for name in [name for name in inside if name.endswith(".jinja")][: files.MOST_TEMPLATES]:
            path = f"{files.TEMPLATES}/{name}"
            found.append(Source(name.removesuffix(".jinja"), _text(known.path(path)), path))
    return found


def _text(path: str) -> str:
    return plain.read_text(path, files.MOST_TEMPLATE) or ""


def _of_value(value: Any, file: str) -> list[Source]:
    if isinstance(value, str):
        return [Source("default", value[: files.MOST_TEMPLATE], file)]
    if isinstance(value, dict):
        return [Source(str(name), text, file) for name, text in value.items() if isinstance(text, str)]
    found = []
    for entry in value[: files.MOST_TEMPLATES] if isinstance(value, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("template"), str):
            found.append(Source(str(entry.get("name")), entry["template"][: files.MOST_TEMPLATE], file))
    return found


def _processor(known: Files) -> list[Source]:
    """chat_template.json, which processors of models with images read."""
    from diagnose.sources import jsonfile

    if not known.good("chat_template.json"):
        return []
    value = jsonfile.load(known.path("chat_template.json"), files.MOST_SMALL).value
    return _of_value(value.get("chat_template") if isinstance(value, dict) else None, "chat_template.json")


def where(known: Files, found: Found) -> Iterator[Reading]:
    """Where the template is, and whether two differ."""
    head = known.head or "model folder"
    if found.chosen is None:
        if found.others:
            yield Fact("template.source", found.others[0].file, known.origin(found.others[0].file))
            yield Fact("template.default_missing", True, known.origin(found.others[0].file))
            yield Fact("template.names", ", ".join(source.name for source in found.others)[:200], head)
        elif any(
            name in known.states and not known.good(name) for name in ("chat_template.jinja", "tokenizer_config.json")
        ):
            return  # what is wrong with the file is told; whether it holds a template is not known
        elif known.tokenizer_config or known.good("tokenizer.json"):
            yield Fact("template.source", "none", head)
        return
    origin = known.origin(found.chosen.file)
    yield Fact("template.source", found.chosen.file, origin)
    if not found.chosen.text.strip():
        yield Fact("template.empty", True, origin)
    if found.others:
        yield Fact("template.names", ", ".join(source.name for source in (found.chosen, *found.others))[:200], origin)
    if found.older is not None:
        yield Fact("template.older_source", found.older.file, known.origin(found.older.file))
        yield Fact("template.older_differs", found.older.text.strip() != found.chosen.text.strip(), origin)


def facts(source: Source, tools: Source | None, marks: Marks, origin: str) -> Iterator[Reading]:
    """Render all conversations; the facts. `tools` is the template that is taken where tools are given."""
    yield Step("reading the chat template")
    text = source.text if tools is None else source.text + tools.text
    yield Fact("template.tool_format", tool_format(text), origin)
    yield Fact("template.reasoning_format", reasoning_format(text), origin)
    tag = re.search(r"\{%-?\s*generation\s*-?%\}", source.text) is not None
    yield Fact("template.generation_tag", tag, origin)
    template, trouble = sandbox.compiled(source.text)
    if template is None:
        yield Fact(
            "template.syntax_error", trouble.message, origin, trouble.line if source.file.endswith("jinja") else 0
        )
        yield Fact("template.syntax_line", trouble.line, origin)
        return
    with_tools = template if tools is None else sandbox.compiled(tools.text)[0] or template
    yield from _Tried(template, with_tools, marks, origin).readings()


class _Tried:
    """The conversations of one template, rendered one after the other."""

    def __init__(self, template: Template, with_tools: Template, marks: Marks, origin: str) -> None:
        self._template, self._with_tools, self._marks, self._origin = template, with_tools, marks, origin
        self._results: dict[str, Rendered] = {}
        self._as_parts = False

    def readings(self) -> Iterator[Reading]:
        yield from self._first()
        for conversation in CONVERSATIONS[1:]:
            yield Step(f"rendering the conversation {conversation.name} in the chat template")
            result = self._render(conversation, add_generation_prompt=True)
            if result.problem == "failed" and conversation.name == "tool-result":
                result = self._with_arguments_as_text(conversation, result)
            self._results[conversation.name] = result
            yield from self._told(conversation, result)
            if sum(result.problem == "endless" for result in self._results.values()) >= MOST_ENDLESS:
                return
        if self._results["plain"].text:
            yield Output(PROMPT, self._results["plain"].text)
            yield Output(TURNS, self._results["turns"].text)
        yield from self._summary()
        yield from self._prompt()
        yield from self._turn_end()
        yield from self._thinking()
        if any(result.asked_time for result in self._results.values()):
            yield Fact("template.asks_time", True, self._origin)

    def _first(self) -> Iterator[Reading]:
        """The plainest conversation, which also tells whether content is a text or a list of parts."""
        conversation = CONVERSATIONS[0]
        yield Step("rendering a message of a user in the chat template")
        result = self._render(conversation, add_generation_prompt=True)
        if USER not in result.text:
            self._as_parts = True
            other = self._render(conversation, add_generation_prompt=True)
            self._as_parts = USER in other.text
            result = other if self._as_parts else result
        self._results[conversation.name] = result
        yield from self._told(conversation, result)

    def _render(self, conversation: Conversation, **others: Any) -> Rendered:
        messages = [self._message(message) for message in conversation.messages]
        template = self._with_tools if conversation.tools else self._template
        tools = list(conversation.tools) or None
        return sandbox.render(template, messages, tools=tools, **self._marks.special, **others)

    def _with_arguments_as_text(self, conversation: Conversation, result: Rendered) -> Rendered:
        """The outcome with a call's arguments as JSON text, which some templates take; else what it was."""
        messages = []
        for message in conversation.messages:
            calls = [
                {**call, "function": {**call["function"], "arguments": json.dumps(call["function"]["arguments"])}}
                for call in message.get("tool_calls", ())
            ]
            messages.append({**message, "tool_calls": calls} if calls else message)
        again = self._render(structs.replace(conversation, messages=tuple(messages)), add_generation_prompt=True)
        return result if again.problem else again

    def _message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        content = message.get("content")
        if self._as_parts and isinstance(content, str):
            return {**message, "content": [{"type": "text", "text": content}]}
        return dict(message)

    def _told(self, conversation: Conversation, result: Rendered) -> Iterator[Reading]:
        """What went wrong with one conversation; nothing is said of one that went well."""
        head = f"template.case.{conversation.name}"
        if result.problem:
            yield Fact(f"{head}.result", result.problem, self._origin)
            yield Fact(f"{head}.message", result.message or result.problem, self._origin)
            if result.line:
                yield Fact(f"{head}.line", result.line, self._origin)
            return
        lost = self._lost(conversation)
        if lost:
            yield Fact(f"{head}.result", "lost", self._origin)
            yield Fact(f"{head}.lost", ", ".join(lost), self._origin)

    def _lost(self, conversation: Conversation) -> list[str]:
        """What is not in the prompt of a conversation that was rendered."""
        result = self._results[conversation.name] if conversation.name in self._results else Rendered(problem="untried")
        if result.problem:
            return []
        return [what for what, word in conversation.words.items() if word not in result.text]

    def _outcome(self, name: str, word: str) -> str:
        result = self._results[name]
        return result.problem or ("used" if word in result.text else "dropped")

    def _summary(self) -> Iterator[Reading]:
        if self._results["plain"].problem:
            return
        words = {conversation.name: conversation.words for conversation in CONVERSATIONS}
        yield Fact("template.system", self._outcome("system", SYSTEM), self._origin)
        yield Fact("template.tools", self._outcome("tools", words["tools"]["tools"]), self._origin)
        yield Fact(
            "template.tool_result", self._outcome("tool-result", words["tool-result"]["tool-result"]), self._origin
        )
        basic = [conversation for conversation in CONVERSATIONS if conversation.name in _BASIC]
        lost = [what for conversation in basic for what in self._lost(conversation)]
        yield Fact("template.loses", ", ".join(dict.fromkeys(lost)) or "nothing", self._origin)
        content = "parts" if self._as_parts else "text"
        if not self._as_parts and self._results["parts"].text:
            told = self._results["parts"].text
            content = "both" if USER in told and "'text'" not in told and '"text"' not in told else "text"
        yield Fact("template.content", content, self._origin)

    def _prompt(self) -> Iterator[Reading]:
        """What is put in front of the answer."""
        asked = self._results["plain"]
        plain_ = self._render(CONVERSATIONS[0])
        if asked.problem or plain_.problem:
            return
        bos = self._marks.special.get("bos_token", "")
        if bos:
            yield Fact("template.prints_bos", asked.text.startswith(bos), self._origin)
            yield Fact("template.bos_twice", asked.text.startswith(bos + bos), self._origin)
        added = asked.text[_shared_start(asked.text, plain_.text) :]
        yield Fact("template.generation_prompt", added.strip()[:200] or "none", self._origin)
        answered = self._render(Conversation("", (CONVERSATIONS[0].messages[0], _answer()), {}))
        if not answered.problem and answered.text.startswith(plain_.text) and ANSWER in answered.text:
            head = answered.text[len(plain_.text) : answered.text.index(ANSWER)].strip()
            ignored = asked.text == plain_.text and bool(head)
            yield Fact("template.generation_prompt_ignored", ignored, self._origin)
            if ignored:
                yield Fact("template.answer_head", head[:200], self._origin)
            behind = answered.text[answered.text.rindex(ANSWER) :]
            always = (
                asked.text == plain_.text and bool(shared := _shared_end(plain_.text, behind)) and "assistant" in shared
            )
            yield Fact("template.generation_prompt_always", always, self._origin)
        elif not answered.problem and ANSWER in answered.text and asked.text == plain_.text:
            shared = _shared_end(plain_.text, answered.text[answered.text.rindex(ANSWER) :])
            yield Fact("template.generation_prompt_always", "assistant" in shared, self._origin)

    def _turn_end(self) -> Iterator[Reading]:
        """The token that stands behind an answer, at which generation has to stop."""
        answered = self._render(Conversation("", (CONVERSATIONS[0].messages[0], _answer()), {}))
        yield Fact("template.continues_answer", ANSWER in answered.text, self._origin)
        if answered.problem or ANSWER not in answered.text:
            return
        after = _behind(answered.text)
        ends = [token for token in self._marks.tokens if token and after.startswith(token)]
        end = max(ends, key=len, default="")
        if end and end != self._marks.special.get("bos_token"):
            yield Fact("template.turn_end", end[:100], self._origin)
        elif not after:
            following = _behind(self._results["turns"].text)
            heads = [token for token in self._marks.tokens if token and following.startswith(token)]
            yield Fact("template.turn_begins", max(heads, key=len, default="none")[:100], self._origin)
            yield Fact("template.turn_end", "none", self._origin)

    def _thinking(self) -> Iterator[Reading]:
        asked = self._results["plain"]
        if asked.problem:
            return
        yield Fact(
            "template.think_prefilled", asked.text.rstrip().endswith(("<think>", "◁think▷", "[THINK]")), self._origin
        )
        texts = {
            self._render(CONVERSATIONS[0], add_generation_prompt=True, enable_thinking=on).text for on in (True, False)
        }
        yield Fact("template.thinking_switch", len(texts) > 1, self._origin)


def _behind(text: str) -> str:
    """What follows the answer in a prompt."""
    return text[text.rindex(ANSWER) + len(ANSWER) :].lstrip() if ANSWER in text else ""


def _shared_start(one: str, other: str) -> int:
    """How many characters two texts have in common at the beginning."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _shared_end(one: str, other: str) -> str:
    """The longest text with which both end."""
    size = 0
    while size < min(len(one), len(other)) and one[-1 - size] == other[-1 - size]:
        size += 1
    return one[len(one) - size :]


def _answer() -> dict[str, Any]:
    return {"role": "assistant", "content": ANSWER}


def marks_of(known: Files, special: Mapping[str, str], tokens: Sequence[str]) -> Marks:
    """What rendering needs: every special token with a name, and the tokens that may end a turn."""
    named = {f"{name}_token": text for name, text in special.items()}
    for key in ("sep_token", "cls_token", "mask_token"):
        text = text_of(known.tokenizer_config.get(key))
        if text:
            named[key] = text
    return Marks(named, tuple(tokens))
