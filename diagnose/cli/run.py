"""`llmdoctor run -- COMMAND …`: run a command as ever; if it dies or hangs, the diagnosis follows on stderr."""

from __future__ import annotations

from msgspec import Struct

from diagnose.errors import InputError


class Wish(Struct, frozen=True):
    """What the command line asks of a run, as it was typed: times such as `20m`, folders, what belongs to the diagnosis."""

    hang: str = ""
    on_hang: str = "leave"
    grace: str = "30s"
    report: str = ""
    python: str = ""
    model: str = ""
    configs: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()


def run(command: tuple[str, ...], wish: Wish) -> int:
    """Run the command; its exit code. Raises InputError for a wish that cannot be."""
    raise InputError("not yet")
