"""Facts that follow from the tokenizer's together with those of the environment and of the launch command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from diagnose.model import Fact
from diagnose.sources.tokenizer.formats import fits

ORIGIN = "arithmetic"
READERS = ("transformers", "vllm", "sglang", "lmdeploy")
"""Packages that read tokenizers through transformers."""


def complete(facts: Sequence[Fact]) -> tuple[Fact, ...]:
    """What follows; nothing where a part is not known. Pure: facts in, facts out."""
    known = {fact.name: fact.value for fact in facts}
    return tuple(_all(known))


def _all(known: Mapping[str, object]) -> Iterator[Fact]:
    if "packages.count" in known and any(f"{name}.version" in known for name in READERS):
        missing = next((package for package in _packages(known) if f"{package}.version" not in known), "")
        if missing:
            yield Fact("tokenizer.package_missing", missing, ORIGIN)
    if "template.source" in known and "launch.arg.chat_template" not in known:
        yield Fact("template.needed", True, ORIGIN)
    parser, format_ = known.get("launch.arg.tool_call_parser"), known.get("template.tool_format")
    if parser is not None and format_ is not None and "launch.arg.chat_template" not in known:
        answer = fits(str(parser), str(format_))
        if answer is not None:
            yield Fact("template.tool_parser_fits", answer, ORIGIN)


def _packages(known: Mapping[str, object]) -> list[str]:
    """What has to be installed beside transformers, in the order in which its lack is met."""
    if known.get("tokenizer.needs_sentencepiece") is True:
        return ["sentencepiece"] if known.get("tokenizer.remote_code") is True else ["sentencepiece", "protobuf"]
    if known.get("tokenizer.needs_mistral_common") is True:
        return ["mistral-common"]
    return ["tiktoken"] if known.get("tokenizer.needs_tiktoken") is True else []
