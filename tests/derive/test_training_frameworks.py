"""LLaMA-Factory's templates by its own lists, and Axolotl's early stopping."""

from __future__ import annotations

import pytest

from diagnose import places
from diagnose.derive.training_frameworks import FILE, complete
from diagnose.model import Fact


def follows(**given: object) -> dict[str, object]:
    facts = [Fact(name.replace("__", "."), value, "l.yaml") for name, value in given.items()]  # type: ignore[arg-type]
    return {fact.name.rpartition(".")[2]: fact.value for fact in complete(facts)}


@pytest.mark.parametrize(
    ("template", "model", "expected"),
    [
        ("qwen", "Qwen/Qwen2.5-7B-Instruct", {}),
        ("llama3", "Qwen/Qwen2.5-7B-Instruct", {"template_of_model": "qwen"}),
        ("llama3", "org/of-my-own", {}),
        ("empty", "Qwen/Qwen2.5-7B-Instruct", {}),
        ("qwen3", "Qwen/Qwen3-4B-Instruct-2507", {"template_without_thinking": "qwen3_nothink"}),
        ("qwen3_nothink", "Qwen/Qwen3-8B", {}),
        ("qwen-3", "org/of-my-own", {"template_unknown": "qwen-3", "template_nearest": "qwen3"}),
        ("zzzzzz", "org/of-my-own", {"template_unknown": "zzzzzz"}),
    ],
)
def test_templates(template: str, model: str, expected: dict[str, str]) -> None:
    """An unknown name with its nearest, and the model's own template where the list has it and it is another."""
    assert follows(training__llamafactory__template=template, training__model=model) == expected


def test_every_template_of_the_list_of_models_exists() -> None:
    """No model is paired with a template that is not there."""
    table = places.table("training", FILE)
    assert len(table["templates"]) > 100
    assert set(table["models"].values()) <= set(table["templates"])


@pytest.mark.parametrize(
    ("saves", "evaluations", "odd"), [(100, 50, False), (100, 40, True), (0.5, 0.25, False), (100, 0, False)]
)
def test_checkpoints_that_fall_on_no_evaluation(saves: float, evaluations: float, odd: bool) -> None:
    """With early stopping each checkpoint has to fall on an evaluation."""
    given: dict[str, object] = {"training__framework": "axolotl", "training__early_stopping": 3}
    given |= {"training__save_steps": saves, "training__eval_steps": evaluations}
    assert ("saves_between_evaluations" in follows(**given)) is odd


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("torchtune.models.llama3_1.lora_llama3_1_8b", {}),
        ("torch.optim.AdamW", {}),
        ("mine.dataset", {}),
        (
            "torchtune.utils.FullModelHFCheckpointer",
            {"unknown": True, "nearest": "torchtune.training.FullModelHFCheckpointer"},
        ),
        (
            "torchtune.models.llama3_1.lora_lama3_1_8b",
            {"unknown": True, "nearest": "torchtune.models.llama3_1.lora_llama3_1_8b"},
        ),
        ("torchtune.zzz.qqqqqq", {"unknown": True}),
    ],
)
def test_components(name: str, expected: dict[str, object]) -> None:
    """A name of torchtune's that its last release has not, with the place where it is now, or the nearest name."""
    assert follows(training__framework="torchtune", training__torchtune__component__0__name=name) == expected
