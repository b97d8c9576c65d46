"""DeepSpeed's configuration: batch sizes that do not add up, and values, optimizers and schedules that are not the trainer's."""

from __future__ import annotations

from collections.abc import Iterator

from diagnose.derive import processes
from diagnose.derive.known import Known
from diagnose.derive.sharding_trainer import number, trainers, whole
from diagnose.sources.settings import words
from diagnose.sources.training.given import number as as_number

_CPU_OPTIMIZERS = words(
    """
    adamw adamw_torch adamw_torch_fused adamw_torch_xla adamw_torch_npu_fused adamw_hf adamw_apex_fused paged_adamw
    paged_adamw_32bit paged_lion_32bit lion_32bit
    """
)
"""Optimizers that accelerate replaces by DeepSpeed's CPU version of the same method."""
_NO_CPU_VERSION = ("adafactor", "adagrad")
"""Those for which it makes one that fails at the first step: their parameter groups hold other values than Adam's."""
_ZEROS_OWN = ("adam", "adamw", "lamb", "adagrad", "lion", "muadam", "muadamw", "musgd", "muon")
_TORCHS = (
    "ASGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "LBFGS",
    "Muon",
    "NAdam",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SGD",
    "SparseAdam",
)
_OLD = ("onebitadam", "zerooneadam", "onebitlamb")
"""Optimizers that DeepSpeed 0.19.8 has no more."""
_SHAPES = {"WarmupLR": "constant", "WarmupDecayLR": "linear", "WarmupCosineLR": "cosine"}


def complete(known: Known) -> None:
    """What follows of DeepSpeed's configuration, whoever reads it."""
    for step in (_batches, _differences, _optimizers, _others):
        step(known)


# --- batch sizes


def _batches(known: Known) -> None:
    """DeepSpeed's own sum, and what has to be there for it."""
    if known.value("zero.file") is None or not _in_a_file(known):
        return
    names = ("zero.train_batch", "zero.batch", "zero.accumulation")
    train, batch, accumulation = (whole(known, name) for name in names)
    if known.value("zero.train_batch") is None and known.value("zero.batch") is None:
        known.add("zero.batch_missing", True)
        return
    if known.text("zero.by") == "trainer":
        steps = known.whole("training.accumulation")
        if (
            known.value("zero.train_batch") is not None
            and known.value("zero.accumulation") is None
            and steps
            and steps > 1
        ):
            known.add("zero.accumulation_missing", True)
        return  # the trainer's values decide: see _differences
    if any(known.text(name) == "auto" for name in names) or train is None:
        return
    if any(
        known.whole(name) not in (None, 0, 1) for name in ("zero.sequence_parallel", "zero.autotp", "accelerate.sp")
    ):
        return
    fault = _sum_fault(train, batch, accumulation, processes.world(known))
    if fault:
        known.add("zero.batch_sum", fault)


def _sum_fault(train: int, batch: int | None, accumulation: int | None, size: int | None) -> str:
    """Why train_batch_size is not micro-batch × accumulation × processes; empty if it is, or may be."""
    each = (batch or 1) * (accumulation or 1)
    shown = f"{batch or 1} × {accumulation or 1}"
    if each <= 0 or train <= 0:
        return "none of the three may be 0"
    if size is None:
        return f"{train} is no multiple of {shown}" if train % each else ""
    if batch is not None and accumulation is not None:
        return f"{shown} × {size} processes is {each * size}, and not {train}" if each * size != train else ""
    return f"{train} is no multiple of {shown} × {size} processes" if train % (each * size) else ""


# --- DeepSpeed's values against the trainer's


def _differences(known: Known) -> None:
    """Values of a DeepSpeed configuration that are no "auto" and not what the trainer has: it stops there."""
    if known.text("zero.by") != "trainer":
        return
    for zero, mine, name in _pairs(known):
        value = number(known, zero)
        if value is not None and mine is not None and value != mine:
            known.add(name, True)
            known.add(f"{zero}_from", mine if mine != int(mine) or abs(mine) > 1e15 else int(mine))
    _betas(known)


def _pairs(known: Known) -> Iterator[tuple[str, float | None, str]]:
    batch = trainers(known, "training.batch", 8)
    steps = trainers(known, "training.accumulation", 1)
    size = processes.world(known)
    if not known.yes("training.batch_automatic"):
        yield "zero.batch", batch, "zero.batch_differs"
        if size and batch and steps and (known.whole("zero.autotp") or 1) < 2:
            yield "zero.train_batch", batch * steps * size, "zero.train_batch_differs"
    yield "zero.accumulation", steps, "zero.accumulation_differs"
    yield "zero.clipping", trainers(known, "training.max_grad_norm", 1.0), "zero.clipping_differs"
    rate = trainers(known, "training.learning_rate", 5e-5, ("trainer", "llamafactory"))
    yield "zero.learning_rate", rate, "zero.learning_rate_differs"
    yield "zero.warmup_max", rate, "zero.warmup_max_differs"
    yield "zero.weight_decay", trainers(known, "training.weight_decay", 0.0), "zero.weight_decay_differs"
    yield "zero.epsilon", trainers(known, "training.adam_epsilon", 1e-8), "zero.epsilon_differs"
    if known.text("zero.scheduler").startswith("Warmup"):
        yield "zero.total_steps", number(known, "training.max_steps"), "zero.total_steps_differs"
        warmup = number(known, "training.warmup_steps")
        if warmup is not None and (warmup or number(known, "zero.warmup_steps")):
            yield "zero.warmup_steps", max(1.0, warmup), "zero.warmup_steps_differs"


def _betas(known: Known) -> None:
    given = [as_number(part) for part in known.text("zero.betas").split(",")] if known.text("zero.betas") else []
    mine = [trainers(known, "training.adam_beta1", 0.9), trainers(known, "training.adam_beta2", 0.999)]
    if given and None not in given and None not in mine and given != mine:
        known.add("zero.betas_differ", True)


# --- optimizers, schedulers, offload


def _optimizers(known: Known) -> None:
    """Which optimizer and schedule really run, where both sides name one."""
    by_trainer = known.text("zero.by") in ("trainer", "accelerate")
    own, mine = known.text("zero.optimizer"), known.text("training.optimizer")
    if own:
        if own.lower() in _OLD:
            known.add("zero.optimizer_gone", True)
        elif own.lower() not in _ZEROS_OWN and own not in _TORCHS:
            known.add("zero.optimizer_unknown", True)
        if mine and by_trainer and not _same_optimizer(own, mine):
            known.add("zero.optimizer_instead", True)
    elif mine and by_trainer and _to_cpu(known):
        if mine.lower() in _NO_CPU_VERSION:
            known.add("zero.optimizer_fails", True)
        elif mine.lower() not in _CPU_OPTIMIZERS:
            known.add("zero.optimizer_replaced", True)
    shape = _SHAPES.get(known.text("zero.scheduler"))
    wanted = known.text("training.scheduler").lower()
    if shape and wanted and by_trainer and not wanted.startswith(shape):
        known.add("zero.scheduler_instead", True)


def _to_cpu(known: Known) -> bool:
    """Whether accelerate exchanges the trainer's optimizer for one of DeepSpeed that computes on the CPU."""
    offloaded = known.text("zero.offload_optimizer") in ("cpu", "nvme")
    return offloaded and known.value("zero.force_cpu_optimizer") is not False


def _same_optimizer(own: str, mine: str) -> bool:
    """Whether two names are of one method: DeepSpeed's Adam is AdamW too, unless it is told otherwise."""
    own, mine = own.lower(), mine.lower()
    return (mine.startswith("adam") and own.startswith("adam")) or own in mine


def _others(known: Known) -> None:
    """What else of a DeepSpeed configuration has no effect, or cannot be."""
    stage = known.whole("zero.stage")
    by_trainer = known.text("zero.by") == "trainer"
    file = known.text("zero.file")
    if by_trainer and file and known.text("zero.clipping") == "" and _in_a_file(known):
        norm = trainers(known, "training.max_grad_norm", 1.0)
        if norm is not None and norm > 0:
            known.add("zero.unclipped", True)
    all_trained = known.text("training.method") == "full" or not known.text("training.method")
    if (
        by_trainer
        and all_trained
        and stage == 3
        and not known.yes("zero.save_16bit")
        and not known.yes("zero.save_fp16")
    ):
        known.add("zero.save_without_weights", True)
    if known.yes("zero.bf16_states") and not known.yes("zero.bf16_master"):
        known.add("zero.bf16_states_alone", True)
    size = processes.world(known)
    if size == 1 and stage and stage > 0 and not _offloads(known):
        known.add("zero.alone", True)


def _in_a_file(known: Known) -> bool:
    """Whether it is DeepSpeed's own JSON, and not accelerate's block: that asks for clipping by itself."""
    return not (known.text("zero.file") == "inline" and known.text("accelerate.distributed") == "DEEPSPEED")


def _offloads(known: Known) -> bool:
    return any(known.text(f"zero.offload_{part}") in ("cpu", "nvme") for part in ("optimizer", "param"))
