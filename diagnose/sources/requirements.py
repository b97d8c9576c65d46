"""Whether the installed distributions are what each of them declares to need, judged for the target interpreter.

An environment declares some thousand requirements, most of them for extras that nobody asked for. Those are put aside
by their text; what is left is parsed once per wording.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Literal

from msgspec import Struct
from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from diagnose.sources.banner import canonical
from diagnose.sources.distributions import Distribution
from diagnose.sources.interpreter import Interpreter

_REQUIREMENT = re.compile(
    r"\s*(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*"
    r"(?:\[(?P<extras>[^\]]*)\])?\s*"
    r"(?:@\s*(?P<url>\S+)|\(?(?P<wants>[^;()@]*)\)?)\s*"
    r"(?:;(?P<marker>.*))?"
)
_EXTRA = re.compile(r"\bextra\s*==")


class Unmet(Struct, frozen=True):
    """A requirement that is not met: who asks, for what, which versions, what is there (`none`), and by which extra."""

    package: str
    package_version: str
    name: str
    wants: str
    installed: str
    kind: Literal["missing", "conflict"]
    extra: str = ""
    metadata: str = ""


class Unreadable(Struct, frozen=True):
    """A declared requirement that makes no sense, so that nothing can be said about it."""

    package: str
    text: str


def unmet_requirements(installed: Mapping[str, Distribution], interpreter: Interpreter) -> Iterator[Unmet | Unreadable]:
    """All declared requirements that are not met, in the order of the packages' names.

    Extras count where an installed distribution asks for them (`B[extra]` in A's requirements). A pre-release that is
    installed counts as a version like another; a local version (2.4.0+cu121) is ignored unless asked for.
    """
    environment = marker_environment(interpreter)
    extras = _extras(installed, environment)
    for name in sorted(installed):
        dist = installed[name]
        for text in dist.requires:
            yield from _unmet(dist, text, extras.get(name, frozenset()), installed, environment)


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
    met = satisfies(other.version, wants)
    if met is None:
        yield Unreadable(dist.name, text[:200])
    elif not met:
        yield Unmet(dist.name, dist.version, name, _shown(wants), other.version, "conflict", extra, dist.metadata)


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
