"""Arguments of transformers' Trainer (TrainingArguments and its heirs), of any release, as YAML, JSON, command or call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from diagnose.model import Fact
from diagnose.sources.settings import words
from diagnose.sources.training import alike, blocks, classes, fsdp, peft, quantization
from diagnose.sources.training.blocks import By, Schema
from diagnose.sources.training.classes import SEQ2SEQ, TRAINER, Reads
from diagnose.sources.training.given import UNKNOWN, Meaning, by_table, number, read_as, told
from diagnose.sources.training.parsed import Parsed, Reference
from diagnose.sources.yamlfile import Node

_OF_SCRIPTS = words(
    """
    model_name_or_path config_name tokenizer_name cache_dir model_revision use_fast_tokenizer trust_remote_code torch_dtype dtype
    attn_implementation low_cpu_mem_usage dataset_name dataset_config_name dataset_config train_file validation_file
    test_file max_seq_length max_source_length max_target_length block_size max_train_samples max_eval_samples
    preprocessing_num_workers overwrite_cache validation_split_percentage pad_to_max_length text_column summary_column
    streaming
    """
)
"""What the arguments of transformers' own example scripts are called besides."""
_TOO_COMMON = words(
    "fp16 bf16 seed learning_rate weight_decay optim debug project deepspeed fsdp max_steps use_cache dtype"
)
"""Arguments whose names any program may have: they tell nothing of the kind."""

TABLE: Mapping[str, Meaning] = {
    **alike.OF_TRAINER,
    "per_gpu_train_batch_size": ("training.batch", "number"),
    "per_gpu_eval_batch_size": ("training.eval_batch", "number"),
    "activation_checkpointing": ("training.gradient_checkpointing", "flag"),
    "gradient_checkpointing": ("training.gradient_checkpointing", "flag"),
    "activation_checkpointing_kwargs.use_reentrant": ("training.reentrant", "flag"),
    "gradient_checkpointing_kwargs.use_reentrant": ("training.reentrant", "flag"),
    "use_cache": ("training.use_cache", "flag"),
    "use_liger_kernel": ("training.liger", "flag"),
    "xpu_backend": ("training.ddp_backend", "text"),
    "no_cuda": ("training.on_cpu", "flag"),
    # arguments of transformers' example scripts, and of a model's from_pretrained
    "tokenizer_name": ("training.tokenizer", "text"),
    "tokenizer_name_or_path": ("training.tokenizer", "text"),
    "torch_dtype": ("training.load_dtype", "text"),
    "dtype": ("training.load_dtype", "text"),
    "attn_implementation": ("training.attention", "text"),
    "max_seq_length": ("training.max_length", "number"),
    "block_size": ("training.max_length", "number"),
    "pad_to_multiple_of": ("training.pad_to_multiple_of", "number"),
}
"""What the arguments mean, those of older releases among them. What needs more than its value stands in `facts`."""


def is_kind(document: Node) -> bool:
    """Whether a mapping, or one that stands in it, holds arguments of the trainer."""
    return tells(document) or any(tells(node) for _, node in document.items())


def tells(document: Node) -> bool:
    """Whether the mapping itself holds two arguments or more, one of them under a name that others hardly have."""
    fields = classes.fields(SEQ2SEQ)
    own = [key for key, _ in document.items() if key in fields]
    others = [key for key, _ in document.items() if key in _OF_SCRIPTS]
    return len(own) + len(others) >= 2 and any(key not in _TOO_COMMON for key in own)


def read(document: Node, file: str, reads: Reads | None = None) -> Parsed:
    """The settings of a mapping and what they mean. `reads` is the class that reads them, where that is told. Nothing is raised."""
    parsed = blocks.read(document, file, lambda node: schema_of(node, reads))
    return named(parsed, "trainer", document, file)


def named(parsed: Parsed, framework: str, document: Node, file: str) -> Parsed:
    """The same with `training.framework`, where anything was understood."""
    if not parsed.facts:
        return parsed
    place = Fact("training.framework", framework, file, document.line, document.column)
    return Parsed(parsed.settings, (*parsed.facts, place), parsed.refers)


def schema_of(document: Node, reads: Reads | None = None) -> Schema | None:
    """What the arguments of a mapping are of; None where it holds none."""
    if reads is None and not tells(document):
        return None
    if reads is None:
        more = classes.own(SEQ2SEQ) - classes.fields(TRAINER)
        owner = SEQ2SEQ if any(key in more for key, _ in document.items()) else TRAINER
        reads = Reads(owner, None, False)
    beside = dict.fromkeys(_OF_SCRIPTS, UNKNOWN) if reads.others is None else reads.others
    return Schema(reads.owner, classes.fields(reads.owner), beside, facts, references, reads.sure)


def facts(known: By) -> Iterator[Fact]:
    """What the arguments mean, under the common names."""
    yield from by_table(known, TABLE)
    yield from _rates(known)
    yield from _precision(known)
    yield from _when(known)
    yield from _outside(known)
    yield from _data(known)
    if "lora_alpha" in known and "r" in known:
        yield from peft.facts(known)
    if any(key.startswith(("bnb_4bit_", "load_in_")) for key in known):
        yield from quantization.facts(known)


def _rates(known: By) -> Iterator[Fact]:
    """Learning rate, warm-up and steps."""
    rate = known.get("learning_rate")
    if rate is not None and isinstance(rate.value, str) and rate.line:
        yield told("training.learning_rate_text", rate.value, rate)
    warmup, ratio = known.get("warmup_steps"), known.get("warmup_ratio")
    steps = number(warmup.value) if warmup is not None else None
    if warmup is not None and steps is not None:
        if 0 < steps < 1:  # transformers 5 takes a share here
            yield told("training.warmup_ratio", steps, warmup)
        elif steps or ratio is None or not number(ratio.value):
            yield told("training.warmup_steps", steps, warmup)
    most = known.get("max_steps")
    value = number(most.value) if most is not None else None
    if most is not None and value is not None and value > 0:
        yield told("training.max_steps", value, most)


def _precision(known: By) -> Iterator[Fact]:
    for key in ("bf16", "fp16"):
        if is_on(known, key):
            yield told("training.precision", key, known[key])
        if is_on(known, f"{key}_full_eval"):
            yield told("training.full_eval_dtype", key, known[f"{key}_full_eval"])
    if "torch_compile" not in known:
        for key in ("torch_compile_backend", "torch_compile_mode"):
            if key in known and known[key].value:
                yield told("training.compile", True, known[key])
    if is_on(known, "adafactor"):
        yield told("training.optimizer", "adafactor", known["adafactor"])
    sampling = known.get("train_sampling_strategy")
    if sampling is not None and isinstance(sampling.value, str):
        yield told("training.group_by_length", sampling.value == "group_by_length", sampling)


def _when(known: By) -> Iterator[Fact]:
    """When evaluation and checkpoints happen. `no` without quotes is the flag false in YAML."""
    for name, keys in (
        ("training.eval", ("eval_strategy", "evaluation_strategy")),
        ("training.save", ("save_strategy",)),
    ):
        item = next((known[key] for key in keys if key in known), None)
        if item is not None and item.value is False:
            yield told(name, "no", item)
        elif item is not None and isinstance(item.value, str):
            yield told(name, item.value.lower(), item)
    if is_on(known, "evaluate_during_training"):
        yield told("training.eval", "steps", known["evaluate_during_training"])
    resume = known.get("resume_from_checkpoint")
    if resume is not None and resume.value and not isinstance(resume.value, (dict, list)):
        newest = resume.value is True or str(resume.value).lower() == "true"
        yield told("training.resume", "newest" if newest else str(resume.value), resume)


def _outside(known: By) -> Iterator[Fact]:
    """Where metrics and results go, and who shards."""
    report = known.get("report_to")
    value = read_as("list", report.value) if report is not None else None
    if report is not None and value is not None:
        yield told("training.report_to", str(value) or "none", report)
    token = next((known[key] for key in ("hub_token", "push_to_hub_token") if key in known), None)
    if token is not None:
        yield told("training.hub_token", isinstance(token.value, str) and bool(token.value), token)
    zero = known.get("deepspeed")
    if zero is not None and zero.value and isinstance(zero.value, (str, dict)):
        inline = isinstance(zero.value, dict) or zero.value.startswith("{")
        yield told("training.deepspeed", "inline" if inline else str(zero.value), zero)
    sharded = known.get("fsdp")
    if sharded is not None and sharded.value:
        options = read_as("list", sharded.value)
        if options is not None:
            yield told("training.fsdp", str(options).replace(",", " "), sharded)
        yield from fsdp.options(sharded)


def _data(known: By) -> Iterator[Fact]:
    """The data that transformers' example scripts are given."""
    names = ("dataset_name", "train_file", "validation_file")
    for number_, key in enumerate(name for name in names if name in known):
        item = known[key]
        if isinstance(item.value, str) and item.value:
            yield told(f"training.dataset.{number_}.path", item.value, item)
            yield told(f"training.dataset.{number_}.role", "eval" if key == "validation_file" else "train", item)
            if key == "validation_file":
                yield told("training.eval_data", True, item)


def references(known: By) -> Iterator[Reference]:
    """The files that arguments name."""
    for key, kind in (
        ("deepspeed", "deepspeed"),
        ("fsdp_config", "fsdp"),
        ("train_file", "data"),
        ("validation_file", "data"),
    ):
        item = known.get(key)
        if item is not None and isinstance(item.value, str) and _is_path(item.value):
            yield Reference(item.value, kind, item)


def _is_path(text: str) -> bool:
    """Whether a text names a file: DeepSpeed's configuration may also stand there as JSON or in base64."""
    return (
        len(text) < 1000
        and "\n" not in text
        and ("." in text.rpartition("/")[2] or "/" in text[:-1])
        and text[0] not in "{["
    )


def is_on(known: By, key: str) -> bool:
    """Whether a switch is there and true."""
    return key in known and read_as("flag", known[key].value) is True
