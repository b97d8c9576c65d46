"""The GPUs and their driver: through NVML (pynvml), with the kernel's files and nvidia-smi as second opinions.

Runs in a child process (sources/child.py): a call may hang in the kernel or crash, and what was told before it is kept.
So the cheap and certain comes first, a step is told before each group of calls, and one device never hides the others.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from queue import Empty, SimpleQueue
from threading import Lock, Thread

from diagnose.model import Fact, Output, Reading, Step, Unchecked
from diagnose.sources import devices
from diagnose.sources.card import details, identity
from diagnose.sources.devices import NVIDIA, Card
from diagnose.sources.nvml import Driver, Gpu
from diagnose.sources.tree import Tree
from diagnose.sources.visible import see

MOST_GPUS = 64
MOST_PAIRS = 16
"""Among how many GPUs every pair is asked for direct copies."""
PATIENCE = 6.0
"""For how many seconds one GPU may be silent before the others go on without it. Waking one takes some seconds."""
SMI_SECONDS = 3.0

_SIGNS = ("/dev/nvidiactl", "/dev/nvidia0", "/proc/driver/nvidia/version", "/usr/lib/wsl/lib/libnvidia-ml.so.1")
_SMI_QUERY = "--query-gpu=index,name,memory.total,memory.used,driver_version"
_VARIABLES = (
    "APPTAINER_CONTAINER",
    "CUDA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "KUBERNETES_SERVICE_HOST",
    "LD_LIBRARY_PATH",
    "LSB_JOBID",
    "NVIDIA_DRIVER_CAPABILITIES",
    "NVIDIA_VISIBLE_DEVICES",
    "PBS_JOBID",
    "ROCR_VISIBLE_DEVICES",
    "SINGULARITY_CONTAINER",
    "SLURM_JOB_ID",
    "container",
)
_JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID")
_JOB_GROUP = re.compile(r"slurm|pbs|lsf|htcondor|[/_-]job[_-]?\d")
"""How a batch system names its control groups: a login that was taken into a job has no other sign of it."""
_NOTHING = ("LIBRARY_NOT_FOUND", "DRIVER_NOT_LOADED", "BINDING_MISSING")
"""Errors that a machine without NVIDIA GPUs gives too."""


def read(environ: Mapping[str, str], root: str = "/") -> Iterator[Reading]:
    """Facts about the driver and the GPUs. `environ` is the environment that a program would get; `root` is for tests."""
    tree = Tree(root)
    surroundings, environ = environ, {name: _plain(environ[name]) for name in _VARIABLES if name in environ}
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
    driver = Driver()
    yield Step("loading NVML")
    yield from driver.start()
    try:
        if driver.works:
            if not seen:
                yield from _around_nvidia(tree, environ, box, "NVML")
            yield from _nvidia(tree, environ, driver, found, box, surroundings)
        elif seen or driver.error not in _NOTHING:
            if not seen:
                yield from _around_nvidia(tree, environ, box, "NVML")
            yield from _without_nvml(tree, driver, surroundings)
        else:
            yield from _others(tree, environ, found)
    finally:
        yield from driver.untold()


def _plain(text: str) -> str:
    """A variable's value as text that can be told; bytes that are none become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _around_nvidia(tree: Tree, environ: Mapping[str, str], box: str, origin: str) -> Iterator[Reading]:
    """What belongs to NVIDIA GPUs and is known without asking them."""
    yield Fact("gpu.vendor", "nvidia", origin)
    yield from devices.cuda_library(tree, environ)
    if box == "none":
        yield from devices.container_tools(tree)


_OTHERS = ("/dev/accel0", "/dev/neuron0", "/dev/cambricon_ctl", "/dev/mtgpu.0")
"""Devices of Google's TPUs, AWS Trainium, Cambricon and Moore Threads, of which no more is looked up."""


def _others(tree: Tree, environ: Mapping[str, str], found: Sequence[Card]) -> Iterator[Reading]:
    """AMD, Ascend, Gaudi, Intel or Apple, in this order; another maker's, of which no more is told; or none at all."""
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
    elif other := next((name for name in _OTHERS if tree.exists(name)), ""):
        yield Fact("gpu.vendor", "other", other)
    else:
        yield Fact("gpu.vendor", "none", "/sys/bus/pci/devices")
        yield Fact("gpu.count", 0, "/sys/bus/pci/devices")


# --- NVML


def _nvidia(
    tree: Tree,
    environ: Mapping[str, str],
    driver: Driver,
    found: Sequence[Card],
    box: str,
    surroundings: Mapping[str, str],
) -> Iterator[Reading]:
    """All that NVML tells; `surroundings` is the whole environment, in which nvidia-smi would run."""
    yield from _libraries(tree, driver)
    yield Step("asking how many GPUs there are")
    count = driver.ask("how many GPUs there are", None, "nvmlDeviceGetCount")
    if count is None or count > MOST_GPUS:
        if count is not None:
            driver.absurd("how many GPUs there are", None, count)
        yield from _second_opinion(surroundings, driver)
        return
    yield Fact("gpu.count", count, "NVML")
    yield from _missing_gpus(tree, environ, driver, found, box, count)
    gpus = [Gpu(index) for index in range(count)]
    for gpu in gpus:
        yield from _patiently(gpu, identity(driver, gpu, environ))
    yield from _kinds(gpus)
    yield from _visible(environ, gpus)
    for gpu in gpus:
        if not gpu.gone:
            yield from _patiently(gpu, details(driver, gpu, tree))
    for gpu in gpus:
        if gpu.gone:
            yield Fact(f"gpu.{gpu.index}.error", gpu.error, "NVML")
    yield from _links(gpus)
    yield from _fabric_manager(tree, found, box)
    yield Step("asking which GPUs reach each other")
    yield from _pairs(driver, gpus)


def _libraries(tree: Tree, driver: Driver) -> Iterator[Reading]:
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
    tree: Tree, environ: Mapping[str, str], driver: Driver, found: Sequence[Card], box: str, count: int
) -> Iterator[Reading]:
    """GPUs that NVIDIA's kernel driver has on the bus and NVML does not list. A container or job is given some only."""
    groups = tree.text("/proc/self/cgroup", 1 << 14) or ""
    if box != "none" or any(environ.get(name) for name in _JOBS) or _JOB_GROUP.search(groups):
        return
    excluded = driver.call("nvmlGetExcludedDeviceCount")[0] or 0
    bound = sum(card.driver == "nvidia" for card in devices.gpus_of(NVIDIA, found))
    yield Fact("driver.gpus_missing", max(bound - count - excluded, 0), "/sys/bus/pci/devices")


def _patiently(gpu: Gpu, readings: Iterator[Reading]) -> Iterator[Reading]:
    """What is told of one GPU, as it comes. If it falls silent it counts as gone, so that it does not hide the others.

    The call that hangs stays behind in its thread; the process ends without waiting for it. The thread goes on only
    when what it told has been passed on, so that a crash in its next call loses nothing.
    """
    told: SimpleQueue[Reading | None] = SimpleQueue()
    passed_on = Lock()
    passed_on.acquire()

    def work() -> None:
        try:
            for reading in readings:
                told.put(reading)
                passed_on.acquire()
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
        passed_on.release()


def _kinds(gpus: Sequence[Gpu]) -> Iterator[Reading]:
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


def _visible(environ: Mapping[str, str], gpus: Sequence[Gpu]) -> Iterator[Reading]:
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


def _links(gpus: Sequence[Gpu]) -> Iterator[Reading]:
    """The most active NVLinks among cards of the same model: cards without a bridge have links that are never active."""
    for gpu in gpus:
        best = max((other.links for other in gpus if other.name == gpu.name and not other.gone), default=0)
        if gpu.name and best and not gpu.gone:
            yield Fact(f"gpu.{gpu.index}.nvlinks_best", best, "NVML")


def _fabric_manager(tree: Tree, found: Sequence[Card], box: str) -> Iterator[Reading]:
    """Whether the Fabric Manager runs: asked only where there are NVSwitches and all processes are to be seen."""
    if box == "none" and devices.nvswitches(found):
        runs = devices.fabric_manager(tree)
        if runs is None:
            yield Unchecked(
                "the Fabric Manager",
                "processes of other users are hidden; try: systemctl is-active nvidia-fabricmanager",
            )
        else:
            yield Fact("driver.fabric_manager", runs, "/proc")


def _pairs(driver: Driver, gpus: Sequence[Gpu]) -> Iterator[Reading]:
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

# --- without NVML


def _without_nvml(tree: Tree, driver: Driver, surroundings: Mapping[str, str]) -> Iterator[Reading]:
    """There are NVIDIA GPUs and NVML does not answer: why, and what the kernel and nvidia-smi say."""
    yield Fact("driver.error", driver.error, "NVML")
    yield from _libraries(tree, driver)
    driver.version = _module_version(tree)
    if driver.version:
        yield Fact("driver.version", driver.version, "/proc/driver/nvidia/version")
    yield from _second_opinion(surroundings, driver)


def _second_opinion(surroundings: Mapping[str, str], driver: Driver) -> Iterator[Reading]:
    """Ask nvidia-smi, in a process with a time limit of its own. What it prints when it fails meets the log rules."""
    import shutil

    nvml = f"NVML answers {driver.error or 'nothing that can be true'}"
    program = shutil.which("nvidia-smi", path=surroundings.get("PATH", os.defpath) + ":/usr/lib/wsl/lib")
    if program is None:
        yield Unchecked("the GPUs", f"{nvml}, and there is no nvidia-smi")
        return
    yield Step("asking nvidia-smi")
    try:
        said, status = _run([program, _SMI_QUERY, "--format=csv,noheader,nounits"], surroundings)
    except (OSError, ValueError) as error:
        yield Unchecked("the GPUs", f"{nvml}, and nvidia-smi cannot be run: {type(error).__name__}")
        return
    if status is None:
        yield Unchecked("the GPUs", f"{nvml}, and nvidia-smi did not end within {SMI_SECONDS:g} s")
    elif status:
        if said.strip():
            yield Output("nvidia-smi", said.strip()[:4000])
        yield Unchecked("the GPUs", f"{nvml}, and nvidia-smi fails too")
    else:
        yield from _smi_rows(said, driver)


def _run(command: list[str], surroundings: Mapping[str, str]) -> tuple[str, int | None]:
    """What a program prints (the first part of it), and its exit status; None if it had to be stopped."""
    import subprocess
    from threading import Timer

    late: list[bool] = []
    with subprocess.Popen(
        command, env=dict(surroundings), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:

        def stop() -> None:
            late.append(True)
            process.kill()

        timer = Timer(SMI_SECONDS, stop)
        timer.daemon = True
        timer.start()
        assert process.stdout is not None
        said = process.stdout.read(1 << 16)
        if len(said) == 1 << 16:
            process.kill()
        status = process.wait()
        timer.cancel()
    return said.decode("utf-8", "replace"), None if late else status


def _smi_rows(said: str, driver: Driver) -> Iterator[Reading]:
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
        if count == 1 and not driver.version and re.fullmatch(r"\d{1,4}(\.\d{1,6}){1,3}", version, re.ASCII):
            yield Fact("driver.version", version, "nvidia-smi")
    if count:
        yield Fact("gpu.count", count, "nvidia-smi")
