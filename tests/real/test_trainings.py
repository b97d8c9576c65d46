"""Faults that really happen: trainings of tiny models by TRL, accelerate and torchrun on the CPU, each under `llmdoctor run`.

Every one dies, or hangs, as it was made to, and what ended it is told first; healthy ones run in silence.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.real.trainings import SCRIPT, Trial, conversation, rows, run, taken_port

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]
PYTHON = os.environ.get("LLMDOCTOR_REAL_PYTHON", sys.executable)
TORCHRUN = ("torchrun", "--standalone", "--nproc_per_node", "2", "train.py")
LAUNCH = ("accelerate", "launch", "--config_file", "acc.yaml", "-m", "trl.scripts.sft", "--config", "sft.yaml")
ACCELERATE = "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_CPU\nnum_processes: 2\n"

Prepare = Callable[[Path], None]


def data(items: list[Any]) -> Prepare:
    """Other training data; no test data."""

    def prepare(folder: Path) -> None:
        rows(folder / "data", "train.jsonl", items)
        (folder / "data" / "test.jsonl").unlink()

    return prepare


def text(name: str, value: str) -> Prepare:
    """A file more."""

    def prepare(folder: Path) -> None:
        (folder / name).write_text(value, encoding="utf-8")

    return prepare


def script(fault: str) -> Prepare:
    """A loop of two ranks with what the second one does."""
    return text("train.py", SCRIPT.format(fault=fault))


def cut_short(folder: Path) -> None:
    """Weights whose end is missing."""
    path = folder / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-999])


def without_template(folder: Path) -> None:
    """A tokenizer without a chat template."""
    path = folder / "model" / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings.pop("chat_template", None)
    path.write_text(json.dumps(settings), encoding="utf-8")
    (folder / "model" / "chat_template.jinja").unlink(missing_ok=True)


def broken_row(folder: Path) -> None:
    """A line that ends in the middle."""
    good = json.dumps(conversation(1))
    (folder / "data" / "train.jsonl").write_text(f'{good}\n{{"messages": [{{"role": "user", "content": "x"\n', "utf-8")


HEALTHY = (Trial("sft", ()), Trial("two-ranks", (), words=TORCHRUN, prepare=script("pass")))
BEST = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 2}
TRIALS = (
    # settings
    Trial("misspelt", ("training-key-misspelt",), {"learning_rate": None, "learning_rat": 2e-4}),
    Trial("renamed", ("training-key-renamed",), {"max_length": None, "max_seq_length": 256}),
    Trial("eval-strategy", ("training-value-not-a-choice",), {"eval_strategy": "step"}),
    Trial("scheduler", ("training-value-not-a-choice",), {"lr_scheduler_type": "cosin"}),
    Trial("optimizer", ("training-value-not-a-choice",), {"optim": "adamw_fast"}),
    Trial("no-batch", ("batch-not-positive",), {"per_device_train_batch_size": 0}),
    Trial("no-rank", ("lora-rank-is-zero",), {"lora_r": 0}),
    Trial("targets", ("lora-pattern-matches-nothing",), {"lora_target_modules": ["w_proj"]}),
    Trial("best-between", ("best-model-saves-between-evaluations", "best-model-needs-multiple"), {**BEST, "save_steps": 3}),
    Trial("best-otherwise", ("best-model-saved-otherwise-than-evaluated", "best-model-needs-same-strategy"), {**BEST, "save_strategy": "epoch"}),
    Trial("precisions", ("both-precisions",), {"bf16": True, "fp16": True}),
    Trial("prefetch", ("prefetch-without-workers",), {"dataloader_prefetch_factor": 4}),
    Trial("persistent", ("persistent-workers-without-workers",), {"dataloader_persistent_workers": True}),
    Trial("tracker", ("tracker-not-installed", "wandb-without-login"), {"report_to": "wandb"}),
    Trial("resume", ("resume-checkpoint-missing",), {"resume_from_checkpoint": "./none"}),
    Trial("attention", ("flash-attention-asked-and-not-installed",), {"attn_implementation": "flash_attention_2"}),
    # model and data
    Trial("no-model", ("model-path-not-there",), {"model_name_or_path": "./modell"}),
    Trial("cut-short", ("weights-file-cut-short",), prepare=cut_short),
    Trial("no-template", ("chat-template-missing", "messages-without-chat-template"), prepare=without_template),
    Trial("no-data", ("dataset-not-found", "training-data-file-missing"), {"dataset_name": "./dataa"}),
    Trial("broken-row", ("data-lines-unreadable", "data-file-cut-off"), prepare=broken_row),
    Trial("columns", ("data-without-columns-for-sft", "trl-dataset-column-missing"), prepare=data([{"question": f"a{n}", "answer": f"b{n}"} for n in range(20)])),
    Trial("types", ("data-types-differ", "dataset-file-malformed"), prepare=data([conversation(n) for n in range(10)] + [{"messages": f"text {n}"} for n in range(10)])),
    # processes
    Trial("killed", ("run-rank-was-killed-first", "run-killed-by-somebody"), prepare=script("os.kill(os.getpid(), signal.SIGKILL)"), words=TORCHRUN),
    Trial("crashed", ("run-rank-was-killed-first", "run-ended-by-signal"), prepare=script("os.kill(os.getpid(), signal.SIGSEGV)"), words=TORCHRUN),
    Trial("raised", ("tokenizer-pad-token-missing",), prepare=script("raise ValueError('Asking to pad but the tokenizer does not have a padding token.')"), words=TORCHRUN),
    Trial("hangs", ("run-hang-of-one-rank",), prepare=script("step_that_never_ends()"), words=TORCHRUN, around=("--hang", "40s", "--on-hang", "end"), code=124),
    Trial("launcher", ("launcher-option-unknown",), prepare=script("pass"), words=("torchrun", "--nproc_per_nodes", "2", "train.py")),
    Trial("accelerate-key", ("training-key-misspelt",), prepare=text("acc.yaml", f"{ACCELERATE}mixed_precisoin: 'no'\n"), words=LAUNCH),
    Trial("accelerate-value", ("accelerate-precision-unknown",), prepare=text("acc.yaml", f"{ACCELERATE}mixed_precision: bf61\n"), words=LAUNCH),
)  # fmt: skip


@pytest.mark.parametrize("trial", HEALTHY, ids=lambda trial: trial.name)
def test_a_healthy_training_runs_in_silence(trial: Trial, tmp_path: Path) -> None:
    """Its exit code is 0, and llmdoctor says nothing."""
    done = run(trial, tmp_path, PYTHON, report=False)

    assert done.code == 0, done.text[-2000:]
    assert "llmdoctor" not in done.text


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.name)
def test_what_ends_a_training_is_told_first(trial: Trial, tmp_path: Path) -> None:
    """It fails, as foretold; the exit code is the command's."""
    done = run(trial, tmp_path, PYTHON)

    assert done.code == trial.code if trial.code is not None else done.code != 0
    assert {*done.rules[:1]} & {*trial.rules}, (done.rules, done.text[-2000:])


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    """The launcher cannot meet anybody there."""
    with taken_port() as port:
        words = ("torchrun", "--nproc_per_node", "2", "--master_port", str(port), "train.py")
        done = run(Trial("port", (), prepare=script("pass"), words=words), tmp_path, PYTHON)

    assert done.code != 0
    assert "port" in done.rules[0], done.rules
