"""Finds the interpreter that is to be checked and describes it from the files around it; nothing is run.

What stands beside an interpreter tells all of it: pyvenv.cfg, conda-meta, the C headers, the names of its library
folders, and the ELF header.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping

from msgspec import Struct

from diagnose.errors import InputError
from diagnose.sources.elf import Elf, ElfError
from diagnose.sources.files import HEAD, names_in, read_bytes, read_text

_ENTRY_POINTS = (b"Py_BytesMain\0", b"Py_Main\0", b"Py_RunMain\0", b"pypy_main_startup\0")
_LIBRARY_FOLDER = re.compile(r"(?P<name>python|pypy)(?P<version>[23]\.\d{1,3})(?P<threads>t?)")
_MACH_O = {b"\xcf\xfa\xed\xfe": "little", b"\xca\xfe\xba\xbe": "universal"}
_MACH_CPUS = {0x01000007: "x86_64", 0x0100000C: "arm64"}


class Interpreter(Struct, frozen=True):
    """What the files say of an interpreter.

    `version` is as exact as they tell (3.11 or 3.11.7, nothing if they do not); `prefix` is the environment, `base` the
    installation behind it (the same without a virtual environment); `kind` is venv, uv, conda, pyenv, system or other.
    `sites` are the folders with packages, in the order of sys.path; `user_site` is one of them, or nothing where the
    interpreter does not look at the user's own packages. `library` is the folder of the standard library.
    """

    path: str
    real: str
    version: str = ""
    short: str = ""
    implementation: str = "CPython"
    free_threaded: bool = False
    machine: str = ""
    bits: int = 64
    kind: str = "other"
    prefix: str = ""
    base: str = ""
    library: str = ""
    sites: tuple[str, ...] = ()
    user_site: str = ""
    system_site: bool = False
    externally_managed: bool = False
    created_with: str = ""
    gone: str = ""

    @property
    def abi(self) -> str:
        """The tag that a compiled wheel must carry: cp311, cp313t, pp310; nothing if the version is not known."""
        if not self.short:
            return ""
        digits = self.short.replace(".", "")
        return f"{'cp' if self.implementation == 'CPython' else 'pp'}{digits}{'t' if self.free_threaded else ''}"


# --- finding it


def find_interpreter(python: str | None, environ: Mapping[str, str]) -> str:
    """The path of the interpreter to check.

    `python` is an interpreter or the folder of an environment; without it $VIRTUAL_ENV, $CONDA_PREFIX and the `python3`
    or `python` on $PATH are tried. The path is kept as given (a virtual environment's python is a link, and the link
    tells which environment). Raises InputError if there is none, or if what is there is no interpreter.
    """
    if python is not None:
        return _explicit(python, environ)
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        folder = environ.get(variable, "")
        if folder:
            found = _in_folder(folder)
            if found:
                return _checked(found, f"the interpreter of ${variable}", environ)
    found = _on_path(environ)
    if not found:
        raise InputError(
            "no Python interpreter found: neither $VIRTUAL_ENV nor $CONDA_PREFIX is set, and there is no python3 on the "
            "path; name one with --python /path/to/environment"
        )
    return found


def _explicit(python: str, environ: Mapping[str, str]) -> str:
    if "\0" in python or not python:
        raise InputError(f"{python!r} is not a path of an interpreter")
    if os.sep not in python and not os.path.lexists(python):
        found = shutil.which(python, path=environ.get("PATH", os.defpath))
        if not found:
            raise InputError(f"{python}: there is no such interpreter, here or on the path")
        return _checked(found, found, environ)
    path = os.path.abspath(os.path.expanduser(python))
    if os.path.isdir(path):
        inside = _in_folder(path)
        if not inside:
            raise InputError(f"{python}: a folder without an interpreter (there is no bin/python3 in it)")
        return _checked(inside, inside, environ)
    return _checked(path, python, environ)


def _in_folder(folder: str) -> str:
    """The interpreter of an environment's folder, or of its bin folder; also a link whose target is gone."""
    folder = os.path.abspath(folder)
    for name in ("bin/python", "bin/python3", "python", "python3", "Scripts/python.exe", "python.exe"):
        path = os.path.join(folder, name)
        if os.path.isfile(path) or (os.path.islink(path) and not os.path.isdir(path)):
            return path
    for name in names_in(os.path.join(folder, "bin")) or ():
        if re.fullmatch(r"python\d(\.\d+)?t?|pypy\d?(\.\d+)?", name):
            return os.path.join(folder, "bin", name)
    return ""


def _on_path(environ: Mapping[str, str]) -> str:
    for name in ("python3", "python"):
        for folder in environ.get("PATH", os.defpath).split(os.pathsep):
            path = os.path.join(folder or os.curdir, name)
            if os.path.isfile(path) and os.access(path, os.X_OK):
                try:
                    return _checked(os.path.abspath(path), path, environ)
                except InputError:
                    continue
    return ""


def _checked(path: str, name: str, environ: Mapping[str, str]) -> str:
    """The path, or that of the interpreter that a shim stands for; InputError if it is no interpreter."""
    try:
        exists = os.path.exists(path)
    except ValueError:
        exists = False
    if not exists:
        if os.path.islink(path):
            if _configuration(path) is not None:
                return path  # an environment whose interpreter went: its packages can still be read
            raise InputError(f"{name}: a link to {os.readlink(path)}, which is not there")
        raise InputError(f"{name}: there is no such file")
    if not os.path.isfile(path):
        raise InputError(f"{name}: this is neither an interpreter nor the folder of an environment")
    head = read_bytes(path, 4096)
    if head is None:
        raise InputError(f"{name}: cannot be read")
    if head[:4] in _MACH_O or head[:2] == b"MZ":
        return path
    if head[:4] != b"\x7fELF":
        return _script(path, name, head, environ)
    try:
        with Elf(path) as elf:
            names = elf.names()
            python = any(entry in names for entry in _ENTRY_POINTS)
            python = python or any(re.match(r"lib(python|pypy)[23]", needed) for needed in elf.needed)
    except ElfError as error:
        raise InputError(f"{name}: looks like a program, but {error}") from None
    if not python:
        raise InputError(f"{name}: a program, but not a Python interpreter")
    return path


def _script(path: str, name: str, head: bytes, environ: Mapping[str, str]) -> str:
    """A shell script in an interpreter's place: pyenv's shim, which is resolved as pyenv would do it."""
    if head.startswith(b"#!") and b"pyenv" in head and b"exec" in head:
        found = _behind_shim(path, environ)
        if found:
            return found
        raise InputError(f"{name}: a shim of pyenv, and no installed version of pyenv is chosen that has it")
    what = "a script" if head.startswith(b"#!") else "an empty file" if not head else "a file"
    raise InputError(f"{name}: {what}, not a Python interpreter")


def _behind_shim(shim: str, environ: Mapping[str, str]) -> str:
    """The interpreter that a shim of pyenv would start, or nothing."""
    root = environ.get("PYENV_ROOT", "") or os.path.dirname(os.path.dirname(os.path.realpath(shim)))
    name = os.path.basename(shim)
    for version in _pyenv_versions(root, environ):
        if version == "system":
            for folder in environ.get("PATH", os.defpath).split(os.pathsep):
                path = os.path.join(folder, name)
                real_shims = os.path.realpath(os.path.join(root, "shims"))
                if (
                    folder
                    and os.path.realpath(folder) != real_shims
                    and os.path.isfile(path)
                    and os.access(path, os.X_OK)
                ):
                    return path
            continue
        folder = _pyenv_folder(root, version)
        if folder:
            path = os.path.join(folder, "bin", name)
            if os.path.isfile(path):
                return path
    return ""


def _pyenv_versions(root: str, environ: Mapping[str, str]) -> list[str]:
    """The versions that pyenv was told to use: by the variable, the nearest .python-version, or the global file."""
    chosen = environ.get("PYENV_VERSION", "")
    if chosen:
        return [version for version in chosen.split(":") if version]
    try:
        folder = environ.get("PYENV_DIR", "") or os.getcwd()
    except OSError:
        folder = "/"
    files = []
    while True:
        files.append(os.path.join(folder, ".python-version"))
        parent = os.path.dirname(folder)
        if parent == folder:
            break
        folder = parent
    for file in (*files, os.path.join(root, "version")):
        words = [
            word for line in (read_text(file, HEAD) or "").splitlines() for word in line.partition("#")[0].split()[:1]
        ]
        if words:
            return words
    return ["system"]


def _pyenv_folder(root: str, version: str) -> str:
    """The folder of an installed version; 3.11 stands for the newest 3.11.x, as in pyenv."""
    versions = os.path.join(root, "versions")
    for name in (version, version.removeprefix("python-")):
        if name and os.sep not in name and os.path.isdir(os.path.join(versions, name)):
            return os.path.join(versions, name)
    wanted = re.compile(re.escape(version.removeprefix("python-")) + r"\.(\d+)")
    found = [(int(match[1]), name) for name in names_in(versions) or () if (match := wanted.fullmatch(name))]
    return os.path.join(versions, max(found)[1]) if found else ""


# --- describing it


def describe(path: str, environ: Mapping[str, str]) -> Interpreter:
    """What the files around an interpreter say of it; what they do not say is left empty. Never raises."""
    path = os.path.abspath(path)
    real = os.path.realpath(path)
    machine, bits = _machine(real)
    prefix = os.path.dirname(os.path.dirname(path))
    base = os.path.dirname(os.path.dirname(real))
    settings = _configuration(path)
    kind, created_with = "other", ""
    if settings is not None:
        kind = "uv" if "uv" in settings else "venv"
        home = settings.get("home", "")
        if home:
            base = os.path.dirname(os.path.normpath(home))
        created_with = settings.get("version", "") or settings.get("version_info", "")
    else:
        prefix = base if not os.path.isdir(os.path.join(prefix, "lib")) else prefix
        if os.path.realpath(prefix) != base and not _library(prefix):
            prefix = base
        kind = _kind(prefix)
    library, short, pypy, threads = _standard_library(base, prefix, real, created_with)
    version = _exact_version(base, prefix, real, short, threads) or _trusted(created_with, short) or short
    system_site = settings is not None and settings.get("include-system-site-packages", "").lower() == "true"
    interpreter = Interpreter(
        path=path,
        real=real,
        version=version,
        short=short,
        implementation="PyPy" if pypy else "CPython",
        free_threaded=threads,
        machine=machine,
        bits=bits,
        kind=kind,
        prefix=prefix,
        base=base,
        library=library,
        system_site=system_site,
        externally_managed=settings is None and os.path.isfile(os.path.join(library, "EXTERNALLY-MANAGED")),
        created_with=created_with,
        gone=os.readlink(path) if os.path.islink(path) and not os.path.exists(path) else "",
    )
    user_site = _user_site(interpreter, settings is not None and not system_site, environ)
    sites = tuple(_sites(interpreter, settings is not None, user_site))
    return _replace(interpreter, sites=sites, user_site=user_site)


def _replace(interpreter: Interpreter, sites: tuple[str, ...], user_site: str) -> Interpreter:
    from msgspec.structs import replace

    return replace(interpreter, sites=sites, user_site=user_site)


def _machine(real: str) -> tuple[str, int]:
    head = read_bytes(real, 64) or b""
    if head[:4] in _MACH_O:
        return _MACH_CPUS.get(int.from_bytes(head[4:8], "little"), ""), 64
    try:
        with Elf(real) as elf:
            return elf.header.machine, elf.header.bits
    except ElfError:
        return "", 64


def _configuration(path: str) -> dict[str, str] | None:
    """pyvenv.cfg beside the interpreter or one folder up, as Python itself looks for it; None without one."""
    folder = os.path.dirname(path)
    for place in (folder, os.path.dirname(folder)):
        text = read_text(os.path.join(place, "pyvenv.cfg"), HEAD)
        if text is not None:
            return read_configuration(text)
    return None


def read_configuration(text: str) -> dict[str, str]:
    """The `key = value` lines of a pyvenv.cfg; keys in lower case; the first mention counts, as for Python."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and key.strip():
            found.setdefault(key.strip().lower(), value.strip())
    return found


def _kind(prefix: str) -> str:
    if os.path.isdir(os.path.join(prefix, "conda-meta")):
        return "conda"
    parts = os.path.realpath(prefix).split(os.sep)
    if "versions" in parts and os.path.isdir(os.path.join(prefix, os.pardir, os.pardir, "shims")):
        return "pyenv"
    if os.path.join("share", "uv", "python") in prefix or os.path.join("uv", "python") in prefix:
        return "uv"
    if os.path.realpath(prefix) in ("/usr", "/", "/usr/local"):
        return "system"
    return "other"


def _library(prefix: str) -> list[tuple[str, re.Match[str]]]:
    """The folders lib/python3.x below a prefix."""
    found = []
    for lib in ("lib", "lib64"):
        for name in names_in(os.path.join(prefix, lib)) or ():
            match = _LIBRARY_FOLDER.fullmatch(name)
            if match:
                found.append((os.path.join(prefix, lib, name), match))
    return found


def _standard_library(base: str, prefix: str, real: str, created_with: str) -> tuple[str, str, bool, bool]:
    """(folder of the standard library, version such as 3.11, whether PyPy, whether free-threaded)."""
    name = os.path.basename(real)
    named = re.fullmatch(r"(?:python|pypy)([23]\.\d{1,3})(t?)(?:d|m|-[\w.]+)?", name)
    wanted = named[1] if named else _by_library_name(real) or ".".join(created_with.split(".")[:2])
    threads = bool(named and named[2])
    pypy = "pypy" in name
    for place in dict.fromkeys((base, prefix)):
        candidates = [
            (folder, match)
            for folder, match in _library(place)
            if (not wanted or match["version"] == wanted)
            and (place != base or os.path.isfile(os.path.join(folder, "os.py")) or not os.path.isdir(base))
        ]
        if named and len(candidates) > 1:
            candidates = [pair for pair in candidates if bool(pair[1]["threads"]) == threads] or candidates
        if candidates:
            folder, match = candidates[-1] if not wanted else candidates[0]
            return folder, match["version"], pypy or match["name"] == "pypy", bool(match["threads"])
    return "", wanted, pypy, threads


def _by_library_name(real: str) -> str:
    """3.11, if the executable needs libpython3.11.so."""
    try:
        with Elf(real) as elf:
            for needed in elf.needed:
                match = re.match(r"lib(?:python|pypy)([23]\.\d{1,3})", needed)
                if match:
                    return match[1]
    except ElfError:
        pass
    return ""


def _exact_version(base: str, prefix: str, real: str, short: str, threads: bool) -> str:
    """3.11.7: from the C headers, conda's records, the folder's name, or the text that the program itself holds."""
    if not short:
        return ""
    for name in (f"python{short}{'t' if threads else ''}", f"python{short}", f"python{short}m"):
        header = read_text(os.path.join(base, "include", name, "patchlevel.h"), HEAD) or ""
        found = re.search(r'#\s*define\s+PY_VERSION\s+"([^"\n]{3,40})"', header)
        if found:
            return _plain(found[1], short)
    for place in dict.fromkeys((prefix, base)):
        for name in names_in(os.path.join(place, "conda-meta")) or ():
            found = re.fullmatch(r"python-(\d+\.\d+\.\d+\w*)-\w+\.json", name)
            if found:
                return _plain(found[1], short)
    found = re.search(
        rf"(?:^|[^\d.])({re.escape(short)}\.\d{{1,3}}(?:(?:a|b|rc)\d+)?)(?:$|[^\d.])", os.path.basename(base)
    )
    if found:
        return found[1]
    return _written_in(real, short)


def _written_in(real: str, short: str) -> str:
    """The version as a text inside the program or its libpython: it stands there by itself, between zero bytes."""
    files = [real]
    for place in ("lib", "lib64", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu"):
        files.append(os.path.join(os.path.dirname(os.path.dirname(real)), place, f"libpython{short}.so.1.0"))
    pattern = re.compile(rb"\0(" + re.escape(short.encode()) + rb"\.\d{1,3}(?:(?:a|b|rc)\d{1,2})?)\+?\0")
    for file in files:
        found = pattern.search(read_bytes(file, 32 << 20) or b"")
        if found:
            return found[1].decode()
    return ""


def _plain(version: str, short: str) -> str:
    """A version without the `+` of an unreleased build; nothing if it is not of the series that was found."""
    version = version.rstrip("+")
    return version if version == short or version.startswith(short + ".") else ""


def _trusted(created_with: str, short: str) -> str:
    """The version in pyvenv.cfg, if it is of the same series: it tells what was there when the environment was made."""
    match = re.match(r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?", created_with)
    return match[0] if match and match[0].startswith(short + ".") else ""


def _user_site(interpreter: Interpreter, isolated: bool, environ: Mapping[str, str]) -> str:
    """The folder of the user's own packages that the interpreter looks into, or nothing."""
    if isolated or environ.get("PYTHONNOUSERSITE") or not interpreter.short:
        return ""
    base = environ.get("PYTHONUSERBASE", "")
    if not base:
        home = environ.get("HOME", "")
        if not home:
            return ""
        base = os.path.join(home, ".local")
    name = f"python{interpreter.short}{'t' if interpreter.free_threaded else ''}"
    if interpreter.implementation == "PyPy":
        name = f"pypy{interpreter.short}"
    folder = os.path.join(base, "lib", name, "site-packages")
    return folder if os.path.isdir(folder) else ""


def _sites(interpreter: Interpreter, virtual: bool, user_site: str) -> Iterator[str]:
    """The folders with packages that exist, in the order of sys.path."""
    seen: set[str] = set()
    folders = list(_site_folders(interpreter, interpreter.prefix)) if virtual else []
    if user_site:
        folders.append(user_site)
    if not virtual or interpreter.system_site:
        folders.extend(_site_folders(interpreter, interpreter.base))
        if not virtual and interpreter.prefix != interpreter.base:
            folders.extend(_site_folders(interpreter, interpreter.prefix))
    for folder in folders:
        real = os.path.realpath(folder)
        if real not in seen and os.path.isdir(folder):
            seen.add(real)
            yield folder


def _site_folders(interpreter: Interpreter, prefix: str) -> Iterator[str]:
    """Where packages may lie below a prefix, with the dist-packages of Debian and its relatives."""
    short = interpreter.short
    suffix = "t" if interpreter.free_threaded else ""
    names = [f"pypy{short}"] if interpreter.implementation == "PyPy" else [f"python{short}{suffix}"]
    for name in names:
        if os.path.realpath(prefix) == "/usr":
            yield f"/usr/local/lib/{name}/dist-packages"
            yield f"/usr/local/lib/{name}/site-packages"
            yield "/usr/lib/python3/dist-packages"
            yield f"/usr/lib/{name}/dist-packages"
        yield os.path.join(prefix, "lib", name, "site-packages")
        yield os.path.join(prefix, "lib64", name, "site-packages")
