"""The commands of a fix, written for the environment that was looked at: its own interpreter, and uv where it has no pip."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from diagnose.predicate import Value

_START = r"(?m)(?P<before>^\s*|(?:&&|\|\||;|\|)\s*)"
_PIP = re.compile(_START + r"(?:python3? -m )?pip3? (?P<verb>install|uninstall|show|check|list|freeze)\b")
_OTHER_PIP = re.compile(_START + r"(?:python3? -m )?pip3? (?=[a-z])")
_PYTHON = re.compile(_START + r"python3? (?=-)")


def for_environment(command: str, values: Mapping[str, Value]) -> str:
    """A command with `pip` and `python` of the environment in `values`; as it is, if none is known or it is the shell's own.

    In an environment without pip that uv made, `pip install` becomes `uv pip install --python PATH`.
    """
    path = str(values.get("python.path", ""))
    if not path or not command:
        return command
    word = shlex.quote(path)
    without_pip = values.get("python.kind") == "uv" and "pip.version" not in values
    if without_pip:
        command = _PIP.sub(rf"\g<before>uv pip \g<verb> --python {_literal(word)}", command)
    if _is_active(values):
        return command
    if not without_pip:
        command = _OTHER_PIP.sub(rf"\g<before>{_literal(word)} -m pip ", command)
    return _PYTHON.sub(rf"\g<before>{_literal(word)} ", command)


def _is_active(values: Mapping[str, Value]) -> bool:
    """Whether the environment is the one that is switched on in the shell, so that `python` means it."""
    prefix = values.get("python.prefix")
    return prefix is not None and prefix in (values.get("env.VIRTUAL_ENV"), values.get("env.CONDA_PREFIX"))


def _literal(text: str) -> str:
    """A text as `re.sub` puts it in unchanged."""
    return text.replace("\\", r"\\")
