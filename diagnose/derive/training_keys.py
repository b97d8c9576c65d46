"""Keys of a training's settings against the tables in dataset/training: unknown, renamed, removed, too new, of a wrong value.

A setting is judged by the release installed of the package that reads it. Where none is known it is judged by the newest, which is
told (`training.key.*.installed`), and unknown is only what no release knows. Keys below a mapping are judged where the tables
have its class; free mappings (model_init_kwargs, optim_args) are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from msgspec import Struct

from diagnose.derive.training_tables import Key, Layer, Relation, layers, relations, table
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
DECIDING = frozenset(
    """
    zero_optimization bf16 fp16 optimizer scheduler gradient_clipping offload_optimizer offload_param stage enabled params
    train_micro_batch_size_per_gpu train_batch_size gradient_accumulation_steps zero_stage offload_optimizer_device
    offload_param_device fsdp_sharding_strategy fsdp_offload_params fsdp_version fsdp_state_dict_type fsdp_reshard_after_forward
    fsdp_auto_wrap_policy offload_params bnb_4bit_quant_type
    load_in_4bit load_in_8bit bnb_4bit_compute_dtype adapter lora_r lora_alpha lora_target_modules lora_target_linear r
    target_modules learning_rate micro_batch_size num_epochs max_steps sequence_len deepspeed fsdp fsdp_config datasets
    gradient_checkpointing rl lr_scheduler warmup_ratio warmup_steps sample_packing train_on_inputs val_set_size chat_template
    attn_implementation context_parallel_size tensor_parallel_size base_model pretraining_dataset
    """.split()  # noqa: SIM905
)
"""Keys that decide what is trained, and how: one of these that is passed over silently makes another training."""
NEAR, VERY_NEAR = 0.78, 0.84
MOST = 1500
"""How many settings are judged."""
MOST_NEAREST = 60
"""Behind so many keys nobody is told what was meant: the search takes milliseconds for each."""
SECRETS = ("token", "key", "secret", "password")
BITS = "transformers.BitsAndBytesConfig"
_OF_ANY = ("OptimizerParams", "SchedulerParams")
"""Arguments of DeepSpeed's own optimizers and schedulers: one from elsewhere may take others."""
MEGATRON = frozenset(
    {"use_mca", "tensor_model_parallel_size", "pipeline_model_parallel_size", "bias_activation_fusion"}
)
"""Keys of LLaMA-Factory's other trainer (USE_MCA=1), whose arguments come from a package beside it."""
OF_SCRIPTS = frozenset({"use_lora", "use_qlora", "use_slow_tokenizer"})
"""Names that scripts of one's own often have, a letter or two from a framework's."""
_PLACEHOLDER = re.compile(r"\$\{|\$\(|\{\{|^\$\w|^<.*>$|^%")
_NUMBER = re.compile(r"[+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?\.?(?:inf|nan)", re.IGNORECASE)
_FLAG = frozenset({"true", "false", "yes", "no", "on", "off", "y", "n", "t", "f", "1", "0"})
_NOTHING = frozenset({"none", "null", "nil", "~", ""})


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


def complete(facts: Sequence[Fact]) -> tuple[Fact, ...]:
    """The facts that follow; none where something needed is not known."""
    given = _given(facts)
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


def _given(facts: Iterable[Fact]) -> list[Given]:
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
        self._of_megatron = {one.place.origin for one in given if one.key in MEGATRON}
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
        if (
            rows
            and one.owner == "llamafactory"
            and rows[0][0].table.package != "llamafactory"
            and not rows[0][0].installed
        ):
            return None  # it is held to releases of transformers that are not the newest
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
        told.nearest, told.effect, told.since = relation.instead, "refuses", relation.refused
        told.trouble = "renamed" if told.nearest else "removed"
        return told

    # --- keys that the release has

    def _present(self, one: Given, layer: Layer, key: Key, words: str, name: str) -> Told | None:
        told = self._told(layer, words, name)
        relation = relations().get((layer.table.package, layer.name, name))
        if one.type == "null":
            return None
        if key.refused and layer.table.within(key.refused, layer.at):
            told.trouble, told.effect = "removed", "refuses"
            told.nearest = self._instead(layer, key.instead or (relation.instead if relation else ""))
            told.trouble = "renamed" if told.nearest else "removed"
            told.since = layer.began(key, key.refused)
            return told
        wrong = self._value(one, layer, key, name, told)
        if wrong is not None:
            return wrong
        if key.deprecated and layer.table.within(key.deprecated, layer.at) and layer.installed:
            told.trouble, told.effect = "deprecated", "warns"
            told.nearest = self._instead(layer, key.instead or (relation.instead if relation else ""))
            told.since = layer.began(key, key.deprecated)
            return told
        return None

    def _value(self, one: Given, layer: Layer, key: Key, name: str, told: Told) -> Told | None:
        """A value that is not taken. Only what the framework surely stops at, or reads as something else, is told."""
        value = one.value
        if value is not None and (_PLACEHOLDER.search(value) or (value == "set" and one.key.endswith(SECRETS))):
            return None
        if layer.table.package == "deepspeed" and (value or "").lower() == "auto":
            return None
        relation = relations().get((layer.table.package, layer.name, name))
        if layer.table.package == "accelerate" or (relation is not None and relation.told_by):
            return None  # accelerate's fields hold whatever the file has, and what it makes of that its own rules tell
        kind = layer.type_of(key)
        named = self._named(relation) if relation is not None and not layer.beyond else ()
        choices = named or (() if "any" in key.type else self._choices(layer, key))
        if named and "flag" in kind:
            if one.type in ("flag", "number") or _reads({"flag"}, kind, value, one):
                return None
            choices = (*choices, "true", "false")
        if one.is_script and value is not None:
            value = value.removeprefix("torch.")
        if choices and value is not None and one.type in ("text", "number", "flag"):
            is_checked = key.checked != "parser" or self._is_argument(one, layer)
            if is_checked or one.type == "text":
                return _bad_choice(one, value, choices, told, "refuses" if is_checked else "misreads")
        plain = set(kind.rstrip("?").split("|"))
        wrong = plain <= {"number", "flag"} and (
            one.type == "mapping"
            or (one.type == "list" and one.is_file)
            or (one.type == "text" and not _reads(plain, kind, value, one))
        )
        nothing = (
            plain == {"text"} and kind.endswith("?") and value == "None" and one.type == "text" and not one.is_script
        )
        if not wrong and not nothing:
            return None
        is_checked = layer.table.package in ("deepspeed", "axolotl") or (wrong and "flag" not in plain)
        told.trouble, told.effect = "bad-type", "refuses" if is_checked else "misreads"
        told.takes = _TAKES["text?" if nothing else "|".join(sorted(plain)) + ("?" if kind.endswith("?") else "")]
        return told

    def _named(self, relation: Relation) -> tuple[str, ...]:
        """The values that a relation names, with those that any release takes of the key that it hands its value to."""
        owner, _, name = relation.values_of.rpartition(".")
        handed = self._of(owner)[:1] if owner else []
        if owner and (not handed or handed[0].beyond or name not in handed[0].class_.keys):
            return ()
        return (*relation.values, *(value for layer in handed for value in layer.class_.keys[name].choices))

    def _choices(self, layer: Layer, key: Key) -> tuple[str, ...]:
        """The values that are taken: those of the release installed, else of any."""
        if layer.beyond:
            return ()
        return layer.choices(key) if layer.installed else tuple(key.choices) if not key.choices_in else ()

    # --- keys that it does not have

    def _absent(self, one: Given, layer: Layer, key: Key, words: str, name: str) -> Told | None:
        """A key that other releases have."""
        if key.refused and layer.table.runs(key.refused)[0][0] == layer.table.runs(key.within)[0][0]:
            return None  # only the releases that refuse it name it: older ones took it
        if layer.beyond or layer.name in _OF_ANY:
            return None
        told = self._told(layer, words, name)
        told.since, later = layer.changed(key)
        told.effect = self._effect(one, layer)
        relation = relations().get((layer.table.package, layer.name, name))
        if later:
            told.trouble = "not-yet"
            return told
        told.nearest = self._instead(layer, relation.instead if relation else key.instead)
        told.trouble = "renamed" if told.nearest else "removed"
        return told

    def _unknown(self, one: Given, known: list[Layer], name: str, words: str) -> Told | None:
        """A key that no release has: told where the framework surely takes no others, or where it is spelled nearly like one.

        Before DeepSpeed had a class for a block it passed over keys that it did not know: bf16.loss_scale.
        """
        layer = known[0]
        sure = self._is_sure(one, layer)
        if not sure and name in OF_SCRIPTS:
            return None
        if name.startswith("_") or not re.fullmatch(r"[A-Za-z][\w-]{0,80}", name):
            return None
        if self._is_argument(one, layer) and (name.startswith("no_") or self._begins(known, name)):
            return None  # argparse takes --no_x, and the beginning of a name
        near = self._near(known, name, NEAR if sure else VERY_NEAR)
        is_written = (one.place.origin, *one.path[:-1], near) in self._written
        if near and not sure and (is_written or (_is_made_of(name, near) and not _is_count_of(one, near))):
            near = ""
        if not near and (not sure or any(item.beyond for item in known) or one.place.origin in self._of_megatron):
            return None
        told = self._told(layer, words, near or name)
        told.trouble, told.nearest, told.effect = "unknown", near, self._effect(one, layer)
        told.installed = all(item.installed for item in known)
        if not near and not layer.installed and one.owner == "deepspeed" and len(one.path) == 2 and layer.class_.within:
            told.trouble, told.since = "removed", layer.table.told(layer.table.runs(layer.class_.within)[0][0])
        return told

    def _is_argument(self, one: Given, layer: Layer) -> bool:
        """Whether it is an argument on a command line."""
        is_parsed = layer.table.package in ("transformers", "trl", "llamafactory") and layer.unknown() == "refuses"
        return is_parsed and not one.is_file and not one.is_script

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
            decides=name in DECIDING or name.startswith("parallelism_config_"),
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
        ends = [key for key in WELL_KNOWN if len(key) >= 8 and name[:1] == key[:1] and name[-1:] == key[-1:]]
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


WELL_KNOWN = (
    "per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps", "gradient_checkpointing",
    "learning_rate", "lr_scheduler_type", "num_train_epochs", "weight_decay", "warmup_ratio", "warmup_steps", "max_grad_norm",
    "max_seq_length", "eval_strategy", "save_strategy", "logging_steps", "save_total_limit", "load_best_model_at_end",
    "model_name_or_path", "output_dir", "dataset_name", "torch_dtype", "attn_implementation", "lora_alpha", "lora_dropout",
    "lora_target_modules", "target_modules", "load_in_4bit", "load_in_8bit", "bnb_4bit_quant_type", "bnb_4bit_compute_dtype",
    "trust_remote_code", "dataloader_num_workers", "overwrite_output_dir", "resume_from_checkpoint", "report_to",
)  # fmt: skip
"""Keys that are written in configurations of every kind."""


def is_slip(written: str, meant: str) -> bool:
    """Whether a word of four letters or more differs from another by one slip: a letter left out, doubled or changed, or two swapped."""
    if written == meant or min(len(written), len(meant)) < 3 or len(meant) < 4 or abs(len(written) - len(meant)) > 1:
        return False
    start = 0
    while start < min(len(written), len(meant)) and written[start] == meant[start]:
        start += 1
    first, second = written[start:], meant[start:]
    is_swapped = len(first) > 1 and first[:2] == second[:2][::-1] and first[2:] == second[2:]
    is_changed = len(meant) > 5 and first[1:] == second[1:] and not (first[:1] + second[:1]).isdigit()
    return is_swapped or is_changed or first[1:] == second or first == second[1:]


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


def _is_made_of(written: str, meant: str) -> bool:
    """Whether a name is another one's plural, or has a number or a word more than it: these are meant as they are written."""
    longer = f"_{written}_", f"_{meant}_"
    is_part = longer[0] in longer[1] or longer[1] in longer[0]
    return is_part or written.rstrip("s") == meant.rstrip("s") or re.sub(r"_?\d+$", "", written) == meant


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


def owner_words(owner: str) -> str:
    """A class as its users say it: TRL's SFTConfig, DeepSpeed's configuration."""
    package, _, name = owner.partition(".")
    return f"{WORDS.get(package, package)} {name or 'configuration'}"


_TAKES = {
    "number": "a number",
    "number?": "a number, or null for none",
    "flag": "true or false",
    "flag?": "true, false, or null for neither",
    "flag|number": "a number, true or false",
    "flag|number?": "a number, true, false, or null for none",
    "text?": "a text, or null for none: None in YAML is the text 'None'",
}


def _reads(plain: set[str], kind: str, value: str | None, one: Given) -> bool:
    """Whether a text is read as a number or a flag. TRL's parser takes a `None` in quotes for none where there may be none."""
    text = (value or "").strip()
    if "number" in plain and _NUMBER.fullmatch(text):
        return True
    if "flag" in plain and text.lower() in _FLAG:
        return True
    may_be_none = kind.endswith("?") and text.lower() in _NOTHING
    return may_be_none and "number" in plain and one.owner.startswith(("trl.", "transformers."))


def _bad_choice(one: Given, value: str, choices: tuple[str, ...], told: Told, effect: str) -> Told | None:
    """A value that is none of those taken. In YAML an unquoted `no` is the value false, which is none of a few words."""
    if one.type == "flag":
        if {"true", "false"} & set(choices) or not one.is_file:
            return None
        meant = {"no": ("no", "none"), "off": ("off",), "false": ("no", "none")}.get(value.lower(), ())
        told.nearest = next((f"'{choice}'" for choice in choices if choice in meant), "")
    elif value in choices or (one.type == "number" and _same_number(value, choices)):
        return None
    else:
        close = get_close_matches(value.lower(), [choice.lower() for choice in choices], 1, 0.6)
        told.nearest = next((choice for choice in choices if close and choice.lower() == close[0]), "")
    told.trouble, told.effect, told.takes = "bad-choice", effect, ", ".join(choices)[:600]
    return told


def _same_number(text: str, choices: tuple[str, ...]) -> bool:
    try:
        return any(float(text) == float(choice) for choice in choices)
    except ValueError:
        return False
