"""Facts of training data, as the framework will see it."""

from __future__ import annotations

from diagnose.facts.kinds import FactKind, kinds

# data: sources/data/
DATA: tuple[FactKind, ...] = (
    *kinds("data", "data",
        ("data.path", "text", "the training data that was read"),
        ("data.format", "text", "jsonl, json, csv, tsv, parquet, arrow, text"),
        ("data.bytes", "bytes", "its size"),
        ("data.examples", "number", "examples in it"),
        ("data.sampled", "flag", "whether only a part was read (--sample)"),
        ("data.layout", "text", "messages, sharegpt, prompt-completion, preference, unpaired-preference, prompt-only, alpaca, text, tokens, unknown"),
        ("data.columns", "text", "its columns, separated by commas"),
        ("data.tokens", "number", "tokens in it, by the model's tokenizer"),
    ),
)  # fmt: skip
