"""What a fine-tuning is told → facts: its configuration files, its command line, and the literals of its script; nothing is run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from diagnose.model import Fact, Reading, Step, Unchecked
from diagnose.sources import jsonfile
from diagnose.sources.training import command, documents, kinds, script
from diagnose.sources.training.classes import Reads
from diagnose.sources.training.given import LONGEST, UNKNOWN, Setting, given
from diagnose.sources.training.named import is_data_file
from diagnose.sources.training.parsed import Parsed, Reference
from diagnose.sources.training.script import Script
from diagnose.sources.yamlfile import Node

__all__ = ["read"]

WHAT = "training configuration"
DATA = "data"
SCRIPT = "script"
_SHELL = (command.ORIGIN, ".sh", ".bash", ".slurm", ".sbatch")
"""What a command stands in."""
_ENDINGS = (".yaml", ".yml", ".json")
MOST_SCRIPT_BYTES = 1 << 20
MOST_FILES = 32
"""How many files are read, those that others refer to among them."""
_RANK = {"command": 0, "accelerate": 3, "fsdp": 4, "deepspeed": 5, "peft": 2, "quantization": 2, "script": 1}
"""Whose word counts, where two say a thing: the command's, the trainer's own (1), the launcher's, then the backend's."""
_INTERPOLATION = re.compile(r"\$\{\.*[a-z][\w.]*[}:]")
"""How Hydra and OmegaConf name another key; variables of a shell are in capitals."""
_RESOLVING = ("llamafactory", "torchtune")
"""Kinds that are read through OmegaConf, which puts values for ${…}."""


class _File(Struct, frozen=True):
    """A file to be read: its path as given, the kind it has to be, and the reference that names it (None: the user)."""

    path: str
    kind: str = ""
    by: Reference | None = None


def read(
    files: Sequence[str], environ: Mapping[str, str], folder: str, launched: Mapping[str, Fact] | None = None
) -> Iterator[Reading]:
    """Read the configuration files named and those they refer to. `launched` are the facts of the launch command, if any."""
    yield from _Training(files, folder, launched or {}).read()


class _Training:
    """One training: the files that are yet to be read, and what those that were read say."""

    def __init__(self, files: Sequence[str], folder: str, launched: Mapping[str, Fact]) -> None:
        self._folder = folder
        self._waiting = [_File(path) for path in files]
        self._seen: set[str] = set()
        self._parts: list[tuple[int, Parsed]] = []
        self._number = 0
        self._command = command.of(launched)
        self._script = Script()
        self._overlaid = ""
        self._reads: Reads | None = None
        self._accelerate = launched.get("deploy.config")

    def read(self) -> Iterator[Reading]:
        if self._command is None and self._accelerate is None and not self._waiting:
            return  # the command starts something else
        yield Fact("training.started", self._command is not None, "command line")
        if self._command is not None:
            self._of_command(self._command)
            inside = self._command.script or next((item.path for item in self._command.configs), "")
            if self._command.contained and inside:
                yield Unchecked("the training's settings", f"{inside[:LONGEST]} is a file in the container")
        if self._accelerate is not None:
            fact = self._accelerate
            setting = Setting(UNKNOWN, fact.key or "--config_file", fact.value, fact.origin, fact.line, fact.column)
            self._waiting.append(
                _File(str(fact.value), "accelerate", Reference(str(fact.value), "accelerate", setting))
            )
        while self._waiting and self._number < MOST_FILES:
            yield from self._file(self._waiting.pop(0))
        if self._command is not None and not self._overlaid:
            parsed = command.alone(self._command, self._reads)
            if parsed is not None:
                self._keep("command", parsed)
                while self._waiting and self._number < MOST_FILES:
                    yield from self._file(self._waiting.pop(0))
        yield from _facts(self._parts)

    def _of_command(self, given: command.Command) -> None:
        """The files that the command names; what it reads is told by the script, where that is here."""
        if given.contained:
            self._reads = command.reads(given, self._script)
            return
        if given.script:
            path = os.path.join(self._folder, given.script)
            self._script = _script(path, given.script)[1]
            setting = Setting(UNKNOWN, "script", given.script, given.origin, given.arguments.line)
            self._waiting.append(_File(given.script, SCRIPT, Reference(given.script, SCRIPT, setting)))
        self._reads = command.reads(given, self._script)
        for item in given.configs:
            named = item.setting.key.startswith("-") or given.kind != SCRIPT
            path = os.path.join(self._folder, os.path.expanduser(item.path))
            if (named and (item.path.endswith(_ENDINGS) or os.path.lexists(path))) or _is_known(path):
                self._waiting.append(_File(item.path, "", item))

    def _file(self, file: _File) -> Iterator[Reading]:
        """One file: what is told of it, and what it holds."""
        whole = _where(file, self._folder)
        real = os.path.realpath(whole)
        if real in self._seen:
            return
        self._seen.add(real)
        yield Step(f"reading {file.path[:LONGEST]}")
        key = f"training.file.{self._number}"
        if file.kind == DATA:
            if not os.path.lexists(whole):
                self._number += 1
                yield from _about(file, documents.Opened(problem="missing"), DATA, key)
            return
        self._number += 1
        if file.kind == SCRIPT or (not file.kind and file.path.endswith(".py")):
            opened, found = _script(whole, file.path)
            yield from _about(file, opened, SCRIPT, key)
            if not opened.problem:
                yield Fact("training.script", file.path[:LONGEST], file.path[:LONGEST])
                self._keep(SCRIPT, found.parsed)
            return
        opened = documents.load(whole)
        kind = _kind(file, opened)
        yield from _about(file, opened, kind, key)
        if opened.mapping is not None:
            parsed = self._mapping(opened.mapping, file, kind)
            yield from _placeholder(parsed, kind, key)
            self._keep(kind, parsed)

    def _mapping(self, mapping: Node, file: _File, kind: str) -> Parsed:
        given = self._command
        if given is not None and not self._overlaid and command.is_overlaid(given, kind):
            self._overlaid = file.path
            return command.over(given, mapping, file.path, kind, self._reads)
        return kinds.read(mapping, file.path, kind, self._reads if kind in kinds.BY_CLASS else None)

    def _keep(self, kind: str, parsed: Parsed) -> None:
        self._parts.append((_RANK.get(kind, 1), parsed))
        self._waiting += [_File(item.path, item.kind, item) for item in parsed.refers if _is_followed(item)]


def _is_known(path: str) -> bool:
    """Whether a word that may be anything is a file of settings that are known here."""
    opened = documents.load(path)
    return opened.mapping is not None and kinds.kind_of(opened.mapping) != UNKNOWN


def _script(path: str, name: str) -> tuple[documents.Opened, Script]:
    """A Python script, or why it cannot be read."""
    data = jsonfile.read_bytes(path, MOST_SCRIPT_BYTES)
    if not isinstance(data, bytes):
        return documents.Opened(problem="missing" if data.missing else "unreadable", why=data.error), Script()
    found = script.read(data, name)
    where = f"{found.problem} (line {found.line})" if found.problem else ""
    return documents.Opened(problem=found.problem, why=where, line=found.line), found


def _is_followed(reference: Reference) -> bool:
    """Whether a reference names a file that can be looked for: no placeholder, and data only where it ends like a file."""
    if documents.is_placeholder("", reference.path) or not reference.path.strip() or "://" in reference.path:
        return False
    return reference.kind != DATA or is_data_file(reference.path)


def _where(file: _File, folder: str) -> str:
    """The file's place: relative to the working folder, or else to the file that names it."""
    path = os.path.join(folder, os.path.expanduser(file.path))
    if file.by is not None and not os.path.lexists(path):
        beside = os.path.join(folder, os.path.dirname(file.by.setting.file), file.path)
        return beside if os.path.lexists(beside) else path
    return path


def _kind(file: _File, opened: documents.Opened) -> str:
    if opened.mapping is None:
        return file.kind
    wanted = file.kind if file.kind not in ("", UNKNOWN) and kinds.reader(file.kind) else ""
    return wanted or kinds.kind_of(opened.mapping)


def _about(file: _File, opened: documents.Opened, kind: str, key: str) -> Iterator[Reading]:
    """`training.file.N.*` of one file, and that it cannot be used, where the user named it himself."""
    origin = file.path[:LONGEST]
    setting = file.by.setting if file.by else None
    place = (setting.file, setting.line, setting.column, setting.key) if setting else (origin, 0, 0, "")
    yield Fact(f"{key}.path", origin, *place)
    yield Fact(f"{key}.kind", kind or UNKNOWN, origin)
    if opened.format:
        yield Fact(f"{key}.format", opened.format, origin)
    by = "user" if setting is None else "command" if setting.file.endswith(_SHELL) else "setting"
    yield Fact(f"{key}.by", by, *place)
    if setting is not None:
        yield Fact(f"{key}.named_by", setting.key[:LONGEST], *place)
    if opened.problem:
        absent = opened.problem in ("missing", "unreadable")
        yield Fact(f"{key}.problem", opened.problem, *(place if absent else (origin, opened.line)))
        if opened.mapping is None and file.by is None:
            yield Unchecked(WHAT, f"{origin}: {opened.why}")
    elif kind == UNKNOWN:
        yield Fact(f"{key}.problem", "unknown-kind", origin, 1)
    if opened.mapping is not None and file.kind in ("deepspeed", "accelerate"):
        other = kinds.kind_of(opened.mapping)
        if other not in (file.kind, UNKNOWN):
            yield Fact(f"{key}.looks_like", other, *place)
    for name, line, column in opened.duplicates[:1]:
        yield Fact(f"{key}.duplicate", name[:LONGEST], origin, line, column, name[:LONGEST])
    for name, line, column in opened.tags[:1]:
        yield Fact(f"{key}.tag", name[:LONGEST], origin, line, column)


def _placeholder(parsed: Parsed, kind: str, key: str) -> Iterator[Reading]:
    """The first value that somebody has yet to fill in; none where a program of one's own may put values there itself."""
    if kind == UNKNOWN:
        return
    for item in documents.placeholders(parsed.settings, kind in _RESOLVING):
        if kind in kinds.BY_CLASS and _INTERPOLATION.search(str(item.value)):
            continue
        place = (item.file, item.line, item.column, item.key)
        yield Fact(f"{key}.placeholder", str(item.value)[:LONGEST], *place)
        return


def _facts(parts: Sequence[tuple[int, Parsed]]) -> Iterator[Reading]:
    """The common facts, of what counts most first, and every setting under its number."""
    known: dict[str, Fact] = {}
    for _, parsed in sorted(parts, key=lambda part: part[0]):
        for fact in parsed.facts:
            if not _is_open(fact):
                known.setdefault(fact.name, fact)
    _quantized(known)
    yield from known.values()
    first = 0
    for _, parsed in parts:
        told = list(given(parsed.settings, first))
        yield from told
        first += sum(fact.name.endswith(".owner") for fact in told)


def _quantized(known: dict[str, Fact]) -> None:
    """LoRA on a base of four bits is QLoRA, wherever each of the two is set."""
    method, base = known.get("training.method"), known.get("training.quantization")
    if method is not None and method.value == "lora" and base is not None and base.value == "4bit":
        known[method.name] = replace(method, value="qlora")


def _is_open(fact: Fact) -> bool:
    """Whether a fact's value is only a placeholder, so that nothing is known."""
    return isinstance(fact.value, str) and documents.is_placeholder(fact.name, fact.value)
