"""How torch was built, and which CUDA libraries it would load, without loading any."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diagnose.model import Fact
from diagnose.sources.distributions import Distribution
from diagnose.sources.libraries import Loader
from diagnose.sources.torch_build import (
    build_facts,
    cxx11_abi,
    library_facts,
    load_torch,
    read_build,
    toolkit_facts,
    toolkit_version,
    wheel_facts,
)
from tests.sources.environments import elf, environment, site_of
from tests.sources.torches import OLD_STRING, install_cuda, install_torch


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return site_of(environment(tmp_path))


def libraries(site: Path, **environ: str) -> dict[str, object]:
    """The facts of the libraries that torch would load."""
    build = read_build(str(site / "torch"))
    assert build is not None
    loader = Loader(str(site.parents[2] / "bin" / "python"), environ)
    try:
        loaded = load_torch(build, loader, [str(site)])
        readings = list(library_facts(loaded, [str(site)], loader.library_path))
    finally:
        loader.close()
    return {reading.name: reading.value for reading in readings if isinstance(reading, Fact)}


# --- the build


def test_the_build_is_read_from_torchs_own_record(site: Path) -> None:
    """CUDA version, commit and tag; a CUDA build is not a CPU build."""
    build = read_build(str(install_torch(site)))
    assert build is not None
    facts = {fact.name: fact.value for fact in build_facts(build)}
    assert facts["torch.cuda"] == "12.8"
    assert facts["torch.cuda_major"] == 12
    assert facts["torch.build_tag"] == "cu128"
    assert facts["torch.cpu_only"] is False
    assert str(facts["torch.git"]).startswith("ba561023")


def test_cpu_and_rocm_builds_are_told_apart(site: Path) -> None:
    """No CUDA and no ROCm is a CPU build; ROCm is neither."""
    build = read_build(str(install_torch(site, cuda="")))
    assert build is not None
    assert build.cpu_only
    build = read_build(str(install_torch(site, cuda="", hip="6.4.43482", local="rocm6.4")))
    assert build is not None
    assert not build.cpu_only
    assert {fact.name: fact.value for fact in build_facts(build)}["torch.hip"] == "6.4.43482"


def test_no_version_file_is_no_build(tmp_path: Path) -> None:
    """A half-removed torch tells nothing, and nothing is invented."""
    assert read_build(str(tmp_path)) is None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=300))
def test_any_text_is_a_version_file(tmp_path: Path, text: str) -> None:
    """Garbage gives a build that knows nothing."""
    (tmp_path / "version.py").write_text(text, encoding="utf-8")
    build = read_build(str(tmp_path))
    assert build is not None
    list(build_facts(build))


def test_the_abi_of_strings_is_that_of_the_exported_names(site: Path) -> None:
    """libc10 has its functions under names of the old or of the new form."""
    assert cxx11_abi(str(install_torch(site))) is True
    assert cxx11_abi(str(install_torch(site, string=OLD_STRING))) is False
    (site / "torch" / "lib" / "libc10.so").write_bytes(b"no library")
    assert cxx11_abi(str(site / "torch")) is None


# --- its libraries


def test_a_sound_torch_misses_nothing(site: Path) -> None:
    """All libraries are found in the wheels."""
    install_torch(site)
    assert libraries(site) == {}


def test_a_missing_cuda_wheel_is_missed(site: Path) -> None:
    """Its library, who needs it, and how many there are."""
    install_torch(site, wheels=False)
    facts = libraries(site)
    assert facts["torch.missing_library"] == "libcudart.so.12"
    assert facts["torch.missing_library_count"] == 2


def test_the_driver_is_not_missed(site: Path) -> None:
    """libcuda.so.1 comes with the driver: a machine without one is no broken torch."""
    install_torch(site, needs=("libcuda.so.1", "libnvidia-ml.so.1"))
    assert libraries(site) == {}


def test_torch_finds_its_wheels_by_itself_where_the_loader_does_not(site: Path) -> None:
    """It loads the nvidia wheels by path when its first library cannot be loaded."""
    folder = install_torch(site)
    (folder / "lib" / "libtorch_global_deps.so").write_bytes(elf(["libcudart.so.12"], "libtorch_global_deps.so"))
    assert libraries(site) == {}


def test_a_function_that_no_library_has_is_told(site: Path) -> None:
    """An old cuBLAS in the place of the one that torch was built with."""
    install_torch(site)
    install_cuda(site, "12", cublas=("cublasCreate",))
    facts = libraries(site)
    assert facts["torch.missing_symbol"] == "cublasCreate_v2"
    assert facts["torch.missing_symbol_for"] == "libtorch_cuda.so"
    assert str(facts["torch.missing_symbol_library"]).endswith("libcublas.so.12")


def test_the_library_path_replaces_wheels_only_behind_a_runpath(site: Path, tmp_path: Path) -> None:
    """With an rpath torch's own come first, whatever LD_LIBRARY_PATH says."""
    toolkit = tmp_path / "cuda" / "lib64"
    toolkit.mkdir(parents=True)
    (toolkit / "libcublas.so.12").write_bytes(elf(soname="libcublas.so.12", exports=["cublasCreate_v2"]))
    install_torch(site, search="rpath")
    assert libraries(site, LD_LIBRARY_PATH=str(toolkit)) == {}
    install_torch(site, search="runpath")
    facts = libraries(site, LD_LIBRARY_PATH=str(toolkit))
    assert facts["cuda_override.0.library"] == "libcublas.so.12"
    assert facts["cuda_override.0.path"] == str(toolkit / "libcublas.so.12")
    assert str(facts["cuda_override.0.wheel"]).endswith("nvidia/cublas/lib/libcublas.so.12")


def test_a_damaged_library_is_told(site: Path) -> None:
    """Cut off by a full disk."""
    lib = install_torch(site) / "lib" / "libtorch_cpu.so"
    lib.write_bytes(lib.read_bytes()[:200])
    facts = libraries(site)
    assert facts["torch.damaged_library"] == "libtorch_cpu.so"
    assert facts["torch.damaged_library_why"]


# --- wheels and toolkit


def wheel(name: str, version: str) -> Distribution:
    return Distribution(name, version, f"/e/{name}", "/e")


def families(*dists: Distribution) -> dict[str, object]:
    return {fact.name: fact.value for fact in wheel_facts({dist.name: dist for dist in dists})}


def test_families_are_read_from_names_and_versions() -> None:
    """-cu12 in the name; from CUDA 13 on the main version."""
    facts = families(wheel("nvidia-cuda-runtime-cu12", "12.8.90"), wheel("nvidia-cudnn-cu12", "9.10.2.21"))
    assert (facts["cuda.families"], facts["cuda.family_count"]) == ("12", 1)
    assert facts["cuda_wheels.12.cudnn"] == "9.10.2.21"
    facts = families(wheel("nvidia-cuda-runtime", "13.0.96"), wheel("nvidia-cublas-cu12", "12.8.4.1"))
    assert (facts["cuda.families"], facts["cuda.family_count"]) == ("12, 13", 2)


def test_nccl_alone_makes_no_family() -> None:
    """Engines bring an NCCL of another major version for themselves, without harm."""
    facts = families(wheel("nvidia-cuda-runtime", "13.0.96"), wheel("nvidia-nccl-cu12", "2.27.3"))
    assert (facts["cuda.families"], facts["cuda.family_count"]) == ("13", 1)


def test_without_wheels_nothing_is_said() -> None:
    """A CPU machine has no families, which is not the same as none of several."""
    assert families(wheel("nvidia-ml-py", "13.580.82")) == {}


def toolkit(**environ: str) -> dict[str, object]:
    return {reading.name: reading.value for reading in toolkit_facts(environ) if isinstance(reading, Fact)}


def test_cuda_home_goes_before_the_path(tmp_path: Path) -> None:
    """As for torch; the version comes from the toolkit's own file."""
    for name, version in (("a", "12.4.99"), ("b", "13.0.88")):
        (tmp_path / name / "bin").mkdir(parents=True)
        (tmp_path / name / "bin" / "nvcc").touch(0o755)
        (tmp_path / name / "version.json").write_text(
            json.dumps({"cuda": {"version": "1.0"}, "cuda_nvcc": {"version": version}})
        )
    facts = toolkit(CUDA_HOME=str(tmp_path / "a"), PATH=str(tmp_path / "b" / "bin"))
    assert (facts["cuda.toolkit"], facts["cuda.toolkit_major"], facts["cuda.toolkit_from"]) == ("12.4", 12, "CUDA_HOME")
    facts = toolkit(PATH=str(tmp_path / "b" / "bin"))
    assert (facts["cuda.toolkit"], facts["cuda.toolkit_from"]) == ("13.0", "PATH")


def test_a_script_in_place_of_nvcc_is_followed(tmp_path: Path) -> None:
    """A wrapper on the path names the real toolkit."""
    real = tmp_path / "cuda-12.6"
    (real / "bin").mkdir(parents=True)
    (real / "bin" / "nvcc").touch(0o755)
    wrapper = tmp_path / "bin" / "nvcc"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {real}/bin/nvcc "$@"\n')
    wrapper.chmod(0o755)
    facts = toolkit(PATH=str(wrapper.parent))
    assert (facts["cuda.toolkit_path"], facts["cuda.toolkit"]) == (str(real), "12.6")


def test_a_cuda_home_that_is_gone_is_told(tmp_path: Path) -> None:
    """Builds take it at its word and fail."""
    assert toolkit(CUDA_HOME=str(tmp_path / "gone")) == {"cuda.home_missing": str(tmp_path / "gone")}


@pytest.mark.parametrize(
    ("name", "text", "version"),
    [
        ("version.txt", "CUDA Version 11.0.228\n", "11.0"),
        ("include/cuda.h", "#define CUDA_VERSION 12080\n", "12.8"),
        ("version.json", "{nonsense", ""),
        ("version.json", '{"cuda": {"version": 12}}', ""),
        ("version.json", "[" * 100_000, ""),
    ],
)
def test_older_and_damaged_toolkits_tell_what_they_can(tmp_path: Path, name: str, text: str, version: str) -> None:
    """Each generation has its own file; nonsense tells nothing."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    assert toolkit_version(str(tmp_path))[0] == version
