"""Folders that matter: which they are, and what kind of disk they lie on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.model import Step
from diagnose.sources import storage
from tests.sources.trees import MOUNTS, GiB, facts, room, tree, unchecked


@pytest.mark.parametrize(
    ("environ", "path", "setting"),
    [
        ({"HOME": "/home/u"}, "/home/u/.cache/huggingface/hub", ""),
        ({"HOME": "/home/u", "XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub", "XDG_CACHE_HOME"),
        ({"HOME": "/home/u", "XDG_CACHE_HOME": "/c", "HF_HOME": "/data/hf"}, "/data/hf/hub", "HF_HOME"),
        ({"HOME": "/home/u", "HF_HOME": "~/hf"}, "/home/u/hf/hub", "HF_HOME"),
        ({"HOME": "/home/u", "HF_HOME": "/a", "HUGGINGFACE_HUB_CACHE": "/b"}, "/b", "HUGGINGFACE_HUB_CACHE"),
        ({"HUGGINGFACE_HUB_CACHE": "/b", "HF_HUB_CACHE": "/c"}, "/c", "HF_HUB_CACHE"),
    ],
)
def test_the_model_cache_is_chosen_as_the_hubs_client_does(environ: dict[str, str], path: str, setting: str) -> None:
    """HF_HUB_CACHE goes before HUGGINGFACE_HUB_CACHE, HF_HOME, XDG_CACHE_HOME and the home folder."""
    found = {folder.name: folder for folder in storage.known_folders(environ)}
    assert found["models"].path == path
    assert found["models"].setting == setting


def test_without_a_home_what_lies_there_is_left_out() -> None:
    """No folder is made up; the temporary one is always known."""
    assert [folder.name for folder in storage.known_folders({})] == ["temporary", "inductor"]


def test_what_is_told_of_a_folder(tmp_path: Path) -> None:
    """Room, kind of file system and mount options come from statvfs and the mount table."""
    root = tree(tmp_path, {"/proc/self/mountinfo": MOUNTS, "/tmp/": "", "/models/": "", "/home/u/": ""})
    environ = {"HOME": "/home/u", "HF_HUB_CACHE": "/models"}
    found = facts(storage.read(environ, root, ["/with blank"], lambda path: room(100 * GiB, 5 * GiB, 1000, 4)))
    assert found["storage.models.type"] == "xfs"
    assert found["storage.models.read_only"] is True
    assert found["storage.models.free"] == 5 * GiB
    assert found["storage.models.free_percent"] == 5.0
    assert found["storage.models.inodes_free"] == 4
    assert found["storage.models.setting"] == "HF_HUB_CACHE"
    assert found["storage.temporary.in_memory"] is True
    assert found["storage.temporary.noexec"] is True
    assert found["storage.triton.network"] is True
    assert found["storage.triton.exists"] is False
    assert found["storage.work.path"] == "/with blank"
    assert found["storage.work.type"] == "ext4"  # it does not exist, so it would be made in /


def test_folders_on_a_network_come_last_and_are_announced(tmp_path: Path) -> None:
    """If a dead mount never answers, all else is known, and the report can say where it stopped."""
    root = tree(tmp_path, {"/proc/self/mountinfo": MOUNTS, "/tmp/": "", "/home/u/": ""})
    steps = [
        reading.doing
        for reading in storage.read({"HOME": "/home/u"}, root, [], lambda path: room(10, 5))
        if isinstance(reading, Step)
    ]
    assert steps[0].startswith("looking at /tmp")
    assert all("nfs4" in step for step in steps[2:])


def test_a_folder_that_cannot_be_asked_is_unknown(tmp_path: Path) -> None:
    """An error of the file system is told, and the other folders are still looked at."""
    root = tree(tmp_path, {"/proc/self/mountinfo": MOUNTS, "/tmp/": "", "/models/": ""})

    def statvfs(path: str) -> os.statvfs_result:
        if path.endswith("models"):
            raise OSError(116, "Stale file handle")
        return room(10, 5)

    readings = list(storage.read({"HF_HUB_CACHE": "/models"}, root, [], statvfs))
    assert [item.what for item in unchecked(readings)] == ["the folder /models"]
    assert "storage.models.free" not in facts(readings)
    assert facts(readings)["storage.temporary.free"] == 5


@pytest.mark.parametrize("path", ["\x00", "/a\x00b", "relative", "/" + "x" * 5000])
def test_odd_paths_are_borne(tmp_path: Path, path: str) -> None:
    """What no file system takes gives no error of ours."""
    list(storage.read({"HF_HUB_CACHE": path, "TMPDIR": path}, tree(tmp_path, {"/proc/self/mountinfo": MOUNTS})))


def test_a_file_system_without_inodes_tells_none(tmp_path: Path) -> None:
    """Btrfs and others count no inodes: then nothing is said of them."""
    root = tree(tmp_path, {"/proc/self/mountinfo": MOUNTS, "/tmp/": ""})
    found = facts(storage.read({}, root, [], lambda path: room(10, 5, 0, 0)))
    assert not any("inodes" in name for name in found)


@given(st.text(max_size=300))
def test_any_mount_table_is_borne(text: str) -> None:
    """Lines that are no mounts are passed over."""
    for mount in storage.mount_table(text):
        assert mount.kind


@given(st.lists(st.sampled_from(["a", "b", "data", "data2"]), max_size=4).map(lambda parts: "/" + "/".join(parts)))
def test_a_path_lies_on_the_deepest_mount_above_it(path: str) -> None:
    """`/data2` is not on `/data`."""
    mounts = storage.mount_table(
        "1 0 0:1 / / rw - ext4 a rw\n2 1 0:2 / /data rw - xfs b rw\n3 1 0:3 / /data/a rw - nfs4 c rw\n"
    )
    mount = storage.mount_of(mounts, path)
    assert mount is not None
    expected = "/data/a" if f"{path}/".startswith("/data/a/") else "/data" if f"{path}/".startswith("/data/") else "/"
    assert mount.point == expected
