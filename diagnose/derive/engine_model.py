"""Settings of a launch command against each other, and the model and the variables against the engine's release."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from diagnose.derive.engines import Table
from diagnose.derive.spans import Span
from diagnose.places import table

if TYPE_CHECKING:
    from diagnose.derive.engine_facts import Judged


class Relation(Struct, frozen=True, rename={"within": "in"}):
    """A flag that an engine refuses without another one (`needs`), or beside another one (`excludes`)."""

    engine: str
    flag: str
    needs: str = ""
    excludes: str = ""
    within: Span = ""


class _Relations(Struct, frozen=True):
    """dataset/engines/relations.json."""

    rows: tuple[Relation, ...]


@cache
def relations() -> tuple[Relation, ...]:
    """The pairs of flags that the engines check; none if the table cannot be read."""
    try:
        return msgspec.convert(table("engines", "relations.json"), _Relations).rows
    except msgspec.ValidationError:
        return ()


FAMILIES = {
    "awq": "awq",
    "awq_marlin": "awq",
    "auto_awq": "awq",
    "gptq": "gptq",
    "gptq_marlin": "gptq",
    "auto_gptq": "gptq",
    "gptq_bitblas": "gptq",
    "compressed-tensors": "compressed-tensors",
    "bitsandbytes": "bitsandbytes",
    "fp8": "fp8",
    "fbgemm_fp8": "fbgemm_fp8",
    "mxfp4": "mxfp4",
    "gguf": "gguf",
}
"""Quantization methods that read the same checkpoints. Methods that take over others' (moe_wna16, inc, quark) are left out."""
STORED = frozenset({"awq", "gptq", "compressed-tensors"})
"""Families that need a checkpoint that was quantized so: there is nothing that they could do at load."""


def settings(found: Judged, table: Table) -> None:
    """What of the command does not go together, by the engine's own checks."""
    at = found.at
    if at is not None:
        number = 0
        for row in relations():
            if row.engine == found.engine and table.within(row.within, at) and _is_on(found, row.flag):
                number += _relation(found, row, number)
    _tool_parser(found)
    _numbers(found)
    _lora(found)


def _is_on(found: Judged, flag: str) -> bool:
    return found.text(f"launch.arg.{flag}") not in ("", "false", "False")


def _relation(found: Judged, row: Relation, number: int) -> int:
    if row.needs and "launch.more_words" in found.told:
        return 0  # the other one may be among the words that only the shell knows
    line = found.told[f"launch.arg.{row.flag}"].line
    written = "--" + row.flag.replace("_", "-")
    if row.needs and not _is_on(found, row.needs):
        found.add(f"launch.needs.{number}.flag", written, line)
        found.add(f"launch.needs.{number}.other", "--" + row.needs.replace("_", "-"), line)
        return 1
    if row.excludes and _is_on(found, row.excludes):
        found.add(f"launch.excludes.{number}.flag", written, line)
        found.add(f"launch.excludes.{number}.other", "--" + row.excludes.replace("_", "-"), line)
        return 1
    return 0


def _tool_parser(found: Judged) -> None:
    """vLLM calls tools by itself only with both flags."""
    if found.engine != "vllm" or "launch.more_words" in found.told:
        return
    parser = found.text("launch.tool_parser")
    if (
        found.text("launch.auto_tool_choice") == "True"
        and not parser
        and "launch.arg.tool_call_parser" not in found.told
    ):
        found.add("launch.tool_parser_missing", True, found.told["launch.auto_tool_choice"].line)
    if parser and "launch.auto_tool_choice" not in found.told:
        found.add("launch.tool_choice_missing", True, found.told["launch.tool_parser"].line)


def _numbers(found: Judged) -> None:
    """Numbers that exclude each other, where both are given."""
    batched, sequences, context = (
        found.number(f"launch.{name}") for name in ("batched_tokens", "sequences", "context")
    )
    if found.engine == "vllm" and batched is not None and batched > 0:
        if sequences is not None and batched < sequences:
            found.add("launch.batched_below_sequences", True)
        if context is not None and 0 < batched < context and found.text("launch.chunked_prefill") == "False":
            found.add("launch.batched_below_context", True)
    share = found.number("launch.memory_share")
    if share is not None:
        found.add("launch.memory_share_possible", 0 < share <= 1)
    for smaller, larger, name in (
        ("max_cpu_loras", "max_loras", "launch.cpu_loras_below_loras"),
        ("max_total_tokens", "max_input_tokens", "launch.total_not_above_input"),
        ("max_batch_total_tokens", "max_total_tokens", "launch.batch_below_total"),
    ):
        one, other = _whole(found, smaller), _whole(found, larger)
        if one is None or other is None or (name != "launch.cpu_loras_below_loras" and found.engine != "tgi"):
            continue
        if one < other or (name == "launch.total_not_above_input" and one == other):
            found.add(name, True)
    if found.engine == "sglang":
        _sglang_numbers(found)


def _sglang_numbers(found: Judged) -> None:
    chunk, page = _whole(found, "chunked_prefill_size"), _whole(found, "page_size")
    decodes = found.text("launch.arg.disaggregation_mode") == "decode"  # prompts are read by another server
    if chunk is not None and page and chunk > 0 and chunk % page and not decodes:
        found.add("launch.chunk_not_of_pages", True)
    served = found.text("launch.arg.served_model_name")
    if ":" in served and "://" not in served:
        found.add("launch.served_name_colon", served[:200])


def _whole(found: Judged, name: str) -> int | None:
    text = found.text(f"launch.arg.{name}")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _lora(found: Judged) -> None:
    """Adapters of a higher rank than the command allows: vLLM's --max-lora-rank is 16 unless told otherwise."""
    if found.engine != "vllm":
        return
    limit = found.number("launch.lora_rank")
    allowed = int(limit) if limit is not None else 16
    ranks = [
        (int(rank), name)
        for name in found.told
        if name.startswith("launch.adapter.") and name.endswith(".rank") and (rank := found.number(name)) is not None
    ]
    if not ranks:
        return
    found.add("launch.lora_rank_allowed", allowed)
    found.add("launch.lora_rank_needed", max(ranks)[0], found.told[max(ranks)[1]].line)


# --- the model


def model(found: Judged, table: Table) -> None:
    """The model's architecture and quantization against the engine's release."""
    _architecture(found, table)
    _quantization(found)


def _architecture(found: Judged, table: Table) -> None:
    name = found.text("gguf.architecture") if found.engine == "llama.cpp" else found.text("model.architecture")
    if not name or found.at is None:
        return
    listed = table.names("architectures", found.at)
    if not listed:
        return
    known = name in listed
    found.add("engine.architecture_known", known)
    if known:
        return
    span = table.span_of("architectures", name)
    if span is None:
        found.add("engine.architecture_ever", False)
        return
    found.add("engine.architecture_ever", True)
    since = table.since(span)
    first = table.place(since) if since else None
    if first is not None and first > found.at:
        found.add("engine.architecture_since", since)
    else:
        found.add("engine.architecture_until", table.until(span))


def _quantization(found: Judged) -> None:
    """The method that the command asks for against the one that the checkpoint was made with."""
    asked, stored = found.text("launch.quantization").lower(), found.text("model.quantization").lower()
    if found.engine not in ("vllm", "sglang") or not asked or not stored:
        return
    family = FAMILIES.get(asked)
    if family is None:
        return
    line = found.told["launch.quantization"].line
    if stored == "none":
        if family in STORED:
            found.add("launch.quantization_without_checkpoint", asked, line)
        return
    other = FAMILIES.get(stored)
    if other is not None:
        found.add("launch.quantization_fits", family == other, line)


# --- environment variables


def environment(found: Judged, table: Table) -> None:
    """Variables of the engine that are set: those that the release does not know, no longer or not yet reads."""
    document = table.document
    if not document.prefixes or not document.environment:
        return
    number = 0
    for name, fact in list(found.told.items()):
        head, _, variable = name.partition(".")
        if name.startswith("launch.env."):
            variable = name.removeprefix("launch.env.")
        elif head != "env" or found.text("launch.contained") == "True":
            continue
        if variable.startswith(document.prefixes) and _variable(found, table, variable, str(number), fact.line):
            number += 1


def _variable(found: Judged, table: Table, variable: str, number: str, line: int) -> bool:
    document = table.document
    if variable in document.read_elsewhere:
        return False
    span = document.environment.get(variable)
    if span is None:
        place = found.at if found.at is not None else len(table.releases) - 1
        there = [name for name, told in document.environment.items() if table.within(told, place)]
        close = get_close_matches(variable, [*there, *document.read_elsewhere], 1, 0.88)
        if not close or table.is_beyond(found.version):
            return False
        found.add(f"launch.variable_unknown.{number}.name", variable, line)
        found.add(f"launch.variable_unknown.{number}.nearest", close[0], line)
        return True
    at = found.at
    declared = table.place(document.environment_since) if document.environment_since else 0
    if at is None or table.within(span, at) or at < (declared or 0):
        return False
    since, until = table.since(span), table.until(span)
    first = table.place(since) if since else None
    if first is not None and at < first:
        if since == document.environment_since or document.declared_late:
            return False
        found.add(f"launch.variable_too_new.{number}.name", variable, line)
        found.add(f"launch.variable_too_new.{number}.since", since, line)
        return True
    if until:
        found.add(f"launch.variable_gone.{number}.name", variable, line)
        found.add(f"launch.variable_gone.{number}.until", until, line)
        return True
    return False
