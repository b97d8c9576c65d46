"""accelerate's configuration: processes against machines and meshes; what a launch needs and neither file nor command gives."""

from __future__ import annotations

from diagnose.derive.known import Known


def complete(known: Known) -> None:
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
