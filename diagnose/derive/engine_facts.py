"""Facts about a launch command → what the tables of its engine say: flags that are unknown, gone, too new, or have a wrong value.

Everything is judged by the release that is installed or in the image. Where none is known it is the newest of the table, and
that is told (`engine.release_assumed`). A release that the table does not have, a build between two or a newer one, is
judged only by what no release ever had.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from msgspec import Struct

from diagnose.derive import engine_model, engines
from diagnose.derive.engines import Hit, Table
from diagnose.model import Fact

PACKAGES = {
    "vllm": "vllm",
    "sglang": "sglang",
    "transformers": "transformers",
}
"""Engines whose table's releases are those of a package."""
MOST_NEAREST = 60
"""Behind so many flags nobody is told what was meant: the search takes milliseconds for each."""
WANTED = {"vllm": "vllm", "sglang": "sglang", "llama-cpp": "llama.cpp"}
"""What `--for` may name, and the engine that it means."""
JUDGED = {
    "vllm": ("vllm serve", "vllm api_server"),
    "sglang": ("sglang serve",),
    "llama.cpp": ("llama-server",),
    "tgi": ("text-generation-launcher",),
    "transformers": ("transformers serve",),
    "ollama": ("ollama create",),
}
"""The programs whose flags the tables hold; of other programs of an engine nothing is said."""
PARSERS = {"tool_call_parser": ("tool_parsers", "tool_parser_plugin"), "reasoning_parser": ("reasoning_parsers", "reasoning_parser_plugin")}  # fmt: skip
VALIDATED = {
    "quantization": "quantization",
    "kv_cache_dtype": "kv_cache_dtypes",
    "attention_backend": "attention_backends",
    "load_format": "load_formats",
}
"""vLLM's flags whose values are checked behind the parser, and the list of names that counts."""
PLUGGED = {
    "quantization": frozenset({"ascend", "deepseek_v4_fp8", "mxfp8", "modelopt_mxfp8", "awq_hpu", "gptq_hpu"}),
    "load_format": frozenset({"netloader", "rfork"}),
}
"""Names that packages beside vLLM add to its lists when it starts (vllm-ascend 0.2x, vllm-gaudi): of these nothing is said."""
APPENDED = frozenset({"middleware", "lora", "lora_scaled", "override_kv", "control_vector", "logit_bias", "override_tensor", "spec_type", "lora_modules"})  # fmt: skip
"""Flags that may be given several times."""
EQUALS: tuple[dict[str, str], ...] = (
    {"vllm": "--max-model-len", "sglang": "--context-length", "llama.cpp": "--ctx-size", "tgi": "--max-total-tokens"},
    {"vllm": "--tensor-parallel-size", "sglang": "--tp-size", "tgi": "--num-shard"},
    {"vllm": "--pipeline-parallel-size", "sglang": "--pp-size"},
    {"vllm": "--data-parallel-size", "sglang": "--dp-size"},
    {"vllm": "--gpu-memory-utilization", "sglang": "--mem-fraction-static", "tgi": "--cuda-memory-fraction"},
    {"vllm": "--max-num-seqs", "sglang": "--max-running-requests", "llama.cpp": "--parallel", "tgi": "--max-concurrent-requests", },
    {"vllm": "--max-num-batched-tokens", "sglang": "--chunked-prefill-size", "llama.cpp": "--batch-size", "tgi": "--max-batch-prefill-tokens"},
    {"vllm": "--served-model-name", "sglang": "--served-model-name", "llama.cpp": "--alias"},
    {"vllm": "--model", "sglang": "--model-path", "llama.cpp": "--model", "tgi": "--model-id"},
    {"vllm": "--quantization", "sglang": "--quantization", "tgi": "--quantize"},
    {"vllm": "--enforce-eager", "sglang": "--disable-cuda-graph"},
    {"vllm": "--kv-cache-dtype", "sglang": "--kv-cache-dtype", "llama.cpp": "--cache-type-k", "tgi": "--kv-cache-dtype"},
    {"vllm": "--tokenizer", "sglang": "--tokenizer-path"},
    {"vllm": "--host", "sglang": "--host", "llama.cpp": "--host", "tgi": "--hostname"},
    {"vllm": "--hf-overrides", "sglang": "--json-model-override-args"},
    {"vllm": "--lora-modules", "sglang": "--lora-paths", "llama.cpp": "--lora", "tgi": "--lora-adapters"},
    {"vllm": "--seed", "sglang": "--random-seed", "llama.cpp": "--seed"},
    {"vllm": "--enable-expert-parallel", "sglang": "--ep-size"},
)  # fmt: skip
"""Flags of different engines for the same setting."""


class Given(Struct):
    """A flag of the command, put together from its facts."""

    number: str
    flag: str = ""
    name: str = ""
    value: str | None = None
    attached: bool = False
    for_shell: bool = False
    key: str = ""
    keys: str = ""
    line: int = 0


class Judged:
    """What is known, what is judged by, and what was found."""

    def __init__(self, facts: Iterable[Fact]) -> None:
        self.told = {fact.name: fact for fact in facts}
        self.new: dict[str, Fact] = {}
        self.engine = self.text("engine.name") or WANTED.get(self.text("wanted.name"), "")
        self.table: Table | None = engines.table(self.engine) if self.engine else None
        self.version = self._version()
        self.at: int | None = None

    def text(self, name: str) -> str:
        """A fact's value as text; empty if it is not known."""
        fact = self.told.get(name) or self.new.get(name)
        return "" if fact is None else str(fact.value)

    def number(self, name: str) -> float | None:
        """A fact's value as a number; None for anything else."""
        fact = self.told.get(name)
        if fact is None or isinstance(fact.value, bool) or not isinstance(fact.value, (int, float)):
            return None
        return fact.value

    def _version(self) -> str:
        """The release that will run: the image's, or what is installed where the command runs on this machine."""
        told = self.text("launch.engine_version")
        if told:
            return told
        if self.text("launch.contained") == "True":
            return ""
        package = PACKAGES.get(self.engine, "")
        return self.text(f"{package}.version") if package else ""

    def add(self, name: str, value: str | int | float | bool | None, line: int = 0) -> None:
        """Add a fact of the table, unless it is known already or there is nothing to tell."""
        if value is not None and value != "" and name not in self.told and name not in self.new:
            origin = f"dataset/engines/{engines.FILES.get(self.engine, self.engine)}.json"
            self.new[name] = Fact(name, value, origin, line)


def complete(facts: Iterable[Fact]) -> tuple[Fact, ...]:
    """See `diagnose.derive.engines.complete`."""
    found = Judged(facts)
    if found.table is None or not found.table.releases:
        return ()
    _release(found, found.table)
    if "launch.program" in found.told:
        if found.text("launch.program") in JUDGED.get(found.engine, ()):
            given = _given(found)
            for one in [] if _is_delegated(given) else given:
                _flag(found, found.table, one)
            _twice(found, given)
        engine_model.settings(found, found.table)
    engine_model.environment(found, found.table)
    engine_model.model(found, found.table)
    return tuple(found.new.values())


def _is_delegated(given: list[Given]) -> bool:
    """Whether the command hands its flags to another program: vLLM-Omni, or SGLang's server for diffusion models."""
    return any(one.flag == "--omni" or (one.name == "model_type" and one.value not in ("llm", "auto")) for one in given)


def _release(found: Judged, table: Table) -> None:
    """The release that is judged by, and whether that is only the newest there is."""
    newest = len(table.releases) - 1
    found.add("engine.judged", found.engine)
    if not found.version:
        found.at = newest
        found.add("engine.release_assumed", table.releases[newest])
        return
    if "launch.engine_version" not in found.told:
        found.add("launch.engine_version", found.version)
    found.at = table.place(found.version)
    if found.at is None and found.engine not in PACKAGES and not table.is_beyond(found.version):
        found.at = newest  # releases of llama.cpp are builds, of which the table knows no numbers
        found.add("engine.release_assumed", table.releases[newest])
    elif found.at is None:
        found.add("engine.release_unknown", found.version)
    else:
        found.add("engine.release", table.releases[found.at])


def _given(found: Judged) -> list[Given]:
    """The flags of the command, in order."""
    given: dict[str, Given] = {}
    for name, fact in found.told.items():
        told = re.fullmatch(r"launch\.given\.(\d+)\.(\w+)", name)
        if told is None:
            continue
        one = given.setdefault(told[1], Given(told[1]))
        if told[2] == "flag":
            one.flag, one.line = str(fact.value), fact.line
        elif told[2] in ("name", "value", "key", "keys"):
            setattr(one, told[2], str(fact.value))
        elif told[2] in ("attached", "for_shell"):
            setattr(one, told[2], fact.value is True)
    return sorted((one for one in given.values() if one.flag), key=lambda one: int(one.number))


# --- flags


def _flag(found: Judged, table: Table, one: Given) -> None:
    """Everything about one flag. Only one thing is told of it: what the parser would stumble over first."""
    written = one.flag.partition(".")[0] if one.key else one.flag
    hit = table.find(written, found.at)
    if hit is None and one.name == "help":
        return
    if hit is None:
        _unknown(found, table, one)
        return
    if found.at is None:
        return
    if one.flag == "-O" and table.style == "flexible" and not one.key and not table.has(hit, found.at):
        hit = table.find("--optimization-level", found.at) or hit  # vLLM's parser writes -O3 anew as that
    if not table.has(hit, found.at):
        if len(table.beginnings(written, found.at)) == 1:
            return  # the release takes it for the beginning of another flag
        _not_in_release(found, table, one, hit)
        return
    if hit.flag.elsewhere == "all":
        found.add(f"launch.other_program.{one.number}.flag", one.flag, one.line)
        return
    if hit.flag.refused and table.within(hit.flag.refused, found.at):
        found.add(f"launch.gone.{one.number}.flag", one.flag, one.line)
        found.add(f"launch.gone.{one.number}.instead", hit.flag.instead, one.line)
        return
    if hit.flag.deprecated and table.within(hit.flag.deprecated, found.at):
        found.add(f"launch.deprecated.{one.number}.flag", one.flag, one.line)
        found.add(f"launch.deprecated.{one.number}.instead", hit.flag.instead, one.line)
    if _keys(found, table, one) or one.key:
        return
    _value(found, table, one, hit)


def _keys(found: Judged, table: Table, one: Given) -> bool:
    """Whether the JSON of a flag has a key that the engine's configuration class does not have, and so refuses."""
    known = table.names(f"keys_{one.name}", found.at if found.at is not None else 0)
    wrong = next((key for key in one.keys.split(",") if key and known and key not in known), "")
    if wrong:
        close = get_close_matches(wrong, known, 1, 0.6)
        found.add(f"launch.json_key.{one.number}.flag", one.flag, one.line)
        found.add(f"launch.json_key.{one.number}.key", wrong, one.line)
        found.add(f"launch.json_key.{one.number}.nearest", close[0] if close else "", one.line)
    return bool(wrong)


def _unknown(found: Judged, table: Table, one: Given) -> None:
    if table.is_beyond(found.version) or one.flag.replace("_", "-") in table.document.flags_elsewhere:
        return
    if table.style == "modelfile":
        _parameter(found, table, one)
        return
    beginnings = table.beginnings(one.flag, found.at if found.at is not None else len(table.releases) - 1)
    if len(beginnings) > 1:
        found.add(f"launch.ambiguous.{one.number}.flag", one.flag, one.line)
        found.add(f"launch.ambiguous.{one.number}.could_be", ", ".join(sorted(beginnings)[:6]), one.line)
        return
    if _foreign(found, one):
        return
    found.add(f"launch.unknown.{one.number}.flag", one.flag, one.line)
    if int(one.number) < MOST_NEAREST:
        found.add(f"launch.unknown.{one.number}.nearest", nearest(table, one.flag, found.at), one.line)


def _parameter(found: Judged, table: Table, one: Given) -> None:
    """A parameter of a Modelfile that is like a known one: newer releases may have others, of which nothing is said."""
    close = get_close_matches(one.flag.lower(), table.spellings(), 1, 0.75)
    if close and one.attached:  # a flag of `ollama create` itself is no parameter
        found.add(f"launch.parameter_unknown.{one.number}.name", one.flag, one.line)
        found.add(f"launch.parameter_unknown.{one.number}.nearest", close[0], one.line)


def _foreign(found: Judged, one: Given) -> bool:
    """Whether this is another engine's flag for something that this engine sets too, by another name."""
    for other in ("vllm", "sglang", "llama.cpp", "tgi"):
        foreign = engines.table(other) if other != found.engine else None
        hit = foreign.find(one.flag) if foreign else None
        if hit is None or hit.short:
            continue
        here = next(
            (pair[found.engine] for pair in EQUALS if pair.get(other) == hit.flag.flag and found.engine in pair), ""
        )
        if here:
            found.add(f"launch.foreign.{one.number}.flag", one.flag, one.line)
            found.add(f"launch.foreign.{one.number}.of", other, one.line)
            found.add(f"launch.foreign.{one.number}.here", here, one.line)
            return True
    return False


def nearest(table: Table, written: str, at: int | None) -> str:
    """The flag of a release that is spelled most like another; empty if none is."""
    names = {
        spelling.lstrip("-"): spelling
        for spelling in table.spellings()
        if spelling.startswith("--")
        and (hit := table.find(spelling, at)) is not None
        and (at is None or table.has(hit, at))
    }
    bare = written.lstrip("-").replace("_", "-").lower()
    close = get_close_matches(bare, names, 1, 0.72)
    if close:
        return names[close[0]]
    parts = set(bare.split("-"))
    held = [name for name in names if parts and parts < set(name.split("-")) and len(parts) > 1]
    return names[min(held, key=len)] if held else ""


def _not_in_release(found: Judged, table: Table, one: Given, hit: Hit) -> None:
    """A flag, or a spelling of it, that other releases have."""
    at = found.at if found.at is not None else 0
    since = table.since(hit.flag.within, hit.span)
    first = table.place(since) if since else None
    if first is not None and at < first:
        found.add(f"launch.too_new.{one.number}.flag", one.flag, one.line)
        found.add(f"launch.too_new.{one.number}.since", since, one.line)
        return
    found.add(f"launch.gone.{one.number}.flag", one.flag, one.line)
    found.add(f"launch.gone.{one.number}.until", table.until(hit.flag.within, hit.span), one.line)
    instead = hit.flag.instead
    if not instead and table.within(hit.flag.within, at):
        instead = hit.flag.flag  # only this spelling is gone
    found.add(f"launch.gone.{one.number}.instead", instead, one.line)


def _value(found: Judged, table: Table, one: Given, hit: Hit) -> None:
    at = found.at if found.at is not None else 0
    kind, takes = table.kind(hit.flag, at)
    if hit.off:
        kind, takes = "flag", "0"
    if takes == "0":
        if one.attached:
            found.add(f"launch.value_refused.{one.number}.flag", one.flag, one.line)
            found.add(f"launch.value_refused.{one.number}.value", one.value, one.line)
        return
    if one.for_shell:
        return
    if one.value is None:
        if takes not in ("?", "*"):
            _no_value(found, one, hit)
        return
    values = one.value.split(" ") if takes not in ("1", "?") else [one.value]
    wrong = next((value for value in values if not fits(kind, value, table.style)), None)
    if wrong is not None:
        found.add(f"launch.bad_type.{one.number}.flag", one.flag, one.line)
        found.add(f"launch.bad_type.{one.number}.value", wrong[:80], one.line)
        found.add(f"launch.bad_type.{one.number}.type", _KINDS.get(kind.rstrip("?"), kind), one.line)
        return
    _choice(found, table, one, hit, values)


def _no_value(found: Judged, one: Given, hit: Hit) -> None:
    """A flag without its value. One that took none in older releases may be right where the release is not known."""
    older = any(kind.startswith(("flag", "switch")) for kind in hit.flag.was)
    if older and "engine.release_assumed" in found.new:
        found.add(f"launch.value_now_needed.{one.number}.flag", one.flag, one.line)
    else:
        found.add(f"launch.no_value.{one.number}.flag", one.flag, one.line)


_KINDS = {"int": "a whole number", "float": "a number", "size": "a whole number (16384, 16k or 16K)"}


def fits(kind: str, value: str, style: str) -> bool:
    """Whether a parser takes a value for a number of this kind."""
    if kind.endswith("?") and value in ("", "None"):
        return True
    bare = kind.rstrip("?")
    text = value.strip()
    if value == "set":  # a secret, of which nothing is known
        return True
    if bare == "int":
        if style == "llama":  # std::stoi reads as far as there are digits
            return re.match(r"[+-]?\d", text) is not None
        return re.fullmatch(r"[+-]?\d+(?:_\d+)*", text) is not None
    if bare == "float":
        return (
            re.fullmatch(
                r"[+-]?(?:\d+(?:_\d+)*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:inf|infinity|nan)", text, re.IGNORECASE
            )
            is not None
        )
    if bare == "size":
        return (
            text.lower() == "auto" or re.fullmatch(r"[+-]?\d+(?:_\d+)*|\d+[KMGT]|\d+(?:\.\d+)?[kmgt]", text) is not None
        )
    return True


def _choice(found: Judged, table: Table, one: Given, hit: Hit, values: list[str]) -> None:
    """A value that the parser does not take, or a name that this release does not know."""
    at = found.at if found.at is not None else 0
    choices = table.choices(hit.flag, at)
    span_of = hit.flag.choices.get
    name = hit.flag.name
    if not choices and name in PARSERS and found.engine == "vllm":
        kind, plugin = PARSERS[name]
        if f"launch.arg.{plugin}" in found.told or values[0].lower() in ("none", "", "set"):
            return
        choices = table.names(kind, at)
        span_of = table.document.names.get(kind, {}).get
    elif not choices and name in VALIDATED and found.engine == "vllm":
        kind = VALIDATED[name]
        choices = table.names(kind, at)
        span_of = table.document.names.get(kind, {}).get
        values = [value.upper() if name == "attention_backend" else value.lower() for value in values]
        values = [value for value in values if value != "AUTO" and value not in PLUGGED.get(name, ())]
    if not choices:
        return
    wrong = next((value for value in values if value not in choices and value not in ("", "None", "set")), None)
    if wrong is None:
        return
    span = span_of(wrong)
    since = table.since(span) if span else ""
    place = table.place(since) if since else None
    younger = place is not None and place > at
    if span and not younger and not table.choices(hit.flag, at):
        # a name that was taken out of the engine: a plugin may bring it back, and the parser itself takes any
        found.add(f"launch.dropped_choice.{one.number}.flag", one.flag, one.line)
        found.add(f"launch.dropped_choice.{one.number}.value", wrong[:80], one.line)
        found.add(f"launch.dropped_choice.{one.number}.until", table.until(span), one.line)
        return
    key = f"launch.bad_choice.{one.number}"
    found.add(f"{key}.flag", one.flag, one.line)
    found.add(f"{key}.name", name, one.line)
    found.add(f"{key}.value", wrong[:80], one.line)
    close = get_close_matches(wrong.lower(), [c.lower() for c in choices], 1, 0.6)
    found.add(f"{key}.nearest", next((c for c in choices if close and c.lower() == close[0]), ""), one.line)
    found.add(f"{key}.choices", ", ".join(choices)[:600], one.line)
    if span:
        found.add(f"{key}.since", since if younger else "", one.line)
        found.add(f"{key}.until", "" if younger else table.until(span), one.line)


def _twice(found: Judged, given: list[Given]) -> None:
    """Flags that are given twice with different values: the last one counts."""
    first: dict[str, Given] = {}
    for one in given:
        if one.key or one.name in APPENDED:
            continue
        before = first.setdefault(one.name, one)
        origins = {found.told[f"launch.given.{one_.number}.flag"].origin for one_ in (before, one)}
        if before is not one and before.value != one.value and len(origins) == 1:
            found.add(f"launch.twice.{one.number}.flag", one.flag, one.line)
            found.add(f"launch.twice.{one.number}.first", before.value or "given", one.line)
            found.add(f"launch.twice.{one.number}.last", one.value or "given", one.line)
