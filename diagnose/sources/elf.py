"""The header of a compiled library, as the dynamic loader reads it: what it needs, where it looks, what it exports.

Only the few parts that the loader itself uses are read, in small pieces: libtorch_cpu.so alone is half a gigabyte, and
a symbol is found in it through its hash table with a handful of reads. Nothing here maps, loads or runs the file.
"""

from __future__ import annotations

import os
import re
import stat
import struct
from collections.abc import Iterator
from operator import mul

from msgspec import Struct

MACHINES = {
    0x03: "i386",
    0x15: "ppc64le",
    0x16: "s390x",
    0x28: "armv7l",
    0x3E: "x86_64",
    0xB7: "aarch64",
    0xF3: "riscv64",
    0x102: "loongarch64",
}
"""ELF machine numbers by the names that `uname -m` uses."""

MOST_BYTES = 96 << 20
"""The largest table that is read: flash-attn's and vLLM's names take a few megabytes."""
MOST_HASHES = 16 << 20
MOST_ENTRIES = 4096
_MASK = 0xFFFFFFFF
_POWERS: list[int] = [pow(33, n, 1 << 32) for n in range(4096)]

# Tags of the dynamic section.
_NEEDED, _HASH, _STRTAB, _SYMTAB, _STRSZ, _SONAME, _RPATH, _RUNPATH = 1, 4, 5, 6, 10, 14, 15, 29
_DYNSYM = 11
_GLOBAL = 1  # how a symbol is bound: a weak one is 2
_GNU_HASH, _VERDEF, _VERNEED = 0x6FFFFEF5, 0x6FFFFFFC, 0x6FFFFFFE


class ElfError(Exception):
    """The file is no ELF file, is cut off, or its tables make no sense; the text says which."""


class Header(Struct, frozen=True):
    """What the first bytes say: the machine (`x86_64`, or `machine 42`), 32 or 64 bits, and the byte order."""

    machine: str
    bits: int
    order: str


class _Section(Struct, frozen=True):
    """A stretch of the file that the loader maps: address, size in the file, offset in the file."""

    address: int
    size: int
    offset: int


class _HashTable(Struct, frozen=True):
    """The GNU hash table: a filter that knows most absent names, then buckets and chains as one row of numbers."""

    buckets: int
    first: int
    shift: int
    filter: tuple[int, ...]
    symbols: int
    row: bytes
    form: str

    def number(self, index: int) -> int:
        """One entry of the row; struct.error beyond its end."""
        return int(struct.unpack_from(self.form, self.row, 4 * index)[0])


class Elf:
    """One file, opened. Close it, or use it in a `with`. Every method raises ElfError where the file makes no sense."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError) as error:
            raise ElfError(getattr(error, "strerror", None) or str(error)) from None
        try:
            self._open()
        except (struct.error, IndexError, OverflowError) as error:
            os.close(self._fd)
            raise ElfError(f"its tables make no sense ({error})") from None
        except ElfError:
            os.close(self._fd)
            raise

    def __enter__(self) -> Elf:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; harmless when it is closed already."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        state = os.fstat(self._fd)
        if not stat.S_ISREG(state.st_mode):
            raise ElfError("it is not a plain file")
        self.size = state.st_size
        head = os.pread(self._fd, 64, 0)
        if head[:4] != b"\x7fELF":
            raise ElfError("it is empty" if not head else "it is no ELF file")
        if len(head) < 52 or head[4] not in (1, 2) or head[5] not in (1, 2):
            raise ElfError("its header is cut off or damaged")
        self._e = "<" if head[5] == 1 else ">"
        self._wide = head[4] == 2
        (machine,) = struct.unpack_from(self._e + "H", head, 18)
        self.header = Header(
            MACHINES.get(machine, f"machine {machine}"), 64 if self._wide else 32, "little" if head[5] == 1 else "big"
        )
        self._sections: list[_Section] = []
        self._entries: dict[int, list[int]] = {}
        self._read_program(head)
        self._names: bytes | None = None
        self._hashed: _HashTable | None = None

    def _read_program(self, head: bytes) -> None:
        if self._wide:
            (table,) = struct.unpack_from(self._e + "Q", head, 32)
            size, count = struct.unpack_from(self._e + "HH", head, 54)
        else:
            (table,) = struct.unpack_from(self._e + "I", head, 28)
            size, count = struct.unpack_from(self._e + "HH", head, 42)
        dynamic: tuple[int, int] | None = None
        data = self._at(table, size * min(count, 512)) if count and size else b""
        for start in range(0, len(data), size or 1):
            if self._wide:
                kind, _, offset, address, _, length = struct.unpack_from(self._e + "IIQQQQ", data, start)
            else:
                kind, offset, address, _, length = struct.unpack_from(self._e + "IIIII", data, start)
            if kind == 1:
                self._sections.append(_Section(address, length, offset))
            elif kind == 2:
                dynamic = offset, length
        if dynamic:
            self._read_dynamic(*dynamic)

    def _read_dynamic(self, offset: int, length: int) -> None:
        form = struct.Struct(self._e + ("qQ" if self._wide else "iI"))
        data = self._at(offset, min(length, form.size * MOST_ENTRIES))
        for tag, value in form.iter_unpack(data[: len(data) // form.size * form.size]):
            if tag == 0:
                break
            self._entries.setdefault(tag, []).append(value)

    def _at(self, offset: int, size: int) -> bytes:
        """`size` bytes of the file; ElfError if they are not all there."""
        if size > MOST_BYTES or offset < 0 or offset + size > self.size:
            raise ElfError("it is cut off, or its tables make no sense")
        data = os.pread(self._fd, size, offset)
        if len(data) != size:
            raise ElfError("it is cut off")
        return data

    def _offset(self, address: int) -> int:
        for section in self._sections:
            if section.address <= address < section.address + section.size:
                return address - section.address + section.offset
        raise ElfError("its tables make no sense: an address lies outside of the file")

    def _one(self, tag: int) -> int | None:
        found = self._entries.get(tag)
        return found[0] if found else None

    def names(self) -> bytes:
        """All names of the dynamic section, each ended by a zero byte."""
        if self._names is None:
            start, size = self._one(_STRTAB), self._one(_STRSZ)
            self._names = self._at(self._offset(start), size) if start is not None and size else b""
        return self._names

    def _text(self, at: int) -> str:
        """One name, without reading all of them."""
        start, size = self._one(_STRTAB), self._one(_STRSZ) or 0
        if start is None or at >= size:
            raise ElfError("its tables make no sense: a name lies outside of the names")
        data = self._at(self._offset(start) + at, min(size - at, 4096))
        return data.split(b"\0", 1)[0].decode("utf-8", "replace")

    def _texts(self, tag: int) -> tuple[str, ...]:
        with _sane():
            return tuple(self._text(at) for at in self._entries.get(tag, ())[:MOST_ENTRIES])

    @property
    def needed(self) -> tuple[str, ...]:
        """The libraries that must be loaded with it (DT_NEEDED), in order."""
        return self._texts(_NEEDED)

    @property
    def soname(self) -> str:
        """The name it is known by to others, or nothing."""
        return "".join(self._texts(_SONAME)[:1])

    @property
    def rpath(self) -> tuple[str, ...]:
        """Folders searched before LD_LIBRARY_PATH, for it and what it loads. Not used where there is a runpath."""
        return _folders(self._texts(_RPATH)) if not self._entries.get(_RUNPATH) else ()

    @property
    def runpath(self) -> tuple[str, ...]:
        """Folders searched after LD_LIBRARY_PATH, for what it needs itself."""
        return _folders(self._texts(_RUNPATH))

    @property
    def has_runpath(self) -> bool:
        """Whether it has a runpath: then no rpath counts, its own or that of who loaded it."""
        return bool(self._entries.get(_RUNPATH))

    def undefined(self, pattern: re.Pattern[bytes]) -> list[bytes]:
        """The symbols that others must bring and whose whole name matches; weak ones, which may stay open, are left out."""
        with _sane():
            return self._undefined(pattern)

    def _undefined(self, pattern: re.Pattern[bytes]) -> list[bytes]:
        start, count = self._one(_SYMTAB), self._first_defined()
        if start is None or not count:
            return []
        form = struct.Struct(self._e + ("IBxHxxxxxxxxxxxxxxxx" if self._wide else "IxxxxxxxxBxH"))
        data = self._at(self._offset(start), count * form.size)
        names = self.names()
        found = []
        for name, info, section in form.iter_unpack(data):
            if section == 0 and info >> 4 == _GLOBAL and name:
                match = pattern.match(names, name)
                if match and names[match.end() : match.end() + 1] == b"\0":
                    found.append(match[0])
        return found

    def _first_defined(self) -> int:
        """How many symbols must be read to see all that are undefined: the linker puts those first."""
        table = self._one(_GNU_HASH)
        if table is not None:
            _, first, _, _ = struct.unpack(self._e + "4I", self._at(self._offset(table), 16))
            if first > 1:
                return int(first)
        table = self._one(_HASH)
        if table is not None:
            _, count = struct.unpack(self._e + "2I", self._at(self._offset(table), 8))
            return int(count)
        return self._listed()

    def _listed(self) -> int:
        """The number of symbols by the section headers, for a library that exports nothing; 0 if those are stripped."""
        head = self._at(0, 64 if self._wide else 52)
        form = struct.Struct(self._e + ("IIQQQQIIQQ" if self._wide else "10I"))
        (table,) = struct.unpack_from(self._e + ("Q" if self._wide else "I"), head, 40 if self._wide else 32)
        size, count = struct.unpack_from(self._e + "HH", head, 58 if self._wide else 46)
        if not table or size != form.size:
            return 0
        for row in form.iter_unpack(self._at(table, size * min(count, 1024))):
            if row[1] == _DYNSYM and row[9]:
                return int(row[5] // row[9])
        return 0

    def exports(self, name: bytes, hashed: int) -> bool:
        """Whether it defines the symbol; `hashed` is `gnu_hash(name)`. False where it has no GNU hash table."""
        with _sane():
            return self._exports(name, hashed)

    @property
    def searchable(self) -> bool:
        """Whether `exports` can tell: only few, old linkers write no GNU hash table."""
        return self._one(_GNU_HASH) is not None

    def _exports(self, name: bytes, hashed: int) -> bool:
        table = self._table()
        if table is None:
            return False
        word = 64 if self._wide else 32
        bits = table.filter[(hashed // word) % len(table.filter)]
        if not (bits >> (hashed % word)) & (bits >> ((hashed >> table.shift) % word)) & 1:
            return False
        index = table.number(hashed % table.buckets)
        if index < table.first:
            return False
        row = 24 if self._wide else 16
        for at in range(index, index + MOST_ENTRIES):
            value = table.number(table.buckets + at - table.first)
            if value | 1 == hashed | 1 and self._is_named(table.symbols + row * at, name):
                return True
            if value & 1:
                return False
        return False

    def _table(self) -> _HashTable | None:
        """The hash table, read at once: the linker puts the symbols right behind it, so its end is known."""
        if self._hashed is not None:
            return self._hashed
        address, symbols = self._one(_GNU_HASH), self._one(_SYMTAB)
        if address is None or symbols is None:
            return None
        at = self._offset(address)
        buckets, first, words, shift = struct.unpack(self._e + "4I", self._at(at, 16))
        if not words or not buckets:
            return None
        word = "Q" if self._wide else "I"
        start = at + 16 + words * struct.calcsize(word)
        filter_ = struct.unpack(f"{self._e}{words}{word}", self._at(at + 16, start - at - 16))
        size = symbols - address - (start - at)
        size = size if 0 < size <= MOST_HASHES else min(MOST_HASHES, self.size - start)
        numbers = self._at(start, size)
        self._hashed = _HashTable(buckets, first, shift, filter_, self._offset(symbols), numbers, self._e + "I")
        return self._hashed

    def _is_named(self, symbol_at: int, name: bytes) -> bool:
        form = "IBxH" if self._wide else "IxxxxxxxxxxH"
        row = struct.unpack(self._e + form, self._at(symbol_at, 8 if self._wide else 16))
        at, section = row[0], row[-1]
        start = self._one(_STRTAB)
        if start is None or section == 0:
            return False
        place = self._offset(start) + at
        return os.pread(self._fd, len(name) + 1, place) == name + b"\0"

    def versions_needed(self) -> dict[str, list[str]]:
        """The symbol versions it asks for, by library: `{"libc.so.6": ["GLIBC_2.17", …]}`."""
        with _sane():
            return self._versions_needed()

    def _versions_needed(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        address = self._one(_VERNEED)
        if address is None:
            return found
        at = self._offset(address)
        for _ in range(MOST_ENTRIES):
            _, count, file, first, following = struct.unpack(self._e + "HHIII", self._at(at, 16))
            wanted = found.setdefault(self._text(file), [])
            entry = at + first
            for _ in range(min(count, MOST_ENTRIES)):
                _, _, _, name, step = struct.unpack(self._e + "IHHII", self._at(entry, 16))
                wanted.append(self._text(name))
                if not step:
                    break
                entry += step
            if not following:
                break
            at += following
        return found

    def versions_defined(self) -> tuple[str, ...]:
        """The symbol versions that it brings: GLIBCXX_3.4.30 …"""
        with _sane():
            return tuple(self._versions_defined())

    def _versions_defined(self) -> Iterator[str]:
        address = self._one(_VERDEF)
        if address is None:
            return
        at = self._offset(address)
        for _ in range(MOST_ENTRIES):
            _, _, _, _, _, first, following = struct.unpack(self._e + "HHHHIII", self._at(at, 20))
            (name,) = struct.unpack(self._e + "I", self._at(at + first, 4))
            yield self._text(name)
            if not following:
                return
            at += following


class _sane:  # noqa: N801, a context that is written like a function
    """Turns what a damaged table makes Python raise into ElfError."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (struct.error, IndexError, OverflowError, MemoryError, ValueError)):
            raise ElfError(f"its tables make no sense ({error})") from None


def gnu_hash(name: bytes) -> int:
    """The hash of a symbol's name by which the loader finds it."""
    size = len(name)
    if size >= len(_POWERS):
        value = 5381
        for byte in name:
            value = (value * 33 + byte) & _MASK
        return value
    value = sum(map(mul, name, _POWERS[size - 1 :: -1] if size else ()), 5381 * _POWERS[size])
    return int(value) & _MASK


def _folders(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(folder for text in texts for folder in text.split(":") if folder)
