"""The caches that downloaded models lie in: the Hub client's, ModelScope's and Ollama's, and what their folders say.

The Hub client's: models--OWNER--NAME holds refs/BRANCH (a commit), snapshots/COMMIT (links) and blobs (the files).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping

from msgspec import Struct

from diagnose.sources import files

SNAPSHOT = re.compile(r"(?P<repo>models--[^/]+)/snapshots/(?P<revision>[^/]+)(?=/|$)")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TRUE = ("1", "true", "yes", "on")


class Place(Struct, frozen=True):
    """A cache: its folder, the variable that chose it (empty: the default), and whether models lie in it by plain id."""

    path: str
    setting: str = ""
    flat: bool = False


class Resolved(Struct, frozen=True):
    """What a branch, tag or commit leads to: its commit, whether that snapshot is there, and the snapshots besides."""

    commit: str = ""
    there: bool = False
    others: tuple[str, ...] = ()


def places(environ: Mapping[str, str]) -> list[Place]:
    """The caches in the order in which they are asked: ModelScope's if vLLM was told so, then the Hub client's.

    As huggingface_hub/constants.py chooses: HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME, home.
    transformers 4 goes by TRANSFORMERS_CACHE before these.
    """
    found = [place for place in (_modelscope(environ), _of_hub(environ)) if place is not None]
    older = environ.get("TRANSFORMERS_CACHE", "")
    if older:
        found.append(Place(_expand(older, environ), "TRANSFORMERS_CACHE"))
    return [place for place in found if os.path.isabs(place.path)]


def _of_hub(environ: Mapping[str, str]) -> Place | None:
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environ.get(variable):
            return Place(_expand(environ[variable], environ), variable)
    if environ.get("HF_HOME"):
        return Place(os.path.join(_expand(environ["HF_HOME"], environ), "hub"), "HF_HOME")
    if environ.get("XDG_CACHE_HOME"):
        return Place(os.path.join(_expand(environ["XDG_CACHE_HOME"], environ), "huggingface", "hub"), "XDG_CACHE_HOME")
    home = environ.get("HOME", "")
    return Place(os.path.join(home, ".cache", "huggingface", "hub")) if home else None


def _modelscope(environ: Mapping[str, str]) -> Place | None:
    """ModelScope's cache, if vLLM or SGLang is told to take models from there."""
    asked = any(environ.get(name, "").lower() in _TRUE for name in ("VLLM_USE_MODELSCOPE", "SGLANG_USE_MODELSCOPE"))
    if not asked:
        return None
    if environ.get("MODELSCOPE_CACHE"):
        return Place(_expand(environ["MODELSCOPE_CACHE"], environ), "MODELSCOPE_CACHE", flat=True)
    home = environ.get("HOME", "")
    return Place(os.path.join(home, ".cache", "modelscope", "hub"), "", flat=True) if home else None


def _expand(path: str, environ: Mapping[str, str]) -> str:
    home = environ.get("HOME", "")
    if home and (path == "~" or path.startswith("~/")):
        path = home + path[1:]
    return path.replace("$HOME", home).replace("${HOME}", home) if home else path


def folder_name(name: str) -> str:
    """The folder of a model in the Hub client's cache."""
    return "models--" + name.replace("/", "--")


def id_of(folder: str) -> str:
    """The id that such a folder is named after."""
    return folder.removeprefix("models--").replace("--", "/", 1)


def top_in(place: Place, name: str) -> str | None:
    """The folder of a model in a cache, or None."""
    if not place.flat:
        top = os.path.join(place.path, folder_name(name))
        return top if os.path.isdir(top) else None
    safe = name.replace(".", "___")
    for parts in (("models", name), ("models", safe), (name,), (safe,), ("hub", "models", safe), ("hub", safe)):
        top = os.path.join(place.path, *parts)
        if os.path.isdir(top):
            return top
    return None


def top_of(path: str, names: tuple[str, ...]) -> str:
    """The cache's folder of a model, if `path` is that folder, or its snapshots or blobs; else empty."""
    base = os.path.basename(path)
    if base.startswith("models--") and ("snapshots" in names or "blobs" in names):
        return path
    above = os.path.dirname(path)
    if base in ("snapshots", "blobs", "refs") and os.path.basename(above).startswith("models--"):
        return above
    return ""


def ids(place: Place) -> Iterator[str]:
    """The ids that lie in a cache."""
    for name in (files.names_in(place.path) or ())[:5000]:
        if not place.flat:
            if name.startswith("models--"):
                yield id_of(name)
        elif not name.startswith("."):
            for model in (files.names_in(os.path.join(place.path, name)) or ())[:200]:
                yield f"{name}/{model.replace('___', '.')}"


def resolve(top: str, ref: str) -> Resolved:
    """Follow a branch, tag or commit, as the client does without a network."""
    snapshots = [
        name for name in (files.names_in(os.path.join(top, "snapshots")) or ())[:1000] if not name.startswith(".")
    ]
    commit = ref if _COMMIT.fullmatch(ref) or ref in snapshots else ""
    if ".." not in ref.split("/"):
        told = files.read_text(os.path.join(top, "refs", ref), 200)
        if told is not None and re.fullmatch(r"[\w.-]{1,100}", told.strip()):
            commit = told.strip()
    newest = sorted(snapshots, key=lambda name: _changed_at(os.path.join(top, "snapshots", name)), reverse=True)
    return Resolved(commit, commit in snapshots, tuple(name for name in newest if name != commit))


def _changed_at(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except (OSError, ValueError):
        return 0.0


def ollama_blob(name: str, tag: str, environ: Mapping[str, str]) -> str:
    """The file of weights that Ollama has for `qwen3:8b`; empty if it has none, or may not be looked into."""
    home = environ.get("HOME", "")
    roots = [environ.get("OLLAMA_MODELS", ""), os.path.join(home, ".ollama", "models") if home else ""]
    roots.append("/usr/share/ollama/.ollama/models")
    owner, _, last = name.rpartition("/")
    hosts = ("registry.ollama.ai", "hf.co") if owner else ("registry.ollama.ai",)
    for root in roots:
        for host in hosts if root else ():
            manifest = os.path.join(root, "manifests", host, owner or "library", last, tag or "latest")
            digest = _model_digest(files.read_bytes(manifest, 1 << 20))
            path = os.path.join(root, "blobs", digest.replace(":", "-")) if digest else ""
            if path and os.path.isfile(path):
                return path
    return ""


def _model_digest(manifest: bytes | None) -> str:
    try:
        layers = json.loads(manifest or b"{}")["layers"]
        digest = next(
            str(layer["digest"]) for layer in layers if layer["mediaType"] == "application/vnd.ollama.image.model"
        )
    except (KeyError, TypeError, ValueError, StopIteration, RecursionError):
        return ""
    return digest if re.fullmatch(r"sha256:[0-9a-f]{64}", digest) else ""
