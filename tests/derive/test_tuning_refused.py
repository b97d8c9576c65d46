"""Settings that are refused are foretold, and explain what the library then says.

Each text is what transformers 5.24, TRL 1.16, PEFT 0.21 or torch 2.13 really printed for such settings, run on a tiny model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from diagnose import ruleset
from diagnose.causes import diagnose
from diagnose.collect import case_of_text
from diagnose.derive import complete
from diagnose.match import match
from diagnose.model import Case, Fact
from diagnose.ruleset import RuleSet
from diagnose.sources import training

NO_GPU = {"gpu.vendor": "none", "gpu.count": 0}
ENVIRONMENT = {
    "packages.count": 90,
    "transformers.version": "5.24.0",
    "trl.version": "1.16.0",
    "torch.version": "2.13.0",
}
SFT = {"model_name_or_path": "m", "dataset_name": "d", "max_length": 512}
GRPO = {
    "model_name_or_path": "m",
    "dataset_name": "d",
    "max_completion_length": 64,
    "use_cpu": True,
    "per_device_train_batch_size": 4,
}
PLAIN = {"output_dir": "out", "learning_rate": 2.0e-5, "use_cpu": True}

REFUSED: tuple[tuple[str, dict[str, Any], dict[str, Any], str], ...] = (
    ("both-precisions", {"bf16": True, "fp16": True}, {}, "ValueError: At most one of fp16 and bf16 can be True, but not both"),
    ("bf16-without-gpu", {"bf16": True, "use_cpu": False}, NO_GPU, "ValueError: Your setup doesn't support bf16/gpu. You need to assign use_cpu if you want to train the model on CPU."),
    ("bf16-by-default-without-gpu", SFT | {"use_cpu": False}, NO_GPU, "ValueError: Your setup doesn't support bf16/gpu. You need to assign use_cpu if you want to train the model on CPU."),
    ("tf32-without-gpu", {"tf32": True}, NO_GPU, "ValueError: --tf32 requires Ampere or a newer GPU arch, cuda>=11 and torch>=1.7"),
    ("best-model-needs-same-strategy", {"load_best_model_at_end": True}, {}, "ValueError: --load_best_model_at_end requires the save and eval strategy to match, except when --save_strategy=\"best\", but found\n- Evaluation strategy: IntervalStrategy.NO\n- Save strategy: SaveStrategy.STEPS"),
    ("best-model-needs-multiple", {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 300}, {}, "ValueError: --load_best_model_at_end requires the saving steps to be a round multiple of the evaluation steps, but found 500, which is not a round multiple of 300."),
    ("best-model-mixes-shares-and-steps", {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 0.1, "save_steps": 500}, {}, "ValueError: --load_best_model_at_end requires the saving steps to be a multiple of the evaluation steps, which cannot get guaranteed when mixing ratio and absolute steps for save_steps 500 and eval_steps 0.1."),
    ("logging-interval-zero", {"logging_steps": 0}, {}, "ValueError: logging strategy IntervalStrategy.STEPS requires non-zero --logging_steps"),
    ("save-interval-not-whole", {"save_strategy": "steps", "save_steps": 10.5}, {}, "ValueError: --save_steps must be an integer if bigger than 1: 10.5"),
    ("eval-interval-not-whole", {"eval_strategy": "steps", "eval_steps": 10.5}, {}, "ValueError: --eval_steps must be an integer if bigger than 1: 10.5"),
    ("warmup-negative", {"warmup_steps": -5}, {}, "ValueError: Got warmup_steps = -5, Expected value warmup_steps >= 0"),
    ("prefetch-without-workers", {"dataloader_prefetch_factor": 2}, {}, "ValueError: --dataloader_prefetch_factor can only be set when data is loaded in a different process, i.e. when --dataloader_num_workers > 0."),
    ("persistent-workers-without-workers", {"dataloader_persistent_workers": True}, {}, "ValueError: persistent_workers option needs num_workers > 0"),
    ("scheduler-lacks-argument", {"lr_scheduler_type": "warmup_stable_decay"}, {}, "TypeError: get_wsd_schedule() missing 1 required positional argument: 'num_decay_steps'"),
    ("scheduler-lacks-argument", {"lr_scheduler_type": "cosine_with_min_lr"}, {}, "ValueError: One of min_lr or min_lr_rate should be set through the `lr_scheduler_kwargs`"),
    ("polynomial-scheduler-above-rate", {"lr_scheduler_type": "polynomial", "learning_rate": 1.0e-8}, {}, "ValueError: lr_end (1e-07) must be smaller than initial lr (1e-08)"),
    ("scheduler-waits-for-evaluation", {"lr_scheduler_type": "greedy"}, {}, "ValueError: lr_scheduler_type greedy requires an eval strategy"),
    ("learning-rate-negative", {"learning_rate": -1.0e-4}, {}, "ValueError: Invalid learning rate: -0.0001"),
    ("adam-beta2-out-of-range", {"adam_beta2": 1.0}, {}, "ValueError: Invalid beta parameter at index 1: 1.0"),
    ("adam-beta1-negative", {"adam_beta1": -0.1}, {}, "ValueError: Invalid beta parameter at index 0: -0.1"),
    ("adam-epsilon-negative", {"adam_epsilon": -1.0e-8}, {}, "ValueError: Invalid epsilon value: -1e-08"),
    ("batch-not-positive", {"per_device_train_batch_size": 0}, {}, "ValueError: batch_size should be a positive integer value, but got batch_size=0"),
    ("best-checkpoint-without-metric", {"save_strategy": "best", "eval_strategy": "steps"}, {}, "ValueError: `args.metric_for_best_model` must be provided when using 'best' save_strategy or if `args.load_best_model_at_end` is set to `True`."),
    ("tracker-not-installed", {"report_to": "mlflow"}, ENVIRONMENT, "RuntimeError: MLflowCallback requires mlflow to be installed. Run `pip install mlflow`."),
    ("tracker-unknown", {"report_to": "wandbb"}, {}, "ValueError: wandbb is not supported, only azure_ml, comet_ml, mlflow, neptune, tensorboard, trackio, wandb, codecarbon, clearml, dagshub, flyte, dvclive, swanlab, kubeflow are supported."),
    ("optimizer-package-missing", {"optim": "schedule_free_adamw"}, ENVIRONMENT, "ImportError: You need to install `schedulefree` in order to use schedulefree optimizers. Install it with `pip install schedulefree.`"),
    ("optimizer-package-missing", {"optim": "adamw_torch_8bit"}, ENVIRONMENT, "ImportError: You need to have `torchao>=0.4.0` in order to use torch 4-bit optimizers. Install it with `pip install torchao` or follow the instructions here: https://github.com/pytorch/ao"),
    ("hub-push-while-offline", {"push_to_hub": True}, {"hub.offline": True}, "huggingface_hub.errors.OfflineModeIsEnabled: Cannot reach https://huggingface.co/api/repos/create: offline mode is enabled. To disable it, please unset the `HF_HUB_OFFLINE` environment variable."),
    ("batch-larger-than-data", {"dataloader_drop_last": True, "per_device_train_batch_size": 4}, {"data.examples": 3, "training.processes": 1}, "ValueError: args.max_steps must be set to a positive value if dataloader does not have a length, was -1"),
    ("resume-checkpoint-missing", {"resume_from_checkpoint": "out/checkpoint-5"}, {"resume.path": "out/checkpoint-5", "resume.problem": "missing"}, "ValueError: Can't find a valid checkpoint at out/checkpoint-5"),
    ("resume-without-checkpoint", {"resume_from_checkpoint": True}, {"saved.folder": "out", "resume.problem": "none-found"}, "ValueError: No valid checkpoint found in output directory (out)"),
    ("resume-adapter-on-other-modules", SFT | {"use_peft": True, "lora_target_modules": ["q_proj", "v_proj"], "use_cpu": True, "resume_from_checkpoint": "out/checkpoint-2"}, {"resume.path": "out/checkpoint-2", "resume.problem": "none", "resume.targets": "q_proj", "resume.kind": "plain", "resume.optimizer": True}, "ValueError: loaded state dict contains a parameter group that doesn't match the size of optimizer's group"),
    ("resume-adapter-of-other-rank", SFT | {"use_peft": True, "lora_r": 8, "use_cpu": True, "resume_from_checkpoint": "out/checkpoint-2"}, {"resume.path": "out/checkpoint-2", "resume.problem": "none", "resume.rank": 4}, "RuntimeError: Error(s) in loading state_dict for PeftModel:\n\tsize mismatch for base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight: copying a param with shape torch.Size([4, 16]) from checkpoint, the shape in current model is torch.Size([8, 16])."),
    ("generations-below-two", GRPO | {"num_generations": 1}, {}, "ValueError: GRPO requires at least 2 generations per prompt to calculate the advantages. You provided 1, which is less than the minimum required."),
    ("generations-not-whole-groups", GRPO | {"num_generations": 3}, {"training.processes": 1}, "ValueError: generation_batch_size (4) must be divisible by num_generations (3)."),
    ("evaluation-not-whole-groups", GRPO | {"num_generations": 4, "per_device_eval_batch_size": 2, "eval_strategy": "steps"}, {"training.processes": 1}, "ValueError: The global eval batch size (2 * 1) must be divisible by the number of generations used for evaluation (4)."),
    ("generation-round-set-twice", GRPO | {"num_generations": 4, "generation_batch_size": 8, "steps_per_generation": 2}, {}, "ValueError: 'generation_batch_size' and 'steps_per_generation' can not be both configured at the same time"),
    ("generation-batch-not-of-global-batch", GRPO | {"num_generations": 4, "generation_batch_size": 6}, {"training.processes": 1}, "ValueError: generation_batch_size (6) must be divisible by the global batch size (4)."),
    ("automatic-batch-for-generations", GRPO | {"num_generations": 4, "auto_find_batch_size": True}, {}, "ValueError: auto_find_batch_size is not supported by GRPO, because the generation batch must contain full prompt groups of num_generations completions, and reducing the batch size on out-of-memory breaks this invariant."),
    ("prompts-fewer-than-round", GRPO | {"num_generations": 2}, {"data.examples": 1, "training.processes": 1}, "ValueError: args.max_steps must be set to a positive value if dataloader does not have a length, was -1"),
    ("generations-without-chance", GRPO | {"temperature": 0.0}, {}, "ValueError: `temperature` (=0.0) has to be a strictly positive float, otherwise your next token scores will be invalid. If you're looking for greedy decoding strategies, set `do_sample=False`."),
)  # fmt: skip
RUNS_WRONG: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    ("learning-rate-is-zero", {"learning_rate": 0}, {}),
    ("adam-epsilon-zero", {"adam_epsilon": 0.0}, {}),
    ("weight-decay-negative", {"weight_decay": -0.1}, {}),
    ("max-steps-zero", {"max_steps": 0, "num_train_epochs": 1}, {}),
    ("no-epochs", {"num_train_epochs": 0}, {}),
    ("warmup-longer-than-training", {"warmup_steps": 100, "max_steps": 4, "lr_scheduler_type": "linear"}, {}),
    ("warmup-ignored-by-constant-rate", {"warmup_steps": 2, "lr_scheduler_type": "constant"}, {}),
    ("best-checkpoint-without-evaluation", {"save_strategy": "best", "metric_for_best_model": "loss"}, {}),
    ("resume-of-finished-training", {"resume_from_checkpoint": "out/checkpoint-2", "max_steps": 2}, {"resume.step": 2, "resume.problem": "none"}),
    ("resume-keeps-old-rate", {"resume_from_checkpoint": "out/checkpoint-2", "learning_rate": 1.0e-5}, {"resume.learning_rate": 5e-5, "resume.scheduler": True}),
    ("resume-without-optimizer", {"resume_from_checkpoint": "out/checkpoint-2"}, {"resume.optimizer": False, "resume.problem": "none"}),
)  # fmt: skip
"""What runs to its end without a word: the loss stays, becomes nan, or the rate is another one than asked for."""


def facts_of(settings: dict[str, Any], known: dict[str, Any], folder: Path) -> tuple[Fact, ...]:
    """The facts of a configuration file with these settings, on a machine with these facts."""
    whole = settings if "model_name_or_path" in settings else PLAIN | settings
    (folder / "train.yaml").write_text(yaml.safe_dump({"output_dir": "out"} | whole), encoding="utf-8")
    read = tuple(item for item in training.read(["train.yaml"], {}, str(folder)) if isinstance(item, Fact))
    return complete(read + tuple(Fact(name, value, "x") for name, value in known.items()))


@pytest.fixture(scope="module")
def rules() -> RuleSet:
    """The rules, loaded once."""
    return ruleset.load([])


@pytest.mark.parametrize(("rule", "settings", "known", "text"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_is_refused_is_foretold(
    rules: RuleSet, rule: str, settings: dict[str, Any], known: dict[str, Any], text: str, tmp_path: Path
) -> None:
    """The rule on settings stands first, at the setting's line in the file, and the exception below it as its symptom."""
    log = case_of_text(
        rules, f'Traceback (most recent call last):\n  File "/w/train.py", line 9, in <module>\n    main()\n{text}\n'
    )
    case = Case(facts_of(settings, known, tmp_path), log.events, machine=True)
    first = diagnose(rules, case, match(rules, case)).diagnoses[0]
    assert first.rule == rule
    assert first.evidence[0].line > 0
    assert first.symptoms


@pytest.mark.parametrize(("rule", "settings", "known"), RUNS_WRONG, ids=[row[0] for row in RUNS_WRONG])
def test_what_runs_and_trains_wrong_is_foretold(
    rules: RuleSet, rule: str, settings: dict[str, Any], known: dict[str, Any], tmp_path: Path
) -> None:
    """The rule on settings is the first of them all."""
    case = Case(facts_of(settings, known, tmp_path), machine=True)
    assert diagnose(rules, case, match(rules, case)).diagnoses[0].rule == rule
