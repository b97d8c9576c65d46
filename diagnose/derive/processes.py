"""How many processes train: what the launch command says goes before the settings."""

from __future__ import annotations

from diagnose.derive.known import Known


def world(known: Known) -> int | None:
    """Processes of the whole training; None where neither command nor settings tell, or the launcher counts the GPUs itself."""
    if known.text("deploy.processes_by"):
        return None
    kind = known.text("deploy.distributed") or known.text("accelerate.distributed")
    if known.text("deploy.launcher") == "accelerate" and kind == "NO":
        return 1  # however many it is told of
    every = _positive(known, "deploy.processes_all")
    if every is not None:
        return every
    here, nodes = _positive(known, "deploy.processes"), _positive(known, "deploy.nodes") or 1
    if here is not None and not (known.yes("deploy.processes_default") and known.text("deploy.kind")):
        return here * nodes
    return _positive(known, "training.processes")


def _positive(known: Known, name: str) -> int | None:
    """A count of at least one."""
    value = known.whole(name)
    return value if value is not None and value > 0 else None
