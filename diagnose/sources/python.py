"""The target's Python environment: interpreter, packages, CUDA libraries, compiled extensions. Read, never imported.

The parts are read one after the other, and one that fails costs only itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct

from diagnose.model import Fact, Reading, Step, Unchecked
from diagnose.sources.banner import canonical
from diagnose.sources.distributions import (
    Distribution,
    Record,
    Site,
    missing_files,
    read_record,
    read_site,
    read_wheel,
    wrong_tags,
)
from diagnose.sources.files import names_in, why_unreadable
from diagnose.sources.interpreter import Interpreter, describe
from diagnose.sources.interpreter import find_interpreter as find_interpreter

MOST_UNMET = 100
MOST_GROUPS = 50
"""How many of one kind of trouble are told; the count is told in full."""

# Packages of which it matters who installed them, and from where.
_MATTER = frozenset(["torch", "torchvision", "torchaudio", "triton", "transformers", "tokenizers", "huggingface-hub", "safetensors", "accelerate", "peft", "trl", "datasets", "bitsandbytes", "auto-gptq", "gptqmodel", "autoawq", "optimum", "torchao", "flash-attn", "flash-attn-3", "flashinfer-python", "xformers", "vllm", "sglang", "sgl-kernel", "lmdeploy", "deepspeed", "ray", "numpy", "protobuf", "pydantic", "llama-cpp-python", "transformer-engine"])  # fmt: skip
# The versions of these are looked up by transformers whenever it is imported.
CHECKED_AT_IMPORT = frozenset(["tokenizers", "huggingface-hub", "safetensors", "regex", "tqdm", "packaging", "filelock", "numpy", "pyyaml", "requests", "accelerate"])  # fmt: skip
# What many packages bring without meaning it, and namespaces that are shared on purpose.
_SHARED = frozenset(["tests", "test", "docs", "doc", "examples", "example", "scripts", "benchmarks", "benchmark", "src", "tools", "utils", "conftest.py", "setup.py", "build_backend.py", "py", "py.py", "nvidia", "google", "mpl_toolkits", "zope", "backports", "azure", "sphinxcontrib", "jaraco", "ruamel", "__init__.py", "test_requests.py"])  # fmt: skip
_CONDA_NAMES = {"pytorch": "torch", "pytorch-gpu": "torch", "pytorch-cpu": "torch", "python-flatbuffers": "flatbuffers"}


class _Environment(Struct, frozen=True):
    """Everything that was read of the packages: the folders in the order of sys.path, and who wins under each name."""

    sites: tuple[Site, ...]
    installed: dict[str, Distribution]
    records: dict[str, Record]

    @property
    def complete(self) -> bool:
        """Whether every folder could be listed, so that what was not found is not there."""
        return bool(self.sites) and not any(site.unchecked and not site.entries for site in self.sites)


def read(interpreter: str, environ: Mapping[str, str], folder: str) -> Iterator[Reading]:
    """Facts of the environment that an interpreter belongs to. `folder` is the working directory, for shadowed modules."""
    yield Step(f"looking at {interpreter}")
    target = describe(interpreter, environ)
    yield from _guarded("the interpreter", _interpreter_facts(target))
    yield from _guarded("PYTHONPATH", _python_path_facts(target, environ))
    yield Step("reading the installed packages")
    environment = read_environment(target, environ)
    for site in environment.sites:
        yield from site.unchecked
    if not environment.sites:
        yield Unchecked("the installed packages", _why_no_packages(target))
    yield from _guarded("the installed packages", _package_facts(environment, target))
    yield from _guarded("leftovers of packages", _leftover_facts(environment))
    yield from _guarded("duplicate packages", _duplicate_facts(environment))
    yield from _guarded("overlapping packages", _overlap_facts(environment))
    yield from _guarded("packages of the user", _user_site_facts(environment, target))
    yield from _guarded("conda's packages", _conda_facts(environment, target))
    yield Step("checking declared requirements")
    yield from _guarded("declared requirements", _requirement_facts(environment, target))
    yield Step("looking for files that hide modules")
    yield from _guarded("shadowed modules", _shadow_facts(environment, target, environ, folder))
    yield Step("reading how torch was built")
    yield from _guarded("CUDA libraries and compiled extensions", _compiled_facts(environment, target, environ))


def _guarded(what: str, readings: Iterable[Reading]) -> Iterator[Reading]:
    """The readings of one part; what it stumbles over is told and costs the rest of that part only."""
    try:
        yield from readings
    except Exception as error:
        yield Unchecked(what, f"{type(error).__name__}: {error}"[:300])


# --- the interpreter


def _interpreter_facts(target: Interpreter) -> Iterator[Reading]:
    origin = target.path
    yield Fact("python.path", target.path, origin)
    yield Fact("python.kind", target.kind, origin)
    yield Fact("python.implementation", target.implementation, origin)
    yield Fact("python.prefix", target.prefix, origin)
    for name, text in (
        ("version", target.version),
        ("abi", target.abi),
        ("machine", target.machine),
        ("base", target.base if target.base != target.prefix else ""),
        ("created_with", target.created_with),
        ("gone", target.gone),
    ):
        if text:
            yield Fact(f"python.{name}", text, origin)
    if not target.version:
        yield Unchecked("the version of Python", f"nothing around {target.path} tells it")
    yield Fact("python.bits", target.bits, origin)
    yield Fact("python.free_threaded", target.free_threaded, origin)
    yield Fact("python.system_site", target.system_site, origin)
    yield Fact("python.externally_managed", target.externally_managed, origin)
    series = ".".join(target.created_with.split(".")[:2])
    if series and target.short and series != target.short:
        yield Fact("python.moved", True, os.path.join(target.prefix, "pyvenv.cfg"))
    ours = os.uname().machine
    if target.machine:
        same = {target.machine, ours} in ({"arm64", "aarch64"}, {target.machine})
        yield Fact("python.other_machine", not same, origin)


def _why_no_packages(target: Interpreter) -> str:
    if not target.short:
        return f"no lib/python3.x folder was found below {target.prefix}"
    folder = os.path.join(target.prefix, "lib", f"python{target.short}", "site-packages")
    return f"{folder}: {why_unreadable(folder) or 'not there'}"


_SITE_PATH = re.compile(r"/(?:lib|lib64)/(?:python|pypy)(\d\.\d+)t?/(?:site|dist)-packages/?$")


def _python_path_facts(target: Interpreter, environ: Mapping[str, str]) -> Iterator[Reading]:
    """PYTHONPATH's folders: those of another environment or another Python stand before the own packages."""
    entries = python_path(environ)
    own = {os.path.realpath(site) for site in target.sites}
    number = 0
    for path in entries[:MOST_GROUPS]:
        found = _SITE_PATH.search(os.path.realpath(path)) or _SITE_PATH.search(path)
        if found is None or os.path.realpath(path) in own or not os.path.isdir(path):
            continue
        yield Fact(f"pythonpath.{number}.path", path, "PYTHONPATH")
        yield Fact(f"pythonpath.{number}.python", found[1], "PYTHONPATH")
        if target.short:
            yield Fact(f"pythonpath.{number}.other_python", found[1] != target.short, "PYTHONPATH")
        number += 1


def python_path(environ: Mapping[str, str]) -> list[str]:
    """The folders of PYTHONPATH, in order; an empty one means the working directory and is left out."""
    return list(dict.fromkeys(path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path))


# --- packages


def read_environment(target: Interpreter, environ: Mapping[str, str]) -> _Environment:
    """Read all folders with packages, in the order of sys.path: PYTHONPATH, the sites, and what their .pth files add."""
    sites: list[Site] = []
    seen: set[str] = set()

    def take(folder: str) -> tuple[str, ...]:
        real = os.path.realpath(folder)
        if real not in seen and len(seen) < 200:
            seen.add(real)
            sites.append(read_site(folder))
            return sites[-1].added
        return ()

    for folder in python_path(environ):
        if os.path.isdir(folder):
            take(folder)
    for folder in target.sites:
        for added in take(folder)[:100]:
            take(added)
    installed: dict[str, Distribution] = {}
    for site in sites:
        for dist in site.distributions:
            known = installed.get(dist.name)
            if known is None or (not known.version and dist.version):
                installed[dist.name] = dist
    records = {name: record for name, dist in installed.items() if (record := read_record(dist)) is not None}
    return _Environment(tuple(sites), installed, records)


def _package_facts(environment: _Environment, target: Interpreter) -> Iterator[Reading]:
    if environment.complete:
        yield Fact("packages.count", len(environment.installed), ", ".join(target.sites) or target.prefix)
    for name in sorted(environment.installed):
        dist = environment.installed[name]
        if dist.version:
            yield Fact(f"{name}.version", dist.version, dist.metadata)
    entries = {site.folder: site.entries for site in environment.sites}
    asked = _asked_at_import(environment)
    for name in sorted(environment.installed):
        dist = environment.installed[name]
        checked = name in asked
        yield from _facts_of(dist, environment.records.get(name), entries.get(dist.site, frozenset()), target, checked)


def _asked_at_import(environment: _Environment) -> frozenset[str]:
    """The packages whose versions the installed transformers compares when it is imported: of CHECKED_AT_IMPORT those that
    it requires (requests no more since 5), and accelerate."""
    transformers = environment.installed.get("transformers")
    if transformers is None:
        return frozenset()
    plain = (text for text in transformers.requires if "extra" not in text.partition(";")[2])
    required = {canonical(re.split(r"[^\w.-]", text.strip(), maxsplit=1)[0]) for text in plain}
    return CHECKED_AT_IMPORT & (required | {"accelerate"})


def _facts_of(
    dist: Distribution, record: Record | None, entries: frozenset[str], target: Interpreter, checked: bool
) -> Iterator[Reading]:
    head = f"package.{dist.name}"
    if dist.broken and dist.broken != "not readable":
        yield Fact(f"{head}.broken", dist.broken, dist.metadata)
        if checked:
            yield Fact(f"{head}.version_checked_by", "transformers", dist.metadata)
    if dist.name in _MATTER:
        yield Fact(f"{head}.location", dist.site, dist.metadata)
        if dist.installer:
            yield Fact(f"{head}.installer", dist.installer, dist.metadata)
    if dist.url and (dist.name in _MATTER or dist.editable):
        yield Fact(f"{head}.source", _plain_url(dist.url), dist.metadata)
    if dist.editable:
        yield Fact(f"{head}.editable", True, dist.metadata)
        if not os.path.isdir(dist.editable):
            yield Fact(f"{head}.source_gone", dist.editable, dist.metadata)
    if record is not None and not dist.editable:
        yield from _missing_facts(dist, record, entries)
    tags = read_wheel(dist)
    why = wrong_tags(tags, target.abi, target.machine)
    if why:
        yield Fact(f"{head}.wheel", tags[0], os.path.join(dist.folder, "WHEEL"))
        yield Fact(f"{head}.wrong_wheel", why, os.path.join(dist.folder, "WHEEL"))


def _plain_url(url: str) -> str:
    """An address without the user and password that may stand in it."""
    return re.sub(r"//[^/@\s]*@", "//", url)


def _missing_facts(dist: Distribution, record: Record, entries: frozenset[str]) -> Iterator[Fact]:
    missing = [path for path in missing_files(dist, record, entries) if not _is_by_the_way(path)]
    modules = [path for path in missing if path.endswith(".py")]
    libraries = [path for path in missing if not path.endswith(".py")]
    origin = os.path.join(dist.folder, "RECORD")
    head = f"package.{dist.name}"
    if modules:
        yield Fact(f"{head}.missing_module", modules[0], origin)
    if libraries:
        yield Fact(f"{head}.missing_library", libraries[0], origin)
    if missing:
        yield Fact(f"{head}.missing_count", len(missing), origin)


def _is_by_the_way(path: str) -> bool:
    """Whether a file is none that a package needs: its tests, which images are slimmed by, or a top-level `tests` that
    several packages bring and the removal of one takes from all."""
    first, _, rest = path.partition("/")
    return (first in _SHARED - {"nvidia", "google"}) or bool(re.search(r"(?:^|/)_?tests?/|_tests?\b", rest))


def _leftover_facts(environment: _Environment) -> Iterator[Reading]:
    """Folders that begin with `~`: pip renames what it removes, and did not come to the end."""
    found = [(site.folder, name) for site in environment.sites for name in sorted(site.leftovers)]
    if found:
        yield Fact("leftover.count", len(found), found[0][0])
    for number, (folder, name) in enumerate(found[:MOST_GROUPS]):
        path = os.path.join(folder, name)
        yield Fact(f"leftover.{number}.name", name, path)
        yield Fact(f"leftover.{number}.path", path, path)
        package = _whose(name, environment)
        if package:
            yield Fact(f"leftover.{number}.package", package, path)
            yield Fact(f"leftover.{number}.package_gone", package not in environment.installed, path)


def _whose(leftover: str, environment: _Environment) -> str:
    """The distribution that `~ransformers` or `~ransformers-4.57.1.dist-info` is left of: one that is installed, required
    by one that is, or well known. Nothing if it is none of them."""
    tail = canonical(leftover[1:].partition("-")[0])
    required = (
        re.split(r"[^\w.-]", text, maxsplit=1)[0] for dist in environment.installed.values() for text in dist.requires
    )
    for name in (*environment.installed, *sorted(_MATTER), *(canonical(name) for name in required)):
        if name[1:] == tail:
            return name
    return ""


def _duplicate_facts(environment: _Environment) -> Iterator[Reading]:
    """Several dist-infos of one distribution in one folder: an upgrade that was not finished, or files copied over others."""
    for site in environment.sites:
        groups: dict[str, list[Distribution]] = {}
        for dist in site.distributions:
            groups.setdefault(dist.name, []).append(dist)
        for name, dists in sorted(groups.items()):
            versions = list(dict.fromkeys(dist.version or "without version" for dist in dists))
            if len(dists) > 1 and len(versions) > 1:
                yield Fact(f"duplicate.{name}.versions", ", ".join(versions), dists[0].folder)
                yield Fact(f"duplicate.{name}.count", len(dists), dists[0].folder)
                yield Fact(f"duplicate.{name}.used", versions[0], dists[0].folder)
                yield Fact(
                    f"duplicate.{name}.folders", ", ".join(os.path.basename(d.folder) for d in dists), site.folder
                )


def _overlap_facts(environment: _Environment) -> Iterator[Reading]:
    """Distributions that bring the same file with different contents: the one installed last has overwritten it."""
    claims: dict[tuple[str, str], list[str]] = {}
    for name, record in sorted(environment.records.items()):
        site = environment.installed[name].site
        own = (path for path in record.modules if path.partition("/")[0] not in _SHARED)
        for path in (*own, *record.libraries):
            claims.setdefault((site, _claimed(path)), []).append(name)
    told: dict[tuple[str, ...], str] = {}
    for (_, path), names in claims.items():
        if len(names) < 2:
            continue
        different = {
            environment.records[name].checksums.get(_as_listed(path, environment.records[name]), "") for name in names
        }
        if len(different) > 1 and "" not in different:
            told.setdefault(tuple(names), path)
    for number, (packages, path) in enumerate(sorted(told.items())[:MOST_GROUPS]):
        origin = os.path.join(environment.installed[packages[0]].folder, "RECORD")
        yield Fact(f"overlap.{number}.packages", " and ".join(packages), origin)
        yield Fact(f"overlap.{number}.first", packages[0], origin)
        yield Fact(f"overlap.{number}.second", packages[1], origin)
        yield Fact(f"overlap.{number}.file", path, origin)
        yield Fact(f"overlap.{number}.module", path.partition("/")[0].removesuffix(".py"), origin)


def _claimed(path: str) -> str:
    """What a file claims: a module `x.py` and a package `x/__init__.py` are the same to an import."""
    return f"{path[:-3]}/__init__.py" if path.endswith(".py") and "/" not in path else path


def _as_listed(path: str, record: Record) -> str:
    if path in record.checksums:
        return path
    return path.removesuffix("/__init__.py") + ".py"


def _user_site_facts(environment: _Environment, target: Interpreter) -> Iterator[Reading]:
    """Packages of ~/.local that the interpreter sees, and those of the environment that they hide."""
    if not target.user_site:
        return
    own = next((site for site in environment.sites if site.folder == target.user_site), None)
    if own is None or not own.distributions:
        return
    yield Fact("python.user_site", target.user_site, target.path)
    yield Fact("python.user_site_count", len(own.distributions), target.user_site)
    later = environment.sites[environment.sites.index(own) + 1 :]
    number = 0
    for dist in sorted(own.distributions, key=lambda dist: (dist.name not in _MATTER, dist.name)):
        hidden = next((other for site in later for other in site.distributions if other.name == dist.name), None)
        if environment.installed.get(dist.name) is not dist or number >= MOST_GROUPS:
            continue
        if dist.name in _MATTER:
            yield Fact(f"user_site.{dist.name}.version", dist.version, dist.metadata)
        if hidden is not None and hidden.version != dist.version:
            yield Fact(f"user_site.{dist.name}.hides", hidden.version or "none", hidden.metadata)
            number += 1


def _conda_facts(environment: _Environment, target: Interpreter) -> Iterator[Reading]:
    """Packages that conda installed and pip then replaced: conda's records no longer tell what is there."""
    folder = os.path.join(target.prefix, "conda-meta")
    if target.kind != "conda":
        return
    names = names_in(folder)
    if names is None:
        yield Unchecked("conda's records", why_unreadable(folder))
        return
    count = 0
    for entry in names:
        found = re.fullmatch(r"([\w.-]+)-([^-]+)-[^-]+\.json", entry)
        if not found:
            continue
        count += 1
        name = _CONDA_NAMES.get(found[1].lower(), found[1].lower().replace("_", "-").replace(".", "-"))
        dist = environment.installed.get(name)
        if dist is None or not dist.version or not dist.folder.startswith(target.prefix):
            continue
        if dist.installer and dist.installer != "conda" and dist.version.partition("+")[0] != found[2]:
            yield Fact(f"conda.{name}.conda_version", found[2], os.path.join(folder, entry))
            yield Fact(f"conda.{name}.pip_version", dist.version, dist.metadata)
            yield Fact(f"conda.{name}.installer", dist.installer, dist.metadata)
    yield Fact("conda.count", count, folder)


def _requirement_facts(environment: _Environment, target: Interpreter) -> Iterator[Reading]:
    from diagnose.sources.requirements import Unmet, python_unmet, unmet_requirements

    if not target.short:
        yield Unchecked("declared requirements", "the version of Python is not known")
        return
    if environment.sites and not environment.complete:
        yield Unchecked("declared requirements", "not all folders with packages could be listed")
        return
    number = 0
    for found in unmet_requirements(environment.installed, target):
        if not isinstance(found, Unmet):
            continue
        if number < MOST_UNMET:
            head, origin = f"unmet.{number}", found.metadata
            yield Fact(f"{head}.package", found.package, origin)
            yield Fact(f"{head}.package_version", found.package_version, origin)
            yield Fact(f"{head}.name", found.name, origin)
            yield Fact(f"{head}.wants", found.wants or "any version", origin)
            yield Fact(f"{head}.requirement", found.name + found.wants, origin)
            yield Fact(f"{head}.installed", found.installed, origin)
            yield Fact(f"{head}.kind", found.kind, origin)
            yield Fact(f"{head}.pair", f"{found.package} {found.name}", origin)
            yield Fact(f"{head}.newer", found.newer, origin)
            if found.extra:
                yield Fact(f"{head}.extra", found.extra, origin)
        number += 1
    yield Fact("unmet.count", number, ", ".join(target.sites))
    for name, dist in sorted(environment.installed.items()):
        if python_unmet(dist, target):
            yield Fact(f"package.{name}.python_unmet", dist.requires_python, dist.metadata)


# --- shadowed modules


def _shadow_facts(
    environment: _Environment, target: Interpreter, environ: Mapping[str, str], folder: str
) -> Iterator[Reading]:
    from diagnose.sources.shadows import find_shadows

    sites = [site.folder for site in environment.sites if site.distributions]
    places = ["" if environ.get("PYTHONSAFEPATH") else folder, *python_path(environ)]
    shadows = find_shadows([place for place in places if place], environment.installed, target, sites)
    for number, shadow in enumerate(shadows):
        if number >= MOST_GROUPS:
            return
        head = f"shadow.{number}"
        yield Fact(f"{head}.module", shadow.module, shadow.path)
        yield Fact(f"{head}.path", shadow.path, shadow.path)
        yield Fact(f"{head}.kind", shadow.kind, shadow.path)
        yield Fact(f"{head}.hides", shadow.hides, shadow.path)
        yield Fact(f"{head}.standard", shadow.standard, shadow.path)
        yield Fact(f"{head}.checkout", shadow.checkout, shadow.path)


# --- torch, CUDA, extensions


def _compiled_facts(environment: _Environment, target: Interpreter, environ: Mapping[str, str]) -> Iterator[Reading]:
    from diagnose.sources import torch_build
    from diagnose.sources.extensions import bitsandbytes_facts, extension_facts, find_extensions
    from diagnose.sources.libraries import Loader

    sites = [site.folder for site in environment.sites]
    yield from _guarded("the CUDA toolkit", torch_build.toolkit_facts(environ))
    yield from torch_build.wheel_facts(environment.installed)
    dist = environment.installed.get("torch")
    build = torch_build.read_build(_torch_folder(dist)) if dist is not None else None
    if dist is not None and build is None:
        yield Unchecked("how torch was built", f"{_torch_folder(dist)}/version.py is not there")
    loader = Loader(target.real, environ)
    loaded, abi = None, None
    try:
        if build is not None:
            yield from torch_build.build_facts(build)
            abi = torch_build.cxx11_abi(build.folder)
            if abi is not None:
                yield Fact("torch.cxx11_abi", abi, os.path.join(build.folder, "lib", "libc10.so"))
            yield Step("following the libraries that torch loads")
            if torch_build.extension_file(build.folder) and not loader.unlike:
                loaded = torch_build.load_torch(build, loader, sites)
                yield from _guarded("torch's libraries", torch_build.library_facts(loaded, sites, loader.library_path))
        extensions = {
            name: files
            for name, record in environment.records.items()
            if record.libraries and name != "torch"
            for files in [find_extensions(environment.installed[name], record, target)]
            if files
        }
        if extensions and loader.unlike:
            yield Unchecked("compiled extensions", loader.unlike)
        else:
            yield from _guarded("compiled extensions", extension_facts(extensions, loader, loaded, build, abi))
    finally:
        loader.close()
    bnb = environment.installed.get("bitsandbytes")
    if bnb is not None:
        yield from _guarded("bitsandbytes", bitsandbytes_facts(bnb, build, environ))


def _torch_folder(dist: Distribution) -> str:
    root = dist.editable if dist.editable else dist.site
    return os.path.join(root, "torch")
