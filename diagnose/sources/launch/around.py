"""What stands around a command: a container, a pod, a launcher, and the manifest files of those → the facts of both.

`file` reads a manifest, `command` a command that starts another one. What is inside is read like any launch command, with
the place in the manifest where each word stands.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from diagnose.model import Fact, Reading, Unchecked
from diagnose.sources import yamlfile
from diagnose.sources.launch import compose, docker, docker_call, kubernetes, launchers, programs, trainings
from diagnose.sources.launch.inside import Inside, located
from diagnose.sources.launch.shell import Word

LONGEST = 400
MOST_DEEP = 3
"""How many commands may stand one in the other: a container that runs a launcher that starts an engine."""
_COMPOSE_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")


def file(
    path: str, environ: Mapping[str, str], folder: str, service: str = "", more: Sequence[str] = ()
) -> Iterator[Reading]:
    """Read a manifest: a Compose file (`more` are put over it) or Kubernetes objects. Paths are relative to `folder`."""
    whole = os.path.join(folder, path)
    if os.path.isdir(whole):
        found = next((name for name in _COMPOSE_NAMES if os.path.isfile(os.path.join(whole, name))), None)
        if found is None:
            yield Unchecked(
                "launch command", f"{path[:LONGEST]} is a folder without a Compose file; name the manifest itself"
            )
            return
        path, whole = os.path.join(path, found), os.path.join(whole, found)
    loaded = yamlfile.load(whole)
    shown = path[:LONGEST]
    if loaded.error:
        if not loaded.missing and loaded.line:
            yield Fact("deploy.file_problem", loaded.error, shown, loaded.line)
        yield Unchecked("launch command", f"{shown}: {loaded.error}")
        return
    documents = [document for document in loaded.documents if document.items()]
    if kubernetes.is_kubernetes(documents):
        for other in more:
            yield Unchecked(f"manifest {other[:LONGEST]}", "one manifest is read at a time")
        inside = yield from kubernetes.read(documents, shown)
    elif documents and compose.is_compose(documents[0]):
        above = [os.path.join(folder, other) for other in more] or _override(whole)
        loads = [yamlfile.load(other) for other in above]
        bad = next((name for name, found in zip(above, loads, strict=True) if not found.documents), None)
        if bad is not None:
            yield Unchecked("launch command", f"{bad[:LONGEST]}, which is put over {shown}, cannot be read")
            return
        document = compose.merged([documents[0], *(found.documents[0] for found in loads)])
        inside = yield from compose.read(document, environ, os.path.dirname(whole) or ".", shown, service)
    else:
        yield Unchecked("launch command", f"{shown} is neither a Compose file nor a Kubernetes manifest")
        return
    if inside is not None:
        yield from _within(inside, environ, folder, 0)


def _override(path: str) -> list[str]:
    """The file that Compose puts over a file of its own default name by itself, where there is one."""
    stem, ending = os.path.splitext(os.path.basename(path))
    if stem not in ("compose", "docker-compose") or ending not in (".yaml", ".yml"):
        return []
    beside = [os.path.join(os.path.dirname(path), f"{stem}.override{end}") for end in (ending, ".yaml", ".yml")]
    return [next(name for name in beside if os.path.isfile(name))] if any(map(os.path.isfile, beside)) else []


def is_around(words: Sequence[Word]) -> bool:
    """Whether these words start another command inside a container or through a launcher."""
    return docker_call.is_container(words) or launchers.is_launcher(words) or _manifests(words) is not None


def command(
    words: Sequence[Word],
    assigned: Mapping[str, Word],
    environ: Mapping[str, str],
    folder: str,
    origin: str = "command line",
    deep: int = 0,
) -> Iterator[Reading]:
    """Read a command that starts another one. `words` begin with the program; `assigned` is what is set for it."""
    files = _manifests(words)
    known = {**environ, **{name: word.text for name, word in assigned.items() if word.known}}
    if files is not None:
        yield from _of_manifests(files, known, folder)
        return
    if docker_call.is_container(words):
        inside = yield from docker.read(words, known, folder, origin)
    else:
        inside = yield from launchers.read(words, assigned, known, folder, origin)
        if inside is None or not (is_around(inside.words) or programs.resolve(inside.words, assigned)):
            yield from _launcher_alone(words, assigned, known, folder, origin)
            if inside is not None:
                yield from _launched(inside, known, folder)
            return
    if inside is not None:
        yield from _within(inside, known, folder, deep)


def _launcher_alone(
    words: Sequence[Word], assigned: Mapping[str, Word], environ: Mapping[str, str], folder: str, origin: str
) -> Iterator[Reading]:
    """A launcher with a script of one's own behind it: its options and variables; what the script takes is not known."""
    from diagnose.sources.launch import engine

    name, options = launchers.own_words(words)
    launch = programs.Launch(name, "", options, dict(assigned))
    yield from engine.read(launch, environ, folder, origin, False)


def _launched(inside: Inside, environ: Mapping[str, str], folder: str) -> Iterator[Reading]:
    """The training that a launcher starts."""
    given = dict(inside.environ)
    training = trainings.resolve(inside.words, given, environ)
    if training is not None:
        yield from trainings.read(training, given, environ, folder, inside.origin, inside.contained, launched=True)


def _within(inside: Inside, environ: Mapping[str, str], folder: str, deep: int) -> Iterator[Reading]:
    """The command inside, and where its model lies on this machine."""
    from diagnose.sources import launch

    if inside.version:
        yield Fact("launch.engine_version", inside.version, inside.origin, inside.line)
    given = dict(inside.environ)
    if not inside.words or inside.words[0].text.startswith("-"):
        if inside.engine:
            yield Fact("engine.name", inside.engine, inside.origin, inside.line)
        yield Unchecked("launch command", "which program the image starts by itself is not known")
        return
    inherited = {} if inside.contained else environ
    if deep < MOST_DEEP and is_around(inside.words):
        yield from command(inside.words, given, inherited, folder, inside.origin, deep + 1)
        return
    model = ""
    engine = ""
    for reading in launch.command_words(inside.words, given, inherited, folder, inside.origin, inside.contained):
        if isinstance(reading, Fact):
            model = str(reading.value) if reading.name == "launch.model" else model
            engine = str(reading.value) if reading.name == "engine.name" else engine
        yield reading
    if inside.engine and not engine:
        yield Fact("engine.name", inside.engine, inside.origin, inside.line)
    yield from located(inside, model or given.get("MODEL_ID", Word("")).text, environ, folder)


# --- commands that name manifests


def _manifests(words: Sequence[Word]) -> tuple[list[str], str] | None:
    """The files of `docker compose -f FILE up SERVICE` or `kubectl apply -f FILE`, and the service; None for another command."""
    texts = [word.text for word in words]
    name = os.path.basename(texts[0]) if texts else ""
    if name in docker_call.PROGRAMS and "compose" in texts[1:3]:
        return _compose_files(texts[texts.index("compose") + 1 :])
    if name in ("docker-compose", "podman-compose"):
        return _compose_files(texts[1:])
    if name == "kubectl" and len(texts) > 1:
        return _after(texts[1:], ("-f", "--filename")), ""
    return None


def _compose_files(texts: Sequence[str]) -> tuple[list[str], str]:
    verb = next((number for number, text in enumerate(texts) if text in ("up", "run", "start", "create")), len(texts))
    services = [text for text in texts[verb + 1 :] if not text.startswith("-")]
    return _after(texts[:verb], ("-f", "--file")) or ["."], services[0] if len(services) == 1 else ""


def _after(texts: Sequence[str], names: tuple[str, ...]) -> list[str]:
    found = []
    for number, text in enumerate(texts):
        option, given, value = text.partition("=")
        if option in names:
            found.append(value if given else texts[number + 1] if number + 1 < len(texts) else "")
    return [text for text in found if text and text != "-"]


def _of_manifests(files: tuple[list[str], str], environ: Mapping[str, str], folder: str) -> Iterator[Reading]:
    names, service = files
    if not names:
        yield Unchecked("launch command", "the command names no manifest (-f FILE)")
    if names:
        yield from file(names[0], environ, folder, service, names[1:20])
