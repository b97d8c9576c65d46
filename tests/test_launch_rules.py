"""The rules on containers, pods, launchers and fit: quiet where all is well, and first in the diagnosis where it is not."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from diagnose.causes import diagnose
from diagnose.collect import case_of_text, completed
from diagnose.machine import joined
from diagnose.match import match
from diagnose.model import Case, Diagnosis, Fact
from diagnose.sources import launch
from tests.support import facts_of
from tests.test_bundled_rules import RULES

SERVER: dict[str, Any] = {
    "gpu.vendor": "nvidia",
    "gpu.count": 8,
    "gpus.capability_best": "9.0",
    "memory.usable": 512 << 30,
    "os.machine": "x86_64",
}
MODEL: dict[str, Any] = {
    "model.name": "tiny",
    "model.type": "qwen2",
    "model.dtype": "bfloat16",
    "model.heads": 28,
    "model.kv_heads": 4,
    "model.head_dim": 128,
    "model.hidden_size": 3584,
    "model.intermediate_size": 18944,
    "model.layers": 28,
    "model.context": 32768,
    "model.attention": "gqa",
}


def case_of_command(command: str, folder: Path, *, files: tuple[str, ...] = (), **known: Any) -> Case:
    """The case of a launch command beside a machine and a model."""
    found: dict[str, Fact] = {}
    for reading in launch.read([command] if command else [], files, {"HOME": str(folder)}, str(folder)):
        if isinstance(reading, Fact):
            found.setdefault(reading.name, reading)
    given = SERVER | {name.replace("__", "."): value for name, value in known.items()}
    return completed(Case((*found.values(), *facts_of(given)), machine=True))


def judged(case: Case) -> Diagnosis:
    return diagnose(RULES, case, match(RULES, case))


def errors_and_warnings(diagnosis: Diagnosis) -> list[str]:
    return [cause.rule for cause in diagnosis.diagnoses if cause.severity != "note"]


VLLM = "vllm/vllm-openai:v0.30.0"

HEALTHY = [
    f"docker run --gpus all --ipc=host -p 8000:8000 -v {{0}}:/root/.cache/huggingface {VLLM} a/b",
    f"docker run --gpus 2 --shm-size 16g -p 80:8000 {VLLM} a/b --tensor-parallel-size 2",
    f"docker run --gpus '\"device=0,3\"' --ipc=host -p 9000:9000 {VLLM} --model a/b -tp 2 --port 9000",
    "docker run --gpus all -p 30000:30000 lmsysorg/sglang:latest python3 -m sglang.launch_server --model-path a/b --host 0.0.0.0 --port 30000",
    "docker run --gpus all --shm-size 1g -p 8080:80 ghcr.io/huggingface/text-generation-inference:3.3.4 --model-id a/b",
    "docker run --gpus all -p 8080:8080 -v {0}:/models ghcr.io/ggml-org/llama.cpp:server-cuda -m /models/x.gguf -ngl 99",
    "podman run --device nvidia.com/gpu=all --ipc=host -p 8000:8000 docker.io/vllm/vllm-openai:v0.30.0 a/b",
    "torchrun --nproc-per-node 8 train.py",
    "torchrun --nnodes 2 --node-rank 0 --nproc-per-node 8 --master-addr a train.py",
    "accelerate launch --num_processes 8 train.py",
    "deepspeed --num_gpus 8 train.py --deepspeed ds.json",
]


@pytest.mark.parametrize("command", HEALTHY)
def test_usual_commands_are_quiet(command: str, tmp_path: Path) -> None:
    """No error and no warning for commands as the documentation gives them."""
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    (tmp_path / "ds.json").write_text("{}")
    (tmp_path / "train.py").write_text("")
    found = errors_and_warnings(judged(case_of_command(command.format(tmp_path), tmp_path, hub__offline=False)))
    assert not found


COMMANDS = [
    ("container-given-no-gpu-by-command", f"docker run --ipc=host -p 8000:8000 {VLLM} a/b"),
    ("gpu-list-without-inner-quotes", f"docker run --gpus device=0,1 --ipc=host {VLLM} a/b -tp 2"),
    ("container-option-behind-image", f"docker run --ipc=host {VLLM} a/b --gpus all"),
    ("image-starts-the-program-itself", f"docker run --gpus all --ipc=host {VLLM} vllm serve a/b"),
    ("model-path-not-mounted", f"docker run --gpus all --ipc=host {VLLM} /data/tiny"),
    ("model-mounted-from-nothing", f"docker run --gpus all -v /no/such:/m {VLLM} /m/tiny"),
    ("bind-source-missing", f"docker run --gpus all --mount type=bind,src=/no/such,dst=/m {VLLM} a/b"),
    ("shared-memory-of-container-default", f"docker run --gpus all {VLLM} a/b -tp 2"),
    ("published-port-is-not-the-engines", f"docker run --gpus all -p 8000:80 {VLLM} a/b"),
    (
        "engine-listens-inside-only",
        "docker run --gpus all -p 30000:30000 lmsysorg/sglang:latest python3 -m sglang.launch_server --model-path a/b",
    ),
    ("container-memory-below-engine", f"docker run --gpus all -m 2g {VLLM} a/b"),
    ("more-gpus-wanted-than-there", f"docker run --gpus 2 --ipc=host {VLLM} a/b -tp 4"),
    ("more-gpus-wanted-than-there", "vllm serve a/b -tp 16"),
    (
        "visible-devices-beyond-container",
        f"docker run --gpus '\"device=2,3\"' --ipc=host -e CUDA_VISIBLE_DEVICES=0,3 {VLLM} a/b -tp 2",
    ),
    ("environment-file-missing", f"docker run --gpus all --env-file gone.env {VLLM} a/b"),
    ("more-processes-than-gpus", "torchrun --nproc-per-node 16 train.py"),
    ("machines-without-meeting-place", "torchrun --nnodes 2 --nproc-per-node 8 train.py"),
    ("accelerate-config-missing", "accelerate launch --config_file gone.yaml train.py"),
    ("deepspeed-include-and-count", "deepspeed --include localhost:0 --num_gpus 1 train.py"),
    ("deepspeed-includes-missing-gpu", "deepspeed --include localhost:0,9 train.py"),
    ("hostfile-not-found", "deepspeed --hostfile gone train.py"),
]


@pytest.mark.parametrize(("rule", "command"), COMMANDS)
def test_a_planted_fault_in_a_command_is_told_first(rule: str, command: str, tmp_path: Path) -> None:
    """One clear finding, and what follows from it below."""
    (tmp_path / "train.py").write_text("")
    diagnosis = judged(case_of_command(command, tmp_path))
    assert errors_and_warnings(diagnosis)[0] == rule


FITS: list[tuple[str, str, dict[str, Any]]] = [
    ("heads-do-not-divide", "vllm serve a/tiny -tp 8", MODEL),
    ("kv-heads-do-not-divide", "vllm serve a/tiny -tp 7", MODEL),
    ("feed-forward-does-not-divide", "vllm serve a/tiny -tp 4", MODEL | {"model.intermediate_size": 18946}),
    ("quantized-blocks-cut-by-split", "vllm serve a/tiny -tp 4", MODEL | {"model.quantization": "gptq", "model.quantization_group": 128, "model.intermediate_size": 18816}),
    ("more-stages-than-layers", "vllm serve a/tiny -pp 4", MODEL | {"model.layers": 2}),
    ("context-asked-beyond-model", "vllm serve a/tiny --max-model-len 65536", MODEL),
    ("context-beyond-model-allowed", "VLLM_ALLOW_LONG_MAX_MODEL_LEN=1 vllm serve a/tiny --max-model-len 65536", MODEL),
    ("context-asked-beyond-model", "python -m sglang.launch_server --model-path a/tiny --context-length 65536", MODEL),
    ("bfloat16-asked-of-gpu-without-it", "vllm serve a/tiny --dtype bfloat16", MODEL | {"gpus.capability_best": "7.5"}),
    ("float16-asked-for-model-that-overflows", "vllm serve a/tiny --dtype half", MODEL | {"model.type": "gemma2"}),
    ("float32-in-place-of-bfloat16", "vllm serve a/tiny", MODEL | {"model.type": "gemma2", "gpus.capability_best": "7.5"}),
    ("offloaded-weights-beyond-memory", "vllm serve a/tiny -tp 4 --cpu-offload-gb 200", MODEL),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "command", "known"), FITS)
def test_a_command_that_does_not_fit_the_model_is_told_first(
    rule: str, command: str, known: dict[str, Any], tmp_path: Path
) -> None:
    """Model, command and machine taken together."""
    case = case_of_command(command, tmp_path, **{name.replace(".", "__"): value for name, value in known.items()})
    assert errors_and_warnings(judged(case))[0] == rule


MANIFEST = """
    apiVersion: apps/v1
    kind: Deployment
    metadata: {{name: qwen}}
    spec:
      strategy: {{type: Recreate}}
      template:
        metadata: {{labels: {{app: qwen}}}}
        spec:
          containers:
          - name: vllm
            image: vllm/vllm-openai:v0.30.0
            args: {args}
            resources: {resources}
            startupProbe: {{httpGet: {{path: /health, port: {port}}}, periodSeconds: 10, failureThreshold: {tries}}}
            volumeMounts: [{{name: shm, mountPath: /dev/shm}}]
          volumes: [{{name: shm, emptyDir: {{{medium}}}}}]
    ---
    apiVersion: v1
    kind: Service
    metadata: {{name: {service}}}
    spec: {{selector: {{app: qwen}}, ports: [{{port: 80, targetPort: {target}}}]}}
"""
GOOD: dict[str, Any] = {
    "args": '["Qwen/Qwen3-8B", "--tensor-parallel-size", "2"]',
    "resources": "{limits: {nvidia.com/gpu: 2, memory: 64Gi}}",
    "port": 8000,
    "tries": 120,
    "medium": "medium: Memory",
    "service": "qwen",
    "target": 8000,
}
PODS: list[tuple[str, dict[str, Any]]] = [
    ("", {}),
    ("more-gpus-wanted-than-there", {"args": '["a/b", "--tensor-parallel-size", "4"]'}),
    ("pod-asks-for-no-gpu", {"resources": "{limits: {memory: 64Gi}}"}),
    ("gpu-requested-without-limit", {"resources": "{requests: {nvidia.com/gpu: 2}}"}),
    ("gpu-request-differs-from-limit", {"resources": "{requests: {nvidia.com/gpu: 1}, limits: {nvidia.com/gpu: 2}}"}),
    ("container-memory-below-engine", {"resources": "{limits: {nvidia.com/gpu: 2, memory: 2Gi}}"}),
    ("probe-asks-another-port", {"port": 8080}),
    ("probe-kills-during-load", {"tries": 6}),
    ("shared-memory-on-disk", {"medium": ""}),
    ("shared-memory-of-container-default", {"medium": "medium: Memory, sizeLimit: 64Mi"}),
    ("service-named-like-the-engine", {"service": "vllm"}),
    ("service-sends-to-another-port", {"target": 9000}),
    ("command-in-pod-is-a-text", {"args": "--model a/b"}),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "change"), PODS)
def test_a_planted_fault_in_a_manifest_is_told_first(rule: str, change: dict[str, Any], tmp_path: Path) -> None:
    """And the manifest without one is quiet, whatever GPUs this machine has."""
    (tmp_path / "qwen.yaml").write_text(textwrap.dedent(MANIFEST).format(**(GOOD | change)))
    found = errors_and_warnings(
        judged(case_of_command("", tmp_path, files=("qwen.yaml",), gpu__count=0, gpu__vendor="none"))
    )
    found = [name for name in found if name != "no-gpu-found"]
    assert found[:1] == ([rule] if rule else [])


@pytest.mark.parametrize(
    ("log", "command", "rule"),
    [
        ("ValueError: Total number of attention heads (28) must be divisible by tensor parallel size (8).", "vllm serve a/tiny -tp 8", "heads-do-not-divide"),
        ("ValueError: User-specified max_model_len (65536) is greater than the derived max_model_len (max_position_embeddings=32768 or model_max_length=None in model's config.json).", "vllm serve a/tiny --max-model-len 65536", "context-asked-beyond-model"),
        ("ValueError: World size (16) is larger than the number of available GPUs (8) in this node.", "vllm serve a/tiny -tp 16", "more-gpus-wanted-than-there"),
        ("RuntimeError: CUDA error: invalid device ordinal", "torchrun --nproc-per-node 16 train.py", "more-processes-than-gpus"),
    ],
)  # fmt: skip
def test_what_a_log_says_is_laid_to_the_command(log: str, command: str, rule: str, tmp_path: Path) -> None:
    """With the log of the failure the fault of the command is its cause."""
    (tmp_path / "train.py").write_text("")
    known = {name.replace(".", "__"): value for name, value in MODEL.items()} if "vllm" in command else {}
    if "-tp 16" in command:
        known |= {"model__heads": 32, "model__intermediate_size": 16384}
    case = joined(case_of_text(RULES, log, "crash.log"), case_of_command(command, tmp_path, **known))
    first = judged(case).diagnoses[0]
    assert first.rule == rule
    assert first.symptoms
