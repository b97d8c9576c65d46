"""Kubernetes objects → the pods that they make, whatever object makes them; and quantities as Kubernetes writes them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from msgspec import Struct

from diagnose.sources.launch.inside import MOST_SIZE
from diagnose.sources.yamlfile import Node

MOST_OBJECTS = 2000
NESTED = ("InferenceService",)
"""Kinds whose model server may be described without a list of containers."""


class Pod(Struct, frozen=True):
    """The specification of a pod, and the object that makes it. `size` is how many pods work as one (LeaderWorkerSet)."""

    kind: str
    name: str
    namespace: str
    spec: Node
    line: int
    strategy: Node
    labels: Node
    replicas: int | None = None
    size: int | None = None


# where the specification of the pod stands, by the kind of the object
_PLACES: dict[str, tuple[tuple[str, ...], ...]] = {
    "Pod": (("spec",),),
    "PodTemplate": (("template", "spec"),),
    "Deployment": (("spec", "template", "spec"),),
    "StatefulSet": (("spec", "template", "spec"),),
    "DaemonSet": (("spec", "template", "spec"),),
    "ReplicaSet": (("spec", "template", "spec"),),
    "ReplicationController": (("spec", "template", "spec"),),
    "Job": (("spec", "template", "spec"),),
    "CronJob": (("spec", "jobTemplate", "spec", "template", "spec"),),
    "Service": (("spec", "template", "spec"),),  # Knative's
    "LeaderWorkerSet": (
        ("spec", "leaderWorkerTemplate", "leaderTemplate", "spec"),
        ("spec", "leaderWorkerTemplate", "workerTemplate", "spec"),
    ),
    "InferenceService": (("spec", "predictor"), ("spec", "predictor", "model")),
    "PyTorchJob": (
        ("spec", "pytorchReplicaSpecs", "Master", "template", "spec"),
        ("spec", "pytorchReplicaSpecs", "Worker", "template", "spec"),
    ),
    "RayCluster": (("spec", "headGroupSpec", "template", "spec"),),
    "RayService": (("spec", "rayClusterConfig", "headGroupSpec", "template", "spec"),),
    "Rollout": (("spec", "template", "spec"),),
}


def pods(documents: Sequence[Node]) -> Iterator[Pod]:
    """The pods of all objects, also of those in a List."""
    for document in _objects(documents):
        kind = document.get("kind").word()
        metadata = document.get("metadata")
        for place in _PLACES.get(kind, ()):
            spec = document.get(*place)
            if spec.items() and (spec.get("containers").list() or spec.get("image")):
                yield Pod(
                    kind,
                    metadata.get("name").word() or metadata.get("generateName").word() or "without a name",
                    metadata.get("namespace").word(),
                    spec,
                    document.line,
                    document.get("spec", "strategy"),
                    document.get(*place[:-1], "metadata", "labels") if len(place) > 1 else metadata.get("labels"),
                    _count(document.get("spec", "replicas")),
                    _count(document.get("spec", "leaderWorkerTemplate", "size")),
                )


def _objects(documents: Sequence[Node]) -> Iterator[Node]:
    told = 0
    for document in documents:
        items = document.get("items").list() if document.get("kind").word().endswith("List") else [document]
        for item in items:
            told += 1
            if told > MOST_OBJECTS:
                return
            yield item


def _count(node: Node) -> int | None:
    return int(node.word()) if re.fullmatch(r"\d{1,6}", node.word()) else None


_QUANTITY = re.compile(r"(\d{1,18}(?:\.\d{1,9})?|\.\d{1,9})(m|[kKMGTPE]i?|e\d{1,2}|E\d{1,2})?")
_POWERS = {"k": 1, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}


def quantity(text: str) -> int | None:
    """A quantity such as 4, 16Gi, 16G, 1.5Gi, 2e9 or 100m (thousandths, rounded up); None for what is none."""
    found = _QUANTITY.fullmatch(text.strip())
    if found is None:
        return None
    number, unit = float(found[1]), found[2] or ""
    if number > 1e19:
        return None
    if unit == "m":
        return -int(-number // 1000)
    if unit[:1] in ("e", "E") and len(unit) > 1 and unit[1:].isdigit():
        return _sound(number * 10.0 ** min(int(unit[1:]), 30))
    if not unit:
        return int(number)
    base = 1024 if unit.endswith("i") else 1000
    return _sound(number * base ** _POWERS[unit[0]])


def _sound(number: float) -> int | None:
    return int(number) if number <= MOST_SIZE else None
