"""Imports and tries things inside the target interpreter (`check --deep`): a process with a time limit for each.

Nothing of the target runs in our own process. What a failing probe printed is yielded as an `Output`, so that the rules
for logs read it like a pasted traceback; the facts say how each probe ended. A probe that needs what another one showed
to be broken is not tried: it would only tell the same again.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping, Sequence

from msgspec import Struct

from diagnose.model import Fact, Output, Reading, Step, Unchecked
from diagnose.sources import probes
from diagnose.sources.attempt import Attempt, Command, attempt, attempt_all, supervised
from diagnose.sources.probes import PACKAGES, Package

MOST_DEVICES = 16
OLDEST = (3, 6)
LEAST_SECONDS = 3.0
"""With less time than this left nothing more is begun."""

_QUIET = {
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "PYTHONFAULTHANDLER": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "UNSLOTH_DISABLE_STATISTICS": "1",
    "WANDB_MODE": "disabled",
}
"""What every probe is told: leave no files, do not use the network, report nothing, print the stack when you crash."""

_SCRATCH = ("TMPDIR", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "MPLCONFIGDIR", "VLLM_CACHE_ROOT", "FLASHINFER_WORKSPACE_BASE")  # fmt: skip
"""Where libraries write when they are imported: into a folder that is removed afterwards."""


class Limits(Struct, frozen=True):
    """Seconds that a probe may take, by kind, and all of them together. `torch` is long: a cold disk is no fault."""

    start: float = 20.0
    torch: float = 60.0
    device: float = 60.0
    collective: float = 60.0
    package: float = 60.0
    heavy: float = 120.0
    total: float = 300.0


class _Bench(Struct, frozen=True):
    """What every probe needs: the interpreter, its environment, where it runs, and until when."""

    interpreter: str
    environ: dict[str, str]
    folder: str
    scratch: str
    limits: Limits
    mark: str
    until: float

    def command(self, code: str, *options: str) -> Command:
        words = (self.interpreter, *options, "-c", probes.program(code))
        return Command(words, self.environ)


class _Tried(Struct, frozen=True):
    """A probe that was made: its name in facts, what it does in words, and how it ended."""

    name: str
    what: str
    attempt: Attempt

    @property
    def origin(self) -> str:
        return f"deep: {self.what}"


def read(
    interpreter: str,
    environ: Mapping[str, str],
    installed: Mapping[str, str],
    gpu_count: int,
    folder: str,
    limits: Limits | None = None,
) -> Iterator[Reading]:
    """Try what is installed (distribution → version) in `interpreter`, as it would run from `folder`.

    `environ` is the environment that the user's programs get; `gpu_count` is what the driver listed. A fact per probe is
    `probe.<name>.result`; see the catalogue of facts for the others.
    """
    limits = limits or Limits()
    scratch = tempfile.mkdtemp(prefix="llmdoctor-")
    mark = secrets.token_hex(8)
    settings = {**environ, **_QUIET, **dict.fromkeys(_SCRATCH, scratch)}
    settings.setdefault("NCCL_DEBUG", "WARN")
    bench = _Bench(interpreter, settings, folder, scratch, limits, mark, time.monotonic() + limits.total)
    try:
        with supervised(mark):
            yield from _read(bench, installed, gpu_count)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _read(bench: _Bench, installed: Mapping[str, str], gpu_count: int) -> Iterator[Reading]:
    if not (os.path.isdir(bench.folder) and os.access(bench.folder, os.X_OK)):
        yield Unchecked("the deep checks", f"the folder {bench.folder} cannot be entered")
        return
    if not (yield from _starts(bench)):
        return
    torch, built_for_gpu = yield from _torch(bench, installed)
    devices = 0
    if torch == "ok":
        devices = yield from _cuda(bench, gpu_count, built_for_gpu)
        yield from _products(bench, devices)
        yield from _collectives(bench, devices, gpu_count)
    yield from _packages(bench, installed, torch, devices > 0)


def _try(
    bench: _Bench, what: str, commands: Sequence[Command], seconds: float
) -> Generator[Reading, None, list[Attempt] | None]:
    """Run what belongs to one probe; ends with how each process ended, or None if there was no time for it."""
    yield Step(what)
    left = bench.until - time.monotonic()
    if left < min(LEAST_SECONDS, seconds):
        yield Unchecked(what, f"the {bench.limits.total:g} s for all deep checks were used up")
        return None
    tried = attempt_all(commands, bench.folder, min(seconds, left), bench.mark)
    if left < seconds and any(item.result == "hang" for item in tried):
        yield Unchecked(what, f"it was not done within the {left:.0f} s that were left for the deep checks")
        return None
    return tried


def _probe(bench: _Bench, name: str, what: str, code: str, seconds: float) -> Generator[Reading, None, _Tried | None]:
    """Make one probe and tell how it ended; ends with what was tried, or None."""
    tried = yield from _try(bench, what, [bench.command(code)], seconds)
    if tried is None:
        return None
    made = _Tried(name, what, tried[0])
    yield from _ending(made)
    return made


def _ending(made: _Tried) -> Iterator[Reading]:
    """The facts of a probe, and what it printed if it did not end well."""
    yield from _facts(f"probe.{made.name}", made)
    if made.attempt.result != "ok" and made.attempt.text.strip():
        yield Output(made.origin, made.attempt.text)


def _facts(prefix: str, made: _Tried) -> Iterator[Fact]:
    tried = made.attempt
    yield Fact(f"{prefix}.result", tried.result, made.origin)
    yield Fact(f"{prefix}.seconds", tried.seconds, made.origin)
    if tried.signal:
        yield Fact(f"{prefix}.signal", tried.signal, made.origin)
    for key in ("exception", "message"):
        if tried.result == "failed" and tried.told.get(key):
            yield Fact(f"{prefix}.{key}", tried.told[key], made.origin)
    for key in ("module", "statement"):
        if tried.told.get(key):
            yield Fact(f"{prefix}.{key}", tried.told[key], made.origin)
    frame = where_it_was(tried.text) if tried.result in ("hang", "signal") else ""
    if frame:
        yield Fact(f"{prefix}.frame", frame, made.origin)


_THREAD = re.compile(
    r"^(?:\[rank\d+\]: )?(?:Current thread|Thread) 0x[0-9a-f]+.*\(most recent call first\):", re.MULTILINE
)
_FRAME = re.compile(
    r'^(?:\[rank\d+\]: )?  File "(?P<file>[^"\n]{1,500})", line (?P<line>\d+) in (?P<function>.{1,200})$', re.MULTILINE
)
_INSTALLED = re.compile(r"^.*/(?:site|dist)-packages/|^.*/lib(?:64)?/(?=python\d)")


def where_it_was(text: str) -> str:
    """The innermost frame of a stack that faulthandler printed: `torch/__init__.py:321 in _load_global_deps`, or ''.

    Frames of the import system and of the probe itself are passed over, as long as there are others.
    """
    threads = list(_THREAD.finditer(text))
    if not threads:
        return ""
    current = next((found for found in threads if "Current thread" in found[0]), threads[-1])
    for found in _FRAME.finditer(text, current.end()):
        if not found["file"].startswith("<"):
            return f"{_INSTALLED.sub('', found['file'])}:{found['line']} in {found['function']}"
    return ""


def _starts(bench: _Bench) -> Generator[Reading, None, bool]:
    """Whether the interpreter starts at all; if not, whether it does without its start-up files. Ends with yes or no."""
    what = "start the interpreter"
    yield Step(what)
    tried = attempt(bench.command(probes.START), bench.folder, bench.limits.start, bench.mark)
    made = _Tried("python", what, tried)
    yield from _ending(made)
    if tried.refused:
        yield Fact("probe.python.refused", tried.refused, made.origin)
        yield Unchecked("the deep checks", f"{bench.interpreter} cannot be started: {tried.refused}")
        return False
    if tried.result != "ok":
        yield Step("start the interpreter without its start-up files")
        bare = attempt(
            bench.command(probes.START, "-X", "faulthandler", "-I", "-S"), bench.folder, bench.limits.start, bench.mark
        )
        yield Fact("probe.python_bare.result", bare.result, "deep: start the interpreter with -I -S")
        yield Unchecked("the deep checks", f"{bench.interpreter} does not start ({_in_words(tried)})")
        return False
    said = next((line.strip() for line in tried.text.splitlines() if line.strip()), "")
    if said:
        yield Fact("probe.python.says", said[:300], made.origin)
    version = str(tried.told.get("python", ""))
    parts = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if parts < OLDEST:
        yield Unchecked("the deep checks", f"the interpreter is Python {version or 'of an unknown version'}; they need 3.6 or newer")  # fmt: skip
        return False
    return True


def _in_words(tried: Attempt) -> str:
    if tried.result == "hang":
        return f"no end after {tried.seconds:.0f} s"
    return tried.signal or str(tried.told.get("exception") or "it ended with an error")


_TORCH_FACTS = {
    "runtime_version": "torch.runtime_version",
    "runtime_cuda": "torch.runtime_cuda",
    "runtime_hip": "torch.runtime_hip",
    "cxx11_abi": "torch.runtime_cxx11_abi",
    "arch_list": "torch.arch_list",
    "file": "torch.runtime_file",
    "available": "cuda.available",
    "device_count": "torch.runtime_device_count",
    "cudnn": "torch.runtime_cudnn",
    "nccl": "torch.runtime_nccl",
}


def _torch(bench: _Bench, installed: Mapping[str, str]) -> Generator[Reading, None, tuple[str, bool]]:
    """Import torch. Ends with how that went (ok, failed, hang, signal, absent, unknown), and if it is built for GPUs."""
    what = "import torch"
    tried = yield from _try(bench, what, [bench.command(probes.TORCH)], bench.limits.torch)
    if tried is None:
        return "unknown", False
    made = _Tried("torch", what, tried[0])
    if made.attempt.result == "ok" and made.attempt.told.get("absent"):
        yield Fact("probe.torch.result", "absent", made.origin)
        yield Fact("probe.torch.listed", "torch" in installed, made.origin)
        needed_by = sorted(
            {name for row in PACKAGES if row.torch == "must" and not row.lazy for name in row.distributions}
            & set(installed)
        )
        if needed_by:
            yield Fact("probe.torch.needed_by", ", ".join(needed_by), made.origin)
        return "absent", False
    yield from _ending(made)
    yield from _told(made)
    told = made.attempt.told
    return made.attempt.result, bool(told.get("runtime_cuda") or told.get("runtime_hip"))


def _told(made: _Tried) -> Iterator[Fact]:
    """What a probe of torch answered, under the names of the catalogue."""
    for key, value in made.attempt.told.items():
        if key.startswith("device."):
            yield Fact(f"torch.{key}", value, made.origin)
        elif key in _TORCH_FACTS and value != "":
            yield Fact(_TORCH_FACTS[key], value, made.origin)


def _cuda(bench: _Bench, gpu_count: int, built_for_gpu: bool) -> Generator[Reading, None, int]:
    """Initialise CUDA (or HIP). Ends with how many devices torch sees and can use."""
    hidden = _all_hidden(bench.environ)
    yield Fact("probe.cuda.hidden", hidden, "environment")
    wanted = gpu_count > 0 and built_for_gpu and not hidden
    what = "initialise CUDA in torch"
    made = yield from _probe(bench, "cuda", what, f"WANTED = {wanted}\n{probes.CUDA}", bench.limits.device)
    if made is None:
        return 0
    yield from _told(made)
    tried = made.attempt
    if tried.told.get("cudnn.exception"):
        yield Fact("probe.cudnn.result", "failed", made.origin)
        yield Fact("probe.cudnn.message", tried.told.get("cudnn.message", ""), made.origin)
        if tried.result == "ok":
            yield Output(made.origin, tried.text)
    count = tried.told.get("device_count", 0)
    return min(count, MOST_DEVICES) if tried.result == "ok" and isinstance(count, int) else 0


def _all_hidden(environ: Mapping[str, str]) -> bool:
    """Whether a variable hides every GPU from CUDA or HIP: an empty list, or one that begins with no device."""
    values = (environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"))
    return any(value is not None and (not value.strip() or value.strip().startswith("-")) for value in values)


def _products(bench: _Bench, devices: int) -> Generator[Reading, None, None]:
    """A small product in every dtype, on the CPU and on every device, compared with the same on the CPU."""
    for device in ("cpu", *(f"cuda:{index}" for index in range(devices))):
        what = f"multiply on {device}"
        code = f"DEVICE = {device!r}\n{probes.PRODUCT}"
        tried = yield from _try(bench, what, [bench.command(code)], bench.limits.device)
        if tried is not None:
            yield from _product(_Tried(device.replace(":", ""), what, tried[0]), device)


def _product(made: _Tried, device: str) -> Iterator[Reading]:
    tried = made.attempt
    results = {str(key)[: -len(".result")]: str(value) for key, value in tried.told.items() if key.endswith(".result")}
    doing = str(tried.told.get("doing", ""))
    if tried.result != "ok":
        if not doing:
            yield Unchecked(made.what, f"the probe did not get that far ({_in_words(tried)})")
        elif doing not in results:
            results[doing] = tried.result
    for dtype, result in results.items():
        prefix = f"product.{made.name}-{dtype}"
        yield Fact(f"{prefix}.result", result, made.origin)
        yield Fact(f"{prefix}.device", device, made.origin)
        yield Fact(f"{prefix}.dtype", dtype, made.origin)
        for key, name in (("off", "off"), ("message", "message")):
            if tried.told.get(f"{dtype}.{key}", "") != "":
                yield Fact(f"{prefix}.{name}", str(tried.told[f"{dtype}.{key}"]), made.origin)
        if result == "signal":
            yield Fact(f"{prefix}.signal", tried.signal, made.origin)
    if any(result not in ("ok", "wrong") for result in results.values()) and tried.text.strip():
        yield Output(made.origin, tried.text)


def _collectives(bench: _Bench, devices: int, gpu_count: int) -> Generator[Reading, None, None]:
    """A sum over processes: gloo on the CPU, NCCL on the devices; alone first, then all of them together."""
    wanted = [("gloo", 1), ("gloo", 2)] if max(devices, gpu_count) > 1 else [("gloo", 1)]
    wanted += [("nccl", count) for count in sorted({1, devices}) if devices]
    broken: set[str] = set()
    for backend, ranks in wanted:
        what = f"a {backend} collective of {ranks} process{'es' if ranks > 1 else ''}"
        if backend in broken:
            yield Unchecked(what, f"{backend} does not work in one process")
            continue
        commands = [_rank(bench, backend, rank, ranks) for rank in range(ranks)]
        tried = yield from _try(bench, what, commands, bench.limits.collective)
        if tried is None:
            continue
        if tried[0].told.get("skipped"):
            broken.add(backend)
            continue
        made = _Tried(f"{backend}-{ranks}", what, _together(tried))
        if made.attempt.result != "ok" and ranks == 1:
            broken.add(backend)
        yield from _facts(f"collective.{made.name}", made)
        yield Fact(f"collective.{made.name}.backend", backend, made.origin)
        yield Fact(f"collective.{made.name}.processes", ranks, made.origin)
        if made.attempt.result not in ("ok", "wrong") and made.attempt.text.strip():
            yield Output(made.origin, made.attempt.text)


def _rank(bench: _Bench, backend: str, rank: int, ranks: int) -> Command:
    """One process of a collective. They meet at a file, so no address and no port is needed."""
    meeting = os.path.join(bench.scratch, f"{backend}-{ranks}")
    seconds = max(int(bench.limits.collective * 0.6), 1)  # the library's own limit first: it says more
    given = f"BACKEND, RANK, RANKS, MEETING, SECONDS = {(backend, rank, ranks, meeting, seconds)!r}"
    return bench.command(f"{given}\n{probes.COLLECTIVE}")


def _together(tried: Sequence[Attempt]) -> Attempt:
    """How a collective ended: a process that failed by itself tells more than those that waited for it."""
    worst = next(
        (item for result in ("signal", "failed", "hang") for item in tried if item.result == result),
        next((item for item in tried if item.told.get("right") is False), tried[0]),
    )
    result = "wrong" if worst.result == "ok" and worst.told.get("right") is False else worst.result
    seconds = max(item.seconds for item in tried)
    if len(tried) == 1:
        return Attempt(result, seconds, worst.text, worst.told, worst.signal)
    said = [
        f"[rank{rank}]: {line}"
        for rank, item in enumerate(tried)
        if item.result == worst.result
        for line in item.text.splitlines()
    ]
    return Attempt(result, seconds, "\n".join(said), worst.told, worst.signal)


def _packages(bench: _Bench, installed: Mapping[str, str], torch: str, cuda: bool) -> Generator[Reading, None, None]:
    """Import what is installed, one after the other."""
    failed: set[str] = set()
    for row in PACKAGES:
        distribution = next((name for name in row.distributions if name in installed), "")
        if not distribution or (row.also and row.also not in installed):
            continue
        obstacle = _obstacle(row, torch, cuda, failed)
        if obstacle:
            yield Unchecked(row.what, obstacle)
            continue
        seconds = bench.limits.heavy if row.heavy else bench.limits.package
        made = yield from _probe(bench, row.probe, row.what, probes.importing(row), seconds)
        if made is None:
            continue
        yield Fact(f"probe.{row.probe}.package", distribution, made.origin)
        yield Fact(f"probe.{row.probe}.lazy", row.lazy, made.origin)
        if made.attempt.result != "ok" and not row.lazy:
            failed.add(distribution)
        if row.probe == "numpy" and made.attempt.result == "ok" and torch == "ok":
            what = "share memory between torch and NumPy"
            yield from _probe(bench, "numpy-bridge", what, probes.NUMPY_BRIDGE, seconds)


def _obstacle(row: Package, torch: str, cuda: bool, failed: set[str]) -> str:
    """Why a package is not tried, or ''."""
    if torch != "ok" and (row.torch == "must" or (row.torch == "may" and torch != "absent")):
        return {"absent": "torch is not there", "unknown": "it is not known whether torch imports"}.get(torch, "torch does not import")  # fmt: skip
    broken = next((name for name in (*row.distributions, row.also) if name in failed), "")
    if broken:
        return f"{broken} does not import"
    return "it is made for a GPU, and torch has none to use here" if row.gpu and not cuda else ""
