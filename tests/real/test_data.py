"""Planted faults of training data with the real datasets and TRL: what is called an error ends the training, what is mended trains.

Run by `make test-real`, in the interpreter that LLMDOCTOR_REAL_PYTHON names.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from diagnose.model import Rule
from tests.sources.data.support import MODELS, jsonl
from tests.sources.data.test_fixes import FAULTS, causes
from tests.test_bundled_rules import RULES

pytestmark = pytest.mark.real
PYTHON = os.environ.get("LLMDOCTOR_REAL_PYTHON", sys.executable)

PROGRAM = """
import json, logging, os, sys, tempfile, warnings
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false", CUDA_VISIBLE_DEVICES="")
warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)
import datasets, torch, trl
from transformers import AutoModelForCausalLM, AutoTokenizer
torch.set_num_threads(1)
datasets.disable_progress_bars()
model, work = sys.argv[1], tempfile.mkdtemp(dir=sys.argv[2])
TRAINERS = {"sft": (trl.SFTTrainer, trl.SFTConfig), "dpo": (trl.DPOTrainer, trl.DPOConfig),
            "kto": (trl.KTOTrainer, trl.KTOConfig), "grpo": (trl.GRPOTrainer, trl.GRPOConfig)}
def train(task, file):
    data = datasets.load_dataset("json", data_files=file, split="train", cache_dir=tempfile.mkdtemp(dir=work))
    if len(data) > 100:
        data = data.select([*range(40), *range(len(data) - 40, len(data))])
    trainer, config = TRAINERS[task]
    given = dict(output_dir=work, max_steps=1, per_device_train_batch_size=2, report_to="none", use_cpu=True, bf16=False,
                 gradient_checkpointing=False, disable_tqdm=True, logging_strategy="no", save_strategy="no")
    more = {}
    if task == "grpo":
        given.update(num_generations=2, max_completion_length=4)
        more["reward_funcs"] = lambda completions, **_: [1.0] * len(completions)
    made = trainer(model=AutoModelForCausalLM.from_pretrained(model), args=config(**given), train_dataset=data,
                   processing_class=AutoTokenizer.from_pretrained(model), **more)
    made.train()
for line in sys.stdin:
    task, file = json.loads(line)
    try:
        train(task, file)
        print("ANSWER ok", flush=True)
    except BaseException as error:
        print("ANSWER", type(error).__name__, flush=True)
"""
SILENT = ("data-label-is-no-flag",)
"""Errors that train wrong without a word: KTO takes -1 for true."""


def test_what_is_called_an_error_ends_the_training_and_what_is_mended_trains(tmp_path: Path) -> None:
    """Each planted fault is loaded and trained for a step, and so is what its rule's command writes."""
    rules: dict[str, Rule] = {name: RULES.rule(index) for index, name in enumerate(RULES.ids)}
    asked: list[tuple[str, str, Path]] = []
    for rule, (known, rows) in FAULTS.items():
        folder = tmp_path / rule
        folder.mkdir()
        path = jsonl(folder / "train.jsonl", rows)
        task = str(known["training.task"])
        command = causes(path, known)[rule][0]
        subprocess.run(["bash", "-c", command], cwd=folder, check=True)
        asked += [(rule, task, path), (rule, task, folder / command.rpartition("> ")[2].strip())]
    lines = "".join(json.dumps([task, str(path)]) + "\n" for _, task, path in asked)
    program = [PYTHON, "-W", "ignore", "-c", PROGRAM, str(MODELS / "qwen2"), str(tmp_path)]
    done = subprocess.run(program, input=lines, capture_output=True, text=True, check=False, timeout=900)
    answers = [line.split(" ", 1)[1] for line in done.stdout.splitlines() if line.startswith("ANSWER ")]

    assert len(asked) == len(answers), done.stderr[-2000:]
    lived = [
        rule
        for (rule, _, path), said in zip(asked, answers, strict=True)
        if path.name == "train.jsonl" and said == "ok"
    ]
    died = [
        (rule, said)
        for (rule, _, path), said in zip(asked, answers, strict=True)
        if path.name != "train.jsonl" and said != "ok"
    ]
    assert [] == [rule for rule in lived if rules[rule].severity == "error" and rule not in SILENT]
    assert [] == died
