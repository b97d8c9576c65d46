"""Files of the user's own that would be imported in place of a package are found, and harmless ones are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sources.environments import environment, install, site_of, told


class Project:
    """An environment with some packages, and a working directory."""

    def __init__(self, tmp_path: Path) -> None:
        self.env = environment(tmp_path)
        self.site = site_of(self.env)
        self.work = tmp_path / "work"
        self.work.mkdir()
        for name, version in (("torch", "2.8.0"), ("transformers", "4.57.1"), ("vllm", "0.11.0")):
            install(self.site, name, version)

    def add(self, *paths: str) -> None:
        for path in paths:
            file = self.work / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()

    def shadows(self, folder: Path | None = None, **environ: str) -> dict[str, dict[str, object]]:
        """The shadows by module."""
        facts, _ = told(self.env / "bin" / "python", folder or self.work, environ)
        found: dict[str, dict[str, object]] = {}
        for name, value in facts.items():
            head, _, rest = name.partition(".")
            if head == "shadow":
                number, _, key = rest.partition(".")
                found.setdefault(number, {})[key] = value
        return {str(shadow["module"]): shadow for shadow in found.values()}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_a_script_named_like_a_package_hides_it(project: Project) -> None:
    """torch.py beside the script is what `import torch` gets."""
    project.add("torch.py", "train.py")
    assert project.shadows() == {
        "torch": {
            "module": "torch",
            "path": str(project.work / "torch.py"),
            "kind": "file",
            "hides": "torch 2.8.0",
            "standard": False,
            "checkout": False,
        }
    }


def test_a_script_named_like_a_standard_module_hides_it(project: Project) -> None:
    """random.py is what every library gets that says `import random`."""
    project.add("random.py")
    assert project.shadows()["random"]["standard"] is True


def test_a_folder_hides_only_if_it_is_a_package(project: Project) -> None:
    """Without __init__.py the installed package wins."""
    project.add("transformers/notes.txt")
    assert project.shadows() == {}
    project.add("transformers/__init__.py")
    assert project.shadows()["transformers"]["kind"] == "package"


def test_what_is_not_installed_is_not_hidden(project: Project) -> None:
    """A project may have modules of any name that nobody else needs."""
    project.add("sglang.py", "utils.py", "tests/__init__.py", "code_of_mine.py", "this.py")
    assert project.shadows() == {}


def test_modules_that_are_loaded_at_start_cannot_be_hidden(project: Project) -> None:
    """os and sys are imported before the working directory counts; a module that is not a file cannot be hidden either."""
    project.add("os.py", "sys.py", "io.py", "math.py")
    assert project.shadows() == {}


def test_a_clone_of_the_sources_hides_a_normal_installation(project: Project) -> None:
    """Working in a clone of vllm, the compiled parts of the installed one are out of reach."""
    project.add("pyproject.toml", "vllm/__init__.py")
    assert project.shadows()["vllm"]["checkout"] is True


def test_a_clone_that_is_installed_in_place_hides_nothing(project: Project) -> None:
    """The folder is the installation."""
    project.add("pyproject.toml", "vllm/__init__.py")
    install(project.site, "vllm", "0.11.0", files={}, editable=str(project.work))
    assert project.shadows() == {}


def test_pythonpath_is_looked_into_and_site_packages_are_not(project: Project, tmp_path: Path) -> None:
    """A folder on PYTHONPATH hides as well; the packages' own folder hides nothing, even as working directory."""
    other = tmp_path / "lib"
    other.mkdir()
    (other / "transformers.py").touch()
    assert "transformers" in project.shadows(PYTHONPATH=f"{other}:/nonexistent")
    assert project.shadows(project.site) == {}


def test_python_can_be_told_to_keep_the_folder_out(project: Project) -> None:
    """With PYTHONSAFEPATH the working directory is not on sys.path."""
    project.add("torch.py")
    assert project.shadows(PYTHONSAFEPATH="1") == {}


def test_a_folder_that_cannot_be_read_is_no_trouble(project: Project, tmp_path: Path) -> None:
    """It hides nothing."""
    assert project.shadows(tmp_path / "absent") == {}
