"""Where the processes of a command stand: their Python stacks, read by py-spy without stopping them, and what each waits for.

py-spy reads the memory of a process from outside. It is told not to stop it: a tracer that is ended at a bad moment can
leave a process stopped, and one that hangs does not move anyway. No signal is sent: a process that does not expect one dies.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from msgspec import Struct

from diagnose.run import tree
from diagnose.run.tree import Process
from diagnose.sources import proc

SECONDS = 10.0
"""How long one process may be looked at."""
ALL_SECONDS = 60.0
AT_ONCE = 4
MOST = 128
"""How many processes are looked at; ranks first."""


class Frame(Struct, frozen=True):
    """A frame of a stack, innermost first in a list of them."""

    file: str
    function: str
    line: int

    @property
    def bare(self) -> str:
        """The name of the function alone: py-spy puts the class before a method, where it can tell it."""
        return self.function.rpartition(".")[2]


class Stack(Struct, frozen=True):
    """Where a process stands: the stack of its main thread, and those of its other threads."""

    pid: int
    name: str
    rank: str
    frames: tuple[Frame, ...]
    others: tuple[tuple[str, tuple[Frame, ...]], ...] = ()


class Failed(Struct, frozen=True):
    """A process whose stack could not be read, and why."""

    pid: int
    name: str
    rank: str
    why: str


class _SpyFrame(Struct):
    name: str = ""
    filename: str = ""
    line: int = 0


class _SpyThread(Struct):
    thread_id: int = 0
    thread_name: str | None = None
    os_thread_id: int | None = None
    frames: list[_SpyFrame] = []


def spy() -> str:
    """Where py-spy is: beside our interpreter, else on the path; empty if nowhere."""
    beside = os.path.join(os.path.dirname(sys.executable), "py-spy")
    return beside if os.access(beside, os.X_OK) else shutil.which("py-spy") or ""


def dump(processes: Sequence[Process], ranks: Mapping[int, str]) -> Iterator[Stack | Failed]:
    """The stacks of those that run Python, ranks first, some at a time."""
    program = spy()
    chosen = [one for one in processes if one.pid in ranks or runs_python(one)]
    chosen.sort(key=lambda one: one.pid not in ranks)
    if not program:
        for one in chosen[:1]:
            yield Failed(one.pid, one.name, ranks.get(one.pid, ""), "py-spy is not installed beside llmdoctor")
        return
    until = time.monotonic() + ALL_SECONDS
    waiting = chosen[:MOST]
    while waiting and time.monotonic() < until:
        now, waiting = waiting[:AT_ONCE], waiting[AT_ONCE:]
        running = [(one, _started(program, one.pid)) for one in now]
        deadline = min(time.monotonic() + SECONDS, until)
        for one, child in running:
            yield _result(one, ranks.get(one.pid, ""), child, deadline)


def _started(program: str, pid: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [program, "dump", "--pid", str(pid), "--json", "--nonblocking", "--full-filenames"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _result(one: Process, rank: str, child: subprocess.Popen[bytes], deadline: float) -> Stack | Failed:
    try:
        out, errors = child.communicate(timeout=max(deadline - time.monotonic(), 0.1))
    except subprocess.TimeoutExpired:
        child.kill()
        return Failed(
            one.pid, one.name, rank, f"py-spy gave no answer within {SECONDS:g} s (process state {one.state})"
        )
    try:
        threads = msgspec.json.decode(out, type=list[_SpyThread])
    except (msgspec.DecodeError, msgspec.ValidationError):
        told = errors.decode("utf-8", "replace").strip().partition("\n")[0][:300] or "py-spy said nothing"
        return Failed(one.pid, one.name, rank, told)
    main = next((item for item in threads if item.os_thread_id == one.pid), None) or _main(threads)
    if main is None:
        return Failed(one.pid, one.name, rank, "it has no Python thread")
    others = tuple((item.thread_name or "", _frames(item)) for item in threads if item is not main)
    return Stack(one.pid, one.name, rank, _frames(main), others)


def _main(threads: Sequence[_SpyThread]) -> _SpyThread | None:
    named = [item for item in threads if item.thread_name == "MainThread"]
    return next(iter(named or threads[-1:]), None)


def _frames(thread: _SpyThread) -> tuple[Frame, ...]:
    return tuple(Frame(item.filename, item.name, item.line) for item in thread.frames[:200])


_PYTHON = re.compile(r"^(?:pt_|python|ray::|pypy|ipython|jupyter|uvicorn|torchrun|accelerate|deepspeed)")


def runs_python(one: Process) -> bool:
    """Whether a process is an interpreter, by its program or by what it calls itself."""
    try:
        program = os.path.basename(os.readlink(f"/proc/{one.pid}/exe"))
    except OSError:
        program = one.name
    return one.state != "Z" and bool(_PYTHON.match(program) or _PYTHON.match(one.name))


def allowed() -> str:
    """Why stacks may not be read on this machine, and what would allow it; empty if nothing is known against it."""
    scope = proc.number("/", "/proc/sys/kernel/yama/ptrace_scope")
    capabilities = proc.fields(proc.text("/", "/proc/self/status") or "").get("CapEff", "0")
    may_trace = bool(int(capabilities, 16) >> 19 & 1) if re.fullmatch(r"[0-9a-fA-F]+", capabilities) else False
    if may_trace or not scope:
        return ""
    return (
        f"kernel.yama.ptrace_scope is {scope} and we lack CAP_SYS_PTRACE; allow it with: sudo sysctl kernel.yama.ptrace_scope=0, "
        "docker run --cap-add SYS_PTRACE, or securityContext.capabilities.add: [SYS_PTRACE]"
    )


# -- what a stack waits for ---------------------------------------------------------------------------------------------

KINDS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("rendezvous", r"torch/distributed/(?:rendezvous\.py|elastic/rendezvous/)|distributed_c10d\.py:(?:init_process_group|_store_based_barrier|new_group|_new_process_group_helper)"),
        ("checkpoint", r"torch/serialization\.py:_?(?:legacy_)?save|safetensors/(?:torch|numpy)\.py:save|torch/distributed/checkpoint/(?:filesystem|state_dict_saver)"),
        ("collective", r"torch/distributed/(?:distributed_c10d|_functional_collectives|utils|_composable/.*|fsdp/.*)\.py:|torch/nn/parallel/distributed\.py:_(?:sync|distributed_broadcast|ddp_init|build_params)|deepspeed/comm/(?:comm|torch)\.py:|horovod/"),
        ("backward", r"torch/autograd/graph\.py:_engine_run_backward"),
        ("data loading", r"torch/utils/data/(?:dataloader\.py:(?:_next_data|_get_data|_try_get_data|__next__|_shutdown_workers)|_utils/(?:fetch|worker|pin_memory)\.py)"),
        ("file lock", r"/filelock/|torch/utils/file_baton\.py:wait|/fasteners/|/portalocker/|huggingface_hub/utils/_fixes\.py:WeakFileLock"),
        ("download", r"huggingface_hub/(?:file_download|_snapshot_download|utils/_xet)|/(?:requests|urllib3|httpx|httpcore|aiohttp)/|/http/client\.py|/ssl\.py:|/socket\.py:"),
        ("an answer at the terminal", r"/getpass\.py:|click/termui\.py:(?:prompt|visible_prompt_func|confirm)|wandb/.*prompt"),
        ("compilation", r"torch/(?:_inductor|_dynamo|_functorch)/|triton/(?:compiler|backends|runtime/build)|torch/utils/cpp_extension\.py:"),
        ("the GPU", r"torch/cuda/(?:__init__|streams)\.py:(?:synchronize|wait)"),
        ("optimizer", r"torch/optim/.*:(?:step|_single_tensor|_multi_tensor|_fused)|bitsandbytes/optim/"),
        ("its processes", r"torch/distributed/elastic/|/subprocess\.py:(?:wait|_wait|_try_wait|communicate)|multiprocessing/(?:popen_\w+|process)\.py:(?:wait|poll|join)|deepspeed/launcher/"),
    )
)  # fmt: skip
"""What a process can wait for: its name, and the frames that show it."""
_SUPPORT = re.compile(
    r"/python3?[\d.]*/(?!site-packages|dist-packages)|/lib/python[\d.]+/(?!site-packages|dist-packages)"
    r"|/(?:site|dist)-packages/(?:torch|deepspeed|accelerate|huggingface_hub|requests|urllib3|httpx|httpcore|anyio|filelock|"
    r"fsspec|triton|bitsandbytes|safetensors|click|wandb|tqdm)/|^<frozen"
)
_FETCH = re.compile(r"torch/utils/data/_utils/(?:fetch|worker)\.py")


def kind_of(frames: Sequence[Frame]) -> str:
    """What a stack waits for, by its inner frames as far as they belong to libraries; empty for code of the user's own."""
    for frame in frames:
        named = f"{frame.file}:{frame.bare}"
        found = next((name for name, pattern in KINDS if pattern.search(named)), "")
        if found:
            return found
        if not _SUPPORT.search(frame.file):
            break
    return "data loading" if any(_FETCH.search(frame.file) for frame in frames) else ""


def is_idle_worker(frames: Sequence[Frame]) -> bool:
    """Whether this is a worker of a data loader that has nothing to do."""
    return is_worker(frames) and not any(frame.bare == "fetch" for frame in frames)


def is_worker(frames: Sequence[Frame]) -> bool:
    """Whether this is a worker of a data loader."""
    return any(frame.bare == "_worker_loop" for frame in frames)


def place_of(frames: Sequence[Frame]) -> str:
    """Where a stack stands, for a person: the operation and the innermost code of the user's own."""
    own = next((frame for frame in frames if not _SUPPORT.search(frame.file) and frame.file), None)
    inner = frames[0] if frames else None
    if inner is None:
        return "no Python code"
    if own is None or own is inner:
        return f"{inner.function} ({_short(inner)})"
    return f"{inner.function}, called from {own.function} ({_short(own)})"


def _short(frame: Frame) -> str:
    file = re.sub(r"^.*/(?:site|dist)-packages/", "", frame.file)
    return f"{os.path.basename(file) if file.startswith('/') else file}:{frame.line}"


def shape(frames: Sequence[Frame]) -> tuple[str, ...]:
    """What two stacks have in common that stand at the same place: files and functions, without lines."""
    return tuple(f"{frame.file}:{frame.function}" for frame in frames)


def alike(stacks: Sequence[Stack]) -> list[list[Stack]]:
    """The stacks that stand at one place together, the largest group first."""
    groups: dict[tuple[str, ...], list[Stack]] = {}
    for one in stacks:
        groups.setdefault(shape(one.frames), []).append(one)
    return sorted(groups.values(), key=len, reverse=True)


def text_of(stacks: Sequence[Stack], failed: Sequence[Failed]) -> str:
    """All stacks as a text, equal ones together."""
    lines: list[str] = []
    for group in alike(stacks):
        who = ", ".join(
            f"rank {one.rank} (pid {one.pid})" if one.rank else f"pid {one.pid} ({one.name})" for one in group
        )
        lines.append(f"{who}:")
        lines += [f"    {frame.function} ({frame.file}:{frame.line})" for frame in group[0].frames]
        for name, frames in group[0].others[:20]:
            if frames:
                lines.append(f"  thread {name}:")
                lines += [f"      {frame.function} ({frame.file}:{frame.line})" for frame in frames[:30]]
        lines.append("")
    lines += [f"pid {one.pid} ({one.name}): not read: {one.why}" for one in failed]
    return "\n".join(lines) + "\n"


def processes_of(command: int) -> list[Process]:
    """The processes of a command, as they are now."""
    return tree.descendants(tree.processes(), [command])
