"""DoctorCallback in trainings with the real Trainer and a tiny model on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

pytestmark = pytest.mark.real
MODEL = ROOT / "tests" / "models" / "folders" / "qwen2"
PROGRAM = """\
import sys, tempfile, torch
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
from diagnose.integrations.transformers import DoctorCallback

class Texts(torch.utils.data.Dataset):
    def __len__(self):
        return 64
    def __getitem__(self, number):
        torch.manual_seed(number)
        ids = torch.randint(0, 300, (16,))
        labels = torch.full_like(ids, -100) if {masked} else ids
        return {{"input_ids": ids, "labels": labels, "attention_mask": torch.ones_like(ids)}}

class Own(Trainer):
    def compute_loss(self, model, inputs, **more):
        if {raising} and self.state.global_step == 2:
            raise RuntimeError("CUDA error: out of memory")
        return super().compute_loss(model, inputs, **more)

model = AutoModelForCausalLM.from_pretrained({model!r})
{before}
args = TrainingArguments("out", max_steps=8, logging_steps=1, use_cpu=True, report_to="none", {settings})
Own(model, args, train_dataset=Texts(), callbacks=[DoctorCallback({callback})]).train()
print("trained", args.max_steps)
"""


def train(
    tmp_path: Path,
    settings: str = "",
    masked: bool = False,
    raising: bool = False,
    callback: str = "",
    before: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run a training in a process of its own."""
    file = tmp_path / "train.py"
    text = PROGRAM.format(
        model=str(MODEL), settings=settings, masked=masked, raising=raising, callback=callback, before=before
    )
    file.write_text(text, encoding="utf-8")
    python = os.environ.get("LLMDOCTOR_REAL_PYTHON", sys.executable)
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([python, str(file)], capture_output=True, text=True, timeout=300, cwd=tmp_path, env=environ)


def test_a_healthy_training_is_left_alone(tmp_path: Path) -> None:
    """Not a word, at its beginning or while it runs."""
    done = train(tmp_path, "learning_rate=1e-4")

    assert "trained 8" in done.stdout
    assert "Why" not in done.stderr


def test_labels_that_are_all_masked_are_told_while_it_runs(tmp_path: Path) -> None:
    """The loss is 0, which looks like a success."""
    done = train(tmp_path, "learning_rate=1e-4", masked=True)

    assert "loss-stays-zero" in done.stderr
    assert done.returncode == 0


def test_a_setting_that_is_wrong_stops_it_if_wished(tmp_path: Path) -> None:
    """Before the first step."""
    done = train(tmp_path, "learning_rate=50.0", callback="stop_on='error'")

    assert done.returncode == 1
    assert "learning_rate" in done.stderr
    assert "trained" not in done.stdout


def test_a_check_that_fails_does_not_end_the_training(tmp_path: Path) -> None:
    """Without a place for temporary files."""
    done = train(tmp_path, "learning_rate=1e-4", before="tempfile.TemporaryDirectory = None")

    assert "trained 8" in done.stdout
    assert "no check was made" in done.stderr
    assert done.returncode == 0


def test_settings_of_trainers_that_sample_are_told_from_others() -> None:
    """By TRL's own classes."""
    lines = "import trl; from diagnose.integrations.losses import generates as g; print([g(getattr(trl, n)) for n in {names}])"
    python = os.environ.get("LLMDOCTOR_REAL_PYTHON", sys.executable)
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    for names, expected in (
        (["GRPOConfig", "RLOOConfig"], [True, True]),
        (["SFTConfig", "DPOConfig", "KTOConfig", "RewardConfig"], [False] * 4),
    ):
        program = lines.format(names=names)
        done = subprocess.run([python, "-c", program], capture_output=True, text=True, timeout=300, env=environ)
        assert done.stdout.strip() == str(expected), done.stderr


def test_what_ends_it_is_diagnosed(tmp_path: Path) -> None:
    """Below the traceback, with the facts of this machine."""
    done = train(tmp_path, "learning_rate=1e-4", raising=True)

    assert done.returncode == 1
    assert "Fix" in done.stderr.partition("RuntimeError: CUDA error: out of memory")[2]
