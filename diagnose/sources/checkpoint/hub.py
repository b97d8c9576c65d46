"""The Hub's own word on a model (only with --online): is it there, may it be read, is it newer, are the files as long as here.

Through huggingface_hub, at HF_ENDPOINT if that is set. The token of this machine is sent, as every loader sends it, and
is never told.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from diagnose.model import Fact, Reading, Step, Unchecked
from diagnose.sources import files
from diagnose.sources.checkpoint import caches
from diagnose.sources.checkpoint.cache import OFFLINE
from diagnose.sources.checkpoint.where import Found

SECONDS = 8.0
"""How long one answer may take."""
DEFAULT = "https://huggingface.co"
_ENDINGS = (".json", ".safetensors", ".bin", ".gguf", ".model", ".txt", ".jinja", ".py")


def read(found: Found, environ: Mapping[str, str]) -> Iterator[Reading]:
    """`hub.*` of the id that a model has; an Unchecked if it has none, or if the Hub does not answer."""
    what = "the model on the Hub"
    if not found.id:
        yield Unchecked(what, "the model has no id of the Hub")
        return
    offline = next((name for name in OFFLINE if environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE")), "")
    if offline:
        yield Unchecked(what, f"{offline} is set")
        return
    endpoint = (environ.get("HF_ENDPOINT") or DEFAULT).rstrip("/")
    yield Fact("hub.endpoint", _shown(endpoint), "HF_ENDPOINT" if environ.get("HF_ENDPOINT") else "default")
    yield Step(f"asking {_shown(endpoint)} for {found.id}")
    yield from _ask(found, endpoint, token_of(environ))


def token_of(environ: Mapping[str, str]) -> str:
    """The token that loaders send: a variable, else the file that `hf auth login` writes; empty if there is none."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if environ.get(name, "").strip():
            return environ[name].strip()
    path = environ.get("HF_TOKEN_PATH") or ""
    if not path:
        home = next((os.path.dirname(place.path) for place in caches.places(environ) if place.setting == "HF_HOME"), "")
        cache = environ.get("XDG_CACHE_HOME") or os.path.join(environ.get("HOME", ""), ".cache")
        path = os.path.join(home or os.path.join(cache, "huggingface"), "token")
    return (files.read_text(path, 4096) or "").strip()


def _shown(endpoint: str) -> str:
    """An address without what stands before an @ in it."""
    scheme, there, rest = endpoint.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"[:200] if there else endpoint.rpartition("@")[2][:200]


def _ask(found: Found, endpoint: str, token: str) -> Iterator[Reading]:
    from huggingface_hub import HfApi

    origin = _shown(endpoint)
    api = HfApi(endpoint=endpoint, token=token or False)
    revision = found.ref if found.ref not in ("", "main") else None
    try:
        info = api.model_info(found.id, revision=revision, timeout=SECONDS, files_metadata=True)
    except Exception as error:  # the client raises its own, those of its transport, and ValueErrors
        yield from _refused(error, bool(token), origin)
        return
    yield Fact("hub.status", "found", origin)
    yield from _told(info, found, origin)
    if info.gated:
        try:
            api.auth_check(found.id)
        except Exception as error:  # as above
            yield from _refused(error, bool(token), origin, "hub.access")
        else:
            yield Fact("hub.access", "granted", origin)


def _refused(error: Exception, with_token: bool, origin: str, name: str = "hub.status") -> Iterator[Reading]:
    word, why = _word(error)
    if word in ("unreachable", "error"):
        yield Unchecked("the model on the Hub", f"{origin}: {why}")
    yield Fact(name, word, origin)
    yield Fact("hub.token_sent", with_token, origin)


def _word(error: Exception) -> tuple[str, str]:
    """What an exception of the client means: a word, and a sentence without the address and without secrets."""
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", 0)
    headers = getattr(getattr(error, "response", None), "headers", {})
    kinds: tuple[tuple[type[Exception], str], ...] = (
        (errors.GatedRepoError, "gated"),
        (errors.DisabledRepoError, "disabled"),
        (errors.RevisionNotFoundError, "revision-missing"),
        (errors.RepositoryNotFoundError, "missing-or-private"),
        (errors.HFValidationError, "not-an-id"),
    )
    for kind, word in kinds:
        if isinstance(error, kind):
            return word, word
    if status == 401:
        refused = "Invalid credentials" in str(headers.get("X-Error-Message", ""))
        return ("token-refused" if refused else "missing-or-private"), "it answers 401"
    if status:
        word = {403: "forbidden", 404: "missing-or-private", 429: "rate-limited"}.get(status, "error")
        return word, f"it answers {status}"
    return "unreachable", type(error).__name__


def _told(info: Any, found: Found, origin: str) -> Iterator[Reading]:
    if isinstance(info.sha, str):
        yield Fact("hub.commit", info.sha[:64], origin)
        if found.revision:
            yield Fact("hub.newer", info.sha != found.revision, origin)
    yield Fact("hub.gated", str(info.gated or "none")[:20], origin)
    yield Fact("hub.private", bool(info.private), origin)
    if isinstance(info.id, str) and info.id.lower() != found.id.lower():
        yield Fact("hub.moved_to", info.id[:200], origin)
    if found.folder and info.sha == found.revision:
        yield from _files(info, found, origin)


def _files(info: Any, found: Found, origin: str) -> Iterator[Reading]:
    """The files of the same commit here and there: which are missing, and which have another length."""
    differ, missing = [], []
    for sibling in (info.siblings or [])[:5000]:
        name, size = sibling.rfilename, sibling.size
        if not isinstance(name, str) or name.startswith((".", "/")) or ".." in name.split("/"):
            continue
        try:
            own = os.stat(os.path.join(found.folder, name)).st_size
        except (OSError, ValueError):
            if "/" not in name and name.endswith(_ENDINGS):
                missing.append(name)
            continue
        if isinstance(size, int) and own != size:
            differ.append(name)
    yield Fact("hub.files_differ", len(differ), origin)
    if differ:
        yield Fact("hub.file_differs", sorted(differ)[0][:200], origin)
    yield Fact("hub.files_missing", len(missing), origin)
    if missing:
        yield Fact("hub.file_missing", sorted(missing)[0][:200], origin)
