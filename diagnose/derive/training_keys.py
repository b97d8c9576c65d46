"""Keys of a training's settings against the tables in dataset/training: unknown, renamed, removed, too new, of a wrong value.

A setting is judged by the release installed of the package that reads it. Where none is known it is judged by the newest, which is
told (`training.key.*.installed`), and unknown is only what no release knows. Keys below a mapping are judged where the tables
have its class; free mappings (model_init_kwargs, optim_args) are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from diagnose.derive import training_values
from diagnose.derive.training_given import WORDS, Given, Told, owner_words, settings_of
from diagnose.derive.training_slips import is_made_of, is_slip
from diagnose.derive.training_tables import Key, Layer, layers, names_of, relations, table
from diagnose.model import Fact

NEAR, VERY_NEAR = 0.78, 0.84
MOST = 1500
"""How many settings are judged."""
MOST_NEAREST = 60
"""Behind so many keys nobody is told what was meant: the search takes milliseconds for each."""
BITS = "transformers.BitsAndBytesConfig"
_OF_ANY = ("OptimizerParams", "SchedulerParams")
"""Arguments of DeepSpeed's own optimizers and schedulers: one from elsewhere may take others."""


def complete(facts: Sequence[Fact]) -> tuple[Fact, ...]:
    """The facts that follow; none where something needed is not known."""
    given = settings_of(facts)
    if not given:
        return ()
    versions = _versions(facts)
    judged = _Judged(versions, given)
    found: list[Fact] = []
    for one in given[:MOST]:
        told = judged.told(one)
        if told is not None:
            found += _facts(one, told)
    return tuple(found)


def _versions(facts: Iterable[Fact]) -> dict[str, str]:
    """The versions installed of the packages that train."""
    names = {f"{package}.version": package for package in WORDS}
    return {names[fact.name]: str(fact.value) for fact in facts if fact.name in names}


def _facts(one: Given, told: Told) -> list[Fact]:
    """What is told of a setting. Its place is that of `training.given.N.*`, with the same number."""
    origin = f"dataset/training/{told.package or 'transformers'}.json"
    values: list[tuple[str, str | bool]] = [
        ("name", one.key),
        ("owner", told.owner),
        ("trouble", told.trouble),
        ("installed", told.installed),
        ("alike", bool(told.nearest)),
        ("decides", told.decides),
    ]
    values += [
        (name, getattr(told, name))
        for name in ("package", "nearest", "since", "release", "effect", "takes")
        if getattr(told, name)
    ]
    return [Fact(f"training.key.{one.number}.{name}", value, origin) for name, value in values]


class _Judged:
    """The settings of a training against the tables."""

    def __init__(self, versions: dict[str, str], given: list[Given]) -> None:
        self._versions = versions
        self._layers: dict[str, list[Layer]] = {}
        self._written = {(one.place.origin, *one.path) for one in given}
        self._owners = dict.fromkeys((one.place.origin, one.owner) for one in given)
        self._plugged = {one.place.origin for one in given if one.owner == "axolotl" and one.key == "plugins"}
        self._of_megatron = {one.place.origin for one in given if one.key in names_of("another_trainer")}
        self._known: frozenset[str] | None = None
        self._searched = 0

    def told(self, one: Given) -> Told | None:
        """What there is to tell of a setting; None where it is as it should be, or nothing is known of it."""
        if one.path[-2:-1] and one.path[-2].endswith("_checkpointing_kwargs"):
            return _of_checkpointing(one)
        if one.path[-2:-1] == ("bnb_config_kwargs",):
            return _of_bitsandbytes(one, self._of(BITS))
        if one.owner == "unknown":
            return self._of_nobody(one)
        known = self._of(one.owner)
        if not known:
            return None
        found = _below(known, one)
        return self._judge(one, *found) if found else None

    def _of(self, owner: str) -> list[Layer]:
        """The class of an owner and those that it inherits from."""
        if owner not in self._layers:
            self._layers[owner] = layers(owner, self._versions)
        return self._layers[owner]

    def _judge(self, one: Given, known: list[Layer], name: str, words: str) -> Told | None:
        """A setting as the key `name` of the classes `known`."""
        stopped = self._stopped(one, known[0], words, name)
        if stopped is not None:
            return stopped
        rows = [(layer, layer.class_.keys[name]) for layer in known if name in layer.class_.keys]
        if any(key.loose for _, key in rows):
            return None
        there = [(layer, key) for layer, key in rows if layer.there and layer.has(key)]
        if there:
            return self._present(one, *there[0], words, name)
        if not known[0].there or self._is_beside(one, name):
            return None
        if rows:
            return self._absent(one, *rows[0], words, name)
        return self._unknown(one, known, name, words)

    def _is_beside(self, one: Given, name: str) -> bool:
        """Whether another class of TRL that the same parser fills has the key."""
        if not one.owner.startswith("trl.") or one.is_script:
            return False
        beside = [owner for origin, owner in self._owners if origin == one.place.origin and owner.startswith("trl.")]
        return any(
            name in layer.class_.keys and layer.there and layer.has(layer.class_.keys[name])
            for owner in beside
            if owner != one.owner
            for layer in self._of(owner)
        )

    def _stopped(self, one: Given, layer: Layer, words: str, name: str) -> Told | None:
        """A key that the framework's own checks refuse by name."""
        relation = relations().get((layer.table.package, layer.name, name))
        if relation is None or not relation.refused or one.type == "null" or one.value in ("false", "False"):
            return None
        first = layer.table.place(relation.refused)
        if first is None or not layer.there or layer.at < first or (relation.told_by and layer.installed):
            return None
        told = self._told(layer, words, name)
        told.effect, told.since = "refuses", relation.refused
        _name_instead(told, relation.instead)
        return told

    # --- keys that the release has

    def _present(self, one: Given, layer: Layer, key: Key, words: str, name: str) -> Told | None:
        told = self._told(layer, words, name)
        relation = relations().get((layer.table.package, layer.name, name))
        if one.type == "null":
            return None
        if key.refused and layer.table.within(key.refused, layer.at):
            told.effect, told.since = "refuses", layer.began(key, key.refused)
            _name_instead(told, self._instead(layer, key.instead or (relation.instead if relation else "")))
            return told
        wrong = training_values.wrong(one, layer, key, name, told, self._of)
        if wrong is not None:
            return wrong
        if key.deprecated and layer.table.within(key.deprecated, layer.at) and layer.installed:
            told.trouble, told.effect = "deprecated", "warns"
            told.nearest = self._instead(layer, key.instead or (relation.instead if relation else ""))
            told.since = layer.began(key, key.deprecated)
            return told
        return None

    # --- keys that it does not have

    def _absent(self, one: Given, layer: Layer, key: Key, words: str, name: str) -> Told | None:
        """A key that other releases have."""
        if key.refused and layer.table.runs(key.refused)[0][0] == layer.table.runs(key.within)[0][0]:
            return None  # only the releases that refuse it name it: older ones took it
        if layer.beyond or layer.name in _OF_ANY:
            return None
        if one.owner == "llamafactory" and layer.table.package != "llamafactory" and not layer.installed:
            return None  # it is held to releases of transformers that are not the newest
        told = self._told(layer, words, name)
        told.since, later = layer.changed(key)
        told.effect = self._effect(one, layer)
        relation = relations().get((layer.table.package, layer.name, name))
        if later:
            told.trouble = "not-yet"
            return told
        _name_instead(told, self._instead(layer, relation.instead if relation else key.instead))
        return told

    def _unknown(self, one: Given, known: list[Layer], name: str, words: str) -> Told | None:
        """A key that no release has: told where the framework surely takes no others, or where it is spelled nearly like one.

        Before DeepSpeed had a class for a block it passed over keys that it did not know: bf16.loss_scale.
        """
        layer = known[0]
        sure = self._is_sure(one, layer)
        if not sure and name in names_of("scripts"):
            return None
        if name.startswith("_") or not re.fullmatch(r"[A-Za-z][\w-]{0,80}", name):
            return None
        if one.is_argument(layer) and (name.startswith("no_") or self._begins(known, name)):
            return None  # argparse takes --no_x, and the beginning of a name
        near = self._near(known, name, NEAR if sure else VERY_NEAR)
        is_written = (one.place.origin, *one.path[:-1], near) in self._written
        if near and not sure and (is_written or (is_made_of(name, near) and not _is_count_of(one, near))):
            near = ""
        if not near and (not sure or any(item.beyond for item in known) or one.place.origin in self._of_megatron):
            return None
        told = self._told(layer, words, near or name)
        told.trouble, told.nearest, told.effect = "unknown", near, self._effect(one, layer)
        told.installed = all(item.installed for item in known)
        if not near and not layer.installed and one.owner == "deepspeed" and len(one.path) == 2 and layer.class_.within:
            told.trouble, told.since = "removed", layer.table.told(layer.table.runs(layer.class_.within)[0][0])
        return told

    def _is_sure(self, one: Given, layer: Layer) -> bool:
        """Whether nobody but this class reads the key: not so in a file or command that a user's own script may read too."""
        package = layer.table.package
        if package in ("transformers", "trl"):
            return one.is_script and layer.unknown() == "refuses"
        if package == "torchtune":
            return False
        if layer.name in _OF_ANY:
            return False
        if package == "axolotl":
            return one.place.origin not in self._plugged
        return not (package == "deepspeed" and layer.name == "deepspeed")

    def _effect(self, one: Given, layer: Layer) -> str:
        if layer.table.package == "peft" and not one.is_script:
            return "ignores" if one.place.origin.endswith(".json") else "refuses"
        return layer.unknown()

    def _begins(self, known: list[Layer], name: str) -> bool:
        return len(name) >= 3 and any(key.startswith(name) for layer in known for key in layer.names())

    def _near(self, known: list[Layer], name: str, least: float) -> str:
        """The key that is spelled most like another, of those that the releases have; empty if none is."""
        self._searched += 1
        if self._searched > MOST_NEAREST or len(name) < 3:
            return ""
        names = list(dict.fromkeys(key for layer in known for key in layer.names()))
        bare = name.lower().replace("-", "_")
        if bare in names:
            return bare
        slips = [key for key in names if is_slip(bare, key)]
        close = get_close_matches(bare, slips or names, 1, 0.1 if slips else least)
        return close[0] if close else ""

    def _told(self, layer: Layer, words: str, name: str) -> Told:
        return Told(
            "",
            words,
            layer.table.package,
            release=layer.table.told(layer.at),
            installed=layer.installed,
            decides=name in names_of("deciding") or name.startswith("parallelism_config_"),
        )

    def _instead(self, layer: Layer, told: str) -> str:
        """What is to be written instead, if the release knows it."""
        name = told.partition(":")[0].partition(".")[0].partition(" ")[0]
        if not name:
            return ""
        found = [item for item in self._of(f"{layer.table.package}.{layer.name}") if name in item.class_.keys]
        return told if any(item.has(item.class_.keys[name]) for item in found) or "." in told else ""

    # --- keys of nobody that is known

    def _of_nobody(self, one: Given) -> Told | None:
        """A key of a file whose reader is not known: told only if it is a slip of the pen in a long and well-known one."""
        name = one.key.rpartition(".")[2]
        if "." in one.key or one.type in ("mapping", "list") or len(name) < 8 or name in self._all_known():
            return None
        ends = [
            key for key in names_of("well_known") if len(key) >= 8 and name[:1] == key[:1] and name[-1:] == key[-1:]
        ]
        near = next((key for key in ends if is_slip(name, key)), "")
        if not near or (one.place.origin, near) in self._written:
            return None
        return Told("unknown", "the frameworks'", "", nearest=near, effect="unsure")

    def _all_known(self) -> frozenset[str]:
        if self._known is None:
            self._known = frozenset(
                key
                for package in WORDS
                for found in [table(package)]
                if found is not None
                for class_ in found.classes.values()
                for key in class_.keys
            )
        return self._known


def _name_instead(told: Told, name: str) -> None:
    """Tell of a key that is gone: `name` is what is to be written in its place, if there is such a key."""
    told.nearest, told.trouble = name, "renamed" if name else "removed"


def _of_checkpointing(one: Given) -> Told | None:
    """A slip in the one argument of torch's checkpointing that trainings set; torch refuses those that it does not have."""
    if not is_slip(one.path[-1], "use_reentrant"):
        return None
    return Told("unknown", "torch's checkpointing", "", "use_reentrant", effect="refuses", decides=True)


def _of_bitsandbytes(one: Given, known: list[Layer]) -> Told | None:
    """A slip in an argument of BitsAndBytesConfig, which passes over those that it does not have."""
    names = [name for layer in known for name in layer.names()]
    near = next((name for name in names if is_slip(one.path[-1], name)), "")
    if not near or one.path[-1] in names:
        return None
    return Told("unknown", owner_words(BITS), "transformers", near, effect="ignores", decides=True)


def _is_count_of(one: Given, meant: str) -> bool:
    """Whether it is a number under the name of a setting with an s too many or too few: `num_generation`."""
    is_number = one.type == "number" or one.value == "auto"
    return is_number and one.path[-1].removesuffix("s") == meant.removesuffix("s")


def _below(known: list[Layer], one: Given) -> tuple[list[Layer], str, str] | None:
    """The classes and the key that a setting is of: those of the mapping that it stands in. None for one of a free mapping."""
    here, words = known, owner_words(one.owner)
    *above, name = one.path
    for part in above:
        found = [(layer, layer.class_.keys[part]) for layer in here if part in layer.class_.keys]
        inner = [(layer, layer.table.classes.get(key.schema)) for layer, key in found if key.schema and layer.has(key)]
        if not inner or inner[0][1] is None:
            return None
        layer, class_ = inner[0]
        if class_ is None:
            return None
        here = [Layer(layer.table, found[0][1].schema, class_, layer.at, layer.installed, layer.beyond)]
        words = f"{WORDS.get(layer.table.package, '')} {'.'.join(above)}".strip()
    prefix = here[0].class_.prefix
    if prefix and not name.startswith(prefix):
        name = prefix + name
    if (one.owner == "transformers.fsdp_config" or here[0].name == "FSDPConfig") and name not in here[0].class_.keys:
        name = name.removeprefix("fsdp_")  # both frameworks take these keys with and without it
    return here, name, words
