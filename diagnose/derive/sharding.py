"""What DeepSpeed, FSDP, accelerate and the trainer say of one and the same thing: values that differ, batch sizes that do not add up.

Who fills in "auto", which values have to agree and what is refused is that of transformers 5.24 (integrations/deepspeed.py,
trainer.py, training_args.py), accelerate 1.15 (utils/launch.py, utils/dataclasses.py, utils/deepspeed.py,
parallelism_config.py) and DeepSpeed 0.19.8 (runtime/config.py, runtime/engine.py). Where the installed version is not
known, it is taken for one that does the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from diagnose.derive.known import Known
from diagnose.derive.tuning_lora import rows_of
from diagnose.model import Fact
from diagnose.sources.settings import words
from diagnose.sources.training.given import number as as_number

TRAINERS = ("trainer", "trl", "llamafactory", "axolotl")
"""Frameworks whose training loop is transformers' Trainer."""
_PLAIN = ("trainer", "trl", "llamafactory")
"""Those of them that hand the user's arguments on as they are, with transformers' defaults for what is left out."""
_FALSE = ("false", "no", "n", "f", "off", "0", "none")
_TRUE = ("true", "yes", "y", "t", "on", "1")
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
_FSDP1_ONLY = ("NO_SHARD", "HYBRID_SHARD", "HYBRID_SHARD_ZERO2")
_OTHER_STRATEGIES = ("SHARD_GRAD_OP", "NO_SHARD", "HYBRID_SHARD", "HYBRID_SHARD_ZERO2")
_SHAPES = {"WarmupLR": "constant", "WarmupDecayLR": "linear", "WarmupCosineLR": "cosine"}


def complete(facts: Sequence[Fact]) -> tuple[Fact, ...]:
    """The facts that follow; none where something needed is not known."""
    told: dict[str, Fact] = {}
    for fact in facts:
        told.setdefault(fact.name, fact)
    known = Known(told)
    for step in (_readers, _batches, _differences, _precision, _optimizers, _others, _fsdp, _accelerate, _models):
        step(known)
    return tuple(known.new.values())


def world(known: Known) -> int | None:
    """Processes of the whole training: what the launch command says goes before the settings; None where neither tells."""
    if known.text("deploy.processes_by"):
        return None
    every = _positive(known, "deploy.processes_all")
    if every is not None:
        return every
    here, nodes = _positive(known, "deploy.processes"), _positive(known, "deploy.nodes") or 1
    if here is not None and not (known.yes("deploy.processes_default") and known.text("deploy.kind")):
        return here * nodes
    return _positive(known, "training.processes")


def _positive(known: Known, name: str) -> int | None:
    """A count of at least one."""
    value = known.whole(name)
    return value if value is not None and value > 0 else None


def _number(known: Known, name: str) -> float | None:
    """A number that stands in a text (`1e-5`, `4`); None for `auto` and for what is none."""
    value = known.value(name)
    found = as_number(value) if not isinstance(value, bool) else None
    return None if found is None else float(found)


def _is_whole(known: Known, name: str) -> int | None:
    value = _number(known, name)
    return int(value) if value is not None and value == int(value) else None


def _trained_by(known: Known, kinds: Sequence[str] = TRAINERS) -> bool:
    return known.text("training.framework") in kinds


def _readers(known: Known) -> None:
    """Who reads DeepSpeed's configuration, and which version of FSDP runs."""
    if known.value("zero.file") is not None or known.value("zero.stage") is not None:
        if _trained_by(known):
            known.add("zero.by", "trainer")
        elif known.text("accelerate.distributed") == "DEEPSPEED":
            known.add("zero.by", "accelerate")
        elif known.text("training.framework") == "deepspeed":
            known.add("zero.by", "deepspeed")
    version = known.whole("fsdp.version")
    by = known.text("fsdp.by")
    if by == "transformers" and not _asks_for_fsdp(known):
        if _trained_by(known, ("trainer", "trl")) and _all_known(known):
            known.add("fsdp.not_asked", True)
    elif version is not None:
        known.add("fsdp.runs", version)
    elif by == "accelerate":
        known.add("fsdp.runs", 1)
    elif by == "transformers" or (not by and known.yes("fsdp.asked")):
        known.add("fsdp.runs", 1 if _older(known, "transformers", (5, 10)) else 2)


def _asks_for_fsdp(known: Known) -> bool:
    """Whether anything turns FSDP on: transformers does not read an fsdp_config by itself."""
    launched = "FSDP" in (known.text("accelerate.distributed"), known.text("deploy.distributed"))
    return launched or known.yes("fsdp.asked") or bool(known.text("training.fsdp"))


def _older(known: Known, package: str, release: tuple[int, int]) -> bool:
    """Whether an installed package is known to be older than a release."""
    found = re.match(r"(\d+)\.(\d+)", known.text(f"{package}.version"))
    return found is not None and (int(found[1]), int(found[2])) < release


# --- batch sizes


def _batches(known: Known) -> None:
    """DeepSpeed's own sum, and what has to be there for it."""
    if known.value("zero.file") is None or not _in_a_file(known):
        return
    names = ("zero.train_batch", "zero.batch", "zero.accumulation")
    train, batch, accumulation = (_is_whole(known, name) for name in names)
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
    fault = _sum_fault(train, batch, accumulation, world(known))
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
        value = _number(known, zero)
        if value is not None and mine is not None and value != mine:
            known.add(name, True)
            known.add(f"{zero}_from", mine if mine != int(mine) or abs(mine) > 1e15 else int(mine))
    _betas(known)


def _pairs(known: Known) -> Iterator[tuple[str, float | None, str]]:
    batch = _mine(known, "training.batch", 8)
    steps = _mine(known, "training.accumulation", 1)
    size = world(known)
    if not known.yes("training.batch_automatic"):
        yield "zero.batch", batch, "zero.batch_differs"
        if size and batch and steps and (known.whole("zero.autotp") or 1) < 2:
            yield "zero.train_batch", batch * steps * size, "zero.train_batch_differs"
    yield "zero.accumulation", steps, "zero.accumulation_differs"
    yield "zero.clipping", _mine(known, "training.max_grad_norm", 1.0), "zero.clipping_differs"
    rate = _mine(known, "training.learning_rate", 5e-5, ("trainer", "llamafactory"))
    yield "zero.learning_rate", rate, "zero.learning_rate_differs"
    yield "zero.warmup_max", rate, "zero.warmup_max_differs"
    yield "zero.weight_decay", _mine(known, "training.weight_decay", 0.0), "zero.weight_decay_differs"
    yield "zero.epsilon", _mine(known, "training.adam_epsilon", 1e-8), "zero.epsilon_differs"
    if known.text("zero.scheduler").startswith("Warmup"):
        yield "zero.total_steps", _number(known, "training.max_steps"), "zero.total_steps_differs"
        warmup = _number(known, "training.warmup_steps")
        if warmup is not None and (warmup or _number(known, "zero.warmup_steps")):
            yield "zero.warmup_steps", max(1.0, warmup), "zero.warmup_steps_differs"


def _mine(known: Known, name: str, default: float, kinds: Sequence[str] = _PLAIN) -> float | None:
    """The trainer's value, or its default where the arguments are all known and leave it out."""
    value = _number(known, name)
    if value is not None or known.value(name) is not None:
        return value
    return default if _trained_by(known, kinds) and _all_known(known) else None


def _all_known(known: Known) -> bool:
    """Whether what is not among the settings is surely left out: a script or a placeholder may set it all the same."""
    if known.text("training.script") or known.yes("launch.more_words"):
        return False
    return not any(name.startswith("training.file.") and name.endswith(".placeholder") for name in known.names())


def _betas(known: Known) -> None:
    given = [as_number(part) for part in known.text("zero.betas").split(",")] if known.text("zero.betas") else []
    mine = [_mine(known, "training.adam_beta1", 0.9), _mine(known, "training.adam_beta2", 0.999)]
    if given and None not in given and None not in mine and given != mine:
        known.add("zero.betas_differ", True)


# --- precision


def _precision(known: Known) -> None:
    """Precision that the trainer, accelerate and DeepSpeed each name."""
    bf16, fp16 = _asked(known)
    zero16 = {kind: known.text(f"zero.{kind}") for kind in ("bf16", "fp16")}
    if zero16["bf16"] == "true" and zero16["fp16"] == "true":
        known.add("zero.both_precisions", True)
    elif known.text("zero.by") == "trainer" and bf16 is not None and fp16 is not None:
        for kind, mine in (("bf16", bf16), ("fp16", fp16)):
            if zero16[kind] in ("true", "false") and (zero16[kind] == "true") != mine:
                known.add("zero.precision_differs", kind)
                known.add("zero.precision_trainer", "bf16" if bf16 else "fp16" if fp16 else "neither")
                break
    told = known.text("launch.arg.mixed_precision").lower()
    if told:
        known.add("accelerate.mixed_precision", told)
    elif known.text("accelerate.mixed_precision_flag"):
        known.add("accelerate.precision_flag_read", True)
    theirs = told or known.text("accelerate.mixed_precision").lower()
    if theirs not in ("bf16", "fp16"):
        return
    if (bf16 and theirs == "fp16") or (fp16 and theirs == "bf16"):
        known.add("accelerate.precision_overruled", "bf16" if bf16 else "fp16")
    within = known.text("zero.file") == "inline" and known.text("accelerate.distributed") == "DEEPSPEED"
    if within and known.text("zero.by") == "trainer" and bf16 is False and fp16 is False:
        known.add("accelerate.precision_not_trainers", True)


def _asked(known: Known) -> tuple[bool | None, bool | None]:
    """Whether the trainer is told bf16 and fp16; TRL takes bf16 where it is told neither."""
    given: dict[str, bool | None] = {}
    for kind in ("bf16", "fp16"):
        value = known.value(f"training.{kind}")
        full = known.text("training.full_eval_dtype") == kind
        given[kind] = True if full else value if isinstance(value, bool) else None
    if not _trained_by(known, _PLAIN) or not _all_known(known):
        return given["bf16"], given["fp16"]
    fp16 = bool(given["fp16"])
    by_trl = known.text("training.framework") == "trl" and not _older(known, "trl", (0, 19))
    unset = not fp16 if by_trl else False
    return (unset if given["bf16"] is None else given["bf16"]), fp16


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
        norm = _mine(known, "training.max_grad_norm", 1.0)
        if norm is not None and norm > 0:
            known.add("zero.unclipped", True)
    whole = known.text("training.method") == "full" or not known.text("training.method")
    if by_trainer and whole and stage == 3 and not known.yes("zero.save_16bit") and not known.yes("zero.save_fp16"):
        known.add("zero.save_without_weights", True)
    if known.yes("zero.bf16_states") and not known.yes("zero.bf16_master"):
        known.add("zero.bf16_states_alone", True)
    size = world(known)
    if size == 1 and stage and stage > 0 and not _offloads(known):
        known.add("zero.alone", True)


def _in_a_file(known: Known) -> bool:
    """Whether it is DeepSpeed's own JSON, and not accelerate's block: that asks for clipping by itself."""
    return not (known.text("zero.file") == "inline" and known.text("accelerate.distributed") == "DEEPSPEED")


def _offloads(known: Known) -> bool:
    return any(known.text(f"zero.offload_{part}") in ("cpu", "nvme") for part in ("optimizer", "param"))


# --- FSDP


def _fsdp(known: Known) -> None:
    version = known.whole("fsdp.runs")
    by = known.text("fsdp.by")
    if version is None:
        return
    if by == "accelerate":
        _fsdp_of_accelerate(known, version)
    else:
        _fsdp_of_transformers(known, version, by)
    reshard = known.text("fsdp.reshard").lower()
    if version == 2 and reshard and reshard not in _TRUE + _FALSE:
        known.add("fsdp.reshard_no_flag", True)
    if (
        by == "accelerate"
        and version == 2
        and reshard not in _FALSE
        and known.text("fsdp.strategy") in _OTHER_STRATEGIES
    ):
        known.add("fsdp.strategy_unread", True)
    if known.yes("fsdp.checkpointing") and _trained_by(known, ("trainer", "trl")):
        trainers = known.value("training.gradient_checkpointing")
        by_trl = _trained_by(known, ("trl",)) and not _older(known, "trl", (0, 22))
        if trainers is True or (trainers is None and by_trl and _all_known(known)):
            known.add("fsdp.checkpointed_twice", True)
    if known.yes("fsdp.checkpointing_offload") and not known.yes("fsdp.checkpointing"):
        known.add("fsdp.checkpointing_missing", True)
    _fsdp_quantized(known)
    if world(known) == 1 and by:
        known.add("fsdp.alone", True)


def _fsdp_of_accelerate(known: Known, version: int) -> None:
    """accelerate's own checks and defaults: cpu_ram_efficient_loading is on, and no layer is wrapped, unless told otherwise."""
    loading = known.value("fsdp.sync_states") is False and known.value("fsdp.ram_efficient") is not False
    if loading and not any(
        known.text(f"launch.arg.fsdp_{name}") for name in ("sync_module_states", "cpu_ram_efficient_loading")
    ):
        known.add("fsdp.sync_refused", True)
    policy = known.text("launch.arg.fsdp_auto_wrap_policy").upper() or known.text("fsdp.wrap_policy")
    if known.text("training.method") in ("", "full"):  # with adapters the Trainer sets a policy of its own
        if policy in ("", "NO_WRAP"):
            known.add("fsdp.unwrapped", True)
        if known.text("fsdp.wrap_classes") and policy in ("", "NO_WRAP", "SIZE_BASED_WRAP"):
            known.add("fsdp.classes_unread", True)
    fp8 = known.text("accelerate.mixed_precision") == "fp8" and known.text("accelerate.fp8_backend").upper() == "AO"
    if fp8 and known.value("fsdp.ram_efficient") is not False:
        known.add("fsdp.fp8_refused", True)


def _fsdp_of_transformers(known: Known, version: int, by: str) -> None:
    """What `fsdp` and `fsdp_config` of the trainer's arguments have to say together."""
    if by and by != "transformers":
        return
    if known.yes("fsdp.asked") and version == 2 and known.text("fsdp.strategy") in _FSDP1_ONLY:
        known.add("fsdp.strategy_refused", True)
    policy = known.text("fsdp.wrap_policy") or "TRANSFORMER_BASED_WRAP"
    newer = not _older(known, "transformers", (5, 10))
    if newer and (known.whole("fsdp.min_params") or 0) > 0 and policy != "SIZE_BASED_WRAP":
        known.add("fsdp.min_params_unread", True)


def _fsdp_quantized(known: Known) -> None:
    """Weights held as whole numbers: FSDP 1 refuses them, FSDP 2 leaves them out. Axolotl and LLaMA-Factory see to it."""
    if not _trained_by(known, ("trainer", "trl")):
        return
    bits = known.text("training.quantization")
    storage = known.text("training.quantization_storage").removeprefix("torch.").lower()
    if bits == "8bit" or (bits == "4bit" and storage in ("", "uint8", "int8")):
        known.add("fsdp.whole_number_weights", True)


# --- accelerate


def _accelerate(known: Known) -> None:
    """Processes against machines and meshes; what a launch needs and neither file nor command gives."""
    if known.text("accelerate.environment") == "AMAZON_SAGEMAKER":
        return
    processes, nodes = known.whole("accelerate.processes"), known.whole("accelerate.nodes")
    processes = known.whole("deploy.processes_all") or processes
    nodes = known.whole("deploy.nodes") or nodes
    kind = known.text("accelerate.distributed")
    if processes and nodes and nodes > 1 and processes > 0 and kind not in ("MULTI_CPU",):
        if processes < nodes:
            known.add("accelerate.too_few", True)
        elif processes % nodes:
            known.add("accelerate.uneven", True)
    if kind and nodes and nodes > 1 and kind not in ("NO", "MULTI_CPU", "XLA", "TPU"):
        _meeting(known, kind)
    if known.yes("accelerate.gpus_number") and not known.text("launch.arg.gpu_ids"):
        known.add("accelerate.gpus_read", True)
    told = known.value("accelerate.processes") is not None or known.value("deploy.processes_all") is not None
    if known.text("deploy.launcher") == "accelerate" and kind and kind != "NO" and not told:
        known.add("accelerate.processes_missing", True)
    _mesh(known, processes)


def _meeting(known: Known, kind: str) -> None:
    """Whether the machines find each other: an address of the first one, and a hostfile for DeepSpeed's own launcher."""
    address = known.text("launch.arg.main_process_ip") or (
        known.text("deploy.rendezvous").rpartition(":")[0]
        or known.text("deploy.rendezvous")
        or known.text("accelerate.address")
    )
    named = "deepspeed_multinode_launcher"
    launcher = known.text(f"launch.arg.{named}") or known.text("accelerate.multinode") or "pdsh"
    if kind == "DEEPSPEED" and launcher not in ("standard", "nossh"):
        if not known.text("accelerate.hostfile") and not known.text("launch.arg.deepspeed_hostfile"):
            known.add("accelerate.no_hostfile", True)
        return
    if not address:
        known.add("accelerate.no_address", True)
    elif address in ("localhost", "127.0.0.1", "0.0.0.0", "::1"):
        known.add("accelerate.own_address", True)


def _mesh(known: Known, processes: int | None) -> None:
    """The sizes of a parallelism_config against the processes: their product has to be the same."""
    names = ("dp_replicate", "dp_shard", "tp", "cp", "sp")
    sizes = {name: known.whole(f"accelerate.{name}") for name in names}
    if all(size is None for size in sizes.values()):
        return
    product = 1
    for size in sizes.values():
        product *= size or 1
    known.add("accelerate.mesh", product)
    sequence = (sizes["sp"] or 1) > 1
    if processes and product > 1 and product != processes and not sequence:
        known.add("accelerate.mesh_differs", True)
    if sequence and (sizes["cp"] or 1) > 1:
        known.add("accelerate.mesh_fault", "cp_size and sp_size are both above 1")
    elif (
        max(sizes["tp"] or 1, sizes["cp"] or 1) > 1
        and (sizes["dp_replicate"] or 1) > 1
        and (sizes["dp_shard"] or 1) == 1
    ):
        known.add("accelerate.mesh_fault", "copies (dp_replicate_size) need dp_shard_size above 1 beside tp or cp")
    version = known.whole("fsdp.runs")
    if known.text("accelerate.distributed") == "FSDP" and version == 1 and product > 1:
        known.add("accelerate.mesh_fault", "FSDP 1 has no meshes; fsdp_version: 2 is needed")


# --- the model


def _models(known: Known) -> None:
    """How the model is loaded, against how it is sharded."""
    device_map = _given(known, "device_map") if _trained_by(known, ("trainer",)) else ""  # TRL and Axolotl set it anew
    spread = device_map in ("auto", "balanced", "balanced_low_0", "sequential")
    if device_map and device_map.lower() not in ("none", "null"):
        if known.whole("zero.stage") == 3:
            known.add("zero.with_device_map", device_map)
        elif spread and (world(known) or 1) > 1:
            known.add("training.device_map_spread", device_map)
    _layer_classes(known)
    quantized = known.text("training.quantization")
    if known.whole("zero.stage") == 3 and quantized in ("4bit", "8bit"):
        known.add("zero.quantized_base", quantized)


def _layer_classes(known: Known) -> None:
    """Layer classes that are named and that the model has not, and those that transformers would take by itself."""
    asked = {"fsdp.wrap_classes": "fsdp.class_missing", "zero.moe_classes": "zero.moe_class_missing"}
    if known.yes("model.remote_code") or not any(known.text(name) for name in asked):
        return
    rows = rows_of(known)
    has = {name for row in rows for name in row.get("classes", ())}
    for name, told in asked.items():
        if has and not known.yes("fsdp.classes_unread"):
            missing = [part.strip() for part in known.text(name).split(",") if part.strip() and part.strip() not in has]
            if missing:
                known.add(told, missing[0])
    whole = sorted({part for row in rows for part in row.get("unsplit", ()) if part in has})
    if whole and known.text("fsdp.class_missing"):
        known.add("fsdp.class_right", ",".join(whole))


def _given(known: Known, key: str) -> str:
    """The value of a setting that has no common name."""
    for name in known.names():
        if name.startswith("training.given.") and name.endswith(".key"):
            written = known.text(name)
            if written == key or written.endswith(f".{key}"):
                return known.text(f"{name.removesuffix('key')}value")
    return ""
