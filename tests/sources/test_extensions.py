"""A compiled extension is compared with the torch, CUDA, Python and system libraries that are here, without loading it."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.sources.distributions import Distribution
from diagnose.sources.extensions import built_for, readable
from tests.sources.environments import elf, environment, install, site_of, told
from tests.sources.torches import NEW_STRING, OLD_STRING, SET_DEVICE, TENSOR_SIZES, install_cuda, install_torch

FLASH = "flash_attn_2_cuda.cpython-311-x86_64-linux-gnu.so"


class Environment:
    """An environment with a torch, into which extensions are put."""

    def __init__(self, tmp_path: Path, **torch: str) -> None:
        self.folder = environment(tmp_path)
        self.site = site_of(self.folder)
        self.work = tmp_path / "work"
        self.work.mkdir()
        install_torch(self.site, **torch)  # type: ignore[arg-type]

    def facts(self, name: str, **environ: str) -> dict[str, object]:
        """The facts of one extension, without their head."""
        facts, unchecked = told(self.folder / "bin" / "python", self.work, environ)
        assert not unchecked
        head = f"extension.{name}."
        return {key.removeprefix(head): value for key, value in facts.items() if key.startswith(head)}

    def flash_attn(self, version: str = "2.8.3", **parts: object) -> None:
        """Install a flash-attn whose compiled part has these properties."""
        data = elf(**{"needed": ["libc10.so", "libcudart.so.12"], "exports": ["PyInit_x"], **parts})  # type: ignore[arg-type]
        install(self.site, "flash-attn", version, files={"flash_attn/__init__.py": "", FLASH: data})


@pytest.fixture
def env(tmp_path: Path) -> Environment:
    return Environment(tmp_path)


def test_a_fitting_extension_has_no_fault(env: Environment) -> None:
    """All libraries and functions are there."""
    env.flash_attn("2.8.3+cu12torch2.8cxx11abiTRUE", undefined=[TENSOR_SIZES, NEW_STRING])
    facts = env.facts("flash-attn")
    assert facts["file"] == FLASH
    assert facts["loaded_at"] == "import"
    assert facts["torch_built_for"] == "2.8"
    assert facts["cuda_built_for"] == "12"
    assert facts["other_torch"] is False
    assert facts["other_cuda"] is False
    assert facts["cxx11_abi"] is True
    assert facts["other_cxx11_abi"] is False
    assert not {"missing_library", "missing_symbol", "damaged"} & set(facts)


def test_a_function_that_torch_lacks_is_found(env: Environment) -> None:
    """The name, how many there are, and a readable form."""
    env.flash_attn(undefined=[TENSOR_SIZES, "_ZN3c104cuda9SetDeviceEi", "_ZN3c104cuda9GetDeviceEPi"])
    facts = env.facts("flash-attn")
    assert facts["missing_symbol"] == "_ZN3c104cuda9SetDeviceEi"
    assert facts["missing_symbol_count"] == 2
    assert facts["symbol_hint"] == "c10::cuda::SetDevice"


def test_functions_of_others_than_torch_are_not_looked_for(env: Environment) -> None:
    """Python's, the C library's, and weak ones are the loader's business."""
    env.flash_attn(undefined=["PyList_New", "memcpy", "_ZNSt6vectorIiE4sizeEv"], weak=["_ZN3c104maybeEv"])
    assert "missing_symbol" not in env.facts("flash-attn")


def test_the_other_abi_of_strings_is_told(env: Environment) -> None:
    """Built for a torch with the old form of strings."""
    env.flash_attn(undefined=[OLD_STRING])
    facts = env.facts("flash-attn")
    assert facts["cxx11_abi"] is False
    assert facts["other_cxx11_abi"] is True
    assert facts["missing_symbol"] == OLD_STRING


def test_another_cuda_is_told_though_all_requirements_are_met(tmp_path: Path) -> None:
    """xformers for CUDA 12 beside a torch of CUDA 13: its own record and its header say so."""
    env = Environment(tmp_path, version="2.14.1", cuda="13.0")
    record = json.dumps({"version": {"cuda": 1208, "hip": None, "torch": "2.10.0+cu128", "python": "3.10.19"}})
    library = elf(["libc10.so", "libcudart.so.12"], undefined=["aoti_torch_empty"])
    files: dict[str, str | bytes] = {
        "xformers/__init__.py": "",
        "xformers/cpp_lib.json": record,
        "xformers/_C.so": library,
    }
    install(env.site, "xformers", "0.0.35", requires=["torch>=2.10"], files=files)
    facts = env.facts("xformers")
    assert facts["missing_library"] == "libcudart.so.12"
    assert facts["cuda_needed"] == "12"
    assert facts["cuda_built_for"] == "12.8"
    assert facts["cuda_tag"] == "cu128"
    assert facts["torch_built_for"] == "2.10.0+cu128"
    assert facts["other_cuda"] is True
    assert facts["loaded_at"] == "use"
    assert "other_torch" not in facts  # it uses the interface that stays the same from release to release


def test_a_wheel_of_the_other_cuda_beside_it_does_not_help(tmp_path: Path) -> None:
    """The library lies in site-packages, and nothing leads the loader there; LD_LIBRARY_PATH would."""
    env = Environment(tmp_path, cuda="13.0")
    env.flash_attn()
    install_cuda(env.site, "12")
    assert env.facts("flash-attn")["missing_library"] == "libcudart.so.12"
    lib = env.site / "nvidia" / "cuda_runtime" / "lib"
    assert "missing_library" not in env.facts("flash-attn", LD_LIBRARY_PATH=str(lib))


def test_libraries_that_torch_has_loaded_are_there(env: Environment) -> None:
    """An extension needs no search path of its own for what torch loads first."""
    env.flash_attn(needed=["libc10.so", "libtorch_cuda.so", "libcublas.so.12"])
    assert "missing_library" not in env.facts("flash-attn")


def test_the_driver_is_not_missed(env: Environment) -> None:
    """libcuda.so.1 belongs to the driver; that it is not here is told apart."""
    env.flash_attn(needed=["libc10.so", "libcuda.so.1"])
    facts = env.facts("flash-attn")
    assert facts["needs_driver"] is True
    assert "missing_library" not in facts


def test_another_release_of_torch_is_told_by_the_tag(env: Environment) -> None:
    """Even where every function is found."""
    env.flash_attn("2.8.3+cu12torch2.7cxx11abiTRUE", undefined=[TENSOR_SIZES])
    assert env.facts("flash-attn")["other_torch"] is True


def test_a_file_for_another_python_is_told(env: Environment) -> None:
    """Python does not look at it; where one for this Python lies beside it, that one counts."""
    other = FLASH.replace("311", "310")
    install(env.site, "flash-attn", "2.8.3", files={other: elf(["libc10.so"], exports=["PyInit_x"])})
    assert env.facts("flash-attn")["python_tag"] == "cp310"
    install(env.site, "flash-attn", "2.8.3", files={other: elf(["libc10.so"]), FLASH: elf(["libc10.so"])})
    assert env.facts("flash-attn")["python_tag"] == "cp311"


def test_another_architecture_and_damage_are_told(env: Environment) -> None:
    """A file for another machine, and one that is cut off."""
    env.flash_attn(machine="aarch64")
    assert env.facts("flash-attn")["machine"] == "aarch64"
    (env.site / FLASH).write_bytes(b"")
    assert env.facts("flash-attn")["damaged"] == "it is empty"
    (env.site / FLASH).write_bytes(b"version https://git-lfs.github.com/spec/v1")
    assert env.facts("flash-attn")["damaged"] == "it is no ELF file"


def test_system_libraries_that_it_asks_for_are_told(env: Environment) -> None:
    """The oldest glibc it runs with, and the newest C++ library version against the one that would be loaded."""
    (env.site / "flash_attn.libs").mkdir()
    (env.site / "flash_attn.libs" / "libstdc++.so.6").write_bytes(
        elf(soname="libstdc++.so.6", versions_defined=["GLIBCXX_3.4", "GLIBCXX_3.4.9", "GLIBCXX_3.4.28"])
    )
    env.flash_attn(
        needed=["libstdc++.so.6"],
        rpath="$ORIGIN/flash_attn.libs",
        versions_needed={
            "libc.so.6": ["GLIBC_2.2.5", "GLIBC_2.14", "GLIBC_2.9"],
            "libstdc++.so.6": ["GLIBCXX_3.4.30", "GLIBCXX_3.4.9"],
        },
    )
    facts = env.facts("flash-attn")
    assert facts["glibc_needed"] == "2.14"
    assert (facts["glibcxx_needed"], facts["glibcxx_there"]) == ("3.4.30", "3.4.28")
    assert str(facts["libstdcxx"]).endswith("flash_attn.libs/libstdc++.so.6")


def test_optional_files_are_not_looked_at(env: Environment) -> None:
    """What a package loads by choice, among many variants, is no fault when it could not be loaded."""
    broken = elf(["libcudart.so.11", "libnone.so.1"])
    install(env.site, "bitsandbytes", "0.48.0", files={"bitsandbytes/libbitsandbytes_cuda118.so": broken})
    install(env.site, "scipy", "1.16.0", files={"scipy/linalg/_flapack.cpython-311-x86_64-linux-gnu.so": broken})
    install(env.site, "vllm", "0.11.0", files={"vllm/_C.abi3.so": elf(["libc10.so"]), "vllm/_rocm_C.abi3.so": broken})
    assert env.facts("bitsandbytes") == {}
    assert env.facts("scipy") == {}
    assert "missing_library" not in env.facts("vllm")


def test_what_torch_loads_does_not_help_who_runs_without_it(env: Environment) -> None:
    """llama-cpp-python never imports torch: a CUDA runtime among torch's wheels is out of its reach."""
    files: dict[str, str | bytes] = {
        "llama_cpp/__init__.py": "",
        "llama_cpp/lib/libllama.so": elf(["libggml-cuda.so"], runpath="$ORIGIN"),
        "llama_cpp/lib/libggml-cuda.so": elf(["libcudart.so.12", "libcuda.so.1"], "libggml-cuda.so", runpath="$ORIGIN"),
    }
    install(env.site, "llama-cpp-python", "0.3.16", files=files)
    facts = env.facts("llama-cpp-python")
    assert facts["missing_library"] == "libcudart.so.12"
    assert facts["missing_library_for"] == "libggml-cuda.so"
    assert facts["needs_driver"] is True
    assert facts["cuda_needed"] == "12"
    assert facts["other_cuda"] is False


def test_a_file_that_the_package_loads_first_is_there(env: Environment) -> None:
    """torchaudio loads libtorchaudio.so by path before the module that needs it."""
    files: dict[str, str | bytes] = {
        "torchaudio/__init__.py": "",
        "torchaudio/lib/_torchaudio.so": elf(["libtorchaudio.so", "libc10.so"]),
        "torchaudio/lib/libtorchaudio.so": elf(["libc10.so"], "libtorchaudio.so"),
    }
    install(env.site, "torchaudio", "2.8.0", files=files)
    facts = env.facts("torchaudio")
    assert facts["file"] == "torchaudio/lib/libtorchaudio.so"
    assert "missing_library" not in facts


def test_many_extensions_do_not_use_up_the_open_files(env: Environment) -> None:
    """A limit of open files is no fault of a library."""
    for number in range(300):
        data = elf(["libc10.so", "libtorch_cpu.so"], exports=["PyInit_x"])
        install(env.site, f"ops-{number}", files={f"ops_{number}.cpython-311-x86_64-linux-gnu.so": data})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (260, hard))
    try:
        facts, unchecked = told(env.folder / "bin" / "python", env.work)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not [name for name in facts if name.endswith((".damaged", ".missing_library"))]
    assert [item.what for item in unchecked] == ["compiled extensions"]  # there are more than are looked at


def test_unknown_packages_count_if_they_link_to_torch_or_cuda(env: Environment) -> None:
    """A top-level extension module that needs libtorch is looked at, others are not."""
    name = "my_ops.cpython-311-x86_64-linux-gnu.so"
    install(env.site, "my-ops", files={name: elf(["libc10.so", "libcudart.so.11"])})
    install(env.site, "my-text", files={"my_text.cpython-311-x86_64-linux-gnu.so": elf(["libicu.so.1"])})
    facts = env.facts("my-ops")
    assert facts["loaded_at"] == "unknown"
    assert facts["missing_library"] == "libcudart.so.11"
    assert env.facts("my-text") == {}


def test_without_torch_nothing_is_said_of_its_functions(tmp_path: Path) -> None:
    """That torch is missing is told by the requirement; the extension's fault it is not."""
    folder = environment(tmp_path)
    install(site_of(folder), "flash-attn", files={FLASH: elf(["libc10.so"], undefined=[SET_DEVICE])})
    facts, _ = told(folder / "bin" / "python", tmp_path)
    assert "extension.flash-attn.file" in facts
    assert not [name for name in facts if "missing" in name]


# --- what it was built for


def dist(name: str, version: str, site: Path = Path("/e")) -> Distribution:
    return Distribution(name, version, f"{site}/{name}", str(site))


@pytest.mark.parametrize(
    ("version", "torch", "cuda", "abi"),
    [
        ("2.8.3+cu12torch2.8cxx11abiTRUE", "2.8", "12", True),
        ("2.7.4.post1+cu12torch2.10cxx11abiFALSE", "2.10", "12", False),
        ("2.1.2+pt24cu124", "2.4", "12.4", None),
        ("0.7.1+cu121", "", "12.1", None),
        ("0.3.16+cu130", "", "13.0", None),
        ("1.0", "", "", None),
        ("0.9.2+cpu", "", "", None),
    ],
)
def test_version_tags_are_read(version: str, torch: str, cuda: str, abi: bool | None) -> None:
    """The spellings of flash-attn, PyG, AutoGPTQ and llama-cpp-python."""
    built = built_for(dist("some-kernels", version))
    assert (built.torch, built.cuda, built.cxx11_abi) == (torch, cuda, abi)


def test_deepspeed_says_what_its_prebuilt_kernels_were_built_for(tmp_path: Path) -> None:
    """Only where some were built; otherwise they are compiled at run time."""
    path = tmp_path / "deepspeed" / "git_version_info_installed.py"
    path.parent.mkdir()
    torch = "torch_info={'version': '2.4', 'bf16_support': True, 'cuda_version': '12.1'}"
    path.write_text(f"version='0.15.0'\ninstalled_ops={{'cpu_adam': True, 'fused_adam': False}}\n{torch}\n")
    assert built_for(dist("deepspeed", "0.15.0", tmp_path)).torch == "2.4"
    path.write_text(f"version='0.15.0'\ninstalled_ops={{'cpu_adam': False}}\n{torch}\n")
    assert built_for(dist("deepspeed", "0.15.0", tmp_path)).torch == ""


@pytest.mark.parametrize(
    "text", ["", "{", '{"version": null}', '{"version": {"cuda": "x", "torch": 2}}', "[" * 100_000]
)
def test_a_damaged_record_of_xformers_says_nothing(tmp_path: Path, text: str) -> None:
    """Then only the version's tag is left."""
    (tmp_path / "xformers").mkdir()
    (tmp_path / "xformers" / "cpp_lib.json").write_text(text)
    assert built_for(dist("xformers", "0.0.35", tmp_path)).torch == ""


@given(st.text(max_size=80))
def test_any_version_has_a_tag_or_none(version: str) -> None:
    """Whatever a version says, nothing raises."""
    built_for(dist("x", version))


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("_ZN3c104cuda9SetDeviceEi", "c10::cuda::SetDevice"),
        ("_ZNK2at6Tensor5dtypeEv", "at::Tensor::dtype"),
        ("_ZNK5torch8autograd4Node4nameB5cxx11Ev", "torch::autograd::Node::name"),
        ("aoti_torch_empty", ""),
        ("_ZN", ""),
        ("_ZN99999999x", ""),
    ],
)
def test_symbols_are_made_readable(symbol: str, name: str) -> None:
    """The qualified name without its parameters; nothing where that is unclear."""
    assert readable(symbol) == name


@given(st.text(max_size=60))
def test_any_symbol_is_readable_or_not(symbol: str) -> None:
    """Nothing raises."""
    readable("_ZN" + symbol)


# --- bitsandbytes


def bnb(env: Environment, *cuda: str, fallback: bool = False, **environ: str) -> dict[str, object]:
    files: dict[str, str | bytes] = {f"bitsandbytes/libbitsandbytes_cuda{version}.so": elf() for version in cuda}
    files["bitsandbytes/__init__.py"] = ""
    files["bitsandbytes/cextension.py"] = "def _find_cuda_libs(prefix): ...\n" if fallback else ""
    install(env.site, "bitsandbytes", "0.48.0", files=files)
    facts, _ = told(env.folder / "bin" / "python", env.work, environ)
    return {key.removeprefix("bitsandbytes."): value for key, value in facts.items() if key.startswith("bitsandbytes.")}


def test_bitsandbytes_has_the_library_of_torchs_cuda_or_not(env: Environment) -> None:
    """It looks for the one that is named after torch's CUDA version."""
    facts = bnb(env, "126", "128")
    assert (facts["cuda_libraries"], facts["cuda_wanted"], facts["cuda_library_there"]) == ("126, 128", "128", True)
    for file in (env.site / "bitsandbytes").glob("*128.so"):
        file.unlink()
    assert bnb(env, "118", "126")["cuda_library_there"] is False


def test_newer_bitsandbytes_takes_a_neighbour_of_the_same_major_version(env: Environment) -> None:
    """Where its code looks for one."""
    assert bnb(env, "118", "126", fallback=True)["cuda_library_there"] is True
    for file in (env.site / "bitsandbytes").glob("*126.so"):
        file.unlink()
    assert bnb(env, "118", fallback=True)["cuda_library_there"] is False


def test_the_variable_overrules_the_choice(env: Environment) -> None:
    """BNB_CUDA_VERSION is taken at its word, without a neighbour."""
    facts = bnb(env, "126", "128", fallback=True, BNB_CUDA_VERSION="115")
    assert (facts["cuda_wanted"], facts["cuda_library_there"], facts["cuda_overridden"]) == ("115", False, True)
