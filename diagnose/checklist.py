"""The checklist of a machine: a line per area, with what was found there and how it stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from diagnose.facts import AREAS, area_of, shown
from diagnose.model import SEVERITIES, Area, Case, Finding, Severity
from diagnose.predicate import Value, parse

SOURCES: Mapping[str, tuple[str, ...]] = {
    "GPU driver": ("driver", "GPUs"),
    "host": ("memory", "storage", "limits", "system", "network"),
    "kernel log": ("kernel log",),
    "Python packages": ("interpreter", "packages", "CUDA libraries", "extensions", "engine"),
    "the Python environment": ("interpreter", "packages", "CUDA libraries", "extensions", "engine"),
    "imports": ("imports",),
    "model files": ("model", "weights"),
    "tokenizer": ("tokenizer", "chat template"),
    "tokenizer.json": ("tokenizer",),
    "tokenizer.model": ("tokenizer",),
    "chat template": ("chat template",),
    "launch command": ("launch",),
    "training configuration": ("training",),
    "training data": ("data",),
}
"""The areas that stay empty when a source (by its name, or by what it says it could not look at) yields nothing."""

MOST_GPUS = 256
"""How many GPUs are counted by kind; a case file may claim any number."""
ENGINES = ("vllm", "sglang", "transformers", "trl", "peft", "accelerate", "deepspeed", "llama-cpp-python", "lmdeploy")


def areas(case: Case, findings: Sequence[Finding]) -> tuple[Area, ...]:
    """The lines of the checklist; none for a case without a machine. Areas that nobody looked at are left out."""
    if not case.machine or case.origins:
        return ()
    values: dict[str, Value] = {fact.name: fact.value for fact in case.facts}
    found: dict[str, list[Finding]] = {}
    for finding in findings:
        found.setdefault(area_of_finding(finding), []).append(finding)
    lines = [_line(name, values, found.get(name, ()), _why_not(name, case)) for name in AREAS]
    return tuple(line for line in lines if line is not None)


def _line(name: str, values: Mapping[str, Value], findings: Sequence[Finding], why_not: str) -> Area | None:
    summary = _SUMMARIES[name](values)
    rules = tuple(dict.fromkeys(finding.rule.id for finding in findings))
    if findings:
        worst: Severity = min((finding.rule.severity for finding in findings), key=SEVERITIES.index)
        return Area(name, worst, summary or ("1 finding" if len(rules) == 1 else f"{len(rules)} findings"), rules)
    if why_not and not summary:
        return Area(name, "unchecked", f"not checked, because {why_not}")
    return Area(name, "ok", summary) if summary else None


def area_of_finding(finding: Finding) -> str:
    """Where a finding belongs: the area of the fact that its rule asks for first, or of the probe whose text it is in.

    Which engine it is only says where a rule holds.
    """
    if finding.events:
        return "kernel log" if finding.events[0].origin == "kernel log" else "imports"
    names = [parse(text).name for text in finding.rule.match.facts]
    telling = [name for name in names if name not in ("engine.name", "launch.engine_version")] or names
    return next((area for name in telling if (area := area_of(name))), "")


def _why_not(name: str, case: Case) -> str:
    return next((item.why for item in case.unchecked if name in SOURCES.get(item.what, ())), "")


_Values = Mapping[str, Value]


def _told(values: _Values, name: str, form: str = "{}", silent: tuple[Value, ...] = ()) -> list[str]:
    """A fact in words, or nothing if it is not known, or one of the values that nothing is said of."""
    return [form.format(shown(name, values[name]))] if name in values and values[name] not in silent else []


def _driver(values: _Values) -> str:
    if "driver.version" in values:
        return ", ".join(_told(values, "driver.version") + _told(values, "driver.cuda", "up to CUDA {}"))
    if "driver.error" in values:
        return f"does not answer: {values['driver.error']}"
    return "none, and no GPU that needs one" if values.get("gpu.vendor") == "none" else ""


def _gpus(values: _Values) -> str:
    count = values.get("gpu.count")
    if not count:
        return "none: what needs a GPU will not run here, the rest will on the CPU" if count == 0 else ""
    kinds: dict[str, int] = {}
    for number in range(min(int(count), MOST_GPUS)):
        name = values.get(f"gpu.{number}.name", "GPU")
        capability = values.get(f"gpu.{number}.compute_capability")
        memory = _told(values, f"gpu.{number}.memory")
        about = ", ".join(([f"compute capability {capability}"] if capability else []) + memory)
        text = f"{name} ({about})" if about else str(name)
        kinds[text] = kinds.get(text, 0) + 1
    return "; ".join(f"{number} × {text}" for text, number in kinds.items())


def _memory(values: _Values) -> str:
    limited = values.get("memory.limited") is True
    return ", ".join(
        _told(values, "memory.usable", "{} (a limit of the container or job)" if limited else "{}")
        + _told(values, "memory.usable_free", "{} free")
        + _told(values, "shm.total", "/dev/shm {}")
    )


def _storage(values: _Values) -> str:
    """Free room by file system: folders on one and the same are told together."""
    words = {"models": "model cache", "temporary": "temporary files", "work": "working directory"}
    rooms: dict[tuple[Value, Value], list[str]] = {}
    for key, name in words.items():
        free, total = values.get(f"storage.{key}.free"), values.get(f"storage.{key}.total")
        if free is not None and total is not None:
            rooms.setdefault((shown(f"storage.{key}.free", free), total), []).append(name)
    return "; ".join(f"{free} free for {', '.join(names)}" for (free, _), names in rooms.items())


def _limits(values: _Values) -> str:
    told = _told(values, "limit.nofile", "{} open files")
    told += ["locked memory unlimited"] if values.get("limit.memlock_unlimited") is True else []
    return ", ".join(
        told + _told(values, "limit.memlock", "{} of locked memory") + _told(values, "limit.pids", "{} tasks")
    )


def _system(values: _Values) -> str:
    name = " ".join(_told(values, "os.name") + _told(values, "os.version"))
    container = values.get("container.kind", "none")
    return ", ".join(
        ([name] if name else [])
        + ([f"in a container ({container})"] if container != "none" else [])
        + _told(values, "os.kernel", "kernel {}")
        + _told(values, "glibc.version", "glibc {}")
        + _told(values, "cpu.usable", "{} CPUs")
    )


def _network(values: _Values) -> str:
    told = _told(values, "network.usable") + _told(values, "infiniband.active", "{} active InfiniBand or RoCE ports")
    told = [text for text in told if not text.startswith("0 ")]
    return ", ".join(told + (["hub offline"] if values.get("hub.offline") is True else []))


def _kernel_log(values: _Values) -> str:
    """How many faults the kernel told since the start, of the kinds that matter here."""
    kinds = {
        "kernel.xids": "Xid",
        "kernel.oom_kill.count": "out-of-memory kills",
        "kernel.crash.count": "crashed programs",
        "kernel.pcie_error.count": "PCIe errors",
        "kernel.machine_check.count": "machine checks",
        "kernel.disk_error.count": "disk errors",
    }
    told = [f"{values[name]} {words}" for name, words in kinds.items() if values.get(name)]
    if told:
        return f"{', '.join(told)} since the start"
    return "no faults of GPUs, memory or disks since the start" if "kernel.log" in values else ""


def _interpreter(values: _Values) -> str:
    return ", ".join(
        _told(values, "python.version", "Python {}") + _told(values, "python.kind") + _told(values, "python.path")
    )


def _packages(values: _Values) -> str:
    told = _told(values, "packages.count", "{} distributions")
    unmet = values.get("unmet.count")
    if unmet is not None:
        told.append(f"{unmet} requirements not met" if unmet else "all requirements met")
    return ", ".join(told)


def _cuda_libraries(values: _Values) -> str:
    torch = _told(values, "torch.version", "torch {}")
    torch += _told(values, "torch.cuda", "for CUDA {}") + _told(values, "torch.hip", "for ROCm {}")
    torch += ["for the CPU only"] if values.get("torch.cpu_only") is True else []
    others = _told(values, "cuda.families", "CUDA wheels of {}") + _told(values, "cuda.toolkit", "toolkit {}")
    return ", ".join(([" ".join(torch)] if torch else []) + others)


def _extensions(values: _Values) -> str:
    names = [name.split(".")[1] for name in values if name.startswith("extension.") and name.endswith(".file")]
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _engine(values: _Values) -> str:
    told = [f"{name} {values[f'{name}.version']}" for name in ENGINES if f"{name}.version" in values]
    for name in _told(values, "wanted.name"):
        told += [f"{name} needs transformers {since} or newer" for since in _told(values, "wanted.model_type_since")]
        told = [f"{name}: not there", *told] if values.get("wanted.installed") is False else told
    return ", ".join(told)


def _imports(values: _Values) -> str:
    results = [value for name, value in values.items() if name.startswith("probe.") and name.endswith(".result")]
    results = [result for result in results if result != "absent"]
    good = sum(result == "ok" for result in results)
    return f"{good} of {len(results)} went well" if results else ""


def _model(values: _Values) -> str:
    count = values.get("weights.parameters", values.get("model.parameters"))
    return ", ".join(
        _told(values, "model.name")
        + (_told(values, "model.type") or _told(values, "model.architecture"))
        + ([_parameters(count)] if isinstance(count, int) and count > 0 else [])
        + _told(values, "model.quantization", silent=("none",))
        + _told(values, "model.context", "context of {} tokens")
    )


def _parameters(count: int) -> str:
    """How people say it: 8.2 B parameters."""
    for unit, size in (("T", 10**12), ("B", 10**9), ("M", 10**6)):
        if count >= size:
            return f"{count / size:.3g} {unit} parameters"
    return f"{count} parameters"


def _weights(values: _Values) -> str:
    if values.get("weights.format") == "none":
        return "no weights here"
    return ", ".join(
        _told(values, "weights.format")
        + _told(values, "weights.files", "1 file" if values.get("weights.files") == 1 else "{} files")
        + _told(values, "weights.bytes")
        + _told(values, "weights.dtype")
    )


def _tokenizer(values: _Values) -> str:
    return ", ".join(_told(values, "tokenizer.class") + _told(values, "tokenizer.vocab_size", "{} tokens"))


def _template(values: _Values) -> str:
    source = values.get("template.source")
    if source == "none":
        return "none: for completions, not for chat"
    return ", ".join(
        _told(values, "template.source")
        + _told(values, "template.tool_format", "tool calls as {}", silent=("none", "unknown"))
    )


def _launch(values: _Values) -> str:
    told = _told(values, "launch.program") + _told(values, "deploy.image", "in {}") + _told(values, "launch.model")
    for kind in ("tensor", "pipeline", "data"):
        told += _told(values, f"launch.{kind}_parallel", f"{kind} parallel {{}}", silent=(1,))
    return ", ".join(told + _told(values, "launch.context", "context of {} tokens"))


def _training(values: _Values) -> str:
    told = _told(values, "training.framework") + _told(values, "training.task") + _told(values, "training.method")
    told += _told(values, "training.learning_rate", "learning rate {}") + _told(values, "training.precision")
    batch = values.get("tuning.global_batch")
    told += [f"{batch} sequences per step"] if batch else []
    told += _told(values, "tuning.total_steps", "{} steps")
    return ", ".join(told or _told(values, "training.script", "no settings that are known here in {}"))


def _data(values: _Values) -> str:
    told = _told(values, "data.examples", "{} examples") + _told(values, "data.layout")
    told += _told(values, "data.tokens", "{} tokens") + _told(values, "data.bytes")
    empty = values.get("data.file.0.examples") == 0
    return ", ".join(told or (_told(values, "data.file.0.path", "no examples in {}") if empty else []))


def _nothing(values: _Values) -> str:
    """The area has findings, and no state of its own to sum up."""
    return ""


_SUMMARIES: Mapping[str, Callable[[_Values], str]] = {
    "driver": _driver,
    "GPUs": _gpus,
    "memory": _memory,
    "storage": _storage,
    "limits": _limits,
    "system": _system,
    "network": _network,
    "kernel log": _kernel_log,
    "interpreter": _interpreter,
    "packages": _packages,
    "CUDA libraries": _cuda_libraries,
    "extensions": _extensions,
    "engine": _engine,
    "imports": _imports,
    "model": _model,
    "weights": _weights,
    "tokenizer": _tokenizer,
    "chat template": _template,
    "launch": _launch,
    "training": _training,
    "data": _data,
    "fit": _nothing,
    "run": _nothing,
}
