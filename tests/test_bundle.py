"""Case files: what is written is masked and can be read again; what is read may come from anybody."""

from __future__ import annotations

import gzip
import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose import bundle, redact
from diagnose.causes import diagnose
from diagnose.errors import CaseError
from diagnose.formats import FORMATS, formatter
from diagnose.match import match
from diagnose.model import Case, Diagnosis, Event, Fact, Frame, Line, Raised, Unchecked
from diagnose.ruleset import load
from tests.support import ROOT
from tests.test_redact import PLANTED, with_it_everywhere

CASES = Path(__file__).parent / "cases"
FRAME = Frame("/app/a.py", 3, "f", "user", "a.py:f")
EVENT = Event(
    "crash.log",
    7,
    8,
    (Line(7, "[rank0]: a", "a", "error"), Line(8, "b", "b")),
    (Raised(8, "ValueError", "b", (FRAME,)),),
    "load",
    "0",
    "worker",
    "host1",
    1.5,
    2,
    ("0", "1"),
    "near it",
)
CASE = Case(
    (
        Fact("torch.version", "2.8.0", "crash.log", 3),
        Fact("gpu.0.memory", 1 << 60, "NVML"),
        Fact("cuda.available", False, "x"),
        Fact("x.y", 0.1, ""),
    ),
    (EVENT, Event("crash.log", 9, 9, (Line(9, "c", "c"),))),
    (Unchecked("the driver", "no answer"),),
    ("crash.log", "crash2.log"),
    120,
    True,
)


def refused(data: bytes) -> str:
    """What is said of a file with these bytes."""
    with pytest.raises(CaseError) as caught:
        bundle.loads(data, "x.json")
    message = str(caught.value)
    assert message.startswith("x.json: ")
    assert "\n" not in message
    return message


def a_file(**changes: Any) -> bytes:
    return json.dumps({"llmdoctor_case": 1, **changes}).encode()


# -- there and back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["case.json", "case.json.gz", "case.json.zst", "case"])
def test_what_is_written_is_read(tmp_path: Path, name: str) -> None:
    """The same case comes back, packed or not."""
    path = str(tmp_path / name)
    bundle.write(CASE, path)
    assert bundle.read(path) == CASE
    assert os.listdir(tmp_path) == [name]


def test_an_empty_case(tmp_path: Path) -> None:
    """Nothing collected is a case too."""
    bundle.write(Case(), str(tmp_path / "x"))
    assert bundle.read(str(tmp_path / "x")) == Case()


def test_the_file_is_for_people(tmp_path: Path) -> None:
    """Indented JSON that says what it is; what is not known is left out."""
    bundle.write(CASE, str(tmp_path / "x"))
    text = (tmp_path / "x").read_text(encoding="utf-8")
    told = json.loads(text)
    assert list(told)[:3] == ["llmdoctor_case", "tool", "about"]
    assert '\n  "machine": true,\n' in text
    assert told["events"][1]["lines"] == [{"number": 9, "text": "c"}]


def test_version_1_still_loads() -> None:
    """A file of the first version, written by hand, says all that it said."""
    case = bundle.read(str(CASES / "version1.json"))
    assert (case.machine, case.lines, case.origins) == (True, 120, ("crash.log",))
    assert [fact.value for fact in case.facts] == ["2.8.0", 85899345920, True, 0.5, "set"]
    (event,) = case.events
    assert (event.rank, event.repeats, event.ranks, event.raised[0].frames[0].place) == ("0", 2, ("0", "1"), "a.py:f")
    assert case.unchecked == (Unchecked("kernel log", "not allowed to read it"),)


def test_the_documentation_shows_a_case_file() -> None:
    """The example of docs/case-files.md is one, as it would be written, and its table names every key."""
    page = (ROOT / "docs" / "case-files.md").read_text(encoding="utf-8")
    shown = page.split("```json\n")[1].split("```")[0]
    case = bundle.loads(shown.encode())
    assert bundle.dumps(case) == shown
    assert [name for name in bundle._File.__struct_fields__ if f"`{name}`" not in page and name != "about"] == []


def test_unknown_keys_are_ignored_and_missing_ones_default() -> None:
    """A later llmdoctor may add keys without a new version."""
    case = bundle.loads(
        a_file(
            new={"a": [1]}, facts=[{"name": "a.b", "value": 1, "new": 2}], events=[{"lines": [{"text": "t", "n": 1}]}]
        )
    )
    assert case == Case((Fact("a.b", 1, ""),), (Event("", 0, 0, (Line(0, "t", "t"),)),))


def test_facts_have_the_types_of_the_catalogue() -> None:
    """A value of another type is no fact, and that is told; numbers where a text belongs are their text."""
    odd = [
        ("gpu.count", "many"),
        ("gpu.count", True),
        ("cuda.available", "yes"),
        ("cuda.available", 1),
        ("gpu.0.memory", "x"),
    ]
    fine = [
        ("torch.version", 2.5, "2.5"),
        ("gpu.count", 8, 8),
        ("cuda.available", False, False),
        ("os.name", True, "True"),
    ]
    told = [{"name": name, "value": value} for name, value, *_ in (*odd, *fine)]
    case = bundle.loads(a_file(facts=told))
    assert [(fact.name, fact.value) for fact in case.facts] == [(name, kept) for name, _, kept in fine]
    assert [item.what for item in case.unchecked] == ["5 facts of the case file"]


texts = st.text(max_size=30)
values = st.one_of(texts, st.booleans(), st.integers(-(1 << 70), 1 << 70), st.floats())
cases = st.builds(
    Case,
    facts=st.lists(st.builds(Fact, st.just("a.b"), values, texts, st.integers(0, 9)), max_size=3).map(tuple),
    events=st.lists(
        st.builds(
            Event,
            texts,
            st.integers(0, 9),
            st.integers(0, 9),
            st.lists(st.builds(Line, st.integers(0, 9), texts, texts, texts), min_size=1, max_size=3).map(tuple),
            st.lists(st.builds(Raised, st.integers(0, 9), texts, texts), max_size=2).map(tuple),
            time=st.one_of(st.none(), st.floats()),
            near=texts,
        ),
        max_size=2,
    ).map(tuple),
    unchecked=st.lists(st.builds(Unchecked, texts, texts), max_size=2).map(tuple),
    origins=st.lists(texts, max_size=2).map(tuple),
)


@given(case=cases)
@settings(deadline=None, max_examples=150)
def test_any_case_goes_there_and_back(case: Case) -> None:
    """Whatever its texts and numbers: the file can be read, and writing that again makes the same file."""
    written = bundle.dumps(case)
    again = bundle.loads(written.encode())
    assert bundle.dumps(again) == written
    assert (len(again.facts), len(again.events)) == (len(case.facts), len(case.events))


# -- nothing unmasked -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(PLANTED))
def test_no_secret_is_written(tmp_path: Path, kind: str) -> None:
    """A caller that forgot to mask is safe: no secret of any kind, in no place, reaches the file."""
    text, secret = PLANTED[kind]
    bundle.write(with_it_everywhere(text), str(tmp_path / "x"))
    written = (tmp_path / "x").read_text(encoding="utf-8")
    assert (secret in written, json.dumps(secret)[1:-1] in written) == (False, False)
    masked, again = redact.case(with_it_everywhere(text)), bundle.read(str(tmp_path / "x"))
    assert (again.facts, again.events[0].lines, again.unchecked) == (
        masked.facts,
        masked.events[0].lines,
        masked.unchecked,
    )


@given(kind=st.sampled_from(sorted(PLANTED)), before=st.text(max_size=40), after=st.text(max_size=40))
@settings(deadline=None, max_examples=100)
def test_no_text_carries_a_secret_into_the_file(kind: str, before: str, after: str) -> None:
    """Whatever text is around it."""
    text, secret = PLANTED[kind]
    if len(secret) >= 8:
        assert secret not in bundle.dumps(with_it_everywhere(f"{before}\n{text}\n{after}"))


# -- where it is written ----------------------------------------------------------------------------------------------


def test_a_file_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When writing fails half-way, what was there before is still there, and nothing else."""
    path = tmp_path / "x"
    path.write_text("before", encoding="utf-8")

    def fail(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(CaseError, match="x: cannot write it: No space left on device"):
        bundle.write(CASE, str(path))
    assert (path.read_text(encoding="utf-8"), os.listdir(tmp_path)) == ("before", ["x"])


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """The file that it leads to is written."""
    (tmp_path / "real").write_text("x", encoding="utf-8")
    (tmp_path / "link").symlink_to("real")
    bundle.write(CASE, str(tmp_path / "link"))
    assert (tmp_path / "link").is_symlink()
    assert bundle.read(str(tmp_path / "real")) == CASE


def test_a_new_file_is_the_owners_alone(tmp_path: Path) -> None:
    """Masked or not, it tells of a machine: others see it when its owner sends it."""
    bundle.write(CASE, str(tmp_path / "x"))
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o600


@pytest.mark.parametrize("what", ["folder", "pipe", "device", "missing folder", "file as folder", "name"])
def test_only_plain_files_are_written(tmp_path: Path, what: str) -> None:
    """Anything else is refused with a sentence, and left as it is."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("x", encoding="utf-8")
    path = {
        "folder": str(tmp_path),
        "pipe": str(tmp_path / "pipe"),
        "device": "/dev/null",
        "missing folder": str(tmp_path / "no" / "x"),
        "file as folder": str(tmp_path / "file" / "x"),
        "name": "a\0b",
    }[what]
    with pytest.raises(CaseError):
        bundle.write(CASE, path)


# -- bad files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\0\0\0", "is empty"),
        (b"Traceback (most recent call last):\n", "is not a case file"),
        (b"[]", "is not a case file"),
        (b"null", "is not a case file"),
        (b"{}", "is not a case file"),
        (b'"llmdoctor_case"', "is not a case file"),
        (b'{"model_type": "llama"}', "is not a case file"),
        (b'{"llmdoctor_case": "1"}', "is not a case file"),
        (b'{"llmdoctor_case": true}', "is not a case file"),
        (b'{"llmdoctor_case": null}', "is not a case file"),
        (b'{"llmdoctor_case": 1.5}', "is not a case file"),
        (b"\x7fELF\x02\x01\x01", "is not a case file"),
        (
            b'{"llmdoctor_case": 2}',
            "was made by a newer llmdoctor; update this one: pip install --upgrade llmdoctor-cli",
        ),
        (b'{"llmdoctor_case": 9, "tool": "0.9.0", "facts": {}}', "was made by a newer llmdoctor (0.9.0); update"),
        (b'{"llmdoctor_case": 0}', "no llmdoctor writes case files of version 0"),
        (b'{"llmdoctor_case": -1}', "no llmdoctor writes case files of version -1"),
        (b'{"llmdoctor_case": 1,', "is cut off at line 1"),
        (b'{"llmdoctor_case": 1, "tool": "0.', "is cut off at line 1"),
        (b'{"llmdoctor_case": 1} and more', "is damaged at line 1"),
        (b'{"llmdoctor_case": 1, "tool": x}', "is damaged at line 1"),
        (b'{"llmdoctor_case": 1, "tool": "\xff"}', "is damaged: byte 31 is no UTF-8"),
        (b'{"llmdoctor_case": 1, "tool": "\\ud800"}', "is damaged"),
        (b'{"llmdoctor_case": 1, "lines": NaN}', "is damaged: NaN is no number"),
        (b'{"llmdoctor_case": 1, "lines": -Infinity}', "is damaged: -Infinity is no number"),
        (b'{"llmdoctor_case": 1, "llmdoctor_case": 1}', "the key 'llmdoctor_case' stands twice"),
        (b'{"llmdoctor_case": 1, "facts": [{"name": "a", "value": 1, "value": 2}]}', "the key 'value' stands twice"),
        (b'{"llmdoctor_case": 1, "facts": {}}', "is no valid case file: Expected `array`, got `object` - at `$.facts`"),
        (b'{"llmdoctor_case": 1, "facts": [{"name": "a"}]}', "is no valid case file"),
        (b'{"llmdoctor_case": 1, "facts": [{"name": "a", "value": null}]}', "is no valid case file"),
        (b'{"llmdoctor_case": 1, "facts": [{"name": "a", "value": [1]}]}', "is no valid case file"),
        (b'{"llmdoctor_case": 1, "facts": [{"name": 1, "value": 1}]}', "is no valid case file"),
        (b'{"llmdoctor_case": 1, "lines": -1}', "is no valid case file"),
        (b'{"llmdoctor_case": 1, "lines": 1e400}', "is no valid case file"),
        (b'{"llmdoctor_case": 1, "lines": 99999999999999999999}', "is no valid case file"),
        (b'{"llmdoctor_case": 1, "lines": ' + b"9" * 5000 + b"}", "a number of more than 400 digits"),
        (b'{"llmdoctor_case": 1, "events": [{"lines": "x"}]}', "is no valid case file"),
        (b'{"llmdoctor_case": 1, "machine": 1}', "is no valid case file"),
        (b'{"llmdoctor_case": 1, "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "is nested too deeply"),
        (b'{"llmdoctor_case": 1, "x": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, "is nested too deeply"),
        (b"[" * 1_000_000, "is nested too deeply"),
        (b"\xff\xfe{\0", "is not a case file"),
        (a_file(facts=[{"name": "a.b", "value": 1}] * 100_001), "is no valid case file"),
    ],
    ids=lambda value: repr(value[:40]),
)
def test_bad_files_are_refused_with_a_sentence(data: bytes, said: str) -> None:
    """What is wrong with it, in one line that begins with its name."""
    assert said in refused(data)


@pytest.mark.parametrize("cut", [percent / 100 for percent in range(1, 100, 3)])
def test_a_file_that_was_cut_off(cut: float) -> None:
    """Wherever a copy broke off."""
    whole = (CASES / "version1.json").read_bytes().rstrip()
    assert (
        "is cut off" in (said := refused(whole[: int(len(whole) * cut)]))
        or "not a case file" in said
        or "damaged" in said
    )


@given(data=st.one_of(st.binary(max_size=200), st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace"))))
@settings(deadline=None, max_examples=200)
def test_no_bytes_are_a_traceback(data: bytes) -> None:
    """Any bytes are refused with a sentence."""
    refused(data)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["name", "value", "lines", "text", "raised", "frames", "line", "time"]), inner, max_size=4),
    ),
    max_leaves=12,
)  # fmt: skip


@given(
    told=st.dictionaries(
        st.sampled_from(["facts", "events", "unchecked", "origins", "lines", "machine", "tool"]), json_values
    )
)
@settings(deadline=None, max_examples=300)
def test_any_json_of_a_case_file(told: dict[str, Any]) -> None:
    """A file of the right version with anything in it is a case, or is refused with a sentence."""
    try:
        case = bundle.loads(a_file(**told))
    except CaseError:
        return
    assert bundle.loads(bundle.dumps(case).encode()).lines == case.lines


def test_utf_16_is_read() -> None:
    """What PowerShell's `>` makes of a case, and a mark of UTF-8 before it."""
    text = bundle.dumps(CASE)
    assert [bundle.loads(text.encode(name)) for name in ("utf-16", "utf-8-sig")] == [CASE, CASE]


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    """Refused before it fills the memory: a plain one, and one that unpacks to ten times what is allowed."""
    with open(tmp_path / "large", "wb") as file:
        file.write(b'{"llmdoctor_case": 1, "tool": "')
        file.truncate(bundle.MOST_BYTES + 2)
    bomb = a_file()[:-1] + b" " * (64 << 20)
    (tmp_path / "gz").write_bytes(gzip.compress(bomb, 1) * 10)
    (tmp_path / "zst").write_bytes(zstandard.ZstdCompressor().compress(bomb) * 10)
    for name in ("large", "gz", "zst"):
        with pytest.raises(CaseError, match="is larger than 64 MiB"):
            bundle.read(str(tmp_path / name))


def test_a_large_string_is_cut() -> None:
    """No text is longer than the readers of logs would have kept it."""
    case = bundle.loads(
        a_file(facts=[{"name": "a.b", "value": "x" * (8 << 20)}], events=[{"lines": [{"text": "y" * (8 << 20)}]}])
    )
    assert len(str(case.facts[0].value)) == len(case.events[0].lines[0].text) == bundle.LONGEST_TEXT


@pytest.mark.parametrize("name", ["x.gz", "x.zst"])
@pytest.mark.parametrize("cut", [5, 20, 100, -9, -1])
def test_packed_files_that_are_damaged(tmp_path: Path, name: str, cut: int) -> None:
    """Cut off, or with other bytes in the middle."""
    bundle.write(CASE, str(tmp_path / name))
    whole = (tmp_path / name).read_bytes()
    for data in (whole[:cut], whole[:20] + b"\xaa" * 30 + whole[50:]):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(CaseError, match=r"damaged|is cut off|is empty"):
            bundle.read(str(tmp_path / name))


def test_what_is_no_file(tmp_path: Path) -> None:
    """A folder, a pipe that nobody writes to, a device, nothing at all: refused at once."""
    os.mkfifo(tmp_path / "pipe")
    for path, said in [
        (tmp_path, "this is a folder, not a case file"),
        (tmp_path / "pipe", "this is a pipe or device, not a case file"),
        (Path("/dev/zero"), "this is a pipe or device, not a case file"),
        (tmp_path / "none", "no such file"),
        (tmp_path / ("a" * 300), "File name too long"),
    ]:
        with pytest.raises(CaseError, match=said):
            bundle.read(str(path))
    with pytest.raises(CaseError, match="no file can have this name"):
        bundle.read("a\0b")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    """Says so."""
    (tmp_path / "x").write_text("{}", encoding="utf-8")
    (tmp_path / "x").chmod(0)
    with pytest.raises(CaseError, match="not allowed to read it"):
        bundle.read(str(tmp_path / "x"))


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    """Replaced again and again by a writer: each reader sees one whole case."""
    path = str(tmp_path / "x")
    bundle.write(CASE, path)
    done = threading.Event()
    writer = threading.Thread(target=lambda: [bundle.write(CASE, path) for _ in range(30)] and done.set())
    writer.start()
    while not done.is_set():
        assert bundle.read(path) == CASE
    writer.join()


# -- hostile files ----------------------------------------------------------------------------------------------------


def diagnosed(case: Case) -> Diagnosis:
    """The diagnosis by all bundled rules."""
    rules = load()
    return diagnose(rules, case, match(rules, case))


ESCAPES = "\x1b[2J\x1b]0;title\x07\x1b[31m\r\x08\x9b1m\u202egnp"


def test_a_case_cannot_steer_the_terminal() -> None:
    """Escapes in any place of a case are spelled out in the report for people."""
    error = f"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.{ESCAPES}"
    case = with_it_everywhere(error)
    diagnosis = diagnosed(bundle.loads(bundle.dumps(case).encode()))
    assert diagnosis.diagnoses
    for name in ("text", "markdown"):
        told = formatter(name)(diagnosis)
        assert [char for char in "\x1b\x07\x08\x9b\r\u202e" if char in told] == []
    assert [char for char in "\x1b\x07\x08\r" if char in formatter("json")(diagnosis)] == []


def test_a_case_made_to_explode() -> None:
    """Many facts with instances, many events with long lines, lines with numbers that contradict each other."""
    facts = [
        {"name": f"gpu.{number}.{part}", "value": number}
        for number in range(3000)
        for part in ("memory", "name", "ecc_uncorrected")
    ]
    line = {"number": 5, "text": "CUDA out of memory. " * 3000 + "\nRuntimeError: CUDA error\n" * 50}
    events = [
        {
            "line": 9,
            "end_line": 1,
            "lines": [line, {"number": 5}, {"number": 1, "text": "ValueError: x", "body": "other"}],
            "raised": [{"line": 700, "exception": "A" * 9000}] * 20,
        }
    ] * 30
    case = bundle.loads(
        a_file(
            facts=[*facts, {"name": "gpu.*.memory", "value": 1}, {"name": "", "value": ""}],
            events=[*events, {"lines": []}],
        )
    )
    assert (len(case.facts), len(case.events)) == (9000, 30)
    assert [item.what for item in case.unchecked] == ["2 facts of the case file"]
    assert all(formatter(name)(diagnosed(case)) for name in FORMATS)
