"""Control groups of both versions, as a process on the machine and in a container sees them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.sources import cgroup
from tests.sources.trees import GiB, tree

V2 = "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "36 25 0:31 / /sys/fs/cgroup/memory rw,nosuid shared:16 - cgroup cgroup rw,memory\n"
    "37 25 0:32 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:17 - cgroup cgroup rw,cpu,cpuacct\n"
    "38 25 0:33 / /sys/fs/cgroup/pids rw,nosuid shared:18 - cgroup cgroup rw,pids\n"
)


def group(folder: str, **files: str) -> dict[str, str]:
    """The files of one group; `memory_max` stands for `memory.max`."""
    return {f"{folder}/{name.replace('_', '.', 1)}": text for name, text in files.items()}


def test_version_2_takes_the_smallest_limit_of_all_levels(tmp_path: Path) -> None:
    """A limit of a group above holds for all groups below it."""
    top = "/sys/fs/cgroup"
    controllers = {f"{top}/{path}cgroup.controllers": "cpu memory pids" for path in ("", "job/", "job/step/")}
    root = tree(
        tmp_path,
        {
            "/proc/self/cgroup": "0::/job/step\n",
            "/proc/self/mountinfo": V2,
            **controllers,
            **group(
                f"{top}/job/step", memory_max="max", memory_current="3221225472", memory_stat="inactive_file 1073741824"
            ),
            **group(f"{top}/job", memory_max=str(8 * GiB), memory_current=str(6 * GiB), cpu_max="250000 100000"),
            **group(f"{top}/job/step", memory_events="low 0\noom 3\noom_kill 2\n", cpu_max="max 100000"),
            **group(f"{top}/job", pids_max="1024", pids_current="1000"),
        },
    )
    found = cgroup.memory(root)
    assert found == cgroup.Memory(limit=8 * GiB, used=2 * GiB, free=2 * GiB, kills=2)
    assert cgroup.cpu_quota(root) == 2.5
    assert cgroup.tasks(root) == (1024, 1000)
    assert cgroup.version(root) == "2"


def test_the_group_of_another_process_and_the_limits_that_were_met(tmp_path: Path) -> None:
    """Of a process by its number; a limit of the group above that was met counts."""
    top = "/sys/fs/cgroup"
    root = tree(
        tmp_path,
        {
            "/proc/self/cgroup": "0::/\n",
            "/proc/77/cgroup": "0::/job/step\n",
            "/proc/self/mountinfo": V2,
            **{f"{top}/{path}cgroup.controllers": "memory" for path in ("", "job/", "job/step/")},
            **group(f"{top}/job/step", memory_max="max", memory_events="max 0\noom_kill 1\n"),
            **group(f"{top}/job", memory_max=str(GiB), memory_current=str(GiB), memory_events="max 41\noom_kill 1\n"),
        },
    )
    found = cgroup.find(root, "memory", "77")

    assert found is not None
    assert found.folders == (f"{top}/job/step", f"{top}/job", top)
    assert cgroup.memory_in(root, found) == cgroup.Memory(limit=GiB, used=None, free=0, kills=1, hits=41)


def test_version_2_in_a_container(tmp_path: Path) -> None:
    """With a name space of its own, a container's group is the root of what it sees."""
    root = tree(
        tmp_path,
        {
            "/proc/self/cgroup": "0::/\n",
            "/proc/self/mountinfo": V2,
            "/sys/fs/cgroup/cgroup.controllers": "memory",
            **group("/sys/fs/cgroup", memory_max="4294967296", memory_current="4000000000"),
        },
    )
    found = cgroup.memory(root)
    assert found is not None
    assert found.limit == 4 * GiB
    assert found.free == 4 * GiB - 4000000000


def test_version_1_on_the_machine(tmp_path: Path) -> None:
    """Each controller has a hierarchy of its own; a huge number means no limit."""
    root = tree(
        tmp_path,
        {
            "/proc/self/cgroup": "12:memory:/user\n11:cpu,cpuacct:/user\n10:pids:/user\n0::/\n",
            "/proc/self/mountinfo": V1,
            "/sys/fs/cgroup/memory/user/memory.limit_in_bytes": "9223372036854771712",
            "/sys/fs/cgroup/memory/user/memory.usage_in_bytes": "1000",
            "/sys/fs/cgroup/memory/user/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n",
            "/sys/fs/cgroup/cpu,cpuacct/user/cpu.cfs_quota_us": "-1",
            "/sys/fs/cgroup/cpu,cpuacct/user/cpu.cfs_period_us": "100000",
            "/sys/fs/cgroup/pids/user/pids.max": "max",
            "/sys/fs/cgroup/pids/user/pids.current": "20",
        },
    )
    assert cgroup.memory(root) == cgroup.Memory(limit=None, used=1000, free=None, kills=5)
    assert cgroup.cpu_quota(root) is None
    assert cgroup.tasks(root) is None
    assert cgroup.version(root) == "1"


def test_version_1_in_a_container_that_sees_the_hosts_path(tmp_path: Path) -> None:
    """The path is the host's, and what is mounted is the container's own group."""
    path = "/docker/0123"
    root = tree(
        tmp_path,
        {
            "/proc/self/cgroup": f"12:memory:{path}\n11:cpu,cpuacct:{path}\n",
            "/proc/self/mountinfo": V1.replace(" / /sys", f" {path} /sys"),
            "/sys/fs/cgroup/memory/memory.limit_in_bytes": str(2 * GiB),
            "/sys/fs/cgroup/memory/memory.usage_in_bytes": str(GiB),
            "/sys/fs/cgroup/memory/memory.stat": "total_inactive_file 0\nhierarchical_memory_limit 1073741824\n",
            "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000",
            "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
        },
    )
    found = cgroup.memory(root)
    assert found is not None
    assert found.limit == GiB  # the one that is told of a level which cannot be seen
    assert found.free == 0
    assert cgroup.cpu_quota(root) == 0.5


@pytest.mark.parametrize("listing", ["", "garbage", "0::/../../x\n", "12:memory\n", "::::\n", "0::/no/such/group\n"])
def test_what_cannot_be_read_is_unknown(tmp_path: Path, listing: str) -> None:
    """Nothing is raised, and no limit is made up."""
    root = tree(
        tmp_path, {"/proc/self/cgroup": listing, "/proc/self/mountinfo": V2 + V1 + "x - cgroup\n - - cgroup2 a b"}
    )
    found = cgroup.memory(root)
    assert found is None or found.limit is None
    assert cgroup.cpu_quota(root) is None
    assert cgroup.tasks(root) is None


@pytest.mark.parametrize(
    ("line", "quota"),
    [("150000 100000", 1.5), ("max 100000", None), ("-1 100000", None), ("100000 0", None), ("1", None), ("", None)],
)
def test_a_quota_is_read(line: str, quota: float | None) -> None:
    """Quota and period give a number of CPUs; `max` and -1 give none."""
    assert cgroup.quota_of(line) == quota


@given(st.text(max_size=60))
def test_any_quota_line_is_borne(line: str) -> None:
    """Whatever stands there gives a positive number or nothing."""
    quota = cgroup.quota_of(line)
    assert quota is None or quota >= 0


@given(st.integers(min_value=1, max_value=10**12), st.integers(min_value=1, max_value=10**9))
def test_a_quota_is_quota_by_period(quota: int, period: int) -> None:
    """The number of CPUs is their ratio."""
    assert cgroup.quota_of(f"{quota} {period}") == pytest.approx(quota / period, abs=0.006)
