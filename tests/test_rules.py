"""Rule files: every mistake is told with file and line, all at once, and nothing in a file makes a traceback."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose import places
from diagnose.errors import Mistake, RuleError
from diagnose.rules import read_rules, rule_paths, survey_rules
from diagnose.yaml_lines import MOST_BYTES
from tests.support import TAXONOMY, mistakes_in, rule, survey, write_rules

GOOD = """\
id: some-trouble
title: 'The {{what}} is out of memory'
severity: error
labels:
  symptom: crash/cuda-error/out-of-memory
  cause: hardware-and-resource-limitations/gpu-memory-insufficiency
match:
  log:
    - '(?P<what>\\w+) out of memory here'
why: |
  There is too little of it.
fix:
  - do: Use less of {{what}}
    run: echo {{what|something}}
    when: ['capture.what != host']
examples:
  positive:
    - 'RuntimeError: card out of memory here'
  negative:
    - 'there is memory'
"""


def told(path: Path, text: str | bytes, name: str = "some-trouble.yaml") -> list[tuple[int, str]]:
    """The mistakes of one file: line and message."""
    found = mistakes_in(path, text, name)
    assert {str(path / name)} >= {mistake.file for mistake in found}
    assert all("\n" not in mistake.message for mistake in found)
    return [(mistake.line, mistake.message) for mistake in found]


def test_a_good_file_has_no_mistakes(tmp_path: Path) -> None:
    """The file that all others here are made from is correct."""
    assert told(tmp_path, GOOD) == []


def test_a_rule_is_read_as_it_is_written(tmp_path: Path) -> None:
    """Keys become fields, defaults are filled in, and the family is the folder."""
    (tmp_path / "cuda").mkdir()
    (tmp_path / "cuda" / "some-trouble.yaml").write_text(GOOD, encoding="utf-8")
    [read] = read_rules([tmp_path], TAXONOMY)
    assert (
        read.rule.id,
        read.rule.severity,
        read.rule.kind,
        read.rule.certainty,
        read.rule.family,
    ) == ("some-trouble", "error", "specific", "likely", "cuda")
    assert read.rule.match.log == (r"(?P<what>\w+) out of memory here",)
    assert read.rule.fix[0].when == ("capture.what != host",)
    assert [example.log for example in read.negative] == ["there is memory"]


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("severity: error", "severty: error", 3, "unknown key 'severty'; did you mean 'severity'?"),
        ("severity: error", "severty: error", 1, "key 'severity' is missing"),
        ("severity: error", "severity: error\nseverity: note", 4, "key 'severity' is written twice (first on line 3)"),
        ("severity: error", "severity: fatal", 3, "severity 'fatal' must be one of error, warning, note"),
        ("severity: error", "severity: [error]", 3, "severity a list must be one of error, warning, note"),
        ("severity: error", "severity: error\nkind: usual", 4, "kind 'usual' must be one of specific, general, wrapper"),
        ("severity: error", "severity: error\ncertainty: sure", 4, "certainty 'sure' must be one of"),
        ("severity: error", "severity: error\nrestart: maybe", 4, "restart 'maybe' must be one of may-help, cannot-help"),
        ("severity: error", "severity: error\nsymptom_only: 1", 4, "'symptom_only' must be true or false"),
        ("severity: error", "severity: error\nreferences: ['http://example.org']", 4, "must be an https link"),
        ("severity: error", "severity: error\nleads_to: others", 4, "'leads_to' must be a list of texts"),
        ("severity: error", "severity: error\nleads_to: [2.10]", 4, "'leads_to' must be a list of texts (quote"),
        ("severity: error", "severity: error\nleads_to: [nobody]", 4, "leads_to 'nobody': no such rule"),
        ("severity: error", "severity: error\nretired: 2", 4, "'retired' must be text"),
        ("severity: error", "severity: error\n? [a, b]\n: c", 4, "unknown key"),
        ("id: some-trouble", "id: other-trouble", 1, "id 'other-trouble' must be the file's name, 'some-trouble'"),
        ("id: some-trouble", "id: Some Trouble", 1, "must be kebab-case"),
        ("id: some-trouble", "id: {a: b}", 1, "id a mapping must be kebab-case"),
        ("title: 'The {{what}} is out of memory'", "title: ''", 2, "'title' must be text"),
        ("title: 'The {{what}} is out of memory'", "title: \"one\\ntwo\"", 2, "'title' must be one line"),
        ("'The {{what}} is", "'The {{whit}} is", 2, "{{whit}} is neither captured by a pattern nor a fact"),
        ("less of {{what}}", "less of {{no.such.fact}}", 13, "{{no.such.fact}} is neither"),
        ("crash/cuda-error/out-of-memory", "crash/cuda-error/out-of-memori", 5, "did you mean 'crash/cuda-error/out-of-memory'?"),
        ("crash/cuda-error/out-of-memory", "[crash]", 5, "symptom a list is not in the taxonomy"),
        ("crash/cuda-error/out-of-memory", "{a: b}", 5, "symptom a mapping is not in the taxonomy"),
        ("  symptom: ", "  symptoms: ", 5, "unknown label 'symptoms'; did you mean 'symptom'?"),
        ("  symptom: crash/cuda-error/out-of-memory\n", "", 5, "label 'symptom' is missing"),
        ("  symptom:", "  stage: training\n  symptom:", 5, "stage 'training' is not in the taxonomy"),
        ("(?P<what>\\w+) out of", "(?P<what>\\w+ out of", 9, "missing )"),
        ("(?P<what>\\w+) out of", "(?P<what>\\w+)(?=x) out of", 9, "invalid perl operator"),
        ("(?P<what>\\w+) out of memory here", "(?P<what>\\w+) out", 9, "has less than 6 plain characters in a row"),
        ("    - '(?P<what>\\w+) out of memory here'", "    - 'out of memory here'\n  unless: ['.*']\n  where: ['capture.what == a']", 10, "matches the empty text"),
        ("match:\n", "match:\n  logs: [a]\n", 8, "unknown key 'logs' in match; did you mean 'log'?"),
        ("match:\n", "match:\n  where: ['event.calller == vllm']\n", 8, "event.calller"),
        ("match:\n", "match:\n  where: ['capture.size < 3']\n", 8, "capture.size"),
        ("match:\n", "match:\n  where: ['capture.what ~ 3']\n", 8, "is not a condition"),
        ("match:\n", "match:\n  facts: ['torch.colour == red']\n", 8, "torch.colour"),
        ("match:\n", "match:\n  facts: ['torch.version < new']\n", 8, "neither a version nor a number"),
        ("  log:\n    - '(?P<what>\\w+) out of memory here'", "  unless: [a]", 8, "match needs log patterns, facts, or both"),
        ("  - do: Use less of {{what}}\n", "  - doo: Use less of {{what}}\n", 13, "each fix needs 'do'"),
        ("    run: echo", "    ran: echo", 14, "unknown key 'ran' in fix; did you mean 'run'?"),
        ("    run: echo {{what|something}}", "    run: 5", 14, "'run' must be text (quote it)"),
        ("['capture.what != host']", "['capture.whom != host']", 15, "capture.whom"),
        ("examples:\n", "examples:\n  neutral: [a]\n", 17, "unknown key 'neutral' in examples"),
        ("  negative:\n    - 'there is memory'\n", "", 17, "examples need at least one negative case"),
        ("    - 'there is memory'", "    - {log: a, captures: {what: 2.10}}", 20, "capture 'what' must be quoted"),
        ("    - 'there is memory'", "    - {log: a, facts: {torch.version: 2.10}}", 20, "must be quoted: YAML reads 2.10 as 2.1"),
        ("    - 'there is memory'", "    - {log: a, facts: {torch.colour: red}}", 20, "nobody defines the fact 'torch.colour'"),
        ("    - 'there is memory'", "    - {log: a, facts: {gpu.count: [1]}}", 20, "fact 'gpu.count' must be one value"),
        ("    - 'there is memory'", "    - {log: a, facts: [b]}", 20, "'facts' of an example must be a mapping"),
        ("    - 'there is memory'", "    - {log: [a]}", 20, "'log' of an example must be text"),
        ("    - 'there is memory'", "    - {facts: {gpu.count: 1}}", 20, "this example has no log text"),
        ("    - 'there is memory'", "    - {lag: a}", 20, "unknown key 'lag' in an example; did you mean 'log'?"),
        ("    - 'there is memory'", "    - [a]", 20, "an example is a log text, or a mapping"),
        ("    - 'there is memory'", '    - "\\ud800"', 20, "is not valid YAML"),
        ("why: |", "why: !!python/object/apply:os.system |", 10, "is not allowed in a rule"),
        ("fix:\n", "fix: !mine\n", 12, "tag !mine is not allowed in a rule"),
        ("severity: error", "severity: !!int error", 3, "not a value that can be read"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line(tmp_path: Path, old: str, new: str, line: int, said: str) -> None:
    """Each kind of mistake has a sentence and the line that it stands on."""
    assert old in GOOD
    found = told(tmp_path, GOOD.replace(old, new, 1))
    assert [said] == [said for at, message in found if at == line and said in message][:1], found


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "is empty"),
        ("# only a comment\n", 1, "is empty"),
        ("just words\n", 1, "a rule is a mapping of keys"),
        ("- a\n- b\n", 1, "a rule is a mapping of keys"),
        ("id: a\ntitle: [b\n", 3, "is not valid YAML"),
        ("id: a\n\ttitle: b\n", 2, "is not valid YAML"),
        ("id: a\ntitle: 'b\n", 3, "is not valid YAML"),
        ("id: a\n---\nid: b\n", 2, "is not valid YAML"),
        ("id: a\ntitle: \x01\n", 2, "is not valid YAML"),
        ("id: a\nwhy: &x text\ntitle: *x\n", 2, "anchors and aliases (x) are not allowed"),
        ("a: &a [b, b]\nc: &c [*a, *a]\nd: &d [*c, *c]\n", 1, "anchors and aliases (a) are not allowed"),
        ("id: a\nwhy: " + "[" * 100_000, 2, "is nested deeper than a rule can be"),
        ("- " * 100_000, 1, "is nested deeper than a rule can be"),
        ("? " * 100_000, 1, "is nested deeper than a rule can be"),
        (b"id: a\ntitle: \xff\xfe\n", 2, "is not UTF-8 text"),
        (b"id: a\n" + b"#" * MOST_BYTES, 0, "is larger than 256 KiB"),
        ("id: a\nwhy: " + "9" * 5000, 2, "is not a value that can be read"),
        ("id: .inf\n", 1, "must be kebab-case"),
        ("<<: {id: a}\n", 1, "unknown key '<<'"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_rule(tmp_path: Path, text: str | bytes, line: int, said: str) -> None:
    """What is not YAML, not a mapping, or made to exhaust the reader, is told in a sentence and read no further."""
    found = told(tmp_path, text)
    assert any(at == line and said in message for at, message in found), found


def test_an_alias_bomb_is_refused_at_once(tmp_path: Path) -> None:
    """Aliases that would grow to 10^30 entries are refused, not expanded."""
    levels = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 30))
    assert told(tmp_path, f"l0: &l0 x\n{levels}\n") == [(1, "anchors and aliases (l0) are not allowed in a rule")]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A file that the system refuses to read is a mistake of that file."""
    link = tmp_path / "memory.yaml"
    link.symlink_to("/proc/self/mem")
    if not link.is_file():
        pytest.skip("no /proc here")
    _, [mistake] = survey_rules([link], TAXONOMY)
    assert (str(link), 0) == (mistake.file, mistake.line)
    assert "cannot be read" in mistake.message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_one_may_not_read(tmp_path: Path) -> None:
    """A file without permission to read it is a mistake of that file."""
    write_rules(tmp_path, [rule("one-trouble")])
    (tmp_path / "one-trouble.yaml").chmod(0)
    assert [mistake.message for mistake in survey_rules([tmp_path], TAXONOMY)[1]] == [
        "cannot be read: Permission denied"
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_one_may_not_read(tmp_path: Path) -> None:
    """It is no folder without rules."""
    (tmp_path / "mine").mkdir(mode=0)
    with pytest.raises(RuleError, match="mine: not allowed to read this folder"):
        rule_paths([tmp_path / "mine"])


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """A missing folder is a mistake that names it."""
    with pytest.raises(RuleError, match="nowhere: no such file or folder"):
        rule_paths([tmp_path / "nowhere"])


def test_a_folder_named_like_a_rule_is_a_folder(tmp_path: Path) -> None:
    """`a.yaml/` is not read as a file, but the rules in it are found."""
    write_rules(tmp_path / "a.yaml", [rule("one-trouble")])
    assert [tmp_path / "a.yaml" / "one-trouble.yaml"] == rule_paths([tmp_path])


def test_all_mistakes_of_all_files_at_once(tmp_path: Path) -> None:
    """One reading tells everything, in the order of files and lines."""
    bad = rule("b-trouble", "too", severity="fatal", colour="red", leads_to=["nobody"])
    other = rule("a-trouble", leads_to=["b-troubles"], why=None)
    read, mistakes = survey(tmp_path, bad, other)
    assert read == []
    assert mistakes == sorted(mistakes, key=lambda mistake: (mistake.file, mistake.line))
    assert [Path(mistake.file).stem for mistake in mistakes] == ["a-trouble", "b-trouble", "b-trouble", "b-trouble"]


def test_the_error_lists_every_mistake(tmp_path: Path) -> None:
    """RuleError holds all mistakes, and its text has a line for each, as an editor can jump to it."""
    write_rules(tmp_path, [rule("a-trouble", colour="red", severity="fatal")])
    with pytest.raises(RuleError) as caught:
        read_rules([tmp_path], TAXONOMY)
    assert len(caught.value.mistakes) == 2
    assert [str(mistake) for mistake in caught.value.mistakes] == str(caught.value).split("\n")
    assert (
        str(Mistake("rules/a.yaml", 3, "wrong")),
        str(Mistake("rules/a.yaml", 0, "wrong")),
    ) == ("rules/a.yaml:3: wrong", "rules/a.yaml: wrong")


def test_an_id_is_used_once(tmp_path: Path) -> None:
    """Two files with one id are told, with the file that had it first."""
    write_rules(tmp_path / "a", [rule("same-trouble")])
    write_rules(tmp_path / "b", [rule("same-trouble")])
    _, [mistake] = survey_rules([tmp_path], TAXONOMY)
    assert str(tmp_path / "b" / "same-trouble.yaml") == mistake.file
    assert f"id 'same-trouble' is already used by {tmp_path / 'a' / 'same-trouble.yaml'}" == mistake.message


def test_leads_to_an_unknown_rule(tmp_path: Path) -> None:
    """An id that no file has is told, with the nearest one that there is, even if other files have mistakes."""
    _, mistakes = survey(
        tmp_path, rule("a-trouble", leads_to=["b-truoble"]), rule("b-trouble"), rule("c-trouble", severity="fatal")
    )
    assert "leads_to 'b-truoble': no such rule; did you mean 'b-trouble'?" in [mistake.message for mistake in mistakes]


@pytest.mark.parametrize(
    ("edges", "circle"),
    [
        ({"a": ["a"]}, "a → a"),
        ({"a": ["b"], "b": ["a"]}, "a → b → a"),
        ({"a": ["b"], "b": ["c"], "c": ["b"]}, "b → c → b"),
        ({"a": ["b", "c"], "b": ["c"], "c": []}, ""),
        ({"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}, ""),
    ],
)
def test_leads_to_goes_in_no_circle(tmp_path: Path, edges: dict[str, list[str]], circle: str) -> None:
    """A circle is told once, with the rules on it; two ways to one rule are no circle."""
    _, mistakes = survey(tmp_path, *(rule(name, leads_to=targets) for name, targets in edges.items()))
    assert ([f"leads_to goes in a circle: {circle}"] if circle else []) == [mistake.message for mistake in mistakes]


def test_a_long_chain_of_leads_to(tmp_path: Path) -> None:
    """A thousand rules in a row are followed without recursion."""
    rules = [
        rule(f"r{n:04}", f"the words of rule {n}", leads_to=[f"r{n + 1:04}"] if n < 999 else []) for n in range(1000)
    ]
    assert survey(tmp_path, *rules)[1] == []


def test_the_bundled_rules_are_named() -> None:
    """The rules that come along lie in a folder that is there, and a user's folders come behind it."""
    first, second = places.rule_folders(["mine"])
    assert (os.path.isdir(first), second) == (True, "mine")


yaml_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=10), inner, max_size=3)),
    max_leaves=8,
)


@given(key=st.sampled_from(sorted(rule("x"))), value=yaml_values)
@settings(deadline=None, max_examples=200)
def test_any_value_of_any_key_is_read_or_told(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: object
) -> None:
    """Whatever a key is set to: the file is read, or its mistakes are told."""
    folder = tmp_path_factory.getbasetemp() / "any-value"
    folder.mkdir(exist_ok=True)
    text = yaml.safe_dump(rule("some-trouble") | {key: value}, allow_unicode=True)
    (folder / "some-trouble.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    read, mistakes = survey_rules([folder], TAXONOMY)
    assert bool(read) != bool(mistakes)


@given(
    text=st.one_of(
        st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))
    )
)
@settings(deadline=None, max_examples=200)
def test_any_bytes_are_read_or_told(tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    """Whatever bytes a rule file holds: never a traceback."""
    file = tmp_path_factory.getbasetemp() / "any-bytes.yaml"
    file.write_bytes(text)
    assert survey_rules([file], TAXONOMY)[0] == []
