"""The keys of a training's settings against the tables in dataset/training."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.derive import training_keys, training_tables
from diagnose.derive.training_slips import is_slip
from diagnose.derive.training_tables import PACKAGES, Layer, Table, _Document, layers, names_of
from diagnose.facts import describe
from diagnose.model import Fact
from tests.support import ROOT

NOW = {"transformers": "5.24.0", "trl": "1.16.0", "peft": "0.21.2", "accelerate": "1.15.0", "deepspeed": "0.19.8", "axolotl": "0.21.0"}  # fmt: skip
KIND = {bool: "flag", int: "number", float: "number", str: "text", list: "list", dict: "mapping", type(None): "null"}


def told(
    owner: str, settings: dict[str, object], versions: dict[str, str] | None = None, file: str = "train.yaml"
) -> dict[str, dict[str, object]]:
    """What is told of each setting, by its key."""
    facts = [Fact(f"{package}.version", version, "pip") for package, version in (versions or {}).items()]
    for number, (key, value) in enumerate(settings.items()):
        place = (file, number + 1, 3, key)
        facts += [
            Fact(f"training.given.{number}.owner", owner, *place),
            Fact(f"training.given.{number}.key", key, *place),
            Fact(f"training.given.{number}.type", KIND[type(value)], *place),
        ]
        if not isinstance(value, (list, dict)):
            text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            facts.append(Fact(f"training.given.{number}.value", text, *place))
    found: dict[str, dict[str, object]] = {}
    names = list(settings)
    for fact in training_keys.complete(facts):
        _, _, number, what = fact.name.split(".")
        assert describe(fact.name) is not None
        assert fact.origin.startswith("dataset/training/")
        found.setdefault(names[int(number)], {})[what] = fact.value
    return found


# --- keys


@pytest.mark.parametrize(
    ("owner", "above", "key", "nearest", "effect"),
    [
        ("trl.SFTConfig", {"output_dir": "x"}, "gradient_acumulation_steps", "gradient_accumulation_steps", "refuses"),
        ("transformers.TrainingArguments", {}, "learnign_rate", "learning_rate", "refuses"),
        ("peft.LoraConfig", {"r": 8}, "lora_alhpa", "lora_alpha", "refuses"),
        ("accelerate", {"distributed_type": "NO"}, "num_proceses", "num_processes", "refuses"),
        ("accelerate.fsdp_config", {}, "fsdp_config.fsdp_offload_parms", "fsdp_offload_params", "ignores"),
        ("deepspeed", {"train_batch_size": 8}, "zero_optimizatoin", "zero_optimization", "ignores"),
        ("deepspeed", {"train_batch_size": 8}, "pf16", "fp16", "ignores"),
        ("deepspeed", {"zero_optimization": {}}, "zero_optimization.overlap_com", "overlap_comm", "refuses"),
        ("deepspeed", {"optimizer": {}}, "optimizer.parms", "params", "ignores"),
        ("axolotl", {"base_model": "x"}, "micro_batchsize", "micro_batch_size", "ignores"),
        ("llamafactory", {"stage": "sft"}, "cutof_len", "cutoff_len", "refuses"),
        ("transformers.BitsAndBytesConfig", {}, "bnb_4bit_quant_typ", "bnb_4bit_quant_type", "ignores"),
    ],
)
@pytest.mark.parametrize("versions", [{}, NOW])
def test_a_misspelt_key_names_the_one_that_was_meant(
    owner: str, above: dict[str, object], key: str, nearest: str, effect: str, versions: dict[str, str]
) -> None:
    """And what the framework does with it: DeepSpeed passes over a block of its own, and stops at a key inside one."""
    found = told(owner, {**above, key: {} if "zero_opt" in key and "." not in key else 8}, versions)
    assert set(found) == {key}
    assert (found[key]["trouble"], found[key]["nearest"], found[key]["effect"]) == ("unknown", nearest, effect)


@pytest.mark.parametrize(
    ("owner", "settings"),
    [
        ("trl.SFTConfig", {"output_dir": "x", "max_length": 2048, "packing": True, "learning_rate": 1e-5}),
        ("transformers.TrainingArguments", {"deepspeed": {}, "gradient_checkpointing_kwargs": {}, "gradient_checkpointing_kwargs.x": 1}),
        ("deepspeed", {"zero_optimization": {}, "zero_optimization.stage": 3, "optimizer": {}, "optimizer.params": {}, "optimizer.params.mine": 1}),
        ("deepspeed", {"deepspeed.bf16": {}, "deepspeed.bf16.enabled": "auto", "deepspeed.zero_optimization": {}, "deepspeed.zero_optimization.stage": 2}),
        ("axolotl", {"fsdp_config": {}, "fsdp_config.fsdp_offload_params": True, "wandb_project": "x", "datasets": []}),
        ("accelerate.fsdp_config", {"fsdp_config.offload_params": True}),
        ("transformers.fsdp_config", {"fsdp_config.fsdp_min_num_params": 1, "fsdp_config.xla": True}),
        ("peft.LoraConfig", {"peft_config.r": 8, "peft_config.target_modules": ["q_proj"]}),
        ("torchtune", {"anything_at_all": 1, "model": {}}),
        ("no.such.Owner", {"anything_at_all": 1}),
        ("unknown", {"anything_at_all": 1, "my_learning_rate": 1, "learning_rates": 2, "batch_size": 3}),
    ],
)  # fmt: skip
def test_known_keys_free_mappings_and_configurations_of_nobody_are_left_alone(
    owner: str, settings: dict[str, object]
) -> None:
    """A key that has its place tells nothing, and a key that nobody is known to read is nobody's mistake."""
    assert told(owner, settings) == {}
    assert {k: v for k, v in told(owner, settings, NOW).items() if v["trouble"] != "deprecated"} == {}


def test_a_slip_in_the_argument_of_checkpointing_is_told_of_any_framework() -> None:
    """Its mapping is free, and torch refuses what it does not know."""
    key = "gradient_checkpointing_kwargs"
    for owner in ("axolotl", "trl.SFTConfig", "unknown"):
        found = told(owner, {"learning_rate": 1.0, key: {}, f"{key}.use_reentrnat": False})
        assert found[f"{key}.use_reentrnat"]["nearest"] == "use_reentrant"


def test_a_slip_in_what_axolotl_hands_to_bitsandbytes_is_told() -> None:
    """BitsAndBytesConfig passes over it."""
    settings: dict[str, object] = {"base_model": "x", "bnb_config_kwargs": {}, "bnb_config_kwargs.mine": 1}
    assert told("axolotl", settings) == {}
    key = "bnb_config_kwargs.bnb_4bit_use_ouble_quant"
    assert told("axolotl", {**settings, key: True})[key]["effect"] == "ignores"


def test_a_renamed_key_is_judged_by_the_release_installed() -> None:
    """Right before, refused since; where the release is not known both are said."""
    new = told("trl.SFTConfig", {"max_seq_length": 2048}, NOW)["max_seq_length"]
    assert (new["trouble"], new["nearest"], new["since"], new["effect"], new["installed"]) == ("renamed", "max_length", "0.20", "refuses", True)  # fmt: skip
    old = told("trl.SFTConfig", {"max_seq_length": 2048}, {"trl": "0.15.2", "transformers": "4.49.0"})
    assert old == {}
    assert told("trl.SFTConfig", {"max_seq_length": 2048})["max_seq_length"]["installed"] is False
    inherited = told("trl.SFTConfig", {"evaluation_strategy": "no"}, {"trl": "0.15.2", "transformers": "4.57.1"})
    assert inherited["evaluation_strategy"]["package"] == "transformers"
    assert inherited["evaluation_strategy"]["nearest"] == "eval_strategy"


def test_a_key_that_came_later_and_one_that_went_are_told_apart() -> None:
    """With the release in which that happened."""
    later = told("transformers.TrainingArguments", {"eval_strategy": "no"}, {"transformers": "4.40.2"})["eval_strategy"]
    assert (later["trouble"], later["since"]) == ("not-yet", "4.41")
    gone = told("transformers.TrainingArguments", {"overwrite_output_dir": True}, NOW)["overwrite_output_dir"]
    assert (gone["trouble"], gone["since"], gone["alike"]) == ("removed", "5.0", False)
    refused = told("deepspeed", {"elasticity": {}, "train_batch_size": 8}, NOW)["elasticity"]
    assert (refused["trouble"], refused["effect"], refused["since"]) == ("removed", "refuses", "0.19.8")
    assert told("deepspeed", {"elasticity": {}, "train_batch_size": 8}, {"deepspeed": "0.16.4"}) == {}


def test_a_key_below_a_renamed_one_of_axolotl_stops_it() -> None:
    """Axolotl refuses some keys by name, in some releases."""
    found = told("axolotl", {"fsdp_config": {}, "fsdp_config.fsdp_sharding_strategy": "FULL_SHARD"}, NOW)
    assert found["fsdp_config.fsdp_sharding_strategy"]["nearest"] == "reshard_after_forward"
    assert found["fsdp_config.fsdp_sharding_strategy"]["effect"] == "refuses"


def test_deprecated_is_told_of_the_release_installed_alone() -> None:
    """The newest release warns of what everybody writes: that is no news where another one runs."""
    assert told("transformers.TrainingArguments", {"gradient_checkpointing": True}) == {}
    found = told("transformers.TrainingArguments", {"gradient_checkpointing": True}, NOW)["gradient_checkpointing"]
    assert (found["trouble"], found["nearest"], found["effect"]) == ("deprecated", "activation_checkpointing", "warns")


def test_a_key_that_only_a_script_of_ones_own_may_read_is_no_mistake() -> None:
    """In a YAML beside known keys; in a call of the class it is one."""
    assert told("trl.SFTConfig", {"output_dir": "x", "dataset_folder_of_mine": "y"}) == {}
    found = told("trl.SFTConfig", {"output_dir": "x", "dataset_folder_of_mine": "y"}, file="train.py")
    assert found["dataset_folder_of_mine"]["alike"] is False


def test_a_command_line_takes_the_beginning_of_a_name_and_no() -> None:
    """As argparse does."""
    settings = {"gradient_acc": 4, "no_dataloader_pin_memory": True}
    assert told("transformers.TrainingArguments", settings, NOW, file="command line") == {}


def test_plugins_of_axolotl_bring_keys_of_their_own() -> None:
    """So that only what is spelled nearly like a known key is told."""
    assert "key_of_a_plugin" in told("axolotl", {"key_of_a_plugin": 1})
    assert told("axolotl", {"key_of_a_plugin": 1, "plugins": []}) == {}


def test_a_release_outside_the_table_is_not_judged() -> None:
    """Older ones had other keys; of newer ones only a slip of the pen is told."""
    assert told("trl.SFTConfig", {"max_seq_length": 1, "no_such_key_at_all": 2}, {"trl": "0.4.0"}, "a.py") == {}
    newer = {"trl": "99.0", "transformers": "99.0"}
    assert told("trl.SFTConfig", {"max_seq_length": 1, "a_new_key": 2}, newer, "a.py") == {}
    assert told("trl.SFTConfig", {"learnign_rate": 1.0}, newer)["learnign_rate"]["nearest"] == "learning_rate"


def test_where_nobody_is_known_only_a_slip_in_a_long_known_key_is_told() -> None:
    """And it is said that this is not sure."""
    found = told("unknown", {"gradient_acumulation_steps": 4, "model": "x"})
    assert found["gradient_acumulation_steps"]["effect"] == "unsure"
    assert told("unknown", {"gradient_acumulation_steps": 4, "gradient_accumulation_steps": 4}) == {}


# --- values


@pytest.mark.parametrize(
    ("owner", "key", "value", "nearest"),
    [
        ("transformers.TrainingArguments", "lr_scheduler_type", "cosin", "cosine"),
        ("transformers.TrainingArguments", "optim", "adamw_hf", None),
        ("trl.DPOConfig", "save_strategy", "stepss", "steps"),
        ("peft.LoraConfig", "task_type", "CAUSAL", "CAUSAL_LM"),
        ("deepspeed", "zero_optimization.stage", 4, None),
        ("llamafactory", "finetuning_type", "qlora", "lora"),
        ("transformers.BitsAndBytesConfig", "bnb_4bit_quant_type", "nf5", "nf4"),
        ("transformers.TrainingArguments", "eval_strategy", False, "'no'"),
    ],
)
def test_a_value_that_is_no_choice_names_the_choices(owner: str, key: str, value: object, nearest: str | None) -> None:
    """The nearest is told where there is one; upper and lower case matter."""
    above: dict[str, object] = {"zero_optimization": {}} if "." in key else {}
    found = told(owner, {**above, key: value}, NOW)[key]
    assert found["trouble"] == "bad-choice"
    assert nearest is None or found["nearest"] == nearest
    assert "," in str(found["takes"])


@pytest.mark.parametrize(
    ("key", "value", "nearest"),
    [
        ("optimizer", "adamw_torchh", "adamw_torch"),
        ("optimizer", "adam8bit", None),
        ("lr_scheduler", "cosin", "cosine"),
        ("save_strategy", "sometimes", None),
        ("eval_strategy", False, "'no'"),
        ("bf16", "yes please", None),
        ("gradient_checkpointing", "offloads", "offload"),
    ],
)
@pytest.mark.parametrize("versions", [{}, NOW])
def test_axolotl_hands_values_on_that_transformers_refuses(
    versions: dict[str, str], key: str, value: object, nearest: str | None
) -> None:
    """Its schema takes any text for some of its keys; TrainingArguments then stops."""
    found = told("axolotl", {"base_model": "m", key: value}, versions)[key]
    assert (found["trouble"], found["effect"]) == ("bad-choice", "refuses")
    assert nearest is None or found["nearest"] == nearest


def test_values_of_axolotl_s_own_and_flags_written_as_texts_are_taken() -> None:
    """Its own optimizers and schedulers stand beside those of transformers, and pydantic reads a flag from a text."""
    for value in ("muon", "adamw_bnb_8bit", "came_pytorch", "adamw_hf", "lion_pytorch"):
        assert told("axolotl", {"base_model": "m", "optimizer": value}, NOW) == {}
    taken = {"lr_scheduler": "rex", "bf16": "True", "tf32": 1, "gradient_checkpointing": "offload", "save_strategy": "best"}  # fmt: skip
    assert told("axolotl", {"base_model": "m", **taken}, NOW) == {}
    newer = {**NOW, "transformers": "5.99.0"}
    assert told("axolotl", {"base_model": "m", "optimizer": "adamw_of_tomorrow"}, newer) == {}


@pytest.mark.parametrize(
    ("owner", "above", "key", "value", "nearest"),
    [
        ("deepspeed", {"train_batch_size": 8}, "gradient_accumulation_step", 4, "gradient_accumulation_steps"),
        ("deepspeed", {"fp16": {}}, "train_micro_batch_size_per_gpus", "auto", "train_micro_batch_size_per_gpu"),
        ("trl.GRPOConfig", {"output_dir": "x"}, "num_generation", 8, "num_generations"),
    ],
)
def test_a_number_under_a_name_with_an_s_too_many_or_too_few_is_a_slip(
    owner: str, above: dict[str, object], key: str, value: object, nearest: str
) -> None:
    """A list or a text of such a name, or one that stands beside the known one, is meant as it is written."""
    assert told(owner, {**above, key: value})[key]["nearest"] == nearest
    assert key not in told(owner, {**above, key: "a,b"})
    assert key not in told(owner, {**above, key: value, nearest: value})


def test_names_that_scripts_of_one_s_own_have_are_no_slips() -> None:
    """`use_lora` is a letter from TRL's `use_dora`; who computes its arguments in a file may well have it."""
    assert "use_lora" not in told("trl.ModelConfig", {"use_lora": True})
    assert told("llamafactory", {"model_name_or_path": "m", "use_lora": True})["use_lora"]["trouble"] == "unknown"


def test_keys_of_a_block_that_older_releases_of_deepspeed_did_not_check_are_refused_since_then() -> None:
    """DeepSpeed has a class for `bf16` since 0.17.1; before, a loss scale in it did nothing."""
    given = {"bf16": {}, "bf16.loss_scale": 0}
    found = told("deepspeed", given)["bf16.loss_scale"]
    assert (found["trouble"], found["since"], found["effect"]) == ("removed", "0.17.1", "refuses")
    assert told("deepspeed", given, NOW)["bf16.loss_scale"]["trouble"] == "unknown"
    assert told("deepspeed", {"bf16": {}, "bf16.enable": True})["bf16.enable"]["nearest"] == "enabled"


@pytest.mark.parametrize("value", ["1e-5", "3", ".5", "${LR}", "{{ lr }}", "1_000", "inf"])
def test_a_text_that_is_a_number_or_will_be_one_is_a_number(value: str) -> None:
    """YAML 1.1 reads 1e-5 as a text; a placeholder is filled in later."""
    assert told("transformers.TrainingArguments", {"learning_rate": value}, NOW) == {}


def test_a_word_where_a_number_or_a_flag_is_wanted_is_told() -> None:
    """None is a text in YAML. TRL's parser reads it as none where there may be none, so that is left alone."""
    found = told("transformers.TrainingArguments", {"max_steps": "None", "tf32": "None", "hub_model_id": "None"}, NOW)
    assert [(v["trouble"], v["effect"]) for v in found.values()] == [("bad-type", "refuses"), ("bad-type", "misreads"), ("bad-type", "misreads")]  # fmt: skip
    assert told("trl.SFTConfig", {"max_length": "None", "report_to": "none", "eval_steps": "none"}, NOW) == {}
    assert told("deepspeed", {"zero_optimization": {}, "zero_optimization.stage": "auto"}, NOW) == {}


# --- the tables


@pytest.mark.parametrize("package", PACKAGES)
def test_every_table_is_read_and_its_spans_name_its_releases(package: str) -> None:
    """A table that does not decode would silently judge nothing."""
    table = training_tables.table(package)
    assert table is not None
    assert table.classes
    for class_ in table.classes.values():
        for span in (class_.within, *(s for key in class_.keys.values() for s in (key.within, key.deprecated, key.refused, *key.choices.values()))):  # fmt: skip
            for run in span.split(",") if span not in ("", "all") else ():
                first, colon, last = run.partition(":")
                assert colon
                assert {first, last} - {""} <= set(table.releases)
    assert (ROOT / "dataset" / "training" / f"{package}.json").stat().st_size < 300_000


def test_relations_name_keys_that_some_release_has() -> None:
    """What is to be written instead is a key of the same class, or of one that it inherits from."""
    rows = json.loads((ROOT / "dataset" / "training" / "relations.json").read_text("utf-8"))["rows"]
    assert len(rows) > 20
    for row in rows:
        owner = f"{row['package']}.{row['class']}"
        beside = layers("transformers.TrainingArguments", {}) if row["package"] == "trl" else []
        names = {name for layer in [*layers(owner, {}), *beside] for name in layer.class_.keys}
        instead = row.get("instead", "").partition(":")[0].partition(".")[0]
        assert layers(owner, {}), owner
        assert not instead or instead in names, row
        handed, _, key = row.get("values_of", "").rpartition(".")
        assert not handed or layers(handed, {})[0].class_.keys[key].choices, row
        assert "told_by" not in row or list((ROOT / "rules").glob(f"*/{row['told_by']}.yaml")), row
        assert row["source"]


def test_names_with_a_meaning_of_their_own_are_written_as_the_classes_have_them() -> None:
    """A misspelt one would count for nothing; those of scripts are no framework's."""
    tables = [table for table in map(training_tables.table, PACKAGES) if table is not None]
    every = {key for table in tables for class_ in table.classes.values() for key in class_.keys}
    for kind in ("deciding", "well_known"):
        assert len(names_of(kind)) > 20
        assert set(names_of(kind)) <= every
    llamafactory = {key for layer in layers("llamafactory", {}) for key in layer.class_.keys}
    assert llamafactory & set(names_of("another_trainer")) == {"use_mca"}
    assert names_of("scripts")
    assert not every & set(names_of("scripts"))


OWN = Table(
    _Document(
        "x",
        "",
        "",
        ("1.0.2", "1.1.0", "1.3.4"),
        {"x": training_tables.Class({"a": training_tables.Key(within="1.1.0:")}, {"refuses": ""})},
    )
)


def test_a_minor_release_stands_for_all_of_it() -> None:
    """1.3.1 is judged as 1.3.4; what is between, before and beyond is not."""
    assert [OWN.place(v) for v in ("1.0", "1.0.0", "1.3.9.post1", "1.2.0", "0.9", "1.4", "x")] == [0, 0, 2, None, None, None, None]  # fmt: skip
    assert OWN.is_beyond("2.0") and not OWN.is_beyond("1.3.9") and not OWN.is_beyond("1.2.0")  # noqa: PT018
    layer = Layer(OWN, "x", OWN.classes["x"], 0, True)
    assert layer.changed(OWN.classes["x"].keys["a"]) == ("1.1", True)


@given(st.text("abcdefgh_", min_size=6, max_size=20), st.data())
def test_any_single_slip_is_seen_and_nothing_is_a_slip_of_itself(word: str, data: st.DataObject) -> None:
    """A letter left out, doubled, or two swapped."""
    at = data.draw(st.integers(0, len(word) - 2))
    assert not is_slip(word, word)
    for written in (word[:at] + word[at + 1 :], word[:at] + word[at] + word[at:]):
        assert written == word or is_slip(written, word)
    swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    assert swapped == word or is_slip(swapped, word)


@given(
    st.dictionaries(
        st.text(max_size=40), st.one_of(st.text(max_size=20), st.integers(), st.booleans(), st.none(), st.just([]), st.just({})), max_size=8
    ),
    st.sampled_from(["trl.SFTConfig", "deepspeed", "axolotl", "llamafactory", "accelerate", "peft.LoraConfig", "unknown", "", "trl.", "x"]),
    st.text(max_size=12),
)  # fmt: skip
def test_whatever_the_settings_are_nothing_is_raised(settings: dict[str, object], owner: str, version: str) -> None:
    """Keys and versions are whatever a file or an environment holds."""
    told(owner, settings, {"trl": version, "transformers": version, "deepspeed": version})
