"""Writes torchtune_components.json anew: the names that `_component_` can have, by module.

Run it with a wheel of the package: `pip download --no-deps torchtune`, then `python dataset/training/read_components.py WHEEL`. Nothing
of the package is run: what a module defines, assigns and imports is what it has.
"""

from __future__ import annotations

import ast
import datetime
import json
import os
import re
import sys
import zipfile
from collections.abc import Iterator


def names(text: str) -> Iterator[str]:
    """What stands at the top of a module, without what only its own code uses."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.col_offset == 0:
            yield node.name
        elif isinstance(node, ast.Assign) and node.col_offset == 0:
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.ImportFrom) and node.module not in ("typing", "__future__"):
            yield from (alias.asname or alias.name for alias in node.names)


def main(wheel: str) -> None:
    found: dict[str, list[str]] = {}
    with zipfile.ZipFile(wheel) as archive:
        for path in sorted(archive.namelist()):
            if path.startswith("torchtune/") and path.endswith(".py") and "/_cli/" not in path:
                module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
                if kept := sorted({name for name in names(archive.read(path).decode()) if not name.startswith("__")}):
                    found[module] = kept
    release = re.search(r"torchtune-([\d.]+)-", os.path.basename(wheel))
    table = {
        "package": "torchtune",
        "release": release[1] if release else "",
        "read": datetime.date.today().isoformat(),
        "source": "the modules in the wheel",
        "components": found,
    }
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "torchtune_components.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(table, file)
        file.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
