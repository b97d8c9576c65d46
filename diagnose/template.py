"""`{{name}}` in the texts of a rule → the values of this case."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from diagnose.predicate import Value

_TEMPLATE = re.compile(r"\{\{\s*([\w.*-]+)\s*(?:\|([^}]*))?\}\}")
_SAFE = re.compile(r"^[\w./:@%+=,~-]+$")


def render(text: str, values: Mapping[str, Value]) -> str:
    """A sentence with its values; what is not known is shown by its fallback, or as `<name>`."""

    def fill(found: re.Match[str]) -> str:
        value = values.get(found[1])
        if value is None or value == "":
            return found[2].strip() if found[2] is not None else f"<{found[1].rsplit('.', 1)[-1]}>"
        return str(value)

    return _TEMPLATE.sub(fill, text) if "{{" in text else text


def render_command(text: str, values: Mapping[str, Value]) -> str:
    """A command with its values. A value that a shell could take for more than a word is quoted."""
    safe = {name: value if not isinstance(value, str) or _SAFE.match(value) else shlex.quote(value) for name, value in values.items()}
    return render(text, safe)
