"""What NVML tells of one GPU: identity, memory and who holds it, health, mode and clocks, links."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from diagnose.model import Fact, Reading, Step
from diagnose.sources import devices
from diagnose.sources.nvml import GONE, Driver, Gpu
from diagnose.sources.tree import Tree
from diagnose.sources.visible import Device

MOST_LINKS = 36
MOST_INSTANCES = 16
LARGEST = 64 << 40
"""More bytes than a GPU can have: an answer above it is garbage."""

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


def identity(driver: Driver, gpu: Gpu, environ: Mapping[str, str]) -> Iterator[Reading]:
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


def _memory(driver: Driver, gpu: Gpu) -> Iterator[Reading]:
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


def _mig(driver: Driver, gpu: Gpu, environ: Mapping[str, str]) -> Iterator[Reading]:
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


def _instances(driver: Driver, gpu: Gpu, by_name: bool) -> tuple[list[str], list[str], list[int]]:
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


def details(driver: Driver, gpu: Gpu, tree: Tree) -> Iterator[Reading]:
    for doing, question in _QUESTIONS:
        if not gpu.gone:
            yield Step(f"asking GPU {gpu.index} for {doing}")
            yield from question(driver, gpu, tree)


def _processes(driver: Driver, gpu: Gpu, tree: Tree) -> Iterator[Reading]:
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


def _listed(driver: Driver, gpu: Gpu, kind: str) -> list[Any] | None:
    """The processes of one kind, by the newest call that the driver knows."""
    calls = [(f"nvmlDeviceGet{kind}RunningProcesses{version}", gpu.handle) for version in ("_v3", "_v2")]
    answer = driver.first("the processes", gpu, *calls)
    return answer if isinstance(answer, list) else None


def _health(driver: Driver, gpu: Gpu, tree: Tree) -> Iterator[Reading]:
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


def _retired(driver: Driver, gpu: Gpu) -> Iterator[Reading]:
    """Retired pages: what cards before Ampere have in place of remapped rows."""
    head = f"gpu.{gpu.index}"
    pages = driver.ask("the retired pages", gpu, "nvmlDeviceGetRetiredPages", gpu.handle, 1)
    if isinstance(pages, list):
        yield Fact(f"{head}.pages_retired", len(pages), "NVML")
    pending = driver.number("the retired pages", gpu, 1, "nvmlDeviceGetRetiredPagesPendingStatus", gpu.handle)
    if pending is not None:
        yield Fact(f"{head}.pages_pending", pending == 1, "NVML")


def _state(driver: Driver, gpu: Gpu, tree: Tree) -> Iterator[Reading]:
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


def _clocks(driver: Driver, gpu: Gpu) -> Iterator[Reading]:
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


def _connections(driver: Driver, gpu: Gpu, tree: Tree) -> Iterator[Reading]:
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


def _nvlinks(driver: Driver, gpu: Gpu) -> Iterator[Reading]:
    known = 0
    for link in range(MOST_LINKS):
        active, error = driver.call("nvmlDeviceGetNvLinkState", gpu.handle, link)
        if error:  # the number of links is told by the first that does not exist
            if error in GONE:
                gpu.gone, gpu.error = True, error
            break
        if active not in (0, 1):
            driver.absurd("the NVLinks", gpu, active)
            return
        known += 1
        gpu.links += active
    if known and not gpu.gone:
        yield Fact(f"gpu.{gpu.index}.nvlinks", gpu.links, "NVML")


def _fabric(driver: Driver, gpu: Gpu) -> Iterator[Reading]:
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


_QUESTIONS: tuple[tuple[str, Callable[[Driver, Gpu, Tree], Iterator[Reading]]], ...] = (
    ("the processes on it", _processes),
    ("its ECC counters and remapped memory", _health),
    ("its mode, clocks and temperature", _state),
    ("its PCIe link, NVLinks and fabric", _connections),
)
