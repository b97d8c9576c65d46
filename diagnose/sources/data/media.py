"""Images, audio and videos that examples name: are the files there, and are there as many as the texts have places for?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from diagnose.sources.data.batch import Example
from diagnose.sources.data.tally import Tally

COLUMNS = ("images", "image", "videos", "video", "audios", "audio")
PLACES = {"images": "<image>", "videos": "<video>", "audios": "<audio>"}
MOST_LOOKED = 20_000
"""How many files are looked for."""
_ELSEWHERE = ("http:", "https:", "data:", "hf:", "s3:", "gs:", "oss:")


class Media:
    """The files of a data file's examples; `folders` are where relative paths may begin."""

    def __init__(self, tally: Tally, folders: Sequence[str], columns: Sequence[str]) -> None:
        self.tally, self.folders = tally, list(dict.fromkeys(folders))
        self.columns = [name for name in COLUMNS if name in columns]
        self._known: dict[str, bool] = {}
        self._base = ""

    def look(self, row: Example, messages: Any, text: str, line: int) -> None:
        """Look at one example. `text` are its texts, `messages` its conversation, if it is one."""
        placed = list(_parts(messages))
        named = [path for name in self.columns for path in _paths(row.get(name))] + [path for path in placed if path]
        missing = next((path for path in named if not self._there(path)), "")
        if missing:
            self.tally.add("media_missing", line, missing)
        for name, mark in PLACES.items():
            given = row.get(name)
            if name in self.columns and isinstance(given, list):
                self._places(name, mark, len(given), placed if name == "images" else [], text, line)

    def shown(self, row: Example, messages: Any) -> bytes:
        """What an example shows beside its texts: examples with the same texts and other images are not the same."""
        parts = [part for part in _parts_of(messages) if "text" not in part]
        return repr([[row.get(name) for name in self.columns], parts]).encode("utf-8", "replace")

    def _places(self, name: str, mark: str, given: int, placed: list[str], text: str, line: int) -> None:
        marks = text.count(mark)
        wanted = placed.count("") or marks
        if wanted and wanted != given:
            self.tally.add("media_places_differ", line, f"{given} {name} for {wanted} places")

    def _there(self, path: str) -> bool:
        if path.startswith(_ELSEWHERE) or len(path) > 1024 or "\0" in path:
            return True
        if path not in self._known:
            if len(self._known) >= MOST_LOOKED:
                return True
            self._known[path] = any(os.path.exists(os.path.join(folder, path)) for folder in self.folders)
        return self._known[path]


def _paths(value: Any) -> Iterator[str]:
    """The paths in a column: a text, a list of texts, or what datasets writes for an image: {"path": …, "bytes": …}."""
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict) and not item.get("bytes"):
            item = item.get("path")
        if isinstance(item, str) and item:
            yield item


def _parts(messages: Any) -> Iterator[str]:
    """The images in the parts of messages: their paths, or nothing for a mere place."""
    for part in _parts_of(messages):
        if part.get("type") == "image":
            path = part.get("image") or part.get("path") or part.get("url")
            yield path if isinstance(path, str) else ""


def _parts_of(messages: Any) -> Iterator[dict[str, Any]]:
    """The parts of messages whose content is a list of them."""
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict):
                yield part
