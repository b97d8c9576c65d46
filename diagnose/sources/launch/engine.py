"""One command that starts an engine → its facts: program, flags, settings, model, what is odd about its words and paths."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence

from diagnose.derive import engines
from diagnose.model import Fact, Reading, Step, Unchecked
from diagnose.sources import jsonfile
from diagnose.sources.launch import arguments, config_files, meant, words
from diagnose.sources.launch.arguments import Given, Stray
from diagnose.sources.launch.programs import Launch
from diagnose.sources.launch.shell import Word
from diagnose.sources.settings import listed, shown

LONGEST = 400
MOST_GIVEN = 300
MODEL_FLAGS = ("model", "model_path", "model_id", "model_dir", "hf_repo", "hf_file")
_POSITIONAL_MODEL = ("vllm serve", "sglang serve", "transformers serve", "vllm api_server", "trtllm-serve", "lmdeploy serve api_server", "ollama run")  # fmt: skip
_PATHS = ("chat_template", "chat_template_file", "ssl_keyfile", "ssl_certfile", "ssl_ca_certs", "tool_parser_plugin",
          "reasoning_parser_plugin", "mmproj", "model_draft", "grammar_file", "json_schema_file", "api_key_file", "ssl_key_file",
          "ssl_cert_file", "lora", "control_vector", "hf_config_path", "download_dir", "quantization_param_path", "speculative_token_map",
          "lora_init_without_apply", "slot_save_path", "models_dir", "models_preset")  # fmt: skip
"""Flags whose value is a file or folder that has to be there."""


def read(launch: Launch, environ: Mapping[str, str], folder: str, origin: str, inside: bool) -> Iterator[Reading]:
    """The facts of a command that starts a known program. `inside`: it runs in a container, with other files than these."""
    table = engines.table(launch.engine) if launch.engine else None
    yield Fact("launch.program", launch.program, origin)
    if launch.engine:
        yield Fact("engine.name", launch.engine, origin)
    yield Fact("launch.contained", inside, origin)
    yield from assigned(launch, origin)
    told = arguments.read(launch.words, table)
    given = list(told.given)
    for reading in _from_files(launch, given, table, folder, origin, inside):
        if isinstance(reading, Given):
            given.insert(0, reading)
        else:
            yield reading
    yield from _given(given, launch, origin)
    if _more(launch, told.others, given):
        yield Fact("launch.more_words", True, origin)
    yield from meant.read(given, launch.program, launch.engine, launch.assigned, origin)
    yield from words.read(launch.words, given, origin)
    yield from _model(launch, given, told.others, origin)
    yield from _adapters(given, folder, origin, inside)
    if not inside:
        yield from _paths(given, folder, origin)
        yield from interpreter(launch, folder, origin)
        yield from _port(given, launch, environ, origin)
    yield from _open(given, launch, environ, origin)


_ONE_WORD = re.compile(r"<.*>|\$\{?\w*(?:MODEL|PATH|CKPT)\w*\}?", re.IGNORECASE | re.ASCII)


def _more(launch: Launch, others: Sequence[Stray], given: Sequence[Given]) -> bool:
    """Whether the shell puts words into the command that are not known here (`$@`, `$EXTRA`): they may hold any flag.

    The word in the place of the model is only the model, as far as its name tells.
    """
    first = others[0].word.text if others and launch.program in _POSITIONAL_MODEL else ""
    rest = others[1:] if _ONE_WORD.fullmatch(first) else others
    return any(not stray.word.known for stray in rest) or any(not one.known and len(one.values) > 1 for one in given)


def assigned(launch: Launch, origin: str) -> Iterator[Reading]:
    """The variables set for the command. Names that nobody here knows are told too, their values are not."""
    for name, word in sorted(launch.assigned.items())[:200]:
        if word.known and re.fullmatch(r"[A-Za-z_]\w{0,100}", name, re.ASCII):
            yield Fact(f"launch.env.{name}", shown(name, word.text) if listed(name) else "set", origin, word.line)


def _from_files(
    launch: Launch, given: Sequence[Given], table: engines.Table | None, folder: str, origin: str, inside: bool
) -> Iterator[Reading | Given]:
    """What the files that the command names add to its flags."""
    if launch.program == "ollama create":
        flag = next((one for one in given if one.name in ("file", "f") and one.values), None)
        yield from config_files.modelfile(flag.value if flag else "Modelfile", folder, table)
        return
    flag = next((one for one in given if one.name == "config" and one.values and one.known), None)
    if flag is None or launch.engine not in config_files.WITH_YAML:
        return
    if flag.attached:
        yield Fact("launch.config_attached", flag.value[:LONGEST], origin, flag.line)
        return
    if inside:
        yield Unchecked("the engine's --config file", f"{flag.value[:LONGEST]} is a file in the container")
        return
    yield from config_files.yaml_words(flag.value, folder, table, origin, flag.line)


def _given(given: Sequence[Given], launch: Launch, origin: str) -> Iterator[Reading]:
    """Each flag as it was written, and `launch.arg.*` by its canonical name: the last of two counts, as for the engines."""
    last: dict[str, Given] = {}
    for number, flag in enumerate(given[:MOST_GIVEN]):
        place = flag.origin or origin
        key = f"launch.given.{number}"
        yield Fact(f"{key}.flag", flag.flag[:80], place, flag.line)
        yield Fact(f"{key}.name", flag.name, place, flag.line)
        if flag.values and flag.known:
            yield Fact(f"{key}.value", told(flag.name, flag.value)[:LONGEST], place, flag.line)
        if flag.attached:
            yield Fact(f"{key}.attached", True, place, flag.line)
        keys = words.json_keys(flag)
        if keys:
            yield Fact(f"{key}.keys", ",".join(keys)[:LONGEST], place, flag.line)
        if not flag.known:
            yield Fact(f"{key}.for_shell", True, place, flag.line)
        if flag.key:
            yield Fact(f"{key}.key", flag.key[:80], place, flag.line)
        elif flag.known:
            last[flag.name] = flag
    for name, flag in last.items():
        yield Fact(f"launch.arg.{name}", told(name, flag.value)[:1000], flag.origin or origin, flag.line)


_SECRET = re.compile(r"(?:^|_)(?:keys?|token|authtoken|password|passphrase|secret|watermark_config)$")
_NO_SECRET = frozenset({"bucket_time_to_first_token"})


def told(name: str, value: str) -> str:
    """A flag's value for a fact: `set` where the flag holds a secret, or the value looks like one."""
    if _SECRET.search(name) and name not in _NO_SECRET and value not in ("", "true", "false"):
        return "set"
    return shown("value", value)


def _model(launch: Launch, given: Sequence[Given], others: Sequence[Stray], origin: str) -> Iterator[Reading]:
    """The model that the command names, and words that nothing takes."""
    flags = [one for one in given if one.name in MODEL_FLAGS[:4] and one.values]
    left = list(others)
    named: Word | None = None
    if launch.program in _POSITIONAL_MODEL and left:
        named = left.pop(0).word
    elif launch.program == "llama_cpp.server":
        left = []
    flag = flags[-1] if flags else next((one for one in given if one.name == "hf_repo" and one.values), None)
    if flag is not None and named is not None and flag.known and named.known:
        yield Fact("launch.model_twice", named.text[:LONGEST], origin, named.line)
        yield Fact("launch.model_flag", flag.value[:LONGEST], flag.origin or origin, flag.line)
    if named is not None or (flag is not None and not flag.origin):
        yield Fact(
            "launch.model_by",
            "word" if named is not None else "flag",
            origin,
            named.line if named else flag.line if flag else 0,
        )
    chosen = named or (Word(flag.values[0], flag.line, known=flag.known) if flag else None)
    if chosen is not None and chosen.known and chosen.text:
        yield Fact("launch.model", chosen.text[:4000], origin, chosen.line)
    variable = {"tgi": "MODEL_ID", "llama.cpp": "LLAMA_ARG_MODEL"}.get(launch.engine, "")
    if chosen is None and variable in launch.assigned:
        word = launch.assigned[variable]
        if word.known:
            yield Fact("launch.model", word.text[:4000], origin, word.line)
    elif chosen is None and _wants_model(launch, given) and not _more(launch, others, given):
        yield Fact("launch.model_missing", True, origin)
        yield from _swallowed(given, origin)
    if launch.program not in ("ollama create", "ollama serve"):
        for number, stray in enumerate(left[:10]):
            if stray.word.known:
                yield Fact(f"launch.stray.{number}.word", shown("word", stray.word.text)[:80], origin, stray.word.line)
                if stray.after:
                    yield Fact(f"launch.stray.{number}.after", stray.after[:80], origin, stray.word.line)


def _wants_model(launch: Launch, given: Sequence[Given]) -> bool:
    """Whether the program starts a model, and does not only tell of itself; no where a file that was not read may name it."""
    telling = any(one.name in ("help", "h", "version", "env", "list_devices") for one in given)
    in_file = any(one.name == "config" and not one.attached for one in given) and not any(one.origin for one in given)
    return (
        not telling
        and not in_file
        and launch.program
        in (
            *_POSITIONAL_MODEL,
            "llama-server",
            "llama-cli",
            "text-generation-launcher",
        )
    )


def _swallowed(given: Sequence[Given], origin: str) -> Iterator[Reading]:
    """A flag that takes any number of words and stands before the model takes the model too."""
    for flag in given:
        if flag.row is not None and flag.row.many in ("+", "*") and len(flag.values) > 1 and not flag.attached:
            last = flag.values[-1]
            if "/" in last and "=" not in last and not last.startswith(("http://", "https://", "{", "[")):
                yield Fact("launch.model_swallowed_by", flag.flag[:80], origin, flag.line)
                yield Fact("launch.model_swallowed", last[:LONGEST], origin, flag.line)
                return


def _adapters(given: Sequence[Given], folder: str, origin: str, inside: bool) -> Iterator[Reading]:
    """LoRA adapters of the command: `name=path`, JSON with both, or a path alone; and the rank of those that lie here."""
    number = 0
    for flag in given:
        if flag.name not in ("lora_modules", "lora_paths", "lora", "lora_adapters") or not flag.known:
            continue
        place = flag.origin or origin
        values = [
            part for item in flag.values for part in (item.split(",") if flag.name == "lora_adapters" else [item])
        ]
        for value in values[:50]:
            name, path = adapter(value)
            key = f"launch.adapter.{number}"
            if name:
                yield Fact(f"{key}.name", name[:LONGEST], place, flag.line)
            if path:
                yield Fact(f"{key}.path", path[:LONGEST], place, flag.line)
                if not inside:
                    look = _adapter_file if flag.name == "lora" else _adapter_files
                    yield from look(key, path, folder, place, flag.line)
                number += 1
        nameless = next((value for value in flag.values if "=" not in value and not value.startswith("{")), "")
        if flag.name == "lora_modules" and nameless:
            yield Fact("launch.adapter_without_name", nameless[:LONGEST], place, flag.line)


def adapter(value: str) -> tuple[str, str]:
    """Name and path of an adapter as vLLM's --lora-modules and SGLang's --lora-paths take it."""
    if not value.startswith("{"):
        name, given, path = value.partition("=")
        return (name, path) if given else ("", value)
    try:
        told = json.loads(value)
    except (ValueError, RecursionError):
        return "", ""
    if not isinstance(told, dict):
        return "", ""
    return str(told.get("name") or told.get("lora_name") or ""), str(told.get("path") or told.get("lora_path") or "")


def _adapter_files(key: str, path: str, folder: str, origin: str, line: int) -> Iterator[Reading]:
    """Whether an adapter's folder is there, and its rank."""
    if not path.startswith(("/", "./", "../", "~/")) and not os.path.isdir(os.path.join(folder, path)):
        return
    yield Step(f"looking at the adapter {path[:LONGEST]}")
    whole = os.path.join(folder, os.path.expanduser(path))
    if there(whole) is False:
        yield Fact(f"{key}.missing", path[:LONGEST], origin, line)
        return
    loaded = jsonfile.load(os.path.join(whole, "adapter_config.json"), 1 << 20)
    rank = loaded.value.get("r") if isinstance(loaded.value, dict) else None
    if isinstance(rank, int) and not isinstance(rank, bool) and 0 < rank < 100_000:
        yield Fact(f"{key}.rank", rank, f"{path[:LONGEST]}/adapter_config.json", loaded.line)


def _adapter_file(key: str, path: str, folder: str, origin: str, line: int) -> Iterator[Reading]:
    """What a GGUF file says that it is: llama.cpp takes an adapter only where general.type says so."""
    from diagnose.sources.checkpoint import gguf

    yield Step(f"looking at the adapter {path[:LONGEST]}")
    header = gguf.read_header(os.path.join(folder, os.path.expanduser(path)))
    if not header.problem:
        yield Fact(f"{key}.kind", header.text("general.type")[:LONGEST] or "not told", path[:LONGEST])


def _paths(given: Sequence[Given], folder: str, origin: str) -> Iterator[Reading]:
    """Files that flags name and that are not there."""
    number = 0
    for flag in given:
        if flag.name not in _PATHS or not flag.values or not flag.known or flag.origin:
            continue
        path = flag.values[0]
        if not looks_like_path(flag.name, path):
            continue
        yield Step(f"looking whether {path[:LONGEST]} is there")
        if there(os.path.join(folder, os.path.expanduser(path))) is False:
            yield Fact(f"launch.path.{number}.flag", flag.flag[:80], origin, flag.line)
            yield Fact(f"launch.path.{number}.missing", path[:LONGEST], origin, flag.line)
            number += 1


def looks_like_path(name: str, text: str) -> bool:
    """Whether a flag's value is meant as a file here: a template may be given in full, and many by a name."""
    if not text or "\n" in text or "{{" in text or "{%" in text or "://" in text or len(text) > 1000:
        return False
    if name in ("download_dir", "slot_save_path"):
        return False  # made if it is not there, or told by the engine in its own way
    if name in ("chat_template", "hf_config_path", "quantization_param_path", "models_preset"):
        return text.startswith(("/", "./", "../", "~/")) or text.endswith((".jinja", ".j2", ".json"))
    return True


def there(path: str) -> bool | None:
    """Whether something is at a path; None if that may not be looked at."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        return None
    return True


def interpreter(launch: Launch, folder: str, origin: str) -> Iterator[Reading]:
    """The Python that the command names by its path, itself or through a program beside it."""
    path = launch.path
    if "/" not in path:
        return
    whole = os.path.normpath(os.path.join(folder, os.path.expanduser(path)))
    name = os.path.basename(whole)
    python = whole if re.match(r"python[\d.]*$", name) else os.path.join(os.path.dirname(whole), "python")
    if launch.engine in ("vllm", "sglang", "transformers", "lmdeploy", "llama-cpp-python", "") and there(python):
        yield Fact("launch.python", python, origin)


def _port(given: Sequence[Given], launch: Launch, environ: Mapping[str, str], origin: str) -> Iterator[Reading]:
    """Whether something listens on the port already, and whether it is one that only root may take."""
    told: dict[str, tuple[int, int]] = {}
    for reading in meant.read(given, launch.program, launch.engine, launch.assigned, origin):
        if isinstance(reading, Fact) and reading.name == "launch.port" and isinstance(reading.value, int):
            told["port"] = (reading.value, reading.line)
    if "port" not in told or any(one.name in ("uds", "headless") for one in given):
        return  # a vLLM without its server listens on no such port
    port, line = told["port"]
    yield Step(f"looking who listens on port {port}")
    from diagnose.sources.network import listening

    taken = listening("/")
    if port in taken:
        yield Fact("launch.port_taken", port, origin, line)
    if 0 < port < _first_free() and os.geteuid() != 0 and "sudo" not in launch.wrappers:
        yield Fact("launch.port_privileged", port, origin, line)


def _first_free() -> int:
    """The first port that everybody may take (Linux: net.ipv4.ip_unprivileged_port_start)."""
    try:
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as file:
            return int(file.read(16))
    except (OSError, ValueError):
        return 1024


def _open(given: Sequence[Given], launch: Launch, environ: Mapping[str, str], origin: str) -> Iterator[Reading]:
    """Whether the server listens on every address and asks for no key."""
    if launch.engine not in ("vllm", "sglang", "llama.cpp", "tgi"):
        return
    names = {one.name for one in given}
    variables = {"vllm": "VLLM_API_KEY", "llama.cpp": "LLAMA_API_KEY", "tgi": "API_KEY"}.get(launch.engine, "")
    has_key = (
        bool(names & {"api_key", "api_key_file", "admin_api_key"})
        or variables in launch.assigned
        or bool(environ.get(variables))
    )
    host = next((one for one in reversed(given) if one.name in ("host", "hostname") and one.known), None)
    if host is not None and host.value in ("0.0.0.0", "::") and not has_key:
        yield Fact("launch.open_without_key", True, host.origin or origin, host.line)
    key = next(
        (
            one
            for one in given
            if one.name in ("api_key", "hf_token", "ssl_keyfile_password") and one.values and not one.origin
        ),
        None,
    )
    if key is not None:
        yield Fact("launch.secret_in_command", key.flag[:80], origin, key.line)
