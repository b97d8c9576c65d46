"""The catalogue of facts: every name, its type and unit, the source that owns it, what it means, and its area.

A rule may only ask for a name that stands here. `*` in a name stands for one part (`gpu.0.name`); a distribution's
version is `<distribution>.version` with the name in lower case and hyphens (`flash-attn.version`). The area is the
line of the checklist that a finding about this fact belongs to.
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
    area: str = ""


AREAS: tuple[str, ...] = (
    "driver",
    "GPUs",
    "memory",
    "storage",
    "limits",
    "system",
    "network",
    "kernel log",
    "interpreter",
    "packages",
    "CUDA libraries",
    "extensions",
    "engine",
    "imports",
)
"""The lines of the checklist, from the bottom of the stack upwards: of two causes the lower one is told first."""


def _kinds(owner: str, area: str, *rows: tuple[str, str, str]) -> tuple[FactKind, ...]:
    """Catalogue lines (name, type, meaning) of one source and area."""
    return tuple(FactKind(name, type_, owner, meaning, area) for name, type_, meaning in rows)


# banner: what a text tells of itself, and what the machine's sources tell under the same name
BANNER: tuple[FactKind, ...] = (
    *_kinds("banner", "packages",
        ("*.version", "version", "version of an installed distribution"),
    ),
    *_kinds("banner", "interpreter",
        ("python.version", "version", "version of the interpreter that ran, or of the one that is checked"),
    ),
    *_kinds("banner", "CUDA libraries",
        ("torch.cuda", "version", "CUDA version that torch was built with"),
        ("torch.hip", "version", "ROCm (HIP) version that torch was built with"),
        ("cuda.toolkit", "version", "version of the CUDA toolkit (nvcc) on the machine"),
        ("cuda.available", "flag", "whether torch could use CUDA"),
    ),
    *_kinds("banner", "driver",
        ("driver.version", "version", "version of the GPU driver (its kernel module)"),
        ("driver.cuda", "version", "newest CUDA version that the driver supports"),
    ),
    *_kinds("banner", "GPUs",
        ("gpu.count", "number", "how many GPUs were listed"),
        ("gpu.*.name", "text", "name of a GPU"),
        ("gpu.*.memory", "bytes", "memory of a GPU in bytes"),
        ("gpu.*.memory_used", "bytes", "memory in use on a GPU in bytes"),
        ("gpu.*.compute_capability", "version", "compute capability of a GPU"),
    ),
    *_kinds("banner", "system",
        ("os.name", "text", "operating system"),
        ("os.version", "version", "version of the operating system"),
        ("os.machine", "text", "machine architecture: x86_64, aarch64, arm64"),
        ("glibc.version", "version", "version of the C library"),
        ("gcc.version", "version", "version of the C compiler"),
        ("clang.version", "version", "version of clang"),
        ("cmake.version", "version", "version of CMake"),
    ),
    *_kinds("banner", "engine",
        ("engine.name", "text", "serving engine that wrote the log: vllm, sglang, llama.cpp"),
        ("engine.version", "version", "its version, or llama.cpp's build number"),
        ("launch.arg.*", "text", "an argument of the engine, with underscores: tensor_parallel_size"),
    ),
)  # fmt: skip

# gpu: sources/gpu.py, the driver and the devices
GPU: tuple[FactKind, ...] = (
    *_kinds("gpu", "driver",
        ("driver.error", "text", "why the driver could not be asked, as NVML names it: DRIVER_NOT_LOADED"),
    ),
    *_kinds("gpu", "GPUs",
        ("gpu.vendor", "text", "whose GPUs are there: nvidia, amd, intel, apple, ascend, none"),
    ),
)  # fmt: skip

# host: sources/host.py, memory, storage, limits, network, settings
HOST: tuple[FactKind, ...] = (
    *_kinds("host", "system",
        ("env.*", "text", "an environment variable that is on the allow-list; `set` for one that holds a secret"),
    ),
)  # fmt: skip

# kernel: sources/kernel.py, the kernel's log
KERNEL: tuple[FactKind, ...] = ()

# python: sources/python.py, the target interpreter and its packages
PYTHON: tuple[FactKind, ...] = ()

# compat: diagnose/compat.py, what the tables in dataset/compat say of the versions found
COMPAT: tuple[FactKind, ...] = ()

# deep: sources/deep.py, what was tried inside the target interpreter
DEEP: tuple[FactKind, ...] = ()

# check: the question itself
CHECK: tuple[FactKind, ...] = (
    *_kinds("check", "engine",
        ("wanted.name", "text", "what `--for` named: vllm, sglang, transformers, llama-cpp, trl, deepspeed, a model type"),
        ("wanted.kind", "text", "package, program or model-type"),
        ("wanted.installed", "flag", "whether the package or program that `--for` named is there"),
    ),
)  # fmt: skip

CATALOGUE: tuple[FactKind, ...] = BANNER + GPU + HOST + KERNEL + PYTHON + COMPAT + DEEP + CHECK

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


HEADS: frozenset[str] = frozenset(kind.name.partition(".")[0] for kind in CATALOGUE) - {"*"}
"""The first parts of fact names: a value such as `torch.capability_min` in a condition is a name, not a text."""


@lru_cache(maxsize=4096)
def describe(name: str) -> FactKind | None:
    """The catalogue's line for a fact name, or None if nobody defines it. `*` in `name` stands for itself.

    An exact name goes before one with `*`, and one with more parts before one with fewer.
    """
    exact = _EXACT.get(name)
    if exact is not None:
        return exact
    return next((kind for pattern, kind in _STARRED if pattern.fullmatch(name)), None)


_EXACT = {kind.name: kind for kind in CATALOGUE}
_STARRED = [
    (re.compile(re.escape(kind.name).replace(r"\*", r"[\w*+-]+")), kind)
    for kind in sorted(CATALOGUE, key=lambda kind: kind.name.startswith("*"))
    if "*" in kind.name
]


def shown(name: str, value: str | int | float | bool) -> str:
    """A fact's value for a reader: bytes in GiB or MiB, flags as yes and no, the rest as it is."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    kind = describe(name)
    if kind is None or kind.type != "bytes" or isinstance(value, str):
        return str(value)
    for unit, power in (("TiB", 4), ("GiB", 3), ("MiB", 2), ("KiB", 1)):
        if abs(value) >= 1024**power:
            return f"{value / 1024**power:.1f}".removesuffix(".0") + f" {unit}"
    return f"{value} bytes"


def area_of(name: str) -> str:
    """The line of the checklist that a fact belongs to; empty for a name that nobody defines."""
    kind = describe(name)
    return kind.area if kind else ""
