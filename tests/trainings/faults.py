"""Faults planted in published configurations: each is one edit, and the key and line that have to be told first."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from tests.trainings.edits import Edit, below, both, keyword, put, rename


class Fault(NamedTuple):
    """A fault. `keys` are those of which one has to be told first; `anywhere`: the fault is a pair, so either line does.

    `facts` are known of machine, packages or model besides.
    """

    file: str
    edit: Edit
    keys: tuple[str, ...]
    anywhere: bool = False
    facts: Mapping[str, Any] = MappingProxyType({})


AX, LF, DS, AC = "axolotl/examples__", "LLaMA-Factory/examples__", "axolotl/deepspeed_configs__", "accelerate/"
QWEN2, LLAMA1B, MISTRAL = f"{AX}qwen2__dpo.yaml", f"{AX}llama-3__lora-1b.yml", f"{AX}mistral__qlora.yml"
FFT8B, PHI, TINY = f"{AX}llama-3__fft-8b.yaml", f"{AX}phi__phi-ft.yml", f"{AX}archived__tiny-llama__lora.yml"
GEMMA, DEDUP, RAY = (
    f"{AX}archived__gemma__qlora.yml",
    f"{AX}llama-3__lora-1b-deduplicate-sft.yml",
    f"{AX}llama-3__lora-1b-ray.yml",
)
CODE, STAR, OPEN = (
    f"{AX}archived__code-llama__7b__qlora.yml",
    f"{AX}archived__starcoder2__qlora.yml",
    f"{AX}archived__openllama-3b__lora.yml",
)
SEED, HUNYUAN, GLM = (
    f"{AX}seed-oss__seed-oss-36b-qlora.yaml",
    f"{AX}hunyuan__hunyuan-v1-dense-qlora.yaml",
    f"{AX}glm47-flash__qlora.yaml",
)
LORA, DPO, FULL = (
    f"{LF}train_lora__qwen3_lora_sft_ray.yaml",
    f"{LF}train_lora__qwen3_lora_dpo.yaml",
    f"{LF}train_full__qwen3_full_sft.yaml",
)
PRE, REWARD, VL = (
    f"{LF}train_lora__qwen3_lora_pretrain.yaml",
    f"{LF}train_lora__qwen3_lora_reward.yaml",
    f"{LF}train_lora__qwen3vl_lora_sft.yaml",
)
OTFQ, GALORE, LPRO = (
    f"{LF}train_qlora__qwen3_lora_sft_otfq.yaml",
    f"{LF}extras__galore__llama3_full_sft.yaml",
    f"{LF}extras__llama_pro__llama3_freeze_sft.yaml",
)
Z2, Z3, Z1, Z3OFF = f"{DS}zero2.json", f"{DS}zero3.json", f"{DS}zero1.json", f"{DS}zero3_bf16_cpuoffload_all.json"
LFZ2, LFZ3 = f"{LF}deepspeed__ds_z2_config.json", f"{LF}deepspeed__ds_z3_offload_config.json"
BING, IMAGENET = (
    "DeepSpeedExamples/training__bing_bert__deepspeed_bsz64k_lamb_config_seq128.json",
    "DeepSpeedExamples/training__imagenet__config__ds_fp16_z1_config.json",
)
FSDP1, FSDP_OFF = f"{LF}accelerate__fsdp_config.yaml", f"{LF}accelerate__fsdp_config_offload.yaml"
MULTI, ACDS = (
    f"{AC}examples__config_yaml_templates__multi_node.yaml",
    f"{AC}examples__config_yaml_templates__deepspeed.yaml",
)
SLURM = f"{AC}examples__slurm__fsdp_config.yaml"

SLIPS: tuple[Fault, ...] = tuple(
    Fault(file, rename(key, slip), (slip,))
    for file, key, slip in (
        (LLAMA1B, "learning_rate", "learnig_rate"), (MISTRAL, "micro_batch_size", "micro_batchsize"),
        (FFT8B, "gradient_accumulation_steps", "gradient_acumulation_steps"), (PHI, "sequence_len", "sequnce_len"),
        (TINY, "lora_r", "lora_rr"), (GEMMA, "num_epochs", "num_epoch"), (CODE, "load_in_4bit", "load_in_4bits"),
        (STAR, "sample_packing", "sample_packng"), (DEDUP, "val_set_size", "val_set_sizes"), (RAY, "optimizer", "optimiser"),
        (OPEN, "lora_target_modules", "lora_target_module"), (SEED, "gradient_checkpointing", "gradient_checkpoiting"),
        (HUNYUAN, "lora_dropout", "lora_droupout"), (GLM, "lr_scheduler", "lr_schedular"), (QWEN2, "warmup_ratio", "warmup_rato"),
        (LORA, "learning_rate", "learning_rte"), (DPO, "per_device_train_batch_size", "per_device_train_batchsize"),
        (FULL, "gradient_accumulation_steps", "gradient_accumulation_step"), (PRE, "cutoff_len", "cutof_len"),
        (REWARD, "lora_rank", "lora_rnk"), (VL, "finetuning_type", "fintuning_type"), (OTFQ, "quantization_bit", "quantisation_bit"),
        (GALORE, "use_galore", "use_galor"), (LPRO, "num_train_epochs", "num_train_epoch"), (LORA, "lr_scheduler_type", "lr_schedular_type"),
        (DPO, "pref_beta", "pref_betta"), (FULL, "deepspeed", "deepsped"), (PRE, "warmup_ratio", "warmup_rato"),
        (Z2, "zero_optimization", "zero_optimizatoin"), (Z3, "zero_optimization", "zero_optimisation"),
        (LFZ2, "gradient_accumulation_steps", "gradient_accumulation_step"), (Z3, "gradient_clipping", "gradient_cliping"), (BING, "train_batch_size", "train_batchsize"),
        (FSDP1, "mixed_precision", "mixed_precison"), (FSDP_OFF, "num_processes", "num_process"),
        (SLURM, "distributed_type", "distribted_type"), (MULTI, "num_machines", "num_machine"),
        (ACDS, "deepspeed_config", "deepspeed_confg"),
    )
) + tuple(
    Fault(file, rename(key, slip), (f"{above}.{slip}",))
    for file, above, key, slip in (
        (Z1, "zero_optimization", "stage", "stge"), (Z3OFF, "zero_optimization", "offload_optimizer", "offload_optimiser"),
        (LFZ3, "zero_optimization", "overlap_comm", "overlap_com"), (FSDP1, "fsdp_config", "fsdp_auto_wrap_policy", "fsdp_autowrap_policy"),
        (FSDP_OFF, "fsdp_config", "fsdp_offload_params", "fsdp_ofload_params"),
    )
)  # fmt: skip

VALUES: tuple[Fault, ...] = (
    # Axolotl
    *(
        Fault(file, put(key, value), (key,))
        for file, key, value in (
            (LLAMA1B, "learning_rate", "2"), (MISTRAL, "learning_rate", "0"), (FFT8B, "learning_rate", "-0.00001"),
            (FFT8B, "learning_rate", "0.01"), (QWEN2, "learning_rate", "0.05"), (TINY, "learning_rate", "0.1"),
            (GEMMA, "micro_batch_size", "0"), (CODE, "gradient_accumulation_steps", "0"), (GLM, "num_epochs", "0"),
            (LLAMA1B, "lora_r", "0"), (TINY, "lora_dropout", "1.0"), (MISTRAL, "lora_dropout", "5"), (GEMMA, "lora_alpha", "0"),
            (PHI, "optimizer", "adamw_torchh"), (RAY, "optimizer", "adam8bit"), (SEED, "lr_scheduler", "cosin"),
            (MISTRAL, "adapter", "qlorra"), (GLM, "learning_rate", "3e0"), (DEDUP, "attn_implementation", "flash_atention_2"),
            (LLAMA1B, "save_strategy", "sometimes"), (PHI, "weight_decay", "abc"), (OPEN, "micro_batch_size", "two"),
            (QWEN2, "rl", "dpoo"), (STAR, "bf16", "yes please"),
        )
    ),
    Fault(MISTRAL, put("load_in_8bit", "true"), ("load_in_8bit", "adapter", "load_in_4bit"), True),
    Fault(CODE, put("load_in_4bit", "false"), ("load_in_4bit", "adapter"), True),
    Fault(LLAMA1B, put("adapter", "qlora"), ("adapter", "load_in_4bit"), True),
    Fault(LLAMA1B, both(put("warmup_ratio", "0.1"), put("warmup_steps", "10")), ("warmup_steps", "warmup_ratio"), True),
    Fault(LLAMA1B, both(put("evals_per_epoch", "4"), put("eval_steps", "50")), ("eval_steps", "evals_per_epoch"), True),
    Fault(LLAMA1B, both(put("saves_per_epoch", "1"), put("save_steps", "50")), ("save_steps", "saves_per_epoch"), True),
    Fault(LLAMA1B, both(put("val_set_size", "0"), put("evals_per_epoch", "4")), ("val_set_size", "evals_per_epoch"), True),
    Fault(QWEN2, put("sample_packing", "true"), ("sample_packing", "rl"), True),
    Fault(FFT8B, both(put("deepspeed", "ds.json"), put("fsdp_config", "{fsdp_version: 2}")), ("deepspeed", "fsdp_config", "fsdp"), True),
    Fault(PHI, put("load_in_4bit", "true"), ("load_in_4bit", "adapter"), True),
    Fault(LLAMA1B, put("chat_template", "jinja"), ("chat_template",)),
    Fault(LLAMA1B, both(put("streaming", "true"), put("val_set_size", "0.1")), ("streaming", "val_set_size", "max_steps"), True),
    Fault(LLAMA1B, both(put("load_in_8bit", "true"), put("lora_mlp_kernel", "true")), ("lora_mlp_kernel", "load_in_8bit"), True),
    Fault(LLAMA1B, put("batch_size", "8"), ("batch_size", "gradient_accumulation_steps"), True),
    Fault(LLAMA1B, both(put("max_memory", "{0: 10GiB}"), put("gpu_memory_limit", "10GiB")), ("gpu_memory_limit", "max_memory"), True),
    # LLaMA-Factory
    *(
        Fault(file, put(key, value), (key,))
        for file, key, value in (
            (LORA, "stage", "sftt"), (LORA, "finetuning_type", "loraa"), (DPO, "template", "qwen33"), (FULL, "learning_rate", "1.0"),
            (REWARD, "lora_rank", "0"), (PRE, "learning_rate", "0"), (DPO, "pref_loss", "sigmoidd"), (LORA, "lr_scheduler_type", "cosinus"),
            (FULL, "per_device_train_batch_size", "0"), (VL, "flash_attn", "fa22"), (OTFQ, "quantization_bit", "5"),
            (GALORE, "learning_rate", "2.0"), (LPRO, "gradient_accumulation_steps", "0"), (DPO, "learning_rate", "0.01"),
            (REWARD, "num_train_epochs", "0"), (LORA, "optim", "adamw_torhc"), (LORA, "save_strategy", "daily"),
            (LORA, "lora_dropout", "2.0"),
        )
    ),
    Fault(LORA, put("fp16", "true"), ("fp16", "bf16"), True),
    Fault(FULL, put("quantization_bit", "4"), ("quantization_bit", "finetuning_type"), True),
    Fault(GALORE, put("finetuning_type", "lora"), ("finetuning_type", "use_galore"), True),
    Fault(LORA, both(put("val_size", "0.1"), put("eval_dataset", "alpaca_en_demo")), ("eval_dataset", "val_size"), True),
    Fault(LORA, put("streaming", "true"), ("streaming", "max_steps", "max_samples"), True),
    Fault(DPO, put("train_on_prompt", "true"), ("train_on_prompt", "stage"), True),
    Fault(REWARD, put("neat_packing", "true"), ("neat_packing", "stage"), True),
    Fault(LORA, both(put("mask_history", "true"), put("train_on_prompt", "true")), ("train_on_prompt", "mask_history"), True),
    Fault(LPRO, put("finetuning_type", "full"), ("finetuning_type", "use_llama_pro"), True),
    Fault(FULL, put("use_dora", "true"), ("use_dora", "finetuning_type"), True),
    Fault(FULL, put("loraplus_lr_ratio", "16.0"), ("loraplus_lr_ratio", "finetuning_type"), True),
    Fault(DPO, put("predict_with_generate", "true"), ("predict_with_generate", "stage"), True),
    Fault(LORA, put("stage", "ppo"), ("stage", "reward_model"), True),
    Fault(LORA, both(put("load_best_model_at_end", "true"), put("eval_strategy", "epoch")), ("load_best_model_at_end", "eval_strategy", "save_strategy", "save_steps"), True),
    # DeepSpeed
    *(
        Fault(file, put(key, value), (f"{above}{key}",))
        for file, above, key, value in (
            (Z2, "zero_optimization.", "stage", "5"), (Z3, "zero_optimization.", "stage", "4"), (LFZ2, "zero_optimization.", "stage", "-1"),
            (Z3OFF, "zero_optimization.offload_optimizer.", "device", '"gpu"'), (BING, "optimizer.", "type", '"Lambb"'),
        )
    ),
    Fault(Z2, below("zero_optimization", "offload_param", '{"device": "cpu"}'), ("zero_optimization.offload_param", "zero_optimization.offload_param.device", "zero_optimization.stage"), True),
    Fault(Z3, below("zero_optimization", "offload_optimizer", '{"device": "nvme"}'), ("zero_optimization.offload_optimizer", "zero_optimization.offload_optimizer.device"), True),
    Fault(Z3, below("zero_optimization", "offload_param", '{"device": "nvme"}'), ("zero_optimization.offload_param", "zero_optimization.offload_param.device"), True),
    Fault(IMAGENET, put("bf16", '{"enabled": true}'), ("bf16", "bf16.enabled", "fp16.enabled", "fp16"), True),
    Fault(Z2, put("scheduler", '{"type": "WarmupLRR", "params": {}}'), ("scheduler", "scheduler.type"), True),
    Fault(Z2, put("zero_force_ds_cpu_optimiser", "false"), ("zero_force_ds_cpu_optimiser",)),
    # accelerate, FSDP
    *(
        Fault(file, put(key, value), (f"{above}{key}",))
        for file, above, key, value in (
            (FSDP1, "", "distributed_type", "FSPD"), (FSDP1, "", "mixed_precision", "bf61"), (FSDP_OFF, "", "mixed_precision", "float16"),
            (MULTI, "", "distributed_type", "MULTIGPU"), (FSDP1, "fsdp_config.", "fsdp_state_dict_type", "FULL_STATE"),
            (FSDP1, "fsdp_config.", "fsdp_auto_wrap_policy", "TRANSFORMER_WRAP"), (FSDP_OFF, "fsdp_config.", "fsdp_sharding_strategy", "FULL"),
            (FSDP1, "fsdp_config.", "fsdp_backward_prefetch", "BACKWARD"), 
        )
    ),
    Fault(MULTI, put("num_processes", "7"), ("num_processes", "num_machines"), True),
    Fault(MULTI, put("num_processes", "1"), ("num_processes", "num_machines"), True),
    Fault(FSDP1, below("fsdp_config", "fsdp_version", "3"), ("fsdp_config.fsdp_version",)),
    Fault(FSDP1, put("gpu_ids", "0"), ("gpu_ids",)),
    Fault(MULTI, put("main_process_ip", "127.0.0.1"), ("main_process_ip", "num_machines"), True),
    Fault(FSDP1, both(put("fsdp_cpu_ram_efficient_loading", "true"), put("fsdp_sync_module_states", "false")), ("fsdp_config.fsdp_sync_module_states", "fsdp_config.fsdp_cpu_ram_efficient_loading"), True),
    Fault(ACDS, below("deepspeed_config", "deepspeed_config_file", "ds.json"), ("deepspeed_config.deepspeed_config_file", "deepspeed_config.zero_stage", "deepspeed_config.gradient_accumulation_steps", "mixed_precision"), True),
    Fault(ACDS, below("deepspeed_config", "zero_stage", "7"), ("deepspeed_config.zero_stage",)),
)  # fmt: skip

OWN: tuple[Fault, ...] = (
    *(
        Fault(file, rename(key, slip), (slip,))
        for file, key, slip in (
            ("sft.yaml", "learning_rate", "learning_rat"), ("sft.yaml", "max_length", "max_lenght"), ("sft.yaml", "lora_target_modules", "lora_targets_modules"),
            ("dpo.yaml", "gradient_accumulation_steps", "gradient_acumulation_steps"), ("grpo.yaml", "num_generations", "num_generation"),
            ("trainer.json", "per_device_train_batch_size", "per_device_train_batchsize"), ("trainer.json", "warmup_steps", "warm_up_steps"),
            
            ("ds_zero3.json", "train_micro_batch_size_per_gpu", "train_micro_batch_size_per_gpus"), ("accelerate_ds.yaml", "mixed_precision", "mixed_precission"),
            ("qlora.yml", "attn_implementation", "attn_implementaton"), ("lora_sft.yaml", "cutoff_len", "cutoff_length"),
        )
    ),
    *(
        Fault(file, put(key, value), (key,))
        for file, key, value in (
            ("sft.yaml", "learning_rate", "20"), ("sft.yaml", "learning_rate", "0"), ("sft.yaml", "per_device_train_batch_size", "0"),
            ("sft.yaml", "gradient_accumulation_steps", "0"), ("sft.yaml", "lr_scheduler_type", "cosin"), ("sft.yaml", "eval_strategy", "step"),
            ("sft.yaml", "lora_r", "0"), ("sft.yaml", "lora_alpha", "0"), ("sft.yaml", "lora_dropout", "1.5"), ("sft.yaml", "optim", "adamw_fast"),
            ("sft.yaml", "logging_steps", "0"), ("sft.yaml", "save_strategy", "monthly"), ("sft.yaml", "warmup_ratio", "5"),
            ("sft.yaml", "adam_beta1", "1.5"), ("sft.yaml", "evaluation_strategy", "steps"), ("sft.yaml", "max_seq_length", "256"),
            ("dpo.yaml", "beta", "-0.1"), ("dpo.yaml", "learning_rate", "2.0"), ("dpo.yaml", "num_train_epochs", "0"),
            ("grpo.yaml", "num_generations", "1"), ("grpo.yaml", "learning_rate", "-1e-6"),
            ("trainer.json", "learning_rate", "5.0"), ("trainer.json", "lr_scheduler_type", '"linearly"'), ("trainer.json", "no_cuda", "false"),
            ("accelerate_ds.yaml", "mixed_precision", "bfloat16"), ("accelerate_ds.yaml", "distributed_type", "DEEPSEED"),
            ("qlora.yml", "learning_rate", "1.0"), ("qlora.yml", "attn_implementation", "flash_attn"), ("lora_sft.yaml", "stage", "sftt"),
            ("lora_sft.yaml", "finetuning_type", "qlora"), ("lora_sft.yaml", "template", "qwen4"),
        )
    ),
    Fault("accelerate_ds.yaml", put("zero_stage", "9"), ("deepspeed_config.zero_stage",)),
    Fault("accelerate_ds.yaml", put("offload_param_device", "nvme"), ("deepspeed_config.offload_param_device", "deepspeed_config.offload_param_nvme_path"), True),
    Fault("accelerate_ds.yaml", put("offload_optimizer_device", "gpu"), ("deepspeed_config.offload_optimizer_device",)),
    Fault("accelerate_fsdp2.yaml", below("fsdp_config", "fsdp_sharding_strategy", "SHARD_GRAD_OP"), ("fsdp_config.fsdp_sharding_strategy", "fsdp_config.fsdp_version"), True),
    Fault("accelerate_fsdp2.yaml", put("fsdp_state_dict_type", "LOCAL_STATE_DICT"), ("fsdp_config.fsdp_state_dict_type",)),
    Fault("accelerate_fsdp2.yaml", put("fsdp_transformer_layer_cls_to_wrap", "Qwen3DecoderLayr"), ("fsdp_config.fsdp_transformer_layer_cls_to_wrap",), facts={"model.type": "qwen3"}),
    Fault("ds_zero3.json", put("stage", "33"), ("zero_optimization.stage",)),
    Fault("ds_zero3.json", put("device", '"gpu"'), ("zero_optimization.offload_optimizer.device",)),
    Fault("sft.yaml", put("fp16", "true"), ("fp16", "bf16"), True),
    Fault("sft.yaml", both(put("save_steps", "15"), put("load_best_model_at_end", "true")), ("load_best_model_at_end", "save_steps", "eval_steps"), True),
    Fault("sft.yaml", both(put("save_strategy", "epoch"), put("load_best_model_at_end", "true")), ("load_best_model_at_end", "save_strategy", "eval_strategy"), True),
    Fault("sft.yaml", put("dataloader_prefetch_factor", "4"), ("dataloader_prefetch_factor", "dataloader_num_workers"), True),
    Fault("sft.yaml", put("dataloader_persistent_workers", "true"), ("dataloader_persistent_workers", "dataloader_num_workers"), True),
    Fault("sft.yaml", put("bf16", "true"), ("bf16",), facts={"gpu.count": 1, "gpu.0.compute_capability": "7.5", "gpu.0.vendor": "nvidia", "gpu.vendor": "nvidia"}),
    Fault("sft.yaml", both(put("load_in_4bit", "true"), put("load_in_8bit", "true")), ("load_in_8bit", "load_in_4bit"), True),
    Fault("grpo.yaml", put("num_generations", "7"), ("num_generations", "per_device_train_batch_size", "gradient_accumulation_steps"), True, {"deploy.processes": 1, "deploy.launcher": "torchrun", "deploy.nodes": 1}),
    Fault("trainer.json", put("save_steps", "150"), ("save_steps", "load_best_model_at_end", "eval_steps"), True),
    Fault("trainer.json", put("eval_strategy", '"no"'), ("eval_strategy", "save_strategy", "load_best_model_at_end"), True),
    Fault("trainer.json", put("fp16", "true"), ("fp16", "bf16"), True),
    Fault("train.py", keyword("learning_rate", "5.0"), ("learning_rate",)),
    Fault("train.py", keyword("fp16", "True", "SFTConfig"), ("fp16", "bf16"), True),
    Fault("train.py", keyword("r", "0"), ("r",)),
    Fault("train.py", keyword("lora_alfa", "32", "LoraConfig"), ("lora_alfa",)),
    Fault("train.py", keyword("gradient_acumulation_steps", "2", "SFTConfig"), ("gradient_acumulation_steps",)),
    Fault("train.py", keyword("eval_strategy", '"step"'), ("eval_strategy",)),
    Fault("train.py", keyword("max_seq_length", "256", "SFTConfig"), ("max_seq_length",)),
    Fault("qlora.yml", put("load_in_4bit", "false"), ("load_in_4bit", "adapter"), True),
    Fault("qlora.yml", put("warmup_steps", "10"), ("warmup_steps", "warmup_ratio"), True),
    Fault("qlora.yml", put("eval_steps", "10"), ("eval_steps", "evals_per_epoch"), True),
    Fault("qlora.yml", put("rl", "dpo"), ("rl", "sample_packing"), True),
    Fault("lora_sft.yaml", put("quantization_bit", "3"), ("quantization_bit",)),
    Fault("lora_sft.yaml", put("fp16", "true"), ("fp16", "bf16"), True),
    Fault("lora_sft.yaml", put("eval_dataset", "other"), ("eval_dataset", "val_size"), True),
    Fault("lora_sft.yaml", put("use_galore", "true"), ("use_galore", "finetuning_type"), True),
)  # fmt: skip
"""Faults in the configurations of this folder, which are healthy and written for these tests."""

PUBLISHED: tuple[Fault, ...] = SLIPS + VALUES
"""Faults in configurations that their makers published."""
