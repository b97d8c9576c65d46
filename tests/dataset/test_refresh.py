"""The command that makes the compatibility tables: what it reads out of an index page and out of wheels made here."""

from __future__ import annotations

import importlib.util
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from tests.support import ROOT


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compat_refresh", ROOT / "dataset" / "compat" / "refresh.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


refresh = _load()


def wheel(members: dict[str, str | bytes]) -> zipfile.ZipFile:
    """An archive in memory."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return zipfile.ZipFile(data)


def metadata_text(*requires: str, python: str = ">=3.10") -> str:
    return "\n".join(
        [
            "Metadata-Version: 2.1",
            "Name: x",
            f"Requires-Python: {python}",
            *(f"Requires-Dist: {r}" for r in requires),
            "",
            "Text",
        ]
    )


def entry(filename: str, **more: Any) -> dict[str, Any]:
    return {
        "filename": filename,
        "url": f"https://index.invalid/{filename}",
        "hashes": {"sha256": filename},
        "upload-time": "2026-01-02T00:00:00Z",
    } | more


def test_releases_are_final_ones_in_order() -> None:
    """Pre-releases are left out, withdrawn releases are not: they are installed somewhere."""
    names = [
        "x-1.10.0-py3-none-any.whl",
        "x-1.9.0-py3-none-any.whl",
        "x-1.11.0rc1-py3-none-any.whl",
        "x-1.8.0.tar.gz",
        "x-1.9.1.post1-py3-none-any.whl",
        "x.exe",
    ]
    page = {"files": [entry(name) for name in names] + [entry("x-1.12.0-py3-none-any.whl", yanked="broken")]}
    found = refresh.releases(page, "x")
    assert [str(version) for version in found] == ["1.8.0", "1.9.0", "1.9.1.post1", "1.10.0", "1.12.0"]
    assert [file.yanked for file in found[Version("1.12.0")]] == [True]


@pytest.mark.parametrize(
    ("filename", "version"),
    [
        ("sglang-0.5.0-py3-none-any.whl", "0.5.0"),
        ("flash_attn-2.8.3.tar.gz", "2.8.3"),
        ("flash-attn-2.8.3.tar.gz", "2.8.3"),
        ("other-1.0.tar.gz", None),
        ("flash_attn-x.tar.gz", None),
        ("broken.whl", None),
        ("flash_attn-2.8.3.zip", None),
    ],
)
def test_version_in_a_file_name(filename: str, version: str | None) -> None:
    """Of a wheel, or of a source archive of this package; nothing else has one."""
    found = refresh.version_of(filename, "sglang" if "sglang" in filename else "flash-attn")
    assert found == (None if version is None else Version(version))


def test_pythons_that_have_a_wheel() -> None:
    """By the wheels for Linux on x86_64; free-threaded builds and other machines are not counted."""
    names = [
        "x-1-cp312-cp312-manylinux_2_28_x86_64.whl",
        "x-1-cp313-cp313-manylinux_2_28_x86_64.whl",
        "x-1-cp314-cp314t-manylinux_2_28_x86_64.whl",
        "x-1-cp311-cp311-win_amd64.whl",
        "x-1-cp310-cp310-manylinux_2_28_aarch64.whl",
    ]
    files = [refresh.File(name, "", "", "") for name in names]
    assert refresh.pythons(files) == ["3.12", "3.13"]


def test_declared_ranges_hold_for_every_python_or_are_left_out() -> None:
    """Markers are judged for Linux on x86_64; what depends on Python is left out, extras are kept apart."""
    row = refresh.metadata(
        metadata_text(
            "tokenizers<=0.23.0,>=0.22.0",
            "torch (==2.4.0)",
            'triton==3.0.0; platform_system == "Linux" and platform_machine == "x86_64"',
            'numpy>=2; python_version >= "3.12"',
            'accelerate>=1.1.0; extra == "torch"',
            'accelerate>=1.1.0; extra == "all"',
            'datasets>=2.0; extra == "a"',
            'datasets>=3.0; extra == "b"',
            'protobuf<4; sys_platform == "win32"',
            "requests>=2",
            "not a requirement !!",
        ).encode()
    )
    assert row == {
        "requires_python": ">=3.10",
        "requires": {"tokenizers": ">=0.22.0,<=0.23.0", "torch": "==2.4.0", "triton": "==3.0.0"},
        "optional": {"accelerate": ">=1.1.0"},
    }


def test_a_range_is_judged_for_the_pythons_that_have_wheels() -> None:
    """torch 2.4 pins triton below Python 3.13, and has no wheel for 3.13: the pin always holds."""
    text = metadata_text('triton==3.0.0; platform_system == "Linux" and python_version < "3.13"').encode()
    assert "requires" not in refresh.metadata(text)
    assert refresh.metadata(text, ["3.10", "3.12"])["requires"] == {"triton": "==3.0.0"}


def test_row_of_torch() -> None:
    """CUDA, architectures, Python that the compiler refuses, cuDNN and NCCL, from the files that tell them."""
    archive = wheel(
        {
            "torch/version.py": "__version__ = '2.8.0+cu128'\ncuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n",
            "torch/lib/libtorch_python.so": b"\x00\x01sm_70 sm_75 sm_80 sm_90 sm_120 compute_120\x00sm_90",
            "torch/_dynamo/eval_frame.py": "if sys.version_info >= (3, 14):\n    raise RuntimeError\n",
            "torch-2.8.0.dist-info/METADATA": metadata_text(
                "nvidia-cudnn-cu12==9.10.2.21", "nvidia-nccl-cu12 (==2.27.3)"
            ),
        }
    )
    assert refresh.torch_row(archive, ["3.12"]) == {
        "requires_python": ">=3.10",
        "cuda": "12.8",
        "architectures": ["7.0", "7.5", "8.0", "9.0", "12.0+PTX"],
        "compile_refuses_python": "3.14",
        "cudnn": "9.10.2.21",
        "nccl": "2.27.3",
    }


def test_row_of_xformers_and_of_bitsandbytes() -> None:
    """What they were compiled for: cpp_lib.json, and the names of the libraries."""
    built = {
        "version": {"cuda": 1208, "torch": "2.10.0+cu128"},
        "env": {"TORCH_CUDA_ARCH_LIST": "7.5 8.0+PTX 8.0 9.0a"},
    }
    row = refresh.xformers_row(
        wheel({"xformers/cpp_lib.json": json.dumps(built), "x.dist-info/METADATA": metadata_text()}), []
    )
    assert (row["built_torch"], row["built_cuda"], row["architectures"]) == (
        "2.10.0",
        "12.8",
        ["7.5", "8.0", "8.0+PTX", "9.0a"],
    )
    names = ["cuda130.so", "cuda118.so", "cuda126.so", "cpu.so", "rocm72.so", "cuda126_nocublaslt.so"]
    archive = wheel(
        {f"bitsandbytes/libbitsandbytes_{name}": "" for name in names} | {"x.dist-info/METADATA": metadata_text()}
    )
    assert refresh.bitsandbytes_row(archive, [])["built_cuda"] == ["11.8", "12.6", "13.0"]


def test_row_of_torchaudio() -> None:
    """The label in its version file tells the CUDA of the wheel; one for CPU has none."""
    files = {
        "torchaudio/version.py": "__version__ = '2.11.0+cu130'\ngit_version = 'x'\n",
        "x.dist-info/METADATA": metadata_text(),
    }
    assert refresh.cuda_extension_row(wheel(files), [])["built_cuda"] == "13.0"
    files["torchaudio/version.py"] = "__version__ = '2.11.0+cpu'\n"
    assert "built_cuda" not in refresh.cuda_extension_row(wheel(files), [])


def test_row_of_vllm() -> None:
    """The least compute capability of a quantization method; a module with several that differ is left out."""
    folder = "vllm/model_executor/layers/quantization"
    one = "class A:\n    @classmethod\n    def get_min_capability(cls) -> int:\n        # a reason\n        return {}\n"
    archive = wheel(
        {
            f"{folder}/auto_awq.py": one.format(75),
            f"{folder}/fp_quant.py": one.format(100),
            f"{folder}/modelopt.py": one.format(75) + one.format(80),
            f"{folder}/none.py": one.format("None"),
            f"{folder}/schemes/x.py": one.format(90),
            "x.dist-info/METADATA": metadata_text(),
        }
    )
    assert refresh.vllm_row(archive, [])["quantization"] == {"awq": "7.5", "fp_quant": "10.0"}


@pytest.mark.parametrize(
    "source",
    [
        'CONFIG_MAPPING_NAMES = OrderedDict([("llama", "LlamaConfig"), ("qwen2", "Qwen2Config")])\nOTHER = OrderedDict([("x", "X")])\n',
        'CONFIG_MAPPING_NAMES: OrderedDict[str, str] = OrderedDict(\n    [\n        ("llama", "LlamaConfig"),\n        ("qwen2", "Qwen2Config"),\n    ]\n)\n',
        'CONFIG_MAPPING_NAMES = {"llama": "LlamaConfig", "qwen2": "Qwen2Config"}\n',
    ],
)
def test_model_types_in_each_layout(source: str) -> None:
    """The mapping was a list of pairs, and later became a plain dictionary in a module of its own."""
    assert refresh.model_types(source) == {"llama", "qwen2"}


def test_first_and_last_release_of_a_model_type() -> None:
    """By order of versions, not of text; what the oldest has gets no `since`, what the newest has no `until`."""
    rows = [
        {"version": "4.9.0", "model_types": ["a", "b"]},
        {"version": "4.10.0", "model_types": ["a", "b", "c"]},
        {"version": "5.0.0", "model_types": ["a", "c"]},
    ]
    assert refresh.types_table(rows) == [
        {"type": "a"},
        {"type": "b", "until": "4.10.0"},
        {"type": "c", "since": "4.10.0"},
    ]
    assert all("model_types" not in row for row in rows)


@given(
    st.binary(max_size=2000),
    st.integers(1, 600),
    st.lists(st.tuples(st.integers(0, 2500), st.integers(0, 700)), max_size=12),
)
def test_a_file_read_in_ranges_is_the_file(data: bytes, tail: int, reads: list[tuple[int, int]]) -> None:
    """Whatever is read where, with or without the end that is there already: the same bytes as the whole has."""
    file = refresh.RangeFile(lambda first, last: data[first : last + 1], len(data), data[-tail:])
    for place, size in reads:
        file.seek(place)
        assert io.BufferedReader(file, 64).read(size) == data[place : place + size] or place > len(data)
        file = refresh.RangeFile(lambda first, last: data[first : last + 1], len(data), data[-tail:])


def test_a_wheel_is_read_by_its_end_and_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large archive little more than the directory and the file asked for is fetched."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("x-1.dist-info/METADATA", metadata_text("torch==2.0"))
        archive.writestr("large.bin", bytes(3 << 20))
    whole, fetched = data.getvalue(), []

    def fetch(url: str, headers: dict[str, str]) -> tuple[bytes, str]:
        first, last = headers["Range"].removeprefix("bytes=").split("-")
        part = whole[-int(last) :] if not first else whole[int(first) : int(last) + 1]
        fetched.append(len(part))
        return part, f"bytes x/{len(whole)}"

    monkeypatch.setattr(refresh, "fetch", fetch)
    assert b"torch==2.0" in refresh.member(refresh.open_wheel("https://index.invalid/x.whl"), ".dist-info/METADATA")
    assert sum(fetched) < len(whole) / 2


def _with_wheels(monkeypatch: pytest.MonkeyPatch, make: Callable[[str], zipfile.ZipFile]) -> None:
    monkeypatch.setattr(refresh, "open_wheel", make)


def test_rows_are_kept_and_a_broken_wheel_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row a release, oldest first; one that cannot be read is told and left out; the next run reads none again."""
    opened: list[str] = []

    def make(url: str) -> zipfile.ZipFile:
        opened.append(url)
        if "-0.6.0-" in url:
            raise refresh.RefreshError("index.invalid: gone")
        return wheel({"x.dist-info/METADATA": metadata_text("transformers>=4.31")})

    _with_wheels(monkeypatch, make)
    said: list[str] = []
    page = {"files": [entry(f"trl-{version}-py3-none-any.whl") for version in ("0.7.0", "0.6.0", "0.5.0", "0.1.0")]}
    rows = refresh.rows_of("trl", page, refresh.Cache(tmp_path), said.append)
    assert [row["version"] for row in rows] == ["0.5.0", "0.7.0"]
    assert rows[0]["source"] == "trl-0.5.0-py3-none-any.whl: METADATA"
    assert rows[0]["requires"] == {"transformers": ">=4.31"}
    assert said == ["trl 0.6.0: left out: index.invalid: gone"]
    assert len(opened) == 3
    assert refresh.rows_of("trl", page, refresh.Cache(tmp_path), said.append) == rows
    assert len(opened) == 4


def test_a_table_has_a_row_a_line_and_a_day_alone_changes_nothing(tmp_path: Path) -> None:
    """So that a refresh is a readable diff, and one without news none at all."""
    path = tmp_path / "x.json"
    rows = [{"version": "1.0", "source": "a"}, {"version": "1.1", "source": "b"}]

    def write(day: str, rows: list[dict[str, str]], check: bool) -> bool:
        return bool(refresh.write(path, refresh.table_text({"package": "x", "read": day}, rows), check))

    assert write("2026-11-26", rows, check=True)
    assert not path.exists()
    assert write("2026-11-26", rows, check=False)
    first = path.read_text()
    assert json.loads(first)["rows"] == rows
    assert len(first.splitlines()) == 4
    assert not write("2026-12-01", rows, check=False)
    assert path.read_text() == first
    assert write("2026-12-01", rows[:1], check=False)


def test_the_index_is_pips(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment variable that pip reads goes first."""
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.invalid/simple/")
    assert refresh.index_url() == "https://mirror.invalid/simple"


def test_an_index_that_does_not_answer_is_an_error_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and what failed, no traceback; so for a name without a table."""

    def fetch(url: str, headers: dict[str, str]) -> tuple[bytes, str]:
        raise refresh.RefreshError(f"{url}: timed out")

    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.invalid/simple")
    monkeypatch.setattr(refresh, "fetch", fetch)
    assert refresh.main(["trl", "--check"]) == 2
    assert capsys.readouterr().err == "trl: https://mirror.invalid/simple/trl/: timed out\n"
    with pytest.raises(SystemExit) as stopped:
        refresh.main(["no-such-package"])
    assert stopped.value.code == 2


def test_check_says_what_would_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--check` writes nothing and ends with 1 where a table is out of date."""
    page = json.dumps({"files": [entry("trl-0.7.0-py3-none-any.whl")]}).encode()
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.invalid/simple")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(refresh, "fetch", lambda url, headers: (page, ""))
    monkeypatch.setattr(refresh, "FOLDER", tmp_path)
    _with_wheels(monkeypatch, lambda url: wheel({"x.dist-info/METADATA": metadata_text()}))
    assert refresh.main(["trl", "--check"]) == 1
    assert capsys.readouterr().out == "trl.json: 1 rows, would change\n"
    assert list(tmp_path.glob("*.json")) == []
    assert refresh.main(["trl"]) == 0
    assert refresh.main(["trl", "--check"]) == 0


def test_tables_of_all_packages_are_there() -> None:
    """Each package that the command reads has its table, made by the code that is here."""
    for name in refresh.PACKAGES:
        rows = json.loads((ROOT / "dataset" / "compat" / f"{name}.json").read_text("utf-8"))["rows"]
        assert [row["version"] for row in rows] == [str(v) for v in sorted(Version(row["version"]) for row in rows)]
