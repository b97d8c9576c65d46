"""Which further evidence would settle an open question, and how to get it."""

from __future__ import annotations

from collections.abc import Sequence

from diagnose.model import Advice, Case, Cause

_COLLECT: tuple[tuple[str, str, str], ...] = (
    (
        "gpu.",
        "the GPUs and their compute capability",
        "nvidia-smi --query-gpu=index,name,compute_cap,memory.total,memory.used --format=csv",
    ),
    ("driver.", "the driver and the newest CUDA that it supports", "nvidia-smi"),
    ("torch.", "which torch is installed and for which CUDA", "python -m torch.utils.collect_env"),
    ("cuda.", "the CUDA toolkit on the machine", "nvcc --version"),
    ("glibc.", "the C library", "ldd --version"),
    ("os.", "the operating system", "cat /etc/os-release; uname -a"),
    ("python.", "the interpreter", "python -VV"),
    ("launch.", "the command that was run, with all its arguments", ""),
)


def advise(causes: Sequence[Cause], case: Case) -> tuple[Advice, ...]:
    """What to bring next: for unknown facts of the first cause, for a wrapper, and when nothing was found.

    A machine that was looked at needs no more evidence than it gave; what could not be read there is told as unchecked.
    """
    if case.machine and not case.origins:
        return ()
    first = causes[0] if causes else None
    found: dict[str, Advice] = {}
    if first is not None and first.unknown and not case.machine:
        found["here"] = Advice("the machine and environment where it failed", "llmdoctor diagnose LOG --here")
    for name in first.unknown if first else ():
        what, run = _how(name)
        found.setdefault(what, Advice(what, run))
    if first is None or first.kind == "wrapper" or first.certainty == "possible":
        for item in _more_text(first, case):
            found.setdefault(item.what, item)
    return tuple(found.values())


def _how(name: str) -> tuple[str, str]:
    for prefix, what, run in _COLLECT:
        if name.startswith(prefix):
            return what, run
    return f"the version of {name.removesuffix('.version')}", f"pip show {name.removesuffix('.version')}"


def _more_text(first: Cause | None, case: Case) -> list[Advice]:
    known = {fact.name for fact in case.facts}
    found = []
    if first is not None and first.kind == "wrapper":
        found.append(
            Advice(
                "the logs of all ranks and processes in one folder: the cause is in another one than this",
                "llmdoctor diagnose LOGS/",
            )
        )
    elif first is None:
        found.append(
            Advice(
                "the log from its beginning, up to and with the first error (the last lines are often only consequences)",
                "COMMAND 2>&1 | tee run.log; llmdoctor diagnose run.log",
            )
        )
    if "torch.version" not in known:
        found.append(
            Advice(
                "the versions of the installed packages, pasted into the same text",
                "pip list; python -m torch.utils.collect_env",
            )
        )
    if "launch.arg.model" not in known and first is not None:
        found.append(Advice("the command that was run, pasted into the same text"))
    return found
