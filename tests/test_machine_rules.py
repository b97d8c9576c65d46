"""The rules on the host, the network and the kernel's log: quiet on healthy machines, and the causes of what a log says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from diagnose.causes import diagnose
from diagnose.collect import case_of_text
from diagnose.machine import joined
from diagnose.match import match
from diagnose.model import Case, Diagnosis, Event, Fact, Output, Reading
from diagnose.sources import host, kernel, settings
from tests.machines import MACHINES, cases
from tests.sources.test_host import CALLS, MACHINE
from tests.sources.test_kernel import ring
from tests.sources.trees import GiB, room, tree
from tests.stubs.nvml import needs_compiler
from tests.support import facts_of
from tests.test_bundled_rules import RULES

NOW = 1_000_000.0
DAY = 86400.0

SERVER: dict[str, Any] = {
    "gpu.vendor": "nvidia",
    "gpu.count": 8,
    "gpu.0.memory": 80 * GiB,
    "torch.version": "2.8.0",
    "triton.version": "3.4.0",
    "vllm.version": "0.11.0",
    "os.machine": "x86_64",
}

NET = {
    "/sys/class/net/lo/flags": "0x9",
    "/sys/class/net/lo/type": "772",
    "/sys/class/net/eth0/flags": "0x1003",
    "/sys/class/net/eth0/type": "1",
    "/sys/class/infiniband/mlx5_0/ports/1/state": "4: ACTIVE",
    "/sys/class/infiniband/mlx5_0/ports/1/link_layer": "InfiniBand",
    "/proc/modules": "nvidia_peermem 1 0 - Live 0x0\n",
    "/etc/hosts": "127.0.0.1 localhost\n127.0.1.1 node7\n",
}

PLAIN = "22 1 8:2 / / rw - ext4 /dev/sda2 rw\n25 22 0:22 / /dev/shm rw - tmpfs tmpfs rw\n"

BOOT = (
    (DAY, "nvidia: loading out-of-tree module taints kernel."),
    (DAY, "nvidia: module verification failed: signature and/or required key missing - tainting kernel"),
    (DAY, "NVRM: loading NVIDIA UNIX x86_64 Kernel Module  580.105.08  Wed Oct 29 23:15:11 UTC 2025"),
    (7 * DAY, "NVRM: Xid (PCI:0000:65:00): 31, pid=44, name=python3, Ch 0000000e, MMU Fault"),
    (7 * DAY, "Out of memory: Killed process 48 (python3) total-vm:2kB, anon-rss:1024kB, file-rss:1kB, shmem-rss:0kB, UID:0"),
    (60, "pcieport 0000:00:01.0: PCIe Bus Error: severity=Corrected, type=Physical Layer, (Receiver ID)"),
)  # fmt: skip

WATCHDOG = (
    "[rank0]:[E1102 09:00:00.000000000 ProcessGroupNCCL.cpp:632] [Rank 0] Watchdog caught collective operation "
    "timeout: WorkNCCL(SeqNum=7, OpType=ALLREDUCE, NumelIn=1, NumelOut=1, Timeout(ms)=600000) ran for 600013 "
    "milliseconds before timing out.\n"
)


def readings(tmp_path: Path, files: dict[str, str], log: str, **environ: str) -> list[Reading]:
    """What the sources read of a made-up machine with this log of its kernel."""
    root = tree(tmp_path, MACHINE | NET | files | {"/dev/kmsg": log})
    big = host.Calls(
        statvfs=lambda path: room(800 * GiB, 700 * GiB), addresses=lambda: {"lo": ["127.0.0.1"], "eth0": ["10.0.0.7"]},
        run=CALLS.run, c_library=CALLS.c_library,
    )  # fmt: skip
    environ = {"HOME": "/home/u", "HF_TOKEN": "hf_x", "HF_HOME": "/", "CC": "/cc", "CXX": "/cc"} | environ
    return [*host.read(environ, root, ["/"], big), *kernel.read(root, environ, NOW)]


def case_of(read: list[Reading], **more: Any) -> Case:
    """The case of some readings with other facts besides."""
    known = {reading.name: reading for reading in read if isinstance(reading, Fact)}
    events: list[Event] = []
    for reading in read:
        if isinstance(reading, Output):
            events += case_of_text(RULES, reading.text, reading.origin).events
    others = facts_of(more)
    return Case(facts=(*known.values(), *others), events=tuple(events), machine=True)


def told(case: Case, log: str = "") -> Diagnosis:
    """The diagnosis of a machine, or of a log on it."""
    if log:
        case = joined(case_of_text(RULES, log, "crash.log"), case)
    return diagnose(RULES, case, match(RULES, case))


def test_a_healthy_server_has_nothing_above_a_note(tmp_path: Path) -> None:
    """Eight GPUs, InfiniBand as the superuser, a full kernel log of an ordinary week: no error and no warning."""
    files = {
        "/proc/self/status": "Uid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\nCpus_allowed_list:\t0-7\n",
        "/proc/self/uid_map": "0 0 4294967295",
        "/proc/sys/vm/overcommit_memory": "0",
        "/proc/self/mountinfo": PLAIN,
        "/cc": "",
    }
    (tmp_path / "cc").touch(0o755)
    found = told(case_of(readings(tmp_path, files, ring(*BOOT)), **SERVER))
    assert [(item.rule, item.severity) for item in found.diagnoses if item.severity != "note"] == []


def test_a_healthy_laptop_has_nothing_above_a_note(tmp_path: Path) -> None:
    """Without a GPU, with the usual limits and a home folder that has no caches yet."""
    files = {"/proc/sys/vm/overcommit_memory": "0", "/proc/self/mountinfo": PLAIN}
    read = readings(
        tmp_path, files, ring((9, "CPU3: Core temperature above threshold, cpu clock throttled (total = 1)"))
    )
    found = told(case_of(read, **{"gpu.count": 0, "gpu.vendor": "none", "torch.version": "2.8.0"}))
    assert [(item.rule, item.severity) for item in found.diagnoses if item.severity != "note"] == []


@pytest.mark.parametrize(
    ("values", "log", "cause", "symptom"),
    [
        (
            {"shm.total": 64 * 1024**2, "torch.version": "2.8.0", "gpu.count": 2},
            (
                "RuntimeError: DataLoader worker (pid 77) is killed by signal: Bus error. It is possible that dataloader's "
                "workers are out of shared memory. Please try to raise your shared memory limit.\n"
            ),
            "shm-docker-default",
            "shared-memory-too-small",
        ),
        (
            {"kernel.oom_kill.age": 300, "kernel.oom_kill.scope": "machine", "kernel.oom_kill.process": "python3"},
            "Loading checkpoint shards:  57%|█████▋    | 8/14 [01:12<00:52,  8.77s/it]\nKilled\n",
            "machine-ran-out-of-memory",
            "process-killed-silently",
        ),
        (
            {"memory.limit_kills": 2, "memory.limited": True},
            "RuntimeError: DataLoader worker (pid 50121) is killed by signal: Killed.\n",
            "container-has-killed-processes",
            "dataloader-worker-killed",
        ),
        (
            {"network.proxy_takes_localhost": True},
            "AssertionError: res=<Response [502]>, res.text=''\n",
            "proxy-takes-local-requests",
            "sglang-warmup-answered-by-proxy",
        ),
        (
            {"network.nccl_interfaces": "none", "gpu.count": 2, "env.NCCL_SOCKET_IFNAME": "ens5"},
            "node1:77:77 [0] bootstrap.cc:45 NCCL WARN Bootstrap : no socket interface found\n",
            "nccl-interface-not-here",
            "nccl-no-network-interface",
        ),
        (
            {"network.gloo_missing": "ens5", "torch.version": "2.8.0"},
            (
                "RuntimeError: [enforce fail at ../third_party/gloo/gloo/transport/tcp/device.cc:84] ifa != nullptr. "
                "Unable to find address for: ens5\n"
            ),
            "gloo-interface-not-here",
            "nccl-no-network-interface",
        ),
        (
            {"storage.models.free": 100 * 1024**2, "storage.models.path": "/cache"},
            "OSError: [Errno 28] No space left on device\n",
            "model-cache-disk-full",
            "disk-full",
        ),
        (
            {"network.master_port_taken": True, "env.MASTER_PORT": "29500", "network.master_port_owner": "python (7)"},
            (
                "torch.distributed.DistNetworkError: The server socket has failed to listen on any local network address. "
                "port: 29500, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use\n"
            ),
            "master-port-taken",
            "store-port-in-use",
        ),
        (
            {"setting.locale_utf8": False},
            "UnicodeDecodeError: 'gbk' codec can't decode byte 0xad in position 2048: illegal multibyte sequence\n",
            "locale-is-not-utf8",
            "text-not-in-locale-encoding",
        ),
        (
            {"glibc.version": "2.17"},
            "ImportError: /lib64/libc.so.6: version `GLIBC_2.28' not found (required by /x/libtorch.so)\n",
            "glibc-older-than-wheels",
            "glibc-too-old",
        ),
        (
            {"cpu.avx2": False, "os.machine": "x86_64", "cpu.model": "QEMU"},
            "Illegal instruction (core dumped)\n",
            "cpu-without-avx2",
            "cpu-illegal-instruction",
        ),
        (
            {"limit.memlock": 65536, "limit.memlock_enforced": True, "infiniband.active": 2, "setting.nodes": 2},
            "n14:22:23 [3] misc/ibvwrap.cc:147 NCCL WARN Call to ibv_reg_mr failed with error Cannot allocate memory\n",
            "locked-memory-limited-with-infiniband",
            "nccl-infiniband-registration-failed",
        ),
        (
            {"compiler.c": "none", "triton.version": "3.4.0", "gpu.count": 1},
            "RuntimeError: Failed to find C compiler. Please specify via CC environment variable.\n",
            "c-compiler-missing-for-triton",
            None,
        ),
    ],
)
def test_what_a_log_says_is_explained_by_the_machine(
    values: dict[str, Any], log: str, cause: str, symptom: str | None
) -> None:
    """The machine's cause comes first, with the log's finding under it."""
    first = told(Case(facts=facts_of(values), machine=True), log).diagnoses[0]
    assert first.rule == cause
    assert first.symptoms
    assert symptom is None or symptom in [item.rule for item in first.symptoms]


@pytest.mark.parametrize(
    ("values", "log", "first"),
    [
        (
            {"storage.vllm.writable": False, "vllm.version": "0.11.0", "storage.vllm.path": "/.cache/vllm"},
            "PermissionError: [Errno 13] Permission denied: '/data/out/trainer_state.json'\n",
            "permission-denied",
        ),
        (
            {"storage.temporary.exists": False, "storage.temporary.setting": "TMPDIR", "storage.temporary.path": "/x"},
            "FileNotFoundError: [Errno 2] No such file or directory: 'data/train.jsonl'\n",
            "file-not-found",
        ),
        (
            {"network.proxy_takes_localhost": True},
            "openai.InternalServerError: Error code: 502 - upstream connect error\n",
            None,
        ),
        (
            {"shm.total": 64 * 1024**2, "torch.version": "2.8.0", "gpu.count": 2},
            "Loading checkpoint shards:  57%|█████▋    | 8/14 [01:12<00:52,  8.77s/it]\nKilled\n",
            "process-killed-silently",
        ),
        (
            {"gpu.0.ecc_uncorrected": 1, "gpu.0.name": "NVIDIA A100-SXM4-80GB"},
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB.\n",
            None,
        ),
        (
            {"kernel.iommu_fault.age": 600, "kernel.iommu_fault.device": "0000:03:00.0", "gpu.count": 2, "gpu.0.pci": "0000:41:00.0"},
            WATCHDOG,
            "nccl-watchdog-timeout",
        ),
        (
            {"kernel.oom_kill.age": 300, "kernel.oom_kill.scope": "machine", "kernel.oom_kill.process": "chrome"},
            "Signal 15 (SIGTERM) received by PID 77\n",
            None,
        ),
        (
            {"compiler.c": "none", "triton.version": "3.4.0", "gpu.count": 1},
            "triton.runtime.errors.PTXASError: PTXAS error: Internal Triton PTX codegen error\n",
            None,
        ),
        (
            {"kernel.machine_check.age": 200000},
            "Fatal Python error: Segmentation fault\n",
            None,
        ),
        (
            {"kernel.hung_task.age": 60, "kernel.hung_task.process": "jbd2/sda1-8"},
            WATCHDOG,
            "nccl-watchdog-timeout",
        ),
    ],
)  # fmt: skip
def test_the_machine_is_not_blamed_for_what_it_cannot_have_done(
    values: dict[str, Any], log: str, first: str | None
) -> None:
    """A finding about another file, disk, device or server stands beside what the log tells, and does not explain it."""
    machine = Case(facts=facts_of(values), machine=True)
    own = {finding.rule.id for finding in match(RULES, machine)}
    found = told(machine, log).diagnoses
    assert found[0].rule not in own
    assert first in (None, found[0].rule)
    assert {symptom.rule for item in found if item.rule in own for symptom in item.symptoms} <= own


@pytest.mark.parametrize(
    ("ago", "line", "first"),
    [
        (20 * 3600, "NVRM: Xid (PCI:0000:c1:00): 79, GPU has fallen off the bus.", "gpu-gone-from-bus"),
        (600, "NVRM: Xid (PCI:0000:41:00): 119, pid=7, name=python, Timeout after 6s of waiting", "gpu-reset-wanted"),
        (600, "NVRM: Xid (PCI:0000:41:00): 48, pid=7, name=python, DBE (double bit error)", "gpu-hardware-fault"),
        (600, "NVRM: Xid (PCI:0000:1a:00): 74, pid=7, name=python3, NVLink: fatal error detected", "gpu-link-fault"),
        (600, "nvidia-nvswitch2: SXid (PCI:0000:84:00.0): 20034, Fatal, Link 29 LTSSM Fault Up", "nvswitch-fatal-error"),
        (600, r"NVRM: API mismatch: the client has the version 1.2, but\x0aNVRM: this kernel module has the version 1.3.",
         "driver-refused-its-own-library"),
    ],
)  # fmt: skip
def test_a_gpus_fault_is_one_diagnosis(tmp_path: Path, ago: float, line: str, first: str) -> None:
    """Facts and lines of the kernel's log stand together: the cause, with the log's finding under it."""
    read = list(kernel.read(tree(tmp_path, {"/dev/kmsg": ring((ago, line))}), {}, NOW))
    found = told(case_of(read))
    assert [item.rule for item in found.diagnoses] == [first]


def test_an_old_fault_that_needs_nothing_is_no_finding(tmp_path: Path) -> None:
    """A week after a program's own fault there is nothing to say."""
    line = "NVRM: Xid (PCI:0000:65:00): 13, pid=44, name=python3, Graphics SM Warp Exception"
    read = list(kernel.read(tree(tmp_path, {"/dev/kmsg": ring((7 * DAY, line))}), {}, NOW))
    assert told(case_of(read)).diagnoses == ()


def test_settings_that_are_passed_over_are_told() -> None:
    """A variable that the installed release does not read any more."""
    environ = {"VLLM_USE_V1": "0", "TRANSFORMERS_CACHE": "/data", "PYTORCH_CUDA_ALLOC_CONF": "max_split_mb:1"}
    versions = {"vllm.version": "0.15.0", "transformers.version": "5.1.0", "torch.version": "2.8.0", "gpu.count": 1}
    found = told(case_of(list(settings.read(environ)), **versions, **{"storage.models.setting": "none"}))
    assert {item.rule for item in found.diagnoses} >= {
        "vllm-use-v1-ignored",
        "transformers-cache-variable-ignored",
        "allocator-option-unknown",
    }


@pytest.mark.parametrize(
    ("values", "first"),
    [
        (
            {"kernel.module_refused.count": 1, "kernel.module_refused.reason": "Loading of unsigned module is rejected",
             "driver.error": "DRIVER_NOT_LOADED", "gpu.vendor": "nvidia", "driver.pci_nvidia": 1, "driver.module": False,
             "driver.nouveau": False, "driver.container": "none", "driver.wsl": False, "wanted.name": "vllm"},
            "driver-module-refused",
        ),
        (
            {"kernel.xid.79.action": "reboot", "kernel.xid.79.age": 600, "kernel.xid.79.driver_reloaded": False,
             "kernel.recovery_action": "Node Reboot Required", "gpu.3.error": "GPU_IS_LOST", "gpu.count": 8,
             "cuda.available": False, "torch.runtime_cuda": "12.8", "probe.cuda.hidden": False},
            "gpu-gone-from-bus",
        ),
        (
            {"driver.nvswitches": 4, "driver.fabric_manager": False, "gpu.0.fabric": "in-progress", "gpu.count": 8,
             "cuda.available": False, "torch.runtime_cuda": "12.8", "probe.cuda.hidden": False},
            "fabric-manager-not-running",
        ),
        (
            {"kernel.xid.48.action": "hardware", "kernel.xid.48.age": 600, "gpu.0.ecc_uncorrected": 2,
             "gpu.0.remap_pending": True, "kernel.recovery_action": "GPU Reset Required"},
            "gpu-hardware-fault",
        ),
        (
            {"driver.container": "docker", "driver.pci_nvidia": 2, "driver.nouveau": True, "driver.module": False,
             "driver.device_control": False, "driver.container_asked": "all", "driver.wsl": False, "torch.cuda": "12.8"},
            "nouveau-holds-the-gpu",
        ),
        (
            {"storage.models.setting": "none", "storage.models.writable": False, "storage.models.read_only": False,
             "storage.triton.setting": "none", "storage.triton.writable": False, "storage.vllm.writable": False,
             "hub.offline": False, "triton.version": "3.4.0", "vllm.version": "0.11.0", "gpu.count": 1},
            "home-folder-not-writable",
        ),
        (
            {"driver.container": "docker", "driver.container_compute": False, "driver.container_capabilities": "utility",
             "driver.libcuda": False, "driver.device_control": True, "gpu.vendor": "nvidia", "gpu.count": 1,
             "cuda.available": False, "torch.runtime_cuda": "12.8", "probe.cuda.hidden": False},
            "driver-capabilities-without-compute",
        ),
    ],
)  # fmt: skip
def test_what_several_findings_have_in_common_is_told_once(values: dict[str, Any], first: str) -> None:
    """The lowest cause comes first, and what follows from it stands under it."""
    found = [
        item.rule for item in told(Case(facts=facts_of(values), machine=True)).diagnoses if item.severity != "note"
    ]
    assert found == [first]


# --- whole machines


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], Case]:
    """The case of each machine, in good order and with its fault; all are read at once."""
    folder = tmp_path_factory.mktemp("machines")
    keys = [(name, broken) for name in MACHINES for broken in (False, True)]
    machines = [MACHINES[name].broken() if broken else MACHINES[name] for name, broken in keys]
    return dict(zip(keys, cases(RULES, machines, folder, folder), strict=True))


@needs_compiler
@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_in_good_order_has_no_error_and_no_warning(known: dict[tuple[str, bool], Case], name: str) -> None:
    """Whatever kind of machine it is, there is nothing above a note."""
    found = told(known[name, False]).diagnoses
    assert [(item.rule, item.severity) for item in found if item.severity != "note"] == []


@needs_compiler
@pytest.mark.parametrize("name", MACHINES)
def test_a_machines_fault_is_told_first_and_alone(known: dict[tuple[str, bool], Case], name: str) -> None:
    """One fault is one diagnosis: what follows from it stands under it."""
    found = [item.rule for item in told(known[name, True]).diagnoses if item.severity != "note"]
    assert found == [MACHINES[name].fault.first]
