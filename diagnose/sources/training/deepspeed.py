"""DeepSpeed's JSON, in a file of its own or inside another one → facts: stage, batches, precision, optimizer, offload."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from diagnose.model import Fact
from diagnose.sources.settings import words
from diagnose.sources.training.given import Meaning, Setting, read_as, settings, told
from diagnose.sources.training.parsed import Parsed
from diagnose.sources.yamlfile import Node

OWNER = "deepspeed"

_SURE = words(
    """
    zero_optimization train_micro_batch_size_per_gpu zero_allow_untested_optimizer zero_force_ds_cpu_optimizer
    compression_training data_efficiency curriculum_learning progressive_layer_drop eigenvalue sparse_attention
    prescale_gradients gradient_predivide_factor wall_clock_breakdown steps_per_print communication_data_type
    comms_logger flops_profiler autotuning aio hybrid_engine replace_with_kernel_inject injection_policy
    elasticity activation_checkpointing dump_state disable_allgather tensorboard csv_monitor zenflow
    """
)
"""Keys that only DeepSpeed's configuration has at its top."""
_LIKELY = words(
    "train_batch_size gradient_clipping gradient_accumulation_steps fp16 bf16 amp optimizer scheduler compile"
)
"""Keys that others have too; those of mappings count where they hold one, as DeepSpeed writes them."""

_MEANT: dict[str, Meaning] = {
    "zero_optimization.stage": ("zero.stage", "number"),
    "train_micro_batch_size_per_gpu": ("zero.batch", "text"),
    "train_batch_size": ("zero.train_batch", "text"),
    "gradient_accumulation_steps": ("zero.accumulation", "text"),
    "bf16.enabled": ("zero.bf16", "text"),
    "bfloat16.enabled": ("zero.bf16", "text"),
    "fp16.enabled": ("zero.fp16", "text"),
    "amp.enabled": ("zero.amp", "flag"),
    "torch_autocast.enabled": ("zero.autocast", "flag"),
    "gradient_clipping": ("zero.clipping", "text"),
    "optimizer.type": ("zero.optimizer", "text"),
    "optimizer.params.lr": ("zero.learning_rate", "text"),
    "optimizer.params.eps": ("zero.epsilon", "text"),
    "optimizer.params.weight_decay": ("zero.weight_decay", "text"),
    "optimizer.params.torch_adam": ("zero.torch_adam", "flag"),
    "optimizer.params.max_grad_norm": ("zero.optimizer_clipping", "number"),
    "scheduler.type": ("zero.scheduler", "text"),
    "scheduler.params.warmup_min_lr": ("zero.warmup_min", "text"),
    "scheduler.params.warmup_max_lr": ("zero.warmup_max", "text"),
    "scheduler.params.warmup_num_steps": ("zero.warmup_steps", "text"),
    "scheduler.params.total_num_steps": ("zero.total_steps", "text"),
    "zero_optimization.offload_optimizer.device": ("zero.offload_optimizer", "text"),
    "zero_optimization.offload_param.device": ("zero.offload_param", "text"),
    "zero_optimization.offload_optimizer.ratio": ("zero.offload_ratio", "number"),
    "zero_optimization.offload_optimizer.super_offload": ("zero.super_offload", "flag"),
    "zero_optimization.cpu_offload": ("zero.old_offload", "flag"),
    "zero_optimization.cpu_offload_params": ("zero.old_offload", "flag"),
    "zero_optimization.cpu_offload_param": ("zero.old_offload", "flag"),
    "zero_optimization.stage3_gather_16bit_weights_on_model_save": ("zero.save_16bit", "flag"),
    "zero_optimization.gather_16bit_weights_on_model_save": ("zero.save_16bit", "flag"),
    "zero_optimization.stage3_gather_fp16_weights_on_model_save": ("zero.save_fp16", "flag"),
    "zero_optimization.overlap_comm": ("zero.overlap", "flag"),
    "zero_optimization.contiguous_gradients": ("zero.contiguous", "flag"),
    "zero_optimization.round_robin_gradients": ("zero.round_robin", "flag"),
    "zero_optimization.zero_quantized_weights": ("zero.quantized_weights", "flag"),
    "zero_optimization.zero_quantized_gradients": ("zero.quantized_gradients", "flag"),
    "zero_optimization.zero_hpz_partition_size": ("zero.hpz", "number"),
    "zero_allow_untested_optimizer": ("zero.untested_allowed", "flag"),
    "zero_force_ds_cpu_optimizer": ("zero.force_cpu_optimizer", "flag"),
    "bf16.bf16_master_weights_and_grads": ("zero.bf16_master", "flag"),
    "bf16.bf16_optimizer_states": ("zero.bf16_states", "flag"),
    "fp16.fp16_master_weights_and_grads": ("zero.fp16_master", "flag"),
    "gradient_allreduce_op": ("zero.allreduce", "text"),
    "tensor_parallel.autotp_size": ("zero.autotp", "number"),
    "sequence_parallel_size": ("zero.sequence_parallel", "number"),
    "compile.deepcompile": ("zero.deepcompile", "flag"),
}
_NVME = ("zero_optimization.offload_optimizer.nvme_path", "zero_optimization.offload_param.nvme_path")
_BY_HIDDEN_SIZE = (
    "zero_optimization.reduce_bucket_size",
    "zero_optimization.stage3_prefetch_bucket_size",
    "zero_optimization.stage3_param_persistence_threshold",
)
"""What transformers fills in from the model's hidden size."""
FILLED = frozenset(
    (
        *_BY_HIDDEN_SIZE,
        "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "train_batch_size", "gradient_clipping",
        "optimizer.params.lr", "optimizer.params.betas", "optimizer.params.eps", "optimizer.params.weight_decay",
        "scheduler.params.warmup_min_lr", "scheduler.params.warmup_max_lr", "scheduler.params.total_num_steps",
        "scheduler.params.warmup_num_steps", "fp16.enabled", "bf16.enabled",
    )
)  # fmt: skip
"""Keys whose "auto" transformers' trainer replaces (5.24: integrations/deepspeed.py, HfTrainerDeepSpeedConfig)."""
_BY_ACCELERATE = frozenset(
    (
        "zero_optimization.stage", "zero_optimization.offload_optimizer.device", "zero_optimization.offload_param.device",
        "zero_optimization.offload_optimizer.nvme_path", "zero_optimization.offload_param.nvme_path",
        "zero_optimization.stage3_gather_16bit_weights_on_model_save",
    )
)  # fmt: skip
"""What accelerate's DeepSpeedPlugin replaces beside them."""


def is_kind(document: Node) -> bool:
    """Whether a mapping is DeepSpeed's: one key that only it has, or two of those that others have too, one of them a mapping."""
    entries = document.items()
    if any(key in _SURE or key.startswith("zero_opt") for key, _ in entries):
        return not any(key in ("compute_environment", "distributed_type", "base_model") for key, _ in entries)
    likely = [node for key, node in entries if _is_likely(key, node)]
    return len(likely) > 1 and any(node.items() for node in likely)


def _is_likely(key: str, node: Node) -> bool:
    if key in ("fp16", "bf16", "amp"):
        return "enabled" in dict(node.items())
    if key in ("optimizer", "scheduler"):
        return "type" in dict(node.items())
    if key == "compile":
        return bool(node.items())
    return key in _LIKELY


def read(document: Node, file: str) -> Parsed:
    """A DeepSpeed configuration in a file of its own. Nothing is raised."""
    items = tuple(settings(document, OWNER, file))
    facts = [Fact("zero.file", file, file, document.line, document.column), *meaning(items)]
    return Parsed(items, tuple(facts))


def inside(document: Node, file: str, above: str) -> Parsed:
    """One that stands inside another file, below the key `above`; its own keys are told without that."""
    items = tuple(settings(document, OWNER, file))
    facts = [Fact("zero.file", "inline", file, document.line, document.column, above), *meaning(items)]
    return Parsed(items, tuple(facts))


def meaning(items: Sequence[Setting]) -> Iterator[Fact]:
    """`zero.*` of the settings of one DeepSpeed configuration: keys with dots, from its own top."""
    by_key = {item.key: item for item in items}
    yield from told_by(items, _MEANT)
    block = by_key.get("zero_optimization")
    if items:
        yield _there("zero.block", block, items[0])
    stage = by_key.get("zero_optimization.stage")
    if stage is not None and isinstance(stage.value, str) and not stage.value.isdigit():
        yield told("zero.stage_text", stage.value, stage)
    if stage is None and items:
        yield Fact("zero.stage", 0, *_place(block or items[0]), key="zero_optimization")
    for key in _NVME:
        yield from nvme(by_key.get(key.replace("nvme_path", "device")), by_key.get(key))
    yield from _autos(items)
    betas = by_key.get("optimizer.params.betas")
    if betas is not None and isinstance(betas.value, list):
        yield told("zero.betas", ",".join(str(part) for part in betas.value), betas)


def told_by(items: Iterable[Setting], table: Mapping[str, Meaning]) -> Iterator[Fact]:
    """The facts of those settings that the table has: numbers and flags as such, texts as they were written."""
    for item in items:
        found = table.get(item.key)
        if found is None:
            continue
        name, kind = found
        value = read_as(kind, item.value)
        if kind == "text" and value is not None and not isinstance(item.value, bool):
            value = item.text or value
        if value is None:
            continue
        if name in ("zero.offload_optimizer", "zero.offload_param", "zero.bf16", "zero.fp16"):
            value = str(value).lower()
        yield told(name, value, item)


def _there(name: str, item: Setting | None, first: Setting) -> Fact:
    if item is None:
        return Fact(name, False, first.file, first.line, first.column, "zero_optimization")
    return told(name, isinstance(item.value, dict), item)


def _place(item: Setting) -> tuple[str, int, int]:
    return item.file, item.line, item.column


def nvme(device: Setting | None, path: Setting | None) -> Iterator[Fact]:
    """The folder for NVMe, of an offload that goes there; that it is missing, where one does without."""
    if device is None or str(device.value).lower() != "nvme":
        return
    if path is not None and isinstance(path.value, str) and path.value.lower() not in ("", "none", "auto"):
        yield told("zero.nvme_path", path.value, path)
    else:
        yield told("zero.nvme_without_path", True, device)


def _autos(items: Iterable[Setting]) -> Iterator[Fact]:
    """Keys that hold "auto": the first one, those that the model's hidden size fills, and those that nobody fills."""
    autos = [item for item in items if item.value == "auto"]
    if autos:
        yield told("zero.auto", autos[0].key, autos[0])
    sized = [item for item in autos if item.key in _BY_HIDDEN_SIZE]
    if sized:
        yield told("zero.auto_by_hidden_size", sized[0].key, sized[0])
    left = [item for item in autos if item.key not in FILLED and item.key not in _BY_ACCELERATE]
    if left:
        yield told("zero.auto_unfilled", left[0].key, left[0])
