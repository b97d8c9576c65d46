"""Facts are read from what a text tells of the machine, the packages and the engine; each knows its line."""

from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.errors import InputError
from diagnose.facts import describe
from diagnose.model import Fact
from diagnose.scan import compile_scanner
from diagnose.sources import banner, text
from diagnose.sources.banner import FACT_TEXTS, BannerReader, canonical, compute_capability
from diagnose.sources.text import windows

GIB = 1 << 30
MIB = 1 << 20


def facts(said: str) -> tuple[Fact, ...]:
    reader = BannerReader("the.log", compile_scanner(FACT_TEXTS))
    for window in windows("the.log", BytesIO(said.encode())):
        reader.take(window)
    return reader.facts()


def told(said: str) -> dict[str, str | int | float | bool]:
    return {fact.name: fact.value for fact in facts(said)}


def placed(said: str) -> dict[str, tuple[str | int | float | bool, int]]:
    return {fact.name: (fact.value, fact.line) for fact in facts(said)}


# --- environment dumps

COLLECT_ENV = """\
Collecting environment information...
PyTorch version: 2.5.1+cu124
Is debug build: False
CUDA used to build PyTorch: 12.4
ROCM used to build PyTorch: N/A

OS: Ubuntu 22.04.5 LTS (x86_64)
GCC version: (Ubuntu 11.4.0-1ubuntu1~22.04) 11.4.0
Clang version: Could not collect
CMake version: version 3.31.2
Libc version: glibc-2.35

Python version: 3.12.8 (main, Dec  4 2024, 08:54:12) [GCC 11.4.0] (64-bit runtime)
Python platform: Linux-5.15.0-x86_64-with-glibc2.35
Is CUDA available: True
CUDA runtime version: 12.4.131
GPU models and configuration:
GPU 0: NVIDIA H100 80GB HBM3
GPU 1: NVIDIA H100 80GB HBM3

Nvidia driver version: 550.127.05

Versions of relevant libraries:
[pip3] numpy==1.26.4
[pip3] nvidia-nccl-cu12==2.21.5
[conda] transformers              4.47.1                   pypi_0    pypi
vLLM Version: 0.6.6.post1
"""


def test_torchs_environment_dump() -> None:
    """`torch.utils.collect_env` is read whole; what it could not collect is no fact."""
    assert placed(COLLECT_ENV) == {
        "torch.version": ("2.5.1+cu124", 2),
        "torch.cuda": ("12.4", 4),
        "os.name": ("Ubuntu", 7),
        "os.version": ("22.04.5", 7),
        "os.machine": ("x86_64", 7),
        "gcc.version": ("11.4.0", 8),
        "cmake.version": ("3.31.2", 10),
        "glibc.version": ("2.35", 11),
        "python.version": ("3.12.8", 13),
        "cuda.available": (True, 15),
        "cuda.toolkit": ("12.4.131", 16),
        "gpu.0.name": ("NVIDIA H100 80GB HBM3", 18),
        "gpu.1.name": ("NVIDIA H100 80GB HBM3", 19),
        "gpu.0.compute_capability": ("9.0", 18),
        "gpu.1.compute_capability": ("9.0", 19),
        "gpu.count": (2, 18),
        "driver.version": ("550.127.05", 21),
        "numpy.version": ("1.26.4", 24),
        "nvidia-nccl-cu12.version": ("2.21.5", 25),
        "transformers.version": ("4.47.1", 26),
        "vllm.version": ("0.6.6.post1", 27),
    }


def test_vllms_environment_dump() -> None:
    """vLLM's own `collect-env` aligns its colons and puts the first GPU behind the heading."""
    assert told(
        """\
OS                           : Ubuntu 24.04.1 LTS (aarch64)
GCC version                  : (Ubuntu 13.3.0-6ubuntu2) 13.3.0
Clang version                : Could not collect
Libc version                 : glibc-2.39
PyTorch version              : 2.7.0+cu128
CUDA used to build PyTorch   : 12.8
ROCM used to build PyTorch   : N/A
Python version               : 3.12.10 (main, Apr  9 2025, 08:55:05) [GCC 13.3.0] (64-bit runtime)
Is CUDA available            : True
GPU models and configuration : GPU 0: NVIDIA GH200 480GB
Nvidia driver version        : 570.124.06
vLLM Version                 : 0.9.0.1
"""
    ) == {
        "os.name": "Ubuntu",
        "os.version": "24.04.1",
        "os.machine": "aarch64",
        "gcc.version": "13.3.0",
        "glibc.version": "2.39",
        "torch.version": "2.7.0+cu128",
        "torch.cuda": "12.8",
        "python.version": "3.12.10",
        "cuda.available": True,
        "gpu.0.name": "NVIDIA GH200 480GB",
        "gpu.0.compute_capability": "9.0",
        "gpu.count": 1,
        "driver.version": "570.124.06",
        "vllm.version": "0.9.0.1",
    }


def test_sglangs_environment_dump() -> None:
    """`sglang.check_env` names several GPUs at once and packages with a colon."""
    assert told(
        """\
Python: 3.11.9 (main, Apr  6 2024, 17:59:24) [GCC 11.4.0]
CUDA available: True
GPU 0,1: NVIDIA A10G
GPU 0,1 Compute Capability: 8.6
NVCC: Cuda compilation tools, release 12.4, V12.4.131
CUDA Driver Version: 535.183.01
PyTorch: 2.5.1+cu124
sglang: 0.4.1.post5
transformers: 4.47.1
flashinfer: Module Not Found
"""
    ) == {
        "python.version": "3.11.9",
        "cuda.available": True,
        "gpu.0.name": "NVIDIA A10G",
        "gpu.1.name": "NVIDIA A10G",
        "gpu.0.compute_capability": "8.6",
        "gpu.1.compute_capability": "8.6",
        "gpu.count": 2,
        "cuda.toolkit": "12.4",
        "driver.version": "535.183.01",
        "torch.version": "2.5.1+cu124",
        "sglang.version": "0.4.1.post5",
        "transformers.version": "4.47.1",
    }


def test_transformers_environment_dump() -> None:
    """`transformers-cli env` writes a Markdown list."""
    assert told(
        """\
- `transformers` version: 4.51.0
- Platform: Linux-5.15.0-1064-azure-x86_64-with-glibc2.35
- Python version: 3.10.12
- Huggingface_hub version: 0.30.2
- PyTorch version (GPU?): 2.6.0+cu124 (True)
"""
    ) == {
        "transformers.version": "4.51.0",
        "glibc.version": "2.35",
        "python.version": "3.10.12",
        "huggingface-hub.version": "0.30.2",
        "torch.version": "2.6.0+cu124",
    }


@pytest.mark.parametrize(
    ("line", "name", "version", "machine"),
    [
        ("OS: Debian GNU/Linux 12 (bookworm) (x86_64)", "Debian GNU/Linux", "12", "x86_64"),
        ("OS: macOS 14.5 (arm64)", "macOS", "14.5", "arm64"),
        ("OS: Microsoft Windows 11 Pro (10.0.22631 64-bit)", "Microsoft Windows", "11", None),
        ("OS: Red Hat Enterprise Linux 8.9 (Ootpa) (x86_64)", "Red Hat Enterprise Linux", "8.9", "x86_64"),
        ("OS: Arch Linux (x86_64)", "Arch Linux", None, "x86_64"),
    ],
)
def test_the_operating_system(line: str, name: str, version: str | None, machine: str | None) -> None:
    """Name, version and machine of many systems; what is not told is no fact."""
    expected = {"os.name": name, "os.version": version, "os.machine": machine}
    assert {key: value for key, value in expected.items() if value} == told(line + "\n")


def test_a_rocm_build() -> None:
    """HIP's version instead of CUDA's."""
    assert told("CUDA used to build PyTorch: N/A\nROCM used to build PyTorch: 6.2.41133-dd7f95766\n") == {
        "torch.hip": "6.2.41133-dd7f95766"
    }


# --- lists of packages


@pytest.mark.parametrize(
    "said",
    [
        "Package      Version\n------------ -------\ntorch        2.4.0\nflash_attn   2.6.3   /src/flash-attention\nsomething    9.9\n",
        "torch==2.4.0\nflash-attn==2.6.3\nsomething==9.9\n",
        "> torch==2.4.0\n> flash_attn==2.6.3\n",
        "[pip3] torch==2.4.0\n[pip3] flash-attn==2.6.3\n",
        "# Name        Version     Build            Channel\npytorch       2.4.0       py3.11_cuda12.1  pytorch\nflash-attn    2.6.3       pypi_0           pypi\n",
        "torch: 2.4.0\nflash-attn: 2.6.3\n",
    ],
    ids=["pip list", "pip freeze", "quoted", "collect_env", "conda list", "colon"],
)
def test_lists_of_packages(said: str) -> None:
    """Every way to list packages gives the same facts; packages that no rule asks for are left out."""
    assert told(said) == {"torch.version": "2.4.0", "flash-attn.version": "2.6.3"}


def test_the_first_mention_counts() -> None:
    """A version told again later does not replace the first one."""
    assert placed("torch==2.4.0\ntorch==2.5.0\n") == {"torch.version": ("2.4.0", 1)}


@pytest.mark.parametrize(
    "said",
    [
        "torch is at 2.4.0 here\n",
        "mytorch==2.4.0\n",
        "torch==\n",
        "requires torch==2.4.0, but you have 2.5.0\n",
        "torch        soon\n",
        "loaded torch\n",
    ],
)
def test_a_mention_in_passing_is_no_fact(said: str) -> None:
    """Only lists state what is installed."""
    assert told(said) == {}


@pytest.mark.parametrize(
    ("name", "expected"), [("Flash_Attn", "flash-attn"), ("zope.interface", "zope-interface"), ("a__b--c", "a-b-c")]
)
def test_names_of_distributions_are_spelt_one_way(name: str, expected: str) -> None:
    """Lower case, with single hyphens."""
    assert expected == canonical(name)


# --- nvidia-smi

NEW_TABLE = """\
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI 550.54.15              Driver Version: 550.54.15      CUDA Version: 12.4     |
|-----------------------------------------+------------------------+----------------------+
| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |
|=========================================+========================+======================|
|   0  NVIDIA A100-SXM4-80GB          On  |   00000000:07:00.0 Off |                    0 |
| N/A   28C    P0              61W / 400W |    1234MiB /  81920MiB |      0%      Default |
|                                         |                        |             Disabled |
+-----------------------------------------+------------------------+----------------------+
|  10  NVIDIA GeForce RTX 4090        Off |   00000000:08:00.0 Off |                  Off |
|  0%   28C    P0              61W / 400W |       0MiB /  24564MiB |      0%      Default |
+-----------------------------------------------------------------------------------------+
"""


def test_nvidia_smi() -> None:
    """Driver, CUDA, and name, memory and compute capability of each GPU, also of those beyond the tenth."""
    assert placed(NEW_TABLE) == {
        "driver.version": ("550.54.15", 2),
        "driver.cuda": ("12.4", 2),
        "gpu.0.name": ("NVIDIA A100-SXM4-80GB", 6),
        "gpu.0.memory": (80 * GIB, 7),
        "gpu.0.memory_used": (1234 * MIB, 7),
        "gpu.0.compute_capability": ("8.0", 6),
        "gpu.10.name": ("NVIDIA GeForce RTX 4090", 10),
        "gpu.10.memory": (24564 * MIB, 11),
        "gpu.10.memory_used": (0, 11),
        "gpu.10.compute_capability": ("8.9", 10),
        "gpu.count": (2, 6),
    }


def test_nvidia_smi_of_old() -> None:
    """The narrow layout cuts long names."""
    assert told(
        """\
| NVIDIA-SMI 470.82.01    Driver Version: 470.82.01    CUDA Version: 11.4     |
|   0  Tesla V100-SXM2...  Off  | 00000000:00:1E.0 Off |                    0 |
| N/A   35C    P0    24W / 300W |      5MiB / 16160MiB |      0%      Default |
"""
    ) == {
        "driver.version": "470.82.01",
        "driver.cuda": "11.4",
        "gpu.0.name": "Tesla V100-SXM2...",
        "gpu.0.memory": 16160 * MIB,
        "gpu.0.memory_used": 5 * MIB,
        "gpu.0.compute_capability": "7.0",
        "gpu.count": 1,
    }


def test_nvidia_smi_of_windows() -> None:
    """Windows names the driver's model where Linux says On or Off."""
    assert (
        told("|   0  NVIDIA GeForce RTX 3060      WDDM  |   00000000:01:00.0  On |                  N/A |\n")[
            "gpu.0.name"
        ]
        == "NVIDIA GeForce RTX 3060"
    )


def test_a_memory_row_without_its_gpu_is_no_fact() -> None:
    """Of a table cut off above, it is not known whose memory it is."""
    assert told("| N/A   35C    P0    24W / 300W |      5MiB / 16160MiB |      0%      Default |\n") == {}


def test_nvidia_smi_list() -> None:
    """`nvidia-smi -L` gives names with their UUIDs."""
    assert told("GPU 0: NVIDIA L4 (UUID: GPU-aaaa-bbbb)\n") == {
        "gpu.0.name": "NVIDIA L4",
        "gpu.0.compute_capability": "8.9",
        "gpu.count": 1,
    }


@pytest.mark.parametrize(
    ("gpu", "capability"),
    [
        ("NVIDIA A10", "8.6"),
        ("NVIDIA A10G", "8.6"),
        ("NVIDIA A100-SXM4-40GB", "8.0"),
        ("NVIDIA A100 80GB PCIe", "8.0"),
        ("NVIDIA A30", "8.0"),
        ("NVIDIA A40", "8.6"),
        ("NVIDIA L4", "8.9"),
        ("NVIDIA L40S", "8.9"),
        ("Tesla T4", "7.5"),
        ("NVIDIA GeForce GTX 1650", "7.5"),
        ("NVIDIA GeForce RTX 3090 Ti", "8.6"),
        ("NVIDIA GeForce RTX 5090", "12.0"),
        ("Quadro RTX 4000", "7.5"),
        ("NVIDIA RTX 4000 Ada Generation", "8.9"),
        ("NVIDIA RTX A4000", "8.6"),
        ("NVIDIA RTX 6000 Ada Generation", "8.9"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "12.0"),
        ("NVIDIA H100 80GB HBM3", "9.0"),
        ("NVIDIA H20", "9.0"),
        ("NVIDIA GH200 480GB", "9.0"),
        ("NVIDIA B200", "10.0"),
        ("NVIDIA GB10", "12.1"),
        ("Tesla V100-SXM2-32GB", "7.0"),
        ("Tesla P100-PCIE-16GB", "6.0"),
        ("Tesla P4", "6.1"),
        ("NVIDIA TITAN Xp", "6.1"),
        ("Orin (nvgpu)", "8.7"),
        ("NVIDIA RTX 4000", ""),
        ("Quadro P4000", ""),
        ("AMD Instinct MI300X", ""),
        ("AMD Radeon RX 7900 XTX", ""),
        ("Intel Arc A770", ""),
        ("", ""),
    ],
)
def test_the_compute_capability_by_name(gpu: str, capability: str) -> None:
    """A name means one GPU: no A100 is an A10, no L40S an L4; a name that may mean two tells nothing."""
    assert capability == compute_capability(gpu)


def test_a_told_compute_capability_is_not_guessed() -> None:
    """What the text says counts more than what the name suggests."""
    assert told("GPU 0: NVIDIA A100\nGPU 0 Compute Capability: 8.9\n")["gpu.0.compute_capability"] == "8.9"


# --- engines


def test_vllms_banner_of_v0() -> None:
    """Version, the arguments of the command line, and those of the engine; None is no value."""
    assert placed(
        """\
INFO 01-10 07:27:16 api_server.py:712] vLLM API server version 0.6.6
INFO 01-10 07:27:16 api_server.py:713] args: Namespace(host=None, port=8000, model='Qwen/Qwen2.5-7B', tensor_parallel_size=2, enable_lora=False, gpu_memory_utilization=0.9)
INFO 01-10 07:27:20 llm_engine.py:234] Initializing an LLM engine (v0.6.6) with config: model='Qwen/Qwen2.5-7B', speculative_config=None, dtype=torch.bfloat16, max_seq_len=32768
"""
    ) == {
        "engine.name": ("vllm", 1),
        "engine.version": ("0.6.6", 1),
        "vllm.version": ("0.6.6", 1),
        "launch.arg.port": ("8000", 2),
        "launch.arg.model": ("Qwen/Qwen2.5-7B", 2),
        "launch.arg.tensor_parallel_size": ("2", 2),
        "launch.arg.enable_lora": ("False", 2),
        "launch.arg.gpu_memory_utilization": ("0.9", 2),
        "launch.arg.dtype": ("torch.bfloat16", 3),
        "launch.arg.max_seq_len": ("32768", 3),
    }


def test_vllms_banner_of_v1() -> None:
    """The arguments that differ from the default stand in a dictionary."""
    assert placed(
        """\
(APIServer pid=1) INFO 09-10 07:27:16 [api_server.py:1896] vLLM API server version 0.10.2
(APIServer pid=1) INFO 09-10 07:27:16 [utils.py:328] non-default args: {'model': 'Qwen/Qwen3-8B', 'max_model_len': 4096, 'enforce_eager': True}
(EngineCore_DP0 pid=41) INFO 09-10 07:27:20 [core.py:76] Initializing a V1 LLM engine (v0.10.2) with config: model='Qwen/Qwen3-8B', tensor_parallel_size=1
"""
    ) == {
        "engine.name": ("vllm", 1),
        "engine.version": ("0.10.2", 1),
        "vllm.version": ("0.10.2", 1),
        "launch.arg.model": ("Qwen/Qwen3-8B", 2),
        "launch.arg.max_model_len": ("4096", 2),
        "launch.arg.enforce_eager": ("True", 2),
        "launch.arg.tensor_parallel_size": ("1", 3),
    }


def test_sglangs_arguments() -> None:
    """SGLang prints all its arguments at the start."""
    assert told(
        "[2025-03-05 14:28:45] server_args=ServerArgs(model_path='deepseek-ai/DeepSeek-V3', tp_size=8, mem_fraction_static=0.85, quantization=None)\n"
    ) == {
        "engine.name": "sglang",
        "launch.arg.model_path": "deepseek-ai/DeepSeek-V3",
        "launch.arg.tp_size": "8",
        "launch.arg.mem_fraction_static": "0.85",
    }


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("build: 4321 (abcdef12) with cc (Ubuntu 11.4.0) 11.4.0 for x86_64-linux-gnu", "4321"),
        ("build: 4321 (abc) with cc", "4321"),
        ("main: build = 3600 (2fb92678)", "3600"),
        ("version: 4589 (eb7cf15a)", "4589"),
    ],
)
def test_llama_cpps_build(line: str, version: str) -> None:
    """The number of the build is llama.cpp's version."""
    assert {"engine.name": "llama.cpp", "engine.version": version} == told(line + "\n")


def test_llama_cpps_devices() -> None:
    """GGML lists the GPUs with their compute capability."""
    assert placed(
        "ggml_cuda_init: found 1 CUDA devices:\n  Device 0: NVIDIA GeForce RTX 3090, compute capability 8.6, VMM: yes\n"
    ) == {
        "gpu.0.name": ("NVIDIA GeForce RTX 3090", 2),
        "gpu.0.compute_capability": ("8.6", 2),
        "gpu.count": (1, 2),
    }


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "$ vllm serve Qwen/Qwen3-8B --tensor-parallel-size 2 --enforce-eager --max-model-len=4096",
            {"launch.arg.model": "Qwen/Qwen3-8B", "launch.arg.tensor_parallel_size": "2", "launch.arg.enforce_eager": "true",
             "launch.arg.max_model_len": "4096", "engine.name": "vllm"},
        ),
        (
            "python -m vllm.entrypoints.openai.api_server --model 'x/y z' --quantization awq \\",
            {"launch.arg.model": "x/y z", "launch.arg.quantization": "awq", "engine.name": "vllm"},
        ),
        ("python -m sglang.launch_server --model-path x/y --tp 8", {"launch.arg.model_path": "x/y", "launch.arg.tp": "8", "engine.name": "sglang"}),
        ("./llama-server -m a.gguf --n-gpu-layers -1 --flash-attn -c 4096", {"launch.arg.n_gpu_layers": "-1", "launch.arg.flash_attn": "true", "engine.name": "llama.cpp"}),
        ("vllm serve --model x/y --prompt 'unclosed", {"launch.arg.model": "x/y", "launch.arg.prompt": "'unclosed", "engine.name": "vllm"}),
    ],
)  # fmt: skip
def test_command_lines(line: str, expected: dict[str, str]) -> None:
    """Long options with and without values, quoted ones, negative numbers, and quotes that never close."""
    assert expected == told(line + "\n")


# --- paths


def test_a_path_tells_the_python_version() -> None:
    """A traceback's site-packages names the interpreter."""
    assert placed('  File "/venv/lib/python3.11/site-packages/vllm/a.py", line 3, in f\n') == {
        "python.version": ("3.11", 1)
    }


def test_a_told_python_version_counts_more_than_a_path() -> None:
    """A path says less than a statement, whichever comes first."""
    path = '  File "/venv/lib/python3.11/site-packages/vllm/a.py", line 3, in f\n'
    assert placed(path + "Python version: 3.11.9\n" + path) == {"python.version": ("3.11.9", 2)}


# --- any text


def test_facts_have_their_lines_in_every_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """However the text is split, a fact has the line of the file."""
    for name, value in (("CHUNK", 200), ("BEHIND", 300), ("AHEAD", 300), ("LONGEST_LINE", 1000)):
        monkeypatch.setattr(text, name, value)
    filler = "".join(f"line {n}\n" for n in range(1000))
    assert {name: (value, line + 1000) for name, (value, line) in placed(NEW_TABLE + COLLECT_ENV).items()} == placed(
        filler + NEW_TABLE + COLLECT_ENV
    )


def test_a_log_full_of_paths_is_looked_at_for_a_bounded_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log of nothing but tracebacks does not cost a look at every line."""
    monkeypatch.setattr(banner, "MOST_LINES", 10)
    assert told("/lib/python3.11/\n" * 50 + "torch==2.4.0\n") == {"python.version": "3.11"}


LINES = [
    *COLLECT_ENV.splitlines(),
    *NEW_TABLE.splitlines(),
    "vllm serve x --a",
    "args: Namespace(a=1",
    "torch==",
    "GPU 0,,x: y",
    "Device 9: ,",
]


@settings(deadline=None, max_examples=150)
@given(st.lists(st.sampled_from(LINES) | st.text(max_size=30), max_size=30).map("\n".join))
def test_any_text_gives_known_facts_of_its_lines(said: str) -> None:
    """No text stops the reader; each fact is in the catalogue, and on a line of the text."""
    try:
        found = facts(said)
    except InputError:
        return
    for fact in found:
        assert describe(fact.name) is not None
        assert 1 <= fact.line <= said.count("\n") + 1
        assert fact.origin == "the.log"
