"""What is meant by the text that names a model: a folder, a file, or an id whose files lie in a cache on this machine.

Nothing is downloaded and nothing is opened but small text files of the caches. A local folder goes before an id of the
same spelling, as in every loader.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

from msgspec import Struct

from diagnose.sources import files
from diagnose.sources.checkpoint import caches
from diagnose.sources.checkpoint.layout import layout_of, newest_checkpoint

MOST_NAMES = 20_000
"""How many names of one folder are looked at."""

_SUFFIXES = (".gguf", ".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".onnx", ".json", ".mlmodel", ".llamafile")
_REMOTE = re.compile(r"^(?:s3|gs|gcs|az|abfss?|oss|tos|obs|hdfs|runai|dbfs|ms)://", re.IGNORECASE)
_HUB_ADDRESS = re.compile(
    r"^(?:(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co|hf-mirror\.com)/|hf://(?:models/)?)"
    r"(?P<id>[\w.-]+/[\w.-]+?)(?::(?P<tag>[\w.-]+))?(?:/(?:tree|blob|resolve)/(?P<revision>[^/?#]+)(?:/.*)?)?/?(?:[?#].*)?$",
    re.ASCII,
)
_ID = re.compile(r"(?:[\w.-]{1,96}/)?\w(?:[\w.-]{0,94}\w)?", re.ASCII)
_SPLIT = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


class Found(Struct, frozen=True):
    """What a text means. `path` is absolute and real as an engine would open it; empty if nothing is there.

    `kind`: folder, gguf, safetensors, file (of another kind), adapter, remote or missing.
    `problem`: empty, or a word: no-such-path, not-cached, revision-missing, ref-without-snapshot, snapshot-without-ref,
    cache-top, tag-missing, several-gguf, empty, unreadable, loop, remote, not-an-id.
    `nearest`: what was probably meant. `layout`: how the folder is written (see layout.py). `tag`: what stood behind a
    colon. `cache`: the cache that holds it; `top` the folder of this model in it; `ref` the name that was followed.
    `names`: what is in the folder, at most MOST_NAMES.
    """

    asked: str
    kind: str
    path: str = ""
    id: str = ""
    revision: str = ""
    problem: str = ""
    nearest: str = ""
    layout: str = ""
    tag: str = ""
    cache: str = ""
    top: str = ""
    ref: str = ""
    why: str = ""
    names: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The last part of the id or path, for people."""
        text = self.id or self.path or self.asked.rstrip("/")
        return os.path.basename(text.rstrip("/")) or text

    @property
    def folder(self) -> str:
        """The folder that the model's small files lie in; empty if there is none."""
        if not self.path or self.kind in ("missing", "remote"):
            return ""
        return self.path if self.kind in ("folder", "adapter") else os.path.dirname(self.path)

    def origin(self, name: str) -> str:
        """A file of the model as a reader should see it: `Qwen3-8B/config.json`."""
        own = self.kind in ("folder", "adapter") or bool(self.id)
        head = self.name if own else os.path.basename(self.folder)
        return f"{head}/{name}" if head else name


def find(model: str, environ: Mapping[str, str], folder: str, revision: str = "") -> Found:
    """Where a model is. `folder` is what relative paths start from; `revision` a branch, tag or commit, else main.

    Never raises and never touches the network.
    """
    asked = model.strip() if model.strip() else model
    if not asked or "\0" in asked or len(asked) > 4096:
        return Found(asked[:200], "missing", problem="not-an-id", why="it is empty or no name that a file can have")
    if _REMOTE.match(asked):
        return Found(asked, "remote", problem="remote", why="it lies in an object store, which is not looked into")
    path = files.absolute(asked, environ, folder)
    try:
        os.stat(path)
        return _local(asked, path, environ)
    except FileNotFoundError:
        pass
    except NotADirectoryError:
        pass
    except OSError as error:
        if looks_like_a_path(asked):
            loop = getattr(error, "errno", 0) == 40
            why = (error.strerror or str(error)).lower()
            return Found(asked, "missing", path, problem="loop" if loop else "unreadable", why=why)
    if os.path.islink(path):
        why = f"it is a link to {os.readlink(path)[:300]}, which is not there"
        return Found(asked, "missing", path, problem="no-such-path", why=why, nearest=_nearest_path(path))
    address = _HUB_ADDRESS.match(asked)
    if address:
        return _cached(asked, address["id"], address["tag"] or "", address["revision"] or revision, environ)
    if looks_like_a_path(asked):
        return Found(asked, "missing", path, problem="no-such-path", nearest=_nearest_path(path))
    name, _, tag = asked.partition(":")
    if not is_id(name):
        return Found(asked, "missing", path, problem="no-such-path", nearest=_nearest_path(path))
    found = _cached(asked, name, tag, revision, environ)
    if found.problem == "not-cached" and not found.nearest:
        return _with_nearest(found, _nearest_path(path))
    return found


def looks_like_a_path(text: str) -> bool:
    """Whether a text can only be a path: `./x`, `/x`, `~/x`, `a/b/c`, `x.gguf`."""
    return (
        text.startswith(("/", "./", "../", "~", ".\\"))
        or text in (".", "..")
        or "\\" in text
        or text.count("/") > 1
        or text.endswith("/")
        or text.lower().endswith(_SUFFIXES)
    )


def is_id(text: str) -> bool:
    """Whether a text can be an id of the Hub: its characters, at most one slash, no `--` and no `..`."""
    return bool(_ID.fullmatch(text)) and "--" not in text and ".." not in text and not text.endswith(".git")


# --- what is there as a path


def _local(asked: str, path: str, environ: Mapping[str, str]) -> Found:
    if not os.path.isdir(path):
        kind = "file"
        if path.lower().endswith(".gguf") or _starts_with(path, b"GGUF"):
            kind = "gguf"
        elif path.lower().endswith(".safetensors"):
            kind = "safetensors"
        why = files.why_unreadable(path).lower()
        return _of_snapshot(Found(asked, kind, path, problem="unreadable" if why else "", why=why))
    names = names_of(path)
    if names is None:
        return Found(asked, "folder", path, problem="unreadable", why=files.why_unreadable(path).lower())
    top = caches.top_of(path, names)
    if top:
        return _of_top(asked, top)
    return _of_snapshot(_folder(asked, path, names))


def _folder(asked: str, path: str, names: tuple[str, ...], tag: str = "") -> Found:
    """A folder, by what is in it; one that holds nothing but a GGUF model is that file."""
    if not names:
        return Found(asked, "folder", path, problem="empty", layout="empty", names=names)
    layout = layout_of(path, names)
    if layout == "gguf":
        return _gguf(asked, path, names, tag)
    nearest = newest_checkpoint(path, names) if layout == "training-output" else ""
    kind = "adapter" if layout == "adapter" else "folder"
    return Found(asked, kind, path, layout=layout, nearest=nearest, names=names, tag=tag)


def _gguf(asked: str, path: str, names: tuple[str, ...], tag: str) -> Found:
    """The GGUF file of a folder that holds GGUF files: the only one, the one whose name holds the tag, or none."""
    every = gguf_models(names)
    wanted = [name for name in every if has_tag(name, tag)] if tag else every
    found = Found(asked, "folder", path, layout="gguf", names=names, tag=tag)
    if tag and not wanted:
        return _changed(found, problem="tag-missing", nearest=_nearest(tag, every))
    if len(wanted) == 1:
        return _changed(found, kind="gguf", path=os.path.join(path, wanted[0]))
    if not wanted:  # only parts without the first one, or only a projector
        return found
    return _changed(found, problem="several-gguf", nearest=wanted[0])


def gguf_models(names: Iterable[str]) -> list[str]:
    """The GGUF files that are models: of split ones the first part, no projectors, no importance matrices."""
    found = []
    for name in names:
        lower = name.lower()
        if not lower.endswith(".gguf") or "mmproj" in lower or "imatrix" in lower:
            continue
        part = _SPLIT.search(lower)
        if part is None or int(part[1]) == 1:
            found.append(name)
    return found


def has_tag(name: str, tag: str) -> bool:
    """Whether a GGUF file is of a quantization, by its name: `x-Q4_K_M.gguf` of `Q4_K_M`."""
    return bool(re.search(rf"(?i)(?:^|[-._/]){re.escape(tag)}(?:[-.]|$)", name))


def _of_snapshot(found: Found) -> Found:
    """A path inside a cache's snapshot, with the id and revision that its folders tell."""
    told = caches.SNAPSHOT.search(found.path)
    if not told:
        return found
    name = caches.id_of(told["repo"])
    return _changed(found, id=name, revision=told["revision"], top=found.path[: told.end("repo")])


# --- what is in a cache


def _cached(asked: str, name: str, tag: str, revision: str, environ: Mapping[str, str]) -> Found:
    """An id, looked up in the caches in the order in which the loaders do."""
    places = caches.places(environ)
    for place in places:
        top = caches.top_in(place, name)
        if top is None:
            continue
        if place.flat:
            names = names_of(top)
            if names:
                found = _folder(asked, top, names, tag)
                return _changed(found, id=name, cache=place.path, top=top)
            continue
        return _in_hub_cache(asked, name, tag, revision, place.path, top)
    blob = caches.ollama_blob(name, tag, environ)
    if blob:
        return Found(asked, "gguf", blob, id=name, tag=tag, cache=os.path.dirname(os.path.dirname(blob)))
    known = [one for place in places for one in caches.ids(place)]
    first = next((place.path for place in places), "")
    nearest = _nearest(name, known)
    return Found(asked, "missing", id=name, tag=tag, problem="not-cached", cache=first, ref=revision, nearest=nearest)


def _in_hub_cache(asked: str, name: str, tag: str, revision: str, cache: str, top: str) -> Found:
    ref = revision or "main"
    told = caches.resolve(top, ref)
    base = Found(asked, "missing", id=name, tag=tag, cache=cache, top=top, ref=ref)
    if told.commit and told.there:
        path = os.path.join(top, "snapshots", told.commit)
        names = names_of(path)
        if names is None:
            why = files.why_unreadable(path).lower()
            return _changed(base, kind="folder", path=path, revision=told.commit, problem="unreadable", why=why)
        found = _folder(asked, path, names, tag)
        return _changed(found, id=name, revision=told.commit, cache=cache, top=top, ref=ref)
    nearest = told.others[0] if told.others else ""
    if told.commit:
        return _changed(base, revision=told.commit, problem="ref-without-snapshot", nearest=nearest)
    if revision:
        return _changed(base, problem="revision-missing", nearest=nearest)
    return _changed(base, problem="snapshot-without-ref" if nearest else "not-cached", nearest=nearest)


def _of_top(asked: str, top: str) -> Found:
    """The cache's own folder of a model, given in place of the model: what lies in it is looked at all the same."""
    name = caches.id_of(os.path.basename(top))
    told = caches.resolve(top, "main")
    commit = told.commit if told.there else (told.others[0] if told.others else "")
    path = os.path.join(top, "snapshots", commit) if commit else ""
    names = names_of(path) if path else None
    if not names:
        return Found(asked, "missing", top, id=name, problem="cache-top", top=top, cache=os.path.dirname(top))
    found = _folder(asked, path, names)
    return _changed(
        found, id=name, revision=commit, problem="cache-top", nearest=path, top=top, cache=os.path.dirname(top)
    )


# --- names


def names_of(path: str) -> tuple[str, ...] | None:
    """The names in a folder, sorted, at most MOST_NAMES; None if it cannot be read."""
    found = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                found.append(entry.name)
                if len(found) >= MOST_NAMES:
                    break
    except (OSError, ValueError):
        return None
    return tuple(sorted(found))


def _starts_with(path: str, magic: bytes) -> bool:
    return files.read_bytes(path, len(magic)) == magic


def _nearest_path(path: str) -> str:
    """The path that is there and looks most like one that is not: its first missing part is taken for misspelt."""
    above = os.path.dirname(path)
    rest = [os.path.basename(path)]
    while above not in ("", os.sep) and not os.path.isdir(above):
        rest.insert(0, os.path.basename(above))
        above = os.path.dirname(above)
    close = _nearest(rest[0], names_of(above) or ())
    if not close:
        return ""
    whole = os.path.join(above, close, *rest[1:])
    return whole if os.path.exists(whole) else os.path.join(above, close)


def _nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is most like one: the same in another case, else by the letters; empty if none is close."""
    from difflib import get_close_matches

    every = list(known)[:MOST_NAMES]
    same = next((one for one in every if one.lower() == name.lower()), "")
    if same:
        return same
    lowered = {one.lower(): one for one in every}
    close = get_close_matches(name.lower()[:200], [one for one in lowered if len(one) < 300], 1, 0.8)
    return lowered[close[0]] if close else ""


def _with_nearest(found: Found, nearest: str) -> Found:
    return _changed(found, nearest=nearest) if nearest else found


def _changed(found: Found, **values: str) -> Found:
    from msgspec.structs import replace

    return replace(found, **values)
