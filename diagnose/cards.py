"""Names of GPUs → cards with their memory: `H100-80GB`, `2x RTX 3090`, `24GB`, `A100-80GB+2xL40S`.

The memory is what the driver lists, and what of it CUDA offers a program, from dataset/gpus.json.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from msgspec import Struct

from diagnose.places import table

MIB, GIB = 1 << 20, 1 << 30
MOST_CARDS = 999
OFFERED = 0.975
"""What part of the listed memory CUDA offers where it is not known: between 0.96 and 0.99 for the cards of the table."""


class Card(Struct, frozen=True):
    """A GPU: its name, its memory as the driver lists it and as CUDA offers it to a program, in bytes.

    `capability` is its compute capability where the name tells it; empty for AMD's and for a bare size.
    """

    name: str
    memory: int
    offered: int
    capability: str = ""


class UnknownCardError(ValueError):
    """A name that no card of the table has; the text names the nearest ones."""


def parse(text: str, count: int = 0) -> tuple[Card, ...]:
    """The cards that a text names. `count` repeats a single name; raises UnknownCardError with what was not understood."""
    found: list[Card] = []
    for part in re.split(r"\s*[+,]\s*", text.strip()):
        times = re.match(r"(?i)(\d{1,3})\s*[x×*]\s*(?=\S)", part)
        many = int(times[1]) if times else 1
        name = part[times.end() :] if times else part
        if not 1 <= many <= MOST_CARDS:
            raise UnknownCardError(f"{part!r}: between 1 and {MOST_CARDS} cards can be planned for")
        found += [card_of(name)] * many
    if count > 1 and len(found) == 1:
        found *= min(count, MOST_CARDS)
    elif count and count != len(found):
        raise UnknownCardError(f"{text!r} names {len(found)} cards, and --gpus says {count}")
    return tuple(found)


def card_of(name: str) -> Card:
    """The card of a name, or of a bare size such as 24GB."""
    size = re.fullmatch(r"(?i)\s*(\d{1,6}(?:\.\d{1,3})?)\s*(GB|GiB|G|MiB|MB)\s*", name)
    if size:
        memory = int(float(size[1]) * (MIB if size[2].lower().startswith("m") else GIB))
        if memory < 256 * MIB:
            raise UnknownCardError(f"{name!r} is less memory than any GPU has that runs a model")
        return Card(name.strip(), memory, int(memory * OFFERED))
    row = _row(name)
    if row is None:
        near = nearest(name)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise UnknownCardError(f"{name!r} is no GPU that is known.{hint} A size such as 24GB works too")
    memory = row["memory"] * MIB
    offered = int(row["cuda"] * GIB) if "cuda" in row else int(memory * OFFERED)
    return Card(row["name"], memory, offered, capability(row["name"]))


def of_machine(name: str, memory: int) -> Card:
    """A card of this machine: its name and the memory that the driver told of it, in bytes."""
    row = _row(name)
    if row is not None and "cuda" in row and abs(row["memory"] * MIB - memory) < memory // 20:
        return Card(name, memory, min(memory, int(row["cuda"] * GIB)), capability(name))
    return Card(name, memory, int(memory * OFFERED), capability(name))


def capability(name: str) -> str:
    """The compute capability of a name, by dataset/compat/gpus.json; empty if it is not there."""
    words = set(_words(name))
    return next((row["compute_capability"] for row in _capabilities() if set(_words(row["name"])) <= words), "")


def nearest(name: str) -> list[str]:
    """Names of the table that are spelt most like one."""
    names = {_plain(row["name"]): row["name"] for row in _rows()}
    return [names[item] for item in difflib.get_close_matches(_plain(name), list(names), 3, 0.6)]


def _plain(name: str) -> str:
    return " ".join(_words(name))


def _words(name: str) -> list[str]:
    """The words of a name: `RTX4090` and `rtx-4090` are rtx and 4090; `80G` is 80gb; the maker's name says nothing."""
    text = re.sub(
        r"(?i)\b(nvidia|geforce|tesla|quadro|amd|instinct|radeon|graphics|pcie|sxm\d?|hbm\d\w?)\b", " ", name[:200]
    )
    text = re.sub(r"(?i)(rtx|gtx|rx)(?=\d)", r"\1 ", text)
    text = re.sub(r"(?i)\b(\d{2,3})\s*(?:gb|gib|g)\b", r"\1gb", text)
    text = re.sub(r"(?i)(?<=\d)(ti|xtx|xt|super)\b", r" \1", text)
    return re.findall(r"[a-z0-9]+", text.lower())


def _row(name: str) -> dict[str, Any] | None:
    """The first row whose words all stand in the name; a bare number such as 4090 is enough for one that has it."""
    words = _words(name)
    if "laptop" in words or "mobile" in words:
        return None  # another chip with less memory under the same number
    told = next((int(word[:-2]) for word in words if re.fullmatch(r"\d{1,3}gb", word)), 0)
    for row in _rows():
        own = _words(row["name"])
        bare = [word for word in own if word not in ("rtx", "gtx", "rx", "gtx")]
        if not set(own) <= set(words) and not (set(bare) <= set(words) and words and words[0] in bare):
            continue
        if told and abs(row["memory"] * MIB / GIB - told) > max(2.0, told * 0.08):
            continue  # named with a size that this one does not have
        return row
    return None


@cache
def _rows() -> Sequence[dict[str, Any]]:
    return list(table("gpus.json").get("rows", ()))


@cache
def _capabilities() -> Sequence[dict[str, Any]]:
    return list(table("compat", "gpus.json").get("gpus", ()))
