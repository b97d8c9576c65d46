"""A settings file is opened whatever it is, and what keeps it from being used is told in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.sources.training import documents
from diagnose.sources.training.documents import is_placeholder, parse, without_comments
from tests.support import facts_of_files


@pytest.mark.parametrize(
    ("text", "problem", "line"),
    [
        ("", "empty", 0),
        ("# nothing\n", "empty", 0),
        ("{}\n", "empty", 1),
        ("- a\n- b\n", "not-a-mapping", 1),
        ("just words\n", "not-a-mapping", 1),
        ("a: 1\n---\nb: 2\n", "several-documents", 3),
        ("{% if x %}\na: 1\n{% endif %}\n", "template", 1),
        ("lr: {{ rate }}\n", "template", 1),
    ],
)
def test_what_keeps_a_file_from_being_used_is_told(text: str, problem: str, line: int) -> None:
    """Each problem has one word, and the line where it stands."""
    found = parse(text.encode())
    assert found.problem == problem
    assert not line or found.line == line
    assert found.why


def test_a_broken_text_is_told_with_its_line() -> None:
    """What is wrong is said in the words of the reader."""
    found = parse(b"a: 1\nb: [1\nc: 2\n")
    assert found.mapping is None
    assert found.line == 3
    assert "line 3" in found.problem


def test_json_with_comments_is_read_and_told() -> None:
    """Comments and last commas are blanked out, so that places stay true, and the reason is kept."""
    text = '{\n  // why\n  "a": {"b": "http://x//y#z",}, # so\n  /* long\n */ "c": [1, 2,],\n}\n'
    found = parse(text.encode(), is_json=True)
    assert found.mapping is not None
    assert "it has a comment" in found.problem
    assert found.line == 2
    assert found.mapping.get("a", "b").value == "http://x//y#z"
    assert found.mapping.keys["c"] == (5, 5)


def test_json_is_recognised_by_its_content() -> None:
    """A file that begins with a brace is read as JSON, whatever its name."""
    assert parse(b'{"a": 1e-5}').format == "json"
    assert parse(b"a: 1\n").format == "yaml"
    assert parse(b"{a: 1}\n").format == "yaml", "flow mappings of YAML are no JSON"


def test_keys_that_stand_twice_and_tags_are_told() -> None:
    """Both with their places; nothing is made of a tag."""
    found = parse(b"a: 1\nb: !include x.yaml\nc: !!python/object/apply:os.system ['true']\na: 2\n")
    assert [name for name, *_ in found.duplicates] == ["a"]
    assert [name for name, *_ in found.tags] == ["!include", "!!python/object/apply:os.system"]


@pytest.mark.parametrize("text", ["${OUT}", "${oc.env:HOME}/x", "$SCRATCH/out", "{{ rate }}", "{{ rate | float }}"])
def test_placeholders_are_known(text: str) -> None:
    """Forms in which people leave a value open."""
    assert is_placeholder("output_dir", text)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("chat_template", "{{ messages }}"),
        ("prompt_format", "${x}"),
        ("output_dir", "out/$5"),
        ("learning_rate", "1e-5"),
        ("pad_token", "<pad>"),
        ("system", "{{ a }}"),
    ],
)
def test_what_only_looks_like_one_is_none(key: str, text: str) -> None:
    """Templates may hold braces, and a dollar is a character."""
    assert not is_placeholder(key, text)


def test_omegaconf_resolves_its_own() -> None:
    """`${output_dir}/logs` names another key where OmegaConf reads the file."""
    assert not is_placeholder("logs", "${output_dir}/logs", resolved=True)


def test_no_pipe_or_folder_is_read(tmp_path: Path) -> None:
    """A folder, a missing file and a device are told, and nothing waits for them."""
    assert documents.load(str(tmp_path)).problem == "unreadable"
    assert documents.load(str(tmp_path / "no.yaml")).problem == "missing"
    assert documents.load("/dev/zero").problem == "unreadable"


@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_raise(data: bytes, is_json: bool) -> None:
    """Whatever a file holds, reading it ends with a mapping or a reason."""
    found = parse(data, is_json)
    assert found.mapping is not None or found.problem


@given(st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=8))  # fmt: skip
def test_plain_json_stays_as_it_is(value: object) -> None:
    """Only comments and last commas are taken out: no text of valid JSON is changed."""
    text = json.dumps(value, indent=1).encode()
    assert without_comments(text) == text


@given(st.text(alphabet='{}[]",:/*# \n\\a1', max_size=60))
def test_comments_keep_every_line(text: str) -> None:
    """What is blanked out leaves the length and the lines as they were."""
    data = text.encode()
    bare = without_comments(data)
    assert len(bare) == len(data)
    assert bare.count(b"\n") == data.count(b"\n")


def test_anchors_that_stand_for_billions_of_values_are_refused() -> None:
    """A few lines whose anchors repeat one another are told, before anything is written out."""
    lists = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    mappings = "a0: &a0 {k: 1}\n" + "".join(f"a{n}: &a{n} {{k: *a{n - 1}, m: *a{n - 1}}}\n" for n in range(1, 40))
    for text in (lists, mappings):
        opened = parse(text.encode())
        assert opened.mapping is None
        assert "anchors" in opened.why
    assert parse(b"a: &a {k: 1}\nb: *a\nc: [*a, *a]\n").mapping is not None


def test_where_a_key_holds_a_placeholder_the_frameworks_default_does_not_hold(tmp_path: Path) -> None:
    """Axolotl trains with one example at a time where nothing is set, and with any number where `${BATCH}` is."""
    text = "base_model: m\ndatasets: [{path: d, type: alpaca}]\nsequence_len: 512\nnum_epochs: 1\n"
    (tmp_path / "a.yaml").write_text(text)
    (tmp_path / "b.yaml").write_text(text + "micro_batch_size: ${BATCH}\n")
    plain, open_ = ({fact.name for fact in facts_of_files(tmp_path, name)} for name in ("a.yaml", "b.yaml"))
    assert plain - open_ == {"training.batch"}
    lora = "model_name_or_path: m\nstage: sft\ndo_train: true\nfinetuning_type: lora\ndataset: d\ntemplate: qwen\n"
    (tmp_path / "c.yaml").write_text(lora)
    (tmp_path / "d.yaml").write_text(lora + "lora_rank: ${RANK}\n")
    plain, open_ = ({fact.name for fact in facts_of_files(tmp_path, name)} for name in ("c.yaml", "d.yaml"))
    assert plain - open_ == {"training.lora.rank", "training.lora.alpha"}
