"""The settings of a training, put together again from their facts, and what is told of one of them."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from diagnose.derive.training_tables import Layer
from diagnose.model import Fact

WORDS = {
    "transformers": "transformers'",
    "trl": "TRL's",
    "peft": "PEFT's",
    "accelerate": "accelerate's",
    "deepspeed": "DeepSpeed's",
    "axolotl": "Axolotl's",
    "llamafactory": "LLaMA-Factory's",
    "torchtune": "torchtune's",
}
"""Packages as their users say them, before what is theirs."""


class Given(Struct):
    """A setting, put together from its facts; `path` is its key below the top of its class."""

    number: str
    place: Fact
    owner: str = ""
    key: str = ""
    type: str = ""
    value: str | None = None
    path: tuple[str, ...] = ()

    @property
    def is_script(self) -> bool:
        """Whether it is an argument of a call in a Python script."""
        return self.place.origin.lower().endswith((".py", ".ipynb"))

    def is_argument(self, layer: Layer) -> bool:
        """Whether it is an argument on a command line that a class of the package fills."""
        is_parsed = layer.table.package in ("transformers", "trl", "llamafactory") and layer.unknown() == "refuses"
        return is_parsed and not self.is_file and not self.is_script

    @property
    def is_file(self) -> bool:
        return self.place.origin.lower().endswith((".yaml", ".yml", ".json", ".jsonc", ".toml"))


class Told(Struct):
    """What is found of a setting."""

    trouble: str
    owner: str
    package: str = ""
    nearest: str = ""
    since: str = ""
    release: str = ""
    installed: bool = False
    effect: str = ""
    takes: str = ""
    decides: bool = False


def settings_of(facts: Iterable[Fact]) -> list[Given]:
    """The settings, in order, each with its key below the mapping that all of its class in a file stand in."""
    found: dict[str, Given] = {}
    for fact in facts:
        if not fact.name.startswith("training.given."):
            continue
        number, _, what = fact.name[len("training.given.") :].partition(".")
        one = found.setdefault(number, Given(number, fact))
        if what in ("owner", "key", "type", "value"):
            setattr(one, what, str(fact.value))
    given = sorted(
        (one for one in found.values() if one.key and one.owner), key=lambda one: (len(one.number), one.number)
    )
    above: dict[tuple[str, str], tuple[str, ...]] = {}
    for one in given:
        parts = tuple(one.key.split("."))
        group = (one.place.origin, one.owner)
        above[group] = _common(above[group], parts[:-1]) if group in above else parts[:-1]
    for one in given:
        one.path = tuple(one.key.split("."))[len(above[one.place.origin, one.owner]) :]
    return given


def _common(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    length = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        length += 1
    return first[:length]


def owner_words(owner: str) -> str:
    """A class as its users say it: TRL's SFTConfig, DeepSpeed's configuration."""
    package, _, name = owner.partition(".")
    return f"{WORDS.get(package, package)} {name or 'configuration'}"
