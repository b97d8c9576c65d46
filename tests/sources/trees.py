"""Made-up machines: a folder with the files of /proc, /sys and /etc that a source reads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from diagnose.model import Fact, Output, Reading, Unchecked

GiB = 1024**3

MEMINFO = """\
MemTotal:       65536000 kB
MemFree:         1000000 kB
MemAvailable:   32768000 kB
SwapTotal:       8388608 kB
SwapFree:        8388604 kB
CommitLimit:    41156608 kB
Committed_AS:   10000000 kB
HugePages_Total:       0
HugePages_Free:        0
Hugepagesize:       2048 kB
"""

LIMITS = """\
Limit                     Soft Limit           Hard Limit           Units
Max file size             unlimited            unlimited            bytes
Max stack size            8388608              unlimited            bytes
Max core file size        0                    unlimited            bytes
Max processes             4096                 8192                 processes
Max open files            1024                 1048576              files
Max locked memory         8388608              8388608              bytes
Max address space         unlimited            unlimited            bytes
"""

CPUINFO = "".join(
    f"processor\t: {number}\nmodel name\t: A Processor @ 2.00GHz\nflags\t\t: fpu sse4_2 f16c fma avx avx2 hypervisor\n\n"
    for number in range(8)
)

MOUNTS = """\
22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw
25 22 0:22 / /dev/shm rw,nosuid,nodev shared:2 - tmpfs tmpfs rw,size=65536k
30 22 0:31 / /home rw,relatime shared:9 - nfs4 files:/home rw,vers=4.2
31 22 0:32 / /tmp rw,nosuid,nodev,noexec shared:10 - tmpfs tmpfs rw
32 22 0:33 / /models ro,relatime shared:11 - xfs /dev/sdb1 rw
33 22 0:34 / /with\\040blank rw shared:12 - overlay overlay rw
"""


def tree(folder: Path, files: Mapping[str, str]) -> str:
    """Write the files (absolute paths) below a folder; a path that ends in `/` is a folder. Returns the folder."""
    for path, text in files.items():
        target = folder / path.lstrip("/")
        if path.endswith("/"):
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    return str(folder)


def facts(readings: Iterable[Reading]) -> dict[str, str | int | float | bool]:
    """The values of the facts among some readings, by name; no name may come twice."""
    found: dict[str, str | int | float | bool] = {}
    for reading in readings:
        if isinstance(reading, Fact):
            assert reading.name not in found, f"{reading.name} is told twice"
            found[reading.name] = reading.value
    return found


def unchecked(readings: Iterable[Reading]) -> list[Unchecked]:
    """What could not be looked at."""
    return [reading for reading in readings if isinstance(reading, Unchecked)]


def output(readings: Iterable[Reading]) -> str:
    """The texts that are handed on to the rules for logs."""
    return "".join(reading.text for reading in readings if isinstance(reading, Output))


def room(total: int, free: int, files: int = 1000, free_files: int = 900) -> os.statvfs_result:
    """What statvfs would say of a file system, in bytes and numbers of files."""
    found = SimpleNamespace(
        f_frsize=1, f_bsize=1, f_blocks=total, f_bfree=free, f_bavail=free, f_files=files, f_favail=free_files
    )
    return cast("os.statvfs_result", cast(Any, found))
