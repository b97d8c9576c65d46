"""The texts of many examples at once → which of them hold control tokens, broken characters, markup that is not theirs."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any

from diagnose.sources.data.tally import Tally
from diagnose.sources.data.turns import SEPARATOR

MARKUP = (
    "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|begin_of_text|>", "<|endoftext|>",
    "<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]", "<<SYS>>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>",
    "<｜User｜>", "<｜Assistant｜>", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<|end_of_text|>", "<|eot|>", "<|eom_id|>",
    "<|header_start|>", "<|turn_end|>", "<|im_sep|>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>",
)  # fmt: skip
"""What chat templates print around turns."""
MOST_TOKENS, LONGEST_TOKEN = 400, 100
_SEPARATOR = SEPARATOR.encode()
_BLANKS = 16
"""How many blanks JSON may begin with."""
_PATTERNS: Sequence[tuple[str, bytes]] = (
    ("mojibake", rb"\xc3[\x82\x83]\xc2[\x80-\xbf]|\xc3\xa2\xe2\x82\xac"),
    ("replacement_characters", rb"\xef\xbf\xbd"),
    ("control_characters", rb"[\x00-\x08\x0b\x0e-\x1d\x7f]"),
    ("html_entities", rb"&(?:amp|lt|gt|quot|nbsp|#\d{2,4});"),
    ("html_tags", rb"</?(?:p|br|div|span|li|ul|td|tr|table|h[1-6])\s?/?>"),
    ("escaped_newlines", rb"\\n(?:\\n|[A-Z0-9 #*-])"),
)  # fmt: skip


@lru_cache(maxsize=8)
def _compiled(special: tuple[str, ...], turns: bool) -> tuple[list[str], list[str], Any]:
    """What each pattern is a sign of, what it shows, and the automaton for all of them."""
    import hyperscan

    own = [token for token in special if 2 < len(token) <= LONGEST_TOKEN][:MOST_TOKENS]
    literals = [("special_tokens", token) for token in own]
    literals += [("template_markup", mark) for mark in MARKUP if mark not in own]
    expressions = [(kind, text, _literal(text)) for kind, text in (literals if turns else [])]
    expressions += [(kind, "", pattern) for kind, pattern in _PATTERNS]
    database: Any = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    database.compile(
        expressions=[pattern for _, _, pattern in expressions],
        ids=list(range(len(expressions))),
        elements=len(expressions),
        flags=[hyperscan.HS_FLAG_DOTALL] * len(expressions),
    )
    database.scratch = hyperscan.Scratch(database)
    return [kind for kind, _, _ in expressions], [text for _, text, _ in expressions], database


def _is_escaped_twice(texts: bytes, end: int) -> bool:
    """Whether `\\n` stands for a line end: code has it beside real ones, and JSON (calls, answers of tools) has to write it."""
    begin = texts.rfind(_SEPARATOR, 0, end) + 1
    return b"\n" not in texts and not texts[begin : begin + _BLANKS].lstrip().startswith((b"{", b"["))


def _literal(text: str) -> bytes:
    return b"".join(b"\\x%02x" % byte for byte in text.encode("utf-8", "replace"))


class Contents:
    """Looks through texts. `special` are the model's own control tokens; `turns` says whether the texts go into a chat template."""

    def __init__(self, tally: Tally, special: Sequence[str], turns: bool) -> None:
        self._tally = tally
        self._kinds, self._shown, self._database = _compiled(tuple(special), turns)

    def look(self, texts: Sequence[bytes], lines: Sequence[int]) -> None:
        """Count what is in the texts; each has a line."""
        if not texts:
            return
        found: set[tuple[int, int]] = set()

        def note(number: int, start: int, end: int, flags: int, context: object) -> None:
            found.add((number, end))

        self._database.scan(b"\x1e".join(texts), match_event_handler=note)
        if not found:
            return
        begins = list(accumulate((len(text) + 1 for text in texts), initial=0))
        seen: dict[tuple[str, int], str] = {}
        for number, end in found:
            kind, at = self._kinds[number], bisect_right(begins, end - 1) - 1
            if kind != "escaped_newlines" or _is_escaped_twice(texts[at], end - begins[at]):
                seen.setdefault((kind, at), self._shown[number])
        for (kind, at), shown in sorted(seen.items(), key=lambda item: item[0][1]):
            self._tally.add(kind, lines[at], shown)
