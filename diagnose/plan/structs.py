"""What a plan is made of: the model, what is wished for, and what it comes to on each card."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from msgspec import Struct, field

from diagnose.memory.cache import CacheGroup
from diagnose.memory.estimates import Widths

Value = str | int | float | bool

ENGINES = ("vllm", "sglang", "llama-cpp", "ollama", "transformers")
TUNES = ("full", "lora", "qlora")


class Weights(Struct, frozen=True):
    """The model as facts tell it. Bytes of weights are 0 if unknown; `exact`: they were read from the files' headers.

    `embeddings`: parameters of the embedding and output layer, which quantization leaves. `assumed`: the cache formula
    was taken for an unknown model type.
    `dtype` is the config's, `stored` the one that most bytes of the files are of. `context`: the longest that the model is
    for; 0 if unknown.
    """

    name: str = ""
    path: str = ""
    kind: str = ""
    weights: int = 0
    exact: bool = False
    parameters: int = 0
    embeddings: int = 0
    dtype: str = "bfloat16"
    stored: str = ""
    quantization: str = ""
    groups: tuple[CacheGroup, ...] = ()
    assumed: bool = False
    widths: Widths = Widths()
    context: int = 0


class Wish(Struct, frozen=True):
    """What is wished for. 0 and empty texts mean: choose, or the engine's default.

    `context`: tokens of one sequence with its answer; `concurrency`: sequences at once. `utilization` is vLLM's
    gpu_memory_utilization or SGLang's mem_fraction_static. `quantization`: weights in another precision than the files'
    (fp8, int8, int4, nf4). `tune` makes it a plan for fine-tuning: full, lora or qlora, with the options below it.
    """

    engine: str = "vllm"
    context: int = 0
    concurrency: int = 0
    cache_dtype: str = ""
    quantization: str = ""
    tensor_parallel: int = 0
    pipeline_parallel: int = 0
    utilization: float = 0.0
    batched_tokens: int = 0
    sequences: int = 0
    eager: bool = False
    tune: str = ""
    rank: int = 16
    targets: str = "all-linear"
    batch: int = 1
    accumulation: int = 0
    optimizer: str = "adamw"
    zero: int = -1
    checkpointing: bool = True


class Part(Struct, frozen=True):
    """One part of the memory of a card: its bytes, whether that is exact or an estimate, and how it was reckoned."""

    name: str
    bytes: int
    exact: bool
    how: str = ""


class Load(Struct, frozen=True):
    """One card: its name, its memory as CUDA offers it, how much of that may be used, and what it holds."""

    card: str
    listed: int
    memory: int
    usable: int
    parts: tuple[Part, ...]

    @property
    def needed(self) -> int:
        """The sum of the parts."""
        return sum(part.bytes for part in self.parts)

    @property
    def free(self) -> int:
        """What may be used and is not needed; negative where it does not fit."""
        return self.usable - self.needed


class Change(Struct, frozen=True):
    """A change with which it would fit: in words, and the flags that make it."""

    what: str
    flags: str = ""


class Plan(Struct, frozen=True):
    """The answer. `fits` is None if something needed is unknown: `unknown` says what.

    `largest_context` is for the wished concurrency, `largest_concurrency` for the wished context; 0: none fits, -1:
    without limit by memory. `command` starts the engine or the training as planned.
    """

    model: str
    engine: str
    tune: str
    fits: bool | None
    cards: tuple[Load, ...]
    tensor_parallel: int
    pipeline_parallel: int
    context: int
    concurrency: int
    largest_context: int
    largest_concurrency: int
    command: str
    flags: tuple[str, ...]
    changes: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)


_BYTES = {"float32": 4, "F32": 4, "float16": 2, "F16": 2, "bfloat16": 2, "BF16": 2, "float64": 8, "F8_E4M3": 1, "I8": 1}


def model_of(told: Mapping[str, Value]) -> Weights:
    """The model that facts (values by name) tell of: of a checkpoint's source, or of a case file."""

    def number(name: str) -> int:
        value = told.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1 << 60:
            return 0
        return int(value)

    def text(name: str) -> str:
        value = told.get(name)
        return value if isinstance(value, str) else ""

    hidden, heads, vocab = number("model.hidden_size"), number("model.heads"), number("model.vocab_size")
    widths = Widths(
        hidden=hidden,
        inner=number("model.intermediate_size"),
        heads=heads,
        kv_heads=number("model.kv_heads") or heads,
        head_dim=number("model.head_dim") or (hidden // heads if heads else 0),
        vocab=vocab,
        layers=number("model.layers"),
        experts_per_token=number("model.experts_per_token"),
        expert_inner=number("model.expert_width"),
    )
    dtype = text("model.dtype") or text("weights.dtype") or "bfloat16"
    quantization = "" if text("model.quantization") == "none" else text("model.quantization")
    parameters = (0 if quantization else number("weights.parameters")) or number("model.parameters")
    weights, exact = number("weights.bytes"), True
    if not weights and parameters and not quantization:
        weights, exact = parameters * _BYTES.get(dtype, 2), False
    tied = told.get("model.tied") is True
    return Weights(
        name=text("model.name") or "model",
        path=text("model.path") or text("model.id") or text("model.name"),
        kind=text("model.kind"),
        weights=weights,
        exact=exact and bool(weights),
        parameters=parameters,
        embeddings=hidden * vocab * (1 if tied else 2),
        dtype=dtype,
        stored=text("weights.dtype"),
        quantization=quantization,
        groups=groups_of(told),
        assumed=told.get("model.cache.assumed") is True,
        widths=widths,
        context=number("model.context") or number("model.positions"),
    )


def groups_of(told: Mapping[str, Value]) -> tuple[CacheGroup, ...]:
    """The cache groups that facts tell of; for a GGUF file, whose metadata has no more, those of plain attention."""
    names = sorted({name.split(".")[2] for name in told if name.startswith("model.cache.") and name.count(".") == 3})
    made = [_group(told, name) for name in names]
    if made:
        return tuple(group for group in made if group.layers > 0)
    return _of_gguf(told) if told.get("model.kind") == "gguf" else ()


_PLAIN_GGUF = frozenset(
    """llama qwen2 qwen2moe qwen3 qwen3moe qwen2vl qwen3vl gemma phi2 phi3 starcoder2 granite granitemoe olmo olmo2 olmoe
    internlm2 baichuan stablelm command-r gptneox gpt2 glm4 glm4moe smollm3 nemotron exaone ernie4_5 mistral3 minimax-m2
    seed_oss hunyuan-dense dots1 bailingmoe""".split()  # noqa: SIM905
)
_WINDOWED_GGUF = {"gemma2": 2, "gemma3": 6, "gpt-oss": 2}
"""llama.cpp's architectures whose every nth layer attends to everything, and the others to a window (src/llama-model.cpp)."""


def _of_gguf(told: Mapping[str, Value]) -> tuple[CacheGroup, ...]:
    """The groups of a GGUF file, whose metadata names layers, heads and their size; none for other architectures."""
    architecture = told.get("gguf.architecture")
    layers, heads, size, window = (
        value if isinstance(value := told.get(f"model.{name}"), int) and not isinstance(value, bool) else 0
        for name in ("layers", "kv_heads", "head_dim", "sliding_window")
    )
    if min(layers, heads, size) <= 0:
        return ()
    values = 2 * heads * size
    if architecture in _PLAIN_GGUF and not window:
        return (CacheGroup("full", layers, heads, values),)
    step = _WINDOWED_GGUF.get(str(architecture))
    if step is None or window <= 0:
        return ()
    full = layers // step
    return (CacheGroup("full", full, heads, values), CacheGroup("sliding", layers - full, heads, values, window))


def _group(told: Mapping[str, Value], name: str) -> CacheGroup:
    def number(key: str) -> int:
        value = told.get(f"model.cache.{name}.{key}")
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return 0
        return int(value) if 0 < value < 1 << 62 else 0  # a case file may hold an infinite number

    kind = name.partition("-")[0]
    return CacheGroup(
        kind=kind if kind in ("full", "sliding", "chunked", "mla", "linear", "cross") else "full",  # type: ignore[arg-type]
        layers=number("layers"),
        heads=number("heads"),
        values_per_token=number("values_per_token"),
        window=number("window"),
        expanded_per_token=number("expanded_per_token"),
        index_per_token=number("index_per_token"),
        conv_channels=number("conv_channels"),
        conv_kernel=number("conv_kernel"),
        state_values=number("state_values"),
        state_bytes=number("state_value_bytes"),
        state_float=told.get(f"model.cache.{name}.state_float") is True,
        state_heads=number("state_heads"),
    )


QUANTIZED_BITS: dict[str, Fraction] = {
    "fp8": Fraction(8),
    "int8": Fraction(8),
    "int4": Fraction(4) + Fraction(20, 128),
    "awq": Fraction(4) + Fraction(20, 128),
    "gptq": Fraction(4) + Fraction(20, 128),
    "nf4": Fraction(4) + Fraction(1, 2),
    "mxfp4": Fraction(4) + Fraction(8, 32),
    "q8_0": Fraction(34 * 8, 32),
    "q4_k_m": Fraction(485, 100),
}
"""Bits per weight of a linear layer with its scales: AWQ and GPTQ a 16-bit scale and a 4-bit zero per 128, MXFP4 an 8-bit
scale per 32, bitsandbytes' NF4 a float32 scale per 64; llama.cpp names 4.85 bits for Q4_K_M as a whole."""
