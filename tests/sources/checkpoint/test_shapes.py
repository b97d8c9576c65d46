"""Names and shapes of tensors against the config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.sources.checkpoint import models

Tensors = dict[str, tuple[str, tuple[int, ...]]]


def told(path: Path, tensors: Tensors, **config: Any) -> dict[str, Any]:
    """The facts of a model with these tensors, and with these changes to LLAMA (None: left out)."""
    value = {name: one for name, one in {**models.LLAMA, **config}.items() if one is not None}
    return models.facts(models.folder(path / "m", tensors, config=value))


def differing(known: dict[str, Any]) -> set[str]:
    """The comparisons that do not hold."""
    got = {name.split(".")[1] for name in known if name.startswith("shape.") and name.endswith(".got")}
    return {what for what in got if known[f"shape.{what}.got"] != known[f"shape.{what}.wanted"]}


def test_a_model_that_fits_its_config_has_no_difference(tmp_path: Path) -> None:
    """All is compared, and all agrees."""
    known = told(tmp_path, models.llama())
    assert differing(known) == set()
    assert {name for name in known if name.endswith(".got")} == {
        f"shape.{what}.got" for what in ("vocab", "head", "layers", "hidden", "heads", "kv_heads", "intermediate")
    }


def test_modules_are_named_once_whatever_their_layers_number(tmp_path: Path) -> None:
    """`#` for numbers; more names than anybody reads are not told."""
    names = told(tmp_path, models.llama())["weights.modules"].split(",")
    assert {"lm_head", "model.embed_tokens", "model.layers.#.mlp.up_proj", "model.layers.#.self_attn.q_proj"} <= set(
        names
    )
    many = {f"layer_{index}.weight": ("F32", (1, 1)) for index in range(2000)}
    assert "weights.modules" not in told(tmp_path / "many", many)


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"vocab_size": 17}, {"vocab", "head"}),
        ({"hidden_size": 16}, {"hidden"}),
        ({"num_attention_heads": 4}, {"heads"}),
        ({"num_key_value_heads": 2}, {"kv_heads"}),
        ({"num_key_value_heads": None}, {"kv_heads"}),
        ({"head_dim": 8}, {"heads", "kv_heads"}),
        ({"intermediate_size": 16}, {"intermediate"}),
        ({"num_hidden_layers": 3}, {"layers"}),
    ],
)
def test_a_config_of_another_size_is_told_by_what_differs(
    tmp_path: Path, config: dict[str, Any], what: set[str]
) -> None:
    """And by nothing else."""
    assert differing(told(tmp_path, models.llama(), **config)) == what


def test_only_the_embedding_was_resized(tmp_path: Path) -> None:
    """The output layer still fits, and the tensor is named."""
    known = told(tmp_path, models.llama(embed=(18, 8)))
    assert differing(known) == {"vocab"}
    assert known["shape.vocab.tensor"] == "model.embed_tokens.weight"
    assert known["shape.vocab.shape"] == "18 x 8"


def test_an_embedding_that_has_more_than_the_vocabulary_by_design_is_not_compared(tmp_path: Path) -> None:
    """Llama 3.2 Vision has eight rows more."""
    known = told(tmp_path, models.llama(embed=(24, 8)), model_type="mllama_text_model")
    assert "shape.vocab.got" not in known


def test_an_embedding_outside_of_what_holds_the_layers_is_there(tmp_path: Path) -> None:
    """Qianfan-OCR's layers lie in an encoder, its embedding beside that; one of another part does not count."""
    moved = {name.replace("model.layers.", "model.encoder.layers."): one for name, one in models.llama().items()}
    assert told(tmp_path, moved)["shape.embedding_missing"] is False
    moved["vision_model.embed_tokens.weight"] = moved.pop("model.embed_tokens.weight")
    assert told(tmp_path, moved)["shape.embedding_missing"] is True


def test_layers_beyond_the_config_are_counted_unless_they_predict_ahead(tmp_path: Path) -> None:
    """A model with MTP layers may have more than it counts."""
    assert told(tmp_path, models.llama(3))["shape.layers.extra"] == 1
    assert "shape.layers.extra" not in told(tmp_path, models.llama(3), num_nextn_predict_layers=1)


def test_missing_layers_are_named(tmp_path: Path) -> None:
    """Those within the count that have no tensor."""
    tensors = {name: one for name, one in models.llama(4).items() if ".layers.2." not in name}
    known = told(tmp_path, tensors, num_hidden_layers=4)
    assert known["shape.layers.missing"] == "2"


def test_a_tensor_that_one_layer_lacks_is_named(tmp_path: Path) -> None:
    """Where most layers have it; not where a layer is of another kind."""
    tensors = models.llama(4)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    known = told(tmp_path, tensors, num_hidden_layers=4)
    assert (known["shape.lacking"], known["shape.lacking_example"]) == (1, "model.layers.1.mlp.up_proj.weight")
    tensors["model.layers.1.mlp.experts.0.up_proj.weight"] = ("BF16", (4, 8))
    assert told(tmp_path, tensors, num_hidden_layers=4)["shape.lacking"] == 0


def test_a_layer_that_is_not_quantized_lacks_nothing(tmp_path: Path) -> None:
    """Its scales are not missed."""
    tensors = models.llama(4)
    for n in range(1, 4):
        tensors[f"model.layers.{n}.mlp.up_proj.weight_scale"] = ("F32", (1,))
    assert told(tmp_path, tensors, num_hidden_layers=4)["shape.lacking"] == 0


@pytest.mark.parametrize(
    ("config", "missing"),
    [
        ({}, True),
        ({"tie_word_embeddings": None}, True),
        ({"tie_word_embeddings": True}, None),
        ({"architectures": ["LlamaModel"]}, None),
        ({"architectures": ["LlamaForSequenceClassification"]}, None),
        ({"model_type": "gemma", "tie_word_embeddings": None}, None),
        ({"model_type": "made_up"}, None),
    ],
)
def test_an_output_layer_is_missed_only_where_one_must_be(
    tmp_path: Path, config: dict[str, Any], missing: bool | None
) -> None:
    """Not in a model that ties it to the embedding, gives no text, or is not known."""
    tensors = models.llama()
    del tensors["lm_head.weight"]
    assert told(tmp_path, tensors, **config).get("shape.head_missing") == missing


def test_a_model_for_embeddings_needs_no_output_layer(tmp_path: Path) -> None:
    """Its folder says that it is one."""
    tensors = models.llama()
    del tensors["lm_head.weight"]
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "modules.json").write_text("[]")
    assert "shape.head_missing" not in told(tmp_path, tensors)


def test_a_packed_output_layer_is_there(tmp_path: Path) -> None:
    """It has another name under quantization."""
    tensors = models.llama()
    del tensors["lm_head.weight"]
    tensors["lm_head.qweight"] = ("I32", (1, 16))
    assert told(tmp_path, tensors)["shape.head_missing"] is False


def test_packed_tensors_are_not_compared(tmp_path: Path) -> None:
    """Their shapes are not those of the weights."""
    tensors = {name: ("I32", (1, 8)) if "_proj" in name else one for name, one in models.llama().items()}
    known = told(tmp_path, tensors)
    assert not {f"shape.{what}.got" for what in ("heads", "kv_heads", "intermediate")} & known.keys()


def test_experts_are_counted(tmp_path: Path) -> None:
    """In every layer."""
    tensors = models.llama()
    for n in range(2):
        for expert in range(3):
            tensors[f"model.layers.{n}.mlp.experts.{expert}.up_proj.weight"] = ("BF16", (4, 8))
    known = told(tmp_path, tensors, model_type="qwen3_moe", num_experts=4)
    assert (known["shape.experts.got"], known["shape.experts.wanted"]) == (3, 4)


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "base_model.model.", "_forward_module."])
def test_names_of_a_wrapper_are_told(tmp_path: Path, wrapper: str) -> None:
    """Where they stand in front of the tensors' own."""
    tensors = {wrapper + name: one for name, one in models.llama().items()}
    assert told(tmp_path, tensors)["weights.wrapper"] == wrapper
    assert "weights.wrapper" not in told(tmp_path, models.llama())


def test_a_wrapper_within_names_is_told(tmp_path: Path) -> None:
    """FSDP and checkpointing put theirs into the middle."""
    tensors = {name.replace("layers.1.", "layers.1._fsdp_wrapped_module."): one for name, one in models.llama().items()}
    assert told(tmp_path, tensors)["weights.wrapper"] == "_fsdp_wrapped_module."


def test_tensors_of_an_adapter_are_counted_unless_the_model_has_adapters_of_its_own(tmp_path: Path) -> None:
    """A merge that was forgotten, an adapter under the model's name, a model that says it has them."""
    lora = {"model.layers.0.self_attn.q_proj.lora_A.default.weight": ("BF16", (2, 8))}
    known = told(tmp_path, models.llama() | lora)
    assert (known["weights.lora_tensors"], known["weights.lora_only"]) == (1, False)
    assert told(tmp_path, lora)["weights.lora_only"] is True
    assert "weights.lora_tensors" not in told(tmp_path, models.llama() | lora, vision_lora={"r": 2})


def test_the_language_model_is_found_beside_others(tmp_path: Path) -> None:
    """In a multimodal model its layers are compared, and not those of the part that sees."""
    tensors: Tensors = {f"model.language_{name}": one for name, one in models.llama().items()}
    for n in range(9):
        tensors[f"model.visual.blocks.{n}.attn.qkv.weight"] = ("BF16", (64, 64))
    text = {**models.LLAMA}
    known = models.facts(
        models.folder(
            tmp_path / "m", tensors, config={"model_type": "made_vl", "text_config": text, "vision_config": {}}
        )
    )
    assert (known["shape.layers.got"], known["shape.layers.wanted"]) == (2, 2)
    assert known["shape.vocab.got"] == 16


def test_odd_values_of_the_config_do_no_harm(tmp_path: Path) -> None:
    """Texts, lists, huge and negative numbers where numbers should be."""
    for odd in ("x", [1, 2], -1, 10**30, 0, True, {"a": 1}):
        for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "head_dim", "architectures", "tie_word_embeddings"):  # fmt: skip
            told(tmp_path, models.llama(), **{name: odd})


def test_odd_names_of_tensors_do_no_harm(tmp_path: Path) -> None:
    """Numbers of thousands of digits, digits of other scripts, names that end where a layer's would go on."""
    odd = (
        f"model.layers.{'9' * 5000}.x",
        "model.layers.٣.x",
        "model.layers.1",
        "model.layers..x",
        "layers.",
        "",
        "\n",
        "layers.0.x",
    )
    known = told(tmp_path, models.llama() | dict.fromkeys(odd, ("BF16", (1,))))
    assert (known["shape.layers.got"], known["shape.layers.extra"]) == (2, 0)
