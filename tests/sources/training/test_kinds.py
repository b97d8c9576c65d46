"""A mapping's kind is told by its keys, for every published configuration that is here."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.model import Fact, Step, Unchecked
from diagnose.sources import training
from diagnose.sources.training import kinds
from diagnose.sources.training.given import UNKNOWN
from tests.sources.training.reading import node

CORPUS = Path(__file__).parents[4] / "shared" / "corpus" / "training_configs"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("output_dir: out\nlearning_rate: 1.0e-4\nnum_train_epochs: 1\n", "trainer"),
        ("output_dir: out\npacking: true\nmax_length: 512\n", "trl"),
        ("model_name_or_path: a/b\nuse_peft: true\nlora_r: 8\n", "trl"),
        ("training:\n  output_dir: out\n  num_train_epochs: 1\n", "trainer"),
        ("peft_type: LORA\nr: 8\n", "peft"),
        ("r: 8\nlora_alpha: 16\ntarget_modules: all-linear\n", "peft"),
        ("load_in_4bit: true\nbnb_4bit_quant_type: nf4\n", "quantization"),
        ("zero_optimization: {stage: 2}\n", "deepspeed"),
        ("distributed_type: FSDP\nnum_processes: 2\n", "accelerate"),
        ("base_model: a/b\nadapter: lora\nmicro_batch_size: 1\ndatasets: [{path: x, type: alpaca}]\n", "axolotl"),
        ("stage: sft\nfinetuning_type: lora\nmodel_name_or_path: a/b\ntemplate: qwen\n", "llamafactory"),
        ("name: me\nhost: here\n", "unknown"),
        ("learning_rate: 0.1\nseed: 3\n", "unknown"),
        ("run: {world_size: 1, output_dir: out, weight_decay: 0.1, warmup_steps: 9}\n", "trainer"),
        ("model_name_or_path: a/b\nlora_rank: 8\nuse_lora: true\nwith_tracking: true\nseed: 1\n", "unknown"),
        ("rlhf_type: grpo\nnum_generations: 8\nmax_completion_length: 9\noutput_dir: out\n", "unknown"),
        ("beta: 2.5\ngamma_beta_ratio: 0.5\nmax_prompt_length: 9\noutput_dir: out\nbf16: true\n", "unknown"),
    ],
)
def test_a_kind_is_told_by_keys(text: str, kind: str) -> None:
    """Each framework's own keys tell it; names that any program may have tell nothing."""
    assert kinds.kind_of(node(text)) == kind


def test_every_kind_has_its_reader() -> None:
    """What stands in the order can be read."""
    assert all(kinds.reader(kind) is not None for kind in kinds.ORDER)
    assert kinds.reader("os") is None


_KEYS = st.sampled_from(
    ["output_dir", "r", "lora_alpha", "stage", "datasets", "deepspeed", "fsdp", "fsdp_config", "peft_config", "learning_rate",
     "packing", "zero_optimization", "quantization_config", "lora_target_modules", "max_steps", "eval_strategy", "x"]
)  # fmt: skip
_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(_KEYS, _VALUES, max_size=10))
def test_no_mapping_makes_a_reader_raise(value: dict[str, object]) -> None:
    """Values of any type under known keys are read or passed over."""
    import yaml

    document = node(yaml.safe_dump(value)) if value else node("a: 1")
    for kind in (*kinds.ORDER, UNKNOWN):
        kinds.read(document, "any.yaml", kind)
    kinds.kind_of(document)


_BY_FOLDER = {
    "LLaMA-Factory": {"llamafactory", "accelerate", "deepspeed"},
    "accelerate": {"accelerate"},
    "axolotl": {"axolotl", "deepspeed"},
    "DeepSpeedExamples": {"deepspeed"},
}
_NO_CONFIGS = ("cloud__modal.yaml",)


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the published configurations are not there")
def test_published_configurations_are_recognised() -> None:
    """Each is of the kind that its folder says, nothing raises, and only templates of JSON cannot be read."""
    wrong = []
    for path in sorted(CORPUS.rglob("*")):
        if not path.is_file() or path.name.endswith(_NO_CONFIGS):
            continue
        readings = list(training.read([str(path)], {}, str(CORPUS)))
        assert all(isinstance(item, (Fact, Step, Unchecked)) for item in readings)
        found = {item.name: item.value for item in readings if isinstance(item, Fact)}
        problem = found.get("training.file.0.problem")
        if problem == "template":
            assert path.suffix == ".json"
        elif problem or found["training.file.0.kind"] not in _BY_FOLDER[path.relative_to(CORPUS).parts[0]]:
            wrong.append((path.name, problem, found["training.file.0.kind"]))
    assert wrong == []
