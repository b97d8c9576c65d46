"""FSDP, as accelerate's configuration or the trainer's arguments ask for it: what is refused, not read, or of another version."""

from __future__ import annotations

from diagnose.derive import processes
from diagnose.derive.known import Known
from diagnose.derive.sharding_trainer import all_known, trained_by

_FALSE = ("false", "no", "n", "f", "off", "0", "none")
_TRUE = ("true", "yes", "y", "t", "on", "1")
_FSDP1_ONLY = ("NO_SHARD", "HYBRID_SHARD", "HYBRID_SHARD_ZERO2")
_OTHER_STRATEGIES = ("SHARD_GRAD_OP", "NO_SHARD", "HYBRID_SHARD", "HYBRID_SHARD_ZERO2")


def complete(known: Known) -> None:
    version = known.whole("fsdp.runs")
    by = known.text("fsdp.by")
    if version is None:
        return
    if by == "accelerate":
        _of_accelerate(known, version)
    else:
        _of_transformers(known, version, by)
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
    if known.yes("fsdp.checkpointing") and trained_by(known, ("trainer", "trl")):
        trainers = known.value("training.gradient_checkpointing")
        by_trl = trained_by(known, ("trl",)) and not known.older("trl", (0, 22))
        if trainers is True or (trainers is None and by_trl and all_known(known)):
            known.add("fsdp.checkpointed_twice", True)
    if known.yes("fsdp.checkpointing_offload") and not known.yes("fsdp.checkpointing"):
        known.add("fsdp.checkpointing_missing", True)
    _quantized(known)
    if processes.world(known) == 1 and by:
        known.add("fsdp.alone", True)


def _of_accelerate(known: Known, version: int) -> None:
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


def _of_transformers(known: Known, version: int, by: str) -> None:
    """What `fsdp` and `fsdp_config` of the trainer's arguments have to say together."""
    if by and by != "transformers":
        return
    if known.yes("fsdp.asked") and version == 2 and known.text("fsdp.strategy") in _FSDP1_ONLY:
        known.add("fsdp.strategy_refused", True)
    policy = known.text("fsdp.wrap_policy") or "TRANSFORMER_BASED_WRAP"
    newer = not known.older("transformers", (5, 10))
    if newer and (known.whole("fsdp.min_params") or 0) > 0 and policy != "SIZE_BASED_WRAP":
        known.add("fsdp.min_params_unread", True)


def _quantized(known: Known) -> None:
    """Weights held as whole numbers: FSDP 1 refuses them, FSDP 2 leaves them out. Axolotl and LLaMA-Factory see to it."""
    if not trained_by(known, ("trainer", "trl")):
        return
    bits = known.text("training.quantization")
    storage = known.text("training.quantization_storage").removeprefix("torch.").lower()
    if bits == "8bit" or (bits == "4bit" and storage in ("", "uint8", "int8")):
        known.add("fsdp.whole_number_weights", True)
