"""The machine below the drivers, read from made-up trees of /proc and /sys, and once from this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.facts import describe
from diagnose.model import Fact, Reading, Step
from diagnose.sources import host, kernel, proc
from tests.sources.trees import CPUINFO, LIMITS, MEMINFO, MOUNTS, GiB, facts, room, tree, unchecked

MACHINE = {
    "/proc/meminfo": MEMINFO,
    "/proc/self/limits": LIMITS,
    "/proc/self/mountinfo": MOUNTS,
    "/proc/self/status": "Name:\tx\nUid:\t1000\t1000\t1000\t1000\nCpus_allowed_list:\t0-3\n",
    "/proc/cpuinfo": CPUINFO,
    "/proc/loadavg": "0.10 0.20 0.30 2/650 12345\n",
    "/proc/sys/kernel/hostname": "node7\n",
    "/proc/sys/kernel/osrelease": "6.8.0-51-generic\n",
    "/proc/sys/kernel/threads-max": "500000",
    "/proc/sys/kernel/pid_max": "65000",
    "/proc/sys/kernel/numa_balancing": "1",
    "/proc/sys/vm/overcommit_memory": "2",
    "/proc/sys/vm/max_map_count": "65530",
    "/proc/17/status": "Uid:\t1000\t1000\t1000\t1000\nThreads:\t1000\n",
    "/proc/18/status": "Uid:\t0\t0\t0\t0\nThreads:\t77\n",
    "/sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never",
    "/sys/devices/system/node/node0/": "",
    "/sys/devices/system/node/node1/": "",
    "/sys/devices/system/node/possible": "0-1",
    "/etc/os-release": 'NAME="Ubuntu"\nVERSION_ID="24.04"\n',
    "/dev/shm/": "",
    "/tmp/": "",
    "/home/u/": "",
}


def statvfs(path: str) -> os.statvfs_result:
    return room(64 * 1024**2, 60 * 1024**2) if path.endswith("/dev/shm") else room(500 * GiB, 400 * GiB)


def version(command: Sequence[str]) -> str:
    return "13.2.0\n"


CALLS = host.Calls(statvfs=statvfs, addresses=dict, run=version, c_library=lambda: "glibc 2.39")


def readings(tmp_path: Path, changes: Mapping[str, str] | None = None, **environ: str) -> list[Reading]:
    """What is read of a made-up machine with some files changed."""
    return list(host.read({"HOME": "/home/u"} | environ, tree(tmp_path, MACHINE | dict(changes or {})), (), CALLS))


def told(tmp_path: Path, changes: Mapping[str, str] | None = None, **environ: str) -> dict[str, Any]:
    """The facts of such a machine."""
    return facts(readings(tmp_path, changes, **environ))


def test_memory_without_a_limit(tmp_path: Path) -> None:
    """What can be used is what the machine has."""
    found = told(tmp_path)
    assert found["memory.total"] == 65536000 * 1024
    assert found["memory.usable"] == found["memory.total"]
    assert found["memory.usable_free"] == 32768000 * 1024
    assert found["memory.usable_free_percent"] == 50.0
    assert found["memory.limited"] is False
    assert "memory.limit" not in found
    assert found["memory.commit_left"] == (41156608 - 10000000) * 1024
    assert found["memory.transparent_huge_pages"] == "madvise"


def test_memory_within_a_limit(tmp_path: Path) -> None:
    """In a container the limit counts, and what it has left."""
    found = told(
        tmp_path,
        {
            "/proc/self/cgroup": "0::/\n",
            "/proc/self/mountinfo": MOUNTS + "35 24 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
            "/sys/fs/cgroup/cgroup.controllers": "memory cpu pids",
            "/sys/fs/cgroup/memory.max": str(8 * GiB),
            "/sys/fs/cgroup/memory.current": str(7 * GiB),
            "/sys/fs/cgroup/memory.events": "oom_kill 4\n",
            "/sys/fs/cgroup/cpu.max": "250000 100000",
            "/sys/fs/cgroup/pids.max": "200",
            "/sys/fs/cgroup/pids.current": "190",
        },
    )
    assert found["memory.limited"] is True
    assert found["memory.usable"] == 8 * GiB
    assert found["memory.usable_free"] == GiB
    assert found["memory.limit_kills"] == 4
    assert found["cpu.quota"] == 2.5
    assert found["cpu.usable"] == 3
    assert found["limit.pids_used_percent"] == 95.0
    assert found["cgroup.kind"] == "2"


def test_a_limit_above_the_machine_is_none(tmp_path: Path) -> None:
    """A limit that can never be reached limits nothing."""
    found = told(
        tmp_path,
        {
            "/proc/self/cgroup": "0::/\n",
            "/proc/self/mountinfo": MOUNTS + "35 24 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
            "/sys/fs/cgroup/cgroup.controllers": "memory",
            "/sys/fs/cgroup/memory.max": str(1024 * GiB),
        },
    )
    assert found["memory.limited"] is False
    assert "memory.limit" not in found


def test_shared_memory(tmp_path: Path) -> None:
    """The 64 MiB that Docker gives are told as bytes."""
    found = told(tmp_path)
    assert found["shm.total"] == 64 * 1024**2
    assert found["shm.free"] == 60 * 1024**2
    assert found["shm.mounted"] is True


def test_limits(tmp_path: Path) -> None:
    """What is limited is told as a number, what is not by a flag; the superuser has no count of tasks."""
    found = told(tmp_path)
    assert (found["limit.nofile"], found["limit.nofile_hard"]) == (1024, 1048576)
    assert found["limit.memlock"] == 8 * 1024**2
    assert found["limit.fsize_unlimited"] is True
    assert "limit.fsize" not in found
    assert found["limit.nproc_used_percent"] == round(100 * 1000 / 4096, 1)
    assert found["limit.system_tasks_used_percent"] == 1.0
    status = "Uid:\t0\t0\t0\t0\nCpus_allowed_list:\t0-3\n"
    assert "limit.nproc_used_percent" not in told(tmp_path, {"/proc/self/status": status})


@pytest.mark.parametrize(
    ("capabilities", "users", "enforced"),
    [
        ("000001ffffffffff", "0 0 4294967295", False),
        ("000001ffffffffff", "0 1000 1", True),
        ("00000000a80425fb", "0 0 4294967295", True),
        ("0000000000000000", "0 0 4294967295", True),
        ("", "0 0 4294967295", None),
    ],
)
def test_who_may_lock_memory(tmp_path: Path, capabilities: str, users: str, enforced: bool | None) -> None:
    """CAP_IPC_LOCK lifts the limit, except in a user name space."""
    status = f"Uid:\t0\t0\t0\t0\nCapEff:\t{capabilities}\nCpus_allowed_list:\t0-3\n"
    found = told(tmp_path, {"/proc/self/status": status, "/proc/self/uid_map": f"         {users}\n"})
    assert found.get("limit.memlock_enforced") is enforced


def test_the_system(tmp_path: Path) -> None:
    """Names and versions, in a form that compares."""
    found = told(tmp_path, PATH="/usr/bin")
    assert (found["os.name"], found["os.version"], found["os.kernel"]) == ("Ubuntu", "24.04", "6.8.0")
    assert found["glibc.version"] == "2.39"
    assert found["cpu.cores"] == 8
    assert found["cpu.allowed"] == 4
    assert found["cpu.avx2"] is True
    assert found["cpu.avx512f"] is False
    assert found["system.virtual"] is True
    assert found["numa.nodes"] == 2
    assert found["compiler.c"] == "none"
    assert found["container.kind"] == "none"
    assert found["system.wsl"] == "none"


def test_musl(tmp_path: Path) -> None:
    """A system without glibc has no glibc version, and says which C library it has."""
    root = tree(tmp_path, MACHINE | {"/lib/ld-musl-x86_64.so.1": ""})
    calls = host.Calls(statvfs=statvfs, addresses=dict, run=version, c_library=lambda: "")
    found = facts(host.read({}, root, (), calls))
    assert found["system.c_library"] == "musl"
    assert "glibc.version" not in found


def test_compilers(tmp_path: Path) -> None:
    """The first compiler on the path is taken, CC goes before it, and gcc tells its version."""
    (tmp_path / "opt").mkdir()
    for name in ("gcc", "clang++"):
        (tmp_path / "opt" / name).write_text("")
        (tmp_path / "opt" / name).chmod(0o755)
    found = told(tmp_path, PATH="relative:/nowhere:/opt")
    assert (found["compiler.c"], found["compiler.cxx"]) == ("/opt/gcc", "/opt/clang++")
    assert found["gcc.version"] == "13.2.0"
    assert told(tmp_path, PATH="/opt", CC="/no/such/cc -m64")["compiler.c"] == "none"


@pytest.mark.parametrize(
    ("files", "environ", "kind"),
    [
        ({"/.dockerenv": ""}, {}, "docker"),
        ({"/run/.containerenv": ""}, {}, "podman"),
        ({}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
        ({"/.dockerenv": ""}, {"APPTAINER_CONTAINER": "/x.sif"}, "apptainer"),
        ({"/proc/self/cgroup": "0::/kubepods/besteffort/pod1/2\n"}, {}, "kubernetes"),
        ({"/proc/self/cgroup": "5:memory:/lxc/a\n"}, {}, "lxc"),
        ({"/run/systemd/container": "systemd-nspawn\n"}, {}, "systemd-nspawn"),
        ({"/proc/self/cgroup": "0::/user.slice/user-1000.slice\n"}, {}, "none"),
        ({"/proc/self/cgroup": "0::/system.slice/docker.service\n"}, {}, "none"),  # the daemon on its host
    ],
)
def test_containers(tmp_path: Path, files: dict[str, str], environ: dict[str, str], kind: str) -> None:
    """Each kind leaves its sign: a file, a variable, or the name of its control group."""
    assert told(tmp_path, files, **environ)["container.kind"] == kind


@pytest.mark.parametrize(
    ("release", "kind"),
    [
        ("5.15.153.1-microsoft-standard-WSL2", "2"),
        ("4.4.0-19041-Microsoft", "1"),
        ("6.6.87.2-microsoft-own-build", "2"),
        ("6.8.0-51-generic", "none"),
        ("", "none"),
    ],
)
def test_wsl(release: str, kind: str) -> None:
    """The kernel's release tells the subsystem and its version."""
    assert host.wsl(release) == kind


@pytest.mark.parametrize("name", sorted(name for name in MACHINE if not name.endswith("/")))
def test_a_file_that_is_missing_or_garbage_is_borne(tmp_path: Path, name: str) -> None:
    """Without one of the files, or with nonsense in it, the rest is told, and nothing is raised."""
    without = {path: text for path, text in MACHINE.items() if path != name}
    for files in (without, MACHINE | {name: "\x00\xff garbage : : 0 kB\n- -\n"}):
        folder = tmp_path / str(len(files))
        found = list(host.read({"HOME": "/home/u"}, tree(folder, files), (), CALLS))
        assert all(describe(item) is not None for item in facts(found))
    assert facts(found)


def test_without_proc_memory_is_unknown(tmp_path: Path) -> None:
    """What could not be read is told as such; it is not taken for zero."""
    found = list(host.read({}, str(tmp_path), (), CALLS))
    assert "main memory" in [item.what for item in unchecked(found)]
    assert not any(name.startswith("memory.") for name in facts(found))


def test_what_can_hang_is_announced(tmp_path: Path) -> None:
    """Before each file system or command that may never answer, the source says what it is about to do."""
    doing = [reading.doing for reading in readings(tmp_path) if isinstance(reading, Step)]
    assert any("/dev/shm" in step for step in doing)
    assert any("/tmp" in step for step in doing)


@pytest.mark.parametrize(("text", "count"), [("0-3,8", 5), ("5", 1), ("0-127", 128), ("", 0), ("3-1", 0), ("a-b", 0)])
def test_a_list_of_cpus_is_counted(text: str, count: int) -> None:
    """Spans and single numbers; 0 for what is none."""
    assert host.span(text) == count


@given(st.text(max_size=200))
def test_any_text_is_borne_by_the_readers(text: str) -> None:
    """Memory, limits and lists of CPUs are read from whatever stands there."""
    assert all(amount >= 0 for amount in host.sizes(text).values())
    host.limits_of(text)
    assert host.span(text) >= 0


@given(st.integers(min_value=0, max_value=2**40))
def test_memory_is_told_in_bytes(amount: int) -> None:
    """kB in /proc/meminfo are units of 1024 bytes; numbers without a unit stay as they are."""
    found = host.sizes(f"MemTotal:  {amount} kB\nHugePages_Total: {amount}\n")
    assert found == {"MemTotal": amount * 1024, "HugePages_Total": amount}


def test_a_file_is_read_within_bounds(tmp_path: Path) -> None:
    """A huge file is cut, a pipe or a folder is no file, and bad bytes are replaced."""
    (tmp_path / "big").write_bytes(b"\xff" * 5000)
    os.mkfifo(tmp_path / "pipe")
    assert proc.text(str(tmp_path), "/big", 10) == "\ufffd" * 10
    assert proc.text(str(tmp_path), "/pipe") is None
    assert proc.text(str(tmp_path), "/") is None
    assert proc.text(str(tmp_path), "/none") is None


@given(st.text(max_size=40))
def test_whole_numbers(text: str) -> None:
    """A text is a whole number of reasonable length, or none."""
    found = proc.whole(text)
    assert found is None or str(found).lstrip("-") in text


def test_this_machine() -> None:
    """The real sources tell only what the catalogue knows, with the right type, and at least the basics."""
    kinds = {"version": str, "text": str, "number": (int, float), "bytes": int, "flag": bool}
    found = [*host.read(os.environ, folders=["."]), *kernel.read(environ=os.environ)]
    for reading in found:
        if isinstance(reading, Fact):
            kind = describe(reading.name)
            assert kind is not None, reading.name
            assert isinstance(reading.value, kinds[kind.type]), reading.name  # type: ignore[arg-type]
            assert isinstance(reading.value, bool) == (kind.type == "flag"), reading.name
            assert reading.origin
    assert {"memory.usable", "cpu.usable", "os.kernel", "storage.work.free", "limit.nofile_unlimited"} <= facts(
        found
    ).keys()
