"""Values in a rule's texts: shown in sentences, and never able to write a command."""

from __future__ import annotations

import shlex
import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from diagnose.template import render, render_command

HOSTILE = [
    "a; rm -rf ~",
    "$(reboot)",
    "`reboot`",
    "a'b",
    'a"b',
    "a\\",
    "a\nb",
    "a|b",
    "a>b",
    "a&b",
    "!x",
    "*",
    "x # y",
    "{a,b}",
    "'; reboot #",
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("needs {{asked}} of {{ free }}", "needs 20 GiB of 3"),
        ("needs {{missing}}", "needs <missing>"),
        ("needs {{event.missing}}", "needs <missing>"),
        ("needs {{missing|more of it}}", "needs more of it"),
        ("needs {{empty|more}}{{empty}}", "needs more<empty>"),
        ("no {{ values }", "no {{ values }"),
        ("{{again}}", "{{asked}}"),
    ],
)
def test_a_sentence_with_its_values(text: str, expected: str) -> None:
    """Values are filled in once; what is missing or empty is shown by its fallback, or as its name."""
    assert expected == render(text, {"asked": "20 GiB", "free": 3, "empty": "", "again": "{{asked}}"})


@pytest.mark.parametrize("value", ["Qwen/Qwen3-8B", "/data/my-model", "~/model", "2.4.0+cu121", "a=b", "模型"])
def test_a_plain_word_stands_as_it_is(value: str) -> None:
    """Names, paths and versions need no quotes, wherever they stand."""
    assert f"serve {value} '{value}'" == render_command("serve {{v}} '{{v}}'", {"v": value})


def test_numbers_and_what_is_missing() -> None:
    """A number is written as it is; without a value the reader sees what to fill in."""
    assert render_command("serve {{n}} {{model}} {{other|the-model}}", {"n": 8}) == "serve 8 <model> the-model"


@pytest.mark.parametrize("value", HOSTILE)
def test_a_hostile_value_is_one_word(value: str) -> None:
    """What a shell would take for more than a word is quoted as one."""
    assert ["serve", value, "--port"] == shlex.split(render_command("serve {{v}} --port", {"v": value}))


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize(
    "text",
    ["ls '{{v}}'", 'ls "{{v}}"', "python -c \"import m; m.load('{{v}}')\"", 'echo "it\'s {{v}}"', "ls  # don't {{v}}", "echo don\\'t '{{v}}'", "ls # it's\nls '{{v}}'"],
)  # fmt: skip
def test_a_hostile_value_within_quotes_is_left_out(text: str, value: str) -> None:
    """Inside quotes of the command, where quoting would open them, only its name is shown."""
    assert text.replace("{{v}}", "<v>") == render_command(text, {"v": value})


def test_a_space_within_quotes_may_stay() -> None:
    """A path with a space needs quotes, and keeps those that the command has."""
    assert render_command("ls '{{v}}'", {"v": "my models/a"}) == "ls 'my models/a'"
    assert render_command("ls {{v}}", {"v": "my models/a"}) == "ls 'my models/a'"


@given(value=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30))
@example(value="-n\n")
@settings(deadline=None, max_examples=40)
def test_a_shell_sees_one_argument(value: str) -> None:
    """Run by a real shell, the command gets the value as one argument, whatever it holds."""
    command = render_command("printf '%s' {{v}}", {"v": f"x{value}"})
    assert f"x{value}".encode() == subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=True).stdout
