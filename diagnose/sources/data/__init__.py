"""Training data as the framework will see it → facts, streamed; nothing of it is kept.

A file is read once, in blocks. Of every example only counts remain, a hash, and of some of them the texts, which are then put
into the model's own chat template and tokenizer.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from diagnose.model import Fact, Reading, Step, Unchecked
from diagnose.sources import files

if TYPE_CHECKING:
    from diagnose.sources.data.named import DataFile
    from diagnose.sources.data.prompts import Limits, Model
    from diagnose.sources.data.reading import Around, Read
    from diagnose.sources.data.repeats import Repeats

__all__ = ["read"]

_MOST_SCRIPT = 1 << 20
_CHANGES = re.compile(
    r"\.(?:map|filter|\w*_columns?|with_transform|set_transform|with_format|set_format|cast\w*)\("
    r"|Dataset\.from_|formatting_func|collat|__getitem__|\bjson\.load|\bread_\w+\(|\b(?:pd|pandas|pl|polars)\."
)
"""What a script changes data with, or makes it of, or how it reads it in its own way."""
_IMPORTED = re.compile(r"^[ \t]*(?:from|import)[ \t]+([\w., \t]+)", re.MULTILINE)
DEFAULT_CUT = 1024
"""Tokens that TRL's trainers cut examples to where nothing is set (`max_length` of SFTConfig and DPOConfig, TRL 0.13 and later)."""
_CUT_BY_DEFAULT = ("sft", "dpo", "kto", "reward", "orpo", "cpo")


def read(
    paths: Sequence[str], environ: Mapping[str, str], folder: str, known: Mapping[str, Fact], sample: bool = False
) -> Iterator[Reading]:
    """Read data files. `known` are the facts so far: the training's settings, the tokenizer's and template's.

    With `sample` only a part of each file is read. Without paths, a part of the files that the settings name and that are here.
    """
    from diagnose.sources.data import named

    yield Step("looking for the data files")
    found, readings = named.data_files(paths, environ, folder, known)
    yield from readings
    yield from named.as_files(environ, folder, known)
    if not found:
        return
    model = _model(environ, folder, known)
    around = _around(model, environ, folder, known, sample or not paths)
    yield Fact("data.mapped", _is_mapped(environ, folder, known), "training configuration")
    yield Fact("data.packed", _text(known, "training.packing") == "True", "training configuration")
    if _text(known, "training.framework"):
        yield Fact("data.beyond", _beyond(known), "training configuration")
    done: list[Read] = []
    for number, file in enumerate(found):
        yield from _one(number, file, around, model, _limits(known), done)
    yield from _together(done)


def _is_mapped(environ: Mapping[str, str], folder: str, known: Mapping[str, Fact]) -> bool:
    """Whether a script may change the data before the trainer sees it: it does, or it is not seen that it does not."""
    from diagnose.sources.data.named import absolute

    if "training.script" not in known:
        return False
    path = absolute(_text(known, "training.script"), environ, folder)
    try:
        with open(path, "rb") as file:
            text = file.read(_MOST_SCRIPT).decode("utf-8", "replace")
    except (OSError, ValueError):
        return True
    if "load_dataset(" not in text or len(text) >= _MOST_SCRIPT or _CHANGES.search(text):
        return True
    names = (name for line in _IMPORTED.findall(text) for name in line.partition(" import")[0].split(","))
    modules = (os.path.join(os.path.dirname(path), name.strip().partition(".")[0]) for name in names)
    return any(name.endswith(os.sep) or os.path.isdir(name) or os.path.isfile(f"{name}.py") for name in modules)


def _around(
    model: Model | None, environ: Mapping[str, str], folder: str, known: Mapping[str, Fact], sample: bool
) -> Around:
    """What the reading of a file needs to know of the training."""
    from diagnose.sources.data.reading import Around

    media = [*_settings(known, "media_dir"), *_settings(known, "image_base_path")]
    return Around(
        vocabulary=_number(known, "model.vocab_size"),
        begin=_text(known, "special.bos.text") if _text(known, "tokenizer.adds_bos") == "True" else "",
        special=model.control_tokens() if model is not None else (),
        folders=(folder, *(os.path.join(folder, name) for name in media)),
        interpreters=tuple(dict.fromkeys((_text(known, "python.path") or _python(environ), sys.executable))),
        environ=environ,
        sample=sample,
    )


def _text(known: Mapping[str, Fact], name: str) -> str:
    return str(known[name].value) if name in known else ""


def _number(known: Mapping[str, Fact], name: str) -> int:
    value = known[name].value if name in known else 0
    return int(value) if isinstance(value, (int, float)) else 0


def _model(environ: Mapping[str, str], folder: str, known: Mapping[str, Fact]) -> Model | None:
    """The tokenizer and template of the model that is trained, where their files are on this machine."""
    from diagnose.sources.checkpoint import where
    from diagnose.sources.data import prompts

    asked = _text(known, "training.tokenizer") or _text(known, "model.asked") or _text(known, "training.model")
    if not asked:
        return None
    found = where.find(asked, environ, folder)
    if not found.folder or found.kind in ("gguf", "safetensors", "file"):
        return None
    return prompts.of_folder(found.folder, _own_template(environ, folder, known))


def _own_template(environ: Mapping[str, str], folder: str, known: Mapping[str, Fact]) -> str | None:
    """The template that the training takes instead of the model's: its text, or nothing where it is only named."""
    from diagnose.sources.data.named import absolute

    told = _text(known, "training.chat_template")
    framework = _text(known, "training.framework")
    if framework == "llamafactory":
        return ""
    if framework == "axolotl":
        told = next(iter(_settings(known, ".chat_template")), told)
    if not told or told in ("tokenizer_default", "tokenizer_default_fallback_chatml"):
        return None
    if "{%" in told or "{{" in told:
        return told
    return files.read_text(absolute(told, environ, folder), 1 << 20) or ""


def _settings(known: Mapping[str, Fact], ending: str) -> Iterator[str]:
    """The values of settings whose key ends so, as they were written."""
    for name, fact in known.items():
        if name.startswith("training.given.") and name.endswith(".key") and str(fact.value).endswith(ending):
            yield _text(known, name.removesuffix("key") + "value")


def _one(
    number: int, file: DataFile, around: Around, model: Model | None, limits: Limits, done: list[Read]
) -> Iterator[Reading]:
    """The facts of one file."""
    from diagnose.sources.data import kinds, prompts
    from diagnose.sources.data.reading import Read

    head = f"data.file.{number}"
    why = kinds.why_not(file.path)
    if why:
        yield Unchecked("training data", f"{file.shown}: {why}")
        return
    yield Fact(f"{head}.path", file.shown, file.shown)
    yield Fact(f"{head}.role", file.role, file.shown)
    one = Read(file, around)
    yield from one.run(head)
    done.append(one)
    if one.kept is None or one.examples is None or model is None:
        return
    counted = one.about or one.count
    for reading in prompts.facts(one.kept, one.examples.turns, one.layout, model, limits, head, file.shown, counted):
        if isinstance(reading, Fact) and reading.name == f"{head}.tokens":
            one.tokens = int(reading.value)
        yield reading


def _beyond(known: Mapping[str, Fact]) -> str:
    """What becomes of examples that are too long: Axolotl drops them, the others cut them."""
    default = "drop" if _text(known, "training.framework") == "axolotl" else "truncate"
    return _text(known, "training.truncation") or default


def _python(environ: Mapping[str, str]) -> str:
    """The interpreter of the environment that trains, where nobody looked at it yet."""
    from diagnose.errors import InputError
    from diagnose.sources.interpreter import find_interpreter

    try:
        return find_interpreter(None, environ)
    except InputError:
        return sys.executable


def _limits(known: Mapping[str, Fact]) -> Limits:
    from diagnose.sources.data import prompts
    from diagnose.sources.data.turns import MEANT

    trl = _text(known, "training.framework") == "trl"
    names = {} if trl else MEANT  # TRL puts the roles into the template as they are; others map human and gpt
    tokens = _number(known, "training.max_length")
    if not tokens and trl and _text(known, "training.task") in _CUT_BY_DEFAULT:
        return prompts.Limits(DEFAULT_CUT, True, names)
    return prompts.Limits(tokens, False, names)


def _together(done: Sequence[Read]) -> Iterator[Reading]:
    """What is known of all files: the training data as a whole, and examples of evaluation that are in it too."""
    train = [one for one in done if one.file.role == "train" and one.count]
    if train:
        first = train[0]
        origin = first.file.shown if len(train) == 1 else "training data"
        yield Fact("data.path", first.file.shown, first.file.shown)
        yield Fact("data.format", first.format, first.file.shown)
        yield Fact("data.layout", first.layout.name, first.file.shown)
        yield Fact("data.columns", ", ".join(first.columns)[:300], first.file.shown)
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
    yield from tally.facts(f"data.file.{one.number}", one.file.shown, one.count)
