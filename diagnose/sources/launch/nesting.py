"""Where a quote or a bracket of a shell's text is closed, with all that quotes, `$(…)` and `${…}` hold inside it passed over."""

from __future__ import annotations

import re

_NESTING = re.compile(r"\\.|\$[({]|[\"'`(){}#]", re.DOTALL)


def closing(text: str, at: int, closer: str, most: int, quoted: bool = False) -> int:
    """Where what ends with `closer` ends, or -1; `at` is behind its opening.

    Quotes, `$(…)`, `${…}` and backticks inside are passed over with all they hold, as a shell does: `"$(cd "$1")"` is one
    text. `quoted`: it stands in double quotes already, where a single quote is a character like others.
    """
    stack = ['"', closer] if quoted and closer != '"' else [closer]
    depth = len(stack) - 1
    while found := _NESTING.search(text, at, most):
        token, at, top = found[0], found.end(), stack[-1]
        if token == top:
            stack.pop()
            if len(stack) == depth:
                return found.start()
        elif token[0] == "\\" or top == "`":
            continue
        elif token in ("$(", "${"):
            stack.append(")" if token == "$(" else "}")
        elif token == "`" or (token == '"' and top != '"'):
            stack.append(token)
        elif token == "(" and top == ")":
            stack.append(")")
        elif (token == "'" and '"' not in stack[-2:] and top != '"') or (token == "#" and top == ")"):
            at = _behind(text, token, at, most)
            if at < 0:
                return -1
    return -1


def _behind(text: str, token: str, at: int, most: int) -> int:
    """The place behind a text in single quotes, or behind a comment if the `#` begins one; -1 if the quote stays open."""
    if token == "'":
        return text.find("'", at, most) + 1 or -1
    if not text[at - 2].isspace():
        return at
    stop = text.find("\n", at, most)
    return most if stop < 0 else stop
