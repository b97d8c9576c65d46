"""The folders that models, downloads, temporary files and compiled kernels go to → facts: room, kind of disk, rights.

The kind of file system is read from the mount table first, so that a dead network mount is named before it is touched;
local folders come before those on the network.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec import Struct

from diagnose.model import Fact, Reading, Step, Unchecked
from diagnose.sources import proc
from diagnose.sources.cgroup import unescape
from diagnose.sources.settings import words

NETWORK = words(
    """
    nfs nfs4 cifs smb3 smbfs ceph lustre beegfs gpfs glusterfs fuse.glusterfs afs orangefs pvfs2 wekafs weka
    panfs fuse.sshfs fuse.s3fs fuse.gcsfuse fuse.rclone fuse.juicefs fuse.JuiceFS fuse.goofys fuse.blobfuse
    fuse.blobfuse2 fuse.mount-s3 fuse.alluxio-fuse fuse.ossfs 9p acfs ocfs2 vastnfs
    """
)
IN_MEMORY = frozenset(("tmpfs", "ramfs", "devtmpfs"))
LONGEST = 400

StatVFS = Callable[[str], os.statvfs_result]


class Mount(Struct, frozen=True):
    """One mounted file system: where, its type, and its options (of the mount and of the file system)."""

    point: str
    kind: str
    options: frozenset[str]


class Folder(Struct, frozen=True):
    """A folder that matters: its name in the facts, its path, and the variable that chose it (empty: the default)."""

    name: str
    path: str
    setting: str = ""


def read(
    environ: Mapping[str, str], root: str = "/", folders: Sequence[str] = (), statvfs: StatVFS = os.statvfs
) -> Iterator[Reading]:
    """`storage.NAME.*` of the model cache, the temporary folder, the compilers' caches, and `folders` (the first: work)."""
    mounts = mount_table(proc.text(root, "/proc/self/mountinfo", 4 << 20) or "")
    wanted = [*known_folders(environ), *_given(folders)]
    # a folder on the network may never answer, so these come last
    wanted.sort(key=lambda folder: _network(mount_of(mounts, folder.path)))
    for folder in wanted:
        yield from _read_one(folder, mounts, root, statvfs)


def _given(folders: Sequence[str]) -> list[Folder]:
    names = ["work", *(f"folder-{i}" for i in range(2, len(folders) + 1))]
    return [Folder(name, os.path.abspath(path)) for name, path in zip(names, folders, strict=False) if path]


def hub_home(environ: Mapping[str, str]) -> tuple[str, str]:
    """The hub client's folder and the variable that chose it; both empty if there is no home folder."""
    if environ.get("HF_HOME"):
        return _expand(environ["HF_HOME"], environ), "HF_HOME"
    if environ.get("XDG_CACHE_HOME"):
        return os.path.join(_expand(environ["XDG_CACHE_HOME"], environ), "huggingface"), "XDG_CACHE_HOME"
    home = environ.get("HOME", "")
    return (os.path.join(home, ".cache", "huggingface"), "") if home else ("", "")


def known_folders(environ: Mapping[str, str]) -> list[Folder]:
    """The folders that the hub's client, PyTorch, Triton and vLLM use, as they choose them from these variables."""
    found = [_model_cache(environ), _temporary(environ)]
    cache = environ.get("XDG_CACHE_HOME") or (os.path.join(environ["HOME"], ".cache") if environ.get("HOME") else "")
    found.append(_chosen("vllm", environ, ("VLLM_CACHE_ROOT",), os.path.join(cache, "vllm") if cache else ""))
    triton = environ.get("TRITON_HOME") or environ.get("HOME", "")
    found.append(
        _chosen("triton", environ, ("TRITON_CACHE_DIR",), os.path.join(triton, ".triton", "cache") if triton else "")
    )
    found.append(_chosen("inductor", environ, ("TORCHINDUCTOR_CACHE_DIR",), found[1].path))
    return [folder for folder in found if os.path.isabs(folder.path)]


def _model_cache(environ: Mapping[str, str]) -> Folder:
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environ.get(variable):
            return Folder("models", _expand(environ[variable], environ), variable)
    home, setting = hub_home(environ)
    return Folder("models", os.path.join(home, "hub") if home else "", setting)


def _temporary(environ: Mapping[str, str]) -> Folder:
    """Python takes the first of these that it can write to."""
    for variable in ("TMPDIR", "TEMP", "TMP"):
        if environ.get(variable):
            return Folder("temporary", environ[variable], variable)
    return Folder("temporary", "/tmp")


def _chosen(name: str, environ: Mapping[str, str], variables: Sequence[str], default: str) -> Folder:
    for variable in variables:
        if environ.get(variable):
            return Folder(name, _expand(environ[variable], environ), variable)
    return Folder(name, default)


def _expand(path: str, environ: Mapping[str, str]) -> str:
    home = environ.get("HOME", "")
    if home and (path == "~" or path.startswith("~/")):
        path = home + path[1:]
    return path.replace("$HOME", home).replace("${HOME}", home) if home else path


def mount_table(mountinfo: str) -> list[Mount]:
    """The mounts of /proc/self/mountinfo; later ones hide earlier ones at the same place."""
    found = []
    for line in mountinfo.splitlines():
        left, told, right = line.partition(" - ")
        before, after = left.split(), right.split(" ")
        if told and len(before) >= 6 and len(after) >= 3:
            found.append(Mount(unescape(before[4]), after[0], frozenset(f"{before[5]},{after[2]}".split(","))))
    return found


def mount_of(mounts: Sequence[Mount], path: str) -> Mount | None:
    """The mount that a path lies on, by the names alone: nothing is touched."""
    path = os.path.normpath(path)
    best: Mount | None = None
    for mount in mounts:
        inside = path == mount.point or path.startswith(mount.point.rstrip("/") + "/")
        if inside and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def _network(mount: Mount | None) -> bool:
    return mount is not None and mount.kind in NETWORK


def _read_one(folder: Folder, mounts: Sequence[Mount], root: str, statvfs: StatVFS) -> Iterator[Reading]:
    label = f"storage.{folder.name}"
    yield Fact(f"{label}.path", folder.path[:LONGEST], folder.setting or "default")
    yield Fact(f"{label}.setting", folder.setting or "none", folder.setting or "default")
    mount = mount_of(mounts, folder.path)
    yield Step(f"looking at {folder.path[:LONGEST]}" + (f" (a {mount.kind} mount)" if mount is not None else ""))
    try:
        real = existing(folder.path, root)
        exists = real == folder.path or os.path.exists(proc.at(root, folder.path))
        known = statvfs(proc.at(root, real))
    except (OSError, ValueError) as error:
        yield Unchecked(f"the folder {folder.path[:LONGEST]}", str(error))
        return
    target = os.path.realpath(proc.at(root, real)) if root == "/" else real
    mount = mount_of(mounts, target)
    yield Fact(f"{label}.exists", exists, folder.path[:LONGEST])
    yield from _room(label, known, target)
    if mount is not None:
        yield from _kind(label, mount)
    if root == "/":
        # a file system that is mounted read-only is told by itself
        yield Fact(f"{label}.writable", os.access(target, os.W_OK | os.X_OK), target[:LONGEST])


def existing(path: str, root: str = "/") -> str:
    """The nearest folder above a path that is there: what is missing will be made in it."""
    path = os.path.normpath(path)
    while path not in ("/", "") and not os.path.isdir(proc.at(root, path)):
        path = os.path.dirname(path)
    return path or "/"


def _room(label: str, known: os.statvfs_result, origin: str) -> Iterator[Reading]:
    total, free = known.f_blocks * known.f_frsize, known.f_bavail * known.f_frsize
    if total > 0:
        yield Fact(f"{label}.total", total, origin)
        yield Fact(f"{label}.free", free, origin)
        yield Fact(f"{label}.free_percent", round(100 * free / total, 1), origin)
    if known.f_files > 0 and 0 <= known.f_favail <= known.f_files:
        yield Fact(f"{label}.inodes_free", known.f_favail, origin)
        yield Fact(f"{label}.inodes_free_percent", round(100 * known.f_favail / known.f_files, 1), origin)


def _kind(label: str, mount: Mount) -> Iterator[Reading]:
    origin = "/proc/self/mountinfo"
    yield Fact(f"{label}.type", mount.kind, origin)
    yield Fact(f"{label}.network", mount.kind in NETWORK, origin)
    yield Fact(f"{label}.in_memory", mount.kind in IN_MEMORY, origin)
    yield Fact(f"{label}.layer", mount.kind in ("overlay", "aufs", "fuse-overlayfs", "fuse.fuse-overlayfs"), origin)
    yield Fact(f"{label}.read_only", "ro" in mount.options, origin)
    yield Fact(f"{label}.noexec", "noexec" in mount.options, origin)
