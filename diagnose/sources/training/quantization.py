"""How a base model is quantized while it is loaded (BitsAndBytesConfig and the like), as a block, a file or a call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from diagnose.model import Fact
from diagnose.sources.training.given import Meaning, Setting, by_table, read_as, settings, told
from diagnose.sources.training.parsed import Parsed
from diagnose.sources.yamlfile import Node

BITS_AND_BYTES = "transformers.BitsAndBytesConfig"
CLASSES: Mapping[str, str] = {
    "bitsandbytes": "BitsAndBytesConfig", "gptq": "GPTQConfig", "awq": "AwqConfig", "aqlm": "AqlmConfig", "quanto": "QuantoConfig",
    "eetq": "EetqConfig", "hqq": "HqqConfig", "compressed-tensors": "CompressedTensorsConfig", "fbgemm_fp8": "FbgemmFp8Config",
    "torchao": "TorchAoConfig", "higgs": "HiggsConfig", "fp8": "FineGrainedFP8Config", "mxfp4": "Mxfp4Config", "vptq": "VptqConfig",
    "bitnet": "BitNetQuantConfig", "spqr": "SpQRConfig", "auto-round": "AutoRoundConfig",
}  # fmt: skip
"""Classes of the methods that `quant_method` may name."""
METHODS = {name: method for method, name in CLASSES.items() if method != "bitsandbytes"}

TABLE: Mapping[str, Meaning] = {
    "bnb_4bit_quant_type": ("training.quantization_type", "text"),
    "bnb_4bit_use_double_quant": ("training.quantization_double", "flag"),
    "use_bnb_nested_quant": ("training.quantization_double", "flag"),
    "bnb_4bit_compute_dtype": ("training.quantization_compute", "text"),
    "bnb_4bit_quant_storage": ("training.quantization_storage", "text"),
}


def is_kind(document: Node) -> bool:
    """Whether a mapping holds nothing but how a model is quantized."""
    keys = [key for key, _ in document.items()]
    if "quant_method" in keys:
        return True
    own = [key for key in keys if key.startswith(("bnb_4bit_", "llm_int8_", "load_in_", "_load_in_"))]
    return bool(own) and len(own) * 2 > len(keys)


def read(document: Node, file: str) -> Parsed:
    """A configuration in a file of its own. Nothing is raised."""
    return inside(document, file, "")


def inside(document: Node, file: str, above: str, owner: str = "") -> Parsed:
    """One that stands below the key `above` of another mapping. `owner` is its class, where that is known."""
    method = document.get("quant_method").word().lower().rpartition(".")[2]
    owner = owner or (f"transformers.{CLASSES[method]}" if method in CLASSES else BITS_AND_BYTES if not method else "unknown")  # fmt: skip
    items = tuple(settings(document, owner, file, above))
    head = f"{above}." if above else ""
    return Parsed(items, tuple(facts({item.key.removeprefix(head): item for item in items}, owner)))


def facts(by_key: Mapping[str, Setting], owner: str = BITS_AND_BYTES) -> Iterator[Fact]:
    """What the settings mean: `training.quantization` and its details."""
    method = by_key.get("quant_method")
    of_class = METHODS.get(owner.removeprefix("transformers."))
    bits = {key: read_as("flag", by_key[key].value) for key in ("load_in_4bit", "load_in_8bit") if key in by_key}
    if all(bits.get(key) for key in ("load_in_4bit", "load_in_8bit")):
        yield told("training.quantization_twice", True, by_key["load_in_8bit"])
    if bits.get("load_in_4bit"):
        yield told("training.quantization", "4bit", by_key["load_in_4bit"])
    elif bits.get("load_in_8bit"):
        yield told("training.quantization", "8bit", by_key["load_in_8bit"])
    elif method is not None and isinstance(method.value, str) and method.value != "bitsandbytes":
        yield told("training.quantization", method.value.lower(), method)
    elif of_class is not None and by_key:
        yield told("training.quantization", of_class, next(iter(by_key.values())))
    elif False in bits.values():
        yield told("training.quantization", "none", by_key[next(iter(bits))])
    yield from by_table(by_key, TABLE)
