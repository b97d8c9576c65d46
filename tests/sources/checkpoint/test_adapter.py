"""An adapter is held against its config, its tensors and its base model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from diagnose.sources.checkpoint import adapter
from diagnose.sources.checkpoint.modules import short
from tests.sources.checkpoint.folders import in_cache, llama, plain, told, unchecked, write_json, write_tensors

LORA: dict[str, Any] = {
    "peft_type": "LORA",
    "base_model_name_or_path": "base",
    "r": 8,
    "lora_alpha": 16,
    "target_modules": ["q_proj", "v_proj"],
    "bias": "none",
    "init_lora_weights": True,
    "modules_to_save": None,
}


def tensors(
    rank: int = 8, width: int = 64, layers: int = 2, module: str = "self_attn.q_proj"
) -> dict[str, tuple[str, Sequence[int]]]:
    found: dict[str, tuple[str, Sequence[int]]] = {}
    for layer in range(layers):
        head = f"base_model.model.model.layers.{layer}.{module}"
        found[f"{head}.lora_A.weight"] = ("F32", (rank, width))
        found[f"{head}.lora_B.weight"] = ("F32", (64, rank))
    return found


def lay(folder: Path, config: dict[str, Any] | None = None, weights: dict[str, Any] | None = None, **base: int) -> Path:
    """An adapter and its base beside each other."""
    write_json(folder / "base" / "config.json", llama())
    write_tensors(folder / "base" / "model.safetensors", plain(**base))
    write_json(folder / "adapter" / "adapter_config.json", LORA if config is None else config)
    write_tensors(folder / "adapter" / "adapter_model.safetensors", tensors() if weights is None else weights)
    return folder / "adapter"


def test_a_whole_adapter_fits(tmp_path: Path) -> None:
    """Nothing that a rule asks for is wrong."""
    found = told(lay(tmp_path), folder=tmp_path)
    assert found["model.kind"] == "adapter"
    assert {
        "adapter.type": "LORA",
        "adapter.rank": 8,
        "adapter.largest_rank": 8,
        "adapter.weights": "adapter_model.safetensors",
        "adapter.lora_tensors": 4,
        "adapter.rank_fits": True,
        "adapter.base_found": True,
        "adapter.modules_absent": 0,
        "adapter.targets_missing": 0,
        "adapter.widths_fit": True,
        "adapter.is_own_base": False,
        "adapter.vllm_refuses": "none",
    }.items() <= found.items()
    assert "adapter.vocab_rows" not in found


@pytest.mark.parametrize(
    ("config", "weights", "name", "value"),
    [
        ({**LORA, "r": 16}, None, "adapter.rank_fits", False),
        ({**LORA, "r": 16}, None, "adapter.rank_of_tensors", 8),
        ({**LORA, "r": 16, "rank_pattern": {"q_proj": 8}}, None, "adapter.rank_fits", True),
        ({**LORA, "r": 16, "rank_pattern": {"q_proj": 8}}, None, "adapter.largest_rank", 16),
        (LORA, tensors(width=128), "adapter.widths_fit", False),
        (LORA, tensors(width=128), "adapter.base_width", 64),
        (LORA, tensors(layers=5), "adapter.modules_absent", 3),
        (LORA, tensors(layers=5), "adapter.module_absent", "model.layers.2.self_attn.q_proj"),
        ({**LORA, "target_modules": ["c_attn"]}, None, "adapter.targets_all_missing", True),
        ({**LORA, "target_modules": ["c_attn", "q_proj"]}, None, "adapter.targets_all_missing", False),
        ({**LORA, "target_modules": "all-linear"}, None, "adapter.targets_missing", None),
        ({**LORA, "peft_type": "QLORA"}, None, "adapter.type_known", False),
        ({**LORA, "peft_type": "VERA"}, None, "adapter.type_since", "0.11.0"),
        ({**LORA, "use_dora": True}, None, "adapter.settings_since", "0.9.0"),
        ({**LORA, "exclude_modules": None}, None, "adapter.keys_since", "0.14.0"),
        ({**LORA, "exclude_modules": None}, None, "adapter.settings_since", None),
        ({**LORA, "own_key": 1}, None, "adapter.unknown_keys", "own_key"),
        ({**LORA, "base_model_name_or_path": None}, None, "adapter.base", "none"),
        ({**LORA, "base_model_name_or_path": "/not/there"}, None, "adapter.base_found", False),
        ({"r": 8}, None, "adapter.type", "none"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told(tmp_path: Path, config: Any, weights: Any, name: str, value: Any) -> None:
    """By names and shapes alone."""
    assert told(lay(tmp_path, config, weights), folder=tmp_path).get(name) == value


def test_an_adapter_that_is_its_own_base_is_told(tmp_path: Path) -> None:
    """It would be loaded into itself."""
    path = str(tmp_path / "adapter")
    write_json(tmp_path / "adapter" / "config.json", llama())
    lay(tmp_path, {**LORA, "base_model_name_or_path": path})
    write_tensors(tmp_path / "adapter" / "model.safetensors", plain())
    assert told(path)["adapter.is_own_base"] is True


def test_another_vocabulary_is_told(tmp_path: Path) -> None:
    """An embedding saved with the adapter, of a tokenizer that was added to."""
    extra = {"base_model.model.model.embed_tokens.weight": ("F32", (130, 64))}
    found = told(lay(tmp_path, weights={**tensors(), **extra}), folder=tmp_path)
    assert (found["adapter.vocab_rows"], found["adapter.base_vocab_rows"]) == (130, 128)


def test_a_base_in_the_cache_is_found(tmp_path: Path) -> None:
    """By its id, without the network."""
    adapter_folder = lay(tmp_path, {**LORA, "base_model_name_or_path": "tiny/llama"})
    environ = {"HF_HUB_CACHE": str(tmp_path / "hub")}
    assert "the adapter against its base model" in unchecked(adapter_folder, environ)
    weights = write_tensors(tmp_path / "w", plain()).read_bytes()
    in_cache(tmp_path / "hub", files={"config.json": b"{}", "model.safetensors": weights})
    assert told(adapter_folder, environ)["adapter.widths_fit"] is True


def test_config_or_weights_alone_are_told(tmp_path: Path) -> None:
    """Either is of no use without the other."""
    folder = lay(tmp_path)
    (folder / "adapter_model.safetensors").unlink()
    assert told(folder)["adapter.weights"] == "none"
    lay(tmp_path)
    (folder / "adapter_config.json").unlink()
    assert told(folder)["adapter.has_config"] is False
    (folder / "adapter_config.json").write_text("{")
    assert told(folder)["adapter.error"]


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"use_dora": True}, ["use_dora"]),
        ({"bias": "all"}, ["bias"]),
        ({"modules_to_save": ["embed_tokens"]}, ["modules_to_save"]),
        ({"modules_to_save": ["score"]}, []),
        ({"init_lora_weights": "pissa"}, ["init_lora_weights"]),
        ({"init_lora_weights": "gaussian"}, []),
    ],
)
def test_what_vllm_refuses_is_told(changes: dict[str, Any], refused: list[str]) -> None:
    """As its peft_helper does."""
    assert adapter.vllm_refuses({**LORA, **changes}) == refused


def test_names_are_compared_from_the_layer_on() -> None:
    """Releases put other parts in front."""
    assert short("model.language_model.layers.3.mlp.up_proj") == short("language_model.model.layers.3.mlp.up_proj")
    assert short("model.embed_tokens") == "embed_tokens"
