"""The tables of a training's keys against the real classes, and what these do with a key or value that they do not have."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import logging
from pathlib import Path
from typing import Any

import pytest

from diagnose.derive import training_keys
from diagnose.derive.training_tables import layers, table
from diagnose.model import Fact

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore")]


def keys(owner: str, versions: dict[str, str]) -> set[str]:
    """The keys that the tables know of a class in the releases installed."""
    return {
        name for layer in layers(owner, versions) if layer.installed for name, key in layer.class_.keys.items() if layer.has(key)
    }  # fmt: skip


def installed(*packages: str) -> dict[str, str]:
    """The versions installed; skips where a table does not reach one."""
    found = {}
    for package in packages:
        module = pytest.importorskip(package, reason=f"{package} is not installed")
        known = table(package)
        assert known is not None
        if known.place(module.__version__) is None:
            pytest.skip(f"{package} {module.__version__} is beyond the table")
        found[package] = module.__version__
    return found


def fields(class_: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(class_) if field.init}


@pytest.mark.parametrize("name", ["TrainingArguments", "Seq2SeqTrainingArguments"])
def test_every_training_argument_is_in_its_table(name: str) -> None:
    """And no other."""
    versions = installed("transformers")
    assert keys(f"transformers.{name}", versions) == fields(getattr(importlib.import_module("transformers"), name))


@pytest.mark.parametrize(("packages", "least"), [(("trl", "transformers"), 9), (("peft",), 21)])
def test_every_field_of_the_classes_of_a_package_is_in_its_table(packages: tuple[str, ...], least: int) -> None:
    """Of those that it names at its top: TRL's configurations, PEFT's tuners."""
    package = packages[0]
    versions = installed(*packages)
    module = importlib.import_module(package)
    known = table(package)
    assert known is not None
    classes = [name for name in known.classes if hasattr(module, name)]
    assert len(classes) >= least
    for name in classes:
        assert keys(f"{package}.{name}", versions) == fields(getattr(module, name)), name


def test_every_field_of_deepspeeds_models_is_in_its_table() -> None:
    """zero_optimization, fp16, bf16, and what stands in them."""
    versions = installed("deepspeed")
    for name, module in {
        "DeepSpeedZeroConfig": "deepspeed.runtime.zero.config",
        "DeepSpeedZeroOffloadOptimizerConfig": "deepspeed.runtime.zero.offload_config",
        "DeepSpeedZeroOffloadParamConfig": "deepspeed.runtime.zero.offload_config",
        "DeepSpeedFP16Config": "deepspeed.runtime.precision_config",
        "DeepSpeedBF16Config": "deepspeed.runtime.precision_config",
    }.items():
        real = getattr(importlib.import_module(module), name).model_fields
        named = set(real) | {field.alias for field in real.values() if field.alias}
        known = {key for key in keys(f"deepspeed.{name}", versions) if not _is_refused(name, key)}
        assert known == named, name


def _is_refused(name: str, key: str) -> bool:
    known = table("deepspeed")
    assert known is not None
    return bool(known.classes[name].keys[key].refused)


def test_every_field_of_accelerates_file_is_in_its_table() -> None:
    """Those of its two classes, and keys of old files that it converts."""
    versions = installed("accelerate")
    module = importlib.import_module("accelerate.commands.config.config_args")
    real = fields(module.ClusterConfig) | fields(module.SageMakerConfig)
    assert keys("accelerate.accelerate", versions) - real == {"fp16", "dynamo_backend"}
    assert real <= keys("accelerate.accelerate", versions)


# --- what they do


def told(owner: str, key: str, value: str, kind: str, file: str, *packages: str) -> str:
    """What the tables foretell of one setting: the effect, or nothing."""
    facts = [Fact(f"{package}.version", version, "pip") for package, version in installed(*packages).items()]
    rows: list[tuple[str, str, str]] = [(key, kind, value)]
    if "." in key:
        rows.insert(0, (key.partition(".")[0], "mapping", ""))
    for number, (name, type_, text) in enumerate(rows):
        facts += [
            Fact(f"training.given.{number}.{what}", word, file)
            for what, word in (("owner", owner), ("key", name), ("type", type_), ("value", text))
            if word or what != "value"
        ]
    found = {fact.name.rpartition(".")[2]: fact.value for fact in training_keys.complete(facts)}
    return str(found.get("effect", ""))


def refused(what: Any) -> bool:
    """Whether something raises, or ends the program."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            what()
    except (Exception, SystemExit):
        return True
    return False


@pytest.mark.parametrize(
    ("key", "value", "kind", "written"),
    [
        ("max_seq_length", "2048", "number", "2048"),
        ("evaluation_strategy", "steps", "text", "steps"),
        ("gradient_acumulation_steps", "4", "number", "4"),
        ("lr_scheduler_type", "cosin", "text", "cosin"),
        ("eval_strategy", "no", "flag", "no"),
        ("overwrite_output_dir", "true", "flag", "true"),
        ("max_steps", "None", "text", "None"),
        ("learning_rate", "1e-5", "text", "1e-5"),
        ("eval_steps", "None", "text", "None"),
        ("max_length", "1024", "number", "1024"),
    ],
)
def test_trls_parser_refuses_what_is_foretold(tmp_path: Path, key: str, value: str, kind: str, written: str) -> None:
    """And takes what nothing is said of."""
    foretold = told("trl.SFTConfig", key, value, kind, "train.yaml", "trl", "transformers")
    trl = importlib.import_module("trl")
    path = tmp_path / "train.yaml"
    path.write_text(f"output_dir: {tmp_path}\nuse_cpu: true\nbf16: false\n{key}: {written}\n", "utf-8")
    parser = trl.TrlParser((trl.SFTConfig,))
    assert refused(lambda: parser.parse_args_and_config(["--config", str(path)])) is (foretold == "refuses")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("zero_optimizatoin", {"stage": 3}),
        ("zero_optimization", {"offload_optimiser": {"device": "cpu"}}),
        ("zero_optimization", {"stage": 5}),
        ("zero_optimization", {"overlap_comm": "maybe"}),
        ("zero_optimization", {"stage": "auto"}),
        ("bf16", {"enable": True}),
        ("bf61", {"enabled": True}),
        ("elasticity", {"enabled": True}),
        ("optimiser", {"type": "AdamW"}),
        ("zero_optimization", {"max_live_parameters": 1000}),
    ],
)
def test_deepspeed_refuses_or_passes_over_what_is_foretold(
    monkeypatch: pytest.MonkeyPatch, key: str, value: dict[str, Any]
) -> None:
    """A misspelt block is passed over, and the stage is 0; a misspelt key in a block is refused."""
    inner, what = next(iter(value.items()))
    kind = "mapping" if isinstance(what, dict) else "flag" if isinstance(what, bool) else "number" if isinstance(what, int) else "text"  # fmt: skip
    known = table("deepspeed")
    assert known is not None
    block = known.classes["deepspeed"].keys.get(key)
    name = f"{key}.{inner}" if block is not None and not block.refused else key
    foretold = told("deepspeed", name, "" if name == key else str(what), "mapping" if name == key else kind, "ds.json", "deepspeed")  # fmt: skip
    for variable, word in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(variable, word)
    logging.disable(logging.CRITICAL)
    try:
        module = importlib.import_module("deepspeed.runtime.config")
        made: list[Any] = []
        stopped = refused(lambda: made.append(module.DeepSpeedConfig({"train_batch_size": 1, key: value})))
    finally:
        logging.disable(logging.NOTSET)
    assert stopped is (foretold == "refuses")
    if foretold == "ignores":
        assert made[0].zero_optimization_stage == 0


def test_an_unknown_argument_of_lora_and_of_bitsandbytes() -> None:
    """One refuses it, the other passes over it."""
    peft = importlib.import_module("peft")
    assert told("peft.LoraConfig", "lora_alhpa", "8", "number", "train.py", "peft") == "refuses"
    assert refused(lambda: peft.LoraConfig(lora_alhpa=8))
    transformers = importlib.import_module("transformers")
    assert told("transformers.BitsAndBytesConfig", "bnb_4bit_quant_typ", "nf4", "text", "train.py", "transformers") == "ignores"  # fmt: skip
    assert transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_typ="nf4").bnb_4bit_quant_type == "fp4"
