"""Words → the program that they start."""

from __future__ import annotations

import pytest

from diagnose.sources.launch.programs import launches, resolve
from diagnose.sources.launch.shell import parse


@pytest.mark.parametrize(
    ("text", "program", "engine", "first"),
    [
        ("vllm serve m --port 1", "vllm serve", "vllm", "m"),
        ("/opt/venv/bin/vllm serve m", "vllm serve", "vllm", "m"),
        ("python3.12 -u -m vllm.entrypoints.openai.api_server --model m", "vllm api_server", "vllm", "--model"),
        ("nohup env A=1 python -m sglang.launch_server --model-path m", "sglang serve", "sglang", "--model-path"),
        ("uv run --with vllm --python 3.12 vllm serve m", "vllm serve", "vllm", "m"),
        ("sudo -E timeout 60 numactl -N 0 vllm serve m", "vllm serve", "vllm", "m"),
        ("bash -lc 'export A=1; vllm serve m'", "vllm serve", "vllm", "m"),
        ("conda run -n serve sglang serve m", "sglang serve", "sglang", "m"),
        ("./llama-server.exe -m x.gguf", "llama-server", "llama.cpp", "-m"),
        ("text-generation-launcher --model-id m", "text-generation-launcher", "tgi", "--model-id"),
        ("transformers serve m", "transformers serve", "transformers", "m"),
        ("ollama create x -f Modelfile", "ollama create", "ollama", "x"),
        ("taskset -c 0-3 vllm bench serve --model m", "vllm bench serve", "vllm", "--model"),
        ("lmdeploy serve api_server m", "lmdeploy serve api_server", "lmdeploy", "m"),
    ],
)
def test_a_program_is_found_behind_what_stands_before_it(text: str, program: str, engine: str, first: str) -> None:
    """Wrappers, interpreters and shells are taken off, and a module is known by its name."""
    found = launches(parse(text), {})
    assert [(one.program, one.engine, one.words[0].text) for one in found] == [(program, engine, first)]


def test_variables_before_inside_and_above_are_for_the_command() -> None:
    """Assignments, `env` and `export` are all told."""
    found = launches(parse("export A=1\nB=2 env C=3 vllm serve m"), {})
    assert {name: word.text for name, word in found[0].assigned.items()} == {"A": "1", "B": "2", "C": "3"}


@pytest.mark.parametrize(
    "text", ["ls -l", "python train.py", "python -c 'import vllm'", "", "env", "bash -c ''", "echo vllm serve"]
)
def test_other_programs_are_not_taken_for_engines(text: str) -> None:
    """A program that is not known is none."""
    assert not launches(parse(text), {})


def test_shells_in_shells_end() -> None:
    """A command that quotes itself does not go on for ever."""
    text = "vllm serve m"
    for _ in range(12):
        text = "bash -c " + repr(text) if '"' not in text else text
    assert isinstance(launches(parse(text), {}), list)
    assert resolve([], {}) is None
