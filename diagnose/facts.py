"""The catalogue of facts: every name, its type and unit, the source that owns it, what it means, and its area.

A rule may only ask for a name that stands here. `*` in a name stands for one part (`gpu.0.name`); a distribution's
version is `<distribution>.version` with the name in lower case and hyphens (`flash-attn.version`). The area is the
line of the checklist that a finding about this fact belongs to.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache

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
        ("driver.error", "text", "why NVML could not be started, as NVML names it: DRIVER_NOT_LOADED"),
        ("driver.library", "version", "version of NVIDIA's user libraries, from the name of the NVML library that was loaded"),
        ("driver.library_differs", "flag", "whether that version is another than the kernel module's"),
        ("driver.module", "flag", "whether NVIDIA's kernel module is loaded"),
        ("driver.module_version", "version", "version of NVIDIA's kernel module, as the kernel tells it"),
        ("driver.module_open", "flag", "whether it is the open kernel module"),
        ("driver.nouveau", "flag", "whether the free driver nouveau (or nova) has an NVIDIA GPU"),
        ("driver.pci_nvidia", "number", "NVIDIA GPUs on the PCI bus, without those lent to virtual machines"),
        ("driver.pci_amd", "number", "AMD GPUs on the PCI bus, integrated ones too"),
        ("driver.pci_intel", "number", "Intel GPUs on the PCI bus, integrated ones too"),
        ("driver.pci_ascend", "number", "Ascend NPUs on the PCI bus"),
        ("driver.pci_habana", "number", "Gaudi accelerators on the PCI bus"),
        ("driver.pci_lent", "number", "NVIDIA GPUs that are lent to virtual machines (vfio)"),
        ("driver.pci_unbound", "number", "NVIDIA GPUs on the PCI bus that no kernel driver has"),
        ("driver.gpus_missing", "number", "GPUs that NVIDIA's driver has on the bus and does not list; not told in containers and jobs"),
        ("driver.nvswitches", "number", "NVSwitches on the PCI bus"),
        ("driver.fabric_manager", "flag", "whether the Fabric Manager runs; told where there are NVSwitches"),
        ("driver.device_files", "number", "device files /dev/nvidia0, /dev/nvidia1, ..."),
        ("driver.device_control", "flag", "whether /dev/nvidiactl is there"),
        ("driver.device_uvm", "flag", "whether /dev/nvidia-uvm is there"),
        ("driver.device_denied", "number", "NVIDIA device files that this user may not open for reading and writing"),
        ("driver.device_denied_path", "text", "the first of them"),
        ("driver.modprobe", "flag", "whether nvidia-modprobe can make missing device files for any user (setuid)"),
        ("driver.libcuda", "flag", "whether the driver's CUDA library libcuda.so.1 is found"),
        ("driver.stub_in_path", "flag", "whether LD_LIBRARY_PATH holds the toolkit's stub of libcuda"),
        ("driver.compat_in_path", "flag", "whether LD_LIBRARY_PATH holds a folder of forward compatibility with a libcuda"),
        ("driver.compat_version", "version", "driver version of the forward compatibility library in /usr/local/cuda/compat"),
        ("driver.container", "text", "what container this is: docker, podman, kubernetes, apptainer, lxc, other, none"),
        ("driver.container_asked", "text", "NVIDIA_VISIBLE_DEVICES: which GPUs the container was to be given"),
        ("driver.container_capabilities", "text", "NVIDIA_DRIVER_CAPABILITIES: which parts of the driver it was to be given"),
        ("driver.container_compute", "flag", "whether CUDA is among them"),
        ("driver.docker", "flag", "whether Docker is installed on this host"),
        ("driver.docker_runtime", "flag", "whether Docker's daemon.json names NVIDIA's runtime"),
        ("driver.toolkit", "flag", "whether the NVIDIA Container Toolkit is installed on this host"),
        ("driver.cdi", "flag", "whether there is a CDI description of NVIDIA's GPUs"),
        ("driver.wsl", "flag", "whether this is Linux inside Windows (WSL)"),
        ("driver.wsl_device", "flag", "whether WSL 2's GPU device /dev/dxg is there"),
        ("driver.wsl_library", "flag", "whether Windows' driver brings libcuda into WSL"),
        ("driver.wsl_shadowed", "flag", "whether a Linux driver was installed inside WSL"),
        ("driver.tegra", "flag", "whether this is a Jetson or another Tegra board"),
        ("driver.amdgpu", "flag", "whether AMD's kernel driver is loaded"),
        ("driver.amdgpu_version", "text", "its version, where it is not the kernel's own"),
        ("driver.rocm", "text", "version of ROCm in /opt/rocm"),
        ("driver.kfd", "flag", "whether AMD's compute device /dev/kfd is there"),
        ("driver.kfd_denied", "flag", "whether this user may not open /dev/kfd"),
        ("driver.render_files", "number", "render device files /dev/dri/renderD*"),
        ("driver.render_denied", "number", "render device files that this user may not open"),
        ("driver.render_denied_path", "text", "the first of them"),
        ("driver.davinci_files", "number", "Ascend device files /dev/davinci0, ..."),
        ("driver.davinci_denied", "number", "Ascend device files that this user may not open"),
        ("driver.ascend", "text", "version of the Ascend driver"),
    ),
    *_kinds("gpu", "GPUs",
        ("gpu.vendor", "text", "whose GPUs are there: nvidia, amd, intel, apple, ascend, habana, none"),
        ("gpu.models", "text", "the GPUs by model: 8 x NVIDIA H100 80GB HBM3"),
        ("gpu.mixed_capability", "flag", "whether the GPUs differ in compute capability"),
        ("gpu.capability_least", "version", "the lowest compute capability among several GPUs"),
        ("gpu.capability_most", "version", "the highest compute capability among several GPUs"),
        ("gpu.mixed_memory", "flag", "whether the GPUs differ in memory by more than a tenth"),
        ("gpu.memory_least", "bytes", "the smallest memory among several GPUs"),
        ("gpu.memory_most", "bytes", "the largest memory among several GPUs"),
        ("gpu.integrated", "flag", "whether the Intel GPUs are all part of a processor"),
        ("gpu.visible_variable", "text", "the variable that chooses GPUs and is set: CUDA_VISIBLE_DEVICES, HIP_VISIBLE_DEVICES"),
        ("gpu.visible_setting", "text", "its value"),
        ("gpu.visible_problem", "text", "none, hides-all, missing-index, unknown-uuid, ambiguous-uuid, duplicate, not-a-number, mixed, several-mig"),
        ("gpu.visible_entry", "text", "the entry that the problem is about"),
        ("gpu.visible_count", "number", "how many GPUs a program sees with it"),
        ("gpu.pairs", "number", "how many pairs of GPUs were asked for direct copies"),
        ("gpu.pairs_without_p2p", "number", "between how many of them direct copies (peer-to-peer) are not possible"),
        ("gpu.pair_without_p2p", "text", "the first such pair: 0 and 1"),
        ("gpu.p2p_reason", "text", "why: chipset-not-supported, gpu-not-supported, topology-not-supported, disabled-by-setting, not-supported"),
        ("gpu.pairs_across_sockets", "number", "how many pairs of GPUs hang on different CPU sockets"),
        ("gpu.*.error", "text", "why a GPU cannot be asked, as NVML names it: GPU_IS_LOST; NO_ANSWER if a call did not come back"),
        ("gpu.*.memory_free", "bytes", "free memory of a GPU"),
        ("gpu.*.memory_used_percent", "number", "share of a GPU's memory that is in use, in percent"),
        ("gpu.*.memory_shared", "flag", "whether a GPU has no memory of its own and uses the machine's"),
        ("gpu.*.holders", "number", "how many processes hold a GPU, as far as they are to be seen"),
        ("gpu.*.holder", "text", "the one that holds most: its command, pid and memory"),
        ("gpu.*.held", "bytes", "memory that the processes hold together"),
        ("gpu.*.ecc", "flag", "whether error correction is on"),
        ("gpu.*.ecc_pending", "flag", "whether its mode changes with the next reset"),
        ("gpu.*.ecc_uncorrected", "number", "uncorrectable memory errors since the driver was loaded"),
        ("gpu.*.ecc_uncorrected_total", "number", "uncorrectable memory errors over the card's life"),
        ("gpu.*.rows_remapped", "number", "memory rows that were replaced after uncorrectable errors"),
        ("gpu.*.remap_pending", "flag", "whether a row waits for a reset to be replaced"),
        ("gpu.*.remap_failed", "flag", "whether a row could not be replaced"),
        ("gpu.*.pages_retired", "number", "memory pages taken out of use after uncorrectable errors (before Ampere)"),
        ("gpu.*.pages_pending", "flag", "whether a page waits for a reset to be taken out of use"),
        ("gpu.*.mig", "flag", "whether a GPU is divided into MIG instances"),
        ("gpu.*.mig_pending", "flag", "whether MIG mode changes with the next reset"),
        ("gpu.*.mig_instances", "number", "how many MIG instances there are"),
        ("gpu.*.mig_profiles", "text", "their profiles: 1g.10gb, 3g.40gb"),
        ("gpu.*.mig_memory", "bytes", "memory of the smallest MIG instance"),
        ("gpu.*.compute_mode", "text", "default, exclusive-process, prohibited"),
        ("gpu.*.slowed", "text", "what holds the clocks down at the moment, other than idleness; none"),
        ("gpu.*.slowed_by_heat", "flag", "whether heat holds the clocks down"),
        ("gpu.*.slowed_by_power_brake", "flag", "whether the power supply's brake signal holds the clocks down"),
        ("gpu.*.temperature", "number", "temperature in degrees Celsius"),
        ("gpu.*.load_percent", "number", "share of the last moment in which kernels ran, in percent"),
        ("gpu.*.persistence", "flag", "whether the driver stays loaded when nobody uses the GPU"),
        ("gpu.*.display", "flag", "whether a display runs on the GPU"),
        ("gpu.*.pci", "text", "PCI address: 0000:3b:00.0"),
        ("gpu.*.pcie_generation", "number", "PCIe generation of the link now; idle GPUs lower it"),
        ("gpu.*.pcie_generation_max", "number", "best PCIe generation of the GPU in this machine"),
        ("gpu.*.pcie_width", "number", "PCIe lanes in use now"),
        ("gpu.*.pcie_width_max", "number", "most PCIe lanes of the GPU in this machine"),
        ("gpu.*.nvlinks", "number", "active NVLinks"),
        ("gpu.*.nvlinks_best", "number", "most active NVLinks of a GPU of the same model in this machine"),
        ("gpu.*.fabric", "text", "state of the NVLink fabric: not-supported, not-started, in-progress, completed"),
        ("gpu.*.fabric_status", "text", "how joining the fabric ended: SUCCESS, or NVML's name of an error"),
        ("gpu.*.uuid", "text", "UUID; told only if CUDA_VISIBLE_DEVICES names GPUs by it"),
        ("gpu.*.gfx", "text", "target of an AMD GPU: gfx942"),
    ),
)  # fmt: skip

# host: sources/host.py, memory, storage, limits, network, settings
HOST: tuple[FactKind, ...] = (
    *_kinds("host", "memory",
        ("memory.total", "bytes", "main memory of the machine"),
        ("memory.available", "bytes", "main memory that programs can still get, by the kernel's estimate"),
        ("memory.swap_total", "bytes", "swap space"),
        ("memory.swap_free", "bytes", "swap space that is free"),
        ("memory.limited", "flag", "whether a control group (container, job) allows less than the machine has"),
        ("memory.limit", "bytes", "the control group's memory limit, the smallest of all levels"),
        ("memory.limit_percent", "number", "that limit in percent of the machine's memory"),
        ("memory.limit_used", "bytes", "what the control group uses of it, without idle file cache"),
        ("memory.limit_kills", "number", "processes that the out-of-memory killer ended in this control group so far"),
        ("memory.usable", "bytes", "what programs can have at most: the machine's memory or the limit, the smaller one"),
        ("memory.usable_free", "bytes", "what is left of that"),
        ("memory.usable_free_percent", "number", "what is left of that, in percent"),
        ("memory.huge_pages", "bytes", "memory set aside as huge pages, which ordinary allocations cannot use"),
        ("memory.huge_pages_idle_percent", "number", "huge pages that nobody uses, in percent of the machine's memory"),
        ("memory.transparent_huge_pages", "text", "always, madvise or never"),
        ("memory.overcommit", "number", "vm.overcommit_memory: 0 by estimate, 1 always, 2 never beyond the limit"),
        ("memory.commit_left", "bytes", "what may still be promised, where overcommit is 2"),
        ("shm.mounted", "flag", "whether /dev/shm is a mount of its own"),
        ("shm.total", "bytes", "size of /dev/shm"),
        ("shm.free", "bytes", "free room in /dev/shm"),
        ("shm.free_percent", "number", "free room in /dev/shm in percent"),
    ),
    *_kinds("host", "storage",
        ("storage.*.path", "text", "a folder that matters: models, temporary, work, vllm, triton, inductor (their caches)"),
        ("storage.*.setting", "text", "the environment variable that chose it; none for the default"),
        ("storage.*.exists", "flag", "whether the folder is there; if not, the rest is told of the folder above it"),
        ("storage.*.total", "bytes", "size of its file system"),
        ("storage.*.free", "bytes", "room there that ordinary users can take"),
        ("storage.*.free_percent", "number", "that room in percent"),
        ("storage.*.inodes_free", "number", "how many files can still be made there"),
        ("storage.*.inodes_free_percent", "number", "that in percent"),
        ("storage.*.type", "text", "type of the file system: ext4, xfs, overlay, nfs4, tmpfs"),
        ("storage.*.network", "flag", "whether it is a network file system"),
        ("storage.*.in_memory", "flag", "whether it lies in main memory (tmpfs)"),
        ("storage.*.layer", "flag", "whether it lies in a container's own layer, which goes with the container"),
        ("storage.*.read_only", "flag", "whether it is mounted read-only"),
        ("storage.*.noexec", "flag", "whether programs and libraries there may not be run"),
        ("storage.*.writable", "flag", "whether this user may write there"),
    ),
    *_kinds("host", "limits",
        ("limit.nofile", "number", "open files and sockets per process (soft limit; absent if unlimited)"),
        ("limit.nofile_hard", "number", "the same, up to which a process may raise it"),
        ("limit.nofile_unlimited", "flag", "whether open files are unlimited"),
        ("limit.memlock", "bytes", "memory that a process may lock (soft limit; absent if unlimited)"),
        ("limit.memlock_hard", "bytes", "the same, up to which a process may raise it"),
        ("limit.memlock_unlimited", "flag", "whether locked memory is unlimited"),
        ("limit.nproc", "number", "tasks of one user (soft limit; absent if unlimited)"),
        ("limit.nproc_hard", "number", "the same, up to which a process may raise it"),
        ("limit.nproc_unlimited", "flag", "whether the tasks of a user are unlimited"),
        ("limit.nproc_used_percent", "number", "tasks that this user has, in percent of the limit; absent for the superuser"),
        ("limit.pids", "number", "tasks that the control group allows (absent if unlimited)"),
        ("limit.pids_used_percent", "number", "tasks in the control group, in percent of what it allows"),
        ("limit.system_tasks_used_percent", "number", "tasks of all users, in percent of what the kernel allows"),
        ("limit.stack", "bytes", "stack of a thread (soft limit; absent if unlimited)"),
        ("limit.stack_hard", "bytes", "the same, up to which a process may raise it"),
        ("limit.stack_unlimited", "flag", "whether the stack is unlimited"),
        ("limit.core", "bytes", "size of a core dump (soft limit; absent if unlimited)"),
        ("limit.core_hard", "bytes", "the same, up to which a process may raise it"),
        ("limit.core_unlimited", "flag", "whether core dumps are unlimited"),
        ("limit.fsize", "bytes", "largest file that a process may write (soft limit; absent if unlimited)"),
        ("limit.fsize_hard", "bytes", "the same, up to which a process may raise it"),
        ("limit.fsize_unlimited", "flag", "whether the size of files is unlimited"),
        ("limit.as", "bytes", "address space of a process (soft limit; absent if unlimited)"),
        ("limit.as_hard", "bytes", "the same, up to which a process may raise it"),
        ("limit.as_unlimited", "flag", "whether address space is unlimited"),
        ("limit.max_map_count", "number", "how many memory mappings a process may have"),
    ),
    *_kinds("host", "system",
        ("env.*", "text", "an environment variable that is on the allow-list; `set` for one that holds a secret"),
        ("os.kernel", "version", "version of the Linux kernel"),
        ("system.c_library", "text", "glibc or musl"),
        ("system.wsl", "text", "1 or 2 for the Windows Subsystem for Linux, otherwise none"),
        ("system.virtual", "flag", "whether it is a virtual machine, as its processor tells"),
        ("system.maker", "text", "maker of the machine, or of the virtual machine"),
        ("container.kind", "text", "docker, podman, kubernetes, apptainer, lxc … or none"),
        ("cgroup.kind", "text", "version of the control groups that manage memory: 1, 2 or none"),
        ("cpu.model", "text", "name of the processor"),
        ("cpu.cores", "number", "logical CPUs that are online"),
        ("cpu.allowed", "number", "logical CPUs that this process may run on (affinity)"),
        ("cpu.quota", "number", "CPUs' worth of time that the control group allows (absent if unlimited)"),
        ("cpu.usable", "number", "CPUs that can really be used: affinity or quota, the smaller one, rounded up"),
        ("cpu.usable_percent", "number", "the same in percent of the CPUs online"),
        ("cpu.*", "flag", "whether the processor has an instruction set: sse4_2, f16c, fma, avx, avx2, avx512f, amx_bf16, asimd, sve"),
        ("cpu.governor", "text", "how the clock of the first CPU is chosen: performance, powersave, schedutil"),
        ("numa.nodes", "number", "memory nodes of the machine"),
        ("numa.balancing", "flag", "whether the kernel moves pages between memory nodes by itself"),
        ("compiler.c", "text", "the C compiler that would be taken (CC, gcc, cc, clang), or none"),
        ("compiler.cxx", "text", "the C++ compiler that would be taken (CXX, g++, c++, clang++), or none"),
        ("setting.allocator_variable", "text", "which variable sets PyTorch's allocator"),
        ("setting.allocator_options", "text", "the options that it names, with commas between"),
        ("setting.allocator_unknown_option", "text", "the first of them that no release of PyTorch reads, or none"),
        ("setting.allocator_expandable", "flag", "whether expandable_segments is asked for"),
        ("setting.nccl_debug_known", "flag", "whether the value of NCCL_DEBUG is one that NCCL reads"),
        ("setting.locale_utf8", "flag", "whether Python will take UTF-8 for files and output"),
        ("setting.nodes", "number", "machines that the job runs on, as the launcher's variables tell"),
        ("setting.omp_threads", "number", "OMP_NUM_THREADS as a number"),
    ),
    *_kinds("host", "network",
        ("network.interfaces", "text", "names of the network interfaces"),
        ("network.usable", "text", "those that are up and have an address, without loopback; or none"),
        ("network.usable_count", "number", "how many those are"),
        ("network.nccl_interfaces", "text", "interfaces that NCCL_SOCKET_IFNAME selects here, or none"),
        ("network.nccl_only_loopback", "flag", "whether it selects nothing but loopback"),
        ("network.nccl_devices", "text", "InfiniBand devices that NCCL_IB_HCA selects here, or none"),
        ("network.gloo_missing", "text", "names in GLOO_SOCKET_IFNAME that are no interface with an address here, or none"),
        ("network.ucx_missing", "text", "names in UCX_NET_DEVICES that are no device here, or none"),
        ("network.host_resolves", "flag", "whether this machine's own name has an address without asking a name server"),
        ("network.host_address", "text", "what that address is: loopback, own, other (no interface here has it) or none"),
        ("network.master_address", "text", "what MASTER_ADDR is here: loopback, own or other"),
        ("network.master_port_taken", "flag", "whether something listens on MASTER_PORT here"),
        ("network.master_port_owner", "text", "the process that does"),
        ("port.*.listening", "flag", "whether something listens on a port that servers use: 8000, 8080, 11434, 29500, 30000"),
        ("port.*.owner", "text", "the process that does, where it may be looked at"),
        ("network.proxy", "flag", "whether a proxy is set for http or https"),
        ("network.proxy_takes_localhost", "flag", "whether requests to http://localhost or 127.0.0.1 go to the proxy"),
        ("infiniband.ports", "number", "ports of InfiniBand and RoCE devices"),
        ("infiniband.active", "number", "how many of them are active"),
        ("infiniband.*.state", "text", "state of a port: ACTIVE, INIT, DOWN"),
        ("infiniband.*.link_layer", "text", "InfiniBand or Ethernet"),
        ("infiniband.*.rate", "number", "its rate in Gbit/s"),
        ("infiniband.peermem", "flag", "whether the module for GPU memory over InfiniBand (nvidia_peermem) is loaded"),
        ("hub.offline", "flag", "whether the hub's client is told not to use the network"),
        ("hub.hf_transfer", "flag", "whether HF_HUB_ENABLE_HF_TRANSFER is switched on"),
        ("hub.endpoint_valid", "flag", "whether HF_ENDPOINT is an address"),
        ("hub.token", "text", "where a token for the hub is: environment, file or none"),
    ),
)  # fmt: skip

# kernel: sources/kernel.py, the kernel's log
KERNEL: tuple[FactKind, ...] = (
    *_kinds("kernel", "kernel log",
        ("kernel.log", "text", "where the kernel's log was read: /dev/kmsg, dmesg or journalctl"),
        ("kernel.xids", "number", "faults that the NVIDIA driver reported (Xid) since the start"),
        ("kernel.xid.*.count", "number", "how often an Xid was reported since the start; * is its code"),
        ("kernel.xid.*.age", "number", "seconds since the newest"),
        ("kernel.xid.*.gpu", "text", "PCI address of its GPU"),
        ("kernel.xid.*.process", "text", "the process that it names"),
        ("kernel.xid.*.action", "text", "what it asks for: application, ignore, reset, reboot, hardware, link, update, or unknown"),
        ("kernel.xid.*.meaning", "text", "what it means, in a few words"),
        ("kernel.xid.*.driver_reloaded", "flag", "whether the driver was loaded again after it"),
        ("kernel.recovery_action", "text", "the recovery that the driver says a GPU needs: None, GPU Reset Required, Node Reboot Required"),
        ("kernel.oom_kill.count", "number", "processes that the out-of-memory killer ended since the start"),
        ("kernel.oom_kill.memory", "bytes", "memory that the newest of them had"),
        ("kernel.oom_kill.scope", "text", "machine, or cgroup if a container's or job's limit was reached"),
        ("kernel.oom_kill.cgroup", "text", "the control group of the newest"),
        ("kernel.crash.count", "number", "crashes of programs that run models (segmentation fault, protection fault), since the start"),
        ("kernel.invalid_opcode.count", "number", "such programs that used an instruction the processor does not have, since the start"),
        ("kernel.sxid.count", "number", "errors that an NVSwitch reported, since the start"),
        ("kernel.api_mismatch.count", "number", "calls of a user-side driver whose version differs from the kernel module's, since the start"),
        ("kernel.open_module_needed.count", "number", "GPUs that work with NVIDIA's open kernel modules only, under the closed ones, since the start"),
        ("kernel.gpu_unsupported.count", "number", "GPUs that the loaded driver does not support (any more), since the start"),
        ("kernel.gpu_init_failed.count", "number", "failed starts of a GPU, since the start"),
        ("kernel.bar_invalid.count", "number", "GPUs whose memory window was not set up by the firmware, since the start"),
        ("kernel.probe_not_called.count", "number", "GPUs that another driver holds, since the start"),
        ("kernel.module_refused.count", "number", "kernel modules that were refused (signature, version), since the start"),
        ("kernel.pcie_error.count", "number", "uncorrected PCIe errors, since the start"),
        ("kernel.pcie_corrected.count", "number", "corrected PCIe errors, since the start"),
        ("kernel.iommu_fault.count", "number", "accesses of devices that the IOMMU refused, since the start"),
        ("kernel.hung_task.count", "number", "reports of tasks that waited inside the kernel for minutes, since the start"),
        ("kernel.lockup.count", "number", "CPUs that were stuck, since the start"),
        ("kernel.nfs_silent.count", "number", "reports that a file server does not respond, since the start"),
        ("kernel.disk_error.count", "number", "errors of disks, since the start"),
        ("kernel.file_system_error.count", "number", "errors of file systems, since the start"),
        ("kernel.machine_check.count", "number", "uncorrected errors of processor or main memory, since the start"),
        ("kernel.memory_corrected.count", "number", "corrected errors of main memory, since the start"),
        ("kernel.cpu_throttled.count", "number", "reports that the processor is slowed because of heat, since the start"),
        ("kernel.nouveau.count", "number", "sign that the driver nouveau took a GPU, since the start"),
        ("kernel.*.age", "number", "seconds since the newest line of this kind"),
        ("kernel.*.process", "text", "the process that the newest line of this kind names"),
        ("kernel.*.device", "text", "the device that it names"),
        ("kernel.*.gpu", "text", "the PCI address of the GPU that it names"),
        ("kernel.*.library", "text", "the library in which a program crashed"),
        ("kernel.*.reason", "text", "how it crashed, or why it was refused"),
        ("kernel.*.severity", "text", "Fatal or Non-fatal, as it is told"),
        ("kernel.sxid.code", "text", "code of the newest SXid"),
        ("kernel.api_mismatch.client", "version", "version of the user-side driver"),
        ("kernel.api_mismatch.module", "version", "version of the kernel module"),
        ("kernel.nfs_silent.server", "text", "the file server"),
        ("kernel.nfs_silent.over", "flag", "whether it answered again since"),
    ),
)  # fmt: skip

# python: sources/python.py, the target interpreter and its packages
PYTHON: tuple[FactKind, ...] = ()

# compat: diagnose/compat.py, what the tables in dataset/compat say of the versions found
COMPAT: tuple[FactKind, ...] = ()

# deep: sources/deep.py, what was tried inside the target interpreter
DEEP: tuple[FactKind, ...] = (
    *_kinds("deep", "imports",
        ("probe.*.result", "text", "how a probe ended: ok, failed, hang or signal; for torch also absent"),
        ("probe.*.seconds", "number", "how many seconds a probe took, with the start of the interpreter"),
        ("probe.*.exception", "text", "class of the exception that ended a probe"),
        ("probe.*.message", "text", "its message, the first 500 characters"),
        ("probe.*.signal", "text", "name of the signal that ended a probe: SIGSEGV"),
        ("probe.*.module", "text", "module or name that was being imported last: vllm._C"),
        ("probe.*.frame", "text", "where a probe was when it hung or crashed: torch/__init__.py:321 in _load_global_deps"),
        ("probe.*.package", "text", "distribution that a probe imports; not there for other probes"),
        ("probe.*.lazy", "flag", "whether a name was asked for whose module is loaded only then, beside the plain import"),
        ("probe.python.refused", "text", "why the interpreter could not even be started: No such file or directory"),
        ("probe.python.says", "text", "first line that the interpreter prints when it is started to do nothing"),
        ("probe.torch.listed", "flag", "whether torch is among the installed distributions, where it is not found for import"),
        ("probe.torch.needed_by", "text", "installed distributions that need torch, where there is none"),
        ("probe.cuda.hidden", "flag", "whether CUDA_VISIBLE_DEVICES or HIP_VISIBLE_DEVICES hides every GPU"),
        ("torch.runtime_version", "version", "version that torch tells of itself when it is imported"),
        ("torch.runtime_file", "text", "file that torch is imported from"),
        ("torch.runtime_cuda", "version", "CUDA version that the imported torch was built with"),
        ("torch.runtime_hip", "version", "ROCm (HIP) version that the imported torch was built with"),
        ("torch.runtime_cxx11_abi", "flag", "whether the imported torch uses the C++11 ABI"),
        ("torch.runtime_cudnn", "text", "cuDNN version that torch loaded, as it prints it: 91002"),
        ("torch.runtime_nccl", "version", "NCCL version that torch loaded"),
        ("torch.runtime_device_count", "number", "how many GPUs torch sees"),
        ("torch.arch_list", "text", "GPU architectures that torch has code for: sm_80 sm_90"),
        ("torch.device.*.name", "text", "name of a GPU as torch sees it"),
        ("torch.device.*.capability", "version", "its compute capability as torch sees it"),
        ("product.*.result", "text", "how a small product on one device in one dtype ended: ok, wrong, failed, hang or signal"),
        ("product.*.device", "text", "its device: cpu, cuda:0"),
        ("product.*.dtype", "text", "its dtype: float32, float16, bfloat16, float8_e4m3fn (for float8: a conversion)"),
        ("product.*.off", "text", "largest error, as a part of the largest value; nan where it is not a number"),
        ("product.*.message", "text", "message of the exception that ended it"),
        ("product.*.signal", "text", "name of the signal that ended it"),
        ("collective.*.result", "text", "how a sum over processes ended: ok, wrong, failed, hang or signal"),
        ("collective.*.seconds", "number", "how many seconds it took, with the start of the processes"),
        ("collective.*.backend", "text", "gloo or nccl"),
        ("collective.*.processes", "number", "how many processes took part"),
        ("collective.*.exception", "text", "class of the exception that ended it"),
        ("collective.*.message", "text", "its message, the first 500 characters"),
        ("collective.*.signal", "text", "name of the signal that ended one of the processes"),
        ("collective.*.frame", "text", "where a process was when it hung or crashed"),
    ),
)  # fmt: skip

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
    return next((kind for pattern, kind in _starred() if pattern.fullmatch(name)), None)


_EXACT = {kind.name: kind for kind in CATALOGUE}


@cache
def _starred() -> list[tuple[re.Pattern[str], FactKind]]:
    """Names with `*` as patterns, `*.version` last; made on first use, since start-up does not need them."""
    kinds = [kind for kind in CATALOGUE if "*" in kind.name]
    kinds.sort(key=lambda kind: kind.name.startswith("*"))
    return [(re.compile(re.escape(kind.name).replace(r"\*", r"[\w*+-]+")), kind) for kind in kinds]


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
