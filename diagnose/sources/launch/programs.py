"""Words of a command → which program they start, of which engine, with what before it taken off (env, nohup, uv run, bash -c)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from diagnose.sources.launch.shell import Script, Simple, Word, parse


class Launch(Struct, frozen=True):
    """A command that starts a program that is known here.

    `program` is it as people say it (`vllm serve`), `engine` the name that facts have (`vllm`, `llama.cpp`; empty for a
    program that is no engine), `words` its arguments, `assigned` the variables set for it, `wrappers` what stood before it,
    `path` the program or interpreter as it was written.
    """

    program: str
    engine: str
    words: tuple[Word, ...]
    assigned: dict[str, Word] = {}
    wrappers: tuple[str, ...] = ()
    path: str = ""


MODULES: dict[str, tuple[str, str]] = {
    "vllm.entrypoints.openai.api_server": ("vllm api_server", "vllm"),
    "vllm.entrypoints.api_server": ("vllm demo server", "vllm"),
    "vllm.entrypoints.cli.main": ("vllm", "vllm"),
    "vllm": ("vllm", "vllm"),
    "sglang.launch_server": ("sglang serve", "sglang"),
    "sglang.bench_serving": ("sglang bench", "sglang"),
    "sglang_router.launch_server": ("sglang router", "sglang"),
    "llama_cpp.server": ("llama_cpp.server", "llama-cpp-python"),
    "transformers.cli.transformers": ("transformers", "transformers"),
    "lmdeploy": ("lmdeploy", "lmdeploy"),
    "mlx_lm.server": ("mlx_lm.server", "mlx-lm"),
    "mlx_lm": ("mlx_lm", "mlx-lm"),
    "torch.distributed.run": ("torchrun", ""),
    "torch.distributed.launch": ("torch.distributed.launch", ""),
    "accelerate.commands.launch": ("accelerate launch", ""),
    "accelerate": ("accelerate", ""),
    "deepspeed.launcher.runner": ("deepspeed", ""),
}
"""What `python -m MODULE` starts."""

PROGRAMS: dict[str, tuple[str, str]] = {
    "vllm": ("vllm", "vllm"),
    "sglang": ("sglang", "sglang"),
    "text-generation-launcher": ("text-generation-launcher", "tgi"),
    "llama-server": ("llama-server", "llama.cpp"),
    "llama-cli": ("llama-cli", "llama.cpp"),
    "llama": ("llama", "llama.cpp"),
    "ollama": ("ollama", "ollama"),
    "transformers": ("transformers", "transformers"),
    "transformers-cli": ("transformers", "transformers"),
    "lmdeploy": ("lmdeploy", "lmdeploy"),
    "trtllm-serve": ("trtllm-serve", "tensorrt-llm"),
    "mlx_lm.server": ("mlx_lm.server", "mlx-lm"),
    "torchrun": ("torchrun", ""),
    "accelerate": ("accelerate", ""),
    "deepspeed": ("deepspeed", ""),
    "docker": ("docker", ""),
    "podman": ("podman", ""),
    "nerdctl": ("nerdctl", ""),
    "docker-compose": ("docker-compose", ""),
    "kubectl": ("kubectl", ""),
}
"""What a program's name starts."""

SUBCOMMANDS: dict[str, frozenset[str]] = {
    "vllm": frozenset({"serve", "chat", "complete", "bench", "run-batch", "collect-env", "launch"}),
    "sglang": frozenset({"serve", "generate", "version"}),
    "transformers": frozenset({"serve", "chat", "env", "download", "run", "version", "add-new-model-like"}),
    "lmdeploy": frozenset({"serve", "lite", "convert", "chat", "check_env"}),
    "ollama": frozenset({"serve", "create", "run", "pull", "push", "show", "list", "ps", "cp", "rm", "stop"}),
    "accelerate": frozenset({"launch", "config", "env", "test", "estimate-memory", "merge-weights", "tpu-config"}),
    "llama": frozenset({"serve", "cli", "server"}),
    "mlx_lm": frozenset({"server", "generate", "chat"}),
}
"""Programs whose first word is a subcommand."""

_ALIASES = {"llama serve": "llama-server", "llama server": "llama-server", "llama cli": "llama-cli", "mlx_lm server": "mlx_lm.server"}  # fmt: skip

_PYTHON = re.compile(r"(?:python|pypy)(?:\d+(?:\.\d+)*)?(?:\.exe)?|py(?:\.exe)?")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.ASCII | re.DOTALL)

_VALUED: dict[str, frozenset[str]] = {
    "env": frozenset({"-u", "--unset", "-C", "--chdir", "-S", "--split-string"}),
    "nohup": frozenset(),
    "exec": frozenset({"-a"}),
    "command": frozenset(),
    "time": frozenset({"-f", "--format", "-o", "--output"}),
    "sudo": frozenset({"-u", "--user", "-g", "--group", "-h", "--host", "-p", "--prompt", "-D", "--chdir", "-C"}),
    "nice": frozenset({"-n", "--adjustment"}),
    "ionice": frozenset({"-c", "--class", "-n", "--classdata"}),
    "chrt": frozenset(),
    "setsid": frozenset(),
    "stdbuf": frozenset({"-i", "-o", "-e"}),
    "unbuffer": frozenset(),
    "catchsegv": frozenset(),
    "numactl": frozenset({"-N", "-m", "-i", "-C", "-p"}),
    "tini": frozenset(),
    "dumb-init": frozenset(),
    "xvfb-run": frozenset(),
}
"""What may stand before a program, and those of its options that take the next word."""

_RUNNERS: dict[tuple[str, ...], frozenset[str]] = {
    ("uv", "run"): frozenset(
        {"--with", "--extra", "--group", "--python", "-p", "--env-file", "--project", "--directory", "--index", "--index-url",
         "--extra-index-url", "--with-editable", "--with-requirements", "--package", "--no-group", "--only-group", "--refresh-package",
         "--index-strategy", "--prerelease", "--torch-backend", "-C", "--cache-dir", "--color", "--default-index", "-i", "-f", "--find-links"}
    ),
    ("uvx",): frozenset({"--from", "--with", "--python", "-p", "--index", "--index-url", "--extra-index-url", "--torch-backend", "--prerelease", "--index-strategy"}),
    ("uv", "tool", "run"): frozenset({"--from", "--with", "--python", "-p", "--index", "--torch-backend"}),
    ("pipx", "run"): frozenset({"--spec", "--python", "--pip-args", "--index-url"}),
    ("poetry", "run"): frozenset(),
    ("pdm", "run"): frozenset(),
    ("hatch", "run"): frozenset(),
    ("pixi", "run"): frozenset({"-e", "--environment", "--manifest-path"}),
    ("conda", "run"): frozenset({"-n", "--name", "-p", "--prefix", "--cwd"}),
    ("mamba", "run"): frozenset({"-n", "--name", "-p", "--prefix", "--cwd"}),
    ("micromamba", "run"): frozenset({"-n", "--name", "-p", "--prefix", "--cwd"}),
    ("srun",): frozenset(
        {"-N", "-n", "-c", "-p", "-w", "-x", "-J", "-t", "-G", "-A", "-q", "-o", "-e", "-i", "-D", "-d", "-C", "-B", "-L", "-M", "-m", "-r",
         "-S", "-T", "-W", "-a", "-b", "-g", "--nodes", "--ntasks", "--partition", "--ntasks-per-node", "--ntasks-per-socket",
         "--ntasks-per-core", "--ntasks-per-gpu", "--gpus", "--gpus-per-node", "--gpus-per-task", "--gpus-per-socket", "--gres",
         "--cpus-per-task", "--cpus-per-gpu", "--cpu-bind", "--gpu-bind", "--mem-bind", "--mem", "--mem-per-cpu", "--mem-per-gpu", "--time",
         "--account", "--qos", "--job-name", "--jobid", "--nodelist", "--exclude", "--output", "--error", "--input", "--export", "--chdir",
         "--container-image", "--container-mounts", "--container-workdir", "--container-name", "--mpi", "--distribution", "--constraint",
         "--dependency", "--reservation", "--relative", "--threads", "--wait", "--network", "--comment", "--hint", "--het-group",
         "--licenses", "--clusters", "--begin", "--deadline", "--signal", "--switches", "--tmp", "--task-prolog", "--task-epilog",
         "--prolog", "--epilog", "--threads-per-core", "--cores-per-socket", "--sockets-per-node", "--cpu-freq", "--profile",
         "--tres-per-task", "--tres-bind", "--bcast", "--accel-bind", "--acctg-freq", "--priority", "--uid", "--gid", "--kill-after"}
    ),
    ("nsys", "profile"): frozenset({"-o", "-t", "-s", "-w", "-f", "--output", "--trace", "-c", "-d", "-y"}),
}  # fmt: skip

MOST_DEEP = 8


def launches(script: Script, environ: Mapping[str, str]) -> list[Launch]:
    """The commands of a text that start a program known here, in order, with the variables exported before them."""
    found: list[Launch] = []
    known: dict[str, Word] = {}
    for command in script.commands:
        known.update(exported(command))
        launch = resolve(command.words, {**known, **dict(command.assigned)}, environ)
        if launch is not None:
            found.append(launch)
    return found


def exported(command: Simple) -> Iterator[tuple[str, Word]]:
    """The variables that `export NAME=value` sets for all that follows."""
    if command.words and command.words[0].text in ("export", "declare", "setenv"):
        for word in command.words[1:]:
            told = _ASSIGNMENT.fullmatch(word.text)
            if told:
                yield told[1], Word(told[2], word.line, word.column, word.known, word.quoted)


def unwrapped(words: Sequence[Word], assigned: dict[str, Word]) -> list[Word]:
    """Words without `env`, `nohup`, `uv run` and the like before them; what `env` sets is added to `assigned`."""
    rest = list(words)
    for _ in range(16):
        taken = _wrapper(rest, assigned) if rest else None
        if taken is None:
            break
        rest = rest[taken:]
    return rest


def resolve(
    words: Sequence[Word], assigned: Mapping[str, Word], environ: Mapping[str, str] | None = None, deep: int = 0
) -> Launch | None:
    """The program that words start, or None for one that is not known here."""
    assigned, rest = dict(assigned), list(words)
    wrappers: list[str] = []
    while rest and len(wrappers) < 16:
        taken = _wrapper(rest, assigned)
        if taken is None:
            break
        wrappers.append(base(rest[0].text))
        rest = rest[taken:]
    if not rest:
        return None
    name = base(rest[0].text)
    if name in ("bash", "sh", "zsh", "dash") and deep < MOST_DEEP:
        return _shell(rest, assigned, environ or {}, deep)
    found = _module(rest) if _PYTHON.fullmatch(name) else _program(name, rest)
    if found is None:
        return None
    program, engine, arguments = found
    return Launch(program, engine, tuple(arguments), assigned, tuple(wrappers), rest[0].text)


def base(text: str) -> str:
    """The name of a program without its folder and `.exe`."""
    return re.split(r"[/\\]", text.rstrip("/"))[-1].removesuffix(".exe")


def _wrapper(words: list[Word], assigned: dict[str, Word]) -> int | None:
    """How many words a wrapper such as `env A=1` or `uv run` takes before its command; None if there is none."""
    name = base(words[0].text)
    if name == "timeout":
        options = _options(words, 1, frozenset({"-s", "--signal", "-k", "--kill-after"}))
        return options + 1
    if name in ("taskset", "chrt"):
        return _options(words, 1, frozenset({"-c", "--cpu-list"} if name == "taskset" else ())) + (
            0 if any(word.text in ("-c", "--cpu-list") for word in words[1:3]) else 1
        )
    if name in _VALUED:
        at = _options(words, 1, _VALUED[name])
        while at < len(words) and (told := _ASSIGNMENT.fullmatch(words[at].text)) and name in ("env", "sudo"):
            assigned[told[1]] = Word(told[2], words[at].line, words[at].column, words[at].known, words[at].quoted)
            at += 1
        return at
    texts = tuple(word.text for word in words[:3])
    for runner, valued in _RUNNERS.items():
        if (name, *texts[1 : len(runner)]) == runner:
            return _options(words, len(runner), valued)
    return None


def _options(words: list[Word], at: int, valued: frozenset[str]) -> int:
    """The place behind options; `--` ends them."""
    while at < len(words) and words[at].text.startswith("-"):
        text = words[at].text
        at += 1
        if text == "--":
            break
        if text in valued:
            at += 1
    return at


def _shell(words: list[Word], assigned: dict[str, Word], environ: Mapping[str, str], deep: int) -> Launch | None:
    """`bash -c "…"` and `bash -lc "…"`: the command in the text."""
    for index, word in enumerate(words[1:], start=1):
        if re.fullmatch(r"-[a-z]*c[a-z]*", word.text) and index + 1 < len(words):
            known = {**environ, **{name: value.text for name, value in assigned.items() if value.known}}
            for launch in launches(parse(words[index + 1].text, known), known):
                return Launch(
                    launch.program, launch.engine, launch.words, {**assigned, **launch.assigned}, ("bash",), launch.path
                )
        if not word.text.startswith("-"):
            return None
    return None


def _module(words: list[Word]) -> tuple[str, str, list[Word]] | None:
    """`python [-u …] -m MODULE …`, or a script by the name of a program (`python /usr/bin/vllm serve`)."""
    at = 1
    while at < len(words) and words[at].text.startswith("-"):
        text = words[at].text
        if text == "-m" or (text.startswith("-m") and len(text) > 2):
            name = text[2:] or (words[at + 1].text if at + 1 < len(words) else "")
            rest = words[at + (1 if text[2:] else 2) :]
            return _with_subcommand(MODULES[name], rest) if name in MODULES else None
        at += 2 if text in ("-W", "-X", "-Q") else 1
        if text == "-c":
            return None
    return _program(base(words[at].text), words[at:]) if at < len(words) else None


def _program(name: str, words: list[Word]) -> tuple[str, str, list[Word]] | None:
    if name in PROGRAMS:
        return _with_subcommand(PROGRAMS[name], words[1:])
    if re.fullmatch(r"(?:srt|sglang)[/_.]?launch_server\.py|launch_server\.py", name):
        return ("sglang serve", "sglang", words[1:])
    return None


def _with_subcommand(told: tuple[str, str], words: list[Word]) -> tuple[str, str, list[Word]]:
    program, engine = told
    listed = SUBCOMMANDS.get(program)
    if listed is None or not words or words[0].text not in listed:
        return program, engine, words
    program, words = f"{program} {words[0].text}", words[1:]
    nested = {"vllm bench": ("serve", "throughput", "latency", "sweep", "startup", "mm-processor"), "lmdeploy serve": ("api_server", "gradio", "api_client", "proxy")}  # fmt: skip
    if program in nested and words and words[0].text in nested[program]:
        program, words = f"{program} {words[0].text}", words[1:]
    return _ALIASES.get(program, program), engine, words
