"""Writes llamafactory_templates.json anew: LLaMA-Factory's templates, and the one that its list of models pairs each model with.

Run it with a wheel of the package: `pip download --no-deps llamafactory`, then `python dataset/training/read_templates.py WHEEL DATE`,
DATE being the day of the release. Nothing of the package is run.
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
from typing import Any

CHATS = ("-Chat", "-Distill", "-Instruct", "-Thinking")
"""Parts of a model's name in the list that make it one that talks; others have no template (extras/constants.py)."""


def calls(text: str, name: str) -> Iterator[dict[str, ast.expr]]:
    """The keyword arguments of each call of a function at the top of a module."""
    for node in ast.parse(text).body:
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Call)
            and getattr(node.value.func, "id", "") == name
        ):
            yield {item.arg: item.value for item in node.value.keywords if item.arg}


def word(node: ast.expr | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def models(text: str) -> dict[str, str]:
    """Id on the Hub, in small letters → template."""
    found: dict[str, str] = {}
    for given in calls(text, "register_model_group"):
        template, listed = word(given.get("template")), given["models"]
        if not template or not isinstance(listed, ast.Dict):
            continue
        for key, places in zip(listed.keys, listed.values, strict=True):
            name = word(key)
            talks = "multimodal" in given or any(part in name for part in CHATS)
            for source, place in zip(places.keys, places.values, strict=True) if isinstance(places, ast.Dict) else ():
                if talks and getattr(source, "attr", "") == "DEFAULT" and word(place):
                    found[word(place).lower()] = template
    return dict(sorted(found.items()))


def main(wheel: str, day: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        texts = {
            name: archive.read(f"llamafactory/{name}").decode() for name in ("data/template.py", "extras/constants.py")
        }
    release = re.search(r"llamafactory-([\d.]+)-", os.path.basename(wheel))
    table: dict[str, Any] = {
        "package": "llamafactory",
        "release": release[1] if release else "",
        "date": day,
        "read": datetime.date.today().isoformat(),
        "source": "data/template.py and extras/constants.py of the wheel",
        "templates": sorted({word(given["name"]) for given in calls(texts["data/template.py"], "register_template")}),
        "models": models(texts["extras/constants.py"]),
    }
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "llamafactory_templates.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(table, file, indent=0, ensure_ascii=False)
        file.write("\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
