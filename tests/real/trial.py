"""Loads models with the real transformers and lets them answer: run in an interpreter that has it.

Standard input is JSON, a list of objects: `model` (a folder), `adapter` (a folder, or nothing), `chat` (whether a
conversation is asked for, or a bare text), `new_tokens`. A line of JSON is written for each: `problem` (the exception as
a traceback ends with it, empty if all went well), `stage` (what was being done), `log` (all that was written), `answer`.
Each runs in a forked child: torch is imported once.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from typing import Any

CONVERSATION = [{"role": "user", "content": "Which train is late?"}]


def attempt(request: dict[str, Any], report: dict[str, Any]) -> None:
    """One model, from its folder to an answer; `report` tells at any time what is being done."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    report["stage"] = "tokenizer"
    tokenizer = AutoTokenizer.from_pretrained(request.get("tokenizer") or request["model"])
    report["stage"] = "weights"
    model, loading = AutoModelForCausalLM.from_pretrained(request["model"], output_loading_info=True)
    report["loading"] = {key: sorted(map(str, value))[:5] for key, value in loading.items() if value}
    if request.get("adapter"):
        from peft import PeftModel

        report["stage"] = "adapter"
        model = PeftModel.from_pretrained(model, request["adapter"])
    report["stage"] = "encode"
    if request.get("chat"):
        messages = request.get("messages") or CONVERSATION
        tokens = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
    else:
        tokens = tokenizer("The night train", return_tensors="pt")
    report["prompt"] = tokens["input_ids"][0].tolist()
    report["stage"] = "generate"
    made = model.generate(
        input_ids=tokens["input_ids"],
        attention_mask=tokens["attention_mask"],
        max_new_tokens=request.get("new_tokens", 2),
    )
    report["stage"] = "decode"
    new = made[0, tokens["input_ids"].shape[1] :].tolist()
    report["answer"], report["text"] = new, tokenizer.decode(new)
    report["stage"] = "done"


def main() -> None:
    """Try all that standard input asks for."""
    import torch
    import transformers

    assert torch.__version__, transformers.__version__
    for request in json.load(sys.stdin):
        with tempfile.TemporaryFile("w+") as log, tempfile.TemporaryFile("w+") as said:
            sys.stdout.flush()
            pid = os.fork()
            if pid == 0:
                _child(request, log.fileno(), said.fileno())
            status = os.waitpid(pid, 0)[1]
            log.seek(0)
            said.seek(0)
            died = {"stage": "?", "problem": f"the process died with status {status}"}
            report = json.loads(said.read() or json.dumps(died))
            sys.stdout.write(json.dumps(report | {"log": log.read()}) + "\n")
            sys.stdout.flush()


def _child(request: dict[str, Any], log: int, said: int) -> None:
    os.dup2(log, 1)
    os.dup2(log, 2)
    report: dict[str, Any] = {"stage": "config", "problem": ""}
    try:
        os.environ["HF_HUB_OFFLINE"] = "1"
        attempt(request, report)
    except BaseException as error:
        report["problem"] = traceback.format_exception_only(error)[-1].strip()
        traceback.print_exc()
    sys.stderr.flush()
    os.write(said, json.dumps(report).encode())
    os._exit(0)


if __name__ == "__main__":
    main()
