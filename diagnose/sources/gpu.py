"""The GPUs and their driver: through NVML (pynvml), with the kernel's files and nvidia-smi as second opinions.

Runs in a child process (sources/child.py): a call may hang in the kernel or crash, and what was told before it is kept.
So the cheap and certain comes first, a step is told before each group of calls, and one device never hides the others.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from msgspec import Struct

from diagnose.model import Fact, Output, Reading, Step, Unchecked
from diagnose.sources import devices
from diagnose.sources.devices import NVIDIA, Card
from diagnose.sources.tree import Tree
from diagnose.sources.visible import Device, see

MOST_GPUS = 64
MOST_LINKS = 36
MOST_INSTANCES = 16
MOST_PAIRS = 16
"""Among how many GPUs every pair is asked for direct copies."""
PATIENCE = 3.0
"""For how many seconds one GPU may be silent before the others go on without it. Waking one takes a second or two."""
SMI_SECONDS = 3.0
LARGEST = 64 << 40
"""More bytes than a GPU can have: an answer above it is garbage."""

_SIGNS = ("/dev/nvidiactl", "/dev/nvidia0", "/proc/driver/nvidia/version", "/usr/lib/wsl/lib/libnvidia-ml.so.1")
_COMPUTE_MODES = {0: "default", 1: "exclusive-thread", 2: "prohibited", 3: "exclusive-process"}
_FABRIC = {0: "not-supported", 1: "not-started", 2: "in-progress", 3: "completed"}
_REASONS = (
    (0x2, "application-clocks"),
    (0x4, "power-cap"),
    (0x8, "hardware-slowdown"),
    (0x10, "sync-boost"),
    (0x20, "thermal"),
    (0x40, "hardware-thermal"),
    (0x80, "power-brake"),
    (0x100, "display-clocks"),
)
_NOTHING = ("LIBRARY_NOT_FOUND", "DRIVER_NOT_LOADED", "BINDING_MISSING")
"""Errors that a machine without NVIDIA GPUs gives too."""
_GONE = ("GPU_IS_LOST", "RESET_REQUIRED", "GPU_NOT_FOUND")
_UNSUPPORTED = ("NOT_SUPPORTED", "VGPU_ECC_NOT_SUPPORTED")
_OLD = ("FUNCTION_NOT_FOUND", "ARGUMENT_VERSION_MISMATCH", "DEPRECATED")


def read(environ: Mapping[str, str], root: str = "/") -> Iterator[Reading]:
    """Facts about the driver and the GPUs. `environ` is the environment that a program would get; `root` is for tests."""
    tree = Tree(root)
    yield Step("reading the PCI bus and the device files")
    found = devices.cards(tree)
    box = devices.container(tree, environ)
    yield Fact("driver.container", box, "/proc/1")
    yield from devices.bus(tree, found)
    yield from devices.kernel_module(tree)
    yield from devices.device_files(tree)
    yield from devices.windows_subsystem(tree)
    tegra = tree.exists("/etc/nv_tegra_release") or tree.exists("/sys/module/nvgpu")
    yield Fact("driver.tegra", tegra, "/etc/nv_tegra_release")
    yield from devices.in_container(environ)

    seen = bool(devices.gpus_of(NVIDIA, found)) or any(tree.exists(name) for name in _SIGNS)
    if seen:
        yield from _around_nvidia(tree, environ, box, "/sys/bus/pci/devices")
    driver = _Driver()
    yield Step("loading NVML")
    yield from driver.start()
    try:
        if driver.works:
            if not seen:
                yield from _around_nvidia(tree, environ, box, "NVML")
            yield from _nvidia(tree, environ, driver, found, box)
        elif seen or driver.error not in _NOTHING:
            if not seen:
                yield from _around_nvidia(tree, environ, box, "NVML")
            yield from _without_nvml(environ, driver)
        else:
            yield from _others(tree, environ, found)
    finally:
        yield from driver.untold()


def _around_nvidia(tree: Tree, environ: Mapping[str, str], box: str, origin: str) -> Iterator[Reading]:
    """What belongs to NVIDIA GPUs and is known without asking them."""
    yield Fact("gpu.vendor", "nvidia", origin)
    yield from devices.cuda_library(tree, environ)
    if box == "none":
        yield from devices.container_tools(tree)


def _others(tree: Tree, environ: Mapping[str, str], found: Sequence[Card]) -> Iterator[Reading]:
    """AMD, Ascend, Gaudi, Intel or Apple, in this order; or none at all."""
    on_bus = {name: len(devices.gpus_of(vendor, found)) for name, vendor in devices.MAKERS}
    if on_bus["amd"] or tree.exists("/dev/kfd"):
        yield Fact("gpu.vendor", "amd", "/sys/bus/pci/devices")
        yield from devices.amd(tree, environ)
    elif on_bus["ascend"] or tree.exists("/dev/davinci_manager"):
        yield Fact("gpu.vendor", "ascend", "/sys/bus/pci/devices")
        yield from devices.ascend(tree)
    elif on_bus["habana"]:
        yield Fact("gpu.vendor", "habana", "/sys/bus/pci/devices")
        yield Fact("gpu.count", on_bus["habana"], "/sys/bus/pci/devices")
    elif on_bus["intel"]:
        yield Fact("gpu.vendor", "intel", "/sys/bus/pci/devices")
        yield from devices.intel(found, tree)
    elif tree.root == "/" and platform.system() == "Darwin" and platform.machine() == "arm64":
        yield Fact("gpu.vendor", "apple", "platform")
        yield Fact("gpu.count", 1, "platform")
    else:
        yield Fact("gpu.vendor", "none", "/sys/bus/pci/devices")
        yield Fact("gpu.count", 0, "/sys/bus/pci/devices")


# --- NVML


class _Gpu(Struct, eq=False):
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


class _Driver:
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
        try:
            pynvml.nvmlInit()
        except Exception as error:
            self.error = self.name_of(error)
            return
        self.works = True
        yield Step("asking the driver for its version")
        yield from self._versions()

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

    def ask(self, what: str, gpu: _Gpu | None, function: str, *arguments: Any) -> Any:
        """The answer of one function, or None. What is not supported is no trouble; everything else is told."""
        return self.first(what, gpu, (function, *arguments))

    def first(self, what: str, gpu: _Gpu | None, *calls: tuple[Any, ...]) -> Any:
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
        if error in _GONE and gpu is not None:
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

    def absurd(self, what: str, gpu: _Gpu | None, value: object) -> None:
        """Keep that an answer cannot be true."""
        self._fail(what, gpu, f"the driver's answer cannot be true: {value!r}"[:160])

    def number(self, what: str, gpu: _Gpu, most: int, function: str, *arguments: Any) -> int | None:
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

    def _fail(self, what: str, gpu: _Gpu | None, why: str) -> None:
        told = self._failed.setdefault((what, why), [])
        if gpu is not None and gpu.index not in told:
            told.append(gpu.index)

    def untold(self) -> Iterator[Reading]:
        """What could not be asked, the same trouble of several GPUs together."""
        together: dict[tuple[str, tuple[int, ...]], list[str]] = {}
        for (what, why), indices in self._failed.items():
            together.setdefault((why, tuple(indices)), []).append(what)
        self._failed.clear()
        for (why, where), whats in together.items():
            of = f" of GPU {', '.join(map(str, where))}" if where else ""
            yield Unchecked(f"{', '.join(whats)}{of}", why)


def _nvidia(
    tree: Tree, environ: Mapping[str, str], driver: _Driver, found: Sequence[Card], box: str
) -> Iterator[Reading]:
    yield from _libraries(tree, driver)
    yield Step("asking how many GPUs there are")
    count = driver.ask("how many GPUs there are", None, "nvmlDeviceGetCount")
    if count is None or count > MOST_GPUS:
        if count is not None:
            driver.absurd("how many GPUs there are", None, count)
        yield from _second_opinion(environ, driver)
        return
    yield Fact("gpu.count", count, "NVML")
    yield from _missing_gpus(environ, driver, found, box, count)
    gpus = [_Gpu(index) for index in range(count)]
    for gpu in gpus:
        yield from _patiently(gpu, _identity(driver, gpu, environ))
    yield from _kinds(gpus)
    yield from _visible(environ, gpus)
    for gpu in gpus:
        if not gpu.gone:
            yield from _patiently(gpu, _details(driver, gpu, tree))
    for gpu in gpus:
        if gpu.gone:
            yield Fact(f"gpu.{gpu.index}.error", gpu.error, "NVML")
    yield from _links(gpus)
    yield from _fabric_manager(tree, found, box)
    yield Step("asking which GPUs reach each other")
    yield from _pairs(driver, gpus)


def _libraries(tree: Tree, driver: _Driver) -> Iterator[Reading]:
    """The version of the user libraries against that of the kernel module."""
    library = _own_library()
    if library:
        yield Fact("driver.library", library, "libnvidia-ml.so")
    kernel = driver.version or _module_version(tree)
    if library and kernel:
        yield Fact("driver.library_differs", library != kernel, "libnvidia-ml.so")


def _own_library() -> str:
    """The version of the library that this process loaded: the name of the file behind libnvidia-ml.so.1."""
    maps = Tree().text("/proc/self/maps", 1 << 20) or ""
    return devices.loaded_library(maps)


def _module_version(tree: Tree) -> str:
    return next(
        (
            str(item.value)
            for item in devices.kernel_module(tree)
            if isinstance(item, Fact) and item.name == "driver.module_version"
        ),
        "",
    )


def _missing_gpus(
    environ: Mapping[str, str], driver: _Driver, found: Sequence[Card], box: str, count: int
) -> Iterator[Reading]:
    """GPUs that NVIDIA's kernel driver has on the bus and NVML does not list. A container or job is given some only."""
    if box != "none" or environ.get("SLURM_JOB_ID"):
        return
    excluded = driver.call("nvmlGetExcludedDeviceCount")[0] or 0
    bound = sum(card.driver == "nvidia" for card in devices.gpus_of(NVIDIA, found))
    yield Fact("driver.gpus_missing", max(bound - count - excluded, 0), "/sys/bus/pci/devices")


def _patiently(gpu: _Gpu, readings: Iterator[Reading]) -> Iterator[Reading]:
    """What is told of one GPU, as it comes. If it falls silent it counts as gone, so that it does not hide the others.

    The call that hangs stays behind in its thread; the process ends without waiting for it.
    """
    told: SimpleQueue[Reading | None] = SimpleQueue()

    def work() -> None:
        try:
            for reading in readings:
                told.put(reading)
        except Exception as error:  # whatever one GPU brings about is told, and ends with it
            told.put(Unchecked(f"GPU {gpu.index}", f"reading it failed: {type(error).__name__}: {error}"[:300]))
        told.put(None)

    Thread(target=work, daemon=True).start()
    doing = ""
    while True:
        try:
            reading = told.get(timeout=PATIENCE)
        except Empty:
            gpu.gone, gpu.error = True, "NO_ANSWER"
            yield Unchecked(f"GPU {gpu.index}", f"no answer within {PATIENCE:g} s, while {doing}")
            return
        if reading is None:
            return
        doing = reading.doing if isinstance(reading, Step) else doing
        yield reading


def _details(driver: _Driver, gpu: _Gpu, tree: Tree) -> Iterator[Reading]:
    for doing, question in _QUESTIONS:
        if not gpu.gone:
            yield Step(f"asking GPU {gpu.index} for {doing}")
            yield from question(driver, gpu, tree)


def _identity(driver: _Driver, gpu: _Gpu, environ: Mapping[str, str]) -> Iterator[Reading]:
    """Name, compute capability, memory and MIG mode: what everything else builds upon."""
    index = gpu.index
    yield Step(f"asking GPU {index} for its name and memory")
    gpu.handle, error = driver.call("nvmlDeviceGetHandleByIndex", index)
    if error:
        gpu.gone, gpu.error = True, error
        return
    name = driver.ask("the name", gpu, "nvmlDeviceGetName", gpu.handle)
    if isinstance(name, str) and name.strip() and name.isprintable():
        gpu.name = name.strip()[:120]
        yield Fact(f"gpu.{index}.name", gpu.name, "NVML")
    elif name is not None:
        driver.absurd("the name", gpu, name)
    capability = driver.ask("the compute capability", gpu, "nvmlDeviceGetCudaComputeCapability", gpu.handle)
    if capability is not None:
        major, minor = capability
        if 1 <= major <= 99 and 0 <= minor <= 99:
            gpu.capability = f"{major}.{minor}"
            yield Fact(f"gpu.{index}.compute_capability", gpu.capability, "NVML")
        else:
            driver.absurd("the compute capability", gpu, f"{major}.{minor}")
    yield from _memory(driver, gpu)
    yield from _mig(driver, gpu, environ)


def _memory(driver: _Driver, gpu: _Gpu) -> Iterator[Reading]:
    """Total, used and free bytes. The second version of the call leaves out what the driver keeps for itself."""
    call = ("nvmlDeviceGetMemoryInfo", gpu.handle)
    version = driver.make("nvmlMemory_v2")
    memory = driver.first("the memory", gpu, *(((*call, version), call) if version else (call,)))
    if memory is None:
        if "the memory" in gpu.unsupported:
            # The GPU has no memory of its own: it uses the machine's (GB10, Jetson).
            yield Fact(f"gpu.{gpu.index}.memory_shared", True, "NVML")
        return
    total, used, free = int(memory.total), int(memory.used), int(memory.free)
    if not (0 < total <= LARGEST and used <= total and free <= total):
        driver.absurd("the memory", gpu, f"{used} of {total} bytes used, {free} free")
        return
    gpu.memory = total
    head = f"gpu.{gpu.index}"
    yield Fact(f"{head}.memory", total, "NVML")
    yield Fact(f"{head}.memory_used", used, "NVML")
    yield Fact(f"{head}.memory_free", free, "NVML")
    yield Fact(f"{head}.memory_used_percent", round(100 * used / total), "NVML")


def _mig(driver: _Driver, gpu: _Gpu, environ: Mapping[str, str]) -> Iterator[Reading]:
    """MIG mode and its instances; UUIDs only if the environment names devices by them."""
    by_name = environ.get("CUDA_VISIBLE_DEVICES", "").strip().startswith(("GPU-", "MIG-"))
    uuid = driver.ask("the UUID", gpu, "nvmlDeviceGetUUID", gpu.handle) if by_name else None
    uuid = uuid[:80] if isinstance(uuid, str) and uuid.isprintable() else ""
    if uuid:
        yield Fact(f"gpu.{gpu.index}.uuid", uuid, "NVML")
    gpu.device = Device(uuid)
    mode = driver.ask("the MIG mode", gpu, "nvmlDeviceGetMigMode", gpu.handle)
    if mode is None:
        return
    current, pending = mode
    if current not in (0, 1) or pending not in (0, 1):
        driver.absurd("the MIG mode", gpu, mode)
        return
    yield Fact(f"gpu.{gpu.index}.mig", current == 1, "NVML")
    yield Fact(f"gpu.{gpu.index}.mig_pending", pending != current, "NVML")
    if current == 1:
        instances, profiles, sizes = _instances(driver, gpu, by_name)
        gpu.device = Device(uuid, tuple(instances))
        yield Fact(f"gpu.{gpu.index}.mig_instances", len(profiles), "NVML")
        if profiles:
            yield Fact(f"gpu.{gpu.index}.mig_profiles", ", ".join(profiles), "NVML")
        if sizes:
            yield Fact(f"gpu.{gpu.index}.mig_memory", min(sizes), "NVML")


def _instances(driver: _Driver, gpu: _Gpu, by_name: bool) -> tuple[list[str], list[str], list[int]]:
    """The UUIDs (if wanted), profiles (`3g.40gb`) and memory of the MIG instances of a GPU."""
    most = driver.number("the MIG instances", gpu, MOST_INSTANCES, "nvmlDeviceGetMaxMigDeviceCount", gpu.handle) or 0
    uuids: list[str] = []
    profiles: list[str] = []
    sizes: list[int] = []
    for place in range(most):
        handle, error = driver.call("nvmlDeviceGetMigDeviceHandleByIndex", gpu.handle, place)
        if error:  # a place without an instance
            continue
        name = driver.ask("the name of a MIG instance", gpu, "nvmlDeviceGetName", handle)
        found = re.search(r"\b(?:\d+c\.)?\d+g\.\d+gb(?:\+[\w.]+)?", str(name))
        profiles.append(found[0] if found else "?")
        memory = driver.ask("the memory of a MIG instance", gpu, "nvmlDeviceGetMemoryInfo", handle)
        if memory is not None and 0 < int(memory.total) <= LARGEST:
            sizes.append(int(memory.total))
        uuid = driver.ask("the UUID of a MIG instance", gpu, "nvmlDeviceGetUUID", handle) if by_name else None
        if isinstance(uuid, str) and uuid.isprintable():
            uuids.append(uuid[:80])
    return uuids, profiles, sizes


def _kinds(gpus: Sequence[_Gpu]) -> Iterator[Reading]:
    """Whether the GPUs are of one kind: mixed capabilities or memory sizes matter as soon as a model is spread."""
    names = [gpu.name for gpu in gpus if gpu.name]
    if names:
        kinds = list(dict.fromkeys(names))
        yield Fact("gpu.models", ", ".join(f"{names.count(kind)} x {kind}" for kind in kinds), "NVML")
    capabilities = [gpu.capability for gpu in gpus if gpu.capability]
    if len(gpus) > 1 and len(capabilities) == len(gpus):
        yield Fact("gpu.mixed_capability", len(set(capabilities)) > 1, "NVML")
        by_age = sorted(capabilities, key=lambda text: tuple(map(int, text.split("."))))
        yield Fact("gpu.capability_least", by_age[0], "NVML")
        yield Fact("gpu.capability_most", by_age[-1], "NVML")
    sizes = [gpu.memory for gpu in gpus if gpu.memory]
    if len(gpus) > 1 and len(sizes) == len(gpus):
        # Cards of one model differ by a few MiB; a tenth is another model.
        yield Fact("gpu.mixed_memory", min(sizes) < 0.9 * max(sizes), "NVML")
        yield Fact("gpu.memory_least", min(sizes), "NVML")
        yield Fact("gpu.memory_most", max(sizes), "NVML")


def _visible(environ: Mapping[str, str], gpus: Sequence[_Gpu]) -> Iterator[Reading]:
    """What CUDA_VISIBLE_DEVICES makes of the GPUs."""
    variable = "CUDA_VISIBLE_DEVICES"
    setting = environ.get(variable)
    if setting is not None:
        yield Fact("gpu.visible_setting", setting[:200], variable)
        yield Fact("gpu.visible_variable", variable, variable)
    if any(gpu.gone for gpu in gpus):
        return  # CUDA counts without a lost one, or fails altogether: what the numbers mean is not known
    seen = see(setting, [gpu.device for gpu in gpus])
    if setting is not None:
        yield Fact("gpu.visible_problem", seen.problem, variable)
        if seen.problem != "none":
            yield Fact("gpu.visible_entry", seen.entry[:80], variable)
    if seen.count is not None:
        yield Fact("gpu.visible_count", seen.count, variable if setting is not None else "NVML")


def _processes(driver: _Driver, gpu: _Gpu, tree: Tree) -> Iterator[Reading]:
    """Who holds memory on the GPU: by process, compute and graphics together."""
    held: dict[int, int] = {}
    known = False
    for kind in ("Compute", "Graphics"):
        listed = _listed(driver, gpu, kind)
        known = known or listed is not None
        for process in listed or ():
            pid, used = int(process.pid), process.usedGpuMemory
            used = int(used) if isinstance(used, int) and 0 <= used <= (gpu.memory or LARGEST) else 0
            if pid > 0:
                held[pid] = max(held.get(pid, 0), used)
    if not known:
        return
    head = f"gpu.{gpu.index}"
    yield Fact(f"{head}.holders", len(held), "NVML")
    if not held:
        return
    yield Fact(f"{head}.held", sum(held.values()), "NVML")
    pid = max(held, key=lambda item: held[item])
    name = devices.command(tree, pid)
    size = f", {held[pid] / (1 << 30):.1f} GiB" if held[pid] else ""
    yield Fact(f"{head}.holder", f"{name or 'process'} (pid {pid}{size})", "NVML")


def _listed(driver: _Driver, gpu: _Gpu, kind: str) -> list[Any] | None:
    """The processes of one kind, by the newest call that the driver knows."""
    calls = [(f"nvmlDeviceGet{kind}RunningProcesses{version}", gpu.handle) for version in ("_v3", "_v2")]
    answer = driver.first("the processes", gpu, *calls)
    return answer if isinstance(answer, list) else None


def _health(driver: _Driver, gpu: _Gpu, tree: Tree) -> Iterator[Reading]:
    """ECC mode and counters, retired pages, remapped rows."""
    head, handle = f"gpu.{gpu.index}", gpu.handle
    mode = driver.ask("the ECC mode", gpu, "nvmlDeviceGetEccMode", handle)
    if mode is not None and not all(item in (0, 1) for item in mode):
        driver.absurd("the ECC mode", gpu, mode)
    elif mode is not None:
        yield Fact(f"{head}.ecc", mode[0] == 1, "NVML")
        yield Fact(f"{head}.ecc_pending", mode[0] != mode[1], "NVML")
        if mode[0] == 1:
            for name, counter in (("ecc_uncorrected", 0), ("ecc_uncorrected_total", 1)):
                errors = driver.number(
                    "the ECC counters", gpu, 1 << 40, "nvmlDeviceGetTotalEccErrors", handle, 1, counter
                )
                if errors is not None:
                    yield Fact(f"{head}.{name}", errors, "NVML")
    rows = driver.ask("the remapped rows", gpu, "nvmlDeviceGetRemappedRows", handle)
    if rows is not None:
        _, uncorrectable, pending, failed = rows
        if uncorrectable <= 1 << 20 and pending in (0, 1) and failed in (0, 1):
            yield Fact(f"{head}.rows_remapped", uncorrectable, "NVML")
            yield Fact(f"{head}.remap_pending", pending == 1, "NVML")
            yield Fact(f"{head}.remap_failed", failed == 1, "NVML")
        else:
            driver.absurd("the remapped rows", gpu, rows)
    else:
        yield from _retired(driver, gpu)


def _retired(driver: _Driver, gpu: _Gpu) -> Iterator[Reading]:
    """Retired pages: what cards before Ampere have in place of remapped rows."""
    head = f"gpu.{gpu.index}"
    pages = driver.ask("the retired pages", gpu, "nvmlDeviceGetRetiredPages", gpu.handle, 1)
    if isinstance(pages, list):
        yield Fact(f"{head}.pages_retired", len(pages), "NVML")
    pending = driver.number("the retired pages", gpu, 1, "nvmlDeviceGetRetiredPagesPendingStatus", gpu.handle)
    if pending is not None:
        yield Fact(f"{head}.pages_pending", pending == 1, "NVML")


def _state(driver: _Driver, gpu: _Gpu, tree: Tree) -> Iterator[Reading]:
    """Compute mode, clocks, temperature, load, persistence and display."""
    head, handle = f"gpu.{gpu.index}", gpu.handle
    mode = driver.number("the compute mode", gpu, 3, "nvmlDeviceGetComputeMode", handle)
    if mode is not None:
        yield Fact(f"{head}.compute_mode", _COMPUTE_MODES[mode], "NVML")
    yield from _clocks(driver, gpu)
    heat = driver.number("the temperature", gpu, 200, "nvmlDeviceGetTemperature", handle, 0)
    if heat is not None:
        yield Fact(f"{head}.temperature", heat, "NVML")
    load = driver.ask("the load", gpu, "nvmlDeviceGetUtilizationRates", handle)
    if load is not None and 0 <= load.gpu <= 100:
        yield Fact(f"{head}.load_percent", int(load.gpu), "NVML")
    for name, what, function in (
        ("persistence", "the persistence mode", "nvmlDeviceGetPersistenceMode"),
        ("display", "the display", "nvmlDeviceGetDisplayActive"),
    ):
        flag = driver.number(what, gpu, 1, function, handle)
        if flag is not None:
            yield Fact(f"{head}.{name}", flag == 1, "NVML")


def _clocks(driver: _Driver, gpu: _Gpu) -> Iterator[Reading]:
    """What holds the clocks down. The call was renamed: the older name is asked, which every driver knows."""
    mask = driver.ask("what slows the clocks", gpu, "nvmlDeviceGetCurrentClocksThrottleReasons", gpu.handle)
    if mask is None:
        return
    if not 0 <= mask < 1 << 20:
        driver.absurd("what slows the clocks", gpu, mask)
        return
    head = f"gpu.{gpu.index}"
    reasons = [name for bit, name in _REASONS if mask & bit]
    yield Fact(f"{head}.slowed", ", ".join(reasons) or "none", "NVML")
    yield Fact(f"{head}.slowed_by_heat", bool(mask & 0x60), "NVML")
    yield Fact(f"{head}.slowed_by_power_brake", bool(mask & 0x80), "NVML")


def _connections(driver: _Driver, gpu: _Gpu, tree: Tree) -> Iterator[Reading]:
    """PCI address and link, NVLinks, and the state of the NVLink fabric."""
    head, handle = f"gpu.{gpu.index}", gpu.handle
    place = driver.ask("the PCI address", gpu, "nvmlDeviceGetPciInfo", handle)
    if place is not None and place.domain < 1 << 16 and place.bus < 256 and place.device < 32:
        yield Fact(f"{head}.pci", f"{place.domain:04x}:{place.bus:02x}:{place.device:02x}.0", "NVML")
    for name, function in (
        ("pcie_generation", "nvmlDeviceGetCurrPcieLinkGeneration"),
        ("pcie_generation_max", "nvmlDeviceGetMaxPcieLinkGeneration"),
        ("pcie_width", "nvmlDeviceGetCurrPcieLinkWidth"),
        ("pcie_width_max", "nvmlDeviceGetMaxPcieLinkWidth"),
    ):
        value = driver.number("the PCIe link", gpu, 64, function, handle)
        if value:
            yield Fact(f"{head}.{name}", value, "NVML")
    yield from _nvlinks(driver, gpu)
    yield from _fabric(driver, gpu)


def _nvlinks(driver: _Driver, gpu: _Gpu) -> Iterator[Reading]:
    known = 0
    for link in range(MOST_LINKS):
        active, error = driver.call("nvmlDeviceGetNvLinkState", gpu.handle, link)
        if error:  # the number of links is told by the first that does not exist
            if error in _GONE:
                gpu.gone, gpu.error = True, error
            break
        if active not in (0, 1):
            driver.absurd("the NVLinks", gpu, active)
            return
        known += 1
        gpu.links += active
    if known and not gpu.gone:
        yield Fact(f"gpu.{gpu.index}.nvlinks", gpu.links, "NVML")


def _links(gpus: Sequence[_Gpu]) -> Iterator[Reading]:
    """The most active NVLinks among cards of the same model: cards without a bridge have links that are never active."""
    for gpu in gpus:
        best = max((other.links for other in gpus if other.name == gpu.name and not other.gone), default=0)
        if gpu.name and best and not gpu.gone:
            yield Fact(f"gpu.{gpu.index}.nvlinks_best", best, "NVML")


def _fabric(driver: _Driver, gpu: _Gpu) -> Iterator[Reading]:
    import ctypes

    make = driver.make("c_nvmlGpuFabricInfo_v2_t")
    if make is None:
        return
    info = make()
    if driver.call("nvmlDeviceGetGpuFabricInfoV", gpu.handle, ctypes.byref(info))[1]:
        return  # drivers before 545 and cards without a fabric: there is nothing to know
    state = int(info.state)
    if state not in _FABRIC:
        driver.absurd("the NVLink fabric", gpu, state)
        return
    yield Fact(f"gpu.{gpu.index}.fabric", _FABRIC[state], "NVML")
    if state == 3:
        status = int(info.status)
        yield Fact(f"gpu.{gpu.index}.fabric_status", driver.code(status) if status else "SUCCESS", "NVML")


def _fabric_manager(tree: Tree, found: Sequence[Card], box: str) -> Iterator[Reading]:
    """Whether the Fabric Manager runs: asked only where there are NVSwitches and all processes are to be seen."""
    if box == "none" and any(card.vendor == NVIDIA and card.kind == devices.BRIDGE for card in found):
        yield Fact("driver.fabric_manager", devices.fabric_manager(tree), "/proc")


def _pairs(driver: _Driver, gpus: Sequence[_Gpu]) -> Iterator[Reading]:
    """Between how many pairs of GPUs direct copies are not possible, and how many sit on different CPU sockets."""
    usable = [gpu for gpu in gpus if not gpu.gone][:MOST_PAIRS]
    pairs = [(one, other) for at, one in enumerate(usable) for other in usable[at + 1 :]]
    without: list[str] = []
    reason = ""
    apart = 0
    asked = 0
    for one, other in pairs:
        status = driver.ask("direct copies between GPUs", one, "nvmlDeviceGetP2PStatus", one.handle, other.handle, 0)
        if isinstance(status, int) and 0 <= status <= 5:
            asked += 1
            if status:
                without.append(f"{one.index} and {other.index}")
                reason = reason or _NO_P2P[status]
        level = driver.ask(
            "how GPUs are connected", one, "nvmlDeviceGetTopologyCommonAncestor", one.handle, other.handle
        )
        apart += level == 50
    if asked:
        yield Fact("gpu.pairs", asked, "NVML")
        yield Fact("gpu.pairs_without_p2p", len(without), "NVML")
    if without:
        yield Fact("gpu.pair_without_p2p", without[0], "NVML")
        yield Fact("gpu.p2p_reason", reason, "NVML")
    if pairs:
        yield Fact("gpu.pairs_across_sockets", apart, "NVML")


_NO_P2P = {
    1: "chipset-not-supported",
    2: "gpu-not-supported",
    3: "topology-not-supported",
    4: "disabled-by-setting",
    5: "not-supported",
}

_QUESTIONS: tuple[tuple[str, Callable[[_Driver, _Gpu, Tree], Iterator[Reading]]], ...] = (
    ("the processes on it", _processes),
    ("its ECC counters and remapped memory", _health),
    ("its mode, clocks and temperature", _state),
    ("its PCIe link, NVLinks and fabric", _connections),
)


# --- without NVML


def _without_nvml(environ: Mapping[str, str], driver: _Driver) -> Iterator[Reading]:
    """There are NVIDIA GPUs and NVML does not answer: why, and what nvidia-smi says."""
    if driver.error:
        yield Fact("driver.error", driver.error, "NVML")
    library = _own_library()
    if library:
        yield Fact("driver.library", library, "libnvidia-ml.so")
    yield from _second_opinion(environ, driver)


def _second_opinion(environ: Mapping[str, str], driver: _Driver) -> Iterator[Reading]:
    """Ask nvidia-smi, in a process with a time limit of its own. What it prints when it fails meets the log rules."""
    import shutil
    import subprocess

    program = shutil.which("nvidia-smi", path=environ.get("PATH", os.defpath) + ":/usr/lib/wsl/lib")
    if program is None:
        yield Unchecked("the GPUs", f"NVML answers {driver.error or 'nothing'}, and there is no nvidia-smi")
        return
    yield Step("asking nvidia-smi")
    asked = "--query-gpu=index,name,memory.total,memory.used,driver_version"
    try:
        answer = subprocess.run(
            [program, asked, "--format=csv,noheader,nounits"],
            env=dict(environ), stdin=subprocess.DEVNULL, capture_output=True, timeout=SMI_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        yield Unchecked(
            "the GPUs", f"NVML answers {driver.error or 'nothing'}, and nvidia-smi did not end in {SMI_SECONDS:g} s"
        )
        return
    except (OSError, ValueError) as error:
        yield Unchecked("the GPUs", f"nvidia-smi cannot be run: {type(error).__name__}")
        return
    said = answer.stdout[: 1 << 16].decode("utf-8", "replace")
    complaint = (said + "\n" + answer.stderr[: 1 << 14].decode("utf-8", "replace")).strip()
    if answer.returncode:
        if complaint:
            yield Output("nvidia-smi", complaint[:4000])
        yield Unchecked("the GPUs", f"NVML answers {driver.error or 'nothing'}, and nvidia-smi fails too")
        return
    yield from _smi_rows(said)


def _smi_rows(said: str) -> Iterator[Reading]:
    count = 0
    for line in said.splitlines()[:MOST_GPUS]:
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != 5 or not re.fullmatch(r"\d{1,3}", cells[0], re.ASCII):
            continue
        index, name, total, used, version = cells
        count += 1
        yield Fact(f"gpu.{index}.name", name[:120], "nvidia-smi")
        if re.fullmatch(r"\d{1,9}", total, re.ASCII) and re.fullmatch(r"\d{1,9}", used, re.ASCII):
            yield Fact(f"gpu.{index}.memory", int(total) << 20, "nvidia-smi")
            yield Fact(f"gpu.{index}.memory_used", int(used) << 20, "nvidia-smi")
        if count == 1 and re.fullmatch(r"\d{1,4}(\.\d{1,6}){1,3}", version, re.ASCII):
            yield Fact("driver.version", version, "nvidia-smi")
    if count:
        yield Fact("gpu.count", count, "nvidia-smi")
