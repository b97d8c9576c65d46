"""The engines' tables against the real parsers: torchrun, accelerate launch, transformers serve, llama-server."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from diagnose.derive import engines

pytestmark = pytest.mark.real


def known(engine: str, spellings: set[str]) -> set[str]:
    """The spellings that the table of an engine does not have."""
    table = engines.table(engine)
    assert table is not None
    return {s for s in spellings if (hit := table.find(s)) is None or hit.short}


def test_every_flag_of_torchrun_is_in_its_table() -> None:
    """Asked of the parser itself."""
    run = pytest.importorskip("torch.distributed.run", reason="torch is not installed")
    spellings = {s for action in run.get_args_parser()._actions for s in action.option_strings}
    assert len(spellings) > 40
    assert known("torchrun", spellings - {"-h", "--help"}) == set()


def test_every_flag_of_accelerate_launch_is_in_its_table() -> None:
    """Asked of the parser itself."""
    launch = pytest.importorskip("accelerate.commands.launch", reason="accelerate is not installed")
    spellings = {s for action in launch.launch_command_parser()._actions for s in action.option_strings}
    assert len(spellings) > 100
    assert known("accelerate", spellings - {"-h", "--help"}) == set()


def test_every_flag_of_transformers_serve_is_in_its_table() -> None:
    """Asked of its command."""
    cli = pytest.importorskip("transformers.cli.transformers", reason="transformers 5 is not installed")
    command = cli.app.commands["serve"]
    spellings = {s for p in command.params for s in (*p.opts, *p.secondary_opts) if s.startswith("-")}
    assert len(spellings) > 15
    assert known("transformers", spellings - {"-h", "--help"}) == set()


def test_every_flag_and_variable_of_llama_server_is_in_its_table() -> None:
    """Asked of `--help`; a release newer than the table may have more."""
    server = os.environ.get("LLMDOCTOR_LLAMA_SERVER", "")
    if not os.access(server, os.X_OK):
        pytest.skip("LLMDOCTOR_LLAMA_SERVER does not name llama.cpp's llama-server")
    help_ = subprocess.run([server, "--help"], capture_output=True, text=True, check=False, timeout=120).stdout
    spellings = set()
    for line in help_.splitlines():
        listed = re.match(r"((?:-{1,2}[A-Za-z][\w.-]*)(?:,\s*-{1,2}[A-Za-z][\w.-]*)*)", line)
        spellings |= set(re.findall(r"-{1,2}[A-Za-z][\w.-]*", listed[1])) if listed else set()
    table = engines.table("llama.cpp")
    assert table is not None
    assert len(spellings) > 200
    assert known("llama.cpp", spellings) == set()
    assert not [s for s in spellings if (hit := table.find(s)) is not None and hit.flag.elsewhere == "all"]
    assert set(re.findall(r"\(env: (\w+)\)", help_)) <= set(table.document.environment)
