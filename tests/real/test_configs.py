"""Faulty values of a config: what the rules call an error fails in the real library, and what they let pass runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from diagnose.causes import diagnose
from diagnose.collect import completed
from diagnose.match import match
from diagnose.model import Case, Fact
from diagnose.sources import checkpoint
from tests.sources.checkpoint.folders import llama, write_json
from tests.support import facts_of
from tests.test_bundled_rules import RULES

pytestmark = pytest.mark.real

PROGRAM = """
import json, sys, warnings
warnings.simplefilter("ignore")
import torch
from transformers import AutoConfig, AutoModelForCausalLM
import transformers
transformers.logging.set_verbosity_error()
found = {}
for name in sys.argv[1:]:
    try:
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(name)).eval()
        model(torch.tensor([[1, 2, 3]]))
        found[name] = ""
    except BaseException as error:
        found[name] = f"{type(error).__name__}: {error}"[:300]
print(json.dumps([transformers.__version__, found]))
"""
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}
DEFAULTS = """
import os, sys, warnings
warnings.simplefilter("ignore")
import transformers
from transformers import CONFIG_MAPPING
transformers.logging.set_verbosity_error()
for name in list(CONFIG_MAPPING.keys()):
    try:
        CONFIG_MAPPING[name]().save_pretrained(os.path.join(sys.argv[1], name))
    except BaseException:
        pass  # some want arguments, or packages that are not there
print(transformers.__version__)
"""
TRULY_ODD = {"idefics3", "smolvlm"}
"""Types whose class has a padding token beyond its own default vocabulary: models of that size cannot be made."""
PARTS = ("_encoder", "_decoder", "_text", "evolla", "mlcd")
"""Types of parts, which no config.json names as a whole."""
CASES: dict[str, dict[str, Any]] = {
    "healthy": {},
    "size-in-quotes": {"hidden_size": "64"},
    "size-with-a-point": {"hidden_size": 64.0},
    "layers-null": {"num_hidden_layers": None},
    "eps-in-quotes": {"rms_norm_eps": "1e-5"},
    "kv-heads-3-of-4": {"num_key_value_heads": 3},
    "kv-heads-8-of-4": {"num_key_value_heads": 8},
    "kv-heads-0": {"num_key_value_heads": 0},
    "kv-heads-null": {"num_key_value_heads": None},
    "one-kv-head": {"num_key_value_heads": 1},
    "dtype-short": {"torch_dtype": "bf16"},
    "dtype-with-torch": {"torch_dtype": "torch.bfloat16"},
    "dtype-auto": {"torch_dtype": "auto"},
    "dtype-int8": {"torch_dtype": "int8"},
    "dtype-number": {"torch_dtype": 16},
    "dtype-null": {"torch_dtype": None},
    "dtype-new-key": {"torch_dtype": ..., "dtype": "bfloat16"},
    "activation-unknown": {"hidden_act": "silux"},
    "activation-other": {"hidden_act": "gelu_pytorch_tanh"},
    "type-unknown": {"model_type": "lama9"},
    "type-missing": {"model_type": ...},
    "no-architectures": {"architectures": ...},
    "pad-beyond": {"pad_token_id": 128},
    "pad-negative": {"pad_token_id": -1},
    "head-dim-own": {"head_dim": 32},
    "rope-linear-old": {"rope_scaling": {"type": "linear", "factor": 2.0}},
    "rope-null": {"rope_scaling": None},
    "rope-no-factor": {"rope_scaling": {"rope_type": "linear"}},
    "rope-unknown": {"rope_scaling": {"rope_type": "yarnn", "factor": 2.0}},
    "rope-text": {"rope_scaling": "linear"},
    "rope-factor-in-quotes": {"rope_scaling": {"rope_type": "linear", "factor": "2.0"}},
    "rope-factor-below-one": {"rope_scaling": {"rope_type": "linear", "factor": 0.5}},
    "rope-yarn": {"rope_scaling": YARN},
    "rope-yarn-without-original": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
    "rope-yarn-original-in-quotes": {"rope_scaling": {**YARN, "original_max_position_embeddings": "1024"}},
    "rope-llama3-short": {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
    "rope-longrope-short-list": {
        "rope_scaling": {"rope_type": "longrope", "short_factor": [1.0] * 3, "long_factor": [1.0] * 8},
        "original_max_position_embeddings": 1024,
    },
    "rope-longrope": {
        "rope_scaling": {"rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [1.0] * 8, "factor": 4.0},
        "original_max_position_embeddings": 1024,
    },
    "rope-parameters": {"rope_theta": ..., "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
    "experts-4-of-2": {"model_type": "mixtral", "num_local_experts": 2, "num_experts_per_tok": 4},
    "experts-2-of-4": {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2},
    "eos-beyond": {"eos_token_id": 99999},
    "theta-whole": {"rope_theta": 1000000},
    "layer-types-short": {"model_type": "qwen3", "layer_types": ["full_attention"]},
    "layer-types-unknown": {"model_type": "qwen3", "layer_types": ["full_atention", "full_attention"]},
    "layer-types": {"model_type": "qwen3", "layer_types": ["full_attention"] * 2},
}


def errors(folder: Path, version: str) -> list[str]:
    """The errors that the rules find in the config of a folder, for that transformers."""
    facts = [reading for reading in checkpoint.read(str(folder), {}, "/") if isinstance(reading, Fact)]
    case = completed(Case((*facts, *facts_of({"transformers.version": version})), machine=True))
    told = diagnose(RULES, case, match(RULES, case)).diagnoses
    return [cause.rule for cause in told if cause.severity == "error"]


def python_with_library() -> str:
    """The interpreter in LLMDOCTOR_REAL_PYTHON, else this one; a skip if it has not the libraries."""
    python = os.environ.get("LLMDOCTOR_REAL_PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import torch, transformers"], capture_output=True).returncode:
        pytest.skip("no interpreter with torch and transformers: name one in LLMDOCTOR_REAL_PYTHON")
    return python


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, str]]:
    """The folders, the version of the real library, and how each config ended there (empty: it ran)."""
    python = python_with_library()
    folder = tmp_path_factory.mktemp("configs")
    for name, changes in CASES.items():
        write_json(folder / name / "config.json", llama(**changes))
    run = subprocess.run([python, "-c", PROGRAM, *CASES], capture_output=True, text=True, cwd=folder, timeout=600)
    assert run.returncode == 0, run.stderr[-2000:]
    version, ended = json.loads(run.stdout.strip().splitlines()[-1])
    return folder, version, ended


@pytest.mark.timeout(900)
def test_errors_fail_for_real_and_the_rest_runs(real: tuple[Path, str, dict[str, str]]) -> None:
    """No false alarm, and nothing missed, over faults and their healthy neighbours."""
    folder, version, ended = real
    told = {name: errors(folder / name, version) for name in CASES}
    wrong = {name: (told[name], ended[name]) for name in CASES if bool(told[name]) is not bool(ended[name])}
    assert wrong == {}


@pytest.mark.timeout(900)
def test_the_defaults_of_every_type_are_no_error(tmp_path: Path) -> None:
    """What the classes of the library write themselves, hundreds of them, is nothing that a rule calls an error."""
    run = subprocess.run(
        [python_with_library(), "-c", DEFAULTS, str(tmp_path)], capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0, run.stderr[-2000:]
    version = run.stdout.strip().splitlines()[-1]
    folders = sorted(folder for folder in tmp_path.iterdir() if (folder / "config.json").stat().st_size)
    assert len(folders) > 300
    told = {folder.name: errors(folder, version) for folder in folders if folder.name not in TRULY_ODD}
    assert {name: rules for name, rules in told.items() if rules and not any(part in name for part in PARTS)} == {}
