"""What the kernel's files say of GPUs, from copies of /proc, /sys and /dev."""

from __future__ import annotations

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.match import match
from diagnose.model import Case, Fact, Reading, Unchecked
from diagnose.ruleset import RuleSet, load
from diagnose.sources import devices, gpu
from diagnose.sources.nvml import Driver
from diagnose.sources.tree import Tree

GIB = 1 << 30
OPEN_MODULE = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (dvs-builder@U16)"
CLOSED_MODULE = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023"


class Machine:
    """A copy of a machine's files, and what the source tells of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.file("/proc/version", "Linux version 6.8.0-45-generic (buildd@lcy02) #45-Ubuntu SMP")
        (root / "sys/bus/pci/devices").mkdir(parents=True)
        (root / "dev").mkdir()

    def file(self, name: str, text: str = "", mode: int = 0o666) -> Machine:
        place = self.root / name.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)
        return self

    def card(self, address: str, vendor: str, kind: str = "0x030200", driver: str = "") -> Machine:
        folder = f"/sys/bus/pci/devices/{address}"
        self.file(f"{folder}/vendor", f"{vendor}\n")
        self.file(f"{folder}/class", f"{kind}\n")
        if driver:
            (self.root / folder.lstrip("/") / "driver").symlink_to(f"../../../bus/pci/drivers/{driver}")
        return self

    def told(self, **environ: str) -> dict[str, Any]:
        return {item.name: item.value for item in self.readings(**environ) if isinstance(item, Fact)}

    def unchecked(self, **environ: str) -> dict[str, str]:
        return {item.what: item.why for item in self.readings(**environ) if isinstance(item, Unchecked)}

    def readings(self, **environ: str) -> list[Reading]:
        return list(gpu.read({"PATH": "/nonexistent", **environ}, str(self.root)))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine without a GPU, on which NVML's library is not found."""

    def start(self: Driver) -> Any:
        self.error = "LIBRARY_NOT_FOUND"
        yield from ()

    monkeypatch.setattr(Driver, "start", start)
    return Machine(tmp_path)


@pytest.fixture(scope="session")
def rules() -> RuleSet:
    """The bundled rules."""
    return load()


def serious(rules: RuleSet, told: dict[str, Any]) -> set[str]:
    """The errors and warnings that the rules find."""
    facts = tuple(Fact(name, value, "test") for name, value in told.items())
    findings = match(rules, Case(facts, machine=True))
    return {finding.rule.id for finding in findings if finding.rule.severity != "note"}


# --- no GPU


def test_a_machine_without_a_gpu_is_a_normal_machine(machine: Machine) -> None:
    """Nothing is wrong and nothing unchecked: it has none."""
    told = machine.told()
    assert told["gpu.vendor"] == "none"
    assert told["gpu.count"] == 0
    assert told["driver.pci_nvidia"] == 0
    assert "driver.error" not in told
    assert machine.unchecked() == {}


def test_a_hidden_bus_is_said(tmp_path: Path, machine: Machine) -> None:
    """Where /sys shows no PCI bus, that is unchecked, and no number of cards is told."""
    (tmp_path / "sys/bus/pci/devices").rmdir()
    assert "driver.pci_nvidia" not in machine.told()
    assert "the PCI bus" in machine.unchecked()


def test_other_pci_devices_are_no_gpus(machine: Machine) -> None:
    """Sound, network and bridges of the same makers do not count."""
    machine.card("0000:01:00.1", devices.NVIDIA, "0x040300").card("0000:02:00.0", devices.INTEL, "0x020000")
    assert machine.told()["gpu.vendor"] == "none"


# --- NVIDIA


def test_a_card_without_a_driver(machine: Machine) -> None:
    """The card is on the bus, no module is loaded, and how many GPUs can be used stays open."""
    told = machine.card("0000:01:00.0", devices.NVIDIA, "0x030000").told()
    assert told["gpu.vendor"] == "nvidia"
    assert told["driver.pci_nvidia"] == told["driver.pci_unbound"] == 1
    assert told["driver.module"] is told["driver.nouveau"] is False
    assert told["driver.error"] == "LIBRARY_NOT_FOUND"
    assert "gpu.count" not in told
    assert "nvidia-smi" in machine.unchecked()["the GPUs"]


def test_nouveau_is_seen_on_the_card(machine: Machine) -> None:
    """The free driver counts only if it has an NVIDIA card."""
    assert machine.card("0000:01:00.0", devices.NVIDIA, driver="nouveau").told()["driver.nouveau"] is True


def test_cards_lent_to_virtual_machines_are_counted_apart(machine: Machine) -> None:
    """A card of vfio-pci is none of the host's."""
    told = machine.card("0000:01:00.0", devices.NVIDIA, driver="vfio-pci").told()
    assert (told["driver.pci_lent"], told["driver.pci_nvidia"]) == (1, 0)


@pytest.mark.parametrize(
    ("text", "version", "is_open"), [(OPEN_MODULE, "570.86.15", True), (CLOSED_MODULE, "535.104.05", False)]
)
def test_the_kernel_module_tells_its_version(machine: Machine, text: str, version: str, is_open: bool) -> None:
    """The open and the proprietary module, as the kernel writes them."""
    told = machine.file("/proc/driver/nvidia/version", text + "\nGCC version:  gcc version 12.3.0\n").told()
    assert told["driver.module"] is True
    assert told["driver.module_version"] == told["driver.version"] == version
    assert told["driver.module_open"] is is_open


@pytest.mark.parametrize("text", ["", "NVRM version: \xff\xfe", "garbage 12345"])
def test_a_version_file_without_a_version(machine: Machine, text: str) -> None:
    """What cannot be read as a version is none."""
    told = machine.file("/proc/driver/nvidia/version", text).told()
    assert told["driver.module"] is True
    assert "driver.module_version" not in told


def test_device_files_are_counted(machine: Machine) -> None:
    """Cards by their number; control and unified-memory files by name; others of the driver's do not count."""
    for name in ("nvidia0", "nvidia1", "nvidia10", "nvidiactl", "nvidia-modeset", "nvidia-caps-imex"):
        machine.file(f"/dev/{name}")
    told = machine.told()
    assert told["driver.device_files"] == 3
    assert told["driver.device_control"] is True
    assert told["driver.device_uvm"] is False
    assert told["driver.device_denied"] == 0


def test_denied_device_files_are_named(machine: Machine, rules: RuleSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many files this user may not open, the first of them, and the rule about it."""
    machine.card("0000:01:00.0", devices.NVIDIA, driver="nvidia").file("/sys/module/nvidia/version", "550.54.15")
    machine.file("/dev/nvidia0").file("/dev/nvidiactl").file("/dev/nvidia-uvm")
    monkeypatch.setattr(Tree, "usable", lambda self, name: name == "/dev/nvidia0")
    told = machine.told()
    assert told["driver.device_denied"] == 2
    assert told["driver.device_denied_path"] == "/dev/nvidiactl"
    assert "nvidia-device-files-denied" in serious(rules, told | {"driver.error": "NO_PERMISSION"})
    monkeypatch.setattr(Tree, "usable", lambda self, name: name != "/dev/nvidia-uvm")
    assert "nvidia-uvm-denied" in serious(rules, machine.told())


def test_denied_amd_devices_are_found(machine: Machine, rules: RuleSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compute device, and the render devices all together; where nothing is built for AMD it is no trouble."""
    machine.card("0000:0c:00.0", devices.AMD, "0x120000", "amdgpu").file("/dev/kfd").file("/dev/dri/renderD128")
    machine.file("/sys/module/amdgpu/version", "6.10.5")
    monkeypatch.setattr(Tree, "usable", lambda self, name: name != "/dev/kfd")
    built = {"torch.hip": "6.4.43484"}
    assert serious(rules, machine.told()) == set()
    assert serious(rules, machine.told() | built) == {"amd-compute-device-denied"}
    monkeypatch.setattr(Tree, "usable", lambda self, name: name == "/dev/kfd")
    assert serious(rules, machine.told() | built) == {"amd-render-device-denied"}


def test_nvswitches_and_their_service(machine: Machine) -> None:
    """NVSwitches are counted, and a running Fabric Manager is found by the name of its process, if processes are shown."""
    machine.card("0000:c1:00.0", devices.NVIDIA, "0x068000").card("0000:c2:00.0", devices.NVIDIA, "0x068000")
    assert machine.told()["driver.nvswitches"] == 2
    assert machine.told()["driver.pci_nvidia"] == 0
    tree = Tree(str(machine.root))
    assert devices.fabric_manager(tree) is None
    machine.file("/proc/1/comm", "systemd\n")
    assert devices.fabric_manager(tree) is False
    machine.file("/proc/812/comm", "nv-fabricmanage\n")
    assert devices.fabric_manager(tree) is True


def test_lent_nvswitches_and_virtual_functions_do_not_count(machine: Machine) -> None:
    """What a virtual machine has is not the host's, and a part of a card is no card."""
    machine.card("0000:c1:00.0", devices.NVIDIA, "0x068000", "vfio-pci")
    machine.card("0000:01:00.0", devices.NVIDIA, driver="nvidia").card("0000:01:00.4", devices.NVIDIA, driver="nvidia")
    (machine.root / "sys/bus/pci/devices/0000:01:00.4/physfn").symlink_to("../0000:01:00.0")
    assert machine.told()["driver.nvswitches"] == 0
    assert machine.told()["driver.pci_nvidia"] == 1


# --- libraries


def test_the_cuda_library_is_looked_for(machine: Machine) -> None:
    """In the loader's cache and the usual folders; if neither can be read it is not known."""
    machine.card("0000:01:00.0", devices.NVIDIA)
    assert "driver.libcuda" not in machine.told()
    machine.file("/etc/ld.so.cache", "ld.so-1.7.0\0libc.so.6\0")
    assert machine.told()["driver.libcuda"] is False
    machine.file("/etc/ld.so.cache", "ld.so-1.7.0\0libcuda.so.1\0/usr/lib/libcuda.so.1\0")
    assert machine.told()["driver.libcuda"] is True
    machine.file("/etc/ld.so.cache", "").file("/usr/lib64/libcuda.so.1")
    assert machine.told()["driver.libcuda"] is True


def test_stub_and_compatibility_libraries_in_the_path(machine: Machine) -> None:
    """Folders in LD_LIBRARY_PATH count only if the library that programs load is in them."""
    machine.card("0000:01:00.0", devices.NVIDIA)
    stubs, compat = "/usr/local/cuda/lib64/stubs", "/usr/local/cuda/compat"
    machine.file(f"{stubs}/libcuda.so").file(f"{compat}/libcuda.so.550.54.15")
    told = machine.told(LD_LIBRARY_PATH=f"{stubs}:{compat}:relative")
    assert told["driver.stub_in_path"] is told["driver.compat_in_path"] is False
    assert told["driver.compat_version"] == "550.54.15"
    machine.file(f"{stubs}/libcuda.so.1").file(f"{compat}/libcuda.so.1")
    told = machine.told(LD_LIBRARY_PATH=f"{stubs}:{compat}")
    assert told["driver.stub_in_path"] is told["driver.compat_in_path"] is True
    assert machine.told(LD_LIBRARY_PATH=f"{compat}:{stubs}")["driver.stub_in_path"] is False


def test_the_loaded_library_tells_its_version() -> None:
    """From the file behind the name, as the memory map shows it."""
    maps = "7f00-7f01 r-xp 00000000 08:01 99  /usr/lib/x86_64-linux-gnu/libnvidia-ml.so.550.120\n"
    assert devices.loaded_library(maps) == "550.120"
    assert devices.loaded_library(maps.replace("550.120", "1")) == ""
    assert devices.loaded_library("") == ""


# --- containers


@pytest.mark.parametrize(
    ("files", "environ", "kind"),
    [
        ({}, {}, "none"),
        ({"/.dockerenv": ""}, {}, "docker"),
        ({"/run/.containerenv": ""}, {}, "podman"),
        ({}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
        ({}, {"APPTAINER_CONTAINER": "/images/x.sif"}, "apptainer"),
        ({"/proc/1/cgroup": "0::/kubepods.slice/pod1\n"}, {}, "kubernetes"),
        ({"/proc/1/environ": "container=lxc\0HOME=/root\0"}, {}, "lxc"),
        ({}, {"container": "oci"}, "other"),
        ({"/proc/1/cgroup": "0::/init.scope\n"}, {}, "none"),
    ],
)
def test_containers_are_recognised(machine: Machine, files: dict[str, str], environ: dict[str, str], kind: str) -> None:
    """By the signs that each kind leaves."""
    for name, text in files.items():
        machine.file(name, text)
    assert machine.told(**environ)["driver.container"] == kind


@pytest.mark.parametrize(
    ("value", "compute"),
    [("all", True), ("compute,utility", True), ("utility", False), ("video, graphics", False), ("", True)],
)
def test_what_a_container_was_to_be_given(machine: Machine, value: str, compute: bool) -> None:
    """Whether CUDA is among the parts of the driver that were asked for; empty means the default, which has it."""
    told = machine.told(NVIDIA_VISIBLE_DEVICES="all", NVIDIA_DRIVER_CAPABILITIES=value)
    assert told["driver.container_asked"] == "all"
    assert told["driver.container_compute"] is compute


def test_the_container_tools_of_a_host(machine: Machine) -> None:
    """Docker without the toolkit, then with it, registered, and with a CDI description."""
    machine.card("0000:01:00.0", devices.NVIDIA).file("/usr/bin/dockerd")
    told = machine.told()
    assert told["driver.docker"] is True
    assert told["driver.toolkit"] is told["driver.docker_runtime"] is told["driver.cdi"] is False
    machine.file("/usr/bin/nvidia-ctk").file("/etc/cdi/nvidia.yaml")
    machine.file("/etc/docker/daemon.json", json.dumps({"runtimes": {"nvidia": {"path": "nvidia-container-runtime"}}}))
    told = machine.told()
    assert told["driver.toolkit"] is told["driver.docker_runtime"] is told["driver.cdi"] is True


@pytest.mark.parametrize("text", ["{", "[]", '{"runtimes": 5}', "[" * 5000, ""])
def test_a_broken_daemon_json_does_no_harm(machine: Machine, text: str) -> None:
    """It is unchecked, or has no runtimes; nothing breaks off."""
    machine.card("0000:01:00.0", devices.NVIDIA).file("/usr/bin/dockerd").file("/etc/docker/daemon.json", text)
    told = machine.told()
    assert told.get("driver.docker_runtime") in (None, False)
    assert told["gpu.vendor"] == "nvidia"


# --- WSL


def test_windows_subsystem(machine: Machine) -> None:
    """Recognised by its kernel; its GPU device, its library, and a Linux driver in front of it."""
    assert machine.told()["driver.wsl"] is False
    machine.file("/proc/version", "Linux version 5.15.153.1-microsoft-standard-WSL2 (root@941d701f84f1)")
    told = machine.told()
    assert told["driver.wsl"] is True
    assert told["driver.wsl_device"] is told["driver.wsl_library"] is told["driver.wsl_shadowed"] is False
    machine.file("/dev/dxg").file("/usr/lib/wsl/lib/libcuda.so.1")
    told = machine.told()
    assert told["driver.wsl_device"] is told["driver.wsl_library"] is True
    assert told["driver.wsl_shadowed"] is False
    machine.file("/usr/lib/x86_64-linux-gnu/libcuda.so.1")
    assert machine.told()["driver.wsl_shadowed"] is True


# --- what the rules make of it


def test_a_machine_without_a_gpu_has_no_error(machine: Machine, rules: RuleSet) -> None:
    """Neither on a host nor in a container, also of an image that is made for GPUs."""
    assert serious(rules, machine.told()) == set()
    machine.file("/.dockerenv")
    assert (
        serious(rules, machine.told(NVIDIA_VISIBLE_DEVICES="all", NVIDIA_DRIVER_CAPABILITIES="compute,utility"))
        == set()
    )


def test_a_missing_driver_is_found(machine: Machine, rules: RuleSet) -> None:
    """A card without a module, and one that nouveau has."""
    machine.card("0000:01:00.0", devices.NVIDIA)
    assert serious(rules, machine.told()) == {"nvidia-module-not-loaded"}
    machine.card("0000:01:00.0", devices.NVIDIA, driver="nouveau")
    assert serious(rules, machine.told()) == {"nouveau-holds-the-gpu"}


def test_missing_libraries_are_found(machine: Machine, rules: RuleSet) -> None:
    """The module runs, and NVML's library is not there."""
    machine.card("0000:01:00.0", devices.NVIDIA, driver="nvidia").file("/proc/driver/nvidia/version", OPEN_MODULE)
    machine.file("/dev/nvidiactl").file("/dev/nvidia0").file("/dev/nvidia-uvm")
    assert serious(rules, machine.told()) == {"nvidia-user-libraries-missing"}


def test_containers_without_gpus_are_found(machine: Machine, rules: RuleSet) -> None:
    """Not given any; given the devices and not the libraries; Apptainer without --nv. One that wants none is fine."""
    machine.card("0000:01:00.0", devices.NVIDIA, driver="nvidia").file("/.dockerenv")
    assert serious(rules, machine.told(NVIDIA_VISIBLE_DEVICES="all")) == {"container-host-without-driver"}
    machine.file("/sys/module/nvidia/version", "550.54.15")
    assert serious(rules, machine.told()) == set()
    assert serious(rules, machine.told() | {"torch.cuda": "12.8"}) == {"container-torch-for-cuda-without-gpu"}
    assert serious(rules, machine.told(NVIDIA_VISIBLE_DEVICES="all")) == {"container-was-given-no-gpu"}
    assert serious(rules, machine.told(NVIDIA_VISIBLE_DEVICES="void")) == set()
    machine.file("/dev/nvidiactl").file("/dev/nvidia0").file("/dev/nvidia-uvm")
    assert serious(rules, machine.told()) == {"container-has-devices-but-no-driver-libraries"}
    assert serious(rules, machine.told(APPTAINER_CONTAINER="/x.sif")) == {"apptainer-without-nv"}


def test_a_linux_driver_inside_windows_is_found(machine: Machine, rules: RuleSet) -> None:
    """WSL as it should be brings nothing; with a Linux driver in front and a driver that does not answer, an error."""
    machine.file("/proc/version", "Linux version 5.15.153.1-microsoft-standard-WSL2").file("/dev/dxg")
    machine.file("/usr/lib/wsl/lib/libcuda.so.1").file("/usr/lib/wsl/lib/libnvidia-ml.so.1")
    assert serious(rules, machine.told()) == set()
    machine.file("/usr/lib/x86_64-linux-gnu/libcuda.so.1")
    assert serious(rules, machine.told()) == {"wsl-has-linux-driver"}


def test_healthy_machines_of_other_makers_have_no_error(machine: Machine, rules: RuleSet, tmp_path: Path) -> None:
    """AMD with its files open, and a processor's own graphics."""
    machine.card("0000:00:02.0", devices.INTEL, "0x030000", "i915").file("/dev/dri/renderD128")
    assert serious(rules, machine.told()) == set()
    machine.card("0000:0c:00.0", devices.AMD, "0x120000", "amdgpu").file("/dev/kfd").file(
        "/sys/module/amdgpu/version", "6.10.5"
    )
    amd_node(machine, 1, simd_count=1216, gfx_target_version=90402, location_id=0x0C00)
    assert serious(rules, machine.told()) == set()
    assert serious(rules, machine.told(HIP_VISIBLE_DEVICES="3")) == {"visible-devices-name-missing-gpu"}


# --- texts that others write


@given(st.binary(max_size=200))
@settings(max_examples=50, deadline=None)
def test_any_text_of_the_kernel_is_read(data: bytes) -> None:
    """Whatever stands in the files, reading them ends, and a version looks like one."""
    with TemporaryDirectory() as folder:
        tree = Tree(folder)
        for name in (
            "proc/driver/nvidia/version",
            "etc/docker/daemon.json",
            "sys/class/kfd/kfd/topology/nodes/1/properties",
        ):
            place = Path(folder, name)
            place.parent.mkdir(parents=True)
            place.write_bytes(data)
        Path(folder, "usr/bin").mkdir(parents=True)
        Path(folder, "usr/bin/dockerd").touch()
        readings = [*devices.kernel_module(tree), *devices.container_tools(tree), *devices.amd(tree, {})]
    versions = [str(item.value) for item in readings if isinstance(item, Fact) and item.name == "driver.module_version"]
    assert all(re.fullmatch(r"\d+(\.\d+)+", version) for version in versions)


@given(st.text(max_size=200))
def test_any_list_of_nvidia_smi_is_read(said: str) -> None:
    """Rows that are none bring no fact."""
    readings = list(gpu._smi_rows(said, Driver()))
    assert readings == [] or any(isinstance(item, Fact) and item.name == "gpu.count" for item in readings)


# --- other makers


def amd_node(machine: Machine, node: int, **values: int) -> None:
    text = "".join(f"{name} {value}\n" for name, value in values.items())
    machine.file(f"/sys/class/kfd/kfd/topology/nodes/{node}/properties", text)
    machine.file(f"/sys/class/kfd/kfd/topology/nodes/{node}/name", "aqua_vanjaram\n")


def test_amd_gpus_are_read_from_the_kernel(machine: Machine) -> None:
    """Each GPU node with its target, memory and place; the processor's node is none."""
    machine.card("0000:0c:00.0", devices.AMD, "0x120000", "amdgpu").file("/dev/kfd").file(
        "/sys/module/amdgpu/version", "6.10.5\n"
    )
    machine.file("/opt/rocm/.info/version", "6.4.1-83\n").file("/dev/dri/renderD128")
    amd_node(machine, 0, cpu_cores_count=96, simd_count=0, gfx_target_version=0)
    amd_node(machine, 1, simd_count=1216, gfx_target_version=90402, location_id=0x0C00, domain=0)
    folder = "/sys/bus/pci/devices/0000:0c:00.0"
    machine.file(f"{folder}/mem_info_vram_total", f"{192 * GIB}\n").file(
        f"{folder}/mem_info_vram_used", f"{48 * GIB}\n"
    )
    told = machine.told()
    assert told["gpu.vendor"] == "amd"
    assert told["gpu.count"] == told["gpu.visible_count"] == 1
    assert told["gpu.0.gfx"] == "gfx942"
    assert told["gpu.0.name"] == "aqua_vanjaram"
    assert told["gpu.0.pci"] == "0000:0c:00.0"
    assert told["gpu.0.memory"] == 192 * GIB
    assert told["gpu.0.memory_used_percent"] == 25
    assert told["driver.amdgpu_version"] == "6.10.5"
    assert told["driver.rocm"] == "6.4.1"
    assert told["driver.kfd_denied"] is False
    assert told["driver.render_files"] == 1


@pytest.mark.parametrize(
    ("number", "target"),
    [(90402, "gfx942"), (90010, "gfx90a"), (110000, "gfx1100"), (120001, "gfx1201"), (90500, "gfx950")],
)
def test_amd_targets(machine: Machine, number: int, target: str) -> None:
    """The kernel's number as ROCm writes it."""
    machine.file("/dev/kfd")
    amd_node(machine, 1, simd_count=10, gfx_target_version=number)
    assert machine.told()["gpu.0.gfx"] == target


@pytest.mark.parametrize(
    ("environ", "count", "problem"),
    [
        ({"HIP_VISIBLE_DEVICES": "0"}, 1, None),
        ({"HIP_VISIBLE_DEVICES": "4"}, 0, "missing-index"),
        ({"ROCR_VISIBLE_DEVICES": "0,1", "HIP_VISIBLE_DEVICES": "2"}, 0, "missing-index"),
        ({"ROCR_VISIBLE_DEVICES": "1"}, 1, None),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, 0, "hides-all"),
        ({"CUDA_VISIBLE_DEVICES": "-1", "HIP_VISIBLE_DEVICES": "0,1"}, 2, None),
    ],
)
def test_rocm_filters_twice(machine: Machine, environ: dict[str, str], count: int, problem: str | None) -> None:
    """First by ROCR_VISIBLE_DEVICES, then by HIP's or CUDA's variable among what is left."""
    machine.file("/dev/kfd")
    for node in range(1, 5):
        amd_node(machine, node, simd_count=10, gfx_target_version=90402)
    told = machine.told(**environ)
    assert told["gpu.visible_count"] == count
    assert told.get("gpu.visible_problem") == problem


def test_broken_amd_nodes_do_no_harm(machine: Machine) -> None:
    """Empty files (a container that may not read them) and absurd numbers make no GPU."""
    machine.file("/dev/kfd").file("/sys/class/kfd/kfd/topology/nodes/1/properties", "")
    machine.file("/sys/class/kfd/kfd/topology/nodes/2/properties", "simd_count many\ngfx_target_version -1\n")
    told = machine.told()
    assert told["gpu.vendor"] == "amd"
    assert "gpu.count" not in told


def test_intel_gpus_are_recognised(machine: Machine) -> None:
    """Their number, and whether they are part of the processor."""
    machine.card("0000:00:02.0", devices.INTEL, "0x030000", "i915")
    assert machine.told()["gpu.vendor"] == "intel"
    assert machine.told()["gpu.integrated"] is True
    machine.card("0000:03:00.0", devices.INTEL, "0x030000", "xe")
    assert machine.told()["gpu.count"] == 2
    assert machine.told()["gpu.integrated"] is False


def test_ascend_npus_are_recognised(machine: Machine) -> None:
    """By the bus or the manager's device file; the driver tells its version in a file."""
    machine.card("0000:c1:00.0", devices.HUAWEI, "0x120000").file("/dev/davinci0").file("/dev/davinci1")
    machine.file("/usr/local/Ascend/driver/version.info", "package_version=24.1.rc2\nVersion=24.1.rc2\n")
    told = machine.told()
    assert told["gpu.vendor"] == "ascend"
    assert told["gpu.count"] == 2
    assert told["driver.ascend"] == "24.1.rc2"


def test_gaudi_is_recognised(machine: Machine) -> None:
    """By its maker on the bus."""
    assert machine.card("0000:33:00.0", devices.HABANA, "0x120000").told()["gpu.vendor"] == "habana"


@pytest.mark.parametrize("name", ["/dev/accel0", "/dev/neuron0", "/dev/cambricon_ctl"])
def test_an_accelerator_of_another_maker_is_not_none(machine: Machine, name: str) -> None:
    """No more is known of it, and what holds for a machine without any does not hold there."""
    told = machine.file(name).told()
    assert told["gpu.vendor"] == "other"
    assert "gpu.count" not in told


def test_nvidia_goes_before_a_processors_graphics(machine: Machine) -> None:
    """A desktop with both is an NVIDIA machine."""
    machine.card("0000:00:02.0", devices.INTEL, "0x030000", "i915").card(
        "0000:01:00.0", devices.NVIDIA, "0x030000", "nvidia"
    )
    assert machine.told()["gpu.vendor"] == "nvidia"
