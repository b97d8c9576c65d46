"""What kind of file it is, by its first bytes and its name, and whether it is one at all."""

from __future__ import annotations

import os

from msgspec import Struct

from diagnose.sources import files

HEAD = 1 << 20
ENDINGS = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet",
    ".arrow": "arrow", ".feather": "arrow", ".txt": "text",
}  # fmt: skip
"""Formats by the ends of names."""
PACKED = (".gz", ".zst")
"""What stands behind these for compressed files."""
_UTF_16 = {b"\xff\xfe": "UTF-16 (little endian)", b"\xfe\xff": "UTF-16 (big endian)"}
_CALLED = {"parquet": "a Parquet file", "arrow": "an Arrow file"}
_ARCHIVES = {
    b"PK\x03\x04": "a zip archive",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"7z\xbc\xaf": "a 7z archive",
}


class Kind(Struct, frozen=True):
    """`format`: jsonl, json, csv, tsv, text, parquet, arrow. `problem` (a word) and `detail` say why it is none of them."""

    format: str = ""
    problem: str = ""
    detail: str = ""


def kind_of(name: str, head: bytes, size: int) -> Kind:
    """The kind of a file by its name and its first bytes, unpacked."""
    lower = name.lower()
    for packed in PACKED:
        lower = lower.removesuffix(packed)
    ending = os.path.splitext(lower)[1]
    if head.startswith(b"PAR1"):
        return Kind("parquet")
    if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return Kind("arrow")
    problem = _problem(head, size)
    if problem is not None:
        return problem
    found = ENDINGS.get(ending, "")
    if found in ("parquet", "arrow"):
        return Kind(problem="other", detail=f"its first bytes are not those of {_CALLED[found]}")
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if found in ("jsonl", "json") or (not found and start[:1] in (b"{", b"[")):
        return Kind(_json(start, found == "jsonl"))
    if found or ending in ("", ".md", ".text"):
        return Kind(found or "text")
    return Kind(problem="unknown", detail="neither its name nor its first bytes are those of a data file")


def _json(start: bytes, lines: bool) -> str:
    """JSON Lines, or one document: a list, or an object over several lines. `lines` says that it is called .jsonl."""
    if not start.startswith(b"{"):
        return "json" if start.startswith(b"[") else "jsonl"
    first, end, rest = start.partition(b"\n")
    whole = first.rstrip().endswith(b"}")
    if lines:
        return "json" if end and len(first) < 200 and not whole and rest.startswith((b" ", b"\t", b'"')) else "jsonl"
    if not end or not rest.strip():  # one line only
        return "json" if not whole or b":[{" in first[:4000].replace(b" ", b"") else "jsonl"
    return "jsonl" if whole else "json"


def _problem(head: bytes, size: int) -> Kind | None:
    start = head.lstrip()[:200].lower()
    if not head.strip():
        return Kind(problem="empty", detail="it has no bytes" if not size else "it has nothing but blanks")
    if start.startswith(b"version https://git-lfs"):
        return Kind(problem="pointer", detail=f"it has the {size} bytes of a Git LFS pointer")
    if start.startswith((b"<!doctype html", b"<html")):
        return Kind(problem="html", detail="it holds a web page")
    if not head.strip(b"\0"):
        return Kind(problem="zeros", detail="its first bytes are all zero")
    if head[:2] in _UTF_16 or (len(head) > 64 and head[1:64:2].count(0) > 24):
        return Kind(problem="utf-16", detail=_UTF_16.get(head[:2], "UTF-16 (little endian)"))
    archive = next((name for magic, name in _ARCHIVES.items() if head.startswith(magic)), "")
    return Kind(problem="archive", detail=archive) if archive else None


def why_not(path: str) -> str:
    """Why a path cannot be read, in words; empty if it can."""
    try:
        with files.opened(path):
            return ""
    except OSError as error:
        return files.reason(error)
