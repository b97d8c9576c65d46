"""Writes defaults.json anew: what a config.json that leaves a key out means, by model type.

Run it with an interpreter that has the newest transformers: `python dataset/models/refresh.py`. It reads the defaults
of the configuration classes, never a model.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
from typing import Any

_NAMES = """hidden_size num_hidden_layers num_attention_heads num_key_value_heads head_dim intermediate_size vocab_size
    max_position_embeddings tie_word_embeddings sliding_window use_sliding_window max_window_layers
    sliding_window_pattern attention_chunk_size no_rope_layer_interval interleave_moe_layer_step num_local_experts
    num_experts n_routed_experts num_experts_per_tok moe_intermediate_size shared_expert_intermediate_size
    n_shared_experts first_k_dense_replace decoder_sparse_step mlp_only_layers kv_lora_rank q_lora_rank
    qk_nope_head_dim qk_rope_head_dim v_head_dim index_head_dim index_n_heads attention_bias mlp_bias state_size
    conv_kernel expand n_groups num_heads time_step_rank use_conv_bias use_bias mamba_n_heads mamba_d_head
    mamba_n_groups mamba_d_state mamba_d_conv mamba_expand mamba_dt_rank mamba_conv_bias mamba_proj_bias mamba_d_ssm
    mamba_rms_norm mamba_num_heads mamba_head_dim ssm_state_size mamba_ssm_cache_dtype attn_layer_period
    attn_layer_offset expert_layer_period expert_layer_offset attn_layer_indices linear_num_key_heads
    linear_num_value_heads linear_key_head_dim linear_value_head_dim linear_conv_kernel_dim full_attention_interval
    lru_width conv1d_width attention_window_size block_types conv_L_cache full_attn_idxs num_kv_shared_layers
    hidden_size_per_layer_input vocab_size_per_layer_input laurel_rank altup_num_inputs global_head_dim
    num_global_key_value_heads attention_k_eq_v global_attn_every_n_layers multi_query multi_query_attention
    multi_query_group_num new_decoder_architecture num_kv_heads parallel_attn alibi bias ffn_hidden_size kv_channels
    n_embd n_layer n_head n_inner n_positions n_layers n_heads d_model d_kv d_ff num_layers num_decoder_layers
    decoder_layers decoder_attention_heads decoder_ffn_dim encoder_layers encoder_attention_heads encoder_ffn_dim
    is_encoder_decoder ffn_dim word_embed_proj_dim do_layer_norm_before rotary_dim use_qk_norm qk_layernorm
    shared_intermediate_size moe_shared_expert_intermediate_size moe_latent_size intermediate_size_mlp use_parallel_residual
    feed_forward_proj max_source_positions max_target_positions scale_embedding shared_transformer_every
    num_mem_blocks use_mem_rope use_shared_attention_adapter adapter_rank num_nextn_predict_layers norm_topk_prob
    add_router_probs conv_bias block_auto_adjust_ff_dim block_multiple_of block_ffn_dim_multiplier
    num_dense_layers tie_embedding is_gated_act cross_attention_layers layer_norm_eps logits_scaling
    num_shared_experts use_expert_bias moe_layer_freq attention_heads head_dim_k query_pre_attn_scalar window_size"""
KEYS = frozenset(_NAMES.split())
"""The keys that shapes of weights and caches follow from."""


def rows() -> list[dict[str, Any]]:
    """A row per model type: the defaults of KEYS, other names of keys, and the model type of the part that is a decoder."""
    from transformers import CONFIG_MAPPING

    return [row(name, CONFIG_MAPPING[name]) for name in sorted(CONFIG_MAPPING)]


def row(name: str, kind: Any) -> dict[str, Any]:
    """One model type. Keys whose default is None are left out: a class computes them from others."""
    found = {field.name: field.default for field in dataclasses.fields(kind) if field.name in KEYS}
    told = {key: value for key, value in found.items() if isinstance(value, (bool, int, float, str))}
    made: dict[str, Any] = {"type": name, "defaults": dict(sorted(told.items()))}
    names = {common: own for common, own in kind.attribute_map.items() if common in KEYS or common == "layer_types"}
    if names:
        made["names"] = dict(sorted(names.items()))
    parts = {key: getattr(part, "model_type", "") for key, part in (kind.sub_configs or {}).items()}
    part = next((key for key in ("text_config", "thinker_config", "decoder", "llm_config") if key in parts), None)
    if part is not None:
        made["decoder"] = part
        if parts[part]:
            made["decoder_type"] = parts[part]
    return made


def main() -> None:
    """Write defaults.json beside this file."""
    import transformers

    table = rows()
    place = os.path.join(os.path.dirname(os.path.abspath(__file__)), "defaults.json")
    with open(place, "w", encoding="utf-8") as file:
        head = {"source": f"https://pypi.org/project/transformers/{transformers.__version__}/"}
        head |= {"date": datetime.date.today().isoformat(), "note": "defaults of the configuration classes"}
        file.write(json.dumps(head)[:-1] + ', "rows": [\n')
        file.write(",\n".join(json.dumps(item, separators=(",", ":")) for item in table))
        file.write("\n]}\n")


if __name__ == "__main__":
    main()
