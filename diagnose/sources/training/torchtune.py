"""A torchtune configuration (`_component_` names what is built) → its settings with ${…} filled in, and their common meaning."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from msgspec import structs

from diagnose.model import Fact
from diagnose.sources.training.given import Meaning, Setting, meant, read_as, settings, told
from diagnose.sources.training.named import is_data_file, own_facts, with_numbers
from diagnose.sources.training.parsed import Parsed, Reference
from diagnose.sources.yamlfile import Node

OWNER = "torchtune"
HEAD = "training.torchtune"
DEFAULT = "torchtune's default"
"""The origin of what holds because nothing is set."""
COMPONENT = "_component_"
MOST_DATASETS = 64
MOST_ROUNDS = 8
"""How deep one ${…} may lead to another."""
LONGEST = 4096
_PLACE = re.compile(r"\$\{([A-Za-z_][\w.]{0,200})\}")

_COMMON: dict[str, Meaning] = {
    "checkpointer.checkpoint_dir": ("training.model", "text"),
    "tokenizer.path": ("training.tokenizer", "text"),
    "tokenizer.max_seq_len": ("training.max_length", "number"),
    "output_dir": ("training.output", "text"),
    "optimizer.lr": ("training.learning_rate", "number"),
    "optimizer.weight_decay": ("training.weight_decay", "number"),
    "lr_scheduler.num_warmup_steps": ("training.warmup_steps", "number"),
    "clip_grad_norm": ("training.max_grad_norm", "number"),
    "batch_size": ("training.batch", "number"),
    "gradient_accumulation_steps": ("training.accumulation", "number"),
    "epochs": ("training.epochs", "number"),
    "enable_activation_checkpointing": ("training.gradient_checkpointing", "flag"),
    "compile": ("training.compile", "flag"),
    "dataset.packed": ("training.packing", "flag"),
    "log_every_n_steps": ("training.logging_steps", "number"),
    "seed": ("training.seed", "number"),
    "model.lora_rank": ("training.lora.rank", "number"),
    "model.lora_alpha": ("training.lora.alpha", "number"),
    "model.lora_dropout": ("training.lora.dropout", "number"),
    "model.use_dora": ("training.lora.dora", "flag"),
    "loss.beta": ("training.beta", "number"),
    "fsdp_cpu_offload": ("fsdp.offload", "flag"),
}  # fmt: skip

_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
_TRACKERS = {
    "WandBLogger": "wandb",
    "TensorBoardLogger": "tensorboard",
    "CometLogger": "comet_ml",
    "MLFlowLogger": "mlflow",
}
_TASKS = (("DPOLoss", "dpo"), ("RSOLoss", "dpo"), ("PPOLoss", "ppo"))


def is_kind(document: Node) -> bool:
    """Whether a mapping is a torchtune configuration: one of its parts names a component."""
    return any(isinstance(node.value, dict) and COMPONENT in node.value for _, node in document.items())


def read(document: Node, file: str) -> Parsed:
    """Its settings and what they mean; nothing is raised, whatever it holds."""
    items = tuple(_filled(tuple(with_numbers(settings(document, OWNER, file)))))
    by_key = {item.key: item for item in items if item.value is not None}
    rows = _datasets(document, file, by_key)
    facts = (
        Fact("training.framework", OWNER, file, 1),
        *_model(by_key),
        *_task(by_key),
        *meant((item for item in by_key.values() if not isinstance(item.value, dict)), _COMMON),
        *_schedule(by_key),
        *_precision(by_key),
        *_data(rows),
        *_own(by_key),
    )
    known = {fact.name for fact in facts}
    unset = (
        ()
        if "training.accumulation" in known
        else (Fact("training.accumulation", 1, DEFAULT, key="gradient_accumulation_steps"),)
    )
    return Parsed(items, facts + unset, tuple(_references(by_key, rows)))


def _filled(items: tuple[Setting, ...]) -> Iterator[Setting]:
    """Settings with the value of the setting that a ${key} names; what cannot be found stays as it is."""
    values = {item.key: item.value for item in items if not isinstance(item.value, (dict, list))}
    for item in items:
        if isinstance(item.value, str) and "${" in item.value:
            value = _resolved(item.value, values)
            yield structs.replace(item, value=value, text=str(value)) if value != item.value else item
        else:
            yield item


def _resolved(text: str, values: Mapping[str, object]) -> object:
    for _ in range(MOST_ROUNDS):
        whole = _PLACE.fullmatch(text)
        if whole and not isinstance(values.get(whole[1], text), str):
            return values[whole[1]]
        found = _PLACE.sub(lambda one: str(values.get(one[1], one[0])), text)[:LONGEST]
        if found == text:
            break
        text = found
    return text


def _name(by_key: Mapping[str, Setting], part: str) -> str:
    """The last part of a component's name: `lora_llama3_2_1b`."""
    item = by_key.get(f"{part}.{COMPONENT}")
    return str(item.value).rpartition(".")[2] if item else ""


def _model(by_key: Mapping[str, Setting]) -> Iterator[Fact]:
    """LoRA and QLoRA are builders of their own; QLoRA keeps the base in NF4."""
    item = by_key.get(f"model.{COMPONENT}")
    if item is None:
        return
    name, base = _name(by_key, "model"), by_key.get("model.quantize_base")
    quantized = bool(base and read_as("flag", base.value))
    if name.startswith("qlora_") or (quantized and name.startswith("lora_")):
        yield told("training.method", "qlora", item)
        yield told("training.quantization", "4bit", base if base and quantized else item)
        yield told("training.quantization_type", "nf4", base if base and quantized else item)
    elif name.startswith(("lora_", "dora_")):
        yield told("training.method", "lora", item)
    elif "optimizer._component_" in by_key:
        yield told("training.method", "full", item)


def _task(by_key: Mapping[str, Setting]) -> Iterator[Fact]:
    if f"optimizer.{COMPONENT}" not in by_key:
        if item := by_key.get(f"model.{COMPONENT}"):
            yield told("training.task", "inference", item)
        return
    loss, data = by_key.get(f"loss.{COMPONENT}"), by_key.get(f"dataset.{COMPONENT}")
    for word, task in _TASKS:
        if loss and _name(by_key, "loss") == word:
            yield told("training.task", task, loss)
            return
    if data and _name(by_key, "dataset") == "text_completion_dataset":
        yield told("training.task", "pretrain", data)
    elif data and "teacher_model" not in by_key:
        yield told("training.task", "sft", data)


def _schedule(by_key: Mapping[str, Setting]) -> Iterator[Fact]:
    optimizer, scheduler = by_key.get(f"optimizer.{COMPONENT}"), by_key.get(f"lr_scheduler.{COMPONENT}")
    if optimizer:
        yield told("training.optimizer", str(optimizer.value).rpartition(".")[2], optimizer)
    if scheduler:
        name = str(scheduler.value).rpartition(".")[2].removeprefix("get_")
        yield told("training.scheduler", name.removesuffix("_schedule_with_warmup"), scheduler)
    if (resume := by_key.get("resume_from_checkpoint")) and resume.value is True:
        yield told("training.resume", "newest", resume)
    if logger := by_key.get(f"metric_logger.{COMPONENT}"):
        yield told("training.report_to", _TRACKERS.get(str(logger.value).rpartition(".")[2], "none"), logger)


def _precision(by_key: Mapping[str, Setting]) -> Iterator[Fact]:
    """torchtune computes wholly in `dtype`: weights, gradients and optimizer states are of that type."""
    item = by_key.get("dtype")
    if item and str(item.value) in _DTYPES:
        yield told("training.precision", str(item.value), item)
        yield told("training.load_dtype", _DTYPES[str(item.value)], item)
        yield told("training.bf16", item.value == "bf16", item)
        yield told("training.fp16", item.value == "fp16", item)
    if (device := by_key.get("device")) and isinstance(device.value, str):
        yield told("training.on_cpu", device.value == "cpu", device)


Row = dict[str, Setting]


def _datasets(document: Node, file: str, by_key: Mapping[str, Setting]) -> list[Row]:
    node = document.get("dataset")
    if isinstance(node.value, dict):
        return [{key.removeprefix("dataset."): item for key, item in by_key.items() if key.startswith("dataset.")}]
    rows = []
    for index, one in enumerate(node.list()[:MOST_DATASETS]):
        above = f"dataset[{index}]"
        rows.append({item.key[len(above) + 1 :]: item for item in settings(one, OWNER, file, above)})
    return rows


def _data(rows: list[Row]) -> Iterator[Fact]:
    for index, row in enumerate(rows):
        name = f"training.dataset.{index}"
        source, files, kind = row.get("source"), row.get("data_files"), row.get(COMPONENT)
        path = files if files and files.value else source
        if path and isinstance(path.value, str):
            yield told(f"{name}.path", path.value, path)
            yield told(f"{name}.role", "train", path)
        if kind and isinstance(kind.value, str):
            yield told(f"{name}.format", kind.value.rpartition(".")[2], kind)
        if (field := row.get("column")) and isinstance(field.value, str):
            yield told(f"{name}.field", field.value, field)
        if index == 0 and (inputs := row.get("train_on_input")) and inputs.value is True:
            yield told("training.loss_on", "all", inputs)


_ASKED = ("tokenizer.max_seq_len", "tensor_parallel_plan", "enable_activation_checkpointing", "optimizer._component_")
"""Keys that rules ask for where they are absent: `unset`."""


def _own(by_key: Mapping[str, Setting]) -> Iterator[Fact]:
    """What only torchtune has, as training.torchtune.*: rules on its own recipes ask for it."""
    yield from own_facts(by_key.items(), HEAD, _ASKED)
    named = [item for item in by_key.values() if item.name == COMPONENT and isinstance(item.value, str)]
    for number_, item in enumerate(named):
        yield told(f"{HEAD}.component.{number_}.name", str(item.value), item)
    files = by_key.get("checkpointer.checkpoint_files")
    if files and isinstance(files.value, list):
        yield told(f"{HEAD}.checkpoint_file_count", str(len(files.value)), files)


def _references(by_key: Mapping[str, Setting], rows: list[Row]) -> Iterator[Reference]:
    for row in rows:
        files = row.get("data_files")
        if files is None:
            continue
        for name in files.value if isinstance(files.value, list) else [files.value]:
            if isinstance(name, str) and is_data_file(name):
                yield Reference(name, "data", files)
