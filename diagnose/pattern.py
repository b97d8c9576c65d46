"""A rule's pattern: RE2 for the decision, and the plain text that any match must contain for the first pass.

RE2 runs in time linear in the text whatever the pattern, so no rule can be made to backtrack. The plain text is found
by walking the pattern's syntax tree: it is what the first pass (`scan.py`) looks for.
"""

from __future__ import annotations

import re
import sys
from functools import lru_cache
from typing import Any

from msgspec import Struct

if sys.version_info >= (3, 11):
    import re._constants as sre
    import re._parser as sre_parse
else:  # pragma: no cover
    import sre_constants as sre
    import sre_parse

MOST_TEXTS = 24
"""How many texts may stand for one pattern in the first pass."""
STRONG_PLAIN = 12
"""From how many bytes on a plain text is particular enough; then few texts are better than long ones."""
LEAST_PLAIN = 6
"""How many bytes of plain text in a row a pattern must have."""
MOST_PLAIN = 256
"""How many bytes of it the first pass looks for; Hyperscan refuses texts of many thousand."""
_REPEATS = (sre.MAX_REPEAT, sre.MIN_REPEAT)


class PatternError(ValueError):
    """A pattern that cannot be used; the text says why."""


class Plain(Struct, frozen=True):
    """Texts of which every match of a pattern contains at least one; `caseless` if case does not matter."""

    texts: tuple[str, ...]
    caseless: bool = False


COMMON = frozenset(
    [
        "assistant",
        "backward",
        "channel",
        "error",
        "failed",
        "format",
        "generate",
        "generates",
        "generated",
        "generation",
        "inference",
        "loading",
        "logits",
        "message",
        "model",
        "output",
        "outputs",
        "performance",
        "prompt",
        "prompts",
        "reasoning",
        "request",
        "requests",
        "response",
        "return",
        "schema",
        "thinking",
        "throughput",
        "tokens",
        "training",
        "warning",
    ]
)
"""Words that healthy logs are full of: one of them alone is no signature."""


@lru_cache(maxsize=4096)
def regex(pattern: str) -> Any:
    """The compiled RE2 pattern. Raises PatternError if RE2 refuses it."""
    import re2

    try:
        return re2.compile(pattern, _options())
    except UnicodeEncodeError:
        raise PatternError("has half of a surrogate pair, which is no character") from None
    except re2.error as error:
        reason = error.args[0] if error.args else error
        raise PatternError(reason.decode() if isinstance(reason, bytes) else str(reason)) from None


@lru_cache(maxsize=1)
def _options() -> Any:
    import re2

    options = re2.Options()
    options.log_errors = False  # the caller tells; RE2 would write to stderr
    return options


def plain(pattern: str) -> Plain:
    """The plain text that each match contains. Raises PatternError if there is less than LEAST_PLAIN bytes of it."""
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what Python reads differently from RE2, such as [[:alpha:]]
            tree = sre_parse.parse(pattern)
        texts = _best(_candidates(tree))
        caseless = _caseless(tree, tree.state.flags)
    except RecursionError:
        raise PatternError("is nested too deeply") from None
    except Exception as error:  # re.error, a warning, or OverflowError for absurd repeats
        raise PatternError(str(error)) from None
    if caseless:
        texts = tuple(_one_case(text) for text in texts)
    texts = tuple(text for text in texts if not any(other != text and other in text for other in texts))
    if not texts or min(_weight(text) for text in texts) < LEAST_PLAIN:
        raise PatternError(f"has less than {LEAST_PLAIN} plain characters in a row, so it would be tried on every line")
    common = [text for text in texts if text.strip().lower() in COMMON]
    if common:
        raise PatternError(
            f"is found by {common[0]!r} alone, a word that healthy logs are full of; name more of the line"
        )
    return Plain(tuple(text.encode()[:MOST_PLAIN].decode("utf-8", "ignore") for text in texts), caseless)


def _caseless(tree: Any, flags: int) -> bool:
    """Whether case does not matter in some part of a pattern: `(?i)` in front, or a group `(?i:…)`."""
    if flags & sre.SRE_FLAG_IGNORECASE:
        return True
    for op, value in tree:
        inner = value[1] if op is sre.BRANCH else [value[-1]] if op in (sre.SUBPATTERN, *_REPEATS) else []
        if any(_caseless(part, value[1] if op is sre.SUBPATTERN else 0) for part in inner):
            return True
    return False


def _one_case(text: str) -> str:
    """The longest part without letters such as É, whose other case the first pass does not know."""
    parts = "".join("\n" if char > "\x7f" and char.lower() != char.upper() else char for char in text).split("\n")
    return max(parts, key=_weight)


@lru_cache(maxsize=1024)
def pinned(pattern: str) -> int:
    """How many letters, digits and spaces a pattern names word for word: a measure of how particular it is."""
    bare = re.sub(r"\(\?(?:P<\w+>|[a-z]+\)|:)|\[[^\]]*\]|\\[A-Za-z]|\{[\d,]+\}", "", pattern)
    return len(re.sub(r"[^\w ]", "", bare))


def _weight(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _best(candidates: list[tuple[str, ...]]) -> tuple[str, ...]:
    """The candidate whose weakest text is strong enough, with fewest texts; else the one whose weakest is strongest."""

    def merit(texts: tuple[str, ...]) -> tuple[int, int, int]:
        weakest = min(_weight(text) for text in texts)
        return (min(weakest, STRONG_PLAIN), -len(texts), weakest)

    return max(candidates, key=merit, default=())


def _candidates(tree: Any) -> list[tuple[str, ...]]:
    """All sets of texts of which a match of this sequence must contain one."""
    found: list[tuple[str, ...]] = []
    runs = [""]

    def close() -> None:
        if all(runs):
            found.append(tuple(dict.fromkeys(runs)))

    for op, value in tree:
        longer = _followed_by(runs, _finite(op, value))
        if longer is None:
            close()
            found.extend(_nested(op, value))
            longer = [""]
        runs = longer
    close()
    return found


def _followed_by(runs: list[str], texts: list[str] | None) -> list[str] | None:
    """Each run followed by each text, or None if that are too many (or not known)."""
    if texts is None or len(runs) * len(texts) > MOST_TEXTS:
        return None
    return [run + text for run in runs for text in texts]


def _finite(op: Any, value: Any) -> list[str] | None:
    """All texts that a part of a pattern can match, if these are few; an anchor matches the empty text."""
    if op is sre.AT:
        return [""]
    if op is sre.LITERAL:
        return [chr(value)] if value != 10 else None
    if op is sre.IN and len(value) <= 4 and all(kind is sre.LITERAL and char != 10 for kind, char in value):
        return [chr(char) for _, char in value]
    if op is sre.SUBPATTERN:
        return _finite_sequence(value[3])
    if op is sre.BRANCH:
        branches = [_finite_sequence(branch) for branch in value[1]]
        texts = [text for branch in branches for text in branch or ()]
        return texts if None not in branches and len(texts) <= MOST_TEXTS else None
    if op in _REPEATS and value[1] == 1:
        texts_once = _finite_sequence(value[2])
        return None if texts_once is None else texts_once if value[0] else ["", *texts_once]
    return None


def _finite_sequence(tree: Any) -> list[str] | None:
    runs: list[str] | None = [""]
    for op, value in tree:
        runs = _followed_by(runs or [""], _finite(op, value))
        if runs is None:
            return None
    return runs


def _nested(op: Any, value: Any) -> list[tuple[str, ...]]:
    if op is sre.SUBPATTERN:
        return _candidates(value[3])
    if op in _REPEATS and value[0] >= 1:
        return _candidates(value[2])
    if op is sre.BRANCH:
        branches = [_best(_candidates(branch)) for branch in value[1]]
        if all(branches):
            return [tuple(dict.fromkeys(text for branch in branches for text in branch))]
    return []
