"""Hostile configurations, scripts and data of a training: a clear answer, never a crash, a hang or memory without bound."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from diagnose.causes import diagnose
from diagnose.collect import completed
from diagnose.formats import FORMATS, formatter
from diagnose.match import match
from diagnose.model import Case, Diagnosis, Fact, Reading, Unchecked
from diagnose.sources import data, training
from diagnose.sources.child import Source, read_all
from tests.models.edits import write
from tests.models.reading import SECONDS, bounded, unbroken
from tests.test_bundled_rules import RULES

BASE = "model_name_or_path: gpt2\noutput_dir: out\nlearning_rate: 2.0e-5\nper_device_train_batch_size: 4\nbf16: true\n"
LISTS = "a0: &a0 [x,x,x,x]\n" + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
PAIRS = "a0: &a0 {k: 1}\n" + "".join(f"a{n}: &a{n} {{k: *a{n - 1}, m: *a{n - 1}}}\n" for n in range(1, 40))
MERGES = "d0: &d0 {a: 1}\n" + "".join(f"d{n}: &d{n} {{<<: [*d{n - 1},*d{n - 1},*d{n - 1}], k{n}: 1}}\n" for n in range(1, 25))  # fmt: skip
KEYS = [line.partition(":")[0] for line in BASE.splitlines()]
ODD = ["[1, {a: b}]", "{a: b}", "null", ".nan", ".inf", "-.inf", "''", "9" * 5000, "1e400", "0x" + "f" * 3000, "2020-01-01", "-1", "0"]  # fmt: skip

UNREADABLE: dict[str, str | bytes] = {
    "empty": "",
    "comments": "# nothing\n",
    "nothing": "~\n",
    "a word": "hello\n",
    "a list": "- a\n- learning_rate: 3\n",
    "a tab": BASE + "a:\n\tb: 3\n",
    "an open list": BASE + "x: [1, 2\n",
    "an alias of nothing": BASE + "x: *nope\n",
    "an anchor in itself": BASE + "x: &a\n  <<: *a\n",
    "a mapping as key": BASE + "? {a: b}\n: c\n",
    "a template": BASE + "{% if x %}\nseed: {{ seed }}\n{% endif %}\n",
    "a conflict": BASE + "<<<<<<< HEAD\nseed: 1\n=======\nseed: 2\n>>>>>>> x\n",
    "a pointer": "version https://git-lfs.github.com/spec/v1\n",
    "utf-16": BASE.encode("utf-16"),
    "utf-16 without mark": BASE.encode("utf-16-le"),
    "latin-1": BASE.encode() + b"run_name: caf\xe9\n",
    "nul": BASE + "a\0b: 3\n",
    "an escape": BASE + "run_name: a\x1b[31mb\n",
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9,
    "deep lists": BASE + "x: " + "[" * 20_000,
    "deep mappings": BASE + "x: " + "{a: " * 3_000 + "1" + "}" * 3_000,
    "deep blocks": BASE + "x:\n" + "".join(" " * (n + 1) + "a:\n" for n in range(200)),
    "lists of lists": LISTS + BASE,
    "mappings of mappings": PAIRS + BASE,
    "large": BASE + "# " + "x" * (3 << 20),
    "open json": '{"zero_optimization": {"stage": 3',
    "deep json": '{"zero_optimization": ' + '{"a":' * 100_000,
    "a list of json": "[1, 2]",
}
READ: dict[str, str | bytes] = {
    "anchors": "rate: &r 5.0e-5\n" + BASE.replace("2.0e-5", "*r"),
    "merged": "base: &b {fp16: true}\n<<: *b\n" + BASE,
    "merged over and over": MERGES + BASE,
    "merged with a number": "<<: 7\n" + BASE,
    "twice": BASE + "learning_rate: 1\n",
    "a call": BASE + "x: !!python/object/apply:os.system ['touch made']\n",
    "an object": BASE + "optim: !!python/object:foo.Bar {a: b}\n",
    "an include": BASE + "optim: !include other.yaml\ny: !env HOME\n",
    "placeholders": BASE + "hub_token: ${HF_TOKEN}\nsave_steps: $STEPS\nseed: '{{ seed }}'\n",
    "documents": "---\n".join([BASE] * 500),
    "byte order mark": b"\xef\xbb\xbf" + BASE.encode(),
    "returns": BASE.replace("\n", "\r"),
    "keys of all kinds": BASE + "1: a\nnull: b\n~: c\ntrue: d\n1.5: e\n2020-01-01: z\n'': h\n' ': i\n",
    "many keys": BASE + "".join(f"learning_rat{n}: {n}\n" for n in range(10_000)),
    "a long key": BASE + "? " + "learning_rate" * 900 + "\n: 3\n",
    "itself as deepspeed": BASE + "deepspeed: x.yaml\n",
    "deepspeed of odd names": BASE + 'deepspeed: "a\\0b"\nfsdp_config: "~nobody/x"\n',
    "a device as deepspeed": BASE + "deepspeed: /dev/zero\naccelerator_config: /dev/stdin\n",
    "escapes in values": BASE + 'optim: "\\e[2Jadam\\a\\0"\n',
    "json with comments": '{\n// why\n"zero_optimization": {"stage": 3,},\n}',
    "json twice": '{"zero_optimization": {"stage": 3}, "zero_optimization": {"stage": 2}}',
    "json without numbers": '{"zero_optimization": {"stage": NaN}, "gradient_clipping": Infinity, "train_batch_size": 1e999}',
    "half characters": '{"zero_optimization": {"stage": 3, "x\\ud800": "\\udcff"}, "bf16": {"enabled": "\\ud83d"}}',
    "deepspeed of other types": '{"zero_optimization": [3], "fp16": 7, "bf16": "yes", "optimizer": null, "scheduler": [], "train_batch_size": {}}',
    "peft of other types": '{"peft_type": [], "r": "x", "lora_alpha": {}, "target_modules": {"a": 1}, "modules_to_save": 9, "rank_pattern": []}',
    "peft of slow patterns": '{"peft_type": "LORA", "r": 8, "target_modules": "(a+)+$(a*)*[[", "layers_pattern": "(a|a)*b"}',
    "axolotl of other types": "base_model: [x]\ndatasets: [7, null, [], {path: 3, type: []}]\nadapter: {}\nlora_r: x\nmicro_batch_size: {}\ndeepspeed: [a]\nplugins: 8\n",
    "llamafactory of other types": "stage: [sft]\nfinetuning_type: {}\ndataset: [a, {}]\ntemplate: 7\ncutoff_len: x\nlora_target: [q, {}]\n",
    "accelerate of other types": "compute_environment: []\ndistributed_type: {}\nnum_processes: x\nfsdp_config: 7\nmachine_rank: -1\n",
    "torchtune of other types": "model: []\noptimizer: 7\ndataset: {_component_: 9}\ntokenizer: {_component_: []}\nbatch_size: x\n",
}  # fmt: skip


def told(path: Path | str, where: Path, kind: str = "training configuration") -> list[Reading]:
    """What a file says, read in a child with bounds on time and memory."""
    environ = {"HOME": str(where), "PATH": os.environ["PATH"]}

    def read() -> Iterator[Reading]:
        if kind == "training data":
            return data.read([str(path)], environ, str(where), {})
        return training.read([str(path)], environ, str(where))

    readings = unbroken(list(read_all([Source(kind, bounded(read), SECONDS)])))
    assert not any(isinstance(one, Unchecked) and one.why.startswith("no answer") for one in readings)
    return readings


def judged(readings: list[Reading]) -> Diagnosis:
    """What all rules say of it, and every format can write."""
    facts = tuple(one for one in readings if isinstance(one, Fact))
    case = completed(Case(facts=facts, unchecked=tuple(one for one in readings if isinstance(one, Unchecked))))
    found = diagnose(RULES, case, match(RULES, case))
    for name in FORMATS:
        formatter(name)(found).encode("utf-8", "strict" if name == "json" else "replace")
    return found


@pytest.mark.parametrize("kind", list(UNREADABLE))
def test_what_cannot_be_read_is_told_in_a_sentence(kind: str, tmp_path: Path) -> None:
    """With what the user named, so that the exit code is 2."""
    write("x.yaml", UNREADABLE[kind])(tmp_path)
    readings = told(tmp_path / "x.yaml", tmp_path)
    (why,) = [one.why for one in readings if isinstance(one, Unchecked)]

    assert "x.yaml: " in why
    assert "Error" not in why
    judged(readings)


@pytest.mark.parametrize("kind", list(READ))
def test_what_can_be_read_is_read(kind: str, tmp_path: Path) -> None:
    """No tag makes an object, no name of a file is followed to where it should not, nothing is run."""
    write("x.yaml", READ[kind])(tmp_path)
    readings = told(tmp_path / "x.yaml", tmp_path)

    assert not [one for one in readings if isinstance(one, Unchecked)]
    judged(readings)
    assert sorted(os.listdir(tmp_path)) == ["x.yaml"]


@pytest.mark.parametrize("value", ODD, ids=lambda value: value[:12])
def test_a_value_may_be_anything(value: str, tmp_path: Path) -> None:
    """Of every key: numbers that are none, without end, or of thousands of digits, lists and mappings."""
    write(
        "x.yaml", "".join(f"{key}: {value}\n" for key in [*KEYS, "max_steps", "warmup_ratio", "lora_r", "max_length"])
    )(tmp_path)
    judged(told(tmp_path / "x.yaml", tmp_path))


PLACES: dict[str, Callable[[Path], object]] = {
    "a folder": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "nothing": lambda path: None,
}


@pytest.mark.parametrize("what", ["training configuration", "training data"])
@pytest.mark.parametrize("ending", [".yaml", ".json", ".py", ".jsonl", ".parquet"])
@pytest.mark.parametrize("place", list(PLACES))
def test_what_is_no_file_is_told(place: str, ending: str, what: str, tmp_path: Path) -> None:
    """It is neither opened nor waited for."""
    PLACES[place](tmp_path / f"x{ending}")
    readings = told(tmp_path / f"x{ending}", tmp_path, what)

    assert any(isinstance(one, Unchecked) and f"x{ending}: " in one.why for one in readings)


@pytest.mark.parametrize("name", ["a b.yaml", "a\nb.yaml", "q'\"`.yaml", "a,b:c%41.yaml", "\udcff\udcfe.yaml", "\x1b[31m.yaml", "[b]<&>]]>.yaml"])  # fmt: skip
def test_a_file_may_be_called_anything(name: str, tmp_path: Path) -> None:
    """Every format stays what it is: JSON, XML, and text that can be encoded."""
    (tmp_path / name).write_text(BASE + "fp16: true\n")
    found = judged(told(tmp_path / name, tmp_path))

    assert "both-precisions" in [cause.rule for cause in found.diagnoses]
    for kind in ("json", "sarif", "gitlab"):
        json.loads(formatter(kind)(found))


CALL = "from transformers import TrainingArguments\nTrainingArguments(output_dir='x', learning_rate={})\n"
SCRIPTS: dict[str, str | bytes] = {
    "empty": "",
    "an open bracket": "TrainingArguments(output_dir='x'\n",
    "python 2": "print 'hi'\n",
    "nul": "x = 1\0\n",
    "utf-16": "x = 1\n".encode("utf-16"),
    "latin-1": b"# -*- coding: latin-1 -*-\nx = 'caf\xe9'\n",
    "not what it says": b"x = 'caf\xe9'\n",
    "no such coding": b"# -*- coding: nope -*-\nx = 1\n",
    "brackets": CALL.format("(" * 300 + "1" + ")" * 300),
    "signs": CALL.format("-" * 100_000 + "1"),
    "a sum": CALL.format("+".join(["1"] * 100_000)),
    "a short sum": CALL.format("+".join(["1"] * 900)),
    "attributes": "x = " + "a." * 50_000 + "b\n",
    "a power": CALL.format("10**10**10"),
    "a shift": CALL.format("1 << 10**10"),
    "by nothing": CALL.format("1 // 0"),
    "digits": CALL.format("9" * 10_000),
    "repeated": CALL.format("'x' * 10**10"),
    "text doubled": "s = 'aaaaaaaaaa'\n" + "s = s + s\n" * 60 + CALL.format("s"),
    "formatted over and over": "s = 'aaaaaaaaaa'\n" + "s = f'{s}{s}'\n" * 60 + CALL.format("s"),
    "lists doubled": "s0 = [1]\n" + "".join(f"s{n + 1} = [s{n}, s{n}]\n" for n in range(60)) + CALL.format("s60"),
    "dicts doubled": "d = {'a': 1}\n" + "d = {**d, **d}\n" * 200 + "TrainingArguments(**d)\n",
    "in a circle": "a = b\nb = a\nd = {}\nd['d'] = d\nTrainingArguments(output_dir=a, learning_rate=b, **a, **d)\n",
    "odd values": "TrainingArguments(output_dir='\\udcff', seed=1j, optim=b'x', report_to=..., **{1: 2, None: 3})\n",
    "many calls": CALL.format("1e-5") * 9_000,
    "large": "x = 1\n" * 300_000,
}


@pytest.mark.parametrize("kind", list(SCRIPTS))
def test_a_script_may_be_anything(kind: str, tmp_path: Path) -> None:
    """It is parsed and never run; what is no Python is told with its line."""
    write("x.py", SCRIPTS[kind])(tmp_path)
    readings = told(tmp_path / "x.py", tmp_path)

    assert not any("Error" in one.why for one in readings if isinstance(one, Unchecked))
    judged(readings)


ROW = b'{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}\n'
ROWS = b"".join(ROW.replace(b"hi", b"hi %d" % n) for n in range(50))
ZEROS = b"".join([gzip.compress(bytes(1 << 26), 9)] * 16)
DATA: dict[str, tuple[str, bytes, str]] = {
    "a broken last line": ("x.jsonl", ROWS + ROW[:30], "data-file-cut-off"),
    "zeros in it": ("x.jsonl", ROWS[:500] + bytes(4) + b"\n" + ROWS, "data-nul-bytes"),
    "zeros behind it": ("x.jsonl", ROWS + bytes(4096), "data-nul-bytes"),
    "two encodings": ("x.jsonl", ROWS + '{"text": "café"}\n'.encode("latin-1") + ROWS, "data-not-utf8"),
    "utf-16": ("x.jsonl", ROWS.decode().encode("utf-16"), "data-file-utf-16"),
    "a long line": ("x.jsonl", ROWS + ROW.replace(b"hi", b"a" * 100_000_000) + ROWS, "data-huge-lines"),
    "deep": ("x.jsonl", ROWS + b'{"messages": ' + b"[" * 200_000 + b"\n", "data-too-deep"),
    "no bytes": ("x.jsonl", b"", "data-file-empty"),
    "blanks": ("x.jsonl", b"\n\n\n", "data-file-empty"),
    "an open list": ("x.json", b"[" + ROWS.replace(b"\n", b",\n"), "data-file-cut-off"),
    "a list of nothing": ("x.json", b"[]", "data-file-without-examples"),
    "a comma too many": ("x.json", b"[" + ROWS.replace(b"\n", b",\n")[:-2] + b",]", "data-lines-unreadable"),
    "unpacks to zeros without end": ("x.jsonl.gz", ZEROS, "data-file-empty"),
    "gzip cut off": ("x.jsonl.gz", gzip.compress(os.urandom(9_000) + ROWS)[:5_000], "data-file-broken-off"),
    "zstandard cut off": ("x.jsonl.zst", zstandard.compress(ROWS)[:100], "data-file-broken-off"),
    "no parquet": ("x.parquet", bytes(range(1, 256)) * 9, "data-file-not-as-called"),
    "no arrow": ("x.arrow", bytes(range(1, 256)) * 9, "data-file-not-as-called"),
    "a head without rows": ("x.csv", b"text,label\n", "data-file-without-examples"),
    "an open quotation mark": ("x.csv", b'text,label\n"a,1\n' + b"b,2\n" * 9_000, "data-csv-quote-open"),
    "too many cells": ("x.csv", b"text,label\na,1,2,3\n", "data-csv-too-many-cells"),
    "thousands of columns": ("x.csv", b",".join(b"c%d" % n for n in range(50_000)) + b"\n" + b"1," * 49_999 + b"1\n", ""),
    "other keys in each line": ("x.jsonl", b"".join(b'{"k%d": 1, "text": "a %d"}\n' % (n, n) for n in range(5_000)), ""),
    "half characters": ("x.jsonl", b'{"text": "\\ud800"}\n{"te\\udfffxt": "a"}\n', "data-half-characters"),
    "no numbers": ("x.jsonl", b'{"text": NaN}\n{"text": 1e999}\n{"text": ' + b"9" * 6_000 + b"}\n", "data-lines-unreadable"),
    "values of all kinds": ("x.jsonl", b'1\nnull\n"a"\n[]\n{}\n{"messages": 3}\n{"messages": [1, null, []]}\n{"messages": [{"role": [], "content": {}}]}\n', "data-rows-are-no-objects"),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(DATA))
def test_data_may_hold_anything(kind: str, tmp_path: Path) -> None:
    """What is wrong is found by its rule, in bounded memory."""
    name, content, rule = DATA[kind]
    (tmp_path / name).write_bytes(content)
    found = judged(told(tmp_path / name, tmp_path, "training data"))

    assert not rule or rule in [cause.rule for cause in found.diagnoses]


def test_a_file_of_holes_is_read_no_further_than_needed(tmp_path: Path) -> None:
    """It may be larger than the disk."""
    for name in ("x.jsonl", "x.json", "x.csv", "x.parquet"):
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, 1 << 40)
        found = judged(told(tmp_path / name, tmp_path, "training data"))

        assert ["data-file-empty"] == [cause.rule for cause in found.diagnoses]


def test_a_file_that_shrinks_while_it_is_read_ends(tmp_path: Path) -> None:
    """What was read before counts."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(ROWS * 2_000)
    readings: list[Reading] = []
    for reading in data.read([str(path)], {"HOME": str(tmp_path)}, str(tmp_path), {}):
        os.truncate(path, 0)
        readings.append(reading)

    judged([one for one in readings if isinstance(one, Fact | Unchecked)])
