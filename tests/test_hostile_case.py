"""Case files from anybody, through the commands that read them: a report or a sentence, never a traceback, never a hang."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose import bundle, facts, ruleset
from diagnose.causes import diagnose
from diagnose.collect import completed
from diagnose.formats import FORMATS, formatter
from diagnose.match import match
from diagnose.model import Diagnosis
from tests.support import run_doctor, whole_installation

CASES = Path(__file__).parent / "cases"
MEGABYTE = 1 << 20
ERROR = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
ESCAPES = "\x1b[2J\x1b]0;title\x07\x1b[31m\r\x08\x9b1m\u202egnp"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation with all bundled rules, and a log in it."""
    folder = whole_installation(tmp_path_factory.mktemp("case") / "home")
    (folder / "crash.log").write_text(f"INFO fine\n{ERROR}\n", encoding="utf-8")
    return folder


def a_file(**told: Any) -> bytes:
    return json.dumps({"llmdoctor_case": 1, "machine": True, **told}).encode()


def a_fact(name: str, value: object) -> dict[str, object]:
    return {"name": name, "value": value, "origin": "x"}


COMMANDS = (("check",), ("diagnose", "crash.log"))

BAD = {
    "empty": (b"", "is empty"),
    "a log": (b"RuntimeError: CUDA error\n", "is not a case file"),
    "other JSON": (b'{"model_type": "llama"}', "is not a case file"),
    "cut off": ((CASES / "version1.json").read_bytes()[:900], "is cut off"),
    "too new": (b'{"llmdoctor_case": 99, "tool": "9.0"}', "was made by a newer llmdoctor (9.0); update this one"),
    "wrong types": (a_file(facts="x"), "is no valid case file"),
    "a key twice": (b'{"llmdoctor_case": 1, "lines": 1, "lines": 2}', "stands twice"),
    "NaN": (b'{"llmdoctor_case": 1, "lines": NaN}', "is no number"),
    "Latin-1": ('{"llmdoctor_case": 1, "tool": "é"}'.encode("latin-1"), "is no UTF-8"),
    "deeply nested": (b'{"llmdoctor_case": 1, "x":' + b"[" * MEGABYTE, "is nested too deeply"),
    "half of a pair": (b'{"llmdoctor_case": 1, "tool": "\\ud800"}', "is damaged"),
    "damaged gzip": (b"\x1f\x8b\x08\x00broken", "damaged compressed data"),
    "damaged zstd": (b"\x28\xb5\x2f\xfdbroken", "damaged compressed data"),
    "escapes in a key": (json.dumps({"llmdoctor_case": 1, ESCAPES: 1})[:-1].encode() + b', "\\u001b[2J": 1, "\\u001b[2J": 2}', "stands twice"),
    "escapes in the version": (json.dumps({"llmdoctor_case": 7, "tool": ESCAPES}).encode(), "newer llmdoctor"),
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(BAD))
def test_a_bad_case_file_is_refused(home: Path, tmp_path: Path, kind: str) -> None:
    """Exit 2, nothing on stdout, one sentence on stderr that names the file and cannot steer the terminal."""
    data, said = BAD[kind]
    (tmp_path / "bad.json").write_bytes(data)
    for command in COMMANDS:
        done = run_doctor(home, *command, "--case", str(tmp_path / "bad.json"))
        assert (done.returncode, done.stdout) == (2, b"")
        [line] = done.stderr.decode().splitlines()
        assert line.startswith("llmdoctor: ")
        assert "bad.json: " in line
        assert said in line
        assert line.isprintable()


def test_what_is_no_file_is_refused(home: Path, tmp_path: Path) -> None:
    """A pipe that nobody writes to, a folder, a device without end, nothing."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero"), tmp_path / "none"):
        done = run_doctor(home, "check", "--case", str(path))
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, b"", 1)


def test_a_file_that_is_too_large_is_refused(home: Path, tmp_path: Path) -> None:
    """A string of a gigabyte (a file with a hole): refused by its size."""
    with open(tmp_path / "large.json", "wb") as file:
        file.write(b'{"llmdoctor_case": 1, "tool": "')
        file.truncate(1 << 30)
    done = run_doctor(home, "check", "--case", str(tmp_path / "large.json"))
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"is larger than 64 MiB" in done.stderr


def test_the_first_version_is_judged(home: Path) -> None:
    """The file that was written by hand: its error is named, with the facts of its machine."""
    done = run_doctor(home, "check", "--case", str(CASES / "version1.json"), "--format", "json")
    told = json.loads(done.stdout)
    assert (done.returncode, done.stderr, told["diagnoses"][0]["rule"]) == (1, b"", "cuda-out-of-memory")
    assert any(item["what"] == "kernel log" for item in told["unchecked"])


def test_a_case_joins_a_log(home: Path, tmp_path: Path) -> None:
    """What the case knows of the machine stands beside what the log says; the log's lines are the evidence."""
    (tmp_path / "case.json").write_bytes(a_file(facts=[a_fact("gpu.0.name", "NVIDIA H100 80GB HBM3")]))
    done = run_doctor(home, "diagnose", "crash.log", "--case", str(tmp_path / "case.json"), "--format", "json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["diagnoses"][0]["evidence"][0]["line"]) == (1, 2)
    assert [fact["value"] for fact in told["facts"] if fact["name"] == "gpu.0.name"] == ["NVIDIA H100 80GB HBM3"]


def test_escapes_do_not_reach_the_terminal(home: Path, tmp_path: Path) -> None:
    """In values, names, origins, lines, exceptions and what was not checked."""
    line = {"number": 1, "text": ERROR + ESCAPES}
    event = {
        "origin": ESCAPES,
        "lines": [line],
        "raised": [{"line": 1, "exception": "torch.OutOfMemoryError", "message": ESCAPES}],
    }
    event |= dict.fromkeys(("phase", "rank", "process", "host", "near"), ESCAPES) | {"ranks": [ESCAPES, "1"]}
    told = [
        a_fact(name, ESCAPES)
        for name in ("gpu.0.name", "driver.version", "torch.version", "os.name", "driver.error", f"a.{ESCAPES}")
    ]
    (tmp_path / "case.json").write_bytes(
        a_file(
            facts=[*told, a_fact("gpu.count", 1)],
            events=[event],
            origins=[],
            unchecked=[{"what": ESCAPES, "why": ESCAPES}],
        )
    )
    for form in ("text", "markdown"):
        done = run_doctor(home, "check", "--case", str(tmp_path / "case.json"), "--format", form)
        assert (done.returncode, done.stderr) == (1, b"")
        assert [char for char in "\x1b\x07\x08\x9b\r\u202e" if char in done.stdout.decode()] == []


MANY = {
    "requirements": [a_fact(f"unmet.p{number}.{part}", "a>1") for number in range(7000) for part in ("requirement", "installed", "by")],
    "GPUs": [a_fact(f"gpu.{number}.{part}", value) for number in range(5000) for part, value in (("name", "x"), ("memory", 5), ("compute_capability", "3.5"), ("ecc_uncorrected", 5))],
    "distributions": [a_fact(f"p{number}.version", "1.0") for number in range(20000)],
    "one fact": [a_fact("torch.version", f"1.{number}") for number in range(20000)],
    "long versions": [a_fact(name, "1." * 30000 + "1") for name in ("torch.version", "transformers.version", "driver.version", "driver.cuda", "numpy.version")],
    "any instance": [a_fact("gpu.*.ecc_uncorrected", 5), a_fact("*.version", "1"), a_fact("", ""), a_fact("." * 400, 1)],
    "other types": [a_fact(name, value) for name, value in (("torch.version", 1.5), ("transformers.version", True), ("driver.version", -5), ("gpu.count", "many"), ("gpu.0.memory", "x"), ("python.version", ""), ("memory.usable", True), ("cuda.available", "yes"))],
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(MANY))
def test_facts_made_to_hurt(home: Path, tmp_path: Path, kind: str) -> None:
    """Thousands of instances, versions of many thousand parts, values of other types: a report all the same."""
    (tmp_path / "case.json").write_bytes(a_file(facts=MANY[kind]))
    done = run_doctor(home, "check", "--case", str(tmp_path / "case.json"))
    assert (done.returncode in (0, 1), done.stderr, bool(done.stdout)) == (True, b"", True)


def test_events_made_to_hurt(home: Path, tmp_path: Path) -> None:
    """Long lines of nothing but errors, line numbers that contradict each other, thousands of frames."""
    frame = {"file": "/a/" * 500, "line": 1, "function": "f", "place": "a.py:f"}
    line = {"number": 5, "text": f"{ERROR} " * 800}
    event = {"line": 9, "end_line": 1, "lines": [line, {"number": 5}, {"text": "ValueError: x", "body": "other"}]}
    event |= {"raised": [{"line": 700, "exception": "A" * 9000, "frames": [frame] * 20}] * 5, "ranks": ["0"] * 9000}
    (tmp_path / "case.json").write_bytes(a_file(events=[event] * 100))
    done = run_doctor(home, "check", "--case", str(tmp_path / "case.json"))
    assert (done.returncode in (0, 1), done.stderr) == (True, b"")


def test_a_case_holds_no_secret_of_the_environment(home: Path, tmp_path: Path) -> None:
    """Tokens and passwords in variables, and who runs it: in no form in what `collect` writes."""
    secrets = {
        "HF_TOKEN": "hf_" + "aBcDeFgHiJ" * 3 + "kLmN",
        "WANDB_API_KEY": "0123456789" * 4,
        "OPENAI_API_KEY": "sk-proj-" + "Zy9" * 12,
        "HTTPS_PROXY": "http://bob:hunter2pass@proxy.corp:3128",
        "PIP_INDEX_URL": "https://bob:hunter3pass@pypi.corp/simple",
        "MASTER_ADDR": "gpunode17.corp",
        "HF_HOME": "/home/zaphod/.cache/huggingface",
    }
    done = run_doctor(home, "collect", "-o", str(tmp_path / "case.json"), **secrets)
    assert done.returncode == 0
    written = (tmp_path / "case.json").read_text(encoding="utf-8")
    planted = (secrets["HF_TOKEN"], secrets["WANDB_API_KEY"], "Zy9Zy9", "hunter2", "hunter3", "gpunode17", "zaphod")
    assert [secret for secret in planted if secret in written] == []
    assert run_doctor(home, "check", "--case", str(tmp_path / "case.json")).returncode in (0, 1)


# -- in this process: more of them than can be run as commands ---------------------------------------------------------


def report(data: bytes) -> Diagnosis:
    """The way of `check --case`: by all bundled rules, in every format."""
    rules = ruleset.load()
    case = completed(bundle.loads(data))
    diagnosis = diagnose(rules, case, match(rules, case))
    assert all(formatter(name)(diagnosis) for name in FORMATS)
    return diagnosis


ODD_TEXTS = ["", "x", "9", "9.", "9.0.0", "12.x", "v1", "1..2", ".", "-1", "none", "NaN", "inf", "1e999", "0x10", "\0", "🦊", "1!2.0", "2.8.0+cu128", "2.8.0.dev20250101", "a,b", "[1,2]",
             "9.0+PTX", "sm_90", "9" * 50, "1." * 60 + "1", "true", "\n", "x\ny", "٣.٤", "cp312", "8.0,9.0", "1.0 a", "{{torch.version}}", "{{instance|x}}", "'", "8 GiB", "(", "\\", "%s"]  # fmt: skip
ODD_NUMBERS = [0, -1, 1, 3, 10**6, 2**53, -(2**62), 0.5, 1e300, -1e-300]
HEADS = [
    "torch",
    "transformers",
    "numpy",
    "vllm",
    "sglang",
    "flash-attn",
    "x",
    "0",
    "1",
    "7",
    "cublas",
    "models",
    "a+b",
]


def odd(kind: facts.FactKind, source: random.Random) -> dict[str, object]:
    """A fact of a line of the catalogue, with a value of its type that no source would tell."""
    name = kind.name
    while "*" in name:
        name = name.replace("*", source.choice(HEADS), 1)
    if kind.type == "flag":
        return a_fact(name, source.choice([True, False]))
    if name == "gpu.count":
        return a_fact(name, source.choice([0, -1, 0.5, 3, 100]))
    return a_fact(name, source.choice(ODD_NUMBERS if kind.type in ("number", "bytes") else ODD_TEXTS))


@given(seed=st.integers(0, 1 << 32), share=st.sampled_from([0.1, 0.5, 0.9]))
@settings(deadline=None, max_examples=25)
def test_odd_values_of_every_fact(seed: int, share: float) -> None:
    """Every name of the catalogue with values of its type that no source would tell: a report in every format."""
    source = random.Random(seed)
    told = [odd(kind, source) for kind in facts.CATALOGUE if source.random() < share]
    assert report(a_file(facts=told)).areas is not None


def test_templates_in_a_case_stay_texts() -> None:
    """A value that looks like a template of a rule is shown as it is."""
    told = [
        a_fact("driver.error", "{{torch.version}}"),
        a_fact("torch.version", "2.8.0"),
        a_fact("gpu.vendor", "nvidia"),
    ]
    diagnosis = report(a_file(facts=told))
    assert "2.8.0" not in " ".join(cause.title for cause in diagnosis.diagnoses if "{{torch.version}}" in cause.title)
    assert any(fact.value == "{{torch.version}}" for fact in diagnosis.facts)
