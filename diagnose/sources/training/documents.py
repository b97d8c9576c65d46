"""A configuration file of a training → its mapping with places, and what keeps it from being used, in words."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping

from msgspec import Struct
from msgspec.structs import replace

from diagnose.model import Fact
from diagnose.sources import jsonfile, jsonnodes, yamlfile
from diagnose.sources.training.given import Setting
from diagnose.sources.yamlfile import Documents, Node

MOST_BYTES = 2 << 20
"""The largest file that is read: settings have some kB."""
MOST_VALUES = 60_000
"""The most values of a file with every anchor written out; a thousand are a long configuration."""
_TEMPLATE_PARTS = re.compile(r"\{%|\{\{")
_PLACEHOLDER = re.compile(r"\$\{[^}]*\}|^\$[A-Z_][A-Z0-9_]*(?=$|/)|\{\{\s*[\w.]+(?:\s*\|[^}]*)?\s*\}\}")
_MAY_HOLD_BRACES = re.compile(r"template|format|prompt|message|field|system", re.IGNORECASE)


class Opened(Struct, frozen=True):
    """What a file holds: its mapping, or why there is none.

    `problem` is missing, unreadable, template, empty, not-a-mapping, several-documents, or what is wrong with the text in
    words, and `line` where; `why` says it as a sentence goes on. A mapping may be there beside a problem. `format` is json
    or yaml, where the file could be opened.
    """

    mapping: Node | None = None
    problem: str = ""
    why: str = ""
    line: int = 0
    format: str = ""
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
        return Opened(problem="empty", why="it is empty", format="json" if is_json else "yaml")
    looks = blank.startswith(b"{") and not blank.startswith((b"{{", b"{%"))
    if is_json or looks:
        found = jsonnodes.parse(data)
        if not found.documents and (bare := without_comments(data)) != data:
            relaxed = jsonnodes.parse(bare)
            if relaxed.documents:
                opened = _opened(relaxed, bare, "json")
                return replace(opened, problem=found.error, why=found.error, line=found.line)
        if found.documents or is_json:
            return _opened(found, data, "json")
    return _opened(yamlfile.parse(data), data, "yaml")


_PIECES = re.compile(
    rb'\s+|(?P<text>"(?:[^"\\\n]|\\.)*")|(?P<line>//[^\n]*|#[^\n]*)|(?P<block>/\*)|[^\s"/#,}\]]+|(?P<mark>.)', re.DOTALL
)


def without_comments(data: bytes) -> bytes:
    """A JSON text with blanks in the place of comments and of commas behind the last entry: DeepSpeed's own reader takes both."""
    made = bytearray(data)
    at, comma = 0, -1
    while found := _PIECES.match(data, at):
        end = found.end()
        if found["block"] is not None:
            end = data.find(b"*/", end) + 2
            if end < 2:
                break
        if found["block"] is not None or found["line"] is not None:
            made[at:end] = re.sub(rb"[^\n]", b" ", data[at:end])
        elif found["mark"] == b'"':
            break  # a text without an end
        elif not found[0].isspace():
            if found["mark"] in (b"}", b"]") and comma >= 0:
                made[comma] = 32
            comma = at if found["mark"] == b"," else -1
        at = end
    return bytes(made)


def _opened(found: Documents, data: bytes, format_: str) -> Opened:
    marks = (found.duplicates, found.tags)
    if found.error:
        if "is a template" in found.error or _TEMPLATE_PARTS.search(data.decode("utf-8", "replace")):
            why = f"it is a template with places to be filled in: fill them in first (line {found.line})"
            return Opened(None, "template", why, found.line, format_)
        return Opened(None, found.error, found.error, found.line, format_)
    documents = [document for document in found.documents if document]
    if not documents:
        return Opened(None, "empty", "nothing stands in it but comments", 1, format_)
    first = documents[0]
    if not isinstance(first.value, dict):
        what = "a list" if isinstance(first.value, list) else "a single value"
        return Opened(None, "not-a-mapping", f"it holds {what} and no settings", first.line, format_)
    if _written_out(first) > MOST_VALUES:
        why = f"its anchors stand for more than {MOST_VALUES:,} values"
        return Opened(None, why, why, first.line, format_)
    if len(documents) > 1:
        why = f"{len(documents)} documents stand in it"
        return Opened(first, "several-documents", why, documents[1].line, format_, *marks)
    if not first.value:
        return Opened(None, "empty", "it holds no settings", first.line, format_)
    return Opened(first, "", "", 0, format_, *marks)


def _written_out(top: Node) -> int:
    """How many values there are with every anchor written out: few lines may stand for billions."""
    known: dict[int, int] = {}

    def count(node: Node) -> int:
        if id(node) not in known:
            below = list(node.value.values()) if isinstance(node.value, dict) else node.list()
            known[id(node)] = 1 + sum(count(item) for item in below)
        return known[id(node)]

    return count(top)


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


def where_unset(
    defaults: Iterable[tuple[str, str | int | float | bool, str]],
    known: Container[str],
    by_key: Mapping[str, Setting],
    origin: str,
) -> Iterator[Fact]:
    """The framework's defaults (fact, value, key) for what is not `known`; none for a key that holds a placeholder."""
    for name, value, key in defaults:
        item = by_key.get(key)
        is_open = item is not None and isinstance(item.value, str) and is_placeholder(key, item.value)
        if name not in known and not is_open:
            yield Fact(name, value, origin, key=key)
