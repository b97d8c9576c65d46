"""Which file the dynamic loader would take for a library's name, worked out from headers as glibc does it.

The order is: what is loaded already under that name; the rpath of the library that asks and of those that loaded it
(unless it has a runpath); LD_LIBRARY_PATH; its runpath; the system's cache and folders. Nothing is loaded.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct

from diagnose.sources.elf import Elf, ElfError, gnu_hash
from diagnose.sources.files import read_bytes

DRIVER = (
    "libcuda.so.1",
    "libnvidia-ml.so.1",
    "libnvidia-ptxjitcompiler.so.1",
    "libnvcuvid.so.1",
    "libnvidia-encode.so.1",
)
"""Libraries that come with the GPU driver: where there is none, that is no fault of who needs them."""

MOST_LIBRARIES = 400
MOST_OPEN = 200
_SYSTEM = ("/lib64", "/usr/lib64", "/lib", "/usr/lib")
_MULTIARCH = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu", "ppc64le": "powerpc64le-linux-gnu"}


class Library(Struct, frozen=True, eq=False):
    """A library as the loader sees it: its file, and what its header asks for. `loader` is who asked for it first."""

    path: str
    elf: Elf
    soname: str
    needed: tuple[str, ...]
    rpath: tuple[str, ...]
    runpath: tuple[str, ...]
    has_runpath: bool
    loader: Library | None = None


class Missing(Struct, frozen=True):
    """A library that nobody provides: its name, and the file that needs it."""

    name: str
    needed_by: str


class Loaded(Struct):
    """The libraries in a process: by soname, in the order of loading, with what was not found or not readable."""

    libraries: dict[str, Library] = {}
    missing: list[Missing] = []
    damaged: dict[str, str] = {}

    def copy(self) -> Loaded:
        """The same libraries, for trying out what else would be loaded; what was missing before is left out."""
        return Loaded(dict(self.libraries), [], dict(self.damaged))


class Loader:
    """The loader of one interpreter: its machine, its own rpath, and the environment's LD_LIBRARY_PATH."""

    def __init__(self, program: str, environ: Mapping[str, str]) -> None:
        self._open: dict[str, Elf] = {}
        self.machine = ""
        self.program: Library | None = None
        try:
            elf = self._elf(program)
            self.machine, self.bits = elf.header.machine, elf.header.bits
            self.program = _library(program, elf, None)
        except ElfError:
            self.bits = 64
        self.environ = environ
        self.library_path = library_path(environ)
        self._cache: dict[str, list[str]] | None = None

    @property
    def unlike(self) -> str:
        """Why this loader's choices cannot be worked out, in words; nothing if they can."""
        if self.program is None:
            return "the interpreter is not there, or no program of Linux"
        if any(name.startswith("libc.musl") for name in self.program.needed):
            return "the interpreter uses musl, whose loader searches in another way"
        return ""

    def close(self) -> None:
        """Close all files that were opened."""
        for elf in self._open.values():
            elf.close()
        self._open.clear()

    def forget(self, kept: Loaded | None) -> None:
        """Close files that `kept` does not need, once many are open: a process may open only so many."""
        if len(self._open) < MOST_OPEN:
            return
        paths = {library.path for library in kept.libraries.values()} if kept is not None else set()
        if self.program is not None:
            paths.add(self.program.path)
        for path in [path for path in self._open if path not in paths]:
            self._open.pop(path).close()

    def _elf(self, path: str) -> Elf:
        found = self._open.get(path)
        if found is None:
            found = self._open[path] = Elf(path)
        return found

    def start(self) -> Loaded:
        """What is in the process before anything is imported: the program's own libraries."""
        loaded = Loaded({}, [], {})
        if self.program is not None:
            self._load_needed(self.program, loaded)
        loaded.missing.clear()
        return loaded

    def load(self, path: str, loaded: Loaded) -> Library | None:
        """Load a file with all that it needs into `loaded`, as dlopen would; None if the file itself is damaged."""
        library = self._take(path, None, loaded)
        if library is None:
            return None
        loaded.libraries.setdefault(library.soname or os.path.basename(path), library)
        self._load_needed(library, loaded)
        return library

    def _load_needed(self, library: Library, loaded: Loaded) -> None:
        """Breadth first, as the loader does it: who comes first decides which file a name means."""
        queue = [library]
        for current in queue:
            for name in current.needed:
                if name in loaded.libraries or len(loaded.libraries) > MOST_LIBRARIES:
                    continue
                path = self.find(name, current)
                found = self._take(path, current, loaded) if path else None
                if found is None:
                    if not path:
                        loaded.missing.append(Missing(name, current.path))
                    continue
                loaded.libraries[name] = found
                if found.soname:
                    loaded.libraries.setdefault(found.soname, found)
                queue.append(found)

    def _take(self, path: str, loader: Library | None, loaded: Loaded) -> Library | None:
        try:
            return _library(path, self._elf(path), loader)
        except ElfError as error:
            loaded.damaged[path] = str(error)
            return None

    def find(self, name: str, asking: Library) -> str:
        """The file that the loader takes for a name that `asking` needs; empty if there is none."""
        if "/" in name:
            return name if os.path.isfile(name) else ""
        for folder in self._folders(asking):
            path = os.path.join(folder, name)
            if self._fits(path):
                return path
        if self._cache is None:
            self._cache = read_cache()
        for path in self._cache.get(name, ()):
            if self._fits(path):
                return path
        multiarch = _MULTIARCH.get(self.machine)
        folders = (f"/lib/{multiarch}", f"/usr/lib/{multiarch}", *_SYSTEM) if multiarch else _SYSTEM
        return next((path for folder in folders if self._fits(path := os.path.join(folder, name))), "")

    def _folders(self, asking: Library) -> Iterator[str]:
        if not asking.has_runpath:
            current: Library | None = asking
            while current is not None:
                if not current.has_runpath:
                    yield from _expanded(current.rpath, current.path)
                current = current.loader
            if self.program is not None and not self.program.has_runpath:
                yield from _expanded(self.program.rpath, self.program.path)
        yield from self.library_path
        yield from _expanded(asking.runpath, asking.path)

    def _fits(self, path: str) -> bool:
        """Whether a file is there and of the interpreter's machine: the loader passes over others."""
        if not os.path.isfile(path):
            return False
        try:
            header = self._elf(path).header
        except ElfError:
            return True  # the loader stops at a damaged file, it does not look further
        return not self.machine or (header.machine == self.machine and header.bits == self.bits)


def _library(path: str, elf: Elf, loader: Library | None) -> Library:
    return Library(path, elf, elf.soname, elf.needed, elf.rpath, elf.runpath, elf.has_runpath, loader)


def _expanded(folders: Iterable[str], path: str) -> Iterator[str]:
    origin = os.path.dirname(path)
    for folder in folders:
        if "$" in folder:
            folder = folder.replace("${ORIGIN}", origin).replace("$ORIGIN", origin)
            folder = folder.replace("${LIB}", "lib64").replace("$LIB", "lib64")
        yield folder


def library_path(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The folders of LD_LIBRARY_PATH, in order; an empty one means the working directory."""
    text = environ.get("LD_LIBRARY_PATH", "").replace(";", ":")
    return tuple(folder or os.curdir for folder in text.split(":")) if text.strip(":") else ()


def unresolved(names: Iterable[bytes], libraries: Iterable[Library]) -> Iterator[bytes]:
    """The names that none of the libraries exports. Nothing is yielded where a library cannot be searched."""
    elves = list({id(library.elf): library.elf for library in libraries}.values())
    for name in names:
        hashed = gnu_hash(name)
        for index, elf in enumerate(elves):
            try:
                if elf.exports(name, hashed):
                    if index > 2:  # who has one symbol has many: ask it first
                        elves.insert(0, elves.pop(index))
                    break
            except ElfError:
                return
        else:
            yield name


def read_cache(path: str = "/etc/ld.so.cache") -> dict[str, list[str]]:
    """The system's cache of libraries: files by name. Empty if there is none, or it is damaged."""
    data = read_bytes(path, 16 << 20) or b""
    start = data.find(b"glibc-ld.so.cache1.1")
    found: dict[str, list[str]] = {}
    if start < 0 or len(data) < start + 48:
        return found
    (count,) = struct.unpack_from("=I", data, start + 20)
    for index in range(min(count, (len(data) - start - 48) // 24)):
        _, key, value = struct.unpack_from("=iII", data, start + 48 + 24 * index)
        found.setdefault(_string(data, start + key), []).append(_string(data, start + value))
    return found


def _string(data: bytes, at: int) -> str:
    return data[at : max(data.find(b"\0", at), at)].decode("utf-8", "replace")
