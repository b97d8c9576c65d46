"""Environment variables by an allow-list → facts: what was set for Python, CUDA, NCCL, the hub and the engines.

Nothing is read that is not on the list, and of a variable that may hold a secret only that it is set. Beside the values
stand a few facts that need reading: the options of PyTorch's allocator, whether the locale is UTF-8, how many nodes the
launcher was told of.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from diagnose.model import Fact, Reading

LONGEST = 4000
"""How many characters of a value are kept."""


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


_PREFIXES = (
    "ACCELERATE_", "BNB_", "CONDA_", "CUBLAS_", "CUDA_", "CUDNN_", "DEEPSPEED_", "DG_JIT_", "DS_", "FI_", "FLASHINFER_",
    "FSDP_", "GGML_", "GLOO_", "GOMP_", "HF_", "HIP_", "HSA_", "HUGGINGFACE_", "HUGGING_FACE_", "KMP_", "LLAMA_",
    "MALLOC_", "MASTER_", "MKL_", "NCCL_", "NUMEXPR_", "NVIDIA_", "NVSHMEM_", "OLLAMA_", "OMP_", "OPENBLAS_", "PYTORCH_",
    "RAY_", "RCCL_", "ROCR_", "SAFETENSORS_", "SGLANG_", "SGL_", "TOKENIZERS_", "TORCHDYNAMO_", "TORCHELASTIC_",
    "TORCHINDUCTOR_", "TORCH_", "TRANSFORMERS_", "TRITON_", "UCX_", "UV_", "VLLM_", "XFORMERS_", "ZE_",
)  # fmt: skip

_NAMES: Final = words(
    """
    ALL_PROXY ASCEND_RT_VISIBLE_DEVICES BITSANDBYTES_NOWELCOME CC CPATH CUDACXX CXX DISABLE_VERSION_CHECK
    GPU_DEVICE_ORDINAL GROUP_RANK HTTPS_PROXY HTTP_PROXY LANG LC_ALL LC_CTYPE LD_LIBRARY_PATH LD_PRELOAD
    LLAMAFACTORY_VERBOSITY LOCAL_RANK LOCAL_WORLD_SIZE MAX_JOBS NNODES NODE_RANK NO_PROXY NPROC_PER_NODE
    OPENAI_API_BASE OPENAI_API_KEY OPENAI_BASE_URL ANTHROPIC_API_KEY PIP_NO_BINARY PIP_PREFER_BINARY
    PIP_REQUIRE_VIRTUALENV PIP_TARGET PIP_USER PIP_PREFIX PYTHONBREAKPOINT PYTHONDONTWRITEBYTECODE
    PYTHONFAULTHANDLER PYTHONHASHSEED PYTHONHOME PYTHONIOENCODING PYTHONMALLOC PYTHONNOUSERSITE PYTHONOPTIMIZE
    PYTHONPATH PYTHONPLATLIBDIR PYTHONSAFEPATH PYTHONSTARTUP PYTHONUNBUFFERED PYTHONUSERBASE PYTHONUTF8
    PYTHONWARNINGS PYTHON_GIL RANK SLURM_CPUS_PER_TASK SLURM_GPUS SLURM_GPUS_ON_NODE SLURM_JOB_ID
    SLURM_JOB_NUM_NODES SLURM_LOCALID SLURM_MEM_PER_CPU SLURM_MEM_PER_NODE SLURM_NNODES SLURM_NODEID
    SLURM_NTASKS SLURM_NTASKS_PER_NODE SLURM_PROCID TMPDIR TEMP TMP TP_SOCKET_IFNAME USE_FLAX USE_LIBUV USE_TF
    USE_TORCH VECLIB_MAXIMUM_THREADS VIRTUAL_ENV WANDB_API_KEY WANDB_DISABLED WANDB_MODE WORLD_SIZE
    WSL_DISTRO_NAME XDG_CACHE_HOME XLA_PYTHON_CLIENT_MEM_FRACTION XLA_PYTHON_CLIENT_PREALLOCATE ZE_AFFINITY_MASK
    AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN MODELSCOPE_CACHE USE_MODELSCOPE_HUB all_proxy
    http_proxy https_proxy no_proxy
    """
)

_SECRET_PARTS: Final = words(
    """
    TOKEN KEY KEYS SECRET SECRETS PASSWORD PASSWD PASS CREDENTIAL CREDENTIALS AUTH COOKIE
    """
)
_SWITCHES: Final = words(
    """
    0 1 true false yes no on off none
    """
)
_SECRET_VALUE = re.compile(
    r"://[^/\s]*@|\b(?:hf|ghp|gho|ghs|ghu|glpat|npm|pypi|xox[abprs])[_-][\w-]{8}|\bsk-[\w-]{8}|\bAKIA[0-9A-Z]{12}|\bbearer\s",
    re.IGNORECASE,
)

_ALLOCATOR_KEYS: Final = words(
    """
    backend expandable_segments expandable_segments_handle_type garbage_collection_threshold graph_capture_record_stream_reuse
    large_segment_size_mb max_non_split_rounding_mb max_split_size_mb per_process_memory_fraction pinned_free_catch_all
    pinned_max_cached_size_mb     pinned_max_power2_size_mb pinned_max_round_threshold_mb pinned_num_register_threads
    pinned_reserve_segment_size_mb pinned_use_background_threads pinned_use_cuda_host_register
    pinned_use_hip_host_register release_lock_on_cudamalloc release_lock_on_hipmalloc roundup_power2_divisions
    roundup_bypass_threshold_mb throw_on_cudamalloc_oom use_cuda_host_register
    """
)
"""Every option that PyTorch's allocator has read in any release."""

_NCCL_DEBUG: Final = words(
    """
    VERSION WARN INFO ABORT TRACE NONE
    """
)


def read(environ: Mapping[str, str]) -> Iterator[Reading]:
    """The variables that are on the list as `env.NAME`, and what follows from them as `setting.*`.

    A variable that may hold a secret has the value `set`. A variable that is set to nothing is told as an empty text.
    """
    for name in sorted(environ):
        if listed(name) and re.fullmatch(r"\w+", name, re.ASCII):
            yield Fact(f"env.{name}", shown(name, environ[name]), "environment")
    yield from _allocator(environ)
    yield from _nccl_debug(environ)
    yield from _locale(environ)
    yield from _nodes(environ)
    yield from _threads(environ)


def listed(name: str) -> bool:
    """Whether a variable may be read at all."""
    return name in _NAMES or name.startswith(_PREFIXES)


def shown(name: str, value: str) -> str:
    """What is told of a variable's value: `set` if it may be a secret, otherwise the value, cut to its first part."""
    if not value:
        return ""
    parts = set(name.upper().split("_"))
    if parts & _SECRET_PARTS and value.strip().lower() not in _SWITCHES:
        return "set"
    return "set" if _SECRET_VALUE.search(value) else value[:LONGEST].encode("utf-8", "replace").decode()


def truth(value: str) -> bool:
    """How the hub's client reads a switch: only 1, ON, YES and TRUE are true."""
    return value.strip().upper() in ("1", "ON", "YES", "TRUE")


def allocator_options(text: str) -> tuple[str, ...]:
    """The names of the options in `a:1,b:[256:1,512:2],c:True`, in order; lists in brackets are values."""
    flat = re.sub(r"\[[^\]]*\]?", "", text)
    return tuple(part.partition(":")[0].strip() for part in flat.split(",") if part.strip())


def _allocator(environ: Mapping[str, str]) -> Iterator[Reading]:
    for variable in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        text = environ.get(variable, "")
        if not text.strip():
            continue
        options = allocator_options(text)
        unknown = [option for option in options if option not in _ALLOCATOR_KEYS]
        yield Fact("setting.allocator_variable", variable, "environment")
        yield Fact("setting.allocator_options", ",".join(options), "environment")
        yield Fact("setting.allocator_unknown_option", (unknown or ["none"])[0][:80], variable)
        yield Fact("setting.allocator_expandable", bool(re.search(r"expandable_segments\s*:\s*True", text)), variable)
        return


def _nccl_debug(environ: Mapping[str, str]) -> Iterator[Reading]:
    if environ.get("NCCL_DEBUG"):
        known = environ["NCCL_DEBUG"].strip().upper() in _NCCL_DEBUG
        yield Fact("setting.nccl_debug_known", known, "NCCL_DEBUG")


def _locale(environ: Mapping[str, str]) -> Iterator[Reading]:
    """Python takes the first of these that is set; C and POSIX mean UTF-8 since Python 3.7."""
    variable = next((name for name in ("LC_ALL", "LC_CTYPE", "LANG") if environ.get(name)), "")
    name = environ.get(variable, "C")
    charset = name.partition(".")[2].partition("@")[0]
    if environ.get("PYTHONUTF8") == "1" or name in ("C", "POSIX"):
        charset = "UTF-8"
    if charset:
        utf8 = re.sub(r"[-_]", "", charset).lower() == "utf8"
        yield Fact("setting.locale_utf8", utf8, variable or "environment")


def _nodes(environ: Mapping[str, str]) -> Iterator[Reading]:
    """How many machines the job runs on, as far as the launcher's variables tell."""
    for variable in ("SLURM_JOB_NUM_NODES", "SLURM_NNODES", "PET_NNODES", "NNODES"):
        count = number(environ.get(variable, ""))
        if count:
            yield Fact("setting.nodes", count, variable)
            return
    world, local = number(environ.get("WORLD_SIZE", "")), number(environ.get("LOCAL_WORLD_SIZE", ""))
    if world and local:
        yield Fact("setting.nodes", -(-world // local), "WORLD_SIZE")


def _threads(environ: Mapping[str, str]) -> Iterator[Reading]:
    text = environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    count = number(text)
    if count or not text.strip():
        yield Fact("setting.omp_threads", count, "OMP_NUM_THREADS")


def number(text: str) -> int:
    """A positive whole number, or 0 if the text is none."""
    text = text.strip()
    return int(text) if re.fullmatch(r"\d{1,9}", text, re.ASCII) else 0
