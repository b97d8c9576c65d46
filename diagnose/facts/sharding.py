"""Facts of how a training is spread over processes: DeepSpeed, FSDP, accelerate."""

from __future__ import annotations

from diagnose.facts.kinds import FactKind, kinds

# sharding: sources/training/deepspeed.py, fsdp.py, accelerate.py
SHARDING: tuple[FactKind, ...] = (
    *kinds("sharding", "training",
        ("zero.file", "text", "the DeepSpeed configuration that is read; `inline` where it stands in another file"),
        ("zero.stage", "number", "ZeRO stage; 0 where none is asked for"),
        ("zero.batch", "text", "train_micro_batch_size_per_gpu: a number, or auto"),
        ("zero.train_batch", "text", "train_batch_size: a number, or auto"),
        ("zero.accumulation", "text", "gradient_accumulation_steps: a number, or auto"),
        ("zero.bf16", "text", "whether bf16 is enabled: true, false, auto"),
        ("zero.fp16", "text", "whether fp16 is enabled: true, false, auto"),
        ("zero.clipping", "text", "gradient_clipping: a number, or auto"),
        ("zero.optimizer", "text", "DeepSpeed's own optimizer, where one is configured"),
        ("zero.learning_rate", "text", "its learning rate: a number, or auto"),
        ("zero.scheduler", "text", "DeepSpeed's own scheduler, where one is configured"),
        ("zero.offload_optimizer", "text", "where optimizer states go: none, cpu, nvme"),
        ("zero.offload_param", "text", "where parameters go: none, cpu, nvme"),
        ("zero.nvme_path", "text", "folder for what is offloaded to NVMe"),
        ("zero.save_16bit", "flag", "whether stage 3 gathers 16-bit weights when a checkpoint is written"),
        ("fsdp.version", "number", "1 or 2"),
        ("fsdp.strategy", "text", "FULL_SHARD, SHARD_GRAD_OP, NO_SHARD, HYBRID_SHARD …"),
        ("fsdp.wrap_policy", "text", "TRANSFORMER_BASED_WRAP, SIZE_BASED_WRAP, NO_WRAP"),
        ("fsdp.wrap_classes", "text", "classes of layers that are wrapped, separated by commas"),
        ("fsdp.state_dict", "text", "FULL_STATE_DICT, SHARDED_STATE_DICT, LOCAL_STATE_DICT"),
        ("fsdp.offload", "flag", "whether parameters are kept in main memory"),
        ("fsdp.ram_efficient", "flag", "whether only rank 0 loads the weights"),
        ("fsdp.sync_states", "flag", "whether rank 0 sends them to the others"),
        ("fsdp.checkpointing", "flag", "whether FSDP itself makes activations anew"),
        ("fsdp.original_params", "flag", "whether the original parameters are kept (use_orig_params)"),
    ),
)  # fmt: skip
