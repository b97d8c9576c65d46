"""Quotes and brackets inside each other, as scripts write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.sources.launch.nesting import closing
from diagnose.sources.launch.shell import parse


@pytest.mark.parametrize(
    "text",
    [
        'cd "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"',
        'MODEL="${1:-"$MODEL"}"',
        'echo "it\'s `date "+%s"`"',
        "A=$(\n  # it's a comment\n  date\n)",
        "echo ${A:-'}'} \"${A:-it's}\"",
        "echo $((1 + (2 * 3)))",
        'echo "$(printf \'%s\' ")")"',
        "echo ${#A} $(echo a#b)",
    ],
)
def test_quotes_inside_quotes_are_no_open_ones(text: str) -> None:
    """What bash reads without complaint has no open quote here, and the command behind it is read."""
    script = parse(f"{text}\nvllm serve m --port 1")
    assert not script.problems
    assert [word.text for word in script.commands[-1].words] == ["vllm", "serve", "m", "--port", "1"]


@pytest.mark.parametrize("text", ['echo "a', "echo 'a", "echo $(a", "echo `a", 'echo "$(a"'])
def test_what_stays_open_is_told(text: str) -> None:
    """The same with its end missing."""
    assert [problem.kind for problem in parse(text).problems][:1] == ["quote-open"]


@pytest.mark.parametrize("piece", ["${", "$(\n", '"$(', '"${\n', "$('", "`\n", "$(#", '"$(" '])
def test_openings_without_end_are_read_once(piece: str) -> None:
    """Tens of thousands of openings: each step moves on, none reads the rest of the text again."""
    assert parse(piece * 30_000) is not None


def test_a_placeholder_is_a_word_that_is_not_known() -> None:
    """`<model>` of a recipe is to be filled in; a redirection is none."""
    words = parse("vllm serve <model> --port <port number>").commands[0].words
    assert [(word.text, word.known) for word in words[2:]] == [
        ("<model>", False),
        ("--port", True),
        ("<port number>", False),
    ]
    script = parse("export HOST=<address> PORT=1\nvllm serve <folder>/Qwen --host $HOST --port $PORT")
    assert [(word.text, word.known) for word in script.commands[-1].words[2:]] == [
        ("<folder>/Qwen", False),
        ("--host", True),
        ("$HOST", False),
        ("--port", True),
        ("1", True),
    ]
    assert [word.text for word in parse("cat <in.txt >out.txt <<<x").commands[0].words] == ["cat"]


@given(st.text(alphabet="\"'`$(){}\\#a \n", max_size=60))
def test_an_end_lies_behind_its_beginning(text: str) -> None:
    """Any text: an end is inside the text and of the kind that was looked for."""
    for closer in '")}`':
        found = closing(text, 0, closer, len(text))
        assert found == -1 or text[found] == closer
