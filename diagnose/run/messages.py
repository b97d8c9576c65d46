"""What witnesses tell of a command and its machine: messages that go through a pipe, one JSON object a line."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct


class Sample(Struct, tag="sample"):
    """One look: bytes unless said otherwise, `at` seconds since the start, -1 for what is not known.

    `memory` is that of the command's processes together, `available` the machine's, `limit`, `used` and `free` those of the
    control group with the least room, `kills` and `hits` of all groups since the start. `files` and `files_limit` are those
    of the process that is nearest to its limit of open files, `space_limit` and `size_limit` the least limits of the address
    space and of the size of a file. `changed` says that results did.
    """

    at: float
    processes: int = 0
    memory: int = 0
    available: int = -1
    total: int = -1
    limit: int = -1
    used: int = -1
    free: int = -1
    kills: int = -1
    hits: int = -1
    cpu: float = 0.0
    written: int = 0
    read: int = 0
    shm_free: int = -1
    shm_total: int = -1
    disks: dict[str, tuple[int, int]] = {}
    files: int = 0
    files_limit: int = 0
    space_limit: int = -1
    size_limit: int = -1
    changed: bool = False


class Rank(Struct, tag="rank"):
    """A process that is a rank of a distributed job (empty: it turned out to be none). `world`: how many there are; 0: not told."""

    pid: int
    rank: str
    local: str = ""
    world: int = 0


class Ended(Struct, tag="ended"):
    """A process that ended; `status` is what its parent is told by wait, None if that could not be seen."""

    pid: int
    name: str
    at: float
    status: int | None
    rank: str = ""
    main: bool = False


class Said(Struct, tag="said"):
    """A text that a rank left behind: torchrun's error file."""

    rank: str
    text: str


class KernelMark(Struct, tag="kernel"):
    """The time of the kernel's newest message when the command was started, by the clock of the kernel's log."""

    time: float


class Interpreter(Struct, tag="python"):
    """A Python that a process of the command runs in, as it was called; whether that process is a rank."""

    called: str
    of_rank: bool = False


class Looked(Struct, tag="looked"):
    """What was found of a hang: a text to show, facts by their names, and stacks as a text."""

    text: str
    facts: dict[str, str | int | float | bool] = {}
    stacks: str = ""
    unchecked: list[tuple[str, str]] = []


class Gpus(Struct, tag="gpus"):
    """Memory in use and in all of each GPU, in bytes."""

    at: float
    used: dict[str, int] = {}
    total: dict[str, int] = {}


Message = Sample | Rank | Ended | Said | Gpus | KernelMark | Interpreter | Looked
Tell = Callable[[Message], None]
"""How a witness tells something."""
Look = Callable[[int, Tell], None]
"""What a witness does: it is given a handle that closes when it shall end, and tells messages."""


def least(one: int, other: int) -> int:
    """The smaller of two numbers, where -1 is no number."""
    return max(one, other) if one < 0 or other < 0 else min(one, other)
