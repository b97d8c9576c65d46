"""The kernel's log → facts and the lines that matter: GPU faults (Xid), the out-of-memory killer, crashes, bus and disk.

The log is read from /dev/kmsg, else asked of `dmesg` or `journalctl`; it holds what happened since the machine started.
Of each kind of trouble the count, the age of the newest line in seconds and what that line tells become facts. Lines that are
new enough to tell of a state that still holds are handed on as a text, so that the rules for logs see them too. What ended a
program (its own fault on a GPU, the out-of-memory killer, a crash) is told by facts only: the next program may run well.
"""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from msgspec import Struct

from diagnose.model import Fact, Output, Reading, Step, Unchecked
from diagnose.sources import proc

HOUR, DAY = 3600.0, 86400.0
MOST_BYTES = 16 << 20
"""How much of the log is read."""
KEEP = 20
"""How many lines of one kind are handed on: some drivers repeat theirs every second."""

Run = Callable[[Sequence[str]], str | None]


class Record(Struct, frozen=True):
    """One message of the kernel: seconds since the machine started, and its text (lines joined by newlines)."""

    time: float
    text: str


class Kind(Struct, frozen=True):
    """A kind of trouble: its name in the facts and its wordings. Named groups become facts of the newest line."""

    name: str
    pattern: str


_PROGRAM = r"(?P<process>(?:pt_|ray::|VLLM|vllm|sglang|python|ipython|jupyter|torchrun|accelerate|deepspeed|llama|ollama|uvicorn|gunicorn|text-generation|tritonserver|trtllm|mpirun)[^\[\n]{0,40})"
"""The names of processes that run models; the crash of any other program tells nothing here."""

KINDS = (
    Kind("crash", rf"^(?:traps: )?{_PROGRAM}\[\d+\](?:: | )(?P<reason>segfault|general protection fault|trap (?:divide error|int3|stack segment))\b(?:.{{0,200}}? in (?P<library>[^\[\s]+))?"),
    Kind("invalid_opcode", rf"^traps: {_PROGRAM}\[\d+\] trap invalid opcode(?:.{{0,200}}? in (?P<library>[^\[\s]+))?"),
    Kind("sxid", r"nvidia-nvswitch\d+: SXid \((?P<device>[^)]+)\): (?P<code>\d{1,6}), (?P<severity>Fatal|Non-fatal)"),
    Kind("api_mismatch", r"NVRM: API mismatch: the client (?:'[^']{0,80}' \(pid \d+\) )?has the version (?P<client>\d+(?:\.\d+)+), but\s+(?:NVRM: )?this kernel module has the version (?P<module>\d+(?:\.\d+)+)"),
    Kind("open_module_needed", r"requires use of the NVIDIA open kernel modules"),
    Kind("gpu_unsupported", r"installed in this system is\s+(?:NVRM:\s+)?(?:not supported|supported through)"),
    Kind("gpu_init_failed", r"NVRM: (?:GPU (?P<gpu>[0-9a-fA-F:.]{7,16}): )?(?:RmInitAdapter failed|rm_init_adapter failed)"),
    Kind("bar_invalid", r"NVRM: This PCI I/O region assigned to your NVIDIA device is invalid"),
    Kind("probe_not_called", r"NVRM: The NVIDIA probe routine was not called"),
    Kind("module_refused", r"(?P<reason>nvidia: disagrees about version of symbol|nvidia: Unknown symbol|nvidia: version magic|(?:modprobe|systemd-udevd|insmod): unsigned module loading is restricted|Loading of (?:unsigned module|module with unavailable key|nvidia\S*) is rejected)"),
    Kind("pcie_error", r"(?P<device>[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]): (?:AER: )?PCIe Bus Error: severity=Uncorrect(?:ed|able) \((?P<severity>Fatal|Non-Fatal)\)"),
    Kind("pcie_corrected", r"(?P<device>[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]): (?:AER: )?PCIe Bus Error: severity=Correct(?:ed|able)"),
    Kind("iommu_fault", r"(?:DMAR: \[DMA (?:Read|Write)[^\]]{0,20}\] Request device \[(?P<device>[0-9a-fA-F:.]{7,12})\]|AMD-Vi: Event logged \[IO_PAGE_FAULT (?:device=(?P<amd>[0-9a-f:.]{7,12}))?)"),
    Kind("hung_task", r"INFO: task (?P<process>.{1,40}):(?P<pid>\d+) blocked for more than (?P<seconds>\d+) seconds"),
    Kind("lockup", r"(?:BUG: soft lockup - CPU#\d+ stuck|Watchdog detected hard LOCKUP|rcu: INFO: rcu_\w+ (?:self-)?detected (?:expedited )?stall)"),
    Kind("nfs_silent", r"nfs: server (?P<server>\S{1,100}) not responding"),
    Kind("disk_error", r"(?:(?:Buffer )?I/O error,? (?:on )?dev (?P<device>(?:sd|hd|vd|xvd|nvme|md|dm-|mmcblk|bcache)[\w-]{0,30})|nvme (?P<nvme>nvme\d+): (?:I/O .{0,40}timeout|controller is down|Device not ready))"),
    Kind("file_system_error", r"(?:EXT4-fs error \(device (?P<device>[\w-]{1,40})\)|EXT4-fs \((?P<remounted>[\w-]{1,40})\): Remounting filesystem read-only|XFS \((?P<xfs>[\w-]{1,40})\): (?:Corruption|Metadata corruption|metadata I/O error|Filesystem has been shut down)|BTRFS (?:error|critical) \(device (?P<btrfs>[\w-]{1,40}))"),
    Kind("machine_check", r"(?:mce: \[Hardware Error\]: CPU \d+: Machine Check: [0-9a-f]+ Bank \d+: [abef][0-9a-f]{15}|\[Hardware Error\]: (?:Uncorrected|event severity: (?:fatal|recoverable))|EDAC \w+: \d+ UE |Memory failure: 0x[0-9a-f]+: (?:recovery action|Killing))"),
    Kind("memory_corrected", r"(?:EDAC \w+: \d+ CE |mce: \[Hardware Error\]: CPU \d+: Machine Check: [0-9a-f]+ Bank \d+: [89cd][0-9a-f]{15}|\[Hardware Error\]: Corrected error)"),
    Kind("cpu_throttled", r"temperature above threshold, cpu clock throttled"),
    Kind("nouveau", r"^nouveau [0-9a-f:.]{7,12}: (?:NVIDIA|vgaarb: deactivate)"),
)  # fmt: skip
"""Beside these, Xid and the out-of-memory killer are read by themselves."""

_XID = re.compile(
    r"NVRM: Xid \((?:PCI:)?(?P<gpu>[0-9a-fA-F:.]{7,16})[^)]{0,20}\): (?P<code>\d{1,4})\b"
    r"(?:, pid='?(?P<pid>\d{1,10}|<[^>]{0,20}>)'?)?(?:, name=(?P<name>[^,\n]{1,60}))?"
)
_RECOVERY = re.compile(
    r"GPU recovery action changed from 0x[0-9a-fA-F]+ \([^)]{0,60}\) to 0x[0-9a-fA-F]+ \((?P<action>[^)]{1,60})\)"
)
_LOADED = "NVRM: loading NVIDIA UNIX"
_OF_ONE_DRIVER = ("open_module_needed", "gpu_unsupported", "gpu_init_failed", "bar_invalid", "probe_not_called")
_KILL = re.compile(
    r"(?P<scope>Memory cgroup out of memory|Out of memory[^:\n]{0,40}): Kill(?:ed)? process (?P<pid>\d{1,10}) \((?P<process>[^)\n]{1,60})\)"
)
_RESIDENT = re.compile(r"\b(?:anon|file|shmem)-rss:(\d{1,15})kB")
_CONSTRAINT = re.compile(
    r"oom-kill:constraint=(?P<constraint>\w+),.*?(?:task_memcg=(?P<cgroup>[^,\n]{0,300}),)?task=[^,\n]{1,60},pid=(?P<pid>\d{1,10})"
)
_OVER = re.compile(r"nfs: server (?P<server>\S{1,100}) OK")
_QUICK = re.compile(
    "|".join(
        ("NVRM", "SXid", "segfault", "traps: ", "PCIe Bus Error", "IO_PAGE_FAULT", "DMAR: ", "blocked for more", "lockup",
         "LOCKUP", "stall", "nfs: server", "I/O", "not ready", "is down", "-fs error", "read-only", "XFS", "BTRFS",
         "Hardware Error", "EDAC", "Memory failure", "throttled", "nouveau", "module", "nvidia", "[Oo]ut of memory", "oom-kill")
    )
)  # fmt: skip


class _Seen(Struct):
    """What was met of one kind: how often, when last, what the newest line told, and the newest lines."""

    count: int = 0
    time: float = 0.0
    told: dict[str, str | int] = {}
    lines: deque[Record] = deque()


def read(
    root: str = "/", environ: Mapping[str, str] | None = None, now: float | None = None, run: Run | None = None
) -> Iterator[Reading]:
    """The facts `kernel.*` and the lines that are new enough to matter still.

    `now` is the seconds since the machine started (by the clock that the log uses), `run` asks a command for its output.
    """
    now = time.clock_gettime(time.CLOCK_MONOTONIC) if now is None else now
    yield Step("reading the kernel's log")
    origin, records, why = _log(root, environ or {}, run or (proc.output if root == "/" else None))
    if records is None:
        yield Unchecked("kernel log", why)
        return
    yield Fact("kernel.log", origin, origin)
    found = _Findings()
    for record in records:
        found.take(record)
    yield from found.facts(origin, now)
    text = found.text(now)
    if text:
        yield Output("kernel log", text)


def newest(root: str = "/") -> float | None:
    """The time of the newest message of the log; None if it may not be read. What comes later came after now."""
    _, records, _ = _log(root, {}, proc.output if root == "/" else None)
    return max((record.time for record in records), default=0.0) if records is not None else None


class Kill(Struct, frozen=True):
    """The out-of-memory killer ended a process: its number as the machine counts, whose memory ran out (cgroup, machine), and
    what the process had of it in bytes; None if the log does not tell."""

    pid: int
    process: str
    scope: str
    memory: int | None


class Fault(Struct, frozen=True):
    """The NVIDIA driver reported a fault: its code, and the GPU."""

    code: str
    gpu: str


def since(time: float, root: str = "/") -> tuple[list[Kill], list[Fault]] | None:
    """What the killer did and what GPUs reported after the message with this time; None if the log may not be read."""
    _, records, _ = _log(root, {}, proc.output if root == "/" else None)
    if records is None:
        return None
    kills: list[Kill] = []
    faults: list[Fault] = []
    for record in records:
        if record.time <= time or not _QUICK.search(record.text):
            continue
        kill, fault = _kill(record.text), _XID.search(record.text)
        if kill is not None:
            kills.append(kill)
        elif fault:
            faults.append(Fault(str(int(fault["code"])), fault["gpu"]))
    return kills[-100:], faults[-100:]


def _kill(text: str) -> Kill | None:
    """What a message tells of a process that the killer ended; None if it tells of none."""
    found = _KILL.search(text)
    if found is None:
        return None
    resident = [int(size) * 1024 for size in _RESIDENT.findall(text)]
    scope = "cgroup" if found["scope"].startswith("Memory cgroup") else "machine"
    return Kill(int(found["pid"]), found["process"], scope, sum(resident) if resident else None)


class _Findings:
    """Collects what the log's records tell."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Seen] = {}
        self._xids: dict[str, _Seen] = {}
        self._constraints: dict[int, re.Match[str]] = {}
        self._nfs_over: dict[str, float] = {}
        self._loaded = -1.0
        self._recovery: tuple[str, float] | None = None

    def take(self, record: Record) -> None:
        if not _QUICK.search(record.text):
            return
        if _LOADED in record.text:
            self._loaded = record.time
            for name in _OF_ONE_DRIVER:  # another try of the driver, or another driver
                self._kinds.pop(name, None)
        xid = _XID.search(record.text)
        if xid:
            self._take_xid(record, xid)
        elif not self._take_kill(record):
            self._take_kind(record)

    def _take_xid(self, record: Record, found: re.Match[str]) -> None:
        told: dict[str, str | int] = {"gpu": found["gpu"]}
        if found["name"] and not found["name"].startswith("<"):
            told["process"] = found["name"].strip("'")
        _note(self._xids.setdefault(str(int(found["code"])), _new()), record, told)
        recovery = _RECOVERY.search(record.text)
        if recovery:
            self._recovery = (recovery["action"], record.time)

    def _take_kill(self, record: Record) -> bool:
        constraint = _CONSTRAINT.search(record.text)
        if constraint:
            self._constraints = {int(constraint["pid"]): constraint}
            return True
        kill = _kill(record.text)
        if kill is None:
            return False
        told: dict[str, str | int] = {"process": kill.process, "scope": kill.scope}
        if kill.memory is not None:
            told["memory"] = kill.memory
        constraint = self._constraints.get(kill.pid)
        if constraint is not None and constraint["cgroup"]:
            told["cgroup"] = constraint["cgroup"]
        _note(self._kinds.setdefault("oom_kill", _new()), record, told)
        return True

    def _take_kind(self, record: Record) -> None:
        over = _OVER.search(record.text)
        if over:
            self._nfs_over[over["server"]] = record.time
            return
        for kind in KINDS:
            found = _compiled(kind.pattern).search(record.text)
            if found:
                _note(self._kinds.setdefault(kind.name, _new()), record, _groups(found))
                return

    def facts(self, origin: str, now: float) -> Iterator[Reading]:
        for name, seen in self._kinds.items():
            yield from _count(f"kernel.{name}", seen, origin, now)
        for name in ("oom_kill", *(kind.name for kind in KINDS)):
            if name not in self._kinds:
                yield Fact(f"kernel.{name}.count", 0, origin)
        silent = self._kinds.get("nfs_silent")
        if silent is not None:
            again = self._nfs_over.get(str(silent.told.get("server")), -1.0)
            yield Fact("kernel.nfs_silent.over", again >= silent.time, origin)
        yield from self._xid_facts(origin, now)

    def _xid_facts(self, origin: str, now: float) -> Iterator[Reading]:
        yield Fact("kernel.xids", sum(seen.count for seen in self._xids.values()), origin)
        for code, seen in self._xids.items():
            label = f"kernel.xid.{code}"
            known = xid(code)
            yield from _count(label, seen, origin, now)
            yield Fact(f"{label}.action", known.get("action", "unknown"), "dataset/xid.json")
            yield Fact(
                f"{label}.meaning", known.get("meaning", "a code that is not in the catalogue"), "dataset/xid.json"
            )
            yield Fact(f"{label}.driver_reloaded", self._loaded > seen.time, origin)
        if self._recovery is not None and self._recovery[1] > self._loaded:
            yield Fact("kernel.recovery_action", self._recovery[0], origin)

    def text(self, now: float) -> str:
        """The lines that a rule for logs can read and that tell of a state that still holds, in order."""
        kept: list[Record] = []
        for name, seen in self._kinds.items():
            kept += _newer(seen, now - _TOLD[name]) if name in _TOLD else ()
        for code, seen in self._xids.items():
            action = xid(code).get("action", "unknown")
            if seen.time > self._loaded and action in _TOLD:
                kept += _newer(seen, now - _TOLD[action])
        kept.sort(key=lambda record: record.time)
        return "".join(_line(record) for record in kept)


_TOLD: Mapping[str, float] = {
    "hardware": HOUR,
    "link": HOUR,
    "reset": HOUR,
    "reboot": DAY,
    "sxid": HOUR,
    "api_mismatch": HOUR,
    "open_module_needed": DAY,
    "gpu_unsupported": DAY,
    "gpu_init_failed": HOUR,
}
"""For how many seconds the lines of a kind, or of an Xid that asks for an action, are handed on to the rules for logs."""


def _newer(seen: _Seen, since: float) -> list[Record]:
    return [record for record in seen.lines if record.time >= since]


def _line(record: Record) -> str:
    return f"[{record.time:12.6f}] {record.text.replace(chr(10), f'{chr(10)}    ')}\n"


def _new() -> _Seen:
    return _Seen(lines=deque(maxlen=KEEP))


def _note(seen: _Seen, record: Record, told: dict[str, str | int]) -> None:
    seen.count += 1
    seen.lines.append(record)
    if record.time >= seen.time:
        seen.time, seen.told = record.time, told


def _groups(found: re.Match[str]) -> dict[str, str | int]:
    """The named groups; alternative names of one thing (the same device in several wordings) under one name."""
    same = {"amd": "device", "nvme": "device", "remounted": "device", "xfs": "device", "btrfs": "device"}
    told: dict[str, str | int] = {}
    for name, value in found.groupdict().items():
        if value:
            short = re.fullmatch(r"[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]", value)  # a PCI address without its domain
            told[same.get(name, name)] = f"0000:{value}" if short else value.strip()
    return told


def _count(label: str, seen: _Seen, origin: str, now: float) -> Iterator[Reading]:
    yield Fact(f"{label}.count", seen.count, origin)
    yield Fact(f"{label}.age", max(int(now - seen.time), 0), origin)
    for name, value in seen.told.items():
        if name not in ("pid", "seconds"):
            yield Fact(f"{label}.{name}", value if isinstance(value, int) else value[:300], origin)


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def xid(code: str) -> Mapping[str, str]:
    """What the catalogue says of an Xid: `mnemonic`, `meaning`, `action`; empty for a code that is not in it."""
    return _catalogue().get(code, {})


@lru_cache(maxsize=1)
def _catalogue() -> dict[str, dict[str, str]]:
    from diagnose.places import table

    return {str(entry["code"]): entry for entry in table("xid.json").get("xids", ())}


def _log(root: str, environ: Mapping[str, str], run: Run | None) -> tuple[str, Iterable[Record] | None, str]:
    """Where the log was read, its records (None: nowhere), and why not."""
    try:
        return "/dev/kmsg", records_of_kmsg(_ring(root)), ""
    except OSError as error:
        refused = isinstance(error, PermissionError)
    for command in _COMMANDS if run is not None else ():
        text = run(command) if run is not None else None
        if text and text.strip():
            return command[0], records_of_text(text), ""
    restricted = proc.number(root, "/proc/sys/kernel/dmesg_restrict") == 1
    if refused:
        sysctl = "; kernel.dmesg_restrict is 1" if restricted else ""
        return (
            "",
            None,
            f"reading it needs the superuser or the group adm{sysctl}; try: sudo dmesg -T | grep -iE 'xid|oom|aer'",
        )
    return (
        "",
        None,
        "there is no /dev/kmsg here (a container?); on the host, try: sudo dmesg -T | grep -iE 'xid|oom|aer'",
    )


_COMMANDS: tuple[tuple[str, ...], ...] = (
    ("dmesg",),
    ("journalctl", "-k", "-b", "-q", "--no-pager", "-o", "short-monotonic", "-n", "20000"),
)


def _ring(root: str) -> bytes:
    """What the kernel's ring buffer holds. Raises OSError if it may not be read."""
    handle = os.open(proc.at(root, "/dev/kmsg"), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        parts: list[bytes] = []
        left = MOST_BYTES
        while left > 0:
            try:
                part = os.read(handle, 1 << 16)
            except BlockingIOError:  # the end
                break
            except BrokenPipeError:  # what we were about to read was overwritten: the next read goes on behind it
                left -= 1024
                continue
            if not part:
                break
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
    finally:
        os.close(handle)


_KMSG = re.compile(r"(\d{1,10}),\d{1,20},(\d{1,18}),[^;\n]{0,200};(.*)")


def records_of_kmsg(data: bytes) -> Iterator[Record]:
    """The kernel's own records of /dev/kmsg; what programs wrote into it is left out."""
    for line in data.decode("utf-8", "replace").split("\n"):
        found = _KMSG.fullmatch(line)
        if found and int(found[1]) >> 3 == 0:
            yield Record(int(found[2]) / 1e6, _unescape(found[3]))


def _unescape(text: str) -> str:
    r"""The text of a record, where the kernel wrote \x0a for a line's end."""
    return re.sub(r"\\x([0-9a-f]{2})", lambda code: chr(int(code[1], 16)), text) if "\\x" in text else text


_LINE = re.compile(r"\[ {0,10}(\d{1,10}\.\d{1,6})\]\s?(?:\S{1,100} kernel: )?(.*)")


def records_of_text(text: str) -> Iterator[Record]:
    """The records that `dmesg` or `journalctl -o short-monotonic` prints; lines without a time continue the one above."""
    when, lines = 0.0, list[str]()
    for line in text.split("\n"):
        found = _LINE.match(line)
        if found:
            if lines:
                yield Record(when, "\n".join(lines))
            when, lines = float(found[1]), [found[2]]
        elif lines and line[:1] in (" ", "\t") and len(lines) < 50:
            lines.append(line.strip())
    if lines:
        yield Record(when, "\n".join(lines))
