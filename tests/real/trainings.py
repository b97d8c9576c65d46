"""Trainings that really run, and fail as they were made to: a world of a tiny model and data, a fault, a command under `llmdoctor run`."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import yaml

from tests.support import ROOT

MODEL = ROOT / "tests" / "models" / "folders" / "qwen2"
SFT: Mapping[str, Any] = MappingProxyType(
    {
        "model_name_or_path": "./model",
        "dataset_name": "./data",
        "output_dir": "./out",
        "learning_rate": 2e-4,
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "max_length": 512,
        "bf16": False,
        "use_cpu": True,
        "logging_steps": 1,
        "save_steps": 4,
        "report_to": "none",
        "use_peft": True,
        "lora_r": 4,
        "lora_target_modules": ["q_proj", "v_proj"],
    }
)
"""A supervised fine-tuning of some seconds on the CPU."""
SCRIPT = """\
import os, signal, sys, time
import torch, torch.distributed as dist
from transformers import AutoModelForCausalLM

def step_that_never_ends():
    while True:
        time.sleep(0.2)

dist.init_process_group("gloo")
rank = dist.get_rank()
model = torch.nn.parallel.DistributedDataParallel(AutoModelForCausalLM.from_pretrained("./model", dtype=torch.float32))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
for step in range(6):
    if rank == 1 and step == 3:
        {fault}
    ids = torch.randint(0, 300, (2, 16))
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    print(f"rank {{rank}} step {{step}} loss {{loss.item():.3f}}", flush=True)
dist.destroy_process_group()
"""
"""A data-parallel loop of two ranks; `fault` is what rank 1 does at its fourth step."""


class Trial(NamedTuple):
    """A fault and what has to be told first. `settings` change SFT's (None takes one out); `prepare` changes the world.

    `words` start the training; `around` are llmdoctor's own options.
    """

    name: str
    rules: tuple[str, ...]
    settings: Mapping[str, Any] = MappingProxyType({})
    prepare: Callable[[Path], None] = lambda folder: None
    words: tuple[str, ...] = ("trl", "sft", "--config", "sft.yaml")
    around: tuple[str, ...] = ()
    code: int | None = None


def rows(folder: Path, name: str, items: list[Any]) -> None:
    """Write a JSONL file."""
    (folder / name).write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")


def conversation(number: int) -> dict[str, Any]:
    """A question and its answer."""
    return {
        "messages": [
            {"role": "user", "content": f"What is {number} and {number}?"},
            {"role": "assistant", "content": f"It is {2 * number}."},
        ]
    }


def world(folder: Path, trial: Trial) -> None:
    """Model, data and settings, with the fault."""
    shutil.copytree(MODEL, folder / "model")
    (folder / "data").mkdir()
    rows(folder / "data", "train.jsonl", [conversation(number) for number in range(64)])
    rows(folder / "data", "test.jsonl", [conversation(number) for number in range(100, 116)])
    settings = {key: value for key, value in {**SFT, **trial.settings}.items() if value is not None}
    (folder / "sft.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    trial.prepare(folder)


def environment(python: str) -> dict[str, str]:
    """The environment of a training: that of the interpreter with the real libraries, offline, on the CPU."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    path = os.pathsep.join((os.path.dirname(python), kept.get("PATH", "")))
    more = {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false", "COLUMNS": "200"}
    return {**kept, **more, "PATH": path, "VIRTUAL_ENV": os.path.dirname(os.path.dirname(python))}


class Ran(NamedTuple):
    """How a run ended: its exit code, what it printed, and the diagnosis, if one was made."""

    code: int
    text: str
    diagnosis: dict[str, Any] | None

    @property
    def rules(self) -> list[str]:
        """The rules of the diagnosis, the first cause first; notes are left out."""
        causes = self.diagnosis["diagnoses"] if self.diagnosis else []
        return [cause["rule"] for cause in causes if cause["severity"] != "note"]


def run(trial: Trial, folder: Path, python: str, report: bool = True) -> Ran:
    """Run a trial in a folder under `llmdoctor run`, from the interpreter of these tests."""
    world(folder, trial)
    words = [sys.executable, "-m", "diagnose", "run", *(["--report", "report"] if report else []), *trial.around, "--"]
    environ = {**environment(python), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*words, *trial.words], cwd=folder, env=environ, capture_output=True, text=True, timeout=300, errors="replace"
    )
    made = sorted((folder / "report").glob("*.report.json"))
    diagnosis = json.loads(made[0].read_text(encoding="utf-8")) if made else None
    return Ran(done.returncode, done.stdout + done.stderr, diagnosis)


@contextmanager
def taken_port() -> Iterator[int]:
    """A port of this machine on which somebody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])
