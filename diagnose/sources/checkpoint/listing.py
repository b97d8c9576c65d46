"""The files of a model folder, and what a file really holds where its name promises weights: a pointer, a web page, a part.

Only the folder itself is listed, and the places where download tools keep what is not done yet. Links to files are
followed, as every loader does; links to folders are not.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator

from msgspec import Struct

from diagnose.sources import files

MOST_NAMES = 20_000
"""How many names of a folder are looked at."""
SMALL = 1024
"""A file up to this size may be a pointer to the real one: those of Git LFS have some 130 bytes."""

LARGE = 64 << 20
"""Files from this size on are looked at for a part that was never written."""
SAMPLES = 16

UNFINISHED = re.compile(
    r"\.(?:incomplete|part|partial|aria2|download|crdownload|downloading|tmp|temp|!qb|opdownload)$|\.part\d+$",
    re.IGNORECASE,
)
"""How downloads name what is not done: Hub client, browsers, wget, curl wrappers, aria2, torrent clients."""
_WORKPLACES = (os.path.join(".cache", "huggingface", "download"), "._____temp", ".incomplete")
"""Folders in which the Hub client and ModelScope's keep what is not done."""
_LFS = re.compile(rb"version https?://(?:git-lfs\.github\.com|hawser\.github\.com)/spec/")
_SIZE = re.compile(rb"^\s*(?:size|filesize\s*=)\s*(\d{1,18})\s*$", re.MULTILINE)
_MARKUP = re.compile(rb"\s*(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|head|\?xml|error|body|!--)", re.IGNORECASE)
_REFUSAL = re.compile(
    rb"\s*(?:\{\s*\"(?:error|message|detail|code|status|msg)\"|entry not found|repository not found|not found\b"
    rb"|invalid (?:username|credentials)|access (?:to model|denied)|forbidden\b|unauthorized|404\b|40[13]\b|50[0-9]\b"
    rb"|too many requests|rate limit|bad gateway|service unavailable)",
    re.IGNORECASE,
)


class Entry(Struct, frozen=True):
    """A name in the folder. `size` in bytes (-1: not known), `on_disk` what it takes there (less for a sparse file).

    `problem` is empty or a word: broken-link, loop, unreadable, not-a-file; `why` is a sentence, `target` where a
    broken link leads.
    """

    name: str
    path: str
    size: int = -1
    on_disk: int = 0
    problem: str = ""
    why: str = ""
    target: str = ""


class Sniffed(Struct, frozen=True):
    """What the first bytes of a file say: a word (pointer, page, text, zip, pickle, gguf, safetensors, json, zeros; empty:
    not known), a detail for people, and for a pointer the bytes of the file that it stands for."""

    word: str = ""
    detail: str = ""
    size: int = 0


def entries(folder: str) -> list[Entry] | None:
    """The files of a folder, sorted by name; None if it cannot be read."""
    found = []
    try:
        with os.scandir(folder) as listed:
            for item in listed:
                entry = _entry(item.name, item.path)
                if entry is not None:
                    found.append(entry)
                if len(found) >= MOST_NAMES:
                    break
    except (OSError, ValueError):
        return None
    return sorted(found, key=lambda entry: entry.name)


def entry_at(folder: str, name: str) -> Entry | None:
    """One file below a folder, by its name there; None if there is none."""
    return _entry(name, os.path.join(folder, name))


def _entry(name: str, path: str) -> Entry | None:
    """None for a folder, and for what is not there."""
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        return _unreachable(name, path, error)
    if stat.S_ISDIR(status.st_mode):
        return None
    if not stat.S_ISREG(status.st_mode):
        return Entry(name, path, problem="not-a-file", why="it is a pipe, a socket or a device")
    return Entry(name, path, status.st_size, status.st_blocks * 512)


def _unreachable(name: str, path: str, error: OSError | ValueError) -> Entry | None:
    try:
        target = os.readlink(path)
    except (OSError, ValueError):
        if isinstance(error, (FileNotFoundError, NotADirectoryError)) or not isinstance(error, OSError):
            return None
        return Entry(name, path, problem="unreadable", why=(error.strerror or str(error)).lower())
    target = target.encode("utf-8", "replace").decode()[:300]
    if isinstance(error, FileNotFoundError):
        annex = "/annex/objects/" in target
        what = "git-annex has not fetched it" if annex else "which is not there"
        return Entry(name, path, problem="broken-link", why=f"it is a link to {target}, {what}", target=target)
    loop = getattr(error, "errno", 0) == 40
    why = "it is a link that leads back to itself" if loop else str(getattr(error, "strerror", error)).lower()
    return Entry(name, path, problem="loop" if loop else "unreadable", why=why, target=target)


def unfinished(folder: str, listed: list[Entry]) -> Iterator[Entry]:
    """What a download left: in the folder itself and where the download tools work."""
    yield from (entry for entry in listed if UNFINISHED.search(entry.name))
    for place in _WORKPLACES:
        inside = entries(os.path.join(folder, place))
        for entry in inside or ():
            if UNFINISHED.search(entry.name) or place != _WORKPLACES[0]:
                yield Entry(os.path.join(place, entry.name), entry.path, entry.size, entry.on_disk)


def meant(name: str) -> str:
    """The name of the file that an unfinished download is for, as far as its own name tells.

    The Hub client names it after a hash of the file's address, others put their ending behind the file's name.
    """
    base = os.path.basename(name)
    while UNFINISHED.search(base):
        base = UNFINISHED.sub("", base)
    told = re.fullmatch(r"(?P<name>.+\.\w{2,12})\.[0-9a-f]{8,64}", base)
    return told["name"] if told else base


def sniff(path: str) -> Sniffed:
    """What a file begins with."""
    head = files.read_bytes(path, SMALL)
    return sniffed(head) if head else Sniffed()


def sniffed(head: bytes) -> Sniffed:
    """The same, of its first kilobyte."""
    if _LFS.match(head) or head.startswith(b"# xet version"):
        told = _SIZE.search(head)
        kind = "Xet" if head.startswith(b"#") else "Git LFS"
        return Sniffed("pointer", f"a pointer of {kind}", int(told[1]) if told else 0)
    if b"/annex/objects/" in head[:300] and head[:1] in (b"/", b"."):
        return Sniffed("pointer", "a pointer of git-annex")
    if _MARKUP.match(head) or _REFUSAL.match(head):
        first = next((line for line in head.decode("utf-8", "replace").splitlines() if line.strip()), "")
        return Sniffed("page", first.strip()[:120])
    # the length of a header can begin with any byte, that of a pickle too
    if is_safetensors(head):
        return Sniffed("safetensors")
    for magic, word in ((b"PK\x03\x04", "zip"), (b"GGUF", "gguf"), (b"\x80", "pickle"), (b"{", "json")):
        if head.startswith(magic):
            return Sniffed(word)
    if not head.strip(b"\0"):
        return Sniffed("zeros", "nothing but zeros")
    return Sniffed("text", head[:80].decode("utf-8", "replace")) if _is_text(head) else Sniffed()


def is_hollow(entry: Entry) -> bool:
    """Whether the last quarter of a large file holds nothing but zeros in each of SAMPLES places.

    Of a sparse file nothing is said: what was never written there reads as zeros, as it does from a copy that left them out.
    """
    if entry.size < LARGE or entry.on_disk < entry.size:
        return False
    step = entry.size // 4 // SAMPLES
    places = [entry.size - 4096, *(entry.size - n * step for n in range(1, SAMPLES))]
    try:
        with files.opened(entry.path) as (handle, _):
            return all(not os.pread(handle, 4096, place).strip(b"\0") for place in places)
    except OSError:
        return False


def is_safetensors(head: bytes) -> bool:
    """Whether a file begins like safetensors: a length of less than 4 GB, and JSON."""
    return head[4:9] == b"\0\0\0\0{"


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("ascii")
    except UnicodeDecodeError:
        return False
    return all(char.isprintable() or char in "\t\r\n" for char in text)
