"""Asks the validators of Axolotl or LLaMA-Factory in this interpreter about configurations: JSON in, a line of JSON for each out.

Run by test_frameworks.py: `python -m tests.real.frameworks axolotl < configs.json`. Nothing is loaded or trained.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any


def axolotl(config: dict[str, Any]) -> None:
    """Axolotl's checks of a configuration, for one GPU that can do everything."""
    from axolotl.utils.config import prepare_plugins, validate_config
    from axolotl.utils.dict import DictDefault

    given = DictDefault(config)
    prepare_plugins(given)
    card = {"bf16": True, "fp8": True, "tf32": True, "n_gpu": 1, "compute_capability": "sm_90"}
    validate_config(given, capabilities=card, env_capabilities={"torch_version": "2.13.0"})


def llamafactory(config: dict[str, Any]) -> None:
    """LLaMA-Factory's checks of a configuration; that optional packages are installed is not asked for."""
    import transformers.training_args as training_args
    from llamafactory.hparams import parser

    if "model" in config:
        from llamafactory.v1.config import get_args

        get_args(dict(config))
        return
    for module in (training_args, parser):
        module.is_torch_bf16_gpu_available = lambda: True
    parser._check_extra_dependencies = lambda *_, **__: None
    trains = any(config.get(key) for key in ("do_train", "do_eval", "do_predict"))
    (parser.get_train_args if trains else parser.get_infer_args)(dict(config))


def main(check: Callable[[dict[str, Any]], None]) -> None:
    os.environ |= {
        "RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29655",
    }
    os.environ |= {
        "DISABLE_VERSION_CHECK": "1",
        "HF_HUB_OFFLINE": "1",
        "AXOLOTL_DO_NOT_TRACK": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    for config in json.load(sys.stdin):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            try:
                check(config)
                said = ""
            except BaseException as error:  # SystemExit too: whatever ends the start of a training
                said = f"{type(error).__name__}: {error}"
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main({"axolotl": axolotl, "llamafactory": llamafactory}[sys.argv[1]])
