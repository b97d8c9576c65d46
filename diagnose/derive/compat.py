"""Facts about versions → what the tables in dataset/compat say of them: which release needs which, and on which GPU.

Only what a table holds is told. A release that no table knows, a nightly, a build of somebody else's: nothing is said
of it. A table is decoded when a package that it is about is among the facts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from diagnose.model import Fact
from diagnose.places import table

if TYPE_CHECKING:
    from packaging.version import Version

Row = dict[str, Any]

WITH_REQUIREMENTS: tuple[str, ...] = (
    "transformers",
    "vllm",
    "sglang",
    "torch",
    "torchvision",
    "torchaudio",
    "xformers",
    "bitsandbytes",
    "accelerate",
    "peft",
    "trl",
    "datasets",
    "diffusers",
    "sentence-transformers",
    "llamafactory",
    "lmdeploy",
    "compressed-tensors",
    "optimum",
    "huggingface-hub",
    "tokenizers",
)
"""The packages whose tables tell what they require; the name is also the table's."""

_EXTRAS: dict[str, tuple[str, ...]] = {
    "transformers": ("accelerate",),
    "sglang": ("torch", "transformers", "torchvision", "torchaudio"),
}
"""Requirements of an extra that hold in practice: the Trainer needs accelerate, SGLang's server its `all` or `srt`."""

_PUBLISHED = re.compile(r"(?:cu\d{3}|cpu)?")
"""Local parts of builds that the torch project publishes for CUDA or CPU; others (rocm6.4, nv25.03) are not in the tables."""

Value = str | int | float | bool


def complete(facts: Iterable[Fact]) -> tuple[Fact, ...]:
    """The facts that follow from `facts` by the tables; none that is among them already."""
    from diagnose.derive import model_needs

    given = tuple(facts)
    found = _Found({fact.name: fact for fact in given})
    for tell in (_driver, _torch, _built_beside_torch, _requirements, _gpus, _engines, _model_type, _breaks):
        tell(found)
    told = tuple(found.new.values())
    return told + model_needs.complete(given + told)


def model_types() -> frozenset[str]:
    """The model types that some release of transformers knows."""
    return frozenset(row["type"] for row in _table("model_types"))


def model_type_rows() -> list[Row]:
    """The model types with the releases of transformers that know them (`since`, `until`)."""
    return _table("model_types")


def quantizer_libraries(method: str, transformers: str) -> tuple[str, ...]:
    """The packages of which this transformers wants one to load weights of a quantization method; none if none is known."""
    rows = (row for row in _table("quantizers") if row["type"] == method)
    return next((tuple(row["library"]) for row in rows if _within(transformers, row["versions"])), ())


class _Found:
    """What is known, and what was added to it."""

    def __init__(self, told: dict[str, Fact]) -> None:
        self._told = told
        self.new: dict[str, Fact] = {}

    def value(self, name: str) -> Value | None:
        fact = self._told.get(name) or self.new.get(name)
        return None if fact is None else fact.value

    def text(self, name: str) -> str:
        """The value as text; empty if it is not known."""
        value = self.value(name)
        return "" if value is None else str(value)

    def names(self) -> Iterator[str]:
        return iter((*self._told, *self.new))

    def add(self, name: str, value: Value | None, table: str, by: str = "") -> None:
        """Add a fact, unless it is known already. `by`: the fact that it follows from, for the line."""
        if value is None or value == "" or name in self._told or name in self.new:
            return
        source = self._told.get(by) or self.new.get(by)
        line = source.line if source else 0
        self.new[name] = Fact(name, value, f"dataset/compat/{table}.json", line)

    def row(self, package: str) -> Row | None:
        """The table's row for the installed release of a package."""
        version = self.text(f"{package}.version")
        if not version:
            return None
        rows = _rows(package)
        return next((rows[spelling] for spelling in _spellings(version) if spelling in rows), None)


# --- tables


@cache
def _table(name: str) -> list[Row]:
    """The rows of a table; none if it is not there or cannot be read."""
    return list(table("compat", f"{name}.json").get("rows", ()))


@cache
def _rows(package: str) -> dict[str, Row]:
    """A package's rows by version."""
    return {row["version"]: row for row in _table(package)}


def _spellings(version: str) -> tuple[str, ...]:
    """How a table may write a version: without its local part, and with or without a closing `.0`."""
    public = version.strip().partition("+")[0].lower()
    return public, f"{public}.0", public.removesuffix(".0")


def _local(version: str) -> str:
    return version.strip().partition("+")[2]


@lru_cache(maxsize=512)
def _version(text: str) -> Version | None:
    from packaging.version import Version

    try:
        return Version(text)
    except ValueError:
        return None


def _before(left: str, right: str) -> bool:
    """Whether one version is older than another; false if either cannot be read."""
    a, b = _version(left), _version(right)
    return a is not None and b is not None and a < b


def _within(version: str, wanted: str) -> bool | None:
    """Whether a version lies in a range such as `>=0.22,<0.24`; None for a pre-release, or if either cannot be read."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    release = _version(version.partition("+")[0])
    if release is None or release.is_prerelease:
        return None
    try:
        return SpecifierSet(wanted).contains(release)
    except InvalidSpecifier:
        return None


def _dotted(digits: str) -> str:
    """`126` → `12.6`, `130` → `13.0`."""
    return f"{digits[:-1]}.{digits[-1]}"


def _major(version: str) -> str:
    return version.partition(".")[0]


# --- torch


def _torch(found: _Found) -> None:
    """What follows from torch's version and from the CUDA that it was built with."""
    version = found.text("torch.version")
    local = _local(version)
    if local:
        found.add("torch.build_tag", local, "torch", "torch.version")
    if re.fullmatch(r"cu\d{3}", local):
        found.add("torch.cuda", _dotted(local[2:]), "torch", "torch.version")
    if local == "cpu":
        found.add("torch.cpu_only", True, "torch", "torch.version")
    for name in ("torch.cuda", "cuda.toolkit"):
        major = _major(found.text(name))
        if major.isdecimal():
            found.add(f"{name}_major", int(major), "cuda", name)
    _cuda_of_torch(found)
    row = found.row("torch") if version else None
    if row is None:
        return
    release = ".".join(row["version"].split(".")[:2])
    found.add("torch.release", release, "torch", "torch.version")
    found.add("torch.cuda_default", row.get("cuda"), "torch", "torch.version")
    found.add("torch.numpy2", not _before(row["version"], "2.3"), "breaks", "torch.version")
    for package in ("torchvision", "torchaudio", "xformers"):
        found.add(f"torch.{package}", _made_for(package, row["version"]), package, "torch.version")
    _python_of_torch(found, row)
    if _from_the_project(found) and found.text("os.machine") in ("", "x86_64", "64-bit"):
        listed = _architectures(row, release, found.text("torch.cuda"))
        if listed:
            found.add("torch.capability_min", listed[0].partition("+")[0], "torch-builds", "torch.version")
            found.add("torch.capability_max", listed[-1].partition("+")[0], "torch-builds", "torch.version")
            judged = {index: _has_code(listed, capability) for index, capability in _capabilities(found)}
            for index, able in judged.items():
                found.add(f"gpu.{index}.torch_code", able, "torch-builds", "torch.version")
            if judged and None not in judged.values():
                found.add("torch.gpus_with_code", sum(map(bool, judged.values())), "torch-builds", "torch.version")


def _cuda_of_torch(found: _Found) -> None:
    """The driver that torch's CUDA asks for, and whether the one that is there will do."""
    cuda = found.text("torch.cuda")
    row = next((row for row in _table("cuda") if row["cuda"] == cuda), None) if cuda else None
    if row is None:
        return
    if "windows" not in found.text("os.name").lower():
        found.add("torch.driver_min", row["driver_min"], "cuda", "torch.cuda")
        found.add("torch.driver_full", row.get("driver"), "cuda", "torch.cuda")
    found.add("torch.driver_fits", _driver_fits(found, cuda), "cuda", "torch.cuda")


def _driver_fits(found: _Found, cuda: str) -> bool | None:
    """Whether the driver runs programs of this CUDA: one of the same major version, or newer.

    None where only the version of a Windows driver is known, where a compatibility package may stand in for the driver's
    own library, and on Jetson boards, whose driver counts in another way.
    """
    if found.value("driver.tegra") is True:
        return None
    supported = found.text("driver.cuda")
    if supported and not _before(_major(supported), _major(cuda)):
        return True
    if found.value("driver.compat_in_path") is True or found.text("driver.compat_version"):
        return None
    if supported:
        return False
    version = found.text("driver.version")
    if not version or found.value("driver.wsl") is True or "windows" in found.text("os.name").lower():
        return None
    return not _before(version, found.text("torch.driver_min"))


def _made_for(package: str, torch: str) -> str | None:
    """The newest release of a package that declares exactly this torch."""
    made = [row["version"] for row in _table(package) if row.get("requires", {}).get("torch") == f"=={torch}"]
    return made[-1] if made else None


def _python_of_torch(found: _Found, row: Row) -> None:
    listed = row.get("python", [])
    if listed:
        found.add("torch.python_min", listed[0], "torch", "torch.version")
        found.add("torch.python_max", listed[-1], "torch", "torch.version")
    refuses = row.get("compile_refuses_python")
    if refuses:
        found.add("torch.compile_refuses_python", refuses, "torch", "torch.version")


def _architectures(row: Row, release: str, cuda: str) -> list[str]:
    """The compute capabilities that a published build has code for; empty if it is not known which build this is."""
    if not cuda:
        return []
    if row.get("cuda") == cuda:
        return list(row.get("architectures", ()))
    known = next((item for item in _table("torch-builds") if item["torch"] == release and item["cuda"] == cuda), None)
    return list(known["architectures"]) if known else []


def _capabilities(found: _Found) -> Iterator[tuple[str, str]]:
    """Index and compute capability of each NVIDIA GPU that is known."""
    if found.text("gpu.vendor") not in ("", "nvidia"):
        return
    for name in list(found.names()):
        told = re.fullmatch(r"gpu\.(\d+)\.compute_capability", name)
        capability = found.text(name)
        if told and re.fullmatch(r"\d{1,2}\.\d", capability):
            yield told[1], capability


def _has_code(listed: list[str], capability: str) -> bool | None:
    """Whether a build has code for a GPU: of its own major version and not a newer minor one, or PTX to compile.

    None for a generation beyond the newest of the list: PTX, of which the lists do not always tell, may serve it.
    """
    major, minor = (int(part) for part in capability.split("."))
    pairs = [(tuple(int(part) for part in item.partition("+")[0].split(".")), "+" in item) for item in listed]
    if any(own[0] == major and own[1] <= minor for own, _ in pairs):
        return True
    if any(ptx and own <= (major, minor) for own, ptx in pairs):
        return True
    newest = max(own for own, _ in pairs)
    return None if newest >= (12, 0) and (major, minor) > newest else False


# --- what was built for one torch or one CUDA


def _from_the_project(found: _Found) -> bool:
    """Whether torch is a wheel of the torch project: tagged as its indexes do it, or without a tag and the one of PyPI.

    conda's builds and those from source carry the bare number too, with a CUDA and GPUs of their own choice.
    """
    row = found.row("torch")
    local = _local(found.text("torch.version"))
    if row is None or not _PUBLISHED.fullmatch(local) or found.text("package.torch.installer") == "conda":
        return False
    tag = local or found.text("torch.build_tag")
    return bool(_PUBLISHED.fullmatch(tag)) and (bool(tag) or found.text("torch.cuda") in ("", row.get("cuda")))


def _is_published(found: _Found) -> bool:
    """Whether torch is such a wheel and its CUDA is known, so that what is beside it is not conda's."""
    row = found.row("torch")
    if row is None or not _from_the_project(found):
        return False
    return bool(_architectures(row, ".".join(row["version"].split(".")[:2]), found.text("torch.cuda")))


def _is_of_the_tables(found: _Found) -> bool:
    """Whether the machine may be one that the tables' wheels are for: Linux on x86_64; elsewhere an index has others."""
    system = found.text("os.name").lower()
    return found.text("os.machine") in ("", "x86_64") and not any(
        name in system for name in ("windows", "macos", "darwin")
    )


def _built_beside_torch(found: _Found) -> None:
    """The CUDA and torch that compiled packages were built for, against torch's own."""
    cuda = found.text("torch.cuda")
    if not cuda:
        return
    published = _is_published(found)
    for package in ("torchaudio", "torchvision", "xformers"):
        if package == "xformers" and found.value("extension.xformers.file") is not None:
            continue  # its own file was read, which is better than the table
        _built_for_cuda(found, package, cuda, published)
    if published and _is_of_the_tables(found):
        _bitsandbytes(found, cuda)
    _flash_attention(found, cuda)


def _built_for_cuda(found: _Found, package: str, cuda: str, published: bool) -> None:
    version = found.text(f"{package}.version")
    local = _local(version)
    if found.text(f"package.{package}.installer") == "conda" or _is_faulty(found, package):
        return
    built = ""
    if re.fullmatch(r"cu\d{3}", local):
        built = _dotted(local[2:])
    elif not local and published and _is_of_the_tables(found):
        row = found.row(package)
        built = row.get("built_cuda", "") if row else ""
    if not built:
        return
    by = f"{package}.version"
    found.add(f"{package}.cuda_built", built, package, by)
    # torchaudio compares major and minor at import; torchvision since 0.16, and xformers by its libraries, the major
    exact = package == "torchaudio" or (package == "torchvision" and _before(version.partition("+")[0], "0.16"))
    fits = built == cuda if exact else _major(built) == _major(cuda)
    found.add(f"{package}.cuda_fits", fits, package, by)


def _is_faulty(found: _Found, package: str) -> bool:
    """Whether the package's own file was read and says better why it cannot be loaded."""
    faults = ("missing_library", "missing_symbol", "gone", "damaged")
    return any(found.value(f"extension.{package}.{name}") for name in (*faults, "other_cxx11_abi"))


def _bitsandbytes(found: _Found, cuda: str) -> None:
    """Which native library bitsandbytes would load: the one of torch's CUDA, and since 0.50 also a neighbour's."""
    row = found.row("bitsandbytes")
    if row is None or "bitsandbytes.cuda_wanted" in set(found.names()):
        return
    built = row.get("built_cuda", [])
    found.add("bitsandbytes.cuda_built", ", ".join(built), "bitsandbytes", "bitsandbytes.version")
    same = cuda in built
    if not same and not _before(row["version"], "0.50"):
        same = any(_major(item) == _major(cuda) for item in built)
    found.add("bitsandbytes.cuda_fits", same, "bitsandbytes", "bitsandbytes.version")


def _flash_attention(found: _Found, cuda: str) -> None:
    """flash-attn wheels name what they were built for in their local part: `2.8.3+cu12torch2.8cxx11abiTRUE`."""
    told = re.match(r"cu(\d{2,3})torch(\d+\.\d+)", _local(found.text("flash-attn.version")))
    if not told or found.value("extension.flash-attn.file") is not None:
        return
    by = "flash-attn.version"
    built = told[1] if len(told[1]) == 2 else _dotted(told[1])
    found.add("flash-attn.cuda_built", built, "torch", by)
    found.add("flash-attn.cuda_fits", _major(built) == _major(cuda), "torch", by)
    found.add("flash-attn.torch_needed", told[2], "torch", by)
    torch = _version(found.text("torch.version").partition("+")[0])
    if torch is not None:
        found.add("flash-attn.torch_fits", told[2] == f"{torch.major}.{torch.minor}", "torch", by)


# --- declared requirements


def _requirements(found: _Found) -> None:
    """The ranges that installed releases declare for each other, where no METADATA was read on the machine."""
    read = found.value("unmet.count") is not None
    for package in WITH_REQUIREMENTS:
        row = found.row(package) if found.value(f"{package}.version") is not None else None
        if row is None:
            continue
        optional = row.get("optional", {})
        wanted = {} if read else dict(row.get("requires", {}))
        wanted |= {name: optional[name] for name in _EXTRAS.get(package, ()) if name in optional}
        if package == "torch" and not _triton_is_torchs(found):
            wanted.pop("triton", None)
        for other, told in wanted.items():
            _requirement(found, package, other, told)
        if package == "transformers":
            found.add("transformers.torch_min", row.get("torch_needed"), package, f"{package}.version")


def _triton_is_torchs(found: _Found) -> bool:
    """Whether `triton` is the one that torch asks for: builds for ROCm and XPU bring one of another name."""
    return bool(found.text("torch.cuda")) and _PUBLISHED.fullmatch(_local(found.text("torch.version"))) is not None


def _requirement(found: _Found, package: str, other: str, wanted: str) -> None:
    by = f"{package}.version"
    installed = found.text(f"{other}.version")
    if not installed:
        return
    found.add(f"{package}.{other}_range", wanted, package, by)
    exact = re.fullmatch(r"==([\w.!]+)", wanted)
    if exact:
        found.add(f"{package}.{other}_needed", exact[1], package, by)
    found.add(f"{package}.{other}_fits", _within(installed, wanted), package, by)


# --- GPUs and driver


def _gpus(found: _Found) -> None:
    """What each GPU can do, and which CUDA toolkits compile for it."""
    known = dict(_capabilities(found))
    if known:
        best = max(known, key=lambda index: tuple(map(int, known[index].split("."))))
        found.add("gpus.capability_best", known[best], "capabilities", f"gpu.{best}.compute_capability")
    for index, capability in known.items():
        by = f"gpu.{index}.compute_capability"
        for row in _table("capabilities"):
            below = row.get("compute_capability_below")
            able = not _before(capability, row["compute_capability_min"])
            able = able and (below is None or _before(capability, below))
            found.add(f"gpu.{index}.{row['need']}", able, "capabilities", by)
        built = next((row for row in _table("architectures") if row["compute_capability"] == capability), None)
        if built:
            found.add(f"gpu.{index}.cuda_min", built["cuda_min"], "architectures", by)
            found.add(f"gpu.{index}.cuda_below", built.get("cuda_below"), "architectures", by)


def _driver(found: _Found) -> None:
    """The newest CUDA of a Linux driver, where nothing told it."""
    version = found.text("driver.version")
    if (
        not version
        or found.text("driver.cuda")
        or found.value("driver.wsl") is True
        or "windows" in found.text("os.name").lower()
    ):
        return
    branch = _major(version)
    for row in _table("cuda"):
        came_with = row.get("driver", "")
        if _major(came_with) == branch and not _before(version, came_with):
            found.add("driver.cuda", row["cuda"], "cuda", "driver.version")


# --- engines and models


def _engines(found: _Found) -> None:
    """What the quantization that vLLM was asked for needs of the GPU."""
    asked = found.text("launch.arg.quantization").replace("-", "_")
    row = found.row("vllm") if asked and found.value("vllm.version") is not None else None
    if row is not None:
        least = row.get("quantization", {}).get(asked)
        found.add("vllm.quantization_capability_min", least, "vllm", "launch.arg.quantization")


def _model_type(found: _Found) -> None:
    """The releases of transformers that know the model type that was asked for."""
    if found.text("wanted.kind") != "model-type":
        return
    wanted = found.text("wanted.name").replace("-", "_")
    rows = [row for row in _table("model_types") if row["type"].replace("-", "_") == wanted]
    row = next((row for row in rows if "until" not in row), rows[0] if rows else None)  # one was only spelt anew
    if row is not None:
        found.add("wanted.model_type_since", row.get("since"), "model_types", "wanted.name")
        found.add("wanted.model_type_until", row.get("until"), "model_types", "wanted.name")


def _breaks(found: _Found) -> None:
    """Pairs that do not work together although no requirement says so, numbered in the table's order.

    A row with `other_absent` is about a package that has to be there; that it is not is known where METADATA was read.
    """
    read = found.value("unmet.count") is not None
    number = 0
    for row in _table("breaks") if _any_pair(found) else ():
        version, other = found.text(f"{row['package']}.version"), found.text(f"{row['other']}.version")
        if not other and read and row.get("other_absent"):
            other = "none"
        elif not other or not _within(other, row["other_versions"]):
            continue
        if version and _within(version, row["versions"]):
            number += 1
            by = f"{row['package']}.version"
            for key, value in (
                ("package", row["package"]),
                ("version", version),
                ("other", row["other"]),
                ("other_version", other),
                ("what", row["what"]),
                ("pair", f"{row['package']} {row['other']}"),
                ("other_range", row["other_versions"]),
                ("package_range", row["versions"]),
            ):
                found.add(f"break.{number}.{key}", value, "breaks", by)


def _any_pair(found: _Found) -> bool:
    """Whether at least two versions are known, so that a pair is possible."""
    return sum(1 for name in found.names() if name.endswith(".version")) > 1
