"""Makes the tables of dataset/compat from what the packages themselves say, read from the package index.

A maintainer's tool, not a part of the command: `python dataset/compat/refresh.py [NAME …] [--check]`. Wheels are not
downloaded whole: a wheel is a zip archive, and only its directory and the few small files asked for are fetched, by
ranged requests. The index is the one that pip is set to use. The tables that no index tells are written by hand and
left alone: cuda (drivers), architectures, torch-builds, capabilities, and breaks (pairs that no metadata forbids).
"""

from __future__ import annotations

import argparse
import ast
import datetime
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from email.parser import HeaderParser
from pathlib import Path
from typing import Any, NamedTuple

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

FOLDER = Path(__file__).resolve().parent
READING = 2
"""Raised when the code below reads other things out of a wheel, so that what was kept is read again."""
BLOCK = 1 << 18
TAIL = 1 << 17
MOST_BYTES = 64 << 20
"""The largest member that is read out of a wheel."""
THREADS = 4
ACCEPT = "application/vnd.pypi.simple.v1+json"

Row = dict[str, Any]

REQUIRED = frozenset(
    """torch torchvision torchaudio triton transformers tokenizers huggingface-hub safetensors accelerate peft trl datasets
    numpy protobuf pydantic xformers flashinfer-python outlines outlines-core xgrammar compressed-tensors mistral-common
    sgl-kernel sglang-kernel bitsandbytes pyarrow deepspeed setuptools llguidance torchao fsspec""".split()  # noqa: SIM905
)
"""The distributions whose declared ranges are kept in a row."""


class File(NamedTuple):
    """A file that the index lists: `sha256` is empty where the index does not tell it."""

    name: str
    url: str
    sha256: str
    uploaded: str
    yanked: bool = False


class RefreshError(Exception):
    """The index or a wheel did not answer as expected; the text says which and how."""


# --- the index


def index_url() -> str:
    """The base address of the index that pip uses here: its environment variable, its settings, or its default."""
    told = os.environ.get("PIP_INDEX_URL", "").strip()
    if not told:
        command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
        told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout.strip()
    if told:
        return told.rstrip("/")
    from pip._internal.models.index import PyPI

    return str(PyPI.simple_url).rstrip("/")


def fetch(url: str, headers: dict[str, str]) -> tuple[bytes, str]:
    """The body and the Content-Range of an answer. Raises RefreshError."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=120) as answer:
            return answer.read(), answer.headers.get("Content-Range", "")
    except (urllib.error.URLError, OSError) as error:
        raise RefreshError(f"{url}: {error}") from error


def page_of(package: str) -> dict[str, Any]:
    """What the index lists of a package. Raises RefreshError."""
    url = f"{index_url()}/{package}/"
    try:
        found: dict[str, Any] = json.loads(fetch(url, {"Accept": ACCEPT})[0])
    except ValueError as error:
        raise RefreshError(f"{url}: {error}") from error
    return found


def releases(page: dict[str, Any], name: str) -> dict[Version, list[File]]:
    """The final releases with their wheels and source archives, oldest first; withdrawn ones too: they are installed."""
    found: dict[Version, list[File]] = {}
    for entry in page["files"]:
        version = version_of(entry["filename"], name)
        if version is None or version.is_prerelease:
            continue
        file = File(
            entry["filename"],
            entry["url"],
            entry.get("hashes", {}).get("sha256", ""),
            entry.get("upload-time", ""),
            bool(entry.get("yanked")),
        )
        found.setdefault(version, []).append(file)
    return dict(sorted(found.items()))


def version_of(filename: str, name: str) -> Version | None:
    """The version in the name of a wheel or source archive, or None for anything else."""
    try:
        if filename.endswith(".whl"):
            return parse_wheel_filename(filename)[1]
        if filename.endswith(".tar.gz"):
            stem = filename[: -len(".tar.gz")]
            head, _, tail = stem.rpartition("-")
            return Version(tail) if canonicalize_name(head) == canonicalize_name(name) else None
    except (InvalidWheelFilename, InvalidVersion):
        return None
    return None


# --- wheels, read in parts


class RangeFile(io.RawIOBase):
    """A remote file as a seekable one. `read(first, last)` gives those bytes, both included."""

    def __init__(self, read: Callable[[int, int], bytes], size: int, tail: bytes = b"") -> None:
        self._read = read
        self._size = size
        self._place = 0
        self._blocks: dict[int, bytes] = {}
        self._tail = tail

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = max(0, (0, self._place, self._size)[whence] + offset)
        return self._place

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._size - self._place)
        if wanted <= 0:
            return 0
        from_tail = self._place - (self._size - len(self._tail))
        if from_tail >= 0:
            part = self._tail[from_tail : from_tail + wanted]
        else:
            number = self._place // BLOCK
            if number not in self._blocks:
                self._blocks[number] = self._read(number * BLOCK, min(self._size, (number + 1) * BLOCK) - 1)
            start = self._place - number * BLOCK
            part = self._blocks[number][start : start + wanted]
        buffer[: len(part)] = part
        self._place += len(part)
        return len(part)


def open_wheel(url: str) -> zipfile.ZipFile:
    """The archive at an address, of which only what is asked for is fetched."""
    tail, told = fetch(url, {"Range": f"bytes=-{TAIL}"})
    size = int(told.rpartition("/")[2]) if told else len(tail)

    def read(first: int, last: int) -> bytes:
        return fetch(url, {"Range": f"bytes={first}-{last}"})[0]

    return zipfile.ZipFile(io.BufferedReader(RangeFile(read, size, tail), 1 << 16))


def member(archive: zipfile.ZipFile, ending: str) -> bytes:
    """The first member whose name ends so; empty if there is none or it is too large."""
    for info in archive.infolist():
        if info.filename.endswith(ending) and info.file_size <= MOST_BYTES:
            return archive.read(info)
    return b""


def metadata(text: bytes, pythons: Collection[str] = ()) -> Row:
    """Requires-Python and the requirements that matter, of a METADATA text. `pythons`: those that it has wheels for."""
    head = HeaderParser().parsestr(text.decode("utf-8", "replace"))
    supported = SpecifierSet(head.get("Requires-Python") or "")
    pythons = pythons or [python for python in PYTHONS if supported.contains(f"{python}.99")]
    requires, optional = ranges(head.get_all("Requires-Dist") or [], pythons)
    row: Row = {}
    if head.get("Requires-Python"):
        row["requires_python"] = head["Requires-Python"].replace(" ", "")
    if requires:
        row["requires"] = requires
    if optional:
        row["optional"] = optional
    return row


PYTHONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14")


def ranges(lines: Iterable[str], pythons: Collection[str] = PYTHONS) -> tuple[dict[str, str], dict[str, str]]:
    """Declared ranges on Linux x86_64: those that always hold, and those of extras.

    A range that holds for some of `pythons` only is left out: it would be wrong for the others.
    """
    always: dict[str, list[str]] = {}
    extras: dict[str, set[str]] = {}
    for line in lines:
        try:
            wanted = Requirement(line)
        except InvalidRequirement:
            continue
        name = canonicalize_name(wanted.name)
        if name not in REQUIRED or not wanted.specifier:
            continue
        text = specifier_text(wanted)
        if wanted.marker is None or holds(wanted.marker, "", pythons):
            always.setdefault(name, []).append(text)
        else:
            named = re.findall(r"extra\s*==\s*['\"]([\w.-]+)['\"]", str(wanted.marker))
            if named and any(holds(wanted.marker, extra, pythons) for extra in named):
                extras.setdefault(name, set()).add(text)
    return (
        {name: ",".join(dict.fromkeys(texts)) for name, texts in sorted(always.items())},
        {name: min(texts) for name, texts in sorted(extras.items()) if len(texts) == 1 and name not in always},
    )


def specifier_text(wanted: Requirement) -> str:
    """The range with its parts in a stable order: lower bounds first."""
    order = {">=": 0, ">": 1, "~=": 2, "==": 3, "<": 4, "<=": 5, "!=": 6}
    return ",".join(str(part) for part in sorted(wanted.specifier, key=lambda p: (order.get(p.operator, 9), str(p))))


def holds(marker: Marker, extra: str, pythons: Collection[str]) -> bool:
    """Whether a marker is true on Linux x86_64 for each of the versions of Python."""
    base = {
        "os_name": "posix",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "extra": extra,
    }
    return bool(pythons) and all(
        marker.evaluate({**base, "python_version": python, "python_full_version": f"{python}.9"}) for python in pythons
    )


# --- what is read of each package


def linux_wheels(files: Iterable[File]) -> list[File]:
    """The wheels for Linux on x86_64, or those for any platform."""
    found = [file for file in files if file.name.endswith(".whl")]
    linux = [file for file in found if "x86_64" in file.name and "linux" in file.name]
    return sorted(linux or [file for file in found if file.name.endswith("-any.whl")], key=lambda file: file.name)


def pythons(files: Iterable[File]) -> list[str]:
    """The versions of Python with a wheel of their own on Linux x86_64 (`cp312` → 3.12; free-threaded ones aside)."""
    found = set()
    for file in linux_wheels(files):
        for tag in parse_wheel_filename(file.name)[3]:
            told = re.fullmatch(r"cp3(\d+)", tag.interpreter)
            if told and tag.abi == tag.interpreter:
                found.add(int(told[1]))
    return [f"3.{minor}" for minor in sorted(found)]


def torch_row(archive: zipfile.ZipFile, pythons: Collection[str]) -> Row:
    """CUDA and architectures that the index's wheel was built for, and the libraries it pins."""
    row = metadata(archive_metadata(archive), pythons)
    told = re.search(r"^cuda[^=\n]*=\s*'([\d.]+)'", member(archive, "torch/version.py").decode(), re.MULTILINE)
    if told:
        row["cuda"] = told[1]
    found = set(re.findall(rb"(?:sm_\d+a? ?){3,}(?:compute_\d+a?)?", member(archive, "torch/lib/libtorch_python.so")))
    if len(found) == 1:
        row["architectures"] = architectures(found.pop().decode())
    refused = re.findall(
        r"sys\.version_info >= \(3, (\d+)\)", member(archive, "torch/_dynamo/eval_frame.py").decode("utf-8", "replace")
    )
    if len(set(refused)) == 1:
        row["compile_refuses_python"] = f"3.{refused[0]}"
    row |= libraries(archive_metadata(archive).decode("utf-8", "replace"))
    return row


def architectures(flags: str) -> list[str]:
    """`sm_50 sm_86 sm_120` → compute capabilities, oldest first; code for a later driver to compile ends in +PTX."""
    found: dict[Version, str] = {}
    for kind, digits in re.findall(r"(sm|compute)_(\d+)", flags):
        text = f"{digits[:-1]}.{digits[-1]}"
        if kind == "sm":
            found.setdefault(Version(text), text)
        else:
            found[Version(text)] = f"{text}+PTX"
    return [found[key] for key in sorted(found)]


def libraries(text: str) -> Row:
    """The CUDA libraries that torch's metadata pins: cuDNN and NCCL."""
    row: Row = {}
    for key in ("cudnn", "nccl"):
        told = re.search(rf"^Requires-Dist: nvidia-{key}-cu\d+ ?\(?==([\d.]+)", text, re.MULTILINE)
        if told:
            row[key] = told[1]
    return row


def archive_metadata(archive: zipfile.ZipFile) -> bytes:
    return member(archive, ".dist-info/METADATA")


def plain_row(archive: zipfile.ZipFile, pythons: Collection[str]) -> Row:
    """The declared ranges alone."""
    return metadata(archive_metadata(archive), pythons)


def cuda_extension_row(archive: zipfile.ZipFile, pythons: Collection[str]) -> Row:
    """The declared ranges, and the CUDA that the wheel was built with, from its version file (`0.19.1+cu121`)."""
    row = plain_row(archive, pythons)
    for name in ("torchvision/version.py", "torchaudio/version.py"):
        told = re.search(r"^__version__ = '[\d.]+\+cu(\d+)'", member(archive, name).decode(), re.MULTILINE)
        if told:
            row["built_cuda"] = f"{told[1][:-1]}.{told[1][-1]}"
    return row


def vllm_row(archive: zipfile.ZipFile, pythons: Collection[str]) -> Row:
    """The declared ranges, and the least compute capability that each quantization method asks for.

    A module with several methods that ask for different ones is left out.
    """
    row = plain_row(archive, pythons)
    found: dict[str, str] = {}
    for info in archive.infolist():
        told = re.fullmatch(r"vllm/model_executor/layers/quantization/(?:auto_)?(\w+)\.py", info.filename)
        if told and info.file_size <= MOST_BYTES:
            least = set(re.findall(CAPABILITY, archive.read(info).decode("utf-8", "replace")))
            if len(least) == 1 and len(digits := least.pop()) > 1:
                found[told[1]] = f"{digits[:-1]}.{digits[-1]}"
    if found:
        row["quantization"] = dict(sorted(found.items()))
    return row


CAPABILITY = re.compile(r"def get_min_capability\([^)]*\)[^:]*:\s*(?:#[^\n]*\s*)*return (\d+)")


def xformers_row(archive: zipfile.ZipFile, pythons: Collection[str]) -> Row:
    """The declared ranges, and what `cpp_lib.json` tells of the torch and CUDA that the kernels were compiled with."""
    row = plain_row(archive, pythons)
    text = member(archive, "xformers/cpp_lib.json")
    if text:
        built = json.loads(text)
        cuda = built["version"].get("cuda")
        row["built_torch"] = str(built["version"]["torch"]).partition("+")[0]
        if cuda:
            row["built_cuda"] = f"{int(cuda) // 100}.{int(cuda) % 100}"
        listed = built["env"].get("TORCH_CUDA_ARCH_LIST")
        if listed:
            row["architectures"] = sorted({part for part in re.split(r"[ ;]+", listed) if part})
    return row


def bitsandbytes_row(archive: zipfile.ZipFile, pythons: Collection[str]) -> Row:
    """The declared ranges, and the CUDA versions that the wheel has a native library for."""
    row = plain_row(archive, pythons)
    built = set()
    for name in archive.namelist():
        told = re.fullmatch(r"bitsandbytes/libbitsandbytes_cuda(\d+)\.so", name)
        if told:
            built.add(Version(f"{told[1][:-1]}.{told[1][-1]}"))
    row["built_cuda"] = [str(version) for version in sorted(built)]
    return row


def transformers_row(archive: zipfile.ZipFile, pythons: Collection[str]) -> Row:
    """The declared ranges, and the model types that the release knows (taken out again for a table of their own)."""
    row = plain_row(archive, pythons)
    types: set[str] = set()
    for name in ("auto_mappings.py", "configuration_auto.py"):
        types |= model_types(member(archive, f"transformers/models/auto/{name}").decode("utf-8", "replace"))
    row["model_types"] = sorted(types)
    source = member(archive, "transformers/utils/import_utils.py").decode("utf-8", "replace")
    told = re.search(r"PyTorch >= ([\d.]+) is required", source)
    if told:
        row["torch_needed"] = told[1]
    return row


def model_types(source: str) -> set[str]:
    """The keys of CONFIG_MAPPING_NAMES in a module of `transformers.models.auto`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if not any(isinstance(target, ast.Name) and target.id == "CONFIG_MAPPING_NAMES" for target in targets):
            continue
        value = getattr(node, "value", None)
        for inner in ast.walk(value) if value is not None else ():
            if isinstance(inner, ast.Tuple) and inner.elts and isinstance(inner.elts[0], ast.Constant):
                found.add(str(inner.elts[0].value))
            elif isinstance(inner, ast.Dict):
                found |= {str(key.value) for key in inner.keys if isinstance(key, ast.Constant)}
    return found


class Package(NamedTuple):
    """How a package is read: from which release on, by what, and whether a wheel per Python is worth telling."""

    first: str
    read: Callable[[zipfile.ZipFile, Collection[str]], Row]
    pythons: bool = False
    also: str = ""


PACKAGES: dict[str, Package] = {
    "torch": Package("2.0.0", torch_row, True, "torch/version.py, libtorch_python.so, _dynamo/eval_frame.py"),
    "torchvision": Package("0.15.0", cuda_extension_row, True, "torchvision/version.py"),
    "torchaudio": Package("2.0.0", cuda_extension_row, True, "torchaudio/version.py"),
    "xformers": Package("0.0.20", xformers_row, False, "xformers/cpp_lib.json"),
    "bitsandbytes": Package("0.39.0", bitsandbytes_row, False, "names of its native libraries"),
    "torchao": Package("0.1", plain_row),
    "triton": Package("2.0.0", plain_row, True),
    "transformers": Package("4.30.0", transformers_row, False, "models/auto, utils/import_utils.py"),
    "tokenizers": Package("0.13.3", plain_row),
    "huggingface-hub": Package("0.15.0", plain_row),
    "accelerate": Package("0.20.0", plain_row),
    "peft": Package("0.4.0", plain_row),
    "trl": Package("0.5.0", plain_row),
    "datasets": Package("2.13.0", plain_row),
    "diffusers": Package("0.18.0", plain_row),
    "sentence-transformers": Package("2.3.0", plain_row),
    "vllm": Package("0.2.0", vllm_row, False, "model_executor/layers/quantization"),
    "sglang": Package("0.1.3", plain_row),
    "lmdeploy": Package("0.1.0", plain_row),
    "numpy": Package("1.24.0", plain_row, True),
    "llamafactory": Package("0.7.1", plain_row),
    "compressed-tensors": Package("0.3.0", plain_row),
    "optimum": Package("1.13.0", plain_row),
}


# --- making the tables


class Cache:
    """Rows read before, by the checksum of the wheel and the way of reading: a wheel never changes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def row(self, file: File, kind: str, make: Callable[[], Row]) -> Row:
        key = hashlib.sha256(f"{file.sha256 or file.url} {kind} {READING}".encode()).hexdigest()
        path = self._folder / f"{key}.json"
        try:
            kept: Row = json.loads(path.read_text("utf-8"))
            return kept
        except (OSError, ValueError):
            pass
        row = make()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(row), "utf-8")
        except OSError:
            pass
        return row


def cache_folder() -> Path:
    """`compat-refresh` under the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llmdoctor" / "compat-refresh"


def rows_of(name: str, page: dict[str, Any], cache: Cache, said: Callable[[str], None]) -> list[Row]:
    """One row per release of a package, oldest first. A wheel that cannot be read is said and left out."""
    package = PACKAGES[name]
    wanted = [item for item in releases(page, name).items() if item[0] >= Version(package.first)]

    def read(item: tuple[Version, list[File]]) -> Row | None:
        version, files = item
        wheels = linux_wheels(files)
        if not wheels:
            return None
        file = wheels[0]
        having = pythons(files) if package.pythons else []
        try:
            row = cache.row(file, name, lambda: package.read(open_wheel(file.url), having))
        except (RefreshError, zipfile.BadZipFile, ValueError, KeyError, SyntaxError) as error:
            said(f"{name} {version}: left out: {error}")
            return None
        told = [file.name, "METADATA", *([package.also] if package.also else [])]
        head: Row = {"version": str(version), "date": min(f.uploaded for f in files)[:10]}
        if all(item.yanked for item in files):
            head["yanked"] = True
        if having:
            head["python"] = having
        return head | row | {"source": ": ".join([told[0], ", ".join(told[1:])])}

    with ThreadPoolExecutor(THREADS) as pool:
        return [row for row in pool.map(read, wanted) if row is not None]


def types_table(rows: list[Row]) -> list[Row]:
    """For each model type: the first release that has it, and the last where a later release lacks it.

    A type that the oldest release read has already gets no `since`: it may be older.
    """
    ordered = [(row["version"], set(row.pop("model_types", ()))) for row in rows]
    ordered = [(version, types) for version, types in ordered if types]
    told: list[Row] = []
    for name in sorted(set().union(*(types for _, types in ordered)) if ordered else ()):
        having = [version for version, types in in_order(ordered) if name in types]
        row: Row = {"type": name}
        if name not in in_order(ordered)[0][1]:
            row["since"] = having[0]
        if name not in in_order(ordered)[-1][1]:
            row["until"] = having[-1]
        told.append(row)
    return told


def in_order(rows: list[tuple[str, set[str]]]) -> list[tuple[str, set[str]]]:
    return sorted(rows, key=lambda row: Version(row[0]))


def table_text(head: Row, rows: Iterable[Row]) -> str:
    """A table as text: its head, and one row a line, so that a refresh is a readable diff."""
    lines = [json.dumps(row, ensure_ascii=False, separators=(", ", ": ")) for row in rows]
    start = json.dumps(head, ensure_ascii=False)[1:-1]
    return "{" + start + ', "rows": [\n' + ",\n".join(lines) + "\n]}\n"


# --- the command, of the other tables too


class Table(NamedTuple):
    """A table to write: its file, its text, and in words how much is in it."""

    path: Path
    text: str
    holds: str


def asked(parser: argparse.ArgumentParser, known: Collection[str], arguments: list[str] | None) -> argparse.Namespace:
    """The arguments of a refresh: `names` of tables that are known, and `check`. Ends the program for others."""
    parser.add_argument("names", nargs="*", help="what to read again (all)")
    parser.add_argument("--check", action="store_true", help="say what would change, and write nothing")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"no such table: {', '.join(unknown)} (there are {', '.join(known)})")
    return options


def say(text: str) -> None:
    """What a maintainer has to know, beside the tables."""
    sys.stderr.write(text + "\n")


def refresh(names: Iterable[str], made: Callable[[str], Iterable[Table]], check: bool) -> int:
    """Write what `made` makes of each name. Exit code 0: up to date or written; 1: `check` found what would change; 2: no answer."""
    differ = False
    for name in names:
        try:
            tables = list(made(name))
        except RefreshError as error:
            say(f"{name}: {error}")
            return 2
        for table in tables:
            if write(table.path, table.text, check):
                differ = True
                sys.stdout.write(f"{table.path.name}: {table.holds}{', would change' if check else ', written'}\n")
    return int(differ and check)


def write(path: Path, text: str, check: bool) -> bool:
    """Write a table if it differs from the one there, the date aside. True if it does."""
    old = path.read_text("utf-8") if path.exists() else ""
    if _without_date(old) == _without_date(text):
        return False
    if not check:
        path.write_text(text, "utf-8")
    return True


def _without_date(text: str) -> str:
    return re.sub(r'"read": "[\d-]*"', "", text, count=1)


def main(arguments: list[str] | None = None) -> int:
    """The exit code of `refresh`."""
    options = asked(argparse.ArgumentParser(description=__doc__), PACKAGES, arguments)
    cache = Cache(cache_folder())
    return refresh(
        options.names or PACKAGES, lambda name: _tables(name, rows_of(name, page_of(name), cache, say)), options.check
    )


def _tables(name: str, rows: list[Row]) -> Iterable[Table]:
    """The table of a package, and of transformers that of its model types."""
    head: Row = {
        "package": name,
        "read": datetime.date.today().isoformat(),
        "source": "the package's wheels on the package index",
    }
    if name == "transformers":
        types = types_table(rows)
        about = head | {
            "source": "CONFIG_MAPPING_NAMES in transformers/models/auto of every release from oldest to newest"
        }
        if rows:
            about |= {"oldest": rows[0]["version"], "newest": rows[-1]["version"]}
        yield Table(FOLDER / "model_types.json", table_text(about, types), f"{len(types)} rows")
    yield Table(FOLDER / f"{name}.json", table_text(head, rows), f"{len(rows)} rows")


if __name__ == "__main__":
    sys.exit(main())
