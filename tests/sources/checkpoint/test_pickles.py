"""PyTorch files are listed and scanned and never loaded."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diagnose.sources.checkpoint import pickles
from tests.sources.checkpoint import models


class Trap:
    """Leaves a mark when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def archive(value: Any, **members: bytes) -> bytes:
    """A file as torch.save writes it: a pickle and a member for each storage."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        written.writestr("archive/data.pkl", pickle.dumps(value, protocol=2))
        written.writestr("archive/version", "3\n")
        for name, data in members.items():
            written.writestr(f"archive/data/{name}", data)
    return file.getvalue()


def legacy(value: Any) -> bytes:
    """A file as torch wrote it before 1.6: pickles in a row, then the storages."""
    first = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, value, []]
    return b"".join(pickle.dumps(one, protocol=2) for one in first) + b"\0" * 64


def scanned(path: Path, data: bytes) -> pickles.Scan:
    """The scan of these bytes as a file."""
    file = path / "pytorch_model.bin"
    file.write_bytes(data)
    return pickles.scan(str(file))


@pytest.mark.parametrize("write", [archive, legacy])
def test_an_ordinary_file_raises_no_alarm(tmp_path: Path, write: Any) -> None:
    """A dictionary of plain values and an OrderedDict."""
    found = scanned(tmp_path, write(OrderedDict({"a": 1.0, "b": [1, "x"]})))
    assert not found.problem
    assert not found.unread
    assert (found.dangerous, found.refused) == ((), ())


@pytest.mark.parametrize("write", [archive, legacy])
def test_code_is_named_and_not_run(tmp_path: Path, write: Any) -> None:
    """The function is told, and its mark is not left."""
    mark = tmp_path / "mark"
    found = scanned(tmp_path, write({"a": Trap(mark)}))
    assert found.dangerous == ("posix.mkdir",)
    assert not mark.exists()


def test_objects_that_torch_does_not_allow_are_named(tmp_path: Path) -> None:
    """They are not dangerous, and torch.load refuses them."""
    found = scanned(tmp_path, archive({"path": Path("/x")}))
    assert found.dangerous == ()
    assert any("athlib" in name for name in found.refused)


def test_storages_are_summed_up(tmp_path: Path) -> None:
    """Their bytes are in the archive's list."""
    found = scanned(tmp_path, archive({}, **{"0": b"1" * 100, "1": b"2" * 28}))
    assert (found.archive, found.size) == ("zip", 128)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "empty"),
        (archive({"a": 1}, **{"0": b"x" * 500})[:-60], "truncated"),
        (b"hello", "bad-header"),
    ],
)
def test_damage_is_told(tmp_path: Path, data: bytes, problem: str) -> None:
    """Cut short, empty, or something else."""
    assert scanned(tmp_path, data).problem == problem


def test_an_archive_without_a_pickle_is_another_thing(tmp_path: Path) -> None:
    """A zip of something else was given the name."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        written.writestr("readme.txt", "x")
    assert scanned(tmp_path, file.getvalue()).problem == "other-format"


def test_a_pickle_that_unfolds_is_not_unfolded(tmp_path: Path) -> None:
    """A member of a gigabyte in a megabyte is left alone, and so said."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as written, written.open("a/data.pkl", "w") as member:
        for _ in range(64):
            member.write(b"\0" * (1 << 20))
    assert "data.pkl" in scanned(tmp_path, file.getvalue()).unread


def test_an_archive_whose_list_claims_gigabytes_is_not_believed(tmp_path: Path) -> None:
    """The size of the list stands at the end and can say anything."""
    data = archive({"a": 1})
    end = data.rindex(b"PK\x05\x06")
    patched = data[: end + 12] + struct.pack("<I", 0xFFFFFFF0) + data[end + 16 :]
    found = scanned(tmp_path, patched)
    assert found.problem or found.unread


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([archive({"a": 1}, **{"0": b"12"}), legacy({"a": 1})]), st.data())
def test_no_change_of_bytes_raises(tmp_path: Path, whole: bytes, data: st.DataObject) -> None:
    """Any damage gives a scan."""
    at = data.draw(st.integers(0, len(whole)))
    scanned(tmp_path, whole[:at] + data.draw(st.binary(max_size=6)) + whole[at + data.draw(st.integers(0, 6)) :])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60))
def test_no_pickle_raises(tmp_path: Path, data: bytes) -> None:
    """Any bytes after the first of a pickle give a scan."""
    scanned(tmp_path, b"\x80\x02" + data)


def test_facts_of_a_folder_of_pytorch_files(tmp_path: Path) -> None:
    """Format, size, and what the pickle names."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(archive({"a": Trap(tmp_path / "mark")}, **{"0": b"1234"}))
    (tmp_path / "training_args.bin").write_bytes(archive({"a": Path("/x")}))
    known = models.facts(tmp_path)
    assert (known["weights.format"], known["weights.bytes"]) == ("pytorch", 4)
    assert known["pickle.0.dangerous"] == "posix.mkdir"
    assert "pickle.1.file" not in known
