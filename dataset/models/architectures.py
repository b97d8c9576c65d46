"""Writes architectures.json anew: which classes of transformers belong to which model type.

Run it with an interpreter that has the newest transformers: `python dataset/models/architectures.py`. It reads the
tables of transformers/models/auto/modeling_auto.py, never a model.
"""

from __future__ import annotations

import datetime
import json
import os
from typing import Any


def rows() -> list[dict[str, Any]]:
    """A row per model type: its classes, in alphabetical order."""
    from transformers.models.auto import modeling_auto

    found: dict[str, set[str]] = {}
    for name, table in vars(modeling_auto).items():
        if not (name.endswith("_MAPPING_NAMES") and isinstance(table, dict)):
            continue
        for kind, classes in table.items():
            found.setdefault(kind, set()).update([classes] if isinstance(classes, str) else classes)
    return [{"type": kind, "classes": sorted(found[kind])} for kind in sorted(found)]


def main() -> None:
    """Write architectures.json beside this file."""
    import transformers

    place = os.path.join(os.path.dirname(os.path.abspath(__file__)), "architectures.json")
    with open(place, "w", encoding="utf-8") as file:
        head = {"source": f"https://pypi.org/project/transformers/{transformers.__version__}/"}
        head |= {"date": datetime.date.today().isoformat(), "note": "classes of the auto models"}
        file.write(json.dumps(head)[:-1] + ', "rows": [\n')
        file.write(",\n".join(json.dumps(row, separators=(",", ":")) for row in rows()))
        file.write("\n]}\n")


if __name__ == "__main__":
    main()
