"""Tiny tokenizers, trained on a few sentences: byte-level BPE and sentencepiece, with special tokens where a family has them."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from tests.models.texts import text

WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""How Llama 3 and its relatives cut a text into words."""


def special(content: str) -> AddedToken:
    """A special token as published tokenizers have it."""
    return AddedToken(content, special=True, normalized=False)


def byte_level(size: int, specials: Sequence[str], first: Sequence[str] = (), plain: Sequence[str] = ()) -> Tokenizer:
    """Byte-level BPE of `size` tokens, then the special tokens, then those that are added and shown (`plain`).

    `first` are special tokens with the lowest ids, as in DeepSeek's tokenizer.
    """
    tokenizer = Tokenizer(BPE(ignore_merges=False))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=[special(one) for one in first],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(text(), trainer)
    tokenizer.add_special_tokens([special(one) for one in specials])
    tokenizer.add_tokens([AddedToken(one, special=False, normalized=False) for one in plain])
    return tokenizer


def begins_with(tokenizer: Tokenizer, bos: str) -> Tokenizer:
    """The same tokenizer, which puts `bos` before a text."""
    number = tokenizer.token_to_id(bos)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, number)]
    )
    return tokenizer


def sentencepiece_model(size: int, pieces: dict[str, str], symbols: Sequence[str] = (), prefix: bool = True) -> bytes:
    """A sentencepiece model (BPE with bytes). `pieces` names unk, bos, eos, pad as the family writes them, in the order of their ids."""
    out = io.BytesIO()
    ids = {f"{name}_id": number for number, name in enumerate(pieces)}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text()),
        model_writer=out,
        model_type="bpe",
        vocab_size=size,
        byte_fallback=True,
        character_coverage=1.0,
        num_threads=1,
        split_digits=True,
        add_dummy_prefix=prefix,
        allow_whitespace_only_pieces=True,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        user_defined_symbols=list(symbols),
        minloglevel=2,
        **({"pad_id": -1} | ids),
        **{f"{name}_piece": piece for name, piece in pieces.items()},
    )
    return out.getvalue()


def from_sentencepiece(model: bytes, specials: Sequence[str], prefix: bool = True) -> Tokenizer:
    """The fast tokenizer that a sentencepiece model converts to; `prefix`: a blank is put before the text."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    pieces = [processor.id_to_piece(number) for number in range(processor.get_piece_size())]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    merges = [
        pair
        for piece in sorted(pieces, key=lambda one: -processor.get_score(vocabulary[one]))
        for pair in _halves(piece, vocabulary)
        if not processor.is_control(vocabulary[piece]) and not processor.is_byte(vocabulary[piece])
    ]
    unknown = processor.id_to_piece(processor.unk_id())
    tokenizer = Tokenizer(BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    parts: list[Any] = [normalizers.Prepend("▁")] if prefix else []
    tokenizer.normalizer = normalizers.Sequence([*parts, normalizers.Replace(" ", "▁")])
    strip: list[Any] = [decoders.Strip(" ", 1, 0)] if prefix else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    tokenizer.add_special_tokens([special(one) for one in specials])
    return tokenizer


def _halves(piece: str, vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    pairs = [(piece[:at], piece[at:]) for at in range(1, len(piece))]
    known = [pair for pair in pairs if pair[0] in vocabulary and pair[1] in vocabulary]
    return sorted(known, key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))


def write_slow_files(tokenizer: Tokenizer, folder: Path) -> None:
    """vocab.json and merges.txt of a byte-level tokenizer."""
    model = json.loads(tokenizer.to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False), encoding="utf-8")
    lines = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *lines, ""]), encoding="utf-8")


def added(tokenizer: Tokenizer) -> dict[str, dict[str, Any]]:
    """`added_tokens_decoder` as tokenizer_config.json of older releases has it."""
    return {
        str(number): {
            "content": token.content,
            "lstrip": token.lstrip,
            "normalized": token.normalized,
            "rstrip": token.rstrip,
            "single_word": token.single_word,
            "special": token.special,
        }
        for number, token in sorted(tokenizer.get_added_tokens_decoder().items())
    }
