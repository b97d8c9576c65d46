"""Environments to build from real wheels: what is installed, what is then broken, and what `llmdoctor check` must say.

A recipe with no `first` is a healthy environment. `provoke` is Python that the environment's own interpreter runs: with
`fails` it must die with that text, without it must succeed. So a planted fault is known to be one, and a healthy
environment to be healthy, before llmdoctor is asked.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct


class Place(Struct, frozen=True):
    """Where an environment was built: its interpreter, its site-packages, and the folder that is worked in."""

    python: Path
    site: Path
    folder: Path


class Recipe(Struct, frozen=True):
    """An environment. `install` are argument lines of `uv pip install`, in order; `plant` breaks it by hand.

    `asked` is what `--for` names. `first` are the rules of which one must be the first diagnosis. `also` are rules
    that may stand in the report of a healthy environment because what they say is true there.
    """

    name: str
    what: str
    install: tuple[str, ...] = ()
    python: str = "3.11"
    plant: Callable[[Place], None] | None = None
    asked: str = ""
    first: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    provoke: str = ""
    fails: str = ""


def delete(place: Place, *patterns: str) -> None:
    """Delete files and folders of site-packages; a pattern that finds nothing is a mistake in the recipe."""
    for pattern in patterns:
        found = list(place.site.glob(pattern))
        if not found:
            raise LookupError(f"nothing to delete: {pattern}")
        for path in found:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def half_removed(place: Place) -> None:
    """An uninstallation that was interrupted: the dist-info and some modules are gone from tokenizers."""
    delete(place, "tokenizers/*.so", "tokenizers/models")


def left_over(place: Place) -> None:
    """An interrupted upgrade by pip: the package was moved aside to `~ransformers` and never came back."""
    for name in ("transformers", next(place.site.glob("transformers-*.dist-info")).name):
        (place.site / name).rename(place.site / f"~{name[1:]}")


def second_dist_info(place: Place) -> None:
    """The metadata of an older release beside that of the one that is installed."""
    delete(place, "tokenizers-0.22.1.dist-info/RECORD")
    new = place.site / "tokenizers-0.22.1.dist-info"
    old = place.site / "tokenizers-0.15.2.dist-info"
    shutil.copytree(new, old)
    text = (new / "METADATA").read_text(encoding="utf-8")
    (old / "METADATA").unlink()
    (old / "METADATA").write_text(text.replace("\nVersion: 0.22.1\n", "\nVersion: 0.15.2\n"), encoding="utf-8")


def own_torch(place: Place) -> None:
    """A script of the user's that is called torch.py, in the folder that is worked in."""
    (place.folder / "torch.py").write_text("print('trying out torch')\n", encoding="utf-8")


def own_tokenizers(place: Place) -> None:
    """A folder of the user's that is called tokenizers, with an `__init__.py`."""
    (place.folder / "tokenizers").mkdir()
    (place.folder / "tokenizers" / "__init__.py").write_text("", encoding="utf-8")


def no_metadata(place: Place) -> None:
    """A dist-info whose METADATA is gone, as a full disk leaves it."""
    delete(place, "tokenizers-*.dist-info/METADATA")


RECIPES: tuple[Recipe, ...] = (
    # healthy
    Recipe(
        "newest",
        "the newest of transformers, trl, peft, accelerate and datasets, with the newest torch",
        ("torch transformers trl peft accelerate datasets",),
        python="3.13",
        asked="trl",
        provoke="import torch, transformers, peft, accelerate, datasets\nfrom trl import SFTTrainer, DPOTrainer",
    ),
    Recipe(
        "torch-trio",
        "torch with the torchvision and torchaudio that go with it",
        ("torch==2.14.1 torchvision==0.29.1 torchaudio==2.11.0",),
        provoke="import torch, torchvision, torchaudio, torchaudio.functional, torchvision.ops",
    ),
    Recipe(
        "set-of-2023",
        "a consistent set of the end of 2023: torch 2.1, transformers 4.35",
        (
            (
                "torch==2.1.2 torchvision==0.16.2 torchaudio==2.1.2 transformers==4.35.2 tokenizers==0.15.0 "
                "huggingface_hub==0.19.4 accelerate==0.25.0 peft==0.7.1 trl==0.7.4 datasets==2.15.0 numpy==1.26.2 "
                "fsspec==2023.10.0 pandas<2.2 pyarrow<15 bitsandbytes==0.41.3 scipy==1.11.4 xformers==0.0.23.post1 "
                "setuptools<70"
            ),
        ),
        python="3.10",
        provoke="import torch, torchvision, torchaudio, transformers, peft, trl, datasets, accelerate, xformers.ops\n"
        "import triton, bitsandbytes",
    ),
    Recipe(
        "set-of-2024",
        "a consistent set of autumn 2024: torch 2.4, transformers 4.45, vLLM 0.6",
        (
            (
                "torch==2.4.0 torchvision==0.19.0 torchaudio==2.4.0 vllm==0.6.2 transformers==4.45.2 tokenizers==0.20.1 "
                "huggingface_hub==0.25.2 accelerate==1.0.1 peft==0.13.2 trl==0.11.4 datasets==3.0.2 numpy==1.26.4 "
                "pyarrow<18 rich setuptools<75"
            ),
        ),
        asked="vllm",
        also=("vllm-wanted-without-gpu",),
        provoke="import torch, torchvision, torchaudio, transformers, peft, datasets, accelerate, vllm, xformers.ops\n"
        "from trl import SFTTrainer",
    ),
    Recipe(
        "torch-2.13",
        "torch 2.13, the CPU build where one is at hand, with the newest of transformers",
        ("torch==2.13.0 numpy", "transformers accelerate"),
        asked="transformers",
        provoke="import torch, transformers; torch.ones(2).numpy()",
    ),
    Recipe(
        "newest-vllm",
        "the newest vLLM with all that it asks for",
        ("vllm cuda-python>=13",),
        python="3.12",
        asked="vllm",
        also=("vllm-wanted-without-gpu",),
        provoke="import torch, vllm, flashinfer, cuda.core",
    ),
    Recipe(
        "newest-sglang",
        "the newest SGLang with all that it asks for",
        ("sglang cuda-python>=13",),
        python="3.12",
        asked="sglang",
        also=("sglang-wanted-without-gpu",),
        provoke="import torch, sglang",
    ),
    Recipe("empty", "an environment with nothing in it", provoke="import sys"),
    # broken
    Recipe(
        "numpy-2-old-torch",
        "numpy 2 under a torch that was built against numpy 1",
        ("torch==2.1.2 numpy<2 setuptools<70", "--no-deps numpy==2.2.6"),
        first=("numpy-2-under-older-torch",),
        provoke="import torch; torch.ones(2).numpy()",
        fails="Numpy is not available",
    ),
    Recipe(
        "tokenizers-too-new",
        "tokenizers above the range that transformers 4.45 asks for",
        ("torch==2.13.0 numpy transformers==4.45.2", "--no-deps tokenizers==0.22.1"),
        first=("transformers-dependency-out-of-range", "tokenizers-outside-range-of-transformers"),
        provoke="import transformers",
        fails="tokenizers>=0.20,<0.21 is required",
    ),
    Recipe(
        "hub-too-new",
        "huggingface_hub above the range that transformers 4.57 asks for",
        ("torch==2.13.0 numpy transformers==4.57.1", "huggingface_hub==1.20.0"),
        first=("transformers-dependency-out-of-range", "huggingface-hub-outside-range-of-transformers"),
        provoke="import transformers",
        fails="huggingface-hub>=0.34.0,<1.0 is required",
    ),
    Recipe(
        "torchvision-of-another-torch",
        "torchvision 0.24, which is torch 2.9's, beside torch 2.14",
        ("torch==2.14.1 numpy pillow", "--no-deps torchvision==0.24.1"),
        first=("torchvision-of-another-torch", "torchvision-of-another-cuda", "extension-needs-other-cuda"),
        provoke="import torchvision",
        fails="operator torchvision::nms does not exist",
    ),
    Recipe(
        "torchvision-of-the-release-before",
        "torchvision 0.28, which is torch 2.13's, beside torch 2.14: both for CUDA 13",
        ("torch==2.14.1 numpy pillow", "--no-deps torchvision==0.28.0"),
        first=("extension-lacks-torch-function", "torchvision-of-another-torch"),
        provoke="import torchvision",
        fails="operator torchvision::nms does not exist",
    ),
    Recipe(
        "torchaudio-of-another-torch",
        "torchaudio 2.5 beside torch 2.14",
        ("torch==2.14.1 numpy", "--no-deps torchaudio==2.5.1"),
        first=("torchaudio-of-another-torch", "torchaudio-of-another-cuda", "extension-cxx11-abi-differs"),
        provoke="import torchaudio",
        fails="Could not load this library: .*libtorchaudio.so",
    ),
    Recipe(
        "two-cuda-families",
        "NCCL and cuDNN of CUDA 12 put over those of CUDA 13, in the same files",
        ("torch==2.14.1 numpy", "--no-deps nvidia-nccl-cu12==2.20.5 nvidia-cudnn-cu12==8.9.2.26"),
        first=("nvidia-wheels-overwrite-each-other",),
        provoke="import torch",
        fails="undefined symbol: nccl",
    ),
    Recipe(
        "xformers-of-another-torch",
        "xformers 0.0.35, built for CUDA 12, beside a torch for CUDA 13: every declared requirement is met",
        ("torch==2.14.1 numpy", "--no-deps xformers==0.0.35"),
        first=("extension-needs-other-cuda", "xformers-of-another-cuda"),
        provoke="import xformers, ctypes, pathlib, torch\n"
        "ctypes.CDLL(str(pathlib.Path(xformers.__file__).with_name('_C.so')))",
        fails="libcudart.so.12: cannot open shared object file",
    ),
    Recipe(
        "sgl-kernel-of-another-cuda",
        "sgl-kernel, built for CUDA 12, beside a torch for CUDA 13",
        ("torch==2.14.1 numpy", "--no-deps sgl-kernel==0.3.21"),
        first=("extension-needs-other-cuda",),
        provoke="import sgl_kernel",
        fails="libnvrtc.so.12: cannot open shared object file",
    ),
    Recipe(
        "bitsandbytes-without-its-cuda",
        "bitsandbytes with libraries up to CUDA 12.8 beside a torch for CUDA 13",
        ("torch==2.14.1 numpy bitsandbytes==0.45.5",),
        first=("bitsandbytes-lacks-cuda-library",),
        provoke="import bitsandbytes, pathlib, sys, torch\n"
        "name = 'libbitsandbytes_cuda%s%s.so' % tuple(torch.version.cuda.split('.'))\n"
        "sys.exit(None if pathlib.Path(bitsandbytes.__file__).with_name(name).exists() else f'{name} is not there')",
        fails="libbitsandbytes_cuda130.so is not there",
    ),
    Recipe(
        "half-removed",
        "tokenizers without its compiled module, which its RECORD names",
        ("torch==2.13.0 numpy transformers==4.57.1",),
        plant=half_removed,
        first=("extension-file-gone", "package-libraries-gone", "package-half-removed"),
        provoke="import tokenizers",
        fails="No module named 'tokenizers.tokenizers'",
    ),
    Recipe(
        "left-over",
        "transformers moved aside to ~ransformers by an upgrade that was interrupted",
        ("torch==2.13.0 numpy transformers==4.57.1",),
        plant=left_over,
        asked="transformers",
        first=("package-lost-in-interrupted-change",),
        provoke="import transformers",
        fails="No module named 'transformers'",
    ),
    Recipe(
        "second-dist-info",
        "tokenizers with the metadata of two versions",
        ("torch==2.13.0 numpy transformers==4.57.1 tokenizers==0.22.1",),
        plant=second_dist_info,
        first=("duplicate-dist-info",),
        provoke="import importlib.metadata as m, sys\n"
        "found = sorted(d.version for d in m.distributions() if d.name == 'tokenizers'); sys.exit(str(found))",
        fails="'0.15.2', '0.22.1'",
    ),
    Recipe(
        "own-torch",
        "a file torch.py in the folder that is worked in",
        ("torch==2.13.0 numpy",),
        plant=own_torch,
        first=("package-hidden-by-own-file",),
        provoke="import torch; torch.ones(2)",
        fails="module 'torch' has no attribute 'ones'",
    ),
    Recipe(
        "own-tokenizers",
        "a folder tokenizers in the folder that is worked in",
        ("torch==2.13.0 numpy transformers==4.57.1",),
        plant=own_tokenizers,
        first=("package-hidden-by-own-file",),
        provoke="from transformers import PreTrainedTokenizerFast",
        fails="Could not import module 'PreTrainedTokenizerFast'",
    ),
    Recipe(
        "qwen3-old-transformers",
        "a transformers that does not know the model type yet",
        ("torch==2.13.0 numpy transformers==4.45.2",),
        asked="qwen3",
        first=("transformers-older-than-wanted-model",),
        provoke="from transformers import AutoConfig; AutoConfig.for_model('qwen3')",
        fails="Unrecognized model identifier: qwen3",
    ),
    Recipe(
        "wheels-of-another-python",
        "numpy and PyYAML for Python 3.10 in an environment of Python 3.11",
        ("--python-version 3.10 numpy<2.3 regex pyyaml",),
        first=("wheel-of-other-python-installed",),
        provoke="import numpy",
        fails="Error importing numpy|No module named 'numpy._core._multiarray_umath'",
    ),
    Recipe(
        "no-metadata",
        "tokenizers without the METADATA of its dist-info",
        ("torch==2.13.0 numpy transformers==4.57.1",),
        plant=no_metadata,
        first=("checked-package-without-metadata", "package-metadata-broken"),
        provoke="import transformers",
        fails="tokenizers",
    ),
    Recipe(
        "requirement-missing",
        "transformers without safetensors, which it asks for",
        ("torch==2.13.0 numpy transformers==4.57.1",),
        plant=lambda place: delete(place, "safetensors", "safetensors-*.dist-info"),
        first=("transformers-dependency-missing",),
        provoke="import transformers",
        fails="safetensors",
    ),
    Recipe(
        "triton-without-setuptools",
        "a triton that imports setuptools without declaring it, in an environment that has none",
        ("torch==2.4.0 numpy<2",),
        first=("triton-without-setuptools",),
        provoke="import torch, triton",
        fails="No module named 'setuptools'",
    ),
    Recipe(
        "python-too-old",
        "the newest transformers unpacked under Python 3.9",
        ("--python-version 3.10 transformers==5.0.0",),
        python="3.9",
        first=("package-wants-other-python",),
        provoke="import transformers",
        fails="unsupported operand type|SyntaxError|cannot import name",
    ),
    Recipe(
        "peft-too-new",
        "a peft that uses what transformers 4.40 does not have: no metadata says so",
        ("torch==2.13.0 numpy transformers==4.40.2 peft==0.18.0",),
        first=("peft-newer-than-transformers",),
        provoke="import peft",
        fails="cannot import name '.*' from 'transformers'",
    ),
    Recipe(
        "trl-too-new",
        "trl above the transformers that it asks for",
        ("torch==2.13.0 numpy transformers==4.45.2 accelerate==1.4.0 datasets>=4.7", "--no-deps trl==1.0.0"),
        first=("transformers-outside-range-of-trl", "requirement-version-unmet"),
        provoke="from trl import SFTTrainer",
        fails="cannot import name",
    ),
    Recipe(
        "cuda-bindings-overwritten",
        "an old cuda-python over the cuda-bindings that vLLM's kernels use: every declared requirement is met",
        ("vllm==0.33.0 cuda-python==13.4.4", "--no-deps cuda-python==12.6.2.post1"),
        python="3.12",
        first=("packages-overwrite-each-other",),
        provoke="import cuda.core",
        fails="does not export expected C function|cannot import name|has no attribute",
    ),
    Recipe(
        "torch-under-vllm",
        "torch of CUDA 13 put under a vLLM that was compiled against torch 2.4",
        ("vllm==0.6.2 transformers==4.45.2 tokenizers==0.20.1 numpy<2 pyarrow<18 setuptools<75", "torch==2.14.1"),
        first=("vllm-of-another-torch", "torchvision-of-another-cuda", "extension-cxx11-abi-differs"),
        provoke="import torch, ctypes, importlib.util, pathlib\n"
        "folder = pathlib.Path(importlib.util.find_spec('vllm').origin).parent\n"
        "ctypes.CDLL(str(folder / '_moe_C.abi3.so'))",
        fails="libcudart.so.12: cannot open shared object file|undefined symbol",
    ),
)


def names() -> list[str]:
    """The names of all recipes."""
    return [recipe.name for recipe in RECIPES]


def recipe(name: str) -> Recipe:
    """The recipe of this name."""
    return next(recipe for recipe in RECIPES if recipe.name == name)
