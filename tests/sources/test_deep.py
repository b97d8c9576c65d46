"""Deep checks against interpreters made for the test: broken, hanging, hostile, old, and healthy ones."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from diagnose.causes import diagnose
from diagnose.collect import case_of_text
from diagnose.facts import describe
from diagnose.match import match
from diagnose.model import Case, Diagnosis, Fact, Output, Reading, Step, Unchecked
from diagnose.ruleset import RuleSet, load
from diagnose.sources import deep, probes
from diagnose.sources.deep import Limits, where_it_was

TORCH = {"torch": "9.9.9"}
TYPES: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "version": (str,),
    "number": (int, float),
    "bytes": (int,),
    "flag": (bool,),
}

FAKE_TORCH = '''
"""As much of torch as the probes ask for. Numbers are right unless WRONG names the device and dtype."""
import os
__version__ = "9.9.9+fake"
class version:
    cuda = os.environ.get("FAKE_CUDA")
class _C:
    _GLIBCXX_USE_CXX11_ABI = True
    @staticmethod
    def _cuda_getArchFlags(): return "sm_80 sm_90"
float32, float16, bfloat16, float64 = "float32", "float16", "bfloat16", "float64"
class device:
    def __init__(self, name): self.name = name; self.type = name.partition(":")[0]
class Tensor:
    def __init__(self, device="cpu", dtype="float32", was=()): self.device, self.dtype, self.was = device, dtype, was
    def to(self, other):
        if isinstance(other, device): return Tensor(other.name, self.dtype, self.was)
        return Tensor(self.device, other, self.was)
    def __matmul__(self, other):
        if os.environ.get("FAILING") == self.device: raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if os.environ.get("HANGING") == self.device: import time; time.sleep(600)
        return Tensor(self.device, self.dtype, self.was + (self.device + " " + self.dtype,))
    def same(self, *_): return self
    cpu = double = float = abs = max = all = reshape = sum = __add__ = __sub__ = __mul__ = __mod__ = __truediv__ = same
    def __eq__(self, other): return self
    def __bool__(self): return not os.environ.get("WRONG_SUM")
    def __float__(self): return 0.5 if os.environ.get("WRONG") in self.was else 0.0
def arange(*_, **__): return Tensor()
def ones(*_, **__): return Tensor()
class cuda:
    @staticmethod
    def is_available(): return bool(os.environ.get("FAKE_GPUS"))
    @staticmethod
    def init():
        if not os.environ.get("FAKE_GPUS"): raise RuntimeError("No CUDA GPUs are available")
    @staticmethod
    def device_count(): return int(os.environ["FAKE_GPUS"])
    @staticmethod
    def get_device_capability(_): return (9, 0)
    @staticmethod
    def get_device_name(_): return "A GPU"
    @staticmethod
    def set_device(_): pass
    class nccl:
        @staticmethod
        def version(): return (2, 30, 1)
class backends:
    class cudnn:
        @staticmethod
        def version(): return 91002
from . import distributed
'''

FAKE_DISTRIBUTED = """
import os, time
def is_available(): return True
def is_nccl_available(): return True
def init_process_group(backend, init_method, rank, world_size, timeout):
    if os.environ.get("HANGING") == "%s-%d" % (backend, world_size): waits()
    if os.environ.get("FAILING") == "%s-%d" % (backend, world_size):
        if rank == 1 or world_size == 1: raise RuntimeError("NCCL error: unhandled system error")
        waits()
def waits(): time.sleep(600)
def all_reduce(_): pass
def destroy_process_group(): pass
"""


class Target:
    """An interpreter of its own, and the folder of its packages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        self.packages = next(folder.glob("lib/python3*/site-packages"))

    def add(self, name: str, text: str) -> Target:
        """Write a module or a file of a package."""
        file = self.packages / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text), encoding="utf-8")
        return self

    def torch(self) -> Target:
        return self.add("torch/__init__.py", FAKE_TORCH).add("torch/distributed.py", FAKE_DISTRIBUTED)

    def files(self) -> dict[str, int]:
        return {str(path): path.lstat().st_mtime_ns for path in sorted(self.folder.rglob("*"))}


@pytest.fixture(scope="session")
def empty_venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("venv") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=300)
    return folder


@pytest.fixture
def target(empty_venv: Path, tmp_path: Path) -> Target:
    shutil.copytree(empty_venv, tmp_path / "target", symlinks=True)
    return Target(tmp_path / "target")


@pytest.fixture
def look(target: Target, tmp_path: Path) -> Iterator[Callable[..., Told]]:
    """Run the deep checks on the target; afterwards nothing of them is left, and the target is as it was."""
    work = tmp_path / "work"
    work.mkdir()
    temp = tmp_path / "temp"
    temp.mkdir()

    def run(installed: Mapping[str, str], *, gpus: int = 0, limits: Limits | None = None, **environ: str) -> Told:
        before = target.files()
        given = {"PATH": os.environ["PATH"], **environ}
        readings = list(deep.read(str(target.python), given, installed, gpus, str(work), limits))
        assert target.files() == before
        return Told(readings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(temp))
        yield run
    assert list(temp.iterdir()) == []
    assert not [path for path in work.iterdir() if path.suffix != ".py"]


class Told:
    """What the source yielded, by kind. Every fact must stand in the catalogue, with its type, and be told once."""

    def __init__(self, readings: list[Reading]) -> None:
        facts = [reading for reading in readings if isinstance(reading, Fact)]
        self.facts: dict[str, Any] = {fact.name: fact.value for fact in facts}
        self.listed = tuple(facts)
        self.steps = [reading.doing for reading in readings if isinstance(reading, Step)]
        self.outputs = {reading.origin: reading.text for reading in readings if isinstance(reading, Output)}
        self.unchecked = {reading.what: reading.why for reading in readings if isinstance(reading, Unchecked)}
        assert len(facts) == len(self.facts)
        for fact in facts:
            kind = describe(fact.name)
            assert kind is not None, fact.name
            assert kind.owner in ("deep", "banner"), fact.name
            assert type(fact.value) in TYPES[kind.type], fact

    def diagnosis(self, rules: RuleSet) -> Diagnosis:
        parts = [case_of_text(rules, text, origin) for origin, text in self.outputs.items()]
        case = Case(
            self.listed,
            tuple(event for part in parts for event in part.events),
            origins=tuple(part.origins[0] for part in parts),
            machine=True,
        )
        return diagnose(rules, case, match(rules, case))


@pytest.fixture(scope="module")
def rules() -> RuleSet:
    return load()


Look = Callable[..., Told]
BRIEF = Limits(start=3, torch=3, device=3, collective=3, package=3, heavy=3)


def test_a_healthy_environment_is_found_healthy(look: Look, target: Target, rules: RuleSet) -> None:
    """Two GPUs, torch and a package: every probe is ok, nothing is printed, and no rule finds anything."""
    target.torch().add("peft/__init__.py", "class LoraConfig: pass\ndef get_peft_model(): pass\n")
    told = look(TORCH | {"peft": "1.0"}, gpus=2, FAKE_GPUS="2", FAKE_CUDA="13.0")
    results = {name: value for name, value in told.facts.items() if name.endswith(".result")}
    assert set(results.values()) == {"ok"}
    assert {"probe.python.result", "probe.torch.result", "probe.cuda.result", "probe.peft.result"} <= results.keys()
    assert {"product.cpu-float32.result", "product.cuda1-bfloat16.result"} <= results.keys()
    assert {"collective.gloo-1.result", "collective.gloo-2.result", "collective.nccl-2.result"} <= results.keys()
    assert told.facts["torch.runtime_device_count"] == 2
    assert told.facts["torch.arch_list"] == "sm_80 sm_90"
    assert told.facts["torch.device.1.capability"] == "9.0"
    assert told.facts["torch.runtime_nccl"] == "2.30.1"
    assert told.outputs == {}
    assert told.unchecked == {}
    assert told.diagnosis(rules).diagnoses == ()


def test_no_gpu_is_no_fault(look: Look, target: Target, rules: RuleSet) -> None:
    """Without a GPU torch cannot use CUDA, and that is said and blamed on nothing; what needs one is not tried."""
    target.torch().add("sglang/__init__.py", "raise RuntimeError('no GPU')")
    told = look(TORCH | {"sglang": "1.0"}, FAKE_CUDA="13.0")
    assert told.facts["cuda.available"] is False
    assert told.outputs == {}
    assert "import sglang" in told.unchecked
    assert told.diagnosis(rules).diagnoses == ()


def test_every_probe_is_announced(look: Look, target: Target) -> None:
    """Before each probe a step says what comes, so that a hang can be told by its place."""
    told = look(TORCH | {"numpy": "2"}, limits=BRIEF)
    assert told.steps[:2] == ["start the interpreter", "import torch"]
    assert "import numpy" in told.steps


class TestTorch:
    def test_a_library_that_is_missing_is_told_by_the_traceback(
        self, look: Look, target: Target, rules: RuleSet
    ) -> None:
        """An ImportError of torch is diagnosed like a pasted one; that torch does not import hangs under it."""
        message = "libcudart.so.12: cannot open shared object file: No such file or directory"
        target.add("torch/__init__.py", f"def load(): raise ImportError({message!r})\nload()\n")
        told = look(TORCH | {"accelerate": "1.0", "numpy": "2.0"})
        assert told.facts["probe.torch.result"] == "failed"
        assert told.facts["probe.torch.exception"] == "ImportError"
        assert told.facts["probe.torch.message"] == message
        assert "<string>" not in told.outputs["deep: import torch"]
        assert told.unchecked["import accelerate"] == "torch does not import"
        first = told.diagnosis(rules).diagnoses[0]
        assert first.rule == "cuda-library-not-found"
        assert "torch-import-fails" in [symptom.rule for symptom in first.symptoms]

    def test_a_hang_is_told_with_its_place(self, look: Look, target: Target, rules: RuleSet) -> None:
        """torch that never comes back is a hang of its own kind, with the line where it stands."""
        target.add("torch/__init__.py", "import time\ndef waits(): time.sleep(600)\nwaits()\n")
        told = look(TORCH | {"peft": "1.0"}, limits=BRIEF)
        assert told.facts["probe.torch.result"] == "hang"
        assert told.facts["probe.torch.frame"] == "torch/__init__.py:2 in waits"
        assert " in waits" in told.outputs["deep: import torch"]
        assert told.unchecked["import peft"] == "torch does not import"
        assert [cause.rule for cause in told.diagnosis(rules).diagnoses] == ["torch-import-hangs"]

    def test_a_crash_is_told_with_its_signal_and_place(self, look: Look, target: Target, rules: RuleSet) -> None:
        """SIGSEGV while torch is imported: the signal, the line, and the log's own rule below it."""
        target.add(
            "torch/__init__.py", "import os, signal\ndef crashes(): os.kill(os.getpid(), signal.SIGSEGV)\ncrashes()\n"
        )
        told = look(TORCH)
        assert told.facts["probe.torch.result"] == "signal"
        assert told.facts["probe.torch.signal"] == "SIGSEGV"
        assert told.facts["probe.torch.frame"] == "torch/__init__.py:2 in crashes"
        first = told.diagnosis(rules).diagnoses[0]
        assert first.rule == "torch-import-crashes"
        assert [symptom.rule for symptom in first.symptoms] == ["process-segmentation-fault"]

    def test_killed_for_its_memory(self, look: Look, target: Target, rules: RuleSet) -> None:
        """SIGKILL leaves no text; the fact alone tells it."""
        target.add("torch/__init__.py", "import os; os.kill(os.getpid(), 9)")
        told = look(TORCH)
        assert told.facts["probe.torch.signal"] == "SIGKILL"
        assert [cause.rule for cause in told.diagnosis(rules).diagnoses] == ["import-killed-from-outside"]

    def test_absent_is_not_broken(self, look: Look, target: Target, rules: RuleSet) -> None:
        """No torch and nothing that needs it is no fault; with something that does, it is the cause."""
        told = look({})
        assert told.facts["probe.torch.result"] == "absent"
        assert told.outputs == {}
        assert told.diagnosis(rules).diagnoses == ()
        told = look({"accelerate": "1.0", "peft": "1.0"})
        assert told.facts["probe.torch.needed_by"] == "accelerate, peft"
        assert told.unchecked["import peft"] == "torch is not there"
        assert [cause.rule for cause in told.diagnosis(rules).diagnoses] == ["torch-absent-though-needed"]

    @pytest.mark.parametrize(
        "code", ["raise SystemExit(0)", "import os; os._exit(0)", "import sys; sys.exit('no licence')"]
    )
    def test_leaving_the_process_is_a_failure(self, look: Look, target: Target, code: str) -> None:
        """A module that ends the process, even with code 0, did not import."""
        target.add("torch/__init__.py", code)
        assert look(TORCH).facts["probe.torch.result"] == "failed"

    def test_hostile_values_are_kept_as_text(self, look: Look, target: Target) -> None:
        """A version with line breaks and tabs, output of garbage: facts of the right type, text that can be shown."""
        target.torch()
        target.add("torch/garbage.py", "import sys; sys.stdout.buffer.write(bytes(range(256)) * 4096)")
        with (target.packages / "torch" / "__init__.py").open("a") as stream:
            stream.write(
                'from . import garbage\n__version__ = "9\\n\\tdone\\tf\\tTrue" + "x" * 10000\nraise ValueError("\\x00" * 10)\n'
            )
        told = look(TORCH)
        assert told.facts["probe.torch.result"] == "failed"
        assert "\0" not in told.outputs["deep: import torch"]

    def test_a_file_of_the_user_is_seen_as_the_user_has_it(self, look: Look, target: Target, tmp_path: Path) -> None:
        """Probes run in the user's folder, so a `torch.py` there shadows torch; a `json.py` there breaks no probe."""
        target.torch()
        (tmp_path / "work" / "json.py").write_text("raise RuntimeError('mine')\n")
        assert look(TORCH).facts["probe.torch.result"] == "ok"
        (tmp_path / "work" / "torch.py").write_text("raise RuntimeError('mine')\n")
        told = look(TORCH)
        assert told.facts["probe.torch.message"] == "mine"

    def test_settings_keep_it_quiet(self, look: Look, target: Target) -> None:
        """Probes are offline, report nothing, and keep the user's own variables."""
        target.add(
            "torch/__init__.py",
            "import os\nraise ValueError(' '.join(os.environ.get(n, '-') for n in "
            "('HF_HUB_OFFLINE', 'VLLM_NO_USAGE_STATS', 'DO_NOT_TRACK', 'PYTHONDONTWRITEBYTECODE', 'MINE')))",
        )
        assert look(TORCH, MINE="kept").facts["probe.torch.message"] == "1 1 1 1 kept"


class TestDevices:
    def test_cuda_that_is_not_usable_gives_its_reason(self, look: Look, target: Target, rules: RuleSet) -> None:
        """GPUs are there, torch is built for CUDA and cannot use it: it is asked why, and that is the cause."""
        target.torch()
        told = look(TORCH, gpus=1, FAKE_CUDA="13.0")
        assert told.facts["cuda.available"] is False
        case = told.diagnosis(rules).diagnoses
        assert [cause.rule for cause in case] == ["no-cuda-device-visible"]

    @pytest.mark.parametrize("value", ["", "-1", " "])
    def test_gpus_that_were_hidden_are_no_fault(self, look: Look, target: Target, rules: RuleSet, value: str) -> None:
        """CUDA_VISIBLE_DEVICES hides them all: nothing is blamed."""
        target.torch()
        told = look(TORCH, gpus=1, FAKE_CUDA="13.0", CUDA_VISIBLE_DEVICES=value)
        assert told.facts["probe.cuda.hidden"] is True
        assert told.diagnosis(rules).diagnoses == ()

    def test_wrong_numbers_are_found(self, look: Look, target: Target, rules: RuleSet) -> None:
        """One device that computes wrong in one dtype is told apart from all that is right."""
        target.torch()
        told = look(TORCH, gpus=2, FAKE_GPUS="2", FAKE_CUDA="13.0", WRONG="cuda:1 float16")
        wrong = [name for name, value in told.facts.items() if value == "wrong"]
        assert wrong == ["product.cuda1-float16.result"]
        assert told.facts["product.cuda1-float16.off"] == "0.5"
        assert [cause.rule for cause in told.diagnosis(rules).diagnoses] == ["device-computes-wrong-numbers"]

    def test_an_error_on_one_device_leaves_the_others(self, look: Look, target: Target, rules: RuleSet) -> None:
        """After a CUDA error the context is dead, so no more dtypes are tried there; other devices are."""
        target.torch()
        told = look(TORCH, gpus=2, FAKE_GPUS="2", FAKE_CUDA="13.0", FAILING="cuda:0")
        assert told.facts["product.cuda0-float32.result"] == "failed"
        assert "product.cuda0-float16.result" not in told.facts
        assert told.facts["product.cuda1-float16.result"] == "ok"
        assert told.diagnosis(rules).diagnoses[0].rule == "illegal-memory-access"

    def test_a_device_that_hangs(self, look: Look, target: Target, rules: RuleSet) -> None:
        """A product that never ends is a hang of that device and dtype."""
        target.torch()
        told = look(TORCH, gpus=1, limits=BRIEF, FAKE_GPUS="1", FAKE_CUDA="13.0", HANGING="cuda:0")
        assert told.facts["product.cuda0-float32.result"] == "hang"
        assert told.facts["product.cpu-float32.result"] == "ok"
        assert told.diagnosis(rules).diagnoses[0].rule == "device-hangs-in-small-product"


class TestCollectives:
    def test_a_hang_over_all_devices(self, look: Look, target: Target, rules: RuleSet) -> None:
        """NCCL works on one device and hangs over two: that is told, with the place of each process."""
        target.torch()
        told = look(TORCH, gpus=2, limits=BRIEF, FAKE_GPUS="2", FAKE_CUDA="13.0", HANGING="nccl-2")
        assert told.facts["collective.nccl-1.result"] == "ok"
        assert told.facts["collective.nccl-2.result"] == "hang"
        assert told.facts["collective.nccl-2.frame"] == "torch/distributed.py:10 in waits"
        assert "[rank1]: " in told.outputs["deep: a nccl collective of 2 processes"]
        assert [cause.rule for cause in told.diagnosis(rules).diagnoses] == ["nccl-collective-hangs"]

    def test_the_process_that_failed_speaks_for_those_that_waited(self, look: Look, target: Target) -> None:
        """One rank fails and the other waits for it: failed, with the words of the one that failed."""
        target.torch()
        told = look(TORCH, gpus=2, FAKE_GPUS="2", FAKE_CUDA="13.0", FAILING="nccl-2")
        assert told.facts["collective.nccl-2.result"] == "failed"
        text = told.outputs["deep: a nccl collective of 2 processes"]
        assert "[rank1]: RuntimeError: NCCL error" in text
        assert "[rank0]" not in text

    def test_what_fails_alone_is_not_tried_together(self, look: Look, target: Target) -> None:
        """NCCL that fails on one device is not tried over all of them."""
        target.torch()
        told = look(TORCH, gpus=2, FAKE_GPUS="2", FAKE_CUDA="13.0", FAILING="nccl-1")
        assert told.facts["collective.nccl-1.result"] == "failed"
        assert told.unchecked["a nccl collective of 2 processes"] == "nccl does not work in one process"

    def test_a_wrong_sum(self, look: Look, target: Target, rules: RuleSet) -> None:
        """A sum that comes back wrong is a finding though nothing was raised."""
        target.torch()
        told = look(TORCH, WRONG_SUM="1")
        assert told.facts["collective.gloo-1.result"] == "wrong"
        assert told.diagnosis(rules).diagnoses[0].rule == "collective-sums-wrong"


class TestPackages:
    def test_a_class_that_is_imported_late(self, look: Look, target: Target, rules: RuleSet) -> None:
        """`import transformers` works and its class does not: the probe asks for the class."""
        target.torch()
        target.add(
            "transformers/__init__.py",
            """
            AutoConfig = AutoTokenizer = AutoModelForCausalLM = None
            def __getattr__(name):
                if name == "LlamaForCausalLM":
                    from flash_attn import flash_attn_func
                raise AttributeError(name)
            """,
        )
        target.add(
            "flash_attn.py", "raise ImportError('flash_attn_2_cuda.so: undefined symbol: _ZN3c104cuda9SetDeviceEi')"
        )
        told = look(TORCH | {"transformers": "5.0"})
        assert told.facts["probe.transformers.result"] == "ok"
        assert told.facts["probe.transformers-model.result"] == "failed"
        assert told.facts["probe.transformers-model.lazy"] is True
        assert told.facts["probe.transformers-model.statement"] == "from transformers import LlamaForCausalLM"
        first = told.diagnosis(rules).diagnoses[0]
        assert first.kind != "wrapper"
        assert "lazy-import-fails" in [symptom.rule for symptom in first.symptoms]

    def test_a_compiled_part_behind_a_plain_import(self, look: Look, target: Target) -> None:
        """`import vllm` works and its compiled part does not: the part is imported by its name."""
        target.torch().add("vllm/__init__.py", "LLM = 1").add("vllm/_C.py", "raise ImportError('undefined symbol: x')")
        told = look(TORCH | {"vllm": "1.0"}, gpus=1, FAKE_GPUS="1", FAKE_CUDA="13.0")
        assert told.facts["probe.vllm.result"] == "ok"
        assert told.facts["probe.vllm-kernels.result"] == "failed"
        assert told.facts["probe.vllm-kernels.module"] == "vllm._C"
        assert told.unchecked["from vllm import LLM"] == "vllm does not import"

    def test_a_hang_and_a_crash_leave_the_next_ones(self, look: Look, target: Target, rules: RuleSet) -> None:
        """A package that hangs and one that crashes are told; the others are still tried."""
        target.torch().add("tokenizers.py", "import time\ntime.sleep(600)\n")
        target.add("accelerate.py", "import os, signal\nos.kill(os.getpid(), signal.SIGBUS)\n").add("torchao.py", "")
        told = look(TORCH | {"tokenizers": "1", "accelerate": "1", "torchao": "1"}, limits=BRIEF)
        assert told.facts["probe.tokenizers.result"] == "hang"
        assert told.facts["probe.accelerate.signal"] == "SIGBUS"
        assert told.facts["probe.torchao.result"] == "ok"
        found = {cause.rule for cause in told.diagnosis(rules).diagnoses}
        assert found == {"package-import-hangs", "package-import-crashes"}

    def test_numpy_that_torch_cannot_use(self, look: Look, target: Target, rules: RuleSet) -> None:
        """Both import, and exchanging arrays fails: told as such, with the reason first."""
        target.torch().add("numpy.py", "float32 = 1\ndef arange(*_, **__): return 1\n")
        with (target.packages / "torch" / "__init__.py").open("a") as stream:
            stream.write("def from_numpy(_): raise RuntimeError('Numpy is not available')\n")
        told = look(TORCH | {"numpy": "2.0"})
        assert told.facts["probe.numpy.result"] == "ok"
        assert told.facts["probe.numpy-bridge.result"] == "failed"
        first = told.diagnosis(rules).diagnoses[0]
        assert first.rule == "numpy2-binary-break"
        assert [symptom.rule for symptom in first.symptoms] == ["numpy-and-torch-cannot-share"]

    def test_a_failure_that_an_import_keeps_to_itself(self, look: Look, target: Target, rules: RuleSet) -> None:
        """xFormers notes that its compiled part failed and goes on; the probe asks for that note."""
        target.torch().add("xformers/ops.py", "").add("xformers/__init__.py", "from . import _cpp_lib\n")
        target.add(
            "xformers/_cpp_lib.py",
            """
            class xFormersInvalidLibException(Exception): pass
            try:
                raise OSError("libcudart.so.12: cannot open shared object file: No such file or directory")
            except OSError as error:
                _cpp_library_load_exception = xFormersInvalidLibException("xFormers can't load C++/CUDA extensions. xFormers was built for:")
                _cpp_library_load_exception.__cause__ = error
                print("WARNING[XFORMERS]:", _cpp_library_load_exception)
            """,
        )
        told = look(TORCH | {"xformers": "0.0.35"})
        assert told.facts["probe.xformers.exception"] == "xFormersInvalidLibException"
        assert "libcudart.so.12" in told.outputs["deep: import xformers.ops"]
        assert told.diagnosis(rules).diagnoses[0].rule == "xformers-built-for-other-torch"

    @pytest.mark.parametrize(("gpus", "result"), [("", "ok"), ("1", "failed")])
    def test_a_native_library_that_only_a_gpu_needs(self, look: Look, target: Target, gpus: str, result: str) -> None:
        """bitsandbytes without its native library is broken on a GPU, and works without one."""
        target.torch().add("bitsandbytes/__init__.py", "from . import cextension\n")
        target.add(
            "bitsandbytes/cextension.py",
            "class ErrorHandlerMockBNBNativeLibrary: formatted_error = 'Required library version not found'\n"
            "lib = ErrorHandlerMockBNBNativeLibrary()\n",
        )
        told = look(TORCH | {"bitsandbytes": "0.50"}, gpus=len(gpus), FAKE_GPUS=gpus, FAKE_CUDA="13.0")
        assert told.facts["probe.bitsandbytes.result"] == result

    def test_only_what_is_installed_is_tried(self, look: Look, target: Target) -> None:
        """A module that lies there without being an installed distribution is not imported."""
        target.torch().add("vllm/__init__.py", "raise RuntimeError")
        assert "probe.vllm.result" not in look(TORCH).facts


class TestInterpreter:
    def test_one_that_is_gone(self, tmp_path: Path) -> None:
        """A path with nothing there: told as not startable, and nothing else is tried."""
        told = Told(list(deep.read(str(tmp_path / "python"), {}, TORCH, 0, str(tmp_path))))
        assert told.facts["probe.python.refused"] == "No such file or directory"
        assert list(told.unchecked) == ["the deep checks"]

    def test_one_that_may_not_be_executed(self, tmp_path: Path, rules: RuleSet) -> None:
        """No permission: told with the system's reason."""
        file = tmp_path / "python"
        file.write_text("#!/bin/sh\n")
        file.chmod(0o644)
        told = Told(list(deep.read(str(file), {}, TORCH, 0, str(tmp_path))))
        assert told.facts["probe.python.refused"] == "Permission denied"
        assert [cause.rule for cause in told.diagnosis(rules).diagnoses] == ["interpreter-cannot-be-executed"]

    def test_a_folder_that_is_gone(self, target: Target, tmp_path: Path) -> None:
        """It is the folder that is blamed then, not the interpreter."""
        told = Told(list(deep.read(str(target.python), {}, TORCH, 0, str(tmp_path / "gone"))))
        assert "cannot be entered" in told.unchecked["the deep checks"]
        assert "probe.python.result" not in told.facts

    @pytest.mark.parametrize(
        ("code", "result", "rule"),
        [
            ("import time\ntime.sleep(600)\n", "hang", "startup-file-hangs-interpreter"),
            ("import os\nos._exit(7)\n", "failed", "startup-file-breaks-interpreter"),
            ("import os\nos.kill(os.getpid(), 11)\n", "signal", "startup-file-breaks-interpreter"),
        ],
        ids=["hangs", "leaves", "crashes"],
    )
    def test_a_start_up_file_that_stops_it(
        self, look: Look, target: Target, rules: RuleSet, code: str, result: str, rule: str
    ) -> None:
        """sitecustomize.py that hangs or ends the process: found, because the interpreter runs without it."""
        target.add("sitecustomize.py", code)
        told = look(TORCH, limits=BRIEF)
        assert told.facts["probe.python.result"] == result
        assert told.facts["probe.python_bare.result"] == "ok"
        assert list(told.unchecked) == ["the deep checks"]
        assert told.diagnosis(rules).diagnoses[0].rule == rule

    def test_a_start_up_file_that_fails(self, look: Look, target: Target, rules: RuleSet) -> None:
        """An error that Python reports and passes over is a warning; the checks go on."""
        target.torch().add("sitecustomize.py", "raise ImportError('agent')")
        told = look(TORCH)
        assert told.facts["probe.torch.result"] == "ok"
        assert [cause.rule for cause in told.diagnosis(rules).diagnoses] == ["startup-file-reports-error"]

    def test_old_ones(self, tmp_path: Path, rules: RuleSet) -> None:
        """Python 3.6 is checked like any other; an older one is told as too old, and nothing is blamed."""
        found = {name: _pyenv(name) or shutil.which(name) for name in ("python3.6", "python2.7")}
        if not any(found.values()):
            pytest.skip("no old Python is here")
        if found["python3.6"]:
            told = Told(list(deep.read(found["python3.6"], {}, {}, 0, str(tmp_path))))
            assert told.facts["probe.torch.result"] == "absent"
            assert told.unchecked == {}
        if found["python2.7"]:
            told = Told(list(deep.read(found["python2.7"], {}, {}, 0, str(tmp_path))))
            assert "3.6 or newer" in told.unchecked["the deep checks"]
            assert told.diagnosis(rules).diagnoses == ()


def _pyenv(name: str) -> str | None:
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    return next((str(path) for path in root.glob(f"versions/*/bin/{name}")), None)


class TestTime:
    def test_what_there_was_no_time_for_is_unchecked(self, look: Look, target: Target) -> None:
        """When all the time is used up the rest is told as not tried, not as hanging."""
        target.torch().add("numpy.py", "import time\ntime.sleep(600)\n")
        told = look(TORCH | {"numpy": "2", "peft": "1"}, limits=Limits(total=0))
        assert told.facts == {"probe.python.result": "ok", "probe.python.seconds": told.facts["probe.python.seconds"]}
        assert "used up" in told.unchecked["import torch"]

    def test_a_probe_cut_short_is_no_hang(self, look: Look, target: Target) -> None:
        """A probe that got less than its own limit is not called a hang."""
        target.add("torch/__init__.py", "import time\ntime.sleep(600)\n")
        told = look(TORCH, limits=Limits(total=5))
        assert "probe.torch.result" not in told.facts
        assert "were left" in told.unchecked["import torch"]


def test_the_place_of_a_hang_is_the_first_real_frame() -> None:
    """Frames of the import system are passed over, and other threads too; a text without a stack has no place."""
    text = """
Thread 0x00007f0000000001 (most recent call first):
  File "/opt/venv/lib/python3.12/threading.py", line 331 in wait

Current thread 0x00007f0000000002 (most recent call first):
  File "<frozen importlib._bootstrap>", line 241 in _call_with_frames_removed
  File "/opt/venv/lib/python3.12/site-packages/torch/__init__.py", line 445 in <module>
"""
    assert where_it_was(text) == "torch/__init__.py:445 in <module>"
    assert where_it_was("nothing of the kind") == ""


def test_programs_are_written_for_old_interpreters() -> None:
    """Every program compiles with the grammar of Python 3.6."""
    import ast

    codes = [probes.START, probes.TORCH, probes.CUDA, probes.PRODUCT, probes.COLLECTIVE, probes.NUMPY_BRIDGE]
    for code in [*codes, *map(probes.importing, probes.PACKAGES)]:
        ast.parse(code, feature_version=(3, 6))
        ast.parse(probes.program(code), feature_version=(3, 6))


@pytest.mark.slow
def test_the_real_torch(look: Look, target: Target, rules: RuleSet) -> None:
    """A real torch: healthy, then with a library of its own removed, then with one that is damaged."""
    pip = [sys.executable, "-m", "pip", "--python", str(target.python), "install", "--quiet", "torch", "numpy"]
    subprocess.run(pip, check=True, timeout=1800)
    installed = {"torch": "2", "numpy": "2"}
    told = look(installed)
    assert {value for name, value in told.facts.items() if name.endswith(".result")} == {"ok"}
    assert told.diagnosis(rules).diagnoses == ()
    library = target.packages / "torch" / "lib" / "libc10.so"
    whole = library.read_bytes()
    library.unlink()
    first = look(installed).diagnosis(rules).diagnoses[0]
    assert first.rule == "shared-library-missing"
    assert first.captures["library"] == "libc10.so"
    library.write_bytes(whole[: len(whole) // 8] + bytes(len(whole) // 2) + whole[len(whole) // 8 + len(whole) // 2 :])
    told = look(installed)
    assert told.facts["probe.torch.result"] in ("signal", "failed")
    assert told.diagnosis(rules).diagnoses
