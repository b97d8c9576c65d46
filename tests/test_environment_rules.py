"""The rules on Python environments: silent on healthy ones of many kinds, and a planted fault comes first and is told once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from diagnose.causes import diagnose
from diagnose.derive import compat
from diagnose.match import match
from diagnose.model import Case, Cause
from tests.sources.environments import environment, install, interpreter, site_of, told
from tests.support import facts_of
from tests.test_bundled_rules import RULES

GiB = 1024**3
Value = str | int | float | bool


class Package(Struct, frozen=True):
    """A distribution to install; `files` are beside the plain module of its name."""

    name: str
    version: str
    requires: tuple[str, ...] = ()
    installer: str = "pip"
    files: Mapping[str, str] = {}
    tag: str = "py3-none-any"
    editable: bool = False


class Profile(Struct, frozen=True):
    """An environment: what is installed, and what its machine tells. `conda` are conda's own records: name to version."""

    name: str
    packages: tuple[Package, ...]
    machine: Mapping[str, Value] = {}
    python: str = "3.12.3"
    conda: Mapping[str, str] = {}
    elsewhere: tuple[Package, ...] = ()
    environ: Mapping[str, str] = {}


def torch(version: str, cuda: str = "", requires: tuple[str, ...] = (), **more: Any) -> Package:
    """torch as its version.py tells of it: `cuda` 12.8, hip6.4 or xpu, nothing for a CPU build."""
    hip, xpu = cuda.removeprefix("hip") if cuda.startswith("hip") else "", cuda if cuda == "xpu" else ""
    plain = "" if hip or xpu else cuda
    text = "".join(
        f"{name} = {value!r}\n"
        for name, value in (("__version__", more.pop("says", version)), ("cuda", plain or None), ("hip", hip or None), ("xpu", xpu or None))
    )  # fmt: skip
    return Package("torch", version, requires, files={"torch/version.py": text}, **more)


def nvidia(name: str, capability: str, driver: str, cuda: str, count: int = 1, **more: Value) -> dict[str, Value]:
    """A machine with GPUs of one kind."""
    facts: dict[str, Value] = {
        "gpu.vendor": "nvidia",
        "gpu.count": count,
        "driver.version": driver,
        "driver.cuda": cuda,
    }
    facts |= {"driver.pci_amd": 0, "os.name": "Linux", "os.machine": "x86_64"}
    for index in range(count):
        facts |= {f"gpu.{index}.name": name, f"gpu.{index}.compute_capability": capability}
    return facts | more


NO_GPU: dict[str, Value] = {"gpu.vendor": "none", "gpu.count": 0, "os.name": "Linux", "os.machine": "x86_64"}
H100 = nvidia("NVIDIA H100 80GB HBM3", "9.0", "580.95.05", "13.0", 8)
TRANSFORMERS = (
    Package("transformers", "4.57.1", ("tokenizers>=0.22.0,<=0.23.0", "huggingface-hub<1.0,>=0.34.0", "safetensors>=0.4.3")),
    Package("tokenizers", "0.22.1"),
    Package("huggingface-hub", "0.36.0"),
    Package("safetensors", "0.6.2"),
    Package("accelerate", "1.11.0", ("torch>=2.0.0",)),
    Package("peft", "0.18.0", ("torch>=1.13.0", "transformers", "accelerate>=0.21.0")),
)  # fmt: skip

HEALTHY = (
    Profile(
        "conda with packages of pip on top",
        (
            torch("2.5.1", "11.8", installer="conda"),
            Package("torchvision", "0.20.1", ("torch==2.5.1",), "conda"),
            Package("torchaudio", "2.5.1", ("torch==2.5.1",), "conda"),
            Package("numpy", "2.2.6"),
            *TRANSFORMERS,
        ),
        nvidia("NVIDIA GeForce RTX 3090", "8.6", "550.163.01", "12.4"),
        conda={"pytorch": "2.5.1", "torchvision": "0.20.1", "numpy": "1.26.4"},
    ),
    Profile(
        "conda-forge's torch, whose PTX runs on a newer card",
        (torch("2.6.0", "12.6", installer="conda"), *TRANSFORMERS),
        nvidia("NVIDIA GeForce RTX 5090", "12.0", "580.95.05", "13.0"),
        conda={"pytorch": "2.6.0"},
    ),
    Profile(
        "an NGC container",
        (
            torch("2.9.0a0+145a3a7.nv25.10", "13.0", ("nvidia-nccl-cu13==2.27.7; platform_system == 'Windows'",)),
            Package("torchvision", "0.24.0a0+094e7af5", ("torch>=2.9",)),
            Package("transformer-engine", "2.8.0", ("torch>=2.1",)),
            Package("flash-attn", "2.7.4.post1+25.10", ("torch",)),
            *TRANSFORMERS,
        ),
        nvidia("NVIDIA B200", "10.0", "570.124.06", "12.8", 8, **{"driver.compat_in_path": True}),
    ),
    Profile(
        "torch for ROCm",
        (torch("2.9.1+rocm6.4", "hip6.4.43484", ("pytorch-triton-rocm==3.5.1",)), Package("pytorch-triton-rocm", "3.5.1"), *TRANSFORMERS),
        {"gpu.vendor": "amd", "gpu.count": 8, "gpu.0.gfx": "gfx942", "driver.pci_amd": 8, "os.machine": "x86_64"},
    ),
    Profile(
        "torch nightly",
        (
            torch("2.11.0.dev20260105+cu130", "13.0", ("triton==3.6.0+git1",)),
            Package("triton", "3.6.0+git1"),
            Package("torchvision", "0.26.0.dev20260105+cu130", ("torch==2.11.0.dev20260105",)),
            *TRANSFORMERS,
        ),
        H100,
    ),
    Profile(
        "transformers and vLLM installed in place from their sources",
        (
            torch("2.9.1+cu128", "12.8"),
            Package("transformers", "5.2.0.dev0", ("tokenizers<=0.23.0,>=0.22.0", "huggingface-hub<2.0,>=1.3.0"), editable=True),
            Package("vllm", "0.15.1rc1.dev12+g1f2e3d4.precompiled", ("torch==2.9.1", "transformers<6,>=4.56.0"), editable=True),
            Package("trl", "0.28.0.dev0", ("transformers>=5.2.0", "accelerate>=1.4.0")),
            Package("tokenizers", "0.22.2"),
            Package("huggingface-hub", "1.3.1"),
            Package("accelerate", "1.12.0", ("torch>=2.0.0",)),
        ),
        H100 | {"wanted.kind": "model-type", "wanted.name": "qwen3"},
    ),
    Profile(
        "a uv environment without pip",
        (torch("2.8.0", "12.8", installer="uv", says="2.8.0+cu128"), *TRANSFORMERS),
        nvidia("NVIDIA L4", "8.9", "535.183.01", "12.2"),
    ),
    Profile(
        "Debian's own Python",
        (
            Package("launchpadlib", "1.10.16", ("testresources", "httplib2"), "debian"),
            Package("httplib2", "0.20.4", (), "debian"),
            Package("numpy", "1.26.4", (), "debian"),
        ),
        NO_GPU,
    ),
    Profile(
        "Colab",
        (
            torch("2.9.0+cu126", "12.6", ("triton==3.5.0",)),
            Package("triton", "3.5.0"),
            Package("torchvision", "0.24.0+cu126", ("torch==2.9.0",)),
            Package("torchaudio", "2.9.0+cu126", ("torch==2.9.0",)),
            Package("google-colab", "1.0.0", ("requests==2.32.4", "pandas==2.2.2")),
            Package("requests", "2.32.5"),
            Package("pandas", "2.2.3"),
            Package("ipython", "7.34.0", ("jedi>=0.16",)),
            Package("opencv-python", "4.12.0.88", files={"cv2/cv2.abi3.so": "a"}),
            Package("opencv-contrib-python", "4.12.0.88", files={"cv2/cv2.abi3.so": "b"}),
            *TRANSFORMERS,
        ),
        nvidia("Tesla T4", "7.5", "550.54.15", "12.4"),
        environ={"LD_LIBRARY_PATH": "/usr/lib64-nvidia"},
    ),
    Profile(
        "Kaggle",
        (
            torch("2.8.0+cu126", "12.6"),
            Package("bigframes", "2.12.0", ("google-cloud-bigquery>=9", "rich<14")),
            Package("rich", "14.2.0"),
            Package("google-cloud-bigquery", "3.25.0"),
            Package("cesium", "0.12.4", ("numpy<3.0,>=2.0",)),
            Package("numpy", "1.26.4"),
            *TRANSFORMERS,
        ),
        nvidia("Tesla T4", "7.5", "560.35.03", "12.6", 2),
    ),
    Profile(
        "vLLM's image",
        (
            torch("2.9.0+cu129", "12.9", ("triton==3.5.0", "nvidia-nccl-cu12==2.27.5")),
            Package("triton", "3.5.0"),
            Package("nvidia-nccl-cu12", "2.27.5"),
            Package("torchvision", "0.24.0+cu129", ("torch==2.9.0",)),
            Package("torchaudio", "2.9.0+cu129", ("torch==2.9.0",)),
            Package("vllm", "0.12.0+cu129", ("torch==2.9.0", "transformers<5,>=4.56.0", "torchaudio==2.9.0", "torchvision==0.24.0")),
            *TRANSFORMERS,
        ),
        nvidia("NVIDIA H200", "9.0", "535.216.03", "12.2", 8, **{"driver.compat_version": "575.57.08"}) | {"wanted.name": "vllm", "wanted.kind": "package", "wanted.installed": True, "wanted.torch": True},
    ),
    Profile(
        "SGLang's image, with an NCCL and a cuDNN put there on purpose",
        (
            torch("2.9.1", "12.8", ("nvidia-nccl-cu12==2.27.5", "nvidia-cudnn-cu12==9.10.2.21"), says="2.9.1+cu128"),
            Package("nvidia-nccl-cu12", "2.28.3"),
            Package("nvidia-cudnn-cu12", "9.16.0.29"),
            Package("sglang", "0.5.6.post2", ("torch==2.9.1", "transformers==4.57.1"), editable=True),
            *TRANSFORMERS,
        ),
        H100,
    ),
    Profile(
        "only llama-cpp-python",
        (Package("llama-cpp-python", "0.3.16", ("numpy>=1.20.0",)), Package("numpy", "2.3.4")),
        NO_GPU | {"wanted.name": "llama-cpp", "wanted.kind": "program", "wanted.installed": True, "wanted.torch": False},
    ),
    Profile(
        "a Jetson board with NVIDIA's wheels",
        (torch("2.8.0", "12.6"), Package("torchvision", "0.23.0"), Package("torchaudio", "2.8.0"), Package("bitsandbytes", "0.48.0", files={"bitsandbytes/libbitsandbytes_cuda126.so": ""}), *TRANSFORMERS),
        nvidia("Orin (nvgpu)", "8.7", "540.4.0", "12.6", **{"driver.tegra": True, "os.machine": "aarch64"}),
        python="3.10.12",
    ),
    Profile(
        "a CPU build on a machine without GPU",
        (torch("2.9.1+cpu"), Package("torchvision", "0.24.1+cpu", ("torch==2.9.1",)), *TRANSFORMERS),
        NO_GPU,
    ),
    Profile(
        "PyPI's torch and an older bitsandbytes on a laptop with AMD's integrated graphics",
        (torch("2.14.1", "13.0", says="2.14.1+cu130"), *TRANSFORMERS),
        {"gpu.vendor": "amd", "gpu.count": 1, "gpu.0.gfx": "gfx1103", "driver.pci_amd": 1, "os.machine": "x86_64"},
    ),
    Profile(
        "torch for Intel's GPUs",
        (torch("2.9.1+xpu", "xpu", ("pytorch-triton-xpu==3.5.0",)), Package("pytorch-triton-xpu", "3.5.0"), *TRANSFORMERS),
        {"gpu.vendor": "intel", "gpu.count": 2, "os.machine": "x86_64"},
    ),
    Profile(
        "Python 3.14 and a torch that knows it",
        (torch("2.10.0", "12.8", says="2.10.0+cu128"), *TRANSFORMERS),
        H100,
        python="3.14.0",
    ),
    Profile(
        "an older copy of a package in a later folder of sys.path",
        (torch("2.9.1", "12.8", says="2.9.1+cu128"), *TRANSFORMERS),
        H100,
        elsewhere=(Package("numpy", "1.21.0"), Package("tokenizers", "0.13.3"), Package("huggingface-hub", "0.20.0")),
    ),
    Profile(
        "an image whose packages lost their tests",
        (torch("2.9.1", "12.8", says="2.9.1+cu128"), Package("sloppy", "1.0", files={"tests/__init__.py": "-"}), *TRANSFORMERS),
        H100,
    ),
    Profile("an empty environment", (), NO_GPU),
)  # fmt: skip


def built(profile: Profile, tmp_path: Path) -> dict[str, Any]:
    """The facts that are read of the profile's environment, with those of its machine."""
    series = ".".join(profile.python.split(".")[:2])
    if profile.conda:
        python = interpreter(tmp_path / "conda", profile.python)
        site = site_of(tmp_path / "conda", profile.python)
        (tmp_path / "conda" / "conda-meta").mkdir()
        for name, version in profile.conda.items():
            (tmp_path / "conda" / "conda-meta" / f"{name}-{version}-py_0.json").write_text(json.dumps({"name": name}))
    else:
        folder = environment(tmp_path, profile.python)
        python, site = folder / "bin" / "python", site_of(folder, profile.python)
    for package in profile.packages:
        put(site, package, tmp_path)
    if profile.elsewhere:
        later = tmp_path / "later" / "lib" / f"python{series}" / "site-packages"
        for package in profile.elsewhere:
            put(later, package, tmp_path)
        (site / "later.pth").write_text(f"{later}\n")
    work = tmp_path / "work"
    work.mkdir()
    return {"glibc.version": "2.39"} | told(python, work, profile.environ)[0] | dict(profile.machine)


def put(site: Path, package: Package, tmp_path: Path) -> None:
    module = package.name.replace("-", "_")
    sources = tmp_path / "sources" / package.name
    files = {f"{module}/__init__.py": "", **package.files}
    if package.editable:
        sources.mkdir(parents=True)
        files = {}
    install(
        site,
        package.name,
        package.version,
        package.requires,
        files,
        tag=package.tag,
        installer=package.installer,
        editable=str(sources) if package.editable else "",
    )
    if "tests/__init__.py" in files:
        (site / "tests" / "__init__.py").unlink()


def judged(facts: Mapping[str, Any]) -> tuple[Cause, ...]:
    """The diagnosis of a machine with these facts and what the tables say of them."""
    known = tuple(facts_of(dict(facts)))
    case = Case(known + compat.complete(known), machine=True)
    return diagnose(RULES, case, match(RULES, case)).diagnoses


@pytest.mark.parametrize("profile", HEALTHY, ids=lambda profile: profile.name)
def test_a_healthy_environment_has_nothing_above_a_note(profile: Profile, tmp_path: Path) -> None:
    """What works is not complained about, wherever it came from."""
    found = judged(built(profile, tmp_path))
    assert [(cause.rule, cause.title) for cause in found if cause.severity != "note"] == []


SOUND = Profile(
    "sound",
    (
        torch("2.9.1", "12.8", ("triton==3.5.1", "nvidia-cudnn-cu12==9.10.2.21"), says="2.9.1+cu128"),
        Package("triton", "3.5.1"),
        Package("nvidia-cudnn-cu12", "9.10.2.21"),
        *TRANSFORMERS,
    ),
    H100,
)


def with_(*packages: Package, without: tuple[str, ...] = (), **machine: Value) -> Profile:
    """The sound profile with some packages put in the place of those of the same name, and other facts (`__` is a dot)."""
    names = {package.name for package in packages} | set(without)
    kept = tuple(package for package in SOUND.packages if package.name not in names)
    facts = dict(SOUND.machine) | {name.replace("__", "."): value for name, value in machine.items()}
    return Profile("planted", kept + packages, facts)


PLANTED: tuple[tuple[str, Profile], ...] = (
    ("transformers-dependency-out-of-range", with_(Package("huggingface-hub", "1.2.0"))),
    ("transformers-dependency-missing", with_(without=("safetensors",))),
    ("requirement-version-unmet", with_(Package("trl", "0.24.0", ("transformers>=4.56.1", "accelerate>=1.14.0")))),
    ("requirement-missing", with_(Package("trl", "0.24.0", ("transformers>=4.56.1", "datasets>=3.0.0")))),
    ("required-torch-differs", with_(Package("torchaudio", "2.8.0", ("torch==2.8.0",)))),
    ("torch-companion-differs", with_(Package("triton", "3.4.0"))),
    ("torch-library-older-than-its-own", with_(Package("nvidia-cudnn-cu12", "9.1.0.70"))),
    ("torch-cpu-build-beside-nvidia-gpu", with_(torch("2.9.1+cpu"))),
    ("torchvision-of-another-cuda", with_(torch("2.9.1+cu130", "13.0"), Package("torchvision", "0.24.1+cu128", ("torch==2.9.1",)))),
    ("driver-too-old-for-cuda-of-torch", with_(torch("2.11.0", "13.0", says="2.11.0+cu130"), driver__version="550.54.15", driver__cuda="12.4")),
    ("gpu-newer-than-this-torch", with_(torch("2.6.0+cu124", "12.4"), **{f"gpu.{number}.compute_capability": "12.0" for number in range(8)})),
    ("peft-older-than-transformers-5", with_(
        Package("transformers", "5.1.0", ("tokenizers>=0.22.0,<=0.23.0", "huggingface-hub<2.0,>=1.3.0")),
        Package("huggingface-hub", "1.3.1"),
        Package("peft", "0.17.1", ("torch>=1.13.0", "transformers", "accelerate>=0.21.0")),
    )),
    ("accelerate-older-than-transformers-wants", with_(Package("accelerate", "0.24.1", ("torch>=1.10.0",)), without=("peft",))),
    ("required-torch-missing", with_(without=("torch", "triton", "nvidia-cudnn-cu12"), wanted__name="peft", wanted__kind="package", wanted__installed=True, wanted__torch=False)),
    ("transformers-older-than-wanted-model", with_(wanted__kind="model-type", wanted__name="qwen3_5")),
    ("toolkit-differs-from-torch-for-deepspeed", with_(Package("deepspeed", "0.18.2", ("torch",)), **{"cuda.toolkit": "13.0", "cuda.toolkit_major": 13, "cuda.toolkit_found": True})),
)  # fmt: skip


@pytest.mark.parametrize(("rule", "profile"), PLANTED, ids=[rule for rule, _ in PLANTED])
def test_a_planted_fault_comes_first_and_is_told_once(rule: str, profile: Profile, tmp_path: Path) -> None:
    """Beside it nothing above a note stands by itself; what follows from it stands under it."""
    found = [cause.rule for cause in judged(built(profile, tmp_path)) if cause.severity != "note"]
    assert found == [rule]


def test_the_sound_environment_is_sound(tmp_path: Path) -> None:
    """So that what is found in a planted one comes from the fault."""
    assert [cause.rule for cause in judged(built(SOUND, tmp_path)) if cause.severity != "note"] == []


@pytest.mark.parametrize("version", ["4.57.0.dev0", "5.0.0rc0", "4.57.0"])
def test_a_build_of_the_main_branch_may_know_a_model_before_its_release(version: str) -> None:
    """transformers from its repository is how new models are used first; its number is that of the release to come."""
    found = judged({"wanted.kind": "model-type", "wanted.name": "qwen3_vl", "transformers.version": version})
    assert [cause.rule for cause in found if cause.severity != "note"] == []


def test_a_model_that_was_taken_out_asks_for_an_older_release() -> None:
    """Not for a newer one, which the message of transformers suggests."""
    found = judged({"wanted.kind": "model-type", "wanted.name": "open-llama", "transformers.version": "5.24.0"})
    assert [cause.rule for cause in found] == ["transformers-dropped-wanted-model"]
    assert f"transformers=={compat_until('open-llama')}" in str(found[0].fix[0].run)


def compat_until(name: str) -> str:
    facts = compat.complete(facts_of({"wanted.kind": "model-type", "wanted.name": name}))
    return next(str(fact.value) for fact in facts if fact.name == "wanted.model_type_until")
