"""What a fine-tuning is told → facts: its configuration files, its command line, and the literals of its script; nothing is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from diagnose.model import Fact, Reading

__all__ = ["read"]


def read(
    files: Sequence[str], environ: Mapping[str, str], folder: str, launched: Mapping[str, Fact] | None = None
) -> Iterator[Reading]:
    """Read the configuration files named and those they refer to. `launched` are the facts of the launch command, if any."""
    yield from ()
