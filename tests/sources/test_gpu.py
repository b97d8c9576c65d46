"""The GPUs as NVML tells them: the real binding runs against a stub library, in a child process as in `check`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pynvml
import pytest

from diagnose.facts import describe
from diagnose.match import match
from diagnose.model import Case, Fact
from diagnose.ruleset import RuleSet, load
from tests.stubs.nvml import library, needs_compiler, stub_environment
from tests.support import ROOT

pytestmark = needs_compiler

GIB = 1 << 30

READ = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from diagnose.model import Fact, Output, Unchecked
from diagnose.sources import gpu
from diagnose.sources.child import Source, read_all

gpu.PATIENCE = 0.4
answers = []
for job in json.load(sys.stdin):
    os.environ["NVML_STUB_SCENARIO"] = job["scenario"]
    environ = {**os.environ, **job["environ"]}
    told = {"facts": [], "unchecked": [], "output": []}
    source = Source("the GPUs", lambda: gpu.read(environ, job["root"]), job["seconds"])
    for reading in read_all([source]):
        if isinstance(reading, Fact):
            told["facts"].append([reading.name, reading.value, reading.origin])
        elif isinstance(reading, Unchecked):
            told["unchecked"].append([reading.what, reading.why])
        elif isinstance(reading, Output):
            told["output"].append([reading.origin, reading.text])
    answers.append(told)
json.dump(answers, sys.stdout)
"""

Scenario = Mapping[str, object]


class Told:
    """What one reading told."""

    def __init__(self, answer: dict[str, list[list[Any]]]) -> None:
        self.facts = {name: value for name, value, _ in answer["facts"]}
        self.origins = {name: origin for name, _, origin in answer["facts"]}
        self.unchecked = dict(answer["unchecked"])
        self.output = answer["output"]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the stub is compiled, once for all tests."""
    return tmp_path_factory.mktemp("nvml")


@pytest.fixture
def read(tmp_path: Path, cache: Path) -> Any:
    """Read one scenario against an empty file system, or against `root`."""

    def one(scenario: Scenario | None = None, **options: Any) -> Told:
        return read_many([scenario or {}], tmp_path, cache, **options)[0]

    return one


def read_many(
    scenarios: list[Scenario],
    folder: Path,
    cache: Path,
    root: Path | None = None,
    seconds: float = 20,
    old: bool = False,
    **environ: str,
) -> list[Told]:
    """Read several scenarios, each in a child of one process that has the stub on its library path."""
    empty = folder / "empty"
    empty.mkdir(exist_ok=True)
    changes: dict[str, str] = {}
    jobs = []
    for number, scenario in enumerate(scenarios):
        changes = stub_environment(scenario, folder / str(number), old=old, cache=cache)
        place = str(root or empty)
        jobs.append({"scenario": changes["NVML_STUB_SCENARIO"], "environ": environ, "root": place, "seconds": seconds})
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    answer = subprocess.run(
        [sys.executable, "-c", READ, str(ROOT)],
        env=kept | {"PATH": "/nonexistent"} | changes,
        input=json.dumps(jobs).encode(),
        capture_output=True,
        timeout=300,
        check=True,
    )
    return [Told(item) for item in json.loads(answer.stdout)]


# --- a healthy machine


def test_a_healthy_machine_is_read_without_a_word_of_trouble(read: Any) -> None:
    """Eight good GPUs: every fact is there and good, and nothing is unchecked."""
    told = read({"devices": 8, "*.links": " ".join("1" * 18), "*.fabric": 3})
    assert told.unchecked == {}
    facts = told.facts
    assert facts["gpu.vendor"] == "nvidia"
    assert facts["gpu.count"] == facts["gpu.visible_count"] == 8
    assert facts["driver.version"] == "570.86.15"
    assert facts["driver.cuda"] == "12.8"
    assert facts["gpu.models"] == "8 x NVIDIA H100 80GB HBM3"
    assert facts["gpu.mixed_capability"] is facts["gpu.mixed_memory"] is False
    assert facts["gpu.pairs"] == 28
    assert facts["gpu.pairs_without_p2p"] == 0
    for index in range(8):
        good = {
            "name": "NVIDIA H100 80GB HBM3",
            "compute_capability": "9.0",
            "memory": 85520809984,
            "memory_used": 0,
            "memory_free": 85520809984,
            "memory_used_percent": 0,
            "holders": 0,
            "ecc": True,
            "ecc_pending": False,
            "ecc_uncorrected": 0,
            "ecc_uncorrected_total": 0,
            "rows_remapped": 0,
            "remap_pending": False,
            "remap_failed": False,
            "mig": False,
            "mig_pending": False,
            "compute_mode": "default",
            "slowed": "none",
            "slowed_by_heat": False,
            "slowed_by_power_brake": False,
            "temperature": 35,
            "load_percent": 0,
            "persistence": True,
            "display": False,
            "pci": f"0000:{0x10 + index:02x}:00.0",
            "pcie_generation": 5,
            "pcie_generation_max": 5,
            "pcie_width": 16,
            "pcie_width_max": 16,
            "nvlinks": 18,
            "nvlinks_best": 18,
            "fabric": "completed",
            "fabric_status": "SUCCESS",
        }
        assert {name: facts[f"gpu.{index}.{name}"] for name in good} == good


def test_every_fact_is_in_the_catalogue(tmp_path: Path, cache: Path) -> None:
    """Whatever the scenario, no fact is told that a rule could not ask for, and each is of the type that stands there."""
    scenarios: list[Scenario] = [
        {"devices": 2, "*.links": "1 0", "*.fabric": 1, "*.processes": "1:5", "*-*.p2p": 2},
        {"0.mig": "1g.10gb:11811160064", "0.pages": 2, "0.ecc": "none"},
        {"error 0.*": 15},
        {"error nvmlInitWithFlags": 999},
        {"0.shared": 1},
    ]
    types = {"version": str, "text": str, "number": int, "bytes": int, "flag": bool}
    for told in read_many(scenarios, tmp_path, cache, CUDA_VISIBLE_DEVICES="GPU-0,1"):
        for name, value in told.facts.items():
            kind = describe(name)
            assert kind is not None, name
            assert type(value) is types[kind.type], (name, value)


# --- memory and who holds it


def test_who_holds_a_gpu_is_told_by_command_and_pid(read: Any, tmp_path: Path) -> None:
    """The largest holder is named, and compute and graphics are counted once for each process."""
    root = tmp_path / "root"
    (root / "proc/4242").mkdir(parents=True)
    (root / "proc/4242/comm").write_text("VLLM::EngineCor\n")
    told = read(
        {
            "devices": 2,
            "1.used": 60 * GIB,
            "1.processes": f"4242:{40 * GIB}, 77:{2 * GIB}",
            "1.graphics": f"77:{2 * GIB}, 78",
        },
        root=root,
    )
    assert told.facts["gpu.1.holders"] == 3
    assert told.facts["gpu.1.holder"] == "VLLM::EngineCor (pid 4242, 40.0 GiB)"
    assert told.facts["gpu.1.held"] == 42 * GIB
    assert told.facts["gpu.1.memory_used_percent"] == 75
    assert told.facts["gpu.0.holders"] == 0


def test_memory_shared_with_the_machine_is_no_trouble(read: Any) -> None:
    """A GPU whose memory the driver does not tell (GB10) has no size, and nothing is reported as broken."""
    told = read({"0.shared": 1, "0.name": "NVIDIA GB10"})
    assert told.facts["gpu.0.memory_shared"] is True
    assert "gpu.0.memory" not in told.facts
    assert told.unchecked == {}


# --- faults of a card


def test_memory_faults_are_told(read: Any) -> None:
    """ECC counters and pending or failed row replacement, of the GPU that has them."""
    told = read(
        {"devices": 2, "1.ecc_errors": 2, "1.ecc_total": 9, "1.rows": 1, "1.remap_pending": 1, "0.remap_failed": 1}
    )
    assert told.facts["gpu.1.ecc_uncorrected"] == 2
    assert told.facts["gpu.1.ecc_uncorrected_total"] == 9
    assert told.facts["gpu.1.rows_remapped"] == 1
    assert told.facts["gpu.1.remap_pending"] is True
    assert told.facts["gpu.0.remap_pending"] is False
    assert told.facts["gpu.0.remap_failed"] is True


def test_cards_before_ampere_tell_retired_pages(read: Any) -> None:
    """Where there are no remapped rows, retired pages are read in their place."""
    told = read({"0.pages": 3, "0.pages_pending": 1, "0.ecc": "none"})
    assert told.facts["gpu.0.pages_retired"] == 3
    assert told.facts["gpu.0.pages_pending"] is True
    assert "gpu.0.rows_remapped" not in told.facts
    assert "gpu.0.ecc" not in told.facts
    assert told.unchecked == {}


def test_modes_and_links_are_told(read: Any) -> None:
    """Compute mode, what slows the clocks, a narrow link, inactive NVLinks, a fabric that is not ready."""
    told = read(
        {
            "devices": 2,
            "0.compute_mode": 3,
            "0.slowed": 0x48,
            "0.pcie_width": 4,
            "0.links": "1 1 1 0",
            "1.links": "1 1 1 1",
            "1.compute_mode": 2,
            "1.slowed": 0x88,
            "1.fabric": 2,
            "1.display": 1,
        }
    )
    facts = told.facts
    assert facts["gpu.0.compute_mode"] == "exclusive-process"
    assert facts["gpu.1.compute_mode"] == "prohibited"
    assert facts["gpu.0.slowed"] == "hardware-slowdown, hardware-thermal"
    assert facts["gpu.0.slowed_by_heat"] is True
    assert facts["gpu.1.slowed_by_heat"] is False
    assert facts["gpu.1.slowed_by_power_brake"] is True
    assert (facts["gpu.0.pcie_width"], facts["gpu.0.pcie_width_max"]) == (4, 16)
    assert (facts["gpu.0.nvlinks"], facts["gpu.0.nvlinks_best"]) == (3, 4)
    assert facts["gpu.1.fabric"] == "in-progress"
    assert "gpu.1.fabric_status" not in facts
    assert facts["gpu.1.display"] is True


def test_pairs_without_direct_copies_are_counted(read: Any) -> None:
    """How many pairs cannot copy to each other, which comes first, and why."""
    told = read({"devices": 3, "0-2.p2p": 4, "1-2.p2p": 3, "0-1.level": 50})
    assert told.facts["gpu.pairs"] == 3
    assert told.facts["gpu.pairs_without_p2p"] == 2
    assert told.facts["gpu.pair_without_p2p"] == "0 and 2"
    assert told.facts["gpu.p2p_reason"] == "disabled-by-setting"
    assert told.facts["gpu.pairs_across_sockets"] == 1


def test_mixed_gpus_are_told(read: Any) -> None:
    """Cards that differ in capability and in memory, and between which."""
    told = read(
        {
            "devices": 2,
            "0.name": "Tesla T4",
            "0.capability": "7.5",
            "0.memory": 15 * GIB,
            "1.name": "NVIDIA L4",
            "1.capability": "8.9",
            "1.memory": 23 * GIB,
        }
    )
    assert told.facts["gpu.mixed_capability"] is told.facts["gpu.mixed_memory"] is True
    assert (told.facts["gpu.capability_least"], told.facts["gpu.capability_most"]) == ("7.5", "8.9")
    assert (told.facts["gpu.memory_least"], told.facts["gpu.memory_most"]) == (15 * GIB, 23 * GIB)
    assert told.facts["gpu.models"] == "1 x Tesla T4, 1 x NVIDIA L4"


def test_mig_instances_are_told(read: Any) -> None:
    """MIG mode, the instances with their profiles, and the memory of the smallest."""
    told = read(
        {"devices": 2, "0.mig": f"3g.40gb:{40 * GIB}, 1g.10gb+me:{10 * GIB}", "1.mig": "empty", "1.mig_pending": 0}
    )
    assert told.facts["gpu.0.mig"] is True
    assert told.facts["gpu.0.mig_instances"] == 2
    assert told.facts["gpu.0.mig_profiles"] == "3g.40gb, 1g.10gb+me"
    assert told.facts["gpu.0.mig_memory"] == 10 * GIB
    assert told.facts["gpu.1.mig_instances"] == 0
    assert told.facts["gpu.1.mig_pending"] is True
    assert "gpu.visible_count" not in told.facts


# --- CUDA_VISIBLE_DEVICES


@pytest.mark.parametrize(
    ("setting", "problem", "count"),
    [
        ("0,1", "none", 2),
        ("1", "none", 1),
        ("", "hides-all", 0),
        ("-1", "hides-all", 0),
        ("NoDevFiles", "hides-all", 0),
        ("0,2", "missing-index", 1),
        ("7", "missing-index", 0),
        ("0,0", "duplicate", 0),
        ("cuda:0", "not-a-number", 0),
        ("GPU-000000a1", "none", 1),
        ("GPU-000000a1-0000-4000-8000-000000000000,GPU-000000a0", "none", 2),
        ("GPU-ffff", "unknown-uuid", 0),
        ("GPU-000000a", "ambiguous-uuid", 0),
        ("GPU-000000a0,1", "mixed", 1),
    ],
)
def test_the_setting_is_read_as_cuda_reads_it(read: Any, setting: str, problem: str, count: int) -> None:
    """Numbers, UUIDs and their beginnings, and each way to get it wrong."""
    told = read({"devices": 2}, CUDA_VISIBLE_DEVICES=setting)
    assert told.facts["gpu.visible_problem"] == problem
    assert told.facts["gpu.visible_count"] == count


def test_mig_instances_can_be_named(tmp_path: Path, cache: Path) -> None:
    """By its UUID, by the older form, several at once, and one that is not there."""
    scenario = {"devices": 2, "1.mig": "3g.40gb, 3g.40gb"}
    first, second = (f"MIG-000000a1-0000-4000-8000-00000000000{number}" for number in (1, 2))
    for setting, problem in [
        (first, "none"),
        (f"{first},{second}", "several-mig"),
        ("MIG-GPU-000000a1-0000-4000-8000-000000000000/1/0", "none"),
        ("MIG-00000000-0000-4000-8000-000000000001", "unknown-uuid"),
    ]:
        told = read_many([scenario], tmp_path, cache, CUDA_VISIBLE_DEVICES=setting)[0]
        assert told.facts["gpu.visible_problem"] == problem, setting


def test_uuids_are_told_only_where_the_setting_needs_them(read: Any) -> None:
    """Identifiers of the hardware stay out of a report that has no use for them."""
    assert not [name for name in read({"devices": 2}).facts if name.endswith(".uuid")]
    assert not [name for name in read({"devices": 2}, CUDA_VISIBLE_DEVICES="0").facts if name.endswith(".uuid")]


# --- a driver that fails


CODES = sorted(
    value for name, value in vars(pynvml).items() if name.startswith("NVML_ERROR_") and isinstance(value, int)
)


def name_of(code: int) -> str:
    return next(
        name.removeprefix("NVML_ERROR_")
        for name, value in vars(pynvml).items()
        if value == code and name.startswith("NVML_ERROR_")
    )


def test_each_error_at_the_start_is_told_by_name(tmp_path: Path, cache: Path) -> None:
    """Every code of nvmlInit: named where there is an NVIDIA driver, and the normal case where there is none."""
    told = read_many([{"error nvmlInitWithFlags": code} for code in [*CODES, 4711]], tmp_path, cache)
    for code, one in zip(CODES, told, strict=False):
        if name_of(code) in ("LIBRARY_NOT_FOUND", "DRIVER_NOT_LOADED"):
            assert one.facts["gpu.vendor"] == "none"
            assert one.facts["gpu.count"] == 0
            assert one.unchecked == {}
        else:
            assert one.facts["driver.error"] == name_of(code)
            assert one.facts["gpu.vendor"] == "nvidia"
            assert "gpu.count" not in one.facts
            assert "nvidia-smi" in one.unchecked["the GPUs"]
    assert told[-1].facts["driver.error"] == "ERROR_4711"


def test_each_error_of_a_device_leaves_the_others_known(tmp_path: Path, cache: Path) -> None:
    """Every code for the handle of one GPU of three: it is told, and the other two are read to the end."""
    scenarios = [{"devices": 3, "error 1.nvmlDeviceGetHandleByIndex_v2": code} for code in CODES]
    for code, told in zip(CODES, read_many(scenarios, tmp_path, cache), strict=True):
        assert told.facts["gpu.1.error"] == name_of(code)
        assert told.facts["gpu.count"] == 3
        for index in (0, 2):
            assert told.facts[f"gpu.{index}.name"] == "NVIDIA H100 80GB HBM3"
            assert told.facts[f"gpu.{index}.pcie_width"] == 16
        assert told.facts["gpu.pairs"] == 1


def test_each_error_of_a_question_is_told_or_is_no_trouble(tmp_path: Path, cache: Path) -> None:
    """Every code for one question: not supported is no trouble, a lost GPU is told as such, all else is unchecked."""
    scenarios = [{"error 0.nvmlDeviceGetTemperature": code} for code in CODES]
    for code, told in zip(CODES, read_many(scenarios, tmp_path, cache), strict=True):
        name = name_of(code)
        if name in ("NOT_SUPPORTED", "VGPU_ECC_NOT_SUPPORTED"):
            assert told.unchecked == {}
        elif name in ("GPU_IS_LOST", "RESET_REQUIRED", "GPU_NOT_FOUND"):
            assert told.facts["gpu.0.error"] == name
        else:
            assert list(told.unchecked) == ["the temperature of GPU 0"]
        assert told.facts["gpu.0.name"] == "NVIDIA H100 80GB HBM3"
        assert "gpu.0.temperature" not in told.facts


def test_a_lost_gpu_is_asked_no_further(read: Any) -> None:
    """A GPU that is lost while it is read keeps what it had told, and every other GPU is read to the end."""
    told = read({"devices": 2, "error 0.nvmlDeviceGetEccMode": 15})
    assert told.facts["gpu.0.error"] == "GPU_IS_LOST"
    assert told.facts["gpu.0.memory"] > 0
    assert "gpu.0.temperature" not in told.facts
    assert told.facts["gpu.1.temperature"] == 35
    assert "gpu.visible_count" in told.facts


def test_an_old_driver_tells_what_it_knows(read: Any) -> None:
    """A library without the newer functions: the old ones are asked, and what it cannot tell is said once."""
    told = read({"devices": 2, "driver": "440.33.01", "cuda": 10020, "0.processes": "1:5"}, old=True)
    assert told.facts["driver.cuda"] == "10.2"
    assert told.facts["gpu.0.memory"] == 85520809984
    assert told.facts["gpu.0.holders"] == 1
    assert told.facts["gpu.1.temperature"] == 35
    assert told.unchecked == {"the MIG mode, the remapped rows of GPU 0, 1": "the driver is too old to tell"}


def test_a_missing_function_falls_back_to_the_older_one(read: Any) -> None:
    """FUNCTION_NOT_FOUND from the newest form of a call leads to the one before."""
    told = read({"missing nvmlDeviceGetMemoryInfo_v2": True, "missing nvmlDeviceGetComputeRunningProcesses_v3": True})
    assert told.facts["gpu.0.memory"] == 85520809984
    assert told.facts["gpu.0.holders"] == 0
    assert told.unchecked == {}


def test_garbage_is_never_a_fact(read: Any) -> None:
    """Bytes that are no text and numbers that cannot be are said to be so, and no fact is made of them."""
    told = read({"devices": 2, "garbage 0.*": True})
    assert [name for name in told.facts if name.startswith("gpu.0.")] == []
    assert told.facts["gpu.1.temperature"] == 35
    assert told.unchecked["the name of GPU 0"] == "the driver's answer is not text"
    assert "cannot be true" in told.unchecked["the memory of GPU 0"]


@pytest.mark.parametrize(
    "function", ["nvmlDeviceGetCount_v2", "nvmlSystemGetDriverVersion", "nvmlSystemGetCudaDriverVersion_v2"]
)
def test_garbage_about_the_driver_is_said(read: Any, function: str) -> None:
    """A count or a version that cannot be is unchecked, and the rest is read."""
    told = read({f"garbage {function}": True})
    assert told.unchecked
    assert told.facts["gpu.vendor"] == "nvidia"
    absent = {"nvmlDeviceGetCount_v2": "gpu.count", "nvmlSystemGetDriverVersion": "driver.version"}
    assert absent.get(function, "driver.cuda") not in told.facts


def test_a_call_that_hangs_hides_no_other_gpu(read: Any) -> None:
    """One GPU that never answers is given up, and what the others have to tell is told."""
    told = read({"devices": 3, "hang 1.nvmlDeviceGetTemperature": True})
    assert told.facts["gpu.1.error"] == "NO_ANSWER"
    assert told.facts["gpu.1.memory"] > 0
    assert told.facts["gpu.2.pcie_width"] == 16
    assert told.unchecked == {
        "GPU 1": "no answer within 0.4 s, while asking GPU 1 for its mode, clocks and temperature"
    }


def test_a_start_that_hangs_is_ended(read: Any) -> None:
    """nvmlInit never comes back: the source is ended, and it says where it stood."""
    told = read({"hang nvmlInitWithFlags": True}, seconds=1)
    assert told.unchecked == {"the GPUs": "no answer within 1 s, while starting NVML (nvmlInit)"}
    assert told.facts["driver.module"] is False


def test_a_crash_in_the_driver_is_contained(read: Any) -> None:
    """A call that dies takes the source along, and what was told before is kept."""
    told = read({"devices": 2, "crash 1.nvmlDeviceGetEccMode": True})
    assert "SIGSEGV" in told.unchecked["the GPUs"]
    assert "ECC" in told.unchecked["the GPUs"]
    assert told.facts["gpu.1.memory"] > 0
    assert told.facts["gpu.0.pcie_width"] == 16


# --- what the rules make of it


@pytest.fixture(scope="session")
def rules() -> RuleSet:
    """The bundled rules."""
    return load()


def found(rules: RuleSet, told: Told) -> dict[str, str]:
    """The rules that match, with their severity."""
    facts = tuple(Fact(name, value, "test") for name, value in told.facts.items())
    return {item.rule.id: item.rule.severity for item in match(rules, Case(facts, machine=True))}


HEALTHY: dict[str, Scenario] = {
    "eight cards with NVLink": {"devices": 8, "*.links": " ".join("1" * 18), "*.fabric": 3},
    "an idle consumer card": {
        "*.name": "NVIDIA GeForce RTX 4090",
        "*.capability": "8.9",
        "*.ecc": "none",
        "*.mig": "none",
        "*.pcie_generation": 1,
        "*.pcie_generation_max": 4,
        "*.display": 1,
        "*.used": 3 * GIB,
        "*.memory": 24 * GIB,
        "*.graphics": f"900:{GIB}",
        "*.slowed": 5,
    },
    "two cards without direct copies": {
        "devices": 2,
        "*.name": "NVIDIA L4",
        "*-*.p2p": 2,
        "*-*.level": 50,
        "*.mig": "none",
    },
    "cards over PCIe, two of three bridged": {
        "devices": 3,
        "*.name": "NVIDIA A100 80GB PCIe",
        "*.links": "1 1 1 1",
        "2.links": "0 0 0 0",
    },
    "a second card in a slot with few lanes": {"devices": 2, "1.pcie_width": 4, "1.load": 90},
    "a card divided": {"*.mig": "3g.40gb, 3g.40gb"},
    "a machine with one memory": {"*.shared": 1, "*.name": "NVIDIA GB10"},
    "a card before Ampere": {"*.name": "Tesla V100-SXM2-32GB", "*.pages": 0, "*.mig": "none", "*.capability": "7.0"},
    "a board that had an error once": {"*.ecc_total": 1, "*.rows": 1},
}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_machine_has_no_error_and_no_warning(read: Any, rules: RuleSet, name: str) -> None:
    """Good cards of each kind bring notes at most, and nothing is unchecked."""
    told = read(HEALTHY[name])
    assert {rule for rule, severity in found(rules, told).items() if severity != "note"} == set()
    assert told.unchecked == {}


FAULTY: dict[str, Scenario] = {
    "gpu-lost": {"devices": 2, "error 1.nvmlDeviceGetHandleByIndex_v2": 15},
    "gpu-needs-reset": {"devices": 2, "error 1.nvmlDeviceGetMemoryInfo_v2": 16},
    "gpu-cannot-be-read": {"devices": 2, "error 0.nvmlDeviceGetHandleByIndex_v2": 8},
    "gpu-does-not-answer": {"devices": 2, "hang 0.nvmlDeviceGetPciInfo_v3": True},
    "gpu-memory-errors-now": {"0.ecc_errors": 1},
    "gpu-row-remap-pending": {"0.remap_pending": 1},
    "gpu-row-remap-failed": {"0.remap_failed": 1},
    "gpu-page-retirement-pending": {"0.pages": 2, "0.pages_pending": 1},
    "gpu-compute-prohibited": {"0.compute_mode": 2},
    "gpu-exclusive-and-taken": {"0.compute_mode": 3, "0.processes": "7:5"},
    "gpu-memory-mostly-held": {"0.used": 70 * GIB},
    "gpu-slowed-by-heat": {"0.slowed": 0x20},
    "gpu-power-brake": {"0.slowed": 0x88},
    "gpu-nvlinks-inactive": {"devices": 2, "*.links": "1 1 1", "1.links": "1 0 1"},
    "nvlink-fabric-not-ready": {"*.fabric": 2},
    "nvlink-fabric-failed": {"*.fabric": 3, "*.fabric_status": 999},
    "mig-without-instances": {"*.mig": "empty"},
    "mig-without-instances-on-one": {"devices": 2, "1.mig": "empty"},
    "driver-and-libraries-differ": {"error nvmlInitWithFlags": 18},
    "driver-does-not-start": {"error nvmlInitWithFlags": 999},
}


@pytest.mark.parametrize("rule", FAULTY)
def test_each_fault_is_found(read: Any, rules: RuleSet, rule: str) -> None:
    """A planted fault brings its rule, as an error or a warning, and no other that it does not explain."""
    serious = {name for name, severity in found(rules, read(FAULTY[rule])).items() if severity != "note"}
    assert rule in serious
    assert serious <= {rule, *rules.consequences(rule)}


@pytest.mark.parametrize(
    ("setting", "rule"),
    [
        ("-1", "visible-devices-hide-all"),
        ("5", "visible-devices-name-missing-gpu"),
        ("0,5", "visible-devices-cut-short"),
        ("0,GPU-dead", "visible-devices-cut-short"),
        ("GPU-dead", "visible-devices-unknown-uuid"),
        ("1,1", "visible-devices-repeat-a-gpu"),
        ("all", "visible-devices-not-a-number"),
        ("0", ""),
    ],
)
def test_a_wrong_setting_is_found(read: Any, rules: RuleSet, setting: str, rule: str) -> None:
    """Each way to get CUDA_VISIBLE_DEVICES wrong has its rule, and a good one none."""
    serious = {
        name for name, how in found(rules, read({"devices": 2}, CUDA_VISIBLE_DEVICES=setting)).items() if how != "note"
    }
    assert serious == ({rule} if rule else set())


def test_a_library_that_the_loader_does_not_search_is_loaded_by_its_path(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where NixOS keeps the driver's libraries: found there, or told to be missing."""
    from diagnose.sources import nvml

    monkeypatch.setattr(nvml, "_ELSEWHERE", ("/nonexistent/libnvidia-ml.so.1",))
    assert nvml._load_from_elsewhere() is False
    monkeypatch.setattr(nvml, "_ELSEWHERE", ("/nonexistent/libnvidia-ml.so.1", f"{library(cache)}/libnvidia-ml.so.1"))
    code = (
        f"from diagnose.sources import nvml; nvml._ELSEWHERE = {nvml._ELSEWHERE!r}; driver = nvml.Driver(); "
        "told = list(driver.start()); print(driver.works, driver.version)"
    )
    environ = {**stub_environment({}, cache / "elsewhere", cache=cache), "PATH": "/nonexistent", "LD_LIBRARY_PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "570.86.15"]


# --- nvidia-smi as a second opinion


def smi(folder: Path, script: str) -> str:
    """A folder with an `nvidia-smi` that runs a script."""
    folder.mkdir()
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


def test_what_a_failing_nvidia_smi_prints_is_kept(read: Any, tmp_path: Path) -> None:
    """Its words become an event, so that the log rules meet them."""
    path = smi(tmp_path / "bin", "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18")
    told = read({"error nvmlInitWithFlags": 18}, PATH=path)
    assert told.facts["driver.error"] == "LIB_RM_VERSION_MISMATCH"
    assert told.output == [["nvidia-smi", "Failed to initialize NVML: Driver/library version mismatch"]]
    assert "fails too" in told.unchecked["the GPUs"]


def test_nvidia_smi_stands_in_for_nvml(read: Any, tmp_path: Path) -> None:
    """If it answers where NVML does not, its list is taken, and said to be its own."""
    path = smi(tmp_path / "bin", "echo '0, NVIDIA L4, 23034, 512, 550.54.15'")
    told = read({"error nvmlInitWithFlags": 999}, PATH=path)
    assert told.facts["gpu.count"] == 1
    assert told.facts["gpu.0.name"] == "NVIDIA L4"
    assert told.facts["gpu.0.memory"] == 23034 << 20
    assert told.facts["driver.version"] == "550.54.15"
    assert told.origins["gpu.0.name"] == "nvidia-smi"


@pytest.mark.parametrize("script", ["yes", "printf '\\377\\376,,,,\\n'", "echo '0, L4'", "exit 3"])
def test_garbage_from_nvidia_smi_is_no_fact(read: Any, tmp_path: Path, script: str) -> None:
    """Endless output, bytes that are no text, half a row, nothing: no fact comes of it."""
    told = read({"error nvmlInitWithFlags": 999}, PATH=smi(tmp_path / "bin", script))
    assert "gpu.count" not in told.facts
    assert told.facts["driver.error"] == "UNKNOWN"


def test_nvidia_smi_is_not_asked_where_nvml_answers(read: Any, tmp_path: Path) -> None:
    """The usual case starts no second process."""
    path = smi(tmp_path / "bin", f"touch {tmp_path}/asked")
    assert read({}, PATH=path).facts["gpu.count"] == 1
    assert not (tmp_path / "asked").exists()


def test_a_hanging_nvidia_smi_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is stopped after its time, and said to be late."""
    from diagnose.sources import gpu

    monkeypatch.setattr(gpu, "SMI_SECONDS", 0.2)
    program = smi(tmp_path / "bin", "exec sleep 60").partition(":")[0] + "/nvidia-smi"
    assert gpu._run([program], {"PATH": "/usr/bin:/bin"}) == ("", None)


# --- what a hostile environment brings


def test_variables_that_are_no_text_do_no_harm(read: Any, tmp_path: Path, cache: Path) -> None:
    """Bytes in the environment that are no UTF-8 are told with question marks."""
    told = read({}, CUDA_VISIBLE_DEVICES="0\udcff", NVIDIA_VISIBLE_DEVICES="\udcfe")
    assert told.facts["gpu.visible_setting"] == "0?"
    assert told.facts["driver.container_asked"] == "?"
