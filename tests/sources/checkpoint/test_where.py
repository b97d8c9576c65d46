"""What the text that names a model is taken for."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.sources.checkpoint import where
from tests.sources.checkpoint.folders import COMMIT, LLAMA, OTHER, in_cache, write_json


def find(model: str, folder: Path, environ: dict[str, str] | None = None, revision: str = "") -> where.Found:
    return where.find(model, {"HOME": str(folder), **(environ or {})}, str(folder), revision)


def test_a_folder_is_found_by_a_relative_path(tmp_path: Path) -> None:
    """As an engine would, from the folder that the command is started in."""
    write_json(tmp_path / "models" / "x" / "config.json", LLAMA)
    found = find("models/x", tmp_path)
    assert (found.kind, found.layout, found.problem) == ("folder", "transformers", "")
    assert found.path == str(tmp_path / "models" / "x")
    assert found.origin("config.json") == "x/config.json"


def test_a_tilde_is_the_home_folder(tmp_path: Path) -> None:
    """The shell leaves it where it stands behind `=`."""
    write_json(tmp_path / "x" / "config.json", LLAMA)
    assert find("~/x", tmp_path).path == str(tmp_path / "x")


def test_a_folder_goes_before_an_id(tmp_path: Path) -> None:
    """Every loader looks for a folder first."""
    write_json(tmp_path / "owner" / "name" / "config.json", LLAMA)
    in_cache(tmp_path / "hub", "owner/name")
    found = find("owner/name", tmp_path, {"HF_HUB_CACHE": str(tmp_path / "hub")})
    assert found.path == str(tmp_path / "owner" / "name")
    assert found.id == ""


@pytest.mark.parametrize(
    ("name", "files", "layout"),
    [
        ("adapter", ["adapter_config.json", "adapter_model.safetensors"], "adapter"),
        ("adapter-without-config", ["adapter_model.safetensors"], "adapter"),
        ("merged", ["config.json", "model.safetensors", "adapter_config.json"], "transformers"),
        ("mistral", ["params.json", "consolidated.safetensors"], "mistral"),
        ("meta", ["params.json", "consolidated.00.pth"], "meta"),
        ("diffusers", ["model_index.json"], "diffusers"),
        ("onnx", ["model.onnx"], "onnx"),
        ("openvino", ["openvino_model.xml"], "openvino"),
        ("engine", ["config.json", "rank0.engine"], "tensorrt-llm"),
        ("fsdp", ["__0_0.distcp", ".metadata"], "distributed"),
        ("weights", ["model.safetensors"], "weights-only"),
        ("tokenizer", ["tokenizer.json"], "tokenizer-only"),
        ("other", ["README.md"], "other"),
    ],
)
def test_a_folder_is_known_by_what_is_in_it(tmp_path: Path, name: str, files: list[str], layout: str) -> None:
    """Each way to write a model has names of its own."""
    for file in files:
        (tmp_path / file).write_bytes(b"")
    found = find(str(tmp_path), tmp_path)
    assert found.layout == layout
    assert found.kind == ("adapter" if layout == "adapter" else "folder")


def test_training_output_leads_to_its_newest_checkpoint(tmp_path: Path) -> None:
    """The largest number, not the last in the alphabet."""
    for number in (500, 1000, 90):
        (tmp_path / f"checkpoint-{number}").mkdir()
    found = find(str(tmp_path), tmp_path)
    assert found.layout == "training-output"
    assert found.nearest == str(tmp_path / "checkpoint-1000")


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    """It looks like a volume that was not mounted."""
    assert find(str(tmp_path), tmp_path).problem == "empty"


def test_a_lone_gguf_in_a_folder_is_the_model(tmp_path: Path) -> None:
    """Of a split model the first part stands for all; a projector is no model."""
    for name in ("x-00001-of-00002.gguf", "x-00002-of-00002.gguf", "mmproj-x.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    found = find(str(tmp_path), tmp_path)
    assert (found.kind, os.path.basename(found.path)) == ("gguf", "x-00001-of-00002.gguf")


def test_of_several_gguf_none_is_taken(tmp_path: Path) -> None:
    """No engine would know which."""
    for name in ("x-Q4_K_M.gguf", "x-Q8_0.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    found = find(str(tmp_path), tmp_path)
    assert (found.kind, found.problem) == ("folder", "several-gguf")


@pytest.mark.parametrize(
    ("tag", "problem"), [("Q4_K_M", ""), ("q8_0", ""), ("Q5_K_M", "tag-missing"), ("Q4_K", "tag-missing")]
)
def test_a_tag_chooses_a_gguf(tmp_path: Path, tag: str, problem: str) -> None:
    """`id:Q4_K_M`, as vLLM and llama.cpp read it."""
    in_cache(tmp_path / "hub", "a/x-GGUF", files={"x-Q4_K_M.gguf": b"GGUF", "x-Q8_0.gguf": b"GGUF"})
    found = find(f"a/x-GGUF:{tag}", tmp_path, {"HF_HUB_CACHE": str(tmp_path / "hub")})
    assert found.problem == problem
    assert problem or tag.lower() in found.path.lower()


def test_a_file_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    """Ollama's blobs have no ending."""
    (tmp_path / "sha256-1").write_bytes(b"GGUF\x03")
    assert find("./sha256-1", tmp_path).kind == "gguf"


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({}, ".cache/huggingface/hub"),
        ({"HF_HUB_CACHE": "{}/a"}, "a"),
        ({"HUGGINGFACE_HUB_CACHE": "{}/a"}, "a"),
        ({"HF_HOME": "{}/h"}, "h/hub"),
        ({"XDG_CACHE_HOME": "{}/c"}, "c/huggingface/hub"),
        ({"HF_HUB_CACHE": "~/a", "HF_HOME": "{}/h"}, "a"),
        ({"TRANSFORMERS_CACHE": "{}/t"}, "t"),
    ],
)
def test_the_cache_is_where_the_client_keeps_it(tmp_path: Path, environ: dict[str, str], place: str) -> None:
    """The variables in the client's own order."""
    in_cache(tmp_path / place)
    found = find("tiny/llama", tmp_path, {name: value.format(tmp_path) for name, value in environ.items()})
    assert (found.kind, found.revision, found.id) == ("folder", COMMIT, "tiny/llama")
    assert found.origin("config.json") == "llama/config.json"


def test_a_model_of_modelscope_is_found_if_vllm_asks_there(tmp_path: Path) -> None:
    """It writes dots of a name as three underscores."""
    write_json(tmp_path / ".cache/modelscope/hub/models/a/x-1___5" / "config.json", LLAMA)
    assert find("a/x-1.5", tmp_path).problem == "not-cached"
    assert find("a/x-1.5", tmp_path, {"VLLM_USE_MODELSCOPE": "True"}).kind == "folder"


def test_a_model_of_ollama_leads_to_its_blob(tmp_path: Path) -> None:
    """Through the manifest of its tag."""
    root = tmp_path / ".ollama" / "models"
    digest = "sha256:" + "0" * 64
    layers = [{"mediaType": "application/vnd.ollama.image.model", "digest": digest}]
    write_json(root / "manifests/registry.ollama.ai/library/qwen3/8b", {"layers": layers})
    (root / "blobs").mkdir()
    (root / "blobs" / digest.replace(":", "-")).write_bytes(b"GGUF")
    found = find("qwen3:8b", tmp_path)
    assert (found.kind, found.id, found.tag) == ("gguf", "qwen3", "8b")


@pytest.mark.parametrize(
    ("text", "name", "revision"),
    [
        ("https://huggingface.co/tiny/llama", "tiny/llama", ""),
        ("https://huggingface.co/tiny/llama/tree/v2", "tiny/llama", "v2"),
        ("hf.co/tiny/llama", "tiny/llama", ""),
    ],
)
def test_an_address_of_the_hub_is_an_id(tmp_path: Path, text: str, name: str, revision: str) -> None:
    """Copied from the browser."""
    found = find(text, tmp_path)
    assert (found.id, found.ref or "main") == (name, revision or "main")


def test_a_ref_without_its_snapshot_is_told(tmp_path: Path) -> None:
    """With the snapshot that is there, though not asked for."""
    snapshot = in_cache(tmp_path / "hub")
    (snapshot.parent.parent / "refs" / "main").write_text(OTHER)
    found = find("tiny/llama", tmp_path, {"HF_HUB_CACHE": str(tmp_path / "hub")})
    assert (found.problem, found.revision, found.nearest) == ("ref-without-snapshot", OTHER, COMMIT)


def test_a_snapshot_without_refs_is_told(tmp_path: Path) -> None:
    """It can only be had by its commit."""
    snapshot = in_cache(tmp_path / "hub")
    (snapshot.parent.parent / "refs" / "main").unlink()
    environ = {"HF_HUB_CACHE": str(tmp_path / "hub")}
    assert find("tiny/llama", tmp_path, environ).problem == "snapshot-without-ref"
    assert find("tiny/llama", tmp_path, environ, revision=COMMIT).path == str(snapshot)
    assert find("tiny/llama", tmp_path, environ, revision="v9").problem == "revision-missing"


def test_the_cache_folder_itself_is_no_model(tmp_path: Path) -> None:
    """What lies in it is looked at all the same."""
    snapshot = in_cache(tmp_path / "hub")
    for path in (snapshot.parent.parent, snapshot.parent, snapshot.parent.parent / "blobs"):
        found = find(str(path), tmp_path)
        assert (found.problem, found.path, found.id) == ("cache-top", str(snapshot), "tiny/llama")


def test_a_path_into_a_snapshot_knows_its_id(tmp_path: Path) -> None:
    """By the names of the folders."""
    snapshot = in_cache(tmp_path / "hub")
    found = find(str(snapshot), tmp_path)
    assert (found.id, found.revision, found.problem) == ("tiny/llama", COMMIT, "")


@pytest.mark.parametrize(
    ("asked", "nearest"), [("./Qwen3-8b", "Qwen3-8B"), ("./Qwen3-8", "Qwen3-8B"), ("models/x.gguf", ""), ("./zzz", "")]
)
def test_a_path_that_is_not_there_leads_to_one_like_it(tmp_path: Path, asked: str, nearest: str) -> None:
    """Only if it is nearly the same."""
    (tmp_path / "Qwen3-8B").mkdir()
    found = find(asked, tmp_path)
    assert (found.kind, found.problem) == ("missing", "no-such-path")
    assert found.nearest == (str(tmp_path / nearest) if nearest else "")


def test_the_misspelt_part_may_stand_in_the_middle(tmp_path: Path) -> None:
    """The rest of the path is kept if it is there."""
    (tmp_path / "models" / "x").mkdir(parents=True)
    assert find("./model/x", tmp_path).nearest == str(tmp_path / "models" / "x")


def test_an_id_that_is_not_cached_leads_to_one_like_it(tmp_path: Path) -> None:
    """The cache tells capitals apart, the Hub does not."""
    in_cache(tmp_path / "hub", "Qwen/Qwen3-8B")
    found = find("qwen/qwen3-8b", tmp_path, {"HF_HUB_CACHE": str(tmp_path / "hub")})
    assert (found.problem, found.nearest) == ("not-cached", "Qwen/Qwen3-8B")


def test_an_object_store_is_not_looked_into(tmp_path: Path) -> None:
    """Nothing is said of it."""
    assert find("s3://bucket/model", tmp_path).kind == "remote"


def test_a_link_loop_and_a_link_to_nothing_are_told(tmp_path: Path) -> None:
    """As what they are."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "c").symlink_to("nothing")
    assert find("./a", tmp_path).problem == "loop"
    assert "nothing" in find("./c", tmp_path).why


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    """With the system's words."""
    (tmp_path / "x").mkdir(mode=0)
    found = find("./x", tmp_path)
    assert (found.problem, found.why) == ("unreadable", "permission denied")


@given(st.text(max_size=60))
def test_any_text_has_an_answer(text: str) -> None:
    """Whatever it is: no exception, and a kind."""
    found = where.find(text, {"HOME": "/nowhere"}, "/nowhere")
    assert found.kind in ("folder", "gguf", "safetensors", "file", "adapter", "remote", "missing")


@given(
    st.dictionaries(
        st.sampled_from(["layers", "mediaType", "digest"]),
        st.recursive(
            st.none() | st.text(max_size=5),
            lambda x: (
                st.lists(x, max_size=3) | st.dictionaries(st.sampled_from(["digest", "mediaType"]), x, max_size=2)
            ),
        ),
    )
)
def test_any_manifest_of_ollama_has_an_answer(value: dict[str, object]) -> None:
    """A manifest may hold anything."""
    from diagnose.sources.checkpoint import caches

    assert caches._model_digest(json.dumps(value).encode()) == ""
