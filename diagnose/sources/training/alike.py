"""Arguments that several frameworks call alike, with their meaning: each is written here once."""

from __future__ import annotations

from collections.abc import Mapping

from diagnose.sources.training.given import Meaning

EVERYWHERE: Mapping[str, Meaning] = {
    "output_dir": ("training.output", "text"),
    "learning_rate": ("training.learning_rate", "number"),
    "warmup_ratio": ("training.warmup_ratio", "number"),
    "weight_decay": ("training.weight_decay", "number"),
    "max_grad_norm": ("training.max_grad_norm", "number"),
    "adam_beta1": ("training.adam_beta1", "number"),
    "adam_beta2": ("training.adam_beta2", "number"),
    "adam_epsilon": ("training.adam_epsilon", "number"),
    "auto_find_batch_size": ("training.batch_automatic", "flag"),
    "gradient_accumulation_steps": ("training.accumulation", "number"),
    "torch_compile": ("training.compile", "flag"),
    "group_by_length": ("training.group_by_length", "flag"),
    "eval_steps": ("training.eval_steps", "number"),
    "save_steps": ("training.save_steps", "number"),
    "save_total_limit": ("training.save_limit", "number"),
    "save_only_model": ("training.save_only_model", "flag"),
    "load_best_model_at_end": ("training.load_best", "flag"),
    "metric_for_best_model": ("training.best_by", "text"),
    "greater_is_better": ("training.best_is_greater", "flag"),
    "logging_steps": ("training.logging_steps", "number"),
    "dataloader_num_workers": ("training.workers", "number"),
    "dataloader_pin_memory": ("training.pin_memory", "flag"),
    "dataloader_prefetch_factor": ("training.prefetch", "number"),
    "seed": ("training.seed", "number"),
    "ddp_timeout": ("training.ddp_timeout", "number"),
    "ddp_find_unused_parameters": ("training.find_unused", "flag"),
}
"""What transformers' Trainer, LLaMA-Factory and Axolotl call alike."""

OF_TRAINER: Mapping[str, Meaning] = {
    **EVERYWHERE,
    "overwrite_output_dir": ("training.output_overwritten", "flag"),
    "lr_scheduler_type": ("training.scheduler", "text"),
    "lr_scheduler_kwargs.min_lr": ("training.min_learning_rate", "number"),
    "optim": ("training.optimizer", "text"),
    "per_device_train_batch_size": ("training.batch", "number"),
    "per_device_eval_batch_size": ("training.eval_batch", "number"),
    "num_train_epochs": ("training.epochs", "number"),
    "bf16": ("training.bf16", "flag"),
    "fp16": ("training.fp16", "flag"),
    "tf32": ("training.tf32", "flag"),
    "push_to_hub": ("training.push_to_hub", "flag"),
    "dataloader_persistent_workers": ("training.persistent_workers", "flag"),
    "ddp_backend": ("training.ddp_backend", "text"),
    "use_cpu": ("training.on_cpu", "flag"),
    "model_name_or_path": ("training.model", "text"),
    "preprocessing_num_workers": ("training.preprocessing_workers", "number"),
}
"""Arguments of transformers' Trainer that LLaMA-Factory inherits, and those that both call as transformers' example scripts do."""

HANDED_ON: Mapping[str, Meaning] = {
    "resume_from_checkpoint": ("training.resume", "text"),
    "warmup_steps": ("training.warmup_steps", "number"),
}
"""What LLaMA-Factory and Axolotl hand on to the Trainer; its own reader looks closer at the value."""

LORA: Mapping[str, Meaning] = {
    "lora_alpha": ("training.lora.alpha", "number"),
    "lora_dropout": ("training.lora.dropout", "number"),
}
"""What PEFT and all who configure it call alike."""

LORA_SWITCHES: Mapping[str, Meaning] = {
    "use_rslora": ("training.lora.rslora", "flag"),
    "use_dora": ("training.lora.dora", "flag"),
}
"""Kinds of LoRA under PEFT's own names; Axolotl puts `peft_` before them."""
