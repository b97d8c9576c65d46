"""Files, pipes and folders are read as windows of clean text, in bounded memory."""

from __future__ import annotations

import gzip
import os
import tracemalloc
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.errors import InputError
from diagnose.sources import text
from diagnose.sources.text import Window, expand, open_input, unbox, windows


def read(data: bytes) -> list[Window]:
    return list(windows("the.log", BytesIO(data)))


def clean(data: bytes) -> bytes:
    """All new text of all windows."""
    return b"".join(window.data[window.start : window.end] for window in read(data))


def from_file(path: Path) -> bytes:
    with open_input(str(path)) as stream:
        return b"".join(window.data[window.start : window.end] for window in windows(str(path), stream))


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "CHUNK", 64)
    monkeypatch.setattr(text, "BEHIND", 32)
    monkeypatch.setattr(text, "AHEAD", 16)
    monkeypatch.setattr(text, "LONGEST_LINE", 128)


# --- what is taken away


def test_plain_text_is_left_as_it_is() -> None:
    """ASCII, umlauts and Chinese come through unchanged."""
    data = "loading …\nGröße\n显存不足\n".encode()
    assert data == clean(data)


@pytest.mark.parametrize(
    "coloured",
    [
        b"CUDA out\x1b[31;1m of mem\x1b[0mory",
        b"CUDA out\x1b[38;5;196m of memory\x1b[K",
        b"CUDA out of \x1b]8;;http://a.b\x07memory\x1b]8;;\x07",
        b"CUDA out#033[31m of memory#033[0m",
        b"\x1b[?25lCUDA out of memory\x1b[?25h",
    ],
)
def test_colour_in_the_middle_of_a_message_is_taken_off(coloured: bytes) -> None:
    """Colours, links and cursor codes vanish, syslog's spelling of them too."""
    assert clean(coloured + b"\n") == b"CUDA out of memory\n"


def test_nuls_are_taken_off() -> None:
    """A log cut short by a full disk has runs of NULs; the text around them stays."""
    assert clean(b"one\n\0\0\0\0two\n") == b"one\ntwo\n"


def test_a_file_of_nuls_only_is_empty() -> None:
    """Nothing is read out of NULs."""
    assert read(b"\0" * 100) == []


def test_invalid_bytes_are_kept_for_the_reader_of_lines() -> None:
    """Bytes that are no UTF-8 neither stop the reading nor move what is around them."""
    assert clean(b"caf\xe9 closed\nnext\n") == b"caf\xe9 closed\nnext\n"


def test_utf8_mark_is_taken_off() -> None:
    """Windows editors put a byte order mark in front; the first line begins behind it."""
    assert clean(b"\xef\xbb\xbffirst\n") == b"first\n"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_read_with_and_without_its_mark(encoding: str) -> None:
    """PowerShell redirects write UTF-16; text appended later has no mark."""
    said = "RuntimeError: no GPU\r\nsecond line\r\n"
    assert said.encode() == clean(said.encode(encoding))


def test_utf16_with_big_endian_mark() -> None:
    """The mark says the byte order."""
    assert clean(b"\xfe\xff" + "RuntimeError\n".encode("utf-16-be")) == b"RuntimeError\n"


def test_utf16_cut_within_a_character() -> None:
    """An odd last byte of UTF-16 costs one character, not the text."""
    assert clean("RuntimeError\n".encode("utf-16") + b"x").startswith(b"RuntimeError\n")


# --- Rich's boxes

BOXED = """\
╭───────────── Traceback (most recent call last) ──────────────╮
│ /opt/app/train.py:38 in do_train                             │
│                                                              │
│   37 │   cfg = load()                                        │
│ ❱ 38 │   return run(cfg)                                     │
╰──────────────────────────────────────────────────────────────╯
ValueError: the tokenizer of this model has no padding token and
none was given.
INFO next
"""


def test_box_is_taken_off_and_the_wrapped_message_joined() -> None:
    """A boxed traceback reads like a plain one, on the same lines."""
    assert clean(BOXED.encode()).decode().split("\n") == [
        "Traceback (most recent call last):",
        "/opt/app/train.py:38 in do_train",
        "",
        "  37 │   cfg = load()",
        "❱ 38 │   return run(cfg)",
        "",
        "ValueError: the tokenizer of this model has no padding token and none was given.",
        "",
        "INFO next",
        "",
    ]


def test_unbox_moves_places_with_their_lines() -> None:
    """An offset at the start of a line is at the start of the same line afterwards."""
    data = BOXED.encode()
    unboxed, (start, end) = unbox(data, (data.index(b"ValueError"), len(data)))
    assert unboxed[start:].startswith(b"ValueError")
    assert len(unboxed) == end


def test_box_is_taken_off_where_a_window_begins_inside_it(small_windows: None) -> None:
    """A box that straddles windows is unboxed in each of them."""
    body = b"".join(f"│ /opt/app/step{n}.py:1 in go          │\n".encode() for n in range(50))
    head, foot = (
        "╭── Traceback (most recent call last) ──╮\n".encode(),
        "╰───────────────────────────────────────╯\n".encode(),
    )
    assert "│".encode() not in clean(head + body + foot)


def test_no_line_is_lost_by_unboxing() -> None:
    """Unboxing never changes the number of lines."""
    assert BOXED.count("\n") == clean(BOXED.encode()).count(b"\n")


# --- windows


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\n\0\x1b│╭╰\ufeff"), max_size=60),
        min_size=1,
        max_size=60,
    ),
    st.integers(20, 400),
    st.booleans(),
)
def test_windows_of_any_size_give_the_same_text_and_line_numbers(lines: list[str], size: int, end: bool) -> None:
    """However a text is split, its new parts add up to the text, and `line` is the number of the window's first line."""
    data = "\n".join(
        ["an ordinary first line of a log, long enough to be told from binary data, and plain", *lines]
    ).encode()
    data += b"\n" if end else b""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("CHUNK", size), ("BEHIND", 50), ("AHEAD", 30), ("LONGEST_LINE", 300)):
            patch.setattr(text, name, value)
        found = read(data)
    assert data == b"".join(window.data[window.start : window.end] for window in found)
    at = 0
    for window in found:
        begin = at - window.start
        assert window.data == data[begin : begin + len(window.data)]
        assert window.line == data.count(b"\n", 0, begin) + 1
        at += window.end - window.start
    assert [False] * (len(found) - 1) + [True] == [window.last for window in found]


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=3000), st.integers(16, 200))
def test_arbitrary_bytes_raise_nothing_but_input_error(data: bytes, size: int) -> None:
    """Whatever the bytes are, they are read, or refused with a sentence."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("CHUNK", size), ("BEHIND", 40), ("AHEAD", 24), ("LONGEST_LINE", 100)):
            patch.setattr(text, name, value)
        try:
            found = read(data)
        except InputError:
            return
    for window in found:
        assert 0 <= window.start <= window.end <= len(window.data)
        assert b"\0" not in window.data


def test_windows_overlap_and_end_at_line_ends(small_windows: None) -> None:
    """Each window but the last ends behind a line end, and keeps what came before it."""
    found = read(b"".join(b"line %04d\n" % n for n in range(100)))
    assert len(found) > 5
    assert all(window.data[window.end - 1 : window.end] == b"\n" for window in found)
    assert all(window.start > 0 for window in found[2:])


def test_a_line_longer_than_a_window_is_read_in_parts(small_windows: None) -> None:
    """A huge line is cut, and no byte of it is lost."""
    data = b"start\n" + b"x" * 5000 + b"\nend"
    assert data == clean(data)


def test_a_huge_line_is_read_in_bounded_memory() -> None:
    """Memory for a line of 40 MB stays at a few windows."""
    piece = b"0123456789abcdef" * (1 << 16)

    class Endless(BytesIO):
        left = 40

        def read(self, size: int | None = -1) -> bytes:
            self.left -= 1
            return piece if self.left >= 0 else b""

    tracemalloc.start()
    try:
        total = sum(window.end - window.start for window in windows("the.log", Endless()))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 40 * len(piece) == total
    assert peak < 10 << 20


def test_text_without_a_last_newline_is_read_to_its_end() -> None:
    """The last line counts though nothing ends it."""
    assert clean(b"one\ntwo") == b"one\ntwo"


def test_nothing_is_read_from_nothing() -> None:
    """An empty input has no windows."""
    assert read(b"") == []


def test_a_growing_file_is_read_to_where_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is appended while a log is read belongs to the next reading; the reader does not chase it."""
    monkeypatch.setattr(text, "CHUNK", 256)
    monkeypatch.setattr(text, "AHEAD", 64)
    path = tmp_path / "growing.log"
    path.write_bytes(b"line\n" * 200)
    total = 0
    with open_input(str(path)) as stream, open(path, "ab") as writer:
        for window in windows(str(path), stream):
            total += window.end - window.start
            writer.write(b"more\n" * 200)
            writer.flush()
    assert total == 1000


# --- files


def test_gzip_and_zstandard_are_read(tmp_path: Path) -> None:
    """Compressed logs are read by what they hold, whatever they are called."""
    said = b"RuntimeError: no GPU\n" * 50
    (tmp_path / "a.gz").write_bytes(gzip.compress(said))
    (tmp_path / "b.zst").write_bytes(zstandard.compress(said))
    (tmp_path / "c.log").write_bytes(gzip.compress(said))
    assert [said] * 3 == [from_file(tmp_path / name) for name in ("a.gz", "b.zst", "c.log")]


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_compressed_logs_that_were_appended_are_read_whole(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    """Rotated logs are often joined after compression; every part is read."""
    path = tmp_path / "joined"
    path.write_bytes(compress(b"first\n") + compress(b"second\n"))
    assert from_file(path) == b"first\nsecond\n"


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_damaged_compressed_data_is_told(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    """Damage is an InputError that names the file."""
    packed = bytearray(compress(b"".join(b"step %d of %d\n" % (n * n, n) for n in range(500))))
    packed[20:400] = b"\xff" * 380
    path = tmp_path / "damaged.gz"
    path.write_bytes(bytes(packed))
    with pytest.raises(InputError, match=r"damaged\.gz: (damaged compressed data|reading broke off)"):
        from_file(path)


def test_truncated_gzip_is_told(tmp_path: Path) -> None:
    """A copy that broke off is not taken for the whole log."""
    path = tmp_path / "half.gz"
    path.write_bytes(gzip.compress(os.urandom(5000))[:2000])
    with pytest.raises(InputError, match=r"half\.gz: reading broke off"):
        from_file(path)


def test_compressed_data_in_a_pipe_is_refused_with_the_way_out() -> None:
    """A pipe is not decompressed; the message says what to do."""
    with pytest.raises(InputError, match="decompress it first"):
        read(gzip.compress(b"RuntimeError\n"))


@pytest.mark.parametrize(
    ("data", "meaning"),
    [
        (b"\x7fELF\x02\x01\x01" + bytes(100), "a program or library"),
        (b"PK\x03\x04\x14\x00" + bytes(100), "a zip archive"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "a picture"),
        (b"\xff\xd8\xff\xe0", "a picture"),
        (b"%PDF-1.7\n", "a PDF"),
        (b"GGUF\x03\0\0\0", "a GGUF model"),
        (b"BZh91AY&SY\x00", "a bzip2 archive"),
        (b"\xfd7zXZ\0\0", "an xz archive"),
        (b"\x80\x02\x8a\n", "pickled Python data"),
        (b"a.txt" + bytes(252) + b"ustar\x0000", "a tar archive"),
        (bytes(range(256)) * 2, "binary data"),
        (b"\x01\x02\x03\x04" * 30, "binary data"),
    ],
)
def test_binary_data_is_refused_with_its_name(tmp_path: Path, data: bytes, meaning: str) -> None:
    """What is no log is said to be none, from a file and from a pipe alike."""
    path = tmp_path / "thing"
    path.write_bytes(data)
    with pytest.raises(InputError, match=rf"thing: this is {meaning}"):
        open_input(str(path))
    with pytest.raises(InputError, match=meaning):
        read(data)


def test_text_in_old_encodings_is_not_binary() -> None:
    """GBK and Latin-1 text has no control characters, and is read."""
    said = "显存不足，无法加载模型\n".encode("gbk") * 20 + "Größe überschritten\n".encode("latin-1") * 20
    assert said == clean(said)


def test_a_missing_file_is_told() -> None:
    """No traceback, a sentence."""
    with pytest.raises(InputError, match=r"nowhere\.log: no such file"):
        open_input("/nowhere.log")


def test_an_unreadable_file_is_told(tmp_path: Path) -> None:
    """A file that may not be read is named, with what to do."""
    path = tmp_path / "secret.log"
    path.write_bytes(b"x\n")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(InputError, match=r"secret\.log: not allowed to read it"):
        open_input(str(path))


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """Opening a folder itself is an InputError, not an OSError."""
    with pytest.raises(InputError, match="directory"):
        open_input(str(tmp_path))


def test_a_name_with_a_nul_is_told() -> None:
    """A path that no system takes is an InputError too."""
    with pytest.raises(InputError, match="no file can have this name"):
        open_input("a\0b")


def test_a_pipe_is_read(tmp_path: Path) -> None:
    """A named pipe (or a shell's `<(…)`) is opened without a look at its first bytes."""
    reader, writer = os.pipe()
    os.write(writer, b"RuntimeError: no GPU\n")
    os.close(writer)
    try:
        assert from_file(Path(f"/dev/fd/{reader}")) == b"RuntimeError: no GPU\n"
    finally:
        os.close(reader)


def test_a_stream_that_breaks_is_told() -> None:
    """A disk error in the middle says how far the reading came."""

    class Broken(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(InputError, match="reading broke off after 0 bytes"):
        list(windows("the.log", Broken()))


# --- folders


def files_under(folder: Path) -> Iterator[str]:
    for found in expand([str(folder)]):
        yield str(Path(found).relative_to(folder))


def test_a_folder_stands_for_its_logs(tmp_path: Path) -> None:
    """Logs are found at any depth, in the order of their names; hidden files and weights are not logs."""
    for name in ("b.log", "a/rank0.out", "a/rank1.out.gz", "model.safetensors", ".hidden.log", ".git/x.log", "stderr"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x\n")
    assert list(files_under(tmp_path)) == ["a/rank0.out", "a/rank1.out.gz", "b.log", "stderr"]


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    """A folder without logs says which names were looked for."""
    with pytest.raises(InputError, match=r"no log files in this folder .*\.log"):
        expand([str(tmp_path)])


def test_files_and_the_standard_input_stand_for_themselves(tmp_path: Path) -> None:
    """Only folders are looked into; a missing file is told later, when it is opened."""
    assert expand(["-", "missing.log"]) == ["-", "missing.log"]
