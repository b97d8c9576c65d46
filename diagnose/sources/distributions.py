"""The installed distributions of an environment, read from their dist-info; nothing is imported.

An environment holds some hundred of them, and torch's list of files alone has fifteen thousand lines: of METADATA only
the header is read, and of RECORD only the lines that something is asked about.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Struct

from diagnose.model import Unchecked
from diagnose.sources.banner import canonical
from diagnose.sources.files import HEAD, read_bytes, read_text, why_unreadable

MOST_DISTRIBUTIONS = 5000
MOST_HEADER = 4 << 20
"""How much of a METADATA is read in search of the blank line that ends its header."""
MOST_RECORD = 32 << 20

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")
_FOLDER = re.compile(r"(?P<name>[^-]+)-(?P<version>.+?)(?:-py[23]\.\d+(?:-[\w.]+)?)?\.(?P<kind>dist-info|egg-info)")
_INITIALS = frozenset([b"n", b"N", b"v", b"V", b"r", b"R"])
_BLANKS = frozenset([b" ", b"\t"])
_BLANK = re.compile(rb"\r?\n\r?\n")


class Distribution(Struct, frozen=True):
    """An installed distribution.

    `name` is canonical (`flash-attn`), `version` as its metadata says, `folder` the dist-info (or .egg-info, which may
    be a file), `site` the folder that its modules lie in. `broken` says what is wrong with the metadata, or nothing.
    `editable` is the folder of the sources it is installed from in place.
    """

    name: str
    version: str
    folder: str
    site: str
    requires: tuple[str, ...] = ()
    requires_python: str = ""
    broken: str = ""
    legacy: bool = False
    installer: str = ""
    url: str = ""
    editable: str = ""

    @property
    def metadata(self) -> str:
        """The file that says all this."""
        if not self.legacy:
            return os.path.join(self.folder, "METADATA")
        return os.path.join(self.folder, "PKG-INFO") if os.path.isdir(self.folder) else self.folder


class Site(Struct, frozen=True):
    """What lies in one folder with packages: distributions, half-removed `~` folders, and folders that .pth files add."""

    folder: str
    distributions: tuple[Distribution, ...] = ()
    leftovers: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    unchecked: tuple[Unchecked, ...] = ()
    entries: frozenset[str] = frozenset()


def read_site(folder: str) -> Site:
    """Read one folder with packages. What cannot be read is told in `unchecked`; the rest is still there."""
    try:
        names = os.listdir(folder)  # in this order importlib.metadata meets them: of duplicates the first counts
    except (OSError, ValueError):
        return Site(folder, unchecked=(Unchecked(f"the packages in {folder}", why_unreadable(folder) or "no folder"),))
    found: list[Distribution] = []
    unchecked: list[Unchecked] = []
    leftovers: list[str] = []
    added: list[str] = []
    for name in names:
        if name.startswith("~"):
            leftovers.append(name)
        elif name.endswith((".dist-info", ".egg-info")):
            if len(found) >= MOST_DISTRIBUTIONS:
                unchecked.append(
                    Unchecked(f"the packages in {folder}", f"more than {MOST_DISTRIBUTIONS} distributions")
                )
                break
            found.append(_read(folder, name))
        elif name.endswith(".pth"):
            added.extend(_added_by(folder, name))
        elif name.endswith(".egg-link"):
            added.extend(line.strip() for line in (read_text(os.path.join(folder, name), HEAD) or "").splitlines()[:1])
    unreadable = [dist for dist in found if dist.broken == "not readable"]
    unchecked.extend(Unchecked(f"the metadata of {dist.name}", why_unreadable(dist.metadata)) for dist in unreadable)
    folders = tuple(dict.fromkeys(path for path in added if path != folder))
    return Site(folder, tuple(found), tuple(leftovers), folders, tuple(unchecked), frozenset(names))


def _read(site: str, entry: str) -> Distribution:
    folder = os.path.join(site, entry)
    legacy = entry.endswith(".egg-info")
    guess = _FOLDER.fullmatch(entry)
    name = guess["name"] if guess else entry.rpartition(".")[0]
    version = guess["version"] if guess else ""
    path = folder
    if os.path.isdir(folder):
        path = os.path.join(folder, "PKG-INFO" if legacy else "METADATA")
    elif not legacy:
        return Distribution(_canonical(name), version, folder, site, broken="the dist-info is not a folder")
    fields, broken = read_metadata(path)
    if not broken and not fields["version"]:
        broken = "no Version in METADATA"
    elif not broken and not fields["name"]:
        broken = "no Name in METADATA"
    told = fields["name"][0] if fields["name"] and _NAME.fullmatch(fields["name"][0]) else name
    installer, url, editable = ("", "", "") if legacy else _origin(folder)
    return Distribution(
        name=_canonical(told),
        version=(fields["version"][0] if fields["version"] else version)[:100],
        folder=folder,
        site=site,
        requires=tuple(fields["requires-dist"]),
        requires_python=fields["requires-python"][0] if fields["requires-python"] else "",
        broken=broken,
        legacy=legacy,
        installer=installer,
        url=url,
        editable=editable,
    )


def _canonical(name: str) -> str:
    """The canonical name, of letters, digits and hyphens only, whatever a damaged file says."""
    return re.sub(r"[^a-z0-9-]", "", canonical(name[:128])).strip("-") or "unnamed"


def read_metadata(path: str) -> tuple[dict[str, list[str]], str]:
    """The fields of a METADATA or PKG-INFO file that matter, and what is wrong with the file, or nothing."""
    fields: dict[str, list[str]] = {"name": [], "version": [], "requires-dist": [], "requires-python": []}
    data = read_bytes(path, HEAD)
    if data is None:
        if os.path.lexists(path):
            return fields, "not readable" if os.path.isfile(path) else "METADATA is not a file"
        return fields, "METADATA is missing"
    if len(data) == HEAD and not _BLANK.search(data):
        data = read_bytes(path, MOST_HEADER) or b""
    if not data.strip():
        return fields, "METADATA is empty"
    blank = _BLANK.search(data)
    header = data[: blank.start()] if blank else data
    for name, text in _fields(header):
        if name in fields and text and len(text) < 4096:
            fields[name].append(text)
    return fields, "" if _is_utf8(data) else "METADATA is not UTF-8"


def _fields(header: bytes) -> Iterator[tuple[str, str]]:
    """The fields of a header that begin with n, v or r; a line that begins with a blank continues the one above."""
    lines = header.split(b"\n")
    for number, line in enumerate(lines):
        if line[:1] not in _INITIALS:
            continue
        name, colon, text = line.partition(b":")
        if not colon:
            continue
        following = number + 1
        while following < len(lines) and lines[following][:1] in _BLANKS:
            text += b" " + lines[following]
            following += 1
        yield name.decode("ascii", "replace").strip().lower(), " ".join(text.decode("utf-8", "replace").split())


def _is_utf8(data: bytes) -> bool:
    """Whether it decodes; a character that the end of what was read cuts in two does not count."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return len(data) in (HEAD, MOST_HEADER) and error.start >= len(data) - 3
    return True


class _DirectoryInfo(Struct):
    editable: bool = False


class _DirectUrl(Struct):
    url: str = ""
    dir_info: _DirectoryInfo | None = None


def _origin(folder: str) -> tuple[str, str, str]:
    """(who installed it, from which address if not from an index, the folder of its sources if editable)."""
    installer = (read_text(os.path.join(folder, "INSTALLER"), 256) or "").strip().splitlines()
    url = editable = ""
    data = read_bytes(os.path.join(folder, "direct_url.json"), HEAD)
    if data:
        try:
            direct = msgspec.json.decode(data, type=_DirectUrl)
        except (msgspec.DecodeError, RecursionError):
            direct = _DirectUrl()
        url = direct.url[:500]
        if direct.dir_info is not None and direct.dir_info.editable and url.startswith("file://"):
            from urllib.parse import unquote

            editable = unquote(url[len("file://") :])
    return (installer[0][:40] if installer else ""), url, editable


def _added_by(folder: str, name: str) -> Iterator[str]:
    """The folders that a .pth file adds to sys.path; its lines of code are not run."""
    for line in (read_text(os.path.join(folder, name), HEAD) or "").splitlines()[:1000]:
        line = line.strip()
        if not line or "\0" in line or line.startswith(("#", "import ", "import\t")):
            continue
        path = os.path.normpath(os.path.join(folder, line))
        if os.path.isdir(path):
            yield path


# --- the files of a distribution


class Record(Struct, frozen=True):
    """What RECORD lists, as far as it is asked about: paths relative to the site folder, with their checksums."""

    modules: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    checksums: dict[str, str] = {}


_MODULE = re.compile(rb'\n"?([^/,"\n]+(?:/__init__)?\.py)"?,([^,\s]*)')  # begins with one plain byte: found fast
_LIBRARY = re.compile(rb'"?([^,"\n]+\.so(?:\.\d+)*)"?,([^,\s]*)')


def read_record(dist: Distribution) -> Record | None:
    """The top-level modules and shared libraries that a distribution brought; None if it has no list of files."""
    if dist.legacy:
        return None
    data = read_bytes(os.path.join(dist.folder, "RECORD"), MOST_RECORD)
    if data is None or not data.strip():
        return None
    checksums: dict[str, str] = {}
    modules = _paths(_MODULE.finditer(b"\n" + data), checksums)
    libraries = _paths(_library_lines(data), checksums)
    return Record(modules, libraries, checksums)


def _library_lines(data: bytes) -> Iterator[re.Match[bytes]]:
    at = data.find(b".so")
    while at >= 0:
        start = data.rfind(b"\n", 0, at) + 1
        end = data.find(b"\n", at)
        found = _LIBRARY.match(data, start, end if end >= 0 else len(data))
        if found:
            yield found
        at = data.find(b".so", end) if end >= 0 else -1


def _paths(lines: Iterator[re.Match[bytes]], checksums: dict[str, str]) -> tuple[str, ...]:
    paths = []
    for found in lines:
        path = found[1].decode("utf-8", "replace")
        if _inside(path):
            paths.append(path)
            checksums[path] = found[2].decode("utf-8", "replace")
    return tuple(paths)


def _inside(path: str) -> bool:
    return not os.path.isabs(path) and ".." not in path.split("/") and "\0" not in path


def missing_files(dist: Distribution, record: Record, entries: frozenset[str]) -> list[str]:
    """The main files (top-level modules, shared libraries) that RECORD lists and that are not there."""
    missing = []
    for path in (*record.modules, *record.libraries):
        head = path.partition("/")[0]
        if head not in entries or not os.path.lexists(os.path.join(dist.site, path)):
            missing.append(path)
    return missing


def read_wheel(dist: Distribution) -> tuple[str, ...]:
    """The tags of the wheel that a distribution came from; empty if it was not a wheel."""
    if dist.legacy:
        return ()
    text = read_text(os.path.join(dist.folder, "WHEEL"), HEAD) or ""
    found = re.findall(r"^Tag[ \t]*:[ \t]*([\w.]+-[\w.]+-[\w.]+)[ \t]*$", text, re.MULTILINE | re.IGNORECASE)
    return tuple(found[:200])


def wrong_tags(tags: Sequence[str], abi: str, machine: str) -> str:
    """Why no tag fits an interpreter: python, abi, platform or machine; nothing if one fits or nothing is known.

    Only what is certain is told: manylinux levels are left to the loader, which looks at the files themselves.
    """
    if not tags or not abi:
        return ""
    reasons = [_wrong_tag(tag, abi, machine) for tag in tags]
    return "" if "" in reasons else reasons[0]


def _wrong_tag(tag: str, abi: str, machine: str) -> str:
    python, built, platform = tag.split("-")
    digits = abi.rstrip("t")[2:]
    own = int(digits[1:] or 0)
    reasons = [_wrong_python(one, abi, digits, own, built) for one in python.split(".")]
    if "" not in reasons:
        return reasons[0]
    reasons = [_wrong_platform(one, machine) for one in platform.split(".")]
    return "" if "" in reasons else reasons[0]


def _wrong_python(tag: str, abi: str, digits: str, own: int, built: str) -> str:
    found = re.fullmatch(r"(py|cp|pp)(\d)(\d*)\w*", tag)
    if not found:
        return ""
    kind, major, minor = found[1], found[2], int(found[3] or 0)
    if kind == "py":
        return "" if major == digits[0] and minor <= own else "python"
    if kind != abi[:2]:
        return "python"
    stable = set(built.split(".")) & {"abi3", "abi3t"}
    if stable and kind == "cp":
        if ("abi3t" if abi.endswith("t") else "abi3") not in stable:
            return "abi"
        return "" if major == digits[0] and minor <= own else "python"
    if built == "none":
        return "" if major == digits[0] and minor <= own else "python"
    if major + found[3] != digits:
        return "python"
    if kind == "cp" and any(re.fullmatch(r"cp\d+t?", one) for one in built.split(".")):
        return "" if abi in built.split(".") else "abi"
    return ""


def _wrong_platform(tag: str, machine: str) -> str:
    if tag == "any" or not machine:
        return ""
    if tag.startswith(("win", "macosx", "ios", "android", "musllinux", "emscripten", "pyodide")):
        if tag.startswith("musllinux"):
            return "" if tag.endswith("_" + machine) else "machine"
        return "platform"
    if "linux" in tag:
        return "" if tag.endswith("_" + machine) else "machine"
    return ""
