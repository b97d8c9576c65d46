"""Made-up whole machines, each in good order and with one planted fault, as the machine's own sources read them.

A machine is the files of its /proc, /sys, /dev and /etc, what NVML answers (a scenario of the stub), its environment, and
what Python packages would add. The fault changes some of these, and names the rule that has to come first then.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from msgspec import Struct

from diagnose.collect import case_of_text, completed
from diagnose.model import Case, Event, Fact, Output, Unchecked
from diagnose.ruleset import RuleSet
from diagnose.sources import host, kernel
from tests.sources.test_gpu import READ
from tests.sources.test_kernel import ring
from tests.sources.trees import LIMITS, GiB, room
from tests.stubs.nvml import stub_environment
from tests.support import ROOT, facts_of

NOW = 1_000_000.0
NVIDIA, AMD = "0x10de", "0x1002"
NO_LIBRARY: Mapping[str, object] = MappingProxyType({"error nvmlInitWithFlags": 12})
"""NVML's library is not installed."""
OPEN_MODULE = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.105.08  Release Build  (dvs-builder@U16)\n"
GONE = "\0"
"""Stands for a file that the fault takes away."""

Files = Mapping[str, str]


class Fault(Struct, frozen=True):
    """What goes wrong on a machine, and the rule that has to be told first, and alone above a note."""

    first: str
    files: Files = {}
    nvml: Mapping[str, object] = {}
    environ: Mapping[str, str] = {}
    packages: Mapping[str, Any] = {}
    shm: int = 0
    temporary: int = 0


class Machine(Struct, frozen=True):
    """A machine in good order. `shm` is the size of /dev/shm, `temporary` the free room for temporary files."""

    files: Files
    fault: Fault
    nvml: Mapping[str, object] = NO_LIBRARY
    environ: Mapping[str, str] = {}
    packages: Mapping[str, Any] = {}
    shm: int = 32 * GiB
    temporary: int = 200 * GiB
    c_library: str = "glibc 2.39"

    def broken(self) -> Machine:
        """The same machine with its fault."""
        fault = self.fault
        files = {name: text for name, text in {**self.files, **fault.files}.items() if text != GONE}
        return Machine(
            files,
            fault,
            {**self.nvml, **fault.nvml},
            {**self.environ, **fault.environ},
            {**self.packages, **fault.packages},
            fault.shm or self.shm,
            fault.temporary or self.temporary,
            self.c_library,
        )


def build(folder: Path, files: Files) -> str:
    """Write a machine's files below a folder. A text that begins with `-> ` is a link; a path that ends in `/` a folder."""
    for name, text in files.items():
        place = folder / name.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            place.mkdir(exist_ok=True)
        elif text.startswith("-> "):
            place.symlink_to(text[3:])
        else:
            place.write_text(text)
            place.chmod(0o777)
    return str(folder)


def cases(rules: RuleSet, machines: Sequence[Machine], folder: Path, cache: Path) -> list[Case]:
    """The cases of some machines, read by the sources for GPUs, host and kernel log."""
    roots = [build(folder / str(number), machine.files) for number, machine in enumerate(machines)]
    told = _gpus(machines, roots, folder, cache)
    return [_case(rules, machine, root, answer) for machine, root, answer in zip(machines, roots, told, strict=True)]


def _gpus(machines: Sequence[Machine], roots: Sequence[str], folder: Path, cache: Path) -> list[dict[str, Any]]:
    """What the source for GPUs tells of each, in one process that has the stub on its library path."""
    jobs = []
    changes: dict[str, str] = {}
    for number, (machine, root) in enumerate(zip(machines, roots, strict=True)):
        changes = stub_environment(machine.nvml, folder / f"nvml-{number}", cache=cache)
        environ = {"PATH": "/nonexistent", "LD_LIBRARY_PATH": "", **machine.environ}
        jobs.append({"scenario": changes["NVML_STUB_SCENARIO"], "environ": environ, "root": root, "seconds": 20})
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    answer = subprocess.run(
        [sys.executable, "-c", READ, str(ROOT)],
        env=kept | changes,
        input=json.dumps(jobs).encode(),
        capture_output=True,
        timeout=300,
        check=True,
    )
    found: list[dict[str, Any]] = json.loads(answer.stdout)
    return found


def _case(rules: RuleSet, machine: Machine, root: str, told: Mapping[str, Any]) -> Case:
    known = {name: Fact(name, value, origin) for name, value, origin in told["facts"]}
    unchecked = [Unchecked(what, why) for what, why in told["unchecked"]]
    texts = [(origin, text) for origin, text in told["output"]]

    def statvfs(path: str) -> os.statvfs_result:
        if path.endswith("/dev/shm"):
            return room(machine.shm, machine.shm)
        if path.endswith("/tmp"):
            return room(max(machine.temporary, 200 * GiB), machine.temporary)
        return room(900 * GiB, 700 * GiB)

    calls = host.Calls(
        statvfs=statvfs,
        addresses=lambda: {"lo": ["127.0.0.1"], "eth0": ["10.0.0.7"]},
        run=lambda command: "13.3.0\n",
        c_library=lambda: machine.c_library,
    )
    environ = {"HOME": "/root", "PATH": "/usr/bin", "HF_TOKEN": "hf_x", **machine.environ}
    for reading in (*host.read(environ, root, ["/work"], calls), *kernel.read(root, environ, NOW)):
        if isinstance(reading, Fact):
            known.setdefault(reading.name, reading)
        elif isinstance(reading, Output):
            texts.append((reading.origin, reading.text))
        elif isinstance(reading, Unchecked):
            unchecked.append(reading)
    events: list[Event] = []
    for origin, text in texts:
        events += case_of_text(rules, text, origin).events
    return completed(
        Case((*known.values(), *facts_of(machine.packages)), tuple(events), tuple(unchecked), machine=True)
    )


# --- parts of machines


def meminfo(total: int, available: int) -> str:
    return (
        f"MemTotal: {total << 20} kB\nMemFree: {available << 20} kB\nMemAvailable: {available << 20} kB\n"
        "SwapTotal: 8388608 kB\nSwapFree: 8388608 kB\nHugePages_Total: 0\nHugePages_Free: 0\nHugepagesize: 2048 kB\n"
    )


def cpuinfo(count: int, flags: str = "fpu sse4_2 f16c fma avx avx2 avx512f") -> str:
    return "".join(
        f"processor\t: {number}\nmodel name\t: A Processor\nflags\t\t: {flags}\n\n" for number in range(count)
    )


def arm_cpuinfo(count: int) -> str:
    return "".join(f"processor\t: {number}\nFeatures\t: fp asimd sve\n\n" for number in range(count))


def system(
    cpus: int, memory: int, available: int = 0, user: int = 0, kernel: str = "6.8.0-60-generic", x86: bool = True
) -> dict[str, str]:
    """The files that every Linux machine has; `memory` and what of it is available in GiB."""
    mounts = "22 1 8:2 / / rw - ext4 /dev/sda2 rw\n25 22 0:22 / /dev/shm rw - tmpfs tmpfs rw\n"
    status = f"Uid:\t{user}\t{user}\t{user}\t{user}\nCapEff:\t{0 if user else 0x1FFFFFFFFFF:016x}\n"
    return {
        "/proc/version": f"Linux version {kernel} (builder@host) #1 SMP",
        "/proc/sys/kernel/osrelease": f"{kernel}\n",
        "/proc/sys/kernel/arch": "x86_64" if x86 else "aarch64",
        "/proc/sys/kernel/hostname": "node7\n",
        "/proc/sys/kernel/threads-max": "4000000",
        "/proc/sys/kernel/pid_max": "4194304",
        "/proc/sys/vm/overcommit_memory": "0",
        "/proc/loadavg": "0.10 0.20 0.30 2/6500 12345\n",
        "/proc/meminfo": meminfo(memory, available or memory * 9 // 10),
        "/proc/cpuinfo": cpuinfo(cpus) if x86 else arm_cpuinfo(cpus),
        "/proc/self/limits": LIMITS,
        "/proc/self/mountinfo": mounts,
        "/proc/self/status": status + f"Cpus_allowed_list:\t0-{cpus - 1}\n",
        "/proc/self/uid_map": "0 0 4294967295",
        "/proc/modules": "",
        "/proc/1/comm": "systemd\n",
        "/etc/os-release": 'NAME="Ubuntu"\nVERSION_ID="24.04"\n',
        "/etc/hosts": "127.0.0.1 localhost\n127.0.1.1 node7\n",
        "/etc/nsswitch.conf": "hosts: files dns\n",
        "/sys/bus/pci/devices/": "",
        "/sys/class/net/lo/flags": "0x9",
        "/sys/class/net/lo/type": "772",
        "/sys/class/net/eth0/flags": "0x1003",
        "/sys/class/net/eth0/type": "1",
        "/usr/bin/gcc": "",
        "/usr/bin/g++": "",
        "/dev/shm/": "",
        "/tmp/": "",
        "/work/": "",
        "/root/": "",
    }


def card(place: int, vendor: str = NVIDIA, kind: str = "0x030200", driver: str = "nvidia") -> dict[str, str]:
    """A device on the PCI bus."""
    folder = f"/sys/bus/pci/devices/0000:{place:02x}:00.0"
    files = {f"{folder}/vendor": f"{vendor}\n", f"{folder}/class": f"{kind}00\n"}
    return files | ({f"{folder}/driver": f"-> ../../../bus/pci/drivers/{driver}"} if driver else {})


def cards(count: int, **about: str) -> dict[str, str]:
    return {name: text for place in range(count) for name, text in card(0x10 + place, **about).items()}


def driver(files: int, library: str = "/usr/lib/x86_64-linux-gnu") -> dict[str, str]:
    """NVIDIA's kernel module, its CUDA library and its device files."""
    names = [*(f"nvidia{number}" for number in range(files)), "nvidiactl", "nvidia-uvm"]
    return {
        "/proc/driver/nvidia/version": OPEN_MODULE,
        "/sys/module/nvidia/version": "580.105.08\n",
        f"{library}/libcuda.so.1": "",
        "/etc/ld.so.cache": "ld.so-1.7.0",
    } | {f"/dev/{name}": "" for name in names}


def without(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, GONE)


def group(memory: int = 0, cpus: int = 0, path: str = "/") -> dict[str, str]:
    """A control group (version 2) with limits: memory in GiB and CPUs."""
    mount = "40 22 0:40 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n"
    return {
        "/proc/self/cgroup": f"0::{path}\n",
        "/proc/self/mountinfo": (
            "22 1 0:50 / / rw - overlay overlay rw\n25 22 0:22 / /dev/shm rw - tmpfs shm rw,size=65536k\n" + mount
        ),
        "/sys/fs/cgroup/cgroup.controllers": "cpu memory pids",
        "/sys/fs/cgroup/memory.max": str(memory * GiB) if memory else "max",
        "/sys/fs/cgroup/memory.current": str((memory or 32) * GiB - (GiB // 2)),
        "/sys/fs/cgroup/memory.stat": f"inactive_file 0\nactive_file {((memory or 32) - 4) * GiB}\n",
        "/sys/fs/cgroup/memory.events": "oom_kill 0\n",
        "/sys/fs/cgroup/cpu.max": f"{cpus * 100000} 100000" if cpus else "max 100000",
        "/sys/fs/cgroup/pids.max": "max",
        "/sys/fs/cgroup/pids.current": "40",
    }


HOPPER: Mapping[str, object] = {"*.links": " ".join("1" * 18), "*.fabric": 3, "driver": "580.105.08", "cuda": 13000}
GEFORCE: Mapping[str, object] = {
    "driver": "580.105.08",
    "cuda": 13000,
    "*.ecc": "none",
    "*.mig": "none",
    "*.pcie_generation": 1,
    "*.pcie_generation_max": 4,
    "*.persistence": 0,
    "*.slowed": 1,
}
SERVING: Mapping[str, Any] = {
    "torch.version": "2.8.0",
    "torch.cuda": "12.8",
    "triton.version": "3.4.0",
    "vllm.version": "0.11.0",
    "transformers.version": "4.57.1",
}
PLAIN: Mapping[str, Any] = {"torch.version": "2.8.0", "torch.cuda": "12.8", "transformers.version": "4.57.1"}
ON_CPU: Mapping[str, Any] = {"torch.version": "2.8.0", "torch.cpu_only": True, "transformers.version": "4.57.1"}
BOOT = ring(
    (86400, "nvidia: loading out-of-tree module taints kernel."),
    (86400, "NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  580.105.08  Release Build  (dvs-builder@U16)"),
    (40000, "NVRM: Xid (PCI:0000:65:00): 31, pid=44, name=python3, Ch 0000000e, MMU Fault"),
    (60, "pcieport 0000:00:01.0: PCIe Bus Error: severity=Corrected, type=Physical Layer, (Receiver ID)"),
    (
        50,
        "DMAR: [DMA Read NO_PASID] Request device [03:00.0] fault addr 0x79c4d000 [fault reason 0x06] PTE Read access is not set",
    ),
)

MACHINES: Mapping[str, Machine] = {
    "a DGX H100, as a user": Machine(
        system(224, 2000, user=1000) | cards(8) | driver(8) | {
            name: text for place in range(4) for name, text in card(0xC0 + place, kind="0x0680").items()
        } | {
            "/proc/812/comm": "nv-fabricmanage\n",
            "/dev/kmsg": BOOT,
            "/sys/devices/system/node/node0/": "",
            "/sys/devices/system/node/node1/": "",
            "/proc/sys/kernel/numa_balancing": "1",
        } | {f"/sys/class/infiniband/mlx5_{port}/ports/1/state": "4: ACTIVE" for port in range(8)}
        | {f"/sys/class/infiniband/mlx5_{port}/ports/1/link_layer": "InfiniBand" for port in range(8)},
        Fault("fabric-manager-not-running", without("/proc/812/comm"), {"*.fabric": 2}),
        {"devices": 8, **HOPPER},
        packages=SERVING,
    ),
    "a DGX H100 that hides processes": Machine(
        system(224, 2000, user=1000) | cards(8) | driver(8) | card(0xC0, kind="0x0680") | {"/proc/1/comm": ""},
        Fault("gpu-lost", nvml={"error 3.nvmlDeviceGetHandleByIndex_v2": 15}),
        {"devices": 8, **HOPPER},
    ),
    "a Kubernetes pod with one of eight H100": Machine(
        system(224, 2000) | cards(8) | driver(1) | group(memory=64, cpus=8),
        Fault(
            "container-was-given-no-gpu",
            without("/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-uvm", "/usr/lib/x86_64-linux-gnu/libcuda.so.1"),
            NO_LIBRARY,
            {"NVIDIA_VISIBLE_DEVICES": "all"},
        ),
        {"devices": 1, **HOPPER},
        {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "NVIDIA_VISIBLE_DEVICES": "GPU-1", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"},
        SERVING,
        shm=64 << 20,
    ),
    "a Slurm job with two of eight cards": Machine(
        system(128, 1000, user=1000) | cards(8) | driver(8)
        | group(memory=200, cpus=0, path="/system.slice/slurmstepd.scope/job_12/step_0") | {"/proc/self/mountinfo": system(1, 1)["/proc/self/mountinfo"]},
        Fault("visible-devices-hide-all", environ={"CUDA_VISIBLE_DEVICES": ""}),
        {"devices": 2, "*.name": "NVIDIA A100-SXM4-80GB", "*.capability": "8.0", "*.compute_mode": 3, "*.links": " ".join("1" * 12)},
        {"SLURM_JOB_ID": "12", "CUDA_VISIBLE_DEVICES": "0,1", "SLURM_JOB_NUM_NODES": "1", "OMP_NUM_THREADS": "16"},
        SERVING,
    ),
    "a login that a Slurm job took in": Machine(
        system(128, 1000, user=1000) | cards(8) | driver(8)
        | {"/proc/self/cgroup": "0::/system.slice/slurmstepd.scope/job_12/step_extern\n"},
        Fault("gpu-memory-mostly-held", nvml={"0.used": 70 * GiB, "0.processes": f"4242:{69 * GiB}"}),
        {"devices": 1, **HOPPER},
    ),
    "an Ubuntu desktop with an RTX 4090": Machine(
        system(32, 64, user=1000) | card(1, kind="0x0300") | driver(1) | {"/usr/bin/docker": ""},
        Fault(
            "nouveau-holds-the-gpu",
            card(1, kind="0x0300", driver="nouveau")
            | without("/proc/driver/nvidia/version", "/sys/module/nvidia/version", "/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-uvm", "/usr/lib/x86_64-linux-gnu/libcuda.so.1"),
            NO_LIBRARY,
        ),
        {**GEFORCE, "*.name": "NVIDIA GeForce RTX 4090", "*.capability": "8.9", "*.memory": 24 * GiB, "*.used": GiB, "*.display": 1, "*.graphics": f"900:{GiB // 2}"},
        packages=SERVING,
    ),
    "a WSL 2 laptop with an RTX 3060": Machine(
        system(16, 16, user=1000, kernel="6.6.87.2-microsoft-standard-WSL2")
        | {"/dev/dxg": "", "/usr/lib/wsl/lib/libcuda.so.1": "", "/usr/lib/wsl/lib/libnvidia-ml.so.1": "", "/etc/ld.so.cache": "ld.so-1.7.0"},
        Fault(
            "wsl-has-linux-driver",
            {"/usr/lib/x86_64-linux-gnu/libcuda.so.1": ""},
            {"error nvmlInitWithFlags": 9},
        ),
        {**GEFORCE, "*.name": "NVIDIA GeForce RTX 3060 Laptop GPU", "*.capability": "8.6", "*.memory": 6 * GiB, "*.used": GiB, "*.display": 1, "error nvmlDeviceGetCurrentClocksThrottleReasons": 3},
        packages=PLAIN,
    ),
    "Colab with a T4": Machine(
        system(2, 12) | card(4) | driver(1) | {"/.dockerenv": ""},
        Fault("gpu-memory-mostly-held", nvml={"*.used": 14 * GiB}),
        {"*.name": "Tesla T4", "*.capability": "7.5", "*.memory": 15 * GiB, "*.pages": 0, "*.mig": "none"},
        {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility", "LD_LIBRARY_PATH": "/usr/lib64-nvidia"},
        PLAIN,
        shm=5 * GiB,
    ),
    "Docker with --gpus all on AWS g5": Machine(
        system(8, 32) | card(0x1E) | driver(1) | group() | {"/.dockerenv": ""},
        Fault("container-without-unified-memory-device", without("/dev/nvidia-uvm")),
        {"*.name": "NVIDIA A10G", "*.capability": "8.6", "*.memory": 23 * GiB, "*.mig": "none"},
        {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"},
        PLAIN,
        shm=64 << 20,
    ),
    "GCP A2 with MIG": Machine(
        system(12, 85) | card(4) | driver(1),
        Fault("mig-without-instances", nvml={"*.mig": "empty"}),
        {"*.name": "NVIDIA A100-SXM4-40GB", "*.capability": "8.0", "*.memory": 40 * GiB, "*.mig": "3g.20gb, 3g.20gb"},
        packages=SERVING,
    ),
    "a host with eight MI300X": Machine(
        system(192, 2000) | cards(8, vendor=AMD, kind="0x1200", driver="amdgpu") | {
            "/sys/module/amdgpu/version": "6.12.12",
            "/opt/rocm/.info/version": "6.4.1-83",
            "/dev/kfd": "",
            "/dev/dri/renderD128": "",
        } | {
            f"/sys/class/kfd/kfd/topology/nodes/{node}/properties": f"simd_count 1216\ngfx_target_version 90402\nlocation_id {(0xF + node) << 8}\n"
            for node in range(1, 9)
        } | {f"/sys/bus/pci/devices/0000:{0x10 + place:02x}:00.0/mem_info_vram_total": str(192 * GiB) for place in range(8)},
        Fault("visible-devices-name-missing-gpu", environ={"HIP_VISIBLE_DEVICES": "8"}),
        packages={"torch.version": "2.8.0", "torch.hip": "6.4.43484", "vllm.version": "0.11.0"},
    ),
    "a laptop with a Ryzen's own graphics": Machine(
        system(16, 32, user=1000) | card(0xC1, AMD, "0x0300", "amdgpu") | {
            "/sys/module/amdgpu/": "",
            "/dev/kfd": "",
            "/dev/dri/renderD128": "",
            "/sys/class/kfd/kfd/topology/nodes/1/properties": f"simd_count 24\ngfx_target_version 110003\nlocation_id {0xC1 << 8}\n",
            "/sys/bus/pci/devices/0000:c1:00.0/mem_info_vram_total": str(512 << 20),
            "/sys/bus/pci/devices/0000:c1:00.0/mem_info_vram_used": str(430 << 20),
            "/dev/kmsg": ring((9, "CPU3: Core temperature above threshold, cpu clock throttled (total events = 1)")),
        },
        Fault("temporary-folder-full", temporary=200 << 20),
        packages=ON_CPU,
    ),
    "a Jetson Orin": Machine(
        system(12, 32, user=1000, kernel="5.15.148-tegra", x86=False) | {
            "/etc/nv_tegra_release": "# R36 (release), REVISION: 4.3",
            "/sys/module/nvgpu/": "",
            "/sys/module/nvidia/version": "540.4.0",
            "/dev/nvidia0": "",
            "/dev/nvidiactl": "",
            "/etc/ld.so.cache": "ld.so-1.7.0 libcuda.so.1\0/usr/lib/aarch64-linux-gnu/nvidia/libcuda.so.1\0",
        },
        Fault("host-memory-nearly-used", {"/proc/meminfo": meminfo(32, 1)}),
        packages={"torch.version": "2.5.0", "torch.cuda": "12.6"},
    ),
    "a Jetson Orin whose release has NVML": Machine(
        system(8, 8, user=1000, kernel="5.15.148-tegra", x86=False)
        | {
            "/etc/nv_tegra_release": "# R36 (release), REVISION: 4.7",
            "/sys/module/nvgpu/": "",
            "/sys/module/nvidia/version": "540.4.0",
            "/dev/nvidia0": "",
            "/dev/nvidiactl": "",
            "/etc/ld.so.cache": "ld.so-1.7.0 libcuda.so.1\0/usr/lib/aarch64-linux-gnu/nvidia/libcuda.so.1\0",
        },
        Fault("omp-threads-above-cpus", environ={"OMP_NUM_THREADS": "64"}),
        {"*.name": "Orin (nvgpu)", "*.capability": "8.7", "*.shared": 1, "*.ecc": "none", "*.mig": "none",
         "driver": "540.4.0", "cuda": 12060, "error nvmlDeviceGetPciInfo_v3": 3, "error nvmlDeviceGetPersistenceMode": 3},
        packages={"torch.version": "2.8.0", "torch.cuda": "12.6"},
    ),
    "a virtual machine without a GPU": Machine(
        system(4, 16),
        Fault("cpu-without-avx2", {"/proc/cpuinfo": cpuinfo(4, "fpu sse4_2 hypervisor")}),
        packages=ON_CPU,
    ),
    "a login node": Machine(
        system(64, 256, user=1000)
        | {"/proc/self/mountinfo": "22 1 8:2 / / rw - ext4 /dev/sda2 rw\n25 22 0:22 / /dev/shm rw - tmpfs tmpfs rw\n30 22 0:31 / /root rw - lustre mds@tcp:/home rw\n"},
        Fault("user-tasks-nearly-used", {"/proc/17/status": "Uid:\t1000\t1000\t1000\t1000\nThreads:\t4000\n"}),
        packages=ON_CPU,
    ),
    "a GH200": Machine(
        system(72, 570, kernel="6.8.0-1021-nvidia-64k", x86=False) | card(9) | driver(1, "/usr/lib/aarch64-linux-gnu")
        | {f"/sys/devices/system/node/node{node}/": "" for node in range(9)},
        Fault("gpu-row-remap-failed", nvml={"*.remap_failed": 1, "*.ecc_errors": 2}),
        {"*.name": "NVIDIA GH200 480GB", "*.capability": "9.0", "*.memory": 96 * GiB, "driver": "580.105.08", "cuda": 13000},
        packages=SERVING,
    ),
    "a hypervisor that lends its cards": Machine(
        system(128, 1000) | cards(8, driver="vfio-pci") | card(0xC0, kind="0x0680", driver="vfio-pci"),
        Fault("nvidia-module-not-loaded", card(0x20, driver="")),
    ),
    "a container for the processor on a host with GPUs": Machine(
        system(64, 256) | cards(2) | {"/sys/module/nvidia/version": "580.105.08", "/.dockerenv": ""} | group(),
        Fault("container-torch-for-cuda-without-gpu", packages={"torch.cuda": "12.8"}),
        packages={"torch.version": "2.8.0", "transformers.version": "4.57.1"},
        shm=64 << 20,
    ),
    "rootless Podman with CDI": Machine(
        system(32, 64) | card(1) | driver(1) | group() | {"/run/.containerenv": "", "/proc/self/uid_map": "0 1000 1\n1 100000 65536"},
        Fault("container-lost-its-gpus", nvml={"error nvmlInitWithFlags": 999}),
        {**GEFORCE, "*.name": "NVIDIA RTX A6000", "*.capability": "8.6", "*.memory": 48 * GiB},
        {"NVIDIA_VISIBLE_DEVICES": "void", "container": "podman"},
        PLAIN,
        shm=64 << 20,
    ),
    "NixOS": Machine(
        {name: text for name, text in (system(16, 32, user=1000) | card(1) | driver(1, "/run/opengl-driver/lib")).items() if name != "/etc/ld.so.cache"},
        Fault("driver-and-libraries-differ", nvml={"error nvmlInitWithFlags": 18}),
        {**GEFORCE, "*.name": "NVIDIA GeForce RTX 3090", "*.capability": "8.6", "*.memory": 24 * GiB},
        packages=PLAIN,
    ),
    "a container of Alpine": Machine(
        system(8, 32) | group() | {"/.dockerenv": "", "/lib/ld-musl-x86_64.so.1": "", "/etc/nsswitch.conf": ""},
        Fault("hub-endpoint-malformed", environ={"HF_ENDPOINT": "hf-mirror.com"}),
        shm=64 << 20,
        c_library="",
    ),
    "a machine with 512 CPUs": Machine(
        system(512, 3000) | cards(4) | driver(4),
        Fault("gpu-slowed-by-heat", nvml={"2.slowed": 0x40, "2.temperature": 92}),
        {"devices": 4, "*.name": "NVIDIA L40S", "*.capability": "8.9", "*.memory": 46 * GiB, "*.mig": "none", "*-*.p2p": 3},
        packages=SERVING,
    ),
    "a machine behind a proxy": Machine(
        system(16, 64) | card(1) | driver(1),
        Fault("proxy-takes-local-requests", environ={"no_proxy": ""}),
        {"*.name": "NVIDIA L4", "*.capability": "8.9", "*.memory": 23 * GiB, "*.mig": "none"},
        {"http_proxy": "http://proxy.example:3128", "https_proxy": "http://proxy.example:3128", "no_proxy": "localhost,127.0.0.0/8,.example"},
        SERVING,
    ),
    "a cluster without the internet": Machine(
        system(64, 512) | cards(4) | driver(4)
        | {"/proc/self/mountinfo": "22 1 8:2 / / rw - ext4 /dev/sda2 rw\n25 22 0:22 / /dev/shm rw - tmpfs tmpfs rw\n31 22 0:32 / /models ro - xfs /dev/sdb1 rw\n", "/models/": ""},
        Fault("model-cache-read-only", environ={"HF_HUB_OFFLINE": "0"}),
        {"devices": 4, "*.name": "NVIDIA A100 80GB PCIe", "*.capability": "8.0", "*.links": "1 1 1 1", "3.links": "0 0 0 0"},
        {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": "/models"},
        SERVING,
    ),
    "two consumer cards on a board with few lanes": Machine(
        system(32, 128, user=1000) | card(1) | card(2) | driver(2),
        Fault("shm-docker-default", {"/.dockerenv": ""}, shm=64 << 20),
        {**GEFORCE, "devices": 2, "*.name": "NVIDIA GeForce RTX 4090", "*.capability": "8.9", "*.memory": 24 * GiB, "1.pcie_width": 4, "*.load": 90, "*.pcie_generation": 4, "*-*.p2p": 1},
        packages=SERVING,
    ),
}  # fmt: skip
