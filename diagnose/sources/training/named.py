"""Settings of a framework under its own names, and whether a value is the name of a file of data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from msgspec import structs

from diagnose.model import Fact
from diagnose.sources.settings import shown
from diagnose.sources.training.given import LONGEST, MOST, Setting, is_secret, told

ENDINGS = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow", ".txt")
PACKED = (".gz", ".zst", ".xz", ".bz2")
REMOTE = ("http://", "https://", "s3://", "gs://", "gcs://", "adl://", "abfs://", "az://", "oci://", "hf://")
UNSET = "unset"
"""The value of a key that has none."""
_EXPONENT = re.compile(r"[-+]?\d[\d_]{0,30}(\.[\d_]{0,30})?[eE][-+]?\d{1,3}")


def own_facts(
    items: Iterable[tuple[str, Setting]], head: str, asked: Iterable[str] | Mapping[str, str] = ()
) -> Iterator[Fact]:
    """Each setting that has a name and a value as `head.<key>`, dots and dashes as underscores, as the text of its value.

    A list is its entries joined by commas, a mapping the word `mapping`. What may be a secret is left out; a flag is none.
    Where a key of `asked` has no value, it is told as `unset`, or as the default that a mapping has for it.
    """
    absent = dict(asked) if isinstance(asked, Mapping) else dict.fromkeys(asked, UNSET)
    for key, item in islice(items, MOST):
        if item.value is None or not key:
            continue
        absent.pop(key, None)
        if isinstance(item.value, bool) or not is_secret(item.key):
            name = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in key[:100])
            yield told(f"{head}.{name}", shown("", _text(item))[:LONGEST], item)
    for key, default in sorted(absent.items()):
        yield Fact(f"{head}.{key.replace('.', '_')}", default, f"{head.split('.')[1]}'s default", key=key)


def with_numbers(items: Iterable[Setting]) -> Iterator[Setting]:
    """Settings as OmegaConf reads them: an unquoted 1e-5 is a number there, and a text to YAML 1.1."""
    for item in items:
        if isinstance(item.value, str) and not item.quoted and _EXPONENT.fullmatch(item.value):
            yield structs.replace(item, value=float(item.value.replace("_", "")))
        else:
            yield item


def _text(item: Setting) -> str:
    if isinstance(item.value, dict):
        return "mapping"
    if isinstance(item.value, list):
        return ",".join("mapping" if isinstance(one, (dict, list)) else str(one) for one in item.value)
    return str(item.value).lower() if isinstance(item.value, bool) else str(item.value)


def is_data_file(name: str) -> bool:
    """Whether a name ends like a file of data on this machine. A folder is none: its files are of the framework's choice."""
    low = name.lower()
    for ending in PACKED:
        low = low.removesuffix(ending)
    return bool(name) and not low.startswith(REMOTE) and low.endswith(ENDINGS) and "\n" not in name
