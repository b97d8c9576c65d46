"""Whether the installed distributions are what each of them declares to need, judged for the target interpreter.

An environment declares some thousand requirements, most of them for extras that nobody asked for. Those are put aside
by their text; what is left is parsed once per wording.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from operator import eq, ge, gt, le, lt, ne
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace
from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from diagnose.sources.banner import KNOWN_PACKAGES, canonical
from diagnose.sources.distributions import Distribution
from diagnose.sources.interpreter import Interpreter

_REQUIREMENT = re.compile(
    r"\s*(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*"
    r"(?:\[(?P<extras>[^\]]*)\])?\s*"
    r"(?:@\s*(?P<url>\S+)|\(?(?P<wants>[^;()@]*)\)?)\s*"
    r"(?:;(?P<marker>.*))?"
)
_EXTRA = re.compile(r"\bextra\s*==")


Kind = Literal["missing", "conflict", "missing-elsewhere", "conflict-elsewhere"]


class Unmet(Struct, frozen=True):
    """A requirement that is not met: who asks, for what, which versions, what is there (`none`), and by which extra.

    The kind ends in `-elsewhere` where neither the packages of this field nor what they are built on asks. `newer` says
    that what is there is above all that is asked for.
    """

    package: str
    package_version: str
    name: str
    wants: str
    installed: str
    kind: Kind
    extra: str = ""
    metadata: str = ""
    newer: bool = False


class Unreadable(Struct, frozen=True):
    """A declared requirement that makes no sense, so that nothing can be said about it."""

    package: str
    text: str


def unmet_requirements(installed: Mapping[str, Distribution], interpreter: Interpreter) -> Iterator[Unmet | Unreadable]:
    """All declared requirements that are not met, in the order of the packages' names.

    Extras count where an installed distribution asks for them (`B[extra]` in A's requirements). A pre-release that is
    installed counts like its release (see `_met`); a local version (2.4.0+cu121) is ignored unless asked for.
    """
    environment = marker_environment(interpreter)
    extras = _extras(installed, environment)
    concerned = _concerned(installed)
    for name in sorted(installed):
        dist = installed[name]
        for text in dist.requires:
            for found in _unmet(dist, text, extras.get(name, frozenset()), installed, environment):
                if isinstance(found, Unmet) and name not in concerned:
                    kind: Kind = "missing-elsewhere" if found.kind == "missing" else "conflict-elsewhere"
                    yield replace(found, kind=kind)
                else:
                    yield found


_CORE = frozenset(["torch", "transformers", "tokenizers", "safetensors", "huggingface-hub", "vllm", "sglang", "llama-cpp-python"])  # fmt: skip
"""Who asks for one of these is of this field too."""
_LOADED_BESIDE = frozenset(["scipy", "scikit-learn", "pandas", "tensorflow", "numba", "sentence-transformers", "diffusers", "gradio"])  # fmt: skip
"""Nobody has to ask for these: transformers and others import them where they are installed."""


def _concerned(installed: Mapping[str, Distribution]) -> frozenset[str]:
    """The packages of this field, those that ask for them, and all that the former are built on. Extras do not count: they
    name whatever some release was ever used with."""
    asks = {
        name: {
            canonical(found["name"])
            for text in dist.requires
            if not _EXTRA.search(text) and (found := _REQUIREMENT.match(text))
        }
        for name, dist in installed.items()
    }
    reached: set[str] = set()
    waiting = [name for name in installed if name in KNOWN_PACKAGES or name in _LOADED_BESIDE]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += [other for other in asks[name] if other in installed]
    return frozenset(reached | {name for name, others in asks.items() if others & _CORE})


def _extras(installed: Mapping[str, Distribution], environment: dict[str, str]) -> dict[str, frozenset[str]]:
    """The extras of each distribution that others ask for, followed through until nothing is added."""
    wanted: dict[str, frozenset[str]] = {}
    asking = [dist for dist in installed.values() if any("[" in text.partition(";")[0] for text in dist.requires)]
    for _ in range(10):
        before = dict(wanted)
        for dist in asking:
            own = wanted.get(dist.name, frozenset())
            for text in dist.requires:
                if "[" not in text.partition(";")[0]:
                    continue
                found = _REQUIREMENT.fullmatch(text)
                if found and found["extras"] and _applies(found["marker"], own, environment) is not None:
                    names = frozenset(canonical(extra.strip()) for extra in found["extras"].split(",") if extra.strip())
                    target = canonical(found["name"])
                    wanted[target] = wanted.get(target, frozenset()) | names
        if wanted == before:
            break
    return wanted


def _unmet(
    dist: Distribution,
    text: str,
    extras: frozenset[str],
    installed: Mapping[str, Distribution],
    environment: dict[str, str],
) -> Iterator[Unmet | Unreadable]:
    if not extras and _EXTRA.search(text):
        return
    found = _REQUIREMENT.fullmatch(text)
    if found is None:
        yield Unreadable(dist.name, text[:200])
        return
    try:
        extra = _applies(found["marker"], extras, environment)
    except (InvalidMarker, UndefinedComparison, UndefinedEnvironmentName, InvalidVersion, KeyError, RecursionError):
        yield Unreadable(dist.name, text[:200])
        return
    if extra is None:
        return
    name = canonical(found["name"])
    wants = (found["wants"] or "").strip()
    other = installed.get(name)
    if other is None:
        yield Unmet(dist.name, dist.version, name, _shown(wants), "none", "missing", extra, dist.metadata)
        return
    if not wants or not other.version:
        return
    met = _met(dist.name, other.version, wants)
    if met is None:
        yield Unreadable(dist.name, text[:200])
    elif not met:
        newer = _above(other.version, wants)
        yield Unmet(
            dist.name, dist.version, name, _shown(wants), other.version, "conflict", extra, dist.metadata, newer
        )


def _met(package: str, version: str, wants: str) -> bool | None:
    """Whether an installed version is what a package asks for; None if either cannot be understood.

    Containers and builds from source carry the number of the release to come (2.9.0a0+nv25.10, 5.1.0.dev0), and are what
    that release's users ask for. transformers, which compares when it is imported, does so number by number.
    """
    met = satisfies(version, wants)
    if met is not False or not Version(version).is_prerelease:
        return met
    if package == "transformers":
        return all(_compares(Version(version), item.operator, item.version) for item in _specifiers(wants))
    return satisfies(Version(version).base_version, wants)


_COMPARED = {"<": lt, "<=": le, "==": eq, "!=": ne, ">=": ge, ">": gt}


def _compares(version: Version, operator: str, other: str) -> bool:
    try:
        return operator in _COMPARED and bool(_COMPARED[operator](version, Version(other)))
    except InvalidVersion:
        return False


def _above(version: str, wants: str) -> bool:
    """Whether a version is newer than all that is asked for."""
    tops = [item.version for item in _specifiers(wants) if item.operator in ("==", "<", "<=", "~=")]
    try:
        return bool(tops) and all(Version(version) >= Version(top.removesuffix(".*")) for top in tops)
    except InvalidVersion:
        return False


def _applies(marker: str | None, extras: frozenset[str], environment: dict[str, str]) -> str | None:
    """None if the requirement does not apply here; else the extra by which it does, or nothing if it always does."""
    if not marker or not marker.strip():
        return ""
    text = marker.strip()
    if not _EXTRA.search(text):
        return "" if _holds(text, "", _key(environment)) else None
    if _holds(text, "", _key(environment)):
        return ""
    return next((extra for extra in sorted(extras) if _holds(text, extra, _key(environment))), None)


def _key(environment: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(environment.items())


@lru_cache(maxsize=8192)
def _holds(marker: str, extra: str, environment: tuple[tuple[str, str], ...]) -> bool:
    return _marker(marker).evaluate({**dict(environment), "extra": extra})


@lru_cache(maxsize=4096)
def _marker(text: str) -> Marker:
    return Marker(text)


@lru_cache(maxsize=8192)
def satisfies(version: str, wants: str) -> bool | None:
    """Whether a version is in a set of specifiers (`>=0.22,<0.24`); None if either cannot be understood."""
    try:
        specifiers = _specifiers(wants)
        return specifiers.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return True if wants.strip() == f"==={version}" else None
    except (InvalidSpecifier, ValueError):
        return None


@lru_cache(maxsize=8192)
def _specifiers(text: str) -> SpecifierSet:
    return SpecifierSet(text)


def _shown(wants: str) -> str:
    """The specifiers in one spelling, lower bounds first and without blanks: `>=0.19,<0.20`."""
    return ",".join(sorted((part.strip().replace(" ", "") for part in wants.split(",") if part.strip()), reverse=True))


def marker_environment(interpreter: Interpreter) -> dict[str, str]:
    """The values of environment markers inside the target interpreter, on this machine."""
    uname = os.uname()
    version = interpreter.version or interpreter.short
    full = version if version.count(".") >= 2 else f"{version}.0" if version else ""
    return {
        "implementation_name": "cpython" if interpreter.implementation == "CPython" else "pypy",
        "implementation_version": full,
        "os_name": "posix",
        "platform_machine": interpreter.machine or uname.machine,
        "platform_release": uname.release,
        "platform_system": uname.sysname,
        "platform_version": uname.version,
        "python_full_version": full,
        "platform_python_implementation": interpreter.implementation,
        "python_version": interpreter.short,
        "sys_platform": uname.sysname.lower(),
    }


def python_unmet(dist: Distribution, interpreter: Interpreter) -> bool:
    """Whether a distribution says that it does not work with the target's Python version."""
    version = interpreter.version
    if not dist.requires_python or not version:
        return False
    if version.count(".") < 2 and not _same_for_all_patches(dist.requires_python, version):
        return False
    return satisfies(version, dist.requires_python) is False


def _same_for_all_patches(wants: str, series: str) -> bool:
    """Whether every release of a series (3.11) gets the same answer, so that the patch number need not be known."""
    return satisfies(f"{series}.0", wants) == satisfies(f"{series}.99", wants)
