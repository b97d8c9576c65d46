"""What follows of a training's settings by arithmetic is what transformers and TRL reckon; nothing follows of what is not known."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose import facts as catalogue
from diagnose import ruleset
from diagnose.derive import complete, tuning
from diagnose.match import match
from diagnose.model import Case, Fact
from diagnose.sources import training
from tests.support import CORPUS, facts_of_files

LLAMA_3_8B = 8_030_261_248


def facts_of(known: dict[str, Any], given_: dict[str, Any]) -> tuple[Fact, ...]:
    """Common facts, and settings under their own keys."""
    made = [Fact(name, value, "train.yaml", 1, 1) for name, value in known.items()]
    for number, (key, value) in enumerate(given_.items()):
        text = str(value).lower() if isinstance(value, bool) else str(value)
        made += [
            Fact(f"training.given.{number}.key", key, "train.yaml"),
            Fact(f"training.given.{number}.value", text, "train.yaml"),
        ]
    return tuple(made)


def told(known: dict[str, Any], given_: dict[str, Any] | None = None) -> dict[str, Any]:
    """What follows; `framework` and the like stand for `training.framework`."""
    whole = {name if "." in name else f"training.{name}": value for name, value in known.items()}
    return {fact.name: fact.value for fact in tuning.complete(facts_of(whole, given_ or {}))}


def test_batches_multiply_over_processes() -> None:
    """Sequences per step are batch times accumulation times processes."""
    found = told({"framework": "trl", "batch": 4, "accumulation": 8, "processes": 6})
    assert (found["tuning.world"], found["tuning.batch_per_process"], found["tuning.global_batch"]) == (6, 32, 192)


@pytest.mark.parametrize(
    ("known", "world"),
    [
        ({"deploy.processes_all": 16, "deploy.processes": 8}, 16),
        ({"deploy.processes": 8, "deploy.nodes": 2}, 16),
        ({"deploy.processes": 8}, 8),
        ({"deploy.launcher": "accelerate", "accelerate.distributed": "NO", "training.processes": 4}, 1),
        ({"training.command_kind": "script"}, 1),
        ({}, None),
    ],
)
def test_processes_come_from_settings_or_launcher(known: dict[str, Any], world: int | None) -> None:
    """A configuration alone says nothing of the number of processes."""
    assert told({"framework": "trl"} | known).get("tuning.world") == world


def test_llamafactory_starts_a_process_for_each_gpu() -> None:
    """Its own command starts torchrun over all GPUs, unless NPROC_PER_NODE says otherwise."""
    known = {"framework": "llamafactory", "command_kind": "llamafactory", "gpu.vendor": "nvidia", "gpu.count": 4}
    assert told(known)["tuning.world"] == 4
    assert told(known | {"launch.env.NPROC_PER_NODE": "2", "launch.env.NNODES": "3"})["tuning.world"] == 6
    assert "tuning.world" not in told(known | {"gpu.vendor": "none"})


def test_processes_that_share_a_sequence_tell_no_batch() -> None:
    """With tensor or context parallelism several processes see the same examples."""
    known = {"framework": "axolotl", "batch": 1, "accumulation": 1, "processes": 8}
    assert "tuning.global_batch" not in told(known, {"context_parallel_size": 2})
    assert "tuning.global_batch" not in told(known | {"accelerate.tp": 2})
    assert told(known, {"context_parallel_size": 1})["tuning.global_batch"] == 8


def test_plain_python_on_several_gpus() -> None:
    """transformers' Trainer copies the model to all, TRL refuses that or splits what it loads; a launcher starts one for each."""
    known = {
        "framework": "trainer",
        "batch": 4,
        "accumulation": 1,
        "command_kind": "script",
        "gpu.vendor": "nvidia",
        "gpu.count": 4,
    }
    name = "tuning.one_process_on_gpus"
    assert told(known)[name] == "data-parallel"
    assert told(known)["tuning.global_batch"] == 16
    assert told(known | {"framework": "trl", "model": "m"})[name] == "split"
    assert told(known | {"framework": "trl", "model": "m", "model_class": "AutoModelForCausalLM"})[name] == "refused"
    for other in (
        {"on_cpu": True},
        {"gpu.count": 1},
        {"device_map": "auto"},
        {"quantization": "4bit"},
        {"deploy.launcher": "torchrun", "deploy.processes": 4},
    ):
        assert name not in told(known | other)


def simulated(
    examples: int, batch: int, world: int, accumulation: int, epochs: float, drop_last: bool
) -> tuple[int, int]:
    """Optimizer steps of one pass, and of the training, by going through the loop of transformers' Trainer (5.24)."""
    batches = [min(batch, examples - start) for start in range(0, examples, batch)]
    if drop_last:
        batches = [size for size in batches if size == batch]
        mine = len(batches) // world
    else:
        mine = math.ceil(len(batches) / world)
    per_epoch = max(sum(1 for step in range(mine) if (step + 1) % accumulation == 0 or step + 1 == mine), 1)
    total = 0
    while total < math.ceil(epochs * per_epoch):
        total += 1
    return per_epoch, total


@given(
    examples=st.integers(1, 3000),
    batch=st.integers(1, 33),
    world=st.integers(1, 9),
    accumulation=st.integers(1, 17),
    epochs=st.sampled_from([0.1, 0.5, 1, 1.7, 2, 3.0, 5]),
    drop_last=st.booleans(),
)
def test_steps_are_those_of_the_loop(
    examples: int, batch: int, world: int, accumulation: int, epochs: float, drop_last: bool
) -> None:
    """Steps of a pass and of the training are those that the loop would make."""
    known = {
        "framework": "trl",
        "batch": batch,
        "accumulation": accumulation,
        "epochs": epochs,
        "processes": world,
        "data.examples": examples,
    }
    found = told(known, {"dataloader_drop_last": drop_last})
    assert (found["tuning.steps_per_epoch"], found["tuning.total_steps"]) == simulated(
        examples, batch, world, accumulation, epochs, drop_last
    )


def test_a_number_of_steps_goes_before_epochs() -> None:
    """max_steps counts, and that epochs were set too is told; what a framework only assumes was not set."""
    found = told({"framework": "trl", "max_steps": 70, "epochs": 3, "batch": 1, "accumulation": 1})
    assert (found["tuning.total_steps"], found["tuning.epochs_given"]) == (70, True)
    assumed = (Fact("training.framework", "axolotl", "a.yaml", 1), Fact("training.max_steps", 70, "a.yaml", 2))
    default = Fact("training.epochs", 1.0, "axolotl's default", key="num_epochs")
    names = {fact.name: fact.value for fact in tuning.complete((*assumed, default))}
    assert names["tuning.epochs_given"] is False


def test_a_sampled_or_streamed_part_tells_no_steps() -> None:
    """Steps follow only of data that was read to its end."""
    known = {"framework": "trl", "batch": 1, "accumulation": 1, "epochs": 1, "processes": 1, "data.examples": 100}
    assert told(known)["tuning.total_steps"] == 100
    assert "tuning.total_steps" not in told(known | {"data.sampled": True})
    assert "tuning.total_steps" not in told(known, {"dataset_streaming": True})
    assert "tuning.total_steps" not in told(known | {"data.mapped": True})


def test_data_that_was_not_read_leaves_steps_open() -> None:
    """A training that names two files has more examples than the one that was read."""
    known = {"framework": "trl", "batch": 1, "accumulation": 1, "epochs": 1, "processes": 1, "data.examples": 100}
    named = {f"training.dataset.{number}.role": "train" for number in range(2)}
    assert "tuning.total_steps" not in told(known | named | {"data.file.0.role": "train"})
    assert told(known | named | {"data.file.0.role": "train", "data.file.1.role": "train"})["tuning.total_steps"] == 100
    assert (
        told(known | {"training.dataset.0.role": "train", "training.dataset.1.role": "eval"})["tuning.total_steps"]
        == 100
    )


def test_packed_sequences_are_what_their_tokens_fill() -> None:
    """Packing makes fewer sequences, and without a count of tokens none are told."""
    known = {
        "framework": "trl",
        "batch": 1,
        "accumulation": 1,
        "epochs": 1,
        "processes": 1,
        "data.examples": 1000,
        "packing": True,
        "max_length": 2048,
    }
    assert "tuning.sequences" not in told(known)
    assert told(known | {"data.tokens": 204_801})["tuning.sequences"] == 101


def test_what_is_held_back_for_evaluation_is_not_trained_on() -> None:
    """A share and a number are both taken off."""
    known = {"framework": "axolotl", "data.examples": 1001}
    assert told(known | {"eval_share": 0.1})["tuning.sequences"] == 900
    assert told(known | {"eval_share": 50})["tuning.sequences"] == 951
    assert told(known | {"eval_share": 0.0})["tuning.sequences"] == 1001


@pytest.mark.parametrize(
    ("given_", "prompts", "accumulation", "steps"),
    [({}, 8, 1, 4), ({}, 8, 2, 2), ({"num_iterations": 2}, 9, 2, 4), ({"steps_per_generation": 4}, 8, 2, 2)],
)
def test_generated_rounds_are_counted_as_trl_counts_them(
    given_: dict[str, Any], prompts: int, accumulation: int, steps: int
) -> None:
    """The numbers are those of real GRPOTrainer runs (1.16): batch 4, two completions per prompt, one process."""
    known = {
        "framework": "trl",
        "task": "grpo",
        "batch": 4,
        "generations": 2,
        "accumulation": accumulation,
        "epochs": 1,
        "processes": 1,
        "data.examples": prompts,
    }
    assert told(known, given_)["tuning.total_steps"] == steps


def test_completions_per_prompt_have_to_divide_a_round() -> None:
    """What is left over is told, with TRL's own eight where none are set; an unknown world tells nothing."""
    known = {"framework": "trl", "task": "grpo", "batch": 4, "accumulation": 1, "processes": 3}
    assert told(known)["tuning.generation_left"] == 4
    assert told(known | {"generations": 6})["tuning.generation_left"] == 0
    assert told(known | {"generations": 6})["tuning.prompts_per_round"] == 2
    assert told(known, {"generation_batch_size": 40})["tuning.generation_round_left"] == 4
    assert told(known | {"eval": "steps", "eval_batch": 1})["tuning.eval_generation_left"] == 3
    del known["processes"]
    assert "tuning.generation_left" not in told(known)


def test_warmup_in_steps_or_as_a_share() -> None:
    """Steps go before a share; a share is rounded up, in Axolotl down."""
    known = {"framework": "trl", "max_steps": 305}
    assert told(known | {"warmup_steps": 10, "warmup_ratio": 0.5})["tuning.warmup_steps"] == 10
    assert told(known | {"warmup_ratio": 0.1})["tuning.warmup_steps"] == 31
    assert told(known | {"warmup_ratio": 0.1, "framework": "axolotl"})["tuning.warmup_steps"] == 30
    assert told(known | {"warmup_steps": 61})["tuning.warmup_percent"] == 20.0
    assert "tuning.warmup_steps" not in told(known | {"warmup_steps": 0})


def test_saves_and_evaluations_are_counted() -> None:
    """The end is saved too; what a limit deletes lies there while the next one is written, and so does the best."""
    known = {
        "framework": "trl",
        "max_steps": 1050,
        "save": "steps",
        "save_steps": 100,
        "eval": "steps",
        "eval_steps": 50,
    }
    found = told(known)
    assert (found["tuning.saves"], found["tuning.saves_kept"], found["tuning.evaluations"]) == (11, 11, 21)
    assert told(known | {"save_limit": 2})["tuning.saves_kept"] == 3
    assert told(known | {"save_limit": 2, "load_best": True})["tuning.saves_kept"] == 4
    assert told(known | {"save_steps": 0.25})["tuning.save_every"] == 263
    assert told({"framework": "trl", "max_steps": 100})["tuning.save_every"] == 500
    assert "tuning.save_every" not in told({"framework": "trl", "save": "no", "max_steps": 100})


@pytest.mark.parametrize(
    ("known", "answer"),
    [
        ({}, "strategies"),
        ({"eval": "epoch", "save": "epoch"}, None),
        ({"eval": "steps", "save": "epoch"}, "strategies"),
        ({"eval": "steps", "eval_steps": 100, "save": "best"}, None),
        ({"eval": "steps", "eval_steps": 300}, "multiple"),
        ({"eval": "steps", "eval_steps": 250}, "none"),
        ({"eval": "steps", "eval_steps": 0.1, "save_steps": 500}, "mixed"),
        ({"eval": "steps", "eval_steps": 0.3, "save_steps": 0.5}, "multiple"),
        ({"eval": "steps", "eval_steps": 0.1, "save_steps": 0.3}, "none"),
    ],
)
def test_intervals_are_refused_where_transformers_refuses_them(known: dict[str, Any], answer: str | None) -> None:
    """Each answer was asked of TrainingArguments(load_best_model_at_end=True, …) of transformers 5.24."""
    assert told({"framework": "trainer", "load_best": True} | known).get("tuning.saves_between_evals") == answer


@pytest.mark.parametrize(
    ("known", "answer"),
    [({"epochs": 0}, True), ({"epochs": -1}, True), ({"epochs": 0, "max_steps": 10}, None), ({"epochs": 0.1}, None)],
)
def test_no_passes_are_nothing_to_train_unless_steps_are_set(known: dict[str, Any], answer: bool | None) -> None:
    """A number of steps goes before the passes, also where these are 0."""
    assert told({"framework": "trainer"} | known).get("tuning.no_passes") is answer
    assert told({"framework": "trainer", "script": "train.py"} | known).get("tuning.no_passes") is not True


@pytest.mark.parametrize(
    ("known", "by"),
    [
        ({}, "none"),
        ({"accelerate.distributed": "FSDP"}, "FSDP"),
        ({"deploy.launcher": "accelerate", "deploy.distributed": "MULTI_GPU"}, "none"),
        ({"deploy.launcher": "accelerate"}, None),
        ({"deepspeed": "zero2.json", "deploy.distributed": "MULTI_GPU"}, "DeepSpeed"),
    ],
)
def test_who_shards_is_told_by_settings_and_launcher(known: dict[str, Any], by: str | None) -> None:
    """accelerate may read a file of its own that is not known here."""
    assert told({"framework": "trainer"} | known).get("tuning.sharded_by") == by


def test_a_script_leaves_defaults_unknown() -> None:
    """What a script does not say as a literal it may set otherwise."""
    known = {"framework": "trainer", "load_best": True, "prefetch": 2}
    assert told(known)["tuning.workers"] == 0
    assert "tuning.workers" not in told(known | {"script": "train.py"})
    assert "tuning.saves_between_evals" not in told(known | {"script": "train.py"})


def of_file(text: str, folder: Path) -> dict[str, Any]:
    """What follows of a configuration."""
    (folder / "train.yaml").write_text(text)
    return {fact.name: fact.value for fact in complete(facts_of_files(folder, "train.yaml"))}


def test_a_placeholder_is_a_value_that_is_not_known_and_no_default(tmp_path: Path) -> None:
    """Who fills it in may put anything there: neither a batch nor a refused strategy follows of what it is left out as."""
    head = "output_dir: out\nlearning_rate: 1.0e-5\nload_best_model_at_end: true\n"
    assert of_file(head, tmp_path)["tuning.saves_between_evals"] == "strategies"
    assert of_file(head, tmp_path)["tuning.batch_per_process"] == 8
    text = "eval_strategy: ${EVAL}\nper_device_train_batch_size: ${BATCH}\ndataloader_num_workers: '{{ workers }}'\noptim: $OPTIM\n"
    open_ = of_file(head + text, tmp_path)
    assert open_["training.load_best"] is True
    assert (
        not {"tuning.saves_between_evals", "tuning.batch_per_process", "tuning.workers", "tuning.optimizer_kind"}
        & open_.keys()
    )


def test_steps_do_not_follow_where_their_number_is_left_open() -> None:
    """A number of steps goes before epochs, so that of an unknown one nothing is told; nor of TRL's rounds of an unknown size."""
    known = {"framework": "trl", "batch": 1, "accumulation": 1, "epochs": 1, "processes": 1, "data.examples": 100}
    assert told(known)["tuning.total_steps"] == 100
    assert "tuning.total_steps" not in told(known, {"max_steps": "${STEPS}"})
    rounds = known | {"task": "grpo", "batch": 4, "generations": 3}
    assert told(rounds)["tuning.generation_left"] == 1
    assert "tuning.generation_left" not in told(rounds, {"generation_batch_size": "${ROUND}"})


def of_script(text: str, folder: Path) -> dict[str, Any]:
    """What follows of a training script."""
    (folder / "train.py").write_text(text)
    readings = training.read(["train.py"], {}, str(folder))
    return {fact.name: fact.value for fact in complete(tuple(item for item in readings if isinstance(item, Fact)))}


def test_a_call_that_is_seen_whole_has_defaults_for_the_rest(tmp_path: Path) -> None:
    """Not so for arguments that are computed, nor where some may come out of a mapping or another call."""
    head = "from transformers import TrainingArguments\n"
    whole = of_script(
        head + "args = TrainingArguments('out', learning_rate=1e-4, dataloader_prefetch_factor=2)\n", tmp_path
    )
    assert (whole["training.arguments_computed"], whole["tuning.workers"]) == ("none", 0)
    text = (
        head
        + "args = TrainingArguments('out', learning_rate=1e-4, dataloader_num_workers=cores(), use_cpu=cpu)\nargs.optim = pick()\n"
    )
    some = of_script(text, tmp_path)
    assert some["training.arguments_computed"] == "dataloader_num_workers,optim,use_cpu"
    assert some["tuning.batch_per_process"] == 8
    assert not {"tuning.workers", "tuning.on_cpu", "tuning.optimizer_kind"} & some.keys()
    for text in (
        "TrainingArguments('out', learning_rate=1e-4, **more)",
        "TrainingArguments('out', learning_rate=1e-4)\nTrainingArguments('b')",
    ):
        assert "tuning.batch_per_process" not in of_script(head + text + "\n", tmp_path)


def test_a_checkpoint_is_at_least_its_weights_and_states() -> None:
    """16 bits a number, unless something says more or less; the states are left out where they are not saved."""
    known = {"framework": "trl", "method": "full", "model.parameters": LLAMA_3_8B}
    assert told(known)["tuning.checkpoint_bytes"] == LLAMA_3_8B * 6
    assert told(known | {"save_only_model": True})["tuning.checkpoint_bytes"] == LLAMA_3_8B * 2
    assert told(known | {"optimizer": "adamw_bnb_8bit"})["tuning.checkpoint_bytes"] == LLAMA_3_8B * 4
    assert told(known | {"zero.stage": 3})["tuning.checkpoint_bytes"] == LLAMA_3_8B * 14
    assert told(known | {"max_steps": 1000, "save_steps": 100})["tuning.checkpoints_bytes"] == LLAMA_3_8B * 60
    assert "tuning.checkpoint_bytes" not in told(known | {"method": "lora"})


@pytest.mark.parametrize(
    ("optimizer", "kind", "package"),
    [
        ("", "adam", None),
        ("adamw_torch_fused", "adam", None),
        ("paged_adamw_8bit", "adam", "bitsandbytes"),
        ("adamw_torch_4bit", "adam", "torchao"),
        ("lion_8bit", "lion", "bitsandbytes"),
        ("lion_pytorch", "lion", None),
        ("galore_adamw", "low-rank", "galore-torch"),
        ("schedule_free_adamw", "schedule-free", "schedulefree"),
        ("muon", "muon", None),
        ("adafactor", "adafactor", None),
        ("sgd", "sgd", None),
    ],
)
def test_optimizers_are_told_apart(optimizer: str, kind: str, package: str | None) -> None:
    """Family and package follow from the name; whether it is there only where the environment was read."""
    known = {"framework": "trl"} | ({"optimizer": optimizer} if optimizer else {})
    found = told(known)
    assert found["tuning.optimizer_kind"] == kind
    assert found.get("tuning.optimizer_package") == package
    assert "tuning.optimizer_package_missing" not in found
    there = told(known | {"packages.count": 9, "transformers.version": "5.24.0", f"{package}.version": "1.0"})
    gone = told(known | {"packages.count": 9, "transformers.version": "5.24.0"})
    if package:
        assert (there["tuning.optimizer_package_missing"], gone["tuning.optimizer_package_missing"]) == (False, True)


def test_scheduler_arguments_are_looked_for_in_every_form() -> None:
    """As a block, and as JSON in a text; one that cannot be read tells nothing."""
    known = {"framework": "trainer", "scheduler": "cosine_with_min_lr"}
    assert told(known)["tuning.scheduler_argument_missing"] == "min_lr_rate"
    for given_ in (
        {"lr_scheduler_kwargs.min_lr_rate": 0.1},
        {"lr_scheduler_kwargs": '{"min_lr": 1e-6}'},
        {"lr_scheduler_kwargs": "$KW"},
    ):
        assert "tuning.scheduler_argument_missing" not in told(known, given_)


def test_trackers_are_asked_of_the_environment() -> None:
    """A tracker is missing if none of its packages is there; `all` and `none` ask for nothing."""
    known = {
        "framework": "trl",
        "report_to": "tensorboard,wandb",
        "packages.count": 9,
        "tensorboard.version": "2.21",
        "transformers.version": "5.24.0",
    }
    assert told(known)["tuning.tracker_missing"] == "wandb"
    assert "tuning.tracker_missing" not in told(known | {"wandb.version": "0.31.0"})
    assert "tuning.tracker_missing" not in told(known | {"report_to": "all"})
    assert told({"framework": "trl", "report_to": "wandbb"})["tuning.tracker_unknown"] == "wandbb"


NUMBERS = ("learning_rate", "batch", "accumulation", "epochs", "max_steps", "warmup_steps", "warmup_ratio", "save_steps", "eval_steps", "workers",
           "generations", "processes", "eval_share", "save_limit", "ddp_timeout", "max_length", "completion_length", "early_stopping")  # fmt: skip
TEXTS = (
    "framework",
    "task",
    "method",
    "optimizer",
    "scheduler",
    "eval",
    "save",
    "report_to",
    "resume",
    "deepspeed",
    "fsdp",
    "lora.targets",
)
OTHERS = ("data.examples", "data.tokens", "model.parameters", "model.context", "gpu.count", "packages.count", "zero.stage",
          "resume.step", "resume.learning_rate", "data.file.0.tokens_longest")  # fmt: skip
WORDS = st.sampled_from(
    [
        "trl",
        "trainer",
        "axolotl",
        "grpo",
        "dpo",
        "full",
        "steps",
        "epoch",
        "no",
        "best",
        "newest",
        "wandb",
        "q_proj,v_proj",
        "",
    ]
)
ODD = st.one_of(
    st.integers(-3, 40),
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=True, allow_infinity=True),
    st.booleans(),
    st.text(max_size=6),
)


@given(
    st.dictionaries(st.sampled_from([f"training.{name}" for name in NUMBERS] + list(OTHERS)), ODD),
    st.dictionaries(st.sampled_from([f"training.{name}" for name in TEXTS]), WORDS),
    st.dictionaries(
        st.sampled_from(
            ["generation_batch_size", "steps_per_generation", "num_iterations", "streaming", "cp_size", "max_samples"]
        ),
        ODD,
    ),
)
def test_any_values_are_borne(numbers: dict[str, Any], texts: dict[str, str], given_: dict[str, Any]) -> None:
    """Nothing is raised, whatever the settings hold, and all that follows stands in the catalogue with its type."""
    types = {"flag": bool, "number": (int, float), "bytes": int, "text": str}
    for fact in tuning.complete(facts_of(numbers | texts, given_)):
        kind = catalogue.describe(fact.name)
        assert kind is not None
        assert isinstance(fact.value, types[kind.type]), fact  # type: ignore[arg-type]
        assert fact.origin == "arithmetic"


def _published() -> Iterator[Path]:
    return (path for path in sorted(CORPUS.rglob("*")) if path.is_file() and path.suffix in (".yaml", ".yml", ".json"))


@pytest.mark.slow
@pytest.mark.skipif(not CORPUS.is_dir(), reason="the published configurations are not here")
def test_published_configurations_raise_nothing() -> None:
    """Settings that people publish are usual ones: on eight GPUs none of them is an error or a warning by itself."""
    rules = ruleset.load([])
    machine = (
        Fact("training.processes", 8, "x"),
        Fact("gpu.vendor", "nvidia", "x"),
        Fact("gpu.count", 8, "x"),
        Fact("cpu.usable", 64, "x"),
    )
    found = []
    published = list(_published())
    for path in published:
        facts = tuple(item for item in training.read([str(path)], {}, str(path.parent)) if isinstance(item, Fact))
        for finding in match(rules, Case(complete(facts + machine), machine=True)):
            if finding.rule.family == "training-settings" and finding.rule.severity != "note":
                found.append((path.name, finding.rule.id))
    assert found == []
    assert len(published) > 100
