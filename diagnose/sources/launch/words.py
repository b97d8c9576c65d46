"""What is odd about the words of a command: dashes and quotes out of a chat, JSON that a shell took apart, flags cut off."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from diagnose.model import Fact, Reading
from diagnose.sources.launch.arguments import DASHES, Given, straight
from diagnose.sources.launch.shell import Word

_CURLY = "\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u2032\u2033\u00ab\u00bb"
_INVISIBLE = "\u00a0\u200b\u200c\u200d\u2060\ufeff\u00ad\u202f\u2009\u200e\u200f"
_SECRET = re.compile(r"(?i)key|token|password|secret")
MOST = 10
LONGEST = 120


def read(words: Sequence[Word], given: Sequence[Given], origin: str) -> Iterator[Reading]:
    """`launch.dash.*`, `launch.curly.*`, `launch.invisible.*`, `launch.json.*` and `launch.option_after_nothing`."""
    yield from _typography(words, origin)
    yield from _json(given, origin)


def _typography(words: Sequence[Word], origin: str) -> Iterator[Reading]:
    counts = {"dash": 0, "curly": 0, "invisible": 0}
    secret = False
    for word in words[:2000]:
        kinds: list[tuple[str, str]] = []
        skipped, secret = secret, bool(_SECRET.search(word.text))
        if skipped:
            continue
        if word.text[:1] and word.text[0] in DASHES + "-" and straight(word.text) != word.text:
            kinds.append(("dash", straight(word.text).partition("=")[0]))
        if any(mark in word.text for mark in _CURLY) and (
            word.text[0] in _CURLY or "=" in word.text or word.text[-1] in _CURLY
        ):
            kinds.append(("curly", re.sub(f"[{_CURLY}]", '"', word.text)))
        if any(mark in word.text for mark in _INVISIBLE):
            kinds.append(("invisible", re.sub(f"[{_INVISIBLE}]", " ", word.text).strip()))
        for kind, meant in kinds:
            number = counts[kind]
            if number < MOST:
                yield Fact(
                    f"launch.{kind}.{number}.text",
                    word.text.partition("=")[0][:LONGEST] if kind == "dash" else word.text[:LONGEST],
                    origin,
                    word.line,
                )
                yield Fact(f"launch.{kind}.{number}.meant", meant[:LONGEST], origin, word.line)
            counts[kind] += 1


def _json(given: Sequence[Given], origin: str) -> Iterator[Reading]:
    """Values that are to be JSON and are not, as far as the value itself shows that it was meant to be."""
    number = 0
    for flag in given:
        if flag.key or not flag.values or not flag.known or number >= MOST:
            continue
        if flag.row is None or (flag.row.type != "json" and not _may_be_json(flag)):
            continue
        value = flag.values[0]
        if value in ("", "None"):  # vLLM takes both for nothing
            continue
        problem = json_problem(value, len(flag.values) > 1)
        if problem:
            yield Fact(f"launch.json.{number}.flag", flag.flag, origin, flag.line)
            yield Fact(f"launch.json.{number}.problem", problem, origin, flag.line)
            yield Fact(f"launch.json.{number}.value", value[:LONGEST], origin, flag.line)
            number += 1


def _may_be_json(flag: Given) -> bool:
    """Flags that take a text or JSON: one that begins with a brace was meant as JSON."""
    names = ("hf_overrides", "json_model_override_args", "additional_config", "quantization_config", "lora_modules", "rope_scaling", "chat_template_kwargs", "model_loader_extra_config", "preferred_sampling_params", "override_generation_config", "limit_mm_per_prompt")  # fmt: skip
    return flag.name in names and flag.values[0][:1] == "{"


def json_keys(flag: Given) -> tuple[str, ...]:
    """The keys of a flag's value, where that is a JSON object, or the one that is given as `--flag.key`."""
    if flag.key:
        return (flag.key.partition(".")[0].rstrip("+"),)
    if len(flag.values) != 1 or not flag.values[0].lstrip().startswith("{"):
        return ()
    try:
        value = json.loads(flag.values[0])
    except (ValueError, RecursionError):
        return ()
    names = [key for key in value if re.fullmatch(r"[A-Za-z_]\w{0,60}", key)] if isinstance(value, dict) else []
    return tuple(names[:30])


def json_problem(value: str, more: bool = False) -> str:
    """Why a text is no JSON: `quotes-lost`, `single-quotes`, `python-words`, `trailing-comma`, `empty`, `invalid`; or nothing."""
    try:
        json.loads(value)
    except RecursionError:
        return ""
    except ValueError:
        return _why(value, more)
    return ""


def _why(value: str, more: bool) -> str:
    text = value.strip()
    if not text:
        return "empty"
    if text[0] not in "{[":
        return "invalid"
    if any(mark in text for mark in _CURLY):
        return "curly-quotes"
    if "'" in text and '"' not in text:
        return "single-quotes"
    if '"' not in text and re.search(r"[A-Za-z_]\w*\s*:", text):
        return "quotes-lost"
    if '"' not in text and more:
        return "quotes-lost"
    if re.search(r"[:\[,]\s*(?:True|False|None)\b", text):
        return "python-words"
    if re.search(r",\s*[}\]]", text):
        return "trailing-comma"
    # numbers such as 80g are vLLM's own; it takes them where a plain reader of JSON does not
    bare = re.sub(r"(?<=[:\[,\s])\d+(?:\.\d+)?[kKmMgGtT](?=\s*[,}\]])", "0", text)
    try:
        json.loads(bare)
    except (ValueError, RecursionError):
        return "cut-off" if more or text.count("{") > text.count("}") else "invalid"
    return ""
