"""The stacks of a command that does not get on → facts: what its ranks wait for, and which of them stand elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from diagnose.run import stacks
from diagnose.run.stacks import Failed, Stack

Value = str | int | float | bool
WAITING = ("collective", "rendezvous", "backward")
"""In these a rank waits for the others: who stands elsewhere keeps them waiting."""


class Standing(Struct, frozen=True):
    """Some ranks that stand at one place."""

    ranks: tuple[str, ...]
    kind: str
    place: str


def facts_of(found: Sequence[Stack], failed: Sequence[Failed], seconds: float, cpu: float) -> dict[str, Value]:
    """The facts `run.hang…`. `cpu` is how many processors the command keeps busy."""
    told: dict[str, Value] = {
        "run.hung": True,
        "run.hang_seconds": round(seconds),
        "run.hang.cpu": round(cpu, 2),
        "run.hang.processes": len(found),
    }
    if failed and not found:
        told["run.hang.unread"] = stacks.allowed() or failed[0].why
    ranks = [one for one in found if one.rank]
    telling = ranks or [one for one in found if _tells(one)]
    if not telling:
        return told
    groups = standing(telling)
    told["run.hang.ranks"] = len(ranks)
    main = _most(groups)
    odd = [group for group in groups if group is not main]
    told |= {"run.hang.kind": main.kind or "its own code", "run.hang.where": main.place}
    told["run.hang.differ"] = bool(ranks and odd)
    if ranks and odd:
        first = odd[0]
        told |= {
            "run.hang.odd_ranks": _listed([rank for group in odd for rank in group.ranks]),
            "run.hang.odd_kind": first.kind or "its own code",
            "run.hang.odd_where": first.place,
            "run.hang.waiting_ranks": _listed(main.ranks),
        }
        told["run.hang.collectives_differ"] = main.kind in WAITING and all(group.kind in WAITING for group in odd)
        told["run.hang.others_wait"] = main.kind in WAITING and not all(group.kind in WAITING for group in odd)
    workers = [one for one in found if stacks.is_worker(one.frames) and not stacks.is_idle_worker(one.frames)]
    if workers:
        told["run.hang.worker_where"] = stacks.place_of(workers[0].frames)
    return told


def standing(found: Sequence[Stack]) -> list[Standing]:
    """Ranks by the place where they stand, the largest group first."""
    return [
        Standing(
            tuple(sorted((one.rank for one in group), key=_number)),
            stacks.kind_of(group[0].frames),
            stacks.place_of(group[0].frames),
        )
        for group in stacks.alike(found)
    ]


def _most(groups: Sequence[Standing]) -> Standing:
    """Where most ranks stand; of equally many those that wait for others."""
    return min(groups, key=lambda group: (-len(group.ranks), group.kind not in WAITING))


def _tells(one: Stack) -> bool:
    """Whether the stack of a process without a rank tells something: no launcher, no worker, no helper of the interpreter."""
    if stacks.is_worker(one.frames) or stacks.kind_of(one.frames) == "its processes":
        return False
    return not any("resource_tracker.py" in frame.file or "forkserver.py" in frame.file for frame in one.frames)


def _listed(ranks: Sequence[str]) -> str:
    return ", ".join(sorted(ranks, key=_number)[:32])


def _number(rank: str) -> tuple[int, str]:
    """Sorts ranks as numbers: 2 before 10."""
    return len(rank), rank
