"""A Docker Compose file → what its service with an engine is given, and the command inside it."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator, Mapping, Sequence

from diagnose.model import Fact, Reading, Unchecked
from diagnose.sources.launch import docker, images
from diagnose.sources.launch.durations import seconds
from diagnose.sources.launch.inside import Inside, Mount, host_path, mount_facts, user_facts, whole
from diagnose.sources.launch.interpolation import Variables, as_word, unquoted
from diagnose.sources.launch.shell import Word
from diagnose.sources.settings import words as names
from diagnose.sources.yamlfile import Node, load

MOST_SERVICES = 200
LONGEST = 400


def is_compose(document: Node) -> bool:
    """Whether a document is a Compose file: it has services."""
    services = document.get("services")
    return isinstance(services.value, dict) and not document.get("apiVersion")


def read(
    document: Node, environ: Mapping[str, str], folder: str, origin: str, service: str = ""
) -> Generator[Reading, None, Inside | None]:
    """`deploy.*` of the service with an engine (or the one named), and the command inside. `folder` holds the file."""
    variables = Variables(environ, folder)
    services = document.get("services").items()[:MOST_SERVICES]
    whole = [(name, *_extended(node, services, folder)) for name, node in services]
    services = [(name, node) for name, node, _ in whole]
    chosen = _chosen(services, variables, service)
    if chosen is None:
        yield Unchecked(
            "launch command", f"{origin}: none of its {len(services)} services has the image or command of an engine"
        )
        return None
    name, node, others = chosen
    unread = next((problem for other, _, problem in whole if other == name and problem), "")
    if unread:
        yield Unchecked(
            "launch command", f"{origin}: service {name[:80]} extends {unread[:LONGEST]}, which cannot be read"
        )
        return None
    yield Fact("deploy.kind", "compose", origin, node.line)
    yield Fact("deploy.program", "docker compose", origin, node.line)
    yield Fact("deploy.service", name[:LONGEST], origin, node.line)
    for other in others:
        yield Unchecked(
            f"service {other[:80]} of {origin}",
            "another service with an engine was read; one command is judged at a time",
        )
    inside = yield from _service(node, name, variables, environ, folder, origin, services)
    if variables.unset:
        yield Fact("deploy.variable_unset", ", ".join(sorted(variables.unset)[:8])[:LONGEST], origin, node.line)
    quiet = variables.unset_variables - variables.unset - _MAY_BE_EMPTY
    if quiet:
        yield Fact("deploy.variable_empty", ", ".join(sorted(quiet)[:8])[:LONGEST], origin, node.line)
    if variables.required:
        yield Fact("deploy.variable_required", ", ".join(sorted(variables.required)[:8])[:LONGEST], origin, node.line)
    return inside


def merged(files: Sequence[Node]) -> Node:
    """Several Compose files as one: what stands in a later one goes before or beside what stands in an earlier one."""
    whole = files[0]
    for later in files[1:]:
        whole = _over(whole, later, "")
    return whole


_REPLACED = frozenset(("command", "entrypoint", "test"))


def _over(base: Node, later: Node, key: str) -> Node:
    """A node with another put over it: mappings entry by entry, lists one behind the other, all else replaced."""
    if isinstance(base.value, dict) and isinstance(later.value, dict):
        entries = dict(base.value)
        for name, value in later.items():
            entries[name] = _over(entries[name], value, name) if name in entries else value
        return Node(entries, later.line)
    if isinstance(base.value, list) and isinstance(later.value, list) and key not in _REPLACED:
        return Node([*base.value, *later.value], later.line)
    return later


def _extended(node: Node, services: Sequence[tuple[str, Node]], folder: str, deep: int = 0) -> tuple[Node, str]:
    """A service with what it extends, and the file of that where it cannot be read."""
    told = node.get("extends")
    name, path = told.word() or told.get("service").word(), told.get("file").word()
    if not name or deep > 4:
        return node, ""
    others = list(services)
    if path:
        loaded = load(os.path.join(folder, path))
        if not loaded.documents:
            return node, path
        others, folder = loaded.documents[0].get("services").items(), os.path.dirname(os.path.join(folder, path))
    base = next((other for other_name, other in others if other_name == name), None)
    if base is None:
        return node, path or name
    whole, problem = _extended(base, others, folder, deep + 1)
    return _over(whole, node, ""), problem


def _chosen(
    services: Sequence[tuple[str, Node]], variables: Variables, wanted: str
) -> tuple[str, Node, list[str]] | None:
    """The service to read, and the others with engines. One that names an engine goes before one whose image only may have one."""
    if wanted:
        found = next(((name, node) for name, node in services if name == wanted), None)
        return (*found, []) if found else None
    ranked = [(rank, name, node) for name, node in services if (rank := _rank(node, variables)) > 0]
    if not ranked:
        return None
    best = max(ranked, key=lambda item: item[0])
    others = [name for rank, name, _ in ranked if name != best[1] and rank == best[0]]
    return best[1], best[2], others


_MAY_BE_EMPTY = names("http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY")

_ENGINE_WORDS = re.compile(
    r"(?<![\w-])(?:vllm serve|vllm\.entrypoints|sglang\.launch_server|sglang serve|llama-server|text-generation-launcher"
    r"|ollama serve|transformers serve|torchrun|accelerate launch|deepspeed)"
)


def _rank(node: Node, variables: Variables) -> int:
    image = images.read(variables.peek(node.get("image").word()))
    said = " ".join(variables.peek(word) for word in _texts(node.get("entrypoint")) + _texts(node.get("command")))
    if image.engine or _ENGINE_WORDS.search(said):
        return 1 if image.engine == "ollama" else 2
    return 0


def _texts(node: Node) -> list[str]:
    return [item.word() for item in node.list()] if isinstance(node.value, list) else [node.word()]


def _service(
    node: Node,
    name: str,
    variables: Variables,
    environ: Mapping[str, str],
    folder: str,
    origin: str,
    services: Sequence[tuple[str, Node]],
) -> Generator[Reading, None, Inside | None]:
    reference = variables.fill(node.get("image").word())
    image = images.read(reference)
    if reference:
        yield from docker.image_facts(image, reference, origin, node.get("image").line)
    given = dict(_environment(node, variables, environ, folder))
    yield from _resources(node, given, variables, origin)
    yield from _ports(node, variables, origin)
    user = node.get("user")
    known = {name: word.text for name, word in given.items()}
    yield from user_facts(variables.fill(user.word()), known, origin, user.line)
    mounts = list(_mounts(node, variables, environ, folder))
    yield from mount_facts(mounts, origin)
    for missing in _env_files(node, variables, folder)[1]:
        yield Fact("deploy.env_file_missing", missing.text[:LONGEST], origin, missing.line)
    yield from _health(node, name, services, origin)
    entrypoint = node.get("entrypoint")
    command = _words(node.get("command"), variables)
    late = docker.late_option(command, image)
    if late is not None:
        yield Fact("deploy.late_option", late.text[:LONGEST], origin, late.line)
    yield from docker.twice(image, bool(entrypoint), command, origin)
    own = _words(entrypoint, variables) if entrypoint else None
    return Inside(
        docker.command_inside(image, own, command),
        tuple(given.items()),
        image.engine,
        image.version,
        tuple(mounts),
        origin,
        node.line,
        work=variables.fill(node.get("working_dir").word()),
    )


def _words(node: Node, variables: Variables) -> tuple[Word, ...]:
    """A command as list or as one text, which Compose splits as a shell would."""
    if isinstance(node.value, list):
        return tuple(as_word(Word(variables.fill_marked(item.word()), item.line)) for item in node.list())
    # the words of a literal block stand on the lines below its key; other forms do not keep their lines
    first = node.line + 1 if "\n" in node.text.rstrip("\n") else node.line
    return tuple(
        as_word(Word(word.text, first + max(word.line - 1, 0), word.column, word.known, word.quoted))
        for word in docker.split(variables.fill_marked(node.word()))
    )


# --- variables of the container


def _environment(
    node: Node, variables: Variables, environ: Mapping[str, str], folder: str
) -> Iterator[tuple[str, Word]]:
    """env_file first, then environment, which goes before it. A name alone hands on the one of the shell."""
    for name, word in _env_files(node, variables, folder)[0]:
        yield name, word
    told = node.get("environment")
    pairs = (
        [(name, value) for name, value in told.items()]
        if isinstance(told.value, dict)
        else [_pair(item) for item in told.list()]
    )
    for name, value in pairs:
        if value.value is None:
            if name in environ:
                yield name, Word(environ[name], value.line)
        elif isinstance(value.value, bool):
            yield name, Word(value.text, value.line)
        else:
            yield name, Word(variables.fill_variable(value.text), value.line)


def _pair(item: Node) -> tuple[str, Node]:
    name, given, value = item.word().partition("=")
    return name, Node(value if given else None, item.line, value)


def _env_files(node: Node, variables: Variables, folder: str) -> tuple[list[tuple[str, Word]], list[Node]]:
    """The variables of env_file, and the files that are not there and have to be."""
    told = node.get("env_file")
    found: list[tuple[str, Word]] = []
    missing: list[Node] = []
    for item in told.list() or ([told] if told else []):
        path = variables.fill(item.word() or item.get("path").word())
        required = item.get("required").value is not False
        entries, problem = docker.env_file(os.path.join(folder, path))
        found += [(name, Word(unquoted(value), item.line)) for name, value, _ in entries]
        if problem == "missing" and required:
            missing.append(Node(path, item.line, path))
    return found, missing


# --- resources


def _resources(node: Node, given: Mapping[str, Word], variables: Variables, origin: str) -> Iterator[Reading]:
    ipc = variables.fill(node.get("ipc").word())
    yield Fact("deploy.ipc", ipc or "private", origin, node.get("ipc").line)
    yield from _shm(node, ipc, variables, origin)
    limit = node.get("deploy", "resources", "limits", "memory") or node.get("mem_limit")
    size = docker.docker_size(variables.fill(limit.word())) if limit else None
    if size:
        yield Fact("deploy.memory", size, origin, limit.line)
    yield from _gpus(node, given, variables, origin)
    network = variables.fill(node.get("network_mode").word())
    yield Fact("deploy.network", network or "bridge", origin, node.get("network_mode").line)
    for name, value in node.get("ulimits").items():
        soft = value.get("soft").word() or value.word()
        if name in ("memlock", "stack", "nofile") and soft:
            yield Fact(f"deploy.ulimit.{name}", soft, origin, value.line)


def _shm(node: Node, ipc: str, variables: Variables, origin: str) -> Iterator[Reading]:
    asked = node.get("shm_size")
    shared = ipc.startswith(("host", "container:", "service:"))
    yield Fact("deploy.shm_given", bool(asked) or shared, origin, asked.line)
    targets = [_target(item, variables) for item in node.get("volumes").list()]
    targets += [item.word().partition(":")[0] for item in node.get("tmpfs").list() or [node.get("tmpfs")]]
    if shared or "/dev/shm" in targets:
        return
    size = docker.docker_size(variables.fill(asked.word())) if asked else docker.DEFAULT_SHM
    if size:
        yield Fact("deploy.shm", size, origin, asked.line)


def _target(item: Node, variables: Variables) -> str:
    if isinstance(item.value, dict):
        return item.get("target").word()
    parts = variables.fill(item.word()).split(":")
    return parts[1] if len(parts) > 1 else parts[0]


def _gpus(node: Node, given: Mapping[str, Word], variables: Variables, origin: str) -> Iterator[Reading]:
    """GPUs by `gpus:`, by a reservation of devices, by NVIDIA's runtime, or by device files."""
    asked = node.get("gpus")
    devices = node.get("deploy", "resources", "reservations", "devices")
    if asked:
        if asked.word():
            yield Fact("deploy.gpu_access", "all" if asked.word() == "all" else "count", origin, asked.line)
        yield from _reserved(asked.list(), variables, origin)
        return
    if isinstance(devices.value, list) and devices.list():
        yield from _reserved(devices.list(), variables, origin)
        return
    visible = given["NVIDIA_VISIBLE_DEVICES"].text if "NVIDIA_VISIBLE_DEVICES" in given else ""
    files = [variables.fill(item.word()) for item in node.get("devices").list()]
    if node.get("runtime").word() == "nvidia":
        yield from docker.by_variable(visible or "all", origin, node.get("runtime").line)
    elif any(text.startswith("nvidia.com/gpu=") for text in files):
        names = {text.partition("=")[2] for text in files if text.startswith("nvidia.com/gpu=")}
        yield Fact("deploy.gpu_access", "all" if "all" in names else "devices", origin, node.get("devices").line)
        if "all" not in names:
            yield Fact("deploy.gpus", len(names), origin, node.get("devices").line)
    elif (
        node.get("privileged").value is True
        or node.get("runtime").word() == "habana"
        or any(text.startswith(docker.DEVICE_FILES) for text in files)
    ):
        yield Fact("deploy.gpu_access", "devices-by-hand", origin, node.get("devices").line)
    else:
        access = docker.without_asking(visible, docker.default_is_nvidia())
        yield Fact("deploy.gpu_access", access, origin, node.line)


def _reserved(devices: Sequence[Node], variables: Variables, origin: str) -> Iterator[Reading]:
    """`devices` of a reservation. Compose wants `capabilities`, and either `count` or `device_ids`."""
    for device in devices[:1]:
        line = device.line
        count, ids = variables.fill(device.get("count").word()), device.get("device_ids")
        if not device.get("capabilities").list():
            yield Fact("deploy.device_capabilities_missing", True, origin, line)
        if count and ids.list():
            yield Fact("deploy.count_and_ids", True, origin, line)
        elif ids.list():
            names = {variables.fill(item.word()) for item in ids.list()}
            yield Fact("deploy.gpu_access", "all" if names == {"all"} else "devices", origin, ids.line)
            if "all" not in names:
                yield Fact("deploy.gpus", len(names), origin, ids.line)
        elif (number := whole(count)) is not None:
            yield Fact("deploy.gpu_access", "count" if number else "none", origin, line)
            yield Fact("deploy.gpus", number, origin, line)
        else:  # neither: all of them
            yield Fact("deploy.gpu_access", "all", origin, line)


def _ports(node: Node, variables: Variables, origin: str) -> Iterator[Reading]:
    for number, item in enumerate(node.get("ports").list()[:32]):
        if isinstance(item.value, dict):
            inside, outside = (variables.fill(item.get(key).word()) for key in ("target", "published"))
            port = whole(inside)
            found = (whole(outside) or 0, port) if port is not None else None
        else:
            found = docker.published(variables.fill(item.word()))
        if found is not None:
            yield Fact(f"deploy.port.{number}.inside", found[1], origin, item.line)
            if found[0]:
                yield Fact(f"deploy.port.{number}.outside", found[0], origin, item.line)


def _mounts(node: Node, variables: Variables, environ: Mapping[str, str], folder: str) -> Iterator[Mount]:
    for item in node.get("volumes").list():
        if isinstance(item.value, dict):
            mount = _long_mount(item, variables, environ, folder)
        else:
            mount = docker.volume(variables.fill(item.word()), environ, folder, item.line)
        if mount is not None:
            yield mount


def _long_mount(item: Node, variables: Variables, environ: Mapping[str, str], folder: str) -> Mount | None:
    """The long form. A bind mount is made only if `create_host_path` is not switched off."""
    source, target = (variables.fill(item.get(key).word()) for key in ("source", "target"))
    if not target:
        return None
    bind = item.get("type").word() == "bind"
    made = item.get("bind", "create_host_path").value is not False
    path = host_path(source, folder, environ) if bind else ""
    return Mount(path, target, item.line, made, item.get("read_only").value is True)


# --- health


def _health(node: Node, name: str, services: Sequence[tuple[str, Node]], origin: str) -> Iterator[Reading]:
    """How long the service may take to load before it is called unhealthy, and whether others wait for it to be healthy.

    Docker's defaults: a check each 30 s, 3 failures, no start period. Failures within the start period do not count.
    """
    check = node.get("healthcheck")
    waiting = [
        other for other, service in services if service.get("depends_on", name, "condition").word() == "service_healthy"
    ]
    if waiting:
        yield Fact("deploy.health_waited_for", waiting[0][:LONGEST], origin, node.line)
    if not check or check.get("disable").value is True or not check.get("test"):
        return
    interval, start = seconds(check.get("interval").word()), seconds(check.get("start_period").word())
    retries = check.get("retries").word()
    tries = min(whole(retries) or 3, 1 << 20)
    budget = (start or 0.0) + (30.0 if interval is None else interval) * tries
    yield Fact("deploy.health_budget", round(budget), origin, check.line)
