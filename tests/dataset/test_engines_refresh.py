"""The command that makes the engines' tables: what it reads out of small sources written here."""

from __future__ import annotations

import importlib.util
import io
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support import ROOT

FOLDER = ROOT / "dataset" / "engines"


@pytest.fixture(scope="module")
def read() -> dict[str, ModuleType]:
    """The modules of dataset/engines, which is a folder of scripts and no package."""
    sys.path.insert(0, str(FOLDER))
    try:
        found = {}
        for name in ("source_tree", "parsers", "history", "read_vllm", "read_sglang", "read_others", "refresh"):
            spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            spec.loader.exec_module(module)
            found[name] = module
        return found
    finally:
        sys.path.remove(str(FOLDER))
        for name in ("source_tree", "parsers", "history", "read_vllm", "read_sglang", "read_others", "refresh"):
            sys.modules.pop(name, None)


VLLM = {
    "vllm/config/model.py": '''
from typing import TYPE_CHECKING, Literal
from dataclasses import dataclass
if TYPE_CHECKING:
    from vllm.quant import Methods
else:
    Methods = str
Kind = Literal["a", "b"]
@dataclass
class ModelConfig:
    model: str = "x"
    kind: Kind | str = "a"
    runner: Kind = "a"
    eager: bool = False
    length: int | None = None
    max_model_len: int = 1
    share: float = 0.9
    method: Methods | None = None
    names: list[str] | None = None
    """Names of it."""
    pair: tuple[int, int] = (1, 2)
    extra: dict[str, int] | None = None
    old: bool = False
    """Deprecated. Use --eager instead."""
@dataclass
class Compile:
    level: int = 0
''',
    "vllm/engine/arg_utils.py": """
import argparse, json
from vllm.config.model import ModelConfig, Compile
BooleanOptionalAction = argparse.BooleanOptionalAction
def _kwargs(cls):
    if name == "max_model_len":
        kwargs[name]["type"] = human_readable_int
class EngineArgs:
    @staticmethod
    def add_cli_args(parser):
        model_kwargs = get_kwargs(ModelConfig)
        model_kwargs["share"]["type"] = some_parser
        group = parser.add_argument_group("x")
        group.add_argument("--model", **model_kwargs["model"])
        group.add_argument("--kind", **model_kwargs["kind"])
        group.add_argument("--runner", "-r", **model_kwargs["runner"])
        group.add_argument("--eager", **model_kwargs["eager"])
        group.add_argument("--length", **{**model_kwargs["length"], "default": None})
        group.add_argument("--max-model-len", **model_kwargs["max_model_len"])
        group.add_argument("--share", **model_kwargs["share"])
        group.add_argument("--method", **model_kwargs["method"])
        group.add_argument("--names", **model_kwargs["names"])
        group.add_argument("--pair", **model_kwargs["pair"])
        group.add_argument("--extra", **model_kwargs["extra"])
        group.add_argument("--old", **model_kwargs["old"])
        group.add_argument("--plain", type=int, choices=[1, 2], help="x")
        for arg, type in [("--first", str), ("--second", bool)]:
            group.add_argument(arg, type=type, help="[DEPRECATED] gone soon")
        return parser
class AsyncEngineArgs(EngineArgs):
    @staticmethod
    def add_cli_args(parser):
        parser.add_argument("--log-requests", action=argparse.BooleanOptionalAction)
        return parser
""",
    "vllm/entrypoints/openai/cli_args.py": """
from vllm.engine.arg_utils import EngineArgs
class FrontendArgs:
    port: int = 8000
    origins: list[str] = []
    @classmethod
    def add_cli_args(cls, parser):
        frontend_kwargs = get_kwargs(cls)
        frontend_kwargs["origins"]["type"] = json.loads
        del frontend_kwargs["origins"]["nargs"]
        for key, value in frontend_kwargs.items():
            group.add_argument(*extra, f"--{key}", **value)
def make_arg_parser(parser):
    parser.add_argument("model_tag", nargs="?")
    parser.add_argument("--config", help="x")
    return parser
""",
    "vllm/envs.py": 'environment_variables = {"VLLM_ONE": lambda: os.getenv("VLLM_ONE"), "VLLM_TWO": 1}\n',
    "vllm/model_executor/models/registry.py": '_TEXT_MODELS = {"AForCausalLM": ("a", "A")}\n_PREVIOUSLY_SUPPORTED_MODELS = {"B": "1"}\n',
    "vllm/tool_parsers/x.py": '@ToolParserManager.register_module(["one", "two"])\nclass X: pass\n',
    "vllm/model_executor/layers/quantization/__init__.py": 'from typing import Literal\nQuantizationMethods = Literal["awq", "fp8"]\n',
}


def test_vllm_flags_are_read_from_calls_and_from_fields(read: dict[str, ModuleType]) -> None:
    """Types, choices, switches, lists and what a function changes before it adds them."""
    reader = read["read_vllm"].VllmReader(VLLM)
    flags = {flag.primary: flag for flag in reader.flags()}
    kinds = {name: (flag.type, flag.many) for name, flag in flags.items()}
    assert kinds["--eager"] == ("switch", "")
    assert flags["--eager"].off == ("--no-eager",)
    assert kinds["--length"] == ("int?", "")
    assert kinds["--max-model-len"] == ("size", "")
    assert kinds["--share"] == ("text", "")
    assert kinds["--names"] == ("text", "+")
    assert kinds["--pair"] == ("int", "2")
    assert kinds["--extra"] == ("json", "")
    assert kinds["--origins"] == ("json", "")
    assert kinds["--port"] == ("int", "")
    assert flags["--runner"].spellings == ("--runner", "-r")
    assert flags["--runner"].choices == ("a", "b")
    assert flags["--kind"].choices is None
    assert flags["--plain"].choices == ("1", "2")
    assert (flags["--old"].deprecated, flags["--old"].instead) == (True, "--eager")
    assert flags["--second"].deprecated
    assert {"--config", "--first", "--log-requests"} <= flags.keys()
    assert "model_tag" not in flags
    assert not reader.reader.missed
    assert reader.environment() == {"VLLM_ONE", "VLLM_TWO"}
    lists = reader.lists()
    assert (lists["architectures"], lists["tool_parsers"], lists["quantization"]) == (
        {"AForCausalLM"},
        {"one", "two"},
        {"awq", "fp8"},
    )


def test_keys_of_configurations_are_the_fields_of_their_classes(read: dict[str, ModuleType]) -> None:
    """Only where other keys are refused, and for the speculative configuration always."""
    texts = {
        "vllm/config/vllm.py": "from .a import SpeculativeConfig, CacheConfig\nclass VllmConfig:\n    speculative_config: SpeculativeConfig | None = None\n    cache_config: CacheConfig = x\n",
        "vllm/config/a.py": "class SpeculativeConfig:\n    method: str = ''\n    tokens: int = 1\nclass CacheConfig:\n    size: int = 1\n    KINDS: ClassVar[int] = 1\n",
    }
    assert read["read_vllm"].VllmReader(texts)._keys() == {"keys_speculative_config": {"method", "tokens"}}
    texts["vllm/config/utils.py"] = 'ConfigDict(extra="forbid")'
    assert read["read_vllm"].VllmReader(texts)._keys()["keys_cache_config"] == {"size"}


SGLANG = {
    "sglang/srt/server_args.py": """
from sglang.srt.arg_groups.arg_utils import A, Arg
CHOICES = ["x", "y"]
class ServerArgs:
    host: A[str, "The host."] = "127.0.0.1"
    tp_size: A[int, Arg(help="x", aliases=["--tensor-parallel-size"])] = 1
    fast: A[bool, "Be fast."] = False
    backend: A[Optional[str], Arg(help="x", choices=CHOICES + ["z"])] = None
    paths: A[Optional[list[str]], Arg(help="x")] = None
    hidden: A[str, Arg(help="x", no_cli=True)] = ""
    plain: int = 1
    @staticmethod
    def add_cli_args(parser):
        parser.add_argument("--tool-call-parser", type=str, choices=["auto"] + names)
        parser.add_argument("--gone", action=DeprecatedAction, error_message="Use --fast instead.")
""",
    "sglang/srt/function_call/function_call_parser.py": 'class FunctionCallParser:\n    ToolCallParserEnum: Dict[str, Type] = {"llama3": X, "qwen25": Y}\n',
    "sglang/srt/environ.py": "class Envs:\n    SGLANG_ONE = EnvBool(False)\n    OTHER = EnvInt(1)\n",
    "sglang/srt/models/a.py": "EntryClass = [AForCausalLM,\n    BForCausalLM]\n",
    "sglang/srt/models/c.py": "EntryClass = CModel\n",
}


def test_sglang_flags_are_read_from_annotated_fields(read: dict[str, ModuleType]) -> None:
    """`A[T, Arg(…)]` becomes a flag as SGLang itself does it."""
    reader = read["read_sglang"].SglangReader(SGLANG)
    flags = {flag.primary: flag for flag in reader.flags()}
    assert flags["--tp-size"].spellings == ("--tp-size", "--tensor-parallel-size")
    assert flags["--fast"].type == "flag"
    assert flags["--backend"].choices == ("x", "y", "z")
    assert flags["--paths"].many == "+"
    assert flags["--tool-call-parser"].choices == ("auto", "llama3", "qwen25")
    assert flags["--gone"].refused
    assert not {"--hidden", "--plain"} & flags.keys()
    assert reader.environment() == {"SGLANG_ONE"}
    assert reader.lists()["architectures"] == {"AForCausalLM", "BForCausalLM", "CModel"}


LLAMA = """
    add_opt(common_arg(
        {"-c", "--ctx-size"}, "N",
        string_format("size of the prompt (default: %d, 0 = model)", params.n_ctx),
        [](common_params & params, int value) { params.n_ctx = value; }
    ).set_env("LLAMA_ARG_CTX_SIZE"));
    add_opt(common_arg(
        {"--mmap"}, {"--no-mmap"}, "whether to map (it's \\")\\" here)",
        [](common_params & params, bool value) { params.use_mmap = value; } // a comment )
    ).set_env("LLAMA_ARG_MMAP"));
    add_opt(common_arg({"--two"}, "A", "B", "x", [](common_params & p, const std::string & a, const std::string & b) { f('('); }));
"""


def test_llama_flags_are_read_out_of_cpp(read: dict[str, ModuleType]) -> None:
    """What each handler takes, and brackets in strings, characters and comments."""
    reader = read["read_others"].LlamaReader(
        {
            "vendor/llama.cpp/common/arg.cpp": LLAMA,
            "vendor/llama.cpp/src/llama-arch.cpp": 'LLM_ARCH_NAMES = {\n { LLM_ARCH_A, "a" },\n};',
        }
    )
    flags = {flag.primary: flag for flag in reader.flags()}
    assert (flags["--ctx-size"].type, flags["--ctx-size"].spellings) == ("int", ("-c", "--ctx-size"))
    assert (flags["--mmap"].type, flags["--mmap"].off) == ("flag", ("--no-mmap",))
    assert (flags["--two"].type, flags["--two"].many) == ("text", "2")
    assert {"LLAMA_ARG_CTX_SIZE", "LLAMA_ARG_NO_MMAP"} <= reader.environment()
    assert reader.lists()["architectures"] == {"a"}


def test_tgi_flags_are_read_out_of_rust(read: dict[str, ModuleType]) -> None:
    """Fields of clap's struct, with the words of an enum."""
    source = 'enum Quantization {\n    /// x\n    Awq,\n    #[clap(name = "nf4")]\n    Nf,\n    CompressedTensors,\n}\n\nstruct Args {\n    /// x\n    #[clap(long, env)]\n    model_id: String,\n    #[clap(long, env, value_enum)]\n    quantize: Option<Quantization>,\n    #[clap(long, short, env)]\n    port: u16,\n    #[clap(long, env)]\n    json_output: bool,\n    #[clap(long, env)]\n    sharded: Option<bool>,\n}\n'
    flags = {flag.primary: flag for flag in read["read_others"].TgiReader({"launcher/src/main.rs": source}).flags()}
    assert flags["--quantize"].choices == ("awq", "nf4", "compressed-tensors")
    assert flags["--port"].spellings == ("--port", "-p")
    assert [flags[name].type for name in ("--model-id", "--port", "--json-output")] == ["text", "int", "flag"]
    assert flags["--sharded"].choices == ("true", "false")


def test_typer_options_are_read(read: dict[str, ModuleType]) -> None:
    """`transformers serve` since transformers 5."""
    source = 'class Mode(str, enum.Enum):\n    ON = "on"\n    OFF = "off"\nclass Serve:\n    def __init__(self, model: Annotated[str, typer.Argument(help="x")] = None, fast: Annotated[bool, typer.Option(help="x")] = False, port: Annotated[int, typer.Option(help="x")] = 8000, mode: Annotated[Mode, typer.Option(help="x")] = "on"): ...\n'
    flags = {
        flag.primary: flag
        for flag in read["read_others"].TransformersReader({"transformers/cli/serve.py": source}).flags()
    }
    assert (flags["--fast"].type, flags["--fast"].off) == ("switch", ("--no-fast",))
    assert flags["--port"].type == "int"
    assert flags["--mode"].choices == ("on", "off")
    assert "--model" not in flags


def test_rows_tell_which_releases_have_what(read: dict[str, ModuleType]) -> None:
    """Flags, spellings, types and choices come and go; what is everywhere is not told."""
    flag = read["parsers"].Flag
    old = [flag(("--a",), "int"), flag(("--b",), choices=("x",)), flag(("--gone",))]
    mid = [flag(("--a", "-a"), "int"), flag(("--b",), choices=("x", "y"))]
    new = [flag(("--a", "-a"), "size"), flag(("--b",), choices=("y",)), flag(("--gone",)), flag(("--new",))]
    rows = {row["flag"]: row for row in read["history"].flag_rows(["1", "2", "3"], [old, mid, new])}
    assert rows["--a"] == {"flag": "--a", "also": {"-a": "2:"}, "type": "size", "was": {"int": ":2"}}
    assert rows["--b"]["choices"] == {"y": "2:", "x": ":2"}
    assert rows["--gone"]["in"] == ":1,3:"
    assert rows["--new"]["in"] == "3:"
    assert read["history"].name_rows(["1", "2"], [{"p"}, {"p", "q"}], [True, True]) == {"p": "", "q": "2:"}


def test_renamed_flags_share_a_row(read: dict[str, ModuleType]) -> None:
    """A flag whose first spelling changed is one flag, and each spelling knows its releases."""
    flag = read["parsers"].Flag
    rows = read["history"].flag_rows(
        ["1", "2"], [[flag(("--tensor-parallel-size", "--tp-size"))], [flag(("--tp-size", "--tensor-parallel-size"))]]
    )
    assert [row["flag"] for row in rows] == ["--tp-size"]


def test_check_says_what_would_change_and_writes_nothing(
    read: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And ends with 1; a table that is written is up to date then."""
    refresh = read["refresh"]
    monkeypatch.setattr(refresh, "FOLDER", tmp_path)
    monkeypatch.setattr(refresh.index, "page_of", lambda name: {"files": []})
    monkeypatch.setattr(refresh, "read_anywhere", lambda engine, cache: (set(), set()))
    assert refresh.main(["torchrun", "--check"]) == 1
    assert capsys.readouterr().out == "torchrun.json: 0 releases, would change\n"
    assert not list(tmp_path.iterdir())
    assert refresh.main(["torchrun"]) == 0
    assert refresh.main(["torchrun", "--check"]) == 0
    with pytest.raises(SystemExit):
        refresh.main(["no-such-engine"])


def test_only_the_wanted_members_are_read_and_kept(
    read: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a wheel and of a source archive; a second time from the cache."""
    import re

    refresh = read["refresh"]
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("p/a.py", "x = 1")
        archive.writestr("p/b.bin", "no")
    monkeypatch.setattr(refresh.index, "open_wheel", lambda url: zipfile.ZipFile(io.BytesIO(data.getvalue())))
    file: Any = refresh.index.File("p-1-py3-none-any.whl", "https://index.invalid/p", "abc", "")
    assert refresh.texts_of(file, re.compile(r"p/.*\.py"), tmp_path) == {"p/a.py": "x = 1"}
    monkeypatch.setattr(refresh.index, "open_wheel", lambda url: pytest.fail("read again"))
    assert refresh.texts_of(file, re.compile(r"p/.*\.py"), tmp_path) == {"p/a.py": "x = 1"}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as made:
        info = tarfile.TarInfo("p-1/vendor/a.cpp")
        info.size = 3
        made.addfile(info, io.BytesIO(b"int"))
    monkeypatch.setattr(refresh.index, "fetch", lambda url, headers: (packed.getvalue(), ""))
    file = refresh.index.File("p-1.tar.gz", "https://index.invalid/q", "def", "")
    assert refresh.texts_of(file, re.compile(r"vendor/.*"), tmp_path) == {"vendor/a.cpp": "int"}


def test_names_are_resolved_as_they_are_at_run_time(read: dict[str, ModuleType]) -> None:
    """Imports, sums, stars, unpacked dictionaries and type checking; what is not told stays unknown."""
    tree = read["source_tree"].Tree(
        {
            "p/__init__.py": "",
            "p/a.py": "from .b import X\nY = [*X, 'c'] + ['d']\nZ = f()\nW = [*Z]\nV = {**{'k': 1}, 'l': 2}\n",
            "p/b.py": "X = ['a', 'b']\nX += ['e']\n",
        }
    )
    module = tree.module("p.a")
    assert tree.value(module, module.assigned["Y"]) == ["a", "b", "e", "c", "d"]
    assert tree.value(module, module.assigned["W"]) is read["source_tree"].UNKNOWN
    assert list(tree.value(module, module.assigned["V"])) == ["k", "l"]
    assert tree.module("p.nothing") is None
