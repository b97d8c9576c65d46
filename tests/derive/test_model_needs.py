"""What the tables tell of a model."""

from __future__ import annotations

from typing import Any

import pytest

from diagnose.derive.compat import complete
from diagnose.model import Fact


def told(facts: dict[str, Any]) -> dict[str, Any]:
    return {fact.name: fact.value for fact in complete([Fact(name, value, "test") for name, value in facts.items()])}


def test_the_releases_that_know_a_type_are_told() -> None:
    """Of one that every release knows, none."""
    assert told({"model.type": "qwen3"})["model.type_since"] == "4.51.0"
    assert told({"model.type": "open-llama"})["model.type_until"] == "4.57.6"
    old = told({"model.type": "llama"})
    assert (old["model.type_known"], "model.type_since" in old) == (True, False)


def test_an_unknown_type_leads_to_one_like_it() -> None:
    """And one that vLLM reads by itself is marked."""
    found = told({"model.type": "qwenn3"})
    assert (found["model.type_known"], found["model.type_nearest"]) == (False, "qwen3")
    assert told({"model.type": "kimi_k2"})["model.type_of_vllm"] is True


@pytest.mark.parametrize(
    ("facts", "loader", "library", "there"),
    [
        ({"transformers.version": "4.57.3", "packages.count": 9}, "transformers", "gptqmodel or auto-gptq", False),
        ({"transformers.version": "4.57.3", "auto-gptq.version": "0.7.1", "packages.count": 9}, "transformers", "gptqmodel or auto-gptq", True),
        ({"transformers.version": "5.3.0"}, "transformers", "gptqmodel", None),
        ({"transformers.version": "5.3.0", "vllm.version": "0.20.0", "packages.count": 9}, "vllm", None, None),
        ({"transformers.version": "5.3.0", "vllm.version": "0.20.0", "engine.name": "transformers", "packages.count": 9}, "transformers", "gptqmodel", False),
        ({"engine.name": "llama.cpp", "transformers.version": "5.3.0", "packages.count": 9}, None, None, None),
        ({"packages.count": 9}, None, None, None),
    ],
)  # fmt: skip
def test_the_library_of_a_method_is_that_of_what_loads_it(facts: Any, loader: Any, library: Any, there: Any) -> None:
    """vLLM and SGLang bring kernels of their own."""
    found = told({"model.quantization": "gptq", **facts})
    names = ("quantization.loader", "quantization.library", "quantization.library_installed")
    assert tuple(found.get(name) for name in names) == (loader, library, there)


def test_code_of_its_own_has_to_be_allowed() -> None:
    """Where no release has the type, and an engine is started that asks for leave."""
    facts = {
        "model.type": "own_model",
        "model.remote_code": True,
        "engine.name": "vllm",
        "launch.program": "vllm serve",
    }
    assert told(facts)["model.code_allowed"] is False
    assert told({**facts, "launch.trust_remote_code": True})["model.code_allowed"] is True
    assert "model.code_allowed" not in told({**facts, "model.type": "qwen2"})
    assert "model.code_allowed" not in told({**facts, "engine.name": "llama.cpp"})


def test_a_type_that_was_spelt_anew_is_known() -> None:
    """Which release reads which spelling is not told."""
    found = told({"model.type": "qwen3-5"})
    assert (found["model.type_known"], "model.type_since" in found) == (True, False)


def test_without_a_model_nothing_is_told() -> None:
    """The tables are for models here."""
    assert not [
        name for name in told({"transformers.version": "5.3.0"}) if name.startswith(("model.", "quantization."))
    ]


@pytest.mark.parametrize(
    ("version", "asked", "guessed"),
    [("4.57.3", "./prot_bert", True), ("5.24.0", "./prot_bert", False), ("4.57.3", "./mine", False), (None, "./prot_bert", False)],
)  # fmt: skip
def test_an_old_transformers_guesses_a_type_from_the_name(version: str | None, asked: str, guessed: bool) -> None:
    """Release 5 no longer does; of an unknown release nothing is taken for granted."""
    facts = {"model.kind": "folder", "config.has_model_type": False, "model.asked": asked}
    installed = {"transformers.version": version} if version else {}
    assert told(facts | installed)["model.type_guessed"] is guessed
    assert "model.type_guessed" not in told({"model.kind": "folder", "config.has_model_type": True})


def test_what_only_release_5_knows_is_told() -> None:
    """Of an unknown type nothing."""
    known = {
        kind: told({"model.type": kind}).get("model.type_before_5") for kind in ("llama", "qwen3", "qwen3_5", "own")
    }
    assert known == {"llama": True, "qwen3": True, "qwen3_5": False, "own": None}


def test_a_file_beside_the_config_needs_no_package() -> None:
    """transformers takes such weights for plain ones; the file is of the tool that made them."""
    facts = {"model.quantization": "awq", "transformers.version": "4.57.3", "packages.count": 9}
    assert "quantization.library" in told(facts | {"quantization.source": "config.json"})
    assert "quantization.library" not in told(facts | {"quantization.source": "quant_config.json"})
