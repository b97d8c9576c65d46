"""Makes the tiny model folders below tests/models/folders with the real libraries; run from the checkout's root:

    python -m tests.models.build

with an interpreter that has torch, transformers, peft, sentencepiece and gguf. Seeded: the same releases make the same
files. What it makes is committed, so that the quick suite needs none of these libraries.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from transformers import AutoModelForCausalLM

from tests.models import gguf_files, quantized
from tests.models.families import FAMILIES, QWEN2, TEMPLATES, Family
from tests.models.vocabularies import added, write_slow_files

FOLDERS = Path(__file__).parent / "folders"
OLD = "4.57.1"
"""The release that the folders of style 4 name."""


def write_json(path: Path, value: Any) -> None:
    """JSON as transformers writes it."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def build(family: Family, folder: Path) -> None:
    """One model folder."""
    folder.mkdir(parents=True)
    _write_tokenizer(family, folder)
    _write_weights(family, folder)
    if family.generation:
        release = OLD if family.style == 4 else transformers.__version__
        write_json(folder / "generation_config.json", {**family.generation, "transformers_version": release})


def _write_tokenizer(family: Family, folder: Path) -> None:
    words = family.words()
    words.fast.save(str(folder / "tokenizer.json"))
    if words.sentencepiece:
        (folder / "tokenizer.model").write_bytes(words.sentencepiece)
    if words.slow_files:
        write_slow_files(words.fast, folder)
    tokens = dict(family.tokens)
    template = (TEMPLATES / f"{family.template}.jinja").read_text(encoding="utf-8") if family.template else ""
    if family.style == 4:
        if len(tokens) > 1:
            tokens["added_tokens_decoder"] = added(words.fast)
            write_json(folder / "special_tokens_map.json", _special_tokens(tokens))
        if template:
            tokens["chat_template"] = template
    elif template:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    write_json(folder / "tokenizer_config.json", dict(sorted(tokens.items())))


def _special_tokens(tokens: dict[str, Any]) -> dict[str, Any]:
    """special_tokens_map.json, as transformers 4 writes it beside tokenizer_config.json."""
    plain = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    names = ("bos_token", "eos_token", "pad_token", "unk_token")
    found: dict[str, Any] = {name: {"content": tokens[name], **plain} for name in names if tokens.get(name)}
    if tokens.get("additional_special_tokens"):
        found["additional_special_tokens"] = tokens["additional_special_tokens"]
    return found


def _write_weights(family: Family, folder: Path) -> None:
    dtype_key = "torch_dtype" if family.style == 4 else "dtype"
    config = dict(family.config)
    if family.dtype:
        config[dtype_key] = family.dtype
    config["transformers_version"] = OLD
    write_json(folder / "config.json", dict(sorted(config.items())))
    torch.manual_seed(20)
    made = transformers.AutoConfig.from_pretrained(folder)
    model = AutoModelForCausalLM.from_config(made, dtype=getattr(torch, family.dtype))
    _spread(model)
    if family.pickle:
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        torch.save(state, folder / "pytorch_model.bin")
        return
    apart = folder / "saved"
    model.save_pretrained(apart, max_shard_size=family.shard or "1GB")
    for file in sorted(apart.glob("*.safetensors*")):
        file.rename(folder / file.name)
        (folder / file.name).chmod(0o644)
    if family.style == 5:
        (apart / "config.json").rename(folder / "config.json")
    shutil.rmtree(apart)


def _spread(model: torch.nn.Module) -> None:
    """Gives every parameter its own random values: also those that would start as zeros, and that a real model has learned."""
    for parameter in model.parameters():
        if not parameter.detach().float().std() > 0:
            with torch.no_grad():
                parameter.add_(torch.randn(parameter.shape).to(parameter.dtype) * 0.02)


def build_adapter(folder: Path) -> None:
    """A LoRA adapter for the qwen2 folder, saved by peft."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(21)
    model = AutoModelForCausalLM.from_pretrained(FOLDERS / QWEN2.name)
    settings = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    tuned = get_peft_model(model, settings)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            with torch.no_grad():
                parameter.add_(torch.randn(parameter.shape).to(parameter.dtype) * 0.02)
    tuned.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = QWEN2.name
    config["target_modules"] = sorted(config["target_modules"])
    write_json(path, config)


def main() -> None:
    """Makes all folders anew, or those that are named."""
    named = sys.argv[1:]
    for family in FAMILIES:
        if not named or family.name in named:
            shutil.rmtree(FOLDERS / family.name, ignore_errors=True)
            build(family, FOLDERS / family.name)
    for name, make in (
        ("qwen2-lora", build_adapter),
        ("gguf", gguf_files.build),
        ("gptq", lambda folder: quantized.build_gptq(FOLDERS / "llama2-chat", folder)),
        ("fp8", lambda folder: quantized.build_fp8(FOLDERS / "llama2-chat", folder)),
    ):
        if not named or name in named:
            shutil.rmtree(FOLDERS / name, ignore_errors=True)
            make(FOLDERS / name)


if __name__ == "__main__":
    main()
