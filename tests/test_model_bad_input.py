"""Hostile and broken model folders: a clear answer, never a crash, a hang or memory without bound."""

from __future__ import annotations

import codecs
import importlib
import json
import os
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diagnose.model import Fact, Reading
from diagnose.sources import checkpoint, tokenizer
from diagnose.sources.child import Source, read_all
from tests.models.edits import alter, at, change, config, header, template, write
from tests.models.planting import FOLDERS
from tests.models.reading import SECONDS, GiB, collected, unbroken
from tests.support import run_doctor, whole_installation

Edit = Callable[[Path], None]
FAST, SAFE, GGUF = "tokenizer.json", "model.safetensors", "tiny-q8.gguf"


def model(folder: Path, name: str, *edits: Edit) -> Path:
    """A copy of a healthy model, edited."""
    shutil.copytree(FOLDERS / name, folder / name)
    for edit in edits:
        edit(folder / name)
    return folder / name


def sparse(file: str, size: int) -> Edit:
    """A file of that many zero bytes, which takes no room on the disk."""

    def edit(folder: Path) -> None:
        (folder / file).write_bytes(b"")
        os.truncate(folder / file, size)

    return edit


def raw(file: str, head: dict[str, Any] | bytes, size: int | None = None, body: bytes = b"") -> Edit:
    """A safetensors file with that header, whose length may be told wrongly."""
    data = head if isinstance(head, bytes) else json.dumps(head).encode()
    return write(file, struct.pack("<Q", len(data) if size is None else size) + data + body)


def one(begin: Any, end: Any, shape: Any = (2,), dtype: Any = "F32") -> dict[str, Any]:
    """A tensor as a safetensors header has it."""
    return {"dtype": dtype, "shape": list(shape) if isinstance(shape, tuple) else shape, "data_offsets": [begin, end]}


def pairs(*items: tuple[str, bytes]) -> bytes:
    """A GGUF file with those keys (name, type and value) and nothing else."""
    text = b"".join(struct.pack("<Q", len(name)) + name.encode() + value for name, value in items)
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(items)) + text


def nested_arrays(depth: int) -> bytes:
    """A GGUF value: arrays in arrays."""
    return struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * depth + struct.pack("<IQI", 4, 1, 7)


DEEP = "[" * 200_000
JSON_FILES = ("config.json", "generation_config.json", "tokenizer_config.json", FAST, "special_tokens_map.json")
TEXTS: dict[str, str | bytes] = {
    "empty": "",
    "cut-off": '{"model_type": "qwen2", "vocab',
    "deep": DEEP,
    "deep-objects": '{"a":' * 100_000,
    "null": "null",
    "number": "7",
    "list": "[1, 2]",
    "not-text": b"\xff\xfe\x00\x01" * 40,
    "long-number": '{"vocab_size": ' + "9" * 10_000 + "}",
    "infinite": '{"vocab_size": Infinity, "rms_norm_eps": NaN, "hidden_size": -Infinity, "eos_token_id": 1e999}',
    "nul": b"\0" * 100,
    "surrogate": '{"model_type": "\\ud800", "eos_token": "\\udfff", "chat_template": "\\ud800"}',
    "line-ends-in-values": '{"model_type": "a\\nb\\u0000c\\u001b[31m", "architectures": ["x\\ny"]}',
}


@pytest.mark.parametrize("file", JSON_FILES)
@pytest.mark.parametrize("kind", list(TEXTS))
def test_a_json_file_may_hold_anything(kind: str, file: str, tmp_path: Path) -> None:
    """Each small file is read or told to be unreadable."""
    assert collected("qwen2", model(tmp_path, "qwen2", write(file, TEXTS[kind])).parent)


@pytest.mark.parametrize("file", JSON_FILES)
def test_a_huge_json_file_is_not_read(file: str, tmp_path: Path) -> None:
    """Three gigabytes under the name of a small file cost neither memory nor time."""
    assert collected("qwen2", model(tmp_path, "qwen2", sparse(file, 3 * GiB)).parent)


def test_a_key_that_stands_twice(tmp_path: Path) -> None:
    """The config is read as Python reads it."""
    place = model(tmp_path, "qwen2", write("config.json", '{"model_type": "llama", "model_type": "qwen2"}'))
    facts = {fact.name: fact.value for fact in collected("qwen2", place.parent) if isinstance(fact, Fact)}
    assert facts["model.type"] == "qwen2"


HEADERS: dict[str, Edit] = {
    "2^63 bytes": raw(SAFE, b"{}", 1 << 63),
    "2^64 - 1 bytes": raw(SAFE, b"{}", (1 << 64) - 1),
    "99 MB claimed": raw(SAFE, b"{}", 99_000_000),
    "3 GB there": lambda folder: os.truncate(raw(SAFE, b"{", 3 * GiB)(folder) or folder / SAFE, 4 * GiB),
    "overlap": raw(SAFE, {"a": one(0, 8), "b": one(4, 12)}, body=b"\0" * 12),
    "the same bytes": raw(SAFE, {"a": one(0, 8), "b": one(0, 8)}, body=b"\0" * 8),
    "backwards": raw(SAFE, {"a": one(8, 0)}, body=b"\0" * 8),
    "negative": raw(SAFE, {"a": one(-8, 0)}, body=b"\0" * 8),
    "huge offsets": raw(SAFE, {"a": one(1 << 70, (1 << 70) + 8)}),
    "huge shape": raw(SAFE, {"a": one(0, 8, [1 << 62, 1 << 62])}, body=b"\0" * 8),
    "endless shape": raw(SAFE, {"a": one(0, 8, [1] * 100_000)}, body=b"\0" * 8),
    "texts for numbers": raw(SAFE, {"a": one("0", "8", "2", 7)}),
    "lists for tensors": raw(SAFE, {"a": [], "b": None, "c": 1.5, "__metadata__": []}),
    "a list": raw(SAFE, b"[]"),
    "deep": raw(SAFE, DEEP.encode()),
    "metadata that is not text": raw(SAFE, {"__metadata__": {"format": {"a": [1]}}}),
    "names with line ends": raw(SAFE, {"a\nb\x1b[0m": one(0, 8)}, body=b"\0" * 8),
    "many tensors": raw(SAFE, {f"model.layers.{n}.x": one(8 * n, 8 * n + 8) for n in range(60_000)}, body=b"\0" * 480_000),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(HEADERS))
def test_a_safetensors_header_may_claim_anything(kind: str, tmp_path: Path) -> None:
    """What it claims is told, not believed."""
    assert collected("qwen2", model(tmp_path, "qwen2", HEADERS[kind]).parent)


INDEXES: dict[str, Any] = {
    "a path out of the folder": {"weight_map": {"a": "../../../etc/passwd", "b": "/etc/passwd"}},
    "names with line ends": {"weight_map": {"a\nb": "model\n.safetensors"}},
    "numbers": {"weight_map": {"a": 1, "b": None, "c": []}},
    "a list": {"weight_map": ["a"]},
    "a huge size": {"metadata": {"total_size": 10**40}, "weight_map": {"a": SAFE}},
    "a device": {"weight_map": {"a": "/dev/zero"}},
    "many parts": {"weight_map": {f"t{n}": f"model-{n:05d}-of-99999.safetensors" for n in range(30_000)}},
}


@pytest.mark.parametrize("kind", list(INDEXES))
def test_an_index_may_claim_anything(kind: str, tmp_path: Path) -> None:
    """Nothing outside the folder is opened for it."""
    edit = write("model.safetensors.index.json", json.dumps(INDEXES[kind]))
    assert collected("qwen2", model(tmp_path, "qwen2", edit).parent)


BOMBS: dict[str, Edit] = {
    "2^60 keys": at(GGUF, 16, struct.pack("<Q", 1 << 60)),
    "2^60 tensors": at(GGUF, 8, struct.pack("<Q", 1 << 60)),
    "2^64 - 1 of both": at(GGUF, 8, b"\xff" * 16),
    "a text of 2^62 bytes": at(GGUF, 24, struct.pack("<Q", 1 << 62)),
    "an array of 2^60 numbers": write(GGUF, pairs(("a", struct.pack("<IIQ", 9, 4, 1 << 60)))),
    "an array of 2^60 texts": write(GGUF, pairs(("tokenizer.ggml.tokens", struct.pack("<IIQ", 9, 8, 1 << 60)))),
    "an array of arrays": write(GGUF, pairs(("a", nested_arrays(5_000)))),
    "an unknown type": write(GGUF, pairs(("a", struct.pack("<I", 99)))),
    "alignment 0": write(GGUF, pairs(("general.alignment", struct.pack("<II", 4, 0)))),
    "one key many times": write(GGUF, pairs(*[("general.architecture", struct.pack("<IQ", 8, 5) + b"llama")] * 2_000)),
    "a name with a line end": write(GGUF, pairs(("general.architecture", struct.pack("<IQ", 8, 5) + b"l\na\0a"))),
    "no key": write(GGUF, pairs()),
    "only the magic": write(GGUF, b"GGUF"),
    "zeros behind the magic": write(GGUF, b"GGUF" + b"\0" * 4096),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(BOMBS))
def test_a_gguf_file_may_claim_anything(kind: str, tmp_path: Path) -> None:
    """Counts and lengths are not believed before the bytes are there."""
    assert collected(f"gguf/{GGUF}", model(tmp_path, "gguf", BOMBS[kind]).parent)


TEMPLATES: dict[str, str] = {
    "endless loop": "{% for a in range(99999) %}{% for b in range(99999) %}{{ a }}{% endfor %}{% endfor %}",
    "huge text": "{{ 'a' * 99999999999 }}",
    "doubling": "{% set n = namespace(x='a' * 1000) %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x }}",
    "huge number": "{{ 9 ** 9 ** 9 }}",
    "huge format": "{{ '%99999999999d' % 1 }}",
    "recursion": "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    "attributes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ raise_exception.__globals__['os'].system('echo no') }}",
    "init": "{{ messages.__init__.__globals__ }} {{ self._TemplateReference__context }} {{ cycler.__init__ }}",
    "include": "{% include '/etc/passwd' %}",
    "nested": "{% if a %}" * 3_000,
    "brackets": "{{ " + "(" * 5_000,
    "huge range": "{{ range(10**12) | list }}",
    "huge join": "{{ (['a' * 1000] * 1000000) | join }}",
    "not a text": "\0\x1b[31m{{ messages }}",
}


@pytest.mark.parametrize("kind", list(TEMPLATES))
def test_a_chat_template_may_do_anything(kind: str, tmp_path: Path) -> None:
    """It is rendered with bounds on time and memory, and reaches nothing."""
    assert collected("qwen2", model(tmp_path, "qwen2", template(whole=TEMPLATES[kind])).parent)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
KEYS = {
    "config.json": sorted(
        {key for name in ("qwen2", "llama", "deepseek", "phi3", "gpt-oss", "gptq", "fp8")
         for key in json.loads((FOLDERS / name / "config.json").read_text(encoding="utf-8"))}
        | {"text_config", "vision_config", "auto_map", "quantization_config", "rope_parameters"}
    ),
    "generation_config.json": ["eos_token_id", "pad_token_id", "bos_token_id", "temperature", "top_p", "top_k", "do_sample", "stop_strings", "max_length"],
    "tokenizer_config.json": ["eos_token", "pad_token", "chat_template", "added_tokens_decoder", "model_max_length", "tokenizer_class", "additional_special_tokens", "extra_special_tokens", "auto_map"],
    FAST: ["model", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "truncation", "padding", "version"],
    "adapter_config.json": ["r", "target_modules", "peft_type", "base_model_name_or_path", "modules_to_save", "rank_pattern", "layers_to_transform", "task_type"],
}  # fmt: skip


@pytest.mark.parametrize("file", list(KEYS))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_key_may_have_any_value(file: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No value of any key breaks the sources."""
    name = "qwen2-lora" if file.startswith("adapter") else "qwen2"
    wrong = data.draw(st.dictionaries(st.sampled_from(KEYS[file]), VALUES, min_size=1, max_size=3))
    folder = tmp_path_factory.mktemp("any")
    place = model(folder, name, alter(file, lambda value: value.update(wrong)))
    environ = {"HOME": str(folder)}
    for read in (checkpoint.read, tokenizer.read):
        assert list(read(place.name, environ, str(folder))) is not None
    shutil.rmtree(folder)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_may_be_overwritten(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Damage anywhere in a file of weights is told or goes unseen; it breaks nothing."""
    name, file = data.draw(
        st.sampled_from(
            [("gguf", GGUF), ("qwen2", SAFE), ("pickled-base", "pytorch_model.bin"), ("mistral", "tokenizer.model")]
        )
    )
    folder = tmp_path_factory.mktemp("damage")
    place = model(folder, name)
    whole = bytearray((place / file).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        offset = data.draw(st.integers(0, min(len(whole) - 1, 6000)))
        patch = data.draw(st.binary(min_size=1, max_size=9))
        whole[offset : offset + len(patch)] = patch
    (place / file).write_bytes(whole[: data.draw(st.integers(1, len(whole)))])
    named = f"{name}/{file}" if name == "gguf" else name
    for read in (checkpoint.read, tokenizer.read):
        assert list(read(named, {"HOME": str(folder)}, str(folder))) is not None
    shutil.rmtree(folder)


def _loop(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(folder / "generation_config.json")
    (folder / "generation_config.json").unlink()
    (folder / "generation_config.json").symlink_to(folder / "config.json")


def _itself(folder: Path) -> None:
    (folder / "again").symlink_to(folder)
    (folder / SAFE).unlink()
    (folder / SAFE).symlink_to(folder / SAFE)


def _instead(make: Callable[[Path], Any], *files: str) -> Edit:
    def edit(folder: Path) -> None:
        for file in files:
            (folder / file).unlink()
            make(folder / file)

    return edit


def _strange_names(folder: Path) -> None:
    for name in (
        b"new\nline.safetensors",
        b"\xff\xfe.json",
        b"model-00001-of-\n.safetensors",
        b"\x1b[31m.gguf",
        b"-rf",
        b"a" * 200,
    ):
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:
            file.write(b"{}")


def _many(folder: Path) -> None:
    for number in range(25_000):
        (folder / f"{number}.safetensors").touch()


NAMES = ("config.json", "tokenizer.json", "tokenizer_config.json", SAFE)
PLACES: dict[str, Edit] = {
    "links in a circle": _loop,
    "links to itself": _itself,
    "pipes": _instead(lambda path: os.mkfifo(path), *NAMES),
    "folders": _instead(lambda path: path.mkdir(), *NAMES),
    "links to nothing": _instead(lambda path: path.symlink_to("gone"), *NAMES),
    "links to a device": _instead(lambda path: path.symlink_to("/dev/zero"), *NAMES),
    "links to the terminal": _instead(lambda path: path.symlink_to("/dev/stdin"), *NAMES),
    "strange names": _strange_names,
    "many files": _many,
    "no file": lambda folder: shutil.rmtree(folder) or folder.mkdir(),
}


@pytest.mark.parametrize("kind", list(PLACES))
def test_a_folder_may_hold_anything(kind: str, tmp_path: Path) -> None:
    """Links, pipes, devices, names."""
    assert collected("qwen2", model(tmp_path, "qwen2", PLACES[kind]).parent)


@pytest.mark.parametrize(
    "name", ["new\nline", "a" * 5000, "\0", "..", ".", "/", "~", "-", "", " ", "a//b/../..", "../../etc/passwd", "/dev/zero", "\x1b[31m", "\udcff", "http://[::1", "a/b/c:d@e", "/proc/self/mem", "%s%n"]
)  # fmt: skip
def test_a_model_may_be_named_anything(name: str, tmp_path: Path) -> None:
    """What is not there is told to be missing; a device is not read."""
    collected(name, tmp_path)


def test_a_name_with_a_line_end_stays_one_name(tmp_path: Path) -> None:
    """A model in a folder with a strange name is read like any other."""
    shutil.copytree(FOLDERS / "qwen2", tmp_path / "new\nline")
    facts = {fact.name: fact.value for fact in collected("./new\nline", tmp_path) if isinstance(fact, Fact)}
    assert facts["model.type"] == "qwen2"


@pytest.mark.parametrize("closed", ["qwen2", "qwen2/config.json", "qwen2/tokenizer.json", f"qwen2/{SAFE}"])
def test_what_may_not_be_read_is_told(closed: str) -> None:
    """A folder or file without permission, seen by a user who is not root."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own lies where nobody but root may look
        os.chmod(folder, 0o755)
        told = _read_by_nobody(closed, Path(folder))
    assert "permission" in told.lower() or "unreadable" in told or "not be read" in told, told


def _read_by_nobody(closed: str, folder: Path) -> str:
    """What a user without rights is told of a model of which one part is closed to him."""
    place = model(folder, "qwen2").parent
    # All that is needed is imported before: nobody may not read the modules of an interpreter of root's.
    codecs.lookup("ascii")
    for module in ("jinja2", "jinja2.sandbox", "jinja2.ext", "sentencepiece", "tokenizers"):
        importlib.import_module(module)
    for read in (checkpoint.read, tokenizer.read):
        list(read("qwen2", {}, str(place)))
    (place / closed).chmod(0)

    def as_nobody() -> Iterator[Reading]:
        if os.geteuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        yield from checkpoint.read("qwen2", {"HOME": str(place)}, str(place))
        yield from tokenizer.read("qwen2", {"HOME": str(place)}, str(place))

    readings = unbroken(list(read_all([Source("model files", as_nobody, SECONDS)])))
    (place / closed).chmod(0o755)
    return " ".join(str(getattr(reading, "why", getattr(reading, "value", ""))) for reading in readings)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation with all rules."""
    return whole_installation(tmp_path_factory.mktemp("home"))


ASKED: dict[str, tuple[tuple[str, ...], tuple[Edit, ...], tuple[int, ...]]] = {
    "broken config": (("@qwen2",), (write("config.json", "{"),), (1,)),
    "no such model": (("./nothing-here",), (), (1, 2)),
    "named with a line end": (("./no\nthing",), (), (1, 2)),
    "header of 2^63": (("@qwen2",), (HEADERS["2^63 bytes"],), (1,)),
    "template without end": (("@qwen2",), (template(whole=TEMPLATES["endless loop"]),), (1,)),
    "reaching template": (("@qwen2",), (template(whole=TEMPLATES["attributes"]),), (1,)),
    "links in a circle": (("@qwen2",), (_loop,), (1, 2)),
    "deep config": (("@qwen2",), (write("config.json", DEEP),), (1,)),
    "values of any type": (("@qwen2",), (config(vocab_size={}, num_hidden_layers=[], rope_scaling=7), change("tokenizer_config.json", chat_template=9)), (1,)),
    "strange names": (("@qwen2",), (_strange_names,), (0, 1)),
    "odd tensor": (("@qwen2",), (header(SAFE, lambda value: value.update({"x\ny": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}})),), (0, 1)),
    "open quote": (("--", "vllm serve './qwen2"), (), (0, 1, 2)),
    "manifest that is no YAML": (("-f", "@x.yaml"), (lambda folder: write("x.yaml", "a: [")(folder.parent),), (1, 2)),
    "healthy": (("@qwen2",), (), (0,)),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(ASKED))
def test_check_answers_with_a_report(kind: str, home: Path, tmp_path: Path) -> None:
    """The command line ends with 0, 1 or 2, says something, and shows no traceback."""
    arguments, edits, codes = ASKED[kind]
    place = model(tmp_path, "qwen2", *edits).parent
    named = [word.replace("./", f"{place}/").replace("@", f"{place}/") for word in arguments]
    run = run_doctor(home, "check", "--no-machine", *named)
    said = run.stdout + run.stderr
    assert run.returncode in codes, said.decode(errors="replace")[-1500:]
    assert b"Traceback" not in said
    assert said.strip()
