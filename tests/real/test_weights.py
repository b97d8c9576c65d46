"""Weights that the real transformers writes are quiet, and what is said of changed ones is what it does with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.real
torch = pytest.importorskip("torch", reason="needs torch")
transformers = pytest.importorskip("transformers", reason="needs transformers")

from diagnose.sources.checkpoint import pickles  # noqa: E402
from diagnose.sources.settings import words  # noqa: E402
from tests.sources.checkpoint import models  # noqa: E402
from tests.sources.checkpoint.test_shapes import differing  # noqa: E402

SIZES: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "head_dim": 16,
    "num_key_value_heads": 2, "vocab_size": 160, "max_position_embeddings": 128, "num_experts": 4, "num_local_experts": 4,
    "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32,
    "n_shared_experts": 1, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "q_lora_rank": 24, "kv_lora_rank": 16,
    "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
KINDS = words(
    "llama mistral qwen2 qwen3 gemma gemma2 gemma3_text phi phi3 olmo2 granite cohere stablelm starcoder2 glm glm4 smollm3"
    " exaone4 seed_oss ernie4_5 mixtral qwen2_moe qwen3_moe olmoe glm4_moe dots1 minimax_m2 gpt_oss deepseek_v2 deepseek_v3"
    " opt gpt_neox"
)


def written(kind: str, folder: Path) -> Path:
    """A tiny model of a type with random weights, as save_pretrained writes it."""
    cls = transformers.models.auto.configuration_auto.CONFIG_MAPPING[kind]
    names = {*cls().to_dict(), *getattr(cls, "attribute_map", {})} - {"layer_types"}
    config = cls(**{name: value for name, value in SIZES.items() if name in names})
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_the_library_writes_is_quiet(kind: str, tmp_path: Path) -> None:
    """No faulty file, no name of a wrapper, no shape or layer that differs, and the parameters are as many as it counts."""
    model = written(kind, tmp_path / kind)
    known = models.facts(model)
    assert not models.problems(model)
    assert differing(known) == set()
    assert known.get("shape.layers.extra", 0) == known.get("shape.lacking", 0) == known["weights.lora_tensors"] == 0
    assert not known.get("shape.head_missing")
    assert not known.get("shape.embedding_missing")
    assert "weights.wrapper" not in known
    loaded = transformers.AutoModelForCausalLM.from_pretrained(model)
    assert known["weights.parameters"] == sum(one.numel() for one in loaded.state_dict().values()) - (
        loaded.lm_head.weight.numel() if loaded.config.tie_word_embeddings else 0
    )


@pytest.mark.parametrize(
    "change", [{"vocab_size": 161}, {"num_attention_heads": 8}, {"num_key_value_heads": 4}, {"intermediate_size": 128}]
)
def test_a_shape_that_differs_is_refused_by_the_library_too(change: dict[str, int], tmp_path: Path) -> None:
    """What is told before is what happens."""
    model = written("llama", tmp_path / "llama")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | change))
    assert differing(models.facts(model))
    with pytest.raises((RuntimeError, ValueError)):
        transformers.AutoModelForCausalLM.from_pretrained(model)


def test_ordinary_checkpoints_raise_no_alarm(tmp_path: Path) -> None:
    """Weights, an optimizer's state and a training checkpoint in both kinds of file; torch loads what is not refused."""
    model = torch.nn.Linear(4, 4)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(4)).sum().backward()
    optimizer.step()
    states = {"w": model.state_dict(), "o": optimizer.state_dict(), "all": {"m": model.state_dict(), "step": 3}}
    for name, state in states.items():
        for new in (True, False):
            path = tmp_path / f"{name}-{new}.bin"
            torch.save(state, path, _use_new_zipfile_serialization=new)
            found = pickles.scan(str(path))
            assert (found.dangerous, found.refused, found.problem, found.unread) == ((), (), "", "")
            torch.load(path, weights_only=True)


def test_what_is_called_refused_is_refused_by_torch(tmp_path: Path) -> None:
    """A whole model in place of its weights."""
    path = tmp_path / "model.pt"
    torch.save(torch.nn.Linear(4, 4), path)
    assert pickles.scan(str(path)).refused == ("torch.nn.modules.linear.Linear",)
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(path, weights_only=True)
