"""Trains tiny models with the real transformers, TRL and PEFT: run in an interpreter that has them.

Standard input is JSON, a list of objects: `model` (a folder), `lora` (arguments of LoraConfig, or nothing), `load` (of
from_pretrained), `sft` (of SFTConfig: a training is begun; without it the adapter is made and one step taken), `texts` or
`messages`. A line of JSON is written for each: `problem` (class and text of the exception, empty if all went well),
`loss` and `gradients` (their sum), and `bytes` of weights, gradients and optimizer states. Each runs in a forked child.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any


def step(request: dict[str, Any], report: dict[str, Any]) -> None:
    """The model with its adapter, and one step of AdamW."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(request["model"], **loading(request))
    if request.get("lora"):
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **request["lora"]))
    if "trainer" in request:
        from transformers import Trainer, TrainingArguments

        examples = [{"input_ids": [1, 2, 3], "labels": [1, 2, 3]}] * 4
        given = TrainingArguments(request["out"], report_to="none", use_cpu=True, max_steps=1, **request["trainer"])
        Trainer(model, given, train_dataset=examples).train()
        return
    trained = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    length = int(request.get("length", 8))
    tokens = torch.arange(length).remainder(200)[None]
    loss = model.train()(input_ids=tokens, labels=tokens).loss
    scaler = torch.amp.GradScaler("cpu") if request.get("scaled") else None
    (loss if scaler is None else scaler.scale(loss)).backward()
    report["gradients"] = sum(float(value.grad.abs().sum()) for value in trained if value.grad is not None)
    if scaler is not None:
        scaler.unscale_(optimizer)
    optimizer.step()
    states = [one for state in optimizer.state.values() for one in state.values() if torch.is_tensor(one) and one.dim()]
    report["bytes"] = {
        "weights": sum(value.nbytes for value in model.parameters()),
        "trained": sum(value.numel() for value in trained),
        "gradients": sum(value.grad.nbytes for value in trained if value.grad is not None),
        "optimizer": sum(one.nbytes for one in states),
    }


def loading(request: dict[str, Any]) -> dict[str, Any]:
    """Arguments of from_pretrained, with types and quantization in place of their names."""
    import torch
    from transformers import BitsAndBytesConfig

    found = dict(request.get("load") or {})
    if "dtype" in found:
        found["dtype"] = getattr(torch, found["dtype"])
    if found.pop("load_in_4bit", False):
        found["quantization_config"] = BitsAndBytesConfig(load_in_4bit=True)
    return found


def sft(request: dict[str, Any], report: dict[str, Any]) -> None:
    """Two steps of TRL's SFT."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    data = Dataset.from_dict(
        {"messages": [request["messages"]] * 8} if "messages" in request else {"text": ["the train is late " * 60] * 8}
    )
    given = SFTConfig(
        output_dir=request["out"], report_to="none", max_steps=2, per_device_train_batch_size=2, use_cpu=True,
        save_strategy="no", logging_steps=1, disable_tqdm=True, **request["sft"],
    )  # fmt: skip
    lora = LoraConfig(task_type="CAUSAL_LM", **request["lora"]) if request.get("lora") else None
    trainer = SFTTrainer(request["model"], args=given, train_dataset=data, peft_config=lora)
    trainer.train()
    report["loss"] = trainer.state.log_history[0].get("loss")


def told(request: dict[str, Any]) -> dict[str, Any]:
    """What became of one request."""
    report: dict[str, Any] = {"name": request.get("name", ""), "problem": ""}
    try:
        (sft if "sft" in request else step)(request, report)
    except BaseException as error:
        report["problem"] = "".join(traceback.format_exception_only(error)).strip()
    return report


def main() -> None:
    """One child after the other; torch is imported once."""
    import warnings

    import transformers

    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for request in json.load(sys.stdin):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            with os.fdopen(writing, "w") as pipe:
                json.dump(told(request), pipe)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            sys.stdout.write(
                "told:" + (pipe.read() or json.dumps({"name": request.get("name", ""), "problem": "died"})) + "\n"
            )
        os.waitpid(child, 0)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
