"""What DeepSpeed, FSDP, accelerate and the trainer say of one and the same thing: values that differ, batch sizes that do not add up.

Who fills in "auto", which values have to agree and what is refused is that of transformers 5.24 (integrations/deepspeed.py,
trainer.py, training_args.py), accelerate 1.15 (utils/launch.py, utils/dataclasses.py, utils/deepspeed.py,
parallelism_config.py) and DeepSpeed 0.19.8 (runtime/config.py, runtime/engine.py). Where the installed version is not
known, it is taken for one that does the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from diagnose.derive import processes, sharding_accelerate, sharding_fsdp, sharding_zero
from diagnose.derive.known import Known, by_name
from diagnose.derive.sharding_trainer import all_known, precisions, trained_by
from diagnose.derive.tuning_lora import rows_of
from diagnose.model import Fact


def complete(facts: Sequence[Fact]) -> tuple[Fact, ...]:
    """The facts that follow; none where something needed is not known."""
    known = Known(by_name(facts))
    for step in (
        _readers,
        sharding_zero.complete,
        _precision,
        sharding_fsdp.complete,
        sharding_accelerate.complete,
        _models,
    ):
        step(known)
    return tuple(known.new.values())


def _readers(known: Known) -> None:
    """Who reads DeepSpeed's configuration, and which version of FSDP runs."""
    if known.value("zero.file") is not None or known.value("zero.stage") is not None:
        if trained_by(known):
            known.add("zero.by", "trainer")
        elif known.text("accelerate.distributed") == "DEEPSPEED":
            known.add("zero.by", "accelerate")
        elif known.text("training.framework") == "deepspeed":
            known.add("zero.by", "deepspeed")
    version = known.whole("fsdp.version")
    by = known.text("fsdp.by")
    if by == "transformers" and not _asks_for_fsdp(known):
        if trained_by(known, ("trainer", "trl")) and all_known(known):
            known.add("fsdp.not_asked", True)
    elif version is not None:
        known.add("fsdp.runs", version)
    elif by == "accelerate":
        known.add("fsdp.runs", 1)
    elif by == "transformers" or (not by and known.yes("fsdp.asked")):
        known.add("fsdp.runs", 1 if known.older("transformers", (5, 10)) else 2)


def _asks_for_fsdp(known: Known) -> bool:
    """Whether anything turns FSDP on: transformers does not read an fsdp_config by itself."""
    launched = "FSDP" in (known.text("accelerate.distributed"), known.text("deploy.distributed"))
    return launched or known.yes("fsdp.asked") or bool(known.text("training.fsdp"))


def _precision(known: Known) -> None:
    """Precision that the trainer, accelerate and DeepSpeed each name."""
    bf16, fp16 = precisions(known)
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


# --- the model


def _models(known: Known) -> None:
    """How the model is loaded, against how it is sharded."""
    device_map = known.given("device_map") if trained_by(known, ("trainer",)) else ""  # TRL and Axolotl set it anew
    spread = device_map in ("auto", "balanced", "balanced_low_0", "sequential")
    if device_map and device_map.lower() not in ("none", "null"):
        if known.whole("zero.stage") == 3:
            known.add("zero.with_device_map", device_map)
        elif spread and (processes.world(known) or 1) > 1:
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
