"""Code that a model brings of its own: which files its config names in auto_map, and whether they are there.

Nothing of it is imported or run; its text is searched for the packages that it imports.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from diagnose.model import Fact
from diagnose.sources import files
from diagnose.sources.checkpoint.where import Found

MOST_FILES = 20
MOST_BYTES = 2 << 20
_IMPORT = re.compile(r"^from \.(\w+) import ", re.MULTILINE)
"""An import from beside the file; those inside `try` or `if` are indented, and may fail."""


def facts(config: Mapping[str, Any], found: Found, origin: str) -> Iterator[Fact]:
    """`remote_code.*`: told only where the config has an auto_map."""
    told = config.get("auto_map")
    if not isinstance(told, dict) or not told:
        return
    own, elsewhere = _named(told)
    yield Fact("remote_code.files", len(own), origin)
    missing = [name for name in own if not os.path.isfile(os.path.join(found.folder, name))]
    yield Fact("remote_code.missing", ", ".join(missing)[:300] or "none", origin)
    if elsewhere:
        yield Fact("remote_code.repository", elsewhere[0][:200], origin)
    further = sorted(_relative(found.folder, own) - set(own))
    gone = [name for name in further if not os.path.isfile(os.path.join(found.folder, name))]
    if gone:
        yield Fact("remote_code.imports_missing", ", ".join(gone)[:300], origin)


def _named(told: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The files of the folder that auto_map names, and the other repositories that it names."""
    own: dict[str, None] = {}
    elsewhere: dict[str, None] = {}
    for value in told.values():
        for one in value if isinstance(value, list) else [value]:
            if not isinstance(one, str) or not re.fullmatch(r"(?:[\w.-]+/[\w.-]+--)?[\w.]+\.\w+", one):
                continue
            repository, there, reference = one.rpartition("--")
            if there:
                elsewhere[repository] = None
            else:
                own[reference.rpartition(".")[0].replace(".", "/") + ".py"] = None
    return list(own)[:MOST_FILES], list(elsewhere)


def _relative(folder: str, names: list[str]) -> set[str]:
    """The files that these import from beside them."""
    found = set()
    for name in names:
        text = files.read_text(os.path.join(folder, name), MOST_BYTES) or ""
        found |= {told[1] + ".py" for told in _IMPORT.finditer(text)}
    return found
