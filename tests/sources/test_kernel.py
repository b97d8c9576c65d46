"""The kernel's log: records, kinds of trouble, and what is handed on to the rules for logs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.facts import describe
from diagnose.sources import kernel
from tests.sources.trees import facts, output, tree, unchecked
from tests.support import ROOT

NOW = 1_000_000.0
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


def ring(*lines: tuple[float, str], priority: int = 4) -> str:
    """A ring buffer as /dev/kmsg gives it: (seconds ago, text)."""
    return "".join(
        f"{priority},{number},{int((NOW - ago) * 1e6)},-;{text}\n SUBSYSTEM=pci\n"
        for number, (ago, text) in enumerate(lines)
    )


def told(tmp_path: Path, *lines: tuple[float, str]) -> dict[str, Any]:
    """The facts of a log."""
    return facts(kernel.read(tree(tmp_path, {"/dev/kmsg": ring(*lines)}), {}, NOW))


def handed_on(tmp_path: Path, *lines: tuple[float, str]) -> str:
    """The text that rules for logs will see."""
    return output(kernel.read(tree(tmp_path, {"/dev/kmsg": ring(*lines)}), {}, NOW))


@pytest.mark.parametrize(
    ("line", "code", "gpu", "process"),
    [
        ("NVRM: Xid (PCI:0000:65:00): 31, pid=44, name=vllm, Ch 0000000e, MMU Fault", "31", "0000:65:00", "vllm"),
        (
            "NVRM: Xid (PCI:0000:c1:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off",
            "79",
            "0000:c1:00",
            None,
        ),
        ("NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus.", "79", "0000:01:00", None),
        ("NVRM: Xid (0000:03:00): 13, 0002 00000000 0000a1c0", "13", "0000:03:00", None),
        ("NVRM: Xid (PCI:0008:01:00): 74, pid=9120, name=python3, NVLink: fatal error", "74", "0008:01:00", "python3"),
    ],
)
def test_an_xid_is_read_in_all_its_wordings(
    tmp_path: Path, line: str, code: str, gpu: str, process: str | None
) -> None:
    """With and without `PCI:`, a process, or its number in quotes."""
    found = told(tmp_path, (HOUR, line))
    assert found[f"kernel.xid.{code}.gpu"] == gpu
    assert found.get(f"kernel.xid.{code}.process") == process
    assert found[f"kernel.xid.{code}.count"] == 1
    assert found[f"kernel.xid.{code}.age"] == 3600
    assert found["kernel.xids"] == 1


@pytest.mark.parametrize(
    ("code", "action"),
    [
        (31, "application"),
        (63, "ignore"),
        (119, "reset"),
        (79, "reboot"),
        (48, "hardware"),
        (74, "link"),
        (999, "unknown"),
    ],
)
def test_an_xid_has_an_action(tmp_path: Path, code: int, action: str) -> None:
    """What to do comes from the catalogue; a code that is not in it is unknown, not fine."""
    assert told(tmp_path, (1, f"NVRM: Xid (PCI:0000:65:00): {code}, x"))[f"kernel.xid.{code}.action"] == action


def test_the_catalogue_of_xids() -> None:
    """Each code stands once, with a meaning and one of the actions that are explained."""
    data = json.loads((ROOT / "dataset" / "xid.json").read_text())
    codes = [entry["code"] for entry in data["xids"]]
    assert codes == sorted(set(codes))
    assert {entry["action"] for entry in data["xids"]} <= data["actions"].keys()
    assert all(entry["meaning"] and entry["mnemonic"] for entry in data["xids"])


def test_an_xid_before_the_driver_was_loaded_again_is_over(tmp_path: Path) -> None:
    """What is told of it remains, but it is not handed on as a state."""
    lines = (
        (HOUR, "NVRM: Xid (PCI:0000:65:00): 79, GPU has fallen off the bus."),
        (MINUTE, "NVRM: loading NVIDIA UNIX x86_64 Kernel Module  580.105.08"),
    )
    assert told(tmp_path, *lines)["kernel.xid.79.driver_reloaded"] is True
    assert handed_on(tmp_path, *lines) == ""


def test_the_recovery_that_the_driver_wants(tmp_path: Path) -> None:
    """The newest line tells; None means that it was done."""
    wanted = "NVRM: Xid (PCI:0000:65:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)"
    done = "NVRM: Xid (PCI:0000:65:00): 154, GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)"
    assert told(tmp_path, (20, wanted))["kernel.recovery_action"] == "GPU Reset Required"
    assert told(tmp_path, (20, wanted), (10, done))["kernel.recovery_action"] == "None"


KILL = "Out of memory: Killed process 48 (python3) total-vm:2kB, anon-rss:1024kB, file-rss:1kB, shmem-rss:0kB, UID:0"


def test_the_machine_ran_out_of_memory(tmp_path: Path) -> None:
    """Process, its memory in bytes, and that it was the machine's memory."""
    found = told(tmp_path, (10, KILL))
    assert found["kernel.oom_kill.process"] == "python3"
    assert found["kernel.oom_kill.memory"] == 1025 * 1024
    assert found["kernel.oom_kill.scope"] == "machine"
    assert found["kernel.oom_kill.age"] == 10


def test_a_control_group_ran_out_of_memory(tmp_path: Path) -> None:
    """The line before tells the group; only a line of the same process counts."""
    constraint = (
        "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),oom_memcg=/a,task_memcg=/a/b,task=vllm,pid={},uid=0"
    )
    kill = "Memory cgroup out of memory: Killed process 71 (vllm) total-vm:2kB"
    found = told(tmp_path, (10, constraint.format(71)), (10, kill))
    assert (found["kernel.oom_kill.scope"], found["kernel.oom_kill.cgroup"]) == ("cgroup", "/a/b")
    assert "kernel.oom_kill.cgroup" not in told(tmp_path, (10, constraint.format(72)), (10, kill))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("python3[12]: segfault at 0 ip 00007f sp 00007f error 4 in libtorch_cpu.so[7f3+1] likely on CPU 3",
         {"kernel.crash.process": "python3", "kernel.crash.reason": "segfault", "kernel.crash.library": "libtorch_cpu.so"}),
        ("traps: VLLM::Worker[12] general protection fault ip:7f sp:7f error:0 in libcuda.so.1[7f+1]",
         {"kernel.crash.process": "VLLM::Worker", "kernel.crash.reason": "general protection fault"}),
        ("traps: llama-server[4] trap invalid opcode ip:5 sp:7 error:0 in libggml-cpu.so[5+1]",
         {"kernel.invalid_opcode.process": "llama-server", "kernel.invalid_opcode.library": "libggml-cpu.so"}),
        ("nvidia-nvswitch2: SXid (PCI:0000:84:00.0): 20034, Fatal, Link 29 LTSSM Fault Up",
         {"kernel.sxid.code": "20034", "kernel.sxid.severity": "Fatal", "kernel.sxid.device": "PCI:0000:84:00.0"}),
        (r"NVRM: API mismatch: the client has the version 470.129.06, but\x0aNVRM: this kernel module has the version 470.103.01.  Please",
         {"kernel.api_mismatch.client": "470.129.06", "kernel.api_mismatch.module": "470.103.01"}),
        ("NVRM: API mismatch: the client 'nvidia-smi' (pid 9) has the version 595.84, but this kernel module has the version 595.71.05.",
         {"kernel.api_mismatch.client": "595.84", "kernel.api_mismatch.module": "595.71.05"}),
        ("NVRM: GPU 0000:02:00.0: RmInitAdapter failed! (0x22:0x56:884)", {"kernel.gpu_init_failed.gpu": "0000:02:00.0"}),
        (r"NVRM: The NVIDIA GPU 0000:02:00.0 (PCI ID: 10de:2c58)\x0aNVRM: installed in this system requires use of the NVIDIA open kernel modules.",
         {"kernel.open_module_needed.count": 1}),
        (r"NVRM: The NVIDIA GPU 0000:02:00.0 (PCI ID: 10de:1180)\x0aNVRM: installed in this system is\x0aNVRM:  supported through the NVIDIA 470.xx Legacy drivers.",
         {"kernel.gpu_unsupported.count": 1}),
        ("nvidia 0000:01:00.0: PCIe Bus Error: severity=Uncorrected (Fatal), type=Transaction Layer, (Requester ID)",
         {"kernel.pcie_error.device": "0000:01:00.0", "kernel.pcie_error.severity": "Fatal"}),
        ("pcieport 0000:00:01.0: PCIe Bus Error: severity=Corrected, type=Physical Layer, (Receiver ID)",
         {"kernel.pcie_corrected.device": "0000:00:01.0"}),
        ("DMAR: [DMA Read NO_PASID] Request device [01:00.0] fault addr 0xffb", {"kernel.iommu_fault.device": "0000:01:00.0"}),
        ("INFO: task kworker/u64:1:4411 blocked for more than 120 seconds.", {"kernel.hung_task.process": "kworker/u64:1"}),
        ("blk_update_request: I/O error, dev sdb, sector 12 op 0x0:(READ)", {"kernel.disk_error.device": "sdb"}),
        ("nvme nvme0: I/O 12 QID 3 timeout, aborting", {"kernel.disk_error.device": "nvme0"}),
        ("EXT4-fs (sda1): Remounting filesystem read-only", {"kernel.file_system_error.device": "sda1"}),
        ("mce: [Hardware Error]: CPU 12: Machine Check: 0 Bank 5: be00000000800400", {"kernel.machine_check.count": 1}),
        ("mce: [Hardware Error]: CPU 12: Machine Check: 0 Bank 7: 8c00004000010090", {"kernel.memory_corrected.count": 1}),
        ("EDAC MC0: 1 CE memory read error on CPU_SrcID#0", {"kernel.memory_corrected.count": 1}),
        ("CPU3: Core temperature above threshold, cpu clock throttled (total events = 1)", {"kernel.cpu_throttled.count": 1}),
        ("watchdog: BUG: soft lockup - CPU#3 stuck for 22s! [python:12]", {"kernel.lockup.count": 1}),
    ],
)  # fmt: skip
def test_kinds_of_trouble(tmp_path: Path, line: str, expected: dict[str, Any]) -> None:
    """Each wording is recognised, and what it names is told."""
    found = told(tmp_path, (5, line))
    assert expected.items() <= found.items()
    assert all(describe(name) is not None for name in found)


@pytest.mark.parametrize(
    "line",
    [
        "nvidia: module verification failed: signature and/or required key missing - tainting kernel",
        "NVRM: loading NVIDIA UNIX x86_64 Kernel Module  580.105.08  Wed Oct 29 23:15:11 UTC 2025",
        "nvidia-nvlink: Nvlink Core is being initialized, major device number 511",
        "firefox[77]: segfault at 0 ip 00007f sp 00007f error 4 in libxul.so[7f3+1]",
        "I/O error, dev fd0, sector 0 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 2",
        "Buffer I/O error on dev sr0, logical block 0, async page read",
        "pcieport 0000:00:01.0: AER: enabled with IRQ 122",
        "EXT4-fs (vda1): mounted filesystem with ordered data mode. Quota mode: none.",
        "DMAR: IOMMU enabled",
        "EDAC MC: Ver: 3.0.0",
        "mce: CPU0: Thermal monitoring enabled (TM1)",
        "nfs: server 10.0.0.9 OK",
        "oom_score_adj set to 500",
    ],
)
def test_what_a_healthy_machine_says_is_no_trouble(tmp_path: Path, line: str) -> None:
    """Nothing is counted, and nothing handed on."""
    found = told(tmp_path, (5, line))
    assert [name for name, value in found.items() if name.endswith(".count") and value] == []
    assert handed_on(tmp_path, (5, line)) == ""


def test_a_file_server_that_answers_again(tmp_path: Path) -> None:
    """Whether it is over is told by the server's newest line."""
    silent = (20.0, "nfs: server 10.0.0.9 not responding, still trying")
    assert told(tmp_path, silent)["kernel.nfs_silent.over"] is False
    assert told(tmp_path, silent, (10, "nfs: server 10.0.0.9 OK"))["kernel.nfs_silent.over"] is True
    assert told(tmp_path, silent, (10, "nfs: server 10.0.0.8 OK"))["kernel.nfs_silent.over"] is False


def test_the_newest_line_is_told(tmp_path: Path) -> None:
    """The count is of all lines; age and details are the newest one's."""
    line = "blk_update_request: I/O error, dev {}, sector 12"
    found = told(tmp_path, (500, line.format("sda")), (5, line.format("sdb")))
    assert found["kernel.disk_error.count"] == 2
    assert found["kernel.disk_error.age"] == 5
    assert found["kernel.disk_error.device"] == "sdb"


def test_only_a_state_that_holds_is_handed_on(tmp_path: Path) -> None:
    """A GPU that is gone stays so for a day; what one program did, or an old fault, is told by facts only."""
    gone = "NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus."
    hang = "NVRM: Xid (PCI:0000:01:00): 119, pid=7, name=python, Timeout after 6s of waiting for RPC response from GPU0 GSP!"
    program = "NVRM: Xid (PCI:0000:01:00): 31, pid=7, name=python, MMU Fault"
    assert gone in handed_on(tmp_path, (20 * HOUR, gone))
    assert hang in handed_on(tmp_path, (HOUR / 2, hang))
    assert handed_on(tmp_path, (2 * DAY, gone), (2 * HOUR, hang), (5, program), (5, KILL)) == ""


def test_a_line_that_is_said_all_the_time_is_handed_on_some_times(tmp_path: Path) -> None:
    """A driver that repeats itself does not flood the report."""
    line = "NVRM: API mismatch: the client has the version 595.84, but this kernel module has the version 595.71.05."
    text = handed_on(tmp_path, *((float(ago), line) for ago in range(2000, 0, -1)))
    assert 0 < len(text.splitlines()) <= kernel.KEEP


def test_what_programs_write_into_the_log_is_not_the_kernel(tmp_path: Path) -> None:
    """A record of another facility is left out."""
    root = tree(tmp_path, {"/dev/kmsg": ring((5, "NVRM: Xid (PCI:0000:01:00): 79, x"), priority=12)})
    assert facts(kernel.read(root, {}, NOW))["kernel.xids"] == 0


def test_a_log_that_may_not_be_read_is_unknown(tmp_path: Path) -> None:
    """Then nothing is said to be well, and the report tells how to look."""
    readings = list(kernel.read(str(tmp_path), {}, NOW))
    assert facts(readings) == {}
    assert [item.what for item in unchecked(readings)] == ["kernel log"]
    assert "dmesg" in unchecked(readings)[0].why


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("dmesg", "[999990.000000] NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus.\n"),
        ("journalctl", "[999990.000000] node7 kernel: NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus.\n"),
    ],
)
def test_commands_are_asked_where_the_device_is_missing(tmp_path: Path, program: str, text: str) -> None:
    """First dmesg, then the journal; both print seconds since the start."""
    asked: list[str] = []

    def run(command: Sequence[str]) -> str | None:
        asked.append(command[0])
        return text if command[0] == program else None

    found = facts(kernel.read(str(tmp_path), {}, NOW, run))
    assert found["kernel.log"] == program
    assert found["kernel.xid.79.age"] == 10
    assert asked[-1] == program


def test_lines_of_one_message_belong_together() -> None:
    """dmesg prints the rest of a message indented, without a time."""
    text = "[  1.5] NVRM: API mismatch: the client has the version 1.2, but\n         NVRM: this kernel\n[  2.0] next\n"
    records = list(kernel.records_of_text(text))
    assert [record.time for record in records] == [1.5, 2.0]
    assert records[0].text.endswith("but\nNVRM: this kernel")


@given(st.binary(max_size=400))
def test_any_ring_buffer_is_borne(data: bytes) -> None:
    """Whatever bytes stand there, the records are texts with a time."""
    for record in kernel.records_of_kmsg(data):
        assert record.time >= 0


@given(
    st.lists(st.tuples(st.floats(min_value=1, max_value=1e5), st.text(max_size=60).filter(str.isprintable)), max_size=8)
)
def test_a_record_comes_back_as_it_was_written(lines: list[tuple[float, str]]) -> None:
    """Time and text of each record of the kernel are kept, in order."""
    plain = [(ago, text.replace("\\x", "")) for ago, text in lines]
    records = list(kernel.records_of_kmsg(ring(*plain).encode("utf-8", "replace")))
    assert [record.text for record in records] == [text for _, text in plain]


@given(st.text(max_size=300))
def test_any_text_of_a_command_is_borne(text: str) -> None:
    """The records of a command's output are read without errors."""
    list(kernel.records_of_text(text))


@given(
    st.integers(min_value=0, max_value=9999),
    st.from_regex(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9_.:-]{1,15}", fullmatch=True),
)
def test_any_xid_is_read(code: int, gpu: str, name: str) -> None:
    """Code, address and process of any Xid line become facts."""
    found = kernel._Findings()
    found.take(kernel.Record(1.0, f"NVRM: Xid (PCI:{gpu}): {code}, pid=12, name={name}, some words"))
    known = facts(found.facts("x", 2.0))
    assert known[f"kernel.xid.{code}.gpu"] == gpu
    assert known[f"kernel.xid.{code}.process"] == name


def test_what_came_after_a_moment_is_told_with_its_processes(tmp_path: Path) -> None:
    """Kills and faults since the newest message of a moment; what was before it is not."""
    early = (500, "Memory cgroup out of memory: Killed process 1 (python3) total-vm:1kB, anon-rss:1kB")
    before = tree(tmp_path / "before", {"/dev/kmsg": ring(early)})
    mark = kernel.newest(before)
    after = tree(
        tmp_path / "after",
        {
            "/dev/kmsg": ring(
                early,
                (
                    90,
                    "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),oom_memcg=/job,task_memcg=/job/7,task=python3,pid=77,uid=0",
                ),
                (
                    90,
                    "Memory cgroup out of memory: Killed process 77 (python3) total-vm:9kB, anon-rss:3kB, file-rss:1kB",
                ),
                (50, "NVRM: Xid (PCI:0000:65:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus"),
                (40, "NVRM: Xid (PCI:0000:65:00): 31, pid=44, name=python3, Ch 0000000e"),
            )
        },
    )

    assert mark == NOW - 500
    assert kernel.since(mark, after) == (
        [kernel.Kill(77, "python3", "cgroup", 4096)],
        [kernel.Fault("79", "0000:65:00"), kernel.Fault("31", "0000:65:00")],
    )


def test_a_log_that_may_not_be_read_has_no_moment(tmp_path: Path) -> None:
    """Neither the newest message nor what came later."""
    assert kernel.newest(tree(tmp_path, {})) is None
    assert kernel.since(0.0, tree(tmp_path, {})) is None
