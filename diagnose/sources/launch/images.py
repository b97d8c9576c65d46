"""The name of a container image → the engine in it, its version, what it is built for, and the command that it starts by itself."""

from __future__ import annotations

import re

from msgspec import Struct


class Image(Struct, frozen=True):
    """What an image's name tells.

    `entrypoint` is what stands before the command that the container is given, `command` what runs if none is given.
    `accelerator` is cuda, rocm, xpu, cpu, vulkan …, or empty where the name does not tell. `tag` is empty without one.
    """

    name: str
    tag: str = ""
    digest: str = ""
    engine: str = ""
    version: str = ""
    accelerator: str = ""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    port: int = 0


class _Known(Struct, frozen=True):
    """A family of images: a pattern for the name without its registry, and what they hold."""

    pattern: str
    engine: str
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    accelerator: str = ""
    port: int = 0


_SERVE = ("vllm", "serve")
_API_SERVER = ("python3", "-m", "vllm.entrypoints.openai.api_server")
_SERVE_SINCE = (0, 11, 1)
"""vLLM's images start `vllm serve` since this release, and the module before."""
# What the projects' own Dockerfiles set: vllm docker/Dockerfile (target vllm-openai), text-generation-inference Dockerfile,
# llama.cpp .devops/*.Dockerfile, ollama Dockerfile, sglang docker/Dockerfile (no entrypoint of its own).
_KNOWN = (
    _Known(r"vllm/vllm-openai-rocm", "vllm", _SERVE, accelerator="rocm", port=8000),
    _Known(r"vllm/vllm-openai-cpu|.*/vllm-cpu(?:-release-repo|-env)?", "vllm", _SERVE, accelerator="cpu", port=8000),
    _Known(r"vllm/vllm-openai-xpu", "vllm", _SERVE, accelerator="xpu", port=8000),
    _Known(r"vllm/vllm-openai", "vllm", _SERVE, accelerator="cuda", port=8000),
    _Known(r"vllm/vllm-tpu", "vllm", accelerator="tpu"),
    _Known(r"lmcache/vllm-openai", "vllm", _SERVE, accelerator="cuda", port=8000),
    _Known(r"rocm/vllm(?:-dev)?", "vllm", accelerator="rocm"),
    _Known(r"nvidia/vllm", "vllm", accelerator="cuda"),
    _Known(r"lmsysorg/sglang-rocm|rocm/sgl-dev|rocm/sglang", "sglang", accelerator="rocm"),
    _Known(r"lmsysorg/sglang", "sglang"),
    _Known(r"nvidia/sglang", "sglang", accelerator="cuda"),
    _Known(r"huggingface/text-generation-inference", "tgi", ("text-generation-launcher",), port=80),
    _Known(r"huggingface/tgi-gaudi", "tgi", ("text-generation-launcher",), accelerator="hpu", port=80),
    _Known(r"(?:ggml-org|ggerganov)/llama\.cpp", "llama.cpp"),
    _Known(r"ollama/ollama", "ollama", ("/bin/ollama",), ("serve",), port=11434),
    _Known(r"huggingface/transformers-(?:pytorch|all-latest)[\w-]*gpu", "transformers", accelerator="cuda"),
)  # fmt: skip

_VERSION = re.compile(r"v?(\d+\.\d+(?:\.\d+)?(?:\.?(?:post|rc)\d+)?)(?=$|[-_.])")
_ACCELERATORS = (
    (re.compile(r"rocm|(?<![a-z])mi\d{3}"), "rocm"),
    (re.compile(r"gaudi|hpu"), "hpu"),
    (re.compile(r"(?<![a-z])cpu|xeon"), "cpu"),
    (re.compile(r"(?<![a-z])xpu|intel|sycl|openvino"), "xpu"),
    (re.compile(r"musa"), "musa"),
    (re.compile(r"vulkan"), "vulkan"),
    (re.compile(r"neuron|inferentia"), "neuron"),
    (re.compile(r"npu|ascend|(?<![a-z])a[23](?![a-z0-9])|cann"), "npu"),
    (re.compile(r"cuda|(?<![a-z])cu1\d\d"), "cuda"),
)


def read(reference: str) -> Image:
    """What the name of an image tells; `registry:5000/team/name:tag@sha256:…`, in whole or in part."""
    text = reference.strip().removeprefix("docker://")
    text, _, digest = text.partition("@")
    head, _, last = text.rpartition("/")
    last, _, tag = last.partition(":")
    name = f"{head}/{last}" if head else last
    known = _known(name)
    if known is None:
        return Image(name, tag, digest)
    return _of(known, name, tag, digest)


def _known(name: str) -> _Known | None:
    """The family by the last parts of the name, whatever registry or mirror stands before them."""
    parts = name.lower().split("/")
    last = "/".join(parts[-2:])
    return next(
        (known for known in _KNOWN if re.fullmatch(known.pattern, last) or re.fullmatch(known.pattern, name.lower())),
        None,
    )


def _of(known: _Known, name: str, tag: str, digest: str) -> Image:
    version = _VERSION.match(tag.lower())
    entrypoint, command, port = known.entrypoint, known.command, known.port
    accelerator = known.accelerator or next((word for found, word in _ACCELERATORS if found.search(tag.lower())), "")
    if known.engine == "llama.cpp":
        entrypoint, port = _llama(tag)
        accelerator = accelerator or "cpu"  # the images without a word for it are built for the CPU
    if known.engine == "tgi":
        accelerator = accelerator or "cuda"
        if "trtllm" in tag:
            entrypoint = ("text-generation-backends-trtllm",)  # a launcher with flags of its own
    if known.engine == "sglang":
        accelerator = accelerator or "cuda"
    if entrypoint == _SERVE and version and _numbers(version[1]) < _SERVE_SINCE:
        entrypoint = _API_SERVER
    if known.engine == "ollama":
        accelerator = "rocm" if "rocm" in tag else ""
    build = re.search(r"b(\d{3,6})$", tag) if known.engine == "llama.cpp" else None
    told = build[1] if build else version[1] if version and known.engine != "llama.cpp" else ""
    return Image(name, tag, digest, known.engine, told, accelerator, entrypoint, command, port)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _llama(tag: str) -> tuple[tuple[str, ...], int]:
    """llama.cpp has an image for each program; the one for all takes a word that says which (`--server`)."""
    if tag.startswith("server"):
        return ("/app/llama-server",), 8080
    if tag.startswith("light"):
        return ("/app/llama-cli",), 0
    return ("/app/tools.sh",), 0
