"""Commands of a fix are for the environment that was looked at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.commands import for_environment

PATH = "/srv/venvs/a b/bin/python"
VENV = {"python.path": PATH, "python.prefix": "/srv/venvs/a b", "python.kind": "venv", "pip.version": "25.0"}
UV = {"python.path": "/srv/uv/bin/python", "python.prefix": "/srv/uv", "python.kind": "uv"}


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("pip install -U vllm", f"'{PATH}' -m pip install -U vllm"),
        ("python -m pip show torch", f"'{PATH}' -m pip show torch"),
        ('python -c "import torch"', f"'{PATH}' -c \"import torch\""),
        ("cd / && python -c 'x'", f"cd / && '{PATH}' -c 'x'"),
        ("pip uninstall -y a && pip install b", f"'{PATH}' -m pip uninstall -y a && '{PATH}' -m pip install b"),
        ("pip show vllm | grep Version", f"'{PATH}' -m pip show vllm | grep Version"),
    ],
)
def test_pip_and_python_are_the_environments_own(command: str, told: str) -> None:
    """Wherever a command begins, the interpreter that was checked is named; a path with a blank is quoted."""
    assert told == for_environment(command, VENV)


@pytest.mark.parametrize(
    "command",
    [
        "nvidia-smi",
        "uv pip install vllm",
        "vllm serve x --python y",
        "echo python -m pip",
        "apt install python3-pip",
        "",
    ],
)
def test_other_commands_stay(command: str) -> None:
    """Only a command that begins with pip or python is changed."""
    assert command == for_environment(command, VENV)


def test_uv_stands_in_where_it_made_an_environment_without_pip() -> None:
    """`pip install` works there as `uv pip install`; with pip in it, pip is used."""
    assert "uv pip install --python /srv/uv/bin/python -U vllm" == for_environment("pip install -U vllm", UV)
    assert "/srv/uv/bin/python -m pip check" == for_environment("pip check", {**UV, "pip.version": "25.0"})


def test_the_shells_own_environment_needs_no_path() -> None:
    """Where the environment is switched on, the short command is right; without pip it is still uv's."""
    active = {"env.VIRTUAL_ENV": "/srv/uv"}
    assert "pip install x" == for_environment("pip install x", {**VENV, "env.VIRTUAL_ENV": "/srv/venvs/a b"})
    assert 'python -c "x"' == for_environment('python -c "x"', {**UV, **active})
    assert for_environment("python -m pip install x", {**UV, **active}).startswith("uv pip install --python ")


@given(st.text(max_size=200))
def test_any_command_without_an_environment_stays(command: str) -> None:
    """A pasted log has no interpreter: its commands are left as they are."""
    assert command == for_environment(command, {})
