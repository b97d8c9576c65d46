"""Compiled extensions: whether the libraries and functions that they were built against are the ones that are here.

A package may satisfy every declared requirement and still not load, because its compiled part was built against
another torch, CUDA, Python, glibc or libstdc++. The ELF header says so without an import.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec
from msgspec import Struct
from packaging.version import InvalidVersion, Version

from diagnose.model import Fact, Reading, Step, Unchecked
from diagnose.sources.distributions import Distribution, Record
from diagnose.sources.elf import Elf, ElfError
from diagnose.sources.files import HEAD, read_bytes, read_text
from diagnose.sources.interpreter import Interpreter
from diagnose.sources.libraries import DRIVER, Library, Loaded, Loader, unresolved
from diagnose.sources.torch_build import TorchBuild, toolkit_home

Moment = Literal["import", "use", "unknown"]


class _Known(Struct, frozen=True):
    """The compiled files of a package that are really loaded, and when: at its import, or when something is used."""

    files: str
    moment: Moment


_EXT = r"(?:\.cpython-\d+t?-[\w-]+|\.abi3)?\.so"
_KNOWN: dict[str, tuple[_Known, ...]] = {
    "flash-attn": (_Known(rf"flash_attn_2_cuda{_EXT}", "import"),),
    "flash-attn-3": (_Known(rf"flash_attn_3/_C{_EXT}", "import"),),
    "xformers": (_Known(rf"xformers/_C{_EXT}", "use"),),
    "vllm": (
        _Known(rf"vllm/_C{_EXT}", "import"),
        _Known(rf"vllm/(?:_moe_C|_C_stable_libtorch|_moe_C_stable_libtorch){_EXT}", "import"),
    ),
    "sgl-kernel": (_Known(rf"sgl_kernel/(?:sm\d+/)?common_ops{_EXT}", "import"),),
    "sglang-kernel": (_Known(rf"sgl_kernel/(?:sm\d+/)?common_ops{_EXT}", "import"),),
    "torchvision": (_Known(rf"torchvision/_C(?:_stable)?{_EXT}", "import"),),
    "torchaudio": (
        _Known(rf"torchaudio/lib/libtorchaudio{_EXT}", "import"),
        _Known(rf"torchaudio/lib/_torchaudio{_EXT}", "import"),
    ),
    "torchtext": (_Known(rf"torchtext/lib/libtorchtext{_EXT}", "import"),),
    "torch-scatter": (_Known(r"torch_scatter/_\w+_(?:cpu|cuda)\.so", "import"),),
    "torch-sparse": (_Known(r"torch_sparse/_\w+_(?:cpu|cuda)\.so", "import"),),
    "torch-cluster": (_Known(r"torch_cluster/_\w+_(?:cpu|cuda)\.so", "import"),),
    "torch-spline-conv": (_Known(r"torch_spline_conv/_\w+_(?:cpu|cuda)\.so", "import"),),
    "pyg-lib": (_Known(r"(?:pyg_lib/)?libpyg\.so", "import"),),
    "causal-conv1d": (_Known(rf"causal_conv1d_cuda{_EXT}", "import"),),
    "mamba-ssm": (_Known(rf"selective_scan_cuda{_EXT}", "import"),),
    "deepspeed": (_Known(rf"deepspeed/ops/(?:\w+/)*\w+_op{_EXT}", "use"),),
    "bitsandbytes": (),  # it has a library for each CUDA version; see below
    "auto-gptq": (
        _Known(rf"(?:autogptq_cuda_\w+|autogptq_marlin_cuda|exllama_kernels|exllamav2_kernels){_EXT}", "use"),
    ),
    "gptqmodel": (_Known(rf"gptqmodel_\w+{_EXT}", "use"),),
    "autoawq-kernels": (_Known(rf"(?:awq_ext|awq_v2_ext|exl_ext|exlv2_ext|marlin_cuda){_EXT}", "use"),),
    "exllamav2": (_Known(rf"exllamav2_ext{_EXT}", "import"),),
    "exllamav3": (_Known(rf"exllamav3_ext{_EXT}", "import"),),
    "apex": (_Known(rf"(?:amp_C|apex_C|fused_layer_norm_cuda|fused_weight_gradient_mlp_cuda){_EXT}", "use"),),
    "transformer-engine": (),  # it loads its libraries one by one, by path
    "transformer-engine-torch": (),
    "triton": (_Known(rf"triton/_C/libtriton{_EXT}", "import"),),
    "pytorch-triton": (_Known(rf"triton/_C/libtriton{_EXT}", "import"),),
    "flashinfer": (_Known(rf"flashinfer/(?:_kernels|_kernels_sm\d+|_decode\w*|_prefill\w*){_EXT}", "import"),),
    "flashinfer-python": (_Known(rf"flashinfer/(?:_kernels|_kernels_sm\d+){_EXT}", "import"),),
    "llama-cpp-python": (_Known(r"llama_cpp/(?:lib/)?libllama\.so", "import"),),
    "torchao": (_Known(rf"torchao/_C{_EXT}", "use"),),
    "torchcodec": (),
    "torch": (),
    "detectron2": (_Known(rf"detectron2/_C{_EXT}", "import"),),
    "mmcv": (_Known(rf"mmcv/_ext{_EXT}", "use"),),
    "natten": (_Known(rf"natten/libnatten{_EXT}", "import"),),
    "deep-gemm": (_Known(rf"(?:deep_gemm_cpp|deep_gemm/_C){_EXT}", "import"),),
    "deep-ep": (_Known(rf"deep_ep_cpp{_EXT}", "import"),),
    "tokenizers": (_Known(rf"tokenizers/tokenizers{_EXT}", "import"),),
    "safetensors": (_Known(rf"safetensors/_safetensors_rust{_EXT}", "import"),),
    "sentencepiece": (_Known(rf"sentencepiece/_sentencepiece{_EXT}", "import"),),
    "numpy": (_Known(rf"numpy/(?:_core|core)/_multiarray_umath{_EXT}", "import"),),
    "pyarrow": (_Known(rf"pyarrow/lib{_EXT}", "import"),),
}

_IN_ORDER = frozenset(["torchaudio"])
"""Packages whose second compiled file finds the first one loaded."""
_WITHOUT_TORCH = frozenset(["llama-cpp-python", "numpy", "pyarrow", "tokenizers", "safetensors", "sentencepiece"])
"""Packages that are imported without torch, so that what torch loads does not help them."""
_PRELOAD_CUDART = frozenset(["sgl-kernel", "sglang-kernel"])

# Extension modules that stand alone at the top, or are called `_C`: what an import of the package loads, most likely.
_OTHERS = re.compile(rf"(?:\w+|\w+/_C|\w+/_ext){_EXT}")
_OTHERS_MATTER = re.compile(r"lib(?:torch\w*|c10\w*|cudart)\.so.*")

_CPP = rb"_Z\w*?N[KVO]?(?:3c10|2at|5torch|6caffe2)\w*"
_CPP_SYMBOL = re.compile(_CPP)
_TORCH_SYMBOL = re.compile(_CPP + rb"|aoti_torch_\w+|torch_\w+|THP\w+")
_NEW_STRING = re.compile(rb"_Z\w*(?:3c10|2at|5torch)\w*St7__cxx1112basic_string")
_OLD_STRING = re.compile(rb"_ZNK?(?:3c10|2at|5torch)\w*(?:RKSs|ESs|SsE|Ss$)")
_PYTHON_TAG = re.compile(r"\.(?:cpython-(\d+t?)|cp(\d+t?)|pypy(\d+))[-_.]")
MOST_EXTENSIONS = 200


class Extension(Struct, frozen=True):
    """A compiled file of a package: its path, when it is loaded, and the paths of the same file for other Pythons."""

    dist: Distribution
    path: str
    moment: Moment


def find_extensions(dist: Distribution, record: Record, interpreter: Interpreter) -> list[Extension]:
    """The compiled files of a distribution that are loaded by the interpreter. One of another Python is kept if alone."""
    known = _KNOWN.get(dist.name)
    found: dict[str, list[Extension]] = {}
    for path in record.libraries:
        moment = _moment(path, known)
        if moment is not None:
            stem = re.split(r"\.(?:cpython-|abi3|so)", path)[0]
            found.setdefault(stem, []).append(Extension(dist, os.path.join(dist.site, path), moment))
    chosen: list[Extension] = []
    for same in found.values():
        fitting = [one for one in same if _tag(one.path) in ("", interpreter.abi)]
        chosen.extend(fitting or same[:1])
    patterns = [one.files for one in known or ()]
    return sorted(chosen, key=lambda one: _place(os.path.relpath(one.path, dist.site), patterns))


def _place(path: str, patterns: Sequence[str]) -> int:
    return next((number for number, pattern in enumerate(patterns) if re.fullmatch(pattern, path)), len(patterns))


def _moment(path: str, known: Sequence[_Known] | None) -> Moment | None:
    if known is None:
        return "unknown" if _OTHERS.fullmatch(path) else None
    return next((one.moment for one in known if re.fullmatch(one.files, path)), None)


def _tag(path: str) -> str:
    """cp310, if the file's name says that it is for one Python only."""
    found = _PYTHON_TAG.search(os.path.basename(path))
    return "" if not found else f"pp{found[3]}" if found[3] else f"cp{found[1] or found[2]}"


class Verdict(Struct):
    """What is known of one extension; empty texts where there is nothing to tell."""

    extension: Extension
    missing_library: str = ""
    missing_for: str = ""
    missing_symbol: str = ""
    missing_symbols: int = 0
    cuda_needed: str = ""
    cxx11_abi: bool | None = None
    stable_abi: bool = True
    glibc_needed: str = ""
    glibcxx_needed: str = ""
    glibcxx_there: str = ""
    libstdcxx: str = ""
    python_tag: str = ""
    machine: str = ""
    damaged: str = ""
    gone: bool = False
    needs_driver: bool = False
    needs_torch: bool = False

    @property
    def faulty(self) -> bool:
        """Whether it cannot be loaded, for a reason that its file tells."""
        return bool(self.missing_library or self.missing_symbol or self.damaged or self.gone)


def judge(
    extension: Extension, loader: Loader, with_torch: Loaded | None, before: Sequence[str] = ()
) -> Verdict | None:
    """Compare one extension with the libraries that are here; None for one that has nothing to do with torch or CUDA.

    `with_torch` is what is loaded once torch was imported; None if torch is not there. `before` are files that the
    package loads first.
    """
    verdict = Verdict(extension, python_tag=_tag(extension.path))
    try:
        with Elf(extension.path) as elf:
            if extension.moment == "unknown" and not any(_OTHERS_MATTER.fullmatch(name) for name in elf.needed):
                return None
            if loader.machine and elf.header.machine != loader.machine:
                verdict.machine = elf.header.machine
                return verdict
    except ElfError as error:
        if not os.path.lexists(extension.path):
            verdict.gone = True
            return verdict if extension.moment == "import" else None
        verdict.damaged = str(error)
        return verdict
    try:
        _read_header(verdict, loader, with_torch, before)
    except ElfError as error:
        verdict.damaged = str(error)
    return verdict


def _read_header(verdict: Verdict, loader: Loader, with_torch: Loaded | None, first: Sequence[str]) -> None:
    alone = with_torch is None or verdict.extension.dist.name in _WITHOUT_TORCH
    loaded = loader.start() if alone or with_torch is None else with_torch.copy()
    if verdict.extension.dist.name in _PRELOAD_CUDART:
        first = [*first, *_cudart_of(loader.environ)]
    for path in first:
        loader.load(path, loaded)
    loaded.missing.clear()
    before = set(loaded.libraries)
    library = loader.load(verdict.extension.path, loaded)
    if library is None:
        verdict.damaged = loaded.damaged.get(verdict.extension.path, "it cannot be read")
        return
    own = [library, *(lib for name, lib in loaded.libraries.items() if name not in before and _is_own(lib, verdict))]
    verdict.needs_torch = any(
        _OTHERS_MATTER.fullmatch(name) and "cudart" not in name for lib in own for name in lib.needed
    )
    for lib in own:
        _versions(verdict, lib, loaded)
        for name in lib.needed:
            found = re.fullmatch(r"libcudart\.so\.(\d+)(?:\.\d+)*", name)
            if found:
                verdict.cuda_needed = found[1]
    verdict.needs_driver = any(miss.name in DRIVER for miss in loaded.missing)
    if verdict.needs_torch and with_torch is None:
        return
    missing = [miss for miss in loaded.missing if miss.name not in DRIVER and not miss.name.startswith("ld-linux")]
    if missing:
        verdict.missing_library, verdict.missing_for = missing[0].name, missing[0].needed_by
    names = library.elf.undefined(_TORCH_SYMBOL)
    verdict.stable_abi = not any(_CPP_SYMBOL.fullmatch(name) for name in names)
    verdict.cxx11_abi = _abi(names)
    if verdict.needs_torch:
        libraries = [lib for lib in loaded.libraries.values() if not _is_system(lib.path)]
        if all(lib.elf.searchable for lib in libraries):
            lacking = list(unresolved(names, sorted(libraries, key=_rank)))
            verdict.missing_symbols = len(lacking)
            verdict.missing_symbol = lacking[0].decode("utf-8", "replace") if lacking else ""


def _cudart_of(environ: Mapping[str, str]) -> list[str]:
    """The CUDA runtime of the toolkit, where sgl_kernel looks for it before it loads its own library."""
    home = toolkit_home(environ)
    folders = (
        os.path.join(home, "lib"),
        os.path.join(home, "lib64"),
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib64",
        "/usr/lib",
    )
    return [path for folder in folders if os.path.isfile(path := os.path.join(folder, "libcudart.so.12"))][:1]


def _is_own(library: Library, verdict: Verdict) -> bool:
    """Whether a library came with the package: it lies beside its other files."""
    return library.path.startswith(verdict.extension.dist.site + os.sep)


def _is_system(path: str) -> bool:
    return path.startswith(("/lib", "/usr/lib"))


def _rank(library: Library) -> int:
    """Which library to ask first for a symbol of torch."""
    order = ("libc10.so", "libtorch_cpu.so", "libtorch_python.so", "libc10_cuda.so", "libtorch_cuda.so")
    name = os.path.basename(library.path)
    return order.index(name) if name in order else len(order)


def _abi(names: Iterable[bytes]) -> bool | None:
    for name in names:
        if _NEW_STRING.match(name):
            return True
        if _OLD_STRING.match(name):
            return False
    return None


def _versions(verdict: Verdict, library: Library, loaded: Loaded) -> None:
    for file, versions in library.elf.versions_needed().items():
        glibc = _newest(versions, "GLIBC_")
        if glibc and _later(glibc, verdict.glibc_needed):
            verdict.glibc_needed = glibc
        glibcxx = _newest(versions, "GLIBCXX_") if file.startswith("libstdc++") else ""
        if glibcxx and _later(glibcxx, verdict.glibcxx_needed):
            verdict.glibcxx_needed = glibcxx
            there = loaded.libraries.get(file)
            if there is not None:
                verdict.libstdcxx = there.path
                verdict.glibcxx_there = _newest(there.elf.versions_defined(), "GLIBCXX_")


def _newest(versions: Iterable[str], prefix: str) -> str:
    numbers = [text[len(prefix) :] for text in versions if re.fullmatch(re.escape(prefix) + r"\d+(?:\.\d+)*", text)]
    return max(numbers, key=lambda text: [int(part) for part in text.split(".")], default="")


def _later(version: str, than: str) -> bool:
    return not than or [int(part) for part in version.split(".")] > [int(part) for part in than.split(".")]


# --- what it was built for


class Built(Struct, frozen=True):
    """What a package says it was built for: torch (2.8), CUDA (12 or 12.8), and the file that says so."""

    torch: str = ""
    cuda: str = ""
    cxx11_abi: bool | None = None
    origin: str = ""


class _XformersVersion(Struct):
    cuda: int | str | None = None
    torch: str | None = None


class _XformersJson(Struct):
    version: _XformersVersion | None = None


def built_for(dist: Distribution) -> Built:
    """From the version's tag (`+cu12torch2.8cxx11abiTRUE`, `+pt24cu124`), or the package's own record of its build."""
    if dist.name == "xformers":
        built = _xformers(dist)
        if built is not None:
            return built
    if dist.name == "deepspeed":
        built = _deepspeed(dist)
        if built is not None:
            return built
    tag = dist.version.partition("+")[2].lower()
    torch = re.search(r"(?:torch|pt)[-_.]?(\d)\.?(\d{1,2})", tag)
    cuda = re.search(r"cu(?:da)?[-_.]?(\d{2})\.?(\d)?", tag)
    abi = re.search(r"cxx11abi(true|false)", tag)
    return Built(
        torch=f"{torch[1]}.{torch[2]}" if torch else "",
        cuda=(cuda[1] + (f".{cuda[2]}" if cuda[2] else "")) if cuda else "",
        cxx11_abi=abi[1] == "true" if abi else None,
        origin=dist.metadata,
    )


def _xformers(dist: Distribution) -> Built | None:
    path = os.path.join(dist.site, "xformers", "cpp_lib.json")
    data = read_bytes(path, HEAD)
    if not data:
        return None
    try:
        version = msgspec.json.decode(data, type=_XformersJson).version
    except (msgspec.DecodeError, RecursionError):
        return None
    if version is None or not version.torch:
        return None
    number = int(str(version.cuda)) if str(version.cuda or "").isdecimal() else 0
    return Built(version.torch, f"{number // 100}.{number % 100}" if number else "", None, path)


def _deepspeed(dist: Distribution) -> Built | None:
    path = os.path.join(dist.site, "deepspeed", "git_version_info_installed.py")
    text = read_text(path, HEAD) or ""
    torch = re.search(r"torch_info\s*=\s*\{[^}\n]*'version':\s*'(\d+\.\d+)'", text)
    cuda = re.search(r"torch_info\s*=\s*\{[^}\n]*'cuda_version':\s*'(\d+\.\d+)'", text)
    built = re.search(r"installed_ops\s*=\s*\{[^}\n]*True", text)
    return Built(torch[1], cuda[1] if cuda else "", None, path) if torch and built else None


# --- the facts


def extension_facts(
    extensions: Mapping[str, Sequence[Extension]],
    loader: Loader,
    with_torch: Loaded | None,
    build: TorchBuild | None,
    torch_abi: bool | None,
) -> Iterator[Reading]:
    """What is known of the compiled extensions, one group of facts per distribution; its first faulty file speaks for it."""
    for count, (name, files) in enumerate(extensions.items()):
        if count >= MOST_EXTENSIONS:
            yield Unchecked("compiled extensions", f"more than {MOST_EXTENSIONS} packages have them")
            return
        yield Step(f"reading the compiled files of {name}")
        verdicts = []
        for number, file in enumerate(files[:20]):
            before = [other.path for other in files[:number]] if name in _IN_ORDER else []
            verdict = judge(file, loader, with_torch, before)
            if verdict is not None:
                verdicts.append(verdict)
        loader.forget(with_torch)
        if verdicts:
            yield from _facts(
                name, next((verdict for verdict in verdicts if verdict.faulty), verdicts[0]), build, torch_abi
            )


def _facts(name: str, verdict: Verdict, build: TorchBuild | None, torch_abi: bool | None) -> Iterator[Fact]:
    extension = verdict.extension
    head = f"extension.{name}"
    path = extension.path
    yield Fact(f"{head}.file", os.path.relpath(path, extension.dist.site), path)
    yield Fact(f"{head}.loaded_at", extension.moment, path)
    texts = {
        "missing_library": verdict.missing_library,
        "missing_library_for": os.path.basename(verdict.missing_for),
        "missing_symbol": verdict.missing_symbol,
        "symbol_hint": readable(verdict.missing_symbol),
        "cuda_needed": verdict.cuda_needed,
        "glibc_needed": verdict.glibc_needed,
        "glibcxx_needed": verdict.glibcxx_needed,
        "glibcxx_there": verdict.glibcxx_there,
        "libstdcxx": verdict.libstdcxx,
        "python_tag": verdict.python_tag,
        "machine": verdict.machine,
        "damaged": verdict.damaged,
    }
    for key, text in texts.items():
        if text:
            yield Fact(f"{head}.{key}", text, path)
    if verdict.missing_symbols:
        yield Fact(f"{head}.missing_symbol_count", verdict.missing_symbols, path)
    if verdict.gone:
        yield Fact(f"{head}.gone", True, os.path.join(extension.dist.folder, "RECORD"))
    if verdict.needs_driver:
        yield Fact(f"{head}.needs_driver", True, path)
    if verdict.cxx11_abi is not None:
        yield Fact(f"{head}.cxx11_abi", verdict.cxx11_abi, path)
        if torch_abi is not None:
            yield Fact(f"{head}.other_cxx11_abi", verdict.cxx11_abi != torch_abi, path)
    built = built_for(extension.dist)
    if built.torch:
        yield Fact(f"{head}.torch_built_for", built.torch, built.origin)
    if built.cuda:
        yield Fact(f"{head}.cuda_built_for", built.cuda, built.origin)
        if "." in built.cuda:
            yield Fact(f"{head}.cuda_tag", f"cu{built.cuda.replace('.', '')}", built.origin)
    if build is not None and built.torch and build.version and verdict.needs_torch and not verdict.stable_abi:
        yield Fact(f"{head}.other_torch", _series(built.torch) != _series(build.version), built.origin)
    cuda = verdict.cuda_needed or built.cuda.partition(".")[0]
    torch_cuda = build.cuda.partition(".")[0] if build is not None else ""
    yield Fact(f"{head}.other_cuda", bool(cuda and torch_cuda and cuda != torch_cuda), path)
    yield Fact(f"{head}.cpu_torch", bool(verdict.needs_torch and cuda and build is not None and build.cpu_only), path)


def _series(version: str) -> tuple[int, ...]:
    try:
        return Version(version).release[:2]
    except InvalidVersion:
        return ()


def readable(symbol: str) -> str:
    """The qualified name inside a mangled one: `_ZN3c104cuda9SetDeviceEi` → `c10::cuda::SetDevice`; nothing if unclear."""
    found = re.match(r"_ZN?K?V?(?:T[IVSG])?N?K?(?=\d)", symbol)
    if not found:
        return ""
    at = found.end()
    parts: list[str] = []
    while at < len(symbol) and symbol[at].isdigit() and len(parts) < 12:
        digits = re.match(r"\d{1,4}", symbol[at:])
        assert digits is not None
        size = int(digits[0])
        at += len(digits[0])
        if not size or at + size > len(symbol):
            return ""
        parts.append(symbol[at : at + size])
        at += size
    return "::".join(parts)


# --- bitsandbytes


def bitsandbytes_facts(dist: Distribution, build: TorchBuild | None, environ: Mapping[str, str]) -> Iterator[Reading]:
    """Which native libraries bitsandbytes has, and whether one of them is what it will look for with this torch."""
    folder = os.path.join(dist.editable or dist.site, "bitsandbytes")
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        yield Unchecked("bitsandbytes' libraries", error.strerror or str(error))
        return
    versions = [found[1] for name in names if (found := re.fullmatch(r"libbitsandbytes_cuda(\d+)\.so", name))]
    yield Fact("bitsandbytes.cuda_libraries", ", ".join(versions) or "none", folder)
    if build is None or not build.cuda:
        return
    override = environ.get("BNB_CUDA_VERSION", "")
    wanted = override or "".join(build.cuda.split(".")[:2])
    if not re.fullmatch(r"\d{2,4}", wanted):
        return
    there = wanted in versions
    # Newer releases take another minor version of the same major; older ones only the very same.
    if not there and not override and b"_find_cuda_libs" in (read_bytes(os.path.join(folder, "cextension.py")) or b""):
        there = any(version[:2] == wanted[:2] for version in versions)
    yield Fact("bitsandbytes.cuda_wanted", wanted, "BNB_CUDA_VERSION" if override else build.file)
    yield Fact("bitsandbytes.cuda_library_there", there, folder)
    yield Fact("bitsandbytes.cuda_overridden", bool(override), "BNB_CUDA_VERSION")
