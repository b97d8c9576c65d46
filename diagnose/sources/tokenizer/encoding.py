"""What a tokenizer does with text: loaded with the `tokenizers` library, and tried on a set of texts."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from diagnose.model import Fact, Reading, Step, Unchecked
from diagnose.sources.tokenizer.files import Files
from diagnose.sources.tokenizer.vocabulary import Vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TEXTS: Mapping[str, str] = {
    "english": "The quick brown fox, aged 42, isn't here.",
    "code": "def f(x):\n    return {'a': [x**2, -1]}  # ok\n\tif x != 0: pass\n",
    "accents": "Café déjà vu, señor, Größe, Łódź",
    "russian": "Привет, как дела?",
    "chinese": "今天天气怎么样？我们去公园。",
    "japanese": "こんにちは、元気ですか。",
    "arabic": "مرحبا كيف حالك",
    "emoji": "👩🏽‍🚀🎉 ok",
    "blanks": "  two  and   three\n\n\nlines ",
    "rare": "𝔘𐍈 \u00ad x",
}
"""Texts by what they are."""
_CONTROL = re.compile(
    r"<\|(?:im_start|im_end|eot_id|start_header_id|end_header_id|begin_of_text|header_start|header_end|eot|endoftext"
    r"|start|end|message|channel|START_OF_TURN_TOKEN|END_OF_TURN_TOKEN|im_middle|im_user|im_assistant)\|>"
    r"|<start_of_turn>|<end_of_turn>|<｜(?:User|Assistant|begin▁of▁sentence|end▁of▁sentence)｜>|\[gMASK\]|<sop>"
)
"""Marks of turns that are tokens in the models that were trained with them."""
_MARK = re.compile(r"<[|｜][\w▁]{1,40}[|｜]?>|<[\w▁]{1,40}[|｜]>")
_WORDS = frozenset(("WordPiece", "WordLevel"))


def facts(
    known: Files, vocabulary: Vocabulary, special: Mapping[str, str], prompts: Sequence[str]
) -> Iterator[Reading]:
    """The facts; `special` are the special tokens by name (eos, bos, …), `prompts` are rendered conversations, the first the plainest."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    yield Step("loading tokenizer.json")
    tokenizer, trouble = _loaded(vocabulary.data)
    if tokenizer is None:
        yield Fact("tokenizer.load_error", trouble, vocabulary.origin)
        return
    yield from _shifted(tokenizer, vocabulary)
    yield Step("encoding texts with tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    yield from _around(tokenizer, vocabulary, special)
    yield from _round_trips(tokenizer, vocabulary)
    if prompts:
        yield from _prompt(tokenizer, vocabulary, special, prompts)
    if known.good("tokenizer.model") and vocabulary.document is not None:
        yield Step("encoding texts with tokenizer.model")
        yield from _against_sentencepiece(tokenizer, known)


def _loaded(data: bytes) -> tuple[Tokenizer | None, str]:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_buffer(data), ""
    except BaseException as error:  # a panic in the library's Rust is no Exception
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        return None, str(error)[:300] or type(error).__name__


def _shifted(tokenizer: Tokenizer, vocabulary: Vocabulary) -> Iterator[Reading]:
    """Added tokens that get another id than the file gives them, as happens if ids have gaps or collide."""
    assert vocabulary.document is not None
    shifted = []
    for token in vocabulary.document.added():
        real = tokenizer.token_to_id(token.text)
        if real != token.id:
            shifted.append(f"{token.text} is {token.id} in the file and {real} when loaded")
    yield Fact("tokenizer.added_shifted", len(shifted), vocabulary.origin)
    if shifted:
        yield Fact("tokenizer.added_shifted_example", shifted[0][:200], vocabulary.origin)


def _around(tokenizer: Tokenizer, vocabulary: Vocabulary, special: Mapping[str, str]) -> Iterator[Reading]:
    """What is put before and behind a text that is encoded as a prompt."""
    bare = tokenizer.encode("word", add_special_tokens=False).ids
    full = tokenizer.encode("word", add_special_tokens=True).ids
    size = len(bare)
    at = next((at for at in range(len(full) - size + 1) if full[at : at + size] == bare), None)
    if at is None:
        return
    before, behind = full[:at], full[at + size :]
    for name, ids in (("before", before), ("behind", behind)):
        texts = [tokenizer.id_to_token(number) or "?" for number in ids]
        yield Fact(f"tokenizer.adds_{name}", " ".join(texts)[:200] or "nothing", vocabulary.origin)
    eos = tokenizer.token_to_id(special["eos"]) if "eos" in special else None
    bos = tokenizer.token_to_id(special["bos"]) if "bos" in special else None
    yield Fact("tokenizer.adds_bos", bos is not None and bos in before, vocabulary.origin)
    yield Fact("tokenizer.adds_eos", eos is not None and eos in behind, vocabulary.origin)


def sentencepiece_facts(known: Files, vocabulary: Vocabulary, name: str) -> Iterator[Reading]:
    """The facts of a folder whose vocabulary is the SentencePiece model `name` alone."""
    from sentencepiece import SentencePieceProcessor

    yield Step(f"loading {name}")
    model = SentencePieceProcessor()
    try:
        model.Load(known.path(name))
    except (RuntimeError, OSError) as error:
        yield Fact("tokenizer.load_error", str(error)[:300], vocabulary.origin)
        return
    yield Step(f"encoding texts with {name}")
    yield from _told(vocabulary, model.unk_id(), model.EncodeAsIds, model.DecodeIds)


def _round_trips(tokenizer: Tokenizer, vocabulary: Vocabulary) -> Iterator[Reading]:
    yield from _told(
        vocabulary,
        _unknown(tokenizer, vocabulary),
        lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
        lambda ids: tokenizer.decode(ids, skip_special_tokens=False),
    )


def _told(
    vocabulary: Vocabulary,
    unknown_id: int | None,
    encode: Callable[[str], list[int]],
    decode: Callable[[list[int]], str],
) -> Iterator[Reading]:
    """Which texts come back as others, and which have parts that the tokenizer has no token for."""
    lost, unknown = [], []
    for name, text in TEXTS.items():
        ids = encode(text)
        if unknown_id is not None and unknown_id in ids:
            unknown.append(name)
        elif _flat(decode(ids)) != _flat(text):
            lost.append(name)
    yield Fact("tokenizer.unknown_in", ", ".join(unknown) or "none", vocabulary.origin)
    yield Fact("tokenizer.unknown_count", len(unknown), vocabulary.origin)
    if vocabulary.algorithm not in _WORDS:
        yield Fact("tokenizer.altered", ", ".join(lost) or "none", vocabulary.origin)
        yield Fact("tokenizer.altered_count", len(lost), vocabulary.origin)


def _flat_pieces(pieces: list[str]) -> list[str]:
    """Pieces without the blank that some settings put before a text and others do not."""
    return [pieces[0].lstrip("▁"), *pieces[1:]] if pieces and pieces[0] != "▁" else pieces[1:]


def _flat(text: str) -> str:
    """Without blanks at the front, which SentencePiece puts there and takes away."""
    return text.lstrip(" ")


def _unknown(tokenizer: Tokenizer, vocabulary: Vocabulary) -> int | None:
    assert vocabulary.document is not None
    model = vocabulary.document.model
    if isinstance(model.unk_token, str):
        return tokenizer.token_to_id(model.unk_token)
    return model.unk_id if isinstance(model.unk_id, int) else None


def _prompt(
    tokenizer: Tokenizer, vocabulary: Vocabulary, special: Mapping[str, str], prompts: Sequence[str]
) -> Iterator[Reading]:
    origin = vocabulary.origin
    prompt = prompts[0]
    ids = tokenizer.encode(prompt, add_special_tokens=False).ids
    yield Fact("template.prompt_tokens", len(ids), origin)
    bos = tokenizer.token_to_id(special["bos"]) if "bos" in special else None
    if bos is not None:
        full = tokenizer.encode(prompt, add_special_tokens=True).ids
        yield Fact("template.bos_twice_when_encoded", full[:2] == [bos, bos], origin)
    whole = "\n".join(prompts)
    marks = dict.fromkeys(_CONTROL.findall(whole))
    yield from _misspelt(vocabulary, whole)
    split = [mark for mark in marks if len(tokenizer.encode(mark, add_special_tokens=False).ids) > 1]
    pieces = [mark for mark in split if tokenizer.token_to_id(mark) is None]
    yield Fact("template.marks_split", len(pieces), origin)
    if pieces:
        yield Fact("template.split_marks", ", ".join(pieces)[:200], origin)


def _misspelt(vocabulary: Vocabulary, prompt: str) -> Iterator[Reading]:
    """A mark of the prompt that is no token, and differs from one by a letter or two: <|im_end>."""
    from difflib import get_close_matches

    assert vocabulary.document is not None
    tokens = [token.text for token in vocabulary.document.added()]
    for mark in dict.fromkeys(_MARK.findall(prompt)):
        if mark in tokens:
            continue
        near = [token for token in get_close_matches(mark, tokens[:2000], 3, 0.88) if abs(len(token) - len(mark)) <= 2]
        if near and near[0] not in prompt:
            yield Fact("template.misspelt", mark[:60], vocabulary.origin)
            yield Fact("template.meant", near[0][:60], vocabulary.origin)
            return


def _against_sentencepiece(tokenizer: Tokenizer, known: Files) -> Iterator[Reading]:
    """Whether tokenizer.model makes the same ids of plain texts."""
    from sentencepiece import SentencePieceProcessor

    slow = SentencePieceProcessor()
    try:
        slow.Load(known.path("tokenizer.model"))
    except (RuntimeError, OSError) as error:
        yield Unchecked(known.origin("tokenizer.model"), f"SentencePiece does not load it: {error}"[:300])
        return
    for name in ("english", "chinese", "accents"):
        one, other = tokenizer.encode(TEXTS[name], add_special_tokens=False).tokens, slow.EncodeAsPieces(TEXTS[name])
        if _flat_pieces(one) != _flat_pieces(other):
            yield Fact("tokenizer.sentencepiece_encodes_differently", name, known.origin("tokenizer.model"))
            return
