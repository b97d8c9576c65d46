"""What a planted fault is."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from tests.models.edits import Edit

Value = str | int | float | bool


class Fault(Struct, frozen=True):
    """A fault in a copy of the folder `model`, and the rule that has to stand first.

    `target` is what is judged, relative to where the copies lie (empty: the folder); `also` names further folders that
    are copied. `command` is a launch command as a shell reads it, `files` are manifests that the edits wrote; with
    either, the model is the one that they name. `environ` is the environment, `facts` what is known of the machine.
    `real` says with what it was tried for real (transformers, peft, llama-server, transformers serve), `follows` the
    words that it writes then; empty if it goes on in silence, or was not tried. `chat`: a conversation is asked for
    where it is tried, and not a bare text. A fault without a rule is one that nothing tells of yet.
    """

    name: str
    model: str
    rule: str
    edits: tuple[Edit, ...] = ()
    target: str = ""
    also: tuple[str, ...] = ()
    command: str = ""
    files: tuple[str, ...] = ()
    environ: Mapping[str, str] = {}
    facts: Mapping[str, Value] = {}
    real: str = ""
    follows: str = ""
    chat: bool = True
