"""Faults of adapters, of quantized checkpoints, and of the Hub's cache."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from tests.models.edits import alter, change, config, cut, header, pointer, remove, without_tensors
from tests.models.faults.fault import Fault

ADAPTER, TENSORS = "adapter_config.json", "adapter_model.safetensors"
SAFE = "model.safetensors"
COMMIT = "0f3d1c0aa5b1ff6b7a1d9f2fd2f51c0cbb9e4d11"


def cached(change: Any = None, model: str = "models--tiny--qwen2") -> Any:
    """The folder as the Hub's client keeps it: blobs, a snapshot of links to them, refs/main; `change` breaks it."""

    def edit(folder: Path) -> None:
        top = folder.parent / "hub" / model
        snapshot = top / "snapshots" / COMMIT
        for part in (snapshot, top / "blobs", top / "refs"):
            part.mkdir(parents=True)
        for number, file in enumerate(sorted(folder.iterdir())):
            blob = top / "blobs" / f"{number:040x}"
            shutil.move(file, blob)
            (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))
        folder.rmdir()
        (top / "refs" / "main").write_text(COMMIT, encoding="utf-8")
        if change:
            change(top, snapshot)

    return edit


def _blob_lost(top: Path, snapshot: Path) -> None:
    (snapshot / SAFE).resolve().unlink()


def _download_broke_off(top: Path, snapshot: Path) -> None:
    blob = (snapshot / SAFE).resolve()
    (snapshot / SAFE).unlink()
    blob.write_bytes(blob.read_bytes()[:3000])
    blob.rename(blob.with_name(blob.name + ".incomplete"))


def _other_commit(top: Path, snapshot: Path) -> None:
    (top / "refs" / "main").write_text("1" * 40, encoding="utf-8")


def _no_refs(top: Path, snapshot: Path) -> None:
    shutil.rmtree(top / "refs")


def _only_small_files(top: Path, snapshot: Path) -> None:
    for name in (SAFE,):
        (snapshot / name).resolve().unlink()
        (snapshot / name).unlink()


def _rank(value: dict[str, Any]) -> None:
    value["r"] = 16


def _modules(*names: str) -> Any:
    def by(value: dict[str, Any]) -> None:
        value["target_modules"] = list(names)

    return by


def _other_layers(value: dict[str, Any]) -> None:
    for name in [name for name in value if ".layers.1." in name]:
        value[name.replace(".layers.1.", ".layers.7.")] = value.pop(name)


def _rows(value: dict[str, Any]) -> None:
    """The adapter was made on a model of twice the width."""
    for name, entry in value.items():
        if name.endswith("lora_A.weight"):
            entry["shape"] = [entry["shape"][0] // 2, entry["shape"][1] * 2]


HUB = {"HF_HUB_CACHE": "hub"}
LORA = ("qwen2",)
FAULTS: tuple[Fault, ...] = (
    Fault("adapter-without-its-base", "qwen2-lora", "adapter-base-path-not-there", (change(ADAPTER, base_model_name_or_path="/data/models/qwen2-tuned"),)),
    Fault("adapter-config-is-missing", "qwen2-lora", "adapter-config-missing", (remove(ADAPTER),), also=LORA, real="peft", follows="Can't find 'adapter_config.json'"),
    Fault("adapter-weights-are-missing", "qwen2-lora", "adapter-weights-missing", (remove(TENSORS),), also=LORA, real="peft", follows="Repo id must be in the form"),
    Fault("adapter-weights-are-an-lfs-pointer", "qwen2-lora", "weights-file-is-pointer", (pointer(TENSORS),), also=LORA, real="peft", follows="header too large"),
    Fault("adapter-config-is-cut-off", "qwen2-lora", "adapter-config-unreadable", (cut(ADAPTER, 0.5),), also=LORA, real="peft", follows="json.decoder.JSONDecodeError"),
    Fault("adapter-type-is-unknown", "qwen2-lora", "adapter-type-unknown", (change(ADAPTER, peft_type="LORRA"),), also=LORA, real="peft", follows="KeyError: 'LORRA'"),
    Fault("adapter-rank-differs-from-its-tensors", "qwen2-lora", "adapter-rank-differs-from-tensors", (alter(ADAPTER, _rank),), also=LORA, real="peft", follows="size mismatch for base_model"),
    Fault("adapter-targets-modules-the-base-lacks", "qwen2-lora", "adapter-targets-not-in-base", (alter(ADAPTER, _modules("query_key_value", "dense")),), also=LORA, real="peft", follows="not found in the base model"),
    Fault("adapter-for-more-layers-than-the-base", "qwen2-lora", "adapter-modules-not-in-base", (header(TENSORS, _other_layers),), also=LORA),
    Fault("adapter-made-on-a-wider-model", "qwen2-lora", "adapter-of-another-width", (header(TENSORS, _rows),), also=LORA, real="peft", follows="size mismatch for base_model"),
    Fault("adapter-on-another-base", "qwen2-lora", "adapter-modules-not-in-base", (change(ADAPTER, base_model_name_or_path="gpt2"),), also=("gpt2",)),
    Fault("quantization-without-a-method", "gptq", "quantization-method-missing", (config(quantization_config__quant_method=...),), real="transformers", follows="has no `quant_method` attribute"),
    Fault("quantization-method-is-unknown", "gptq", "quantization-method-not-known", (config(quantization_config__quant_method="gptqq"),), real="transformers", follows="| MISSING"),
    Fault("gptq-bits-differ-from-the-tensors", "gptq", "quantization-bits-differ", (config(quantization_config__bits=8),)),
    Fault("gptq-group-differs-from-the-tensors", "gptq", "quantization-group-differs", (config(quantization_config__group_size=16),)),
    Fault("gptq-tensors-without-a-quantization-config", "gptq", "quantization-not-told-in-config", (config(quantization_config=...), remove("quantize_config.json")), real="transformers", follows="| MISSING"),
    Fault("gptq-scales-are-missing", "gptq", "quantization-scales-missing", (without_tensors(SAFE, "layers.0.mlp.up_proj.scales"),)),
    Fault("quantization-config-on-plain-weights", "llama2-chat", "quantization-differs-from-tensors", (config(quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True}),)),
    Fault("fp8-scales-are-missing", "fp8", "quantization-scales-missing", (without_tensors(SAFE, "_proj.weight_scale"),), real="transformers", follows="contains either `inf`, `nan`"),
    Fault("fp8-without-a-quantization-config", "fp8", "quantization-not-told-in-config", (config(quantization_config=...),), real="transformers", follows="contains either `inf`, `nan`"),
    Fault("cached-blob-is-lost", "qwen2", "cache-links-broken", (cached(_blob_lost),), target="tiny/qwen2", environ=HUB),
    Fault("cached-download-broke-off", "qwen2", "model-still-downloading", (cached(_download_broke_off),), target="tiny/qwen2", environ=HUB),
    Fault("cached-ref-names-another-commit", "qwen2", "cache-ref-without-snapshot", (cached(_other_commit),), target="tiny/qwen2", environ=HUB),
    Fault("cached-without-refs", "qwen2", "cache-snapshot-without-ref", (cached(_no_refs),), target="tiny/qwen2", environ=HUB),
    Fault("cached-without-weights", "qwen2", "weights-none-in-folder", (cached(_only_small_files),), target="tiny/qwen2", environ=HUB),
    Fault("not-in-the-cache", "qwen2", "model-not-cached-while-offline", (cached(),), target="tiny/qwen3", environ={**HUB, "HF_HUB_OFFLINE": "1"}),
    Fault("no-such-folder", "qwen2", "model-path-not-there", (), target="./qwen2-chat"),
    Fault("folder-is-empty", "", "model-folder-empty", (lambda world: (world / "new").mkdir(),), target="./new"),
    Fault("folder-above-the-model", "", "model-is-one-folder-further-in", (lambda world: shutil.copytree(Path(__file__).parent.parent / "folders" / "qwen3", world / "download" / "qwen3") and None,), target="download"),
)  # fmt: skip
