"""Examples in their form → what is peculiar in each, and the text that a model would learn from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diagnose.sources.data.batch import Example, word_for
from diagnose.sources.data.layout import Layout
from diagnose.sources.data.tally import Tally
from diagnose.sources.data.turns import SEPARATOR, Turns, texts_of

_SHORT = 16
MASKED = -100
"""The label that takes a token out of the loss (`ignore_index` of PyTorch's cross entropy)."""


class Examples:
    """The examples of a file. `vocabulary` is how many ids the model knows (0: not known).

    `begin` is the token that the tokenizer puts before a text by itself (empty: none).
    """

    def __init__(self, layout: Layout, tally: Tally, vocabulary: int = 0, begin: str = "") -> None:
        self.layout, self.tally, self.vocabulary, self.begin = layout, tally, vocabulary, begin
        self.turns = Turns(tally, layout.role, layout.content, layout.names)
        self.late = False
        self.labels = {True: 0, False: 0}
        forms: dict[str, Callable[[Example, int], str]] = {
            "messages": self._messages,
            "sharegpt": self._messages,
            "prompt-completion": self._completion,
            "unpaired-preference": self._judged,
            "preference": self._pair,
            "prompt-only": self._prompt,
            "alpaca": self._instruction,
            "text": self._text,
            "tokens": self._tokens,
        }
        self.texts = self._unknown if layout.absent else forms.get(layout.name, self._unknown)
        """All texts of an example in one; what is peculiar in it is counted."""
        self._messages_column = layout.column("messages")
        self._text_column = layout.column("text")

    def _messages(self, row: Example, line: int) -> str:
        return self.turns.note(row.get(self._messages_column), line, self.late)

    def _text(self, row: Example, line: int) -> str:
        return self._plain(row, self._text_column, "text", line)

    def _completion(self, row: Example, line: int) -> str:
        prompt, completion = row.get(self.layout.column("prompt")), row.get(self.layout.column("completion"))
        if isinstance(prompt, list) and isinstance(completion, list):
            return self.turns.note(prompt + completion, line, self.late)
        if self._kinds_differ((prompt, completion), line):
            return ""
        texts = self._plain(row, "prompt", "prompt", line), self._plain(row, "completion", "completion", line)
        return SEPARATOR.join(texts)

    def _judged(self, row: Example, line: int) -> str:
        label = row.get(self.layout.column("label"))
        if label is None:
            self.tally.add("label_missing", line)
        elif isinstance(label, str):
            self.tally.add("label_text", line, label)
        elif label not in (0, 1):
            self.tally.add("label_no_flag", line, str(label))
        else:
            self.labels[bool(label)] += 1
        return self._completion(row, line)

    def _pair(self, row: Example, line: int) -> str:
        column = self.layout.column
        prompt, chosen, rejected = row.get(column("prompt")), row.get(column("chosen")), row.get(column("rejected"))
        if chosen is not None and chosen == rejected:
            self.tally.add("pair_same", line)
        if isinstance(chosen, list) and isinstance(rejected, list):
            return self._pair_of_turns(prompt, chosen, rejected, line)
        if isinstance(chosen, dict) and isinstance(rejected, dict):
            before = prompt if isinstance(prompt, list) else []
            return SEPARATOR.join(_contents([*before, chosen, rejected], self.layout.content))
        if self._kinds_differ([part for part in (prompt, chosen, rejected) if part is not None], line):
            return ""
        texts = [self._plain(row, column("prompt"), "prompt", line)] if column("prompt") in row else []
        texts += [
            self._plain(row, column("chosen"), "chosen", line),
            self._plain(row, column("rejected"), "rejected", line),
        ]
        return SEPARATOR.join(texts)

    def _pair_of_turns(self, prompt: Any, chosen: list[Any], rejected: list[Any], line: int) -> str:
        if not chosen or not rejected:
            self.tally.add("chosen_empty" if not chosen else "rejected_empty", line)
        if isinstance(prompt, str) and chosen and rejected and chosen[0] == rejected[0]:
            self.tally.add("prompt_beside_turns", line, "the prompt is a text, chosen and rejected begin with it")
            prompt = None
        if isinstance(prompt, str):
            self.tally.add("kinds_differ", line, "the prompt is a text, the answers are messages")
            return prompt
        if prompt is not None and not isinstance(prompt, list):
            self.tally.add("prompt_no_text", line)
            return ""
        if prompt is None and chosen and rejected and chosen[0] != rejected[0]:
            self.tally.add("prompts_differ", line)
        whole = (prompt or []) + chosen
        return (
            self.turns.note(whole, line, self.late)
            + SEPARATOR
            + SEPARATOR.join(_contents(rejected, self.layout.content))
        )

    def _prompt(self, row: Example, line: int) -> str:
        prompt = row.get(self.layout.column("prompt"))
        if isinstance(prompt, list):
            if not prompt:
                self.tally.add("prompt_empty", line)
            return SEPARATOR.join(_contents(prompt, self.layout.content))
        return self._plain(row, self.layout.column("prompt"), "prompt", line)

    def _instruction(self, row: Example, line: int) -> str:
        column = self.layout.columns
        asked, more, answer = column.get("prompt", ""), column.get("query", ""), column.get("response", "")
        texts = [str(row.get(name) or "") for name in (asked, more) if name]
        if not any(map(str.strip, texts)):
            self.tally.add("prompt_empty" if asked in row else "prompt_missing", line)
        if answer:
            texts.append(self._plain(row, answer, "completion", line))
        return SEPARATOR.join(texts)

    def _tokens(self, row: Example, line: int) -> str:
        ids, labels = row.get("input_ids"), row.get("labels")
        if not isinstance(ids, list) or not ids:
            self.tally.add("ids_missing", line)
            return ""
        try:
            least, most = min(ids), max(ids)
            whole = isinstance(least, int) and isinstance(most, int)
        except TypeError:
            whole, least, most = False, 0, 0
        if not whole:
            self.tally.add("ids_no_numbers", line)
            return ""
        if least < 0 or (self.vocabulary and most >= self.vocabulary):
            self.tally.add("ids_outside", line, str(least if least < 0 else most))
        for name in ("labels", "attention_mask"):
            other = row.get(name)
            if isinstance(other, list) and len(other) != len(ids):
                self.tally.add("lengths_differ", line, f"{len(ids)} input_ids, {len(other)} {name}")
        if isinstance(labels, list) and labels and labels.count(MASKED) == len(labels):
            self.tally.add("all_masked", line)
        return repr(ids)

    def _unknown(self, row: Example, line: int) -> str:
        return SEPARATOR.join([value for value in row.values() if type(value) is str])

    def _plain(self, row: Example, column: str, name: str, line: int) -> str:
        """A column that has to be a text."""
        value = row.get(column)
        if type(value) is str:
            if len(value) < _SHORT and not value.strip():
                self.tally.add(f"{name}_empty", line)
            if self.begin and name in ("text", "prompt") and value.startswith(self.begin):
                self.tally.add("begins_twice", line, self.begin)
            return value
        if value is None:
            self.tally.add(f"{name}_missing", line, column)
        else:
            self.tally.add(f"{name}_no_text", line, f"{column} is {word_for(type(value))}")
        return ""

    def _kinds_differ(self, values: Any, line: int) -> bool:
        """Whether a prompt is a text and its completion a list of messages, or the other way round."""
        lists = sum(isinstance(value, list) for value in values)
        texts = sum(isinstance(value, str) for value in values)
        if lists and texts:
            self.tally.add("kinds_differ", line, "one part is a text, another a list of messages")
        return lists > 0


def _contents(messages: list[Any], key: str) -> list[str]:
    return [text for message in messages if isinstance(message, dict) for text in texts_of(message.get(key))]
