"""A whole environment is read from its files, whatever state it is in; nothing of it is imported or run."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diagnose.facts import describe
from diagnose.match import match
from diagnose.model import Case, Fact, Step
from diagnose.sources import python
from tests.sources.environments import elf, environment, install, interpreter, site_of, told
from tests.sources.torches import install_cuda, install_torch
from tests.support import facts_of
from tests.test_bundled_rules import RULES


class Environment:
    """An environment of Python 3.11 and a working directory."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder = environment(tmp_path)
        self.site = site_of(self.folder)
        self.work = tmp_path / "work"
        self.work.mkdir()
        self.python = self.folder / "bin" / "python"

    def facts(self, **environ: str) -> dict[str, Any]:
        return told(self.python, self.work, environ)[0]

    def findings(self, **environ: str) -> dict[str, str]:
        """The rules that match, with their severity."""
        case = Case(facts_of({"glibc.version": "2.36", **self.facts(**environ)}), machine=True)
        return {finding.rule.id: finding.rule.severity for finding in match(RULES, case)}

    def sound(self) -> Environment:
        """With torch, its CUDA wheels, and transformers with what it needs."""
        install_torch(self.site)
        install(
            self.site,
            "transformers",
            "4.57.1",
            requires=["tokenizers<=0.23.0,>=0.22.0", "numpy>=1.17", 'torch>=2.2; extra == "torch"'],
        )
        install(
            self.site,
            "numpy",
            "2.3.4",
            files={
                "numpy/__init__.py": "",
                "numpy/_core/_multiarray_umath.cpython-311-x86_64-linux-gnu.so": elf(["libc.so.6"]),
            },
        )
        files: dict[str, str | bytes] = {
            "tokenizers/__init__.py": "",
            "tokenizers/tokenizers.abi3.so": elf(["libc.so.6"]),
        }
        install(self.site, "tokenizers", "0.22.1", files=files, tag="cp39-abi3-manylinux_2_17_x86_64")
        return self


@pytest.fixture
def env(tmp_path: Path) -> Environment:
    return Environment(tmp_path)


def test_a_sound_environment_has_nothing_to_complain_about(env: Environment) -> None:
    """Its versions and build are told, and no rule sees an error or a warning."""
    facts = env.sound().facts()
    assert facts["python.version"] == "3.11.7"
    assert facts["torch.version"] == "2.8.0"
    assert facts["torch.cuda"] == "12.8"
    assert facts["unmet.count"] == 0
    assert facts["cuda.families"] == "12"
    assert {rule: severity for rule, severity in env.findings().items() if severity != "note"} == {}


def test_every_fact_stands_in_the_catalogue_with_its_type(env: Environment, tmp_path: Path) -> None:
    """Of a healthy environment and of one with every kind of trouble."""
    env.sound()
    install(env.site, "bitsandbytes", "0.48.0", files={"bitsandbytes/libbitsandbytes_cuda118.so": elf()})
    install(env.site, "opencv-python", "4.11", files={"cv2/__init__.py": "a"})
    install(env.site, "opencv-python-headless", "4.12", files={"cv2/__init__.py": "b"})
    install(env.site, "accelerate", "1.10.0", requires=["absent[x]>=1"], python=">=3.14")
    install(env.site, "numpy", "1.26.4")
    (env.site / "~orch").mkdir()
    (env.site / "tokenizers" / "__init__.py").unlink()
    (env.work / "torch.py").touch()
    other = tmp_path / "other" / "lib" / "python3.9" / "site-packages"
    other.mkdir(parents=True)
    kinds = {"version": str, "text": str, "number": int, "bytes": int, "flag": bool}
    for name, value in env.facts(PYTHONPATH=str(other), CUDA_HOME="/nonexistent").items():
        kind = describe(name)
        assert kind is not None, name
        assert type(value) is kinds[kind.type], name


def test_nothing_of_the_environment_is_imported_or_run(env: Environment) -> None:
    """Not even the code lines of .pth files, sitecustomize, or a package's own modules."""
    env.sound()
    trap = f"open({str(env.work / 'sprung')!r}, 'w')\n"
    for name in ("sitecustomize.py", "usercustomize.py", "torch/__init__.py", "transformers/__init__.py"):
        (env.site / name).write_text(trap)
    (env.site / "trap.pth").write_text(f"import os; {trap}")
    before = set(sys.modules)
    env.facts()
    assert not (env.work / "sprung").exists()
    assert not [name for name in set(sys.modules) - before if name.partition(".")[0] in ("torch", "transformers")]


def test_a_source_says_what_it_does_next(env: Environment) -> None:
    """So that the report can tell where it stopped, if it does."""
    steps = [r.doing for r in python.read(str(env.sound().python), {}, str(env.work)) if isinstance(r, Step)]
    assert len(steps) > 4
    assert str(env.python) in steps[0]


# --- planted faults


def planted_tokenizers(env: Environment) -> None:
    install(env.site, "tokenizers", "0.23.5")
    (env.site / "tokenizers-0.22.1.dist-info" / "METADATA").parent.rename(env.work / "away")


def planted_half_removed(env: Environment) -> None:
    (env.site / "transformers" / "__init__.py").unlink()


def planted_extension_gone(env: Environment) -> None:
    (env.site / "tokenizers" / "tokenizers.abi3.so").unlink()


def planted_lost_upgrade(env: Environment) -> None:
    (env.site / "transformers").rename(env.site / "~ransformers")
    (env.site / "transformers-4.57.1.dist-info").rename(env.site / "~ransformers-4.57.1.dist-info")


def planted_duplicate(env: Environment) -> None:
    install(env.site, "transformers", "4.40.0")


def planted_own_torch(env: Environment) -> None:
    (env.work / "torch.py").touch()


def planted_own_random(env: Environment) -> None:
    (env.work / "random.py").touch()


def planted_empty_metadata(env: Environment) -> None:
    (env.site / "tokenizers-0.22.1.dist-info" / "METADATA").write_bytes(b"")


def planted_other_python(env: Environment) -> None:
    install(env.site, "regex", "2025.1", tag="cp310-cp310-manylinux_2_17_x86_64")


def planted_other_machine(env: Environment) -> None:
    install(env.site, "regex", "2025.1", tag="cp311-cp311-manylinux_2_17_aarch64")


def planted_missing_requirement(env: Environment) -> None:
    install(env.site, "trl", "0.21.0", requires=["accelerate>=1.4"])


def planted_old_requirement(env: Environment) -> None:
    install(env.site, "trl", "0.21.0", requires=["transformers>=5"])


def planted_cuda_families(env: Environment) -> None:
    install_cuda(env.site, "13")


def planted_overwritten_cuda(env: Environment) -> None:
    path = "nvidia/cublas/lib/libcublas.so.12"
    install(
        env.site, "nvidia-cublas-cu11", "11.11.3.6", files={path: elf(soname="libcublas.so.12", exports=["cublasOld"])}
    )


def planted_opencv(env: Environment) -> None:
    for name in ("opencv-python", "opencv-python-headless"):
        install(env.site, name, "4.12.0.88", files={"cv2/__init__.py": "", "cv2/cv2.abi3.so": name})


def planted_cuda_wheel_gone(env: Environment) -> None:
    for path in (env.site / "nvidia" / "cublas" / "lib").iterdir():
        path.unlink()


def planted_bitsandbytes(env: Environment) -> None:
    install(env.site, "bitsandbytes", "0.41.0", files={"bitsandbytes/libbitsandbytes_cuda118.so": elf()})


def planted_cpu_torch(env: Environment) -> None:
    install_torch(env.site, cuda="")
    files: dict[str, str | bytes] = {
        "torchvision/__init__.py": "",
        "torchvision/_C.so": elf(["libtorch_cuda.so", "libcudart.so.12"]),
    }
    install(env.site, "torchvision", "0.23.0", files=files)


def planted_glibc(env: Environment) -> None:
    files: dict[str, str | bytes] = {
        "vllm/__init__.py": "",
        "vllm/_C.abi3.so": elf(["libc10.so"], versions_needed={"libc.so.6": ["GLIBC_2.38"]}),
    }
    install(env.site, "vllm", "0.11.0", files=files)


@pytest.mark.parametrize(
    ("plant", "rule"),
    [
        (planted_tokenizers, "transformers-dependency-out-of-range"),
        (planted_half_removed, "package-half-removed"),
        (planted_extension_gone, "extension-file-gone"),
        (planted_lost_upgrade, "package-lost-in-interrupted-change"),
        (planted_duplicate, "duplicate-dist-info"),
        (planted_own_torch, "package-hidden-by-own-file"),
        (planted_own_random, "standard-module-hidden-by-own-file"),
        (planted_empty_metadata, "checked-package-without-metadata"),
        (planted_other_python, "wheel-of-other-python-installed"),
        (planted_other_machine, "wheel-of-other-platform-installed"),
        (planted_missing_requirement, "requirement-missing"),
        (planted_old_requirement, "requirement-version-unmet"),
        (planted_cuda_families, "cuda-wheels-of-two-families"),
        (planted_overwritten_cuda, "torch-cuda-libraries-disagree"),
        (planted_overwritten_cuda, "nvidia-wheels-overwrite-each-other"),
        (planted_opencv, "packages-share-a-file"),
        (planted_cuda_wheel_gone, "torch-library-not-found"),
        (planted_bitsandbytes, "bitsandbytes-lacks-cuda-library"),
        (planted_cpu_torch, "extension-needs-cuda-build-of-torch"),
        (planted_glibc, "extension-needs-newer-glibc"),
    ],
)  # fmt: skip
def test_a_planted_fault_is_found(env: Environment, plant: Any, rule: str) -> None:
    """The rule for it matches, and it did not before."""
    env.sound()
    assert rule not in env.findings()
    plant(env)
    assert rule in env.findings()


# --- the parts


def test_the_first_of_two_folders_on_the_path_wins(env: Environment, tmp_path: Path) -> None:
    """A package on PYTHONPATH hides the installed one, and requirements are judged by what would be imported."""
    install(env.site, "numpy", "2.3.4")
    install(env.site, "scipy", "1.16.0", requires=["numpy<2.5,>=1.25"])
    other = tmp_path / "other" / "lib" / "python3.9" / "site-packages"
    install(other, "numpy", "1.19.0")
    facts = env.facts(PYTHONPATH=f"{other}:")
    assert facts["numpy.version"] == "1.19.0"
    assert facts["pythonpath.0.python"] == "3.9"
    assert facts["pythonpath.0.other_python"] is True
    assert facts["unmet.0.requirement"] == "numpy>=1.25,<2.5"


def test_folders_that_pth_files_add_are_read(env: Environment, tmp_path: Path) -> None:
    """After the folder they stand in; on PYTHONPATH such files do not count."""
    sources = tmp_path / "sources"
    install(sources, "trl", "0.21.0")
    (env.site / "mine.pth").write_text(f"{sources}\n")
    assert env.facts()["trl.version"] == "0.21.0"
    other = tmp_path / "other"
    install(tmp_path / "more", "peft", "0.17.0")
    other.mkdir()
    (other / "more.pth").write_text(f"{tmp_path / 'more'}\n")
    assert "peft.version" not in env.facts(PYTHONPATH=str(other))


def test_packages_of_the_user_that_hide_others_are_told(tmp_path: Path) -> None:
    """In front of the system's packages; the version hidden is told."""
    path = interpreter(tmp_path / "usr")
    install(site_of(tmp_path / "usr"), "torch", "2.8.0")
    user = tmp_path / "home" / ".local" / "lib" / "python3.11" / "site-packages"
    install(user, "torch", "2.3.0")
    install(user, "black", "25.1")
    facts, _ = told(path, tmp_path, {"HOME": str(tmp_path / "home")})
    assert facts["torch.version"] == "2.3.0"
    assert (facts["user_site.torch.version"], facts["user_site.torch.hides"]) == ("2.3.0", "2.8.0")
    assert facts["python.user_site_count"] == 2
    assert "user_site.black.version" not in facts


def test_what_pip_put_over_condas_packages_is_told(tmp_path: Path) -> None:
    """conda's records name another version than the one that is there; what conda installed itself is in order."""
    path = interpreter(tmp_path / "conda")
    records = tmp_path / "conda" / "conda-meta"
    records.mkdir()
    for name in (
        "numpy-1.26.4-py311h24aa872_0",
        "pytorch-2.5.1-cuda126_mkl_py311_0",
        "pyyaml-6.0.2-py311_0",
        "tzdata-2025a-0",
    ):
        (records / f"{name}.json").touch()
    site = site_of(tmp_path / "conda")
    install(site, "numpy", "2.2.0")
    install(site, "torch", "2.5.1", installer="conda", files={})
    install(site, "PyYAML", "6.0.2", files={})
    facts, _ = told(path, tmp_path)
    assert {name: value for name, value in facts.items() if name.startswith("conda.")} == {
        "conda.numpy.conda_version": "1.26.4",
        "conda.numpy.pip_version": "2.2.0",
        "conda.numpy.installer": "pip",
        "conda.count": 4,
    }
    assert facts["package.torch.installer"] == "conda"


def test_files_that_are_the_same_do_not_overwrite_each_other(env: Environment) -> None:
    """Two packages with one and the same file are no trouble; nor are tests that many bring."""
    for name in ("one", "two"):
        info = install(env.site, name, files={"shared/__init__.py": "", "tests/__init__.py": name})
        (info / "RECORD").write_text(
            re.sub(r"shared/__init__.py,[^,]*", "shared/__init__.py,sha256=abc", (info / "RECORD").read_text())
        )
    assert not [name for name in env.facts() if name.startswith("overlap.")]


def test_a_module_and_a_package_of_one_name_overlap(env: Environment) -> None:
    """pynvml.py of nvidia-ml-py beside the folder pynvml of the old pynvml: the folder wins."""
    install(env.site, "nvidia-ml-py", "13.580.82", files={"pynvml.py": "new"})
    install(env.site, "pynvml", "11.5.3", files={"pynvml/__init__.py": "old"})
    facts = env.facts()
    assert facts["overlap.0.packages"] == "nvidia-ml-py and pynvml"
    assert facts["overlap.0.module"] == "pynvml"


def test_a_leftover_is_told_apart_from_a_lost_package(env: Environment) -> None:
    """Where the package was installed again, only the folder is left."""
    install(env.site, "torch", "2.8.0")
    (env.site / "~orch").mkdir()
    (env.site / "~okenizers-0.22.1.dist-info").mkdir()
    (env.site / "~nknown").mkdir()
    facts = env.facts()
    gone = {
        facts[f"leftover.{n}.name"]: facts.get(f"leftover.{n}.package_gone") for n in range(facts["leftover.count"])
    }
    assert gone == {"~orch": False, "~okenizers-0.22.1.dist-info": True, "~nknown": None}


def test_editable_installs_are_told(env: Environment, tmp_path: Path) -> None:
    """With the folder that is gone, if it is; a password in an address is not told."""
    install(env.site, "vllm", "0.11.0", files={}, editable=str(tmp_path / "absent"))
    info = install(env.site, "trl", "0.21.0", files={})
    (info / "direct_url.json").write_text('{"url": "https://ada:secret@example.org/trl.whl"}')
    facts = env.facts()
    assert facts["package.vllm.editable"] is True
    assert facts["package.vllm.source_gone"] == str(tmp_path / "absent")
    assert facts["package.trl.source"] == "https://example.org/trl.whl"


def test_only_what_this_transformers_compares_is_checked_by_it(env: Environment) -> None:
    """requests with broken metadata stops transformers 4, which requires it, and not one that does not."""
    env.sound()
    install(env.site, "requests", "2.32.5", metadata=b"")
    assert "package.requests.version_checked_by" not in env.facts()
    install(env.site, "transformers", "4.57.1", requires=["requests", 'accelerate>=1; extra == "torch"'])
    assert env.facts()["package.requests.version_checked_by"] == "transformers"


# --- bad input


def test_an_empty_environment_is_a_normal_one(env: Environment) -> None:
    """No packages, no torch: nothing is wrong and nothing is invented."""
    facts, unchecked = told(env.python, env.work)
    assert facts["packages.count"] == 0
    assert not unchecked
    assert not [name for name in facts if name.startswith(("torch.", "extension.", "unmet.0"))]


def test_an_environment_without_its_folder_is_unchecked(env: Environment) -> None:
    """That packages could not be looked at is not the same as none."""
    env.site.rmdir()
    facts, unchecked = told(env.python, env.work)
    assert [item.what for item in unchecked] == ["the installed packages"]
    assert "packages.count" not in facts
    assert facts["python.version"] == "3.11.7"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_folder_is_unchecked(env: Environment) -> None:
    """And says why."""
    env.site.chmod(0)
    try:
        facts, unchecked = told(env.python, env.work)
    finally:
        env.site.chmod(0o755)
    assert "Permission denied" in unchecked[0].why
    assert not {"packages.count", "unmet.count"} & facts.keys()


def test_one_broken_part_costs_only_itself(env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a part stumbles over is told, and the others are still there."""

    def broken(*_: object) -> None:
        raise RuntimeError("stumbled")

    env.sound()
    monkeypatch.setattr(python, "_shadow_facts", lambda *_: (broken() for _ in [0]))
    facts, unchecked = told(env.python, env.work)
    assert [(item.what, item.why) for item in unchecked] == [("shadowed modules", "RuntimeError: stumbled")]
    assert facts["torch.cuda"] == "12.8"


def test_an_interpreter_of_another_architecture_is_read_like_any_other(tmp_path: Path) -> None:
    """And the difference is told."""
    facts, _ = told(interpreter(tmp_path / "arm", machine="aarch64"), tmp_path)
    assert facts["python.machine"] == "aarch64"
    assert facts["python.other_machine"] is (os.uname().machine not in ("aarch64", "arm64"))


def test_extensions_are_unchecked_where_the_loader_is_another(env: Environment) -> None:
    """Under musl, and where the interpreter is gone, nothing is said of what would be loaded."""
    env.sound()
    program = env.python.resolve()
    program.write_bytes(elf(["libc.musl-x86_64.so.1"], exports=["Py_BytesMain"]))
    facts, unchecked = told(env.python, env.work)
    assert "musl" in unchecked[0].why
    assert not [name for name in facts if name.startswith("extension.")]
    program.unlink()
    facts, unchecked = told(env.python, env.work)
    assert "not there" in unchecked[0].why
    assert facts["python.gone"] == str(program)
    assert facts["torch.version"] == "2.8.0"


def test_a_hundred_unmet_requirements_are_counted_and_not_all_told(env: Environment) -> None:
    """The count is full, the list is not endless."""
    install(env.site, "greedy", requires=[f"absent{number}" for number in range(300)])
    facts = env.facts()
    assert facts["unmet.count"] == 300
    assert sum(name.endswith(".requirement") for name in facts) == python.MOST_UNMET


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_garbage_in_any_file_is_survived(env: Environment, data: st.DataObject) -> None:
    """One file of an environment is replaced by noise: facts are told, nothing raises, no part is lost for it."""
    env.sound()
    install(env.site, "xformers", "0.0.35", files={"xformers/cpp_lib.json": "{}", "xformers/_C.so": elf(["libc10.so"])})
    files = sorted(
        path
        for path in env.site.rglob("*")
        if (path.is_file() and path.suffix not in (".py",)) or path.name == "version.py"
    )
    victim = data.draw(st.sampled_from(files))
    before = victim.read_bytes()
    victim.write_bytes(data.draw(st.binary(max_size=300)))
    try:
        facts, unchecked = told(env.python, env.work)
    finally:
        victim.write_bytes(before)
    assert facts["python.version"] == "3.11.7"
    assert not [item for item in unchecked if "Error" in item.why]


def test_this_very_interpreter_is_read(tmp_path: Path) -> None:
    """A real environment: the one that the tests run in, with the versions that importlib.metadata tells."""
    import importlib.metadata

    facts = {r.name: r.value for r in python.read(sys.executable, {}, str(tmp_path)) if isinstance(r, Fact)}
    assert facts["python.version"] == ".".join(map(str, sys.version_info[:3]))
    for name in ("pytest", "hypothesis", "msgspec"):
        assert facts[f"{name}.version"] == importlib.metadata.version(name)
