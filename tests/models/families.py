"""The tiny models of the proof: a config as its family publishes it, its tokenizer and what stands beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from tokenizers import Tokenizer

from tests.models.vocabularies import begins_with, byte_level, from_sentencepiece, sentencepiece_model

TEMPLATES = Path(__file__).parent / "templates"


class Words(Struct, frozen=True):
    """A tokenizer: the fast one, the sentencepiece model behind it (empty: none), whether vocab.json and merges.txt are written."""

    fast: Tokenizer
    sentencepiece: bytes = b""
    slow_files: bool = False


class Family(Struct, frozen=True):
    """A model folder. `tokens` is tokenizer_config.json, `style` how its files are written: by transformers 4 or 5.

    `template` is the name of a file in templates/. `shard` is the largest weights file in bytes (0: one file), `pickle`
    whether the weights are a pytorch_model.bin.
    """

    name: str
    config: Mapping[str, Any]
    words: Callable[[], Words]
    tokens: Mapping[str, Any]
    generation: Mapping[str, Any] = {}
    template: str = ""
    style: int = 4
    shard: int = 0
    pickle: bool = False
    dtype: str = "bfloat16"


SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 320,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "use_cache": True,
}
HEADER_TOKENS = (
    "<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad_id|>", "<|start_header_id|>", "<|end_header_id|>",
    "<|eom_id|>", "<|eot_id|>", "<|python_tag|>",
    *(f"<|reserved_special_token_{number}|>" for number in range(12)),
)  # fmt: skip
CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CALLS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
CHANNELS = (
    "<|startoftext|>", "<|endoftext|>", "<|return|>", "<|constrain|>", "<|channel|>", "<|start|>", "<|end|>",
    "<|message|>", "<|call|>",
)  # fmt: skip
BARS_FIRST = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>")
BARS = ("<｜User｜>", "<｜Assistant｜>", "<|EOT|>")
PLAIN = {"unk": "<unk>", "bos": "<s>", "eos": "</s>"}
PHI = (
    "<|endoftext|>", "<|assistant|>", "<|placeholder1|>", "<|placeholder2|>", "<|placeholder3|>", "<|placeholder4|>",
    "<|system|>", "<|end|>", "<|placeholder5|>", "<|placeholder6|>", "<|user|>",
)  # fmt: skip


def _pieces(
    count: int, pieces: Mapping[str, str], bos: str, *symbols: str, added: Sequence[str] = (), prefix: bool = True
) -> Words:
    model = sentencepiece_model(count, dict(pieces), symbols, prefix)
    fast = from_sentencepiece(model, [*pieces.values(), *symbols, *added], prefix)
    return Words(begins_with(fast, bos) if bos else fast, model)


LLAMA = Family(
    "llama",
    {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 300,
        "eos_token_id": [301, 305, 306],
        "head_dim": 8,
        "max_position_embeddings": 131072,
        "mlp_bias": False,
        "model_type": "llama",
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-05,
        "rope_scaling": {
            "factor": 8.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        },
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
        **SIZES,
    },
    lambda: Words(begins_with(byte_level(300, HEADER_TOKENS), "<|begin_of_text|>")),
    {
        "bos_token": "<|begin_of_text|>",
        "clean_up_tokenization_spaces": True,
        "eos_token": "<|eot_id|>",
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 131072,
        "pad_token": "<|finetune_right_pad_id|>",
        "tokenizer_class": "PreTrainedTokenizerFast",
    },
    {"bos_token_id": 300, "do_sample": True, "eos_token_id": [301, 305, 306], "temperature": 0.6, "top_p": 0.9},
    "headers",
    shard=30000,
)
QWEN2 = Family(
    "qwen2",
    {
        "architectures": ["Qwen2ForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": 300,
        "eos_token_id": 302,
        "max_position_embeddings": 32768,
        "max_window_layers": 2,
        "model_type": "qwen2",
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "sliding_window": 32768,
        "tie_word_embeddings": True,
        "use_sliding_window": False,
        **SIZES,
    },
    lambda: Words(byte_level(300, CHATML, plain=CALLS[:2]), slow_files=True),
    {
        "add_prefix_space": False,
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 32768,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    },
    {"bos_token_id": 300, "do_sample": True, "eos_token_id": [302, 300], "pad_token_id": 300, "repetition_penalty": 1.1, "temperature": 0.7, "top_k": 20, "top_p": 0.8},
    "chatml",
)  # fmt: skip
QWEN3_TOKENS = {
    "add_bos_token": False,
    "add_prefix_space": False,
    "bos_token": None,
    "clean_up_tokenization_spaces": False,
    "eos_token": "<|im_end|>",
    "errors": "replace",
    "model_max_length": 131072,
    "pad_token": "<|endoftext|>",
    "split_special_tokens": False,
    "tokenizer_class": "Qwen2Tokenizer",
    "unk_token": None,
}
QWEN3_CONFIG = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 300,
    "eos_token_id": 302,
    "head_dim": 16,
    "max_position_embeddings": 40960,
    "max_window_layers": 2,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "use_sliding_window": False,
    **SIZES,
}
QWEN3_GENERATION = {"bos_token_id": 300, "do_sample": True, "eos_token_id": [302, 300], "pad_token_id": 300, "temperature": 0.6, "top_k": 20, "top_p": 0.95}  # fmt: skip
QWEN3 = Family(
    "qwen3",
    {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "tie_word_embeddings": True, **QWEN3_CONFIG},
    lambda: Words(byte_level(300, CHATML, plain=CALLS), slow_files=True),
    QWEN3_TOKENS,
    QWEN3_GENERATION,
    "thinking",
)
QWEN3_MOE = Family(
    "qwen3-moe",
    {
        "architectures": ["Qwen3MoeForCausalLM"],
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "model_type": "qwen3_moe",
        "moe_intermediate_size": 16,
        "norm_topk_prob": True,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "output_router_logits": False,
        "router_aux_loss_coef": 0.001,
        "tie_word_embeddings": False,
        **QWEN3_CONFIG,
    },
    QWEN3.words,
    QWEN3_TOKENS,
    QWEN3_GENERATION,
    "thinking",
    style=5,
)
MISTRAL = Family(
    "mistral",
    {
        "architectures": ["MistralForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "max_position_embeddings": 32768,
        "model_type": "mistral",
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "sliding_window": 4096,
        "tie_word_embeddings": False,
        **SIZES,
    },
    lambda: _pieces(320, PLAIN, "<s>"),
    {
        "add_bos_token": True,
        "add_eos_token": False,
        "additional_special_tokens": [],
        "bos_token": "<s>",
        "clean_up_tokenization_spaces": False,
        "eos_token": "</s>",
        "legacy": False,
        "model_max_length": 1000000000000000019884624838656,
        "pad_token": None,
        "sp_model_kwargs": {},
        "spaces_between_special_tokens": False,
        "tokenizer_class": "LlamaTokenizer",
        "unk_token": "<unk>",
        "use_default_system_prompt": False,
    },
    {"_from_model_config": True, "bos_token_id": 1, "eos_token_id": 2},
    "instructions",
)
GEMMA3 = Family(
    "gemma3",
    {
        "architectures": ["Gemma3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attn_logit_softcapping": None,
        "bos_token_id": 2,
        "cache_implementation": "hybrid",
        "eos_token_id": [1, 6],
        "final_logit_softcapping": None,
        "head_dim": 16,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 32768,
        "model_type": "gemma3_text",
        "pad_token_id": 0,
        "query_pre_attn_scalar": 16,
        "rms_norm_eps": 1e-06,
        "rope_local_base_freq": 10000,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "sliding_window": 512,
        "sliding_window_pattern": 2,
        **{key: value for key, value in SIZES.items() if key != "hidden_act"},
    },
    lambda: _pieces(320, {"pad": "<pad>", "eos": "<eos>", "bos": "<bos>", "unk": "<unk>"}, "<bos>", "<mask>", "<start_of_turn>", "<end_of_turn>", prefix=False),
    {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<bos>",
        "clean_up_tokenization_spaces": False,
        "eos_token": "<eos>",
        "extra_special_tokens": {},
        "model_max_length": 1000000000000000019884624838656,
        "pad_token": "<pad>",
        "sp_model_kwargs": None,
        "spaces_between_special_tokens": False,
        "tokenizer_class": "GemmaTokenizer",
        "unk_token": "<unk>",
        "use_default_system_prompt": False,
    },
    {"bos_token_id": 2, "cache_implementation": "hybrid", "do_sample": True, "eos_token_id": [1, 6], "pad_token_id": 0, "top_k": 64, "top_p": 0.95},
    "turns",
)  # fmt: skip
PHI3 = Family(
    "phi3",
    {
        "architectures": ["Phi3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "embd_pdrop": 0.0,
        "eos_token_id": 320,
        "max_position_embeddings": 131072,
        "model_type": "phi3",
        "original_max_position_embeddings": 4096,
        "pad_token_id": 320,
        "resid_pdrop": 0.0,
        "rms_norm_eps": 1e-05,
        "rope_scaling": {
            "long_factor": [1.05, 1.4, 2.6, 8.2],
            "short_factor": [1.0, 1.05, 1.1, 1.2],
            "type": "longrope",
        },
        "rope_theta": 10000.0,
        "sliding_window": 262144,
        "tie_word_embeddings": False,
        **SIZES,
        "num_key_value_heads": 4,
        "vocab_size": 336,
    },
    lambda: _pieces(320, PLAIN, "", added=PHI),
    {
        "add_bos_token": False,
        "add_eos_token": False,
        "bos_token": "<s>",
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|endoftext|>",
        "legacy": False,
        "model_max_length": 131072,
        "pad_token": "<|endoftext|>",
        "padding_side": "left",
        "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizer",
        "unk_token": "<unk>",
        "use_default_system_prompt": False,
    },
    {"_from_model_config": True, "bos_token_id": 1, "eos_token_id": [320, 321, 327], "pad_token_id": 320},
    "roles",
)
DEEPSEEK = Family(
    "deepseek",
    {
        "architectures": ["DeepseekV3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "ep_size": 1,
        "first_k_dense_replace": 1,
        "kv_lora_rank": 16,
        "max_position_embeddings": 163840,
        "model_type": "deepseek_v3",
        "moe_intermediate_size": 16,
        "moe_layer_freq": 1,
        "n_group": 2,
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "norm_topk_prob": True,
        "num_experts_per_tok": 2,
        "num_nextn_predict_layers": 1,
        "q_lora_rank": 24,
        "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 8,
        "rms_norm_eps": 1e-06,
        "rope_scaling": {
            "beta_fast": 32,
            "beta_slow": 1,
            "factor": 40,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "original_max_position_embeddings": 4096,
            "type": "yarn",
        },
        "rope_theta": 10000,
        "routed_scaling_factor": 2.5,
        "scoring_func": "sigmoid",
        "tie_word_embeddings": False,
        "topk_group": 1,
        "topk_method": "noaux_tc",
        "v_head_dim": 16,
        **SIZES,
        "num_key_value_heads": 4,
    },
    lambda: Words(begins_with(byte_level(303, BARS, first=BARS_FIRST), BARS_FIRST[0])),
    {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": BARS_FIRST[0],
        "clean_up_tokenization_spaces": False,
        "eos_token": BARS_FIRST[1],
        "legacy": True,
        "model_max_length": 131072,
        "pad_token": BARS_FIRST[1],
        "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizerFast",
        "unk_token": None,
    },
    {"_from_model_config": True, "bos_token_id": 0, "do_sample": True, "eos_token_id": 1, "temperature": 0.6, "top_p": 0.95},
    "bars",
)  # fmt: skip
GPT_OSS = Family(
    "gpt-oss",
    {
        "architectures": ["GptOssForCausalLM"],
        "attention_bias": True,
        "attention_dropout": 0.0,
        "eos_token_id": 302,
        "experts_per_token": 2,
        "head_dim": 16,
        "initial_context_length": 4096,
        "layer_types": ["sliding_attention", "full_attention"],
        "max_position_embeddings": 131072,
        "model_type": "gpt_oss",
        "num_experts_per_tok": 2,
        "num_local_experts": 4,
        "output_router_logits": False,
        "pad_token_id": 301,
        "rms_norm_eps": 1e-05,
        "rope_scaling": {
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "factor": 32.0,
            "original_max_position_embeddings": 4096,
            "rope_type": "yarn",
            "truncate": False,
        },
        "rope_theta": 150000,
        "router_aux_loss_coef": 0.9,
        "sliding_window": 128,
        "swiglu_limit": 7.0,
        "tie_word_embeddings": False,
        **SIZES,
        "intermediate_size": 16,
    },
    lambda: Words(byte_level(300, CHANNELS)),
    {
        "bos_token": "<|startoftext|>",
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|return|>",
        "extra_special_tokens": {},
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 1000000000000000019884624838656,
        "pad_token": "<|endoftext|>",
        "tokenizer_class": "PreTrainedTokenizerFast",
    },
    {"bos_token_id": 300, "do_sample": True, "eos_token_id": [302, 301, 308], "pad_token_id": 301},
    "channels",
    style=5,
)
GPT2 = Family(
    "gpt2",
    {
        "activation_function": "gelu_new",
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.1,
        "bos_token_id": 300,
        "embd_pdrop": 0.1,
        "eos_token_id": 300,
        "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-05,
        "model_type": "gpt2",
        "n_ctx": 128,
        "n_embd": 16,
        "n_head": 4,
        "n_layer": 2,
        "n_positions": 128,
        "resid_pdrop": 0.1,
        "summary_activation": None,
        "summary_first_dropout": 0.1,
        "summary_proj_to_labels": True,
        "summary_type": "cls_index",
        "summary_use_proj": True,
        "vocab_size": 301,
    },
    lambda: Words(byte_level(300, ["<|endoftext|>"]), slow_files=True),
    {"model_max_length": 128},
    {"_from_model_config": True, "bos_token_id": 300, "eos_token_id": 300},
    dtype="float32",
)
LLAMA2_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "max_position_embeddings": 4096,
    "model_type": "llama",
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    **SIZES,
    "num_key_value_heads": 4,
}
LLAMA2_TOKENS = {
    "add_bos_token": True,
    "add_eos_token": False,
    "bos_token": "<s>",
    "clean_up_tokenization_spaces": False,
    "eos_token": "</s>",
    "legacy": False,
    "model_max_length": 1000000000000000019884624838656,
    "pad_token": None,
    "sp_model_kwargs": {},
    "tokenizer_class": "LlamaTokenizer",
    "unk_token": "<unk>",
}
LLAMA2 = Family(
    "llama2-chat",
    LLAMA2_CONFIG,
    lambda: _pieces(320, PLAIN, "<s>"),
    LLAMA2_TOKENS,
    {"_from_model_config": True, "bos_token_id": 1, "do_sample": True, "eos_token_id": 2, "max_length": 4096, "pad_token_id": 0, "temperature": 0.6, "top_p": 0.9},
    "instructions",
    dtype="float16",
)  # fmt: skip
PICKLED = Family(
    "pickled-base",
    {**LLAMA2_CONFIG, "hidden_size": 16, "intermediate_size": 32, "max_position_embeddings": 2048},
    lambda: _pieces(320, PLAIN, "<s>"),
    {**LLAMA2_TOKENS, "model_max_length": 2048},
    {"_from_model_config": True, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
    pickle=True,
    dtype="float16",
)

FAMILIES: tuple[Family, ...] = (
    LLAMA, QWEN2, QWEN3, QWEN3_MOE, MISTRAL, GEMMA3, PHI3, DEEPSEEK, GPT_OSS, GPT2, LLAMA2, PICKLED,
)  # fmt: skip
