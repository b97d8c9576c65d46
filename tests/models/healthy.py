"""Launches in which nothing is wrong: with the healthy folders, no rule may call them an error or warn of them."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from tests.models.machines import A100_X4, H100, H100_X8, RTX4090, RTX4090_X2, T4, Value

VLLM = {"vllm.version": "0.15.0"}


class Launch(Struct, frozen=True):
    """A command or the text of a manifest, on a machine."""

    name: str
    command: str = ""
    manifest: str = ""
    facts: Mapping[str, Value] = {}


LAUNCHES: tuple[Launch, ...] = (
    Launch("vllm", "vllm serve ./qwen2", facts={**H100, **VLLM}),
    Launch("vllm, many flags", "VLLM_LOGGING_LEVEL=DEBUG vllm serve ./qwen3 --tensor-parallel-size 2 --max-model-len 16384 --gpu-memory-utilization 0.85 --max-num-seqs 64 --port 8001 --api-key secret --served-model-name small", facts={**A100_X4, **VLLM}),
    Launch("vllm, tools and reasoning", "vllm serve ./qwen3 --enable-auto-tool-choice --tool-call-parser hermes --reasoning-parser qwen3", facts={**H100, **VLLM}),
    Launch("vllm, an adapter", "vllm serve ./qwen2 --enable-lora --lora-modules sql=./qwen2-lora --max-lora-rank 16", facts={**H100, **VLLM}),
    Launch("vllm, half precision on an old card", "vllm serve ./llama2-chat --dtype half", facts={**T4, **VLLM}),
    Launch("vllm, a short flag and a line that goes on", "vllm serve ./llama \\\n  -tp 2 \\\n  --max-model-len 32768", facts={**RTX4090_X2, **VLLM}),
    Launch("vllm, as a module", "python3 -m vllm.entrypoints.openai.api_server --model ./mistral --max-model-len 8192", facts={**H100, **VLLM}),
    Launch("vllm, quantized", "vllm serve ./fp8", facts={**RTX4090, **VLLM}),
    Launch("vllm, mixture of experts", "vllm serve ./qwen3-moe --enable-expert-parallel --tensor-parallel-size 2", facts={**H100_X8, **VLLM}),
    Launch("vllm, a level of optimization", "vllm serve ./qwen2 -O3", facts={**H100, **VLLM}),
    Launch("sglang", "python3 -m sglang.launch_server --model-path ./qwen3 --tp 2 --context-length 16384 --mem-fraction-static 0.85 --port 30000", facts=H100_X8),
    Launch("llama-server", "llama-server -m ./gguf/tiny-q8.gguf -c 4096 -ngl 99 --port 8080 --jinja", facts=RTX4090),
    Launch("llama-server, in parts", "llama-server --model ./gguf/tiny-split-00001-of-00002.gguf --ctx-size 8192", facts={}),
    Launch("tgi", "text-generation-launcher --model-id ./qwen2 --max-input-tokens 2048 --max-total-tokens 4096 --port 8080", facts=H100),
    Launch("transformers serve", "transformers serve ./qwen3 --port 8001", facts={}),
    Launch("docker", "docker run --rm --gpus all --ipc=host -p 8000:8000 -v $PWD:/models vllm/vllm-openai:v0.15.0 --model /models/qwen2 --max-model-len 8192", facts=H100),
    Launch("torchrun", "torchrun --nproc-per-node 4 train.py --epochs 3", facts=A100_X4),
    Launch("accelerate", "accelerate launch --num_processes 4 --mixed_precision bf16 train.py", facts=A100_X4),
    Launch("deepspeed", "deepspeed --num_gpus 4 train.py --deepspeed ds.json", facts=A100_X4),
)  # fmt: skip
