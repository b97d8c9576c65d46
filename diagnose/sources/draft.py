"""The draft model of speculative decoding → what has to fit the model that it drafts for: its vocabulary and its kind."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from diagnose.model import Fact, Reading, Step, Unchecked
from diagnose.sources import jsonfile
from diagnose.sources.checkpoint import config, where

MOST_BYTES = 8 << 20
LONGEST = 400


def read(draft: str, environ: Mapping[str, str], folder: str) -> Iterator[Reading]:
    """`draft.*` of the model that a command names for drafting, as its config.json tells; a GGUF's header is not read."""
    yield Step(f"looking for the draft model {draft[:LONGEST]}")
    found = where.find(draft, environ, folder)
    yield Fact("draft.asked", draft[:LONGEST], "command line")
    if found.problem:
        yield Fact("draft.problem", found.problem, "command line")
        if found.nearest:
            yield Fact("draft.nearest", found.nearest[:LONGEST], "command line")
    if not found.folder or found.kind == "gguf":
        yield Unchecked(
            "the draft model", f"{draft[:LONGEST]}: {found.why or found.problem or 'its header is not read'}"
        )
        return
    path = os.path.join(found.folder, "config.json")
    loaded = jsonfile.load(path, MOST_BYTES)
    if not isinstance(loaded.value, dict):
        yield Unchecked("the draft model", f"its config.json: {loaded.error or 'no object'}")
        return
    origin = found.origin("config.json")
    own = loaded.value
    for name, key in (("draft.type", "model_type"), ("draft.method", "speculators_model_type")):
        if isinstance(own.get(key), str):
            yield Fact(name, own[key][:LONGEST], origin)
    architectures = own.get("architectures")
    if isinstance(architectures, list) and architectures and isinstance(architectures[0], str):
        yield Fact("draft.architecture", architectures[0][:LONGEST], origin)
    rows = config.number(config.text_part(own).value, "vocab_size")
    if rows is not None:
        yield Fact("draft.vocab_size", rows, origin)
