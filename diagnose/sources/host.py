"""The machine below the drivers → facts: memory, limits, system and container, network, storage, and what was set.

Everything is read from files of the kernel (/proc, /sys) below a root folder, so that a copy of them, or a made-up
tree, is read like a live machine. What comes first cannot hang; folders on a network come last.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec import Struct

from diagnose.model import Fact, Reading, Step, Unchecked
from diagnose.sources import cgroup, container, network, proc, settings, storage
from diagnose.sources.tree import Tree

_X86_FEATURES = ("sse4_2", "f16c", "fma", "avx", "avx2", "avx512f", "avx512_bf16", "amx_bf16")
_ARM_FEATURES = ("asimd", "sve", "bf16")
MOST_TASKS = 20000


def _c_library() -> str:
    """`glibc 2.36`, as the C library names itself; empty where there is no such name (musl)."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):
        return ""


class Calls(Struct, frozen=True):
    """What is asked of the system by a call rather than by reading a file. A test puts its own answers here."""

    statvfs: storage.StatVFS = os.statvfs
    addresses: network.Addresses | None = None
    run: Callable[[Sequence[str]], str | None] = proc.output
    c_library: Callable[[], str] = _c_library


def read(
    environ: Mapping[str, str], root: str = "/", folders: Sequence[str] = (), calls: Calls | None = None
) -> Iterator[Reading]:
    """The facts of the machine. `folders` are looked at besides those that the libraries use; the first is `work`."""
    calls = calls or Calls()
    yield from settings.read(environ)
    yield from _memory(root)
    yield from _shared_memory(root, calls)
    yield from _limits(root)
    yield from _system(root, calls)
    yield from _processor(root)
    yield from _container(environ, root)
    yield from _compilers(environ, root, calls)
    yield from network.read(environ, root, calls.addresses)
    yield from storage.read(environ, root, folders, calls.statvfs)


def sizes(meminfo: str) -> dict[str, int]:
    """/proc/meminfo as bytes; lines without a unit (numbers of pages) stay numbers."""
    found = {}
    for name, value in proc.fields(meminfo).items():
        amount = re.fullmatch(r"(\d{1,20})( kB)?", value, re.ASCII)
        if amount:
            found[name] = int(amount[1]) * (1024 if amount[2] else 1)
    return found


def _memory(root: str) -> Iterator[Reading]:
    origin = "/proc/meminfo"
    known = sizes(proc.text(root, origin) or "")
    total, available = known.get("MemTotal"), known.get("MemAvailable")
    if total is None or available is None:
        yield Unchecked("main memory", f"{origin} cannot be read")
        return
    yield Fact("memory.total", total, origin)
    yield Fact("memory.available", available, origin)
    for name, field in (("memory.swap_total", "SwapTotal"), ("memory.swap_free", "SwapFree")):
        if field in known:
            yield Fact(name, known[field], origin)
    yield from _reserved(root, known, total)
    yield from _cgroup_memory(root, total, available)


def _reserved(root: str, known: Mapping[str, int], total: int) -> Iterator[Reading]:
    """Huge pages set aside (of no use to who does not ask for them), and how much the kernel promises."""
    if total and {"HugePages_Total", "HugePages_Free", "Hugepagesize"} <= known.keys():
        reserved = known["HugePages_Total"] * known["Hugepagesize"]
        yield Fact("memory.huge_pages", reserved, "/proc/meminfo")
        idle = known["HugePages_Free"] * known["Hugepagesize"]
        yield Fact("memory.huge_pages_idle_percent", round(100 * idle / total, 1), "/proc/meminfo")
    transparent = re.search(r"\[(\w+)\]", proc.word(root, "/sys/kernel/mm/transparent_hugepage/enabled"))
    if transparent:
        yield Fact("memory.transparent_huge_pages", transparent[1], "/sys/kernel/mm/transparent_hugepage/enabled")
    overcommit = proc.number(root, "/proc/sys/vm/overcommit_memory")
    if overcommit is not None:
        yield Fact("memory.overcommit", overcommit, "/proc/sys/vm/overcommit_memory")
    if overcommit == 2 and {"CommitLimit", "Committed_AS"} <= known.keys():
        yield Fact("memory.commit_left", max(known["CommitLimit"] - known["Committed_AS"], 0), "/proc/meminfo")


def _cgroup_memory(root: str, total: int, available: int) -> Iterator[Reading]:
    """The container's or job's limit, and what a program can really have: the smaller of machine and limit."""
    held = cgroup.memory(root)
    limit = held.limit if held and held.limit is not None and held.limit < total else None
    usable, free = total, available
    yield Fact("memory.limited", limit is not None, "cgroup")
    if held is not None and limit is not None:
        yield Fact("memory.limit", limit, "cgroup")
        yield Fact("memory.limit_percent", round(100 * limit / total, 1), "cgroup")
        usable = limit
        if held.used is not None:
            yield Fact("memory.limit_used", held.used, "cgroup")
        if held.free is not None:
            free = min(available, held.free)
    if held is not None and held.kills is not None:
        yield Fact("memory.limit_kills", held.kills, "cgroup")
    yield Fact("memory.usable", usable, "cgroup" if limit is not None else "/proc/meminfo")
    yield Fact("memory.usable_free", free, "cgroup" if limit is not None else "/proc/meminfo")
    if usable:
        yield Fact("memory.usable_free_percent", round(100 * free / usable, 1), "/proc/meminfo")


def _shared_memory(root: str, calls: Calls) -> Iterator[Reading]:
    yield Step("looking at /dev/shm")
    mounts = storage.mount_table(proc.text(root, "/proc/self/mountinfo", 4 << 20) or "")
    mounted = any(mount.point == "/dev/shm" for mount in mounts)
    if not mounts or not os.path.isdir(proc.at(root, "/dev/shm")):
        if mounts:
            yield Fact("shm.mounted", False, "/proc/self/mountinfo")
        return
    yield Fact("shm.mounted", mounted, "/proc/self/mountinfo")
    try:
        known = calls.statvfs(proc.at(root, "/dev/shm"))
    except OSError as error:
        yield Unchecked("/dev/shm", str(error))
        return
    total, free = known.f_blocks * known.f_frsize, known.f_bavail * known.f_frsize
    yield Fact("shm.total", total, "/dev/shm")
    yield Fact("shm.free", free, "/dev/shm")
    if total:
        yield Fact("shm.free_percent", round(100 * free / total, 1), "/dev/shm")


_LIMITS = (
    ("Max open files", "nofile"),
    ("Max locked memory", "memlock"),
    ("Max processes", "nproc"),
    ("Max stack size", "stack"),
    ("Max core file size", "core"),
    ("Max file size", "fsize"),
    ("Max address space", "as"),
)


def limits_of(listing: str) -> dict[str, tuple[int | None, int | None]]:
    """The (soft, hard) limits of /proc/self/limits under their short names; None stands for unlimited."""
    found = {}
    for title, name in _LIMITS:
        line = re.search(rf"^{title}\s+(\d{{1,20}}|unlimited)\s+(\d{{1,20}}|unlimited)\b", listing, re.MULTILINE)
        if line:
            soft, hard = (None if value == "unlimited" else int(value) for value in line.groups())
            found[name] = (soft, hard)
    return found


def _limits(root: str) -> Iterator[Reading]:
    origin = "/proc/self/limits"
    known = limits_of(proc.text(root, origin) or "")
    for name, (soft, hard) in known.items():
        yield Fact(f"limit.{name}_unlimited", soft is None, origin)
        if soft is not None:
            yield Fact(f"limit.{name}", soft, origin)
        if hard is not None:
            yield Fact(f"limit.{name}_hard", hard, origin)
    yield from _memlock(root)
    yield from _tasks(root, known.get("nproc", (None, None))[0])
    files = proc.number(root, "/proc/sys/vm/max_map_count")
    if files is not None:
        yield Fact("limit.max_map_count", files, "/proc/sys/vm/max_map_count")


_MAY_LOCK = 14
"""The bit of CAP_IPC_LOCK: who has it is not held by the limit on locked memory."""


def _memlock(root: str) -> Iterator[Reading]:
    """Capabilities count only outside of a user name space, where the first numbers of users are the machine's own."""
    held = proc.fields(proc.text(root, "/proc/self/status") or "").get("CapEff", "")
    users = (proc.text(root, "/proc/self/uid_map") or "").split()
    if re.fullmatch(r"[0-9a-fA-F]{1,16}", held) and users:
        free = int(held, 16) >> _MAY_LOCK & 1 == 1 and users == ["0", "0", "4294967295"]
        yield Fact("limit.memlock_enforced", not free, "/proc/self/status")


def _tasks(root: str, most: int | None) -> Iterator[Reading]:
    """How many tasks (threads and processes) may still be started: by the group's, the user's and the system's limit."""
    group = cgroup.tasks(root)
    if group:
        yield Fact("limit.pids", group[0], "cgroup")
        yield Fact("limit.pids_used_percent", round(100 * group[1] / max(group[0], 1), 1), "cgroup")
    user = _numbers(proc.fields(proc.text(root, "/proc/self/status") or "").get("Uid", ""))
    if most is not None and len(user) > 1 and user[1] != 0:  # the superuser is not held by it
        yield Step("counting the tasks of this user")
        used = _threads_of(root, user[0])
        yield Fact("limit.nproc_used_percent", round(100 * used / max(most, 1), 1), "/proc")
    running = re.search(r"\d+/(\d{1,9})\b", proc.word(root, "/proc/loadavg"))
    room = [proc.number(root, f"/proc/sys/kernel/{name}") for name in ("threads-max", "pid_max")]
    known = [value for value in room if value]
    if running and known:
        yield Fact("limit.system_tasks_used_percent", round(100 * int(running[1]) / min(known), 1), "/proc/loadavg")


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split() if part.isdigit()]


def _threads_of(root: str, user: int) -> int:
    count = 0
    for name in proc.names(root, "/proc", MOST_TASKS):
        if not name.isdigit():
            continue
        status = proc.fields(proc.text(root, f"/proc/{name}/status", 4096) or "")
        owner, threads = _numbers(status.get("Uid", "")), _numbers(status.get("Threads", ""))
        if owner and threads and owner[0] == user:
            count += threads[0]
    return count


def _system(root: str, calls: Calls) -> Iterator[Reading]:
    release = proc.text(root, "/etc/os-release") or proc.text(root, "/usr/lib/os-release") or ""
    told = {name: value.strip("\"'") for name, value in proc.fields(release, "=").items()}
    if told.get("NAME"):
        yield Fact("os.name", told["NAME"], "/etc/os-release")
    if told.get("VERSION_ID"):
        yield Fact("os.version", told["VERSION_ID"], "/etc/os-release")
    yield Fact("os.machine", _machine(root), "uname")
    kernel = proc.word(root, "/proc/sys/kernel/osrelease")
    number = re.match(r"\d+\.\d+(?:\.\d+)?", kernel)
    if number:
        yield Fact("os.kernel", number[0], "/proc/sys/kernel/osrelease")
        yield Fact("system.wsl", wsl(kernel), "/proc/sys/kernel/osrelease")
    library = calls.c_library()
    version = re.fullmatch(r"glibc (\d+(?:\.\d+)+)", library)
    if version:
        yield Fact("glibc.version", version[1], "confstr")
    if version or any(name.startswith("ld-musl-") for name in proc.names(root, "/lib")):
        yield Fact("system.c_library", "glibc" if version else "musl", "confstr")


def wsl(release: str) -> str:
    """`1` or `2` if a kernel's release is that of the Windows Subsystem for Linux, otherwise `none`."""
    release = release.lower()
    if "microsoft" not in release:
        return "none"
    # the kernel of WSL 1 is none: it names itself 4.4.0-19041-Microsoft, by the build of Windows
    return "1" if re.fullmatch(r"[34]\.4\.0-\d+-microsoft", release) else "2"


def _machine(root: str) -> str:
    """The kernel's architecture: told by itself since 6.1, by uname otherwise."""
    return proc.word(root, "/proc/sys/kernel/arch") or os.uname().machine


def _processor(root: str) -> Iterator[Reading]:
    origin = "/proc/cpuinfo"
    listing = proc.text(root, origin, 4 << 20) or ""
    known = proc.fields(listing)
    if known.get("model name"):
        yield Fact("cpu.model", known["model name"][:120], origin)
    cores = len(re.findall(r"^processor\s*:", listing, re.MULTILINE))
    features = (known.get("flags") or known.get("Features") or "").split()
    yield from _features(features)
    if "flags" in known:
        yield Fact("system.virtual", "hypervisor" in features, origin)
    maker = proc.word(root, "/sys/class/dmi/id/sys_vendor")
    if maker:
        yield Fact("system.maker", maker[:80], "/sys/class/dmi/id/sys_vendor")
    yield from _cores(root, cores)
    nodes = [name for name in proc.names(root, "/sys/devices/system/node") if re.fullmatch(r"node\d+", name)]
    if nodes:
        yield Fact("numa.nodes", len(nodes), "/sys/devices/system/node")
    balancing = proc.number(root, "/proc/sys/kernel/numa_balancing")
    if balancing is not None:
        yield Fact("numa.balancing", balancing != 0, "/proc/sys/kernel/numa_balancing")
    governor = proc.word(root, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor:
        yield Fact("cpu.governor", governor, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def _features(features: Sequence[str]) -> Iterator[Reading]:
    if not features:
        return
    wanted = _ARM_FEATURES if "asimd" in features or "fphp" in features else _X86_FEATURES
    for name in wanted:
        yield Fact(f"cpu.{name}", name in features, "/proc/cpuinfo")


def span(listing: str) -> int:
    """How many CPUs `0-3,8,10-11` names; 0 if it cannot be read."""
    count = 0
    for part in listing.split(","):
        found = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", part.strip(), re.ASCII)
        if not found:
            return 0
        count += max(int(found[2] or found[1]) - int(found[1]) + 1, 0)
    return count


def _cores(root: str, cores: int) -> Iterator[Reading]:
    """How many CPUs there are, may be run on (affinity), and are worth (the group's quota)."""
    allowed = span(proc.fields(proc.text(root, "/proc/self/status") or "").get("Cpus_allowed_list", "")) or cores
    if not cores or not allowed:
        return
    allowed = min(allowed, cores)
    yield Fact("cpu.cores", cores, "/proc/cpuinfo")
    yield Fact("cpu.allowed", allowed, "/proc/self/status")
    quota = cgroup.cpu_quota(root)
    usable = float(allowed)
    if quota is not None:
        yield Fact("cpu.quota", quota, "cgroup")
        usable = min(usable, quota)
    yield Fact("cpu.usable", max(int(usable + 0.999), 1), "cgroup" if quota is not None else "/proc/self/status")
    yield Fact("cpu.usable_percent", round(100 * usable / cores, 1), "/proc/cpuinfo")


def _container(environ: Mapping[str, str], root: str) -> Iterator[Reading]:
    yield Fact("container.kind", container.kind(Tree(root), environ), "/proc")
    yield Fact("cgroup.kind", cgroup.version(root), "/proc/self/cgroup")


def which(program: str, path: str, root: str = "/") -> str:
    """The file that a shell would run for a name, below `root`; empty if there is none."""
    if "/" in program:
        folders, program = [os.path.dirname(program)], os.path.basename(program)
    else:
        folders = path.split(os.pathsep)
    for folder in folders:
        found = os.path.join(folder, program) if folder.startswith("/") else ""
        full = proc.at(root, found) if found else ""
        if full and os.path.isfile(full) and os.access(full, os.X_OK):
            return found
    return ""


def _compilers(environ: Mapping[str, str], root: str, calls: Calls) -> Iterator[Reading]:
    """The C and C++ compilers that Triton, PyTorch and builds would take, and gcc's version."""
    path = environ.get("PATH", "")
    for fact, variable, programs in (
        ("compiler.c", "CC", ("gcc", "cc", "clang")),
        ("compiler.cxx", "CXX", ("g++", "c++", "clang++")),
    ):
        chosen = environ.get(variable, "").split()[:1] or list(programs)
        found = next((file for program in chosen if (file := which(program, path, root))), "")
        yield Fact(fact, found or "none", "PATH")
    gcc = which("gcc", path, root)
    if gcc:
        yield Step("asking gcc for its version")
        version = (calls.run([gcc, "-dumpfullversion"]) or "").strip()
        if re.fullmatch(r"\d+(\.\d+){0,2}", version):
            yield Fact("gcc.version", version, gcc)
