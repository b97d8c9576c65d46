"""Whether a name is another one misspelt."""

from __future__ import annotations

import re


def is_slip(written: str, meant: str) -> bool:
    """Whether a word of four letters or more differs from another by one slip: a letter left out, doubled or changed, or two swapped."""
    if written == meant or min(len(written), len(meant)) < 3 or len(meant) < 4 or abs(len(written) - len(meant)) > 1:
        return False
    start = 0
    while start < min(len(written), len(meant)) and written[start] == meant[start]:
        start += 1
    first, second = written[start:], meant[start:]
    is_swapped = len(first) > 1 and first[:2] == second[:2][::-1] and first[2:] == second[2:]
    is_changed = len(meant) > 5 and first[1:] == second[1:] and not (first[:1] + second[:1]).isdigit()
    return is_swapped or is_changed or first[1:] == second or first == second[1:]


def is_made_of(written: str, meant: str) -> bool:
    """Whether a name is another one's plural, or has a number or a word more than it: these are meant as they are written."""
    longer = f"_{written}_", f"_{meant}_"
    is_part = longer[0] in longer[1] or longer[1] in longer[0]
    return is_part or written.rstrip("s") == meant.rstrip("s") or re.sub(r"_?\d+$", "", written) == meant
