"""What the kernel's files say of GPUs: the PCI bus, loaded modules, device files, containers, WSL, AMD's topology.

Nothing here talks to a driver: these are files below /proc, /sys, /dev and /etc, so they answer when the driver does not.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from diagnose.model import Fact, Reading, Unchecked
from diagnose.sources.container import kind
from diagnose.sources.tree import Tree
from diagnose.sources.visible import Device, see

NVIDIA, AMD, INTEL, HUAWEI, HABANA = "0x10de", "0x1002", "0x8086", "0x19e5", "0x1da3"
MAKERS = (("nvidia", NVIDIA), ("amd", AMD), ("intel", INTEL), ("ascend", HUAWEI), ("habana", HABANA))
BRIDGE = "0x0680"
"""The PCI class of an NVSwitch."""
MOST_PROCESSES = 20_000

_VENDORS = (NVIDIA, AMD, INTEL, HUAWEI, HABANA)
_DISPLAY = ("0x0300", "0x0302", "0x0380")
_ACCELERATOR = "0x1200"
_VERSION = re.compile(r"\d{1,4}(?:\.\d{1,6}){1,3}", re.ASCII)
_LIBRARIES = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/lib64",
    "/usr/lib64/nvidia",
    "/usr/lib/nvidia",
    "/usr/lib/wsl/lib",
    "/usr/local/nvidia/lib64",
    "/usr/local/nvidia/lib",
    "/home/kubernetes/bin/nvidia/lib64",
    "/run/opengl-driver/lib",
)


class Card(Struct, frozen=True):
    """A device on the PCI bus: its address, maker, class (`0x0302`) and the kernel driver that has it."""

    address: str
    vendor: str
    kind: str
    driver: str


def cards(tree: Tree) -> list[Card]:
    """The devices of GPU makers on the PCI bus."""
    found = []
    for address in tree.names("/sys/bus/pci/devices"):
        folder = f"/sys/bus/pci/devices/{address}"
        vendor = tree.text(f"{folder}/vendor", 16)
        if vendor not in _VENDORS or tree.exists(f"{folder}/physfn"):
            continue  # a virtual function is a part of a card that is listed itself
        kind = (tree.text(f"{folder}/class", 16) or "")[:6]
        if kind in _DISPLAY or kind in (_ACCELERATOR, BRIDGE):
            found.append(Card(address, vendor, kind, tree.link(f"{folder}/driver")))
    return found


def gpus_of(vendor: str, found: Sequence[Card]) -> list[Card]:
    """The GPUs and accelerators of one maker, without those that are lent to a virtual machine."""
    return [
        card for card in found if card.vendor == vendor and card.kind != BRIDGE and not card.driver.startswith("vfio")
    ]


def nvswitches(found: Sequence[Card]) -> list[Card]:
    """The NVSwitches, without those that are lent to a virtual machine, which has the Fabric Manager then."""
    return [
        card for card in found if card.vendor == NVIDIA and card.kind == BRIDGE and not card.driver.startswith("vfio")
    ]


def bus(tree: Tree, found: Sequence[Card]) -> Iterator[Reading]:
    """How many GPUs of each maker the PCI bus holds, and which kernel driver has NVIDIA's."""
    origin = "/sys/bus/pci/devices"
    if not tree.exists(origin):
        if tree.exists("/proc/version"):
            yield Unchecked("the PCI bus", f"{origin} is not there")
        return
    for name, vendor in MAKERS:
        yield Fact(f"driver.pci_{name}", len(gpus_of(vendor, found)), origin)
    nvidia = [card for card in found if card.vendor == NVIDIA and card.kind != BRIDGE]
    yield Fact("driver.pci_lent", sum(card.driver.startswith("vfio") for card in nvidia), origin)
    yield Fact("driver.nvswitches", len(nvswitches(found)), origin)
    if nvidia:
        yield Fact(
            "driver.nouveau", any(card.driver in ("nouveau", "nova_core", "NovaCore") for card in nvidia), origin
        )
        yield Fact("driver.pci_unbound", sum(not card.driver for card in nvidia), origin)


def kernel_module(tree: Tree) -> Iterator[Reading]:
    """Whether NVIDIA's kernel module is loaded, which version of it, and whether it is the open one."""
    loaded = tree.exists("/sys/module/nvidia") or tree.exists("/proc/driver/nvidia/version")
    yield Fact("driver.module", loaded, "/sys/module/nvidia")
    said = tree.text("/proc/driver/nvidia/version", 4096) or ""
    first = next((line for line in said.splitlines() if line.startswith("NVRM version")), "")
    version = _VERSION.search(first)
    if version:
        yield Fact("driver.module_version", version[0], "/proc/driver/nvidia/version")
        yield Fact("driver.module_open", "Open Kernel Module" in first, "/proc/driver/nvidia/version")
    elif loaded:
        own = _VERSION.fullmatch(tree.text("/sys/module/nvidia/version", 64) or "")
        if own:
            yield Fact("driver.module_version", own[0], "/sys/module/nvidia/version")


def device_files(tree: Tree) -> Iterator[Reading]:
    """NVIDIA's device files: how many, whether the control and the unified-memory file are there, and which are denied."""
    names = tree.names("/dev")
    numbered = sorted((name for name in names if re.fullmatch(r"nvidia\d{1,3}", name)), key=lambda name: int(name[6:]))
    yield Fact("driver.device_files", len(numbered), "/dev")
    yield Fact("driver.device_control", "nvidiactl" in names, "/dev")
    yield Fact("driver.device_uvm", "nvidia-uvm" in names, "/dev")
    wanted = [*numbered, *(name for name in ("nvidiactl", "nvidia-uvm") if name in names)]
    denied = [f"/dev/{name}" for name in wanted if not tree.usable(f"/dev/{name}")]
    yield Fact("driver.device_denied", len(denied), "/dev")
    if denied:
        yield Fact("driver.device_denied_path", denied[0], "/dev")
    yield Fact("driver.modprobe", _is_setuid(tree, "/usr/bin/nvidia-modprobe"), "/usr/bin/nvidia-modprobe")


def _is_setuid(tree: Tree, name: str) -> bool:
    try:
        return bool(os.stat(tree.path(name)).st_mode & 0o4000)
    except OSError:
        return False


def container(tree: Tree, environ: Mapping[str, str]) -> str:
    """What kind of container this is: docker, podman, kubernetes, apptainer, lxc, other, or none."""
    found = kind(tree, environ)
    return found if found in ("docker", "podman", "kubernetes", "apptainer", "lxc", "none") else "other"


def in_container(environ: Mapping[str, str]) -> Iterator[Reading]:
    """What a container was asked to be given: NVIDIA_VISIBLE_DEVICES and NVIDIA_DRIVER_CAPABILITIES."""
    asked = environ.get("NVIDIA_VISIBLE_DEVICES")
    if asked is not None:
        yield Fact("driver.container_asked", asked[:200] or "void", "NVIDIA_VISIBLE_DEVICES")
    allowed = environ.get("NVIDIA_DRIVER_CAPABILITIES")
    if allowed is not None:
        words = {word.strip() for word in allowed.split(",")} or {""}
        yield Fact("driver.container_capabilities", allowed[:200], "NVIDIA_DRIVER_CAPABILITIES")
        # An empty value means the runtime's default, which holds compute.
        told = bool(words & {"all", "compute"}) or words == {""}
        yield Fact("driver.container_compute", told, "NVIDIA_DRIVER_CAPABILITIES")


def container_tools(tree: Tree) -> Iterator[Reading]:
    """On a host: whether Docker is there, whether it knows NVIDIA's runtime, and the toolkit and CDI files."""
    docker = any(tree.exists(name) for name in ("/usr/bin/dockerd", "/usr/bin/docker", "/var/run/docker.sock"))
    yield Fact("driver.docker", docker, "/usr/bin/docker")
    tools = ("nvidia-container-runtime", "nvidia-container-runtime-hook", "nvidia-ctk", "nvidia-container-toolkit")
    toolkit = any(
        tree.exists(f"{folder}/{name}") for folder in ("/usr/bin", "/usr/local/nvidia/toolkit") for name in tools
    )
    yield Fact("driver.toolkit", toolkit, "/usr/bin")
    described = [
        f"{folder}/{name}"
        for folder in ("/etc/cdi", "/var/run/cdi")
        for name in tree.names(folder)
        if name.startswith("nvidia") and name.endswith((".yaml", ".json"))
    ]
    yield Fact("driver.cdi", bool(described), "/etc/cdi")
    if docker:
        yield from _docker_runtime(tree)


def _docker_runtime(tree: Tree) -> Iterator[Reading]:
    name = "/etc/docker/daemon.json"
    if not tree.exists(name):
        yield Fact("driver.docker_runtime", False, name)
        return
    text = tree.text(name)
    try:
        settings = json.loads(text or "{}")
        runtimes = settings.get("runtimes") or {}
        yield Fact("driver.docker_runtime", "nvidia" in runtimes, name)
    except (ValueError, AttributeError, TypeError, RecursionError):
        yield Unchecked("Docker's runtimes", f"{name} cannot be read as JSON" if text is not None else "not allowed")


def windows_subsystem(tree: Tree) -> Iterator[Reading]:
    """Whether this is Linux inside Windows (WSL), and whether its GPU support is whole."""
    kernel = (tree.text("/proc/version", 4096) or "").lower()
    inside = "microsoft" in kernel
    yield Fact("driver.wsl", inside, "/proc/version")
    if not inside:
        return
    yield Fact("driver.wsl_device", tree.exists("/dev/dxg"), "/dev/dxg")
    library = "/usr/lib/wsl/lib/libcuda.so.1"
    yield Fact("driver.wsl_library", tree.exists(library), library)
    for folder in _LIBRARIES[:4]:
        own = f"{folder}/libcuda.so.1"
        if tree.exists(own) and "/wsl/" not in os.path.realpath(tree.path(own)):
            yield Fact("driver.wsl_shadowed", True, own)
            return
    yield Fact("driver.wsl_shadowed", False, _LIBRARIES[0])


def cuda_library(tree: Tree, environ: Mapping[str, str]) -> Iterator[Reading]:
    """Whether the driver's own CUDA library is found, and what in the search path could stand before it."""
    path = [folder for folder in environ.get("LD_LIBRARY_PATH", "").split(":") if folder.startswith("/")][:200]
    first = next((folder for folder in path if tree.exists(f"{folder}/libcuda.so.1")), "")
    stubs = first if _is_stub(first) else ""
    yield Fact("driver.stub_in_path", bool(stubs), stubs or "LD_LIBRARY_PATH")
    compat = next((folder for folder in path if "compat" in folder and tree.exists(f"{folder}/libcuda.so.1")), "")
    yield Fact("driver.compat_in_path", bool(compat), compat or "LD_LIBRARY_PATH")
    for folder in _compat_folders(tree):
        version = _library_version(tree, folder, "libcuda.so")
        if version:
            yield Fact("driver.compat_version", version, folder)
            break
    found = next((folder for folder in (*path, *_LIBRARIES) if tree.exists(f"{folder}/libcuda.so.1")), "")
    cache = tree.bytes("/etc/ld.so.cache", 8 << 20)
    if found or (cache is not None and b"libcuda.so.1\0" in cache):
        yield Fact("driver.libcuda", True, found or "/etc/ld.so.cache")
    elif cache is not None:
        yield Fact("driver.libcuda", False, "/etc/ld.so.cache")


def _is_stub(folder: str) -> bool:
    return folder.rstrip("/").endswith("/stubs")


def _compat_folders(tree: Tree) -> list[str]:
    versions = [name for name in tree.names("/usr/local") if name.startswith("cuda-")]
    return ["/usr/local/cuda/compat", *(f"/usr/local/{name}/compat" for name in versions[:20])]


def _library_version(tree: Tree, folder: str, stem: str) -> str:
    """The driver version in the name of a library: `libcuda.so.550.54.15`."""
    for name in tree.names(folder):
        found = _VERSION.fullmatch(name.removeprefix(f"{stem}."))
        if name.startswith(f"{stem}.") and found and "." in found[0]:
            return found[0]
    return ""


def loaded_library(maps: str, stem: str = "libnvidia-ml.so") -> str:
    """The version of a driver library that this process has loaded, from its memory map; empty if the name tells none."""
    for found in re.finditer(rf"/{re.escape(stem)}\.(\d[\d.]*)\s*$", maps, re.MULTILINE):
        if _VERSION.fullmatch(found[1]):
            return found[1]
    return ""


def fabric_manager(tree: Tree) -> bool | None:
    """Whether the Fabric Manager runs: by the process that its file names, else by its name among all processes.

    None where other users' processes are hidden (/proc mounted with hidepid), so that it may run unseen.
    """
    told = tree.text("/run/nvidia-fabricmanager/nv-fabricmanager.pid", 32) or ""
    pids = [told, *(name for name in tree.names("/proc")[:MOST_PROCESSES] if name.isdigit())]
    if any((tree.text(f"/proc/{pid}/comm", 64) or "").startswith("nv-fabricmanage") for pid in pids):
        return True
    return False if tree.text("/proc/1/comm", 64) else None


def command(tree: Tree, pid: int) -> str:
    """The name of a process (its command without arguments), or nothing if it is not to be seen from here."""
    text = tree.text(f"/proc/{pid}/comm", 64) or ""
    return re.sub(r"[^\w.+:/-]", "?", text)


# --- other makers


class AmdGpu(Struct, frozen=True):
    """A GPU of AMD's compute driver: what it is called, its target (`gfx942`) and PCI address."""

    target: str
    address: str
    name: str


def amd(tree: Tree, environ: Mapping[str, str]) -> Iterator[Reading]:
    """AMD: the kernel driver, ROCm, the compute device file, and each GPU of the kernel's topology."""
    yield Fact("driver.amdgpu", tree.exists("/sys/module/amdgpu"), "/sys/module/amdgpu")
    version = _VERSION.match(tree.text("/sys/module/amdgpu/version", 64) or "")
    if version:
        yield Fact("driver.amdgpu_version", version[0], "/sys/module/amdgpu/version")
    rocm = _VERSION.match(tree.text("/opt/rocm/.info/version", 64) or "")
    if rocm:
        yield Fact("driver.rocm", rocm[0], "/opt/rocm/.info/version")
    there = tree.exists("/dev/kfd")
    yield Fact("driver.kfd", there, "/dev/kfd")
    if there:
        yield Fact("driver.kfd_denied", not tree.usable("/dev/kfd"), "/dev/kfd")
    yield from _render_files(tree)
    gpus = list(_amd_gpus(tree))
    if gpus:
        yield Fact("gpu.count", len(gpus), "/sys/class/kfd")
    for index, gpu in enumerate(gpus):
        yield from _amd_gpu(tree, index, gpu)
    yield from _amd_visible(environ, len(gpus))


def _render_files(tree: Tree) -> Iterator[Reading]:
    names = [name for name in tree.names("/dev/dri") if name.startswith("renderD")]
    denied = [f"/dev/dri/{name}" for name in names if not tree.usable(f"/dev/dri/{name}")]
    yield Fact("driver.render_files", len(names), "/dev/dri")
    yield Fact("driver.render_denied", len(denied), "/dev/dri")
    if denied:
        yield Fact("driver.render_denied_path", denied[0], "/dev/dri")


def _amd_gpus(tree: Tree) -> Iterator[AmdGpu]:
    folder = "/sys/class/kfd/kfd/topology/nodes"
    nodes = sorted((name for name in tree.names(folder) if name.isdigit()), key=int)
    for node in nodes[:256]:
        text = tree.text(f"{folder}/{node}/properties", 1 << 14) or ""
        values = {words[0]: words[1] for words in (line.split() for line in text.splitlines()) if len(words) == 2}
        number = _number(values.get("gfx_target_version"))
        if not number or not _number(values.get("simd_count")):
            continue
        place = _number(values.get("location_id")) or 0
        address = f"{_number(values.get('domain')) or 0:04x}:{place >> 8 & 255:02x}:{place >> 3 & 31:02x}.{place & 7}"
        target = f"gfx{number // 10000}{number // 100 % 100:x}{number % 100:x}"
        yield AmdGpu(target, address, tree.text(f"{folder}/{node}/name", 256) or "")


def _amd_gpu(tree: Tree, index: int, gpu: AmdGpu) -> Iterator[Reading]:
    folder = f"/sys/bus/pci/devices/{gpu.address}"
    name = tree.text(f"{folder}/product_name", 256) or gpu.name or "AMD GPU"
    yield Fact(f"gpu.{index}.name", name[:120], "/sys/class/kfd")
    yield Fact(f"gpu.{index}.gfx", gpu.target, "/sys/class/kfd")
    yield Fact(f"gpu.{index}.pci", gpu.address, "/sys/class/kfd")
    total = _number(tree.text(f"{folder}/mem_info_vram_total", 32))
    used = _number(tree.text(f"{folder}/mem_info_vram_used", 32))
    if total:
        yield Fact(f"gpu.{index}.memory", total, f"{folder}/mem_info_vram_total")
        if used is not None and used <= total:
            yield Fact(f"gpu.{index}.memory_used", used, f"{folder}/mem_info_vram_used")
            yield Fact(f"gpu.{index}.memory_free", total - used, f"{folder}/mem_info_vram_used")
            yield Fact(f"gpu.{index}.memory_used_percent", round(100 * used / total), f"{folder}/mem_info_vram_used")


def _number(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"\d{1,19}", text, re.ASCII) else None


def _amd_visible(environ: Mapping[str, str], count: int) -> Iterator[Reading]:
    """ROCm filters twice: ROCR_VISIBLE_DEVICES, then HIP_VISIBLE_DEVICES (or CUDA_VISIBLE_DEVICES) among what is left."""
    if not count:
        return
    left = count
    for variable in ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"):
        setting = environ.get(variable)
        if setting is None or (variable == "CUDA_VISIBLE_DEVICES" and "HIP_VISIBLE_DEVICES" in environ):
            continue
        seen = see(setting, [Device()] * left)
        yield Fact("gpu.visible_setting", setting[:200], variable)
        yield Fact("gpu.visible_variable", variable, variable)
        if seen.count is None:
            return
        if seen.problem != "none":
            yield Fact("gpu.visible_problem", seen.problem, variable)
            yield Fact("gpu.visible_entry", seen.entry[:80], variable)
        left = seen.count
        if not left:
            break
    yield Fact("gpu.visible_count", left, "/sys/class/kfd")


def intel(found: Sequence[Card], tree: Tree) -> Iterator[Reading]:
    """Intel: how many GPUs, and whether they are reachable through their render files."""
    gpus = gpus_of(INTEL, found)
    yield Fact("gpu.count", len(gpus), "/sys/bus/pci/devices")
    yield Fact("gpu.integrated", all(card.address.endswith(":00:02.0") for card in gpus), "/sys/bus/pci/devices")
    yield from _render_files(tree)


def ascend(tree: Tree) -> Iterator[Reading]:
    """Ascend: the device files and the driver's version."""
    files = [name for name in tree.names("/dev") if re.fullmatch(r"davinci\d{1,3}", name)]
    yield Fact("driver.davinci_files", len(files), "/dev")
    denied = [name for name in files if not tree.usable(f"/dev/{name}")]
    yield Fact("driver.davinci_denied", len(denied), "/dev")
    if files:
        yield Fact("gpu.count", len(files), "/dev")
    said = tree.text("/usr/local/Ascend/driver/version.info", 4096) or ""
    version = re.search(r"^Version\s*=\s*([\w.]{1,40})", said, re.MULTILINE)
    if version:
        yield Fact("driver.ascend", version[1], "/usr/local/Ascend/driver/version.info")
