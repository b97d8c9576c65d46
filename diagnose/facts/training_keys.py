"""Facts about the keys of a training's settings, by the tables in dataset/training."""

from __future__ import annotations

from diagnose.facts.kinds import FactKind, kinds

# training keys: derive/training_keys.py
TRAINING_KEYS: tuple[FactKind, ...] = (
    *kinds("training keys", "training",
        ("training.key.*.name", "text", "a key that is looked at more closely, with the mappings it stands in"),
        ("training.key.*.owner", "text", "the class or schema it belongs to, as its users say it: SFTConfig, DeepSpeed's zero_optimization"),
        ("training.key.*.trouble", "text", "unknown, renamed, removed, not-yet, deprecated, bad-choice, bad-type"),
        ("training.key.*.nearest", "text", "the key or value that was probably meant"),
        ("training.key.*.alike", "flag", "whether there is such a one"),
        ("training.key.*.since", "version", "the release in which it changed or came"),
        ("training.key.*.release", "version", "the release that was asked: the one installed, else the newest known"),
        ("training.key.*.installed", "flag", "whether that release is the one installed"),
        ("training.key.*.effect", "text", "what the framework does: refuses, ignores, warns, misreads; unsure where it is not known who reads it"),
        ("training.key.*.takes", "text", "values or type that it takes"),
        ("training.key.*.package", "text", "the package whose release that is: transformers, trl, deepspeed …"),
        ("training.key.*.decides", "flag", "whether the key (or the one that was meant) decides what is trained, and how"),
    ),
)  # fmt: skip
