"""A model's tokenizer and chat template → facts: its files, its special tokens, what it does with texts and chats.

Nothing of the model's code is run. The template, which is a program, is rendered in a sandbox, and the vocabulary is
loaded by a library written in Rust: each in a child process of its own, bounded in memory and time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping

from msgspec import structs

from diagnose.model import Fact, Output, Reading, Step, Unchecked
from diagnose.sources import child
from diagnose.sources.tokenizer import embedded, encoding, files, identity, sandbox, special, template, vocabulary
from diagnose.sources.tokenizer.files import Files
from diagnose.sources.tokenizer.vocabulary import Vocabulary

TEMPLATE_SECONDS = 6.0
"""How long all conversations of a template may take together; a published one takes a tenth of a second."""
ENCODING_SECONDS = 10.0
ENCODING_MEMORY = 3 << 30
_CONTROLS = {
    number: "\N{REPLACEMENT CHARACTER}" for number in (*range(32), *range(127, 160)) if chr(number) not in "\t\n"
}
_EXEMPT = ("ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer", "MyT5Tokenizer")
"""Classes that need no vocabulary: their tokens are bytes or code points."""


def read(model: str, environ: Mapping[str, str], folder: str) -> Iterator[Reading]:
    """What is known of the tokenizer of `model`, a path (relative to `folder`) or the id of a model in a cache."""
    from diagnose.sources.checkpoint import where

    yield Step("looking for the tokenizer's files")
    found = where.find(model, environ, folder)
    if not found.folder or found.kind in ("safetensors", "file"):
        return
    if found.kind == "gguf":
        yield from read_gguf(found.path, found.origin(os.path.basename(found.path)), found.name)
        return
    head = os.path.dirname(found.origin("x"))
    yield from read_folder(found.folder, head, found.name, found.kind)


def _writable(readings: Iterable[Reading]) -> Iterator[Reading]:
    """The readings with texts that can be written as UTF-8: JSON may hold half a surrogate pair, and a name any byte."""
    for reading in readings:
        if isinstance(reading, Fact) and isinstance(reading.value, str):
            yield structs.replace(reading, value=_shown(reading.value), origin=_shown(reading.origin))
        elif isinstance(reading, Fact):
            yield structs.replace(reading, origin=_shown(reading.origin))
        elif isinstance(reading, Output):
            yield structs.replace(reading, text=_utf8(reading.text))
        elif isinstance(reading, Unchecked):
            yield Unchecked(_shown(reading.what), _shown(reading.why))
        else:
            yield reading


def _utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _shown(text: str) -> str:
    """A text that a terminal can be given: without control characters, which a file of somebody else's may hold."""
    return _utf8(text).translate(_CONTROLS)


def read_folder(path: str, head: str, name: str, kind: str = "folder") -> Iterator[Reading]:
    """What the files of one folder say. `head` is the folder as a reader should see it, `name` the model's name."""
    yield from _writable(_folder(path, head, name, kind))


def _folder(path: str, head: str, name: str, kind: str) -> Iterator[Reading]:
    yield Step("reading the tokenizer's files")
    known = files.look(path, head)
    found = vocabulary.gather(known)
    yield from identity.facts(known, found, name)
    yield from vocabulary.facts(known, found)
    yield from special.facts(known, found)
    yield from _absent(known, found, kind)
    yield from _faulty(known)
    chosen = template.find(known)
    yield from template.where(known, chosen)
    names = {key: written.text for key, written in special.named(known, found).items()}
    prompt: list[str] = []
    if chosen.chosen is not None and chosen.chosen.text.strip():
        marks = template.marks_of(known, names, tuple(found.added) + tuple(names.values()))
        origin = known.origin(chosen.chosen.file)
        begins = ""
        for reading in _template(chosen.chosen, chosen.others, marks, origin, prompt):
            if isinstance(reading, Fact) and reading.name == "template.turn_begins":
                begins = str(reading.value)
            if isinstance(reading, Fact) and reading.name == "template.turn_end":
                yield from _ends(str(reading.value), begins, origin, known, found, names)
                continue
            yield reading
    found.ordinary.clear()  # so that the child below is as small as it can be
    if found.document is not None:
        readings = encoding.facts(known, found, {key: _utf8(text) for key, text in names.items()}, prompt)
        yield from _apart("tokenizer.json", readings, ENCODING_MEMORY, ENCODING_SECONDS)
    elif found.kind == "sentencepiece" and known.good(os.path.basename(found.origin)):
        name = os.path.basename(found.origin)
        readings = encoding.sentencepiece_facts(known, found, name)
        yield from _apart(name, readings, ENCODING_MEMORY, ENCODING_SECONDS)


def read_gguf(path: str, origin: str, name: str) -> Iterator[Reading]:
    """What the tokenizer inside a GGUF file says. `origin` is the file as a reader should see it."""
    yield from _writable(_gguf(path, origin, name))


def _gguf(path: str, origin: str, name: str) -> Iterator[Reading]:
    yield Step("reading the tokenizer in the GGUF file")
    found = embedded.read(path)
    if found is None:
        return
    yield from embedded.facts(found, origin)
    yield Fact("template.model_tuned", identity.tuned_for_chat(name, {}), origin)
    if found.template is None:
        return
    marks = template.Marks({f"{key}_token": text for key, text in found.special.items()}, found.tokens)
    for reading in _template(found.template, found.others, marks, origin, []):
        yield reading
        if isinstance(reading, Fact) and reading.name == "template.turn_end":
            yield from embedded.stops(str(reading.value), found, origin)


def _template(
    chosen: template.Source,
    others: Iterable[template.Source],
    marks: template.Marks,
    origin: str,
    prompt: list[str],
) -> Iterator[Reading]:
    """What the template does, in a child process; the prompt of the plainest conversation is put into `prompt`."""
    tools = next((source for source in others if source.name == "tool_use"), None)
    readings = template.facts(chosen, tools, marks, origin)
    for reading in _apart("chat template", readings, sandbox.MEMORY, TEMPLATE_SECONDS):
        if isinstance(reading, Output) and reading.origin in (template.PROMPT, template.TURNS):
            prompt.append(reading.text)
            continue
        yield reading
        if isinstance(reading, Unchecked):  # it was broken off from outside, in the middle of one operation
            yield Fact("template.case.whole.result", "endless", origin)
            yield Fact("template.case.whole.message", reading.why, origin)


def _apart(what: str, readings: Iterable[Reading], memory: int, seconds: float) -> Iterator[Reading]:
    """Run a part in a child process with little memory and time; what it says before it breaks off is kept."""

    def bounded() -> Iterator[Reading]:
        sandbox.limit_this_process(memory, int(seconds) + 1)
        yield from _writable(readings)

    yield from child.read_all([child.Source(what, bounded, seconds)])


def _absent(known: Files, found: Vocabulary, kind: str) -> Iterator[Reading]:
    """Whether a folder that must have a vocabulary has none."""
    here = known.head or "model folder"
    architectures = known.model.get("architectures")
    generates = isinstance(architectures, list) and any(
        str(name).endswith(("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")) for name in architectures
    )
    wanted = "config.json" in known.names and (generates or bool(known.tokenizer_config)) and kind == "folder"
    if not wanted or known.tokenizer_config.get("tokenizer_class") in _EXEMPT:
        return
    others = [
        name for name in known.names if name.endswith((".spm", ".bpe", ".vocab", ".tiktoken")) or ".model" in name
    ]
    present = [name for name in files.VOCABULARIES if name in known.states]
    yield Fact("tokenizer.vocabulary_missing", not present and not others, here)
    if found.kind == "vocab" and found.algorithm == "BPE":
        yield Fact("tokenizer.merges_missing", "merges.txt" not in known.states, here)


def _faulty(known: Files) -> Iterator[Reading]:
    for number, state in enumerate(state for state in known.states.values() if state.problem):
        origin = known.origin(state.name)
        yield Fact(f"tokenizer.file.{number}.name", state.name, origin)
        yield Fact(f"tokenizer.file.{number}.problem", state.problem, origin, state.line)
        yield Fact(f"tokenizer.file.{number}.detail", state.detail[:300], origin, state.line)
        yield Fact(f"tokenizer.file.{number}.needed", _needed(state.name, known), origin)


def _needed(name: str, known: Files) -> bool:
    """Whether a loader reads a file: what is older is passed over where what is newer is there."""
    if name in ("special_tokens_map.json", "added_tokens.json"):
        return "added_tokens_decoder" not in known.tokenizer_config
    if name == "chat_template.json":
        return "chat_template.jinja" not in known.states and "chat_template" not in known.tokenizer_config
    if name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        return True
    return "tokenizer.json" not in known.states


def _ends(
    end: str, begins: str, origin: str, known: Files, found: Vocabulary, names: Mapping[str, str]
) -> Iterator[Reading]:
    """The end of a turn: what is printed there, or what begins the next turn if generation is set to stop at it."""
    if end == "none" and found.id_of(begins) is not None and found.id_of(begins) in special.stop_ids(known)[0]:
        end = begins
    yield Fact("template.turn_end", end, origin)
    yield from _stops(end, origin, known, found, names)


def _stops(end: str, origin: str, known: Files, found: Vocabulary, names: Mapping[str, str]) -> Iterator[Reading]:
    """Where generation stops at the token that ends a turn: everywhere, in engines only, or nowhere."""
    if end == "none":
        return
    ids, file = special.stop_ids(known)
    number = found.id_of(end)
    is_eos = names.get("eos") == end
    if ids and number is None:
        return
    if not file and (not names.get("eos") or "config.json" not in known.names):
        return  # an adapter stops where its base does
    by_id = number in ids if ids else is_eos
    place = "everywhere" if by_id else "engines" if is_eos else "nowhere"
    yield Fact("template.turn_end_stops", place, known.origin(file) if file else origin)
    if number is not None:
        yield Fact("template.turn_end_id", number, found.origin or origin)
        token = found.added.get(end)
        if token is not None and (found.document is not None or known.tokenizer_config):
            yield Fact("template.turn_end_marked", token.special, found.origin or origin)
        rows = vocabulary.rows_of(known)
        if rows is not None:
            yield Fact("template.turn_end_outside", number >= rows, found.origin or origin)
