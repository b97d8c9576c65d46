"""What `check --deep` tries inside the target interpreter: small programs for any Python from 3.6 on.

They run there with `-c` and use nothing but what is imported at start-up anyway, so that a file of the user's named
like a module of the standard library cannot break the probe itself. Answers go through a pipe of their own
(`name TAB kind TAB value`), away from all that a library may print.
"""

from __future__ import annotations

from msgspec import Struct

_PRELUDE = r"""
import os, sys
def tell(name, value):
    kind = "f" if isinstance(value, bool) else "n" if isinstance(value, (int, float)) else "t"
    text = str(value)[:500].replace("\t", " ").replace("\r", " ").replace("\n", " ")
    os.write(FD, ("%s\t%s\t%s\n" % (name, kind, text)).encode("utf-8", "replace"))
def told_raised(prefix=""):
    kind, error, trace = sys.exc_info()
    tell(prefix + "exception", kind.__name__)
    tell(prefix + "message", str(error))
    while trace.tb_next is not None and trace.tb_frame.f_code.co_filename in ("<string>", "<probe>"):
        trace = trace.tb_next
    sys.__excepthook__(kind, error.with_traceback(trace), trace)
    sys.stderr.flush()
def there(name):
    import importlib.util
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
def leave(status):
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass
    os._exit(status)
FD = int(os.environ.pop("LLMDOCTOR_TOLD_FD"))
try:
    exec(compile(CODE, "<probe>", "exec"), globals())
except BaseException:
    told_raised()
    leave(1)
tell("done", True)
leave(0)
"""


def program(code: str) -> str:
    """A whole program around the code of one probe."""
    return f"CODE = {code!r}\n{_PRELUDE}"


START = """
tell("python", "%d.%d.%d" % sys.version_info[:3])
"""

TORCH = """
if not there("torch"):
    tell("absent", True)
else:
    tell("module", "torch")
    import torch
    tell("runtime_version", torch.__version__)
    tell("file", getattr(torch, "__file__", None) or "")
    for name in ("cuda", "hip"):
        if getattr(torch.version, name, None):
            tell("runtime_" + name, getattr(torch.version, name))
    abi = getattr(torch._C, "_GLIBCXX_USE_CXX11_ABI", None)
    if isinstance(abi, bool):
        tell("cxx11_abi", abi)
    flags = getattr(torch._C, "_cuda_getArchFlags", None)
    if flags is not None and flags():
        tell("arch_list", flags())
"""

CUDA = """
import torch
available = bool(torch.cuda.is_available())
tell("available", available)
if not available and WANTED:
    torch.cuda.init()
if available:
    count = torch.cuda.device_count()
    torch.cuda.init()
    tell("device_count", count)
    for index in range(min(count, 64)):
        tell("device.%d.capability" % index, "%d.%d" % tuple(torch.cuda.get_device_capability(index)))
        tell("device.%d.name" % index, torch.cuda.get_device_name(index))
    if getattr(torch.version, "cuda", None):
        try:
            version = torch.backends.cudnn.version()
            if version:
                tell("cudnn", str(version))
        except Exception:
            told_raised("cudnn.")
        try:
            version = torch.cuda.nccl.version()
            tell("nccl", ".".join(str(part) for part in version) if isinstance(version, tuple) else str(version))
        except Exception:
            pass
"""

PRODUCT = """
import torch
tell("torch", torch.__version__)
device = torch.device(DEVICE)
capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
names = ["float32", "bfloat16"] if device.type == "cpu" else ["float32", "float16", "bfloat16"]
if capability is not None and not getattr(torch.version, "hip", None) and capability < (8, 0):
    names.remove("bfloat16")
size = 128
left = ((torch.arange(size * size, dtype=torch.float32) * 37 % 101 - 50) / 50).reshape(size, size)
right = ((torch.arange(size * size, dtype=torch.float32) * 61 % 97 - 48) / 48).reshape(size, size)
failed = False
for name in names:
    tell("doing", name)
    dtype = getattr(torch, name)
    a, b = left.to(dtype), right.to(dtype)
    wanted = a.double() @ b.double()
    try:
        got = (a.to(device) @ b.to(device)).cpu().double()
    except Exception as error:
        tell(name + ".result", "failed")
        told_raised(name + ".")
        failed = True
        if "CUDA error" in str(error) or "HIP error" in str(error):
            break
        continue
    off = float((got - wanted).abs().max() / wanted.abs().max())
    right_enough = off <= (0.05 if name == "bfloat16" else 0.01)
    tell(name + ".off", "%.3g" % off)
    tell(name + ".result", "ok" if right_enough else "wrong")
for name in ("float8_e4m3fn", "float8_e5m2"):
    if device.type == "cpu" or failed or not hasattr(torch, name):
        continue
    tell("doing", name)
    dtype = getattr(torch, name)
    try:
        wanted = left.to(dtype).float()
    except Exception:
        continue
    try:
        got = left.to(device).to(dtype).float().cpu()
    except Exception:
        tell(name + ".result", "failed")
        told_raised(name + ".")
        continue
    tell(name + ".result", "ok" if bool((got == wanted).all()) else "wrong")
"""

COLLECTIVE = """
import datetime
import torch
import torch.distributed as dist
if not dist.is_available() or (BACKEND == "nccl" and not dist.is_nccl_available()):
    tell("skipped", "this torch is built without it")
else:
    if BACKEND == "nccl":
        torch.cuda.set_device(RANK)
    dist.init_process_group(BACKEND, init_method="file://" + MEETING, rank=RANK, world_size=RANKS,
                            timeout=datetime.timedelta(seconds=SECONDS))
    device = "cuda:%d" % RANK if BACKEND == "nccl" else "cpu"
    values = torch.ones(1 << 16, device=device) * (RANK + 1)
    dist.all_reduce(values)
    wanted = RANKS * (RANKS + 1) / 2
    tell("right", bool((values.cpu() == wanted).all()))
    dist.destroy_process_group()
"""

NUMPY_BRIDGE = """
import numpy
import torch
tell("module", "torch.from_numpy")
values = numpy.arange(6, dtype=numpy.float32)
if torch.from_numpy(values).sum().item() != 15.0 or torch.ones(3).numpy().sum() != 3.0:
    raise ValueError("torch and NumPy read different numbers from the same memory")
"""


class Package(Struct, frozen=True):
    """What is imported of a distribution: its modules in order, and names looked up in them (`module:Name`).

    `maybe` are modules that only some builds have. Many packages import a class's file only when its name is asked for:
    `lazy` marks a probe of such names beside the plain import. `torch` is must (not tried without), may (not tried if
    torch is broken) or free. `gpu`: it is made for a GPU, and importing it without one tells nothing. `also` is
    a distribution that must be there too; `heavy` ones get more time. `then` is code that finds out what the import
    keeps to itself: several packages load a compiled part, note that it failed, and go on.
    """

    probe: str
    distributions: tuple[str, ...]
    modules: tuple[str, ...]
    maybe: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    torch: str = "must"
    gpu: bool = False
    lazy: bool = False
    also: str = ""
    heavy: bool = False
    then: str = ""

    @property
    def what(self) -> str:
        """What is tried, as a Python statement."""
        if self.lazy:
            module, _, name = self.names[-1].partition(":")
            return f"from {module} import {name}"
        return f"import {(self.maybe or self.modules)[-1]}"


_TORCHVISION = "torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)"

_XFORMERS = """
kept = getattr(getattr(xformers, "_cpp_lib", None), "_cpp_library_load_exception", None)
if type(kept).__name__ == "xFormersInvalidLibException":
    raise kept
"""

_BITSANDBYTES = """
kept = getattr(getattr(bitsandbytes, "cextension", None), "lib", None)
if "ErrorHandlerMock" in type(kept).__name__ and torch.cuda.is_available():
    raise RuntimeError(getattr(kept, "formatted_error", "bitsandbytes could not load its native library"))
"""

PACKAGES: tuple[Package, ...] = (
    Package("numpy", ("numpy",), ("numpy",), torch="free"),
    Package("triton", ("triton", "pytorch-triton", "pytorch-triton-rocm", "triton-rocm"), ("triton",), torch="free"),
    Package("torchvision", ("torchvision",), ("torchvision",), then=_TORCHVISION),
    Package("torchaudio", ("torchaudio",), ("torchaudio",)),
    Package("tokenizers", ("tokenizers",), ("tokenizers",), torch="free"),
    Package("transformers", ("transformers",), ("transformers",), torch="may",
            names=("transformers:AutoConfig", "transformers:AutoTokenizer")),
    Package("transformers-model", ("transformers",), ("transformers",), lazy=True,
            names=("transformers:AutoModelForCausalLM", "transformers:LlamaForCausalLM")),
    Package("datasets", ("datasets",), ("datasets",), torch="may"),
    Package("accelerate", ("accelerate",), ("accelerate",)),
    Package("transformers-trainer", ("transformers",), ("transformers",), lazy=True, also="accelerate",
            names=("transformers:Trainer",)),
    Package("peft", ("peft",), ("peft",), names=("peft:LoraConfig", "peft:get_peft_model")),
    Package("trl", ("trl",), ("trl",)),
    Package("trl-trainer", ("trl",), ("trl",), lazy=True, names=("trl:SFTTrainer",)),
    Package("bitsandbytes", ("bitsandbytes",), ("bitsandbytes",), then=_BITSANDBYTES),
    Package("flash-attn", ("flash-attn",), ("flash_attn",), maybe=("flash_attn_2_cuda",)),
    Package("xformers", ("xformers",), ("xformers.ops",), then=_XFORMERS),
    Package("flashinfer", ("flashinfer-python", "flashinfer"), ("flashinfer",), gpu=True),
    Package("deepspeed", ("deepspeed",), ("deepspeed",), heavy=True),
    Package("torchao", ("torchao",), ("torchao",)),
    Package("llama-cpp", ("llama-cpp-python",), ("llama_cpp",), torch="free"),
    Package("auto-gptq", ("auto-gptq",), ("auto_gptq",)),
    Package("gptqmodel", ("gptqmodel",), ("gptqmodel",)),
    Package("autoawq", ("autoawq",), ("awq",)),
    Package("sgl-kernel", ("sgl-kernel", "sglang-kernel"), ("sgl_kernel",), gpu=True),
    Package("sglang", ("sglang",), ("sglang",), gpu=True, heavy=True),
    Package("vllm", ("vllm",), ("vllm",), heavy=True),
    Package("vllm-kernels", ("vllm",), ("vllm",), maybe=("vllm._C",), gpu=True, heavy=True),
    Package("vllm-engine", ("vllm",), ("vllm",), lazy=True, names=("vllm:LLM",), gpu=True, heavy=True),
    Package("unsloth", ("unsloth",), ("unsloth",), gpu=True, heavy=True),
)  # fmt: skip
"""What is imported, in this order. A package that changes others when it is imported comes last."""


def importing(package: Package) -> str:
    """The code that imports a package. Before each step it tells the module, and a statement to try it by hand."""
    first = "torch, " if package.torch == "must" else ""
    lines = [f"import {first.rstrip(', ')}"] if first else []
    for module in package.modules:
        lines += _step(module, f"import {first}{module}")
    for module in package.maybe:
        lines += [f"if there({module!r}):", *(f"    {line}" for line in _step(module, f"import {first}{module}"))]
    for name in package.names:
        module, _, attribute = name.partition(":")
        lines += _step(f"{module}.{attribute}", f"from {module} import {attribute}")
    return "\n".join([*lines, package.then])


def _step(module: str, statement: str) -> list[str]:
    return [f"tell('module', {module!r}); tell('statement', {statement!r})", statement]
