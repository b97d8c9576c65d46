"""Conditions such as `torch.version < 2.1`: parse them, and answer true, false or unknown.

A condition is `name op value`. The value is a literal (version, size, number, text, list) or another name. Versions
compare as versions (PEP 440), sizes as bytes, the rest as numbers or text. A name with `*` asks for some one instance:
`gpu.*.compute_capability < 8.0` holds if one GPU is below; the same instance is meant in every condition of a rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from math import isfinite
from typing import Any

from msgspec import Struct

from diagnose import facts
from diagnose.pattern import PatternError, regex

HEADS = facts.HEADS | {"event", "capture"}

Value = str | int | float | bool
Answer = bool | None

OPERATORS = ("==", "!=", "<=", ">=", "<", ">", "not in", "in", "not matches", "matches")

_CONDITION = re.compile(
    r"\s*(?P<name>[A-Za-z][\w*.-]*)\s*(?P<op>==|!=|<=|>=|<|>|(?<=\s)(?:not\s+)?(?:in|matches)\b)\s*(?P<value>\S.*)",
    re.DOTALL,
)
_NAME = re.compile(r"^(?:(?P<head>[A-Za-z][\w-]*)\.[\w.*-]+|[A-Za-z*][\w*-]*\.version)$")
_SIZE = re.compile(r"(?P<number>\d{1,30}(?:\.\d{1,30})?)\s{0,8}(?P<unit>[KMGT]i?B|B|bytes?)", re.IGNORECASE | re.ASCII)
_UNITS = {"b": 1, "byte": 1, "bytes": 1} | {
    f"{letter}{i}b": 1024**power for power, letter in enumerate("kmgt", start=1) for i in ("", "i")
}


class PredicateError(ValueError):
    """A condition that cannot be read; the text says what was expected."""


class Predicate(Struct, frozen=True):
    """A parsed condition. `value` is a literal, a tuple of literals (`in`), or a name if `reference` is set."""

    name: str
    op: str
    value: Value | tuple[str, ...]
    reference: bool = False
    text: str = ""


@lru_cache(maxsize=4096)
def parse(text: str) -> Predicate:
    """Read `name op value`. Raises PredicateError with what is wrong."""
    found = _CONDITION.match(text)
    if not found:
        raise PredicateError(f"{text!r} is not a condition: write NAME OP VALUE, with OP one of {' '.join(OPERATORS)}")
    name, op, raw = found["name"], re.sub(r"\s+", " ", found["op"]), found["value"].rstrip()
    if op.endswith("in"):
        if not (raw.startswith("[") and raw.endswith("]")):
            raise PredicateError(f"{text!r}: after {op!r} comes a list, as in [vllm, sglang]")
        items = tuple(_unquote(item.strip()) for item in raw[1:-1].split(",") if item.strip())
        return Predicate(name, op, items, text=text)
    if op.endswith("matches"):
        pattern = _unquote(raw)
        _regex(pattern)
        return Predicate(name, op, pattern, text=text)
    if _is_name(raw):
        return Predicate(name, op, raw, reference=True, text=text)
    literal = _literal(raw)
    ordered = isinstance(literal, int) or _number(literal) is not None or _version(str(literal))
    if op in ("<", "<=", ">", ">=") and (isinstance(literal, bool) or not ordered):
        raise PredicateError(
            f"{text!r}: {raw!r} is neither a version nor a number or size, so {op!r} cannot compare it"
        )
    return Predicate(name, op, literal, text=text)


def _is_name(raw: str) -> bool:
    """Whether a value is the name of another fact, or of an event or capture, rather than a text."""
    found = _NAME.match(raw)
    return found is not None and (found["head"] is None or found["head"] in HEADS or raw.endswith(".version"))


def answer(predicate: Predicate, values: Mapping[str, Value]) -> Answer:
    """True or false if `values` tell, None if they do not. Names with `*` must be resolved first (see `solve`)."""
    left = values.get(predicate.name)
    if left is None:
        return None
    right: Any = predicate.value
    if predicate.reference:
        right = values.get(str(predicate.value))
        if right is None:
            return None
    if predicate.op == "in":
        return str(left) in right
    if predicate.op == "not in":
        return str(left) not in right
    if predicate.op == "matches":
        return _regex(str(right)).search(str(left)) is not None
    if predicate.op == "not matches":
        return _regex(str(right)).search(str(left)) is None
    return _compare(left, predicate.op, right)


class Solution(Struct, frozen=True):
    """One way in which all conditions of a rule hold: what `*` stood for (empty without one), and the facts used."""

    instance: str
    used: tuple[str, ...]


def solve(
    predicates: Iterable[Predicate], values: Mapping[str, Value]
) -> tuple[Answer, tuple[str, ...], tuple[str, ...]]:
    """Answer all conditions together: (true/false/unknown, names used, names that were missing).

    A `*` stands for one and the same instance in every condition; the answer is true if some instance satisfies all.
    """
    wanted = tuple(predicates)
    best: tuple[Answer, tuple[str, ...], tuple[str, ...]] | None = None
    for instance in _instances_of(wanted, values, None):
        result = _solve_one(wanted, values, instance)
        if result[0] is True:
            return result
        if best is None or (best[0] is False and result[0] is None):
            best = result
    return best if best is not None else (None, (), tuple(p.name for p in wanted))


def solutions(
    predicates: Iterable[Predicate], values: Mapping[str, Value], heads: Mapping[str, Sequence[str]]
) -> list[Solution]:
    """Every instance for which all conditions hold. `heads` are the names in `values` by their first part (`by_head`)."""
    wanted = tuple(predicates)
    found = []
    for instance in _instances_of(wanted, values, heads):
        verdict, used, _ = _solve_one(wanted, values, instance)
        if verdict is True:
            found.append(Solution(instance, used))
    return found


def by_head(names: Iterable[str]) -> dict[str, list[str]]:
    """Names by their first part, so that `gpu.*.name` is looked for among the GPUs' facts only."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(name.partition(".")[0], []).append(name)
    return found


def _solve_one(
    wanted: tuple[Predicate, ...], values: Mapping[str, Value], instance: str
) -> tuple[Answer, tuple[str, ...], tuple[str, ...]]:
    used: list[str] = []
    missing: list[str] = []
    for predicate in wanted:
        bound = _bind(predicate, instance) if any("*" in name for name in names(predicate)) else predicate
        verdict = answer(bound, values)
        if verdict is False:
            return False, names(bound), ()
        if verdict:
            used += names(bound)
        else:
            missing += [name for name in names(bound) if name not in values] or [bound.name]
    return (None if missing else True), tuple(dict.fromkeys(used)), tuple(dict.fromkeys(missing))


def names(predicate: Predicate) -> tuple[str, ...]:
    """The names that a condition asks for: the left one, and the right one if it is a name."""
    return (predicate.name, str(predicate.value)) if predicate.reference else (predicate.name,)


def _bind(predicate: Predicate, instance: str) -> Predicate:
    value = predicate.value
    if predicate.reference:
        value = str(value).replace("*", instance)
    return Predicate(predicate.name.replace("*", instance), predicate.op, value, predicate.reference, predicate.text)


def _instances_of(
    wanted: tuple[Predicate, ...], values: Mapping[str, Value], heads: Mapping[str, Sequence[str]] | None
) -> list[str]:
    """What `*` may stand for in some conditions; one empty instance if none has a `*`."""
    starred = [name for predicate in wanted for name in names(predicate) if "*" in name]
    if not starred:
        return [""]
    found: dict[str, None] = {}
    for name in starred:
        head, _, tail = name.partition("*")
        first = name.partition(".")[0]
        for known in heads.get(first, ()) if heads is not None and "*" not in first else values:
            if known.startswith(head) and known.endswith(tail) and len(known) > len(head) + len(tail):
                middle = known[len(head) : len(known) - len(tail) or None]
                if "." not in middle:
                    found[middle] = None
    return list(found) or ["*"]


def size(text: str) -> int | None:
    """Bytes of a size such as `1.5 GiB` or `112 MB` (CUDA tools write GB and mean GiB), or None if it is not a size."""
    found = _SIZE.fullmatch(text.strip())
    return int(float(found["number"]) * _UNITS[found["unit"].lower()]) if found else None


def _literal(raw: str) -> Value:
    bare = _unquote(raw)
    if bare != raw:
        return bare
    if raw in ("true", "false"):
        return raw == "true"
    amount = size(raw)
    if amount is not None:
        return amount
    return raw


def _compare(left: Value, op: str, right: Value) -> Answer:
    pair = _comparable(left, right)
    if pair is None:
        return None if op in ("<", "<=", ">", ">=") else (str(left) == str(right)) == (op == "==")
    a, b = pair
    if op == "==":
        return bool(a == b)
    if op == "!=":
        return bool(a != b)
    if op == "<":
        return bool(a < b)
    if op == "<=":
        return bool(a <= b)
    if op == ">":
        return bool(a > b)
    return bool(a >= b)


def _comparable(left: Value, right: Value) -> tuple[Any, Any] | None:
    """Both sides in one type: numbers and sizes first, then versions; None if they have none in common."""
    if isinstance(left, bool) or isinstance(right, bool):
        return str(left).lower(), str(right).lower()
    a, b = _number(left), _number(right)
    numbers = isinstance(left, (int, float)) or isinstance(right, (int, float))  # a version is always a text
    if a is not None and b is not None and (numbers or not (_dotted(left) or _dotted(right))):
        return a, b
    va, vb = _version(str(left)), _version(str(right))
    if va is not None and vb is not None:
        return va, vb
    return None


def _dotted(value: Value) -> bool:
    """Whether a text such as `2.10` must be read as a version: as a number it would be 2.1."""
    return isinstance(value, str) and size(value) is None and "." in value


def _number(value: Value) -> float | None:
    """The value as a finite number; `nan` and `inf` in a log are words, since nothing can be told from comparing them."""
    amount = size(value) if isinstance(value, str) else None
    try:
        number = float(value if amount is None else amount)
    except (ValueError, OverflowError):
        return None
    return number if isfinite(number) else None


@lru_cache(maxsize=1024)
def _version(text: str) -> Any:
    from packaging.version import Version

    try:
        return Version(text.split("+")[0])
    except ValueError:  # InvalidVersion, or more digits in a row than Python reads
        return None


def _regex(pattern: str) -> Any:
    try:
        return regex(pattern)
    except PatternError as error:
        raise PredicateError(f"{pattern!r} is not a pattern: {error}") from None


def _unquote(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
