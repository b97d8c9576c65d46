"""The value of a training's setting against the tables: of a wrong type, or none of those that are taken."""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches

from diagnose.derive.training_given import Given, Told
from diagnose.derive.training_tables import Key, Layer, Relation, relations
from diagnose.sources.training.given import is_secret

Classes = Callable[[str], list[Layer]]
"""An owner → its class and those that it inherits from."""
_PLACEHOLDER = re.compile(r"\$\{|\$\(|\{\{|^\$\w|^<.*>$|^%")
_NUMBER = re.compile(r"[+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?\.?(?:inf|nan)", re.IGNORECASE)
_FLAG = frozenset({"true", "false", "yes", "no", "on", "off", "y", "n", "t", "f", "1", "0"})
_NOTHING = frozenset({"none", "null", "nil", "~", ""})
_TAKES = {
    "number": "a number",
    "number?": "a number, or null for none",
    "flag": "true or false",
    "flag?": "true, false, or null for neither",
    "flag|number": "a number, true or false",
    "flag|number?": "a number, true, false, or null for none",
    "text?": "a text, or null for none: None in YAML is the text 'None'",
}


def wrong(one: Given, layer: Layer, key: Key, name: str, told: Told, classes: Classes) -> Told | None:
    """A value that is not taken. Only what the framework surely stops at, or reads as something else, is told.

    `told` is what is known of the key already; `classes` gives the class of an owner.
    """
    value = one.value
    if value is not None and (_PLACEHOLDER.search(value) or (value == "set" and is_secret(one.key))):
        return None
    if layer.table.package == "deepspeed" and (value or "").lower() == "auto":
        return None
    relation = relations().get((layer.table.package, layer.name, name))
    if layer.table.package == "accelerate" or (relation is not None and relation.told_by):
        return None  # accelerate's fields hold whatever the file has, and what it makes of that its own rules tell
    kind = layer.type_of(key)
    named = _named(relation, classes) if relation is not None and not layer.beyond else ()
    choices = named or (() if "any" in key.type else _choices(layer, key))
    if named and "flag" in kind:
        if one.type in ("flag", "number") or _reads({"flag"}, kind, value, one):
            return None
        choices = (*choices, "true", "false")
    if one.is_script and value is not None:
        value = value.removeprefix("torch.")
    if choices and value is not None and one.type in ("text", "number", "flag"):
        is_checked = key.checked != "parser" or one.is_argument(layer)
        if is_checked or one.type == "text":
            return _bad_choice(one, value, choices, told, "refuses" if is_checked else "misreads")
    return _bad_type(one, layer, kind, told)


def _bad_type(one: Given, layer: Layer, kind: str, told: Told) -> Told | None:
    """A value of another type than the key has: a word for a number, a block for a flag, the text None for none."""
    plain = set(kind.rstrip("?").split("|"))
    is_other = plain <= {"number", "flag"} and (
        one.type == "mapping"
        or (one.type == "list" and one.is_file)
        or (one.type == "text" and not _reads(plain, kind, one.value, one))
    )
    nothing = (
        plain == {"text"} and kind.endswith("?") and one.value == "None" and one.type == "text" and not one.is_script
    )
    if not is_other and not nothing:
        return None
    is_checked = layer.table.package in ("deepspeed", "axolotl") or (is_other and "flag" not in plain)
    told.trouble, told.effect = "bad-type", "refuses" if is_checked else "misreads"
    told.takes = _TAKES["text?" if nothing else "|".join(sorted(plain)) + ("?" if kind.endswith("?") else "")]
    return told


def _named(relation: Relation, classes: Classes) -> tuple[str, ...]:
    """The values that a relation names, with those that any release takes of the key that it hands its value to."""
    owner, _, name = relation.values_of.rpartition(".")
    handed = classes(owner)[:1] if owner else []
    if owner and (not handed or handed[0].beyond or name not in handed[0].class_.keys):
        return ()
    return (*relation.values, *(value for layer in handed for value in layer.class_.keys[name].choices))


def _choices(layer: Layer, key: Key) -> tuple[str, ...]:
    """The values that are taken: those of the release installed, else of any."""
    if layer.beyond:
        return ()
    return layer.choices(key) if layer.installed else tuple(key.choices) if not key.choices_in else ()


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
