"""Facts that a text tells of itself: environment dumps, package lists, nvidia-smi tables, engines' banners, commands.

An automaton of its own (compiled with the rules) finds the lines worth reading; each kind of line is a pattern with a name here. The first
mention of a fact counts. Every fact knows its line.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from functools import cache, lru_cache

from diagnose.model import Fact
from diagnose.pattern import Plain
from diagnose.predicate import size
from diagnose.scan import Scanner
from diagnose.sources.prefix import read_prefix
from diagnose.sources.text import Window

MOST_LINES = 4000
"""How many lines of one input are looked at for facts."""
LONGEST = 16 << 10
MOST_ARGUMENTS = 200

_PACKAGES = ["torch", "torchvision", "torchaudio", "triton", "pytorch-triton", "pytorch-triton-rocm", "transformers", "tokenizers", "huggingface-hub", "safetensors", "accelerate", "peft", "trl", "datasets", "evaluate", "bitsandbytes", "auto-gptq", "gptqmodel", "autoawq", "optimum", "optimum-quanto", "compressed-tensors", "torchao", "hqq", "flash-attn", "flash-attn-3", "flashinfer", "flashinfer-python", "xformers", "vllm", "vllm-flash-attn", "sglang", "sgl-kernel", "sglang-kernel", "sglang-router", "lmdeploy", "deepspeed", "ray", "numpy", "protobuf", "pydantic", "pydantic-core", "fastapi", "uvicorn", "openai", "outlines", "outlines-core", "xgrammar", "lm-format-enforcer", "llguidance", "sentencepiece", "tiktoken", "jinja2", "pyzmq", "gguf", "llama-cpp-python", "nvidia-nccl-cu11", "nvidia-nccl-cu12", "nvidia-nccl-cu13", "nvidia-cublas-cu12", "nvidia-cudnn-cu12", "nvidia-cuda-runtime-cu12", "nvidia-ml-py", "pynvml", "cuda-python", "modelscope", "einops", "timm", "pillow", "opencv-python", "opencv-python-headless", "setuptools", "ninja", "mistral-common", "aiohttp", "httpx", "interegular", "prometheus-fastapi-instrumentator", "packaging", "liger-kernel", "unsloth", "unsloth-zoo", "llamafactory", "axolotl", "ms-swift", "hf-transfer", "hf-xet", "kernels", "tensorrt-llm", "nixl", "lmcache", "mooncake-transfer-engine", "deep-gemm", "deep-ep", "amd-aiter", "intel-extension-for-pytorch", "torch-npu", "vllm-ascend"]  # fmt: skip

_SPELLINGS = (*_PACKAGES, *(name.replace("-", "_") for name in _PACKAGES if "-" in name))

_VERSION = r"v?\d{1,6}\.\d[\w.+-]{0,60}"


def canonical(name: str) -> str:
    """The name of a distribution in lower case with hyphens, as in `flash-attn`."""
    return re.sub(r"[-_.]+", "-", name).lower()


_Reading = Iterator[tuple[str, str | int | float | bool]]
_Reader = Callable[[re.Match[str]], _Reading]


def _one(name: str) -> _Reader:
    def read(found: re.Match[str]) -> _Reading:
        value = found[1].strip().rstrip(",.;")
        if value and value.upper() not in ("N/A", "COULD NOT COLLECT", "NONE", "(MISSING)"):
            yield name, value

    return read


def _package(found: re.Match[str]) -> _Reading:
    name = canonical(found["name"])
    name = "torch" if name == "pytorch" else name  # conda's name for it
    if name in KNOWN_PACKAGES:
        yield f"{name}.version", found["version"].lstrip("v")


def _operating_system(found: re.Match[str]) -> _Reading:
    yield "os.name", found["name"].strip()
    if found["version"]:
        yield "os.version", found["version"]
    if found["machine"]:
        yield "os.machine", found["machine"]


def _devices(found: re.Match[str]) -> _Reading:
    for index in found["index"].split(","):
        number = index.strip()
        if number.isdigit():
            yield f"gpu.{number}.name", found["name"].strip()
            if "capability" in found.groupdict() and found["capability"]:
                yield f"gpu.{number}.compute_capability", found["capability"]


def _capabilities(found: re.Match[str]) -> _Reading:
    for index in found["index"].split(","):
        if index.strip().isdigit():
            yield f"gpu.{index.strip()}.compute_capability", found["capability"]


def _memory(found: re.Match[str]) -> _Reading:
    """The second row of a GPU in nvidia-smi's table; `*` stands for the GPU of the row above."""
    yield "gpu.*.memory", f"{found['total']} MiB"
    yield "gpu.*.memory_used", f"{found['used']} MiB"


def _smi_header(found: re.Match[str]) -> _Reading:
    yield "driver.version", found["driver"]
    if found["cuda"]:
        yield "driver.cuda", found["cuda"]


def _engine(name: str) -> _Reader:
    def read(found: re.Match[str]) -> _Reading:
        yield "engine.name", name
        version = found["version"].lstrip("v").rstrip(").,;")
        yield "engine.version", version
        if name in KNOWN_PACKAGES:
            yield f"{name}.version", version
        if found.re.groups > 1 and found["arguments"]:
            yield from _keyword_arguments(found["arguments"])

    return read


def _arguments(name: str) -> _Reader:
    def read(found: re.Match[str]) -> _Reading:
        if name:
            yield "engine.name", name
        yield from _keyword_arguments(found["arguments"])

    return read


_KEYWORD = re.compile(
    r"""['"]?(?P<key>[a-z]\w{1,60})['"]?\s?[=:]\s?(?P<value>'[^']{0,300}'|"[^"]{0,300}"|[\w./+-]{1,200})(?=[,})\s]|$)"""
)


def _keyword_arguments(text: str) -> _Reading:
    """`key='value'` and `'key': value` as engines print their arguments."""
    for count, found in enumerate(_KEYWORD.finditer(text[:LONGEST])):
        if count >= MOST_ARGUMENTS:
            return
        value = found["value"].strip("'\"")
        if value and value != "None":
            yield f"launch.arg.{found['key']}", value


_OPTION = re.compile(r"--|-[a-zA-Z]")


def _command(found: re.Match[str]) -> _Reading:
    """A command line with long options; a flag without a value is `true`."""
    try:
        words = shlex.split(found["rest"].rstrip("\\"), comments=True)
    except ValueError:
        words = found["rest"].split()
    if "serve" in found["program"] and words and not words[0].startswith("-"):
        yield "launch.arg.model", words[0]
    for index, word in enumerate(words[:MOST_ARGUMENTS]):
        if word.startswith("--") and len(word) > 2:
            key, given, value = word[2:].partition("=")
            following = words[index + 1] if index + 1 < len(words) else "--"
            yield (
                f"launch.arg.{key.replace('-', '_')}",
                value if given else "true" if _OPTION.match(following) else following,
            )
    yield (
        "engine.name",
        "vllm" if "vllm" in found["program"] else "sglang" if "sglang" in found["program"] else "llama.cpp",
    )


def _llama_device(found: re.Match[str]) -> _Reading:
    yield f"gpu.{found['index']}.name", found["name"].strip()
    if found["capability"]:
        yield f"gpu.{found['index']}.compute_capability", found["capability"]


KNOWN_PACKAGES = frozenset(_PACKAGES)
"""Distributions of this field, whose versions a text may tell."""

# (texts that such a line contains, its pattern, what it tells)
_READERS: tuple[tuple[tuple[str, ...], str, _Reader], ...] = (
    (("PyTorch version",), rf"PyTorch version(?: \([^)]*\))?\s*:\s*({_VERSION})", _one("torch.version")),
    (("CUDA used to build PyTorch",), r"CUDA used to build PyTorch\s*:\s*([\d.]+)", _one("torch.cuda")),
    (("ROCM used to build PyTorch",), r"ROCM used to build PyTorch\s*:\s*([\d.]+[\w.-]*)", _one("torch.hip")),
    (("OS: ", "OS  "), r"^OS\s*:\s*(?P<name>[A-Za-z][^(\d]*[^(\d\s])\s*(?P<version>\d+(?:\.\d+)*)?[^(]*(?:\([^)]*\)[^(]*)*?(?:\((?P<machine>x86_64|aarch64|arm64|64-bit)\))?\s*$", _operating_system),
    (("GCC version",), r"GCC version\s*:\s*(?:\([^)]*\)\s*)?([\d.]+)", _one("gcc.version")),
    (("Clang version",), r"Clang version\s*:\s*(?:\([^)]*\)\s*)?([\d.]+)", _one("clang.version")),
    (("CMake version", "cmake version"), r"(?i)cmake version:?\s*(?:version\s*)?([\d.]+)", _one("cmake.version")),
    (("Libc version",), r"Libc version\s*:\s*glibc-([\d.]+)", _one("glibc.version")),
    (("-with-glibc",), r"-with-glibc([\d.]+)", _one("glibc.version")),
    (("Python version",), r"Python version\s*:\s*(\d+\.\d+(?:\.\d+)?)", _one("python.version")),
    (("Python: 3",), r"^Python:\s*(3\.\d+(?:\.\d+)?)", _one("python.version")),
    (("Is CUDA available", "CUDA available"), r"(?:Is )?CUDA available\s*:\s*(True|False)", _one("cuda.available")),
    (("CUDA runtime version",), r"CUDA runtime version\s*:\s*([\d.]+)", _one("cuda.toolkit")),
    (("Cuda compilation tools",), r"Cuda compilation tools, release ([\d.]+)", _one("cuda.toolkit")),
    (("vidia driver version", "CUDA Driver Version"), r"(?:[Nn]vidia driver version|CUDA Driver Version)\s*:\s*([\d.]+)", _one("driver.version")),
    (("GPU 0", "GPU 1", "GPU 2", "GPU 3", "GPU 4", "GPU 5", "GPU 6", "GPU 7"),
     r"(?:^|: )GPU (?P<index>\d+(?:,\d+)*) Compute Capability:\s*(?P<capability>[\d.]+)", _capabilities),
    (("GPU 0", "GPU 1", "GPU 2", "GPU 3", "GPU 4", "GPU 5", "GPU 6", "GPU 7"),
     r"(?:^|configuration\s*: )GPU (?P<index>\d+(?:,\d+)*):\s*(?P<name>[A-Za-z][^(\n]*?)\s*(?:\(UUID.*)?$", _devices),
    (("Driver Version:",), r"Driver Version:\s*(?P<driver>[\d.]+)(?:\s+CUDA Version:\s*(?P<cuda>[\d.]+))?", _smi_header),
    (tuple(f"| {index:3}  " for index in range(16)),
     r"^\|\s+(?P<index>\d+)\s\s(?P<name>[A-Z][\w ./()-]*?)\s+(?:On|Off|N/A|WDDM|TCC)\s", _devices),
    (("MiB / ", "MiB/"), r"^\|.*\|\s*(?P<used>\d+)MiB\s*/\s*(?P<total>\d+)MiB\s*\|", _memory),
    (("[pip3] ", "[pip] ", "[conda] "), rf"\[(?:pip3?|conda)\]\s+(?P<name>[\w.-]+)(?:==|\s+)(?P<version>{_VERSION})", _package),
    (tuple(f"{name}==" for name in _SPELLINGS), rf"^[\s>*-]*(?P<name>[\w.-]+)==(?P<version>{_VERSION})\s*$", _package),
    (tuple(f"{name} " for name in _SPELLINGS),
     rf"^(?P<name>[\w.-]+)\s{{2,}}(?P<version>{_VERSION})(?:\s|$)", _package),
    (tuple(f"{name}: " for name in _SPELLINGS), rf"^(?P<name>[\w.-]+): (?P<version>{_VERSION})\s*$", _package),
    (("PyTorch: ",), rf"^PyTorch: ({_VERSION})\s*$", _one("torch.version")),
    (("transformers` version",), rf"`transformers` version:\s*({_VERSION})", _one("transformers.version")),
    (("uggingface_hub version",), rf"Huggingface_hub version:\s*({_VERSION})", _one("huggingface-hub.version")),
    (("vLLM Version",), rf"vLLM Version\s*:\s*({_VERSION})", _one("vllm.version")),
    (("vLLM API server version",), r"vLLM API server version (?P<version>v?\d[\w.+-]*)(?P<arguments>)", _engine("vllm")),
    (("LLM engine (v",), r"Initializing an? (?:V1 )?LLM engine \((?P<version>v\d[^)]*)\) with config: (?P<arguments>.*)", _engine("vllm")),
    (("args: Namespace(", "non-default args: {"), r"args: (?:Namespace\(|\{)(?P<arguments>.*)", _arguments("")),
    (("server_args=ServerArgs(", "server_args={"), r"server_args=(?:ServerArgs\(|\{)(?P<arguments>.*)", _arguments("sglang")),
    (("build = ", "build: ", "version: "), r"^(?:main: )?(?:build|version)\s?[=:]\s+(?P<version>b?\d{3,6}) \([0-9a-f]{3,12}\)(?P<arguments>)", _engine("llama.cpp")),
    (("compute capability",), r"Device (?P<index>\d+): (?P<name>[^,]+), compute capability (?P<capability>[\d.]+)", _llama_device),
    (("vllm serve ", "vllm.entrypoints.", "sglang.launch_server ", "llama-server ", "llama-cli "),
     r"(?P<program>vllm serve|vllm\.entrypoints\.[\w.]+|sglang\.launch_server|llama-(?:server|cli)(?:\.exe)?)\s+(?P<rest>.+)$", _command),
    (("/lib/python3.",), r"/lib/python(3\.\d+)/", _one("python.version")),
)  # fmt: skip


@cache
def _compiled(expression: str) -> re.Pattern[str]:
    """Compiled on first use: most texts hold few of these lines."""
    return re.compile(expression)


FACT_TEXTS = [Plain(texts) for texts, _, _ in _READERS]
"""What the lines worth reading contain; a scanner compiled from it is given to BannerReader."""


class BannerReader:
    """Collects the facts of one input, window by window."""

    def __init__(self, origin: str, scanner: Scanner) -> None:
        self.origin = origin
        self._scanner = scanner
        self._facts: dict[str, Fact] = {}
        self._left = MOST_LINES
        self._weak: set[str] = set()
        self._row = ("", 0)

    def take(self, window: Window) -> None:
        """Read the new part of a window."""
        if self._left <= 0:
            return
        scanner = self._scanner
        read: set[tuple[int, int]] = set()
        for text, end in scanner.find(memoryview(window.data)[window.start : window.end]):
            start = window.data.rfind(b"\n", 0, window.start + end) + 1
            for reader in scanner.owners[text]:
                if (start, reader) not in read:
                    read.add((start, reader))
                    self._read_line(window, start, reader)
            if self._left <= 0:
                return

    def facts(self) -> tuple[Fact, ...]:
        """What was learnt, with what follows from it: the number of GPUs, and their compute capability by name."""
        names = {name: fact for name, fact in self._facts.items() if re.fullmatch(r"gpu\.\d+\.name", name)}
        for name, fact in names.items():
            capability = compute_capability(str(fact.value))
            if capability:
                target = name.replace(".name", ".compute_capability")
                self._facts.setdefault(target, Fact(target, capability, self.origin, fact.line))
        if names:
            first = min(names.values(), key=lambda fact: fact.line)
            self._facts.setdefault("gpu.count", Fact("gpu.count", len(names), self.origin, first.line))
        return tuple(self._facts.values())

    def _read_line(self, window: Window, start: int, reader: int) -> None:
        self._left -= 1
        stop = window.data.find(b"\n", start)
        stop = len(window.data) if stop < 0 else stop
        text = window.data[start : min(stop, start + LONGEST)].decode("utf-8", "replace").rstrip("\r")
        _, expression, tell = _READERS[reader]
        pattern = _compiled(expression)
        found = pattern.search(text[read_prefix(text).length :].strip()) or pattern.search(text)
        if not found:
            return
        line = window.line + window.data.count(b"\n", 0, start)
        for told, value in tell(found):
            name = self._in_table(told, line)
            if name:
                self._learn(name, value, line, weak=pattern.pattern.startswith("/lib/python"))

    def _in_table(self, name: str, line: int) -> str:
        """The name, with the GPU of the table's row above for `*`; nothing if that row is missing."""
        index, at = self._row
        if "*" in name:
            return name.replace("*", index) if index and line - at <= 2 else ""
        if name.startswith("gpu.") and name.endswith(".name"):
            self._row = (name.split(".")[1], line)
        return name

    def _learn(self, name: str, value: str | int | float | bool, line: int, weak: bool) -> None:
        """Keep the first mention; a path's Python version gives way to one that was told."""
        if name in self._facts and name not in self._weak:
            return
        if name in self._weak and weak:
            return
        (self._weak.add if weak else self._weak.discard)(name)
        if name == "cuda.available":
            value = value == "True"
        amount = size(value) if isinstance(value, str) and name.endswith((".memory", ".memory_used")) else None
        self._facts[name] = Fact(name, amount if amount is not None else value, self.origin, line)


@lru_cache(maxsize=64)
def compute_capability(gpu: str) -> str:
    """The compute capability of an NVIDIA GPU by its name, or nothing."""
    words = set(re.findall(r"[a-z0-9()]+", gpu.lower()))
    for name, capability in _gpus():
        parts = re.findall(r"[a-z0-9()]+", name.lower())
        if all(
            any(word == part or re.fullmatch(rf"{re.escape(part)}[a-z]{{0,2}}", word) for word in words)
            for part in parts
        ):
            return capability
    return ""


@lru_cache(maxsize=1)
def _gpus() -> list[tuple[str, str]]:
    from diagnose.places import table

    return [(entry["name"], entry["compute_capability"]) for entry in table("compat", "gpus.json").get("gpus", ())]
