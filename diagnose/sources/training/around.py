"""What lies around a training on this machine → facts: its output folder, the checkpoint to resume from, and a tracker's login.

Checkpoints are known by the names of their files and by their small JSON files; nothing is unpickled.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from diagnose.model import Fact, Reading, Step, Unchecked
from diagnose.sources import files, jsonfile
from diagnose.sources.storage import existing

MOST_STATE_BYTES = 64 << 20
"""The largest trainer_state.json that is read: it holds the log of the whole training."""
MOST_ENTRIES = 20_000
"""How many entries of a folder are looked at."""
_LONGEST = 400
_WEIGHTS = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
    "adapter_model.safetensors", "adapter_model.bin",
)  # fmt: skip
_WHOLE = _WEIGHTS[:4]
_CHECKPOINT = re.compile(r"checkpoint-(\d{1,12})")
_ZERO_PART = re.compile(r"(?:bf16_)?zero_pp_rank_(\d{1,6})_mp_rank_\d+(?:_optim|_model)?_?(?:optim_)?states\.pt")
_FSDP_PARTS = ("pytorch_model_fsdp_", "pytorch_model_fsdp.")
_RANDOM = re.compile(r"rng_state_(\d{1,6})\.pth")


def read(facts: Mapping[str, Fact], environ: Mapping[str, str], folder: str) -> Iterator[Reading]:
    """`saved.*`, `resume.*` and `tracker.*` of a training whose settings are among `facts`; nothing is raised.

    `folder` is the one that it is started in.
    """
    output = _text(facts, "training.output")
    if output:
        yield from _output(output, files.absolute(output, environ, folder))
    resume = _text(facts, "training.resume")
    if resume:
        yield from _resume(resume, output, environ, folder)
    if "wandb" in _text(facts, "training.report_to").split(","):
        yield Fact("tracker.wandb_login", _wandb(environ), "environment and ~/.netrc")


def _text(facts: Mapping[str, Fact], name: str) -> str:
    return str(facts[name].value) if name in facts else ""


def _output(name: str, path: str) -> Iterator[Reading]:
    """The output folder: whether it is there, the room on its disk, and the checkpoints in it."""
    yield Step(f"looking at {name[:_LONGEST]}")
    yield Fact("saved.folder", name[:_LONGEST], name[:_LONGEST])
    try:
        exists = os.path.isdir(path)
        yield Fact("saved.exists", exists, name[:_LONGEST])
        room = os.statvfs(existing(path))
        yield Fact("saved.free", room.f_bavail * room.f_frsize, name[:_LONGEST])
        if not exists:
            return
        names = _names(path)
    except (OSError, ValueError) as error:
        yield Unchecked(f"the output folder {name[:_LONGEST]}", str(error))
        return
    yield Fact("saved.weights", any(one in names for one in _WEIGHTS), name[:_LONGEST])
    steps = [int(found[1]) for one in names if (found := _CHECKPOINT.fullmatch(one))]
    yield Fact("saved.checkpoints", len(steps), name[:_LONGEST])
    if steps:
        yield Fact("saved.newest_step", max(steps), name[:_LONGEST])


def _names(path: str) -> list[str]:
    with os.scandir(path) as entries:
        return [entry.name for entry, _ in zip(entries, range(MOST_ENTRIES), strict=False)]


def _resume(asked: str, output: str, environ: Mapping[str, str], folder: str) -> Iterator[Reading]:
    """The checkpoint that is resumed from: the newest of the output folder, or the one named."""
    name = asked
    if asked.lower() in ("newest", "true"):
        if not output:
            return
        found = _newest(files.absolute(output, environ, folder))
        if not found:
            yield Fact("resume.problem", "none-found", output[:_LONGEST])
            return
        name = os.path.join(output, found)
    yield Step(f"looking at {name[:_LONGEST]}")
    yield Fact("resume.path", name[:_LONGEST], name[:_LONGEST])
    path = files.absolute(name, environ, folder)
    try:
        names = _names(path)
    except (OSError, ValueError) as error:
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            yield Fact("resume.problem", "missing", name[:_LONGEST])
        else:
            yield Unchecked(f"the checkpoint {name[:_LONGEST]}", str(error))
        return
    yield from _checkpoint(name[:_LONGEST], path, names)


def _newest(path: str) -> str:
    """The checkpoint with the highest number in a folder; empty where there is none (transformers' get_last_checkpoint)."""
    try:
        found = [(int(match[1]), one) for one in _names(path) if (match := _CHECKPOINT.fullmatch(one))]
        folders = [(step, one) for step, one in found if os.path.isdir(os.path.join(path, one))]
    except (OSError, ValueError):
        return ""
    return max(folders, default=(0, ""))[1]


def _checkpoint(name: str, path: str, names: Sequence[str]) -> Iterator[Reading]:
    """What a checkpoint's folder holds, by the names of its files."""
    zero = sorted(one for one in names if re.fullmatch(r"global_step\d{1,12}", one))
    sharded = any(one.startswith(_FSDP_PARTS) for one in names)
    kind = "deepspeed" if zero else "fsdp" if sharded else "plain"
    adapter, whole = any(one.startswith("adapter_model.") for one in names), any(one in names for one in _WHOLE)
    has_weights = adapter or whole or zero or sharded or _adapter_within(path, names)
    yield Fact("resume.problem", "none" if has_weights else "no-weights", name)
    yield Fact("resume.kind", kind, name)
    yield Fact("resume.adapter", adapter, name)
    yield Fact("resume.whole", whole, name)
    yield Fact("resume.optimizer", bool(zero) or any(one.startswith("optimizer") for one in names), name)
    yield Fact("resume.scheduler", "scheduler.pt" in names, name)
    processes = _processes(path, zero, names)
    if processes:
        yield Fact("resume.processes", processes, name)
    yield from _state(f"{name}/trainer_state.json", os.path.join(path, "trainer_state.json"))
    if adapter:
        yield from _adapter(f"{name}/adapter_config.json", os.path.join(path, "adapter_config.json"))


def _adapter_within(path: str, names: Sequence[str]) -> bool:
    """Whether an adapter lies in a folder of its own, as several of them are saved."""
    inside = (os.path.join(path, one, name) for one in names[:100] for name in _WEIGHTS[4:])
    return any(os.path.isfile(one) for one in inside)


def _processes(path: str, zero: Sequence[str], names: Sequence[str]) -> int:
    """How many processes wrote it: a part of the optimizer each with ZeRO, else a random state each; 0 if nothing tells."""
    if zero:
        try:
            parts = {
                int(found[1]) for one in _names(os.path.join(path, zero[-1])) if (found := _ZERO_PART.fullmatch(one))
            }
        except (OSError, ValueError):
            return 0
        return max(parts) + 1 if parts else 0
    ranks = {int(found[1]) for one in names if (found := _RANDOM.fullmatch(one))}
    if ranks:
        return max(ranks) + 1
    return 1 if "rng_state.pth" in names else 0


def _state(name: str, path: str) -> Iterator[Reading]:
    """What trainer_state.json tells: steps, batch, and the highest learning rate of its log."""
    loaded = jsonfile.load(path, MOST_STATE_BYTES)
    state = loaded.value
    if not isinstance(state, dict):
        return
    for key, fact in (
        ("global_step", "resume.step"),
        ("max_steps", "resume.max_steps"),
        ("train_batch_size", "resume.batch"),
    ):
        value = state.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 60:
            yield Fact(fact, value, name)
    log = state.get("log_history")
    rates = [_rate(entry) for entry in log] if isinstance(log, list) else []
    if any(rates):
        yield Fact("resume.learning_rate", max(rates), name)


def _rate(entry: Any) -> float:
    value = entry.get("learning_rate") if isinstance(entry, dict) else None
    return float(value) if isinstance(value, (int, float)) and 0 <= value < 1e6 else 0.0


def _adapter(name: str, path: str) -> Iterator[Reading]:
    """Rank and modules of the checkpoint's adapter, where it has one rank for all of them."""
    config = jsonfile.load(path, 4 << 20).value
    if not isinstance(config, dict):
        return
    rank, targets = config.get("r"), config.get("target_modules")
    if isinstance(rank, int) and not isinstance(rank, bool) and 0 < rank < 1 << 20 and not config.get("rank_pattern"):
        yield Fact("resume.rank", rank, name)
    if isinstance(targets, list) and all(isinstance(one, str) for one in targets):
        yield Fact("resume.targets", ",".join(sorted(targets))[:_LONGEST], name)


def _wandb(environ: Mapping[str, str]) -> str:
    """How Weights & Biases would know the user, as its client looks for it; of the file only that the host is named."""
    mode = environ.get("WANDB_MODE", "").lower()
    if mode in ("disabled", "dryrun", "offline"):
        return "disabled" if mode == "disabled" else "offline"
    if (
        environ.get("WANDB_DISABLED", "").lower() in ("1", "true", "yes", "on")
        or environ.get("WANDB_OFFLINE", "").lower() == "true"
    ):
        return "disabled"
    if environ.get("WANDB_API_KEY") or environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return "variable"
    home = environ.get("HOME", "")
    host = (
        re.sub(r"^\w+://", "", environ.get("WANDB_BASE_URL", "https://api.wandb.ai"))
        .partition("/")[0]
        .partition(":")[0]
    )
    for path in (environ.get("NETRC", ""), *(os.path.join(home, one) for one in (".netrc", "_netrc") if home)):
        data = jsonfile.read_bytes(path, 1 << 20) if path else b""
        if isinstance(data, bytes) and host.encode() in data:
            return "file"
    return "none"
