"""Data files of all kinds → facts and findings: healthy ones give none, and hostile ones neither crash nor hang."""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diagnose.sources.data import blocks, columnar
from tests.sources.data.support import MODELS, TRL, answer, chats, jsonl, kinds, read, rules_on, system, user, values
from tests.support import ROOT

N = range(30)
CALL = {"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
HEALTHY: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "messages": (dict(TRL), chats(30)),
    "system": (dict(TRL), [{"messages": [system("Be kind."), user(f"q {n}"), answer(f"a {n}")], "id": n} for n in N]),
    "tools": (dict(TRL), [{"messages": [user(f"q {n}"), answer(None, tool_calls=[CALL]), {"role": "tool", "content": f"{n}"}, answer(f"a {n}")], "tools": [CALL]} for n in N]),
    "text": (dict(TRL), [{"text": f"A text of number {n}.\n\nIt has <b>two</b> lines: ü, 你好, {{}}."} for n in N]),
    "prompt and completion": (dict(TRL), [{"prompt": f"q {n} ", "completion": f"a {n}"} for n in N]),
    "prompt and completion as messages": (dict(TRL), [{"prompt": [user(f"q {n}")], "completion": [answer(f"a {n}")]} for n in N]),
    "tokens": (dict(TRL), [{"input_ids": [1, 2, n], "labels": [-100, 2, n]} for n in N]),
    "pairs": ({**TRL, "training.task": "dpo"}, [{"prompt": f"q {n}", "chosen": f"a {n}", "rejected": f"b {n}"} for n in N]),
    "pairs of conversations": ({**TRL, "training.task": "reward"}, [{"chosen": [user(f"q {n}"), answer(f"a {n}")], "rejected": [user(f"q {n}"), answer(f"b {n}")]} for n in N]),
    "judged": ({**TRL, "training.task": "kto"}, [{"prompt": f"q {n}", "completion": f"a {n}", "label": n % 2 == 0} for n in N]),
    "prompts": ({**TRL, "training.task": "grpo"}, [{"prompt": [user(f"q {n}")], "solution": f"{n}"} for n in N]),
    "alpaca": ({"training.framework": "axolotl", "training.task": "sft", "training.dataset.0.path": "data.jsonl", "training.dataset.0.format": "alpaca"}, [{"instruction": f"do {n}", "input": "" if n % 2 else "it", "output": f"done {n}"} for n in N]),
    "sharegpt of axolotl": ({"training.framework": "axolotl", "training.task": "sft", "training.dataset.0.path": "data.jsonl", "training.dataset.0.format": "chat_template", "training.dataset.0.field": "conversations"}, [{"conversations": [{"from": "human", "value": f"q {n}"}, {"from": "gpt", "value": f"a {n}"}]} for n in N]),
    "nothing known": ({}, [{"conversations": [{"from": "human", "value": f"q {n}"}, {"from": "gpt", "value": f"a {n}"}]} for n in N]),
}  # fmt: skip


@pytest.mark.parametrize("name", HEALTHY)
@pytest.mark.parametrize("model", ["", "qwen2", "llama2-chat", "gemma3"])
def test_healthy_data_gives_nothing(tmp_path: Path, name: str, model: str) -> None:
    """Of any form, with and without a model whose template and tokenizer are tried."""
    known, rows = HEALTHY[name]
    if name in ("tools", "system") and model in ("gemma3", "llama2-chat"):
        pytest.skip("these templates know no tools, or no system messages")
    path = jsonl(tmp_path / "data.jsonl", rows)
    if model:
        known = {**known, "training.model": str(MODELS / model)}

    assert [] == rules_on([path], known)


def test_keys_and_roles_that_axolotl_maps(tmp_path: Path) -> None:
    """Messages under other names are conversations where the settings say what the names mean."""
    path = jsonl(tmp_path / "data.jsonl", [{"dialog": [{"by": "client", "says": f"q {n}"}, {"by": "agent", "says": f"a {n}"}]} for n in N])  # fmt: skip
    head = "training.dataset.0."
    known = {"training.framework": "axolotl", "training.task": "sft", head + "path": "data.jsonl", head + "format": "chat_template", head + "field": "dialog"}  # fmt: skip
    own = "training.axolotl.dataset.0."
    keys = {own + "message_property_mappings_role": "by", own + "message_property_mappings_content": "says"}
    assert rules_on([path], known) == ["data-messages-without-role"]
    assert "data-messages-without-role" not in rules_on([path], known | keys)
    assert (
        rules_on([path], known | keys | {own + "roles_user": "client,customer", own + "roles_assistant": "agent"}) == []
    )


@pytest.mark.parametrize(
    ("script", "mapped"),
    [
        ("from datasets import load_dataset\ntrainer(load_dataset('json'))\n", False),
        ("from datasets import load_dataset\ntrainer(load_dataset('json').map(shape))\n", True),
        ("from datasets import load_dataset\nfrom shapes import shape\nshape(load_dataset('json'))\n", True),
        ("import json\nrows = [json.loads(line) for line in open('data.jsonl')]\n", True),
    ],
)
def test_a_script_that_may_change_the_data(tmp_path: Path, script: str, mapped: bool) -> None:
    """Rows as they lie in the file tell nothing where a script, or a module beside it, makes others of them."""
    (tmp_path / "train.py").write_text(script)
    (tmp_path / "shapes.py").write_text("")
    path = jsonl(tmp_path / "data.jsonl", [{"messages": [{"by": "user", "says": f"q {n}"}]} for n in N])
    found = rules_on([path], {**TRL, "training.script": "train.py"})
    assert ("data-messages-without-role" in found) is not mapped


def test_a_script_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """It is not seen that it leaves the data as it is."""
    os.mkfifo(tmp_path / "train.py")
    path = jsonl(tmp_path / "data.jsonl", chats())

    assert read([path], {**TRL, "training.script": "train.py"})[0]["data.mapped"].value is True


def test_every_format_gives_the_same_examples(tmp_path: Path) -> None:
    """A list, a field, a table, compressed lines."""
    rows = [{"text": f'number {n},\n"quoted"'} for n in N]
    lines = jsonl(tmp_path / "a.jsonl", rows)
    (tmp_path / "b.json").write_text(json.dumps(rows, indent=2))
    (tmp_path / "c.json").write_text(json.dumps({"data": rows}))
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(lines.read_bytes()))
    (tmp_path / "e.jsonl.zst").write_bytes(zstandard.compress(lines.read_bytes()))
    (tmp_path / "g.jsonl").write_bytes(b"\xef\xbb\xbf" + lines.read_bytes().replace(b"\n", b"\r\n\r\n"))
    with (tmp_path / "f.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["text"])
        table.writeheader()
        table.writerows(rows)
    facts, unchecked = read([tmp_path])

    assert not unchecked
    found = [values(facts, number) for number in range(7)]
    assert ["jsonl", "json", "json", "jsonl", "jsonl", "csv", "jsonl"] == [one["format"] for one in found]
    assert [(30, "text", "text")] * 7 == [(one["examples"], one["layout"], one["columns"]) for one in found]
    assert 210 == facts["data.examples"].value


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        (b'{"messages": [', "data-lines-unreadable"),
        (b'{"messages": "caf\xe9"}', "data-not-utf8"),
        (b"\0\0\0\0\0", "data-nul-bytes"),
        ('{"messages": null, "messages": null}', "data-keys-twice"),
        ("[1, 2]", "data-rows-are-no-objects"),
        ("{'messages': []}", "data-python-repr"),
        ('{"messages": "a\tb"}', "data-raw-control-characters"),
        ({"messages": []}, "data-conversation-empty"),
        ({"messages": None}, "data-conversation-missing"),
        ({"messages": "[]"}, "data-types-differ"),
        ({"messages": [user("q"), answer(" ")]}, "data-answers-empty"),
        ({"messages": [user("q"), {"role": "bot2", "content": "x"}]}, "data-roles-unknown"),
        ({"messages": [{"role": "human", "content": "q"}, {"role": "gpt", "content": "a"}]}, "data-roles-of-sharegpt"),
        ({"messages": [user("q"), answer(None)]}, "data-messages-without-content"),
    ],
)
def test_a_planted_fault_is_found_at_its_line(tmp_path: Path, row: Any, rule: str) -> None:
    """Among healthy examples."""
    rows: list[Any] = [*chats(12), row, *chats(30)[12:]]
    path = jsonl(tmp_path / "train.jsonl", rows)
    facts, _ = read([path], TRL)

    assert rule in rules_on([path])
    assert 13 in {fact.line for fact in facts.values()}
    assert all("line 13" in where for _, where in kinds(path, TRL).values())


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "data-file-empty"),
        (b"\0" * 9000, "data-file-empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n", "data-file-is-pointer"),
        (b"<!DOCTYPE html><html></html>", "data-file-is-web-page"),
        ('{"text": "a"}\n'.encode("utf-16") * 9, "data-file-utf-16"),
        (b"PK\x03\x04 and so on", "data-file-is-archive"),
        (gzip.compress(os.urandom(5000))[:2000], "data-file-broken-off"),
        (b'{"text": "a"}\n{"text": "b', "data-file-cut-off"),
    ],
)
def test_a_file_that_is_no_data_is_told(tmp_path: Path, data: bytes, rule: str) -> None:
    """By its first bytes, whatever it is called."""
    path = tmp_path / "train.jsonl"
    path.write_bytes(data)

    assert rule in rules_on([path])


def test_pipes_and_folders_without_data_are_told(tmp_path: Path) -> None:
    """A pipe is not waited for."""
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "empty").mkdir()
    _, unchecked = read([tmp_path / "pipe.jsonl", tmp_path / "empty", tmp_path / "none.jsonl"])

    whys = [one.why.removeprefix(f"{tmp_path}/") for one in unchecked]
    assert "pipe.jsonl: it is not a regular file" in whys
    assert "none.jsonl: there is no such file or folder" in whys
    assert any(why.startswith("empty: the folder holds no file") for why in whys)


@pytest.mark.parametrize(("cut", "found"), [(300, ["data-longest-of-one-length"]), (3000, [])])
def test_texts_that_were_cut_to_one_length_are_told(tmp_path: Path, cut: int, found: list[str]) -> None:
    """Those that are shorter by themselves are not counted among them."""
    texts = [f"{n} " + "word " * (30 + 2 * n) for n in range(60)]
    path = jsonl(tmp_path / "train.jsonl", [{"text": text[:cut]} for text in texts])

    assert found == rules_on([path])


def test_objects_over_several_lines_are_no_list(tmp_path: Path) -> None:
    """So no command for a list is given with what is wrong in them."""
    rows = [*chats(30), {"messages": [user("q"), answer(" ")]}]
    path = tmp_path / "train.json"
    path.write_text("\n".join(json.dumps(row, indent=1) for row in rows))
    facts, _ = read([path], TRL)

    assert ("json-objects", 31) == (values(facts)["format"], values(facts)["examples"])
    assert ["data-answers-empty"] == rules_on([path])


def test_a_column_behind_many_others_is_seen(tmp_path: Path) -> None:
    """However long their names are."""
    more = {f"a_long_name_of_what_else_is_known_{n}": n for n in range(40)}
    path = jsonl(tmp_path / "train.jsonl", [{**more, "prompt": f"q {n}"} for n in N])

    assert [] == rules_on([path], {**TRL, "training.task": "grpo"})


def test_evaluation_data_that_leaks_is_found(tmp_path: Path) -> None:
    """By the examples' texts; ids may differ."""
    train = jsonl(tmp_path / "train.jsonl", [{**row, "id": n} for n, row in enumerate(chats(40))])
    test = jsonl(tmp_path / "test.jsonl", [{**row, "id": -n} for n, row in enumerate(chats(50)[35:])])
    facts, _ = read([train, test], TRL)

    assert (5, "lines 1, 2, 3, 4, 5") == (values(facts, 1)["leaked"], values(facts, 1)["leaked_lines"])
    assert 40 == facts["data.examples"].value
    assert ["data-leaks-into-evaluation"] == rules_on([train, test])


def test_repeats_are_found(tmp_path: Path) -> None:
    """Blanks aside."""
    path = jsonl(
        tmp_path / "train.jsonl", [*chats(20), {"messages": [user("What is  3 and 3?\n"), answer("It is 6.")]}]
    )

    assert {"duplicates": (1, "line 21")} == kinds(path)


def test_the_same_question_on_another_image_is_no_repeat(tmp_path: Path) -> None:
    """Whether the image stands in a column or in the message; the same on the same image is one."""
    columns = [{"messages": [user("What is it?"), answer("A cat.")], "images": [f"http://x/{n}"]} for n in (*N, 3)]
    parts = [
        {
            "messages": [
                user([{"type": "image", "url": f"http://x/{n}"}, {"type": "text", "text": "What?"}]),
                answer("A."),
            ]
        }
        for n in (*N, 3)
    ]
    for rows in (columns, parts):
        path = jsonl(tmp_path / "train.jsonl", rows)
        assert (1, "line 31") == kinds(path)["duplicates"]


@pytest.mark.parametrize(
    ("model", "messages", "says"),
    [
        ("gemma3", [user("a"), user("b"), answer("c")], "must alternate"),
        ("llama2-chat", [answer("b"), user("a")], "take turns"),
        ("qwen2", [user("a"), {"role": "assistant"}], "content"),
    ],
)
def test_a_conversation_that_the_template_refuses_is_found(
    tmp_path: Path, model: str, messages: Any, says: str
) -> None:
    """With what the template says, which is what the trainer's log would say."""
    path = jsonl(tmp_path / "train.jsonl", [*chats(20), {"messages": messages}])
    known = {**TRL, "training.model": str(MODELS / model)}
    found = values(read([path], known)[0])

    assert (1, "line 21") == (found["template_refuses"], found["template_refuses_lines"])
    assert says in found["template_refuses_example"]
    assert "data-refused-by-template" == rules_on([path], known)[0]


def test_tokens_are_counted_with_the_models_tokenizer(tmp_path: Path) -> None:
    """And those beyond the length that is set."""
    long = {"messages": [user("word " * 400), answer("yes")]}
    path = jsonl(tmp_path / "train.jsonl", [*chats(15), long, long, long])
    known = {**TRL, "training.model": str(MODELS / "qwen2"), "training.max_length": 256}
    facts, _ = read([path], known)
    found = values(facts)

    assert (3, 16.7, 256) == (found["over_length"], found["over_length_percent"], found["cut_at"])
    assert found["tokens_longest"] > 400
    assert facts["data.tokens"].value == found["tokens"]
    assert "data-cut-to-length" in rules_on([path], known)


def test_prompts_that_fill_the_length_leave_no_answer(tmp_path: Path) -> None:
    """TRL drops such examples; where all are so it has none left."""
    rows = [{"prompt": f"{n} word " * 100, "completion": "yes"} for n in N]
    path = jsonl(tmp_path / "train.jsonl", rows)
    known = {**TRL, "training.model": str(MODELS / "qwen2"), "training.max_length": 64}

    assert "data-all-answers-cut-away" in rules_on([path], known)


def test_trls_own_length_counts_where_none_is_set(tmp_path: Path) -> None:
    """SFTConfig cuts to 1024 tokens by itself."""
    path = jsonl(tmp_path / "train.jsonl", [{"text": f"{n} word " * 900} for n in N])
    found = values(read([path], {**TRL, "training.model": str(MODELS / "qwen2")})[0])

    assert (1024, True, 30) == (found["cut_at"], found["cut_at_default"], found["over_length"])


def test_control_tokens_of_the_model_inside_texts_are_found(tmp_path: Path) -> None:
    """By the names that tokenizer.json gives them."""
    rows: list[Any] = [*chats(20), {"messages": [user("q"), answer("a<|im_end|>")]}]
    path = jsonl(tmp_path / "train.jsonl", rows)
    known = {**TRL, "training.model": str(MODELS / "qwen2")}

    assert {"special_tokens": (1, "line 21")} == kinds(path, known)
    assert {"template_markup": (1, "line 21")} == kinds(path, TRL)


def test_a_sample_says_that_it_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It tells about how many examples there are, and finds what is at the end."""
    monkeypatch.setattr(blocks, "SAMPLE", 20_000)
    path = jsonl(tmp_path / "train.jsonl", [*chats(3000), '{"messages": [{"role'])
    facts, _ = read([path], TRL, sample=True)

    assert facts["data.sampled"].value is True
    assert "data.examples" not in facts
    assert 2700 < int(facts["data.examples_about"].value) < 3300
    assert "unreadable" in values(facts)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=400),
    st.sampled_from(["x.jsonl", "x.json", "x.csv", "x.tsv", "x.txt", "x.gz", "x.parquet", "x", "x.jsonl.zst"]),
    st.sampled_from(
        [
            b"",
            b'{"messages": ',
            b"[",
            b"PAR1",
            b"ARROW1\0\0",
            b"\x1f\x8b\x08\0",
            b"\x28\xb5\x2f\xfd",
            b"\xff\xfe",
            b'{"a":1}\n',
        ]
    ),
)
def test_any_bytes_are_a_data_file(tmp_path: Path, data: bytes, name: str, start: bytes) -> None:
    """They give facts or a reason, and never an exception."""
    path = tmp_path / name
    path.write_bytes(start + data)
    facts, unchecked = read([path], TRL)

    assert "data.file.0.path" in facts or unchecked


FAKE = """
    #!/bin/sh
    [ "$1" = "-I" ] || exit 9
    printf '%s\\n' '{"rows": 12, "columns": ["text"]}'
    for n in 1 2 3 4 5 6 7 8 9 10 11 12; do printf '{"text": "number %s"}\\n' $n; done
    EXIT
"""


@pytest.mark.parametrize(
    ("end", "kind"), [("exit 0", {}), ("echo 'broken: OSError: bad page' >&2; exit 1", {"broken_off"})]
)
def test_parquet_is_read_by_the_environment_that_trains(tmp_path: Path, end: str, kind: Any) -> None:
    """Another interpreter writes its rows as JSON; what it says when it breaks off is told."""
    path = tmp_path / "train.parquet"
    path.write_bytes(b"PAR1")
    python = tmp_path / "python"
    python.write_text(textwrap.dedent(FAKE).lstrip().replace("EXIT", end))
    python.chmod(0o755)
    facts, unchecked = read([path], {**TRL, "python.path": str(python)})

    assert not unchecked
    assert ("parquet", 12, "text") == tuple(values(facts)[name] for name in ("format", "examples", "layout"))
    assert set(kind) == set(kinds(path, {**TRL, "python.path": str(python)}))


def test_without_pyarrow_a_parquet_file_is_not_checked(tmp_path: Path) -> None:
    """An interpreter without it, one that is broken and one that is not there say nothing of the file."""
    path = tmp_path / "train.parquet"
    path.write_bytes(b"PAR1")
    without, broken = tmp_path / "without", tmp_path / "broken"
    without.write_text("#!/bin/sh\necho 'a warning' >&2\necho 'no pyarrow: No module named pyarrow' >&2\nexit 1\n")
    broken.write_text("#!/bin/sh\necho 'libpython3.so: cannot open shared object file' >&2\nexit 127\n")
    for python in (without, broken):
        python.chmod(0o755)

    with pytest.raises(columnar.NoReaderError):
        list(columnar.lines(str(path), [str(tmp_path / "none"), str(without), str(broken)], {}, False))


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.feather"])
def test_rows_of_columns_are_read_with_pyarrow(tmp_path: Path, name: str) -> None:
    """By the first interpreter that has it; bytes are told by their size, and a file that is cut off with the reason."""
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"text": [f"number {n}" for n in range(600)], "image": [b"abc"] * 600})
    path = tmp_path / name
    if name == "a.parquet":
        parquet.write_table(table, path)
    else:
        form = arrow.ipc.new_file if name == "a.feather" else arrow.ipc.new_stream
        with form(path, table.schema) as writer:
            writer.write_table(table)
    nowhere = {"python.path": str(tmp_path / "none")}
    facts, unchecked = read([path], nowhere)

    assert not unchecked
    assert (600, "text", "text, image") == tuple(values(facts)[name] for name in ("examples", "layout", "columns"))
    found = list(columnar.lines(str(path), [sys.executable], {}, False))
    assert {"text": "number 0", "image": "<3 bytes>"} == json.loads(
        b"".join(block.data for block in found).split(b"\n")[1]
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "broken_off" in kinds(path, nowhere)


MEASURE = """
    import os, resource, sys
    from diagnose.sources.data import read
    facts = [reading for reading in read([sys.argv[1]], {}, os.path.dirname(sys.argv[1]), {})]
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def _peak(path: Path) -> int:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEASURE), str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout) // 1024


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """A file forty times as long takes less than 40 MB more, and one line of 60 MB less than its own size."""
    text = "word " * 300
    small = jsonl(tmp_path / "small.jsonl", ({"text": f"{n} {text}"} for n in range(1000)))
    large = jsonl(tmp_path / "large.jsonl", ({"text": f"{n} {text}"} for n in range(40_000)))
    line = jsonl(tmp_path / "line.jsonl", [{"text": "a"}, {"text": "x" * 60_000_000}, {"text": "b"}])
    base = _peak(small)

    assert _peak(large) < base + 40
    assert _peak(line) < base + 60


@pytest.mark.parametrize(("name", "text"), [("a.csv", "text,label\n"), ("a.json", "[]"), ("a.tsv", "text\n")])
def test_a_file_without_examples_is_told(tmp_path: Path, name: str, text: str) -> None:
    """Well formed, and nothing to learn from."""
    (tmp_path / name).write_text(text)
    assert ["data-file-without-examples"] == rules_on([tmp_path / name])


def test_what_is_no_data_file_is_told(tmp_path: Path) -> None:
    """By its name it is a table of columns, or nothing that is known; neither passes in silence."""
    for name in ("a.parquet", "a.arrow", "a.png"):
        (tmp_path / name).write_bytes(b"\x89PNG\r\n" + bytes(range(1, 200)))
        facts, unchecked = read([tmp_path / name])
        assert facts["data.file.0.problem"].value in ("other", "unknown")
        assert [name in item.why for item in unchecked] == [True]
    assert ["data-file-not-as-called"] == rules_on([tmp_path / "a.parquet"])
