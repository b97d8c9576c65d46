"""Training data as the framework will see it → facts, streamed; nothing of it is kept.

A file is read once, in blocks. Of every example only counts remain, a hash, and of some of them the texts, which are then put
into the model's own chat template and tokenizer.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from diagnose.model import Fact, Reading, Step, Unchecked

if TYPE_CHECKING:
    from diagnose.sources.data.named import DataFile
    from diagnose.sources.data.prompts import Limits, Model
    from diagnose.sources.data.reading import Around, Read
    from diagnose.sources.data.repeats import Repeats

__all__ = ["read"]


def read(
    paths: Sequence[str], environ: Mapping[str, str], folder: str, known: Mapping[str, Fact], sample: bool = False
) -> Iterator[Reading]:
    """Read data files. `known` are the facts so far: the training's settings, the tokenizer's and template's.

    With `sample` only a part of each file is read. Without paths, a part of the files that the settings name and that are here.
    """
    from diagnose.sources.data import named, training

    yield Step("looking for the data files")
    found, readings = named.data_files(paths, environ, folder, known)
    yield from readings
    yield from named.as_files(environ, folder, known)
    if not found:
        return
    model = _model(environ, folder, known)
    around = _around(model, environ, folder, known, sample or not paths)
    yield Fact("data.mapped", training.is_mapped(environ, folder, known), "training configuration")
    yield Fact("data.packed", training.text(known, "training.packing") == "True", "training configuration")
    if training.text(known, "training.framework"):
        yield Fact("data.beyond", training.beyond(known), "training configuration")
    done: list[Read] = []
    for number, file in enumerate(found):
        yield from _one(number, file, around, model, training.limits(known), done)
    yield from _together(done)


def _around(
    model: Model | None, environ: Mapping[str, str], folder: str, known: Mapping[str, Fact], sample: bool
) -> Around:
    """What the reading of a file needs to know of the training."""
    from diagnose.sources.data import training
    from diagnose.sources.data.reading import Around

    media = [*training.written(known, "media_dir"), *training.written(known, "image_base_path")]
    return Around(
        vocabulary=training.number(known, "model.vocab_size"),
        begin=training.text(known, "special.bos.text") if training.text(known, "tokenizer.adds_bos") == "True" else "",
        special=model.control_tokens() if model is not None else (),
        folders=(folder, *(os.path.join(folder, name) for name in media)),
        interpreters=tuple(dict.fromkeys((training.text(known, "python.path") or _python(environ), sys.executable))),
        environ=environ,
        sample=sample,
    )


def _model(environ: Mapping[str, str], folder: str, known: Mapping[str, Fact]) -> Model | None:
    """The tokenizer and template of the model that is trained, where their files are on this machine."""
    from diagnose.sources.checkpoint import where
    from diagnose.sources.data import prompts, training

    asked = (
        training.text(known, "training.tokenizer")
        or training.text(known, "model.asked")
        or training.text(known, "training.model")
    )
    if not asked:
        return None
    found = where.find(asked, environ, folder)
    if not found.folder or found.kind in ("gguf", "safetensors", "file"):
        return None
    return prompts.of_folder(found.folder, training.own_template(environ, folder, known))


def _one(
    number: int, file: DataFile, around: Around, model: Model | None, limits: Limits, done: list[Read]
) -> Iterator[Reading]:
    """The facts of one file."""
    from diagnose.sources.data import kinds, prompts
    from diagnose.sources.data.reading import Read

    why = kinds.why_not(file.path)
    if why:
        yield Unchecked("training data", f"{file.shown}: {why}")
        return
    one = Read(file, number, around)
    yield Fact(f"{one.head}.path", file.shown, file.shown)
    yield Fact(f"{one.head}.role", file.role, file.shown)
    yield from one.run()
    done.append(one)
    for reading in prompts.facts(one, model, limits) if model is not None else ():
        if isinstance(reading, Fact) and reading.name == f"{one.head}.tokens":
            one.tokens = int(reading.value)
        yield reading


def _python(environ: Mapping[str, str]) -> str:
    """The interpreter of the environment that trains, where nobody looked at it yet."""
    from diagnose.errors import InputError
    from diagnose.sources.interpreter import find_interpreter

    try:
        return find_interpreter(None, environ)
    except InputError:
        return sys.executable


def _together(done: Sequence[Read]) -> Iterator[Reading]:
    """What is known of all files: the training data as a whole, and examples of evaluation that are in it too."""
    from diagnose.sources.data.layout import listed

    train = [one for one in done if one.file.role == "train" and one.count]
    if train:
        first = train[0]
        origin = first.file.shown if len(train) == 1 else "training data"
        yield Fact("data.path", first.file.shown, first.file.shown)
        yield Fact("data.format", first.format, first.file.shown)
        yield Fact("data.layout", first.layout.name, first.file.shown)
        yield Fact("data.columns", listed(first.columns), first.file.shown)
        yield Fact("data.bytes", sum(one.size for one in train), origin)
        yield Fact("data.sampled", any(one.partial for one in train), origin)
        count = sum(one.count for one in train)
        if any(one.partial for one in train):
            yield Fact("data.examples_read", count, origin)
            yield Fact("data.examples_about", sum(one.about for one in train), origin)
        else:
            yield Fact("data.examples", count, origin)
        if all(one.tokens for one in train):
            yield Fact("data.tokens", sum(one.tokens for one in train), origin)
    for one in done:
        if one.file.role == "eval" and one.count and train:
            yield from _leak(one, [other.repeats for other in train])


def _leak(one: Read, others: Iterable[Repeats]) -> Iterator[Reading]:
    from diagnose.sources.data.tally import Tally

    tally = Tally()
    for line in one.repeats.found_in(others):
        tally.add("leaked", line)
    yield from tally.facts(one.head, one.file.shown, one.count)
