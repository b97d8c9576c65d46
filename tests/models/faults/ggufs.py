"""Faults of GGUF files."""

from __future__ import annotations

import struct

from tests.models.edits import Edit, at, cut, gguf_value, page, patch, pointer, remove, rename, tensor_info, write
from tests.models.faults.fault import Fault

ONE = "tiny-q8.gguf"
FIRST, LAST = "tiny-split-00001-of-00002.gguf", "tiny-split-00002-of-00002.gguf"


TURNED = b"".join(
    [
        b"GGUF",
        struct.pack(">IQQQ", 3, 0, 1, len("general.architecture")),
        b"general.architecture",
        struct.pack(">IQ", 8, len("llama")),
        b"llama",
    ]
)
"""A file for machines with the other order of bytes, without a tensor."""


def _fault(name: str, rule: str, follows: str, *edits: Edit, file: str = ONE) -> Fault:
    real = "llama-server" if follows else ""
    return Fault(name, "gguf", rule, edits, target=f"gguf/{file}", real=real, follows=follows)


FAULTS: tuple[Fault, ...] = (
    _fault("gguf-is-cut-off", "weights-file-cut-short", "is not within the file bounds", cut(ONE, 0.7)),
    _fault("gguf-is-cut-off-inside-the-header", "weights-file-cut-short", "failed to read key-value pairs", cut(ONE, 2000)),
    _fault("gguf-is-empty", "weights-file-empty", "failed to read magic", write(ONE, "")),
    _fault("gguf-is-an-lfs-pointer", "weights-file-is-pointer", "invalid magic characters: 'vers'", pointer(ONE)),
    _fault("gguf-is-a-web-page", "weights-file-is-web-page", "invalid magic characters: '<!do'", page(ONE)),
    _fault("gguf-has-an-older-format", "gguf-file-in-old-format", "invalid magic characters: 'ggjt'", at(ONE, 0, b"ggjt")),
    _fault("gguf-has-version-one", "gguf-version-not-read", "GGUFv1 is no longer supported", at(ONE, 4, struct.pack("<I", 1))),
    _fault("gguf-has-a-version-of-the-future", "gguf-version-not-read", "only supports up to version 3", at(ONE, 4, struct.pack("<I", 9))),
    _fault("gguf-is-big-endian", "gguf-big-endian", "is there a mismatch between the host and model endianness", write(ONE, TURNED)),
    _fault("gguf-architecture-is-unknown", "gguf-architecture-not-known", "unknown model architecture: 'lIama'", gguf_value(ONE, "general.architecture", b"lIama")),
    _fault("gguf-lacks-the-layer-count", "gguf-keys-of-model-missing", "key not found in model: llama.block_count", patch(ONE, b"llama.block_count", b"llama.block_qount")),
    _fault("gguf-lacks-the-context-length", "gguf-keys-of-model-missing", "key not found in model: llama.context_length", patch(ONE, b"llama.context_length", b"llama.context_lengtk")),
    _fault("gguf-lacks-the-head-count", "gguf-keys-of-model-missing", "'blk.0.attn_q.weight' has wrong shape", patch(ONE, b"llama.attention.head_count\x04", b"llama.attention.head_qount\x04")),
    _fault("gguf-has-a-layer-too-many", "gguf-layers-missing", "'blk.2.attn_norm.weight' not found", gguf_value(ONE, "llama.block_count", struct.pack("<I", 3))),
    _fault("gguf-width-differs-from-the-tensors", "gguf-width-differs", "invalid n_rot: 8, expected 16", gguf_value(ONE, "llama.embedding_length", struct.pack("<I", 64))),
    _fault("gguf-lacks-a-tensor", "gguf-tensors-lacking-in-a-layer", "'blk.1.attn_q.weight' not found", patch(ONE, b"blk.1.attn_q.weight", b"blk.1.attn_Q.weight")),
    _fault("gguf-tensor-has-an-unknown-type", "gguf-tensor-type-not-read", "has invalid ggml type 77", tensor_info(ONE, "output.weight", 2, struct.pack("<I", 77), "type")),
    _fault("gguf-tensor-has-a-removed-type", "gguf-tensor-type-not-read", "of type 4 (DEPRECATED)", tensor_info(ONE, "output.weight", 2, struct.pack("<I", 4), "type")),
    _fault("gguf-tensor-lies-beyond-the-end", "weights-header-broken", "has offset 1099511627776, expected", tensor_info(ONE, "output_norm.weight", 1, struct.pack("<Q", 1 << 40), "offset")),
    _fault("gguf-lacks-the-tokens", "gguf-tokens-missing", "cannot find tokenizer vocab in model file", patch(ONE, b"tokenizer.ggml.tokens", b"tokenizer.ggml.tokenz")),
    _fault("gguf-lacks-the-merges", "gguf-merges-missing", "cannot find tokenizer merges in model file", patch(ONE, b"tokenizer.ggml.merges", b"tokenizer.ggml.mergez")),
    _fault("gguf-lacks-the-tokenizer", "gguf-tokenizer-missing", "key not found in model: tokenizer.ggml.model", patch(ONE, b"tokenizer.ggml.model", b"tokenizer.ggml.modem")),
    _fault("gguf-pre-tokenizer-is-unknown", "gguf-pre-tokenizer-not-known", "unknown pre-tokenizer type: 'llama-bpf'", gguf_value(ONE, "tokenizer.ggml.pre", b"llama-bpf")),
    _fault("gguf-eos-outside-the-vocabulary", "gguf-special-token-outside", "", gguf_value(ONE, "tokenizer.ggml.eos_token_id", struct.pack("<I", 128009))),
    _fault("gguf-part-is-missing", "weights-shard-missing", "failed to load GGUF split", remove(LAST), file=FIRST),
    _fault("gguf-second-part-is-given", "gguf-part-is-not-the-first", "model must be loaded with the first split", file=LAST),
    _fault("gguf-parts-were-renamed", "gguf-part-renamed", "invalid split file name", rename(FIRST, "model-a.gguf"), rename(LAST, "model-b.gguf"), file="model-a.gguf"),
    _fault("gguf-count-of-tensors-is-a-bomb", "weights-header-broken", "number of tensors is 1152921504606846976", at(ONE, 8, struct.pack("<Q", 1 << 60))),
)  # fmt: skip
