"""Configurations of TRL's trainers and of its command line, of any release, with those of the model and the data beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache

from diagnose.model import Fact
from diagnose.sources.settings import words
from diagnose.sources.training import alike, blocks, classes, trainer
from diagnose.sources.training.blocks import By, Schema
from diagnose.sources.training.classes import TRAINER, Reads
from diagnose.sources.training.given import UNKNOWN, Meaning, by_table, number, read_as, told
from diagnose.sources.training.parsed import Parsed, Reference
from diagnose.sources.yamlfile import Node

MODEL = "trl.ModelConfig"
SCRIPT = "trl.ScriptArguments"
MIXTURE = "trl.DatasetMixtureConfig"

_IN_ORDER = ("SFTConfig", "DPOConfig", "GRPOConfig", "KTOConfig", "RewardConfig", "RLOOConfig", "ORPOConfig", "CPOConfig", "PPOConfig",
             "PRMConfig", "GKDConfig")  # fmt: skip
"""Which class is meant where the keys fit several: the one that is used more."""
TASKS: Mapping[str, str] = {
    "trl.SFTConfig": "sft", "trl.DPOConfig": "dpo", "trl.KTOConfig": "kto", "trl.ORPOConfig": "orpo", "trl.CPOConfig": "cpo",
    "trl.GRPOConfig": "grpo", "trl.RLOOConfig": "rloo", "trl.PPOConfig": "ppo", "trl.GKDConfig": "gkd", "trl.RewardConfig": "reward",
    "trl.PRMConfig": "prm",
}  # fmt: skip
COMMANDS: Mapping[str, str] = {
    "sft": "trl.SFTConfig", "dpo": "trl.DPOConfig", "kto": "trl.KTOConfig", "grpo": "trl.GRPOConfig", "rloo": "trl.RLOOConfig",
    "reward": "trl.RewardConfig", "distillation": "trl.DistillationConfig", "orpo": "trl.ORPOConfig", "cpo": "trl.CPOConfig",
}  # fmt: skip
"""What `trl sft` and so on read."""

_BOTH = words("model_name_or_path model_revision dtype torch_dtype attn_implementation trust_remote_code")
"""Arguments of ModelConfig that transformers' example scripts have too."""
_COMMON = words(
    """
    world_size model_name task_name base_model reward_model train_batch_size mini_batch_size micro_batch_size global_batch_size
    local_batch_size eval_batch_size max_new_tokens eos_token pad_token top_k top_p log_with wandb_project wandb_entity
    wandb_run_group exp_name entropy_coef kl_coef target_kl early_stopping mask_ratio label_smoothing batch_size num_updates
    gpu_memory_utilization
    """
)
"""Arguments of TRL's that many other programs have: by these alone no mapping is TRL's."""
_ADAPTER = ("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "lora_modules_to_save", "lora_task_type", "use_rslora",
            "use_dora")  # fmt: skip

TABLE: Mapping[str, Meaning] = {
    "model_init_kwargs.dtype": ("training.load_dtype", "text"),
    "model_init_kwargs.torch_dtype": ("training.load_dtype", "text"),
    "model_init_kwargs.attn_implementation": ("training.attention", "text"),
    "model_init_kwargs.use_cache": ("training.use_cache", "flag"),
    "use_liger": ("training.liger", "flag"),
    "use_liger_loss": ("training.liger", "flag"),
    "max_length": ("training.max_length", "number"),
    "max_seq_length": ("training.max_length", "number"),
    "packing": ("training.packing", "flag"),
    "packing_strategy": ("training.packing_strategy", "text"),
    "padding_free": ("training.padding_free", "flag"),
    "dataset_num_proc": ("training.preprocessing_workers", "number"),
    "eos_token": ("training.eos_token", "text"),
    "pad_token": ("training.pad_token", "text"),
    "chat_template_path": ("training.chat_template", "text"),
    "beta": ("training.beta", "number"),
    "kl_coef": ("training.beta", "number"),
    "num_generations": ("training.generations", "number"),
    "rloo_k": ("training.generations", "number"),
    "max_completion_length": ("training.completion_length", "number"),
    "response_length": ("training.completion_length", "number"),
    "max_prompt_length": ("training.prompt_length", "number"),
    "temperature": ("training.temperature", "number"),
    "vllm_gpu_memory_utilization": ("training.vllm_share", "number"),
    "teacher_model_name_or_path": ("training.reference_model", "text"),
    "reward_model_name_or_path": ("training.reference_model", "text"),
    "reward_model_path": ("training.reference_model", "text"),
    "sft_model_path": ("training.model", "text"),
    "test_split_size": ("training.eval_share", "number"),
}
_LORA: Mapping[str, Meaning] = {
    **alike.LORA,
    **alike.LORA_SWITCHES,
    "lora_r": ("training.lora.rank", "number"),
    "lora_modules_to_save": ("training.lora.saved_modules", "list"),
    "lora_task_type": ("training.lora.task_type", "text"),
}


def is_kind(document: Node) -> bool:
    """Whether a mapping, or one that stands in it, holds arguments that TRL has beside those of the trainer."""
    return _tells(document) or any(_tells(node) for _, node in document.items())


def _tells(document: Node) -> bool:
    """Whether arguments stand in the mapping itself, one of which only TRL has."""
    keys = frozenset(key for key, _ in document.items())
    model = keys & (classes.own(MODEL) - _BOTH)
    known = keys & (classes.fields(TRAINER) | classes.own(MODEL) | classes.own(SCRIPT))
    return (
        bool(known)
        and len(keys & _all()) > 1
        and bool(model or any("_" in key or key == "packing" for key in (keys & _own()) - _COMMON))
    )


@cache
def _own() -> frozenset[str]:
    """What TRL's trainers have that transformers' has not."""
    return frozenset().union(*classes.trainers().values()) - classes.own(MODEL) - classes.own(SCRIPT)


@cache
def _all() -> frozenset[str]:
    return _own() | classes.fields(TRAINER) | classes.own(MODEL) | classes.own(SCRIPT) | classes.own(MIXTURE)


def read(document: Node, file: str, reads: Reads | None = None) -> Parsed:
    """The settings of a mapping and what they mean. `reads` is the class that reads them, where that is told. Nothing is raised."""
    parsed = blocks.read(document, file, lambda node: schema_of(node, reads))
    return parsed if reads is not None and reads.owner == UNKNOWN else trainer.named(parsed, "trl", document, file)


def schema_of(document: Node, reads: Reads | None = None) -> Schema | None:
    """What the arguments of a mapping are of; None where it holds none."""
    if reads is None and not (_tells(document) or trainer.tells(document)):
        return None
    reads = reads or Reads(owner_of(document), None, False)
    beside = beside_trainer() if reads.others is None else reads.others
    owner, sure = reads.owner, reads.sure
    by_model = sure and beside.get("use_peft") == MODEL
    return Schema(
        owner, classes.fields(owner), beside, lambda known: facts(known, owner, sure, by_model), references, sure
    )


@cache
def beside_trainer() -> dict[str, str]:
    """The arguments that TRL's own scripts read beside those of the trainer, and whose they are."""
    others = {"env": UNKNOWN}
    for name in (MIXTURE, SCRIPT, MODEL):
        others.update(dict.fromkeys(classes.own(name) - classes.fields(TRAINER), name))
    return others


def owner_of(document: Node) -> str:
    """The class whose arguments a mapping holds, as its keys tell; that of transformers where nothing of TRL's is there."""
    keys = frozenset(key for key, _ in document.items()) & _own()
    if not keys:
        return TRAINER
    count = {owner: len(keys & fields) for owner, fields in classes.trainers().items()}
    most = max(count.values(), default=0)
    best = [owner for owner, fits in count.items() if fits == most]
    best = [owner for owner in best if _is_named(document, owner)] or best
    return next((f"trl.{name}" for name in _IN_ORDER if f"trl.{name}" in best), best[0]) if best else TRAINER


def _is_named(document: Node, owner: str) -> bool:
    """Whether what the training is called names its method: `output_dir: runs/zephyr-orpo`."""
    called = " ".join(document.get(key).word() for key in ("output_dir", "run_name", "hub_model_id")).lower()
    method = owner.removeprefix("trl.").removesuffix("Config").lower()
    return method in re.split(r"[^a-z0-9]+", called)


def facts(known: By, owner: str, sure: bool = False, by_model: bool = False) -> Iterator[Fact]:
    """What the arguments mean, under the common names.

    `sure`: the class is told, not guessed; `by_model`: TRL's own ModelConfig reads what is said of LoRA.
    """
    yield from _task(known, owner, sure)
    yield from _adapter(known, by_model)
    yield from by_table(known, TABLE)
    yield from trainer.facts({key: item for key, item in known.items() if key != "dataset_name"})
    yield from _texts(known)
    yield from _vllm(known)
    yield from _data(known)


def _task(known: By, owner: str, sure: bool) -> Iterator[Fact]:
    """`training.task`, where the class is known, or an argument tells it from TRL's two most common ones."""
    if owner not in TASKS or not known:
        return
    shared = classes.own("trl.SFTConfig") & classes.own("trl.DPOConfig")
    own = classes.trainers().get(owner, frozenset()) - shared
    item = next((known[key] for key in known if key in own), None)
    if item is None and sure:
        item = next(iter(known.values()))
    if item is None:
        return
    task, loss = TASKS[owner], known.get("loss_type")
    named = (
        loss.value if loss is not None and isinstance(loss.value, list) else [loss.value] if loss is not None else []
    )
    other = next((name for name in named if name in ("ipo", "simpo")), None) if task in ("dpo", "cpo") else None
    yield (
        told("training.task", str(other), loss)
        if other is not None and loss is not None
        else told("training.task", task, item)
    )


def _adapter(known: By, sure: bool) -> Iterator[Fact]:
    """LoRA as ModelConfig has it: nothing of it holds unless `use_peft` is set, which it is not by itself."""
    switch = known.get("use_peft")
    on = read_as("flag", switch.value) if switch is not None else None
    if switch is not None and on is not None:
        yield told("training.method", "lora" if on else "full", switch)
    if switch is not None and not on:
        return
    yield from by_table(known, _LORA)
    unused = next((known[key] for key in _ADAPTER if key in known), None)
    if sure and switch is None and unused is not None:
        yield told("training.method", "full", unused)
        yield told("training.lora.unused", True, unused)
    elif sure and switch is None and known:
        yield told("training.method", "full", next(iter(known.values())))
    targets = known.get("lora_target_modules")
    if targets is None:
        return
    value: object = targets.value
    if isinstance(value, list) and len(value) == 1:
        value = value[0]  # get_peft_config takes a list of one for the text in it
    names = read_as("list", value)
    if names:
        yield told("training.lora.targets", str(names), targets)
    if isinstance(value, str):
        yield told("training.lora.targets_pattern", value != "all-linear", targets)


def _texts(known: By) -> Iterator[Fact]:
    """How long examples are, how they are cut, and what the loss is taken of."""
    if trainer.is_on(known, "assistant_only_loss"):
        yield told("training.loss_on", "assistant", known["assistant_only_loss"])
    completion = known.get("completion_only_loss")
    flag = read_as("flag", completion.value) if completion is not None else None
    if completion is not None and flag is not None:
        yield told("training.loss_on", "completion" if flag else "all", completion)
    cut = known.get("truncation_mode")
    if cut is not None and isinstance(cut.value, str):
        yield told("training.truncation", "truncate", cut)
    padded = known.get("pad_to_multiple_of")
    multiple = number(padded.value) if padded is not None else None
    if padded is not None and multiple is not None:
        yield told("training.pad_to_multiple_of", multiple, padded)


def _vllm(known: By) -> Iterator[Fact]:
    """How vLLM generates. Which way holds where none is named differs from release to release."""
    mode = known.get("vllm_mode")
    if mode is not None and isinstance(mode.value, str) and trainer.is_on(known, "use_vllm"):
        yield told("training.vllm", mode.value, mode)


def _data(known: By) -> Iterator[Fact]:
    """`training.dataset.*`: the mixture, or else the one data set."""
    mixture = known.get("datasets")
    field = known.get("dataset_text_field")
    rows = mixture.value if mixture is not None and isinstance(mixture.value, list) else []
    paths = [
        (str(row["path"]), mixture) for row in rows[:64] if isinstance(row, dict) and isinstance(row.get("path"), str)
    ]
    single = known.get("dataset_name")
    if not paths and single is not None and isinstance(single.value, str) and single.value:
        paths = [(single.value, single)]
    for place, (path, item) in enumerate(paths):
        if item is None:
            continue
        yield told(f"training.dataset.{place}.path", path, item)
        yield told(f"training.dataset.{place}.role", "train", item)
        if field is not None and isinstance(field.value, str):
            yield told(f"training.dataset.{place}.field", field.value, field)


def references(known: By) -> Iterator[Reference]:
    """The files that arguments name."""
    yield from trainer.references(known)
    item = known.get("accelerate_config")
    if item is not None and isinstance(item.value, str) and item.value.endswith((".yaml", ".yml", ".json")):
        yield Reference(item.value, "accelerate", item)
