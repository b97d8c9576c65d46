"""A training's settings, data and launch → what follows by arithmetic: batch, steps, warm-up, saves.

Steps are counted as transformers counts them (5.24: trainer.py set_initial_training_values, get_total_train_batch_size;
training_args.py get_warmup_steps), generations as TRL does (1.16: grpo_config.py, trainer/utils.py RepeatSampler). What the
framework takes where a key is absent counts only where the whole configuration is known: a script may set it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from diagnose.derive import processes, tuning_around
from diagnose.derive.known import Told
from diagnose.derive.settled import WITH_DEFAULTS, Settled
from diagnose.model import Fact

MOST = 1 << 40
"""Numbers above this are no settings of a training."""
_OTHER_PARALLEL = (
    "sequence_parallel_size", "sequence_parallel_degree", "context_parallel_size", "tensor_parallel_size", "cp_size", "sp_size",
    "tp_size", "autotp_size", "zero.autotp", "zero.sequence_parallel", "accelerate.cp", "accelerate.sp", "accelerate.tp",
    "accelerate.megatron_tp", "accelerate.megatron_pp",
)  # fmt: skip
"""Settings with which several processes share one sequence."""
_GENERATING = ("grpo", "rloo")
_ROUNDS = ("generation_batch_size", "steps_per_generation", "num_iterations")
"""What TRL counts its rounds of completions by."""


def complete(facts: Sequence[Fact]) -> tuple[Fact, ...]:
    """The facts that follow; none where something needed is not known."""
    known = Settled(facts)
    for tell in (*_STEPS, *tuning_around.STEPS):
        for name, value in tell(known):
            known.add(name, value)
    return tuple(known.new.values())


# --- processes and batches


def _world(known: Settled) -> Told:
    """Processes of the whole training, and whether one process would drive several GPUs by itself."""
    told = processes.world(known)
    if told is not None:
        yield "tuning.world", told
        return
    by = known.text("training.command_kind")
    gpus = _gpus_here(known)
    if by == "llamafactory" and gpus and not known.text("deploy.launcher"):  # it starts torchrun itself
        each = known.variable("NPROC_PER_NODE") or gpus
        yield "tuning.world", each * (known.variable("NNODES") or 1)
    if by != "script" or known.text("deploy.launcher"):
        return
    yield "tuning.world", 1
    if gpus and gpus > 1 and not known.yes("training.on_cpu"):
        found = _alone_on_several(known)
        if found:
            yield "tuning.one_process_on_gpus", found


def _alone_on_several(known: Settled) -> str:
    """What one process makes of several GPUs (transformers' trainer.py _wrap_model; TRL's create_model_from_path); empty: one is used."""
    sharded = known.text("training.deepspeed") or known.text("training.fsdp")
    loads_by = known.text("training.model_class")
    if sharded or known.text("training.device_map") or loads_by.startswith("Fast"):
        return ""
    if known.framework == "trl":
        return "refused" if loads_by else "split" if known.text("training.model") else ""
    quantized = known.text("training.quantization") in ("4bit", "8bit")
    return "data-parallel" if known.framework == "trainer" and not quantized else ""


def _gpus_here(known: Settled) -> int | None:
    """NVIDIA GPUs that a process on this machine sees, where the training runs on it."""
    if known.elsewhere or known.contained or known.text("gpu.vendor") != "nvidia":
        return None
    return known.count("gpu.visible_count") or known.count("gpu.count")


def _batch(known: Settled) -> Told:
    batch, times = known.count_or("training.batch", 8), known.count_or("training.accumulation", 1)
    if not batch or not times:
        return
    yield "tuning.batch_per_process", batch * times
    devices = _devices(known)
    if devices:
        yield "tuning.global_batch", batch * times * devices


def _devices(known: Settled) -> int | None:
    """How many GPUs take sequences of their own; None where several share one, or the number is not known."""
    world = known.count("tuning.world")
    shared = any((known.given_number(name) or known.number(name) or 1) > 1 for name in _OTHER_PARALLEL)
    if not world or shared:
        return None
    if known.text("tuning.one_process_on_gpus") == "data-parallel":
        return (known.count("gpu.visible_count") or known.count("gpu.count") or 1) * world
    return world


def _generations(known: Settled) -> Told:
    """Completions of one round of GRPO or RLOO, by the arithmetic of TRL's configuration."""
    if known.text("training.task") not in _GENERATING or known.framework != "trl":
        return
    if any(known.is_open(key) for key in _ROUNDS):
        return
    whole, per_round = known.given_count("generation_batch_size"), known.given_count("steps_per_generation")
    yield "tuning.generation_set_twice", bool(whole and per_round)
    batch, times = known.count_or("training.batch", 8), known.count_or("training.accumulation", 1)
    group, devices = _group(known), _devices(known)
    if group:
        yield "tuning.generations", group
        yield "tuning.generations_by_default", known.value("training.generations") is None
    if not (group and batch and times and devices) or (whole and per_round):
        return
    if whole:
        yield "tuning.generation_round_left", whole % (batch * devices)
    size = whole or batch * devices * (per_round or times)
    yield "tuning.generation_batch", size
    yield "tuning.generation_left", size % group
    if size % group == 0:
        yield "tuning.prompts_per_round", size // group
    evaluated = known.count_or("training.eval_batch", 8)
    if known.text("training.eval") in ("steps", "epoch") and evaluated:
        yield "tuning.eval_batch_by_default", known.value("training.eval_batch") is None
        yield "tuning.eval_generation_left", evaluated * devices % (known.given_count("num_generations_eval") or group)


def _group(known: Settled) -> int | None:
    """Completions per prompt; TRL's own number where none is set."""
    asked = known.count("training.generations")
    if asked or known.value("training.generations") is not None:
        return asked
    return (
        {"grpo": 8, "rloo": 2}.get(known.text("training.task"))
        if known.framework == "trl" and known.absent("training.generations")
        else None
    )


# --- data and steps


def _data(known: Settled) -> Told:
    """Sequences of one pass. Packed ones are as many as their tokens fill."""
    streaming = known.given_flag("streaming") or known.given_flag("dataset_streaming")
    if streaming is not None:
        yield "tuning.streaming", streaming
    examples = known.count("data.examples")
    if not examples or known.yes("data.sampled") or known.yes("data.mapped") or streaming or _data_left_out(known):
        return
    most = known.given_count("max_samples")
    examples = min(examples, most) if most and known.framework == "llamafactory" else examples
    examples -= _held_back(known, examples)
    if not known.yes("training.packing"):
        yield "tuning.sequences", examples
        return
    tokens, length = known.count("data.tokens"), known.count("training.max_length")
    if tokens and length and not most:
        yield "tuning.sequences", max(math.ceil(tokens / length), 1)


def _data_left_out(known: Settled) -> bool:
    """Whether the training names more data than was read."""
    roles = [name for name in known.names() if name.endswith(".role") and known.text(name) == "train"]
    named = sum(name.startswith("training.dataset.") for name in roles)
    return named > max(sum(name.startswith("data.file.") for name in roles), 1)


def _held_back(known: Settled, examples: int) -> int:
    """Examples that are split off for evaluation."""
    share = known.number("training.eval_share")
    if share is None or share <= 0:
        return 0
    taken = math.ceil(examples * share) if share < 1 else int(share)
    return taken if taken < examples else 0


def _steps(known: Settled) -> Told:
    limit = known.count("training.max_steps")
    drops = known.given_flag("dataloader_drop_last")
    if drops is not None:
        yield "tuning.drops_last", drops
    per_epoch = _per_epoch(known)
    if per_epoch is not None:
        batches, steps = per_epoch
        yield "tuning.batches", batches
        yield "tuning.steps_per_epoch", steps
        epochs = known.number_or("training.epochs", 3.0)
        if not limit and not known.is_open("max_steps") and epochs is not None and 0 < epochs < MOST:
            yield "tuning.total_steps", math.ceil(epochs * steps)
            yield "tuning.by_epochs", True
    if limit:
        yield "tuning.total_steps", limit
        yield "tuning.epochs_given", known.count("training.epochs") is not None and known.set_by_user("training.epochs")
    passes = known.number("training.epochs")
    if passes is not None and passes <= 0 and not limit and not known.is_open("max_steps"):
        yield "tuning.no_passes", known.value("training.max_steps") is not None or known.absent("training.max_steps")
    if known.given_number("max_steps") == 0 and known.framework in WITH_DEFAULTS:
        yield "tuning.zero_max_steps", True


def _per_epoch(known: Settled) -> tuple[int, int] | None:
    """Forward passes of one process and optimizer steps in one pass over the data."""
    sequences, devices = known.count("tuning.sequences"), _devices(known)
    batch, times = known.count_or("training.batch", 8), known.count_or("training.accumulation", 1)
    if not (sequences and devices and batch and times) or known.yes("training.batch_automatic"):
        return None
    if known.framework not in (*WITH_DEFAULTS, "axolotl"):
        return None
    if known.text("training.task") in _GENERATING:
        return _rounds(known, sequences, batch * devices, times)
    if known.is_open("dataloader_drop_last"):
        return None
    if known.given_flag("dataloader_drop_last"):
        batches = sequences // batch // devices
    else:
        batches = math.ceil(sequences / (batch * devices))
    return batches, max(math.ceil(batches / times), 1)


def _rounds(known: Settled, prompts: int, at_once: int, times: int) -> tuple[int, int] | None:
    """The same where completions are generated: only whole rounds of prompts are taken, each for several passes."""
    size, per_round = known.count("tuning.generation_batch"), known.count("tuning.prompts_per_round")
    if not size or not per_round or size % at_once:
        return None
    batches = prompts // per_round * (known.given_count("num_iterations") or 1) * (size // at_once)
    return batches, max(math.ceil(batches / times), 1)


def _warmup(known: Settled) -> Told:
    """Steps of warm-up. Of steps and a share the steps count; Axolotl warms up at least two steps."""
    total = known.count("tuning.total_steps")
    steps, share = known.number("training.warmup_steps"), known.number("training.warmup_ratio")
    if steps is not None and 1 <= steps < MOST:
        found = int(steps)
    elif share is not None and 0 < share <= 1 and total:
        found = int(share * total) if known.framework == "axolotl" else math.ceil(share * total)
    else:
        return
    if known.framework == "axolotl" and found == 1:
        found = 2
    yield "tuning.warmup_steps", found
    if total:
        yield "tuning.warmup_percent", round(100 * found / total, 1)


# --- evaluations and checkpoints


def _evaluations(known: Settled) -> Told:
    strategy = known.text_or("training.eval", "no")
    if strategy:
        yield "tuning.eval_strategy", strategy
    every = _every(known, "eval", strategy)
    total = known.count("tuning.total_steps")
    if every:
        yield "tuning.eval_every", every
        if total:
            yield "tuning.evaluations", total // every


def _saves(known: Settled) -> Told:
    """Checkpoints. At the end one is written too, where the interval is one of steps."""
    strategy = known.text_or("training.save", "steps")
    if strategy:
        yield "tuning.save_strategy", strategy
        yield "tuning.save_by_default", known.value("training.save") is None
        yield "tuning.save_steps_by_default", known.value("training.save_steps") is None
    every, total = _every(known, "save", strategy), known.count("tuning.total_steps")
    if not every:
        return
    yield "tuning.save_every", every
    if not total:
        return
    saves = total // every + (strategy == "steps" and total % every > 0)
    yield "tuning.saves", saves
    limit = known.count("training.save_limit")
    best = known.yes("training.load_best")
    yield "tuning.saves_kept", min(saves, limit + 1 + best) if limit else saves


def _every(known: Settled, what: str, strategy: str) -> int | None:
    """Steps between two of them; None where the strategy does not tell."""
    if strategy == "epoch":
        return known.count("tuning.steps_per_epoch")
    if strategy != "steps":
        return None
    default = 500 if what == "save" and known.framework in WITH_DEFAULTS else None
    steps, total = known.number_or(f"training.{what}_steps", default), known.count("tuning.total_steps")
    if steps is None or not 0 < steps < MOST:
        return None
    if steps >= 1:
        return int(steps)
    return math.ceil(total * steps) if total else None


def _intervals(known: Settled) -> Told:
    """What load_best_model_at_end asks of the two strategies (transformers 5.24: training_args.py _validate_args)."""
    if not known.yes("training.load_best") or known.framework not in WITH_DEFAULTS:
        return
    evaluated, saved = known.text_or("training.eval", "no"), known.text_or("training.save", "steps")
    if not evaluated or not saved or saved == "best":
        return
    if evaluated != saved:
        yield "tuning.saves_between_evals", "strategies"
        return
    asked, every = known.number("training.eval_steps"), known.number_or("training.save_steps", 500)
    if evaluated != "steps" or asked is None or every is None or not (0 < asked < MOST and 0 < every < MOST):
        return
    mixed = (asked < 1) != (every < 1)
    off = every * 1_000_000 % (asked * 1_000_000) if asked < 1 else every % asked
    if every % asked == 0:
        yield "tuning.saves_between_evals", "none"
    else:
        yield "tuning.saves_between_evals", "mixed" if mixed else "multiple" if off else "none"


_SLOW_DISK = 200_000_000
"""Bytes per second that a network disk may take."""
_STATES = {"adam": 2, "lion": 1, "sgd": 0, "muon": 1, "adafactor": 0, "low-rank": 0, "schedule-free": 2, "other": 0}
"""Numbers that an optimizer keeps for each weight, at least."""


def _sizes(known: Settled) -> Told:
    """The least that a checkpoint of a full fine-tuning takes: weights in 16 bits and the optimizer's numbers in 16, or 8, bits.

    DeepSpeed keeps its own in 32 bits, with a copy of the weights.
    """
    parameters = known.count("model.parameters")
    if known.text("training.method") != "full" or not parameters:
        return
    size = parameters * (4 if known.text("training.load_dtype") == "float32" else 2)
    optimizer = known.text("training.optimizer")
    kind = tuning_around.kind_of(optimizer) if optimizer or known.absent("training.optimizer") else "other"
    if not known.yes("training.save_only_model"):
        each = 0.5 if "4bit" in optimizer else 1 if "8bit" in optimizer else 2
        size += int(parameters * _STATES[kind] * each)
        if (known.count("zero.stage") or 0) >= 1 and kind == "adam" and each == 2:
            size += parameters * 8
    yield "tuning.checkpoint_bytes", size
    yield "tuning.save_seconds", parameters * 2 // _SLOW_DISK
    kept = known.count("tuning.saves_kept")
    if kept:
        yield "tuning.checkpoints_bytes", size * kept


# --- lengths


def _lengths(known: Settled) -> Told:
    """Tokens that the training asks for against what the model was made for."""
    limit = known.count("model.context")
    if (
        not limit
        or known.given("rope_scaling")
        or known.given("overrides_of_model_config")
        or known.given("rope_parameters")
    ):
        return
    length = known.count("training.max_length")
    if length and known.set_by_user("training.max_length") and known.text("training.task") not in _GENERATING:
        longest = _longest(known)
        if length > limit and (longest is None or longest > limit):
            yield "tuning.length_over", min(length, longest or length)
    prompt, completion = known.count("training.prompt_length"), known.count("training.completion_length")
    if completion:
        yield "tuning.length_needed", completion + (prompt or 0)


def _longest(known: Settled) -> int | None:
    """Tokens of the longest example for training, where they were counted."""
    counted = [
        known.count(name) or 0
        for name in known.names()
        if name.startswith("data.file.")
        and name.endswith(".tokens_longest")
        and known.text(name.removesuffix("tokens_longest") + "role") != "eval"
    ]
    return max(counted, default=None)


_STEPS = (_world, _batch, _generations, _data, _steps, _warmup, _evaluations, _saves, _intervals, _sizes, _lengths)
