"""The weights of a model → facts: which files there are, whether each is what its name says, what is in them by their headers.

No tensor is read. Of a safetensors file its header is, of a PyTorch file the list of its archive and its pickle (which is
never loaded), of a GGUF file the metadata and the tensor table.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from diagnose.model import Fact, Reading, Step, Unchecked
from diagnose.sources.checkpoint import listing, safetensors, series
from diagnose.sources.checkpoint.listing import Entry
from diagnose.sources.checkpoint.safetensors import Header
from diagnose.sources.checkpoint.series import Series

if TYPE_CHECKING:
    from diagnose.sources.checkpoint.pickles import Scan
    from diagnose.sources.checkpoint.where import Found

MOST_PROBLEMS = 40
"""How many faulty files are told one by one."""
LONGEST = 300
_WHOLE = ("trailing", "hollow")
"""Problems of files whose tensors are all told all the same."""
WHOLE_DTYPES = frozenset(("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"))
"""Dtypes of which an element is a parameter; others hold several of them, or indices and scales."""


class Problem(Struct, frozen=True):
    """A file that is not what it should be. `used`: a loader would take it. `size` is what it has, `expected` what it should."""

    file: str
    problem: str
    why: str
    used: bool = True
    size: int = -1
    expected: int = 0
    line: int = 0
    says: str = ""


class Read(Struct):
    """What was read so far, for the sums at the end."""

    headers: list[tuple[str, Header]] = []
    scans: list[Scan] = []
    problems: list[Problem] = []


def read(found: Found, config: Mapping[str, Any] | None) -> Iterator[Reading]:
    """`weights.*`, `weight.*` and `shape.*` of what was found; for a GGUF file `model.*` too. Nothing is raised."""
    if found.kind == "gguf" or (found.kind == "folder" and found.layout == "gguf"):
        from diagnose.sources.checkpoint import gguf_facts

        yield from gguf_facts.read(found)
    elif found.kind in ("safetensors", "file"):
        yield from _one_file(found, config)
    elif found.kind in ("folder", "adapter") and found.folder:
        yield from _folder(found, config)


def _one_file(found: Found, config: Mapping[str, Any] | None) -> Iterator[Reading]:
    name = os.path.basename(found.path)
    entry = listing.entry_at(found.folder, name)
    if entry is None:
        return
    kind = "safetensors" if found.kind == "safetensors" else _pytorch(name)
    if kind:
        yield from _series(found, Series(kind, (name,)), [entry], config)


def _pytorch(name: str) -> str:
    return "pytorch" if name.endswith((".bin", ".pt", ".pth", ".ckpt")) else ""


def _folder(found: Found, config: Mapping[str, Any] | None) -> Iterator[Reading]:
    yield Step(f"listing {found.folder[:LONGEST]}")
    entries = listing.entries(found.folder)
    if entries is None:
        from diagnose.sources import files

        why = files.why_unreadable(found.folder).lower() or "the folder cannot be listed"
        yield Unchecked("model files", f"{found.folder[:LONGEST]}: {why}")
        return
    if len(entries) >= listing.MOST_NAMES:
        yield Unchecked(
            "model files", f"only the first {listing.MOST_NAMES:,} names of {found.folder[:LONGEST]} are read"
        )
    if found.kind == "adapter":
        chosen = _adapter(entries)
    else:
        chosen = series.choose(found.folder, entries, found.layout == "mistral")
    yield from _series(found, chosen, entries, config)


def _adapter(entries: Sequence[Entry]) -> Series:
    names = {entry.name for entry in entries}
    for kind, name in (("safetensors", "adapter_model.safetensors"), ("pytorch", "adapter_model.bin")):
        if name in names:
            return Series(kind, (name,), both=kind == "safetensors" and "adapter_model.bin" in names)
    return Series()


def _series(
    found: Found, chosen: Series, entries: Sequence[Entry], config: Mapping[str, Any] | None
) -> Iterator[Reading]:
    """Everything about the files of a series, then about the others in the folder."""
    origin = found.origin("")[:-1] or found.path
    state = Read()
    yield Fact("weights.format", _format(chosen, entries), origin)
    yield from _choice(found, chosen, origin)
    by_name = {entry.name: entry for entry in entries}
    for name in chosen.files:
        entry = by_name.get(name) or listing.entry_at(found.folder, name)
        if entry is not None:
            yield Step(f"reading the header of {entry.path[:LONGEST]}")
            yield from _file(entry, chosen.format, state)
    state.problems.extend(_absent(chosen))
    state.problems.extend(_left(found, chosen, entries, {one.file for one in state.problems}))
    yield from told(found, state.problems)
    yield from _sums(chosen, state, origin)
    if state.headers:
        from diagnose.sources.checkpoint import index_facts, shapes

        if chosen.index is not None and not chosen.index.error:
            yield from index_facts.facts(chosen.index, state.headers, found.origin(chosen.index.name))
        whole = not any(one.used and one.problem not in _WHOLE for one in state.problems)
        yield from shapes.facts(state.headers, config, found, whole)


def _format(chosen: Series, entries: Sequence[Entry]) -> str:
    if chosen.format == "none" and any(entry.name.endswith(".gguf") for entry in entries):
        return "gguf"
    return "mixed" if chosen.both else chosen.format


def _choice(found: Found, chosen: Series, origin: str) -> Iterator[Fact]:
    """What is to be said of the choice of files itself."""
    yield Fact("weights.files", len(chosen.files), origin)
    if chosen.format == "none":
        return
    yield Fact("weights.used", ", ".join(chosen.files)[:LONGEST], origin)
    yield Fact("weights.standard_name", chosen.standard, origin)
    yield Fact("weights.numbered_without_index", chosen.unnamed, origin)
    yield Fact("weights.single_and_index", chosen.single_too, origin)
    if chosen.variant:
        yield Fact("weights.variant", chosen.variant[:40], origin)
    if chosen.index is not None:
        yield Fact("weights.index", chosen.index.name, found.origin(chosen.index.name))
        if not chosen.index.error:
            yield Fact("weights.index_has_metadata", chosen.index.has_metadata, found.origin(chosen.index.name))
    yield Fact("weights.missing", len(chosen.missing), origin)
    if chosen.missing:
        yield Fact("weights.missing_names", ", ".join(chosen.missing)[:LONGEST], origin)
    if chosen.leftover:
        yield Fact("weights.leftover", len(chosen.leftover), origin)
        yield Fact("weights.leftover_names", ", ".join(chosen.leftover)[:LONGEST], origin)


def _file(entry: Entry, kind: str, state: Read) -> Iterator[Reading]:
    if entry.problem:
        state.problems.append(Problem(entry.name, entry.problem, entry.why, says=entry.target))
        return
    if kind == "safetensors":
        header = safetensors.read_header(entry.path)
        if header.problem == "unread":
            yield Unchecked(f"the header of {entry.name[:LONGEST]}", header.why)
            return
        if header.tensors or not header.problem:
            state.headers.append((entry.name, header))
        if header.problem:
            state.problems.append(_of_header(entry, header))
        elif listing.is_hollow(entry):
            why = "its last quarter holds zeros in each of the places that were looked at"
            state.problems.append(Problem(entry.name, "hollow", why, size=entry.size))
        return
    yield from _pickle(entry, state)


def _pickle(entry: Entry, state: Read) -> Iterator[Reading]:
    from diagnose.sources.checkpoint import pickles

    for reading in pickles.facts(entry, len(state.scans), entry.name):
        if not isinstance(reading, pickles.Scan):
            yield reading
            continue
        state.scans.append(reading)
        if reading.problem:
            problem = Problem(entry.name, reading.problem, reading.why, True, entry.size)
            told = disguised(entry) if reading.problem == "bad-header" else None
            state.problems.append(told or problem)


def _of_header(entry: Entry, header: Header) -> Problem:
    """The problem of a safetensors file; if it is another thing altogether, that."""
    if header.problem in ("bad-header", "truncated") and not header.tensors:
        disguise = disguised(entry, header.expected)
        if disguise is not None:
            return disguise
    return Problem(
        entry.name, header.problem, header.why, True, header.size, header.expected, says=header.tensor[:LONGEST]
    )


def disguised(entry: Entry, expected: int = 0, used: bool = True) -> Problem | None:
    """What a file holds in place of weights: a pointer, a web page, another format; None if that cannot be seen."""
    seen = listing.sniff(entry.path)
    if seen.word == "pointer":
        why = f"it is {seen.detail}" + (f" to a file of {seen.size:,} bytes" if seen.size else "")
        return Problem(entry.name, "pointer", why, used, entry.size, seen.size, says=seen.detail)
    if seen.word == "page":
        why = f"it holds a page or a message: {seen.detail!r}"
        return Problem(entry.name, "page", why, used, entry.size, expected, says=seen.detail)
    if seen.word in ("zip", "pickle", "gguf", "safetensors") and not entry.name.endswith(_endings(seen.word)):
        return Problem(
            entry.name,
            "other-format",
            f"its bytes are those of {_format_of(seen.word)}",
            used,
            entry.size,
            says=seen.word,
        )
    if seen.word in ("text", "json"):
        why = f"it is a text: {seen.detail!r}" if seen.detail else "it is a JSON text"
        return Problem(entry.name, "text", why, used, entry.size, expected, says=seen.detail)
    if seen.word == "zeros":
        return Problem(entry.name, "zeros", "it begins with zeros alone: nothing was written there", used, entry.size)
    return None


def _endings(word: str) -> tuple[str, ...]:
    if word in ("zip", "pickle"):
        return (".bin", ".pt", ".pth", ".ckpt", ".zip", ".pkl", ".npz", ".keras", ".nemo")
    return (f".{word}",)


def _format_of(word: str) -> str:
    return {"zip": "a PyTorch archive (zip)", "pickle": "a PyTorch file (pickle)", "gguf": "a GGUF file"}.get(
        word, "a safetensors file"
    )


def _absent(chosen: Series) -> Iterator[Problem]:
    source = "the index names it" if chosen.index is not None else "the numbers of the other parts call for it"
    for name in chosen.missing:
        yield Problem(name, "missing", f"{source} and it is not there")
    for name in chosen.outside:
        yield Problem(name, "outside", "the index names a file that is not in the model's folder")
    if chosen.index is not None and chosen.index.error:
        yield Problem(chosen.index.name, "bad-index", chosen.index.error, line=chosen.index.line)


def _left(found: Found, chosen: Series, entries: Sequence[Entry], faulty: set[str]) -> Iterator[Problem]:
    """Files beside the series: those that are pointers or cannot be read, downloads that are not done."""
    used = set(chosen.files)
    missing = {*chosen.missing, *faulty}
    yield from _consolidated(entries, used)
    single = found.kind in ("safetensors", "file")
    for entry in entries:
        if entry.name in used or entry.name in faulty or listing.UNFINISHED.search(entry.name) or single:
            continue
        if entry.problem in ("broken-link", "loop"):
            yield Problem(entry.name, entry.problem, entry.why, _is_needed(entry.name), says=entry.target)
        elif 0 < entry.size <= listing.SMALL:
            disguise = disguised(entry, used=_is_needed(entry.name))
            if disguise is not None and disguise.problem in ("pointer", "page"):
                yield disguise
    for entry in [] if single else listing.unfinished(found.folder, list(entries)):
        name = listing.meant(entry.name)
        whole = name in used or name in missing
        # the Hub client keeps a part also after another try has brought the file: only a file that is not there is news
        if whole or entry.name.count(os.sep) == 0 or chosen.missing or chosen.format == "none":
            yield Problem(
                entry.name, "partial", f"it is the part of a download of {name}", whole, entry.size, says=name
            )


def _consolidated(entries: Sequence[Entry], used: set[str]) -> Iterator[Problem]:
    """Faults of consolidated*.safetensors beside the series: where these are, vLLM takes them in its place."""
    for entry in entries:
        if entry.name.startswith("consolidated") and entry.name.endswith(".safetensors") and entry.name not in used:
            header = safetensors.read_header(entry.path)
            if header.problem not in ("", "unread"):
                yield _of_header(entry, header)


def _is_needed(name: str) -> bool:
    """Whether a fault of this file is told here as one that the model cannot do without.

    Other weights beside the series are not needed; of the tokenizer's files their own source tells.
    """
    return name == "config.json" or name.endswith((".index.json", "processor_config.json"))


def told(found: Found, problems: Sequence[Problem]) -> Iterator[Fact]:
    """`weight.*` of the faulty files: those that a loader would take first."""
    folder = found.origin("")[:-1] or found.path
    yield Fact("weights.problems", sum(one.used for one in problems), folder)
    for index, one in enumerate(sorted(problems, key=lambda one: not one.used)[:MOST_PROBLEMS]):
        label = f"weight.{index}"
        name = one.file.encode("utf-8", "replace").decode()[:LONGEST]
        origin = found.origin(name)
        yield Fact(f"{label}.file", name, origin, one.line)
        yield Fact(f"{label}.problem", one.problem, origin, one.line)
        yield Fact(f"{label}.why", one.why[:LONGEST], origin, one.line)
        yield Fact(f"{label}.used", one.used, origin, one.line)
        if one.size >= 0:
            yield Fact(f"{label}.size", one.size, origin, one.line)
        if one.expected:
            yield Fact(f"{label}.expected", one.expected, origin, one.line)
        if one.says:
            yield Fact(f"{label}.says", one.says[:LONGEST], origin, one.line)


def _sums(chosen: Series, state: Read, origin: str) -> Iterator[Fact]:
    """Bytes, tensors and parameters, if every file of the series could be read."""
    if chosen.format == "pytorch":
        yield from _pytorch_sums(chosen, state, origin)
    if chosen.format != "safetensors" or not state.headers:
        return
    by_dtype: Counter[str] = Counter()
    parameters: Counter[str] = Counter()
    count = 0
    for _, header in state.headers:
        for tensor in header.tensors:
            count += 1
            by_dtype[tensor.dtype] += tensor.end - tensor.start
            parameters[tensor.dtype] += (tensor.end - tensor.start) * 8 // safetensors.BITS[tensor.dtype]
    yield Fact("weights.dtype", by_dtype.most_common(1)[0][0] if by_dtype else "none", origin)
    yield Fact("weights.dtypes", ", ".join(dtype for dtype, _ in by_dtype.most_common(8)) or "none", origin)
    broken = any(one.used and one.problem not in _WHOLE for one in state.problems)
    if broken or len(state.headers) != len(chosen.files):
        return
    yield Fact("weights.bytes", by_dtype.total(), origin)
    yield Fact("weights.tensors", count, origin)
    if by_dtype.keys() <= WHOLE_DTYPES:
        yield Fact("weights.parameters", parameters.total(), origin)
    formats = {header.metadata.get("format", "") for _, header in state.headers}
    yield Fact("weights.metadata_format", _format_told(formats), origin)
    yield Fact("weights.metadata", all(header.metadata for _, header in state.headers), origin)


def _pytorch_sums(chosen: Series, state: Read, origin: str) -> Iterator[Fact]:
    """Of PyTorch files the bytes of their storages, and the dtype if there is only one kind."""
    if len(state.scans) != len(chosen.files) or any(scan.problem or scan.unread for scan in state.scans):
        return
    if all(scan.size >= 0 for scan in state.scans):
        yield Fact("weights.bytes", sum(scan.size for scan in state.scans), origin)
    dtypes = {dtype for scan in state.scans for dtype in scan.dtypes}
    if len(dtypes) == 1:
        yield Fact("weights.dtype", min(dtypes), origin)


def _format_told(formats: set[str]) -> str:
    """The format that the files' metadata name: pt, mlx, none, or several."""
    return (formats.copy().pop() or "none")[:40] if len(formats) == 1 else "several"
