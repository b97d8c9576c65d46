"""A stub of NVIDIA's management library, so that the real binding (pynvml) runs without a GPU or a driver.

    from tests.stubs.nvml import stub_environment

    changes = stub_environment({"devices": 8, "*.name": "NVIDIA H100 80GB HBM3", "3.ecc_errors": 2}, tmp_path)
    subprocess.run([...], env=os.environ | changes)

The changes are LD_LIBRARY_PATH (in which pynvml finds the stub as libnvidia-ml.so.1: the dynamic loader reads it when a
process starts, so it must be a new process) and NVML_STUB_SCENARIO. The stub is compiled once per folder with `cc`;
`compiler()` is empty where there is none, and `needs_compiler` skips a test then.

Keys of a scenario (every one may be left out; `0.key` is device 0, `*.key` every device, later lines go first):

    devices, driver (570.86.15), cuda (12080), excluded
    N.name, N.uuid, N.capability (9.0), N.memory, N.used (bytes), N.shared (no memory of its own)
    N.processes, N.graphics      4242:1073741824, 4343:0        pid:bytes; without bytes: not available
    N.ecc (1, 0, none), N.ecc_pending, N.ecc_errors, N.ecc_total, N.rows, N.remap_pending, N.remap_failed
    N.pages, N.pages_pending     a card from before Ampere: retired pages in place of remapped rows
    N.mig                        1g.10gb:11811160064, 3g.40gb:42949672960    `empty` without instances, `none` cannot
    N.mig_pending, N.compute_mode (0, 2, 3), N.slowed (bits), N.temperature, N.load, N.persistence, N.display
    N.pcie_generation, N.pcie_generation_max, N.pcie_width, N.pcie_width_max
    N.links                      1 1 1 0                        NVLinks, active or not
    N.fabric (0 to 3), N.fabric_status
    N-M.p2p (0 to 5), N-M.level (10 to 50), *-*.p2p             of a pair, the lower index first

Faults, for all devices or with `3.` before the name of the C function for one (`3.*`: every function on it):

    error nvmlInitWithFlags = 9      this error code
    missing FUNCTION                 FUNCTION_NOT_FOUND, as a driver answers that is too old
    hang FUNCTION, crash FUNCTION    never comes back; dies with SIGSEGV
    garbage FUNCTION                 bytes that are no text, numbers that cannot be

`old=True` leaves the newer functions out of the library altogether.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("nvml.c")


def compiler() -> str:
    """The system's C compiler, or nothing."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang") or ""


needs_compiler = pytest.mark.skipif(not compiler(), reason="the stub of NVML needs a C compiler (cc)")


def library(folder: Path, *, old: bool = False) -> Path:
    """Compile the stub into a folder, once; the folder that holds libnvidia-ml.so.1."""
    place = folder / ("nvml-old" if old else "nvml")
    target = place / "libnvidia-ml.so.1"
    if not target.exists():
        place.mkdir(parents=True, exist_ok=True)
        made = place / f"{os.getpid()}.so"
        flags = ["-shared", "-fPIC", "-O1", "-fvisibility=hidden", "-Wl,-soname,libnvidia-ml.so.1"]
        flags += ["-DOLD_DRIVER"] if old else []
        subprocess.run([compiler(), *flags, "-o", str(made), str(SOURCE)], check=True, capture_output=True, timeout=120)
        made.rename(target)
    return place


def scenario_text(scenario: Mapping[str, object]) -> str:
    """A scenario as the stub reads it. A value of True stands for a fault without an argument."""
    return "".join(f"{key}\n" if value is True else f"{key} = {value}\n" for key, value in scenario.items())


def stub_environment(
    scenario: Mapping[str, object],
    folder: Path,
    *,
    old: bool = False,
    cuda_library: bool = True,
    cache: Path | None = None,
) -> dict[str, str]:
    """Write a scenario into a folder; the changes to the environment with which a new process runs against the stub.

    `cache` is where the compiled library is kept (the folder itself, if not given): a folder shared by tests saves
    compiling it again. An empty libcuda.so.1 stands for the driver's CUDA library, unless `cuda_library` is False.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "scenario.txt"
    file.write_text(scenario_text(scenario), encoding="utf-8")
    path = [str(library(cache or folder, old=old)), os.environ.get("LD_LIBRARY_PATH", "")]
    if cuda_library:
        beside = folder / "driver"
        beside.mkdir(exist_ok=True)
        (beside / "libcuda.so.1").touch()
        path.insert(1, str(beside))
    return {"LD_LIBRARY_PATH": ":".join(part for part in path if part), "NVML_STUB_SCENARIO": str(file)}
