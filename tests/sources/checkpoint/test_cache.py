"""What the cache's folder of a model holds besides the model."""

from __future__ import annotations

from pathlib import Path

from diagnose.sources.checkpoint import cache, where
from tests.sources.checkpoint.folders import COMMIT, OTHER, in_cache, told, unchecked


def test_a_whole_model_has_nothing_broken(tmp_path: Path) -> None:
    """Links that lead somewhere, no half files."""
    in_cache(tmp_path)
    found = told("tiny/llama", {"HF_HUB_CACHE": str(tmp_path)})
    assert (found["cache.broken_links"], found["cache.incomplete"], found["cache.snapshots"]) == (0, 0, 1)
    assert (found["cache.offline"], found["cache.path"]) == (False, str(tmp_path))
    assert found["model.hidden_size"] == 64


def test_links_to_nothing_are_counted(tmp_path: Path) -> None:
    """As after a copy without blobs."""
    snapshot = in_cache(tmp_path, files={"config.json": b"{}", "b.safetensors": b"", "a.safetensors": b""})
    for name in ("a.safetensors", "b.safetensors"):
        (snapshot / name).resolve().unlink()
    found = told("tiny/llama", {"HF_HUB_CACHE": str(tmp_path)})
    assert (found["cache.broken_links"], found["cache.broken_link"]) == (2, "a.safetensors")


def test_half_files_are_counted_and_dated(tmp_path: Path) -> None:
    """One that changed a moment ago is being written."""
    snapshot = in_cache(tmp_path)
    half = snapshot.parent.parent / "blobs" / "x.incomplete"
    half.write_bytes(b"123")
    found = where.find("tiny/llama", {"HF_HUB_CACHE": str(tmp_path)}, "/")
    at = half.stat().st_mtime
    for later, growing in ((10, True), (3600, False)):
        facts = {fact.name: fact.value for fact in cache.facts(found, {}, now=at + later)}
        assert (facts["cache.incomplete"], facts["cache.incomplete_bytes"], facts["cache.downloading"]) == (
            1,
            3,
            growing,
        )


def test_a_file_that_is_noted_as_absent_and_is_there_is_told(tmp_path: Path) -> None:
    """Loaders believe the note."""
    snapshot = in_cache(tmp_path)
    note = snapshot.parent.parent / ".no_exist" / COMMIT
    note.mkdir(parents=True)
    (note / "config.json").write_bytes(b"")
    (note / "other.json").write_bytes(b"")
    assert told("tiny/llama", {"HF_HUB_CACHE": str(tmp_path)})["cache.marked_absent"] == "config.json"


def test_what_is_not_cached_is_told_and_not_checked(tmp_path: Path) -> None:
    """Offline or not is a fact of its own."""
    environ = {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    found = told("tiny/llama", environ)
    assert (found["model.kind"], found["model.problem"], found["cache.offline"]) == ("missing", "not-cached", True)
    assert unchecked("tiny/llama", environ) == ["model files"]


def test_another_ref_is_followed(tmp_path: Path) -> None:
    """A branch has a commit of its own."""
    snapshot = in_cache(tmp_path)
    in_cache(tmp_path, commit=OTHER)
    refs = snapshot.parent.parent / "refs"
    (refs / "main").write_text(COMMIT)
    (refs / "pr").mkdir()
    (refs / "pr" / "1").write_text(OTHER)
    found = told("tiny/llama", {"HF_HUB_CACHE": str(tmp_path)}, revision="pr/1")
    assert (found["model.revision"], found["cache.ref"], found["cache.snapshots"]) == (OTHER, "pr/1", 2)
    assert (
        told("tiny/llama", {"HF_HUB_CACHE": str(tmp_path)}, revision="../../x")["model.problem"] == "revision-missing"
    )
