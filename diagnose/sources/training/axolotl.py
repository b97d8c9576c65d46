"""An Axolotl configuration → its settings, what they mean under common names, and the files that it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from diagnose.model import Fact
from diagnose.sources.settings import words
from diagnose.sources.training import alike, fsdp
from diagnose.sources.training.documents import where_unset
from diagnose.sources.training.given import Meaning, Setting, meant, number, plain, read_as, settings, told
from diagnose.sources.training.named import UNSET, is_data_file, own_facts
from diagnose.sources.training.parsed import Parsed, Reference
from diagnose.sources.yamlfile import Node

OWNER = "axolotl"
HEAD = "training.axolotl"
DEFAULT = "axolotl's default"
"""The origin of what holds because nothing is set."""
MOST_DATASETS = 64
LOADERS = ("json", "csv", "parquet", "arrow", "text")
"""Values of `path` that say how `data_files` are read."""

_OWN_KEYS = words(
    """
    base_model sequence_len sample_packing micro_batch_size val_set_size num_epochs dataset_prepared_path lora_r
    lora_target_linear lora_target_modules lora_model_dir pad_to_sequence_len evals_per_epoch saves_per_epoch
    eval_sample_packing train_on_inputs flash_attention sdp_attention xformers_attention load_in_4bit load_in_8bit
    wandb_log_model pretraining_dataset test_datasets special_tokens loss_watchdog_threshold eot_tokens
    """
)  # fmt: skip

_COMMON: dict[str, Meaning] = {
    **alike.EVERYWHERE,
    **alike.HANDED_ON,
    **alike.LORA,
    "base_model": ("training.model", "text"),
    "tokenizer_config": ("training.tokenizer", "text"),
    "lora_model_dir": ("training.adapter", "text"),
    "lr_scheduler": ("training.scheduler", "text"),
    "optimizer": ("training.optimizer", "text"),
    "micro_batch_size": ("training.batch", "number"),
    "eval_batch_size": ("training.eval_batch", "number"),
    "num_epochs": ("training.epochs", "number"),
    "sequence_len": ("training.max_length", "number"),
    "excess_length_strategy": ("training.truncation", "text"),
    "sample_packing": ("training.packing", "flag"),
    "batch_flattening": ("training.padding_free", "flag"),
    "pad_to_multiple_of": ("training.pad_to_multiple_of", "number"),
    "chat_template": ("training.chat_template", "text"),
    "special_tokens.eos_token": ("training.eos_token", "text"),
    "special_tokens.pad_token": ("training.pad_token", "text"),
    "early_stopping_patience": ("training.early_stopping", "number"),
    "dataset_num_proc": ("training.preprocessing_workers", "number"),
    "dataset_processes": ("training.preprocessing_workers", "number"),
    "rl_beta": ("training.beta", "number"),
    "dpo_beta": ("training.beta", "number"),
    "trl.beta": ("training.beta", "number"),
    "trl.num_generations": ("training.generations", "number"),
    "trl.max_completion_length": ("training.completion_length", "number"),
    "trl.vllm_gpu_memory_utilization": ("training.vllm_share", "number"),
    "vllm.gpu_memory_utilization": ("training.vllm_share", "number"),
    "trl.temperature": ("training.temperature", "number"),
    "max_prompt_len": ("training.prompt_length", "number"),
    "lora_r": ("training.lora.rank", "number"),
    "lora_modules_to_save": ("training.lora.saved_modules", "list"),
    "peft_use_rslora": ("training.lora.rslora", "flag"),
    "peft_use_dora": ("training.lora.dora", "flag"),
    "peft_init_lora_weights": ("training.lora.init", "text"),
}  # fmt: skip

_ATTENTION = {
    "xformers_attention": "xformers",
    "sage_attention": "sage",
    "flex_attention": "flex_attention",
    "flash_attention": "flash_attention_2",
    "sdp_attention": "sdpa",
    "eager_attention": "eager",
}
"""Flags of before `attn_implementation`, the one that counts first at the top."""

_DEFAULTS: tuple[tuple[str, str | int | float | bool, str], ...] = (
    ("training.max_length", 512, "sequence_len"),
    ("training.batch", 1, "micro_batch_size"),
    ("training.epochs", 1.0, "num_epochs"),
    ("training.optimizer", "adamw_torch_fused", "optimizer"),
    ("training.scheduler", "cosine", "lr_scheduler"),
    ("training.weight_decay", 0.0, "weight_decay"),
    ("training.save_limit", 4, "save_total_limit"),
    ("training.gradient_checkpointing", False, "gradient_checkpointing"),
    ("training.truncation", "drop", "excess_length_strategy"),
    ("training.precision", "auto", "bf16"),
    ("training.load_dtype", "bfloat16", "bf16"),
)

_TRACKERS = {
    "use_wandb": "wandb",
    "use_mlflow": "mlflow",
    "use_tensorboard": "tensorboard",
    "use_comet": "comet_ml",
    "use_trackio": "trackio",
}
_TRACKER_PROJECTS = {
    "wandb_project": "wandb",
    "mlflow_experiment_name": "mlflow",
    "comet_project_name": "comet_ml",
    "trackio_project_name": "trackio",
}
_TASKS = {"gdpo": "grpo"}
"""Names of `rl` that are a task by another common name."""


def is_kind(document: Node) -> bool:
    """Whether a mapping is an Axolotl configuration: at least two of the keys that only Axolotl has."""
    if not isinstance(document.value, dict) or "model_name_or_path" in document.value:
        return False
    return len(_OWN_KEYS & document.value.keys()) >= 2


def read(document: Node, file: str) -> Parsed:
    """Its settings and what they mean; nothing is raised, whatever it holds."""
    items = tuple(settings(document, OWNER, file))
    by_key = {item.key: item for item in items if item.value is not None}
    rows = _datasets(document, file)
    facts = (
        Fact("training.framework", OWNER, file, 1),
        *_method(by_key),
        *meant((item for item in by_key.values() if item.key != "torch_compile" or item.value != "auto"), _COMMON),
        *_task(by_key),
        *_schedule(by_key),
        *_precision(by_key, next((item for item in items if item.key == "bf16"), None)),
        *_memory(by_key),
        *_attention(by_key),
        *_evaluation(by_key),
        *_tokens(by_key),
        *_sharding(by_key),
        *_reports(by_key),
        *_dataset_facts(rows, by_key),
        *_own(by_key, rows),
    )
    known = {fact.name for fact in facts}
    defaults = tuple(where_unset(_DEFAULTS, known, by_key, DEFAULT))
    return Parsed(items, facts + defaults, tuple(_references(by_key, rows)))


def _on(by_key: Mapping[str, Setting], key: str) -> Setting | None:
    """A setting that is given and not false, empty or 0, which is what Axolotl asks for."""
    item = by_key.get(key)
    return item if item is not None and item.value else None


def _method(by_key: Mapping[str, Setting]) -> Iterator[Fact]:
    """What is trained, and how the base is quantized: Axolotl quantizes for `qlora` in 4 and for `lora` in 8 bit only."""
    adapter = _on(by_key, "adapter")
    kind = str(adapter.value) if adapter else ""
    in_4bit, in_8bit = _on(by_key, "load_in_4bit"), _on(by_key, "load_in_8bit")
    if adapter:
        quantized_by = in_4bit if kind == "qlora" else in_8bit if kind == "lora" else None
        method = "qlora" if kind == "qlora" else "lora" if kind == "lora" else "other-adapter"
        yield told("training.method", method, adapter)
        if quantized_by:
            yield told("training.quantization", "4bit" if kind == "qlora" else "8bit", quantized_by)
        if quantized_by and kind == "qlora":
            yield from _bitsandbytes(by_key, quantized_by)
    elif frozen := _on(by_key, "unfrozen_parameters"):
        yield told("training.method", "freeze", frozen)
    else:
        given = next((by_key[key] for key in ("adapter", "base_model") if key in by_key), None)
        yield Fact(
            "training.method", "full", *((given.file, given.line, given.column, given.key) if given else (DEFAULT,))
        )
    targets, linear = _on(by_key, "lora_target_modules"), _on(by_key, "lora_target_linear")
    if targets and isinstance(targets.value, list):
        yield told("training.lora.targets", ",".join(str(name) for name in targets.value), targets)
    elif targets:
        yield told("training.lora.targets", str(targets.value), targets)
        yield told("training.lora.targets_pattern", True, targets)
    elif linear:
        yield told("training.lora.targets", "all-linear", linear)
    if rows := _on(by_key, "peft_trainable_token_indices"):
        yield told("training.lora.trainable_tokens", True, rows)


def _bitsandbytes(by_key: Mapping[str, Setting], item: Setting) -> Iterator[Fact]:
    names: tuple[tuple[str, str, str, str | bool], ...] = (
        ("bnb_4bit_quant_type", "training.quantization_type", "text", "nf4"),
        ("bnb_4bit_use_double_quant", "training.quantization_double", "flag", True),
        ("bnb_4bit_quant_storage", "training.quantization_storage", "text", "bfloat16"),
    )
    for key, name, kind, default in names:
        given = by_key.get(f"bnb_config_kwargs.{key}")
        value = read_as(kind, given.value) if given else None
        yield told(name, default if value is None else value, given or item)


def _task(by_key: Mapping[str, Setting]) -> Iterator[Fact]:
    names = {"reward_model": "reward", "process_reward_model": "prm", "pretraining_dataset": "pretrain"}
    if rl := _on(by_key, "rl"):
        yield told("training.task", _TASKS.get(str(rl.value), str(rl.value)), rl)
        return
    for key, task in names.items():
        if item := _on(by_key, key):
            yield told("training.task", task, item)
            return
    if item := _on(by_key, "datasets"):
        yield told("training.task", "sft", item)


def _schedule(by_key: Mapping[str, Setting]) -> Iterator[Fact]:
    if (steps := _on(by_key, "max_steps")) and (number(steps.value) or 0) > 0:
        yield told("training.max_steps", number(steps.value) or 0, steps)
    rate = by_key.get("learning_rate")
    peak, share = number(rate.value) if rate else None, by_key.get("cosine_min_lr_ratio")
    if share and peak and number(share.value) is not None:
        yield told("training.min_learning_rate", peak * float(number(share.value) or 0), share)
    batch, whole = by_key.get("micro_batch_size"), _on(by_key, "batch_size")
    if whole and "gradient_accumulation_steps" not in by_key:
        one, all_ = number(batch.value) if batch else 1, number(whole.value)
        if one and all_ and all_ >= one:
            yield told("training.accumulation", int(all_ // one), whole)
    elif "gradient_accumulation_steps" not in by_key:
        yield Fact("training.accumulation", 1, DEFAULT, key="gradient_accumulation_steps")
    if not _on(by_key, "resume_from_checkpoint") and (newest := _on(by_key, "auto_resume_from_checkpoints")):
        yield told("training.resume", "newest", newest)


def _precision(by_key: Mapping[str, Setting], given: Setting | None) -> Iterator[Fact]:
    """The types that are computed in. `bf16` is `auto` where the key is absent, and off where it stands without a value."""
    bf16 = next((by_key[key] for key in ("bf16", "bfloat16") if _on(by_key, key)), given)
    fp16 = next((by_key[key] for key in ("fp16", "float16") if _on(by_key, key)), by_key.get("fp16"))
    fp8 = _on(by_key, "fp8")
    on = read_as("flag", bf16.value if bf16.value is not None else False) if bf16 else None
    half = read_as("flag", fp16.value) if fp16 else None
    if bf16 and on is not None:
        yield told("training.bf16", on, bf16)
    if fp16 and half is not None:
        yield told("training.fp16", half, fp16)
    if (tf32 := by_key.get("tf32")) and isinstance(tf32.value, bool):
        yield told("training.tf32", tf32.value, tf32)
    if bf16 and on:
        yield told("training.precision", "fp8" if fp8 else "bf16", fp8 or bf16)
        yield told("training.load_dtype", "bfloat16", bf16)
    elif fp16 and half:
        yield told("training.precision", "fp16", fp16)
        yield told("training.load_dtype", "float16", fp16)
    elif bf16 and bf16.value == "auto":
        yield told("training.precision", "auto", bf16)
        yield told("training.load_dtype", "bfloat16", bf16)
    elif bf16 and on is False:
        yield told("training.precision", "fp32", bf16)
        yield told("training.load_dtype", "float16" if _on(by_key, "load_in_8bit") else "float32", bf16)


def _memory(by_key: Mapping[str, Setting]) -> Iterator[Fact]:
    """Gradient checkpointing, whose form is another one by release where it is not set, and Liger's kernels."""
    item = by_key.get("gradient_checkpointing")
    if item is not None and (item.value is False or item.value):
        yield told("training.gradient_checkpointing", bool(item.value), item)
    given = by_key.get("gradient_checkpointing_kwargs.use_reentrant")
    flag = read_as("flag", given.value) if given else None
    if given and flag is not None:
        yield told("training.reentrant", bool(flag), given)
    liger = next((by_key[key] for key in by_key if key.startswith("liger_") and _on(by_key, key)), None)
    if liger:
        yield told("training.liger", True, liger)


def _attention(by_key: Mapping[str, Setting]) -> Iterator[Fact]:
    if item := _on(by_key, "attn_implementation"):
        yield told("training.attention", str(item.value), item)
        return
    for key, name in _ATTENTION.items():
        if (item := _on(by_key, key)) and isinstance(item.value, bool):
            yield told("training.attention", name, item)
            return


def _evaluation(by_key: Mapping[str, Setting]) -> Iterator[Fact]:
    """When it evaluates and saves. Without data for it Axolotl turns evaluation off."""
    data, share = _on(by_key, "test_datasets"), by_key.get("val_set_size")
    part = number(share.value) if share else None
    if share and part is not None:
        yield told("training.eval_share", part, share)
    if data:
        yield told("training.eval_data", True, data)
    elif share and part is not None:
        yield told("training.eval_data", part > 0, share)
    else:
        yield Fact("training.eval_data", False, DEFAULT, key="val_set_size")
    epochs = number(by_key["num_epochs"].value) if "num_epochs" in by_key else 1
    yield from _when(by_key, "eval", "evals_per_epoch", "no" if not (data or part) else "", epochs or 1)
    yield from _when(by_key, "save", "saves_per_epoch", "", epochs or 1)


def _when(by_key: Mapping[str, Setting], what: str, per_epoch: str, off: str, epochs: float) -> Iterator[Fact]:
    name = f"training.{what}"
    steps, strategy = _on(by_key, f"{what}_steps"), _on(by_key, f"{what}_strategy")
    if what == "eval" and strategy is None:
        strategy = _on(by_key, "evaluation_strategy")
    often = _on(by_key, per_epoch)
    share = 1 / (float(number(often.value) or 1) * epochs) if often and number(often.value) else 1
    if off:
        yield Fact(name, off, DEFAULT, key=f"{what}_strategy")
    elif steps:
        yield told(name, "steps", steps)
    elif often and share < 1:
        yield told(name, "steps", often)
    elif strategy:
        yield told(name, str(strategy.value), strategy)
    elif often and what == "eval":
        yield told(name, "no", often)
    else:
        yield Fact(name, "epoch" if what == "save" else "no", DEFAULT, key=f"{what}_strategy")


def _tokens(by_key: Mapping[str, Setting]) -> Iterator[Fact]:
    """Tokens that are to be in the vocabulary; Axolotl makes the embeddings as large as the tokenizer."""
    places = [item for key in ("tokens", "special_tokens.additional_special_tokens") if (item := _on(by_key, key))]
    names = [str(name) for item in places if isinstance(item.value, list) for name in item.value]
    if names:
        yield told("training.new_tokens", len(names), places[0])
        yield told("training.new_tokens_listed", ",".join(names[:8]), places[0])
        yield told("training.resize_embeddings", True, places[0])


def _sharding(by_key: Mapping[str, Setting]) -> Iterator[Fact]:
    if zero := _on(by_key, "deepspeed"):
        yield told("training.deepspeed", "inline" if isinstance(zero.value, dict) else str(zero.value), zero)
    options, config, version = (_on(by_key, key) for key in ("fsdp", "fsdp_config", "fsdp_version"))
    if options:
        value = options.value
        yield told("training.fsdp", " ".join(map(str, value)) if isinstance(value, list) else str(value), options)
    elif config:
        yield told("training.fsdp", "fsdp_config", config)
    if not (options or config):
        return
    inner = [item for key, item in by_key.items() if key.startswith("fsdp_config.")]
    if version and number(version.value) is not None:
        yield told("fsdp.version", number(version.value) or 0, version)
    yield from fsdp.meaning(inner)


def _reports(by_key: Mapping[str, Setting]) -> Iterator[Fact]:
    items = {word: item for key, word in _TRACKERS.items() if (item := _on(by_key, key))}
    for key, word in _TRACKER_PROJECTS.items():
        switch = next(name for name, other in _TRACKERS.items() if other == word)
        if (item := _on(by_key, key)) and word not in items and switch not in by_key:
            items[word] = item
    if items:
        yield told("training.report_to", ",".join(sorted(items)), next(iter(items.values())))
    if hub := _on(by_key, "hub_model_id"):
        yield told("training.push_to_hub", True, hub)
    if trl := _on(by_key, "trl.use_vllm"):
        mode = _on(by_key, "trl.vllm_mode")
        yield told("training.vllm", str(mode.value) if mode else "server", mode or trl)


Row = tuple[str, dict[str, Setting]]
"""A dataset: `train` or `eval`, and its settings by key."""


def _datasets(document: Node, file: str) -> list[Row]:
    rows: list[Row] = []
    for key, role in (("datasets", "train"), ("pretraining_dataset", "train"), ("test_datasets", "eval")):
        node = document.get(key)
        whole = node.list() if isinstance(node.value, list) else [node] if node else []
        for index, one in enumerate(whole[:MOST_DATASETS]):
            above = f"{key}[{index}]" if isinstance(node.value, list) else key
            if isinstance(one.value, dict):
                rows.append((role, {item.key[len(above) + 1 :]: item for item in settings(one, OWNER, file, above)}))
            elif isinstance(one.value, str):
                rows.append((role, {"path": Setting(OWNER, above, plain(one), file, one.line, one.column, one.word())}))
    return rows


def _dataset_facts(rows: Sequence[Row], by_key: Mapping[str, Setting]) -> Iterator[Fact]:
    formats: list[str] = []
    for number_, (role, row) in enumerate(rows):
        name = f"training.dataset.{number_}"
        path = next((row[key] for key in ("path", "data_files") if key in row and row[key].value), None)
        if path and path.value in LOADERS and "data_files" in row:
            path = row["data_files"]
        if path:
            value = path.value[0] if isinstance(path.value, list) and path.value else path.value
            yield told(f"{name}.path", str(value), path)
            yield told(f"{name}.role", role, path)
        kind = row.get("type")
        if kind and kind.value:
            word = "user-defined" if isinstance(kind.value, dict) else str(kind.value)
            yield told(f"{name}.format", word, kind)
            formats.append(word)
        for key in ("field_messages", "field", "text_column"):
            if (field := row.get(key)) and isinstance(field.value, str):
                yield told(f"{name}.field", field.value, field)
                break
    if (inputs := _on(by_key, "train_on_inputs")) and not _on(by_key, "rl"):
        yield told("training.loss_on", "all", inputs)


def _own(by_key: Mapping[str, Setting], rows: Sequence[Row]) -> Iterator[Fact]:
    """What only Axolotl has, as training.axolotl.*: rules on its own validators ask for it."""
    yield from own_facts(_filled(by_key), HEAD, _ASKED)
    for name, keys in _GROUPS.items():
        found = [by_key[key] for key in keys if _on(by_key, key)]
        if found:
            yield told(f"{HEAD}.{name}", found[0].key, found[0])
            yield told(f"{HEAD}.{name}_count", str(len(found)), found[-1])
            yield told(f"{HEAD}.{name}_listed", ", ".join(item.key for item in found), found[-1])
        elif name == "attention_flag":
            yield Fact(f"{HEAD}.{name}", UNSET, DEFAULT, key=keys[0])
    if liger := [item for key, item in by_key.items() if key.startswith("liger_") and item.value is True]:
        yield told(f"{HEAD}.liger_key", liger[0].key, liger[0])
    strategy = _on(by_key, "eval_strategy")
    if by := _on(by_key, "eval_steps") or (strategy if strategy and strategy.value != "no" else None):
        yield told(f"{HEAD}.evaluates_by", by.key, by)
    for index, (_, row) in enumerate(rows):
        yield from own_facts(_filled(row), f"{HEAD}.dataset.{index}", ("chat_template_jinja", "type"))


def _filled(by_key: Mapping[str, Setting]) -> Iterator[tuple[str, Setting]]:
    """Settings that are not empty: an empty text, list or mapping is to Axolotl's validators what an absent key is."""
    return ((key, item) for key, item in by_key.items() if item.value not in ("", [], {}))


_ASKED = words(
    """
    adapter attn_implementation base_model chat_template_jinja datasets eval_sample_packing eval_steps eval_strategy
    fp16 hf_use_auth_token inference jagged_restart_steps learning_rate load_in_4bit load_in_8bit lora_alpha
    lora_model_dir lora_r lora_target_linear lora_target_modules lora_target_parameters max_steps merge_lora
    metric_for_best_model plugins pretraining_dataset remove_unused_columns rl save_steps sequence_len skip_prepare_dataset
    test_datasets val_set_size
    """
)  # fmt: skip
"""Keys that rules ask for where they are absent: `unset`."""
_GROUPS: dict[str, tuple[str, ...]] = {
    "attention_flag": ("flash_attention", *(key for key in _ATTENTION if key != "flash_attention")),
    "fused_loss": (
        "cut_cross_entropy",
        "chunked_cross_entropy",
        "liger_cross_entropy",
        "liger_fused_linear_cross_entropy",
    ),
    "lora_kernel": ("lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel"),
    "quantized_by": ("load_in_4bit", "load_in_8bit"),
    "streams_by": ("pretraining_dataset", "streaming"),
}


def _references(by_key: Mapping[str, Setting], rows: Sequence[Row]) -> Iterator[Reference]:
    if (zero := _on(by_key, "deepspeed")) and isinstance(zero.value, str):
        yield Reference(zero.value, "deepspeed", zero)
    for _, row in rows:
        path, files = row.get("path"), row.get("data_files")
        names = (
            files.value if files and isinstance(files.value, list) else [files.value] if files and files.value else []
        )
        if files and names:
            yield from (Reference(name, "data", files) for name in _within(path, names))
        elif path and isinstance(path.value, str) and is_data_file(path.value):
            yield Reference(path.value, "data", path)


def _within(path: Setting | None, names: Sequence[Any]) -> Iterator[str]:
    """Data files that can be found without the Hub: a loader (`json`) takes them as they are, a folder holds them."""
    where = str(path.value) if path and path.value else ""
    for name in (str(name) for name in names if isinstance(name, str)):
        if not where or where in LOADERS:
            if is_data_file(name):
                yield name
        elif where.startswith(("./", "../", "/", "~")) and is_data_file(name):
            yield f"{where.rstrip('/')}/{name}"
