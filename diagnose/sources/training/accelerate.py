"""accelerate's YAML (or JSON), of all its versions → how many processes train, sharded by whom, and in which precision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches

from msgspec.structs import replace

from diagnose.model import Fact
from diagnose.sources.settings import words
from diagnose.sources.training import deepspeed, fsdp
from diagnose.sources.training.given import Meaning, Setting, number, plain, settings, told
from diagnose.sources.training.parsed import Parsed, Reference
from diagnose.sources.yamlfile import Node

OWNER = "accelerate"
BLOCKS = words(
    """
    deepspeed_config fsdp_config fp8_config dynamo_config megatron_lm_config mpirun_config parallelism_config
    ipex_config additional_args
    """
)
"""Mappings below the top; each is an owner of its own."""
_OWN = words(
    """
    compute_environment distributed_type num_processes num_machines machine_rank main_process_ip main_process_port
    main_training_function gpu_ids rdzv_backend same_network downcast_bf16 tpu_name tpu_zone tpu_use_cluster
    tpu_use_sudo tpu_env command_file commands enable_cpu_affinity use_cpu mixed_precision debug
    """
)
_NAMING = frozenset({"distributed_type", "compute_environment"})
"""Keys by one of which a file is known as accelerate's."""
_SINGLE = ("NO", "FALSE")
"""`distributed_type: NO` without quotes is the flag false."""

_DEEPSPEED: dict[str, Meaning] = {
    "zero_stage": ("zero.stage", "number"),
    "gradient_accumulation_steps": ("zero.accumulation", "text"),
    "gradient_clipping": ("zero.clipping", "text"),
    "offload_optimizer_device": ("zero.offload_optimizer", "text"),
    "offload_param_device": ("zero.offload_param", "text"),
    "zero3_init_flag": ("zero.init", "flag"),
    "zero3_save_16bit_model": ("zero.save_16bit", "flag"),
    "deepspeed_hostfile": ("accelerate.hostfile", "text"),
    "deepspeed_multinode_launcher": ("accelerate.multinode", "text"),
    "deepspeed_moe_layer_cls_names": ("zero.moe_classes", "text"),
}
_BESIDE_FILE = words(
    """
    gradient_accumulation_steps gradient_clipping zero_stage offload_optimizer_device offload_param_device
    offload_param_nvme_path offload_optimizer_nvme_path zero3_save_16bit_model
    """
)
"""What accelerate (1.15: utils/dataclasses.py, _deepspeed_config_checks) refuses beside deepspeed_config_file."""
_TOP: dict[str, Meaning] = {
    "mixed_precision": ("accelerate.mixed_precision", "text"),
    "machine_rank": ("accelerate.rank", "number"),
    "main_process_ip": ("accelerate.address", "text"),
    "main_process_port": ("accelerate.port", "number"),
    "rdzv_backend": ("accelerate.rendezvous", "text"),
    "same_network": ("accelerate.same_network", "flag"),
    "gpu_ids": ("accelerate.gpus", "text"),
    "use_cpu": ("accelerate.on_cpu", "flag"),
    "compute_environment": ("accelerate.environment", "text"),
    "num_processes": ("accelerate.processes", "number"),
    "num_machines": ("accelerate.nodes", "number"),
    "dynamo_config.dynamo_backend": ("accelerate.dynamo", "text"),
    "dynamo_backend": ("accelerate.dynamo", "text"),
    "fp8_config.backend": ("accelerate.fp8_backend", "text"),
    "fp8_config.fp8_backend": ("accelerate.fp8_backend", "text"),
    "parallelism_config.parallelism_config_dp_replicate_size": ("accelerate.dp_replicate", "number"),
    "parallelism_config.parallelism_config_dp_shard_size": ("accelerate.dp_shard", "number"),
    "parallelism_config.parallelism_config_tp_size": ("accelerate.tp", "number"),
    "parallelism_config.parallelism_config_cp_size": ("accelerate.cp", "number"),
    "parallelism_config.parallelism_config_sp_size": ("accelerate.sp", "number"),
    "megatron_lm_config.megatron_lm_tp_degree": ("accelerate.megatron_tp", "number"),
    "megatron_lm_config.megatron_lm_pp_degree": ("accelerate.megatron_pp", "number"),
}


def is_kind(document: Node) -> bool:
    """Whether a mapping is accelerate's: it names the kind of distribution, perhaps misspelt beside another key of
    accelerate's, or has three keys that only accelerate has."""
    keys = {key for key, _ in document.items()}
    known = len(keys & (_OWN | BLOCKS))
    return bool(keys & _NAMING) or known > 2 or (known > 0 and any(map(_is_near_naming, sorted(keys)[:100])))


def _is_near_naming(key: str) -> bool:
    return 12 < len(key) < 24 and bool(get_close_matches(key, _NAMING, 1, 0.88))


def read(document: Node, file: str) -> Parsed:
    """One configuration of `accelerate launch`. Nothing is raised.

    What is said of DeepSpeed or FSDP counts only where distributed_type names it: a block that is left over is not read.
    """
    items = tuple(_owned(settings(document, OWNER, file)))
    kind = _kind(document)
    facts = [*_distribution(document, items, kind), *deepspeed.told_by(items, _TOP)]
    refers: tuple[Reference, ...] = ()
    if kind == "DEEPSPEED":
        facts += _deepspeed(document, items)
        refers = tuple(_file(items))
    elif kind == "FSDP":
        block = [item for item in items if item.owner == "accelerate.fsdp_config"]
        facts += fsdp.meaning(block, "accelerate")
    return Parsed(items, tuple(facts), refers)


def _owned(items: Iterator[Setting]) -> Iterator[Setting]:
    """Settings with their owners: those of a block belong to it (`accelerate.fsdp_config`)."""
    for item in items:
        head, below, _ = item.key.partition(".")
        owner = f"{OWNER}.{head}" if below and head in BLOCKS else OWNER
        yield replace(item, owner=owner)


def _kind(document: Node) -> str:
    """distributed_type as it is written: accelerate takes capitals only. The flag false is NO without quotes."""
    node = document.get("distributed_type")
    return "NO" if node.value is False or node.word().upper() in _SINGLE else node.word()


def _distribution(document: Node, items: Sequence[Setting], kind: str) -> Iterator[Fact]:
    by_key = {item.key: item for item in items}
    if kind:
        yield told("accelerate.distributed", kind, by_key["distributed_type"])
    elif items:
        yield Fact("accelerate.without_kind", True, items[0].file, document.line, document.column)
    precision = by_key.get("mixed_precision")
    gpus = by_key.get("gpu_ids")
    if gpus is not None and isinstance(gpus.value, int):
        yield told("accelerate.gpus_number", True, gpus)
    if precision is not None and isinstance(precision.value, bool):
        yield told("accelerate.mixed_precision_flag", precision.text or str(precision.value).lower(), precision)
    processes = number(plain(document.get("num_processes")))
    if processes is not None and processes > 0:
        yield told("training.processes", int(processes), by_key["num_processes"])
    elif kind == "NO" and document.get("distributed_type").value is not False:
        yield told("training.processes", 1, by_key["distributed_type"])
    nodes = number(plain(document.get("num_machines")))
    if nodes is not None and nodes > 0:
        yield told("training.nodes", int(nodes), by_key["num_machines"])


def _deepspeed(document: Node, items: Sequence[Setting]) -> Iterator[Fact]:
    """`zero.*` of what stands in the block itself. With a file beside it, that file alone counts."""
    block = {item.name: item for item in items if item.owner == "accelerate.deepspeed_config"}
    file = block.get("deepspeed_config_file")
    own = [replace(item, key=name) for name, item in block.items()]
    if file is not None and file.value:
        twice = [name for name in block if name in _BESIDE_FILE]
        if document.get("mixed_precision"):
            twice.append("mixed_precision")
        if twice:
            place = block.get(twice[0]) or next(item for item in items if item.key == "mixed_precision")
            yield told("deploy.config_fields_twice", ", ".join(twice), place)
        own = [
            item
            for item in own
            if item.key in ("zero3_init_flag", "deepspeed_hostfile", "deepspeed_multinode_launcher")
        ]
        yield from deepspeed.told_by(own, _DEEPSPEED)
        return
    head = next((item for item in items if item.key == "deepspeed_config"), None)
    if head is not None:
        yield told("zero.file", "inline", head)
    yield from deepspeed.told_by(own, _DEEPSPEED)
    for device in ("optimizer", "param"):
        yield from deepspeed.nvme(block.get(f"offload_{device}_device"), block.get(f"offload_{device}_nvme_path"))


def _file(items: Sequence[Setting]) -> Iterator[Reference]:
    for item in items:
        if item.key == "deepspeed_config.deepspeed_config_file" and isinstance(item.value, str) and item.value:
            yield Reference(item.value, "deepspeed", item)
