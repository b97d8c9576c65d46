"""Reads hostile models and launches as the command line does: each source in its child, with bounds on time and memory."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from pathlib import Path

from diagnose.model import Fact, Output, Reading, Unchecked
from diagnose.sources import checkpoint, launch, tokenizer
from diagnose.sources.child import Source, read_all

GiB = 1 << 30
SECONDS = 60.0
BROKE = ("reading it failed", "reading it crashed", "reading it ended early", "says more than")
OUTER = ("model files", "tokenizer", "launch command")
"""Sources that have to answer in time; a template that does not end is told as such by the reader of the tokenizer."""


def bounded(read: Callable[[], Iterator[Reading]]) -> Callable[[], Iterator[Reading]]:
    """The same source, which may not take more than a gibibyte above what its process has."""

    def reading() -> Iterator[Reading]:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + GiB
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        yield from read()

    return reading


def collected(model: str, folder: Path, environ: dict[str, str] | None = None) -> list[Reading]:
    """All that the sources of a model say, each in its child; the test fails if one breaks."""
    known = {"HOME": str(folder)} | (environ or {})
    where = str(folder)
    sources = [
        Source("model files", bounded(lambda: checkpoint.read(model, known, where)), SECONDS),
        Source("tokenizer", bounded(lambda: tokenizer.read(model, known, where)), SECONDS),
    ]
    return unbroken(list(read_all(sources)))


def started(command: list[str], files: list[str], folder: Path) -> list[Reading]:
    """All that a launch command and manifests say."""
    environ = {"HOME": str(folder), "PWD": str(folder)}
    read = bounded(lambda: launch.read(command, files, environ, str(folder)))
    return unbroken(list(read_all([Source("launch command", read, SECONDS)])))


def unbroken(readings: list[Reading]) -> list[Reading]:
    """The readings, none of which says that a source broke."""
    untold = [one for one in readings if isinstance(one, Unchecked)]
    broken = [one for one in untold if one.why.startswith(BROKE)]
    broken += [one for one in untold if one.what in OUTER and one.why.startswith("no answer within")]
    assert not broken, broken
    assert all(isinstance(one, Fact | Unchecked | Output) for one in readings)
    return readings
