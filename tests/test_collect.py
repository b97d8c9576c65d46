"""Logs → a case: files, folders and pipes, read once."""

from __future__ import annotations

import gzip
import os
from io import BytesIO
from pathlib import Path

import pytest
import zstandard

from diagnose.collect import case_of_files, case_of_text
from diagnose.derive import is_derived
from diagnose.errors import InputError
from diagnose.ruleset import RuleSet
from tests.support import rule, ruleset_of

TEXT = "torch==2.3.1\nwords of the cause\n"


@pytest.fixture
def rules(tmp_path: Path) -> RuleSet:
    return ruleset_of(tmp_path / "rules", rule("a-cause", "words of the cause"))


def test_a_text_becomes_facts_and_events(rules: RuleSet) -> None:
    """Both are read in one pass, and know their line and origin."""
    case = case_of_text(rules, TEXT, "a.log")
    assert [(fact.name, fact.value, fact.origin, fact.line) for fact in case.facts if not is_derived(fact)] == [
        ("torch.version", "2.3.1", "a.log", 1)
    ]
    assert [(event.origin, event.line) for event in case.events] == [("a.log", 2)]
    assert (case.origins, case.lines) == (("a.log",), 2)


def test_compressed_files_are_read_as_their_text(rules: RuleSet, tmp_path: Path) -> None:
    """.gz and .zst hold the same case as the plain text."""
    (tmp_path / "a.gz").write_bytes(gzip.compress(TEXT.encode()))
    (tmp_path / "b.zst").write_bytes(zstandard.compress(TEXT.encode()))
    for name in ("a.gz", "b.zst"):
        case = case_of_files(rules, [str(tmp_path / name)], BytesIO())
        assert (case.lines, len(case.events)) == (2, 1)


def test_several_inputs_are_one_case(rules: RuleSet, tmp_path: Path) -> None:
    """Events keep their origin, lines are counted together, and the first to tell a fact is believed."""
    (tmp_path / "a.log").write_text(TEXT, encoding="utf-8")
    case = case_of_files(
        rules, [str(tmp_path / "a.log"), "-"], BytesIO(b"torch==2.9.0\nvllm==0.9.0\nwords of the cause\n")
    )
    assert [str(tmp_path / "a.log"), "-"] == [event.origin for event in case.events]
    assert {fact.name: fact.value for fact in case.facts if not is_derived(fact)} == {
        "torch.version": "2.3.1",
        "vllm.version": "0.9.0",
    }
    assert case.lines == 5


def test_a_folder_stands_for_its_logs(rules: RuleSet, tmp_path: Path) -> None:
    """Logs below it are read in order; other files and hidden ones are not."""
    for name in ("b/rank1.log", "b/rank0.log", "model.safetensors", ".hidden.log"):
        (tmp_path / "logs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "logs" / name).write_text(TEXT, encoding="utf-8")
    case = case_of_files(rules, [str(tmp_path / "logs")], BytesIO())
    assert [os.path.basename(origin) for origin in case.origins] == ["rank0.log", "rank1.log"]


@pytest.mark.parametrize("content", [b"", b"\x7fELF\x02\x01\x01", b"PK\x03\x04stuff"])
def test_one_input_that_is_no_log_is_an_error(rules: RuleSet, tmp_path: Path, content: bytes) -> None:
    """Empty or binary: a sentence with the name."""
    (tmp_path / "a.log").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.log: "):
        case_of_files(rules, [str(tmp_path / "a.log")], BytesIO())


def test_if_none_can_be_read_all_reasons_are_told(rules: RuleSet, tmp_path: Path) -> None:
    """Each input has its line in the error."""
    with pytest.raises(InputError) as caught:
        case_of_files(rules, [str(tmp_path / "a.log"), str(tmp_path / "b.log")], BytesIO())
    assert [os.path.basename(line) for line in str(caught.value).split("\n")] == [
        "a.log: no such file",
        "b.log: no such file",
    ]


def test_a_name_that_is_not_utf_8_can_be_written(rules: RuleSet, tmp_path: Path) -> None:
    """The origin of a file with odd bytes in its name is text that every format can hold."""
    path = os.fsencode(tmp_path) + b"/\xff.log"
    try:
        with open(path, "wb") as file:
            file.write(TEXT.encode())
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    [origin] = case_of_files(rules, [os.fsdecode(path)], BytesIO()).origins
    assert os.path.basename(origin.encode().decode()) == "\ufffd.log"


def test_more_lines_than_are_kept_are_told(rules: RuleSet) -> None:
    """Where a log says the same more often than is kept, the case says so."""
    words = ("".join(chr(97 + int(digit)) for digit in str(number)) for number in range(1000))
    case = case_of_text(rules, "".join(f"words of the cause, {word}\n" for word in words))
    assert len(case.events) == 200
    assert ["800 further lines" in item.what for item in case.unchecked] == [True]


def test_secrets_of_a_log_do_not_reach_the_report(rules: RuleSet, tmp_path: Path) -> None:
    """A token in the line that matched, and in an argument of the launch, is masked."""
    token = "hf_" + "aB3dE6gH9jK2mN5pQ8sT1vW4xY7zA0cD3f"  # not a real one
    text = f"vllm serve Qwen/Qwen3-8B --hf-token {token}\nwords of the cause, with {token}\n"
    (tmp_path / "a.log").write_text(text, encoding="utf-8")
    case = case_of_files(rules, [str(tmp_path / "a.log")], BytesIO())

    assert (1, False) == (len(case.events), token in repr(case))
    assert "hf_***" in case.events[0].lines[0].text
