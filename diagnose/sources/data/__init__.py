"""Training data as the framework will see it → facts, streamed; nothing of it is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from diagnose.model import Fact, Reading

__all__ = ["read"]


def read(
    paths: Sequence[str], environ: Mapping[str, str], folder: str, known: Mapping[str, Fact], sample: bool = False
) -> Iterator[Reading]:
    """Read data files. `known` are the facts so far: the training's settings, the tokenizer's and template's.

    With `sample` only a part of each file is read.
    """
    yield from ()
