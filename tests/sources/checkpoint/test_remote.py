"""Code that a model brings of its own is looked for, never run."""

from __future__ import annotations

from pathlib import Path

from tests.sources.checkpoint.folders import llama, told, write_json

MAP = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    """Those of auto_map."""
    write_json(tmp_path / "config.json", llama(auto_map=MAP))
    (tmp_path / "configuration_own.py").write_text("raise SystemExit('run!')\n")
    found = told(tmp_path)
    assert (found["model.remote_code"], found["remote_code.files"]) == (True, 2)
    assert found["remote_code.missing"] == "modeling_own.py"


def test_what_these_import_from_beside_them_is_looked_for(tmp_path: Path) -> None:
    """An import inside `try` may fail."""
    write_json(tmp_path / "config.json", llama(auto_map=MAP))
    (tmp_path / "configuration_own.py").write_text("import torch\n")
    text = "from .configuration_own import OwnConfig\nfrom .layers_own import Layer\ntry:\n    from .fast import x\nexcept ImportError:\n    x = None\n"
    (tmp_path / "modeling_own.py").write_text(text)
    found = told(tmp_path)
    assert (found["remote_code.missing"], found["remote_code.imports_missing"]) == ("none", "layers_own.py")


def test_code_of_another_repository_is_named(tmp_path: Path) -> None:
    """It is fetched from there when the model is loaded."""
    write_json(tmp_path / "config.json", llama(auto_map={"AutoConfig": "owner/name--configuration_own.OwnConfig"}))
    found = told(tmp_path)
    assert (found["remote_code.repository"], found["remote_code.files"]) == ("owner/name", 0)


def test_odd_references_are_passed_over(tmp_path: Path) -> None:
    """A map may hold anything, and paths lead nowhere else."""
    odd = {"AutoConfig": 7, "AutoModel": ["../../etc/passwd", None, "x"], "AutoTokenizer": {"a": 1}}
    write_json(tmp_path / "config.json", llama(auto_map=odd))
    assert told(tmp_path)["remote_code.files"] == 0
