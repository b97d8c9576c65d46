"""What is known in a case, by name, and what is added to it: the ground that derived facts stand on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

from diagnose.model import Fact

ORIGIN = "arithmetic"
ENGINES: Mapping[str, str] = {"llama-cpp": "llama.cpp", "llama-server": "llama.cpp", "text-generation-inference": "tgi"}
"""What `--for` calls an engine → what facts call it."""
Told = Iterator[tuple[str, str | int | float | bool]]
"""What a derivation tells: names and values."""


def by_name(facts: Iterable[Fact]) -> dict[str, Fact]:
    """Facts by their names, in order; of several with one name the first counts."""
    found: dict[str, Fact] = {}
    for fact in facts:
        found.setdefault(fact.name, fact)
    return found


class Known:
    """What is known by name, and what follows from it."""

    def __init__(self, told: dict[str, Fact]) -> None:
        self._told = told
        self.new: dict[str, Fact] = {}

    def value(self, name: str) -> str | int | float | bool | None:
        fact = self._told.get(name) or self.new.get(name)
        return None if fact is None else fact.value

    def text(self, name: str) -> str:
        value = self.value(name)
        return "" if value is None else str(value)

    def whole(self, name: str) -> int | None:
        """A whole number, also where it is written as text; None for anything else."""
        value = self.value(name)
        if isinstance(value, bool) or value is None:
            return None
        if isinstance(value, (int, float)):
            return int(value) if value == value and abs(value) < 1 << 62 else None
        return int(value) if re.fullmatch(r"-?\d{1,18}", value) else None

    def yes(self, name: str) -> bool:
        """Whether a flag is known to be true, as a fact or as an argument."""
        return self.text(name).lower() in ("true", "1")

    def older(self, package: str, release: tuple[int, int]) -> bool:
        """Whether an installed package is known to be older than a release: `(5, 10)`."""
        found = re.match(r"(\d+)\.(\d+)", self.text(f"{package}.version"))
        return found is not None and (int(found[1]), int(found[2])) < release

    @cached_property
    def _written(self) -> dict[str, str]:
        """Settings by their key and by its last part, the first one where several files say it; a block is told as `{…}`."""
        found: dict[str, str] = {}
        for name, fact in self._told.items():
            if name.startswith("training.given.") and name.endswith(".key"):
                number, key = name.removesuffix(".key"), str(fact.value)
                value = "{…}" if self.text(f"{number}.type") in ("list", "mapping") else self.text(f"{number}.value")
                for called in (key, key.rpartition(".")[2]):
                    found.setdefault(called, value)
        return found

    def given(self, key: str) -> str:
        """A training's setting by its own name, as it was written; empty where there is none."""
        return self._written.get(key, "")

    def has_setting(self, *keys: str) -> bool:
        """Whether the user's files hold a setting with one of these names, whatever mapping it stands in."""
        return any(key in self._written for key in keys)

    def names(self) -> list[str]:
        return [*self._told, *self.new]

    def unsure(self, *names: str) -> bool:
        """Whether the command may give one of these flags a value that is not known here: a variable, a file inside."""
        if self.yes("launch.more_words") or self.text("launch.config_problem"):
            return True
        if self.contained and "launch.arg.config" in self.names():
            return True
        return any(
            self.text(name.removesuffix("for_shell") + "name") in names
            for name in self.names()
            if name.startswith("launch.given.") and name.endswith(".for_shell")
        )

    def add(self, name: str, value: str | int | float | bool) -> None:
        if name not in self._told and name not in self.new:
            self.new[name] = Fact(name, value, ORIGIN)

    @property
    def engine(self) -> str:
        """The engine that is to run the model, by the command or by `--for`."""
        wanted = self.text("wanted.name")
        return self.text("engine.name") or ENGINES.get(wanted, wanted)

    @property
    def elsewhere(self) -> bool:
        """Whether it runs on another machine than this one, as far as the manifest tells: a pod's node, or one of Slurm's."""
        return self.text("deploy.kind") == "kubernetes" or bool(self.text("deploy.slurm_nodes"))

    @property
    def contained(self) -> bool:
        return self.text("deploy.kind") in ("docker", "compose", "kubernetes")
