"""Faults of launch commands, of manifests, and of what does not fit: model, command and machine together."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path

from tests.models.edits import change, config, write
from tests.models.faults.fault import Fault
from tests.models.machines import A100_X4, H100, H100_X8, RTX4090, RTX4090_X2, T4, Value

VLLM = {"vllm.version": "0.15.0"}


def _large(
    layers: int = 80, width: int = 8192, feed: int = 28672, heads: int = 64, kv: int = 8, words: int = 320
) -> object:
    """Config and headers of a large llama over the small one: the file is as long as the real one and holds nothing."""

    def edit(folder: Path) -> None:
        config(
            hidden_size=width,
            num_hidden_layers=layers,
            intermediate_size=feed,
            num_attention_heads=heads,
            num_key_value_heads=kv,
            head_dim=128,
            vocab_size=words,
        )(folder)
        for file in folder.glob("model*"):
            file.unlink()
        tensors: dict[str, list[int]] = {
            "model.embed_tokens.weight": [words, width],
            "lm_head.weight": [words, width],
            "model.norm.weight": [width],
        }
        for layer in range(layers):
            start = f"model.layers.{layer}"
            tensors |= {
                f"{start}.self_attn.q_proj.weight": [heads * 128, width],
                f"{start}.self_attn.k_proj.weight": [kv * 128, width],
                f"{start}.self_attn.v_proj.weight": [kv * 128, width],
                f"{start}.self_attn.o_proj.weight": [width, heads * 128],
                f"{start}.mlp.gate_proj.weight": [feed, width],
                f"{start}.mlp.up_proj.weight": [feed, width],
                f"{start}.mlp.down_proj.weight": [width, feed],
                f"{start}.input_layernorm.weight": [width],
                f"{start}.post_attention_layernorm.weight": [width],
            }
        header, place = {}, 0
        for name, shape in tensors.items():
            size = 2
            for dimension in shape:
                size *= dimension
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [place, place + size]}
            place += size
        text = json.dumps(header).encode()
        path = folder / "model.safetensors"
        path.write_bytes(struct.pack("<Q", len(text)) + text)
        os.truncate(path, 8 + len(text) + place)

    return edit


BIG = (_large(),)
EIGHT = (_large(layers=32, width=4096, feed=14336, heads=32, kv=8),)


def _launch(name: str, model: str, command: str, rule: str = "", **more: object) -> Fault:
    return Fault(name, model, rule, command=command, **more)  # type: ignore[arg-type]


def _compose(text: str) -> tuple[object, ...]:
    return (lambda folder: write("compose.yaml", text)(folder.parent),)


COMPOSE = """\
services:
  llm:
    image: vllm/vllm-openai:v0.15.0
    command: ["--model", "/models/qwen2", "--tensor-parallel-size", "2", "--port", "8000"]
    ports: ["8000:8000"]
    ipc: host
    volumes: ["./:/models"]
    deploy:
      resources:
        reservations:
          devices:
            - {driver: nvidia, count: 2, capabilities: [gpu]}
"""
POD = """\
apiVersion: v1
kind: Pod
metadata: {name: llm}
spec:
  containers:
    - name: vllm
      image: vllm/vllm-openai:v0.15.0
      args: ["--model", "/models/qwen2", "--tensor-parallel-size", "2", "--port", "8000"]
      ports: [{containerPort: 8000}]
      resources:
        limits: {nvidia.com/gpu: 2, memory: 64Gi}
      startupProbe:
        httpGet: {path: /health, port: 8000}
        periodSeconds: 10
        failureThreshold: 120
      volumeMounts:
        - {name: models, mountPath: /models}
        - {name: shm, mountPath: /dev/shm}
  volumes:
    - {name: models, persistentVolumeClaim: {claimName: models}}
    - {name: shm, emptyDir: {medium: Memory, sizeLimit: 8Gi}}
"""
DOCKER = "docker run --gpus all --ipc=host -p 8000:8000 -v $PWD:/models vllm/vllm-openai:v0.15.0 --model /models/qwen2"


def _manifest(
    name: str, kind: str, old: str, new: str, rule: str = "", facts: Mapping[str, Value] | None = None
) -> Fault:
    whole, file = (COMPOSE, "compose.yaml") if kind == "compose" else (POD, "pod.yaml")
    assert old in whole, old
    text = whole.replace(old, new)
    edit = lambda folder: write(file, text)(folder.parent)  # noqa: E731
    return Fault(name, "qwen2", rule, (edit,), files=(file,), facts=facts or {})  # type: ignore[arg-type]


FAULTS: tuple[Fault, ...] = (
    # flags
    _launch("flag-is-misspelt", "qwen2", "vllm serve ./qwen2 --max-model-length 4096", rule="flag-unknown-to-engine", facts=VLLM),
    _launch("flag-of-another-engine", "qwen2", "vllm serve ./qwen2 --ctx-size 4096", rule="flag-of-another-engine", facts=VLLM),
    _launch("flag-that-is-gone", "qwen2", "vllm serve ./qwen2 --use-v2-block-manager", rule="flag-gone-from-engine", facts=VLLM),
    _launch("flag-that-is-too-new", "qwen2", "vllm serve ./qwen2 --kv-cache-memory-bytes 8G", rule="flag-newer-than-engine", facts={"vllm.version": "0.8.5"}),
    _launch("number-is-a-text", "qwen2", "vllm serve ./qwen2 --max-num-seqs many", rule="flag-value-of-wrong-type", facts=VLLM),
    _launch("dtype-of-the-command-is-unknown", "qwen2", "vllm serve ./qwen2 --dtype fp16", rule="flag-value-not-a-choice", facts=VLLM),
    _launch("share-of-memory-in-percent", "qwen2", "vllm serve ./qwen2 --gpu-memory-utilization 90", rule="memory-share-out-of-range", facts=VLLM),
    _launch("flag-with-a-long-dash", "qwen2", "vllm serve ./qwen2 –tensor-parallel-size 2", rule="typographic-dash-in-command", facts=VLLM),
    _launch("line-without-its-backslash", "qwen2", "vllm serve ./qwen2 \\\n  --port 8000\n  --max-model-len 4096", rule="line-without-backslash", facts=VLLM),
    _launch("blank-behind-the-backslash", "qwen2", "vllm serve ./qwen2 \\ \n  --max-model-len 4096", rule="blank-after-backslash", facts=VLLM),
    _launch("json-without-its-quotes", "qwen2", "vllm serve ./qwen2 --hf-overrides {max_position_embeddings:65536}", rule="json-lost-its-quotes", facts=VLLM),
    _launch("tool-choice-without-a-parser", "qwen2", "vllm serve ./qwen2 --enable-auto-tool-choice", rule="tool-choice-without-parser", facts=VLLM),
    _launch("tool-parser-is-unknown", "qwen2", "vllm serve ./qwen2 --enable-auto-tool-choice --tool-call-parser qwen2", rule="parser-unknown-to-engine", facts=VLLM),
    _launch("tool-parser-of-another-family", "qwen3", "vllm serve ./qwen3 --enable-auto-tool-choice --tool-call-parser llama3_json", rule="tool-parser-of-another-format", facts=VLLM),
    _launch("reasoning-parser-is-unknown", "qwen3", "vllm serve ./qwen3 --reasoning-parser qwen_3", rule="parser-unknown-to-engine", facts=VLLM),
    _launch("variable-is-misspelt", "qwen2", "VLLM_LOGING_LEVEL=DEBUG vllm serve ./qwen2", rule="engine-variable-misspelt", facts=VLLM),
    _launch("variable-that-is-gone", "qwen2", "VLLM_ATTENTION_BACKEND=FLASHINFER vllm serve ./qwen2", rule="engine-variable-no-longer-read", facts=VLLM),
    _launch("model-path-does-not-exist", "qwen2", "vllm serve ./qwen2-7b", rule="model-path-not-there", facts=VLLM),
    _launch("safetensors-given-to-llama-server", "llama", "llama-server -m ./llama/model-00001-of-00003.safetensors", rule="llama-cpp-given-no-gguf", facts={}, real="llama-server", follows="expected 'GGUF'"),
    _launch("llama-server-given-a-folder", "llama", "llama-server -m ./llama", rule="llama-cpp-given-no-gguf", facts={}, real="llama-server", follows="failed to read magic"),
    _launch("llama-server-flag-is-misspelt", "gguf", "llama-server -m ./gguf/tiny-q8.gguf --context-size 4096", rule="flag-unknown-to-engine", facts={}, real="llama-server", follows="invalid argument: --context-size"),
    _launch("llama-server-number-is-a-text", "gguf", "llama-server -m ./gguf/tiny-q8.gguf -c 4k", rule="llama-number-cut-at-letter", facts={}),
    _launch("llama-server-cache-type-is-unknown", "gguf", "llama-server -m ./gguf/tiny-q8.gguf --cache-type-k int8", rule="llama-cache-type-not-known", facts={}, real="llama-server", follows="Unsupported cache type: int8"),
    _launch("llama-server-file-is-missing", "gguf", "llama-server -m ./gguf/tiny-q4.gguf", rule="model-path-not-there", facts={}, real="llama-server", follows="failed to open GGUF file"),
    _launch("llama-server-value-cache-without-flash-attention", "gguf", "llama-server -m ./gguf/tiny-q8.gguf --cache-type-v q4_0 -fa off", rule="llama-quantized-values-without-flash-attention", facts={}, real="llama-server", follows="quantized V cache requires flash_attn"),
    _launch("llama-server-adapter-is-a-model", "gguf", "llama-server -m ./gguf/tiny-q8.gguf --lora ./gguf/tiny-spm.gguf", rule="gguf-adapter-is-none", facts={}, real="llama-server", follows="expect general.type to be 'adapter'"),
    _launch("llama-server-template-file-is-missing", "gguf", "llama-server -m ./gguf/tiny-q8.gguf --chat-template-file none.jinja", rule="file-of-flag-missing", facts={}, real="llama-server", follows="failed to open file 'none.jinja'"),
    _launch("sglang-flag-is-misspelt", "qwen2", "python -m sglang.launch_server --model-path ./qwen2 --context-size 4096", rule="flag-unknown-to-engine", facts={}),
    _launch("sglang-tensor-parallel-is-odd", "llama2-chat", "python -m sglang.launch_server --model-path ./llama2-chat --tp 3", rule="heads-do-not-divide", facts=H100_X8),
    _launch("tgi-total-below-input", "qwen2", "text-generation-launcher --model-id ./qwen2 --max-input-tokens 4096 --max-total-tokens 4096", rule="tgi-total-tokens-not-above-input", facts={}),
    _launch("transformers-serve-flag-is-misspelt", "qwen2", "transformers serve ./qwen2 --ports 8001", rule="flag-unknown-to-engine", facts={}, real="transformers serve", follows="No such option '--ports'"),
    _launch("ollama-file-names-no-model", "gguf", "ollama create tiny -f Modelfile", rule="model-path-not-there", facts={}, edits=(lambda folder: write("Modelfile", "FROM ./gguf/tiny-q5.gguf\nPARAMETER temperature 0.7\n")(folder.parent),)),
    _launch("ollama-file-without-from", "gguf", "ollama create tiny -f Modelfile", rule="modelfile-without-model", facts={}, edits=(lambda folder: write("Modelfile", "PARAMETER temperature 0.7\n")(folder.parent),)),
    # model and command
    _launch("heads-do-not-divide-by-three", "llama2-chat", "vllm serve ./llama2-chat --tensor-parallel-size 3", rule="heads-do-not-divide", facts={**H100_X8, **VLLM}),
    _launch("more-parts-than-heads", "llama", "vllm serve ./llama -tp 8", rule="heads-do-not-divide", facts={**H100_X8, **VLLM}),
    _launch("more-gpus-than-there-are", "llama", "vllm serve ./llama --tensor-parallel-size 4", rule="more-gpus-wanted-than-there", facts={**RTX4090_X2, **VLLM}),
    _launch("gpus-hidden-by-a-variable", "llama", "CUDA_VISIBLE_DEVICES=0 vllm serve ./llama --tensor-parallel-size 2", rule="more-gpus-wanted-than-there", facts={**RTX4090_X2, **VLLM}),
    _launch("more-stages-than-layers", "llama", "vllm serve ./llama --pipeline-parallel-size 4", rule="more-stages-than-layers", facts={**A100_X4, **VLLM}),
    _launch("context-beyond-the-model", "qwen2", "vllm serve ./qwen2 --max-model-len 131072", rule="context-asked-beyond-model", facts={**H100, **VLLM}),
    _launch("quantization-of-another-kind", "gptq", "vllm serve ./gptq --quantization awq", rule="quantization-asked-is-not-the-checkpoints", facts={**H100, **VLLM}),
    _launch("quantization-without-a-quantized-model", "qwen2", "vllm serve ./qwen2 --quantization gptq", rule="quantization-asked-of-plain-checkpoint", facts={**H100, **VLLM}),
    _launch("bfloat16-on-a-t4", "qwen2", "vllm serve ./qwen2 --dtype bfloat16", rule="bfloat16-asked-of-gpu-without-it", facts={**T4, **VLLM}),
    _launch("float16-for-gemma", "gemma3", "vllm serve ./gemma3 --dtype float16", rule="float16-asked-for-model-that-overflows", facts={**H100, **VLLM}),
    _launch("adapter-of-a-higher-rank", "qwen2", "vllm serve ./qwen2 --enable-lora --lora-modules sql=./qwen2-lora", rule="adapter-rank-above-limit", also=("qwen2-lora",), facts={**H100, **VLLM}, edits=(lambda folder: change("adapter_config.json", r=64)(folder.parent / "qwen2-lora"),)),
    _launch("adapter-path-is-missing", "qwen2", "vllm serve ./qwen2 --enable-lora --lora-modules sql=./qwen2-sql", rule="adapter-not-there", facts={**H100, **VLLM}),
    _launch("adapters-without-the-switch", "qwen2", "vllm serve ./qwen2 --lora-modules sql=./qwen2-lora", rule="flag-needs-another", also=("qwen2-lora",), facts={**H100, **VLLM}),
    _launch("template-file-is-missing", "qwen2", "vllm serve ./qwen2 --chat-template ./tool_chat.jinja", rule="file-of-flag-missing", facts={**H100, **VLLM}),
    _launch("draft-model-with-another-vocabulary", "qwen2", "vllm serve ./qwen2 --speculative-config '{\"model\": \"./phi3\", \"num_speculative_tokens\": 3}'", rule="draft-vocabulary-differs", also=("phi3",), facts={**H100, **VLLM}),
    _launch("architecture-too-new-for-the-engine", "gpt-oss", "vllm serve ./gpt-oss", rule="architecture-newer-than-engine", facts={**H100, "vllm.version": "0.9.2"}),
    # what does not fit
    _launch("weights-larger-than-the-gpu", "llama", "vllm serve ./llama", rule="weights-larger-than-the-cards", edits=BIG, facts={**H100, **VLLM}),
    _launch("weights-larger-than-two-small-gpus", "llama", "vllm serve ./llama --tensor-parallel-size 2", rule="weights-larger-than-the-cards", edits=BIG, facts={**RTX4090_X2, **VLLM}),
    _launch("cache-too-small-for-one-request", "llama", "vllm serve ./llama", rule="request-larger-than-kv-cache", edits=EIGHT, facts={**RTX4090, **VLLM}),
    # containers and pods
    _launch("container-without-gpus", "qwen2", DOCKER.replace("--gpus all ", ""), rule="container-given-no-gpu-by-command", facts=H100),
    _launch("container-without-the-model", "qwen2", DOCKER.replace("-v $PWD:/models ", ""), rule="model-path-not-mounted", facts=H100),
    _launch("container-option-behind-the-image", "qwen2", DOCKER.replace("--ipc=host ", "") + " --ipc=host", rule="container-option-behind-image", facts=H100),
    _launch("container-publishes-another-port", "qwen2", DOCKER.replace("8000:8000", "8000:8080"), rule="published-port-is-not-the-engines", facts=H100),
    _launch("container-with-little-shared-memory", "qwen2", DOCKER.replace("--ipc=host ", "") + " --tensor-parallel-size 2", rule="shared-memory-of-container-default", facts=A100_X4),
    _launch("image-gets-the-program-twice", "qwen2", DOCKER.replace(" --model /models/qwen2", " vllm serve /models/qwen2"), rule="image-starts-the-program-itself", facts=H100),
    _launch("container-given-too-few-gpus", "qwen2", DOCKER.replace("--gpus all", "--gpus 1") + " --tensor-parallel-size 2", rule="more-gpus-wanted-than-there", facts=A100_X4),
    _manifest("compose-without-capabilities", "compose", ", capabilities: [gpu]", "", rule="compose-device-without-capabilities"),
    _manifest("compose-gives-one-gpu", "compose", "count: 2", "count: 1", facts=A100_X4, rule="more-gpus-wanted-than-there"),
    _manifest("compose-without-a-device", "compose", COMPOSE[COMPOSE.index("    deploy:"):], "", rule="container-given-no-gpu-by-command"),
    _manifest("compose-with-a-tab", "compose", "    ipc: host", "\tipc: host", rule="manifest-is-not-yaml"),
    _manifest("compose-flag-is-misspelt", "compose", "--tensor-parallel-size", "--tensor-paralel-size", rule="flag-unknown-to-engine"),
    _manifest("pod-without-gpus", "pod", "nvidia.com/gpu: 2, ", "", rule="pod-asks-for-no-gpu"),
    _manifest("pod-with-one-gpu", "pod", "nvidia.com/gpu: 2", "nvidia.com/gpu: 1", rule="more-gpus-wanted-than-there"),
    _manifest("pod-without-shared-memory", "pod", "        - {name: shm, mountPath: /dev/shm}\n", "", rule="shared-memory-of-container-default"),
    _manifest("pod-is-killed-while-loading", "pod", "failureThreshold: 120", "failureThreshold: 3", rule="probe-kills-during-load"),
    _manifest("pod-probes-another-port", "pod", "path: /health, port: 8000", "path: /health, port: 8080", rule="probe-asks-another-port"),
    _manifest("pod-command-is-a-text", "pod", 'args: ["--model", "/models/qwen2", "--tensor-parallel-size", "2", "--port", "8000"]', 'args: "--model /models/qwen2 --tensor-parallel-size 2 --port 8000"', rule="command-in-pod-is-a-text"),
    # launchers
    _launch("more-processes-than-gpus", "", "torchrun --nproc-per-node 8 train.py", rule="more-processes-than-gpus", facts=A100_X4),
    _launch("torchrun-flag-is-misspelt", "", "torchrun --nproc-per-nodes 4 train.py", rule="launcher-option-unknown", facts=A100_X4),
    _launch("accelerate-config-is-missing", "", "accelerate launch --config_file fsdp.yaml train.py", rule="accelerate-config-missing", facts=A100_X4),
    _launch("deepspeed-names-a-missing-gpu", "", "deepspeed --include localhost:4,5 train.py", rule="deepspeed-includes-missing-gpu", facts=A100_X4),
    _launch("several-machines-without-a-meeting-place", "", "torchrun --nnodes 2 --nproc-per-node 4 train.py", rule="machines-without-meeting-place", facts=A100_X4),
)  # fmt: skip
