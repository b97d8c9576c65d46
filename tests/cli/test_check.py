"""`llmdoctor check`, `collect` and `diagnose --here`, as a user runs them: on this machine, with a stub of the driver."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from diagnose.facts import AREAS
from tests.stubs.nvml import needs_compiler, stub_environment
from tests.support import ROOT, environment, run_doctor, whole_installation

TOKEN = "hf_" + "aB3dE6gH9jK2mN5pQ8sT1vW4xY7zA0cD3f"  # not a real one
H100 = {"devices": 2, "*.name": "NVIDIA H100 80GB HBM3", "*.capability": "9.0", "*.memory": 80 << 30}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation with all bundled rules."""
    return whole_installation(tmp_path_factory.mktemp("check") / "home")


@pytest.fixture(scope="module")
def drivers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the stub of the driver's library is compiled once."""
    return tmp_path_factory.mktemp("drivers")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """An environment made of files: an interpreter's link and a few distributions that need each other."""
    root = tmp_path / "env"
    site = root / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    site.mkdir(parents=True)
    (root / "bin").mkdir()
    (root / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    version = ".".join(map(str, sys.version_info[:3]))
    (root / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).resolve().parent}\nversion = {version}\n")
    for name, release, wants in (("transformers", "5.20.0", "made-up-need>=2"), ("made-up-need", "1.0", "")):
        info = site / f"{name.replace('-', '_')}-{release}.dist-info"
        info.mkdir()
        wanted = f"Requires-Dist: {wants}\n" if wants else ""
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {release}\n{wanted}")
        (info / "RECORD").write_text(f"{name.replace('-', '_')}/__init__.py,,\n")
        (info / "INSTALLER").write_text("pip\n")
        (site / name.replace("-", "_")).mkdir()
        (site / name.replace("-", "_") / "__init__.py").write_text("raise SystemExit('imported')\n")
    return root


def report(home: Path, *arguments: str, **changes: str) -> dict[str, Any]:
    """What a command says as JSON; it must end with 0 or 1."""
    done = run_doctor(home, *arguments, "--format", "json", **changes)
    assert done.returncode in (0, 1), done.stderr.decode()
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def values(told: dict[str, Any]) -> dict[str, Any]:
    return {fact["name"]: fact["value"] for fact in told["facts"]}


def test_check_reads_this_machine_and_the_named_environment(home: Path, target: Path) -> None:
    """Facts of every part are there, and the unmet requirement is found without importing anything."""
    told = report(home, "check", "--python", str(target))
    known = values(told)

    assert {"memory.total", "cpu.cores", "os.machine", "storage.work.free", "gpu.vendor"} <= known.keys()
    assert ("5.20.0", "1.0", 1) == (known["transformers.version"], known["made-up-need.version"], known["unmet.count"])
    assert any("made-up-need" in cause["title"] for cause in told["diagnoses"])
    assert set(AREAS[2:6]) <= {area["name"] for area in told["areas"]}


def test_the_environment_of_the_shell_is_found(home: Path, target: Path) -> None:
    """Without --python it is that of $VIRTUAL_ENV."""
    assert "5.20.0" == values(report(home, "check", VIRTUAL_ENV=str(target)))["transformers.version"]


def test_the_text_is_a_checklist_and_findings(home: Path, target: Path) -> None:
    """A line an area, in 80 columns, then what was found; the exit code tells if it is an error."""
    done = run_doctor(home, "check", "--python", str(target), "--fail-on", "never")
    lines = done.stdout.decode().splitlines()

    assert (0, b"") == (done.returncode, done.stderr)
    assert any(line.startswith(("✓ memory", "! memory", "· memory")) for line in lines)
    assert any("made-up-need" in line for line in lines)


def test_what_is_wanted_and_absent_is_an_error(home: Path, target: Path) -> None:
    """`--for vllm` in an environment without it is the first finding, and sets the exit code."""
    done = run_doctor(home, "check", "--python", str(target), "--for", "vllm")

    assert 1 == done.returncode
    assert "vllm is not installed in this environment" in done.stdout.decode()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--python", "/no/such/python"), "/no/such/python"),
        (("--for", "transfromers"), "did you mean transformers?"),
    ],
)
def test_bad_input_is_told_and_the_rest_checked(home: Path, arguments: tuple[str, ...], said: str) -> None:
    """The checklist is there, a sentence says what was wrong, the exit code is 2."""
    done = run_doctor(home, "check", *arguments)

    assert (2, True) == (done.returncode, b"memory" in done.stdout)
    assert said in done.stderr.decode()
    assert b"Traceback" not in done.stderr


@needs_compiler
def test_gpus_are_read_through_the_real_binding(home: Path, drivers: Path, tmp_path: Path) -> None:
    """Names, memory and faults of a driver's answers reach the report."""
    changes = stub_environment({**H100, "1.remap_failed": 1}, tmp_path, cache=drivers)
    told = report(home, "check", **changes)

    assert (2, 80 << 30) == (values(told)["gpu.count"], values(told)["gpu.0.memory"])
    assert any("remap" in cause["rule"] and cause["captures"] == {"instance": "1"} for cause in told["diagnoses"])


@needs_compiler
@pytest.mark.parametrize("fault", ["hang nvmlInitWithFlags", "crash nvmlDeviceGetCount_v2"])
def test_a_driver_that_hangs_or_crashes_is_contained(home: Path, drivers: Path, tmp_path: Path, fault: str) -> None:
    """The rest is read, and the report says what did not answer."""
    changes = stub_environment({**H100, fault: True}, tmp_path, cache=drivers)
    told = report(home, "check", **changes)

    assert "memory.total" in values(told)
    assert any("GPU driver" in item["what"] for item in told["unchecked"])


def test_a_case_is_written_without_secrets_and_judged_elsewhere(home: Path, target: Path, tmp_path: Path) -> None:
    """The file holds no token that was set; checking it says what checking the machine says."""
    path = tmp_path / "case.json"
    changes = {"HF_TOKEN": TOKEN, "HTTPS_PROXY": f"http://someone:{TOKEN}@proxy.example:3128"}
    done = run_doctor(home, "collect", "--python", str(target), "-o", str(path), **changes)

    assert (0, True) == (done.returncode, path.name in done.stderr.decode())
    assert TOKEN not in path.read_text(encoding="utf-8")
    there = report(home, "check", "--case", str(path))
    assert any("made-up-need" in cause["title"] for cause in there["diagnoses"])
    assert [] != there["areas"]


@needs_compiler
def test_a_log_and_the_machine_explain_each_other(home: Path, drivers: Path, tmp_path: Path) -> None:
    """The log's symptom with --here names the machine's cause, which points at the line of the log."""
    (tmp_path / "crash.log").write_text("INFO starting\nRuntimeError: No CUDA GPUs are available\n")
    changes = stub_environment(H100, tmp_path / "stub", cache=drivers) | {"CUDA_VISIBLE_DEVICES": "7"}
    alone = report(home, "diagnose", str(tmp_path / "crash.log"))["diagnoses"][0]
    joined = report(home, "diagnose", str(tmp_path / "crash.log"), "--here", **changes)["diagnoses"][0]

    assert "no-cuda-device-visible" == alone["rule"]
    assert "no-cuda-device-visible" in [symptom["rule"] for symptom in joined["symptoms"]]
    assert ("confirmed", 2) == (joined["certainty"], joined["evidence"][0]["line"])
    assert "CUDA_VISIBLE_DEVICES" in joined["title"] + joined["why"]


def test_a_case_file_joins_a_log(home: Path, target: Path, tmp_path: Path) -> None:
    """`diagnose LOG --case FILE` has the facts of both."""
    (tmp_path / "crash.log").write_text("torch==2.1.0\nValueError: something new\n")
    run_doctor(home, "collect", "--python", str(target), "-o", str(tmp_path / "case.json.gz"))
    told = report(home, "diagnose", str(tmp_path / "crash.log"), "--case", str(tmp_path / "case.json.gz"))

    assert ("2.1.0", "5.20.0") == (values(told)["torch.version"], values(told)["transformers.version"])
    assert ([], 2) == (told["areas"], told["lines"])


def test_a_plain_check_says_what_one_with_options_says(home: Path, target: Path) -> None:
    """The short way past the option parser and the long one give the same report."""
    short = run_doctor(home, "check", "--python", str(target))
    long = run_doctor(home, "check", "--python", str(target), "--format", "text")

    assert short.returncode == long.returncode
    assert [line for line in short.stdout.splitlines() if b"free" not in line and b".age = " not in line] == [
        line for line in long.stdout.splitlines() if b"free" not in line and b".age = " not in line
    ]


@pytest.mark.parametrize("option", [("--for", "vllm"), ("--python", "/usr/bin/python3"), ("--deep",)])
def test_a_case_file_is_judged_as_it_is(home: Path, tmp_path: Path, option: tuple[str, ...]) -> None:
    """What only looking at a machine can answer is refused beside --case, not left out in silence."""
    done = run_doctor(home, "check", "--case", str(tmp_path / "case.json"), *option)

    assert (2, b"") == (done.returncode, done.stdout)
    assert b"is named to `llmdoctor collect`" in done.stderr


def test_a_working_folder_that_is_gone_is_no_trouble(home: Path, tmp_path: Path) -> None:
    """A shell may stand in a folder that somebody has removed: the machine is checked all the same."""
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f"cd {gone} && rmdir {gone} && exec {sys.executable} -m diagnose check --fail-on never"
    env = environment(home, PYTHONPATH=str(ROOT))
    done = subprocess.run(["sh", "-c", script], env=env, capture_output=True, timeout=300)

    assert (0, b"") == (done.returncode, done.stderr)
    assert b"memory" in done.stdout
