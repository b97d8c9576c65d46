"""Writes adapters.json anew: which release of peft first knows each adapter type, and each key of LoraConfig.

Run it as `python dataset/models/adapters.py FOLDER`, a folder that holds one unpacked wheel of peft per release (its
name ends with the version). The sources are parsed, never run.
"""

from __future__ import annotations

import ast
import datetime
import json
import os
import sys
from typing import Any

from packaging.version import Version


def main() -> None:
    """Write adapters.json beside this file."""
    folders = {Version(name.rpartition("-")[2]): os.path.join(sys.argv[1], name) for name in os.listdir(sys.argv[1]) if not name.endswith(".whl")}  # fmt: skip
    releases = sorted(folders)
    keys, types = {}, {}
    for release in releases:
        for key in _lora_keys(folders[release]):
            keys.setdefault(key, _minor(release))
        for name in _types(folders[release]):
            types.setdefault(name, _minor(release))
    place = os.path.join(os.path.dirname(os.path.abspath(__file__)), "adapters.json")
    found: dict[str, Any] = {
        "source": "https://pypi.org/project/peft/",
        "date": datetime.date.today().isoformat(),
        "note": "first minor release of these that knows it; what the oldest knows may be older",
        "releases": [_minor(release) for release in releases],
        "types": types,
        "lora_keys": keys,
    }
    with open(place, "w", encoding="utf-8") as file:
        file.write(json.dumps(found, indent=1) + "\n")


def _minor(release: Version) -> str:
    """The first release of a minor one: what came is new there, whichever of its patches was read."""
    return f"{release.major}.{release.minor}.0"


def _lora_keys(folder: str) -> list[str]:
    return _fields(os.path.join(folder, "peft", "tuners", "lora", "config.py"), {"LoraConfig"}) + _fields(
        os.path.join(folder, "peft", "config.py"), {"PeftConfigMixin", "PeftConfig"}
    )


def _fields(path: str, classes: set[str]) -> list[str]:
    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    return [
        item.target.id
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name in classes
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    ]


def _types(folder: str) -> list[str]:
    with open(os.path.join(folder, "peft", "utils", "peft_types.py"), encoding="utf-8") as file:
        tree = ast.parse(file.read())
    return [
        item.value.value
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == "PeftType"
        for item in node.body
        if isinstance(item, ast.Assign) and isinstance(item.value, ast.Constant) and isinstance(item.value.value, str)
    ]


if __name__ == "__main__":
    main()
