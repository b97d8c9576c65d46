"""What `--for` names → facts: a package of the environment, a program on the path, or a model type of the tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from shutil import which

from diagnose.derive import compat
from diagnose.model import Fact, Reading, Unchecked
from diagnose.sources.banner import KNOWN_PACKAGES, canonical

PROGRAMS: Mapping[str, tuple[str, ...]] = {
    "llama-cpp": ("llama-server", "llama-cli", "llama-cpp-python"),
    "ollama": ("ollama",),
}
"""What `--for` may name that is a program on the path rather than a Python package (or may be either)."""
LOADERS = ("transformers", "vllm", "sglang", "lmdeploy", "tensorrt-llm", "mlx-lm", "llama-server", "llama-cli", "llama-cpp-python", "ollama")  # fmt: skip
"""What loads models of one type or another, as a package or a program."""
ALIASES: Mapping[str, str] = {
    "llama-server": "llama-cpp",
    "llamacpp": "llama-cpp",
    "pytorch": "torch",
    "llama-factory": "llamafactory",
}


def read(text: str, environ: Mapping[str, str], facts: Mapping[str, Fact]) -> Iterator[Reading]:
    """What is known of the thing that `text` names. `facts` are those of the environment, by name."""
    name = wanted_name(text)
    kind, installed = wanted_kind(name), f"{name}.version" in facts
    if not kind and not installed:
        yield Unchecked(f"--for {text}", _unknown(name))
        return
    yield Fact("wanted.name", name, "--for")
    yield Fact("wanted.kind", kind or "package", "--for")
    if kind == "program":
        installed = _is_there(PROGRAMS[name], environ, facts)
    if kind != "model-type" and "packages.count" in facts and not _is_left_over(name, facts):
        yield Fact("wanted.installed", installed, "--for")
        yield Fact("wanted.torch", "torch.version" in facts, "--for")
    if kind == "model-type" and "packages.count" in facts:
        yield Fact("wanted.loader", _is_there(LOADERS, environ, facts), "--for")


def _is_there(names: Iterable[str], environ: Mapping[str, str], facts: Mapping[str, Fact]) -> bool:
    """Whether one of these is a package of the environment or a program on the path."""
    return any(f"{name}.version" in facts or which(name, path=environ.get("PATH")) for name in names)


def _is_left_over(name: str, facts: Mapping[str, Fact]) -> bool:
    """Whether a removal of the package that broke off is told already, which says more than that it is not there."""
    return any(
        fact.value == name and facts.get(f"{key}_gone") is not None and facts[f"{key}_gone"].value is True
        for key, fact in facts.items()
        if key.startswith("leftover.") and key.endswith(".package")
    )


def wanted_name(text: str) -> str:
    """What `--for` names as it is looked up: a model type as its config.json writes it, else a distribution's name.

    An extra or a version that stands behind a name (`trl[vllm]`, `vllm==0.12`) is left out.
    """
    name = re.sub(r"\s*(?:\[|[=<>!~]=|[<>]).*", "", text.strip().lower(), flags=re.DOTALL)
    if name in compat.model_types() or canonical(name) in KNOWN_PACKAGES or canonical(name) in ALIASES:
        return name if name in compat.model_types() else ALIASES.get(canonical(name), canonical(name))
    return next(
        (known for known in sorted(compat.model_types(), reverse=True) if canonical(known) == canonical(name)),
        canonical(name),
    )


def wanted_kind(name: str) -> str:
    """Whether a name is a program, a model type of the tables or a package of this field; empty for any other."""
    if name in PROGRAMS:
        return "program"
    if name in compat.model_types():
        return "model-type"
    return "package" if name in KNOWN_PACKAGES else ""


def _unknown(name: str) -> str:
    from difflib import get_close_matches

    known = [*PROGRAMS, *KNOWN_PACKAGES, *compat.model_types()]
    close = get_close_matches(name, known, 1, 0.76)
    hint = f"; did you mean {close[0]}?" if close else "; for a model name the model_type of its config.json"
    return f"it is no package of this environment, and no engine, library or model type that is known{hint}"
