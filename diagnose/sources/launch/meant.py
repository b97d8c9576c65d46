"""Flags of a command → the settings that engines share under one name (`launch.tensor_parallel`), whatever each calls them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from diagnose.model import Fact, Reading
from diagnose.sources.launch.arguments import Given
from diagnose.sources.launch.shell import Word

_TEXTS: dict[str, tuple[str, ...]] = {
    "dtype": ("dtype",),
    "quantization": ("quantization", "quantize"),
    "kv_cache_dtype": ("kv_cache_dtype", "cache_type_k"),
    "tokenizer": ("tokenizer", "tokenizer_path"),
    "revision": ("revision",),
    "chat_template": ("chat_template", "chat_template_file"),
    "tool_parser": ("tool_call_parser",),
    "reasoning_parser": ("reasoning_parser",),
    "host": ("host", "hostname"),
    "load_format": ("load_format",),
    "attention_backend": ("attention_backend", "attn_implementation"),
}
"""Settings that are texts, and the flags of the engines for them."""

_NUMBERS: dict[str, tuple[str, ...]] = {
    "tensor_parallel": ("tensor_parallel_size", "tp_size", "num_shard"),
    "pipeline_parallel": ("pipeline_parallel_size", "pp_size"),
    "data_parallel": ("data_parallel_size", "dp_size"),
    "context": ("max_model_len", "context_length", "max_total_tokens", "n_ctx"),
    "sequences": ("max_num_seqs", "max_running_requests", "max_concurrent_requests", "parallel"),
    "batched_tokens": ("max_num_batched_tokens", "chunked_prefill_size", "max_batch_prefill_tokens"),
    "port": ("port",),
    "gpu_layers": ("gpu_layers", "n_gpu_layers"),
    "lora_rank": ("max_lora_rank",),
}
_NOT_FOR: dict[str, frozenset[str]] = {
    "sglang": frozenset({"max_total_tokens"}),  # the size of the pool, not of a request
    "llama.cpp": frozenset({"dtype"}),
}
_SHARES = ("gpu_memory_utilization", "mem_fraction_static", "cuda_memory_fraction")
_PORTS = {
    "vllm serve": 8000,
    "vllm api_server": 8000,
    "sglang serve": 30000,
    "text-generation-launcher": 3000,
    "llama-server": 8080,
    "transformers serve": 8000,
    "llama_cpp.server": 8000,
    "ollama serve": 11434,
}
"""Where a server listens if nothing is said: vLLM's FrontendArgs, SGLang's ServerArgs, TGI's launcher, llama.cpp's common.h."""
_MULTIPLES = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def read(
    given: Sequence[Given], program: str, engine: str, assigned: Mapping[str, Word], origin: str
) -> Iterator[Reading]:
    """The settings that the flags tell; the last of two flags with one name counts, as it does for the engines."""
    told = {flag.name: flag for flag in given if flag.known and not flag.key and flag.values}
    for name in _NOT_FOR.get(engine, ()):
        told.pop(name, None)
    for setting, names in _TEXTS.items():
        flag = _first(told, names)
        if flag is not None and flag.value:
            yield Fact(f"launch.{setting}", flag.value[:1000], origin, flag.line)
    for setting, names in _NUMBERS.items():
        flag = _first(told, names)
        number = whole(flag.value) if flag is not None else None
        if flag is not None and number is not None:
            yield Fact(f"launch.{setting}", number, origin, flag.line)
    yield from _share(told, origin)
    yield from _switches(given, origin)
    yield from _llama_context(told, engine, origin)
    yield from _speculative(told, given, origin)
    if "port" not in told and program in _PORTS and not _set_elsewhere(assigned, engine):
        yield Fact("launch.port", _PORTS[program], "the engine's own default")


def _first(told: Mapping[str, Given], names: tuple[str, ...]) -> Given | None:
    return next((told[name] for name in names if name in told), None)


def whole(text: str) -> int | None:
    """`8192`, `8k` (8,000), `8K` (8,192), `25.6k`; None for anything else."""
    found = re.fullmatch(r"\s*(-?\d{1,18})(?:\.(\d{1,6}))?([kKmMgGtT]?)\s*", text, re.ASCII)
    if not found or (found[2] and found[3] not in ("k", "m", "g", "t")):
        return None
    number = float(f"{found[1]}.{found[2]}") if found[2] else int(found[1])
    return int(number * _MULTIPLES.get(found[3], 1))


def _share(told: Mapping[str, Given], origin: str) -> Iterator[Reading]:
    flag = _first(told, _SHARES)
    if flag is None:
        return
    try:
        share = float(flag.value)
    except ValueError:
        return
    if share == share and abs(share) < 1e6:
        yield Fact("launch.memory_share", share, origin, flag.line)


def _switches(given: Sequence[Given], origin: str) -> Iterator[Reading]:
    names = {
        "trust_remote_code": "trust_remote_code",
        "enable_expert_parallel": "expert_parallel",
        "enforce_eager": "eager",
        "enable_lora": "lora",
        "enable_auto_tool_choice": "auto_tool_choice",
        "enable_prefix_caching": "prefix_caching",
        "enable_chunked_prefill": "chunked_prefill",
    }
    for flag in given:
        if flag.name in names and flag.known and (flag.row is None or flag.row.type in ("flag", "switch")):
            yield Fact(f"launch.{names[flag.name]}", not flag.off, origin, flag.line)


def _llama_context(told: Mapping[str, Given], engine: str, origin: str) -> Iterator[Reading]:
    """llama.cpp's context is told as -c for all slots together; 0 means the model's own."""
    flag = told.get("ctx_size") if engine == "llama.cpp" else None
    number = whole(flag.value) if flag and flag.value.strip().isdecimal() else None  # 4k is 4 for llama.cpp
    if flag is not None and number:
        yield Fact("launch.context_all", number, origin, flag.line)
        parallel = told.get("parallel")
        slots = whole(parallel.value) if parallel else None
        if slots and slots > 0:
            yield Fact("launch.context", number // slots, origin, flag.line)


def _speculative(told: Mapping[str, Given], given: Sequence[Given], origin: str) -> Iterator[Reading]:
    """The draft model: a flag of its own, or a key of vLLM's JSON."""
    flag = _first(
        told, ("speculative_model", "speculative_draft_model_path", "model_draft", "spec_draft_model", "spec_model")
    )
    if flag is not None:
        yield Fact("launch.draft_model", flag.value, origin, flag.line)
    config = told.get("speculative_config")
    parts = {one.key: one.value for one in given if one.name == "speculative_config" and one.key}
    if config is not None:
        try:
            value = json.loads(config.value)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            parts |= {key: str(inner) for key, inner in value.items() if isinstance(inner, (str, int, float))}
    for key, name in (
        ("model", "draft_model"),
        ("method", "speculative_method"),
        ("num_speculative_tokens", "speculative_tokens"),
    ):
        text = parts.get(key, "")
        if text and name == "speculative_tokens":
            number = whole(text)
            if number is not None:
                yield Fact("launch.speculative_tokens", number, origin, config.line if config else 0)
        elif text:
            yield Fact(f"launch.{name}", text[:1000], origin, config.line if config else 0)
    if config is not None or parts:
        yield Fact(
            "launch.speculative_keys", ",".join(sorted(parts))[:400] or "none", origin, config.line if config else 0
        )


def _set_elsewhere(assigned: Mapping[str, Word], engine: str) -> bool:
    """Whether a variable of the engine sets the port."""
    names = {"tgi": ("PORT",), "llama.cpp": ("LLAMA_ARG_PORT",), "ollama": ("OLLAMA_HOST",)}.get(engine, ())
    return any(name in assigned for name in names)
