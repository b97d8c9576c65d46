"""The catalogue of facts: every name, its type and unit, the source that owns it, and what it means.

A rule may only ask for a name that stands here. `*` in a name stands for one part (`gpu.0.name`); a distribution's
version is `<distribution>.version` with the name in lower case and hyphens (`flash-attn.version`).
"""

from __future__ import annotations

import re
from functools import lru_cache

from msgspec import Struct


class FactKind(Struct, frozen=True):
    """A line of the catalogue. `type` is version, text, number, bytes or flag."""

    name: str
    type: str
    owner: str
    meaning: str


CATALOGUE: tuple[FactKind, ...] = (
    FactKind("*.version", "version", "banner", "version of an installed distribution"),
    FactKind("python.version", "version", "banner", "version of the interpreter that ran"),
    FactKind("torch.cuda", "version", "banner", "CUDA version that torch was built with"),
    FactKind("torch.hip", "version", "banner", "ROCm (HIP) version that torch was built with"),
    FactKind("driver.version", "version", "banner", "version of the GPU driver"),
    FactKind("driver.cuda", "version", "banner", "newest CUDA version that the driver supports"),
    FactKind("cuda.toolkit", "version", "banner", "version of the CUDA toolkit (nvcc) on the machine"),
    FactKind("cuda.available", "flag", "banner", "whether torch could use CUDA"),
    FactKind("gpu.count", "number", "banner", "how many GPUs were listed"),
    FactKind("gpu.*.name", "text", "banner", "name of a GPU"),
    FactKind("gpu.*.memory", "bytes", "banner", "memory of a GPU in bytes"),
    FactKind("gpu.*.memory_used", "bytes", "banner", "memory in use on a GPU in bytes"),
    FactKind("gpu.*.compute_capability", "version", "banner", "compute capability of a GPU"),
    FactKind("os.name", "text", "banner", "operating system as the text names it"),
    FactKind("os.version", "version", "banner", "version of the operating system"),
    FactKind("os.machine", "text", "banner", "machine architecture: x86_64, aarch64, arm64"),
    FactKind("glibc.version", "version", "banner", "version of the C library"),
    FactKind("gcc.version", "version", "banner", "version of the C compiler"),
    FactKind("clang.version", "version", "banner", "version of clang"),
    FactKind("cmake.version", "version", "banner", "version of CMake"),
    FactKind("engine.name", "text", "banner", "serving engine that wrote the log: vllm, sglang, llama.cpp"),
    FactKind("engine.version", "version", "banner", "its version, or llama.cpp's build number"),
    FactKind("launch.arg.*", "text", "banner", "an argument of the engine, with underscores: tensor_parallel_size"),
)

EVENT_NAMES: tuple[str, ...] = (
    "event.exception",
    "event.message",
    "event.library",
    "event.caller",
    "event.frame",
    "event.frames",
    "event.phase",
    "event.text",
    "event.near",
    "event.rank",
    "event.process",
)


@lru_cache(maxsize=512)
def describe(name: str) -> FactKind | None:
    """The catalogue's line for a fact name, or None if nobody defines it. `*` in `name` stands for itself."""
    exact = [kind for kind in CATALOGUE if kind.name == name]
    if exact:
        return exact[0]
    for kind in CATALOGUE:
        if "*" in kind.name and re.fullmatch(re.escape(kind.name).replace(r"\*", r"[\w*-]+"), name):
            return kind
    return None
