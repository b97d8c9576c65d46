"""What a container, a pod or a launcher starts: the command inside it, its variables, and which of the host's folders it sees."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from diagnose.model import Fact, Reading, Step, Unchecked
from diagnose.sources.launch.shell import Word

MOST_MOUNTS = 64
MOST_SIZE = 1 << 60
"""Sizes beyond this are a slip or a trap, and are not told."""
LONGEST = 400


class Mount(Struct, frozen=True):
    """One mount: the host's path (empty: a volume of the container system), the path inside, and how it was written.

    `line` is where it stands. `made`: the container system makes the host's folder, empty, if it is not there.
    """

    source: str
    target: str
    line: int = 0
    made: bool = True
    read_only: bool = False


class Inside(Struct, frozen=True):
    """A command that something else starts: its words with the image's entrypoint before them, and what it is given.

    `engine` and `version` are what the image is of (empty: not known). `origin` is the file, or `command line`. `host`
    tells whether it runs on this machine (a pod need not), `contained` whether it sees folders of its own.
    """

    words: tuple[Word, ...]
    environ: tuple[tuple[str, Word], ...] = ()
    engine: str = ""
    version: str = ""
    mounts: tuple[Mount, ...] = ()
    origin: str = "command line"
    line: int = 0
    host: bool = True
    contained: bool = True
    work: str = ""


def located(inside: Inside, model: str, environ: Mapping[str, str], folder: str) -> Iterator[Reading]:
    """`deploy.model_*`: where the model that the command inside names lies on this machine.

    An absolute path is looked for among the mounts; a Hub id is looked for in the mounted cache, if there is one.
    """
    if not model or not inside.contained or not inside.host:
        return
    if model.startswith(("/", "./", "../", "~")):
        yield from _path_inside(inside, model)
    elif "/" in model and not model.startswith(("s3:", "gs:", "http")):
        yield from _cache_inside(inside, environ)


def _path_inside(inside: Inside, model: str) -> Iterator[Reading]:
    path = posixpath.normpath(
        posixpath.join(inside.work or "/", model.replace("~", "/root", 1) if model.startswith("~") else model)
    )
    mount = mount_of(inside.mounts, path)
    if mount is None:
        yield Fact("deploy.model_mounted", False, inside.origin, inside.line)
        yield Unchecked("model files", f"{path[:LONGEST]} is a path in the image, and no mount leads there")
        return
    yield Fact("deploy.model_mounted", True, inside.origin, mount.line)
    if not mount.source:
        yield Unchecked("model files", f"{path[:LONGEST]} lies in a volume that is not a folder of this machine")
        return
    if mount.made and _is_there(mount.source) is False:
        yield Fact("deploy.model_in_empty_mount", mount.source[:LONGEST], inside.origin, mount.line)
    rest = path[len(mount.target.rstrip("/")) :].lstrip("/")
    yield Fact(
        "deploy.model_path",
        os.path.join(mount.source, rest)[:4096] if rest else mount.source,
        inside.origin,
        mount.line,
    )


def _cache_inside(inside: Inside, environ: Mapping[str, str]) -> Iterator[Reading]:
    """The Hub client's folder inside, and whether it outlives the container."""
    cache = cache_folder({name: word.text for name, word in inside.environ if word.known}, inside.engine)
    mount = mount_of(inside.mounts, cache)
    yield Fact("deploy.cache_kept", mount is not None, inside.origin, mount.line if mount else inside.line)
    yield Fact("deploy.cache_inside", cache, inside.origin, inside.line)
    if mount is not None and mount.source:
        rest = cache[len(mount.target.rstrip("/")) :].lstrip("/")
        yield Fact(
            "deploy.cache_path", os.path.join(mount.source, rest) if rest else mount.source, inside.origin, mount.line
        )


def user_facts(user: str, given: Mapping[str, str], origin: str, line: int) -> Iterator[Reading]:
    """`deploy.user*`: a number that the image has no name for gets `/` for its home folder, where it may not write."""
    if not user:
        return
    yield Fact("deploy.user", user[:LONGEST], origin, line)
    number = user.partition(":")[0]
    named = any(given.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME"))
    if whole(number):
        yield Fact("deploy.user_without_home", not (given.get("HOME") and named), origin, line)


def whole(text: str) -> int | None:
    """A number of at most nine ASCII digits; None for anything else."""
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


def cache_folder(given: Mapping[str, str], engine: str = "") -> str:
    """Where the Hub client keeps models inside a container, by the variables given; TGI's image has a place of its own."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if given.get(name):
            return posixpath.normpath(given[name])
    if given.get("HF_HOME"):
        return posixpath.normpath(posixpath.join(given["HF_HOME"], "hub"))
    if engine == "tgi":
        return "/data"
    home = given.get("XDG_CACHE_HOME") or posixpath.join(given.get("HOME", "/root"), ".cache")
    return posixpath.normpath(posixpath.join(home, "huggingface", "hub"))


def mount_of(mounts: Sequence[Mount], path: str) -> Mount | None:
    """The mount that a path inside lies on: the one with the longest target."""
    best: Mount | None = None
    for mount in mounts:
        target = mount.target.rstrip("/")
        inside = path == target or path.startswith(target + "/")
        if inside and (best is None or len(target) >= len(best.target.rstrip("/"))):
            best = mount
    return best


def host_path(source: str, folder: str, environ: Mapping[str, str]) -> str:
    """A mount's source as a path of this machine; `folder` is what a relative one is relative to."""
    if source == "~" or source.startswith("~/"):
        home = environ.get("HOME", "")
        source = home + source[1:] if home else source
    return os.path.normpath(os.path.join(folder, source)) if source else ""


def mount_facts(mounts: Sequence[Mount], origin: str) -> Iterator[Reading]:
    """`deploy.mount.*`: each mount of a folder of this machine, and whether it is there."""
    for number, mount in enumerate(mounts[:MOST_MOUNTS]):
        if not mount.source:
            continue
        key = f"deploy.mount.{number}"
        yield Fact(f"{key}.source", mount.source[:LONGEST], origin, mount.line)
        yield Fact(f"{key}.target", mount.target[:LONGEST], origin, mount.line)
        yield Step(f"looking whether {mount.source[:LONGEST]} is there")
        there = _is_there(mount.source)
        if there is not None:
            yield Fact(f"{key}.there", there, origin, mount.line)
            yield Fact(f"{key}.made", mount.made, origin, mount.line)


def _is_there(path: str) -> bool | None:
    """Whether a path is there; None if that may not be looked at."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        return False
    except (OSError, ValueError):
        return None
    return True
