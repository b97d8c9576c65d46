"""NVML, the driver's own library for questions about it, behind one door: every question has an answer or a reason.

Whatever a call brings about (an error code, bytes that are no text, a number that cannot be) ends here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from diagnose.model import Fact, Reading, Step, Unchecked
from diagnose.sources.visible import Device

GONE = ("GPU_IS_LOST", "RESET_REQUIRED", "GPU_NOT_FOUND")
"""Errors after which a GPU is not asked any further."""
_UNSUPPORTED = ("NOT_SUPPORTED", "VGPU_ECC_NOT_SUPPORTED")
_OLD = ("FUNCTION_NOT_FOUND", "ARGUMENT_VERSION_MISMATCH", "DEPRECATED")


_ELSEWHERE = ("/run/opengl-driver/lib/libnvidia-ml.so.1",)
"""Where NixOS keeps the driver's libraries: programs that are built for it look there, the loader by itself does not."""


def _load_from_elsewhere() -> bool:
    """Load NVML from a place that the loader does not search; the binding then finds it by its name."""
    import ctypes

    for path in _ELSEWHERE:
        try:
            ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        return True
    return False


class Gpu(Struct, eq=False):
    """A device while it is asked: its index and handle, and what later questions need of it."""

    index: int
    handle: Any = None
    name: str = ""
    memory: int = 0
    capability: str = ""
    links: int = 0
    device: Device = Device()
    gone: bool = False
    error: str = ""
    unsupported: set[str] = set()


class Driver:
    """NVML behind one door: each question has an answer or None, and what failed is kept to be told once."""

    def __init__(self) -> None:
        self.works = False
        self.error = ""
        self.version = ""
        self._nvml: Any = None
        self._names: dict[int, str] = {}
        self._failed: dict[tuple[str, str], list[int]] = {}

    def start(self) -> Iterator[Reading]:
        """Load the library and start it; the driver's version and the CUDA version it supports."""
        try:
            import pynvml
        except Exception:  # an import may fail in any way
            self.error = "BINDING_MISSING"
            return
        self._nvml = pynvml
        self._names = {
            value: name.removeprefix("NVML_ERROR_")
            for name, value in vars(pynvml).items()
            if name.startswith("NVML_ERROR_") and isinstance(value, int)
        }
        yield Step("starting NVML (nvmlInit)")
        self.error = self._init()
        if self.error == "LIBRARY_NOT_FOUND" and _load_from_elsewhere():
            self.error = self._init()
        if self.error:
            return
        self.works = True
        yield Step("asking the driver for its version")
        yield from self._versions()

    def _init(self) -> str:
        """NVML's name of the error with which it does not start; empty if it does."""
        try:
            self._nvml.nvmlInit()
        except Exception as error:
            return self.name_of(error)
        return ""

    def _versions(self) -> Iterator[Reading]:
        version = self.ask("the driver's version", None, "nvmlSystemGetDriverVersion")
        if isinstance(version, str) and re.fullmatch(r"\d{1,4}(\.\d{1,6}){1,3}", version, re.ASCII):
            self.version = version
            yield Fact("driver.version", version, "NVML")
        elif version is not None:
            self.absurd("the driver's version", None, version)
        cuda = self.ask("the driver's CUDA version", None, "nvmlSystemGetCudaDriverVersion_v2")
        if isinstance(cuda, int) and 1000 <= cuda < 1_000_000:
            yield Fact("driver.cuda", f"{cuda // 1000}.{cuda % 1000 // 10}", "NVML")
        elif cuda is not None:
            self.absurd("the driver's CUDA version", None, cuda)

    def call(self, function: str, *arguments: Any) -> tuple[Any, str]:
        """The answer of one function and no error, or None and NVML's name of the error."""
        call = getattr(self._nvml, function, None)
        if call is None:
            return None, "FUNCTION_NOT_FOUND"
        try:
            return call(*arguments), ""
        except Exception as error:  # NVML's errors, and what ctypes makes of absurd answers
            return None, self.name_of(error)

    def ask(self, what: str, gpu: Gpu | None, function: str, *arguments: Any) -> Any:
        """The answer of one function, or None. What is not supported is no trouble; everything else is told."""
        return self.first(what, gpu, (function, *arguments))

    def first(self, what: str, gpu: Gpu | None, *calls: tuple[Any, ...]) -> Any:
        """The answer of the first of several calls that the driver knows (newest first), or None."""
        error = ""
        for function, *arguments in calls:
            if gpu is not None and gpu.gone:
                return None
            answer, error = self.call(function, *arguments)
            if error not in _OLD:
                break
        if not error:
            return answer
        if error in GONE and gpu is not None:
            gpu.gone, gpu.error = True, error
        elif error in _OLD:
            self._fail(what, gpu, "the driver is too old to tell")
        elif error == "UnicodeDecodeError":
            self._fail(what, gpu, "the driver's answer is not text")
        elif error in _UNSUPPORTED and gpu is not None:
            gpu.unsupported.add(what)
        elif error not in _UNSUPPORTED:
            self._fail(what, gpu, f"the driver answers {error}")
        return None

    def name_of(self, error: Exception) -> str:
        """NVML's name of an error: DRIVER_NOT_LOADED. Another exception gives the name of its class."""
        code = getattr(error, "value", None)
        if not isinstance(code, int):
            return type(error).__name__
        return self.code(code)

    def code(self, number: int) -> str:
        """NVML's name of an error's number."""
        return self._names.get(number, f"ERROR_{number}")

    def absurd(self, what: str, gpu: Gpu | None, value: object) -> None:
        """Keep that an answer cannot be true."""
        self._fail(what, gpu, f"the driver's answer cannot be true: {value!r}"[:160])

    def number(self, what: str, gpu: Gpu, most: int, function: str, *arguments: Any) -> int | None:
        """A whole number between 0 and `most`, or None."""
        value = self.ask(what, gpu, function, *arguments)
        if value is None:
            return None
        if isinstance(value, int) and 0 <= value <= most:
            return value
        self.absurd(what, gpu, value)
        return None

    def make(self, name: str) -> Any:
        """A structure or constant of the binding, or None if this version has none."""
        return getattr(self._nvml, name, None)

    def _fail(self, what: str, gpu: Gpu | None, why: str) -> None:
        told = self._failed.setdefault((what, why), [])
        if gpu is not None and gpu.index not in told:
            told.append(gpu.index)

    def untold(self) -> Iterator[Reading]:
        """What could not be asked, the same trouble of several GPUs together."""
        together: dict[tuple[str, tuple[int, ...]], list[str]] = {}
        for (what, why), indices in list(self._failed.items()):
            together.setdefault((why, tuple(indices)), []).append(what)
        self._failed.clear()
        for (why, where), whats in together.items():
            of = f" of GPU {', '.join(map(str, where))}" if where else ""
            yield Unchecked(f"{', '.join(whats)}{of}", why)
