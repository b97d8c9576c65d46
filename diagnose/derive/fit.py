"""Model, launch command and machine taken together → facts that follow by arithmetic: GPUs, heads, context, number types, ports.

Nothing is judged here. What is not known is not told: a manifest for a cluster says nothing of this machine's GPUs, and a
command for a container nothing of the packages beside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from diagnose.derive import parallel, reach
from diagnose.derive.known import ORIGIN, Known, Told, by_name
from diagnose.model import Fact

_FLOAT16_REFUSED = ("gemma2", "gemma3", "gemma3_text", "glm4")
"""Model types that vLLM refuses to compute in float16 (0.33: config/model.py, _FLOAT16_NOT_SUPPORTED_MODELS)."""


def complete(facts: Sequence[Fact]) -> tuple[Fact, ...]:
    """The facts that follow from `facts`; none that is among them already."""
    known = Known(by_name(facts))
    for tell in (_gpus, _parallel, _context, _dtype, _quantization, _draft, _processes, reach.complete, _memory):
        for name, value in tell(known):
            known.add(name, value)
    return tuple(known.new.values())


# --- how many GPUs


def _gpus(known: Known) -> Told:
    """How many GPUs the engine wants here, and how many it will see."""
    wanted = _wanted(known)
    if wanted is not None:
        yield "fit.gpus_wanted", wanted
    beyond = _beyond(known)
    if beyond is not None:
        yield "fit.visible_beyond_container", beyond
    there = _there(known)
    if there is None:
        return
    count, source = there
    yield "fit.gpus_there", count
    yield "fit.gpus_there_by", source
    if wanted is not None:
        yield "fit.gpus_short", wanted > count
    processes = known.whole("deploy.processes")
    if processes is not None:
        yield "fit.processes_over", processes > count


def _wanted(known: Known) -> int | None:
    """Tensor times pipeline times data parallel, on this machine; None where other machines take part in a way not told."""
    engine = known.engine
    sizes = [known.whole(f"launch.{name}_parallel") for name in ("tensor", "pipeline", "data")]
    if engine not in parallel.SPLITTING or not known.text("launch.program") or known.unsure(*_SIZES):
        return None
    if engine == "tgi":
        return sizes[0]  # without --num-shard it takes what it sees
    tensor, pipeline, data = (1 if size is None or size < 1 else min(size, 1 << 16) for size in sizes)
    nodes = known.whole("launch.arg.nnodes") or 1
    if engine == "vllm":
        by_hand = any(
            name.startswith("launch.arg.data_parallel_") and name != "launch.arg.data_parallel_size"
            for name in known.names()
        )
        if (
            nodes > 1
            or by_hand
            or known.text("launch.arg.distributed_executor_backend") in ("ray", "external_launcher")
        ):
            return None
        if (known.whole("deploy.nodes") or 1) > 1:
            return None
        return tensor * pipeline * data
    if (known.whole("deploy.nodes") or 1) > 1 and known.whole("launch.arg.nnodes") is None:
        return None
    total = tensor * pipeline * (1 if known.yes("launch.arg.enable_dp_attention") else data)
    return -(-total // nodes) if nodes > 0 else None


_SIZES = (
    "tensor_parallel_size", "tp_size", "num_shard", "pipeline_parallel_size", "pp_size", "data_parallel_size", "dp_size", "nnodes",
    "distributed_executor_backend", "enable_dp_attention",
)  # fmt: skip
"""Flags that decide how many GPUs are wanted."""


def _there(known: Known) -> tuple[int, str] | None:
    """The fewest GPUs that something lets the engine see, and what that is."""
    found: list[tuple[int, str]] = []
    given = known.whole("deploy.gpus")
    if given is not None:
        found.append((given, "the container is given" if known.contained else "the launcher's configuration names"))
    visible = _visible(known)
    if visible is not None:
        found.append((visible, "CUDA_VISIBLE_DEVICES leaves"))
    if not known.elsewhere and known.text("gpu.vendor") in ("", "nvidia", "amd"):
        name = "gpu.count" if known.contained or visible is not None else "gpu.visible_count"
        count = known.whole(name)
        count = known.whole("gpu.count") if count is None else count
        if count is not None:
            found.append((count, "this machine has"))
    return min(found, key=lambda item: item[0]) if found else None


def _visible(known: Known) -> int | None:
    """How many GPUs the command's own CUDA_VISIBLE_DEVICES names; CUDA stops at the first entry that is none."""
    value = known.value("launch.env.CUDA_VISIBLE_DEVICES")
    if not isinstance(value, str):
        return None if value is None else 1
    inside = known.whole("deploy.gpus") if known.contained else None
    count = 0
    for entry in value.split(","):
        if not re.fullmatch(r"\d{1,4}|(?:GPU|MIG)-[\w/-]+", entry.strip()):
            break
        if inside is not None and entry.strip().isdigit() and int(entry) >= inside:
            break
        count += 1
    return count


def _beyond(known: Known) -> int | None:
    """The first index in CUDA_VISIBLE_DEVICES that a container does not have: inside, its GPUs count from 0."""
    inside, value = known.whole("deploy.gpus"), known.value("launch.env.CUDA_VISIBLE_DEVICES")
    if not known.contained or not inside or not isinstance(value, str):
        return None
    indices = [int(entry) for entry in re.findall(r"(?:^|,)\s*(\d{1,4})\s*(?=,|$)", value)]
    return next((index for index in indices if index >= inside), None)


# --- tensor and pipeline parallel


def _parallel(known: Known) -> Told:
    """Which tensor parallel sizes are possible, and what stands in the way of the one asked for."""
    engine = known.engine
    heads = known.whole("model.heads")
    if engine not in parallel.SPLITTING or not heads or heads < 1 or heads > 1 << 20:
        return
    shape = _shape(known, heads)
    whole_experts = _whole_experts(known)
    sizes = parallel.possible(shape, engine, whole_experts=whole_experts)
    yield "fit.tensor_parallel_possible", ", ".join(map(str, sizes))
    asked = known.whole("launch.tensor_parallel")
    if asked is not None and 1 <= asked <= 1 << 16:
        yield "fit.tensor_parallel", asked
        across = asked
        if engine == "sglang" and known.yes("launch.arg.enable_dp_attention"):
            across = max(asked // max(known.whole("launch.data_parallel") or 1, 1), 1)
        found = parallel.fault(shape, asked, engine, attention_size=across, whole_experts=whole_experts)
        yield "fit.tensor_parallel_fault", found or "none"
        yield from _in_the_way(shape, asked, across, found)
        limit = min(asked, known.whole("fit.gpus_there") or asked)
        yield "fit.tensor_parallel_best", max(size for size in sizes if size <= max(limit, 1))
    layers, stages = known.whole("model.layers"), known.whole("launch.pipeline_parallel")
    if layers and stages and engine in ("vllm", "sglang"):
        yield "fit.pipeline_over", stages > layers


def _in_the_way(shape: parallel.Shape, size: int, across: int, found: str) -> Told:
    """The number that does not come out even."""
    number = {
        "heads": shape.heads,
        "kv-heads": shape.kv_heads,
        "intermediate": shape.intermediate,
        "experts": shape.expert,
    }.get(found)
    if number:
        yield "fit.tensor_parallel_number", number
    if found in ("group", "block"):
        lengths = ((shape.intermediate, size), (shape.expert, size), (shape.heads * shape.head_dim, across))
        unit = shape.group if found == "group" else shape.block
        part = next((length // parts for length, parts in lengths if length and unit and (length // parts) % unit), 0)
        if part:
            yield "fit.tensor_parallel_number", part
        yield "fit.tensor_parallel_unit", unit


def _shape(known: Known, heads: int) -> parallel.Shape:
    dense = (known.whole("model.experts") or 0) <= 1
    quantization = known.text("model.quantization")
    hidden = known.whole("model.hidden_size") or 0
    return parallel.Shape(
        heads=heads,
        kv_heads=known.whole("model.kv_heads") or 0,
        head_dim=known.whole("model.head_dim") or (hidden // heads if hidden % heads == 0 else 0),
        intermediate=(known.whole("model.intermediate_size") or 0)
        if dense and known.text("model.attention") != "hybrid"
        else 0,
        expert=0 if dense else known.whole("model.expert_width") or 0,
        attention=known.text("model.attention"),
        group=parallel.grouped(quantization, known.whole("model.quantization_group") or 0),
        block=(known.whole("model.quantization_block") or 0) if quantization in ("fp8", "compressed-tensors") else 0,
    )


def _whole_experts(known: Known) -> bool:
    """Whether experts are shared out whole. With SGLang that is so only where as many groups as GPUs are asked for."""
    if known.engine == "sglang":
        size = known.whole("launch.arg.ep_size") or known.whole("launch.arg.expert_parallel_size") or 1
        return size > 1
    return known.yes("launch.expert_parallel") or known.yes("launch.arg.enable_expert_parallel")


# --- context


_LIFTS: Mapping[str, str] = {
    "vllm": "VLLM_ALLOW_LONG_MAX_MODEL_LEN",
    "sglang": "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN",
}
"""The variable with which an engine only warns of a context beyond the model's."""
_OVERRIDES = (
    "hf_overrides",
    "rope_scaling",
    "json_model_override_args",
    "rope_scale",
    "rope_freq_scale",
    "yarn_orig_ctx",
    "override_kv",
)


def _context(known: Known) -> Told:
    """The context asked for against what the model was made for; nothing where the command changes the model's positions."""
    asked, limit = known.whole("launch.context"), known.whole("model.context")
    if (
        not asked
        or asked < 1
        or not limit
        or limit < 1
        or any(f"launch.arg.{name}" in known.names() for name in _OVERRIDES)
    ):
        return
    engine = known.engine
    yield "fit.context_asked", asked
    yield "fit.context_over", asked > limit
    lift = _LIFTS.get(engine, "")
    if asked > limit and lift:
        value = known.text(f"launch.env.{lift}") or ("" if known.contained else known.text(f"env.{lift}"))
        yield "fit.context_over_allowed", value.lower() in ("1", "true", "yes", "y")
    window = known.whole("model.sliding_window")
    if window and known.yes("launch.arg.disable_sliding_window") and engine == "vllm":
        yield "fit.context_over_window", asked > window


# --- number types


def _capability(known: Known) -> tuple[int, int] | None:
    """The best compute capability of this machine's GPUs, where the engine runs on them."""
    found = re.fullmatch(r"(\d{1,2})\.(\d)", known.text("gpus.capability_best"))
    return (int(found[1]), int(found[2])) if found and not known.elsewhere else None


def _dtype(known: Known) -> Told:
    """The type that is computed in: as asked, else the model's; and where vLLM refuses it or takes another."""
    engine = known.engine
    if engine not in ("vllm", "sglang") or known.unsure("dtype"):
        return
    asked = known.text("launch.dtype")
    asked = {"half": "float16", "float": "float32", "bf16": "bfloat16", "fp16": "float16"}.get(asked, asked)
    own, type_, best = known.text("model.dtype").removeprefix("torch."), known.text("model.type"), _capability(known)
    dtype = _left_to_engine(engine, own, type_, best) if asked in ("", "auto") else asked
    if dtype in ("bfloat16", "float16", "float32"):
        yield "fit.dtype", dtype
    if engine == "vllm" and type_:
        yield "fit.float16_refused", asked == "float16" and type_ in _FLOAT16_REFUSED
    if best is None or dtype != "bfloat16":
        return
    lacks = best < (8, 0)
    yield "fit.bfloat16_lacks", lacks
    if engine == "vllm" and lacks and asked in ("", "auto"):
        yield "fit.dtype_instead", "float32" if type_ in _FLOAT16_REFUSED else "float16"


def _left_to_engine(engine: str, own: str, type_: str, best: tuple[int, int] | None) -> str:
    """What an engine takes for `auto`: the model's type, but weights in float32 are computed in 16 bits; empty if unknown."""
    if own != "float32":
        return own
    if engine == "sglang":
        return "bfloat16" if type_.startswith("gemma") else "float16"
    return "" if best is None else "bfloat16" if best >= (8, 0) else "float16"


def _quantization(known: Known) -> Told:
    """What the model's own quantization asks of the GPU, as the table of vLLM tells for its version."""
    method = known.text("model.quantization")
    version = known.text("launch.engine_version") if known.contained else known.text("vllm.version")
    if known.engine != "vllm" or not method or not version or known.text("launch.quantization"):
        return
    from diagnose.derive import compat

    asked = (Fact("vllm.version", version, ORIGIN), Fact("launch.arg.quantization", method, ORIGIN))
    told = {fact.name: fact.value for fact in compat.complete(asked)}
    least = told.get("vllm.quantization_capability_min")
    if least is None:
        return
    yield "fit.quantization_capability_min", str(least)
    best = _capability(known)
    if best is not None:
        yield "fit.quantization_refused", best < tuple(int(part) for part in str(least).split("."))


_NO_PLAIN_DRAFT = re.compile(r"eagle|dflash|dspark|medusa|mlp[_-]?speculator|mtp|speculator", re.IGNORECASE)


def _draft(known: Known) -> Told:
    """The vocabulary of a draft model against the model's, where vLLM takes it for a model of its own (`draft_model`)."""
    method, architecture = known.text("launch.speculative_method"), known.text("draft.architecture")
    own, drafts = known.whole("model.vocab_size"), known.whole("draft.vocab_size")
    if known.engine != "vllm" or method not in ("", "draft_model") or not own or not drafts:
        return
    told = f"{known.text('draft.asked')} {architecture} {known.text('draft.type')} {known.text('draft.method')}"
    if architecture.endswith(("ForCausalLM", "ForConditionalGeneration")) and not _NO_PLAIN_DRAFT.search(told):
        yield "fit.draft_vocabulary_differs", own != drafts


# --- launchers of training


def _processes(known: Known) -> Told:
    """What torchrun and its like start, against what is there."""
    count = known.whole("fit.gpus_there")
    highest = known.whole("deploy.gpu_highest")
    all_here = known.whole("gpu.count")
    if highest is not None and all_here is not None:
        yield "fit.gpu_index_over", highest >= all_here
    if known.yes("deploy.processes_default") and count is not None:
        yield "fit.gpus_idle", count > 1
    nodes, meeting = known.whole("deploy.nodes"), known.text("deploy.rendezvous")
    if nodes is not None and known.text("deploy.launcher") == "torchrun" and meeting:
        yield "fit.no_meeting_place", nodes > 1 and meeting == "none"


# --- main memory


def _memory(known: Known) -> Told:
    """Weights kept in main memory (cpu_offload_gb, for each GPU) against what this machine has."""
    share = known.text("launch.arg.cpu_offload_gb")
    if known.engine == "vllm" and re.fullmatch(r"\d{1,6}(?:\.\d{1,6})?", share) and float(share) > 0:
        wanted = int(float(share) * (1 << 30)) * min(known.whole("launch.tensor_parallel") or 1, 1 << 12)
        yield "fit.offload_bytes", wanted
        limits = [known.whole("deploy.memory"), None if known.elsewhere else known.whole("memory.usable")]
        there = [limit for limit in limits if limit]
        if there:
            yield "fit.offload_over", wanted > min(there)
