"""Kubernetes manifests → what the container with an engine is given, and the command inside it."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping, Sequence

from msgspec import Struct

from diagnose.model import Fact, Reading, Unchecked
from diagnose.sources.launch import docker, images
from diagnose.sources.launch.inside import Inside, Mount, user_facts, whole
from diagnose.sources.launch.pods import NESTED, Pod, pods, quantity
from diagnose.sources.launch.shell import Word
from diagnose.sources.yamlfile import Node

LONGEST = 400
GPU_RESOURCES = re.compile(
    r"(?:nvidia|amd)\.com/(?:gpu|mig-.*)|gpu\.intel\.com/(?:i915|xe)|huawei\.com/Ascend\w*|habana\.ai/gaudi|google\.com/tpu"
)
_ENGINE_WORDS = re.compile(
    r"(?<![\w-])(?:vllm serve|vllm\.entrypoints|sglang\.launch_server|sglang serve|llama-server|text-generation-launcher"
    r"|ollama serve|transformers serve|torchrun|accelerate launch|deepspeed)"
)


class _Choice(Struct, frozen=True):
    """A container that may hold an engine, in its pod. `rank` says how surely: a server before a tool."""

    rank: int
    pod: Pod
    container: Node
    image: images.Image


def is_kubernetes(documents: Sequence[Node]) -> bool:
    """Whether a file is of Kubernetes objects: each has a kind and a version of its interface."""
    return any(document.get("kind").word() and document.get("apiVersion").word() for document in documents)


def read(documents: Sequence[Node], origin: str) -> Generator[Reading, None, Inside | None]:
    """`deploy.*` of the first container with an engine, and the command inside."""
    found = list(pods(documents))
    choices = [choice for pod in found for choice in _choices(pod)]
    if not choices:
        what = (
            f"none of its {len(found)} pods has a container with an engine" if found else "no object in it makes pods"
        )
        yield Unchecked("launch command", f"{origin}: {what}")
        return None
    best = max(choices, key=lambda choice: choice.rank)
    for other in choices:
        if other is not best and other.rank == best.rank:
            name = f"{other.pod.kind} {other.pod.name}, container {other.container.get('name').word()}"
            yield Unchecked(
                f"{name[:160]} of {origin}",
                "another container with an engine was read; one command is judged at a time",
            )
    return (yield from _container(best, documents, origin))


def _choices(pod: Pod) -> Iterator[_Choice]:
    for container in pod.spec.get("containers").list() or (
        [pod.spec] if pod.kind in NESTED and pod.spec.get("image") else []
    ):
        image = images.read(container.get("image").word())
        said = " ".join(item.word() for key in ("command", "args") for item in container.get(key).list())
        gpus = _gpu_entries(container.get("resources", "limits")) or _gpu_entries(
            container.get("resources", "requests")
        )
        if image.engine or _ENGINE_WORDS.search(said):
            yield _Choice((3 if gpus else 2) if image.engine != "ollama" else 1, pod, container, image)


def _container(choice: _Choice, documents: Sequence[Node], origin: str) -> Generator[Reading, None, Inside | None]:
    pod, container, image = choice.pod, choice.container, choice.image
    line = container.line
    yield Fact("deploy.kind", "kubernetes", origin, line)
    yield Fact("deploy.object", f"{pod.kind} {pod.name}"[:LONGEST], origin, pod.line)
    yield Fact("deploy.service", container.get("name").word()[:LONGEST] or "container", origin, line)
    reference = container.get("image").word()
    if reference:
        yield from docker.image_facts(image, reference, origin, container.get("image").line)
    if pod.replicas is not None:
        yield Fact("deploy.replicas", pod.replicas, origin, pod.line)
    if pod.size is not None:
        yield Fact("deploy.nodes", pod.size, origin, pod.line)
    environ, unknown = _environment(container)
    if pod.kind == "LeaderWorkerSet" and pod.size is not None:
        environ.setdefault("LWS_GROUP_SIZE", Word(str(pod.size), pod.line))
    if pod.kind == "PyTorchJob":  # its operator sets these
        environ.setdefault("PET_MASTER_ADDR", Word("", pod.line, known=False))
    for name in unknown[:8]:
        yield Fact(f"deploy.env_elsewhere.{name}", True, origin, line)
    user = container.get("securityContext", "runAsUser") or pod.spec.get("securityContext", "runAsUser")
    yield from user_facts(user.word(), {name: word.text for name, word in environ.items()}, origin, user.line)
    yield from _resources(container, origin)
    yield from _shared_memory(pod.spec, container, origin)
    yield from _ports(container, origin)
    yield from _probes(container, pod.spec, origin)
    yield from _service_names(pod, documents, environ, image, origin)
    yield from _service_target(pod, container, documents, origin)
    yield from _rollout(pod, origin)
    command = _words(container.get("command"))
    arguments = _words(container.get("args"))
    late = docker.late_option(arguments, image)
    if late is not None:
        yield Fact("deploy.late_option", late.text[:LONGEST], origin, late.line)
    yield from docker.twice(image, bool(command), arguments, origin)
    for key in ("command", "args"):
        if container.get(key).word():
            yield Fact("deploy.command_not_a_list", key, origin, container.get(key).line)
    words = docker.command_inside(image, command or None, arguments)
    mounts = tuple(_mounts(pod.spec, container))
    return Inside(
        _with_variables(words, environ),
        tuple((name, word) for name, word in environ.items() if name != "LWS_GROUP_SIZE"),
        image.engine,
        image.version,
        mounts,
        origin,
        line,
        host=False,
    )


# --- command and variables


def _words(node: Node) -> tuple[Word, ...]:
    """The words of a list; a text of several lines (a script for `sh -c`) begins below its mark."""
    return tuple(Word(item.word(), item.line + ("\n" in item.text.rstrip("\n"))) for item in node.list())


def _environment(container: Node) -> tuple[dict[str, Word], list[str]]:
    """The variables whose values stand in the manifest, and the names of those that come from elsewhere."""
    known: dict[str, Word] = {}
    elsewhere: list[str] = []
    for entry in container.get("env").list():
        name = entry.get("name").word()
        if not name:
            continue
        if entry.get("valueFrom"):
            elsewhere += [name] if re.fullmatch(r"\w+", name) else []
        else:
            known[name] = Word(entry.get("value").word(), entry.line)
    return known, elsewhere


def _with_variables(words: Sequence[Word], environ: Mapping[str, Word]) -> tuple[Word, ...]:
    """`$(NAME)` in commands is replaced by Kubernetes itself; `$$(NAME)` stands for itself."""

    def one(word: Word) -> Word:
        known = word.known

        def value(found: re.Match[str]) -> str:
            nonlocal known
            if found[0].startswith("$$"):
                return found[0][1:]
            if found[1] in environ:
                return environ[found[1]].text
            known = False
            return found[0]

        text = re.sub(r"\$?\$\(([A-Za-z_][\w.-]*)\)", value, word.text)
        return Word(text, word.line, word.column, known, word.quoted)

    return tuple(one(word) for word in words)


# --- resources


def _gpu_entries(resources: Node) -> list[tuple[str, Node]]:
    return [(name, value) for name, value in resources.items() if GPU_RESOURCES.fullmatch(name)]


def _resources(container: Node, origin: str) -> Iterator[Reading]:
    limits, requests = container.get("resources", "limits"), container.get("resources", "requests")
    memory = limits.get("memory")
    size = quantity(memory.word()) if memory else None
    if size:
        yield Fact("deploy.memory", size, origin, memory.line)
    asked = requests.get("memory")
    requested = quantity(asked.word()) if asked else None
    if requested:
        yield Fact("deploy.memory_requested", requested, origin, asked.line)
    limited, wanted = _gpu_entries(limits), _gpu_entries(requests)
    yield Fact(
        "deploy.gpu_only_requested",
        bool(wanted and not limited),
        origin,
        (wanted or limited or [("", container)])[0][1].line,
    )
    for name, value in limited[:1]:
        yield Fact("deploy.gpu_resource", name, origin, value.line)
        counts = [quantity(item.word()) for _, item in limited]
        if all(count is not None for count in counts):
            total = sum(count for count in counts if count is not None)
            yield Fact("deploy.gpus", total, origin, value.line)
            yield Fact("deploy.gpu_access", "count" if total else "none", origin, value.line)
        other = requests.get(name)
        if other and quantity(other.word()) != quantity(value.word()):
            yield Fact("deploy.gpu_request_differs", other.word()[:LONGEST], origin, other.line)
    claims = container.get("resources", "claims")
    if claims.list():
        yield Fact("deploy.gpu_access", "claim", origin, claims.line)
    elif not limited and not wanted:
        yield Fact("deploy.gpu_access", "none", origin, container.line)


def _shared_memory(spec: Node, container: Node, origin: str) -> Iterator[Reading]:
    """What is mounted at /dev/shm: an emptyDir in memory, or the runtime's own 64 MiB."""
    if spec.get("hostIPC").value is True:
        yield Fact("deploy.ipc", "host", origin, spec.get("hostIPC").line)
        yield Fact("deploy.shm_given", True, origin, spec.get("hostIPC").line)
        return
    yield Fact("deploy.ipc", "private", origin, container.line)
    mount = next(
        (
            item
            for item in container.get("volumeMounts").list()
            if item.get("mountPath").word().rstrip("/") == "/dev/shm"
        ),
        None,
    )
    yield Fact("deploy.shm_given", mount is not None, origin, mount.line if mount else container.line)
    if mount is None:
        yield Fact("deploy.shm", docker.DEFAULT_SHM, origin, container.line)
        return
    volume = _volume(spec, mount.get("name").word())
    empty = volume.get("emptyDir")
    if "emptyDir" not in dict(volume.items()):
        return
    medium = empty.get("medium").word()
    yield Fact("deploy.shm_in_memory", medium == "Memory", origin, empty.line)
    limit = empty.get("sizeLimit")
    size = quantity(limit.word()) if limit else None
    if size and medium == "Memory":
        yield Fact("deploy.shm", size, origin, limit.line)


def _volume(spec: Node, name: str) -> Node:
    return next((item for item in spec.get("volumes").list() if item.get("name").word() == name), Node(None, spec.line))


def _mounts(spec: Node, container: Node) -> Iterator[Mount]:
    """Mounts with the node's own folders (hostPath); those are not this machine's, so no source is told."""
    for item in container.get("volumeMounts").list():
        target = item.get("mountPath").word()
        if target:
            yield Mount("", target, item.line, False, item.get("readOnly").value is True)


def _ports(container: Node, origin: str) -> Iterator[Reading]:
    for number, item in enumerate(container.get("ports").list()[:32]):
        inside = item.get("containerPort").word()
        port = whole(inside)
        if port is not None and port <= docker.MOST_PORT:
            yield Fact(f"deploy.port.{number}.inside", port, origin, item.line)


# --- probes


def _probes(container: Node, spec: Node, origin: str) -> Iterator[Reading]:
    """How long the server may take to load before the kubelet kills it.

    A probe fails for good after failureThreshold failures in a row, one each periodSeconds, the first after
    initialDelaySeconds; defaults are 3, 10 and 0. Liveness waits until the startup probe has succeeded.
    """
    startup, liveness = container.get("startupProbe"), container.get("livenessProbe")
    for name, probe in (("startup", startup), ("liveness", liveness)):
        if probe.items():
            yield Fact(f"deploy.probe.{name}.seconds", _budget(probe), origin, probe.line)
            yield Fact(f"deploy.probe.{name}.port", _port_of(probe, container), origin, probe.line)
            timeout = _number(probe.get("timeoutSeconds"), 1)
            yield Fact(f"deploy.probe.{name}.timeout", timeout, origin, probe.line)
    counts = startup if startup.items() else liveness
    if counts.items():
        yield Fact("deploy.load_seconds", _budget(counts), origin, counts.line)
        yield Fact("deploy.load_probe", "startupProbe" if counts is startup else "livenessProbe", origin, counts.line)
    ports = {
        _port_of(probe, container) for probe in (startup, liveness, container.get("readinessProbe")) if probe.items()
    } - {0}
    if len(ports) == 1:
        yield Fact(
            "deploy.probe_port", ports.pop(), origin, (startup or liveness or container.get("readinessProbe")).line
        )
    grace = spec.get("terminationGracePeriodSeconds")
    if grace:
        yield Fact("deploy.grace_seconds", _number(grace, 30), origin, grace.line)


def _budget(probe: Node) -> int:
    period = max(_number(probe.get("periodSeconds"), 10), 1)
    tries = max(_number(probe.get("failureThreshold"), 3), 1)
    return _number(probe.get("initialDelaySeconds"), 0) + period * tries


def _number(node: Node, default: int) -> int:
    word = node.word()
    number = whole(word)
    return default if number is None else number


def _port_of(probe: Node, container: Node) -> int:
    """The port that a probe asks, by number or by the name that the container gives it; 0 if it asks none."""
    port = (probe.get("httpGet", "port") or probe.get("tcpSocket", "port") or probe.get("grpc", "port")).word()
    number = whole(port)
    if number is not None:
        return number if number <= docker.MOST_PORT else 0
    return _named_port(port, container)


def _named_port(name: str, container: Node) -> int:
    """The port that the container gives a name; 0 if there is none of it."""
    named = next((item for item in container.get("ports").list() if item.get("name").word() == name), None)
    return _number(named.get("containerPort"), 0) if named and name else 0


# --- services, roll-out


_READ_BY_ENGINES = {"vllm": "VLLM_PORT"}
"""Variables that an engine reads as a number and that Kubernetes sets to an address for a Service of this name."""


def _service_names(
    pod: Pod, documents: Sequence[Node], environ: Mapping[str, Word], image: images.Image, origin: str
) -> Iterator[Reading]:
    """`deploy.service_sets_port`: a Service of the same namespace for which Kubernetes sets a variable that the engine reads."""
    if pod.spec.get("enableServiceLinks").value is False:
        return
    for document in documents:
        name = document.get("metadata", "name").word()
        variable = _READ_BY_ENGINES.get(name.replace("-", "_")) if document.get("kind").word() == "Service" else None
        if variable is None or document.get("metadata", "namespace").word() != pod.namespace:
            continue
        headless = document.get("spec", "clusterIP").word() == "None"
        if variable not in environ and not headless and image.engine in ("vllm", ""):
            yield Fact("deploy.service_sets_port", name, origin, document.get("metadata", "name").line)


def _service_target(pod: Pod, container: Node, documents: Sequence[Node], origin: str) -> Iterator[Reading]:
    """`deploy.service_target`: the port that a Service with one port, and whose selector fits the pod, sends requests to."""
    labels = {name: value.word() for name, value in pod.labels.items()}
    for document in documents:
        ports = document.get("spec", "ports").list()
        selector = document.get("spec", "selector").items()
        same = document.get("metadata", "namespace").word() == pod.namespace
        if document.get("kind").word() != "Service" or not same or len(ports) != 1 or not selector:
            continue
        if any(labels.get(name) != value.word() for name, value in selector):
            continue
        target = ports[0].get("targetPort") or ports[0].get("port")
        number = _number(target, 0) or _named_port(target.word(), container)
        if 0 < number < 1 << 16 and len(pod.spec.get("containers").list()) == 1:
            yield Fact("deploy.service_target", number, origin, target.line)
            return


def _rollout(pod: Pod, origin: str) -> Iterator[Reading]:
    """Whether a new version is started beside the old one, so that it needs GPUs of its own: the default of a Deployment."""
    if pod.kind == "Deployment":
        surge = pod.strategy.get("rollingUpdate", "maxSurge").word()
        beside = pod.strategy.get("type").word() != "Recreate" and surge not in ("0", "0%")
        yield Fact("deploy.rollout_beside", beside, origin, pod.strategy.line)
