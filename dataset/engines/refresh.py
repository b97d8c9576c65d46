"""Makes the tables of dataset/engines from the engines' own sources: flags, environment variables, architectures, parsers.

A maintainer's tool, not a part of the command: `python dataset/engines/refresh.py [NAME …] [--check]`. Nothing of an engine
is run or imported: its argument parser is read from the text. Of a wheel only the few modules that hold it are fetched.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import importlib.util
import io
import json
import re
import subprocess
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
sys.path.insert(0, str(FOLDER))

import history  # noqa: E402
import read_others  # noqa: E402
import read_sglang  # noqa: E402
import read_vllm  # noqa: E402
from parsers import Flag  # noqa: E402


def _index() -> ModuleType:
    """The module that reads the package index and wheels in parts: that of the compatibility tables."""
    spec = importlib.util.spec_from_file_location("compat_refresh", FOLDER.parent / "compat" / "refresh.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


index = _index()
MOST_BYTES = 8 << 20
THREADS = 4


class Release(NamedTuple):
    """What was read of one release."""

    version: str
    date: str
    flags: list[Flag]
    environment: set[str]
    lists: dict[str, set[str]]


class Engine(NamedTuple):
    """How an engine is read: its package, the first release, the members wanted, the reader, how its parser takes flags.

    `keep` picks releases; `sdist`: read the source archive rather than a wheel. `prefixes` of its environment variables,
    `declared_late` where its modules read them before they were declared in the place that is read here.
    """

    package: str
    first: str
    wanted: re.Pattern[str]
    read: Callable[[dict[str, str]], Any]
    style: str
    keep: str = ""
    sdist: bool = False
    prefixes: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    declared_late: bool = False


ENGINES: dict[str, Engine] = {
    "vllm": Engine("vllm", "0.6.0", read_vllm.WANTED, read_vllm.VllmReader, "flexible", prefixes=("VLLM_",)),
    "sglang": Engine(
        "sglang",
        "0.4.0",
        read_sglang.WANTED,
        read_sglang.SglangReader,
        "argparse",
        prefixes=("SGLANG_", "SGL_"),
        declared_late=True,
    ),
    **{name: Engine(*row) for name, row in read_others.ENGINES.items()},
}


# --- sources


def texts_of(file: Any, wanted: re.Pattern[str], cache: Path) -> dict[str, str]:
    """The wanted members of a wheel or source archive, as text; kept between runs by checksum."""
    key = hashlib.sha256(f"{file.sha256 or file.url} {wanted.pattern}".encode()).hexdigest()
    path = cache / f"{key}.zip"
    if path.exists():
        with zipfile.ZipFile(path) as kept:
            return {name: kept.read(name).decode("utf-8", "replace") for name in kept.namelist()}
    members = _wheel_members(file, wanted) if file.name.endswith(".whl") else _sdist_members(file, wanted)
    cache.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in members.items():
            made.writestr(name, data)
    return {name: data.decode("utf-8", "replace") for name, data in members.items()}


def _wheel_members(file: Any, wanted: re.Pattern[str]) -> dict[str, bytes]:
    archive = index.open_wheel(file.url)
    return {
        info.filename: archive.read(info)
        for info in archive.infolist()
        if wanted.fullmatch(info.filename) and info.file_size <= MOST_BYTES
    }


def _sdist_members(file: Any, wanted: re.Pattern[str]) -> dict[str, bytes]:
    """A source archive has no directory: it is fetched whole, and its first folder left out of the names."""
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(index.fetch(file.url, {})[0]), mode="r:gz") as archive:
        for member in archive:
            name = member.name.partition("/")[2]
            if member.isfile() and wanted.fullmatch(name) and member.size <= MOST_BYTES:
                opened = archive.extractfile(member)
                found[name] = opened.read() if opened else b""
    return found


def releases_of(engine: Engine, cache: Path, said: Callable[[str], None]) -> list[Release]:
    """The releases of an engine that can be read, oldest first."""
    page = index.page_of(engine.package)
    listed = {v: files for v, files in index.releases(page, engine.package).items() if not all(f.yanked for f in files)}
    wanted = [
        (version, files)
        for version, files in listed.items()
        if version >= Version(engine.first) and (re.search(engine.keep, str(version)) or version == max(listed))
    ]

    def read(item: tuple[Version, list[Any]]) -> Release | None:
        version, files = item
        archives = [f for f in files if f.name.endswith(".tar.gz")] if engine.sdist else index.linux_wheels(files)
        if not archives:
            return None
        try:
            reader = engine.read(texts_of(archives[0], engine.wanted, cache))
        except (index.RefreshError, zipfile.BadZipFile, tarfile.TarError, OSError, SyntaxError) as error:
            said(f"{engine.package} {version}: left out: {error}")
            return None
        flags = reader.flags()
        for place in reader.reader.missed[:5]:
            said(f"{engine.package} {version}: a flag could not be read: {place}")
        if not flags:
            said(f"{engine.package} {version}: left out: no flags found")
            return None
        date = min((f.uploaded for f in files if f.uploaded), default="")[:10]
        return Release(str(version), date, flags, reader.environment(), reader.lists())

    with ThreadPoolExecutor(THREADS) as pool:
        return [release for release in pool.map(read, wanted) if release is not None]


def releases_in_git(repository: Path, path: str, read: Callable[[dict[str, str]], Any]) -> list[Release]:
    """The releases of a project that is on no index, from the tags of a clone of its repository."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(repository), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120).stdout

    found: dict[Version, Release] = {}
    for tag in git("tag").split():
        if re.fullmatch(r"v\d+\.\d+\.\d+", tag):
            flags = read({path: git("show", f"{tag}:{path}")}).flags()
            if flags:
                found[Version(tag)] = Release(tag[1:], git("log", "-1", "--format=%as", tag).strip(), flags, set(), {})
    return [found[version] for version in sorted(found)]


def read_anywhere(engine: Engine, cache: Path) -> tuple[set[str], set[str]]:
    """What any module of the newest release names: environment variables, and flags of a second server in the same program.

    Not all variables are declared in one place; `sglang serve` hands diffusion models to a server with flags of its own.
    """
    if not engine.prefixes or engine.sdist:
        return set(), set()
    page = index.page_of(engine.package)
    files = list(index.releases(page, engine.package).values())[-1]
    texts = texts_of(index.linux_wheels(files)[0], re.compile(rf"{engine.package}/.*\.(?:py|so\.txt)"), cache)
    name = re.compile(rf"\b(?:{'|'.join(engine.prefixes)})[A-Z0-9_]+\b")
    variables = {found for text in texts.values() for found in name.findall(text) if not found.endswith("_")}
    other = [text for path, text in texts.items() if "/multimodal_gen/" in path]
    return variables, {found for text in other for found in re.findall(r"[\"'](--[a-z][\w-]+)[\"']", text)}


# --- tables


def document(
    name: str, engine: Engine, releases: Sequence[Release], elsewhere: tuple[set[str], set[str]] = (set(), set())
) -> dict[str, Any]:  # type: ignore[assignment]
    """The table of an engine, as it is written. `elsewhere`: see `read_anywhere`."""
    versions = [release.version for release in releases]
    lists = sorted({key for release in releases for key in release.lists})
    head: dict[str, Any] = {
        "engine": name,
        "read": datetime.date.today().isoformat(),
        "source": f"{engine.package} on the package index: the {'source archives' if engine.sdist else 'wheels'}' own argument parsers",
        "style": engine.style,
    }
    if engine.programs:
        head["programs"] = list(engine.programs)
    if engine.prefixes:
        head["prefixes"] = list(engine.prefixes)
    head["releases"] = versions
    head["names"] = {
        key: history.name_rows(
            versions, [r.lists.get(key, set()) for r in releases], [bool(r.lists.get(key)) for r in releases]
        )
        for key in lists
    }
    head["names_since"] = {
        key: next((r.version for r in releases if r.lists.get(key)), "")
        for key in lists
        if any(r.lists.get(key) for r in releases)
    }
    environment = [r.environment for r in releases]
    if any(environment):
        since = next(index for index, names in enumerate(environment) if names)
        head["environment_since"] = versions[since] if since else ""
        head["environment"] = history.name_rows(versions, environment, [True] * len(versions))
        if engine.declared_late:
            head["declared_late"] = True
    if elsewhere[0]:
        head["read_elsewhere"] = sorted(elsewhere[0] - (environment[-1] if environment else set()))
    spelled = {spelling for flag in releases[-1].flags for spelling in flag.spellings} if releases else set()
    if elsewhere[1] - spelled:
        head["flags_elsewhere"] = sorted(elsewhere[1] - spelled)
    head["rows"] = history.flag_rows(versions, [release.flags for release in releases])
    return head


def text_of(table: dict[str, Any]) -> str:
    """A table as text: one row a line, so that a refresh is a readable diff."""
    lines = []
    for key, value in table.items():
        if key == "rows":
            rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in value)
            lines.append(f'"rows": [\n{rows}\n]')
        elif isinstance(value, dict) and key in ("names", "environment"):
            inner = ",\n".join(f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in value.items())
            lines.append(f"{json.dumps(key)}: {{\n{inner}\n}}")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
    return "{" + ",\n".join(lines) + "}\n"


def main(arguments: list[str] | None = None) -> int:
    """The exit code of `refresh` in dataset/compat/refresh.py."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--tgi", metavar="CLONE", help="a clone of text-generation-inference, whose launcher is on no index"
    )
    options = index.asked(parser, ENGINES, arguments)
    cache = index.cache_folder().parent / "engines-refresh"

    def made(name: str) -> list[Any]:
        if name == "tgi":
            engine = Engine("text-generation-inference", "1.0.0", read_others.TGI, read_others.TgiReader, "clap")
            releases = releases_in_git(Path(options.tgi), "launcher/src/main.rs", read_others.TgiReader)
            table = document(name, engine, releases)
        else:
            engine = ENGINES[name]
            releases = releases_of(engine, cache, index.say)
            table = document(name, engine, releases, read_anywhere(engine, cache))
        return [index.Table(FOLDER / f"{name}.json", text_of(table), f"{len(releases)} releases")]

    names = options.names or ([] if options.tgi else ENGINES)
    return int(index.refresh([*(["tgi"] if options.tgi else []), *names], made, options.check))


if __name__ == "__main__":
    sys.exit(main())
