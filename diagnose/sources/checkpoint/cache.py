"""What the cache's folder of a model holds besides the snapshot: broken links, half downloads, a download that goes on.

The Hub client writes a file into blobs/ as NAME.incomplete and links it into a snapshot when it is whole.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping

from diagnose.model import Fact
from diagnose.sources import files
from diagnose.sources.checkpoint import caches
from diagnose.sources.checkpoint.where import Found, names_of

OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
MOST_LINKS = 5000
RECENT = 300.0
"""A half file that changed within so many seconds is being written."""


def facts(found: Found, environ: Mapping[str, str], now: float | None = None) -> Iterator[Fact]:
    """`cache.*` of a model that an id names, or that lies in a cache."""
    for place in caches.places(environ)[:1]:
        if found.id:
            yield Fact("cache.path", place.path[:400], place.setting or "default")
    offline = next((name for name in OFFLINE if environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE")), "")
    if found.id:
        yield Fact("cache.offline", bool(offline), offline or "environment")
    if not found.top or not os.path.basename(found.top).startswith("models--"):
        return
    origin = found.top[:400]
    if found.ref and found.ref != found.revision:
        yield Fact("cache.ref", found.ref[:200], f"{origin}/refs")
    snapshots = [
        name for name in (files.names_in(os.path.join(found.top, "snapshots")) or ()) if not name.startswith(".")
    ]
    yield Fact("cache.snapshots", len(snapshots), f"{origin}/snapshots")
    yield from _half(found.top, time.time() if now is None else now)
    if found.path and found.revision:
        yield from _links(found, origin)


def _half(top: str, now: float) -> Iterator[Fact]:
    """Half downloads in blobs/."""
    blobs = os.path.join(top, "blobs")
    sizes, newest = [], 0.0
    for name in names_of(blobs) or ():
        if name.endswith(".incomplete"):
            try:
                status = os.stat(os.path.join(blobs, name))
            except (OSError, ValueError):
                continue
            sizes.append(status.st_size)
            newest = max(newest, status.st_mtime)
    yield Fact("cache.incomplete", len(sizes), blobs[:400])
    if sizes:
        yield Fact("cache.incomplete_bytes", sum(sizes), blobs[:400])
        yield Fact("cache.downloading", now - newest < RECENT, blobs[:400])


def _links(found: Found, origin: str) -> Iterator[Fact]:
    """Links of the snapshot that lead nowhere, and files that are said not to exist in this revision."""
    snapshot = os.path.join(found.top, "snapshots", found.revision)
    broken: list[str] = []
    seen = 0
    for folder, _, names in os.walk(snapshot):
        for name in names:
            path = os.path.join(folder, name)
            seen += 1
            if os.path.islink(path) and not os.path.exists(path):
                broken.append(os.path.relpath(path, snapshot))
        if seen > MOST_LINKS:
            break
    yield Fact("cache.broken_links", len(broken), f"{origin}/snapshots")
    if broken:
        yield Fact("cache.broken_link", sorted(broken)[0][:200], f"{origin}/snapshots")
    absent = files.names_in(os.path.join(found.top, ".no_exist", found.revision)) or ()
    clashing = [name for name in absent if os.path.lexists(os.path.join(snapshot, name))]
    if clashing:
        yield Fact("cache.marked_absent", clashing[0][:200], f"{origin}/.no_exist")
