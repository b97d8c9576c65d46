"""Makes the tables of dataset/training from the packages' own classes: the keys that a training's settings may have, release by release.

A maintainer's tool, not a part of the command: `python dataset/training/refresh.py [NAME …] [--check]`. Nothing of a package
is run or imported: its dataclasses and pydantic models are read from the text. Of a wheel only the few modules that hold them
are fetched. Of each minor version the last release is read (of DeepSpeed every one). relations.json is written by hand.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import sys
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from packaging.version import Version

FOLDER = Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parent / "engines")]

import history  # noqa: E402
from read_accelerate import PREFIXES  # noqa: E402
from read_frameworks import PACKAGES, Package  # noqa: E402
from schemas import Field, Schema  # noqa: E402
from source_tree import Tree  # noqa: E402


def _engines() -> ModuleType:
    """The module that reads wheels and source archives in parts: that of the engines' tables."""
    spec = importlib.util.spec_from_file_location("engines_refresh", FOLDER.parent / "engines" / "refresh.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


engines = _engines()
index = engines.index
THREADS = 3


class Release(NamedTuple):
    """What was read of one release."""

    version: str
    date: str
    schemas: dict[str, Schema]


def wanted(name: str, package: Package) -> list[tuple[Version, list[Any]]]:
    """The last release of each minor version (or every release), oldest first, withdrawn ones left out."""
    page = index.page_of(name)
    last: dict[tuple[int, int, int], tuple[Version, list[Any]]] = {}
    for version, files in index.releases(page, name).items():
        if version >= Version(package.first) and not all(file.yanked for file in files):
            last[version.major, version.minor, version.micro if package.every else 0] = (version, files)
    return list(last.values())


def releases_of(name: str, package: Package, cache: Path, said: Callable[[str], None]) -> list[Release]:
    """The releases of a package that can be read, oldest first; what cannot be is said."""

    def read(item: tuple[Version, list[Any]]) -> Release | None:
        version, files = item
        archives = index.linux_wheels(files) or [file for file in files if file.name.endswith(".tar.gz")]
        try:
            texts = engines.texts_of(archives[0], package.wanted, cache) if archives else {}
        except (index.RefreshError, zipfile.BadZipFile, tarfile.TarError, OSError) as error:
            said(f"{name} {version}: left out: {error}")
            return None
        schemas = package.read(Tree({path.removeprefix("src/"): text for path, text in texts.items()}))
        if not schemas:
            said(f"{name} {version}: left out: no settings found")
            return None
        return Release(str(version), min((f.uploaded for f in files if f.uploaded), default="")[:10], schemas)

    with ThreadPoolExecutor(THREADS) as pool:
        return [release for release in pool.map(read, wanted(name, package)) if release is not None]


# --- tables


def document(name: str, source: str, releases: Sequence[Release]) -> dict[str, Any]:
    """The table of a package, as it is written. `source` tells what was read."""
    versions = [release.version for release in releases]
    names = list(dict.fromkeys(key for release in reversed(releases) for key in release.schemas))
    classes = {}
    for key in sorted(names):
        per = [release.schemas.get(key) for release in releases]
        classes[key] = schema_row(key, versions, per)
    return {
        "package": name,
        "every": PACKAGES[name].every,
        "read": datetime.date.today().isoformat(),
        "source": f"{name} on the package index: {source}",
        "releases": versions,
        "dates": [release.date for release in releases],
        "classes": classes,
    }


def schema_row(name: str, versions: Sequence[str], per: Sequence[Schema | None]) -> dict[str, Any]:
    """A class over all releases: those that have it, its base, what happens to other keys, and its keys."""
    there = [schema is not None for schema in per]
    newest = next(schema for schema in reversed(per) if schema is not None)
    row: dict[str, Any] = {}
    _put(row, "in", history.span(there, [True] * len(per), versions))
    _put(row, "base", newest.base)
    _put(row, "prefix", PREFIXES.get(name, ""))
    modes = dict.fromkeys(schema.unknown for schema in per if schema is not None)
    row["unknown"] = {mode: history.span([s is not None and s.unknown == mode for s in per], there, versions) for mode in modes}  # fmt: skip
    keys = dict.fromkeys(key for schema in reversed(per) if schema is not None for key in schema.fields)
    row["keys"] = {key: field_row([s.fields.get(key) if s else None for s in per], there, versions) for key in keys}
    return row


def field_row(per: Sequence[Field | None], there: Sequence[bool], versions: Sequence[str]) -> dict[str, Any]:
    """A key over the releases of its class: spans as in dataset/engines, and type, default and class of its newest."""
    present = [field is not None for field in per]
    newest = next(field for field in reversed(per) if field is not None)
    row: dict[str, Any] = {}
    _put(row, "in", history.span(present, there, versions))
    if newest.type != "any":
        row["type"] = newest.type
    others = dict.fromkeys(field.type for field in per if field is not None and field.type != newest.type)
    _put(row, "was", {kind: history.span([f is not None and f.type == kind for f in per], present, versions) for kind in others})  # fmt: skip
    checked = [field is not None and bool(field.choices) for field in per]
    if newest.choices:
        values = dict.fromkeys(value for field in reversed(per) if field is not None for value in field.choices)
        row["choices"] = {
            value: history.span([f is not None and value in f.choices for f in per], checked, versions)
            for value in values
        }
        _put(row, "checked", "" if newest.checked == "always" else newest.checked)
        _put(row, "choices_in", history.span(checked, present, versions))
    for mark in ("deprecated", "refused"):
        marked = [field is not None and bool(getattr(field, mark)) for field in per]
        if any(marked):
            row[mark] = history.span(marked, present, versions) or "all"
    _put(row, "instead", next((f.instead for f in reversed(per) if f is not None and f.instead), ""))
    _put(row, "schema", newest.schema)
    _put(row, "loose", newest.loose)
    if newest.default is not None and newest.default != "":
        row["default"] = newest.default
    return row


def _put(row: dict[str, Any], key: str, value: Any) -> None:
    if value:
        row[key] = value


def text_of(table: dict[str, Any]) -> str:
    """A table as text: a key a line, so that a refresh is a readable diff."""
    head = [f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in table.items() if k != "classes"]
    classes = []
    for name, row in table["classes"].items():
        about = {key: value for key, value in row.items() if key != "keys"}
        start = json.dumps(about, ensure_ascii=False)[1:-1]
        keys = ",\n".join(f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in row["keys"].items())
        classes.append(f'{json.dumps(name)}: {{{start}, "keys": {{\n{keys}\n}}}}')
    return "{" + ",\n".join([*head, '"classes": {\n' + ",\n".join(classes) + "\n}"]) + "}\n"


def main(arguments: list[str] | None = None) -> int:
    """The exit code of `refresh` in dataset/compat/refresh.py."""
    options = index.asked(argparse.ArgumentParser(description=__doc__), PACKAGES, arguments)
    cache = index.cache_folder().parent / "training-refresh"

    def made(name: str) -> list[Any]:
        releases = releases_of(name, PACKAGES[name], cache, index.say)
        text = text_of(document(name, PACKAGES[name].source, releases))
        return [index.Table(FOLDER / f"{name}.json", text, f"{len(releases)} releases")]

    return int(index.refresh(options.names or PACKAGES, made, options.check))


if __name__ == "__main__":
    sys.exit(main())
