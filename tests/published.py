"""Figures of memory that others have published, and what we make of the same settings.

`python -m tests.published` prints the table that stands in docs/memory.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from diagnose import memory
from diagnose.cards import GIB, MIB, Card, parse
from diagnose.memory.cache import cache_groups
from diagnose.memory.stored import PLAIN, sequence_bytes, token_bytes, value_bytes
from diagnose.plan import Weights, Wish, model_of, serving, training
from tests.test_memory import DEEPSEEK_V3

LLAMA_3_8B: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}
LLAMA_3_70B = {**LLAMA_3_8B, "hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64}
LLAMA_3_70B["num_hidden_layers"] = 80
LLAMA_30B = {
    "model_type": "llama",
    "hidden_size": 6656,
    "intermediate_size": 17920,
    "num_attention_heads": 52,
    "num_hidden_layers": 60,
    "vocab_size": 32000,
}
QWEN2_5_32B = {
    "model_type": "qwen2",
    "hidden_size": 5120,
    "intermediate_size": 27648,
    "num_attention_heads": 40,
    "num_hidden_layers": 64,
    "num_key_value_heads": 8,
    "vocab_size": 152064,
}
QWEN_7B = {
    "model_type": "qwen2",  # Qwen-7B has the same shapes: 151,936 × 4,096, 32 layers, 32 heads, biases on Q, K and V
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "vocab_size": 151936,
    "tie_word_embeddings": False,
}
QWEN3_235B = {
    "model_type": "qwen3_moe",
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "moe_intermediate_size": 1536,
    "num_attention_heads": 64,
    "num_hidden_layers": 94,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "vocab_size": 151936,
    "num_experts": 128,
    "num_experts_per_tok": 8,
}
COMMAND_R = {
    "model_type": "cohere",
    "hidden_size": 8192,
    "intermediate_size": 22528,
    "num_attention_heads": 64,
    "num_hidden_layers": 40,
    "num_key_value_heads": 64,
    "vocab_size": 256000,
}
GPT_OSS_120B = {
    "model_type": "gpt_oss",
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "num_attention_heads": 64,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "vocab_size": 201088,
    "num_local_experts": 128,
    "num_experts_per_tok": 4,
    "sliding_window": 128,
}


class Published(Struct, frozen=True):
    """A figure of somebody's: of what, in which setting, how much in which unit, where it stands, and ours."""

    model: str
    setting: str
    figure: float
    unit: str
    source: str
    ours: Callable[[], float]


def weights(config: dict[str, Any]) -> Weights:
    """A model by its config alone."""
    told: dict[str, Any] = {fact.name: fact.value for fact in memory.facts(config, "config.json")}
    heads = config["num_attention_heads"]
    return model_of(
        told
        | {
            "model.name": config["model_type"],
            "model.hidden_size": config["hidden_size"],
            "model.intermediate_size": config["intermediate_size"],
            "model.heads": heads,
            "model.kv_heads": config.get("num_key_value_heads", heads),
            "model.head_dim": config.get("head_dim", config["hidden_size"] // heads),
            "model.layers": config["num_hidden_layers"],
            "model.vocab_size": config["vocab_size"],
            "model.dtype": "bfloat16",
        }
    )


def cache(config: dict[str, Any], tokens: int, dtype: str) -> Callable[[], float]:
    """The cache of so many tokens in MiB."""
    value = value_bytes(dtype) or Fraction(2)
    return lambda: sequence_bytes(cache_groups(config), tokens, value, PLAIN) / MIB


def _per_token(config: dict[str, Any], shards: int) -> Fraction:
    return sum((token_bytes(group, 2, PLAIN, shards) for group in cache_groups(config)), Fraction(0))


def left(config: dict[str, Any], offered: float, wish: Wish, cards: int = 1) -> Callable[[], float]:
    """What the engine's share leaves for the cache of one card, in GiB."""

    def made() -> float:
        card = Card("card", int(offered * GIB), int(offered * GIB))
        load = serving.loads(weights(config), wish, [card] * cards)[0]
        return (load.usable - sum(part.bytes for part in load.parts if part.name != "KV cache")) / GIB

    return made


def tuned(wish: Wish) -> Callable[[], float]:
    """What tuning Qwen-7B takes on one card, in GB. The 4-bit base of Qwen's table is GPTQ's in groups of 128."""

    def made() -> float:
        model = weights(QWEN_7B)
        if wish.tune == "qlora":
            linear = model.parameters - model.embeddings
            packed = int(linear * (4 + Fraction(20, 128)) / 8) + 2 * model.embeddings
            model = replace(model, quantization="gptq", weights=packed)
        return training.loads(model, wish, parse("A100-80GB"))[0].needed / 1e9

    return made


_VLLM = "https://github.com/vllm-project/vllm"
_QWEN = "https://www.mintlify.com/QwenLM/Qwen/finetuning"
_SERVED = Wish(utilization=0.9, batched_tokens=8192, sequences=256, context=16)


# fmt: off
def rows() -> Iterator[Published]:
    """All figures that we have compared."""
    yield Published("Llama 3 8B", "vLLM, 79.22 GiB card, share 0.9: room for the cache", 53.29, "GiB", f"{_VLLM}/pull/10511", left(LLAMA_3_8B, 79.22, _SERVED))
    yield Published("Llama 3.1 70B", "vLLM, int8 weights: weights loaded", 67.72, "GiB", f"{_VLLM}/pull/12569", lambda: serving.weights_of(weights(LLAMA_3_70B), Wish(quantization="int8"))[0] / GIB)
    yield Published("Llama 3.1 70B", "vLLM, int8 weights, share 0.98: cache of 1,381 blocks of 16", 1381 * 16 * 327680 / GIB, "GiB", f"{_VLLM}/pull/12569", left(LLAMA_3_70B, 79.19, Wish(utilization=0.98, quantization="int8", sequences=1024, batched_tokens=2048, context=16)))
    yield Published("Qwen3 235B A22B", "SGLang, 4 cards: 367,404 tokens on each", 16.46, "GiB", f"{_VLLM}/issues/21348", lambda: float(367404 * _per_token(QWEN3_235B, 4) / GIB))
    yield Published("Qwen3 235B A22B", "SGLang, fp8 weights, 4 H100, share 0.93: room for the cache", 16.46, "GiB", f"{_VLLM}/issues/21348", left(QWEN3_235B, 79.19, Wish(engine="sglang", utilization=0.93, quantization="fp8", context=16), 4))
    yield Published("Qwen3 235B A22B", "vLLM, 4 cards: 178,880 tokens on each", 8.11, "GiB", f"{_VLLM}/issues/21348", lambda: float(178880 * _per_token(QWEN3_235B, 4) / GIB))
    yield Published("gpt-oss 120B", "vLLM: 78,384 tokens, full and sliding layers alike", 5.38, "GiB", "https://github.com/alvarobartt/hf-mem/issues/60", lambda: float(78384 * _per_token(GPT_OSS_120B, 1) / GIB))
    yield Published("Qwen2.5 Coder 32B", "llama.cpp, 32,768 tokens, q8_0 cache", 4352.00, "MiB", "https://github.com/ggml-org/llama.cpp/issues/11200", cache(QWEN2_5_32B, 32768, "q8_0"))
    yield Published("Command R 35B", "llama.cpp, 4,096 tokens, f16 cache", 5120.00, "MiB", "https://github.com/ggml-org/llama.cpp/pull/6122", cache(COMMAND_R, 4096, "f16"))
    yield Published("Llama 30B", "llama.cpp, 512 tokens, f32 cache", 1560.00, "MiB", "https://github.com/abetlen/llama-cpp-python/issues/66", cache(LLAMA_30B, 512, "f32"))
    yield Published("DeepSeek V3", "ik_llama.cpp, 32,768 tokens, q8_0 latent", 1166.62, "MiB", "https://github.com/ikawrakow/ik_llama.cpp/issues/296", cache(DEEPSEEK_V3, 32768, "q8_0"))
    for length, figure in ((256, 20.1), (1024, 21.5), (2048, 23.8), (4096, 29.7), (8192, 36.6)):
        yield Published("Qwen 7B", f"LoRA of rank 64, {length:,} tokens, A100", figure, "GB", f"{_QWEN}/lora", tuned(Wish(tune="lora", context=length, rank=64, zero=0)))
    for length, figure in ((256, 11.5), (1024, 12.3), (2048, 13.9), (4096, 16.9), (8192, 23.5)):
        yield Published("Qwen 7B", f"Q-LoRA of rank 64, {length:,} tokens, A100", figure, "GB", f"{_QWEN}/qlora", tuned(Wish(tune="qlora", context=length, rank=64, zero=0)))


# fmt: on
def off(row: Published) -> float:
    """How far ours is from the published figure, as a part of it."""
    return row.ours() / row.figure - 1


def table() -> str:
    """The rows as Markdown."""
    made = ["| model | setting | published | ours | difference |", "|---|---|---:|---:|---:|"]
    for row in rows():
        figure = f"[{row.figure:,.2f} {row.unit}]({row.source})"
        made.append(
            f"| {row.model} | {row.setting} | {figure} | {row.ours():,.2f} {row.unit} | {100 * off(row):+.1f}% |"
        )
    return "\n".join(made) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table())
