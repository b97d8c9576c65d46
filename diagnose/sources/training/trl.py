"""Configurations of TRL's trainers and of its command line, of any release, with those of the model and the data beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from diagnose.model import Fact
from diagnose.sources.settings import words
from diagnose.sources.training import blocks, trainer
from diagnose.sources.training.blocks import By, Schema
from diagnose.sources.training.given import Meaning, number, read_as, told
from diagnose.sources.training.parsed import Parsed, Reference
from diagnose.sources.yamlfile import Node

MODEL = "trl.ModelConfig"
SCRIPT = "trl.ScriptArguments"
MIXTURE = "trl.DatasetMixtureConfig"

_SFT = words(
    """
    packing packing_strategy eval_packing dataset_text_field dataset_kwargs completion_only_loss assistant_only_loss
    chars_per_token num_of_sequences neftune_noise_alpha dataset_batch_size use_liger padding_free
    """
)
_PREFERENCE = words(
    """
    beta loss_type label_smoothing reference_free force_use_ref_model rpo_alpha ld_alpha f_divergence_type
    f_alpha_divergence_coef precompute_ref_log_probs precompute_ref_batch_size ref_model_init_kwargs model_adapter_name
    ref_adapter_name generate_during_eval max_prompt_length max_completion_length max_target_length label_pad_token_id
    padding_value truncation_mode use_logits_to_keep discopop_tau loss_weights use_weighting sync_ref_model
    ref_model_mixup_alpha ref_model_sync_steps is_encoder_decoder disable_dropout use_num_logits_to_keep base_model_attribute_name
    """
)
_GROUP = words(
    """
    num_generations num_generations_eval max_completion_length max_prompt_length generation_batch_size
    steps_per_generation temperature top_p top_k min_p generation_kwargs chat_template_kwargs repetition_penalty
    cache_implementation use_vllm vllm_mode vllm_model_impl vllm_enable_sleep_mode vllm_structured_outputs_regex
    vllm_guided_decoding_regex vllm_server_base_url vllm_server_host vllm_server_port vllm_server_timeout vllm_group_port
    vllm_gpu_memory_utilization vllm_max_model_length vllm_max_model_len vllm_tensor_parallel_size vllm_device vllm_dtype
    vllm_enable_prefix_caching beta num_iterations epsilon epsilon_high delta reward_weights mask_truncated_completions
    sync_ref_model ref_model_mixup_alpha ref_model_sync_steps log_completions num_completions_to_print log_unique_prompts
    wandb_log_unique_prompts ds3_gather_for_generation shuffle_dataset use_transformers_paged
    use_transformers_continuous_batching transformers_continuous_batching_config log_multimodal max_tool_calling_iterations
    reward_model_name_or_path reward_funcs
    """
)
_OWN: Mapping[str, frozenset[str]] = {
    "trl.KTOConfig": words("desirable_weight undesirable_weight"),
    "trl.CPOConfig": words("cpo_alpha simpo_gamma"),
    "trl.RewardConfig": words("center_rewards_coefficient"),
    "trl.PRMConfig": words("step_separator train_on_last_step_only"),
    "trl.GKDConfig": words("lmbda seq_kd teacher_model_name_or_path teacher_model_init_kwargs"),
    "trl.PPOConfig": words(
        """
        num_ppo_epochs kl_coef cliprange cliprange_value vf_coef gamma lam whiten_rewards response_length stop_token
        stop_token_id missing_eos_penalty sft_model_path reward_model_path num_mini_batches total_episodes kl_estimator
        local_rollout_forward_batch_size num_sample_generations world_size exp_name
        """
    ),
    "trl.RLOOConfig": words("rloo_k normalize_advantages reward_clip_range normalize_reward token_level_kl"),
    "trl.GRPOConfig": words(
        """
        scale_rewards importance_sampling_level top_entropy_quantile multi_objective_aggregation cast_lm_head_to_fp32
        vllm_importance_sampling_correction vllm_importance_sampling_mode vllm_importance_sampling_clip_max
        vllm_importance_sampling_clip_min vllm_importance_sampling_cap off_policy_mask_threshold use_bias_correction_kl
        entropy_coef use_adaptive_entropy entropy_coef_min entropy_coef_max entropy_coef_delta entropy_target
        sapo_temperature_neg sapo_temperature_pos vespo_k_pos vespo_lambda_pos vespo_k_neg vespo_lambda_neg
        log_completions_hub_repo reward_funcs
        """
    ),
    "trl.DPOConfig": words(
        "reference_free rpo_alpha ld_alpha f_divergence_type f_alpha_divergence_coef discopop_tau use_weighting loss_weights"
    ),
    "trl.SFTConfig": _SFT - words("neftune_noise_alpha padding_free dataset_batch_size"),
}
"""Arguments that one class alone has, in the order in which they decide."""
_SHARED = words(
    """
    max_length max_seq_length model_init_kwargs trust_remote_code router_aux_loss_coef chat_template_path eos_token pad_token
    dataset_num_proc activation_offloading pad_to_multiple_of truncation_mode loss_type disable_dropout shuffle_dataset
    """
)
_OF_CLASS: Mapping[str, frozenset[str]] = {
    "trl.SFTConfig": _SFT | _SHARED,
    "trl.RewardConfig": _SHARED | words("max_seq_length"),
    "trl.GRPOConfig": _GROUP | _SHARED,
    "trl.RLOOConfig": _GROUP | _SHARED,
}
TASKS: Mapping[str, str] = {
    "trl.SFTConfig": "sft", "trl.DPOConfig": "dpo", "trl.KTOConfig": "kto", "trl.ORPOConfig": "orpo", "trl.CPOConfig": "cpo",
    "trl.GRPOConfig": "grpo", "trl.RLOOConfig": "rloo", "trl.PPOConfig": "ppo", "trl.GKDConfig": "gkd", "trl.RewardConfig": "reward",
    "trl.PRMConfig": "prm",
}  # fmt: skip
BY_COMMAND: Mapping[str, str] = {
    "sft": "trl.SFTConfig", "dpo": "trl.DPOConfig", "kto": "trl.KTOConfig", "grpo": "trl.GRPOConfig", "rloo": "trl.RLOOConfig",
    "reward": "trl.RewardConfig", "distillation": "trl.DistillationConfig", "orpo": "trl.ORPOConfig", "cpo": "trl.CPOConfig",
}  # fmt: skip
"""What `trl sft` and so on read."""

MODEL_FIELDS = words(
    """
    model_name_or_path model_revision dtype torch_dtype attn_implementation trust_remote_code use_peft lora_r lora_alpha
    lora_dropout lora_target_modules lora_target_parameters lora_modules_to_save lora_task_type use_rslora use_dora
    load_in_8bit load_in_4bit bnb_4bit_quant_type use_bnb_nested_quant bnb_4bit_quant_storage
    """
)
_SCRIPT_FIELDS = words(
    """
    dataset_name dataset_config dataset_train_split dataset_test_split dataset_streaming ignore_bias_buffers
    gradient_checkpointing_use_reentrant
    """
)
_MIXTURE_FIELDS = words("datasets streaming test_split_size")
_OF_MODEL = MODEL_FIELDS - words(
    "model_name_or_path model_revision dtype torch_dtype attn_implementation trust_remote_code"
)
"""Arguments of ModelConfig that those of transformers' example scripts have not."""
_ADAPTER = tuple(name for name in MODEL_FIELDS if name.startswith("lora_") or name in ("use_rslora", "use_dora"))

TABLE: Mapping[str, Meaning] = {
    "model_init_kwargs.dtype": ("training.load_dtype", "text"),
    "model_init_kwargs.torch_dtype": ("training.load_dtype", "text"),
    "model_init_kwargs.attn_implementation": ("training.attention", "text"),
    "model_init_kwargs.use_cache": ("training.use_cache", "flag"),
    "use_liger": ("training.liger", "flag"),
    "use_liger_loss": ("training.liger", "flag"),
    "max_length": ("training.max_length", "number"),
    "max_seq_length": ("training.max_length", "number"),
    "packing": ("training.packing", "flag"),
    "packing_strategy": ("training.packing_strategy", "text"),
    "padding_free": ("training.padding_free", "flag"),
    "dataset_num_proc": ("training.preprocessing_workers", "number"),
    "eos_token": ("training.eos_token", "text"),
    "pad_token": ("training.pad_token", "text"),
    "chat_template_path": ("training.chat_template", "text"),
    "beta": ("training.beta", "number"),
    "kl_coef": ("training.beta", "number"),
    "num_generations": ("training.generations", "number"),
    "rloo_k": ("training.generations", "number"),
    "max_completion_length": ("training.completion_length", "number"),
    "response_length": ("training.completion_length", "number"),
    "max_prompt_length": ("training.prompt_length", "number"),
    "temperature": ("training.temperature", "number"),
    "vllm_gpu_memory_utilization": ("training.vllm_share", "number"),
    "teacher_model_name_or_path": ("training.reference_model", "text"),
    "reward_model_name_or_path": ("training.reference_model", "text"),
    "reward_model_path": ("training.reference_model", "text"),
    "sft_model_path": ("training.model", "text"),
    "test_split_size": ("training.eval_share", "number"),
}
_LORA: Mapping[str, Meaning] = {
    "lora_r": ("training.lora.rank", "number"),
    "lora_alpha": ("training.lora.alpha", "number"),
    "lora_dropout": ("training.lora.dropout", "number"),
    "lora_modules_to_save": ("training.lora.saved_modules", "list"),
    "lora_task_type": ("training.lora.task_type", "text"),
    "use_rslora": ("training.lora.rslora", "flag"),
    "use_dora": ("training.lora.dora", "flag"),
}


def is_kind(document: Node) -> bool:
    """Whether a mapping, or one that stands in it, holds arguments that TRL has beside those of the trainer."""
    return _tells(document) or any(_tells(node) for _, node in document.items())


def _tells(document: Node) -> bool:
    """Whether TRL's own arguments stand in the mapping itself, and none that only others have is needed to say so."""
    keys = frozenset(key for key, _ in document.items())
    common = keys & (trainer.FIELDS | MODEL_FIELDS | _SCRIPT_FIELDS)
    return bool(common) and (owner_of(document) != trainer.OWNER or bool(keys & _OF_MODEL))


def read(document: Node, file: str, owner: str = "") -> Parsed:
    """The settings of a mapping and what they mean. `owner` is the class, where a command names it. Nothing is raised."""
    parsed = blocks.read(document, file, lambda node: schema_of(node, owner))
    return trainer.named(parsed, "trl", document, file)


def schema_of(document: Node, owner: str = "") -> Schema | None:
    """What the arguments of a mapping are of; None where it holds none."""
    sure = bool(owner)
    if not owner and not (_tells(document) or trainer.tells(document)):
        return None
    owner = owner or owner_of(document)
    others = {
        **dict.fromkeys(MODEL_FIELDS - trainer.FIELDS, MODEL),
        **dict.fromkeys(_SCRIPT_FIELDS, SCRIPT),
        **dict.fromkeys(_MIXTURE_FIELDS, MIXTURE),
        "env": blocks.UNKNOWN,
    }
    own = trainer.FIELDS if owner == trainer.OWNER else trainer.FIELDS | fields_of(owner)
    return Schema(owner, own, others, lambda known: facts(known, owner, sure), references, sure)


def fields_of(owner: str) -> frozenset[str]:
    """The arguments that a class has beside those of transformers' trainer, in some release."""
    return _OF_CLASS.get(owner, _PREFERENCE | _SHARED) | _OWN.get(owner, frozenset())


def owner_of(document: Node) -> str:
    """The class whose arguments a mapping holds, as its keys tell; that of transformers where nothing of TRL's is there."""
    keys = frozenset(key for key, _ in document.items())
    for owner, own in _OWN.items():
        if keys & own:
            return owner
    if keys & (_GROUP - _PREFERENCE - words("temperature top_p top_k min_p repetition_penalty chat_template_kwargs shuffle_dataset generation_kwargs cache_implementation")):  # fmt: skip
        return "trl.GRPOConfig"
    if "beta" in keys and keys & trainer.FIELDS:
        return (
            "trl.ORPOConfig" if "max_completion_length" in keys and not keys & words("loss_type") else "trl.DPOConfig"
        )
    if keys & words("max_length max_seq_length padding_free chat_template_path dataset_batch_size") and keys & (
        _SCRIPT_FIELDS | words("use_peft assistant_only_loss")
    ):
        return "trl.SFTConfig"
    return trainer.OWNER


def facts(known: By, owner: str, sure: bool = False) -> Iterator[Fact]:
    """What the arguments mean, under the common names. `sure`: they are read by TRL's own ModelConfig."""
    yield from _task(known, owner)
    yield from _adapter(known, sure)
    yield from trainer.by_table(known, TABLE)
    yield from trainer.facts({key: item for key, item in known.items() if key not in _SCRIPT_FIELDS})
    yield from _texts(known)
    yield from _vllm(known)
    yield from _data(known)


def _task(known: By, owner: str) -> Iterator[Fact]:
    if owner not in TASKS or not known:
        return
    task, item = TASKS[owner], next(iter(known.values()))
    loss = known.get("loss_type")
    named = [loss.value] if loss is not None and isinstance(loss.value, str) else loss.value if loss is not None else []
    if task in ("dpo", "cpo") and isinstance(named, list) and loss is not None:
        other = next((name for name in named if name in ("ipo", "simpo")), None)
        if other is not None:
            task, item = str(other), loss
    yield told("training.task", task, item)


def _adapter(known: By, sure: bool) -> Iterator[Fact]:
    """LoRA as ModelConfig has it: nothing of it holds unless `use_peft` is set, which it is not by itself."""
    switch = known.get("use_peft")
    on = read_as("flag", switch.value) if switch is not None else None
    if switch is not None and on is not None:
        yield told("training.method", "lora" if on else "full", switch)
    if switch is not None and not on:
        return
    yield from trainer.by_table(known, _LORA)
    unused = next((known[key] for key in _ADAPTER if key in known), None)
    if sure and switch is None and unused is not None:
        yield told("training.method", "full", unused)
    targets = known.get("lora_target_modules")
    if targets is None:
        return
    value: object = targets.value
    if isinstance(value, list) and len(value) == 1:
        value = value[0]  # get_peft_config takes a list of one for the text in it
    names = read_as("list", value)
    if names:
        yield told("training.lora.targets", str(names), targets)
    if isinstance(value, str):
        yield told("training.lora.targets_pattern", value != "all-linear", targets)


def _texts(known: By) -> Iterator[Fact]:
    """How long examples are, how they are cut, and what the loss is taken of."""
    if trainer.is_on(known, "assistant_only_loss"):
        yield told("training.loss_on", "assistant", known["assistant_only_loss"])
    completion = known.get("completion_only_loss")
    flag = read_as("flag", completion.value) if completion is not None else None
    if completion is not None and flag is not None:
        yield told("training.loss_on", "completion" if flag else "all", completion)
    cut = known.get("truncation_mode")
    if cut is not None and isinstance(cut.value, str):
        yield told("training.truncation", "truncate", cut)
    padded = known.get("pad_to_multiple_of")
    multiple = number(padded.value) if padded is not None else None
    if padded is not None and multiple is not None:
        yield told("training.pad_to_multiple_of", multiple, padded)


def _vllm(known: By) -> Iterator[Fact]:
    """How vLLM generates. Which way holds where none is named differs from release to release."""
    mode = known.get("vllm_mode")
    if mode is not None and isinstance(mode.value, str) and trainer.is_on(known, "use_vllm"):
        yield told("training.vllm", mode.value, mode)


def _data(known: By) -> Iterator[Fact]:
    """`training.dataset.*`: the mixture, or else the one data set."""
    mixture = known.get("datasets")
    field = known.get("dataset_text_field")
    rows = mixture.value if mixture is not None and isinstance(mixture.value, list) else []
    paths = [
        (str(row["path"]), mixture) for row in rows[:64] if isinstance(row, dict) and isinstance(row.get("path"), str)
    ]
    single = known.get("dataset_name")
    if not paths and single is not None and isinstance(single.value, str) and single.value:
        paths = [(single.value, single)]
    for place, (path, item) in enumerate(paths):
        if item is None:
            continue
        yield told(f"training.dataset.{place}.path", path, item)
        yield told(f"training.dataset.{place}.role", "train", item)
        if field is not None and isinstance(field.value, str):
            yield told(f"training.dataset.{place}.field", field.value, field)


def references(known: By) -> Iterator[Reference]:
    """The files that arguments name."""
    yield from trainer.references(known)
    item = known.get("accelerate_config")
    if item is not None and isinstance(item.value, str) and item.value.endswith((".yaml", ".yml", ".json")):
        yield Reference(item.value, "accelerate", item)
