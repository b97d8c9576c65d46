"""How the installed torch was built, and which CUDA libraries it would load, from its files and the wheels beside it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from msgspec import Struct

from diagnose.model import Fact, Reading, Unchecked
from diagnose.sources.distributions import Distribution
from diagnose.sources.elf import Elf, ElfError
from diagnose.sources.files import HEAD, names_in, read_bytes, read_text
from diagnose.sources.libraries import DRIVER, Library, Loaded, Loader, unresolved

_ASSIGNED = re.compile(
    r"^(?P<name>\w+)\s*(?::[^=\n]+)?=\s*(?:'(?P<a>[^'\n]*)'|\"(?P<b>[^\"\n]*)\"|(?P<word>\w+))", re.MULTILINE
)
_CUDA_LIBRARY = re.compile(
    r"lib(?:cudart|cublas|cublasLt|cudnn\w*|nccl|nvJitLink|cusparse|cusparseLt|cusolver|cufft|curand|nvrtc|cupti|cufile|nvshmem_host|nvToolsExt)\.so[\d.]*"
)
_CUDA_SYMBOL = re.compile(
    rb"(?:_{0,2}nvJitLink|cublas|cudnn|cusparse|cusolver|cufft|curand|nccl|nvshmem|cuda)[A-Z]\w*|__nvJitLink\w+"
)
_WHEELS = {
    "runtime": ("nvidia-cuda-runtime",),
    "cudnn": ("nvidia-cudnn",),
    "nccl": ("nvidia-nccl",),
    "cublas": ("nvidia-cublas",),
    "nvjitlink": ("nvidia-nvjitlink",),
}
_FAMILY = re.compile(
    r"nvidia-(?:cuda-(?:runtime|nvrtc|cupti)|cublas|cudnn|cufft|curand|cusolver|cusparse|nvjitlink|nccl|nvtx)(?:-cu(\d\d))?"
)


class TorchBuild(Struct, frozen=True):
    """torch/version.py, in short: version, CUDA and ROCm versions (empty without), and the folder of the package."""

    folder: str
    version: str = ""
    cuda: str = ""
    hip: str = ""
    xpu: str = ""
    git: str = ""
    debug: bool = False
    file: str = ""

    @property
    def cpu_only(self) -> bool:
        """Whether it can use no accelerator at all."""
        return not (self.cuda or self.hip or self.xpu)


def read_build(folder: str) -> TorchBuild | None:
    """What torch/version.py says; None if it is not there (a source tree, or half removed)."""
    file = os.path.join(folder, "version.py")
    text = read_text(file, HEAD)
    if text is None:
        return None
    told = {found["name"]: found["a"] or found["b"] or found["word"] or "" for found in _ASSIGNED.finditer(text)}
    told = {name: "" if value == "None" else value for name, value in told.items()}
    return TorchBuild(
        folder=folder,
        version=told.get("__version__", ""),
        cuda=told.get("cuda", ""),
        hip=told.get("hip", ""),
        xpu=told.get("xpu", ""),
        git=told.get("git_version", ""),
        debug=told.get("debug") == "True",
        file=file,
    )


def build_facts(build: TorchBuild) -> Iterator[Fact]:
    """The facts that follow from torch/version.py."""
    origin = build.file
    yield Fact("torch.cpu_only", build.cpu_only, origin)
    for name, value in (("cuda", build.cuda), ("hip", build.hip), ("git", build.git)):
        if value:
            yield Fact(f"torch.{name}", value, origin)
    major = build.cuda.partition(".")[0]
    if major.isdigit():
        yield Fact("torch.cuda_major", int(major), origin)
    if build.debug:
        yield Fact("torch.debug", True, origin)
    tag = build.version.partition("+")[2]
    if tag:
        yield Fact("torch.build_tag", tag, origin)


def cxx11_abi(folder: str) -> bool | None:
    """Whether torch was compiled with the C++11 ABI of strings, from the names that libc10.so exports; None unknown."""
    try:
        with Elf(os.path.join(folder, "lib", "libc10.so")) as elf:
            names = elf.names()
    except ElfError:
        return None
    if b"_ZN3c10" not in names:
        return None
    if re.search(rb"_ZNK?3c10[^\0]*St7__cxx1112basic_string", names):
        return True
    return False if re.search(rb"_ZNK?3c10[^\0]*(?:RKSs|ESs|SsE)", names) else None


def load_torch(build: TorchBuild, loader: Loader, sites: Sequence[str]) -> Loaded:
    """The libraries that are in the process once torch was imported, and those that torch does not find.

    torch loads its global dependencies first; what the loader does not find of CUDA it then looks for in the nvidia
    wheels, and loads it by path.
    """
    loaded = loader.start()
    lib = os.path.join(build.folder, "lib")
    globals_ = os.path.join(lib, "libtorch_global_deps.so")
    if os.path.isfile(globals_):
        tried = loaded.copy()
        loader.load(globals_, tried)
        if tried.missing or _preloads(build):
            _preload(loader, loaded, sites)
            loader.load(globals_, loaded)
        else:
            loaded = tried
    extension = extension_file(build.folder)
    if extension:
        loader.load(extension, loaded)
    return loaded


def _preloads(build: TorchBuild) -> bool:
    """Whether this torch loads the nvidia wheels by path even when the loader finds its first libraries."""
    text = read_bytes(os.path.join(build.folder, "__init__.py"), 1 << 20) or b""
    return b"_preload_cuda_deps(required=False)" in text


_PRELOADED = (
    ("cublas", "libcublasLt.so"), ("cublas", "libcublas.so"), ("cudnn", "libcudnn.so"), ("cuda_nvrtc", "libnvrtc.so"),
    ("cuda_runtime", "libcudart.so"), ("cuda_cupti", "libcupti.so"), ("cufft", "libcufft.so"), ("curand", "libcurand.so"),
    ("nvjitlink", "libnvJitLink.so"), ("cusparse", "libcusparse.so"), ("cusparselt", "libcusparseLt.so"),
    ("cusolver", "libcusolver.so"), ("nccl", "libnccl.so"), ("nvshmem", "libnvshmem_host.so"), ("cufile", "libcufile.so"),
)  # fmt: skip


def _preload(loader: Loader, loaded: Loaded, sites: Sequence[str]) -> None:
    for folder, name in _PRELOADED:
        path = next((path for site in sites for path in _in_wheels(site, folder, name)), "")
        if path:
            loader.load(path, loaded)


def _in_wheels(site: str, folder: str, name: str) -> Iterator[str]:
    nvidia = os.path.join(site, "nvidia")
    for place in (folder, *(entry for entry in names_in(nvidia) or () if re.fullmatch(r"cu\d\d", entry))):
        lib = os.path.join(nvidia, place, "lib")
        for file in names_in(lib) or ():
            if file.startswith(name + ".") and file[-1].isdigit():
                yield os.path.join(lib, file)


def extension_file(folder: str) -> str:
    """torch/_C.cpython-311-x86_64-linux-gnu.so, or nothing."""
    return next((os.path.join(folder, name) for name in names_in(folder) or () if re.fullmatch(r"_C\..*so", name)), "")


def library_facts(loaded: Loaded, sites: Sequence[str], library_path: Sequence[str]) -> Iterator[Reading]:
    """What torch would not find, what lies on LD_LIBRARY_PATH in front of a wheel, and names that do not fit together."""
    missing = [miss for miss in loaded.missing if miss.name not in DRIVER]
    if missing:
        origin = missing[0].needed_by
        yield Fact("torch.missing_library", missing[0].name, origin)
        yield Fact("torch.missing_library_count", len({miss.name for miss in missing}), origin)
        yield Fact("torch.missing_library_for", os.path.basename(origin), origin)
    for path, why in loaded.damaged.items():
        yield Fact("torch.damaged_library", os.path.basename(path), path)
        yield Fact("torch.damaged_library_why", why, path)
        break
    yield from _overrides(loaded, sites, library_path)
    if not missing:
        yield from _misfits(loaded)


def _overrides(loaded: Loaded, sites: Sequence[str], library_path: Sequence[str]) -> Iterator[Fact]:
    """CUDA libraries that are taken from LD_LIBRARY_PATH though a wheel brings them."""
    roots = {os.path.realpath(folder) for folder in library_path}
    wheels: dict[str, str] | None = None
    number = 0
    seen: set[str] = set()
    for name, library in loaded.libraries.items():
        folder = os.path.realpath(os.path.dirname(library.path))
        if folder not in roots or not _CUDA_LIBRARY.fullmatch(name) or library.path in seen:
            continue
        seen.add(library.path)
        if any(folder.startswith(os.path.realpath(site) + os.sep) for site in sites):
            continue
        wheels = _wheel_libraries(sites) if wheels is None else wheels
        if name in wheels and os.path.realpath(wheels[name]) != os.path.realpath(library.path):
            yield Fact(f"cuda_override.{number}.library", name, "LD_LIBRARY_PATH")
            yield Fact(f"cuda_override.{number}.path", library.path, "LD_LIBRARY_PATH")
            yield Fact(f"cuda_override.{number}.wheel", wheels[name], "LD_LIBRARY_PATH")
            number += 1


def _wheel_libraries(sites: Sequence[str]) -> dict[str, str]:
    """The libraries in the nvidia wheels: path by name."""
    found: dict[str, str] = {}
    for site in sites:
        nvidia = os.path.join(site, "nvidia")
        for package in names_in(nvidia) or ():
            lib = os.path.join(nvidia, package, "lib")
            for file in names_in(lib) or ():
                if ".so" in file:
                    found.setdefault(file, os.path.join(lib, file))
    return found


def _misfits(loaded: Loaded) -> Iterator[Fact]:
    """A CUDA function that one of torch's libraries calls and the CUDA libraries that were found do not have."""
    libraries = list({library.path: library for library in loaded.libraries.values()}.values())
    cuda = [
        library for library in libraries if _CUDA_LIBRARY.fullmatch(library.soname or os.path.basename(library.path))
    ]
    if not cuda:
        return
    for library in libraries:
        if library not in cuda and os.path.basename(library.path) not in ("libtorch_cuda.so", "libc10_cuda.so"):
            continue
        try:
            names = library.elf.undefined(_CUDA_SYMBOL)
        except ElfError:
            continue
        lacking = next(unresolved(names, [*_users(library, loaded), *libraries]), None)
        if lacking is not None:
            yield Fact("torch.missing_symbol", lacking.decode("utf-8", "replace"), library.path)
            yield Fact("torch.missing_symbol_for", os.path.basename(library.path), library.path)
            wanted = _provider(lacking.decode("utf-8", "replace"), library)
            if wanted in loaded.libraries:
                yield Fact("torch.missing_symbol_library", loaded.libraries[wanted].path, library.path)
            return


def _users(library: Library, loaded: Loaded) -> list[Library]:
    return [loaded.libraries[name] for name in library.needed if name in loaded.libraries]


def _provider(symbol: str, library: Library) -> str:
    """The needed library that a symbol's name points to: `__nvJitLinkComplete_12_4` → libnvJitLink.so.12."""
    bare = symbol.lstrip("_").lower()
    fits = [name for name in library.needed if bare.startswith(name.partition(".")[0].removeprefix("lib").lower())]
    return max(fits, key=len) if fits else next((name for name in library.needed if name.startswith("libcudart")), "")


# --- CUDA on the machine and in wheels


def wheel_facts(installed: Mapping[str, Distribution]) -> Iterator[Fact]:
    """The CUDA families (12, 13) of the nvidia wheels, and the versions of the main ones for each family."""
    families: dict[str, list[Distribution]] = {}
    for name, dist in installed.items():
        found = _FAMILY.fullmatch(name)
        if not found:
            continue
        family = found[1] or _unsuffixed(dist)
        if family:
            families.setdefault(family, []).append(dist)
    for family, dists in families.items():
        for short, (stem, *_) in _WHEELS.items():
            for dist in dists:
                if dist.name in (stem, f"{stem}-cu{family}"):
                    yield Fact(f"cuda_wheels.{family}.{short}", dist.version, dist.metadata)
        yield Fact(f"cuda_wheels.{family}.count", len(dists), dists[0].metadata)
    # NCCL, cuDNN and the like alone make no family: engines bring them for themselves.
    whole = sorted(
        family for family, dists in families.items() if any("runtime" in d.name or "cublas" in d.name for d in dists)
    )
    if families:
        yield Fact("cuda.families", ", ".join(whole), "nvidia wheels")
        yield Fact("cuda.family_count", len(whole), "nvidia wheels")


def _unsuffixed(dist: Distribution) -> str:
    """The family of a wheel without -cu in its name: from CUDA 13 on, by its version where the two go together."""
    major = dist.version.partition(".")[0]
    if dist.name in (
        "nvidia-cuda-runtime",
        "nvidia-cublas",
        "nvidia-cuda-nvrtc",
        "nvidia-nvjitlink",
        "nvidia-cuda-cupti",
    ):
        return major if major.isdigit() and int(major) >= 12 else ""
    return ""


class _CudaVersion(Struct):
    version: str = ""


class _VersionFile(Struct):
    cuda: _CudaVersion | None = None
    cuda_nvcc: _CudaVersion | None = None


def toolkit_facts(environ: Mapping[str, str], prefix: str = "") -> Iterator[Reading]:
    """The CUDA toolkit that builds would use: CUDA_HOME, else the nvcc on the path, else /usr/local/cuda."""
    home, said_by = _toolkit(environ)
    if said_by == "CUDA_HOME" and not os.path.isdir(home):
        yield Fact("cuda.home_missing", home, "CUDA_HOME")
        return
    if not home:
        yield Fact("cuda.toolkit_found", False, "CUDA_HOME, PATH and /usr/local/cuda")
        return
    nvcc = os.path.isfile(os.path.join(home, "bin", "nvcc"))
    yield Fact("cuda.toolkit_path", home, said_by)
    yield Fact("cuda.toolkit_from", said_by, said_by)
    yield Fact("cuda.toolkit_found", nvcc, said_by)
    version, origin = toolkit_version(home)
    if version:
        yield Fact("cuda.toolkit", version, origin)
        yield Fact("cuda.toolkit_major", int(version.partition(".")[0]), origin)
    elif nvcc:
        yield Unchecked("the version of the CUDA toolkit", f"nothing in {home} tells it")


def toolkit_home(environ: Mapping[str, str]) -> str:
    """The folder of the CUDA toolkit that builds would use, or nothing."""
    return _toolkit(environ)[0]


def _toolkit(environ: Mapping[str, str]) -> tuple[str, str]:
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if environ.get(variable):
            return environ[variable], "CUDA_HOME" if variable == "CUDA_HOME" else variable
    for folder in environ.get("PATH", "").split(os.pathsep):
        path = os.path.join(folder, "nvcc")
        if folder and os.path.isfile(path) and os.access(path, os.X_OK):
            return _home_of(path), "PATH"
    return ("/usr/local/cuda", "/usr/local/cuda") if os.path.isdir("/usr/local/cuda") else ("", "")


def _home_of(nvcc: str) -> str:
    """The folder of the toolkit that an nvcc belongs to: behind links, and behind a script that calls the real one."""
    path = os.path.realpath(nvcc)
    head = read_bytes(path, 4096) or b""
    if head.startswith(b"#!"):
        found = re.search(rb"(/[\w./+-]{1,300})/bin/nvcc\b", head)
        if found and os.path.isfile(os.path.join(os.fsdecode(found[1]), "bin", "nvcc")):
            return os.fsdecode(found[1])
    return os.path.dirname(os.path.dirname(path))


def toolkit_version(home: str) -> tuple[str, str]:
    """(12.4, the file that tells), or two empty texts."""
    path = os.path.join(home, "version.json")
    data = read_bytes(path, HEAD)
    if data:
        try:
            told = msgspec.json.decode(data, type=_VersionFile)
            version = (told.cuda_nvcc or told.cuda or _CudaVersion()).version
        except (msgspec.DecodeError, RecursionError):
            version = ""
        if re.match(r"\d+\.\d+", version):
            return ".".join(version.split(".")[:2]), path
    path = os.path.join(home, "version.txt")
    found = re.search(r"CUDA Version (\d+\.\d+)", read_text(path, HEAD) or "")
    if found:
        return found[1], path
    path = os.path.join(home, "include", "cuda.h")
    found = re.search(r"#\s*define\s+CUDA_VERSION\s+(\d{4,6})", read_text(path, 256 << 10) or "")
    if found:
        return f"{int(found[1]) // 1000}.{int(found[1]) % 1000 // 10}", path
    found = re.search(r"cuda-(\d+\.\d+)$", os.path.realpath(home))
    return (found[1], os.path.realpath(home)) if found else ("", "")
