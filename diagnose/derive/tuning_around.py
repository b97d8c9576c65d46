"""A training's settings against what is installed and logged in, and against each other where a comparison alone cannot say it.

As transformers 5.24 has it: trainer_optimizer.py, optimization.py, integrations/integration_utils.py, trainer_callback.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from diagnose.derive.known import Told
from diagnose.derive.settled import WITH_DEFAULTS, Settled

_OPTIMIZER_PACKAGES = (
    (r"galore_.*", "galore-torch"),
    (r"apollo_.*", "apollo-torch"),
    (r"lomo|adalomo", "lomo-optim"),
    (r"grokadamw", "grokadamw"),
    (r"schedule_free_.*", "schedulefree"),
    (r"stable_adamw", "torch-optimi"),
    (r"adamw_torch_[48]bit", "torchao"),
    (
        r"paged_(?:adamw|lion|ademamix)_.*|adamw_bnb_8bit|adamw_8bit|ademamix.*|lion_(?:8|32)bit|rmsprop_bnb.*",
        "bitsandbytes",
    ),
)
"""Names of optimizers → the package that they come from (transformers 5.24: OptimizerNames, trainer_optimizer.py)."""
_TRACKERS = {
    "azure_ml": ("azureml-core", "azureml-sdk"),
    "clearml": ("clearml",),
    "codecarbon": ("codecarbon",),
    "comet_ml": ("comet-ml",),
    "dagshub": ("dagshub",),
    "dvclive": ("dvclive",),
    "flyte": ("flytekit",),
    "kubeflow": ("kubeflow",),
    "mlflow": ("mlflow", "mlflow-skinny"),
    "neptune": ("neptune", "neptune-client"),
    "swanlab": ("swanlab",),
    "tensorboard": ("tensorboard", "tensorboardx"),
    "trackio": ("trackio",),
    "wandb": ("wandb", "wandb-core"),
}
"""Names that report_to knows → the packages of which one has to be there."""
_MIN_RATES = ("cosine_with_min_lr", "cosine_warmup_with_min_lr")


def kind_of(optimizer: str) -> str:
    """The family of an optimizer by its name; Adam where none is named, which is what every trainer takes."""
    name = optimizer.lower()
    if any(part in name for part in ("galore", "apollo", "lomo")):
        return "low-rank"
    for kind, parts in (
        ("schedule-free", ("schedule_free",)),
        ("muon", ("muon", "dion")),
        ("lion", ("lion",)),
        ("adafactor", ("adafactor",)),
        ("adam", ("adam",)),
        ("sgd", ("sgd",)),
    ):
        if any(part in name for part in parts):
            return kind
    return "other" if name else "adam"


def _is_known(known: Settled) -> bool:
    """Whether the packages of the environment that trains are known: one without transformers is another one."""
    return bool(known.count("packages.count") and known.text("transformers.version"))


def _optimizer(known: Settled) -> Told:
    """The family and the package of the optimizer, and what it asks for."""
    name = known.text("training.optimizer").lower()
    zero = known.text("zero.optimizer")
    if zero and zero != "auto":
        yield "tuning.optimizer_kind", kind_of(zero)
    elif name or known.absent("training.optimizer"):
        yield "tuning.optimizer_kind", kind_of(name)
    if known.framework not in (*WITH_DEFAULTS, "axolotl") or not name or zero:
        return
    package = next((package for pattern, package in _OPTIMIZER_PACKAGES if re.fullmatch(pattern, name)), "")
    if package:
        yield "tuning.optimizer_package", package
        if _is_known(known):
            yield "tuning.optimizer_package_missing", f"{package}.version" not in known.names()
    if name.startswith(("galore_", "apollo_")) and known.framework in ("trainer", "trl"):
        if known.settled and not known.is_open("optim_target_modules"):
            yield "tuning.optimizer_targets_missing", not known.given("optim_target_modules")
        if name.endswith("_layerwise"):
            yield from _layerwise(known)


def _layerwise(known: Settled) -> Told:
    if (known.count("training.accumulation") or 1) > 1:
        yield "tuning.optimizer_layerwise_problem", "accumulation"
    elif (known.count("tuning.world") or 1) > 1:
        yield "tuning.optimizer_layerwise_problem", "processes"


def _scheduler(known: Settled) -> Told:
    """Arguments without which a scheduler does not start, where its arguments are known as a whole."""
    name = known.text("training.scheduler")
    extra = known.given("lr_scheduler_kwargs")
    computed = known.is_open("lr_scheduler_kwargs")
    if not known.settled or computed or (extra and not extra.startswith("{")):
        return
    inline = "" if extra == "{…}" else extra

    def has(argument: str) -> bool:
        return bool(known.given(f"lr_scheduler_kwargs.{argument}")) or f'"{argument}"' in inline

    if name == "warmup_stable_decay" and not has("num_decay_steps"):
        yield "tuning.scheduler_argument_missing", "num_decay_steps"
    if name in _MIN_RATES:
        least, share = has("min_lr"), has("min_lr_rate")
        yield "tuning.scheduler_arguments_both", least and share
        if not least and not share:
            yield "tuning.scheduler_argument_missing", "min_lr_rate"


def _trackers(known: Settled) -> Told:
    names = [name.strip() for name in known.text("training.report_to").split(",") if name.strip()]
    if known.framework not in (*WITH_DEFAULTS, "axolotl") or not names or set(names) & {"all", "none"}:
        return
    unknown = next((name for name in names if name not in _TRACKERS), "")
    if unknown and known.framework != "axolotl":
        yield "tuning.tracker_unknown", unknown
    if not _is_known(known):
        return
    for name in names:
        packages = _TRACKERS.get(name, ())
        if packages and not any(f"{package}.version" in known.names() for package in packages):
            yield "tuning.tracker_missing", name
            yield "tuning.tracker_package", packages[0]
            return


def _precision(known: Settled) -> Told:
    """Whether bf16 is computed in (TRL takes it where nothing is set), and whether on the CPU."""
    on_cpu = (
        known.yes("training.on_cpu")
        or known.yes("env.ACCELERATE_USE_CPU")
        or known.yes("deploy.on_cpu")
        or known.yes("accelerate.on_cpu")
    )
    if known.value("training.on_cpu") is not None or on_cpu or known.absent("training.on_cpu"):
        yield "tuning.on_cpu", on_cpu
    release = known.text("trl.version").partition(".")[0]
    if known.framework == "trl" and known.settled and _is_trainers(known) and release in ("", "1"):
        yield "tuning.bf16_by_default", known.absent("training.bf16") and not known.yes("training.fp16")


def _is_trainers(known: Settled) -> bool:
    """Whether the arguments are those of one of TRL's trainers, so that their common defaults hold."""
    return any(
        name.startswith("training.given.") and name.endswith(".owner") and known.text(name).startswith("trl.")
        and known.text(name).endswith("Config") and known.text(name) not in ("trl.ModelConfig", "trl.DatasetMixtureConfig")
        for name in known.names()
    )  # fmt: skip


def _loaders(known: Settled) -> Told:
    """Worker processes. Each process of the training has its own."""
    workers = known.number_or("training.workers", 0)
    if workers is None or not 0 <= workers < 1 << 20:
        return
    yield "tuning.workers", int(workers)
    here = known.count("deploy.processes") or (
        known.count("tuning.world") if (known.count("deploy.nodes") or 1) == 1 else None
    )
    if here:
        yield "tuning.workers_here", int(workers) * here


def _stopping(known: Settled) -> Told:
    """What early stopping and keeping the best ask for (trainer_callback.py EarlyStoppingCallback, trainer.py)."""
    best = known.yes("training.load_best") or known.text("training.scheduler") in ("reduce_lr_on_plateau", "greedy")
    if known.count("training.early_stopping") and known.settled:
        evaluated = known.text_or("training.eval", "no")
        if evaluated == "no":
            yield "tuning.stopping_problem", "evaluation"
        elif evaluated and not best and known.absent("training.best_by"):
            yield "tuning.stopping_problem", "metric"
    if known.text("training.save") == "best" and known.settled:
        yield "tuning.best_unset", not best and known.absent("training.best_by")


def _preferences(known: Settled) -> Told:
    """The loss that beta weighs; several losses, or one that is computed, tell nothing."""
    if known.text("training.task") not in ("dpo", "ipo", "kto"):
        return
    names = [known.given(key) for key in ("loss_type", "pref_loss", "dpo_loss_type") if known.given(key)]
    if known.is_open("loss_type") or any(re.search(r"[^\w-]", name) for name in names):
        return
    default = {"dpo": "sigmoid"}.get(known.text("training.task"), known.text("training.task"))
    yield "tuning.preference_loss", names[0] if names else default


def _sharded(known: Settled) -> Told:
    launched = {known.text(f"{by}.distributed").upper() for by in ("deploy", "accelerate")} - {""}
    if known.text("training.deepspeed") or known.count("zero.stage") or "DEEPSPEED" in launched:
        yield "tuning.sharded_by", "DeepSpeed"
    elif known.text("training.fsdp") or "FSDP" in launched:
        yield "tuning.sharded_by", "FSDP"
    elif known.absent("tuning.sharded_by") and (launched or known.text("deploy.launcher") != "accelerate"):
        yield "tuning.sharded_by", "none"


def _hub(known: Settled) -> Told:
    if known.yes("training.push_to_hub") and known.text("hub.token"):
        yield "tuning.hub_token_missing", known.text("hub.token") == "none" and not known.yes("training.hub_token")


def _waiting(known: Settled) -> Told:
    """How long a collective may take, and what the others wait for."""
    seconds = known.number_or("training.ddp_timeout", 1800)
    if seconds is not None and seconds > 0:
        yield "tuning.collective_seconds", seconds
    if known.absent("training.preprocessing_workers") or known.value("training.preprocessing_workers") is not None:
        yield "tuning.tokenizes_alone", (known.count("training.preprocessing_workers") or 1) == 1
    if known.settled and known.framework in ("trainer", "trl"):
        yield "tuning.steps_of_stream_missing", known.yes("tuning.streaming") and known.absent("training.max_steps")
    strategy = known.given("logging_strategy")
    if known.absent("tuning.logging") or known.framework == "axolotl":
        yield "tuning.logs_by_steps", strategy in ("", "steps")


def _resumed(known: Settled) -> Told:
    """The checkpoint that is resumed from against the settings."""
    rate, before = known.number("training.learning_rate"), known.number("resume.learning_rate")
    if rate is not None and before is not None:
        yield "tuning.rate_below_resumed", 0 < rate < 0.99 * before
    batch, of_checkpoint = known.count("training.batch"), known.count("resume.batch")
    if batch and of_checkpoint and known.count("resume.step"):
        # a process on several GPUs writes down the batch of them all
        yield "tuning.resumed_batch_differs", of_checkpoint % batch != 0
    world, before_world = known.count("tuning.world"), known.count("resume.processes")
    if world and before_world and known.text("resume.kind") == "deepspeed":
        yield "tuning.shards_of_other_world", world != before_world and known.given_flag("load_universal") is not True
    wanted, there = known.text("training.lora.targets"), known.text("resume.targets")
    if wanted and there and known.text("resume.kind") == "plain" and known.yes("resume.optimizer"):
        listed = not known.yes("training.lora.targets_pattern") and re.fullmatch(r"[\w.]+(?:,[\w.]+)*", wanted)
        if listed and "all" not in wanted.split(","):
            yield "tuning.adapter_targets_differ", set(wanted.split(",")) != set(there.split(","))
    if known.text("saved.folder"):
        kept = not known.yes("training.output_overwritten") and not known.text("training.resume")
        yield "tuning.output_kept", kept
    own_command = known.framework in ("llamafactory", "axolotl") or known.text("training.command_kind") == "trl"
    if known.count("saved.checkpoints") and own_command:  # a script may look for a checkpoint by itself
        resumed = known.text("training.resume") or (
            known.framework == "llamafactory" and known.yes("tuning.output_kept")
        )
        yield "tuning.begins_over_checkpoints", not resumed


STEPS: tuple[Callable[[Settled], Told], ...] = (
    _optimizer,
    _scheduler,
    _trackers,
    _precision,
    _loaders,
    _stopping,
    _preferences,
    _sharded,
    _hub,
    _waiting,
    _resumed,
)
