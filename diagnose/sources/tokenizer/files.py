"""The files of a tokenizer in a model's folder: which are there, and which hold something else than they should."""

from __future__ import annotations

import os
import re
from typing import Any

from msgspec import Struct

from diagnose.sources import files, jsonfile

KNOWN = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tekken.json",
    "tiktoken.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "chat_template.jinja",
    "chat_template.json",
)
"""Files that loaders open by name; *.tiktoken and additional_chat_templates/*.jinja come to them."""
VOCABULARIES = ("tokenizer.json", "tokenizer.model", "tekken.json", "tiktoken.model", "spiece.model", "sentencepiece.bpe.model", "vocab.json", "vocab.txt")  # fmt: skip
SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
TEMPLATES = "additional_chat_templates"
HEAD = 4096
MOST_SMALL = 16 << 20
"""The largest tokenizer_config.json and the like that is read; published ones have up to 400 KB."""
MOST_TEMPLATE = 1 << 20
MOST_TEMPLATES = 16

_LINK = re.compile(rb"(?:\.\.?/)+[\w./@+ -]{1,300}|[\w./@+-]{0,200}/[\w.@+-]{1,100}")


class State(Struct, frozen=True):
    """A file that is there. `problem`: empty, or a word: empty, pointer (Git LFS), html, link-text (the text of a link
    that became a file), zeros, dangling, unreadable, broken; `detail` says more in words, `line` where."""

    name: str
    path: str
    bytes: int = 0
    problem: str = ""
    detail: str = ""
    line: int = 0


class Files(Struct, frozen=True):
    """The small files of a tokenizer, read; what is missing or broken is empty. `states` are by name."""

    folder: str
    head: str
    states: dict[str, State]
    tokenizer_config: dict[str, Any]
    special_map: dict[str, Any]
    added: dict[str, Any]
    generation: dict[str, Any]
    model: dict[str, Any]
    names: frozenset[str] = frozenset()

    def origin(self, name: str) -> str:
        """A file as a reader should see it: `Qwen3-8B/tokenizer.json`."""
        return f"{self.head}/{name}" if self.head else name

    def path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def good(self, name: str) -> bool:
        """Whether a file is there and nothing is known against it."""
        state = self.states.get(name)
        return state is not None and not state.problem

    @property
    def language_model(self) -> dict[str, Any]:
        """The part of config.json that speaks of the language model, for models with several parts."""
        for key in ("text_config", "llm_config", "language_config", "thinker_config"):
            part = self.model.get(key)
            if isinstance(part, dict):
                inner = part.get("text_config")
                return inner if isinstance(inner, dict) else part
        return self.model


def look(folder: str, head: str) -> Files:
    """Read what is small; look at the first bytes of the rest. Nothing is raised."""
    names = files.names_in(folder) or []
    wanted = [name for name in names if name in KNOWN or name.endswith(".tiktoken")][:64]
    states = {name: _state(os.path.join(folder, name), name) for name in wanted}
    values: dict[str, dict[str, Any]] = {}
    for name in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.json"):
        if name in states and not states[name].problem:
            states[name], values[name] = _small(states[name])
    return Files(
        folder,
        head,
        states,
        values.get("tokenizer_config.json", {}),
        values.get("special_tokens_map.json", {}),
        values.get("added_tokens.json", {}),
        _quiet(os.path.join(folder, "generation_config.json")),
        _quiet(os.path.join(folder, "config.json")),
        frozenset(names),
    )


def _small(state: State) -> tuple[State, dict[str, Any]]:
    loaded = jsonfile.load(state.path, MOST_SMALL)
    if loaded.error:
        return _broken(state, loaded.error, loaded.line), {}
    if not isinstance(loaded.value, dict):
        return _broken(state, "its top level is not an object", 1), {}
    return state, loaded.value


def _broken(state: State, why: str, line: int = 0) -> State:
    return State(state.name, state.path, state.bytes, "broken", why, line)


def _quiet(path: str) -> dict[str, Any]:
    """config.json and generation_config.json: what is wrong with them is told by the source that owns them."""
    value = jsonfile.load(path, MOST_SMALL).value
    return value if isinstance(value, dict) else {}


def _state(path: str, name: str) -> State:
    if os.path.islink(path) and not os.path.exists(path):
        return State(name, path, 0, "dangling", f"it is a link to {_target(path)}, which is not there")
    data = files.read_bytes(path, HEAD)
    if data is None:
        why = files.why_unreadable(path) or "it is not a regular file"
        return State(name, path, 0, "unreadable", why.lower())
    try:
        size = os.stat(path).st_size
    except OSError:
        size = len(data)
    problem, detail = _problem(data, size, name)
    return State(name, path, size, problem, detail)


def _target(path: str) -> str:
    try:
        return os.readlink(path)[:300]
    except OSError:
        return "something"


def _problem(data: bytes, size: int, name: str) -> tuple[str, str]:
    start = data.lstrip()[:200].lower()
    if not data.strip():
        return ("empty", "it has no bytes") if not data else ("empty", "it has nothing but blanks")
    if start.startswith(b"version https://git-lfs"):
        return "pointer", f"it has the {size} bytes of a Git LFS pointer"
    if start.startswith((b"<!doctype html", b"<html")) or (b"<html" in start and start.startswith(b"<")):
        return "html", "it holds a web page"
    if not data.strip(b"\0"):
        return "zeros", "its first bytes are all zero"
    if name.endswith((".jinja", ".txt")) and name != "merges.txt":
        return "", ""
    text = data.strip()
    if size < 400 and b"\n" not in text and _LINK.fullmatch(text):
        target = text.decode("utf-8", "replace")
        return "link-text", f"it holds only the text {target}: a symbolic link that was stored as a file"
    return "", ""


def with_problem(known: Files, name: str, why: str, line: int = 0) -> None:
    """Remember that a file, looked at more closely, is broken."""
    known.states[name] = _broken(known.states[name], why, line)
