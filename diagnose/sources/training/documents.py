"""A configuration file of a training → its mapping with places, and what keeps it from being used, in words."""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

from diagnose.sources import jsonfile, jsonnodes, yamlfile
from diagnose.sources.training.given import Setting
from diagnose.sources.yamlfile import Documents, Node

MOST_BYTES = 2 << 20
"""The largest file that is read: settings have some kB."""
_TEMPLATE_PARTS = re.compile(r"\{%|\{\{")
_PLACEHOLDER = re.compile(r"\$\{[^}]*\}|^\$[A-Z_][A-Z0-9_]*(?=$|/)|\{\{\s*[\w.]+(?:\s*\|[^}]*)?\s*\}\}")
_MAY_HOLD_BRACES = re.compile(r"template|format|prompt|message|field|system", re.IGNORECASE)


class Opened(Struct, frozen=True):
    """What a file holds: its mapping, or why there is none.

    `problem` is missing, unreadable, template, empty, not-a-mapping, several-documents, or what is wrong with the text in
    words, and `line` where; `why` says it as a sentence goes on. A mapping may be there beside a problem.
    """

    mapping: Node | None = None
    problem: str = ""
    why: str = ""
    line: int = 0
    is_json: bool = False
    duplicates: tuple[tuple[str, int, int], ...] = ()
    tags: tuple[tuple[str, int, int], ...] = ()


def load(path: str) -> Opened:
    """Read a YAML or JSON file. Nothing is raised; a pipe or device is not opened."""
    data = jsonfile.read_bytes(path, MOST_BYTES)
    if isinstance(data, bytes):
        return parse(data, path.lower().endswith((".json", ".jsonc", ".json5", ".hjson")))
    return Opened(problem="missing" if data.missing else "unreadable", why=data.error)


def parse(data: bytes, is_json: bool = False) -> Opened:
    """Read a text: as JSON where it is called so or looks like it, otherwise as YAML, of which JSON is nearly a part."""
    blank = data.removeprefix(b"\xef\xbb\xbf").strip()
    if not blank:
        return Opened(problem="empty", why="it is empty")
    looks = blank.startswith(b"{") and not blank.startswith((b"{{", b"{%"))
    if is_json or looks:
        found = jsonnodes.parse(data)
        if found.documents or is_json:
            return _opened(found, data, True)
    return _opened(yamlfile.parse(data), data, False)


def _opened(found: Documents, data: bytes, is_json: bool) -> Opened:
    marks = (found.duplicates, found.tags)
    if found.error:
        template = "is a template" in found.error or bool(_TEMPLATE_PARTS.search(data.decode("utf-8", "replace")))
        problem = "template" if template else found.error
        return Opened(None, problem, found.error, found.line, is_json)
    documents = [document for document in found.documents if document]
    if not documents:
        return Opened(None, "empty", "nothing stands in it but comments", 1, is_json)
    first = documents[0]
    if not isinstance(first.value, dict):
        what = "a list" if isinstance(first.value, list) else "a single value"
        return Opened(None, "not-a-mapping", f"it holds {what} and no settings", first.line, is_json)
    if len(documents) > 1:
        why = f"{len(documents)} documents stand in it"
        return Opened(first, "several-documents", why, documents[1].line, is_json, *marks)
    if not first.value:
        return Opened(None, "empty", "it holds no settings", first.line, is_json)
    return Opened(first, "", "", 0, is_json, *marks)


def placeholders(items: tuple[Setting, ...], resolved: bool) -> Iterator[Setting]:
    """The settings whose value is a placeholder that somebody has to fill in: ${NAME}, $NAME/…, {{ name }}.

    `resolved`: the framework itself puts values for ${…} (OmegaConf), so that only the other forms are.
    """
    for item in items:
        if isinstance(item.value, str) and is_placeholder(item.name, item.value, resolved):
            yield item


def is_placeholder(name: str, text: str, resolved: bool = False) -> bool:
    """Whether a text is a placeholder, or has one in it; the texts of templates and prompts may hold braces."""
    if len(text) > 1000 or _MAY_HOLD_BRACES.search(name):
        return False
    return any(not (resolved and found[0].startswith("${")) for found in _PLACEHOLDER.finditer(text))
