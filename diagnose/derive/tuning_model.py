"""What follows from a training's settings together with its model, tokenizer and GPUs, as facts under `tuning.`.

Nothing is judged here, and what is not known is not told. What transformers' classes support is read off the table of the
release that dataset/training/modules.json was made with.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from diagnose.derive import tuning_lora
from diagnose.derive.known import Known, Told, by_name
from diagnose.derive.tuning_lora import ADAPTERS, listed, rows_of, table_release
from diagnose.model import Fact

NOT_TRAINED = ("merge", "inference", "preprocess")
"""Tasks in which no step is taken."""
_POSITIONS = ("wpe", "embed_positions", "position_embeddings", "positions_embed")
_UNTRAINABLE = ("fbgemm_fp8", "higgs", "spqr", "vptq", "quark", "nvfp4", "auto-round", "bitnet", "gemma", "metal")
"""Quantizations of transformers 5.24 whose quantizer says that it cannot be trained with (is_trainable)."""
_OVERFLOWING = ("t5", "mt5", "umt5", "longt5", "gemma2", "gemma3", "gemma3_text")
"""Model types that are known to leave float16's range: T5's (transformers' documentation), Gemma's (vLLM refuses float16)."""
_TEMPLATES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"chatml.*|qwen(?:2|25|2_5|2_vl|3|3_\w+|_25)?", ("<|im_start|>", "<|im_end|>")),
    (r"llama3(?:_\w+)?|llama-3", ("<|start_header_id|>", "<|eot_id|>")),
    (r"gemma(?:2|3|_\w+)?", ("<start_of_turn>", "<end_of_turn>")),
)
"""Templates that LLaMA-Factory and Axolotl know by name, with marks that they write."""
_SHARDED = ("zero.stage", "fsdp.strategy", "training.fsdp", "training.deepspeed", "zero.file")


def complete(facts: Sequence[Fact]) -> tuple[Fact, ...]:
    """The facts that follow from `facts`; none that is among them already, and none for a task that trains nothing."""
    known = Known(by_name(facts))
    if known.text("training.task") in NOT_TRAINED:
        return ()
    from diagnose.derive import tuning_memory

    tellers = (
        tuning_lora.complete,
        _kind,
        _attention,
        _checkpointing,
        _quantized,
        _precision,
        _tokens,
        tuning_memory.complete,
    )
    for tell in tellers:
        for name, value in tell(known):
            known.add(name, value)
    return tuple(known.new.values())


# --- what kind of model it is


def _kind(known: Known) -> Told:
    length, positions = known.whole("training.max_length"), known.whole("model.positions")
    embeddings = [path for row in rows_of(known) for path in row.get("embeddings", ()) if "vision" not in path]
    if length and positions and any(path.rpartition(".")[2] in _POSITIONS for path in embeddings):
        # other packings count the positions of each example anew
        endless = (
            known.text("training.framework") == "llamafactory" or known.text("training.packing_strategy") == "wrapped"
        )
        packed = known.yes("training.packing") and endless and not known.has_setting("neat_packing")
        yield "tuning.model.positions_over", length > positions and not packed
        yield "tuning.model.rows_over", length > positions and packed
    if known.text("template.model_tuned") == "no" and not known.text("training.script"):
        yield "tuning.model.untuned", not known.text("training.adapter")
    experts = known.whole("model.experts") or 0
    release = known.text("transformers.version")
    if experts > 1 and release and known.whole("zero.stage") == 3:
        listed_experts = int(release.partition(".")[0]) < 5 if release.partition(".")[0].isdigit() else False
        yield "tuning.model.experts_listed", listed_experts and known.text("training.framework") in ("trl", "trainer")


# --- attention


def _same_release(known: Known) -> bool:
    """Whether transformers is of the release that the table was made with, up to its patches."""
    here, there = known.text("transformers.version").split("."), table_release().split(".")
    return len(here) >= 2 and here[:2] == there[:2]


def _attention(known: Known) -> Told:
    asked = known.text("training.attention")
    if not asked:
        return
    flash = bool(re.fullmatch(r"flash_attention_[234]", asked))
    kind = "flash" if flash else {"sdpa": "sdpa", "flex_attention": "flex"}.get(asked, "")
    rows = _own_rows(known)
    patched = known.text("training.framework") == "axolotl"  # it puts attention of its own into several classes
    if kind and rows and _same_release(known) and not patched:
        yield "tuning.attention.supported", any(row.get(kind) is True for row in rows)
    head = known.whole("model.head_dim")
    if flash and head:
        yield "tuning.attention.head_too_wide", head > 256
    if flash and known.value("packages.count") and known.text("model.type") == "gpt_oss":
        if (
            _five(known) and asked != "flash_attention_4"
        ):  # its sinks are in kernels of their own, which it falls back to
            yield "tuning.attention.kernels_here", bool(known.text("kernels.version"))
    elif flash and known.value("packages.count") and known.text("transformers.version"):
        package = {"2": "flash-attn", "3": "flash-attn-3", "4": "flash-attn-4"}[asked[-1]]
        here = any(known.text(f"{name}.version") for name in (package, "kernels"))
        yield "tuning.attention.package", package
        yield "tuning.attention.package_here", here


def _own_rows(known: Known) -> list[dict[str, Any]]:
    """The rows of the model's own type, of the class that its config names where the table has it."""
    rows = [row for row in rows_of(known) if row.get("type") == known.text("model.type")]
    named = [row for row in rows if row.get("class") == known.text("model.architecture")]
    return named or rows


def _checkpointing(known: Known) -> Told:
    rows = _own_rows(known)
    if rows and known.yes("training.gradient_checkpointing") and known.value("model.remote_code") is not True:
        yield "tuning.model.checkpointing", any(row.get("checkpointing") is True for row in rows)


# --- quantization


def _quantized(known: Known) -> Told:
    base, asked = known.text("model.quantization"), known.text("training.quantization")
    method, framework = known.text("training.method"), known.text("training.framework")
    plain = framework in ("trl", "trainer", "")
    dequantized = known.has_setting("dequantize", "model_quantization_config", "model_quantization_config_kwargs")
    if base and base != "none" and plain:
        yield "tuning.quantized.again", asked in ("4bit", "8bit") and base != "bitsandbytes"
        if method == "full" and not asked and not dequantized:
            yield "tuning.quantized.whole", base in ("gptq", "awq", "bitsandbytes", "aqlm", "hqq", "eetq")
        if not dequantized and method in ADAPTERS:
            yield "tuning.quantized.untrainable", base in _UNTRAINABLE
            yield "tuning.quantized.mxfp4", base == "mxfp4" and not known.text("training.script")
    if (base in ("", "none")) and asked in ("4bit", "8bit") and method == "full" and plain:
        yield "tuning.quantized.whole", True
    if asked == "4bit":
        owners = {known.text(name) for name in known.names() if re.fullmatch(r"training\.given\.\d+\.owner", name)}
        unset = not known.text("training.quantization_compute")
        if "transformers.BitsAndBytesConfig" in owners and not known.text("training.script"):
            yield "tuning.quantized.compute_unset", unset
    if asked in ("4bit", "8bit") and known.value("packages.count") and known.text("transformers.version"):
        yield "tuning.quantized.bitsandbytes_here", bool(known.text("bitsandbytes.version"))
    if asked in ("4bit", "8bit") or (base and base != "none"):
        how = asked if asked in ("4bit", "8bit") else base
        yield "tuning.quantized.base", how
        yield (
            "tuning.quantized.dora_refused",
            known.yes("training.lora.dora") and how in ("gptq", "awq", "aqlm", "eetq"),
        )
        yield "tuning.quantized.init_refused", known.text("training.lora.init").startswith("pissa") and plain


# --- number types


def _precision(known: Known) -> Told:
    if not known.yes("training.fp16"):
        return
    loaded = known.text("training.load_dtype")
    if loaded == "auto" or (not loaded and known.text("training.framework") == "trainer" and _five(known)):
        loaded = known.text("model.dtype")
    sharded = any(known.text(name) not in ("", "0", "none") for name in _SHARDED)
    if (
        known.text("training.method") == "full"
        and not sharded
        and known.text("training.framework") in ("trl", "trainer")
    ):
        yield "tuning.precision.half_weights", loaded == "float16"
    kinds = (known.text("model.type"), known.text("model.text_type"))
    yield "tuning.precision.overflows", any(kind in _OVERFLOWING for kind in kinds)
    cards = [known.value(name) for name in known.names() if re.fullmatch(r"gpu\.\d+\.bf16", name)]
    if known.text("model.dtype") == "bfloat16" and cards:
        yield "tuning.precision.bf16_possible", all(value is True for value in cards)


def _five(known: Known) -> bool:
    return known.text("transformers.version").startswith("5.")


# --- tokens


def _tokens(known: Known) -> Told:
    marks = frozenset(known.text("tokenizer.marks").split())
    added = {name for name in re.split(r"[\s,]+", known.text("training.new_tokens_listed")) if name}
    if marks and known.text("training.tokenizer") in ("", known.text("training.model")):
        for part in ("eos", "pad"):
            token = known.text(f"training.{part}_token")
            if re.fullmatch(r"<[^\s<>]{1,40}>", token):
                yield f"tuning.tokens.{part}_unknown", token not in marks and token not in added
        yield from _template(
            marks | added | {known.text("training.eos_token"), known.text("training.pad_token")}, known
        )
    new = known.whole("training.new_tokens") or 0
    if known.text("training.method") in ADAPTERS and new > 0 and not known.text("training.script"):
        saved = listed(known.text("training.lora.saved_modules"))
        resized_by_it = known.text("training.framework") == "llamafactory" and known.yes("training.resize_embeddings")
        own = known.text("training.framework") == "axolotl"  # which refuses such a configuration itself
        trained = bool(saved) or known.yes("training.lora.trainable_tokens") or resized_by_it or own
        targets = listed(known.text("training.lora.targets"))
        trained = trained or any("embed" in name or name == "wte" for name in targets)
        yield "tuning.tokens.untrained", not trained
    end, eos = known.text("template.turn_end"), known.text("special.eos.text")
    if known.text("template.source") == "none" and not known.text("training.script"):
        yield "tuning.tokens.no_template", not known.text("training.chat_template")
    if known.text("training.method") in ADAPTERS and "<|eot_id|>" in marks and not known.text("training.script"):
        named = known.text("training.chat_template").lower()
        used = named.startswith("llama3") or (
            not named and end == "<|eot_id|>" and known.text("data.layout") == "messages"
        )
        trained = bool(known.text("training.lora.saved_modules")) or known.yes("training.lora.trainable_tokens")
        base = known.text("model.type") == "llama" and known.text("template.model_tuned") == "no"
        yield "tuning.tokens.rows_untrained", used and base and not trained
    if known.text("training.framework") == "llamafactory" and known.text("training.task") == "pretrain":
        yield "tuning.tokens.ends_masked", known.yes("special.pad.is_eos") or known.yes("special.pad.missing")
    stops = known.text("template.turn_end_stops")
    own = known.text("training.framework") == "trl"  # the others have templates, and stop words, of their own
    if end and eos and end != "none" and stops == "nowhere" and own and not known.text("training.script"):
        yield "tuning.tokens.end_differs", end != (known.text("training.eos_token") or eos)


def _template(there: frozenset[str] | set[str], known: Known) -> Told:
    """Of a template that is named: whether its marks are tokens."""
    name = known.text("training.chat_template").lower()
    wanted = next((marks for pattern, marks in _TEMPLATES if re.fullmatch(pattern, name)), ())
    if wanted and known.text("training.framework") in ("llamafactory", "axolotl"):
        lacking = [mark for mark in wanted if mark not in there]
        yield "tuning.tokens.template_marks_lacking", len(lacking)
        if lacking:
            yield "tuning.tokens.template_mark_lacking", ", ".join(lacking)
