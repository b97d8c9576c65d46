"""A torch made of files, with the CUDA wheels beside it."""

from __future__ import annotations

from pathlib import Path

from tests.sources.environments import elf, install

NEW_STRING = "_ZN3c105ErrorC2ENS_14SourceLocationENSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
OLD_STRING = "_ZN3c105ErrorC2ENS_14SourceLocationESs"
SET_DEVICE = "_ZN3c104cuda9SetDeviceEa"
TENSOR_SIZES = "_ZNK2at6Tensor5sizesEv"


def install_torch(
    site: Path,
    version: str = "2.8.0",
    cuda: str = "12.8",
    hip: str = "",
    string: str = NEW_STRING,
    search: str = "rpath",
    needs: tuple[str, ...] = (),
    wheels: bool = True,
    local: str = "",
) -> Path:
    """Install a torch with the libraries that a real one has; its folder. `search` is how it finds the CUDA wheels."""
    major = cuda.partition(".")[0]
    folders = "$ORIGIN/../../nvidia/cuda_runtime/lib:$ORIGIN/../../nvidia/cublas/lib:$ORIGIN"
    path = {search: folders}
    cudart, cublas = f"libcudart.so.{major}", f"libcublas.so.{major}"
    lib = {
        "libc10.so": elf(soname="libc10.so", exports=[string, TENSOR_SIZES]),
        "libtorch_cpu.so": elf(["libc10.so"], "libtorch_cpu.so", exports=["_ZN2at5emptyEv"], **path),
        "libtorch_python.so": elf(
            ["libtorch_cpu.so", "libc10.so", *(["libtorch_cuda.so"] if cuda else []), *needs],
            "libtorch_python.so",
            **path,
        ),
    }
    lib["libtorch_global_deps.so"] = elf([cudart] if cuda else [], "libtorch_global_deps.so", **path)
    if cuda:
        lib["libc10_cuda.so"] = elf([cudart], "libc10_cuda.so", exports=[SET_DEVICE], **path)
        lib["libtorch_cuda.so"] = elf(
            ["libc10_cuda.so", cublas, cudart], "libtorch_cuda.so", undefined=["cublasCreate_v2"], **path
        )
    full = version + (f"+{local}" if local else f"+cu{cuda.replace('.', '')}" if cuda else "+cpu")
    text = (
        f"from typing import Optional\n__version__ = '{full}'\ndebug = False\ncuda: Optional[str] = {cuda or None!r}\n"
    )
    text += f"git_version = 'ba56102387ef21a3b04b357e5b183d48f0afefc7'\nhip: Optional[str] = {hip or None!r}\n"
    files: dict[str, str | bytes] = {f"torch/lib/{name}": data for name, data in lib.items()}
    files |= {"torch/__init__.py": "", "torch/version.py": text}
    files["torch/_C.cpython-311-x86_64-linux-gnu.so"] = elf(
        ["libtorch_python.so"], rpath="$ORIGIN/lib", exports=["PyInit__C"]
    )
    install(site, "torch", version + (f"+{local}" if local else ""), files=files)
    if cuda and wheels:
        install_cuda(site, major)
    return site / "torch"


def install_cuda(site: Path, major: str = "12", cublas: tuple[str, ...] = ("cublasCreate_v2",)) -> None:
    """Install the wheels of the CUDA runtime and of cuBLAS."""
    suffix = f"-cu{major}" if int(major) < 13 else ""
    for name, folder, library, exports in (
        (f"nvidia-cuda-runtime{suffix}", "cuda_runtime", f"libcudart.so.{major}", ("cudaFree",)),
        (f"nvidia-cublas{suffix}", "cublas", f"libcublas.so.{major}", cublas),
    ):
        path = f"nvidia/{folder}/lib/{library}"
        install(site, name, f"{major}.8.90", files={path: elf(soname=library, exports=exports)})
