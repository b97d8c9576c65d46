"""SentencePiece models and tiktoken's lists, read without their libraries."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.sources.tokenizer import pieces
from tests.sources.tokenizer.made import sentencepiece


def test_pieces_are_those_that_the_library_reads(tmp_path: Path) -> None:
    """Texts, ids and control pieces equal the library's, for a model that it has trained itself."""
    sentencepiece_library = pytest.importorskip("sentencepiece")
    text = tmp_path / "text"
    text.write_text("the quick brown fox jumps over the lazy dog\n" * 50)
    sentencepiece_library.SentencePieceTrainer.Train(
        input=str(text), model_prefix=str(tmp_path / "m"), vocab_size=60, model_type="bpe", minloglevel=2
    )
    library = sentencepiece_library.SentencePieceProcessor()
    library.Load(str(tmp_path / "m.model"))
    found = pieces.sentencepiece(str(tmp_path / "m.model"))
    assert found.ids == {library.IdToPiece(number): number for number in range(library.GetPieceSize())}
    assert found.control == {
        n for n in range(library.GetPieceSize()) if library.IsControl(n) or library.IsUnknown(n) or library.IsUnused(n)
    }
    assert found.algorithm == "BPE"


@given(
    st.lists(st.tuples(st.text(min_size=1, max_size=200), st.sampled_from([1, 2, 3, 4, 6])), min_size=1, max_size=30)
)
@settings(max_examples=60)
def test_any_pieces_come_back(tmp_path_factory: pytest.TempPathFactory, listed: list[tuple[str, int]]) -> None:
    """What was written is read, of any length and type; the first of two equal texts counts."""
    path = tmp_path_factory.mktemp("spm") / "m.model"
    path.write_bytes(sentencepiece(listed))
    expected: dict[str, int] = {}
    for number, (text, _) in enumerate(listed):
        expected.setdefault(text.encode("utf-8", "replace").decode(), number)
    assert pieces.sentencepiece(str(path)).ids == expected


@given(st.binary(max_size=300))
@settings(max_examples=100)
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Neither reader raises; what is no vocabulary has a reason."""
    path = tmp_path_factory.mktemp("any") / "m"
    path.write_bytes(data)
    for found in (pieces.sentencepiece(str(path)), pieces.tiktoken(str(path))):
        assert bool(found.ids) != bool(found.error)


def test_a_model_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    """Half a download is no vocabulary."""
    data = sentencepiece([("<unk>", 2), ("hello", 1), ("world", 1)])
    path = tmp_path / "m.model"
    path.write_bytes(data[:-14])
    assert "cut off" in pieces.sentencepiece(str(path)).error


def test_ranks_of_tiktoken_are_read_and_a_bad_line_is_named(tmp_path: Path) -> None:
    """Each line is a piece in base64 and its rank."""
    path = tmp_path / "x.tiktoken"
    path.write_bytes(base64.b64encode(b"the") + b" 0\n" + base64.b64encode(b"\xff") + b" 1\n")
    assert pieces.tiktoken(str(path)).ids == {"the": 0, "\xff": 1}
    path.write_bytes(b"dGhl 0\nnot base64!\n")
    assert pieces.tiktoken(str(path)).line == 2
