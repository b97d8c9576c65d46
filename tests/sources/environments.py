"""Environments made of files for the tests: interpreters, distributions and libraries that nobody could run."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from diagnose.model import Fact, Unchecked
from diagnose.sources import python
from diagnose.sources.elf import gnu_hash

MACHINES = {"x86_64": 0x3E, "aarch64": 0xB7, "i386": 3}


class _Names:
    """A table of names, each with its offset."""

    def __init__(self) -> None:
        self.data = bytearray(b"\0")

    def add(self, name: str) -> int:
        at = len(self.data)
        self.data += name.encode() + b"\0"
        return at


def elf(
    needed: Sequence[str] = (),
    soname: str = "",
    rpath: str = "",
    runpath: str = "",
    exports: Sequence[str] = (),
    undefined: Sequence[str] = (),
    weak: Sequence[str] = (),
    versions_needed: Mapping[str, Sequence[str]] | None = None,
    versions_defined: Sequence[str] = (),
    machine: str = "x86_64",
    wide: bool = True,
) -> bytes:
    """A shared library as a linker would write its dynamic section; there is no code in it."""
    names = _Names()
    dynamic = [(1, names.add(name)) for name in needed]
    dynamic += [(tag, names.add(text)) for tag, text in ((14, soname), (15, rpath), (29, runpath)) if text]
    symbols = [(names.add(name), 0x12, 0) for name in undefined] + [(names.add(name), 0x22, 0) for name in weak]
    symbols += [(names.add(name), 0x12, 1) for name in exports]
    need, need_count = _needs(names, versions_needed or {})
    defined = _defines(names, versions_defined)
    size, header = (24, 64) if wide else (16, 52)
    table = b"\0" * size + b"".join(_symbol(*symbol, wide=wide) for symbol in symbols)
    hashes = _hash_table(exports, len(symbols) + 1 - len(exports), wide)
    start = header + 2 * (56 if wide else 32)
    places: dict[str, int] = {}
    body = b""
    for key, part in (
        ("hash", hashes),
        ("symbols", table),
        ("names", bytes(names.data)),
        ("need", need),
        ("defined", defined),
    ):
        body += b"\0" * (-(start + len(body)) % 8)
        places[key] = start + len(body)
        body += part
    dynamic += [(0x6FFFFEF5, places["hash"]), (6, places["symbols"]), (5, places["names"]), (10, len(names.data))]
    if need:
        dynamic += [(0x6FFFFFFE, places["need"]), (0x6FFFFFFF, need_count)]
    if defined:
        dynamic += [(0x6FFFFFFC, places["defined"]), (0x6FFFFFFD, len(versions_defined))]
    body += b"\0" * (-(start + len(body)) % 8)
    at = start + len(body)
    entries = b"".join(struct.pack("<QQ" if wide else "<II", tag, value) for tag, value in [*dynamic, (0, 0)])
    body += entries
    total = start + len(body)
    return _header(machine, wide) + _program(1, 0, total, wide) + _program(2, at, len(entries), wide) + body


def _header(machine: str, wide: bool) -> bytes:
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1, 1]) + b"\0" * 9
    if wide:
        return ident + struct.pack("<HHIQQQIHHHHHH", 3, MACHINES[machine], 1, 0, 64, 0, 0, 64, 56, 2, 64, 0, 0)
    return ident + struct.pack("<HHIIIIIHHHHHH", 3, MACHINES[machine], 1, 0, 52, 0, 0, 52, 32, 2, 40, 0, 0)


def _program(kind: int, offset: int, size: int, wide: bool) -> bytes:
    if wide:
        return struct.pack("<IIQQQQQQ", kind, 5, offset, offset, offset, size, size, 8)
    return struct.pack("<IIIIIIII", kind, offset, offset, offset, size, size, 5, 8)


def _symbol(name: int, info: int, section: int, wide: bool) -> bytes:
    if wide:
        return struct.pack("<IBBHQQ", name, info, 0, section, 0, 0)
    return struct.pack("<IIIBBH", name, 0, 0, info, 0, section)


def _hash_table(exports: Sequence[str], first: int, wide: bool) -> bytes:
    """One bucket, and a filter that lets everything through."""
    chain = [gnu_hash(name.encode()) & ~1 for name in exports]
    if chain:
        chain[-1] |= 1
    full = struct.pack("<Q", 2**64 - 1) if wide else struct.pack("<I", 2**32 - 1)
    return struct.pack("<4I", 1, first, 1, 6) + full + struct.pack(f"<{len(chain) + 1}I", first if chain else 0, *chain)


def _needs(names: _Names, versions: Mapping[str, Sequence[str]]) -> tuple[bytes, int]:
    data = b""
    files = list(versions.items())
    for number, (file, wanted) in enumerate(files):
        size = 16 + 16 * len(wanted)
        following = size if number + 1 < len(files) else 0
        data += struct.pack("<HHIII", 1, len(wanted), names.add(file), 16, following)
        for index, version in enumerate(wanted):
            data += struct.pack("<IHHII", 0, 0, index + 2, names.add(version), 16 if index + 1 < len(wanted) else 0)
    return data, len(files)


def _defines(names: _Names, versions: Sequence[str]) -> bytes:
    data = b""
    for number, version in enumerate(versions):
        following = 28 if number + 1 < len(versions) else 0
        data += struct.pack("<HHHHIII", 1, 0, number + 1, 1, 0, 20, following) + struct.pack(
            "<II", names.add(version), 0
        )
    return data


def interpreter(base: Path, version: str = "3.11.7", machine: str = "x86_64", **parts: object) -> Path:
    """An installation of Python below `base`: bin/python3.x, the standard library, the headers. The interpreter's path."""
    series = ".".join(version.split(".")[:2])
    library = base / "lib" / f"python{series}"
    (library / "site-packages").mkdir(parents=True, exist_ok=True)
    for name in ("os", "random", "json", "queue"):
        (library / f"{name}.py").touch()
    headers = base / "include" / f"python{series}"
    headers.mkdir(parents=True, exist_ok=True)
    (headers / "patchlevel.h").write_text(f'#define PY_MAJOR_VERSION 3\n#define PY_VERSION "{version}"\n')
    (base / "bin").mkdir(exist_ok=True)
    path = base / "bin" / f"python{series}"
    path.write_bytes(elf(exports=["Py_BytesMain"], machine=machine, **parts))  # type: ignore[arg-type]
    path.chmod(0o755)
    link = base / "bin" / "python3"
    if not link.is_symlink():
        link.symlink_to(path.name)
    return path


def environment(tmp_path: Path, version: str = "3.11.7", name: str = "env", **settings: str) -> Path:
    """A virtual environment on an installation of its own; its folder."""
    base = interpreter(tmp_path / f"{name}-base", version)
    folder = tmp_path / name
    site_of(folder, version).mkdir(parents=True, exist_ok=True)
    (folder / "bin").mkdir(exist_ok=True)
    for link in ("python", "python3"):
        (folder / "bin" / link).symlink_to(base)
    lines = {"home": str(base.parent), "include-system-site-packages": "false", "version": version, **settings}
    (folder / "pyvenv.cfg").write_text("".join(f"{key} = {value}\n" for key, value in lines.items()))
    return folder


def site_of(folder: Path, version: str = "3.11.7") -> Path:
    """The site-packages of an environment."""
    return folder / "lib" / f"python{'.'.join(version.split('.')[:2])}" / "site-packages"


def install(
    site: Path,
    name: str,
    version: str = "1.0",
    requires: Iterable[str] = (),
    files: Mapping[str, str | bytes] | None = None,
    tag: str = "py3-none-any",
    python: str = "",
    installer: str = "pip",
    editable: str = "",
    metadata: bytes | None = None,
) -> Path:
    """Install a distribution: its files (a module of its own name, unless `files` says otherwise) and its dist-info."""
    site.mkdir(parents=True, exist_ok=True)
    module = name.replace("-", "_")
    files = {f"{module}/__init__.py": ""} if files is None else files
    info = site / f"{module}-{version}.dist-info"
    info.mkdir(exist_ok=True)
    header = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    header += "".join(f"Requires-Dist: {text}\n" for text in requires)
    header += f"Requires-Python: {python}\n" if python else ""
    (info / "METADATA").write_bytes(metadata if metadata is not None else f"{header}\nA text.\nVersion: 9\n".encode())
    (info / "WHEEL").write_text(f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
    (info / "INSTALLER").write_text(installer + "\n")
    if editable:
        (info / "direct_url.json").write_text(json.dumps({"url": f"file://{editable}", "dir_info": {"editable": True}}))
    lines = []
    for path, text in files.items():
        target = site / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text if isinstance(text, bytes) else text.encode())
        lines.append(f"{path},sha256={abs(hash((name, path, bytes(target.read_bytes()))))},{target.stat().st_size}")
    lines += [f"{info.name}/METADATA,,", f"{info.name}/RECORD,,"]
    (info / "RECORD").write_text("\n".join(lines) + "\n")
    return info


def told(
    interpreter_: Path, folder: Path, environ: Mapping[str, str] | None = None
) -> tuple[dict[str, str | int | float | bool], list[Unchecked]]:
    """Read an environment: its facts by name, and what was not checked."""
    facts: dict[str, str | int | float | bool] = {}
    unchecked: list[Unchecked] = []
    for reading in python.read(str(interpreter_), environ or {}, str(folder)):
        if isinstance(reading, Fact):
            assert reading.name not in facts, f"{reading.name} was told twice"
            facts[reading.name] = reading.value
        elif isinstance(reading, Unchecked):
            unchecked.append(reading)
    return facts, unchecked
