"""JSON: the documented contract, for machines. Its schema is docs/diagnosis.schema.json."""

from __future__ import annotations

from typing import Any

import msgspec

from diagnose.model import Diagnosis


def write(diagnosis: Diagnosis) -> str:
    """One JSON object, indented, with a newline at its end."""
    return msgspec.json.format(msgspec.json.encode(diagnosis), indent=2).decode() + "\n"


def schema() -> dict[str, Any]:
    """The JSON Schema of what `write` gives."""
    made = msgspec.json.schema(Diagnosis)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A diagnosis by llmdoctor", **made}
