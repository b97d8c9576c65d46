"""Starts trainings as configured, with the real accelerate, DeepSpeed and transformers on a CPU: run in an interpreter that has them.

Standard input is JSON, a list of objects: `files` (name → content: train.json are TrainingArguments, ds.json is
DeepSpeed's, acc.yaml accelerate's), `class` (the arguments' class), `evaluate`. A line of JSON is written for each:
`problem`, the exception as a traceback ends with it, or nothing. Each runs in a forked child: torch is imported once.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import socket
import sys
import tempfile
import traceback
from typing import Any


def attempt(request: dict[str, Any], folder: str) -> None:
    """One training of one step: what accelerate launch sets, the arguments, the Trainer."""
    os.chdir(folder)
    for name, content in request["files"].items():
        with open(name, "w", encoding="utf-8") as file:
            file.write(content)
    if "acc.yaml" in request["files"]:
        _launch()
    if "train.json" in request["files"]:
        _train(request)
    elif "ds.json" in request["files"]:
        from deepspeed.runtime.config import DeepSpeedConfig

        DeepSpeedConfig("ds.json")


def _launch() -> None:
    """What `accelerate launch` does before it starts the processes, and the plugin that each of them makes."""
    from accelerate.commands import launch as command
    from accelerate.utils import DeepSpeedPlugin, FullyShardedDataParallelPlugin, dataclasses, launch

    args = command.launch_command_parser().parse_args(["--config_file", "acc.yaml", "train.py"])
    args, defaults, precision = command._validate_launch_command(args)
    if args.use_deepspeed:
        fields = [*defaults.deepspeed_config, *(["mixed_precision"] if precision else [])]
        args.deepspeed_fields_from_accelerate_config = ",".join(fields)
        os.environ.update(launch.prepare_deepspeed_cmd_env(args)[1])
        DeepSpeedPlugin()
    elif args.use_fsdp or args.multi_gpu:
        os.environ.update(launch.prepare_multi_gpu_env(args))
    else:
        os.environ.update(launch.prepare_simple_launcher_cmd_env(args)[1])
    if args.use_fsdp:
        dataclasses.is_cuda_available = lambda: True
        import torch

        torch.cuda.current_device = lambda: 0
        FullyShardedDataParallelPlugin()


def _train(request: dict[str, Any]) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer

    module, _, name = request.get("class", "transformers.TrainingArguments").rpartition(".")
    with open("train.json", encoding="utf-8") as file:
        given = json.load(file)
    fixed = {"output_dir": "out", "use_cpu": True, "report_to": "none", "max_steps": 1, "save_strategy": "no"}
    args = getattr(importlib.import_module(module), name)(**(fixed | given))
    model = LlamaForCausalLM(
        LlamaConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=64)
    )
    data = [{"input_ids": torch.arange(8), "labels": torch.arange(8)} for _ in range(32)]
    trainer = Trainer(model, args, train_dataset=data, eval_dataset=data)
    if request.get("evaluate"):
        trainer.evaluate()
    else:
        trainer.train()


def main() -> None:
    """Try all that standard input asks for."""
    os.environ |= {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    import torch
    import transformers

    assert torch.__version__, transformers.__version__
    importlib.import_module("deepspeed")
    for request in json.load(sys.stdin):
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as said:
            sys.stdout.flush()
            pid = os.fork()
            if pid == 0:
                _child(request, folder, said.fileno())
            status = os.waitpid(pid, 0)[1]
            said.seek(0)
            problem = said.read() if status == 0 else f"the process died with status {status}"
            sys.stdout.write(json.dumps({"problem": problem}) + "\n")
            sys.stdout.flush()


def _child(request: dict[str, Any], folder: str, said: int) -> None:
    with open(os.path.join(folder, "log"), "w", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    problem = ""
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
    }
    try:
        attempt(request, folder)
    except BaseException as error:
        problem = "".join(traceback.format_exception_only(error)).strip()
    os.write(said, problem.encode()[:4000])
    os._exit(0)


if __name__ == "__main__":
    main()
