"""Makes tiny GGUF files through the gguf package, as llama.cpp's converter writes a llama: a single file of each tokenizer, and one in parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from sentencepiece import SentencePieceProcessor

from tests.models.families import LLAMA, LLAMA2, TEMPLATES

EMBEDDING, FEED, LAYERS, HEADS, KV_HEADS, TOKENS = 32, 64, 2, 4, 2, 320


def build(folder: Path) -> None:
    """Three models: `tiny-q8.gguf` (byte-level BPE), `tiny-spm.gguf` (sentencepiece) and `tiny-split-0000N-of-00002.gguf`."""
    folder.mkdir(parents=True)
    _write(folder / "tiny-q8.gguf", _byte_level)
    _write(folder / "tiny-spm.gguf", _sentencepiece)
    _write(folder / "tiny-split.gguf", _byte_level, split_max_tensors=11)


def _write(path: Path, tokenizer: Any, **options: Any) -> None:
    writer = gguf.GGUFWriter(path, "llama", **options)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name("Tiny")
    writer.add_block_count(LAYERS)
    writer.add_context_length(8192)
    writer.add_embedding_length(EMBEDDING)
    writer.add_feed_forward_length(FEED)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(500000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(TOKENS)
    writer.add_rope_dimension_count(EMBEDDING // HEADS)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    tokenizer(writer)
    random = np.random.default_rng(22)
    for name, shape in _shapes().items():
        if len(shape) == 1:
            writer.add_tensor(name, np.ones(shape, np.float32))
            continue
        values = random.standard_normal(shape, np.float32) * np.float32(0.02)
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _shapes() -> dict[str, tuple[int, ...]]:
    """The tensors of a llama and their shapes, rows first."""
    narrow = EMBEDDING // HEADS * KV_HEADS
    found: dict[str, tuple[int, ...]] = {"token_embd.weight": (TOKENS, EMBEDDING)}
    for layer in range(LAYERS):
        found |= {
            f"blk.{layer}.attn_norm.weight": (EMBEDDING,),
            f"blk.{layer}.ffn_down.weight": (EMBEDDING, FEED),
            f"blk.{layer}.ffn_gate.weight": (FEED, EMBEDDING),
            f"blk.{layer}.ffn_up.weight": (FEED, EMBEDDING),
            f"blk.{layer}.ffn_norm.weight": (EMBEDDING,),
            f"blk.{layer}.attn_k.weight": (narrow, EMBEDDING),
            f"blk.{layer}.attn_output.weight": (EMBEDDING, EMBEDDING),
            f"blk.{layer}.attn_q.weight": (EMBEDDING, EMBEDDING),
            f"blk.{layer}.attn_v.weight": (narrow, EMBEDDING),
        }
    return found | {"output.weight": (TOKENS, EMBEDDING), "output_norm.weight": (EMBEDDING,)}


def _byte_level(writer: gguf.GGUFWriter) -> None:
    words = json.loads(LLAMA.words().fast.to_str())
    names = {number: token for token, number in words["model"]["vocab"].items()}
    kinds = dict.fromkeys(names, gguf.TokenType.NORMAL)
    for token in words["added_tokens"]:
        names[token["id"]] = token["content"]
        kinds[token["id"]] = gguf.TokenType.CONTROL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list([names[number] for number in range(TOKENS)])
    writer.add_token_types([kinds[number] for number in range(TOKENS)])
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in words["model"]["merges"]])
    writer.add_bos_token_id(300)
    writer.add_eos_token_id(306)
    writer.add_pad_token_id(302)
    writer.add_chat_template((TEMPLATES / "headers.jinja").read_text(encoding="utf-8"))


def _sentencepiece(writer: gguf.GGUFWriter) -> None:
    words = SentencePieceProcessor(model_proto=LLAMA2.words().sentencepiece)
    numbers = range(words.get_piece_size())
    kinds = [
        gguf.TokenType.UNKNOWN if words.is_unknown(number)
        else gguf.TokenType.CONTROL if words.is_control(number)
        else gguf.TokenType.BYTE if words.is_byte(number)
        else gguf.TokenType.NORMAL
        for number in numbers
    ]  # fmt: skip
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([words.id_to_piece(number) for number in numbers])
    writer.add_token_scores([words.get_score(number) for number in numbers])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_chat_template((TEMPLATES / "instructions.jinja").read_text(encoding="utf-8"))
