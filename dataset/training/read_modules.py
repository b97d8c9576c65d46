"""Writes modules.json anew: what the modules of each model type are called, and what its class supports.

Run it with an interpreter that has the newest transformers and peft: `python dataset/training/read_modules.py`. Each model is
made on torch's meta device from the defaults of its configuration class: names and shapes, never a weight.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import signal
import sys
import warnings
from collections.abc import Iterator
from typing import Any

SECONDS = 60
"""How long making one model may take: some default configs are of models with hundreds of experts."""
MOST_LAYERS = 80
KINDS = (
    ("causal", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"),
    ("pictures", "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES"),
    ("seq2seq", "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES"),
    ("masked", "MODEL_FOR_MASKED_LM_MAPPING_NAMES"),
)
"""What a class is for, with the table of transformers' auto classes that names it: the first one counts."""

GIVEN: dict[str, dict[str, Any]] = {
    "hunyuan_v1_dense": {"head_dim": 128, "hidden_size": 4096},
    "hunyuan_v1_moe": {"head_dim": 128, "hidden_size": 4096},
    "ministral": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 8},
    "lfm2_moe": {"layer_types": ["full_attention", "conv"] * 16},
}
"""Values without which the class of a model type cannot be made: its configuration has no default for them."""

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "*": [{"q_lora_rank": None}, {"q_lora_rank": 64}, {"feed_forward_proj": "gated-gelu"}],
    "granitemoehybrid": [
        {"layer_types": ["mamba", "attention"] * 16, "layers_block_type": ["mamba", "attention"] * 16}
    ],
    "bamba": [{"attn_layer_indices": [1, 3]}],
    "lfm2": [{"layer_types": ["full_attention", "conv"] * 16}],
    "jamba": [{"attn_layer_period": 2, "attn_layer_offset": 1}],
    "opt": [{"word_embed_proj_dim": 256}],
}
"""Other values that published models have and that bring other modules: all names of all of them are told."""


class TooSlowError(Exception):
    """A model that is not made in time."""


def rows() -> Iterator[dict[str, Any]]:
    """A row per model type that can be made from its defaults."""
    from transformers.models.auto import modeling_auto

    seen: set[tuple[str, str]] = set()
    for use, table in KINDS:
        for kind, named in sorted(getattr(modeling_auto, table, {}).items()):
            name = named if isinstance(named, str) else named[0]
            if (kind, name) in seen:
                continue
            seen.add((kind, name))
            try:
                made = row(kind, use, name)
            except Exception as error:  # a class that cannot be made from defaults is left out, whatever it raises
                sys.stderr.write(f"{kind}: {type(error).__name__}: {str(error)[:200]}\n")
                continue
            yield made


def row(kind: str, use: str, name: str) -> dict[str, Any]:
    """One model type: names of its modules with `#` for numbers, and what its class says of itself."""
    import transformers

    cls = getattr(transformers, name)
    config = (cls.config_class or transformers.CONFIG_MAPPING[kind])()
    for key, value in GIVEN.get(kind, {}).items():
        setattr(config, key, value)
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    if (getattr(text, "num_hidden_layers", 0) or 0) > MOST_LAYERS:
        raise ValueError("too many layers")
    found = told(kind, use, name, made(cls, config))
    for changes in (*VARIANTS["*"], *VARIANTS.get(kind, ())):
        part = config if all(hasattr(config, key) for key in changes) else text  # of two parts `text` may be a copy
        other = {key: value for key, value in changes.items() if hasattr(part, key) and getattr(part, key) != value}
        if not other:
            continue
        before = {key: getattr(part, key) for key in other}
        try:
            set_all(part, other)
            found = merged(found, told(kind, use, name, made(cls, config)))
        except Exception as error:  # a variant that the class does not take
            sys.stderr.write(f"{kind} with {other}: {type(error).__name__}: {str(error)[:100]}\n")
        set_all(part, before)
    return found


def set_all(config: Any, values: dict[str, Any]) -> None:
    """Put values into a configuration, and what T5's derives from its one."""
    for key, value in values.items():
        setattr(config, key, value)
    if "feed_forward_proj" in values:
        config.is_gated_act = str(values["feed_forward_proj"]).startswith("gated-")
        config.dense_act_fn = "gelu_new" if config.is_gated_act else "relu"


def made(cls: Any, config: Any) -> Any:
    """A model of a class without weights, in bounded time."""
    import torch

    signal.alarm(SECONDS)
    try:
        with torch.device("meta"):
            return cls._from_config(config) if hasattr(cls, "_from_config") else cls(config)
    finally:
        signal.alarm(0)


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The names of both."""
    lists = {key for row in (one, other) for key, value in row.items() if isinstance(value, list)}
    return {**one, **{key: sorted({*one.get(key, ()), *other.get(key, ())}) for key in lists}}


def told(kind: str, use: str, name: str, model: Any) -> dict[str, Any]:
    """What a model that was made says."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    linear, embeddings, others, classes, convolutions = (dict[str, int]() for _ in range(5))
    for path, module in model.named_modules():
        if not path:
            continue
        classes[type(module).__name__] = 1
        plain = re.sub(r"(?<=\.)\d+(?=\.|$)", "#", path)
        if isinstance(module, (nn.Linear, Conv1D)):
            linear[plain] = 1
        elif isinstance(module, nn.Embedding):
            embeddings[plain] = 1
        elif isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            convolutions[plain] = 1
        else:
            others[plain] = 1
    parameters: dict[str, int] = {}
    for path, parameter in model.named_parameters():
        if parameter.dim() == 3:
            parameters[re.sub(r"(?<=\.)\d+(?=\.|$)", "#", path)] = 1
    output, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    names = {id(module): path for path, module in model.named_modules()}
    cls = type(model)
    found: dict[str, Any] = {
        "type": kind,
        "use": use,
        "class": name,
        "linear": sorted(linear),
        "embeddings": sorted(embeddings),
        "convolutions": sorted(convolutions),
        "others": sorted(others),
        "stacked": sorted(name for name in parameters if "conv" not in name.rsplit(".", 2)[-2]),
        "classes": sorted(classes),
        "unsplit": sorted(cls._no_split_modules or ()),
        "output": names.get(id(output), "") if output is not None else "",
        "embedding": names.get(id(embedding), ""),
        "checkpointing": bool(cls.supports_gradient_checkpointing),
        "sdpa": bool(cls._supports_sdpa),
        "flash": bool(cls._supports_flash_attn),
        "flex": bool(cls._supports_flex_attn),
        "default_targets": defaults().get(kind, []),
        "renamed": renamed(kind),
    }
    return {key: value for key, value in found.items() if value not in ([], {}, "")}


def defaults() -> dict[str, list[str]]:
    """PEFT's own LoRA targets of each model type."""
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as TARGETS

    return {kind: sorted(names) for kind, names in TARGETS.items()}


def renamed(kind: str) -> dict[str, str]:
    """Names of experts' modules before transformers 5 that PEFT takes for the stacked parameters of today."""
    from peft.utils import transformers_weight_conversion as conversion

    return dict(conversion._MOE_TARGET_MODULE_MAPPING.get(conversion._MODEL_TO_CONVERSION_PATTERN.get(kind, ""), {}))


def main() -> None:
    """Write modules.json beside this file."""
    import peft
    import transformers

    def stop(*_: object) -> None:
        raise TooSlowError(f"not made in {SECONDS} s")

    signal.signal(signal.SIGALRM, stop)
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    table = sorted(rows(), key=lambda one: (str(one["type"]), str(one["class"])))
    place = os.path.join(os.path.dirname(os.path.abspath(__file__)), "modules.json")
    with open(place, "w", encoding="utf-8") as file:
        source = [
            f"https://pypi.org/project/transformers/{transformers.__version__}/",
            f"https://pypi.org/project/peft/{peft.__version__}/",
        ]
        note = "modules of models that were made from the defaults of their configs on torch's meta device"
        head = {"source": ", ".join(source), "date": datetime.date.today().isoformat(), "note": note}
        file.write(json.dumps(head)[:-1] + ', "rows": [\n')
        file.write(",\n".join(json.dumps(item, separators=(",", ":")) for item in table))
        file.write("\n]}\n")


if __name__ == "__main__":
    main()
