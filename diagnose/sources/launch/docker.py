"""`docker run …` (podman, nerdctl) and `apptainer exec …` → what the container is given, and the command inside it."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator, Mapping, Sequence

from diagnose.model import Fact, Reading, Unchecked
from diagnose.sources.jsonfile import Loaded, load, read_bytes
from diagnose.sources.launch import images
from diagnose.sources.launch.docker_call import SANDBOXES, Call, Option, taken_apart
from diagnose.sources.launch.inside import MOST_SIZE, Inside, Mount, host_path, mount_facts, user_facts, whole
from diagnose.sources.launch.shell import Word, parse
from diagnose.sources.settings import words as names

MOST_PORT = 65535
DEFAULT_SHM = 64 << 20
"""What Docker, Podman, containerd and Kubernetes give /dev/shm unless told otherwise."""
DEVICE_FILES = ("/dev/kfd", "/dev/dri", "/dev/davinci", "/dev/accel", "/dev/nvidia", "/dev/neuron", "/dev/vfio")
"""Devices of accelerators that a container can be given one by one."""
MOST_ENV_BYTES = 256 << 10
LONGEST = 400

_LATE = names(
    """
    gpus ipc shm-size volume publish runtime network net rm detach env-file ulimit privileged entrypoint restart mount
    cap-add security-opt group-add cpuset-cpus memory-swap
    """
)
"""Options of `docker run` that no engine has: behind the image they reach the engine, which does not know them."""


# --- what a container command says


def read(
    words: Sequence[Word], environ: Mapping[str, str], folder: str, origin: str = "command line"
) -> Generator[Reading, None, Inside | None]:
    """`deploy.*` of a container command, and the command inside. None if the words start no container."""
    call = taken_apart(words)
    if call is None:
        return None
    if call.program in SANDBOXES:
        return (yield from _read_sandbox(call, environ, folder, origin))
    line = words[0].line
    yield Fact("deploy.kind", "docker", origin, line)
    yield Fact("deploy.program", call.program, origin, line)
    if call.image is None:
        yield Unchecked("launch command", f"no image is named after `{call.program} run`")
        return None
    image = images.read(call.image.text)
    yield from image_facts(image, call.image.text, origin, call.image.line)
    yield from _resources(call, origin, line, call.program == "docker" and default_is_nvidia())
    yield from _ports(call, origin)
    given = _environment(call, environ, folder)
    user = call.last("user")
    if user is not None:
        yield from user_facts(user.value, {name: word.text for name, word in given}, origin, user.word.line)
    mounts = _mounts(call, environ, folder)
    yield from mount_facts(mounts, origin)
    yield from _environment_files(call, folder, origin)
    late = late_option(call.rest, image)
    if late is not None:
        yield Fact("deploy.late_option", late.text[:LONGEST], origin, late.line)
    entrypoint = call.last("entrypoint")
    command = command_inside(image, split(entrypoint.value) if entrypoint else None, call.rest)
    yield from twice(image, entrypoint is not None, call.rest, origin)
    return Inside(
        command,
        given,
        image.engine,
        image.version,
        tuple(mounts),
        origin,
        line,
        work=(workdir.value if (workdir := call.last("workdir")) else ""),
    )


def split(text: str) -> tuple[Word, ...]:
    """A text that the container system itself splits into words."""
    script = parse(text)
    return script.commands[0].words if script.commands else ()


def image_facts(image: images.Image, reference: str, origin: str, line: int) -> Iterator[Reading]:
    """`deploy.image*`: what the image's name tells."""
    yield Fact("deploy.image", reference[:LONGEST], origin, line)
    yield Fact("deploy.image_floating", not image.digest and image.tag in ("", "latest"), origin, line)
    if image.engine:
        yield Fact("deploy.image_engine", image.engine, origin, line)
    if image.accelerator:
        yield Fact("deploy.image_for", image.accelerator, origin, line)


def command_inside(image: images.Image, entrypoint: Sequence[Word] | None, rest: Sequence[Word]) -> tuple[Word, ...]:
    """The command that runs: the entrypoint (the image's, where none is given) and what stands behind the image."""
    if entrypoint is not None:
        return (*entrypoint, *rest)
    line = rest[0].line if rest else 0
    before = tuple(Word(text, line) for text in image.entrypoint)
    after = tuple(rest) or tuple(Word(text) for text in image.command)
    return _once(before, after)


def _once(before: tuple[Word, ...], after: tuple[Word, ...]) -> tuple[Word, ...]:
    """Entrypoint and command as one; a command that names the program again is read as it was meant."""
    if before and _names_program(after):
        return after
    return (*before, *after)


_AGAIN = re.compile(r"(?:.*/)?(?:vllm|python\d?(?:\.\d+)?|text-generation-launcher|llama-server|ollama|bash|sh)")


def _names_program(words: Sequence[Word]) -> bool:
    return bool(words) and _AGAIN.fullmatch(words[0].text) is not None


def twice(image: images.Image, replaced: bool, rest: Sequence[Word], origin: str) -> Iterator[Reading]:
    """`deploy.program_twice`: the command names a program though the image's entrypoint already starts one."""
    if (
        image.entrypoint
        and image.engine in ("vllm", "tgi", "llama.cpp", "ollama")
        and not replaced
        and _names_program(rest)
    ):
        yield Fact("deploy.program_twice", " ".join(word.text for word in rest[:2])[:LONGEST], origin, rest[0].line)
        yield Fact("deploy.entrypoint", " ".join(image.entrypoint), origin, rest[0].line)


def late_option(rest: Sequence[Word], image: images.Image) -> Word | None:
    """The first option of the container program that stands behind the image, where it goes to the engine."""
    if not image.engine:
        return None
    for number, word in enumerate(rest):
        name = word.text.partition("=")[0]
        following = rest[number + 1].text if number + 1 < len(rest) else ""
        if name.startswith("--") and name[2:] in _LATE:
            return word
        if name == "-v" and re.match(r"[/~.$]?[^:]*:/", following):
            return word
        if name == "-p" and re.fullmatch(r"(?:[\d.]+:)?\d+:\d+(?:/\w+)?", following):
            return word
        if name == "-e" and re.match(r"[A-Z][A-Z0-9_]*=", following):
            return word
    return None


# --- memory, GPUs, network


_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([bkmgtpBKMGTP]?)(?:i?[bB])?")


def docker_size(text: str) -> int | None:
    """A size as Docker reads it: 16g, 16gb, 16GiB, 512m, bytes without a unit; all are powers of 1024."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        return None
    size = int(float(found[1]) * 1024 ** "bkmgtp".index((found[2] or "b").lower()))
    return size if size <= MOST_SIZE else None


def _resources(call: Call, origin: str, line: int, by_default: bool) -> Iterator[Reading]:
    ipc = call.last("ipc")
    yield Fact("deploy.ipc", ipc.value if ipc else "private", origin, ipc.word.line if ipc else line)
    yield from shm_facts(call.last("shm-size"), ipc.value if ipc else "", call, origin, line)
    memory = call.last("memory")
    size = docker_size(memory.value) if memory else None
    if memory and size:
        yield Fact("deploy.memory", size, origin, memory.word.line)
    yield from _gpus(call, origin, line, by_default)
    for limit in call.all("ulimit"):
        name, _, value = limit.value.partition("=")
        if name in ("memlock", "stack", "nofile") and value:
            yield Fact(f"deploy.ulimit.{name}", value.partition(":")[0], origin, limit.word.line)
    network = call.last("network", "net")
    yield Fact("deploy.network", network.value if network else "bridge", origin, network.word.line if network else line)


def shm_facts(asked: Option | None, ipc: str, call: Call | None, origin: str, line: int) -> Iterator[Reading]:
    """`deploy.shm`: what /dev/shm holds, where the command decides it; the host's own is for the host's source to tell."""
    yield Fact("deploy.shm_given", asked is not None or ipc.startswith(("host", "container:", "ns:")), origin, line)
    mounted = call is not None and any(
        re.search(r":/dev/shm(?::|$)|(?:dst|target|destination)=/dev/shm(?:,|$)|^/dev/shm", option.value)
        for option in call.all("volume", "mount", "tmpfs")
    )
    if ipc.startswith(("host", "container:", "ns:")) or mounted:
        return
    size = docker_size(asked.value) if asked else DEFAULT_SHM
    if size:
        yield Fact("deploy.shm", size, origin, asked.word.line if asked else line)


def _gpus(call: Call, origin: str, line: int, by_default: bool) -> Iterator[Reading]:
    """`deploy.gpu_access` and `deploy.gpus`: which GPUs the container is given, and how many if it is told."""
    asked = call.last("gpus")
    devices = call.all("device")
    if asked is not None:
        yield from gpus_asked(asked.value, origin, asked.word.line)
        return
    cdi = [option for option in devices if option.value.startswith("nvidia.com/gpu=")]
    if cdi:
        names = [option.value.partition("=")[2] for option in cdi]
        yield Fact("deploy.gpu_access", "all" if "all" in names else "devices", origin, cdi[0].word.line)
        if "all" not in names:
            yield Fact("deploy.gpus", len(set(names)), origin, cdi[0].word.line)
        return
    kfd = next(
        (option for option in devices if option.value.startswith(DEVICE_FILES)),
        None,
    )
    runtime = call.last("runtime")
    given = next(
        (
            option.value.partition("=")[2]
            for option in call.all("env")
            if option.value.startswith("NVIDIA_VISIBLE_DEVICES=")
        ),
        "",
    )
    of_gaudi = runtime is not None and "habana" in runtime.value
    if kfd is not None or of_gaudi or call.last("privileged") is not None:
        yield Fact("deploy.gpu_access", "devices-by-hand", origin, (kfd.word.line if kfd else line))
    elif runtime is not None and "nvidia" in runtime.value:
        yield from by_variable(given or "all", origin, runtime.word.line)
    else:
        yield Fact("deploy.gpu_access", without_asking(given, by_default), origin, line)


def without_asking(visible: str, by_default: bool) -> str:
    """What a container gets that asks for no GPU: those of the image's variable, where NVIDIA's runtime is the default one."""
    if by_default and visible not in ("void", "none"):
        return "by-default-runtime"
    return "none"


def default_is_nvidia(path: str = "/etc/docker/daemon.json") -> bool:
    """Whether Docker's configuration makes NVIDIA's runtime the default one, so that images get GPUs without `--gpus`."""
    value = load(path, 1 << 20).value
    return isinstance(value, dict) and "nvidia" in str(value.get("default-runtime", ""))


def by_variable(given: str, origin: str, line: int) -> Iterator[Reading]:
    """NVIDIA_VISIBLE_DEVICES with NVIDIA's runtime."""
    if given in ("void", "none", ""):
        yield Fact("deploy.gpu_access", "none", origin, line)
    elif given == "all":
        yield Fact("deploy.gpu_access", "all", origin, line)
    else:
        yield Fact("deploy.gpu_access", "devices", origin, line)
        yield Fact("deploy.gpus", len({item for item in given.split(",") if item.strip()}), origin, line)


def gpus_asked(value: str, origin: str, line: int) -> Iterator[Reading]:
    """What `--gpus` asks for. Docker reads the value as one line of CSV, so that a list of devices needs quotes inside it."""
    import csv

    yield Fact("deploy.gpus_asked", value[:LONGEST], origin, line)
    try:
        fields = next(csv.reader([value]), [])
    except (csv.Error, StopIteration):
        fields = []
    count, devices = "", [""][:0]
    for field in fields:
        key, given, text = field.partition("=")
        if not given:
            count = key.strip()
        elif key.strip() == "count":
            count = text.strip()
        elif key.strip() == "device":
            devices = [item.strip() for item in text.split(",") if item.strip()]
    if count and devices:
        yield Fact("deploy.gpus_list_unquoted", True, origin, line)
        return
    if devices:
        yield Fact("deploy.gpu_access", "all" if devices == ["all"] else "devices", origin, line)
        if devices != ["all"]:
            yield Fact("deploy.gpus", len(set(devices)), origin, line)
    elif count in ("all", "-1"):
        yield Fact("deploy.gpu_access", "all", origin, line)
    elif (number := whole(count)) is not None:
        yield Fact("deploy.gpu_access", "count" if number else "none", origin, line)
        yield Fact("deploy.gpus", number, origin, line)


def _ports(call: Call, origin: str) -> Iterator[Reading]:
    """`deploy.port.*`: each published port, by its number on the host."""
    for number, option in enumerate(call.all("publish")[:32]):
        found = published(option.value)
        if found is not None:
            yield Fact(f"deploy.port.{number}.inside", found[1], origin, option.word.line)
            if found[0]:
                yield Fact(f"deploy.port.{number}.outside", found[0], origin, option.word.line)
    if call.last("publish-all", "P") is not None:
        yield Fact("deploy.ports_all", True, origin, 0)


def published(text: str) -> tuple[int, int] | None:
    """A published port as (port of the host, port inside); 0 for a port that the container system chooses."""
    body, _, protocol = text.partition("/")
    parts = body.rsplit(":", 2)
    inside = parts[-1]
    outside = parts[-2] if len(parts) > 1 else ""
    port = whole(inside)
    if port is None or port > MOST_PORT or (protocol and protocol != "tcp"):
        return None
    return whole(outside) or 0, port


# --- mounts and variables


def _mounts(call: Call, environ: Mapping[str, str], folder: str) -> list[Mount]:
    found = []
    for option in call.options:
        if option.name == "volume":
            mount = volume(option.value, environ, folder, option.word.line)
        elif option.name == "mount":
            mount = _long_mount(option.value, environ, folder, option.word.line)
        elif option.name == "tmpfs":
            mount = Mount("", option.value.partition(":")[0], option.word.line)
        else:
            continue
        if mount is not None:
            found.append(mount)
    return found


def volume(text: str, environ: Mapping[str, str], folder: str, line: int, made: bool = True) -> Mount | None:
    """The short form `source:target[:options]`. A source without a slash is a named volume, a text alone an anonymous one."""
    parts = text.split(":")
    if len(parts) < 2:
        return Mount("", text, line) if text.startswith("/") else None
    source, target, options = parts[0], parts[1], parts[2].split(",") if len(parts) > 2 else []
    if not target.startswith("/") or "$" in source or "`" in source:
        return Mount("", target, line) if target.startswith("/") else None
    named = not source.startswith(("/", "./", "../", "~", "."))
    return Mount("" if named else host_path(source, folder, environ), target, line, made, "ro" in options)


def _long_mount(text: str, environ: Mapping[str, str], folder: str, line: int) -> Mount | None:
    """`type=bind,source=…,target=…`: here a source that is not there is an error."""
    parts = dict(item.partition("=")[::2] for item in text.split(","))
    target = parts.get("target") or parts.get("dst") or parts.get("destination") or ""
    source = parts.get("source") or parts.get("src") or ""
    if not target:
        return None
    bind = parts.get("type", "volume") == "bind" and "$" not in source and "`" not in source  # known to the shell only
    read_only = any(name in parts for name in ("readonly", "ro"))
    return Mount(host_path(source, folder, environ) if bind else "", target, line, False, read_only)


def _environment(call: Call, environ: Mapping[str, str], folder: str) -> tuple[tuple[str, Word], ...]:
    """Variables given with -e and --env-file. `-e NAME` alone hands on the one of this shell."""
    found: dict[str, Word] = {}
    for option in call.all("env-file"):
        for name, value, line in env_file(os.path.join(folder, option.value))[0]:
            found[name] = Word(value, line)
    for option in call.all("env"):
        name, given, value = option.value.partition("=")
        if given:
            found[name] = Word(value, option.word.line, option.word.column, option.word.known)
        elif name in environ:
            found[name] = Word(environ[name], option.word.line)
    return tuple(found.items())


def _environment_files(call: Call, folder: str, origin: str) -> Iterator[Reading]:
    for option in call.all("env-file"):
        problem = env_file(os.path.join(folder, option.value))[1]
        if problem == "missing":
            yield Fact("deploy.env_file_missing", option.value[:LONGEST], origin, option.word.line)
        elif problem:
            yield Unchecked(f"variables in {option.value[:LONGEST]}", problem)


def env_file(path: str) -> tuple[list[tuple[str, str, int]], str]:
    """`NAME=value` lines of a file, and why it cannot be read (`missing` if it is not there)."""
    data = read_bytes(path, MOST_ENV_BYTES)
    if isinstance(data, Loaded):
        return [], "missing" if data.missing else data.error
    found = []
    for number, text in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        name, given, value = text.strip().removeprefix("export ").partition("=")
        if given and re.fullmatch(r"[A-Za-z_]\w*", name.strip(), re.ASCII):
            found.append((name.strip(), value, number))
    return found, ""


# --- Apptainer


def _read_sandbox(
    call: Call, environ: Mapping[str, str], folder: str, origin: str
) -> Generator[Reading, None, Inside | None]:
    """Apptainer: the host's home, /tmp and working folder are seen as they are, and /dev/shm is the host's."""
    line = call.image.line if call.image else 0
    yield Fact("deploy.kind", "apptainer", origin, line)
    yield Fact("deploy.program", call.program, origin, line)
    if call.image is None:
        yield Unchecked("launch command", f"no image is named after `{call.program}`")
        return None
    image = images.read(call.image.text) if call.image.text.startswith("docker://") else images.Image(call.image.text)
    yield from image_facts(image, call.image.text, origin, line)
    asked = call.last("nv", "nvccli", "rocm") is not None or any(
        environ.get(f"{name}_NV") for name in ("APPTAINER", "SINGULARITY")
    )
    yield Fact("deploy.gpu_access", "all" if asked else "none", origin, line)
    mounts = [
        mount
        for option in call.all("bind")
        for text in option.value.split(",")
        if (mount := volume(text if ":" in text else f"{text}:{text}", environ, folder, option.word.line, False))
        is not None
    ]
    yield from mount_facts(mounts, origin)
    contained = call.last("contain", "c", "containall", "C", "no-home", "no-mount") is not None
    given = tuple(
        (name, Word(value, option.word.line))
        for option in call.all("env")
        for name, _, value in [option.value.partition("=")]
    )
    return Inside(call.rest, given, image.engine, image.version, tuple(mounts), origin, line, contained=contained)
