"""torchrun, accelerate launch, deepspeed, mpirun → how many processes they start on which GPUs, and the script behind them."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from difflib import get_close_matches

from msgspec import Struct

from diagnose.model import Fact, Reading, Unchecked
from diagnose.sources import yamlfile
from diagnose.sources.jsonfile import Loaded, read_bytes
from diagnose.sources.launch.inside import Inside, whole
from diagnose.sources.launch.shell import Word
from diagnose.sources.settings import words as names
from diagnose.sources.storage import hub_home

LONGEST = 400
MOST_HOSTS = 10_000

_TORCHRUN_FLAGS = names("standalone no-python run-path m module")
_ACCELERATE_FLAGS = names(
    """
    quiet cpu multi-gpu tpu ipex xpu use-deepspeed use-fsdp use-megatron-lm use-xpu use-mps-device module m no-python
    debug same-network tpu-use-cluster tpu-use-sudo fp8-override-linear-precision enable-cpu-affinity dynamo-use-fullgraph
    dynamo-use-dynamic dynamo-use-regional-compilation use-parallelism-config
    """
)
_DEEPSPEED_FLAGS = names(
    "module no-python no-local-rank no-ssh no-ssh-check force-multi save-pid elastic-training bind-cores-to-rank quick-start venv"
)
_FLAGS_OF = {"torchrun": _TORCHRUN_FLAGS, "accelerate": _ACCELERATE_FLAGS, "deepspeed": _DEEPSPEED_FLAGS}
_MPI = names("mpirun mpiexec orterun mpirun.openmpi mpiexec.hydra")
_MPI_ONE = names(
    "n np c N host H hostfile machinefile bind-to map-by rank-by wdir ppn npernode npersocket prefix hosts f genvlist output-filename tag-output-to x"
)
_MPI_TWO = names("mca genv env gmca")


class _Split(Struct, frozen=True):
    """A launcher's options by name (hyphens), the script behind them with its words, and the options as they were written."""

    options: dict[str, Word]
    script: tuple[Word, ...]
    given: tuple[Word, ...] = ()


def kind(words: Sequence[Word]) -> tuple[str, int]:
    """Which launcher the words start, and where its options begin; an empty name for none."""
    texts = [word.text for word in words]
    first = os.path.basename(texts[0]) if texts else ""
    if first == "torchrun":
        return "torchrun", 1
    if first == "deepspeed":
        return "deepspeed", 1
    if first in ("accelerate", "accelerate-launch"):
        at = 1 if first == "accelerate-launch" else 2
        return ("accelerate", at) if at == 1 or texts[1:2] == ["launch"] else ("", 0)
    if first in _MPI:
        return "mpirun", 1
    if re.fullmatch(r"python(?:\d(?:\.\d+)?)?", first):
        module = next((number for number, text in enumerate(texts) if text == "-m"), 0)
        told = {
            "torch.distributed.run": "torchrun",
            "torch.distributed.launch": "torchrun",
            "accelerate.commands.launch": "accelerate",
            "deepspeed.launcher.runner": "deepspeed",
        }.get(texts[module + 1] if module and module + 1 < len(texts) else "", "")
        return told, module + 2 if told else 0
    return "", 0


def is_launcher(words: Sequence[Word]) -> bool:
    """Whether the words start a launcher that is known here."""
    return bool(kind(words)[0])


PROGRAMS = {"accelerate": "accelerate launch"}
"""What people call a launcher, where that is not its name here."""


def own_words(words: Sequence[Word]) -> tuple[str, tuple[Word, ...]]:
    """What a launcher is called, and its own options: the words before the script."""
    name, at = kind(words)
    split = _split_mpi(words[at:]) if name == "mpirun" else _split(words[at:], _FLAGS_OF[name])
    return PROGRAMS.get(name, name), tuple(words[at : len(words) - len(split.script)])


def read(
    words: Sequence[Word], assigned: Mapping[str, Word], environ: Mapping[str, str], folder: str, origin: str
) -> Generator[Reading, None, Inside | None]:
    """`deploy.launcher`, `deploy.processes` and so on, and the command that the launcher starts."""
    name, at = kind(words)
    line = words[0].line
    yield Fact("deploy.launcher", name, origin, line)
    if name == "mpirun":
        split = _split_mpi(words[at:])
        yield from _mpi(split, origin, line)
    else:
        split = _split(words[at:], _FLAGS_OF[name])
        yield from _unknown(name, split.given, origin)
        told = {"torchrun": _torchrun, "accelerate": _accelerate, "deepspeed": _deepspeed}[name]
        by_variables = any(variable.startswith("PET_") for variable in (*environ, *assigned))
        if name == "torchrun" and by_variables:
            yield from _torchrun_by_variables(split, origin)
        else:
            yield from told(split, environ, folder, origin)
    if not split.script:
        yield Unchecked("launch command", f"{name} is given no script to start")
        return None
    yield Fact("deploy.script", split.script[0].text[:LONGEST], origin, split.script[0].line)
    script = _as_command(split)
    return Inside(script, tuple(assigned.items()), origin=origin, line=line, contained=False) if script else None


def _as_command(split: _Split) -> tuple[Word, ...]:
    """The script as a command: a module needs its `-m`, a script its interpreter."""
    first = split.script[0]
    if "module" in split.options or "m" in split.options:
        return (Word("python", first.line), Word("-m", first.line), *split.script)
    if first.text.endswith(".py"):
        return (Word("python", first.line), *split.script)
    return split.script


def _split(words: Sequence[Word], flags: frozenset[str]) -> _Split:
    """Options up to the first word that belongs to none."""
    options: dict[str, Word] = {}
    written: list[Word] = []
    at = 0
    while at < len(words) and words[at].text.startswith("-") and len(words[at].text) > 1:
        name, given, value = words[at].text.lstrip("-").partition("=")
        name = name.replace("_", "-")
        written.append(words[at])
        at += 1
        if given:
            options[name] = Word(value, words[at - 1].line)
        elif name in flags:
            options[name] = Word("true", words[at - 1].line)
        elif at < len(words):
            options[name] = words[at]
            at += 1
    return _Split(options, tuple(words[at:]), tuple(written))


def _unknown(name: str, given: Sequence[Word], origin: str) -> Iterator[Reading]:
    """`deploy.unknown_option`: the first option that no release of the launcher has, by the tables of its own parser."""
    from diagnose.derive import engines

    table = engines.table(name)
    for word in given if table is not None else ():
        written = word.text.partition("=")[0]
        if table is None or table.find(written) is not None or not word.known:
            continue
        spellings = table.spellings()
        if table.abbreviates and any(
            spelling.startswith(written) for spelling in spellings
        ):  # a beginning that is not the only one's
            continue
        yield Fact("deploy.unknown_option", written[:80], origin, word.line)
        close = get_close_matches(written.replace("_", "-"), [text for text in spellings if "_" not in text], 1, 0.7)
        if close:
            yield Fact("deploy.nearest_option", close[0], origin, word.line)
        return


def _split_mpi(words: Sequence[Word]) -> _Split:
    """mpirun's options: some take one word, some two, the others none."""
    options: dict[str, Word] = {}
    at = 0
    while at < len(words) and words[at].text.startswith("-") and len(words[at].text) > 1:
        name, given, value = words[at].text.lstrip("-").partition("=")
        taken = 0 if given else 2 if name in _MPI_TWO else 1 if name in _MPI_ONE else 0
        options[name] = Word(value, words[at].line) if given else words[min(at + 1, len(words) - 1)]
        at += 1 + taken
    return _Split(options, tuple(words[at:]))


def _number(word: Word | None) -> int | None:
    return int(word.text) if word is not None and word.known and re.fullmatch(r"\d{1,7}", word.text) else None


def _option(split: _Split, *names_: str) -> Word | None:
    return next((split.options[name] for name in names_ if name in split.options), None)


def _count(name: str, word: Word | None, origin: str) -> Iterator[Reading]:
    """A fact for an option that holds a number."""
    number = _number(word)
    if number is not None and word is not None:
        yield Fact(name, number, origin, word.line)


# --- torchrun


def _torchrun(split: _Split, environ: Mapping[str, str], folder: str, origin: str) -> Iterator[Reading]:
    """Without --nproc-per-node one process is started, however many GPUs there are."""
    processes = _option(split, "nproc-per-node")
    if processes is None:
        yield Fact("deploy.processes", 1, origin, 0)
        yield Fact("deploy.processes_default", True, origin, 0)
    elif processes.text in ("gpu", "auto", "cpu", "xpu"):
        yield Fact("deploy.processes_by", processes.text, origin, processes.line)
    yield from _count("deploy.processes", processes, origin)
    yield from _nodes(split, origin)


def _torchrun_by_variables(split: _Split, origin: str) -> Iterator[Reading]:
    """torchrun takes what it is not given from variables (PET_NNODES, PET_MASTER_ADDR), as Kubeflow's operator sets them."""
    yield from _count("deploy.processes", _option(split, "nproc-per-node"), origin)
    yield from _count("deploy.nodes", _option(split, "nnodes"), origin)


def _nodes(split: _Split, origin: str) -> Iterator[Reading]:
    """How many machines, and how they find each other."""
    nodes = _option(split, "nnodes")
    least, _, most = nodes.text.partition(":") if nodes is not None else ("1", "", "")
    count = int(most or least) if re.fullmatch(r"\d{1,6}", most or least) else None
    if count is not None:
        yield Fact("deploy.nodes", count, origin, nodes.line if nodes else 0)
    rank = _option(split, "node-rank")
    yield from _count("deploy.node_rank", rank, origin)
    endpoint, master = _option(split, "rdzv-endpoint"), _option(split, "master-addr")
    backend = _option(split, "rdzv-backend")
    if endpoint is not None:
        yield Fact("deploy.rendezvous", endpoint.text[:LONGEST], origin, endpoint.line)
        port = endpoint.text.rpartition(":")[2]
        if ":" in endpoint.text and (number := whole(port)) is not None:
            yield Fact("deploy.master_port", number, origin, endpoint.line)
    elif master is not None:
        yield Fact("deploy.rendezvous", master.text[:LONGEST], origin, master.line)
    elif "standalone" not in split.options:
        yield Fact("deploy.rendezvous", "none", origin, nodes.line if nodes else 0)
    if endpoint is None and (count == 1 or count is None) and "standalone" not in split.options and backend is None:
        port_word = _option(split, "master-port")
        yield Fact("deploy.master_port", _number(port_word) or 29500, origin, port_word.line if port_word else 0)


# --- accelerate


_SINGLE = ("NO", "'NO'", "no", "No", "False")


def _accelerate(split: _Split, environ: Mapping[str, str], folder: str, origin: str) -> Iterator[Reading]:
    """The command's options go before those of the config file; that is the default one where none is named."""
    path, named = _config_path(split, environ, folder)
    config = yamlfile.load(path) if path else yamlfile.Documents(missing=True)
    shown = named or path
    document = config.documents[0] if config.documents else yamlfile.Node(None, 0)
    if named and config.missing:
        yield Fact("deploy.config_missing", named[:LONGEST], origin, _line(split, "config-file"))
    elif config.error and not config.missing:
        yield Unchecked(f"accelerate's configuration {shown[:LONGEST]}", config.error)
    elif document.items():
        yield Fact("deploy.config", shown[:LONGEST], origin, _line(split, "config-file"))
    yield Fact("deploy.config_there", bool(document.items()), origin, _line(split, "config-file"))
    if document.items():
        yield from _accelerate_config(document, shown[:LONGEST], split)
    processes = _option(split, "num-processes")
    yield from _count("deploy.processes_all", processes, origin)
    if processes is None:
        yield from _count("deploy.processes_all", _as_word(document.get("num_processes")), shown[:LONGEST])
    nodes = _option(split, "num-machines") or _as_word(document.get("num_machines"))
    yield from _count("deploy.nodes", nodes if nodes is not None else Word("1"), shown[:LONGEST] if shown else origin)
    total, machines = _number(processes or _as_word(document.get("num_processes"))), _number(nodes) or 1
    if total is not None:
        yield Fact("deploy.processes", -(-total // max(machines, 1)), origin, processes.line if processes else 0)
    port = _option(split, "main-process-port") or _as_word(document.get("main_process_port"))
    yield from _count("deploy.master_port", port, origin)
    precision = _option(split, "mixed-precision") or _as_word(document.get("mixed_precision"))
    if precision is not None:
        yield Fact("deploy.mixed_precision", precision.text[:40], origin, precision.line)


def _line(split: _Split, name: str) -> int:
    return split.options[name].line if name in split.options else 0


def _as_word(node: yamlfile.Node) -> Word | None:
    return Word(node.word(), node.line) if node.word() else None


def _config_path(split: _Split, environ: Mapping[str, str], folder: str) -> tuple[str, str]:
    """The config file's path and its name as given; the default file where none is named."""
    named = _option(split, "config-file")
    if named is not None:
        return os.path.join(folder, named.text), named.text
    home, _ = hub_home(environ)
    return (os.path.join(home, "accelerate", "default_config.yaml") if home else ""), ""


def _accelerate_config(document: yamlfile.Node, origin: str, split: _Split) -> Iterator[Reading]:
    distributed = document.get("distributed_type")
    kind_ = distributed.word()
    for flag, word in (("use-deepspeed", "DEEPSPEED"), ("use-fsdp", "FSDP"), ("multi-gpu", "MULTI_GPU")):
        kind_ = word if flag in split.options else kind_
    if kind_:
        yield Fact("deploy.distributed", "NO" if kind_ in _SINGLE else kind_.upper()[:40], origin, distributed.line)
    if document.get("use_cpu").value is True:
        yield Fact("deploy.on_cpu", True, origin, document.get("use_cpu").line)
    ids = document.get("gpu_ids")
    if ids.word() and ids.word() != "all" and "gpu-ids" not in split.options:
        yield Fact("deploy.gpu_ids", ids.word()[:LONGEST], origin, ids.line)
        yield Fact("deploy.gpus", len({item for item in ids.word().split(",") if item.strip()}), origin, ids.line)
    deepspeed = document.get("deepspeed_config")
    stage = deepspeed.get("zero_stage")
    yield from _count("deploy.zero_stage", _as_word(stage), origin)
    if deepspeed.get("deepspeed_config_file").word() and kind_.upper() == "DEEPSPEED":
        twice = [name for name, _ in deepspeed.items() if name in _ONLY_IN_DEEPSPEED]
        if document.get("mixed_precision") and "mixed-precision" not in split.options:
            twice.append("mixed_precision")
        if twice:
            yield Fact("deploy.config_fields_twice", ", ".join(twice)[:LONGEST], origin, deepspeed.line)


_ONLY_IN_DEEPSPEED = names(
    """
    gradient_accumulation_steps gradient_clipping zero_stage offload_optimizer_device offload_param_device
    offload_param_nvme_path offload_optimizer_nvme_path zero3_save_16bit_model mixed_precision
    """
)
"""What accelerate (1.15: utils/dataclasses.py, _deepspeed_config_checks) refuses beside deepspeed_config_file."""


# --- deepspeed, mpirun


def _deepspeed(split: _Split, environ: Mapping[str, str], folder: str, origin: str) -> Iterator[Reading]:
    """Without options it takes all GPUs here, or the machines of its hostfile (/job/hostfile) where there is one.

    DeepSpeed chooses GPUs itself, so that CUDA_VISIBLE_DEVICES counts only where neither --include nor --num_gpus is given.
    """
    yield from _count("deploy.processes", _option(split, "num-gpus"), origin)
    include = _option(split, "include", "i")
    if include is not None:
        yield Fact("deploy.include", include.text[:LONGEST], origin, include.line)
        slots = re.fullmatch(r"[\w.-]+:([\d,]+)", include.text)
        if slots:
            yield Fact("deploy.processes", len([item for item in slots[1].split(",") if item]), origin, include.line)
            highest = max((int(item) for item in slots[1].split(",") if item and len(item) < 7), default=0)
            yield Fact("deploy.gpu_highest", highest, origin, include.line)
        if _option(split, "num-gpus", "num-nodes") is not None:
            yield Fact("deploy.include_and_count", True, origin, include.line)
    hostfile = _option(split, "hostfile", "H")
    if hostfile is not None:
        counted = any(
            _option(split, name) is not None for name in ("num-gpus", "num-nodes", "include", "i", "exclude", "e")
        )
        yield from _hostfile(hostfile, folder, origin, every=not counted)
    yield from _count("deploy.nodes", _option(split, "num-nodes"), origin)
    port = _option(split, "master-port")
    yield Fact("deploy.master_port", _number(port) or 29500, origin, port.line if port else 0)


def _hostfile(word: Word, folder: str, origin: str, every: bool = False) -> Iterator[Reading]:
    """Lines `host slots=N`. A file that is not there is passed over by DeepSpeed: it then uses this machine alone.

    `every`: no other option leaves out machines or GPUs, so that its slots are the processes.
    """
    data = read_bytes(os.path.join(folder, word.text), 1 << 20)
    if isinstance(data, Loaded):
        if data.missing:
            yield Fact("deploy.hostfile_missing", word.text[:LONGEST], origin, word.line)
        else:
            yield Unchecked(f"hostfile {word.text[:LONGEST]}", data.error)
        return
    text = data.decode("utf-8", "replace")
    lines = [line.split("#")[0].strip() for line in text.splitlines()[:MOST_HOSTS]]
    hosts = [line for line in lines if line]
    yield Fact("deploy.nodes", len(hosts), origin, word.line)
    bad = next((line for line in hosts if not re.fullmatch(r"\S+\s+slots=\d+\s*", line)), None)
    if bad is not None:
        yield Fact("deploy.hostfile_line", bad[:LONGEST], origin, word.line)
    elif hosts and every:
        slots = sum(int(line.rpartition("=")[2][:6]) for line in hosts)
        yield Fact("deploy.processes_all", slots, origin, word.line)


def _mpi(split: _Split, origin: str, line: int) -> Iterator[Reading]:
    yield from _count("deploy.processes_all", _option(split, "np", "n", "c"), origin)
