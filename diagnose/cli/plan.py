"""`llmdoctor plan MODEL`: what fits on which GPUs, and with which flags."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec.structs import replace

from diagnose import cards
from diagnose.cards import Card
from diagnose.errors import InputError
from diagnose.formats import plan as formats
from diagnose.model import Fact, Reading, Unchecked
from diagnose.places import working_folder
from diagnose.plan import ENGINES, TUNES, Plan, Weights, Wish, model_of, plan

SECONDS = 30
"""How long the model's files and the driver may take to answer."""


def run(model: str, wish: Wish, gpu: str = "", gpus: int = 0, format_name: str = "text", folder: str = "") -> int:
    """Plan and print. The exit code is 0 if it fits, 1 if not, 2 if it cannot be told.

    Without `gpu` the cards of this machine are planned for. Raises InputError for a name that is not known.
    """
    wish = replace(wish, optimizer=wish.optimizer.replace("-", "_"), quantization=wish.quantization.lower())
    _check(wish)
    found, unread = _model(model, folder or working_folder())
    made = plan(found, wish, _cards(gpu, gpus))
    if made.fits is None:
        made = replace(made, unknown=made.unknown + unread)
    _print(made, format_name)
    return 2 if made.fits is None else 0 if made.fits else 1


def _print(made: Plan, format_name: str) -> None:
    from diagnose.cli.terminal import in_colour, show

    if sys.stdout is None:  # closed by who started us: the exit code alone is wanted
        return
    if format_name != "text":
        sys.stdout.write(formats.WRITERS[format_name](made))
    elif in_colour(sys.stdout):
        show(formats.lines(made, not _writes_unicode()))
    else:
        sys.stdout.write(formats.write(made, not _writes_unicode()))


def _check(wish: Wish) -> None:
    from diagnose.memory.stored import value_bytes
    from diagnose.memory.tuning import OPTIMIZERS
    from diagnose.plan.structs import QUANTIZED_BITS

    for name, value, known in (
        ("--for", wish.engine, ENGINES),
        ("--tune", wish.tune, ("", *TUNES)),
        ("--optimizer", wish.optimizer, tuple(OPTIMIZERS)),
        ("--quantization", wish.quantization, ("", *QUANTIZED_BITS)),
    ):
        if value not in known:
            raise InputError(f"{name} {value}: it is one of {', '.join(item for item in known if item)}")
    if wish.cache_dtype not in ("", "auto") and value_bytes(wish.cache_dtype) is None:
        raise InputError(f"--kv-cache-dtype {wish.cache_dtype}: its size is not known")
    counts = (wish.context, wish.concurrency, wish.tensor_parallel, wish.pipeline_parallel, wish.rank, wish.batch)
    if min(counts) < 0 or max(counts) > 1 << 26 or not 0 <= wish.utilization <= 1 or wish.zero > 3:
        raise InputError(
            "a number is out of range: counts are not negative, shares lie between 0 and 1, --zero is 0 to 3"
        )


def _model(model: str, folder: str) -> tuple[Weights, tuple[str, ...]]:
    """The model, and why parts of it could not be read."""
    from diagnose.sources import checkpoint

    told, unchecked = _read("model files", lambda: checkpoint.read(model, os.environ, folder))
    if told.get("model.kind") == "adapter" and "model.hidden_size" not in told:
        base = told.get("adapter.base") or told.get("adapter.base_model") or "the model that it was made for"
        raise InputError(f"{model}: is an adapter; plan for its base, {base}")
    if told.get("model.kind") in ("missing", None):
        why = str(told.get("model.why") or "there is no such model on this machine")
        near = told.get("model.nearest")
        raise InputError(f"{model}: {why}" + (f"; did you mean {near}?" if near else ""))
    return model_of(told), tuple(f"{item.what}: {item.why}" for item in unchecked)


def _read(name: str, source: Callable[[], Iterable[Reading]]) -> tuple[dict[str, Any], list[Unchecked]]:
    """What a source tells, read in a child process with a time limit."""
    from diagnose.sources.child import Source, read_all

    facts: dict[str, Any] = {}
    unchecked: list[Unchecked] = []
    for reading in read_all([Source(name, source, SECONDS)]):
        if isinstance(reading, Fact):
            facts.setdefault(reading.name, reading.value)
        elif isinstance(reading, Unchecked):
            unchecked.append(reading)
    return facts, unchecked


def _cards(gpu: str, gpus: int) -> tuple[Card, ...]:
    """The cards named, or those of this machine."""
    if gpu:
        try:
            return cards.parse(gpu, gpus)
        except cards.UnknownCardError as error:
            raise InputError(f"--gpu {error}") from None
    from diagnose.sources import gpu as source

    told, _ = _read("GPU driver", lambda: source.read(os.environ))
    return of_facts(told, gpus)


def of_facts(told: Mapping[str, Any], gpus: int = 0) -> tuple[Card, ...]:
    """The cards that a machine's facts tell of: all, or the first so many."""
    found = []
    for name in sorted((name for name in told if name.endswith(".memory") and name.startswith("gpu.")), key=_number):
        index = name.split(".")[1]
        divided = told.get(f"gpu.{index}.mig") is True
        memory = told.get(f"gpu.{index}.mig_memory") if divided else told[name]
        if isinstance(memory, int) and not isinstance(memory, bool) and memory > 0:
            found.append(cards.of_machine(str(told.get(f"gpu.{index}.name", "GPU")), memory))
    return tuple(found[:gpus] if gpus else found)


def _number(name: str) -> tuple[int, str]:
    index = name.split(".")[1]
    return (int(index) if index.isdigit() else 1 << 30, index)


def _writes_unicode() -> bool:
    encoding = (getattr(sys.stdout, "encoding", "") or "").lower().replace("-", "")
    return encoding.startswith("utf")
