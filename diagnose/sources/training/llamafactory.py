"""A LLaMA-Factory configuration, of the old form and of v1 → its settings, their common meaning, and the files that it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from diagnose.model import Fact
from diagnose.sources.settings import words
from diagnose.sources.training import alike
from diagnose.sources.training.documents import where_unset
from diagnose.sources.training.given import Meaning, Setting, meant, number, read_as, settings, told
from diagnose.sources.training.named import UNSET, is_data_file, own_facts, with_numbers
from diagnose.sources.training.parsed import Parsed, Reference
from diagnose.sources.yamlfile import Node

OWNER = "llamafactory"
HEAD = "training.llamafactory"
V1 = "llamafactory.v1"
"""The owner of the settings of the new form, which is read where USE_V1 is set; its keys are others."""
DEFAULT = "llamafactory's default"
"""The origin of what holds because nothing is set."""
MOST_DATASETS = 64

_OWN_KEYS = words(
    """
    finetuning_type cutoff_len dataset_dir lora_rank lora_target pref_beta pref_loss quantization_bit overwrite_cache
    neat_packing infer_backend export_dir export_size export_quantization_bit freeze_trainable_layers use_galore
    use_badam use_apollo pure_bf16 enable_liger_kernel adapter_name_or_path plot_loss tokenized_path
    disable_gradient_checkpointing train_on_prompt mask_history upcast_layernorm
    """
)  # fmt: skip
_STAGES = ("pt", "sft", "rm", "ppo", "dpo", "kto")
_V1_PARTS = ("peft_config", "kernel_config", "dist_config", "quant_config", "init_config", "optim_config")
_V1_KEYS = frozenset(
    {*_V1_PARTS, "model_class", "train_dataset", "batching_strategy", "sample_backend", "lr_scheduler_config"}
)

_COMMON: dict[str, Meaning] = {
    **alike.OF_TRAINER,
    **alike.HANDED_ON,
    **alike.LORA,
    **alike.LORA_SWITCHES,
    "adapter_name_or_path": ("training.adapter", "text"),
    "enable_liger_kernel": ("training.liger", "flag"),
    "cutoff_len": ("training.max_length", "number"),
    "template": ("training.chat_template", "text"),
    "resize_vocab": ("training.resize_embeddings", "flag"),
    "eval_strategy": ("training.eval", "text"),
    "evaluation_strategy": ("training.eval", "text"),
    "val_size": ("training.eval_share", "number"),
    "save_strategy": ("training.save", "text"),
    "early_stopping_steps": ("training.early_stopping", "number"),
    "fsdp": ("training.fsdp", "text"),
    "pref_beta": ("training.beta", "number"),
    "lora_rank": ("training.lora.rank", "number"),
    "additional_target": ("training.lora.saved_modules", "text"),
    "quantization_type": ("training.quantization_type", "text"),
    "double_quantization": ("training.quantization_double", "flag"),
}  # fmt: skip

_DEFAULTS: tuple[tuple[str, str | int | float | bool, str], ...] = (
    ("training.max_length", 2048, "cutoff_len"),
    ("training.gradient_checkpointing", True, "disable_gradient_checkpointing"),
    ("training.reentrant", True, "use_reentrant_gc"),
)
_LORA_DEFAULTS: tuple[tuple[str, str | int | float | bool, str], ...] = (
    ("training.lora.rank", 8, "lora_rank"),
    ("training.lora.targets", "all-linear", "lora_target"),
    ("training.lora.dropout", 0.0, "lora_dropout"),
)
_V1_DEFAULTS: tuple[tuple[str, str | int | float | bool, str], ...] = (
    ("training.max_length", 2048, "cutoff_len"),
    ("training.batch", 1, "micro_batch_size"),
    ("training.gradient_checkpointing", True, "enable_activation_checkpointing"),
    ("training.bf16", True, "bf16"),
    ("training.attention", "sdpa", "flash_attn"),
)
_ATTENTION = {
    "fa2": "flash_attention_2",
    "fa3": "flash_attention_3",
    "sdpa": "sdpa",
    "disabled": "eager",
    "eager": "eager",
    "flash_attention_2": "flash_attention_2",
}
_METHODS = {"lora": "lora", "oft": "other-adapter", "freeze": "freeze", "full": "full"}
_TASKS = {"pt": "pretrain", "sft": "sft", "rm": "reward", "ppo": "ppo", "dpo": "dpo", "kto": "kto"}
_LOSSES = ("ipo", "orpo", "simpo")
"""Values of `pref_loss` that are a task of their own."""


def is_kind(document: Node) -> bool:
    """Whether a mapping is a LLaMA-Factory configuration, of the old form or of v1, by the keys that only it has."""
    if not isinstance(document.value, dict):
        return False
    return _is_old(document) or _is_v1(document)


def _is_old(document: Node) -> bool:
    keys = document.value.keys()
    own = len(_OWN_KEYS & keys) + (document.get("stage").word() in _STAGES)
    return own >= 2 or (own >= 1 and "model_name_or_path" in keys) or {"model_name_or_path", "template"} <= keys


def _is_v1(document: Node) -> bool:
    own = _V1_KEYS & document.value.keys()
    named = any("name" in (document.get(part).value or ()) for part in _V1_PARTS if _is_mapping(document.get(part)))
    return isinstance(document.get("model").value, str) and (named or len(own) >= 2)


def _is_mapping(node: Node) -> bool:
    return isinstance(node.value, dict)


def read(document: Node, file: str) -> Parsed:
    """Its settings and what they mean; nothing is raised, whatever it holds."""
    if isinstance(document.value, dict) and not _is_old(document) and _is_v1(document):
        return _read_v1(document, file)
    items = tuple(with_numbers(settings(document, OWNER, file)))
    by_key = {item.key: item for item in items if item.value is not None}
    facts = (
        Fact("training.framework", OWNER, file, 1),
        *_method(by_key),
        *_task(by_key),
        *meant(by_key.values(), _COMMON),
        *_texts(by_key),
        *_precision(by_key),
        *_memory(by_key),
        *_evaluation(by_key),
        *_tokens(by_key),
        *_sharding(by_key),
        *_datasets(by_key),
        *own_facts(by_key.items(), HEAD, _ASKED),
        *_evaluates(by_key),
    )
    return Parsed(items, facts + tuple(_where_unset(facts, by_key)), tuple(_references(by_key)))


def _where_unset(facts: tuple[Fact, ...], by_key: Mapping[str, Setting]) -> Iterator[Fact]:
    """What holds for a training because nothing is set."""
    known = {fact.name: fact.value for fact in facts}
    if str(known.get(f"{HEAD}.do_train")) != "true":
        return
    lora = known.get("training.method") in ("lora", "qlora")
    unset = tuple(where_unset(_DEFAULTS + (_LORA_DEFAULTS if lora else ()), known, by_key, DEFAULT))
    yield from unset
    rank = next((fact.value for fact in (*facts, *unset) if fact.name == "training.lora.rank"), None)
    if lora and isinstance(rank, (int, float)):
        yield from where_unset((("training.lora.alpha", 2 * rank, "lora_alpha"),), known, by_key, DEFAULT)


def _on(by_key: Mapping[str, Setting], key: str) -> Setting | None:
    """A setting that is given and not false, empty or 0."""
    item = by_key.get(key)
    return item if item is not None and item.value and str(item.value).lower() != "false" else None


def _method(by_key: Mapping[str, Setting]) -> Iterator[Fact]:
    """The method (LoRA where none is named), and the quantization of the base while it is loaded."""
    method, bits = by_key.get("finetuning_type"), by_key.get("quantization_bit")
    name = str(method.value) if method else "lora"
    quantized = number(bits.value) if bits else None
    if name in _METHODS:
        word = "qlora" if name == "lora" and quantized == 4 else _METHODS[name]
        yield (
            told("training.method", word, method)
            if method
            else Fact("training.method", word, DEFAULT, key="finetuning_type")
        )
    if not bits or not quantized:
        return
    by = by_key.get("quantization_method")
    how = str(by.value) if by else "bnb"
    yield told("training.quantization", f"{int(quantized)}bit" if how in ("bnb", "bitsandbytes") else how, bits)
    if quantized == 4 and how in ("bnb", "bitsandbytes"):
        if "quantization_type" not in by_key:
            yield told("training.quantization_type", "nf4", bits)
        if "double_quantization" not in by_key:
            yield told("training.quantization_double", True, bits)


def _task(by_key: Mapping[str, Setting]) -> Iterator[Fact]:
    """What is done: a stage is trained where `do_train` says so; else a model is exported, asked, or prepared."""
    stage = by_key.get("stage")
    if _on(by_key, "do_train"):
        name = str(stage.value) if stage else "sft"
        loss = by_key.get("pref_loss")
        if name == "dpo" and loss and loss.value in _LOSSES:
            yield told("training.task", str(loss.value), loss)
        elif stage and name in _TASKS:
            yield told("training.task", _TASKS[name], stage)
        elif not stage:
            yield Fact("training.task", "sft", DEFAULT, key="stage")
        return
    for key, task in (
        ("export_dir", "merge"),
        ("infer_backend", "inference"),
        ("do_predict", "inference"),
        ("do_eval", "inference"),
    ):
        if item := _on(by_key, key):
            yield told("training.task", task, item)
            return


def _texts(by_key: Mapping[str, Setting]) -> Iterator[Fact]:
    if (steps := by_key.get("max_steps")) and (number(steps.value) or 0) > 0:
        yield told("training.max_steps", number(steps.value) or 0, steps)
    if target := _on(by_key, "lora_target"):
        names = read_as("list" if isinstance(target.value, list) else "text", target.value)
        if names is not None:
            parts = ",".join(part.strip() for part in str(names).split(","))
            yield told("training.lora.targets", "all-linear" if parts == "all" else parts, target)
    if report := by_key.get("report_to"):
        value = read_as("list" if isinstance(report.value, list) else "text", report.value)
        if value is not None:
            yield told("training.report_to", str(value), report)
    for key in ("ref_model", "reward_model"):
        if item := _on(by_key, key):
            yield told("training.reference_model", str(item.value), item)
            break


def _precision(by_key: Mapping[str, Setting]) -> Iterator[Fact]:
    """The types: trained weights are raised to float32 unless `pure_bf16` is set; a frozen base stays in 16 bits."""
    pure, bf16, fp16 = (_on(by_key, key) for key in ("pure_bf16", "bf16", "fp16"))
    fp8 = _on(by_key, "fp8")
    half = pure or bf16 or fp16
    if half:
        word = "fp16" if half is fp16 else "bf16"
        yield told("training.precision", "fp8" if fp8 else word, fp8 or half)
        full = str(by_key["finetuning_type"].value) == "full" if "finetuning_type" in by_key else False
        kept = "float16" if half is fp16 else "bfloat16"
        yield told("training.load_dtype", "float32" if full and not pure else kept, half)
    elif _on(by_key, "do_train"):
        yield Fact("training.precision", "fp32", DEFAULT, key="bf16")


def _memory(by_key: Mapping[str, Setting]) -> Iterator[Fact]:
    if (off := by_key.get("disable_gradient_checkpointing")) and isinstance(off.value, bool):
        yield told("training.gradient_checkpointing", not off.value, off)
    if (form := by_key.get("use_reentrant_gc")) and isinstance(form.value, bool):
        yield told("training.reentrant", form.value, form)
    if (attention := _on(by_key, "flash_attn")) and str(attention.value) in _ATTENTION:
        yield told("training.attention", _ATTENTION[str(attention.value)], attention)
    neat, packing = _on(by_key, "neat_packing"), by_key.get("packing")
    if neat:
        yield told("training.packing", True, neat)
        yield told("training.packing_strategy", "neat", neat)
    elif packing and isinstance(packing.value, bool):
        yield told("training.packing", packing.value, packing)
    elif (stage := by_key.get("stage")) and stage.value == "pt":
        yield told("training.packing", True, stage)


def _evaluation(by_key: Mapping[str, Setting]) -> Iterator[Fact]:
    data, share = _on(by_key, "eval_dataset"), by_key.get("val_size")
    if data:
        yield told("training.eval_data", True, data)
    elif share and number(share.value) is not None:
        yield told("training.eval_data", float(number(share.value) or 0) > 1e-6, share)
    else:
        yield Fact("training.eval_data", False, DEFAULT, key="val_size")
    if (prompt := _on(by_key, "train_on_prompt")) and prompt.value is True:
        yield told("training.loss_on", "all", prompt)
    elif (stage := by_key.get("stage")) and stage.value == "pt":
        yield told("training.loss_on", "all", stage)


def _tokens(by_key: Mapping[str, Setting]) -> Iterator[Fact]:
    names: list[str] = []
    places: list[Setting] = []
    for key in ("add_special_tokens", "add_tokens"):
        if (item := _on(by_key, key)) and isinstance(item.value, str):
            names += [name.strip() for name in item.value.split(",") if name.strip()]
            places.append(item)
    if places and names:
        yield told("training.new_tokens", len(names), places[0])
        yield told("training.new_tokens_listed", ",".join(names[:8]), places[0])


def _sharding(by_key: Mapping[str, Setting]) -> Iterator[Fact]:
    if zero := _on(by_key, "deepspeed"):
        yield told("training.deepspeed", "inline" if isinstance(zero.value, dict) else str(zero.value), zero)
    if (count := by_key.get("ray_num_workers")) and number(count.value) is not None:
        yield told("training.processes", number(count.value) or 0, count)


def _datasets(by_key: Mapping[str, Setting]) -> Iterator[Fact]:
    """Names of data sets: entries of dataset_info.json in `dataset_dir`, or of the Hub where that is ONLINE."""
    count = 0
    for key, role in (("dataset", "train"), ("eval_dataset", "eval")):
        item = _on(by_key, key)
        if item is None:
            continue
        value = read_as("list" if isinstance(item.value, list) else "text", item.value)
        for name in [part.strip() for part in str(value or "").split(",") if part.strip()][:MOST_DATASETS]:
            yield told(f"training.dataset.{count}.path", name, item)
            yield told(f"training.dataset.{count}.role", role, item)
            count += 1


_ASKED = dict.fromkeys(
    words(
        """
        adapter_name_or_path dataset do_predict do_train eval_dataset export_quantization_dataset max_steps
        predict_with_generate quantization_bit reward_model tokenized_path use_kt val_size
        """
    ),
    UNSET,
) | {
    "stage": "sft",
    "finetuning_type": "lora",
    "mix_strategy": "concat",
    "pref_loss": "sigmoid",
    "reward_model_type": "lora",
}
"""Keys that rules ask for where they are absent, and what counts then."""


def _evaluates(by_key: Mapping[str, Setting]) -> Iterator[Fact]:
    """The setting that asks for an evaluation; transformers sets `do_eval` where a strategy is named."""
    for key in ("do_eval", "do_predict", "predict_with_generate", "eval_strategy"):
        if (item := _on(by_key, key)) and str(item.value) != "no":
            yield told(f"{HEAD}.evaluates_by", item.key, item)
            return


def _references(by_key: Mapping[str, Setting]) -> Iterator[Reference]:
    if (zero := _on(by_key, "deepspeed")) and isinstance(zero.value, str):
        yield Reference(zero.value, "deepspeed", zero)
    if (fsdp := _on(by_key, "fsdp_config")) and isinstance(fsdp.value, str):
        yield Reference(fsdp.value, "fsdp", fsdp)


_V1_AS_BEFORE = words(
    """
    output_dir resume_from_checkpoint learning_rate max_grad_norm num_train_epochs bf16 cutoff_len template save_steps
    save_total_limit logging_steps seed
    """
)
"""Keys that mean in v1 what they mean in the old form."""
_V1_COMMON: dict[str, Meaning] = {
    **{key: _COMMON[key] for key in _V1_AS_BEFORE},
    "model": ("training.model", "text"),
    "micro_batch_size": ("training.batch", "number"),
    "max_steps": ("training.max_steps", "number"),
    "enable_activation_checkpointing": ("training.gradient_checkpointing", "flag"),
    "flash_attn": ("training.attention", "text"),
    "optim_config.name": ("training.optimizer", "text"),
    "lr_scheduler_config.name": ("training.scheduler", "text"),
    "peft_config.r": ("training.lora.rank", "number"),
    "peft_config.lora_alpha": ("training.lora.alpha", "number"),
    "peft_config.lora_dropout": ("training.lora.dropout", "number"),
    "peft_config.adapter_name_or_path": ("training.adapter", "text"),
}


_V1_PLUGINS = (*_V1_PARTS, "lr_scheduler_config")


def _read_v1(document: Node, file: str) -> Parsed:
    """The new form: plugins under `peft_config`, `dist_config` … by their `name`."""
    items = tuple(with_numbers(settings(document, V1, file)))
    by_key = {item.key: item for item in items if item.value is not None}
    facts = (
        Fact("training.framework", OWNER, file, 1),
        *_v1_method(by_key),
        *meant(by_key.values(), _V1_COMMON),
        *own_facts(by_key.items(), f"{HEAD}.v1", ("max_steps",)),
        *_v1_nameless(by_key),
        *_v1_sharding(by_key),
        *_v1_datasets(by_key),
    )
    known = {fact.name for fact in facts}
    defaults = tuple(where_unset(_V1_DEFAULTS, known, by_key, DEFAULT))
    return Parsed(items, facts + defaults, tuple(_v1_references(by_key)))


def _v1_method(by_key: Mapping[str, Setting]) -> Iterator[Fact]:
    """What is trained: everything where no plugin of PEFT's is named."""
    peft, bits = by_key.get("peft_config.name"), by_key.get("quant_config.quantization_bit")
    named, wide = str(peft.value) if peft else "", number(bits.value) if bits else None
    if peft and named in ("lora", "freeze"):
        yield told("training.method", "qlora" if named == "lora" and wide == 4 else named, peft)
    elif not peft:
        yield Fact("training.method", "full", DEFAULT, key="peft_config")
    if bits and wide:
        yield told("training.quantization", f"{int(wide)}bit", bits)
    if export := _on(by_key, "peft_config.export_dir"):
        yield told("training.task", "merge", export)
    if (targets := by_key.get("peft_config.target_modules")) and named == "lora":
        value = read_as("list" if isinstance(targets.value, list) else "text", targets.value)
        yield told("training.lora.targets", "all-linear" if value == "all" else str(value), targets)


def _v1_nameless(by_key: Mapping[str, Setting]) -> Iterator[Fact]:
    """The first plugin whose mapping does not say which it is."""
    for part in _V1_PLUGINS:
        item = by_key.get(part)
        if item is not None and isinstance(item.value, dict) and "name" not in item.value:
            yield told(f"{HEAD}.v1.nameless", item.key, item)
            return


def _v1_sharding(by_key: Mapping[str, Setting]) -> Iterator[Fact]:
    if config := _v1_zero(by_key):
        yield told("training.deepspeed", str(config.value), config)
    if (spread := by_key.get("dist_config.name")) and str(spread.value).startswith("fsdp"):
        yield told("training.fsdp", str(spread.value), spread)
        yield told("fsdp.version", 2, spread)


def _v1_zero(by_key: Mapping[str, Setting]) -> Setting | None:
    """The file for DeepSpeed, where that is the plugin."""
    spread = by_key.get("dist_config.name")
    return _on(by_key, "dist_config.config_file") if spread and spread.value == "deepspeed" else None


def _v1_datasets(by_key: Mapping[str, Setting]) -> Iterator[Fact]:
    for number_, (key, role) in enumerate((("train_dataset", "train"), ("eval_dataset", "eval"))):
        if data := _on(by_key, key):
            yield told(f"training.dataset.{number_}.path", str(data.value), data)
            yield told(f"training.dataset.{number_}.role", role, data)


def _v1_references(by_key: Mapping[str, Setting]) -> Iterator[Reference]:
    for key in ("train_dataset", "eval_dataset"):
        if (data := _on(by_key, key)) and isinstance(data.value, str) and is_data_file(data.value):
            yield Reference(data.value, "data", data)
    if config := _v1_zero(by_key):
        yield Reference(str(config.value), "deepspeed", config)
