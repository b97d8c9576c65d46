"""A text for a shell → its commands and words."""

from __future__ import annotations

import shlex

from hypothesis import example, given
from hypothesis import strategies as st

from diagnose.sources.launch.shell import Script, parse

words = st.lists(
    st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\x00\r"), max_size=12), max_size=8
)


def texts(script: Script, number: int = 0) -> list[str]:
    """The words of one command."""
    return [word.text for word in script.commands[number].words]


@given(words)
@example(["a b", "", "it's", '"', "$HOME", "#", "\\", "\n", "a\\\nb"])
def test_quoted_words_come_out_as_they_were(given_words: list[str]) -> None:
    """Whatever the words are, quoted for a shell and read again they are the same."""
    script = parse("program " + shlex.join(given_words))
    assert texts(script) == ["program", *given_words]
    assert all(word.known for word in script.commands[0].words)
    assert not script.problems


@given(st.text(max_size=200))
@example("'")
@example('a "b\\')
@example("$(")
@example("<<EOF\nx")
@example("${A:-b}}\\")
@example("a=1 b=$a$(c) <(x) 2>&1 |& d")
def test_any_text_is_read_to_its_end(text: str) -> None:
    """No text raises anything, and every word stands on a line of it."""
    script = parse(text, {"A": "x y", "a": ""})
    for command in script.commands:
        for word in command.words:
            assert 0 < word.line <= text.count("\n") + 1


def test_continued_lines_are_one_command_and_words_know_their_lines() -> None:
    """A backslash at the end of a line joins it with the next; the words keep their own lines."""
    script = parse("vllm serve m \\\n  --port 8000 \\\n  --dtype half\nls")
    assert texts(script) == ["vllm", "serve", "m", "--port", "8000", "--dtype", "half"]
    assert [word.line for word in script.commands[0].words] == [1, 1, 1, 2, 2, 3, 3]
    assert texts(script, 1) == ["ls"]


def test_variables_that_are_known_are_put_in_and_others_make_a_word_unknown() -> None:
    """`$NAME` is replaced where its value is known, also from an assignment above; otherwise only the shell could tell."""
    script = parse("M=Qwen/Qwen3\nrun \"$M\" $N ${P:-8000} $(hostname) '$M'", {})
    assert [(word.text, word.known) for word in script.commands[1].words] == [
        ("run", True),
        ("Qwen/Qwen3", True),
        ("$N", False),
        ("8000", True),
        ("$(hostname)", False),
        ("$M", True),
    ]


def test_unquoted_variables_split_at_blanks_and_quoted_ones_do_not() -> None:
    """Flags in a variable become several words only without quotes around it."""
    assert texts(parse("x $A", {"A": "--a 1"})) == ["x", "--a", "1"]
    assert texts(parse('x "$A"', {"A": "--a 1"})) == ["x", "--a 1"]


def test_redirections_pipes_and_here_documents_are_no_words() -> None:
    """What is for the shell does not reach the program."""
    script = parse("serve a > log 2>&1 < /dev/null | tee x &\ncat <<EOF\nnot a command\nEOF\nlast")
    assert texts(script) == ["serve", "a"]
    assert script.commands[0].after == "|"
    assert texts(script, 1) == ["tee", "x"]
    assert texts(script, 2) == ["cat"]
    assert texts(script, 3) == ["last"]


def test_assignments_before_a_command_are_told_apart() -> None:
    """`A=1 program` sets A for it."""
    command = parse("A=1 B='x y' vllm serve C=3").commands[0]
    assert [(name, word.text) for name, word in command.assigned] == [("A", "1"), ("B", "x y")]
    assert [word.text for word in command.words] == ["vllm", "serve", "C=3"]


def test_what_is_odd_about_the_quoting_is_told_with_its_line() -> None:
    """Open quotes, a blank behind a backslash and a comment inside a continued command."""
    assert [(p.kind, p.line) for p in parse("a \\\n 'b").problems] == [("quote-open", 2)]
    assert [(p.kind, p.line) for p in parse("a \\ \n--b").problems] == [("blank-after-backslash", 1)]
    assert [(p.kind, p.line) for p in parse("a \\\n# no \\\n--b").problems] == [("comment-in-command", 2)]
    assert not parse("a # a comment\nb \\\n  c").problems


def test_a_text_without_end_is_cut() -> None:
    """A text of a million words is read in part, and that is told."""
    script = parse("a " * 1_000_000)
    assert "too-long" in [problem.kind for problem in script.problems]
    assert sum(len(command.words) for command in script.commands) <= 5000


def test_lines_continued_for_windows_are_continued() -> None:
    """A caret or a backtick at the end of every line, as in a command for cmd or PowerShell."""
    for mark in ("^", "`"):
        assert texts(parse(f"llama-server {mark}\n -m x.gguf {mark}\n -c 1")) == [
            "llama-server",
            "-m",
            "x.gguf",
            "-c",
            "1",
        ]
