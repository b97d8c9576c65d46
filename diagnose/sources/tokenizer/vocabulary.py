"""Which text has which id: the vocabulary of a tokenizer as each of its files writes it, and where they differ."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from diagnose.model import Fact, Reading, Unchecked
from diagnose.sources import files as plain
from diagnose.sources import jsonfile
from diagnose.sources.tokenizer import files, pieces
from diagnose.sources.tokenizer.document import Added, Document, mentions, read, texts_under
from diagnose.sources.tokenizer.files import Files

MOST_MERGES = 64 << 20
MOST_MARKS = 12_000
"""Letters that the marks of a vocabulary may have together."""
_MARK = re.compile(r"<[^\s<>]{1,42}>|\[[^\s\[\]]{1,40}\]")
_RESERVED = re.compile(
    r"(?i)reserved|unused|placeholder|extra_id|<0x[0-9a-f]{2}>|(?:control|special)_\d|_\d{2,}\b|loc\d|seg\d"
)
"""Tokens that stand for nothing, bytes, and places in pictures."""
_MISTRAL = ("mistral", "mistral3", "voxtral", "ministral", "pixtral")
"""Model types whose tokenizer.json transformers suspects of the wrong pattern."""

WITHOUT_MERGES = frozenset(
    "Wav2Vec2CTC Wav2Vec2 Wav2Vec2PhonemeCTC Mgpstr FastSpeech2Conformer Marian Vits M2M100 Speech2Text Pop2Piano".split()  # noqa: SIM905
)
"""Tokenizer classes of transformers, without their ending, whose vocab.json stands alone or beside SentencePiece models."""
_TYPES_WITHOUT_MERGES = frozenset(
    """wav2vec2 wav2vec2-conformer wav2vec2-bert hubert wavlm unispeech unispeech-sat data2vec-audio sew sew-d mctct
    mgp-str fastspeech2_conformer marian vits m2m_100 speech_to_text pop2piano""".split()  # noqa: SIM905
)


class Vocabulary(Struct, frozen=True):
    """What is known of the ids. `ordinary` are the pieces of the algorithm, `added` the tokens found before it.

    `kind`: tokenizer.json, sentencepiece, vocab, tiktoken, tekken or none: the file that a loader takes first.
    `algorithm`: BPE, Unigram, WordPiece, WordLevel; empty if it is not known.
    """

    kind: str
    origin: str
    ordinary: dict[str, int]
    added: dict[str, Added]
    document: Document | None = None
    data: bytes = b""
    algorithm: str = ""
    control: frozenset[int] = frozenset()

    def id_of(self, text: str) -> int | None:
        """The id of a text that is one token; None if it is none."""
        token = self.added.get(text)
        return token.id if token is not None else self.ordinary.get(text)

    def is_marked(self, number: int) -> bool:
        """Whether an id is one of the added or control tokens rather than a piece of text."""
        return number in self.control or any(token.id == number for token in self.added.values())

    def holds_all(self) -> bool:
        """Whether a token that has no id here has none at all: some classes put further ones around their file's."""
        if self.kind == "sentencepiece":  # the classes that read sentencepiece.bpe.model shift its ids
            return not self.origin.endswith("sentencepiece.bpe.model")
        return self.kind == "tokenizer.json" or (self.kind == "vocab" and bool(self.algorithm))

    def last(self) -> int:
        """The highest id; -1 if there is none."""
        return max(
            max(self.ordinary.values(), default=-1), max((token.id for token in self.added.values()), default=-1)
        )


def gather(known: Files) -> Vocabulary:
    """The vocabulary as a loader of transformers takes it: tokenizer.json before any older file."""
    if known.good("tokenizer.json"):
        found = _from_document(known)
        if found is not None:
            return found
    if known.good("vocab.json") and known.good("sentencepiece.bpe.model"):  # M2M100: pieces in one, ids in the other
        return _from_vocab_json(known, "")
    for name in files.SENTENCEPIECE:
        if known.good(name):
            return _from_model_file(known, name)
    if known.good("vocab.json"):
        return _from_vocab_json(known, "" if _of_no_merges(known) else "BPE")
    for name in known.states:
        if known.good(name) and (name.endswith(".tiktoken") or name == "tiktoken.model"):
            return _named(known, name, "tiktoken", pieces.tiktoken(known.path(name)))
    if known.good("tekken.json"):
        _check_json(known, "tekken.json")
        return _named(known, "tekken.json", "tekken", None)
    if known.good("vocab.txt"):
        algorithm = (
            "" if "bpe.codes" in known.names else "WordPiece"
        )  # PhoBERT's and BERTweet's class has tokens of its own
        return _named(known, "vocab.txt", "vocab", _lines(known.path("vocab.txt")), algorithm)
    return Vocabulary("none", "", {}, _configured(known))


def _from_document(known: Files) -> Vocabulary | None:
    told = read(known.path("tokenizer.json"))
    if told.document is None:
        files.with_problem(known, "tokenizer.json", told.error, told.line)
        return None
    document = told.document
    try:
        ordinary = document.vocabulary()
    except (ValueError, msgspec.DecodeError, RecursionError) as error:
        files.with_problem(known, "tokenizer.json", f"its model has no vocabulary that can be read: {error}"[:300])
        return None
    added = _configured(known) | {token.text: token for token in document.added()}
    return Vocabulary(
        "tokenizer.json", known.origin("tokenizer.json"), ordinary, added, document, told.data, document.kind()
    )


def _from_model_file(known: Files, name: str) -> Vocabulary:
    told = pieces.sentencepiece(known.path(name))
    if told.error and name == "tokenizer.model":
        ranks = pieces.tiktoken(known.path(name))
        if not ranks.error:
            return _named(known, name, "tiktoken", ranks)
    return _named(known, name, "sentencepiece", told, told.algorithm)


def _named(known: Files, name: str, kind: str, told: pieces.Pieces | None, algorithm: str = "") -> Vocabulary:
    if told is not None and told.error:
        files.with_problem(known, name, told.error, told.line)
    ordinary = told.ids if told is not None else {}
    control = told.control if told is not None else frozenset()
    return Vocabulary(kind, known.origin(name), ordinary, _configured(known), None, b"", algorithm, control)


def _from_vocab_json(known: Files, algorithm: str) -> Vocabulary:
    told = vocab_json(known)
    return Vocabulary("vocab", known.origin("vocab.json"), told, _configured(known), None, b"", algorithm)


def _of_no_merges(known: Files) -> bool:
    """Whether vocab.json is that of a class which has no merges.txt: letters of speech models, Marian's pieces."""
    named = str(known.tokenizer_config.get("tokenizer_class")).removesuffix("Tokenizer")
    return named in WITHOUT_MERGES or known.model.get("model_type") in _TYPES_WITHOUT_MERGES


def vocab_json(known: Files) -> dict[str, int]:
    """The entries of vocab.json; empty, and remembered as broken, if it is none."""
    data = jsonfile.read_bytes(known.path("vocab.json"))
    if not isinstance(data, bytes):
        files.with_problem(known, "vocab.json", data.error)
        return {}
    try:
        return msgspec.json.decode(data, type=dict[str, int])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        told = jsonfile.parse(data)
        files.with_problem(known, "vocab.json", told.error or f"it is no list of pieces with ids: {error}", told.line)
        return {}


def _check_json(known: Files, name: str) -> None:
    """Remember a file as broken if it is no JSON."""
    data = jsonfile.read_bytes(known.path(name))
    if not isinstance(data, bytes):
        files.with_problem(known, name, data.error)
        return
    try:
        msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        told = jsonfile.parse(data)
        files.with_problem(known, name, told.error or str(error), told.line)


def _lines(path: str) -> pieces.Pieces:
    text = plain.read_text(path, 16 << 20)
    if text is None:
        return pieces.Pieces(error="it cannot be read")
    return pieces.Pieces({line.rstrip("\n"): number for number, line in enumerate(text.splitlines())})


def _configured(known: Files) -> dict[str, Added]:
    """Added tokens as tokenizer_config.json writes them, else as added_tokens.json does."""
    found = {token.text: token for token in decoder_entries(known.tokenizer_config)}
    for text, number in known.added.items():
        if isinstance(number, int) and not isinstance(number, bool):
            found.setdefault(text, Added(text, number, False))
    return found


def decoder_entries(config: dict[str, Any]) -> list[Added]:
    """`added_tokens_decoder` of tokenizer_config.json."""
    decoder = config.get("added_tokens_decoder")
    found = []
    for key, entry in decoder.items() if isinstance(decoder, dict) else ():
        text = entry.get("content") if isinstance(entry, dict) else None
        if isinstance(text, str) and re.fullmatch(r"[0-9]{1,9}", str(key)):
            found.append(Added(text, int(key), entry.get("special") is True))
    return found


def facts(known: Files, vocabulary: Vocabulary) -> Iterator[Reading]:
    """Sizes, and where the files differ from each other and from the model."""
    yield Fact("tokenizer.kind", vocabulary.kind, vocabulary.origin or known.head or "model folder")
    if vocabulary.ordinary:
        yield from _sizes(known, vocabulary)
        written = marks(vocabulary)
        if written:
            yield Fact("tokenizer.marks", written, vocabulary.origin)
    if vocabulary.document is not None:
        yield from _document(known, vocabulary, vocabulary.document)
    yield from _merges(known, vocabulary)
    yield from _bytes(vocabulary)
    if vocabulary.kind == "tokenizer.json":
        yield from _against_vocab_json(known, vocabulary)
        yield from _against_sentencepiece(known, vocabulary)


FURTHER_ROWS = {"molmo": 128, "mllama": 8, "moshi": 1}
"""Rows that the code of a model type adds to those of its vocabulary, for marks of pictures and sound."""


def rows_of(known: Files) -> int | None:
    """How many rows the embedding has by config.json; some models keep those of added tokens in a table of their own."""
    rows = known.language_model.get("vocab_size", known.model.get("vocab_size"))
    if not isinstance(rows, int) or isinstance(rows, bool) or rows <= 0:
        return None
    more = known.language_model.get("additional_vocab_size", known.model.get("additional_vocab_size"))
    more = FURTHER_ROWS.get(str(known.model.get("model_type")), more)
    return rows + more if isinstance(more, int) and not isinstance(more, bool) and more > 0 else rows


def _sizes(known: Files, vocabulary: Vocabulary) -> Iterator[Reading]:
    origin = vocabulary.origin
    numbers = set(vocabulary.ordinary.values()) | {token.id for token in vocabulary.added.values()}
    yield Fact("tokenizer.vocab_size", len(numbers), origin)
    yield Fact("tokenizer.last_id", min(vocabulary.last(), 1 << 40), origin)
    rows = rows_of(known)
    if rows is None:
        return
    yield Fact("tokenizer.embedding_rows", min(rows, 1 << 40), known.origin("config.json"))
    outside = sorted(number for number in numbers if number >= rows)
    ordinary = sum(number >= rows for number in vocabulary.ordinary.values())
    yield Fact("tokenizer.ids_outside", len(outside), origin)
    yield Fact("tokenizer.ordinary_outside", ordinary, origin)
    if outside and not ordinary:
        texts = [token.text for token in vocabulary.added.values() if token.id >= rows]
        yield Fact("tokenizer.tokens_outside", ", ".join(texts[:5])[:300], origin)
    yield Fact("tokenizer.percent_of_rows", min(len(numbers) * 100 // rows, 1 << 40), origin)


def marks(vocabulary: Vocabulary) -> str:
    """The tokens that are written like marks, sorted, with spaces between; empty if there may be others, or too many."""
    if not vocabulary.holds_all():
        return ""
    names = [text for text in (*vocabulary.added, *vocabulary.ordinary) if _MARK.fullmatch(text)]
    text = " ".join(sorted({name for name in names if not _RESERVED.search(name)}))
    return text if len(text) <= MOST_MARKS else ""


def _document(known: Files, vocabulary: Vocabulary, document: Document) -> Iterator[Reading]:
    origin = vocabulary.origin
    yield Fact("tokenizer.algorithm", vocabulary.algorithm, origin)
    merge = document.first_merge()
    if merge is not None:
        yield Fact("tokenizer.merges_written_as", "texts" if merge == "" else "pairs", origin)
    if isinstance(document.truncation, dict):
        length = document.truncation.get("max_length")
        if isinstance(length, int):
            yield Fact("tokenizer.truncates_at", min(length, 1 << 40), origin)
    if isinstance(document.padding, dict):
        strategy = document.padding.get("strategy")
        yield Fact("tokenizer.pads", "fixed" if isinstance(strategy, dict) else "batch", origin)
        if isinstance(strategy, dict) and isinstance(strategy.get("Fixed"), int):
            yield Fact("tokenizer.pads_to", min(strategy["Fixed"], 1 << 40), origin)
    yield from _twice(document, origin)
    patterns = texts_under(document.pre_tokenizer, "Regex")
    if (
        known.model.get("model_type") in _MISTRAL
        and len(vocabulary.ordinary) > 100_000
        and patterns
        and "[INST]" in vocabulary.added
    ):
        # Mistral's own pattern splits numbers digit by digit; the one published by mistake takes up to three at once.
        yield Fact("tokenizer.mistral_pattern", "wrong" if r"\p{N}{1,3}" in patterns[0] else "right", origin)


def _twice(document: Document, origin: str) -> Iterator[Reading]:
    """Two added tokens with one id."""
    seen: dict[int, str] = {}
    for token in document.added():
        if seen.setdefault(token.id, token.text) != token.text:
            yield Fact("tokenizer.id_given_twice", token.id, origin)
            yield Fact("tokenizer.id_given_twice_to", f"{seen[token.id]} and {token.text}"[:200], origin)
            return


def _merges(known: Files, vocabulary: Vocabulary) -> Iterator[Reading]:
    if not known.good("merges.txt"):
        return
    data = plain.read_bytes(known.path("merges.txt"), MOST_MERGES)
    if data is None:
        yield Unchecked(known.origin("merges.txt"), "it cannot be read")
        return
    lines = data.split(b"\n")
    wrong = next(
        (
            number
            for number, line in enumerate(lines, 1)
            if line.strip() and not line.startswith(b"#version") and len(line.split(b" ")) != 2
        ),
        0,
    )
    if wrong:
        cut = wrong == len(lines)
        files.with_problem(
            known, "merges.txt", "its last line is cut off" if cut else "a line does not have two pieces", wrong
        )
    elif vocabulary.kind == "vocab" and vocabulary.ordinary:
        pairs = (line.decode("utf-8", "replace").strip() for line in lines if line.strip() and line[:8] != b"#version")
        strange = [pair for pair in pairs if pair.replace(" ", "") not in vocabulary.ordinary]
        yield Fact("tokenizer.merges_unknown", len(strange), known.origin("merges.txt"))
        if strange:
            yield Fact("tokenizer.merges_example", strange[0][:100], known.origin("merges.txt"))


def _bytes(vocabulary: Vocabulary) -> Iterator[Reading]:
    """Whether a byte-level vocabulary has every byte that text holds: text with one that is not there loses it.

    Vocabularies learned from text lack those that no text has: no letter is written with them, or none that is assigned.
    """
    document = vocabulary.document
    if document is not None and not mentions(document.pre_tokenizer, "type", "ByteLevel"):
        return
    if vocabulary.algorithm != "BPE" or vocabulary.kind not in ("tokenizer.json", "vocab"):
        return
    missing = [letter for letter in _byte_letters() if letter not in vocabulary.ordinary]
    if len(missing) < 64:  # else it is a vocabulary of another kind
        yield Fact("tokenizer.bytes_missing", len(missing), vocabulary.origin)
        if missing:
            yield Fact("tokenizer.bytes_missing_example", " ".join(missing[:10]), vocabulary.origin)


def _byte_letters() -> list[str]:
    """The letters that stand for bytes of text: those that print for themselves, the others are from U+0100 on.

    Left out are control characters and bytes that begin no assigned letter of UTF-8 (C0, C1, F1, F2, F4 and above).
    """
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = [number for number in range(256) if number not in plain]
    letters = {number: chr(number) if number in plain else chr(256 + others.index(number)) for number in range(256)}
    text = (0x09, 0x0A, 0x0D, *range(0x20, 0x7F), *range(0x80, 0xC0), *range(0xC2, 0xF1))
    return [letters[number] for number in text]


def _against_vocab_json(known: Files, vocabulary: Vocabulary) -> Iterator[Reading]:
    if not known.good("vocab.json") or vocabulary.algorithm != "BPE":
        return
    other = vocab_json(known)
    if not other:
        return
    yield from _difference("vocab_json", other, vocabulary, known.origin("vocab.json"))


def _against_sentencepiece(known: Files, vocabulary: Vocabulary) -> Iterator[Reading]:
    """Only for tokenizer.model: the ids of other such files are shifted by the classes that read them."""
    name = "tokenizer.model"
    if vocabulary.document is None or not known.good(name):
        return
    if mentions(vocabulary.document.pre_tokenizer, "type", "ByteLevel"):  # then it is no file of SentencePiece's
        return
    told = pieces.sentencepiece(known.path(name))
    if told.error:
        if pieces.tiktoken(known.path(name)).error:
            files.with_problem(known, name, told.error)
        return
    if told.ids:
        yield from _difference("sentencepiece", told.ids, vocabulary, known.origin(name))


def _difference(name: str, other: dict[str, int], vocabulary: Vocabulary, origin: str) -> Iterator[Reading]:
    """How many pieces have another id there, or none here; `example` is the first of them."""
    same = other == vocabulary.ordinary  # the usual case, and quickly told
    different = [] if same else [text for text, number in other.items() if vocabulary.id_of(text) != number]
    yield Fact(f"tokenizer.{name}_differs", len(different), origin)
    yield Fact(f"tokenizer.{name}_percent", round(len(different) * 100 / len(other), 2), origin)
    if different:
        text = different[0]
        here = vocabulary.id_of(text)
        told = f"{text!r} is {other[text]} there and {'not there' if here is None else here} in tokenizer.json"
        yield Fact(f"tokenizer.{name}_example", told[:200], origin)
