"""The flags and settings that a plan comes to, as each engine and trainer spells them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from diagnose.cards import Card
from diagnose.plan.structs import Weights, Wish


def serving(model: Weights, wish: Wish, cards: Sequence[Card], tensor: int, stages: int) -> tuple[str, ...]:
    """The flags that start the engine as planned, word by word."""
    words = [
        *parallel(wish, tensor, stages),
        *_words(of_length(wish, wish.context)),
        *_words(at_once(wish, wish.concurrency)),
    ]
    if wish.cache_dtype and wish.cache_dtype != "auto":
        words += _words(cache_flag(wish, wish.cache_dtype))
    if wish.quantization and (flag := quantization_flag(wish, wish.quantization)).startswith("--"):
        words += _words(flag)
    if wish.utilization and wish.engine in ("vllm", "sglang"):
        name = "--gpu-memory-utilization" if wish.engine == "vllm" else "--mem-fraction-static"
        words += [name, str(wish.utilization)]
    if wish.batched_tokens:
        names = {"vllm": "--max-num-batched-tokens", "sglang": "--chunked-prefill-size", "llama-cpp": "-ub"}
        words += [names[wish.engine], str(wish.batched_tokens)] if wish.engine in names else []
    if wish.eager and wish.engine == "vllm":
        words.append("--enforce-eager")
    return tuple(words)


def command(model: Weights, wish: Wish, flags: Sequence[str]) -> str:
    """The whole command line. Ollama is told by its environment."""
    words = program(model, wish)
    return " ".join([*flags, *words] if wish.engine == "ollama" else [*words, *flags])


def program(model: Weights, wish: Wish) -> list[str]:
    """The program that serves, with the model, quoted for a shell."""
    path = shlex.quote(model.path or model.name)
    if wish.engine == "llama-cpp" and model.kind not in ("gguf", ""):
        kind = wish.quantization.upper() or {"float32": "F32", "float16": "F16"}.get(model.dtype, "BF16")
        path = shlex.quote(f"{model.name}-{kind}.gguf")
    return {
        "vllm": ["vllm", "serve", path],
        "sglang": ["python", "-m", "sglang.launch_server", "--model-path", path],
        "llama-cpp": ["llama-server", "-m", path, "-ngl", "999"],
        "ollama": ["ollama", "serve"],
        "transformers": ["transformers", "serve", path],
    }[wish.engine]


def _words(text: str) -> list[str]:
    return text.split() if text else []


def parallel(wish: Wish, tensor: int, stages: int) -> list[str]:
    """Flags of parallel sizes other than one."""
    names = {"vllm": ("--tensor-parallel-size", "--pipeline-parallel-size"), "sglang": ("--tp-size", "--pp-size")}
    made: list[str] = []
    for name, size in zip(names.get(wish.engine, ()), (tensor, stages), strict=False):
        made += [name, str(size)] if size > 1 else []
    return made


def of_length(wish: Wish, context: int) -> str:
    """The flag of the longest sequence. llama.cpp's is of all its slots together."""
    slots = max(1, wish.concurrency)
    return {
        "vllm": f"--max-model-len {context}",
        "sglang": f"--context-length {context}",
        "llama-cpp": f"-c {context * slots}",
        "ollama": f"OLLAMA_CONTEXT_LENGTH={context}",
    }.get(wish.engine, "")


def at_once(wish: Wish, count: int) -> str:
    """The flag of how many sequences run at once, where it is more than one."""
    if wish.engine == "vllm":
        return f"--max-num-seqs {count}"
    if count <= 1:
        return ""
    return {
        "sglang": f"--max-running-requests {count}",
        "llama-cpp": f"-np {count}",
        "ollama": f"OLLAMA_NUM_PARALLEL={count}",
    }.get(wish.engine, "")


def small_cache(wish: Wish) -> str:
    """The 8-bit cache of an engine; empty if it has none."""
    return {"vllm": "fp8", "sglang": "fp8_e4m3", "llama-cpp": "q8_0", "ollama": "q8_0"}.get(wish.engine, "")


def cache_flag(wish: Wish, name: str) -> str:
    """The flag of the cache's dtype. llama.cpp keeps values in other than 16 bits only with flash attention."""
    return {
        "vllm": f"--kv-cache-dtype {name}",
        "sglang": f"--kv-cache-dtype {name}",
        "llama-cpp": f"-fa on -ctk {name} -ctv {name}",
        "ollama": f"OLLAMA_FLASH_ATTENTION=1 OLLAMA_KV_CACHE_TYPE={name}",
    }.get(wish.engine, "")


def quantizations(wish: Wish) -> tuple[tuple[str, str], ...]:
    """Precisions of weights to try, the best first, and their names in words."""
    if wish.engine in ("llama-cpp", "ollama"):
        return (("q8_0", "Q8_0"), ("q4_k_m", "Q4_K_M"))
    if wish.engine == "transformers":
        return (("int8", "8 bits (bitsandbytes)"), ("nf4", "4 bits (bitsandbytes)"))
    return (("fp8", "fp8"), ("int4", "4 bits (an AWQ or GPTQ version of the model)"))


def quantization_flag(wish: Wish, name: str) -> str:
    """How an engine is told to quantize weights by itself; a version of the model is needed where it cannot."""
    if name == "fp8" and wish.engine in ("vllm", "sglang"):
        return "--quantization fp8"
    if name in ("q8_0", "q4_k_m"):
        return f"a GGUF file in {name.upper()}"
    if wish.engine == "transformers":
        return f"--quantization bnb-{'8' if name == 'int8' else '4'}bit"
    return ""


def tuning(model: Weights, wish: Wish, cards: Sequence[Card], zero: int) -> tuple[str, ...]:
    """The settings as `name=value`, for a trainer of Hugging Face's kind."""
    return tuple(f"{name}={value}" for name, value in settings(wish, zero).items())


def settings(wish: Wish, zero: int) -> dict[str, str]:
    """TrainingArguments, PEFT and DeepSpeed settings that the plan is reckoned with."""
    names = {"adamw": "adamw_torch", "sgd_momentum": "sgd"}
    made = {
        "per_device_train_batch_size": str(wish.batch),
        "gradient_accumulation_steps": str(wish.accumulation or max(1, 16 // wish.batch)),
        "gradient_checkpointing": str(wish.checkpointing).lower(),
        "optim": names.get(wish.optimizer, wish.optimizer),
        "bf16": "true",
        "max_length": str(wish.context),
    }
    if wish.tune != "full":
        made |= {"lora_r": str(wish.rank), "lora_target_modules": wish.targets}
    if wish.tune == "qlora":
        made |= {"load_in_4bit": "true", "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": "true"}
    if zero:
        made["deepspeed_zero_stage"] = str(zero)
    return made
