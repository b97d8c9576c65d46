"""Facts of a model and of the packages → which releases know its type, and what its quantization needs to be loaded.

Only what the tables in dataset/compat/ hold is told; a loader that is not known needs nothing that we know of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches

from diagnose.derive import compat
from diagnose.model import Fact

OF_VLLM = frozenset(
    """RefinedWeb RefinedWebModel alpamayo2_super bagel bailing_moe_v3_vl chatglm colqwen3 deepseek_v32 deepseek_v41
    deepseek_vl_v2 dory dots3_note eagle flint funaudiochat hy_v4 hyperclovax inkling_mm_model inkling_model isaac
    k3_dspark kimi_k2 kimi_k25 kimi_k3 kimi_linear kimi_vl medusa midashenglm minimax_m3_mtp minimax_m3_vl
    mlp_speculator moondream3 moss_transcribe_diarize muse_spark openvla ops_colqwen3 ovis qwen3_asr
    qwen3_vl_nemotron_embed speculators step3_text step3_vl step3p5 step5 step5_vl ultravbert ultravox unlimited-ocr
    nemotron-nas deci jais mpt arctic""".split()  # noqa: SIM905
)
"""Model types that vLLM reads with a config class of its own, in one release or another (transformers_utils/config.py)."""
LOADERS = ("vllm", "sglang", "transformers")


def complete(facts: Iterable[Fact]) -> tuple[Fact, ...]:
    """What follows from the facts; nothing where no model is among them."""
    known = {fact.name: fact for fact in facts}
    if "model.kind" not in known and "model.type" not in known and "model.quantization" not in known:
        return ()
    told = [*_type(known), *_guessed(known), *_quantization(known)]
    told += _code(known | {fact.name: fact for fact in told})
    return tuple(fact for fact in told if fact.name not in known)


def _type(known: dict[str, Fact]) -> Iterator[Fact]:
    """The releases of transformers that know the model type of config.json."""
    fact = known.get("model.type")
    if fact is None or not isinstance(fact.value, str):
        return
    origin, name = "dataset/compat/model_types.json", fact.value
    rows = compat.model_type_rows()
    row = next((row for row in rows if row["type"] == name), None) or _spelt_anew(rows, name)
    yield Fact("model.type_known", row is not None, origin, fact.line)
    yield Fact("model.type_of_vllm", name in OF_VLLM, origin, fact.line)
    if row is None:
        known_types = [str(one["type"]) for one in rows]
        spelt = {one.lower().replace("-", "_"): one for one in known_types}
        close = get_close_matches(name.lower().replace("-", "_")[:100], list(spelt), 1, 0.75)
        if close:
            yield Fact("model.type_nearest", spelt[close[0]], origin, fact.line)
        return
    yield Fact("model.type_before_5", int(str(row.get("since") or "0").split(".")[0]) < 5, origin, fact.line)
    if row.get("since"):
        yield Fact("model.type_since", row["since"], origin, fact.line)
    if row.get("until"):
        yield Fact("model.type_until", row["until"], origin, fact.line)


def _guessed(known: dict[str, Fact]) -> Iterator[Fact]:
    """Whether transformers before 5 finds the type that config.json leaves out in what the model was asked for by."""
    told, asked, version = (
        known.get(name) for name in ("config.has_model_type", "model.asked", "transformers.version")
    )
    if told is None or told.value is not False:
        return
    old = version is not None and str(version.value).split(".")[0] in ("3", "4")
    name = str(asked.value) if asked is not None else ""
    guessed = old and any(str(row["type"]) in name for row in compat.model_type_rows())
    yield Fact("model.type_guessed", guessed, "dataset/compat/model_types.json", told.line)


def _code(known: dict[str, Fact]) -> Iterator[Fact]:
    """Whether the command leaves the model's own code switched off, where the model cannot be loaded without."""
    needed = {"model.remote_code": True, "model.type_known": False, "model.type_of_vllm": False}
    if any(name not in known or known[name].value is not value for name, value in needed.items()):
        return
    engine = known.get("engine.name")
    if engine is None or engine.value not in ("vllm", "sglang") or "launch.program" not in known:
        return
    allowed = known.get("launch.trust_remote_code")
    line = known["model.remote_code"].line
    yield Fact(
        "model.code_allowed", allowed is not None and allowed.value is True, "dataset/compat/model_types.json", line
    )


def _spelt_anew(rows: Sequence[compat.Row], name: str) -> compat.Row | None:
    """The row of a type that was only spelt in another way, as lfm2-vl for lfm2_vl: which release reads which is not told."""
    plain = name.lower().replace("-", "_")
    row = next((row for row in rows if row["type"].lower().replace("-", "_") == plain), None)
    return {"type": row["type"]} if row is not None else None


def _quantization(known: dict[str, Fact]) -> Iterator[Fact]:
    """What loads the model, and the package that this needs for the method."""
    method, source = known.get("model.quantization"), known.get("quantization.source")
    if method is None or method.value == "none" or (source is not None and source.value != "config.json"):
        return  # transformers reads no file beside config.json
    loader = loader_of(known)
    if not loader:
        return
    origin = "dataset/compat/quantizers.json"
    yield Fact("quantization.loader", loader, origin, method.line)
    if loader == "transformers" and "transformers.version" in known:
        libraries = compat.quantizer_libraries(str(method.value), str(known["transformers.version"].value))
        if libraries:
            yield Fact("quantization.library", " or ".join(libraries), origin, method.line)
            if "packages.count" in known:
                there = any(f"{name}.version" in known for name in libraries)
                yield Fact("quantization.library_installed", there, origin, method.line)


def loader_of(known: dict[str, Fact]) -> str:
    """The engine of the launch command, else what `--for` names, else the engine that is installed, else transformers."""
    asked: Sequence[str] = [str(known[name].value) for name in ("engine.name", "wanted.name") if name in known]
    for name in asked:
        if name in LOADERS:
            return name
    if asked and asked[0] in ("llama.cpp", "ollama", "tgi"):
        return ""
    return next((name for name in LOADERS if f"{name}.version" in known), "")
